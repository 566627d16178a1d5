//! A certified key in one secret of a Vault's KV version 2 store.

use std::sync::Arc;

use super::{StoreError, Written};
use crate::domain::cert::Fingerprint;
use crate::domain::inventory::{Location, Sighting};
use crate::domain::plan::Basis;
use crate::domain::renewal::CertifiedKey;
use crate::pki::NotUnderstood;
use crate::pki::bundle::Kept;
use crate::pki::roots::Roots;
use crate::vault::layout::Layout;
use crate::vault::sighting::{found, not_understood, without_certificate};
use crate::vault::{Fields, KvRead, Vault, VaultError};

pub struct VaultKvStore {
    pub vault: Arc<Vault>,
    /// Mount and path, without `data/`.
    pub path: String,
    pub roots: Arc<Roots>,
}

/// What the secret holds now.
enum Now {
    /// No field; a write must name this version.
    Empty {
        cas: u64,
    },
    Certificate {
        layout: Layout,
        fields: Fields,
        version: u64,
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
            Ok(Now::Empty { .. }) => Sighting::Absent,
            Ok(Now::Other { sighting, .. }) => sighting,
            Ok(Now::Certificate { version, kept, .. }) => Sighting::Found(Box::new(found(&kept, version, &self.roots))),
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
        let (fields, cas) = match now {
            Now::Other { why, .. } => return Err(self.held(&why)),
            Now::Certificate { version, kept, .. } if is_same(&kept, certified) => {
                return Ok(Written { version: Some(version), unchanged: true });
            }
            Now::Certificate { layout, mut fields, version, kept } => {
                self.insist_on(based_on, Some(version), Some(kept.chain.leaf.fingerprint))?;
                let replaced = layout.insist_writable(&fields).and_then(|()| layout.apply(&mut fields, certified));
                replaced.map_err(|NotUnderstood(why)| self.held(&why))?;
                (fields, version)
            }
            Now::Empty { cas } => {
                // What a decision is based on has no version where nothing was found.
                self.insist_on(based_on, None, None)?;
                (Layout::fresh(certified).map_err(|NotUnderstood(why)| self.held(&why))?, cas)
            }
        };
        match self.vault.kv_write(&self.path, fields, cas).await {
            Ok(version) => Ok(Written { version: Some(version), unchanged: false }),
            Err(error) => self.recognise(certified, error).await,
        }
    }

    async fn look(&self) -> Result<Now, VaultError> {
        let (fields, version) = match self.vault.kv_read(&self.path).await? {
            KvRead::Absent { version } => return Ok(Now::Empty { cas: version.unwrap_or(0) }),
            KvRead::Present { data, version } if data.is_empty() => return Ok(Now::Empty { cas: version }),
            KvRead::Present { data, version } => (data, version),
        };
        let location = self.location();
        let Some(layout) = Layout::find(&fields) else {
            let why = "it holds other fields and no certificate: empty it, or keep the certificate at another path";
            return Ok(Now::Other { sighting: without_certificate(&location, &fields), why: why.to_string() });
        };
        Ok(match layout.read(&fields) {
            Ok(kept) => Now::Certificate { layout, fields, version, kept: Box::new(kept) },
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
                Ok(Now::Certificate { version, kept, .. }) if is_same(&kept, certified) => {
                    return Ok(Written { version: Some(version), unchanged: false });
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
