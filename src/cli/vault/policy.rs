//! `certd vault policy`: the least policy that a configuration needs.

use clap::Args;

use super::Chosen;
use crate::cycle::setup::Setup;
use crate::rights::mounts::Mounts;
use crate::rights::{self, policy};
use crate::vault::Vault;

const EXAMPLES: &str = "\
Examples:
  certd vault policy
  certd vault policy --vault main | bao policy write certd -";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PolicyArguments {
    #[command(flatten)]
    chosen: Chosen,
    /// With what `certd revoke` needs
    #[arg(long)]
    revoke: bool,
}

pub async fn run(arguments: PolicyArguments) -> anyhow::Result<u8> {
    let setup = arguments.chosen.setup()?;
    let mut out = String::new();
    for vault in arguments.chosen.vaults(&setup)? {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&text(&setup, vault, arguments.revoke).await);
    }
    setup.close().await;
    crate::cli::print(&out)?;
    Ok(0)
}

async fn text(setup: &Setup, vault: &Vault, revoke: bool) -> String {
    let mounts = Mounts::ask(vault, &rights::paths(setup, &vault.name)).await;
    let namespace = vault.namespace().map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
    let mut out = format!(
        "# What certd needs in vault {} at {}{namespace}, and no more: the policy `default` is not needed beside it.\n",
        vault.name,
        vault.address(),
    );
    for (mount, why) in mounts.assumed() {
        let why = crate::domain::text::one_line(why);
        out.push_str(&format!("# {mount} is taken for KV version 2, as Vault does not say: {why}\n"));
    }
    if mounts.assumed().next().is_some() {
        out.push_str("# Print it again once the token has these rights: Vault then says what each mount is.\n");
    }
    let mut needs = rights::needs(setup, vault, &mounts);
    if revoke {
        needs.extend(rights::revocation(setup, vault));
    }
    out + &policy::hcl(&policy::least(&needs))
}
