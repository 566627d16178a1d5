//! The second half of a turn: decisions are carried out, one at a time, until told to stop.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::breaker::{self, LONGEST_RETRY_AFTER};
use crate::domain::cap;
use crate::domain::fallback;
use crate::domain::inventory::Inventory;
use crate::domain::name::{CertName, IssuerName};
use crate::domain::plan::{Action, Decision, Demand, Managed, Reason};
use crate::domain::policy;
use crate::domain::text::with_causes;
use crate::domain::time::Timestamp;
use crate::journal::Journal;
use crate::journal::event::Event;
use crate::renew::{Failure, Fault, Outcome, Renewal};
use crate::store::Store;

use super::setup::Setup;

/// A renewal that is under way when a stop is asked for may take this long to finish; whatever it
/// leaves open, the journal resumes.
const GRACE: Duration = Duration::from_secs(6);

/// How one renewal went.
#[derive(Debug)]
pub struct Attempt {
    pub certificate: CertName,
    pub reason: Reason,
    /// The one that was asked, or would have been; `None` where none is configured.
    pub issuer: Option<IssuerName>,
    pub ended: Result<Outcome, Failure>,
}

pub struct Execution<'a> {
    pub setup: &'a Setup,
    pub journal: &'a Journal,
    pub inventory: &'a Inventory,
    pub now: fn() -> Timestamp,
    /// Turns true when certd is to stop.
    pub stop: watch::Receiver<bool>,
    /// Where set, nothing else is acted on.
    pub only: Option<&'a BTreeSet<CertName>>,
}

impl Execution<'_> {
    /// Carries out the decisions of these indices, in this order.
    pub async fn run(
        &self,
        managed: &[Managed],
        decisions: &[Decision],
        order: &[usize],
        requested: &BTreeMap<CertName, Demand>,
    ) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        for nth in order {
            let (managed, decision) = (&managed[*nth], &decisions[*nth]);
            let Action::Renew { reason } = decision.action else { continue };
            if *self.stop.borrow() {
                break;
            }
            if self.is_paused(&managed.name) || self.only.is_some_and(|only| !only.contains(&managed.name)) {
                continue;
            }
            if self.is_left_alone(managed, reason, requested) {
                continue;
            }
            let Some(store) = self.setup.store(managed) else {
                tracing::error!(cert = %managed.name, "no store of the configuration is its place");
                continue;
            };
            if requested.get(&managed.name) == Some(&Demand::OverTheCap) {
                self.note_over_the_cap(managed, reason);
            }
            match self.renew(managed, decision, reason, &store).await {
                Some(attempt) => attempts.push(attempt),
                None => break,
            }
        }
        attempts
    }

    /// A pause stops what this turn decided before it, too.
    fn is_paused(&self, name: &CertName) -> bool {
        self.journal.view().pause_of(name, (self.now)()).is_some()
    }

    /// Its issuers may have failed for others since the decision was made: one attempt in a turn tells for all.
    fn is_left_alone(&self, managed: &Managed, reason: Reason, requested: &BTreeMap<CertName, Demand>) -> bool {
        let view = self.journal.view();
        let is_issued = view.records.get(&managed.name).is_some_and(|record| record.issued);
        let leaf = self.inventory.at(&managed.location).and_then(|seen| seen.sighting.leaf());
        let asked = fallback::in_question(managed, reason, leaf, (self.now)());
        let is_open = breaker::open_until(&view, asked, (self.now)()).is_some();
        !is_issued && is_open && !requested.contains_key(&managed.name)
    }

    /// Puts on record that a person passed what would have stopped it.
    fn note_over_the_cap(&self, managed: &Managed, reason: Reason) {
        let (view, now) = (self.journal.view(), (self.now)());
        let Some(record) = view.records.get(&managed.name) else { return };
        let leaf = self.inventory.at(&managed.location).and_then(|seen| seen.sighting.leaf());
        if record.issued || cap::reached(record, &managed.spec, leaf, reason, now).is_none() {
            return;
        }
        let (stored, unused) = cap::counts(record, now);
        tracing::warn!(cert = %managed.name, stored, unused, "a person has it renewed over the cap");
        if let Err(error) = self.journal.append(now, Some(&managed.name), Event::OverTheCap { stored, unused }) {
            tracing::error!(cert = %managed.name, "{}", with_causes(&error));
        }
    }

    /// `None` when it was left open because certd stops.
    async fn renew(&self, managed: &Managed, decision: &Decision, reason: Reason, store: &Store) -> Option<Attempt> {
        let issuers = self.setup.issuers_of(managed);
        let renewal = Renewal {
            managed,
            reason,
            based_on: decision.based_on,
            replaced: self.inventory.at(&managed.location).and_then(|seen| seen.sighting.leaf()).cloned(),
            store,
            issuers: &issuers,
            journal: self.journal,
            now: self.now,
        };
        tracing::info!(cert = %managed.name, reason = reason.as_str(), "renewing");
        let mut stop = self.stop.clone();
        let stopped = async {
            // An error means that nobody is left who could ask for a stop.
            if stop.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(GRACE).await;
        };
        let ended = tokio::select! {
            ended = renewal.run() => ended,
            () = stopped => {
                tracing::warn!(cert = %managed.name, "stopping with the renewal open; it is resumed on the next start");
                return None;
            }
        };
        self.report(managed, reason, &ended);
        let first = issuers.first().map(|(name, _)| name.clone());
        Some(Attempt { certificate: managed.name.clone(), reason, issuer: asked(&ended).or(first), ended })
    }

    fn report(&self, managed: &Managed, reason: Reason, ended: &Result<Outcome, Failure>) {
        match ended {
            Ok(Outcome::Renewed { not_after, issuer, .. }) => {
                tracing::info!(cert = %managed.name, reason = reason.as_str(), issuer = %issuer, not_after = %not_after, "renewed, stored and read back");
            }
            Ok(Outcome::Superseded { why }) => tracing::info!(cert = %managed.name, "not renewed: {why}"),
            Err(failure) => self.failed(managed, failure),
        }
    }

    fn failed(&self, managed: &Managed, failure: &Failure) {
        if failure.fault == Fault::OutOfSight {
            // Nothing was asked of anybody, so it waits for no backoff but until it can be seen again.
            return tracing::warn!(cert = %managed.name, "not begun: {}", failure.message);
        }
        let now = (self.now)();
        let view = self.journal.view();
        let before = view.records.get(&managed.name).map_or(0, |record| record.consecutive_failures);
        let not_after = self.inventory.at(&managed.location).and_then(|seen| Some(seen.sighting.leaf()?.not_after));
        let own = policy::retry_at(before.saturating_add(1), now, &managed.name.0, not_after);
        let asked_for = failure.retry_after.map(|wait| now.plus(wait.min(LONGEST_RETRY_AFTER)));
        let retry_at = asked_for.map_or(own, |asked_for| own.max(asked_for));
        tracing::error!(cert = %managed.name, retry_at = %retry_at, "could not renew: {}", failure.message);
        let held = failure.fault == Fault::Held;
        let event = Event::Failed { message: failure.message.clone(), retry_at, held };
        if let Err(error) = self.journal.append(now, Some(&managed.name), event) {
            tracing::error!(cert = %managed.name, "{}", with_causes(&error));
        }
    }
}

fn asked(ended: &Result<Outcome, Failure>) -> Option<IssuerName> {
    match ended {
        Ok(Outcome::Renewed { issuer, .. }) => Some(issuer.clone()),
        Ok(Outcome::Superseded { .. }) => None,
        Err(failure) => failure.issuer.clone(),
    }
}
