//! What an issuer wants left alone for a while, and no more than that: an order that it works on.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::breaker::LONGEST_RETRY_AFTER;
use super::name::IssuerName;
use super::time::Timestamp;

/// Until when, by issuer and address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits(BTreeMap<IssuerName, BTreeMap<String, Timestamp>>);

impl Waits {
    /// What was asked for last holds.
    pub fn note(&mut self, issuer: &IssuerName, address: &str, until: Timestamp) {
        self.0.entry(issuer.clone()).or_default().insert(address.to_string(), until);
    }

    pub fn forget_past(&mut self, now: Timestamp) {
        for of_one in self.0.values_mut() {
            of_one.retain(|_, until| now < *until);
        }
        self.0.retain(|_, of_one| !of_one.is_empty());
    }

    /// How long each address is still to be left alone.
    pub fn of(&self, issuer: &IssuerName, now: Timestamp) -> impl Iterator<Item = (&str, Duration)> {
        // A clock that was put back makes no wait longer than any is.
        let is_wait = move |until: Timestamp| now < until && now.until(until) <= LONGEST_RETRY_AFTER;
        let of_one = self.0.get(issuer).into_iter().flatten();
        of_one
            .filter(move |(_, until)| is_wait(**until))
            .map(move |(address, until)| (address.as_str(), now.until(*until)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::{NOW, SECOND};

    fn of(waits: &Waits, issuer: &str, now: Timestamp) -> Vec<(String, Duration)> {
        waits.of(&issuer.into(), now).map(|(address, wait)| (address.to_string(), wait)).collect()
    }

    #[test]
    fn an_address_is_left_alone_until_its_time_and_no_other_is() {
        let mut waits = Waits::default();
        waits.note(&"one".into(), "a", NOW.plus(9 * SECOND));
        waits.note(&"one".into(), "b", NOW.plus(5 * SECOND));
        waits.note(&"one".into(), "a", NOW.plus(2 * SECOND));
        let (a, b) = (|wait| ("a".to_string(), wait * SECOND), |wait| ("b".to_string(), wait * SECOND));
        assert_eq!(of(&waits, "one", NOW), [a(2), b(5)]);
        assert_eq!(of(&waits, "one", NOW.plus(SECOND)), [a(1), b(4)]);
        assert_eq!(of(&waits, "one", NOW.plus(2 * SECOND)), [b(3)]);
        assert_eq!(of(&waits, "two", NOW), []);
    }

    #[test]
    fn what_lies_further_ahead_than_any_wait_is_of_a_clock_that_was_wrong() {
        let mut waits = Waits::default();
        waits.note(&"one".into(), "a", NOW.plus(LONGEST_RETRY_AFTER));
        assert_eq!(of(&waits, "one", NOW).len(), 1);
        assert_eq!(of(&waits, "one", NOW.minus(SECOND)), []);
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut waits = Waits::default();
        waits.note(&"one".into(), "a", NOW);
        waits.note(&"two".into(), "a", NOW.plus(SECOND));
        waits.note(&"two".into(), "b", NOW);
        waits.forget_past(NOW);
        let mut left = Waits::default();
        left.note(&"two".into(), "a", NOW.plus(SECOND));
        assert_eq!(waits, left);
    }
}
