//! What Vault holds against what is served: how far a stored certificate is deployed, and what stands in its place.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::cert::{Certificate, Chain, Fingerprint, KeyDigest};
use super::check::{Problem, ProblemKind};
use super::inventory::{Found, Inventory, Location, Sighting};
use super::name::{IssuerName, San};
use super::plan::Managed;
use super::text::printable;

/// An older version of a secret, by what it certified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    pub version: u64,
    /// Empty for one that was deleted, or that held no certificate.
    pub leaves: Vec<(Fingerprint, KeyDigest)>,
}

/// The newest first. A place that is not among them keeps no versions, or they could not be read.
pub type EarlierVersions = BTreeMap<Location, Vec<Earlier>>;

/// Which issuer of the configuration issued a certificate, where it was asked.
pub type Issued = BTreeMap<Fingerprint, IssuerName>;

/// Endpoints joined with what is stored: by `serves`, else by the names that only one certificate has.
pub struct Drift<'a> {
    inventory: &'a Inventory,
    served: Vec<Served<'a>>,
    by_names: HashMap<Vec<&'a San>, Vec<usize>>,
    /// Where each certificate is kept.
    kept: HashMap<Fingerprint, Vec<&'a Location>>,
    /// How many managed certificates have these names.
    owners: HashMap<Vec<&'a San>, usize>,
    /// Endpoints that some certificate names in `serves`.
    claimed: HashSet<&'a Location>,
}

struct Served<'a> {
    at: &'a Location,
    /// The same for all of its addresses.
    endpoint: Location,
    found: &'a Found,
}

impl<'a> Drift<'a> {
    pub fn new(managed: &'a [Managed], inventory: &'a Inventory) -> Self {
        let mut drift = Self {
            inventory,
            served: Vec::new(),
            by_names: HashMap::new(),
            kept: HashMap::new(),
            owners: HashMap::new(),
            claimed: managed.iter().flat_map(|managed| &managed.serves).collect(),
        };
        for seen in inventory.iter() {
            let Sighting::Found(found) = &seen.sighting else { continue };
            match &seen.location {
                // What is not proven to be served is a problem of its own.
                Location::Endpoint { .. } if !found.is_proven() => {}
                Location::Endpoint { .. } => drift.add_served(&seen.location, found),
                Location::Secret { .. } | Location::File { .. } => {
                    drift.kept.entry(found.leaf().fingerprint).or_default().push(&seen.location);
                }
                Location::Pki { .. } | Location::Listing { .. } => {}
            }
        }
        for leaf in managed.iter().filter_map(|managed| inventory.at(&managed.location)?.sighting.leaf()) {
            *drift.owners.entry(sorted(leaf)).or_default() += 1;
        }
        drift
    }

    fn add_served(&mut self, at: &'a Location, found: &'a Found) {
        self.by_names.entry(sorted(found.leaf())).or_default().push(self.served.len());
        self.served.push(Served { at, endpoint: at.at_address(None), found });
    }

    /// What is served in the place of this certificate and kept nowhere now: only older versions can tell it.
    pub fn strangers(&self, managed: &Managed) -> HashSet<Fingerprint> {
        self.unkept(managed).map(|leaf| leaf.fingerprint).collect()
    }

    /// Those that no older version holds either, with their serial numbers: only an issuer can tell them.
    pub fn unknown(&self, managed: &Managed, earlier: &EarlierVersions) -> Vec<(Fingerprint, &'a str)> {
        let Some(earlier) = earlier.get(&managed.location.with_part(None)) else { return Vec::new() };
        let unknown = self.unkept(managed).filter(|leaf| version_of(leaf.fingerprint, earlier).is_none());
        unknown.map(|leaf| (leaf.fingerprint, leaf.serial.as_str())).collect()
    }

    fn unkept(&self, managed: &Managed) -> impl Iterator<Item = &'a Certificate> {
        let served = self.stored(managed).map(|stored| self.served_for(managed, stored)).unwrap_or_default();
        let leaves: Vec<_> = served.into_iter().map(|served| served.found.leaf()).collect();
        leaves.into_iter().filter(|leaf| !self.kept.contains_key(&leaf.fingerprint))
    }

    /// Each kind at most once for what is served, with the first endpoint that shows it.
    pub fn of(&self, managed: &Managed, earlier: &EarlierVersions, issued: &Issued) -> Vec<Problem> {
        let Some(stored) = self.stored(managed) else { return Vec::new() };
        let served = self.served_for(managed, stored);
        let ours = stored.leaf().fingerprint;
        let (same, stale): (Vec<_>, Vec<_>) = served.into_iter().partition(|it| it.found.leaf().fingerprint == ours);
        let earlier = earlier.get(&managed.location.with_part(None));
        let mut problems: Vec<_> = extent(&same, &stale).into_iter().collect();
        problems.extend(earlier.and_then(|earlier| older_version(&stale, earlier)));
        problems.extend(earlier.and_then(|earlier| self.foreign(&stale, earlier, issued)));
        problems.extend(chain_differs(&same, stored));
        problems
    }

    fn stored(&self, managed: &Managed) -> Option<&'a Found> {
        match &self.inventory.at(&managed.location)?.sighting {
            Sighting::Found(found) => Some(found),
            Sighting::Absent | Sighting::Deleted(_) | Sighting::Crl(_) | Sighting::Unknown(_) => None,
        }
    }

    fn served_for(&self, managed: &Managed, stored: &Found) -> Vec<&Served<'a>> {
        let named = |served: &&Served| managed.serves.contains(&served.endpoint);
        let by_serves = self.served.iter().filter(named);
        let names = sorted(stored.leaf());
        let is_only_one = self.owners.get(&names) == Some(&1) && !names.is_empty();
        let alike = self.by_names.get(&names).filter(|_| is_only_one).into_iter().flatten();
        let is_ours = |served: &&Served| {
            let leaf = served.found.leaf().fingerprint;
            !self.claimed.contains(&served.endpoint)
                && (leaf == stored.leaf().fingerprint || !self.kept.contains_key(&leaf))
        };
        by_serves.chain(alike.map(|i| &self.served[*i]).filter(is_ours)).collect()
    }

    /// Served, and in no version that Vault still keeps.
    fn foreign(&self, stale: &[&Served], earlier: &[Earlier], issued: &Issued) -> Option<Problem> {
        let is_known = |leaf: Fingerprint| self.kept.contains_key(&leaf) || version_of(leaf, earlier).is_some();
        let served = stale.iter().find(|served| !is_known(served.found.leaf().fingerprint))?;
        let leaf = served.found.leaf();
        let by = match issued.get(&leaf.fingerprint) {
            Some(issuer) => format!("issued by {issuer}"),
            None => format!("by {}", printable(leaf.issuer_cn.as_deref().unwrap_or(&leaf.issuer))),
        };
        let message =
            format!("{} serves a certificate that Vault does not keep: serial {}, {by}", served.at, leaf.serial);
        Some(Problem::warning(ProblemKind::Foreign, message))
    }
}

/// Those of which every address of every endpoint that is to serve them was seen to serve what is given beside them.
pub fn served_everywhere<'a>(
    waiting: Vec<(&'a Managed, Fingerprint)>,
    inventory: &Inventory,
) -> Vec<(&'a Managed, Fingerprint)> {
    let wanted: HashSet<&Location> = waiting.iter().flat_map(|(managed, _)| &managed.serves).collect();
    let mut served: HashMap<Location, Vec<Option<Fingerprint>>> = HashMap::new();
    let endpoints = inventory.iter().filter(|seen| matches!(seen.location, Location::Endpoint { .. }));
    for (endpoint, seen) in endpoints.map(|seen| (seen.location.at_address(None), seen)) {
        if wanted.contains(&endpoint) {
            let proven = match &seen.sighting {
                Sighting::Found(found) if found.is_proven() => Some(found.leaf().fingerprint),
                Sighting::Found(_) | Sighting::Absent | Sighting::Deleted(_) | Sighting::Crl(_) => None,
                Sighting::Unknown(_) => None,
            };
            served.entry(endpoint).or_default().push(proven);
        }
    }
    let serves = |endpoint: &Location, ours: Fingerprint| {
        served.get(endpoint).is_some_and(|addresses| addresses.iter().all(|leaf| *leaf == Some(ours)))
    };
    let is_served = |(managed, ours): &(&Managed, Fingerprint)| {
        !managed.serves.is_empty() && managed.serves.iter().all(|endpoint| serves(endpoint, *ours))
    };
    waiting.into_iter().filter(is_served).collect()
}

/// Whatever their order.
fn sorted(leaf: &Certificate) -> Vec<&San> {
    let mut names: Vec<_> = leaf.names.iter().collect();
    names.sort();
    names.dedup();
    names
}

fn extent(same: &[&Served], stale: &[&Served]) -> Option<Problem> {
    let first = stale.first()?.at;
    Some(match (same.len(), stale.len()) {
        (0, 1) => Problem::warning(ProblemKind::NotDeployed, format!("{first} serves another certificate: reload it")),
        (0, all) => {
            let message = format!("{first} and {} more serve another certificate: reload them", all - 1);
            Problem::warning(ProblemKind::NotDeployed, message)
        }
        (same, stale) => {
            let all = same + stale;
            let message = format!("{same} of {all} serve it, {first} serves another certificate: reload it");
            Problem::warning(ProblemKind::PartlyDeployed, message)
        }
    })
}

fn version_of(leaf: Fingerprint, earlier: &[Earlier]) -> Option<u64> {
    let holds = |earlier: &&Earlier| earlier.leaves.iter().any(|(fingerprint, _)| *fingerprint == leaf);
    earlier.iter().find(holds).map(|earlier| earlier.version)
}

/// The oldest that is still served.
fn older_version(stale: &[&Served], earlier: &[Earlier]) -> Option<Problem> {
    let version = |served: &&Served| version_of(served.found.leaf().fingerprint, earlier);
    let (oldest, at) = stale.iter().filter_map(|served| Some((version(served)?, served.at))).min()?;
    Some(Problem::warning(ProblemKind::OlderVersion, format!("{at} serves version {oldest}")))
}

fn chain_differs(same: &[&Served], stored: &Found) -> Option<Problem> {
    let differs = |served: &&&Served| intermediates(&served.found.chain) != intermediates(&stored.chain);
    let served = same.iter().find(differs)?;
    let count = |chain: &Chain| intermediates(chain).len();
    let message = format!(
        "{} serves it with another chain than is stored: {} intermediates in place of {}",
        served.at,
        count(&served.found.chain),
        count(&stored.chain)
    );
    Some(Problem::warning(ProblemKind::ChainDiffers, message))
}

/// A root is nobody's loss: clients have it or do not trust it.
fn intermediates(chain: &Chain) -> Vec<Fingerprint> {
    chain.intermediates.iter().filter(|c| !c.is_self_issued()).map(|c| c.fingerprint).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::cert::Certificate;
    use crate::domain::inventory::Observation;
    use crate::domain::sample::{self, endpoint, found, intermediate, obstacle, secret, seen, seen_found};

    fn leaf(fingerprint: u8, names: &[&str]) -> Certificate {
        Certificate { fingerprint: Fingerprint([fingerprint; 32]), ..sample::leaf(names) }
    }

    fn served(host: &str, fingerprint: u8) -> Observation {
        seen_found(endpoint(host), found(leaf(fingerprint, &["web"])))
    }

    fn earlier(version: u64, fingerprint: u8) -> Earlier {
        Earlier { version, leaves: vec![(Fingerprint([fingerprint; 32]), KeyDigest([fingerprint; 32]))] }
    }

    /// `web` is stored as certificate 7 of version 7, after 6 and 5; `serves` names these hosts.
    struct Scene {
        managed: Vec<Managed>,
        inventory: Inventory,
        earlier: EarlierVersions,
        issued: Issued,
    }

    impl Scene {
        fn new(serves: &[&str]) -> Self {
            let web = Managed { serves: serves.iter().map(|host| endpoint(host)).collect(), ..sample::managed("web") };
            let mut inventory = Inventory::default();
            inventory.insert(seen_found(web.location.clone(), found(leaf(7, &["web"]))));
            let earlier = [(secret("web"), vec![earlier(6, 6), earlier(5, 5)])].into();
            Self { managed: vec![web], inventory, earlier, issued: Issued::new() }
        }

        fn and(mut self, seen: impl IntoIterator<Item = Observation>) -> Self {
            seen.into_iter().for_each(|seen| self.inventory.insert(seen));
            self
        }

        fn says(&self) -> Vec<(ProblemKind, String)> {
            let problems = Drift::new(&self.managed, &self.inventory).of(&self.managed[0], &self.earlier, &self.issued);
            problems.into_iter().map(|problem| (problem.problem, problem.message)).collect()
        }

        fn strangers(&self) -> Vec<u8> {
            let strangers = Drift::new(&self.managed, &self.inventory).strangers(&self.managed[0]);
            let mut first: Vec<u8> = strangers.iter().map(|leaf| leaf.0[0]).collect();
            first.sort_unstable();
            first
        }
    }

    fn said(kind: ProblemKind, message: &str) -> (ProblemKind, String) {
        (kind, message.to_string())
    }

    #[test]
    fn what_is_served_as_it_is_stored_is_no_drift() {
        assert_eq!(Scene::new(&["a", "b"]).and([served("a", 7), served("b", 7)]).says(), []);
        assert_eq!(Scene::new(&["a"]).says(), [], "it was not looked at yet");
        assert_eq!(Scene::new(&["a"]).and([seen(endpoint("a"), Sighting::Unknown(obstacle()))]).says(), []);
    }

    #[test]
    fn an_older_version_is_told_by_its_number_and_the_oldest_counts() {
        let one = Scene::new(&["a"]).and([served("a", 6)]);
        assert_eq!(
            one.says(),
            [
                said(ProblemKind::NotDeployed, "a:443 serves another certificate: reload it"),
                said(ProblemKind::OlderVersion, "a:443 serves version 6"),
            ]
        );
        let two = Scene::new(&["a", "b"]).and([served("a", 6), served("b", 5)]);
        assert_eq!(
            two.says(),
            [
                said(ProblemKind::NotDeployed, "a:443 and 1 more serve another certificate: reload them"),
                said(ProblemKind::OlderVersion, "b:443 serves version 5"),
            ]
        );
    }

    #[test]
    fn some_addresses_of_one_endpoint_are_a_part_of_it() {
        let third = endpoint("a").at_address(Some([10, 0, 0, 3].into()));
        let part = seen_found(third, found(leaf(6, &["web"])));
        assert_eq!(
            Scene::new(&["a"]).and([served("a", 7), part]).says(),
            [
                said(
                    ProblemKind::PartlyDeployed,
                    "1 of 2 serve it, a:443 at 10.0.0.3 serves another certificate: reload it"
                ),
                said(ProblemKind::OlderVersion, "a:443 at 10.0.0.3 serves version 6"),
            ]
        );
    }

    #[test]
    fn what_no_version_holds_is_foreign_and_unsaid_where_versions_are_not_known() {
        let mut scene = Scene::new(&["a"]).and([served("a", 9)]);
        assert_eq!(
            scene.says(),
            [
                said(ProblemKind::NotDeployed, "a:443 serves another certificate: reload it"),
                said(
                    ProblemKind::Foreign,
                    "a:443 serves a certificate that Vault does not keep: serial 01, by Example CA"
                ),
            ]
        );
        let unknown = |scene: &Scene| {
            Drift::new(&scene.managed, &scene.inventory).unknown(&scene.managed[0], &scene.earlier).len()
        };
        assert_eq!(unknown(&scene), 1);
        scene.issued.insert(Fingerprint([9; 32]), "internal".into());
        let message = "a:443 serves a certificate that Vault does not keep: serial 01, issued by internal";
        assert_eq!(scene.says()[1], said(ProblemKind::Foreign, message));
        scene.earlier.clear();
        assert_eq!(unknown(&scene), 0);
        assert_eq!(scene.says(), [said(ProblemKind::NotDeployed, "a:443 serves another certificate: reload it")]);
    }

    #[test]
    fn what_is_kept_elsewhere_is_not_foreign() {
        let other = seen_found(secret("other"), found(leaf(9, &["web"])));
        let scene = Scene::new(&["a"]).and([served("a", 9), other]);
        assert_eq!(scene.says(), [said(ProblemKind::NotDeployed, "a:443 serves another certificate: reload it")]);
        assert_eq!(scene.strangers(), Vec::<u8>::new());
    }

    #[test]
    fn only_what_is_served_and_kept_nowhere_asks_for_older_versions() {
        let scene = Scene::new(&["a", "b", "c"]).and([served("a", 7), served("b", 6), served("c", 9)]);
        assert_eq!(scene.strangers(), [6, 9]);
        assert_eq!(Scene::new(&["a"]).and([served("a", 7)]).strangers(), Vec::<u8>::new());
    }

    #[test]
    fn an_endpoint_belongs_to_the_one_certificate_that_has_its_names() {
        let scene = Scene::new(&[]).and([served("a", 6)]);
        assert_eq!(scene.says().len(), 2, "the names are the same");
        let others = seen_found(endpoint("a"), found(leaf(6, &["web", "www"])));
        assert_eq!(Scene::new(&[]).and([others]).says(), []);
        let nameless = Scene::new(&[])
            .and([seen_found(secret("web"), found(leaf(7, &[]))), seen_found(endpoint("a"), found(leaf(6, &[])))]);
        assert_eq!(nameless.says(), []);

        let mut twice = Scene::new(&[]).and([served("a", 6)]);
        twice.managed.push(Managed { location: secret("web-rsa"), ..sample::managed("web-rsa") });
        let twice = twice.and([seen_found(secret("web-rsa"), found(leaf(8, &["web"])))]);
        assert_eq!(twice.says(), [], "nobody can say whose it is");
    }

    #[test]
    fn an_endpoint_that_another_certificate_claims_is_left_to_it() {
        let mut scene = Scene::new(&[]).and([served("a", 6)]);
        scene.managed.push(Managed { serves: vec![endpoint("a")], ..sample::managed("other") });
        assert_eq!(scene.says(), []);
    }

    #[test]
    fn by_names_what_is_kept_in_another_place_is_of_that_place() {
        let other = seen_found(secret("other"), found(leaf(9, &["web"])));
        assert_eq!(Scene::new(&[]).and([served("a", 9), other]).says(), []);
    }

    #[test]
    fn the_chain_counts_without_its_root() {
        let with = |chain: Vec<Certificate>| {
            let mut found = found(leaf(7, &["web"]));
            found.chain.intermediates = chain.into_iter().map(Arc::new).collect();
            found
        };
        let fingerprint = Fingerprint([8; 32]);
        let root = Certificate { fingerprint, subject: "CN=R".into(), issuer: "CN=R".into(), ..intermediate() };
        let scene = |stored: Vec<Certificate>, served: Vec<Certificate>| {
            let scene = Scene::new(&["a"]).and([seen_found(secret("web"), with(stored))]);
            scene.and([seen_found(endpoint("a"), with(served))]).says()
        };
        assert_eq!(scene(vec![intermediate()], vec![intermediate()]), []);
        assert_eq!(scene(vec![intermediate()], vec![intermediate(), root]), []);
        let message = "a:443 serves it with another chain than is stored: 0 intermediates in place of 1";
        assert_eq!(scene(vec![intermediate()], vec![]), [said(ProblemKind::ChainDiffers, message)]);
    }
}
