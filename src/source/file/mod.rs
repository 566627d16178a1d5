//! Certificates in files: PEM bundles in any order, DER, PKCS#7, keystores, and directories laid out as `store::file`
//! does.

mod contents;
mod walk;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use self::contents::Contents;
use super::Observed;
use super::target::is_glob;
use crate::domain::cert::Judged;
use crate::domain::inventory::{Found, Location, Observation, Obstacle, ObstacleKind, Part, PassedOver, Sighting};
use crate::domain::name::SourceName;
use crate::domain::time::Timestamp;
use crate::hardening::BrokenOff;
use crate::pki::NotUnderstood;
use crate::pki::bundle::Kept;
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
    passed_over: Vec<PassedOver>,
}

impl Seen {
    fn pass_over(&mut self, path: &Path, what: &'static str) {
        self.passed_over.push(PassedOver { location: location(path), what });
    }
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
            observed.passed_over.extend(seen.passed_over);
        }
        // A file that two patterns name is one file.
        observed.observations.sort_by(|a, b| a.location.cmp(&b.location));
        observed.observations.dedup_by(|a, b| a.location == b.location);
        observed.passed_over.sort_by(|a, b| a.location.cmp(&b.location));
        observed.passed_over.dedup();
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
    let mut seen = Seen { failures: walk.failures, ..Seen::default() };
    walk.paths.iter().for_each(|path| matched(path, roots, &mut seen));
    seen
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
            Ok(Some(bytes)) => match contents::of(&bytes, true) {
                Contents::Certificates(chains) => return parts(path, chains, roots),
                Contents::Other(what) => not_understood(path, &format!("it holds {what}")),
            },
            Ok(None) => Sighting::Absent,
            Err(obstacle) => Sighting::Unknown(obstacle),
        },
    };
    vec![(location(path), sighting)]
}

/// A path that a glob came across. Whatever it is, it is accounted for.
fn matched(path: &Path, roots: &Roots, seen: &mut Seen) {
    let sighting = match fs::metadata(path) {
        Ok(found) if found.is_dir() && is_kept_in(path) => sight_directory(path, roots),
        // The directory is no certificate, and what is in it is not what the pattern names.
        Ok(found) if found.is_dir() => return,
        Ok(found) if !found.is_file() => return seen.pass_over(path, "no regular file"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(path) {
            Ok(_) => not_understood(path, "it is a link to nothing"),
            // Gone since the directory was listed.
            Err(_) => return,
        },
        Ok(_) | Err(_) => match disk::read(path) {
            Ok(Some(bytes)) => match contents::of(&bytes, claims_a_certificate(path)) {
                Contents::Certificates(chains) => return seen.sightings.extend(parts(path, chains, roots)),
                Contents::Other(what) => return seen.pass_over(path, what),
            },
            Ok(None) => return,
            Err(obstacle) => Sighting::Unknown(obstacle),
        },
    };
    seen.sightings.push((location(path), sighting));
}

fn not_understood(path: &Path, why: &str) -> Sighting {
    let message = format!("could not understand {}: {why}", path.display());
    Sighting::Unknown(Obstacle::new(ObstacleKind::NotUnderstood, message))
}

/// Extensions of files that hold a certificate: what is called so and holds none is damaged, unless it is something else
/// that has a name.
const EXTENSIONS: [&str; 11] = ["pem", "crt", "cer", "der", "cert", "p12", "pfx", "jks", "p7b", "p7c", "keystore"];

fn claims_a_certificate(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()))
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
        Err(why) => vec![(place, not_understood(path, &why.to_string()))],
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
