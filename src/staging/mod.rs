//! Where the key of a renewal in flight is kept until the store holds it: in the store's own Vault, where any instance
//! can go on with it, else in the state directory.

mod earlier;
mod record;
pub mod seal;
pub mod vault_kv;

use crate::domain::key::PrivateKey;
use crate::domain::name::CertName;
use crate::domain::text::with_causes;
use crate::journal::Journal;
use crate::journal::event::InFlight;
use crate::journal::pending::PendingKeyError;
use crate::journal::staged::StagedAt;
use crate::store::Store;
use crate::vault::VaultError;

use seal::SealingKeyError;
use vault_kv::VaultStaging;

pub enum Staging<'a> {
    /// One 0600 file for each key; the journal knows the rest.
    StateDirectory {
        journal: &'a Journal,
        certificate: &'a CertName,
    },
    VaultKv(VaultStaging<'a>),
}

/// A renewal in flight, as this instance holds it.
#[derive(Debug)]
pub struct Staged {
    pub open: InFlight,
    /// `None` where it is lost.
    pub key: Option<PrivateKey>,
    claim: Claim,
}

/// The right to go on with it. A write with a version that somebody else has passed fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The lock on the journal is enough.
    Local,
    /// The versions that the record of this renewal has had in Vault.
    Versions { first: u64, last: u64 },
}

#[derive(Debug)]
pub enum Standing {
    Free,
    Ours(Box<Staged>),
    /// A key, and no word of what it was for: the journal that knew is lost, or was not written any more.
    Key(PrivateKey),
    /// Why this instance keeps off.
    Elsewhere(String),
}

/// The end of a pending key.
#[derive(Debug)]
pub enum Released {
    Destroyed,
    /// Vault denied it: the sealed versions stay.
    Kept(StagedAt),
}

#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    #[error(transparent)]
    File(#[from] PendingKeyError),
    #[error(transparent)]
    Sealing(#[from] SealingKeyError),
    #[error("could not {doing} {place}, where the key of the renewal is kept")]
    Vault {
        doing: &'static str,
        place: String,
        #[source]
        source: VaultError,
    },
    /// It went on with it, so this instance must not.
    #[error("another instance took the renewal over meanwhile: {place}")]
    TakenOver { place: String },
}

impl Staged {
    /// A key that was found in the state directory, and what it is taken to be for.
    pub fn found(open: InFlight, key: PrivateKey) -> Self {
        Self { open, key: Some(key), claim: Claim::Local }
    }

    /// What only the journal knows still.
    pub fn without_key(open: InFlight) -> Self {
        Self { open, key: None, claim: Claim::Local }
    }
}

impl<'a> Staging<'a> {
    pub async fn of(store: &Store, journal: &'a Journal, certificate: &'a CertName) -> Result<Self, StagingError> {
        let Store::VaultKv(kept) = store else { return Ok(Self::StateDirectory { journal, certificate }) };
        // Without versions nobody could be kept from writing, so that a key there would be no safer.
        match VaultStaging::of(kept, certificate, journal).await? {
            Some(staging) => Ok(Self::VaultKv(staging)),
            None => Ok(Self::StateDirectory { journal, certificate }),
        }
    }

    /// What is in flight there, and who may go on with it.
    pub async fn look(&self) -> Result<Standing, StagingError> {
        match self {
            Self::StateDirectory { journal, certificate } => {
                let key = match journal.keys.load(certificate) {
                    Err(error @ PendingKeyError::Damaged { .. }) => {
                        tracing::warn!(cert = %certificate, "{}", with_causes(&error));
                        None
                    }
                    loaded => loaded?,
                };
                Ok(match (journal.in_flight(certificate), key) {
                    (Some(open), Some(key)) => {
                        Standing::Ours(Box::new(Staged { open, key: Some(key), claim: Claim::Local }))
                    }
                    (None, Some(key)) => Standing::Key(key),
                    (Some(_), None) | (None, None) => Standing::Free,
                })
            }
            Self::VaultKv(staging) => match staging.look().await? {
                Standing::Free => {
                    let taken_up = staging.taken_up().await?;
                    Ok(taken_up.map_or(Standing::Free, |staged| Standing::Ours(Box::new(staged))))
                }
                standing @ (Standing::Ours(_) | Standing::Key(_) | Standing::Elsewhere(_)) => Ok(standing),
            },
        }
    }

    /// Where in a Vault the key is kept, for the journal.
    pub fn at(&self) -> Option<StagedAt> {
        match self {
            Self::StateDirectory { .. } => None,
            Self::VaultKv(staging) => Some(staging.at()),
        }
    }

    /// Makes the key durable before anybody hears of it. `None` where another instance was faster.
    pub async fn claim(&self, open: InFlight, key: PrivateKey) -> Result<Option<Staged>, StagingError> {
        match self {
            Self::StateDirectory { journal, certificate } => {
                journal.keys.save(certificate, &key)?;
                Ok(Some(Staged { open, key: Some(key), claim: Claim::Local }))
            }
            Self::VaultKv(staging) => staging.claim(open, key).await,
        }
    }

    /// Whether others may have finished between the look and the claim.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::StateDirectory { .. } => false,
            Self::VaultKv(_) => true,
        }
    }

    /// Notes how far it has come. An error means that this instance must not go on.
    pub async fn advance(&self, staged: &mut Staged) -> Result<(), StagingError> {
        match self {
            Self::StateDirectory { .. } => Ok(()),
            Self::VaultKv(staging) => staging.advance(staged).await,
        }
    }

    /// Destroys the key that is kept there. The store has it, or nobody needs it.
    pub async fn release(&self, staged: &Staged) -> Result<Released, StagingError> {
        match self {
            Self::StateDirectory { journal, certificate } => {
                journal.keys.forget(certificate)?;
                Ok(Released::Destroyed)
            }
            Self::VaultKv(staging) => staging.release(staged).await,
        }
    }
}
