//! One key pair in places that should not share it, or for longer than it should live.

use std::collections::HashMap;

use super::cert::{Fingerprint, KeyDigest};
use super::check::{Problem, ProblemKind};
use super::drift::Earlier;
use super::inventory::{Found, Location, Observation};

/// Who uses which key, by its public half.
#[derive(Default)]
pub struct SharedKeys<'a>(HashMap<KeyDigest, Vec<Use<'a>>>);

struct Use<'a> {
    location: &'a Location,
    environment: Option<&'a str>,
    owner: Option<&'a str>,
}

impl<'a> SharedKeys<'a> {
    pub fn add(&mut self, observation: &'a Observation, owner: Option<&'a str>) {
        let Some(leaf) = observation.sighting.leaf() else { return };
        let environment = observation.environment.as_deref();
        // Who says neither cannot contradict anybody.
        if environment.is_some() || owner.is_some() {
            let used = Use { location: &observation.location, environment, owner };
            self.0.entry(leaf.public_key).or_default().push(used);
        }
    }

    /// The first place that uses the same key in another environment or for another owner.
    pub fn of(&self, observation: &Observation, owner: Option<&str>) -> Option<Problem> {
        let uses = self.0.get(&observation.sighting.leaf()?.public_key)?;
        let environment = observation.environment.as_deref();
        let (location, whose) = uses.iter().find_map(|used| Some((used.location, used.whose(environment, owner)?)))?;
        let message = format!("its key is that of {location} too, of {whose}");
        Some(Problem::warning(ProblemKind::SharedKey, message))
    }
}

impl Use<'_> {
    /// Whose it is, where that contradicts the one who asks.
    fn whose(&self, environment: Option<&str>, owner: Option<&str>) -> Option<String> {
        let other = |own: Option<&str>, theirs: &&str| own.is_some_and(|own| own != *theirs);
        let environment = self.environment.filter(|theirs| other(environment, theirs));
        let owner = self.owner.filter(|theirs| other(owner, theirs));
        environment.map(|name| format!("environment {name}")).or(owner.map(|name| format!("owner {name}")))
    }
}

/// A key that is the same through so many renewals as `most` or more. `earlier` with the newest first.
pub fn unchanged(found: &Found, earlier: &[Earlier], most: u32) -> Option<Problem> {
    let renewals = renewals_with_one_key(found, earlier);
    (renewals >= most).then(|| {
        let message = format!("its key is the same through the last {renewals} renewals: have a new one made");
        Problem::warning(ProblemKind::KeyUnchanged, message)
    })
}

/// Back to the first version that had another key, or of which nothing is known.
pub fn renewals_with_one_key(found: &Found, earlier: &[Earlier]) -> u32 {
    let key = found.leaf().public_key;
    let mut newer: Fingerprint = found.leaf().fingerprint;
    let mut renewals = 0;
    for earlier in earlier {
        match earlier.leaves.iter().find(|(_, digest)| *digest == key) {
            Some((leaf, _)) if *leaf != newer => (newer, renewals) = (*leaf, renewals + 1),
            // The same certificate, written again.
            Some(_) => {}
            None => break,
        }
    }
    renewals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cert::Certificate;
    use crate::domain::inventory::Sighting;
    use crate::domain::sample::{endpoint, found, leaf, secret, seen, seen_found};

    fn with_key(path: &str, key: u8, environment: Option<&str>) -> Observation {
        let leaf = Certificate { public_key: KeyDigest([key; 32]), ..leaf(&[path]) };
        Observation { environment: environment.map(Into::into), ..seen_found(secret(path), found(leaf)) }
    }

    fn said(uses: &[(&Observation, Option<&str>)]) -> Vec<Option<String>> {
        let mut keys = SharedKeys::default();
        uses.iter().for_each(|(observation, owner)| keys.add(observation, *owner));
        uses.iter().map(|(observation, owner)| keys.of(observation, *owner).map(|problem| problem.message)).collect()
    }

    #[test]
    fn one_key_in_two_environments_is_told_on_both() {
        let (prod, dev) = (with_key("p", 1, Some("prod")), with_key("d", 1, Some("dev")));
        let own = with_key("own", 2, Some("dev"));
        assert_eq!(
            said(&[(&prod, None), (&dev, None), (&own, None)]),
            [
                Some("its key is that of vault:main:d too, of environment dev".into()),
                Some("its key is that of vault:main:p too, of environment prod".into()),
                None
            ]
        );
    }

    #[test]
    fn one_key_of_two_owners_is_told_on_both() {
        let (a, b) = (with_key("a", 1, Some("prod")), with_key("b", 1, Some("prod")));
        assert_eq!(
            said(&[(&a, Some("payments")), (&b, Some("search"))]),
            [
                Some("its key is that of vault:main:b too, of owner search".into()),
                Some("its key is that of vault:main:a too, of owner payments".into()),
            ]
        );
        assert_eq!(said(&[(&a, Some("payments")), (&b, Some("payments"))]), [None, None]);
        assert_eq!(said(&[(&a, Some("payments")), (&b, None)]), [None, None]);
    }

    #[test]
    fn what_says_neither_environment_nor_owner_contradicts_nobody() {
        let (stored, prod) = (with_key("a", 1, None), with_key("b", 1, Some("prod")));
        let served = Observation { location: endpoint("a"), ..with_key("a", 1, None) };
        assert_eq!(said(&[(&stored, None), (&prod, None), (&served, None)]), [None, None, None]);
        assert_eq!(said(&[(&seen(secret("gone"), Sighting::Absent), Some("payments"))]), [None]);
    }

    /// Certificates of versions before this one, and their keys.
    fn unchanged_over(earlier: &[&[(u8, u8)]]) -> u32 {
        let current = Certificate { fingerprint: Fingerprint([9; 32]), public_key: KeyDigest([1; 32]), ..leaf(&["a"]) };
        let digest = |(leaf, key): &(u8, u8)| (Fingerprint([*leaf; 32]), KeyDigest([*key; 32]));
        let version = |leaves: &&[(u8, u8)]| Earlier { version: 1, leaves: leaves.iter().map(digest).collect() };
        let earlier: Vec<_> = earlier.iter().map(version).collect();
        renewals_with_one_key(&found(current), &earlier)
    }

    #[test]
    fn renewals_are_counted_back_to_another_key_or_a_gap() {
        assert_eq!(unchanged_over(&[]), 0);
        assert_eq!(unchanged_over(&[&[(8, 1)], &[(7, 1)], &[(6, 2)], &[(5, 1)]]), 2);
        assert_eq!(unchanged_over(&[&[(8, 1)], &[], &[(6, 1)]]), 1);
        assert_eq!(unchanged_over(&[&[(9, 1)], &[(8, 1)], &[(8, 1)], &[(7, 1)]]), 2, "written again is no renewal");
        assert_eq!(unchanged_over(&[&[(4, 4), (8, 1)]]), 1, "among others");
    }

    #[test]
    fn a_key_is_too_old_from_the_number_of_renewals_on() {
        let current = Certificate { fingerprint: Fingerprint([9; 32]), ..leaf(&["a"]) };
        let earlier =
            [8, 7].map(|n| Earlier { version: n.into(), leaves: vec![(Fingerprint([n; 32]), KeyDigest([1; 32]))] });
        let said = |most| unchanged(&found(current.clone()), &earlier, most).map(|problem| problem.message);
        assert_eq!(said(3), None);
        let message = "its key is the same through the last 2 renewals: have a new one made";
        assert_eq!(said(2).as_deref(), Some(message));
    }
}
