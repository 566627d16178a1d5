//! One certificate revocation list from DER, and whether a CA signed it.

use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::read::{common_name, distinguished_name, not_der, signature_algorithm};
use super::{NotUnderstood, pem};
use crate::domain::crl::Crl;
use crate::domain::time::Timestamp;

/// The first list in PEM. `ca` is the DER of the certificate that must have signed it.
pub fn from_pem(text: &str, ca: &[u8]) -> Result<Crl, NotUnderstood> {
    let blocks = pem::parse_many(text).map_err(NotUnderstood::Pem)?;
    let block = blocks.iter().find(|block| block.tag() == "X509 CRL");
    let block = block.ok_or_else(|| NotUnderstood::new("there is no revocation list in it"))?;
    from_der(block.contents(), ca)
}

/// Returns whether bytes are a revocation list (RFC 5280, section 5.1), whoever signed it.
pub fn is_list(der: &[u8]) -> bool {
    CertificateRevocationList::from_der(der).is_ok_and(|(rest, _)| rest.is_empty())
}

pub fn from_der(der: &[u8], ca: &[u8]) -> Result<Crl, NotUnderstood> {
    let (rest, list) = CertificateRevocationList::from_der(der).map_err(|e| not_der("revocation list", e))?;
    if !rest.is_empty() {
        return Err(NotUnderstood::Trailing { wanted: "revocation list", bytes: rest.len() });
    }
    Ok(Crl {
        issuer: distinguished_name(list.issuer()),
        issuer_cn: common_name(list.issuer()),
        number: list.crl_number().map(|number| format!("{number:x}")),
        this_update: Timestamp(list.last_update().timestamp()),
        next_update: list.next_update().map(|next| Timestamp(next.timestamp())),
        revoked: list.tbs_cert_list.revoked_certificates.len(),
        signature: signature_algorithm(&list.signature_algorithm),
        is_signed: is_signed(&list, ca),
    })
}

/// A signature that holds under any algorithm for this key and these bytes is that of the key's owner.
fn is_signed(list: &CertificateRevocationList, ca: &[u8]) -> bool {
    let Ok((_, ca)) = X509Certificate::from_der(ca) else { return false };
    let (key, signed, signature) =
        (&ca.public_key().subject_public_key.data, list.tbs_cert_list.as_ref(), &list.signature_value.data);
    list.issuer().as_raw() == ca.subject().as_raw()
        && webpki::ALL_VERIFICATION_ALGS.iter().any(|by| by.verify_signature(key, signed, signature).is_ok())
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
        KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
    };

    use super::*;

    fn ca(algorithm: &'static rcgen::SignatureAlgorithm) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::CrlSign, KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "a root");
        CertifiedIssuer::self_signed(params, KeyPair::generate_for(algorithm).unwrap()).unwrap()
    }

    fn list(ca: &CertifiedIssuer<'static, KeyPair>) -> Vec<u8> {
        let revoked = |serial: &[u8]| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: date_time_ymd(2027, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2027, 1, 1),
            next_update: date_time_ymd(2027, 1, 4),
            crl_number: SerialNumber::from(4_711_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked(&[1]), revoked(&[2])],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(ca).unwrap().der().to_vec()
    }

    #[test]
    fn a_list_is_read_and_was_signed_by_its_own_ca_alone() {
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let (own, other) = (ca(algorithm), ca(algorithm));
            let der = list(&own);
            let read = from_der(&der, own.der()).unwrap();
            assert_eq!((read.issuer_cn.as_deref(), read.number.as_deref()), (Some("a root"), Some("1267")));
            assert_eq!(
                (read.this_update, read.next_update),
                (Timestamp(1_798_761_600), Some(Timestamp(1_799_020_800)))
            );
            assert_eq!((read.revoked, read.is_signed), (2, true));
            assert!(!from_der(&der, other.der()).unwrap().is_signed, "another CA of the same name");
        }
    }

    #[test]
    fn a_list_that_was_changed_is_no_longer_signed() {
        let own = ca(&rcgen::PKCS_ECDSA_P256_SHA256);
        let mut der = list(&own);
        let at = der.windows(6).position(|six| six == b"a root").unwrap();
        der[at] = b'A';
        assert!(!from_der(&der, own.der()).unwrap().is_signed);
    }

    #[test]
    fn what_is_no_list_says_so() {
        let own = ca(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert!(from_der(own.der(), own.der()).unwrap_err().to_string().starts_with("not a revocation list: "));
        let trailing = [list(&own), vec![0]].concat();
        assert_eq!(from_der(&trailing, own.der()).unwrap_err().to_string(), "1 bytes follow the revocation list");
        assert_eq!(from_pem(&own.pem(), own.der()).unwrap_err().to_string(), "there is no revocation list in it");
    }
}
