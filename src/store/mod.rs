//! Where a certified key is kept. Every store is the same few functions: `read`, `rehearse`, and `write` of
//! what `Request::accept` let pass, based on what was read.

pub mod file;
pub mod restore;
pub mod vault_kv;

use std::time::Instant;

use crate::domain::cert::Fingerprint;
use crate::domain::inventory::Sighting;
use crate::domain::plan::Basis;
use crate::domain::renewal::CertifiedKey;
use crate::domain::time::Timestamp;
use crate::pki::roots::Roots;
use crate::vault::Notes;

use file::FileStore;
use vault_kv::VaultKvStore;

pub enum Store {
    VaultKv(VaultKvStore),
    File(FileStore),
}

impl Store {
    /// As it is now.
    pub async fn read(&self) -> Sighting {
        self.read_since(Instant::now()).await
    }

    /// As it was at `since`, or later: many such reads together cost a Vault less than each for itself.
    pub async fn read_since(&self, since: Instant) -> Sighting {
        match self {
            Self::VaultKv(store) => store.read_since(since).await,
            Self::File(store) => store.read().await,
        }
    }

    /// Whether a write would be let through, as far as that shows before there is a certificate.
    pub async fn rehearse(&self) -> Result<(), StoreError> {
        match self {
            Self::VaultKv(store) => store.rehearse().await,
            Self::File(store) => store.rehearse().await,
        }
    }

    /// What the certificate kept here must verify to.
    pub fn roots(&self) -> &Roots {
        match self {
            Self::VaultKv(store) => &store.roots,
            Self::File(store) => &store.roots,
        }
    }

    /// Not what a renewal depends on: it may fail, and is told.
    pub async fn note(&self, note: &Note) -> Result<(), StoreError> {
        match self {
            Self::VaultKv(store) => store.note(&note.texts()).await,
            Self::File(_) => Ok(()),
        }
    }

    /// Writes key and chain together, if the place still holds what `based_on` names.
    pub async fn write(&self, certified: &CertifiedKey, based_on: &Basis) -> Result<Written, StoreError> {
        match self {
            Self::VaultKv(store) => store.write(certified, based_on).await,
            Self::File(store) => store.write(certified, based_on).await,
        }
    }
}

/// What certd notes beside what it wrote, where the store has room for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub serial: String,
    pub fingerprint: Fingerprint,
    pub not_after: Timestamp,
    /// Digest of what was asked for.
    pub specification: String,
    pub version: Option<u64>,
}

impl Note {
    fn texts(&self) -> Notes {
        let previous = self.version.and_then(|version| version.checked_sub(1)).filter(|previous| *previous > 0);
        let texts = [
            ("managed_by", "certd".to_string()),
            ("serial", self.serial.clone()),
            ("fingerprint_sha256", self.fingerprint.to_string()),
            ("not_after", self.not_after.to_string()),
            ("specification_sha256", self.specification.clone()),
            ("previous_version", previous.map_or_else(|| "none".to_string(), |previous| previous.to_string())),
        ];
        texts.into_iter().map(|(name, text)| (name.to_string(), text)).collect()
    }
}

/// What a write left behind, to be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// `None` where the place counts no versions.
    pub version: Option<u64>,
    /// Nothing was written, because the same key and chain are there already.
    pub unchanged: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody wrote since it was read: plan again from what is there now.
    #[error("it changed since it was read: {0}")]
    Conflict(String),
    /// Writing would lose or tear something; says what to do.
    #[error("not written: {0}")]
    Held(String),
    #[error("could not {doing}")]
    Failed {
        /// What was being done, with the place.
        doing: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
