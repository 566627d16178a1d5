//! DNS-PERSIST-01 (draft-ietf-acme-dns-persist): a record that a person puts into the DNS once. certd reads it, and never
//! writes it.

use std::collections::BTreeMap;

use super::Acme;
use super::account::Account;
use super::dns::{Lookup, LookupError};
use super::http::AcmeError;
use super::keeper::KeeperError;
use crate::domain::name::San;
use crate::domain::persist::{self, Proof, Standing, Wanted};
use crate::domain::text::printable;
use crate::domain::time::Timestamp;

/// Where the record is.
const LABEL: &str = "_validation-persist";

pub struct DnsPersist01 {
    pub lookup: Lookup,
}

#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    #[error("{0}")]
    Ca(String),
    #[error("the CA's directory could not be read")]
    Directory(#[source] AcmeError),
    #[error(transparent)]
    Keeper(KeeperError),
    #[error("the CA's directory lists no caaIdentities: how its records begin is told when an order is refused")]
    Nameless,
    #[error("its record could not be read")]
    Lookup(#[source] LookupError),
    #[error("{standing}; put this there: {owner} TXT \"{record}\"")]
    Record { standing: String, owner: String, record: String },
}

/// Between whom a record is.
pub struct Parties {
    pub account_url: String,
    /// Of the CA; never empty.
    pub issuer_domains: Vec<String>,
}

impl Acme {
    /// `None` until there is an account. None is made for it.
    pub async fn parties(&self) -> Result<Option<Parties>, PersistError> {
        let kept = self.keeper.load().await.map_err(PersistError::Keeper)?;
        let kept = kept.map(|(kept, _)| kept).filter(|kept| kept.directory == self.account.directory);
        let Some(account_url) = kept.and_then(|kept| kept.url) else { return Ok(None) };
        let issuer_domains = self.known_directory().await.map_err(PersistError::Directory)?.meta.caa_identities;
        match issuer_domains.is_empty() {
            true => Err(PersistError::Nameless),
            false => Ok(Some(Parties { account_url, issuer_domains })),
        }
    }
}

impl DnsPersist01 {
    /// Whether the record allows the account to have certificates for the name.
    pub async fn insist(
        &self,
        account: &Account,
        issuer_domains: &[String],
        name: &str,
        wildcard: bool,
        now: Timestamp,
    ) -> Result<(), PersistError> {
        match self.standing(&account.url, issuer_domains, name, wildcard, now).await? {
            Standing::Valid { .. } => Ok(()),
            standing => Err(PersistError::Record {
                standing: standing.to_string(),
                owner: owner(name),
                record: wanted_record(&account.url, issuer_domains, wildcard),
            }),
        }
    }

    /// How the record stands that a certificate for the name needs.
    pub async fn proof(
        &self,
        parties: &Parties,
        name: &str,
        wildcard: bool,
        now: Timestamp,
    ) -> Result<Proof, PersistError> {
        let Parties { account_url, issuer_domains } = parties;
        Ok(Proof {
            owner: owner(name),
            record: wanted_record(account_url, issuer_domains, wildcard),
            standing: self.standing(account_url, issuer_domains, name, wildcard, now).await?,
        })
    }

    async fn standing(
        &self,
        account_url: &str,
        issuer_domains: &[String],
        name: &str,
        wildcard: bool,
        now: Timestamp,
    ) -> Result<Standing, PersistError> {
        let records = self.lookup.txt(&owner(name)).await.map_err(PersistError::Lookup)?;
        let wanted = Wanted { issuer_domains, account_uri: account_url, wildcard };
        Ok(persist::judge(&records, &wanted, now))
    }
}

/// Each name once, as the DNS has it, with whether its record must be for a wildcard too.
pub fn by_place<'a>(names: impl IntoIterator<Item = &'a San>) -> BTreeMap<String, bool> {
    let mut places = BTreeMap::new();
    for name in names {
        let San::Dns(name) = name else { continue };
        let base = name.strip_prefix("*.");
        *places.entry(base.unwrap_or(name).to_string()).or_default() |= base.is_some();
    }
    places
}

fn owner(name: &str) -> String {
    format!("{LABEL}.{}", printable(name))
}

fn wanted_record(account_url: &str, issuer_domains: &[String], wildcard: bool) -> String {
    let issuer = issuer_domains.first().map_or("ISSUER-DOMAIN", String::as_str);
    // Its parts are escaped, and it is told whole.
    persist::record(issuer, account_url, wildcard, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_and_its_apex_have_one_place_and_an_address_has_none() {
        let names = ["b.example", "*.a.example", "a.example"].map(|name| San::Dns(name.to_string()));
        let address = San::Ip([127, 0, 0, 1].into());
        let expected = BTreeMap::from([("a.example".to_string(), true), ("b.example".to_string(), false)]);
        assert_eq!(by_place(names.iter().chain([&address])), expected);
    }
}
