//! Snapshots made by hand, for the tests and the benchmark of what is made from them.

#![allow(dead_code)]

use std::sync::Arc;
use std::time::Duration;

use certd::domain::cert::{Certificate, Chain, Fingerprint, KeyDigest, KeyType, SignatureAlgorithm, Trust};
use certd::domain::check::{Problem, ProblemKind, State, check};
use certd::domain::crl::Crl;
use certd::domain::inventory::{Found, Location, Observation, Obstacle, ObstacleKind, PkiObject, Sighting};
use certd::domain::name::San;
use certd::domain::plan::{Action, Basis, Decision, Origin, Reason, Record};
use certd::domain::policy::Thresholds;
use certd::domain::snapshot::{
    Entry, IssuerStatus, ManagedEntry, Phase, PhaseStatus, Snapshot, SourceStatus, VaultStatus,
};
use certd::domain::time::Timestamp;
use certd::metrics::render::About;

/// 2026-11-22T12:00:00Z
pub const NOW: Timestamp = Timestamp(1_795_348_800);
pub const DAY: i64 = 86_400;

pub fn about() -> About {
    About { version: "0.1.0".into(), commit: "abc1234".into(), config_hash: Some("0f0f".into()) }
}

/// Ninety days long, for `name`, ending `days_left` after [`NOW`].
pub fn certificate(name: &str, days_left: i64) -> Certificate {
    let mut fingerprint = [0; 32];
    for (i, byte) in name.bytes().enumerate() {
        fingerprint[i % 32] ^= byte.rotate_left(i as u32 / 32);
    }
    Certificate {
        fingerprint: Fingerprint(fingerprint),
        serial: "4f1e5c".into(),
        subject: format!("CN={name}"),
        issuer: "CN=Example CA,O=Example".into(),
        subject_cn: Some(name.into()),
        issuer_cn: Some("Example CA".into()),
        names: vec![San::from_text(name)],
        not_before: Timestamp(NOW.0 + (days_left - 90) * DAY),
        not_after: Timestamp(NOW.0 + days_left * DAY),
        key: KeyType::EcdsaP256,
        signature: SignatureAlgorithm("ecdsa-sha256".into()),
        key_usage: None,
        extended_key_usage: None,
        is_ca: false,
        authority_key_id: None,
        subject_key_id: None,
        public_key: KeyDigest(fingerprint),
    }
}

pub fn found(leaf: Certificate, intermediates: Vec<Certificate>) -> Sighting {
    let chain = Chain { leaf: Arc::new(leaf), intermediates: intermediates.into_iter().map(Arc::new).collect() };
    Sighting::Found(Box::new(Found {
        chain,
        trust: Trust::NotJudged,
        stored_key: None,
        version: None,
        deleted_at: None,
        revoked_at: None,
        is_settled: false,
        handshake: None,
        paths: Default::default(),
        unwritable: None,
    }))
}

pub fn endpoint(host: &str) -> Location {
    Location::Endpoint { host: host.into(), port: 443, sni: None, address: None }
}

pub fn secret(path: &str) -> Location {
    Location::Secret { vault: "main".into(), path: path.into(), part: None }
}

/// With the problems that the real checks find.
pub fn entry(location: Location, sighting: Sighting) -> Entry {
    let observation = Observation {
        took: matches!(location, Location::Endpoint { .. }).then_some(Duration::from_millis(12)),
        location,
        source: "edge".into(),
        environment: Some("prod".into()),
        observed_at: NOW,
        sighting,
    };
    let problems = check(NOW, &Thresholds::default(), &observation);
    Entry { state: State::of(&observation, &problems), observation, problems, managed: None }
}

pub fn managed(mut entry: Entry, name: &str, action: Action, record: Record) -> Entry {
    let location = entry.observation.location.clone();
    let decision = Decision { certificate: name.into(), location, action, based_on: Basis::default() };
    entry.managed =
        Some(ManagedEntry { origin: Origin::Declared, owner: Some("team-payments".into()), decision, record });
    entry
}

pub fn snapshot(entries: Vec<Entry>) -> Snapshot {
    Snapshot {
        taken_at: NOW,
        entries,
        sources: vec![],
        issuers: vec![],
        vaults: vec![],
        phases: vec![],
        act: true,
        paused_until: None,
        clock_doubt: None,
        journal_lost: None,
        journal_gone: None,
        passed_over: Vec::new(),
        unaudited: None,
    }
}

/// One location of each kind: ok, expired, ending, missing, unknown, with a chain, managed and failing.
pub fn every_shape() -> Snapshot {
    let mut ca = certificate("Intermediate CA", 80);
    ca.is_ca = true;
    let mut both = entry(endpoint("warn.example.org"), found(certificate("warn.example.org", 8), vec![]));
    both.problems.push(Problem::warning(ProblemKind::NotDeployed, "it serves something else than the store holds"));
    let obstacle = Obstacle::new(ObstacleKind::Timeout, "no answer in 5 s from 192.0.2.1:443: is a firewall between?");
    let kept = Record { last_success: Some(Timestamp(NOW.0 - 5 * DAY)), ..Record::default() };
    let failing = Record {
        consecutive_failures: 3,
        last_error: Some("could not sign: permission denied".into()),
        retry_at: Some(Timestamp(NOW.0 + 3_600)),
        ..Record::default()
    };
    let keep = Action::Keep { renew_at: Timestamp(NOW.0 + 25 * DAY) };
    let ok = found(certificate("ok.example.org", 60), vec![ca]);
    let ending = found(certificate("late.example.org", 5), vec![]);
    snapshot(vec![
        entry(endpoint("expired.example.org"), found(certificate("expired.example.org", -10), vec![])),
        entry(endpoint("ok.example.org"), ok.clone()),
        entry(endpoint("unknown.example.org"), Sighting::Unknown(obstacle)),
        both,
        entry(secret("secret/tls/missing"), Sighting::Absent),
        managed(entry(secret("secret/tls/late"), ending), "late", Action::Renew { reason: Reason::Due }, failing),
        managed(entry(secret("secret/tls/ok"), ok), "payments-api", keep, kept),
    ])
}

/// What a PKI mount shows: a revoked certificate and a list, whose next one is due in two days.
pub fn of_a_ca() -> Vec<Entry> {
    let at = |object| Location::Pki { vault: "main".into(), mount: "pki".into(), object };
    let mut revoked = found(certificate("revoked.example.org", 60), vec![]);
    if let Sighting::Found(found) = &mut revoked {
        (found.revoked_at, found.is_settled) = (Some(Timestamp(NOW.0 - DAY)), true);
    }
    let list = Crl {
        issuer: "CN=Example CA,O=Example".into(),
        issuer_cn: Some("Example CA".into()),
        number: Some("2a".into()),
        this_update: Timestamp(NOW.0 - DAY),
        next_update: Some(Timestamp(NOW.0 + 2 * DAY)),
        revoked: 1,
        signature: SignatureAlgorithm("ecdsa-sha256".into()),
        is_signed: true,
    };
    vec![
        entry(at(PkiObject::Certificate("4f1e5c".into())), revoked),
        entry(at(PkiObject::Crl("internal".into())), Sighting::Crl(Box::new(list))),
    ]
}

/// The same, what a CA shows, and every status that a snapshot can hold.
pub fn every_family() -> Snapshot {
    let mut shapes = every_shape();
    shapes.entries.extend(of_a_ca());
    Snapshot {
        sources: vec![SourceStatus {
            source: "edge".into(),
            up: true,
            last_success: Some(NOW),
            items: 7,
            errors: vec![(ObstacleKind::Timeout, 3), (ObstacleKind::Dns, 1)],
        }],
        issuers: vec![IssuerStatus {
            issuer: "internal".into(),
            up: Some(true),
            not_after: Some(Timestamp(NOW.0 + 400 * DAY)),
            backoff_until: Some(Timestamp(NOW.0 + 60)),
        }],
        vaults: vec![VaultStatus {
            vault: "main".into(),
            token_expiry: Some(Timestamp(NOW.0 + 3_600)),
            requests: vec![("read", 200, 41), ("write", 400, 1)],
            cas_conflicts: 1,
        }],
        phases: Phase::ALL
            .map(|phase| PhaseStatus { phase, completed_at: NOW, succeeded: true, took: Duration::from_millis(40) })
            .to_vec(),
        ..shapes
    }
}
