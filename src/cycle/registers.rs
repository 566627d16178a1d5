//! What issuers know of what was seen: which of it they revoked, and whose a served stranger is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;

use crate::domain::cert::{Certificate, Fingerprint};
use crate::domain::drift::{Drift, Issued};
use crate::domain::inventory::Inventory;
use crate::domain::name::{IssuerName, VaultName};
use crate::domain::plan::Managed;
use crate::domain::text::with_causes;
use crate::domain::time::Timestamp;
use crate::issuer::Issuer;
use crate::pki::{self, bundle::Bundle, interned};
use crate::pulse;
use crate::vault::{Vault, VaultError};

use super::observe::Sweep;
use super::setup::Setup;
use super::troubles::Troubles;

/// Of those that were seen: which certificate each revoked serial number is, and since when. Neither changes.
pub type RevokedMemory = BTreeMap<(VaultName, String, String), (Fingerprint, Timestamp)>;

/// The certificates of which nobody can say whether their issuer revoked them, and why.
pub type Unsure = BTreeMap<Fingerprint, String>;

/// One PKI mount, whichever issuers use it.
struct Register<'a> {
    issuer: &'a IssuerName,
    vault: &'a Arc<Vault>,
    mount: &'a str,
}

/// Marks what its issuer revoked, and returns what one that does not tell leaves open.
pub async fn mark_revoked(
    setup: &Setup,
    inventory: &mut Inventory,
    memory: &mut RevokedMemory,
    troubles: &mut Troubles,
) -> Unsure {
    let registers = registers(setup);
    let seen: BTreeSet<String> =
        inventory.iter().filter_map(|seen| Some(seen.sighting.leaf()?.serial.clone())).collect();
    memory.retain(|(_, _, serial), _| seen.contains(serial));
    let lists = join_all(registers.iter().map(|register| register.vault.pki_revoked(register.mount))).await;
    pulse::beat();
    let mut unsure = Unsure::new();
    for (register, revoked) in registers.iter().zip(lists) {
        let (found, why) = match revoked {
            Ok(revoked) => register.mark(&revoked & &seen, inventory, memory).await,
            Err(error) => (register.signed_of(inventory).await, Some(with_causes(&error))),
        };
        let Some(why) = why else { continue };
        let why = format!("it is not known which certificates it revoked: {why}");
        troubles.meet(format!("issuer {}", register.issuer), why.clone());
        let why = format!("issuer {}: {why}", register.issuer);
        unsure.extend(found.into_iter().map(|certificate| (certificate, why.clone())));
    }
    unsure
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

fn of_serial(inventory: &Inventory, serial: &str) -> Vec<Fingerprint> {
    let leaves = inventory.iter().filter_map(|seen| seen.sighting.leaf());
    leaves.filter(|leaf| leaf.serial == serial).map(|leaf| leaf.fingerprint).collect()
}

impl Register<'_> {
    /// Returns what may be one of these and why that is open. After a failure the rest is not asked for.
    async fn mark(
        &self,
        revoked: BTreeSet<String>,
        inventory: &mut Inventory,
        memory: &mut RevokedMemory,
    ) -> (BTreeSet<Fingerprint>, Option<String>) {
        let (mut open, mut why) = (BTreeSet::new(), None);
        for serial in revoked {
            let key = (self.vault.name.clone(), self.mount.to_string(), serial);
            if !memory.contains_key(&key) && why.is_none() {
                match self.certificate(&key.2).await {
                    Ok(Some((fingerprint, Some(at)))) => {
                        memory.insert(key.clone(), (fingerprint, at));
                    }
                    Ok(None | Some((_, None))) => open.extend(of_serial(inventory, &key.2)),
                    Err(error) => why = Some(with_causes(&error)),
                }
                pulse::beat();
            }
            match memory.get(&key) {
                Some((fingerprint, at)) => inventory.mark_revoked(*fingerprint, *at),
                None if why.is_some() => open.extend(of_serial(inventory, &key.2)),
                None => {}
            }
        }
        if why.is_none() && !open.is_empty() {
            why = Some("it lists serial numbers that were seen, and does not say of which certificates".to_string());
        }
        (open, why)
    }

    /// Returns what was seen of its CAs. What names no CA that can be read is taken for one of them.
    async fn signed_of(&self, inventory: &Inventory) -> BTreeSet<Fingerprint> {
        let authorities = self.authorities().await.ok();
        let is_own = |leaf: &Certificate| {
            authorities.as_ref().is_none_or(|those| those.iter().any(|ca| leaf.names_as_issuer(ca)))
        };
        let leaves = inventory.iter().filter_map(|seen| seen.sighting.leaf());
        leaves.filter(|leaf| is_own(leaf)).map(|leaf| leaf.fingerprint).collect()
    }

    /// Returns the certificates of the issuers of the mount; `None` among them makes all of them unknown.
    async fn authorities(&self) -> Result<Vec<Arc<Certificate>>, VaultError> {
        let mut authorities = Vec::new();
        for issuer in self.vault.pki_issuers(self.mount).await? {
            let Some(text) = self.vault.pki_issuer(self.mount, &issuer.id).await? else { continue };
            let ders = Bundle::parse(text.as_bytes()).map(|bundle| bundle.certificates).unwrap_or_default();
            authorities.extend(ders.first().and_then(|der| interned::certificate(der).ok()));
            pulse::beat();
        }
        Ok(authorities)
    }

    /// A serial number is unique to one CA only, so the certificate itself tells whether it is the one that was seen.
    async fn certificate(&self, serial: &str) -> Result<Option<(Fingerprint, Option<Timestamp>)>, VaultError> {
        let Some(kept) = self.vault.pki_certificate(self.mount, serial).await? else { return Ok(None) };
        let ders = Bundle::parse(kept.pem.as_bytes()).map(|bundle| bundle.certificates).unwrap_or_default();
        Ok(ders.first().map(|der| (Fingerprint(pki::sha256(der)), kept.revoked_at)))
    }
}
