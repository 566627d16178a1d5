//! What opening keystores may cost: their iteration counts are chosen by whoever writes them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::pki::NotUnderstood;

/// The iterations that one place may cost, all its keystores together: three times what is advised for PBKDF2 today, and
/// about a second.
const MOST: u32 = 2_000_000;

/// Up to here a place costs nobody else anything: OpenSSL 3 and Java 17 make keystores of 6,000 to 30,000.
const FREE: u32 = 100_000;

/// Beyond that, all places together may cost so many in a minute: about a third of one core.
const MOST_IN_A_MINUTE: u32 = 40_000_000;

const MINUTE: Duration = Duration::from_secs(60);

/// What has been spent on the keystores of one place.
#[derive(Debug, Default)]
pub struct Effort {
    spent: u32,
}

impl Effort {
    /// Takes these iterations from what the place may cost, before the work is done.
    ///
    /// # Errors
    /// If they are none, or more than is left for this place, or for all in this minute.
    pub fn spend(&mut self, iterations: u32) -> Result<(), NotUnderstood> {
        let spent = self.spent.checked_add(iterations).filter(|spent| iterations > 0 && *spent <= MOST);
        let spent = spent.ok_or(NotUnderstood::Iterations(MOST))?;
        let shared = spent.saturating_sub(FREE) - self.spent.saturating_sub(FREE);
        if shared > 0 && !POOL.lock().unwrap_or_else(PoisonError::into_inner).take(shared, Instant::now()) {
            return Err(NotUnderstood::TooCostlyNow);
        }
        self.spent = spent;
        Ok(())
    }
}

static POOL: Mutex<Pool> = Mutex::new(Pool { since: None, spent: 0 });

/// What all places have spent in this minute.
struct Pool {
    since: Option<Instant>,
    spent: u32,
}

impl Pool {
    fn take(&mut self, iterations: u32, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= MINUTE) {
            *self = Self { since: Some(now), spent: 0 };
        }
        let spent = self.spent.saturating_add(iterations);
        let is_left = spent <= MOST_IN_A_MINUTE;
        if is_left {
            self.spent = spent;
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keystores_of_one_place_share_what_it_may_cost() {
        let mut effort = Effort::default();
        assert_eq!(effort.spend(0), Err(NotUnderstood::Iterations(MOST)));
        assert_eq!(effort.spend(MOST + 1), Err(NotUnderstood::Iterations(MOST)));
        assert_eq!(effort.spend(FREE), Ok(()));
        assert_eq!(effort.spend(MOST - FREE + 1), Err(NotUnderstood::Iterations(MOST)), "the second of two");
        assert_eq!(effort.spend(1), Ok(()));
    }

    #[test]
    fn costly_places_wait_for_the_next_minute_once_others_have_used_this_one_up() {
        let mut pool = Pool { since: None, spent: 0 };
        let now = Instant::now();
        assert!(pool.take(MOST_IN_A_MINUTE, now));
        assert!(!pool.take(1, now + MINUTE - Duration::from_nanos(1)));
        assert!(pool.take(1, now + MINUTE));
    }
}
