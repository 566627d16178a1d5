//! `certd config check`: what is wrong in the configuration, and what it cannot promise.

use std::path::Path;
use std::time::Duration;

use crate::config::{self, AdoptMode, Config, folders};
use crate::cycle::setup::Setup;
use crate::domain::homes;
use crate::domain::text::{message, one_line, with_causes};
use crate::domain::time::Timestamp;
use crate::files::regular;
use crate::issuer::Issuer;
use crate::issuer::acme::insist_on_profile;
use crate::issuer::vault_pki::VaultPki;
use crate::vault::VaultError;

use super::{journal_view, note_waits, words};

/// It is a check of a file: a Vault that does not answer at once is not waited for.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

pub async fn run(path: &Path, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let config = super::load(path)?;
    let setup = config::build::build(&config)?;
    let unreadable = tokens(&config);
    let (certificates, rules) = (setup.declared.len(), setup.adopted.len());
    super::print(&format!(
        "{}: ok; sources: {}, issuers: {}, certificates: {certificates}, adopt rules: {rules}\n",
        path.display(),
        setup.sources.len(),
        setup.issuers.len(),
    ))?;
    super::print(&names(&config, &setup).await?)?;
    if !config.vaults.is_empty() {
        super::print("whether its Vaults grant what it needs: certd vault doctor\n")?;
    }
    if !unreadable {
        records(&setup).await;
        if setup.issuers.values().any(|issuer| matches!(**issuer, Issuer::Acme(_))) {
            match journal_view(&config).await {
                Ok(journal) => {
                    setup.recall_waits(&journal, now());
                    directories(&setup).await;
                    note_waits(&config, &setup, &journal, now()).await;
                }
                Err(error) => eprintln!(
                    "certd: no ACME CA is asked, since it is not known which of them asked to be left alone: {}",
                    words::one_line(&error)
                ),
            }
        }
        setup.close().await;
    }
    Ok(0)
}

/// Which rules let one folder claim the names of another, and which adopted places share names already.
async fn names(config: &Config, setup: &Setup) -> anyhow::Result<String> {
    let mut told = String::new();
    for rule in config.adopt.iter().filter(|rule| rule.adopt == AdoptMode::Live && folders::mixes_folders(rule)) {
        told.push_str(&format!(
            "adopt rule {}: it covers several folders, and its names are not bound to them: whoever may write to one may \
             store a certificate for a name of another; bind them, such as *.{{2}}.example.org, or set adopt = \"ask\"\n",
            rule.label()
        ));
    }
    let homes = match journal_view(config).await {
        Ok(journal) => journal.homes,
        Err(error) => {
            eprintln!("certd: it is not known which places share names: {}", words::one_line(&error));
            return Ok(told);
        }
    };
    let declared = setup.declared.iter().map(|managed| (&managed.name, homes::name_texts(&managed.spec.names)));
    let places = homes.iter().map(|(place, home)| (place, home.names.clone())).chain(declared);
    for (places, names) in homes::shared(places) {
        let places: Vec<&str> = places.iter().map(|place| place.0.as_str()).collect();
        told.push_str(&one_line(&format!("{} is kept in several places: {}", names.join(", "), places.join(", "))));
        told.push('\n');
    }
    Ok(told)
}

/// A credential of systemd is there only while the service runs, so this is no mistake.
fn tokens(config: &Config) -> bool {
    let mut any = false;
    for (name, vault) in &config.vaults {
        let Some(path) = vault.token_file.as_ref().map(|path| config.path(path)) else { continue };
        if let Err(error) = regular::open(&path) {
            eprintln!("certd: the token of vault {name} cannot be read now: {}: {error}", path.display());
            any = true;
        }
    }
    any
}

/// Whether certd can learn of each issuer what it signed where its answer was lost.
async fn records(setup: &Setup) {
    for (name, issuer) in &setup.issuers {
        let Issuer::VaultPki { pki, .. } = issuer.as_ref() else { continue };
        match tokio::time::timeout(ANSWERS_WITHIN, keeps_records(pki)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => println!(
                "issuer {name}: its role keeps no record of what it signs (no_store), so where an answer is lost certd \
                 asks again, and it may sign twice: set no_store=false on it"
            ),
            Ok(Err(error)) => {
                let why = message(&error.to_string());
                eprintln!("certd: could not ask whether issuer {name} keeps what it signs: {why}");
            }
            Err(_) => eprintln!("certd: issuer {name} did not say in time whether it keeps what it signs"),
        }
    }
}

/// Whether each ACME CA has the profile that is configured, and what it wants of an account.
async fn directories(setup: &Setup) {
    for (name, issuer) in &setup.issuers {
        let Issuer::Acme(acme) = issuer.as_ref() else { continue };
        let directory = match tokio::time::timeout(ANSWERS_WITHIN, acme.directory()).await {
            Ok(Ok(directory)) => directory,
            Ok(Err(error)) => {
                eprintln!("certd: issuer {name} cannot be asked now: {}", message(&with_causes(&error)));
                continue;
            }
            Err(_) => {
                eprintln!("certd: issuer {name} did not answer in time");
                continue;
            }
        };
        if let Some(why) = acme.profile.as_ref().and_then(|profile| insist_on_profile(&directory, profile).err()) {
            println!("issuer {name}: {}", message(&why.to_string()));
        }
        if directory.meta.external_account_required && acme.account.external.is_none() {
            println!("issuer {name}: the CA makes no account without eab.key_id and eab.hmac_file");
        }
        if let (Some(terms), false) = (&directory.meta.terms_of_service, acme.account.terms_agreed) {
            println!("issuer {name}: read the CA's terms of service and set terms_agreed = true: {}", message(terms));
        }
    }
}

async fn keeps_records(pki: &VaultPki) -> Result<bool, VaultError> {
    Ok(pki.vault.pki_role(&pki.mount, &pki.role).await?.is_none_or(|role| !role.no_store))
}
