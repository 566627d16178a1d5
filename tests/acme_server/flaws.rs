//! What goes wrong between a finalize and its certificate.

use instant_acme::OrderStatus;
use rcgen::{KeyPair, PublicKeyData};

use crate::client::{NAME, account, csr, ders, finish, kind_of, quickly, ready_order, verify};
use crate::support::acme_server::{AcmeServer, DAY, Fault, Flaw, Identifier, Kind, Nth, Script, Status, problem};

#[tokio::test]
async fn an_order_is_in_processing_for_as_many_looks_as_the_story_wants() {
    for (looks, statuses) in [(0, "v"), (1, "pv"), (3, "pppv")] {
        let ca = AcmeServer::start(Script::default());
        let mut order = ready_order(&account(&ca).await).await;
        order.poll_ready(&quickly()).await.unwrap();
        ca.fail(Kind::Finalize, Nth::Only(1), Fault::Processing(looks));
        order.finalize_csr(&csr(&[NAME], &KeyPair::generate().unwrap())).await.unwrap();
        let mut seen = String::new();
        while !seen.ends_with('v') {
            assert_eq!(ca.issued().len(), usize::from(looks == 0), "it counts once the order is valid");
            seen.push(if order.refresh().await.unwrap().status == OrderStatus::Processing { 'p' } else { 'v' });
        }
        assert_eq!((seen.as_str(), ca.issued().len()), (statuses, 1));
    }
}

#[tokio::test]
async fn an_order_is_stuck_or_invalid_for_ever() {
    let ca = AcmeServer::start(Script::default());
    let account = account(&ca).await;
    ca.fail(Kind::Finalize, Nth::Only(1), Fault::Stuck);
    let mut stuck = ready_order(&account).await;
    stuck.poll_ready(&quickly()).await.unwrap();
    stuck.finalize_csr(&csr(&[NAME], &KeyPair::generate().unwrap())).await.unwrap();
    for _ in 0..20 {
        assert_eq!(stuck.refresh().await.unwrap().status, OrderStatus::Processing);
    }
    let error = problem(403, "caa", "the CAA record forbids it");
    ca.fail(Kind::Finalize, Nth::Only(1), Fault::Invalid(error.clone()));
    let mut invalid = ready_order(&account).await;
    let refused = finish(&mut invalid, &[NAME]).await.unwrap_err();
    assert_eq!(kind_of(&refused), "caa");
    let orders = ca.orders();
    assert_eq!((orders[0].status, orders[1].status), (Status::Processing, Status::Invalid));
    assert_eq!((orders[1].error.as_ref(), ca.issued().len()), (Some(&error), 0));
}

#[tokio::test]
async fn a_certificate_is_told_only_after_the_second_look() {
    let ca = AcmeServer::start(Script::default());
    let mut order = ready_order(&account(&ca).await).await;
    order.poll_ready(&quickly()).await.unwrap();
    ca.fail(Kind::Finalize, Nth::Only(1), Fault::Late(2));
    order.finalize_csr(&csr(&[NAME], &KeyPair::generate().unwrap())).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..4 {
        let state = order.refresh().await.unwrap();
        told.push((state.status, state.certificate.is_some()));
    }
    let valid = OrderStatus::Valid;
    assert_eq!(told, [(valid, false), (valid, false), (valid, true), (valid, true)]);
}

#[tokio::test]
async fn a_flawed_certificate_has_its_flaw_and_no_other() {
    let names = [NAME, "api.example.org"];
    let expired = "certificate expired";
    let cases = [
        (None, Ok(())),
        (Some(Flaw::OtherKey), Ok(())),
        (Some(Flaw::MissingName), Ok(())),
        (Some(Flaw::Due), Ok(())),
        (Some(Flaw::ForeignChain), Err("InvalidSignatureForPublicKey")),
        (Some(Flaw::Expired), Err(expired)),
        (Some(Flaw::NotYetValid), Err("not yet valid")),
    ];
    for (flaw, verified) in cases {
        let ca = AcmeServer::start(Script::default());
        let account = account(&ca).await;
        flaw.iter().for_each(|flaw| ca.fail(Kind::Finalize, Nth::Only(1), Fault::Flawed(*flaw)));
        let identifiers = crate::client::identifiers(&names);
        let mut order = account.new_order(&instant_acme::NewOrder::new(&identifiers)).await.unwrap();
        crate::client::answer_challenges(&mut order, &instant_acme::ChallengeType::Dns01).await;
        order.poll_ready(&quickly()).await.unwrap();
        let key = KeyPair::generate().unwrap();
        order.finalize_csr(&csr(&names, &key)).await.unwrap();
        let chain = ders(&order.poll_certificate(&quickly()).await.unwrap());
        let issued = ca.issued().remove(0);

        let found = verify(&chain, &ca.root_pem(), NAME);
        match verified {
            Ok(()) => assert_eq!(found, Ok(()), "{flaw:?}"),
            Err(words) => assert!(told(&found.unwrap_err(), words), "{flaw:?}"),
        }
        let spki = key.subject_public_key_info();
        let is_its_key = x509_parser::parse_x509_certificate(&chain[0]).unwrap().1.public_key().raw == spki;
        assert_eq!(is_its_key, flaw != Some(Flaw::OtherKey));
        assert_eq!(issued.names.len(), if flaw == Some(Flaw::MissingName) { 1 } else { 2 });
        let left = issued.not_after - jiff::Timestamp::now().as_second();
        assert_eq!((0..=120).contains(&left), flaw == Some(Flaw::Due), "{flaw:?} {left}");
        assert_eq!(ders(&ca.root_pem()).len(), 1);
    }
}

#[tokio::test]
async fn of_the_only_name_another_stands_in_its_place() {
    let ca = AcmeServer::start(Script::default());
    ca.fail(Kind::Finalize, Nth::Only(1), Fault::Flawed(Flaw::MissingName));
    crate::client::issue(&account(&ca).await).await;
    assert_eq!(ca.issued()[0].names, [Identifier::Dns("elsewhere.invalid".to_string())]);
}

#[tokio::test]
async fn a_certificate_is_valid_for_as_long_as_the_story_wants() {
    let ca = AcmeServer::start(Script { validity: (-DAY, 3 * DAY), ..Script::default() });
    crate::client::issue(&account(&ca).await).await;
    let issued = ca.issued().remove(0);
    assert_eq!(issued.not_after - issued.not_before, 4 * DAY);
}

/// As webpki words it, whatever else it says of times.
fn told(error: &str, words: &str) -> bool {
    match words {
        "certificate expired" => error.starts_with("CertExpired"),
        "not yet valid" => error.starts_with("CertNotValidYet"),
        other => error.contains(other),
    }
}
