//! How a story learns that a client did not wait.

use std::time::Duration;

use crate::client::{Signer, http};
use crate::support::acme_server::{AcmeServer, Fault, Kind, Nth, Script, retry_dates};

const ORDER: &str = r#"{"identifiers":[{"type":"dns","value":"web.example.org"}]}"#;

#[tokio::test]
async fn whoever_asks_before_a_retry_after_has_passed_is_seen() {
    let [imf, rfc_850, asctime] = retry_dates(3_600);
    let [past, ..] = retry_dates(0);
    let cases = [
        ("120", true),
        ("0", false),
        (imf.as_str(), true),
        (rfc_850.as_str(), true),
        (asctime.as_str(), true),
        (past.as_str(), false),
        ("99999999999999999999999999", true),
        ("-1", false),
        ("soon", false),
        ("Thu, 32 Foo 2026 00:00:00 GMT", false),
        ("", false),
    ];
    for (text, is_early) in cases {
        let ca = AcmeServer::start(Script::default());
        ca.fail(Kind::Directory, Nth::Only(1), Fault::busy(503, Some(text)));
        let client = http(ca.tls_root_pem());
        client.get(ca.directory_url()).send().await.unwrap();
        assert_eq!(ca.requests()[0].retry_after.as_deref(), Some(text));
        assert!(ca.requests_inside_retry_after().is_empty(), "the first comes at any time");
        client.head(ca.directory_url().replace("directory", "new-nonce")).send().await.unwrap();
        let early = ca.requests_inside_retry_after();
        assert_eq!(
            early.iter().map(|seen| seen.kind).collect::<Vec<_>>(),
            vec![Kind::NewNonce; is_early.into()],
            "{text}"
        );
    }
}

#[tokio::test]
async fn whoever_waits_as_long_as_asked_is_not() {
    let ca = AcmeServer::start(Script::default());
    ca.fail(Kind::Directory, Nth::Only(1), Fault::busy(429, Some("1")));
    let client = http(ca.tls_root_pem());
    client.get(ca.directory_url()).send().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.get(ca.directory_url()).send().await.unwrap();
    assert_eq!((ca.count(Kind::Directory), ca.requests_inside_retry_after().len()), (2, 0));
}

#[tokio::test]
async fn a_retry_after_of_a_success_is_about_the_same_thing_alone() {
    let ca = AcmeServer::start(Script::default());
    let signer = Signer::with_account(&ca).await;
    signer.post("/new-order", ORDER).await;
    ca.fail(Kind::Authorization, Nth::Only(1), Fault::With("Retry-After", "60".to_string()));
    signer.post("/authorization/0", "").await;
    signer.post("/order/0", "").await;
    assert!(ca.requests_inside_retry_after().is_empty());
    signer.post("/authorization/0", "").await;
    let early: Vec<_> = ca.requests_inside_retry_after().into_iter().map(|seen| seen.path).collect();
    assert_eq!(early, ["/authorization/0"]);
}
