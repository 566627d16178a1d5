//! Keystores: PKCS#12 files (RFC 7292) and Java keystores (JKS). Each is opened whole, and written back with one key and
//! chain replaced and everything else as it was. The only place that knows these formats.

pub mod effort;
mod jks;
mod pkcs12;

use std::fmt;

use zeroize::Zeroizing;

use super::bundle::{Bundle, Kept};
use super::{FieldName, NotUnderstood};
use crate::domain::renewal::CertifiedKey;
use effort::Effort;
use jks::Jks;
use pkcs12::Pkcs12;

/// In bytes. A secret of Vault has room for less.
const LARGEST: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Pkcs12,
    Jks,
    /// Java's own successor of JKS, which nothing but Java reads.
    Jceks,
}

/// Prints as `…`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub Zeroizing<String>);

pub struct Passwords {
    pub store: Password,
    /// Of the key, where it is another.
    pub key: Option<Password>,
}

/// An open keystore with at most one private key.
#[derive(Clone)]
pub enum Keystore {
    Pkcs12(Pkcs12),
    Jks(Jks),
}

impl Kind {
    /// By the first 9 bytes: a sequence that opens with the version 3 of PKCS#12, or a magic number of Java.
    pub fn of(head: &[u8]) -> Option<Self> {
        let version = [0x02, 0x01, 0x03];
        // The length of the sequence takes one to four bytes.
        let is_pfx = || (2..=5).any(|at| head.get(at..).is_some_and(|rest| rest.starts_with(&version)));
        match head {
            [0xfe, 0xed, 0xfe, 0xed, ..] => Some(Self::Jks),
            [0xce, 0xce, 0xce, 0xce, ..] => Some(Self::Jceks),
            [0x30, ..] if is_pfx() => Some(Self::Pkcs12),
            [..] => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pkcs12 => "PKCS#12",
            Self::Jks => "JKS",
            Self::Jceks => "JCEKS",
        })
    }
}

impl Keystore {
    /// Takes up to a second where the iteration counts are high: call it where blocking is fine.
    /// Opens one of several in a place, which share an effort.
    ///
    /// # Errors
    /// If it is not understood, its password is wrong, or to open it is too costly.
    pub fn open(bytes: &[u8], passwords: &Passwords, effort: &mut Effort) -> Result<Self, NotUnderstood> {
        if bytes.len() > LARGEST {
            return Err(NotUnderstood::TooLarge(LARGEST));
        }
        match Kind::of(bytes) {
            Some(Kind::Pkcs12) => Pkcs12::open(bytes, &passwords.store, effort).map(Self::Pkcs12),
            Some(Kind::Jks) => Jks::open(bytes, passwords).map(Self::Jks),
            Some(Kind::Jceks) => Err(NotUnderstood::new(
                "a JCEKS keystore, which certd does not read: convert it by `keytool -importkeystore -deststoretype PKCS12`",
            )),
            None => Err(NotUnderstood::new("it is no keystore")),
        }
    }

    /// Without one it only says whom to trust.
    pub fn has_key(&self) -> bool {
        match self {
            Self::Pkcs12(store) => store.has_key(),
            Self::Jks(store) => store.has_key(),
        }
    }

    /// The key with the certificates of its entry, in their order; without a key, the trusted certificates.
    pub fn bundle(&self) -> Bundle {
        match self {
            Self::Pkcs12(store) => store.bundle(),
            Self::Jks(store) => store.bundle(),
        }
    }

    /// The certificate of the key, with its chain.
    pub fn kept(&self) -> Result<Kept, NotUnderstood> {
        let mut chains = self.bundle().chains()?;
        match chains.len() {
            1 => Ok(chains.remove(0)),
            n => Err(NotUnderstood::Unrelated(n)),
        }
    }

    /// Why it must not be written, with what to do about it.
    pub fn insist_writable(&self) -> Result<(), NotUnderstood> {
        let bundle = self.bundle();
        bundle.insist_on_keys()?;
        bundle.insist_on_one()
    }

    /// The same keystore with another key and chain under the same alias and the same password: same algorithms
    /// and iteration counts, for whoever reads it must be able to go on doing so.
    pub fn renewed(&self, certified: &CertifiedKey) -> Result<Vec<u8>, NotUnderstood> {
        match self {
            Self::Pkcs12(store) => store.renewed(certified),
            Self::Jks(store) => store.renewed(certified),
        }
    }
}

/// Names no password and no key.
impl fmt::Debug for Keystore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pkcs12(_) => "Pkcs12(…)",
            Self::Jks(_) => "Jks(…)",
        })
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

fn wrong_password() -> NotUnderstood {
    NotUnderstood::new("its password does not open it, or it is damaged")
}

fn damaged<E>(_: E) -> NotUnderstood {
    NotUnderstood::new("it is damaged, or in a form that certd does not read")
}

/// A write would replace one of them and leave it open which.
fn insist_on_one_key(aliases: &[String]) -> Result<(), NotUnderstood> {
    match aliases.len() {
        0 | 1 => Ok(()),
        n => Err(NotUnderstood::SeveralKeys(n, aliases.iter().map(|alias| FieldName::of(alias)).collect())),
    }
}
