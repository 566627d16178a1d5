//! Certificates in files: PEM bundles in any order, DER, and directories laid out as `store::file` does.

mod walk;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Observed;
use super::target::is_glob;
use crate::domain::cert::Judged;
use crate::domain::inventory::{Found, Location, Observation, Obstacle, ObstacleKind, Part, Sighting};
use crate::domain::name::SourceName;
use crate::domain::time::Timestamp;
use crate::hardening::BrokenOff;
use crate::pki::NotUnderstood;
use crate::pki::bundle::{Bundle, Kept};
use crate::pki::roots::Roots;
use crate::store::file::{disk, is_kept_in, sight_directory};

/// For all that one pattern names. A file system that hangs for longer costs a thread, not the sweep.
const PATTERN_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct FileSource {
    pub name: SourceName,
    pub environment: Option<String>,
    /// Paths and globs (`*`, `?`, `[…]`, and `**` for any depth). A path that is there is never a glob.
    pub patterns: Vec<String>,
    pub roots: Arc<Roots>,
}

/// What one pattern leads to.
#[derive(Debug, Default)]
struct Seen {
    sightings: Vec<(Location, Sighting)>,
    failures: Vec<Obstacle>,
}

impl FileSource {
    pub async fn observe(&self, now: Timestamp) -> Observed {
        let mut observed = Observed::default();
        for pattern in &self.patterns {
            let seen = self.look(pattern).await;
            crate::pulse::beat();
            let observation = |(location, sighting)| self.observation(now, location, sighting);
            observed.observations.extend(seen.sightings.into_iter().map(observation));
            observed.failures.extend(seen.failures);
        }
        // A file that two patterns name is one file.
        observed.observations.sort_by(|a, b| a.location.cmp(&b.location));
        observed.observations.dedup_by(|a, b| a.location == b.location);
        observed
    }

    async fn look(&self, pattern: &str) -> Seen {
        let (text, roots) = (pattern.to_string(), self.roots.clone());
        let obstacle = match timeout(PATTERN_TIMEOUT, spawn_blocking(move || look(&text, &roots))).await {
            Ok(Ok(seen)) => return seen,
            Ok(Err(broken)) => Obstacle::new(
                ObstacleKind::Io,
                format!("the reading of {pattern} broke off: {}", BrokenOff::from(broken)),
            ),
            Err(_) => {
                let waited = PATTERN_TIMEOUT.as_secs();
                let message = format!("could not read {pattern} within {waited} s: see whether its file system hangs");
                Obstacle::new(ObstacleKind::Timeout, message)
            }
        };
        Seen { failures: vec![obstacle], ..Seen::default() }
    }

    fn observation(&self, now: Timestamp, location: Location, sighting: Sighting) -> Observation {
        Observation {
            location,
            source: self.name.clone(),
            environment: self.environment.clone(),
            observed_at: now,
            sighting,
            took: None,
        }
    }
}

fn look(pattern: &str, roots: &Roots) -> Seen {
    let path = Path::new(pattern);
    if !is_glob(pattern) || fs::symlink_metadata(path).is_ok() {
        return Seen { sightings: named(path, roots), ..Seen::default() };
    }
    let walk = walk::walk(pattern);
    let sightings = walk.paths.iter().flat_map(|path| matched(path, roots)).collect();
    Seen { sightings, failures: walk.failures }
}

/// A path that the operator wrote out: whatever is there is told.
fn named(path: &Path, roots: &Roots) -> Vec<(Location, Sighting)> {
    let sighting = match fs::metadata(path) {
        Ok(found) if found.is_dir() && is_kept_in(path) => sight_directory(path, roots),
        Ok(found) if found.is_dir() => {
            let message = format!(
                "{0} is a directory without a cert.pem: name a file, or a glob such as {0}/*.pem",
                path.display()
            );
            Sighting::Unknown(Obstacle::new(ObstacleKind::NotUnderstood, message))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Sighting::Absent,
        // Reading it says what is wrong.
        Ok(_) | Err(_) => match disk::read(path) {
            Ok(Some(bytes)) => return parts(path, Bundle::parse(&bytes).and_then(|bundle| bundle.chains()), roots),
            Ok(None) => Sighting::Absent,
            Err(obstacle) => Sighting::Unknown(obstacle),
        },
    };
    vec![(location(path), sighting)]
}

/// A path that a glob came across: what is no certificate is none of its business.
fn matched(path: &Path, roots: &Roots) -> Vec<(Location, Sighting)> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() && is_kept_in(path) => vec![(location(path), sight_directory(path, roots))],
        Ok(found) if !found.is_file() => Vec::new(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Ok(_) | Err(_) => match disk::read(path) {
            Ok(Some(bytes)) => match Bundle::parse(&bytes) {
                Ok(bundle) if bundle.certificates.is_empty() && !claims_a_certificate(path, &bytes) => Vec::new(),
                Err(_) if !claims_a_certificate(path, &bytes) => Vec::new(),
                parsed => parts(path, parsed.and_then(|bundle| bundle.chains()), roots),
            },
            Ok(None) => Vec::new(),
            Err(obstacle) => vec![(location(path), Sighting::Unknown(obstacle))],
        },
    }
}

/// A damaged certificate must not pass for something else.
fn claims_a_certificate(path: &Path, bytes: &[u8]) -> bool {
    const MARKER: &[u8] = b"-----BEGIN CERTIFICATE-----";
    let named = path.extension().is_some_and(|extension| extension == "crt" || extension == "cer");
    named || bytes.windows(MARKER.len()).any(|window| window == MARKER)
}

fn parts(path: &Path, chains: Result<Vec<Kept>, NotUnderstood>, roots: &Roots) -> Vec<(Location, Sighting)> {
    let place = location(path);
    match chains {
        Ok(chains) => {
            let alone = chains.len() == 1;
            let seen = |(i, kept)| {
                let at = if alone { place.clone() } else { place.with_part(Some(Part::nth(i + 1))) };
                let sighting = found(&at, kept, roots);
                (at, sighting)
            };
            chains.into_iter().enumerate().map(seen).collect()
        }
        Err(why) => {
            let message = format!("could not understand {}: {why}", path.display());
            vec![(place, Sighting::Unknown(Obstacle::new(ObstacleKind::NotUnderstood, message)))]
        }
    }
}

fn found(at: &Location, kept: Kept, roots: &Roots) -> Sighting {
    let Judged { trust, paths } = match roots.judge(&kept.ders) {
        Ok(judged) => judged,
        Err(too_costly) => return too_costly.sighting(at),
    };
    Sighting::Found(Box::new(Found {
        trust,
        stored_key: kept.key_digest(),
        deleted_at: None,
        chain: kept.chain.in_short(),
        version: None,
        revoked_at: None,
        is_settled: false,
        handshake: None,
        paths,
        unwritable: None,
    }))
}

fn location(path: &Path) -> Location {
    Location::File { path: PathBuf::from(path), part: None }
}
