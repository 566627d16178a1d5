//! The files that the TLS to a Vault is made of: its roots and certd's own certificate, read again when they change.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::ClientCertificate;
use crate::pki::NotUnderstood;
use crate::pki::bundle::Bundle;
use crate::store::file::disk;

/// Paths from the configuration.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Roots in PEM; the system's where there is none.
    pub ca_file: Option<PathBuf>,
    /// The certificate that certd shows, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// What the files hold.
#[derive(Debug)]
pub struct Material {
    /// In DER; `None` trusts the system's.
    pub roots: Option<Vec<Vec<u8>>>,
    pub certificate: Option<ClientCertificate>,
}

/// Tells one content of the files from the next, without reading it. `None` where a file is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<FileStamp>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    #[error("{setting}: {why}")]
    Unseen { setting: &'static str, why: String },
    #[error("{setting}: there is no file {}", path.display())]
    Missing { setting: &'static str, path: PathBuf },
    #[error("{setting}: {}", path.display())]
    NotUnderstood {
        setting: &'static str,
        path: PathBuf,
        #[source]
        source: NotUnderstood,
    },
    #[error("{setting} holds no certificate: {}", path.display())]
    NoCertificate { setting: &'static str, path: PathBuf },
    #[error("client_key_file holds {number} private keys that certd can read, where one is needed: {}", path.display())]
    Keys { number: usize, path: PathBuf },
}

impl TlsFiles {
    /// Reads all of them.
    ///
    /// # Errors
    /// If one is missing, cannot be read, or does not hold what its setting says.
    pub fn read(&self) -> Result<Material, TlsFileError> {
        let roots = self.ca_file.as_deref().map(|path| certificates("ca_file", path)).transpose()?;
        let certificate = self.client.as_ref().map(|(certificate, key)| client(certificate, key)).transpose()?;
        Ok(Material { roots, certificate })
    }

    pub(super) fn stamp(&self) -> Stamp {
        let client = self.client.iter().flat_map(|(certificate, key)| [certificate, key]);
        let stamped = |path: &PathBuf| {
            let found = std::fs::metadata(path).ok()?;
            let changed = (found.ctime(), found.ctime_nsec());
            Some(FileStamp { device: found.dev(), inode: found.ino(), length: found.len(), changed })
        };
        Stamp(self.ca_file.iter().chain(client).map(stamped).collect())
    }
}

fn client(certificate: &Path, key: &Path) -> Result<ClientCertificate, TlsFileError> {
    let chain = certificates("client_certificate_file", certificate)?;
    let mut keys = bundle("client_key_file", key)?.keys;
    match keys.len() {
        1 => Ok(ClientCertificate { chain, key: keys.remove(0) }),
        number => Err(TlsFileError::Keys { number, path: key.to_path_buf() }),
    }
}

/// In DER; at least one.
fn certificates(setting: &'static str, path: &Path) -> Result<Vec<Vec<u8>>, TlsFileError> {
    let found = bundle(setting, path)?.certificates;
    match found.is_empty() {
        true => Err(TlsFileError::NoCertificate { setting, path: path.to_path_buf() }),
        false => Ok(found),
    }
}

fn bundle(setting: &'static str, path: &Path) -> Result<Bundle, TlsFileError> {
    let read = disk::read(path).map_err(|obstacle| TlsFileError::Unseen { setting, why: obstacle.message })?;
    let bytes = read.ok_or_else(|| TlsFileError::Missing { setting, path: path.to_path_buf() })?;
    Bundle::parse(&bytes).map_err(|source| TlsFileError::NotUnderstood { setting, path: path.to_path_buf(), source })
}
