//! Reading within bounds, and replacing a file so that a crash leaves the old one or the new one.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::domain::inventory::{Obstacle, ObstacleKind};
use crate::failpoint;
use crate::store::StoreError;

/// In bytes. The CA bundle of an operating system has a fifth of it, and a key with its chain a hundredth.
pub(crate) const LARGEST_FILE: u64 = 1024 * 1024;

/// For files that replace none.
pub(super) const NEW_FILE_MODE: u32 = 0o600;

/// For directories that replace none: the group may be let in without opening the private key to it.
pub(super) const NEW_DIRECTORY_MODE: u32 = 0o750;

/// `None` where nothing is. Devices and pipes are never opened, for opening one may do something.
pub(crate) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, Obstacle> {
    let opened = match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(irregular(path)),
        Ok(_) => open(path),
        Err(error) => Err(error),
    };
    match opened {
        Ok((file, found)) => read_bounded(path, file, &found).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(obstacle("read", path, &error)),
    }
}

/// What was a file a moment ago may be a pipe by now: opening must not wait for its other end.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
    let found = file.metadata()?;
    Ok((file, found))
}

fn read_bounded(path: &Path, file: File, found: &Metadata) -> Result<Zeroizing<Vec<u8>>, Obstacle> {
    if !found.is_file() {
        return Err(irregular(path));
    }
    // Room for everything at once: a buffer that grows leaves copies of the key behind.
    let room = usize::try_from(found.len().min(LARGEST_FILE)).unwrap_or(0) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(|error| obstacle("read", path, &error))?;
    if bytes.len() as u64 > LARGEST_FILE {
        let message = format!("{} has more than {LARGEST_FILE} bytes: a certificate file has not", path.display());
        return Err(Obstacle::new(ObstacleKind::TooLarge, message));
    }
    Ok(bytes)
}

fn irregular(path: &Path) -> Obstacle {
    let message = format!("{} is neither a file nor a directory of certificates: name a file", path.display());
    Obstacle::new(ObstacleKind::NotUnderstood, message)
}

pub(crate) fn obstacle(doing: &str, path: &Path, error: &io::Error) -> Obstacle {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let message = format!("could not {doing} {}: {error}: let certd's user or group in", path.display());
            Obstacle::new(ObstacleKind::Denied, message)
        }
        _ => Obstacle::new(ObstacleKind::Io, format!("could not {doing} {}: {error}", path.display())),
    }
}

pub(super) fn failed(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let doing = format!("{doing} {}", path.display());
    move |source| StoreError::Failed { doing, source: Box::new(source) }
}

/// `None` where nothing is; a link is not followed.
pub(super) fn look_at(path: &Path) -> Result<Option<Metadata>, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at", path)(error)),
    }
}

/// The name of a file beside `path`, hidden from globs.
pub(super) fn beside(path: &Path, suffix: &str) -> Result<PathBuf, StoreError> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.join(format!(".{}.{suffix}", name.to_string_lossy()))),
        _ => Err(StoreError::Held(format!("{} has no name of its own: name a file or directory", path.display()))),
    }
}

/// The directory that holds `path`; made if it is not there yet.
pub(super) fn ready_parent(path: &Path) -> Result<PathBuf, StoreError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    if !parent.exists() {
        let above = ready_parent(&parent)?;
        let made = DirBuilder::new().mode(NEW_DIRECTORY_MODE).create(&parent);
        made.map_err(failed("make the directory", &parent))?;
        sync(&above)?;
    }
    Ok(parent)
}

/// A rename is on disk only when its directory is.
pub(super) fn sync(directory: &Path) -> Result<(), StoreError> {
    File::open(directory).and_then(|dir| dir.sync_all()).map_err(failed("make durable", directory))
}

/// A complete new file beside the one that it replaces; gone again unless it is put in place.
pub(super) struct Draft {
    path: PathBuf,
    target: PathBuf,
    placed: bool,
}

impl Draft {
    /// `text` is on disk when this returns. Links are followed, so that the link itself stays.
    pub(super) fn new(path: &Path, text: &str) -> Result<Self, StoreError> {
        let target = followed(path)?;
        let replaced = look_at(&target)?;
        if let Some(replaced) = &replaced {
            insist_on_plain(&target, replaced)?;
        }
        ready_parent(&target)?;
        let draft = Self { path: beside(&target, "certd-draft")?, target, placed: false };
        // A draft left by a crash keeps its own mode, so it must go first.
        remove_file(&draft.path)?;
        write_new(&draft.path, text, replaced.as_ref())?;
        failpoint::reached("file_drafted");
        Ok(draft)
    }

    pub(super) fn place(mut self) -> Result<(), StoreError> {
        fs::rename(&self.path, &self.target).map_err(failed("put in place", &self.target))?;
        self.placed = true;
        failpoint::reached("file_renamed");
        sync(&ready_parent(&self.target)?)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.placed {
            // What cannot be removed now is removed before the next draft.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where a path that may be a link leads.
fn followed(path: &Path) -> Result<PathBuf, StoreError> {
    match look_at(path)? {
        Some(found) if found.is_symlink() => fs::canonicalize(path).map_err(|error| {
            StoreError::Held(format!("{} is a link that leads nowhere ({error}): remove or mend it", path.display()))
        }),
        Some(_) | None => Ok(path.to_path_buf()),
    }
}

fn insist_on_plain(path: &Path, found: &Metadata) -> Result<(), StoreError> {
    let shown = path.display();
    match found.nlink() {
        _ if !found.is_file() => Err(StoreError::Held(format!("{shown} is not a file: move it away"))),
        0 | 1 => Ok(()),
        names => Err(StoreError::Held(format!(
            "{shown} has {names} names (hard links), and the others would keep the old certificate: \
             make them symbolic links"
        ))),
    }
}

pub(super) fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A file that was not there before, durable but for its name, with the rights of the one it replaces.
pub(super) fn write_new(path: &Path, text: &str, replaces: Option<&Metadata>) -> Result<(), StoreError> {
    let created = OpenOptions::new().write(true).create_new(true).mode(NEW_FILE_MODE).open(path);
    let mut file = created.map_err(failed("create", path))?;
    file.write_all(text.as_bytes()).map_err(failed("write", path))?;
    match replaces {
        Some(replaced) => keep_rights(&file, path, replaced)?,
        None => file.set_permissions(Permissions::from_mode(NEW_FILE_MODE)).map_err(failed("protect", path))?,
    }
    file.sync_all().map_err(failed("make durable", path))
}

/// The owner first: a change of owner clears some bits of the mode.
pub(super) fn keep_rights(file: &File, path: &Path, replaced: &Metadata) -> Result<(), StoreError> {
    let now = file.metadata().map_err(failed("look at", path))?;
    let kept = || -> io::Result<()> {
        if (now.uid(), now.gid()) != (replaced.uid(), replaced.gid()) {
            fchown(file, Some(replaced.uid()), Some(replaced.gid()))?;
        }
        file.set_permissions(Permissions::from_mode(replaced.mode() & 0o7777))
    };
    kept().map_err(|error| {
        StoreError::Held(format!(
            "owner {}, group {} and mode {:o} cannot be kept at {} ({error}): run certd as that owner or in that group",
            replaced.uid(),
            replaced.gid(),
            replaced.mode() & 0o7777,
            path.display()
        ))
    })
}
