//! `certd account`: the account of an ACME issuer, and another key for it.

use anyhow::bail;
use clap::Args;

use super::{ConfigFile, JournalAccess, Reason};
use crate::config::{self, Config};
use crate::control::{Ended, acts};
use crate::cycle::setup::Setup;
use crate::domain::name::IssuerName;
use crate::domain::text::{message, with_causes};
use crate::domain::time::Timestamp;
use crate::issuer::acme::Acme;
use crate::journal::JournalError;

#[derive(Debug, Args)]
pub struct AccountArguments {
    /// An ACME issuer of the configuration
    issuer: String,
    /// Give the account another key at the CA, and keep that
    #[arg(long)]
    roll_over: bool,
    #[command(flatten)]
    why: Reason,
    #[command(flatten)]
    file: ConfigFile,
}

pub async fn run(arguments: AccountArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let config = super::load(&arguments.file.config)?;
    let setup = config::build::build(&config)?;
    let name = IssuerName(arguments.issuer);
    let Some(acme) = setup.acme(&name) else { bail!("{}", unknown(&name)) };
    let shown = match arguments.roll_over {
        true => roll_over(&config, &setup, &name, arguments.why.reason, now).await.and_then(super::ended),
        false => shown(acme).await.and_then(|text| super::print(&text)).map(|()| 0),
    };
    setup.close().await;
    shown
}

/// By the daemon where one runs, which uses the account meanwhile.
async fn roll_over(
    config: &Config,
    setup: &Setup,
    name: &IssuerName,
    reason: Option<String>,
    now: fn() -> Timestamp,
) -> anyhow::Result<Ended> {
    let access = JournalAccess::open_to_act(config, reason)?;
    match &access {
        JournalAccess::Daemon(client) => Ok(client.roll_over(name).await?),
        JournalAccess::Ours { journal, by } => {
            setup.keep_waits(journal, now);
            let begun = journal.audit.begin(now(), by, acts::roll_over(name)).map_err(JournalError::from)?;
            let ended = rolled_over(setup, name).await;
            journal.audit.end(now(), &begun, &(&ended).into());
            access.note_audit_head(config).await;
            Ok(ended)
        }
    }
}

/// Whoever does it.
pub async fn rolled_over(setup: &Setup, name: &IssuerName) -> Ended {
    let Some(acme) = setup.acme(name) else { return Ended::Refused(unknown(name)) };
    match acme.roll_over().await {
        Ok(url) => Ended::Done(format!("{} has another key, kept at {}", message(&url), acme.keeper.place())),
        Err(error) => Ended::Failed(message(&with_causes(&error))),
    }
}

fn unknown(name: &IssuerName) -> String {
    format!("no ACME issuer of this name in the configuration: {}", message(&name.0))
}

async fn shown(acme: &Acme) -> anyhow::Result<String> {
    let Some((kept, _)) = acme.keeper.load().await? else {
        return Ok(format!("no account yet: it is made with the first order, and kept at {}\n", acme.keeper.place()));
    };
    let url = kept.url.unwrap_or_else(|| "(the CA has not answered yet)".to_string());
    let contact = if kept.contact.is_empty() { "(none)".to_string() } else { kept.contact.join(", ") };
    let lines =
        [("account", url), ("directory", kept.directory), ("contact", contact), ("kept at", acme.keeper.place())];
    Ok(lines.iter().map(|(what, text)| format!("{what:<11} {}\n", message(text))).collect())
}
