//! The network between certd and the CA fails at each request of an issuance, in each way, and the next certd goes on.

use std::net::TcpListener;

use certd::issuer::acme::http::{AcmeError, Http};
use url::Url;

use crate::home::{HTTP, scripted};
use crate::support::acme_server::{Fault, Kind, Nth, Script};

/// What certd asks on the way to a certificate, and how often it may ask it.
const REQUESTS: [(Kind, usize); 9] = [
    (Kind::Directory, 2),
    (Kind::NewNonce, 3),
    (Kind::NewAccount, 2),
    (Kind::NewOrder, 1),
    (Kind::Order, 3),
    (Kind::Authorization, 2),
    (Kind::Challenge, 2),
    (Kind::Finalize, 1),
    (Kind::Certificate, 1),
];

fn faults() -> [Fault; 7] {
    [
        Fault::CutBefore,
        Fault::CutAfter,
        Fault::CutMidway,
        Fault::BadNonce,
        Fault::html(502),
        Fault::Swollen(300 * 1024),
        Fault::Without("Replay-Nonce"),
    ]
}

/// One in seven of all cases, unless the whole matrix is asked for.
fn is_wanted(nth: usize) -> bool {
    nth % 7 == 3 || std::env::var("CERTD_TEST_MATRIX").as_deref() == Ok("full")
}

#[tokio::test]
async fn whatever_fails_once_the_next_certd_has_the_certificate_by_one_account_and_one_finalize() {
    let spots = REQUESTS.into_iter().flat_map(|(kind, times)| (1..=times).map(move |nth| (kind, nth)));
    let cases = spots.flat_map(|(kind, nth)| faults().map(|fault| (kind, nth, fault)));
    let (mut tried, mut failed, mut unmet) = (0, 0, 0);
    for (_, (kind, nth, fault)) in cases.enumerate().filter(|(nth, _)| is_wanted(*nth)) {
        let (server, home) = scripted(Script::default());
        home.configure(HTTP, &["www.example.org", "api.example.org"]);
        server.fail(kind, Nth::Only(nth), fault.clone());
        let first = home.certd(&["renew", "web"]).await;
        unmet += usize::from(!server.every_fault_was_met());
        server.heal();
        tried += 1;
        if first.code != 0 {
            failed += 1;
            let second = home.certd(&["renew", "web"]).await;
            assert_eq!(second.code, 0, "{kind:?} {nth} {fault:?}: {first:?} then {second:?}");
        }
        assert_eq!(home.leaf().names.len(), 2, "{kind:?} {nth} {fault:?}");
        let came_to = (server.accounts().len(), server.issued().len());
        assert_eq!(came_to, (1, 1), "{kind:?} {nth} {fault:?}: {first:?}");
        let pending = std::fs::read_dir(home.path("state/pending")).unwrap().count();
        assert_eq!(pending, 0, "{kind:?} {nth} {fault:?}");
    }
    println!("{tried} faults at requests to the CA: {failed} failed the first certd, {unmet} met no request");
    assert!(tried >= 17 && unmet * 3 <= tried, "{unmet} of {tried} met no request");
}

/// A directory that sends one byte a second cost each turn the time of several answers.
#[tokio::test]
async fn what_did_not_answer_in_time_is_not_asked_again_in_the_same_turn() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let address = format!("https://{}/directory", silent.local_addr().unwrap());
    let http = Http::new(&[Url::parse(&address).unwrap()], None).unwrap();
    for _ in 0..3 {
        assert!(matches!(http.read(&address).await, Err(AcmeError::Timeout)));
    }
    let asked = std::iter::from_fn(|| silent.accept().ok()).count();
    assert_eq!(asked, 1);
}
