//! The hard cap on certificates of one set of names: twice what their renewal interval implies in seven days, and at
//! least two. Neither a loop nor a person goes beyond it.

use std::time::Duration;

use super::cert::Certificate;
use super::name::San;
use super::plan::{Deferral, JournalView};
use super::renewal::Spec;
use super::time::Timestamp;

pub const WINDOW: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Where neither what is found nor what is asked for tells a lifetime.
const USUAL_LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Also where a certificate would be due as soon as it is there, so that its interval implies nothing.
const LEAST: usize = 2;

/// Two entries with the same names, in whatever order, are one set.
pub fn name_set(names: &[San]) -> String {
    let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    names.join(",")
}

/// When another certificate may be issued, where the cap is reached.
pub fn reached(
    journal: &JournalView,
    spec: &Spec,
    leaf: Option<&Certificate>,
    now: Timestamp,
) -> Option<(Timestamp, Deferral)> {
    let mut issued = journal.issued.get(&name_set(&spec.names))?.clone();
    // What lies ahead was noted by a clock that was wrong.
    issued.retain(|at| *at <= now && at.until(now) < WINDOW);
    issued.sort();
    let most = most_within(interval(spec, leaf));
    let excess = issued.len().checked_sub(most)?;
    Some((issued[excess].plus(WINDOW), Deferral::NameSetCap { issued: issued.len(), most }))
}

fn most_within(interval: Duration) -> usize {
    if interval.is_zero() {
        return LEAST;
    }
    let implied = WINDOW.as_secs().div_ceil(interval.as_secs().max(1));
    usize::try_from(2 * implied).unwrap_or(usize::MAX).max(LEAST)
}

/// From one renewal to the next.
fn interval(spec: &Spec, leaf: Option<&Certificate>) -> Duration {
    let found = leaf.map(|leaf| leaf.not_before.until(spec.renewal.due_at(leaf)));
    let asked = spec.lifetime.map(|lifetime| spec.renewal.interval(lifetime));
    let shortest = [found, asked].into_iter().flatten().min();
    shortest.unwrap_or(spec.renewal.interval(USUAL_LIFETIME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::{RenewalPolicy, Threshold};
    use crate::domain::sample::{DAY, NOW, SECOND, leaf, sans, spec};

    const NAME: &str = "a.example.org";

    fn lasting(lifetime: Duration) -> Certificate {
        Certificate { not_before: NOW, not_after: NOW.plus(lifetime), ..leaf(&[NAME]) }
    }

    fn issued_ago(days: &[u32]) -> JournalView {
        let issued = days.iter().map(|days| NOW.minus(*days * DAY)).collect();
        JournalView { issued: [(NAME.to_string(), issued)].into(), ..JournalView::default() }
    }

    fn most(journal: &JournalView, leaf: Option<&Certificate>) -> Option<(usize, usize, Duration)> {
        let (until, reached) = super::reached(journal, &spec(&[NAME]), leaf, NOW)?;
        let Deferral::NameSetCap { issued, most } = reached else { panic!("{reached:?}") };
        Some((issued, most, NOW.until(until)))
    }

    #[test]
    fn what_would_be_due_as_soon_as_it_is_there_implies_nothing_and_two_are_the_most() {
        let at_once = RenewalPolicy(Some(Threshold::Left(400 * DAY)));
        let spec = Spec { renewal: at_once, ..spec(&[NAME]) };
        let journal = issued_ago(&[1, 3]);
        let (_, reached) = super::reached(&journal, &spec, Some(&lasting(90 * DAY)), NOW).unwrap();
        assert_eq!(reached, Deferral::NameSetCap { issued: 2, most: 2 });
    }

    #[test]
    fn two_within_seven_days_are_the_least_and_the_oldest_of_them_says_when_there_may_be_another() {
        assert_eq!(most(&issued_ago(&[]), None), None);
        assert_eq!(most(&issued_ago(&[1]), None), None);
        assert_eq!(most(&issued_ago(&[1, 3]), None), Some((2, 2, 4 * DAY)));
        assert_eq!(most(&issued_ago(&[1, 3, 5]), None), Some((3, 2, 4 * DAY)), "two must have passed");
        assert_eq!(most(&issued_ago(&[1, 7]), None), None, "the older one is out of the window");
        assert_eq!(most(&issued_ago(&[1, 3]), Some(&lasting(398 * DAY))), Some((2, 2, 4 * DAY)));
    }

    #[test]
    fn short_lifetimes_imply_more() {
        let six = lasting(6 * DAY);
        let interval = interval(&spec(&[NAME]), Some(&six));
        assert!(2 * DAY < interval && interval <= 3 * DAY, "{interval:?}");
        assert_eq!(most_within(interval), 6);
        assert_eq!(most_within(WINDOW), 2);
        assert_eq!(most_within(WINDOW - SECOND), 4);
        assert_eq!(most_within(SECOND), 2 * 7 * 86_400);
        assert_eq!(most_within(Duration::ZERO), 2);
        let asked = Spec { lifetime: Some(6 * DAY), ..spec(&[NAME]) };
        assert_eq!(super::interval(&asked, Some(&lasting(398 * DAY))), 3 * DAY, "what is asked for counts too");
    }

    #[test]
    fn a_name_set_is_the_same_in_any_order() {
        assert_eq!(name_set(&sans(&["b.c", "a.b", "b.c"])), "a.b,b.c");
    }

    #[test]
    fn what_a_wrong_clock_noted_ahead_counts_for_nothing() {
        let ahead =
            JournalView { issued: [(NAME.to_string(), vec![NOW.plus(SECOND); 9])].into(), ..JournalView::default() };
        assert_eq!(most(&ahead, None), None);
    }
}
