//! Files of this host: bounded reads that never wait, the way to a file, and who may change what stands on it.

pub mod acl;
pub mod regular;
pub mod way;

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use rustix::process::{getegid, geteuid};

/// Lets only the owner of an entry, of its directory, and root remove or rename the entry.
const STICKY: u32 = 0o1000;

const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// Returns whether this user is root or the user that certd runs as.
pub fn is_trusted_user(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

/// Returns whether this group is root's or the group that certd runs as.
pub fn is_trusted_group(gid: u32) -> bool {
    gid == 0 || gid == getegid().as_raw()
}

/// Returns whether the mode or the ACL lets others than the owner, root and certd's group write.
///
/// # Errors
/// The ACL could not be read.
pub fn others_may_write(file: &File, found: &Metadata) -> io::Result<bool> {
    let mode = found.mode();
    if mode & OTHERS_WRITE != 0 || (mode & GROUP_WRITES != 0 && !is_trusted_group(found.gid())) {
        return Ok(true);
    }
    // Without the group bit, which is the mask of an ACL, no entry of an ACL lets anybody write.
    match mode & GROUP_WRITES {
        0 => Ok(false),
        _ => Ok(acl::of(file)?.is_some_and(|acl| acl.lets_others_write())),
    }
}

fn is_sticky(found: &Metadata) -> bool {
    found.mode() & STICKY != 0
}

/// Returns a path that leads to the open file, also where the descriptor allows no other access (`O_PATH`).
fn magic_link(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}
