//! Reads regular files within bounds. Pipes and devices are refused, since opening one can wait or act.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tokio::task::{JoinError, spawn_blocking};
use zeroize::Zeroizing;

use crate::hardening::BrokenOff;

#[derive(Debug, thiserror::Error)]
pub enum NotRead {
    #[error("it is not a regular file: name a file, no directory, pipe or device")]
    Irregular,
    #[error("it has more than {0} bytes: see whether it is the right file")]
    TooLarge(u64),
}

impl From<NotRead> for io::Error {
    fn from(error: NotRead) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// Opens a regular file for reading; never waits for the other end of a pipe.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    if !fs::metadata(path)?.is_file() {
        return Err(NotRead::Irregular.into());
    }
    // What was a file a moment ago may be a pipe by now.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
    let found = file.metadata()?;
    match found.is_file() {
        true => Ok((file, found)),
        false => Err(NotRead::Irregular.into()),
    }
}

/// Reads all of an open file, of at most `most` bytes. The buffer is wiped when it is dropped.
pub fn all_of(file: File, found: &Metadata, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for everything at once: a buffer that grows leaves copies of a key behind.
    let room = usize::try_from(found.len().min(most)).unwrap_or(0) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(NotRead::TooLarge(most).into()),
        false => Ok(bytes),
    }
}

/// Reads a regular file of at most `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let (file, found) = open(path)?;
    all_of(file, &found, most)
}

/// Reads a regular file that holds text in UTF-8. An error quotes none of it.
pub fn read_text(path: &Path, most: u64) -> io::Result<Zeroizing<String>> {
    let bytes = read(path, most)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_string())),
        Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8")),
    }
}

/// Reads as [`read_text`] does, beside the runtime.
pub async fn read_text_beside(path: &Path, most: u64) -> io::Result<Zeroizing<String>> {
    let path = path.to_path_buf();
    spawn_blocking(move || read_text(&path, most)).await.map_err(broken_off)?
}

/// Reads as [`read`] does, beside the runtime.
pub async fn read_beside(path: &Path, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let path = path.to_path_buf();
    spawn_blocking(move || read(&path, most)).await.map_err(broken_off)?
}

fn broken_off(error: JoinError) -> io::Error {
    io::Error::other(BrokenOff::from(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_or_a_pipe_is_refused_and_never_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [Path::new("/dev/zero"), dir.path(), &pipe] {
            let error = read(path, 10).unwrap_err().to_string();
            assert_eq!(error, "it is not a regular file: name a file, no directory, pipe or device");
        }
    }

    #[test]
    fn a_file_is_read_up_to_its_limit_and_not_a_byte_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "0123456789").unwrap();
        assert_eq!(*read_text(&path, 10).unwrap(), "0123456789");
        let error = read_text(&path, 9).unwrap_err().to_string();
        assert_eq!(error, "it has more than 9 bytes: see whether it is the right file");
    }
}
