//! Certificate signing requests (RFC 2986).

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use crate::domain::key::PrivateKey;
use crate::domain::name::San;

#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    #[error("a name cannot stand in a certificate request: {0}")]
    Name(San),
    #[error("could not make a certificate request")]
    Failed(#[from] rcgen::Error),
}

/// DER, signed by `key`; the subject is empty without a common name.
pub fn make(key: &PrivateKey, names: &[San], common_name: Option<&str>) -> Result<Vec<u8>, CsrError> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.iter().map(subject_alt_name).collect::<Result<_, _>>()?;
    params.distinguished_name = DistinguishedName::new();
    if let Some(name) = common_name {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    let pair = KeyPair::try_from(key.pkcs8.as_slice())?;
    Ok(params.serialize_request(&pair)?.der().to_vec())
}

/// As rcgen spells a name; refuses kinds that certd does not ask for.
pub fn subject_alt_name(name: &San) -> Result<SanType, CsrError> {
    let ia5 = |text: &str| text.try_into().map_err(|_| CsrError::Name(name.clone()));
    match name {
        San::Dns(text) => Ok(SanType::DnsName(ia5(text)?)),
        San::Email(text) => Ok(SanType::Rfc822Name(ia5(text)?)),
        San::Uri(text) => Ok(SanType::URI(ia5(text)?)),
        San::Ip(ip) => Ok(SanType::IpAddress(*ip)),
        San::Other(_) => Err(CsrError::Name(name.clone())),
    }
}
