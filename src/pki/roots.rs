//! Whether a chain leads to a root that the operator trusts, by rustls-webpki.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, Error, anchor_from_trusted_cert};

use crate::domain::cert::{Certificate, Judged, Trust};
use crate::domain::inventory::{Location, Obstacle, ObstacleKind, Sighting};
use crate::domain::time::Timestamp;
use crate::files::regular;

use super::paths::{NoPath, Root, Search, Usage};
use super::pool::Pool;
use super::{bundle::Bundle, interned, read, verdicts};

/// In bytes. The bundle of an operating system has a tenth of it.
const LARGEST_BUNDLE: u64 = 2 * 1024 * 1024;

/// The roots for one place.
#[derive(Debug)]
pub struct Roots {
    anchors: Vec<TrustAnchor<'static>>,
    /// The same, with their times.
    roots: Vec<Root>,
    /// A root is trusted as it is, even when it is kept as a leaf.
    as_they_are: HashSet<[u8; 32]>,
    judges: bool,
    /// Of all roots together.
    digest: [u8; 32],
}

#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    #[error("could not read the roots: {}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("no usable root certificate in {}", path.display())]
    Empty { path: PathBuf },
    #[error("could not understand the roots in {}", path.display())]
    NotUnderstood { path: PathBuf, source: super::NotUnderstood },
    #[error("this host has no root certificates: install the package ca-certificates, or name a file of roots")]
    NoSystemRoots,
}

impl Roots {
    /// Judges nothing.
    pub fn none() -> Self {
        Self::of(Vec::new(), HashSet::new(), false)
    }

    /// Those that the operating system keeps.
    pub fn system() -> Result<Self, RootsError> {
        let found = rustls_native_certs::load_native_certs().certs;
        let roots = Self::from_ders(found.iter().map(|der| der.to_vec()).collect());
        if roots.roots.is_empty() { Err(RootsError::NoSystemRoots) } else { Ok(roots) }
    }

    pub fn from_files(paths: &[PathBuf]) -> Result<Self, RootsError> {
        let mut ders = Vec::new();
        for path in paths {
            ders.extend(read_roots(path)?);
        }
        Ok(Self::from_ders(ders))
    }

    /// What verifies to one of them verifies to all together; they judge only if each of them does.
    pub fn together(all: &[Arc<Self>]) -> Self {
        let as_they_are = all.iter().flat_map(|one| one.as_they_are.iter().copied()).collect();
        let roots = all.iter().flat_map(|one| one.roots.iter().cloned()).collect();
        Self::of(roots, as_they_are, !all.is_empty() && all.iter().all(|one| one.judges))
    }

    /// A certificate that may not sign others is trusted as it is, and as nothing above another one (RFC 5280, section
    /// 6.1.4).
    pub fn from_ders(ders: Vec<Vec<u8>>) -> Self {
        let as_they_are = ders.iter().map(|der| super::sha256(der)).collect();
        Self::of(ders.iter().filter_map(|der| root(der)).collect(), as_they_are, true)
    }

    fn of(roots: Vec<Root>, as_they_are: HashSet<[u8; 32]>, judges: bool) -> Self {
        let anchors = roots.iter().map(|root| root.anchor.clone()).collect();
        Self { anchors, roots, digest: digest(&as_they_are), as_they_are, judges }
    }

    /// Another for other roots.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Judges whether some path leads from the leaf, which comes first, to a root at some instant of the leaf's life, and
    /// returns the times of such paths: whether one is valid now is for the rules to say. Verdicts are remembered.
    ///
    /// # Errors
    /// If the certificates beside the leaf are made so that this takes more work than one chain may cost.
    pub fn judge<D: AsRef<[u8]>>(&self, ders: &[D]) -> Result<Judged, TooCostly> {
        let Some((leaf, others)) = ders.split_first().filter(|_| self.judges) else {
            return Ok(Trust::NotJudged.into());
        };
        let leaf = leaf.as_ref();
        if self.as_they_are.contains(&super::sha256(leaf)) {
            return Ok(Trust::Verified.into());
        }
        let intermediates = reachable(leaf, others);
        let asked = verdicts::Asked::of(&self.digest, leaf, &intermediates);
        verdicts::remembered(asked, || self.verify_within(leaf, &intermediates))
    }

    /// What has few CAs costs nobody else anything.
    fn verify_within(&self, leaf: &[u8], intermediates: &[Reachable]) -> Result<Judged, TooCostly> {
        if intermediates.len() <= FEW_INTERMEDIATES {
            return self.verify(leaf, intermediates);
        }
        let begun = Instant::now();
        if !JUDGING.take(1, begun) {
            return Err(TooCostly::Now);
        }
        let verdict = self.verify(leaf, intermediates);
        JUDGING.spend(u32::try_from(begun.elapsed().as_millis()).unwrap_or(u32::MAX), begun);
        verdict
    }

    fn verify(&self, leaf: &[u8], intermediates: &[Reachable]) -> Result<Judged, TooCostly> {
        let der = CertificateDer::from(leaf);
        let (end_entity, certificate) = match (EndEntityCert::try_from(&der), interned::certificate(leaf)) {
            (Ok(end_entity), Ok(certificate)) => (end_entity, certificate),
            (Err(error), Ok(certificate)) => {
                return Ok(Trust::Unverified(NoPath::Because(error).in_words(&certificate, &[])).into());
            }
            (_, Err(why)) => return Ok(Trust::Unverified(why.to_string()).into()),
        };
        let others: Vec<CertificateDer> = intermediates.iter().map(|it| CertificateDer::from(it.der)).collect();
        let usage = Usage::of(&certificate);
        let search = Search { anchors: &self.anchors, roots: &self.roots, others: &others, usage };
        let (mut paths, mut is_verified, mut failed) = (Vec::new(), false, None::<NoPath>);
        for instant in instants(&certificate, intermediates) {
            match search.at(&end_entity, instant) {
                Ok(path) => {
                    is_verified = true;
                    paths.extend(path.filter(|path| !paths.contains(path)));
                }
                Err(none) if none.is_of_cost() => return Err(TooCostly::Ever),
                // What no instant changes is the better reason.
                Err(none) if failed.as_ref().is_none_or(NoPath::is_of_time) => failed = Some(none),
                Err(_) => {}
            }
        }
        if is_verified {
            return Ok(Judged { trust: Trust::Verified, paths: paths.into() });
        }
        let above: Vec<_> = intermediates.iter().map(|it| it.certificate.clone()).collect();
        let why = failed.unwrap_or(NoPath::Because(Error::UnknownIssuer)).in_words(&certificate, &above);
        Ok(Trust::Unverified(why).into())
    }
}

/// A chain that would cost more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooCostly {
    #[error(
        "to verify its chain is too costly: too many of the certificates beside it have one name; remove those that it \
         does not need"
    )]
    Ever,
    #[error(
        "its chain, which is long, was not verified: others have used up what certd spends on such chains in a minute, and \
         it is tried again"
    )]
    Now,
}

impl TooCostly {
    pub fn sighting(self, location: &Location) -> Sighting {
        Sighting::Unknown(Obstacle::new(ObstacleKind::TooCostly, format!("could not judge {location}: {self}")))
    }
}

/// So many certificates of CAs are looked at beside a leaf, nearest first. Public chains have one to four.
const MOST_INTERMEDIATES: usize = 16;

/// Chains of so many are always judged. Those of more cost, all together, so many milliseconds in a minute: a third of one
/// core.
const FEW_INTERMEDIATES: usize = 4;
static JUDGING: Pool = Pool::of(20_000);

/// A certificate that names lead to from the leaf.
pub(super) struct Reachable<'a> {
    pub(super) certificate: Arc<Certificate>,
    der: &'a [u8],
}

/// The certificates that may be on a path from the leaf, each once, those nearest to the leaf first.
fn reachable<'a, D: AsRef<[u8]>>(leaf: &[u8], others: &'a [D]) -> Vec<Reachable<'a>> {
    let Ok(leaf) = interned::certificate(leaf) else { return Vec::new() };
    let mut by_subject: HashMap<String, Vec<Reachable>> = HashMap::new();
    let mut known = HashSet::from([leaf.fingerprint]);
    for der in others.iter().map(AsRef::as_ref) {
        let Ok(certificate) = interned::certificate(der) else { continue };
        if known.insert(certificate.fingerprint) {
            by_subject.entry(certificate.subject.clone()).or_default().push(Reachable { certificate, der });
        }
    }
    let mut found: Vec<Reachable> = Vec::new();
    let mut child = leaf;
    for next in 0.. {
        // All that have the name: key identifiers are hints (RFC 5280, section 4.2.1.1), so they only come first.
        let mut parents = by_subject.remove(&child.issuer).unwrap_or_default();
        parents.sort_by_key(|parent| !child.names_as_issuer(&parent.certificate));
        found.extend(parents);
        if found.len() >= MOST_INTERMEDIATES {
            break;
        }
        match found.get(next) {
            Some(above) => child = above.certificate.clone(),
            None => break,
        }
    }
    found.truncate(MOST_INTERMEDIATES);
    found
}

/// The same for the same roots in any order.
fn digest(roots: &HashSet<[u8; 32]>) -> [u8; 32] {
    let mut all: Vec<_> = roots.iter().collect();
    all.sort();
    super::sha256(&all.into_iter().flatten().copied().collect::<Vec<u8>>())
}

fn root(der: &[u8]) -> Option<Root> {
    let anchor = anchor_from_trusted_cert(&CertificateDer::from(der)).ok()?.to_owned();
    let root = Root { anchor, certificate: interned::certificate(der).ok() };
    read::may_sign(der).then_some(root)
}

fn read_roots(path: &Path) -> Result<Vec<Vec<u8>>, RootsError> {
    let bytes = regular::read(path, LARGEST_BUNDLE).map_err(|source| RootsError::Io { path: path.into(), source })?;
    let bundle = Bundle::parse(&bytes).map_err(|source| RootsError::NotUnderstood { path: path.into(), source })?;
    let usable = |der: &Vec<u8>| anchor_from_trusted_cert(&CertificateDer::from(der.as_slice())).is_ok();
    let ders: Vec<_> = bundle.certificates.into_iter().filter(usable).collect();
    if ders.is_empty() { Err(RootsError::Empty { path: path.into() }) } else { Ok(ders) }
}

/// At most four instants of the leaf's own validity: its begin, when the youngest CA begins, when the first CA ends, and
/// its end. A CA is older than what it signs, or began again since, so that a path which is valid at any instant is valid
/// at one of these unless its CAs were exchanged several times within the life of the leaf.
fn instants(leaf: &Certificate, intermediates: &[Reachable]) -> Vec<UnixTime> {
    let within = |at: Timestamp| at.max(leaf.not_before).min(leaf.not_after);
    let youngest = intermediates.iter().map(|it| it.certificate.not_before).max();
    let first_to_end = intermediates.iter().map(|it| it.certificate.not_after).min();
    let wanted = [Some(leaf.not_before), youngest.map(within), first_to_end.map(within), Some(leaf.not_after)];
    let mut seconds: Vec<u64> = Vec::with_capacity(wanted.len());
    for second in wanted.into_iter().flatten().map(|at| u64::try_from(at.0).unwrap_or(0)) {
        if !seconds.contains(&second) {
            seconds.push(second);
        }
    }
    seconds.into_iter().map(|second| UnixTime::since_unix_epoch(Duration::from_secs(second))).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

    use super::*;

    fn ca() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "a root");
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn leaf(ca: &CertifiedIssuer<'static, KeyPair>, from: i32, to: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["www.example.org".to_string()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        params.signed_by(&KeyPair::generate().unwrap(), ca).unwrap().der().to_vec()
    }

    fn trust(roots: &Roots, ders: &[Vec<u8>]) -> Trust {
        roots.judge(ders).unwrap().trust
    }

    #[test]
    fn an_expired_chain_still_verifies_to_its_root_and_to_no_other() {
        let (ca, other) = (ca(), ca());
        let roots = Roots::from_ders(vec![ca.der().to_vec()]);
        assert_eq!(trust(&roots, &[leaf(&ca, 2001, 2002)]), Trust::Verified);
        assert_eq!(trust(&roots, &[leaf(&ca, 2024, 2050)]), Trust::Verified);
        let stranger =
            Trust::Unverified("a signature in the chain is wrong, or made by another CA of the same name".into());
        assert_eq!(trust(&roots, &[leaf(&other, 2024, 2050)]), stranger);
    }

    /// CAs of one name that have all signed each other's keys, and no root among them.
    fn crossed(number: usize, wrong: bool) -> Vec<Vec<u8>> {
        let named = |serial: usize| {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, "a root");
            params.serial_number = Some(u64::try_from(serial).unwrap().into());
            params
        };
        let signer = CertifiedIssuer::self_signed(named(0), KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let subject = if wrong { KeyPair::generate().unwrap() } else { key };
        (1..=number).map(|serial| named(serial).signed_by(&subject, &signer).unwrap().der().to_vec()).collect()
    }

    #[test]
    fn hundreds_of_cas_of_one_name_cost_no_more_than_a_few_and_hide_no_path_that_is_near() {
        let (ca, crowd) = (ca(), crossed(300, true));
        let roots = Roots::from_ders(vec![ca.der().to_vec()]);
        let own = leaf(&ca, 2024, 2050);
        let ders: Vec<_> = std::iter::once(own.clone()).chain(crowd.clone()).collect();
        assert_eq!(trust(&roots, &ders), Trust::Verified, "the root signed it");
        let stranger: Vec<_> = std::iter::once(leaf(&super::tests::ca(), 2024, 2050)).chain(crowd).collect();
        assert!(matches!(
            roots.judge(&stranger),
            Err(TooCostly::Ever) | Ok(Judged { trust: Trust::Unverified(_), .. })
        ));
    }

    #[test]
    fn what_names_do_not_lead_to_is_left_out_and_each_certificate_counts_once() {
        let (ca, other) = (ca(), crossed(1, false));
        let own = leaf(&ca, 2024, 2050);
        let count = |others: &[Vec<u8>]| reachable(&own, others).len();
        assert_eq!(count(&[leaf(&ca, 2024, 2030)]), 0, "a leaf");
        assert_eq!(count(&[ca.der().to_vec(), ca.der().to_vec()]), 1);
        assert_eq!(count(&[ca.der().to_vec(), other[0].clone()]), 2);
        assert_eq!(count(&crossed(40, true)), MOST_INTERMEDIATES);
    }

    #[test]
    fn judges_nothing_without_roots_and_trusts_a_root_as_it_is() {
        let ca = ca();
        assert_eq!(trust(&Roots::none(), &[ca.der().to_vec()]), Trust::NotJudged);
        assert_eq!(trust(&Roots::from_ders(vec![ca.der().to_vec()]), &[ca.der().to_vec()]), Trust::Verified);
    }
}
