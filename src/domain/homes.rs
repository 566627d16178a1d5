//! Homes: which place has a set of names. A place that claims names of another home later is held until a person agrees.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::adopt::Rule;
use super::cert::Fingerprint;
use super::name::{CertName, San};
use super::plan::{Held, Managed};
use super::time::Timestamp;

/// More homes of a name than these are not named in one message.
const MOST_NAMED: usize = 5;

/// A place that was adopted, and the names that it has by that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// As [`name_texts`] has them.
    pub names: Vec<String>,
    pub since: Timestamp,
    /// The last certificate there that was adopted while it was valid.
    pub fingerprint: Fingerprint,
    /// [`Rule::id`] of the rule that adopted it; empty where a person did.
    #[serde(default)]
    pub rule: String,
    #[serde(default)]
    pub agreed: Option<Agreed>,
}

/// A person's `certd adopt`, for one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    pub by: String,
    pub fingerprint: Fingerprint,
}

/// What a place holds that a rule adopts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lodging {
    pub names: Vec<String>,
    pub fingerprint: Fingerprint,
}

/// The homes by the names of their certificates, as the journal has them.
pub type Homes = BTreeMap<CertName, Home>;

/// A place that was held for names of others: no later first look of any rule adopts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contest {
    pub names: Vec<String>,
    /// The places that it was held for.
    pub by: BTreeSet<CertName>,
}

/// By place, until a person agrees to it.
pub type Contests = BTreeMap<CertName, Contest>;

impl Contest {
    /// Returns what this look adds to what is known; `None` where that is nothing.
    pub fn noted(before: Option<&Self>, names: &[String], by: &[CertName]) -> Option<Self> {
        let contest = Self { names: names.to_vec(), by: by.iter().cloned().collect() };
        (before != Some(&contest)).then_some(contest)
    }
}

/// Returns the names of a certificate as text, sorted, each once. A dot at the end makes no other name (RFC 1034,
/// section 3.1).
pub fn name_texts(names: &[San]) -> Vec<String> {
    let texts: BTreeSet<String> = names.iter().map(|name| name.to_string().trim_end_matches('.').to_string()).collect();
    texts.into_iter().collect()
}

/// A place that passed all checks of its rule.
pub struct Claim<'a> {
    pub place: &'a CertName,
    pub rule: &'a Rule,
    pub holds: Lodging,
    /// certd itself stored this very certificate there.
    pub is_own: bool,
}

/// What is known of homes before this look.
pub struct Known<'a> {
    pub homes: &'a Homes,
    /// The rules whose first look is over.
    pub looked: &'a BTreeMap<String, Timestamp>,
    pub contests: &'a Contests,
    pub declared: &'a [Managed],
    /// Whether the configuration still names this place.
    pub is_covered: &'a dyn Fn(&CertName) -> bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// At home, and nothing is new.
    Settled,
    /// Adopted; the journal is to note it as a home, or another certificate there.
    Note,
    Held(Held),
}

/// Judges all claims of one look together, in their order.
pub fn judge(known: &Known, claims: &[Claim]) -> Vec<Verdict> {
    let alone: Vec<Option<Verdict>> = claims.iter().map(|claim| at_home(known, claim)).collect();
    if alone.iter().all(Option::is_some) {
        return alone.into_iter().flatten().collect();
    }
    let lasting = lasting(known);
    let contested: Vec<Vec<CertName>> = claims
        .iter()
        .zip(&alone)
        .map(|(claim, alone)| if alone.is_some() { Vec::new() } else { others(known, &lasting, claim) })
        .collect();
    // Of two new places with one name neither came first, so that neither is adopted.
    let mut new = NameIndex::default();
    for ((claim, alone), contested) in claims.iter().zip(&alone).zip(&contested) {
        if alone.is_none() && contested.is_empty() {
            new.add(claim.place, &claim.holds.names);
        }
    }
    let verdicts = claims.iter().zip(alone).zip(contested).map(|((claim, alone), mut contested)| {
        alone.unwrap_or_else(|| {
            if contested.is_empty() && !is_first_look(known, claim) {
                contested = new.sharing(&claim.holds.names, claim.place).into_iter().take(MOST_NAMED).collect();
            }
            if contested.is_empty() {
                contested = held_before(known, claim).into_iter().flat_map(|it| &it.by).cloned().collect();
            }
            if contested.is_empty() { Verdict::Note } else { Verdict::Held(Held::ContestedName(contested)) }
        })
    });
    verdicts.collect()
}

/// The verdict that depends on no other place; `None` for a place without a home.
fn at_home(known: &Known, claim: &Claim) -> Option<Verdict> {
    match known.homes.get(claim.place) {
        Some(home) if home.names == claim.holds.names => {
            let is_known = home.fingerprint == claim.holds.fingerprint || claim.is_own;
            Some(if is_known { Verdict::Settled } else { Verdict::Note })
        }
        Some(home) => Some(Verdict::Held(Held::OtherNames(home.names.clone()))),
        None if claim.is_own => Some(Verdict::Note),
        None if claim.rule.asks => Some(Verdict::Held(Held::NotAgreed)),
        None if claim.rule.share_names => Some(Verdict::Note),
        None => None,
    }
}

/// What was held at an earlier look of any rule comes late to every other.
fn is_first_look(known: &Known, claim: &Claim) -> bool {
    !known.looked.contains_key(&claim.rule.id) && held_before(known, claim).is_none()
}

/// Whether it was held for one of the names that it has.
fn held_before<'a>(known: &Known<'a>, claim: &Claim) -> Option<&'a Contest> {
    let contest = known.contests.get(claim.place)?;
    let mut index = NameIndex::default();
    index.add(claim.place, &claim.holds.names);
    let other = CertName(String::new());
    (!index.sharing(&contest.names, &other).is_empty()).then_some(contest)
}

/// Every home, declared places among them.
fn lasting<'a>(known: &Known<'a>) -> NameIndex<'a> {
    let mut index = NameIndex::default();
    for (place, home) in known.homes {
        index.add(place, &home.names);
    }
    for managed in known.declared {
        index.add(&managed.name, &name_texts(&managed.spec.names));
    }
    index
}

/// The other homes of its names. At the first look of its rule these are only the homes that stood before and that the
/// configuration still names, so that the rest of the look is adopted together.
fn others(known: &Known, lasting: &NameIndex, claim: &Claim) -> Vec<CertName> {
    let first = is_first_look(known, claim);
    let counts = |place: &CertName| match known.homes.get(place) {
        None => true,
        Some(home) => {
            let stood = home.agreed.is_some() || known.looked.contains_key(&home.rule);
            !first || (stood && (known.is_covered)(place))
        }
    };
    let sharing = lasting.sharing(&claim.holds.names, claim.place);
    sharing.into_iter().filter(counts).take(MOST_NAMED).collect()
}

/// Returns the names that several of these places have or cover, by places.
pub fn shared<'a>(places: impl Iterator<Item = (&'a CertName, Vec<String>)>) -> BTreeMap<Vec<CertName>, Vec<String>> {
    let all: Vec<_> = places.collect();
    let mut index = NameIndex::default();
    all.iter().for_each(|(place, names)| index.add(place, names));
    let mut shared: BTreeMap<Vec<CertName>, BTreeSet<String>> = BTreeMap::new();
    for (place, names) in &all {
        for name in names {
            let mut sharing = index.sharing(std::slice::from_ref(name), place);
            if !sharing.is_empty() {
                sharing.insert((*place).clone());
                shared.entry(sharing.into_iter().collect()).or_default().insert(name.clone());
            }
        }
    }
    shared.into_iter().map(|(places, names)| (places, names.into_iter().collect())).collect()
}

/// Which places have a name, or one that it covers, or one that covers it.
#[derive(Default)]
struct NameIndex<'a> {
    exact: BTreeMap<String, BTreeSet<&'a CertName>>,
    /// By what follows the first label.
    below: BTreeMap<String, BTreeSet<&'a CertName>>,
}

impl<'a> NameIndex<'a> {
    fn add(&mut self, place: &'a CertName, names: &[String]) {
        for name in names {
            self.exact.entry(name.clone()).or_default().insert(place);
            if let Some((_, rest)) = name.split_once('.') {
                self.below.entry(rest.to_string()).or_default().insert(place);
            }
        }
    }

    fn sharing(&self, names: &[String], except: &CertName) -> BTreeSet<CertName> {
        let found = names.iter().flat_map(|name| {
            let covered = name.strip_prefix("*.").and_then(|rest| self.below.get(rest));
            let covering = name.split_once('.').and_then(|(_, rest)| self.exact.get(&format!("*.{rest}")));
            [self.exact.get(name), covered, covering].into_iter().flatten().flatten()
        });
        found.filter(|place| **place != except).map(|place| (*place).clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::{NOW, managed};

    const A: Fingerprint = Fingerprint([1; 32]);
    const B: Fingerprint = Fingerprint([2; 32]);

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    fn home(names: &[&str], rule: &str) -> Home {
        Home { names: texts(names), since: NOW, fingerprint: A, rule: rule.into(), agreed: None }
    }

    struct Scene {
        homes: Homes,
        looked: Vec<&'static str>,
        declared: Vec<Managed>,
        gone: Vec<&'static str>,
        contests: Contests,
        rule: Rule,
    }

    impl Scene {
        /// The rule `r` has looked once; `web` is its home.
        fn new() -> Self {
            let rule = Rule { id: "r".into(), ..crate::domain::sample::rule() };
            let homes = [("web".into(), home(&["web.example.org"], "r"))].into();
            let (declared, gone, contests) = (Vec::new(), Vec::new(), Contests::new());
            Self { homes, looked: vec!["r"], declared, gone, contests, rule }
        }

        fn change(mut self, change: impl FnOnce(&mut Self)) -> Self {
            change(&mut self);
            self
        }

        fn judge(&self, places: &[(&str, &[&str])]) -> Vec<Verdict> {
            self.judge_with(places, A, false)
        }

        fn judge_with(&self, places: &[(&str, &[&str])], fingerprint: Fingerprint, is_own: bool) -> Vec<Verdict> {
            let names: Vec<CertName> = places.iter().map(|(place, _)| CertName::from(*place)).collect();
            let holds = |names: &[&str]| Lodging { names: texts(names), fingerprint };
            let claims = names.iter().zip(places);
            let claims =
                claims.map(|(place, (_, names))| Claim { place, rule: &self.rule, holds: holds(names), is_own });
            let looked = self.looked.iter().map(|rule| (rule.to_string(), NOW)).collect();
            let is_covered = |place: &CertName| !self.gone.contains(&place.0.as_str());
            let known = Known {
                homes: &self.homes,
                looked: &looked,
                contests: &self.contests,
                declared: &self.declared,
                is_covered: &is_covered,
            };
            judge(&known, &claims.collect::<Vec<_>>())
        }
    }

    fn contested(homes: &[&str]) -> Verdict {
        Verdict::Held(Held::ContestedName(homes.iter().map(|home| CertName::from(*home)).collect()))
    }

    #[test]
    fn a_dot_at_the_end_makes_no_other_name() {
        let dotted = San::Dns("web.example.org.".into());
        assert_eq!(name_texts(&[dotted, San::from_text("web.example.org")]), ["web.example.org"]);
    }

    #[test]
    fn a_later_place_with_names_of_nobody_is_adopted_and_one_with_a_name_of_a_home_is_held() {
        let scene = Scene::new();
        for (names, verdict) in [
            (&["new.example.org"][..], Verdict::Note),
            (&["web.example.org"], contested(&["web"])),
            (&["new.example.org", "web.example.org"], contested(&["web"])),
            (&["*.example.org"], contested(&["web"])),
            (&["a.web.example.org"], Verdict::Note),
            (&["*.web.example.org"], Verdict::Note),
            (&["example.org"], Verdict::Note),
        ] {
            assert_eq!(scene.judge(&[("late", names)]), [verdict], "{names:?}");
        }
        let wild = scene.change(|scene| {
            scene.homes.insert("wild".into(), home(&["*.example.org", "10.0.0.1"], "r"));
        });
        assert_eq!(wild.judge(&[("late", &["new.example.org"])]), [contested(&["wild"])]);
        assert_eq!(wild.judge(&[("late", &["web.example.org"])]), [contested(&["web", "wild"])]);
        assert_eq!(wild.judge(&[("late", &["10.0.0.1"])]), [contested(&["wild"])]);
        assert_eq!(wild.judge(&[("late", &["a.b.example.org"])]), [Verdict::Note]);
    }

    #[test]
    fn what_stands_at_a_first_look_is_adopted_together_and_yields_to_homes_that_stood_before() {
        let both: [(&str, &[&str]); 2] = [("a", &["x.example.org"]), ("b", &["x.example.org"])];
        let first = Scene::new().change(|scene| scene.rule.id = "new".into());
        assert_eq!(first.judge(&both), [Verdict::Note, Verdict::Note]);
        assert_eq!(Scene::new().judge(&both), [contested(&["b"]), contested(&["a"])], "neither came first");

        assert_eq!(first.judge(&[("late", &["web.example.org"])]), [contested(&["web"])]);
        let open = first.change(|scene| scene.looked.clear());
        assert_eq!(open.judge(&[("late", &["web.example.org"])]), [Verdict::Note], "that first look goes on");
        let agreed = open.change(|scene| {
            let web = scene.homes.get_mut(&"web".into()).unwrap();
            web.agreed = Some(Agreed { by: "root".into(), fingerprint: A });
        });
        assert_eq!(agreed.judge(&[("late", &["web.example.org"])]), [contested(&["web"])]);
    }

    #[test]
    fn a_home_that_no_rule_names_any_more_keeps_its_names_from_later_places_alone() {
        let gone = Scene::new().change(|scene| scene.gone = vec!["web"]);
        assert_eq!(gone.judge(&[("late", &["web.example.org"])]), [contested(&["web"])]);
        let first = gone.change(|scene| scene.rule.id = "renamed".into());
        assert_eq!(first.judge(&[("late", &["web.example.org"])]), [Verdict::Note]);
    }

    #[test]
    fn what_an_earlier_look_held_no_new_first_look_adopts_whoever_else_is_gone() {
        let contest = |names: &[&str], by: &[&str]| Contest {
            names: texts(names),
            by: by.iter().map(|place| CertName::from(*place)).collect(),
        };
        let new = |contests: Contests| {
            Scene::new().change(|scene| (scene.rule.id, scene.contests) = ("renamed".into(), contests))
        };
        let both: [(&str, &[&str]); 2] = [("a", &["x.example.org"]), ("b", &["x.example.org"])];
        let contests: Contests =
            [("a".into(), contest(&["x.example.org"], &["b"])), ("b".into(), contest(&["x.example.org"], &["a"]))]
                .into();
        assert_eq!(new(contests.clone()).judge(&both), [contested(&["b"]), contested(&["a"])]);
        assert_eq!(new(contests.clone()).judge(&both[..1]), [contested(&["b"])], "the other is gone");
        assert_eq!(new(contests.clone()).judge(&[("c", &["x.example.org"])]), [Verdict::Note], "it was never held");
        assert_eq!(new(contests.clone()).judge(&[("a", &["y.example.org"])]), [Verdict::Note], "other names");
        assert_eq!(new(contests.clone()).judge(&[("a", &["*.example.org"])]), [contested(&["web"])]);
        assert_eq!(new(contests).judge_with(&both, A, true), [Verdict::Note, Verdict::Note], "its own");
        let gone = new([("late".into(), contest(&["web.example.org"], &["web"]))].into());
        let gone = gone.change(|scene| scene.gone = vec!["web"]);
        assert_eq!(gone.judge(&[("late", &["web.example.org"])]), [contested(&["web"])]);
    }

    #[test]
    fn a_contest_is_noted_when_it_begins_and_when_it_changes() {
        let (names, by) = (texts(&["a"]), [CertName::from("web")]);
        let noted = Contest::noted(None, &names, &by).unwrap();
        assert_eq!(noted, Contest { names: names.clone(), by: by.clone().into() });
        assert_eq!(Contest::noted(Some(&noted), &names, &by), None);
        assert!(Contest::noted(Some(&noted), &texts(&["b"]), &by).is_some());
        assert!(Contest::noted(Some(&noted), &names, &["api".into()]).is_some());
    }

    #[test]
    fn a_declared_certificate_is_a_home_at_every_look() {
        let declared = |id: &str| {
            Scene::new().change(|scene| (scene.rule.id, scene.declared) = (id.into(), vec![managed("a.example.org")]))
        };
        let name = managed("a.example.org").name.0;
        for id in ["r", "new"] {
            assert_eq!(declared(id).judge(&[("late", &["a.example.org"])]), [contested(&[&name])], "{id}");
        }
    }

    #[test]
    fn a_home_with_other_names_in_it_is_held_and_another_certificate_of_its_names_is_noted() {
        let scene = Scene::new();
        assert_eq!(scene.judge(&[("web", &["web.example.org"])]), [Verdict::Settled]);
        assert_eq!(scene.judge_with(&[("web", &["web.example.org"])], B, false), [Verdict::Note]);
        assert_eq!(scene.judge_with(&[("web", &["web.example.org"])], B, true), [Verdict::Settled]);
        let other = Verdict::Held(Held::OtherNames(texts(&["web.example.org"])));
        for names in [&["api.example.org"][..], &["api.example.org", "web.example.org"]] {
            assert_eq!(scene.judge(&[("web", names)]), std::slice::from_ref(&other), "{names:?}");
        }
    }

    #[test]
    fn a_rule_may_share_names_or_ask_and_what_certd_stored_itself_needs_neither() {
        let late: [(&str, &[&str]); 1] = [("late", &["web.example.org"])];
        let shares = Scene::new().change(|scene| scene.rule.share_names = true);
        assert_eq!(shares.judge(&late), [Verdict::Note]);
        let asks = Scene::new().change(|scene| scene.rule.asks = true);
        assert_eq!(asks.judge(&[("late", &["new.example.org"])]), [Verdict::Held(Held::NotAgreed)]);
        assert_eq!(asks.judge(&[("web", &["web.example.org"])]), [Verdict::Settled]);
        for scene in [asks, Scene::new()] {
            assert_eq!(scene.judge_with(&late, B, true), [Verdict::Note]);
        }
    }

    #[test]
    fn a_claim_that_is_held_keeps_no_name_from_a_new_place() {
        let both: [(&str, &[&str]); 2] =
            [("planted", &["web.example.org", "new.example.org"]), ("new", &["new.example.org"])];
        assert_eq!(Scene::new().judge(&both), [contested(&["web"]), Verdict::Note]);
    }

    #[test]
    fn shared_names_are_listed_by_places() {
        let places = ["a", "b", "c", "d"].map(CertName::from);
        let names = [&["x.org", "y.org"][..], &["x.org", "y.org"], &["*.z.org"], &["q.z.org"]];
        let listed = shared(places.iter().zip(names.map(texts)));
        let row = |places: &[&str], names: &[&str]| {
            (places.iter().map(|place| CertName::from(*place)).collect::<Vec<_>>(), texts(names))
        };
        assert_eq!(listed, [row(&["a", "b"], &["x.org", "y.org"]), row(&["c", "d"], &["*.z.org", "q.z.org"])].into());
        assert_eq!(shared([(&places[0], texts(&["x.org"]))].into_iter()), [].into());
    }
}
