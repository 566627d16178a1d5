//! Verdicts on chains, remembered from sweep to sweep: a chain is judged once, however often it is seen.

use std::sync::{LazyLock, Mutex, PoisonError};

use super::generations::Generations;
use super::roots::TooCostly;
use crate::domain::cert::Judged;

type Verdict = Result<Judged, TooCostly>;

/// Twice as many are in memory at most, some 100 bytes each.
const MOST: usize = 65_536;

/// What was judged: a digest over the roots, the leaf and the certificates that a path may have.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Asked([u8; 32]);

impl Asked {
    pub fn of(roots: &[u8; 32], leaf: &[u8], intermediates: &[super::roots::Reachable]) -> Self {
        let digests = intermediates.iter().map(|it| it.certificate.fingerprint.0);
        let parts = [*roots, super::sha256(leaf)].into_iter().chain(digests);
        Self(super::sha256(&parts.flatten().collect::<Vec<u8>>()))
    }
}

static MEMORY: LazyLock<Mutex<Generations<Asked, Verdict>>> = LazyLock::new(|| Mutex::new(Generations::of(MOST)));

/// Returns the verdict of before, or judges. Two threads may judge the same at once.
pub(super) fn remembered(asked: Asked, judge: impl FnOnce() -> Verdict) -> Verdict {
    let memory = || MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let known = memory().find(&asked);
    known.unwrap_or_else(|| {
        let verdict = judge();
        if verdict != Err(TooCostly::Now) {
            memory().note(asked, verdict.clone());
        }
        verdict
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cert::Trust;

    fn verified() -> Judged {
        Trust::Verified.into()
    }

    #[test]
    fn what_is_too_costly_is_remembered_and_what_is_so_now_is_judged_again() {
        let judged = |asked, verdict: Verdict| remembered(Asked(asked), || verdict);
        assert_eq!(judged([1; 32], Err(TooCostly::Ever)), Err(TooCostly::Ever));
        assert_eq!(judged([1; 32], Ok(verified())), Err(TooCostly::Ever));
        assert_eq!(judged([2; 32], Err(TooCostly::Now)), Err(TooCostly::Now));
        assert_eq!(judged([2; 32], Ok(verified())), Ok(verified()));
        assert_eq!(judged([2; 32], Err(TooCostly::Now)), Ok(verified()));
    }
}
