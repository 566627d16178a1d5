//! What it refuses.

use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::client::{Answered, NAME, Signer, csr, text};
use crate::support::acme_server::{AcmeServer, Kind, Script};

const ORDER: &str = r#"{"identifiers":[{"type":"dns","value":"web.example.org"}]}"#;

async fn ground() -> (AcmeServer, Signer) {
    let ca = AcmeServer::start(Script::default());
    let signer = Signer::with_account(&ca).await;
    (ca, signer)
}

#[tokio::test]
async fn a_nonce_is_good_once_and_a_refusal_brings_the_next() {
    let (ca, signer) = ground().await;
    let jws = signer.sign("/new-order", json!({ "kid": signer.kid }), ORDER).await;
    assert_eq!(signer.deliver("/new-order", &jws).await.status, 201);
    let replayed = signer.deliver("/new-order", &jws).await;
    assert_eq!(replayed.refusal(), (400, "badNonce"));
    let next = replayed.header("Replay-Nonce");
    let again = signer.send("/new-order", json!({ "kid": signer.kid, "nonce": next }), ORDER).await;
    assert_eq!(again.status, 201);
    assert_eq!(ca.orders().len(), 2, "the replayed one made none");
}

#[tokio::test]
async fn a_signature_is_verified_with_all_that_it_is_about() {
    let (ca, signer) = ground().await;
    let stranger = Signer::new(&ca);
    let kid = || json!({ "kid": signer.kid });
    let header = |name: &str, value: Value| json!({ "kid": signer.kid, name: value });
    let forged = {
        let mut jws = signer.sign("/new-order", kid(), ORDER).await;
        jws["payload"] = text(ORDER.replace("web", "www")).into();
        jws
    };
    let padded = {
        let mut jws = signer.sign("/new-order", kid(), ORDER).await;
        jws["payload"] = format!("{}=", jws["payload"].as_str().unwrap()).into();
        jws
    };
    let cases = [
        ("another payload", forged, (400, "malformed")),
        ("base64 with padding", padded, (400, "malformed")),
        ("another's key", stranger.sign("/new-order", kid(), ORDER).await, (400, "malformed")),
        ("another URL", signer.sign("/key-change", kid(), ORDER).await, (401, "unauthorized")),
        ("no nonce", signer.sign("/new-order", header("nonce", Value::Null), ORDER).await, (400, "badNonce")),
        (
            "a nonce of its own",
            signer.sign("/new-order", header("nonce", "AAAA".into()), ORDER).await,
            (400, "badNonce"),
        ),
        ("a jwk, too", signer.sign("/new-order", header("jwk", signer.jwk()), ORDER).await, (400, "malformed")),
        ("no account", signer.sign("/new-order", json!({ "jwk": signer.jwk() }), ORDER).await, (400, "malformed")),
        (
            "nobody's account",
            signer.sign("/new-order", json!({ "kid": signer.url("/account/9") }), ORDER).await,
            (400, "accountDoesNotExist"),
        ),
        (
            "an algorithm that it does not know",
            signer.sign("/new-order", header("alg", "RS256".into()), ORDER).await,
            (400, "badSignatureAlgorithm"),
        ),
        (
            "a header that is not signed",
            json!({ "header": {}, "protected": "e30", "payload": "", "signature": "" }),
            (400, "malformed"),
        ),
    ];
    for (what, jws, refusal) in cases {
        assert_eq!(signer.deliver("/new-order", &jws).await.refusal(), refusal, "{what}");
    }
    let jws = signer.sign("/new-order", kid(), ORDER).await.to_string();
    let untyped = signer.http.post(signer.url("/new-order")).body(jws).send().await.unwrap();
    assert_eq!(untyped.status(), 415);
    assert_eq!((ca.orders().len(), ca.count(Kind::NewOrder)), (0, 12));
}

#[tokio::test]
async fn an_account_is_for_who_has_its_key_alone() {
    let (ca, signer) = ground().await;
    let stranger = Signer::with_account(&ca).await;
    let id = signer.ready_order().await;
    for path in [format!("/order/{id}"), "/authorization/0".into(), "/challenge/0/0".into(), signer.kid.clone()] {
        let path = path.replace(&signer.url(""), "");
        assert_eq!(stranger.post(&path, "").await.refusal(), (403, "unauthorized"), "{path}");
    }
    let only_existing = json!({ "onlyReturnExisting": true }).to_string();
    let found = signer.send("/new-account", json!({ "jwk": signer.jwk() }), &only_existing).await;
    assert_eq!((found.status, found.header("Location")), (200, signer.kid.clone()));
    let unknown = Signer::new(&ca);
    let refused = unknown.send("/new-account", json!({ "jwk": unknown.jwk() }), &only_existing).await;
    assert_eq!(refused.refusal(), (400, "accountDoesNotExist"));
    assert_eq!(ca.accounts().len(), 2);
}

#[tokio::test]
async fn a_key_changes_only_by_the_word_of_both() {
    let (ca, signer) = ground().await;
    let (next, other) = (Signer::new(&ca), Signer::with_account(&ca).await);
    let url = signer.url("/key-change");
    let change = json!({ "account": signer.kid, "oldKey": signer.jwk() });
    let by = |by: &Signer, url: &str, change: &Value| {
        by.signed(&json!({ "alg": "ES256", "jwk": by.jwk(), "url": url }), &change.to_string())
    };
    let forged = next.signed(&json!({ "alg": "ES256", "jwk": signer.jwk(), "url": url }), &change.to_string());
    let cases = [
        ("signed by another than it names", forged, 400),
        ("for another URL", by(&next, &signer.url("/new-order"), &change), 400),
        ("of another account", by(&next, &url, &json!({ "account": other.kid, "oldKey": signer.jwk() })), 400),
        ("of another old key", by(&next, &url, &json!({ "account": signer.kid, "oldKey": other.jwk() })), 400),
        ("to a key that is another's", by(&other, &url, &change), 409),
    ];
    for (what, inner, status) in cases {
        assert_eq!(signer.post("/key-change", &inner.to_string()).await.refusal(), (status, "malformed"), "{what}");
    }
    assert_eq!(signer.post("/key-change", &by(&next, &url, &change).to_string()).await.status, 200);
    assert_eq!(signer.post("/new-order", ORDER).await.refusal(), (400, "malformed"), "the old key is nobody's");
    assert_eq!(next.send("/new-order", json!({ "kid": signer.kid }), ORDER).await.status, 201);
}

#[tokio::test]
async fn an_order_is_for_names_that_it_signs_for() {
    let (ca, signer) = ground().await;
    ca.change(|script| script.rejected = vec!["bad.example.org".to_string()]);
    let order = |identifiers: Value| json!({ "identifiers": identifiers }).to_string();
    let name = |name: &str| json!({ "type": "dns", "value": name });
    let address = |address: &str| json!({ "type": "ip", "value": address });
    let cases = [
        (json!([]), "malformed"),
        (json!([name("localhost")]), "malformed"),
        (json!([name("Web.example.org")]), "malformed"),
        (json!([name("a.*.example.org")]), "malformed"),
        (json!([name("192.0.2.7")]), "malformed"),
        (json!([name(NAME), name(NAME)]), "malformed"),
        (json!([address("2001:DB8::7")]), "malformed"),
        (json!([{ "type": "email", "value": "a@example.org" }]), "unsupportedIdentifier"),
        (json!([name(NAME), name("bad.example.org")]), "rejectedIdentifier"),
    ];
    for (identifiers, refusal) in cases {
        let refused = signer.post("/new-order", &order(identifiers.clone())).await;
        assert_eq!(refused.refusal(), (400, refusal), "{identifiers}");
        if refusal == "rejectedIdentifier" {
            assert_eq!(refused.body["subproblems"][0]["identifier"], name("bad.example.org"));
        }
    }
    assert_eq!(ca.orders().len(), 0);
}

#[tokio::test]
async fn a_name_has_the_challenges_that_can_prove_it() {
    let (_ca, signer) = ground().await;
    let cases = [
        (json!({ "type": "dns", "value": NAME }), vec!["http-01", "dns-01", "tls-alpn-01", "dns-persist-01"], false),
        (json!({ "type": "dns", "value": "*.example.org" }), vec!["dns-01", "dns-persist-01"], true),
        (json!({ "type": "ip", "value": "192.0.2.7" }), vec!["http-01", "tls-alpn-01"], false),
    ];
    for (nth, (identifier, kinds, wildcard)) in cases.into_iter().enumerate() {
        signer.post("/new-order", &json!({ "identifiers": [identifier] }).to_string()).await;
        let body = signer.post(&format!("/authorization/{nth}"), "").await.body;
        let challenges = body["challenges"].as_array().unwrap();
        assert_eq!(challenges.iter().map(|it| it["type"].as_str().unwrap()).collect::<Vec<_>>(), kinds);
        assert_eq!((body["wildcard"] == true, body["status"].as_str()), (wildcard, Some("pending")));
        let persistent = challenges.iter().filter(|it| it["token"].is_null()).collect::<Vec<_>>();
        let has_names =
            |it: &&Value| it["issuer-domain-names"] == json!(["ca.example"]) && it["accounturi"] == signer.kid;
        assert!(persistent.iter().all(has_names), "{body}");
        assert_eq!(persistent.len(), kinds.iter().filter(|kind| **kind == "dns-persist-01").count());
    }
}

#[tokio::test]
async fn a_csr_is_checked_against_its_order() {
    let (ca, signer) = ground().await;
    let finalize = async |id: usize, der: &[u8]| -> Answered {
        signer.post(&format!("/order/{id}/finalize"), &json!({ "csr": text(der) }).to_string()).await
    };
    let key = KeyPair::generate().unwrap();
    signer.post("/new-order", ORDER).await;
    assert_eq!(finalize(0, &csr(&[NAME], &key)).await.refusal(), (403, "orderNotReady"));
    let id = signer.ready_order().await;
    let own = KeyPair::try_from(signer.key.to_pkcs8v1().unwrap().as_ref()).unwrap();
    let mut broken = csr(&[NAME], &key);
    *broken.last_mut().unwrap() ^= 1;
    let cases = [
        ("another name", csr(&["api.example.org"], &key)),
        ("one name more", csr(&[NAME, "api.example.org"], &key)),
        ("no name", csr(&[], &key)),
        ("the account's key", csr(&[NAME], &own)),
        ("a signature that is not its key's", broken),
        ("no CSR", b"hello".to_vec()),
    ];
    for (what, der) in cases {
        assert_eq!(finalize(id, &der).await.refusal(), (400, "badCSR"), "{what}");
    }
    assert_eq!(finalize(id, &csr(&[NAME], &key)).await.status, 200);
    assert_eq!(finalize(id, &csr(&[NAME], &key)).await.refusal(), (403, "orderNotReady"), "once");
    assert_eq!(ca.issued().len(), 1);
}

#[tokio::test]
async fn a_certificate_is_revoked_by_its_own_key_too() {
    let (ca, signer) = ground().await;
    let id = signer.ready_order().await;
    let own = Signer::new(&ca);
    let key = KeyPair::try_from(own.key.to_pkcs8v1().unwrap().as_ref()).unwrap();
    let body = json!({ "csr": text(csr(&[NAME], &key)) }).to_string();
    signer.post(&format!("/order/{id}/finalize"), &body).await;
    let der = text(&ca.issued()[0].ders[0]);
    let revoke = |reason: u64| json!({ "certificate": der, "reason": reason }).to_string();
    let stranger = Signer::new(&ca);
    let refused = stranger.send("/revoke", json!({ "jwk": stranger.jwk() }), &revoke(1)).await;
    assert_eq!(refused.refusal(), (403, "unauthorized"));
    let refused = own.send("/revoke", json!({ "jwk": own.jwk() }), &revoke(7)).await;
    assert_eq!(refused.refusal(), (400, "badRevocationReason"));
    assert_eq!(own.send("/revoke", json!({ "jwk": own.jwk() }), &revoke(1)).await.status, 200);
    assert_eq!(ca.revoked()[0].reason, 1);
}

#[tokio::test]
async fn terms_are_to_be_agreed_to_where_there_are_any() {
    let terms = "https://ca.example/terms/2";
    let ca = AcmeServer::start(Script { terms: Some(terms.to_string()), ..Script::default() });
    let signer = Signer::new(&ca);
    let refused = signer.send("/new-account", json!({ "jwk": signer.jwk() }), "{}").await;
    assert_eq!(refused.refusal(), (403, "userActionRequired"));
    assert!(refused.header("Link").contains(terms), "{refused:?}");
    let agreed = signer.send("/new-account", json!({ "jwk": signer.jwk() }), r#"{"termsOfServiceAgreed":true}"#).await;
    assert_eq!(agreed.status, 201);
}
