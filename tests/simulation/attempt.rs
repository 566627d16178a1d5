//! One renewal over its entry in the journal, as `src/renew.rs` and `src/renew/ask.rs` go about it, with a CA and a store that
//! fail, a crash after each event, a clock that is set meanwhile, and somebody else who writes meanwhile.

use std::time::Duration;

use certd::domain::breaker;
use certd::domain::cap;
use certd::domain::plan::Reason;
use certd::domain::policy;
use certd::journal::event::{Event, Issued, Stage};

use crate::estate::{Broken, Estate};

/// A crash: everything but the journal and the places is forgotten.
struct Crashed;

/// What the attempt came to; an error is a rule that was broken.
type Ended = Result<(), String>;

impl Estate {
    pub(super) fn attempt(&mut self, nth: usize, reason: Reason) -> Ended {
        let (now, view) = (self.shown(), self.view(nth));
        let is_issued = view.records.get(&self.kept[nth].managed.name).is_some_and(|record| record.issued);
        if breaker::open_until(&view, &self.kept[nth].managed.issuers, now).is_some()
            && !is_issued
            && self.broken.is_none()
        {
            return Ok(());
        }
        match self.steps(nth, reason) {
            Ok(ended) => ended,
            Err(Crashed) => {
                self.restart(nth);
                Ok(())
            }
        }
    }

    /// One attempt, step by step; a crash may come after each event.
    fn steps(&mut self, nth: usize, reason: Reason) -> Result<Ended, Crashed> {
        match self.stage(nth) {
            None => self.begin(nth, reason)?,
            Some(Stage::Begun) => self.begin_anew_unless_of_now(nth, reason)?,
            Some(Stage::Asked(_)) => {
                // What became of it is asked of the CA itself.
                if self.ca.is_out(self.now) {
                    return self.failed(nth, None).map(Ok);
                }
                let is_forgotten = self.broken == Some(Broken::AsksAgainAfterALostAnswer);
                match self.kept[nth].signed.is_some() && !is_forgotten {
                    true => self.append(nth, issued())?,
                    false => {
                        self.append(nth, Event::NotIssued { issuer: "ca".into() })?;
                        self.begin_anew_unless_of_now(nth, reason)?;
                    }
                }
            }
            Some(Stage::Issued(_) | Stage::Written { .. }) => {}
        }
        if self.stage(nth) == Some(Stage::Begun)
            && let Some(ended) = self.ask(nth)?
        {
            return Ok(ended);
        }
        if self.is_faulty && self.dice.in_a_hundred(1) {
            let back = self.now.plus(Duration::from_secs(60 + self.dice.below(86_400)));
            self.store.add(self.now, back);
        }
        if self.store.is_out(self.now) {
            return self.failed(nth, None).map(Ok);
        }
        match self.stage(nth) {
            Some(Stage::Written { .. }) => self.confirm(nth).map(Ok),
            _ => self.write(nth).map(Ok),
        }
    }

    fn stage(&self, nth: usize) -> Option<Stage> {
        self.kept[nth].state.in_flight(&self.kept[nth].managed.name).map(|open| open.stage.clone())
    }

    /// With a new key, for which no CA has signed anything.
    fn begin(&mut self, nth: usize, reason: Reason) -> Result<(), Crashed> {
        self.kept[nth].signed = None;
        let names = cap::name_set(&self.kept[nth].managed.spec.names);
        let replaces = Some(self.kept[nth].leaf.fingerprint);
        self.append(nth, Event::Begun { reason, asked: "asked".into(), replaces, key: None, names })
    }

    fn begin_anew_unless_of_now(&mut self, nth: usize, reason: Reason) -> Result<(), Crashed> {
        match self.is_planned_on_what_is_there(nth) {
            true => Ok(()),
            false => self.begin(nth, reason),
        }
    }

    fn is_planned_on_what_is_there(&self, nth: usize) -> bool {
        let open = self.kept[nth].state.in_flight(&self.kept[nth].managed.name);
        open.is_some_and(|open| open.replaces == Some(self.kept[nth].leaf.fingerprint))
    }

    /// `None` where the CA has signed.
    fn ask(&mut self, nth: usize) -> Result<Option<Ended>, Crashed> {
        self.tally.attempts += 1;
        let until = self.shown().plus(Duration::from_secs(20));
        self.append(nth, Event::Asked { issuer: "ca".into(), until: Some(until) })?;
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
            let until = self.now.plus(Duration::from_secs(wait));
            // Who asks to be left alone does not answer meanwhile.
            self.ca.add(self.now, until);
            if self.shown() == self.now {
                // A wait that is noted by a wrong clock cannot be told from any other instant.
                self.ca_waits = until;
            }
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

    /// Unless somebody put something at least as good there, or the chain is none to be stored.
    fn write(&mut self, nth: usize) -> Result<(), Crashed> {
        let ours = self.kept[nth].signed.clone().expect("it was issued");
        let read = self.kept[nth].leaf.clone();
        let is_known = read.fingerprint == ours.fingerprint || self.is_planned_on_what_is_there(nth);
        if !is_known && read.not_after >= ours.not_after {
            self.tally.superseded += 1;
            return self.append(nth, Event::Superseded { why: "one that ends later is there already".into() });
        }
        if self.kept[nth].managed.spec.renewal.due_at(&ours) <= self.shown() {
            return self.given_up(nth, "it is due already");
        }
        self.append(nth, Event::Accepted { serial: ours.serial.clone() })?;
        if self.kept[nth].leaf.fingerprint != read.fingerprint {
            // The write is by check-and-set.
            return self.failed(nth, None);
        }
        self.put(nth, ours);
        self.append(nth, Event::Written { version: Some(1) })?;
        self.confirm(nth)
    }

    fn confirm(&mut self, nth: usize) -> Result<(), Crashed> {
        let ours = self.kept[nth].signed.clone().expect("it was issued");
        if self.kept[nth].leaf.fingerprint != ours.fingerprint {
            return self.given_up(nth, "somebody else wrote there after certd did");
        }
        self.append(nth, Event::Closed { fingerprint: ours.fingerprint, not_after: ours.not_after })
    }

    fn given_up(&mut self, nth: usize, why: &str) -> Result<(), Crashed> {
        self.tally.given_up += 1;
        self.append(nth, Event::Rejected { serial: "of no matter".into(), why: why.into() })?;
        self.failed(nth, None)
    }

    fn failed(&mut self, nth: usize, retry_after: Option<Duration>) -> Result<(), Crashed> {
        self.tally.failures += 1;
        let (now, view) = (self.shown(), self.view(nth));
        let (name, not_after) = (&self.kept[nth].managed.name, self.kept[nth].leaf.not_after);
        let before = view.records.get(name).map_or(0, |record| record.consecutive_failures);
        let own = policy::retry_at(before.saturating_add(1), now, &name.0, Some(not_after));
        let retry_at = retry_after.map_or(own, |wait| own.max(now.plus(wait)));
        self.append(nth, Event::Failed { message: "no".into(), retry_at, held: false })
    }

    fn append(&mut self, nth: usize, event: Event) -> Result<(), Crashed> {
        self.note(nth, event);
        if !self.is_faulty {
            return Ok(());
        }
        if self.dice.below(2_000) == 0 {
            self.clock.step(&mut self.dice, self.now);
        }
        if self.dice.below(2_000) == 0 {
            self.write_as_somebody_else(nth);
        }
        match self.dice.below(400) {
            0 => Err(Crashed),
            _ => Ok(()),
        }
    }
}

fn issued() -> Event {
    Event::Issued(Issued { issuer: "ca".into(), ders: vec![vec![0x30, 0]] })
}
