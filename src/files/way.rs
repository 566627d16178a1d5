//! Walks to a file from the root, one directory at a time, and refuses a way that others can change.
//!
//! Every step is opened without following links and judged by its descriptor. What was judged is what is used.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, readlinkat};
use rustix::io::Errno;

use super::{STICKY, Trust, is_sticky};

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;

#[derive(Debug, thiserror::Error)]
pub enum WayError {
    #[error("others may write to {} (mode {:o}, group {group}): {}", path.display(), mode & 0o7777, advice(*mode, path))]
    Writable { path: PathBuf, mode: u32, group: u32 },
    #[error(
        "{} belongs to user {owner}, who is neither root nor the user that certd runs as: run chown root {}",
        path.display(), path.display()
    )]
    Owner { path: PathBuf, owner: u32 },
    #[error(
        "{} is a link that user {owner} made, who is neither root nor the user that certd runs as: remove it",
        path.display()
    )]
    Link { path: PathBuf, owner: u32 },
    #[error("more than {MOST_LINKS} links lead on from {}: remove the loop", .0.display())]
    TooManyLinks(PathBuf),
    #[error("{} is not a directory: move it away", .0.display())]
    NotADirectory(PathBuf),
    #[error("{} has no name of its own: name a file or directory", .0.display())]
    Nameless(PathBuf),
    #[error("could not {doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

/// A sticky directory is meant for everybody, so it keeps its mode.
fn advice(mode: u32, path: &Path) -> String {
    let change = match mode & 0o022 {
        _ if mode & STICKY != 0 => return "use a directory of its own instead".to_string(),
        0o002 => "o-w",
        0o020 => "g-w",
        _ => "go-w",
    };
    format!("run chmod {change} {}", path.display())
}

/// Who may own what stands on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Those trusted.
    Trusted,
    /// Anybody, but below a directory of somebody else everything on the way is theirs.
    AnyoneInTurn,
}

/// What is done with a link at the end of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    Followed,
    Kept,
}

#[derive(Clone, Debug)]
pub struct Walk {
    pub trust: Trust,
    pub owners: Owners,
    pub last_link: LastLink,
    /// The mode of the directories that are missing on the way; `None` makes none.
    pub make: Option<u32>,
}

/// The end of a way, which may be missing in its directory.
#[derive(Debug)]
pub struct End {
    pub parent: Step,
    pub name: OsString,
    pub last: Option<Step>,
    /// The way led through a link at its end.
    pub is_linked: bool,
}

/// A file or directory that is held open (`O_PATH`), where it really is.
#[derive(Debug)]
pub struct Step {
    pub file: File,
    pub path: PathBuf,
    pub found: Metadata,
}

impl Walk {
    /// Returns `None` where a directory on the way is missing and none is made.
    pub fn to(&self, path: &Path) -> Result<Option<End>, WayError> {
        let whole = std::path::absolute(path).map_err(failed("find", path))?;
        let mut rest: VecDeque<OsString> = parts(&whole).collect();
        let (mut at, mut links, mut is_linked) = (Step::root()?, 0, false);
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                at = at.above()?;
                continue;
            }
            let Some(next) = at.below(&name)? else {
                match (rest.is_empty(), self.make) {
                    (true, _) => return Ok(Some(End { parent: at, name, last: None, is_linked })),
                    (false, None) => return Ok(None),
                    (false, Some(mode)) => at.make(&name, mode, &self.trust)?,
                }
                rest.push_front(name);
                continue;
            };
            self.admit(&at, &next)?;
            let is_last = rest.is_empty();
            if next.found.is_symlink() && !(is_last && self.last_link == LastLink::Kept) {
                links += 1;
                if links > MOST_LINKS {
                    return Err(WayError::TooManyLinks(whole));
                }
                let target = next.target()?;
                if target.is_absolute() {
                    at = Step::root()?;
                }
                parts(&target).rev().for_each(|part| rest.push_front(part));
                is_linked |= is_last;
            } else if is_last {
                return Ok(Some(End { parent: at, name, last: Some(next), is_linked }));
            } else if next.found.is_dir() {
                at = next;
            } else {
                return Err(WayError::NotADirectory(next.path));
            }
        }
        Err(WayError::Nameless(whole))
    }

    fn admit(&self, above: &Step, next: &Step) -> Result<(), WayError> {
        let owner = next.found.uid();
        let is_ours = self.trust.has_user(owner);
        if !(is_sticky(&above.found) && is_ours) {
            above.insist_on_no_other_writers(&self.trust)?;
        }
        if next.found.is_symlink() {
            return match is_ours {
                true => Ok(()),
                false => Err(WayError::Link { path: next.path.clone(), owner }),
            };
        }
        let (is_theirs, is_passed) = (!self.trust.has_user(above.found.uid()), next.found.is_dir());
        let is_admitted = match self.owners {
            Owners::Trusted => is_ours,
            Owners::AnyoneInTurn => !(is_theirs && is_passed) || owner == above.found.uid(),
        };
        // Our own directory in one of somebody else is not at fault: its owner may put another in its place.
        match (is_admitted, is_ours) {
            (true, _) => Ok(()),
            (false, true) => Err(WayError::Owner { path: above.path.clone(), owner: above.found.uid() }),
            (false, false) => Err(WayError::Owner { path: next.path.clone(), owner }),
        }
    }
}

impl Step {
    fn root() -> Result<Self, WayError> {
        let root = PathBuf::from("/");
        let file = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let file = File::from(file.map_err(failed("open", &root))?);
        Self::of(file, root)
    }

    fn of(file: File, path: PathBuf) -> Result<Self, WayError> {
        let found = file.metadata().map_err(failed("look at", &path))?;
        Ok(Self { file, path, found })
    }

    fn above(&self) -> Result<Self, WayError> {
        let path = self.path.parent().unwrap_or(&self.path).to_path_buf();
        let file = openat(&self.file, "..", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        Self::of(File::from(file.map_err(failed("open", &path))?), path)
    }

    fn below(&self, name: &OsStr) -> Result<Option<Self>, WayError> {
        let path = self.path.join(name);
        match openat(&self.file, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => Self::of(File::from(file), path).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("look at", &path)(error)),
        }
    }

    /// Makes a directory, durably. Another process may make it at the same time.
    fn make(&self, name: &OsStr, mode: u32, trust: &Trust) -> Result<(), WayError> {
        self.insist_on_no_other_writers(trust)?;
        let path = self.path.join(name);
        match mkdirat(&self.file, name, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("make the directory", &path)(error)),
        }
        self.readable().and_then(|directory| directory.sync_all()).map_err(failed("make durable", &self.path))
    }

    /// Opens the directory itself, so that it can be listed and made durable.
    pub fn readable(&self) -> io::Result<File> {
        let opened = openat(&self.file, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        Ok(File::from(opened?))
    }

    fn target(&self) -> Result<PathBuf, WayError> {
        let target = readlinkat(&self.file, "", Vec::new()).map_err(failed("follow", &self.path))?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// # Errors
    /// Others than the owner and those trusted may write to it, also where it is sticky.
    pub fn insist_on_no_other_writers(&self, trust: &Trust) -> Result<(), WayError> {
        match trust.others_may_write(&self.file, &self.found).map_err(failed("read the ACL of", &self.path))? {
            false => Ok(()),
            true => Err(WayError::Writable {
                path: self.path.clone(),
                mode: self.found.permissions().mode(),
                group: self.found.gid(),
            }),
        }
    }
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    let part = |component: Component| match component {
        Component::ParentDir => Some(OsString::from("..")),
        Component::Normal(name) => Some(name.to_os_string()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(part)
}

fn failed<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> WayError {
    let path = path.to_path_buf();
    move |error| WayError::Io { doing, path, source: error.into() }
}
