//! A directory `NAME` that is a link to its current generation, `.NAME.certd/7`: one rename of the
//! link switches all its files, and the generation before stays for those that still read it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::contents::{Contents, Role, Texts};
use super::folder::{self, Folder, Spot};
use super::rights::{self, Content, Narrowed};
use super::{disk, not_understood};
use crate::domain::inventory::{Obstacle, ObstacleKind};
use crate::failpoint;
use crate::files::way::LastLink;
use crate::pki::bundle::Bundle;
use crate::store::StoreError;

const LEAF: &str = "cert.pem";
const INTERMEDIATES: &str = "chain.pem";
const FULL_CHAIN: &str = "fullchain.pem";
const KEY: &str = "privkey.pem";
const FILES: [&str; 4] = [LEAF, INTERMEDIATES, FULL_CHAIN, KEY];
const ROLES: [Role; 4] = [Role::Leaf, Role::Intermediates, Role::FullChain, Role::Key];

/// A reader loses the race against two switches in a row; against this many nobody does.
const MOST_LOOKS: usize = 5;

/// Everybody may pass, as each generation has rights of its own.
const GENERATIONS_MODE: u32 = 0o755;

/// Whether the path is a directory with a certificate in it.
pub(crate) fn is_kept_in(path: &Path) -> bool {
    fs::symlink_metadata(path.join(LEAF)).is_ok()
}

/// Returns the file of the private key in such a directory.
pub(crate) fn key_file(path: &Path) -> PathBuf {
    path.join(KEY)
}

pub(super) fn look(path: &Path) -> Result<Option<Contents>, Obstacle> {
    for _ in 0..MOST_LOOKS {
        let Some(generation) = resolve(path)? else { return Ok(None) };
        match look_in(&generation, path) {
            Ok(Some(contents)) => return Ok(Some(contents)),
            // A generation that is no longer current may be gone, in part or altogether.
            seen if resolve(path)?.as_ref() == Some(&generation) => return seen,
            Ok(None) | Err(_) => {}
        }
    }
    Err(Obstacle::new(ObstacleKind::Io, format!("{} changes faster than it can be read", path.display())))
}

/// The link is followed once, so that all files are of one generation.
fn resolve(path: &Path) -> Result<Option<PathBuf>, Obstacle> {
    match fs::canonicalize(path) {
        Ok(generation) => Ok(Some(generation)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(disk::obstacle("follow", path, &error)),
    }
}

fn look_in(generation: &Path, path: &Path) -> Result<Option<Contents>, Obstacle> {
    if !generation.is_dir() {
        return Err(not_understood(path, "it is not a directory: name its directory, or use a bundle"));
    }
    let (mut parts, mut files) = (Vec::with_capacity(FILES.len()), Vec::with_capacity(FILES.len()));
    let mut missing = Vec::new();
    for (name, role) in FILES.into_iter().zip(ROLES) {
        match disk::read(&generation.join(name))? {
            Some(bytes) => {
                parts.push(Bundle::parse(&bytes).map_err(|why| not_understood(&path.join(name), why))?);
                files.push((role, Some(bytes)));
            }
            None => missing.push(name),
        }
    }
    let Ok([mut leaf, intermediates, full_chain, key]) = <[Bundle; 4]>::try_from(parts) else {
        return absent_or_partial(&missing, path);
    };
    let wrong = if leaf.certificates.len() != 1 {
        format!("{LEAF} must hold one certificate, and it holds {}", leaf.certificates.len())
    } else if full_chain.certificates != [&leaf.certificates[..], &intermediates.certificates].concat() {
        format!("{FULL_CHAIN} is not {LEAF} and {INTERMEDIATES}")
    } else if key.keys.is_empty() && key.unread_keys.is_empty() {
        format!("{KEY} holds no private key")
    } else {
        leaf.add(intermediates);
        leaf.add(Bundle { certificates: Vec::new(), ..key });
        return Contents::of(&leaf, path, files).map(Some);
    };
    Err(not_understood(path, wrong))
}

fn absent_or_partial(missing: &[&str], path: &Path) -> Result<Option<Contents>, Obstacle> {
    match missing.len() == FILES.len() {
        true => Ok(None),
        false => Err(not_understood(path, format!("it lacks {}: complete it or empty it", missing.join(", ")))),
    }
}

/// Everything but the switch.
pub(super) fn rehearse(path: &Path) -> Result<(), StoreError> {
    let next = prepare(path, &Texts::blank())?;
    next.place.discard(&next.name);
    Ok(())
}

pub(super) fn replace(path: &Path, new: &Texts) -> Result<(), StoreError> {
    let Next { place, name, narrowed } = prepare(path, new)?;
    place.switch_to(&name)?;
    narrowed.iter().for_each(Narrowed::tell);
    if let Err(error) = place.prune(|kept| kept == name || Some(kept) == place.current_name()) {
        tracing::warn!(directory = %path.display(), %error, "an old generation stays until the next renewal");
    }
    Ok(())
}

/// A generation that is complete and not yet current.
struct Next {
    place: Place,
    name: String,
    narrowed: Vec<Narrowed>,
}

fn prepare(path: &Path, new: &Texts) -> Result<Next, StoreError> {
    let place = Place::of(path)?;
    place.insist_on_nothing_else()?;
    let name = place.begin()?;
    match place.fill(&name, new) {
        Ok(narrowed) => Ok(Next { place, name, narrowed }),
        Err(error) => {
            place.discard(&name);
            Err(error)
        }
    }
}

/// What is there before the switch.
struct Place {
    /// The name that is a link, in the directory that holds it.
    spot: Spot,
    generations: Folder,
    current: Current,
}

enum Current {
    Nothing,
    /// A directory somebody made for it; its owner and mode are to be kept.
    Empty(Folder),
    Generation {
        name: String,
        folder: Folder,
    },
}

impl Place {
    fn of(path: &Path) -> Result<Self, StoreError> {
        let spot = folder::reach(path, LastLink::Kept)?;
        let generations = generations(&spot)?;
        let shown = spot.path();
        let current = match spot.folder.look_at(&spot.name)? {
            None => Current::Nothing,
            Some(found) if found.is_symlink() => linked(&spot, &generations)?,
            Some(found) if found.is_dir() => match spot.folder.below(&spot.name)? {
                Some(folder) if folder.names()?.is_empty() => Current::Empty(folder),
                Some(_) => return Err(full_directory(&shown)),
                None => Current::Nothing,
            },
            Some(_) => return Err(StoreError::Held(format!("{} is not a directory: move it away", shown.display()))),
        };
        Ok(Self { spot, generations, current })
    }

    fn current_name(&self) -> Option<&str> {
        match &self.current {
            Current::Generation { name, .. } => Some(name),
            Current::Nothing | Current::Empty(_) => None,
        }
    }

    /// The directory whose rights the next generation takes over.
    fn replaced(&self) -> Option<&Folder> {
        match &self.current {
            Current::Empty(folder) | Current::Generation { folder, .. } => Some(folder),
            Current::Nothing => None,
        }
    }

    /// Whatever else lies beside the four files would be out of sight after the switch.
    fn insist_on_nothing_else(&self) -> Result<(), StoreError> {
        let Some(folder) = self.replaced() else { return Ok(()) };
        // Who may write there could plant a file whose rights the next private key takes over.
        folder.insist_on_closed(&folder.metadata()?)?;
        match folder.names()?.into_iter().find(|name| !FILES.iter().any(|file| name == file)) {
            None => Ok(()),
            Some(name) => {
                let shown = self.spot.path().join(name);
                Err(StoreError::Held(format!("{} would be lost: move it away", shown.display())))
            }
        }
    }

    /// Clears what a crash left and names the next generation: one more than the last.
    fn begin(&self) -> Result<String, StoreError> {
        self.generations.set_mode(GENERATIONS_MODE)?;
        let current = self.current_name().and_then(number);
        self.prune(|name| current.is_none() || number(name) <= current)?;
        let last = self.numbers()?.into_iter().max().unwrap_or(0);
        Ok((last + 1).to_string())
    }

    fn numbers(&self) -> Result<Vec<u64>, StoreError> {
        Ok(self.generations.names()?.iter().filter_map(|name| number(&name.to_string_lossy())).collect())
    }

    /// Removes generations; whatever else lies there is left alone.
    fn prune(&self, keep: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        for name in self.numbers()?.iter().map(u64::to_string).filter(|name| !keep(name)) {
            self.generations.remove_all(OsStr::new(&name))?;
        }
        Ok(())
    }

    fn fill(&self, name: &str, new: &Texts) -> Result<Vec<Narrowed>, StoreError> {
        let generation = self.generations.make(OsStr::new(name), 0o700)?;
        let mut narrowed = Vec::new();
        for (name, role) in FILES.into_iter().zip(ROLES) {
            let content = if new.has_key(role) { Content::PrivateKey } else { Content::Certificates };
            let name = OsStr::new(name);
            let replaces = self.replaced().map(|folder| (folder, name));
            narrowed.extend(disk::write_new(&generation, name, new.of(role), content, replaces)?);
        }
        match self.replaced() {
            Some(replaced) => {
                let path = &generation.path;
                narrowed.extend(rights::keep(&generation.file, path, &replaced.file, Content::Directory)?);
            }
            None => generation.set_mode(folder::NEW_DIRECTORY_MODE)?,
        }
        generation.sync()?;
        self.generations.sync()?;
        Ok(narrowed)
    }

    /// What cannot be removed now is removed before the next generation.
    fn discard(&self, name: &str) {
        let _ = self.generations.remove_all(OsStr::new(name));
    }

    fn switch_to(&self, name: &str) -> Result<(), StoreError> {
        let Spot { folder, name: link, .. } = &self.spot;
        let draft = self.spot.beside("certd-link");
        folder.remove_file(&draft)?;
        failpoint::reached("generation_written");
        folder.make_link(&Path::new(&self.spot.beside("certd")).join(name), &draft)?;
        failpoint::reached("link_drafted");
        if let Current::Empty(_) = self.current {
            folder.remove_directory(link)?;
        }
        folder.rename(&draft, link)?;
        failpoint::reached("link_switched");
        folder.sync()
    }
}

/// Opens the directory of generations; made if it is not there yet.
fn generations(spot: &Spot) -> Result<Folder, StoreError> {
    let name = spot.beside("certd");
    let opened = match spot.folder.below(&name)? {
        Some(there) => there,
        None => {
            let made = spot.folder.make(&name, GENERATIONS_MODE)?;
            spot.folder.sync()?;
            made
        }
    };
    opened.insist_on_no_other_writers(&spot.folder)?;
    Ok(opened)
}

/// Only generations are called by a number.
fn number(name: &str) -> Option<u64> {
    name.parse().ok().filter(|number: &u64| number.to_string() == name)
}

/// A link of somebody else's making is not ours to move.
fn linked(spot: &Spot, generations: &Folder) -> Result<Current, StoreError> {
    let target = spot.folder.read_link(&spot.name)?;
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if number(&name).is_none() || target.parent() != Some(Path::new(&spot.beside("certd"))) {
        return Err(StoreError::Held(format!(
            "{} is a link that certd did not make, to {}: name that place instead, or remove the link",
            spot.path().display(),
            target.display()
        )));
    }
    match generations.below(OsStr::new(&name))? {
        Some(folder) => Ok(Current::Generation { name, folder }),
        None => Ok(Current::Nothing),
    }
}

fn full_directory(path: &Path) -> StoreError {
    StoreError::Held(format!(
        "{} is a directory of its own, which no rename can switch: move it away once, and certd makes a link there",
        path.display()
    ))
}
