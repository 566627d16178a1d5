//! The ACME of OpenBao's PKI mounts: a private CA, whose own server's certificate comes from a root of its own.

use std::ffi::OsStr;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::dns::by_update;
use crate::home::Home;
use crate::support::bind::Bind;
use crate::support::loopback::Identity;
use crate::support::secrets::{self, Kind};
use crate::support::server::{Lifeline, command, free_port};
use crate::support::vault::{Pki, Vault};

const NAME: &str = "www.example.test";
const ROOT_TOKEN: &str = "root-of-acme";
const WITHIN: Duration = Duration::from_secs(30);

/// Always a process, since a container would not reach the name server of the story.
pub struct OpenBao {
    pub admin: Vault,
    pub bind: Bind,
    /// Who it is at its address with TLS.
    pub identity: Identity,
    pub plain: String,
    pub tls: String,
    _files: TempDir,
    _lifeline: Lifeline,
}

/// A PKI mount whose ACME takes whom it was told of and nobody else, and a host that has its certificates from there.
pub struct Mount<'a> {
    bao: &'a OpenBao,
    pub pki: Pki,
    pub home: Home,
}

impl OpenBao {
    pub async fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name);
        let identity = Identity::new();
        fs::write(path("cert.pem"), &identity.certificate_pem).unwrap();
        fs::write(path("key.pem"), identity.key.serialize_pem()).unwrap();
        let [plain, tls] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
        let (certificate, key) = (path("cert.pem"), path("key.pem"));
        let listener = format!(
            "listener \"tcp\" {{ address = {tls:?} tls_cert_file = {certificate:?} tls_key_file = {key:?} }}\n"
        );
        fs::write(path("config.hcl"), listener).unwrap();
        let (bao, token) = (command(), format!("-dev-root-token-id={ROOT_TOKEN}"));
        let (listen, config) =
            (format!("-dev-listen-address={plain}"), format!("-config={}", path("config.hcl").display()));
        let arguments = ["server", "-dev", "-dev-no-store-token", &token, &listen, &config];
        let lifeline = Lifeline::new(
            r#""$@" >/dev/null 2>&1 </dev/null & cat; kill -9 $!; wait $!"#,
            std::iter::once(bao.as_os_str()).chain(arguments.into_iter().map(OsStr::new)),
        );
        let (plain, tls) = (format!("http://{plain}"), format!("https://{tls}"));
        let admin = Vault::at(&plain, ROOT_TOKEN);
        let deadline = Instant::now() + WITHIN;
        let is_ready = async || {
            matches!(admin.try_call(ROOT_TOKEN, "GET", "auth/token/lookup-self", Value::Null).await, Ok((200, _)))
        };
        while !is_ready().await {
            assert!(Instant::now() < deadline, "no OpenBao");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self { admin, bind: Bind::primary(), identity, plain, tls, _files: files, _lifeline: lifeline }
    }

    /// Whose ACME is asked at this address.
    pub async fn mount(&self, address: &str) -> Mount<'_> {
        let pki = self.admin.pki().await;
        let (admin, mount) = (&self.admin, &pki.mount);
        let cluster = format!("{address}/v1/{mount}");
        admin.admin("POST", &format!("{mount}/config/cluster"), json!({ "path": cluster })).await;
        let headers = json!({ "allowed_response_headers": ["Last-Modified", "Location", "Replay-Nonce", "Link"] });
        admin.admin("POST", &format!("sys/mounts/{mount}/tune"), headers).await;
        let acme = json!({
            "enabled": true, "eab_policy": "always-required", "dns_resolver": self.bind.address.to_string(),
            "default_directory_policy": "sign-verbatim",
        });
        admin.admin("POST", &format!("{mount}/config/acme"), acme).await;
        // The only roots that are named: that of the server, and that of the CA beside it.
        let roots = format!("{}{}", self.identity.root_pem, pki.ca_pem);
        let home = Home::new(format!("{cluster}/acme/directory"), &roots, "");
        Mount { bao: self, pki, home }
    }
}

impl Mount<'_> {
    /// The issuer's settings for an account that it is told of.
    pub async fn external_account(&self) -> String {
        let made = self.bao.admin.admin("POST", &format!("{}/acme/new-eab", self.pki.mount), Value::Null).await;
        let text = |name: &str| made["data"][name].as_str().unwrap_or_else(|| panic!("{made}")).to_string();
        fs::write(self.home.path("hmac"), secrets::told(Kind::Hmac, &text("key"))).unwrap();
        format!("eab = {{ key_id = {:?}, hmac_file = \"hmac\" }}\n", text("id"))
    }

    /// With `ca_file` alone.
    pub fn configure(&self, issuer: &str, name: &str) {
        self.home.configure(&format!("{issuer}{}", by_update(&self.bao.bind, &self.home, "")), &[name]);
        let text = fs::read_to_string(self.home.path("certd.toml")).unwrap();
        fs::write(self.home.path("certd.toml"), text.replace("roots = [\"roots.pem\"]\n", "")).unwrap();
    }

    /// Serial numbers that the mount lists: `certs` are all.
    pub async fn listed(&self, what: &str) -> Vec<String> {
        let list = format!("{}/{what}", self.pki.mount);
        let (_, answer) = self.bao.admin.call(ROOT_TOKEN, "LIST", &list, Value::Null).await;
        let keys = answer["data"]["keys"].as_array().cloned().unwrap_or_default();
        keys.iter().map(|serial| serial.as_str().unwrap().replace(':', "")).collect()
    }
}

#[tokio::test]
async fn openbao_signs_by_acme_for_an_account_that_it_was_told_of() {
    let bao = OpenBao::start().await;
    let mount = bao.mount(&bao.tls).await;
    mount.configure("", NAME);
    let told = mount.home.certd(&["config", "check"]).await;
    assert!(told.out.contains("the CA makes no account without eab.key_id and eab.hmac_file"), "{told:?}");
    mount.configure(&mount.external_account().await, NAME);
    let first = mount.home.renewed().await;
    assert_eq!(first.issuer_cn.as_deref(), Some("certd test root"));
    let checked = mount.home.certd(&["check"]).await;
    assert_eq!(checked.code, 0, "it verifies to what ca_file holds: {checked:?}");
    assert_eq!(bao.bind.texts("_acme-challenge.www.example.test"), [""; 0]);
    // Its directory names where that is done, and nothing is there.
    let refused = mount.home.certd(&["account", "public", "--roll-over"]).await;
    assert!(refused.code == 2 && refused.out.contains("the account goes by the key that it had"), "{refused:?}");
    assert_eq!(mount.home.certd(&["renew", "--force", "web"]).await.code, 0);
}

#[tokio::test]
async fn what_openbao_signed_by_acme_is_revoked_there_and_replaced() {
    let bao = OpenBao::start().await;
    let mount = bao.mount(&bao.tls).await;
    mount.configure(&mount.external_account().await, NAME);
    let first = mount.home.renewed().await;
    let revoked = mount.home.certd(&["revoke", "web", "--reason", "superseded"]).await;
    assert!(revoked.code == 0 && revoked.out.contains("was revoked by public"), "{revoked:?}");
    assert!(revoked.out.contains("it took no reason, so that superseded is in certd's journal alone"), "{revoked:?}");
    assert_eq!(mount.listed("certs/revoked").await, std::slice::from_ref(&first.serial));
    assert_eq!(mount.home.certd(&["renew"]).await.code, 0);
    assert_ne!(mount.home.leaf().serial, first.serial);
}
