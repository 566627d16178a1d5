//! Where a challenge belongs, by a resolver, and what its zone shows, by asking every authoritative server of it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use hickory_proto::rr::{Name, RData, RecordType};

use super::exchange::{Asked, Unanswered, ask};
use crate::domain::text::printable;

/// As many CNAMEs as a delegation may need; a CA follows about as many.
const MOST_HOPS: usize = 8;

/// Where systems write down their resolvers (resolv.conf(5)), and how many of them libc asks.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const MOST_RESOLVERS: usize = 3;

const DNS: u16 = 53;

/// A name in text takes no more (RFC 1035, section 2.3.4), without the last dot.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// Else those of the system.
    pub resolver: Option<SocketAddr>,
    /// Asked instead of the servers that the zone names, of every zone, where there are any.
    pub authoritative: Vec<SocketAddr>,
}

/// One server of a zone, at all its addresses; without a name where the configuration names the address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Authority {
    pub name: Option<String>,
    pub addresses: Vec<SocketAddr>,
}

#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error("not a name that can be looked up: {}", printable(.0))]
    Name(String),
    #[error("could not read {}: let certd read it, or name a resolver in the configuration", path.display())]
    ResolvConf { path: PathBuf, source: std::io::Error },
    #[error("{} names no resolver: name one there or in the configuration", path.display())]
    NoResolver { path: PathBuf },
    #[error("could not ask {server} for the {kind} of {name}")]
    Unanswered { server: String, kind: RecordType, name: String, source: Unanswered },
    #[error("the CNAME of {owner} leads back to itself by way of {by}: let it end at a name without CNAME")]
    Loop { owner: String, by: String },
    #[error("the CNAME of {owner} leads over more than {MOST_HOPS} others: let it end sooner")]
    TooFar { owner: String },
    #[error("the CNAME of {owner} leads to {to}: let it lead to a name of letters, digits, - and _")]
    NotPlain { owner: String, to: String },
    #[error("no zone holds {name}, as the resolver sees it: create the zone, or name another resolver")]
    NoZone { name: String },
    #[error("zone {zone} has no server with an address, as the resolver sees it: mend its NS records")]
    NoAuthority { zone: String },
}

impl Lookup {
    /// The texts at a name or at the end of its CNAMEs, as every authoritative server shows them, in order; the
    /// character-strings of one record joined. Empty where there are none.
    pub async fn txt(&self, owner: &str) -> Result<Vec<String>, LookupError> {
        let owner = self.end_of_cnames(&name(owner)?).await?;
        let mut common: Option<BTreeSet<String>> = None;
        for authority in self.authorities_of(&owner).await? {
            let texts = self.texts_of(&authority, &owner).await?;
            common = Some(match common {
                None => texts,
                Some(common) => &common & &texts,
            });
        }
        Ok(common.unwrap_or_default().into_iter().collect())
    }

    /// The servers that have the zone of a name.
    pub async fn authorities(&self, owner: &str) -> Result<Vec<Authority>, LookupError> {
        self.authorities_of(&name(owner)?).await
    }

    /// What every address of one server shows that this host has a way to.
    async fn texts_of(&self, authority: &Authority, owner: &Name) -> Result<BTreeSet<String>, LookupError> {
        let mut common: Option<BTreeSet<String>> = None;
        let mut out_of_reach = None;
        for address in &authority.addresses {
            match texts(*address, owner).await {
                Ok(texts) => {
                    common = Some(match common {
                        None => texts,
                        Some(common) => &common & &texts,
                    });
                }
                Err(source) if source.is_out_of_reach() => out_of_reach = Some((*address, source)),
                Err(source) => return Err(unanswered(*address, RecordType::TXT, owner, source)),
            }
        }
        match (common, out_of_reach) {
            (None, Some((address, source))) => Err(unanswered(address, RecordType::TXT, owner, source)),
            (common, _) => Ok(common.unwrap_or_default()),
        }
    }

    /// The name itself where it has no CNAME.
    pub(super) async fn end_of_cnames(&self, owner: &Name) -> Result<Name, LookupError> {
        let mut passed = vec![owner.clone()];
        let mut at = owner.clone();
        while let Some(next) = self.cname(&at).await? {
            // It goes to updates and to commands, and comes from whoever has that zone.
            if !is_plain(next.to_ascii().trim_end_matches('.')) {
                return Err(LookupError::NotPlain { owner: shown(&at), to: shown(&next) });
            }
            if passed.contains(&next) {
                return Err(LookupError::Loop { owner: shown(owner), by: shown(&at) });
            }
            if passed.len() > MOST_HOPS {
                return Err(LookupError::TooFar { owner: shown(owner) });
            }
            passed.push(next.clone());
            at = next;
        }
        Ok(at)
    }

    async fn cname(&self, owner: &Name) -> Result<Option<Name>, LookupError> {
        let found = self.resolve(owner, RecordType::CNAME).await?;
        Ok(found.into_iter().find_map(|(of, data)| match data {
            RData::CNAME(to) if of == *owner => Some(to.0),
            _ => None,
        }))
    }

    /// The closest name above or at this one that has an SOA.
    pub(super) async fn zone(&self, owner: &Name) -> Result<Name, LookupError> {
        let mut at = owner.clone();
        while !at.is_root() {
            let found = self.resolve(&at, RecordType::SOA).await?;
            if found.iter().any(|(of, data)| matches!(data, RData::SOA(_)) && *of == at) {
                return Ok(at);
            }
            at = at.base_name();
        }
        Err(LookupError::NoZone { name: shown(owner) })
    }

    pub(super) async fn authorities_of(&self, owner: &Name) -> Result<Vec<Authority>, LookupError> {
        if !self.authoritative.is_empty() {
            let alone = |address: &SocketAddr| Authority { name: None, addresses: vec![*address] };
            return Ok(self.authoritative.iter().map(alone).collect());
        }
        let zone = self.zone(owner).await?;
        let mut authorities = Vec::new();
        for (of, data) in self.resolve(&zone, RecordType::NS).await? {
            let RData::NS(server) = data else { continue };
            // One without an address is asked by nobody, the CA included.
            let addresses = if of == zone { self.addresses(&server.0).await? } else { Vec::new() };
            if !addresses.is_empty() {
                authorities.push(Authority { name: Some(shown(&server.0)), addresses });
            }
        }
        authorities.sort();
        match authorities.is_empty() {
            true => Err(LookupError::NoAuthority { zone: shown(&zone) }),
            false => Ok(authorities),
        }
    }

    async fn addresses(&self, server: &Name) -> Result<Vec<SocketAddr>, LookupError> {
        let mut found = self.resolve(server, RecordType::A).await?;
        found.extend(self.resolve(server, RecordType::AAAA).await?);
        let addresses: BTreeSet<IpAddr> = found
            .into_iter()
            .filter_map(|(_, data)| match data {
                RData::A(address) => Some(address.0.into()),
                RData::AAAA(address) => Some(address.0.into()),
                _ => None,
            })
            .collect();
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, DNS)).collect())
    }

    /// By the first resolver that answers.
    async fn resolve(&self, name: &Name, kind: RecordType) -> Result<Vec<(Name, RData)>, LookupError> {
        let resolvers = match self.resolver {
            Some(resolver) => vec![resolver],
            None => system_resolvers().await?,
        };
        let mut last = LookupError::NoResolver { path: RESOLV_CONF.into() };
        for resolver in resolvers {
            match ask(resolver, name, kind, Asked::Resolver).await {
                Ok(answer) => {
                    return Ok(answer.answers.into_iter().map(|record| (record.name, record.data)).collect());
                }
                Err(source) => last = unanswered(resolver, kind, name, source),
            }
        }
        Err(last)
    }
}

/// What one server shows at a name, CNAMEs not followed.
pub(super) async fn texts(server: SocketAddr, owner: &Name) -> Result<BTreeSet<String>, Unanswered> {
    let answer = ask(server, owner, RecordType::TXT, Asked::Authority).await?;
    let texts = answer.answers.into_iter().filter(|record| record.name == *owner).filter_map(|record| {
        let RData::TXT(text) = record.data else { return None };
        Some(String::from_utf8_lossy(&text.txt_data.concat()).into_owned())
    });
    Ok(texts.collect())
}

fn unanswered(server: SocketAddr, kind: RecordType, name: &Name, source: Unanswered) -> LookupError {
    LookupError::Unanswered { server: server.to_string(), kind, name: shown(name), source }
}

/// A name of a person's or a certificate's.
pub(super) fn name(text: &str) -> Result<Name, LookupError> {
    let refused = || LookupError::Name(text.to_string());
    if !is_plain(text) {
        return Err(refused());
    }
    let mut name = Name::from_ascii(text).map_err(|_| refused())?;
    name.set_fqdn(true);
    Ok(name)
}

/// Of letters, digits, hyphens and underscores, so that it means nothing to any program but a name.
pub(super) fn is_plain(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_label = |label: &str| (1..=LONGEST_LABEL).contains(&label.len()) && label.chars().all(is_plain);
    name.len() <= LONGEST_NAME && !name.starts_with('-') && name.split('.').all(is_label)
}

/// Without the last dot.
pub(super) fn shown(name: &Name) -> String {
    printable(name.to_ascii().trim_end_matches('.'))
}

async fn system_resolvers() -> Result<Vec<SocketAddr>, LookupError> {
    let path = PathBuf::from(RESOLV_CONF);
    match tokio::fs::read_to_string(&path).await {
        Ok(text) => Ok(resolvers(&text)),
        Err(source) => Err(LookupError::ResolvConf { path, source }),
    }
}

/// Those with the address of a link need its zone, which no other host's resolver has; they are passed over.
fn resolvers(resolv_conf: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let address = (words.next()? == "nameserver").then(|| words.next())??;
        Some(SocketAddr::new(address.parse().ok()?, DNS))
    };
    resolv_conf.lines().filter_map(address).take(MOST_RESOLVERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_resolvers_of_the_system_are_asked() {
        let text = "# nameserver 192.0.2.9\nsearch example.org\nnameserver 192.0.2.1\n  nameserver\t2001:db8::1 # spare\n\
                    nameserver fe80::1%eth0\nnameservers 192.0.2.8\nnameserver\nnameserver 192.0.2.3\n\
                    nameserver 192.0.2.4\n";
        let expected: [SocketAddr; 3] =
            ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.3:53"].map(|address| address.parse().unwrap());
        assert_eq!(resolvers(text), expected);
        assert_eq!(resolvers(""), []);
    }

    #[test]
    fn a_name_means_nothing_to_a_shell_or_to_a_command_line() {
        for plain in ["example.org", "_acme-challenge.example.org", "a", "xn--bcher-kva.example", &"a.".repeat(126)] {
            let plain = plain.trim_end_matches('.');
            assert!(is_plain(plain), "{plain}");
        }
        let (long_label, long_name) = ("a".repeat(64), ["a".repeat(63).as_str(); 4].join("."));
        for other in [
            "",
            ".",
            "example.org.",
            "*.example.org",
            "-rf.example.org",
            "a..b",
            "a b",
            "$(id).org",
            "a\nb",
            "bücher.example",
            &long_label,
            &long_name,
        ] {
            assert!(!is_plain(other), "{other}");
            let error = name(other).unwrap_err().to_string();
            assert_eq!(error, format!("not a name that can be looked up: {}", printable(other)));
        }
    }

    #[test]
    fn a_name_is_shown_without_its_last_dot_and_harmless() {
        assert_eq!(shown(&name("www.example.org").unwrap()), "www.example.org");
        let hostile = Name::from_labels([&b"a\x1b[2J"[..], b"org"]).unwrap();
        assert_eq!(shown(&hostile), r"a\033\[2J.org");
    }
}
