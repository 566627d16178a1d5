//! Which certificates found in a Vault are a rule's to renew. The names come from what is stored, so
//! a rule says beforehand which names and which roots it accepts.

use std::time::Duration;

use super::cert::Trust;
use super::check::{Problem, ProblemKind};
use super::inventory::{Found, Location, Observation, Part, Sighting};
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
        Sighting::Absent | Sighting::Deleted(_) | Sighting::Crl(_) | Sighting::Unknown(_) => return Adoption::Nothing,
        Sighting::Found(found) => found,
    };
    match foreign(rule, &observation.location, found).or_else(|| abandoned(now, found)) {
        Some(problem) => Adoption::Refused(problem),
        None => Adoption::Adopted(Box::new(managed(rule, observation, found))),
    }
}

/// The first thing that makes it somebody else's.
fn foreign(rule: &Rule, location: &Location, found: &Found) -> Option<Problem> {
    let leaf = found.leaf();
    let why = if let Some(Part::Nth { .. }) = location.part() {
        "several certificates are kept in one place: give each a place of its own".to_string()
    } else if leaf.is_ca {
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
            format!(
                "expired for over {} days, since {end}: delete it, or declare it",
                ABANDONED_AFTER.as_secs() / 86_400
            ),
        )
    })
}

/// The same names, the same kind of key, in place.
fn managed(rule: &Rule, observation: &Observation, found: &Found) -> Managed {
    let leaf = found.leaf();
    let key = KeySpec::like(&leaf.key);
    let unsupported = key.is_none().then(|| Held::UnsupportedKey(leaf.key.to_string()));
    // What is no CA can be no intermediate, so it is another leaf, and a write would lose it.
    let several = found.chain.intermediates.iter().any(|other| !other.is_ca).then_some(Held::SeveralCertificates);
    Managed {
        name: CertName(observation.location.to_string()),
        location: observation.location.clone(),
        origin: Origin::Adopted,
        rule: Some(rule.name.clone()),
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
        held: several.or(unsupported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cert::{Certificate, KeyDigest, KeyType};
    use crate::domain::sample::{DAY, NOW, SECOND, chain, found, leaf, obstacle, sans, secret, seen, seen_found};

    fn rule() -> Rule {
        Rule {
            name: "prod".into(),
            names: ["*.example.org", "10.0.0.1"].iter().map(|text| NamePattern::new(text).unwrap()).collect(),
            issuers: vec!["internal".into(), "fallback".into()],
            lifetime: Some(20 * DAY),
            renewal: RenewalPolicy::default(),
            owner: Some("team".into()),
            environment: Some("prod".into()),
        }
    }

    fn adopted(found: Found) -> Managed {
        match adopt(NOW, &rule(), &seen_found(secret("web"), found)) {
            Adoption::Adopted(managed) => *managed,
            other => panic!("not adopted: {other:?}"),
        }
    }

    fn refused(found: Found) -> Problem {
        match adopt(NOW, &rule(), &seen_found(secret("web"), found)) {
            Adoption::Refused(problem) => problem,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn foreign(change: impl FnOnce(&mut Found)) -> String {
        let mut found = found(leaf(&["a.example.org"]));
        change(&mut found);
        let problem = refused(found);
        assert_eq!(
            (problem.problem, problem.severity),
            (ProblemKind::Foreign, crate::domain::check::Severity::Warning)
        );
        problem.message
    }

    #[test]
    fn what_is_adopted_keeps_its_names_its_kind_of_key_and_its_place() {
        let key = KeyType::Rsa(3_072);
        let found = found(Certificate { key, ..leaf(&["a.example.org", "10.0.0.1"]) });
        let managed = adopted(found);
        assert_eq!(managed.name, "vault:main:web".into());
        assert_eq!(managed.location, secret("web"));
        assert_eq!((managed.origin, managed.rule.as_deref()), (Origin::Adopted, Some("prod")));
        assert_eq!(managed.spec.names, sans(&["a.example.org", "10.0.0.1"]));
        assert_eq!(managed.spec.key, KeySpec::Rsa3072);
        assert_eq!(managed.spec.lifetime, Some(20 * DAY));
        assert_eq!(managed.issuers, ["internal".into(), "fallback".into()]);
        assert_eq!(managed.owner.as_deref(), Some("team"));
        assert_eq!(managed.environment.as_deref(), Some("prod"));
        assert_eq!(managed.held, None);
    }

    #[test]
    fn a_common_name_is_asked_for_again_only_where_it_is_one_of_the_names() {
        let named = |cn: &str| {
            let leaf = Certificate { subject_cn: Some(cn.into()), ..leaf(&["a.example.org"]) };
            adopted(found(leaf)).spec.common_name
        };
        assert_eq!(named("a.example.org").as_deref(), Some("a.example.org"));
        assert_eq!(named("b.example.org"), None);
        assert_eq!(named("Payments"), None);
        assert_eq!(adopted(found(leaf(&["a.example.org"]))).spec.common_name, None);
    }

    #[test]
    fn a_kind_of_key_that_certd_does_not_make_is_held() {
        let managed = adopted(found(Certificate { key: KeyType::EcdsaP521, ..leaf(&["a.example.org"]) }));
        assert_eq!(managed.held, Some(Held::UnsupportedKey("ecdsa-p521".into())));
    }

    #[test]
    fn one_of_several_leaves_in_one_place_is_held() {
        let held_with = |other: Certificate| {
            let mut found = found(leaf(&["a.example.org"]));
            found.chain.intermediates = vec![std::sync::Arc::new(other)];
            adopted(found).held
        };
        let other = leaf(&["b.example.org"]);
        assert_eq!(held_with(Certificate { is_ca: true, ..other.clone() }), None);
        assert_eq!(held_with(other), Some(Held::SeveralCertificates));
    }

    #[test]
    fn a_deleted_secret_is_never_recreated_and_an_unseen_one_is_left_alone() {
        let unknown = Sighting::Unknown(obstacle());
        for sighting in [Sighting::Absent, unknown] {
            assert_eq!(adopt(NOW, &rule(), &seen(secret("web"), sighting)), Adoption::Nothing);
        }
    }

    #[test]
    fn a_ca_is_foreign() {
        let ca = Certificate { is_ca: true, ..leaf(&["a.example.org"]) };
        assert_eq!(foreign(|f| f.chain = chain(ca)), "it is a CA certificate");
    }

    #[test]
    fn a_certificate_without_names_is_foreign() {
        assert_eq!(foreign(|f| f.chain = chain(leaf(&[]))), "it holds no name");
    }

    #[test]
    fn one_name_that_the_rule_does_not_allow_makes_it_foreign() {
        let named = |names: &[&str]| foreign(|f| f.chain = chain(leaf(names)));
        assert_eq!(named(&["a.example.org", "evil.com"]), "prod allows no such name: evil.com");
        assert_eq!(named(&["example.org"]), "prod allows no such name: example.org");
        assert_eq!(named(&["a.example.org", "10.0.0.2"]), "prod allows no such name: 10.0.0.2");
        assert_eq!(named(&["spiffe://a.example.org/x"]), "prod allows no such name: spiffe://a.example.org/x");
        assert_eq!(named(&["\u{1b}[31m"]), "prod allows no such name: \\u{1b}[31m");
    }

    #[test]
    fn what_does_not_lead_to_the_rules_roots_is_foreign() {
        let unverified = foreign(|f| f.trust = Trust::Unverified("no path".into()));
        assert_eq!(unverified, "it does not verify to the roots of prod: no path");
        assert_eq!(foreign(|f| f.trust = Trust::NotJudged), "prod names no roots to verify it to");
    }

    #[test]
    fn without_its_own_key_beside_it_is_foreign() {
        assert_eq!(foreign(|f| f.stored_key = None), "no private key is kept beside it");
        let other = foreign(|f| f.stored_key = Some(KeyDigest([2; 32])));
        assert_eq!(other, "the private key beside it belongs to another certificate");
    }

    #[test]
    fn expired_for_thirty_days_is_adopted_and_a_second_more_is_abandoned() {
        let ended = |ago| {
            let not_after = NOW.minus(ago);
            found(Certificate { not_before: not_after.minus(90 * DAY), not_after, ..leaf(&["a.example.org"]) })
        };
        assert_eq!(adopted(ended(30 * DAY - SECOND)).held, None);
        assert_eq!(adopted(ended(30 * DAY)).held, None);
        let problem = refused(ended(30 * DAY + SECOND));
        assert_eq!(problem.problem, ProblemKind::Abandoned);
        assert!(problem.message.contains("since 2026-12-16T07:59:59Z"), "{}", problem.message);
    }

    #[test]
    fn one_of_several_certificates_in_a_place_is_foreign_because_a_store_keeps_one() {
        let part = Location::with_part(&secret("web"), Some(Part::nth(2)));
        let seen = seen_found(part, found(leaf(&["a.example.org"])));
        let Adoption::Refused(problem) = adopt(NOW, &rule(), &seen) else { panic!("not refused") };
        assert_eq!(problem.problem, ProblemKind::Foreign);
        assert!(problem.message.starts_with("several certificates are kept in one place"), "{}", problem.message);
    }

    #[test]
    fn one_in_an_object_of_its_own_is_adopted_by_the_name_of_that_object() {
        let part = secret("all").with_part(Some("web".into()));
        let seen = seen_found(part.clone(), found(leaf(&["a.example.org"])));
        let Adoption::Adopted(managed) = adopt(NOW, &rule(), &seen) else { panic!("not adopted") };
        assert_eq!((managed.name, managed.location, managed.held), ("vault:main:all#web".into(), part, None));
    }
}
