//! Answers as files among those of a web server, of which the CA chooses no more than a name of fixed letters.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, fchmod, mkdirat, open, openat, renameat, unlinkat};
use rustix::io::Errno;
use tokio::task::spawn_blocking;
use tracing::warn;

use super::ChallengeError;
use crate::domain::text::with_causes;
use crate::hardening::BrokenOff;

/// From the webroot down (RFC 8555, section 8.3).
const WAY: [&str; 2] = [".well-known", "acme-challenge"];

/// The web server is another user, and whoever asks may read it.
const FILE_MODE: u32 = 0o644;

const DIRECTORY_MODE: u32 = 0o755;

/// Complete as soon as it is there. A crash may leave it behind, or empty: the order is over then anyway.
pub(super) async fn write(root: &Path, token: &str, text: &str) -> Result<(), ChallengeError> {
    let (owned_root, token, text) = (root.to_path_buf(), token.to_string(), text.to_string());
    let written = spawn_blocking(move || Directory::of_challenges(&owned_root, true)?.write(&token, &text)).await;
    written.unwrap_or_else(|broken| Err(failed("write below", root)(io::Error::other(BrokenOff::from(broken)))))
}

pub(super) async fn remove(root: &Path, token: &str) {
    let (owned_root, token) = (root.to_path_buf(), token.to_string());
    let removed = spawn_blocking(move || Directory::of_challenges(&owned_root, false)?.remove(&token)).await;
    let removed = removed
        .unwrap_or_else(|broken| Err(failed("remove from below", root)(io::Error::other(BrokenOff::from(broken)))));
    match removed {
        Ok(()) => {}
        Err(ChallengeError::Webroot { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        Err(error) => warn!("an answer to a challenge stays behind: {}", with_causes(&error)),
    }
}

/// Held open, so that it stays the one that was looked at whatever becomes of its name.
struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// The webroot may be a link, since the operator chose it. Below it, others may write.
    fn of_challenges(root: &Path, make: bool) -> Result<Self, ChallengeError> {
        let fd = open(root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed("open", root))?;
        let root = Self { fd, path: root.to_path_buf() };
        WAY.iter().try_fold(root, |above, name| above.below(name, make))
    }

    fn below(&self, name: &str, make: bool) -> Result<Self, ChallengeError> {
        let path = self.path.join(name);
        let fd = match (self.open(name), make) {
            (Err(Errno::NOENT), true) => self.make(name),
            (opened, _) => opened,
        };
        match fd {
            Ok(fd) => Ok(Self { fd, path }),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(ChallengeError::NoDirectory(path)),
            Err(error) => Err(failed("open", &path)(error)),
        }
    }

    fn open(&self, name: &str) -> Result<OwnedFd, Errno> {
        openat(&self.fd, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }

    /// Another order may make it at the same time.
    fn make(&self, name: &str) -> Result<OwnedFd, Errno> {
        match mkdirat(&self.fd, name, Mode::from_raw_mode(DIRECTORY_MODE)) {
            Err(Errno::EXIST) => self.open(name),
            made => {
                made?;
                let fd = self.open(name)?;
                // The umask took some of it away.
                fchmod(&fd, Mode::from_raw_mode(DIRECTORY_MODE))?;
                Ok(fd)
            }
        }
    }

    fn write(&self, token: &str, text: &str) -> Result<(), ChallengeError> {
        let path = self.path.join(token);
        let draft = format!(".{token}.certd-draft");
        // One that a crash left may have rights of its own, so it must go first.
        self.unlink(&draft).map_err(failed("remove the draft of", &path))?;
        let placed = self
            .fill(&draft, text)
            .and_then(|()| renameat(&self.fd, draft.as_str(), &self.fd, token).map_err(io::Error::from));
        if placed.is_err() {
            // What cannot be removed now is removed before the next draft.
            let _ = self.unlink(&draft);
        }
        placed.map_err(failed("write", &path))
    }

    fn fill(&self, draft: &str, text: &str) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.fd, draft, flags, Mode::from_raw_mode(FILE_MODE))?);
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        file.write_all(text.as_bytes())
    }

    fn remove(&self, token: &str) -> Result<(), ChallengeError> {
        self.unlink(token).map_err(failed("remove", &self.path.join(token)))
    }

    fn unlink(&self, name: &str) -> Result<(), Errno> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            unlinked => unlinked,
        }
    }
}

fn failed<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> ChallengeError {
    let path = path.to_path_buf();
    move |error| ChallengeError::Webroot { doing, path, source: error.into() }
}
