//! Private keys of renewals in flight: one 0600 file each, durable before a CA hears of the key.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::domain::key::PrivateKey;
use crate::domain::name::CertName;
use crate::failpoint;
use crate::pki;

pub struct PendingKeys {
    directory: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum PendingKeyError {
    #[error("could not {doing} the pending key: {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the pending key is damaged: {}", path.display())]
    Damaged { path: PathBuf },
}

impl PendingKeys {
    pub(super) fn new(directory: PathBuf) -> std::io::Result<Self> {
        super::create_private_dir(&directory)?;
        Ok(Self { directory })
    }

    /// Durable when it returns; replaces the key of an earlier renewal.
    pub fn save(&self, name: &CertName, key: &PrivateKey) -> Result<(), PendingKeyError> {
        let path = self.path(name);
        let io = |doing| move |source| PendingKeyError::Io { doing, path: self.path(name), source };
        let draft = path.with_extension("draft");
        // A draft left by a crash keeps its own mode, so it must go first.
        remove_if_there(&draft).map_err(io("clear a draft of"))?;
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(io("create"))?;
        file.write_all(pki::key::to_pem(key).as_bytes()).and_then(|()| file.sync_all()).map_err(io("write"))?;
        failpoint::reached("key_drafted");
        std::fs::rename(&draft, &path).map_err(io("put in place"))?;
        failpoint::reached("key_placed");
        sync_directory(&self.directory).map_err(io("make durable"))
    }

    /// `None` when there is none.
    pub fn load(&self, name: &CertName) -> Result<Option<PrivateKey>, PendingKeyError> {
        let path = self.path(name);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(PendingKeyError::Io { doing: "read", path, source }),
        };
        let bundle = pki::bundle::Bundle::parse(&bytes).ok();
        let key = bundle.and_then(|bundle| bundle.keys.into_iter().next());
        match key.filter(|key| pki::key::prove(key).is_ok()) {
            Some(key) => Ok(Some(key)),
            None => Err(PendingKeyError::Damaged { path }),
        }
    }

    pub fn forget(&self, name: &CertName) -> Result<(), PendingKeyError> {
        let path = self.path(name);
        remove_if_there(&path).map_err(|source| PendingKeyError::Io { doing: "remove", path, source })
    }

    /// Names may hold anything that a Vault path may, so the file is named by their digest.
    fn path(&self, name: &CertName) -> PathBuf {
        let digest = pki::sha256(name.0.as_bytes());
        let hex: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        self.directory.join(format!("{hex}.key"))
    }
}

pub(super) fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn sync_directory(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use crate::domain::key::KeySpec;

    use super::*;

    #[test]
    fn a_key_is_private_read_back_the_same_and_gone_when_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let keys = PendingKeys::new(dir.path().join("pending")).unwrap();
        let name = CertName::from("vault:secret/tls/../web");
        let key = pki::key::generate(KeySpec::EcdsaP256).unwrap();
        std::fs::write(keys.path(&name).with_extension("draft"), b"left by a crash").unwrap();
        keys.save(&name, &key).unwrap();
        assert_eq!(std::fs::metadata(keys.path(&name)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(keys.load(&name).unwrap().unwrap().public, key.public);
        keys.forget(&name).unwrap();
        assert_eq!(keys.load(&name).unwrap().map(|key| key.public), None);
    }
}
