//! Certificates and sightings for tests: plain ones, to be changed by struct update.

use std::sync::Arc;
use std::time::Duration;

use super::adopt::Rule;
use super::cert::{Certificate, Chain, Fingerprint, KeyDigest, KeyType, KeyUsage, SignatureAlgorithm, Trust};
use super::crl::Crl;
use super::inventory::{Found, Location, Observation, Obstacle, ObstacleKind, PkiObject, Sighting};
use super::key::{KeySpec, PrivateKey};
use super::name::{NamePattern, San};
use super::plan::{Managed, Origin};
use super::policy::RenewalPolicy;
use super::renewal::Spec;
use super::time::Timestamp;

/// 2027-01-15T08:00:00Z
pub const NOW: Timestamp = Timestamp(1_800_000_000);
pub const SECOND: Duration = Duration::from_secs(1);
pub const DAY: Duration = Duration::from_secs(86_400);

/// Of 90 days, 10 of them gone; its fingerprint draws no spread, so it is due with 30 days left.
pub fn leaf(names: &[&str]) -> Certificate {
    Certificate {
        fingerprint: Fingerprint([0; 32]),
        serial: "01".into(),
        subject: String::new(),
        issuer: "CN=Example CA".into(),
        subject_cn: None,
        issuer_cn: Some("Example CA".into()),
        names: sans(names),
        not_before: NOW.minus(10 * DAY),
        not_after: NOW.plus(80 * DAY),
        key: KeyType::EcdsaP256,
        signature: SignatureAlgorithm("ecdsa-sha256".into()),
        key_usage: Some(KeyUsage(KeyUsage::DIGITAL_SIGNATURE)),
        extended_key_usage: Some(vec!["serverAuth".into()]),
        is_ca: false,
        authority_key_id: None,
        subject_key_id: None,
        public_key: KeyDigest([1; 32]),
    }
}

/// Ten years of an intermediate CA.
pub fn intermediate() -> Certificate {
    Certificate {
        fingerprint: Fingerprint([9; 32]),
        subject: "CN=Example CA".into(),
        issuer: "CN=Example Root".into(),
        is_ca: true,
        names: Vec::new(),
        not_after: NOW.plus(3_650 * DAY),
        public_key: KeyDigest([9; 32]),
        ..leaf(&[])
    }
}

/// The same certificate with `left` until its end, its lifetime unchanged.
pub fn ending_in(left: Duration, certificate: Certificate) -> Certificate {
    let lifetime = certificate.lifetime();
    Certificate { not_before: NOW.plus(left).minus(lifetime), not_after: NOW.plus(left), ..certificate }
}

pub fn chain(leaf: Certificate) -> Chain {
    Chain { leaf: Arc::new(leaf), intermediates: Vec::new() }
}

/// Verified, with its own key beside it, as version 7.
pub fn found(leaf: Certificate) -> Found {
    let stored_key = Some(leaf.public_key);
    Found {
        chain: chain(leaf),
        trust: Trust::Verified,
        stored_key,
        version: Some(7),
        deleted_at: None,
        revoked_at: None,
        is_settled: false,
        handshake: None,
        paths: Default::default(),
        unwritable: None,
    }
}

pub fn secret(path: &str) -> Location {
    Location::Secret { vault: "main".into(), path: path.into(), part: None }
}

pub fn pki(object: PkiObject) -> Location {
    Location::Pki { vault: "main".into(), mount: "pki".into(), object }
}

/// Of 72 hours, 2 of them gone.
pub fn crl() -> Crl {
    Crl {
        issuer: "CN=Example CA".into(),
        issuer_cn: Some("Example CA".into()),
        number: Some("2a".into()),
        this_update: NOW.minus(DAY / 12),
        next_update: Some(NOW.plus(3 * DAY - DAY / 12)),
        revoked: 2,
        signature: SignatureAlgorithm("ecdsa-sha256".into()),
        is_signed: true,
    }
}

pub fn endpoint(host: &str) -> Location {
    Location::Endpoint { host: host.into(), port: 443, sni: None, address: None }
}

pub fn seen(location: Location, sighting: Sighting) -> Observation {
    Observation { location, source: "apps".into(), environment: None, observed_at: NOW, sighting, took: None }
}

pub fn seen_found(location: Location, found: Found) -> Observation {
    seen(location, Sighting::Found(Box::new(found)))
}

pub fn obstacle() -> Obstacle {
    Obstacle::new(ObstacleKind::Sealed, "Vault is sealed")
}

pub fn spec(names: &[&str]) -> Spec {
    Spec {
        names: sans(names),
        common_name: None,
        key: KeySpec::EcdsaP256,
        lifetime: None,
        renewal: RenewalPolicy::default(),
    }
}

/// Declared, with one name, kept under a path of the same name.
pub fn managed(name: &str) -> Managed {
    Managed {
        name: name.into(),
        location: secret(name),
        origin: Origin::Declared,
        rule: None,
        spec: spec(&[name]),
        issuers: vec!["internal".into()],
        serves: Vec::new(),
        owner: None,
        environment: None,
        held: None,
    }
}

/// For any name below example.org and one address.
pub fn rule() -> Rule {
    Rule {
        name: "prod".into(),
        id: "prod".into(),
        asks: false,
        share_names: false,
        names: ["*.example.org", "10.0.0.1"].iter().map(|text| NamePattern::new(text).expect("a pattern")).collect(),
        issuers: vec!["internal".into(), "fallback".into()],
        lifetime: Some(20 * DAY),
        renewal: RenewalPolicy::default(),
        owner: Some("team".into()),
        environment: Some("prod".into()),
    }
}

pub fn private_key() -> PrivateKey {
    PrivateKey { pkcs8: vec![0x30].into(), public: KeyDigest([1; 32]), key_type: KeyType::EcdsaP256 }
}

pub fn sans(names: &[&str]) -> Vec<San> {
    names.iter().map(|name| San::from_text(name)).collect()
}
