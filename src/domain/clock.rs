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
    /// `behind` is what this host's clock is behind that of the Vault; else it is ahead.
    Vault {
        heard: VaultName,
        apart: Duration,
        behind: bool,
    },
    Journal {
        last: Timestamp,
    },
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeforeItWasWritten => {
                write!(f, "this host's clock is wrong: it shows a time before this certd was written; set it")
            }
            Self::Vault { heard, apart, behind } => {
                let (apart, where_to) = (about(*apart), if *behind { "behind" } else { "ahead of" });
                write!(f, "this host's clock is {apart} {where_to} that of vault {heard}: set the wrong one")
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
        let (apart, behind) = (apart(other.now(), now), now < other.now());
        return Some(Doubt::Vault { heard: other.vault.clone(), apart, behind });
    }
    let last = last_noted.filter(|last| is_ahead(*last, now))?;
    Some(Doubt::Journal { last })
}

/// Later than clocks differ.
pub fn is_ahead(at: Timestamp, now: Timestamp) -> bool {
    now.until(at) > TOLERANCE
}

/// An instant that certd noted for itself and that lies further ahead than `longest`: noted by a clock that was wrong.
pub fn believable(at: Timestamp, now: Timestamp, longest: Duration) -> Option<Timestamp> {
    (now.until(at) <= longest).then_some(at)
}

/// In whole units that a second more or less does not change, so that one doubt is told once.
fn about(apart: Duration) -> String {
    match apart.as_secs() + 30 {
        seconds @ 0..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..259_200 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
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

    fn vault(apart: Duration, behind: bool) -> Option<Doubt> {
        Some(Doubt::Vault { heard: "main".into(), apart, behind })
    }

    #[test]
    fn each_doubt_says_which_clock_and_what_to_do() {
        assert_eq!((TOLERANCE.as_secs(), FRESH.as_secs()), (300, 600));
        let told = |doubt: Doubt| doubt.to_string();
        assert!(told(Doubt::BeforeItWasWritten).contains("before this certd was written; set it"));
        let vault = |seconds, behind| told(vault(Duration::from_secs(seconds), behind).unwrap());
        assert_eq!(vault(301, true), "this host's clock is 5 min behind that of vault main: set the wrong one");
        assert_eq!(vault(7_169, false), "this host's clock is 119 min ahead of that of vault main: set the wrong one");
        let apart = [(7_170, "2 h"), (259_168, "71 h"), (259_170, "3 days"), (400 * 86_400, "400 days")];
        for (seconds, told) in apart {
            assert!(vault(seconds, true).contains(&format!(" {told} behind ")), "{seconds}");
            assert!(vault(seconds + 1, true).contains(&format!(" {told} behind ")), "{seconds} and one");
        }
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
        assert_eq!(differing(NOW.plus(TOLERANCE + SECOND)), vault(TOLERANCE + SECOND, true));
        assert_eq!(differing(NOW.minus(TOLERANCE)), None);
        assert_eq!(differing(NOW.minus(TOLERANCE + SECOND)), vault(TOLERANCE + SECOND, false));
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
        assert_eq!(doubt(NOW, &all, None), vault(DAY, true));
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
