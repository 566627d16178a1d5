//! The one Vault client: address, TLS, login, deadlines, error text.

mod consistency;
mod endpoint;
mod error;
pub mod inspect;
mod kv;
pub mod layout;
mod life;
mod login;
mod node;
mod note;
mod pki;
mod request;
mod session;
pub(crate) mod sighting;
pub mod tls_files;
mod token;
mod transport;
mod unlock;
pub mod versions;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use url::Url;
use vaultrs::api::pki::requests::SignCertificateRequest;

use crate::domain::clock::Heard;
use crate::domain::hidden;
use crate::domain::key::PrivateKey;
use crate::domain::name::{San, VaultName};
use crate::domain::rate::Pace;
use crate::domain::snapshot::VaultStatus;
use crate::domain::text::printable;
use crate::domain::time::Timestamp;
use endpoint::{Answer, CaChain, CaChainAnswer, LookupAnswer, LookupSelf, MountAnswer, MountOf, SignAnswer};
use tls_files::TlsFiles;
use transport::{Operation, Reply, Transport, locked};

pub use error::VaultError;
pub use kv::KvRead;
pub use login::{LOGINS_APART, Login, SERVICE_ACCOUNT_TOKEN, Way};
pub use note::{Notes, note_name};
pub use pki::{PkiCertificate, PkiIssuer};
pub use token::TokenFrom;
pub use unlock::Closed;

/// The fields of a secret, each as the JSON text that Vault holds, so that those which certd does
/// not know survive byte for byte.
pub type Fields = BTreeMap<String, Box<RawValue>>;

#[derive(Clone, Debug)]
pub struct Settings {
    pub name: VaultName,
    /// Of one and the same Vault, in order of preference; at least one.
    pub addresses: Vec<Url>,
    /// The DNS name that its certificate must have, where that is not the host of the address.
    pub server_name: Option<String>,
    /// DER; `None` trusts the system's.
    pub roots: Option<Vec<Vec<u8>>>,
    pub namespace: Option<String>,
    pub token: TokenFrom,
    /// For one request to one address, from connecting to the end of the answer.
    pub deadline: Duration,
}

/// What certd shows when it connects.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    pub key: PrivateKey,
}

pub struct Vault {
    pub name: VaultName,
    transport: Transport,
    /// Vault refuses a mount inside another.
    mounts: Mutex<Vec<Arc<Mount>>>,
    cas_conflicts: AtomicU64,
    token_expiry: Mutex<Option<Timestamp>>,
    /// How often sweeps may ask, by the time since `made`.
    pace: Option<Mutex<Pace>>,
    lease_term: Duration,
    /// Whose pending keys are kept below the same folder.
    staging_group: String,
    /// Seals them, where several instances share it.
    staging_key_file: Option<PathBuf>,
    deadline: Duration,
    made: Instant,
}

/// Where a path is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Without a trailing slash.
    pub path: String,
    /// Such as `kv` or `pki`.
    pub kind: String,
    /// Of the key-value store: 1 or 2. 1 for other kinds.
    pub version: u32,
    /// The longest life of what it gives out, in seconds; 0 for that of the server.
    pub max_lease_ttl: u64,
}

impl Mount {
    /// What of `path` is within it, without a slash at its beginning.
    fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        let below = path.strip_prefix(&self.path)?;
        below.strip_prefix('/').or(below.is_empty().then_some(below))
    }
}

/// What is asked of `pki/sign`.
#[derive(Clone, Copy, Debug)]
pub struct SignOrder<'a> {
    pub mount: &'a str,
    pub role: &'a str,
    /// PKCS#10 in PEM.
    pub csr: &'a str,
    pub common_name: Option<&'a str>,
    pub names: &'a [San],
    pub ttl: Option<Duration>,
}

/// PEM, as `pki/sign` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub certificate: String,
    pub issuing_ca: Option<String>,
    pub ca_chain: Vec<String>,
}

/// Longer than any step of a renewal takes.
pub const LEASE_TERM: Duration = Duration::from_secs(10 * 60);

/// Where the configuration names no group and the Vault has no environment.
pub const STAGING_GROUP: &str = "default";

impl Vault {
    /// Touches no network.
    pub fn new(settings: Settings) -> Result<Self, VaultError> {
        Self::with_client_certificate(settings, None)
    }

    pub fn with_client_certificate(
        settings: Settings,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Self, VaultError> {
        Ok(Self {
            transport: Transport::new(&settings, certificate)?,
            deadline: settings.deadline,
            lease_term: LEASE_TERM,
            staging_group: STAGING_GROUP.to_string(),
            staging_key_file: None,
            name: settings.name,
            mounts: Mutex::default(),
            cas_conflicts: AtomicU64::new(0),
            token_expiry: Mutex::default(),
            pace: None,
            made: Instant::now(),
        })
    }

    /// Has roots, client certificate and key read again from these files when they change, at the latest before the
    /// next login.
    pub fn with_tls_files(mut self, files: TlsFiles) -> Self {
        self.transport.nodes.watch(files);
        self
    }

    /// Whoever sweeps asks no more often than this, all together; what renewals ask is not held up.
    pub fn with_requests_per_second(self, rate: Option<u32>) -> Self {
        Self { pace: rate.map(|rate| Mutex::new(Pace::per_second(rate))), ..self }
    }

    /// Waits for the next turn of a sweep, before each of its requests.
    pub async fn pace(&self) {
        let Some(pace) = &self.pace else { return };
        let now = self.made.elapsed();
        let turn = locked(pace).take(now);
        if turn > now {
            tokio::time::sleep_until((self.made + turn).into()).await;
        }
    }

    pub async fn mount_of(&self, path: &str) -> Result<Mount, VaultError> {
        Ok(Mount::clone(&*self.mount_at(checked(path)?).await?))
    }

    /// `path` was checked.
    async fn mount_at(&self, path: &str) -> Result<Arc<Mount>, VaultError> {
        if let Some(mount) = self.known_mount(path) {
            return Ok(mount);
        }
        let reply = self.transport.call(Operation::Mount, MountOf { path: path.to_string() }).await?;
        let answer: MountAnswer = self.data(&reply)?;
        let version = answer.options.unwrap_or_default().remove("version");
        let mount = Arc::new(Mount {
            path: answer.path.trim_end_matches('/').to_string(),
            kind: answer.kind,
            version: version.and_then(|version| version.parse().ok()).unwrap_or(1),
            max_lease_ttl: answer.config.unwrap_or_default().max_lease_ttl,
        });
        let mut mounts = locked(&self.mounts);
        mounts.retain(|known| known.path != mount.path);
        mounts.push(mount.clone());
        Ok(mount)
    }

    fn known_mount(&self, path: &str) -> Option<Arc<Mount>> {
        locked(&self.mounts).iter().find(|mount| mount.below(path).is_some()).cloned()
    }

    /// Only ever `sign`: with `issue`, Vault would make the key, show it once and never again.
    pub async fn pki_sign(&self, order: SignOrder<'_>) -> Result<Signed, VaultError> {
        let (mount, role) = (checked(order.mount)?.to_string(), checked(order.role)?.to_string());
        let endpoint = SignCertificateRequest {
            mount: mount.clone(),
            role: role.clone(),
            csr: Some(order.csr.to_string()),
            common_name: order.common_name.map(str::to_string),
            // Without this, Vault adds the common name to the names.
            exclude_cn_from_sans: Some(true),
            alt_names: joined(order.names, |san| matches!(san, San::Dns(_) | San::Email(_))),
            ip_sans: joined(order.names, |san| matches!(san, San::Ip(_))),
            uri_sans: joined(order.names, |san| matches!(san, San::Uri(_))),
            ttl: order.ttl.map(|ttl| format!("{}s", ttl.as_secs())),
            ..Default::default()
        };
        let reply = self.transport.call(Operation::Sign, endpoint).await?;
        let answer: SignAnswer = self.data(&reply)?;
        if !reply.parse::<Answer<serde::de::IgnoredAny>>()?.lease_id.is_empty() {
            return Err(VaultError::Leased { mount, role, serial: hidden::words(&answer.serial_number) });
        }
        Ok(Signed {
            certificate: answer.certificate,
            issuing_ca: answer.issuing_ca,
            ca_chain: answer.ca_chain.unwrap_or_default(),
        })
    }

    /// Another instance may take a renewal over that has stood still for so long.
    pub fn lease_term(&self) -> Duration {
        self.lease_term
    }

    pub fn with_lease_term(self, lease_term: Duration) -> Self {
        Self { lease_term, ..self }
    }

    pub fn with_staging(self, group: String, key_file: Option<PathBuf>) -> Self {
        Self { staging_group: group, staging_key_file: key_file, ..self }
    }

    /// The folder below `certd/pending` where the pending keys of this configuration are kept.
    pub fn staging_group(&self) -> &str {
        &self.staging_group
    }

    pub fn staging_key_file(&self) -> Option<&Path> {
        self.staging_key_file.as_deref()
    }

    /// By then a request is answered, or its answer is lost. A redirect is followed once.
    pub fn answers_within(&self) -> Duration {
        self.deadline * 2
    }

    /// What it last said of the time, and how long ago.
    pub fn heard(&self) -> Option<Heard> {
        let (date, at) = locked(&self.transport.date).clone()?;
        let date = Timestamp::from_http_date(date.to_str().ok()?)?;
        Some(Heard { vault: self.name.clone(), date, age: at.elapsed() })
    }

    /// The CA's own chain in PEM, issuing CA first.
    pub async fn pki_ca_chain(&self, mount: &str) -> Result<String, VaultError> {
        let mount = checked(mount)?.to_string();
        let reply = self.transport.call(Operation::CaChain, CaChain { mount }).await?;
        Ok(self.data::<CaChainAnswer>(&reply)?.certificate)
    }

    /// Has reads show, from now on, everything that anybody wrote before `since`, whichever node answers them.
    pub async fn catch_up(&self, since: Instant) -> Result<(), VaultError> {
        self.transport.catch_up(since).await
    }

    /// When certd's token ends, by this host's clock; `None` for one that never does.
    pub async fn token_lookup(&self, now: Timestamp) -> Result<Option<Timestamp>, VaultError> {
        let expiry = self.look_up_token().await?.map(|left| now.plus(left));
        *locked(&self.token_expiry) = expiry;
        Ok(expiry)
    }

    /// How much is left of it.
    async fn look_up_token(&self) -> Result<Option<Duration>, VaultError> {
        let reply = self.transport.call(Operation::Lookup, LookupSelf {}).await?;
        let answer: LookupAnswer = self.data(&reply)?;
        let left = answer.expire_time.map(|_| Duration::from_secs(answer.ttl));
        self.transport.life.heard(left, Duration::from_secs(answer.creation_ttl));
        Ok(left)
    }

    /// When the token ends, if that is soon and nobody has renewed or replaced it in time.
    pub fn token_ends_soon(&self, now: Timestamp) -> Option<Timestamp> {
        self.transport.life.near_its_end().map(|left| now.plus(left))
    }

    /// Prolongs certd's own token while nothing else uses it, and watches one that others keep alive. Never ends.
    pub async fn tend(&self) {
        match self.transport.session() {
            Some(session) => session.tend(&self.transport).await,
            None => self.watch_token().await,
        }
    }

    async fn watch_token(&self) {
        loop {
            self.transport.life.time_to_look().await;
            // A turn tells of a token that cannot be looked up.
            if self.transport.life.near_its_end().is_some()
                && let Err(error) = self.look_up_token().await
            {
                tracing::debug!(vault = %self.name, "could not look up the token: {error}");
            }
        }
    }

    /// Revokes the token if certd logged in for it; one from a file is somebody else's. To be called last.
    pub async fn close(&self) -> Result<(), VaultError> {
        match self.transport.session() {
            Some(session) => session.close(&self.transport).await,
            None => Ok(()),
        }
    }

    /// As counted since start, and as last looked up.
    pub fn status(&self) -> VaultStatus {
        VaultStatus {
            vault: self.name.clone(),
            token_expiry: *locked(&self.token_expiry),
            requests: self.transport.requests(),
            cas_conflicts: self.cas_conflicts.load(Ordering::Relaxed),
        }
    }

    fn data<T: serde::de::DeserializeOwned>(&self, reply: &Reply) -> Result<T, VaultError> {
        reply.parse::<Answer<T>>()?.data.ok_or_else(|| reply.not_vault())
    }

    fn not_vault(&self) -> VaultError {
        self.transport.not_vault()
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("name", &self.name).field("address", &self.transport.nodes.address()).finish()
    }
}

/// Without slashes at the ends. The URL rules would drop `..` in silence and so reach another path.
fn checked(path: &str) -> Result<&str, VaultError> {
    let path = path.trim_matches('/');
    let odd =
        |segment: &str| segment.is_empty() || segment == "." || segment == ".." || segment.contains(char::is_control);
    if path.split('/').any(odd) { Err(VaultError::Path(printable(path))) } else { Ok(path) }
}

/// As Vault takes lists in one text.
fn joined(names: &[San], wanted: fn(&San) -> bool) -> Option<String> {
    let names: Vec<_> = names.iter().filter(|san| wanted(san)).map(San::to_string).collect();
    (!names.is_empty()).then(|| names.join(","))
}
