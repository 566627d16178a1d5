//! Files as they lie on disk: which private keys others may read, and which stores others may change.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio::task::spawn_blocking;

use crate::domain::inventory::{Inventory, Location, Sighting};
use crate::store::StoreError;
use crate::store::file::{FileLayout, is_kept_in, key_file};

use super::setup::{Place, Setup};

const OTHERS_READ_OR_WRITE: u32 = 0o006;

#[derive(Default)]
pub struct OnDisk {
    /// The mode of a key file that others may read or write, with its path, by the location of its certificate.
    pub exposed: BTreeMap<Location, (PathBuf, u32)>,
    /// Why certd writes no private key there.
    pub barred: BTreeMap<Location, String>,
}

/// Looks at each file that holds a private key, and at the way to each declared store.
pub async fn on_disk(setup: &Setup, inventory: &Inventory) -> OnDisk {
    let layouts: BTreeMap<Location, FileLayout> = setup
        .places
        .values()
        .filter_map(|place| match place {
            Place::File(layout) => Some((place.location(), layout.clone())),
            Place::VaultKv { .. } => None,
        })
        .collect();
    let seen: Vec<(Location, bool)> = inventory
        .iter()
        .filter(|observation| matches!(observation.location, Location::File { .. }))
        .map(|observation| (observation.location.clone(), holds_a_key(&observation.sighting)))
        .collect();
    if layouts.is_empty() && seen.is_empty() {
        return OnDisk::default();
    }
    spawn_blocking(move || look(&layouts, &seen)).await.unwrap_or_else(|broken| {
        tracing::error!(
            "a bug in certd: the look at the files broke off: {}",
            crate::hardening::BrokenOff::from(broken)
        );
        OnDisk::default()
    })
}

fn holds_a_key(sighting: &Sighting) -> bool {
    matches!(sighting, Sighting::Found(found) if found.stored_key.is_some())
}

fn look(layouts: &BTreeMap<Location, FileLayout>, seen: &[(Location, bool)]) -> OnDisk {
    let mut on_disk = OnDisk::default();
    for (location, layout) in layouts {
        // What cannot be looked at now is told by the reading of the store, and by the write.
        if let Err(StoreError::Held(why)) = layout.judge() {
            on_disk.barred.insert(location.clone(), why);
        }
        on_disk.expose(location, layout.key_file());
    }
    for (location, holds_a_key) in seen {
        if let (true, Location::File { path, .. }) = (*holds_a_key, location) {
            on_disk.expose(location, if is_kept_in(path) { key_file(path) } else { path.clone() });
        }
    }
    on_disk
}

impl OnDisk {
    fn expose(&mut self, location: &Location, path: PathBuf) {
        if let Some(mode) = open_to_others(&path) {
            self.exposed.insert(location.clone(), (path, mode));
        }
    }
}

fn open_to_others(path: &Path) -> Option<u32> {
    let found = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    (found.mode() & OTHERS_READ_OR_WRITE != 0).then(|| found.mode() & 0o7777)
}
