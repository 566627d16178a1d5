//! The rules and the journal under a simulated clock, with a CA and a store that fail, a clock that is set wrong and somebody
//! else who writes, as a seed tells: 50 certificates of 6 to 398 days, 400 days long, without a tick where nothing can
//! change.
//!
//! `CERTD_TEST_SEEDS=10000 cargo test --release --test simulation -- --nocapture` runs so many seeds; the default is 200.

mod attempt;
mod estate;
mod faults;
mod ideal;
mod tenants;

use std::time::{Duration, Instant};

use certd::domain::time::Timestamp;

use estate::{Broken, Estate, Tally};
use tenants::{Choice, Outcome, Tenants};

const SEEDS: u64 = 200;
const DAYS: u64 = 400;
const CERTIFICATES: usize = 50;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Of what is needed, so much may be issued.
const MOST: f64 = 1.05;

/// Less is a daemon that came too late, or an ideal that is none.
const LEAST: f64 = 0.9;

fn seeds() -> u64 {
    std::env::var("CERTD_TEST_SEEDS").map_or(SEEDS, |text| text.parse().expect("CERTD_TEST_SEEDS is a number"))
}

fn simulated(seed: u64, broken: Option<Broken>) -> Result<Tally, String> {
    let mut estate = Estate::new(seed, CERTIFICATES, broken);
    estate.run(DAY * u32::try_from(DAYS).unwrap())
}

/// The seeds on all cores; the first that fails ends it.
fn side_by_side(seeds: u64) -> Tally {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let mut total = Tally::default();
    std::thread::scope(|scope| {
        let some = |first: u64| {
            let mut tally = Tally::default();
            for seed in (first..seeds).step_by(cores as usize) {
                match simulated(seed, None) {
                    Ok(one) if !(LEAST..=MOST).contains(&one.ratio()) => panic!("seed {seed}: {one:?}"),
                    Ok(one) => tally.add(&one),
                    Err(why) => panic!("seed {seed}: {why}"),
                }
            }
            tally
        };
        let running: Vec<_> = (0..cores).map(|first| scope.spawn(move || some(first))).collect();
        for one in running {
            total.add(&one.join().expect("a seed failed: see above"));
        }
    });
    total
}

#[test]
fn nobody_expires_no_ca_is_stormed_and_no_wait_it_asked_for_is_broken() {
    let (begun, seeds) = (Instant::now(), seeds());
    let total = side_by_side(seeds);
    println!("seeds          {seeds} ({} s)", begun.elapsed().as_secs());
    println!("certificates   {CERTIFICATES}, each for {DAYS} days");
    println!("issued         {}, needed {}: {:.3} times", total.issued, total.needed, total.ratio());
    println!("in vain        {} given up, {} superseded by somebody else", total.given_up, total.superseded);
    println!("others wrote   {} times", total.foreign);
    println!("clock doubted  in {} turns", total.doubts);
    println!("attempts       {}, of which {} failed", total.attempts, total.failures);
    println!("restarts       {}", total.restarts);
    println!("expired        {}: nothing else could be had in time, or somebody else put it there so", total.expired);
    assert!(total.needed > seeds * 500, "{total:?}");
    assert!((LEAST..=MOST).contains(&total.ratio()), "{total:?}");
    assert!(total.failures > 0 && total.restarts > 0 && total.lost_answers > 0, "{total:?}");
    assert!(total.doubts > 0 && total.foreign > 0 && total.superseded > 0 && total.given_up > 0, "{total:?}");
}

#[test]
fn a_rule_that_is_broken_is_noticed() {
    let fails = |broken| (0..20).find_map(|seed| simulated(seed, Some(broken)).err());
    let retried = fails(Broken::RetriesAtOnce).expect("a CA that asks to be left alone is asked all the same");
    assert!(retried.contains("asked before"), "{retried}");
    let forgot = fails(Broken::AsksAgainAfterALostAnswer).expect("two certificates for one renewal");
    assert!(forgot.contains("twice"), "{forgot}");
    let late = fails(Broken::NeverTriesAgain).expect("what failed once expires");
    assert!(late.contains("expired"), "{late}");
    let trusting = fails(Broken::TrustsAnyClock).expect("what a wrong clock says is believed");
    assert!(trusting.contains("asked before"), "{trusting}");
    let mut total = Tally::default();
    for seed in 0..10 {
        total.add(&simulated(seed, Some(Broken::RenewsEarly)).expect("no other rule is broken by it"));
    }
    assert!(total.ratio() > MOST, "{total:?}");
}

#[test]
fn a_ca_that_fails_for_seven_days_through_a_thousand_restarts_is_asked_ten_times_at_most() {
    let mut most = 0;
    for seed in 0..20 {
        let asked = Estate::due_under_an_outage(seed, DAY * 7, 1_000);
        assert!((5..=10).contains(&asked), "seed {seed}: {asked}");
        most = most.max(asked);
    }
    println!("at most {most} attempts in seven days and 1,000 restarts");
}

/// Of the seeds, so many are told of the hostile tenant: each of its turns looks at 257 places.
const SHARE_OF_SEEDS: u64 = 50;

fn beside_a_hostile_tenant(seed: u64, choice: Choice) -> Result<Outcome, String> {
    Tenants::new(seed, choice).run(DAY * 10)
}

#[test]
fn beside_a_hostile_tenant_nobody_else_expires() {
    let (begun, seeds) = (Instant::now(), seeds().div_ceil(SHARE_OF_SEEDS));
    let mut total = Outcome::default();
    for seed in 0..seeds {
        match beside_a_hostile_tenant(seed, Choice::Admit) {
            Ok(one) => total.add(&one),
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
    println!("seeds          {seeds} ({} s)", begun.elapsed().as_secs());
    println!(
        "renewed        {} of 19 tenants, none expired; the latest {:.2} of its time",
        total.honest_renewals, total.latest
    );
    println!("hostile        {} issued, {} of them never stored", total.hostile_issued, total.hostile_refused);
    println!("one place      {} issued within seven days at most", total.most_for_a_place);
    assert!(total.honest_renewals > seeds * 60, "{total:?}");
    assert!(total.hostile_issued > seeds * 100 && total.hostile_refused > 0, "{total:?}");
    assert!((3..=5).contains(&total.most_for_a_place), "{total:?}");
}

#[test]
fn a_turn_that_is_not_shared_is_noticed() {
    for choice in [Choice::EndsFirst, Choice::WithoutShares] {
        let why = beside_a_hostile_tenant(1, choice).expect_err("the hostile tenant has every turn");
        assert!(why.contains("expired"), "{choice:?}: {why}");
    }
}

/// Turns happen on this grid.
pub fn next_turn(at: Timestamp) -> Timestamp {
    const TURN: i64 = 3_600;
    Timestamp(at.0.div_euclid(TURN) * TURN + if at.0.rem_euclid(TURN) == 0 { 0 } else { TURN })
}
