//! What was seen becomes findings and decisions. Pure but for its arguments' making.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::admit::{self, Admitted, Turn};
use crate::domain::adopt::{self, Adoption, Past, Rule};
use crate::domain::check::{self, Problem, State};
use crate::domain::drift::Drift;
use crate::domain::homes::{self, Claim, Contest, Contests, Known, Lodging, Verdict};
use crate::domain::inventory::{Location, Observation, Sighting};
use crate::domain::name::CertName;
use crate::domain::persist;
use crate::domain::plan::{self, Action, Decision, Demand, Held, JournalView, Managed, Record, World};
use crate::domain::shared_key::{self, SharedKeys};
use crate::domain::snapshot::{Entry, ManagedEntry};
use crate::domain::time::Timestamp;
use crate::domain::waiting;

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
    pub news: News,
}

/// What the journal is to note of homes, so that later places are judged by them.
#[derive(Default)]
pub struct News {
    /// By `Rule::id`.
    pub homes: BTreeMap<String, BTreeMap<CertName, Lodging>>,
    pub contests: Contests,
    /// Rules that have looked for the first time and seen every folder.
    pub looked: Vec<String>,
}

/// What certd manages, and why not the rest that its rules cover.
pub(super) struct Taken {
    pub managed: Vec<Managed>,
    pub refused: BTreeMap<Location, Problem>,
    pub news: News,
}

pub fn assess(
    setup: &Setup,
    now: Timestamp,
    sweep: &Sweep,
    journal: &JournalView,
    requested: &BTreeMap<CertName, Demand>,
    adopted_before: &[Managed],
) -> Assessment {
    let Taken { managed, refused, news } = managed(setup, now, sweep, journal, adopted_before);
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
    Assessment { managed, decisions, order, entries, news }
}

/// What certd manages, and what a rule refused. Declared beats adopted; two rules on one place are held; what was adopted and is out of sight now stays
/// ours, so that the plan says that it is held and why.
pub(super) fn managed(
    setup: &Setup,
    now: Timestamp,
    sweep: &Sweep,
    journal: &JournalView,
    adopted_before: &[Managed],
) -> Taken {
    let declared: BTreeSet<&Location> = setup.declared.iter().map(|managed| &managed.location).collect();
    let mut adopted: BTreeMap<Location, (Managed, &Rule)> = BTreeMap::new();
    let mut rules: BTreeMap<Location, Vec<String>> = BTreeMap::new();
    let mut refused = BTreeMap::new();
    for (source, locations) in setup.adopted.iter().zip(&sweep.adoptable) {
        for location in locations.iter().filter(|location| !declared.contains(location)) {
            rules.entry(location.clone()).or_default().push(source.rule.name.clone());
            let Some(observation) = sweep.inventory.at(location) else { continue };
            let unsure = observation.sighting.leaf().and_then(|leaf| sweep.unsure.get(&leaf.fingerprint));
            let past = Past { unsure: unsure.map(String::as_str), ..past(journal, location) };
            match adopt::adopt(now, &source.rule, observation, past) {
                Adoption::Adopted(managed) => {
                    adopted.insert(location.clone(), (*managed, &source.rule));
                }
                Adoption::Refused(problem) => {
                    refused.insert(location.clone(), problem);
                }
                Adoption::Nothing => {}
            }
        }
    }
    let news = settle(setup, sweep, journal, &mut adopted);
    for (location, names) in rules.into_iter().filter(|(_, names)| names.len() > 1) {
        if let Some((managed, _)) = adopted.get_mut(&location) {
            managed.held = Some(Held::TwoRules(names));
        }
    }
    refused.retain(|location, _| !adopted.contains_key(location));
    let mut adopted: BTreeMap<Location, Managed> =
        adopted.into_iter().map(|(location, (managed, _))| (location, managed)).collect();
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
    Taken { managed: declared.chain(adopted.into_values()).collect(), refused, news }
}

fn past<'a>(journal: &'a JournalView, location: &Location) -> Past<'a> {
    let name = CertName(location.to_string());
    Past { record: journal.records.get(&name), home: journal.homes.get(&name), unsure: None }
}

/// Holds the places whose names have another home, and tells what is new of the others.
fn settle(
    setup: &Setup,
    sweep: &Sweep,
    journal: &JournalView,
    adopted: &mut BTreeMap<Location, (Managed, &Rule)>,
) -> News {
    let claims = claims(sweep, journal, adopted);
    let is_covered = |place: &CertName| setup.covers(place);
    let known = Known {
        homes: &journal.homes,
        looked: &journal.looked,
        contests: &journal.contests,
        declared: &setup.declared,
        is_covered: &is_covered,
    };
    let verdicts = homes::judge(&known, &claims);
    let mut news = News::default();
    let mut held = BTreeMap::new();
    for (claim, verdict) in claims.into_iter().zip(verdicts) {
        match verdict {
            Verdict::Settled => {}
            Verdict::Note => {
                news.homes.entry(claim.rule.id.clone()).or_default().insert(claim.place.clone(), claim.holds);
            }
            Verdict::Held(why) => {
                if let Held::ContestedName(by) = &why {
                    let contest = Contest::noted(journal.contests.get(claim.place), &claim.holds.names, by);
                    news.contests.extend(contest.map(|contest| (claim.place.clone(), contest)));
                }
                held.insert(claim.place.clone(), why);
            }
        }
    }
    for (managed, _) in adopted.values_mut() {
        managed.held = held.remove(&managed.name).or(managed.held.take());
    }
    let rules = setup.adopted.iter().zip(&sweep.listed);
    let first = rules.filter(|(source, listed)| **listed && !journal.looked.contains_key(&source.rule.id));
    news.looked = first.map(|(source, _)| source.rule.id.clone()).collect();
    news
}

fn claims<'a>(
    sweep: &Sweep,
    journal: &JournalView,
    adopted: &'a BTreeMap<Location, (Managed, &'a Rule)>,
) -> Vec<Claim<'a>> {
    // What may have been revoked is no home of anything.
    let is_unsure = |managed: &Managed| matches!(managed.held, Some(Held::RevocationUnknown(_)));
    let leaf = |managed: &Managed| sweep.inventory.at(&managed.location)?.sighting.leaf().map(|leaf| leaf.fingerprint);
    adopted
        .values()
        .filter(|(managed, _)| !is_unsure(managed))
        .filter_map(|(managed, rule)| {
            let fingerprint = leaf(managed)?;
            let holds = Lodging { names: homes::name_texts(&managed.spec.names), fingerprint };
            let is_own = past(journal, &managed.location).is_own(fingerprint);
            Some(Claim { place: &managed.name, rule, holds, is_own })
        })
        .collect()
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
            problems.extend(check::unwritable(observation));
            problems.extend(check::renewal(&decision.action, &record));
            let left = journal.keys_left.get(&managed.name).and_then(|places| check::pending_key_left(places));
            problems.extend(left);
            if let Action::Hold { held } = &decision.action {
                problems.extend(waiting::problem(held, observation));
            }
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
