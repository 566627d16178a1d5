//! Asking for a signature, and finding out what became of it where the answer was lost. No issuer is asked a second time
//! before it is known that it has signed nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::outcome::{Failure, Fault, fault};
use super::{Next, Running};
use crate::domain::breaker;
use crate::domain::cert::KeyDigest;
use crate::domain::fallback;
use crate::domain::key::PrivateKey;
use crate::domain::name::IssuerName;
use crate::domain::orders;
use crate::domain::progress::Progress;
use crate::domain::record::Record;
use crate::domain::text::with_causes;
use crate::domain::time::Timestamp;
use crate::failpoint;
use crate::issuer::{Issuer, IssuerError, Order, Recovered, Signing};
use crate::journal::event::{Ask, Event, Issued, Stage};
use crate::pki;
use crate::staging::Staged;

/// Other renewals wait for this one. An answer that is due later than so is looked for by a later attempt.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often an issuer is looked through for a certificate whose answer is still under way.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(250);
const LOOK_AGAIN_AT_LAST_AFTER: Duration = Duration::from_secs(4);

impl Running<'_> {
    /// Asks the issuers in turn until one signs.
    pub(super) async fn ask(&self, staged: Staged) -> Result<Next, Failure> {
        self.ask_again(staged, &BTreeMap::new()).await
    }

    /// Goes on with the orders that are still open.
    async fn ask_again(&self, mut staged: Staged, open: &BTreeMap<IssuerName, Progress>) -> Result<Next, Failure> {
        let Some(key) = staged.key.clone() else { return self.begin_anew(staged).await };
        let order = self.order(&key)?;
        let mut last = fault(Fault::Issuer, &NoIssuer);
        let order_of_asking = self.in_turn();
        for (nth, (name, issuer)) in order_of_asking.iter().enumerate() {
            // It may have signed already, and cannot be asked about it now.
            let progress = open.get(name);
            if progress.is_none() && staged.open.stage.asks().iter().any(|ask| ask.issuer == *name) {
                last = Failure { issuer: Some(name.clone()), ..fault(Fault::Issuer, &Unsettled) };
                continue;
            }
            if let (None, Some(failure)) = (progress, self.limited(name, issuer)) {
                last = failure;
                continue;
            }
            if progress.is_none()
                && let Some(done) = self.note_ask(&mut staged, name, issuer).await?
            {
                return Ok(done);
            }
            let signed = match self.sign(&mut staged, name, issuer, &order, progress.cloned()).await? {
                Signed::Elsewhere(done) => return Ok(done),
                Signed::Here(signed) => signed,
            };
            match signed {
                Ok(ders) => return self.issued(staged, name, ders),
                Err(error) => {
                    let retry_after = error.retry_after();
                    last = Failure { issuer: Some(name.clone()), retry_after, ..fault(Fault::Issuer, &error) };
                    self.note_failure(name, &error)?;
                    self.settle_unless_open(&mut staged, name, &error).await?;
                    if nth + 1 < order_of_asking.len() {
                        self.go_on_after(&error, &last)?;
                    }
                }
            }
        }
        Err(last)
    }

    /// Step by step: how far it has come is durable before the next.
    async fn sign(
        &self,
        staged: &mut Staged,
        name: &IssuerName,
        issuer: &Issuer,
        order: &Order,
        mut progress: Option<Progress>,
    ) -> Result<Signed, Failure> {
        loop {
            if let Some(progress) = &progress
                && let Some(done) = self.note_progress(staged, name, issuer, progress).await?
            {
                return Ok(Signed::Elsewhere(done));
            }
            let signed = issuer.sign(order, progress.as_ref()).await;
            crate::pulse::beat();
            match signed {
                Ok(Signing::Goes(further)) => {
                    failpoint::reached("stepped");
                    progress = Some(further);
                }
                Ok(Signing::Chain(ders)) => {
                    failpoint::reached("answered");
                    return Ok(Signed::Here(Ok(ders)));
                }
                Err(error) => {
                    failpoint::reached("answered");
                    return Ok(Signed::Here(Err(error)));
                }
            }
        }
    }

    async fn note_progress(
        &self,
        staged: &mut Staged,
        name: &IssuerName,
        issuer: &Issuer,
        progress: &Progress,
    ) -> Result<Option<Next>, Failure> {
        let until = (self.now)().plus(issuer.answers_within());
        staged.open.note_progress(name, progress.clone(), until);
        if let Some(done) = self.advance(staged).await? {
            return Ok(Some(done));
        }
        failpoint::reached("progress_staged");
        self.append(Event::Ordered { issuer: name.clone(), progress: progress.clone(), until })?;
        failpoint::reached("ordered");
        Ok(None)
    }

    /// The operator's own bound on orders.
    fn limited(&self, name: &IssuerName, issuer: &Issuer) -> Option<Failure> {
        let (most, now) = (issuer.orders_per_hour()?, (self.now)());
        let until = orders::reached(&self.journal.view(), name, most, now)?;
        let retry_after = Some(now.until(until));
        Some(Failure { issuer: Some(name.clone()), retry_after, ..fault(Fault::Issuer, &Limited { most, until }) })
    }

    /// Those that are left alone are asked only where there is nobody else.
    fn in_turn(&self) -> Vec<&(IssuerName, Arc<Issuer>)> {
        let (view, now) = (self.journal.view(), (self.now)());
        let asked = fallback::in_question(self.managed, self.reason, self.replaced.as_ref(), now);
        let (closed, open): (Vec<_>, Vec<_>) = self
            .issuers
            .iter()
            .filter(|(name, _)| asked.contains(name))
            .partition(|(name, _)| breaker::is_open(&view, name, now).is_none());
        if closed.is_empty() { open } else { closed }
    }

    /// What is an issuer's own fault counts for all that it signs. That it will not sign this says nothing of others.
    fn note_failure(&self, name: &IssuerName, error: &IssuerError) -> Result<(), Failure> {
        let is_its_own = match error {
            IssuerError::Unanswered { .. } | IssuerError::Stopped(_) => true,
            IssuerError::Refused { retry_after, .. } => retry_after.is_some(),
            IssuerError::SignedInVain(_) | IssuerError::Pending { .. } | IssuerError::Unprepared(_) => false,
            IssuerError::Limited { .. } => false,
        };
        let retry_after = error.retry_after().map(|wait| wait.as_secs());
        match is_its_own {
            true => self.append(Event::IssuerFailed { issuer: name.clone(), retry_after }),
            false => Ok(()),
        }
    }

    fn order(&self, key: &PrivateKey) -> Result<Order, Failure> {
        let spec = &self.managed.spec;
        let csr =
            pki::csr::make(key, &spec.names, spec.common_name.as_deref()).map_err(|e| fault(Fault::Issuer, &e))?;
        Ok(Order {
            csr,
            names: spec.names.clone(),
            common_name: spec.common_name.clone(),
            lifetime: spec.lifetime,
            replaces: self.replaced.clone(),
            now: (self.now)(),
        })
    }

    /// Durable before the issuer hears of it.
    async fn note_ask(
        &self,
        staged: &mut Staged,
        name: &IssuerName,
        issuer: &Arc<Issuer>,
    ) -> Result<Option<Next>, Failure> {
        let until = (self.now)().plus(issuer.answers_within());
        staged.open.ask(name.clone(), until);
        if let Some(done) = self.advance(staged).await? {
            return Ok(Some(done));
        }
        failpoint::reached("ask_staged");
        self.append(Event::Asked { issuer: name.clone(), until: Some(until) })?;
        failpoint::reached("asked");
        Ok(None)
    }

    fn issued(&self, mut staged: Staged, name: &IssuerName, ders: Vec<Vec<u8>>) -> Result<Next, Failure> {
        let issued = Issued { issuer: name.clone(), ders };
        self.append(Event::Issued(issued.clone()))?;
        failpoint::reached("issued");
        staged.open.stage = Stage::Issued(issued);
        Ok(Next::Step(Box::new(staged)))
    }

    async fn settle_unless_open(
        &self,
        staged: &mut Staged,
        name: &IssuerName,
        error: &IssuerError,
    ) -> Result<(), Failure> {
        let is_open = match error {
            IssuerError::Unanswered { may_be_done, .. } => *may_be_done,
            IssuerError::Pending { .. } => true,
            // What it signed must not be used, and is told.
            IssuerError::Refused { .. } | IssuerError::Limited { .. } | IssuerError::Unprepared(_) => false,
            IssuerError::Stopped(_) | IssuerError::SignedInVain(_) => false,
        };
        if is_open { Ok(()) } else { self.settle(staged, name).await }
    }

    async fn settle(&self, staged: &mut Staged, name: &IssuerName) -> Result<(), Failure> {
        staged.open.settle(name);
        // Where this is not noted, the issuer is looked through again.
        if let Err(error) = self.staging.advance(staged).await {
            tracing::debug!(cert = %self.managed.name, "{}", with_causes(&error));
        }
        self.append(Event::NotIssued { issuer: name.clone() })
    }

    /// The next issuer may sign, and then nobody else would tell of this one.
    fn go_on_after(&self, error: &IssuerError, failure: &Failure) -> Result<(), Failure> {
        let issuer = failure.issuer.as_ref().map(ToString::to_string);
        let message = failure.message.clone();
        match error {
            IssuerError::SignedInVain(_) => {
                tracing::error!(cert = %self.managed.name, issuer, "asking the next issuer: {message}");
                self.append(Event::Failed { message, retry_at: (self.now)(), held: false })
            }
            IssuerError::Refused { .. }
            | IssuerError::Limited { .. }
            | IssuerError::Unanswered { .. }
            | IssuerError::Pending { .. }
            | IssuerError::Unprepared(_)
            | IssuerError::Stopped(_) => {
                tracing::warn!(cert = %self.managed.name, issuer, "asking the next issuer: {message}");
                Ok(())
            }
        }
    }

    /// Whether one of those that were asked has signed. Who has not is asked again, and who cannot tell is not.
    pub(super) async fn recover(&self, mut staged: Staged, asks: Vec<Ask>) -> Result<Next, Failure> {
        failpoint::reached("recovering");
        let Some(key) = staged.key.as_ref().map(|key| key.public) else { return self.begin_anew(staged).await };
        let mut still_open = BTreeMap::new();
        for ask in asks {
            match self.became_of(&ask, key).await {
                Recovered::Issued(ders) => {
                    tracing::info!(cert = %self.managed.name, issuer = %ask.issuer, "found what it had signed before");
                    failpoint::reached("recovered");
                    return self.issued(staged, &ask.issuer, ders);
                }
                Recovered::NotIssued => self.settle(&mut staged, &ask.issuer).await?,
                Recovered::GoesOn if self.is_of_now(&staged.open) => {
                    still_open.extend(ask.progress.clone().map(|progress| (ask.issuer.clone(), progress)));
                }
                Recovered::GoesOn => self.settle(&mut staged, &ask.issuer).await?,
                Recovered::NoRecord => {
                    let why = "nobody can tell what it signed, so it is asked again: it may sign twice";
                    tracing::warn!(cert = %self.managed.name, issuer = %ask.issuer, "{why}");
                    self.settle(&mut staged, &ask.issuer).await?;
                }
                Recovered::Unknown(why) => {
                    tracing::warn!(cert = %self.managed.name, issuer = %ask.issuer, "it may have signed already: {why}");
                }
            }
        }
        failpoint::reached("settled");
        if self.journal.view().records.get(&self.managed.name).is_some_and(Record::asks_in_vain) {
            return Err(fault(Fault::Issuer, &Unheard));
        }
        // A changed configuration asks for something else, and with another key.
        if !self.is_of_now(&staged.open) && staged.open.stage == Stage::Begun {
            return self.begin_anew(staged).await;
        }
        self.ask_again(staged, &still_open).await
    }

    /// Only what is read after the answer was due tells that there is none.
    async fn became_of(&self, ask: &Ask, key: KeyDigest) -> Recovered {
        let Some((_, issuer)) = self.issuers.iter().find(|(name, _)| *name == ask.issuer) else {
            return Recovered::Unknown("it is no longer configured for this certificate".to_string());
        };
        // How far it had come, the journal that was lost knew.
        if issuer.takes_steps() && ask.is_guessed {
            return Recovered::NoRecord;
        }
        tracing::info!(cert = %self.managed.name, issuer = %ask.issuer, until = %ask.until, "it may have signed: looking for what it did");
        // However the wall clock was set meanwhile, no answer takes longer.
        let due = Instant::now() + (self.now)().until(ask.until).min(issuer.answers_within());
        let patience = Instant::now() + PATIENCE;
        // Nothing that was sent before could have it signed.
        let is_early = issuer.takes_steps() && !ask.progress.as_ref().is_some_and(|progress| progress.is_finalizing);
        let mut wait = LOOK_AGAIN_AFTER;
        loop {
            let (is_due, is_too_long) = (due <= Instant::now(), patience < due);
            let seen = issuer.recover(key, ask.progress.as_ref()).await;
            match seen {
                settled @ (Recovered::NotIssued | Recovered::GoesOn) if is_early => return settled,
                Recovered::NotIssued | Recovered::GoesOn | Recovered::NoRecord if is_too_long => {
                    return Recovered::Unknown(format!("its answer may be under way until {}", ask.until));
                }
                Recovered::NotIssued | Recovered::GoesOn | Recovered::NoRecord if !is_due => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LOOK_AGAIN_AT_LAST_AFTER);
                }
                settled => return settled,
            }
            crate::pulse::beat();
        }
    }
}

/// How an issuer answered, unless another instance took the renewal over meanwhile.
enum Signed {
    Here(Result<Vec<Vec<u8>>, IssuerError>),
    Elsewhere(Next),
}

#[derive(Debug, thiserror::Error)]
#[error("{most} orders within an hour are the most (orders_per_hour): there is room for another on {until}")]
struct Limited {
    most: u32,
    until: Timestamp,
}

#[derive(Debug, thiserror::Error)]
#[error("no issuer is configured for it")]
struct NoIssuer;

#[derive(Debug, thiserror::Error)]
#[error("the issuer was asked twice, certd ended before an answer came, and nothing was signed")]
struct Unheard;

#[derive(Debug, thiserror::Error)]
#[error("the issuer may have signed already and cannot be asked about it now, so it is not asked again")]
struct Unsettled;
