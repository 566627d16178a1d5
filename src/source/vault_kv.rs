//! Certificates in a Vault's key-value stores, below path globs.

mod folders;
mod remembered;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::Observed;
use super::path_glob::PathGlob;
use super::side_by_side::side_by_side;
use crate::domain::inventory::{Location, Observation, Obstacle, ObstacleKind, Part, Sighting};
use crate::domain::name::SourceName;
use crate::domain::time::Timestamp;
use crate::pki::roots::Roots;
use crate::vault::layout::Layout;
use crate::vault::sighting::{absent, found, not_understood, version_of, without_certificate};
use crate::vault::{Fields, KvRead, Vault, VaultError};
use folders::{Because, Folders, Item, first_folders};

/// Measured: one server core gives 3,200 reads a second at this many in flight, and more add nothing.
pub const CONCURRENCY: usize = 16;

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
        let look = move |path, because| {
            let reader = reader.clone();
            async move { reader.observe(path, because).await }
        };
        let (observations, failures) = self.walk(look).await;
        Observed { observations, failures, passed_over: Vec::new() }
    }

    /// Nothing is asked where it is known that nothing can be told.
    fn out_of_sight(&self, reader: &Reader, error: &VaultError) -> Observed {
        let unread = |path: &str| {
            let location = at(&self.vault, path);
            let obstacle = error.obstacle(&format!("read {location}"));
            reader.observation(location, Sighting::Unknown(obstacle))
        };
        let folders = first_folders(self.globs());
        let failures = folders.iter().map(|folder| error.obstacle(&format!("list {}", at(&self.vault, folder))));
        Observed {
            observations: self.named().map(unread).collect(),
            failures: failures.collect(),
            passed_over: Vec::new(),
        }
    }

    /// Paths that somebody wrote down.
    fn named(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().filter_map(PathGlob::literal).filter(|path| !self.is_excluded(path))
    }

    fn globs(&self) -> impl Iterator<Item = &PathGlob> {
        self.paths.iter().filter(|glob| glob.literal().is_none())
    }

    /// Whether a secret of this path is meant.
    pub fn covers(&self, path: &str) -> bool {
        self.paths.iter().any(|glob| glob.matches(path)) && !self.is_excluded(path)
    }

    fn is_excluded(&self, path: &str) -> bool {
        self.exclude.iter().any(|glob| glob.matches(path))
    }

    /// Every secret that is there now and is meant, and those that are named; as far as they can be listed.
    pub async fn secrets(&self) -> BTreeSet<String> {
        let (paths, _) = self.walk(|path, _| async { vec![path] }).await;
        paths.into_iter().collect()
    }

    /// What `look` makes of every path that is meant, as soon as it is known, and what kept certd from listing some.
    async fn walk<R, F>(&self, look: impl Fn(String, Because) -> F + Clone + Send + 'static) -> (Vec<R>, Vec<Obstacle>)
    where
        R: Send + 'static,
        F: Future<Output = Vec<R>> + Send,
    {
        let folders = Arc::new(Folders::of(self));
        let visit = {
            let folders = folders.clone();
            move |item| {
                let (folders, look) = (folders.clone(), look.clone());
                async move {
                    match item {
                        Item::Folder(folder) => (Vec::new(), folders.list(&folder).await),
                        Item::Secret(path, because) => (look(path, because).await, Vec::new()),
                    }
                }
            }
        };
        let seen = side_by_side(self.concurrency, folders.first(), visit).await;
        (seen, folders.take_failures())
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
            Ok(KvRead::Present { data, version, deleted_at }) => match self.vault.closed(path, &data).await {
                Err(error) => {
                    let obstacle = error.obstacle(&format!("read {location}"));
                    vec![(location, Sighting::Unknown(obstacle))]
                }
                Ok(Some(closed)) => {
                    let secret = Secret { location, data, version, deleted_at, roots: self.roots.clone() };
                    remembered::sightings(secret, closed).await
                }
                Ok(None) if because == Because::Named => {
                    vec![(location.clone(), without_certificate(&location, &data))]
                }
                // Some other secret.
                Ok(None) => Vec::new(),
            },
        }
    }
}

/// A secret that was read and holds certificates.
struct Secret {
    location: Location,
    data: Fields,
    version: Option<u64>,
    deleted_at: Option<Timestamp>,
    roots: Arc<Roots>,
}

/// In bytes: what a larger secret holds is judged on a thread of its own, where it holds up nobody.
const USUAL_SECRET: usize = 32 * 1024;

impl Secret {
    async fn sightings(self, layout: Layout) -> Vec<(Location, Sighting)> {
        if self.data.values().map(|value| value.get().len()).sum::<usize>() <= USUAL_SECRET {
            return self.judged(&layout);
        }
        let location = self.location.clone();
        tokio::task::spawn_blocking(move || self.judged(&layout)).await.unwrap_or_else(|_| {
            let why = "to judge it broke off: certd logs where";
            vec![(location, Sighting::Unknown(Obstacle::new(ObstacleKind::NotUnderstood, why)))]
        })
    }

    /// One for each object with a certificate. Several in one object are told apart by number.
    fn judged(&self, layout: &Layout) -> Vec<(Location, Sighting)> {
        let mut all = Vec::new();
        for (object, layout) in layout.parts() {
            let own = self.location.with_part(object.clone().map(Part::Object));
            match layout.read_all(&self.data) {
                Err(why) => all.push((own.clone(), not_understood(&own, &why))),
                Ok(kept) => {
                    let alone = kept.len() == 1;
                    let unwritable = layout.verdict(&self.data).err().map(|why| why.to_string());
                    all.extend(kept.iter().enumerate().map(|(i, kept)| {
                        let nth = Part::Nth { within: object.clone(), number: i + 1 };
                        let location = if alone { own.clone() } else { self.location.with_part(Some(nth)) };
                        let version = version_of(&location, self.version);
                        let found = found(&location, kept, version, self.deleted_at, &self.roots, unwritable.clone());
                        (location, found)
                    }));
                }
            }
        }
        all
    }
}
