//! The tables as the user writes them. Each kind is a variant, so that toml keeps the line and column of a mistake.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::acme::AcmeIssuer;
use super::audit::Audit;
use super::auth::Auth;
use super::value::{FilePath, Period, Roots, one_or_many};
use crate::domain::inventory::secret_and_object;
use crate::domain::key::KeySpec;
use crate::domain::policy::{Threshold, Thresholds};

pub type Environment = Option<Spanned<String>>;

/// One file, before it is merged with the others.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub state_dir: Option<Spanned<FilePath>>,
    pub act: Option<Spanned<bool>>,
    pub strict_modes: Option<Spanned<bool>>,
    pub turn: Option<Spanned<Turn>>,
    pub log: Option<Spanned<Log>>,
    pub listen: Option<Spanned<Listen>>,
    pub check: Option<Spanned<Check>>,
    pub audit: Option<Spanned<Audit>>,
    /// By host.
    pub addresses: BTreeMap<Spanned<String>, HostAddresses>,
    pub vault: BTreeMap<Spanned<String>, Vault>,
    pub source: BTreeMap<Spanned<String>, Source>,
    pub issuer: BTreeMap<Spanned<String>, Issuer>,
    pub certificate: Vec<Spanned<Certificate>>,
    pub adopt: Vec<Spanned<Adopt>>,
}

/// How often everything is observed and planned, and how much one turn may do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Turn {
    pub interval: Spanned<Period>,
    pub max_renewals: Spanned<u32>,
}

impl Default for Turn {
    fn default() -> Self {
        Self { interval: unwritten(Period(Duration::from_secs(60 * 60))), max_renewals: unwritten(50) }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: LogFormat,
    pub level: Level,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Human,
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// Where `/metrics`, `/healthz` and `/readyz` are served.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "ListenText")]
pub struct Listen {
    /// An address and a port, as `SocketAddr` reads them, or `none`.
    pub address: Spanned<String>,
    pub tls: Option<ListenTls>,
    pub bearer_token_file: Option<FilePath>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenTls {
    Files {
        certificate: FilePath,
        private_key: FilePath,
    },
    /// Holds `fullchain.pem` and `privkey.pem`.
    Directory(FilePath),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenText {
    #[serde(default = "on_loopback")]
    address: Spanned<String>,
    certificate_file: Option<FilePath>,
    private_key_file: Option<FilePath>,
    certificate_directory: Option<FilePath>,
    bearer_token_file: Option<FilePath>,
}

impl TryFrom<ListenText> for Listen {
    type Error = &'static str;

    fn try_from(text: ListenText) -> Result<Self, Self::Error> {
        let tls = match (text.certificate_file, text.private_key_file, text.certificate_directory) {
            (None, None, None) => None,
            (Some(certificate), Some(private_key), None) => Some(ListenTls::Files { certificate, private_key }),
            (None, None, Some(directory)) => Some(ListenTls::Directory(directory)),
            (Some(_), None, None) => return Err("certificate_file needs private_key_file beside it"),
            (None, Some(_), None) => return Err("private_key_file needs certificate_file beside it"),
            (_, _, Some(_)) => return Err("certificate_directory holds the key too: name no other file beside it"),
        };
        Ok(Self { address: text.address, tls, bearer_token_file: text.bearer_token_file })
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self { address: on_loopback(), tls: None, bearer_token_file: None }
    }
}

impl Listen {
    /// Of a valid configuration; `None` where certd is not to listen.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        self.address.get_ref().parse().ok()
    }
}

/// Of one host.
pub type HostAddresses = Spanned<Vec<Spanned<String>>>;

/// When a certificate is a warning, and when it is critical.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Check {
    pub warning: Option<Spanned<Threshold>>,
    pub critical: Option<Spanned<Threshold>>,
    /// So many renewals with one key are a problem.
    pub same_key_renewals: Option<Spanned<u32>>,
}

impl Check {
    pub fn thresholds(&self) -> Thresholds {
        let default = Thresholds::default();
        Thresholds {
            warning: self.warning.as_ref().map_or(default.warning, |it| *it.get_ref()),
            critical: self.critical.as_ref().map_or(default.critical, |it| *it.get_ref()),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// Of one and the same Vault, in order of preference.
    #[serde(deserialize_with = "one_or_many")]
    pub address: Vec<Spanned<String>>,
    /// What its certificate is for, where that is not the host of the address.
    pub server_name: Option<Spanned<String>>,
    pub ca_file: Option<FilePath>,
    pub namespace: Option<Spanned<String>>,
    /// Either this or `auth`.
    pub token_file: Option<FilePath>,
    pub auth: Option<Spanned<Auth>>,
    /// For the connection, with its key.
    pub client_certificate_file: Option<Spanned<FilePath>>,
    pub client_key_file: Option<Spanned<FilePath>>,
    /// For one request to one address, and its answer.
    #[serde(default = "ten_seconds")]
    pub deadline: Spanned<Period>,
    /// Another instance takes a renewal over that has stood still for so long.
    pub lease_term: Option<Spanned<Period>>,
    /// Pending keys are kept below `certd/pending/GROUP`.
    pub staging_group: Option<Spanned<String>>,
    /// Seals pending keys; all instances of the group have the same.
    pub staging_key_file: Option<Spanned<FilePath>>,
    /// Of all sweeps together; `None` sets no bound.
    pub requests_per_second: Option<Spanned<u32>>,
    pub environment: Environment,
}

/// `[source.NAME.KIND]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Tls(TlsSource),
    VaultKv(VaultKvSource),
    VaultPki(VaultPkiSource),
    File(FileSource),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSource {
    pub targets: Spanned<Vec<Spanned<String>>>,
    #[serde(default = "ten_seconds")]
    pub timeout: Spanned<Period>,
    #[serde(default = "tls_concurrency")]
    pub concurrency: Spanned<usize>,
    #[serde(default = "system_roots")]
    pub roots: Roots,
    pub environment: Environment,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultKvSource {
    pub vault: Spanned<String>,
    /// Globs over mount and path.
    pub paths: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    pub exclude: Vec<Spanned<String>>,
    #[serde(default = "vault_concurrency")]
    pub concurrency: Spanned<usize>,
    #[serde(default = "no_roots")]
    pub roots: Roots,
    pub environment: Environment,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultPkiSource {
    pub vault: Spanned<String>,
    pub mounts: Spanned<Vec<Spanned<String>>>,
    #[serde(default = "vault_concurrency")]
    pub concurrency: Spanned<usize>,
    pub environment: Environment,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    /// Files and globs.
    pub paths: Spanned<Vec<Spanned<FilePath>>>,
    #[serde(default = "no_roots")]
    pub roots: Roots,
    pub environment: Environment,
}

/// `[issuer.NAME.KIND]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Issuer {
    LocalCa(LocalCaIssuer),
    VaultPki(VaultPkiIssuer),
    Acme(Box<AcmeIssuer>),
}

impl Issuer {
    pub fn environment(&self) -> &Environment {
        match self {
            Self::LocalCa(ca) => &ca.environment,
            Self::VaultPki(pki) => &pki.environment,
            Self::Acme(acme) => &acme.environment,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalCaIssuer {
    pub directory: FilePath,
    /// Whether a CA may be made where there is none.
    #[serde(default)]
    pub create: bool,
    #[serde(default = "ca_common_name")]
    pub common_name: Spanned<String>,
    /// Of the CA itself.
    #[serde(default = "ca_lifetime")]
    pub lifetime: Spanned<Period>,
    #[serde(default = "leaf_lifetime")]
    pub leaf_lifetime: Spanned<Period>,
    /// DNS name constraints (RFC 5280, section 4.2.1.10); empty permits every name.
    #[serde(default)]
    pub permitted_names: Vec<Spanned<String>>,
    pub environment: Environment,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultPkiIssuer {
    pub vault: Spanned<String>,
    pub mount: Spanned<String>,
    pub role: Spanned<String>,
    /// What a signed chain must verify to; empty leaves that unchecked.
    #[serde(default)]
    pub roots: Vec<FilePath>,
    pub environment: Environment,
}

/// `[[certificate]]`: what it must be, who signs, where it is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    pub name: Spanned<String>,
    pub names: Spanned<Vec<Spanned<String>>>,
    pub common_name: Option<Spanned<String>>,
    /// Asked in this order.
    #[serde(deserialize_with = "one_or_many")]
    pub issuer: Vec<Spanned<String>>,
    #[serde(default)]
    pub key: KeySpec,
    pub lifetime: Option<Spanned<Period>>,
    pub renew_when_left: Option<Spanned<Threshold>>,
    pub store: Spanned<Store>,
    /// Endpoints that must present it.
    #[serde(default)]
    pub serves: Vec<Spanned<String>>,
    pub owner: Option<String>,
    pub environment: Environment,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    VaultKv(VaultKvStore),
    File(FileStore),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultKvStore {
    pub vault: Spanned<String>,
    /// With `#object` behind it where the secret holds several certificates.
    pub path: Spanned<String>,
}

impl VaultKvStore {
    /// The path of the secret, and the object within it.
    pub fn place(&self) -> (String, Option<String>) {
        secret_and_object(self.path.get_ref())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "FileStoreText")]
pub enum FileStore {
    /// Key and chain in one file.
    Bundle(FilePath),
    /// Switched by one rename of a symbolic link.
    Directory(FilePath),
    /// Two files: a reader may see the one new and the other old.
    Loose { certificate: FilePath, private_key: FilePath },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileStoreText {
    bundle: Option<FilePath>,
    directory: Option<FilePath>,
    certificate: Option<FilePath>,
    private_key: Option<FilePath>,
    #[serde(default)]
    torn_reads: bool,
}

impl TryFrom<FileStoreText> for FileStore {
    type Error = &'static str;

    fn try_from(text: FileStoreText) -> Result<Self, Self::Error> {
        match (text.bundle, text.directory, text.certificate, text.private_key) {
            (Some(bundle), None, None, None) => Ok(Self::Bundle(bundle)),
            (None, Some(directory), None, None) => Ok(Self::Directory(directory)),
            (None, None, Some(certificate), Some(private_key)) if text.torn_reads => {
                Ok(Self::Loose { certificate, private_key })
            }
            (None, None, Some(_), Some(_)) => {
                Err("two loose files cannot be replaced as one: use directory or bundle, \
                                                   or accept it with torn_reads = true")
            }
            (_, _, _, _) => Err("a file store is one of: bundle, directory, certificate with private_key"),
        }
    }
}

/// `[[adopt]]`: whatever is found here is kept fresh in place.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adopt {
    pub name: Option<Spanned<String>>,
    pub found: Found,
    /// Patterns: the only names it may ask a CA for.
    pub names: Spanned<Vec<Spanned<String>>>,
    /// Only what verifies to these, time aside, is adopted.
    pub roots: Spanned<Roots>,
    #[serde(deserialize_with = "one_or_many")]
    pub issuer: Vec<Spanned<String>>,
    pub renew_when_left: Option<Spanned<Threshold>>,
    pub lifetime: Option<Spanned<Period>>,
    pub owner: Option<String>,
    pub environment: Environment,
    /// Whether a person agrees to each place first.
    #[serde(default)]
    pub adopt: AdoptMode,
    /// Whether a place that comes later may have the names of another.
    #[serde(default)]
    pub share_names: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdoptMode {
    /// Every certificate that is valid, proves its key and has names of its own.
    #[default]
    Live,
    /// What `certd adopt` names.
    Ask,
}

impl Adopt {
    /// For messages: its own name or its paths.
    pub fn label(&self) -> String {
        let Found::VaultKv(found) = &self.found;
        match &self.name {
            Some(name) => name.get_ref().clone(),
            None => found.paths.get_ref().iter().map(|path| path.get_ref().as_str()).collect::<Vec<_>>().join(" "),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    VaultKv(FoundVaultKv),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundVaultKv {
    pub vault: Spanned<String>,
    pub paths: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    pub exclude: Vec<Spanned<String>>,
}

/// A default stands nowhere in the file.
fn on_loopback() -> Spanned<String> {
    unwritten("127.0.0.1:9843".to_string())
}

fn unwritten<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn ten_seconds() -> Spanned<Period> {
    unwritten(Period(Duration::from_secs(10)))
}

/// Handshakes wait on the network far more than they compute.
fn tls_concurrency() -> Spanned<usize> {
    unwritten(32)
}

/// More requests in flight to one Vault were measured to add nothing.
fn vault_concurrency() -> Spanned<usize> {
    unwritten(16)
}

fn system_roots() -> Roots {
    Roots::System
}

fn no_roots() -> Roots {
    Roots::None
}

fn ca_common_name() -> Spanned<String> {
    unwritten("certd local CA".to_string())
}

fn ca_lifetime() -> Spanned<Period> {
    unwritten(Period(3650 * DAY))
}

fn leaf_lifetime() -> Spanned<Period> {
    unwritten(Period(90 * DAY))
}
