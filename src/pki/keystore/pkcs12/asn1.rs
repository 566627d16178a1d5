//! The structures of a PKCS#12 file (RFC 7292, RFC 5652, RFC 8018). What certd does not know in them is `Any`, so that
//! it is written back as it was read.

use der::asn1::{Any, ObjectIdentifier, OctetString};
use der::{Decode, Reader, Sequence, SliceReader};

pub const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
pub const ENCRYPTED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.6");
pub const KEY_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.1");
pub const SHROUDED_KEY_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.2");
pub const CERT_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.3");
pub const X509_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.22.1");
pub const FRIENDLY_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.20");
/// Java's mark of a trusted certificate.
pub const TRUSTED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.113894.746875.1.1");

#[derive(Clone, Debug, Sequence)]
pub struct Pfx {
    pub version: u8,
    pub auth_safe: ContentInfo,
    pub mac: Option<MacData>,
}

#[derive(Clone, Debug, Sequence)]
pub struct ContentInfo {
    pub kind: ObjectIdentifier,
    #[asn1(context_specific = "0")]
    pub content: Any,
}

#[derive(Clone, Debug, Sequence)]
pub struct MacData {
    pub mac: DigestInfo,
    pub salt: OctetString,
    #[asn1(default = "once")]
    pub iterations: u32,
}

fn once() -> u32 {
    1
}

#[derive(Clone, Debug, Sequence)]
pub struct DigestInfo {
    pub algorithm: AlgorithmIdentifier,
    pub digest: OctetString,
}

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct AlgorithmIdentifier {
    pub oid: ObjectIdentifier,
    pub parameters: Option<Any>,
}

#[derive(Clone, Debug, Sequence)]
pub struct EncryptedData {
    pub version: u8,
    pub content: EncryptedContentInfo,
}

#[derive(Clone, Debug, Sequence)]
pub struct EncryptedContentInfo {
    pub kind: ObjectIdentifier,
    pub algorithm: AlgorithmIdentifier,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    pub encrypted: OctetString,
}

#[derive(Clone, Debug, Sequence)]
pub struct EncryptedPrivateKeyInfo {
    pub algorithm: AlgorithmIdentifier,
    pub encrypted: OctetString,
}

#[derive(Clone, Debug, Sequence)]
pub struct SafeBag {
    pub id: ObjectIdentifier,
    #[asn1(context_specific = "0")]
    pub value: Any,
    /// A set of [`Attribute`]s.
    pub attributes: Option<Any>,
}

#[derive(Clone, Debug, Sequence)]
pub struct CertBag {
    pub id: ObjectIdentifier,
    #[asn1(context_specific = "0")]
    pub value: Any,
}

#[derive(Clone, Debug, Sequence)]
struct Attribute {
    oid: ObjectIdentifier,
    /// A set.
    values: Any,
}

#[derive(Clone, Debug, Sequence)]
pub struct Pbes1Parameters {
    pub salt: OctetString,
    pub iterations: u32,
}

#[derive(Clone, Debug, Sequence)]
pub struct Pbes2Parameters {
    pub kdf: AlgorithmIdentifier,
    pub cipher: AlgorithmIdentifier,
}

#[derive(Clone, Debug, Sequence)]
pub struct Pbkdf2Parameters {
    pub salt: OctetString,
    pub iterations: u32,
    pub key_length: Option<u16>,
    /// HMAC with SHA-1 where it is not named.
    pub prf: Option<AlgorithmIdentifier>,
}

impl SafeBag {
    /// The values of an attribute, as a set in DER; `None` where the bag has no such attribute.
    pub fn attribute(&self, oid: ObjectIdentifier) -> der::Result<Option<Any>> {
        let Some(attributes) = &self.attributes else { return Ok(None) };
        let mut reader = SliceReader::new(attributes.value())?;
        while !reader.is_finished() {
            let attribute = Attribute::decode(&mut reader)?;
            if attribute.oid == oid {
                return Ok(Some(attribute.values));
            }
        }
        Ok(None)
    }
}
