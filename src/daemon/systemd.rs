//! What systemd is told: ready, reloading, stopping, and signs of life while work goes on.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::config::LONGEST_DEADLINE;
use crate::pulse;

/// No single item may take longer, whatever deadline the configuration gives it: beyond this the
/// worker is stuck, and systemd is left to notice.
const STUCK_AFTER: Duration = LONGEST_DEADLINE.saturating_add(Duration::from_secs(60));

/// Where systemd asks for nothing, any period does.
const UNASKED: Duration = Duration::from_secs(30);

/// Below this, beating would be work.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// Half of what systemd asks for.
pub fn watchdog_period() -> Duration {
    sd_notify::watchdog_enabled().map_or(UNASKED, |asked| (asked / 2).max(SHORTEST_PERIOD))
}

/// An outage lets every item fail by its deadline and so feeds the dog; a stuck worker does not.
pub fn feed_watchdog(working: bool) {
    let age = pulse::age();
    if is_stuck(working, age) {
        tracing::error!("the worker has finished nothing for {} s: the watchdog is not fed", age.as_secs());
    } else {
        notify(&[NotifyState::Watchdog]);
    }
}

fn is_stuck(working: bool, since_last_beat: Duration) -> bool {
    working && since_last_beat >= STUCK_AFTER
}

pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// With the time that systemd wants beside it, to tell one reload from the next.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(at) => notify(&[NotifyState::Reloading, at]),
        Err(error) => {
            tracing::debug!("could not read the monotonic clock: {error}");
            notify(&[NotifyState::Reloading]);
        }
    }
}

pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("could not notify systemd: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_stuck_once_it_has_finished_nothing_for_longer_than_any_deadline() {
        let second = Duration::from_secs(1);
        let cases = [
            (true, LONGEST_DEADLINE, false),
            (true, STUCK_AFTER - second, false),
            (true, STUCK_AFTER, true),
            (false, STUCK_AFTER, false),
            (false, Duration::from_secs(24 * 60 * 60), false),
        ];
        for (working, age, stuck) in cases {
            assert_eq!(is_stuck(working, age), stuck, "working: {working}, last beat {age:?} ago");
        }
    }
}
