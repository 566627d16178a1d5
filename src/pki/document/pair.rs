//! The certificate and key that a place holds: what a renewal replaces, and the search for copies of it.

use std::sync::Arc;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem;
use zeroize::Zeroizing;

use crate::domain::cert::{Certificate, Fingerprint, KeyDigest, KeyType};
use crate::domain::key::PrivateKey;
use crate::pki::bundle::Kept;
use crate::pki::key_form::KeyForm;

use super::{Block, Document, Holds, Unfit};

/// In characters: less than any certificate or key takes.
const SHORTEST: usize = 60;

/// In bytes: the private half of the smallest key.
const PRIVATE_HALF: usize = 32;

/// A copy in base64 of base64 is followed, and one further within is not.
const DEEPEST: usize = 2;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// One certificate with its chain and key, as it stands somewhere.
pub struct Pair {
    pub leaf: Arc<Certificate>,
    /// From the issuer of the leaf upwards, without the root.
    pub above: Vec<Arc<Certificate>>,
    pub key: Option<KeyDigest>,
    der: Vec<u8>,
    /// The private half of the key.
    secret: Option<Zeroizing<Vec<u8>>>,
}

impl Pair {
    pub fn of(kept: &Kept) -> Self {
        let leaf = kept.chain.leaf.clone();
        let mut child = &leaf;
        let mut above = Vec::new();
        for parent in kept.chain.intermediates.iter() {
            if !child.names_as_issuer(parent) || parent.is_self_issued() {
                break;
            }
            above.push(parent.clone());
            child = parent;
        }
        let der = kept.ders.first().cloned().unwrap_or_default();
        let secret = kept.key.as_ref().and_then(private_half);
        Self { above, key: kept.key.as_ref().map(|key| key.public), der, secret, leaf }
    }

    pub fn is_leaf(&self, block: &Block) -> bool {
        self.is(block, self.leaf.fingerprint)
    }

    pub fn is_key(&self, block: &Block) -> bool {
        matches!(block.holds, Holds::Key { public, .. } if Some(public) == self.key)
    }

    /// Returns how far above the leaf this certificate stands; `None` for one that is not of its chain.
    pub fn height(&self, block: &Block) -> Option<usize> {
        self.above.iter().position(|above| self.is(block, above.fingerprint))
    }

    fn is(&self, block: &Block, wanted: Fingerprint) -> bool {
        matches!(&block.holds, Holds::Certificate { certificate, .. } if certificate.fingerprint == wanted)
    }

    /// # Errors
    ///
    /// Where the document holds the certificate or the key once more, in a form that no renewal replaces.
    pub fn insist_on_no_copy(&self, document: &Document) -> Result<(), Unfit> {
        match self.is_in(&document.rest(), 0) {
            true => Err(Unfit::Copy),
            false => Ok(()),
        }
    }

    /// Searches text or bytes for the certificate or the private key: as they are, in base64 and in hexadecimal.
    pub fn is_within(&self, bytes: &[u8]) -> bool {
        self.is_in(bytes, 0)
    }

    fn is_in(&self, bytes: &[u8], depth: usize) -> bool {
        let secret = self.secret.iter().map(|secret| secret.as_slice());
        let mut wanted = secret.chain((!self.der.is_empty()).then_some(self.der.as_slice()));
        if wanted.any(|wanted| memmem::find(bytes, wanted).is_some()) {
            return true;
        }
        if depth == DEEPEST || bytes.len() < SHORTEST {
            return false;
        }
        let joined = joined(bytes);
        let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        joined.split(|byte| !is_base64(byte)).filter(|run| run.len() >= SHORTEST).any(|run| {
            // A word before it moves the groups of four.
            (0..4).any(|skipped| {
                let run = &run[skipped..];
                let run = if run.len() % 4 == 1 { &run[..run.len() - 1] } else { run };
                LENIENT.decode(run).is_ok_and(|bytes| self.is_in(&Zeroizing::new(bytes), depth + 1))
            }) || hexadecimal(run).is_some_and(|bytes| self.is_in(&bytes, depth + 1))
        })
    }
}

/// The text without white space, colons, and line ends that are written out.
fn joined(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut joined = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, bytes.get(at + 1)) {
            (b'\\', Some(b'n' | b'r' | b't')) => at += 1,
            (b'\\' | b':', _) => {}
            (byte, _) if byte.is_ascii_whitespace() => {}
            (byte, _) => joined.push(*byte),
        }
        at += 1;
    }
    joined
}

/// Decodes text that is hexadecimal and nothing else.
pub fn hexadecimal(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() || text.is_empty() {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(pairs.len()));
    for [high, low] in pairs {
        bytes.push(digit(*high)? << 4 | digit(*low)?);
    }
    Some(bytes)
}

/// Returns bytes that every form of the key holds and its public half does not: the scalar (RFC 5915, section 3), the
/// seed (RFC 8410, section 7), or the last number of an RSA key (RFC 8017, appendix A.1.2).
fn private_half(key: &PrivateKey) -> Option<Zeroizing<Vec<u8>>> {
    let forms = [KeyForm::Sec1, KeyForm::Pkcs1].map(|form| form.to_der(key));
    let scalar = |der: &[u8]| {
        // Version 1, and the scalar as an octet string.
        let at = memmem::find(der, b"\x02\x01\x01\x04")?;
        der.get(at + 5..at + 5 + PRIVATE_HALF).map(|half| Zeroizing::new(half.to_vec()))
    };
    let tail = |der: &[u8]| der.len().checked_sub(PRIVATE_HALF).map(|at| Zeroizing::new(der[at..].to_vec()));
    match key.key_type {
        KeyType::Rsa(_) => tail(&forms[1]),
        KeyType::Ed25519 => {
            let at = memmem::find(&key.pkcs8, b"\x04\x22\x04\x20")? + 4;
            key.pkcs8.get(at..at + PRIVATE_HALF).map(|half| Zeroizing::new(half.to_vec()))
        }
        KeyType::EcdsaP256 | KeyType::EcdsaP384 | KeyType::EcdsaP521 | KeyType::Other(_) => scalar(&forms[0]),
    }
}
