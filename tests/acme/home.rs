//! A host whose certd has its certificates by ACME.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use certd::domain::cert::Certificate;
use certd::pki::{bundle::Bundle, read};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::acme_server::{AcmeServer, Script};
use crate::support::certd::{Certd, certd, output_meanwhile};
use crate::support::pebble::{ChallengeServer, Pebble, Settings};
use crate::support::secrets::{self, Kind};
use crate::support::server::free_port;

/// By certd's own listener.
pub const HTTP: &str = "challenge.http_01 = { listen = [\"HTTP\"] }\n";

pub struct Home {
    folder: TempDir,
    directory: String,
    /// Where the CA asks for HTTP-01 and TLS-ALPN-01.
    pub http: String,
    pub tls: String,
}

#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Home {
    pub fn new(directory: String, ca_pem: &str, roots_pem: &str) -> Self {
        let at = || format!("127.0.0.1:{}", free_port());
        let home = Self { folder: tempfile::tempdir().unwrap(), directory, http: at(), tls: at() };
        fs::write(home.path("ca.pem"), ca_pem).unwrap();
        fs::write(home.path("roots.pem"), roots_pem).unwrap();
        home
    }

    /// One certificate, named `web`, for these names; `issuer` goes into the issuer's table.
    pub fn configure(&self, issuer: &str, names: &[&str]) -> &Self {
        let certificate = format!(
            "[[certificate]]\nname = \"web\"\nnames = {names:?}\nissuer = \"public\"\nstore.file = {{ directory = \"web\" }}\n"
        );
        self.configure_all(issuer, &certificate)
    }

    pub fn configure_all(&self, issuer: &str, tables: &str) -> &Self {
        let head = "state_dir = \"state\"\nlisten.address = \"none\"\n[turn]\ninterval = \"1h\"\n[issuer.public.acme]\n\
             directory = \"DIRECTORY\"\nca_file = \"ca.pem\"\nroots = [\"roots.pem\"]\nterms_agreed = true\n";
        let text = format!("{head}{issuer}{tables}").replace("DIRECTORY", &self.directory);
        fs::write(self.path("certd.toml"), text.replace("HTTP", &self.http).replace("TLS", &self.tls)).unwrap();
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub async fn certd(&self, arguments: &[&str]) -> Ran {
        let mut command = certd();
        command.args(arguments).arg("--config").arg(self.path("certd.toml"));
        let output = output_meanwhile(command).await;
        if let Ok(text) = fs::read_to_string(self.path("state/acme/public.json")) {
            let kept: Value = serde_json::from_str(&text).unwrap();
            secrets::told(Kind::AccountKey, kept["private_key"].as_str().unwrap());
        }
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub fn start(&self) -> Certd {
        Certd::start(certd().arg("run").arg("--config").arg(self.path("certd.toml")))
    }

    /// A daemon that has had its first turn.
    pub async fn runs(&self) -> Certd {
        let daemon = self.start();
        let until = Instant::now() + Duration::from_secs(60);
        while !daemon.log().iter().any(|(_, line)| line.contains("turn completed")) {
            assert!(Instant::now() < until, "{:?}", daemon.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        daemon
    }

    /// Renews it, which must succeed.
    pub async fn renewed(&self) -> Certificate {
        let ran = self.certd(&["renew", "web"]).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        self.leaf()
    }

    pub fn leaf(&self) -> Certificate {
        self.chain().remove(0)
    }

    pub fn pem(&self) -> String {
        fs::read_to_string(self.path("web/fullchain.pem")).unwrap()
    }

    pub fn chain(&self) -> Vec<Certificate> {
        let bundle = Bundle::parse(self.pem().as_bytes()).unwrap();
        bundle.certificates.iter().map(|der| read::certificate(der).unwrap()).collect()
    }

    /// Every event that was ever written, as a person reads them.
    pub async fn journal(&self) -> String {
        self.certd(&["journal", "--last", "1000"]).await.out
    }

    /// In seconds from now, of the first certificate.
    pub async fn decision(&self) -> Value {
        let ran = self.certd(&["plan", "--format", "json"]).await;
        serde_json::from_str::<Value>(&ran.out).unwrap()["decisions"][0].clone()
    }
}

/// Pebble, with a DNS in which every name is this host.
pub struct World {
    pub pebble: Pebble,
    pub dns: ChallengeServer,
    pub home: Home,
}

impl World {
    pub async fn new(settings: Settings) -> Self {
        let dns = ChallengeServer::start_dns().await;
        let (http_port, tls_port) = (free_port(), free_port());
        let dns_server = settings.dns_server.clone().or_else(|| Some(dns.dns.clone()));
        let pebble = Pebble::start(&Settings { http_port, tls_port, dns_server, ..settings }).await;
        let ca = fs::read_to_string(pebble.ca_file()).unwrap();
        let mut home = Home::new(pebble.directory(), &ca, &pebble.root(0).await);
        (home.http, home.tls) = (format!("127.0.0.1:{http_port}"), format!("127.0.0.1:{tls_port}"));
        Self { pebble, dns, home }
    }
}

/// The CA that fails as it is told. Whatever the story is about, no wait that it asked for was broken in it.
pub struct Ca(AcmeServer);

impl std::ops::Deref for Ca {
    type Target = AcmeServer;

    fn deref(&self) -> &AcmeServer {
        &self.0
    }
}

impl Drop for Ca {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let early = self.0.requests_inside_retry_after();
            assert!(early.is_empty(), "{} requests came too early, the first: {:?}", early.len(), early[0]);
        }
    }
}

/// With a certd that has one certificate from it.
pub fn scripted(script: Script) -> (Ca, Home) {
    let server = Ca(AcmeServer::start(script));
    let home = Home::new(server.directory_url(), server.tls_root_pem(), &server.root_pem());
    home.configure(HTTP, &["www.example.org"]);
    (server, home)
}
