//! How many orders an issuer is sent in an hour, at most: a bound of the operator's, well below the CA's own.

use std::time::Duration;

use super::name::IssuerName;
use super::plan::JournalView;
use super::time::Timestamp;

pub const WINDOW: Duration = Duration::from_secs(60 * 60);

/// When another order may be placed, where the bound is reached.
pub fn reached(journal: &JournalView, issuer: &IssuerName, most: u32, now: Timestamp) -> Option<Timestamp> {
    let mut placed = journal.ordered.get(issuer)?.clone();
    // What lies ahead was noted by a clock that was wrong.
    placed.retain(|at| *at <= now && at.until(now) < WINDOW);
    placed.sort();
    let excess = placed.len().checked_sub(usize::try_from(most).unwrap_or(usize::MAX))?;
    placed.get(excess).map(|at| at.plus(WINDOW))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::{NOW, SECOND};

    fn free_in(placed_ago: &[u32], most: u32) -> Option<Duration> {
        let placed = placed_ago.iter().map(|ago| NOW.minus(*ago * SECOND)).collect();
        let journal = JournalView { ordered: [("ca".into(), placed)].into(), ..JournalView::default() };
        reached(&journal, &"ca".into(), most, NOW).map(|until| NOW.until(until))
    }

    #[test]
    fn the_oldest_of_those_within_an_hour_says_when_there_is_room_again() {
        assert_eq!(free_in(&[], 1), None);
        assert_eq!(free_in(&[10], 2), None);
        assert_eq!(free_in(&[10, 20], 2), Some(3580 * SECOND));
        assert_eq!(free_in(&[20, 10], 2), Some(3580 * SECOND), "in any order");
        assert_eq!(free_in(&[10, 20, 30], 2), Some(3580 * SECOND), "two must have passed");
        assert_eq!(free_in(&[0, 3599], 2), Some(SECOND));
        assert_eq!(free_in(&[0, 3600], 2), None, "an hour ago is no longer within it");
    }

    #[test]
    fn no_issuer_pays_for_another_nor_for_a_clock_that_was_ahead() {
        let ahead = vec![NOW.plus(SECOND); 9];
        let journal = JournalView { ordered: [("ca".into(), ahead)].into(), ..JournalView::default() };
        assert_eq!(reached(&journal, &"ca".into(), 1, NOW), None);
        assert_eq!(reached(&journal, &"other".into(), 0, NOW), None);
    }

    #[test]
    fn an_order_of_this_very_second_counts() {
        assert_eq!(free_in(&[0], 1), Some(WINDOW));
    }
}
