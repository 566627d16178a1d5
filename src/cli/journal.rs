//! `certd journal`: what is in flight, what failed, and what was done last; of a certd that runs by its socket.

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::domain::name::CertName;
use crate::domain::plan::{JournalView, Record};
use crate::domain::text::{message, one_line};
use crate::domain::time::Timestamp;
use crate::journal::Journal;
use crate::journal::event::{Entry, Event};
use crate::journal::places::Placed;
use crate::report::json;

use super::{ConfigFile, JournalAccess, Reason};

#[derive(Debug, Args)]
pub struct JournalArguments {
    /// Of one certificate alone
    #[arg(long, value_name = "NAME")]
    certificate: Option<String>,
    /// So many events, the newest ones
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: usize,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: JournalFormat,
    /// Say that you know of a journal that was damaged and set aside
    #[arg(long)]
    acknowledge: bool,
    #[command(flatten)]
    why: Reason,
    #[command(flatten)]
    file: ConfigFile,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum JournalFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Told {
    schema: u32,
    #[serde(flatten)]
    view: JournalView,
    events: Vec<Entry>,
}

pub async fn run(arguments: JournalArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let config = super::load(&arguments.file.config)?;
    if !Journal::exists(&config.state_dir) {
        super::print("there is no journal yet: certd has done nothing with this configuration\n")?;
        return Ok(0);
    }
    let journal = JournalAccess::open_to_act(&config, arguments.why.reason)?;
    if arguments.acknowledge {
        journal.acknowledge(now()).await?;
        journal.note_audit_head(&config).await;
    }
    let certificate = arguments.certificate.map(CertName);
    let mut view = journal.view().await.context("could not learn what was attempted so far")?;
    view.records.retain(|name, _| certificate.as_ref().is_none_or(|wanted| wanted == name));
    let events = journal.last(arguments.last, certificate).await?;
    match arguments.format {
        JournalFormat::Text => super::print(&text(&view, &events, now()))?,
        JournalFormat::Json => {
            super::print(&json::text(&Told { schema: 1, view, events }))?;
        }
    }
    Ok(0)
}

fn text(view: &JournalView, events: &[Entry], now: Timestamp) -> String {
    let mut out = String::new();
    if let Some(lost) = &view.set_aside {
        out.push_str(&format!("{}: look into it, then `certd journal --acknowledge`\n", message(lost)));
    }
    if let Some(until) = view.pause_at(now) {
        out.push_str(&format!("acting is paused until {until}\n"));
    }
    for (issuer, record) in &view.issuers {
        let failed =
            (record.consecutive_failures > 0).then(|| format!("failed {} times in a row", record.consecutive_failures));
        let alone = record.open_until.filter(|until| now < *until).map(|until| format!("left alone until {until}"));
        let told: Vec<String> = failed.into_iter().chain(alone).collect();
        if !told.is_empty() {
            out.push_str(&format!("issuer {issuer}: {}\n", told.join(", ")));
        }
    }
    let open = view.records.iter().filter_map(|(name, record)| Some((name, standing(record, now)?)));
    for (name, standing) in open {
        out.push_str(&format!("{}: {standing}\n", one_line(&name.0)));
    }
    for entry in events {
        let name = entry.certificate.as_ref().map_or("all", |name| name.0.as_str());
        out.push_str(&format!("{}  {}  {}\n", entry.at, one_line(name), message(&words(&entry.event))));
    }
    out
}

/// `None` where nothing is open.
fn standing(record: &Record, now: Timestamp) -> Option<String> {
    let in_flight = record.in_flight.map(|reason| match record.issued {
        true => format!("being renewed ({}), signed and not closed yet", reason.as_str()),
        false => format!("being renewed ({})", reason.as_str()),
    });
    let failed = (record.consecutive_failures > 0).then(|| {
        let next = record.retry_at.map(|at| format!(", next attempt from {at}")).unwrap_or_default();
        let why = record.last_error.as_deref().map(message).unwrap_or_default();
        format!("{} attempts failed{next}: {why}", record.consecutive_failures)
    });
    let paused = record.paused_until.filter(|until| now < *until).map(|until| format!("paused until {until}"));
    let all: Vec<String> = [in_flight, paused, failed].into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn words(event: &Event) -> String {
    match event {
        Event::Begun { reason, names, .. } => format!("began to renew ({}): {names}", reason.as_str()),
        Event::TakenUp(open) => format!("took up a renewal ({}) that was begun before", open.reason.as_str()),
        Event::Staged(at) => format!("keeps its pending key at {at}"),
        Event::KeyKept(at) => format!("could not destroy its pending key at {at}: Vault denied it"),
        Event::KeyDestroyed(at) => format!("destroyed its pending key at {at}"),
        Event::Asked { issuer, .. } => format!("asked {issuer}"),
        Event::Ordered { issuer, progress, .. } => {
            let step = match (progress.is_finalizing, &progress.certificate) {
                (false, _) => "placed an order at",
                (true, None) => "proved the names to",
                (true, Some(_)) => "has a certificate to fetch from",
            };
            format!("{step} {issuer}: {}", progress.order)
        }
        Event::NotIssued { issuer } => format!("{issuer} has signed nothing"),
        Event::IssuerFailed { issuer, retry_after: Some(wait) } => format!("{issuer} failed and asks for {wait} s"),
        Event::IssuerFailed { issuer, retry_after: None } => format!("{issuer} failed"),
        Event::LeftAlone { issuer, until } => format!("{issuer} asks to be left alone until {until}"),
        Event::Issued(issued) => format!("{} signed", issued.issuer),
        Event::Accepted { serial } => format!("accepted {serial}"),
        Event::Rejected { serial, why } => format!("refused {serial}: {why}"),
        Event::Written { version: Some(version) } => format!("wrote version {version}"),
        Event::Written { version: None } => "wrote it".to_string(),
        Event::OverTheCap { stored, unused } => {
            format!("a person passed the weekly limit: {stored} stored and {unused} not stored within 7 days")
        }
        Event::Closed { not_after, .. } => format!("read back and closed, ends on {not_after}"),
        Event::Served { .. } => "every endpoint that is to serve it does".to_string(),
        Event::Superseded { why } => format!("given up, as it is not needed: {why}"),
        Event::Failed { message, retry_at, .. } => format!("failed, next attempt from {retry_at}: {message}"),
        Event::Advised(advice) => {
            let why = advice.explanation.as_ref().map(|url| format!(", see {url}")).unwrap_or_default();
            let window = advice.window;
            format!("its CA advises to renew it between {} and {}{why}", window.start(), window.end())
        }
        Event::Paused { until } => format!("paused until {until}"),
        Event::Resumed => "resumed".to_string(),
        Event::Revoking { issuer, serial, reason, forced } => {
            let by_force = if *forced { ", although it is served or may be" } else { "" };
            format!("asked {issuer} to revoke {serial} ({}){by_force}", reason.as_str())
        }
        Event::Revoked { issuer, serial, .. } => format!("{issuer} has revoked {serial}"),
        Event::Place(placed) => of_places(placed),
        Event::SetAside { file, why } => format!("a damaged journal was set aside: {file} ({why})"),
        Event::Acknowledged => "acknowledged".to_string(),
    }
}

fn of_places(placed: &Placed) -> String {
    // The first line of a rule's identity is its name.
    let name = |rule: &str| rule.lines().next().unwrap_or_default().to_string();
    match placed {
        Placed::Homes { rule, places } => format!("adopted places by the rule {}: {}", name(rule), places.len()),
        Placed::Looked { rule } => format!("ended the first look of the rule {}", name(rule)),
        Placed::Contested { places } => format!("held places that have names of others: {}", places.len()),
        Placed::Agreed { holds, by } => format!("adopted for {} by {by}", holds.names.join(", ")),
        Placed::Forgotten { by } => format!("its names were released by {by}"),
    }
}
