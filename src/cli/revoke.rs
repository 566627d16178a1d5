//! `certd revoke`: by the daemon where one runs, else by ourselves.

use std::sync::Arc;

use clap::Args;

use super::{ConfigFile, JournalAccess};
use crate::config;
use crate::control::{Ended, acts};
use crate::domain::revocation::RevocationReason;
use crate::domain::time::Timestamp;
use crate::journal::JournalError;
use crate::revoke::{Wanted, revoke};

#[derive(Debug, Args)]
pub struct RevokeArguments {
    /// A certificate by its name, location, or serial number
    #[arg(value_name = "NAME|SERIAL")]
    what: String,
    /// unspecified, key_compromise, affiliation_changed, superseded or cessation_of_operation
    #[arg(long, value_name = "REASON", default_value = "unspecified", value_parser = reason)]
    reason: RevocationReason,
    /// Although an endpoint still serves it, or cannot be looked at
    #[arg(long)]
    force: bool,
    /// Why, for the audit log: a sentence or the number of a ticket
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    #[command(flatten)]
    file: ConfigFile,
}

pub async fn run(arguments: RevokeArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let config = super::load(&arguments.file.config)?;
    let setup = Arc::new(config::build::build(&config)?);
    let wanted = Wanted { what: arguments.what, reason: arguments.reason, force: arguments.force };
    let access = JournalAccess::open_to_act(&config, arguments.why)?;
    let ended = match &access {
        JournalAccess::Daemon(client) => client.revoke(&wanted).await?,
        JournalAccess::Ours { journal, by } => {
            setup.keep_waits(journal, now);
            let begun = journal.audit.begin(now(), by, acts::revoke(&wanted)).map_err(JournalError::from)?;
            let ended = Ended::from(revoke(setup.clone(), journal, &wanted, now).await);
            journal.audit.end(now(), &begun, &(&ended).into());
            access.note_audit_head(&config).await;
            ended
        }
    };
    setup.close().await;
    super::ended(ended)
}

fn reason(text: &str) -> Result<RevocationReason, String> {
    let same = |reason: &RevocationReason| reason.as_str() == text.replace('-', "_");
    let known = || RevocationReason::ALL.map(RevocationReason::as_str).join(", ");
    RevocationReason::ALL.into_iter().find(same).ok_or_else(|| format!("one of: {}", known()))
}
