//! The CA's two files: read with care, and written so that a crash leaves either nothing or all.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::files::regular;
use crate::issuer::IssuerError;

/// The largest key or certificate in PEM is a tenth of this.
const LARGEST_FILE: u64 = 64 * 1024;

pub fn exists(path: &Path) -> Result<bool, IssuerError> {
    path.try_exists().map_err(|e| failed("look for", path, e))
}

pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, IssuerError> {
    regular::read(path, LARGEST_FILE).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidInput => IssuerError::Stopped(format!("not a file of a CA: {}: {e}", path.display())),
        _ => failed("read", path, e),
    })
}

pub fn refuse_if_others_may_read(path: &Path) -> Result<(), IssuerError> {
    let mode = path.metadata().map_err(|e| failed("look at", path, e))?.mode();
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(IssuerError::Stopped(format!(
            "others than its owner may use the CA's key (mode {:o}): chmod 600 {}",
            mode & 0o777,
            path.display()
        ))),
    }
}

pub fn make_directory(path: &Path) -> Result<(), IssuerError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| failed("make the directory", path, e))
}

/// All files of a directory; none where there is no directory.
pub fn list(path: &Path) -> Result<Vec<PathBuf>, IssuerError> {
    match std::fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => {
            let entries =
                listed.and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(|e| failed("list", path, e))?;
            Ok(entries.into_iter().map(|entry| entry.path()).collect())
        }
    }
}

pub fn remove(path: &Path) -> Result<(), IssuerError> {
    std::fs::remove_file(path).map_err(|e| failed("remove", path, e))
}

/// Durable before it returns, and never in place of what is there.
pub fn keep(path: &Path, bytes: &[u8], mode: u32) -> Result<(), IssuerError> {
    keep_durably(path, bytes, mode).map_err(|e| failed("write", path, e))
}

/// A link, unlike a rename, fails where a file has come to be meanwhile: no CA replaces another.
fn keep_durably(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let draft = path.with_added_extension("draft");
    // A draft left by a crash keeps its own mode, so it must go first.
    match std::fs::remove_file(&draft) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::hard_link(&draft, path)?;
    std::fs::remove_file(&draft)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn failed(doing: &str, path: &Path, source: io::Error) -> IssuerError {
    let doing = format!("{doing} {}", path.display());
    IssuerError::Unanswered { doing, may_be_done: false, retry_after: None, source: Box::new(source) }
}
