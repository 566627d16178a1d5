//! `certd history secret/tls/web`: the versions of a secret, newest first, as what they are.

use std::io::IsTerminal;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;

use crate::domain::cert::Certificate;
use crate::domain::text::{message, one_line, printable};
use crate::domain::time::Timestamp;
use crate::report::json;
use crate::source::vault_kv::CONCURRENCY;
use crate::vault::note_name;
use crate::vault::versions::{History, Version};

use super::secret::{Secret, VaultArguments};

/// Each is a request, and a mount may keep thousands.
const MOST_VERSIONS: usize = 100;

/// Below this a table cannot be read, so the terminal may wrap it as it likes.
const NARROWEST: u16 = 80;

const HEADER: [&str; 9] = ["VERSION", "STATE", "WRITTEN", "BY", "SERIAL", "NAMES", "ISSUER", "LIFETIME", "NOTE"];

#[derive(Debug, Args)]
pub struct HistoryArguments {
    /// secret/path, or vault:NAME:secret/path where the configuration has several vaults; secret/path#object where the
    /// secret holds several certificates
    secret: String,
    #[command(flatten)]
    vault: VaultArguments,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: HistoryFormat,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum HistoryFormat {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Told {
    schema: u32,
    location: String,
    older_not_shown: usize,
    versions: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    version: u64,
    state: State,
    written_at: Timestamp,
    /// Who, as `managed_by` of the custom metadata says.
    by: Option<String>,
    #[serde(flatten)]
    leaf: Option<Leaf>,
    note: Option<String>,
}

#[derive(Serialize)]
struct Leaf {
    serial: String,
    names: Vec<String>,
    issuer: String,
    not_before: Timestamp,
    not_after: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Current,
    Earlier,
    Deleted,
    Destroyed,
}

pub async fn run(arguments: HistoryArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let secret = arguments.vault.secret(&arguments.secret)?;
    let told = look(&secret, now()).await;
    secret.log_out().await;
    let told = told?;
    match arguments.format {
        HistoryFormat::Table => super::print(&text(&told))?,
        HistoryFormat::Json => super::print(&json::text(&told))?,
    }
    Ok(0)
}

async fn look(secret: &Secret, now: Timestamp) -> anyhow::Result<Told> {
    let location = secret.location();
    let history = secret.vault.history(&secret.path).await;
    let history = history.with_context(|| format!("could not read which versions there are of {location}"))?;
    let Some(history) = history.filter(|history| !history.versions.is_empty()) else {
        bail!("no version of a secret is kept there: {location}");
    };
    let newest = history.versions.iter().rev().take(MOST_VERSIONS);
    let rows = newest.map(|(number, version)| row(secret, &history, *number, *version, now));
    // In the order of versions, whichever answers first.
    let versions: Vec<Row> = stream::iter(rows).buffered(CONCURRENCY).try_collect().await?;
    let older_not_shown = history.versions.len() - versions.len();
    Ok(Told { schema: 1, location: location.to_string(), older_not_shown, versions })
}

async fn row(secret: &Secret, history: &History, number: u64, version: Version, now: Timestamp) -> anyhow::Result<Row> {
    let state = state(history, number, version, now);
    let mut row = Row { version: number, state, written_at: version.created, by: None, leaf: None, note: None };
    row.note = version.deleted.map(|at| match version.is_deleted(now) {
        true => format!("on {at}"),
        false => format!("will be deleted on {at}"),
    });
    if matches!(state, State::Current | State::Earlier) {
        let read = secret.vault.version(&secret.path, Some(number)).await;
        let read = read.with_context(|| format!("could not read version {number} of {}", secret.location()))?;
        // One that was deleted since the list was read.
        let fields = read.and_then(|read| read.fields).unwrap_or_default();
        match secret.certificate(&fields).await? {
            Ok(kept) => row.leaf = Some(leaf(&kept.chain.leaf)),
            Err(why) => row.note = Some(why.to_string()),
        }
    }
    row.by = by(history, secret.object.as_deref(), row.leaf.as_ref());
    Ok(row)
}

fn state(history: &History, number: u64, version: Version, now: Timestamp) -> State {
    match number == history.current {
        _ if version.destroyed => State::Destroyed,
        _ if version.is_deleted(now) => State::Deleted,
        true => State::Current,
        false => State::Earlier,
    }
}

fn leaf(leaf: &Certificate) -> Leaf {
    Leaf {
        serial: leaf.serial.clone(),
        names: leaf.names.iter().map(|name| one_line(&name.to_string())).collect(),
        issuer: one_line(&leaf.issuer),
        not_before: leaf.not_before,
        not_after: leaf.not_after,
    }
}

/// Custom metadata is the secret's and not a version's: where it names a serial, it speaks of that one alone.
fn by(history: &History, object: Option<&str>, leaf: Option<&Leaf>) -> Option<String> {
    let noted = |name: &str| history.custom_metadata.get(&note_name(name, object));
    let plain = |serial: &str| serial.replace([':', '-'], "").to_ascii_lowercase();
    let speaks_of_it = match (noted("serial"), leaf) {
        (None, _) => true,
        (Some(serial), Some(leaf)) => plain(serial) == leaf.serial,
        (Some(_), None) => false,
    };
    noted("managed_by").filter(|_| speaks_of_it).map(|by| printable(by))
}

fn text(told: &Told) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(HEADER);
    if let Some(width) = table.width().filter(|_| std::io::stdout().is_terminal()) {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.max(NARROWEST));
    }
    for row in &told.versions {
        table.add_row(cells(row));
    }
    let mut out = format!("{}\n\n", told.location);
    for line in table.lines() {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    if told.older_not_shown > 0 {
        out.push_str(&format!("\nand {} older\n", told.older_not_shown));
    }
    out
}

fn cells(row: &Row) -> [String; 9] {
    let dash = || "-".to_string();
    let of = |text: fn(&Leaf) -> String| row.leaf.as_ref().map_or_else(dash, text);
    [
        row.version.to_string(),
        row.state.as_str().to_string(),
        row.written_at.to_string(),
        row.by.clone().unwrap_or_else(dash),
        of(|leaf| leaf.serial.clone()),
        of(|leaf| message(&leaf.names.join(", "))),
        of(|leaf| message(&leaf.issuer)),
        of(|leaf| format!("from {} to {}", leaf.not_before, leaf.not_after)),
        row.note.clone().unwrap_or_default(),
    ]
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Earlier => "earlier",
            Self::Deleted => "deleted",
            Self::Destroyed => "destroyed",
        }
    }
}
