//! Names: those in a certificate, the patterns that an adopt rule allows, and certd's own.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A subject alternative name (RFC 5280, section 4.2.1.6). DNS names are kept in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum San {
    Dns(String),
    Ip(IpAddr),
    Email(String),
    Uri(String),
    /// A kind that certd does not ask a CA for, named so that it is seen.
    Other(String),
}

impl San {
    /// What a person writes in `names = [...]`: an address, an e-mail, a URI, else a DNS name.
    pub fn from_text(text: &str) -> Self {
        if let Ok(ip) = text.parse() {
            Self::Ip(ip)
        } else if text.contains("://") {
            Self::Uri(text.to_string())
        } else if text.contains('@') {
            Self::Email(text.to_string())
        } else {
            Self::Dns(text.trim_end_matches('.').to_ascii_lowercase())
        }
    }

    /// Whether it is one name and nothing else: Vault takes several in one text, separated by commas, so that a comma in
    /// one would make two of it.
    pub fn is_well_formed(&self) -> bool {
        match self {
            Self::Dns(name) => is_dns_name(name),
            Self::Ip(_) => true,
            Self::Email(text) | Self::Uri(text) => text.chars().all(|c| c.is_ascii_graphic() && c != ','),
            Self::Other(_) => false,
        }
    }

    /// Whether this name stands for the host that a client asked for (RFC 9525, section 6.3:
    /// a wildcard is the whole leftmost label and stands for exactly one label).
    pub fn covers(&self, host: &str) -> bool {
        match self {
            // An address is no DNS name (RFC 9525, section 6.3).
            Self::Dns(_) if host.trim_end_matches('.').parse::<IpAddr>().is_ok() => false,
            Self::Dns(name) => dns_covers(name, &host.trim_end_matches('.').to_ascii_lowercase()),
            Self::Ip(ip) => host.parse::<IpAddr>().is_ok_and(|asked| asked == *ip),
            Self::Email(_) | Self::Uri(_) | Self::Other(_) => false,
        }
    }
}

/// Labels of RFC 1034 with the underscore, and a wildcard as the whole leftmost one.
pub fn is_dns_name(name: &str) -> bool {
    let labels = name.strip_prefix("*.").unwrap_or(name);
    name.len() <= 253 && labels.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Whether a folder of this name has names of its own.
fn binds(segment: &str) -> bool {
    is_label(segment) && !segment.bytes().any(|b| b.is_ascii_uppercase())
}

/// What is left of a pattern without its `{n}`; `None` where braces hold anything else.
fn without_segments(text: &str) -> Option<String> {
    let mut parts = text.split('{');
    let mut left = parts.next().filter(|part| !part.contains('}'))?.to_string();
    for part in parts {
        let (number, rest) = part.split_once('}')?;
        let is_number = number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
        number.parse::<u8>().ok().filter(|_| is_number && !rest.contains('}'))?;
        left.push_str(rest);
    }
    Some(left)
}

fn dns_covers(name: &str, host: &str) -> bool {
    let Some(parent) = name.strip_prefix("*.") else { return name == host };
    match host.split_once('.') {
        Some((label, rest)) => !label.is_empty() && rest == parent && host.parse::<IpAddr>().is_err(),
        None => false,
    }
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(text) | Self::Email(text) | Self::Uri(text) | Self::Other(text) => f.write_str(text),
            Self::Ip(ip) => write!(f, "{ip}"),
        }
    }
}

impl Serialize for San {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which names an adopt rule may ask a CA for: `www.example.org`, `*.example.org` (one label,
/// or the wildcard itself), `**.example.org` (any depth), an IP address, or `*@example.org`. `{n}` stands for the n-th
/// folder or name below the first segment of the secret's path, where that is a label in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern(String);

impl NamePattern {
    /// `None` for text that could match every name there is, or none.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim_end_matches('.').to_ascii_lowercase();
        let fixed = ["**.", "*.", "*@"].iter().find_map(|wild| text.strip_prefix(wild)).unwrap_or(&text);
        let unbound = without_segments(fixed)?;
        let sane = unbound.contains(|c: char| c != '.')
            && !fixed.starts_with('.')
            && !fixed.contains(|c: char| c == '*' || c.is_whitespace());
        sane.then_some(Self(text))
    }

    /// The numbers of the segments that it is bound to.
    pub fn segments(&self) -> Vec<usize> {
        self.0.split('{').skip(1).filter_map(|rest| rest.split('}').next()?.parse().ok()).collect()
    }

    /// Returns the pattern for a secret with these segments; `None` where one is missing or no label in lower case. Paths
    /// distinguish case and names do not, so two folders that differ in case alone would have one set of names.
    pub fn bound_to(&self, segments: &[&str]) -> Option<Cow<'_, Self>> {
        let numbers = self.segments();
        if numbers.is_empty() {
            return Some(Cow::Borrowed(self));
        }
        let mut text = self.0.clone();
        for number in numbers {
            let segment = segments.get(number - 1).filter(|segment| binds(segment))?;
            text = text.replace(&format!("{{{number}}}"), segment);
        }
        Some(Cow::Owned(Self(text)))
    }

    pub fn allows(&self, san: &San) -> bool {
        match san {
            _ if !san.is_well_formed() => false,
            San::Dns(name) => self.allows_dns(name),
            San::Ip(ip) => self.0.parse::<IpAddr>().is_ok_and(|allowed| allowed == *ip),
            San::Email(email) => {
                let email = email.to_ascii_lowercase();
                match self.0.strip_prefix('*') {
                    Some(domain) => {
                        domain.starts_with('@') && email.rsplit_once('@').is_some_and(|(_, d)| d == &domain[1..])
                    }
                    None => self.0 == email,
                }
            }
            San::Uri(_) | San::Other(_) => false,
        }
    }

    fn allows_dns(&self, name: &str) -> bool {
        if let Some(parent) = self.0.strip_prefix("**.") {
            return name.strip_suffix(parent).is_some_and(|head| head.len() > 1 && head.ends_with('.'));
        }
        if self.0.starts_with("*.") {
            return self.0 == name || dns_covers(&self.0, name);
        }
        self.0 == name
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! own_name {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_string())
            }
        }
    )*};
}

own_name! {
    /// A managed certificate: the `name` of a `[[certificate]]`, or the location that a rule adopted.
    CertName
    /// The key of an `[issuer.NAME.…]` table.
    IssuerName
    /// The key of a `[vault.NAME]` table.
    VaultName
    /// The key of a `[source.NAME.…]` table.
    SourceName
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vault would take it for two names, of which the rule allows one.
    #[test]
    fn an_address_that_is_written_as_a_dns_name_covers_no_address() {
        let named = San::Dns("10.0.0.7".into());
        assert_eq!(["10.0.0.7", "10.0.0.7."].map(|host| named.covers(host)), [false, false]);
        assert!(San::Ip([10, 0, 0, 7].into()).covers("10.0.0.7"));
    }

    #[test]
    fn a_comma_within_a_name_is_allowed_by_no_rule() {
        let allows = |pattern: &str, name: &str| NamePattern::new(pattern).unwrap().allows(&San::Dns(name.into()));
        for pattern in ["*.example.org", "**.example.org"] {
            for name in
                ["localhost,x.example.org", "evil.com,x.example.org", "\u{1b}[2j.example.org", "a b.example.org"]
            {
                assert!(!allows(pattern, name), "{pattern} {name:?}");
            }
            assert!(allows(pattern, "my_host-1.example.org"));
        }
        let email = |text: &str| NamePattern::new("*@example.org").unwrap().allows(&San::Email(text.into()));
        assert!(email("ops@example.org") && !email("root@evil.com,ops@example.org"));
        assert!(!San::Uri("https://a,b".into()).is_well_formed() && San::Uri("https://a".into()).is_well_formed());
    }

    #[test]
    fn a_name_covers_itself_and_a_wildcard_covers_one_label() {
        let covers = |san: &str, host: &str| San::from_text(san).covers(host);
        assert!(covers("www.example.org", "WWW.example.org."));
        assert!(covers("*.example.org", "www.example.org"));
        assert!(!covers("*.example.org", "example.org"));
        assert!(!covers("*.example.org", "a.b.example.org"));
        assert!(!covers("*.example.org", ".example.org"));
        assert!(!covers("www.example.org", "example.org"));
        assert!(!covers("*.0.0.1", "127.0.0.1"));
        assert!(covers("::1", "0:0:0:0:0:0:0:1"));
        assert!(!covers("127.0.0.1", "127.0.0.2"));
        assert!(!covers("mail@example.org", "mail@example.org"));
    }

    #[test]
    fn reads_each_kind_of_name_from_its_shape() {
        assert_eq!(San::from_text("Example.ORG."), San::Dns("example.org".into()));
        assert_eq!(San::from_text("10.0.0.1"), San::Ip("10.0.0.1".parse().unwrap()));
        assert_eq!(San::from_text("a@b.c"), San::Email("a@b.c".into()));
        assert_eq!(San::from_text("spiffe://x/y"), San::Uri("spiffe://x/y".into()));
    }

    #[test]
    fn a_pattern_allows_only_what_it_says() {
        let allows = |pattern: &str, name: &str| NamePattern::new(pattern).unwrap().allows(&San::from_text(name));
        assert!(allows("*.example.org", "a.example.org"));
        assert!(allows("*.example.org", "*.example.org"));
        assert!(!allows("*.example.org", "a.b.example.org"));
        assert!(!allows("*.example.org", "example.org"));
        assert!(!allows("*.example.org", "evilexample.org"));
        assert!(allows("**.example.org", "a.b.example.org"));
        assert!(allows("**.example.org", "a.example.org"));
        assert!(!allows("**.example.org", ".example.org"));
        assert!(!allows("**.example.org", "evilexample.org"));
        assert!(allows("example.org", "example.org"));
        assert!(!allows("example.org", "*.example.org"));
        assert!(allows("10.0.0.1", "10.0.0.1"));
        assert!(!allows("10.0.0.1", "10.0.0.2"));
        assert!(allows("*@example.org", "Ops@Example.org"));
        assert!(!allows("*@example.org", "ops@sub.example.org"));
        assert!(!allows("*.example.org", "ops@a.example.org"));
        assert!(!allows("**.example.org", "spiffe://a.example.org/x"));
    }

    #[test]
    fn a_bound_pattern_allows_what_its_segments_say_and_without_them_nothing() {
        let bound = NamePattern::new("*.{2}.{1}.example.org").unwrap();
        assert_eq!(bound.segments(), [2, 1]);
        let at = |segments: &[&str]| bound.bound_to(segments).map(|pattern| pattern.to_string());
        assert_eq!(at(&["tls", "blue", "web"]), Some("*.blue.tls.example.org".to_string()));
        assert_eq!([at(&["tls"]), at(&["tls", "a.b"]), at(&["tls", "*"]), at(&["tls", ""])], [const { None }; 4]);
        for folder in ["Blue", "BLUE", "bluE", "blu\u{e9}", "blu\u{212a}e", "blue ", "blue.", "bl%75e"] {
            assert_eq!(at(&["tls", folder]), None, "{folder:?}");
        }
        assert!(!bound.allows(&San::Dns("a.{2}.{1}.example.org".into())));
        let plain = NamePattern::new("*.example.org").unwrap();
        assert_eq!((plain.segments(), plain.bound_to(&[]).as_deref()), (vec![], Some(&plain)));
    }

    #[test]
    fn refuses_a_pattern_without_a_fixed_part() {
        let unbound =
            ["{1}", "*.{1}", "{1}.{2}", "*.{0}.org", "{}.org", "{x}.org", "{01}.org", "{1.org", "1}.org", "{{1}}.org"];
        for text in ["*", "**", "*.", "**.*", "", " ", "*.*.org", "a b"].into_iter().chain(unbound) {
            assert_eq!(NamePattern::new(text), None, "{text:?}");
        }
    }
}
