//! Where to look, as an operator writes it: `host:port`, `https://host/…`, a file, a glob, `vault:…`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

use crate::domain::inventory::Location;

/// What `https://host` without a port means (RFC 9110, section 4.2.2).
const HTTPS_PORT: u16 = 443;

/// The longest host name that DNS can hold (RFC 1035, section 2.3.4).
const LONGEST_HOST: usize = 253;

/// One TLS endpoint. Host and server name are kept in lower case, addresses in their shortest form.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Target {
    pub host: String,
    pub port: u16,
    /// The name to ask for, where it is not `host`.
    pub sni: Option<String>,
}

/// Why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a target, {why}: {text:?}")]
pub struct NotATarget {
    pub text: String,
    /// What is wrong and what to write instead.
    pub why: String,
}

impl NotATarget {
    fn new(text: &str, why: impl fmt::Display) -> Self {
        Self { text: text.to_string(), why: why.to_string() }
    }
}

impl From<Target> for Location {
    fn from(target: Target) -> Self {
        let Target { host, port, sni } = target;
        Self::Endpoint { host, port, sni, address: None }
    }
}

impl TryFrom<String> for Target {
    type Error = NotATarget;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for Target {
    type Err = NotATarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|why| NotATarget::new(text, why))
    }
}

fn parse(text: &str) -> Result<Target, String> {
    let mut words = text.split_whitespace();
    let address = words.next().ok_or("it is empty: write host:port")?;
    let (host, port) = host_and_port(address)?;
    let mut sni = None;
    for word in words {
        let name = word.strip_prefix("sni=").ok_or("after the address only sni=NAME is known")?;
        if sni.replace(host_name(name)?).is_some() {
            return Err("sni= is there twice".to_string());
        }
    }
    Ok(Target { sni: sni.filter(|sni| *sni != host), host, port })
}

fn host_and_port(address: &str) -> Result<(String, u16), String> {
    let (authority, default_port) = match address.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => {
            (rest.split(['/', '?', '#']).next().unwrap_or_default(), Some(HTTPS_PORT))
        }
        Some((scheme, _)) => return Err(format!("{scheme}:// is not yet supported: write host:port")),
        None => (address, None),
    };
    if authority.contains('@') {
        return Err("a user name has no place in it: write host:port".to_string());
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => bracketed(rest)?,
        None => match authority.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err("an IPv6 address needs brackets: write [::1]:443".to_string());
            }
            Some((host, port)) => (host_name(host)?, Some(port)),
            None => (host_name(authority)?, None),
        },
    };
    let port = match port {
        Some(port) => port_number(port)?,
        None => default_port.ok_or("the port is missing: write host:port")?,
    };
    Ok((host, port))
}

/// What follows the opening bracket: an IPv6 address, perhaps with a zone (RFC 4007), and a port.
fn bracketed(rest: &str) -> Result<(String, Option<&str>), String> {
    let (inside, after) = rest.split_once(']').ok_or("the closing bracket is missing: write [::1]:443")?;
    let (address, zone) = match inside.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (inside, None),
    };
    let address: Ipv6Addr = address.parse().map_err(|_| "no IPv6 address stands in the brackets".to_string())?;
    let host = match zone {
        None => address.to_string(),
        Some(zone) if !zone.is_empty() && zone.bytes().all(is_host_byte) => format!("{address}%{zone}"),
        Some(_) => return Err("the zone after % is not the name of an interface".to_string()),
    };
    match after.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if after.is_empty() => Ok((host, None)),
        None => Err("after the bracket only :port may follow".to_string()),
    }
}

fn host_name(text: &str) -> Result<String, String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(ip.to_string());
    }
    match text {
        "" => Err("the host is empty: write host:port".to_string()),
        _ if !text.is_ascii() => Err("a name beyond ASCII is written in its xn-- form".to_string()),
        _ if text.contains('/') => Err("networks and paths are not yet supported here: write host:port".to_string()),
        _ if text.contains('*') => Err("a wildcard is no host: name the hosts".to_string()),
        _ if text.len() > LONGEST_HOST => Err("the host is longer than a name in DNS can be".to_string()),
        _ if text.starts_with('.') || text.contains("..") => Err("the host has an empty label".to_string()),
        _ if !text.bytes().all(is_host_byte) => Err("the host has a character that no host name has".to_string()),
        _ => Ok(text.to_ascii_lowercase()),
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

fn port_number(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port != 0);
    port.ok_or_else(|| format!("a port is a number from 1 to 65535, which {text:?} is not"))
}

/// What `certd check` is asked to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CheckTarget {
    /// Always a [`Location::Endpoint`].
    Endpoint(Location),
    File(PathBuf),
    Glob(String),
    /// What follows `vault:`.
    Vault(String),
}

/// Characters that make a path a glob.
pub fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

impl FromStr for CheckTarget {
    type Err = NotATarget;

    /// `NAME:digits` is an endpoint, as long as the digits are a port; `./NAME:digits` is a file.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if looks_like_endpoint(text) {
            return Ok(Self::Endpoint(text.parse::<Target>()?.into()));
        }
        match text.strip_prefix("vault:") {
            _ if text.is_empty() => Err(NotATarget::new(text, "it is empty: write host:port, a file or vault:path")),
            Some("") => Err(NotATarget::new(text, "the path is missing: write vault:secret/tls/web")),
            Some(path) => Ok(Self::Vault(path.to_string())),
            None if is_glob(text) => Ok(Self::Glob(text.to_string())),
            None => Ok(Self::File(PathBuf::from(text))),
        }
    }
}

/// A host called `vault` has digits after the colon; a secret always has a mount and a path.
fn looks_like_endpoint(text: &str) -> bool {
    let address = text.split_whitespace().next().unwrap_or_default();
    let named_port = || {
        address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && !host.contains('/') && port_number(port).is_ok())
    };
    let is_bracketed = address.starts_with('[') && address.split(']').next().is_some_and(|head| head.contains(':'));
    let has_scheme = address.split_once("://").is_some_and(|(scheme, _)| scheme.bytes().all(is_host_byte));
    has_scheme || is_bracketed || text.contains(" sni=") || named_port()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, String> {
        text.parse::<Target>().map(|t| Location::from(t).to_string()).map_err(|e| e.why)
    }

    #[test]
    fn reads_every_way_to_write_an_endpoint() {
        for (text, location) in [
            ("www.example.org:443", "www.example.org:443"),
            ("WWW.Example.ORG:8443", "www.example.org:8443"),
            ("https://www.example.org", "www.example.org:443"),
            ("HTTPS://www.example.org/a/b?c=d#e", "www.example.org:443"),
            ("https://www.example.org:8443/x", "www.example.org:8443"),
            ("https://[::1]/", "[::1]:443"),
            ("[::1]:443", "[::1]:443"),
            ("[0:0::0:1]:443", "[::1]:443"),
            ("[fe80::1%eth0]:443", "[fe80::1%eth0]:443"),
            ("10.0.0.1:65535", "10.0.0.1:65535"),
            ("_sip.example.org:1", "_sip.example.org:1"),
            ("10.0.0.1:443 sni=www.Example.org", "10.0.0.1:443 sni=www.example.org"),
            ("  a:1   sni=b  ", "a:1 sni=b"),
            ("www.example.org:443 sni=WWW.example.org", "www.example.org:443"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(location), "{text:?}");
        }
    }

    #[test]
    fn says_what_is_wrong_with_the_rest() {
        for (text, why) in [
            ("", "it is empty: write host:port"),
            ("example.org", "the port is missing: write host:port"),
            (":443", "the host is empty: write host:port"),
            ("https://", "the host is empty: write host:port"),
            ("a:0", "a port is a number from 1 to 65535, which \"0\" is not"),
            ("a:65536", "a port is a number from 1 to 65535, which \"65536\" is not"),
            ("a:+1", "a port is a number from 1 to 65535, which \"+1\" is not"),
            ("a:", "a port is a number from 1 to 65535, which \"\" is not"),
            ("::1:443", "an IPv6 address needs brackets: write [::1]:443"),
            ("[::1", "the closing bracket is missing: write [::1]:443"),
            ("[::1]443", "after the bracket only :port may follow"),
            ("[example.org]:443", "no IPv6 address stands in the brackets"),
            ("[fe80::1%]:443", "the zone after % is not the name of an interface"),
            ("smtp://mx.example.org:25", "smtp:// is not yet supported: write host:port"),
            ("10.0.0.0/28:8443", "networks and paths are not yet supported here: write host:port"),
            ("*.example.org:443", "a wildcard is no host: name the hosts"),
            ("user@example.org:443", "a user name has no place in it: write host:port"),
            ("bücher.example:443", "a name beyond ASCII is written in its xn-- form"),
            ("a..b:443", "the host has an empty label"),
            ("a\u{7}b:443", "the host has a character that no host name has"),
            ("a:1 b:2", "after the address only sni=NAME is known"),
            ("a:1 sni=", "the host is empty: write host:port"),
            ("a:1 sni=b sni=c", "sni= is there twice"),
        ] {
            assert_eq!(shown(text), Err(why.to_string()), "{text:?}");
        }
        let long = format!("{}:443", "a".repeat(254));
        assert_eq!(shown(&long), Err("the host is longer than a name in DNS can be".to_string()));
        assert!(shown(&long[1..]).is_ok());
    }

    #[test]
    fn a_mistake_is_shown_with_its_text_on_one_line() {
        let error = "a\nb".parse::<Target>().unwrap_err();
        assert_eq!(error.to_string(), "not a target, the port is missing: write host:port: \"a\\nb\"");
    }

    fn endpoint(host: &str, port: u16, sni: Option<&str>) -> CheckTarget {
        CheckTarget::Endpoint(Location::Endpoint { host: host.into(), port, sni: sni.map(Into::into), address: None })
    }

    #[test]
    fn tells_endpoints_files_globs_and_secrets_apart() {
        for (text, target) in [
            ("example.org:443", endpoint("example.org", 443, None)),
            ("https://example.org", endpoint("example.org", 443, None)),
            ("[::1]:8443", endpoint("::1", 8443, None)),
            ("10.0.0.1:443 sni=a.b", endpoint("10.0.0.1", 443, Some("a.b"))),
            ("vault:8200", endpoint("vault", 8200, None)),
            ("vault:secret/tls/web", CheckTarget::Vault("secret/tls/web".into())),
            ("vault:main:secret/tls/web", CheckTarget::Vault("main:secret/tls/web".into())),
            ("vault:secret/tls/**", CheckTarget::Vault("secret/tls/**".into())),
            ("example.org", CheckTarget::File("example.org".into())),
            ("example.org:0", CheckTarget::File("example.org:0".into())),
            ("example.org:65536", CheckTarget::File("example.org:65536".into())),
            ("./example.org:443", CheckTarget::File("./example.org:443".into())),
            ("/etc/ssl/web.pem", CheckTarget::File("/etc/ssl/web.pem".into())),
            ("/etc/ssl/my web.pem", CheckTarget::File("/etc/ssl/my web.pem".into())),
            ("/etc/ssl/*.pem", CheckTarget::Glob("/etc/ssl/*.pem".into())),
            ("[ab].pem", CheckTarget::Glob("[ab].pem".into())),
            ("cert?.pem", CheckTarget::Glob("cert?.pem".into())),
        ] {
            assert_eq!(text.parse::<CheckTarget>(), Ok(target), "{text:?}");
        }
        for text in ["", "vault:", "smtp://mx.example.org", "[::1]:0", "*.example.org:443", "::1:443"] {
            assert!(text.parse::<CheckTarget>().is_err(), "{text:?}");
        }
    }
}
