//! Certificates of CAs, each kept once however many places hold it: a store of thousands of secrets has few CAs.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use super::{NotUnderstood, read, sha256};
use crate::domain::cert::Certificate;

/// Far more than an estate has CAs. Beyond it they are read anew, which costs time and nothing else.
const MOST: usize = 4_096;

/// By the SHA-256 of their DER. What nobody holds any more is not kept alive.
static KNOWN: LazyLock<Mutex<HashMap<[u8; 32], Weak<Certificate>>>> = LazyLock::new(Mutex::default);

/// As [`read::certificate`], from memory where it is a CA's that somebody still holds.
pub fn certificate(der: &[u8]) -> Result<Arc<Certificate>, NotUnderstood> {
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let digest = sha256(der);
    if let Some(certificate) = known().get(&digest).and_then(Weak::upgrade) {
        return Ok(certificate);
    }
    let certificate = Arc::new(read::with_digest(der, digest)?);
    if certificate.is_ca {
        let mut known = known();
        if known.len() >= MOST {
            known.retain(|_, certificate| certificate.strong_count() > 0);
        }
        if known.len() < MOST {
            known.insert(digest, Arc::downgrade(&certificate));
        }
    }
    Ok(certificate)
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
    fn a_ca_is_kept_once_while_somebody_holds_it_and_a_leaf_is_its_own() {
        let (ca, leaf) = (der(IsCa::Ca(BasicConstraints::Unconstrained)), der(IsCa::NoCa));
        let held = certificate(&ca).unwrap();
        assert!(Arc::ptr_eq(&held, &certificate(&ca).unwrap()));
        assert_eq!(*held, read::certificate(&ca).unwrap());
        let one = certificate(&leaf).unwrap();
        assert!(!Arc::ptr_eq(&one, &certificate(&leaf).unwrap()));
        let weak = Arc::downgrade(&held);
        drop(held);
        assert_eq!(weak.strong_count(), 0);
        assert!(certificate(&ca).unwrap().is_ca);
    }
}
