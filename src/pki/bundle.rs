//! What a file or a field holds: certificates and keys in any order, made into chains.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::domain::cert::{Certificate, Chain, KeyDigest};
use crate::domain::key::PrivateKey;

use super::{NotUnderstood, interned, key, pem, read};

/// Certificates (DER) and private keys as they were found.
#[derive(Clone, Default)]
pub struct Bundle {
    pub certificates: Vec<Vec<u8>>,
    pub keys: Vec<PrivateKey>,
    /// Keys that are there and cannot be read: encrypted, or of a strange kind. A place that holds
    /// one may be looked at, and is never written.
    pub unread_keys: Vec<NotUnderstood>,
}

/// Counts alone: a block may hold something else than its label says.
impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { certificates, keys, unread_keys } = self;
        let (certificates, keys) = (certificates.len(), keys.len());
        f.debug_struct("Bundle")
            .field("certificates", &certificates)
            .field("keys", &keys)
            .field("unread_keys", unread_keys)
            .finish()
    }
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
    /// Without a key that is not what it states: what a store relies on. A sweep only looks.
    pub fn proven(mut self) -> Self {
        self.key = self.key.filter(|key| key::prove(key).is_ok());
        self
    }

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
        let blocks = pem::parse_many(bytes).map_err(NotUnderstood::Pem)?;
        for block in blocks {
            bundle.take(block);
        }
        Ok(bundle)
    }

    /// The same of lines without their ends; `None` where it takes the whole text to read them.
    pub fn of_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Self> {
        let blocks = pem::of_lines(lines).filter(|blocks| !blocks.is_empty())?;
        let mut bundle = Self::default();
        blocks.into_iter().for_each(|block| bundle.take(block));
        Some(bundle)
    }

    fn take(&mut self, block: pem::Pem) {
        match block.tag() {
            "CERTIFICATE" | "X509 CERTIFICATE" => self.certificates.push(block.into_contents()),
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => match key::from_der(block.contents()) {
                Ok(key) => self.keys.push(key),
                Err(why) => self.unread_keys.push(why),
            },
            tag => {
                let label = pem::Label::of(tag.as_bytes());
                self.unread_keys.extend(label.is_key().then_some(NotUnderstood::KeyForm(label)));
            }
        }
    }

    pub fn add(&mut self, other: Self) {
        self.certificates.extend(other.certificates);
        self.keys.extend(other.keys);
        self.unread_keys.extend(other.unread_keys);
    }

    /// Before a place may be written, every key in it must have been read, and be what it states.
    pub fn insist_on_keys(&self) -> Result<(), NotUnderstood> {
        self.insist_on_read_keys()?;
        self.keys.iter().try_for_each(key::prove)
    }

    /// The same without the proof, which takes its time.
    pub fn insist_on_read_keys(&self) -> Result<(), NotUnderstood> {
        self.unread_keys.first().map_or(Ok(()), |why| Err(why.clone()))
    }

    /// Why it must not be replaced by one certificate: another that is no CA's is there, and would be lost.
    pub fn insist_on_one(&self) -> Result<(), NotUnderstood> {
        let leaves = self.parsed()?.iter().filter(|parsed| !parsed.certificate.is_ca).count();
        match leaves {
            0 | 1 => Ok(()),
            n => Err(NotUnderstood::SeveralLeaves(n)),
        }
    }

    /// One chain a leaf. The leaf is the certificate of a key found here; else whatever signed no
    /// other certificate here, certificates of CAs counting only when there is nothing else.
    pub fn chains(&self) -> Result<Vec<Kept>, NotUnderstood> {
        let all = self.parsed()?;
        if all.is_empty() {
            return Err(NotUnderstood::new("there is no certificate in it"));
        }
        let leaves = self.leaves(&all);
        let alone = leaves.len() == 1;
        Ok(leaves.into_iter().map(|leaf| self.kept(&all, leaf, alone)).collect())
    }

    fn parsed(&self) -> Result<Vec<Parsed<'_>>, NotUnderstood> {
        if self.certificates.len() > MOST_CERTIFICATES {
            return Err(NotUnderstood::TooManyCertificates { most: MOST_CERTIFICATES });
        }
        let mut all: Vec<Parsed> = Vec::with_capacity(self.certificates.len());
        let mut known = HashSet::with_capacity(self.certificates.len());
        for der in &self.certificates {
            let certificate = interned::certificate(der)?;
            if known.insert(certificate.fingerprint) {
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
        let family = Family::of(all);
        let signed_none = |i: &usize| {
            let parent = &all[*i].certificate;
            !family.children_of(parent).iter().any(|j| j != i && all[*j].certificate.names_as_issuer(parent))
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
        let mut is_in = vec![false; all.len()];
        is_in[leaf] = true;
        let family = Family::of(all);
        while let Some(parent) = family.parent(all, &order, &is_in) {
            is_in[parent] = true;
            order.push(parent);
        }
        if alone {
            order.extend((0..all.len()).filter(|i| !is_in[*i]));
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

/// The first certificate is the leaf, as a server or an issuer ordered them.
pub fn chain_as_given<D: AsRef<[u8]>>(ders: &[D]) -> Result<Chain, NotUnderstood> {
    let mut all = ders.iter().map(|der| interned::certificate(der.as_ref()));
    let leaf = all.next().ok_or_else(|| NotUnderstood::new("there is no certificate in it"))??;
    Ok(Chain { leaf, intermediates: all.collect::<Result<_, _>>()? })
}

struct Parsed<'a> {
    certificate: Arc<Certificate>,
    der: &'a [u8],
}

/// Who has which name, so that no certificate is compared with all others.
struct Family<'a> {
    by_subject: HashMap<&'a str, Vec<usize>>,
    by_issuer: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Family<'a> {
    fn of(all: &'a [Parsed]) -> Self {
        let mut family = Self { by_subject: HashMap::new(), by_issuer: HashMap::new() };
        for (i, parsed) in all.iter().enumerate() {
            family.by_subject.entry(&parsed.certificate.subject).or_default().push(i);
            family.by_issuer.entry(&parsed.certificate.issuer).or_default().push(i);
        }
        family
    }

    /// Those that name it as their issuer, key identifiers aside.
    fn children_of(&self, parent: &Certificate) -> &[usize] {
        self.by_issuer.get(parent.subject.as_str()).map_or(&[], Vec::as_slice)
    }

    /// The certificate that signed the last one in `order`, unless it is there already.
    fn parent(&self, all: &[Parsed], order: &[usize], is_in: &[bool]) -> Option<usize> {
        let child = &all[*order.last()?].certificate;
        let named = self.by_subject.get(child.issuer.as_str())?;
        named.iter().copied().find(|i| !is_in[*i] && child.names_as_issuer(&all[*i].certificate))
    }
}

/// In one place. The roots of an operating system are about 150.
pub const MOST_CERTIFICATES: usize = 1_000;

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

    use super::*;

    struct Generations {
        root: CertifiedIssuer<'static, KeyPair>,
        intermediate: CertifiedIssuer<'static, KeyPair>,
        leaf: rcgen::Certificate,
        leaf_key: KeyPair,
    }

    fn named(cn: &str, ca: bool) -> CertificateParams {
        let mut params = CertificateParams::new(vec![format!("{cn}.example.org")]).unwrap();
        params.distinguished_name.push(DnType::CommonName, cn);
        params.use_authority_key_identifier_extension = true;
        if ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params
    }

    fn family() -> Generations {
        let root = CertifiedIssuer::self_signed(named("root", true), KeyPair::generate().unwrap()).unwrap();
        let intermediate =
            CertifiedIssuer::signed_by(named("intermediate", true), KeyPair::generate().unwrap(), &root).unwrap();
        let leaf_key = KeyPair::generate().unwrap();
        let leaf = named("leaf", false).signed_by(&leaf_key, &intermediate).unwrap();
        Generations { root, intermediate, leaf, leaf_key }
    }

    fn names(kept: &Kept) -> Vec<&str> {
        let chain = std::iter::once(&kept.chain.leaf).chain(&kept.chain.intermediates);
        chain.map(|c| c.subject_cn.as_deref().unwrap()).collect()
    }

    #[test]
    fn the_leaf_comes_first_whatever_the_order() {
        let family = family();
        let (leaf, intermediate, root) = (family.leaf.pem(), family.intermediate.pem(), family.root.pem());
        let key = family.leaf_key.serialize_pem();
        for text in [
            [&leaf, &intermediate, &root, &key],
            [&root, &intermediate, &key, &leaf],
            [&key, &intermediate, &root, &leaf],
            [&intermediate, &leaf, &key, &root],
        ] {
            let bundle = Bundle::parse(text.map(String::as_str).concat().as_bytes()).unwrap();
            let chains = bundle.chains().unwrap();
            assert_eq!(chains.len(), 1);
            assert_eq!(names(&chains[0]), ["leaf", "intermediate", "root"]);
            assert_eq!(chains[0].key_digest(), Some(chains[0].chain.leaf.public_key));
            assert_eq!(chains[0].ders[0], family.leaf.der().to_vec());
        }
    }

    #[test]
    fn reads_der_and_windows_line_ends() {
        let family = family();
        let der = Bundle::parse(family.leaf.der()).unwrap();
        let pem = Bundle::parse(family.leaf.pem().replace('\n', "\r\n").as_bytes()).unwrap();
        assert_eq!(der.certificates, [family.leaf.der().to_vec()]);
        assert_eq!(pem.certificates, der.certificates);
    }

    #[test]
    fn certificates_that_do_not_belong_together_are_chains_of_their_own() {
        let (one, two) = (family(), family());
        let text = one.leaf.pem() + &two.leaf.pem();
        let chains = Bundle::parse(text.as_bytes()).unwrap().chains().unwrap();
        assert_eq!(chains.iter().map(names).collect::<Vec<_>>(), [["leaf"], ["leaf"]]);
        let roots = one.root.pem() + &two.root.pem();
        assert_eq!(Bundle::parse(roots.as_bytes()).unwrap().chains().unwrap().len(), 2);
    }

    #[test]
    fn the_same_certificate_twice_is_one() {
        let leaf = family().leaf.pem();
        let kept = Bundle::parse((leaf.clone() + &leaf).as_bytes()).unwrap().chains().unwrap();
        assert_eq!((kept.len(), kept[0].ders.len()), (1, 1));
    }

    #[test]
    fn a_key_of_another_certificate_is_kept_and_seen_to_differ() {
        let family = family();
        let other = KeyPair::generate().unwrap().serialize_pem();
        let kept = Bundle::parse((family.leaf.pem() + &other).as_bytes()).unwrap().chains().unwrap().remove(0);
        assert_ne!(kept.key_digest(), Some(kept.chain.leaf.public_key));
        assert_eq!(kept.key_digest(), kept.key.as_ref().map(|key| key.public));
    }

    #[test]
    fn an_encrypted_key_is_remembered_so_that_nobody_writes_over_it() {
        let text = family().leaf.pem() + &super::super::pem::block("ENCRYPTED PRIVATE KEY", b"x");
        let bundle = Bundle::parse(text.as_bytes()).unwrap();
        assert_eq!(bundle.chains().unwrap()[0].key_digest(), None);
        assert_eq!(bundle.insist_on_keys().unwrap_err().to_string(), "a key in a form not read: ENCRYPTED PRIVATE KEY");
    }

    #[test]
    fn what_holds_no_certificate_says_so() {
        for text in ["", "hello", "-----BEGIN RUBBISH-----\nAAAA\n-----END RUBBISH-----\n"] {
            let refused = Bundle::parse(text.as_bytes()).and_then(|bundle| bundle.chains().map(|_| ()));
            assert_eq!(refused.unwrap_err().to_string(), "there is no certificate in it", "{text:?}");
        }
    }
}
