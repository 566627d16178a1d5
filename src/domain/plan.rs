//! What to do about each managed certificate, and why. Reads nothing but its arguments.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cert::{Fingerprint, Trust};
use super::inventory::{Found, Inventory, Location, Observation, Obstacle, Sighting};
use super::name::{CertName, IssuerName, San};
use super::renewal::Spec;
use super::time::Timestamp;

/// A certificate that certd keeps fresh, declared or adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    pub name: CertName,
    pub location: Location,
    pub origin: Origin,
    pub spec: Spec,
    /// In order of preference.
    pub issuers: Vec<IssuerName>,
    /// Endpoints that must present it.
    pub serves: Vec<Location>,
    pub owner: Option<String>,
    pub environment: Option<String>,
    /// Found to be unsafe to touch before any plan.
    pub held: Option<Held>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Declared,
    Adopted,
}

/// What the journal knows of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub consecutive_failures: u32,
    pub retry_at: Option<Timestamp>,
    pub last_error: Option<String>,
    pub last_success: Option<Timestamp>,
    /// A renewal was begun and not closed.
    pub in_flight: Option<Reason>,
    pub paused_until: Option<Timestamp>,
}

/// The fold over the journal's events that planning needs.
#[derive(Clone, Debug, Default)]
pub struct JournalView {
    pub records: BTreeMap<CertName, Record>,
    /// All acting stops until then.
    pub paused_until: Option<Timestamp>,
}

pub struct World<'a> {
    pub now: Timestamp,
    pub managed: &'a [Managed],
    pub inventory: &'a Inventory,
    pub journal: &'a JournalView,
    /// The configuration's `act`.
    pub act: bool,
    /// Asked for by a person: `certd renew`.
    pub requested: &'a BTreeMap<CertName, Request>,
}

/// How a person asked for a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Only if due, without waiting for the backoff.
    IfDue,
    /// Whatever its age.
    Force,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    pub certificate: CertName,
    pub location: Location,
    #[serde(flatten)]
    pub action: Action,
    pub based_on: Basis,
}

/// What was seen when the decision was made; checked again when it is carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Basis {
    pub version: Option<u64>,
    pub fingerprint: Option<Fingerprint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    Keep { renew_at: Timestamp },
    Renew { reason: Reason },
    Defer { until: Timestamp, reason: Deferral, renew: Reason },
    Hold { held: Held },
}

/// Why a certificate is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The place is empty.
    Missing,
    /// `renew_at` has come.
    Due,
    KeyMismatch,
    /// The configured names are not those in the certificate.
    NamesChanged,
    KeyTypeChanged,
    /// It does not verify to the issuer's roots.
    Untrusted,
    /// A person said so.
    Forced,
}

impl Reason {
    pub const ALL: [Self; 7] = [
        Self::Missing,
        Self::Due,
        Self::KeyMismatch,
        Self::NamesChanged,
        Self::KeyTypeChanged,
        Self::Untrusted,
        Self::Forced,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Due => "due",
            Self::KeyMismatch => "key_mismatch",
            Self::NamesChanged => "names_changed",
            Self::KeyTypeChanged => "key_type_changed",
            Self::Untrusted => "untrusted",
            Self::Forced => "forced",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "deferral", rename_all = "snake_case")]
pub enum Deferral {
    /// The last attempts failed.
    Backoff { failures: u32 },
    /// This turn renews as many as it may.
    Cap,
}

/// Why nothing may be done although something might be wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "because", content = "detail", rename_all = "snake_case")]
pub enum Held {
    /// Its place could not be read.
    Obstacle(Obstacle),
    /// `act = false`.
    ActIsOff,
    Paused {
        until: Timestamp,
    },
    /// Two rules name one place.
    TwoRules(Vec<String>),
    /// A kind of key that certd does not make.
    UnsupportedKey(String),
    /// It was declared or adopted, but has not been looked at yet.
    NotObserved,
}

/// One decision for each managed certificate, in their order.
pub fn plan(world: &World) -> Vec<Decision> {
    world.managed.iter().map(|managed| decide(world, managed)).collect()
}

fn decide(world: &World, managed: &Managed) -> Decision {
    let observation = world.inventory.at(&managed.location);
    Decision {
        certificate: managed.name.clone(),
        location: managed.location.clone(),
        action: action(world, managed, observation),
        based_on: observation.map(basis).unwrap_or_default(),
    }
}

fn basis(observation: &Observation) -> Basis {
    match &observation.sighting {
        Sighting::Found(found) => Basis { version: found.version, fingerprint: Some(found.leaf().fingerprint) },
        Sighting::Absent | Sighting::Unknown(_) => Basis::default(),
    }
}

fn action(world: &World, managed: &Managed, observation: Option<&Observation>) -> Action {
    if let Some(held) = &managed.held {
        return Action::Hold { held: held.clone() };
    }
    let wanted = match observation.map(|o| &o.sighting) {
        None => return Action::Hold { held: Held::NotObserved },
        Some(Sighting::Unknown(obstacle)) => return Action::Hold { held: Held::Obstacle(obstacle.clone()) },
        Some(Sighting::Absent) if managed.origin == Origin::Adopted => None,
        Some(Sighting::Absent) => Some(Reason::Missing),
        Some(Sighting::Found(found)) => reason(world, managed, found),
    };
    match (wanted, observation.map(|o| &o.sighting)) {
        (Some(reason), _) => permitted(world, managed, reason),
        (None, Some(Sighting::Found(found))) => Action::Keep { renew_at: managed.spec.renewal.due_at(found.leaf()) },
        (None, _) => Action::Hold { held: Held::NotObserved },
    }
}

/// The first reason that applies; a forced renewal names itself only when nothing else does.
fn reason(world: &World, managed: &Managed, found: &Found) -> Option<Reason> {
    let leaf = found.leaf();
    let record = world.journal.records.get(&managed.name);
    if let Some(begun) = record.and_then(|record| record.in_flight) {
        return Some(begun);
    }
    if found.key_differs() || found.stored_key.is_none() {
        return Some(Reason::KeyMismatch);
    }
    if !same_names(&managed.spec.names, &leaf.names) {
        return Some(Reason::NamesChanged);
    }
    if managed.spec.key.key_type() != leaf.key {
        return Some(Reason::KeyTypeChanged);
    }
    if matches!(found.trust, Trust::Unverified(_)) {
        return Some(Reason::Untrusted);
    }
    if managed.spec.renewal.due_at(leaf) <= world.now {
        return Some(Reason::Due);
    }
    (world.requested.get(&managed.name) == Some(&Request::Force)).then_some(Reason::Forced)
}

fn same_names(wanted: &[San], found: &[San]) -> bool {
    wanted.iter().all(|name| found.contains(name)) && found.iter().all(|name| wanted.contains(name))
}

/// What stops a renewal that is wanted: the switch, a pause, the backoff.
fn permitted(world: &World, managed: &Managed, reason: Reason) -> Action {
    if !world.act {
        return Action::Hold { held: Held::ActIsOff };
    }
    let record = world.journal.records.get(&managed.name);
    let pauses = [world.journal.paused_until, record.and_then(|record| record.paused_until)];
    if let Some(until) = pauses.into_iter().flatten().max().filter(|until| world.now < *until) {
        return Action::Hold { held: Held::Paused { until } };
    }
    let retry_at = record.and_then(|record| record.retry_at).filter(|retry_at| world.now < *retry_at);
    match (retry_at, record) {
        (Some(until), Some(record)) if !world.requested.contains_key(&managed.name) => {
            let failures = record.consecutive_failures;
            Action::Defer { until, reason: Deferral::Backoff { failures }, renew: reason }
        }
        _ => Action::Renew { reason },
    }
}

/// Bounds what one turn may do: at most `most` renewals, those that end first before the others.
pub fn admit(mut decisions: Vec<Decision>, inventory: &Inventory, most: usize, next_turn: Timestamp) -> Vec<Decision> {
    let mut renewals: Vec<usize> =
        (0..decisions.len()).filter(|i| matches!(decisions[*i].action, Action::Renew { .. })).collect();
    renewals.sort_by_key(|i| ends_at(inventory, &decisions[*i].location));
    for i in renewals.into_iter().skip(most) {
        if let Action::Renew { reason } = decisions[i].action {
            decisions[i].action = Action::Defer { until: next_turn, reason: Deferral::Cap, renew: reason };
        }
    }
    decisions
}

fn ends_at(inventory: &Inventory, location: &Location) -> Option<Timestamp> {
    match &inventory.at(location)?.sighting {
        Sighting::Found(found) => Some(found.leaf().not_after),
        Sighting::Absent | Sighting::Unknown(_) => None,
    }
}
