//! The file of the audit log: appended to, synced, rotated by size, and continued after a write that a crash broke off.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::AuditError;
use super::chain::{Head, LineHash};
use super::record::Record;

pub const FILE: &str = "audit.log";

/// The rights that nobody else may have. A log shipper's group may read it where an administrator says so.
const OF_OTHERS: u32 = 0o037;

/// In bytes. A record has bounds of its own, which come to less.
const LONGEST_LINE: usize = 256 * 1024;

/// So much is read back to find the last whole record, whatever a crash left behind it.
const TAIL: u64 = 4 * LONGEST_LINE as u64;

/// Returns the files of the log in a directory, oldest first.
pub fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = rotated(directory)?;
    let newest = directory.join(FILE);
    match std::fs::symlink_metadata(&newest) {
        Ok(_) => files.push(newest),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(files)
}

/// Named by their last record, so that their names are in order.
fn rotated(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let listed: io::Result<Vec<PathBuf>> =
        std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut files: Vec<PathBuf> = listed?.into_iter().filter(|path| last_record(path).is_some()).collect();
    files.sort();
    Ok(files)
}

/// Returns the number in the name of a file that was set aside.
fn last_record(path: &Path) -> Option<u64> {
    let number = path.file_name()?.to_str()?.strip_prefix("audit-")?.strip_suffix(".log")?;
    let is_number = number.len() == 12 && number.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { number.parse().ok() } else { None }
}

/// Whether a file may hold this record, or one behind it.
pub fn rotated_after(path: &Path, sequence: u64) -> bool {
    last_record(path).is_none_or(|last| last >= sequence)
}

/// What a crash left behind the last whole record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    pub bytes: usize,
    pub hash: LineHash,
}

/// The newest file, open for appending.
pub struct LogFile {
    file: File,
    path: PathBuf,
    pub head: Head,
    /// To be told by the next record.
    pub torn: Option<Torn>,
    /// The last record that was found, where this process had written more: to be told by the next record.
    pub cut_off_after: Option<u64>,
    bytes: u64,
}

impl LogFile {
    /// Opens or makes it, and finds the head of the chain.
    pub fn open(directory: &Path) -> Result<Self, AuditError> {
        let path = directory.join(FILE);
        let failed = |doing| AuditError::failed(doing, &path);
        let is_new = !path.try_exists().map_err(failed("look at"))?;
        let mut file = opened(&path).map_err(failed("open"))?;
        let found = file.metadata().map_err(failed("look at"))?;
        if !found.is_file() {
            return Err(failed("open")(io::Error::other("it is no regular file")));
        }
        if found.mode() & OF_OTHERS != 0 {
            let owned = Permissions::from_mode(found.mode() & 0o7777 & !OF_OTHERS);
            file.set_permissions(owned).map_err(failed("close to others"))?;
        }
        if is_new {
            sync(directory).map_err(failed("make"))?;
        }
        let before = match rotated(directory).map_err(failed("look for files of"))?.last() {
            Some(newest) => last_head(newest)?,
            None => Head::start(),
        };
        let (tail, is_whole) = tail(&mut file).map_err(failed("read"))?;
        let end = End::of(&tail, is_whole.then_some(before)).ok_or_else(|| AuditError::NotUnderstood(path.clone()))?;
        let (head, torn, bytes) = (end.head, end.torn, found.len());
        let mut log = Self { file, path, head, torn, cut_off_after: None, bytes };
        if end.lacks_newline {
            log.write(b"\n")?;
        }
        Ok(log)
    }

    /// Whether what is under its name still is this file, and ends where this process left it.
    pub fn is_as_left(&self) -> bool {
        let identity = |found: std::fs::Metadata| (found.dev(), found.ino(), found.len());
        let named = std::fs::symlink_metadata(&self.path).map(identity);
        let opened = self.file.metadata().map(identity);
        matches!((named, opened), (Ok(named), Ok(opened)) if named == opened && named.2 == self.bytes)
    }

    /// Durable when it returns.
    pub fn append(&mut self, record: &Record) -> Result<(), AuditError> {
        let failed = AuditError::failed("write", &self.path);
        let mut line = record.line().map_err(|error| failed(error.into()))?;
        if line.len() >= LONGEST_LINE {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        let hash = LineHash::of(&line);
        line.push(b'\n');
        self.write(&line)?;
        self.head = Head { sequence: record.sequence, hash };
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), AuditError> {
        let failed = AuditError::failed("write", &self.path);
        self.file.write_all(bytes).and_then(|()| self.file.sync_data()).map_err(failed)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Begins another file once this one has so many bytes; the chain goes on in it.
    pub fn rotated_at(self, largest: u64) -> Result<Self, AuditError> {
        if self.bytes < largest || self.head.sequence == 0 || self.torn.is_some() {
            return Ok(self);
        }
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let aside = directory.join(format!("audit-{:012}.log", self.head.sequence));
        let failed = |doing| AuditError::failed(doing, &self.path);
        if aside.try_exists().map_err(failed("rotate"))? {
            return Err(failed("rotate")(io::ErrorKind::AlreadyExists.into()));
        }
        std::fs::rename(&self.path, &aside).and_then(|()| sync(directory)).map_err(failed("rotate"))?;
        Self::open(directory)
    }
}

/// Appended to only, for the owner alone, and never through a link.
fn opened(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    options.read(true).append(true).create(true).mode(0o600).custom_flags(flags).open(path)
}

/// Opens a file of the log for reading: a regular one, never a link, and without waiting for the other end of a pipe.
pub fn readable(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The end of a file, and whether that is all of it.
fn tail(file: &mut File) -> io::Result<(Vec<u8>, bool)> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    Ok((tail, length <= TAIL))
}

fn last_head(path: &Path) -> Result<Head, AuditError> {
    let failed = |doing| AuditError::failed(doing, path);
    let mut file = readable(path).map_err(failed("open"))?;
    let (tail, _) = tail(&mut file).map_err(failed("read"))?;
    match End::of(&tail, None) {
        Some(End { head, torn: None, .. }) => Ok(head),
        Some(End { torn: Some(_), .. }) | None => Err(AuditError::NotUnderstood(path.to_path_buf())),
    }
}

/// How a file ends.
#[derive(Debug, PartialEq, Eq)]
struct End {
    head: Head,
    torn: Option<Torn>,
    lacks_newline: bool,
}

impl End {
    /// `before` is the head before the file, where `tail` is all of it. `None` where no record is found.
    fn of(tail: &[u8], before: Option<Head>) -> Option<Self> {
        let pieces: Vec<&[u8]> = tail.split_inclusive(|byte| *byte == b'\n').collect();
        // The first piece of a part of a file may be half a line.
        let skipped = usize::from(before.is_none() && pieces.len() > 1);
        let whole = pieces.iter().skip(skipped).rposition(|piece| is_record(piece)).map(|nth| nth + skipped);
        let (head, rest) = match whole {
            Some(nth) => {
                let line = without_newline(pieces[nth]);
                let record: Record = serde_json::from_slice(line).ok()?;
                let head = Head { sequence: record.sequence, hash: LineHash::of(line) };
                (head, pieces[nth + 1..].concat())
            }
            None => (before?, tail.to_vec()),
        };
        if rest.len() > 2 * LONGEST_LINE {
            return None;
        }
        let torn = without_newline(&rest);
        let torn = (!rest.is_empty()).then(|| Torn { bytes: torn.len(), hash: LineHash::of(torn) });
        Some(Self { head, torn, lacks_newline: !tail.is_empty() && !tail.ends_with(b"\n") })
    }
}

fn is_record(line: &[u8]) -> bool {
    serde_json::from_slice::<Record>(without_newline(line)).is_ok()
}

pub fn without_newline(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::{Draft, Kind};
    use crate::domain::time::Timestamp;

    fn lines(count: u64) -> (Vec<u8>, Head) {
        let (mut bytes, mut head) = (Vec::new(), Head::start());
        for _ in 0..count {
            let line = Record::behind(&head, Timestamp(5), Draft::new(Kind::Issued)).line().unwrap();
            head = Head { sequence: head.sequence + 1, hash: LineHash::of(&line) };
            bytes.extend([line, vec![b'\n']].concat());
        }
        (bytes, head)
    }

    #[test]
    fn wherever_a_crash_breaks_off_a_write_the_last_whole_record_is_found_and_the_rest_is_told() {
        let ((two, second), (three, third)) = (lines(2), lines(3));
        for cut in two.len()..=three.len() {
            let end = End::of(&three[..cut], Some(Head::start())).unwrap();
            let rest = &three[two.len()..cut];
            if cut + 1 >= three.len() {
                assert_eq!((end.head, end.torn), (third.clone(), None), "a newline alone is missing, or nothing");
            } else {
                assert_eq!(end.head, second);
                let torn = (!rest.is_empty()).then(|| Torn { bytes: rest.len(), hash: LineHash::of(rest) });
                assert_eq!(end.torn, torn, "{cut}");
            }
            assert_eq!(end.lacks_newline, cut != two.len() && cut != three.len());
        }
    }

    #[test]
    fn a_block_of_zeros_that_a_power_failure_left_is_no_record() {
        let (two, second) = lines(2);
        let end = End::of(&[two, vec![0; 4096]].concat(), None).unwrap();
        assert_eq!((end.head, end.torn.unwrap().bytes), (second, 4096));
    }

    #[test]
    fn a_file_without_any_record_begins_where_the_one_before_it_ended() {
        let before = lines(4).1;
        assert_eq!(End::of(b"", Some(before.clone())).unwrap().head, before);
        let torn = End::of(b"{\"seq\":5", Some(before.clone())).unwrap();
        assert_eq!((torn.head, torn.torn.unwrap().bytes), (before, 8));
        assert_eq!(End::of(b"no record", None), None);
        assert_eq!(
            End::of(&vec![b'x'; 3 * LONGEST_LINE], Some(Head::start())),
            None,
            "more than a broken write leaves"
        );
    }
}
