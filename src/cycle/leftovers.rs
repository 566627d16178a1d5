//! Pending keys that no renewal needs any more: those that Vault would not let certd destroy, and those of certificates that
//! the configuration has moved or no longer names.

use super::setup::{AdoptedSource, Place, Setup};
use crate::domain::name::CertName;
use crate::domain::text::with_causes;
use crate::domain::time::Timestamp;
use crate::journal::event::Event;
use crate::journal::staged::StagedAt;
use crate::journal::{Journal, JournalError};
use crate::staging::vault_kv::VaultStaging;

/// Destroys them, and tells each time of those that it cannot destroy.
///
/// # Errors
///
/// Fails where the journal cannot be written. What a Vault does not let it do is tried again in the next turn.
pub async fn clear(setup: &Setup, journal: &Journal, now: Timestamp) -> Result<(), JournalError> {
    let keys = journal.staged();
    let unnamed = keys.in_use.iter().filter(|(name, at)| !is_configured(setup, name, at));
    let left: Vec<_> = keys.left.iter().map(|(name, at)| (name, at)).chain(unnamed).collect();
    for (name, at) in left {
        match destroyed(setup, journal, name, at).await {
            Ok(()) => {
                tracing::info!(cert = %name, "destroyed a pending key that no renewal needs: {at}");
                journal.append(now, Some(name), Event::KeyDestroyed(at.clone()))?;
            }
            Err(why) => {
                let mount = at.path.split("/certd/").next().unwrap_or_default();
                tracing::warn!(
                    cert = %name,
                    "a pending key that no renewal needs stays sealed at {at}: {why}; give certd what `certd vault policy` \
                     prints for {mount}/destroy, or remove it with `bao kv metadata delete`"
                );
            }
        }
    }
    for name in journal.all_in_flight().iter().filter(|name| !keys.in_use.contains_key(name)) {
        if !is_managed(setup, name)
            && let Err(error) = journal.keys.forget(name)
        {
            tracing::warn!(cert = %name, "{}", with_causes(&error));
        }
    }
    Ok(())
}

async fn destroyed(setup: &Setup, journal: &Journal, name: &CertName, at: &StagedAt) -> Result<(), String> {
    let vault = setup.vaults.get(&at.vault).ok_or("the configuration no longer has this Vault")?;
    VaultStaging::destroy_noted(vault, at, name, journal).await.map_err(|error| with_causes(&error))
}

/// Whether the configuration still leads to the secret. A Vault under another alias may be the same one.
fn is_configured(setup: &Setup, name: &CertName, at: &StagedAt) -> bool {
    let is_alias_gone = !setup.vaults.contains_key(&at.vault);
    let is_declared = match setup.places.get(name) {
        Some(Place::VaultKv { vault, path, .. }) => {
            path.trim_matches('/') == at.secret && (is_alias_gone || vault.name == at.vault)
        }
        Some(Place::File(_)) | None => false,
    };
    let covers =
        |rule: &AdoptedSource| (is_alias_gone || rule.vault.name == at.vault) && rule.source.covers(&at.secret);
    is_declared || (!setup.places.contains_key(name) && setup.adopted.iter().any(covers))
}

/// Whether the configuration declares it, or a rule may adopt what has this name.
fn is_managed(setup: &Setup, name: &CertName) -> bool {
    let adopts = |rule: &AdoptedSource| {
        let path = name.0.strip_prefix(&format!("vault:{}:", rule.vault.name));
        path.is_some_and(|path| rule.source.covers(path.split('#').next().unwrap_or_default()))
    };
    setup.places.contains_key(name) || setup.adopted.iter().any(adopts)
}
