//! What is wrong with what was seen: a readable list of checks.

use std::sync::Arc;

use serde::Serialize;

use super::cert::{Certificate, KeyType, KeyUsage, Trust, out_of_time};
use super::crl;
use super::inventory::{Deletion, Found, Location, OWN, Observation, PkiObject, Sighting};
use super::plan::{Action, Deferral, Record};
use super::policy::{Threshold, Thresholds};
use super::text::{self, printable};
use super::time::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Warning,
    Critical,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    Missing,
    Expired,
    NotYetValid,
    Expiring,
    KeyMismatch,
    /// The server did not prove that it holds the certificate's key.
    KeyNotProven,
    /// The server ended the handshake before its time.
    Handshake,
    Chain,
    Hostname,
    WeakKey,
    WeakSignature,
    Usage,
    IntermediateExpiresFirst,
    /// Its issuer says so.
    Revoked,
    /// Vault itself deletes it before it ends.
    DeletionAhead,
    /// Found where a rule adopts, but not the rule's to renew; or served, but unknown to Vault.
    Foreign,
    /// Expired, revoked or not valid yet, and not stored there by certd: no claim to a new one.
    Abandoned,
    /// The key of an ended renewal could not be destroyed.
    PendingKeyLeft,
    /// Nobody can say whether its issuer revoked it, and certd did not store it there.
    RevocationUnknown,
    /// A name of it belongs to another place.
    ContestedName,
    /// Its place was adopted for other names.
    OtherNames,
    /// It waits for `certd adopt`.
    NotAgreed,
    /// What serves it presents something else than the store holds.
    NotDeployed,
    /// Some of what serves it presents it, and some does not.
    PartlyDeployed,
    /// What is served is an older version of the secret.
    OlderVersion,
    /// What is served is this certificate, with other intermediates.
    ChainDiffers,
    /// One key pair in two environments or of two owners.
    SharedKey,
    /// One key pair through too many renewals.
    KeyUnchanged,
    /// Others keep replacing what certd stores.
    Contested,
    /// As many certificates of its names were issued within a week as may be.
    Capped,
    /// What was issued for it last could not be used.
    Rejected,
    /// A record in the DNS that proves its names does not stand, or ends soon.
    PersistRecord,
    /// Others than its owner and group may read or write the file of the private key.
    KeyExposed,
    /// Others may change the directory of the store, or the way to it.
    PlaceExposed,
    /// certd would not write there, since it would lose what others keep there.
    Unwritable,
}

impl ProblemKind {
    pub const ALL: [Self; 35] = [
        Self::Missing,
        Self::Expired,
        Self::NotYetValid,
        Self::Expiring,
        Self::KeyMismatch,
        Self::KeyNotProven,
        Self::Handshake,
        Self::Chain,
        Self::Hostname,
        Self::WeakKey,
        Self::WeakSignature,
        Self::Usage,
        Self::IntermediateExpiresFirst,
        Self::Revoked,
        Self::DeletionAhead,
        Self::Foreign,
        Self::Abandoned,
        Self::PendingKeyLeft,
        Self::RevocationUnknown,
        Self::ContestedName,
        Self::OtherNames,
        Self::NotAgreed,
        Self::NotDeployed,
        Self::PartlyDeployed,
        Self::OlderVersion,
        Self::ChainDiffers,
        Self::SharedKey,
        Self::KeyUnchanged,
        Self::Contested,
        Self::Capped,
        Self::Rejected,
        Self::PersistRecord,
        Self::KeyExposed,
        Self::PlaceExposed,
        Self::Unwritable,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Expiring => "expiring",
            Self::KeyMismatch => "key_mismatch",
            Self::KeyNotProven => "key_not_proven",
            Self::Handshake => "handshake",
            Self::Chain => "chain",
            Self::Hostname => "hostname",
            Self::WeakKey => "weak_key",
            Self::WeakSignature => "weak_signature",
            Self::Usage => "usage",
            Self::IntermediateExpiresFirst => "intermediate_expires_first",
            Self::Revoked => "revoked",
            Self::DeletionAhead => "deletion_ahead",
            Self::Foreign => "foreign",
            Self::Abandoned => "abandoned",
            Self::PendingKeyLeft => "pending_key_left",
            Self::RevocationUnknown => "revocation_unknown",
            Self::ContestedName => "contested_name",
            Self::OtherNames => "other_names",
            Self::NotAgreed => "not_agreed",
            Self::NotDeployed => "not_deployed",
            Self::PartlyDeployed => "partly_deployed",
            Self::OlderVersion => "older_version",
            Self::ChainDiffers => "chain_differs",
            Self::SharedKey => "shared_key",
            Self::KeyUnchanged => "key_unchanged",
            Self::Contested => "contested",
            Self::Capped => "capped",
            Self::Rejected => "rejected",
            Self::PersistRecord => "persist_record",
            Self::KeyExposed => "key_exposed",
            Self::PlaceExposed => "place_exposed",
            Self::Unwritable => "unwritable",
        }
    }
}

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub problem: ProblemKind,
    pub severity: Severity,
    pub message: String,
}

impl Problem {
    pub fn warning(problem: ProblemKind, message: impl Into<String>) -> Self {
        Self { problem, severity: Severity::Warning, message: text::message(&message.into()) }
    }

    pub fn critical(problem: ProblemKind, message: impl Into<String>) -> Self {
        Self { problem, severity: Severity::Critical, message: text::message(&message.into()) }
    }
}

/// Everything wrong at one location, in a fixed order. Empty for `Unknown`: what could not be seen
/// has an obstacle and no problem.
pub fn check(now: Timestamp, thresholds: &Thresholds, observation: &Observation) -> Vec<Problem> {
    let found = match &observation.sighting {
        Sighting::Unknown(_) => return Vec::new(),
        Sighting::Absent => return vec![missing(absent(&observation.location))],
        Sighting::Deleted(deletion) => return vec![missing(deleted(&observation.location, *deletion))],
        Sighting::Crl(list) => return crl::check(now, list),
        Sighting::Found(found) => found,
    };
    let host = observation.location.expected_host();
    // Without it certd does nothing at all.
    let (sooner, is_own) = (Thresholds { critical: thresholds.warning, ..*thresholds }, observation.source.0 == OWN);
    [
        validity(now, if is_own { &sooner } else { thresholds }, found),
        revoked(&observation.location, found),
        key_mismatch(found),
        handshake(found),
        chain(now, found),
        host.and_then(|host| hostname(host, found.leaf())),
        weak_key(found),
        weak_signature(found),
        host.and_then(|_| usage(found.leaf())),
        intermediate_expires_first(found),
        deletion_ahead(found),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn missing(message: String) -> Problem {
    Problem::critical(ProblemKind::Missing, message)
}

fn absent(location: &Location) -> String {
    match location {
        Location::Pki { object: PkiObject::Mount, .. } => "this PKI mount has no CA".to_string(),
        Location::Pki { .. } | Location::Endpoint { .. } | Location::Secret { .. } => NO_CERTIFICATE.to_string(),
        Location::File { .. } | Location::Listing { .. } => NO_CERTIFICATE.to_string(),
    }
}

const NO_CERTIFICATE: &str = "there is no certificate here";

fn deleted(location: &Location, deletion: Deletion) -> String {
    let path = match location {
        Location::Secret { path, .. } => format!(" {}", printable(path)),
        Location::Pki { .. } | Location::Endpoint { .. } | Location::File { .. } | Location::Listing { .. } => {
            String::new()
        }
    };
    match deletion {
        Deletion::Deleted { version, at } => {
            format!("version {version} was deleted on {at}: `kv undelete -versions={version}{path}` brings it back")
        }
        Deletion::Destroyed { version } => {
            format!("version {version} was destroyed and is lost: `certd history{path}` shows which others are left")
        }
    }
}

/// RFC 5280, section 4.1.2.5: valid from `not_before` through `not_after`, both included. A leaf whose CA is not valid
/// is as useless as one that is not valid itself.
fn validity(now: Timestamp, thresholds: &Thresholds, found: &Found) -> Option<Problem> {
    let (leaf, usable) = (found.leaf(), found.chain.usable());
    let signer = found.chain.signer().map(|ca| printable(&ca.subject)).unwrap_or_default();
    if now > leaf.not_after {
        return Some(Problem::critical(ProblemKind::Expired, format!("expired on {}", leaf.not_after)));
    }
    if now > usable.until {
        let why = format!("the CA that signed it expired on {}: {signer}", usable.until);
        return Some(Problem::critical(ProblemKind::Expired, why));
    }
    if now < leaf.not_before {
        return Some(Problem::critical(ProblemKind::NotYetValid, format!("not valid before {}", leaf.not_before)));
    }
    if now < usable.from {
        let why = format!("the CA that signed it is not valid before {}: {signer}", usable.from);
        return Some(Problem::critical(ProblemKind::NotYetValid, why));
    }
    if found.is_settled {
        return None;
    }
    let message = || match usable.until < leaf.not_after {
        true => format!("the CA that signed it ends on {}: {signer}", usable.until),
        false => format!("ends on {}", leaf.not_after),
    };
    let is_reached = |threshold: Threshold| now >= threshold.reached_before(usable.until, leaf.lifetime());
    if is_reached(thresholds.critical) {
        return Some(Problem::critical(ProblemKind::Expiring, message()));
    }
    is_reached(thresholds.warning).then(|| Problem::warning(ProblemKind::Expiring, message()))
}

/// In the register of what was issued, it is what one expects to find.
fn revoked(location: &Location, found: &Found) -> Option<Problem> {
    let at = found.revoked_at.filter(|_| !matches!(location, Location::Pki { .. }))?;
    Some(Problem::critical(ProblemKind::Revoked, format!("revoked by its issuer on {at}")))
}

fn key_mismatch(found: &Found) -> Option<Problem> {
    found.key_differs().then(|| {
        Problem::critical(ProblemKind::KeyMismatch, "the private key kept here belongs to another certificate")
    })
}

/// A certificate is public: whoever serves it must prove its key, and let a client in.
fn handshake(found: &Found) -> Option<Problem> {
    let handshake = found.handshake.as_ref()?;
    if let Some(why) = &handshake.key_not_proven {
        return Some(Problem::critical(ProblemKind::KeyNotProven, why.clone()));
    }
    let why = handshake.broken_off.as_ref()?;
    Some(Problem::critical(ProblemKind::Handshake, format!("no client gets in: {why}")))
}

fn chain(now: Timestamp, found: &Found) -> Option<Problem> {
    let why = match &found.trust {
        Trust::Unverified(why) => Some(why.clone()),
        // What is wrong with the time of the leaf, or of the CA that signed it, is told by `validity`.
        Trust::Verified if found.chain.usable().contains(now) => out_of_time(&found.paths, now),
        Trust::Verified | Trust::NotJudged => None,
    };
    why.map(|why| Problem::critical(ProblemKind::Chain, why))
}

fn hostname(host: &str, leaf: &Certificate) -> Option<Problem> {
    (!leaf.covers(host))
        .then(|| Problem::critical(ProblemKind::Hostname, format!("no name in the certificate covers {host}")))
}

/// A weak key anywhere in the chain lets somebody else sign what this leaf says.
fn weak_key(found: &Found) -> Option<Problem> {
    let weak = std::iter::once(found.leaf()).chain(judged(found)).find(|c| c.key.is_weak())?;
    let message = match weak.fingerprint == found.leaf().fingerprint {
        true => format!("the key is weak: {}", weak.key),
        false => format!("the key of a CA in the chain is weak: {}: {}", weak.key, printable(&weak.subject)),
    };
    Some(Problem::warning(ProblemKind::WeakKey, message))
}

fn weak_signature(found: &Found) -> Option<Problem> {
    let weak = judged(found).find(|c| c.signature.is_weak())?;
    let message = format!("signed with {}: {}", weak.signature, printable(&weak.subject));
    Some(Problem::warning(ProblemKind::WeakSignature, message))
}

/// Leaf and intermediates. A root is trusted as it is, and nobody checks its signature.
fn judged(found: &Found) -> impl Iterator<Item = &Certificate> {
    let all = std::iter::once(&found.chain.leaf).chain(&found.chain.intermediates).map(Arc::as_ref);
    all.filter(|c| !(c.is_ca && c.is_self_issued()))
}

fn usage(leaf: &Certificate) -> Option<Problem> {
    if !leaf.serves_tls() {
        return Some(Problem::critical(ProblemKind::Usage, "extended key usage lacks serverAuth"));
    }
    let needed = match leaf.key {
        KeyType::Rsa(_) => KeyUsage::DIGITAL_SIGNATURE | KeyUsage::KEY_ENCIPHERMENT,
        KeyType::EcdsaP256 | KeyType::EcdsaP384 | KeyType::EcdsaP521 | KeyType::Ed25519 | KeyType::Other(_) => {
            KeyUsage::DIGITAL_SIGNATURE | KeyUsage::KEY_AGREEMENT
        }
    };
    let usable = leaf.key_usage.is_none_or(|usage| usage.allows(needed));
    (!usable).then(|| Problem::critical(ProblemKind::Usage, "key usage lacks digitalSignature"))
}

fn intermediate_expires_first(found: &Found) -> Option<Problem> {
    let leaf = found.leaf();
    let first = found.chain.intermediates.iter().find(|c| c.not_after < leaf.not_after)?;
    Some(Problem::warning(
        ProblemKind::IntermediateExpiresFirst,
        format!("ends before the leaf, on {}: {}", first.not_after, printable(&first.subject)),
    ))
}

fn deletion_ahead(found: &Found) -> Option<Problem> {
    let at = found.deleted_at.filter(|at| *at < found.leaf().not_after)?;
    let message = format!("Vault deletes this version on {at}, before it ends: set delete_version_after=0s there");
    Some(Problem::warning(ProblemKind::DeletionAhead, message))
}

/// What keeps going wrong with its renewal, whoever does it.
pub fn renewal(action: &Action, record: &Record) -> Vec<Problem> {
    let rejected = record.rejected.as_ref().map(|why| {
        let message = format!("the certificate that was issued for it last could not be used: {why}");
        Problem::critical(ProblemKind::Rejected, message)
    });
    stopped(action).into_iter().chain(rejected).collect()
}

fn stopped(action: &Action) -> Option<Problem> {
    let (until, reason) = match action {
        Action::Hold { .. } => return None,
        Action::Defer { until, reason, .. } => (until, reason),
        Action::Keep { .. } | Action::Renew { .. } => return None,
    };
    match reason {
        Deferral::Contested => {
            let why = format!("others keep replacing what certd stores there: find out who; certd waits until {until}");
            Some(Problem::critical(ProblemKind::Contested, why))
        }
        Deferral::WeeklyLimit { stored, most } => {
            let why = format!(
                "weekly limit for this certificate reached ({stored} of {most}): find out why it was renewed so often; \
                 certd waits until {until}, unless a person runs `certd renew --over-the-cap`"
            );
            Some(Problem::warning(ProblemKind::Capped, why))
        }
        Deferral::NotStored { issued } => {
            let why = format!(
                "{issued} certificates were issued for it within 7 days and not stored: see why with `certd journal`; \
                 certd waits until {until}, unless a person runs `certd renew --over-the-cap`"
            );
            Some(Problem::warning(ProblemKind::Capped, why))
        }
        Deferral::Backoff { .. } | Deferral::Cap | Deferral::IssuerDown { .. } => None,
    }
}

/// Judges what is left at these places of the pending keys of ended renewals.
pub fn pending_key_left(places: &[String]) -> Option<Problem> {
    let first = places.first()?;
    let mount = first.split("/certd/").next().and_then(|at| at.split_once(':')).map_or("the mount", |(_, mount)| mount);
    let message = format!(
        "the sealed key of an ended renewal could not be destroyed: {}; give certd update on {mount}/destroy, as \
         `certd vault policy` prints it, or remove it with `bao kv metadata delete`",
        places.join(", ")
    );
    Some(Problem::warning(ProblemKind::PendingKeyLeft, message))
}

/// Judges the mode of the file that holds a private key.
pub fn key_exposed(path: &str, mode: u32) -> Problem {
    let message = format!(
        "others may read or write the private key (mode {mode:o}): run chmod o= {path}, and replace the key if \
         somebody may have read it"
    );
    Problem::warning(ProblemKind::KeyExposed, message)
}

pub fn place_exposed(why: &str) -> Problem {
    Problem::critical(ProblemKind::PlaceExposed, why.to_string())
}

/// Tells of a place that certd would not write, long before its certificate is due.
pub fn unwritable(observation: &Observation) -> Option<Problem> {
    let Sighting::Found(found) = &observation.sighting else { return None };
    let why = found.unwritable.as_ref()?;
    Some(Problem::warning(ProblemKind::Unwritable, format!("certd would not renew it here: {why}")))
}

/// The one word for a location, from worst to best: critical, unknown, warning, ok.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Ok,
    Warning,
    Unknown,
    Critical,
}

impl State {
    pub fn of(observation: &Observation, problems: &[Problem]) -> Self {
        if matches!(observation.sighting, Sighting::Unknown(_)) {
            return Self::Unknown;
        }
        match problems.iter().map(|problem| problem.severity).max() {
            None => Self::Ok,
            Some(Severity::Warning) => Self::Warning,
            Some(Severity::Critical) => Self::Critical,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Critical => "critical",
        }
    }

    /// As Nagios numbers them (plugin development guidelines, return codes).
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use std::time::Duration;

    use super::*;
    use crate::domain::cert::{KeyDigest, SignatureAlgorithm};
    use crate::domain::plan::Reason;
    use crate::domain::policy::Threshold;
    use crate::domain::sample::*;

    fn problems(observation: &Observation) -> Vec<(ProblemKind, Severity)> {
        let problems = check(NOW, &Thresholds::default(), observation);
        problems.iter().map(|p| (p.problem, p.severity)).collect()
    }

    fn of_leaf(leaf: Certificate) -> Vec<(ProblemKind, Severity)> {
        problems(&seen_found(secret("a"), found(leaf)))
    }

    fn of_found(change: impl FnOnce(&mut Found)) -> Vec<(ProblemKind, Severity)> {
        let mut found = found(leaf(&["a.example.org"]));
        change(&mut found);
        problems(&seen_found(secret("a"), found))
    }

    fn served(leaf: Certificate) -> Vec<(ProblemKind, Severity)> {
        problems(&seen_found(endpoint("www.example.org"), found(leaf)))
    }

    const CRITICAL: Severity = Severity::Critical;
    const WARNING: Severity = Severity::Warning;

    fn of_renewal(reason: Option<Deferral>, rejected: Option<&str>) -> Vec<(ProblemKind, Severity, String)> {
        let action = match reason {
            Some(reason) => Action::Defer { until: NOW, reason, renew: Reason::Due },
            None => Action::Renew { reason: Reason::Due },
        };
        let record = Record { rejected: rejected.map(str::to_string), ..Record::default() };
        renewal(&action, &record).into_iter().map(|p| (p.problem, p.severity, p.message)).collect()
    }

    #[test]
    fn a_renewal_that_others_undo_that_the_cap_stops_or_that_was_in_vain_is_a_problem() {
        let told = |reason, rejected, words: &str| {
            let problems = of_renewal(reason, rejected);
            assert!(problems.len() == 1 && problems[0].2.contains(words), "{problems:?}");
            (problems[0].0, problems[0].1)
        };
        let contested = told(Some(Deferral::Contested), None, "others keep replacing");
        assert_eq!(contested, (ProblemKind::Contested, CRITICAL));
        let most = Deferral::WeeklyLimit { stored: 3, most: 2 };
        let capped = told(Some(most), None, "weekly limit for this certificate reached (3 of 2): find out");
        assert_eq!(capped, (ProblemKind::Capped, WARNING));
        let refused = told(Some(Deferral::NotStored { issued: 3 }), None, "3 certificates were issued for it within");
        assert_eq!(refused, (ProblemKind::Capped, WARNING));
        assert_eq!(told(None, Some("too short"), ": too short"), (ProblemKind::Rejected, CRITICAL));
        assert_eq!(of_renewal(Some(Deferral::Cap), None), []);
        assert_eq!(of_renewal(Some(Deferral::Backoff { failures: 1 }), None), []);
        let issuer = "ca".into();
        assert_eq!(of_renewal(Some(Deferral::IssuerDown { issuer }), None), []);
    }

    #[test]
    fn a_sound_certificate_has_no_problem() {
        assert_eq!(of_leaf(leaf(&["a.example.org"])), []);
        assert_eq!(served(leaf(&["www.example.org"])), []);
    }

    #[test]
    fn what_could_not_be_seen_has_no_problem_and_what_is_absent_is_missing() {
        assert_eq!(problems(&seen(secret("a"), Sighting::Unknown(obstacle()))), []);
        assert_eq!(problems(&seen(secret("a"), Sighting::Absent)), [(ProblemKind::Missing, CRITICAL)]);
    }

    #[test]
    fn a_ca_less_mount_is_told_from_an_empty_place() {
        let said = |location| check(NOW, &Thresholds::default(), &seen(location, Sighting::Absent)).remove(0).message;
        assert_eq!(said(secret("a")), "there is no certificate here");
        assert_eq!(said(pki(PkiObject::Issuer("a".into()))), "there is no certificate here");
        assert_eq!(said(pki(PkiObject::Mount)), "this PKI mount has no CA");
    }

    #[test]
    fn what_was_deleted_is_missing_with_when_and_how_to_bring_it_back() {
        let said = |location, deletion| {
            let problems = check(NOW, &Thresholds::default(), &seen(location, Sighting::Deleted(deletion)));
            assert_eq!((problems[0].problem, problems[0].severity), (ProblemKind::Missing, CRITICAL));
            problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>()
        };
        assert_eq!(
            said(secret("secret/web"), Deletion::Deleted { version: 3, at: NOW }),
            ["version 3 was deleted on 2027-01-15T08:00:00Z: `kv undelete -versions=3 secret/web` brings it back"]
        );
        assert_eq!(
            said(secret("secret/web"), Deletion::Destroyed { version: 4 }),
            ["version 4 was destroyed and is lost: `certd history secret/web` shows which others are left"]
        );
    }

    #[test]
    fn a_list_is_checked_as_one() {
        assert_eq!(problems(&seen(pki(PkiObject::Crl("a".into())), Sighting::Crl(Box::new(crl())))), []);
        let passed = crl::Crl { next_update: Some(NOW.minus(SECOND)), ..crl() };
        let seen = seen(pki(PkiObject::Crl("a".into())), Sighting::Crl(Box::new(passed)));
        assert_eq!(problems(&seen), [(ProblemKind::Expired, CRITICAL)]);
    }

    #[test]
    fn the_end_of_what_is_settled_is_no_news_until_it_has_passed() {
        let settled = |leaf| problems(&seen_found(secret("a"), Found { is_settled: true, ..found(leaf) }));
        assert_eq!(settled(ending_in(SECOND, leaf(&["a"]))), []);
        assert_eq!(settled(ending_in(15 * DAY, leaf(&["a"]))), []);
        let expired = Certificate { not_after: NOW.minus(SECOND), ..leaf(&["a"]) };
        assert_eq!(settled(expired), [(ProblemKind::Expired, CRITICAL)]);
        let weak = Certificate { key: KeyType::Rsa(1024), ..ending_in(SECOND, leaf(&["a"])) };
        assert_eq!(settled(weak), [(ProblemKind::WeakKey, WARNING)]);
    }

    #[test]
    fn it_is_valid_through_its_last_second_and_expired_the_second_after() {
        let ending = |left| of_leaf(ending_in(left, leaf(&["a"])));
        assert_eq!(ending(SECOND), [(ProblemKind::Expiring, CRITICAL)]);
        assert_eq!(ending(std::time::Duration::ZERO), [(ProblemKind::Expiring, CRITICAL)]);
        let expired = Certificate { not_after: NOW.minus(SECOND), ..leaf(&["a"]) };
        assert_eq!(of_leaf(expired), [(ProblemKind::Expired, CRITICAL)]);
    }

    #[test]
    fn it_is_valid_from_its_first_second() {
        let from = |not_before| of_leaf(Certificate { not_before, ..leaf(&["a"]) });
        assert_eq!(from(NOW), []);
        assert_eq!(from(NOW.minus(SECOND)), []);
        assert_eq!(from(NOW.plus(SECOND)), [(ProblemKind::NotYetValid, CRITICAL)]);
    }

    #[test]
    fn validity_the_wrong_way_round_is_never_valid() {
        let reversed = |not_before, not_after| of_leaf(Certificate { not_before, not_after, ..leaf(&["a"]) });
        assert_eq!(reversed(NOW.plus(SECOND), NOW.minus(SECOND)), [(ProblemKind::Expired, CRITICAL)]);
        assert_eq!(reversed(NOW.plus(DAY), NOW.plus(SECOND)), [(ProblemKind::NotYetValid, CRITICAL)]);
    }

    #[test]
    fn warns_from_a_sixth_of_the_lifetime_and_calls_from_a_twentieth() {
        let ending = |left| of_leaf(ending_in(left, leaf(&["a"])));
        assert_eq!(ending(15 * DAY + SECOND), []);
        assert_eq!(ending(15 * DAY), [(ProblemKind::Expiring, WARNING)]);
        assert_eq!(ending(15 * DAY - SECOND), [(ProblemKind::Expiring, WARNING)]);
        assert_eq!(ending(4 * DAY + DAY / 2 + SECOND), [(ProblemKind::Expiring, WARNING)]);
        assert_eq!(ending(4 * DAY + DAY / 2), [(ProblemKind::Expiring, CRITICAL)]);
    }

    #[test]
    fn absolute_days_are_an_option() {
        let thresholds =
            Thresholds { warning: Threshold::Left(80 * DAY), critical: Threshold::Left(80 * DAY - SECOND) };
        let severity = |now| check(now, &thresholds, &seen_found(secret("a"), found(leaf(&["a"])))).pop();
        assert_eq!(severity(NOW.minus(SECOND)), None);
        let message = "ends on 2027-04-05T08:00:00Z";
        assert_eq!(severity(NOW), Some(Problem::warning(ProblemKind::Expiring, message)));
        assert_eq!(severity(NOW.plus(SECOND)), Some(Problem::critical(ProblemKind::Expiring, message)));
    }

    #[test]
    fn a_key_of_another_certificate_is_critical_and_no_key_is_no_problem() {
        assert_eq!(of_found(|f| f.stored_key = Some(KeyDigest([2; 32]))), [(ProblemKind::KeyMismatch, CRITICAL)]);
        assert_eq!(of_found(|f| f.stored_key = None), []);
    }

    #[test]
    fn what_its_issuer_revoked_is_critical_but_in_the_issuers_own_register() {
        assert_eq!(of_found(|f| f.revoked_at = Some(NOW)), [(ProblemKind::Revoked, CRITICAL)]);
        let revoked = Found { revoked_at: Some(NOW), ..found(leaf(&["a.example.org"])) };
        assert_eq!(problems(&seen_found(pki(PkiObject::Certificate("01".into())), revoked)), []);
    }

    #[test]
    fn what_vault_deletes_before_it_ends_is_a_problem_up_to_the_second() {
        let deleted = |at| of_found(|f| f.deleted_at = Some(at));
        let end = leaf(&["a"]).not_after;
        assert_eq!(deleted(end.minus(SECOND)), [(ProblemKind::DeletionAhead, WARNING)]);
        assert_eq!(deleted(end), []);
    }

    #[test]
    fn a_chain_is_a_problem_only_where_roots_judged_it() {
        assert_eq!(of_found(|f| f.trust = Trust::Unverified("no".into())), [(ProblemKind::Chain, CRITICAL)]);
        assert_eq!(of_found(|f| f.trust = Trust::NotJudged), []);
    }

    #[test]
    fn a_host_is_asked_of_endpoints_alone() {
        assert_eq!(served(leaf(&["*.example.org"])), []);
        assert_eq!(served(leaf(&["example.org"])), [(ProblemKind::Hostname, CRITICAL)]);
        assert_eq!(served(leaf(&[])), [(ProblemKind::Hostname, CRITICAL)]);
        let by_sni = Location::Endpoint {
            host: "10.0.0.1".into(),
            port: 443,
            sni: Some("www.example.org".into()),
            address: None,
        };
        assert_eq!(problems(&seen_found(by_sni, found(leaf(&["www.example.org"])))), []);
    }

    #[test]
    fn the_subject_does_not_stand_for_a_host() {
        let named = Certificate { subject_cn: Some("www.example.org".into()), ..leaf(&[]) };
        assert_eq!(served(named), [(ProblemKind::Hostname, CRITICAL)]);
    }

    #[test]
    fn weak_keys_and_signatures_are_warned_of() {
        let keyed = |key| of_leaf(Certificate { key, ..leaf(&["a"]) });
        assert_eq!(keyed(KeyType::Rsa(2047)), [(ProblemKind::WeakKey, WARNING)]);
        assert_eq!(keyed(KeyType::Rsa(2048)), []);
        for weak in ["dsa", "ecdsa-p192", "ecdsa-p224"] {
            assert_eq!(keyed(KeyType::Other(weak.into())), [(ProblemKind::WeakKey, WARNING)], "{weak}");
        }
        assert_eq!(keyed(KeyType::Other("ed448".into())), []);
        let signed = |name: &str| of_leaf(Certificate { signature: SignatureAlgorithm(name.into()), ..leaf(&["a"]) });
        for weak in ["rsa-md5", "rsa-sha1", "ecdsa-sha1", "rsa-md2"] {
            assert_eq!(signed(weak), [(ProblemKind::WeakSignature, WARNING)], "{weak}");
        }
        assert_eq!(signed("rsa-sha256"), []);
    }

    #[test]
    fn what_certd_itself_uses_is_critical_where_another_is_a_warning() {
        let of = |source: &str, left: Duration| {
            let found = found(ending_in(left, leaf(&["a.example.org"])));
            problems(&Observation { source: source.into(), ..seen_found(secret("a"), found) })
        };
        assert_eq!(of("apps", 10 * DAY), [(ProblemKind::Expiring, WARNING)]);
        assert_eq!(of(OWN, 10 * DAY), [(ProblemKind::Expiring, CRITICAL)]);
        assert_eq!(of(OWN, 40 * DAY), []);
    }

    #[test]
    fn a_leaf_whose_ca_has_ended_or_is_yet_to_begin_is_as_one_that_has() {
        let signed_by = |from, until| {
            let ca = Certificate { not_before: from, not_after: until, ..intermediate() };
            of_found(|f| f.chain.intermediates = vec![Arc::new(ca)]).into_iter().next()
        };
        let long_ago = NOW.minus(900 * DAY);
        assert_eq!(signed_by(long_ago, NOW.minus(SECOND)), Some((ProblemKind::Expired, CRITICAL)));
        assert_eq!(signed_by(long_ago, NOW), Some((ProblemKind::Expiring, CRITICAL)));
        assert_eq!(signed_by(long_ago, NOW.plus(DAY / 24)), Some((ProblemKind::Expiring, CRITICAL)));
        assert_eq!(signed_by(long_ago, NOW.plus(10 * DAY)), Some((ProblemKind::Expiring, WARNING)));
        assert_eq!(signed_by(long_ago, NOW.plus(3_650 * DAY)), None);
        assert_eq!(signed_by(NOW.plus(SECOND), NOW.plus(3_650 * DAY)), Some((ProblemKind::NotYetValid, CRITICAL)));
    }

    #[test]
    fn an_intermediates_signature_counts_and_a_roots_own_does_not() {
        let weak = Certificate { signature: SignatureAlgorithm("rsa-sha1".into()), ..intermediate() };
        let root = Certificate { issuer: weak.subject.clone(), ..weak.clone() };
        assert_eq!(of_found(|f| f.chain.intermediates = vec![Arc::new(root.clone())]), []);
        assert_eq!(of_found(|f| f.chain.intermediates = vec![Arc::new(weak)]), [(ProblemKind::WeakSignature, WARNING)]);
        let weak = Certificate { key: KeyType::Rsa(1024), ..intermediate() };
        assert_eq!(of_found(|f| f.chain.intermediates = vec![Arc::new(weak)]), [(ProblemKind::WeakKey, WARNING)]);
        let no_ca = Certificate { is_ca: false, ..root };
        assert_eq!(of_leaf(no_ca), [(ProblemKind::WeakSignature, WARNING)]);
    }

    #[test]
    fn a_server_needs_the_usages_of_one() {
        let www = || leaf(&["www.example.org"]);
        let extended = |usages: Option<&[&str]>| {
            let usages = usages.map(|usages| usages.iter().map(|usage| usage.to_string()).collect());
            served(Certificate { extended_key_usage: usages, ..www() })
        };
        assert_eq!(extended(None), []);
        assert_eq!(extended(Some(&["anyExtendedKeyUsage"])), []);
        assert_eq!(extended(Some(&["clientAuth", "serverAuth"])), []);
        assert_eq!(extended(Some(&["clientAuth"])), [(ProblemKind::Usage, CRITICAL)]);
        let with = |key, bits: u16| served(Certificate { key, key_usage: Some(KeyUsage(bits)), ..www() });
        assert_eq!(with(KeyType::Rsa(2048), KeyUsage::KEY_ENCIPHERMENT), []);
        assert_eq!(with(KeyType::Rsa(2048), KeyUsage::DIGITAL_SIGNATURE), []);
        assert_eq!(with(KeyType::EcdsaP256, KeyUsage::KEY_ENCIPHERMENT), [(ProblemKind::Usage, CRITICAL)]);
        assert_eq!(with(KeyType::EcdsaP256, KeyUsage::KEY_AGREEMENT), []);
        assert_eq!(with(KeyType::Rsa(2048), KeyUsage::KEY_AGREEMENT), [(ProblemKind::Usage, CRITICAL)]);
        assert_eq!(served(Certificate { key_usage: None, ..www() }), []);
    }

    #[test]
    fn what_is_not_served_needs_no_usage_of_a_server() {
        assert_eq!(of_leaf(Certificate { extended_key_usage: Some(vec!["clientAuth".into()]), ..leaf(&["a"]) }), []);
    }

    #[test]
    fn an_intermediate_that_ends_with_the_leaf_is_fine_and_a_second_earlier_is_not() {
        let until = |not_after| {
            of_found(|f| f.chain.intermediates = vec![Arc::new(Certificate { not_after, ..intermediate() })])
        };
        let end = leaf(&[]).not_after;
        assert_eq!(until(end), []);
        assert_eq!(until(end.minus(SECOND)), [(ProblemKind::IntermediateExpiresFirst, WARNING)]);
    }

    #[test]
    fn the_state_is_that_of_the_worst_problem_and_unknown_lies_between() {
        let warning = Problem::warning(ProblemKind::WeakKey, "");
        let critical = Problem::critical(ProblemKind::Expired, "");
        let here = seen_found(secret("a"), found(leaf(&["a"])));
        assert_eq!(State::of(&here, &[]), State::Ok);
        assert_eq!(State::of(&here, std::slice::from_ref(&warning)), State::Warning);
        assert_eq!(State::of(&here, &[critical.clone(), warning]), State::Critical);
        assert_eq!(State::of(&seen(secret("a"), Sighting::Unknown(obstacle())), &[critical]), State::Unknown);
        let ordered = [State::Critical, State::Unknown, State::Warning, State::Ok];
        assert!(ordered.is_sorted_by(|worse, better| worse > better));
        assert_eq!(ordered.map(State::exit_code), [2, 3, 1, 0]);
    }
}
