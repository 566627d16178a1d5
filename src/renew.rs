//! One renewal, step by step over its journal entry. A restart runs the same step, so there is no
//! separate way of recovery:
//!
//! key made and staged → issuer asked → chain journalled → accepted and written → read back → closed

mod ask;
mod outcome;

use std::sync::Arc;

use crate::domain::cap;
use crate::domain::cert::{Certificate, Fingerprint, Trust};
use crate::domain::inventory::Sighting;
use crate::domain::key::PrivateKey;
use crate::domain::name::IssuerName;
use crate::domain::plan::{Basis, Managed, Origin, Reason};
use crate::domain::renewal::{CLOCK_SKEW, CertifiedKey, Replaced, Request, Signed};
use crate::domain::text::{one_line, with_causes};
use crate::domain::time::Timestamp;
use crate::failpoint;
use crate::issuer::Issuer;
use crate::journal::Journal;
use crate::journal::event::{Ask, Event, InFlight, Issued, Stage};
use crate::pki;
use crate::pki::roots::Roots;
use crate::staging::{Released, Staged, Staging, StagingError, Standing};
use crate::store::{Note, Store};

pub use outcome::{Failure, Fault, Outcome};
use outcome::{fault, staging_fault, store_fault};

pub struct Renewal<'a> {
    pub managed: &'a Managed,
    pub reason: Reason,
    /// What the decision was made on.
    pub based_on: Basis,
    /// The certificate that was found then.
    pub replaced: Option<Certificate>,
    pub store: &'a Store,
    /// In order of preference.
    pub issuers: &'a [(IssuerName, Arc<Issuer>)],
    pub journal: &'a Journal,
    pub now: fn() -> Timestamp,
}

enum Next {
    Step(Box<Staged>),
    Done(Outcome),
}

/// A renewal that runs, and where its key is kept meanwhile.
struct Running<'a> {
    renewal: &'a Renewal<'a>,
    staging: Staging<'a>,
}

impl Renewal<'_> {
    pub async fn run(&self) -> Result<Outcome, Failure> {
        let staging = Staging::of(self.store, self.journal, &self.managed.name).await;
        let staging = staging.map_err(|e| unstaged(&e))?;
        let running = Running { renewal: self, staging };
        let mut next = running.resume().await;
        loop {
            crate::pulse::beat();
            match next? {
                Next::Done(outcome) => return Ok(outcome),
                Next::Step(staged) => next = running.step(*staged).await,
            }
        }
    }
}

impl<'a> std::ops::Deref for Running<'a> {
    type Target = Renewal<'a>;

    fn deref(&self) -> &Renewal<'a> {
        self.renewal
    }
}

impl Running<'_> {
    /// Goes on where it stands, whoever brought it there, or begins.
    async fn resume(&self) -> Result<Next, Failure> {
        let standing = self.staging.look().await;
        match standing.map_err(|e| unstaged(&e))? {
            Standing::Elsewhere(why) => Ok(Next::Done(Outcome::Superseded { why })),
            Standing::Ours(staged) => {
                failpoint::reached("resuming");
                self.note_staged()?;
                self.agree(*staged).map(|staged| Next::Step(Box::new(staged)))
            }
            Standing::Key(key) => self.ask_about(key).map(|staged| Next::Step(Box::new(staged))),
            Standing::Free => match self.journal.in_flight(&self.managed.name) {
                Some(open) if open.stage.rank() >= 2 => Ok(Next::Step(Box::new(Staged::without_key(open)))),
                Some(_) | None => self.begin().await,
            },
        }
    }

    /// Any of the issuers may have signed for a key that is found alone.
    fn ask_about(&self, key: PrivateKey) -> Result<Staged, Failure> {
        let until = (self.now)();
        let asks = self
            .issuers
            .iter()
            .map(|(issuer, _)| Ask { issuer: issuer.clone(), until, progress: None, is_guessed: true })
            .collect();
        let open = self.open(&key, Stage::Asked(asks));
        self.append(Event::TakenUp(open.clone()))?;
        Ok(Staged::found(open, key))
    }

    /// The journal and the staging place are not written in one step: what is further along is true.
    fn agree(&self, mut staged: Staged) -> Result<Staged, Failure> {
        match self.journal.in_flight(&self.managed.name) {
            Some(noted) if noted == staged.open => {}
            Some(noted) if noted.key == staged.open.key && noted.stage.rank() > staged.open.stage.rank() => {
                staged.open = noted;
            }
            Some(_) | None => self.append(Event::TakenUp(staged.open.clone()))?,
        }
        Ok(staged)
    }

    async fn step(&self, staged: Staged) -> Result<Next, Failure> {
        match staged.open.stage.clone() {
            Stage::Begun if !self.is_of_now(&staged.open) || staged.key.is_none() => self.begin_anew(staged).await,
            Stage::Begun => self.ask(staged).await,
            Stage::Asked(asks) => self.recover(staged, asks).await,
            Stage::Issued(issued) => self.write(staged, &issued).await,
            Stage::Written { issued, version } => self.confirm(staged, &issued, version).await,
        }
    }

    /// Whether it still is what would be begun now.
    fn is_of_now(&self, open: &InFlight) -> bool {
        open.asked == self.asked() && open.replaces == self.based_on.fingerprint
    }

    async fn begin_anew(&self, staged: Staged) -> Result<Next, Failure> {
        self.release(&staged).await?;
        self.begin().await
    }

    /// Makes the key durable, if the place still looks as it did when the decision was made.
    async fn begin(&self) -> Result<Next, Failure> {
        if Basis::of(&self.read_before().await?) != self.based_on {
            return Ok(self.changed());
        }
        self.store.rehearse().await.map_err(|e| fault(store_fault(&e), &e))?;
        let spec = self.managed.spec.key;
        let key = tokio::task::spawn_blocking(move || pki::key::generate(spec))
            .await
            .map_err(|e| fault(Fault::Journal, &e))?
            .map_err(|e| fault(Fault::Journal, &e))?;
        failpoint::reached("key_made");
        self.note_staged()?;
        let claimed = self.staging.claim(self.open(&key, Stage::Begun), key).await.map_err(|e| staging_fault(&e))?;
        let Some(staged) = claimed else {
            return Ok(Next::Done(Outcome::Superseded {
                why: "another instance of certd has begun to renew it".into(),
            }));
        };
        failpoint::reached("key_staged");
        // Another instance may have finished between the look and the claim.
        if self.staging.is_shared() && Basis::of(&self.read_before().await?) != self.based_on {
            self.release(&staged).await?;
            return Ok(self.changed());
        }
        failpoint::reached("basis_seen_again");
        let InFlight { reason, asked, replaces, key, names, .. } = staged.open.clone();
        self.append(Event::Begun { reason, asked, replaces, key, names })?;
        failpoint::reached("begun");
        Ok(Next::Step(Box::new(staged)))
    }

    /// For this key, as it would be begun now.
    fn open(&self, key: &PrivateKey, stage: Stage) -> InFlight {
        InFlight {
            reason: self.reason,
            asked: self.asked(),
            replaces: self.based_on.fingerprint,
            key: Some(key.public),
            names: cap::name_set(&self.managed.spec.names),
            stage,
        }
    }

    async fn read_before(&self) -> Result<Sighting, Failure> {
        self.read().await.map_err(|failure| Failure { fault: Fault::OutOfSight, ..failure })
    }

    fn changed(&self) -> Next {
        Next::Done(Outcome::Superseded { why: "it changed since the decision was made".into() })
    }

    /// Judges the chain and writes it, unless somebody put something at least as good there.
    async fn write(&self, mut staged: Staged, issued: &Issued) -> Result<Next, Failure> {
        if let Some(done) = self.advance(&mut staged).await? {
            return Ok(done);
        }
        failpoint::reached("chain_staged");
        let current = self.read().await?;
        let signed = self.signed(&staged, issued).await?;
        if let Some(why) = self.superseded(&staged.open, &signed, &current) {
            self.release(&staged).await?;
            self.append(Event::Superseded { why: why.clone() })?;
            return Ok(Next::Done(Outcome::Superseded { why }));
        }
        self.insist_on_adopted(issued, &signed, &current)?;
        let certified = self.accept(&staged, issued, signed, &current).await?;
        failpoint::reached("before_write");
        match self.store.write(&certified, &Basis::of(&current)).await {
            Ok(written) => {
                failpoint::reached("after_write");
                self.append(Event::Written { version: written.version })?;
                failpoint::reached("written");
                staged.open.stage = Stage::Written { issued: issued.clone(), version: written.version };
                Ok(Next::Step(Box::new(staged)))
            }
            Err(error) => Err(failure(issued, store_fault(&error), &error)),
        }
    }

    /// The fence before what cannot be undone: an instance whose claim was taken over goes no further.
    async fn advance(&self, staged: &mut Staged) -> Result<Option<Next>, Failure> {
        match self.staging.advance(staged).await {
            Ok(()) => Ok(None),
            Err(error @ StagingError::TakenOver { .. }) => {
                let why = error.to_string();
                self.append(Event::Superseded { why: why.clone() })?;
                Ok(Some(Next::Done(Outcome::Superseded { why })))
            }
            Err(error) => Err(staging_fault(&error)),
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

    async fn accept(
        &self,
        staged: &Staged,
        issued: &Issued,
        signed: Signed,
        current: &Sighting,
    ) -> Result<CertifiedKey, Failure> {
        let serial = signed.chain.leaf.serial.clone();
        let Some(key) = staged.key.clone() else {
            return Err(self.given_up(staged, issued, &serial, &LostKey.to_string()).await);
        };
        let request = Request {
            certificate: self.managed.name.clone(),
            spec: self.managed.spec.clone(),
            key,
            reason: staged.open.reason,
            replaces: current.chain().map(Replaced::from),
            lifetime_is_given: self.gives_lifetimes(&issued.issuer),
            is_served: !self.managed.serves.is_empty(),
        };
        match request.accept((self.now)(), signed) {
            Ok(certified) => {
                self.append(Event::Accepted { serial })?;
                failpoint::reached("accepted");
                Ok(certified)
            }
            Err(rejection) => Err(self.given_up(staged, issued, &serial, &rejection.to_string()).await),
        }
    }

    fn gives_lifetimes(&self, signer: &IssuerName) -> bool {
        self.issuers.iter().any(|(name, issuer)| name == signer && !issuer.takes_lifetimes())
    }

    /// The serial of what was signed stays on record, and the next attempt begins anew.
    async fn given_up(&self, staged: &Staged, issued: &Issued, serial: &str, why: &str) -> Failure {
        if let Err(failure) = self.release(staged).await {
            return failure;
        }
        failpoint::reached("given_up");
        // It names what somebody else put into a certificate.
        let why = one_line(why);
        let message = format!("the signed certificate {serial} was refused: {why}");
        match self.append(Event::Rejected { serial: serial.to_string(), why }) {
            Ok(()) => {
                Failure { fault: Fault::Rejected, issuer: Some(issued.issuer.clone()), retry_after: None, message }
            }
            Err(journal) => journal,
        }
    }

    /// Success is what is read back: this leaf, and the key that belongs to it.
    async fn confirm(&self, staged: Staged, issued: &Issued, version: Option<u64>) -> Result<Next, Failure> {
        let leaf = issued.ders.first().ok_or_else(|| fault(Fault::Journal, &NoChain))?;
        let ours = Fingerprint(pki::sha256(leaf));
        match self.read().await? {
            Sighting::Found(found)
                if found.leaf().fingerprint == ours && found.stored_key.is_some() && !found.key_differs() =>
            {
                let not_after = found.leaf().not_after;
                failpoint::reached("read_back");
                self.note(found.leaf(), version).await;
                failpoint::reached("noted");
                self.release(&staged).await?;
                failpoint::reached("key_destroyed");
                self.append(Event::Closed { fingerprint: ours, not_after })?;
                failpoint::reached("closed");
                Ok(Next::Done(Outcome::Renewed { fingerprint: ours, not_after, issuer: issued.issuer.clone() }))
            }
            Sighting::Found(_) => {
                let serial = pki::read::certificate(leaf).map_or_else(|_| ours.to_string(), |leaf| leaf.serial);
                Err(self.given_up(&staged, issued, &serial, "somebody else wrote there after certd did").await)
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
    async fn signed(&self, staged: &Staged, issued: &Issued) -> Result<Signed, Failure> {
        let chain = match pki::bundle::chain_as_given(&issued.ders) {
            Ok(chain) => chain,
            Err(why) => return Err(self.given_up(staged, issued, "of no known number", &why.to_string()).await),
        };
        let signer = self.issuers.iter().find(|(name, _)| *name == issued.issuer);
        let roots = match signer {
            Some((_, issuer)) => issuer
                .roots()
                .await
                .map_err(|e| Failure { retry_after: e.retry_after(), ..failure(issued, Fault::Issuer, &e) })?,
            None => {
                return Err(self.given_up(staged, issued, &chain.leaf.serial, &IssuerGone.to_string()).await);
            }
        };
        // A CA may be ahead of this host's clock, and one that ends at once is of no use.
        let now = (self.now)().plus(CLOCK_SKEW);
        // By the store's roots too: else it would be found untrusted, or foreign, as soon as it is there.
        let judged = |roots: &Roots| {
            let judged = roots.judge(&issued.ders);
            judged.map_or_else(|too_costly| Trust::Unverified(too_costly.to_string()), |judged| judged.at(now))
        };
        let trust = match (judged(&roots), judged(self.store.roots())) {
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
        let end = found.chain.usable().until;
        if end < signed.chain.usable().until {
            return None;
        }
        Some(format!("a certificate that ends on {end} is there already"))
    }

    async fn read(&self) -> Result<Sighting, Failure> {
        match self.store.read().await {
            Sighting::Unknown(obstacle) => {
                Err(Failure { fault: Fault::Store, issuer: None, retry_after: None, message: obstacle.message })
            }
            seen @ (Sighting::Absent | Sighting::Deleted(_) | Sighting::Found(_) | Sighting::Crl(_)) => Ok(seen),
        }
    }

    /// A key that is not destroyed stays sealed, and hinders no renewal.
    async fn release(&self, staged: &Staged) -> Result<(), Failure> {
        match self.staging.release(staged).await.map_err(|e| staging_fault(&e))? {
            Released::Destroyed => Ok(()),
            Released::Kept(at) => self.append(Event::KeyKept(at)),
        }
    }

    /// Before the key is there, so that it is found again when the configuration no longer leads to it.
    fn note_staged(&self) -> Result<(), Failure> {
        match self.staging.at() {
            Some(at) if !self.journal.staged().is_noted(&self.managed.name, &at) => self.append(Event::Staged(at)),
            Some(_) | None => Ok(()),
        }
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

/// Before anything was begun: only what an operator must mend is a failure of this certificate.
fn unstaged(error: &StagingError) -> Failure {
    match error {
        StagingError::Sealing(_) => staging_fault(error),
        StagingError::File(_) | StagingError::Vault { .. } | StagingError::TakenOver { .. } => {
            Failure { fault: Fault::OutOfSight, ..staging_fault(error) }
        }
    }
}

/// One that came after this issuer had signed.
fn failure(issued: &Issued, kind: Fault, error: &dyn std::error::Error) -> Failure {
    Failure { issuer: Some(issued.issuer.clone()), ..fault(kind, error) }
}

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
#[error("the private key of the renewal in flight is gone from where it was kept")]
struct LostKey;

#[derive(Debug, thiserror::Error)]
#[error("it was written (version {version:?}) and is not there when read back")]
struct Vanished {
    version: Option<u64>,
}
