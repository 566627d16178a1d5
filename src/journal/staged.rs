//! Where the keys of renewals were put in Vaults, and which of them could not be destroyed.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::event::Event;
use crate::domain::name::{CertName, VaultName};

/// A place of a pending key in a Vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedAt {
    pub vault: VaultName,
    /// Mount and path of the secret that is renewed.
    pub secret: String,
    /// Mount and path of the record.
    pub path: String,
    /// The versions that hold the key; 0 where the record itself says so.
    #[serde(default)]
    pub first: u64,
    #[serde(default)]
    pub last: u64,
}

impl StagedAt {
    pub fn is_same_place(&self, other: &Self) -> bool {
        self.vault == other.vault && self.path == other.path
    }
}

impl fmt::Display for StagedAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.vault, self.path)
    }
}

/// All of them, folded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedKeys {
    /// Of renewals in flight.
    pub in_use: BTreeMap<CertName, StagedAt>,
    /// Of renewals that have ended or are kept elsewhere now.
    pub left: Vec<(CertName, StagedAt)>,
}

impl StagedKeys {
    pub fn is_noted(&self, certificate: &CertName, at: &StagedAt) -> bool {
        self.in_use.get(certificate).is_some_and(|noted| noted.is_same_place(at))
    }

    /// Returns the places of those that are left, by certificate.
    pub fn places_left(&self) -> BTreeMap<CertName, Vec<String>> {
        let mut places: BTreeMap<CertName, Vec<String>> = BTreeMap::new();
        for (name, at) in &self.left {
            places.entry(name.clone()).or_default().push(at.to_string());
        }
        places
    }

    pub(super) fn fold(&mut self, name: &CertName, event: &Event) {
        match event {
            Event::Staged(at) => {
                let before = self.in_use.insert(name.clone(), at.clone());
                if let Some(before) = before.filter(|before| !before.is_same_place(at)) {
                    self.leave(name, before);
                }
            }
            Event::KeyKept(at) => self.leave(name, at.clone()),
            Event::KeyDestroyed(at) => {
                self.left.retain(|(_, left)| !left.is_same_place(at));
                self.in_use.retain(|_, used| !used.is_same_place(at));
            }
            Event::Closed { .. } | Event::Rejected { .. } | Event::Superseded { .. } => {
                self.in_use.remove(name);
            }
            _ => {}
        }
    }

    /// The newest note of a place tells of all its versions.
    fn leave(&mut self, name: &CertName, at: StagedAt) {
        self.left.retain(|(_, left)| !left.is_same_place(&at));
        self.left.push((name.clone(), at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cert::Fingerprint;
    use crate::domain::time::Timestamp;

    fn at(path: &str, last: u64) -> StagedAt {
        StagedAt { vault: "main".into(), secret: "kv/web".into(), path: path.into(), first: 0, last }
    }

    fn folded(events: &[Event]) -> StagedKeys {
        let mut keys = StagedKeys::default();
        events.iter().for_each(|event| keys.fold(&"web".into(), event));
        keys
    }

    #[test]
    fn a_key_that_is_kept_elsewhere_now_is_left_until_it_is_destroyed() {
        let web = || CertName::from("web");
        let moved = [Event::Staged(at("a", 0)), Event::Staged(at("b", 0))];
        let keys = folded(&moved);
        assert!(keys.is_noted(&web(), &at("b", 0)) && !keys.is_noted(&web(), &at("a", 0)));
        assert_eq!(keys.left, [(web(), at("a", 0))]);
        let closed = Event::Closed { fingerprint: Fingerprint([1; 32]), not_after: Timestamp(9) };
        let [one, two] = moved;
        let keys = folded(&[one, two, closed, Event::KeyDestroyed(at("a", 0))]);
        assert_eq!(keys, StagedKeys::default());
    }

    #[test]
    fn a_key_that_could_not_be_destroyed_is_noted_once_with_its_newest_versions() {
        let keys = folded(&[Event::KeyKept(at("a", 3)), Event::KeyKept(at("a", 8))]);
        assert_eq!(keys.left, [(CertName::from("web"), at("a", 8))]);
    }
}
