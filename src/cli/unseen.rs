//! Places that a command could not see. It tells them and does not end well, since its answer may lack certificates.

use serde::Serialize;

use crate::domain::check::State;
use crate::domain::inventory::{Location, Sighting};
use crate::domain::snapshot::Snapshot;
use crate::domain::text::message;

/// More are counted.
const MOST_TOLD: usize = 20;

/// One place that could not be seen, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unseen {
    pub location: String,
    pub why: String,
}

/// Returns the listings that failed, and the secrets and files that could not be read and have no decision of their own.
pub fn of(snapshot: &Snapshot) -> Vec<Unseen> {
    let unseen = snapshot.entries.iter().filter(|entry| entry.managed.is_none());
    let unseen = unseen.filter_map(|entry| match (&entry.observation.location, &entry.observation.sighting) {
        (
            location @ (Location::Listing { .. } | Location::Secret { .. } | Location::File { .. }),
            Sighting::Unknown(obstacle),
        ) => Some(Unseen { location: location.to_string(), why: obstacle.message.clone() }),
        _ => None,
    });
    unseen.collect()
}

/// Returns a line for each.
pub fn lines(unseen: &[Unseen]) -> String {
    let line = |unseen: &Unseen| message(&format!("{} could not be read: {}", unseen.location, unseen.why)) + "\n";
    let mut out: String = unseen.iter().take(MOST_TOLD).map(line).collect();
    if unseen.len() > MOST_TOLD {
        out.push_str(&format!("and {} more; `certd check` lists them\n", unseen.len() - MOST_TOLD));
    }
    out
}

/// Returns the exit code of `check` for the same.
pub fn exit_code(unseen: &[Unseen]) -> u8 {
    if unseen.is_empty() { 0 } else { State::Unknown.exit_code() }
}
