//! When the next turn is due: by the wall clock, compared every second.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::domain::time::Timestamp;

/// The shortest interval between turns, so that each interval is kept, also after a reload.
const EVERY_SECOND: &str = "* * * * * *";

#[derive(Debug)]
pub struct Schedule {
    next: Timestamp,
}

impl Schedule {
    /// The first turn is due at once.
    pub fn new(now: Timestamp) -> Self {
        Self { next: now }
    }

    /// A turn begins.
    pub fn begin(&mut self, now: Timestamp, interval: Duration) {
        self.next = now.plus(interval);
    }

    pub fn at_once(&mut self, now: Timestamp) {
        self.next = now;
    }

    /// A clock that was set back must not put the next turn far away.
    pub fn is_due(&mut self, now: Timestamp, interval: Duration) -> bool {
        self.next = self.next.min(now.plus(interval));
        now >= self.next
    }
}

/// The cron scheduler waits for an instant of the wall clock, and for days where that was set back. This ticks whatever
/// the wall clock shows.
pub fn second() -> tokio::time::Interval {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    second
}

/// Ticks and does nothing else: a job of the scheduler may overlap itself and is not waited for.
pub async fn ticker(tick: mpsc::Sender<()>) -> Result<JobScheduler, JobSchedulerError> {
    let cron = JobScheduler::new().await?;
    let job = Job::new(EVERY_SECOND, move |_, _| {
        // A tick that is still waiting says the same.
        let _ = tick.try_send(());
    })?;
    cron.add(job).await?;
    cron.start().await?;
    Ok(cron)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn begun_at(second: i64) -> Schedule {
        let mut schedule = Schedule::new(Timestamp(0));
        schedule.begin(Timestamp(second), HOUR);
        schedule
    }

    #[test]
    fn the_first_turn_is_due_at_once_and_each_later_one_an_interval_after_the_last_began() {
        assert!(Schedule::new(Timestamp(1_000)).is_due(Timestamp(1_000), HOUR));
        let mut schedule = begun_at(1_000);
        for (second, due) in [(1_000, false), (4_599, false), (4_600, true), (4_601, true)] {
            assert_eq!(schedule.is_due(Timestamp(second), HOUR), due, "{second}");
        }
    }

    #[test]
    fn a_suspend_or_a_clock_set_forward_makes_one_turn_due_and_not_those_that_were_missed() {
        let mut schedule = begun_at(1_000);
        let awake = Timestamp(1_000 + 10 * 3_600);
        assert!(schedule.is_due(awake, HOUR));
        schedule.begin(awake, HOUR);
        assert!(!schedule.is_due(awake, HOUR));
        assert!(!schedule.is_due(awake.plus(HOUR - Duration::from_secs(1)), HOUR));
        assert!(schedule.is_due(awake.plus(HOUR), HOUR));
    }

    #[test]
    fn a_clock_set_back_by_years_delays_the_next_turn_by_no_more_than_an_interval() {
        let mut schedule = begun_at(2_000_000_000);
        let back = Timestamp(1_000_000_000);
        assert!(!schedule.is_due(back, HOUR));
        assert!(!schedule.is_due(back.plus(HOUR - Duration::from_secs(1)), HOUR));
        assert!(schedule.is_due(back.plus(HOUR), HOUR));
    }

    #[test]
    fn a_shorter_interval_counts_from_when_it_is_known() {
        let mut schedule = begun_at(1_000);
        let minute = Duration::from_secs(60);
        assert!(!schedule.is_due(Timestamp(1_001), minute));
        assert!(schedule.is_due(Timestamp(1_061), minute));
    }

    #[tokio::test]
    async fn ticks_within_a_second_or_two() {
        let (tick, mut ticks) = mpsc::channel(1);
        let mut cron = ticker(tick).await.unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(5), ticks.recv()).await;
        assert_eq!(heard, Ok(Some(())));
        cron.shutdown().await.unwrap();
    }
}
