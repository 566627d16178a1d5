//! Certificates in a Vault's key-value stores, below path globs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::path_glob::PathGlob;
use super::{Observed, side_by_side};
use crate::domain::inventory::{Location, Observation, Obstacle, ObstacleKind, Part, Sighting};
use crate::domain::name::SourceName;
use crate::domain::time::Timestamp;
use crate::pki::roots::Roots;
use crate::staging::vault_kv::FOLDER;
use crate::vault::layout::Layout;
use crate::vault::sighting::{absent, found, not_understood, version_of, without_certificate};
use crate::vault::{Fields, KvRead, Vault, VaultError};

/// Measured: one server core gives 3,200 reads a second at this many in flight, and more add nothing.
pub const CONCURRENCY: usize = 16;

/// Far above any store that people keep; a listing that never ends must.
const MOST_SECRETS: usize = 500_000;

/// A store that answers each folder with another would otherwise be followed for ever.
const DEEPEST: usize = 64;

pub struct VaultKvSource {
    pub name: SourceName,
    pub environment: Option<String>,
    pub vault: Arc<Vault>,
    pub paths: Vec<PathGlob>,
    pub exclude: Vec<PathGlob>,
    /// Requests in flight, at least one.
    pub concurrency: usize,
    pub roots: Arc<Roots>,
}

/// How a path came to be looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Because {
    /// Somebody wrote it down, so its absence is news.
    Named,
    Listed,
}

impl VaultKvSource {
    /// As it was when this began, or later: once caught up with, all reads may be spread over standbys.
    pub async fn observe(&self, now: Timestamp) -> Observed {
        let reader = Arc::new(Reader {
            name: self.name.clone(),
            environment: self.environment.clone(),
            vault: self.vault.clone(),
            roots: self.roots.clone(),
            now,
        });
        if let Err(error) = self.vault.catch_up(Instant::now()).await {
            return self.out_of_sight(&reader, &error);
        }
        let (paths, failures) = self.list().await;
        let look = move |(path, because)| {
            let reader = reader.clone();
            async move { reader.observe(path, because).await }
        };
        let observations = side_by_side(self.concurrency, paths.into_iter().collect(), look).await;
        Observed { observations, failures }
    }

    /// Nothing is asked where it is known that nothing can be told.
    fn out_of_sight(&self, reader: &Reader, error: &VaultError) -> Observed {
        let unread = |path: &str| {
            let location = self.at(path);
            let obstacle = error.obstacle(&format!("read {location}"));
            reader.observation(location, Sighting::Unknown(obstacle))
        };
        let folders = self.first_folders();
        let failures = folders.iter().map(|folder| error.obstacle(&format!("list {}", self.at(folder))));
        Observed { observations: self.named().map(unread).collect(), failures: failures.collect() }
    }

    /// Paths that somebody wrote down.
    fn named(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().filter_map(PathGlob::literal).filter(|path| !self.is_excluded(path))
    }

    /// Whether a secret of this path is meant.
    pub fn covers(&self, path: &str) -> bool {
        self.paths.iter().any(|glob| glob.matches(path)) && !self.is_excluded(path)
    }

    /// Every secret that is there now and is meant, and those that are named; as far as they can be listed.
    pub async fn secrets(&self) -> Vec<String> {
        self.list().await.0.into_keys().collect()
    }

    /// Every path that is meant, and what kept certd from listing some.
    async fn list(&self) -> (BTreeMap<String, Because>, Vec<Obstacle>) {
        let mut listed = BTreeMap::new();
        let mut failures = Vec::new();
        let mut waiting = self.first_folders();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < self.concurrency.max(1)
                && let Some(folder) = waiting.pop()
            {
                running.push(async move {
                    self.vault.pace().await;
                    (self.vault.kv_list(&folder).await, folder)
                });
            }
            let Some((names, folder)) = running.next().await else { break };
            match names {
                Err(error) => failures.push(error.obstacle(&format!("list {}", self.at(&folder)))),
                Ok(_) if folder.split('/').count() > DEEPEST => failures.push(self.too_many(&folder)),
                Ok(_) if listed.len() > MOST_SECRETS => {
                    failures.push(self.too_many(&folder));
                    break;
                }
                Ok(names) => self.sort_in(&folder, names, &mut listed, &mut waiting),
            }
        }
        listed.extend(self.named().map(|path| (path.to_string(), Because::Named)));
        (listed, failures)
    }

    /// None lies below another, so that no secret is listed twice.
    fn first_folders(&self) -> Vec<String> {
        let globs = self.paths.iter().filter(|glob| glob.literal().is_none());
        let mut folders: Vec<String> = globs.map(PathGlob::folder).collect();
        folders.sort();
        folders.dedup();
        let all = folders.clone();
        folders.retain(|folder| !all.iter().any(|above| folder.starts_with(&format!("{above}/"))));
        folders
    }

    fn sort_in(
        &self,
        folder: &str,
        names: Vec<String>,
        listed: &mut BTreeMap<String, Because>,
        waiting: &mut Vec<String>,
    ) {
        let globs = || self.paths.iter().filter(|glob| glob.literal().is_none());
        for name in names {
            let path = format!("{folder}/{}", name.trim_end_matches('/'));
            if !name.ends_with('/') {
                if globs().any(|glob| glob.matches(&path)) && !self.is_excluded(&path) {
                    listed.insert(path, Because::Listed);
                }
            } else if globs().any(|glob| glob.reaches_into(&path))
                // What certd is about to renew there is nobody's certificate yet.
                && !path.ends_with(&format!("/{FOLDER}"))
                && !self.exclude.iter().any(|glob| glob.covers(&path))
            {
                waiting.push(path);
            }
        }
    }

    fn is_excluded(&self, path: &str) -> bool {
        self.exclude.iter().any(|glob| glob.matches(path))
    }

    fn at(&self, path: &str) -> Location {
        at(&self.vault, path)
    }

    fn too_many(&self, folder: &str) -> Obstacle {
        let place = self.at(folder);
        let message = format!(
            "could not list {place}: over {MOST_SECRETS} secrets or {DEEPEST} folders deep; give narrower `paths`"
        );
        Obstacle::new(ObstacleKind::TooLarge, message)
    }
}

fn at(vault: &Vault, path: &str) -> Location {
    Location::Secret { vault: vault.name.clone(), path: path.to_string(), part: None }
}

/// What the readers of one sweep share.
struct Reader {
    name: SourceName,
    environment: Option<String>,
    vault: Arc<Vault>,
    roots: Arc<Roots>,
    now: Timestamp,
}

impl Reader {
    async fn observe(&self, path: String, because: Because) -> Vec<Observation> {
        self.vault.pace().await;
        let seen = self.look(&path, because).await;
        seen.into_iter().map(|(location, sighting)| self.observation(location, sighting)).collect()
    }

    fn observation(&self, location: Location, sighting: Sighting) -> Observation {
        Observation {
            location,
            source: self.name.clone(),
            environment: self.environment.clone(),
            observed_at: self.now,
            sighting,
            took: None,
        }
    }

    async fn look(&self, path: &str, because: Because) -> Vec<(Location, Sighting)> {
        let location = at(&self.vault, path);
        match self.vault.kv_read(path).await {
            Err(error) => {
                let obstacle = error.obstacle(&format!("read {location}"));
                vec![(location, Sighting::Unknown(obstacle))]
            }
            Ok(KvRead::Absent { deletion, .. }) => match because {
                Because::Named => vec![(location, absent(deletion))],
                // Deleted or destroyed: listings name it still.
                Because::Listed => Vec::new(),
            },
            Ok(KvRead::Present { data, version, deleted_at }) => match self.vault.layout(path, &data).await {
                Err(error) => {
                    let obstacle = error.obstacle(&format!("read {location}"));
                    vec![(location, Sighting::Unknown(obstacle))]
                }
                Ok(Some(layout)) => self.sightings(&location, &layout, &data, version, deleted_at),
                Ok(None) if because == Because::Named => {
                    vec![(location.clone(), without_certificate(&location, &data))]
                }
                // Some other secret.
                Ok(None) => Vec::new(),
            },
        }
    }

    /// One for each object with a certificate. Several in one object are told apart by number.
    fn sightings(
        &self,
        secret: &Location,
        layout: &Layout,
        data: &Fields,
        version: Option<u64>,
        deleted_at: Option<Timestamp>,
    ) -> Vec<(Location, Sighting)> {
        let mut all = Vec::new();
        for (object, layout) in layout.parts() {
            let own = secret.with_part(object.clone().map(Part::Object));
            match layout.read_all(data) {
                Err(why) => all.push((own.clone(), not_understood(&own, &why))),
                Ok(kept) => {
                    let alone = kept.len() == 1;
                    all.extend(kept.iter().enumerate().map(|(i, kept)| {
                        let nth = Part::Nth { within: object.clone(), number: i + 1 };
                        let location = if alone { own.clone() } else { secret.with_part(Some(nth)) };
                        let found = found(kept, version_of(&location, version), deleted_at, &self.roots);
                        (location, Sighting::Found(Box::new(found)))
                    }));
                }
            }
        }
        all
    }
}
