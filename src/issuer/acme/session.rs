//! Signed requests of an account (RFC 8555, section 6) that instant-acme does not make: the account itself with an
//! external binding, the change of its key, and reading a certificate with its alternates.

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, LINK};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::http::{AcmeError, Answer, Http};
use crate::domain::text::printable;
use crate::pki::NotUnderstood;
use crate::pki::jws::SigningKey;

/// Of a server that refuses three nonces of five, one request in 40,000 meets no good one.
pub const NONCES: usize = 21;

/// RFC 8555, section 7.1.1.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    pub new_nonce: String,
    pub new_account: String,
    pub new_order: String,
    pub revoke_cert: Option<String>,
    pub key_change: Option<String>,
    /// RFC 9773.
    pub renewal_info: Option<String>,
    #[serde(default)]
    pub meta: Meta,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub terms_of_service: Option<String>,
    pub external_account_required: bool,
    /// By which names records in the DNS may call the CA.
    pub caa_identities: Vec<String>,
    /// What each is for, by name (draft-ietf-acme-profiles).
    pub profiles: BTreeMap<String, String>,
}

impl Directory {
    pub fn parse(body: &[u8]) -> Result<Self, AcmeError> {
        object(body).map_err(|error| not_understood("its directory", &error))
    }

    pub async fn read(http: &Http, url: &str) -> Result<Self, AcmeError> {
        Self::parse(&http.read(url).await?.body)
    }
}

/// Who signs a request.
pub enum Signer<'a> {
    /// The key itself: the account is not known yet.
    Key(&'a SigningKey),
    Account {
        key: &'a SigningKey,
        url: &'a str,
    },
}

pub struct Session<'a> {
    pub http: &'a Http,
    pub directory: &'a Directory,
    pub signer: Signer<'a>,
}

impl Session<'_> {
    /// Without a payload it reads. An answer that refuses the nonce is followed by another nonce.
    pub async fn post(&self, url: &str, payload: Option<&Value>) -> Result<Answer, AcmeError> {
        let mut given: Option<String> = None;
        for _ in 0..NONCES {
            let nonce = match given.take() {
                Some(nonce) => nonce,
                None => self.nonce().await?,
            };
            let signed = self.signed(&nonce, url, payload)?;
            let answer = self.http.post(url, signed.to_string().into_bytes()).await?;
            if (200..300).contains(&answer.status) {
                return Ok(answer);
            }
            given = nonce_of(&answer.headers);
        }
        Err(AcmeError::Nonces)
    }

    async fn nonce(&self) -> Result<String, AcmeError> {
        let answer = self.http.head(&self.directory.new_nonce).await?;
        nonce_of(&answer.headers).ok_or_else(|| AcmeError::NotUnderstood("it gives no nonce".to_string()))
    }

    fn signed(&self, nonce: &str, url: &str, payload: Option<&Value>) -> Result<Value, AcmeError> {
        let (key, mut protected) = match &self.signer {
            Signer::Key(key) => (key, json!({ "jwk": key.jwk() })),
            Signer::Account { key, url } => (key, json!({ "kid": url })),
        };
        protected["nonce"] = json!(nonce);
        protected["url"] = json!(url);
        key.sign(protected, payload).map_err(unsigned)
    }
}

fn nonce_of(headers: &HeaderMap) -> Option<String> {
    headers.get("replay-nonce")?.to_str().ok().map(str::to_string)
}

/// Nothing but an object: serde takes a list for the members in their order.
pub fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    match body.trim_ascii_start().first() {
        Some(b'[') => Err(serde::de::Error::custom("a list where an object belongs")),
        Some(_) | None => serde_json::from_slice(body),
    }
}

/// Where else the same certificate is, with another chain (RFC 8555, section 7.4.2).
pub fn alternates(headers: &HeaderMap) -> Vec<String> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    links.filter_map(alternate).collect()
}

fn alternate(link: &str) -> Option<String> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_alternate = parameters.split(';').any(|parameter| {
        let (name, value) = parameter.trim().split_once('=').unwrap_or_default();
        name.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"').eq_ignore_ascii_case("alternate")
    });
    is_alternate.then(|| target.to_string())
}

pub fn unsigned(error: NotUnderstood) -> AcmeError {
    AcmeError::NotUnderstood(error.to_string())
}

pub fn not_understood(what: &str, error: &serde_json::Error) -> AcmeError {
    AcmeError::NotUnderstood(format!("{what}: {}", printable(&error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_links_to_alternates_are_found_among_others() {
        let mut headers = HeaderMap::new();
        for link in [
            r#"<https://ca/cert/1/1>;rel="alternate""#,
            r#"<https://ca/directory>; rel="index""#,
            r#" <https://ca/cert/1/2> ; title=x; REL = Alternate"#,
            "https://ca/cert/1/3;rel=alternate",
            "<https://ca/cert/1/4>",
        ] {
            headers.append(LINK, link.parse().unwrap());
        }
        assert_eq!(alternates(&headers), ["https://ca/cert/1/1", "https://ca/cert/1/2"]);
    }

    #[test]
    fn a_directory_is_read_without_what_only_some_servers_have() {
        let least = r#"{"newNonce":"https://a/n","newAccount":"https://a/a","newOrder":"https://a/o"}"#;
        let directory = Directory::parse(least.as_bytes()).unwrap();
        assert_eq!((directory.renewal_info, directory.meta.profiles.len()), (None, 0));
        let all = r#"{"newNonce":"","newAccount":"","newOrder":"","renewalInfo":"https://a/r",
            "meta":{"externalAccountRequired":true,"profiles":{"short":"six days"},"caaIdentities":["ca.example"],"website":"x"}}"#;
        let directory = Directory::parse(all.as_bytes()).unwrap();
        assert_eq!(directory.renewal_info.as_deref(), Some("https://a/r"));
        assert_eq!(directory.meta.caa_identities, ["ca.example"]);
        assert!(directory.meta.external_account_required && directory.meta.profiles.contains_key("short"));
        assert!(Directory::parse(b"<html>").is_err());
    }
}
