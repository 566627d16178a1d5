//! What a turn works with, made once by `config::build`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinSet;

use crate::audit::head::HeadExport;
use crate::domain::adopt::Rule;
use crate::domain::inventory::{Location, Part};
use crate::domain::name::{CertName, IssuerName, VaultName};
use crate::domain::plan::Managed;
use crate::domain::policy::Thresholds;
use crate::domain::text::with_causes;
use crate::issuer::Issuer;
use crate::issuer::acme::Acme;
use crate::pki::roots::Roots;
use crate::source::Source;
use crate::source::tls::Addresses;
use crate::source::vault_kv::VaultKvSource;
use crate::store::Store;
use crate::store::file::{FileLayout, FileStore};
use crate::store::vault_kv::VaultKvStore;
use crate::vault::Vault;

/// For the revocation of a token; a stop may not wait for a Vault that is gone.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

pub struct Setup {
    /// `false` stops all acting.
    pub act: bool,
    pub interval: Duration,
    /// In one turn.
    pub max_renewals: usize,
    pub thresholds: Thresholds,
    /// A key that lived through so many is a problem; `None` lets it live for ever.
    pub same_key_renewals: Option<u32>,
    /// Of hosts, in place of what DNS says.
    pub addresses: Arc<Addresses>,
    pub sources: Vec<Source>,
    pub adopted: Vec<AdoptedSource>,
    pub declared: Vec<Managed>,
    /// Where each declared certificate is kept.
    pub places: BTreeMap<CertName, Place>,
    pub issuers: BTreeMap<IssuerName, Arc<Issuer>>,
    pub vaults: BTreeMap<VaultName, Arc<Vault>>,
    /// Where the head of the audit log is noted.
    pub audit_head: HeadExport,
    /// Of the configuration, for `certd_config_hash_info`.
    pub hash: String,
}

/// An adopt rule and where it looks.
pub struct AdoptedSource {
    pub rule: Rule,
    pub source: VaultKvSource,
    pub vault: Arc<Vault>,
    pub roots: Arc<Roots>,
}

#[derive(Clone)]
pub enum Place {
    /// `object` within the secret, where it holds several certificates.
    VaultKv {
        vault: Arc<Vault>,
        path: String,
        object: Option<String>,
    },
    File(FileLayout),
}

impl Place {
    pub fn location(&self) -> Location {
        match self {
            Self::VaultKv { vault, path, object } => {
                let part = object.clone().map(Part::Object);
                Location::Secret { vault: vault.name.clone(), path: path.clone(), part }
            }
            Self::File(layout) => layout.location(),
        }
    }

    /// `roots` are what a certificate found there must verify to.
    pub fn store(&self, roots: Arc<Roots>) -> Store {
        match self.clone() {
            Self::VaultKv { vault, path, object } => Store::VaultKv(VaultKvStore { vault, path, object, roots }),
            Self::File(layout) => Store::File(FileStore { layout, roots }),
        }
    }
}

impl Setup {
    /// The store of a managed certificate; `None` when the configuration no longer names it.
    pub fn store(&self, managed: &Managed) -> Option<Store> {
        if let Some(place) = self.places.get(&managed.name) {
            return Some(place.store(self.roots(managed)));
        }
        let Location::Secret { vault, path, part } = &managed.location else { return None };
        let object = match part {
            None => None,
            Some(Part::Object(object)) => Some(object.clone()),
            Some(Part::Nth { .. }) => return None,
        };
        let covers = |adopted: &&AdoptedSource| adopted.vault.name == *vault && adopted.source.covers(path);
        let adopted = self.adopted.iter().find(covers)?;
        let place = Place::VaultKv { vault: adopted.vault.clone(), path: path.clone(), object };
        Some(place.store(adopted.roots.clone()))
    }

    /// Whether a rule looks where the certificate of this name is kept, or it is declared.
    pub fn covers(&self, name: &CertName) -> bool {
        let is_covered = |adopted: &AdoptedSource| {
            let place = name.0.strip_prefix(&format!("vault:{}:", adopted.vault.name));
            // A path may hold a `#` itself.
            let paths = place.into_iter().flat_map(|place| {
                let parts = place.match_indices('#').map(|(at, _)| &place[..at]);
                parts.chain([place])
            });
            paths.into_iter().any(|path| adopted.source.covers(path))
        };
        self.places.contains_key(name) || self.adopted.iter().any(is_covered)
    }

    /// What a declared certificate must verify to: the roots of any of its issuers, since any may have
    /// signed it. One that does not know its own without asking leaves it unjudged.
    fn roots(&self, managed: &Managed) -> Arc<Roots> {
        let known: Option<Vec<_>> =
            self.issuers_of(managed).into_iter().map(|(_, issuer)| issuer.configured_roots()).collect();
        Arc::new(known.map_or_else(Roots::none, |roots| Roots::together(&roots)))
    }

    /// Keeps the tokens that certd logged in for alive between turns, and watches the others, until it is dropped.
    pub fn tend(&self) -> JoinSet<()> {
        self.vaults.values().cloned().map(|vault| async move { vault.tend().await }).collect()
    }

    /// Ends what certd logged in for. A Vault that does not answer keeps nobody: its tokens end by themselves.
    pub async fn close(&self) {
        let closed = join_all(
            self.vaults
                .values()
                .map(|vault| async move { (&vault.name, tokio::time::timeout(CLOSE_WITHIN, vault.close()).await) }),
        );
        for (name, closed) in closed.await {
            match closed {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(vault = %name, "the token was not revoked: {}", with_causes(&error)),
                Err(_) => tracing::debug!(vault = %name, "the token was not revoked in time"),
            }
        }
    }

    pub fn acme(&self, name: &IssuerName) -> Option<&Acme> {
        match self.issuers.get(name)?.as_ref() {
            Issuer::Acme(acme) => Some(acme),
            Issuer::LocalCa(_) | Issuer::VaultPki { .. } => None,
        }
    }

    /// In order of preference.
    pub fn issuers_of(&self, managed: &Managed) -> Vec<(IssuerName, Arc<Issuer>)> {
        let named = |name: &IssuerName| self.issuers.get(name).map(|issuer| (name.clone(), issuer.clone()));
        managed.issuers.iter().filter_map(named).collect()
    }
}
