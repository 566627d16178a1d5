//! Pending keys in a Vault that others may write to: whoever can write there is not whoever may have a certificate.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use certd::domain::key::KeySpec;
use certd::pki;
use certd::pki::bundle::Bundle;
use certd::staging::seal::{Bound, SealingKey};
use serde_json::{Value, json};

use crate::gate::Gate;
use crate::home::{Daemon, Home, config_with_head, declared, rows, short_lived};
use crate::instances::SHARED_KEY;
use crate::support::secrets::{self, Kind};

/// Short enough to wait for, and past it.
const SHORT: &str = "deadline = \"2s\"\nlease_term = \"6s\"";
const PAST_IT: Duration = Duration::from_secs(8);

/// A token of the policies that were printed for certd before it had groups.
const WIDE: &str = r#"path "KV/*" { capabilities = ["create", "read", "update", "patch", "list"] }
    path "PKI/*" { capabilities = ["create", "read", "update", "list"] }"#;

async fn give(home: &Home, policy: &str) -> String {
    let token = home.house.admin.token(&plain(home, policy)).await;
    home.give_token(&token);
    token
}

fn plain(home: &Home, text: &str) -> String {
    text.replace("KV", &home.house.kv).replace("PKI", &home.house.ca.mount)
}

/// The one pending key that was ever kept.
async fn place(home: &Home) -> String {
    let [path] = home.house.admin.paths_below(&home.house.kv, "certd/pending").await.try_into().unwrap();
    path
}

async fn current(home: &Home, path: &str) -> (Value, u64) {
    home.house.admin.get(&home.house.kv, path).await
}

/// What certd sealed there, as it is opened with its key.
async fn opened(home: &Home, sealing: &SealingKey, path: &str) -> Value {
    let (fields, version) = current(home, path).await;
    let path = format!("{}/{path}", home.house.kv);
    let bound = Bound { group: "default", path: &path, version };
    let plain = sealing.open(bound, fields["sealed"].as_str().unwrap()).expect("certd sealed it");
    let plain: Value = serde_json::from_slice(&plain).unwrap();
    secrets::told_keys(Kind::KeyInFlight, plain["private_key"].as_str().unwrap());
    plain
}

fn public(pem: &str) -> certd::domain::cert::KeyDigest {
    Bundle::parse(pem.as_bytes()).unwrap().keys[0].public
}

async fn stored_key(home: &Home, path: &str) -> certd::domain::cert::KeyDigest {
    let fields = home.fields(path).await;
    public(&serde_json::from_str::<String>(fields["private_key"].get()).unwrap())
}

/// A record of an older certd, which sealed nothing, with this key.
fn unsealed(instance: &str, renewal: &Value, key: &str) -> Value {
    json!({
        "what_this_is": "a renewal of certd that is under way; it is destroyed at its end", "certificate": "web",
        "instance": instance, "first_version": 1, "renewal": renewal, "private_key": key,
    })
}

fn renewal() -> Value {
    json!({ "reason": "forced", "asked": "", "replaces": null, "key": null, "names": "", "stage": "begun" })
}

fn some_key() -> String {
    let key = pki::key::to_pem(&pki::key::generate(KeySpec::EcdsaP256).unwrap()).to_string();
    secrets::told_keys(Kind::KeyInFlight, &key);
    key
}

/// certd stands before it has the CA sign.
async fn standing_before(home: &Home, config: &str, step: &str) -> (Gate, Daemon) {
    let gate = Gate::before(&home.house.admin.address, &[&plain(home, step)]);
    home.configure_by(&gate.address, config);
    let daemon = home.start();
    gate.wait();
    (gate, daemon)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_the_policy_of_another_configuration_is_refused_on_a_pending_key() {
    let home = Home::new("").await;
    let (gate, prod) = standing_before(&home, &declared("web"), "POST /v1/PKI").await;
    let dev = declared("web").replace("KV/tls/web", "KV/dev/web");
    for (group, dev) in [
        ("default", config_with_head(&dev)),
        ("dev", config_with_head(&dev).replace("deadline", "staging_group = \"dev\"\ndeadline")),
    ] {
        home.write_config("dev.toml", &home.house.admin.address, &dev);
        let printed = home.certd_of("dev.toml", &["vault", "policy"]).await;
        let (kv, path) = (&home.house.kv, place(&home).await);
        let rule = format!(
            "path \"{kv}/data/certd/pending/{group}/dev/web/+\" {{\n  capabilities = [\"create\", \"read\", \"update\"]"
        );
        assert!(printed.out.contains(&rule), "{printed:?}");
        let (admin, token) = (&home.house.admin, home.house.admin.token(&printed.out).await);
        for (method, at, body) in [
            ("GET", format!("{kv}/data/{path}"), Value::Null),
            ("POST", format!("{kv}/data/{path}"), json!({ "data": { "a": "b" } })),
            ("PUT", format!("{kv}/destroy/{path}"), json!({ "versions": [1] })),
            ("DELETE", format!("{kv}/metadata/{path}"), Value::Null),
            ("LIST", format!("{kv}/metadata/certd/pending"), Value::Null),
        ] {
            assert_eq!(admin.call(&token, method, &at, body).await.0, 403, "{group}: {method} {at}");
        }
    }
    gate.open();
    prod.until("renewed, stored and read back");
    assert_eq!((home.signed().await, home.staged().await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_key_is_never_signed_and_keeps_certd_off_for_one_lease_at_most() {
    let home = Home::new("").await;
    let config = config_with_head(&short_lived("web")).replace("deadline = \"5s\"", SHORT);
    let (gate, daemon) = standing_before(&home, &config, "POST /v1/PKI").await;
    let path = place(&home).await;
    // Sealed by certd itself, and put back later: its version has passed.
    let (replayed, _) = current(&home, &path).await;
    gate.open();
    daemon.until("renewed, stored and read back");
    daemon.stop();
    home.configure(&config);

    let (planted, mut signed) = (some_key(), 1);
    for record in [unsealed("0123456789abcdef", &renewal(), &planted), replayed, json!({ "sealed": "AAAA" })] {
        let before = stored_key(&home, "tls/web").await;
        home.house.admin.put(&home.house.kv, &path, record).await;
        let told = home.certd(&["renew", "web"]).await;
        assert!(told.err.contains("it is not used, and renewed with a fresh key after 6 s"), "{told:?}");
        assert_eq!((home.signed().await, stored_key(&home, "tls/web").await), (signed, before), "{told:?}");
        tokio::time::sleep(PAST_IT).await;
        let renewed = home.certd(&["renew", "web"]).await;
        assert_eq!(renewed.code, 0, "{renewed:?}");
        signed += 1;
        let now = stored_key(&home, "tls/web").await;
        assert_eq!((home.signed().await, home.staged().await), (signed, 0), "{renewed:?}");
        assert!(now != before && now != public(&planted));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_group_shares_its_key_a_record_that_somebody_wrote_over_is_written_again() {
    let home = Home::new("").await;
    home.write_private("staging-key", SHARED_KEY);
    let config = config_with_head(&declared("web")).replace("deadline", "staging_key_file = \"staging-key\"\ndeadline");
    let (gate, daemon) = standing_before(&home, &config, "POST /v1/PKI").await;
    let (path, planted) = (place(&home).await, some_key());
    home.house.admin.put(&home.house.kv, &path, unsealed("0123456789abcdef", &renewal(), &planted)).await;
    gate.open();
    daemon.until("wrote over the pending key");
    daemon.until("renewed, stored and read back");
    assert_eq!((home.version("tls/web").await, home.signed().await, home.staged().await), (1, 1, 0));
    assert_ne!(stored_key(&home, "tls/web").await, public(&planted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_key_is_sealed_and_bound_to_its_place() {
    let home = Home::new("").await;
    let (gate, daemon) = standing_before(&home, &declared("web"), "POST /v1/PKI").await;
    let path = place(&home).await;
    assert!(path.starts_with("certd/pending/default/tls/web/"), "{path}");
    let (fields, version) = current(&home, &path).await;
    let names: Vec<&String> = fields.as_object().unwrap().keys().collect();
    assert_eq!(names, ["certificate", "format", "instance", "sealed", "what_this_is"]);
    let bytes = BASE64.decode(fields["sealed"].as_str().unwrap()).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("PRIVATE KEY") && version == 2);
    let sealing = SealingKey::of_instance(&home.path("state")).unwrap();
    let plain = opened(&home, &sealing, &path).await;
    gate.open();
    daemon.until("renewed, stored and read back");
    assert_eq!(stored_key(&home, "tls/web").await, public(plain["private_key"].as_str().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_name_the_vault_otherwise_have_the_ca_sign_once() {
    let home = Home::new("").await;
    home.write_private("staging-key", SHARED_KEY);
    let config = config_with_head(&declared("web"))
        .replace("deadline = \"5s\"", "deadline = \"10s\"\nlease_term = \"60s\"\nstaging_key_file = \"staging-key\"")
        .replace("interval = \"1h\"", "interval = \"1s\"");
    let (gate, first) = standing_before(&home, &config, "POST /v1/PKI").await;
    let other = config.replace("[vault.main]", "[vault.other]").replace("vault = \"main\"", "vault = \"other\"");
    // Written anew, since only the name of the first would be taken for a whole configuration.
    let text = plain(&home, &other).replace("ADDRESS", &home.house.admin.address).replace("\"state\"", "\"state-2\"");
    std::fs::write(home.path("second.toml"), text).unwrap();
    let second = Daemon::start(&home.path("second.toml"));
    let said = second.until("not renewed: another instance of certd");
    assert!(said.contains("is renewing it"), "{said}");
    gate.open();
    first.until("renewed, stored and read back");
    second.until("ok=1");
    assert_eq!((home.version("tls/web").await, home.signed().await, home.staged().await), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_no_ca_has_heard_of_is_taken_over_with_a_fresh_key() {
    let home = Home::new("").await;
    home.write_private("staging-key", SHARED_KEY);
    let config = config_with_head(&declared("web"))
        .replace("deadline = \"5s\"", &format!("{SHORT}\nstaging_key_file = \"staging-key\""))
        .replace("interval = \"1h\"", "interval = \"1s\"");
    let write = plain(&home, "POST /v1/KV/data/certd/pending/");
    let gate = Gate::before(&home.house.admin.address, &[&write, &write]);
    home.configure_by(&gate.address, &config);
    let first = home.start();
    gate.wait();
    first.signal("STOP");
    let sealing = SealingKey::of_group(&home.path("staging-key")).unwrap();
    let plain = opened(&home, &sealing, &place(&home).await).await;
    assert_eq!(plain["open"]["stage"], "begun");
    home.write_config("second.toml", &home.house.admin.address, &config.replace("\"state\"", "\"state-2\""));
    let second = Daemon::start(&home.path("second.toml"));
    second.until("took the renewal over from instance");
    second.until("renewed, stored and read back");
    assert_eq!((home.version("tls/web").await, home.signed().await, home.staged().await), (1, 1, 0));
    assert_ne!(stored_key(&home, "tls/web").await, public(plain["private_key"].as_str().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_without_the_sealing_key_of_another_waits_for_its_lease_and_begins_anew() {
    let home = Home::new("").await;
    let config = config_with_head(&declared("web"))
        .replace("deadline = \"5s\"", SHORT)
        .replace("interval = \"1h\"", "interval = \"1s\"");
    let (_gate, first) = standing_before(&home, &config, "POST /v1/PKI").await;
    first.signal("STOP");
    home.write_config("second.toml", &home.house.admin.address, &config.replace("\"state\"", "\"state-2\""));
    let second = Daemon::start(&home.path("second.toml"));
    second.until("may be renewing it, with another sealing key");
    assert_eq!(home.signed().await, 0);
    second.until("give all of them one staging_key_file");
    second.until("renewed, stored and read back");
    assert_eq!((home.version("tls/web").await, home.signed().await), (1, 1));
}

/// What a renewal that was killed in the middle leaves, once the configuration leads to its place no more.
#[tokio::test(flavor = "multi_thread")]
async fn the_pending_key_of_a_secret_that_was_moved_or_is_no_longer_named_is_destroyed() {
    for changed in [declared("web").replace("KV/tls/web", "KV/tls/moved"), String::new()] {
        let home = Home::new("").await;
        let (gate, daemon) = standing_before(&home, &declared("web"), "POST /v1/PKI").await;
        daemon.kill();
        gate.shut();
        assert!(home.staged().await > 0);
        home.configure(&changed);
        let daemon = home.run().await;
        assert!(daemon.log().iter().any(|line| line.contains("destroyed a pending key that no renewal needs")));
        assert_eq!((home.staged().await, home.version("tls/web").await), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_destroy_it_is_renewed_again_and_again_and_told_each_time() {
    let home = Home::new(&short_lived("web")).await;
    let policy = r#"path "KV/data/tls/*" { capabilities = ["create", "read", "update"] }
        path "KV/data/certd/pending/default/tls/*" { capabilities = ["create", "read", "update"] }
        path "PKI/certs" { capabilities = ["list"] }
        path "PKI/sign/*" { capabilities = ["update"] }
        path "sys/capabilities-self" { capabilities = ["update"] }"#;
    give(&home, policy).await;
    for version in 1..=3 {
        let ran = home.certd(&["renew", "web"]).await;
        assert_eq!((ran.code, home.version("tls/web").await), (0, version), "{ran:?}");
    }
    assert!(home.staged().await > 0);
    let (fields, _) = current(&home, &place(&home).await).await;
    assert_eq!(fields.get("private_key"), None);
    let daemon = home.run().await;
    assert!(daemon.log().iter().any(|line| line.contains("stays sealed at main:")), "{:?}", daemon.log());
    daemon.stop();
    let told = home.certd(&["vault", "doctor"]).await;
    assert!(told.out.contains("has its pending key destroyed at the end"), "{told:?}");
    let checked = home.check().await;
    assert_eq!(checked[0], ("tls/web".to_string(), "warning pending_key_left".to_string()), "{checked:?}");
    let explained = home.certd(&["explain", "web"]).await;
    let why = format!("give certd update on {}/destroy, as `certd vault policy` prints it", home.house.kv);
    assert!(explained.out.contains(&why), "{explained:?}");

    give(
        &home,
        &format!("{policy}\npath \"KV/destroy/certd/pending/default/tls/*\" {{ capabilities = [\"update\"] }}"),
    )
    .await;
    let daemon = home.run().await;
    assert!(daemon.log().iter().any(|line| line.contains("destroyed a pending key that no renewal needs")));
    assert_eq!(home.staged().await, 0);
    assert_eq!(home.check().await, rows(&[("tls/web", "ok")]));
}

/// As an older certd left it, killed before the CA had signed.
async fn left_by_an_older_certd(home: &Home, instance: impl FnOnce(&str) -> String) -> (String, String) {
    let (gate, daemon) = standing_before(home, &declared("web"), "POST /v1/PKI").await;
    daemon.kill();
    gate.shut();
    home.configure(&declared("web"));
    let path = place(home).await;
    let sealing = SealingKey::of_instance(&home.path("state")).unwrap();
    let plain = opened(home, &sealing, &path).await;
    home.house.admin.admin("DELETE", &format!("{}/metadata/{path}", home.house.kv), Value::Null).await;
    let key = plain["private_key"].as_str().unwrap().to_string();
    let digest = pki::sha256(home.location("tls/web").as_bytes());
    let name: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let record = unsealed(&instance(plain["instance"].as_str().unwrap()), &plain["open"], &key);
    let older = format!("certd/pending/{name}");
    home.house.admin.put(&home.house.kv, &older, record).await;
    give(home, WIDE).await;
    (key, older)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_key_that_this_instance_had_before_the_upgrade_is_taken_up_once() {
    let home = Home::new("").await;
    let (key, _) = left_by_an_older_certd(&home, str::to_string).await;
    // It is destroyed in the old place too, once this token may.
    give(&home, &format!("{WIDE}\npath \"KV/destroy/*\" {{ capabilities = [\"update\"] }}")).await;
    let daemon = home.run().await;
    let log = daemon.log();
    assert!(log.iter().any(|line| line.contains("moved the pending key of an older certd")), "{log:?}");
    assert_eq!(home.plan().await, rows(&[("web", "keep")]));
    assert_eq!(stored_key(&home, "tls/web").await, public(&key));
    assert_eq!((home.signed().await, home.staged().await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_an_older_certd_that_this_instance_did_not_write_is_told_and_not_used() {
    let home = Home::new("").await;
    let (key, older) = left_by_an_older_certd(&home, |_| "0123456789abcdef".to_string()).await;
    let daemon = home.run().await;
    let log = daemon.log();
    assert!(log.iter().any(|line| line.contains("a pending key of an older certd is not used")), "{log:?}");
    assert_eq!(home.plan().await, rows(&[("web", "keep")]));
    assert_ne!(stored_key(&home, "tls/web").await, public(&key));
    assert_eq!((current(&home, &older).await.1, home.signed().await), (1, 1));
    daemon.stop();
    home.give_token(&home.house.admin.root_token);
    let told = home.certd(&["vault", "doctor"]).await;
    assert!(told.out.contains("records of an older certd"), "{told:?}");
}

#[tokio::test]
async fn a_plus_in_a_path_opens_no_sibling() {
    let home = Home::new("").await;
    let mistaken = declared("web").replace("KV/tls/web", "KV/+/web");
    home.configure(&mistaken);
    let refused = home.certd(&["config", "check"]).await;
    assert!(refused.code == 3 && refused.err.contains("a segment + in a Vault path"), "{refused:?}");

    // Within a segment it is a sign like any other.
    home.configure(&declared("web").replace("KV/tls/web", "KV/tls/a+b"));
    let printed = home.certd(&["vault", "policy"]).await.out;
    let (admin, kv) = (&home.house.admin, &home.house.kv);
    let token = admin.token(&printed).await;
    for (path, expected) in [("a+b", 200), ("a-b", 403), ("axb", 403), ("ab", 403), ("a/b", 403)] {
        admin.put(kv, &format!("tls/{path}"), json!({ "a": "b" })).await;
        let read = admin.call(&token, "GET", &format!("{kv}/data/tls/{path}"), Value::Null).await.0;
        assert_eq!(read, expected, "{path}");
    }
}
