//! Files of this host: bounded reads that never wait, the way to a file, and who may change what stands on it.

pub mod acl;
pub mod regular;
pub mod way;

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{getegid, geteuid};

/// Lets only the owner of an entry, of its directory, and root remove or rename the entry.
const STICKY: u32 = 0o1000;

const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// Who may change what certd relies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    users: Vec<u32>,
    groups: Vec<u32>,
}

impl Trust {
    /// Root, and the user and group that certd runs as.
    pub fn own() -> Self {
        Self { users: vec![0, geteuid().as_raw()], groups: vec![0, getegid().as_raw()] }
    }

    /// These, and the owner and group of a file or directory, where it is there.
    pub fn and_owner_of(mut self, path: &Path) -> Self {
        if let Ok(found) = std::fs::metadata(path) {
            self.users.push(found.uid());
            self.groups.push(found.gid());
        }
        self
    }

    pub fn has_user(&self, uid: u32) -> bool {
        self.users.contains(&uid)
    }

    pub fn has_group(&self, gid: u32) -> bool {
        self.groups.contains(&gid)
    }

    /// Returns whether the mode or the ACL lets others than the owner and these users and groups write.
    ///
    /// # Errors
    /// The ACL could not be read.
    pub fn others_may_write(&self, file: &File, found: &Metadata) -> io::Result<bool> {
        let mode = found.mode();
        if mode & OTHERS_WRITE != 0 || (mode & GROUP_WRITES != 0 && !self.has_group(found.gid())) {
            return Ok(true);
        }
        // Without the group bit, which is the mask of an ACL, no entry of an ACL lets anybody write.
        match mode & GROUP_WRITES {
            0 => Ok(false),
            _ => Ok(acl::of(file)?.is_some_and(|acl| acl.lets_others_write(self))),
        }
    }
}

fn is_sticky(found: &Metadata) -> bool {
    found.mode() & STICKY != 0
}

/// Returns a path that leads to the open file, also where the descriptor allows no other access (`O_PATH`).
fn magic_link(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}
