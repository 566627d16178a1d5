//! One turn of the wheel: observe, check, plan, execute, report. Read this first.

pub mod advise;
pub mod assess;
pub mod execute;
pub mod files;
pub mod leftovers;
pub mod look_back;
pub mod observe;
pub mod persist;
pub mod registers;
pub mod setup;
pub mod troubles;
pub mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::domain::breaker;
use crate::domain::clock;
use crate::domain::drift::served_everywhere;
use crate::domain::homes::Lodging;
use crate::domain::inventory::{Observation, Sighting};
use crate::domain::name::{CertName, IssuerName};
use crate::domain::plan::{Demand, JournalView, Managed, Origin};
use crate::domain::snapshot::{Entry, IssuerStatus, Phase, PhaseStatus, Snapshot, VaultStatus};
use crate::domain::text::with_causes;
use crate::domain::time::Timestamp;
use crate::issuer::Kept;
use crate::journal::Journal;
use crate::journal::event::Event;
use crate::journal::places::Placed;
use crate::renew::{Fault, Outcome};

use advise::Advising;
use assess::{Assessment, News, assess};
use execute::{Attempt, Execution};
use observe::{Heard, Memory, Sweep, look, observe};
use setup::Setup;

/// So many places are about 200 KB of one event.
const HOMES_IN_ONE: usize = 1_000;

pub struct Cycle {
    pub setup: Arc<Setup>,
    pub now: fn() -> Timestamp,
    memory: Memory,
    issuers_up: BTreeMap<IssuerName, bool>,
    /// Where set, nothing else is acted on.
    only: Option<BTreeSet<CertName>>,
    /// What rules adopted in the last turn.
    adopted: Vec<Managed>,
}

/// What a turn did and how things stand after it.
pub struct Turn {
    pub snapshot: Snapshot,
    pub attempts: Vec<Attempt>,
}

impl Cycle {
    pub fn new(setup: Arc<Setup>, now: fn() -> Timestamp) -> Self {
        Self { setup, now, memory: Memory::default(), issuers_up: BTreeMap::new(), only: None, adopted: Vec::new() }
    }

    /// Acts on these alone; everything is still observed.
    pub fn only(mut self, names: BTreeSet<CertName>) -> Self {
        self.only = Some(names);
        self
    }

    /// The whole wheel; `None` when it was told to stop before it had seen everything.
    pub async fn turn(
        &mut self,
        journal: &Journal,
        requested: &BTreeMap<CertName, Demand>,
        mut stop: watch::Receiver<bool>,
    ) -> Option<Turn> {
        let view = journal.view();
        self.setup.recall_waits(&view, (self.now)());
        if let Some(why) = &view.gone {
            self.memory.troubles.meet("journal".to_string(), why.clone());
        }
        let is_paused = view.pause_at((self.now)()).is_some();
        let may_create = self.setup.act && !is_paused && view.gone.is_none() && self.clock_doubt(&view).is_none();
        let (mut sweep, mut phases) = tokio::select! {
            observed = self.observed(&|_| {}, may_create, &view) => observed,
            Ok(_) = stop.wait_for(|stop| *stop) => return None,
        };
        self.judge_clock(&mut sweep, &view);
        if may_create && sweep.clock_doubt.is_none() {
            tokio::select! {
                () = self.take_advice(journal, &sweep) => {}
                Ok(_) = stop.wait_for(|stop| *stop) => return None,
            }
        }
        let started = Instant::now();
        let planned = assess(&self.setup, (self.now)(), &sweep, &journal.view(), requested, &self.adopted);
        self.adopted = planned.managed.iter().filter(|managed| managed.origin == Origin::Adopted).cloned().collect();
        if sweep.clock_doubt.is_none() {
            self.note_homes(journal, &planned.news);
        }
        phases.push(self.phase(Phase::Plan, started, true));

        let started = Instant::now();
        let execution = Execution {
            setup: &self.setup,
            journal,
            inventory: &sweep.inventory,
            now: self.now,
            stop,
            only: self.only.as_ref(),
        };
        if may_create && sweep.clock_doubt.is_none() && self.only.is_none() {
            self.clear_leftovers(journal).await;
        }
        let attempts = execution.run(&planned.managed, &planned.decisions, &planned.order, requested).await;
        phases.push(self.phase(Phase::Execute, started, attempts.iter().all(|attempt| attempt.ended.is_ok())));

        let seen = self.look_again(&mut sweep, planned, &attempts, journal, requested).await;
        self.note_issuers(&attempts);
        self.note_served(journal, &sweep, &seen.managed);
        let snapshot = self.snapshot(sweep, seen.entries, &journal.view(), phases).await;
        Some(Turn { snapshot, attempts })
    }

    /// The wheel without its lower half: nothing is asked of an issuer and nothing is written.
    pub async fn look(&mut self, journal: &JournalView, on: Heard<'_>) -> Snapshot {
        self.look_with_managed(journal, on).await.0
    }

    /// The same, with what certd manages.
    pub async fn look_with_managed(&mut self, journal: &JournalView, on: Heard<'_>) -> (Snapshot, Vec<Managed>) {
        self.setup.recall_waits(journal, (self.now)());
        let (mut sweep, phases) = self.observed(on, false, journal).await;
        self.judge_clock(&mut sweep, journal);
        let planned = assess(&self.setup, (self.now)(), &sweep, journal, &BTreeMap::new(), &self.adopted);
        let snapshot = self.snapshot(sweep, planned.entries, journal, phases).await;
        (snapshot, planned.managed)
    }

    /// Pending keys that no renewal needs.
    async fn clear_leftovers(&self, journal: &Journal) {
        if let Err(error) = leftovers::clear(&self.setup, journal, (self.now)()).await {
            tracing::error!("{}", with_causes(&error));
        }
    }

    /// Of the CAs, on what was seen.
    async fn take_advice(&mut self, journal: &Journal, sweep: &Sweep) {
        if !self.setup.issuers.values().any(|issuer| issuer.advises()) {
            return;
        }
        let now = (self.now)();
        let view = journal.view();
        let managed = assess::managed(&self.setup, now, sweep, &view, &self.adopted).managed;
        let advising = Advising { setup: &self.setup, journal, view: &view, inventory: &sweep.inventory, now };
        Box::pin(advising.run(&managed, &mut self.memory.troubles)).await;
    }

    /// After the sweep, since each Vault that answered has said what time it is there.
    fn judge_clock(&mut self, sweep: &mut Sweep, journal: &JournalView) {
        sweep.clock_doubt = self.clock_doubt(journal);
        if let Some(why) = &sweep.clock_doubt {
            self.memory.troubles.meet("clock".to_string(), why.clone());
        }
    }

    fn clock_doubt(&self, journal: &JournalView) -> Option<String> {
        let heard: Vec<_> = self.setup.vaults.values().filter_map(|vault| vault.heard()).collect();
        clock::doubt((self.now)(), &heard, journal.last_noted).map(|doubt| doubt.to_string())
    }

    async fn observed(&mut self, on: Heard<'_>, may_create: bool, journal: &JournalView) -> (Sweep, Vec<PhaseStatus>) {
        let (started, now) = (Instant::now(), (self.now)());
        let mut sweep = observe(&self.setup, now, &mut self.memory, on).await;
        // Roots of a local CA are known only once it is open, and it opens only on what the stores hold.
        // By now the Vaults have said what time it is.
        let may_create = may_create && self.clock_doubt(&JournalView::default()).is_none();
        if self.open_issuers(now, &sweep, may_create) {
            sweep = observe(&self.setup, now, &mut self.memory, on).await;
        }
        self.ask_around(now, &mut sweep, journal).await;
        let succeeded = sweep.sources.iter().all(|source| source.up);
        let phase = self.phase(Phase::Observe, started, succeeded);
        (sweep, vec![phase])
    }

    /// What older versions, issuers and the DNS know of what was seen.
    async fn ask_around(&mut self, now: Timestamp, sweep: &mut Sweep, journal: &JournalView) {
        let memory = &mut self.memory;
        // An ACME server tells nobody of it. A register that does knows better since when.
        journal.revoked.iter().for_each(|(fingerprint, at)| sweep.inventory.mark_revoked(*fingerprint, *at));
        let (inventory, revoked) = (&mut sweep.inventory, &mut memory.revoked);
        sweep.unsure = registers::mark_revoked(&self.setup, inventory, revoked, &mut memory.troubles).await;
        let managed = assess::managed(&self.setup, now, sweep, journal, &self.adopted).managed;
        sweep.earlier = look_back::look_back(&self.setup, &managed, &sweep.inventory, memory).await;
        sweep.issued = registers::issued(&self.setup, &managed, sweep).await;
        sweep.on_disk = files::on_disk(&self.setup, &sweep.inventory).await;
        sweep.proofs = persist::proofs(&self.setup, &managed, now, &mut memory.troubles).await;
    }

    /// Whether one was opened, so that more roots are known than before.
    fn open_issuers(&mut self, now: Timestamp, sweep: &Sweep, may_create: bool) -> bool {
        let is_adopted = |seen: &&Observation| self.setup.adopted.iter().any(|rule| rule.source.name == seen.source);
        let mut places = sweep.inventory.iter().filter(|seen| seen.source.0 == observe::STORES || is_adopted(seen));
        let unread = places.find_map(|seen| match &seen.sighting {
            Sighting::Unknown(obstacle) => Some(obstacle.message.clone()),
            Sighting::Absent | Sighting::Deleted(_) | Sighting::Found(_) | Sighting::Crl(_) => None,
        });
        let unsaid = if may_create { unread } else { Some("this look changes nothing".to_string()) };
        let leaves = || Kept::All(sweep.inventory.iter().filter_map(|seen| seen.sighting.leaf()).collect());
        let kept = unsaid.map_or_else(leaves, Kept::OutOfSight);
        let mut any = false;
        for (name, issuer) in self.setup.issuers.iter().filter(|(_, issuer)| !issuer.is_open()) {
            let opened = issuer.open(now, &kept);
            any |= opened.is_ok();
            match opened {
                Err(error) if may_create => {
                    self.memory.troubles.meet(format!("issuer {name}"), with_causes(&error));
                    self.issuers_up.insert(name.clone(), false);
                }
                Ok(()) | Err(_) => {}
            }
        }
        any
    }

    /// Whatever was acted on is read again, so that the outcome is what was seen and not what was meant.
    async fn look_again(
        &mut self,
        sweep: &mut Sweep,
        planned: Assessment,
        attempts: &[Attempt],
        journal: &Journal,
        requested: &BTreeMap<CertName, Demand>,
    ) -> Assessment {
        if attempts.is_empty() {
            return planned;
        }
        let now = (self.now)();
        sweep.on_disk = files::on_disk(&self.setup, &sweep.inventory).await;
        for managed in &planned.managed {
            if attempts.iter().any(|attempt| attempt.certificate == managed.name)
                && let Some(mut seen) = look(&self.setup, managed, now).await
            {
                if let Some(before) = sweep.inventory.at(&managed.location) {
                    seen.source = before.source.clone();
                }
                sweep.inventory.insert(seen);
            }
        }
        // What a person asked for and was not tried still shows why.
        let mut unmet = requested.clone();
        unmet.retain(|name, _| !attempts.iter().any(|attempt| attempt.certificate == *name));
        assess(&self.setup, now, sweep, &journal.view(), &unmet, &planned.managed)
    }

    /// The end of a renewal: what certd stored is what clients get.
    fn note_served(&self, journal: &Journal, sweep: &Sweep, managed: &[Managed]) {
        let view = journal.view();
        let waits = |managed: &'_ Managed| {
            let record = view.records.get(&managed.name).filter(|record| record.served != record.wrote)?;
            record.wrote.filter(|_| !managed.serves.is_empty())
        };
        let waiting: Vec<_> = managed.iter().filter_map(|managed| Some((managed, waits(managed)?))).collect();
        if waiting.is_empty() {
            return;
        }
        for (managed, fingerprint) in served_everywhere(waiting, &sweep.inventory) {
            for endpoint in &managed.serves {
                tracing::info!(cert = %managed.name, endpoint = %endpoint, "the renewed certificate is served");
            }
            if let Err(error) = journal.append((self.now)(), Some(&managed.name), Event::Served { fingerprint }) {
                tracing::error!(cert = %managed.name, "{}", with_causes(&error));
            }
        }
    }

    /// Before anything is done about them. Without a note the next turn is a first look again.
    fn note_homes(&self, journal: &Journal, news: &News) {
        let homes = news.homes.iter().flat_map(|(rule, places)| {
            let places: Vec<_> = places.iter().collect();
            let some = |some: &[(&CertName, &Lodging)]| {
                let places = some.iter().map(|(place, holds)| ((*place).clone(), (*holds).clone())).collect();
                Event::Place(Placed::Homes { rule: rule.clone(), places })
            };
            places.chunks(HOMES_IN_ONE).map(some).collect::<Vec<_>>()
        });
        let contests: Vec<_> = news.contests.iter().collect();
        let contests = contests.chunks(HOMES_IN_ONE).map(|some| {
            let places = some.iter().map(|(place, contest)| ((*place).clone(), (*contest).clone())).collect();
            Event::Place(Placed::Contested { places })
        });
        let looked = news.looked.iter().map(|rule| Event::Place(Placed::Looked { rule: rule.clone() }));
        for event in homes.chain(contests).chain(looked) {
            if let Err(error) = journal.append((self.now)(), None, event) {
                tracing::error!("could not note what was adopted: {}", with_causes(&error));
                return;
            }
        }
    }

    fn note_issuers(&mut self, attempts: &[Attempt]) {
        for attempt in attempts {
            match &attempt.ended {
                Ok(Outcome::Renewed { issuer, .. }) => self.issuers_up.insert(issuer.clone(), true),
                Ok(Outcome::Superseded { .. }) => None,
                Err(failure) => match (&failure.issuer, failure.fault) {
                    (Some(issuer), Fault::Issuer) => self.issuers_up.insert(issuer.clone(), false),
                    _ => None,
                },
            };
        }
    }

    fn phase(&self, phase: Phase, started: Instant, succeeded: bool) -> PhaseStatus {
        PhaseStatus { phase, completed_at: (self.now)(), succeeded, took: started.elapsed() }
    }

    async fn snapshot(
        &mut self,
        sweep: Sweep,
        entries: Vec<Entry>,
        journal: &JournalView,
        phases: Vec<PhaseStatus>,
    ) -> Snapshot {
        let taken_at = (self.now)();
        let (issuers, vaults) = (self.issuers(journal).await, self.vaults(taken_at).await);
        self.memory.troubles.settle();
        Snapshot {
            taken_at,
            entries,
            sources: sweep.sources,
            issuers,
            vaults,
            phases,
            act: self.setup.act,
            paused_until: journal.pause_at(taken_at),
            clock_doubt: sweep.clock_doubt,
            passed_over: sweep.passed_over,
            journal_lost: journal.set_aside.clone(),
            journal_gone: journal.gone.clone(),
            unaudited: journal.unaudited.clone(),
        }
    }

    /// An issuer that refused the last order is not up, although it answers.
    async fn issuers(&mut self, journal: &JournalView) -> Vec<IssuerStatus> {
        let mut statuses = Vec::new();
        let now = (self.now)();
        for (name, issuer) in &self.setup.clone().issuers {
            let looked = issuer.look().await;
            crate::pulse::beat();
            let up = looked.is_ok() && self.issuers_up.get(name).copied().unwrap_or(true);
            if let Err(error) = &looked {
                self.memory.troubles.meet(format!("issuer {name}"), with_causes(error));
            }
            let not_after = looked.ok().flatten();
            let backoff_until = breaker::is_open(journal, name, now);
            statuses.push(IssuerStatus { issuer: name.clone(), up: Some(up), not_after, backoff_until });
        }
        statuses
    }

    async fn vaults(&mut self, now: Timestamp) -> Vec<VaultStatus> {
        let mut statuses = Vec::new();
        for vault in self.setup.clone().vaults.values() {
            if let Err(error) = vault.token_lookup(now).await {
                let message = format!("could not look up the token: {}", with_causes(&error));
                self.memory.troubles.meet(format!("vault {}", vault.name), message);
            }
            crate::pulse::beat();
            statuses.push(vault.status());
        }
        statuses
    }
}
