//! Whether a chain leads to a root that the operator trusts, by rustls-webpki.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeIdIter, anchor_from_trusted_cert};

use crate::domain::cert::{Certificate, Trust};
use crate::files::regular;

use super::{bundle::Bundle, read};

/// In bytes. The bundle of an operating system has a tenth of it.
const LARGEST_BUNDLE: u64 = 2 * 1024 * 1024;

/// The roots for one place.
#[derive(Debug)]
pub struct Roots {
    anchors: Vec<TrustAnchor<'static>>,
    /// A root is trusted as it is, even when it is kept as a leaf.
    roots: HashSet<[u8; 32]>,
    judges: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    #[error("could not read the roots: {}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("no usable root certificate in {}", path.display())]
    Empty { path: PathBuf },
    #[error("could not understand the roots in {}", path.display())]
    NotUnderstood { path: PathBuf, source: super::NotUnderstood },
    #[error("this host has no root certificates: install the package ca-certificates, or name a file of roots")]
    NoSystemRoots,
}

impl Roots {
    /// Judges nothing.
    pub fn none() -> Self {
        Self { anchors: Vec::new(), roots: HashSet::new(), judges: false }
    }

    /// Those that the operating system keeps.
    pub fn system() -> Result<Self, RootsError> {
        let found = rustls_native_certs::load_native_certs().certs;
        let roots = Self::from_ders(found.iter().map(|der| der.to_vec()).collect());
        if roots.anchors.is_empty() { Err(RootsError::NoSystemRoots) } else { Ok(roots) }
    }

    pub fn from_files(paths: &[PathBuf]) -> Result<Self, RootsError> {
        let mut ders = Vec::new();
        for path in paths {
            ders.extend(read_roots(path)?);
        }
        Ok(Self::from_ders(ders))
    }

    /// What verifies to one of them verifies to all together; they judge only if each of them does.
    pub fn together(all: &[Arc<Self>]) -> Self {
        Self {
            anchors: all.iter().flat_map(|one| one.anchors.iter().cloned()).collect(),
            roots: all.iter().flat_map(|one| one.roots.iter().copied()).collect(),
            judges: !all.is_empty() && all.iter().all(|one| one.judges),
        }
    }

    /// Certificates that cannot be a root are passed over.
    pub fn from_ders(ders: Vec<Vec<u8>>) -> Self {
        let anchor = |der: &Vec<u8>| {
            anchor_from_trusted_cert(&CertificateDer::from(der.as_slice())).ok().map(|anchor| anchor.to_owned())
        };
        Self {
            anchors: ders.iter().filter_map(anchor).collect(),
            roots: ders.iter().map(|der| super::sha256(der)).collect(),
            judges: true,
        }
    }

    /// Whether some path leads from the leaf, which comes first, to a root at some instant: a chain
    /// that merely expired still verifies.
    pub fn judge<D: AsRef<[u8]>>(&self, ders: &[D]) -> Trust {
        let Some((leaf, intermediates)) = ders.split_first().filter(|_| self.judges) else { return Trust::NotJudged };
        if self.roots.contains(&super::sha256(leaf.as_ref())) {
            return Trust::Verified;
        }
        match self.verify(leaf.as_ref(), intermediates) {
            Ok(()) => Trust::Verified,
            Err(why) => Trust::Unverified(why),
        }
    }

    fn verify<D: AsRef<[u8]>>(&self, leaf: &[u8], intermediates: &[D]) -> Result<(), String> {
        let der = CertificateDer::from(leaf);
        let end_entity = EndEntityCert::try_from(&der).map_err(|e| in_words(&e))?;
        let others: Vec<CertificateDer> = intermediates.iter().map(|der| CertificateDer::from(der.as_ref())).collect();
        let mut last = Error::UnknownIssuer;
        for instant in instants(leaf, intermediates) {
            let verified = end_entity.verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &self.anchors,
                &others,
                instant,
                AnyUsage,
                None,
                None,
            );
            match verified {
                Ok(_) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(in_words(&last))
    }
}

fn read_roots(path: &Path) -> Result<Vec<Vec<u8>>, RootsError> {
    let bytes = regular::read(path, LARGEST_BUNDLE).map_err(|source| RootsError::Io { path: path.into(), source })?;
    let bundle = Bundle::parse(&bytes).map_err(|source| RootsError::NotUnderstood { path: path.into(), source })?;
    let usable = |der: &Vec<u8>| anchor_from_trusted_cert(&CertificateDer::from(der.as_slice())).is_ok();
    let ders: Vec<_> = bundle.certificates.into_iter().filter(usable).collect();
    if ders.is_empty() { Err(RootsError::Empty { path: path.into() }) } else { Ok(ders) }
}

/// If a path is valid at any instant, it is valid at one where some certificate begins or ends.
fn instants<D: AsRef<[u8]>>(leaf: &[u8], intermediates: &[D]) -> Vec<UnixTime> {
    let ders = std::iter::once(leaf).chain(intermediates.iter().map(AsRef::as_ref));
    let parsed: Vec<Certificate> = ders.filter_map(|der| read::certificate(der).ok()).collect();
    let mut seconds: Vec<u64> = parsed
        .iter()
        .flat_map(|c| [c.not_before, c.not_after])
        .map(|instant| u64::try_from(instant.0).unwrap_or(0))
        .collect();
    seconds.sort_unstable();
    seconds.dedup();
    seconds.into_iter().map(|second| UnixTime::since_unix_epoch(Duration::from_secs(second))).collect()
}

/// What a certificate may be used for is a check of its own.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        Ok(())
    }
}

fn in_words(error: &Error) -> String {
    match error {
        Error::UnknownIssuer => "no path leads to a configured root (an intermediate may be missing)".to_string(),
        Error::InvalidSignatureForPublicKey => {
            "a signature in the chain is wrong, or made by another CA of the same name".to_string()
        }
        Error::CaUsedAsEndEntity => "a CA certificate stands where a leaf should".to_string(),
        Error::NameConstraintViolation => "a CA in the chain may not sign these names".to_string(),
        Error::CertExpired { .. } | Error::CertNotValidYet { .. } => {
            "the certificates of the chain are never valid at one time".to_string()
        }
        other => format!("the chain does not verify: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

    use super::*;

    fn ca() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "a root");
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn leaf(ca: &CertifiedIssuer<'static, KeyPair>, from: i32, to: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["www.example.org".to_string()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        params.signed_by(&KeyPair::generate().unwrap(), ca).unwrap().der().to_vec()
    }

    #[test]
    fn an_expired_chain_still_verifies_to_its_root_and_to_no_other() {
        let (ca, other) = (ca(), ca());
        let roots = Roots::from_ders(vec![ca.der().to_vec()]);
        assert_eq!(roots.judge(&[leaf(&ca, 2001, 2002)]), Trust::Verified);
        assert_eq!(roots.judge(&[leaf(&ca, 2024, 2050)]), Trust::Verified);
        let stranger =
            Trust::Unverified("a signature in the chain is wrong, or made by another CA of the same name".into());
        assert_eq!(roots.judge(&[leaf(&other, 2024, 2050)]), stranger);
    }

    #[test]
    fn judges_nothing_without_roots_and_trusts_a_root_as_it_is() {
        let ca = ca();
        assert_eq!(Roots::none().judge(&[ca.der().to_vec()]), Trust::NotJudged);
        assert_eq!(Roots::from_ders(vec![ca.der().to_vec()]).judge(&[ca.der().to_vec()]), Trust::Verified);
    }
}
