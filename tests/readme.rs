//! Every example of the README, run as it stands but for the places that only an operator has.

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use certd::domain::key::{KeySpec, PrivateKey};
use certd::domain::name::San;
use certd::pki;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use support::certd::{BINARY, output};
use support::secrets::{Kind, told};
use support::vault::Pki;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const README: &str = include_str!("../README.md");

/// The fenced blocks of one language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let after = README.split(fence.as_str()).skip(1);
    after.map(|text| text.split("```").next().unwrap().trim()).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn it_opens_with_two_commands_that_are_there() {
    let commands = &blocks("sh")[..2];
    assert_eq!(commands, ["cargo run --release -- run --config config/quickstart.toml", "tests/run"]);
    certd::config::load(&root().join("config/quickstart.toml")).unwrap();
    assert!(root().join("tests/run").is_file());
}

#[test]
fn every_file_that_it_points_to_is_there() {
    let links: Vec<&str> = README.split("](").skip(1).map(|text| text.split(')').next().unwrap()).collect();
    assert!(links.len() >= 5, "{links:?}");
    for link in links {
        assert!(root().join(link).is_file(), "{link}");
    }
}

#[test]
fn every_metric_that_it_names_is_one_that_certd_has() {
    let rendered = include_str!("../src/metrics/render.rs");
    let words = README.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let metrics: Vec<&str> = words.filter(|word| word.starts_with("certd_")).collect();
    assert!(metrics.len() >= 6, "{metrics:?}");
    for metric in metrics {
        assert!(rendered.contains(&format!("\"{metric}\"")), "{metric}");
    }
}

/// What the examples need, in one directory.
struct Stage {
    dir: tempfile::TempDir,
    address: String,
    /// Of what is served nowhere that the configuration knows, and kept no more.
    serial: String,
    vault: support::vault::Vault,
}

impl Stage {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let vault = support::vault::server().await;
        let ca = vault.pki().await;
        let key = pki::key::generate(KeySpec::EcdsaP256).unwrap();
        let leaf = signed(&vault, &ca, &key).await;
        let address = serve(&leaf, &key).await;
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("roots.pem", &ca.ca_pem);
        write("web.pem", &leaf);
        write("targets.txt", &format!("# edge\n{address} sni=www.example.org\n"));
        write("token", &vault.root_token);
        let fields = json!({ "certificate": leaf, "private_key": pki::key::to_pem(&key).as_str() });
        vault.put("secret", "tls/web", fields).await;
        let der = CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap();
        let serial = pki::read::certificate(&der).unwrap().serial;
        let stage = Self { dir, address, serial, vault };
        stage.configure(&ca);
        stage.grant().await;
        stage
    }

    /// What the README's own commands say, and no more.
    async fn grant(&self) {
        let (code, policy) = self.run("certd vault policy --revoke");
        assert_eq!(code, Some(0), "{policy}");
        self.vault.admin("PUT", "sys/policies/acl/certd", json!({ "policy": policy })).await;
        let asked = json!({ "policies": ["certd"], "no_default_policy": true, "no_parent": true, "ttl": "1h" });
        let token = self.vault.admin("POST", "auth/token/create", asked).await;
        let token = told(Kind::GivenToken, token["auth"]["client_token"].as_str().unwrap());
        std::fs::write(self.path("token"), token).unwrap();
    }

    /// The configuration of the README with the places of this test.
    fn configure(&self, ca: &Pki) {
        let roots = self.path("roots.pem");
        let text = blocks("toml")[0]
            .replace("https://vault.internal.example:8200", &self.vault.address)
            .replace("/run/credentials/certd.service/vault-token", &self.path("token"))
            .replace("/etc/certd/internal-ca.pem", &roots)
            .replace("mount = \"pki\"", &format!("mount = {:?}", ca.mount));
        let state = format!("state_dir = {:?}\n", self.path("state"));
        std::fs::write(self.dir.path().join("certd.toml"), state + &text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn run(&self, example: &str) -> (Option<i32>, String) {
        let line = example
            .replacen("certd", BINARY, 1)
            .replace("1f:a0:03:5c", &self.serial)
            .replace("www.example.org:443", &format!("'{} sni=www.example.org'", self.address))
            .replace("/etc/ssl/private/", &format!("{}/", self.dir.path().display()));
        let line = if example.starts_with("certd check") { line } else { format!("{line} --config certd.toml") };
        let mut command = Command::new("sh");
        command
            .args(["-c", &line])
            .current_dir(&self.dir)
            .env("SSL_CERT_FILE", self.path("roots.pem"))
            .env("VAULT_ADDR", &self.vault.address)
            .env("VAULT_TOKEN", &self.vault.root_token);
        let output = output(&mut command, b"");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text.into_owned())
    }
}

async fn signed(vault: &support::vault::Vault, ca: &Pki, key: &PrivateKey) -> String {
    let csr = pki::csr::make(key, &[San::from_text("www.example.org")], None).unwrap();
    let order = json!({ "csr": pki::pem::csr(&csr), "alt_names": "www.example.org", "ttl": "80d" });
    let answer = vault.admin("POST", &format!("{}/sign/{}", ca.mount, ca.role), order).await;
    answer["data"]["certificate"].as_str().unwrap().to_string()
}

async fn serve(leaf: &str, key: &PrivateKey) -> String {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let leaf = CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf], PrivateKeyDer::Pkcs8(key.pkcs8.to_vec().into()))
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that has seen the certificate hangs up.
            let _ = acceptor.accept(stream).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_it_runs() {
    let stage = Stage::new().await;
    let commands: Vec<&str> = blocks("sh")[2..].iter().flat_map(|block| block.lines()).collect();
    assert!(commands.len() >= 9, "{commands:?}");
    for command in commands {
        assert!(command.starts_with("certd "), "{command}");
        let (code, text) = stage.run(command);
        assert_eq!(code, Some(0), "{command}\n{text}");
    }
    let (fields, version) = stage.vault.get("secret", "tls/web").await;
    assert_eq!(version, 2, "`certd renew` wrote once");
    assert_ne!(fields["certificate"], std::fs::read_to_string(stage.path("web.pem")).unwrap());
}
