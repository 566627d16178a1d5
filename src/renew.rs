//! One renewal, step by step over its journal entry. A restart runs the same step, so there is no
//! separate way of recovery:
//!
//! key made and durable → issuer asked → chain journalled → accepted and written → read back → closed

use crate::domain::cert::{Certificate, Fingerprint, Trust};
use crate::domain::inventory::Sighting;
use crate::domain::key::PrivateKey;
use crate::domain::name::IssuerName;
use crate::domain::plan::{Basis, Managed, Origin, Reason};
use crate::domain::renewal::{CertifiedKey, Replaced, Request, Signed};
use crate::domain::text::with_causes;
use crate::domain::time::Timestamp;
use crate::issuer::{Issuer, IssuerError, Order};
use crate::journal::Journal;
use crate::journal::event::{Event, InFlight, Issued, Stage};
use crate::journal::pending::PendingKeyError;
use crate::pki;
use crate::store::{Note, Store, StoreError};

pub struct Renewal<'a> {
    pub managed: &'a Managed,
    pub reason: Reason,
    /// What the decision was made on.
    pub based_on: Basis,
    pub store: &'a Store,
    /// In order of preference.
    pub issuers: &'a [(IssuerName, std::sync::Arc<Issuer>)],
    pub journal: &'a Journal,
    pub now: fn() -> Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Renewed {
        fingerprint: Fingerprint,
        not_after: Timestamp,
        issuer: IssuerName,
    },
    /// What is there is not what the decision was made on: the next turn plans on that.
    Superseded {
        why: String,
    },
}

/// How an attempt ended, for `certd_renewal_attempts_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Issuer,
    Rejected,
    Store,
    /// The store would lose something: only a person can mend that.
    Held,
    /// The place went out of sight before anything was begun. It is no failure of this certificate.
    OutOfSight,
    Journal,
}

impl Fault {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::Rejected => "rejected",
            Self::Store => "store",
            Self::Held => "held",
            Self::OutOfSight => "out_of_sight",
            Self::Journal => "journal",
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub fault: Fault,
    pub issuer: Option<IssuerName>,
    /// The whole chain of errors, in one line.
    pub message: String,
}

enum Next {
    Step,
    Done(Outcome),
}

impl Renewal<'_> {
    pub async fn run(&self) -> Result<Outcome, Failure> {
        loop {
            let next = self.step().await;
            crate::pulse::beat();
            if let Next::Done(outcome) = next? {
                return Ok(outcome);
            }
        }
    }

    async fn step(&self) -> Result<Next, Failure> {
        let Some(open) = self.journal.in_flight(&self.managed.name) else { return self.begin().await };
        match &open.stage {
            Stage::Begun if open.asked != self.asked() || open.replaces != self.based_on.fingerprint => {
                self.begin().await
            }
            Stage::Begun => self.ask().await,
            Stage::Issued(issued) => self.write(&open, issued).await,
            Stage::Written { issued, version } => self.confirm(issued, *version).await,
        }
    }

    /// Makes the key durable, if the place still looks as it did when the decision was made.
    async fn begin(&self) -> Result<Next, Failure> {
        let read = self.read().await.map_err(|failure| Failure { fault: Fault::OutOfSight, ..failure })?;
        let seen = Basis::of(&read);
        if seen != self.based_on {
            return Ok(Next::Done(Outcome::Superseded { why: "it changed since the decision was made".into() }));
        }
        self.store.rehearse().await.map_err(|e| fault(store_fault(&e), &e))?;
        let spec = self.managed.spec.key;
        let key = tokio::task::spawn_blocking(move || pki::key::generate(spec))
            .await
            .map_err(|e| fault(Fault::Journal, &e))?
            .map_err(|e| fault(Fault::Journal, &e))?;
        self.journal.keys.save(&self.managed.name, &key).map_err(|e| fault(Fault::Journal, &e))?;
        self.append(Event::Begun { reason: self.reason, asked: self.asked(), replaces: seen.fingerprint })?;
        Ok(Next::Step)
    }

    /// Asks the issuers in turn until one signs.
    async fn ask(&self) -> Result<Next, Failure> {
        let Some(key) = self.key()? else { return self.begin().await };
        let spec = &self.managed.spec;
        let csr =
            pki::csr::make(&key, &spec.names, spec.common_name.as_deref()).map_err(|e| fault(Fault::Issuer, &e))?;
        let order = Order {
            csr,
            names: spec.names.clone(),
            common_name: spec.common_name.clone(),
            lifetime: spec.lifetime,
            now: (self.now)(),
        };
        let mut last = fault(Fault::Issuer, &NoIssuer);
        for (nth, (name, issuer)) in self.issuers.iter().enumerate() {
            self.append(Event::Asked { issuer: name.clone() })?;
            let signed = issuer.sign(&order).await;
            crate::pulse::beat();
            match signed {
                Ok(ders) => {
                    self.append(Event::Issued(Issued { issuer: name.clone(), ders }))?;
                    return Ok(Next::Step);
                }
                Err(error) => {
                    last = fault(Fault::Issuer, &error);
                    last.issuer = Some(name.clone());
                    if nth + 1 < self.issuers.len() {
                        self.go_on_after(&error, &last)?;
                    }
                }
            }
        }
        Err(last)
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
            IssuerError::Refused { .. } | IssuerError::Unanswered { .. } | IssuerError::Stopped(_) => {
                tracing::warn!(cert = %self.managed.name, issuer, "asking the next issuer: {message}");
                Ok(())
            }
        }
    }

    /// Judges the chain and writes it, unless somebody put something at least as good there.
    async fn write(&self, open: &InFlight, issued: &Issued) -> Result<Next, Failure> {
        let current = self.read().await?;
        let signed = self.signed(issued).await?;
        if let Some(why) = self.superseded(open, &signed, &current) {
            self.append(Event::Superseded { why: why.clone() })?;
            self.forget_key()?;
            return Ok(Next::Done(Outcome::Superseded { why }));
        }
        self.insist_on_adopted(issued, &signed, &current)?;
        let certified = self.accept(open, issued, signed, &current)?;
        match self.store.write(&certified, &Basis::of(&current)).await {
            Ok(written) => {
                self.append(Event::Written { version: written.version })?;
                Ok(Next::Step)
            }
            Err(error) => Err(failure(issued, store_fault(&error), &error)),
        }
    }

    /// A rule adopted what was there. Something else may be foreign, and a deleted secret is never recreated.
    fn insist_on_adopted(&self, issued: &Issued, signed: &Signed, current: &Sighting) -> Result<(), Failure> {
        let there = Basis::of(current).fingerprint;
        let known = [self.based_on.fingerprint, Some(signed.chain.leaf.fingerprint)];
        match self.managed.origin {
            Origin::Adopted if there.is_none() || !known.contains(&there) => Err(failure(issued, Fault::Store, &Moved)),
            Origin::Adopted | Origin::Declared => Ok(()),
        }
    }

    fn accept(
        &self,
        open: &InFlight,
        issued: &Issued,
        signed: Signed,
        current: &Sighting,
    ) -> Result<CertifiedKey, Failure> {
        let serial = signed.chain.leaf.serial.clone();
        let Some(key) = self.key()? else { return Err(self.given_up(issued, &serial, &LostKey.to_string())) };
        let request = Request {
            certificate: self.managed.name.clone(),
            spec: self.managed.spec.clone(),
            key,
            reason: open.reason,
            replaces: current.leaf().map(Replaced::from),
        };
        let accepted = request.accept((self.now)(), signed);
        accepted.map_err(|rejection| self.given_up(issued, &serial, &rejection.to_string()))
    }

    /// The serial of what was signed stays on record, and the next attempt begins anew.
    fn given_up(&self, issued: &Issued, serial: &str, why: &str) -> Failure {
        let message = format!("the signed certificate {serial} was refused: {why}");
        match self.append(Event::Rejected { serial: serial.to_string(), why: why.to_string() }) {
            Ok(()) => Failure { fault: Fault::Rejected, issuer: Some(issued.issuer.clone()), message },
            Err(journal) => journal,
        }
    }

    /// Success is what is read back: this leaf, and the key that belongs to it.
    async fn confirm(&self, issued: &Issued, version: Option<u64>) -> Result<Next, Failure> {
        let leaf = issued.ders.first().ok_or_else(|| fault(Fault::Journal, &NoChain))?;
        let ours = Fingerprint(pki::sha256(leaf));
        match self.read().await? {
            Sighting::Found(found)
                if found.leaf().fingerprint == ours && found.stored_key.is_some() && !found.key_differs() =>
            {
                let not_after = found.leaf().not_after;
                self.note(found.leaf(), version).await;
                self.append(Event::Closed { fingerprint: ours, not_after })?;
                self.forget_key()?;
                Ok(Next::Done(Outcome::Renewed { fingerprint: ours, not_after, issuer: issued.issuer.clone() }))
            }
            Sighting::Found(_) => {
                self.forget_key()?;
                let serial = pki::read::certificate(leaf).map_or_else(|_| ours.to_string(), |leaf| leaf.serial);
                Err(self.given_up(issued, &serial, "somebody else wrote there after certd did"))
            }
            Sighting::Absent | Sighting::Deleted(_) | Sighting::Crl(_) | Sighting::Unknown(_) => {
                // The chain is still good: the next attempt writes it again.
                self.append(Event::Issued(issued.clone()))?;
                Err(failure(issued, Fault::Store, &Vanished { version }))
            }
        }
    }

    /// What is stored is right without it, so a renewal does not fail for want of a note.
    async fn note(&self, leaf: &Certificate, version: Option<u64>) {
        let (serial, fingerprint, not_after) = (leaf.serial.clone(), leaf.fingerprint, leaf.not_after);
        let note = Note { serial, fingerprint, not_after, specification: self.asked(), version };
        if let Err(error) = self.store.note(&note).await {
            tracing::warn!(cert = %self.managed.name, "{}", with_causes(&error));
        }
    }

    /// The chain with its trust, judged by the issuer that signed it.
    async fn signed(&self, issued: &Issued) -> Result<Signed, Failure> {
        let chain = pki::bundle::chain_as_given(&issued.ders)
            .map_err(|e| self.given_up(issued, "of no known number", &e.to_string()))?;
        let signer = self.issuers.iter().find(|(name, _)| *name == issued.issuer);
        let roots = match signer {
            Some((_, issuer)) => issuer.roots().await.map_err(|e| failure(issued, Fault::Issuer, &e))?,
            None => return Err(self.given_up(issued, &chain.leaf.serial, &IssuerGone.to_string())),
        };
        // By the store's roots too: else it would be found untrusted, or foreign, as soon as it is there.
        let trust = match (roots.judge(&issued.ders), self.store.roots().judge(&issued.ders)) {
            (Trust::Unverified(why), _) | (_, Trust::Unverified(why)) => Trust::Unverified(why),
            (Trust::Verified, _) | (_, Trust::Verified) => Trust::Verified,
            (Trust::NotJudged, Trust::NotJudged) => Trust::NotJudged,
        };
        Ok(Signed { chain, ders: issued.ders.clone(), trust })
    }

    /// A newer certificate is never replaced by an older one.
    fn superseded(&self, open: &InFlight, signed: &Signed, current: &Sighting) -> Option<String> {
        let adopted = self.managed.origin == Origin::Adopted;
        let Sighting::Found(found) = current else { return None };
        let (ours, theirs) = (&signed.chain.leaf, found.leaf());
        let planned_on = open.replaces == Some(theirs.fingerprint);
        if planned_on || theirs.fingerprint == ours.fingerprint {
            return None;
        }
        // What is adopted takes its names from what is stored, so ours are those of the past.
        if adopted && !theirs.names.iter().all(|name| ours.names.contains(name)) {
            return Some("somebody stored a certificate with other names meanwhile".into());
        }
        if theirs.not_after < ours.not_after {
            return None;
        }
        Some(format!("a certificate that ends on {} is there already", theirs.not_after))
    }

    async fn read(&self) -> Result<Sighting, Failure> {
        match self.store.read().await {
            Sighting::Unknown(obstacle) => {
                Err(Failure { fault: Fault::Store, issuer: None, message: obstacle.message })
            }
            seen @ (Sighting::Absent | Sighting::Deleted(_) | Sighting::Found(_) | Sighting::Crl(_)) => Ok(seen),
        }
    }

    fn key(&self) -> Result<Option<PrivateKey>, Failure> {
        match self.journal.keys.load(&self.managed.name) {
            // What cannot be read any more certifies nothing.
            Err(PendingKeyError::Damaged { .. }) => Ok(None),
            loaded => loaded.map_err(|e| fault(Fault::Journal, &e)),
        }
    }

    fn forget_key(&self) -> Result<(), Failure> {
        self.journal.keys.forget(&self.managed.name).map_err(|e| fault(Fault::Journal, &e))
    }

    fn append(&self, event: Event) -> Result<(), Failure> {
        self.journal.append((self.now)(), Some(&self.managed.name), event).map_err(|e| fault(Fault::Journal, &e))
    }

    /// Digest of what is asked for: a renewal in flight goes on only for the same.
    fn asked(&self) -> String {
        let spec = &self.managed.spec;
        let mut names: Vec<String> = spec.names.iter().map(ToString::to_string).collect();
        names.sort();
        let text = format!("{names:?} {:?} {:?} {:?}", spec.common_name, spec.key, spec.lifetime);
        Fingerprint(pki::sha256(text.as_bytes())).to_string()
    }
}

fn store_fault(error: &StoreError) -> Fault {
    match error {
        StoreError::Held(_) => Fault::Held,
        StoreError::Conflict(_) | StoreError::Failed { .. } => Fault::Store,
    }
}

/// One that came after this issuer had signed.
fn failure(issued: &Issued, kind: Fault, error: &dyn std::error::Error) -> Failure {
    Failure { issuer: Some(issued.issuer.clone()), ..fault(kind, error) }
}

fn fault(fault: Fault, error: &dyn std::error::Error) -> Failure {
    Failure { fault, issuer: None, message: with_causes(error) }
}

#[derive(Debug, thiserror::Error)]
#[error("no issuer is configured for it")]
struct NoIssuer;

#[derive(Debug, thiserror::Error)]
#[error("the issuer that signed it is no longer configured for this certificate")]
struct IssuerGone;

#[derive(Debug, thiserror::Error)]
#[error("not written: what a rule adopted is gone or another since the decision was made")]
struct Moved;

#[derive(Debug, thiserror::Error)]
#[error("the journal holds a chain without a certificate")]
struct NoChain;

#[derive(Debug, thiserror::Error)]
#[error("the private key of the renewal in flight is gone from the state directory")]
struct LostKey;

#[derive(Debug, thiserror::Error)]
#[error("it was written (version {version:?}) and is not there when read back")]
struct Vanished {
    version: Option<u64>,
}
