//! What is secret is in no log, metric, output, argument, environment, state or temporary file, even at the level `trace`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::home::Home;
use crate::leaves::Leaf;
use crate::support::fault_proxy::FaultProxy;

const CONFIG: &str = r#"
state_dir = "state"
[log]
level = "trace"
[turn]
interval = "1s"
[listen]
address = "127.0.0.1:0"
bearer_token_file = "scrape"
[vault.main]
address = "ADDRESS"
auth.approle = { mount = "ROLES", role_id_file = "role-id", secret_id_file = "secret-id" }
[vault.people]
address = "ADDRESS"
auth.userpass = { mount = "PEOPLE", username = "certd", password_file = "password" }
[vault.given]
address = "ADDRESS"
token_file = "token"
[source.people.vault_kv]
vault = "people"
paths = ["KV/tls/*"]
[source.given.vault_kv]
vault = "given"
paths = ["KV/tls/*"]
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

const FIELD: &str = "canary-field-91f3";
const NESTED: &str = "canary-nested-77ab";
const PASSWORD: &str = "canary-password-5c20";
const SCRAPE: &str = "canary-scrape-e6d4";

/// certd with its log in a file, so that every line is there to be searched.
struct Traced(Child);

impl Traced {
    fn start(home: &Home) -> Self {
        fs::create_dir(home.path("tmp")).unwrap();
        let log = File::create(home.path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_certd"));
        command.args(["run", "--config"]).arg(home.path("certd.toml")).env("TMPDIR", home.path("tmp"));
        Self(command.stdin(Stdio::null()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

async fn furnish(home: &Home) -> Value {
    let admin = &home.house.admin;
    let (roles, people) = (format!("roles-{}", home.house.kv), format!("people-{}", home.house.kv));
    let policy = format!("all-{}", home.house.kv);
    let all = "path \"*\" { capabilities = [\"create\", \"read\", \"update\", \"patch\", \"list\"] }";
    admin.admin("PUT", &format!("sys/policies/acl/{policy}"), json!({ "policy": all })).await;
    admin.admin("POST", &format!("sys/auth/{roles}"), json!({ "type": "approle" })).await;
    admin.admin("POST", &format!("auth/{roles}/role/certd"), json!({ "token_policies": [policy] })).await;
    let role_id = admin.admin("GET", &format!("auth/{roles}/role/certd/role-id"), Value::Null).await;
    let secret_id = admin.admin("POST", &format!("auth/{roles}/role/certd/secret-id"), json!({})).await;
    admin.admin("POST", &format!("sys/auth/{people}"), json!({ "type": "userpass" })).await;
    let user = json!({ "password": PASSWORD, "token_policies": [policy] });
    admin.admin("POST", &format!("auth/{people}/users/certd"), user).await;
    fs::write(home.path("role-id"), role_id["data"]["role_id"].as_str().unwrap()).unwrap();
    fs::write(home.path("secret-id"), secret_id["data"]["secret_id"].as_str().unwrap()).unwrap();
    fs::write(home.path("password"), PASSWORD).unwrap();
    fs::write(home.path("scrape"), SCRAPE).unwrap();
    home.give_token(&admin.token(all).await);
    let mut old = home.old.secret(Leaf::due("web.example.org"));
    old["note"] = json!(FIELD);
    old["deep"] = json!({ "password": NESTED });
    admin.put(&home.house.kv, "tls/web", old.clone()).await;
    old
}

/// The first lines between the marks hold the private half, and those after them the public one alone, which is in every
/// certificate.
fn lines_of(pem: &str) -> Vec<String> {
    pem.lines().filter(|line| line.len() > 40 && !line.starts_with("-----")).take(2).map(str::to_string).collect()
}

/// All that anybody could come to read, by where it is.
async fn readable(home: &Home, certd: &Traced) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![("log".to_string(), fs::read(home.path("log")).unwrap())];
    for name in ["cmdline", "environ"] {
        all.push((name.to_string(), fs::read(format!("/proc/{}/{name}", certd.0.id())).unwrap()));
    }
    files_below(&home.path("state"), &mut all);
    files_below(&home.path("tmp"), &mut all);
    let location = home.location("tls/web");
    let commands: [&[&str]; 8] = [
        &["check"],
        &["check", "--format", "json"],
        &["check", "--format", "prometheus"],
        &["plan", "--format", "json"],
        &["explain", "web"],
        &["journal", "--format", "json"],
        &["history", &location, "--format", "json"],
        &["diff", &format!("{location}@1..2")],
    ];
    for arguments in commands {
        let ran = home.certd(arguments).await;
        all.push((format!("certd {arguments:?}"), (ran.out + &ran.err).into_bytes()));
    }
    let log = String::from_utf8_lossy(&all[0].1).into_owned();
    let metrics = log.lines().find_map(|line| line.split("metrics: ").nth(1)).unwrap().to_string();
    let page = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let page = page.get(metrics).bearer_auth(SCRAPE).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("certd_certificate_not_after_timestamp_seconds"), "{page}");
    all.push(("metrics".to_string(), page.into_bytes()));
    all
}

fn files_below(folder: &Path, all: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, all);
        } else if path.extension().is_none_or(|it| it != "sock") {
            all.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

fn leaks(canaries: &[(&str, String)], readable: &[(String, Vec<u8>)]) -> Vec<String> {
    let holds = |bytes: &[u8], canary: &str| bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
    let found = canaries.iter().flat_map(|(kind, canary)| {
        let places = readable.iter().filter(move |(_, bytes)| holds(bytes, canary));
        places.map(move |(place, _)| format!("{kind} in {place}"))
    });
    found.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_where_anybody_could_read_it_even_at_trace() {
    let home = Home::new("").await;
    let old = furnish(&home).await;
    let proxy = FaultProxy::listening(&home.house.admin.address);
    let names = ["roles", "people"].map(|name| format!("{name}-{}", home.house.kv));
    home.configure_by(&proxy.address, &CONFIG.replace("ROLES", &names[0]).replace("PEOPLE", &names[1]));
    let certd = Traced::start(&home);
    let deadline = Instant::now() + Duration::from_secs(30);
    let turned = || fs::read_to_string(home.path("log")).unwrap().matches("turn completed").count();
    while turned() < 2 {
        assert!(Instant::now() < deadline, "{}", fs::read_to_string(home.path("log")).unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let new = home.house.admin.get(&home.house.kv, "tls/web").await.0;
    assert_ne!(new["certificate"], old["certificate"], "it was renewed");

    let read = |name: &str| fs::read_to_string(home.path(name)).unwrap();
    let mut canaries: Vec<(&str, String)> = vec![
        ("secret-id", read("secret-id")),
        ("password", PASSWORD.to_string()),
        ("bearer token", SCRAPE.to_string()),
        ("field", FIELD.to_string()),
        ("nested field", NESTED.to_string()),
        ("token of a file", read("token")),
        ("root token", home.house.admin.root_token.clone()),
    ];
    // The root token of a development server may be a word.
    canaries.retain(|(kind, canary)| *kind != "root token" || canary.len() > 12);
    canaries.extend(proxy.tokens().into_iter().map(|token| ("token", token)));
    let keys = [
        ("key that was replaced", old["private_key"].as_str().unwrap().to_string()),
        ("key that was made", new["private_key"].as_str().unwrap().to_string()),
        ("key on disk", read("disk.pem")[read("disk.pem").find("-----BEGIN PRIVATE").unwrap()..].to_string()),
        ("key of the CA", read("ca/ca.key")),
    ];
    for (kind, pem) in keys {
        let key = pem.split("-----END").next().unwrap();
        canaries.extend(lines_of(key).into_iter().map(|line| (kind, line)));
    }
    let kinds: std::collections::BTreeSet<&str> = canaries.iter().map(|(kind, _)| *kind).collect();
    assert!(kinds.len() >= 11 && proxy.tokens().len() >= 3, "{kinds:?}");

    let readable = readable(&home, &certd).await;
    assert_eq!(leaks(&canaries, &readable), [""; 0]);
    // The search itself finds what is there.
    let planted = ("planted".to_string(), format!("a line with {PASSWORD} in it").into_bytes());
    assert_eq!(leaks(&canaries, &[planted]), ["password in planted"]);
}
