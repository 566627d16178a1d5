//! Signs of life: every item that a worker finishes or gives up beats once, so that a slow outage is
//! told apart from a stuck worker. Ages are monotonic.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
static LAST_MILLIS: AtomicU64 = AtomicU64::new(0);

pub fn beat() {
    LAST_MILLIS.fetch_max(millis(START.elapsed()), Ordering::Relaxed);
}

/// Since the last beat.
pub fn age() -> Duration {
    START.elapsed().saturating_sub(Duration::from_millis(LAST_MILLIS.load(Ordering::Relaxed)))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
