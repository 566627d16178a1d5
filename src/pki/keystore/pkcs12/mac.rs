//! What proves that a PKCS#12 file is whole and that the password is its own (RFC 7292, appendix B.4).

use aws_lc_rs::{digest, hmac};
use der::asn1::{ObjectIdentifier, OctetString};

use super::asn1::{DigestInfo, MacData};
use super::kdf::{self, Purpose};
use super::seal::{failed, random_like, unknown};
use crate::pki::NotUnderstood;
use crate::pki::keystore::effort::Effort;
use crate::pki::keystore::{Password, wrong_password};

const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA224: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.4");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

pub fn verify(mac: &MacData, content: &[u8], password: &Password, effort: &mut Effort) -> Result<(), NotUnderstood> {
    effort.spend(mac.iterations)?;
    hmac::verify(&key(mac, password)?, content, mac.mac.digest.as_bytes()).map_err(|_| wrong_password())
}

/// Of other content, in the same way under another salt.
pub fn renewed(old: &MacData, content: &[u8], password: &Password) -> Result<MacData, NotUnderstood> {
    let mut mac = MacData { salt: random_like(&old.salt)?, ..old.clone() };
    let tag = hmac::sign(&key(&mac, password)?, content);
    let digest = OctetString::new(tag.as_ref().to_vec()).map_err(failed)?;
    mac.mac = DigestInfo { digest, ..mac.mac };
    Ok(mac)
}

fn key(mac: &MacData, password: &Password) -> Result<hmac::Key, NotUnderstood> {
    let (digest, hmac) = match mac.mac.algorithm.oid {
        SHA1 => (&digest::SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        SHA224 => (&digest::SHA224, hmac::HMAC_SHA224),
        SHA256 => (&digest::SHA256, hmac::HMAC_SHA256),
        SHA384 => (&digest::SHA384, hmac::HMAC_SHA384),
        SHA512 => (&digest::SHA512, hmac::HMAC_SHA512),
        oid => return Err(unknown("MAC", oid)),
    };
    let salt = mac.salt.as_bytes();
    let key = kdf::derive(digest, Purpose::Mac, password, salt, mac.iterations, digest.output_len());
    Ok(hmac::Key::new(hmac, &key))
}
