//! One certificate from DER, by x509-parser. It reads and does not verify: trust is `roots`.

use x509_parser::asn1_rs::{self, Oid, Tag, oid};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::nom;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo, X509Version};

use crate::domain::cert::{Certificate, Fingerprint, KeyDigest, KeyType, KeyUsage, SignatureAlgorithm};
use crate::domain::name::San;
use crate::domain::time::Timestamp;

use super::NotUnderstood;

/// Zero bytes after the certificate are padding, as smart cards and fixed-size records leave it, and no
/// part of it; anything else there is refused.
pub fn certificate(der: &[u8]) -> Result<Certificate, NotUnderstood> {
    with_digest(der, super::sha256(der))
}

/// The digest is that of all of `der`.
pub(super) fn with_digest(der: &[u8], digest: [u8; 32]) -> Result<Certificate, NotUnderstood> {
    let (rest, parsed) = X509Certificate::from_der(der).map_err(|e| not_der("certificate", e))?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(NotUnderstood::Trailing { wanted: "certificate", bytes: rest.len() });
    }
    let extensions = Extensions::of(&parsed);
    Ok(Certificate {
        fingerprint: Fingerprint(if rest.is_empty() { digest } else { super::sha256(&der[..der.len() - rest.len()]) }),
        serial: serial(parsed.raw_serial()),
        subject: distinguished_name(parsed.subject()),
        issuer: distinguished_name(parsed.issuer()),
        subject_cn: common_name(parsed.subject()),
        issuer_cn: common_name(parsed.issuer()),
        names: extensions.names,
        not_before: Timestamp(parsed.validity().not_before.timestamp()),
        not_after: Timestamp(parsed.validity().not_after.timestamp()),
        key: key_type(parsed.public_key()),
        signature: signature_algorithm(&parsed.signature_algorithm),
        key_usage: extensions.key_usage,
        extended_key_usage: extensions.extended_key_usage,
        is_ca: extensions.is_ca,
        authority_key_id: extensions.authority_key_id,
        subject_key_id: extensions.subject_key_id,
        public_key: KeyDigest(super::sha256(parsed.public_key().raw)),
    })
}

/// The parser's error without the values that it may hold.
pub(super) fn not_der(wanted: &'static str, error: nom::Err<X509Error>) -> NotUnderstood {
    let why = match X509Error::from(error) {
        X509Error::InvalidVersion => "its version is invalid",
        X509Error::InvalidSerial | X509Error::InvalidNumber => "its serial number is invalid",
        X509Error::InvalidAlgorithmIdentifier | X509Error::SignatureUnsupportedAlgorithm => "its algorithm is invalid",
        X509Error::InvalidX509Name => "a name in it is invalid",
        X509Error::InvalidDate => "a date in it is invalid",
        X509Error::InvalidSPKI => "its public key is invalid",
        X509Error::InvalidSubjectUID | X509Error::InvalidIssuerUID => "a unique identifier in it is invalid",
        X509Error::InvalidExtensions | X509Error::InvalidAttributes => "its extensions are invalid",
        X509Error::DuplicateExtensions | X509Error::DuplicateAttributes => "it has one extension twice",
        X509Error::InvalidSignatureValue | X509Error::SignatureVerificationError => "its signature is invalid",
        X509Error::Der(asn1_rs::Error::Incomplete(_)) => "it is cut off",
        X509Error::InvalidTbsCertificate
        | X509Error::InvalidUserCertificate
        | X509Error::InvalidCertificate
        | X509Error::Generic
        | X509Error::NomError(_)
        | X509Error::Der(_) => "its structure is invalid",
    };
    NotUnderstood::Der { wanted, why }
}

/// Returns whether a certificate may stand above another one: it says that it is a CA, or is so old (version 1) that it can
/// say nothing (RFC 5280, sections 4.1.2.1 and 4.2.1.9).
pub fn may_sign(der: &[u8]) -> bool {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(der) else { return false };
    parsed.version() != X509Version::V3 || Extensions::of(&parsed).is_ca
}

/// Returns whether bytes are a certificate request (RFC 2986), whatever it asks for.
pub fn is_request(der: &[u8]) -> bool {
    X509CertificationRequest::from_der(der).is_ok_and(|(rest, _)| rest.is_empty())
}

#[derive(Default)]
struct Extensions {
    names: Vec<San>,
    key_usage: Option<KeyUsage>,
    extended_key_usage: Option<Vec<String>>,
    is_ca: bool,
    authority_key_id: Option<Vec<u8>>,
    subject_key_id: Option<Vec<u8>>,
}

impl Extensions {
    /// An extension that cannot be parsed is passed over: what certd asks of it is then not there.
    fn of(parsed: &X509Certificate) -> Self {
        let mut found = Self::default();
        for extension in parsed.iter_extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(san) => {
                    found.names = san.general_names.iter().map(name).collect();
                }
                ParsedExtension::KeyUsage(usage) => found.key_usage = Some(KeyUsage(usage.flags)),
                ParsedExtension::ExtendedKeyUsage(usage) => found.extended_key_usage = Some(usages(usage)),
                ParsedExtension::BasicConstraints(constraints) => found.is_ca = constraints.ca,
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    found.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                ParsedExtension::SubjectKeyIdentifier(id) => found.subject_key_id = Some(id.0.to_vec()),
                _ => {}
            }
        }
        found
    }
}

fn name(general: &GeneralName) -> San {
    match general {
        GeneralName::DNSName(text) => San::Dns(text.to_ascii_lowercase()),
        GeneralName::RFC822Name(text) => San::Email(text.to_string()),
        GeneralName::URI(text) => San::Uri(text.to_string()),
        GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
            (Ok(four), _) => San::Ip(four.into()),
            (_, Ok(sixteen)) => San::Ip(sixteen.into()),
            _ => San::Other(format!("ip:{}", hex(bytes))),
        },
        GeneralName::DirectoryName(dn) => San::Other(format!("dirname:{}", distinguished_name(dn))),
        GeneralName::OtherName(oid, value) => San::Other(format!("othername:{oid}:{}", hex(value))),
        GeneralName::RegisteredID(oid) => San::Other(format!("rid:{oid}")),
        GeneralName::X400Address(_) => San::Other("x400".to_string()),
        GeneralName::EDIPartyName(_) => San::Other("ediparty".to_string()),
        GeneralName::Invalid(tag, value) => San::Other(format!("invalid:{}:{}", tag.0, hex(value))),
    }
}

fn usages(usage: &x509_parser::extensions::ExtendedKeyUsage) -> Vec<String> {
    let named = [
        (usage.any, "anyExtendedKeyUsage"),
        (usage.server_auth, "serverAuth"),
        (usage.client_auth, "clientAuth"),
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ];
    let named = named.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_string());
    named.chain(usage.other.iter().map(|oid| oid.to_id_string())).collect()
}

/// Lower-case hexadecimal; a leading zero byte only says that the number is positive.
fn serial(raw: &[u8]) -> String {
    match raw {
        [0, rest @ ..] if !rest.is_empty() => hex(rest),
        _ => hex(raw),
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)]));
    let mut out = String::with_capacity(2 * bytes.len());
    out.extend(bytes.iter().flat_map(digits));
    out
}

/// RFC 4514: the most specific part first.
pub(super) fn distinguished_name(dn: &X509Name) -> String {
    let parts: Vec<_> = dn.iter_rdn().collect();
    let mut out = String::new();
    for (i, part) in parts.into_iter().rev().enumerate() {
        for (j, value) in part.iter().enumerate() {
            out.push_str(if j > 0 {
                "+"
            } else if i > 0 {
                ","
            } else {
                ""
            });
            push_attribute(&mut out, value);
        }
    }
    out
}

fn push_attribute(out: &mut String, attribute: &x509_parser::x509::AttributeTypeAndValue) {
    let oid = attribute.attr_type();
    match x509_parser::objects::oid2abbrev(oid, x509_parser::objects::oid_registry()) {
        Ok(name) => out.push_str(name),
        Err(_) => out.push_str(&oid.to_id_string()),
    }
    out.push('=');
    match text(attribute) {
        Some(value) => push_escaped(out, &value),
        None => {
            out.push('#');
            out.push_str(&hex(attribute.as_slice()));
        }
    }
}

fn text(attribute: &x509_parser::x509::AttributeTypeAndValue) -> Option<String> {
    let value = attribute.attr_value();
    match value.tag() {
        Tag::BmpString => {
            let units = value.data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).collect::<Result<String, _>>().ok()
        }
        Tag::TeletexString => Some(value.data.iter().map(|byte| char::from(*byte)).collect()),
        _ => attribute.as_str().ok().map(str::to_string),
    }
}

fn push_escaped(out: &mut String, value: &str) {
    for (i, c) in value.chars().enumerate() {
        if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') || (i == 0 && matches!(c, ' ' | '#')) {
            out.push('\\');
        }
        out.push(c);
    }
}

/// The last one counts, being the most specific.
pub(super) fn common_name(dn: &X509Name) -> Option<String> {
    dn.iter_common_name().last().and_then(text)
}

const EC_PUBLIC_KEY: Oid = oid!(1.2.840.10045.2.1);

const CURVES: [(Oid, KeyType); 3] = [
    (oid!(1.2.840.10045.3.1.7), KeyType::EcdsaP256),
    (oid!(1.3.132.0.34), KeyType::EcdsaP384),
    (oid!(1.3.132.0.35), KeyType::EcdsaP521),
];

const OTHER_CURVES: [(Oid, &str); 2] = [(oid!(1.3.132.0.33), "ecdsa-p224"), (oid!(1.2.840.10045.3.1.1), "ecdsa-p192")];

const RSA_KEYS: [Oid; 2] = [oid!(1.2.840.113549.1.1.1), oid!(1.2.840.113549.1.1.10)];

const ED25519: Oid = oid!(1.3.101.112);

const OTHER_KEYS: [(Oid, &str); 2] = [(oid!(1.3.101.113), "ed448"), (oid!(1.2.840.10040.4.1), "dsa")];

fn key_type(spki: &SubjectPublicKeyInfo) -> KeyType {
    let algorithm = &spki.algorithm.algorithm;
    if *algorithm == EC_PUBLIC_KEY {
        return curve(spki);
    }
    if RSA_KEYS.contains(algorithm) {
        return match spki.parsed() {
            Ok(PublicKey::RSA(rsa)) => KeyType::Rsa(modulus_bits(rsa.modulus)),
            _ => KeyType::Other("rsa-unreadable".to_string()),
        };
    }
    if *algorithm == ED25519 {
        return KeyType::Ed25519;
    }
    KeyType::Other(named(&OTHER_KEYS, algorithm).map_or_else(|| algorithm.to_id_string(), str::to_string))
}

fn curve(spki: &SubjectPublicKeyInfo) -> KeyType {
    let Some(curve) = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok()) else {
        return KeyType::Other("ecdsa-explicit".to_string());
    };
    if let Some((_, known)) = CURVES.iter().find(|(oid, _)| *oid == curve) {
        return known.clone();
    }
    let named = named(&OTHER_CURVES, &curve).map(str::to_string);
    KeyType::Other(named.unwrap_or_else(|| format!("ecdsa-{}", curve.to_id_string())))
}

/// Compared as they are encoded: to write one out takes longer than to read the rest of a certificate's numbers.
fn named(known: &[(Oid<'static>, &'static str)], oid: &Oid) -> Option<&'static str> {
    known.iter().find(|(known, _)| known == oid).map(|(_, name)| *name)
}

fn modulus_bits(modulus: &[u8]) -> u32 {
    let significant = &modulus[modulus.iter().take_while(|byte| **byte == 0).count()..];
    let bits = significant.len() * 8 - significant.first().map_or(0, |byte| byte.leading_zeros() as usize);
    u32::try_from(bits).unwrap_or(u32::MAX)
}

const SIGNATURES: [(Oid, &str); 19] = [
    (oid!(1.2.840.113549.1.1.2), "rsa-md2"),
    (oid!(1.2.840.113549.1.1.3), "rsa-md4"),
    (oid!(1.2.840.113549.1.1.4), "rsa-md5"),
    (oid!(1.2.840.113549.1.1.5), "rsa-sha1"),
    (oid!(1.3.14.3.2.29), "rsa-sha1"),
    (oid!(1.2.840.113549.1.1.14), "rsa-sha224"),
    (oid!(1.2.840.113549.1.1.11), "rsa-sha256"),
    (oid!(1.2.840.113549.1.1.12), "rsa-sha384"),
    (oid!(1.2.840.113549.1.1.13), "rsa-sha512"),
    (oid!(1.2.840.113549.1.1.10), "rsa-pss"),
    (oid!(1.2.840.10045.4.1), "ecdsa-sha1"),
    (oid!(1.2.840.10045.4.3.1), "ecdsa-sha224"),
    (oid!(1.2.840.10045.4.3.2), "ecdsa-sha256"),
    (oid!(1.2.840.10045.4.3.3), "ecdsa-sha384"),
    (oid!(1.2.840.10045.4.3.4), "ecdsa-sha512"),
    (oid!(1.2.840.10040.4.3), "dsa-sha1"),
    (oid!(2.16.840.1.101.3.4.3.2), "dsa-sha256"),
    (oid!(1.3.101.112), "ed25519"),
    (oid!(1.3.101.113), "ed448"),
];

pub(super) fn signature_algorithm(identifier: &AlgorithmIdentifier) -> SignatureAlgorithm {
    let oid = &identifier.algorithm;
    SignatureAlgorithm(named(&SIGNATURES, oid).map_or_else(|| oid.to_id_string(), str::to_string))
}
