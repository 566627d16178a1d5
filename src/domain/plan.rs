//! What to do about each managed certificate, and why. Reads nothing but its arguments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::breaker;
use super::cap;
use super::cert::{Certificate, Chain, Fingerprint, Trust};
use super::clock;
use super::fallback;
use super::inventory::{Found, Inventory, Location, Observation, Obstacle, Sighting};
use super::name::{CertName, IssuerName, San};
use super::policy;
use super::renewal::Spec;
use super::time::Timestamp;

pub use super::record::{JournalView, Record};

/// A certificate that certd keeps fresh, declared or adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    pub name: CertName,
    pub location: Location,
    pub origin: Origin,
    /// The name of the `[[adopt]]` rule; `None` where it is declared.
    pub rule: Option<String>,
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

pub struct World<'a> {
    pub now: Timestamp,
    pub managed: &'a [Managed],
    pub inventory: &'a Inventory,
    pub journal: &'a JournalView,
    /// The configuration's `act`.
    pub act: bool,
    /// Why the clock that `now` is of cannot be right.
    pub clock_doubt: Option<&'a str>,
    /// Asked for by a person: `certd renew`.
    pub requested: &'a BTreeMap<CertName, Demand>,
}

/// How a person asked for a renewal; the later ones ask for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Demand {
    /// Only if due, without waiting for the backoff.
    IfDue,
    /// Whatever its age.
    Force,
    /// Whatever its age, and beyond the weekly limit and the wait after what was issued and not stored.
    OverTheCap,
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

impl Basis {
    pub fn of(sighting: &Sighting) -> Self {
        match sighting {
            Sighting::Found(found) => Self { version: found.version, fingerprint: Some(found.leaf().fingerprint) },
            Sighting::Absent | Sighting::Deleted(_) | Sighting::Crl(_) | Sighting::Unknown(_) => Self::default(),
        }
    }
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The place is empty.
    Missing,
    /// `renew_at` has come.
    Due,
    /// The moment that its CA advises has come (RFC 9773).
    Advised,
    KeyMismatch,
    /// The configured names are not those in the certificate.
    NamesChanged,
    KeyTypeChanged,
    /// It does not verify to the issuer's roots.
    Untrusted,
    /// Its issuer revoked it.
    Revoked,
    /// A clock that was wrong is in it: its time has not come.
    NotYetValid,
    /// A person said so.
    Forced,
}

impl Reason {
    pub const ALL: [Self; 10] = [
        Self::Missing,
        Self::Due,
        Self::Advised,
        Self::KeyMismatch,
        Self::NamesChanged,
        Self::KeyTypeChanged,
        Self::Untrusted,
        Self::Revoked,
        Self::NotYetValid,
        Self::Forced,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Due => "due",
            Self::Advised => "advised",
            Self::KeyMismatch => "key_mismatch",
            Self::NamesChanged => "names_changed",
            Self::KeyTypeChanged => "key_type_changed",
            Self::Untrusted => "untrusted",
            Self::Revoked => "revoked",
            Self::NotYetValid => "not_yet_valid",
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
    /// What certd stored was replaced or removed by others, again and again.
    Contested,
    /// Every issuer of the certificate failed again and again, for whomever.
    IssuerDown { issuer: IssuerName },
    /// So many certificates were stored there within seven days, and no more may be.
    WeeklyLimit { stored: usize, most: usize },
    /// So many certificates were issued for it within seven days, and refused or given up.
    NotStored { issued: usize },
}

/// Why nothing may be done although something might be wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "because", content = "detail", rename_all = "snake_case")]
pub enum Held {
    /// Its place could not be read.
    Obstacle(Obstacle),
    /// `act = false`.
    ActIsOff,
    /// This host's clock cannot be right.
    ClockDoubtful(String),
    /// Nothing can be written down: the journal was removed or replaced under this process.
    JournalGone(String),
    Paused {
        until: Timestamp,
    },
    /// Two rules name one place.
    TwoRules(Vec<String>),
    /// A kind of key that certd does not make.
    UnsupportedKey(String),
    /// Several certificates are kept in one place, and a write replaces the place whole.
    SeveralCertificates,
    /// Writing there would lose something or open the key to others, as a look or the last attempt found.
    Unwritable(String),
    /// Nobody can say whether its issuer revoked it, and certd did not store it.
    RevocationUnknown(String),
    /// These places had a name of it first.
    ContestedName(Vec<CertName>),
    /// Somebody stored a certificate here for other names than these, for which the place was adopted.
    OtherNames(Vec<String>),
    /// The rule has `adopt = "ask"`, and no person has agreed yet.
    NotAgreed,
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
        based_on: observation.map(|seen| Basis::of(&seen.sighting)).unwrap_or_default(),
    }
}

fn action(world: &World, managed: &Managed, observation: Option<&Observation>) -> Action {
    if let Some(held) = &managed.held {
        return Action::Hold { held: held.clone() };
    }
    if let Some(Sighting::Found(found)) = observation.map(|o| &o.sighting)
        && let Some(why) = &found.unwritable
    {
        // Told as soon as it is seen, since a person must act before the certificate ends.
        return Action::Hold { held: Held::Unwritable(why.clone()) };
    }
    let wanted = match observation.map(|o| &o.sighting) {
        None => return Action::Hold { held: Held::NotObserved },
        Some(Sighting::Unknown(obstacle)) => return Action::Hold { held: Held::Obstacle(obstacle.clone()) },
        Some(Sighting::Absent | Sighting::Deleted(_)) if managed.origin == Origin::Adopted => None,
        Some(Sighting::Absent | Sighting::Deleted(_)) => Some(Reason::Missing),
        // No store is one of revocation lists.
        Some(Sighting::Crl(_)) => None,
        Some(Sighting::Found(found)) => reason(world, managed, found),
    };
    match (wanted, observation.map(|o| &o.sighting)) {
        (Some(reason), seen) => permitted(world, managed, reason, seen.and_then(Sighting::leaf)),
        (None, Some(Sighting::Found(found))) => Action::Keep { renew_at: renew_at(world, managed, &found.chain) },
        (None, _) => Action::Hold { held: Held::NotObserved },
    }
}

/// The first reason that applies; a forced renewal names itself only when nothing else does.
fn reason(world: &World, managed: &Managed, found: &Found) -> Option<Reason> {
    let leaf = found.leaf();
    let record = world.journal.records.get(&managed.name);
    if let Some(begun) = record.and_then(|record| record.goes_on(leaf)) {
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
    if found.revoked_at.is_some() {
        return Some(Reason::Revoked);
    }
    if clock::is_ahead(found.chain.usable().from, world.now) {
        return Some(Reason::NotYetValid);
    }
    if managed.spec.renewal.due_of(&found.chain) <= world.now {
        return Some(Reason::Due);
    }
    if renew_at(world, managed, &found.chain) <= world.now {
        return Some(Reason::Advised);
    }
    world.requested.get(&managed.name).filter(|demand| **demand >= Demand::Force).map(|_| Reason::Forced)
}

/// By the policy or, if that is earlier, as its CA advises.
pub fn renew_at(world: &World, managed: &Managed, chain: &Chain) -> Timestamp {
    let advice = world.journal.records.get(&managed.name).and_then(|record| record.advice.as_ref());
    let advised = advice.and_then(|advice| advice.renew_at(chain.leaf.fingerprint));
    let own = managed.spec.renewal.due_of(chain);
    advised.map_or(own, |advised| advised.min(own))
}

fn same_names(wanted: &[San], found: &[San]) -> bool {
    wanted.iter().all(|name| found.contains(name)) && found.iter().all(|name| wanted.contains(name))
}

/// What stops a renewal that is wanted: the switch, a pause, the backoff, others that undo it, its issuers, the cap.
fn permitted(world: &World, managed: &Managed, reason: Reason, leaf: Option<&Certificate>) -> Action {
    if !world.act {
        return Action::Hold { held: Held::ActIsOff };
    }
    if let Some(why) = world.clock_doubt {
        return Action::Hold { held: Held::ClockDoubtful(why.to_string()) };
    }
    if let Some(why) = &world.journal.gone {
        return Action::Hold { held: Held::JournalGone(why.clone()) };
    }
    if let Some(until) = world.journal.pause_of(&managed.name, world.now) {
        return Action::Hold { held: Held::Paused { until } };
    }
    let nothing = Record::default();
    let record = world.journal.records.get(&managed.name).unwrap_or(&nothing);
    let demand = world.requested.get(&managed.name);
    // What a CA has signed already goes on.
    let passes = record.issued || demand == Some(&Demand::OverTheCap);
    if let Some((until, stopped_by)) = capped(world, managed, record, reason, leaf).filter(|_| !passes) {
        return Action::Defer { until, reason: stopped_by, renew: reason };
    }
    let deferred = deferred(world, managed, record, reason, leaf).filter(|_| demand.is_none());
    deferred.unwrap_or(Action::Renew { reason })
}

/// Where the weekly limit is low, it is reached before others have undone as much as `contested` waits for.
fn capped(
    world: &World,
    managed: &Managed,
    record: &Record,
    reason: Reason,
    leaf: Option<&Certificate>,
) -> Option<(Timestamp, Deferral)> {
    let (until, reached) = cap::reached(record, &managed.spec, leaf, reason, world.now)?;
    let found = leaf.map(|leaf| leaf.fingerprint);
    match reached {
        Deferral::WeeklyLimit { .. } if record.is_undone_again(found, reason, world.now) => {
            Some((until, Deferral::Contested))
        }
        other => Some((until, other)),
    }
}

fn deferred(
    world: &World,
    managed: &Managed,
    record: &Record,
    renew: Reason,
    leaf: Option<&Certificate>,
) -> Option<Action> {
    // What lies further ahead was noted by a clock that was wrong.
    let ahead = |until| clock::believable(until, world.now, policy::LONGEST_WAIT);
    let later = |until: Option<Timestamp>| until.and_then(ahead).filter(|until| world.now < *until);
    let found = leaf.map(|leaf| leaf.fingerprint);
    match (later(record.retry_at), &record.unwritable) {
        (Some(_), Some(why)) => return Some(Action::Hold { held: Held::Unwritable(why.clone()) }),
        (Some(until), None) => {
            let failures = record.consecutive_failures;
            return Some(Action::Defer { until, reason: Deferral::Backoff { failures }, renew });
        }
        (None, _) => {}
    }
    if let Some(until) = later(record.contested_until(found, renew)) {
        return Some(Action::Defer { until, reason: Deferral::Contested, renew });
    }
    let asked = fallback::in_question(managed, renew, leaf, world.now);
    let (until, issuer) = breaker::open_until(world.journal, asked, world.now).filter(|_| !record.issued)?;
    Some(Action::Defer { until, reason: Deferral::IssuerDown { issuer }, renew })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::cert::{KeyDigest, KeyType};
    use crate::domain::inventory::Deletion;
    use crate::domain::key::KeySpec;
    use crate::domain::sample::*;

    /// One managed certificate and all that a plan reads of it.
    struct Scene {
        managed: Managed,
        sighting: Option<Sighting>,
        journal: JournalView,
        act: bool,
        clock_doubt: Option<&'static str>,
        requested: BTreeMap<CertName, Demand>,
    }

    impl Scene {
        fn new(sighting: Sighting) -> Self {
            Self {
                managed: managed("a.example.org"),
                sighting: Some(sighting),
                journal: JournalView::default(),
                act: true,
                clock_doubt: None,
                requested: BTreeMap::new(),
            }
        }

        fn found(leaf: Certificate) -> Self {
            Self::new(Sighting::Found(Box::new(found(leaf))))
        }

        fn fresh() -> Self {
            Self::found(leaf(&["a.example.org"]))
        }

        fn due() -> Self {
            Self::found(ending_in(DAY, leaf(&["a.example.org"])))
        }

        fn change(mut self, change: impl FnOnce(&mut Self)) -> Self {
            change(&mut self);
            self
        }

        fn change_found(self, change: impl FnOnce(&mut Found)) -> Self {
            self.change(|scene| match &mut scene.sighting {
                Some(Sighting::Found(found)) => change(found),
                other => panic!("nothing found: {other:?}"),
            })
        }

        fn record(self, record: Record) -> Self {
            self.change(|scene| {
                scene.journal.records.insert(scene.managed.name.clone(), record);
            })
        }

        fn asked(self, request: Demand) -> Self {
            self.change(|scene| {
                scene.requested.insert(scene.managed.name.clone(), request);
            })
        }

        fn decision(&self) -> Decision {
            let mut inventory = Inventory::default();
            if let Some(sighting) = &self.sighting {
                inventory.insert(seen(self.managed.location.clone(), sighting.clone()));
            }
            let managed = std::slice::from_ref(&self.managed);
            let (journal, requested) = (&self.journal, &self.requested);
            let mut plan = plan(&World {
                clock_doubt: self.clock_doubt,
                now: NOW,
                managed,
                inventory: &inventory,
                journal,
                act: self.act,
                requested,
            });
            assert_eq!(plan.len(), 1);
            plan.remove(0)
        }

        fn action(&self) -> Action {
            self.decision().action
        }
    }

    fn renew(reason: Reason) -> Action {
        Action::Renew { reason }
    }

    fn hold(held: Held) -> Action {
        Action::Hold { held }
    }

    #[test]
    fn a_fresh_certificate_is_kept_until_a_third_of_its_lifetime_is_left() {
        assert_eq!(Scene::fresh().action(), Action::Keep { renew_at: NOW.plus(50 * DAY) });
    }

    #[test]
    fn is_due_at_the_instant_itself_and_not_a_second_before() {
        let ending = |left| Scene::found(ending_in(left, leaf(&["a.example.org"]))).action();
        assert_eq!(ending(30 * DAY + SECOND), Action::Keep { renew_at: NOW.plus(SECOND) });
        assert_eq!(ending(30 * DAY), renew(Reason::Due));
        assert_eq!(ending(30 * DAY - SECOND), renew(Reason::Due));
    }

    #[test]
    fn what_is_not_valid_for_longer_than_clocks_differ_is_renewed() {
        let from = |ahead| {
            let fresh = Certificate { not_before: NOW.plus(ahead), ..leaf(&["a.example.org"]) };
            Scene::found(Certificate { not_after: fresh.not_before.plus(90 * DAY), ..fresh }).action()
        };
        assert!(matches!(from(300 * SECOND), Action::Keep { .. }));
        assert_eq!(from(301 * SECOND), renew(Reason::NotYetValid));
        assert_eq!(from(400 * DAY), renew(Reason::NotYetValid));
    }

    #[test]
    fn a_place_that_certd_would_not_write_is_held_long_before_it_is_due() {
        let unwritable = |found: &mut Found| found.unwritable = Some("two keys".to_string());
        for scene in [Scene::fresh(), Scene::due(), Scene::due().asked(Demand::Force)] {
            assert_eq!(scene.change_found(unwritable).action(), hold(Held::Unwritable("two keys".into())));
        }
    }

    #[test]
    fn nothing_is_decided_by_a_clock_that_cannot_be_right() {
        let doubtful = Scene::due().asked(Demand::Force).change(|scene| scene.clock_doubt = Some("set it"));
        assert_eq!(doubtful.action(), hold(Held::ClockDoubtful("set it".into())));
    }

    #[test]
    fn a_wait_that_is_longer_than_any_was_noted_by_a_clock_that_was_wrong() {
        let waiting = |until| Scene::due().record(Record { retry_at: Some(until), ..Record::default() }).action();
        let longest = NOW.plus(policy::LONGEST_WAIT);
        assert!(matches!(waiting(longest), Action::Defer { until, .. } if until == longest));
        assert_eq!(waiting(longest.plus(SECOND)), renew(Reason::Due));
    }

    /// An issuer that is left alone.
    fn left_alone(scene: &mut Scene, until: Timestamp) {
        let record = breaker::IssuerRecord { consecutive_failures: 5, open_until: Some(until), asked_until: None };
        scene.journal.issuers = scene.managed.issuers.iter().map(|issuer| (issuer.clone(), record.clone())).collect();
    }

    #[test]
    fn where_the_limit_comes_first_what_others_undo_is_contested_all_the_same() {
        let long_ago = NOW.minus(7 * DAY);
        let stopped = |closed: usize, wrote| {
            let closed = [vec![long_ago; 3], vec![NOW; closed]].concat();
            match Scene::due().record(Record { wrote, closed, ..Record::default() }).action() {
                Action::Defer { until, reason, .. } if until == NOW.plus(7 * DAY) => Some(reason),
                Action::Renew { .. } => None,
                other => panic!("{other:?}"),
            }
        };
        let (found, other) = (Some(Fingerprint([0; 32])), Some(Fingerprint([5; 32])));
        let capped = Some(Deferral::WeeklyLimit { stored: 2, most: 2 });
        assert_eq!(stopped(2, other), Some(Deferral::Contested));
        assert_eq!(stopped(1, other), None, "once may be somebody who knew better");
        assert_eq!(stopped(2, found), capped);
        assert_eq!(stopped(2, None), capped);
    }

    #[test]
    fn an_issuer_that_is_left_alone_is_waited_for_unless_a_person_asks_or_it_has_signed() {
        let until = NOW.plus(60 * SECOND);
        let down = |scene: Scene| scene.change(|scene| left_alone(scene, until));
        let issuer = managed("a.example.org").issuers[0].clone();
        let deferred = Action::Defer { until, reason: Deferral::IssuerDown { issuer }, renew: Reason::Due };
        assert_eq!(down(Scene::due()).action(), deferred);
        assert_eq!(down(Scene::due().asked(Demand::IfDue)).action(), renew(Reason::Due));
        let signed = Record { in_flight: Some(Reason::Due), issued: true, ..Record::default() };
        assert_eq!(down(Scene::due().record(signed)).action(), renew(Reason::Due));
    }

    /// Two certificates were stored just now, and are there.
    fn two_stored() -> Record {
        Record { wrote: Some(Fingerprint([0; 32])), closed: vec![NOW; 2], ..Record::default() }
    }

    #[test]
    fn the_weekly_limit_stops_force_too_and_neither_what_is_signed_already_nor_a_person_who_passes_it() {
        let until = NOW.plus(cap::WINDOW);
        let deferred = |renew| Action::Defer { until, reason: Deferral::WeeklyLimit { stored: 2, most: 2 }, renew };
        assert_eq!(Scene::due().record(two_stored()).action(), deferred(Reason::Due));
        let fresh = |demand| Scene::fresh().record(two_stored()).asked(demand).action();
        assert_eq!(fresh(Demand::Force), deferred(Reason::Forced));
        assert_eq!(fresh(Demand::OverTheCap), renew(Reason::Forced));
        assert_eq!(Scene::due().record(two_stored()).asked(Demand::OverTheCap).action(), renew(Reason::Due));
        let signed = Record { in_flight: Some(Reason::Due), issued: true, ..two_stored() };
        assert_eq!(Scene::due().record(signed).action(), renew(Reason::Due));
    }

    #[test]
    fn the_weekly_limit_is_of_the_place_and_not_of_its_names() {
        let scene = Scene::due().change(|scene| {
            scene.journal.records.insert("another.place".into(), two_stored());
        });
        assert_eq!(scene.action(), renew(Reason::Due));
    }

    #[test]
    fn what_was_issued_and_refused_waits_for_everybody_but_a_person_who_passes_it() {
        let refused = || Record { unused: vec![NOW; 3], ..Record::default() };
        let deferred = |renew| Action::Defer { until: NOW.plus(DAY), reason: Deferral::NotStored { issued: 3 }, renew };
        assert_eq!(Scene::due().record(refused()).action(), deferred(Reason::Due));
        assert_eq!(Scene::due().record(refused()).asked(Demand::Force).action(), deferred(Reason::Due));
        assert_eq!(Scene::due().record(refused()).asked(Demand::OverTheCap).action(), renew(Reason::Due));
    }

    #[test]
    fn a_revoked_certificate_and_another_key_pass_the_limit_five_times_a_day_and_seven_times_a_week() {
        let revoked =
            |record| Scene::fresh().change_found(|found| found.revoked_at = Some(NOW)).record(record).action();
        let other_key = |record| Scene::fresh().change_found(|found| found.stored_key = None).record(record).action();
        assert_eq!(revoked(two_stored()), renew(Reason::Revoked));
        assert_eq!(other_key(two_stored()), renew(Reason::KeyMismatch));
        let contested = |until, renew| Action::Defer { until, reason: Deferral::Contested, renew };
        let times = |times, at| Record { closed: vec![at; times], ..two_stored() };
        let in_a_day = NOW.plus(DAY);
        assert_eq!(other_key(times(5, NOW)), contested(in_a_day, Reason::KeyMismatch));
        assert_eq!(revoked(times(5, NOW)), contested(in_a_day, Reason::Revoked));
        assert_eq!(revoked(times(6, NOW.minus(DAY))), renew(Reason::Revoked));
        let in_six_days = NOW.plus(6 * DAY);
        assert_eq!(revoked(times(7, NOW.minus(DAY))), contested(in_six_days, Reason::Revoked));
    }

    #[test]
    fn never_acts_on_what_it_could_not_see() {
        let unknown = || Scene::new(Sighting::Unknown(obstacle()));
        assert_eq!(unknown().action(), hold(Held::Obstacle(obstacle())));
        assert_eq!(unknown().asked(Demand::Force).action(), hold(Held::Obstacle(obstacle())));
        let begun = Record { in_flight: Some(Reason::Due), ..Record::default() };
        assert_eq!(unknown().record(begun).action(), hold(Held::Obstacle(obstacle())));
        let not_looked_at = unknown().change(|scene| scene.sighting = None).asked(Demand::Force);
        assert_eq!(not_looked_at.action(), hold(Held::NotObserved));
        assert_eq!(not_looked_at.decision().based_on, Basis::default());
    }

    #[test]
    fn a_declared_place_that_is_empty_is_filled() {
        assert_eq!(Scene::new(Sighting::Absent).action(), renew(Reason::Missing));
        let deleted = Sighting::Deleted(Deletion::Deleted { version: 3, at: NOW });
        assert_eq!(Scene::new(deleted).action(), renew(Reason::Missing));
    }

    #[test]
    fn what_its_issuer_revoked_is_renewed_whatever_its_age() {
        let revoked = Scene::fresh().change_found(|found| found.revoked_at = Some(NOW));
        assert_eq!(revoked.action(), renew(Reason::Revoked));
    }

    #[test]
    fn a_revocation_list_is_nothing_to_renew() {
        assert_eq!(Scene::new(Sighting::Crl(Box::new(crl()))).action(), hold(Held::NotObserved));
    }

    #[test]
    fn a_deleted_secret_is_never_recreated_even_when_asked_for() {
        let deleted = Scene::new(Sighting::Absent).change(|scene| scene.managed.origin = Origin::Adopted);
        assert_eq!(deleted.action(), hold(Held::NotObserved));
        let dated = Sighting::Deleted(Deletion::Destroyed { version: 3 });
        let dated = Scene::new(dated).change(|scene| scene.managed.origin = Origin::Adopted);
        assert_eq!(dated.action(), hold(Held::NotObserved));
        let begun = Record { in_flight: Some(Reason::Due), ..Record::default() };
        assert_eq!(deleted.record(begun).asked(Demand::Force).action(), hold(Held::NotObserved));
    }

    #[test]
    fn what_is_held_beforehand_stays_held() {
        let held = Held::TwoRules(vec!["one".into(), "two".into()]);
        let scene = Scene::due().asked(Demand::Force).change(|scene| scene.managed.held = Some(held.clone()));
        assert_eq!(scene.action(), hold(held));
    }

    #[test]
    fn a_key_that_differs_or_is_gone_is_a_reason() {
        let other = Scene::fresh().change_found(|found| found.stored_key = Some(KeyDigest([2; 32])));
        assert_eq!(other.action(), renew(Reason::KeyMismatch));
        assert_eq!(Scene::fresh().change_found(|found| found.stored_key = None).action(), renew(Reason::KeyMismatch));
    }

    #[test]
    fn names_that_were_added_or_taken_away_are_a_reason_and_their_order_is_not() {
        let wants = |names: &[&str]| {
            let leaf = leaf(&["a.example.org", "b.example.org"]);
            Scene::found(leaf).change(|scene| scene.managed.spec.names = sans(names)).action()
        };
        let kept = Action::Keep { renew_at: NOW.plus(50 * DAY) };
        assert_eq!(wants(&["a.example.org", "b.example.org"]), kept);
        assert_eq!(wants(&["b.example.org", "a.example.org"]), kept);
        assert_eq!(wants(&["a.example.org"]), renew(Reason::NamesChanged));
        assert_eq!(wants(&["a.example.org", "b.example.org", "c.example.org"]), renew(Reason::NamesChanged));
    }

    #[test]
    fn another_kind_of_key_is_a_reason() {
        let wants_rsa = Scene::fresh().change(|scene| scene.managed.spec.key = KeySpec::Rsa2048);
        assert_eq!(wants_rsa.action(), renew(Reason::KeyTypeChanged));
        let has_rsa = |bits| Certificate { key: KeyType::Rsa(bits), ..leaf(&["a.example.org"]) };
        let of_rsa = |bits| Scene::found(has_rsa(bits)).change(|scene| scene.managed.spec.key = KeySpec::Rsa2048);
        assert_eq!(of_rsa(2_048).action(), Action::Keep { renew_at: NOW.plus(50 * DAY) });
        assert_eq!(of_rsa(3_072).action(), renew(Reason::KeyTypeChanged));
    }

    #[test]
    fn a_chain_that_leads_to_no_root_is_a_reason_and_one_that_nobody_judged_is_not() {
        let trust = |trust| Scene::fresh().change_found(|found| found.trust = trust).action();
        assert_eq!(trust(Trust::Unverified("no path".into())), renew(Reason::Untrusted));
        assert_eq!(trust(Trust::NotJudged), Action::Keep { renew_at: NOW.plus(50 * DAY) });
    }

    #[test]
    fn the_first_reason_wins_and_force_names_itself_last() {
        let mut scene = Scene::due().asked(Demand::Force).record(Record {
            in_flight: Some(Reason::Forced),
            issued: true,
            ..Record::default()
        });
        scene.managed.spec.names = sans(&["b.example.org"]);
        scene.managed.spec.key = KeySpec::Ed25519;
        let mut scene = scene.change_found(|found| {
            found.stored_key = None;
            found.trust = Trust::Unverified("no path".into());
        });
        assert_eq!(scene.action(), renew(Reason::Forced), "what was begun keeps its reason");
        scene.journal.records.clear();
        assert_eq!(scene.action(), renew(Reason::KeyMismatch));
        let mut scene = scene.change_found(|found| found.stored_key = Some(found.leaf().public_key));
        assert_eq!(scene.action(), renew(Reason::NamesChanged));
        scene.managed.spec.names = sans(&["a.example.org"]);
        assert_eq!(scene.action(), renew(Reason::KeyTypeChanged));
        scene.managed.spec.key = KeySpec::EcdsaP256;
        assert_eq!(scene.action(), renew(Reason::Untrusted));
        let scene = scene.change_found(|found| found.trust = Trust::Verified);
        assert_eq!(scene.action(), renew(Reason::Due));
    }

    #[test]
    fn only_force_renews_what_is_fresh() {
        assert_eq!(Scene::fresh().asked(Demand::Force).action(), renew(Reason::Forced));
        assert_eq!(Scene::fresh().asked(Demand::IfDue).action(), Action::Keep { renew_at: NOW.plus(50 * DAY) });
        let other = Scene::fresh().change(|scene| {
            scene.requested.insert("b.example.org".into(), Demand::Force);
        });
        assert_eq!(other.action(), Action::Keep { renew_at: NOW.plus(50 * DAY) });
    }

    #[test]
    fn act_off_holds_every_renewal_even_a_forced_one_and_still_says_what_is_kept() {
        let off = |scene: Scene| scene.change(|scene| scene.act = false).action();
        assert_eq!(off(Scene::due()), hold(Held::ActIsOff));
        assert_eq!(off(Scene::new(Sighting::Absent)), hold(Held::ActIsOff));
        assert_eq!(off(Scene::fresh().asked(Demand::Force)), hold(Held::ActIsOff));
        assert_eq!(off(Scene::fresh()), Action::Keep { renew_at: NOW.plus(50 * DAY) });
    }

    #[test]
    fn a_pause_holds_until_its_instant_the_longer_of_two_counts_and_force_does_not_break_it() {
        let paused = |all: Option<Timestamp>, one: Option<Timestamp>| {
            let scene = Scene::due().record(Record { paused_until: one, ..Record::default() });
            scene.change(|scene| scene.journal.paused_until = all).asked(Demand::Force).action()
        };
        let (soon, later) = (NOW.plus(SECOND), NOW.plus(DAY));
        assert_eq!(paused(Some(soon), None), hold(Held::Paused { until: soon }));
        assert_eq!(paused(None, Some(soon)), hold(Held::Paused { until: soon }));
        assert_eq!(paused(Some(soon), Some(later)), hold(Held::Paused { until: later }));
        assert_eq!(paused(Some(later), Some(soon)), hold(Held::Paused { until: later }));
        assert_eq!(paused(Some(NOW), Some(NOW.minus(SECOND))), renew(Reason::Due));
    }

    #[test]
    fn backoff_defers_until_its_instant_unless_a_person_asks() {
        let failed = |retry_at| {
            Scene::due().record(Record { consecutive_failures: 3, retry_at: Some(retry_at), ..Record::default() })
        };
        let until = NOW.plus(SECOND);
        let deferred = Action::Defer { until, reason: Deferral::Backoff { failures: 3 }, renew: Reason::Due };
        assert_eq!(failed(until).action(), deferred);
        assert_eq!(failed(NOW).action(), renew(Reason::Due));
        assert_eq!(failed(until).asked(Demand::IfDue).action(), renew(Reason::Due));
        assert_eq!(failed(until).asked(Demand::Force).action(), renew(Reason::Due));
    }

    #[test]
    fn a_renewal_that_was_begun_goes_on_with_its_reason_under_the_same_limits() {
        let begun = || Record { in_flight: Some(Reason::NamesChanged), issued: true, ..Record::default() };
        assert_eq!(Scene::fresh().record(begun()).action(), renew(Reason::NamesChanged));
        let waiting = Record { retry_at: Some(NOW.plus(DAY)), consecutive_failures: 1, ..begun() };
        let until = NOW.plus(DAY);
        let deferred = Action::Defer { until, reason: Deferral::Backoff { failures: 1 }, renew: Reason::NamesChanged };
        assert_eq!(Scene::fresh().record(waiting).action(), deferred);
    }

    #[test]
    fn before_a_ca_has_signed_what_is_stored_decides() {
        let begun = |reason, replaces| {
            let record = Record { in_flight: Some(reason), replaces: Some(replaces), ..Record::default() };
            Scene::fresh().record(record).action()
        };
        let (there, another) = (Fingerprint([0; 32]), Fingerprint([5; 32]));
        let kept = Action::Keep { renew_at: NOW.plus(50 * DAY) };
        assert_eq!(begun(Reason::Due, another), kept, "somebody put a fresh one there meanwhile");
        assert_eq!(begun(Reason::NamesChanged, there), kept, "the names were changed back");
        assert_eq!(begun(Reason::Forced, there), renew(Reason::Forced));
        assert_eq!(begun(Reason::Forced, another), kept);
    }

    #[test]
    fn a_place_that_must_not_be_written_to_is_held_until_it_is_tried_again() {
        let held = |retry_at| {
            let unwritable = Some("not written: it has 2 names".to_string());
            Scene::due().record(Record { retry_at: Some(retry_at), unwritable, ..Record::default() })
        };
        let because = hold(Held::Unwritable("not written: it has 2 names".into()));
        assert_eq!(held(NOW.plus(SECOND)).action(), because);
        assert_eq!(held(NOW).action(), renew(Reason::Due));
        assert_eq!(held(NOW.plus(SECOND)).asked(Demand::IfDue).action(), renew(Reason::Due));
    }

    /// cert-manager/website#2128: something overwrites the target, and every turn renews it.
    #[test]
    fn what_others_keep_undoing_is_renewed_five_times_a_day_and_no_more() {
        let closed = |times: u32, oldest: Timestamp| {
            let mut record = Record::default();
            for _ in 0..times {
                record.note_closed(oldest, Fingerprint([5; 32]), NOW);
            }
            record
        };
        let an_hour_ago = NOW.minus(DAY / 24);
        let waits = Action::Defer { until: an_hour_ago.plus(DAY), reason: Deferral::Contested, renew: Reason::Due };
        // Of a day, so that the weekly limit is far away.
        let of_a_day = |scene: &mut Scene| scene.managed.spec.lifetime = Some(DAY);
        let due = |record: Record| Scene::due().change(of_a_day).record(record);
        assert_eq!(due(closed(4, an_hour_ago)).action(), renew(Reason::Due));
        assert_eq!(due(closed(5, an_hour_ago)).action(), waits);
        assert_eq!(due(closed(9, an_hour_ago)).action(), waits);
        assert_eq!(due(closed(5, an_hour_ago)).asked(Demand::IfDue).action(), renew(Reason::Due));
        assert_eq!(due(closed(5, NOW.minus(DAY))).action(), renew(Reason::Due));
        let ours = Record { wrote: Some(Fingerprint([0; 32])), ..closed(5, an_hour_ago) };
        assert_eq!(due(ours).action(), renew(Reason::Due), "certificates of minutes are due often");
        let signed = Record { in_flight: Some(Reason::Due), issued: true, ..closed(5, an_hour_ago) };
        assert_eq!(due(signed).action(), renew(Reason::Due), "a signed one reaches its store");
        let removed = Scene::new(Sighting::Absent).change(of_a_day).record(closed(5, an_hour_ago)).action();
        assert!(matches!(removed, Action::Defer { reason: Deferral::Contested, renew: Reason::Missing, .. }));
    }

    #[test]
    fn a_decision_names_what_it_was_based_on() {
        let leaf = Certificate { fingerprint: Fingerprint([3; 32]), ..leaf(&["a.example.org"]) };
        let decision = Scene::found(leaf).decision();
        assert_eq!(decision.certificate, "a.example.org".into());
        assert_eq!(decision.location, secret("a.example.org"));
        assert_eq!(decision.based_on, Basis { version: Some(7), fingerprint: Some(Fingerprint([3; 32])) });
    }

    #[test]
    fn a_decision_serialises_flat() {
        let json = serde_json::to_value(Scene::due().decision()).unwrap();
        assert_eq!(json["action"], "renew");
        assert_eq!(json["reason"], "due");
        assert_eq!(json["location"], "vault:main:a.example.org");
        let held = serde_json::to_value(Scene::due().change(|scene| scene.act = false).decision()).unwrap();
        assert_eq!(held["held"]["because"], "act_is_off");
    }

    #[test]
    fn a_leaf_whose_ca_ends_before_it_is_due_as_if_it_ended_with_that_ca() {
        let with_ca_ending_in = |left| {
            Scene::fresh().change_found(|found| {
                found.chain.intermediates = vec![Arc::new(ending_in(left, intermediate()))];
            })
        };
        assert_eq!(with_ca_ending_in(90 * DAY).action(), Action::Keep { renew_at: NOW.plus(50 * DAY) });
        assert_eq!(with_ca_ending_in(40 * DAY).action(), Action::Keep { renew_at: NOW.plus(10 * DAY) });
        assert_eq!(with_ca_ending_in(30 * DAY).action(), Action::Renew { reason: Reason::Due });
        assert_eq!(with_ca_ending_in(SECOND).action(), Action::Renew { reason: Reason::Due });
    }
}
