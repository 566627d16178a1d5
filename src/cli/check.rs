//! `certd check`: look once and say how things are. Needs no configuration for targets that are named.

mod targets;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::config::{self, Config};
use crate::cycle::Cycle;
use crate::cycle::setup::Setup;
use crate::daemon::about;
use crate::domain::plan::JournalView;
use crate::domain::policy::{Threshold, Thresholds};
use crate::domain::snapshot::Snapshot;
use crate::domain::time::Timestamp;
use crate::report::{self, Format, table::Look};

use super::{journal_view, words};

const DEFAULT_CONFIG: &str = "/etc/certd/certd.toml";

/// A scan that takes longer than this shows that it lives.
const QUIET_FOR: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
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
    let named = targets::named(&arguments)?;
    let config = configuration(&arguments, named.is_empty())?;
    let thresholds = thresholds(&arguments, &config);
    let journal = if named.is_empty() { journal_of(&config).await } else { JournalView::default() };
    let setup = match named.is_empty() {
        true => config::build::build(&config)?,
        false => targets::setup(&arguments, &config, &named)?,
    };
    let setup = Arc::new(Setup { thresholds, ..setup });
    let progress = progress(named.len());
    let mut snapshot = Cycle::new(setup.clone(), now).look(&journal, |_| progress.inc(1)).await;
    progress.finish_and_clear();
    targets::note_empty(&mut snapshot, &named);
    print(&arguments, &setup, &snapshot)?;
    Ok(snapshot.worst().exit_code())
}

fn configuration(arguments: &CheckArguments, needed: bool) -> anyhow::Result<Config> {
    match &arguments.config {
        Some(path) => Ok(config::load(path)?),
        None if !needed => Ok(config::minimal()),
        None => config::load(DEFAULT_CONFIG.as_ref())
            .context("nothing to check: name targets such as example.org:443, or a configuration by --config"),
    }
}

/// What is given on the command line beats the configuration; a mark alone must still leave them in order.
fn thresholds(arguments: &CheckArguments, config: &Config) -> Thresholds {
    let configured = config.check.thresholds();
    Thresholds {
        warning: arguments.warn.unwrap_or(configured.warning),
        critical: arguments.critical.unwrap_or(configured.critical),
    }
}

/// Who checks need not be who runs the daemon, so an unreadable journal does not stop the check.
async fn journal_of(config: &Config) -> JournalView {
    journal_view(config).await.unwrap_or_else(|error| {
        eprintln!("certd: pauses and failed attempts are not shown: {}", words::one_line(&error));
        JournalView::default()
    })
}

fn progress(targets: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} looked at, {elapsed}") {
        bar.set_style(style);
    }
    // A handful answers before anybody wonders.
    if targets > 1 || targets == 0 {
        bar.enable_steady_tick(QUIET_FOR);
    }
    bar
}

fn print(arguments: &CheckArguments, setup: &Setup, snapshot: &Snapshot) -> anyhow::Result<()> {
    let terminal = std::io::stdout().is_terminal();
    let look = Look {
        color: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        width: if terminal { comfy_table::Table::new().width() } else { None },
    };
    let text = report::render(arguments.format, snapshot, look, &about(setup));
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // `certd check | head` is no failure of ours, and the exit code still tells the state.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => bail!("could not print the report: {error}"),
        _ => Ok(()),
    }
}
