//! Which folders of a Vault are listed, and which of what they hold is meant.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{VaultKvSource, at};
use crate::domain::inventory::{Obstacle, ObstacleKind};
use crate::source::path_glob::PathGlob;
use crate::staging::vault_kv::FOLDER;
use crate::vault::Vault;

/// Far above any store that people keep; a listing that never ends must.
const MOST_SECRETS: usize = 500_000;

/// A store that answers each folder with another would otherwise be followed for ever.
const DEEPEST: usize = 64;

/// How a path came to be looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// Somebody wrote it down, so its absence is news.
    Named,
    Listed,
}

pub enum Item {
    Folder(String),
    Secret(String, Because),
}

/// The folders of one sweep.
pub struct Folders {
    vault: Arc<Vault>,
    globs: Vec<PathGlob>,
    exclude: Vec<PathGlob>,
    named: BTreeSet<String>,
    listed: AtomicUsize,
    /// Nothing more is listed after [`MOST_SECRETS`], and one folder stands for all that were not.
    has_given_up: AtomicBool,
    failures: Mutex<Vec<Obstacle>>,
}

impl Folders {
    pub fn of(source: &VaultKvSource) -> Self {
        Self {
            vault: source.vault.clone(),
            globs: source.globs().cloned().collect(),
            exclude: source.exclude.clone(),
            named: source.named().map(str::to_string).collect(),
            listed: AtomicUsize::new(0),
            has_given_up: AtomicBool::new(false),
            failures: Mutex::default(),
        }
    }

    /// What a sweep begins with.
    pub fn first(&self) -> Vec<Item> {
        let named = self.named.iter().map(|path| Item::Secret(path.clone(), Because::Named));
        named.chain(first_folders(self.globs.iter()).into_iter().map(Item::Folder)).collect()
    }

    /// What kept certd from listing some, once.
    pub fn take_failures(&self) -> Vec<Obstacle> {
        std::mem::take(&mut *self.failures())
    }

    /// What it holds and is meant.
    pub async fn list(&self, folder: &str) -> Vec<Item> {
        if self.listed.load(Ordering::Relaxed) > MOST_SECRETS {
            return match self.has_given_up.swap(true, Ordering::Relaxed) {
                false => self.fail(self.too_many(folder)),
                true => Vec::new(),
            };
        }
        self.vault.pace().await;
        match self.vault.kv_list(folder).await {
            Err(error) => self.fail(error.obstacle(&format!("list {}", at(&self.vault, folder)))),
            Ok(_) if folder.split('/').count() > DEEPEST => self.fail(self.too_many(folder)),
            Ok(names) => {
                let meant: Vec<Item> = names.iter().filter_map(|name| self.meant(folder, name)).collect();
                let secrets = meant.iter().filter(|item| matches!(item, Item::Secret(..))).count();
                self.listed.fetch_add(secrets, Ordering::Relaxed);
                meant
            }
        }
    }

    fn fail(&self, obstacle: Obstacle) -> Vec<Item> {
        self.failures().push(obstacle);
        Vec::new()
    }

    fn failures(&self) -> MutexGuard<'_, Vec<Obstacle>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meant(&self, folder: &str, name: &str) -> Option<Item> {
        let path = format!("{folder}/{}", name.trim_end_matches('/'));
        match name.ends_with('/') {
            true => self.is_followed(&path).then_some(Item::Folder(path)),
            false => self.is_swept(&path).then_some(Item::Secret(path, Because::Listed)),
        }
    }

    fn is_swept(&self, path: &str) -> bool {
        self.globs.iter().any(|glob| glob.matches(path))
            && !self.exclude.iter().any(|glob| glob.matches(path))
            && !self.named.contains(path)
    }

    fn is_followed(&self, path: &str) -> bool {
        self.globs.iter().any(|glob| glob.reaches_into(path))
            // What certd is about to renew there is nobody's certificate yet.
            && !path.ends_with(&format!("/{FOLDER}"))
            && !self.exclude.iter().any(|glob| glob.covers(path))
    }

    fn too_many(&self, folder: &str) -> Obstacle {
        let place = at(&self.vault, folder);
        let message = format!(
            "could not list {place}: over {MOST_SECRETS} secrets or {DEEPEST} folders deep; give narrower `paths`"
        );
        Obstacle::new(ObstacleKind::TooLarge, message)
    }
}

/// None lies below another, so that no secret is listed twice.
pub fn first_folders<'a>(globs: impl Iterator<Item = &'a PathGlob>) -> Vec<String> {
    let mut folders: Vec<String> = globs.map(PathGlob::folder).collect();
    folders.sort();
    folders.dedup();
    let all = folders.clone();
    folders.retain(|folder| !all.iter().any(|above| folder.starts_with(&format!("{above}/"))));
    folders
}
