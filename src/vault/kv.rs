//! The key-value stores: version 2, which counts versions and writes only upon the one that was read, and
//! version 1, which keeps one state and writes over whatever is there.

use std::fmt;
use std::sync::atomic::Ordering;

use rustify::endpoint::Endpoint;
use vaultrs::api::kv1::requests::{GetSecretRequest, ListSecretRequest, SetSecretRequest};
use vaultrs::api::kv2::requests::{ListSecretsRequest, ReadSecretRequest};

use super::endpoint::{Answer, Cas, ListAnswer, SecretAnswer, VersionAnswer, WriteSecret};
use super::transport::{Operation, Reply, locked};
use super::{Fields, Mount, Vault, VaultError, checked};
use crate::domain::hidden;
use crate::domain::inventory::Deletion;
use crate::domain::text::printable;
use crate::domain::time::Timestamp;

/// A secret as it was read.
pub enum KvRead {
    /// `version` is `None` on KV version 1. `deleted_at` lies ahead, where versions live for a set time only.
    Present { data: Fields, version: Option<u64>, deleted_at: Option<Timestamp> },
    /// `version` is that of a deleted secret, which stays its current one.
    Absent { version: Option<u64>, deletion: Option<Deletion> },
}

/// A path, split at its mount.
struct Place {
    mount: String,
    /// Without a slash at either end; empty for the mount itself.
    below: String,
    version: KvVersion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KvVersion {
    One,
    Two,
}

impl Vault {
    /// `path` as an operator writes it: mount and path, without `data/`.
    pub async fn kv_read(&self, path: &str) -> Result<KvRead, VaultError> {
        let place = self.in_kv(path).await?;
        match place.version {
            KvVersion::One => self.read_one(place).await,
            KvVersion::Two => self.read_two(place).await,
        }
    }

    async fn read_one(&self, Place { mount, below: path, .. }: Place) -> Result<KvRead, VaultError> {
        let reply = self.kv(Operation::Read, GetSecretRequest { mount, path }).await?;
        match reply.found {
            true => Ok(KvRead::Present { data: self.data(&reply)?, version: None, deleted_at: None }),
            false => Ok(KvRead::Absent { version: None, deletion: None }),
        }
    }

    async fn read_two(&self, Place { mount, below: path, .. }: Place) -> Result<KvRead, VaultError> {
        let reply = self.kv(Operation::Read, ReadSecretRequest { mount, path, version: None }).await?;
        let answer: Answer<SecretAnswer> = reply.parse()?;
        match (reply.found, answer.data) {
            (true, Some(SecretAnswer { data: Some(data), metadata })) => {
                let deleted_at = metadata.deletion_time.parse().ok();
                Ok(KvRead::Present { data, version: Some(metadata.version), deleted_at })
            }
            (_, Some(SecretAnswer { metadata, .. })) => {
                Ok(KvRead::Absent { version: Some(metadata.version), deletion: self.deletion(&metadata)? })
            }
            (false, None) => Ok(KvRead::Absent { version: None, deletion: None }),
            (true, None) => Err(self.not_vault()),
        }
    }

    fn deletion(&self, metadata: &VersionAnswer) -> Result<Option<Deletion>, VaultError> {
        let version = metadata.version;
        if metadata.destroyed {
            return Ok(Some(Deletion::Destroyed { version }));
        }
        if metadata.deletion_time.is_empty() {
            return Ok(None);
        }
        let at = metadata.deletion_time.parse().map_err(|_| self.not_vault())?;
        Ok(Some(Deletion::Deleted { version, at }))
    }

    /// Whether a write can name the version that it replaces. Never where the mount is KV version 1.
    pub async fn kv_counts_versions(&self, path: &str) -> Result<bool, VaultError> {
        Ok(self.in_kv(path).await?.version == KvVersion::Two)
    }

    /// Writes all fields at once if the current version still is `cas` (0: none); returns the new version.
    /// On KV version 2 alone.
    pub async fn kv_write(&self, path: &str, data: Fields, cas: u64) -> Result<u64, VaultError> {
        let Place { mount, below, .. } = self.insist_on(KvVersion::Two, path).await?;
        let endpoint = WriteSecret { mount, path: below, data, options: Cas { cas } };
        let reply = self.kv(Operation::Write, endpoint).await.inspect_err(|error| {
            if matches!(error, VaultError::CasMismatch { .. }) {
                self.cas_conflicts.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        Ok(self.data::<VersionAnswer>(&reply)?.version)
    }

    /// Writes all fields at once over whatever is there: on KV version 1 alone, which can do no better.
    pub async fn kv_overwrite(&self, path: &str, data: &Fields) -> Result<(), VaultError> {
        let Place { mount, below, .. } = self.insist_on(KvVersion::One, path).await?;
        let data = serde_json::to_vec(data).expect("texts of JSON under names are JSON");
        let endpoint = SetSecretRequest { mount, path: below, data };
        self.kv(Operation::Write, endpoint).await.map(|_| ())
    }

    /// Names directly below `prefix`; those of folders end in `/`. Empty where there is nothing.
    pub async fn kv_list(&self, prefix: &str) -> Result<Vec<String>, VaultError> {
        let Place { mount, below, version } = self.in_kv(prefix).await?;
        // Policies and Vault itself know a folder by its slash.
        let path = if below.is_empty() { below } else { format!("{below}/") };
        let reply = match version {
            KvVersion::One => self.kv(Operation::List, ListSecretRequest { mount, path }).await?,
            KvVersion::Two => self.kv(Operation::List, ListSecretsRequest { mount, path }).await?,
        };
        match reply.found {
            true => Ok(self.data::<ListAnswer>(&reply)?.keys),
            false => Ok(Vec::new()),
        }
    }

    async fn in_kv(&self, path: &str) -> Result<Place, VaultError> {
        let path = checked(path)?;
        let mount = self.mount_at(path).await?;
        let version = match (mount.kind.as_str(), mount.version) {
            // `generic` is what mounts of before there were versions are called.
            ("kv" | "generic", 1) => KvVersion::One,
            ("kv", 2) => KvVersion::Two,
            _ => return Err(no_such_mount(path, &mount)),
        };
        let below = mount.below(path).ok_or_else(|| self.not_vault())?.to_string();
        Ok(Place { mount: mount.path.clone(), below, version })
    }

    async fn insist_on(&self, version: KvVersion, path: &str) -> Result<Place, VaultError> {
        let place = self.in_kv(path).await?;
        match place.version == version {
            true => Ok(place),
            false => Err(no_such_mount(path, &self.mount_of(path).await?)),
        }
    }

    pub(super) async fn kv<E: Endpoint>(&self, operation: Operation, endpoint: E) -> Result<Reply, VaultError> {
        self.transport.call(operation, endpoint).await.inspect_err(|error| {
            // The mount was moved, is another one now, or was made version 2, which answers in an odd form
            // what is asked of version 1: look again next time.
            if matches!(error, VaultError::NoMount { .. } | VaultError::NotVault { .. } | VaultError::Refused { .. }) {
                locked(&self.mounts).clear();
            }
        })
    }
}

fn no_such_mount(path: &str, mount: &Mount) -> VaultError {
    let words = format!("it is {} version {}", hidden::words(&mount.kind), mount.version);
    VaultError::NoMount { path: printable(path), words }
}

/// Names of fields, never what they hold.
impl fmt::Debug for KvRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present { data, version, .. } => {
                let names = data.keys().collect::<Vec<_>>();
                f.debug_struct("Present").field("data", &names).field("version", version).finish()
            }
            Self::Absent { version, deletion } => {
                f.debug_struct("Absent").field("version", version).field("deletion", deletion).finish()
            }
        }
    }
}
