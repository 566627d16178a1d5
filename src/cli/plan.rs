//! `certd plan`: what would be done and why. Reads everything, changes nothing.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::config;
use crate::cycle::Cycle;
use crate::domain::check::ProblemKind;
use crate::domain::homes;
use crate::domain::inventory::Location;
use crate::domain::name::CertName;
use crate::domain::plan::{Action, Decision, Managed};
use crate::domain::snapshot::{Entry, Snapshot};
use crate::domain::text::one_line;
use crate::domain::time::Timestamp;
use crate::domain::waiting;
use crate::report::json;

use super::unseen::{self, Unseen};
use super::{ConfigFile, journal_view, note_waits, words};

#[derive(Debug, Args)]
pub struct PlanArguments {
    #[command(flatten)]
    file: ConfigFile,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: PlanFormat,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum PlanFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Plan<'a> {
    schema: u32,
    planned_at: Timestamp,
    act: bool,
    paused_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_doubt: Option<&'a str>,
    decisions: Vec<&'a Decision>,
    /// Places that have a name in common and were adopted together, were agreed to, or are declared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shared_names: Vec<SharedNames>,
    /// Where certificates may be that this plan lacks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_seen: Vec<Unseen>,
}

#[derive(Serialize)]
struct SharedNames {
    names: Vec<String>,
    places: Vec<CertName>,
}

/// More are counted.
const MOST_SHARED: usize = 20;

pub async fn run(arguments: PlanArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let config = super::load(&arguments.file.config)?;
    let setup = Arc::new(config::build::build(&config)?);
    let journal = journal_view(&config).await?;
    let (snapshot, managed) = Cycle::new(setup.clone(), now).look_with_managed(&journal, &|_| {}).await;
    note_waits(&config, &setup, &journal, now()).await;
    setup.close().await;
    match arguments.format {
        PlanFormat::Text => super::print(&text(&snapshot, &shared_names(&managed)))?,
        PlanFormat::Json => super::print(&json::text(&plan(&snapshot, shared_names(&managed))))?,
    }
    Ok(unseen::exit_code(&unseen::of(&snapshot)))
}

fn plan(snapshot: &Snapshot, shared_names: Vec<SharedNames>) -> Plan<'_> {
    Plan {
        schema: 1,
        planned_at: snapshot.taken_at,
        act: snapshot.act,
        paused_until: snapshot.paused_until,
        clock_doubt: snapshot.clock_doubt.as_deref(),
        decisions: decisions(snapshot),
        shared_names,
        not_seen: unseen::of(snapshot),
    }
}

/// What is held for a name of another place shares none.
fn shared_names(managed: &[Managed]) -> Vec<SharedNames> {
    let waits = |managed: &Managed| managed.held.as_ref().is_some_and(|held| waiting::kind(held).is_some());
    let managed = managed.iter().filter(|managed| !waits(managed));
    let shared = homes::shared(managed.map(|managed| (&managed.name, homes::name_texts(&managed.spec.names))));
    shared.into_iter().map(|(places, names)| SharedNames { names, places }).collect()
}

/// What a person has to decide, with the commands for it.
fn waiting(snapshot: &Snapshot) -> String {
    let waits = |entry: &&Entry| match entry.managed.as_ref().map(|managed| &managed.decision.action) {
        Some(Action::Hold { held }) => waiting::kind(held).is_some(),
        Some(Action::Keep { .. } | Action::Renew { .. } | Action::Defer { .. }) | None => false,
    };
    let waiting: Vec<&Entry> = snapshot.entries.iter().filter(waits).collect();
    told(&waiting, "waits for a person", |kind| {
        matches!(
            kind,
            ProblemKind::RevocationUnknown
                | ProblemKind::ContestedName
                | ProblemKind::OtherNames
                | ProblemKind::NotAgreed
        )
    })
}

/// What a rule looks at and does not adopt.
fn not_adopted(snapshot: &Snapshot) -> String {
    let is_refused = |kind| matches!(kind, ProblemKind::Foreign | ProblemKind::Abandoned);
    let refused = |entry: &&Entry| {
        entry.managed.is_none()
            && matches!(entry.observation.location, Location::Secret { .. })
            && entry.problems.iter().any(|problem| is_refused(problem.problem))
    };
    let refused: Vec<&Entry> = snapshot.entries.iter().filter(refused).collect();
    told(&refused, "is not adopted", is_refused)
}

fn told(entries: &[&Entry], what: &str, is_meant: impl Fn(ProblemKind) -> bool) -> String {
    let mut out = String::new();
    for entry in entries.iter().take(MOST_SHARED) {
        let why = entry.problems.iter().find(|problem| is_meant(problem.problem));
        let why = why.map(|problem| problem.message.as_str()).unwrap_or_default();
        out.push_str(&one_line(&format!("{} {what}: {why}", entry.observation.location)));
        out.push('\n');
    }
    if entries.len() > MOST_SHARED {
        out.push_str(&format!("and {} more of these; `certd check` lists them\n", entries.len() - MOST_SHARED));
    }
    out
}

/// What is to be done first, what is kept last.
fn decisions(snapshot: &Snapshot) -> Vec<&Decision> {
    let managed = snapshot.entries.iter().filter_map(|entry| entry.managed.as_ref());
    let mut decisions: Vec<&Decision> = managed.map(|managed| &managed.decision).collect();
    decisions.sort_by_key(|decision| match &decision.action {
        Action::Renew { .. } => (0, None),
        Action::Hold { .. } => (1, None),
        Action::Defer { until, .. } => (2, Some(*until)),
        Action::Keep { renew_at } => (3, Some(*renew_at)),
    });
    decisions
}

fn text(snapshot: &Snapshot, shared: &[SharedNames]) -> String {
    let mut out = super::pause::banner(snapshot);
    let decisions = decisions(snapshot);
    for decision in &decisions {
        out.push_str(&format!("{}: {}\n", one_line(&decision.certificate.0), words::action(&decision.action)));
    }
    out.push_str(&waiting(snapshot));
    for managed in snapshot.entries.iter().filter_map(|entry| entry.managed.as_ref()) {
        if let Some(until) = managed.paused_until(snapshot.taken_at) {
            out.push_str(&format!("{} is paused until {until}\n", one_line(&managed.decision.certificate.0)));
        }
    }
    for SharedNames { names, places } in shared.iter().take(MOST_SHARED) {
        let places: Vec<&str> = places.iter().map(|place| place.0.as_str()).collect();
        out.push_str(&one_line(&format!("{} is kept in several places: {}", names.join(", "), places.join(", "))));
        out.push('\n');
    }
    if shared.len() > MOST_SHARED {
        out.push_str(&format!("and {} more sets of places share names\n", shared.len() - MOST_SHARED));
    }
    out.push_str(&not_adopted(snapshot));
    out.push_str(&unseen::lines(&unseen::of(snapshot)));
    let renewals = decisions.iter().filter(|d| matches!(d.action, Action::Renew { .. })).count();
    out + &format!("{} managed, {renewals} to renew\n", decisions.len())
}
