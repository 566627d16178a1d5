//! One line of the audit log: what happened, who asked for it, and its place in the chain.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::chain::{Head, LineHash};
use crate::domain::actor::{Actor, shortened};
use crate::domain::name::CertName;
use crate::domain::text::{is_hostile, one_line};
use crate::domain::time::Timestamp;

/// In characters, of one detail. The names of some hundred certificates fit.
const LONGEST_DETAIL: usize = 8_000;

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    // Acts, written before they are carried out.
    Start,
    Stop,
    Reload,
    Renew,
    Revoke,
    Pause,
    Resume,
    RollOver,
    Rollback,
    Adopt,
    Forget,
    Acknowledge,
    // The outcome of an act.
    Done,
    Refused,
    Failed,
    // What certd does by itself, or on the way of an act.
    RenewalBegun,
    RenewalTakenUp,
    IssuerAsked,
    Issued,
    Accepted,
    Rejected,
    Written,
    Closed,
    Superseded,
    AttemptFailed,
    OverTheCap,
    RevocationAsked,
    Revoked,
    PlacesAdopted,
    PlacesContested,
    JournalSetAside,
    // About the log itself.
    /// The line before is the rest of a write that a crash broke off.
    TornLine,
    /// Records were there when certd looked last, and are gone or changed.
    CutOff,
    /// So many records could not be written.
    Missed,
    /// A newer certd wrote it.
    #[serde(other)]
    Unknown,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Reload => "reload",
            Self::Renew => "renew",
            Self::Revoke => "revoke",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::RollOver => "roll_over",
            Self::Rollback => "rollback",
            Self::Adopt => "adopt",
            Self::Forget => "forget",
            Self::Acknowledge => "acknowledge",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::RenewalBegun => "renewal_begun",
            Self::RenewalTakenUp => "renewal_taken_up",
            Self::IssuerAsked => "issuer_asked",
            Self::Issued => "issued",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Written => "written",
            Self::Closed => "closed",
            Self::Superseded => "superseded",
            Self::AttemptFailed => "attempt_failed",
            Self::OverTheCap => "over_the_cap",
            Self::RevocationAsked => "revocation_asked",
            Self::Revoked => "revoked",
            Self::PlacesAdopted => "places_adopted",
            Self::PlacesContested => "places_contested",
            Self::JournalSetAside => "journal_set_aside",
            Self::TornLine => "torn_line",
            Self::CutOff => "cut_off",
            Self::Missed => "missed",
            Self::Unknown => "unknown",
        }
    }
}

/// By name. Values are text, so that every record has one form.
pub type Details = BTreeMap<String, String>;

/// What is to be recorded, before it has its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    pub event: Kind,
    /// `None` for what concerns all, or several.
    pub certificate: Option<CertName>,
    pub detail: Details,
}

impl Draft {
    pub fn new(event: Kind) -> Self {
        Self { event, certificate: None, detail: Details::new() }
    }

    pub fn of(event: Kind, certificate: Option<&CertName>) -> Self {
        Self { certificate: certificate.cloned(), ..Self::new(event) }
    }

    /// Adds a detail, in one line and not longer than a record takes.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.detail.insert(name.to_string(), shortened(&one_line(&value.to_string()), LONGEST_DETAIL));
        self
    }
}

/// One line, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// From 1, without a gap, over all files.
    #[serde(rename = "seq")]
    pub sequence: u64,
    /// Of the line before.
    pub previous: LineHash,
    pub at: Timestamp,
    pub event: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertName>,
    /// `None` for what certd does by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
    /// The sequence number of the act, in the record of its outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<u64>,
    #[serde(default, skip_serializing_if = "Details::is_empty")]
    pub detail: Details,
}

impl Record {
    /// Puts a draft behind the head of the chain.
    pub fn behind(head: &Head, at: Timestamp, draft: Draft) -> Self {
        let Draft { event, certificate, detail } = draft;
        let (sequence, previous) = (head.sequence + 1, head.hash.clone());
        Self { sequence, previous, at, event, certificate, by: None, act: None, detail }
    }

    /// Whether it follows the head, without a look at its own content.
    pub fn follows(&self, head: &Head) -> bool {
        self.sequence == head.sequence + 1 && self.previous == head.hash
    }

    /// Returns the bytes of its line without the newline. What would move the cursor or turn the direction of text is
    /// escaped, so that the line may be shown as it is.
    pub fn line(&self) -> Result<Vec<u8>, serde_json::Error> {
        Ok(json_escaped(&serde_json::to_string(self)?).into_bytes())
    }

    /// Whether it tells of this certificate, by itself or among several.
    pub fn concerns(&self, certificate: &CertName) -> bool {
        let among = |names: &String| names.split(", ").any(|name| name == certificate.0);
        self.certificate.as_ref() == Some(certificate) || self.detail.get(CERTIFICATES).is_some_and(among)
    }
}

/// Such characters stand in strings alone, where JSON has an escape for them (RFC 8259, section 7).
fn json_escaped(json: &str) -> String {
    json.chars().fold(String::with_capacity(json.len()), |mut out, c| {
        match is_hostile(c) {
            true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
            false => out.push(c),
        }
        out
    })
}

/// The detail that names several certificates.
pub const CERTIFICATES: &str = "certificates";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_called_as_it_is_written() {
        for kind in [Kind::Start, Kind::RollOver, Kind::Issued, Kind::TornLine, Kind::RevocationAsked] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!(serde_json::from_str::<Kind>("\"of_a_newer_certd\"").unwrap(), Kind::Unknown);
    }

    #[test]
    fn a_record_is_one_line_of_json_that_reads_back() {
        let draft = Draft::of(Kind::Written, Some(&"web\n".into())).with("version", 3).with("why", "a\nb");
        let record = Record::behind(&Head::start(), Timestamp(0), draft);
        let line = record.line().unwrap();
        let text = format!(
            r#"{{"seq":1,"previous":"{}","at":"1970-01-01T00:00:00Z","event":"written","certificate":"web\n","detail":{{"version":"3","why":"a\\u{{a}}b"}}}}"#,
            "0".repeat(64)
        );
        assert_eq!(String::from_utf8(line.clone()).unwrap(), text);
        assert_eq!(serde_json::from_slice::<Record>(&line).unwrap(), record);
    }

    #[test]
    fn no_line_moves_a_cursor_or_turns_the_direction_of_text() {
        let name = "a\u{1b}[2J\u{9b}2J\u{202e}\u{e0041}\u{7f}ä😀";
        let record = Record::behind(&Head::start(), Timestamp(0), Draft::of(Kind::Written, Some(&name.into())));
        let line = String::from_utf8(record.line().unwrap()).unwrap();
        let escaped = r#""certificate":"a\u001b[2J\u009b2J\u202e\udb40\udc41\u007fä😀""#;
        assert!(line.contains(escaped), "{line}");
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
    }

    #[test]
    fn an_act_on_several_certificates_concerns_each() {
        let draft = Draft::new(Kind::Renew).with(CERTIFICATES, "a, web");
        let record = Record::behind(&Head::start(), Timestamp(0), draft);
        assert_eq!(["a", "web", "we"].map(|name| record.concerns(&name.into())), [true, true, false]);
    }
}
