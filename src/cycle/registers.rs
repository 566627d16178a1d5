//! What issuers know of what was seen: which of it they revoked, and whose a served stranger is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;

use crate::domain::cert::Fingerprint;
use crate::domain::drift::{Drift, Issued};
use crate::domain::inventory::Inventory;
use crate::domain::name::{IssuerName, VaultName};
use crate::domain::plan::Managed;
use crate::domain::text::with_causes;
use crate::domain::time::Timestamp;
use crate::issuer::Issuer;
use crate::pki::{self, bundle::Bundle};
use crate::pulse;
use crate::vault::{Vault, VaultError};

use super::observe::Sweep;
use super::setup::Setup;
use super::troubles::Troubles;

/// Of those that were seen: which certificate each revoked serial number is, and since when. Neither changes.
pub type RevokedMemory = BTreeMap<(VaultName, String, String), Option<(Fingerprint, Timestamp)>>;

/// One PKI mount, whichever issuers use it.
struct Register<'a> {
    issuer: &'a IssuerName,
    vault: &'a Arc<Vault>,
    mount: &'a str,
}

/// Marks what its issuer revoked. One that does not tell leaves that open.
pub async fn mark_revoked(
    setup: &Setup,
    inventory: &mut Inventory,
    memory: &mut RevokedMemory,
    troubles: &mut Troubles,
) {
    let registers = registers(setup);
    let seen: BTreeSet<String> =
        inventory.iter().filter_map(|seen| Some(seen.sighting.leaf()?.serial.clone())).collect();
    memory.retain(|(_, _, serial), _| seen.contains(serial));
    let lists = join_all(registers.iter().map(|register| register.vault.pki_revoked(register.mount))).await;
    pulse::beat();
    for (register, revoked) in registers.iter().zip(lists) {
        let marked = match revoked {
            Ok(revoked) => register.mark(&revoked & &seen, inventory, memory).await,
            Err(error) => Err(error),
        };
        if let Err(error) = marked {
            let why = format!("it is not known which certificates it revoked: {}", with_causes(&error));
            troubles.meet(format!("issuer {}", register.issuer), why);
        }
    }
}

/// Which issuer issued what is served and kept in no version of any secret.
pub async fn issued(setup: &Setup, managed: &[Managed], sweep: &Sweep) -> Issued {
    let drift = Drift::new(managed, &sweep.inventory);
    let strangers: BTreeMap<Fingerprint, &str> =
        managed.iter().flat_map(|managed| drift.unknown(managed, &sweep.earlier)).collect();
    let registers = registers(setup);
    let mut issued = Issued::new();
    for (fingerprint, serial) in strangers {
        for register in &registers {
            // One that does not tell is not said to know.
            if let Ok(Some((own, _))) = register.certificate(serial).await
                && own == fingerprint
            {
                issued.insert(fingerprint, register.issuer.clone());
            }
            pulse::beat();
        }
    }
    issued
}

fn registers(setup: &Setup) -> Vec<Register<'_>> {
    let mut known = BTreeSet::new();
    let mut registers = Vec::new();
    for (issuer, it) in &setup.issuers {
        let Issuer::VaultPki { pki, .. } = it.as_ref() else { continue };
        if known.insert((pki.vault.name.clone(), pki.mount.clone())) {
            registers.push(Register { issuer, vault: &pki.vault, mount: &pki.mount });
        }
    }
    registers
}

impl Register<'_> {
    async fn mark(
        &self,
        revoked: BTreeSet<String>,
        inventory: &mut Inventory,
        memory: &mut RevokedMemory,
    ) -> Result<(), VaultError> {
        for serial in revoked {
            let key = (self.vault.name.clone(), self.mount.to_string(), serial);
            if !memory.contains_key(&key) {
                let read = self.certificate(&key.2).await?;
                let revoked = read.and_then(|(fingerprint, at)| Some((fingerprint, at?)));
                memory.insert(key.clone(), revoked);
                pulse::beat();
            }
            if let Some(Some((fingerprint, at))) = memory.get(&key) {
                inventory.mark_revoked(*fingerprint, *at);
            }
        }
        Ok(())
    }

    /// A serial number is unique to one CA only, so the certificate itself tells whether it is the one that was seen.
    async fn certificate(&self, serial: &str) -> Result<Option<(Fingerprint, Option<Timestamp>)>, VaultError> {
        let Some(kept) = self.vault.pki_certificate(self.mount, serial).await? else { return Ok(None) };
        let ders = Bundle::parse(kept.pem.as_bytes()).map(|bundle| bundle.certificates).unwrap_or_default();
        Ok(ders.first().map(|der| (Fingerprint(pki::sha256(der)), kept.revoked_at)))
    }
}
