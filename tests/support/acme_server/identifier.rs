//! What an order is for: names and addresses.

use std::fmt;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::answer::{Answer, refused};

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identifier {
    /// In lower case; a wildcard begins with `*.`.
    Dns(String),
    Ip(IpAddr),
}

impl Identifier {
    pub fn of_text(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Dns(text.to_ascii_lowercase()), Self::Ip)
    }

    /// As a new order names it.
    pub fn of_json(identifier: &Value) -> Result<Self, Answer> {
        let value = identifier["value"].as_str().unwrap_or_default();
        match identifier["type"].as_str() {
            Some("dns") if is_name(value.strip_prefix("*.").unwrap_or(value)) => Ok(Self::Dns(value.to_string())),
            Some("dns") => Err(refused(400, "malformed", &format!("no name of a host: {value:?}"))),
            Some("ip") => match value.parse::<IpAddr>() {
                // RFC 8738 section 3: the one text that RFC 5952 has for an address.
                Ok(address) if address.to_string() == value => Ok(Self::Ip(address)),
                _ => Err(refused(400, "malformed", &format!("no address: {value:?}"))),
            },
            _ => Err(refused(400, "unsupportedIdentifier", "identifiers are of type dns or ip")),
        }
    }

    pub fn json(&self) -> Value {
        match self {
            Self::Dns(name) => json!({ "type": "dns", "value": name }),
            Self::Ip(address) => json!({ "type": "ip", "value": address.to_string() }),
        }
    }

    /// What has to be proven for it, and whether it was a wildcard.
    pub fn base(&self) -> (Self, bool) {
        match self {
            Self::Dns(name) => match name.strip_prefix("*.") {
                Some(base) => (Self::Dns(base.to_string()), true),
                None => (self.clone(), false),
            },
            Self::Ip(_) => (self.clone(), false),
        }
    }

    /// RFC 8555 section 8, RFC 8738 section 4.
    pub fn challenges(&self, wildcard: bool) -> &'static [&'static str] {
        match (self, wildcard) {
            (Self::Dns(_), true) => &["dns-01", "dns-persist-01"],
            (Self::Dns(_), false) => &["http-01", "dns-01", "tls-alpn-01", "dns-persist-01"],
            (Self::Ip(_), _) => &["http-01", "tls-alpn-01"],
        }
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => write!(f, "{address}"),
        }
    }
}

/// Of at least two labels, in lower case, and no address.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(is_label) && text.parse::<IpAddr>().is_err()
}
