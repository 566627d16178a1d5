//! Private keys: made, read in the three forms that tools write, and written as PKCS#8.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use zeroize::Zeroizing;

use crate::domain::cert::{KeyDigest, KeyType};
use crate::domain::key::{KeySpec, PrivateKey};

use super::{NotUnderstood, stated};

#[derive(Debug, thiserror::Error)]
#[error("could not make a private key: {0}")]
pub struct KeyError(String);

impl From<aws_lc_rs::error::Unspecified> for KeyError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self("the cryptographic library failed".to_string())
    }
}

/// Takes up to a second for RSA: call it where blocking is fine.
pub fn generate(spec: KeySpec) -> Result<PrivateKey, KeyError> {
    match spec {
        KeySpec::EcdsaP256 => generate_ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, KeyType::EcdsaP256),
        KeySpec::EcdsaP384 => generate_ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING, KeyType::EcdsaP384),
        KeySpec::Rsa2048 => generate_rsa(KeySize::Rsa2048),
        KeySpec::Rsa3072 => generate_rsa(KeySize::Rsa3072),
        KeySpec::Rsa4096 => generate_rsa(KeySize::Rsa4096),
        KeySpec::Ed25519 => Ok(held_ed25519(&Ed25519KeyPair::generate()?)?),
    }
}

fn generate_ecdsa(algorithm: &'static EcdsaSigningAlgorithm, key_type: KeyType) -> Result<PrivateKey, KeyError> {
    Ok(held_ecdsa(&EcdsaKeyPair::generate(algorithm)?, key_type)?)
}

fn generate_rsa(size: KeySize) -> Result<PrivateKey, KeyError> {
    Ok(held_rsa(&RsaKeyPair::generate(size)?)?)
}

/// PKCS#8 (RFC 5958), PKCS#1 (RFC 8017) or SEC1 (RFC 5915) in DER. Where the key states its public half, that is taken
/// for what it is: whoever relies on it asks [`prove`].
pub fn from_der(der: &[u8]) -> Result<PrivateKey, NotUnderstood> {
    stated::key(der).map_or_else(|| proven(der), Ok)
}

/// The public half really is that of the private one.
pub fn prove(key: &PrivateKey) -> Result<(), NotUnderstood> {
    match proven(&key.pkcs8)?.public == key.public {
        true => Ok(()),
        false => Err(NotUnderstood::new("a private key whose public half is that of another")),
    }
}

/// As [`from_der`], with nothing taken for granted.
pub(super) fn proven(der: &[u8]) -> Result<PrivateKey, NotUnderstood> {
    // To try one kind after another takes several times as long as to read the key.
    let (named, unnamed): (Vec<_>, Vec<_>) = curves().into_iter().partition(|curve| curve.is_named_in(der));
    let ecdsa = |curves: Vec<Curve>| curves.into_iter().find_map(|curve| curve.read(der));
    ecdsa(named).or_else(|| rsa(der)).or_else(|| ed25519(der)).or_else(|| ecdsa(unnamed)).ok_or_else(unreadable)
}

struct Curve {
    /// The object identifier in DER (RFC 5480, section 2.1.1.1).
    oid: &'static [u8],
    algorithm: &'static EcdsaSigningAlgorithm,
    key_type: KeyType,
}

fn curves() -> [Curve; 3] {
    let curve = |oid, algorithm, key_type| Curve { oid, algorithm, key_type };
    [
        curve(b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", &ECDSA_P256_SHA256_ASN1_SIGNING, KeyType::EcdsaP256),
        curve(b"\x06\x05\x2b\x81\x04\x00\x22", &ECDSA_P384_SHA384_ASN1_SIGNING, KeyType::EcdsaP384),
        curve(b"\x06\x05\x2b\x81\x04\x00\x23", &ECDSA_P521_SHA512_ASN1_SIGNING, KeyType::EcdsaP521),
    ]
}

impl Curve {
    fn is_named_in(&self, der: &[u8]) -> bool {
        der.windows(self.oid.len()).any(|window| window == self.oid)
    }

    fn read(self, der: &[u8]) -> Option<PrivateKey> {
        let pair = EcdsaKeyPair::from_private_key_der(self.algorithm, der).ok()?;
        held_ecdsa(&pair, self.key_type).ok()
    }
}

fn rsa(der: &[u8]) -> Option<PrivateKey> {
    let pair = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)).ok()?;
    held_rsa(&pair).ok()
}

fn ed25519(der: &[u8]) -> Option<PrivateKey> {
    held_ed25519(&Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?).ok()
}

fn unreadable() -> NotUnderstood {
    NotUnderstood::new("a private key of a kind that certd does not read (it reads RSA, ECDSA P-256/384/521, Ed25519)")
}

/// One `PRIVATE KEY` block.
pub fn to_pem(key: &PrivateKey) -> Zeroizing<String> {
    Zeroizing::new(super::pem::block("PRIVATE KEY", &key.pkcs8))
}

fn held_ecdsa(pair: &EcdsaKeyPair, key_type: KeyType) -> Result<PrivateKey, aws_lc_rs::error::Unspecified> {
    let spki = AsDer::<PublicKeyX509Der>::as_der(pair.public_key())?;
    Ok(held(pair.to_pkcs8v1()?.as_ref(), spki.as_ref(), key_type))
}

fn held_rsa(pair: &RsaKeyPair) -> Result<PrivateKey, aws_lc_rs::error::Unspecified> {
    let pkcs8 = AsDer::<Pkcs8V1Der>::as_der(pair)?;
    let spki = AsDer::<PublicKeyX509Der>::as_der(pair.public_key())?;
    let bits = u32::try_from(pair.public_modulus_len() * 8).unwrap_or(u32::MAX);
    Ok(held(pkcs8.as_ref(), spki.as_ref(), KeyType::Rsa(bits)))
}

fn held_ed25519(pair: &Ed25519KeyPair) -> Result<PrivateKey, aws_lc_rs::error::Unspecified> {
    let spki = AsDer::<PublicKeyX509Der>::as_der(pair.public_key())?;
    Ok(held(pair.to_pkcs8v1()?.as_ref(), spki.as_ref(), KeyType::Ed25519))
}

fn held(pkcs8: &[u8], spki: &[u8], key_type: KeyType) -> PrivateKey {
    PrivateKey { pkcs8: Zeroizing::new(pkcs8.to_vec()), public: KeyDigest(super::sha256(spki)), key_type }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: [KeySpec; 6] = [
        KeySpec::EcdsaP256,
        KeySpec::EcdsaP384,
        KeySpec::Rsa2048,
        KeySpec::Rsa3072,
        KeySpec::Rsa4096,
        KeySpec::Ed25519,
    ];

    #[test]
    fn a_key_of_every_kind_is_read_back_as_the_same_key() {
        for spec in SPECS {
            let key = generate(spec).unwrap();
            let read = from_der(&key.pkcs8).unwrap();
            assert_eq!(key.key_type, spec.key_type());
            assert_eq!((read.public, read.key_type, &read.pkcs8), (key.public, spec.key_type(), &key.pkcs8));
        }
    }

    #[test]
    fn reads_the_older_forms_as_the_same_key() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let sec1 = AsDer::<aws_lc_rs::encoding::EcPrivateKeyRfc5915Der>::as_der(&pair.private_key()).unwrap();
        assert_eq!(from_der(sec1.as_ref()).unwrap().public, held_ecdsa(&pair, KeyType::EcdsaP256).unwrap().public);
    }

    #[test]
    fn a_key_with_the_public_half_of_another_is_read_and_does_not_stand_the_proof() {
        let (one, other) = (generate(KeySpec::EcdsaP256).unwrap(), generate(KeySpec::EcdsaP256).unwrap());
        assert_eq!(prove(&from_der(&one.pkcs8).unwrap()), Ok(()));
        // The point comes last in both.
        let mut mixed = one.pkcs8.to_vec();
        let at = mixed.len() - 64;
        mixed[at..].copy_from_slice(&other.pkcs8[at..]);
        let read = from_der(&mixed).unwrap();
        assert_eq!(read.public, other.public);
        assert!(prove(&read).is_err());
        let lying = PrivateKey { public: other.public, ..one };
        assert_eq!(prove(&lying).unwrap_err().to_string(), "a private key whose public half is that of another");
    }

    #[test]
    fn refuses_what_is_no_key_and_never_shows_one() {
        assert!(from_der(b"no key").unwrap_err().to_string().starts_with("a private key of a kind"));
        assert_eq!(format!("{:?}", generate(KeySpec::Ed25519).unwrap()), "PrivateKey(…)");
    }
}
