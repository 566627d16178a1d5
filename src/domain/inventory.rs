//! Where certificates are and what was seen there.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::cert::{CaPath, Certificate, Chain, Fingerprint, KeyDigest, Trust};
use super::crl::Crl;
use super::name::{SourceName, VaultName};
use super::text::{self, one_line, percent_decoded, percent_encoded, printable};
use super::time::Timestamp;

/// A place, and a part of it where it holds several certificates. Displays as one unique line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Location {
    /// `sni` only where it differs from `host`; `address` only for one of several that presents something
    /// else than most of them.
    Endpoint { host: String, port: u16, sni: Option<String>, address: Option<IpAddr> },
    /// `path` as an operator writes it: mount and path, without `data/`.
    Secret { vault: VaultName, path: String, part: Option<Part> },
    /// Something in a PKI mount.
    Pki { vault: VaultName, mount: String, object: PkiObject },
    /// A file, or a directory that holds `cert.pem` and its fellows.
    File { path: PathBuf, part: Option<Part> },
    /// What a source could not list: certificates below it may be there or not.
    Listing { source: SourceName, part: Option<Part> },
}

/// Which of several certificates in one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// In an object of its own within a secret: a certificate by itself. Names of objects, outermost first, joined by `/`.
    Object(String),
    /// One of several that share a field or a file, counted from 1, and can only be written together.
    Nth { within: Option<String>, number: usize },
}

impl Part {
    pub fn nth(number: usize) -> Self {
        Self::Nth { within: None, number }
    }

    pub fn object(&self) -> Option<&str> {
        match self {
            Self::Object(object) => Some(object),
            Self::Nth { .. } => None,
        }
    }
}

impl From<&str> for Part {
    fn from(object: &str) -> Self {
        Self::Object(object.to_string())
    }
}

/// No two parts read alike: an object that is called by a number shows its first digit as `%` and two hexadecimal digits.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(object) => {
                let last = object.rfind('/').map_or(0, |slash| slash + 1);
                let (outer, name) = object.split_at(last);
                let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
                let (digit, rest) = name.split_at(usize::from(is_number));
                let digit = digit.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
                write!(f, "{}{digit}{}", percent_encoded(outer.as_bytes(), &[]), percent_encoded(rest.as_bytes(), &[]))
            }
            Self::Nth { within: None, number } => write!(f, "{number}"),
            Self::Nth { within: Some(object), number } => {
                write!(f, "{}/{number}", percent_encoded(object.as_bytes(), &[]))
            }
        }
    }
}

/// What separates a part from its place, and what encodes it where a path has it.
const RESERVED: [char; 2] = ['%', '#'];

/// The two that the name of an object has encoded by itself: `%` and `/`.
const OF_OBJECTS: [u8; 2] = [b'%', b'/'];

/// Reads the path of a secret as a [`Location`] shows it, and the object behind `#` where there is one.
pub fn secret_and_object(text: &str) -> (String, Option<String>) {
    let (path, object) = text.split_once('#').map_or((text, None), |(path, object)| (path, Some(object)));
    (percent_decoded(path, &[]), object.map(|object| percent_decoded(object, &OF_OBJECTS)))
}

/// What a PKI mount holds, each by the name that is its own within the mount.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PkiObject {
    /// The mount itself, where it has no CA.
    Mount,
    Issuer(String),
    /// The revocation list of an issuer.
    Crl(String),
    /// Something issued, by its serial number as [`Certificate::serial`] has it.
    Certificate(String),
}

impl fmt::Display for PkiObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount => Ok(()),
            Self::Issuer(name) => write!(f, "/issuer/{}", one_line(name)),
            Self::Crl(name) => write!(f, "/issuer/{}/crl", one_line(name)),
            Self::Certificate(serial) => write!(f, "/cert/{}", one_line(&with_colons(serial))),
        }
    }
}

/// A serial number as Vault writes it: `1fa0` as `1f:a0`.
pub fn with_colons(serial: &str) -> String {
    let mut out = String::with_capacity(serial.len() * 3 / 2);
    for (i, digit) in serial.chars().enumerate() {
        if i > 0 && i % 2 == 0 {
            out.push(':');
        }
        out.push(digit);
    }
    out
}

impl Location {
    /// The same place with a part named.
    pub fn with_part(&self, part: Option<Part>) -> Self {
        let mut location = self.clone();
        match &mut location {
            Self::Endpoint { .. } | Self::Pki { .. } => {}
            Self::Secret { part: slot, .. } | Self::File { part: slot, .. } | Self::Listing { part: slot, .. } => {
                *slot = part;
            }
        }
        location
    }

    /// The same endpoint, whichever address answers for it.
    pub fn at_address(&self, at: Option<IpAddr>) -> Self {
        let mut location = self.clone();
        match &mut location {
            Self::Endpoint { address, .. } => *address = at,
            Self::Secret { .. } | Self::Pki { .. } | Self::File { .. } | Self::Listing { .. } => {}
        }
        location
    }

    pub fn part(&self) -> Option<&Part> {
        match self {
            Self::Endpoint { .. } | Self::Pki { .. } => None,
            Self::Secret { part, .. } | Self::File { part, .. } | Self::Listing { part, .. } => part.as_ref(),
        }
    }

    /// The name that a client of this place checks for.
    pub fn expected_host(&self) -> Option<&str> {
        match self {
            Self::Endpoint { host, sni, .. } => Some(sni.as_deref().unwrap_or(host)),
            Self::Secret { .. } | Self::Pki { .. } | Self::File { .. } | Self::Listing { .. } => None,
        }
    }
}

/// The source of the certificates that certd itself uses: to open a Vault, and for its listener.
pub const OWN: &str = "certd itself";

/// The vault that `certd check` takes from the environment, left out where it is shown.
pub const ENVIRONMENT_VAULT: &str = "";

/// Never cut, whatever the length: a certificate that is adopted is named by its place.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self {
            Self::Endpoint { host, port, sni, address } => {
                match host.contains(':') {
                    true => write!(f, "[{}]:{port}", one_line(host))?,
                    false => write!(f, "{}:{port}", one_line(host))?,
                }
                sni.iter().try_for_each(|sni| write!(f, " sni={}", one_line(sni)))?;
                return address.iter().try_for_each(|address| write!(f, " at {address}"));
            }
            Self::Secret { vault, path, part } => {
                in_vault(f, vault, path)?;
                part
            }
            Self::Pki { vault, mount, object } => {
                in_vault(f, vault, mount)?;
                return object.fmt(f);
            }
            Self::File { path, part } => {
                f.write_str(&percent_encoded(path.as_os_str().as_encoded_bytes(), &RESERVED))?;
                part
            }
            Self::Listing { source, part } => {
                write!(f, "listing of {}", printable(&source.0))?;
                part
            }
        };
        part.iter().try_for_each(|part| write!(f, "#{part}"))
    }
}

fn in_vault(f: &mut fmt::Formatter<'_>, vault: &VaultName, path: &str) -> fmt::Result {
    let path = percent_encoded(path.as_bytes(), &RESERVED);
    match vault.0 == ENVIRONMENT_VAULT {
        true => write!(f, "vault:{path}"),
        false => write!(f, "vault:{}:{path}", one_line(&vault.0)),
    }
}

impl Serialize for Location {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What was seen at a location. Nothing is ever written on `Unknown`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// The place was read and holds nothing.
    Absent,
    /// As good as absent: what it held last was taken away, and when is known.
    Deleted(Deletion),
    Found(Box<Found>),
    /// A revocation list, which is no certificate and is watched beside them.
    Crl(Box<Crl>),
    Unknown(Obstacle),
}

/// How the current version of a secret went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It can be brought back.
    Deleted { version: u64, at: Timestamp },
    /// It is lost.
    Destroyed { version: u64 },
}

impl Sighting {
    /// Returns the chain that was found. `None` says nothing about why, as below.
    pub fn chain(&self) -> Option<&Chain> {
        match self {
            Self::Found(found) => Some(&found.chain),
            Self::Absent | Self::Deleted(_) | Self::Crl(_) | Self::Unknown(_) => None,
        }
    }

    /// The leaf that was found. `None` says nothing about why: what decides on absence asks for it by name.
    pub fn leaf(&self) -> Option<&Certificate> {
        match self {
            Self::Found(found) => Some(found.leaf()),
            Self::Absent | Self::Deleted(_) | Self::Crl(_) | Self::Unknown(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub chain: Chain,
    pub trust: Trust,
    /// The public half of the private key kept beside it, if one is.
    pub stored_key: Option<KeyDigest>,
    /// The version read, where the place counts versions.
    pub version: Option<u64>,
    /// When the place itself deletes that version.
    pub deleted_at: Option<Timestamp>,
    /// As the CA that issued it says.
    pub revoked_at: Option<Timestamp>,
    /// Nobody waits for its renewal: the CA that issued it issued a later one, or revoked it.
    pub is_settled: bool,
    /// Why certd would not write there, where the place is one that certd can write.
    pub unwritable: Option<String>,
    /// The paths by which it is trusted.
    pub paths: Arc<[CaPath]>,
    /// Of an endpoint alone.
    pub handshake: Option<Handshake>,
}

/// What a TLS handshake showed beside the certificates of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// Why the server is not known to hold the key of its certificate. `None` where it signed the handshake with it
    /// (RFC 8446, section 4.4.3; RFC 8422, section 5.4).
    pub key_not_proven: Option<String>,
    /// How the handshake ended before its time, after the key was proven.
    pub broken_off: Option<String>,
    /// The server asks clients for a certificate (RFC 8446, section 4.3.2).
    pub asks_for_certificate: bool,
}

impl Found {
    pub fn leaf(&self) -> &Certificate {
        &self.chain.leaf
    }

    /// Whether a client that trusts the certificate can use it where it was seen.
    pub fn is_proven(&self) -> bool {
        let handshake = self.handshake.as_ref();
        handshake.is_none_or(|handshake| handshake.key_not_proven.is_none() && handshake.broken_off.is_none())
    }

    /// A stored key that belongs to another certificate.
    pub fn key_differs(&self) -> bool {
        self.stored_key.is_some_and(|key| key != self.leaf().public_key)
    }
}

/// Why something could not be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    pub obstacle: ObstacleKind,
    /// One line: what was being done, what happened, what to do next.
    pub message: String,
}

impl Obstacle {
    pub fn new(obstacle: ObstacleKind, message: impl fmt::Display) -> Self {
        Self { obstacle, message: text::message(&message.to_string()) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ObstacleKind {
    /// The name does not resolve.
    Dns,
    /// No connection: refused, reset, no route.
    Unreachable,
    Timeout,
    /// The TLS handshake gave no certificate.
    Tls,
    /// The server or the file system refused: credentials or rights.
    Denied,
    /// Vault is sealed.
    Sealed,
    /// Vault holds nothing yet.
    NotInitialised,
    /// A standby of Vault that knows no active server.
    Standby,
    /// What Vault would show may be older than what was written.
    Stale,
    /// Vault leads to an address that is not one of the configuration.
    Redirected,
    /// Something else answers in place of Vault.
    NotVault,
    /// The server answered with an error.
    Server,
    /// Something is there that certd cannot read as a certificate.
    NotUnderstood,
    /// The file system failed.
    Io,
    /// Over the size that certd reads.
    TooLarge,
    /// To judge it takes more work than one place may cost.
    TooCostly,
}

impl ObstacleKind {
    pub const ALL: [Self; 16] = [
        Self::Dns,
        Self::Unreachable,
        Self::Timeout,
        Self::Tls,
        Self::Denied,
        Self::Sealed,
        Self::NotInitialised,
        Self::Standby,
        Self::Stale,
        Self::Redirected,
        Self::NotVault,
        Self::Server,
        Self::NotUnderstood,
        Self::Io,
        Self::TooLarge,
        Self::TooCostly,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Denied => "denied",
            Self::Sealed => "sealed",
            Self::NotInitialised => "not_initialised",
            Self::Standby => "standby",
            Self::Stale => "stale",
            Self::Redirected => "redirected",
            Self::NotVault => "not_vault",
            Self::Server => "server",
            Self::NotUnderstood => "not_understood",
            Self::Io => "io",
            Self::TooLarge => "too_large",
            Self::TooCostly => "too_costly",
        }
    }
}

/// One look at one location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub location: Location,
    pub source: SourceName,
    pub environment: Option<String>,
    pub observed_at: Timestamp,
    pub sighting: Sighting,
    /// How long the look took, for endpoints.
    pub took: Option<Duration>,
}

/// A place that a pattern led to and that holds no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    pub location: Location,
    /// What it holds instead.
    pub what: &'static str,
}

/// Everything that was seen, by location.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    observations: BTreeMap<Location, Observation>,
    revoked: BTreeMap<Fingerprint, Timestamp>,
}

impl Inventory {
    /// A later look at the same location replaces the earlier one.
    pub fn insert(&mut self, mut observation: Observation) {
        if let Sighting::Found(found) = &mut observation.sighting {
            found.revoked_at = found.revoked_at.or(self.revoked.get(&found.leaf().fingerprint).copied());
        }
        self.observations.insert(observation.location.clone(), observation);
    }

    /// Wherever it was seen, and wherever it is seen after this.
    pub fn mark_revoked(&mut self, fingerprint: Fingerprint, at: Timestamp) {
        self.revoked.insert(fingerprint, at);
        for seen in self.observations.values_mut() {
            if let Sighting::Found(found) = &mut seen.sighting
                && found.leaf().fingerprint == fingerprint
            {
                found.revoked_at = Some(at);
            }
        }
    }

    pub fn at(&self, location: &Location) -> Option<&Observation> {
        self.observations.get(location)
    }

    /// What was seen of the parts of a place.
    pub fn parts_of(&self, place: &Location) -> impl Iterator<Item = &Observation> {
        let parts = self.observations.range(place..).skip_while(move |(location, _)| *location == place);
        parts.take_while(move |(location, _)| location.with_part(None) == *place).map(|(_, seen)| seen)
    }

    /// In the order of locations.
    pub fn iter(&self) -> impl Iterator<Item = &Observation> {
        self.observations.values()
    }

    pub fn len(&self) -> usize {
        self.observations.len()
    }

    pub fn is_empty(&self) -> bool {
        self.observations.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::*;

    #[test]
    fn the_parts_of_a_place_are_its_own_and_not_those_of_its_neighbours() {
        let mut inventory = Inventory::default();
        let part = |path: &str, part: &str| secret(path).with_part(Some(part.into()));
        let web = [part("web", "a"), part("web", "b"), secret("web").with_part(Some(Part::nth(1)))];
        for place in [secret("web"), secret("we"), part("web2", "a"), part("w", "a")].iter().chain(&web) {
            inventory.insert(seen(place.clone(), Sighting::Absent));
        }
        let parts: Vec<_> = inventory.parts_of(&secret("web")).map(|seen| seen.location.clone()).collect();
        assert_eq!(parts, web);
        assert_eq!(inventory.parts_of(&secret("none")).count(), 0);
    }

    #[test]
    fn each_place_shows_as_one_line_of_its_own() {
        let file = |path: &str| Location::File { path: path.into(), part: None };
        let served = |host: &str, sni: Option<&str>| Location::Endpoint {
            host: host.into(),
            port: 443,
            sni: sni.map(str::to_string),
            address: None,
        };
        let one = IpAddr::from([10, 0, 0, 1]);
        let of_environment = Location::Secret { vault: ENVIRONMENT_VAULT.into(), path: "secret/a".into(), part: None };
        for (location, line) in [
            (served("example.org", None), "example.org:443"),
            (served("::1", None), "[::1]:443"),
            (served("10.0.0.1", Some("example.org")), "10.0.0.1:443 sni=example.org"),
            (served("example.org", None).at_address(Some(one)), "example.org:443 at 10.0.0.1"),
            (served("a.org", Some("b.org")).at_address(Some(one)), "a.org:443 sni=b.org at 10.0.0.1"),
            (secret("secret/a").at_address(Some(one)), "vault:main:secret/a"),
            (secret("secret/a"), "vault:main:secret/a"),
            (secret("secret/a").with_part(Some("old".into())), "vault:main:secret/a#old"),
            (of_environment, "vault:secret/a"),
            (pki(PkiObject::Mount), "vault:main:pki"),
            (pki(PkiObject::Issuer("root".into())), "vault:main:pki/issuer/root"),
            (pki(PkiObject::Crl("root".into())), "vault:main:pki/issuer/root/crl"),
            (pki(PkiObject::Certificate("1fa003".into())), "vault:main:pki/cert/1f:a0:03"),
            (file("/etc/a.pem"), "/etc/a.pem"),
            (file("/etc/a.pem").with_part(Some(Part::nth(2))), "/etc/a.pem#2"),
            (
                secret("secret/a").with_part(Some(Part::Nth { within: Some("web".into()), number: 2 })),
                "vault:main:secret/a#web/2",
            ),
            (file("/etc/a\n.pem"), "/etc/a%0A.pem"),
            (file("/etc/a#2"), "/etc/a%232"),
            (file("/etc/100%"), "/etc/100%25"),
            (secret("secret/a#old"), "vault:main:secret/a%23old"),
            (secret("secret/a").with_part(Some("2".into())), "vault:main:secret/a#%32"),
            (secret("secret/a").with_part(Some("web/27".into())), "vault:main:secret/a#web/%327"),
            (secret("secret/a").with_part(Some("web/2x".into())), "vault:main:secret/a#web/2x"),
        ] {
            assert_eq!(location.to_string(), line);
            assert_eq!(serde_json::to_value(&location).unwrap(), line);
        }
    }

    #[test]
    fn a_secret_is_found_again_by_the_text_of_its_place() {
        let paths = [
            "secret/a",
            "secret/a#b",
            "secret/a%23b",
            "secret/100%",
            "secret/a\nb",
            "secret/a\\u{a}b",
            "secret/ü+ ",
            "%",
        ];
        let objects =
            [None, Some("b"), Some("2"), Some("web/2"), Some("a%25b"), Some("a%2Fb"), Some("c#d"), Some("\u{202e}")];
        let mut texts = std::collections::BTreeSet::new();
        for path in paths {
            for object in objects {
                let location = secret(path).with_part(object.map(Part::from));
                let text = location.to_string();
                let read = secret_and_object(text.strip_prefix("vault:main:").unwrap());
                assert_eq!(read, (path.to_string(), object.map(str::to_string)), "{text}");
                texts.insert(text);
            }
            for within in [None, Some("web".to_string())] {
                texts.insert(secret(path).with_part(Some(Part::Nth { within, number: 2 })).to_string());
            }
        }
        assert_eq!(texts.len(), paths.len() * (objects.len() + 2), "no two read alike");
        assert_eq!(secret_and_object("secret/50%#%zz"), ("secret/50%".to_string(), Some("%zz".to_string())));
    }

    #[test]
    fn long_paths_that_differ_only_at_their_ends_stay_two_places() {
        let deep = "directory/".repeat(100);
        let [a, b] = ["a", "b"].map(|name| secret(&format!("{deep}{name}")).to_string());
        assert_ne!(a, b);
        assert!(a.ends_with("directory/a"), "{a}");
    }

    #[test]
    fn a_part_is_of_secrets_and_files_and_an_endpoint_has_none() {
        let www = endpoint("www.example.org");
        assert_eq!(www.with_part(Some("a".into())), www);
        assert_eq!(secret("a").with_part(Some("b".into())).with_part(None), secret("a"));
        let mount = pki(PkiObject::Mount);
        assert_eq!((mount.with_part(Some("a".into())), mount.part()), (mount.clone(), None));
    }

    #[test]
    fn a_client_of_an_endpoint_expects_its_sni_or_its_host() {
        assert_eq!(endpoint("www.example.org").expected_host(), Some("www.example.org"));
        let other =
            Location::Endpoint { host: "10.0.0.1".into(), port: 1, sni: Some("a.example.org".into()), address: None };
        assert_eq!(other.expected_host(), Some("a.example.org"));
        assert_eq!(secret("www.example.org").expected_host(), None);
    }

    #[test]
    fn a_message_stays_one_safe_line_however_long_it_is() {
        let obstacle = Obstacle::new(
            ObstacleKind::Server,
            format!("{}answered\n\u{1b}[2J{}", "word ".repeat(100), "x".repeat(300)),
        );
        assert!(!obstacle.message.contains(['\n', '\u{1b}']), "{}", obstacle.message);
        assert!(obstacle.message.starts_with("word word "));
        assert!(obstacle.message.contains("answered\\u{a}\\u{1b}[2Jxxx"), "{}", obstacle.message);
    }

    #[test]
    fn a_later_look_replaces_the_earlier_and_places_come_in_order() {
        let mut inventory = Inventory::default();
        assert!(inventory.is_empty());
        for (path, sighting) in [("b", Sighting::Absent), ("a", Sighting::Absent), ("b", Sighting::Unknown(obstacle()))]
        {
            inventory.insert(seen(secret(path), sighting));
        }
        assert_eq!((inventory.len(), inventory.is_empty()), (2, false));
        let places: Vec<_> = inventory.iter().map(|o| o.location.clone()).collect();
        assert_eq!(places, [secret("a"), secret("b")]);
        assert_eq!(inventory.at(&secret("b")).unwrap().sighting, Sighting::Unknown(obstacle()));
        assert_eq!(inventory.at(&secret("c")), None);
    }

    #[test]
    fn what_is_revoked_is_marked_wherever_it_is_seen() {
        let mut inventory = Inventory::default();
        let other = Certificate { fingerprint: Fingerprint([7; 32]), ..leaf(&["b"]) };
        inventory.insert(seen_found(secret("a"), found(leaf(&["a"]))));
        inventory.insert(seen_found(secret("b"), found(other)));
        inventory.mark_revoked(Fingerprint([0; 32]), NOW);
        inventory.insert(seen_found(endpoint("a"), found(leaf(&["a"]))));
        let revoked = |location: &Location| match &inventory.at(location).unwrap().sighting {
            Sighting::Found(found) => found.revoked_at,
            other => panic!("not found: {other:?}"),
        };
        assert_eq!([secret("a"), endpoint("a"), secret("b")].map(|at| revoked(&at)), [Some(NOW), Some(NOW), None]);
    }
}
