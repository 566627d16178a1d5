//! The events of the journal and what they add up to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::name::{CertName, IssuerName};
use crate::domain::plan::{JournalView, Reason, Record};
use crate::domain::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub at: Timestamp,
    /// `None` for what concerns all.
    pub certificate: Option<CertName>,
    #[serde(flatten)]
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A key was made and is durable; nobody has heard of it.
    Begun {
        reason: Reason,
        /// Digest of what will be asked for, so that a changed configuration begins anew.
        asked: String,
        /// Fingerprint of the certificate that this renewal was planned on.
        replaces: Option<String>,
    },
    /// An issuer is about to be asked: from here on it may have signed.
    Asked {
        issuer: IssuerName,
    },
    /// A chain came back: base64 of the DER, leaf first.
    Issued {
        issuer: IssuerName,
        chain: Vec<String>,
    },
    /// The chain was refused or given up; its serial stays on record.
    Rejected {
        serial: String,
        why: String,
    },
    Written {
        version: Option<u64>,
    },
    /// Read back and found right.
    Closed {
        fingerprint: String,
        not_after: Timestamp,
    },
    /// Something at least as good is there already.
    Superseded {
        why: String,
    },
    Failed {
        message: String,
        retry_at: Timestamp,
        /// The store would not be written to, and no CA was asked in vain.
        #[serde(default)]
        held: bool,
    },
    Paused {
        until: Timestamp,
    },
    Resumed,
}

/// How far a renewal has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    Begun,
    Issued { chain: Vec<String> },
    Written { chain: Vec<String>, version: Option<u64> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    pub reason: Reason,
    pub asked: String,
    pub replaces: Option<String>,
    pub issuer: Option<IssuerName>,
    pub stage: Stage,
}

/// All events, folded.
#[derive(Debug, Default)]
pub struct State {
    records: BTreeMap<CertName, Record>,
    in_flight: BTreeMap<CertName, InFlight>,
    paused_until: Option<Timestamp>,
}

impl State {
    pub fn fold(&mut self, entry: Entry) {
        match (entry.certificate, entry.event) {
            (Some(name), event) => self.fold_certificate(name, entry.at, event),
            (None, Event::Paused { until }) => self.paused_until = Some(until),
            (None, Event::Resumed) => self.paused_until = None,
            // Only pauses concern all certificates; anything else without a name changes nothing.
            (None, _) => {}
        }
    }

    fn fold_certificate(&mut self, name: CertName, at: Timestamp, event: Event) {
        let record = self.records.entry(name.clone()).or_default();
        match event {
            Event::Begun { reason, asked, replaces } => {
                let begun = InFlight { reason, asked, replaces, issuer: None, stage: Stage::Begun };
                self.in_flight.insert(name, begun);
            }
            Event::Asked { issuer } => self.amend(&name, |open| open.issuer = Some(issuer)),
            Event::Issued { issuer, chain } => self.amend(&name, |open| {
                open.issuer = Some(issuer);
                open.stage = Stage::Issued { chain };
            }),
            Event::Written { version } => self.amend(&name, |open| {
                if let Stage::Issued { chain } | Stage::Written { chain, .. } = &open.stage {
                    open.stage = Stage::Written { chain: chain.clone(), version };
                }
            }),
            Event::Rejected { .. } => {
                self.in_flight.remove(&name);
            }
            Event::Closed { fingerprint, .. } => {
                record.settle();
                record.last_success = Some(at);
                record.note_closed(at, fingerprint);
                self.in_flight.remove(&name);
            }
            // What is there was somebody else's doing, so it is no success of certd's.
            Event::Superseded { .. } => {
                record.settle();
                self.in_flight.remove(&name);
            }
            Event::Failed { message, retry_at, held } => {
                record.unwritable = held.then(|| message.clone());
                record.consecutive_failures = record.consecutive_failures.saturating_add(1);
                record.retry_at = Some(retry_at);
                record.last_error = Some(message);
            }
            Event::Paused { until } => record.paused_until = Some(until),
            Event::Resumed => record.paused_until = None,
        }
    }

    fn amend(&mut self, name: &CertName, change: impl FnOnce(&mut InFlight)) {
        if let Some(open) = self.in_flight.get_mut(name) {
            change(open);
        }
    }

    pub fn in_flight(&self, name: &CertName) -> Option<&InFlight> {
        self.in_flight.get(name)
    }

    pub fn view(&self) -> JournalView {
        let mut records = self.records.clone();
        for (name, open) in &self.in_flight {
            let record = records.entry(name.clone()).or_default();
            record.in_flight = Some(open.reason);
            record.issued = open.stage != Stage::Begun;
            record.replaces = open.replaces.clone();
        }
        JournalView { records, paused_until: self.paused_until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(events: Vec<Event>) -> State {
        let mut state = State::default();
        for (second, event) in (0..).zip(events) {
            state.fold(Entry { at: Timestamp(second), certificate: Some("web".into()), event });
        }
        state
    }

    fn begun() -> Event {
        Event::Begun { reason: Reason::Missing, asked: "a".into(), replaces: None }
    }

    fn failed(second: i64) -> Event {
        Event::Failed { message: "no".into(), retry_at: Timestamp(second), held: false }
    }

    #[test]
    fn failures_add_up_until_a_renewal_is_closed() {
        let name = CertName::from("web");
        let state = folded(vec![begun(), failed(60), failed(600)]);
        let record = &state.view().records[&name];
        assert_eq!((record.consecutive_failures, record.retry_at), (2, Some(Timestamp(600))));
        assert_eq!(record.in_flight, Some(Reason::Missing));

        let closed = Event::Closed { fingerprint: "f".into(), not_after: Timestamp(9) };
        let state = folded(vec![begun(), failed(60), closed]);
        let record = &state.view().records[&name];
        assert_eq!((record.consecutive_failures, record.retry_at, record.in_flight), (0, None, None));
        assert_eq!(record.last_success, Some(Timestamp(2)));
    }

    #[test]
    fn a_chain_that_was_issued_is_kept_until_it_is_written_and_closed() {
        let name = CertName::from("web");
        let issued = Event::Issued { issuer: "ca".into(), chain: vec!["AA".into()] };
        let state = folded(vec![begun(), Event::Asked { issuer: "ca".into() }, issued.clone(), failed(1)]);
        assert_eq!(state.in_flight(&name).unwrap().stage, Stage::Issued { chain: vec!["AA".into()] });
        let state = folded(vec![begun(), issued, Event::Written { version: Some(3) }]);
        assert_eq!(
            state.in_flight(&name).unwrap().stage,
            Stage::Written { chain: vec!["AA".into()], version: Some(3) }
        );
    }

    #[test]
    fn what_somebody_else_wrote_is_no_success_of_certds() {
        let name = CertName::from("web");
        let closed = Event::Closed { fingerprint: "f".into(), not_after: Timestamp(9) };
        let superseded = Event::Superseded { why: "newer".into() };
        let state = folded(vec![begun(), closed, begun(), failed(60), superseded]);
        let record = &state.view().records[&name];
        assert_eq!((record.last_success, record.consecutive_failures), (Some(Timestamp(1)), 0));
        assert_eq!((record.in_flight, record.wrote.as_deref()), (None, Some("f")));
    }

    #[test]
    fn a_view_says_how_far_a_renewal_came_and_what_it_was_planned_on() {
        let name = CertName::from("web");
        let on_old = || Event::Begun { reason: Reason::Due, asked: "a".into(), replaces: Some("old".into()) };
        let issued = Event::Issued { issuer: "ca".into(), chain: vec!["AA".into()] };
        let begun = folded(vec![on_old()]).view().records[&name].clone();
        assert_eq!((begun.issued, begun.replaces.as_deref()), (false, Some("old")));
        assert!(folded(vec![on_old(), issued]).view().records[&name].issued);
    }

    #[test]
    fn a_pause_survives_a_renewal_and_ends_when_resumed() {
        let name = CertName::from("web");
        let closed = || Event::Closed { fingerprint: "f".into(), not_after: Timestamp(9) };
        let state = folded(vec![Event::Paused { until: Timestamp(99) }, begun(), closed()]);
        assert_eq!(state.view().records[&name].paused_until, Some(Timestamp(99)));
        let state = folded(vec![Event::Paused { until: Timestamp(99) }, Event::Resumed]);
        assert_eq!(state.view().records[&name].paused_until, None);
    }

    #[test]
    fn every_event_reads_back_as_it_was_written() {
        for event in [begun(), failed(1), Event::Resumed, Event::Written { version: None }] {
            let entry = Entry { at: Timestamp(1), certificate: Some("web".into()), event };
            let text = serde_json::to_string(&entry).unwrap();
            assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), entry);
        }
    }
}
