//! `certd vault`: what the Vaults of a configuration must grant, and whether they do.

pub mod doctor;
pub mod policy;

use std::sync::Arc;

use anyhow::bail;
use clap::{Args, Subcommand};

use super::{ConfigFile, words};
use crate::cycle::setup::Setup;
use crate::domain::homes::Homes;
use crate::domain::name::VaultName;
use crate::domain::time::Timestamp;
use crate::vault::Vault;

#[derive(Debug, Subcommand)]
pub enum VaultCommand {
    /// What would hinder certd there, and what to do: exit 0 ok, 1 warning, 2 critical, 3 unknown
    Doctor(doctor::DoctorArguments),
    /// The least policy that this configuration needs, in HCL
    Policy(policy::PolicyArguments),
}

/// Which Vaults are meant.
#[derive(Debug, Args)]
pub struct Chosen {
    #[command(flatten)]
    file: ConfigFile,
    /// One of the configuration; all without it
    #[arg(long, value_name = "NAME")]
    vault: Option<String>,
}

pub async fn run(command: VaultCommand, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    match command {
        VaultCommand::Doctor(arguments) => doctor::run(arguments, now).await,
        VaultCommand::Policy(arguments) => policy::run(arguments).await,
    }
}

impl Chosen {
    fn setup(&self) -> anyhow::Result<Setup> {
        let config = super::load(&self.file.config)?;
        Ok(crate::config::build::build(&config)?)
    }

    /// Of the journal. Where it cannot be read, that is said, and the Vaults are examined all the same.
    async fn homes(&self) -> anyhow::Result<Homes> {
        let config = super::load(&self.file.config)?;
        Ok(match super::journal_view(&config).await {
            Ok(journal) => journal.homes,
            Err(error) => {
                eprintln!("certd: it is not known which places share names: {}", words::one_line(&error));
                Homes::default()
            }
        })
    }

    fn vaults<'s>(&self, setup: &'s Setup) -> anyhow::Result<Vec<&'s Arc<Vault>>> {
        let Some(name) = &self.vault else {
            return match setup.vaults.is_empty() {
                true => bail!("there is no vault in {}", self.file.config.display()),
                false => Ok(setup.vaults.values().collect()),
            };
        };
        match setup.vaults.get(&VaultName(name.clone())) {
            Some(vault) => Ok(vec![vault]),
            None => {
                let known: Vec<&String> = setup.vaults.keys().map(|known| &known.0).collect();
                bail!("no such vault: {name}{}", words::did_you_mean(name, known.into_iter()))
            }
        }
    }
}
