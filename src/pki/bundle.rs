//! What a file or a field holds: certificates and keys in any order, made into chains.

use std::sync::Arc;

use crate::domain::cert::{Certificate, Chain, KeyDigest};
use crate::domain::key::PrivateKey;

use super::{NotUnderstood, key, read};

/// Certificates (DER) and private keys as they were found.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    pub certificates: Vec<Vec<u8>>,
    pub keys: Vec<PrivateKey>,
    /// Keys that are there and cannot be read: encrypted, or of a strange kind. A place that holds
    /// one may be looked at, and is never written.
    pub unread_keys: Vec<String>,
}

/// One leaf with the certificates that belong to it.
#[derive(Clone, Debug)]
pub struct Kept {
    pub chain: Chain,
    /// Leaf first, as in `chain`.
    pub ders: Vec<Vec<u8>>,
    /// The key that belongs to the leaf; where none does, a key that was found beside it.
    pub key: Option<PrivateKey>,
}

impl Kept {
    pub fn key_digest(&self) -> Option<KeyDigest> {
        self.key.as_ref().map(|key| key.public)
    }
}

impl Bundle {
    /// PEM with blocks of any kind in any order, or one certificate in DER.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotUnderstood> {
        let mut bundle = Self::default();
        // DER opens with a SEQUENCE, and no text does.
        if bytes.first() == Some(&0x30) && read::certificate(bytes).is_ok() {
            bundle.certificates.push(bytes.to_vec());
            return Ok(bundle);
        }
        let blocks = pem::parse_many(bytes).map_err(|e| NotUnderstood::new(format!("the PEM is damaged: {e}")))?;
        for block in blocks {
            bundle.take(&block);
        }
        Ok(bundle)
    }

    fn take(&mut self, block: &pem::Pem) {
        match block.tag() {
            "CERTIFICATE" | "X509 CERTIFICATE" => self.certificates.push(block.contents().to_vec()),
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => match key::from_der(block.contents()) {
                Ok(key) => self.keys.push(key),
                Err(NotUnderstood(why)) => self.unread_keys.push(why),
            },
            tag if tag.ends_with("PRIVATE KEY") => self.unread_keys.push(format!("a key in a form not read: {tag}")),
            _ => {}
        }
    }

    pub fn add(&mut self, other: Self) {
        self.certificates.extend(other.certificates);
        self.keys.extend(other.keys);
        self.unread_keys.extend(other.unread_keys);
    }

    /// Before a place may be written, every key in it must have been read.
    pub fn insist_on_keys(&self) -> Result<(), NotUnderstood> {
        self.unread_keys.first().map_or(Ok(()), |why| Err(NotUnderstood::new(why)))
    }

    /// One chain a leaf. The leaf is the certificate of a key found here; else whatever signed no
    /// other certificate here, certificates of CAs counting only when there is nothing else.
    pub fn chains(&self) -> Result<Vec<Kept>, NotUnderstood> {
        let all = self.parsed()?;
        if all.is_empty() {
            return Err(NotUnderstood("there is no certificate in it".to_string()));
        }
        let leaves = self.leaves(&all);
        let alone = leaves.len() == 1;
        Ok(leaves.into_iter().map(|leaf| self.kept(&all, leaf, alone)).collect())
    }

    fn parsed(&self) -> Result<Vec<Parsed<'_>>, NotUnderstood> {
        let mut all: Vec<Parsed> = Vec::with_capacity(self.certificates.len());
        for der in &self.certificates {
            let certificate = Arc::new(read::certificate(der)?);
            if !all.iter().any(|known| known.certificate.fingerprint == certificate.fingerprint) {
                all.push(Parsed { certificate, der });
            }
        }
        Ok(all)
    }

    fn leaves(&self, all: &[Parsed]) -> Vec<usize> {
        let certified = |c: &Certificate| self.keys.iter().any(|key| key.public == c.public_key);
        if let Some(leaf) = (0..all.len()).find(|i| certified(&all[*i].certificate)) {
            return vec![leaf];
        }
        let signed_none = |i: &usize| {
            let parent = &all[*i].certificate;
            !all.iter().enumerate().any(|(j, child)| j != *i && child.certificate.names_as_issuer(parent))
        };
        let tips: Vec<usize> = (0..all.len()).filter(signed_none).collect();
        let leaves: Vec<usize> = tips.iter().copied().filter(|i| !all[*i].certificate.is_ca).collect();
        match (leaves.is_empty(), tips.is_empty()) {
            (false, _) => leaves,
            (true, false) => tips,
            // Certificates that sign each other in a ring: the first stands for all.
            (true, true) => vec![0],
        }
    }

    fn kept(&self, all: &[Parsed], leaf: usize, alone: bool) -> Kept {
        let mut order = vec![leaf];
        while let Some(parent) = parent(all, &order) {
            order.push(parent);
        }
        if alone {
            order.extend((0..all.len()).filter(|i| !order.contains(i)).collect::<Vec<_>>());
        }
        let certificate = |i: &usize| all[*i].certificate.clone();
        let public = all[leaf].certificate.public_key;
        let key = self.keys.iter().find(|key| key.public == public).or(self.keys.first());
        Kept {
            chain: Chain { leaf: certificate(&leaf), intermediates: order[1..].iter().map(certificate).collect() },
            ders: order.iter().map(|i| all[*i].der.to_vec()).collect(),
            key: key.cloned(),
        }
    }
}

struct Parsed<'a> {
    certificate: Arc<Certificate>,
    der: &'a [u8],
}

/// The certificate that signed the last one in `order`, unless it is there already.
fn parent(all: &[Parsed], order: &[usize]) -> Option<usize> {
    let child = &all[*order.last()?].certificate;
    (0..all.len()).find(|i| !order.contains(i) && child.names_as_issuer(&all[*i].certificate))
}
