//! Each claim that a fuzz target of this name makes (`tests/fuzz`), here over some hundred inputs near its seeds.

#[path = "../corpus/archive.rs"]
mod archive;
#[path = "../authority/mod.rs"]
mod authority;
#[path = "../sample/mod.rs"]
mod sample;

mod acme;
mod configuration;
mod damage;
mod journal;
mod keystores;
mod kv_json;
mod leaks;
mod metrics;
mod pem_bundle;
mod retry_after;
mod summary;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

/// The claim holds for every seed and for inputs near them, and at least so many of the seeds put it to the test.
fn check(seeds: Vec<Vec<u8>>, telling: usize, cases: u32, claim: fn(&[u8]) -> bool) {
    let told = seeds.iter().filter(|seed| claim(seed)).count();
    assert!(telling <= told, "{told} of {} seeds tell", seeds.len());
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let claimed = |data: Vec<u8>| {
        claim(&data);
        Ok(())
    };
    TestRunner::new(config).run(&near(seeds), claimed).unwrap();
}

/// A seed with some bytes changed, with a part of another in it, or cut off; or bytes of no seed.
fn near(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<Index>(), any::<u8>()), 0..5);
    let part = prop::option::weighted(0.3, (any::<Index>(), any::<Index>(), any::<Index>()));
    let end = prop::option::weighted(0.1, any::<Index>());
    let changed =
        (select(seeds.clone()), select(seeds), changes, part, end).prop_map(|(mut data, other, changes, part, end)| {
            if let Some((from, to, at)) = part {
                let (from, to) = (from.index(other.len() + 1), to.index(other.len() + 1));
                let at = at.index(data.len() + 1);
                data.splice(at..at, other[from.min(to)..from.max(to)].iter().copied());
            }
            for (at, byte) in changes.into_iter().filter(|_| !data.is_empty()).collect::<Vec<_>>() {
                let at = at.index(data.len());
                data[at] = byte;
            }
            data.truncate(end.map_or(data.len(), |end| end.index(data.len() + 1)));
            data
        });
    prop_oneof![9 => changed, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

#[test]
fn a_wait_is_what_the_header_says_and_a_day_at_most() {
    check(retry_after::seeds(), 8, 2_000, retry_after::check);
}

#[test]
fn what_a_ca_answers_steers_nobody_and_is_read_as_it_stands_there() {
    check(acme::seeds(), 5, 3_000, acme::check);
}

#[test]
fn a_certificate_is_summed_up_as_another_parser_reads_it() {
    let some = summary::seeds().into_iter().step_by(8).collect();
    check(some, 190, 200, summary::check);
}

#[test]
fn what_is_written_of_a_bundle_is_read_again_as_the_same() {
    check(pem_bundle::seeds(), 20, 500, pem_bundle::check);
}

#[test]
fn what_a_renewal_does_not_concern_stays_byte_for_byte() {
    check(kv_json::seeds(), 7, 300, kv_json::check);
}

#[test]
fn a_keystore_that_may_be_written_opens_again_and_holds_the_new_certificate() {
    check(keystores::seeds(), 3, 500, keystores::check);
}

#[test]
fn the_search_for_keys_finds_a_piece_in_any_form() {
    damage::finds_a_piece();
}

#[test]
fn nothing_that_is_said_of_damage_holds_a_piece_of_a_key() {
    let tried = damage::every_damage_of_every_form(12);
    println!("{tried} inputs, 68 texts of 4 keys damaged in each place");
    assert!(tried >= 4_000, "{tried}");
}

#[test]
fn nothing_that_is_said_of_what_is_near_a_key_holds_a_piece_of_it() {
    let seeds = leaks::seeds().into_iter().chain(keystores::seeds_of(leaks::CANARIES)).collect();
    check(seeds, 60, 3_000, leaks::check);
}

#[test]
fn another_parser_finds_the_snapshot_in_the_page() {
    check(metrics::seeds(), 6, 60, metrics::check);
}

#[test]
fn any_bytes_are_a_configuration_or_mistakes_with_places() {
    check(configuration::seeds(), 3, 500, configuration::check);
}

#[test]
fn a_record_is_read_again_as_it_was_written() {
    check(journal::seeds(), 18, 500, journal::check);
}

#[test]
fn a_journal_with_any_text_for_a_record_opens_or_is_set_aside() {
    let seeds = journal::seeds();
    let whole = seeds.iter().map(|seed| journal::check_on_disk(std::str::from_utf8(seed).unwrap()));
    assert!(whole.filter(|whole| !whole).count() == 0);
    let config = ProptestConfig { cases: 50, failure_persistence: None, ..ProptestConfig::default() };
    let claimed = |data: Vec<u8>| {
        journal::check_on_disk(&String::from_utf8_lossy(&data));
        Ok(())
    };
    TestRunner::new(config).run(&near(seeds), claimed).unwrap();
}
