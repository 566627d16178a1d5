//! Which Vault a command speaks to: one of the configuration, or that of the `VAULT_*` environment.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use url::Url;
use zeroize::Zeroizing;

use crate::config::{self, Config};
use crate::domain::inventory::ENVIRONMENT_VAULT;
use crate::domain::name::VaultName;
use crate::pki::bundle::Bundle;
use crate::vault::{Settings, TokenFrom, Vault, VaultError};

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
        address,
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

fn ca_file(path: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let bytes = std::fs::read(path).with_context(|| format!("could not read VAULT_CACERT: {path}"))?;
    let bundle = Bundle::parse(&bytes).with_context(|| format!("could not understand VAULT_CACERT: {path}"))?;
    if bundle.certificates.is_empty() {
        bail!("there is no certificate in VAULT_CACERT: {path}");
    }
    Ok(bundle.certificates)
}
