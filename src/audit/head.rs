//! The head of the audit log, noted where whoever may change the log has no access: in Vault's metadata, or in syslog.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::chain::Head;
use super::noted::{Standing, standing};
use super::verify::ReadError;
use crate::vault::{Notes, Vault, VaultError};

/// Facility `authpriv` (10), severity `informational` (6): RFC 5424, section 6.2.1.
const PRIORITY: u8 = 10 * 8 + 6;

/// A syslog that takes nothing for so long is not waited for.
const SYSLOG_WITHIN: Duration = Duration::from_secs(2);

/// In bytes, of a name in custom metadata (Vault's limit is 128).
const LONGEST_HOST: usize = 100;

#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    #[error(
        "could not note the head of the audit log in Vault: {path} (it must be a secret of KV version 2; `certd vault policy` \
         prints the right)"
    )]
    Vault {
        path: String,
        #[source]
        source: VaultError,
    },
    #[error(
        "the audit log does not hold the head that was noted in Vault: {path}: {why}: find out who changed the log, then \
         remove {note} from the custom metadata there; each state directory needs a path of its own"
    )]
    NotHeld { path: String, note: String, why: String },
    #[error("could not compare the audit log with its head in Vault")]
    NotCompared(#[source] ReadError),
    #[error("could not send the head of the audit log to syslog: {}", path.display())]
    Syslog {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Where the head is noted.
#[derive(Clone, Default)]
pub struct HeadExport {
    /// A secret, whose custom metadata gets one name for each host.
    pub vault: Option<(Arc<Vault>, String)>,
    /// A datagram socket, such as `/dev/log`.
    pub syslog: Option<PathBuf>,
}

impl HeadExport {
    pub fn is_configured(&self) -> bool {
        self.vault.is_some() || self.syslog.is_some()
    }

    /// Notes the head in each place; where one fails, in the other all the same. `log` is the directory of the log where
    /// this process noted no head yet: then what was noted before must be in the log, or its note stays.
    pub async fn publish(&self, head: &Head, host: &str, log: Option<&Path>) -> Result<(), HeadError> {
        let logged = match &self.syslog {
            Some(path) => send(path, head, host).await,
            None => Ok(()),
        };
        if let Some((vault, path)) = &self.vault {
            if let Some(directory) = log {
                compare(vault, path, host, directory).await?;
            }
            let notes = Notes::from([(note_name(host), head.to_string())]);
            let noted = vault.note_at_any(path, &notes).await;
            noted.map_err(|source| HeadError::Vault { path: path.clone(), source })?;
        }
        logged
    }
}

/// Else whoever removes the end of the log and restarts certd would have its note replaced as well.
async fn compare(vault: &Vault, path: &str, host: &str, directory: &Path) -> Result<(), HeadError> {
    let history = vault.history(path).await.map_err(|source| HeadError::Vault { path: path.to_string(), source })?;
    let noted = history.and_then(|history| history.custom_metadata.get(&note_name(host))?.parse::<Head>().ok());
    let Some(noted) = noted else { return Ok(()) };
    let (directory, head) = (directory.to_path_buf(), noted.clone());
    let standing = tokio::task::spawn_blocking(move || standing(&directory, &head)).await;
    let standing = standing.unwrap_or_else(|_| Err(ReadError::of(Path::new(""), io::Error::other("it broke off"))));
    let sequence = noted.sequence;
    let why = match standing.map_err(HeadError::NotCompared)? {
        Standing::Held => return Ok(()),
        Standing::CutOff { last } => format!("it names record {sequence}, and the log ends with record {last}"),
        Standing::Other => format!("record {sequence} is another one now"),
        Standing::NotHere => format!("the file with record {sequence} is not in the state directory"),
    };
    Err(HeadError::NotHeld { path: path.to_string(), note: note_name(host), why })
}

/// Returns the name of the note in Vault's custom metadata.
pub fn note_name(host: &str) -> String {
    let host: String = host.chars().filter(|c| c.is_ascii_graphic()).take(LONGEST_HOST).collect();
    format!("certd-audit-{host}")
}

/// One datagram in the form of `syslog(3)`, without a time: the daemon there has its own.
async fn send(path: &Path, head: &Head, host: &str) -> Result<(), HeadError> {
    let text = format!("<{PRIORITY}>certd[{}]: audit log of {host}: head {head}", std::process::id());
    let socket = path.to_path_buf();
    let sent = tokio::task::spawn_blocking(move || -> io::Result<()> {
        let sender = UnixDatagram::unbound()?;
        sender.set_write_timeout(Some(SYSLOG_WITHIN))?;
        sender.send_to(text.as_bytes(), socket).map(drop)
    });
    let sent = sent.await.unwrap_or_else(|_| Err(io::Error::other("sending broke off")));
    sent.map_err(|source| HeadError::Syslog { path: path.to_path_buf(), source })
}
