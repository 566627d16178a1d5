//! `certd reload`: the running certd reads its configuration again, and the audit log knows who asked for it.

use anyhow::bail;
use clap::Args;

use super::access::JournalAccess;
use super::{ConfigFile, Reason};

#[derive(Debug, Args)]
pub struct ReloadArguments {
    #[command(flatten)]
    why: Reason,
    #[command(flatten)]
    file: ConfigFile,
}

pub async fn run(arguments: ReloadArguments) -> anyhow::Result<u8> {
    let config = super::load(&arguments.file.config)?;
    match JournalAccess::open_to_act(&config, arguments.why.reason)? {
        JournalAccess::Daemon(client) => super::ended(client.reload().await?),
        JournalAccess::Ours { .. } => bail!("no certd runs with this configuration: start it by `certd run`"),
    }
}
