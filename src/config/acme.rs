//! `[issuer.NAME.acme]`, as the user writes it.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::Environment;
use super::value::{FilePath, Period, Roots};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcmeIssuer {
    /// Of the CA: an address that begins with https://.
    pub directory: Spanned<String>,
    /// Other servers of the CA that its directory, orders and certificates may name.
    #[serde(default)]
    pub also: Vec<Spanned<String>>,
    /// What the directory's own server must verify to; the system's roots where there is none.
    pub ca_file: Option<FilePath>,
    /// What a signed chain must verify to; the system's roots and those of `ca_file` where this says nothing.
    pub roots: Option<Roots>,
    #[serde(default)]
    pub contact: Vec<Spanned<String>>,
    #[serde(default)]
    pub terms_agreed: bool,
    /// Where the account is kept; a file in the state directory where this says nothing.
    pub account: Option<Spanned<AccountPlace>>,
    pub eab: Option<ExternalAccount>,
    pub profile: Option<String>,
    pub preferred_chain: Option<String>,
    #[serde(default = "orders_per_hour")]
    pub orders_per_hour: Spanned<u32>,
    /// For the CA's look at the answers, and for its signing.
    #[serde(default = "patience")]
    pub patience: Spanned<Period>,
    pub challenge: Spanned<ChallengeTable>,
    pub environment: Environment,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountPlace {
    File(FilePath),
    VaultKv(AccountInVault),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountInVault {
    pub vault: Spanned<String>,
    pub path: Spanned<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalAccount {
    pub key_id: String,
    pub hmac_file: FilePath,
}

/// The ways in which names may be proved.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChallengeTable {
    pub http_01: Option<Spanned<HttpChallenge>>,
    pub tls_alpn_01: Option<Spanned<TlsChallenge>>,
    pub dns_01: Option<Spanned<DnsChallenge>>,
    pub dns_persist_01: Option<Spanned<Servers>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpChallenge {
    /// Addresses of certd's own listener.
    pub listen: Option<Vec<Spanned<String>>>,
    /// What a web server serves.
    pub webroot: Option<FilePath>,
    /// The FileDescriptorName of a socket of systemd.
    pub socket: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsChallenge {
    pub listen: Option<Vec<Spanned<String>>>,
    pub socket: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsChallenge {
    pub rfc2136: Option<DynamicUpdate>,
    pub exec: Option<Command>,
    pub acme_dns: Option<AcmeDnsAccounts>,
    /// Every server of the zone must show the record within this time.
    #[serde(default = "propagation")]
    pub propagation: Spanned<Period>,
    pub resolver: Option<Spanned<String>>,
    #[serde(default)]
    pub authoritative: Vec<Spanned<String>>,
}

/// How the DNS is looked at.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Servers {
    pub resolver: Option<Spanned<String>>,
    #[serde(default)]
    pub authoritative: Vec<Spanned<String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DynamicUpdate {
    pub server: Spanned<String>,
    pub zone: Option<String>,
    pub tsig_key_file: FilePath,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    pub command: Spanned<Vec<String>>,
    #[serde(default = "minute")]
    pub deadline: Spanned<Period>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcmeDnsAccounts {
    pub accounts_file: FilePath,
    pub server: Option<Spanned<String>>,
}

/// Let's Encrypt takes 300 new orders of an account in three hours.
fn orders_per_hour() -> Spanned<u32> {
    Spanned::new(0..0, 60)
}

fn patience() -> Spanned<Period> {
    seconds(120)
}

fn propagation() -> Spanned<Period> {
    seconds(120)
}

fn minute() -> Spanned<Period> {
    seconds(60)
}

fn seconds(seconds: u64) -> Spanned<Period> {
    Spanned::new(0..0, Period(Duration::from_secs(seconds)))
}
