//! A renewal in flight as one secret of a key-value store of version 2, sealed, and written by check-and-set alone.
//!
//! Its version is the fence: whoever goes on with the renewal writes a new one, so that an instance which was paused
//! meanwhile can write no more. It stays where it is after the end, destroyed, so that its versions count on.
//!
//! The place is `certd/pending/GROUP/PATH/NAME` below the mount of the secret: PATH is the secret's own, so that a policy
//! opens the pending keys of the secrets that it opens; NAME is a digest of the path and the part. Neither the alias nor the
//! address of the Vault is in it, so that instances with another name for the Vault find the same record.

use std::sync::Arc;
use std::time::Instant;

use super::record::{self, Content};
use super::seal::{Bound, SealingKey};
use super::{Claim, Released, Staged, StagingError, Standing};
use crate::domain::key::PrivateKey;
use crate::domain::name::CertName;
use crate::domain::time::Timestamp;
use crate::failpoint;
use crate::journal::Journal;
use crate::journal::event::{InFlight, Stage};
use crate::journal::staged::StagedAt;
use crate::pki;
use crate::store::vault_kv::VaultKvStore;
use crate::vault::{Mount, Vault, VaultError};

/// Below the mount of what is renewed. No source looks there.
pub const FOLDER: &str = "certd/pending";

/// So often in one step the record of a group with a shared key is written over what somebody else put there.
const MOST_OVERWRITES: usize = 3;

/// Vault keeps ten versions unless it is told otherwise; more than these are never destroyed at once.
const MOST_DESTROYED: u64 = 1000;

pub struct VaultStaging<'a> {
    pub(super) vault: Arc<Vault>,
    pub(super) mount: Mount,
    pub(super) certificate: &'a CertName,
    pub(super) journal: &'a Journal,
    /// As certd names it, with the alias of the Vault.
    pub(super) location: String,
    /// Mount and path of the secret that is renewed.
    secret: String,
    path: String,
    sealing: SealingKey,
}

/// The current version of the record, 0 where there is none, and its content.
struct Seen {
    version: u64,
    written_at: Option<Timestamp>,
    content: Option<Content>,
}

impl<'a> VaultStaging<'a> {
    /// `None` where the mount counts no versions.
    pub async fn of(
        kept: &VaultKvStore,
        certificate: &'a CertName,
        journal: &'a Journal,
    ) -> Result<Option<Self>, StagingError> {
        let place = kept.location().to_string();
        let failed = |source| StagingError::Vault { doing: "find the mount of", place: place.clone(), source };
        let mount = kept.vault.mount_of(&kept.path).await.map_err(failed)?;
        if mount.kind != "kv" || mount.version != 2 {
            return Ok(None);
        }
        let secret = kept.path.trim_matches('/').to_string();
        let below = secret.strip_prefix(&mount.path).unwrap_or_default().trim_matches('/');
        let path = place_of(&mount.path, kept.vault.staging_group(), below, kept.object.as_deref());
        let sealing = sealing_key(&kept.vault, journal)?;
        Ok(Some(Self {
            vault: kept.vault.clone(),
            mount,
            certificate,
            journal,
            location: place,
            secret,
            path,
            sealing,
        }))
    }

    /// As it is noted in the journal.
    pub fn at(&self) -> StagedAt {
        let (secret, path) = (self.secret.clone(), self.path.clone());
        StagedAt { vault: self.vault.name.clone(), secret, path, first: 0, last: 0 }
    }

    pub async fn look(&self) -> Result<Standing, StagingError> {
        self.vault.catch_up(Instant::now()).await.map_err(|e| self.failed("read", e))?;
        let seen = self.read().await?;
        let record = match &seen.content {
            None => return Ok(Standing::Free),
            Some(Content::Unopened { hint }) => return Ok(self.unopened(&seen, hint.as_deref())),
            Some(Content::Record(record)) => record,
        };
        let Some(open) = record.open.clone() else { return Ok(Standing::Free) };
        let claim = Claim::Versions { first: record.first, last: seen.version };
        let staged = Staged { open, key: record.key.clone(), claim };
        if record.instance == self.journal.claims.instance {
            return Ok(Standing::Ours(Box::new(staged)));
        }
        if self.journal.claims.stood_still(&self.path, seen.version, self.vault.lease_term()) {
            return self.take_over(staged, &record.instance).await;
        }
        let (instance, place) = (&record.instance, self.place());
        Ok(Standing::Elsewhere(format!("another instance of certd ({instance}) is renewing it: {place}")))
    }

    /// What this instance cannot open it never uses. It waits for the lease of an instance that might be at work, then
    /// begins anew upon it.
    fn unopened(&self, seen: &Seen, hint: Option<&str>) -> Standing {
        let (place, term) = (self.place(), self.vault.lease_term().as_secs());
        let who = hint.map_or_else(
            || "something that is not sealed by certd stands where its pending key is kept".to_string(),
            |hint| format!("another instance of certd ({hint}) may be renewing it, with another sealing key"),
        );
        if self.is_past_its_lease(seen) {
            tracing::warn!(
                cert = %self.certificate,
                "{who}: {place}: it has stood there for {term} s (lease_term) and is replaced by a fresh key; if several \
                 instances share this configuration, give all of them one staging_key_file, else find out who wrote it"
            );
            return Standing::Free;
        }
        tracing::warn!(cert = %self.certificate, "{who}: {place}: it is not used, and renewed with a fresh key after {term} s");
        Standing::Elsewhere(format!("{who}: {place}: certd begins anew after {term} s (lease_term)"))
    }

    /// By this host's monotonic clock since the first look, or by the server's own clock since the version was written.
    fn is_past_its_lease(&self, seen: &Seen) -> bool {
        let term = self.vault.lease_term();
        let age = seen.written_at.zip(self.vault.heard()).map(|(written, heard)| written.until(heard.date));
        let stood = self.journal.claims.stood_still(&self.unopened_name(), 0, term);
        stood || age.is_some_and(|age| age >= term)
    }

    fn unopened_name(&self) -> String {
        format!("{} unopened", self.path)
    }

    /// A renewal that no issuer has heard of goes on with a fresh key.
    async fn take_over(&self, mut staged: Staged, from: &str) -> Result<Standing, StagingError> {
        if staged.open.stage == Stage::Begun {
            staged.key = None;
        }
        match self.advance(&mut staged).await {
            Ok(()) => {
                tracing::warn!(cert = %self.certificate, "took the renewal over from instance {from}, which stands still");
                Ok(Standing::Ours(Box::new(staged)))
            }
            Err(StagingError::TakenOver { place }) => {
                Ok(Standing::Elsewhere(format!("another instance of certd goes on with it: {place}")))
            }
            Err(error) => Err(error),
        }
    }

    pub async fn claim(&self, open: InFlight, key: PrivateKey) -> Result<Option<Staged>, StagingError> {
        let seen = self.read().await?;
        let first = match &seen.content {
            None => seen.version + 1,
            // Its earlier versions may hold keys that could not be destroyed.
            Some(Content::Record(record)) if record.instance == self.journal.claims.instance => record.first,
            Some(Content::Record(record)) if record.open.is_none() => seen.version + 1,
            Some(Content::Unopened { .. }) if self.is_past_its_lease(&seen) => seen.version,
            Some(Content::Record(_) | Content::Unopened { .. }) => return Ok(None),
        };
        let mut staged = Staged { open, key: Some(key), claim: Claim::Versions { first, last: seen.version } };
        match self.advance(&mut staged).await {
            Ok(()) => Ok(Some(staged)),
            Err(StagingError::TakenOver { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the record anew, upon the version that this instance knows and no other.
    pub async fn advance(&self, staged: &mut Staged) -> Result<(), StagingError> {
        let Claim::Versions { first, last } = staged.claim else { return Ok(()) };
        let mut upon = last;
        for _ in 0..=MOST_OVERWRITES {
            if let Some(version) = self.write(first, upon, Some(&staged.open), staged.key.as_ref()).await? {
                staged.claim = Claim::Versions { first, last: version };
                return Ok(());
            }
            let Some(version) = self.planted().await? else { break };
            upon = version;
        }
        Err(StagingError::TakenOver { place: self.place() })
    }

    /// Returns the new version; `None` where `upon` has passed.
    async fn write(
        &self,
        first: u64,
        upon: u64,
        open: Option<&InFlight>,
        key: Option<&PrivateKey>,
    ) -> Result<Option<u64>, StagingError> {
        let whose = (self.journal.claims.instance.as_str(), first);
        let fields = record::sealed(&self.sealing, self.bound(upon + 1), self.certificate, whose, (open, key))?;
        failpoint::reached("before_staging");
        let version = match self.vault.kv_write(&self.path, fields, upon).await {
            Ok(version) => version,
            Err(VaultError::CasMismatch { .. }) => return Ok(None),
            Err(error) if error.may_be_done() => self.recognise(open, upon, error).await?,
            Err(error) => return Err(self.failed("write", error)),
        };
        failpoint::reached("staged");
        Ok(Some(version))
    }

    /// Where every instance of the group has the key, what does not open is none of theirs: its version.
    async fn planted(&self) -> Result<Option<u64>, StagingError> {
        if !self.sealing.is_shared {
            return Ok(None);
        }
        let seen = self.read().await?;
        match seen.content {
            Some(Content::Unopened { .. }) => {
                tracing::warn!(
                    cert = %self.certificate,
                    "somebody without the group's staging_key_file wrote over the pending key: {}: it is written again; find \
                     out who may write there with `certd vault doctor`", self.place()
                );
                Ok(Some(seen.version))
            }
            Some(Content::Record(_)) | None => Ok(None),
        }
    }

    /// A write whose answer was lost: what is there now tells whether it was carried out.
    async fn recognise(&self, open: Option<&InFlight>, upon: u64, error: VaultError) -> Result<u64, StagingError> {
        self.vault.catch_up(Instant::now()).await.map_err(|e| self.failed("read", e))?;
        let seen = self.read().await?;
        match seen.content {
            Some(content) if seen.version == upon + 1 => match content {
                Content::Record(record)
                    if record.instance == self.journal.claims.instance && record.open.as_ref() == open =>
                {
                    Ok(seen.version)
                }
                Content::Record(_) | Content::Unopened { .. } => Err(StagingError::TakenOver { place: self.place() }),
            },
            _ => Err(self.failed("write", error)),
        }
    }

    /// Destroys every version that held the key. Where Vault denies that, the record is closed by one more version without a
    /// key, so that the next renewal can begin.
    pub async fn release(&self, staged: &Staged) -> Result<Released, StagingError> {
        let Claim::Versions { first, last } = staged.claim else { return Ok(Released::Destroyed) };
        failpoint::reached("before_destruction");
        match destroy(&self.vault, &self.path, first, last).await {
            Ok(()) => Ok(Released::Destroyed),
            Err(VaultError::Denied { .. }) => {
                // Where another instance has passed this version, there is nothing to close.
                let closed = self.write(first, last, None, None).await?;
                Ok(Released::Kept(StagedAt { first, last: closed.unwrap_or(last), ..self.at() }))
            }
            Err(error) => Err(self.failed("destroy", error)),
        }
    }

    async fn read(&self) -> Result<Seen, StagingError> {
        let read = self.vault.version(&self.path, None).await.map_err(|e| self.failed("read", e))?;
        let (version, written_at) = read.as_ref().map_or((0, None), |read| (read.number, Some(read.version.created)));
        let fields = read.and_then(|read| read.fields);
        let content = fields.map(|fields| record::opened(&self.sealing, self.bound(version), &fields));
        if !matches!(content, Some(Content::Unopened { .. })) {
            self.journal.claims.forget(&self.unopened_name());
        }
        Ok(Seen { version, written_at, content })
    }

    /// Returns the versions of the current record where it is this instance's own.
    async fn own(&self) -> Result<Option<(u64, u64)>, StagingError> {
        let seen = self.read().await?;
        match seen.content {
            Some(Content::Record(record)) if record.instance == self.journal.claims.instance => {
                Ok(Some((record.first, seen.version)))
            }
            Some(Content::Record(_) | Content::Unopened { .. }) | None => Ok(None),
        }
    }

    fn bound(&self, version: u64) -> Bound<'_> {
        Bound { group: self.vault.staging_group(), path: &self.path, version }
    }

    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.vault.name, self.path)
    }

    pub(super) fn failed(&self, doing: &'static str, source: VaultError) -> StagingError {
        StagingError::Vault { doing, place: self.place(), source }
    }

    /// Destroys a pending key of this instance at a place that the journal noted, whatever the configuration says now.
    pub async fn destroy_noted(
        vault: &Arc<Vault>,
        at: &StagedAt,
        certificate: &'a CertName,
        journal: &'a Journal,
    ) -> Result<(), StagingError> {
        let failed = |doing, source| StagingError::Vault { doing, place: at.to_string(), source };
        let mount = vault.mount_of(&at.path).await.map_err(|e| failed("find the mount of", e))?;
        let sealing = sealing_key(vault, journal)?;
        let (location, secret, path) = (String::new(), at.secret.clone(), at.path.clone());
        let noted = Self { vault: vault.clone(), mount, certificate, journal, location, secret, path, sealing };
        // Where the journal does not say which versions are this instance's own, the record does.
        let own = if at.last == 0 { noted.own().await? } else { Some((at.first, at.last)) };
        match own {
            Some((first, last)) => destroy(vault, &at.path, first, last).await.map_err(|e| failed("destroy", e)),
            None => Ok(()),
        }
    }
}

/// The folder of a group below a mount.
pub fn folder(mount: &str, group: &str) -> String {
    format!("{mount}/{FOLDER}/{group}")
}

fn place_of(mount: &str, group: &str, below: &str, object: Option<&str>) -> String {
    let part = object.map(|object| format!("\0{object}")).unwrap_or_default();
    let digest = pki::sha256(format!("{below}{part}").as_bytes());
    let name: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}/{below}/{name}", folder(mount, group))
}

fn sealing_key(vault: &Vault, journal: &Journal) -> Result<SealingKey, StagingError> {
    Ok(match vault.staging_key_file() {
        Some(file) => SealingKey::of_group(file)?,
        None => SealingKey::of_instance(journal.directory())?,
    })
}

pub(super) async fn destroy(vault: &Vault, path: &str, first: u64, last: u64) -> Result<(), VaultError> {
    let first = first.max(last.saturating_sub(MOST_DESTROYED)).max(1);
    vault.destroy_versions(path, (first..=last).collect()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_each_secret_has_a_place_of_its_own_below_the_secrets_path() {
        let places = [
            place_of("kv", "prod", "tls/web", None),
            place_of("kv", "dev", "tls/web", None),
            place_of("kv", "prod", "tls/web", Some("a")),
            place_of("kv", "prod", "tls/web", Some("b")),
            place_of("kv", "prod", "tls/web/a", None),
        ];
        assert!(places[0].starts_with("kv/certd/pending/prod/tls/web/"), "{places:?}");
        assert_eq!(places[0].len(), "kv/certd/pending/prod/tls/web/".len() + 32);
        assert_eq!(places.iter().collect::<std::collections::BTreeSet<_>>().len(), places.len(), "{places:?}");
    }
}
