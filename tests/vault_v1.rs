//! KV version 1, which keeps one state and no versions: found by the mount alone, read, compared, written, read.

mod house;
mod support;

use std::sync::Arc;

use certd::domain::inventory::Sighting;
use certd::domain::plan::Basis;
use certd::source::path_glob::PathGlob;
use certd::source::vault_kv::VaultKvSource;
use certd::store::vault_kv::VaultKvStore;
use certd::store::{StoreError, Written};
use certd::vault::{KvRead, VaultError};
use house::{House, certified, client, fields, now};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A house whose secrets lie in a mount of version 1.
struct Old {
    house: House,
    mount: String,
}

impl Old {
    async fn new() -> Self {
        let house = House::new().await;
        let mount = format!("old-{}", house.kv);
        let kv = json!({ "type": "kv", "options": { "version": "1" } });
        house.admin.admin("POST", &format!("sys/mounts/{mount}"), kv).await;
        Self { house, mount }
    }

    async fn put(&self, path: &str, data: Value) {
        self.house.admin.admin("POST", &format!("{}/{path}", self.mount), data).await;
    }

    async fn get(&self, path: &str) -> Value {
        self.house.admin.admin("GET", &format!("{}/{path}", self.mount), Value::Null).await["data"].clone()
    }

    fn store(&self, path: &str) -> VaultKvStore {
        let path = format!("{}/{path}", self.mount);
        VaultKvStore { vault: self.house.vault.clone(), path, object: None, roots: self.house.roots() }
    }
}

fn basis(sighting: &Sighting) -> Basis {
    match sighting {
        Sighting::Found(found) => Basis { version: found.version, fingerprint: Some(found.leaf().fingerprint) },
        Sighting::Absent | Sighting::Deleted(_) | Sighting::Crl(_) | Sighting::Unknown(_) => Basis::default(),
    }
}

#[tokio::test]
async fn a_renewal_keeps_unknown_fields_byte_for_byte_and_counts_no_version() {
    let old = Old::new().await;
    let mut data = fields(&certified(&old.house.issuer, &["web.example.org"]).await);
    let unknown = [
        ("note", json!("<b>ü&\u{2028} \"quoted\"\n")),
        ("ratio", json!(0.30000000000000004)),
        ("large", json!(1.2345678901234568e29)),
        ("ttl", json!("72h")),
        ("nested", json!({ "b": [1, 2.5, { "x": null }], "a": true })),
        ("nothing", Value::Null),
    ];
    for (name, value) in &unknown {
        data[*name] = value.clone();
    }
    old.put("tls/web", data).await;
    let store = old.store("tls/web");
    let texts = async || match old.house.vault.kv_read(&store.path).await.unwrap() {
        KvRead::Present { data, version, .. } => {
            assert_eq!(version, None);
            unknown.clone().map(|(name, _)| data[name].get().to_string())
        }
        KvRead::Absent { .. } => panic!("it was written"),
    };
    let before = texts().await;
    let new = certified(&old.house.issuer, &["web.example.org"]).await;
    let written = store.write(&new, &basis(&store.read().await)).await.unwrap();
    assert_eq!(written, Written { version: None, unchanged: false });
    assert_eq!(texts().await, before);
    assert_eq!(old.get("tls/web").await["private_key"], fields(&new)["private_key"]);
    let Sighting::Found(found) = store.read().await else { panic!("it was written") };
    assert_eq!((found.leaf().fingerprint, found.version), (new.chain().leaf.fingerprint, None));
    let again = store.write(&new, &Basis::default()).await.unwrap();
    assert_eq!(again, Written { version: None, unchanged: true });
}

#[tokio::test]
async fn what_is_deleted_is_absent_and_can_be_written_anew() {
    let old = Old::new().await;
    let store = old.store("web");
    old.put("web", fields(&certified(&old.house.issuer, &["web.example.org"]).await)).await;
    let before = basis(&store.read().await);
    old.house.admin.admin("DELETE", &format!("{}/web", old.mount), Value::Null).await;
    assert_eq!(store.read().await, Sighting::Absent);
    let new = certified(&old.house.issuer, &["web.example.org"]).await;
    let deleted = store.write(&new, &before).await.unwrap_err();
    assert!(matches!(&deleted, StoreError::Conflict(message) if message.ends_with("now holds nothing")), "{deleted}");
    assert_eq!(store.write(&new, &Basis::default()).await.unwrap(), Written { version: None, unchanged: false });
    assert_eq!(old.get("web").await, fields(&new));
}

#[tokio::test]
async fn what_is_deleted_is_gone_from_listings_and_absent_where_it_is_named() {
    let old = Old::new().await;
    let data = fields(&certified(&old.house.issuer, &["web.example.org"]).await);
    old.put("gone", data.clone()).await;
    old.put("web", data).await;
    old.house.admin.admin("DELETE", &format!("{}/gone", old.mount), Value::Null).await;
    let source = |path: &str| VaultKvSource {
        name: "old".into(),
        environment: None,
        vault: old.house.vault.clone(),
        paths: vec![PathGlob::new(&format!("{}/{path}", old.mount)).unwrap()],
        exclude: Vec::new(),
        concurrency: 4,
        roots: old.house.roots(),
    };
    let (listed, named) = (source("**").observe(now()).await, source("gone").observe(now()).await);
    assert_eq!((listed.observations.len(), named.observations.len()), (1, 1));
    assert_eq!(listed.observations[0].location.to_string(), format!("vault:main:{}/web", old.mount));
    assert_eq!(named.observations[0].sighting, Sighting::Absent);
}

#[tokio::test]
async fn what_somebody_wrote_between_reading_and_writing_is_a_conflict() {
    let old = Old::new().await;
    let store = old.store("web");
    old.put("web", fields(&certified(&old.house.issuer, &["web.example.org"]).await)).await;
    let before = basis(&store.read().await);
    let theirs = fields(&certified(&old.house.issuer, &["web.example.org"]).await);
    old.put("web", theirs.clone()).await;
    let new = certified(&old.house.issuer, &["web.example.org"]).await;
    let refused = store.write(&new, &before).await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict(_)), "{refused}");
    assert_eq!(old.get("web").await, theirs);
    let not_new = store.write(&new, &Basis::default()).await.unwrap_err();
    assert!(matches!(not_new, StoreError::Conflict(_)), "{not_new}");
}

/// Forwards to Vault, and writes `theirs` after each write that it let through.
async fn where_another_writes_too(upstream: String, token: String, path: String, theirs: Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let body = theirs.to_string();
    let request = format!(
        "POST /v1/{path} HTTP/1.1\r\nHost: vault\r\nX-Vault-Token: {token}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let host = upstream.trim_start_matches("http://").to_string();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(forward(client, host.clone(), request.clone()));
        }
    });
    address
}

async fn forward(mut client: TcpStream, host: String, then: String) -> std::io::Result<()> {
    let mut server = TcpStream::connect(&host).await?;
    let (mut asked, mut answered, mut wrote) = ([0; 65536], [0; 65536], false);
    loop {
        tokio::select! {
            n = client.read(&mut asked) => match n? {
                0 => return Ok(()),
                n => {
                    wrote = asked.starts_with(b"POST ") && !asked.starts_with(b"POST /v1/cubbyhole/");
                    server.write_all(&asked[..n]).await?;
                }
            },
            n = server.read(&mut answered) => match n? {
                0 => return Ok(()),
                n => {
                    if wrote {
                        let mut other = TcpStream::connect(&host).await?;
                        other.write_all(then.as_bytes()).await?;
                        other.read_to_end(&mut Vec::new()).await?;
                    }
                    client.write_all(&answered[..n]).await?;
                }
            },
        }
    }
}

#[tokio::test]
async fn a_write_that_another_wrote_over_is_a_conflict_and_no_success() {
    let old = Old::new().await;
    let path = format!("{}/web", old.mount);
    let theirs = fields(&certified(&old.house.issuer, &["web.example.org"]).await);
    let new = certified(&old.house.issuer, &["web.example.org"]).await;
    let (admin, token) = (&old.house.admin, old.house.admin.root_token.clone());
    let address = where_another_writes_too(admin.address.clone(), token, path.clone(), theirs.clone()).await;
    let store =
        VaultKvStore { vault: client(&address, &admin.root_token), path, object: None, roots: old.house.roots() };
    let lost = tokio::spawn(async move { store.write(&new, &Basis::default()).await }).await.unwrap().unwrap_err();
    assert!(matches!(&lost, StoreError::Conflict(message) if message.contains("was written over")), "{lost}");
    assert_eq!(old.get("web").await, theirs);
}

#[tokio::test]
async fn globs_over_mounts_of_both_versions_find_what_lies_in_each() {
    let old = Old::new().await;
    let (one, two) = (
        certified(&old.house.issuer, &["one.example.org"]).await,
        certified(&old.house.issuer, &["two.example.org"]).await,
    );
    old.put("tls/a/b/one", fields(&one)).await;
    old.put("tls/old/one", fields(&one)).await;
    old.put("tls/password", json!({ "password": "hunter2" })).await;
    old.put("top", fields(&one)).await;
    old.house.admin.put(&old.house.kv, "tls/two", fields(&two)).await;
    let glob = |text: String| PathGlob::new(&text).unwrap();
    let source = VaultKvSource {
        name: "apps".into(),
        environment: None,
        vault: old.house.vault.clone(),
        paths: vec![
            glob(format!("{}/**", old.mount)),
            glob(format!("{}/tls/none", old.mount)),
            glob(format!("{}/**", old.house.kv)),
        ],
        exclude: vec![glob(format!("{}/tls/old/**", old.mount))],
        concurrency: 4,
        roots: old.house.roots(),
    };
    let observed = tokio::spawn(async move { source.observe(now()).await }).await.unwrap();
    assert_eq!(observed.failures, []);
    let word = |sighting: &Sighting| match sighting {
        Sighting::Absent => "absent".to_string(),
        Sighting::Deleted(_) => "deleted".to_string(),
        Sighting::Crl(_) => "a revocation list".to_string(),
        Sighting::Found(found) => format!("{} {:?}", found.leaf().names[0], found.version),
        Sighting::Unknown(obstacle) => obstacle.obstacle.as_str().to_string(),
    };
    let mut seen: Vec<_> =
        observed.observations.iter().map(|o| format!("{} {}", o.location, word(&o.sighting))).collect();
    seen.sort();
    let (v1, v2) = (&old.mount, &old.house.kv);
    assert_eq!(
        seen,
        [
            format!("vault:main:{v1}/tls/a/b/one one.example.org None"),
            format!("vault:main:{v1}/tls/none absent"),
            format!("vault:main:{v1}/top one.example.org None"),
            format!("vault:main:{v2}/tls/two two.example.org Some(1)"),
        ]
    );
}

#[tokio::test]
async fn each_version_is_written_in_its_own_way_alone() {
    let old = Old::new().await;
    let vault = Arc::clone(&old.house.vault);
    let one = vault.kv_write(&format!("{}/web", old.mount), Default::default(), 0).await.unwrap_err();
    assert!(matches!(&one, VaultError::NoMount { words, .. } if words == "it is kv version 1"), "{one}");
    let two = vault.kv_overwrite(&format!("{}/web", old.house.kv), &Default::default()).await.unwrap_err();
    assert!(matches!(&two, VaultError::NoMount { words, .. } if words == "it is kv version 2"), "{two}");
}

#[tokio::test]
async fn a_mount_that_was_made_version_2_is_an_obstacle_once_and_then_read_as_such() {
    let old = Old::new().await;
    let web = certified(&old.house.issuer, &["web.example.org"]).await;
    old.put("web", fields(&web)).await;
    let store = old.store("web");
    assert_eq!(basis(&store.read().await).version, None);
    let two = json!({ "options": { "version": "2" } });
    old.house.admin.admin("POST", &format!("sys/mounts/{}/tune", old.mount), two).await;
    let config = format!("{}/config", old.mount);
    while old.house.admin.call(&old.house.admin.root_token, "GET", &config, Value::Null).await.0 != 200 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let first = store.read().await;
    assert!(matches!(first, Sighting::Unknown(_)), "{first:?}");
    let then = basis(&store.read().await);
    assert_eq!(then, Basis { version: Some(1), fingerprint: Some(web.chain().leaf.fingerprint) });
}

/// Nothing brings back what is lost here.
#[tokio::test]
async fn what_is_not_the_certificates_stays_or_the_place_is_held() {
    let old = Old::new().await;
    let (was, new) = (
        certified(&old.house.issuer, &["web.example.org"]).await,
        certified(&old.house.issuer, &["web.example.org"]).await,
    );
    let kept = |of| {
        let mut data = fields(of);
        let text = |name: &str| data[name].as_str().unwrap().to_string();
        let beside = format!("# kept by web\n{}# the end", text("certificate"));
        let combined = text("private_key") + &text("certificate");
        (data["certificate"], data["combined.pem"]) = (json!(beside), json!(combined));
        data
    };
    old.put("tls/kept", kept(&was)).await;
    let store = old.store("tls/kept");
    store.write(&new, &basis(&store.read().await)).await.unwrap();
    assert_eq!(old.get("tls/kept").await, kept(&new));
    for (field, other) in [("private_key", json!("API-KEY-123")), ("ca_chain", json!(["https://ca.example.org"]))] {
        let mut data = fields(&was);
        data[field] = other;
        old.put("tls/held", data.clone()).await;
        let store = old.store("tls/held");
        let held = store.write(&new, &basis(&store.read().await)).await.unwrap_err();
        assert!(matches!(&held, StoreError::Held(why) if why.contains("which certd would not overwrite")), "{held}");
        assert_eq!(old.get("tls/held").await, data, "{field}");
    }
}
