//! `certd plan`: what would be done and why. Reads everything, changes nothing.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::config;
use crate::cycle::Cycle;
use crate::domain::plan::{Action, Decision};
use crate::domain::snapshot::Snapshot;
use crate::domain::text::one_line;
use crate::domain::time::Timestamp;
use crate::report::json;

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
}

pub async fn run(arguments: PlanArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let config = super::load(&arguments.file.config)?;
    let setup = Arc::new(config::build::build(&config)?);
    let journal = journal_view(&config).await?;
    let snapshot = Cycle::new(setup.clone(), now).look(&journal, &|_| {}).await;
    note_waits(&config, &setup, &journal, now()).await;
    setup.close().await;
    match arguments.format {
        PlanFormat::Text => super::print(&text(&snapshot))?,
        PlanFormat::Json => super::print(&json::text(&plan(&snapshot)))?,
    }
    Ok(0)
}

fn plan(snapshot: &Snapshot) -> Plan<'_> {
    Plan {
        schema: 1,
        planned_at: snapshot.taken_at,
        act: snapshot.act,
        paused_until: snapshot.paused_until,
        clock_doubt: snapshot.clock_doubt.as_deref(),
        decisions: decisions(snapshot),
    }
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

fn text(snapshot: &Snapshot) -> String {
    let mut out = super::pause::banner(snapshot);
    let decisions = decisions(snapshot);
    for decision in &decisions {
        out.push_str(&format!("{}: {}\n", one_line(&decision.certificate.0), words::action(&decision.action)));
    }
    for managed in snapshot.entries.iter().filter_map(|entry| entry.managed.as_ref()) {
        if let Some(until) = managed.paused_until(snapshot.taken_at) {
            out.push_str(&format!("{} is paused until {until}\n", one_line(&managed.decision.certificate.0)));
        }
    }
    let renewals = decisions.iter().filter(|d| matches!(d.action, Action::Renew { .. })).count();
    out + &format!("{} managed, {renewals} to renew\n", decisions.len())
}
