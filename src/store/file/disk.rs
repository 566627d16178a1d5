//! Reading within bounds, and replacing a file so that a crash leaves the old one or the new one.

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::folder::{self, Folder, Spot};
use super::rights::{self, Content, Narrowed};
use crate::domain::inventory::{Obstacle, ObstacleKind};
use crate::failpoint;
use crate::files::regular::{self, NotRead};
use crate::files::way::LastLink;
use crate::store::StoreError;

/// In bytes. The CA bundle of an operating system has a fifth of it, and a key with its chain a hundredth.
pub(crate) const LARGEST_FILE: u64 = 1024 * 1024;

/// Reads a certificate file; `None` where nothing is. Devices and pipes are never opened, for opening one may do something.
pub(crate) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, Obstacle> {
    match regular::read(path, LARGEST_FILE) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(obstacle("read", path, &error)),
    }
}

pub(crate) fn obstacle(doing: &str, path: &Path, error: &io::Error) -> Obstacle {
    let shown = path.display();
    match error.get_ref().and_then(|inner| inner.downcast_ref::<NotRead>()) {
        Some(NotRead::Irregular) => {
            let message = format!("{shown} is neither a file nor a directory of certificates: name a file");
            return Obstacle::new(ObstacleKind::NotUnderstood, message);
        }
        Some(NotRead::TooLarge(most)) => {
            let message = format!("{shown} has more than {most} bytes: a certificate file has not");
            return Obstacle::new(ObstacleKind::TooLarge, message);
        }
        None => {}
    }
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let message = format!("could not {doing} {shown}: {error}: let certd's user or group in");
            Obstacle::new(ObstacleKind::Denied, message)
        }
        _ => Obstacle::new(ObstacleKind::Io, format!("could not {doing} {shown}: {error}")),
    }
}

pub(super) fn failed<E: Into<io::Error>>(doing: &str, path: &Path) -> impl FnOnce(E) -> StoreError + use<E> {
    let doing = format!("{doing} {}", path.display());
    move |source| StoreError::Failed { doing, source: Box::new(source.into()) }
}

/// A complete new file beside the one that it replaces; gone again unless it is put in place.
pub(super) struct Draft {
    spot: Spot,
    name: OsString,
    narrowed: Option<Narrowed>,
    placed: bool,
}

impl Draft {
    /// Writes `text` to disk beside `path`. A link that root or certd's user made is followed, and it stays.
    pub(super) fn new(path: &Path, text: &[u8], content: Content) -> Result<Self, StoreError> {
        let spot = folder::reach(path, LastLink::Followed)?;
        match spot.folder.look_at(&spot.name)? {
            Some(replaced) => insist_on_plain(&spot.path(), &replaced)?,
            None if spot.is_linked => {
                let path = path.display();
                return Err(StoreError::Held(format!("{path} is a link that leads nowhere: remove or mend it")));
            }
            None => {}
        }
        let mut draft = Self { name: spot.beside("certd-draft"), spot, narrowed: None, placed: false };
        let folder = &draft.spot.folder;
        // A draft left by a crash keeps its own mode, so it must go first.
        folder.remove_file(&draft.name)?;
        let replaces = Some((folder, draft.spot.name.as_os_str()));
        draft.narrowed = write_new(folder, &draft.name, text, content, replaces)?;
        failpoint::reached("file_drafted");
        Ok(draft)
    }

    pub(super) fn place(mut self) -> Result<(), StoreError> {
        self.spot.folder.rename(&self.name, &self.spot.name)?;
        self.placed = true;
        failpoint::reached("file_renamed");
        self.narrowed.iter().for_each(Narrowed::tell);
        self.spot.folder.sync()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.placed {
            // What cannot be removed now is removed before the next draft.
            let _ = self.spot.folder.remove_file(&self.name);
        }
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

/// Writes a file that was not there before, durable but for its name, with the rights of the one it replaces.
pub(super) fn write_new(
    folder: &Folder,
    name: &OsStr,
    text: &[u8],
    content: Content,
    replaces: Option<(&Folder, &OsStr)>,
) -> Result<Option<Narrowed>, StoreError> {
    let path = folder.path.join(name);
    let replaced = match replaces {
        Some((of, name)) => of.open_file(name)?,
        None => None,
    };
    let (mode, is_shared) = match replaced {
        // Nobody else opens it before it has the rights of the old one.
        Some(_) => (0o600, false),
        None => rights::of_a_new_file(folder)?,
    };
    let mut file = folder.create(name, mode)?;
    file.write_all(text).map_err(failed("write", &path))?;
    let narrowed = match &replaced {
        Some(replaced) => rights::keep(&file, &path, replaced, content)?,
        None => {
            rights::settle_new(&file, &path, mode, is_shared)?;
            None
        }
    };
    file.sync_all().map_err(failed("make durable", &path))?;
    Ok(narrowed)
}
