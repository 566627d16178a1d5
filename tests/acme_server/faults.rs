//! What goes wrong as the story wants it, whatever was asked for.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{NAME, csr, finish, text, try_account};
use crate::client::{Signer, account, answered, http, identifiers, issue, kind_of, ready_order};
use crate::support::acme_server::{AcmeServer, Answer, Fault, Kind, Nth, Script, Status, problem};
use instant_acme::{CertificateIdentifier, NewOrder};
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;

const ORDER: &str = r#"{"identifiers":[{"type":"dns","value":"web.example.org"}]}"#;

#[tokio::test]
async fn an_answer_of_the_story_comes_in_place_of_the_honest_one() {
    let ca = AcmeServer::start(Script::default());
    let signer = Signer::with_account(&ca).await;
    let mut hostile = problem(400, "malformed", "\u{1b}[2J\u{7}\r\nroot: \u{202e}drowssap");
    hostile["subproblems"] = json!([problem(403, "urn:example:\u{1b}]0;x\u{7}", "\0")]);
    let html = Answer::html(502);
    let cases = [
        (Fault::busy(429, Some("7")), 429, "application/problem+json"),
        (Fault::busy(503, None), 503, "application/problem+json"),
        (Fault::html(500), 500, "text/html"),
        (Fault::html(502), 502, "text/html"),
        (Fault::problem(&hostile), 400, "application/problem+json"),
        (Fault::Answer(Answer::new(200, "application/json", "{\"status\":")), 200, "application/json"),
    ];
    for (fault, status, kind) in cases {
        ca.fail(Kind::NewOrder, Nth::Only(1), fault.clone());
        let answered = signer.post("/new-order", ORDER).await;
        assert_eq!((answered.status, answered.header("Content-Type").as_str()), (status, kind), "{fault:?}");
        // A page of a proxy brings no nonce.
        assert_eq!(answered.header("Replay-Nonce").is_empty(), kind == "text/html", "{fault:?}");
        if fault == Fault::problem(&hostile) {
            assert_eq!(answered.body, hostile);
        }
        if fault == Fault::html(502) {
            assert_eq!(answered.body.as_str().unwrap().as_bytes(), html.body);
        }
    }
    assert_eq!((ca.orders().len(), ca.count(Kind::NewOrder)), (0, 6), "nothing of it was carried out");
    assert_eq!(signer.post("/new-order", ORDER).await.status, 201);
    assert!(ca.every_fault_was_met());
}

#[tokio::test]
async fn a_new_order_is_refused_by_each_name_of_the_rfc() {
    let ca = AcmeServer::start(Script::default());
    let account = account(&ca).await;
    let names = identifiers(&[NAME]);
    let kinds =
        ["userActionRequired", "rateLimited", "accountDoesNotExist", "externalAccountRequired", "alreadyReplaced"];
    for kind in kinds {
        ca.fail(Kind::NewOrder, Nth::Only(1), Fault::refusal(kind, "says the story"));
        let refused = account.new_order(&NewOrder::new(&names)).await.err().unwrap();
        assert_eq!(kind_of(&refused), kind);
    }
    let statuses: Vec<_> = ca.requests().iter().filter_map(|seen| seen.status.filter(|code| *code >= 400)).collect();
    assert_eq!(statuses, [403, 429, 400, 403, 409]);
}

#[tokio::test]
async fn which_request_is_met_is_counted_from_when_the_story_asked_for_it() {
    let ca = AcmeServer::start(Script::default());
    let client = http(ca.tls_root_pem());
    let ask = async || client.get(ca.directory_url()).send().await.unwrap().status().as_u16();
    assert_eq!(ask().await, 200);
    for (nth, statuses) in
        [(Nth::Only(2), [200, 502, 200, 200]), (Nth::From(3), [200, 200, 502, 502]), (Nth::Every, [502, 502, 502, 502])]
    {
        ca.fail(Kind::Directory, nth, Fault::html(502));
        assert!(!ca.every_fault_was_met());
        let got = [ask().await, ask().await, ask().await, ask().await];
        assert!(got == statuses && ca.every_fault_was_met(), "{nth:?} {got:?}");
        ca.heal();
        assert_eq!(ask().await, 200);
    }
    ca.fail_all(Nth::Every, Fault::html(503));
    let nonce = client.head(ca.directory_url().replace("directory", "new-nonce")).send().await.unwrap();
    assert_eq!((ask().await, nonce.status().as_u16()), (503, 503));
}

#[tokio::test]
async fn a_connection_is_cut_before_or_after_the_order_was_made() {
    for (fault, orders, half) in
        [(Fault::CutBefore, 0, false), (Fault::CutAfter, 1, false), (Fault::CutMidway, 1, true)]
    {
        let ca = AcmeServer::start(Script::default());
        let signer = Signer::with_account(&ca).await;
        ca.fail(Kind::NewOrder, Nth::Only(1), fault.clone());
        let jws = signer.sign("/new-order", json!({ "kid": signer.kid }), ORDER).await;
        let request = signer.http.post(signer.url("/new-order")).header("Content-Type", "application/jose+json");
        match request.body(jws.to_string()).send().await {
            Ok(answer) => {
                assert!(half && answer.status() == 201, "{fault:?}");
                answer.bytes().await.unwrap_err();
            }
            Err(error) => assert!(!half && error.is_request() && !error.is_timeout(), "{fault:?} {error:?}"),
        }
        let seen = ca.requests().into_iter().find(|seen| seen.kind == Kind::NewOrder).unwrap();
        assert_eq!((ca.orders().len(), seen.status.is_some()), (orders, half), "{fault:?}");
        assert_eq!(seen.payload, serde_json::from_str::<Value>(ORDER).unwrap());
        assert_eq!(signer.post("/new-order", ORDER).await.status, 201, "the next connection is a good one");
    }
}

#[tokio::test]
async fn a_finalize_whose_answer_is_cut_was_carried_out() {
    let ca = AcmeServer::start(Script::default());
    let account = account(&ca).await;
    let mut order = ready_order(&account).await;
    ca.fail(Kind::Finalize, Nth::Only(1), Fault::CutAfter);
    finish(&mut order, &[NAME]).await.unwrap_err();
    assert_eq!((ca.orders()[0].status, ca.issued().len()), (Status::Valid, 1));
    let mut found = account.order(order.url().to_string()).await.unwrap();
    found.certificate().await.unwrap().unwrap();
    assert_eq!(ca.count(Kind::Finalize), 1);
}

#[tokio::test]
async fn a_request_that_hangs_is_never_answered() {
    let ca = AcmeServer::start(Script::default());
    ca.fail(Kind::Directory, Nth::Only(1), Fault::Hang);
    let client = http(ca.tls_root_pem());
    let hangs = client.get(ca.directory_url()).timeout(Duration::from_secs(1)).send().await.unwrap_err();
    assert!(hangs.is_timeout(), "{hangs:?}");
    assert_eq!((ca.requests()[0].status, ca.requests()[0].kind), (None, Kind::Directory));
    assert_eq!(client.get(ca.directory_url()).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_body_is_as_large_as_the_story_wants_and_streamed() {
    const BLANKS: u64 = 100 << 20;
    let ca = AcmeServer::start(Script::default());
    ca.fail(Kind::Directory, Nth::Only(1), Fault::Swollen(BLANKS));
    let mut answer = http(ca.tls_root_pem()).get(ca.directory_url()).send().await.unwrap();
    assert_eq!(answer.content_length(), None, "nothing warns the client");
    let (mut length, mut last) = (0, Vec::new());
    while let Some(chunk) = answer.chunk().await.unwrap() {
        length += chunk.len() as u64;
        last.extend(chunk.iter().filter(|byte| **byte != b' '));
    }
    assert_eq!(length - last.len() as u64, BLANKS);
    assert!(serde_json::from_slice::<Value>(&last).unwrap()["newNonce"].is_string(), "the honest answer follows");
}

#[tokio::test]
async fn headers_come_and_go_as_the_story_wants() {
    let ca = AcmeServer::start(Script::default());
    let signer = Signer::with_account(&ca).await;
    ca.fail(Kind::NewOrder, Nth::Only(1), Fault::Without("Replay-Nonce"));
    ca.fail(Kind::NewOrder, Nth::Only(1), Fault::With("Retry-After", "3".to_string()));
    let answered = signer.post("/new-order", ORDER).await;
    let found = ["Replay-Nonce", "Retry-After"].map(|name| answered.header(name));
    assert_eq!((answered.status, found), (201, [String::new(), "3".to_string()]));
    assert!(!signer.post("/new-order", ORDER).await.header("Replay-Nonce").is_empty());
}

#[tokio::test]
async fn a_good_nonce_is_refused_as_often_as_the_dice_of_the_seed_say() {
    let refusals = async |seed: u64, bad_nonces: f64| {
        let ca = AcmeServer::start(Script { seed, ..Script::default() });
        let signer = Signer::with_account(&ca).await;
        ca.change(|script| script.bad_nonces = bad_nonces);
        let mut refused = Vec::new();
        for _ in 0..40 {
            refused.push(signer.post("/new-order", ORDER).await.refusal() == (400, "badNonce"));
        }
        refused
    };
    let some = refusals(7, 0.3).await;
    assert!((4..=20).contains(&some.iter().filter(|refused| **refused).count()), "{some:?}");
    assert_eq!((refusals(7, 0.3).await, refusals(8, 0.3).await == some), (some, false));
    assert_eq!(refusals(7, 1.0).await, [true; 40]);
    let ca = AcmeServer::start(Script::default());
    let signer = Signer::with_account(&ca).await;
    ca.fail(Kind::NewOrder, Nth::Only(1), Fault::BadNonce);
    let refused = signer.post("/new-order", ORDER).await;
    assert_eq!((refused.refusal(), ca.orders().len()), ((400, "badNonce"), 0));
}

#[tokio::test]
async fn a_client_that_takes_the_nonce_of_the_refusal_gets_through() {
    let ca = AcmeServer::start(Script { bad_nonces: 0.2, seed: 3, ..Script::default() });
    let account = account(&ca).await;
    issue(&account).await;
    let refused = ca.requests().iter().filter(|seen| seen.status == Some(400)).count();
    assert!(refused > 0 && ca.issued().len() == 1, "{refused}");
}

#[tokio::test]
async fn a_directory_lacks_what_the_story_leaves_out() {
    let ca = AcmeServer::start(Script { renewal_info: false, echo_replaces: false, ..Script::default() });
    let directory = answered(http(ca.tls_root_pem()).get(ca.directory_url()).send().await.unwrap()).await.body;
    assert_eq!((directory.get("renewalInfo"), directory["meta"].get("profiles")), (None, None));
    let account = account(&ca).await;
    let chain = crate::client::ders(&issue(&account).await);
    let id = CertificateIdentifier::try_from(&CertificateDer::from(chain[0].as_slice())).unwrap().into_owned();
    let refused = account.renewal_info(&id).await.unwrap_err();
    assert_eq!(refused.to_string(), "ACME server does not support: ACME renewal information (ARI)");
    ca.change(|script| script.renewal_info = true);
    let account = try_account(ca.tls_root_pem(), &ca.directory_url(), None).await.unwrap().0;
    let chain = crate::client::ders(&issue(&account).await);
    let id = CertificateIdentifier::try_from(&CertificateDer::from(chain[0].as_slice())).unwrap().into_owned();
    let names = identifiers(&[NAME]);
    let silent = account.new_order(&NewOrder::new(&names).replaces(id)).await.err().unwrap();
    assert!(silent.to_string().starts_with("replaces field mismatch"), "{silent}");
    assert_eq!(ca.orders().last().unwrap().replaces.as_ref(), Some(&ca.issued()[1].id), "it replaces it all the same");
}

#[tokio::test]
async fn it_speaks_in_the_clear_where_the_story_wants_it() {
    let ca = AcmeServer::start(Script { plain: true, ..Script::default() });
    assert!(ca.directory_url().starts_with("http://127.0.0.1:"));
    let client = http(ca.tls_root_pem());
    let directory = answered(client.get(ca.directory_url()).send().await.unwrap()).await;
    assert_eq!(directory.body["newOrder"], ca.directory_url().replace("directory", "new-order"));
    assert_eq!(client.post(ca.directory_url()).send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn it_answers_while_others_wait_for_it() {
    let ca = AcmeServer::start(Script::default());
    ca.fail(Kind::Directory, Nth::Every, Fault::Hang);
    let file = tempfile::NamedTempFile::new().unwrap();
    ca.ca_file(file.path());
    let root_pem = std::fs::read_to_string(file.path()).unwrap();
    let waiting: Vec<_> = (0..8)
        .map(|_| tokio::spawn(http(&root_pem).get(ca.directory_url()).timeout(Duration::from_secs(1)).send()))
        .collect();
    let signer = Signer::with_account(&ca).await;
    let id = signer.ready_order().await;
    let body = json!({ "csr": text(csr(&[NAME], &KeyPair::generate().unwrap())) }).to_string();
    assert_eq!(signer.post(&format!("/order/{id}/finalize"), &body).await.body["status"], "valid");
    for waiting in waiting {
        assert!(waiting.await.unwrap().unwrap_err().is_timeout());
    }
}
