//! A renewal in flight as one secret of a key-value store of version 2, written by check-and-set alone.
//!
//! Its version is the fence: whoever goes on with the renewal writes a new one, so that an instance which was paused
//! meanwhile can write no more. It stays where it is after the end, destroyed, so that its versions count on.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{Claim, Staged, StagingError, Standing};
use crate::domain::key::PrivateKey;
use crate::domain::name::CertName;
use crate::failpoint;
use crate::journal::claims::Claims;
use crate::journal::event::InFlight;
use crate::pki;
use crate::pki::bundle::Bundle;
use crate::store::vault_kv::VaultKvStore;
use crate::vault::{Fields, KvRead, Vault, VaultError};

/// Below the mount of what is renewed. No source looks there.
pub const FOLDER: &str = "certd/pending";

pub struct VaultStaging<'a> {
    vault: Arc<Vault>,
    path: String,
    certificate: &'a CertName,
    claims: &'a Claims,
}

/// What the secret holds.
struct Record {
    instance: String,
    first: u64,
    open: InFlight,
    key: Option<PrivateKey>,
}

impl<'a> VaultStaging<'a> {
    /// `None` where the mount counts no versions.
    pub async fn of(
        kept: &VaultKvStore,
        certificate: &'a CertName,
        claims: &'a Claims,
    ) -> Result<Option<Self>, StagingError> {
        let place = kept.location().to_string();
        let failed = |source| StagingError::Vault { doing: "find the mount of", place: place.clone(), source };
        let mount = kept.vault.mount_of(&kept.path).await.map_err(failed)?;
        let digest = pki::sha256(place.as_bytes());
        let name: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let path = format!("{}/{FOLDER}/{name}", mount.path);
        let staging = Self { vault: kept.vault.clone(), path, certificate, claims };
        Ok((mount.kind == "kv" && mount.version == 2).then_some(staging))
    }

    pub async fn look(&self) -> Result<Standing, StagingError> {
        self.vault.catch_up(std::time::Instant::now()).await.map_err(|e| self.failed("read", e))?;
        let (version, record) = self.read().await?;
        let Some(Record { instance, first, open, key }) = record else { return Ok(Standing::Free) };
        let staged = Staged { open, key, claim: Claim::Versions { first, last: version } };
        if instance == self.claims.instance {
            return Ok(Standing::Ours(Box::new(staged)));
        }
        let term = self.vault.lease_term();
        if self.claims.stood_still(&self.path, version, term) {
            return self.take_over(staged, &instance).await;
        }
        Ok(Standing::Elsewhere(format!("another instance of certd ({instance}) is renewing it: {}", self.place())))
    }

    async fn take_over(&self, mut staged: Staged, from: &str) -> Result<Standing, StagingError> {
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
        let (version, record) = self.read().await?;
        if record.is_some_and(|record| record.instance != self.claims.instance) {
            return Ok(None);
        }
        let mut staged = Staged { open, key: Some(key), claim: Claim::Versions { first: version + 1, last: version } };
        match self.advance(&mut staged).await {
            Ok(()) => Ok(Some(staged)),
            Err(StagingError::TakenOver { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the record anew, upon the version that this instance knows and no other.
    pub async fn advance(&self, staged: &mut Staged) -> Result<(), StagingError> {
        let Claim::Versions { first, last } = staged.claim else { return Ok(()) };
        let fields = self.fields(first, staged);
        failpoint::reached("before_staging");
        let version = match self.vault.kv_write(&self.path, fields, last).await {
            Ok(version) => version,
            Err(VaultError::CasMismatch { .. }) => return Err(StagingError::TakenOver { place: self.place() }),
            Err(error) if error.may_be_done() => self.recognise(staged, last, error).await?,
            Err(error) => return Err(self.failed("write", error)),
        };
        failpoint::reached("staged");
        staged.claim = Claim::Versions { first, last: version };
        Ok(())
    }

    /// A write whose answer was lost: what is there now tells whether it was carried out.
    async fn recognise(&self, staged: &Staged, last: u64, error: VaultError) -> Result<u64, StagingError> {
        self.vault.catch_up(std::time::Instant::now()).await.map_err(|e| self.failed("read", e))?;
        match self.read().await? {
            (version, Some(record)) if version == last + 1 => {
                match record.instance == self.claims.instance && record.open == staged.open {
                    true => Ok(version),
                    false => Err(StagingError::TakenOver { place: self.place() }),
                }
            }
            _ => Err(self.failed("write", error)),
        }
    }

    /// Every version that held the key.
    pub async fn release(&self, staged: &Staged) -> Result<(), StagingError> {
        let Claim::Versions { first, last } = staged.claim else { return Ok(()) };
        let versions = (first..=last).collect();
        failpoint::reached("before_destruction");
        self.vault.destroy_versions(&self.path, versions).await.map_err(|e| self.failed("destroy", e))
    }

    /// The current version, 0 where there is none, and what it holds.
    async fn read(&self) -> Result<(u64, Option<Record>), StagingError> {
        match self.vault.kv_read(&self.path).await.map_err(|e| self.failed("read", e))? {
            KvRead::Absent { version, .. } => Ok((version.unwrap_or(0), None)),
            KvRead::Present { data, version, .. } => {
                let record = Record::of(&data).ok_or_else(|| StagingError::NotUnderstood { place: self.place() })?;
                Ok((version.unwrap_or(0), Some(record)))
            }
        }
    }

    fn fields(&self, first: u64, staged: &Staged) -> Fields {
        let key = staged.key.as_ref().map(pki::key::to_pem).unwrap_or_default();
        Fields::from([
            field("what_this_is", "a renewal of certd that is under way; it is destroyed at its end"),
            field("certificate", &self.certificate.0),
            field("instance", &self.claims.instance),
            field("first_version", &first),
            field("renewal", &staged.open),
            field("private_key", &*key),
        ])
    }

    fn place(&self) -> String {
        format!("{}:{}", self.vault.name, self.path)
    }

    fn failed(&self, doing: &'static str, source: VaultError) -> StagingError {
        StagingError::Vault { doing, place: self.place(), source }
    }
}

fn field<T: Serialize + ?Sized>(name: &str, value: &T) -> (String, Box<RawValue>) {
    (name.to_string(), serde_json::value::to_raw_value(value).expect("texts and numbers are JSON"))
}

impl Record {
    /// A key that cannot be read certifies nothing, and is as good as lost.
    fn of(fields: &Fields) -> Option<Self> {
        let text = |name: &str| fields.get(name).map(|value| value.get());
        let pem: Option<String> = text("private_key").and_then(|json| serde_json::from_str(json).ok());
        let bundle = pem.map(Zeroizing::new).and_then(|pem| Bundle::parse(pem.as_bytes()).ok());
        let key = bundle.and_then(|bundle| bundle.keys.into_iter().next());
        Some(Self {
            instance: serde_json::from_str(text("instance")?).ok()?,
            first: serde_json::from_str(text("first_version")?).ok()?,
            open: serde_json::from_str(text("renewal")?).ok()?,
            key: key.filter(|key| pki::key::prove(key).is_ok()),
        })
    }
}
