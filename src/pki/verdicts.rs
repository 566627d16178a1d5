//! Verdicts on chains, remembered from sweep to sweep: a chain is judged once, however often it is seen.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::roots::TooCostly;
use crate::domain::cert::Trust;

type Verdict = Result<Trust, TooCostly>;

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

/// Two generations: what is asked for moves to the young one, and what nobody asks for goes with the old one.
#[derive(Default)]
struct Memory {
    young: HashMap<Asked, Verdict>,
    old: HashMap<Asked, Verdict>,
}

static MEMORY: LazyLock<Mutex<Memory>> = LazyLock::new(Mutex::default);

/// Returns the verdict of before, or judges. Two threads may judge the same at once.
pub(super) fn remembered(asked: Asked, judge: impl FnOnce() -> Verdict) -> Verdict {
    let known = MEMORY.lock().unwrap_or_else(PoisonError::into_inner).find(asked);
    known.unwrap_or_else(|| {
        let verdict = judge();
        MEMORY.lock().unwrap_or_else(PoisonError::into_inner).note(asked, verdict.clone());
        verdict
    })
}

impl Memory {
    fn find(&mut self, asked: Asked) -> Option<Verdict> {
        if let Some(verdict) = self.young.get(&asked) {
            return Some(verdict.clone());
        }
        let verdict = self.old.remove(&asked)?;
        self.note(asked, verdict.clone());
        Some(verdict)
    }

    fn note(&mut self, asked: Asked, verdict: Verdict) {
        if self.young.len() >= MOST {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(asked, verdict);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(number: usize) -> Asked {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        Asked(digest)
    }

    #[test]
    fn what_is_asked_for_again_stays_and_what_nobody_asks_for_goes() {
        let mut memory = Memory::default();
        memory.note(asked(0), Err(TooCostly));
        memory.note(asked(1), Ok(Trust::Verified));
        for number in 2..=MOST {
            memory.note(asked(number), Ok(Trust::Verified));
        }
        assert_eq!(memory.find(asked(0)), Some(Err(TooCostly)));
        for number in MOST + 1..2 * MOST {
            memory.note(asked(number), Ok(Trust::Verified));
        }
        assert_eq!(memory.find(asked(0)), Some(Err(TooCostly)));
        assert_eq!(memory.find(asked(1)), None);
        assert!(memory.young.len() + memory.old.len() <= 2 * MOST);
    }
}
