//! The Vault that the stories talk to, seen by its administrator: mounts, policies, tokens, secrets.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::secrets::{self, Kind};
use super::server::Server;

/// A cold container on a busy two-core machine needs a few seconds.
const READY_WITHIN: Duration = Duration::from_secs(60);
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Dropped never, and ended with the process: see `Server`.
static SHARED: OnceCell<Server> = OnceCell::const_new();

/// The server that all tests of this binary share; each takes mounts of its own.
pub async fn server() -> Vault {
    let server = SHARED
        .get_or_init(|| async {
            let server = Server::start().await;
            ready(&server).await;
            server
        })
        .await;
    Vault::new(server)
}

/// A server for one test alone, which may seal it, stop it or break it; it ends when the `Server` is dropped.
pub async fn own_server() -> (Vault, Server) {
    let server = Server::start().await;
    ready(&server).await;
    (Vault::new(&server), server)
}

/// A handle with a connection pool of its own: one shared between the runtimes of two tests dies with the first.
pub struct Vault {
    /// `http://HOST:PORT`.
    pub address: String,
    pub root_token: String,
    http: reqwest::Client,
}

/// A PKI mount with a root CA and the role `servers`.
pub struct Pki {
    pub mount: String,
    pub role: String,
    pub ca_pem: String,
}

impl Vault {
    fn new(server: &Server) -> Self {
        Self::at(&server.address, &server.root_token)
    }

    pub fn at(address: &str, root_token: &str) -> Self {
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().timeout(ANSWER_WITHIN).build().unwrap();
        if !root_token.is_empty() {
            secrets::told(Kind::RootToken, root_token);
        }
        Self { address: address.to_string(), root_token: root_token.to_string(), http }
    }

    /// A KV version 2 mount that no other test knows; its name starts with `name`.
    pub async fn kv(&self, name: &str) -> String {
        let mount = unique(name);
        self.admin("POST", &format!("sys/mounts/{mount}"), json!({ "type": "kv", "options": { "version": "2" } }))
            .await;
        self.settled(&mount).await;
        mount
    }

    /// A PKI mount that signs any name of example.org for any key, for at most 90 days and without leases.
    pub async fn pki(&self) -> Pki {
        let mount = unique("pki");
        let year = json!({ "type": "pki", "config": { "max_lease_ttl": "8760h" } });
        self.admin("POST", &format!("sys/mounts/{mount}"), year).await;
        let root = json!({ "common_name": "certd test root", "ttl": "8760h", "key_type": "ec", "key_bits": 256 });
        let root = self.admin("POST", &format!("{mount}/root/generate/internal"), root).await;
        let role = json!({
            "allowed_domains": ["example.org"], "allow_bare_domains": true, "allow_subdomains": true,
            "allow_wildcard_certificates": true, "allow_ip_sans": true, "require_cn": false, "key_type": "any",
            "generate_lease": false, "max_ttl": "2160h",
        });
        self.admin("POST", &format!("{mount}/roles/servers"), role).await;
        let ca_pem = root["data"]["certificate"].as_str().expect("the root is sent back").to_owned();
        Pki { mount, role: "servers".to_owned(), ca_pem }
    }

    /// Writes a secret of a KV version 2 mount, whatever is there, and returns its new version.
    pub async fn put(&self, mount: &str, path: &str, data: Value) -> u64 {
        secrets::told_fields(&data);
        let answer = self.admin("POST", &format!("{mount}/data/{path}"), json!({ "data": data })).await;
        answer["data"]["version"].as_u64().expect("a write returns its version")
    }

    /// The newest version of a secret: its fields and its number.
    pub async fn get(&self, mount: &str, path: &str) -> (Value, u64) {
        let answer = self.admin("GET", &format!("{mount}/data/{path}"), Value::Null).await;
        let version = answer["data"]["metadata"]["version"].as_u64().expect("a read returns its version");
        secrets::told_fields(&answer["data"]["data"]);
        (answer["data"]["data"].clone(), version)
    }

    /// Paths of all secrets below a folder of a mount, of destroyed ones, too.
    pub async fn paths_below(&self, mount: &str, folder: &str) -> Vec<String> {
        let (mut folders, mut paths) = (vec![folder.to_string()], Vec::new());
        while let Some(folder) = folders.pop() {
            let list = format!("{mount}/metadata/{folder}");
            let (_, listed) = self.call(&self.root_token, "LIST", &list, Value::Null).await;
            for key in listed["data"]["keys"].as_array().into_iter().flatten() {
                let path = format!("{folder}/{}", key.as_str().unwrap());
                match path.strip_suffix('/') {
                    Some(below) => folders.push(below.to_string()),
                    None => paths.push(path),
                }
            }
        }
        paths.sort();
        paths
    }

    /// How many versions of pending keys can still be read.
    pub async fn staged(&self, mount: &str) -> usize {
        let mut readable = 0;
        for path in self.paths_below(mount, "certd/pending").await {
            for version in 1..=12 {
                let path = format!("{mount}/data/{path}?version={version}");
                readable += usize::from(self.call(&self.root_token, "GET", &path, Value::Null).await.0 == 200);
            }
        }
        readable
    }

    /// A token that may do what the policy says and nothing else, with no way to reach the root token from it.
    pub async fn token(&self, policy: &str) -> String {
        let name = unique("policy");
        self.admin("PUT", &format!("sys/policies/acl/{name}"), json!({ "policy": policy })).await;
        let asked = json!({ "policies": [name], "ttl": "1h" });
        let answer = self.admin("POST", "auth/token/create", asked).await;
        secrets::told(
            Kind::GivenToken,
            answer["auth"]["client_token"].as_str().expect("a token is sent back").to_owned(),
        )
    }

    /// What a call as root answers, as a deployment system hands it out: a token that can be exchanged for it once.
    pub async fn wrapped(&self, path: &str) -> String {
        let asked = self.http.post(format!("{}/v1/{path}", self.address)).header("X-Vault-Token", &self.root_token);
        let answer = asked.header("X-Vault-Wrap-TTL", "60s").send().await.unwrap().bytes().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        secrets::told(Kind::WrappingToken, answer["wrap_info"]["token"].as_str().unwrap().to_string())
    }

    /// One call as root, for example `admin("POST", "sys/seal", Value::Null)`; anything but success fails the test.
    pub async fn admin(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(&self.root_token, method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path} was answered {status}: {answer}");
        answer
    }

    /// One call with any token: the status, and the body or null when there is none.
    pub async fn call(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.try_call(token, method, path, body).await.unwrap()
    }

    /// The same, where there may be no answer.
    pub async fn try_call(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Value,
    ) -> Result<(u16, Value), reqwest::Error> {
        let method = method.parse::<reqwest::Method>().unwrap();
        let mut request =
            self.http.request(method, format!("{}/v1/{path}", self.address)).header("X-Vault-Token", token);
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let bytes = response.bytes().await?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    /// A new KV mount refuses requests for a moment, while it is being upgraded to version 2.
    async fn settled(&self, mount: &str) {
        let deadline = Instant::now() + READY_WITHIN;
        while self.call(&self.root_token, "GET", &format!("{mount}/config"), Value::Null).await.0 != 200 {
            assert!(Instant::now() < deadline, "{mount} is not ready after {READY_WITHIN:?}");
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        }
    }
}

/// Waits until the server knows its root token, which also shows that no other server took the port.
async fn ready(server: &Server) {
    let vault = Vault::new(server);
    let url = format!("{}/v1/auth/token/lookup-self", server.address);
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let answer = vault.http.get(&url).header("X-Vault-Token", &server.root_token).send().await;
        if answer.is_ok_and(|r| r.status() == 200) {
            return;
        }
        let late = Instant::now() >= deadline;
        assert!(
            !late,
            "{} is not ready after {READY_WITHIN:?}; its last words:\n{}",
            server.address,
            server.last_words()
        );
        tokio::time::sleep(ASK_AGAIN_AFTER).await;
    }
}

fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}
