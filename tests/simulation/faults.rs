//! What goes wrong and when, as a seed tells.

use std::time::Duration;

use certd::domain::time::Timestamp;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// splitmix64.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, most: u64) -> u64 {
        self.draw() % most
    }

    pub fn in_a_hundred(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Stretches in which something is not there.
pub struct Outages(Vec<(Timestamp, Timestamp)>);

impl Outages {
    /// A few in each year, of minutes up to several days.
    pub fn new(dice: &mut Dice, from: Timestamp, span: Duration) -> Self {
        let mut at = from;
        let mut all = Vec::new();
        while from.until(at) < span {
            at = at.plus(Duration::from_secs(DAY + dice.below(60 * DAY)));
            let long = [600, 2 * HOUR, DAY, 6 * DAY][usize::try_from(dice.below(4)).unwrap()];
            let end = at.plus(Duration::from_secs(60 + dice.below(long)));
            all.push((at, end));
            at = end;
        }
        Self(all)
    }

    pub fn one(from: Timestamp, to: Timestamp) -> Self {
        Self(vec![(from, to)])
    }

    pub fn none() -> Self {
        Self(Vec::new())
    }

    pub fn add(&mut self, from: Timestamp, to: Timestamp) {
        self.0.push((from, to));
    }

    /// Until when, where it is out at this instant.
    pub fn out_until(&self, at: Timestamp) -> Option<Timestamp> {
        self.0.iter().filter(|(from, to)| *from <= at && at < *to).map(|(_, to)| *to).max()
    }

    pub fn is_out(&self, at: Timestamp) -> bool {
        self.out_until(at).is_some()
    }
}

/// The longest stretch within these two without an outage of any.
pub fn longest_up(all: &[&Outages], from: Timestamp, to: Timestamp) -> Duration {
    let all = all.iter().flat_map(|one| &one.0).filter(|(a, b)| *b > from && *a < to);
    let mut all: Vec<_> = all.copied().collect();
    all.sort();
    let (mut longest, mut up_since) = (Duration::ZERO, from);
    for (down, up) in all {
        longest = longest.max(up_since.until(down));
        up_since = up_since.max(up);
    }
    longest.max(up_since.until(to))
}

/// What the clock of the host shows where it is wrong, in seconds to the right time.
pub struct Clock {
    steps: Vec<(Timestamp, Timestamp, i64)>,
    pub wrong: Outages,
}

impl Clock {
    /// Some times in a year it is set wrong, and hours or days later right again.
    pub fn new(dice: &mut Dice, from: Timestamp, span: Duration) -> Self {
        let mut clock = Self::right();
        let mut at = from;
        while from.until(at) < span {
            at = at.plus(Duration::from_secs(DAY + dice.below(120 * DAY)));
            at = clock.step(dice, at);
        }
        clock
    }

    pub fn right() -> Self {
        Self { steps: Vec::new(), wrong: Outages::none() }
    }

    /// Forward or back by a day or by 400 of them; returns until when.
    pub fn step(&mut self, dice: &mut Dice, at: Timestamp) -> Timestamp {
        let days = [1, 400, -1, -400][usize::try_from(dice.below(4)).unwrap()];
        let end = at.plus(Duration::from_secs(600 + dice.below(2 * DAY)));
        self.steps.push((at, end, days * i64::try_from(DAY).unwrap()));
        self.wrong.add(at, end);
        end
    }

    pub fn shown(&self, now: Timestamp) -> Timestamp {
        let off = self.steps.iter().find(|(from, to, _)| *from <= now && now < *to).map_or(0, |(_, _, off)| *off);
        Timestamp(now.0 + off)
    }
}
