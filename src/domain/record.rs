//! What the journal's events add up to, as planning needs it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::advice::Advice;
use super::breaker::IssuerRecord;
use super::cap;
use super::cert::{Certificate, Fingerprint};
use super::homes::{Contests, Homes};
use super::name::{CertName, IssuerName};
use super::plan::Reason;
use super::time::Timestamp;
use super::waits::Waits;

/// What the journal knows of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub consecutive_failures: u32,
    pub retry_at: Option<Timestamp>,
    pub last_error: Option<String>,
    pub last_success: Option<Timestamp>,
    /// A renewal was begun and not closed.
    pub in_flight: Option<Reason>,
    /// A CA has signed for it, so it goes on whatever is found.
    #[serde(default)]
    pub issued: bool,
    /// The certificate that it was planned on.
    #[serde(default)]
    pub replaces: Option<Fingerprint>,
    pub paused_until: Option<Timestamp>,
    /// Why the last attempt did not get as far as a CA: its place must not be written to.
    #[serde(default)]
    pub unwritable: Option<String>,
    /// What certd last stored and read back.
    #[serde(default)]
    pub wrote: Option<Fingerprint>,
    /// When that ends.
    #[serde(default)]
    pub wrote_until: Option<Timestamp>,
    /// All that it stored lately, the oldest first.
    #[serde(default)]
    pub stored: Vec<Fingerprint>,
    /// When certd stored a certificate within the last seven days, and at least the last five times, the oldest first.
    #[serde(default)]
    pub closed: Vec<Timestamp>,
    /// When certificates were issued within the last seven days that are not stored, the oldest first.
    #[serde(default)]
    pub unused: Vec<Timestamp>,
    /// When certd last worked on a renewal of it.
    #[serde(default)]
    pub tried: Option<Timestamp>,
    /// How often each issuer was asked since the last attempt that ended, and had signed nothing.
    #[serde(default)]
    pub unsigned: BTreeMap<IssuerName, u32>,
    /// Why the last certificate that was issued for it could not be used.
    #[serde(default)]
    pub rejected: Option<String>,
    /// What was seen at every endpoint that is to serve it.
    #[serde(default)]
    pub served: Option<Fingerprint>,
    /// When the CA would have it renewed.
    #[serde(default)]
    pub advice: Option<Advice>,
}

/// So many renewals may be undone by others within this time before certd waits.
const MOST_UNDONE: usize = 5;

/// A rollback may bring any of them back; a year of six-day certificates.
const MOST_STORED: usize = 64;

const UNDONE_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

impl Record {
    /// Nothing is in flight and nothing has failed any more.
    pub fn settle(&mut self) {
        let Self {
            last_success, paused_until, wrote, wrote_until, stored, closed, unused, tried, served, advice, ..
        } = std::mem::take(self);
        *self = Self {
            last_success,
            paused_until,
            wrote,
            wrote_until,
            stored,
            closed,
            unused,
            tried,
            served,
            advice,
            ..Self::default()
        };
    }

    /// A certificate was issued, and is not stored yet.
    pub fn note_issued(&mut self, at: Timestamp) {
        self.unused.retain(|before| before.until(at) < cap::WINDOW);
        self.unused.push(at);
    }

    /// What was issued last is stored and was read back.
    pub fn note_closed(&mut self, at: Timestamp, fingerprint: Fingerprint, not_after: Timestamp) {
        self.unused.pop();
        // A journal of before this list knows the last one alone.
        let before = self.wrote.filter(|before| self.stored.is_empty() && *before != fingerprint);
        self.stored.retain(|stored| *stored != fingerprint);
        self.stored.extend(before.into_iter().chain([fingerprint]));
        let surplus = self.stored.len().saturating_sub(MOST_STORED);
        self.stored.drain(..surplus);
        (self.wrote, self.wrote_until) = (Some(fingerprint), Some(not_after));
        self.closed.push(at);
        self.forget_past(at);
    }

    /// Drops times that no rule looks at any more.
    pub fn forget_past(&mut self, now: Timestamp) {
        self.unused.retain(|at| at.until(now) < cap::WINDOW);
        let surplus = self.closed.len().saturating_sub(MOST_UNDONE);
        let past = self.closed[..surplus].iter().take_while(|at| at.until(now) >= cap::WINDOW).count();
        self.closed.drain(..past);
    }

    /// Returns for how long what certd last stored was valid then.
    pub fn wrote_for(&self) -> Option<Duration> {
        Some(self.closed.last()?.until(self.wrote_until?))
    }

    /// Whether certd stored this certificate in this place.
    pub fn has_stored(&self, certificate: Fingerprint) -> bool {
        self.wrote == Some(certificate) || self.stored.contains(&certificate)
    }

    /// A renewal that is wanted although nothing else says so: a CA has signed, or a person forced it
    /// and what is there still is what they saw.
    pub(super) fn goes_on(&self, leaf: &Certificate) -> Option<Reason> {
        let is_unchanged = || self.replaces == Some(leaf.fingerprint);
        self.in_flight.filter(|begun| self.issued || (*begun == Reason::Forced && is_unchanged()))
    }

    /// What certd stored last is gone again, and so was something before, or there would be no second.
    pub(super) fn is_undone_again(&self, found: Option<Fingerprint>, reason: Reason, now: Timestamp) -> bool {
        let lately = self.closed.iter().filter(|at| at.until(now) < cap::WINDOW);
        self.is_undone(found, reason) && lately.count() > 1
    }

    /// It was replaced or removed, its key was, or it was revoked.
    fn is_undone(&self, found: Option<Fingerprint>, reason: Reason) -> bool {
        let is_useless = matches!(reason, Reason::KeyMismatch | Reason::Revoked);
        self.wrote.is_some() && (self.wrote != found || is_useless)
    }

    /// Whoever asks and never lives to hear the answer waits as after any failure, or a crash loop would ask for ever.
    pub fn asks_in_vain(&self) -> bool {
        self.unsigned.values().any(|times| *times > 1)
    }

    /// Until when to wait because somebody keeps undoing what certd does.
    pub(super) fn contested_until(&self, found: Option<Fingerprint>, reason: Reason) -> Option<Timestamp> {
        let of_the_last = self.closed.iter().rev().nth(MOST_UNDONE - 1);
        let oldest = of_the_last.filter(|_| self.is_undone(found, reason) && !self.issued)?;
        Some(oldest.plus(UNDONE_WITHIN))
    }
}

/// The fold over the journal's events that planning needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalView {
    pub records: BTreeMap<CertName, Record>,
    /// All acting stops until then.
    pub paused_until: Option<Timestamp>,
    /// Issuers that failed since they last signed.
    #[serde(default)]
    pub issuers: BTreeMap<IssuerName, IssuerRecord>,
    /// What issuers work on, and want looked at no sooner.
    #[serde(default)]
    pub waits: Waits,
    /// When orders were placed that are carried out in steps.
    pub ordered: BTreeMap<IssuerName, Vec<Timestamp>>,
    /// What certd had revoked, and since when.
    #[serde(default)]
    pub revoked: BTreeMap<Fingerprint, Timestamp>,
    /// The places that rules adopted, or a person.
    #[serde(default)]
    pub homes: Homes,
    /// When the first look of each rule was over, by `Rule::id`.
    #[serde(default)]
    pub looked: BTreeMap<String, Timestamp>,
    /// The places that were held for names of others.
    #[serde(default)]
    pub contests: Contests,
    /// Where the pending keys of ended renewals are left, which could not be destroyed.
    #[serde(default)]
    pub keys_left: BTreeMap<CertName, Vec<String>>,
    /// What was lost with a damaged journal, until somebody acknowledges it.
    #[serde(default)]
    pub set_aside: Option<String>,
    /// Why nothing can be written down, and so nothing may be done.
    #[serde(default)]
    pub gone: Option<String>,
    /// Why nothing can be written to the audit log; renewals go on.
    #[serde(default)]
    pub unaudited: Option<String>,
    /// The time of the last event.
    #[serde(default)]
    pub last_noted: Option<Timestamp>,
}

impl JournalView {
    /// The end of a pause of all acting that has not passed.
    pub fn pause_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.paused_until.filter(|until| now < *until)
    }

    /// The end of a pause that this certificate waits for: its own or that of all, the later one.
    pub fn pause_of(&self, name: &CertName, now: Timestamp) -> Option<Timestamp> {
        let own = self.records.get(name).and_then(|record| record.paused_until);
        [self.paused_until, own].into_iter().flatten().max().filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::advice::Window;
    use crate::domain::sample::{NOW, SECOND};

    #[test]
    fn what_is_settled_keeps_what_it_wrote_and_forgets_what_failed() {
        let kept = Record {
            last_success: Some(NOW),
            paused_until: Some(NOW),
            wrote: Some(Fingerprint([1; 32])),
            wrote_until: Some(NOW),
            stored: vec![Fingerprint([1; 32])],
            closed: vec![NOW],
            unused: vec![NOW],
            tried: Some(NOW),
            served: Some(Fingerprint([2; 32])),
            advice: Some(advice()),
            ..Record::default()
        };
        let mut record = Record {
            consecutive_failures: 3,
            retry_at: Some(NOW),
            last_error: Some("no".into()),
            in_flight: Some(Reason::Due),
            issued: true,
            ..kept.clone()
        };
        record.settle();
        assert_eq!(record, kept);
    }

    #[test]
    fn what_is_stored_is_no_longer_unused_and_what_was_refused_stays_so_for_seven_days() {
        let mut record = Record::default();
        record.note_issued(NOW);
        record.note_issued(NOW.plus(SECOND));
        assert_eq!(record.unused, [NOW, NOW.plus(SECOND)]);
        record.note_closed(NOW.plus(2 * SECOND), Fingerprint([1; 32]), NOW.plus(62 * SECOND));
        assert_eq!((record.unused.as_slice(), record.closed.as_slice()), (&[NOW][..], &[NOW.plus(2 * SECOND)][..]));
        assert_eq!(record.wrote_for(), Some(60 * SECOND));
        record.note_issued(NOW.plus(cap::WINDOW - SECOND));
        assert_eq!(record.unused.len(), 2);
        record.note_issued(NOW.plus(cap::WINDOW));
        assert_eq!(record.unused, [NOW.plus(cap::WINDOW - SECOND), NOW.plus(cap::WINDOW)]);
    }

    #[test]
    fn what_was_stored_within_seven_days_is_known_and_so_are_the_last_five_times() {
        let mut record = Record::default();
        for nth in 0..9 {
            record.note_closed(NOW.plus(nth * SECOND), Fingerprint([1; 32]), NOW);
        }
        assert_eq!(record.closed.len(), 9);
        record.forget_past(NOW.plus(cap::WINDOW + SECOND));
        assert_eq!(record.closed[0], NOW.plus(2 * SECOND));
        record.forget_past(NOW.plus(2 * cap::WINDOW));
        assert_eq!(record.closed, [4, 5, 6, 7, 8].map(|nth| NOW.plus(nth * SECOND)));
    }

    #[test]
    fn a_key_that_is_overwritten_and_a_certificate_that_is_revoked_are_undone_although_the_certificate_is_there() {
        let own = Some(Fingerprint([1; 32]));
        let closed: Vec<Timestamp> = (0..6).map(|nth| NOW.plus(nth * SECOND)).collect();
        let record = Record { wrote: own, closed, ..Record::default() };
        let until = |found, reason| record.contested_until(found, reason);
        let waits = Some(NOW.plus(SECOND).plus(UNDONE_WITHIN));
        assert_eq!(until(own, Reason::KeyMismatch), waits, "of the last five");
        assert_eq!(until(own, Reason::Revoked), waits);
        assert_eq!(until(own, Reason::Due), None);
        assert_eq!(until(None, Reason::Due), waits);
        let four = Record { closed: vec![NOW; 4], ..record.clone() };
        assert_eq!(four.contested_until(own, Reason::KeyMismatch), None);
    }

    fn advice() -> Advice {
        let window = Window::new(NOW, NOW.plus(SECOND)).unwrap();
        Advice { fingerprint: Fingerprint([1; 32]), window, explanation: None }
    }

    #[test]
    fn whoever_asked_one_issuer_twice_and_heard_nothing_has_asked_in_vain() {
        let asked = |times: &[(&str, u32)]| {
            let unsigned = times.iter().map(|(issuer, times)| (IssuerName::from(*issuer), *times)).collect();
            Record { unsigned, ..Record::default() }.asks_in_vain()
        };
        assert!(!asked(&[]));
        assert!(!asked(&[("a", 1), ("b", 1)]), "one round of two issuers");
        assert!(asked(&[("a", 1), ("b", 2)]));
        assert!(asked(&[("a", 3)]));
    }

    #[test]
    fn what_was_stored_lately_is_known_and_what_a_journal_of_before_knew_is_kept() {
        let print = |nth: u8| Fingerprint([nth; 32]);
        let mut record = Record { wrote: Some(print(200)), ..Record::default() };
        assert!(record.has_stored(print(200)) && !record.has_stored(print(1)));
        for nth in [1, 2, 1] {
            record.note_closed(NOW, print(nth), NOW);
        }
        assert_eq!(record.stored, [print(200), print(2), print(1)]);
        (3..100).for_each(|nth| record.note_closed(NOW, print(nth), NOW));
        assert_eq!(record.stored, (36..100).map(print).collect::<Vec<_>>());
        assert!(!record.has_stored(print(35)) && record.has_stored(print(36)));
    }

    #[test]
    fn a_pause_of_all_ends_at_its_instant() {
        let view = JournalView { paused_until: Some(NOW), ..JournalView::default() };
        assert_eq!(view.pause_at(NOW.minus(SECOND)), Some(NOW));
        assert_eq!(view.pause_at(NOW), None);
        assert_eq!(view.pause_at(NOW.plus(SECOND)), None);
    }
}
