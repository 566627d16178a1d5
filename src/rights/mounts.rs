//! Which mounts the configured paths lie in. Their kind and version decide which paths of the API are asked.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::text::with_causes;
use crate::vault::{Mount, Vault, VaultError};

#[derive(Debug, Default)]
pub struct Mounts {
    known: BTreeMap<String, Mount>,
    /// The first segment of a path, and why its mount could not be learned.
    unknown: BTreeMap<String, String>,
}

/// A path of the configuration, split at its mount.
#[derive(Debug, PartialEq, Eq)]
pub struct Place<'a> {
    pub mount: &'a str,
    /// Empty for the mount itself.
    pub below: &'a str,
    pub has_versions: bool,
}

impl Mounts {
    pub fn new(known: impl IntoIterator<Item = Mount>) -> Self {
        let known = known.into_iter().map(|mount| (mount.path.clone(), mount)).collect();
        Self { known, unknown: BTreeMap::new() }
    }

    /// Asks Vault, as far as it answers and certd's token has rights there.
    pub async fn ask(vault: &Vault, paths: &BTreeSet<String>) -> Self {
        let mut mounts = Self::default();
        for path in paths {
            match vault.mount_of(path).await {
                Ok(mount) => {
                    mounts.known.insert(mount.path.clone(), mount);
                }
                Err(error) => {
                    mounts.unknown.entry(first_segment(path).to_string()).or_insert_with(|| with_causes(&error));
                    // One that denies this path may answer for the next; one that cannot be reached will not.
                    if !matches!(error, VaultError::Denied { .. }) {
                        break;
                    }
                }
            }
        }
        mounts
    }

    /// What nothing is known of is taken for a mount of KV version 2 under the first segment.
    pub fn place<'a>(&'a self, path: &'a str) -> Place<'a> {
        let (mount, has_versions) = match self.mount_of(path) {
            Some(mount) => (mount.path.as_str(), mount.version == 2),
            None => (first_segment(path), true),
        };
        let below = path.strip_prefix(mount).unwrap_or_default().trim_start_matches('/');
        Place { mount, below, has_versions }
    }

    pub fn mount_of(&self, path: &str) -> Option<&Mount> {
        self.known.values().find(|mount| path == mount.path || path.starts_with(&format!("{}/", mount.path)))
    }

    pub fn known(&self) -> impl Iterator<Item = &Mount> {
        self.known.values()
    }

    /// Each that is only assumed, with why.
    pub fn assumed(&self) -> impl Iterator<Item = (&str, &str)> {
        let hidden = self.unknown.iter().filter(|(mount, _)| !self.known.contains_key(*mount));
        hidden.map(|(mount, why)| (mount.as_str(), why.as_str()))
    }
}

fn first_segment(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}
