//! The listener's own certificate: read from files that certd itself may renew, and swapped under
//! running connections.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use aws_lc_rs::digest::{SHA256, digest};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tracing::warn;
use zeroize::Zeroizing;

use crate::files::regular;
use crate::pki::{self, NotUnderstood};

/// A chain or a key over this is not one.
const LARGEST_FILE: u64 = 1 << 20;

/// PEM files: the chain, leaf first, and its key. One file may be both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

/// What a reload found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    Unchanged,
    /// New connections are shown another certificate from now on.
    Swapped,
}

#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("could not read the listener's own certificate or key: {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not find PEM in the listener's own certificate or key: {path}")]
    Pem {
        path: PathBuf,
        #[source]
        source: NotUnderstood,
    },
    #[error("could not serve the listener's own certificate with its key: {path}")]
    Pair {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
}

/// Shows clients the certificate that [`Self::reload`] read last.
pub struct ServedCertificate {
    files: TlsFiles,
    current: ArcSwapOption<CertifiedKey>,
    /// Over the bytes of both files, as last served.
    read: ArcSwap<Vec<u8>>,
    missing_said: AtomicBool,
}

impl ServedCertificate {
    /// Serves nothing until the first reload.
    pub fn new(files: TlsFiles) -> Self {
        Self {
            files,
            current: ArcSwapOption::empty(),
            read: ArcSwap::from_pointee(Vec::new()),
            missing_said: AtomicBool::new(false),
        }
    }

    /// Reads the files again. After an error the certificate of before is served on.
    pub fn reload(&self) -> Result<Reload, ReloadError> {
        let chain = bounded_read(&self.files.certificate)?;
        let key = bounded_read(&self.files.private_key)?;
        let read = [digest(&SHA256, &chain).as_ref(), digest(&SHA256, &key).as_ref()].concat();
        if **self.read.load() == read {
            return Ok(Reload::Unchanged);
        }
        self.current.store(Some(Arc::new(self.pair(&chain, &key)?)));
        self.read.store(Arc::new(read));
        self.missing_said.store(false, Ordering::Relaxed);
        Ok(Reload::Swapped)
    }

    fn pair(&self, chain: &[u8], key: &[u8]) -> Result<CertifiedKey, ReloadError> {
        let TlsFiles { certificate, private_key } = &self.files;
        // The errors of that reader repeat lines of the file.
        let no_pem = |path: &Path, bytes: &[u8]| {
            let none = NotUnderstood::new("there is none in it");
            let source = pki::pem::parse_many(bytes).err().map_or(none, NotUnderstood::Pem);
            ReloadError::Pem { path: path.to_path_buf(), source }
        };
        let certificates = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
        let chain = certificates.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| no_pem(certificate, chain))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| no_pem(private_key, key))?;
        CertifiedKey::from_der(chain, key, &default_provider())
            .map_err(|source| ReloadError::Pair { path: certificate.clone(), source })
    }
}

fn bounded_read(path: &Path) -> Result<Zeroizing<Vec<u8>>, ReloadError> {
    let failed = |source| ReloadError::Read { path: path.to_path_buf(), source };
    regular::read(path, LARGEST_FILE).map_err(failed)
}

impl ResolvesServerCert for ServedCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.load_full();
        if current.is_none() && !self.missing_said.swap(true, Ordering::Relaxed) {
            let certificate = self.files.certificate.display();
            warn!(%certificate, "connections are refused until this file and its key are there");
        }
        current
    }
}

impl std::fmt::Debug for ServedCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServedCertificate").field("files", &self.files).finish_non_exhaustive()
    }
}
