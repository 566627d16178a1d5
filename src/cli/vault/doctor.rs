//! `certd vault doctor`: what would hinder certd in its Vaults, found before it does.

use clap::{Args, ValueEnum};
use futures_util::future::join_all;

use super::Chosen;
use crate::doctor::{self, Finding};
use crate::domain::check::State;
use crate::domain::time::Timestamp;
use crate::report::findings;

#[derive(Debug, Args)]
pub struct DoctorArguments {
    #[command(flatten)]
    chosen: Chosen,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: DoctorFormat,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum DoctorFormat {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

pub async fn run(arguments: DoctorArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let setup = arguments.chosen.setup()?;
    let homes = arguments.chosen.homes().await?;
    let vaults = arguments.chosen.vaults(&setup)?;
    // One that does not answer holds up no other.
    let found = join_all(vaults.into_iter().map(|vault| doctor::examine(&setup, vault, &homes, now))).await;
    setup.close().await;
    let found: Vec<Finding> = found.into_iter().flatten().collect();
    match arguments.format {
        DoctorFormat::Table => crate::cli::print_painted(&findings::table(&found, crate::cli::look()))?,
        DoctorFormat::Json => crate::cli::print(&findings::json(&found))?,
    }
    Ok(found.iter().map(|finding| finding.state).max().unwrap_or(State::Ok).exit_code())
}
