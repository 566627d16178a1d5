//! `certd check`: look once and say how things are. Needs no configuration for targets that are named.

mod targets;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::config::{self, Config};
use crate::cycle::Cycle;
use crate::cycle::setup::Setup;
use crate::daemon::about;
use crate::domain::inventory::Observation;
use crate::domain::plan::JournalView;
use crate::domain::policy::{Threshold, Thresholds};
use crate::domain::snapshot::Snapshot;
use crate::domain::time::Timestamp;
use crate::report::{self, Format};

use super::{journal_view, note_waits, words};
use targets::Looks;

const DEFAULT_CONFIG: &str = "/etc/certd/certd.toml";

/// A scan that takes longer than this shows that it lives.
const QUIET_FOR: Duration = Duration::from_secs(1);

/// As often as it is drawn.
const TICK: Duration = Duration::from_millis(250);

const EXAMPLES: &str = "\
Examples:
  certd check www.example.org:443 '10.0.0.7:443 sni=www.example.org'
  certd check '/etc/ssl/private/*.pem' --warn 14d --critical 3d
  certd check vault:secret/tls/web --format json
  certd check --config /etc/certd/certd.toml --format nagios";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CheckArguments {
    /// host:port, https://host, a file, a glob, or vault:secret/path; those of the configuration when none is named
    targets: Vec<String>,
    /// Read targets from a file, one a line; `-` is standard input
    #[arg(long, value_name = "FILE")]
    targets_file: Option<PathBuf>,
    /// The configuration, for its vaults and thresholds and, without targets, for what it names
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Warn when less is left: a share of the lifetime (20%) or a duration (14d) [default: a sixth]
    #[arg(long, value_name = "LEFT", value_parser = config::threshold)]
    warn: Option<Threshold>,
    /// Critical when less is left [default: a twentieth]
    #[arg(long, value_name = "LEFT", value_parser = config::threshold)]
    critical: Option<Threshold>,
    /// What chains of named targets must verify to: system, none, or a file [default: system for endpoints, else none]
    #[arg(long, value_name = "ROOTS")]
    roots: Option<String>,
    /// For one endpoint or one request
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = config::duration)]
    timeout: Duration,
    /// Endpoints that are looked at at once
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=512))]
    concurrency: u16,
}

pub async fn run(arguments: CheckArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let checked = check(&arguments, now).await;
    if let (Err(error), Format::Nagios) = (&checked, arguments.format) {
        // Nagios shows what a plugin prints there, and nothing else.
        super::print(&report::nagios::failed(&words::one_line(error)))?;
    }
    checked
}

async fn check(arguments: &CheckArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let named = targets::named(arguments)?;
    let config = configuration(arguments, named.is_empty())?;
    let thresholds = thresholds(arguments, &config)?;
    let journal = if named.is_empty() { journal_of(&config).await } else { JournalView::default() };
    let (setup, looks) = match named.is_empty() {
        true => (config::build::build(&config)?, Looks::default()),
        false => targets::setup(arguments, &config, &named)?,
    };
    let setup = Arc::new(Setup { thresholds, ..setup });
    let mut snapshot = look(setup.clone(), &journal, now).await;
    note_waits(&config, &setup, &journal, now()).await;
    setup.close().await;
    looks.complete(&mut snapshot);
    print(arguments, &setup, &snapshot)?;
    Ok(snapshot.worst().exit_code())
}

fn configuration(arguments: &CheckArguments, needed: bool) -> anyhow::Result<Config> {
    let default = Path::new(DEFAULT_CONFIG);
    let path = match &arguments.config {
        Some(path) => path,
        None if !needed => return Ok(config::minimal()),
        None if matches!(default.try_exists(), Ok(false)) => bail!(
            "nothing to check: name targets such as example.org:443, or a configuration by --config \
             (there is none at {DEFAULT_CONFIG})"
        ),
        None => default,
    };
    let config = super::load(path)?;
    if needed && config.sources.is_empty() && config.certificates.is_empty() && config.adopt.is_empty() {
        bail!("nothing to check: there is no source, no certificate and no adopt rule in {}", path.display());
    }
    Ok(config)
}

/// What is given on the command line beats the configuration. A share and a time cannot be compared
/// without a lifetime; for what reaches both at once, critical wins.
fn thresholds(arguments: &CheckArguments, config: &Config) -> anyhow::Result<Thresholds> {
    let configured = config.check.thresholds();
    let thresholds = Thresholds {
        warning: arguments.warn.unwrap_or(configured.warning),
        critical: arguments.critical.unwrap_or(configured.critical),
    };
    let is_below = match (thresholds.warning, thresholds.critical) {
        (Threshold::Share(warning), Threshold::Share(critical)) => warning < critical,
        (Threshold::Left(warning), Threshold::Left(critical)) => warning < critical,
        (Threshold::Share(_), Threshold::Left(_)) | (Threshold::Left(_), Threshold::Share(_)) => false,
    };
    match (is_below, arguments.warn.and(arguments.critical)) {
        (false, _) => Ok(thresholds),
        (true, Some(_)) => bail!("--warn is below --critical: the warning comes first, so give it the larger value"),
        (true, None) => bail!(
            "the warning threshold is below the critical one: give both --warn and --critical, the larger to --warn \
             (without them: those of the configuration, or a sixth and a twentieth of the lifetime)"
        ),
    }
}

/// Who checks need not be who runs the daemon, so an unreadable journal does not stop the check.
async fn journal_of(config: &Config) -> JournalView {
    journal_view(config).await.unwrap_or_else(|error| {
        eprintln!("certd: pauses and failed attempts are not shown: {}", words::one_line(&error));
        JournalView::default()
    })
}

async fn look(setup: Arc<Setup>, journal: &JournalView, now: fn() -> Timestamp) -> Snapshot {
    let progress = ProgressBar::hidden();
    let mut cycle = Cycle::new(setup, now);
    let heard = |_: &Observation| progress.inc(1);
    let mut look = pin!(cycle.look(journal, &heard));
    let snapshot = match tokio::time::timeout(QUIET_FOR, &mut look).await {
        Ok(snapshot) => snapshot,
        Err(_) => {
            show(&progress);
            look.await
        }
    };
    progress.finish_and_clear();
    snapshot
}

fn show(progress: &ProgressBar) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} looked at, {elapsed}") {
        progress.set_style(style);
    }
    progress.set_draw_target(ProgressDrawTarget::stderr_with_hz(4));
    progress.enable_steady_tick(TICK);
}

fn print(arguments: &CheckArguments, setup: &Setup, snapshot: &Snapshot) -> anyhow::Result<()> {
    let text = report::render(arguments.format, snapshot, super::look(), &about(setup));
    match arguments.format {
        Format::Table => super::print_painted(&text),
        Format::Json | Format::Nagios | Format::Prometheus => super::print(&text),
    }
}
