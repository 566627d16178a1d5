//! Which places changed their state since the turn before: a line each, and no more than a person reads.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::check::State;
use crate::domain::inventory::{Location, Sighting};
use crate::domain::snapshot::{Entry, Snapshot};
use crate::report::complaints;

/// In one turn; `certd check` shows them all.
const NAMED: usize = 20;

/// Only what is not ok is remembered.
#[derive(Default)]
pub struct Standing(BTreeMap<Location, State>);

impl Standing {
    pub fn follow(&mut self, snapshot: &Snapshot) {
        let hidden = hidden(snapshot);
        let entries = || snapshot.entries.iter().filter(|entry| !hidden.contains(&entry.observation.location));
        let mut changed: Vec<&Entry> = entries().filter(|entry| self.of(entry) != entry.state).collect();
        changed.sort_by_key(|entry| std::cmp::Reverse(entry.state));
        changed.iter().take(NAMED).for_each(|entry| say(entry));
        if changed.len() > NAMED {
            tracing::warn!("and {} more changed: certd check --config FILE shows them", changed.len() - NAMED);
        }
        // How it was before it went out of sight is not news when it is seen again.
        self.0.retain(|location, _| hidden.contains(location));
        let ill = entries().filter(|entry| entry.state != State::Ok);
        self.0.extend(ill.map(|entry| (entry.observation.location.clone(), entry.state)));
    }

    fn of(&self, entry: &Entry) -> State {
        self.0.get(&entry.observation.location).copied().unwrap_or(State::Ok)
    }
}

fn say(entry: &Entry) {
    let (location, state, why) = (&entry.observation.location, entry.state, complaints(entry).join(", "));
    match state {
        State::Ok => tracing::info!(%location, "ok again"),
        // Often over in a moment, as between a renewal and its being served.
        State::Warning => tracing::info!(%location, "warning: {why}"),
        State::Critical | State::Unknown => tracing::warn!(%location, "{}: {why}", state.as_str()),
    }
}

/// What a source could not list, and what is out of sight for that very reason: the source was said to be
/// in trouble already.
fn hidden(snapshot: &Snapshot) -> BTreeSet<&Location> {
    let unseen = || {
        snapshot.entries.iter().filter_map(|entry| match &entry.observation.sighting {
            Sighting::Unknown(obstacle) => Some((&entry.observation.location, obstacle)),
            Sighting::Absent | Sighting::Deleted(_) | Sighting::Found(_) | Sighting::Crl(_) => None,
        })
    };
    let lists = unseen().filter(|(location, _)| matches!(location, Location::Listing { .. }));
    let reasons: BTreeSet<&str> = lists.map(|(_, obstacle)| obstacle.message.as_str()).collect();
    unseen().filter(|(_, obstacle)| reasons.contains(obstacle.message.as_str())).map(|(location, _)| location).collect()
}
