//! How often something may be done: evenly spread, so that a limit a second also holds within the second.

use std::time::Duration;

const SECOND_IN_NANOS: u64 = 1_000_000_000;

/// One turn after another, each so long after the one before. Turns that nobody took are not made up for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    apart: Duration,
    /// When the next turn is free, on the same clock as `now` of [`Pace::take`].
    next: Duration,
}

impl Pace {
    pub fn per_second(rate: u32) -> Self {
        let apart = SECOND_IN_NANOS.div_ceil(u64::from(rate.max(1)));
        Self { apart: Duration::from_nanos(apart), next: Duration::ZERO }
    }

    /// Takes the next turn, and says when it comes: `now` or later. Any clock will do that never goes back.
    pub fn take(&mut self, now: Duration) -> Duration {
        let turn = self.next.max(now);
        self.next = turn + self.apart;
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn turns_asked_for_at_once_come_one_after_another() {
        let mut pace = Pace::per_second(500);
        let turns: Vec<_> = (0..4).map(|_| pace.take(millis(100))).collect();
        assert_eq!(turns, [millis(100), millis(102), millis(104), millis(106)]);
    }

    #[test]
    fn a_turn_that_is_free_comes_at_once_and_idle_time_saves_up_nothing() {
        let mut pace = Pace::per_second(10);
        assert_eq!(pace.take(millis(0)), millis(0));
        assert_eq!(pace.take(millis(99)), millis(100));
        assert_eq!(pace.take(millis(200)), millis(200));
        assert_eq!(pace.take(millis(5_000)), millis(5_000));
        assert_eq!(pace.take(millis(5_000)), millis(5_100));
    }

    #[test]
    fn no_second_holds_more_turns_than_were_allowed_even_where_they_do_not_divide_it() {
        for rate in [1, 3, 7, 999] {
            let mut pace = Pace::per_second(rate);
            let turns: Vec<_> = (0..=rate).map(|_| pace.take(millis(0))).collect();
            assert!(turns[turns.len() - 1] >= Duration::from_secs(1), "{rate}");
            assert!(turns[turns.len() - 2] < Duration::from_secs(1), "{rate}");
        }
    }

    #[test]
    fn no_turns_at_all_would_stop_everything_so_the_least_is_one_a_second() {
        assert_eq!(Pace::per_second(0), Pace::per_second(1));
    }
}
