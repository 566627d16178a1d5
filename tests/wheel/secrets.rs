//! What is secret is in no log, metric, output, argument, environment, state or temporary file, even at the level `trace`.
//! Every story is searched for it (`support::secrets`); this one meets each kind, where all goes well and where it does not.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::home::Home;
use crate::leaves::Leaf;
use crate::support::certd::{BINARY, Certd};
use crate::support::fault_proxy::FaultProxy;
use crate::support::jwt::Provider;
use crate::support::secrets::{self, Kind};
use crate::support::tools::openssl_bytes;

const CONFIG: &str = r#"
state_dir = "state"
[turn]
interval = "1s"
[listen]
address = "127.0.0.1:0"
bearer_token_file = "scrape"
[vault.main]
address = "ADDRESS"
auth.approle = { mount = "ROLES", role_id_file = "role-id", secret_id_file = "secret-id" }
[vault.unwraps]
address = "ADDRESS"
auth.approle = { mount = "ROLES", role_id_file = "role-id", secret_id_file = "wrapping", secret_id_is_wrapped = true }
[vault.people]
address = "ADDRESS"
auth.userpass = { mount = "PEOPLE", username = "certd", password_file = "password" }
[vault.mistyped]
address = "ADDRESS"
auth.userpass = { mount = "PEOPLE", username = "mistyper", password_file = "mistyped" }
[vault.provider]
address = "ADDRESS"
auth.jwt = { mount = "JWTS", role = "certd", jwt_file = "jwt" }
[vault.stranger]
address = "ADDRESS"
auth.jwt = { mount = "JWTS", role = "certd", jwt_file = "strange-jwt" }
[vault.given]
address = "ADDRESS"
token_file = "token"
[vault.dead]
address = "ADDRESS"
token_file = "dead-token"
SOURCES
[issuer.internal.vault_pki]
vault = "main"
mount = "PKI"
role = "servers"
[issuer.own.local_ca]
directory = "ca"
create = true
[[certificate]]
name = "web"
names = ["web.example.org"]
issuer = "internal"
store.vault_kv = { vault = "main", path = "KV/tls/web" }
[[certificate]]
name = "disk"
names = ["disk.example.org"]
issuer = "own"
store.file = { bundle = "disk.pem" }
"#;

/// Those that get in, and those that do not.
const LET_IN: [&str; 5] = ["main", "unwraps", "people", "provider", "given"];
const REFUSED: [&str; 3] = ["mistyped", "stranger", "dead"];

/// All that this story has; `Hmac` comes with what signs by one.
const KINDS: [Kind; 12] = [
    Kind::RootToken,
    Kind::GivenToken,
    Kind::LoginToken,
    Kind::WrappingToken,
    Kind::SecretId,
    Kind::Password,
    Kind::Jwt,
    Kind::BearerToken,
    Kind::StoredKey,
    Kind::KeyOnDisk,
    Kind::KeystorePassword,
    Kind::UnknownField,
];

const PASSWORD: &str = "canary-password-5c20";
const SCRAPE: &str = "canary-scrape-e6d4";

fn config(home: &Home) -> String {
    let sources = LET_IN.iter().chain(&REFUSED).map(|vault| {
        format!("[source.{vault}.vault_kv]\nvault = \"{vault}\"\npaths = [\"KV/tls/*\", \"KV/stores/*\"]\n")
    });
    let config = CONFIG.replace("SOURCES", &sources.collect::<String>());
    let mount = |kind: &str| format!("{kind}-{}", home.house.kv);
    config.replace("ROLES", &mount("roles")).replace("PEOPLE", &mount("people")).replace("JWTS", &mount("jwts"))
}

/// Writes a file with a secret of this kind.
fn give(home: &Home, file: &str, kind: Kind, secret: &str) {
    fs::write(home.path(file), secrets::told(kind, secret)).unwrap();
}

async fn logins(home: &Home) {
    let admin = &home.house.admin;
    let [roles, people, jwts, policy] =
        ["roles", "people", "jwts", "all"].map(|kind| format!("{kind}-{}", home.house.kv));
    let all = "path \"*\" { capabilities = [\"create\", \"read\", \"update\", \"patch\", \"list\"] }";
    admin.admin("PUT", &format!("sys/policies/acl/{policy}"), json!({ "policy": all })).await;
    for (mount, kind) in [(&roles, "approle"), (&people, "userpass"), (&jwts, "jwt")] {
        admin.admin("POST", &format!("sys/auth/{mount}"), json!({ "type": kind })).await;
    }
    admin.admin("POST", &format!("auth/{roles}/role/certd"), json!({ "token_policies": [policy] })).await;
    let role_id = admin.admin("GET", &format!("auth/{roles}/role/certd/role-id"), Value::Null).await;
    fs::write(home.path("role-id"), role_id["data"]["role_id"].as_str().unwrap()).unwrap();
    let secret_id = format!("auth/{roles}/role/certd/secret-id");
    let wrapping = admin.wrapped(&secret_id).await;
    let secret_id = admin.admin("POST", &secret_id, json!({})).await;
    give(home, "secret-id", Kind::SecretId, secret_id["data"]["secret_id"].as_str().unwrap());
    give(home, "wrapping", Kind::WrappingToken, &wrapping);
    let user = json!({ "password": PASSWORD, "token_policies": [policy] });
    for name in ["certd", "mistyper"] {
        admin.admin("POST", &format!("auth/{people}/users/{name}"), user.clone()).await;
    }
    give(home, "password", Kind::Password, PASSWORD);
    give(home, "mistyped", Kind::Password, "canary-mistyped-8d31");
    let provider = Provider::new();
    admin.admin("POST", &format!("auth/{jwts}/config"), json!({ "jwt_validation_pubkeys": [provider.public()] })).await;
    let role =
        json!({ "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"], "token_policies": [policy] });
    admin.admin("POST", &format!("auth/{jwts}/role/certd"), role).await;
    fs::write(home.path("jwt"), provider.token("vault")).unwrap();
    fs::write(home.path("strange-jwt"), Provider::new().token("vault")).unwrap();
    give(home, "scrape", Kind::BearerToken, SCRAPE);
    give(home, "dead-token", Kind::GivenToken, "s.canary-dead-token-44e0");
    home.give_token(&admin.token(all).await);
}

/// A secret that is due, one with a keystore, and some that nobody can read.
async fn stored(home: &Home) -> Value {
    let put = |path: &'static str, secret: Value| home.house.admin.put(&home.house.kv, path, secret);
    let mut old = home.old.secret(Leaf::due("web.example.org"));
    old["note"] = json!("canary-field-91f3");
    old["deep"] = json!({ "password": "canary-nested-77ab" });
    put("tls/web", old.clone()).await;
    let fresh = home.old.secret(Leaf::fresh("store.example.org"));
    let text = |name: &str| fresh[name].as_str().unwrap().to_string();
    let pair = home.path("pair.pem");
    fs::write(&pair, text("certificate") + &text("private_key")).unwrap();
    let sealed = ["pkcs12", "-export", "-in", pair.to_str().unwrap(), "-passout", "pass:canary-keystore-0b6e"];
    let store = openssl_bytes(&sealed, b"");
    let store = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, store);
    put("stores/sound", json!({ "keystore.p12": store, "password": "canary-keystore-0b6e" })).await;
    put("stores/shut", json!({ "keystore.p12": store, "password": "canary-wrong-keystore-3f" })).await;
    put("stores/cut", json!({ "keystore.p12": store[..store.len() / 2], "password": "canary-keystore-0b6e" })).await;
    let key = text("private_key");
    put("tls/halved", json!({ "certificate": text("certificate"), "private_key": key[..key.len() - 60] })).await;
    put("tls/swapped", json!({ "certificate": key, "private_key": text("certificate") })).await;
    put("tls/odd", json!({ "certificate": "no certificate", "private_key": key, "note": "canary-field-odd-17" })).await;
    old
}

async fn commands(home: &Home) {
    let location = home.location("tls/web");
    let commands: [&[&str]; 10] = [
        &["check"],
        &["check", "--format", "json"],
        &["check", "--format", "prometheus"],
        &["plan", "--format", "json"],
        &["explain", "web"],
        &["renew", "web", "--force"],
        &["journal", "--format", "json"],
        &["history", &location, "--format", "json"],
        &["diff", &format!("{location}@1..2")],
        &["vault", "doctor"],
    ];
    for arguments in commands {
        let ran = home.certd(arguments).await;
        assert!(!ran.out.is_empty(), "{arguments:?}: {}", ran.err);
    }
}

async fn page(metrics: &str, bearer: &str) -> String {
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let page = http.get(metrics).bearer_auth(bearer).send().await.unwrap().text().await.unwrap();
    secrets::are_not_in([("metrics", page.as_bytes())]);
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_where_anybody_could_read_it_even_at_trace() {
    let home = Home::new("").await;
    logins(&home).await;
    let old = stored(&home).await;
    let proxy = FaultProxy::listening(&home.house.admin.address);
    home.configure_by(&proxy.address, &config(&home));
    let daemon = home.run().await;
    daemon.until("turn completed");
    let log = daemon.log();
    let refused =
        |vault: &&str| log.iter().any(|line| line.contains("WARN") && line.contains(&format!("source {vault}")));
    assert!(REFUSED.iter().all(refused) && !LET_IN.iter().any(refused), "{}", log.join("\n"));
    let new = home.house.admin.get(&home.house.kv, "tls/web").await.0;
    assert_ne!(new["certificate"], old["certificate"], "it was renewed");
    assert!(proxy.tokens().len() >= LET_IN.len(), "each logged in");
    let shown = page(&daemon.metrics, SCRAPE).await;
    assert!(shown.contains("certd_certificate_not_after_timestamp_seconds"), "{shown}");
    assert!(!page(&daemon.metrics, "canary-wrong-scrape").await.contains("certd_"));
    commands(&home).await;
    let checked = home.certd(&["check"]).await.out;
    assert!(["stores/shut", "stores/cut", "tls/halved"].iter().all(|path| checked.contains(path)), "{checked}");
    // All of it is searched here.
    daemon.stop();
    let kinds = secrets::kinds();
    let lacking: Vec<&Kind> = KINDS.iter().filter(|kind| !kinds.contains(kind)).collect();
    assert_eq!(lacking, Vec::<&Kind>::new());
}

/// The search can fail: each place where a secret could be is one where it is found.
#[test]
fn a_secret_that_leaks_fails_the_story_with_its_kind_and_place_and_never_with_what_it_is() {
    let planted = secrets::told(Kind::Planted, "canary-planted-6a1f");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("certd.toml"), "state_dir = \"state\"\n").unwrap();
    fs::create_dir(folder.path().join("state")).unwrap();
    let leaks = [
        ("stdout", "echo $CANARY"),
        ("stderr", "echo x$CANARY >&2"),
        ("its arguments", "sleep 2; : canary-planted-6a1f"),
        ("/state/", "echo $CANARY >state/journal"),
        ("a temporary file", "echo $CANARY >$TMPDIR/x"),
        ("nothing", "echo canary-planted-6a1; true"),
    ];
    for (place, script) in leaks {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", script, BINARY, "--config", "certd.toml"]).current_dir(folder.path());
        shell.env("CANARY", planted);
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Certd::start(&mut shell).wait();
        }));
        let told = told.err().map(|told| *told.downcast::<String>().unwrap());
        match (place, told) {
            ("nothing", told) => assert_eq!(told, None),
            (place, Some(told)) => {
                assert!(told.contains("Planted in ") && !told.contains(planted), "{told}");
                assert!(told.contains(place) || place == "a temporary file", "{place}: {told}");
            }
            (place, None) => panic!("{place} was not searched"),
        }
        let _ = fs::remove_file(folder.path().join("state/journal"));
    }
}

#[test]
fn a_key_is_known_in_each_of_its_forms() {
    let forms = |key: &rcgen::KeyPair| {
        let (pem, der) = (key.serialize_pem(), key.serialize_der());
        let hex = der.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &der);
        [pem.replace('\n', "\\n").into_bytes(), der, hex.into_bytes(), base64.into_bytes()]
    };
    let algorithms = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
    for algorithm in algorithms {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let public = pem::encode(&pem::Pem::new("PUBLIC KEY", rcgen::PublicKeyData::subject_public_key_info(&key)));
        assert_eq!(secrets::found(forms(&key).iter().map(|form| ("here", &form[..]))), BTreeSet::new());
        secrets::told_keys(Kind::Planted, &key.serialize_pem());
        for form in forms(&key) {
            assert_eq!(secrets::found([("here", &form[..])]), BTreeSet::from(["Planted in here".to_string()]));
        }
        assert_eq!(secrets::found([("here", public.as_bytes())]), BTreeSet::new());
    }
}
