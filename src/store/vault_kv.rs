//! A certified key in one secret of a Vault's key-value store.

use std::sync::Arc;

use super::{StoreError, Written};
use crate::domain::cert::Fingerprint;
use crate::domain::inventory::{Deletion, Location, Sighting};
use crate::domain::plan::Basis;
use crate::domain::renewal::CertifiedKey;
use crate::pki::NotUnderstood;
use crate::pki::bundle::Kept;
use crate::pki::roots::Roots;
use crate::vault::layout::Layout;
use crate::vault::sighting::{absent, found, not_understood, without_certificate};
use crate::vault::{Fields, KvRead, Vault, VaultError};

pub struct VaultKvStore {
    pub vault: Arc<Vault>,
    /// Mount and path, without `data/`.
    pub path: String,
    pub roots: Arc<Roots>,
}

/// What a write replaces.
#[derive(Clone, Copy)]
enum Upon {
    /// On KV version 2; 0 where there is none.
    Version(u64),
    /// On KV version 1, which counts none.
    Whatever,
}

impl Upon {
    fn version(self) -> Option<u64> {
        match self {
            Self::Version(version) => Some(version),
            Self::Whatever => None,
        }
    }
}

/// What the secret holds now.
enum Now {
    /// No field.
    Empty {
        upon: Upon,
        deletion: Option<Deletion>,
    },
    Certificate {
        layout: Layout,
        fields: Fields,
        upon: Upon,
        kept: Box<Kept>,
    },
    /// Something that certd will not write over.
    Other {
        sighting: Sighting,
        why: String,
    },
}

impl VaultKvStore {
    pub async fn read(&self) -> Sighting {
        match self.look().await {
            Err(error) => Sighting::Unknown(error.obstacle(&format!("read {}", self.location()))),
            Ok(Now::Empty { deletion, .. }) => absent(deletion),
            Ok(Now::Other { sighting, .. }) => sighting,
            Ok(Now::Certificate { upon, kept, .. }) => {
                Sighting::Found(Box::new(found(&kept, upon.version(), &self.roots)))
            }
        }
    }

    /// Whether what is there may be written over.
    pub async fn rehearse(&self) -> Result<(), StoreError> {
        match self.look().await.map_err(|error| self.failed("read", error))? {
            Now::Empty { .. } => Ok(()),
            Now::Other { why, .. } => Err(self.held(&why)),
            Now::Certificate { layout, fields, .. } => {
                layout.insist_writable(&fields).map_err(|NotUnderstood(why)| self.held(&why))
            }
        }
    }

    /// One write of key, certificate and chain, if what is there still is what the decision was based on.
    pub async fn write(&self, certified: &CertifiedKey, based_on: &Basis) -> Result<Written, StoreError> {
        let now = self.look().await.map_err(|error| self.failed("read", error))?;
        let (fields, upon) = match now {
            Now::Other { why, .. } => return Err(self.held(&why)),
            Now::Certificate { upon, kept, .. } if is_same(&kept, certified) => {
                return Ok(Written { version: upon.version(), unchanged: true });
            }
            Now::Certificate { layout, mut fields, upon, kept } => {
                self.insist_on(based_on, upon.version(), Some(kept.chain.leaf.fingerprint))?;
                let replaced = layout.insist_writable(&fields).and_then(|()| layout.apply(&mut fields, certified));
                replaced.map_err(|NotUnderstood(why)| self.held(&why))?;
                (fields, upon)
            }
            Now::Empty { upon, .. } => {
                // What a decision is based on has no version where nothing was found.
                self.insist_on(based_on, None, None)?;
                (Layout::fresh(certified).map_err(|NotUnderstood(why)| self.held(&why))?, upon)
            }
        };
        let written = match upon {
            Upon::Version(cas) => self.vault.kv_write(&self.path, fields, cas).await.map(Some),
            Upon::Whatever => self.vault.kv_overwrite(&self.path, &fields).await.map(|()| None),
        };
        match (written, upon) {
            (Ok(version), Upon::Version(_)) => Ok(Written { version, unchanged: false }),
            (Ok(_), Upon::Whatever) => self.still_there(certified).await,
            (Err(error), _) => self.recognise(certified, error).await,
        }
    }

    /// Two writers may both believe that they wrote: the one whose certificate is there afterwards did.
    async fn still_there(&self, certified: &CertifiedKey) -> Result<Written, StoreError> {
        match self.look().await.map_err(|error| self.failed("read back", error))? {
            Now::Certificate { upon, kept, .. } if is_same(&kept, certified) => {
                Ok(Written { version: upon.version(), unchanged: false })
            }
            Now::Certificate { .. } | Now::Empty { .. } | Now::Other { .. } => {
                let location = self.location();
                Err(StoreError::Conflict(format!("{location} was written over as soon as certd had written it")))
            }
        }
    }

    async fn look(&self) -> Result<Now, VaultError> {
        let (fields, version, deletion) = match self.vault.kv_read(&self.path).await? {
            KvRead::Absent { version, deletion } => (Fields::new(), version, deletion),
            KvRead::Present { data, version } => (data, version, None),
        };
        let upon = match self.vault.kv_counts_versions(&self.path).await? {
            true => Upon::Version(version.unwrap_or(0)),
            false => Upon::Whatever,
        };
        if fields.is_empty() {
            return Ok(Now::Empty { upon, deletion });
        }
        let location = self.location();
        let Some(layout) = Layout::find(&fields) else {
            let why = "it holds other fields and no certificate: empty it, or keep the certificate at another path";
            return Ok(Now::Other { sighting: without_certificate(&location, &fields), why: why.to_string() });
        };
        Ok(match layout.read(&fields) {
            Ok(kept) => Now::Certificate { layout, fields, upon, kept: Box::new(kept.proven()) },
            Err(why) => Now::Other { sighting: not_understood(&location, &why), why: why.to_string() },
        })
    }

    fn insist_on(&self, based_on: &Basis, version: Option<u64>, leaf: Option<Fingerprint>) -> Result<(), StoreError> {
        let now = Basis { version, fingerprint: leaf };
        if *based_on == now {
            return Ok(());
        }
        let shown = |basis: &Basis| match (basis.version, basis.fingerprint) {
            (Some(version), Some(leaf)) => format!("version {version} with {leaf}"),
            (None, Some(leaf)) => leaf.to_string(),
            (_, None) => "nothing".to_string(),
        };
        let location = self.location();
        Err(StoreError::Conflict(format!("{location} held {} and now holds {}", shown(based_on), shown(&now))))
    }

    /// A write whose answer was lost may have been carried out, by this process or one before it.
    async fn recognise(&self, certified: &CertifiedKey, error: VaultError) -> Result<Written, StoreError> {
        let is_conflict = matches!(error, VaultError::CasMismatch { .. });
        if is_conflict || !error.is_decided() {
            match self.look().await {
                Ok(Now::Certificate { upon, kept, .. }) if is_same(&kept, certified) => {
                    return Ok(Written { version: upon.version(), unchanged: false });
                }
                Ok(_) | Err(_) => {}
            }
        }
        match is_conflict {
            true => Err(StoreError::Conflict(format!("{}: {error}", self.location()))),
            false => Err(self.failed("write", error)),
        }
    }

    fn location(&self) -> Location {
        Location::Secret { vault: self.vault.name.clone(), path: self.path.clone(), part: None }
    }

    fn held(&self, why: &str) -> StoreError {
        StoreError::Held(format!("{}: {why}", self.location()))
    }

    fn failed(&self, doing: &str, source: VaultError) -> StoreError {
        StoreError::Failed { doing: format!("{doing} {}", self.location()), source: Box::new(source) }
    }
}

/// Leaf, key and every certificate of the chain are there. A root beside them is no difference.
fn is_same(kept: &Kept, certified: &CertifiedKey) -> bool {
    kept.chain.leaf.fingerprint == certified.chain().leaf.fingerprint
        && kept.key_digest() == Some(certified.key().public)
        && certified.ders().iter().all(|der| kept.ders.contains(der))
}
