//! What the files of one place hold, and what they are to hold: the new certificate and key where the old ones stand.

use std::path::Path;

use zeroize::Zeroizing;

use super::not_understood;
use crate::domain::cert::{Chain, KeyDigest};
use crate::domain::inventory::Obstacle;
use crate::domain::renewal::CertifiedKey;
use crate::pki::bundle::Bundle;
use crate::pki::document::{Change, Document, Pair, Strand, Unfit, blocks};
use crate::pki::{NotUnderstood, key, pem};

/// What one file is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Key, leaf and intermediates.
    Bundle,
    Leaf,
    Intermediates,
    /// Leaf and intermediates.
    FullChain,
    Key,
}

/// A file that may not be there yet.
pub(super) type Read = (Role, Option<Zeroizing<Vec<u8>>>);

/// What is kept at a place now.
pub(super) struct Contents {
    pub(super) chain: Chain,
    pub(super) ders: Vec<Vec<u8>>,
    pub(super) key: Option<KeyDigest>,
    /// Why certd would not write there, and what to do about it.
    pub(super) unwritable: Option<String>,
    old: Pair,
    /// Empty where not all of them could be read as documents.
    documents: Vec<(Role, Option<Document>)>,
}

impl Contents {
    /// Of all that was read from one place; one leaf it must be.
    pub(super) fn of(bundle: &Bundle, place: &Path, files: Vec<Read>) -> Result<Self, Obstacle> {
        let chains = bundle.chains().map_err(|why| not_understood(place, why))?;
        let Ok([kept]) = <[_; 1]>::try_from(chains) else {
            return Err(not_understood(
                place,
                "it holds several certificates, and a store keeps one: move the others away",
            ));
        };
        let old = Pair::of(&kept);
        let kept = kept.proven();
        let read = |(role, bytes): Read| Ok((role, bytes.map(|bytes| Document::read(&bytes)).transpose()?));
        let (documents, unfit) = match files.into_iter().map(read).collect::<Result<Vec<_>, Unfit>>() {
            Ok(documents) => (documents, None),
            Err(why) => (Vec::new(), Some(why.to_string())),
        };
        let unwritable = unkept(bundle).or(unfit).or_else(|| unwritable(bundle, &documents, &old));
        Ok(Self { key: kept.key_digest(), unwritable, chain: kept.chain, ders: kept.ders, old, documents })
    }

    /// Leaf, key and every certificate of the chain are there. What stands beside them is no difference.
    pub(super) fn are_of(&self, certified: &CertifiedKey) -> bool {
        self.chain.leaf.fingerprint == certified.chain().leaf.fingerprint
            && self.key == Some(certified.key().public)
            && certified.ders().iter().all(|der| self.ders.contains(der))
    }

    pub(super) fn renewed(&self, certified: &CertifiedKey) -> Result<Texts, Unfit> {
        let holds_above = |document: &Document| document.blocks().iter().any(|block| self.old.height(block).is_some());
        let has_chain = self.documents.iter().filter_map(|(_, document)| document.as_ref()).any(holds_above);
        let mut files = Vec::with_capacity(self.documents.len());
        for (role, document) in &self.documents {
            let is_for_chain = matches!(role, Role::Bundle | Role::Intermediates | Role::FullChain);
            let change = Change::new(&self.old, certified).with_room(is_for_chain && !has_chain);
            files.push((
                *role,
                match document {
                    None => role.fresh(certified),
                    Some(blank) if blank.is_blank() && change.has_room => blocks(&change.above, None)?,
                    Some(document) => {
                        let strand = Strand { documents: std::slice::from_ref(document), is_list: false };
                        let pieces = strand.renewed(&change)?;
                        pieces.into_iter().next().map(|piece| piece.bytes).unwrap_or_default()
                    }
                },
            ));
        }
        Ok(Texts { files, public: certified.key().public })
    }
}

/// What a write would lose: a key that cannot be read, or a second certificate.
fn unkept(bundle: &Bundle) -> Option<String> {
    let kept = bundle.insist_on_keys().and_then(|()| bundle.insist_on_one());
    kept.err().map(|why| format!("it holds {why}: move it away first, or it would be lost"))
}

fn unwritable(bundle: &Bundle, documents: &[(Role, Option<Document>)], old: &Pair) -> Option<String> {
    if bundle.keys.iter().any(|key| Some(key.public) != old.key) {
        let why = NotUnderstood::new("it holds several private keys: remove all but that of its certificate");
        return Some(why.to_string());
    }
    // A file of certificates may be open to everybody, so that no key must come into it.
    if bundle.keys.is_empty() && documents.iter().any(|(role, _)| *role == Role::Bundle) {
        return Some("there is no private key beside the certificate: put it into this file".to_string());
    }
    let documents = documents.iter().filter_map(|(_, document)| document.as_ref());
    documents.map(|document| old.insist_on_no_copy(document)).find_map(Result::err).map(|why| why.to_string())
}

impl Role {
    fn fresh(self, certified: &CertifiedKey) -> Zeroizing<Vec<u8>> {
        let (leaf, above) = certified.ders().split_at(1);
        let (leaf, above) = (pem::certificates(leaf), pem::certificates(above));
        let private = key::to_pem(certified.key());
        let parts: &[&str] = match self {
            Self::Bundle => &[&private, &leaf, &above],
            Self::Leaf => &[&leaf],
            Self::Intermediates => &[&above],
            Self::FullChain => &[&leaf, &above],
            Self::Key => &[&private],
        };
        Zeroizing::new(parts.concat().into_bytes())
    }
}

/// What the files of a place are to hold.
pub(super) struct Texts {
    files: Vec<(Role, Zeroizing<Vec<u8>>)>,
    pub(super) public: KeyDigest,
}

impl Texts {
    pub(super) fn fresh(roles: &[Role], certified: &CertifiedKey) -> Self {
        let files = roles.iter().map(|role| (*role, role.fresh(certified))).collect();
        Self { files, public: certified.key().public }
    }

    /// Only rehearsed with.
    pub(super) fn blank() -> Self {
        Self { files: Vec::new(), public: KeyDigest([0; 32]) }
    }

    pub(super) fn of(&self, role: Role) -> &[u8] {
        self.files.iter().find(|(of, _)| *of == role).map_or(&[], |(_, bytes)| bytes)
    }

    pub(super) fn has_key(&self, role: Role) -> bool {
        matches!(role, Role::Bundle | Role::Key)
            || Document::read(self.of(role)).is_ok_and(|document| document.keys() > 0)
    }
}
