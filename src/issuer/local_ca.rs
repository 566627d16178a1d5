//! A CA of certd's own, kept in a directory: loaded when it is there, made only when that is asked for.

mod files;
mod permitted;
mod register;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use self::permitted::Permitted;
use self::register::Register;
use super::{IssuerError, Order, Recovered};
use crate::domain::cert::{Certificate, KeyDigest};
use crate::domain::name::San;
use crate::domain::text::{printable, with_causes};
use crate::domain::time::Timestamp;
use crate::failpoint;
use crate::pki::csr;

/// Clocks of this host and of those that check the certificate may differ by this much.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// RFC 5280 allows 20 octets (section 4.1.2.2); 16 of pure chance leave room for the sign.
const SERIAL_BYTES: usize = 16;

/// `ub-common-name` (RFC 5280, appendix A.1), in characters.
const LONGEST_COMMON_NAME: usize = 64;

#[derive(Clone, Debug)]
pub struct LocalCaSettings {
    /// Holds `ca.pem` and `ca.key`.
    pub directory: PathBuf,
    /// Whether a CA may be made where there is none.
    pub create: bool,
    pub common_name: String,
    /// Of the CA, where it is made.
    pub lifetime: Duration,
    /// Of a leaf whose order says nothing.
    pub leaf_lifetime: Duration,
    /// `example.org` is itself and everything below; `10.0.0.0/8` or `::1` are addresses. Empty
    /// permits every name.
    pub permitted_names: Vec<String>,
}

impl LocalCaSettings {
    /// Whether there is a CA to be loaded.
    pub fn is_made(&self) -> bool {
        Place::new(&self.directory).certificate.exists()
    }
}

pub struct LocalCa {
    issuer: rcgen::Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    /// The CA's subject in DER, as every leaf must repeat it.
    subject: Vec<u8>,
    self_issued: bool,
    not_before: Timestamp,
    not_after: Timestamp,
    leaf_lifetime: Duration,
    permitted: Vec<Permitted>,
    register: Register,
}

impl LocalCa {
    /// `known` are the leaves found where certd keeps certificates: a CA that one of them names is
    /// lost when its files are gone, and a new one of the same name would hide that.
    pub fn open(settings: LocalCaSettings, now: Timestamp, known: &[&Certificate]) -> Result<Self, IssuerError> {
        let permitted = permitted::parse(&settings.permitted_names)?;
        let place = Place::new(&settings.directory);
        match (files::exists(&place.certificate)?, files::exists(&place.key)?) {
            (true, true) => {}
            (true, false) => return Err(place.lost(&place.key)),
            (false, key_exists) => {
                may_create(&settings, &place, known)?;
                create(&settings, &place, &permitted, now, key_exists)?;
            }
        }
        Self::load(&settings, &place, permitted)
    }

    fn load(settings: &LocalCaSettings, place: &Place, permitted: Vec<Permitted>) -> Result<Self, IssuerError> {
        let key = read_key(place)?;
        let pem = files::read(&place.certificate)?;
        let wrong = |what: &str| {
            let (file, directory) = (place.certificate.display(), settings.directory.display());
            IssuerError::Stopped(format!("{what}: {file}; restore the CA's own files in {directory}"))
        };
        let der = CertificateDer::from_pem_slice(&pem).map_err(|_| wrong("not a certificate in PEM"))?;
        let (rest, parsed) = X509Certificate::from_der(&der).map_err(|_| wrong("not a certificate"))?;
        if !rest.is_empty() {
            return Err(wrong("there are bytes after the certificate"));
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(wrong("ca.key belongs to another certificate"));
        }
        if !may_sign(&parsed) {
            return Err(wrong("not the certificate of a CA"));
        }
        let issuer = rcgen::Issuer::from_ca_cert_der(&der, key).map_err(|_| wrong("its subject cannot be repeated"))?;
        Ok(Self {
            issuer,
            subject: parsed.subject().as_raw().to_vec(),
            self_issued: parsed.subject() == parsed.issuer(),
            not_before: Timestamp(parsed.validity().not_before.timestamp()),
            not_after: Timestamp(parsed.validity().not_after.timestamp()),
            leaf_lifetime: settings.leaf_lifetime,
            permitted,
            register: Register::new(&settings.directory),
            der: der.into_owned(),
        })
    }

    /// DER, leaf first. Only the public key is taken from the CSR: names and usages a CSR asks for are
    /// not read. A self-signed CA is not repeated in the chain, since who trusts it has it.
    pub async fn sign(&self, order: &Order) -> Result<Vec<Vec<u8>>, IssuerError> {
        let public_key = possessed_key(&order.csr)?;
        let params = self.leaf(order, &public_key)?;
        let leaf = params.signed_by(&public_key, &self.issuer).map_err(|e| unmade("sign a certificate", e))?;
        self.read_back(leaf.der())?;
        // From here on it is issued: an answer that gets lost is found again.
        self.register.note(leaf.der(), &leaf.pem(), order.now).map_err(may_be_noted)?;
        Ok(self.chain(leaf.der()))
    }

    /// What it signed for this key, if it did.
    pub fn recover(&self, key: KeyDigest) -> Recovered {
        match self.register.find(key) {
            Ok(Some(leaf)) => Recovered::Issued(self.chain(&leaf)),
            Ok(None) => Recovered::NotIssued,
            Err(error) => Recovered::Unknown(with_causes(&error)),
        }
    }

    fn chain(&self, leaf: &[u8]) -> Vec<Vec<u8>> {
        let above = (!self.self_issued).then(|| self.der.to_vec());
        std::iter::once(leaf.to_vec()).chain(above).collect()
    }

    /// The CA in DER: what verifies what it signs.
    pub fn anchors(&self) -> Vec<Vec<u8>> {
        vec![self.der.to_vec()]
    }

    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    fn leaf(&self, order: &Order, public_key: &SubjectPublicKeyInfo) -> Result<CertificateParams, IssuerError> {
        let (not_before, not_after) = self.validity(order)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(order)?;
        params.subject_alt_names = self.names(&order.names)?;
        params.serial_number = Some(random_serial()?);
        params.not_before = instant(not_before)?;
        params.not_after = instant(not_after)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if *public_key.algorithm() == rcgen::PKCS_RSA_SHA256 {
            params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    /// Within the CA's own; a leaf that could only get less than half of what was asked for would be
    /// due again at once.
    fn validity(&self, order: &Order) -> Result<(Timestamp, Timestamp), IssuerError> {
        let asked = order.lifetime.unwrap_or(self.leaf_lifetime);
        if asked.as_secs() == 0 {
            return Err(refused("a lifetime of nothing was asked for"));
        }
        if order.now < self.not_before {
            return Err(IssuerError::Stopped(format!(
                "the CA is not valid before {}: is this host's clock right?",
                self.not_before
            )));
        }
        let not_after = order.now.plus(asked).min(self.not_after);
        if order.now >= self.not_after || order.now.until(not_after) < asked / 2 {
            return Err(IssuerError::Stopped(format!(
                "the CA ends on {}, too soon for a lifetime of {} s: make a new CA in a directory of its own, \
                 and let what trusts the old one trust both",
                self.not_after,
                asked.as_secs()
            )));
        }
        // A lifetime of minutes must not be spent before it begins: it would be due at once.
        let back = CLOCK_SKEW.min(asked / 10);
        Ok((order.now.minus(back).max(self.not_before), not_after))
    }

    fn names(&self, names: &[San]) -> Result<Vec<SanType>, IssuerError> {
        if names.is_empty() {
            return Err(refused("no name was asked for"));
        }
        if let Some(name) = names.iter().find(|name| !permitted::permits(&self.permitted, name)) {
            return Err(refused(format!("permitted_names has no place for {}", printable(&name.to_string()))));
        }
        names.iter().map(san).collect()
    }

    /// rcgen writes the CA's name anew: a subject that it cannot repeat to the byte would give leaves
    /// that lead nowhere.
    fn read_back(&self, leaf: &CertificateDer) -> Result<(), IssuerError> {
        match X509Certificate::from_der(leaf) {
            Ok(([], leaf)) if leaf.issuer().as_raw() == self.subject => Ok(()),
            Ok(_) | Err(_) => Err(IssuerError::Stopped(
                "the CA's subject cannot be repeated in a leaf: make a CA whose subject is a plain common name".into(),
            )),
        }
    }
}

impl fmt::Debug for LocalCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCa").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// Where the two halves of a CA are.
struct Place {
    certificate: PathBuf,
    key: PathBuf,
}

impl Place {
    fn new(directory: &Path) -> Self {
        Self { certificate: directory.join("ca.pem"), key: directory.join("ca.key") }
    }

    fn lost(&self, file: &Path) -> IssuerError {
        IssuerError::Stopped(format!("a half of the CA is lost: restore {} from a backup", file.display()))
    }
}

fn may_create(settings: &LocalCaSettings, place: &Place, known: &[&Certificate]) -> Result<(), IssuerError> {
    let name = printable(&settings.common_name);
    let orphan = known.iter().find(|leaf| leaf.issuer_cn.as_deref() == Some(&settings.common_name));
    if let Some(leaf) = orphan {
        return Err(IssuerError::Stopped(format!(
            "the CA of {name} is lost, yet certificates of it are kept, serial {} among them: restore {} and {}, \
             or start anew with another common_name",
            leaf.serial,
            place.key.display(),
            place.certificate.display()
        )));
    }
    if !settings.create {
        return Err(IssuerError::Stopped(format!(
            "there is no CA: {}; restore it, or let certd make one with create = true",
            place.certificate.display()
        )));
    }
    if name.is_empty() || settings.common_name.chars().count() > LONGEST_COMMON_NAME {
        return Err(IssuerError::Stopped(format!(
            "common_name of a CA must be 1 to {LONGEST_COMMON_NAME} characters: {name:?}"
        )));
    }
    Ok(())
}

/// The key first: a key without a certificate has signed nothing, so the next start goes on from there.
fn create(
    settings: &LocalCaSettings,
    place: &Place,
    permitted: &[Permitted],
    now: Timestamp,
    key_exists: bool,
) -> Result<(), IssuerError> {
    files::make_directory(&settings.directory)?;
    if !key_exists {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).map_err(|e| unmade("make the CA's key", e))?;
        files::keep(&place.key, zeroize::Zeroizing::new(key.serialize_pem()).as_bytes(), 0o600)?;
    }
    failpoint::reached("ca_key_kept");
    let key = read_key(place)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&settings.common_name);
    params.serial_number = Some(random_serial()?);
    params.not_before = instant(now.minus(CLOCK_SKEW))?;
    params.not_after = instant(now.plus(settings.lifetime))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = permitted::constraints(permitted);
    let certificate = params.self_signed(&key).map_err(|e| unmade("sign the CA's certificate", e))?;
    files::keep(&place.certificate, certificate.pem().as_bytes(), 0o644)
}

fn read_key(place: &Place) -> Result<KeyPair, IssuerError> {
    files::refuse_if_others_may_read(&place.key)?;
    let pem = files::read(&place.key)?;
    std::str::from_utf8(&pem).ok().and_then(|text| KeyPair::from_pem(text).ok()).ok_or_else(|| {
        IssuerError::Stopped(format!("not a private key in PKCS#8 PEM: {}; restore it", place.key.display()))
    })
}

fn may_sign(ca: &X509Certificate) -> bool {
    let usage = ca.key_usage().ok().flatten();
    ca.is_ca() && usage.is_none_or(|usage| usage.value.key_cert_sign())
}

/// The public key of a CSR that proves to hold its private half.
fn possessed_key(csr: &[u8]) -> Result<SubjectPublicKeyInfo, IssuerError> {
    let (rest, parsed) = X509CertificationRequest::from_der(csr).map_err(|_| refused("the CSR is not PKCS#10"))?;
    if !rest.is_empty() {
        return Err(refused("there are bytes after the CSR"));
    }
    parsed.verify_signature().map_err(|_| refused("the CSR is not signed by the key that it names"))?;
    SubjectPublicKeyInfo::from_der(parsed.certification_request_info.subject_pki.raw)
        .map_err(|_| refused("the CSR's kind of key is not known here"))
}

/// Empty unless the order says a name, which must be one of those that are judged.
fn subject(order: &Order) -> Result<DistinguishedName, IssuerError> {
    let Some(name) = &order.common_name else { return Ok(DistinguishedName::new()) };
    if name.chars().count() > LONGEST_COMMON_NAME || !order.names.contains(&San::from_text(name)) {
        return Err(refused(format!(
            "the common name must be one of the names and at most {LONGEST_COMMON_NAME} characters: {}",
            printable(name)
        )));
    }
    Ok(common_name(name))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn san(name: &San) -> Result<SanType, IssuerError> {
    let unfit = || refused(format!("not a name for a certificate: {}", printable(&name.to_string())));
    match name.is_well_formed() {
        true => csr::subject_alt_name(name).map_err(|_| unfit()),
        false => Err(unfit()),
    }
}

fn random_serial() -> Result<SerialNumber, IssuerError> {
    let mut serial = [0; SERIAL_BYTES];
    while serial == [0; SERIAL_BYTES] {
        aws_lc_rs::rand::fill(&mut serial).map_err(|e| unmade("draw a serial number", e))?;
    }
    Ok(SerialNumber::from_slice(&serial))
}

fn instant(at: Timestamp) -> Result<OffsetDateTime, IssuerError> {
    OffsetDateTime::from_unix_timestamp(at.0).map_err(|_| refused("the lifetime reaches beyond the year 9999"))
}

fn refused(message: impl Into<String>) -> IssuerError {
    IssuerError::Refused { message: message.into(), retry_after: None }
}

/// A disk that fails after the last step keeps it all the same.
fn may_be_noted(error: IssuerError) -> IssuerError {
    match error {
        IssuerError::Unanswered { doing, retry_after, source, .. } => {
            IssuerError::Unanswered { doing, may_be_done: true, retry_after, source }
        }
        other @ (IssuerError::Refused { .. } | IssuerError::Limited { .. }) => other,
        other @ (IssuerError::Pending { .. } | IssuerError::Unprepared(_)) => other,
        other @ (IssuerError::Stopped(_) | IssuerError::SignedInVain(_)) => other,
    }
}

fn unmade(doing: &str, source: impl std::error::Error + Send + Sync + 'static) -> IssuerError {
    IssuerError::Unanswered { doing: doing.into(), may_be_done: false, retry_after: None, source: Box::new(source) }
}
