//! The three PEM forms of a private key, so that a renewed key comes in the form that its readers know.

use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
};
use x509_parser::asn1_rs::Tag;
use x509_parser::der_parser::parse_der;
use zeroize::Zeroizing;

use crate::domain::cert::KeyType;
use crate::domain::key::PrivateKey;

use super::key;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// `PRIVATE KEY` (RFC 5958).
    Pkcs8,
    /// `RSA PRIVATE KEY` (RFC 8017).
    Pkcs1,
    /// `EC PRIVATE KEY` (RFC 5915).
    Sec1,
}

impl KeyForm {
    /// The form of the first key in PEM, or of one key in DER.
    pub fn of(bytes: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(bytes) else { return Self::of_der(bytes).unwrap_or(Self::Pkcs8) };
        let tags = [(Self::Pkcs1, "-----BEGIN RSA PRIVATE KEY-----"), (Self::Sec1, "-----BEGIN EC PRIVATE KEY-----")];
        tags.into_iter().find(|(_, tag)| text.contains(tag)).map_or(Self::Pkcs8, |(form, _)| form)
    }

    /// After the version comes the algorithm, the modulus, or the key itself.
    fn of_der(der: &[u8]) -> Option<Self> {
        let (_, parsed) = parse_der(der).ok()?;
        let second = parsed.as_sequence().ok()?.get(1)?.header.tag();
        [(Tag::Sequence, Self::Pkcs8), (Tag::Integer, Self::Pkcs1), (Tag::OctetString, Self::Sec1)]
            .into_iter()
            .find(|(tag, _)| *tag == second)
            .map(|(_, form)| form)
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Pkcs8 => "PRIVATE KEY",
            Self::Pkcs1 => "RSA PRIVATE KEY",
            Self::Sec1 => "EC PRIVATE KEY",
        }
    }

    /// One block. A key that has no such form, since its kind changed, comes as PKCS#8.
    pub fn to_pem(self, key: &PrivateKey) -> Zeroizing<String> {
        let block = |tag, der: Zeroizing<Vec<u8>>| Zeroizing::new(super::pem::block(tag, &der));
        match (self, self.older(key)) {
            (Self::Pkcs8, _) | (_, None) => key::to_pem(key),
            (Self::Pkcs1, Some(der)) => block("RSA PRIVATE KEY", der),
            (Self::Sec1, Some(der)) => block("EC PRIVATE KEY", der),
        }
    }

    /// As [`KeyForm::to_pem`], without the text around it.
    pub fn to_der(self, key: &PrivateKey) -> Zeroizing<Vec<u8>> {
        self.older(key).unwrap_or_else(|| key.pkcs8.clone())
    }

    /// `None` where the key comes as PKCS#8.
    fn older(self, key: &PrivateKey) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Self::Pkcs8 => None,
            Self::Pkcs1 => pkcs1(key).map(Zeroizing::new),
            Self::Sec1 => sec1(key).map(Zeroizing::new),
        }
    }
}

/// What PKCS#8 wraps for RSA (RFC 5958, section 2; RFC 8017, appendix A.1.2): version, algorithm, key.
fn pkcs1(key: &PrivateKey) -> Option<Vec<u8>> {
    let KeyType::Rsa(_) = key.key_type else { return None };
    let (_, wrapped) = parse_der(&key.pkcs8).ok()?;
    Some(wrapped.as_sequence().ok()?.get(2)?.as_slice().ok()?.to_vec())
}

fn sec1(key: &PrivateKey) -> Option<Vec<u8>> {
    let curve = match key.key_type {
        KeyType::EcdsaP256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
        KeyType::EcdsaP384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        KeyType::EcdsaP521 => &ECDSA_P521_SHA512_ASN1_SIGNING,
        KeyType::Rsa(_) | KeyType::Ed25519 | KeyType::Other(_) => return None,
    };
    let pair = EcdsaKeyPair::from_pkcs8(curve, &key.pkcs8).ok()?;
    let der = AsDer::<EcPrivateKeyRfc5915Der>::as_der(&pair.private_key()).ok()?;
    Some(der.as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::KeySpec;
    use crate::pki::bundle::Bundle;

    #[test]
    fn a_key_is_the_same_key_in_every_form() {
        for (spec, form, tag) in [
            (KeySpec::Rsa2048, KeyForm::Pkcs1, "RSA PRIVATE KEY"),
            (KeySpec::EcdsaP256, KeyForm::Sec1, "EC PRIVATE KEY"),
            (KeySpec::EcdsaP384, KeyForm::Sec1, "EC PRIVATE KEY"),
            (KeySpec::EcdsaP256, KeyForm::Pkcs8, "PRIVATE KEY"),
            (KeySpec::EcdsaP256, KeyForm::Pkcs1, "PRIVATE KEY"),
            (KeySpec::Ed25519, KeyForm::Sec1, "PRIVATE KEY"),
        ] {
            let key = key::generate(spec).unwrap();
            let text = form.to_pem(&key);
            assert!(text.starts_with(&format!("-----BEGIN {tag}-----\n")), "{spec:?} {form:?}");
            let read = Bundle::parse(text.as_bytes()).unwrap().keys.remove(0);
            assert_eq!((read.public, read.key_type), (key.public, key.key_type.clone()));
            let der = form.to_der(&key);
            assert_eq!(key::from_der(&der).unwrap().public, key.public);
            let same = KeyForm::of(text.as_bytes());
            assert_eq!(KeyForm::of(&der), same, "{spec:?} {form:?}");
        }
    }

    #[test]
    fn a_curve_is_named_in_the_form_that_has_no_other_place_for_it() {
        let der = sec1(&key::generate(KeySpec::EcdsaP256).unwrap()).unwrap();
        let prime256v1 = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        assert!(der.windows(prime256v1.len()).any(|window| window == prime256v1));
    }

    #[test]
    fn the_form_is_told_from_the_label() {
        assert_eq!(KeyForm::of(b"-----BEGIN RSA PRIVATE KEY-----\n"), KeyForm::Pkcs1);
        assert_eq!(KeyForm::of(b"x\n-----BEGIN EC PRIVATE KEY-----\n"), KeyForm::Sec1);
        assert_eq!(KeyForm::of(b"-----BEGIN PRIVATE KEY-----\n"), KeyForm::Pkcs8);
        assert_eq!(KeyForm::of(b""), KeyForm::Pkcs8);
    }
}
