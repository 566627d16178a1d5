//! The named steps, as the sources name them: none is forgotten. And the table of which way comes by which.

use std::fs;
use std::path::Path;

use crate::case::{Issuer, Store, Way};

/// Reached several times in one renewal: each time is a step of its own.
const REPEATED: [(&str, u32); 9] = [
    ("before_commit", 10),
    ("after_commit", 10),
    ("before_staging", 6),
    ("staged", 6),
    ("stepped", 3),
    ("progress_staged", 3),
    ("ordered", 3),
    // A write to files is rehearsed first.
    ("file_drafted", 4),
    ("file_renamed", 2),
];

/// Only a run that finds something in flight comes by these, or a person who gives the account another key: the step, and
/// where the run before it ended.
const IN_RECOVERY: [(&str, &str); 7] = [
    ("resuming#1", "begun#1"),
    ("recovering#1", "asked#1"),
    ("recovered#1", "answered#1"),
    ("settled#1", "asked#1"),
    (GIVEN_UP, "issued#1"),
    (ROLLED_OVER, "ordered#1"),
    ("account_key_changed#1", ROLLED_OVER),
];

/// Where a chain cannot be used: its key was lost in between.
pub const GIVEN_UP: &str = "given_up#1";

/// Of `certd account --roll-over`, and of nothing else.
pub const ROLLED_OVER: &str = "next_account_key_kept#1";

/// A run that ends at the first of these, and one after it that comes by the second.
pub const IN_AN_ORDER: [(&str, &str); 8] = [
    ("account_key_kept#1", "settled#1"),
    ("account_made#1", "ordered#1"),
    ("stepped#1", "ordered#1"),
    ("ordered#1", "stepped#2"),
    ("ordered#1", "ordered#2"),
    ("stepped#2", "ordered#1"),
    ("stepped#3", "recovered#1"),
    ("ordered#3", "issued#1"),
];

/// A step, and with which stores.
type With = (&'static str, fn(Store) -> bool);

/// The CA has an order, and nobody has noted which.
const ORDER_UNKNOWN: [With; 4] = [
    ("stepped#1", |_| true),
    ("before_staging#3", |_| true),
    ("progress_staged#1", |store| store != Store::KvTwo),
    ("before_commit#3", |store| store != Store::KvTwo),
];

/// It is noted that the CA is asked to sign, and it is not asked yet: what it may have heard is waited for.
const ANSWER_AWAITED: [With; 6] = [
    ("staged#4", |_| true),
    ("progress_staged#2", |store| store == Store::KvTwo),
    // One commit before it tells where in Vault the key is kept.
    ("before_commit#5", |store| store == Store::KvTwo),
    ("after_commit#5", |store| store == Store::KvTwo),
    ("after_commit#4", |store| store != Store::KvTwo),
    ("ordered#2", |_| true),
];

/// Some of the steps are on some of the ways only.
struct Only {
    steps: &'static [&'static str],
    on: fn(Way) -> bool,
    /// Why not on the others.
    else_because: &'static str,
}

const ONLY: [Only; 11] = [
    Only {
        steps: &["key_drafted#1", "key_placed#1"],
        on: |way| way.store != Store::KvTwo,
        else_because: "the key is kept in Vault meanwhile",
    },
    Only {
        steps: &[
            "before_staging#1",
            "before_staging#2",
            "before_staging#3",
            "staged#1",
            "staged#2",
            "staged#3",
            "before_destruction#1",
        ],
        on: |way| way.store == Store::KvTwo,
        else_because: "the key is kept in the state directory meanwhile",
    },
    Only {
        steps: &["before_staging#4", "before_staging#5", "before_staging#6", "staged#4", "staged#5", "staged#6"],
        on: |way| way.store == Store::KvTwo && way.issuer == Issuer::Acme,
        else_because: "there are no steps of an order to be noted in Vault",
    },
    Only {
        steps: &[
            "before_commit#8",
            "before_commit#9",
            "after_commit#8",
            "after_commit#9",
            "stepped#1",
            "stepped#2",
            "stepped#3",
            "progress_staged#1",
            "progress_staged#2",
            "progress_staged#3",
            "ordered#1",
            "ordered#2",
            "ordered#3",
            "account_key_kept#1",
            "account_made#1",
            ROLLED_OVER,
            "account_key_changed#1",
        ],
        on: |way| way.issuer == Issuer::Acme,
        else_because: "the issuer has no account and signs in one step",
    },
    Only {
        steps: &["before_commit#7", "after_commit#7"],
        on: |way| way.issuer == Issuer::Acme || way.store == Store::KvTwo,
        else_because: "neither steps of an order nor a place in Vault are noted",
    },
    Only {
        steps: &["before_commit#10", "after_commit#10"],
        on: |way| way.issuer == Issuer::Acme && way.store == Store::KvTwo,
        else_because: "not both steps of an order and a place in Vault are noted",
    },
    Only {
        steps: &["secret_made#1", "secret_written#1"],
        on: |way| matches!(way.store, Store::KvTwo | Store::KvOne),
        else_because: "it is stored in files",
    },
    Only {
        steps: &["file_drafted#1", "file_drafted#2", "file_renamed#1"],
        on: |way| matches!(way.store, Store::Bundle | Store::Loose),
        else_because: "it is stored in no file that is replaced alone",
    },
    Only {
        steps: &["file_drafted#3", "file_drafted#4", "file_renamed#2", "loose_key_placed#1"],
        on: |way| way.store == Store::Loose,
        else_because: "there is no second file",
    },
    Only {
        steps: &["generation_written#1", "link_drafted#1", "link_switched#1"],
        on: |way| way.store == Store::Directory,
        else_because: "it is stored in no directory",
    },
    Only {
        steps: &["ca_key_kept#1", "ca_before_register#1", "ca_after_register#1"],
        on: |way| way.issuer == Issuer::LocalCa,
        else_because: "somebody else keeps the CA",
    },
];

/// `None` where a renewal on this way comes by the step, in recovery at the latest.
pub fn why_not(step: &str, way: Way) -> Option<&'static str> {
    let only = ONLY.iter().find(|only| only.steps.contains(&step))?;
    (!(only.on)(way)).then_some(only.else_because)
}

/// Where the run before must end, for a step that only recovery comes by.
pub fn lead(step: &str) -> Option<&'static str> {
    IN_RECOVERY.iter().find(|(name, _)| *name == step).map(|(_, lead)| *lead)
}

/// Whether an order is left over, with which nobody goes on.
pub fn leaves_an_order(step: &str, way: Way) -> bool {
    way.issuer == Issuer::Acme && is_in(&ORDER_UNKNOWN, step, way.store)
}

/// Whether the next run waits until an answer would be there or lost.
pub fn awaits_an_answer(step: &str, way: Way) -> bool {
    way.issuer == Issuer::Acme && is_in(&ANSWER_AWAITED, step, way.store)
}

fn is_in(table: &[With], step: &str, store: Store) -> bool {
    table.iter().any(|(name, on)| *name == step && on(store))
}

/// As `CERTD_FAILPOINT` takes them.
pub fn all() -> Vec<String> {
    let mut names = Vec::new();
    named_below(Path::new("src"), &mut names);
    names.sort();
    names.dedup();
    assert!(names.len() >= 24, "{names:?}");
    let times = |name: &str| REPEATED.iter().find(|(repeated, _)| *repeated == name).map_or(1, |(_, times)| *times);
    let all: Vec<String> =
        names.iter().flat_map(|name| (1..=times(name)).map(move |nth| format!("{name}#{nth}"))).collect();
    let in_tables = ONLY.iter().flat_map(|only| only.steps).chain(IN_RECOVERY.iter().map(|(step, _)| step));
    let in_tables = in_tables.chain(ORDER_UNKNOWN.iter().chain(&ANSWER_AWAITED).map(|(step, _)| step));
    let unknown: Vec<_> = in_tables.filter(|step| !all.iter().any(|known| known == *step)).collect();
    assert_eq!(unknown, [&""; 0], "of the tables, and in no source");
    all
}

/// Whether a run after one that ended at `first` comes by `second`.
pub fn comes_by(first: &str, second: &str, store: Store) -> bool {
    if IN_AN_ORDER.contains(&(first, second)) {
        return true;
    }
    // A key of which no journal knows: any issuer may have signed for it.
    let is_key_alone = first == "key_staged#1" && store != Store::KvTwo;
    match second {
        "resuming#1" => !is_key_alone,
        "recovering#1" => is_key_alone || matches!(first, "asked#1" | "answered#1"),
        "recovered#1" => first == "answered#1",
        "settled#1" => is_key_alone || first == "asked#1",
        "chain_staged#1" | "before_write#1" | "written#1" => first != "read_back#1",
        "closed#1" => true,
        other => panic!("no second step of these cases: {other}"),
    }
}

fn named_below(folder: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            named_below(&path, names);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let calls = text.split("failpoint::reached(\"").skip(1);
            names.extend(calls.map(|call| call.split('"').next().unwrap().to_string()));
        }
    }
}
