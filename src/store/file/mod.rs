//! Certified keys in files: one combined PEM, a directory switched by one rename, or two loose files.
//!
//! Whoever opens the file, or the directory once, sees a key and a chain that belong together. Owner,
//! group and mode of what is replaced are kept. Everything here blocks, so it runs beside the runtime.

mod bundle;
mod contents;
mod directory;
pub(crate) mod disk;
mod folder;
mod loose;
mod rights;

use std::path::PathBuf;
use std::sync::Arc;

use contents::{Contents, Role, Texts};
use rights::Content;

use super::{StoreError, Written};
use crate::domain::cert::Fingerprint;
use crate::domain::cert::Judged;
use crate::domain::inventory::{Found, Location, Obstacle, ObstacleKind, Sighting};
use crate::domain::plan::Basis;
use crate::domain::renewal::CertifiedKey;
use crate::files::way::LastLink;
use crate::hardening::BrokenOff;
use crate::pki::document::Unfit;
use crate::pki::roots::Roots;

pub(crate) use directory::{is_kept_in, key_file};

#[derive(Clone, Debug)]
pub struct FileStore {
    pub layout: FileLayout,
    pub roots: Arc<Roots>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileLayout {
    /// One PEM: key, leaf, intermediates.
    Bundle(PathBuf),
    /// `cert.pem`, `chain.pem`, `fullchain.pem`, `privkey.pem` below a link to their generation.
    Directory(PathBuf),
    /// Two files, and a moment between two renames in which they do not match.
    Loose {
        /// Leaf and intermediates.
        certificate: PathBuf,
        private_key: PathBuf,
    },
}

impl FileLayout {
    pub fn location(&self) -> Location {
        let path = match self {
            Self::Bundle(path) | Self::Directory(path) | Self::Loose { certificate: path, .. } => path.clone(),
        };
        Location::File { path, part: None }
    }

    fn look(&self) -> Result<Option<Contents>, Obstacle> {
        match self {
            Self::Bundle(path) => bundle::look(path),
            Self::Directory(path) => directory::look(path),
            Self::Loose { certificate, private_key } => loose::look(certificate, private_key),
        }
    }

    fn rehearse(&self) -> Result<(), StoreError> {
        match self {
            Self::Bundle(path) => disk::Draft::new(path, b"", Content::PrivateKey).map(drop),
            Self::Directory(path) => directory::rehearse(path),
            Self::Loose { certificate, private_key } => disk::Draft::new(private_key, b"", Content::PrivateKey)
                .and_then(|_| disk::Draft::new(certificate, b"", Content::Certificates))
                .map(drop),
        }
    }

    /// Returns why no private key may be written there, as far as that shows without a change.
    ///
    /// # Errors
    /// `Held` where others may change the way to it.
    pub(crate) fn judge(&self) -> Result<(), StoreError> {
        match self {
            Self::Bundle(path) => folder::judge(path, LastLink::Followed),
            Self::Directory(path) => folder::judge(path, LastLink::Kept),
            Self::Loose { certificate, private_key } => folder::judge(private_key, LastLink::Followed)
                .and_then(|()| folder::judge(certificate, LastLink::Followed)),
        }
    }

    /// Returns the file that holds the private key.
    pub(crate) fn key_file(&self) -> PathBuf {
        match self {
            Self::Bundle(path) => path.clone(),
            Self::Directory(path) => directory::key_file(path),
            Self::Loose { private_key, .. } => private_key.clone(),
        }
    }

    fn roles(&self) -> &'static [Role] {
        match self {
            Self::Bundle(_) => &[Role::Bundle],
            Self::Directory(_) => &[Role::Leaf, Role::Intermediates, Role::FullChain, Role::Key],
            Self::Loose { .. } => &[Role::FullChain, Role::Key],
        }
    }

    fn replace(&self, new: &Texts) -> Result<(), StoreError> {
        match self {
            Self::Bundle(path) => bundle::replace(path, new),
            Self::Directory(path) => directory::replace(path, new),
            Self::Loose { certificate, private_key } => loose::replace(certificate, private_key, new),
        }
    }
}

impl FileStore {
    pub async fn read(&self) -> Sighting {
        let store = self.clone();
        let read =
            tokio::task::spawn_blocking(move || sighting(&store.layout.location(), store.layout.look(), &store.roots))
                .await;
        read.unwrap_or_else(|broken| {
            Sighting::Unknown(Obstacle::new(
                ObstacleKind::Io,
                format!("the reading of a file broke off: {}", BrokenOff::from(broken)),
            ))
        })
    }

    /// Makes what a write would put in place, without a certificate in it, and takes it away again.
    pub async fn rehearse(&self) -> Result<(), StoreError> {
        let layout = self.layout.clone();
        tokio::task::spawn_blocking(move || rehearse(&layout)).await.unwrap_or_else(|broken| {
            let doing = format!("finish rehearsing a write to {}", self.layout.location());
            Err(StoreError::Failed { doing, source: Box::new(BrokenOff::from(broken)) })
        })
    }

    /// Nothing is written when the same key and chain are there already. The caller reads it back.
    pub async fn write(&self, certified: &CertifiedKey, based_on: &Basis) -> Result<Written, StoreError> {
        let (layout, certified, based_on) = (self.layout.clone(), certified.clone(), *based_on);
        let write = move || write(&layout, &certified, &based_on);
        tokio::task::spawn_blocking(write).await.unwrap_or_else(|broken| {
            let doing = format!("finish writing to {}: read it again", self.layout.location());
            Err(StoreError::Failed { doing, source: Box::new(BrokenOff::from(broken)) })
        })
    }
}

/// What a directory laid out as above holds, for the sources that come across one.
pub(crate) fn sight_directory(path: &std::path::Path, roots: &Roots) -> Sighting {
    sighting(&Location::File { path: path.to_path_buf(), part: None }, directory::look(path), roots)
}

fn sighting(at: &Location, seen: Result<Option<Contents>, Obstacle>, roots: &Roots) -> Sighting {
    match seen {
        Ok(None) => Sighting::Absent,
        Ok(Some(contents)) => match roots.judge(&contents.ders) {
            Err(too_costly) => too_costly.sighting(at),
            Ok(Judged { trust, paths }) => Sighting::Found(Box::new(Found {
                trust,
                chain: contents.chain,
                stored_key: contents.key,
                deleted_at: None,
                version: None,
                revoked_at: None,
                is_settled: false,
                handshake: None,
                paths,
                unwritable: contents.unwritable,
            })),
        },
        Err(obstacle) => Sighting::Unknown(obstacle),
    }
}

fn write(layout: &FileLayout, certified: &CertifiedKey, based_on: &Basis) -> Result<Written, StoreError> {
    let seen = layout.look().map_err(|obstacle| StoreError::Held(obstacle.message))?;
    if seen.as_ref().is_some_and(|contents| contents.are_of(certified)) {
        return Ok(Written { version: None, unchanged: true });
    }
    agree(layout, seen.as_ref(), certified, based_on)?;
    let held = |why: Unfit| StoreError::Held(format!("{}: {why}", layout.location()));
    let new = match &seen {
        Some(contents) => contents.renewed(certified).map_err(held)?,
        None => Texts::fresh(layout.roles(), certified),
    };
    layout.replace(&new)?;
    Ok(Written { version: None, unchanged: false })
}

fn rehearse(layout: &FileLayout) -> Result<(), StoreError> {
    let seen = layout.look().map_err(|obstacle| StoreError::Held(obstacle.message))?;
    insist_on_keeping(layout, seen.as_ref())?;
    layout.rehearse()
}

fn insist_on_keeping(layout: &FileLayout, seen: Option<&Contents>) -> Result<(), StoreError> {
    match seen.and_then(|contents| contents.unwritable.as_ref()) {
        Some(why) => Err(StoreError::Held(format!("{}: {why}", layout.location()))),
        None => Ok(()),
    }
}

/// What is there must be what the renewal was planned on, or an earlier half of this very write.
fn agree(layout: &FileLayout, seen: Option<&Contents>, new: &CertifiedKey, based_on: &Basis) -> Result<(), StoreError> {
    let place = layout.location();
    insist_on_keeping(layout, seen)?;
    let there = seen.map(|contents| contents.chain.leaf.fingerprint);
    if there == based_on.fingerprint || there == Some(new.chain().leaf.fingerprint) {
        return Ok(());
    }
    let said = |fingerprint: Option<Fingerprint>| fingerprint.map_or("nothing".to_string(), |f| f.to_string());
    Err(StoreError::Conflict(format!("{place} held {}, now {}", said(based_on.fingerprint), said(there))))
}

fn not_understood(place: &std::path::Path, why: impl std::fmt::Display) -> Obstacle {
    Obstacle::new(ObstacleKind::NotUnderstood, format!("could not understand {}: {why}", place.display()))
}
