//! What was seen becomes findings and decisions. Pure but for its arguments' making.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::admit::{self, Admitted, Turn};
use crate::domain::adopt::{self, Adoption};
use crate::domain::check::{self, Problem, State};
use crate::domain::drift::Drift;
use crate::domain::inventory::{Location, Observation, Sighting};
use crate::domain::name::CertName;
use crate::domain::persist;
use crate::domain::plan::{self, Action, Decision, Demand, Held, JournalView, Managed, Record, World};
use crate::domain::shared_key::{self, SharedKeys};
use crate::domain::snapshot::{Entry, ManagedEntry};
use crate::domain::time::Timestamp;

use super::observe::Sweep;
use super::setup::Setup;

/// What certd makes of one sweep.
pub struct Assessment {
    pub managed: Vec<Managed>,
    /// One for each managed certificate, in their order.
    pub decisions: Vec<Decision>,
    /// The renewals, as indices of decisions, in the order in which they are carried out.
    pub order: Vec<usize>,
    pub entries: Vec<Entry>,
}

pub fn assess(
    setup: &Setup,
    now: Timestamp,
    sweep: &Sweep,
    journal: &JournalView,
    requested: &BTreeMap<CertName, Demand>,
    adopted_before: &[Managed],
) -> Assessment {
    let (managed, refused) = managed(setup, now, sweep, adopted_before);
    let world = World {
        now,
        managed: &managed,
        inventory: &sweep.inventory,
        journal,
        act: setup.act,
        requested,
        clock_doubt: sweep.clock_doubt.as_deref(),
    };
    let decisions = plan::plan(&world);
    let turn = Turn {
        now,
        next: now.plus(setup.interval),
        most: setup.max_renewals,
        inventory: &sweep.inventory,
        journal,
        requested,
    };
    let Admitted { decisions, order } = admit::admit(&managed, decisions, &turn);
    let entries = entries(setup, now, sweep, journal, &managed, &decisions, refused);
    Assessment { managed, decisions, order, entries }
}

/// What certd manages, and what a rule refused. Declared beats adopted; two rules on one place are held; what was adopted and is out of sight now stays
/// ours, so that the plan says that it is held and why.
pub(super) fn managed(
    setup: &Setup,
    now: Timestamp,
    sweep: &Sweep,
    adopted_before: &[Managed],
) -> (Vec<Managed>, BTreeMap<Location, Problem>) {
    let declared: BTreeSet<&Location> = setup.declared.iter().map(|managed| &managed.location).collect();
    let mut adopted: BTreeMap<Location, Managed> = BTreeMap::new();
    let mut rules: BTreeMap<Location, Vec<String>> = BTreeMap::new();
    let mut refused = BTreeMap::new();
    for (source, locations) in setup.adopted.iter().zip(&sweep.adoptable) {
        for location in locations.iter().filter(|location| !declared.contains(location)) {
            rules.entry(location.clone()).or_default().push(source.rule.name.clone());
            let Some(observation) = sweep.inventory.at(location) else { continue };
            match adopt::adopt(now, &source.rule, observation) {
                Adoption::Adopted(managed) => {
                    adopted.insert(location.clone(), *managed);
                }
                Adoption::Refused(problem) => {
                    refused.insert(location.clone(), problem);
                }
                Adoption::Nothing => {}
            }
        }
    }
    for (location, names) in rules.into_iter().filter(|(_, names)| names.len() > 1) {
        if let Some(managed) = adopted.get_mut(&location) {
            managed.held = Some(Held::TwoRules(names));
        }
    }
    refused.retain(|location, _| !adopted.contains_key(location));
    for managed in adopted_before.iter().filter(|managed| !declared.contains(&managed.location)) {
        let seen = sweep.inventory.at(&managed.location).map(|seen| &seen.sighting);
        if matches!(seen, Some(Sighting::Unknown(_))) {
            adopted.entry(managed.location.clone()).or_insert_with(|| managed.clone());
        }
    }
    let declared = setup.declared.iter().cloned().map(|mut managed| {
        if let Some(why) = sweep.on_disk.barred.get(&managed.location) {
            managed.held.get_or_insert_with(|| Held::Unwritable(why.clone()));
        }
        managed
    });
    (declared.chain(adopted.into_values()).collect(), refused)
}

fn entries(
    setup: &Setup,
    now: Timestamp,
    sweep: &Sweep,
    journal: &JournalView,
    managed: &[Managed],
    decisions: &[Decision],
    mut refused: BTreeMap<Location, Problem>,
) -> Vec<Entry> {
    let mut acted_on: BTreeMap<&Location, (&Managed, &Decision)> =
        managed.iter().zip(decisions).map(|pair| (&pair.0.location, pair)).collect();
    let drift = Drift::new(managed, &sweep.inventory);
    let owners: BTreeMap<&Location, &str> =
        managed.iter().filter_map(|managed| Some((&managed.location, managed.owner.as_deref()?))).collect();
    let mut keys = SharedKeys::default();
    for observation in sweep.inventory.iter() {
        keys.add(observation, owners.get(&observation.location).copied());
    }
    let entry = |observation: &Observation| {
        let mut problems = check::check(now, &setup.thresholds, observation);
        problems.extend(refused.remove(&observation.location));
        problems.extend(keys.of(observation, owners.get(&observation.location).copied()));
        problems.extend(key_unchanged(setup, sweep, observation));
        let exposed = sweep.on_disk.exposed.get(&observation.location);
        problems.extend(exposed.map(|(path, mode)| check::key_exposed(&path.display().to_string(), *mode)));
        problems.extend(sweep.on_disk.barred.get(&observation.location).map(|why| check::place_exposed(why)));
        let managed = acted_on.remove(&observation.location).map(|(managed, decision)| {
            problems.extend(drift.of(managed, &sweep.earlier, &sweep.issued));
            let record = record(journal, &managed.name, &decision.action);
            problems.extend(check::renewal(&decision.action, &record));
            let proofs = sweep.proofs.get(&managed.name).into_iter().flatten();
            problems.extend(proofs.filter_map(|proof| persist::check(now, proof)));
            let (origin, owner) = (managed.origin, managed.owner.clone());
            ManagedEntry { origin, owner, decision: decision.clone(), record }
        });
        let state = State::of(observation, &problems);
        Entry { observation: observation.clone(), problems, state, managed }
    };
    sweep.inventory.iter().map(entry).collect()
}

fn key_unchanged(setup: &Setup, sweep: &Sweep, observation: &Observation) -> Option<Problem> {
    let Sighting::Found(found) = &observation.sighting else { return None };
    let earlier = sweep.earlier.get(&observation.location.with_part(None))?;
    shared_key::unchanged(found, earlier, setup.same_key_renewals?)
}

/// Failures of a renewal that nothing asks for any more are history.
fn record(journal: &JournalView, name: &CertName, action: &Action) -> Record {
    let mut record = journal.records.get(name).cloned().unwrap_or_default();
    if matches!(action, Action::Keep { .. }) {
        record.settle();
    }
    record
}
