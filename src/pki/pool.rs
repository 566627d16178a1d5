//! What all places together may cost in a minute.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// What is left of it for the minute that began with the first to take something.
pub(super) struct Pool {
    most: u32,
    minute: Mutex<Minute>,
}

struct Minute {
    since: Option<Instant>,
    spent: u32,
}

impl Pool {
    pub const fn of(most: u32) -> Self {
        Self { most, minute: Mutex::new(Minute { since: None, spent: 0 }) }
    }

    /// Takes this much, or nothing where less is left.
    pub fn take(&self, amount: u32, now: Instant) -> bool {
        let mut minute = self.minute(now);
        let spent = minute.spent.saturating_add(amount);
        let is_left = spent <= self.most;
        if is_left {
            minute.spent = spent;
        }
        is_left
    }

    /// Notes what something cost of which nobody knew before.
    pub fn spend(&self, amount: u32, now: Instant) {
        let mut minute = self.minute(now);
        minute.spent = minute.spent.saturating_add(amount);
    }

    fn minute(&self, now: Instant) -> std::sync::MutexGuard<'_, Minute> {
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        if minute.since.is_none_or(|since| now.duration_since(since) >= MINUTE) {
            *minute = Minute { since: Some(now), spent: 0 };
        }
        minute
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_late_waits_for_the_next_minute_once_others_have_used_this_one_up() {
        let (pool, now) = (Pool::of(10), Instant::now());
        assert!(pool.take(9, now));
        assert!(!pool.take(2, now), "nothing is taken of it");
        assert!(pool.take(1, now));
        assert!(!pool.take(1, now + MINUTE - Duration::from_nanos(1)));
        assert!(pool.take(10, now + MINUTE));
    }

    #[test]
    fn what_was_spent_beyond_it_is_owed_until_the_next_minute() {
        let (pool, now) = (Pool::of(10), Instant::now());
        pool.spend(u32::MAX, now);
        pool.spend(1, now);
        assert!(!pool.take(0, now));
        assert!(pool.take(0, now + MINUTE));
    }
}
