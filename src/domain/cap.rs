//! The weekly limit of one certificate: twice what its renewal interval implies in seven days, and at least two. What was
//! issued and not stored does not count, but the place then waits for longer each time.

use std::time::Duration;

use super::cert::Certificate;
use super::name::San;
use super::plan::{Deferral, Reason};
use super::record::Record;
use super::renewal::Spec;
use super::time::Timestamp;

pub const WINDOW: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Where neither what certd stored nor what is asked for tells a lifetime.
const USUAL_LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Also where a certificate would be due as soon as it is there, so that its interval implies nothing.
const LEAST: usize = 2;

/// So many more for a reason that cannot wait: a hard bound for somebody who overwrites the key every minute.
const MORE_WHERE_URGENT: usize = 5;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// The wait after a certificate that was issued and not stored, by how many were issued within seven days. After the
/// first, the backoff of any failure is enough. No more than five are issued within seven days, which is also what
/// Let's Encrypt allows for one set of names.
const WAITS: [Duration; 6] =
    [Duration::ZERO, Duration::ZERO, HOUR.saturating_mul(6), DAY, DAY.saturating_mul(2), DAY.saturating_mul(4)];
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Names a set of names: two entries with the same names, in whatever order, are one set.
pub fn name_set(names: &[San]) -> String {
    let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    names.join(",")
}

/// Returns when another certificate may be issued for the place, and what forbids one until then.
pub fn reached(
    record: &Record,
    spec: &Spec,
    leaf: Option<&Certificate>,
    reason: Reason,
    now: Timestamp,
) -> Option<(Timestamp, Deferral)> {
    let interval = interval(record, spec, leaf);
    let stored = within(&record.closed, now);
    let limited = limited(&stored, most_within(interval) + more(reason));
    let waits = not_stored(&within(&record.unused, now), stored.len(), interval, now);
    [limited, waits].into_iter().flatten().max_by_key(|(until, _)| *until)
}

/// Counts what was stored for the place within seven days, and what was issued for it and not stored.
pub fn counts(record: &Record, now: Timestamp) -> (usize, usize) {
    (within(&record.closed, now).len(), within(&record.unused, now).len())
}

fn limited(stored: &[Timestamp], most: usize) -> Option<(Timestamp, Deferral)> {
    let excess = stored.len().checked_sub(most)?;
    Some((stored[excess].plus(WINDOW), Deferral::WeeklyLimit { stored: stored.len(), most }))
}

/// No longer than half an interval, so that a short-lived certificate has two attempts before it is due again.
fn not_stored(
    unused: &[Timestamp],
    stored: usize,
    interval: Duration,
    now: Timestamp,
) -> Option<(Timestamp, Deferral)> {
    let wait = WAITS[(unused.len() + stored).min(WAITS.len() - 1)].min(interval / 2);
    let until = unused.last().filter(|_| unused.len() > 1)?.plus(wait);
    (now < until).then_some((until, Deferral::NotStored { issued: unused.len() }))
}

/// What a person must not wait a week for: a key that leaked, a certificate that no server can use, and a change of what
/// the configuration asks for.
fn more(reason: Reason) -> usize {
    match reason {
        Reason::Revoked | Reason::KeyMismatch | Reason::NamesChanged | Reason::KeyTypeChanged => MORE_WHERE_URGENT,
        Reason::Missing | Reason::Due | Reason::Advised | Reason::Untrusted | Reason::NotYetValid | Reason::Forced => 0,
    }
}

/// The oldest first. What lies ahead was noted by a clock that was wrong.
fn within(times: &[Timestamp], now: Timestamp) -> Vec<Timestamp> {
    let mut times: Vec<Timestamp> = times.iter().copied().filter(|at| *at <= now && at.until(now) < WINDOW).collect();
    times.sort();
    times
}

fn most_within(interval: Duration) -> usize {
    if interval.is_zero() {
        return LEAST;
    }
    let implied = WINDOW.as_secs().div_ceil(interval.as_secs().max(1));
    usize::try_from(2 * implied).unwrap_or(usize::MAX).max(LEAST)
}

/// From one renewal to the next. A certificate that somebody else put there tells nothing: a short one would lift the
/// limit.
fn interval(record: &Record, spec: &Spec, leaf: Option<&Certificate>) -> Duration {
    let own = leaf.filter(|leaf| record.wrote == Some(leaf.fingerprint));
    let found = own.map(|leaf| leaf.not_before.until(spec.renewal.due_at(leaf)));
    let stored = record.wrote_for().map(|lifetime| spec.renewal.interval(lifetime));
    let asked = spec.lifetime.map(|lifetime| spec.renewal.interval(lifetime));
    let shortest = [found, stored, asked].into_iter().flatten().min();
    shortest.unwrap_or(spec.renewal.interval(USUAL_LIFETIME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cert::Fingerprint;
    use crate::domain::policy::{RenewalPolicy, Threshold};
    use crate::domain::sample::{DAY, NOW, SECOND, leaf, sans, spec};

    const NAME: &str = "a.example.org";
    const HOURS: u64 = 3_600;

    /// What certd stored, of such a lifetime.
    fn lasting(lifetime: Duration) -> Certificate {
        Certificate { not_before: NOW, not_after: NOW.plus(lifetime), ..leaf(&[NAME]) }
    }

    fn ago(days: &[u32]) -> Vec<Timestamp> {
        days.iter().map(|days| NOW.minus(*days * DAY)).collect()
    }

    fn stored_ago(days: &[u32]) -> Record {
        Record { closed: ago(days), wrote: Some(leaf(&[NAME]).fingerprint), ..Record::default() }
    }

    fn most_for(record: &Record, leaf: Option<&Certificate>, reason: Reason) -> Option<(usize, usize, Duration)> {
        let (until, reached) = super::reached(record, &spec(&[NAME]), leaf, reason, NOW)?;
        let Deferral::WeeklyLimit { stored, most } = reached else { panic!("{reached:?}") };
        Some((stored, most, NOW.until(until)))
    }

    fn most(record: &Record, leaf: Option<&Certificate>) -> Option<(usize, usize, Duration)> {
        most_for(record, leaf, Reason::Due)
    }

    #[test]
    fn what_would_be_due_as_soon_as_it_is_there_implies_nothing_and_two_are_the_most() {
        let at_once = RenewalPolicy(Some(Threshold::Left(400 * DAY)));
        let spec = Spec { renewal: at_once, ..spec(&[NAME]) };
        let own = lasting(90 * DAY);
        let (_, reached) = super::reached(&stored_ago(&[1, 3]), &spec, Some(&own), Reason::Due, NOW).unwrap();
        assert_eq!(reached, Deferral::WeeklyLimit { stored: 2, most: 2 });
    }

    #[test]
    fn two_within_seven_days_are_the_least_and_the_oldest_of_them_says_when_there_may_be_another() {
        assert_eq!(most(&stored_ago(&[]), None), None);
        assert_eq!(most(&stored_ago(&[1]), None), None);
        assert_eq!(most(&stored_ago(&[3, 1]), None), Some((2, 2, 4 * DAY)));
        assert_eq!(most(&stored_ago(&[1, 3]), None), Some((2, 2, 4 * DAY)), "in any order");
        assert_eq!(most(&stored_ago(&[5, 3, 1]), None), Some((3, 2, 4 * DAY)), "two must have passed");
        assert_eq!(most(&stored_ago(&[7, 1]), None), None, "the older one is out of the window");
        assert_eq!(most(&stored_ago(&[3, 1]), Some(&lasting(398 * DAY))), Some((2, 2, 4 * DAY)));
    }

    #[test]
    fn short_lifetimes_imply_more() {
        let six = lasting(6 * DAY);
        let record = stored_ago(&[]);
        let interval = interval(&record, &spec(&[NAME]), Some(&six));
        assert!(2 * DAY < interval && interval <= 3 * DAY, "{interval:?}");
        assert_eq!(most_within(interval), 6);
        assert_eq!(most_within(WINDOW), 2);
        assert_eq!(most_within(WINDOW - SECOND), 4);
        assert_eq!(most_within(SECOND), 2 * 7 * 86_400);
        assert_eq!(most_within(Duration::ZERO), 2);
        let asked = Spec { lifetime: Some(6 * DAY), ..spec(&[NAME]) };
        let long = Some(lasting(398 * DAY));
        assert_eq!(super::interval(&record, &asked, long.as_ref()), 3 * DAY, "what is asked for counts too");
    }

    #[test]
    fn a_short_certificate_that_somebody_else_put_there_does_not_lift_the_limit() {
        let planted = Certificate { fingerprint: Fingerprint([7; 32]), ..lasting(60 * SECOND) };
        assert_eq!(most(&stored_ago(&[3, 1]), Some(&planted)), Some((2, 2, 4 * DAY)));
        let short = Record { wrote_until: Some(NOW.plus(5 * DAY)), ..stored_ago(&[3, 1]) };
        assert_eq!(short.wrote_for(), Some(6 * DAY));
        assert_eq!(most(&short, Some(&planted)), None, "by what certd stored last, six are the most");
        assert_eq!(most(&stored_ago(&[3, 1]), Some(&lasting(6 * DAY))), None, "its own tells, too");
    }

    #[test]
    fn what_cannot_wait_for_a_week_has_five_more_and_nothing_else_has() {
        for reason in Reason::ALL {
            let cannot_wait = [Reason::Revoked, Reason::KeyMismatch, Reason::NamesChanged, Reason::KeyTypeChanged];
            let is_urgent = cannot_wait.contains(&reason);
            let two = most_for(&stored_ago(&[3, 1]), None, reason);
            assert_eq!(two, (!is_urgent).then_some((2, 2, 4 * DAY)), "{reason:?}");
            let seven = most_for(&stored_ago(&[6, 5, 4, 3, 2, 1, 1]), None, reason);
            let expected = if is_urgent { (7, 7, DAY) } else { (7, 2, 6 * DAY) };
            assert_eq!(seven, Some(expected), "{reason:?}");
        }
        assert_eq!(most_for(&stored_ago(&[6, 5, 4, 3, 2, 1]), None, Reason::Revoked), None);
    }

    /// After so many that were issued just now and not stored, beside so many that were.
    fn waits(unused: usize, stored: usize, spec: &Spec) -> Option<u64> {
        let record = Record { unused: vec![NOW; unused], closed: vec![NOW; stored], ..Record::default() };
        let (until, deferral) = super::reached(&record, spec, None, Reason::Revoked, NOW)?;
        assert_eq!(deferral, Deferral::NotStored { issued: unused });
        Some(NOW.until(until).as_secs() / HOURS)
    }

    #[test]
    fn what_is_issued_and_not_stored_waits_for_longer_each_time_and_for_four_days_at_most() {
        let spec = spec(&[NAME]);
        let hours = |unused| waits(unused, 0, &spec);
        assert_eq!([0, 1, 2, 3, 4, 5, 9].map(hours), [None, None, Some(6), Some(24), Some(48), Some(96), Some(96)]);
        assert_eq!(waits(1, 1, &spec), None, "once may be mended at once");
        assert_eq!(waits(2, 1, &spec), Some(24), "what was stored makes the wait longer");
        assert_eq!(waits(2, 3, &spec), Some(96));
        assert_eq!(waits(0, 4, &spec), None);
        let short = Spec { lifetime: Some(Duration::from_secs(8 * HOURS)), ..spec };
        assert_eq!(waits(9, 0, &short), Some(2), "half an interval");
    }

    #[test]
    fn the_wait_is_counted_from_the_newest_and_ends_at_its_instant() {
        let waiting = |newest: Duration| {
            let unused = vec![NOW.minus(6 * DAY), NOW.minus(newest)];
            let record = Record { unused, ..Record::default() };
            super::reached(&record, &spec(&[NAME]), None, Reason::Due, NOW).map(|(until, _)| until)
        };
        let six_hours = Duration::from_secs(6 * HOURS);
        assert_eq!(waiting(six_hours - SECOND), Some(NOW.plus(SECOND)));
        assert_eq!(waiting(six_hours), None);
        let ahead = Record { unused: vec![NOW.plus(SECOND); 9], ..Record::default() };
        assert_eq!(super::reached(&ahead, &spec(&[NAME]), None, Reason::Due, NOW), None, "by a clock that was wrong");
        let long_ago = Record { unused: vec![NOW.minus(WINDOW); 9], ..Record::default() };
        assert_eq!(counts(&long_ago, NOW), (0, 0));
    }

    /// A CA whose certificates are refused each time, asked as soon as it may be.
    #[test]
    fn five_certificates_that_are_never_stored_are_the_most_within_seven_days() {
        let (mut record, mut now) = (Record::default(), NOW);
        while NOW.until(now) < 4 * WINDOW {
            match super::reached(&record, &spec(&[NAME]), None, Reason::Due, now) {
                Some((until, _)) => now = until,
                None => {
                    record.unused.push(now);
                    now = now.plus(60 * SECOND);
                }
            }
            assert!(counts(&record, now).1 <= 5, "{record:?}");
        }
        assert!(record.unused.len() > 9, "it is tried again and again: {record:?}");
    }

    #[test]
    fn the_later_of_limit_and_wait_is_told() {
        let both = Record { unused: vec![NOW.minus(DAY); 1], ..stored_ago(&[3, 1]) };
        assert_eq!(most(&both, None), Some((2, 2, 4 * DAY)));
        let refused = Record { unused: vec![NOW; 4], ..stored_ago(&[6, 6]) };
        let (until, told) = super::reached(&refused, &spec(&[NAME]), None, Reason::Due, NOW).unwrap();
        assert_eq!((NOW.until(until), told), (4 * DAY, Deferral::NotStored { issued: 4 }));
    }

    #[test]
    fn a_name_set_is_the_same_in_any_order() {
        assert_eq!(name_set(&sans(&["b.c", "a.b", "b.c"])), "a.b,b.c");
    }

    #[test]
    fn what_a_wrong_clock_noted_ahead_counts_for_nothing() {
        let ahead = Record { closed: vec![NOW.plus(SECOND); 9], ..Record::default() };
        assert_eq!(most(&ahead, None), None);
    }
}
