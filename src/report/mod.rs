//! A turn's outcome for people and machines.

pub mod findings;
pub mod json;
pub mod nagios;
pub mod prometheus;
pub mod table;

use std::time::Duration;

use crate::domain::check::State;
use crate::domain::inventory::Sighting;
use crate::domain::snapshot::{Entry, Snapshot};
use crate::domain::text::message;
use crate::domain::time::Timestamp;
use crate::metrics::render::About;

/// What `certd check --format` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For programs: src/report/check.schema.json says what is in it
    Json,
    /// One line and performance data, for Nagios and its relatives
    Nagios,
    /// For node_exporter's textfile collector
    Prometheus,
}

/// The whole text, with its last newline. `look` is for the table alone, `about` for Prometheus.
pub fn render(format: Format, snapshot: &Snapshot, look: table::Look, about: &About) -> String {
    match format {
        Format::Table => table::render(snapshot, look),
        Format::Json => json::render(snapshot),
        Format::Nagios => nagios::render(snapshot),
        Format::Prometheus => prometheus::render(snapshot, about),
    }
}

/// How many locations are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    pub ok: usize,
    pub warning: usize,
    pub critical: usize,
    pub unknown: usize,
}

impl Summary {
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut summary = Self::default();
        for entry in &snapshot.entries {
            *summary.slot(entry.state) += 1;
        }
        summary
    }

    pub fn count(mut self, state: State) -> usize {
        *self.slot(state)
    }

    fn slot(&mut self, state: State) -> &mut usize {
        match state {
            State::Ok => &mut self.ok,
            State::Warning => &mut self.warning,
            State::Critical => &mut self.critical,
            State::Unknown => &mut self.unknown,
        }
    }
}

/// The worst first, and of those the ones that end first; what has no end comes before what has one.
fn worst_first(snapshot: &Snapshot) -> Vec<&Entry> {
    let mut entries: Vec<&Entry> = snapshot.entries.iter().collect();
    entries.sort_by_key(|entry| (std::cmp::Reverse(entry.state), not_after(entry)));
    entries
}

fn not_after(entry: &Entry) -> Option<Timestamp> {
    match &entry.observation.sighting {
        Sighting::Found(found) => Some(found.leaf().not_after),
        Sighting::Crl(list) => list.next_update,
        Sighting::Absent | Sighting::Deleted(_) | Sighting::Unknown(_) => None,
    }
}

/// What is wrong, a line each: the obstacle, then the problems.
pub fn complaints(entry: &Entry) -> Vec<String> {
    let obstacle = match &entry.observation.sighting {
        Sighting::Unknown(obstacle) => Some(obstacle.message.as_str()),
        Sighting::Absent | Sighting::Deleted(_) | Sighting::Found(_) | Sighting::Crl(_) => None,
    };
    let problems = entry.problems.iter().map(|problem| problem.message.as_str());
    obstacle.into_iter().chain(problems).map(message).collect()
}

/// `in 12 days` or `3 h ago`.
fn relative(now: Timestamp, then: Timestamp) -> String {
    match then >= now {
        true => format!("in {}", span(now.until(then))),
        false => format!("{} ago", span(then.until(now))),
    }
}

/// Rounded down, in the largest unit of which there are two.
pub(crate) fn span(span: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(365 * 86_400, "years"), (86_400, "days"), (3_600, "h"), (60, "min")];
    let seconds = span.as_secs();
    match UNITS.iter().find(|(unit, _)| seconds >= 2 * unit) {
        Some((unit, name)) => format!("{} {name}", seconds / unit),
        None => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_far_away_an_instant_is_in_the_largest_unit_of_which_there_are_two() {
        let now = Timestamp(1_000_000_000);
        for (away, text) in [
            (0, "in 0 s"),
            (119, "in 119 s"),
            (120, "in 2 min"),
            (7_199, "in 119 min"),
            (7_200, "in 2 h"),
            (172_799, "in 47 h"),
            (172_800, "in 2 days"),
            (12 * 86_400 + 5, "in 12 days"),
            (730 * 86_400, "in 2 years"),
            (-1, "1 s ago"),
            (-10_800, "3 h ago"),
        ] {
            assert_eq!(relative(now, Timestamp(now.0 + away)), text);
        }
    }
}
