//! The events of the journal and what they add up to.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::advice::Advice;
use crate::domain::breaker::IssuerRecord;
use crate::domain::cert::{Fingerprint, KeyDigest};
use crate::domain::name::{CertName, IssuerName};
use crate::domain::orders;
use crate::domain::plan::{JournalView, Reason, Record};
use crate::domain::progress::Progress;
use crate::domain::revocation::RevocationReason;
use crate::domain::time::Timestamp;
use crate::domain::waits::Waits;

use super::{base64_ders, places, staged};

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
        /// The certificate that this renewal was planned on.
        replaces: Option<Fingerprint>,
        /// Of the key that is to be certified.
        #[serde(default)]
        key: Option<KeyDigest>,
        /// What it is to be for, as `cap::name_set` has it.
        #[serde(default)]
        names: String,
    },
    /// A renewal in flight as its staging place has it: another instance began it, or this one died before it could
    /// note here how far it had come.
    TakenUp(InFlight),
    /// The key of a renewal is about to be kept at this place of a Vault.
    Staged(staged::StagedAt),
    /// Vault denied that the key of an ended renewal be destroyed.
    KeyKept(staged::StagedAt),
    /// It is destroyed after all, or there is none.
    KeyDestroyed(staged::StagedAt),
    /// An issuer is about to be asked: from here on it may have signed.
    Asked {
        issuer: IssuerName,
        /// By then its answer is there or lost.
        #[serde(default)]
        until: Option<Timestamp>,
    },
    /// It has come so far with the order.
    Ordered {
        issuer: IssuerName,
        progress: Progress,
        /// By then the answer to the next step is there or lost.
        until: Timestamp,
    },
    /// That issuer has signed nothing: it said so, never heard of it, or knows of no certificate for the key.
    NotIssued {
        issuer: IssuerName,
    },
    /// It failed for reasons that are its own, whatever was asked.
    IssuerFailed {
        issuer: IssuerName,
        /// What it asked for, in seconds.
        retry_after: Option<u64>,
    },
    /// It asks to be left alone, whoever heard that.
    LeftAlone {
        issuer: IssuerName,
        until: Timestamp,
    },
    /// A chain came back.
    Issued(Issued),
    /// The chain passed its checks and is about to be written.
    Accepted {
        serial: String,
    },
    /// The chain was refused or given up; its serial stays on record.
    Rejected {
        serial: String,
        why: String,
    },
    Written {
        version: Option<u64>,
    },
    /// A person had it renewed beyond the weekly limit, or without the wait after what was issued and not stored.
    OverTheCap {
        /// Within seven days.
        stored: usize,
        /// Issued within seven days, and not stored.
        unused: usize,
    },
    /// Read back and found right.
    Closed {
        fingerprint: Fingerprint,
        not_after: Timestamp,
    },
    /// Seen at every endpoint that is to serve it.
    Served {
        fingerprint: Fingerprint,
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
    /// The CA says anew when it would have it renewed.
    Advised(Advice),
    Paused {
        until: Timestamp,
    },
    Resumed,
    /// A person has an issuer revoke it: it may be revoked from here on.
    Revoking {
        issuer: IssuerName,
        serial: String,
        reason: RevocationReason,
        /// Although an endpoint serves it, or may.
        forced: bool,
    },
    /// The issuer shows it as revoked.
    Revoked {
        issuer: IssuerName,
        serial: String,
        /// `None` where an older certd noted it.
        #[serde(default)]
        fingerprint: Option<Fingerprint>,
    },
    /// About the places that rules and people adopt.
    Place(places::Placed),
    /// The journal of before was damaged, and all that it held is forgotten.
    SetAside {
        file: String,
        why: String,
    },
    /// A person knows of it.
    Acknowledged,
}

/// A chain that an issuer signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    pub issuer: IssuerName,
    /// DER, leaf first.
    #[serde(rename = "chain", with = "base64_ders")]
    pub ders: Vec<Vec<u8>>,
}

/// An issuer that was asked and has not been heard of since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    pub issuer: IssuerName,
    /// By then its answer is there or lost.
    pub until: Timestamp,
    /// `None` where it has not come so far, or knows no steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Nobody noted that it was asked: a key was found alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_guessed: bool,
}

/// How far a renewal has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// No issuer has signed.
    Begun,
    /// Each of these may have signed. Never empty.
    Asked(Vec<Ask>),
    Issued(Issued),
    Written {
        issued: Issued,
        version: Option<u64>,
    },
}

impl Stage {
    /// Of one renewal the higher is the later.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Begun => 0,
            Self::Asked(_) => 1,
            Self::Issued(_) => 2,
            Self::Written { .. } => 3,
        }
    }

    pub fn asks(&self) -> &[Ask] {
        match self {
            Self::Asked(asks) => asks,
            Self::Begun | Self::Issued(_) | Self::Written { .. } => &[],
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    pub reason: Reason,
    pub asked: String,
    pub replaces: Option<Fingerprint>,
    /// Of the key that is to be certified; `None` where an older certd began it.
    pub key: Option<KeyDigest>,
    /// As `cap::name_set` has them; empty where an older certd began it.
    #[serde(default)]
    pub names: String,
    pub stage: Stage,
}

impl InFlight {
    /// The issuer is about to be asked.
    pub fn ask(&mut self, issuer: IssuerName, until: Timestamp) {
        let mut asks: Vec<Ask> = self.stage.asks().iter().filter(|ask| ask.issuer != issuer).cloned().collect();
        asks.push(Ask { issuer, until, progress: None, is_guessed: false });
        self.stage = Stage::Asked(asks);
    }

    /// It has come so far with the order.
    pub fn note_progress(&mut self, issuer: &IssuerName, progress: Progress, until: Timestamp) {
        if let Stage::Asked(asks) = &mut self.stage
            && let Some(ask) = asks.iter_mut().find(|ask| ask.issuer == *issuer)
        {
            (ask.progress, ask.until) = (Some(progress), until);
        }
    }

    pub fn progress(&self, issuer: &IssuerName) -> Option<&Progress> {
        self.stage.asks().iter().find(|ask| ask.issuer == *issuer)?.progress.as_ref()
    }

    /// The issuer has signed nothing.
    pub fn settle(&mut self, issuer: &IssuerName) {
        if let Stage::Asked(asks) = &mut self.stage {
            asks.retain(|ask| ask.issuer != *issuer);
            if asks.is_empty() {
                self.stage = Stage::Begun;
            }
        }
    }
}

/// Longer than any issuer takes to answer, for what an older certd noted.
const LONGEST_ANSWER: Duration = Duration::from_secs(60);

/// All events, folded.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    records: BTreeMap<CertName, Record>,
    pub(super) in_flight: BTreeMap<CertName, InFlight>,
    paused_until: Option<Timestamp>,
    issuers: BTreeMap<IssuerName, IssuerRecord>,
    /// When orders were placed that are carried out in steps.
    #[serde(default)]
    ordered: BTreeMap<IssuerName, Vec<Timestamp>>,
    /// By a person, and since when.
    #[serde(default)]
    revoked: BTreeMap<Fingerprint, Timestamp>,
    #[serde(default)]
    places: places::Places,
    /// Pending keys in Vaults. None in a journal of format 3.
    #[serde(default)]
    pub(super) staged: staged::StagedKeys,
    last_noted: Option<Timestamp>,
    set_aside: Option<String>,
}

impl State {
    pub fn fold(&mut self, entry: Entry) {
        self.last_noted = Some(entry.at);
        if let Event::Revoked { fingerprint: Some(fingerprint), .. } = &entry.event {
            self.revoked.entry(*fingerprint).or_insert(entry.at);
        }
        let Some(entry) = self.places.fold(entry) else { return };
        match (entry.certificate, entry.event) {
            (Some(name), event) => self.fold_certificate(name, entry.at, event),
            (None, Event::Paused { until }) => self.paused_until = Some(until),
            (None, Event::Resumed) => self.paused_until = None,
            (None, Event::SetAside { file, why }) => {
                self.set_aside = Some(format!("a damaged journal was set aside: {file} ({why})"));
            }
            (None, Event::Acknowledged) => self.set_aside = None,
            (None, Event::LeftAlone { issuer, until }) => {
                self.issuers.entry(issuer).or_default().leave_alone(entry.at, until);
            }
            // Only pauses concern all certificates; anything else without a name changes nothing.
            (None, _) => {}
        }
    }

    fn fold_certificate(&mut self, name: CertName, at: Timestamp, event: Event) {
        self.staged.fold(&name, &event);
        let record = self.records.entry(name.clone()).or_default();
        if event.is_of_a_renewal() {
            record.tried = Some(at);
        }
        match event {
            Event::Begun { reason, asked, replaces, key, names } => {
                let begun = InFlight { reason, asked, replaces, key, names, stage: Stage::Begun };
                self.in_flight.insert(name, begun);
            }
            Event::TakenUp(open) => self.take_up(name, at, open),
            Event::Asked { issuer, until } => {
                self.amend(&name, |open| open.ask(issuer, until.unwrap_or(at.plus(LONGEST_ANSWER))));
            }
            Event::Ordered { issuer, progress, until } => self.note_progress(&name, at, issuer, progress, until),
            Event::NotIssued { issuer } => {
                *record.unsigned.entry(issuer.clone()).or_default() += 1;
                self.amend(&name, |open| open.settle(&issuer));
            }
            // On record for people.
            Event::Accepted { .. } | Event::SetAside { .. } | Event::Acknowledged | Event::LeftAlone { .. } => {}
            Event::Revoking { .. } | Event::Revoked { .. } | Event::OverTheCap { .. } => {}
            // Folded before.
            Event::Place(_) | Event::Staged(_) | Event::KeyKept(_) | Event::KeyDestroyed(_) => {}
            Event::IssuerFailed { issuer, retry_after } => {
                self.issuers.entry(issuer).or_default().fail(at, retry_after.map(Duration::from_secs));
            }
            Event::Issued(issued) => {
                // What it asked for holds, whatever it has signed.
                let asked_until = self.issuers.remove(&issued.issuer).and_then(|record| record.asked_until);
                if let Some(until) = asked_until.filter(|until| at < *until) {
                    let record =
                        IssuerRecord { asked_until: Some(until), open_until: Some(until), ..Default::default() };
                    self.issuers.insert(issued.issuer.clone(), record);
                }
                self.count_issued(&name, at);
                self.amend(&name, |open| open.stage = Stage::Issued(issued));
            }
            Event::Written { version } => self.amend(&name, |open| {
                if let Stage::Issued(issued) | Stage::Written { issued, .. } = &open.stage {
                    open.stage = Stage::Written { issued: issued.clone(), version };
                }
            }),
            Event::Rejected { why, .. } => {
                record.rejected = Some(why);
                self.in_flight.remove(&name);
            }
            Event::Closed { fingerprint, not_after } => {
                record.settle();
                record.last_success = Some(at);
                record.note_closed(at, fingerprint, not_after);
                self.in_flight.remove(&name);
            }
            Event::Served { fingerprint } => record.served = Some(fingerprint),
            // What is there was somebody else's doing, so it is no success of certd's.
            Event::Superseded { .. } => {
                record.settle();
                self.in_flight.remove(&name);
            }
            Event::Failed { message, retry_at, held } => {
                record.unsigned.clear();
                record.unwritable = held.then(|| message.clone());
                record.consecutive_failures = record.consecutive_failures.saturating_add(1);
                record.retry_at = Some(retry_at);
                record.last_error = Some(message);
            }
            Event::Advised(advice) => record.advice = Some(advice),
            Event::Paused { until } => record.paused_until = Some(until),
            Event::Resumed => record.paused_until = None,
        }
    }

    /// What another instance had issued, or this one before it could note it, counts as if it were noted.
    fn take_up(&mut self, name: CertName, at: Timestamp, open: InFlight) {
        let counts = |known: &InFlight| known.key == open.key && known.stage.rank() >= 2;
        let is_counted = self.in_flight.get(&name).is_some_and(counts);
        if open.stage.rank() >= 2 && !is_counted {
            self.records.entry(name.clone()).or_default().note_issued(at);
        }
        self.in_flight.insert(name, open);
    }

    fn note_progress(
        &mut self,
        name: &CertName,
        at: Timestamp,
        issuer: IssuerName,
        progress: Progress,
        until: Timestamp,
    ) {
        let Some(open) = self.in_flight.get_mut(name) else { return };
        // Noted once more: the certd that was to go on with it has ended, and perhaps over this.
        if open.progress(&issuer) == Some(&progress) {
            *self.records.entry(name.clone()).or_default().unsigned.entry(issuer.clone()).or_default() += 1;
        }
        if open.progress(&issuer).is_none_or(|before| before.order != progress.order) {
            let ordered = self.ordered.entry(issuer.clone()).or_default();
            ordered.retain(|before| before.until(at) < orders::WINDOW);
            ordered.push(at);
        }
        open.note_progress(&issuer, progress, until);
    }

    /// A chain that is written again, since it had vanished, was issued once.
    fn count_issued(&mut self, name: &CertName, at: Timestamp) {
        if self.in_flight.get(name).is_some_and(|open| open.stage.rank() < 2) {
            self.records.entry(name.clone()).or_default().note_issued(at);
        }
    }

    fn amend(&mut self, name: &CertName, change: impl FnOnce(&mut InFlight)) {
        if let Some(open) = self.in_flight.get_mut(name) {
            change(open);
        }
    }

    /// What no rule looks at any more.
    pub fn forget_past(&mut self) {
        let Some(now) = self.last_noted else { return };
        self.records.values_mut().for_each(|record| record.forget_past(now));
        for ordered in self.ordered.values_mut() {
            ordered.retain(|at| at.until(now) < orders::WINDOW);
        }
        self.ordered.retain(|_, ordered| !ordered.is_empty());
    }

    pub fn in_flight(&self, name: &CertName) -> Option<&InFlight> {
        self.in_flight.get(name)
    }

    pub fn view(&self) -> JournalView {
        let mut records = self.records.clone();
        for (name, open) in &self.in_flight {
            let record = records.entry(name.clone()).or_default();
            record.in_flight = Some(open.reason);
            record.issued = open.stage.rank() >= 2;
            record.replaces = open.replaces;
        }
        let (issuers, ordered) = (self.issuers.clone(), self.ordered.clone());
        JournalView {
            records,
            paused_until: self.paused_until,
            issuers,
            ordered,
            revoked: self.revoked.clone(),
            homes: self.places.homes.clone(),
            looked: self.places.looked.clone(),
            contests: self.places.contests.clone(),
            keys_left: self.staged.places_left(),
            // No events.
            waits: Waits::default(),
            last_noted: self.last_noted,
            set_aside: self.set_aside.clone(),
            gone: None,
            unaudited: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const F: Fingerprint = Fingerprint([0xf0; 32]);

    fn issued() -> Issued {
        Issued { issuer: "ca".into(), ders: vec![vec![0x30, 0], vec![0x30, 1]] }
    }

    fn folded(events: Vec<Event>) -> State {
        let mut state = State::default();
        for (second, event) in (0..).zip(events) {
            state.fold(Entry { at: Timestamp(second), certificate: Some("web".into()), event });
        }
        state
    }

    fn begun() -> Event {
        Event::Begun {
            reason: Reason::Missing,
            asked: "a".into(),
            replaces: None,
            key: Some(KeyDigest([7; 32])),
            names: "a.b".into(),
        }
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

        let closed = Event::Closed { fingerprint: F, not_after: Timestamp(9) };
        let state = folded(vec![begun(), failed(60), closed]);
        let record = &state.view().records[&name];
        assert_eq!((record.consecutive_failures, record.retry_at, record.in_flight), (0, None, None));
        assert_eq!(record.last_success, Some(Timestamp(2)));
    }

    #[test]
    fn a_chain_that_was_issued_is_kept_until_it_is_written_and_closed() {
        let name = CertName::from("web");
        let stage = |events| folded(events).in_flight(&name).map(|open| open.stage.clone());
        let came = Event::Issued(issued());
        let asked = Event::Asked { issuer: "another".into(), until: None };
        assert_eq!(stage(vec![begun(), asked, came.clone(), failed(1)]), Some(Stage::Issued(issued())));
        let written = Stage::Written { issued: issued(), version: Some(3) };
        assert_eq!(stage(vec![begun(), came, Event::Written { version: Some(3) }]), Some(written));
    }

    #[test]
    fn who_was_asked_stays_known_until_it_is_known_to_have_signed_nothing() {
        let name = CertName::from("web");
        let stage = |events| folded(events).in_flight(&name).map(|open| open.stage.clone());
        let ask = |issuer: &str, until| Event::Asked { issuer: issuer.into(), until };
        let asked = |issuer: &str, second| Ask {
            issuer: issuer.into(),
            until: Timestamp(second),
            progress: None,
            is_guessed: false,
        };
        let none = |issuer: &str| Event::NotIssued { issuer: issuer.into() };
        let two = vec![begun(), ask("a", Some(Timestamp(9))), failed(5), ask("b", None)];
        assert_eq!(stage(two.clone()), Some(Stage::Asked(vec![asked("a", 9), asked("b", 63)])));
        assert_eq!(stage([two.clone(), vec![none("a")]].concat()), Some(Stage::Asked(vec![asked("b", 63)])));
        assert_eq!(stage([two.clone(), vec![none("b"), none("a")]].concat()), Some(Stage::Begun));
        assert_eq!(stage([two, vec![Event::Issued(issued())]].concat()), Some(Stage::Issued(issued())));
        assert_eq!(stage(vec![begun(), none("a")]), Some(Stage::Begun));
    }

    #[test]
    fn an_issuer_that_fails_is_left_alone_until_it_signs_again_and_for_as_long_as_it_asked() {
        let failed = |retry_after| Event::IssuerFailed { issuer: "ca".into(), retry_after };
        let record = |events| folded(events).view().issuers.get(&IssuerName::from("ca")).cloned();
        let told = record(vec![begun(), failed(Some(60)), failed(None)]);
        let until = Some(Timestamp(61));
        assert_eq!(told, Some(IssuerRecord { consecutive_failures: 2, open_until: until, asked_until: until }));
        assert_eq!(record(vec![begun(), failed(None), failed(None), Event::Issued(issued())]), None);
        let asked = record(vec![begun(), failed(Some(60)), failed(None), Event::Issued(issued())]);
        assert_eq!(asked, Some(IssuerRecord { consecutive_failures: 0, open_until: until, asked_until: until }));
        assert_eq!(record(vec![begun(), failed(Some(2)), begun(), Event::Issued(issued())]), None, "that has passed");
    }

    #[test]
    fn what_an_issuer_asks_for_concerns_all_certificates_and_is_never_shortened() {
        let asked = |until| Entry {
            at: Timestamp(0),
            certificate: None,
            event: Event::LeftAlone { issuer: "ca".into(), until: Timestamp(until) },
        };
        let mut state = State::default();
        for until in [60, 90, 30] {
            state.fold(asked(until));
        }
        let record = state.view().issuers[&IssuerName::from("ca")].clone();
        let until = Some(Timestamp(90));
        assert_eq!(record, IssuerRecord { consecutive_failures: 0, open_until: until, asked_until: until });
    }

    #[test]
    fn what_was_issued_is_unused_until_it_is_stored_and_is_counted_once() {
        let name = CertName::from("web");
        let came = || Event::Issued(issued());
        let written = || Event::Written { version: None };
        let closed = || Event::Closed { fingerprint: F, not_after: Timestamp(9) };
        let rejected = || Event::Rejected { serial: "01".into(), why: "too short".into() };
        let superseded = || Event::Superseded { why: "newer".into() };
        let counted = |events| {
            let record = folded(events).view().records[&name].clone();
            (record.unused, record.closed)
        };
        let at = |seconds: &[i64]| seconds.iter().map(|second| Timestamp(*second)).collect::<Vec<_>>();
        assert_eq!(counted(vec![begun(), came(), written(), came()]), (at(&[1]), vec![]));
        assert_eq!(counted(vec![begun(), came(), written(), closed()]), (vec![], at(&[3])));
        assert_eq!(counted(vec![begun(), came(), rejected(), failed(9), begun(), came()]), (at(&[1, 5]), vec![]));
        assert_eq!(counted(vec![begun(), came(), superseded()]), (at(&[1]), vec![]), "a CA signed it all the same");
        assert_eq!(counted(vec![begun(), came(), begun(), came(), closed()]), (at(&[1]), at(&[4])));
        assert_eq!(counted(vec![begun(), superseded(), begun(), failed(9)]), (vec![], vec![]), "nobody has signed");
    }

    #[test]
    fn the_last_step_of_a_renewal_is_when_it_was_tried() {
        let tried = |events| folded(events).view().records[&CertName::from("web")].tried;
        let paused = || Event::Paused { until: Timestamp(99) };
        assert_eq!(tried(vec![paused()]), None);
        assert_eq!(tried(vec![begun(), failed(60), paused(), Event::Resumed]), Some(Timestamp(1)));
        let passed = Event::OverTheCap { stored: 2, unused: 0 };
        assert_eq!(tried(vec![passed, begun(), Event::Served { fingerprint: F }]), Some(Timestamp(1)));
    }

    #[test]
    fn what_is_taken_up_is_in_flight_as_its_staging_place_has_it() {
        let name = CertName::from("web");
        let stage =
            Stage::Asked(vec![Ask { issuer: "ca".into(), until: Timestamp(9), progress: None, is_guessed: false }]);
        let open = InFlight {
            reason: Reason::Due,
            asked: "a".into(),
            replaces: Some(F),
            key: None,
            names: String::new(),
            stage,
        };
        let state = folded(vec![begun(), Event::TakenUp(open.clone())]);
        assert_eq!(state.in_flight(&name), Some(&open));
        assert_eq!(state.view().records[&name].in_flight, Some(Reason::Due));
    }

    #[test]
    fn what_is_taken_up_with_its_chain_is_counted_once() {
        let taken = |key: u8| {
            let (stage, key) = (Stage::Issued(issued()), Some(KeyDigest([key; 32])));
            let names = "a.b".to_string();
            Event::TakenUp(InFlight { reason: Reason::Due, asked: "a".into(), replaces: None, key, names, stage })
        };
        let counted = |events| folded(events).view().records[&CertName::from("web")].unused.clone();
        assert_eq!(counted(vec![begun(), taken(7), taken(7)]), [Timestamp(1)]);
        assert_eq!(counted(vec![begun(), Event::Issued(issued()), taken(7)]), [Timestamp(1)]);
        assert_eq!(counted(vec![begun(), Event::Issued(issued()), taken(8)]), [Timestamp(1), Timestamp(2)]);
    }

    #[test]
    fn asking_again_and_again_without_hearing_an_answer_is_in_vain_until_it_counts_as_a_failure() {
        let name = CertName::from("web");
        let in_vain = |events| folded(events).view().records[&name].asks_in_vain();
        let none = |issuer: &str| Event::NotIssued { issuer: issuer.into() };
        assert!(!in_vain(vec![begun(), none("a")]));
        assert!(!in_vain(vec![begun(), none("a"), none("b")]), "one round of two issuers");
        assert!(in_vain(vec![begun(), none("a"), none("b"), none("b")]));
        assert!(!in_vain(vec![begun(), none("a"), none("a"), failed(60)]));
    }

    #[test]
    fn an_order_that_certd_dies_over_again_and_again_is_in_vain_and_one_that_gets_on_is_not() {
        let name = CertName::from("web");
        let ask = Event::Asked { issuer: "ca".into(), until: None };
        let at = |is_finalizing: bool| {
            let (order, finalize) = ("https://ca/o".to_string(), "https://ca/f".to_string());
            let progress = Progress { order, finalize, is_finalizing, certificate: None };
            Event::Ordered { issuer: "ca".into(), progress, until: Timestamp(9) }
        };
        let state = |events: Vec<Event>| folded([vec![begun(), ask.clone()], events].concat()).view();
        let in_vain = |events| state(events).records[&name].asks_in_vain();
        assert!(!in_vain(vec![at(false), at(true)]));
        assert!(!in_vain(vec![at(false), at(false)]));
        assert!(in_vain(vec![at(false), at(false), at(false)]));
        assert!(!in_vain(vec![at(false), at(false), at(false), failed(60)]), "it waits, as after any failure");
        assert_eq!(state(vec![at(false), at(false), at(true)]).ordered[&IssuerName::from("ca")].len(), 1);
    }

    #[test]
    fn what_was_issued_in_vain_is_told_until_a_renewal_is_closed() {
        let name = CertName::from("web");
        let told = |events| folded(events).view().records[&name].rejected.clone();
        let rejected = || Event::Rejected { serial: "01".into(), why: "too short".into() };
        assert_eq!(told(vec![begun(), rejected(), failed(60), begun()]), Some("too short".to_string()));
        let closed = Event::Closed { fingerprint: F, not_after: Timestamp(9) };
        assert_eq!(told(vec![begun(), rejected(), failed(60), begun(), closed]), None);
    }

    #[test]
    fn what_somebody_else_wrote_is_no_success_of_certds() {
        let name = CertName::from("web");
        let closed = Event::Closed { fingerprint: F, not_after: Timestamp(9) };
        let superseded = Event::Superseded { why: "newer".into() };
        let state = folded(vec![begun(), closed, begun(), failed(60), superseded]);
        let record = &state.view().records[&name];
        assert_eq!((record.last_success, record.consecutive_failures), (Some(Timestamp(1)), 0));
        assert_eq!((record.in_flight, record.wrote), (None, Some(F)));
    }

    #[test]
    fn a_view_says_how_far_a_renewal_came_and_what_it_was_planned_on() {
        let name = CertName::from("web");
        let on_old = || Event::Begun {
            reason: Reason::Due,
            asked: "a".into(),
            replaces: Some(F),
            key: None,
            names: String::new(),
        };
        let begun = folded(vec![on_old()]).view().records[&name].clone();
        assert_eq!((begun.issued, begun.replaces), (false, Some(F)));
        assert!(folded(vec![on_old(), Event::Issued(issued())]).view().records[&name].issued);
    }

    #[test]
    fn a_pause_survives_a_renewal_and_ends_when_resumed() {
        let name = CertName::from("web");
        let closed = || Event::Closed { fingerprint: F, not_after: Timestamp(9) };
        let state = folded(vec![Event::Paused { until: Timestamp(99) }, begun(), closed()]);
        assert_eq!(state.view().records[&name].paused_until, Some(Timestamp(99)));
        let state = folded(vec![Event::Paused { until: Timestamp(99) }, Event::Resumed]);
        assert_eq!(state.view().records[&name].paused_until, None);
    }

    #[test]
    fn every_event_reads_back_as_it_was_written() {
        let closed = Event::Closed { fingerprint: F, not_after: Timestamp(9) };
        let written = Event::Written { version: None };
        for event in [begun(), failed(1), Event::Resumed, written, Event::Issued(issued()), closed] {
            let entry = Entry { at: Timestamp(1), certificate: Some("web".into()), event };
            let text = serde_json::to_string(&entry).unwrap();
            assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), entry);
        }
    }

    /// What a journal of this format holds on disk: a change here needs a new format number.
    #[test]
    fn an_issued_chain_is_written_in_base64_under_the_name_chain() {
        let entry = Entry { at: Timestamp(1), certificate: Some("web".into()), event: Event::Issued(issued()) };
        let text = r#"{"at":"1970-01-01T00:00:01Z","certificate":"web","event":"issued","issuer":"ca","chain":["MAA=","MAE="]}"#;
        assert_eq!(serde_json::to_string(&entry).unwrap(), text);
        assert!(serde_json::from_str::<Entry>(&text.replace("MAA=", "?")).is_err());
    }
}
