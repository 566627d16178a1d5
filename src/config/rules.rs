//! What a single piece of text must be, whatever else is declared.

use std::net::{IpAddr, SocketAddr};

use url::Host;

use crate::domain::name::San;

/// What is wrong with it, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub what: String,
    pub hint: String,
}

fn fault(what: impl Into<String>, hint: impl Into<String>) -> Result<(), Fault> {
    Err(Fault { what: what.into(), hint: hint.into() })
}

/// Names become file names, labels and journal keys.
const LONGEST_OWN_NAME: usize = 100;

pub(super) fn own_name(text: &str) -> Result<(), Fault> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > LONGEST_OWN_NAME || !text.chars().all(plain) {
        let hint = format!("use 1 to {LONGEST_OWN_NAME} of A-Z a-z 0-9 . _ -");
        return fault(format!("not a name: {text:?}"), hint);
    }
    Ok(())
}

/// A DNS name of a certificate: letters, digits, hyphens, underscores (RFC 1035, section 2.3.4 for the lengths).
pub(super) fn san(text: &str) -> Result<(), Fault> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return fault(format!("not a name for a certificate: {text:?}"), "write a DNS name or an IP address");
    }
    match San::from_text(&ascii(text)) {
        San::Dns(name) => dns_name(&name),
        San::Ip(_) | San::Email(_) | San::Uri(_) | San::Other(_) => Ok(()),
    }
}

/// A name of another script in the form that certificates have (RFC 5891); what has none stays as it is written.
pub(super) fn ascii(text: &str) -> String {
    let (wild, name) = text.strip_prefix("*.").map_or(("", text), |name| ("*.", name));
    if text.is_ascii() || text.contains(['@', '/']) {
        return text.to_string();
    }
    match url::Host::parse(name) {
        Ok(url::Host::Domain(name)) => format!("{wild}{name}"),
        Ok(url::Host::Ipv4(_) | url::Host::Ipv6(_)) | Err(_) => text.to_string(),
    }
}

fn dns_name(name: &str) -> Result<(), Fault> {
    let host = name.strip_prefix("*.").unwrap_or(name);
    if host.contains('*') {
        return fault(format!("a wildcard in a nonsensical place: {name:?}"), "only as the whole first label: *.NAME");
    }
    if !host.is_ascii() {
        return fault(format!("not a name of the DNS in any script: {name:?}"), "write it as the DNS has it");
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !host.split('.').all(label) {
        return fault(format!("not a DNS name: {name:?}"), "write a name such as www.example.org, without a port");
    }
    Ok(())
}

pub(super) fn ip_address(text: &str) -> Result<(), Fault> {
    match text.parse::<IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => fault(format!("not an IP address: {text:?}"), "write one such as 10.0.0.7 or fd00::7"),
    }
}

/// The longest common name (RFC 5280, appendix A.1, ub-common-name).
const LONGEST_COMMON_NAME: usize = 64;

pub(super) fn common_name(text: &str) -> Result<(), Fault> {
    if text.is_empty() || text.chars().count() > LONGEST_COMMON_NAME || text.contains(char::is_control) {
        return fault(format!("not a common name: {text:?}"), format!("1 to {LONGEST_COMMON_NAME} characters"));
    }
    Ok(())
}

/// The base of a name constraint: a domain with everything below it, or a network.
pub(super) fn permitted_name(text: &str) -> Result<(), Fault> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "0"));
    let fits = match address.parse::<IpAddr>() {
        Ok(ip) => prefix.parse::<u8>().is_ok_and(|bits| bits <= if ip.is_ipv4() { 32 } else { 128 }),
        Err(_) => !text.contains('*') && dns_name(text).is_ok(),
    };
    match fits {
        true => Ok(()),
        false => fault(
            format!("not a domain or a network that can be permitted: {text:?}"),
            "write example.org, which permits every name below it too, or 10.0.0.0/8",
        ),
    }
}

/// A mount, a role's mount or a namespace: segments with something in them.
pub(super) fn vault_segments(text: &str) -> Result<(), Fault> {
    let hint = "write segments with one / between them, such as secret/tls/web";
    if text.split('/').any(|segment| segment.trim().is_empty()) {
        return fault(format!("an empty segment in a Vault path: {text:?}"), hint);
    }
    if text.split('/').any(|segment| matches!(segment, "." | "..")) {
        return fault(format!("a . or .. in a Vault path: {text:?}"), hint);
    }
    if text.contains(|c: char| c.is_control() || matches!(c, '?' | '#' | '%')) {
        return fault(format!("a sign that cannot be in a Vault path: {text:?}"), hint);
    }
    // certd takes it as it stands, and a policy as a wildcard: what is granted would be more than what is meant.
    if text.split('/').any(|segment| segment == "+") {
        let hint = "rename that folder or secret; for any one segment, paths take *";
        return fault(format!("a segment + in a Vault path, which no policy can name alone: {text:?}"), hint);
    }
    Ok(())
}

/// The longest name of a staging group, in bytes.
const LONGEST_GROUP: usize = 64;

/// One segment of a path in Vault, which a policy can name.
pub(super) fn staging_group(text: &str) -> Result<(), Fault> {
    let hint = "1 to 64 letters, digits, hyphens, underscores or dots, such as prod; not . or ..";
    match is_group(text) {
        true => Ok(()),
        false => fault("not the name of a staging group".to_string(), hint),
    }
}

fn is_group(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=LONGEST_GROUP).contains(&text.len()) && text.bytes().all(is_plain) && !matches!(text, "." | "..")
}

/// The group of an environment: its name, or a digest where that is no segment of a path.
pub(super) fn group_of(environment: &str) -> String {
    match is_group(environment) {
        true => environment.to_string(),
        false => crate::pki::sha256(environment.as_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// A mount and the place of one secret below it.
pub(super) fn vault_path(text: &str) -> Result<(), Fault> {
    vault_segments(text)?;
    if text.contains(['*', '[', ']', '{', '}']) {
        return fault(format!("a glob where one secret belongs: {text:?}"), "write the whole path of the secret");
    }
    below_the_mount(text)
}

/// The same with `#object` behind it, where one secret holds several certificates.
pub(super) fn vault_store(text: &str) -> Result<(), Fault> {
    let (path, object) = text.split_once('#').unwrap_or((text, "object"));
    // As certd shows them where they are of the path itself.
    vault_path(&path.replace("%25", "_").replace("%23", "_"))?;
    if object.split('/').any(|name| name.trim().is_empty() || name.contains(char::is_control)) {
        let hint = "write the names of its objects with one / between them, such as secret/tls/all#web";
        return fault(format!("no object of a secret behind the #: {text:?}"), hint);
    }
    Ok(())
}

/// A glob over the secrets of one mount: `*` and `?` within a segment, `**` for any number of them.
pub(super) fn vault_glob(text: &str) -> Result<(), Fault> {
    // `?` is a sign of globs, and never reaches a URL.
    vault_segments(&text.replace('?', "_"))?;
    let mount = text.split('/').next().unwrap_or_default();
    if mount.contains(['*', '?']) {
        return fault(format!("a glob for the mount: {text:?}"), "begin with the name of the mount, such as secret/**");
    }
    // They would stand for themselves, which nobody means.
    if text.contains(['[', ']', '{', '}']) {
        return fault(format!("a sign that globs of Vault paths do not know: {text:?}"), "use *, ? and ** alone");
    }
    if text.split('/').any(|segment| segment != "**" && segment.contains("**")) {
        return fault(format!("** is not a whole segment: {text:?}"), "write it such as secret/tls/**");
    }
    below_the_mount(text)
}

fn below_the_mount(text: &str) -> Result<(), Fault> {
    match text.contains('/') {
        true => Ok(()),
        false => fault(
            format!("a mount with nothing below it: {text:?}"),
            format!("write mount and path, such as {text}/tls/web or, where globs belong, {text}/**"),
        ),
    }
}

/// Never repeats the address in its words once it has found a password in it.
pub(super) fn vault_address(text: &str) -> Result<(), Fault> {
    let hint = "write an address such as https://vault.example.org:8200";
    let Ok(url) = url::Url::parse(text) else {
        let shown = if text.contains('@') { "…" } else { text };
        return fault(format!("not a URL: {shown:?}"), hint);
    };
    if !url.username().is_empty() || url.password().is_some() {
        return fault(
            "a user or a password in the address of a Vault",
            "remove it; certd logs in by token_file or auth",
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return fault("a query or a fragment in the address of a Vault", hint);
    }
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => Ok(()),
        ("http", Some(host)) if is_loopback(&host) => Ok(()),
        ("http", Some(host)) => fault(
            format!("a Vault by plain http off loopback: {host}"),
            "use https://, since tokens and private keys pass through it",
        ),
        (_, _) if text.contains('@') => fault("not an http or https address: …", hint),
        (_, _) => fault(format!("not an http or https address: {text:?}"), hint),
    }
}

/// The name that a server shows its certificate for (RFC 6066, section 3): of the DNS, never an IP address.
pub(super) fn server_name(text: &str) -> Result<(), Fault> {
    match rustls_pki_types::DnsName::try_from(text) {
        Ok(_) => Ok(()),
        Err(_) => fault(format!("not a DNS name: {text:?}"), "write the one in the server's certificate"),
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    }
}

/// What is written in place of an address.
const NOT_LISTENING: &str = "none";

/// `None` where certd is not to listen.
pub(super) fn listen_address(text: &str) -> Result<Option<SocketAddr>, Fault> {
    if text == NOT_LISTENING {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Fault {
        what: format!("not an IP address with a port: {text:?}"),
        hint: "write one such as 127.0.0.1:9843 or [::1]:9843, or \"none\"".to_string(),
    })
}

/// The declared name that was probably meant.
pub fn closest<'a>(meant: &str, declared: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    // Two slips make another word of a short one.
    let slips = if meant.chars().count() < 4 { 1 } else { 2 };
    declared.map(|name| (distance(meant, name), name)).filter(|(far, _)| *far <= slips).min().map(|(_, name)| name)
}

/// Edits between two words, where two neighbours swapped count once (optimal string alignment).
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<usize>>()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let same = usize::from(from[i - 1] != to[j - 1]);
            let mut edits = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                edits = edits.min(rows[i - 2][j - 2] + 1);
            }
            row.push(edits);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ok` for what passes, else the fault.
    fn says(result: Result<(), Fault>) -> String {
        result.map_or_else(|fault| fault.what, |()| "ok".to_string())
    }

    #[test]
    fn a_wildcard_is_the_whole_first_label() {
        for (text, said) in [
            ("www.example.org", "ok"),
            ("*.example.org", "ok"),
            ("localhost", "ok"),
            ("_dmarc.example.org", "ok"),
            ("10.0.0.1", "ok"),
            ("::1", "ok"),
            ("a@example.org", "ok"),
            ("", "not a name for a certificate: \"\""),
            ("a b", "not a name for a certificate: \"a b\""),
            ("*", "a wildcard in a nonsensical place: \"*\""),
            ("w*.example.org", "a wildcard in a nonsensical place: \"w*.example.org\""),
            ("www.*.org", "a wildcard in a nonsensical place: \"www.*.org\""),
            ("*.*.org", "a wildcard in a nonsensical place: \"*.*.org\""),
            ("müller.example", "ok"),
            ("*.müller.example", "ok"),
            ("www.example.org:443", "not a DNS name: \"www.example.org:443\""),
            ("a..b", "not a DNS name: \"a..b\""),
            ("-a.b", "not a DNS name: \"-a.b\""),
        ] {
            assert_eq!(says(san(text)), said, "{text:?}");
        }
        assert_eq!(says(san(&format!("{}.org", "a".repeat(63)))), "ok");
        assert!(san(&format!("{}.org", "a".repeat(64))).is_err());
    }

    #[test]
    fn a_name_of_another_script_is_written_as_certificates_have_it() {
        assert_eq!(ascii("bücher.example"), "xn--bcher-kva.example");
        assert_eq!(ascii("*.Bücher.example"), "*.xn--bcher-kva.example");
        assert_eq!(ascii("例え.jp"), "xn--r8jz45g.jp");
        for same in ["www.example.org", "*.example.org", "_x.example.org", "127.0.0.1", "::1", "ü@example.org"] {
            assert_eq!(ascii(same), same);
        }
    }

    #[test]
    fn a_vault_address_is_https_or_on_loopback_and_shows_no_password() {
        for (text, said) in [
            ("https://vault.example.org:8200", "ok"),
            ("http://127.0.0.1:8200", "ok"),
            ("http://[::1]:8200", "ok"),
            ("http://localhost:8200", "ok"),
            ("http://vault:8200", "a Vault by plain http off loopback: vault"),
            ("http://localhost.example.org", "a Vault by plain http off loopback: localhost.example.org"),
            ("https://root:hunter2@vault", "a user or a password in the address of a Vault"),
            ("root:hunter2@vault", "not an http or https address: …"),
            ("//root:hunter2@vault", "not a URL: \"…\""),
            ("vault.example.org", "not a URL: \"vault.example.org\""),
            ("ftp://vault", "not an http or https address: \"ftp://vault\""),
            ("https://vault?x=1", "a query or a fragment in the address of a Vault"),
        ] {
            assert_eq!(says(vault_address(text)), said, "{text:?}");
        }
    }

    #[test]
    fn a_vault_path_has_a_mount_and_no_way_around_it() {
        for (text, said) in [
            ("secret/tls/web", "ok"),
            ("secret", "a mount with nothing below it: \"secret\""),
            ("/secret/web", "an empty segment in a Vault path: \"/secret/web\""),
            ("secret//web", "an empty segment in a Vault path: \"secret//web\""),
            ("secret/../sys", "a . or .. in a Vault path: \"secret/../sys\""),
            ("secret/a?x=1", "a sign that cannot be in a Vault path: \"secret/a?x=1\""),
            ("secret/**", "a glob where one secret belongs: \"secret/**\""),
        ] {
            assert_eq!(says(vault_path(text)), said, "{text:?}");
        }
        for (text, said) in [
            ("secret/**", "ok"),
            ("secret/tls/web-?", "ok"),
            ("*/tls", "a glob for the mount: \"*/tls\""),
            ("secret/{a,b}", "a sign that globs of Vault paths do not know: \"secret/{a,b}\""),
            ("secret/tls**", "** is not a whole segment: \"secret/tls**\""),
            ("secret", "a mount with nothing below it: \"secret\""),
            ("secret/../**", "a . or .. in a Vault path: \"secret/../**\""),
        ] {
            assert_eq!(says(vault_glob(text)), said, "{text:?}");
        }
    }

    #[test]
    fn a_permitted_name_is_a_domain_or_a_network() {
        for text in ["example.org", "10.0.0.1", "10.0.0.0/8", "fd00::/128"] {
            assert_eq!(permitted_name(text), Ok(()), "{text}");
        }
        for text in ["*.example.org", ".example.org", "", ".", "10.0.0.0/33", "fd00::/129", "example.org/8"] {
            let said = format!("not a domain or a network that can be permitted: {text:?}");
            assert_eq!(says(permitted_name(text)), said);
        }
    }

    #[test]
    fn a_slip_of_the_pen_still_finds_the_name_that_was_meant() {
        let declared = ["main".to_string(), "backup".to_string(), "a".to_string()];
        let closest = |meant: &str| closest(meant, declared.iter()).map(String::as_str);
        assert_eq!(closest("mian"), Some("main"));
        assert_eq!(closest("Main"), Some("main"));
        assert_eq!(closest("bckup"), Some("backup"));
        assert_eq!(closest("other"), None);
        assert_eq!(closest("xyz"), None);
    }
}
