//! `kill -9` in the middle of a renewal: the next start goes on where it stood.

use crate::gate::Gate;
use crate::home::{Home, declared, rows};

/// Kills certd while it sends the last of `steps`, and starts it again; what was issued reaches the store, once.
async fn killed_before(steps: &[&str]) -> (Home, u64) {
    let home = Home::new(&declared("web")).await;
    let secret = format!("/v1/{}/data/tls/web", home.house.kv);
    let steps: Vec<String> = steps.iter().map(|step| step.replace("SECRET", &secret)).collect();
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let gate = Gate::before(&home.house.admin.address, &steps);
    home.configure_by(&gate.address, &declared("web"));
    let daemon = home.start();
    gate.wait();
    let version = home.version("tls/web").await;
    daemon.kill();
    gate.shut();

    // Only after the answer was due is it known that nothing was signed.
    home.configure(&declared("web"));
    let daemon = home.run().await;
    assert_eq!(home.plan().await, rows(&[("web", "keep")]));
    assert_eq!(daemon.metric("certd_certificate_state", "state").await, [("ok".into(), 1.0)]);
    assert_eq!(std::fs::read_dir(home.path("state/pending")).unwrap().count(), 0);
    (home, version)
}

#[tokio::test]
async fn killed_before_the_ca_was_asked_it_asks_once() {
    let (home, version) = killed_before(&["POST /v1/pki-"]).await;
    assert_eq!((version, home.version("tls/web").await, home.signed().await), (0, 1, 1));
}

#[tokio::test]
async fn killed_with_a_chain_in_hand_it_stores_that_one_and_asks_no_more() {
    let (home, version) = killed_before(&["POST SECRET"]).await;
    assert_eq!((version, home.version("tls/web").await, home.signed().await), (0, 1, 1));
}

#[tokio::test]
async fn killed_after_the_write_it_reads_back_and_closes() {
    let (home, version) = killed_before(&["POST SECRET", "GET SECRET"]).await;
    assert_eq!((version, home.version("tls/web").await, home.signed().await), (1, 1, 1));
}

#[tokio::test]
async fn a_certd_that_ends_each_time_it_asks_waits_as_after_a_failure() {
    let home = Home::new(&declared("web")).await;
    for _ in 0..2 {
        let gate = Gate::before(&home.house.admin.address, &["POST /v1/pki-"]);
        home.configure_by(&gate.address, &declared("web"));
        let daemon = home.start();
        gate.wait();
        daemon.kill();
        gate.shut();
    }
    home.configure(&declared("web"));
    let daemon = home.run().await;
    assert_eq!((home.plan().await, home.signed().await), (rows(&[("web", "defer backoff")]), 0));
    assert_eq!(daemon.metric("certd_renewal_consecutive_failures", "cert").await, [("web".into(), 1.0)]);
    assert_eq!(home.certd(&["renew", "--due", "web"]).await.code, 0);
    assert_eq!((home.version("tls/web").await, home.signed().await), (1, 1));
}
