//! When a certificate is due, and how much lifetime left is too little.

use std::time::Duration;

use super::cert::{Certificate, Chain, Fingerprint};
use super::time::Timestamp;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Lifetimes under this are renewed at a half, as CAs with six-day profiles advise.
const SHORT_LIFETIME: Duration = Duration::from_secs(10 * 24 * 60 * 60);

/// Renewals spread over this part of the lifetime, before the moment they are due at the latest.
const SPREAD: Share = Share::millionths(50_000);

/// So many parts that millionths, thirds and sixths are all whole numbers of them.
const WHOLE: u32 = 3_000_000;

/// A part of a whole, exact to the second for the shares that people ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    pub const fn millionths(millionths: u32) -> Self {
        Self(millionths * (WHOLE / 1_000_000))
    }

    pub const fn percent(percent: u32) -> Self {
        Self(percent * (WHOLE / 100))
    }

    /// One part in `parts`.
    pub const fn one_in(parts: u32) -> Self {
        Self(WHOLE / parts)
    }

    pub fn of(self, whole: Duration) -> Duration {
        let seconds = u128::from(whole.as_secs()) * u128::from(self.0) / u128::from(WHOLE);
        Duration::from_secs(seconds.try_into().unwrap_or(u64::MAX))
    }
}

/// How much of the lifetime must be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    Share(Share),
    Left(Duration),
}

impl Threshold {
    /// The instant from which less than this is left.
    pub fn reached_at(self, certificate: &Certificate) -> Timestamp {
        self.reached_before(certificate.not_after, certificate.lifetime())
    }

    /// Returns the instant from which less than this is left until `end`.
    pub fn reached_before(self, end: Timestamp, lifetime: Duration) -> Timestamp {
        end.minus(match self {
            Self::Share(share) => share.of(lifetime),
            Self::Left(left) => left,
        })
    }
}

/// When `certd check` warns and when it calls the night shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    pub warning: Threshold,
    pub critical: Threshold,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { warning: Threshold::Share(Share::one_in(6)), critical: Threshold::Share(Share::one_in(20)) }
    }
}

/// When to renew; `None` is a third of the lifetime left, or a half under ten days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenewalPolicy(pub Option<Threshold>);

impl RenewalPolicy {
    /// The instant from which the certificate is due: the same on every host, after every restart.
    pub fn due_at(self, certificate: &Certificate) -> Timestamp {
        let threshold = self.0.unwrap_or_else(|| default_threshold(certificate.lifetime()));
        threshold.reached_at(certificate).minus(spread(certificate))
    }

    /// Returns when a chain is due: as its leaf, and earlier by as much as the CA that signed it ends earlier.
    pub fn due_of(self, chain: &Chain) -> Timestamp {
        self.due_at(&chain.leaf).minus(chain.usable().until.until(chain.leaf.not_after))
    }

    /// From the beginning of such a lifetime to when it is due, the spread aside.
    pub fn interval(self, lifetime: Duration) -> Duration {
        let left = match self.0.unwrap_or_else(|| default_threshold(lifetime)) {
            Threshold::Share(share) => share.of(lifetime),
            Threshold::Left(left) => left,
        };
        lifetime.saturating_sub(left)
    }
}

fn default_threshold(lifetime: Duration) -> Threshold {
    Threshold::Share(if lifetime < SHORT_LIFETIME { Share::one_in(2) } else { Share::one_in(3) })
}

fn spread(certificate: &Certificate) -> Duration {
    let window = SPREAD.of(certificate.lifetime()).min(3 * DAY).as_secs();
    Duration::from_secs(draw(&certificate.fingerprint) % (window + 1))
}

/// Dice that fall the same way each time.
fn draw(fingerprint: &Fingerprint) -> u64 {
    let mut head = [0; 8];
    head.copy_from_slice(&fingerprint.0[..8]);
    u64::from_be_bytes(head)
}

/// Waits after failures: 1, 10 and 100 minutes, then a day.
const BACKOFF: [Duration; 4] = [Duration::from_secs(60), Duration::from_secs(600), Duration::from_secs(6_000), DAY];

/// No attempt waits for longer: a day, a tenth of it added, and what an issuer may ask for is no more.
pub const LONGEST_WAIT: Duration = Duration::from_secs(27 * 60 * 60);

/// When to try again after `failures` in a row, the last one at `failed_at`; up to a tenth is added
/// by the name's own draw, and never more than a tenth of the validity left is waited.
pub fn retry_at(failures: u32, failed_at: Timestamp, name: &str, not_after: Option<Timestamp>) -> Timestamp {
    let step = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX).min(BACKOFF.len() - 1);
    let base = BACKOFF[step];
    let jitter = Duration::from_secs(name_draw(name) % (base.as_secs() / 10 + 1));
    let wait = base + jitter;
    let left = not_after.map(|end| failed_at.until(end)).filter(|left| !left.is_zero());
    let longest = left.map_or(wait, |left| (left / 10).max(BACKOFF[0]));
    failed_at.plus(wait.min(longest))
}

/// FNV-1a: any fixed mixing of the name does.
fn name_draw(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::sample::{NOW, SECOND, leaf};

    const MINUTE: Duration = Duration::from_secs(60);

    fn lasting(lifetime: Duration, fingerprint: [u8; 32]) -> Certificate {
        Certificate {
            not_before: NOW,
            not_after: NOW.plus(lifetime),
            fingerprint: Fingerprint(fingerprint),
            ..leaf(&["a"])
        }
    }

    fn due(policy: RenewalPolicy, lifetime: Duration) -> Duration {
        let certificate = lasting(lifetime, [0; 32]);
        policy.due_at(&certificate).until(certificate.not_after)
    }

    #[test]
    fn shares_are_exact_to_the_second() {
        assert_eq!(Share::one_in(6).of(90 * DAY), 15 * DAY);
        assert_eq!(Share::one_in(3).of(90 * DAY), 30 * DAY);
        assert_eq!(Share::percent(20).of(Duration::from_secs(600)), Duration::from_secs(120));
        assert_eq!(Share::millionths(1).of(Duration::from_secs(1_000_000)), SECOND);
        assert_eq!(Share::percent(100).of(Duration::MAX), Duration::from_secs(u64::MAX));
    }

    #[test]
    fn is_due_at_a_third_of_the_lifetime_left_and_at_a_half_under_ten_days() {
        let default = RenewalPolicy::default();
        assert_eq!(due(default, 90 * DAY), 30 * DAY);
        assert_eq!(due(default, 12 * DAY), 4 * DAY);
        assert_eq!(due(default, 10 * DAY), 10 * DAY / 3);
        assert_eq!(due(default, 10 * DAY - 2 * SECOND), 5 * DAY - SECOND);
        assert_eq!(due(default, 6 * DAY), 3 * DAY);
    }

    #[test]
    fn a_policy_that_is_set_goes_before_the_default() {
        assert_eq!(due(RenewalPolicy(Some(Threshold::Left(5 * DAY))), 90 * DAY), 5 * DAY);
        assert_eq!(due(RenewalPolicy(Some(Threshold::Share(Share::percent(10)))), 90 * DAY), 9 * DAY);
        assert_eq!(due(RenewalPolicy(Some(Threshold::Share(Share::percent(10)))), 5 * DAY), DAY / 2);
    }

    #[test]
    fn the_spread_is_the_same_on_every_call_and_differs_between_certificates() {
        let one = lasting(30 * DAY, [7; 32]);
        assert_eq!(RenewalPolicy::default().due_at(&one), RenewalPolicy::default().due_at(&one));
        let other = lasting(30 * DAY, [8; 32]);
        assert_ne!(RenewalPolicy::default().due_at(&one), RenewalPolicy::default().due_at(&other));
    }

    #[test]
    fn the_spread_reaches_a_twentieth_of_the_lifetime_and_three_days_at_most() {
        // A draw of one less than the window's size modulo itself: the earliest instant there is.
        let draws = |n: u64| {
            let mut fingerprint = [0; 32];
            fingerprint[..8].copy_from_slice(&n.to_be_bytes());
            fingerprint
        };
        let twentieth = (20 * DAY / 20).as_secs();
        assert_eq!(spread(&lasting(20 * DAY, draws(twentieth))), DAY);
        assert_eq!(spread(&lasting(20 * DAY, draws(twentieth + 1))), Duration::ZERO);
        let three_days = (3 * DAY).as_secs();
        assert_eq!(spread(&lasting(398 * DAY, draws(three_days))), 3 * DAY);
        assert_eq!(spread(&lasting(398 * DAY, draws(three_days + 1))), Duration::ZERO);
        assert_eq!(spread(&lasting(Duration::ZERO, draws(5))), Duration::ZERO);
    }

    fn wait(failures: u32, left: Option<Duration>) -> Duration {
        // The empty name draws a jitter that is known, so that the base is seen.
        NOW.until(retry_at(failures, NOW, "", left.map(|left| NOW.plus(left))))
    }

    #[test]
    fn backoff_grows_from_a_minute_over_ten_and_a_hundred_to_a_day() {
        let steps =
            [(0, MINUTE), (1, MINUTE), (2, 10 * MINUTE), (3, 100 * MINUTE), (4, DAY), (5, DAY), (u32::MAX, DAY)];
        for (failures, base) in steps {
            let waits = ["", "a", "b", "payments-api"].map(|name| NOW.until(retry_at(failures, NOW, name, None)));
            for wait in waits {
                assert!(base <= wait && wait <= base + base / 10, "{failures} failures: {wait:?}");
            }
            assert!(base == MINUTE || waits.iter().any(|wait| *wait != waits[0]), "names draw differently");
        }
        assert_eq!(wait(2, None), wait(2, Some(10_000 * DAY)));
    }

    #[test]
    fn waits_no_more_than_a_tenth_of_what_is_left_yet_a_minute() {
        assert_eq!(wait(4, Some(5 * DAY)), DAY / 2);
        assert_eq!(wait(4, Some(Duration::from_secs(6_000))), 10 * MINUTE);
        assert_eq!(wait(4, Some(Duration::from_secs(600))), MINUTE);
        assert_eq!(wait(4, Some(SECOND)), MINUTE);
        assert_eq!(wait(4, Some(Duration::ZERO)), wait(4, None), "an end that has passed bounds nothing");
    }

    proptest! {
        #[test]
        fn no_retry_comes_at_once_nor_later_than_a_tenth_of_what_is_left(
            failures in 0_u32..100, name in ".{0,20}", left in 1_u64..400 * 86_400
        ) {
            let left = Duration::from_secs(left);
            let wait = NOW.until(retry_at(failures, NOW, &name, Some(NOW.plus(left))));
            prop_assert!(wait >= MINUTE);
            prop_assert!(wait <= (left / 10).max(MINUTE));
            prop_assert_eq!(wait, NOW.until(retry_at(failures, NOW, &name, Some(NOW.plus(left)))));
        }

        #[test]
        fn a_certificate_is_never_due_before_the_window_nor_after_the_threshold(
            lifetime in 0_u64..800 * 86_400, fingerprint: [u8; 32]
        ) {
            let certificate = lasting(Duration::from_secs(lifetime), fingerprint);
            let due = RenewalPolicy::default().due_at(&certificate);
            let latest = default_threshold(certificate.lifetime()).reached_at(&certificate);
            prop_assert!(due <= latest);
            prop_assert!(due >= latest.minus(Duration::from_secs(lifetime / 20).min(3 * DAY)));
            prop_assert!(lifetime == 0 || due >= certificate.not_before);
        }
    }
}
