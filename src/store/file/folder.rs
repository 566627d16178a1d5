//! A directory that is opened once. All work in it goes by its descriptor and follows no link.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, mkdirat, openat, readlinkat, renameat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::disk::failed;
use crate::files::Trust;
use crate::files::way::{End, LastLink, Owners, Walk, WayError};
use crate::store::StoreError;

/// For directories that replace none: the group may be let in without opening the private key to it.
pub(super) const NEW_DIRECTORY_MODE: u32 = 0o750;

pub(super) struct Folder {
    pub file: File,
    pub path: PathBuf,
}

/// Where a file store keeps something: a name in a directory that only its owner, root and certd may change.
pub(super) struct Spot {
    pub folder: Folder,
    pub name: OsString,
    /// The way led through an operator's link, which stays.
    pub is_linked: bool,
}

impl Spot {
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path.join(&self.name)
    }

    /// A name beside it, hidden from globs.
    pub(super) fn beside(&self, suffix: &str) -> OsString {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(".");
        name.push(suffix);
        name
    }
}

/// Opens the directory of a place and makes it where it is missing.
///
/// # Errors
/// `Held` where others may change the way to it, or write in it.
pub(super) fn reach(path: &Path, last_link: LastLink) -> Result<Spot, StoreError> {
    let end = walk(path, last_link, Some(NEW_DIRECTORY_MODE))?;
    let End { parent, name, is_linked, .. } = end.expect("a walk that makes directories arrives");
    parent.insist_on_no_other_writers(&Trust::own()).map_err(refused)?;
    let file = parent.readable().map_err(failed("open", &parent.path))?;
    Ok(Spot { folder: Folder { file, path: parent.path }, name, is_linked })
}

/// Judges the way to a place as [`reach`] does, and makes nothing.
pub(super) fn judge(path: &Path, last_link: LastLink) -> Result<(), StoreError> {
    match walk(path, last_link, None)? {
        Some(end) => end.parent.insist_on_no_other_writers(&Trust::own()).map_err(refused),
        None => Ok(()),
    }
}

fn walk(path: &Path, last_link: LastLink, make: Option<u32>) -> Result<Option<End>, StoreError> {
    Walk { trust: Trust::own(), owners: Owners::AnyoneInTurn, last_link, make }.to(path).map_err(refused)
}

fn refused(error: WayError) -> StoreError {
    match error {
        WayError::Io { doing, path, source } => failed(doing, &path)(source),
        other => StoreError::Held(format!("no private key is written there: {other}")),
    }
}

impl Folder {
    fn shown(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// Returns what stands there, which may be a link; `None` where nothing stands.
    pub(super) fn look_at(&self, name: &OsStr) -> Result<Option<Metadata>, StoreError> {
        match openat(&self.file, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(found) => File::from(found).metadata().map(Some).map_err(failed("look at", &self.shown(name))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("look at", &self.shown(name))(error)),
        }
    }

    /// Opens a file to learn its rights.
    pub(super) fn open_file(&self, name: &OsStr) -> Result<Option<File>, StoreError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match openat(&self.file, name, flags, Mode::empty()) {
            Ok(opened) => Ok(Some(File::from(opened))),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP) => Err(planted(&self.shown(name))),
            Err(error) => Err(failed("open", &self.shown(name))(error)),
        }
    }

    /// Opens a directory in it that certd made, or that nobody else could have planted.
    pub(super) fn below(&self, name: &OsStr) -> Result<Option<Self>, StoreError> {
        let path = self.shown(name);
        let file = match open_directory(&self.file, name) {
            Ok(opened) => File::from(opened),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(planted(&path)),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        Ok(Some(Self { file, path }))
    }

    /// # Errors
    /// `Held` where the directory is somebody else's than its parent's, or others may write to it.
    pub(super) fn insist_on_no_other_writers(&self, parent: &Self) -> Result<(), StoreError> {
        let (found, above) = (self.metadata()?, parent.metadata()?);
        let owner = found.uid();
        if !Trust::own().has_user(owner) && owner != above.uid() {
            return Err(refused(WayError::Owner { path: self.path.clone(), owner }));
        }
        self.insist_on_closed(&found)
    }

    pub(super) fn insist_on_closed(&self, found: &Metadata) -> Result<(), StoreError> {
        match Trust::own().others_may_write(&self.file, found).map_err(failed("read the ACL of", &self.path))? {
            false => Ok(()),
            true => {
                let (path, mode, group) = (self.path.clone(), found.mode(), found.gid());
                Err(refused(WayError::Writable { path, mode, group }))
            }
        }
    }

    pub(super) fn metadata(&self) -> Result<Metadata, StoreError> {
        self.file.metadata().map_err(failed("look at", &self.path))
    }

    pub(super) fn make(&self, name: &OsStr, mode: u32) -> Result<Self, StoreError> {
        let path = self.shown(name);
        mkdirat(&self.file, name, Mode::from_raw_mode(mode)).map_err(failed("make the directory", &path))?;
        self.below(name)?.ok_or_else(|| failed("open", &path)(Errno::NOENT))
    }

    /// Sets the mode of the directory itself, whose group stays the group of what is made in it.
    pub(super) fn set_mode(&self, mode: u32) -> Result<(), StoreError> {
        let mode = mode | (self.metadata()?.mode() & SETGID);
        self.file.set_permissions(Permissions::from_mode(mode)).map_err(failed("set the mode of", &self.path))
    }

    pub(super) fn create(&self, name: &OsStr, mode: u32) -> Result<File, StoreError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let created = openat(&self.file, name, flags, Mode::from_raw_mode(mode));
        Ok(File::from(created.map_err(failed("create", &self.shown(name)))?))
    }

    pub(super) fn remove_file(&self, name: &OsStr) -> Result<(), StoreError> {
        match unlinkat(&self.file, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed("remove", &self.shown(name))(error)),
        }
    }

    pub(super) fn remove_directory(&self, name: &OsStr) -> Result<(), StoreError> {
        unlinkat(&self.file, name, AtFlags::REMOVEDIR).map_err(failed("remove", &self.shown(name)))
    }

    /// Removes what stands there, with all in it. A link is removed, and what it leads to stays.
    pub(super) fn remove_all(&self, name: &OsStr) -> Result<(), StoreError> {
        match open_directory(&self.file, name) {
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTDIR | Errno::LOOP) => return self.remove_file(name),
            Err(error) => return Err(failed("open", &self.shown(name))(error)),
            Ok(opened) => {
                let below = Self { file: File::from(opened), path: self.shown(name) };
                for name in below.names()? {
                    below.remove_all(&name)?;
                }
            }
        }
        self.remove_directory(name)
    }

    pub(super) fn names(&self) -> Result<Vec<OsString>, StoreError> {
        let listed = || -> io::Result<Vec<OsString>> {
            let mut names = Vec::new();
            for entry in Dir::read_from(&self.file)? {
                let entry = entry?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                if name != "." && name != ".." {
                    names.push(name.to_os_string());
                }
            }
            Ok(names)
        };
        listed().map_err(failed("list", &self.path))
    }

    pub(super) fn read_link(&self, name: &OsStr) -> Result<PathBuf, StoreError> {
        let target = readlinkat(&self.file, name, Vec::new()).map_err(failed("follow", &self.shown(name)))?;
        Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
    }

    pub(super) fn make_link(&self, target: &Path, name: &OsStr) -> Result<(), StoreError> {
        symlinkat(target, &self.file, name).map_err(failed("make the link", &self.shown(name)))
    }

    pub(super) fn rename(&self, from: &OsStr, to: &OsStr) -> Result<(), StoreError> {
        renameat(&self.file, from, &self.file, to).map_err(failed("put in place", &self.shown(to)))
    }

    /// Makes its names durable: a rename is on disk only when its directory is.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_all().map_err(failed("make durable", &self.path))
    }
}

const SETGID: u32 = 0o2000;

fn open_directory(above: &File, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat(above, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn planted(path: &Path) -> StoreError {
    StoreError::Held(format!(
        "{} is a link or a file where certd keeps a directory or file of its own: find out who made it, then remove it",
        path.display()
    ))
}
