//! `certd pause` and `certd resume`: acting stops at once, everything is still observed.

use anyhow::{Context, bail};
use clap::Args;

use crate::config;
use crate::control::PauseBody;
use crate::domain::name::CertName;
use crate::domain::time::Timestamp;

use super::{ConfigFile, JournalAccess};

#[derive(Debug, Args)]
pub struct PauseArguments {
    /// The certificate; all without one
    name: Option<String>,
    /// An instant such as 2027-01-31T12:00:00Z, or a duration such as 2h or 3d
    #[arg(long, value_name = "T")]
    until: String,
    #[command(flatten)]
    file: ConfigFile,
}

#[derive(Debug, Args)]
pub struct ResumeArguments {
    /// The certificate; the pause of all without one
    name: Option<String>,
    #[command(flatten)]
    file: ConfigFile,
}

pub async fn pause(arguments: PauseArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let until = until(&arguments.until, now())?;
    let what = arguments.name.clone().unwrap_or_else(|| "all acting".to_string());
    write(&arguments.file, arguments.name, Some(until), now).await?;
    println!("paused until {until}: {what}");
    Ok(0)
}

pub async fn resume(arguments: ResumeArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let what = arguments.name.clone().unwrap_or_else(|| "all acting".to_string());
    write(&arguments.file, arguments.name, None, now).await?;
    println!("resumed: {what}");
    Ok(0)
}

async fn write(
    file: &ConfigFile,
    name: Option<String>,
    until: Option<Timestamp>,
    now: fn() -> Timestamp,
) -> anyhow::Result<()> {
    let config = config::load(&file.config)?;
    let body = PauseBody { certificate: name.map(CertName), until };
    JournalAccess::open(&config)?.pause(now(), &body).await
}

fn until(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    let until = match config::duration(text) {
        Ok(span) => now.plus(span),
        Err(_) => {
            text.parse().context("--until takes an instant such as 2027-01-31T12:00:00Z, or a duration such as 2h")?
        }
    };
    if until <= now {
        bail!("--until has passed already: {until}");
    }
    Ok(until)
}

/// Said wherever a state of things is shown; empty when certd may act.
pub fn banner(act: bool, paused_until: Option<Timestamp>) -> String {
    let mut out = String::new();
    if !act {
        out.push_str("act = false: nothing will be renewed\n");
    }
    if let Some(until) = paused_until {
        out.push_str(&format!("acting is paused until {until}\n"));
    }
    out
}
