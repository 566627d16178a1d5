//! `certd audit verify` and `certd audit export`: whether the audit log is whole, and what it tells.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};

use super::ConfigFile;
use crate::audit::chain::Head;
use crate::audit::export::{ExportError, Filter, Format, export};
use crate::audit::verify::{self, verify};
use crate::audit::{self, peer};
use crate::control::Client;
use crate::domain::name::CertName;
use crate::domain::text::message;
use crate::domain::time::Timestamp;

const BROKEN: u8 = 2;

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Verify the chain of the audit log: exit 0 whole, 2 broken, 3 unreadable
    Verify(VerifyArguments),
    /// Print the audit log for other programs
    Export(ExportArguments),
}

#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// The files of the log, oldest first; without any, those in the state directory
    files: Vec<PathBuf>,
    /// A head that was noted in Vault or syslog: the log must hold it, so that a removed end shows
    #[arg(long, value_name = "SEQUENCE:HASH")]
    head: Option<Head>,
    /// The head of the files before these, where those are kept elsewhere
    #[arg(long, value_name = "SEQUENCE:HASH")]
    after: Option<Head>,
    #[command(flatten)]
    file: ConfigFile,
}

#[derive(Debug, Args)]
pub struct ExportArguments {
    /// The files of the log, oldest first; without any, those in the state directory
    files: Vec<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: ExportFormat,
    /// From this instant on, such as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "T", value_parser = instant)]
    since: Option<Timestamp>,
    /// Before this instant
    #[arg(long, value_name = "T", value_parser = instant)]
    until: Option<Timestamp>,
    /// Of one certificate alone
    #[arg(long, value_name = "NAME")]
    certificate: Option<String>,
    #[command(flatten)]
    file: ConfigFile,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ExportFormat {
    /// A line each, as it is in the log
    #[default]
    Json,
    /// For spreadsheets (RFC 4180)
    Csv,
}

fn instant(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "not an instant such as 2027-01-31T12:00:00Z".to_string())
}

pub async fn run(command: AuditCommand) -> anyhow::Result<u8> {
    match command {
        AuditCommand::Verify(arguments) => verified(arguments).await,
        AuditCommand::Export(arguments) => exported(arguments),
    }
}

/// A certd that runs answers at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Returns the head that a running certd wrote last. The log must hold it; where none runs, nobody can say.
async fn running_head(state_dir: &Path) -> Option<Head> {
    let client = Client::new(state_dir, peer::said(None)).ok()?;
    tokio::time::timeout(ANSWER_WITHIN, client.audit_head()).await.ok()?.ok()?
}

fn opened(named: &[PathBuf], file: &ConfigFile) -> anyhow::Result<Vec<(PathBuf, File)>> {
    if !named.is_empty() {
        return Ok(verify::open(named)?);
    }
    opened_own(&super::load(&file.config)?.state_dir)
}

fn opened_own(directory: &Path) -> anyhow::Result<Vec<(PathBuf, File)>> {
    let listed = audit::files(directory);
    let paths = listed.with_context(|| format!("could not look for the audit log in {}", directory.display()))?;
    if paths.is_empty() {
        bail!("there is no audit log yet in {}", directory.display());
    }
    Ok(verify::open_own(&paths)?)
}

async fn verified(arguments: VerifyArguments) -> anyhow::Result<u8> {
    let (files, head, held) = match (&arguments.head, arguments.files.is_empty()) {
        (None, true) => {
            let directory = super::load(&arguments.file.config)?.state_dir;
            let head = running_head(&directory).await;
            let held = if head.is_some() { ", and holds the head of the certd that runs" } else { "" };
            (opened_own(&directory)?, head, held)
        }
        (None, false) => (opened(&arguments.files, &arguments.file)?, None, ""),
        (Some(head), _) => {
            (opened(&arguments.files, &arguments.file)?, Some(head.clone()), ", and holds the given head")
        }
    };
    let count = files.len();
    match verify(files, arguments.after, head.as_ref())? {
        Ok(whole) => {
            let mut text = format!("whole: {} records in {count} files{held}\nhead: {}\n", whole.records, whole.head);
            if whole.torn > 0 {
                text.push_str(&format!("{} writes were broken off by crashes, and certd recorded each\n", whole.torn));
            }
            if whole.missed > 0 {
                text.push_str(&format!("{} records could not be written, and certd recorded how many\n", whole.missed));
            }
            if whole.rest > 0 {
                text.push_str(&format!(
                    "{} bytes behind the last record are of a write that was broken off\n",
                    whole.rest
                ));
            }
            super::print(&text)?;
            Ok(0)
        }
        Err(broken) => {
            let path = message(&broken.path.display().to_string());
            super::print(&format!("broken: {path}:{}: {}\n", broken.line, broken.why))?;
            Ok(BROKEN)
        }
    }
}

fn exported(arguments: ExportArguments) -> anyhow::Result<u8> {
    let files = opened(&arguments.files, &arguments.file)?;
    let ExportArguments { since, until, certificate, .. } = arguments;
    let filter = Filter { since, until, certificate: certificate.map(CertName) };
    let format = match arguments.format {
        ExportFormat::Json => Format::Json,
        ExportFormat::Csv => Format::Csv,
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let exported = export(files, &filter, format, &mut out);
    let flushed = exported.and_then(|exported| Ok(out.flush().map(|()| exported)?));
    match flushed {
        Ok(exported) if exported.skipped > 0 => {
            let what = "lines are no records: `certd audit verify` says more";
            writeln!(std::io::stderr(), "certd: {} {what}", exported.skipped).ok();
            Ok(1)
        }
        Ok(_) => Ok(0),
        // `certd audit export | head` is no failure of ours.
        Err(ExportError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(error.into()),
    }
}
