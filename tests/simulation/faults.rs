//! What goes wrong and when, as a seed tells.

use std::time::Duration;

use certd::domain::time::Timestamp;

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
            at = at.plus(Duration::from_secs(86_400 + dice.below(60 * 86_400)));
            let long = [600, 7_200, 86_400, 6 * 86_400][usize::try_from(dice.below(4)).unwrap()];
            let end = at.plus(Duration::from_secs(60 + dice.below(long)));
            all.push((at, end));
            at = end;
        }
        Self(all)
    }

    pub fn one(from: Timestamp, to: Timestamp) -> Self {
        Self(vec![(from, to)])
    }

    pub fn add(&mut self, from: Timestamp, to: Timestamp) {
        self.0.push((from, to));
    }

    pub fn is_out(&self, at: Timestamp) -> bool {
        self.0.iter().any(|(from, to)| *from <= at && at < *to)
    }

    /// The longest stretch within these two without an outage of either.
    pub fn longest_up(&self, other: &Self, from: Timestamp, to: Timestamp) -> Duration {
        let mut all: Vec<_> = self.0.iter().chain(&other.0).filter(|(a, b)| *b > from && *a < to).copied().collect();
        all.sort();
        let (mut longest, mut up_since) = (Duration::ZERO, from);
        for (down, up) in all {
            longest = longest.max(up_since.until(down));
            up_since = up_since.max(up);
        }
        longest.max(up_since.until(to))
    }
}
