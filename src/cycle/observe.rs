//! The first half of a turn: everything is looked at, and nothing that was seen before is forgotten
//! because it cannot be seen now.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};

use crate::domain::drift::{EarlierVersions, Issued};
use crate::domain::inventory::{Inventory, Location, Observation, Obstacle, ObstacleKind, Part, PassedOver, Sighting};
use crate::domain::name::SourceName;
use crate::domain::plan::Managed;
use crate::domain::snapshot::SourceStatus;
use crate::domain::time::Timestamp;
use crate::pki::roots::Roots;
use crate::pulse;
use crate::source::tls::TlsSource;
use crate::source::{Observed, Source};

use super::files::OnDisk;
use super::look_back::VersionMemory;
use super::persist::Proofs;
use super::registers::{RevokedMemory, Unsure};
use super::setup::{Place, Setup};
use super::troubles::Troubles;

/// The sources that stand for what the configuration names in `store` and in `serves`.
pub const STORES: &str = "stores";
pub const SERVES: &str = "serves";

/// Declared stores that are read at once, as for a Vault sweep.
const STORES_AT_ONCE: usize = 16;

const SERVES_TIMEOUT: Duration = Duration::from_secs(10);
const SERVES_AT_ONCE: usize = 32;

/// Hears of each location as it was looked at.
pub type Heard<'a> = &'a (dyn Fn(&Observation) + Sync);

/// What is known of the sources from one turn to the next.
#[derive(Default)]
pub struct Memory {
    inventory: Inventory,
    last_success: BTreeMap<SourceName, Timestamp>,
    errors: BTreeMap<SourceName, BTreeMap<ObstacleKind, u64>>,
    pub troubles: Troubles,
    pub versions: VersionMemory,
    pub revoked: RevokedMemory,
}

/// One look at everything.
pub struct Sweep {
    pub inventory: Inventory,
    /// What each adopt rule found, by the rule's place in the setup.
    pub adoptable: Vec<Vec<Location>>,
    /// Whether each adopt rule could list all of its folders.
    pub listed: Vec<bool>,
    pub sources: Vec<SourceStatus>,
    /// Of secrets, where something asks for it.
    pub earlier: EarlierVersions,
    /// Of what is served and kept nowhere.
    pub issued: Issued,
    /// The records in the DNS that renewals depend on.
    pub proofs: Proofs,
    /// What may have been revoked.
    pub unsure: Unsure,
    /// Files whose keys others may read, and stores that others may change.
    pub on_disk: OnDisk,
    /// Why this host's clock cannot be right.
    pub clock_doubt: Option<String>,
    /// What patterns led to and is no certificate.
    pub passed_over: Vec<PassedOver>,
}

pub async fn observe(setup: &Setup, now: Timestamp, memory: &mut Memory, on: Heard<'_>) -> Sweep {
    let heard = |observation: &Observation| {
        pulse::beat();
        on(observation);
    };
    let sources = join_all(setup.sources.iter().map(|source| named(source, now, &heard)));
    let rules = join_all(setup.adopted.iter().map(|adopted| adopted.source.observe(now)));
    let endpoints = serves(setup);
    let (sources, rules, stores, serves) =
        tokio::join!(sources, rules, stores(setup, now), endpoints.observe_each(now, &heard));
    pulse::beat();

    let mut sweep = Sweep {
        inventory: Inventory::default(),
        adoptable: Vec::new(),
        listed: Vec::new(),
        sources: Vec::new(),
        earlier: BTreeMap::new(),
        issued: BTreeMap::new(),
        proofs: BTreeMap::new(),
        unsure: Unsure::new(),
        on_disk: OnDisk::default(),
        clock_doubt: None,
        passed_over: Vec::new(),
    };
    for (name, observed) in sources {
        memory.take(&mut sweep, now, name, observed);
    }
    for (adopted, observed) in setup.adopted.iter().zip(rules) {
        sweep.adoptable.push(observed.observations.iter().map(|seen| seen.location.clone()).collect());
        sweep.listed.push(observed.failures.is_empty());
        memory.take(&mut sweep, now, adopted.source.name.clone(), observed);
    }
    // Last, because what certd acts on must be what its store said.
    if !serves.observations.is_empty() {
        memory.take(&mut sweep, now, SourceName::from(SERVES), serves);
    }
    if !stores.observations.is_empty() {
        memory.take(&mut sweep, now, SourceName::from(STORES), stores);
    }
    memory.inventory = sweep.inventory.clone();
    sweep
}

async fn named(source: &Source, now: Timestamp, on: Heard<'_>) -> (SourceName, Observed) {
    (source.name().clone(), source.observe(now, on).await)
}

async fn stores(setup: &Setup, now: Timestamp) -> Observed {
    let since = Instant::now();
    // Collected first: a borrowing stream is not `Send` for every lifetime.
    let looks: Vec<_> = setup.declared.iter().map(|managed| look_in_turn(setup, managed, now, since)).collect();
    let looks = stream::iter(looks).buffer_unordered(STORES_AT_ONCE).inspect(|_| pulse::beat());
    Observed {
        observations: looks.collect::<Vec<_>>().await.into_iter().flatten().collect(),
        failures: Vec::new(),
        passed_over: Vec::new(),
    }
}

/// As part of a sweep, which spares the Vault what it may not be asked too often.
async fn look_in_turn(setup: &Setup, managed: &Managed, now: Timestamp, since: Instant) -> Option<Observation> {
    if let Some(Place::VaultKv { vault, .. }) = setup.places.get(&managed.name) {
        vault.pace().await;
    }
    look_since(setup, managed, now, since).await
}

/// Reads the store of one managed certificate.
pub async fn look(setup: &Setup, managed: &Managed, now: Timestamp) -> Option<Observation> {
    look_since(setup, managed, now, Instant::now()).await
}

async fn look_since(setup: &Setup, managed: &Managed, now: Timestamp, since: Instant) -> Option<Observation> {
    let sighting = setup.store(managed)?.read_since(since).await;
    Some(Observation {
        location: managed.location.clone(),
        source: SourceName::from(STORES),
        environment: managed.environment.clone(),
        observed_at: now,
        sighting,
        took: None,
    })
}

/// The endpoints that must present what is stored. Their trust is the store's affair.
fn serves(setup: &Setup) -> TlsSource {
    let mut targets: Vec<Location> = setup.declared.iter().flat_map(|managed| managed.serves.clone()).collect();
    targets.sort();
    targets.dedup();
    TlsSource {
        name: SourceName::from(SERVES),
        environment: None,
        targets,
        addresses: setup.addresses.clone(),
        timeout: SERVES_TIMEOUT,
        concurrency: SERVES_AT_ONCE,
        roots: std::sync::Arc::new(Roots::none()),
    }
}

impl Memory {
    fn take(&mut self, sweep: &mut Sweep, now: Timestamp, name: SourceName, observed: Observed) {
        let errors = self.errors.entry(name.clone()).or_default();
        let unseen = observed.observations.iter().filter_map(|seen| match &seen.sighting {
            Sighting::Unknown(obstacle) => Some(obstacle.obstacle),
            Sighting::Absent | Sighting::Deleted(_) | Sighting::Found(_) | Sighting::Crl(_) => None,
        });
        for kind in unseen.chain(observed.failures.iter().map(|failure| failure.obstacle)) {
            *errors.entry(kind).or_default() += 1;
        }
        let seen = observed.observations.iter().filter(|seen| !matches!(seen.sighting, Sighting::Unknown(_))).count();
        let up = observed.failures.is_empty() && (seen > 0 || observed.observations.is_empty());
        if up {
            self.last_success.insert(name.clone(), now);
        }
        sweep.sources.push(SourceStatus {
            source: name.clone(),
            up,
            last_success: self.last_success.get(&name).copied(),
            items: observed.observations.len(),
            errors: errors.iter().map(|(kind, count)| (*kind, *count)).collect(),
        });
        sweep.passed_over.extend(observed.passed_over);
        if let Some(failure) = observed.failures.first() {
            self.keep_unseen(sweep, now, &name, failure);
        }
        for observation in observed.observations {
            self.insert(sweep, observation);
        }
        for (nth, failure) in observed.failures.into_iter().enumerate() {
            self.troubles.meet(format!("source {name}"), failure.message.clone());
            let part = (nth > 0).then(|| Part::nth(nth + 1));
            sweep.inventory.insert(Observation {
                location: Location::Listing { source: name.clone(), part },
                source: name.clone(),
                environment: None,
                observed_at: now,
                sighting: Sighting::Unknown(failure),
                took: None,
            });
        }
    }

    /// Where a place cannot be read, each part that was seen there is unknown, under its own name.
    fn insert(&self, sweep: &mut Sweep, observation: Observation) {
        let is_unknown = matches!(observation.sighting, Sighting::Unknown(_));
        let parts: Vec<_> = self.inventory.parts_of(&observation.location).filter(|_| is_unknown).collect();
        for part in &parts {
            sweep.inventory.insert(Observation { location: part.location.clone(), ..observation.clone() });
        }
        if parts.is_empty() {
            sweep.inventory.insert(observation);
        }
    }

    /// What a failed listing hides is unknown, not gone.
    fn keep_unseen(&self, sweep: &mut Sweep, now: Timestamp, name: &SourceName, failure: &Obstacle) {
        let hidden =
            |before: &&Observation| before.source == *name && !matches!(before.location, Location::Listing { .. });
        for before in self.inventory.iter().filter(hidden) {
            let sighting = Sighting::Unknown(failure.clone());
            sweep.inventory.insert(Observation { sighting, observed_at: now, ..before.clone() });
        }
    }
}
