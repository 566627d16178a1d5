//! What a new file takes over from the one that it replaces: owner, group, mode, ACL and extended attributes.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;

use super::disk::failed;
use super::folder::Folder;
use crate::files::acl::{ACCESS, Acl, DEFAULT, LARGEST_VALUE};
use crate::store::StoreError;

/// For files that replace none.
const NEW_FILE_MODE: u32 = 0o600;

/// For those in a directory whose setgid bit or default ACL says who reads along.
const NEW_SHARED_MODE: u32 = 0o640;

const SETGID: u32 = 0o2000;

/// Hashes and signatures of a file's own bytes, which the kernel keeps. They would not fit the new bytes.
const OF_THE_BYTES: [&str; 2] = ["security.ima", "security.evm"];

/// What a file holds decides the most that its mode may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    PrivateKey,
    Certificates,
    /// The directory of one generation.
    Directory,
}

impl Content {
    /// Nobody but its owner writes a private key, and only its group reads along. Nobody else writes the rest.
    fn most(self) -> u32 {
        match self {
            Self::PrivateKey => 0o640,
            Self::Certificates => 0o775,
            Self::Directory => 0o7775,
        }
    }
}

/// A mode that was narrowed on the way from the old file to the new one.
#[derive(Debug)]
pub(super) struct Narrowed {
    path: PathBuf,
    from: u32,
    to: u32,
}

impl Narrowed {
    pub(super) fn tell(&self) {
        let Self { path, from, to } = self;
        tracing::warn!(
            "the mode of {} was {from:o} and is {to:o} now: no file with a private key is open to others",
            path.display()
        );
    }
}

/// Returns the mode to create a file with that replaces none, and whether the directory decides on it.
pub(super) fn of_a_new_file(folder: &Folder) -> Result<(u32, bool), StoreError> {
    let is_shared = folder.metadata()?.mode() & SETGID != 0
        || attribute(&folder.file, DEFAULT).map_err(failed("read the default ACL of", &folder.path))?.is_some();
    Ok(if is_shared { (NEW_SHARED_MODE, true) } else { (NEW_FILE_MODE, false) })
}

/// The umask and a default ACL may have changed what it was created with.
pub(super) fn settle_new(file: &File, path: &Path, mode: u32, is_shared: bool) -> Result<(), StoreError> {
    // With a default ACL the group bits are the mask of the ACL that the file was given.
    match is_shared && attribute(file, ACCESS).map_err(failed("read the ACL of", path))?.is_some() {
        true => Ok(()),
        false => file.set_permissions(Permissions::from_mode(mode)).map_err(failed("protect", path)),
    }
}

/// Gives `file` the rights of `replaced`, as far as its content allows.
///
/// # Errors
/// `Held` where one of them cannot be kept: certd runs as another user, or the file system has no such attribute.
pub(super) fn keep(
    file: &File,
    path: &Path,
    replaced: &File,
    content: Content,
) -> Result<Option<Narrowed>, StoreError> {
    let old = replaced.metadata().map_err(failed("look at", path))?;
    keep_owner(file, path, &old)?;
    keep_attributes(file, path, replaced)?;
    keep_acl(file, path, replaced, content)?;
    let (from, to) = (old.mode() & 0o7777, old.mode() & 0o7777 & content.most());
    // After the ACL, since the group bits are its mask.
    file.set_permissions(Permissions::from_mode(to)).map_err(|error| held_owner(path, &old, &error))?;
    Ok((from != to).then(|| Narrowed { path: path.to_path_buf(), from, to }))
}

/// First, since a change of owner clears some bits of the mode.
fn keep_owner(file: &File, path: &Path, old: &Metadata) -> Result<(), StoreError> {
    let now = file.metadata().map_err(failed("look at", path))?;
    match (now.uid(), now.gid()) == (old.uid(), old.gid()) {
        true => Ok(()),
        false => fchown(file, Some(old.uid()), Some(old.gid())).map_err(|error| held_owner(path, old, &error)),
    }
}

fn held_owner(path: &Path, old: &Metadata, error: &io::Error) -> StoreError {
    StoreError::Held(format!(
        "owner {}, group {} and mode {:o} cannot be kept at {} ({error}): run certd as that owner or in that group",
        old.uid(),
        old.gid(),
        old.mode() & 0o7777,
        path.display()
    ))
}

fn keep_attributes(file: &File, path: &Path, replaced: &File) -> Result<(), StoreError> {
    let old = attributes(replaced).map_err(failed("read the attributes of what is replaced at", path))?;
    for (name, value) in old {
        // The kernel may have given the new file the same label already.
        if attribute(file, &name).ok().flatten().as_ref() != Some(&value) {
            fsetxattr(file, name.as_str(), &value, XattrFlags::empty()).map_err(|error| {
                StoreError::Held(format!(
                    "the extended attribute {name} cannot be kept at {} ({error}): remove it, or give certd the right \
                     to set it",
                    path.display()
                ))
            })?;
        }
    }
    Ok(())
}

/// One that the new file has from its directory's default ACL, and the old one had not, goes: it would open the key.
fn keep_acl(file: &File, path: &Path, replaced: &File, content: Content) -> Result<(), StoreError> {
    let held = |error: io::Error| {
        StoreError::Held(format!(
            "the ACL of what is replaced cannot be kept at {} ({error}): remove it with setfacl -b, or keep the file \
             on a file system with ACLs",
            path.display()
        ))
    };
    let old = attribute(replaced, ACCESS).map_err(held)?;
    let Some(old) = old else {
        return match fremovexattr(file, ACCESS) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(held(error.into())),
        };
    };
    let acl = Acl::parse(&old).map_err(held)?;
    let acl = if content == Content::PrivateKey { acl.for_a_key() } else { acl };
    fsetxattr(file, ACCESS, &acl.to_value(), XattrFlags::empty()).map_err(|error| held(error.into()))
}

/// All but the ACL that decides on access, and what belongs to the old bytes.
fn attributes(file: &File) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut names = vec![0; LARGEST_VALUE];
    let length = match flistxattr(file, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        listed => listed?,
    };
    let mut attributes = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name).into_owned();
        if name != ACCESS
            && !OF_THE_BYTES.contains(&name.as_str())
            && let Some(value) = attribute(file, &name)?
        {
            attributes.insert(name, value);
        }
    }
    Ok(attributes)
}

fn attribute(file: &File, name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; LARGEST_VALUE];
    match fgetxattr(file, name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
