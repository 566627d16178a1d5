//! Targets as they are named on the command line, made into sources.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::audit::head::HeadExport;
use crate::config::Config;
use crate::cycle::setup::Setup;
use crate::domain::check::{Problem, ProblemKind, State};
use crate::domain::inventory::{Location, Observation, Obstacle, ObstacleKind, Sighting, secret_and_object};
use crate::domain::name::{SourceName, VaultName};
use crate::domain::snapshot::{Entry, Snapshot, SourceStatus};
use crate::domain::time::Timestamp;
use crate::files::regular;
use crate::pki::roots::Roots;
use crate::source::Source;
use crate::source::file::FileSource;
use crate::source::path_glob::PathGlob;
use crate::source::target::CheckTarget;
use crate::source::tls::TlsSource;
use crate::source::vault_kv::{CONCURRENCY, VaultKvSource};
use crate::vault::{Vault, VaultError};

use super::CheckArguments;
use crate::cli::{door, secret, words};

/// In bytes. Half a million targets fit; more is a wrong file.
const LARGEST_LIST: u64 = 16 * 1024 * 1024;

/// The targets of the command line and of `--targets-file`, in their order, each once.
pub fn named(arguments: &CheckArguments) -> anyhow::Result<Vec<CheckTarget>> {
    let mut targets = Vec::new();
    for text in &arguments.targets {
        targets.push(text.parse()?);
    }
    if let Some(path) = &arguments.targets_file {
        targets.extend(listed(path)?);
    }
    let mut seen = HashSet::new();
    targets.retain(|target: &CheckTarget| seen.insert(target.clone()));
    Ok(targets)
}

fn listed(path: &Path) -> anyhow::Result<Vec<CheckTarget>> {
    let list = match path.as_os_str() == "-" {
        true => read_list(std::io::stdin().lock()),
        false => regular::open(path).map_err(Into::into).and_then(|(file, _)| read_list(file)),
    };
    let list = list.with_context(|| format!("could not read the targets: {}", path.display()))?;
    if let Some(why) = door::refused_line(&list) {
        bail!("could not read the targets: {}: {why}", path.display());
    }
    let mut targets = Vec::new();
    // Editors of Windows begin a file with a mark that shows nowhere.
    for (i, line) in list.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            targets.push(line.parse().with_context(|| format!("line {} of {}", i + 1, path.display()))?);
        }
    }
    match targets.is_empty() {
        true => bail!("there is no target in the list: {}", path.display()),
        false => Ok(targets),
    }
}

fn read_list(from: impl Read) -> anyhow::Result<String> {
    let mut text = String::new();
    from.take(LARGEST_LIST + 1).read_to_string(&mut text)?;
    match text.len() as u64 > LARGEST_LIST {
        true => bail!("it has more than {LARGEST_LIST} bytes, which a list of targets has not"),
        false => Ok(text),
    }
}

/// What the sweep itself does not tell of the targets that somebody wrote out.
#[derive(Default)]
pub struct Looks {
    /// Whatever is found to be empty here was named all the same.
    places: Vec<(SourceName, Location)>,
    /// There is nothing to look with.
    blind: Vec<(SourceName, Location, Obstacle)>,
}

/// One source for the endpoints, one for each other target, named as the target is.
pub fn setup(arguments: &CheckArguments, config: &Config, named: &[CheckTarget]) -> anyhow::Result<(Setup, Looks)> {
    let mut build =
        Builder { arguments, config, vaults: BTreeMap::new(), sources: Vec::new(), looks: Looks::default() };
    let endpoints: Vec<Location> = named.iter().filter_map(endpoint).collect();
    if !endpoints.is_empty() {
        let roots = build.roots("system")?;
        build.sources.push(Source::Tls(TlsSource {
            name: SourceName::from("tls"),
            environment: None,
            targets: endpoints,
            addresses: Arc::new(config.addresses()),
            timeout: arguments.timeout,
            concurrency: usize::from(arguments.concurrency),
            roots,
        }));
    }
    for target in named {
        build.add(target)?;
    }
    let Builder { sources, looks, vaults, .. } = build;
    let setup = Setup {
        act: true,
        interval: Duration::ZERO,
        max_renewals: 0,
        thresholds: config.check.thresholds(),
        same_key_renewals: None,
        addresses: Arc::default(),
        sources,
        adopted: Vec::new(),
        declared: Vec::new(),
        places: BTreeMap::new(),
        issuers: BTreeMap::new(),
        vaults,
        audit_head: HeadExport::default(),
        hash: config.hash.clone(),
    };
    Ok((setup, looks))
}

fn endpoint(target: &CheckTarget) -> Option<Location> {
    match target {
        CheckTarget::Endpoint(location) => Some(location.clone()),
        CheckTarget::File(_) | CheckTarget::Glob(_) | CheckTarget::Vault(_) => None,
    }
}

struct Builder<'a> {
    arguments: &'a CheckArguments,
    config: &'a Config,
    vaults: BTreeMap<VaultName, Arc<Vault>>,
    sources: Vec<Source>,
    looks: Looks,
}

impl Builder<'_> {
    fn add(&mut self, target: &CheckTarget) -> anyhow::Result<()> {
        match target {
            CheckTarget::Endpoint(_) => Ok(()),
            CheckTarget::File(path) => self.add_file(path.display().to_string()),
            CheckTarget::Glob(glob) => self.add_file(glob.clone()),
            CheckTarget::Vault(path) => self.add_secret(path),
        }
    }

    fn add_file(&mut self, pattern: String) -> anyhow::Result<()> {
        let name = SourceName(pattern.clone());
        let location = Location::File { path: PathBuf::from(&pattern), part: None };
        let roots = self.roots("none")?;
        self.looks.places.push((name.clone(), location));
        self.sources.push(Source::File(FileSource { name, environment: None, patterns: vec![pattern], roots }));
        Ok(())
    }

    fn add_secret(&mut self, written: &str) -> anyhow::Result<()> {
        let name = SourceName(format!("vault:{written}"));
        let (vault_name, path) = secret::named(self.config, written)?;
        let (path, object) = secret_and_object(path);
        anyhow::ensure!(object.is_none(), "a secret is checked whole: write it without # and what follows");
        let paths = vec![PathGlob::new(&path)?];
        let location = Location::Secret { vault: vault_name.clone(), path, part: None };
        let roots = self.roots("none")?;
        match self.vault(vault_name) {
            Err(error) => {
                let obstacle = obstacle(&location, &error);
                self.looks.blind.push((name, location, obstacle));
            }
            Ok(vault) => {
                self.looks.places.push((name.clone(), location));
                let (exclude, concurrency) = (Vec::new(), CONCURRENCY);
                let source = VaultKvSource { name, environment: None, vault, paths, exclude, concurrency, roots };
                self.sources.push(Source::VaultKv(source));
            }
        }
        Ok(())
    }

    fn vault(&mut self, name: VaultName) -> anyhow::Result<Arc<Vault>> {
        if let Some(vault) = self.vaults.get(&name) {
            return Ok(vault.clone());
        }
        let vault = secret::open(self.config, &name, self.arguments.timeout)?;
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

/// Why there is no Vault to ask; the other targets are looked at all the same.
fn obstacle(location: &Location, error: &anyhow::Error) -> Obstacle {
    match error.downcast_ref::<VaultError>() {
        Some(error) => error.obstacle(&format!("read {location}")),
        None => {
            let message = format!("could not read {location}: {}", words::one_line(error));
            Obstacle::new(ObstacleKind::NotUnderstood, message)
        }
    }
}

impl Looks {
    /// A glob that somebody wrote and that matches nothing was read and is empty, which is not ok.
    pub fn complete(self, snapshot: &mut Snapshot) {
        let empty: HashSet<&SourceName> =
            snapshot.sources.iter().filter(|source| source.up && source.items == 0).map(|it| &it.source).collect();
        let told: HashSet<&Location> = snapshot.entries.iter().map(|entry| &entry.observation.location).collect();
        let mut places = self.places;
        places.retain(|(name, location)| empty.contains(name) && !told.contains(location));
        let missing = |(name, location)| entry(snapshot.taken_at, name, location, Sighting::Absent);
        let mut added: Vec<Entry> = places.into_iter().map(missing).collect();
        for (name, location, obstacle) in self.blind {
            let errors = vec![(obstacle.obstacle, 1)];
            snapshot.sources.push(SourceStatus {
                source: name.clone(),
                up: false,
                last_success: None,
                items: 1,
                errors,
            });
            added.push(entry(snapshot.taken_at, name, location, Sighting::Unknown(obstacle)));
        }
        snapshot.entries.extend(added);
        snapshot.entries.sort_by(|a, b| a.observation.location.cmp(&b.observation.location));
    }
}

fn entry(observed_at: Timestamp, source: SourceName, location: Location, sighting: Sighting) -> Entry {
    let observation = Observation { location, source, environment: None, observed_at, sighting, took: None };
    let problems = match observation.sighting {
        Sighting::Absent => vec![Problem::critical(ProblemKind::Missing, "no certificate was found here")],
        Sighting::Deleted(_) | Sighting::Unknown(_) | Sighting::Found(_) | Sighting::Crl(_) => Vec::new(),
    };
    Entry { state: State::of(&observation, &problems), observation, problems, managed: None }
}
