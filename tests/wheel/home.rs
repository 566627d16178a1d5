//! The host that certd runs on: a configuration, a state directory, a token, and the binary itself.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use certd::vault::{Fields, KvRead};
use serde_json::Value;
use tempfile::TempDir;

use crate::house::House;
use crate::leaves::{Leaf, OldCa};
use crate::support::certd::{Certd, certd, output_meanwhile};
use crate::support::secrets::{self, Kind};

const WITHIN: Duration = Duration::from_secs(20);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// What every configuration here begins with. Turns are far apart: a story asks for each by `certd renew`.
const HEAD: &str = r#"
state_dir = "state"
[turn]
interval = "1h"
[listen]
address = "127.0.0.1:0"
[vault.main]
address = "ADDRESS"
token_file = "token"
deadline = "5s"
[issuer.internal.vault_pki]
vault = "main"
mount = "PKI"
role = "servers"
"#;

/// A rule over all of `KV/tls`.
pub const ADOPT: &str = r#"
[[adopt]]
name = "apps"
found.vault_kv = { vault = "main", paths = ["KV/tls/**"] }
names = ["*.example.org"]
roots = ["roots.pem"]
issuer = "internal"
"#;

pub struct Home {
    pub house: House,
    pub old: OldCa,
    directory: TempDir,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl Home {
    /// With a token that may read and write secrets below `tls/` and have the role sign: never `pki/issue`.
    pub async fn new(config: &str) -> Self {
        let home = Self { house: House::new().await, old: OldCa::new(), directory: tempfile::tempdir().unwrap() };
        home.give_token(&home.house.admin.token(&home.policy()).await);
        fs::write(home.path("roots.pem"), format!("{}{}", home.old.pem, home.house.ca.ca_pem)).unwrap();
        home.configure(config);
        home
    }

    /// What its token may, a line for each path.
    pub fn policy(&self) -> String {
        format!(
            r#"path "{kv}/data/tls/*" {{ capabilities = ["create", "read", "update"] }}
               path "{kv}/metadata/tls/*" {{ capabilities = ["list", "read", "patch"] }}
               path "{kv}/delete/tls/*" {{ capabilities = ["update"] }}
               path "{kv}/data/certd/pending/default/tls/*" {{ capabilities = ["create", "read", "update"] }}
               path "{kv}/destroy/certd/pending/default/tls/*" {{ capabilities = ["update"] }}
               path "{pki}/certs" {{ capabilities = ["list"] }}
               path "{pki}/certs/revoked" {{ capabilities = ["list"] }}
               path "{pki}/sign/*" {{ capabilities = ["create", "update"] }}"#,
            kv = self.house.kv,
            pki = self.house.ca.mount,
        )
    }

    /// Takes from its token what it may do at the paths that contain this.
    pub async fn take_rights(&self, path: &str) {
        let policy = self.policy();
        let left: Vec<&str> = policy.lines().filter(|line| !line.contains(path)).collect();
        assert!(left.len() < policy.lines().count(), "{path}");
        self.give_token(&self.house.admin.token(&left.join("\n")).await);
    }

    pub async fn give_rights_back(&self) {
        self.give_token(&self.house.admin.token(&self.policy()).await);
    }

    pub fn configure(&self, config: &str) {
        self.configure_by(&self.house.admin.address, config);
    }

    /// With another way to Vault.
    pub fn configure_by(&self, address: &str, config: &str) {
        self.write_config("certd.toml", address, config);
    }

    pub fn write_config(&self, file: &str, address: &str, config: &str) {
        let text = if config.contains("[vault.main]") { config.to_string() } else { config_with_head(config) };
        let text = text.replace("ADDRESS", address).replace("KV", &self.house.kv);
        fs::write(self.path(file), text.replace("PKI", &self.house.ca.mount)).unwrap();
    }

    pub fn give_token(&self, token: &str) {
        fs::write(self.path("token"), secrets::told(Kind::GivenToken, token)).unwrap();
    }

    /// As an operator keeps a secret.
    pub fn write_private(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// As certd names what it adopted.
    pub fn location(&self, path: &str) -> String {
        format!("vault:main:{}/{path}", self.house.kv)
    }

    pub async fn put(&self, path: &str, leaf: Leaf) -> u64 {
        self.house.admin.put(&self.house.kv, path, self.old.secret(leaf)).await
    }

    pub async fn delete(&self, path: &str) {
        self.house.admin.admin("DELETE", &format!("{}/data/{path}", self.house.kv), Value::Null).await;
    }

    /// The current version of a secret; of a deleted one, too. 0 where there never was one.
    pub async fn version(&self, path: &str) -> u64 {
        let (admin, path) = (&self.house.admin, format!("{}/metadata/{path}", self.house.kv));
        let (_, answer) = admin.call(&admin.root_token, "GET", &path, Value::Null).await;
        answer["data"]["current_version"].as_u64().unwrap_or(0)
    }

    /// Versions of keys in flight that can still be read.
    pub async fn staged(&self) -> usize {
        self.house.admin.staged(&self.house.kv).await
    }

    /// The fields of a secret as Vault holds them, byte for byte.
    pub async fn fields(&self, path: &str) -> Fields {
        match self.house.vault.kv_read(&format!("{}/{path}", self.house.kv)).await.unwrap() {
            KvRead::Present { data, .. } => {
                data.values().for_each(|field| secrets::told_fields(&serde_json::from_str(field.get()).unwrap()));
                data
            }
            KvRead::Absent { .. } => Fields::default(),
        }
    }

    /// Certificates that the CA has signed, its own aside.
    pub async fn signed(&self) -> usize {
        let list = format!("{}/certs", self.house.ca.mount);
        let answer = self.house.admin.admin("LIST", &list, Value::Null).await;
        answer["data"]["keys"].as_array().unwrap().len() - 1
    }

    pub async fn change_role(&self, change: Value) {
        let role = format!("{}/roles/{}", self.house.ca.mount, self.house.ca.role);
        let mut whole = self.house.admin.admin("GET", &role, Value::Null).await["data"].clone();
        whole.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        self.house.admin.admin("POST", &role, whole).await;
    }

    pub async fn certd(&self, arguments: &[&str]) -> Ran {
        self.certd_of("certd.toml", arguments).await
    }

    /// With another of the configurations that were written.
    pub async fn certd_of(&self, file: &str, arguments: &[&str]) -> Ran {
        let mut command = certd();
        command.args(arguments).arg("--config").arg(self.path(file));
        let output = tokio::time::timeout(WITHIN, output_meanwhile(command)).await.unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What `certd plan` says of each certificate: its name without the mount, and what is done or why not.
    pub async fn plan(&self) -> Vec<(String, String)> {
        let ran = self.certd(&["plan", "--format", "json"]).await;
        let mut lines: Vec<_> = ran.json()["decisions"].as_array().unwrap().iter().map(|d| self.decision(d)).collect();
        lines.sort();
        lines
    }

    fn decision(&self, decision: &Value) -> (String, String) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let name = text(&decision["certificate"]).replace(&self.location(""), "");
        let why = match text(&decision["action"]).as_str() {
            "renew" => format!("renew {}", text(&decision["reason"])),
            "hold" => format!("hold {}", text(&decision["held"]["because"])),
            "defer" => format!("defer {}", text(&decision["reason"]["deferral"])),
            other => other.to_string(),
        };
        (name, why)
    }

    /// What `certd check` says of each place: the state, and the problems or the obstacle.
    pub async fn check(&self) -> Vec<(String, String)> {
        let ran = self.certd(&["check", "--format", "json"]).await;
        let line = |c: &Value| {
            let problems = c["problems"].as_array().unwrap().iter().map(|p| p["problem"].as_str().unwrap());
            let words = [c["state"].as_str(), c["obstacle"]["obstacle"].as_str()];
            let words: Vec<&str> = words.into_iter().flatten().chain(problems).collect();
            (c["location"].as_str().unwrap().replace(&self.location(""), ""), words.join(" "))
        };
        ran.json()["certificates"].as_array().unwrap().iter().map(line).collect()
    }

    /// Starts `certd run`; its first turn may not be over yet.
    pub fn start(&self) -> Daemon {
        Daemon::start(&self.path("certd.toml"))
    }

    /// Starts `certd run` and waits for its first turn.
    pub async fn run(&self) -> Daemon {
        let daemon = self.start();
        daemon.until("turn completed");
        daemon
    }
}

pub fn config_with_head(config: &str) -> String {
    // Plain keys come before every table.
    let (keys, tables) = config.split_at(config.find('[').unwrap_or(config.len()));
    format!("{keys}{HEAD}{tables}")
}

/// `certd run`; killed when dropped.
pub struct Daemon {
    certd: Certd,
    /// How many lines of its log were looked at.
    read: Cell<usize>,
    pub metrics: String,
}

impl Daemon {
    pub fn start(config: &Path) -> Self {
        let certd = Certd::start(certd().arg("run").arg("--config").arg(config));
        let mut daemon = Self { certd, read: Cell::default(), metrics: String::new() };
        let line = daemon.until("metrics: ");
        daemon.metrics = line.split("metrics: ").nth(1).unwrap().to_string();
        daemon
    }

    pub fn log(&self) -> Vec<String> {
        self.certd.log().into_iter().map(|(_, line)| line).collect()
    }

    /// The line of the log that says so.
    pub fn until(&self, words: &str) -> String {
        let deadline = Instant::now() + WITHIN;
        loop {
            let said = self.log().split_off(self.read.get());
            if let Some(at) = said.iter().position(|line| line.contains(words)) {
                self.read.set(self.read.get() + at + 1);
                return said[at].clone();
            }
            assert!(Instant::now() < deadline, "certd did not say `{words}` but:\n{}", said.join("\n"));
            thread::sleep(LOOK_AGAIN_AFTER);
        }
    }

    /// The values of one family, by the value of one label; for families that say a thing by being there, 1.
    pub async fn metric(&self, family: &str, label: &str) -> Vec<(String, f64)> {
        let beginning = format!("{family}{{");
        let page = self.page().await;
        let lines = page.lines().filter_map(|line| line.strip_prefix(&beginning));
        let series = lines.map(|line| {
            let (labels, value) = line.rsplit_once(' ').unwrap();
            let own = labels.split(&format!("{label}=\"")).nth(1).unwrap_or_default().split('"').next().unwrap();
            (own.to_string(), value.parse().unwrap())
        });
        series.collect()
    }

    pub async fn page(&self) -> String {
        ask(&self.metrics).await.1
    }

    /// What `/readyz` says.
    pub async fn ready(&self) -> (u16, String) {
        ask(&self.metrics.replace("/metrics", "/readyz")).await
    }

    /// Waits until it says so.
    pub async fn until_ready(&self, status: u16, words: &str) {
        let deadline = Instant::now() + WITHIN;
        loop {
            let said = self.ready().await;
            if said == (status, words.to_string()) {
                return;
            }
            assert!(Instant::now() < deadline, "/readyz does not say {status} {words:?} but {said:?}");
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    /// Has it read its configuration again, which brings a turn.
    pub fn reload(&self) {
        self.signal("HUP");
    }

    /// By the name that kill(1) has for it.
    pub fn signal(&self, name: &str) {
        self.certd.signal(name);
    }

    /// As `kill -9` does, in the middle of whatever it does.
    pub fn kill(mut self) {
        self.certd.kill();
    }

    /// As systemd does.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        let deadline = Instant::now() + WITHIN;
        loop {
            match self.certd.try_wait() {
                Some(status) => return status,
                None => assert!(Instant::now() < deadline, "certd does not stop"),
            }
            thread::sleep(LOOK_AGAIN_AFTER);
        }
    }
}

async fn ask(url: &str) -> (u16, String) {
    let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().timeout(WITHIN).build().unwrap();
    let answer = http.get(url).send().await.unwrap();
    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    secrets::are_not_in([("a page of the listener", text.as_bytes())]);
    (status, text)
}

/// A declared certificate in `KV/tls/NAME` for `NAME.example.org`.
pub fn declared(name: &str) -> String {
    format!(
        "[[certificate]]\nname = \"{name}\"\nnames = [\"{name}.example.org\"]\nissuer = \"internal\"\n\
         store.vault_kv = {{ vault = \"main\", path = \"KV/tls/{name}\" }}\n"
    )
}

/// Short-lived, so that it may be renewed more than twice within seven days.
pub fn short_lived(name: &str) -> String {
    format!("{}lifetime = \"2d\"\n", declared(name))
}

/// Two columns, as the tests write them.
pub fn rows(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
}
