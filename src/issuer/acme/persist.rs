//! DNS-PERSIST-01 (draft-ietf-acme-dns-persist): a record that a person puts into the DNS once. certd reads it, and never
//! writes it.

use super::account::Account;
use super::dns::{Lookup, LookupError};
use crate::domain::persist::{self, Standing, Wanted};
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
    #[error("its record could not be read")]
    Lookup(#[source] LookupError),
    #[error("{standing}; put this there: {owner} TXT \"{record}\"")]
    Record { standing: String, owner: String, record: String },
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

    pub async fn standing(
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

pub fn owner(name: &str) -> String {
    format!("{LABEL}.{}", printable(name))
}

pub fn wanted_record(account_url: &str, issuer_domains: &[String], wildcard: bool) -> String {
    let issuer = issuer_domains.first().map_or("ISSUER-DOMAIN", String::as_str);
    // Its parts are escaped, and it is told whole.
    persist::record(issuer, account_url, wildcard, None)
}
