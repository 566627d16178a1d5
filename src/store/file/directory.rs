//! A directory `NAME` that is a link to its current generation, `.NAME.certd/7`: one rename of the
//! link switches all its files, and the generation before stays for those that still read it.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::{Contents, Texts, disk, not_understood};
use crate::domain::inventory::{Obstacle, ObstacleKind};
use crate::failpoint;
use crate::pki::bundle::Bundle;
use crate::store::StoreError;

const LEAF: &str = "cert.pem";
const INTERMEDIATES: &str = "chain.pem";
const FULL_CHAIN: &str = "fullchain.pem";
const KEY: &str = "privkey.pem";
const FILES: [&str; 4] = [LEAF, INTERMEDIATES, FULL_CHAIN, KEY];

/// A reader loses the race against two switches in a row; against this many nobody does.
const MOST_LOOKS: usize = 5;

/// Everybody may pass, as each generation has rights of its own.
const GENERATIONS_MODE: u32 = 0o755;

/// Whether the path is a directory with a certificate in it.
pub(crate) fn is_kept_in(path: &Path) -> bool {
    fs::symlink_metadata(path.join(LEAF)).is_ok()
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
    let mut parts = Vec::with_capacity(FILES.len());
    let mut missing = Vec::new();
    for name in FILES {
        match disk::read(&generation.join(name))? {
            Some(bytes) => parts.push(Bundle::parse(&bytes).map_err(|why| not_understood(&path.join(name), why))?),
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
        return Contents::of(&leaf, path).map(Some);
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
    let (place, name) = prepare(&path.components().collect::<PathBuf>(), &Texts::blank())?;
    place.discard(&name);
    Ok(())
}

pub(super) fn replace(path: &Path, new: &Texts) -> Result<(), StoreError> {
    // With a slash at its end the link would be taken for what it leads to.
    let path = &path.components().collect::<PathBuf>();
    let (place, name) = prepare(path, new)?;
    place.switch_to(&name, path)?;
    if let Err(error) = place.prune(|kept| kept == name || Some(kept) == place.current_name()) {
        tracing::warn!(directory = %path.display(), %error, "an old generation stays until the next renewal");
    }
    Ok(())
}

/// The next generation, complete.
fn prepare(path: &Path, new: &Texts) -> Result<(Place, String), StoreError> {
    let place = Place::of(path)?;
    insist_on_nothing_else(path, &place.current)?;
    let name = place.begin()?;
    match place.fill(&place.generations.join(&name), new) {
        Ok(()) => Ok((place, name)),
        Err(error) => {
            place.discard(&name);
            Err(error)
        }
    }
}

/// What is there before the switch.
struct Place {
    /// The directory that holds the link.
    parent: PathBuf,
    generations: PathBuf,
    current: Current,
}

enum Current {
    Nothing,
    /// A directory somebody made for it; its owner and mode are to be kept.
    Empty(Metadata),
    Generation {
        name: String,
        path: PathBuf,
    },
}

impl Place {
    fn of(path: &Path) -> Result<Self, StoreError> {
        let parent = disk::ready_parent(path)?;
        let generations = disk::beside(path, "certd")?;
        let current = match disk::look_at(path)? {
            None => Current::Nothing,
            Some(found) if found.is_symlink() => linked(path, &generations)?,
            Some(found) if found.is_dir() => match is_empty(path)? {
                true => Current::Empty(found),
                false => return Err(full_directory(path)),
            },
            Some(_) => return Err(StoreError::Held(format!("{} is not a directory: move it away", path.display()))),
        };
        Ok(Self { parent, generations, current })
    }

    fn current_name(&self) -> Option<&str> {
        match &self.current {
            Current::Generation { name, .. } => Some(name),
            Current::Nothing | Current::Empty(_) => None,
        }
    }

    /// Clears what a crash left and names the next generation: one more than the last.
    fn begin(&self) -> Result<String, StoreError> {
        if disk::look_at(&self.generations)?.is_none() {
            fs::create_dir(&self.generations).map_err(disk::failed("make the directory", &self.generations))?;
            disk::sync(&self.parent)?;
        }
        let mode = Permissions::from_mode(GENERATIONS_MODE);
        fs::set_permissions(&self.generations, mode).map_err(disk::failed("set the mode of", &self.generations))?;
        let current = self.current_name().and_then(number);
        self.prune(|name| current.is_none() || number(name) <= current)?;
        let last = self.numbers()?.into_iter().max().unwrap_or(0);
        Ok((last + 1).to_string())
    }

    fn numbers(&self) -> Result<Vec<u64>, StoreError> {
        let failed = || disk::failed("list", &self.generations);
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.generations).map_err(failed())? {
            numbers.extend(number(&entry.map_err(failed())?.file_name().to_string_lossy()));
        }
        Ok(numbers)
    }

    /// Removes generations; whatever else lies there is left alone.
    fn prune(&self, keep: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        for name in self.numbers()?.iter().map(u64::to_string).filter(|name| !keep(name)) {
            let stale = self.generations.join(name);
            fs::remove_dir_all(&stale).map_err(disk::failed("remove", &stale))?;
        }
        Ok(())
    }

    fn fill(&self, generation: &Path, new: &Texts) -> Result<(), StoreError> {
        let made = DirBuilder::new().mode(0o700).create(generation);
        made.map_err(disk::failed("make the directory", generation))?;
        let full_chain = new.full_chain();
        let texts =
            [(LEAF, &new.leaf), (INTERMEDIATES, &new.intermediates), (FULL_CHAIN, &full_chain), (KEY, &new.key)];
        for (name, text) in texts {
            disk::write_new(&generation.join(name), text, self.replaced_file(name)?.as_ref())?;
        }
        let opened = File::open(generation).map_err(disk::failed("open", generation))?;
        match self.replaced_directory()? {
            Some(replaced) => disk::keep_rights(&opened, generation, &replaced)?,
            None => {
                let mode = Permissions::from_mode(disk::NEW_DIRECTORY_MODE);
                opened.set_permissions(mode).map_err(disk::failed("set the mode of", generation))?;
            }
        }
        opened.sync_all().map_err(disk::failed("make durable", generation))?;
        disk::sync(&self.generations)
    }

    /// What cannot be removed now is removed before the next generation.
    fn discard(&self, name: &str) {
        let _ = fs::remove_dir_all(self.generations.join(name));
    }

    fn replaced_file(&self, name: &str) -> Result<Option<Metadata>, StoreError> {
        match &self.current {
            Current::Generation { path, .. } => disk::look_at(&path.join(name)),
            Current::Nothing | Current::Empty(_) => Ok(None),
        }
    }

    fn replaced_directory(&self) -> Result<Option<Metadata>, StoreError> {
        match &self.current {
            Current::Nothing => Ok(None),
            Current::Empty(found) => Ok(Some(found.clone())),
            Current::Generation { path, .. } => disk::look_at(path),
        }
    }

    fn switch_to(&self, name: &str, path: &Path) -> Result<(), StoreError> {
        let draft = disk::beside(path, "certd-link")?;
        disk::remove_file(&draft)?;
        let folder = self.generations.file_name().expect("the folder of generations has a name");
        failpoint::reached("generation_written");
        symlink(Path::new(folder).join(name), &draft).map_err(disk::failed("make the link", &draft))?;
        failpoint::reached("link_drafted");
        if let Current::Empty(_) = self.current {
            fs::remove_dir(path).map_err(disk::failed("replace the empty directory", path))?;
        }
        fs::rename(&draft, path).map_err(disk::failed("switch", path))?;
        failpoint::reached("link_switched");
        disk::sync(&self.parent)
    }
}

/// Only generations are called by a number.
fn number(name: &str) -> Option<u64> {
    name.parse().ok().filter(|number: &u64| number.to_string() == name)
}

/// A link of somebody else's making is not ours to move.
fn linked(path: &Path, generations: &Path) -> Result<Current, StoreError> {
    let target = fs::read_link(path).map_err(disk::failed("follow", path))?;
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = generations.file_name().map(Path::new);
    if number(&name).is_none() || target.parent() != folder {
        return Err(StoreError::Held(format!(
            "{} is a link that certd did not make, to {}: name that place instead, or remove the link",
            path.display(),
            target.display()
        )));
    }
    let generation = generations.join(&name);
    match disk::look_at(&generation)? {
        Some(_) => Ok(Current::Generation { name, path: generation }),
        None => Ok(Current::Nothing),
    }
}

fn is_empty(path: &Path) -> Result<bool, StoreError> {
    Ok(fs::read_dir(path).map_err(disk::failed("list", path))?.next().is_none())
}

fn full_directory(path: &Path) -> StoreError {
    StoreError::Held(format!(
        "{} is a directory of its own, which no rename can switch: move it away once, and certd makes a link there",
        path.display()
    ))
}

/// Whatever else lies beside the four files would be out of sight after the switch.
fn insist_on_nothing_else(path: &Path, current: &Current) -> Result<(), StoreError> {
    let Current::Generation { path: generation, .. } = current else { return Ok(()) };
    let failed = || disk::failed("list", generation);
    for entry in fs::read_dir(generation).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        if !FILES.iter().any(|file| name == *file) {
            let shown = path.join(name);
            return Err(StoreError::Held(format!("{} would be lost: move it away", shown.display())));
        }
    }
    Ok(())
}
