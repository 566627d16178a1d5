//! Signals at moments that nobody chose, and the exception that no recovery can mend.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::case::{Before, Issuer, Scene, Store, Way};
use crate::support::vault::server;
use crate::{ISSUERS, STORES, is_full};

/// splitmix64: the same moments in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most
    }
}

/// Whether the signal met it alive.
async fn signalled(scene: &Scene<'_>, signal: &str, after: Duration) -> bool {
    let mut child = scene.command(&[], &["renew"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    if let Ok(ended) = tokio::time::timeout(after, child.wait()).await {
        return !ended.unwrap().success();
    }
    let id = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args([signal, &id]).status().unwrap().success());
    let ended = tokio::time::timeout(Duration::from_secs(10), child.wait()).await.expect("it ends within ten seconds");
    !ended.unwrap().success()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_nothing_is_lost_and_no_ca_is_asked_twice() {
    let vault = server().await;
    let (mut dice, mut met) = (Dice(4), 0);
    let rounds = if is_full() { 400 } else { 40 };
    for nth in 0..rounds {
        let before = if nth % 2 == 0 { Before::Due } else { Before::Nothing };
        let way = Way { store: STORES[nth % STORES.len()], issuer: ISSUERS[nth % ISSUERS.len()], before };
        let scene = Scene::at_any_moment(way, &vault).await;
        let signal = if nth % 5 == 4 { "-TERM" } else { "-KILL" };
        let after = Duration::from_micros(dice.below(120_000));
        met += usize::from(signalled(&scene, signal, after).await);
        if let Err(why) = scene.converges(1).await {
            panic!("{way:?}, {signal} after {after:?}: {why}");
        }
        assert!(scene.ca.as_ref().is_none_or(|ca| ca.orders_in_vain() <= 1), "{way:?}, {signal} after {after:?}");
    }
    println!("{rounds} moments, {met} of them before it had ended");
    assert!(met > rounds / 4, "{met}");
}

/// A role with `no_store` cannot say what it signed: the one more issuance of the promise.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_keeps_no_record_may_sign_twice_and_what_is_stored_is_right_all_the_same() {
    let vault = server().await;
    for step in ["asked", "answered", "issued"] {
        let way = Way { store: Store::KvTwo, issuer: Issuer::VaultPki, before: Before::Nothing };
        let scene = Scene::new(way, &vault).await;
        let role = format!("{}/roles/{}", scene.pki.mount, scene.pki.role);
        let mut whole = vault.admin("GET", &role, Value::Null).await["data"].clone();
        whole["no_store"] = json!(true);
        vault.admin("POST", &role, whole).await;
        let ended = scene.command(&[], &["renew"]).env("CERTD_FAILPOINT", step).output().await.unwrap();
        assert!(!ended.status.success());
        // The mount counts none of them: what it keeps is its CA alone.
        assert_eq!(scene.converges(1).await, Err("0 certificates were issued".to_string()), "{step}");
    }
}
