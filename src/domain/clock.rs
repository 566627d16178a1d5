//! Whether this host's clock can be right. Nothing is decided by one that cannot.

use std::fmt;
use std::time::Duration;

use super::name::VaultName;
use super::time::Timestamp;

/// Some weeks before this version was written: no right clock shows less.
const WRITTEN_AT: Timestamp = Timestamp(1_793_491_200);

/// Hosts that ask a time server differ by far less, and no renewal hangs on it.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// What a server said longer ago than this says nothing: a host that slept counts its sleep in no monotonic clock.
const FRESH: Duration = Duration::from_secs(10 * 60);

/// What a Vault said of the time (`Date`, RFC 9110, section 6.6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub vault: VaultName,
    pub date: Timestamp,
    /// Since then, by a monotonic clock.
    pub age: Duration,
}

impl Heard {
    fn now(&self) -> Timestamp {
        self.date.plus(self.age)
    }

    fn agrees(&self, now: Timestamp) -> bool {
        apart(self.now(), now) <= TOLERANCE
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    BeforeItWasWritten,
    Vault { heard: VaultName, its: Timestamp },
    Journal { last: Timestamp },
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeforeItWasWritten => {
                write!(f, "this host's clock is wrong: it shows a time before this certd was written; set it")
            }
            Self::Vault { heard, its } => {
                write!(f, "this host's clock and that of vault {heard} differ, where it is {its}: set the wrong one")
            }
            Self::Journal { last } => write!(
                f,
                "this host's clock shows a time before {last}, when certd last acted: set it, or say that it is right \
                 by `certd resume`"
            ),
        }
    }
}

/// A Vault that agrees outweighs a journal from a time that has not come yet; one that does not is a doubt whatever
/// else agrees.
pub fn doubt(now: Timestamp, heard: &[Heard], last_noted: Option<Timestamp>) -> Option<Doubt> {
    if now < WRITTEN_AT {
        return Some(Doubt::BeforeItWasWritten);
    }
    let mut fresh = heard.iter().filter(|heard| heard.age < FRESH).peekable();
    if fresh.peek().is_some() {
        let other = fresh.find(|heard| !heard.agrees(now))?;
        return Some(Doubt::Vault { heard: other.vault.clone(), its: other.now() });
    }
    let last = last_noted.filter(|last| now.until(*last) > TOLERANCE)?;
    Some(Doubt::Journal { last })
}

/// An instant that certd noted for itself and that lies further ahead than `longest`: noted by a clock that was wrong.
pub fn believable(at: Timestamp, now: Timestamp, longest: Duration) -> Option<Timestamp> {
    (now.until(at) <= longest).then_some(at)
}

fn apart(a: Timestamp, b: Timestamp) -> Duration {
    a.until(b).max(b.until(a))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::{DAY, NOW, SECOND};

    fn heard(date: Timestamp, age: Duration) -> Heard {
        Heard { vault: "main".into(), date, age }
    }

    fn vault(its: Timestamp) -> Option<Doubt> {
        Some(Doubt::Vault { heard: "main".into(), its })
    }

    #[test]
    fn each_doubt_says_which_clock_and_what_to_do() {
        assert_eq!((TOLERANCE.as_secs(), FRESH.as_secs()), (300, 600));
        let told = |doubt: Doubt| doubt.to_string();
        assert!(told(Doubt::BeforeItWasWritten).contains("before this certd was written; set it"));
        let vault = told(Doubt::Vault { heard: "main".into(), its: Timestamp(0) });
        assert!(vault.contains("vault main differ, where it is 1970-01-01T00:00:00Z"), "{vault}");
        assert!(told(Doubt::Journal { last: Timestamp(0) }).contains("certd resume"));
    }

    #[test]
    fn no_right_clock_shows_a_time_before_this_was_written() {
        let agrees = [heard(WRITTEN_AT.minus(SECOND), Duration::ZERO)];
        assert_eq!(doubt(WRITTEN_AT.minus(SECOND), &agrees, None), Some(Doubt::BeforeItWasWritten));
        assert_eq!(doubt(WRITTEN_AT, &[], None), None);
        assert_eq!(doubt(Timestamp(0), &[], None), Some(Doubt::BeforeItWasWritten));
    }

    #[test]
    fn a_vault_may_differ_by_five_minutes_and_no_second_more_in_either_direction() {
        let differing = |date| doubt(NOW, &[heard(date, Duration::ZERO)], None);
        assert_eq!(differing(NOW.plus(TOLERANCE)), None);
        assert_eq!(differing(NOW.plus(TOLERANCE + SECOND)), vault(NOW.plus(TOLERANCE + SECOND)));
        assert_eq!(differing(NOW.minus(TOLERANCE)), None);
        assert_eq!(differing(NOW.minus(TOLERANCE + SECOND)), vault(NOW.minus(TOLERANCE + SECOND)));
    }

    #[test]
    fn what_passed_since_a_vault_spoke_is_added_and_what_it_said_long_ago_is_nothing() {
        let ago = |age| doubt(NOW, &[heard(NOW.minus(400 * DAY).minus(age), age)], None).is_some();
        assert!(ago(FRESH - SECOND));
        assert!(!ago(FRESH));
        assert_eq!(doubt(NOW, &[heard(NOW.minus(FRESH / 2), FRESH / 2)], None), None);
    }

    #[test]
    fn of_several_vaults_one_that_differs_is_a_doubt() {
        let all = [heard(NOW, Duration::ZERO), heard(NOW.plus(DAY), Duration::ZERO)];
        assert_eq!(doubt(NOW, &all, None), vault(NOW.plus(DAY)));
    }

    #[test]
    fn a_journal_that_is_ahead_is_a_doubt_unless_a_vault_agrees_with_the_clock() {
        let ahead = |by| doubt(NOW, &[], Some(NOW.plus(by)));
        assert_eq!(ahead(TOLERANCE), None);
        assert_eq!(ahead(TOLERANCE + SECOND), Some(Doubt::Journal { last: NOW.plus(TOLERANCE + SECOND) }));
        assert_eq!(doubt(NOW, &[], Some(NOW.minus(400 * DAY))), None, "a long sleep is no doubt");
        assert_eq!(doubt(NOW, &[heard(NOW, Duration::ZERO)], Some(NOW.plus(400 * DAY))), None);
    }

    #[test]
    fn what_was_noted_further_ahead_than_it_ever_is_was_noted_by_a_wrong_clock() {
        assert_eq!(believable(NOW.plus(DAY), NOW, DAY), Some(NOW.plus(DAY)));
        assert_eq!(believable(NOW.plus(DAY + SECOND), NOW, DAY), None);
        assert_eq!(believable(NOW.minus(DAY), NOW, Duration::ZERO), Some(NOW.minus(DAY)));
    }
}
