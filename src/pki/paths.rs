//! The search for a path from a leaf to a root at one instant, by rustls-webpki, and the words for its failures.

use std::cell::Cell;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeIdIter, VerifiedPath};

use super::interned;
use crate::domain::cert::{CaPath, Certificate, KeyUsage};
use crate::domain::text::printable;

/// A trusted root. One that webpki can use and x509-parser cannot read has no time of its own.
#[derive(Clone, Debug)]
pub(super) struct Root {
    pub anchor: TrustAnchor<'static>,
    pub certificate: Option<Arc<Certificate>>,
}

/// What the CAs of a path must be allowed to sign (RFC 5280, section 4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    Server,
    Client,
    /// The leaf itself is for neither.
    Any,
}

impl Usage {
    /// Returns the usage that the leaf is for. What a client makes of the leaf's own usage is a check of its own.
    pub fn of(leaf: &Certificate) -> Self {
        let is_for = |usage: &str| leaf.extended_key_usage.iter().flatten().any(|has| has == usage);
        match () {
            () if leaf.serves_tls() => Self::Server,
            () if is_for("clientAuth") => Self::Client,
            () => Self::Any,
        }
    }
}

/// id-kp-serverAuth, id-kp-clientAuth and anyExtendedKeyUsage (RFC 5280, section 4.2.1.12).
const SERVER: [usize; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 1];
const CLIENT: [usize; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 2];
const ANY: [usize; 5] = [2, 5, 29, 37, 0];

impl ExtendedKeyUsageValidator for Usage {
    /// A CA without the extension may sign for every usage.
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        let wanted: &[usize] = match self {
            Self::Server => &SERVER,
            Self::Client => &CLIENT,
            Self::Any => return Ok(()),
        };
        let mut is_there = false;
        let mut has_any = false;
        for purpose in purposes {
            let oid = purpose?.to_decoded_oid();
            has_any = true;
            is_there |= oid == wanted || oid == ANY;
        }
        if is_there || !has_any { Ok(()) } else { Err(Error::UnsupportedCriticalExtension) }
    }
}

/// The certificates among which a path is looked for.
pub(super) struct Search<'a> {
    pub anchors: &'a [TrustAnchor<'static>],
    pub roots: &'a [Root],
    pub others: &'a [CertificateDer<'a>],
    pub usage: Usage,
}

/// Why there is no path at an instant.
pub(super) enum NoPath {
    /// A CA on the only path may not sign certificates (RFC 5280, section 4.2.1.3).
    NoCertSign(String),
    Because(Error),
}

impl Search<'_> {
    /// Returns the CAs of a path that is valid at this instant, as far as webpki looks: roots have no time there.
    pub fn at(&self, leaf: &EndEntityCert<'_>, instant: UnixTime) -> Result<Option<CaPath>, NoPath> {
        let no_cert_sign = Cell::new(None);
        let may_sign = |path: &VerifiedPath<'_>| match cas(path).into_iter().find(|ca| !signs(ca)) {
            Some(ca) => {
                no_cert_sign.set(Some(printable(&ca.subject)));
                Err(Error::EndEntityUsedAsCa)
            }
            None => Ok(()),
        };
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let verified =
            leaf.verify_for_usage(algorithms, self.anchors, self.others, instant, self.usage, None, Some(&may_sign));
        match (verified, no_cert_sign.into_inner()) {
            (Ok(path), _) => Ok(self.of(&path)),
            (Err(_), Some(ca)) => Err(NoPath::NoCertSign(ca)),
            (Err(error), None) => Err(NoPath::Because(error)),
        }
    }

    fn of(&self, path: &VerifiedPath<'_>) -> Option<CaPath> {
        let anchor = path.anchor();
        let is_it = |root: &&Root| {
            root.anchor.subject == anchor.subject
                && root.anchor.subject_public_key_info == anchor.subject_public_key_info
        };
        // A root may be there in several issues of one key.
        let roots = self.roots.iter().filter(is_it).filter_map(|root| root.certificate.clone());
        let root = roots.max_by_key(|root| root.not_after);
        let all: Vec<_> = cas(path).into_iter().chain(root).collect();
        let youngest = all.iter().max_by_key(|ca| ca.not_before)?.clone();
        let first_to_end = all.iter().min_by_key(|ca| ca.not_after)?.clone();
        Some(CaPath { youngest, first_to_end })
    }
}

fn cas(path: &VerifiedPath<'_>) -> Vec<Arc<Certificate>> {
    path.intermediate_certificates().filter_map(|ca| interned::certificate(&ca.der()).ok()).collect()
}

fn signs(ca: &Certificate) -> bool {
    ca.key_usage.is_none_or(|usage| usage.allows(KeyUsage::KEY_CERT_SIGN))
}

impl NoPath {
    /// Whether another instant could change it.
    pub fn is_of_time(&self) -> bool {
        matches!(self, Self::Because(Error::CertExpired { .. } | Error::CertNotValidYet { .. }))
    }

    pub fn is_of_cost(&self) -> bool {
        matches!(
            self,
            Self::Because(
                Error::MaximumSignatureChecksExceeded
                    | Error::MaximumPathBuildCallsExceeded
                    | Error::MaximumNameConstraintComparisonsExceeded
            )
        )
    }

    /// Says what is wrong and what to do. `others` are the certificates beside the leaf, nearest first.
    pub fn in_words(&self, leaf: &Certificate, others: &[Arc<Certificate>]) -> String {
        let error = match self {
            Self::NoCertSign(ca) => {
                return format!("a CA of its chain may not sign certificates (no keyCertSign): {ca}");
            }
            Self::Because(error) => error,
        };
        match error {
            Error::UnknownIssuer => unknown_issuer(leaf, others),
            // As openssl makes them by default: with CA:TRUE.
            Error::CaUsedAsEndEntity if leaf.is_self_issued() => unknown_issuer(leaf, others),
            Error::InvalidSignatureForPublicKey => {
                "a signature in the chain is wrong, or made by another CA of the same name".to_string()
            }
            Error::CaUsedAsEndEntity => "a CA certificate stands where a leaf should".to_string(),
            Error::EndEntityUsedAsCa => "a certificate that is no CA signed it".to_string(),
            Error::NameConstraintViolation => "a CA in the chain may not sign these names".to_string(),
            Error::UnsupportedCriticalExtension => {
                "a CA of its chain may not sign for this usage, or has a critical extension that nobody knows"
                    .to_string()
            }
            Error::PathLenConstraintViolated => "a CA of its chain may not stand so far above the leaf".to_string(),
            Error::CertExpired { .. } | Error::CertNotValidYet { .. } => {
                "the certificates of the chain are never valid at one time".to_string()
            }
            Error::UnsupportedSignatureAlgorithmContext(_)
            | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
                "a signature in the chain is of a kind that certd does not verify".to_string()
            }
            Error::BadDer | Error::BadDerTime => "a certificate of the chain is damaged".to_string(),
            Error::UnsupportedCertVersion => "a certificate of the chain is not of version 3 (RFC 5280)".to_string(),
            other => format!("the chain does not verify: {other:?}"),
        }
    }
}

/// Names the CA whose certificate is wanted.
fn unknown_issuer(leaf: &Certificate, others: &[Arc<Certificate>]) -> String {
    if leaf.is_self_issued() {
        return "self-signed, and not among the trusted roots: name it by --roots if it is to be trusted".to_string();
    }
    let mut top = leaf;
    // Each step goes to another certificate, or ends.
    for _ in 0..=others.len() {
        match others.iter().find(|other| top.names_as_issuer(other)) {
            Some(above) if above.is_self_issued() => {
                let subject = printable(&above.subject);
                return format!("signed by {subject}, which is not among the trusted roots: name it by --roots");
            }
            Some(above) => top = above,
            None => break,
        }
    }
    let issuer = printable(&top.issuer);
    format!(
        "signed by {issuer}, which is neither in the chain nor among the trusted roots: add the intermediate that is \
         missing, or name the root by --roots"
    )
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
        date_time_ymd,
    };

    use crate::domain::cert::{Judged, Trust};
    use crate::domain::time::Timestamp;
    use crate::pki::roots::Roots;

    /// 2026-02-01T00:00:00Z.
    const NOW: Timestamp = Timestamp(1_769_904_000);

    fn named(name: &str, years: (i32, i32)) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        params
    }

    fn ca(name: &str, years: (i32, i32)) -> CertificateParams {
        let mut params = named(name, years);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    /// A root, an intermediate that it signed, and a leaf of 2026 for servers below that.
    struct Chain {
        root: Vec<u8>,
        intermediate: Vec<u8>,
        leaf: Vec<u8>,
    }

    fn chain(root: CertificateParams, intermediate: CertificateParams) -> Chain {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let signed_root = root.self_signed(&root_key).unwrap().der().to_vec();
        let signed = intermediate.signed_by(&key, &Issuer::new(root, root_key)).unwrap().der().to_vec();
        let mut leaf = named("leaf", (2026, 2027));
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf =
            leaf.signed_by(&KeyPair::generate().unwrap(), &Issuer::new(intermediate, key)).unwrap().der().to_vec();
        Chain { root: signed_root, intermediate: signed, leaf }
    }

    impl Chain {
        fn judged(&self) -> Judged {
            let roots = Roots::from_ders(vec![self.root.clone()]);
            roots.judge(&[self.leaf.clone(), self.intermediate.clone()]).unwrap()
        }
    }

    fn why(trust: &Trust) -> &str {
        match trust {
            Trust::Unverified(why) => why,
            Trust::Verified => "verified",
            Trust::NotJudged => "not judged",
        }
    }

    const LONG: (i32, i32) = (2020, 2040);

    #[test]
    fn a_chain_is_good_only_while_each_ca_of_a_path_is_valid() {
        for (root, intermediate, said) in [
            (LONG, LONG, "verified"),
            (LONG, (2020, 2026), "a CA of its chain expired on 2026-01-01T00:00:00Z: CN=intermediate"),
            (LONG, (2026, 2040), "verified"),
            ((2020, 2026), LONG, "a CA of its chain expired on 2026-01-01T00:00:00Z: CN=root"),
            ((2027, 2040), (2020, 2040), "a CA of its chain is not valid before 2027-01-01T00:00:00Z: CN=root"),
        ] {
            let judged = chain(ca("root", root), ca("intermediate", intermediate)).judged();
            assert_eq!(judged.trust, Trust::Verified, "time aside");
            assert_eq!(why(&judged.at(NOW)), said, "{root:?} {intermediate:?}");
        }
    }

    #[test]
    fn of_two_issues_of_one_ca_the_one_that_is_valid_counts() {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = ca("root", LONG).self_signed(&root_key).unwrap().der().to_vec();
        let root_issuer = Issuer::new(ca("root", LONG), root_key);
        let of = |years| ca("intermediate", years).signed_by(&key, &root_issuer).unwrap().der().to_vec();
        let (old, new) = (of((2020, 2026)), of((2025, 2040)));
        let leaf = named("leaf", (2026, 2027));
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &Issuer::new(ca("intermediate", LONG), &key)).unwrap();
        let judged = |others: &[&Vec<u8>]| {
            let ders: Vec<_> =
                std::iter::once(leaf.der().to_vec()).chain(others.iter().map(|der| der.to_vec())).collect();
            Roots::from_ders(vec![root.clone()]).judge(&ders).unwrap().at(NOW)
        };
        assert_eq!(judged(&[&old, &new]), Trust::Verified);
        assert_eq!(judged(&[&new, &old]), Trust::Verified);
        assert!(why(&judged(&[&old])).starts_with("a CA of its chain expired on 2026-01-01"));
    }

    #[test]
    fn a_ca_that_may_not_sign_it_is_told() {
        let with = |change: fn(&mut CertificateParams)| {
            let mut intermediate = ca("intermediate", LONG);
            change(&mut intermediate);
            why(&chain(ca("root", LONG), intermediate).judged().trust).to_string()
        };
        let no_cert_sign = "a CA of its chain may not sign certificates (no keyCertSign): CN=intermediate";
        assert_eq!(with(|ca| ca.key_usages = vec![KeyUsagePurpose::CrlSign]), no_cert_sign);
        assert_eq!(with(|ca| ca.key_usages = vec![KeyUsagePurpose::KeyCertSign]), "verified");
        let usage = "a CA of its chain may not sign for this usage, or has a critical extension that nobody knows";
        assert_eq!(with(|ca| ca.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]), usage);
        for good in [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::Any] {
            let mut intermediate = ca("intermediate", LONG);
            intermediate.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, good];
            assert_eq!(why(&chain(ca("root", LONG), intermediate).judged().trust), "verified");
        }
        assert_eq!(with(|ca| ca.is_ca = IsCa::ExplicitNoCa), "a certificate that is no CA signed it");
    }

    #[test]
    fn a_root_that_is_no_ca_is_trusted_as_itself_alone() {
        let key = KeyPair::generate().unwrap();
        let mut params = named("plain", LONG);
        params.is_ca = IsCa::ExplicitNoCa;
        let plain = params.self_signed(&key).unwrap().der().to_vec();
        let below =
            named("leaf", (2026, 2027)).signed_by(&KeyPair::generate().unwrap(), &Issuer::new(params, key)).unwrap();
        let roots = Roots::from_ders(vec![plain.clone()]);
        assert_eq!(roots.judge(&[plain]).unwrap().trust, Trust::Verified);
        let said = "signed by CN=plain, which is neither in the chain nor among the trusted roots: add the intermediate \
                    that is missing, or name the root by --roots";
        assert_eq!(why(&roots.judge(&[below.der().to_vec()]).unwrap().trust), said);
    }

    #[test]
    fn the_ca_that_nobody_trusts_is_named() {
        let ours = chain(ca("root", LONG), ca("intermediate", LONG));
        let others = Roots::from_ders(vec![chain(ca("another", LONG), ca("b", LONG)).root]);
        let said = |ders: &[&Vec<u8>]| {
            let ders: Vec<_> = ders.iter().map(|der| der.to_vec()).collect();
            why(&others.judge(&ders).unwrap().trust).to_string()
        };
        let whole = "signed by CN=root, which is not among the trusted roots: name it by --roots";
        assert_eq!(said(&[&ours.leaf, &ours.intermediate, &ours.root]), whole);
        let missing = |ca: &str| {
            format!(
                "signed by CN={ca}, which is neither in the chain nor among the trusted roots: add the intermediate that is \
                 missing, or name the root by --roots"
            )
        };
        assert_eq!(said(&[&ours.leaf, &ours.intermediate]), missing("root"));
        assert_eq!(said(&[&ours.leaf]), missing("intermediate"));
        let key = KeyPair::generate().unwrap();
        let alone = named("alone", (2026, 2027)).self_signed(&key).unwrap().der().to_vec();
        let of_itself = "self-signed, and not among the trusted roots: name it by --roots if it is to be trusted";
        assert_eq!(said(&[&alone]), of_itself);
        let old = chain(ca("root", (2020, 2026)), ca("intermediate", (2020, 2026)));
        assert_eq!(said(&[&old.leaf, &old.intermediate]), missing("root"), "the reason that no instant changes");
    }
}
