//! One line and performance data, as Nagios and its relatives read them (plugin development guidelines,
//! plugin output), then a line for each certificate that is not ok.

use super::{Summary, complaints, not_after, relative, worst_first};
use crate::domain::check::State;
use crate::domain::snapshot::{Entry, Snapshot};
use crate::domain::text::message;

/// Named in the first line, which lands in a text message.
const MOST_NAMED: usize = 3;

/// Nagios reads eight kilobytes in all (MAX_PLUGIN_OUTPUT_LENGTH).
const MOST_BYTES: usize = 8_000;

/// In characters. Longer ones would drive the performance data out of what is read.
const LONGEST_SENTENCE: usize = 400;

pub fn render(snapshot: &Snapshot) -> String {
    let summary = Summary::of(snapshot);
    let bad: Vec<&Entry> = worst_first(snapshot).into_iter().filter(|entry| entry.state != State::Ok).collect();
    let headline = match &snapshot.clock_doubt {
        Some(why) => doubted(snapshot, summary, why),
        None if bad.is_empty() => all_well(snapshot),
        None => headline(snapshot, summary, &bad),
    };
    let Summary { ok, warning, critical, unknown } = summary;
    let mut out =
        format!("{headline} | ok={ok};;;0 warning={warning};;;0 critical={critical};;;0 unknown={unknown};;;0\n");
    for (i, entry) in bad.iter().enumerate() {
        let line = format!("{}: {}\n", entry.state.as_str().to_uppercase(), sentence(entry));
        if out.len() + line.len() > MOST_BYTES {
            out.push_str(&format!("… and {} more\n", bad.len() - i));
            return out;
        }
        out.push_str(&line);
    }
    out.push_str(&harmless(&super::table::passed_over(snapshot)));
    out
}

/// When there was nothing to report on.
pub fn failed(why: &str) -> String {
    let lines: Vec<String> = why.lines().map(|line| harmless(&message(line.trim()))).collect();
    format!("UNKNOWN: {}\n", lines.join("; "))
}

fn all_well(snapshot: &Snapshot) -> String {
    let first =
        snapshot.entries.iter().filter_map(|entry| Some((not_after(entry)?, entry))).min_by_key(|(end, _)| *end);
    match first {
        None => "OK: 0 certificates".to_string(),
        Some((end, entry)) => format!(
            "OK: {}, the first ends on {end}, {}: {}",
            certificates(snapshot.entries.len()),
            relative(snapshot.taken_at, end),
            harmless(&entry.observation.location.to_string())
        ),
    }
}

/// What was found may be as wrong as the clock is, so its reason comes first.
fn doubted(snapshot: &Snapshot, summary: Summary, why: &str) -> String {
    let (word, all) = (snapshot.worst().as_str().to_uppercase(), certificates(snapshot.entries.len()));
    format!("{word}: {}; by it, {} of {all} ok", harmless(&message(why)), summary.ok)
}

fn headline(snapshot: &Snapshot, summary: Summary, bad: &[&Entry]) -> String {
    let worst = snapshot.worst();
    let named: Vec<String> = bad.iter().take(MOST_NAMED).map(|entry| sentence(entry)).collect();
    let more = match bad.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let (count, all) = (summary.count(worst), certificates(snapshot.entries.len()));
    format!("{}: {count} of {all}: {}{more}", worst.as_str().to_uppercase(), named.join("; "))
}

fn certificates(count: usize) -> String {
    format!("{count} certificate{}", if count == 1 { "" } else { "s" })
}

fn sentence(entry: &Entry) -> String {
    let whole = harmless(&format!("{} {}", entry.observation.location, complaints(entry).join(", ")));
    match whole.char_indices().nth(LONGEST_SENTENCE) {
        Some((cut, _)) => format!("{}…", &whole[..cut]),
        None => whole,
    }
}

/// A pipe would begin performance data. Newlines are gone before.
fn harmless(text: &str) -> String {
    text.replace('|', "/")
}
