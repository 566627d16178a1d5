//! How a part of a PKCS#12 file is encrypted, and how the whole is authenticated. A part is sealed again as it was, under a
//! new salt: the same scheme, because its readers may know no other.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA1, PBKDF2_HMAC_SHA256, PBKDF2_HMAC_SHA384, PBKDF2_HMAC_SHA512};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, KeyInit, KeyIvInit};
use der::asn1::{Any, ObjectIdentifier, OctetString};
use der::{Decode, Encode};
use zeroize::Zeroizing;

use super::asn1::{AlgorithmIdentifier, Pbes1Parameters, Pbes2Parameters, Pbkdf2Parameters};
use super::kdf::{self, Purpose};
use crate::pki::NotUnderstood;
use crate::pki::keystore::effort::Effort;
use crate::pki::keystore::{Password, damaged, wrong_password};

const PBES2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.13");
const PBKDF2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.12");
const PBE_SHA1_3DES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.3");
const PBE_SHA1_RC2_128: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.5");
const PBE_SHA1_RC2_40: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.6");
const AES_128_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.2");
const AES_192_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.22");
const AES_256_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.42");
const HMAC_SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.7");
const HMAC_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.9");
const HMAC_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.10");
const HMAC_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.11");

/// An encryption scheme with its parameters.
#[derive(Clone)]
pub enum Seal {
    /// RFC 7292, appendix C.
    Pbes1 { oid: ObjectIdentifier, parameters: Pbes1Parameters },
    /// RFC 8018, section 6.2, by PBKDF2 and AES in CBC mode.
    Pbes2 { kdf: Pbkdf2Parameters, cipher: ObjectIdentifier, iv: [u8; 16] },
}

impl Seal {
    pub fn read(algorithm: &AlgorithmIdentifier) -> Result<Self, NotUnderstood> {
        let parameters = algorithm.parameters.as_ref().ok_or_else(|| damaged(()))?;
        match algorithm.oid {
            PBES2 => Self::read_pbes2(parameters),
            oid @ (PBE_SHA1_3DES | PBE_SHA1_RC2_128 | PBE_SHA1_RC2_40) => {
                Ok(Self::Pbes1 { oid, parameters: parameters.decode_as().map_err(damaged)? })
            }
            oid => Err(unknown("encryption", oid)),
        }
    }

    fn read_pbes2(parameters: &Any) -> Result<Self, NotUnderstood> {
        let Pbes2Parameters { kdf, cipher } = parameters.decode_as().map_err(damaged)?;
        if kdf.oid != PBKDF2 {
            return Err(unknown("key derivation", kdf.oid));
        }
        let kdf: Pbkdf2Parameters = kdf.parameters.ok_or_else(|| damaged(()))?.decode_as().map_err(damaged)?;
        prf(&kdf)?;
        aes(cipher.oid)?;
        let iv: OctetString = cipher.parameters.ok_or_else(|| damaged(()))?.decode_as().map_err(damaged)?;
        let iv = iv.as_bytes().try_into().map_err(damaged)?;
        Ok(Self::Pbes2 { kdf, cipher: cipher.oid, iv })
    }

    pub fn write(&self) -> der::Result<AlgorithmIdentifier> {
        let any = |der: Vec<u8>| Any::from_der(&der).map(Some);
        match self {
            Self::Pbes1 { oid, parameters } => {
                Ok(AlgorithmIdentifier { oid: *oid, parameters: any(parameters.to_der()?)? })
            }
            Self::Pbes2 { kdf, cipher, iv } => {
                let kdf = AlgorithmIdentifier { oid: PBKDF2, parameters: any(kdf.to_der()?)? };
                let iv = OctetString::new(iv.to_vec())?;
                let cipher = AlgorithmIdentifier { oid: *cipher, parameters: any(iv.to_der()?)? };
                Ok(AlgorithmIdentifier { oid: PBES2, parameters: any(Pbes2Parameters { kdf, cipher }.to_der()?)? })
            }
        }
    }

    /// The same scheme under another salt, as each use must have.
    pub fn fresh(&self) -> Result<Self, NotUnderstood> {
        let mut fresh = self.clone();
        match &mut fresh {
            Self::Pbes1 { parameters, .. } => parameters.salt = random_like(&parameters.salt)?,
            Self::Pbes2 { kdf, iv, .. } => {
                kdf.salt = random_like(&kdf.salt)?;
                aws_lc_rs::rand::fill(iv).map_err(failed)?;
            }
        }
        Ok(fresh)
    }

    pub fn decrypt(
        &self,
        encrypted: &[u8],
        password: &Password,
        effort: &mut Effort,
    ) -> Result<Zeroizing<Vec<u8>>, NotUnderstood> {
        match self {
            Self::Pbes1 { oid, parameters } => {
                // Once for the key and once for the initial vector.
                effort.spend(parameters.iterations)?;
                effort.spend(parameters.iterations)?;
                let open = match *oid {
                    PBE_SHA1_3DES => opened::<des::TdesEde3>,
                    _ => opened::<rc2::Rc2>,
                };
                let (key, iv) = pbes1_key(*oid, parameters, password);
                open(&key, &iv, encrypted).ok_or_else(wrong_password)
            }
            Self::Pbes2 { kdf, cipher, iv } => {
                effort.spend(kdf.iterations)?;
                let key = UnboundCipherKey::new(aes(*cipher)?, &pbes2_key(kdf, *cipher, password)?).map_err(failed)?;
                let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(failed)?;
                let mut plain = Zeroizing::new(encrypted.to_vec());
                let context = DecryptionContext::Iv128(FixedLength::from(*iv));
                let length = key.decrypt(&mut plain, context).map_err(|_| wrong_password())?.len();
                plain.truncate(length);
                Ok(plain)
            }
        }
    }

    pub fn encrypt(&self, plain: &[u8], password: &Password) -> Result<Vec<u8>, NotUnderstood> {
        match self {
            Self::Pbes1 { oid, parameters } => {
                let seal = match *oid {
                    PBE_SHA1_3DES => sealed::<des::TdesEde3>,
                    _ => sealed::<rc2::Rc2>,
                };
                let (key, iv) = pbes1_key(*oid, parameters, password);
                seal(&key, &iv, plain).ok_or_else(|| failed(()))
            }
            Self::Pbes2 { kdf, cipher, iv } => {
                let key = UnboundCipherKey::new(aes(*cipher)?, &pbes2_key(kdf, *cipher, password)?).map_err(failed)?;
                let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).map_err(failed)?;
                let mut sealed = plain.to_vec();
                let context = EncryptionContext::Iv128(FixedLength::from(*iv));
                key.less_safe_encrypt(&mut sealed, context).map_err(failed)?;
                Ok(sealed)
            }
        }
    }
}

/// The key and the initial vector of 8 bytes (RFC 7292, appendix C).
fn pbes1_key(
    oid: ObjectIdentifier,
    parameters: &Pbes1Parameters,
    password: &Password,
) -> (Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>) {
    let length = match oid {
        PBE_SHA1_3DES => 24,
        PBE_SHA1_RC2_128 => 16,
        _ => 5,
    };
    let (salt, iterations) = (parameters.salt.as_bytes(), parameters.iterations);
    let derive = |purpose, length| {
        let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
        kdf::derive(sha1, purpose, password, salt, iterations, length)
    };
    (derive(Purpose::Key, length), derive(Purpose::InitialVector, 8))
}

fn opened<C: KeyInit + BlockCipherDecrypt>(key: &[u8], iv: &[u8], encrypted: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let cipher = cbc::Decryptor::<C>::new_from_slices(key, iv).ok()?;
    cipher.decrypt_padded_vec::<Pkcs7>(encrypted).ok().map(Zeroizing::new)
}

fn sealed<C: KeyInit + BlockCipherEncrypt>(key: &[u8], iv: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let cipher = cbc::Encryptor::<C>::new_from_slices(key, iv).ok()?;
    Some(cipher.encrypt_padded_vec::<Pkcs7>(plain))
}

fn pbes2_key(
    kdf: &Pbkdf2Parameters,
    cipher: ObjectIdentifier,
    password: &Password,
) -> Result<Zeroizing<Vec<u8>>, NotUnderstood> {
    let length: u16 = match cipher {
        AES_128_CBC => 16,
        AES_192_CBC => 24,
        _ => 32,
    };
    if kdf.key_length.is_some_and(|named| named != length) {
        return Err(damaged(()));
    }
    let iterations = NonZeroU32::new(kdf.iterations).ok_or_else(|| damaged(()))?;
    let mut key = Zeroizing::new(vec![0; usize::from(length)]);
    pbkdf2::derive(prf(kdf)?, iterations, kdf.salt.as_bytes(), password.0.as_bytes(), &mut key);
    Ok(key)
}

fn prf(kdf: &Pbkdf2Parameters) -> Result<pbkdf2::Algorithm, NotUnderstood> {
    match kdf.prf.as_ref().map_or(HMAC_SHA1, |prf| prf.oid) {
        HMAC_SHA1 => Ok(PBKDF2_HMAC_SHA1),
        HMAC_SHA256 => Ok(PBKDF2_HMAC_SHA256),
        HMAC_SHA384 => Ok(PBKDF2_HMAC_SHA384),
        HMAC_SHA512 => Ok(PBKDF2_HMAC_SHA512),
        oid => Err(unknown("key derivation", oid)),
    }
}

fn aes(cipher: ObjectIdentifier) -> Result<&'static Algorithm, NotUnderstood> {
    match cipher {
        AES_128_CBC => Ok(&AES_128),
        AES_192_CBC => Ok(&AES_192),
        AES_256_CBC => Ok(&AES_256),
        oid => Err(unknown("cipher", oid)),
    }
}

/// As long as the old one.
pub fn random_like(old: &OctetString) -> Result<OctetString, NotUnderstood> {
    let mut bytes = vec![0; old.as_bytes().len().max(8)];
    aws_lc_rs::rand::fill(&mut bytes).map_err(failed)?;
    OctetString::new(bytes).map_err(failed)
}

/// What a keystore may name and certd does not read, by RFC 8018, RFC 7292, RFC 7914, RFC 5652 and RFC 9579.
const NAMED: [(ObjectIdentifier, &str); 12] = [
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.1"), "RC4 with 128 bits"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.2"), "RC4 with 40 bits"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.5"), "RC2 with 128 bits"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.3"), "DES with MD5"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.10"), "DES with SHA-1"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.14"), "PBMAC1"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.3.7"), "triple DES in PBES2"),
    (ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11591.4.11"), "scrypt"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.2.5"), "MD5"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.2.8"), "HMAC with SHA-224"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2"), "signed data"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.3"), "enveloped data"),
];

/// An identifier without a name here is not repeated: in a damaged file it may be anything.
pub fn unknown(what: &'static str, oid: ObjectIdentifier) -> NotUnderstood {
    let named = NAMED.into_iter().find(|(known, _)| *known == oid);
    NotUnderstood::Algorithm { what, algorithm: named.map_or("of an unknown kind", |(_, name)| name) }
}

pub fn failed<E>(_: E) -> NotUnderstood {
    NotUnderstood::new("it could not be sealed: the cryptographic library failed")
}
