//! Let's Encrypt's small CA for tests, and the server beside it that answers DNS and challenges as it is told. Each is
//! a process on loopback, gone when its owner is gone.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::loopback::Identity;
use super::server::{Lifeline, free_port};

const HOW_TO_GET_IT: &str = "this test needs pebble and pebble-challtestsrv: run tests/run instead of cargo test, \
    or put both in PATH";

const WITHIN: Duration = Duration::from_secs(30);
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// As Go words it: between the look for a free port and its use, a connection of somebody else's may get it.
const PORT_IS_TAKEN: &str = "address already in use";

/// The management interface refuses who does not say what it is.
const USER_AGENT: &str = "certd-test";

/// How it is started. Nothing is left to chance: Pebble's own default is to refuse some nonces, and to wait for seconds
/// before it validates.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where it looks for HTTP-01 and TLS-ALPN-01; 0 where nobody answers.
    pub http_port: u16,
    pub tls_port: u16,
    pub ocsp_responder: String,
    /// MAC keys in base64url by their identifier; where there are any, a new account needs one of them.
    pub external_accounts: BTreeMap<String, String>,
    pub blocked_domains: Vec<String>,
    /// In seconds; `None` where its own default is good.
    pub retry_after: Option<RetryAfter>,
    /// Descriptions and lifetimes in seconds by their name; its own where there are none.
    pub profiles: BTreeMap<String, (String, u64)>,
    /// `ecdsa` or `rsa`, of its own certificates.
    pub key_algorithm: Option<String>,
    /// In percent.
    pub nonce_reject: u8,
    /// In percent.
    pub authorization_reuse: u8,
    pub alternate_roots: u8,
    /// Certificates between leaf and root; 0 where its own default is good.
    pub chain_length: u8,
    /// `HOST:PORT`; without one it asks the host's own resolver.
    pub dns_server: Option<String>,
    pub strict: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct RetryAfter {
    pub authorization: u32,
    pub order: u32,
}

pub struct Pebble {
    base: String,
    management: String,
    http: reqwest::Client,
    folder: TempDir,
    _process: Lifeline,
}

impl Pebble {
    pub async fn start(settings: &Settings) -> Self {
        loop {
            if let Some(pebble) = Self::try_start(settings).await {
                return pebble;
            }
        }
    }

    /// `None` where somebody else has taken one of its ports.
    async fn try_start(settings: &Settings) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::new();
        let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        file("ca.pem", &identity.root_pem);
        file("certificate.pem", &identity.certificate_pem);
        file("key.pem", &identity.key.serialize_pem());
        let (listen, management) = (loopback(), loopback());
        file("config.json", &settings.config(folder.path(), &listen, &management).to_string());
        let process = process(&folder.path().join("log"), &settings.arguments(folder.path()));
        let root = reqwest::Certificate::from_pem(identity.root_pem.as_bytes()).unwrap();
        let http = reqwest::Client::builder().tls_certs_only([root]).no_proxy().user_agent(USER_AGENT);
        let pebble = Self {
            base: format!("https://{listen}"),
            management: format!("https://{management}"),
            http: http.timeout(WITHIN).build().unwrap(),
            folder,
            _process: process,
        };
        pebble.answers().await.then_some(pebble)
    }

    pub fn directory(&self) -> String {
        format!("{}/dir", self.base)
    }

    /// What the TLS of the directory verifies to.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Whether the directory has it: versions before 2.8 know no `renewalInfo`.
    pub async fn offers(&self, resource: &str) -> bool {
        let answer = self.http.get(self.directory()).send().await.unwrap();
        answer.json::<Value>().await.unwrap().get(resource).is_some()
    }

    /// The root of one of its chains, in PEM; the usual one is 0.
    pub async fn root(&self, chain: usize) -> String {
        let answer = self.http.get(format!("{}/roots/{chain}", self.management)).send().await.unwrap();
        answer.error_for_status().unwrap().text().await.unwrap()
    }

    /// What it says of the certificate from now on, whatever RFC 9773 would have it say.
    pub async fn set_renewal_info(&self, certificate_pem: &str, start: Timestamp, end: Timestamp) {
        let info = json!({ "suggestedWindow": { "start": start.to_string(), "end": end.to_string() } });
        let body = json!({ "Certificate": certificate_pem, "ARIResponse": info.to_string() });
        let answer = self.http.post(format!("{}/set-renewal-info/", self.management)).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
    }

    /// `Valid` or `Revoked`; the serial number in hexadecimal digits.
    pub async fn status(&self, serial: &str) -> String {
        let url = format!("{}/cert-status-by-serial/{serial}", self.management);
        let answer = self.http.get(url).send().await.unwrap().error_for_status().unwrap();
        answer.json::<Value>().await.unwrap()["Status"].as_str().unwrap().to_string()
    }

    /// All that it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn answers(&self) -> bool {
        let deadline = Instant::now() + WITHIN;
        for url in [self.directory(), format!("{}/roots/0", self.management)] {
            while self.http.get(&url).send().await.is_err() {
                if self.log().contains(PORT_IS_TAKEN) {
                    return false;
                }
                assert!(Instant::now() < deadline, "pebble does not answer; its log:\n{}", self.log());
                tokio::time::sleep(ASK_AGAIN_AFTER).await;
            }
        }
        true
    }
}

impl Settings {
    fn config(&self, folder: &Path, listen: &str, management: &str) -> Value {
        let mut pebble = json!({
            "listenAddress": listen,
            "managementListenAddress": management,
            "certificate": folder.join("certificate.pem"),
            "privateKey": folder.join("key.pem"),
            "httpPort": self.http_port,
            "tlsPort": self.tls_port,
            "ocspResponderURL": self.ocsp_responder,
            "externalAccountBindingRequired": !self.external_accounts.is_empty(),
            "externalAccountMACKeys": self.external_accounts,
            "domainBlocklist": self.blocked_domains,
        });
        if let Some(RetryAfter { authorization, order }) = self.retry_after {
            pebble["retryAfter"] = json!({ "authz": authorization, "order": order });
        }
        if let Some(algorithm) = &self.key_algorithm {
            pebble["keyAlgorithm"] = algorithm.as_str().into();
        }
        for (name, (description, seconds)) in &self.profiles {
            pebble["profiles"][name] = json!({ "description": description, "validityPeriod": seconds });
        }
        json!({ "pebble": pebble })
    }

    /// Of env(1), which starts it.
    fn arguments(&self, folder: &Path) -> Vec<String> {
        let variables = [
            ("PEBBLE_VA_NOSLEEP", 1),
            ("PEBBLE_WFE_NONCEREJECT", self.nonce_reject),
            ("PEBBLE_AUTHZREUSE", self.authorization_reuse),
            ("PEBBLE_ALTERNATE_ROOTS", self.alternate_roots),
            ("PEBBLE_CHAIN_LENGTH", self.chain_length.max(1)),
        ];
        let mut arguments: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        arguments.push(program("pebble"));
        arguments.extend(["-config".to_string(), folder.join("config.json").display().to_string()]);
        arguments.push(format!("-strict={}", self.strict));
        arguments.extend(self.dns_server.iter().flat_map(|server| ["-dnsserver".to_string(), server.clone()]));
        arguments
    }
}

/// `pebble-challtestsrv`: a DNS server that knows what it was told, and where it was told nothing, one address for all.
pub struct ChallengeServer {
    /// `HOST:PORT`, by UDP and TCP.
    pub dns: String,
    /// Where it answers HTTP-01; 0 where it does not.
    pub http_port: u16,
    /// Where it answers TLS-ALPN-01; 0 where it does not.
    pub tls_port: u16,
    management: String,
    http: reqwest::Client,
    folder: TempDir,
    _process: Lifeline,
}

impl ChallengeServer {
    /// Answers DNS and challenges.
    pub async fn start() -> Self {
        loop {
            if let Some(server) = Self::try_start(free_port(), free_port()).await {
                return server;
            }
        }
    }

    /// Answers DNS alone, so that the ports of the challenges are somebody else's.
    pub async fn start_dns() -> Self {
        loop {
            if let Some(server) = Self::try_start(0, 0).await {
                return server;
            }
        }
    }

    /// `None` where somebody else has taken one of its ports.
    async fn try_start(http_port: u16, tls_port: u16) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (dns, management) = (loopback(), loopback());
        let at = |port: u16| if port == 0 { String::new() } else { format!("127.0.0.1:{port}") };
        let options = [
            ("dnsserver", dns.clone()),
            ("dns01", dns.clone()),
            ("doh", String::new()),
            ("http01", at(http_port)),
            ("https01", String::new()),
            ("tlsalpn01", at(tls_port)),
            ("management", management.clone()),
            ("defaultIPv4", "127.0.0.1".to_string()),
            ("defaultIPv6", String::new()),
        ];
        let program = program("pebble-challtestsrv");
        let known = known_options(&program);
        // Versions before 2.5 know no DoH, and have another name for the first.
        let known = options.iter().filter(|(name, _)| known.contains(&format!("  -{name} ")));
        let mut arguments: Vec<String> = known.map(|(name, value)| format!("-{name}={value}")).collect();
        arguments.insert(0, program);
        let process = process(&folder.path().join("log"), &arguments);
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().user_agent(USER_AGENT).timeout(WITHIN);
        let server = Self {
            dns,
            http_port,
            tls_port,
            management: format!("http://{management}"),
            http: http.build().unwrap(),
            folder,
            _process: process,
        };
        server.answers().await.then_some(server)
    }

    pub async fn add_http01(&self, token: &str, content: &str) {
        self.tell("add-http01", json!({ "token": token, "content": content })).await;
    }

    pub async fn remove_http01(&self, token: &str) {
        self.tell("del-http01", json!({ "token": token })).await;
    }

    pub async fn add_tls_alpn01(&self, host: &str, key_authorization: &str) {
        self.tell("add-tlsalpn01", json!({ "host": host, "content": key_authorization })).await;
    }

    /// Below `path` of its HTTP-01 port.
    pub async fn add_redirect(&self, path: &str, target_url: &str) {
        self.tell("add-redirect", json!({ "path": path, "targetURL": target_url })).await;
    }

    pub async fn add_a(&self, host: &str, addresses: &[&str]) {
        self.tell("add-a", json!({ "host": host, "addresses": addresses })).await;
    }

    pub async fn clear_a(&self, host: &str) {
        self.tell("clear-a", json!({ "host": host })).await;
    }

    pub async fn add_aaaa(&self, host: &str, addresses: &[&str]) {
        self.tell("add-aaaa", json!({ "host": host, "addresses": addresses })).await;
    }

    /// For all names that it was told nothing of; none where `None`.
    pub async fn set_default_ipv4(&self, address: Option<IpAddr>) {
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        self.tell("set-default-ipv4", json!({ "ip": address })).await;
    }

    /// Beside those that are there; the host with a dot at its end.
    pub async fn set_txt(&self, host: &str, value: &str) {
        self.tell("set-txt", json!({ "host": host, "value": value })).await;
    }

    pub async fn clear_txt(&self, host: &str) {
        self.tell("clear-txt", json!({ "host": host })).await;
    }

    pub async fn set_cname(&self, host: &str, target: &str) {
        self.tell("set-cname", json!({ "host": host, "target": target })).await;
    }

    pub async fn clear_cname(&self, host: &str) {
        self.tell("clear-cname", json!({ "host": host })).await;
    }

    /// Whose issuers are these, and no others.
    pub async fn add_caa(&self, host: &str, issuers: &[&str]) {
        let policy = |issuer: &&str| json!({ "tag": "issue", "value": issuer });
        let policies: Vec<Value> = issuers.iter().map(policy).collect();
        self.tell("add-caa", json!({ "host": host, "policies": policies })).await;
    }

    /// Whatever is asked of it.
    pub async fn set_servfail(&self, host: &str) {
        self.tell("set-servfail", json!({ "host": host })).await;
    }

    pub async fn clear_servfail(&self, host: &str) {
        self.tell("clear-servfail", json!({ "host": host })).await;
    }

    /// Whatever the management interface takes.
    pub async fn tell(&self, what: &str, body: Value) {
        let answer = self.http.post(format!("{}/{what}", self.management)).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{what} {body}");
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// DNS by TCP as well, so that each of its ports can be asked.
    async fn answers(&self) -> bool {
        let deadline = Instant::now() + WITHIN;
        let challenges = [self.http_port, self.tls_port].into_iter().filter(|port| *port != 0);
        let challenges = challenges.map(|port| format!("127.0.0.1:{port}"));
        let management = self.management.trim_start_matches("http://").to_string();
        for address in challenges.chain([self.dns.clone(), management]) {
            while TcpStream::connect(&address).await.is_err() {
                assert!(Instant::now() < deadline, "it does not answer; its log:\n{}", self.log());
                if self.log().contains(PORT_IS_TAKEN) {
                    return false;
                }
                tokio::time::sleep(ASK_AGAIN_AFTER).await;
            }
        }
        !self.log().contains(PORT_IS_TAKEN)
    }
}

fn loopback() -> String {
    format!("127.0.0.1:{}", free_port())
}

fn program(name: &str) -> String {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.expect(HOW_TO_GET_IT).display().to_string()
}

/// What it says of its own options.
fn known_options(program: &str) -> String {
    let output = Command::new(program).arg("-h").output().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The shell is its parent, so that the number it kills cannot have become another's.
fn process(log: &Path, arguments: &[String]) -> Lifeline {
    Lifeline::new(
        r#"log=$1; shift; env "$@" >"$log" 2>&1 </dev/null & cat; kill -9 $!; wait $!"#,
        [log.as_os_str()].into_iter().chain(arguments.iter().map(OsStr::new)),
    )
}
