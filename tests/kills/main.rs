//! The kill matrix: certd is ended at every named step of a renewal, for each issuer and store, and started again. What
//! was issued is in the store, once, with its key, and nothing else is lost.
//!
//! `CERTD_TEST_MATRIX=full` runs every case; otherwise each step is met in some of them.

#[allow(dead_code, reason = "each test binary uses its own part of it")]
#[path = "../wheel/leaves.rs"]
mod leaves;
#[path = "../support/mod.rs"]
mod support;

mod case;
mod moments;
mod steps;
mod syscalls;

use std::collections::BTreeMap;
use std::time::Instant;

use futures_util::{StreamExt, stream};

use case::{Before, Case, Ended, Issuer, Store};
use support::vault::server;

/// Each is two processes, and the machine of a CI has few cores.
const AT_ONCE: usize = 4;

const STORES: [Store; 5] = [Store::KvTwo, Store::KvOne, Store::Bundle, Store::Directory, Store::Loose];

fn is_full() -> bool {
    std::env::var("CERTD_TEST_MATRIX").is_ok_and(|which| which == "full")
}

/// Every way with every step; reduced: each step on each way, yet only one of what was there before.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (nth, step) in steps::all().into_iter().enumerate() {
        for (store_nth, store) in STORES.into_iter().enumerate() {
            for issuer in [Issuer::LocalCa, Issuer::VaultPki] {
                for before in [Before::Nothing, Before::Due] {
                    let is_chosen = (nth + store_nth) % 2 == before as usize;
                    if is_full() || is_chosen {
                        cases.push(Case { step: step.clone(), then: None, store, issuer, before });
                    }
                }
            }
        }
    }
    cases
}

/// Steps of the first run and of the second: recovery is killed, too.
fn twice() -> Vec<Case> {
    let first = ["key_staged", "asked", "answered", "issued", "after_write", "read_back"];
    let second =
        ["resuming", "recovering", "recovered", "settled", "chain_staged", "before_write", "written", "closed"];
    let pairs = first.into_iter().flat_map(|a| second.into_iter().map(move |b| (a, b)));
    let case = |(nth, (a, b)): (usize, (&str, &str))| Case {
        step: a.to_string(),
        then: Some(b.to_string()),
        store: STORES[nth % STORES.len()],
        issuer: if nth % 2 == 0 { Issuer::VaultPki } else { Issuer::LocalCa },
        before: if nth % 3 == 0 { Before::Due } else { Before::Nothing },
    };
    pairs.enumerate().map(case).collect()
}

async fn run(cases: Vec<Case>) -> Vec<(Case, Result<Ended, String>)> {
    let vault = server().await;
    let run = async |case: Case| {
        let ended = case.run(&vault).await;
        (case, ended)
    };
    stream::iter(cases).map(run).buffer_unordered(AT_ONCE).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_nothing_is_lost_and_no_ca_is_asked_twice() {
    let begun = Instant::now();
    let ended = run(cases()).await;
    table(&ended);
    println!("{} cases in {} s", ended.len(), begun.elapsed().as_secs());
    let failed: Vec<String> =
        ended.iter().filter_map(|(case, ended)| Some(format!("{case:?}: {}", ended.as_ref().err()?))).collect();
    assert_eq!(failed, [""; 0]);
    let mut met: BTreeMap<&str, bool> = BTreeMap::new();
    for (case, ended) in &ended {
        *met.entry(&case.step).or_default() |= matches!(ended, Ok(Ended::Killed(_)));
    }
    let elsewhere = steps::only_in_recovery();
    met.retain(|step, met| !*met && !elsewhere.contains(step));
    assert_eq!(met.keys().collect::<Vec<_>>(), [&""; 0], "steps that nothing reaches");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_recovery_it_recovers_once_more() {
    let ended = run(twice()).await;
    let failed: Vec<String> =
        ended.iter().filter_map(|(case, ended)| Some(format!("{case:?}: {}", ended.as_ref().err()?))).collect();
    assert_eq!(failed, [""; 0]);
    let killed_twice = ended.iter().filter(|(_, ended)| matches!(ended, Ok(Ended::Killed(2)))).count();
    println!("{} cases, in {killed_twice} of them recovery was killed", ended.len());
    let reached: Vec<&str> = steps::only_in_recovery();
    for step in reached {
        let met = ended.iter().any(|(case, e)| case.then.as_deref() == Some(step) && matches!(e, Ok(Ended::Killed(2))));
        assert!(met, "nothing reaches {step}");
    }
}

/// Steps down, ways across.
fn table(ended: &[(Case, Result<Ended, String>)]) {
    let ways: Vec<(Store, Issuer)> =
        STORES.into_iter().flat_map(|store| [(store, Issuer::LocalCa), (store, Issuer::VaultPki)]).collect();
    let names: Vec<String> = ways.iter().map(|(store, issuer)| format!("{store:?}/{issuer:?}")).collect();
    println!("{:22} {}", "step", names.join("  "));
    let mut steps: Vec<&str> = ended.iter().map(|(case, _)| case.step.as_str()).collect();
    steps.sort_unstable();
    steps.dedup();
    for step in steps {
        let cell = |(nth, (store, issuer)): (usize, &(Store, Issuer))| {
            let of_it =
                ended.iter().filter(|(case, _)| case.step == step && case.store == *store && case.issuer == *issuer);
            let results: Vec<&Result<Ended, String>> = of_it.map(|(_, ended)| ended).collect();
            let failed = results.iter().filter(|result| result.is_err()).count();
            let killed = results.iter().filter(|result| matches!(result, Ok(Ended::Killed(_)))).count();
            let word = match (failed, killed, results.len()) {
                (_, _, 0) => "",
                (1.., _, _) => "FAILED",
                (0, 0, _) => "-",
                (0, _, _) => "ok",
            };
            format!("{word:width$}", width = names[nth].len())
        };
        println!("{step:22} {}", ways.iter().enumerate().map(cell).collect::<Vec<_>>().join("  "));
    }
}
