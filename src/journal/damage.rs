//! A journal that cannot be read whole is set aside, never deleted, and another one is begun that says so.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, StorageError};

use super::event::State;
use super::pending::sync_directory;
use super::table::read_state;
use super::{JournalError, failure, insist_on_format};
use crate::domain::time::Timestamp;

/// A journal that was read, or why its file is no journal any more.
pub(super) enum Opened {
    Whole(Database, Box<State>),
    Damaged(String),
}

/// Every page is checked by its checksum, and every event is read. What a disk refuses is no damage: it may come back.
pub(super) fn open(path: &Path) -> Result<Opened, JournalError> {
    // What nothing was ever written to: redb would take it for a new one.
    if std::fs::metadata(path).map_err(|e| failure(path, "look at")(e.into()))?.len() == 0 {
        return Ok(Opened::Damaged("the file is empty".to_string()));
    }
    // redb asserts, in debug builds, what no file that it wrote itself can break.
    match catch_unwind(AssertUnwindSafe(|| open_whole(path))) {
        Ok(opened) => opened,
        Err(_) => Ok(Opened::Damaged("it cannot be what was written".to_string())),
    }
}

fn open_whole(path: &Path) -> Result<Opened, JournalError> {
    let database = match Database::builder().set_check_integrity_on_open(true).open(path) {
        Ok(database) => database,
        Err(DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch) => {
            return Err(JournalError::InUse(path.to_path_buf()));
        }
        Err(DatabaseError::Storage(error)) if is_damage(&error) => return Ok(Opened::Damaged(error.to_string())),
        Err(error @ DatabaseError::RepairAborted) => return Ok(Opened::Damaged(error.to_string())),
        Err(other) => return Err(failure(path, "open")(other.into())),
    };
    match insist_on_format(&database, path).and_then(|()| read_state(&database).map_err(failure(path, "read"))) {
        Ok(state) => Ok(Opened::Whole(database, Box::new(state))),
        Err(JournalError::Failed { source, .. }) if !is_of_the_disk(source.as_ref()) => {
            // The words of a parser may quote what it read.
            Ok(Opened::Damaged("an event in it cannot be read".to_string()))
        }
        Err(error) => Err(error),
    }
}

fn is_damage(error: &StorageError) -> bool {
    match error {
        StorageError::Corrupted(_) => true,
        StorageError::Io(error) => matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof),
        _ => false,
    }
}

fn is_of_the_disk(error: &(dyn std::error::Error + 'static)) -> bool {
    let storage = match error.downcast_ref::<redb::Error>() {
        Some(redb::Error::Io(error)) => {
            return !matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof);
        }
        _ => error.downcast_ref::<StorageError>(),
    };
    matches!(storage, Some(StorageError::Io(_) | StorageError::PreviousIo))
}

/// Under a second name that is free; it keeps its own until another takes it. Returns that name and when the file was written last.
pub(super) fn keep_aside(path: &Path) -> std::io::Result<(PathBuf, Timestamp)> {
    let written = std::fs::metadata(path)?.modified()?;
    let written = written.duration_since(std::time::SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    for nth in 1.. {
        let aside = path.with_extension(format!("redb.damaged-{nth}"));
        // A link, unlike a rename, replaces nothing.
        match std::fs::hard_link(path, &aside) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => {
                sync_directory(path.parent().unwrap_or(Path::new(".")))?;
                return Ok((aside, Timestamp(i64::try_from(written).unwrap_or(0))));
            }
        }
    }
    unreachable!("some number is free")
}
