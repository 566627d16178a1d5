//! `certd diff secret/tls/web@7..9`: what changed between two versions. Shows no key, and no value of a
//! field that is not a certificate's.

use std::collections::BTreeSet;
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::Args;

use crate::domain::cert::{Certificate, KeyUsage};
use crate::domain::text::message;
use crate::pki::bundle::{Bundle, Kept};
use crate::vault::Fields;
use crate::vault::layout::Layout;
use crate::vault::versions::VersionRead;

use super::secret::{Secret, VaultArguments};

/// In the order of their bits (RFC 5280, section 4.2.1.3).
const KEY_USAGES: [&str; 9] = [
    "digitalSignature",
    "contentCommitment",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
];

#[derive(Debug, Args)]
pub struct DiffArguments {
    /// secret/path@7..9, or secret/path@7 for what version 7 changed; vault:NAME:secret/path where there are several,
    /// and secret/path#object@7 where the secret holds several certificates
    versions: Versions,
    #[command(flatten)]
    vault: VaultArguments,
}

/// Two versions of one secret.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Versions {
    secret: String,
    old: u64,
    new: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("write secret/path@7..9, or secret/path@7 for what version 7 changed: {0:?}")]
struct NotVersions(String);

impl FromStr for Versions {
    type Err = NotVersions;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotVersions(text.to_string());
        let (secret, numbers) = text.rsplit_once('@').ok_or_else(wrong)?;
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0);
        let pair = match numbers.split_once("..") {
            Some((old, new)) => number(old).zip(number(new)),
            None => number(numbers).and_then(|new| Some((number(&(new - 1).to_string())?, new))),
        };
        let (old, new) = pair.filter(|_| !secret.is_empty()).ok_or_else(wrong)?;
        Ok(Self { secret: secret.to_string(), old, new })
    }
}

/// One of the two versions.
struct Side {
    read: VersionRead,
    fields: Fields,
    kept: Kept,
}

pub async fn run(arguments: DiffArguments) -> anyhow::Result<u8> {
    let Versions { secret, old, new } = &arguments.versions;
    if old == new {
        bail!("the two versions are the same one: {old}");
    }
    let secret = arguments.vault.secret(secret)?;
    let (old, new) = (side(&secret, *old).await, side(&secret, *new).await);
    secret.log_out().await;
    let (old, new) = (old?, new?);
    super::print(&format!("{}: {}", secret.location(), told(&old, &new)))?;
    Ok(0)
}

async fn side(secret: &Secret, number: u64) -> anyhow::Result<Side> {
    let (read, fields) = secret.fields_of(number).await?;
    let doing = || format!("could not understand version {number} of {}", secret.location());
    let kept = secret.certificate(&fields).await?.with_context(doing)?;
    Ok(Side { read, fields, kept })
}

fn told(old: &Side, new: &Side) -> String {
    let heading = |side: &Side| format!("version {} of {}", side.read.number, side.read.version.created);
    let mut out = format!("{} → {}\n\n", heading(old), heading(new));
    for (what, text) in aspects(&old.kept, &new.kept) {
        out.push_str(&format!("{what:<9} {text}\n"));
    }
    out + &format!("{:<9} {}\n", "fields", fields(&old.fields, &new.fields))
}

/// Of the certificates, their chains and keys.
pub(super) fn aspects(old: &Kept, new: &Kept) -> Vec<(&'static str, String)> {
    let (was, is) = (&*old.chain.leaf, &*new.chain.leaf);
    let lifetime = |leaf: &Certificate| format!("from {} to {}", leaf.not_before, leaf.not_after);
    vec![
        ("serial", changed(&was.serial, &is.serial)),
        ("names", set(&names(was), &names(is))),
        ("issuer", changed(&was.issuer, &is.issuer)),
        ("usages", set(&usages(was), &usages(is))),
        ("key", key(old, new)),
        ("key type", changed(&was.key.to_string(), &is.key.to_string())),
        ("chain", chain(old, new)),
        ("lifetime", changed(&lifetime(was), &lifetime(is))),
    ]
}

fn changed(old: &str, new: &str) -> String {
    match old == new {
        true => format!("the same: {}", message(old)),
        false => format!("{} → {}", message(old), message(new)),
    }
}

fn set(old: &BTreeSet<String>, new: &BTreeSet<String>) -> String {
    let listed = |names: &BTreeSet<String>| message(&names.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
    if old == new {
        return format!("the same: {}", listed(old));
    }
    let parts = [
        ("added", new.difference(old).cloned().collect()),
        ("removed", old.difference(new).cloned().collect()),
        ("kept", old.intersection(new).cloned().collect::<BTreeSet<_>>()),
    ];
    let parts = parts.iter().filter(|(_, names)| !names.is_empty());
    parts.map(|(what, names)| format!("{what}: {}", listed(names))).collect::<Vec<_>>().join("; ")
}

fn names(leaf: &Certificate) -> BTreeSet<String> {
    leaf.names.iter().map(ToString::to_string).collect()
}

fn usages(leaf: &Certificate) -> BTreeSet<String> {
    let key_usage = match leaf.key_usage {
        None => vec!["any key usage".to_string()],
        Some(KeyUsage(bits)) => {
            let set = KEY_USAGES.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0);
            set.map(|(_, name)| name.to_string()).collect()
        }
    };
    let extended = leaf.extended_key_usage.clone().unwrap_or_else(|| vec!["any extended key usage".to_string()]);
    key_usage.into_iter().chain(extended).collect()
}

/// Told by the public half alone.
fn key(old: &Kept, new: &Kept) -> String {
    let changed = if old.chain.leaf.public_key == new.chain.leaf.public_key { "the same" } else { "changed" };
    let oddity = |which: &str, kept: &Kept| match kept.key_digest() {
        None => format!("; the {which} version keeps none"),
        Some(key) if key != kept.chain.leaf.public_key => {
            format!("; the key of the {which} version does not belong to its certificate")
        }
        Some(_) => String::new(),
    };
    format!("{changed}{}{}", oddity("old", old), oddity("new", new))
}

fn chain(old: &Kept, new: &Kept) -> String {
    let subjects = |kept: &Kept| match kept.chain.intermediates.iter().map(|ca| ca.subject.clone()).collect::<Vec<_>>()
    {
        none if none.is_empty() => "none".to_string(),
        subjects => subjects.join(" | "),
    };
    let prints = |kept: &Kept| kept.chain.intermediates.iter().map(|ca| ca.fingerprint).collect::<Vec<_>>();
    let same = prints(old) == prints(new);
    let (was, is) = (message(&subjects(old)), message(&subjects(new)));
    match (same, was == is) {
        (true, _) => format!("the same: {is}"),
        (false, true) => format!("other certificates of the same names: {is}"),
        (false, false) => format!("{was} → {is}"),
    }
}

/// By name alone: any of them may hold a secret. Those that hold the certificate or its key have been told of.
pub(super) fn fields(old: &Fields, new: &Fields) -> String {
    let only = |here: &Fields, there: &Fields| -> Vec<String> {
        here.keys().filter(|name| !there.contains_key(*name)).cloned().collect()
    };
    let differs = |name: &&String| {
        let (was, is) = (&old[*name], new.get(*name));
        is.is_some_and(|is| is.get() != was.get() && !(is_of_certificate(was.get()) || is_of_certificate(is.get())))
    };
    let parts = [
        ("added", only(new, old)),
        ("removed", only(old, new)),
        ("changed", old.keys().filter(differs).cloned().collect()),
    ];
    let parts = parts.iter().filter(|(_, names)| !names.is_empty());
    let parts: Vec<String> = parts.map(|(what, names)| format!("{what}: {}", message(&names.join(", ")))).collect();
    if parts.is_empty() { "no other changed".to_string() } else { parts.join("; ") }
}

fn is_of_certificate(json: &str) -> bool {
    if Layout::is_keystore(json) {
        return true;
    }
    let texts = serde_json::from_str::<String>(json).map(|text| vec![text]).or_else(|_| serde_json::from_str(json));
    let holds = |text: &String| {
        Bundle::parse(text.as_bytes()).is_ok_and(|bundle| {
            !(bundle.certificates.is_empty() && bundle.keys.is_empty() && bundle.unread_keys.is_empty())
        })
    };
    texts.is_ok_and(|texts: Vec<String>| texts.iter().any(holds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_written_behind_the_last_at_sign() {
        let read = |text: &str| text.parse::<Versions>().ok().map(|v| (v.secret, v.old, v.new));
        assert_eq!(read("secret/tls/web@7..9"), Some(("secret/tls/web".to_string(), 7, 9)));
        assert_eq!(read("secret/tls/web@9..7"), Some(("secret/tls/web".to_string(), 9, 7)));
        assert_eq!(read("secret/ops@example.org@7"), Some(("secret/ops@example.org".to_string(), 6, 7)));
        for text in ["secret/tls/web", "secret/tls/web@", "secret/web@1", "secret/web@0..2", "secret/web@a..b", "@1..2"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
