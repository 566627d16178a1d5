//! An estate of certificates: what certd decides is the real code, and what it does makes the events of a renewal in
//! their order (`src/renew.rs`, `src/renew/ask.rs`, `src/cycle/execute.rs`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use certd::domain::breaker;
use certd::domain::cap;
use certd::domain::cert::{Certificate, Chain, Fingerprint, KeyDigest, KeyType, KeyUsage, SignatureAlgorithm, Trust};
use certd::domain::inventory::{Found, Inventory, Location, Observation, Sighting};
use certd::domain::key::KeySpec;
use certd::domain::name::San;
use certd::domain::plan::{Action, Managed, Origin, Reason, World, plan};
use certd::domain::policy::{self, RenewalPolicy};
use certd::domain::renewal::Spec;
use certd::domain::time::Timestamp;
use certd::journal::event::{Entry, Event, Issued, Stage, State};

use crate::faults::{Dice, Outages};
use crate::next_turn;

/// 2027-01-15T08:00:00Z
const BEGIN: Timestamp = Timestamp(1_800_000_000);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A rule taken away, to show that it is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    RetriesAtOnce,
    AsksAgainAfterALostAnswer,
    NeverTriesAgain,
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
    }

    pub fn ratio(&self) -> f64 {
        self.issued as f64 / self.needed as f64
    }
}

/// One place and what it holds.
struct Kept {
    managed: Managed,
    lifetime: Duration,
    leaf: Certificate,
    was_expired: bool,
    /// What the CA signed for the renewal in flight, whether its answer came or not.
    signed: Option<Certificate>,
}

pub struct Estate {
    dice: Dice,
    now: Timestamp,
    kept: Vec<Kept>,
    ca: Outages,
    store: Outages,
    /// The CA asked to be left alone until then.
    ca_waits: Timestamp,
    is_faulty: bool,
    broken: Option<Broken>,
    events: Vec<Entry>,
    state: State,
    tally: Tally,
    drawn: u64,
}

/// A crash: everything but the journal and the places is forgotten.
struct Crashed;

impl Estate {
    pub fn new(seed: u64, many: usize, broken: Option<Broken>) -> Self {
        let mut dice = Dice::new(seed);
        let span = DAY * 500;
        let (ca, store) = (Outages::new(&mut dice, BEGIN, span), Outages::new(&mut dice, BEGIN, span));
        let mut estate = Self {
            dice,
            now: BEGIN,
            kept: Vec::new(),
            ca,
            store,
            ca_waits: BEGIN,
            is_faulty: true,
            broken,
            events: Vec::new(),
            state: State::default(),
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
        (estate.ca, estate.store) = (Outages::one(BEGIN, due.plus(outage)), Outages::one(BEGIN, BEGIN));
        estate.is_faulty = false;
        for nth in 0..=restarts {
            estate.now = due.plus(outage * nth / (restarts + 1));
            estate.restart();
            // Between two restarts there is time for what is waited for.
            let _ = estate.turn(0);
        }
        estate.tally.attempts
    }

    fn keep(&mut self, nth: usize, lifetime: Duration) {
        let name = format!("app-{nth}.example.org");
        let spec = Spec {
            names: vec![San::from_text(&name)],
            common_name: None,
            key: KeySpec::EcdsaP256,
            lifetime: Some(lifetime),
            renewal: RenewalPolicy::default(),
        };
        let managed = Managed {
            name: name.as_str().into(),
            location: Location::Secret { vault: "main".into(), path: format!("secret/{name}"), part: None },
            origin: Origin::Declared,
            spec,
            issuers: vec!["ca".into()],
            serves: Vec::new(),
            owner: None,
            environment: None,
            held: None,
        };
        let leaf = self.made(&managed, lifetime);
        self.kept.push(Kept { managed, lifetime, leaf, was_expired: false, signed: None });
    }

    fn made(&mut self, managed: &Managed, lifetime: Duration) -> Certificate {
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
        let mut due: BinaryHeap<Reverse<(Timestamp, usize)>> =
            (0..self.kept.len()).map(|nth| Reverse((next_turn(self.now), nth))).collect();
        while let Some(Reverse((at, nth))) = due.pop() {
            if BEGIN.until(at) >= span {
                break;
            }
            self.now = self.now.max(at);
            self.judge_end(nth)?;
            let next = self.turn(nth)?;
            due.push(Reverse((next_turn(next.max(self.now.plus(Duration::from_secs(1)))), nth)));
        }
        Ok(self.tally.clone())
    }

    /// Nobody expires who had, once due, the CA and the store for one unbroken stretch longer than the longest wait.
    fn judge_end(&mut self, nth: usize) -> Result<(), String> {
        let kept = &mut self.kept[nth];
        let is_expired = kept.leaf.not_after <= self.now;
        if is_expired && !kept.was_expired {
            let from = kept.managed.spec.renewal.due_at(&kept.leaf);
            let up = self.ca.longest_up(&self.store, from, kept.leaf.not_after);
            if up > policy::LONGEST_WAIT + Duration::from_secs(2 * 3_600) {
                let why = format!("{} expired although all was well for {up:?}", kept.managed.name);
                return Err(self.with_trace(nth, why));
            }
            self.tally.expired += 1;
        }
        self.kept[nth].was_expired = is_expired;
        Ok(())
    }

    fn with_trace(&self, nth: usize, why: String) -> String {
        let name = &self.kept[nth].managed.name;
        let own = self.events.iter().filter(|entry| entry.certificate.as_ref() == Some(name));
        let last: Vec<String> = own.rev().take(30).map(|entry| format!("  {} {:?}", entry.at, entry.event)).collect();
        format!("{why}, at {}\n{}", self.now, last.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    /// Decides about one certificate, and does it. Returns when to look again.
    fn turn(&mut self, nth: usize) -> Result<Timestamp, String> {
        let action = self.action(nth);
        match action {
            Action::Keep { renew_at } => Ok(renew_at),
            // Its end is looked at, too, for whoever waits beyond it.
            Action::Defer { until, .. } => Ok(match self.broken {
                Some(Broken::RetriesAtOnce) => {
                    self.attempt(nth, Reason::Due)?;
                    self.now.plus(Duration::from_secs(3_600))
                }
                Some(Broken::NeverTriesAgain) => self.now.plus(DAY),
                Some(Broken::AsksAgainAfterALostAnswer) | None => until,
            }),
            Action::Renew { reason } => {
                self.attempt(nth, reason)?;
                Ok(self.now.plus(Duration::from_secs(1)))
            }
            Action::Hold { held } => Err(format!("held: {held:?}")),
        }
    }

    fn action(&self, nth: usize) -> Action {
        let kept = &self.kept[nth];
        let found = Found {
            chain: Chain { leaf: Arc::new(kept.leaf.clone()), intermediates: Vec::new() },
            trust: Trust::Verified,
            stored_key: Some(kept.leaf.public_key),
            version: Some(1),
            deleted_at: None,
            revoked_at: None,
            is_settled: false,
        };
        let mut inventory = Inventory::default();
        inventory.insert(Observation {
            location: kept.managed.location.clone(),
            source: "stores".into(),
            environment: None,
            observed_at: self.now,
            sighting: Sighting::Found(Box::new(found)),
            took: None,
        });
        let world = World {
            now: self.now,
            managed: std::slice::from_ref(&kept.managed),
            inventory: &inventory,
            journal: &self.state.view(),
            act: true,
            clock_doubt: None,
            requested: &BTreeMap::new(),
        };
        plan(&world).remove(0).action
    }

    fn attempt(&mut self, nth: usize, reason: Reason) -> Result<(), String> {
        let view = self.state.view();
        let is_issued = view.records.get(&self.kept[nth].managed.name).is_some_and(|record| record.issued);
        if breaker::open_until(&view, &self.kept[nth].managed, self.now).is_some()
            && !is_issued
            && self.broken.is_none()
        {
            return Ok(());
        }
        match self.steps(nth, reason) {
            Ok(done) => done,
            Err(Crashed) => {
                self.restart();
                Ok(())
            }
        }
    }

    /// One attempt, step by step; a crash may come after each event.
    fn steps(&mut self, nth: usize, reason: Reason) -> Result<Result<(), String>, Crashed> {
        let name = self.kept[nth].managed.name.clone();
        let open = self.state.in_flight(&name).cloned();
        if open.is_none() {
            self.kept[nth].signed = None;
            let names = cap::name_set(&self.kept[nth].managed.spec.names);
            let replaces = Some(self.kept[nth].leaf.fingerprint);
            self.append(nth, Event::Begun { reason, asked: "asked".into(), replaces, key: None, names })?;
        }
        if let Some(Stage::Asked(_)) = open.map(|open| open.stage) {
            // What became of it is asked of the CA itself.
            if self.ca.is_out(self.now) {
                return self.failed(nth, None).map(Ok);
            }
            let is_forgotten = self.broken == Some(Broken::AsksAgainAfterALostAnswer);
            match self.kept[nth].signed.is_some() && !is_forgotten {
                true => self.append(nth, issued())?,
                false => self.append(nth, Event::NotIssued { issuer: "ca".into() })?,
            }
        }
        if self.state.in_flight(&name).is_some_and(|open| open.stage == Stage::Begun)
            && let Some(ended) = self.ask(nth)?
        {
            return Ok(ended);
        }
        if self.store.is_out(self.now) {
            return self.failed(nth, None).map(Ok);
        }
        self.write(nth).map(Ok)
    }

    /// `None` where the CA has signed.
    fn ask(&mut self, nth: usize) -> Result<Option<Result<(), String>>, Crashed> {
        self.tally.attempts += 1;
        self.append(nth, Event::Asked { issuer: "ca".into(), until: Some(self.now.plus(Duration::from_secs(20))) })?;
        if self.now < self.ca_waits {
            let why = format!("the CA was asked before {}", self.ca_waits);
            return Ok(Some(Err(self.with_trace(nth, why))));
        }
        if self.ca.is_out(self.now) {
            self.append(nth, Event::IssuerFailed { issuer: "ca".into(), retry_after: None })?;
            self.append(nth, Event::NotIssued { issuer: "ca".into() })?;
            return Ok(Some(Ok(self.failed(nth, None)?)));
        }
        if self.is_faulty && self.dice.in_a_hundred(2) {
            let wait = 60 + self.dice.below(20 * 3_600);
            self.ca_waits = self.now.plus(Duration::from_secs(wait));
            // Who asks to be left alone does not answer meanwhile.
            self.ca.add(self.now, self.ca_waits);
            // First, since a crash after it must not forget what the CA asked for.
            self.append(nth, Event::IssuerFailed { issuer: "ca".into(), retry_after: Some(wait) })?;
            self.append(nth, Event::NotIssued { issuer: "ca".into() })?;
            return Ok(Some(Ok(self.failed(nth, Some(Duration::from_secs(wait)))?)));
        }
        if self.kept[nth].signed.is_some() {
            let why = "the CA was asked twice for one renewal".to_string();
            return Ok(Some(Err(self.with_trace(nth, why))));
        }
        let (managed, lifetime) = (self.kept[nth].managed.clone(), self.kept[nth].lifetime);
        self.kept[nth].signed = Some(self.made(&managed, lifetime));
        self.tally.issued += 1;
        if self.is_faulty && self.dice.in_a_hundred(3) {
            self.tally.lost_answers += 1;
            self.append(nth, Event::IssuerFailed { issuer: "ca".into(), retry_after: None })?;
            return Ok(Some(Ok(self.failed(nth, None)?)));
        }
        self.append(nth, issued())?;
        Ok(None)
    }

    fn write(&mut self, nth: usize) -> Result<(), Crashed> {
        let leaf = self.kept[nth].signed.clone().expect("it was issued");
        self.append(nth, Event::Accepted { serial: leaf.serial.clone() })?;
        if self.kept[nth].leaf.fingerprint != leaf.fingerprint {
            self.tally.needed += 1;
        }
        (self.kept[nth].leaf, self.kept[nth].was_expired) = (leaf.clone(), false);
        self.append(nth, Event::Written { version: Some(1) })?;
        self.append(nth, Event::Closed { fingerprint: leaf.fingerprint, not_after: leaf.not_after })
    }

    fn failed(&mut self, nth: usize, retry_after: Option<Duration>) -> Result<(), Crashed> {
        self.tally.failures += 1;
        let (name, not_after) = (self.kept[nth].managed.name.clone(), self.kept[nth].leaf.not_after);
        let before = self.state.view().records.get(&name).map_or(0, |record| record.consecutive_failures);
        let own = policy::retry_at(before.saturating_add(1), self.now, &name.0, Some(not_after));
        let retry_at = retry_after.map_or(own, |wait| own.max(self.now.plus(wait)));
        self.append(nth, Event::Failed { message: "no".into(), retry_at, held: false })
    }

    fn append(&mut self, nth: usize, event: Event) -> Result<(), Crashed> {
        let entry = Entry { at: self.now, certificate: Some(self.kept[nth].managed.name.clone()), event };
        self.events.push(entry.clone());
        self.state.fold(entry);
        match self.is_faulty && self.dice.below(400) == 0 {
            true => Err(Crashed),
            false => Ok(()),
        }
    }

    fn restart(&mut self) {
        self.tally.restarts += 1;
        self.state = State::default();
        for entry in &self.events {
            self.state.fold(entry.clone());
        }
    }
}

fn issued() -> Event {
    Event::Issued(Issued { issuer: "ca".into(), ders: vec![vec![0x30, 0]] })
}
