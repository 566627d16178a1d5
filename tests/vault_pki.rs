//! PKI mounts as they are watched: issuers, what they issued and still lives, their revocation lists.

mod house;
mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use certd::domain::check::{ProblemKind, check};
use certd::domain::inventory::{Found, Observation, ObstacleKind, Sighting};
use certd::domain::policy::Thresholds;
use certd::domain::time::Timestamp;
use certd::source::Observed;
use certd::source::vault_pki::{KnownCertificates, VaultPkiSource};
use house::{client, now};
use serde_json::{Value, json};
use support::vault::{Pki, Vault, own_server, server};

const HOUR: Duration = Duration::from_secs(3_600);

fn source(admin: &Vault, token: &str, mounts: &[&str]) -> VaultPkiSource {
    VaultPkiSource {
        name: "cas".into(),
        environment: Some("prod".to_string()),
        vault: client(&admin.address, token),
        mounts: mounts.iter().map(|mount| mount.to_string()).collect(),
        concurrency: 4,
        known: KnownCertificates::default(),
    }
}

/// A mount with the role `short`, whose certificates Vault makes with their keys, and certd as root.
struct Ca {
    admin: Vault,
    pki: Pki,
    source: VaultPkiSource,
}

impl Ca {
    async fn new() -> Self {
        let admin = server().await;
        let pki = admin.pki().await;
        let source = source(&admin, &admin.root_token, &[&pki.mount]);
        Self { admin, pki, source }
    }

    /// Returns the serial number as Vault writes it.
    async fn issue(&self, name: &str, hours: u32) -> String {
        self.issue_by("servers", name, hours).await
    }

    async fn issue_by(&self, role: &str, name: &str, hours: u32) -> String {
        let asked = json!({ "alt_names": name, "ttl": format!("{hours}h"), "key_type": "ec", "key_bits": 256 });
        let asked = match role {
            "servers" => asked,
            _ => json!({ "alt_names": name, "ttl": format!("{hours}h") }),
        };
        let answer = self.admin.admin("POST", &format!("{}/issue/{role}", self.pki.mount), asked).await;
        answer["data"]["serial_number"].as_str().unwrap().to_string()
    }

    async fn revoke(&self, serial: &str) {
        self.admin.admin("POST", &format!("{}/revoke", self.pki.mount), json!({ "serial_number": serial })).await;
    }

    async fn observe(&self, now: Timestamp) -> Observed {
        let observed = self.source.observe(now).await;
        assert_eq!(observed.failures, []);
        observed
    }

    /// What was seen, without the mount, a line each in the order of places.
    async fn seen(&self, now: Timestamp) -> Vec<String> {
        lines(&self.observe(now).await, &self.pki.mount)
    }

    /// How often certd has asked for one object since it began.
    fn reads(&self) -> u64 {
        let requests = self.source.vault.status().requests;
        requests.iter().filter(|(operation, ..)| *operation == "read").map(|(_, _, count)| count).sum()
    }
}

fn lines(observed: &Observed, mount: &str) -> Vec<String> {
    let line = |seen: &Observation| {
        let place = seen.location.to_string().replace(&format!("vault:main:{mount}"), "");
        format!("{place} {}", told(&seen.sighting)).trim().to_string()
    };
    let mut lines: Vec<String> = observed.observations.iter().map(line).collect();
    lines.sort();
    lines
}

fn told(sighting: &Sighting) -> String {
    match sighting {
        Sighting::Absent => "absent".to_string(),
        Sighting::Deleted(_) => "deleted".to_string(),
        Sighting::Found(found) => {
            let names: Vec<String> = found.leaf().names.iter().map(ToString::to_string).collect();
            let revoked = if found.revoked_at.is_some() { " revoked" } else { "" };
            let settled = if found.is_settled { " settled" } else { "" };
            let chain = found.chain.intermediates.len();
            let chain = if chain > 0 { format!(" +{chain}") } else { String::new() };
            let name = found.leaf().subject_cn.clone().unwrap_or(names.join(","));
            format!("{name}{chain}{revoked}{settled}")
        }
        Sighting::Crl(list) => format!("{} revoked, signed {}", list.revoked, list.is_signed),
        Sighting::Unknown(obstacle) => obstacle.obstacle.as_str().to_string(),
    }
}

fn found<'a>(observed: &'a Observed, serial: &str) -> &'a Found {
    let plain = serial.replace(':', "");
    let leaves = observed.observations.iter().filter_map(|seen| match &seen.sighting {
        Sighting::Found(found) => Some(found.as_ref()),
        Sighting::Absent | Sighting::Deleted(_) | Sighting::Crl(_) | Sighting::Unknown(_) => None,
    });
    leaves.into_iter().find(|found| found.leaf().serial == plain).unwrap_or_else(|| panic!("{serial} was not seen"))
}

#[tokio::test]
async fn a_mount_shows_its_ca_what_it_issued_and_its_list() {
    let ca = Ca::new().await;
    let (web, api) = (ca.issue("web.example.org", 24).await, ca.issue("api.example.org", 24).await);
    ca.revoke(&api).await;
    let observed = ca.observe(now()).await;
    let issuer = observed.observations.iter().map(|seen| seen.location.to_string()).find(|at| at.contains("/issuer/"));
    let issuer = issuer.unwrap().rsplit("/issuer/").next().unwrap().split('/').next().unwrap().to_string();
    let mut wanted = vec![
        format!("/cert/{api} api.example.org revoked settled"),
        format!("/cert/{web} web.example.org"),
        format!("/issuer/{issuer} certd test root"),
        format!("/issuer/{issuer}/crl 1 revoked, signed true"),
    ];
    wanted.sort();
    assert_eq!(lines(&observed, &ca.pki.mount), wanted);
    let revoked_at = found(&observed, &api).revoked_at.unwrap();
    assert!(now().minus(HOUR) < revoked_at && revoked_at <= now(), "{revoked_at}");
    assert_eq!(observed.observations[0].environment.as_deref(), Some("prod"));
    // The register for whoever wants to know what the CA knows.
    let mount = &ca.pki.mount;
    let (serials, revoked) =
        (ca.source.vault.pki_serials(mount).await.unwrap(), ca.source.vault.pki_revoked(mount).await.unwrap());
    let root = observed.observations.iter().filter_map(|seen| seen.sighting.leaf()).find(|leaf| leaf.is_ca).unwrap();
    let [web, api] = [web, api].map(|serial| serial.replace(':', ""));
    assert_eq!(serials, BTreeSet::from([root.serial.clone(), web.clone(), api.clone()]));
    assert_eq!(revoked, BTreeSet::from([api.clone()]));
    assert_eq!(
        (found(&observed, &web).leaf().serial.as_str(), found(&observed, &api).leaf().serial.as_str()),
        (&*web, &*api)
    );
}

#[tokio::test]
async fn what_ended_is_not_seen_and_what_no_store_keeps_is_not_listed() {
    let ca = Ca::new().await;
    let role = json!({ "allowed_domains": ["example.org"], "allow_subdomains": true, "require_cn": false,
        "key_type": "ec", "no_store": true });
    ca.admin.admin("POST", &format!("{}/roles/unkept", ca.pki.mount), role).await;
    let unkept = ca.issue_by("unkept", "unkept.example.org", 24).await;
    let (short, long) = (ca.issue("short.example.org", 1).await, ca.issue("long.example.org", 24).await);
    let certificates = async |now| {
        let mut all = ca.seen(now).await;
        all.retain(|line| line.starts_with("/cert/"));
        all
    };
    let (short, long) = (format!("/cert/{short} short.example.org"), format!("/cert/{long} long.example.org"));
    let mut both = vec![short, long.clone()];
    both.sort();
    assert_eq!(certificates(now()).await, both);
    assert_eq!(certificates(now().plus(2 * HOUR)).await, [long]);
    // It stays ended, even for a clock that was set back.
    assert_eq!(certificates(now().plus(25 * HOUR)).await, Vec::<String>::new());
    assert_eq!(certificates(now()).await, Vec::<String>::new());
    let fresh = source(&ca.admin, &ca.admin.root_token, &[&ca.pki.mount]).observe(now()).await;
    assert_eq!(fresh.observations.len(), 4);
    assert!(!ca.source.vault.pki_serials(&ca.pki.mount).await.unwrap().contains(&unkept.replace(':', "")));
}

#[tokio::test]
async fn the_predecessor_of_a_renewal_is_not_said_to_be_expiring() {
    let ca = Ca::new().await;
    let (old, new) = (ca.issue("web.example.org", 24).await, ca.issue("web.example.org", 48).await);
    let lone = ca.issue("lone.example.org", 24).await;
    let expiring = async |later: Duration| {
        let at = now().plus(later);
        let observed = ca.observe(at).await;
        let problems = observed.observations.iter().flat_map(|seen| {
            let serial = seen.sighting.leaf().map(|leaf| leaf.serial.clone());
            let problems = check(at, &Thresholds::default(), seen);
            problems.into_iter().filter(|it| it.problem == ProblemKind::Expiring).filter_map(move |_| serial.clone())
        });
        problems.collect::<Vec<_>>()
    };
    let [old, new, lone] = [old, new, lone].map(|serial| serial.replace(':', ""));
    assert_eq!(expiring(23 * HOUR).await, [lone]);
    let observed = ca.observe(now()).await;
    assert_eq!((found(&observed, &old).is_settled, found(&observed, &new).is_settled), (true, false));
    assert_eq!(expiring(47 * HOUR).await, [new]);
}

#[tokio::test]
async fn a_certificate_is_read_once_and_once_more_when_it_is_revoked() {
    let ca = Ca::new().await;
    let (web, api) = (ca.issue("web.example.org", 24).await, ca.issue("api.example.org", 24).await);
    let reads_of = async || {
        let before = ca.reads();
        let observed = ca.observe(now()).await;
        (ca.reads() - before, observed)
    };
    // The CA and its list each time; the first time also the two certificates and the CA's own in the register.
    assert_eq!(reads_of().await.0, 2 + 3);
    assert_eq!(reads_of().await.0, 2);
    let new = ca.issue("new.example.org", 24).await;
    assert_eq!(reads_of().await.0, 2 + 1);
    ca.revoke(&web).await;
    let (reads, observed) = reads_of().await;
    assert_eq!(reads, 2 + 1);
    let revoked = [&web, &api, &new].map(|serial| found(&observed, serial).revoked_at.is_some());
    assert_eq!(revoked, [true, false, false]);
    assert_eq!(reads_of().await.0, 2);
}

#[tokio::test]
async fn two_issuers_and_an_imported_root_of_a_mount_are_each_what_they_are() {
    let (ca, inner) = (Ca::new().await, Ca::new().await);
    let mount = &inner.pki.mount;
    let second = json!({ "common_name": "second root", "issuer_name": "second", "key_type": "ec", "ttl": "8000h" });
    inner.admin.admin("POST", &format!("{mount}/root/generate/internal"), second).await;
    let asked = json!({ "common_name": "inner CA", "key_type": "ec" });
    let csr = inner.admin.admin("POST", &format!("{mount}/intermediate/generate/internal"), asked).await;
    let asked = json!({ "csr": csr["data"]["csr"], "common_name": "inner CA", "ttl": "720h" });
    let signed = ca.admin.admin("POST", &format!("{}/root/sign-intermediate", ca.pki.mount), asked).await;
    let both = format!("{}\n{}", signed["data"]["certificate"].as_str().unwrap(), ca.pki.ca_pem);
    inner.admin.admin("POST", &format!("{mount}/intermediate/set-signed"), json!({ "certificate": both })).await;

    let mut seen = inner.seen(now()).await;
    // Ids are as random as serial numbers.
    seen.iter_mut().for_each(|line| {
        let (place, told) = line.split_once(' ').unwrap();
        let kind = if place.ends_with("/crl") { "list" } else { place.split('/').nth(1).unwrap() };
        let name = if place.contains("/second") { " second" } else { "" };
        *line = format!("{kind}{name}: {told}");
    });
    seen.sort();
    assert_eq!(
        seen,
        [
            // The root that only completes the chain has no list here.
            "issuer second: second root",
            "issuer: certd test root",
            "issuer: certd test root",
            "issuer: inner CA +1",
            "list second: 0 revoked, signed true",
            "list: 0 revoked, signed true",
            "list: 0 revoked, signed true",
        ]
    );
    // Where it was issued, the inner CA is one of the certificates.
    let outer = ca.seen(now()).await;
    assert!(outer.iter().any(|line| line.starts_with("/cert/") && line.ends_with(" inner CA")), "{outer:?}");
}

#[tokio::test]
async fn a_list_that_is_not_replaced_is_late_and_then_outdated() {
    let ca = Ca::new().await;
    let at = |later| {
        let ca = &ca;
        async move {
            let at = now().plus(later);
            let observed = ca.observe(at).await;
            let list = observed.observations.iter().find(|seen| matches!(seen.sighting, Sighting::Crl(_))).unwrap();
            let problems = check(at, &Thresholds::default(), list);
            problems.iter().map(|problem| problem.problem).collect::<Vec<_>>()
        }
    };
    assert_eq!(at(HOUR).await, []);
    assert_eq!(at(60 * HOUR).await, []);
    assert_eq!(at(70 * HOUR).await, [ProblemKind::Expiring]);
    assert_eq!(at(73 * HOUR).await, [ProblemKind::Expired]);
}

#[tokio::test]
async fn a_denied_list_is_told_with_the_right_that_it_takes_and_the_rest_is_seen() {
    let ca = Ca::new().await;
    let (web, api) = (ca.issue("web.example.org", 24).await, ca.issue("api.example.org", 24).await);
    ca.revoke(&api).await;
    let mount = &ca.pki.mount;
    let no_rights = ca.admin.token("path \"none\" { capabilities = [\"read\"] }").await;
    let poor = source(&ca.admin, &no_rights, &[mount]).observe(now()).await;
    let message = &poor.failures[0].message;
    assert_eq!((poor.failures.len(), poor.failures[0].obstacle), (1, ObstacleKind::Denied));
    assert!(message.starts_with(&format!("could not list vault:main:{mount}/certs: ")), "{message}");
    assert!(message.contains(&format!("hint: give certd `list` on {mount}/certs")), "{message}");
    // The CA and its list are shown to everybody.
    assert_eq!(poor.observations.len(), 2, "{:?}", lines(&poor, mount));
    // Each certificate says for itself that it was revoked, to whoever may not list those that were.
    let lists = format!("path \"{mount}/certs\" {{ capabilities = [\"list\"] }}");
    let partly = source(&ca.admin, &ca.admin.token(&lists).await, &[mount]);
    let observed = partly.observe(now()).await;
    assert_eq!(observed.failures, []);
    assert!(found(&observed, &api).revoked_at.is_some() && found(&observed, &web).revoked_at.is_none());
    ca.revoke(&web).await;
    assert!(found(&partly.observe(now()).await, &web).revoked_at.is_some());
}

#[tokio::test]
async fn a_mount_without_a_ca_is_told_and_one_that_is_no_pki_or_none_at_all_is_a_failure() {
    let admin = server().await;
    let kv = admin.kv("secret").await;
    let empty = admin.kv("empty").await.replace("empty", "pki-empty");
    admin.admin("POST", &format!("sys/mounts/{empty}"), json!({ "type": "pki" })).await;
    let observed = source(&admin, &admin.root_token, &[&empty]).observe(now()).await;
    assert_eq!((lines(&observed, &empty), observed.failures), (vec!["absent".to_string()], vec![]));
    let failure = async |mount: &str| {
        let mut observed = source(&admin, &admin.root_token, &[mount]).observe(now()).await;
        assert_eq!((observed.observations.len(), observed.failures[0].obstacle), (0, ObstacleKind::Server));
        observed.failures.remove(0).message
    };
    let place =
        |mount: &str| format!("could not list vault:main:{mount}: there is no PKI mount `{mount}` in this Vault: ");
    assert_eq!(failure(&kv).await, format!("{}`{kv}` is a mount of kv", place(&kv)));
    let below = format!("{empty}/below");
    assert_eq!(failure(&below).await, format!("{}`{empty}` is a mount of pki", place(&below)));
    let none = failure("none-such").await;
    assert!(none.contains("there is no PKI mount `none-such` in this Vault: no handler for route"), "{none}");
    // One that cannot be listed keeps no other from being seen.
    let ca = Ca::new().await;
    let observed = source(&admin, &admin.root_token, &[&kv, &ca.pki.mount]).observe(now()).await;
    assert_eq!((observed.observations.len(), observed.failures.len()), (2, 1));
}

#[tokio::test]
async fn a_sealed_vault_shows_nothing_and_nothing_is_absent() {
    let (admin, _server) = own_server().await;
    let pki = admin.pki().await;
    let source = source(&admin, &admin.root_token, &[&pki.mount]);
    assert_eq!(source.observe(now()).await.observations.len(), 2);
    admin.admin("PUT", "sys/seal", Value::Null).await;
    let observed = source.observe(now()).await;
    assert_eq!(observed.observations, []);
    assert!(
        observed.failures.iter().all(|failure| failure.obstacle == ObstacleKind::Sealed),
        "{:?}",
        observed.failures
    );
    assert!(!observed.failures.is_empty());
}
