//! How long certd's token lives, as Vault last said: for those who should know before it ends.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::transport::locked;

/// A token that somebody keeps alive is renewed when a third of its life is left, or replaced when a tenth is:
/// one that gets below this share was forgotten. It is also where a certificate becomes critical.
const NEAR: u32 = 20;

/// Of a token that lives for months, a day is time enough for a person to replace it.
const NEAR_AT_MOST: Duration = Duration::from_secs(24 * 60 * 60);

/// Between looks at a token that nears its end.
const LOOKS_APART: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// Of the token that is used now.
#[derive(Default)]
pub(super) struct Life {
    lease: Mutex<Option<Lease>>,
    changed: Notify,
}

#[derive(Clone, Copy)]
struct Lease {
    ends_at: Instant,
    whole: Duration,
}

impl Life {
    /// `left` is `None` for a token that never ends; `whole` is how long it lives if nobody renews it.
    pub fn heard(&self, left: Option<Duration>, whole: Duration) {
        let lease = left.map(|left| Lease { ends_at: Instant::now() + left, whole: whole.max(left) });
        *locked(&self.lease) = lease;
        self.changed.notify_one();
    }

    /// Waits until something else is heard of it; for one who waits alone.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until it is time to look at it again.
    pub async fn time_to_look(&self) {
        while tokio::time::timeout(self.look_again_after(), self.changed()).await.is_ok() {}
    }

    /// How much is left of a token that is near its end and that nobody has renewed yet; zero once it ended.
    pub fn near_its_end(&self) -> Option<Duration> {
        let lease = (*locked(&self.lease))?;
        let left = lease.left();
        (left < lease.near()).then_some(left)
    }

    /// When to look whether it was renewed, or whether it nears its end.
    fn look_again_after(&self) -> Duration {
        let [soon, late] = LOOKS_APART;
        let Some(lease) = *locked(&self.lease) else { return late };
        match lease.left().checked_sub(lease.near()) {
            Some(until) if !until.is_zero() => until.clamp(soon, late),
            Some(_) | None => (lease.near() / 4).clamp(soon, late),
        }
    }
}

impl Lease {
    fn left(self) -> Duration {
        self.ends_at.saturating_duration_since(Instant::now())
    }

    fn near(self) -> Duration {
        (self.whole / NEAR).min(NEAR_AT_MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn left(left: Duration, whole: Duration) -> Life {
        let life = Life::default();
        life.heard(Some(left), whole);
        life
    }

    #[test]
    fn a_token_is_near_its_end_when_a_twentieth_or_a_day_of_its_life_is_left() {
        assert!(left(HOUR / 20 + Duration::from_secs(1), HOUR).near_its_end().is_none());
        assert!(left(HOUR / 20, HOUR).near_its_end().is_some());
        assert_eq!(left(Duration::ZERO, HOUR).near_its_end(), Some(Duration::ZERO));
        let month = HOUR * 768;
        assert!(left(HOUR * 24 + Duration::from_secs(1), month).near_its_end().is_none());
        assert!(left(HOUR * 24, month).near_its_end().is_some());
    }

    #[test]
    fn a_token_that_never_ends_and_one_that_nobody_has_heard_of_are_near_no_end() {
        let life = left(Duration::ZERO, HOUR);
        life.heard(None, Duration::ZERO);
        assert_eq!((life.near_its_end(), Life::default().near_its_end()), (None, None));
        assert_eq!(life.look_again_after(), LOOKS_APART[1]);
    }

    #[test]
    fn it_is_looked_at_when_it_gets_near_and_a_few_times_from_then_on() {
        let near = left(HOUR / 20 + Duration::from_secs(10), HOUR).look_again_after();
        assert!((Duration::from_secs(9)..=Duration::from_secs(10)).contains(&near), "{near:?}");
        assert_eq!(left(HOUR, HOUR).look_again_after(), LOOKS_APART[1]);
        assert_eq!(left(HOUR / 20, HOUR).look_again_after(), HOUR / 80);
        assert_eq!(left(Duration::from_secs(1), Duration::from_secs(40)).look_again_after(), LOOKS_APART[0]);
    }
}
