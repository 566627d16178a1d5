//! The JSON of `certd check`: a contract, written down in `check.schema.json`.

use std::collections::HashSet;

use serde::Serialize;

use super::Summary;
use crate::domain::cert::{Certificate, Fingerprint};
use crate::domain::check::{Problem, State};
use crate::domain::crl::Crl;
use crate::domain::inventory::{Obstacle, Sighting};
use crate::domain::name::{San, SourceName};
use crate::domain::snapshot::{Entry, Snapshot};
use crate::domain::time::Timestamp;
use crate::metrics::render::place_hash;

/// Raised when a field changes its meaning or goes; new fields change the schema file alone.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    checked_at: Timestamp,
    certificates: Vec<Line<'a>>,
    summary: Summary,
    /// Where it is there, all that is said of time is in doubt.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_doubt: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_certificates: Vec<NotCertificate<'a>>,
}

/// What a pattern led to.
#[derive(Serialize)]
struct NotCertificate<'a> {
    location: String,
    what: &'a str,
}

#[derive(Serialize)]
struct Line<'a> {
    location: String,
    source: &'a SourceName,
    state: State,
    leaf: Option<Shown<'a>>,
    chain: Vec<Shown<'a>>,
    problems: &'a [Problem],
    obstacle: Option<&'a Obstacle>,
    // Later than the others: left out where they say nothing, so that whoever knows the first contract reads on.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crl: Option<ShownCrl<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asks_for_certificate: Option<bool>,
}

/// One certificate.
#[derive(Serialize)]
struct Shown<'a> {
    fingerprint_sha256: Fingerprint,
    serial: &'a str,
    subject: &'a str,
    issuer: &'a str,
    sans: &'a [San],
    not_before: Timestamp,
    not_after: Timestamp,
    key: String,
    signature: &'a str,
}

/// A revocation list, in the place of a leaf.
#[derive(Serialize)]
struct ShownCrl<'a> {
    issuer: &'a str,
    number: Option<&'a str>,
    this_update: Timestamp,
    next_update: Option<Timestamp>,
    revoked: usize,
    signature: &'a str,
}

/// In the order of locations.
pub fn render(snapshot: &Snapshot) -> String {
    let mut taken = HashSet::with_capacity(snapshot.entries.len());
    let report = Report {
        schema: SCHEMA,
        checked_at: snapshot.taken_at,
        certificates: snapshot.entries.iter().map(|entry| line(entry, &mut taken)).collect(),
        summary: Summary::of(snapshot),
        clock_doubt: snapshot.clock_doubt.as_deref(),
        not_certificates: snapshot
            .passed_over
            .iter()
            .map(|it| NotCertificate { location: it.location.to_string(), what: it.what })
            .collect(),
    };
    text(&report)
}

/// Whatever certd prints as JSON.
pub fn text(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value).expect("all of it is text and numbers under text keys");
    plain_ascii(&text) + "\n"
}

fn line<'a>(entry: &'a Entry, taken: &mut HashSet<String>) -> Line<'a> {
    let mut line = Line {
        location: unique_location(entry, taken),
        source: &entry.observation.source,
        state: entry.state,
        leaf: None,
        chain: Vec::new(),
        problems: &entry.problems,
        obstacle: None,
        revoked_at: None,
        asks_for_certificate: None,
        crl: None,
    };
    match &entry.observation.sighting {
        Sighting::Absent | Sighting::Deleted(_) => {}
        Sighting::Unknown(obstacle) => line.obstacle = Some(obstacle),
        Sighting::Crl(list) => line.crl = Some(list.as_ref().into()),
        Sighting::Found(found) => {
            line.leaf = Some(found.leaf().into());
            line.chain = found.chain.intermediates.iter().map(|c| c.as_ref().into()).collect();
            line.revoked_at = found.revoked_at;
            let asks = found.handshake.as_ref().is_some_and(|handshake| handshake.asks_for_certificate);
            line.asks_for_certificate = asks.then_some(true);
        }
    }
    line
}

/// Two places may read the same where one holds what cannot be shown: the later one is told apart by its hash.
fn unique_location(entry: &Entry, taken: &mut HashSet<String>) -> String {
    let mut location = entry.observation.location.to_string();
    if !taken.insert(location.clone()) {
        location = format!("{location}~{}", place_hash(&entry.observation));
        taken.insert(location.clone());
    }
    location
}

impl<'a> From<&'a Certificate> for Shown<'a> {
    fn from(certificate: &'a Certificate) -> Self {
        Self {
            fingerprint_sha256: certificate.fingerprint,
            serial: &certificate.serial,
            subject: &certificate.subject,
            issuer: &certificate.issuer,
            sans: &certificate.names,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            key: certificate.key.to_string(),
            signature: &certificate.signature.0,
        }
    }
}

impl<'a> From<&'a Crl> for ShownCrl<'a> {
    fn from(list: &'a Crl) -> Self {
        Self {
            issuer: &list.issuer,
            number: list.number.as_deref(),
            this_update: list.this_update,
            next_update: list.next_update,
            revoked: list.revoked,
            signature: &list.signature.0,
        }
    }
}

/// Escapes all but plain ASCII, which JSON allows in every string: no certificate can steer the terminal
/// of whoever prints the report, and no program reads anything else than before.
pub(crate) fn plain_ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' | ' '..='~' => out.push(c),
            hostile_or_foreign => {
                let mut units = [0; 2];
                for unit in hostile_or_foreign.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_reads_as_before() {
        let text = "a\u{9b}31m \u{202e} ü 🦀 \u{7f} \n";
        let json = plain_ascii(&serde_json::to_string(text).unwrap());
        assert_eq!(json, r#""a\u009b31m \u202e \u00fc \ud83e\udd80 \u007f \n""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
