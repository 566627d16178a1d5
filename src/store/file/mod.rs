//! Certified keys in files: one combined PEM, a directory switched by one rename, or two loose files.
//!
//! Whoever opens the file, or the directory once, sees a key and a chain that belong together. Owner,
//! group and mode of what is replaced are kept. Everything here blocks, so it runs beside the runtime.

mod bundle;
mod directory;
pub(crate) mod disk;
mod folder;
mod loose;
mod rights;

use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use rights::Content;

use super::{StoreError, Written};
use crate::domain::cert::{Chain, Fingerprint, KeyDigest};
use crate::domain::inventory::{Found, Location, Obstacle, ObstacleKind, Sighting};
use crate::domain::plan::Basis;
use crate::domain::renewal::CertifiedKey;
use crate::files::way::LastLink;
use crate::hardening::BrokenOff;
use crate::pki::bundle::Bundle;
use crate::pki::roots::Roots;
use crate::pki::{self, NotUnderstood};

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
            Self::Bundle(path) => disk::Draft::new(path, "", Content::PrivateKey).map(drop),
            Self::Directory(path) => directory::rehearse(path),
            Self::Loose { certificate, private_key } => disk::Draft::new(private_key, "", Content::PrivateKey)
                .and_then(|_| disk::Draft::new(certificate, "", Content::Certificates))
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
        let (layout, new, based_on) = (self.layout.clone(), Texts::of(certified), *based_on);
        let write = move || write(&layout, &new, &based_on);
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
            Ok(trust) => Sighting::Found(Box::new(Found {
                trust,
                chain: contents.chain,
                stored_key: contents.key,
                deleted_at: None,
                version: None,
                revoked_at: None,
                is_settled: false,
            })),
        },
        Err(obstacle) => Sighting::Unknown(obstacle),
    }
}

/// What is kept at a place now.
#[derive(Debug)]
struct Contents {
    chain: Chain,
    ders: Vec<Vec<u8>>,
    key: Option<KeyDigest>,
    /// What a write would lose: a key that cannot be read, or a second certificate.
    unkept: Option<NotUnderstood>,
}

impl Contents {
    /// Of all that was read from one place; one leaf it must be.
    fn of(bundle: &Bundle, place: &std::path::Path) -> Result<Self, Obstacle> {
        let chains = bundle.chains().map_err(|why| not_understood(place, why))?;
        let Ok([kept]) = <[_; 1]>::try_from(chains) else {
            return Err(not_understood(
                place,
                "it holds several certificates, and a store keeps one: move the others away",
            ));
        };
        let kept = kept.proven();
        let unkept = bundle.insist_on_keys().and_then(|()| bundle.insist_on_one()).err();
        Ok(Self { key: kept.key_digest(), unkept, chain: kept.chain, ders: kept.ders })
    }
}

/// A certified key as the text that goes to disk.
struct Texts {
    leaf: String,
    intermediates: String,
    key: Zeroizing<String>,
    ders: Vec<Vec<u8>>,
    fingerprint: Fingerprint,
    public: KeyDigest,
}

impl Texts {
    fn of(certified: &CertifiedKey) -> Self {
        let (leaf, intermediates) = certified.ders().split_at(1);
        Self {
            leaf: pki::pem::certificates(leaf),
            intermediates: pki::pem::certificates(intermediates),
            key: pki::key::to_pem(certified.key()),
            ders: certified.ders().to_vec(),
            fingerprint: certified.chain().leaf.fingerprint,
            public: certified.key().public,
        }
    }

    /// Only rehearsed with.
    fn blank() -> Self {
        Self {
            leaf: String::new(),
            intermediates: String::new(),
            key: Zeroizing::default(),
            ders: Vec::new(),
            fingerprint: Fingerprint([0; 32]),
            public: KeyDigest([0; 32]),
        }
    }

    fn full_chain(&self) -> String {
        [self.leaf.as_str(), self.intermediates.as_str()].concat()
    }

    fn is_kept(&self, contents: &Contents) -> bool {
        contents.ders == self.ders && contents.key == Some(self.public)
    }
}

fn write(layout: &FileLayout, new: &Texts, based_on: &Basis) -> Result<Written, StoreError> {
    let seen = layout.look().map_err(|obstacle| StoreError::Held(obstacle.message))?;
    if seen.as_ref().is_some_and(|contents| new.is_kept(contents)) {
        return Ok(Written { version: None, unchanged: true });
    }
    agree(layout, seen.as_ref(), new, based_on)?;
    layout.replace(new)?;
    Ok(Written { version: None, unchanged: false })
}

fn rehearse(layout: &FileLayout) -> Result<(), StoreError> {
    let seen = layout.look().map_err(|obstacle| StoreError::Held(obstacle.message))?;
    insist_on_keeping(layout, seen.as_ref())?;
    layout.rehearse()
}

fn insist_on_keeping(layout: &FileLayout, seen: Option<&Contents>) -> Result<(), StoreError> {
    match seen.and_then(|contents| contents.unkept.as_ref()) {
        Some(why) => {
            let place = layout.location();
            Err(StoreError::Held(format!("{place} holds {why}: move it away first, or it would be lost")))
        }
        None => Ok(()),
    }
}

/// What is there must be what the renewal was planned on, or an earlier half of this very write.
fn agree(layout: &FileLayout, seen: Option<&Contents>, new: &Texts, based_on: &Basis) -> Result<(), StoreError> {
    let place = layout.location();
    insist_on_keeping(layout, seen)?;
    let there = seen.map(|contents| contents.chain.leaf.fingerprint);
    if there == based_on.fingerprint || there == Some(new.fingerprint) {
        return Ok(());
    }
    let said = |fingerprint: Option<Fingerprint>| fingerprint.map_or("nothing".to_string(), |f| f.to_string());
    Err(StoreError::Conflict(format!("{place} held {}, now {}", said(based_on.fingerprint), said(there))))
}

fn not_understood(place: &std::path::Path, why: impl std::fmt::Display) -> Obstacle {
    Obstacle::new(ObstacleKind::NotUnderstood, format!("could not understand {}: {why}", place.display()))
}
