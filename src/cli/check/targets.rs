//! Targets as they are named on the command line, made into sources.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use url::Url;
use zeroize::Zeroizing;

use crate::config::{self, Config};
use crate::cycle::setup::Setup;
use crate::domain::check::{Problem, ProblemKind, State};
use crate::domain::inventory::{ENVIRONMENT_VAULT, Location, Observation, Sighting};
use crate::domain::name::{SourceName, VaultName};
use crate::domain::snapshot::{Entry, Snapshot};
use crate::pki::bundle::Bundle;
use crate::pki::roots::Roots;
use crate::source::Source;
use crate::source::file::FileSource;
use crate::source::path_glob::PathGlob;
use crate::source::target::CheckTarget;
use crate::source::tls::TlsSource;
use crate::source::vault_kv::{CONCURRENCY, VaultKvSource};
use crate::vault::{Settings, TokenFrom, Vault};

use super::CheckArguments;

/// Lists of targets are small; this is a wrong file.
const LARGEST_LIST: u64 = 64 * 1024 * 1024;

/// The targets of the command line and of `--targets-file`, in their order.
pub fn named(arguments: &CheckArguments) -> anyhow::Result<Vec<CheckTarget>> {
    let mut texts = arguments.targets.clone();
    if let Some(path) = &arguments.targets_file {
        let list = read_list(path).with_context(|| format!("could not read the targets: {}", path.display()))?;
        let lines = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let before = texts.len();
        texts.extend(lines.map(str::to_string));
        if texts.len() == before {
            bail!("there is no target in the list: {}", path.display());
        }
    }
    texts.iter().map(|text| Ok(text.parse()?)).collect()
}

fn read_list(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    match path.as_os_str() == "-" {
        true => std::io::stdin().lock().take(LARGEST_LIST).read_to_string(&mut text)?,
        false => std::fs::File::open(path)?.take(LARGEST_LIST).read_to_string(&mut text)?,
    };
    Ok(text)
}

/// One source for the endpoints, one for each other target, named as the target is.
pub fn setup(arguments: &CheckArguments, config: &Config, named: &[CheckTarget]) -> anyhow::Result<Setup> {
    let mut build = Builder { arguments, config, vaults: BTreeMap::new() };
    let mut sources = Vec::new();
    let endpoints: Vec<Location> = named.iter().filter_map(endpoint).collect();
    if !endpoints.is_empty() {
        sources.push(Source::Tls(TlsSource {
            name: SourceName::from("tls"),
            environment: None,
            targets: endpoints,
            timeout: arguments.timeout,
            concurrency: usize::from(arguments.concurrency),
            roots: build.roots("system")?,
        }));
    }
    for target in named {
        sources.extend(build.source(target)?);
    }
    Ok(Setup {
        act: true,
        interval: Duration::ZERO,
        max_renewals: 0,
        thresholds: config.check.thresholds(),
        sources,
        adopted: Vec::new(),
        declared: Vec::new(),
        places: BTreeMap::new(),
        issuers: BTreeMap::new(),
        vaults: BTreeMap::new(),
        hash: config.hash.clone(),
    })
}

fn endpoint(target: &CheckTarget) -> Option<Location> {
    match target {
        CheckTarget::Endpoint(location) => Some(location.clone()),
        CheckTarget::File(_) | CheckTarget::Glob(_) | CheckTarget::Vault(_) => None,
    }
}

fn source_name(target: &CheckTarget) -> SourceName {
    match target {
        CheckTarget::Endpoint(_) => SourceName::from("tls"),
        CheckTarget::File(path) => SourceName(path.display().to_string()),
        CheckTarget::Glob(glob) => SourceName(glob.clone()),
        CheckTarget::Vault(path) => SourceName(format!("vault:{path}")),
    }
}

struct Builder<'a> {
    arguments: &'a CheckArguments,
    config: &'a Config,
    vaults: BTreeMap<VaultName, Arc<Vault>>,
}

impl Builder<'_> {
    fn source(&mut self, target: &CheckTarget) -> anyhow::Result<Option<Source>> {
        let pattern = match target {
            CheckTarget::Endpoint(_) => return Ok(None),
            CheckTarget::Vault(path) => return self.vault_source(target, path).map(Some),
            CheckTarget::File(path) => path.display().to_string(),
            CheckTarget::Glob(glob) => glob.clone(),
        };
        Ok(Some(Source::File(FileSource {
            name: source_name(target),
            environment: None,
            patterns: vec![pattern],
            roots: self.roots("none")?,
        })))
    }

    fn vault_source(&mut self, target: &CheckTarget, path: &str) -> anyhow::Result<Source> {
        let (name, path) = self.vault_and_path(path)?;
        Ok(Source::VaultKv(VaultKvSource {
            name: source_name(target),
            environment: None,
            vault: self.vault(name)?,
            paths: vec![PathGlob::new(path)?],
            exclude: Vec::new(),
            concurrency: CONCURRENCY,
            roots: self.roots("none")?,
        }))
    }

    /// `vault:NAME:path` where the configuration has several.
    fn vault_and_path<'p>(&self, path: &'p str) -> anyhow::Result<(VaultName, &'p str)> {
        if let Some((name, rest)) = path.split_once(':').filter(|(name, _)| self.config.vaults.contains_key(*name)) {
            return Ok((VaultName::from(name), rest));
        }
        let mut names = self.config.vaults.keys();
        match (names.next(), names.next()) {
            (None, _) => Ok((VaultName::from(ENVIRONMENT_VAULT), path)),
            (Some(only), None) => Ok((VaultName::from(only.as_str()), path)),
            (Some(first), Some(_)) => bail!("the configuration has several vaults: write vault:{first}:{path}"),
        }
    }

    fn vault(&mut self, name: VaultName) -> anyhow::Result<Arc<Vault>> {
        if let Some(vault) = self.vaults.get(&name) {
            return Ok(vault.clone());
        }
        let vault = match name.0 == ENVIRONMENT_VAULT {
            true => Arc::new(Vault::new(environment(self.arguments.timeout)?)?),
            false => {
                let built = config::build::build(self.config)?.vaults;
                built.get(&name).cloned().context("the vault is declared")?
            }
        };
        self.vaults.insert(name, vault.clone());
        Ok(vault)
    }

    fn roots(&self, default: &str) -> anyhow::Result<Arc<Roots>> {
        Ok(Arc::new(match self.arguments.roots.as_deref().unwrap_or(default) {
            "system" => Roots::system()?,
            "none" => Roots::none(),
            path => Roots::from_files(&[PathBuf::from(path)])?,
        }))
    }
}

/// As the `vault` and `bao` commands read it: VAULT_ADDR, VAULT_TOKEN or ~/.vault-token, VAULT_CACERT,
/// VAULT_NAMESPACE.
fn environment(deadline: Duration) -> anyhow::Result<Settings> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let address = variable("VAULT_ADDR").context("a vault: target needs VAULT_ADDR, or a configuration by --config")?;
    let token = match variable("VAULT_TOKEN") {
        Some(token) => TokenFrom::Given(Zeroizing::new(token)),
        None => {
            let home = variable("HOME").context("a vault: target needs VAULT_TOKEN, or HOME for ~/.vault-token")?;
            let file = PathBuf::from(home).join(".vault-token");
            if !file.exists() {
                bail!("a vault: target needs a token: set VAULT_TOKEN, or log in with `vault login` or `bao login`");
            }
            TokenFrom::File(file)
        }
    };
    Ok(Settings {
        name: VaultName::from(ENVIRONMENT_VAULT),
        address: Url::parse(&address).with_context(|| format!("VAULT_ADDR is not an address: {address:?}"))?,
        roots: variable("VAULT_CACERT").map(|path| ca_file(&path)).transpose()?,
        namespace: variable("VAULT_NAMESPACE"),
        token,
        deadline,
    })
}

fn ca_file(path: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let bytes = std::fs::read(path).with_context(|| format!("could not read VAULT_CACERT: {path}"))?;
    let bundle = Bundle::parse(&bytes).with_context(|| format!("could not understand VAULT_CACERT: {path}"))?;
    if bundle.certificates.is_empty() {
        bail!("there is no certificate in VAULT_CACERT: {path}");
    }
    Ok(bundle.certificates)
}

/// A glob that somebody typed and that matches nothing was read and is empty, which is not ok.
pub fn note_empty(snapshot: &mut Snapshot, named: &[CheckTarget]) {
    for target in named {
        let name = source_name(target);
        let is_empty = snapshot.sources.iter().any(|source| source.source == name && source.up && source.items == 0);
        let location = match target {
            CheckTarget::Endpoint(_) => continue,
            CheckTarget::File(path) => Location::File { path: path.clone(), part: None },
            CheckTarget::Glob(glob) => Location::File { path: PathBuf::from(glob), part: None },
            CheckTarget::Vault(path) => {
                Location::Secret { vault: VaultName::from(ENVIRONMENT_VAULT), path: path.clone(), part: None }
            }
        };
        if is_empty && snapshot.entries.iter().all(|entry| entry.observation.location != location) {
            snapshot.entries.push(missing(location, name, snapshot));
        }
    }
}

fn missing(location: Location, source: SourceName, snapshot: &Snapshot) -> Entry {
    let sighting = Sighting::Absent;
    let observed_at = snapshot.taken_at;
    Entry {
        observation: Observation { location, source, environment: None, observed_at, sighting, took: None },
        problems: vec![Problem::critical(ProblemKind::Missing, "no certificate was found here")],
        state: State::Critical,
        managed: None,
    }
}
