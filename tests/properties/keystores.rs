//! Keystores behind a checksum that fits, as whoever knows the password can make them: what certd would write of one
//! opens again, with the new certificate in it, and reads the same each time that it is written.

use std::sync::LazyLock;
use std::time::SystemTime;

use aws_lc_rs::{digest, hmac};
use certd::domain::key::PrivateKey;
use certd::domain::renewal::CertifiedKey;
use certd::pki::bundle::Bundle;
use certd::pki::keystore::effort::Effort;
use certd::pki::keystore::{Keystore, Password, Passwords};
use jks::common::{RandomReader, password_bytes};
use jks::{KeyStore, KeyStoreOptions, PrivateKeyEntry, TrustedCertificateEntry};

use crate::authority::Authority;

/// What a first byte says of those that follow: a Java keystore without its digest, or the content of a PKCS#12 file.
const JKS: u8 = b'j';
const PKCS12: u8 = b'p';

const PASSWORD: &str = "a";
/// As UTF-16, in Java without and in PKCS#12 with a zero at its end.
const IN_UTF16: [u8; 4] = [0, b'a', 0, 0];

/// The certificate that was there and the one that comes, of one CA.
static PAIR: LazyLock<(CertifiedKey, CertifiedKey)> = LazyLock::new(|| {
    let authority = Authority::new();
    (authority.certified("web.example.org"), authority.certified("web.example.org"))
});

pub fn check(data: &[u8]) -> bool {
    let file = match data.split_first() {
        Some((&JKS, body)) => with_digest(body),
        Some((&PKCS12, content)) => with_mac(content),
        _ => data.to_vec(),
    };
    let Ok(opened) = open(&file) else { return false };
    let Ok(kept) = opened.kept() else { return false };
    if !opened.has_key() || opened.insist_writable().is_err() || kept.clone().proven().key.is_none() {
        return false;
    }
    // What may be written can be: no CA signs in vain.
    let new = &PAIR.1;
    let now = opened.renewed(new).unwrap();
    let again = open(&now).unwrap();
    let held = again.kept().unwrap();
    assert_eq!((&held.ders[0], held.key_digest()), (&new.ders()[0], Some(new.key().public)));
    again.insist_writable().unwrap();
    let twice = open(&again.renewed(new).unwrap()).unwrap();
    assert_eq!(twice.bundle().certificates, again.bundle().certificates);
    assert_eq!(twice.kept().unwrap().key_digest(), held.key_digest());
    true
}

fn open(file: &[u8]) -> Result<Keystore, certd::pki::NotUnderstood> {
    Keystore::open(file, &Passwords { store: Password(PASSWORD.to_string().into()), key: None }, &mut Effort::default())
}

/// SHA-1 over password, a phrase of Java's, and the whole.
fn with_digest(body: &[u8]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    [&IN_UTF16[..2], b"Mighty Aphrodite", body].iter().for_each(|part| context.update(part));
    [body, context.finish().as_ref()].concat()
}

/// A PFX around the content (RFC 7292, section 4), with the key of its MAC by one round (appendix B).
fn with_mac(content: &[u8]) -> Vec<u8> {
    let salt = [7; 8];
    let block = [&[3; 64][..], &salt.repeat(8), &IN_UTF16.repeat(16)].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, digest::digest(&digest::SHA256, &block).as_ref());
    let mac = hmac::sign(&key, content);
    let algorithm = sequence(&[&object(&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1]), &[5, 0]]);
    let info = sequence(&[&algorithm, &tlv(4, &[mac.as_ref()])]);
    sequence(&[&[2, 1, 3], &in_the_open(content), &sequence(&[&info, &tlv(4, &[&salt])])])
}

fn in_the_open(content: &[u8]) -> Vec<u8> {
    sequence(&[&object(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1]), &tlv(0xa0, &[&tlv(4, &[content])])])
}

fn object(oid: &[u8]) -> Vec<u8> {
    tlv(6, &[oid])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let length = value.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    match value.len() {
        short @ 0..128 => [&[tag, short as u8][..], &value].concat(),
        _ => [&[tag, 0x80 | length.len() as u8][..], length, &value].concat(),
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let key = PAIR.0.key();
    let content = pkcs12(key);
    let whole = with_mac(&content);
    vec![[&[PKCS12][..], &content].concat(), [&[JKS][..], &java(key)].concat(), whole]
}

/// Whole keystores with each of these keys beside a certificate that is not its own.
pub fn seeds_of(keys: &str) -> Vec<Vec<u8>> {
    let keys = Bundle::parse(keys.as_bytes()).unwrap().keys;
    let (pkcs12, java) =
        (keys.iter().map(|key| with_mac(&pkcs12(key))), keys.iter().map(|key| with_digest(&java(key))));
    pkcs12.chain(java).collect()
}

/// The content of a file with everything in the open: a chain, its key, and an alias for leaf and key.
fn pkcs12(key: &PrivateKey) -> Vec<u8> {
    let old = &PAIR.0;
    let pkcs = |rest: &[u8]| object(&[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1][..], rest].concat());
    let alias = sequence(&[&pkcs(&[9, 20]), &tlv(0x31, &[&tlv(0x1e, &[&[0, b'w']])])]);
    let bag = |kind: u8, value: &[u8], rest: &[u8]| sequence(&[&pkcs(&[12, 10, 1, kind]), &tlv(0xa0, &[value]), rest]);
    let attributes = tlv(0x31, &[&alias]);
    let certificate = |der: &Vec<u8>, rest: &[u8]| {
        let value = sequence(&[&pkcs(&[9, 22, 1]), &tlv(0xa0, &[&tlv(4, &[der])])]);
        bag(3, &value, rest)
    };
    let chain = sequence(&[&certificate(&old.ders()[0], &attributes), &certificate(&old.ders()[1], &[])]);
    let keys = sequence(&[&bag(1, &key.pkcs8, &attributes)]);
    sequence(&[&in_the_open(&chain), &in_the_open(&keys)])
}

/// With a certificate that is trusted beside the key, and without the digest.
fn java(key: &PrivateKey) -> Vec<u8> {
    let old = &PAIR.0;
    let mut keystore = KeyStore::with_options(KeyStoreOptions {
        ordered_aliases: true,
        case_exact_aliases: true,
        min_password_len: 0,
        rng: Box::new(Sevens),
        password_bytes,
    });
    let certificate = |der: &Vec<u8>| jks::Certificate { cert_type: "X.509".to_string(), content: der.clone() };
    let entry = PrivateKeyEntry {
        creation_time: SystemTime::UNIX_EPOCH,
        private_key: key.pkcs8.to_vec(),
        certificate_chain: old.ders().iter().map(certificate).collect(),
    };
    let trusted =
        TrustedCertificateEntry { creation_time: SystemTime::UNIX_EPOCH, certificate: certificate(&old.ders()[1]) };
    keystore.set_private_key_entry("web", entry, PASSWORD.as_bytes()).unwrap();
    keystore.set_trusted_certificate_entry("trusted", trusted).unwrap();
    let mut file = Vec::new();
    keystore.store(&mut file, PASSWORD.as_bytes()).unwrap();
    file.truncate(file.len() - digest::SHA1_FOR_LEGACY_USE_ONLY.output_len());
    file
}

struct Sevens;

impl RandomReader for Sevens {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<()> {
        buffer.fill(7);
        Ok(())
    }
}
