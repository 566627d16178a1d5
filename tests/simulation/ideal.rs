//! How many certificates are needed, by arithmetic alone: nothing of certd is asked. Who is perfect renews in the first
//! turn in which it is due and the CA and the store are there, and fails at nothing.

use std::time::Duration;

use certd::domain::time::Timestamp;

use crate::faults::Outages;
use crate::next_turn;

const DAY: u64 = 24 * 60 * 60;

/// A leaf that was there, from when on it was valid and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    pub not_before: Timestamp,
    pub lifetime: Duration,
}

/// What somebody else stored, and when.
#[derive(Clone, Copy, Debug)]
pub struct Foreign {
    pub at: Timestamp,
    pub leaf: Leaf,
}

/// As the documentation has it: a third of the lifetime before the end, a half under ten days; and earlier by up to a
/// twentieth, at most three days: by half of that, if one asks for the mean.
fn due(leaf: Leaf) -> Timestamp {
    let lifetime = leaf.lifetime.as_secs();
    let left = if lifetime < 10 * DAY { lifetime / 2 } else { lifetime / 3 };
    let spread = (lifetime / 20).min(3 * DAY) / 2;
    leaf.not_before.plus(Duration::from_secs(lifetime - left - spread))
}

/// The first turn from then on with nothing out.
fn could(outages: &[&Outages], from: Timestamp) -> Timestamp {
    let mut at = next_turn(from);
    while let Some(until) = outages.iter().filter_map(|one| one.out_until(at)).max() {
        at = next_turn(until);
    }
    at
}

/// For one place, from its first leaf to the end.
pub fn needed(first: Leaf, foreign: &[Foreign], outages: &[&Outages], end: Timestamp) -> u64 {
    let (mut leaf, mut since, mut count) = (first, first.not_before, 0);
    let mut foreign = foreign.iter().peekable();
    loop {
        let at = could(outages, due(leaf).max(since));
        match foreign.next_if(|other| other.at <= at) {
            Some(other) => (leaf, since) = (other.leaf, other.at),
            None if at >= end => return count,
            None => {
                count += 1;
                (leaf, since) = (Leaf { not_before: at, lifetime: first.lifetime }, at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Timestamp = Timestamp(1_800_000_000);

    fn days(days: u64) -> Duration {
        Duration::from_secs(days * DAY)
    }

    fn lasting(lifetime: Duration) -> Leaf {
        Leaf { not_before: BEGIN, lifetime }
    }

    fn of(lifetime: u64, foreign: &[Foreign], outage: Option<(u64, u64)>) -> u64 {
        let outage = outage.map_or(Outages::none(), |(a, b)| Outages::one(BEGIN.plus(days(a)), BEGIN.plus(days(b))));
        needed(lasting(days(lifetime)), foreign, &[&outage], BEGIN.plus(days(400)))
    }

    #[test]
    fn what_is_needed_follows_from_lifetimes_and_days() {
        // 58.5 days each: 58, 117, 175, 234, 292, 351.
        assert_eq!(of(90, &[], None), 6);
        // 263.8 days.
        assert_eq!(of(398, &[], None), 1);
        // 2.85 days, and up to an hour to the next turn: 139 or 140.
        assert!((138..=140).contains(&of(6, &[], None)), "{}", of(6, &[], None));
    }

    #[test]
    fn nothing_is_needed_while_it_could_not_be_had_nor_where_somebody_else_stored_another() {
        assert_eq!(of(90, &[], Some((50, 130))), 5);
        let again =
            Foreign { at: BEGIN.plus(days(350)), leaf: Leaf { not_before: BEGIN.plus(days(350)), lifetime: days(90) } };
        assert_eq!(of(90, &[again], None), 5);
        let old = Foreign { at: BEGIN.plus(days(100)), leaf: lasting(days(90)) };
        assert_eq!(of(90, &[old], None), 7, "58 and at once at 100, then 158 and so on");
    }
}
