//! The versions of a secret: which there are, what one of them holds, and what is noted beside them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use rustify_derive::Endpoint;
use serde::Deserialize;
use vaultrs::api::kv2::requests::ReadSecretRequest;

use super::endpoint::Answer;
use super::layout::Layout;
use super::transport::Operation;
use super::{Fields, Vault, VaultError, checked};
use crate::domain::cert::{Fingerprint, KeyDigest};
use crate::domain::hidden;
use crate::domain::inventory::Location;
use crate::domain::text::printable;
use crate::domain::time::Timestamp;
use crate::pki::NotUnderstood;
use crate::pki::bundle::Kept;

/// What Vault keeps of a secret beside its fields (`GET /:mount/metadata/:path`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// 0 where nothing was written yet.
    pub current: u64,
    /// By number. Vault drops the oldest beyond `max_versions` of the mount or the secret.
    pub versions: BTreeMap<u64, Version>,
    pub custom_metadata: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub created: Timestamp,
    /// May lie ahead, where `delete_version_after` is set.
    pub deleted: Option<Timestamp>,
    pub destroyed: bool,
}

impl Version {
    pub fn is_deleted(&self, now: Timestamp) -> bool {
        self.deleted.is_some_and(|deleted| deleted <= now)
    }
}

/// One version with what it holds.
pub struct VersionRead {
    pub number: u64,
    pub version: Version,
    /// `None` for one that was deleted or destroyed.
    pub fields: Option<Fields>,
}

/// Why a version holds nothing, and what to do.
pub fn gone(location: &Location, number: u64, version: Option<Version>) -> String {
    match version {
        Some(Version { destroyed: true, .. }) => {
            format!("version {number} of {location} was destroyed: what it held is lost")
        }
        Some(Version { deleted: Some(at), .. }) => {
            format!(
                "version {number} of {location} was deleted on {at}: `kv undelete -versions={number}` brings it back"
            )
        }
        Some(_) | None => {
            format!("there is no version {number} of {location}: see `certd history` for those that are")
        }
    }
}

/// The certificate in the fields of a version, with its chain and key, and where in them it is.
pub type Certified = (Layout, Kept);

impl Vault {
    /// The one certificate in the fields of a version at `path`, or that of one object of it.
    pub async fn certificate(
        &self,
        path: &str,
        object: Option<&str>,
        fields: &Fields,
    ) -> Result<Result<Certified, NotUnderstood>, VaultError> {
        let none = || NotUnderstood::new("there is no certificate in it");
        let Some(layout) = self.layout(path, fields).await? else { return Ok(Err(none())) };
        let part = layout.part(object).and_then(|part| part.ok_or_else(none));
        Ok(part.and_then(|part| {
            let kept = part.read(fields)?;
            Ok((part, kept))
        }))
    }

    /// Every leaf in the fields of a version at `path`, with its key; none where it holds none that certd can read.
    pub async fn leaves(&self, path: &str, fields: &Fields) -> Result<Vec<(Fingerprint, KeyDigest)>, VaultError> {
        let Some(layout) = self.layout(path, fields).await? else { return Ok(Vec::new()) };
        let kept = layout.parts().into_iter().flat_map(|(_, part)| part.read_all(fields).unwrap_or_default());
        Ok(kept.map(|kept| (kept.chain.leaf.fingerprint, kept.chain.leaf.public_key)).collect())
    }

    /// Never stale. `None` where no secret is or was.
    pub async fn history(&self, path: &str) -> Result<Option<History>, VaultError> {
        self.catch_up(Instant::now()).await?;
        let (mount, path) = self.versioned(path).await?;
        let reply = self.kv(Operation::Read, ReadMetadata { mount, path }).await?;
        match (reply.found, reply.parse::<Answer<MetadataAnswer>>()?.data) {
            (true, Some(answer)) => Ok(Some(self.history_of(answer)?)),
            (true, None) => Err(self.not_vault()),
            (false, _) => Ok(None),
        }
    }

    /// The current version without a number, as of the last `catch_up`; `None` where Vault keeps no such version.
    pub async fn version(&self, path: &str, number: Option<u64>) -> Result<Option<VersionRead>, VaultError> {
        let (mount, path) = self.versioned(path).await?;
        let reply = self.kv(Operation::Read, ReadSecretRequest { mount, path, version: number }).await?;
        let Some(answer) = reply.parse::<Answer<ReadAnswer>>()?.data else {
            return if reply.found { Err(self.not_vault()) } else { Ok(None) };
        };
        let version = self.version_of(&answer.metadata.times)?;
        Ok(Some(VersionRead { number: answer.metadata.version, version, fields: answer.data }))
    }

    /// Mount and what lies below, where versions are kept.
    pub(super) async fn versioned(&self, path: &str) -> Result<(String, String), VaultError> {
        let mount = self.mount_of(path).await?;
        if mount.kind != "kv" || mount.version != 2 {
            let words =
                format!("it is {} version {}, which keeps no versions", hidden::words(&mount.kind), mount.version);
            return Err(VaultError::NoMount { path: printable(path), words });
        }
        let below = checked(path)?.strip_prefix(&mount.path).ok_or_else(|| self.not_vault())?;
        let below = below.trim_start_matches('/').to_string();
        Ok((mount.path, below))
    }

    fn history_of(&self, answer: MetadataAnswer) -> Result<History, VaultError> {
        let mut versions = BTreeMap::new();
        for (number, times) in &answer.versions {
            let number = number.parse().map_err(|_| self.not_vault())?;
            versions.insert(number, self.version_of(times)?);
        }
        let custom_metadata = answer.custom_metadata.unwrap_or_default();
        Ok(History { current: answer.current_version, versions, custom_metadata })
    }

    fn version_of(&self, times: &TimesAnswer) -> Result<Version, VaultError> {
        let instant = |text: &str| text.parse::<Timestamp>().map_err(|_| self.not_vault());
        let deleted = (!times.deletion_time.is_empty()).then(|| instant(&times.deletion_time)).transpose()?;
        Ok(Version { created: instant(&times.created_time)?, deleted, destroyed: times.destroyed })
    }
}

/// Names of fields, never what they hold.
impl fmt::Debug for VersionRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.fields.as_ref().map(|fields| fields.keys().collect::<Vec<_>>());
        f.debug_struct("VersionRead")
            .field("number", &self.number)
            .field("version", &self.version)
            .field("fields", &names)
            .finish()
    }
}

#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/metadata/{self.path}")]
struct ReadMetadata {
    #[endpoint(skip)]
    mount: String,
    #[endpoint(skip)]
    path: String,
}

#[derive(Deserialize)]
struct MetadataAnswer {
    current_version: u64,
    versions: BTreeMap<String, TimesAnswer>,
    custom_metadata: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct ReadAnswer {
    data: Option<Fields>,
    metadata: NumberedAnswer,
}

#[derive(Deserialize)]
struct NumberedAnswer {
    version: u64,
    #[serde(flatten)]
    times: TimesAnswer,
}

#[derive(Deserialize)]
struct TimesAnswer {
    created_time: String,
    /// Empty for one that was never deleted.
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}
