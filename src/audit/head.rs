//! The head of the audit log, noted where whoever may change the log has no access: in Vault's metadata, or in syslog.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::chain::Head;
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
        "could not note the head of the audit log in Vault: {path}: make it a secret of KV version 2 that certd may note"
    )]
    Vault {
        path: String,
        #[source]
        source: VaultError,
    },
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

    /// Notes the head in each place; where one fails, in the other all the same.
    pub async fn publish(&self, head: &Head, host: &str) -> Result<(), HeadError> {
        let logged = match &self.syslog {
            Some(path) => log(path, head, host).await,
            None => Ok(()),
        };
        if let Some((vault, path)) = &self.vault {
            let notes = Notes::from([(note_name(host), head.to_string())]);
            let noted = vault.note_at_any(path, &notes).await;
            noted.map_err(|source| HeadError::Vault { path: path.clone(), source })?;
        }
        logged
    }
}

/// Returns the name of the note in Vault's custom metadata.
pub fn note_name(host: &str) -> String {
    let host: String = host.chars().filter(|c| c.is_ascii_graphic()).take(LONGEST_HOST).collect();
    format!("certd-audit-{host}")
}

/// One datagram in the form of `syslog(3)`, without a time: the daemon there has its own.
async fn log(path: &Path, head: &Head, host: &str) -> Result<(), HeadError> {
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
