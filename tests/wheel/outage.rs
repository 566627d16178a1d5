//! Vault cannot be seen: nothing is lost, nothing is taken for missing, and the others go on.

use serde_json::Value;

use crate::gate::Gate;
use crate::home::{ADOPT, Home, declared, rows};
use crate::leaves::Leaf;
use crate::support::server::free_port;
use crate::support::vault::own_server;

const ON_DISK: &str = r#"
[issuer.local.local_ca]
directory = "ca"
create = true
[[certificate]]
name = "disk"
names = ["disk.example.org"]
issuer = "local"
store.file = { bundle = "disk.pem" }
"#;

/// With the CA on disk made, and the certificate on disk gone, so that each turn has something to do.
async fn home() -> Home {
    let home = Home::new(&format!("{ADOPT}{}{ON_DISK}", declared("web"))).await;
    home.put("tls/old", Leaf::fresh("old.example.org")).await;
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    std::fs::remove_file(home.path("disk.pem")).unwrap();
    home
}

/// One turn while Vault is out of sight: what is on disk is renewed, what is in Vault is unknown and left alone.
async fn bears_it(home: &Home, obstacle: &str) {
    assert_eq!(home.plan().await, rows(&[("disk", "renew missing"), ("web", "hold obstacle")]));
    let checked = home.check().await;
    let web = checked.iter().find(|(at, _)| at == "tls/web").unwrap();
    assert_eq!(web.1, format!("unknown {obstacle}"));
    assert!(checked.iter().all(|(at, said)| !said.contains("missing") || at.ends_with("disk.pem")), "{checked:?}");
    let daemon = home.run().await;
    assert!(home.path("disk.pem").exists());
    let standings = daemon.metric("certd_certificate_state", "state").await;
    assert!(standings.iter().all(|(state, _)| ["ok", "unknown"].contains(&state.as_str())), "{standings:?}");
    assert_eq!(daemon.metric("certd_source_up", "source").await, [("apps".into(), 0.0), ("stores".into(), 1.0)]);
    assert!(daemon.stop().success());
}

#[tokio::test]
async fn a_denied_token_holds_what_is_in_vault_until_it_is_mended() {
    let home = home().await;
    let good = std::fs::read_to_string(home.path("token")).unwrap();
    home.give_token("s.denied");
    bears_it(&home, "denied").await;
    home.give_token(&good);
    assert_eq!(home.plan().await, rows(&[("disk", "keep"), ("tls/old", "keep"), ("web", "keep")]));
    assert_eq!((home.version("tls/web").await, home.version("tls/old").await, home.signed().await), (1, 1, 1));
}

#[tokio::test]
async fn a_vault_that_is_gone_holds_what_is_in_it_until_it_is_back() {
    let home = home().await;
    let config = format!("{ADOPT}{}{ON_DISK}", declared("web"));
    let closed = format!("127.0.0.1:{}", free_port());
    home.configure_by(&format!("http://{closed}"), &config);
    bears_it(&home, "unreachable").await;
    home.configure(&config);
    assert_eq!(home.plan().await, rows(&[("disk", "keep"), ("tls/old", "keep"), ("web", "keep")]));
    assert_eq!((home.version("tls/web").await, home.version("tls/old").await, home.signed().await), (1, 1, 1));
}

#[tokio::test]
async fn a_vault_that_goes_in_the_middle_of_a_renewal_gets_the_same_certificate_when_it_is_back() {
    let config = format!("{}{ON_DISK}", declared("web"));
    let home = Home::new(&config).await;
    let write = format!("POST /v1/{}/data/tls/", home.house.kv);
    let gate = Gate::before(&home.house.admin.address, &[&write]);
    home.configure_by(&gate.address, &config);
    let daemon = home.start();
    gate.wait();
    gate.shut();
    daemon.until("turn completed");
    assert!(home.path("disk.pem").exists());
    assert_eq!((home.version("tls/web").await, home.signed().await), (0, 1));
    let failures = daemon.metric("certd_renewal_consecutive_failures", "cert").await;
    assert_eq!(failures, [("web".into(), 1.0)]);

    home.configure(&config);
    daemon.reload();
    daemon.until("turn completed");
    assert_eq!((home.version("tls/web").await, home.signed().await), (0, 1), "it waits for its backoff");
    assert_eq!(home.certd(&["renew", "--due", "web"]).await.code, 0);
    assert_eq!((home.version("tls/web").await, home.signed().await), (1, 1));
}

#[tokio::test]
async fn a_sealed_vault_holds_what_is_in_it() {
    let home = home().await;
    let (sealed, _server) = own_server().await;
    sealed.admin("POST", "sys/seal", Value::Null).await;
    home.configure_by(&sealed.address, &format!("{ADOPT}{}{ON_DISK}", declared("web")));
    bears_it(&home, "sealed").await;
}

#[tokio::test]
async fn what_goes_out_of_sight_while_certd_runs_is_unknown_and_comes_back() {
    let home = home().await;
    let good = std::fs::read_to_string(home.path("token")).unwrap();
    let daemon = home.run().await;
    let before = daemon.metric("certd_certificate_state", "cert").await;
    home.give_token("s.denied");
    assert_eq!(home.certd(&["renew", "--due", "disk"]).await.code, 0);
    let during = daemon.metric("certd_certificate_state", "cert").await;
    assert!(before.iter().all(|series| during.contains(series)), "no series is renamed: {before:?} {during:?}");
    let standings = |page: &str, state: &str| page.matches(&format!("state=\"{state}\"}} 1")).count();
    let page = daemon.page().await;
    // Both certificates in Vault, and the listing itself.
    assert_eq!((standings(&page, "unknown"), standings(&page, "ok")), (3, 1), "{page}");
    assert!(!page.contains("problem=\"missing\""), "{page}");
    home.give_token(&good);
    assert_eq!(home.certd(&["renew", "--due", "disk"]).await.code, 0);
    let page = daemon.page().await;
    assert_eq!((standings(&page, "unknown"), standings(&page, "ok")), (0, 3), "{page}");
    assert_eq!((home.version("tls/web").await, home.version("tls/old").await, home.signed().await), (1, 1, 1));
}
