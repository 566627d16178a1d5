//! The public half that a private key states of itself, in the forms that nearly all keys have. It is read without
//! arithmetic, in a tenth of the time: a sweep looks at thousands of keys, and uses none.

use zeroize::Zeroizing;

use super::sha256;
use crate::domain::cert::{KeyDigest, KeyType};
use crate::domain::key::PrivateKey;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
/// `parameters` and `publicKey` of RFC 5915, section 3.
const PARAMETERS: u8 = 0xa0;
const PUBLIC_KEY: u8 = 0xa1;

const ZERO: &[u8] = b"\x02\x01\x00";
const ONE: &[u8] = b"\x02\x01\x01";
/// RFC 8017, appendix A.1 with its NULL, and RFC 5480, section 2.1.1.
const RSA_ENCRYPTION: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
const EC_PUBLIC_KEY: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";

/// In bytes: what certd reads of RSA, and every other size takes the long way.
const RSA_MODULI: std::ops::RangeInclusive<usize> = 256..=1024;

struct Curve {
    oid: &'static [u8],
    /// Bytes of a coordinate.
    size: usize,
    key_type: KeyType,
}

/// RFC 5480, section 2.1.1.1.
const CURVES: [Curve; 3] = [
    Curve { oid: b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", size: 32, key_type: KeyType::EcdsaP256 },
    Curve { oid: b"\x06\x05\x2b\x81\x04\x00\x22", size: 48, key_type: KeyType::EcdsaP384 },
    Curve { oid: b"\x06\x05\x2b\x81\x04\x00\x23", size: 66, key_type: KeyType::EcdsaP521 },
];

/// `None` for every other form, and for a key that does not state its public half.
pub fn key(der: &[u8]) -> Option<PrivateKey> {
    let mut fields = Fields(whole(SEQUENCE, der)?);
    let version = fields.next()?;
    match (version.whole, fields.next()?) {
        // PKCS#8 (RFC 5958); attributes after the key are not of the common form.
        (ZERO, Element { tag: SEQUENCE, content, .. }) => {
            let inner = whole(OCTET_STRING, fields.0)?;
            match content.strip_prefix(EC_PUBLIC_KEY) {
                Some(oid) => ecdsa(inner, Some(oid)),
                None => (content == RSA_ENCRYPTION).then(|| rsa(inner))?,
            }
        }
        (ZERO, Element { tag: INTEGER, .. }) => rsa(der),
        (ONE, Element { tag: OCTET_STRING, .. }) => ecdsa(der, None),
        _ => None,
    }
}

/// SEC1 (RFC 5915), alone or within PKCS#8, which names the curve outside.
fn ecdsa(der: &[u8], curve: Option<&[u8]>) -> Option<PrivateKey> {
    let mut fields = Fields(whole(SEQUENCE, der)?);
    let (version, secret, mut field) = (fields.next()?, fields.next()?, fields.next()?);
    let mut oid = curve;
    if field.tag == PARAMETERS {
        oid = oid.is_none_or(|oid| oid == field.content).then_some(field.content);
        field = fields.next()?;
    }
    let curve = CURVES.into_iter().find(|curve| oid == Some(curve.oid))?;
    let stated = whole(PUBLIC_KEY, field.whole)?;
    let point = whole(BIT_STRING, stated)?.strip_prefix(&[0])?;
    let is_uncompressed = point.first() == Some(&4) && point.len() == 1 + 2 * curve.size;
    let is_whole = version.whole == ONE && secret.tag == OCTET_STRING && secret.content.len() == curve.size;
    if !(is_uncompressed && is_whole && fields.0.is_empty()) {
        return None;
    }
    let algorithm = wrap(SEQUENCE, &[EC_PUBLIC_KEY, curve.oid]);
    let inner = wrap(SEQUENCE, &[ONE, secret.whole, field.whole]);
    Some(held(&algorithm, &inner, point, curve.key_type))
}

/// PKCS#1 (RFC 8017, appendix A.1.2): version, modulus, public exponent, and six more numbers.
fn rsa(der: &[u8]) -> Option<PrivateKey> {
    let mut fields = Fields(whole(SEQUENCE, der)?);
    let (version, modulus, exponent) = (fields.next()?, fields.next()?, fields.next()?);
    let rest: [_; 6] = std::array::from_fn(|_| fields.next());
    let are_numbers = [&modulus, &exponent].into_iter().chain(rest.iter().flatten()).all(|it| it.tag == INTEGER);
    let is_whole = version.whole == ZERO && rest.iter().all(Option::is_some) && fields.0.is_empty();
    let size = match modulus.content {
        [0, first, ..] if *first >= 0x80 => modulus.content.len() - 1,
        [first, ..] if (1..0x80).contains(first) => modulus.content.len(),
        _ => return None,
    };
    if !(are_numbers && is_whole && RSA_MODULI.contains(&size)) {
        return None;
    }
    let public = wrap(SEQUENCE, &[modulus.whole, exponent.whole]);
    let bits = u32::try_from(size * 8).ok()?;
    Some(held(&wrap(SEQUENCE, &[RSA_ENCRYPTION]), der, &public, KeyType::Rsa(bits)))
}

/// `secret` and `public` as they are within PKCS#8 and SubjectPublicKeyInfo.
fn held(algorithm: &[u8], secret: &[u8], public: &[u8], key_type: KeyType) -> PrivateKey {
    let spki = wrap(SEQUENCE, &[algorithm, &wrap(BIT_STRING, &[&[0], public])]);
    let pkcs8 = wrap(SEQUENCE, &[ZERO, algorithm, &wrap(OCTET_STRING, &[secret])]);
    PrivateKey { pkcs8, public: KeyDigest(sha256(&spki)), key_type }
}

/// One element of DER (X.690): its tag, what is in it, and all of it.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
}

/// Elements one after another.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (tag, length) = (*self.0.first()?, *self.0.get(1)?);
        let (header, length) = match length {
            ..=0x7f => (2, usize::from(length)),
            0x81 => (3, usize::from(*self.0.get(2)?)),
            0x82 => (4, usize::from(u16::from_be_bytes([*self.0.get(2)?, *self.0.get(3)?]))),
            _ => return None,
        };
        let (whole, rest) = self.0.split_at_checked(header + length)?;
        self.0 = rest;
        Some(Element { tag, content: &whole[header..], whole })
    }
}

/// What is in the one element that `der` is.
fn whole(tag: u8, der: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields(der);
    let element = fields.next().filter(|element| element.tag == tag)?;
    fields.0.is_empty().then_some(element.content)
}

fn wrap(tag: u8, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Zeroizing::new(Vec::with_capacity(length + 4));
    out.push(tag);
    match u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes() {
        [0, low @ ..=0x7f] => out.push(low),
        [0, low] => out.extend([0x81, low]),
        [high, low] => out.extend([0x82, high, low]),
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::KeySpec;
    use crate::pki::key::{generate, proven};
    use crate::pki::key_form::KeyForm;

    const SPECS: [KeySpec; 5] =
        [KeySpec::EcdsaP256, KeySpec::EcdsaP384, KeySpec::Rsa2048, KeySpec::Rsa3072, KeySpec::Rsa4096];

    #[test]
    fn what_a_key_of_any_form_states_is_what_arithmetic_finds() {
        for spec in SPECS {
            let made = generate(spec).unwrap();
            for form in [KeyForm::Pkcs8, KeyForm::Pkcs1, KeyForm::Sec1] {
                let der = form.to_der(&made);
                let (stated, found) = (key(&der).unwrap(), proven(&der).unwrap());
                assert_eq!((stated.public, &stated.key_type), (found.public, &found.key_type), "{spec:?} {form:?}");
                assert_eq!((stated.pkcs8, stated.public), (found.pkcs8, made.public), "{spec:?} {form:?}");
            }
        }
    }

    #[test]
    fn what_states_nothing_or_is_of_another_form_is_left_to_arithmetic() {
        let made = generate(KeySpec::EcdsaP256).unwrap();
        assert!(key(&generate(KeySpec::Ed25519).unwrap().pkcs8).is_none());
        let sec1 = KeyForm::Sec1.to_der(&made);
        assert!(key(&[&sec1[..], &[0]].concat()).is_none(), "something follows");
        for cut in 0..made.pkcs8.len() {
            assert!(key(&made.pkcs8[..cut]).is_none(), "{cut}");
        }
        assert!(key(&[]).is_none());
    }

    #[test]
    fn a_key_whose_curve_is_said_in_two_ways_states_nothing() {
        let sec1 = KeyForm::Sec1.to_der(&generate(KeySpec::EcdsaP256).unwrap());
        assert!(ecdsa(&sec1, None).is_some());
        assert!(ecdsa(&sec1, Some(CURVES[0].oid)).is_some());
        assert!(ecdsa(&sec1, Some(CURVES[1].oid)).is_none());
    }

    #[test]
    fn lengths_are_written_as_they_are_read() {
        for length in [0, 1, 127, 128, 255, 256, 65_535] {
            let content = vec![7; length];
            assert_eq!(whole(OCTET_STRING, &wrap(OCTET_STRING, &[&content])), Some(&content[..]), "{length}");
        }
    }
}
