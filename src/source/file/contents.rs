//! What a file holds, by its bytes: certificates in the forms that tools write, or something else, which has a name.

use x509_parser::asn1_rs::{Any, FromDer, Oid, oid};
use zeroize::Zeroizing;

use crate::pki::NotUnderstood;
use crate::pki::bundle::{Bundle, Kept};
use crate::pki::keystore::effort::Effort;
use crate::pki::keystore::{Keystore, Kind, Password, Passwords};
use crate::pki::{crl, key, pem, read};

/// Signed data (RFC 5652, section 5.1).
const SIGNED_DATA: Oid<'static> = oid!(1.2.840.113549.1.7.2);

/// The passwords that tools give to a keystore which has no secret: none, and Java's own.
const COMMON_PASSWORDS: [&str; 2] = ["", "changeit"];

const EMPTY: &str = "the file is empty";

/// What a file holds.
pub(super) enum Contents {
    /// A chain for each leaf, or why what should hold certificates was not understood.
    Certificates(Result<Vec<Kept>, NotUnderstood>),
    /// No certificate: says what instead.
    Other(&'static str),
}

/// Returns what a file holds. `is_named` is whether its name says that it holds a certificate.
pub(super) fn of(bytes: &[u8], is_named: bool) -> Contents {
    if bytes.is_empty() {
        return match is_named {
            true => Contents::Certificates(Err(NotUnderstood::new(EMPTY))),
            false => Contents::Other("nothing: the file is empty"),
        };
    }
    if let Some(kind) = Kind::of(&bytes[..bytes.len().min(9)]) {
        return Contents::Certificates(keystore(bytes, kind));
    }
    if is_utf_16(bytes) {
        let why = "it is a text in UTF-16, which no TLS server reads: save it as UTF-8";
        return Contents::Certificates(Err(NotUnderstood::new(why)));
    }
    if let Some(ders) = pkcs7(bytes) {
        return Contents::Certificates(chains(ders));
    }
    if bytes.first() == Some(&0x30) {
        return of_der(bytes, is_named);
    }
    match Bundle::parse(bytes) {
        Ok(bundle) if !bundle.certificates.is_empty() => Contents::Certificates(bundle.chains()),
        Ok(bundle) => match labelled(bytes) {
            ders if !ders.is_empty() => Contents::Certificates(chains(ders)),
            _ if mentions_a_certificate(bytes) => Contents::Certificates(bundle.chains()),
            _ => other(bytes, is_named),
        },
        Err(why) if is_named || mentions_a_certificate(bytes) => Contents::Certificates(Err(why)),
        Err(_) => other(bytes, is_named),
    }
}

fn of_der(bytes: &[u8], is_named: bool) -> Contents {
    match read::certificate(bytes) {
        Ok(_) => Contents::Certificates(chains(vec![bytes.to_vec()])),
        Err(_) if key::from_der(bytes).is_ok() => Contents::Other("a private key without a certificate"),
        Err(_) if read::is_request(bytes) => Contents::Other("a certificate request"),
        Err(_) if crl::is_list(bytes) => Contents::Other("a revocation list"),
        Err(why) if is_named => Contents::Certificates(Err(why)),
        Err(_) => Contents::Other("no certificate and no key"),
    }
}

fn chains(ders: Vec<Vec<u8>>) -> Result<Vec<Kept>, NotUnderstood> {
    Bundle { certificates: ders, ..Bundle::default() }.chains()
}

/// What no certificate is in: told by its name, and damage where the file is called like a certificate.
fn other(bytes: &[u8], is_named: bool) -> Contents {
    match what(bytes) {
        Some(what) => Contents::Other(what),
        None if is_named => Contents::Certificates(Err(NotUnderstood::new("there is no certificate in it"))),
        None => Contents::Other("no certificate and no key"),
    }
}

/// Marks in PEM (RFC 7468, RFC 4716), in the order in which they say most.
const MARKS: [(&str, &str); 9] = [
    ("-----BEGIN OPENSSH PRIVATE KEY-----", "a private key of SSH"),
    ("-----BEGIN ENCRYPTED PRIVATE KEY-----", "an encrypted private key without a certificate"),
    ("PRIVATE KEY-----", "a private key without a certificate"),
    ("CERTIFICATE REQUEST-----", "a certificate request"),
    ("-----BEGIN X509 CRL-----", "a revocation list"),
    ("-----BEGIN PGP ", "a text of OpenPGP"),
    ("PUBLIC KEY-----", "a public key"),
    ("DH PARAMETERS-----", "DH parameters"),
    ("-----BEGIN ", "PEM of another kind"),
];

/// What ssh-keygen writes (RFC 4253, section 6.6).
const SSH_KEYS: [&[u8]; 3] = [b"ssh-", b"ecdsa-sha2-", b"sk-"];

fn what(bytes: &[u8]) -> Option<&'static str> {
    let mark = MARKS.iter().find(|(mark, _)| contains(bytes, mark.as_bytes()));
    let is_ssh = || SSH_KEYS.iter().any(|start| bytes.starts_with(start));
    mark.map(|(_, what)| *what).or_else(|| is_ssh().then_some("a public key of SSH"))
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// A damaged certificate must not pass for something else.
fn mentions_a_certificate(bytes: &[u8]) -> bool {
    let marks = ["BEGIN CERTIFICATE-", "BEGIN X509 CERTIFICATE-", "BEGIN TRUSTED CERTIFICATE-", "BEGIN PKCS7-"];
    marks.iter().any(|mark| contains(bytes, mark.as_bytes()))
}

fn is_utf_16(bytes: &[u8]) -> bool {
    let has_mark = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let text: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
    (has_mark || bytes.contains(&0)) && contains(&text, b"-----BEGIN ") && !contains(bytes, b"-----BEGIN ")
}

/// Opens a keystore with the passwords that everybody knows.
fn keystore(bytes: &[u8], kind: Kind) -> Result<Vec<Kept>, NotUnderstood> {
    let mut effort = Effort::default();
    let mut last = None;
    for password in COMMON_PASSWORDS {
        let store = Password(Zeroizing::new(password.to_string()));
        match Keystore::open(bytes, &Passwords { store, key: None }, &mut effort) {
            Ok(open) => return open.bundle().chains(),
            Err(why) => last = Some(why),
        }
    }
    Err(match last {
        Some(why) if why.is_of_cost() || kind == Kind::Jceks => why,
        Some(_) | None => NotUnderstood::new(
            "a keystore whose password is neither empty nor `changeit`, or that is damaged: keep it in Vault beside its \
             password, or name the PEM that it was made of",
        ),
    })
}

/// The certificates of a degenerate signed data, in DER or in PEM; `None` where it is none.
fn pkcs7(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    if bytes.first() == Some(&0x30) {
        return certificates_of(bytes);
    }
    let blocks = pem::parse_many(bytes).ok()?;
    let is_it = |tag: &str| matches!(tag, "PKCS7" | "PKCS #7 SIGNED DATA" | "CMS");
    let ders: Vec<_> = blocks.iter().filter(|block| is_it(block.tag())).collect();
    (!ders.is_empty()).then(|| ders.iter().filter_map(|block| certificates_of(block.contents())).flatten().collect())
}

/// ContentInfo, SignedData and its certificates (RFC 5652, sections 3 and 5.1).
fn certificates_of(der: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (_, info) = Any::from_der(der).ok()?;
    let (rest, kind) = Oid::from_der(info.data).ok()?;
    if kind != SIGNED_DATA {
        return None;
    }
    let (_, content) = Any::from_der(rest).ok()?;
    let (_, signed) = Any::from_der(content.data).ok()?;
    let mut rest = signed.data;
    let mut found = Vec::new();
    while let Ok((behind, element)) = Any::from_der(rest) {
        // [0] IMPLICIT CertificateSet.
        if element.header.is_contextspecific() && element.header.tag().0 == 0 {
            found.extend(each(element.data));
        }
        rest = behind;
    }
    Some(found)
}

fn each(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Ok((behind, _)) = Any::from_der(rest) {
        let (element, _) = rest.split_at(rest.len() - behind.len());
        found.push(element.to_vec());
        rest = behind;
    }
    found.into_iter().filter(|der| read::certificate(der).is_ok()).collect()
}

/// Certificates under OpenSSL's own label: what it trusts them for follows the certificate in the same block.
fn labelled(bytes: &[u8]) -> Vec<Vec<u8>> {
    let blocks = pem::parse_many(bytes).unwrap_or_default();
    let trusted = blocks.iter().filter(|block| block.tag() == "TRUSTED CERTIFICATE");
    trusted.filter_map(|block| each(block.contents()).into_iter().next()).collect()
}
