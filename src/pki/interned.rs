//! Certificates, each kept once however many places hold it and sweeps see it: a store of thousands of secrets has few
//! CAs, and what one sweep saw the next one sees again while the first is still remembered.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use super::{NotUnderstood, read, sha256};
use crate::domain::cert::Certificate;

/// So many are kept before those are looked for that nobody holds any more.
const FEW: usize = 4_096;

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(|| Mutex::new(Known { certificates: HashMap::new(), most: FEW }));

struct Known {
    /// By the SHA-256 of their DER. What nobody holds any more is not kept alive.
    certificates: HashMap<[u8; 32], Weak<Certificate>>,
    most: usize,
}

/// As [`read::certificate`], from memory where somebody still holds it.
pub fn certificate(der: &[u8]) -> Result<Arc<Certificate>, NotUnderstood> {
    let digest = sha256(der);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(certificate) = known().certificates.get(&digest).and_then(Weak::upgrade) {
        return Ok(certificate);
    }
    let certificate = read::with_digest(der, digest)?;
    Ok(known().keep(digest, certificate))
}

impl Known {
    /// Where somebody else read it meanwhile, theirs.
    fn keep(&mut self, digest: [u8; 32], certificate: Certificate) -> Arc<Certificate> {
        if let Some(theirs) = self.certificates.get(&digest).and_then(Weak::upgrade) {
            return theirs;
        }
        if self.certificates.len() >= self.most {
            self.certificates.retain(|_, certificate| certificate.strong_count() > 0);
            self.most = FEW.max(2 * self.certificates.len());
        }
        let certificate = Arc::new(certificate);
        self.certificates.insert(digest, Arc::downgrade(&certificate));
        certificate
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn der(is_ca: IsCa) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["a.example.org".to_string()]).unwrap();
        params.is_ca = is_ca;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn one_is_kept_once_while_somebody_holds_it_and_no_longer() {
        for is_ca in [IsCa::Ca(BasicConstraints::Unconstrained), IsCa::NoCa] {
            let der = der(is_ca);
            let held = certificate(&der).unwrap();
            assert!(Arc::ptr_eq(&held, &certificate(&der).unwrap()));
            assert_eq!(*held, read::certificate(&der).unwrap());
            let weak = Arc::downgrade(&held);
            drop(held);
            assert_eq!(weak.strong_count(), 0);
            assert_eq!(*certificate(&der).unwrap(), read::certificate(&der).unwrap());
        }
    }

    #[test]
    fn what_nobody_holds_makes_room_before_more_room_is_taken() {
        let mut known = Known { certificates: HashMap::new(), most: FEW };
        let read = || read::certificate(&der(IsCa::NoCa)).unwrap();
        known.certificates.extend((0..FEW as u32).map(|nth| (sha256(&nth.to_be_bytes()), Weak::new())));
        let held = known.keep([1; 32], read());
        assert!(Arc::ptr_eq(&held, &known.keep([1; 32], read())));
        assert_eq!((known.certificates.len(), known.most), (1, FEW));
        known.certificates.extend((0..FEW as u32).map(|nth| (sha256(&nth.to_be_bytes()), Arc::downgrade(&held))));
        known.keep([2; 32], read());
        assert_eq!((known.certificates.len(), known.most), (FEW + 2, 2 * (FEW + 1)));
    }
}
