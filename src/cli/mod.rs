//! One file per command.

mod access;
pub mod account;
mod adopt;
mod audit;
pub mod check;
mod config_check;
pub mod diff;
pub mod door;
pub mod explain;
pub mod history;
mod journal;
mod log;
pub mod pause;
pub mod plan;
mod reload;
pub mod renew;
mod revoke;
pub mod rollback;
mod secret;
mod unseen;
pub mod vault;
pub mod words;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, ConfigErrors};
use crate::control::Ended;
use crate::cycle::setup::Setup;
use crate::domain::plan::JournalView;
use crate::domain::text;
use crate::domain::time::Timestamp;
use crate::journal::Journal;
use crate::report::table::Look;

use access::JournalAccess;

const EXAMPLES: &str = "\
Examples:
  certd check www.example.org:443 '/etc/ssl/*.pem'   needs no configuration
  certd config check                                 what is wrong in /etc/certd/certd.toml
  certd plan                                         what the daemon would do now, and why
  certd run                                          the daemon, in the foreground";

/// Keeps certificates fresh: looks at them, knows when each is due, gets a new one, stores it.
#[derive(Debug, Parser)]
#[command(name = "certd", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look once and report: exit 0 ok, 1 warning, 2 critical, 3 unknown or usage error
    Check(check::CheckArguments),
    /// The daemon: every turn looks at everything and renews what is due, until SIGTERM
    Run(ConfigFile),
    /// Show what would be done and why; changes nothing: exit 0, or 3 where something could not be read
    Plan(plan::PlanArguments),
    /// Renew now: the certificates named, or all that are due; exit 0 done, 1 held or put off, 2 failed,
    /// 3 where something could not be read
    Renew(renew::RenewArguments),
    /// Have the issuer revoke a certificate that nothing serves any more: exit 0 done, 1 refused, 2 failed
    Revoke(revoke::RevokeArguments),
    /// Adopt a place that waits for a person, with the names it has now: exit 0 done, 1 refused
    Adopt(adopt::AdoptArguments),
    /// Release the names of a place that was adopted and is gone: exit 0 done, 1 refused or still there
    Forget(adopt::ForgetArguments),
    /// When a certificate is renewed, why, and from what that follows
    Explain(explain::ExplainArguments),
    /// Stop all acting, or that on one certificate, until a time
    Pause(pause::PauseArguments),
    /// End a pause
    Resume(pause::ResumeArguments),
    /// What is in flight, and what was done last
    Journal(journal::JournalArguments),
    /// Have the running certd read its configuration again: exit 0 done, 1 refused
    Reload(reload::ReloadArguments),
    /// The audit log: who did what
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// The versions of a secret in a Vault's KV version 2 store, newest first
    History(history::HistoryArguments),
    /// What changed between two versions of a secret; shows no key and no other value
    Diff(diff::DiffArguments),
    /// Write an older version of a secret again, as a new one: exit 0 done, 1 refused, 2 failed, 3 unknown
    Rollback(rollback::RollbackArguments),
    /// The account of an ACME issuer, and another key for it
    Account(account::AccountArguments),
    /// About the Vaults of the configuration
    #[command(subcommand)]
    Vault(vault::VaultCommand),
    /// About the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Read it and everything it names: line and column, what is wrong, what to do
    Check(ConfigFile),
}

#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", default_value = "/etc/certd/certd.toml")]
    config: PathBuf,
}

/// Why an act is asked for.
#[derive(Debug, Args)]
pub struct Reason {
    /// Why, for the audit log: a sentence or the number of a ticket
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub async fn run(arguments: Arguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    match arguments.command {
        Command::Check(arguments) => check::run(arguments, now).await,
        Command::Run(file) => daemon(&file.config, now).await,
        Command::Plan(arguments) => plan::run(arguments, now).await,
        Command::Renew(arguments) => renew::run(arguments, now).await,
        Command::Revoke(arguments) => revoke::run(arguments, now).await,
        Command::Adopt(arguments) => adopt::adopt(arguments, now).await,
        Command::Forget(arguments) => adopt::forget(arguments, now).await,
        Command::Account(arguments) => account::run(arguments, now).await,
        Command::Explain(arguments) => explain::run(arguments, now).await,
        Command::Pause(arguments) => pause::pause(arguments, now).await,
        Command::Resume(arguments) => pause::resume(arguments, now).await,
        Command::Journal(arguments) => journal::run(arguments, now).await,
        Command::Reload(arguments) => reload::run(arguments).await,
        Command::Audit(command) => audit::run(command).await,
        Command::History(arguments) => history::run(arguments, now).await,
        Command::Diff(arguments) => diff::run(arguments).await,
        Command::Rollback(arguments) => rollback::run(arguments, now).await,
        Command::Vault(command) => vault::run(command, now).await,
        Command::Config(ConfigCommand::Check(file)) => config_check::run(&file.config, now).await,
    }
}

async fn daemon(path: &Path, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let config = config::load(path)?;
    log::to_stderr(config.log.format, config.log.level);
    config.tolerated.iter().for_each(|tolerated| tracing::warn!("strict_modes = false lets this pass: {tolerated}"));
    // In the log, in its format: the words of the standard library would go between its lines.
    std::panic::set_hook(Box::new(|panic| tracing::error!("a bug in certd: {}", crate::hardening::place_of(panic))));
    crate::daemon::run(path, config, now).await?;
    Ok(0)
}

/// Reads the configuration, and tells what `strict_modes = false` lets pass.
fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let config = config::load(path)?;
    for tolerated in &config.tolerated {
        eprintln!("certd: strict_modes = false lets this pass: {}", text::message(&tolerated.to_string()));
    }
    Ok(config)
}

/// How a table is to look where it is printed to.
fn look() -> Look {
    let terminal = std::io::stdout().is_terminal();
    Look {
        color: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        width: terminal_size::terminal_size_of(std::io::stdout()).map(|(terminal_size::Width(width), _)| width),
    }
}

/// To the standard output. Whatever is in it, nothing but newlines moves a cursor.
fn print(text: &str) -> anyhow::Result<()> {
    print_painted(&text::lines(text))
}

/// The same for a table, which colours its lines and lets no other control character through; whoever has stopped
/// reading it.
fn print_painted(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // `certd check | head` is no failure of ours, and the exit code still tells the state.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("could not print the report")
        }
        _ => Ok(()),
    }
}

/// The exit code is that of `revoke` and `account`.
fn ended(ended: Ended) -> anyhow::Result<u8> {
    let (line, code) = match ended {
        Ended::Done(line) => (line, 0),
        Ended::Refused(line) => (line, 1),
        Ended::Failed(line) => (line, 2),
    };
    print(&(line + "\n"))?;
    Ok(code)
}

/// For commands that change nothing: a journal that was never begun is not begun by looking.
async fn journal_view(config: &Config) -> anyhow::Result<JournalView> {
    if !Journal::exists(&config.state_dir) {
        return Ok(JournalView::default());
    }
    JournalAccess::open(config)?.view().await.context("could not learn what was attempted so far")
}

/// What issuers asked a command that only looks is there for every later certd.
async fn note_waits(config: &Config, setup: &Setup, known: &JournalView, now: Timestamp) {
    let waits = setup.unnoted_waits(known, now);
    // Looking begins no journal.
    if waits.is_empty() || !Journal::exists(&config.state_dir) {
        return;
    }
    let noted = match JournalAccess::open(config) {
        Ok(journal) => journal.note_waits(now, waits).await,
        Err(error) => Err(error),
    };
    if let Err(error) = noted {
        eprintln!("certd: an issuer asks to be left alone, which could not be noted: {}", words::one_line(&error));
    }
}
