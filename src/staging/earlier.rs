//! Pending keys of this instance that are not where they would be kept now: in the layout of format 3, or in a file, from
//! before the mount was turned to version 2.

use super::record;
use super::vault_kv::{FOLDER, VaultStaging, destroy};
use super::{Staged, StagingError};
use crate::domain::key::PrivateKey;
use crate::domain::text::with_causes;
use crate::journal::event::InFlight;
use crate::pki;
use crate::vault::VaultError;

impl VaultStaging<'_> {
    /// Moves a pending key that the journal of this instance knows to its new place. Nothing else is taken up: whoever may
    /// write there could have planted it.
    pub(super) async fn taken_up(&self) -> Result<Option<Staged>, StagingError> {
        let Some(noted) = self.journal.in_flight(self.certificate) else { return Ok(None) };
        if let Some(key) = self.in_a_file(&noted) {
            let staged = self.claim(noted, key).await?;
            if staged.is_some() {
                self.journal.keys.forget(self.certificate)?;
            }
            return Ok(staged);
        }
        self.in_the_layout_of_format_3(noted).await
    }

    fn in_a_file(&self, noted: &InFlight) -> Option<PrivateKey> {
        let key = self.journal.keys.load(self.certificate).ok()??;
        (noted.key == Some(key.public)).then_some(key)
    }

    async fn in_the_layout_of_format_3(&self, noted: InFlight) -> Result<Option<Staged>, StagingError> {
        let path = self.path_of_format_3();
        let read = match self.vault.version(&path, None).await {
            Ok(read) => read,
            // A policy of today grants nothing there.
            Err(VaultError::Denied { .. }) => None,
            Err(error) => return Err(self.failed("look for a record of an older certd before", error)),
        };
        let Some((version, fields)) = read.and_then(|read| Some((read.number, read.fields?))) else { return Ok(None) };
        let record = record::unsealed(&fields).filter(|record| record.instance == self.journal.claims.instance);
        let own = record.and_then(|record| Some((record.first, record.key?)));
        let Some((first, key)) = own.filter(|(_, key)| noted.key == Some(key.public)) else {
            tracing::warn!(
                cert = %self.certificate,
                "a pending key of an older certd is not used, since this instance cannot tell who wrote it: {}:{path}: once no \
                 older certd runs, remove it with `bao kv metadata delete`", self.vault.name
            );
            return Ok(None);
        };
        // The journal knows as much of the renewal, and nobody else writes it.
        let Some(staged) = self.claim(noted, key).await? else { return Ok(None) };
        tracing::info!(cert = %self.certificate, "moved the pending key of an older certd to {}", self.place());
        if let Err(error) = destroy(&self.vault, &path, first, version).await {
            tracing::warn!(cert = %self.certificate, "the pending key of an older certd stays at {path}: {}", with_causes(&error));
        }
        Ok(Some(staged))
    }

    /// A digest of the location as certd names it, alias and all.
    fn path_of_format_3(&self) -> String {
        let digest = pki::sha256(self.location.as_bytes());
        let name: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}/{FOLDER}/{name}", self.mount.path)
    }
}
