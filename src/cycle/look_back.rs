//! Older versions of secrets, read only where something asks for them: an endpoint that serves what no secret
//! holds now, or a limit on how long a key may live.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt, stream};

use crate::domain::cert::{Fingerprint, KeyDigest};
use crate::domain::drift::{Drift, Earlier, EarlierVersions};
use crate::domain::inventory::{Found, Inventory, Location, Sighting};
use crate::domain::plan::Managed;
use crate::domain::shared_key::renewals_with_one_key;
use crate::domain::text::with_causes;
use crate::pulse;
use crate::source::vault_kv::CONCURRENCY;
use crate::vault::{Vault, VaultError};

use super::observe::Memory;
use super::setup::Setup;

/// Vault keeps ten unless told otherwise; whoever keeps thousands is not followed to the first.
const FARTHEST_BACK: u64 = 50;

/// What versions hold never changes, but by being deleted: each is read once while its place is there.
pub type VersionMemory = BTreeMap<Location, BTreeMap<u64, Vec<(Fingerprint, KeyDigest)>>>;

/// One secret, and until what is found there to go back.
struct Search<'a> {
    location: Location,
    vault: Arc<Vault>,
    path: String,
    version: u64,
    found: &'a Found,
    strangers: HashSet<Fingerprint>,
    same_key_renewals: u32,
    known: BTreeMap<u64, Vec<(Fingerprint, KeyDigest)>>,
}

pub async fn look_back(
    setup: &Setup,
    managed: &[Managed],
    inventory: &Inventory,
    memory: &mut Memory,
) -> EarlierVersions {
    let there: BTreeSet<Location> = inventory.iter().map(|seen| seen.location.with_part(None)).collect();
    memory.versions.retain(|location, _| there.contains(location));
    let searches = searches(setup, managed, inventory, &mut memory.versions);
    // Collected first: a borrowing stream is not `Send` for every lifetime.
    let runs: Vec<_> = searches.into_iter().map(Search::run).collect();
    let mut runs = stream::iter(runs).buffer_unordered(CONCURRENCY).inspect(|_| pulse::beat());
    let mut all = EarlierVersions::new();
    while let Some((search, outcome)) = runs.next().await {
        match outcome {
            // Of several certificates in one secret, one may have to go back farther than another.
            Ok(earlier) => {
                let known = all.entry(search.location.clone()).or_default();
                if earlier.len() >= known.len() {
                    *known = earlier;
                }
            }
            Err(error) => {
                let why = format!("could not read older versions of {}: {}", search.location, with_causes(&error));
                memory.troubles.meet(format!("older versions in vault {}", search.vault.name), why);
            }
        }
        memory.versions.entry(search.location).or_default().extend(search.known);
    }
    all
}

fn searches<'a>(
    setup: &Setup,
    managed: &[Managed],
    inventory: &'a Inventory,
    memory: &mut VersionMemory,
) -> Vec<Search<'a>> {
    let drift = Drift::new(managed, inventory);
    let strangers: BTreeMap<&Location, HashSet<Fingerprint>> =
        managed.iter().map(|managed| (&managed.location, drift.strangers(managed))).collect();
    let search = |seen: &'a crate::domain::inventory::Observation| {
        let Location::Secret { vault, path, .. } = &seen.location else { return None };
        let Sighting::Found(found) = &seen.sighting else { return None };
        let strangers = strangers.get(&seen.location).cloned().unwrap_or_default();
        let same_key_renewals = setup.same_key_renewals.unwrap_or(0);
        if strangers.is_empty() && same_key_renewals == 0 {
            return None;
        }
        let location = seen.location.with_part(None);
        Some(Search {
            vault: setup.vaults.get(vault)?.clone(),
            path: path.clone(),
            version: found.version?,
            known: known(memory, &location, found.version?),
            location,
            found,
            strangers,
            same_key_renewals,
        })
    };
    inventory.iter().filter_map(search).collect()
}

/// A secret that was removed with its metadata begins at 1 again.
fn known(
    memory: &mut VersionMemory,
    location: &Location,
    current: u64,
) -> BTreeMap<u64, Vec<(Fingerprint, KeyDigest)>> {
    let known = memory.remove(location).unwrap_or_default();
    if known.keys().next_back().is_some_and(|last| *last >= current) { BTreeMap::new() } else { known }
}

impl Search<'_> {
    async fn run(mut self) -> (Self, Result<Vec<Earlier>, VaultError>) {
        let outcome = self.go_back().await;
        (self, outcome)
    }

    async fn go_back(&mut self) -> Result<Vec<Earlier>, VaultError> {
        let mut earlier = Vec::new();
        for version in (1..self.version).rev().take(FARTHEST_BACK as usize) {
            if self.is_over(&earlier) {
                break;
            }
            let Some(leaves) = self.leaves_of(version).await? else { break };
            self.strangers.retain(|stranger| !leaves.iter().any(|(leaf, _)| leaf == stranger));
            earlier.push(Earlier { version, leaves });
        }
        Ok(earlier)
    }

    /// Every stranger is found, and another key was or the limit is reached.
    fn is_over(&self, earlier: &[Earlier]) -> bool {
        let renewals = renewals_with_one_key(self.found, earlier);
        let another_key =
            earlier.last().is_some_and(|last| !last.leaves.iter().any(|(_, key)| *key == self.found.leaf().public_key));
        self.strangers.is_empty() && (another_key || renewals >= self.same_key_renewals)
    }

    /// `None` where Vault keeps no version as old as this.
    async fn leaves_of(&mut self, version: u64) -> Result<Option<Vec<(Fingerprint, KeyDigest)>>, VaultError> {
        if let Some(known) = self.known.get(&version) {
            return Ok(Some(known.clone()));
        }
        let Some(read) = self.vault.version(&self.path, Some(version)).await? else { return Ok(None) };
        let leaves = match &read.fields {
            Some(fields) => self.vault.leaves(&self.path, fields).await?,
            None => Vec::new(),
        };
        self.known.insert(version, leaves.clone());
        Ok(Some(leaves))
    }
}
