//! The circuit breaker of an issuer: after failures that are its own it is left alone for a while, by all certificates.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::IssuerName;
use super::plan::JournalView;
use super::time::Timestamp;

/// So many failures in a row, of whatever certificates, open it.
const FAILURES: u32 = 5;

/// The first wait; each further failure doubles it.
const FIRST: Duration = Duration::from_secs(60);

/// An issuer that came back is noticed within this time. Far under a tenth of what is left of a six-day certificate.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// No issuer is taken at its word for longer.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerRecord {
    pub consecutive_failures: u32,
    /// Nobody asks it before.
    pub open_until: Option<Timestamp>,
    /// As far as it asked for that itself.
    #[serde(default)]
    pub asked_until: Option<Timestamp>,
}

impl IssuerRecord {
    /// `retry_after` is what the issuer itself asked for.
    pub fn fail(&mut self, at: Timestamp, retry_after: Option<Duration>) {
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        let surplus = self.consecutive_failures.checked_sub(FAILURES);
        let opened = surplus.map(|surplus| at.plus((FIRST * 2_u32.pow(surplus.min(6))).min(LONGEST)));
        self.open_until = credible(self.open_until, at).max(opened);
        if let Some(wait) = retry_after {
            self.leave_alone(at, at.plus(wait.min(LONGEST_RETRY_AFTER)));
        }
    }

    /// It asks for that itself.
    pub fn leave_alone(&mut self, at: Timestamp, until: Timestamp) {
        self.open_until = credible(self.open_until, at).max(Some(until));
        self.asked_until = credible(self.asked_until, at).max(Some(until));
    }
}

/// What lies further ahead than any wait was noted by a clock that was wrong, and must hide none.
fn credible(until: Option<Timestamp>, at: Timestamp) -> Option<Timestamp> {
    until.filter(|until| at.until(*until) <= LONGEST_RETRY_AFTER)
}

/// When the first of these issuers may be asked again, and which, where all are left alone.
pub fn open_until(journal: &JournalView, issuers: &[IssuerName], now: Timestamp) -> Option<(Timestamp, IssuerName)> {
    let open = |issuer: &IssuerName| is_open(journal, issuer, now).map(|until| (until, issuer.clone()));
    let all: Option<Vec<_>> = issuers.iter().map(open).collect();
    all?.into_iter().min()
}

/// Until when it is left alone. Once that has passed, one failure more opens it again.
pub fn is_open(journal: &JournalView, issuer: &IssuerName, now: Timestamp) -> Option<Timestamp> {
    let until = journal.issuers.get(issuer)?.open_until?;
    // A clock that was put back must not keep it alone for longer than it ever is.
    (now < until && now.until(until) <= LONGEST_RETRY_AFTER).then_some(until)
}

/// For how long it has asked to be left alone, by whomever.
pub fn asked_for(journal: &JournalView, issuer: &IssuerName, now: Timestamp) -> Option<Duration> {
    let until = journal.issuers.get(issuer)?.asked_until?;
    (now < until && now.until(until) <= LONGEST_RETRY_AFTER).then(|| now.until(until))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::{NOW, SECOND, managed};

    fn failed(times: u32, retry_after: Option<Duration>) -> IssuerRecord {
        let mut record = IssuerRecord::default();
        (0..times).for_each(|_| record.fail(NOW, retry_after));
        record
    }

    fn wait(record: &IssuerRecord) -> Option<Duration> {
        record.open_until.map(|until| NOW.until(until))
    }

    #[test]
    fn the_fifth_failure_opens_it_and_each_further_one_for_twice_as_long_up_to_an_hour() {
        let waits =
            [(4, None), (5, Some(1)), (6, Some(2)), (8, Some(8)), (10, Some(32)), (11, Some(60)), (99, Some(60))];
        for (times, minutes) in waits {
            assert_eq!(wait(&failed(times, None)), minutes.map(|it| 60 * it * SECOND), "{times} failures");
        }
    }

    #[test]
    fn what_the_issuer_itself_asks_for_is_obeyed_at_once_and_for_a_day_at_most() {
        assert_eq!(wait(&failed(1, Some(90 * SECOND))), Some(90 * SECOND));
        assert_eq!(wait(&failed(5, Some(90 * SECOND))), Some(90 * SECOND), "the longer one");
        assert_eq!(wait(&failed(1, Some(Duration::MAX))), Some(LONGEST_RETRY_AFTER));
        let mut record = failed(1, Some(90 * SECOND));
        record.fail(NOW, None);
        assert_eq!(wait(&record), Some(90 * SECOND), "a later failure shortens nothing");
    }

    #[test]
    fn no_issuer_is_taken_at_its_word_for_longer_than_a_day() {
        assert_eq!(LONGEST_RETRY_AFTER.as_secs(), 86_400);
    }

    #[test]
    fn a_certificate_waits_only_where_all_of_its_issuers_are_left_alone() {
        let mut journal = JournalView::default();
        let mut managed = managed("a.example.org");
        managed.issuers = vec!["one".into(), "two".into()];
        let open = |journal: &JournalView, now| open_until(journal, &managed.issuers, now);
        assert_eq!(open(&journal, NOW), None);
        journal.issuers.insert("one".into(), failed(6, None));
        assert_eq!(open(&journal, NOW), None);
        journal.issuers.insert("two".into(), failed(5, None));
        assert_eq!(open(&journal, NOW), Some((NOW.plus(60 * SECOND), "two".into())));
        assert_eq!(open(&journal, NOW.plus(59 * SECOND)), Some((NOW.plus(60 * SECOND), "two".into())));
        assert_eq!(open(&journal, NOW.plus(60 * SECOND)), None, "one may try");
    }

    #[test]
    fn what_an_issuer_asked_for_itself_is_kept_apart_from_what_its_failures_come_to() {
        let asked = |record: IssuerRecord, now| {
            let journal = JournalView { issuers: [("one".into(), record)].into(), ..JournalView::default() };
            asked_for(&journal, &"one".into(), now)
        };
        assert_eq!(asked(failed(9, None), NOW), None);
        assert_eq!(asked(failed(1, Some(60 * SECOND)), NOW), Some(60 * SECOND));
        assert_eq!(asked(failed(1, Some(60 * SECOND)), NOW.plus(59 * SECOND)), Some(SECOND));
        assert_eq!(asked(failed(1, Some(60 * SECOND)), NOW.plus(60 * SECOND)), None);
        assert_eq!(asked(failed(1, Some(Duration::MAX)), NOW), Some(LONGEST_RETRY_AFTER));
        assert_eq!(asked(failed(1, Some(Duration::MAX)), NOW.minus(SECOND)), None, "of a clock that was ahead");
        let mut record = failed(1, Some(90 * SECOND));
        record.fail(NOW.plus(SECOND), Some(60 * SECOND));
        assert_eq!(asked(record, NOW), Some(90 * SECOND), "a later answer shortens nothing");
        let mut record = failed(1, Some(Duration::MAX));
        record.fail(NOW.minus(SECOND), Some(60 * SECOND));
        assert_eq!(asked(record, NOW), Some(59 * SECOND), "the wait of today counts");
    }

    #[test]
    fn a_wait_that_lies_further_ahead_than_any_is_of_a_clock_that_was_wrong() {
        let journal =
            JournalView { issuers: [("one".into(), failed(1, Some(Duration::MAX)))].into(), ..JournalView::default() };
        let open = |now| is_open(&journal, &"one".into(), now).is_some();
        assert!(open(NOW));
        assert!(!open(NOW.minus(SECOND)));
        let mut record = failed(1, Some(Duration::MAX));
        record.fail(NOW.minus(SECOND), Some(60 * SECOND));
        assert_eq!(record.open_until, Some(NOW.plus(59 * SECOND)), "the wait of today counts");
    }
}
