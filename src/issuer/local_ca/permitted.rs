//! Which names the CA may sign, said twice: refused here, and bound into the CA as name constraints.

use std::net::IpAddr;

use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};

use crate::domain::name::{San, is_dns_name};
use crate::domain::text::printable;
use crate::issuer::IssuerError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permitted {
    /// Itself and everything below (RFC 5280, section 4.2.1.10).
    Dns(String),
    Net(IpAddr, u8),
}

pub fn parse(names: &[String]) -> Result<Vec<Permitted>, IssuerError> {
    names.iter().map(|text| one(text).ok_or_else(|| misspelt(text))).collect()
}

fn misspelt(text: &str) -> IssuerError {
    IssuerError::Stopped(format!(
        "permitted_names takes domains such as example.org, for itself and all below, and addresses such as \
         10.0.0.0/8, not {:?}",
        printable(text)
    ))
}

fn one(text: &str) -> Option<Permitted> {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    if let Ok(ip) = address.parse::<IpAddr>() {
        let bits = bits(ip);
        let prefix = prefix.map_or(Some(bits), |prefix| prefix.parse().ok())?;
        return (prefix <= bits).then_some(Permitted::Net(ip, prefix));
    }
    is_dns_name(text).then(|| text.to_ascii_lowercase()).filter(|n| !n.starts_with('*')).map(Permitted::Dns)
}

fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// Nothing listed permits everything; else a kind of name that is not listed is not permitted.
pub fn permits(permitted: &[Permitted], name: &San) -> bool {
    permitted.is_empty()
        || permitted.iter().any(|permitted| match (permitted, name) {
            (Permitted::Dns(domain), San::Dns(name)) => within(name, domain),
            (Permitted::Net(net, prefix), San::Ip(ip)) => in_net(*ip, *net, *prefix),
            (Permitted::Dns(_), San::Ip(_)) | (Permitted::Net(..), San::Dns(_)) => false,
            (_, San::Email(_) | San::Uri(_) | San::Other(_)) => false,
        })
}

/// What is judged by spelling must be spelt as DNS compares: in lower case.
fn within(name: &str, domain: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.strip_suffix(domain).is_some_and(|head| head.is_empty() || head.ends_with('.'))
}

fn in_net(ip: IpAddr, net: IpAddr, prefix: u8) -> bool {
    let shift = |bits: u8| u32::from(bits - prefix);
    match (ip, net) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => (ip.to_bits() ^ net.to_bits()).checked_shr(shift(32)).unwrap_or(0) == 0,
        (IpAddr::V6(ip), IpAddr::V6(net)) => (ip.to_bits() ^ net.to_bits()).checked_shr(shift(128)).unwrap_or(0) == 0,
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// A kind of which none is listed must be excluded by name, since constraints leave it free.
pub fn constraints(permitted: &[Permitted]) -> Option<NameConstraints> {
    if permitted.is_empty() {
        return None;
    }
    let kinds = [
        (permitted.iter().any(|p| matches!(p, Permitted::Dns(_))), GeneralSubtree::DnsName(String::new())),
        (permitted.iter().any(|p| matches!(p, Permitted::Net(IpAddr::V4(_), _))), whole([0; 4].into())),
        (permitted.iter().any(|p| matches!(p, Permitted::Net(IpAddr::V6(_), _))), whole([0; 16].into())),
    ];
    Some(NameConstraints {
        permitted_subtrees: permitted.iter().map(subtree).collect(),
        excluded_subtrees: kinds.into_iter().filter(|(listed, _)| !listed).map(|(_, all)| all).collect(),
    })
}

fn whole(any: IpAddr) -> GeneralSubtree {
    GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(any, 0))
}

/// rcgen writes an address as it stands, and OpenSSL takes no bits outside the mask.
fn subtree(permitted: &Permitted) -> GeneralSubtree {
    match permitted {
        Permitted::Dns(domain) => GeneralSubtree::DnsName(domain.clone()),
        Permitted::Net(IpAddr::V4(net), prefix) => {
            let mask = u32::MAX.checked_shl(u32::from(32 - prefix)).unwrap_or(0);
            GeneralSubtree::IpAddress(CidrSubnet::V4((net.to_bits() & mask).to_be_bytes(), mask.to_be_bytes()))
        }
        Permitted::Net(IpAddr::V6(net), prefix) => {
            let mask = u128::MAX.checked_shl(u32::from(128 - prefix)).unwrap_or(0);
            GeneralSubtree::IpAddress(CidrSubnet::V6((net.to_bits() & mask).to_be_bytes(), mask.to_be_bytes()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(listed: &[&str], name: &str) -> bool {
        let listed: Vec<String> = listed.iter().map(|text| text.to_string()).collect();
        super::permits(&parse(&listed).unwrap(), &San::from_text(name))
    }

    #[test]
    fn a_domain_permits_itself_and_all_below() {
        assert!(permits(&["example.org"], "example.org"));
        assert!(permits(&["example.org"], "a.b.example.org"));
        assert!(permits(&["example.org"], "*.example.org"));
        assert!(permits(&["Example.org"], "a.example.org"));
        assert!(!permits(&["example.org"], "evilexample.org"));
        assert!(!permits(&["example.org"], "org"));
        assert!(!permits(&["example.org"], "10.0.0.1"));
        assert!(!permits(&["example.org"], "a@example.org"));
        assert!(!permits(&["example.org"], "spiffe://example.org/a"));
    }

    #[test]
    fn a_net_permits_its_addresses_and_no_others() {
        assert!(permits(&["10.0.0.0/8"], "10.255.255.255"));
        assert!(!permits(&["10.0.0.0/8"], "11.0.0.0"));
        assert!(permits(&["10.0.0.1"], "10.0.0.1"));
        assert!(!permits(&["10.0.0.1"], "10.0.0.2"));
        assert!(permits(&["0.0.0.0/0"], "192.0.2.1"));
        assert!(!permits(&["0.0.0.0/0"], "::1"));
        assert!(permits(&["2001:db8::/32"], "2001:db8::1"));
        assert!(!permits(&["2001:db8::/32"], "2001:db9::1"));
        assert!(permits(&["::/0"], "2001:db8::1"));
    }

    #[test]
    fn nothing_listed_permits_everything() {
        assert!(permits(&[], "anything.example"));
        assert!(permits(&[], "spiffe://x/y"));
    }

    #[test]
    fn a_misspelt_entry_is_named() {
        for text in ["*.example.org", "", ".example.org", "10.0.0.0/33", "::/129", "10.0.0.0/x", "a b", "example.org/8"]
        {
            let error = parse(&[text.to_string()]).unwrap_err().to_string();
            assert!(error.contains(&format!("not {text:?}")), "{error}");
        }
    }
}
