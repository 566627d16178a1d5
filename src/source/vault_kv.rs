//! Certificates in a Vault's key-value stores, below path globs.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::path_glob::PathGlob;
use super::{Observed, side_by_side};
use crate::domain::inventory::{Location, Observation, Obstacle, ObstacleKind, Sighting};
use crate::domain::name::SourceName;
use crate::domain::time::Timestamp;
use crate::pki::NotUnderstood;
use crate::pki::bundle::Kept;
use crate::pki::roots::Roots;
use crate::vault::layout::Layout;
use crate::vault::sighting::{absent, found, not_understood, without_certificate};
use crate::vault::{Fields, KvRead, Vault};

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
    pub async fn observe(&self, now: Timestamp) -> Observed {
        let (paths, failures) = self.list().await;
        let reader = Arc::new(Reader {
            name: self.name.clone(),
            environment: self.environment.clone(),
            vault: self.vault.clone(),
            roots: self.roots.clone(),
            now,
        });
        let look = move |(path, because)| {
            let reader = reader.clone();
            async move { reader.observe(path, because).await }
        };
        let observations = side_by_side(self.concurrency, paths.into_iter().collect(), look).await;
        Observed { observations, failures }
    }

    /// Whether a secret of this path is meant.
    pub fn covers(&self, path: &str) -> bool {
        self.paths.iter().any(|glob| glob.matches(path)) && !self.is_excluded(path)
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
        let named = self.paths.iter().filter_map(PathGlob::literal).filter(|path| !self.is_excluded(path));
        listed.extend(named.map(|path| (path.to_string(), Because::Named)));
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
        let observation = |(location, sighting)| Observation {
            location,
            source: self.name.clone(),
            environment: self.environment.clone(),
            observed_at: self.now,
            sighting,
            took: None,
        };
        self.look(&path, because).await.into_iter().map(observation).collect()
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
            Ok(KvRead::Present { data, version }) => match self.sightings(&location, &data, version) {
                Some(Ok(sightings)) => sightings,
                Some(Err(why)) => vec![(location.clone(), not_understood(&location, &why))],
                None if because == Because::Named => vec![(location.clone(), without_certificate(&location, &data))],
                // Some other secret.
                None => Vec::new(),
            },
        }
    }

    /// `None` where no field is one of a certificate.
    fn sightings(
        &self,
        location: &Location,
        data: &Fields,
        version: Option<u64>,
    ) -> Option<Result<Vec<(Location, Sighting)>, NotUnderstood>> {
        let kept = match Layout::find(data)?.read_all(data) {
            Ok(kept) => kept,
            Err(why) => return Some(Err(why)),
        };
        let sighting = |(i, kept): (usize, &Kept)| {
            let found = Box::new(found(kept, version, &self.roots));
            (location.with_part(Some((i + 1).to_string())), Sighting::Found(found))
        };
        Some(Ok(match &kept[..] {
            [one] => vec![(location.clone(), Sighting::Found(Box::new(found(one, version, &self.roots))))],
            several => several.iter().enumerate().map(sighting).collect(),
        }))
    }
}
