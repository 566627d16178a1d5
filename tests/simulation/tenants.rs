//! Twenty tenants below one rule, one of whom writes whatever delays the others most: certificates that have ended, that
//! are about to end, in a thousand folders and always in new ones, and that are overwritten before and after certd stores
//! its own. What certd decides is the real code: `adopt`, `plan`, `cap` and `admit`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use certd::domain::admit::{self, Admitted, Turn};
use certd::domain::adopt::{self, Adoption, Past, Rule};
use certd::domain::cap;
use certd::domain::cert::{Certificate, Chain, Fingerprint, KeyDigest, KeyType, KeyUsage, SignatureAlgorithm, Trust};
use certd::domain::homes::{Home, name_texts};
use certd::domain::inventory::{Found, Inventory, Location, Observation, Sighting};
use certd::domain::name::{NamePattern, San};
use certd::domain::plan::{Action, Decision, JournalView, Managed, Reason, World, plan};
use certd::domain::policy::{self, RenewalPolicy};
use certd::domain::time::Timestamp;
use certd::journal::event::{Entry, Event, Issued, State};

use crate::faults::Dice;
use crate::next_turn;

/// 2027-01-15T08:00:00Z
const BEGIN: Timestamp = Timestamp(1_800_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One renewal in a turn, and what is about to end.
const MAX_RENEWALS: usize = 1;

/// From one step to the end of a renewal; those of a turn come one after the other.
const RENEWAL: Duration = Duration::from_secs(40);

const HONEST: usize = 19;

/// So many places has the hostile tenant at a time.
const PLANTED: usize = 200;

/// How a turn chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Admit,
    /// As before turns were shared: what ended longest ago comes first.
    EndsFirst,
    /// What lives comes first and what is about to end does not count, but no tenant has a share.
    WithoutShares,
}

#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub honest_renewals: u64,
    pub hostile_issued: u64,
    /// That were never stored.
    pub hostile_refused: u64,
    /// For one place within seven days.
    pub most_for_a_place: usize,
    /// The most that an honest certificate was late, as a part of the time between when it was due and its end.
    pub latest: f64,
}

impl Outcome {
    pub fn add(&mut self, other: &Self) {
        self.honest_renewals += other.honest_renewals;
        self.hostile_issued += other.hostile_issued;
        self.hostile_refused += other.hostile_refused;
        self.most_for_a_place = self.most_for_a_place.max(other.most_for_a_place);
        self.latest = self.latest.max(other.latest);
    }
}

struct Place {
    leaf: Certificate,
    is_honest: bool,
    /// What the hostile tenant had there, and puts back.
    planted: Certificate,
    issued: Vec<Timestamp>,
}

pub struct Tenants {
    dice: Dice,
    now: Timestamp,
    choice: Choice,
    /// Whether the hostile tenant gives up what has ended for something new, instead of keeping its places.
    moves_on: bool,
    rule: Rule,
    places: BTreeMap<String, Place>,
    state: State,
    drawn: u64,
    outcome: Outcome,
}

impl Tenants {
    pub fn new(seed: u64, choice: Choice) -> Self {
        let rule = Rule {
            name: "tenants".into(),
            id: "tenants".into(),
            asks: false,
            share_names: false,
            names: vec![NamePattern::new("*.example.org").unwrap()],
            issuers: vec!["ca".into()],
            lifetime: None,
            renewal: RenewalPolicy::default(),
            owner: None,
            environment: None,
        };
        let (dice, places) = (Dice::new(seed ^ 0x7e57), BTreeMap::new());
        let (state, outcome) = (State::default(), Outcome::default());
        let mut tenants =
            Self { dice, now: BEGIN, choice, moves_on: seed % 2 == 1, rule, places, state, drawn: seed << 24, outcome };
        for tenant in 0..HONEST {
            for (nth, days) in [6, 30, 90].into_iter().enumerate() {
                let lifetime = DAY * days;
                // None is due yet.
                let age = Duration::from_secs(tenants.dice.below(lifetime.as_secs() * 4 / 10));
                let leaf = tenants.leaf(&format!("app-{nth}-{tenant}"), BEGIN.minus(age), lifetime);
                tenants.put(format!("secret/tenants/{tenant}/app-{nth}"), leaf, true);
            }
        }
        tenants
    }

    pub fn run(&mut self, span: Duration) -> Result<Outcome, String> {
        while BEGIN.until(self.now) < span {
            self.plant();
            self.turn()?;
            self.now = next_turn(self.now.plus(Duration::from_secs(1)));
            self.judge_ends()?;
        }
        for place in self.places.values().filter(|place| !place.is_honest) {
            let within = |from: &Timestamp| {
                place.issued.iter().filter(|at| *from <= **at && from.until(**at) < cap::WINDOW).count()
            };
            let most = place.issued.iter().map(within).max().unwrap_or(0);
            self.outcome.most_for_a_place = self.outcome.most_for_a_place.max(most);
        }
        Ok(self.outcome.clone())
    }

    fn leaf(&mut self, name: &str, not_before: Timestamp, lifetime: Duration) -> Certificate {
        self.drawn += 1;
        let mut fingerprint = [0; 32];
        fingerprint[..8].copy_from_slice(&Dice::new(self.drawn).draw().to_be_bytes());
        fingerprint[8..16].copy_from_slice(&self.drawn.to_be_bytes());
        Certificate {
            fingerprint: Fingerprint(fingerprint),
            serial: format!("{:x}", self.drawn),
            subject: String::new(),
            issuer: "CN=CA".into(),
            subject_cn: None,
            issuer_cn: Some("CA".into()),
            names: vec![San::from_text(&format!("{name}.example.org"))],
            not_before,
            not_after: not_before.plus(lifetime),
            key: KeyType::EcdsaP256,
            signature: SignatureAlgorithm("ecdsa-sha256".into()),
            key_usage: Some(KeyUsage(KeyUsage::DIGITAL_SIGNATURE)),
            extended_key_usage: Some(vec!["serverAuth".into()]),
            is_ca: false,
            authority_key_id: None,
            subject_key_id: None,
            public_key: KeyDigest(fingerprint),
        }
    }

    fn put(&mut self, path: String, leaf: Certificate, is_honest: bool) {
        let place = Place { planted: leaf.clone(), leaf, is_honest, issued: Vec::new() };
        self.places.insert(path, place);
    }

    /// What the hostile tenant does before each turn: half of what certd stored is overwritten, places of no more use are
    /// given up for new ones, and all of them are to be renewed.
    fn plant(&mut self) {
        let hostile = self.places.iter().filter(|(_, place)| !place.is_honest);
        let paths: Vec<String> = hostile.map(|(path, _)| path.clone()).collect();
        let mut there = paths.len();
        for path in paths {
            let place = self.places.get_mut(&path).expect("it was listed");
            let is_used_up = self.moves_on && place.planted.not_after <= self.now && place.planted.lifetime() < DAY;
            match self.dice.below(20) {
                0 => {
                    self.places.remove(&path);
                    there -= 1;
                }
                _ if is_used_up => {
                    self.places.remove(&path);
                    there -= 1;
                }
                1..10 => place.leaf = place.planted.clone(),
                _ => {}
            }
        }
        for _ in there..PLANTED {
            let name = format!("evil-{}", self.drawn);
            let (before_end, lifetime) = match (self.moves_on, self.dice.below(10)) {
                (true, 0) | (false, 0..3) => (Duration::ZERO, DAY * 90),
                (true, _) | (false, 3..6) => (MINUTE * 20, HOUR * 2),
                (false, 6..8) => (DAY * 4, DAY * 90),
                (false, _) => (DAY * 20, DAY * 90),
            };
            let end = match before_end.is_zero() {
                true => self.now.minus(Duration::from_secs(self.dice.below(29 * 86_400))),
                false => self.now.plus(before_end),
            };
            let leaf = self.leaf(&name, end.minus(lifetime), lifetime);
            let folder = self.dice.below(1_000);
            self.put(format!("secret/tenants/evil/{folder}/{name}"), leaf, false);
        }
    }

    fn turn(&mut self) -> Result<(), String> {
        let view = self.state.view();
        let inventory = self.inventory();
        let managed: Vec<Managed> = inventory.iter().filter_map(|seen| self.adopted(seen)).collect();
        let requested = BTreeMap::new();
        let world = World {
            now: self.now,
            managed: &managed,
            inventory: &inventory,
            journal: &view,
            act: true,
            clock_doubt: None,
            requested: &requested,
        };
        let decisions = plan(&world);
        for nth in self.order(&managed, decisions, &inventory, &view) {
            self.now = self.now.plus(RENEWAL);
            self.judge_ends()?;
            let record = view.records.get(&managed[nth].name);
            self.renew(&managed[nth], record.map_or(0, |record| record.consecutive_failures));
        }
        Ok(())
    }

    fn inventory(&self) -> Inventory {
        let mut inventory = Inventory::default();
        for (path, place) in &self.places {
            let found = Found {
                chain: Chain { leaf: Arc::new(place.leaf.clone()), intermediates: Vec::new() },
                trust: Trust::Verified,
                stored_key: Some(place.leaf.public_key),
                version: Some(1),
                deleted_at: None,
                revoked_at: None,
                is_settled: false,
                handshake: None,
                paths: Default::default(),
                unwritable: None,
            };
            inventory.insert(Observation {
                location: Location::Secret { vault: "main".into(), path: path.clone(), part: None },
                source: "tenants".into(),
                environment: None,
                observed_at: self.now,
                sighting: Sighting::Found(Box::new(found)),
                took: None,
            });
        }
        inventory
    }

    fn adopted(&self, seen: &Observation) -> Option<Managed> {
        let leaf = seen.sighting.leaf()?;
        // The worst case: whatever has ended there had been adopted while it was valid.
        let home = Home {
            names: name_texts(&leaf.names),
            since: BEGIN,
            fingerprint: leaf.fingerprint,
            rule: self.rule.id.clone(),
            agreed: None,
        };
        match adopt::adopt(self.now, &self.rule, seen, Past { home: Some(&home), ..Past::default() }) {
            Adoption::Adopted(managed) => Some(*managed),
            Adoption::Refused(_) | Adoption::Nothing => None,
        }
    }

    fn order(
        &self,
        managed: &[Managed],
        decisions: Vec<Decision>,
        inventory: &Inventory,
        journal: &JournalView,
    ) -> Vec<usize> {
        let (next, requested) = (next_turn(self.now.plus(Duration::from_secs(1))), BTreeMap::new());
        let turn = Turn { now: self.now, next, most: MAX_RENEWALS, inventory, journal, requested: &requested };
        let end = |nth: usize| {
            inventory.at(&managed[nth].location).and_then(|seen| seen.sighting.leaf()).map(|leaf| leaf.not_after)
        };
        let is_renewed = |nth: &usize| matches!(decisions[*nth].action, Action::Renew { .. });
        let mut all: Vec<usize> = (0..decisions.len()).filter(is_renewed).collect();
        match self.choice {
            Choice::Admit => {
                let Admitted { order, .. } = admit::admit(managed, decisions, &turn);
                return order;
            }
            Choice::EndsFirst => {
                all.sort_by_key(|nth| end(*nth));
                all.truncate(MAX_RENEWALS);
            }
            Choice::WithoutShares => {
                all.sort_by_key(|nth| (end(*nth) <= Some(self.now), end(*nth)));
                all.truncate(11 * MAX_RENEWALS);
            }
        }
        all
    }

    /// The events of a renewal. Of what is the hostile tenant's, a part is overwritten meanwhile or refused.
    fn renew(&mut self, managed: &Managed, failures: u32) {
        let Location::Secret { path, .. } = &managed.location else { panic!("{:?}", managed.location) };
        let place = &self.places[path];
        let (is_honest, before) = (place.is_honest, place.leaf.clone());
        let lifetime = if is_honest { before.lifetime() } else { DAY * 90 };
        let San::Dns(name) = &before.names[0] else { panic!("{before:?}") };
        let name = name.trim_end_matches(".example.org").to_string();
        let signed = self.leaf(&name, self.now, lifetime);
        let replaces = Some(before.fingerprint);
        let names = cap::name_set(&managed.spec.names);
        let ders = vec![vec![0x30, 0]];
        self.note(managed, Event::Begun { reason: Reason::Due, asked: "asked".into(), replaces, key: None, names });
        self.note(managed, Event::Asked { issuer: "ca".into(), until: None });
        self.note(managed, Event::Issued(Issued { issuer: "ca".into(), ders }));
        let (now, fate) = (self.now, if is_honest { 9 } else { self.dice.below(10) });
        self.places.get_mut(path).expect("it was adopted").issued.push(now);
        match (is_honest, fate) {
            (false, 0..3) => {
                self.outcome.hostile_refused += 1;
                self.note(managed, Event::Rejected { serial: signed.serial, why: "somebody else wrote there".into() });
                let retry_at = policy::retry_at(failures + 1, now, &managed.name.0, Some(before.not_after));
                self.note(managed, Event::Failed { message: "refused".into(), retry_at, held: false });
            }
            (false, 3..5) => {
                self.outcome.hostile_refused += 1;
                self.note(managed, Event::Superseded { why: "one that ends later is there already".into() });
            }
            _ => {
                let (fingerprint, not_after) = (signed.fingerprint, signed.not_after);
                self.note(managed, Event::Accepted { serial: signed.serial.clone() });
                self.note(managed, Event::Written { version: Some(2) });
                self.note(managed, Event::Closed { fingerprint, not_after });
                self.places.get_mut(path).expect("it was adopted").leaf = signed;
            }
        }
        self.tell(managed, is_honest, &before);
    }

    fn tell(&mut self, managed: &Managed, is_honest: bool, before: &Certificate) {
        if !is_honest {
            self.outcome.hostile_issued += 1;
            return;
        }
        self.outcome.honest_renewals += 1;
        let due = managed.spec.renewal.due_at(before);
        let late = due.until(self.now).as_secs_f64() / due.until(before.not_after).as_secs_f64();
        self.outcome.latest = self.outcome.latest.max(late);
    }

    fn note(&mut self, managed: &Managed, event: Event) {
        self.state.fold(Entry { at: self.now, certificate: Some(managed.name.clone()), event });
    }

    fn judge_ends(&self) -> Result<(), String> {
        let ended = self.places.iter().filter(|(_, place)| place.is_honest && place.leaf.not_after <= self.now);
        let ended: BTreeSet<&str> = ended.map(|(path, _)| path.as_str()).collect();
        match ended.first() {
            None => Ok(()),
            Some(path) => Err(format!("{path} expired at {}: {:?}", self.now, self.outcome)),
        }
    }
}
