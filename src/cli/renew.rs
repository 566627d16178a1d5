//! `certd renew`: by the daemon where one runs, else by a turn of our own.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::bail;
use clap::Args;
use tokio::sync::watch;

use crate::audit::Outcome;
use crate::config::{self, Config, Level, LogFormat};
use crate::control::{Answer, Upshot, acts};
use crate::cycle::Cycle;
use crate::cycle::setup::Setup;
use crate::daemon;
use crate::domain::actor::Actor;
use crate::domain::name::CertName;
use crate::domain::plan::Demand;
use crate::domain::text::{self, one_line};
use crate::domain::time::Timestamp;
use crate::journal::{Journal, JournalError};

use super::unseen::{self, Unseen};
use super::{ConfigFile, JournalAccess, Reason, note_waits};

#[derive(Debug, Args)]
pub struct RenewArguments {
    /// The certificates: a `name`, or the location of an adopted one
    names: Vec<String>,
    /// Only what is due, without waiting for a backoff; the default without names
    #[arg(long, conflicts_with = "force")]
    due: bool,
    /// Whatever its age; the default for names
    #[arg(long, requires = "names")]
    force: bool,
    /// Whatever its age, and beyond its weekly limit; the journal records it
    #[arg(long, requires = "names", conflicts_with = "due")]
    over_the_cap: bool,
    #[command(flatten)]
    why: Reason,
    #[command(flatten)]
    file: ConfigFile,
}

pub async fn run(arguments: RenewArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let config = super::load(&arguments.file.config)?;
    let setup = Arc::new(config::build::build(&config)?);
    if !setup.act {
        bail!("act = false in the configuration: certd renews nothing");
    }
    let all = arguments.names.is_empty();
    let demand = match (arguments.over_the_cap, arguments.due || all) {
        (true, _) => Demand::OverTheCap,
        (false, true) => Demand::IfDue,
        (false, false) => Demand::Force,
    };
    let asked = ask(&config, &setup, arguments.names, demand, arguments.why.reason, now).await;
    setup.close().await;
    let (answers, not_seen) = asked?;
    for Answer { certificate, message, .. } in answers.iter().filter(|answer| !all || answer.upshot != Upshot::NotDue) {
        super::print(&format!("{}: {}\n", one_line(&certificate.0), text::message(message)))?;
    }
    if all {
        let tried = answers.iter().filter(|answer| matches!(answer.upshot, Upshot::Done | Upshot::Failed)).count();
        super::print(&unseen::lines(&not_seen))?;
        super::print(&format!("{} managed, {tried} were due\n", answers.len()))?;
    }
    Ok(exit_code(&answers, &not_seen))
}

/// The daemon where one runs, else ourselves. What could not be seen is known where all was asked for.
async fn ask(
    config: &Config,
    setup: &Arc<Setup>,
    names: Vec<String>,
    demand: Demand,
    reason: Option<String>,
    now: fn() -> Timestamp,
) -> anyhow::Result<(Vec<Answer>, Vec<Unseen>)> {
    let access = JournalAccess::open_to_act(config, reason)?;
    match &access {
        JournalAccess::Daemon(client) => {
            let (names, not_seen) = match names.is_empty() {
                true => {
                    let journal = client.journal().await?;
                    let looked = managed(setup, &journal, now).await;
                    note_waits(config, setup, &journal, now()).await;
                    looked
                }
                false => (names, Vec::new()),
            };
            Ok((client.renew(requested(names, demand)).await?, not_seen))
        }
        JournalAccess::Ours { journal, by } => {
            let answers = by_ourselves(config, setup.clone(), journal, by, names, demand, now).await;
            access.note_audit_head(config).await;
            answers
        }
    }
}

/// As `check` has them: 0, 1 for what is held or put off, 3 for what was not seen, and 2 before all for what failed or is
/// not there.
fn exit_code(answers: &[Answer], not_seen: &[Unseen]) -> u8 {
    let code = |answer: &Answer| match answer.upshot {
        Upshot::Done | Upshot::NotDue => 0,
        Upshot::Waiting => 1,
        Upshot::Failed | Upshot::NotManaged => 2,
    };
    match answers.iter().map(code).max().unwrap_or(0) {
        failed @ 2 => failed,
        other => other.max(unseen::exit_code(not_seen)),
    }
}

fn requested(names: Vec<String>, demand: Demand) -> BTreeMap<CertName, Demand> {
    names.into_iter().map(|name| (CertName(name), demand)).collect()
}

async fn by_ourselves(
    config: &Config,
    setup: Arc<Setup>,
    journal: &Arc<Journal>,
    by: &Actor,
    names: Vec<String>,
    demand: Demand,
    now: fn() -> Timestamp,
) -> anyhow::Result<(Vec<Answer>, Vec<Unseen>)> {
    super::log::to_stderr(
        LogFormat::Human,
        if config.log.level == Level::Info { Level::Warn } else { config.log.level },
    );
    setup.keep_waits(journal, now);
    let (names, not_seen) = match names.is_empty() {
        true => managed(&setup, &journal.view(), now).await,
        false => (names, Vec::new()),
    };
    let requested = requested(names, demand);
    let only = requested.keys().cloned().collect();
    let begun = journal.audit.begin(now(), by, acts::renew(&requested)).map_err(JournalError::from)?;
    let (_keep, stop) = watch::channel(false);
    let turn = Cycle::new(setup, now).only(only).turn(journal, &requested, stop).await;
    let Some(turn) = turn else {
        journal.audit.end(now(), &begun, &Outcome::Failed("it was stopped".to_string()));
        bail!("it was stopped")
    };
    let answers: Vec<Answer> = requested.keys().map(|name| daemon::answer(name, &turn)).collect();
    journal.audit.end(now(), &begun, &acts::renewed(&answers));
    Ok((answers, not_seen))
}

/// Returns the names of everything that certd manages now, adopted ones among them, and what could not be seen.
async fn managed(
    setup: &Arc<Setup>,
    journal: &crate::domain::plan::JournalView,
    now: fn() -> Timestamp,
) -> (Vec<String>, Vec<Unseen>) {
    let snapshot = Cycle::new(setup.clone(), now).look(journal, &|_| {}).await;
    let not_seen = unseen::of(&snapshot);
    let managed = snapshot.entries.into_iter().filter_map(|entry| entry.managed);
    (managed.map(|managed| managed.decision.certificate.0).collect(), not_seen)
}
