//! Names become things, once: what the file declares is built here or refused with its line.

mod acme;
mod audit;
mod own;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use crate::cycle::setup::{AdoptedSource, Place, Setup};
use crate::domain::adopt::Rule;
use crate::domain::inventory::Location;
use crate::domain::name::{CertName, IssuerName, NamePattern, San, SourceName, VaultName};
use crate::domain::plan::{Managed, Origin};
use crate::domain::policy::RenewalPolicy;
use crate::domain::renewal::Spec;
use crate::domain::text::with_causes;
use crate::issuer::acme::http_01::Http01;
use crate::issuer::acme::listening::Place as ListeningPlace;
use crate::issuer::acme::tls_alpn_01::TlsAlpn01;
use crate::issuer::local_ca::LocalCaSettings;
use crate::issuer::vault_pki::VaultPki;
use crate::issuer::{Issuer as Signer, LocalCaSlot};
use crate::pki::bundle::Bundle;
use crate::pki::roots::Roots as Anchors;
use crate::source::path_glob::PathGlob;
use crate::source::target::Target;
use crate::source::{self, file, tls, vault_kv, vault_pki};
use crate::staging::seal::SealingKey;
use crate::store::file::{FileLayout, disk};
use crate::vault::tls_files::{Material, TlsFiles};
use crate::vault::{
    LEASE_TERM, LOGINS_APART, Login, SERVICE_ACCOUNT_TOKEN, STAGING_GROUP, Settings, TokenFrom, Vault as Client, Way,
};

use super::rules::ascii;
use super::{
    Adopt, AdoptMode, Auth, Certificate, Config, ConfigError, ConfigErrors, Declared, FileStore, Found, FoundVaultKv,
    Issuer, Roots, Source, Spanned, Store, Vault,
};

type Vaults = BTreeMap<VaultName, Arc<Client>>;

/// All mistakes at once, as far as they can be seen without a network.
pub fn build(config: &Config) -> Result<Setup, ConfigErrors> {
    let addresses = Arc::new(config.addresses());
    let (http_01, tls_alpn_01) = (HashMap::new(), HashMap::new());
    let mut build = Builder { config, mistakes: Vec::new(), vaults: BTreeMap::new(), addresses, http_01, tls_alpn_01 };
    build.vaults();
    let sources = build.sources();
    let issuers = build.issuers();
    let (declared, places) = build.certificates();
    let adopted = build.adopted();
    if !build.mistakes.is_empty() {
        return Err(ConfigErrors(build.mistakes));
    }
    let audit_head = build.audit_head();
    Ok(Setup {
        act: config.act,
        interval: config.turn.interval.get_ref().0,
        max_renewals: usize::try_from(*config.turn.max_renewals.get_ref()).unwrap_or(usize::MAX),
        thresholds: config.check.thresholds(),
        same_key_renewals: config.check.same_key_renewals.as_ref().map(|most| *most.get_ref()),
        addresses: build.addresses,
        sources,
        adopted,
        declared,
        places,
        issuers,
        audit_head,
        vaults: build.vaults,
        hash: config.hash.clone(),
    })
}

struct Builder<'a> {
    config: &'a Config,
    mistakes: Vec<ConfigError>,
    vaults: Vaults,
    addresses: Arc<tls::Addresses>,
    http_01: HashMap<ListeningPlace, Arc<Http01>>,
    tls_alpn_01: HashMap<ListeningPlace, Arc<TlsAlpn01>>,
}

impl Builder<'_> {
    /// Notes the mistake at `place` and goes on, so that all are reported.
    fn noted<T, V>(
        &mut self,
        table: &Declared<T>,
        place: std::ops::Range<usize>,
        made: Result<V, String>,
    ) -> Option<V> {
        match made {
            Ok(value) => Some(value),
            Err(what) => {
                self.mistakes.push(self.config.mistake(table, place, what, None));
                None
            }
        }
    }

    fn vaults(&mut self) {
        for (name, table) in &self.config.vaults {
            let made = client(self.config, VaultName(name.clone()), table);
            if let Some(client) = self.noted(table, table.span.clone(), made) {
                self.vaults.insert(client.name.clone(), Arc::new(client));
            }
        }
    }

    fn vault(&self, name: &Spanned<String>) -> Option<Arc<Client>> {
        self.vaults.get(&VaultName(name.get_ref().clone())).cloned()
    }

    fn sources(&mut self) -> Vec<source::Source> {
        let mut sources = Vec::new();
        for (name, table) in &self.config.sources {
            let made = self.source(SourceName(name.clone()), table);
            sources.extend(made);
        }
        sources.extend(own::source(self.config));
        sources
    }

    fn source(&mut self, name: SourceName, table: &Declared<Source>) -> Option<source::Source> {
        match &**table {
            Source::Tls(tls) => {
                let roots = self.roots(table, &tls.roots)?;
                let targets = self.targets(table, tls.targets.get_ref())?;
                Some(source::Source::Tls(tls::TlsSource {
                    name,
                    environment: text(&tls.environment),
                    targets,
                    addresses: self.addresses.clone(),
                    timeout: tls.timeout.get_ref().0,
                    concurrency: *tls.concurrency.get_ref(),
                    roots,
                }))
            }
            Source::VaultKv(kv) => {
                let roots = self.roots(table, &kv.roots)?;
                Some(source::Source::VaultKv(vault_kv::VaultKvSource {
                    name,
                    environment: text(&kv.environment),
                    paths: self.globs(table, kv.paths.get_ref())?,
                    exclude: self.globs(table, &kv.exclude)?,
                    vault: self.vault(&kv.vault)?,
                    concurrency: *kv.concurrency.get_ref(),
                    roots,
                }))
            }
            Source::VaultPki(pki) => Some(source::Source::VaultPki(vault_pki::VaultPkiSource {
                name,
                environment: text(&pki.environment),
                vault: self.vault(&pki.vault)?,
                mounts: pki.mounts.get_ref().iter().map(|mount| mount.get_ref().clone()).collect(),
                concurrency: *pki.concurrency.get_ref(),
                known: vault_pki::KnownCertificates::default(),
            })),
            Source::File(files) => {
                let below = |path: &Spanned<super::FilePath>| path.get_ref().glob_below(&self.config.directory);
                let patterns = files.paths.get_ref().iter().map(below).collect();
                let roots = self.roots(table, &files.roots)?;
                Some(source::Source::File(file::FileSource {
                    name,
                    environment: text(&files.environment),
                    patterns,
                    roots,
                }))
            }
        }
    }

    fn targets<T>(&mut self, table: &Declared<T>, texts: &[Spanned<String>]) -> Option<Vec<Location>> {
        let mut targets = Vec::with_capacity(texts.len());
        for text in texts {
            let parsed = text.get_ref().parse::<Target>().map_err(|error| error.to_string());
            targets.push(self.noted(table, text.span(), parsed).map(Location::from));
        }
        targets.into_iter().collect()
    }

    fn globs<T>(&mut self, table: &Declared<T>, texts: &[Spanned<String>]) -> Option<Vec<PathGlob>> {
        let mut globs = Vec::with_capacity(texts.len());
        for text in texts {
            let parsed = PathGlob::new(text.get_ref()).map_err(|error| error.to_string());
            globs.push(self.noted(table, text.span(), parsed));
        }
        globs.into_iter().collect()
    }

    fn roots<T>(&mut self, table: &Declared<T>, roots: &Roots) -> Option<Arc<Anchors>> {
        let made = match roots {
            Roots::System => Anchors::system(),
            Roots::None => Ok(Anchors::none()),
            Roots::Files(paths) => {
                Anchors::from_files(&paths.iter().map(|path| self.config.path(path)).collect::<Vec<_>>())
            }
        };
        self.noted(table, table.span.clone(), made.map_err(|error| with_causes(&error))).map(Arc::new)
    }

    fn issuers(&mut self) -> BTreeMap<IssuerName, Arc<Signer>> {
        let mut issuers = BTreeMap::new();
        for (name, table) in &self.config.issuers {
            if let Some(issuer) = self.issuer(name, table) {
                issuers.insert(IssuerName(name.clone()), Arc::new(issuer));
            }
        }
        issuers
    }

    fn issuer(&mut self, name: &str, table: &Declared<Issuer>) -> Option<Signer> {
        match &**table {
            Issuer::LocalCa(ca) => Some(Signer::LocalCa(Box::new(LocalCaSlot::new(LocalCaSettings {
                directory: self.config.path(&ca.directory),
                create: ca.create,
                common_name: ca.common_name.get_ref().clone(),
                lifetime: ca.lifetime.get_ref().0,
                leaf_lifetime: ca.leaf_lifetime.get_ref().0,
                permitted_names: ca.permitted_names.iter().map(|name| name.get_ref().clone()).collect(),
            })))),
            Issuer::VaultPki(pki) => {
                let files: Vec<_> = pki.roots.iter().map(|path| self.config.path(path)).collect();
                let roots = match files.is_empty() {
                    true => None,
                    false => {
                        let made = Anchors::from_files(&files).map_err(|error| with_causes(&error));
                        Some(Arc::new(self.noted(table, table.span.clone(), made)?))
                    }
                };
                let (mount, role) = (pki.mount.get_ref().clone(), pki.role.get_ref().clone());
                Some(Signer::VaultPki { pki: VaultPki::new(self.vault(&pki.vault)?, mount, role), roots })
            }
            Issuer::Acme(acme) => self.acme(name, table, acme).map(|acme| Signer::Acme(Box::new(acme))),
        }
    }

    fn certificates(&mut self) -> (Vec<Managed>, BTreeMap<CertName, Place>) {
        let (mut declared, mut places) = (Vec::new(), BTreeMap::new());
        for table in &self.config.certificates {
            let serves = self.targets(table, &table.serves);
            if let (Some(place), Some(serves)) = (self.place(table), serves) {
                let managed = managed(table, place.location(), serves);
                places.insert(managed.name.clone(), place);
                declared.push(managed);
            }
        }
        (declared, places)
    }

    fn place(&self, table: &Declared<Certificate>) -> Option<Place> {
        Some(match table.store.get_ref() {
            Store::VaultKv(kv) => {
                let (path, object) = kv.place();
                Place::VaultKv { vault: self.vault(&kv.vault)?, path, object }
            }
            Store::File(FileStore::Bundle(path)) => Place::File(FileLayout::Bundle(self.config.path(path))),
            Store::File(FileStore::Directory(path)) => Place::File(FileLayout::Directory(self.config.path(path))),
            Store::File(FileStore::Loose { certificate, private_key }) => Place::File(FileLayout::Loose {
                certificate: self.config.path(certificate),
                private_key: self.config.path(private_key),
            }),
        })
    }

    fn adopted(&mut self) -> Vec<AdoptedSource> {
        let mut adopted = Vec::new();
        for table in &self.config.adopt {
            adopted.extend(self.adopt(table));
        }
        adopted
    }

    fn adopt(&mut self, table: &Declared<Adopt>) -> Option<AdoptedSource> {
        let Found::VaultKv(found) = &table.found;
        let roots = self.roots(table, table.roots.get_ref())?;
        let vault = self.vault(&found.vault)?;
        let source = vault_kv::VaultKvSource {
            name: SourceName(table.label()),
            environment: text(&table.environment),
            vault: vault.clone(),
            paths: self.globs(table, found.paths.get_ref())?,
            exclude: self.globs(table, &found.exclude)?,
            concurrency: vault_kv::CONCURRENCY,
            roots: roots.clone(),
        };
        let address = &self.config.vaults.get(found.vault.get_ref())?.address;
        let id = rule_id(&table.label(), found, address);
        Some(AdoptedSource { rule: rule(table, id), source, vault, roots })
    }
}

fn client(config: &Config, name: VaultName, table: &Vault) -> Result<Client, String> {
    let client = table.client_certificate_file.as_ref().zip(table.client_key_file.as_ref());
    let files = TlsFiles {
        ca_file: table.ca_file.as_ref().map(|path| config.path(path)),
        client: client.map(|(certificate, key)| (config.path(certificate.get_ref()), config.path(key.get_ref()))),
    };
    let Material { roots, certificate } = files.read().map_err(|error| with_causes(&error))?;
    let address = |text: &Spanned<String>| {
        let text = text.get_ref();
        Url::parse(text).map_err(|error| format!("not an address: {text:?}: {error}"))
    };
    let settings = Settings {
        name,
        addresses: table.address.iter().map(address).collect::<Result<_, _>>()?,
        server_name: text(&table.server_name),
        roots,
        namespace: table.namespace.as_ref().map(|namespace| namespace.get_ref().clone()),
        token: token_from(config, table)?,
        deadline: table.deadline.get_ref().0,
    };
    let made = Client::with_client_certificate(settings, certificate.as_ref()).map_err(|error| with_causes(&error))?;
    let made = made.with_tls_files(files);
    let lease_term = table.lease_term.as_ref().map(|term| term.get_ref().0);
    let made = made.with_lease_term(lease_term.unwrap_or(LEASE_TERM.max(table.deadline.get_ref().0 * 3)));
    let made = made.with_staging(staging_group(table), staging_key_file(config, table)?);
    Ok(made.with_requests_per_second(table.requests_per_second.as_ref().map(|rate| *rate.get_ref())))
}

/// Instances of one configuration have the same without a setting, whatever they call the Vault.
fn staging_group(table: &Vault) -> String {
    if let Some(group) = &table.staging_group {
        return group.get_ref().clone();
    }
    match &table.environment {
        Some(environment) => super::rules::group_of(environment.get_ref()),
        None => STAGING_GROUP.to_string(),
    }
}

/// Read once here, so that one that cannot be used is told before it is needed.
fn staging_key_file(config: &Config, table: &Vault) -> Result<Option<PathBuf>, String> {
    let Some(path) = table.staging_key_file.as_ref().map(|path| config.path(path.get_ref())) else { return Ok(None) };
    match SealingKey::of_group(&path) {
        Ok(_) => Ok(Some(path)),
        Err(error) => Err(format!("staging_key_file: {}", with_causes(&error))),
    }
}

/// In DER; there is at least one.
fn certificates_in(setting: &str, path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let read = disk::read(path).map_err(|obstacle| format!("{setting}: {}", obstacle.message))?;
    let bytes = read.ok_or_else(|| format!("{setting}: there is no file {}", path.display()))?;
    let bundle = Bundle::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    match bundle.certificates.is_empty() {
        true => Err(format!("{setting} holds no certificate: {}", path.display())),
        false => Ok(bundle.certificates),
    }
}

fn token_from(config: &Config, table: &Vault) -> Result<TokenFrom, String> {
    if let Some(path) = &table.token_file {
        return Ok(TokenFrom::File(config.path(path)));
    }
    let auth = table.auth.as_ref().ok_or("no way into this Vault")?.get_ref();
    let way = match auth {
        Auth::Approle(it) => Way::AppRole {
            role_id_file: config.path(&it.role_id_file),
            secret_id_file: config.path(&it.secret_id_file),
            is_wrapped: it.secret_id_is_wrapped,
        },
        Auth::Userpass(it) => {
            Way::Userpass { username: it.username.get_ref().clone(), password_file: config.path(&it.password_file) }
        }
        Auth::Jwt(it) => Way::Jwt { role: it.role.clone(), jwt_file: config.path(&it.jwt_file) },
        Auth::Kubernetes(it) => {
            let jwt_file = it.jwt_file.as_ref().map_or_else(|| SERVICE_ACCOUNT_TOKEN.into(), |path| config.path(path));
            Way::Kubernetes { role: it.role.clone(), jwt_file }
        }
        Auth::Cert(it) => Way::Certificate { role: it.role.clone() },
    };
    // Each is mounted under its own name unless somebody chose another.
    let mount = auth.mount().map_or(way.as_str(), |mount| mount.get_ref()).to_string();
    Ok(TokenFrom::Login(Login { way, mount, apart: LOGINS_APART }))
}

fn managed(table: &Certificate, location: Location, serves: Vec<Location>) -> Managed {
    Managed {
        name: CertName(table.name.get_ref().clone()),
        location,
        origin: Origin::Declared,
        rule: None,
        spec: Spec {
            names: table.names.get_ref().iter().map(|name| San::from_text(&ascii(name.get_ref()))).collect(),
            common_name: text(&table.common_name),
            key: table.key,
            lifetime: table.lifetime.as_ref().map(|lifetime| lifetime.get_ref().0),
            renewal: RenewalPolicy(table.renew_when_left.as_ref().map(|left| *left.get_ref())),
        },
        issuers: issuer_names(&table.issuer),
        serves,
        owner: table.owner.clone(),
        environment: text(&table.environment),
        held: None,
    }
}

fn rule(table: &Adopt, id: String) -> Rule {
    let patterns = table.names.get_ref().iter().filter_map(|pattern| NamePattern::new(&ascii(pattern.get_ref())));
    Rule {
        name: table.label(),
        id,
        asks: table.adopt == AdoptMode::Ask,
        share_names: table.share_names,
        names: patterns.collect(),
        issuers: issuer_names(&table.issuer),
        lifetime: table.lifetime.as_ref().map(|lifetime| lifetime.get_ref().0),
        renewal: RenewalPolicy(table.renew_when_left.as_ref().map(|left| *left.get_ref())),
        owner: table.owner.clone(),
        environment: text(&table.environment),
    }
}

/// A rule that looks elsewhere is another one. The first line is its name, for the journal.
fn rule_id(label: &str, found: &FoundVaultKv, address: &[Spanned<String>]) -> String {
    let texts = [&found.vault].into_iter().chain(address).chain(found.paths.get_ref());
    let lines = texts.map(|text| text.get_ref().as_str());
    [label].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}

fn issuer_names(names: &[Spanned<String>]) -> Vec<IssuerName> {
    names.iter().map(|name| IssuerName(name.get_ref().clone())).collect()
}

fn text(spanned: &Option<Spanned<String>>) -> Option<String> {
    spanned.as_ref().map(|text| text.get_ref().clone())
}
