//! Java keystores (JKS, the default of Java up to 8), by the crate `jks`.
//!
//! That crate takes lengths as they come, allocates as much at once, and indexes into an encrypted key without looking: so a
//! file reaches it only after [`insist_on_lengths`] and [`insist_on_envelope`].

use der::asn1::{Any, ObjectIdentifier, OctetString};
use der::{Decode, Sequence};
use jks::common::{RandomReader, password_bytes};
use jks::{Entry, KeyStore, KeyStoreError, KeyStoreOptions, PrivateKeyEntry};
use zeroize::Zeroizing;

use super::{Password, Passwords, damaged, insist_on_one_key, wrong_password};
use crate::domain::renewal::CertifiedKey;
use crate::pki::bundle::Bundle;
use crate::pki::{NotUnderstood, key, order, read};

const PRIVATE_KEY: u32 = 1;
const TRUSTED_CERTIFICATE: u32 = 2;

/// How Java encrypts the key of an entry.
const KEY_PROTECTOR: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.42.2.17.1.1");

#[derive(Clone)]
pub struct Jks {
    bytes: Vec<u8>,
    store: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
    alias: Option<String>,
}

impl Jks {
    pub fn open(bytes: &[u8], passwords: &Passwords) -> Result<Self, NotUnderstood> {
        insist_on_lengths(bytes).ok_or_else(|| damaged(()))?;
        let key = passwords.key.as_ref().unwrap_or(&passwords.store);
        let (store, key) = (latin(&passwords.store)?, latin(key)?);
        let mut opened = Self { bytes: bytes.to_vec(), store, key, alias: None };
        let entries = opened.load()?;
        let mut aliases: Vec<String> = entries.aliases();
        let all = aliases.len();
        aliases.retain(|alias| entries.is_private_key_entry(alias));
        if all != count(bytes) {
            return Err(NotUnderstood::new("two of its entries have the same alias"));
        }
        insist_on_one_key(&aliases)?;
        opened.alias = aliases.pop();
        opened.entry(&entries)?;
        Ok(opened)
    }

    pub fn has_key(&self) -> bool {
        self.alias.is_some()
    }

    pub fn bundle(&self) -> Bundle {
        let mut bundle = Bundle::default();
        let Ok(entries) = self.load() else { return bundle };
        match self.entry(&entries) {
            Ok(Some(entry)) => {
                match key::from_der(&Zeroizing::new(entry.private_key)) {
                    Ok(key) => bundle.keys.push(key),
                    Err(why) => bundle.unread_keys.push(why),
                }
                bundle.certificates =
                    entry.certificate_chain.into_iter().map(|certificate| certificate.content).collect();
            }
            Ok(None) | Err(_) => {
                let trusted = entries
                    .aliases()
                    .into_iter()
                    .filter_map(|alias| entries.get_trusted_certificate_entry(&alias).ok());
                bundle.certificates = trusted.map(|entry| entry.certificate.content).collect();
            }
        }
        bundle
    }

    pub fn renewed(&self, certified: &CertifiedKey) -> Result<Vec<u8>, NotUnderstood> {
        let mut entries = self.load()?;
        let (Some(alias), Some(mut entry)) = (&self.alias, self.entry(&entries)?) else {
            return Err(NotUnderstood::new("there is no private key in it"));
        };
        let old = entry.certificate_chain.iter().map(|certificate| &certificate.content);
        let stood: order::Stood =
            old.map(|der| Ok((read::certificate(der)?, der.clone()))).collect::<Result<_, NotUnderstood>>()?;
        let before = stood.first().map(|(leaf, _)| leaf.fingerprint);
        let chain = order::like(&stood, certified, true, before);
        let certificate = |content| jks::Certificate { cert_type: "X.509".to_string(), content };
        entry.certificate_chain = chain.into_iter().map(certificate).collect();
        entry.private_key = certified.key().pkcs8.to_vec();
        entries.set_private_key_entry(alias, entry, &self.key).map_err(unwritten)?;
        let mut written = Vec::new();
        entries.store(&mut written, &self.store).map_err(unwritten)?;
        Ok(written)
    }

    /// Anew each time, since the crate's own type cannot be copied.
    fn load(&self) -> Result<KeyStore, NotUnderstood> {
        let mut entries = KeyStore::with_options(KeyStoreOptions {
            ordered_aliases: true,
            case_exact_aliases: true,
            min_password_len: 0,
            rng: Box::new(Random),
            password_bytes,
        });
        entries.load(&self.bytes[..], &self.store).map_err(unread)?;
        Ok(entries)
    }

    /// With its key in the open; `None` where there is no key.
    fn entry(&self, entries: &KeyStore) -> Result<Option<PrivateKeyEntry>, NotUnderstood> {
        let Some(alias) = &self.alias else { return Ok(None) };
        let Entry::PrivateKey(sealed) = Entry::PrivateKey(entries.get_raw_private_key_entry(alias).map_err(unread)?)
        else {
            return Ok(None);
        };
        insist_on_envelope(&sealed.private_key)?;
        entries.get_private_key_entry(alias, &self.key).map(Some).map_err(|error| match error {
            KeyStoreError::InvalidDigest => NotUnderstood::new("the password of its key is another one"),
            other => unread(other),
        })
    }
}

struct Random;

impl RandomReader for Random {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<()> {
        aws_lc_rs::rand::fill(buffer).map_err(|_| std::io::Error::other("no randomness"))
    }
}

#[derive(Sequence)]
struct Envelope {
    algorithm: Algorithm,
    encrypted: OctetString,
}

#[derive(Sequence)]
struct Algorithm {
    oid: ObjectIdentifier,
    parameters: Option<Any>,
}

/// Of the whole, and of everything in it, so that none says more than is there.
fn insist_on_lengths(bytes: &[u8]) -> Option<()> {
    let mut rest = bytes.get(4..bytes.len().checked_sub(DIGEST)?)?;
    let version = number(&mut rest)?;
    for _ in 0..number(&mut rest)? {
        let tag = number(&mut rest)?;
        text(&mut rest)?;
        rest = rest.get(CREATED..)?;
        let certificates = match tag {
            PRIVATE_KEY => {
                block(&mut rest)?;
                number(&mut rest)?
            }
            TRUSTED_CERTIFICATE => 1,
            _ => return None,
        };
        for _ in 0..certificates {
            if version > 1 {
                text(&mut rest)?;
            }
            block(&mut rest)?;
        }
    }
    rest.is_empty().then_some(())
}

/// Of the SHA-1 at the end, in bytes.
const DIGEST: usize = 20;

/// Of the time of an entry, in bytes.
const CREATED: usize = 8;

/// Of entries; the lengths were looked at before.
fn count(bytes: &[u8]) -> usize {
    bytes.get(8..).and_then(|mut rest| number(&mut rest)).map_or(0, |count| count as usize)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_be_bytes(*number))
}

fn text(rest: &mut &[u8]) -> Option<()> {
    let (length, after) = rest.split_first_chunk()?;
    *rest = after.get(usize::from(u16::from_be_bytes(*length))..)?;
    Some(())
}

fn block(rest: &mut &[u8]) -> Option<()> {
    let length = number(rest)?;
    *rest = rest.get(length as usize..)?;
    Some(())
}

fn insist_on_envelope(sealed: &[u8]) -> Result<(), NotUnderstood> {
    let envelope = Envelope::from_der(sealed).map_err(damaged)?;
    let Algorithm { oid, parameters } = envelope.algorithm;
    match oid == KEY_PROTECTOR && parameters.is_none_or(|parameters| parameters.is_null()) {
        true => Ok(()),
        false => Err(NotUnderstood::new("its key is encrypted in a way that certd does not read")),
    }
}

/// Java takes a password as UTF-16 and the crate as bytes that stand for half of that, which is all of Latin-1.
fn latin(password: &Password) -> Result<Zeroizing<Vec<u8>>, NotUnderstood> {
    let bytes = password.0.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<Vec<u8>>>();
    bytes.map(Zeroizing::new).ok_or_else(|| {
        NotUnderstood::new("its password has letters that certd cannot use for a JKS: convert it to PKCS#12")
    })
}

fn unread(error: KeyStoreError) -> NotUnderstood {
    match error {
        KeyStoreError::InvalidDigest => wrong_password(),
        other => damaged(other),
    }
}

fn unwritten(_: KeyStoreError) -> NotUnderstood {
    NotUnderstood::new("it could not be written as JKS: convert it by `keytool -importkeystore -deststoretype PKCS12`")
}
