//! A certified key in one secret of a Vault's key-value store.

use std::sync::Arc;
use std::time::Instant;

use super::{StoreError, Written};
use crate::domain::cert::Fingerprint;
use crate::domain::inventory::{Deletion, Location, Part, Sighting};
use crate::domain::plan::Basis;
use crate::domain::renewal::CertifiedKey;
use crate::domain::time::Timestamp;
use crate::failpoint;
use crate::pki::bundle::Kept;
use crate::pki::roots::Roots;
use crate::vault::layout::Layout;
use crate::vault::sighting::{absent, found, not_understood, version_of, without_certificate};
use crate::vault::{Fields, KvRead, Notes, Vault, VaultError};

pub struct VaultKvStore {
    pub vault: Arc<Vault>,
    /// Mount and path, without `data/`.
    pub path: String,
    /// The object within the secret, where it holds several certificates.
    pub object: Option<String>,
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
    Empty { upon: Upon, deletion: Option<Deletion> },
    Certificate {
        layout: Layout,
        fields: Fields,
        upon: Upon,
        kept: Box<Kept>,
        /// When Vault itself deletes this version.
        deleted_at: Option<Timestamp>,
    },
    /// Something that certd will not write over.
    Other { sighting: Sighting, why: String },
}

impl Now {
    fn upon(&self) -> Option<Upon> {
        match self {
            Self::Empty { upon, .. } | Self::Certificate { upon, .. } => Some(*upon),
            Self::Other { .. } => None,
        }
    }
}

impl VaultKvStore {
    /// As it is now.
    pub async fn read(&self) -> Sighting {
        self.read_since(Instant::now()).await
    }

    /// As it was at `since`, or later. What a standby has not heard of yet is no reason to renew.
    pub async fn read_since(&self, since: Instant) -> Sighting {
        match self.look_since(since).await {
            Err(error) => Sighting::Unknown(error.obstacle(&format!("read {}", self.location()))),
            Ok(Now::Empty { deletion, .. }) => absent(deletion),
            Ok(Now::Other { sighting, .. }) => sighting,
            Ok(Now::Certificate { layout, fields, upon, kept, deleted_at }) => {
                let unwritable = layout.verdict(&fields).err().map(|why| why.to_string());
                found(&self.location(), &kept, self.version(upon), deleted_at, &self.roots, unwritable)
            }
        }
    }

    /// Whether what is there may be written over.
    pub async fn rehearse(&self) -> Result<(), StoreError> {
        match self.look().await.map_err(|error| self.failed("read", error))? {
            Now::Empty { .. } => Ok(()),
            Now::Other { why, .. } => Err(self.held(&why)),
            Now::Certificate { layout, fields, .. } => {
                layout.insist_writable(&fields).map_err(|why| self.held(&why.to_string()))
            }
        }
    }

    /// One write of key, certificate and chain, if what is there still is what the decision was based on.
    pub async fn write(&self, certified: &CertifiedKey, based_on: &Basis) -> Result<Written, StoreError> {
        let now = self.look().await.map_err(|error| self.failed("read", error))?;
        let replaced = match (&now, now.upon()) {
            (Now::Certificate { .. }, Some(Upon::Version(version))) => Some(version),
            (Now::Certificate { .. } | Now::Empty { .. } | Now::Other { .. }, _) => None,
        };
        let (fields, upon) = match now {
            Now::Other { why, .. } => return Err(self.held(&why)),
            Now::Certificate { upon, kept, .. } if is_same(&kept, certified) => {
                return Ok(Written { version: upon.version(), unchanged: true });
            }
            Now::Certificate { layout, mut fields, upon, kept, .. } => {
                self.insist_on(based_on, self.version(upon), Some(kept.chain.leaf.fingerprint))?;
                let replaced = layout.insist_writable(&fields).and_then(|()| layout.apply(&mut fields, certified));
                replaced.map_err(|why| self.held(&why.to_string()))?;
                (fields, upon)
            }
            Now::Empty { upon, .. } => {
                // What a decision is based on has no version where nothing was found.
                self.insist_on(based_on, None, None)?;
                (Layout::fresh(certified), upon)
            }
        };
        failpoint::reached("secret_made");
        let written = match upon {
            Upon::Version(cas) => self.vault.kv_write(&self.path, fields, cas).await.map(Some),
            Upon::Whatever => self.vault.kv_overwrite(&self.path, &fields).await.map(|()| None),
        };
        failpoint::reached("secret_written");
        match (written, upon) {
            (Ok(version), Upon::Version(_)) => {
                self.unless_deleted(replaced, version).await?;
                Ok(Written { version, unchanged: false })
            }
            (Ok(_), Upon::Whatever) => self.still_there(certified).await,
            (Err(error), _) => self.recognise(certified, error).await,
        }
    }

    /// A soft delete leaves the number of the current version as it is, so check-and-set passes on it: whoever
    /// deleted the secret while this was written meant what this has brought back.
    async fn unless_deleted(&self, replaced: Option<u64>, written: Option<u64>) -> Result<(), StoreError> {
        let (Some(replaced), Some(written)) = (replaced, written) else { return Ok(()) };
        let was = self.vault.version(&self.path, Some(replaced)).await;
        let was =
            was.map_err(|error| self.failed(&format!("see whether somebody deleted version {replaced} of"), error))?;
        // Where the mount keeps one version only, there is nothing left to see.
        if was.is_none_or(|was| was.fields.is_some()) {
            return Ok(());
        }
        let doing = format!("delete version {written} again, as somebody deleted {replaced} while certd wrote it:");
        self.vault.delete_version(&self.path, written).await.map_err(|error| self.failed(&doing, error))?;
        let location = self.location();
        let why = format!("{location} was deleted while certd wrote it; version {written} is deleted again");
        Err(StoreError::Conflict(why))
    }

    /// Custom metadata, on KV version 2, under names of its own where the secret holds several certificates.
    pub async fn note(&self, notes: &Notes) -> Result<(), StoreError> {
        let failed = |error| self.failed("note what certd did beside", error);
        match self.vault.kv_counts_versions(&self.path).await.map_err(failed)? {
            true => self.vault.note(&self.path, self.object.as_deref(), notes).await.map_err(failed),
            false => Ok(()),
        }
    }

    /// Two writers may both believe that they wrote: the one whose certificate is there afterwards did.
    async fn still_there(&self, certified: &CertifiedKey) -> Result<Written, StoreError> {
        match self.look_since(Instant::now()).await.map_err(|error| self.failed("read back", error))? {
            Now::Certificate { upon, kept, .. } if is_same(&kept, certified) => {
                Ok(Written { version: upon.version(), unchanged: false })
            }
            Now::Certificate { .. } | Now::Empty { .. } | Now::Other { .. } => {
                let location = self.location();
                Err(StoreError::Conflict(format!("{location} was written over as soon as certd had written it")))
            }
        }
    }

    async fn look_since(&self, since: Instant) -> Result<Now, VaultError> {
        self.vault.catch_up(since).await?;
        self.look().await
    }

    async fn look(&self) -> Result<Now, VaultError> {
        let (fields, version, deleted_at, deletion) = match self.vault.kv_read(&self.path).await? {
            KvRead::Absent { version, deletion } => (Fields::new(), version, None, deletion),
            KvRead::Present { data, version, deleted_at } => (data, version, deleted_at, None),
        };
        let upon = match self.vault.kv_counts_versions(&self.path).await? {
            true => Upon::Version(version.unwrap_or(0)),
            false => Upon::Whatever,
        };
        if fields.is_empty() {
            return Ok(if self.object.is_some() { no_object() } else { Now::Empty { upon, deletion } });
        }
        let location = self.location();
        let Some(layout) = self.vault.layout(&self.path, &fields).await? else {
            let why = "it holds other fields and no certificate: empty it, or keep the certificate at another path";
            return Ok(Now::Other { sighting: without_certificate(&location, &fields), why: why.to_string() });
        };
        let layout = match layout.part(self.object.as_deref()) {
            Ok(Some(layout)) => layout,
            Ok(None) => return Ok(no_object()),
            Err(why) => return Ok(Now::Other { sighting: not_understood(&location, &why), why: why.to_string() }),
        };
        Ok(match layout.read(&fields) {
            Ok(kept) => Now::Certificate { layout, fields, upon, kept: Box::new(kept.proven()), deleted_at },
            Err(why) => Now::Other { sighting: not_understood(&location, &why), why: why.to_string() },
        })
    }

    /// What a decision is based on. The write is by check-and-set on the version just read, whatever this is.
    fn version(&self, upon: Upon) -> Option<u64> {
        version_of(&self.location(), upon.version())
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
            match self.look_since(Instant::now()).await {
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

    pub fn location(&self) -> Location {
        let part = self.object.clone().map(Part::Object);
        Location::Secret { vault: self.vault.name.clone(), path: self.path.clone(), part }
    }

    fn held(&self, why: &str) -> StoreError {
        StoreError::Held(format!("{}: {why}", self.location()))
    }

    fn failed(&self, doing: &str, source: VaultError) -> StoreError {
        StoreError::Failed { doing: format!("{doing} {}", self.location()), source: Box::new(source) }
    }
}

fn no_object() -> Now {
    let why = "there is no such object in it, and certd makes none: put the certificate there, or name another";
    Now::Other { sighting: Sighting::Absent, why: why.to_string() }
}

/// Leaf, key and every certificate of the chain are there. A root beside them is no difference.
fn is_same(kept: &Kept, certified: &CertifiedKey) -> bool {
    kept.chain.leaf.fingerprint == certified.chain().leaf.fingerprint
        && kept.key_digest() == Some(certified.key().public)
        && certified.ders().iter().all(|der| kept.ders.contains(der))
}
