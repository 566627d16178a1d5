//! `certd revoke`: by the daemon where one runs, else by ourselves.

use std::sync::Arc;

use clap::Args;

use super::{ConfigFile, JournalAccess};
use crate::config;
use crate::control::Ended;
use crate::domain::revocation::RevocationReason;
use crate::domain::time::Timestamp;
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
    #[command(flatten)]
    file: ConfigFile,
}

pub async fn run(arguments: RevokeArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let config = super::load(&arguments.file.config)?;
    let setup = Arc::new(config::build::build(&config)?);
    let wanted = Wanted { what: arguments.what, reason: arguments.reason, force: arguments.force };
    let ended = match JournalAccess::open(&config)? {
        JournalAccess::Daemon(client) => client.revoke(&wanted).await?,
        JournalAccess::Ours(journal) => {
            setup.keep_waits(&journal, now);
            Ended::from(revoke(setup.clone(), &journal, &wanted, now).await)
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
