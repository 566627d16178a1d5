//! One secret that a command is about, and the Vault that keeps it: one of the configuration, or that of the
//! `VAULT_*` environment.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use url::Url;
use zeroize::Zeroizing;

use crate::config::{self, Config};
use crate::domain::inventory::{ENVIRONMENT_VAULT, Location, Part, secret_and_object};
use crate::domain::name::VaultName;
use crate::files::regular;
use crate::pki::NotUnderstood;
use crate::pki::bundle::{Bundle, Kept};
use crate::vault::versions::{VersionRead, gone};
use crate::vault::{Fields, Settings, TokenFrom, Vault, VaultError};

/// What every command about one secret takes.
#[derive(Debug, Args)]
pub struct VaultArguments {
    /// The configuration, for its vaults; without one, the Vault of VAULT_ADDR and VAULT_TOKEN or ~/.vault-token
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// For one request to the Vault of the environment
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = config::duration)]
    timeout: Duration,
}

/// One secret in the Vault that keeps it.
pub struct Secret {
    pub vault: Arc<Vault>,
    /// Mount and path, without `data/`.
    pub path: String,
    /// Of the objects that hold certificates, where there are several.
    pub object: Option<String>,
    pub config: Config,
}

impl VaultArguments {
    /// `written` as an operator writes it: `secret/path`, `vault:secret/path` or `vault:NAME:secret/path`, and behind
    /// any of them `#object`.
    pub fn secret(&self, written: &str) -> anyhow::Result<Secret> {
        let config = self.config.as_deref().map_or_else(|| Ok(config::minimal()), config::load)?;
        let (name, path) = named(&config, written.strip_prefix("vault:").unwrap_or(written))?;
        let (path, object) = secret_and_object(path);
        let (vault, path) = (open(&config, &name, self.timeout)?, path.trim_matches('/').to_string());
        Ok(Secret { vault, path, object, config })
    }
}

impl Secret {
    /// To be called last. A token that cannot be revoked now ends by itself.
    pub async fn log_out(&self) {
        if let Err(error) = self.vault.close().await {
            tracing::debug!("the token was not revoked: {error}");
        }
    }

    pub fn location(&self) -> Location {
        let part = self.object.clone().map(Part::Object);
        Location::Secret { vault: self.vault.name.clone(), path: self.path.clone(), part }
    }

    /// The certificate in the fields of a version, or why there is none to be understood.
    pub async fn certificate(&self, fields: &Fields) -> anyhow::Result<Result<Kept, NotUnderstood>> {
        let read = self.vault.certificate(&self.path, self.object.as_deref(), fields).await;
        let read = read.with_context(|| format!("could not read {}", self.location()))?;
        Ok(read.map(|(_, kept)| kept))
    }

    /// The fields of a version that is there; where it is not, says why and what to do.
    pub async fn fields_of(&self, number: u64) -> anyhow::Result<(VersionRead, Fields)> {
        let location = self.location();
        let read = match self.vault.catch_up(Instant::now()).await {
            Ok(()) => self.vault.version(&self.path, Some(number)).await,
            Err(error) => Err(error),
        };
        let mut read = read.with_context(|| format!("could not read version {number} of {location}"))?;
        let fields = read.as_mut().and_then(|read| read.fields.take());
        match (read, fields) {
            (Some(read), Some(fields)) => Ok((read, fields)),
            (read, _) => bail!("{}", gone(&location, number, read.map(|read| read.version))),
        }
    }
}

/// `NAME:path` where the configuration has several.
pub fn named<'p>(config: &Config, written: &'p str) -> anyhow::Result<(VaultName, &'p str)> {
    if let Some((name, rest)) = written.split_once(':').filter(|(name, _)| config.vaults.contains_key(*name)) {
        return Ok((VaultName::from(name), rest));
    }
    let mut names = config.vaults.keys();
    match (names.next(), names.next()) {
        (None, _) => Ok((VaultName::from(ENVIRONMENT_VAULT), written)),
        (Some(only), None) => Ok((VaultName::from(only.as_str()), written)),
        (Some(first), Some(_)) => bail!("the configuration has several vaults: write vault:{first}:{written}"),
    }
}

/// `deadline` is for the Vault of the environment; those of the configuration have their own.
pub fn open(config: &Config, name: &VaultName, deadline: Duration) -> anyhow::Result<Arc<Vault>> {
    match name.0 == ENVIRONMENT_VAULT {
        true => Ok(Arc::new(Vault::new(environment(deadline)?)?)),
        false => {
            let built = config::build::build(config)?.vaults;
            built.get(name).cloned().context("the vault is declared")
        }
    }
}

/// As the `vault` and `bao` commands read it: VAULT_ADDR, VAULT_TOKEN or ~/.vault-token, VAULT_CACERT,
/// VAULT_NAMESPACE.
fn environment(deadline: Duration) -> anyhow::Result<Settings> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let address = variable("VAULT_ADDR")
        .context("set VAULT_ADDR to the address of Vault, or give a configuration by --config")?;
    let address = Url::parse(&address)
        .with_context(|| format!("VAULT_ADDR is not an address such as https://vault.example.org:8200: {address:?}"))?;
    let token = match variable("VAULT_TOKEN") {
        Some(token) => TokenFrom::Given(Zeroizing::new(token)),
        None => TokenFrom::File(token_file(variable("HOME"))?),
    };
    Ok(Settings {
        name: VaultName::from(ENVIRONMENT_VAULT),
        addresses: vec![address],
        server_name: None,
        roots: variable("VAULT_CACERT").map(|path| ca_file(&path)).transpose()?,
        namespace: variable("VAULT_NAMESPACE"),
        token,
        deadline,
    })
}

/// Where `vault login` and `bao login` leave it.
fn token_file(home: Option<String>) -> Result<PathBuf, VaultError> {
    let why = "set VAULT_TOKEN, or log in by `vault login` or `bao login`; there is nothing in";
    let file = home.map(|home| PathBuf::from(home).join(".vault-token"));
    match file {
        Some(file) if !matches!(file.try_exists(), Ok(false)) => Ok(file),
        Some(file) => Err(VaultError::Token { place: file.display().to_string(), why }),
        None => Err(VaultError::Token { place: "~/.vault-token".to_string(), why }),
    }
}

/// In bytes. The CA bundle of an operating system has a tenth of it.
const LARGEST_CA_FILE: u64 = 2 * 1024 * 1024;

fn ca_file(path: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let bytes = regular::read(Path::new(path), LARGEST_CA_FILE)
        .with_context(|| format!("could not read VAULT_CACERT: {path}"))?;
    let bundle = Bundle::parse(&bytes).with_context(|| format!("could not understand VAULT_CACERT: {path}"))?;
    if bundle.certificates.is_empty() {
        bail!("there is no certificate in VAULT_CACERT: {path}");
    }
    Ok(bundle.certificates)
}
