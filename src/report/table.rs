//! The table that a person reads: the worst first, nothing cut off.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets::NOTHING};

use super::{Summary, complaints, not_after, relative, worst_first};
use crate::domain::check::State;
use crate::domain::inventory::Sighting;
use crate::domain::plan::{Action, Deferral, Held};
use crate::domain::snapshot::{Entry, ManagedEntry, Snapshot};
use crate::domain::text::{message, one_line};
use crate::domain::time::Timestamp;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    pub color: bool,
    /// Columns of the terminal; `None` wraps nothing.
    pub width: Option<u16>,
}

/// Below this a table cannot be read, so the terminal may wrap it as it likes.
pub(super) const NARROWEST: u16 = 60;

/// What is left for the issuer and for what is wrong, beside the state, or places are broken, too.
const REST: usize = 50;

const HEADER: [&str; 5] = ["STATE", "CERTIFICATE", "ENDS", "ISSUER", "WHAT"];

pub fn render(snapshot: &Snapshot, look: Look) -> String {
    let mut out = stopped(snapshot);
    if !snapshot.entries.is_empty() {
        for line in table(snapshot, look.width).lines() {
            out.push_str(&painted(line.trim_end(), look.color));
            out.push('\n');
        }
        out.push('\n');
    }
    let Summary { ok, warning, critical, unknown } = Summary::of(snapshot);
    out + &format!("{ok} ok, {warning} warning, {critical} critical, {unknown} unknown\n{}", passed_over(snapshot))
}

/// So many are named.
const MOST_PASSED_OVER: usize = 5;

/// What patterns led to and is no certificate, in a line.
pub(super) fn passed_over(snapshot: &Snapshot) -> String {
    let all = &snapshot.passed_over;
    let named = all.iter().take(MOST_PASSED_OVER).map(|it| one_line(&format!("{} ({})", it.location, it.what)));
    let named = named.collect::<Vec<_>>().join(", ");
    match all.len() {
        0 => String::new(),
        1 => format!("1 match is no certificate: {named}\n"),
        n if n > MOST_PASSED_OVER => {
            format!("{n} matches are no certificates: {named} and {} more\n", n - MOST_PASSED_OVER)
        }
        n => format!("{n} matches are no certificates: {named}\n"),
    }
}

/// Whoever looks must see at once that certd may not act.
fn stopped(snapshot: &Snapshot) -> String {
    let manages = snapshot.entries.iter().any(|entry| entry.managed.is_some());
    let paused = snapshot.paused_until.filter(|until| snapshot.taken_at < *until);
    let mut out = String::new();
    if !snapshot.act && manages {
        out.push_str("act = false: nothing will be renewed\n");
    }
    if let Some(until) = paused {
        out.push_str(&format!("acting is paused until {until}, {}\n", relative(snapshot.taken_at, until)));
    }
    if let Some(why) = &snapshot.clock_doubt {
        out.push_str(&format!("{}; nothing is renewed, and all that is said of time is in doubt\n", message(why)));
    }
    if let Some(gone) = &snapshot.journal_gone {
        out.push_str(&format!("{}; nothing is renewed until then\n", message(gone)));
    }
    if let Some(why) = &snapshot.unaudited {
        out.push_str(&format!("{}; acts of people are refused, and renewals go on without a record\n", message(why)));
    }
    if let Some(lost) = &snapshot.journal_lost {
        out.push_str(&format!("{}; pauses and attempts are forgotten: certd journal\n", message(lost)));
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

fn table(snapshot: &Snapshot, width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(HEADER);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.max(NARROWEST));
    }
    let rows: Vec<[String; 5]> = worst_first(snapshot).into_iter().map(|entry| row(snapshot.taken_at, entry)).collect();
    let (place, ends) = (widest(&rows, 1), widest(&rows, 2));
    table.add_rows(rows);
    if width.is_some_and(|width| place + ends + REST <= usize::from(width)) {
        // A place that is in one piece can be copied.
        for column in [1, 2] {
            table.column_mut(column).expect("the header has it").set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    if let Some(state) = table.column_mut(0) {
        state.set_constraint(ColumnConstraint::ContentWidth).set_padding((0, 1));
    }
    table
}

fn widest(rows: &[[String; 5]], column: usize) -> usize {
    rows.iter().flat_map(|row| row[column].lines()).map(|line| line.chars().count()).max().unwrap_or(0)
}

fn row(now: Timestamp, entry: &Entry) -> [String; 5] {
    let ends = not_after(entry).map(|end| format!("{}, {}", day(end), relative(now, end))).unwrap_or_default();
    [entry.state.as_str().to_string(), names(entry), ends, issuer(entry), what(now, entry)]
}

fn day(instant: Timestamp) -> String {
    let text = instant.to_string();
    text.split('T').next().unwrap_or(&text).to_string()
}

fn names(entry: &Entry) -> String {
    let location = entry.observation.location.to_string();
    match entry.managed.as_ref().map(|managed| one_line(&managed.decision.certificate.0)) {
        Some(name) if name != location => format!("{name}\n{location}"),
        Some(_) | None => location,
    }
}

fn issuer(entry: &Entry) -> String {
    match &entry.observation.sighting {
        Sighting::Absent | Sighting::Deleted(_) | Sighting::Unknown(_) => String::new(),
        Sighting::Crl(list) => message(list.issuer_cn.as_deref().unwrap_or(&list.issuer)),
        Sighting::Found(found) => {
            let leaf = found.leaf();
            message(leaf.issuer_cn.as_deref().unwrap_or(&leaf.issuer))
        }
    }
}

fn what(now: Timestamp, entry: &Entry) -> String {
    let mut lines = complaints(entry);
    if let Sighting::Found(found) = &entry.observation.sighting {
        lines.extend(found.revoked_at.map(|at| format!("was revoked on {at}")));
        let asks = found.handshake.as_ref().is_some_and(|handshake| handshake.asks_for_certificate);
        lines.extend(asks.then(|| "asks clients for a certificate".to_string()));
    }
    if let Some(managed) = &entry.managed {
        lines.extend(failures(managed));
        lines.extend(intention(now, managed));
        lines.extend(pause(now, managed));
    }
    lines.join("\n")
}

fn failures(managed: &ManagedEntry) -> Option<String> {
    let record = &managed.record;
    let why = record.last_error.as_deref().map(|error| format!(": {}", message(error))).unwrap_or_default();
    match record.consecutive_failures {
        0 => None,
        1 => Some(format!("the last renewal failed{why}")),
        more => Some(format!("the last {more} renewals failed{why}")),
    }
}

fn intention(now: Timestamp, managed: &ManagedEntry) -> Option<String> {
    match &managed.decision.action {
        Action::Keep { renew_at } => Some(format!("will be renewed {}", relative(now, *renew_at))),
        Action::Renew { reason } => Some(format!("is to be renewed: {}", reason.as_str().replace('_', " "))),
        Action::Defer { until, reason, renew } => {
            let why = match reason {
                Deferral::Backoff { .. } => "after failures",
                Deferral::Contested => "as others keep replacing what certd stores",
                Deferral::IssuerDown { .. } => "as its issuer failed again and again",
                Deferral::WeeklyLimit { .. } => "as its weekly limit is reached",
                Deferral::NotStored { .. } => "as the last ones that were issued for it could not be stored",
                Deferral::Cap => "as many as one turn may renew come first",
            };
            let renew = renew.as_str().replace('_', " ");
            Some(format!("is to be renewed: {renew}; waits until {until}, {why}"))
        }
        Action::Hold { held } => on_hold(held).map(|why| format!("is left alone: {why}")),
    }
}

/// `None` where its decision says it.
fn pause(now: Timestamp, managed: &ManagedEntry) -> Option<String> {
    match &managed.decision.action {
        Action::Hold { held: Held::Paused { .. } } => None,
        _ => managed.paused_until(now).map(|until| format!("is paused until {until}")),
    }
}

/// `None` where the line would only repeat another.
fn on_hold(held: &Held) -> Option<String> {
    match held {
        Held::Obstacle(_) => None,
        // Problems of their own.
        Held::RevocationUnknown(_) | Held::ContestedName(_) | Held::OtherNames(_) | Held::NotAgreed => None,
        Held::ClockDoubtful(why) => Some(message(why)),
        Held::ActIsOff => Some("act = false".to_string()),
        Held::Paused { until } => Some(format!("paused until {until}")),
        Held::TwoRules(rules) => Some(format!("two rules name it: {}", message(&rules.join(", ")))),
        Held::UnsupportedKey(key) => Some(format!("certd makes no keys of its kind: {}", message(key))),
        Held::SeveralCertificates => Some("several certificates are kept in one place".to_string()),
        Held::JournalGone(why) | Held::Unwritable(why) => Some(message(why)),
        Held::NotObserved => Some("there is nothing to renew".to_string()),
    }
}

/// Only the first word of a row is coloured, once the columns are laid out. Nothing else leaves as a control character.
pub(super) fn painted(line: &str, color: bool) -> String {
    let line = one_line(line);
    let states = [(State::Critical, "1;31"), (State::Unknown, "35"), (State::Warning, "33"), (State::Ok, "32")];
    let state = states.iter().find(|(state, _)| line.split(' ').next() == Some(state.as_str()));
    match state {
        Some((state, code)) if color => {
            let word = state.as_str();
            format!("\u{1b}[{code}m{word}\u{1b}[0m{}", &line[word.len()..])
        }
        _ => line,
    }
}
