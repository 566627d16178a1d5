//! Private keys as data: what kind is asked for, and one that is held.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::cert::{KeyDigest, KeyType};

/// A kind of key that certd makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeySpec {
    #[default]
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
    #[serde(rename = "ecdsa-p384")]
    EcdsaP384,
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    #[serde(rename = "rsa-3072")]
    Rsa3072,
    #[serde(rename = "rsa-4096")]
    Rsa4096,
    Ed25519,
}

impl KeySpec {
    pub fn key_type(self) -> KeyType {
        match self {
            Self::EcdsaP256 => KeyType::EcdsaP256,
            Self::EcdsaP384 => KeyType::EcdsaP384,
            Self::Rsa2048 => KeyType::Rsa(2048),
            Self::Rsa3072 => KeyType::Rsa(3072),
            Self::Rsa4096 => KeyType::Rsa(4096),
            Self::Ed25519 => KeyType::Ed25519,
        }
    }

    /// The same kind as a key that was found; `None` for a kind that certd does not make.
    pub fn like(found: &KeyType) -> Option<Self> {
        [Self::EcdsaP256, Self::EcdsaP384, Self::Rsa2048, Self::Rsa3072, Self::Rsa4096, Self::Ed25519]
            .into_iter()
            .find(|spec| spec.key_type() == *found)
    }
}

/// Prints as `…`; wiped when dropped.
#[derive(Clone)]
pub struct PrivateKey {
    /// PKCS#8 in DER (RFC 5958).
    pub pkcs8: Zeroizing<Vec<u8>>,
    pub public: KeyDigest,
    pub key_type: KeyType,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}
