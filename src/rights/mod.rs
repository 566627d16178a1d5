//! What a configuration needs to be allowed in a Vault: the needs of each source, rule, certificate and issuer,
//! and the least policy that grants them all. A new request to Vault is a new line in [`needs`].

mod globs;
pub mod mounts;
pub mod pattern;
pub mod policy;

use std::collections::BTreeSet;

use crate::cycle::setup::{AdoptedSource, Place, Setup};
use crate::domain::name::{IssuerName, VaultName};
use crate::issuer::Issuer;
use crate::issuer::vault_pki::VaultPki;
use crate::source::Source;
use crate::source::path_glob::PathGlob;
use crate::source::vault_kv::VaultKvSource;
use crate::source::vault_pki::VaultPkiSource;
use crate::staging::vault_kv;
use crate::vault::Vault;
use crate::vault::inspect::Capability::{self, Create, List, Patch, Read, Update};

use mounts::Mounts;
use pattern::Pattern;

/// Something that certd asks of Vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// A path of the API without `/v1/`.
    pub pattern: Pattern,
    pub capabilities: BTreeSet<Capability>,
    pub weight: Weight,
    /// Who needs it, and what for.
    pub why: String,
}

/// What happens without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Certificates are kept fresh, yet certd knows or shows less.
    Useful,
    /// Something is not seen, or not renewed.
    Required,
}

/// The paths of the configuration in the key-value stores of a Vault. Of a glob: the folder where listing begins.
pub fn paths(setup: &Setup, vault: &VaultName) -> BTreeSet<String> {
    let begins = |glob: &PathGlob| glob.literal().map_or_else(|| glob.folder(), str::to_string);
    let found = sources(setup, vault).flat_map(|source| source.paths.iter().map(begins));
    let head = audit_head(setup, vault).map(str::to_string);
    found.chain(kept(setup, vault).map(str::to_string)).chain(head).collect()
}

/// Paths that certd may write: secrets as they are, and globs.
pub fn written(setup: &Setup, vault: &VaultName) -> Vec<String> {
    let globs = rules(setup, vault).flat_map(|rule| rule.source.paths.iter().map(ToString::to_string));
    globs.chain(kept(setup, vault).map(str::to_string)).collect()
}

/// What looks at the key-value stores of a Vault: sources, and the rules with theirs.
pub fn sources<'a>(setup: &'a Setup, vault: &'a VaultName) -> impl Iterator<Item = &'a VaultKvSource> {
    observed(setup, vault).chain(rules(setup, vault).map(|rule| &rule.source))
}

/// The issuers of a Vault that some certificate or rule names.
pub fn issuers<'a>(setup: &'a Setup, vault: &'a VaultName) -> impl Iterator<Item = (&'a IssuerName, &'a VaultPki)> {
    used(setup).filter_map(move |(name, issuer)| match issuer {
        Issuer::VaultPki { pki, .. } if pki.vault.name == *vault => Some((name, pki)),
        Issuer::VaultPki { .. } | Issuer::LocalCa(_) | Issuer::Acme(_) => None,
    })
}

/// To learn which mount a path lies in needs nothing more: any right below the mount is enough.
pub fn needs(setup: &Setup, vault: &Vault, mounts: &Mounts) -> Vec<Need> {
    let group = vault.staging_group();
    let mut list = Needs { mounts, group, all: Vec::new(), told: BTreeSet::new() };
    list.token(vault);
    for source in observed(setup, &vault.name) {
        list.source(source, &format!("source {}", source.name));
    }
    for source in registers(setup, &vault.name) {
        list.register(source);
    }
    for rule in rules(setup, &vault.name) {
        list.rule(rule);
    }
    for (name, path) in stores(setup, &vault.name) {
        list.store(name, path);
    }
    for (name, pki) in issuers(setup, &vault.name) {
        list.issuer(name, pki);
    }
    for (name, path) in accounts(setup, &vault.name) {
        list.account(name, path);
    }
    if let Some(path) = audit_head(setup, &vault.name) {
        list.audit_head(path);
    }
    list.all
}

/// What `certd revoke` needs beside it: a right that a certd which only renews has no use for.
pub fn revocation(setup: &Setup, vault: &Vault) -> Vec<Need> {
    let need = |(name, pki): (&IssuerName, &VaultPki)| Need {
        pattern: Pattern::new(format!("{}/revoke", pki.mount)),
        capabilities: BTreeSet::from([Update]),
        weight: Weight::Required,
        why: format!("issuer {name} revokes"),
    };
    issuers(setup, &vault.name).map(need).collect()
}

/// All that is asked at one path.
pub fn at<'n>(needs: &'n [Need], path: &str) -> impl Iterator<Item = &'n Need> {
    needs.iter().filter(move |need| need.pattern.matches(path))
}

/// All capabilities that are needed at one path.
pub fn needed(needs: &[Need], path: &str) -> BTreeSet<Capability> {
    at(needs, path).flat_map(|need| need.capabilities.iter().copied()).collect()
}

fn observed<'a>(setup: &'a Setup, vault: &'a VaultName) -> impl Iterator<Item = &'a VaultKvSource> {
    setup.sources.iter().filter_map(move |source| match source {
        Source::VaultKv(kv) if kv.vault.name == *vault => Some(kv),
        Source::VaultKv(_) | Source::VaultPki(_) | Source::Tls(_) | Source::File(_) => None,
    })
}

/// Sources of what PKI mounts of this Vault issued.
fn registers<'a>(setup: &'a Setup, vault: &'a VaultName) -> impl Iterator<Item = &'a VaultPkiSource> {
    setup.sources.iter().filter_map(move |source| match source {
        Source::VaultPki(pki) if pki.vault.name == *vault => Some(pki),
        Source::VaultKv(_) | Source::VaultPki(_) | Source::Tls(_) | Source::File(_) => None,
    })
}

fn rules<'a>(setup: &'a Setup, vault: &'a VaultName) -> impl Iterator<Item = &'a AdoptedSource> {
    setup.adopted.iter().filter(move |adopted| adopted.vault.name == *vault)
}

/// Declared certificates and the paths that they are kept at.
fn stores<'a>(setup: &'a Setup, vault: &'a VaultName) -> impl Iterator<Item = (&'a str, &'a str)> {
    setup.places.iter().filter_map(move |(name, place)| match place {
        Place::VaultKv { vault: keeps, path, .. } if keeps.name == *vault => Some((name.0.as_str(), path.as_str())),
        Place::VaultKv { .. } | Place::File(_) => None,
    })
}

/// What the configuration has kept in this Vault by a path of its own.
fn kept<'a>(setup: &'a Setup, vault: &'a VaultName) -> impl Iterator<Item = &'a str> {
    stores(setup, vault).map(|(_, path)| path).chain(accounts(setup, vault).map(|(_, path)| path))
}

/// ACME accounts that are kept in this Vault, and whose they are.
fn accounts<'a>(setup: &'a Setup, vault: &'a VaultName) -> impl Iterator<Item = (&'a IssuerName, &'a str)> {
    used(setup).filter_map(move |(name, issuer)| match issuer {
        Issuer::Acme(acme) => acme.keeper.path_in(vault).map(|path| (name, path)),
        Issuer::VaultPki { .. } | Issuer::LocalCa(_) => None,
    })
}

/// The secret whose metadata has the head of the audit log.
fn audit_head<'a>(setup: &'a Setup, vault: &VaultName) -> Option<&'a str> {
    let (keeps, path) = setup.audit_head.vault.as_ref()?;
    (keeps.name == *vault).then_some(path.as_str())
}

/// The issuers that some certificate or rule names.
fn used(setup: &Setup) -> impl Iterator<Item = (&IssuerName, &Issuer)> {
    let is_used = |name: &IssuerName| {
        setup.declared.iter().any(|managed| managed.issuers.contains(name))
            || setup.adopted.iter().any(|adopted| adopted.rule.issuers.contains(name))
    };
    setup.issuers.iter().filter(move |(name, _)| is_used(name)).map(|(name, issuer)| (name, issuer.as_ref()))
}

struct Needs<'a> {
    mounts: &'a Mounts,
    /// Whose pending keys they are.
    group: &'a str,
    all: Vec<Need>,
    /// Mounts of which it is said already that the doctor reads how they are set up.
    told: BTreeSet<String>,
}

impl Needs<'_> {
    /// Policies named `default` grant these, and a token need not have it.
    fn token(&mut self, vault: &Vault) {
        self.useful("auth/token/lookup-self", [Read], "certd looks up when its token ends");
        let why = "certd has the active node write there, so that it reads nothing that a standby knows too late";
        self.useful("cubbyhole/certd", [Create, Update], why);
        self.useful("sys/capabilities-self", [Update], "certd vault doctor asks what the token may do");
        if vault.logs_in() {
            self.useful("auth/token/renew-self", [Update], "certd keeps the token alive that it logged in for");
            self.useful("auth/token/revoke-self", [Update], "certd revokes that token when it stops");
        }
    }

    fn source(&mut self, source: &VaultKvSource, who: &str) {
        for glob in &source.paths {
            let text = glob.to_string();
            let place = self.mounts.place(&text);
            let segments: Vec<&str> = place.below.split('/').collect();
            let wider = if globs::is_exact(&segments) { "" } else { " (a policy cannot say it as narrowly)" };
            let withheld = if source.exclude.is_empty() { "" } else { " (what it excludes is not withheld here)" };
            let (data, metadata) = apis(place.mount, place.has_versions);
            let secrets = format!("{data}/{}", globs::secrets(&segments));
            self.required(secrets, [Read], format!("{who} reads {text}{wider}{withheld}"));
            for folder in globs::folders(&segments) {
                self.required(format!("{metadata}/{folder}"), [List], format!("{who} lists {text}"));
            }
            self.mount(place.mount, place.has_versions);
        }
    }

    /// What was adopted is replaced, and never made anew where it was deleted.
    fn rule(&mut self, adopted: &AdoptedSource) {
        let who = format!("adopt rule {}", adopted.rule.name);
        self.source(&adopted.source, &who);
        for glob in &adopted.source.paths {
            let text = glob.to_string();
            let place = self.mounts.place(&text);
            let secrets = globs::secrets(&place.below.split('/').collect::<Vec<_>>());
            let (data, metadata) = apis(place.mount, place.has_versions);
            self.required(format!("{data}/{secrets}"), [Update], format!("{who} renews what it adopted"));
            if place.has_versions {
                self.staging(place.mount, &secrets, &who);
                self.deleted(place.mount, &secrets, &who);
                self.notes(format!("{metadata}/{secrets}"), &who);
            }
        }
    }

    fn store(&mut self, name: &str, path: &str) {
        let who = format!("certificate {name}");
        let place = self.mounts.place(path);
        let (data, metadata) = apis(place.mount, place.has_versions);
        self.required(format!("{data}/{}", place.below), [Create, Read, Update], format!("{who} is kept there"));
        if place.has_versions {
            self.staging(place.mount, place.below, &who);
            self.deleted(place.mount, place.below, &who);
            self.notes(format!("{metadata}/{}", place.below), &who);
        }
        self.mount(place.mount, place.has_versions);
    }

    /// All that lives is read without a right, and found by these alone.
    fn register(&mut self, source: &VaultPkiSource) {
        for mount in &source.mounts {
            self.required(format!("{mount}/certs/"), [List], format!("source {} lists what it issued", source.name));
            let why = format!("source {} lists what was revoked", source.name);
            self.useful(format!("{mount}/certs/revoked/"), [List], why);
        }
    }

    /// The key is there before an issuer hears of it, and is destroyed when the store holds it. Each secret has a folder of
    /// its own below the group's, by its path, so that no rule opens the pending keys of secrets that it does not open.
    fn staging(&mut self, mount: &str, secrets: &str, who: &str) {
        let below = if secrets.ends_with('*') { secrets.to_string() } else { format!("{secrets}/+") };
        let at = |api: &str| format!("{}/{below}", vault_kv::folder(&format!("{mount}/{api}"), self.group));
        let (data, destroy) = (at("data"), at("destroy"));
        self.required(data, [Create, Read, Update], format!("{who} has its pending key kept there, sealed"));
        self.useful(destroy, [Update], format!("{who} has its pending key destroyed at the end"));
    }

    fn deleted(&mut self, mount: &str, secrets: &str, who: &str) {
        let why = format!("{who} is deleted again where somebody deleted it while certd wrote");
        self.useful(format!("{mount}/delete/{secrets}"), [Update], why);
    }

    /// `certd history` and `rollback` need no more than this and what a renewal needs.
    fn notes(&mut self, metadata: String, who: &str) {
        let why = format!("{who} has its versions read, and noted who wrote them");
        self.useful(metadata, [Read, Patch], why);
    }

    fn audit_head(&mut self, path: &str) {
        let place = self.mounts.place(path);
        let (_, metadata) = apis(place.mount, place.has_versions);
        let why = "certd notes the head of its audit log there";
        self.required(format!("{metadata}/{}", place.below), [Create, Read, Update, Patch], why);
    }

    fn mount(&mut self, mount: &str, has_versions: bool) {
        if has_versions && self.told.insert(mount.to_string()) {
            let why = format!("certd vault doctor reads how {mount} keeps versions");
            self.useful(format!("{mount}/config"), [Read], why);
        }
    }

    /// The chain of the CA and each certificate are given to anybody, without a token.
    fn issuer(&mut self, name: &IssuerName, VaultPki { mount, role, .. }: &VaultPki) {
        self.required(format!("{mount}/sign/{role}"), [Update], format!("issuer {name} signs"));
        let why = format!("issuer {name} is looked through for what it signed where its answer was lost");
        self.required(format!("{mount}/certs/"), [List], why);
        self.useful(format!("{mount}/certs/revoked/"), [List], format!("issuer {name} tells what it revoked"));
        self.useful(format!("{mount}/roles/{role}"), [Read], format!("issuer {name} refuses a role that leases"));
    }

    /// Made once, changed now and then, and never made anew where it was deleted.
    fn account(&mut self, name: &IssuerName, path: &str) {
        let place = self.mounts.place(path);
        let (data, _) = apis(place.mount, place.has_versions);
        let why = format!("issuer {name} has its account kept there");
        self.required(format!("{data}/{}", place.below), [Create, Read, Update], why);
        self.mount(place.mount, place.has_versions);
    }

    fn required<const N: usize>(&mut self, path: impl Into<String>, what: [Capability; N], why: impl Into<String>) {
        self.need(Weight::Required, path.into(), what, why.into());
    }

    fn useful<const N: usize>(&mut self, path: impl Into<String>, what: [Capability; N], why: impl Into<String>) {
        self.need(Weight::Useful, path.into(), what, why.into());
    }

    fn need<const N: usize>(&mut self, weight: Weight, path: String, what: [Capability; N], why: String) {
        self.all.push(Need { pattern: Pattern::new(path), capabilities: BTreeSet::from(what), weight, why });
    }
}

/// Where secrets are read and written, and where they are listed.
pub fn apis(mount: &str, has_versions: bool) -> (String, String) {
    match has_versions {
        true => (format!("{mount}/data"), format!("{mount}/metadata")),
        false => (mount.to_string(), mount.to_string()),
    }
}
