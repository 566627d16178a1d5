//! The named steps, as the sources name them: none is forgotten.

use std::fs;
use std::path::Path;

/// Reached several times in one renewal: each time is a step of its own.
const REPEATED: [(&str, u32); 4] = [("before_commit", 6), ("after_commit", 6), ("before_staging", 3), ("staged", 3)];

/// Only a run that finds something in flight comes by these.
const IN_RECOVERY: [&str; 4] = ["resuming", "recovering", "recovered", "settled"];

/// Only where a chain is refused.
const REFUSED: &str = "given_up";

/// As `CERTD_FAILPOINT` takes them.
pub fn all() -> Vec<String> {
    let mut names = Vec::new();
    named_below(Path::new("src"), &mut names);
    names.sort();
    names.dedup();
    names.retain(|name| name != REFUSED);
    assert!(names.len() >= 24, "{names:?}");
    let times = |name: &str| REPEATED.iter().find(|(repeated, _)| *repeated == name).map(|(_, times)| *times);
    names
        .into_iter()
        .flat_map(|name| match times(&name) {
            None => vec![name],
            Some(times) => (1..=times).map(|nth| format!("{name}#{nth}")).collect(),
        })
        .collect()
}

pub fn only_in_recovery() -> Vec<&'static str> {
    IN_RECOVERY.to_vec()
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
