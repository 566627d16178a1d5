//! Where the account of an ACME issuer is kept: a 0600 file, or a secret that several hosts share, written by
//! check-and-set alone. Its key is durable there before the CA hears of it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::{Zeroize, Zeroizing};

use crate::domain::key::PrivateKey;
use crate::domain::name::VaultName;
use crate::pki;
use crate::pki::bundle::Bundle;
use crate::store::file::disk;
use crate::vault::{Fields, KvRead, Vault, VaultError};

pub enum Keeper {
    File(PathBuf),
    VaultKv {
        vault: Arc<Vault>,
        /// Mount and path.
        path: String,
    },
}

/// An account as it is kept.
#[derive(Clone)]
pub struct Kept {
    pub directory: String,
    pub key: PrivateKey,
    /// What the CA calls it; `None` until it has answered.
    pub url: Option<String>,
    /// As the CA was told.
    pub contact: Vec<String>,
    /// What the key is about to become: the CA may know it already.
    pub next_key: Option<PrivateKey>,
}

/// What a write must still find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Nothing,
    /// With these contents, by their SHA-256.
    File([u8; 32]),
    Version(u64),
}

#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error("could not {doing} the account's key: {}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{0}")]
    OutOfSight(String),
    #[error("could not {doing} the account's key: {place}")]
    Vault {
        doing: &'static str,
        place: String,
        #[source]
        source: VaultError,
    },
    #[error("what is kept at {0} is no account of certd: move it away, or restore the account there")]
    NotUnderstood(String),
    /// Another instance wrote it since it was read.
    #[error("the account at {0} was changed by another instance: it is read again")]
    Changed(String),
}

/// As it is written; keys are PEM.
#[derive(Serialize, Deserialize)]
struct Text {
    what_this_is: String,
    directory: String,
    private_key: String,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    contact: Vec<String>,
    #[serde(default)]
    next_private_key: Option<String>,
}

impl Drop for Text {
    fn drop(&mut self) {
        self.private_key.zeroize();
        self.next_private_key.zeroize();
    }
}

impl Keeper {
    pub fn place(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::VaultKv { vault, path } => format!("{}:{path}", vault.name),
        }
    }

    /// Mount and path, where it is kept in this Vault.
    pub fn path_in(&self, vault: &VaultName) -> Option<&str> {
        match self {
            Self::VaultKv { vault: keeps, path } if keeps.name == *vault => Some(path),
            Self::VaultKv { .. } | Self::File(_) => None,
        }
    }

    pub async fn load(&self) -> Result<Option<(Kept, Held)>, KeeperError> {
        let not_understood = || KeeperError::NotUnderstood(self.place());
        match self {
            Self::File(path) => {
                let read = disk::read(path).map_err(|obstacle| KeeperError::OutOfSight(obstacle.message))?;
                let Some(bytes) = read else { return Ok(None) };
                let text = serde_json::from_slice(&bytes).map_err(|_| not_understood())?;
                let held = Held::File(pki::sha256(&bytes));
                Ok(Some((Kept::of(&text).ok_or_else(not_understood)?, held)))
            }
            Self::VaultKv { vault, path } => {
                // Another instance may have made it a moment ago.
                vault.catch_up(std::time::Instant::now()).await.map_err(|source| self.failed("read", source))?;
                match vault.kv_read(path).await.map_err(|source| self.failed("read", source))? {
                    KvRead::Absent { version: None | Some(0), .. } => Ok(None),
                    // Whoever deleted it did not mean that another one is made.
                    KvRead::Absent { .. } => Err(KeeperError::OutOfSight(format!(
                        "the account's key at {} was deleted: restore that version (`certd history`, `vault kv undelete`)",
                        self.place()
                    ))),
                    KvRead::Present { data, version, .. } => {
                        let version = version.ok_or_else(|| {
                            KeeperError::OutOfSight(format!(
                                "{} is in a key-value store of version 1, which counts no versions: two hosts could \
                                 overwrite each other's account there; use version 2",
                                self.place()
                            ))
                        })?;
                        let kept = text_of(&data).and_then(|text| Kept::of(&text)).ok_or_else(not_understood)?;
                        Ok(Some((kept, Held::Version(version))))
                    }
                }
            }
        }
    }

    /// Durable when it returns.
    pub async fn save(&self, kept: &Kept, held: Held) -> Result<Held, KeeperError> {
        match (self, held) {
            (Self::File(path), held) => {
                let _lock = lock(path)?;
                let there = disk::read(path).map_err(|obstacle| KeeperError::OutOfSight(obstacle.message))?;
                let there = there.map_or(Held::Nothing, |bytes| Held::File(pki::sha256(&bytes)));
                match there == held {
                    true => write(path, kept).map(Held::File),
                    false => Err(KeeperError::Changed(self.place())),
                }
            }
            (Self::VaultKv { vault, path }, held) => {
                let cas = match held {
                    Held::Version(version) => version,
                    Held::Nothing | Held::File(_) => 0,
                };
                match vault.kv_write(path, fields(kept), cas).await {
                    Ok(version) => Ok(Held::Version(version)),
                    Err(VaultError::CasMismatch { .. }) => Err(KeeperError::Changed(self.place())),
                    Err(source) => Err(self.failed("write", source)),
                }
            }
        }
    }

    fn failed(&self, doing: &'static str, source: VaultError) -> KeeperError {
        KeeperError::Vault { doing, place: self.place(), source }
    }
}

impl Kept {
    fn of(text: &Text) -> Option<Self> {
        let next_key = match &text.next_private_key {
            Some(pem) => Some(key(pem)?),
            None => None,
        };
        Some(Self {
            directory: text.directory.clone(),
            key: key(&text.private_key)?,
            url: text.url.clone(),
            contact: text.contact.clone(),
            next_key,
        })
    }

    fn text(&self) -> Text {
        let pem = |key: &PrivateKey| pki::key::to_pem(key).to_string();
        Text {
            what_this_is: "an ACME account of certd: whoever has its key can have certificates issued".to_string(),
            directory: self.directory.clone(),
            private_key: pem(&self.key),
            url: self.url.clone(),
            contact: self.contact.clone(),
            next_private_key: self.next_key.as_ref().map(pem),
        }
    }
}

fn key(pem: &str) -> Option<PrivateKey> {
    let key = Bundle::parse(pem.as_bytes()).ok()?.keys.into_iter().next()?;
    pki::key::prove(&key).is_ok().then_some(key)
}

fn fields(kept: &Kept) -> Fields {
    let text = kept.text();
    Fields::from([
        field("what_this_is", &text.what_this_is),
        field("directory", &text.directory),
        field("private_key", &text.private_key),
        field("url", &text.url),
        field("contact", &text.contact),
        field("next_private_key", &text.next_private_key),
    ])
}

fn field<T: Serialize + ?Sized>(name: &str, value: &T) -> (String, Box<RawValue>) {
    (name.to_string(), serde_json::value::to_raw_value(value).expect("texts are JSON"))
}

fn text_of(fields: &Fields) -> Option<Text> {
    let json = Zeroizing::new(serde_json::to_string(fields).ok()?);
    serde_json::from_str(&json).ok()
}

/// Between the look and the rename nobody else writes.
fn lock(path: &Path) -> Result<File, KeeperError> {
    let failed = |source| KeeperError::File { doing: "lock", path: path.to_path_buf(), source };
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    }
    let mut options = OpenOptions::new();
    let lock = options.create(true).append(true).mode(0o600).open(path.with_extension("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    Ok(lock)
}

fn write(path: &Path, kept: &Kept) -> Result<[u8; 32], KeeperError> {
    let io = |doing| move |source| KeeperError::File { doing, path: path.to_path_buf(), source };
    let draft = path.with_extension("draft");
    // A draft left by a crash keeps its own mode, so it must go first.
    match std::fs::remove_file(&draft) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(io("clear a draft of")(source)),
        Ok(()) | Err(_) => {}
    }
    let text = Zeroizing::new(serde_json::to_string_pretty(&kept.text()).expect("texts are JSON"));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(io("create"))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io("write"))?;
    std::fs::rename(&draft, path).map_err(io("put in place"))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io("make durable"))?;
    Ok(pki::sha256(text.as_bytes()))
}
