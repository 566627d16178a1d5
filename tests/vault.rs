//! Vault's part of the wheel against a real server: found, renewed through `pki/sign`, written back, read back.

mod house;
mod support;

use std::sync::Arc;
use std::time::Duration;

use certd::domain::cert::{Fingerprint, Trust};
use certd::domain::inventory::{Deletion, Found, ObstacleKind, Sighting};
use certd::domain::key::KeySpec;
use certd::domain::plan::Basis;
use certd::issuer::vault_pki::VaultPki;
use certd::issuer::{IssuerError, Order};
use certd::pki::bundle::Bundle;
use certd::pki::roots::Roots;
use certd::pki::{csr, key, pem};
use certd::source::path_glob::PathGlob;
use certd::source::vault_kv::VaultKvSource;
use certd::store::vault_kv::VaultKvStore;
use certd::store::{StoreError, Written};
use certd::vault::KvRead;
use house::{House, certified, client, fields, in_a_word, names, now};
use serde_json::{Value, json};
use support::vault::own_server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
fn found(sighting: Sighting) -> Found {
    match sighting {
        Sighting::Found(found) => *found,
        other => panic!("not found: {other:?}"),
    }
}

fn basis(sighting: &Sighting) -> Basis {
    match sighting {
        Sighting::Found(found) => Basis { version: found.version, fingerprint: Some(found.leaf().fingerprint) },
        Sighting::Absent | Sighting::Deleted(_) | Sighting::Crl(_) | Sighting::Unknown(_) => Basis::default(),
    }
}

#[tokio::test]
async fn a_glob_finds_certificates_at_any_depth_and_passes_over_other_secrets() {
    let house = House::new().await;
    let (web, api) =
        (certified(&house.issuer, &["web.example.org"]).await, certified(&house.issuer, &["api.example.org"]).await);
    for (path, data) in [
        ("tls/web", fields(&web)),
        ("tls/a/b/c/api", fields(&api)),
        ("tls/old/web", fields(&web)),
        ("tls/gone", fields(&web)),
        ("tls/broken", json!({ "certificate": "hello" })),
        ("tls/password", json!({ "password": "hunter2" })),
        ("tls/both", json!({ "pem": pem::certificates(&[&web.ders()[0], &api.ders()[0]]) })),
        ("other/web", fields(&web)),
    ] {
        house.admin.put(&house.kv, path, data).await;
    }
    house.admin.admin("DELETE", &format!("{}/data/tls/gone", house.kv), Value::Null).await;
    let seen = house.seen(&["tls/**", "tls/web", "tls/none", "tls/gone", "tls/password"], &["tls/old/**"]).await;
    assert_eq!(
        seen,
        [
            "vault:tls/a/b/c/api api.example.org v1",
            "vault:tls/both#1 web.example.org v1",
            "vault:tls/both#2 api.example.org v1",
            "vault:tls/broken not_understood",
            "vault:tls/gone deleted v1",
            "vault:tls/none absent",
            "vault:tls/password not_understood",
            "vault:tls/web web.example.org v1",
        ]
    );
    let below = house.seen(&["tls/*", "tls/a/**/api", "empty/**"], &["tls/both", "tls/broken"]).await;
    assert_eq!(below, ["vault:tls/a/b/c/api api.example.org v1", "vault:tls/web web.example.org v1"]);
}

#[tokio::test]
async fn what_is_found_says_whether_its_key_and_chain_fit() {
    let house = House::new().await;
    let (web, api) =
        (certified(&house.issuer, &["web.example.org"]).await, certified(&house.issuer, &["api.example.org"]).await);
    let mut mixed = fields(&web);
    mixed["private_key"] = fields(&api)["private_key"].clone();
    house.admin.put(&house.kv, "mixed", mixed).await;
    house.admin.put(&house.kv, "web", fields(&web)).await;
    let (mixed, whole) = (found(house.store("mixed").read().await), found(house.store("web").read().await));
    assert_eq!((mixed.key_differs(), mixed.stored_key), (true, Some(api.key().public)));
    assert_eq!((whole.key_differs(), whole.stored_key), (false, Some(web.key().public)));
    assert_eq!((whole.trust, whole.version), (Trust::Verified, Some(1)));
}

#[tokio::test]
async fn unknown_fields_of_a_secret_survive_byte_for_byte() {
    let house = House::new().await;
    let mut data = fields(&certified(&house.issuer, &["web.example.org"]).await);
    let unknown = [
        ("note", json!("<b>ü&\u{2028} \"quoted\"\n")),
        ("ratio", json!(0.30000000000000004)),
        ("large", json!(1.2345678901234568e29)),
        ("count", json!(42)),
        ("nested", json!({ "b": [1, 2.5, { "x": null }], "a": true })),
        ("nothing", Value::Null),
    ];
    for (name, value) in &unknown {
        data[*name] = value.clone();
    }
    house.admin.put(&house.kv, "web", data).await;
    let store = house.store("web");
    let texts = async || match house.vault.kv_read(&store.path).await.unwrap() {
        KvRead::Present { data, .. } => unknown.clone().map(|(name, _)| data[name].get().to_string()),
        KvRead::Absent { .. } => panic!("it was written"),
    };
    let before = texts().await;
    let new = certified(&house.issuer, &["web.example.org"]).await;
    let written = store.write(&new, &basis(&store.read().await)).await.unwrap();
    assert_eq!(written, Written { version: Some(2), unchanged: false });
    assert_eq!(texts().await, before);
    let (after, _) = house.admin.get(&house.kv, "web").await;
    assert_eq!(after["certificate"], fields(&new)["certificate"]);
    assert_eq!(after["private_key"], fields(&new)["private_key"]);
    let read_back = found(store.read().await);
    assert_eq!((read_back.leaf().fingerprint, read_back.key_differs()), (new.chain().leaf.fingerprint, false));
}

#[tokio::test]
async fn a_new_secret_is_written_once_and_then_left_alone() {
    let house = House::new().await;
    let store = house.store("tls/new");
    assert_eq!(store.read().await, Sighting::Absent);
    let new = certified(&house.issuer, &["new.example.org"]).await;
    let written = store.write(&new, &Basis::default()).await.unwrap();
    assert_eq!(written, Written { version: Some(1), unchanged: false });
    let again = store.write(&new, &Basis::default()).await.unwrap();
    assert_eq!(again, Written { version: Some(1), unchanged: true });
    let (data, version) = house.admin.get(&house.kv, "tls/new").await;
    assert_eq!((data, version), (fields(&new), 1));
    assert_eq!(found(store.read().await).trust, Trust::Verified);
}

#[tokio::test]
async fn what_somebody_wrote_in_between_is_not_overwritten() {
    let house = House::new().await;
    let store = house.store("web");
    house.admin.put(&house.kv, "web", fields(&certified(&house.issuer, &["web.example.org"]).await)).await;
    let before = basis(&store.read().await);
    let theirs = fields(&certified(&house.issuer, &["web.example.org"]).await);
    house.admin.put(&house.kv, "web", theirs.clone()).await;
    let new = certified(&house.issuer, &["web.example.org"]).await;
    let refused = store.write(&new, &before).await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict(_)), "{refused}");
    assert_eq!(house.admin.get(&house.kv, "web").await, (theirs, 2));
    house.admin.admin("DELETE", &format!("{}/data/web", house.kv), Value::Null).await;
    let deleted = store.write(&new, &before).await.unwrap_err();
    assert!(matches!(deleted, StoreError::Conflict(_)), "{deleted}");
}

#[tokio::test]
async fn a_deleted_secret_is_absent_and_keeps_its_version() {
    let house = House::new().await;
    let store = house.store("web");
    house.admin.put(&house.kv, "web", json!({ "certificate": "old" })).await;
    house.admin.admin("DELETE", &format!("{}/data/web", house.kv), Value::Null).await;
    let read = house.vault.kv_read(&store.path).await.unwrap();
    let KvRead::Absent { version: Some(1), deletion: Some(Deletion::Deleted { version: 1, at }) } = read else {
        panic!("it was deleted: {read:?}");
    };
    assert!(now().minus(Duration::from_secs(60)) <= at && at <= now(), "{at}");
    assert_eq!(store.read().await, Sighting::Deleted(Deletion::Deleted { version: 1, at }));
    let new = certified(&house.issuer, &["web.example.org"]).await;
    let written = store.write(&new, &Basis::default()).await.unwrap();
    assert_eq!(written, Written { version: Some(2), unchanged: false });
}

#[tokio::test]
async fn what_was_destroyed_deleted_by_time_or_wholly_forgotten_is_what_it_is_and_its_metadata_alone_is_nothing() {
    let house = House::new().await;
    let (admin, kv) = (&house.admin, &house.kv);
    let data = fields(&certified(&house.issuer, &["web.example.org"]).await);
    for path in ["deleted", "destroyed", "both", "forgotten"] {
        admin.put(kv, path, data.clone()).await;
        admin.put(kv, path, data.clone()).await;
    }
    admin.admin("POST", &format!("{kv}/delete/deleted"), json!({ "versions": [2] })).await;
    admin.admin("POST", &format!("{kv}/destroy/destroyed"), json!({ "versions": [2] })).await;
    admin.admin("DELETE", &format!("{kv}/data/both"), Value::Null).await;
    admin.admin("POST", &format!("{kv}/destroy/both"), json!({ "versions": [2] })).await;
    admin.admin("DELETE", &format!("{kv}/metadata/forgotten"), Value::Null).await;
    admin.admin("POST", &format!("{kv}/metadata/unwritten"), json!({ "max_versions": 3 })).await;
    let wanted = [
        "vault:both destroyed v2",
        "vault:deleted deleted v2",
        "vault:destroyed destroyed v2",
        "vault:forgotten absent",
        "vault:unwritten absent",
    ];
    let named = ["deleted", "destroyed", "both", "forgotten", "unwritten"];
    assert_eq!(house.seen(&named, &[]).await, wanted);
    let listed = admin.admin("LIST", &format!("{kv}/metadata"), Value::Null).await;
    assert_eq!(listed["data"]["keys"], json!(["both", "deleted", "destroyed", "unwritten"]));
    assert_eq!(house.seen(&["**"], &[]).await, Vec::<String>::new(), "nobody asked for one of these");
    admin.admin("POST", &format!("{kv}/undelete/deleted"), json!({ "versions": [2] })).await;
    assert_eq!(house.seen(&["**"], &[]).await, ["vault:deleted web.example.org v2"]);
}

#[tokio::test]
async fn a_version_whose_end_is_set_is_there_until_then() {
    let house = House::new().await;
    let (admin, kv) = (&house.admin, &house.kv);
    admin.admin("POST", &format!("{kv}/metadata/web"), json!({ "delete_version_after": "720h" })).await;
    admin.put(kv, "web", fields(&certified(&house.issuer, &["web.example.org"]).await)).await;
    let read = admin.admin("GET", &format!("{kv}/data/web"), Value::Null).await;
    assert_ne!(read["data"]["metadata"]["deletion_time"], "", "it is to be deleted one day");
    assert_eq!(house.seen(&["web"], &[]).await, ["vault:web web.example.org v1"]);
}

#[tokio::test]
async fn a_sweep_keeps_to_the_rate_of_its_vault_and_a_renewal_does_not_wait_for_it() {
    let house = House::new().await;
    let data = fields(&certified(&house.issuer, &["web.example.org"]).await);
    for i in 0..20 {
        house.admin.put(&house.kv, &format!("web-{i}"), data.clone()).await;
    }
    let paced = |rate| {
        let vault = Arc::try_unwrap(client(&house.admin.address, &house.admin.root_token)).unwrap();
        Arc::new(vault.with_requests_per_second(Some(rate)))
    };
    let begun = std::time::Instant::now();
    let vault = paced(40);
    // Two sweeps at once share the bound: a listing and twenty reads each.
    let (one, two) = tokio::join!(house.observe(&vault, &["**"], &[]), house.observe(&vault, &["**"], &[]));
    assert_eq!((one.observations.len(), two.observations.len()), (20, 20));
    assert!(begun.elapsed() >= Duration::from_millis(41 * 25), "{:?}", begun.elapsed());

    let slow = paced(1);
    let sweep = house.observe(&slow, &["**"], &[]);
    let renewal = async {
        let path = format!("{}/new", house.kv);
        let store = VaultKvStore { vault: slow.clone(), path, object: None, roots: house.roots() };
        let new = certified(&house.issuer, &["new.example.org"]).await;
        store.write(&new, &Basis::default()).await.unwrap()
    };
    tokio::select! {
        _ = sweep => panic!("the sweep takes twenty seconds"),
        written = renewal => assert_eq!(written, Written { version: Some(1), unchanged: false }),
    }
}

#[tokio::test]
async fn other_secrets_and_secrets_that_would_be_torn_are_held() {
    let house = House::new().await;
    let web = certified(&house.issuer, &["web.example.org"]).await;
    let mut twice = fields(&web);
    twice["tls.crt"] = fields(&certified(&house.issuer, &["web.example.org"]).await)["certificate"].clone();
    let mut keyless = fields(&web);
    keyless.as_object_mut().unwrap().remove("private_key");
    let new = certified(&house.issuer, &["web.example.org"]).await;
    for (path, data, why) in [
        ("password", json!({ "password": "x" }), "it holds other fields and no certificate"),
        ("broken", json!({ "certificate": "x" }), "there is no certificate in it"),
        ("number", json!({ "certificate": 7 }), "the field `certificate` is neither text nor a list of texts"),
        ("twice", twice, "certificates under several names (`certificate`, `tls.crt`): remove all but one"),
        ("keyless", keyless, "put it into the field `private_key`"),
    ] {
        house.admin.put(&house.kv, path, data.clone()).await;
        let store = house.store(path);
        let held = store.write(&new, &basis(&store.read().await)).await.unwrap_err();
        assert!(matches!(&held, StoreError::Held(message) if message.contains(why)), "{path}: {held}");
        assert_eq!(house.admin.get(&house.kv, path).await, (data, 1));
    }
}

#[tokio::test]
async fn a_sealed_vault_is_an_obstacle_and_nothing_is_absent() {
    let (admin, _server) = own_server().await;
    let kv = admin.kv("secret").await;
    let vault = client(&admin.address, &admin.root_token);
    let store =
        VaultKvStore { vault: vault.clone(), path: format!("{kv}/web"), object: None, roots: Arc::new(Roots::none()) };
    assert_eq!(store.read().await, Sighting::Absent);
    admin.admin("PUT", "sys/seal", Value::Null).await;
    let Sighting::Unknown(obstacle) = store.read().await else { panic!("it is sealed") };
    assert_eq!(obstacle.obstacle, ObstacleKind::Sealed);
    let expected = format!("could not read vault:main:{kv}/web: Vault at {} is sealed: unseal it", admin.address);
    assert_eq!(obstacle.message, expected);
    let source = VaultKvSource {
        name: "apps".into(),
        environment: None,
        vault: vault.clone(),
        paths: vec![PathGlob::new(&format!("{kv}/**")).unwrap()],
        exclude: Vec::new(),
        concurrency: 4,
        roots: Arc::new(Roots::none()),
    };
    let observed = source.observe(now()).await;
    assert_eq!((observed.observations.len(), observed.failures[0].obstacle), (0, ObstacleKind::Sealed));
    let issuer = VaultPki::new(vault, "pki", "servers");
    let key = key::generate(KeySpec::EcdsaP256).unwrap();
    let names = names(&["web.example.org"]);
    let csr = csr::make(&key, &names, None).unwrap();
    let order = Order { csr, names, common_name: None, lifetime: None, replaces: None, now: now() };
    let refused = issuer.sign(&order).await.unwrap_err();
    assert!(matches!(refused, IssuerError::Unanswered { .. }), "{refused}");
}

#[tokio::test]
async fn a_denied_token_is_told_which_capability_it_lacks() {
    let house = House::new().await;
    let web = certified(&house.issuer, &["web.example.org"]).await;
    house.admin.put(&house.kv, "tls/web", fields(&web)).await;
    let kv = &house.kv;
    let token = house.admin.token(&format!("path \"{kv}/data/tls/*\" {{ capabilities = [\"read\"] }}")).await;
    let vault = client(&house.admin.address, &token);
    let listed = house.observe(&vault, &["tls/**"], &[]).await;
    assert_eq!(listed.observations, []);
    let message = &listed.failures[0].message;
    assert!(message.contains(&format!("hint: give certd `list` on {kv}/metadata/tls/")), "{message}");
    let read = house.observe(&vault, &["tls/web", "other"], &[]).await;
    let [web_seen, other] = &read.observations[..] else { panic!("two places") };
    let (web_seen, other) =
        if in_a_word(&web_seen.sighting) == "denied" { (other, web_seen) } else { (web_seen, other) };
    assert_eq!(in_a_word(&web_seen.sighting), "web.example.org v1");
    let Sighting::Unknown(obstacle) = &other.sighting else { panic!("it is denied") };
    assert!(obstacle.message.contains(&format!("hint: give certd `read` on {kv}/data/other")), "{}", obstacle.message);
    let store = VaultKvStore { vault, path: format!("{kv}/tls/web"), object: None, roots: house.roots() };
    let new = certified(&house.issuer, &["web.example.org"]).await;
    let StoreError::Failed { source, .. } = store.write(&new, &basis(&store.read().await)).await.unwrap_err() else {
        panic!("writing is denied")
    };
    assert!(source.to_string().contains(&format!("give certd `create` and `update` on {kv}/data/tls/web")), "{source}");
}

#[tokio::test]
async fn a_csr_is_signed_with_just_the_names_asked_for() {
    let house = House::new().await;
    let wanted = ["web.example.org", "*.web.example.org", "127.0.0.1"];
    let certified = certified(&house.issuer, &wanted).await;
    let leaf = &certified.chain().leaf;
    let mut got = leaf.names.clone();
    let mut expected = names(&wanted);
    got.sort();
    expected.sort();
    assert_eq!(got, expected);
    assert_eq!((leaf.public_key, leaf.subject_cn.as_deref()), (certified.key().public, None));
    assert!(leaf.lifetime() <= Duration::from_secs(24 * 60 * 60 + 60), "{:?}", leaf.lifetime());
    // The root that signed it is no part of the chain, and is what the chain leads to.
    assert_eq!(certified.ders().len(), 1);
    let anchors = house.issuer.anchors().await.unwrap();
    assert_eq!(anchors, Bundle::parse(house.ca.ca_pem.as_bytes()).unwrap().certificates);
    assert_eq!(Roots::from_ders(anchors).judge(certified.ders()).unwrap().trust, Trust::Verified);
}

#[tokio::test]
async fn an_intermediate_is_part_of_the_chain_and_of_the_secret() {
    let house = House::new().await;
    let (admin, root) = (&house.admin, &house.ca);
    let inner = admin.pki().await;
    let asked = json!({ "common_name": "inner CA", "key_type": "ec", "key_bits": 256 });
    let csr = admin.admin("POST", &format!("{}/intermediate/generate/internal", inner.mount), asked).await;
    let asked = json!({ "csr": csr["data"]["csr"], "common_name": "inner CA", "ttl": "720h" });
    let signed = admin.admin("POST", &format!("{}/root/sign-intermediate", root.mount), asked).await;
    let both = format!("{}\n{}", signed["data"]["certificate"].as_str().unwrap(), root.ca_pem);
    let set =
        admin.admin("POST", &format!("{}/intermediate/set-signed", inner.mount), json!({ "certificate": both })).await;
    let issuers = set["data"]["mapping"].as_object().unwrap();
    let (with_key, _) = issuers.iter().find(|(_, key)| key.as_str().is_some_and(|key| !key.is_empty())).unwrap();
    admin.admin("POST", &format!("{}/config/issuers", inner.mount), json!({ "default": with_key })).await;

    let issuer = VaultPki::new(house.vault.clone(), inner.mount, inner.role);
    let certified = certified(&issuer, &["web.example.org"]).await;
    let subjects: Vec<_> = certified.chain().intermediates.iter().map(|c| c.subject_cn.clone().unwrap()).collect();
    assert_eq!(subjects, ["inner CA"]);
    let anchors = issuer.anchors().await.unwrap();
    assert_eq!(anchors, Bundle::parse(root.ca_pem.as_bytes()).unwrap().certificates);
    let store = house.store("inner");
    store.write(&certified, &Basis::default()).await.unwrap();
    assert_eq!(house.admin.get(&house.kv, "inner").await.0, fields(&certified));
    assert_eq!(found(store.read().await).trust, Trust::Verified);
}

#[tokio::test]
async fn a_refusal_to_sign_is_told_in_vaults_words() {
    let house = House::new().await;
    let key = key::generate(KeySpec::EcdsaP256).unwrap();
    let order = |name: &str| {
        let names = names(&[name]);
        Order {
            csr: csr::make(&key, &names, None).unwrap(),
            names,
            common_name: None,
            lifetime: None,
            replaces: None,
            now: now(),
        }
    };
    let refused = house.issuer.sign(&order("www.example.net")).await.unwrap_err();
    assert!(
        matches!(&refused, IssuerError::Refused { message, .. } if message.contains("www.example.net not allowed")),
        "{refused}"
    );
}

impl House {
    async fn role(&self, name: &str, generate_lease: bool) {
        let role = json!({
            "allow_any_name": true, "generate_lease": generate_lease, "require_cn": false, "key_type": "any",
            "max_ttl": "24h",
        });
        self.admin.admin("POST", &format!("{}/roles/{name}", self.ca.mount), role).await;
    }

    /// Serials of all that the mount has signed, its own CA's among them.
    async fn serials(&self) -> Vec<String> {
        let listed = self.admin.admin("LIST", &format!("{}/certs", self.ca.mount), Value::Null).await;
        listed["data"]["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_string()).collect()
    }
}

fn order() -> Order {
    order_for("www.example.org")
}

fn order_for(name: &str) -> Order {
    let (key, names) = (key::generate(KeySpec::EcdsaP256).unwrap(), names(&[name]));
    Order {
        csr: csr::make(&key, &names, None).unwrap(),
        names,
        common_name: None,
        lifetime: None,
        replaces: None,
        now: now(),
    }
}

fn asked(vault: &certd::vault::Vault, operation: &str) -> u64 {
    vault.status().requests.iter().filter(|(name, _, _)| *name == operation).map(|(_, _, count)| count).sum()
}

#[tokio::test]
async fn a_role_with_leases_is_refused_before_it_signs_and_read_anew_once_it_is_mended() {
    let house = House::new().await;
    house.role("leased", true).await;
    let issuer = VaultPki::new(house.vault.clone(), &house.ca.mount, "leased");
    let stopped = issuer.sign(&order()).await.unwrap_err();
    let expected = format!(
        "nothing was signed: role `leased` of the PKI mount `{}` of vault `main` ties certificates to the life of \
         certd's token; set generate_lease=false on it",
        house.ca.mount
    );
    assert!(matches!(&stopped, IssuerError::Stopped(message) if *message == expected), "{stopped}");
    assert_eq!((house.serials().await.len(), asked(&house.vault, "sign")), (1, 0));
    house.role("leased", false).await;
    issuer.sign(&order()).await.unwrap();
    assert_eq!(house.serials().await.len(), 2);
}

#[tokio::test]
async fn a_role_is_read_once_for_many_orders_and_again_a_minute_later_or_after_a_failure() {
    let house = House::new().await;
    let first = order();
    let later = |seconds: u64| Order { now: first.now.plus(Duration::from_secs(seconds)), ..first.clone() };
    let mut reads = Vec::new();
    for order in [later(0), later(1), later(59), later(60), later(61)] {
        house.issuer.sign(&order).await.unwrap();
        reads.push(asked(&house.vault, "role"));
    }
    assert_eq!(reads, [1, 1, 1, 2, 2]);
    house.issuer.sign(&Order { now: later(62).now, ..order_for("www.example.net") }).await.unwrap_err();
    house.issuer.sign(&later(63)).await.unwrap();
    assert_eq!(asked(&house.vault, "role"), 3);
}

#[tokio::test]
async fn a_role_that_begins_to_lease_while_certd_runs_signs_once_and_what_it_signed_is_named() {
    let house = House::new().await;
    house.role("changing", false).await;
    let issuer = VaultPki::new(house.vault.clone(), &house.ca.mount, "changing");
    issuer.sign(&order()).await.unwrap();
    let before = house.serials().await;
    house.role("changing", true).await;
    let alarm = issuer.sign(&order()).await.unwrap_err();
    let mut signed = house.serials().await;
    signed.retain(|serial| !before.contains(serial));
    let expected = format!(
        "the role ties certificates to the life of certd's token: set generate_lease=false on the role `changing` of \
         `{}`, and revoke what it has signed and nobody uses, serial {}",
        house.ca.mount, signed[0]
    );
    assert!(matches!(&alarm, IssuerError::SignedInVain(message) if *message == expected), "{alarm}");
    let stopped = issuer.sign(&order()).await.unwrap_err();
    assert!(matches!(stopped, IssuerError::Stopped(_)), "{stopped}");
    assert_eq!(house.serials().await.len(), before.len() + 1);
}

#[tokio::test]
async fn a_role_that_certd_may_not_read_signs_and_one_that_could_not_be_read_does_not() {
    let house = House::new().await;
    let sign = format!("path \"{}/sign/servers\" {{ capabilities = [\"update\"] }}", house.ca.mount);
    let vault = client(&house.admin.address, &house.admin.token(&sign).await);
    let issuer = VaultPki::new(vault.clone(), &house.ca.mount, "servers");
    issuer.sign(&order()).await.unwrap();
    issuer.sign(&order()).await.unwrap();
    assert_eq!((asked(&vault, "role"), asked(&vault, "sign")), (1, 2));
    let (admin, server) = own_server().await;
    let vault = client(&admin.address, &admin.root_token);
    admin.admin("PUT", "sys/seal", Value::Null).await;
    let sealed = VaultPki::new(vault.clone(), "pki", "servers").sign(&order()).await.unwrap_err();
    let expected = "could not read role `servers` of the PKI mount `pki` of vault `main`";
    assert!(matches!(&sealed, IssuerError::Unanswered { .. }) && sealed.to_string() == expected, "{sealed}");
    assert_eq!(asked(&vault, "sign"), 0);
    drop(server);
}

/// Forwards to Vault, and hangs up instead of passing on the answer to the write of a secret.
async fn that_loses_answers(upstream: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(upstream.trim_start_matches("http://")).await.unwrap();
            tokio::spawn(forward(client, server));
        }
    });
    address
}

async fn forward(mut client: TcpStream, mut server: TcpStream) -> std::io::Result<()> {
    let (mut asked, mut answered, mut loses) = ([0; 65536], [0; 65536], false);
    loop {
        tokio::select! {
            n = client.read(&mut asked) => match n? {
                0 => return Ok(()),
                n => {
                    loses |= asked.starts_with(b"POST ") && !asked.starts_with(b"POST /v1/cubbyhole/");
                    server.write_all(&asked[..n]).await?;
                }
            },
            n = server.read(&mut answered) => match n? {
                0 => return Ok(()),
                _ if loses => return Ok(()),
                n => client.write_all(&answered[..n]).await?,
            },
        }
    }
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_recognised() {
    let house = House::new().await;
    let address = that_loses_answers(house.admin.address.clone()).await;
    let vault = client(&address, &house.admin.root_token);
    let store = VaultKvStore { vault, path: format!("{}/web", house.kv), object: None, roots: house.roots() };
    let new = certified(&house.issuer, &["web.example.org"]).await;
    let there = (fields(&new), 1);
    let written = tokio::spawn(async move { store.write(&new, &Basis::default()).await }).await.unwrap().unwrap();
    assert_eq!(written, Written { version: Some(1), unchanged: false });
    assert_eq!(house.admin.get(&house.kv, "web").await, there);
}

#[tokio::test]
async fn a_conflict_names_what_was_expected_and_what_is_there() {
    let house = House::new().await;
    let store = house.store("web");
    let old = certified(&house.issuer, &["web.example.org"]).await;
    house.admin.put(&house.kv, "web", fields(&old)).await;
    let basis = Basis { version: Some(7), fingerprint: Some(Fingerprint([0; 32])) };
    let new = certified(&house.issuer, &["web.example.org"]).await;
    let conflict = store.write(&new, &basis).await.unwrap_err().to_string();
    let expected = format!(
        "it changed since it was read: vault:main:{} held version 7 with {} and now holds version 1 with {}",
        store.path,
        Fingerprint([0; 32]),
        old.chain().leaf.fingerprint
    );
    assert_eq!(conflict, expected);
}
