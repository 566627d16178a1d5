//! Which certificates found in a Vault are a rule's to renew. The names come from what is stored, so
//! a rule says beforehand which names and which roots it accepts.

use std::time::Duration;

use super::cert::Trust;
use super::check::{Problem, ProblemKind};
use super::inventory::{Found, Observation, Sighting};
use super::key::KeySpec;
use super::name::{CertName, IssuerName, NamePattern, San};
use super::plan::{Held, Managed, Origin};
use super::policy::RenewalPolicy;
use super::renewal::Spec;
use super::time::Timestamp;

/// Expired for longer than this is nobody's wish.
const ABANDONED_AFTER: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// An `[[adopt]]` table. Which locations it covers is said by the source that found them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// For messages: the rule's own name or its paths.
    pub name: String,
    pub names: Vec<NamePattern>,
    pub issuers: Vec<IssuerName>,
    pub lifetime: Option<Duration>,
    pub renewal: RenewalPolicy,
    pub owner: Option<String>,
    pub environment: Option<String>,
}

/// What a rule makes of one location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adoption {
    Adopted(Box<Managed>),
    /// Reported, never renewed.
    Refused(Problem),
    /// Nothing there, or nothing seen: a deleted secret is never recreated.
    Nothing,
}

pub fn adopt(now: Timestamp, rule: &Rule, observation: &Observation) -> Adoption {
    let found = match &observation.sighting {
        Sighting::Absent | Sighting::Unknown(_) => return Adoption::Nothing,
        Sighting::Found(found) => found,
    };
    match foreign(rule, found).or_else(|| abandoned(now, found)) {
        Some(problem) => Adoption::Refused(problem),
        None => Adoption::Adopted(Box::new(managed(rule, observation, found))),
    }
}

/// The first thing that makes it somebody else's.
fn foreign(rule: &Rule, found: &Found) -> Option<Problem> {
    let leaf = found.leaf();
    let why = if leaf.is_ca {
        "it is a CA certificate".to_string()
    } else if leaf.names.is_empty() {
        "it holds no name".to_string()
    } else if let Some(name) = leaf.names.iter().find(|name| !rule.names.iter().any(|p| p.allows(name))) {
        format!("{} allows no such name: {name}", rule.name)
    } else if let Trust::Unverified(why) = &found.trust {
        format!("it does not verify to the roots of {}: {why}", rule.name)
    } else if found.trust == Trust::NotJudged {
        format!("{} names no roots to verify it to", rule.name)
    } else if found.stored_key.is_none() {
        "no private key is kept beside it".to_string()
    } else if found.key_differs() {
        "the private key beside it belongs to another certificate".to_string()
    } else {
        return None;
    };
    Some(Problem::warning(ProblemKind::Foreign, super::text::printable(&why)))
}

fn abandoned(now: Timestamp, found: &Found) -> Option<Problem> {
    let end = found.leaf().not_after;
    (now > end.plus(ABANDONED_AFTER)).then(|| {
        Problem::warning(
            ProblemKind::Abandoned,
            format!("expired for over 30 days, since {end}: delete it, or declare it"),
        )
    })
}

/// The same names, the same kind of key, in place.
fn managed(rule: &Rule, observation: &Observation, found: &Found) -> Managed {
    let leaf = found.leaf();
    let key = KeySpec::like(&leaf.key);
    Managed {
        name: CertName(observation.location.to_string()),
        location: observation.location.clone(),
        origin: Origin::Adopted,
        spec: Spec {
            names: leaf.names.clone(),
            common_name: leaf.subject_cn.clone().filter(|cn| leaf.names.contains(&San::from_text(cn))),
            key: key.unwrap_or_default(),
            lifetime: rule.lifetime,
            renewal: rule.renewal,
        },
        issuers: rule.issuers.clone(),
        serves: Vec::new(),
        owner: rule.owner.clone(),
        environment: rule.environment.clone(),
        held: key.is_none().then(|| Held::UnsupportedKey(leaf.key.to_string())),
    }
}
