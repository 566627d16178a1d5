//! A bundle: it is read as the `pem` crate reads it, and what is written of it is read again as the same.

use certd::pki::bundle::Bundle;
use certd::pki::{key, pem};

use crate::archive;

/// An EC key as OpenSSL wrote it before PKCS#8, and one that is encrypted.
const SEC1: &str = "-----BEGIN EC PRIVATE KEY-----\n\
    MHcCAQEEIGU56+ZB+RTqQQmquNP+ywL4ykVctrPjTWT9mgOGyIPRoAoGCCqGSM49\n\
    AwEHoUQDQgAEFG6rHkJ0/AUfK73U+cdgNkOGj1rMxBWmGKrMi6yi2kXtxzGES2uM\n\
    OjEZuSoPqr6tjBkg196sPSmfU1BDnnBOVg==\n-----END EC PRIVATE KEY-----\n";
const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";

pub fn check(data: &[u8]) -> bool {
    if let Ok(blocks) = pem::parse_many(data) {
        let text = String::from_utf8_lossy(data);
        match ::pem::parse_many(data) {
            Ok(theirs) => assert_eq!(blocks, theirs, "{text:?}"),
            // To the crate, what comes before a blank line is a header.
            Err(_) => assert!(text.lines().any(|line| line.trim().is_empty()), "{text:?}"),
        }
    }
    let Ok(bundle) = Bundle::parse(data) else { return false };
    let keys = bundle.keys.iter().map(|key| key::to_pem(key).to_string()).collect::<String>();
    let again = Bundle::parse((pem::certificates(&bundle.certificates) + &keys).as_bytes()).unwrap();
    assert_eq!(again.certificates, bundle.certificates);
    let publics = |bundle: &Bundle| bundle.keys.iter().map(|key| key.public).collect::<Vec<_>>();
    assert_eq!(publics(&again), publics(&bundle));
    assert!(again.unread_keys.is_empty());
    chains_hold_nothing_else(&bundle);
    !bundle.certificates.is_empty()
}

/// Each chain begins with its leaf, and has nothing twice and nothing that was not there.
fn chains_hold_nothing_else(bundle: &Bundle) {
    let Ok(chains) = bundle.chains() else { return };
    assert!(!chains.is_empty());
    for kept in chains {
        assert_eq!(kept.ders.len(), 1 + kept.chain.intermediates.len());
        let all = std::iter::once(&kept.chain.leaf).chain(&kept.chain.intermediates);
        for (i, (certificate, der)) in all.zip(&kept.ders).enumerate() {
            assert!(bundle.certificates.contains(der) && !kept.ders[..i].contains(der));
            assert_eq!(certificate.fingerprint, certd::pki::read::certificate(der).unwrap().fingerprint);
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let objects = archive::objects();
    let some = || objects.iter().filter(|der| der.len() < 1_500).step_by(40);
    let mut seeds: Vec<Vec<u8>> = some().map(|der| pem::certificates(&[der]).into_bytes()).collect();
    let three: Vec<&Vec<u8>> = some().take(3).collect();
    let chain = pem::certificates(&three);
    let blank = chain.replace("\n-----END", "\n\n-----END");
    seeds.extend([SEC1.to_string() + &chain, chain.replace('\n', "\r\n") + ENCRYPTED, blank].map(String::into_bytes));
    // What certd once read otherwise than the crate: a sixth dash.
    seeds.push([b"-", &*seeds[0]].concat());
    seeds.extend(some().take(3).cloned());
    seeds
}
