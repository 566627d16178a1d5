//! acme-dns: a name server for challenges alone, which the names of other zones lead to by CNAME. It keeps the last two
//! values of each account, so nothing has to be taken away.

use std::collections::HashMap;
use std::path::PathBuf;

use hickory_proto::rr::Name;
use reqwest::header::HeaderValue;
use reqwest::{Client, Response, StatusCode, Url};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::lookup::shown;
use super::secret_file;
use crate::domain::hidden;
use crate::domain::text::printable;

/// In bytes. What acme-dns answers takes a hundred.
const LARGEST_ANSWER: usize = 64 * 1024;

#[derive(Clone, Debug)]
pub struct AcmeDns {
    /// Follows no redirects and has deadlines.
    pub http: Client,
    /// For accounts that name none themselves.
    pub server: Option<Url>,
    /// As acme-dns-client and lego keep them: accounts by name. Read again for each value.
    pub accounts_file: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum AcmeDnsError {
    #[error("could not read the accounts of acme-dns in {}: let certd read it", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// Without what the parser says: it would quote a password that stands in the wrong place.
    #[error(
        "{} holds no accounts of acme-dns: line {line} is not understood; give each name a fulldomain, subdomain, \
         username and password",
        path.display()
    )]
    NotUnderstood { path: PathBuf, line: usize },
    #[error("{} has no account for {name}: register one with acme-dns, and keep it there", path.display())]
    NoAccount { path: PathBuf, name: String },
    #[error(
        "the account of {name} names no server: give it the server_url where it was registered, or name the server in \
         the configuration"
    )]
    NoServer { name: String },
    #[error("the password of {name} would cross the network in the clear: use https for {server}")]
    Plain { name: String, server: String },
    #[error("{owner} leads to {end}, not to its account at acme-dns: make the record `{owner}. CNAME {fulldomain}.`")]
    NotDelegated { owner: String, end: String, fulldomain: String },
    #[error("the account of {name} has a user name or password that fits into no header: register it anew")]
    Credentials { name: String },
    #[error("could not reach acme-dns at {server}: see whether it runs")]
    Unreachable { server: String, source: reqwest::Error },
    #[error("acme-dns at {server} knows no such user and password for {name}: register it anew")]
    Unauthorised { server: String, name: String },
    #[error("acme-dns at {server} answered {}: {}: see its log", status.as_u16(), said)]
    Refused { server: String, status: StatusCode, said: String },
    #[error("acme-dns at {server} answered more than {LARGEST_ANSWER} bytes: see whether it is acme-dns")]
    TooLarge { server: String },
}

#[derive(Deserialize)]
struct Account {
    fulldomain: String,
    subdomain: String,
    #[serde(deserialize_with = "wiped")]
    username: Zeroizing<String>,
    #[serde(deserialize_with = "wiped")]
    password: Zeroizing<String>,
    server_url: Option<String>,
}

fn wiped<'de, D: Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

impl AcmeDns {
    /// `owner` is the challenge of `name`, and `end` where its CNAMEs lead to.
    pub(super) async fn present(&self, name: &str, owner: &Name, end: &Name, value: &str) -> Result<(), AcmeDnsError> {
        let account = self.account(name).await?;
        if !is_same(&account.fulldomain, &end.to_ascii()) {
            return Err(AcmeDnsError::NotDelegated {
                owner: shown(owner),
                end: shown(end),
                fulldomain: printable(account.fulldomain.trim_end_matches('.')),
            });
        }
        let update = self.update_url(name, &account)?;
        let server = update.origin().ascii_serialization();
        let header = |secret: &str| {
            let mut header =
                HeaderValue::from_str(secret).map_err(|_| AcmeDnsError::Credentials { name: printable(name) })?;
            header.set_sensitive(true);
            Ok(header)
        };
        let request = self
            .http
            .post(update)
            .header("X-Api-User", header(&account.username)?)
            .header("X-Api-Key", header(&account.password)?)
            .json(&serde_json::json!({ "subdomain": account.subdomain, "txt": value }));
        let answer = request.send().await.map_err(|source| unreachable(&server, source))?;
        match (answer.status(), said(&server, answer).await?) {
            (status, _) if status.is_success() => Ok(()),
            (StatusCode::UNAUTHORIZED, _) => Err(AcmeDnsError::Unauthorised { server, name: printable(name) }),
            (status, said) => {
                let said = hidden::words_without(&said, &[&*account.username, &*account.password]);
                Err(AcmeDnsError::Refused { server, status, said })
            }
        }
    }

    async fn account(&self, name: &str) -> Result<Account, AcmeDnsError> {
        let path = || self.accounts_file.clone();
        let bytes = match secret_file::read(&self.accounts_file).await {
            Ok(bytes) => bytes,
            Err(source) => return Err(AcmeDnsError::Read { path: path(), source }),
        };
        let accounts: HashMap<String, Account> = serde_json::from_slice(&bytes)
            .map_err(|error| AcmeDnsError::NotUnderstood { path: path(), line: error.line() })?;
        let found = accounts.into_iter().find(|(of, _)| is_same(of, name));
        match found {
            Some((_, account)) => Ok(account),
            None => Err(AcmeDnsError::NoAccount { path: path(), name: printable(name) }),
        }
    }

    /// An account is known to the server alone where it was registered, so that what it says comes first.
    fn update_url(&self, name: &str, account: &Account) -> Result<Url, AcmeDnsError> {
        let of_the_account = account.server_url.as_deref().filter(|url| !url.is_empty());
        let url = match of_the_account {
            Some(url) => url.parse().ok(),
            None => self.server.clone(),
        };
        let Some(mut url): Option<Url> = url else { return Err(AcmeDnsError::NoServer { name: printable(name) }) };
        if !is_private(&url) {
            let server = printable(&url.origin().ascii_serialization());
            return Err(AcmeDnsError::Plain { name: printable(name), server });
        }
        url.set_path(&format!("{}/update", url.path().trim_end_matches('/')));
        Ok(url)
    }
}

/// Whether nobody in between can read what is sent there.
fn is_private(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback)
}

/// Whether two texts are one name.
fn is_same(one: &str, other: &str) -> bool {
    one.trim_end_matches('.').eq_ignore_ascii_case(other.trim_end_matches('.'))
}

async fn said(server: &str, mut answer: Response) -> Result<String, AcmeDnsError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|source| unreachable(server, source))? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            return Err(AcmeDnsError::TooLarge { server: server.to_string() });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn unreachable(server: &str, source: reqwest::Error) -> AcmeDnsError {
    AcmeDnsError::Unreachable { server: server.to_string(), source: source.without_url() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_goes_over_https_or_stays_on_this_host() {
        let is_private = |text: &str| is_private(&text.parse().unwrap());
        for url in ["https://auth.example.org", "http://127.0.0.1:8080", "http://[::1]/", "http://localhost/api"] {
            assert!(is_private(url), "{url}");
        }
        for url in ["http://auth.example.org", "http://192.0.2.1", "http://localhost.example.org", "ftp://127.0.0.1"] {
            assert!(!is_private(url), "{url}");
        }
    }

    #[test]
    fn a_name_is_the_same_in_capitals_and_with_a_last_dot() {
        assert!(is_same("Example.ORG.", "example.org"));
        assert!(!is_same("www.example.org", "example.org"));
    }
}
