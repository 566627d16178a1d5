//! What would hinder certd in a Vault: its server, certd's token and its rights, and how mounts and roles are set
//! up. Everything is asked for, and nothing is changed.

mod excess;
mod finding;
mod grants;
mod mounts;
mod names;
mod roles;
mod server;
mod shortage;
mod staging;
mod token;

pub use finding::{About, Finding};

use crate::cycle::setup::Setup;
use crate::domain::homes::Homes;
use crate::domain::time::Timestamp;
use crate::rights;
use crate::rights::mounts::Mounts;
use crate::vault::Vault;

use finding::Findings;
use grants::Grants;
use token::Token;

/// What there is to say of one Vault. Of a server that cannot work, or a token that it does not take, nothing
/// else is asked. `homes` are what the journal has.
pub async fn examine(setup: &Setup, vault: &Vault, homes: &Homes, now: fn() -> Timestamp) -> Vec<Finding> {
    let mut findings = Findings::new(&vault.name);
    if server::examine(vault, now, &mut findings).await {
        examine_token(setup, vault, &mut findings).await;
    }
    names::examine(setup, &vault.name, homes, &mut findings);
    findings.all
}

async fn examine_token(setup: &Setup, vault: &Vault, findings: &mut Findings) {
    let token = Token::look(vault).await;
    let mounts = match token.is_usable() {
        true => Mounts::ask(vault, &rights::paths(setup, &vault.name)).await,
        false => Mounts::default(),
    };
    let needs = rights::needs(setup, vault, &mounts);
    let grants = match token.is_usable() {
        true => Grants::ask(setup, vault, &mounts, &needs).await,
        false => Grants::default(),
    };
    token.judge(vault, &grants, findings);
    if !token.is_usable() || token.is_refused(&grants) {
        return;
    }
    shortage::judge(&needs, &grants, findings);
    excess::judge(&needs, &grants, findings);
    staging::examine(setup, vault, &mounts, &needs, &token.policies(), findings).await;
    mounts::examine(setup, vault, &mounts, findings).await;
    roles::examine(setup, vault, findings).await;
}
