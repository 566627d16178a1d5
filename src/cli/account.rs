//! `certd account`: the account of an ACME issuer, and another key for it.

use anyhow::bail;
use clap::Args;

use super::ConfigFile;
use crate::config;
use crate::domain::name::IssuerName;
use crate::domain::text::message;
use crate::issuer::Issuer;
use crate::issuer::acme::{Acme, account};

#[derive(Debug, Args)]
pub struct AccountArguments {
    /// An ACME issuer of the configuration
    issuer: String,
    /// Give the account another key at the CA, and keep that
    #[arg(long)]
    roll_over: bool,
    #[command(flatten)]
    file: ConfigFile,
}

pub async fn run(arguments: AccountArguments) -> anyhow::Result<u8> {
    let config = config::load(&arguments.file.config)?;
    let setup = config::build::build(&config)?;
    let issuer = setup.issuers.get(&IssuerName(arguments.issuer.clone()));
    let Some(Issuer::Acme(acme)) = issuer.map(std::convert::AsRef::as_ref) else {
        bail!("no ACME issuer of this name in the configuration: {}", message(&arguments.issuer));
    };
    let shown = match arguments.roll_over {
        true => rolled_over(acme).await,
        false => shown(acme).await,
    };
    setup.close().await;
    super::print(&shown?)?;
    Ok(0)
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

async fn rolled_over(acme: &Acme) -> anyhow::Result<String> {
    let url = account::roll_over(&acme.account, &acme.keeper, &acme.http).await?;
    Ok(format!("{} has another key, kept at {}\n", message(&url), acme.keeper.place()))
}
