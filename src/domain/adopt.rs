//! Which certificates found in a Vault are a rule's to renew. The names come from what is stored, so
//! a rule says beforehand which names and which roots it accepts.

use std::time::Duration;

use super::cert::{Fingerprint, Trust};
use super::check::{Problem, ProblemKind};
use super::clock;
use super::homes::Home;
use super::inventory::{Found, Location, Observation, Part, Sighting};
use super::key::KeySpec;
use super::name::{CertName, IssuerName, NamePattern, San};
use super::plan::{Held, Managed, Origin, Record};
use super::policy::RenewalPolicy;
use super::renewal::Spec;
use super::time::Timestamp;

/// An `[[adopt]]` table. Which locations it covers is said by the source that found them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// For messages: the rule's own name or its paths.
    pub name: String,
    /// What it looks at: another name, Vault or path makes another rule, with a first look of its own.
    pub id: String,
    /// `adopt = "ask"`: every place waits for a person.
    pub asks: bool,
    /// A place may have the names of another.
    pub share_names: bool,
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

/// What the journal knows of a place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Past<'a> {
    pub record: Option<&'a Record>,
    pub home: Option<&'a Home>,
    /// Why nobody can say whether its issuer revoked what is there.
    pub unsure: Option<&'a str>,
}

impl Past<'_> {
    /// certd itself stored this very certificate there.
    pub fn is_own(&self, certificate: Fingerprint) -> bool {
        self.record.is_some_and(|record| record.has_stored(certificate))
    }

    /// A person agreed to this very certificate there.
    fn is_agreed(&self, certificate: Fingerprint) -> bool {
        let agreed = self.home.and_then(|home| home.agreed.as_ref());
        agreed.is_some_and(|agreed| agreed.fingerprint == certificate)
    }

    /// It was adopted there while it was valid, or a renewal of it was begun then.
    fn was_adopted(&self, certificate: Fingerprint) -> bool {
        let is_begun = |record: &Record| record.in_flight.is_some() && record.replaces == Some(certificate);
        self.home.is_some_and(|home| home.fingerprint == certificate) || self.record.is_some_and(is_begun)
    }
}

/// Judges one place by itself. Whether its names have another home is judged by `homes`.
pub fn adopt(now: Timestamp, rule: &Rule, observation: &Observation, past: Past) -> Adoption {
    let found = match &observation.sighting {
        Sighting::Absent | Sighting::Deleted(_) | Sighting::Crl(_) | Sighting::Unknown(_) => return Adoption::Nothing,
        Sighting::Found(found) => found,
    };
    match foreign(rule, &observation.location, found).or_else(|| abandoned(now, found, past)) {
        Some(problem) => Adoption::Refused(problem),
        None => Adoption::Adopted(Box::new(Managed {
            held: unsure(found, past).or_else(|| cannot_renew(found)),
            ..managed(rule, observation, found)
        })),
    }
}

/// What may have been revoked may have been put there by anybody, as what was revoked.
fn unsure(found: &Found, past: Past) -> Option<Held> {
    let certificate = found.leaf().fingerprint;
    let why = past.unsure.filter(|_| !past.is_own(certificate) && !past.is_agreed(certificate))?;
    Some(Held::RevocationUnknown(why.to_string()))
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
    } else if let Some(name) = leaf.names.iter().find(|name| !allows(rule, location, name)) {
        format!("{} allows no such name: {name}{}", rule.name, unbound(rule, location))
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

/// Patterns may be bound to the folders that the secret is in.
fn allows(rule: &Rule, location: &Location, name: &San) -> bool {
    let segments = segments(location);
    rule.names.iter().filter_map(|pattern| pattern.bound_to(&segments)).any(|pattern| pattern.allows(name))
}

/// Says that some pattern allows nothing there because of its folders.
fn unbound(rule: &Rule, location: &Location) -> String {
    let segments = segments(location);
    let unbound: Vec<String> = rule
        .names
        .iter()
        .filter(|pattern| pattern.bound_to(&segments).is_none())
        .map(|pattern| pattern.to_string())
        .collect();
    match unbound.is_empty() {
        true => String::new(),
        false => format!(
            "; a folder of this path is missing or no label of a name in lower case, so these allow nothing here: {}",
            unbound.join(", ")
        ),
    }
}

fn segments(location: &Location) -> Vec<&str> {
    match location {
        Location::Secret { path, .. } => path.split('/').skip(1).collect(),
        Location::Endpoint { .. } | Location::Pki { .. } => Vec::new(),
        Location::File { .. } | Location::Listing { .. } => Vec::new(),
    }
}

/// A revoked or expired certificate may have been put there by anybody who ever had it, so it is no claim to a new one.
/// A certificate that expired in the place where it was adopted is renewed: an outage of the CA may last longer than it.
fn abandoned(now: Timestamp, found: &Found, past: Past) -> Option<Problem> {
    let leaf = found.leaf();
    if past.is_own(leaf.fingerprint) || past.is_agreed(leaf.fingerprint) {
        return None;
    }
    let why = match found.revoked_at {
        Some(at) => format!("revoked on {at}"),
        None if clock::is_ahead(leaf.not_before, now) => format!("not valid before {}", leaf.not_before),
        None if now > leaf.not_after && !past.was_adopted(leaf.fingerprint) => format!("expired on {}", leaf.not_after),
        None => return None,
    };
    Some(Problem::warning(
        ProblemKind::Abandoned,
        format!(
            "{why}, and certd did not store it here, so it is not renewed: delete it, store a valid certificate, \
             declare it, or run `certd adopt` for it"
        ),
    ))
}

/// The same names, the same kind of key, in place.
fn managed(rule: &Rule, observation: &Observation, found: &Found) -> Managed {
    let leaf = found.leaf();
    Managed {
        name: CertName(observation.location.to_string()),
        location: observation.location.clone(),
        origin: Origin::Adopted,
        rule: Some(rule.name.clone()),
        spec: Spec {
            names: leaf.names.clone(),
            common_name: leaf.subject_cn.clone().filter(|cn| leaf.names.contains(&San::from_text(cn))),
            key: KeySpec::like(&leaf.key).unwrap_or_default(),
            lifetime: rule.lifetime,
            renewal: rule.renewal,
        },
        issuers: rule.issuers.clone(),
        serves: Vec::new(),
        owner: rule.owner.clone(),
        environment: rule.environment.clone(),
        held: None,
    }
}

fn cannot_renew(found: &Found) -> Option<Held> {
    let key = &found.leaf().key;
    // What is no CA can be no intermediate, so it is another leaf, and a write would lose it.
    let several = found.chain.intermediates.iter().any(|other| !other.is_ca).then_some(Held::SeveralCertificates);
    several.or_else(|| KeySpec::like(key).is_none().then(|| Held::UnsupportedKey(key.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cert::{Certificate, KeyDigest, KeyType};
    use crate::domain::sample::{DAY, NOW, chain, found, leaf, obstacle, rule, sans, secret, seen, seen_found};

    fn judged(found: Found) -> Adoption {
        adopt(NOW, &rule(), &seen_found(secret("web"), found), Past::default())
    }

    fn adopted(found: Found) -> Managed {
        match judged(found) {
            Adoption::Adopted(managed) => *managed,
            other => panic!("not adopted: {other:?}"),
        }
    }

    fn refused(found: Found) -> Problem {
        match judged(found) {
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
            assert_eq!(adopt(NOW, &rule(), &seen(secret("web"), sighting), Past::default()), Adoption::Nothing);
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

    /// What becomes of a certificate there: `None` where it is adopted, else why not.
    fn refusal(found: &Found, past: Past) -> Option<(ProblemKind, String)> {
        match adopt(NOW, &rule(), &seen_found(secret("web"), found.clone()), past) {
            Adoption::Adopted(_) => None,
            Adoption::Refused(problem) => {
                Some((problem.problem, problem.message.split(',').next().unwrap_or_default().to_string()))
            }
            Adoption::Nothing => panic!("nothing was seen"),
        }
    }

    fn abandoned(why: &str) -> Option<(ProblemKind, String)> {
        Some((ProblemKind::Abandoned, why.to_string()))
    }

    fn valid(from: i64, to: i64) -> Found {
        let (not_before, not_after) = (Timestamp(NOW.0 + from), Timestamp(NOW.0 + to));
        found(Certificate { not_before, not_after, ..leaf(&["a.example.org"]) })
    }

    #[test]
    fn only_what_is_valid_now_is_adopted_to_the_second() {
        let nobodys = |found: Found| refusal(&found, Past::default());
        assert_eq!(nobodys(valid(-100, 0)), None);
        assert_eq!(nobodys(valid(-100, -1)), abandoned("expired on 2027-01-15T07:59:59Z"));
        assert_eq!(nobodys(valid(300, 900)), None, "clocks differ");
        assert_eq!(nobodys(valid(301, 900)), abandoned("not valid before 2027-01-15T08:05:01Z"));
        let revoked = Found { revoked_at: Some(NOW), ..valid(-100, 100) };
        assert_eq!(nobodys(revoked), abandoned("revoked on 2027-01-15T08:00:00Z"));
    }

    #[test]
    fn what_certd_stored_there_is_renewed_whatever_became_of_it_and_a_copy_elsewhere_is_not() {
        let (expired, revoked) = (valid(-100, -1), Found { revoked_at: Some(NOW), ..valid(-100, -1) });
        let own = Fingerprint([0; 32]);
        let stored = |fingerprints: &[Fingerprint]| {
            let mut record = Record::default();
            fingerprints.iter().for_each(|fingerprint| record.note_closed(NOW, *fingerprint, NOW));
            record
        };
        let other = Fingerprint([7; 32]);
        for (record, is_adopted) in [
            (stored(&[own]), true),
            (stored(&[own, other]), true),
            (stored(&[other]), false),
            (Record { wrote: Some(own), ..Record::default() }, true),
            (Record { in_flight: Some(super::super::plan::Reason::Due), ..Record::default() }, false),
        ] {
            let past = Past { record: Some(&record), ..Past::default() };
            for found in [&expired, &revoked, &valid(301, 900)] {
                assert_eq!(refusal(found, past).is_none(), is_adopted, "{record:?}");
            }
        }
    }

    #[test]
    fn what_expired_where_it_was_adopted_is_renewed_and_what_was_revoked_there_waits_for_a_person() {
        let (expired, revoked) = (valid(-100, -1), Found { revoked_at: Some(NOW), ..valid(-100, 100) });
        let fingerprint = Fingerprint([0; 32]);
        let names = vec!["a.example.org".to_string()];
        let home = Home { names, since: NOW, fingerprint, rule: "r".into(), agreed: None };
        let refusals = |home: &Home| {
            let past = Past { home: Some(home), ..Past::default() };
            [&expired, &revoked].map(|found| refusal(found, past).is_some())
        };
        assert_eq!(refusals(&home), [false, true]);
        assert_eq!(refusals(&Home { fingerprint: Fingerprint([7; 32]), ..home.clone() }), [true, true]);
        let agreed = |fingerprint| {
            let agreed = Some(super::super::homes::Agreed { by: "root".into(), fingerprint });
            Home { agreed, fingerprint, ..home.clone() }
        };
        assert_eq!(refusals(&agreed(fingerprint)), [false, false]);
        assert_eq!(refusals(&agreed(Fingerprint([7; 32]))), [true, true]);

        let begun = Record {
            in_flight: Some(super::super::plan::Reason::Due),
            replaces: Some(fingerprint),
            ..Record::default()
        };
        let past = Past { record: Some(&begun), ..Past::default() };
        assert_eq!([&expired, &revoked].map(|found| refusal(found, past).is_some()), [false, true]);
    }

    #[test]
    fn a_pattern_may_be_bound_to_the_folder_that_the_secret_is_in() {
        let rule = Rule { names: vec![NamePattern::new("*.{2}.example.org").unwrap()], ..rule() };
        let at = |path: &str, name: &str| {
            matches!(
                adopt(NOW, &rule, &seen_found(secret(path), found(leaf(&[name]))), Past::default()),
                Adoption::Adopted(_)
            )
        };
        assert!(at("secret/tls/blue/web", "web.blue.example.org"));
        assert!(at("secret/tls/blue/deep/web", "web.blue.example.org"));
        assert!(!at("secret/tls/BLUE/web", "web.blue.example.org"), "another folder");
        assert!(!at("secret/tls/blue/web", "web.red.example.org"));
        assert!(!at("secret/tls/blue/web", "blue.example.org"));
        for folder in ["*", "**", "a.b", "", "x y"] {
            assert!(!at(&format!("secret/tls/{folder}/web"), &format!("web.{folder}.example.org")), "{folder:?}");
        }
        assert!(!at("secret/tls", "web.tls.example.org"), "it has no such folder");
    }

    #[test]
    fn a_folder_that_binds_no_name_is_told() {
        let rule = Rule { names: vec![NamePattern::new("*.{2}.example.org").unwrap()], ..rule() };
        let said = |path: &str| {
            let seen = seen_found(secret(path), found(leaf(&["web.blue.example.org"])));
            let Adoption::Refused(problem) = adopt(NOW, &rule, &seen, Past::default()) else { panic!("not refused") };
            problem.message
        };
        let why = "prod allows no such name: web.blue.example.org";
        assert_eq!(said("secret/tls/red/web"), why);
        assert_eq!(
            said("secret/tls/BLUE/web"),
            format!(
                "{why}; a folder of this path is missing or no label of a name in lower case, so these allow nothing \
                 here: *.{{2}}.example.org"
            )
        );
    }

    #[test]
    fn what_may_have_been_revoked_is_held_unless_certd_stored_it_or_a_person_agreed_to_it() {
        let held = |past: Past| {
            let past = Past { unsure: Some("the list is out of sight"), ..past };
            match adopt(NOW, &rule(), &seen_found(secret("web"), found(leaf(&["a.example.org"]))), past) {
                Adoption::Adopted(managed) => managed.held,
                other => panic!("not adopted: {other:?}"),
            }
        };
        let unknown = Some(Held::RevocationUnknown("the list is out of sight".into()));
        assert_eq!(held(Past::default()), unknown);
        let (own, other) = (Fingerprint([0; 32]), Fingerprint([7; 32]));
        for (stored, expected) in [(own, None), (other, unknown.clone())] {
            let record = Record { wrote: Some(stored), ..Record::default() };
            assert_eq!(held(Past { record: Some(&record), ..Past::default() }), expected);
        }
        for (agreed, expected) in [(None, unknown.clone()), (Some(own), None), (Some(other), unknown)] {
            let agreed = agreed.map(|fingerprint| super::super::homes::Agreed { by: "root".into(), fingerprint });
            let names = vec!["a.example.org".to_string()];
            let home = Home { names, since: NOW, fingerprint: own, rule: "r".into(), agreed };
            assert_eq!(held(Past { home: Some(&home), ..Past::default() }), expected);
        }
    }

    #[test]
    fn one_of_several_certificates_in_a_place_is_foreign_because_a_store_keeps_one() {
        let part = Location::with_part(&secret("web"), Some(Part::nth(2)));
        let seen = seen_found(part, found(leaf(&["a.example.org"])));
        let Adoption::Refused(problem) = adopt(NOW, &rule(), &seen, Past::default()) else { panic!("not refused") };
        assert_eq!(problem.problem, ProblemKind::Foreign);
        assert!(problem.message.starts_with("several certificates are kept in one place"), "{}", problem.message);
    }

    #[test]
    fn one_in_an_object_of_its_own_is_adopted_by_the_name_of_that_object() {
        let part = secret("all").with_part(Some("web".into()));
        let seen = seen_found(part.clone(), found(leaf(&["a.example.org"])));
        let Adoption::Adopted(managed) = adopt(NOW, &rule(), &seen, Past::default()) else { panic!("not adopted") };
        assert_eq!((managed.name, managed.location, managed.held), ("vault:main:all#web".into(), part, None));
    }
}
