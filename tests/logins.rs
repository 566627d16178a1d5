//! The ways into a real Vault: certd fetches a token of its own, keeps it alive, replaces it and gives it back.

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certd::domain::inventory::ObstacleKind;
use certd::domain::time::Timestamp;
use certd::pki::bundle::Bundle;
use certd::pki::key;
use certd::vault::tls_files::TlsFiles;
use certd::vault::{ClientCertificate, KvRead, LOGINS_APART, Login, Settings, TokenFrom, Vault, VaultError, Way};
use serde_json::{Value, json};
use support::certd::{Certd, certd, output};
use support::jwt::Provider;
use support::secrets::{self, Kind};
use support::server::free_port;
use support::vault::server;
use tempfile::TempDir;

/// A mount of secrets, and one of logins whose tokens may read them.
struct Hall {
    admin: support::vault::Vault,
    kv: String,
    auth: String,
    policy: String,
    files: TempDir,
}

impl Hall {
    async fn new(kind: &str) -> Self {
        let admin = server().await;
        let kv = admin.kv("secret").await;
        admin.put(&kv, "web", json!({ "a": "b" })).await;
        let (auth, policy) = (format!("{kind}-{kv}"), format!("reads-{kv}"));
        let reads = format!("path \"{kv}/data/web\" {{ capabilities = [\"read\"] }}");
        admin.admin("PUT", &format!("sys/policies/acl/{policy}"), json!({ "policy": reads })).await;
        admin.admin("POST", &format!("sys/auth/{auth}"), json!({ "type": kind })).await;
        Self { admin, kv, auth, policy, files: tempfile::tempdir().unwrap() }
    }

    /// With a role of this much life, and its role-id in a file.
    async fn approle(ttl: &str, max_ttl: &str) -> Self {
        let hall = Self::new("approle").await;
        let role = json!({ "token_policies": [hall.policy], "token_ttl": ttl, "token_max_ttl": max_ttl });
        hall.configure("role/certd", role).await;
        let role_id = hall.read("role/certd/role-id").await;
        hall.file("role-id", role_id["data"]["role_id"].as_str().unwrap());
        hall
    }

    async fn configure(&self, path: &str, body: Value) -> Value {
        self.admin.admin("POST", &format!("auth/{}/{path}", self.auth), body).await
    }

    async fn read(&self, path: &str) -> Value {
        self.admin.admin("GET", &format!("auth/{}/{path}", self.auth), Value::Null).await
    }

    /// Puts a new secret-id into its file.
    async fn secret_id(&self, asked: Value) -> String {
        let made = self.configure("role/certd/secret-id", asked).await;
        let secret_id = made["data"]["secret_id"].as_str().unwrap().to_string();
        self.file("secret-id", secrets::told(Kind::SecretId, &secret_id));
        secret_id
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        path
    }

    fn by_secret_id(&self, is_wrapped: bool) -> Way {
        let path = |name| self.files.path().join(name);
        Way::AppRole { role_id_file: path("role-id"), secret_id_file: path("secret-id"), is_wrapped }
    }

    fn vault(&self, way: Way, apart: Duration) -> Arc<Vault> {
        let settings = Settings {
            name: "main".into(),
            addresses: vec![self.admin.address.parse().unwrap()],
            server_name: None,
            roots: None,
            namespace: None,
            token: TokenFrom::Login(Login { way, mount: self.auth.clone(), apart }),
            deadline: Duration::from_secs(10),
        };
        Arc::new(Vault::new(settings).unwrap())
    }

    async fn look(&self, vault: &Vault) -> Result<(), VaultError> {
        match vault.kv_read(&format!("{}/web", self.kv)).await? {
            KvRead::Present { data, .. } => {
                assert_eq!(data["a"].get(), "\"b\"");
                Ok(())
            }
            KvRead::Absent { .. } => panic!("it is there"),
        }
    }

    /// Tokens that were given out here and still live.
    async fn alive(&self) -> usize {
        let path = format!("sys/leases/lookup/auth/{}/login", self.auth);
        let (_, answer) = self.admin.call(&self.admin.root_token, "LIST", &path, Value::Null).await;
        answer["data"]["keys"].as_array().map_or(0, Vec::len)
    }

    async fn end_all_tokens(&self) {
        self.admin.admin("PUT", &format!("sys/leases/revoke-prefix/auth/{}/login", self.auth), Value::Null).await;
    }
}

fn count(vault: &Vault, operation: &str, status: u16) -> u64 {
    let requests = vault.status().requests;
    requests.into_iter().find(|(name, code, _)| (*name, *code) == (operation, status)).map_or(0, |(_, _, n)| n)
}

/// The error that a login ended with.
fn refusal(error: &VaultError) -> String {
    match error {
        VaultError::Login { source, .. } => source.to_string(),
        other => panic!("no login failed: {other:?}"),
    }
}

#[tokio::test]
async fn an_approle_logs_in_when_a_token_is_first_needed_and_once_for_all_who_wait() {
    let hall = Hall::approle("1h", "2h").await;
    hall.secret_id(json!({})).await;
    let vault = hall.vault(hall.by_secret_id(false), LOGINS_APART);
    assert_eq!((vault.status().requests, hall.alive().await), (Vec::new(), 0));
    let looks = futures_util::future::join_all((0..16).map(|_| hall.look(&vault))).await;
    assert!(looks.iter().all(Result::is_ok), "{looks:?}");
    assert_eq!((count(&vault, "login", 200), hall.alive().await), (1, 1));
}

#[tokio::test]
async fn a_wrong_secret_id_is_told_and_not_shown_and_tried_once_a_minute() {
    let hall = Hall::approle("1h", "2h").await;
    let vault = hall.vault(hall.by_secret_id(false), LOGINS_APART);
    hall.file("secret-id", "no-such-secret");
    let error = hall.look(&vault).await.unwrap_err();
    assert!(refusal(&error).contains("invalid"), "{error:?}");
    let obstacle = error.obstacle("read it");
    assert_eq!(obstacle.obstacle, ObstacleKind::Denied);
    let expected = format!("could not read it: could not log in to Vault at auth/{} by approle", hall.auth);
    assert!(obstacle.message.starts_with(&expected) && obstacle.message.contains("invalid"), "{}", obstacle.message);
    hall.secret_id(json!({})).await;
    let again = hall.look(&vault).await.unwrap_err();
    assert_eq!(refusal(&again), refusal(&error));
    assert_eq!(count(&vault, "login", 400), 1);
    for text in [format!("{error:?}"), obstacle.message, format!("{vault:?}")] {
        assert!(!text.contains("no-such-secret"), "{text}");
    }
}

#[tokio::test]
async fn a_secret_id_that_is_used_up_is_told_and_a_new_one_in_its_file_is_taken() {
    let hall = Hall::approle("1h", "2h").await;
    hall.secret_id(json!({ "num_uses": 1 })).await;
    let vault = hall.vault(hall.by_secret_id(false), Duration::ZERO);
    hall.look(&vault).await.unwrap();
    hall.end_all_tokens().await;
    hall.look(&vault).await.unwrap_err();
    let error = hall.look(&vault).await.unwrap_err();
    assert!(refusal(&error).contains("invalid"), "{error:?}");
    hall.secret_id(json!({ "num_uses": 1 })).await;
    hall.look(&vault).await.unwrap();
}

async fn wrapped(hall: &Hall) -> String {
    hall.admin.wrapped(&format!("auth/{}/role/certd/secret-id", hall.auth)).await
}

#[tokio::test]
async fn a_wrapped_secret_id_is_unwrapped_once_and_kept_for_the_next_login() {
    let hall = Hall::approle("1h", "2h").await;
    hall.file("secret-id", &wrapped(&hall).await);
    let vault = hall.vault(hall.by_secret_id(true), Duration::ZERO);
    hall.look(&vault).await.unwrap();
    hall.end_all_tokens().await;
    hall.look(&vault).await.unwrap();
    assert_eq!((count(&vault, "login", 200), count(&vault, "unwrap", 200)), (2, 1));
}

#[tokio::test]
async fn a_secret_id_that_somebody_else_unwrapped_is_an_alarm() {
    let hall = Hall::approle("1h", "2h").await;
    let token = wrapped(&hall).await;
    let path = hall.file("secret-id", &token);
    assert_eq!(hall.admin.call(&token, "POST", "sys/wrapping/unwrap", Value::Null).await.0, 200);
    let vault = hall.vault(hall.by_secret_id(true), Duration::ZERO);
    let error = hall.look(&vault).await.unwrap_err();
    let expected = format!(
        "the wrapped secret-id has ended or somebody else unwrapped it: find out who, and put a new one into {}",
        path.display()
    );
    assert_eq!(refusal(&error), expected);
    assert!(!format!("{error:?}").contains(&token), "{error:?}");
}

#[tokio::test]
async fn a_user_logs_in_by_a_password_from_a_file() {
    let hall = Hall::new("userpass").await;
    hall.configure("users/certd", json!({ "password": "pass word", "token_policies": [hall.policy] })).await;
    let password_file = hall.file("password", "pass word");
    let vault = hall.vault(Way::Userpass { username: "certd".into(), password_file }, LOGINS_APART);
    hall.look(&vault).await.unwrap();
    let password_file = hall.file("password", "wr0ng");
    let error = hall
        .look(&hall.vault(Way::Userpass { username: "certd".into(), password_file }, LOGINS_APART))
        .await
        .unwrap_err();
    assert!(refusal(&error).contains("invalid username or password"), "{error:?}");
    let missing = Way::Userpass { username: "certd".into(), password_file: hall.files.path().join("none") };
    let error = hall.look(&hall.vault(missing, LOGINS_APART)).await.unwrap_err();
    assert!(refusal(&error).starts_with("could not read what certd logs in to Vault with: "), "{error:?}");
}

#[tokio::test]
async fn a_jwt_of_a_trusted_key_is_a_way_in_with_a_role_or_the_default_one() {
    let hall = Hall::new("jwt").await;
    let provider = Provider::new();
    let config = json!({ "jwt_validation_pubkeys": [provider.public()], "default_role": "certd" });
    hall.configure("config", config).await;
    let role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"], "token_policies": [hall.policy],
    });
    hall.configure("role/certd", role).await;
    let jwt_file = hall.file("jwt", &provider.token("vault"));
    for role in [Some("certd".to_string()), None] {
        let vault = hall.vault(Way::Jwt { role, jwt_file: jwt_file.clone() }, LOGINS_APART);
        hall.look(&vault).await.unwrap();
    }
    for token in [Provider::new().token("vault"), provider.token("another")] {
        let jwt_file = hall.file("jwt", &token);
        let vault = hall.vault(Way::Jwt { role: None, jwt_file }, LOGINS_APART);
        let error = hall.look(&vault).await.unwrap_err();
        assert!(matches!(error, VaultError::Login { .. }), "{error:?}");
        assert!(!format!("{error:?}").contains(&token), "{error:?}");
    }
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let hall = Hall::approle("4s", "1h").await;
    hall.secret_id(json!({})).await;
    let vault = hall.vault(hall.by_secret_id(false), LOGINS_APART);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(5500) {
        hall.look(&vault).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let renewals = count(&vault, "renew", 200);
    assert_eq!((count(&vault, "login", 200), hall.alive().await), (1, 1));
    assert!((1..=3).contains(&renewals), "{renewals}");
}

#[tokio::test]
async fn a_token_that_nothing_uses_is_renewed_as_well() {
    let hall = Hall::approle("4s", "1h").await;
    hall.secret_id(json!({})).await;
    let vault = hall.vault(hall.by_secret_id(false), LOGINS_APART);
    hall.look(&vault).await.unwrap();
    let tended = tokio::time::timeout(Duration::from_millis(5500), vault.tend()).await;
    assert!(tended.is_err(), "tending has no end");
    hall.look(&vault).await.unwrap();
    assert_eq!(count(&vault, "login", 200), 1);
}

#[tokio::test]
async fn a_token_at_its_last_end_is_replaced_and_no_request_fails() {
    let hall = Hall::approle("2s", "3s").await;
    hall.secret_id(json!({})).await;
    let vault = hall.vault(hall.by_secret_id(false), Duration::ZERO);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        hall.look(&vault).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let logins = count(&vault, "login", 200);
    assert!((2..=6).contains(&logins), "{logins}");
}

#[tokio::test]
async fn a_token_that_somebody_revoked_is_replaced_and_the_request_is_made_again() {
    let hall = Hall::approle("1h", "2h").await;
    hall.secret_id(json!({})).await;
    let vault = hall.vault(hall.by_secret_id(false), Duration::ZERO);
    hall.look(&vault).await.unwrap();
    hall.end_all_tokens().await;
    hall.look(&vault).await.unwrap();
    assert_eq!((count(&vault, "login", 200), count(&vault, "read", 403)), (2, 1));
}

#[tokio::test]
async fn a_denial_by_policy_is_no_reason_to_log_in_again() {
    let hall = Hall::approle("1h", "2h").await;
    hall.secret_id(json!({})).await;
    let vault = hall.vault(hall.by_secret_id(false), Duration::from_secs(3));
    hall.look(&vault).await.unwrap();
    tokio::time::sleep(Duration::from_millis(3100)).await;
    for _ in 0..5 {
        let error = vault.kv_read(&format!("{}/other", hall.kv)).await.unwrap_err();
        assert!(matches!(error, VaultError::Denied { .. }), "{error}");
    }
    assert_eq!((count(&vault, "login", 200), count(&vault, "lookup", 200)), (1, 1));
}

#[tokio::test]
async fn there_is_no_more_than_one_login_a_minute_however_soon_a_token_dies() {
    let hall = Hall::approle("1h", "2h").await;
    hall.secret_id(json!({})).await;
    let vault = hall.vault(hall.by_secret_id(false), LOGINS_APART);
    hall.look(&vault).await.unwrap();
    hall.end_all_tokens().await;
    for _ in 0..5 {
        let error = hall.look(&vault).await.unwrap_err();
        assert!(matches!(error, VaultError::Denied { .. }), "{error}");
    }
    assert_eq!((count(&vault, "login", 200), count(&vault, "lookup", 403)), (1, 0));
}

#[tokio::test]
async fn a_token_that_ends_within_a_minute_of_its_login_is_told_as_such() {
    let hall = Hall::approle("3s", "3s").await;
    hall.secret_id(json!({})).await;
    let vault = hall.vault(hall.by_secret_id(false), LOGINS_APART);
    hall.look(&vault).await.unwrap();
    tokio::time::sleep(Duration::from_millis(3100)).await;
    let error = hall.look(&vault).await.unwrap_err();
    assert!(matches!(error, VaultError::ShortLived { apart: 60, .. }), "{error:?}");
    assert_eq!(count(&vault, "login", 200), 1);
}

#[tokio::test]
async fn what_certd_logged_in_for_is_revoked_at_the_end_and_nothing_else() {
    let hall = Hall::approle("1h", "2h").await;
    hall.secret_id(json!({})).await;
    let vault = hall.vault(hall.by_secret_id(false), LOGINS_APART);
    vault.close().await.unwrap();
    assert_eq!(vault.status().requests, []);
    hall.look(&vault).await.unwrap();
    assert_eq!(hall.alive().await, 1);
    vault.close().await.unwrap();
    assert_eq!(hall.alive().await, 0);

    let token = hall.admin.token(&format!("path \"{}/data/web\" {{ capabilities = [\"read\"] }}", hall.kv)).await;
    let settings = Settings {
        name: "main".into(),
        addresses: vec![hall.admin.address.parse().unwrap()],
        server_name: None,
        roots: None,
        namespace: None,
        token: TokenFrom::File(hall.file("token", &token)),
        deadline: Duration::from_secs(10),
    };
    let lent = Vault::new(settings).unwrap();
    hall.look(&lent).await.unwrap();
    lent.close().await.unwrap();
    hall.look(&lent).await.unwrap();
}

#[tokio::test]
async fn certd_leaves_no_token_behind_that_it_logged_in_for() {
    let hall = Hall::approle("5m", "10m").await;
    hall.secret_id(json!({})).await;
    let config = format!(
        "state_dir = \"state\"\nlisten = {{ address = \"none\" }}\n\
         [vault.main]\naddress = \"{}\"\n\
         auth.approle = {{ role_id_file = \"role-id\", secret_id_file = \"secret-id\", mount = \"{}\" }}\n\
         [source.one.vault_kv]\nvault = \"main\"\npaths = [\"{}/web\"]\n",
        hall.admin.address, hall.auth, hall.kv
    );
    let file = hall.file("certd.toml", &config);
    let certd = |command: &str| {
        let mut certd = certd();
        certd.arg(command).arg("--config").arg(&file);
        certd
    };
    let checked = output(&mut certd("check"), b"");
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(told.contains("it holds other fields"), "it was let in: {told}");
    assert_eq!(hall.alive().await, 0, "after a check");

    let mut daemon = Certd::start(&mut certd("run"));
    let patience = Instant::now() + Duration::from_secs(20);
    while hall.alive().await == 0 && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let while_it_ran = hall.alive().await;
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    assert_eq!((while_it_ran, hall.alive().await), (1, 0));
}

const ROOT_TOKEN: &str = "root-with-tls";

/// A server with TLS, and a CA that its logins by certificate trust.
struct Secured {
    shell: std::process::Child,
    address: String,
    files: TempDir,
}

impl Drop for Secured {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().unwrap();
    }
}

impl Secured {
    /// Always a process, since a container keeps its certificates to itself.
    async fn start() -> Self {
        let bao = support::server::command();
        let files = tempfile::tempdir().unwrap();
        let port = free_port();
        let shell = std::process::Command::new("/bin/sh")
            .args(["-c", r#""$0" "$@" >/dev/null 2>&1 </dev/null & cat; kill -9 $!; wait $!"#])
            .arg(bao)
            .args(["server", "-dev", "-dev-tls", "-dev-no-store-token", "-dev-root-token-id=root-with-tls"])
            .arg(format!("-dev-tls-cert-dir={}", files.path().display()))
            .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let secured = Self { shell, address: format!("https://127.0.0.1:{port}"), files };
        let deadline = Instant::now() + Duration::from_secs(30);
        while secured.ca().is_empty() || secured.root().token_lookup(Timestamp(0)).await.is_err() {
            assert!(Instant::now() < deadline, "no server with TLS");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        secured
    }

    fn ca(&self) -> Vec<Vec<u8>> {
        let names = ["bao-ca.pem", "vault-ca.pem"];
        let text = names.iter().find_map(|name| std::fs::read(self.files.path().join(name)).ok()).unwrap_or_default();
        Bundle::parse(&text).map(|bundle| bundle.certificates).unwrap_or_default()
    }

    fn settings(&self, token: TokenFrom) -> Settings {
        Settings {
            name: "main".into(),
            addresses: vec![self.address.parse().unwrap()],
            server_name: None,
            roots: Some(self.ca()),
            namespace: None,
            token,
            deadline: Duration::from_secs(10),
        }
    }

    fn root(&self) -> Vault {
        Vault::new(self.settings(TokenFrom::Given(zeroize::Zeroizing::new(ROOT_TOKEN.to_string())))).unwrap()
    }

    async fn admin(&self, path: &str, body: Value) {
        let roots = self.ca().iter().map(|der| reqwest::Certificate::from_der(der).unwrap()).collect::<Vec<_>>();
        let http = reqwest::Client::builder().tls_certs_only(roots).no_proxy().build().unwrap();
        let url = format!("{}/v1/{path}", self.address);
        let answer = http.post(url).header("X-Vault-Token", ROOT_TOKEN).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    }
}

#[tokio::test]
async fn a_client_certificate_is_a_way_in_and_no_certificate_is_none() {
    let secured = Secured::start().await;
    let made = rcgen::generate_simple_self_signed(["certd".to_string()]).unwrap();
    let (chain, key) = (vec![made.cert.der().to_vec()], key::from_der(&made.signing_key.serialize_der()).unwrap());
    secured.admin("sys/auth/cert", json!({ "type": "cert" })).await;
    let trusted = json!({ "certificate": made.cert.pem(), "token_policies": ["default"], "token_ttl": "1h" });
    secured.admin("auth/cert/certs/certd", trusted).await;
    let vault = |role: Option<&str>, certificate: Option<&ClientCertificate>| {
        let way = Way::Certificate { role: role.map(str::to_string) };
        let login = Login { way, mount: "cert".to_string(), apart: LOGINS_APART };
        Vault::with_client_certificate(secured.settings(TokenFrom::Login(login)), certificate).unwrap()
    };
    let certificate = ClientCertificate { chain, key };
    for role in [Some("certd"), None] {
        let vault = vault(role, Some(&certificate));
        let end = vault.token_lookup(Timestamp(0)).await.unwrap().unwrap();
        assert!((3590..=3600).contains(&end.0), "{end:?}");
        vault.close().await.unwrap();
    }
    for vault in [vault(Some("another"), Some(&certificate)), vault(None, None)] {
        let error = vault.token_lookup(Timestamp(0)).await.unwrap_err();
        assert!(matches!(error, VaultError::Login { method: "cert", .. }), "{error:?}");
    }
}

/// The certificate that opens the Vault is renewed on disk, and the old one is taken no more.
#[tokio::test]
async fn a_client_certificate_that_was_renewed_on_disk_is_shown_from_the_next_login_on() {
    let secured = Secured::start().await;
    let file = |name: &str| secured.files.path().join(name);
    let make = || {
        let made = rcgen::generate_simple_self_signed(["certd".to_string()]).unwrap();
        std::fs::write(file("client.pem"), made.cert.pem()).unwrap();
        std::fs::write(file("client.key"), made.signing_key.serialize_pem()).unwrap();
        json!({ "certificate": made.cert.pem(), "token_policies": ["default"], "token_ttl": "1h" })
    };
    secured.admin("sys/auth/cert", json!({ "type": "cert" })).await;
    secured.admin("auth/cert/certs/certd", make()).await;
    let ca_file = ["bao-ca.pem", "vault-ca.pem"].map(file).into_iter().find(|path| path.exists());
    let files = TlsFiles { ca_file, client: Some((file("client.pem"), file("client.key"))) };
    let way = Way::Certificate { role: Some("certd".to_string()) };
    let login = Login { way, mount: "cert".to_string(), apart: Duration::ZERO };
    let first = files.read().unwrap().certificate;
    let vault = Vault::with_client_certificate(secured.settings(TokenFrom::Login(login)), first.as_ref()).unwrap();
    let vault = vault.with_tls_files(files);
    vault.token_lookup(Timestamp(0)).await.unwrap();

    secured.admin("auth/cert/certs/certd", make()).await;
    secured.admin("sys/leases/revoke-prefix/auth/cert", json!({})).await;
    let end = vault.token_lookup(Timestamp(0)).await.unwrap().unwrap();
    assert!((3590..=3600).contains(&end.0), "{end:?}");

    // Half of a pair is never used: the certificate of before stays until both are there.
    std::fs::write(file("client.key"), "no key").unwrap();
    secured.admin("sys/leases/revoke-prefix/auth/cert", json!({})).await;
    vault.token_lookup(Timestamp(0)).await.unwrap();
}

/// The one way in whose secret is a key.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_client_certificate_is_shown_nowhere_though_it_is_refused_or_unreadable() {
    let secured = Secured::start().await;
    secrets::told(Kind::RootToken, ROOT_TOKEN);
    let made = rcgen::generate_simple_self_signed(["certd".to_string()]).unwrap();
    let key = made.signing_key.serialize_pem();
    secrets::told_keys(Kind::TlsClientKey, &key);
    secured.admin("sys/auth/cert", json!({ "type": "cert" })).await;
    let file = |name: &str, text: String| std::fs::write(secured.files.path().join(name), text).unwrap();
    file("client.pem", made.cert.pem());
    file("client.key", key.clone());
    let roots: Vec<String> =
        secured.ca().iter().map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", &der[..]))).collect();
    file("roots.pem", roots.concat());
    let config = format!(
        "state_dir = \"state\"\nlisten = {{ address = \"none\" }}\n[vault.main]\naddress = \"{}\"\nca_file = \"roots.pem\"\n\
         client_certificate_file = \"client.pem\"\nclient_key_file = \"client.key\"\nauth.cert = {{ role = \"certd\" }}\n\
         [source.one.vault_kv]\nvault = \"main\"\npaths = [\"secret/**\"]\n",
        secured.address
    );
    file("certd.toml", config);
    let checked = || {
        let output = output(certd().args(["check", "--config"]).arg(secured.files.path().join("certd.toml")), b"");
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let refused = checked();
    assert!(refused.contains("could not log in to Vault at auth/cert by cert"), "{refused}");
    let reads = "path \"secret/*\" { capabilities = [\"read\", \"list\"] }";
    secured.admin("sys/policies/acl/reads", json!({ "policy": reads })).await;
    let trusted = json!({ "certificate": made.cert.pem(), "token_policies": ["reads"], "token_ttl": "1h" });
    secured.admin("auth/cert/certs/certd", trusted).await;
    let let_in = checked();
    assert!(!let_in.contains("could not"), "{let_in}");
    // Half of it is no key any more.
    file("client.key", key[..key.len() / 2].to_string() + "\n-----END PRIVATE KEY-----\n");
    let broken = checked();
    assert!(broken.contains("client.key"), "{broken}");
}
