//! What opening keystores may cost: their iteration counts are chosen by whoever writes them.

use std::time::Instant;

use crate::pki::NotUnderstood;
use crate::pki::pool::Pool;

/// The iterations that one place may cost, all its keystores together: three times what is advised for PBKDF2 today, and
/// about a second.
const MOST: u32 = 2_000_000;

/// Up to here a place costs nobody else anything: OpenSSL 3 and Java 17 make keystores of 6,000 to 30,000.
const FREE: u32 = 100_000;

/// Beyond that, all places together may cost so many in a minute: about a third of one core.
const MOST_IN_A_MINUTE: u32 = 40_000_000;

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
        if shared > 0 && !POOL.take(shared, Instant::now()) {
            return Err(NotUnderstood::TooCostlyNow);
        }
        self.spent = spent;
        Ok(())
    }
}

static POOL: Pool = Pool::of(MOST_IN_A_MINUTE);

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
}
