//! Who signs. Every issuer is the same function: a CSR in, a chain out. No private key reaches one.

pub mod acme;
pub mod local_ca;
pub mod vault_pki;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crate::domain::cert::{Certificate, KeyDigest};
use crate::domain::name::San;
use crate::domain::progress::Progress;
use crate::domain::revocation::RevocationReason;
use crate::domain::text::with_causes;
use crate::domain::time::Timestamp;
use crate::pki::read;
use crate::pki::roots::Roots;

use acme::Acme;
use local_ca::{LocalCa, LocalCaSettings};
use vault_pki::VaultPki;

pub enum Issuer {
    LocalCa(Box<LocalCaSlot>),
    VaultPki {
        pki: VaultPki,
        /// What a chain must verify to; `None` takes the mount's own CA.
        roots: Option<Arc<Roots>>,
    },
    Acme(Box<Acme>),
}

/// What certd keeps, as far as that is known when its issuers are opened.
pub enum Kept<'a> {
    /// Every leaf: each place that certd keeps certificates in was read.
    All(Vec<&'a Certificate>),
    /// Why nothing can be said of older CAs.
    OutOfSight(String),
}

/// A local CA opens only after the stores were read, because a stored certificate may name a CA that
/// was lost.
pub struct LocalCaSlot {
    settings: LocalCaSettings,
    ca: OnceLock<(LocalCa, Arc<Roots>)>,
    closed: Mutex<String>,
}

impl LocalCaSlot {
    pub fn new(settings: LocalCaSettings) -> Self {
        Self { settings, ca: OnceLock::new(), closed: Mutex::new("the CA was not opened yet".to_string()) }
    }

    fn open(&self, now: Timestamp, known: &[&Certificate]) -> Result<(), IssuerError> {
        if self.ca.get().is_some() {
            return Ok(());
        }
        let opened = LocalCa::open(self.settings.clone(), now, known);
        match opened {
            Ok(ca) => {
                let roots = Arc::new(Roots::from_ders(ca.anchors()));
                // Only one turn runs at a time, so nobody filled it in between.
                let _ = self.ca.set((ca, roots));
                Ok(())
            }
            Err(error) => Err(self.stays_closed(error)),
        }
    }

    /// Whoever orders meanwhile is told why.
    fn stays_closed(&self, why: IssuerError) -> IssuerError {
        *self.closed.lock().expect("nothing panics with it") = with_causes(&why);
        why
    }

    fn opened(&self) -> Result<&(LocalCa, Arc<Roots>), IssuerError> {
        let closed = || IssuerError::Stopped(self.closed.lock().expect("nothing panics with it").clone());
        self.ca.get().ok_or_else(closed)
    }
}

impl Issuer {
    pub fn is_open(&self) -> bool {
        match self {
            Self::LocalCa(slot) => slot.ca.get().is_some(),
            Self::VaultPki { .. } | Self::Acme(_) => true,
        }
    }

    pub fn open(&self, now: Timestamp, kept: &Kept) -> Result<(), IssuerError> {
        match (self, kept) {
            (Self::VaultPki { .. } | Self::Acme(_), _) => Ok(()),
            (Self::LocalCa(slot), Kept::All(leaves)) => slot.open(now, leaves),
            // What exists may be loaded; what does not must not be made while a store is out of sight.
            (Self::LocalCa(slot), Kept::OutOfSight(why)) if slot.settings.is_made() => {
                slot.open(now, &[]).map_err(|error| IssuerError::Stopped(format!("{error} ({why})")))
            }
            (Self::LocalCa(slot), Kept::OutOfSight(why)) => {
                let why = format!("no CA is made before every store was read: {why}");
                Err(slot.stays_closed(IssuerError::Stopped(why)))
            }
        }
    }

    /// One step: what it comes to must be durable before the next.
    pub async fn sign(&self, order: &Order, progress: Option<&Progress>) -> Result<Signing, IssuerError> {
        match self {
            Self::LocalCa(slot) => slot.opened()?.0.sign(order).await.map(Signing::Chain),
            Self::VaultPki { pki, .. } => pki.sign(order).await.map(Signing::Chain),
            Self::Acme(acme) => Box::pin(acme.sign(order, progress)).await,
        }
    }

    /// What became of an order for this key whose answer was lost.
    pub async fn recover(&self, key: KeyDigest, progress: Option<&Progress>) -> Recovered {
        match self {
            Self::LocalCa(slot) => match slot.opened() {
                Ok((ca, _)) => ca.recover(key),
                Err(error) => Recovered::Unknown(with_causes(&error)),
            },
            Self::VaultPki { pki, .. } => pki.recover(key).await,
            Self::Acme(acme) => Box::pin(acme.recover(key, progress)).await,
        }
    }

    /// Whether an order is carried out in steps that are told.
    pub fn takes_steps(&self) -> bool {
        matches!(self, Self::Acme(_))
    }

    /// Whether it can be asked for a lifetime: what others sign lives for as long as they see fit.
    pub fn takes_lifetimes(&self) -> bool {
        match self {
            Self::LocalCa(_) | Self::VaultPki { .. } => true,
            Self::Acme(_) => false,
        }
    }

    /// So many orders in an hour, and no more; `None` sets no bound.
    pub fn orders_per_hour(&self) -> Option<u32> {
        match self {
            Self::LocalCa(_) | Self::VaultPki { .. } => None,
            Self::Acme(acme) => Some(acme.orders_per_hour),
        }
    }

    /// The certificate of this serial number, where the issuer keeps one and could revoke it.
    pub async fn registered(&self, serial: &str) -> Result<Option<Registered>, IssuerError> {
        match self {
            // An ACME server lists nothing: what it signed for certd is in the journal.
            Self::LocalCa(_) | Self::Acme(_) => Ok(None),
            Self::VaultPki { pki, .. } => pki.registered(serial).await,
        }
    }

    /// What the issuer shows: asked again, and not taken from the answer.
    pub async fn revoke(&self, registered: &Registered, reason: RevocationReason) -> Result<Revoked, IssuerError> {
        match self {
            Self::LocalCa(_) => Err(IssuerError::Stopped("a CA of certd's own keeps no revocation list".to_string())),
            Self::VaultPki { pki, .. } => {
                let at = pki.revoke(&registered.leaf.serial).await?;
                // Vault's API has no room for a reason.
                Ok(Revoked { at: Some(at), reason: RevocationReason::Unspecified })
            }
            Self::Acme(acme) => {
                let reason = Box::pin(acme.revoke(&registered.der, reason)).await?;
                Ok(Revoked { at: None, reason })
            }
        }
    }

    /// Whether it says when a certificate is best renewed.
    pub fn advises(&self) -> bool {
        matches!(self, Self::Acme(_))
    }

    /// After so long an order that was sent is answered or given up, on both sides.
    pub fn answers_within(&self) -> Duration {
        match self {
            Self::LocalCa(_) => Duration::ZERO,
            Self::VaultPki { pki, .. } => pki.vault.answers_within(),
            Self::Acme(_) => acme::http::DEADLINE,
        }
    }

    /// For how long it asked to be left alone.
    pub fn quiet(&self) -> Option<Duration> {
        match self {
            // The journal knows what a Vault asks for, by the orders that met it.
            Self::LocalCa(_) | Self::VaultPki { .. } => None,
            Self::Acme(acme) => acme.http.quiet(),
        }
    }

    /// It asked for that, in whatever life of the process: of this address alone, or of all.
    pub fn recall(&self, about: Option<&str>, wait: Duration) {
        match (self, about) {
            (Self::LocalCa(_) | Self::VaultPki { .. }, _) => {}
            (Self::Acme(acme), None) => acme.http.be_quiet(wait),
            (Self::Acme(acme), Some(address)) => acme.http.not_before(address, wait),
        }
    }

    /// Is told of each wait that it asks for.
    pub fn be_heard(&self, hearer: acme::http::Hearer) {
        match self {
            Self::LocalCa(_) | Self::VaultPki { .. } => {}
            Self::Acme(acme) => acme.http.be_heard(hearer),
        }
    }

    /// What a signed chain must verify to.
    pub async fn roots(&self) -> Result<Arc<Roots>, IssuerError> {
        match self {
            Self::LocalCa(slot) => Ok(slot.opened()?.1.clone()),
            Self::VaultPki { roots: Some(roots), .. } => Ok(roots.clone()),
            Self::Acme(acme) => Ok(acme.roots.clone()),
            Self::VaultPki { pki, roots: None } => Ok(Arc::new(Roots::from_ders(pki.anchors().await?))),
        }
    }

    /// What a stored certificate must verify to, where that is known without asking.
    pub fn configured_roots(&self) -> Option<Arc<Roots>> {
        match self {
            Self::LocalCa(slot) => slot.ca.get().map(|(_, roots)| roots.clone()),
            Self::VaultPki { roots, .. } => roots.clone(),
            Self::Acme(acme) => Some(acme.roots.clone()),
        }
    }

    /// Whether it can be asked, and when its CA ends.
    pub async fn look(&self) -> Result<Option<Timestamp>, IssuerError> {
        match self {
            Self::LocalCa(slot) => Ok(Some(slot.opened()?.0.not_after())),
            Self::VaultPki { pki, .. } => {
                let ends = pki.anchors().await?.into_iter().filter_map(|der| read::certificate(&der).ok());
                Ok(ends.map(|ca| ca.not_after).min())
            }
            Self::Acme(acme) => Box::pin(acme.look()).await.map(|()| None),
        }
    }
}

/// What an issuer is asked for.
#[derive(Clone, Debug)]
pub struct Order {
    /// PKCS#10 in DER (RFC 2986), signed by the key that is to be certified.
    pub csr: Vec<u8>,
    pub names: Vec<San>,
    pub common_name: Option<String>,
    /// `None` leaves it to the issuer.
    pub lifetime: Option<Duration>,
    /// What the new one is to take the place of.
    pub replaces: Option<Certificate>,
    pub now: Timestamp,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signing {
    /// DER, leaf first.
    Chain(Vec<Vec<u8>>),
    /// There is another step.
    Goes(Progress),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// DER, leaf first.
    Issued(Vec<Vec<u8>>),
    /// Nothing was signed, and the order can still be gone on with.
    GoesOn,
    /// As far as it is known now.
    NotIssued,
    /// It keeps no record of what it signs, so nobody can tell.
    NoRecord,
    /// Why it could not be asked.
    Unknown(String),
}

/// A certificate as its issuer keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    pub leaf: Certificate,
    pub der: Vec<u8>,
    pub revoked_at: Option<Timestamp>,
}

/// That a certificate is revoked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// `None` where the issuer does not say since when.
    pub at: Option<Timestamp>,
    /// As far as it takes any.
    pub reason: RevocationReason,
}

#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The issuer heard the order and will not sign it.
    #[error("the issuer refused: {message}")]
    Refused { message: String, retry_after: Option<Duration> },
    /// It will not sign for these names now. Others it may sign for.
    #[error("the issuer refused: {message}")]
    Limited { message: String, retry_after: Option<Duration> },
    #[error("could not {doing}")]
    Unanswered {
        doing: String,
        /// Whether it may have signed all the same.
        may_be_done: bool,
        retry_after: Option<Duration>,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The order stays open, and is gone on with.
    #[error("{message}")]
    Pending { message: String, retry_after: Duration },
    /// What certd has to do before it can be signed could not be done; says why. The issuer is not to blame.
    #[error("{0}")]
    Unprepared(String),
    /// Only a person can mend this; says how.
    #[error("{0}")]
    Stopped(String),
    /// It signed, and what it signed must not be used; names the serial, and says what to do.
    #[error("{0}")]
    SignedInVain(String),
}

impl IssuerError {
    /// What the issuer asked for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } | Self::Limited { retry_after, .. } => *retry_after,
            Self::Unanswered { retry_after, .. } => *retry_after,
            Self::Pending { retry_after, .. } => Some(*retry_after),
            Self::Unprepared(_) | Self::Stopped(_) | Self::SignedInVain(_) => None,
        }
    }
}
