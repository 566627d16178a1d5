//! The CA behind the server: an intermediate that two roots have signed, hence two chains for each certificate.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKey, PublicKeyData, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::ParsedExtension;

use super::super::certificates::root_params;
use super::identifier::Identifier;
use super::script::{DAY, Flaw};

pub struct Authority {
    pub root_pem: String,
    pub alternate_root_pem: String,
    intermediate: Issuer<'static, KeyPair>,
    /// The intermediate as each of the roots has signed it.
    links: [Vec<u8>; 2],
    /// An intermediate of the same name, with another key.
    stranger: Vec<u8>,
}

/// A certificate that was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// In lower-case hexadecimal digits.
    pub serial: String,
    /// What renewal information is asked for by (RFC 9773 section 4.1).
    pub id: String,
    /// SHA-256 of the public key's SubjectPublicKeyInfo, in lower-case hexadecimal digits.
    pub key: String,
    /// The leaf first, the root left out.
    pub ders: Vec<Vec<u8>>,
    pub alternate_ders: Vec<Vec<u8>>,
    pub names: Vec<Identifier>,
    /// The URL of the account that has it.
    pub account: String,
    /// In seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
}

/// What a CSR asks for.
pub struct Request {
    /// In order, each once.
    pub names: Vec<Identifier>,
    pub key: PublicKey,
}

impl Authority {
    pub fn new() -> Self {
        let intermediate_params = intermediate_params();
        let (root_pem, root) = made_root("root one");
        let (alternate_root_pem, alternate_root) = made_root("root two");
        let key = KeyPair::generate().unwrap();
        let link = |root: &Issuer<KeyPair>| intermediate_params.signed_by(&key, root).unwrap().der().to_vec();
        let links = [link(&root), link(&alternate_root)];
        let stranger_key = KeyPair::generate().unwrap();
        let stranger = intermediate_params.signed_by(&stranger_key, &root).unwrap().der().to_vec();
        let intermediate = Issuer::new(intermediate_params, key);
        Self { root_pem, alternate_root_pem, intermediate, links, stranger }
    }

    /// For the names of the order, whatever else the CSR has asked for. `validity` is in seconds from now.
    pub fn sign(
        &self,
        names: &[Identifier],
        key: &PublicKey,
        validity: (i64, i64),
        flaw: Option<Flaw>,
        account: &str,
    ) -> Issued {
        let (mut names, mut validity) = (names.to_vec(), validity);
        match flaw {
            Some(Flaw::MissingName) => {
                names.pop();
                if names.is_empty() {
                    names.push(Identifier::Dns("elsewhere.invalid".to_string()));
                }
            }
            Some(Flaw::Expired) => validity = (-10 * DAY, -DAY),
            Some(Flaw::Due) => validity = (-DAY, 120),
            Some(Flaw::NotYetValid) => validity = (DAY, 90 * DAY),
            Some(Flaw::OtherKey | Flaw::ForeignChain) | None => {}
        }
        let leaf = match flaw {
            Some(Flaw::OtherKey) => self.leaf(&names, &KeyPair::generate().unwrap(), validity),
            _ => self.leaf(&names, key, validity),
        };
        let [link, alternate_link] = match flaw {
            Some(Flaw::ForeignChain) => [self.stranger.clone(), self.stranger.clone()],
            _ => self.links.clone(),
        };
        issued(vec![leaf.clone(), link], vec![leaf, alternate_link], names, account)
    }

    fn leaf(&self, names: &[Identifier], key: &impl PublicKeyData, (from, to): (i64, i64)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names.iter().map(Identifier::san).collect();
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now + Duration::seconds(from), now + Duration::seconds(to));
        params.serial_number = Some(random_serial());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.signed_by(key, &self.intermediate).unwrap().der().to_vec()
    }
}

impl Request {
    /// `Err` says what is wrong with the CSR.
    pub fn parse(der: &[u8]) -> Result<Self, String> {
        let csr = CertificateSigningRequestParams::from_der(&der.into()).map_err(|error| error.to_string())?;
        let mut names = Vec::new();
        for san in &csr.params.subject_alt_names {
            let name = Identifier::of_san(san).ok_or("a name of a type that no order can have")?;
            names.push(name);
        }
        match csr.params.distinguished_name.get(&DnType::CommonName) {
            None => {}
            Some(DnValue::Utf8String(name)) => names.push(Identifier::of_text(name)),
            Some(DnValue::PrintableString(name)) => names.push(Identifier::of_text(name.as_str())),
            Some(_) => return Err("a common name in an unusual encoding".to_string()),
        }
        names.sort();
        names.dedup();
        Ok(Self { names, key: csr.public_key })
    }

    /// The public key without its algorithm, as an account's key can be compared with it.
    pub fn raw_key(&self) -> &[u8] {
        self.key.der_bytes()
    }
}

fn issued(ders: Vec<Vec<u8>>, alternate_ders: Vec<Vec<u8>>, names: Vec<Identifier>, account: &str) -> Issued {
    let (_, leaf) = x509_parser::parse_x509_certificate(&ders[0]).unwrap();
    let authority_key = leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(identifier) => identifier.key_identifier.as_ref(),
        _ => None,
    });
    let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    Issued {
        serial: hex(leaf.raw_serial()),
        id: format!("{}.{}", part(authority_key.unwrap().0), part(leaf.raw_serial())),
        key: hex(digest(&SHA256, leaf.public_key().raw).as_ref()),
        not_before: leaf.validity().not_before.timestamp(),
        not_after: leaf.validity().not_after.timestamp(),
        account: account.to_string(),
        names,
        alternate_ders,
        ders,
    }
}

fn made_root(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let mut params = root_params(name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), Issuer::new(params, key))
}

fn intermediate_params() -> CertificateParams {
    let mut params = root_params("intermediate");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

/// Positive, and of sixteen bytes in DER.
fn random_serial() -> SerialNumber {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Identifier {
    fn san(&self) -> SanType {
        match self {
            Self::Dns(name) => SanType::DnsName(name.as_str().try_into().unwrap()),
            Self::Ip(address) => SanType::IpAddress(*address),
        }
    }

    fn of_san(san: &SanType) -> Option<Self> {
        match san {
            SanType::DnsName(name) => Some(Self::Dns(name.as_str().to_ascii_lowercase())),
            SanType::IpAddress(address) => Some(Self::Ip(*address)),
            _ => None,
        }
    }
}
