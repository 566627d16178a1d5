//! What is wrong with what was seen: a readable list of checks.

use serde::Serialize;

use super::cert::{Certificate, KeyType, KeyUsage, Trust};
use super::inventory::{Found, Observation, Sighting};
use super::policy::Thresholds;
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
    Chain,
    Hostname,
    WeakKey,
    WeakSignature,
    Usage,
    IntermediateExpiresFirst,
    /// Found where a rule adopts, but not the rule's to renew.
    Foreign,
    /// Expired for so long that nobody can want it renewed.
    Abandoned,
    /// An endpoint serves something else than the store holds.
    NotDeployed,
}

impl ProblemKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Expiring => "expiring",
            Self::KeyMismatch => "key_mismatch",
            Self::Chain => "chain",
            Self::Hostname => "hostname",
            Self::WeakKey => "weak_key",
            Self::WeakSignature => "weak_signature",
            Self::Usage => "usage",
            Self::IntermediateExpiresFirst => "intermediate_expires_first",
            Self::Foreign => "foreign",
            Self::Abandoned => "abandoned",
            Self::NotDeployed => "not_deployed",
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
        Self { problem, severity: Severity::Warning, message: message.into() }
    }

    pub fn critical(problem: ProblemKind, message: impl Into<String>) -> Self {
        Self { problem, severity: Severity::Critical, message: message.into() }
    }
}

/// Everything wrong at one location, in a fixed order. Empty for `Unknown`: what could not be seen
/// has an obstacle and no problem.
pub fn check(now: Timestamp, thresholds: &Thresholds, observation: &Observation) -> Vec<Problem> {
    let found = match &observation.sighting {
        Sighting::Unknown(_) => return Vec::new(),
        Sighting::Absent => return vec![Problem::critical(ProblemKind::Missing, "there is no certificate here")],
        Sighting::Found(found) => found,
    };
    let host = observation.location.expected_host();
    [
        validity(now, thresholds, found.leaf()),
        key_mismatch(found),
        chain(found),
        host.and_then(|host| hostname(host, found.leaf())),
        weak_key(found.leaf()),
        weak_signature(found),
        host.and_then(|_| usage(found.leaf())),
        intermediate_expires_first(found),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// RFC 5280, section 4.1.2.5: valid from `not_before` through `not_after`, both included.
fn validity(now: Timestamp, thresholds: &Thresholds, leaf: &Certificate) -> Option<Problem> {
    if now > leaf.not_after {
        return Some(Problem::critical(ProblemKind::Expired, format!("expired on {}", leaf.not_after)));
    }
    if now < leaf.not_before {
        return Some(Problem::critical(ProblemKind::NotYetValid, format!("not valid before {}", leaf.not_before)));
    }
    let message = || format!("ends on {}", leaf.not_after);
    if now >= thresholds.critical.reached_at(leaf) {
        return Some(Problem::critical(ProblemKind::Expiring, message()));
    }
    (now >= thresholds.warning.reached_at(leaf)).then(|| Problem::warning(ProblemKind::Expiring, message()))
}

fn key_mismatch(found: &Found) -> Option<Problem> {
    found.key_differs().then(|| {
        Problem::critical(ProblemKind::KeyMismatch, "the private key kept here belongs to another certificate")
    })
}

fn chain(found: &Found) -> Option<Problem> {
    match &found.trust {
        Trust::Unverified(why) => Some(Problem::critical(ProblemKind::Chain, why.clone())),
        Trust::Verified | Trust::NotJudged => None,
    }
}

fn hostname(host: &str, leaf: &Certificate) -> Option<Problem> {
    (!leaf.covers(host))
        .then(|| Problem::critical(ProblemKind::Hostname, format!("no name in the certificate covers {host}")))
}

fn weak_key(leaf: &Certificate) -> Option<Problem> {
    leaf.key.is_weak().then(|| Problem::warning(ProblemKind::WeakKey, format!("the key is weak: {}", leaf.key)))
}

/// A root's own signature is never checked by anyone, so it cannot be weak.
fn weak_signature(found: &Found) -> Option<Problem> {
    let all = std::iter::once(&found.chain.leaf).chain(&found.chain.intermediates);
    let weak = all.into_iter().find(|c| c.signature.is_weak() && !(c.is_ca && c.is_self_issued()))?;
    Some(Problem::warning(
        ProblemKind::WeakSignature,
        format!("signed with {}: {}", weak.signature, super::text::printable(&weak.subject)),
    ))
}

fn usage(leaf: &Certificate) -> Option<Problem> {
    let serves = leaf
        .extended_key_usage
        .as_ref()
        .is_none_or(|usages| usages.iter().any(|usage| usage == "serverAuth" || usage == "anyExtendedKeyUsage"));
    if !serves {
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
        format!("ends before the leaf, on {}: {}", first.not_after, super::text::printable(&first.subject)),
    ))
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
