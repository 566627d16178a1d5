//! An estate of certificates in a Vault: what certd decides is the real code, and what it does makes the events of a
//! renewal in their order (`attempt`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use certd::domain::cert::{Certificate, Chain, Fingerprint, KeyDigest, KeyType, KeyUsage, SignatureAlgorithm, Trust};
use certd::domain::clock::{self, Heard};
use certd::domain::inventory::{Found, Inventory, Location, Observation, Sighting};
use certd::domain::key::KeySpec;
use certd::domain::name::San;
use certd::domain::plan::{Action, Held, JournalView, Managed, Origin, Reason, World, plan};
use certd::domain::policy::{self, RenewalPolicy, Share, Threshold};
use certd::domain::renewal::Spec;
use certd::domain::time::Timestamp;
use certd::journal::event::{Entry, Event, State};

use crate::faults::{Clock, Dice, Outages, longest_up};
use crate::ideal::{self, Foreign, Leaf};
use crate::next_turn;

/// 2027-01-15T08:00:00Z
const BEGIN: Timestamp = Timestamp(1_800_000_000);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A rule taken away, to show that it is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    RetriesAtOnce,
    AsksAgainAfterALostAnswer,
    NeverTriesAgain,
    /// At a half of the lifetime left instead of a third.
    RenewsEarly,
    TrustsAnyClock,
}

#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub issued: u64,
    pub needed: u64,
    pub attempts: u64,
    pub failures: u64,
    pub restarts: u64,
    pub lost_answers: u64,
    pub expired: u64,
    /// Turns in which the clock was not believed.
    pub doubts: u64,
    pub foreign: u64,
    pub superseded: u64,
    pub given_up: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.issued += other.issued;
        self.needed += other.needed;
        self.attempts += other.attempts;
        self.failures += other.failures;
        self.restarts += other.restarts;
        self.lost_answers += other.lost_answers;
        self.expired += other.expired;
        self.doubts += other.doubts;
        self.foreign += other.foreign;
        self.superseded += other.superseded;
        self.given_up += other.given_up;
    }

    pub fn ratio(&self) -> f64 {
        self.issued as f64 / self.needed as f64
    }
}

/// One place and what it holds.
pub(super) struct Kept {
    pub managed: Managed,
    pub lifetime: Duration,
    pub leaf: Certificate,
    pub was_expired: bool,
    /// What the CA signed for the renewal in flight, whether its answer came or not.
    pub signed: Option<Certificate>,
    /// What was there before the leaf.
    before: Option<Certificate>,
    foreign: Vec<Foreign>,
    /// What the journal holds of it, and what that adds up to.
    events: Vec<Entry>,
    pub state: State,
    /// Of the turns that were asked for, this is the next one.
    next: Timestamp,
}

/// What comes at an instant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Comes {
    SomebodyElse(usize),
    Turn(usize),
}

pub struct Estate {
    pub(super) dice: Dice,
    /// The right time; certd sees what `clock` shows.
    pub(super) now: Timestamp,
    pub(super) clock: Clock,
    pub(super) kept: Vec<Kept>,
    pub(super) ca: Outages,
    pub(super) store: Outages,
    /// The CA asked to be left alone until then.
    pub(super) ca_waits: Timestamp,
    pub(super) is_faulty: bool,
    pub(super) broken: Option<Broken>,
    /// What the journal holds of issuers, whose state is that of all certificates.
    of_issuers: Vec<Entry>,
    issuers: State,
    last_noted: Option<Timestamp>,
    pub(super) tally: Tally,
    drawn: u64,
}

impl Estate {
    pub fn new(seed: u64, many: usize, broken: Option<Broken>) -> Self {
        let mut dice = Dice::new(seed);
        let span = DAY * 500;
        let (ca, store) = (Outages::new(&mut dice, BEGIN, span), Outages::new(&mut dice, BEGIN, span));
        let clock = Clock::new(&mut dice, BEGIN, span);
        let mut estate = Self {
            dice,
            now: BEGIN,
            clock,
            kept: Vec::new(),
            ca,
            store,
            ca_waits: BEGIN,
            is_faulty: true,
            broken,
            of_issuers: Vec::new(),
            issuers: State::default(),
            last_noted: None,
            tally: Tally::default(),
            drawn: seed << 24,
        };
        for nth in 0..many {
            let days = [6, 10, 30, 47, 90, 100, 200, 398][nth % 8];
            estate.keep(nth, DAY * days);
        }
        estate
    }

    /// How often the CA was asked for a certificate of 90 days that came due when it went away.
    pub fn due_under_an_outage(seed: u64, outage: Duration, restarts: u32) -> u64 {
        let mut estate = Self::new(seed, 0, None);
        estate.keep(0, DAY * 90);
        let due = estate.kept[0].managed.spec.renewal.due_at(&estate.kept[0].leaf);
        (estate.ca, estate.store) = (Outages::one(BEGIN, due.plus(outage)), Outages::none());
        (estate.is_faulty, estate.clock) = (false, Clock::right());
        for nth in 0..=restarts {
            estate.now = due.plus(outage * nth / (restarts + 1));
            estate.restart(0);
            // Between two restarts there is time for what is waited for.
            let _ = estate.turn(0);
        }
        estate.tally.attempts
    }

    fn keep(&mut self, nth: usize, lifetime: Duration) {
        let name = format!("app-{nth}.example.org");
        let renewal = match self.broken {
            Some(Broken::RenewsEarly) => RenewalPolicy(Some(Threshold::Share(Share::percent(50)))),
            _ => RenewalPolicy::default(),
        };
        let spec = Spec {
            names: vec![San::from_text(&name)],
            common_name: None,
            key: KeySpec::EcdsaP256,
            lifetime: Some(lifetime),
            renewal,
        };
        let managed = Managed {
            name: name.as_str().into(),
            location: Location::Secret { vault: "main".into(), path: format!("secret/{name}"), part: None },
            origin: Origin::Declared,
            rule: None,
            spec,
            issuers: vec!["ca".into()],
            serves: Vec::new(),
            owner: None,
            environment: None,
            held: None,
        };
        let leaf = self.made(&managed, lifetime);
        let kept = Kept {
            managed,
            lifetime,
            leaf,
            was_expired: false,
            signed: None,
            before: None,
            foreign: Vec::new(),
            events: Vec::new(),
            state: State::default(),
            next: self.now,
        };
        self.kept.push(kept);
    }

    /// Signed now, by a CA whose clock is right.
    pub(super) fn made(&mut self, managed: &Managed, lifetime: Duration) -> Certificate {
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
            names: managed.spec.names.clone(),
            not_before: self.now,
            not_after: self.now.plus(lifetime),
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

    /// From one instant at which something can change to the next.
    pub fn run(&mut self, span: Duration) -> Result<Tally, String> {
        let mut coming: BinaryHeap<Reverse<(Timestamp, Comes)>> =
            (0..self.kept.len()).map(|nth| Reverse((next_turn(self.now), Comes::Turn(nth)))).collect();
        coming.extend(self.visits(span).map(Reverse));
        self.kept.iter_mut().for_each(|kept| kept.next = next_turn(BEGIN));
        while let Some(Reverse((at, comes))) = coming.pop() {
            if BEGIN.until(at) >= span {
                break;
            }
            self.now = self.now.max(at);
            let (nth, next) = match comes {
                Comes::SomebodyElse(nth) => {
                    self.write_as_somebody_else(nth);
                    (nth, self.now)
                }
                // Another one was asked for instead.
                Comes::Turn(nth) if self.kept[nth].next != at => continue,
                Comes::Turn(nth) => {
                    self.judge_end(nth)?;
                    (nth, self.turn(nth)?)
                }
            };
            let next = next_turn(next.max(self.now.plus(Duration::from_secs(1))));
            self.kept[nth].next = next;
            coming.push(Reverse((next, Comes::Turn(nth))));
        }
        self.tally.needed = self.needed(BEGIN.plus(span));
        Ok(self.tally.clone())
    }

    /// When somebody else writes, and where.
    fn visits(&mut self, span: Duration) -> impl Iterator<Item = (Timestamp, Comes)> + use<> {
        let (mut at, mut visits) = (BEGIN, Vec::new());
        while BEGIN.until(at) < span && !self.kept.is_empty() {
            at = at.plus(Duration::from_secs(self.dice.below(40 * 86_400)));
            let nth = self.dice.below(self.kept.len() as u64);
            visits.push((at, Comes::SomebodyElse(usize::try_from(nth).unwrap())));
        }
        visits.into_iter()
    }

    /// A new one of their own, or what was there before, as a restored backup has it.
    pub(super) fn write_as_somebody_else(&mut self, nth: usize) {
        let (managed, lifetime) = (self.kept[nth].managed.clone(), self.kept[nth].lifetime);
        let leaf = match self.kept[nth].before.clone().filter(|_| self.dice.in_a_hundred(50)) {
            Some(before) => before,
            None => self.made(&managed, lifetime),
        };
        self.tally.foreign += 1;
        let foreign = Foreign { at: self.now, leaf: Leaf { not_before: leaf.not_before, lifetime } };
        self.kept[nth].foreign.push(foreign);
        self.put(nth, leaf);
    }

    pub(super) fn put(&mut self, nth: usize, leaf: Certificate) {
        let kept = &mut self.kept[nth];
        if kept.leaf.fingerprint != leaf.fingerprint {
            kept.before = Some(std::mem::replace(&mut kept.leaf, leaf));
            kept.was_expired = false;
        }
    }

    fn needed(&self, end: Timestamp) -> u64 {
        let outages = [&self.ca, &self.store];
        let of = |kept: &Kept| {
            let first = Leaf { not_before: BEGIN, lifetime: kept.lifetime };
            ideal::needed(first, &kept.foreign, &outages, end)
        };
        self.kept.iter().map(of).sum()
    }

    /// Nobody expires who had, once due, the CA, the store and a right clock for one unbroken stretch longer than the
    /// longest wait.
    fn judge_end(&mut self, nth: usize) -> Result<(), String> {
        let kept = &self.kept[nth];
        let is_expired = kept.leaf.not_after <= self.now;
        if is_expired && !kept.was_expired {
            let since = kept.foreign.last().map_or(BEGIN, |other| other.at);
            let from = RenewalPolicy::default().due_at(&kept.leaf).max(since);
            let up = longest_up(&[&self.ca, &self.store, &self.clock.wrong], from, kept.leaf.not_after);
            if up > policy::LONGEST_WAIT + HOUR * 2 {
                let why = format!("{} expired although all was well for {up:?}", kept.managed.name);
                return Err(self.with_trace(nth, why));
            }
            self.tally.expired += 1;
        }
        self.kept[nth].was_expired = is_expired;
        Ok(())
    }

    pub(super) fn with_trace(&self, nth: usize, why: String) -> String {
        let own = self.kept[nth].events.iter();
        let last: Vec<String> = own.rev().take(30).map(|entry| format!("  {} {:?}", entry.at, entry.event)).collect();
        format!("{why}, at {}\n{}", self.now, last.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    pub(super) fn shown(&self) -> Timestamp {
        self.clock.shown(self.now)
    }

    /// Decides about one certificate, and does it. Returns when to look again.
    fn turn(&mut self, nth: usize) -> Result<Timestamp, String> {
        if let Some(until) = self.store.out_until(self.now) {
            // Nothing is seen, and nothing is done on that.
            return Ok(until);
        }
        // Turns go by the wall clock, so what lies ahead of a wrong one is looked at each hour.
        let (is_right, in_an_hour) = (self.shown() == self.now, self.now.plus(HOUR));
        let ahead = |until: Timestamp| if is_right { until } else { in_an_hour };
        match self.action(nth) {
            Action::Keep { renew_at } => Ok(ahead(renew_at)),
            // Its end is looked at, too, for whoever waits beyond it.
            Action::Defer { until, .. } => Ok(match self.broken {
                Some(Broken::RetriesAtOnce) => {
                    self.attempt(nth, Reason::Due)?;
                    self.now.plus(HOUR)
                }
                Some(Broken::NeverTriesAgain) => self.now.plus(DAY),
                _ => ahead(until),
            }),
            Action::Renew { reason } => {
                self.attempt(nth, reason)?;
                Ok(self.now.plus(Duration::from_secs(1)))
            }
            Action::Hold { held: Held::ClockDoubtful(_) } => {
                self.tally.doubts += 1;
                Ok(self.now.plus(HOUR))
            }
            Action::Hold { held } => Err(format!("held: {held:?}")),
        }
    }

    fn action(&self, nth: usize) -> Action {
        let (now, view) = (self.shown(), self.view(nth));
        let kept = &self.kept[nth];
        let found = Found {
            chain: Chain { leaf: Arc::new(kept.leaf.clone()), intermediates: Vec::new() },
            trust: Trust::Verified,
            stored_key: Some(kept.leaf.public_key),
            version: Some(1),
            deleted_at: None,
            revoked_at: None,
            is_settled: false,
            handshake: None,
            paths: Default::default(),
            unwritable: None,
        };
        let mut inventory = Inventory::default();
        inventory.insert(Observation {
            location: kept.managed.location.clone(),
            source: "stores".into(),
            environment: None,
            observed_at: now,
            sighting: Sighting::Found(Box::new(found)),
            took: None,
        });
        // The Vault that was just read said what time it is.
        let heard = Heard { vault: "main".into(), date: self.now, age: Duration::ZERO };
        let doubt = clock::doubt(now, &[heard], view.last_noted).map(|doubt| doubt.to_string());
        let world = World {
            now,
            managed: std::slice::from_ref(&kept.managed),
            inventory: &inventory,
            journal: &view,
            act: true,
            clock_doubt: doubt.as_deref().filter(|_| self.broken != Some(Broken::TrustsAnyClock)),
            requested: &BTreeMap::new(),
        };
        plan(&world).remove(0).action
    }

    /// What the whole journal adds up to, for this certificate.
    pub(super) fn view(&self, nth: usize) -> JournalView {
        let JournalView { issuers, .. } = self.issuers.view();
        JournalView { issuers, last_noted: self.last_noted, ..self.kept[nth].state.view() }
    }

    pub(super) fn note(&mut self, nth: usize, event: Event) {
        let kept = &mut self.kept[nth];
        let entry = Entry { at: self.clock.shown(self.now), certificate: Some(kept.managed.name.clone()), event };
        self.last_noted = Some(entry.at);
        if matches!(entry.event, Event::IssuerFailed { .. } | Event::Issued(_)) {
            let of_all = Entry { certificate: Some("all".into()), ..entry.clone() };
            self.of_issuers.push(of_all.clone());
            self.issuers.fold(of_all);
        }
        kept.events.push(entry.clone());
        kept.state.fold(entry);
    }

    /// What is known is what the journal says.
    pub(super) fn restart(&mut self, nth: usize) {
        self.tally.restarts += 1;
        let folded = |events: &[Entry]| {
            let mut state = State::default();
            events.iter().for_each(|entry| state.fold(entry.clone()));
            state
        };
        self.issuers = folded(&self.of_issuers);
        self.kept[nth].state = folded(&self.kept[nth].events);
    }
}
