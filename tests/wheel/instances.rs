//! Two instances with one configuration, each with a state directory of its own: one renewal, not two.

use std::time::Duration;

use crate::gate::Gate;
use crate::home::{Daemon, Home, declared, rows};

/// Base64 of 32 random bytes.
pub const SHARED_KEY: &str = "fY0m3xC8vQ1kZr5tLw7sNb2pHd6gJa9eUi4oRcTyXzE=";
/// With a lease short enough to wait for.
const SHORT: &str = "deadline = \"2s\"\nlease_term = \"6s\"";
/// With one that does not end while a busy machine starts another instance.
const LONG: &str = "deadline = \"10s\"\nlease_term = \"60s\"";

/// As operators of two hosts have it, who share the key that seals pending keys.
fn config(vault: &str) -> String {
    crate::home::config_with_head(&declared("web"))
        .replace("deadline = \"5s\"", &format!("{vault}\nstaging_key_file = \"staging-key\""))
        .replace("interval = \"1h\"", "interval = \"1s\"")
}

/// The first instance stands at a gate on its way to Vault; the second goes there by itself.
struct Two {
    home: Home,
    gate: Gate,
    first: Daemon,
}

impl Two {
    async fn first_stands_before(step: &str, vault: &str) -> Self {
        let home = Home::new("").await;
        home.write_private("staging-key", SHARED_KEY);
        let step = step.replace("SECRET", &format!("/v1/{}/data/tls/web", home.house.kv));
        let gate = Gate::before(&home.house.admin.address, &[&step]);
        home.configure_by(&gate.address, &config(vault));
        let first = home.start();
        gate.wait();
        home.write_config("second.toml", &home.house.admin.address, &config(vault).replace("\"state\"", "\"state-2\""));
        Self { home, gate, first }
    }

    fn second(&self) -> Daemon {
        Daemon::start(&self.home.path("second.toml"))
    }

    async fn counts(&self) -> (u64, usize) {
        (self.home.version("tls/web").await, self.home.signed().await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_one_renews_the_other_keeps_off_and_finds_it_done() {
    let two = Two::first_stands_before("POST /v1/pki-", LONG).await;
    let second = two.second();
    let said = second.until("not renewed: another instance of certd");
    assert!(said.contains("is renewing it"), "{said}");
    two.gate.open();
    two.first.until("renewed, stored and read back");
    second.until("ok=1");
    assert_eq!((two.counts().await, two.home.staged().await), ((1, 1), 0));
    assert_eq!(two.home.plan().await, rows(&[("web", "keep")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_left_behind_with_a_chain_in_hand_the_other_stores_and_no_ca_is_asked_again() {
    let two = Two::first_stands_before("POST SECRET", SHORT).await;
    two.first.signal("STOP");
    let second = two.second();
    second.until("took the renewal over from instance");
    second.until("renewed, stored and read back");
    assert_eq!((two.counts().await, two.home.staged().await), ((1, 1), 0));

    // The first wakes up, and its late write fails: the version that it counts on has passed.
    two.first.signal("CONT");
    two.gate.open();
    two.first.until("ok=1");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((two.counts().await, two.home.staged().await), ((1, 1), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_paused_past_its_lease_may_have_a_second_signed_and_writes_nothing() {
    let two = Two::first_stands_before("POST /v1/pki-", SHORT).await;
    two.first.signal("STOP");
    let second = two.second();
    second.until("took the renewal over from instance");
    second.until("renewed, stored and read back");
    assert_eq!(two.counts().await, (1, 1));
    let stored = two.home.fields("tls/web").await;

    two.first.signal("CONT");
    two.gate.open();
    two.first.until("ok=1");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (version, signed) = two.counts().await;
    assert!(version == 1 && signed <= 2, "{version} {signed}");
    let now = two.home.fields("tls/web").await;
    assert_eq!(now["certificate"].get(), stored["certificate"].get());
    assert_eq!(two.home.staged().await, 0);
}
