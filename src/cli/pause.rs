//! `certd pause` and `certd resume`: acting stops at once, everything is still observed.

use anyhow::{Context, bail};
use clap::Args;

use crate::config::{self, Config};
use crate::control::PauseBody;
use crate::domain::name::CertName;
use crate::domain::plan::JournalView;
use crate::domain::snapshot::Snapshot;
use crate::domain::text::one_line;
use crate::domain::time::Timestamp;

use super::{ConfigFile, JournalAccess, Reason, words};

#[derive(Debug, Args)]
pub struct PauseArguments {
    /// The certificate; all without one
    name: Option<String>,
    /// An instant such as 2027-01-31T12:00:00Z, or a duration such as 2h or 3d
    #[arg(long, value_name = "T")]
    until: String,
    #[command(flatten)]
    why: Reason,
    #[command(flatten)]
    file: ConfigFile,
}

#[derive(Debug, Args)]
pub struct ResumeArguments {
    /// The certificate; the pause of all without one
    name: Option<String>,
    #[command(flatten)]
    why: Reason,
    #[command(flatten)]
    file: ConfigFile,
}

pub async fn pause(arguments: PauseArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let until = until(&arguments.until, now())?;
    let config = super::load(&arguments.file.config)?;
    if let Some(name) = &arguments.name {
        must_be_managed(&config, name)?;
    }
    let what = arguments.name.clone().unwrap_or_else(|| "all acting".to_string());
    let journal = JournalAccess::open_to_act(&config, arguments.why.reason)?;
    write(&journal, arguments.name, Some(until), now).await?;
    journal.note_audit_head(&config).await;
    super::print(&format!("paused until {until}: {what}\n"))?;
    Ok(0)
}

pub async fn resume(arguments: ResumeArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let config = super::load(&arguments.file.config)?;
    let journal = JournalAccess::open_to_act(&config, arguments.why.reason)?;
    let view = journal.view().await?;
    let what = arguments.name.clone().unwrap_or_else(|| "all acting".to_string());
    let paused = paused(&view, now());
    match &arguments.name {
        None if view.pause_at(now()).is_none() => {
            // Whoever says so looks at the clock: it is noted, so that a journal from a wrong one is no doubt any more.
            write(&journal, None, None, now).await?;
            super::print(&format!("was not paused: {what}\n"))?;
        }
        Some(name) if !paused.contains(name) => {
            super::print(&format!("was not paused: {what}{}\n", words::did_you_mean(name, paused.iter())))?;
        }
        None | Some(_) => {
            write(&journal, arguments.name, None, now).await?;
            super::print(&format!("resumed: {what}\n"))?;
        }
    }
    journal.note_audit_head(&config).await;
    Ok(0)
}

/// The certificates that have a pause of their own.
fn paused(view: &JournalView, now: Timestamp) -> Vec<String> {
    let records = view.records.iter();
    let paused = records.filter(|(_, record)| record.paused_until.is_some_and(|until| now < until));
    paused.map(|(name, _)| name.0.clone()).collect()
}

/// A slip in a name must not leave somebody believing that it is paused. What a rule may adopt need not be
/// in sight: a Vault that is down is a reason to pause.
fn must_be_managed(config: &Config, name: &str) -> anyhow::Result<()> {
    let setup = config::build::build(config)?;
    let adoptable = setup.adopted.iter().any(|rule| {
        let path = name.strip_prefix(&format!("vault:{}:", rule.vault.name));
        path.is_some_and(|path| rule.source.covers(path))
    });
    let declared: Vec<&String> = setup.declared.iter().map(|managed| &managed.name.0).collect();
    if !adoptable && !declared.iter().any(|known| *known == name) {
        let meant = words::did_you_mean(name, declared.into_iter());
        bail!("nothing is paused: certd manages no certificate of this name: {name}{meant}");
    }
    Ok(())
}

async fn write(
    journal: &JournalAccess,
    name: Option<String>,
    until: Option<Timestamp>,
    now: fn() -> Timestamp,
) -> anyhow::Result<()> {
    let body = PauseBody { certificate: name.map(CertName), until };
    journal.pause(now(), &body).await
}

fn until(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    let until = match config::duration(text) {
        Ok(span) => now.plus(span),
        Err(_) => text.parse().context("--until takes an instant or a duration, such as 2h or 3d")?,
    };
    if until <= now {
        bail!("--until has passed already: {until}");
    }
    Ok(until)
}

/// Said wherever a state of things is shown; empty when certd may act.
pub fn banner(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    if let Some(why) = &snapshot.clock_doubt {
        out.push_str(&format!("{}: nothing will be renewed\n", one_line(why)));
    }
    if !snapshot.act {
        out.push_str("act = false: nothing will be renewed\n");
    }
    if let Some(until) = snapshot.paused_until {
        out.push_str(&format!("acting is paused until {until}\n"));
    }
    out
}
