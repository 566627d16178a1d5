//! When a certificate is due, and how much lifetime left is too little.

use std::time::Duration;

use super::cert::{Certificate, Fingerprint};
use super::time::Timestamp;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Lifetimes under this are renewed at a half, as CAs with six-day profiles advise.
const SHORT_LIFETIME: Duration = Duration::from_secs(10 * 24 * 60 * 60);

/// Renewals spread over this part of the lifetime, before the moment they are due at the latest.
const SPREAD: Share = Share::millionths(50_000);

/// A part of a whole, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    pub const fn millionths(millionths: u32) -> Self {
        Self(millionths)
    }

    pub const fn percent(percent: u32) -> Self {
        Self(percent * 10_000)
    }

    /// One part in `parts`.
    pub const fn one_in(parts: u32) -> Self {
        Self(1_000_000 / parts)
    }

    pub fn of(self, whole: Duration) -> Duration {
        let seconds = u128::from(whole.as_secs()) * u128::from(self.0) / 1_000_000;
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
        let left = match self {
            Self::Share(share) => share.of(certificate.lifetime()),
            Self::Left(left) => left,
        };
        certificate.not_after.minus(left)
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
