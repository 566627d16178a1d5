//! What certd's token may do, asked of Vault for real paths: those of the policy, of the secrets that are there
//! now, and of some that certd has no business with.

use std::collections::{BTreeMap, BTreeSet};

use crate::cycle::setup::Setup;
use crate::rights::mounts::Mounts;
use crate::rights::policy::{self, Rule};
use crate::rights::{self, Need};
use crate::staging::vault_kv::{FOLDER, folder};
use crate::vault::inspect::Capability;
use crate::vault::{Vault, VaultError};

/// Where a wildcard of a policy would reach and the configuration does not.
const ELSEWHERE: &str = "certd-doctor-elsewhere";

#[derive(Default)]
pub(super) struct Grants {
    /// The policy that certd should have, each rule with a path that it stands for.
    pub rules: Vec<(Rule, String)>,
    /// Paths of the API of secrets that are there now.
    pub secrets: BTreeSet<String>,
    pub foreign: Vec<Foreign>,
    granted: BTreeMap<String, BTreeSet<Capability>>,
    /// Why nothing is known of what is granted.
    pub refused: Option<VaultError>,
}

/// A path that certd never asks for, and what could be done there.
pub(super) struct Foreign {
    pub path: String,
    /// As an operator knows it.
    pub name: String,
    pub harm: &'static str,
    /// Reading is harm as well.
    pub is_secret: bool,
    /// A path that stands for more. What may be done there is told of it alone.
    pub within: Option<String>,
}

impl Grants {
    pub async fn ask(setup: &Setup, vault: &Vault, mounts: &Mounts, needs: &[Need]) -> Self {
        let rules: Vec<_> = policy::least(needs).into_iter().map(|rule| (rule.pattern.example(), rule)).collect();
        let rules: Vec<_> = rules.into_iter().map(|(example, rule)| (rule, example)).collect();
        let secrets = secrets(setup, vault, mounts, needs).await;
        let mut foreign = foreign(setup, vault, mounts);
        foreign.retain(|foreign| rights::at(needs, &foreign.path).next().is_none());
        let mut paths: BTreeSet<String> = rules.iter().map(|(_, example)| example.clone()).collect();
        paths.extend(secrets.iter().cloned());
        paths.extend(foreign.iter().flat_map(|foreign| foreign.within.iter().chain([&foreign.path])).cloned());
        let (granted, refused) = match vault.capabilities(&paths).await {
            Ok(granted) => (granted, None),
            Err(error) => (BTreeMap::new(), Some(error)),
        };
        Self { rules, secrets, foreign, granted, refused }
    }

    /// All of them, where the token is root.
    pub fn is_root(&self) -> bool {
        self.granted.values().any(|granted| granted.contains(&Capability::Root))
    }

    pub fn may(&self, path: &str) -> BTreeSet<Capability> {
        self.granted.get(path).cloned().unwrap_or_default()
    }

    pub fn missing(&self, path: &str, needed: &BTreeSet<Capability>) -> BTreeSet<Capability> {
        match self.is_root() {
            true => BTreeSet::new(),
            false => needed.difference(&self.may(path)).copied().collect(),
        }
    }
}

/// A rule of the token's own for one of them may grant less than the wider one beside it.
async fn secrets(setup: &Setup, vault: &Vault, mounts: &Mounts, needs: &[Need]) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for source in rights::sources(setup, &vault.name) {
        for path in source.secrets().await {
            let place = mounts.place(&path);
            let (data, metadata) = rights::apis(place.mount, place.has_versions);
            paths.extend([data, metadata].map(|api| format!("{api}/{}", place.below)));
        }
    }
    paths.retain(|path| rights::at(needs, path).next().is_some());
    paths
}

fn foreign(setup: &Setup, vault: &Vault, mounts: &Mounts) -> Vec<Foreign> {
    let mut all = Vec::new();
    let mut add = |path: String, name: String, harm, is_secret| {
        all.push(Foreign { path, name, harm, is_secret, within: None });
    };
    for (name, harm) in [
        ("sys/policies/acl", "whoever has the token could grant it anything"),
        ("sys/mounts", "whoever has the token could mount and unmount stores"),
        ("sys/auth", "whoever has the token could open another way in"),
        ("auth/token/create", "whoever has the token could make others that outlive it"),
    ] {
        let path = if name == "auth/token/create" { name.to_string() } else { format!("{name}/{ELSEWHERE}") };
        add(path, name.to_string(), harm, false);
    }
    let mut seen = BTreeSet::new();
    for path in rights::paths(setup, &vault.name) {
        let place = mounts.place(&path);
        if !seen.insert(place.mount.to_string()) {
            continue;
        }
        let (data, _) = rights::apis(place.mount, place.has_versions);
        let harm = "the configuration names no such secret";
        add(format!("{data}/{ELSEWHERE}"), format!("all of {}", place.mount), harm, true);
        if place.has_versions {
            let name = format!("{}/destroy", place.mount);
            add(format!("{name}/{ELSEWHERE}"), name, "versions could be destroyed for good", false);
        }
    }
    all.extend(pending_keys_of_others(setup, vault, mounts));
    let mut add = |path: String, name: String, harm, is_secret| {
        all.push(Foreign { path, name, harm, is_secret, within: None });
    };
    for (_, pki) in rights::issuers(setup, &vault.name) {
        let (mount, role) = (&pki.mount, &pki.role);
        for (below, harm) in [
            (format!("issue/{role}"), "Vault would make keys and hand them out, and certd makes its own"),
            (format!("sign-verbatim/{role}"), "what is signed would obey no role"),
            ("root/sign-intermediate".to_string(), "whoever has the token could have a CA of their own signed"),
            ("root/generate/internal".to_string(), "whoever has the token could replace the CA"),
            ("config/ca".to_string(), "whoever has the token could replace the CA"),
        ] {
            add(format!("{mount}/{below}"), format!("{mount}/{below}"), harm, false);
        }
    }
    all
}

/// The folders of other groups beside that of this configuration.
fn pending_keys_of_others(setup: &Setup, vault: &Vault, mounts: &Mounts) -> Vec<Foreign> {
    let mut seen = BTreeSet::new();
    let written = rights::written(setup, &vault.name);
    let places = written.iter().map(|path| mounts.place(path)).filter(|place| place.has_versions);
    let places: Vec<_> = places.filter(|place| seen.insert(place.mount.to_string())).collect();
    let foreign = |place: rights::mounts::Place<'_>| Foreign {
        path: format!("{}/{ELSEWHERE}", folder(&format!("{}/data", place.mount), ELSEWHERE)),
        name: format!("{}/{FOLDER}", place.mount),
        harm: "pending keys of other configurations could be replaced",
        is_secret: true,
        within: Some(format!("{}/data/{ELSEWHERE}", place.mount)),
    };
    places.into_iter().map(foreign).collect()
}
