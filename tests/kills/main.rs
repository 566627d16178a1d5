//! The kill matrix: certd is ended at every named step of a renewal, for each issuer and store, and started again. What
//! was issued is in the store, once, with its key, and nothing else is lost.
//!
//! Which way comes by which step is a table (`steps`) that is checked itself: a case counts only where it died of its step.
//! `CERTD_TEST_MATRIX=full` runs every case; otherwise each step is met in some of them.

#[allow(dead_code, reason = "each test binary uses its own part of it")]
#[path = "../wheel/leaves.rs"]
mod leaves;
#[path = "../support/mod.rs"]
mod support;

mod acme;
mod case;
mod daemon;
mod moments;
mod steps;
mod syscalls;

use std::collections::BTreeSet;
use std::time::Instant;

use futures_util::{StreamExt, stream};

use case::{Before, Case, Ended, Face, Issuer, Scene, Store, Way};
use support::vault::server;

/// Each is two processes, and the machine of a CI has few cores.
const AT_ONCE: usize = 4;

/// Beside those: who waits for an answer needs no core.
const AWAITING_AT_ONCE: usize = 12;

const STORES: [Store; 5] = [Store::KvTwo, Store::KvOne, Store::Bundle, Store::Directory, Store::Loose];
const ISSUERS: [Issuer; 3] = [Issuer::LocalCa, Issuer::VaultPki, Issuer::Acme];
const BEFORES: [Before; 2] = [Before::Nothing, Before::Due];

fn is_full() -> bool {
    std::env::var("CERTD_TEST_MATRIX").is_ok_and(|which| which == "full")
}

fn ways() -> Vec<Way> {
    let of =
        |store| ISSUERS.iter().flat_map(move |issuer| BEFORES.map(|before| Way { store, issuer: *issuer, before }));
    STORES.into_iter().flat_map(of).collect()
}

/// Every way with every step that it comes by, by a command and by a daemon; reduced: each step on each pair of store and
/// issuer by a command, yet only one of what was there before and few of ACME, and once by a daemon.
fn cases(face: Face) -> Vec<Case> {
    let mut cases = Vec::new();
    for (nth, step) in steps::all().into_iter().enumerate() {
        let applies: Vec<Way> = ways().into_iter().filter(|way| steps::why_not(&step, *way).is_none()).collect();
        let half = applies.iter().enumerate().filter(|(way_nth, way)| (nth + way_nth / 2) % 2 == way.before as usize);
        let chosen: Vec<Way> = match (is_full(), face) {
            (true, Face::Command) => applies,
            (true, Face::Daemon) => half.map(|(_, way)| *way).collect(),
            (false, Face::Command) => thinned(half.map(|(_, way)| *way).collect(), nth),
            (false, Face::Daemon) => vec![applies[(nth * 7) % applies.len()]],
        };
        cases.extend(chosen.into_iter().map(|way| Case::of(way, face, &step)));
    }
    cases
}

/// Of what is the same whoever signs, ACME is met with one store; of its own steps with two, the first of them Vault.
fn thinned(half: Vec<Way>, nth: usize) -> Vec<Way> {
    let (acme, others): (Vec<Way>, Vec<Way>) = half.into_iter().partition(|way| way.issuer == Issuer::Acme);
    let is_chosen = |at: usize| at == nth % acme.len() || (at == 0 && others.is_empty());
    let chosen = acme.iter().enumerate().filter(|(at, _)| is_chosen(*at)).map(|(_, way)| *way);
    others.iter().copied().chain(chosen).collect()
}

/// Steps of the first run and of the second: recovery is killed, too.
fn twice() -> Vec<Case> {
    let first = ["key_staged", "asked", "answered", "issued", "after_write", "read_back"];
    let second =
        ["resuming", "recovering", "recovered", "settled", "chain_staged", "before_write", "written", "closed"];
    let pairs = first.into_iter().flat_map(|a| second.into_iter().map(move |b| [a, b].map(|step| format!("{step}#1"))));
    let of_all = pairs.enumerate().map(|(nth, pair)| (ISSUERS[(nth + nth / second.len()) % ISSUERS.len()], pair));
    let of_acme = steps::IN_AN_ORDER.map(|(a, b)| (Issuer::Acme, [a, b].map(str::to_string)));
    let on = |(nth, (issuer, pair)): (usize, (Issuer, [String; 2]))| {
        let before = if nth % 3 == 0 { Before::Due } else { Before::Nothing };
        let stores = if is_full() { STORES.to_vec() } else { vec![STORES[nth % STORES.len()]] };
        let steps = pair.to_vec();
        let case = move |store| Case { way: Way { store, issuer, before }, face: Face::Command, steps: steps.clone() };
        stores.into_iter().map(case).collect::<Vec<_>>()
    };
    of_all.chain(of_acme).enumerate().flat_map(on).collect()
}

async fn run(cases: Vec<Case>) -> Vec<(Case, Result<Ended, String>)> {
    let vault = server().await;
    let run = async |case: Case| {
        let ended = case.run(&vault).await;
        (case, ended)
    };
    let (awaiting, working): (Vec<_>, Vec<_>) = cases.into_iter().partition(Case::awaits_an_answer);
    let awaiting = stream::iter(awaiting).map(run).buffer_unordered(AWAITING_AT_ONCE).collect::<Vec<_>>();
    let working = stream::iter(working).map(run).buffer_unordered(AT_ONCE).collect::<Vec<_>>();
    let (awaited, worked) = tokio::join!(awaiting, working);
    awaited.into_iter().chain(worked).collect()
}

fn failures(ended: &[(Case, Result<Ended, String>)]) -> Vec<String> {
    ended.iter().filter_map(|(case, ended)| Some(format!("{case:?}: {}", ended.as_ref().err()?))).collect()
}

fn slowest(ended: &[(Case, Result<Ended, String>)], awaits_an_answer: bool) -> f64 {
    let ended = ended.iter().filter(|(case, _)| case.awaits_an_answer() == awaits_an_answer);
    let took = ended.filter_map(|(_, ended)| Some(ended.as_ref().ok()?.recovered_in));
    took.max().unwrap_or_default().as_secs_f64()
}

/// What the table says of a way is what a renewal on it does: neither a step less nor one more.
#[tokio::test(flavor = "multi_thread")]
async fn each_way_comes_by_the_steps_of_the_table_and_by_no_other() {
    let vault = server().await;
    let recorded = async |way: Way| {
        let scene = Scene::new(way, &vault).await;
        let ended = scene.converges(1).await;
        assert!(ended.is_ok(), "{way:?}: {ended:?}");
        (way, BTreeSet::from_iter(scene.came_by()))
    };
    let recorded: Vec<(Way, BTreeSet<String>)> =
        stream::iter(ways()).map(recorded).buffer_unordered(AT_ONCE).collect().await;
    let (steps, mut differ) = (steps::all(), Vec::new());
    for (way, came_by) in &recorded {
        let is_met = |step: &&String| steps::lead(step).is_none() && steps::why_not(step, *way).is_none();
        let expected: BTreeSet<String> = steps.iter().filter(is_met).cloned().collect();
        differ.extend(expected.symmetric_difference(came_by).map(|step| format!("{way:?}: {step}")));
    }
    assert_eq!(differ, [""; 0]);
    let pairs = steps.len() * recorded.len();
    let not = |step: &String| recorded.iter().filter(|(way, _)| steps::why_not(step, *way).is_some()).count();
    let does_not_apply: usize = steps.iter().map(not).sum();
    println!(
        "{} steps on {} ways: {} apply, {does_not_apply} do not",
        steps.len(),
        recorded.len(),
        pairs - does_not_apply
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_nothing_is_lost_and_no_ca_is_asked_twice() {
    all_are_met(Face::Command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_killed_at_any_step_loses_nothing_and_asks_no_ca_twice() {
    all_are_met(Face::Daemon).await;
}

async fn all_are_met(face: Face) {
    let begun = Instant::now();
    let ended = run(cases(face)).await;
    table(&ended);
    assert_eq!(failures(&ended), [""; 0]);
    let is_unmet = |case: &Case, ended: &Ended| ended.killed < case.steps.len();
    let unmet: Vec<&Case> =
        ended.iter().filter(|(case, ended)| is_unmet(case, ended.as_ref().unwrap())).map(|(case, _)| case).collect();
    assert!(unmet.is_empty(), "cases that did not come by their step: {unmet:?}");
    println!(
        "{face:?}: {} cases, every one killed at its step, in {} s; the slowest recovery took {:.1} s, and of the {} that \
         awaited an answer {:.1} s",
        ended.len(),
        begun.elapsed().as_secs(),
        slowest(&ended, false),
        ended.iter().filter(|(case, _)| case.awaits_an_answer()).count(),
        slowest(&ended, true),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_recovery_it_recovers_once_more() {
    let ended = run(twice()).await;
    assert_eq!(failures(&ended), [""; 0]);
    let comes_by = |case: &Case| steps::comes_by(&case.steps[0], &case.steps[1], case.way.store);
    let expected = |case: &Case| 1 + usize::from(comes_by(case));
    let other: Vec<_> = ended.iter().filter(|(case, ended)| ended.as_ref().unwrap().killed != expected(case)).collect();
    assert!(other.is_empty(), "not as the table has it: {other:?}");
    let met = ended.iter().filter(|(case, _)| comes_by(case)).count();
    println!(
        "recovery: {met} cases killed once more in it, {} do not come by the second step; the slowest took {:.1} s",
        ended.len() - met,
        slowest(&ended, false),
    );
}

/// Steps down, ways across: how many were killed there, `-` where the step does not apply.
fn table(ended: &[(Case, Result<Ended, String>)]) {
    let ways: Vec<Way> = ways().into_iter().filter(|way| way.before == Before::Nothing).collect();
    let names: Vec<String> = ways.iter().map(|way| format!("{:?}/{:?}", way.store, way.issuer)).collect();
    println!("{:22} {}", "step", names.join("  "));
    for step in steps::all() {
        let cell = |(nth, way): (usize, &Way)| {
            let is_of_it = |case: &Case| {
                case.steps.last() == Some(&step) && case.way.store == way.store && case.way.issuer == way.issuer
            };
            let results: Vec<&Result<Ended, String>> =
                ended.iter().filter(|(case, _)| is_of_it(case)).map(|(_, ended)| ended).collect();
            let word = match results.iter().filter(|result| result.is_err()).count() {
                0 if steps::why_not(&step, *way).is_some() => "-".to_string(),
                0 => results.len().to_string(),
                failed => format!("{failed} FAILED"),
            };
            format!("{word:width$}", width = names[nth].len())
        };
        println!("{step:22} {}", ways.iter().enumerate().map(cell).collect::<Vec<_>>().join("  "));
    }
}
