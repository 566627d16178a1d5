//! What certd knows of a certificate, owned and parsed once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::San;
use super::text::printable;
use super::time::Timestamp;

/// SHA-256 over the DER of a certificate: its identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// SHA-256 over the DER of a SubjectPublicKeyInfo: the identity of a key pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest(pub [u8; 32]);

/// One X.509 certificate (RFC 5280).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub fingerprint: Fingerprint,
    /// Lower-case hexadecimal without separators, as in the DER (a leading `00` dropped).
    pub serial: String,
    /// RFC 4514 text; empty when the subject is empty.
    pub subject: String,
    pub issuer: String,
    pub subject_cn: Option<String>,
    pub issuer_cn: Option<String>,
    pub names: Vec<San>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub key: KeyType,
    pub signature: SignatureAlgorithm,
    /// `None` when the extension is absent, which allows every usage.
    pub key_usage: Option<KeyUsage>,
    /// Names of RFC 5280 (`serverAuth`) or dotted OIDs; `None` when absent.
    pub extended_key_usage: Option<Vec<String>>,
    pub is_ca: bool,
    pub authority_key_id: Option<Vec<u8>>,
    pub subject_key_id: Option<Vec<u8>>,
    pub public_key: KeyDigest,
}

impl Certificate {
    /// From `not_before` to `not_after`; zero when they are the wrong way round.
    pub fn lifetime(&self) -> Duration {
        self.not_before.until(self.not_after)
    }

    /// Whether some name in it stands for this host. The subject is not consulted (RFC 6125).
    pub fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|san| san.covers(host))
    }

    /// Whether TLS clients take it from a server (RFC 5280, section 4.2.1.12).
    pub fn serves_tls(&self) -> bool {
        let serves = |usage: &String| usage == "serverAuth" || usage == "anyExtendedKeyUsage";
        self.extended_key_usage.as_ref().is_none_or(|usages| usages.iter().any(serves))
    }

    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether names and key identifiers say that `parent` signed this one.
    pub fn names_as_issuer(&self, parent: &Certificate) -> bool {
        self.issuer == parent.subject
            && match (&self.authority_key_id, &parent.subject_key_id) {
                (Some(authority), Some(subject)) => authority == subject,
                _ => true,
            }
    }
}

/// Bits of the key usage extension, as RFC 5280 numbers them (bit 0 = digitalSignature).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUsage(pub u16);

impl KeyUsage {
    pub const KEY_CERT_SIGN: u16 = 1 << 5;
    pub const DIGITAL_SIGNATURE: u16 = 1;
    pub const KEY_ENCIPHERMENT: u16 = 1 << 2;
    pub const KEY_AGREEMENT: u16 = 1 << 4;

    pub fn allows(self, bits: u16) -> bool {
        self.0 & bits != 0
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    EcdsaP256,
    EcdsaP384,
    EcdsaP521,
    /// Modulus size in bits.
    Rsa(u32),
    Ed25519,
    /// The algorithm's name or dotted OID.
    Other(String),
}

impl KeyType {
    /// Below 112 bits of security (NIST SP 800-57 part 1, table 2).
    pub fn is_weak(&self) -> bool {
        match self {
            Self::Rsa(bits) => *bits < 2048,
            Self::Other(name) => name == "dsa" || name == "ecdsa-p192" || name == "ecdsa-p224",
            Self::EcdsaP256 | Self::EcdsaP384 | Self::EcdsaP521 | Self::Ed25519 => false,
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EcdsaP256 => f.write_str("ecdsa-p256"),
            Self::EcdsaP384 => f.write_str("ecdsa-p384"),
            Self::EcdsaP521 => f.write_str("ecdsa-p521"),
            Self::Rsa(bits) => write!(f, "rsa-{bits}"),
            Self::Ed25519 => f.write_str("ed25519"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// Such as `ecdsa-sha256`, or the dotted OID of one that has no name here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SignatureAlgorithm(pub String);

impl SignatureAlgorithm {
    /// Made with a digest for which collisions are known (RFC 9155).
    pub fn is_weak(&self) -> bool {
        ["md2", "md4", "md5", "sha1"].iter().any(|digest| self.0.ends_with(digest))
    }
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// So many certificates beside a leaf are kept from turn to turn. Public chains have one to four.
const MOST_BESIDE: usize = 32;

/// A leaf and what was kept or served with it, in the order of signing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub leaf: Arc<Certificate>,
    pub intermediates: Vec<Arc<Certificate>>,
}

impl Chain {
    /// The earliest end of leaf and intermediates.
    pub fn not_after(&self) -> Timestamp {
        self.intermediates.iter().map(|c| c.not_after).fold(self.leaf.not_after, Timestamp::min)
    }

    /// Returns the certificate of the CA that signed the leaf; of several the one that ends last, since clients take
    /// any that works. A root is trusted as it is, and CAs further up are judged with the roots of the place.
    pub fn signer(&self) -> Option<&Arc<Certificate>> {
        let signers = self.intermediates.iter().filter(|c| self.leaf.names_as_issuer(c) && !c.is_self_issued());
        signers.max_by_key(|signer| signer.not_after)
    }

    /// Leaves out what is too much to keep of each place: of many certificates, those on the path of the leaf stay, then
    /// those that are no CA's, then those that end first.
    #[must_use]
    pub fn in_short(mut self) -> Self {
        if self.intermediates.len() > MOST_BESIDE {
            let mut others = self.intermediates.split_off(self.path());
            others.sort_by_key(|other| (other.is_ca, other.not_after));
            self.intermediates.append(&mut others);
            self.intermediates.truncate(MOST_BESIDE);
            self.intermediates.shrink_to_fit();
        }
        self
    }

    /// How many of them, one after the other, name the next as their issuer.
    fn path(&self) -> usize {
        let parents = &self.intermediates;
        let children = std::iter::once(&self.leaf).chain(parents);
        children.zip(parents).take_while(|(child, parent)| child.names_as_issuer(parent)).count()
    }

    /// Returns the time in which the leaf and the CA that signed it are both valid (RFC 5280, section 6.1.3).
    pub fn usable(&self) -> Validity {
        let leaf = Validity { from: self.leaf.not_before, until: self.leaf.not_after };
        self.signer().map_or(leaf, |signer| Validity {
            from: leaf.from.max(signer.not_before),
            until: leaf.until.min(signer.not_after),
        })
    }
}

/// A span of time, both instants included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Validity {
    pub fn contains(&self, instant: Timestamp) -> bool {
        self.from <= instant && instant <= self.until
    }
}

/// The CAs of one path from a leaf to a root: those between whose instants all of them are valid, the root included
/// (RFC 5280, section 6.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaPath {
    pub youngest: Arc<Certificate>,
    pub first_to_end: Arc<Certificate>,
}

impl CaPath {
    pub fn validity(&self) -> Validity {
        Validity { from: self.youngest.not_before, until: self.first_to_end.not_after }
    }
}

/// A verdict on a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    pub trust: Trust,
    /// The paths by which it verifies. None where it was not judged, or is a root itself.
    pub paths: Arc<[CaPath]>,
}

impl From<Trust> for Judged {
    fn from(trust: Trust) -> Self {
        Self { trust, paths: Arc::default() }
    }
}

impl Judged {
    /// Returns the verdict at an instant.
    pub fn at(&self, now: Timestamp) -> Trust {
        match out_of_time(&self.paths, now) {
            Some(why) if self.trust == Trust::Verified => Trust::Unverified(why),
            Some(_) | None => self.trust.clone(),
        }
    }
}

/// Says why no path is valid at an instant; `None` where one is, or where there is none to tell.
pub fn out_of_time(paths: &[CaPath], now: Timestamp) -> Option<String> {
    if paths.iter().any(|path| path.validity().contains(now)) {
        return None;
    }
    let nearest = paths.iter().max_by_key(|path| path.validity().until)?;
    let Validity { from, until } = nearest.validity();
    Some(match now > until {
        true => format!("a CA of its chain expired on {until}: {}", printable(&nearest.first_to_end.subject)),
        false => format!("a CA of its chain is not valid before {from}: {}", printable(&nearest.youngest.subject)),
    })
}

/// Whether a path leads from the leaf to a configured root, time aside: a chain that merely
/// expired still verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    Verified,
    /// Says what is missing.
    Unverified(String),
    /// No roots were configured for this place.
    NotJudged,
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

macro_rules! shown_as_hex {
    ($($digest:ident)*) => {$(
        impl fmt::Display for $digest {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex(&self.0, f)
            }
        }

        impl fmt::Debug for $digest {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex(&self.0, f)
            }
        }

        impl Serialize for $digest {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

shown_as_hex! { Fingerprint KeyDigest }

macro_rules! read_from_hex { ($($digest:ident)*) => {$(
    impl<'de> Deserialize<'de> for $digest {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            from_hex(&text).map(Self).ok_or_else(|| serde::de::Error::custom("a digest is 64 hexadecimal digits"))
        }
    }
)*}}

read_from_hex! { Fingerprint KeyDigest }

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let digits = text.as_bytes().as_chunks::<2>();
    if digits.0.len() != bytes.len() || !digits.1.is_empty() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.0) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? * 16 + low?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::*;

    #[test]
    fn digests_show_as_lower_case_hexadecimal() {
        let mut bytes = [0; 32];
        (bytes[0], bytes[31]) = (0xab, 0x01);
        let text = format!("ab{}01", "00".repeat(30));
        assert_eq!(Fingerprint(bytes).to_string(), text);
        assert_eq!(format!("{:?}", KeyDigest(bytes)), text);
        let written = serde_json::to_value(Fingerprint(bytes)).unwrap();
        assert_eq!(written, text);
        assert_eq!(serde_json::from_value::<Fingerprint>(written).unwrap(), Fingerprint(bytes));
        for bad in [&text[1..], &format!("{text}00"), &text.replace('a', "g"), "", "ü"] {
            assert!(serde_json::from_value::<Fingerprint>(bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_chain_ends_when_its_first_certificate_ends() {
        let mut chain = chain(leaf(&["a"]));
        assert_eq!(chain.not_after(), chain.leaf.not_after);
        let end = chain.leaf.not_after;
        chain.intermediates = vec![Arc::new(intermediate())];
        assert_eq!(chain.not_after(), end);
        chain.intermediates.push(Arc::new(Certificate { not_after: end.minus(SECOND), ..intermediate() }));
        assert_eq!(chain.not_after(), end.minus(SECOND));
    }

    #[test]
    fn of_a_crowd_beside_a_leaf_the_path_stays_and_what_ends_first() {
        let own = leaf(&["a"]);
        let end = own.not_after;
        let other = |issuer: &str, days: u32, is_ca: bool| {
            let (subject, issuer) = (format!("CN=other {days}"), issuer.to_string());
            Arc::new(Certificate { subject, issuer, not_after: end.plus(days * DAY), is_ca, ..intermediate() })
        };
        let signer = Arc::new(Certificate { not_after: end.plus(900 * DAY), ..intermediate() });
        let root =
            Arc::new(Certificate { subject: signer.issuer.clone(), not_after: end.plus(901 * DAY), ..intermediate() });
        let mut crowd = vec![signer.clone(), root.clone()];
        crowd.extend((1..=40).rev().map(|days| other("CN=nobody", days, true)));
        crowd.push(other("CN=nobody", 800, false));
        let few = Chain { leaf: Arc::new(own), intermediates: crowd[..MOST_BESIDE].to_vec() };
        assert_eq!(few.clone().in_short(), few, "nothing is left out, nothing moves");
        let ended = Chain { intermediates: crowd, ..few }.in_short();
        let until: Vec<_> = ended.intermediates.iter().map(|one| end.until(one.not_after)).collect();
        assert_eq!(ended.intermediates[..2], [signer, root]);
        assert_eq!(until.len(), MOST_BESIDE);
        assert_eq!(until[2], 800 * DAY);
        assert_eq!(until[3..], (1..=29).map(|days| days * DAY).collect::<Vec<_>>());
        assert_eq!(ended.not_after(), end);
    }

    #[test]
    fn a_leaf_is_usable_for_as_long_as_the_ca_that_signed_it() {
        let signer = |from, until| Arc::new(Certificate { not_before: from, not_after: until, ..intermediate() });
        let own = leaf(&["a"]);
        let (from, until) = (own.not_before, own.not_after);
        let usable = |intermediates: Vec<Arc<Certificate>>| {
            let chain = Chain { leaf: Arc::new(leaf(&["a"])), intermediates };
            (chain.usable().from, chain.usable().until)
        };
        assert_eq!(usable(vec![]), (from, until));
        assert_eq!(usable(vec![signer(from, NOW)]), (from, NOW));
        assert_eq!(usable(vec![signer(NOW, until.plus(DAY))]), (NOW, until));
        assert_eq!(usable(vec![signer(from, NOW), signer(NOW, until)]), (NOW, until), "any that works");
    }

    #[test]
    fn a_validity_the_wrong_way_round_lasts_no_time() {
        assert_eq!(leaf(&[]).lifetime(), 90 * DAY);
        assert_eq!(Certificate { not_after: NOW.minus(11 * DAY), ..leaf(&[]) }.lifetime(), Duration::ZERO);
    }

    #[test]
    fn a_parent_is_known_by_its_name_and_by_key_identifiers_where_both_have_one() {
        let with = |authority: Option<u8>, subject: Option<u8>| {
            let child = Certificate { authority_key_id: authority.map(|id| vec![id]), ..leaf(&["a"]) };
            child.names_as_issuer(&Certificate { subject_key_id: subject.map(|id| vec![id]), ..intermediate() })
        };
        assert!(with(None, None));
        assert!(with(Some(1), None));
        assert!(with(None, Some(1)));
        assert!(with(Some(1), Some(1)));
        assert!(!with(Some(1), Some(2)));
        assert!(!leaf(&["a"]).names_as_issuer(&leaf(&["b"])));
        assert!(!intermediate().is_self_issued());
        assert!(Certificate { issuer: "CN=Example CA".into(), ..intermediate() }.is_self_issued());
    }

    #[test]
    fn kinds_of_keys_have_the_names_that_are_configured() {
        use crate::domain::key::KeySpec;
        for (spec, name) in [
            (KeySpec::EcdsaP256, "ecdsa-p256"),
            (KeySpec::EcdsaP384, "ecdsa-p384"),
            (KeySpec::Rsa2048, "rsa-2048"),
            (KeySpec::Rsa3072, "rsa-3072"),
            (KeySpec::Rsa4096, "rsa-4096"),
            (KeySpec::Ed25519, "ed25519"),
        ] {
            assert_eq!(spec.key_type().to_string(), name);
            assert_eq!(serde_json::to_value(spec).unwrap(), name);
            assert_eq!(KeySpec::like(&spec.key_type()), Some(spec));
        }
        assert_eq!(KeySpec::like(&KeyType::Rsa(1_024)), None);
        assert_eq!(KeySpec::like(&KeyType::EcdsaP521), None);
    }
}
