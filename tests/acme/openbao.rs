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

const ROOT_TOKEN: &str = "root-of-acme";
const WITHIN: Duration = Duration::from_secs(30);

/// Always a process, since a container would not reach the name server of the story.
struct OpenBao {
    admin: Vault,
    pki: Pki,
    bind: Bind,
    home: Home,
    _files: TempDir,
    _lifeline: Lifeline,
}

impl OpenBao {
    /// Its ACME takes whom it was told of, and nobody else.
    async fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name);
        let identity = Identity::new();
        fs::write(path("cert.pem"), &identity.certificate_pem).unwrap();
        fs::write(path("key.pem"), identity.key.serialize_pem()).unwrap();
        let (plain, tls) = (free_port(), free_port());
        let listener = format!(
            "listener \"tcp\" {{ address = \"127.0.0.1:{tls}\" tls_cert_file = {:?} tls_key_file = {:?} }}\n",
            path("cert.pem"),
            path("key.pem"),
        );
        fs::write(path("config.hcl"), listener).unwrap();
        let (bao, token) = (command(), format!("-dev-root-token-id={ROOT_TOKEN}"));
        let (listen, config) =
            (format!("-dev-listen-address=127.0.0.1:{plain}"), format!("-config={}", path("config.hcl").display()));
        let arguments = ["server", "-dev", "-dev-no-store-token", &token, &listen, &config];
        let lifeline = Lifeline::new(
            r#""$@" >/dev/null 2>&1 </dev/null & cat; kill -9 $!; wait $!"#,
            std::iter::once(bao.as_os_str()).chain(arguments.into_iter().map(OsStr::new)),
        );
        let admin = Vault::at(&format!("http://127.0.0.1:{plain}"), ROOT_TOKEN);
        let deadline = Instant::now() + WITHIN;
        while admin.try_call(ROOT_TOKEN, "GET", "auth/token/lookup-self", Value::Null).await.is_err() {
            assert!(Instant::now() < deadline, "no OpenBao");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (pki, bind) = (admin.pki().await, Bind::primary());
        let mount = &pki.mount;
        let cluster = format!("https://127.0.0.1:{tls}/v1/{mount}");
        admin.admin("POST", &format!("{mount}/config/cluster"), json!({ "path": cluster })).await;
        let headers = json!({
            "passthrough_request_headers": ["If-Modified-Since"],
            "allowed_response_headers": ["Last-Modified", "Location", "Replay-Nonce", "Link"],
        });
        admin.admin("POST", &format!("sys/mounts/{mount}/tune"), headers).await;
        let acme = json!({
            "enabled": true, "eab_policy": "always-required", "dns_resolver": bind.address.to_string(),
            "default_directory_policy": "sign-verbatim",
        });
        admin.admin("POST", &format!("{mount}/config/acme"), acme).await;
        // The only root that is named: that of the server, and that of the CA beside it.
        let roots = format!("{}{}", identity.root_pem, pki.ca_pem);
        let home = Home::new(format!("{cluster}/acme/directory"), &roots, "");
        Self { admin, pki, bind, home, _files: files, _lifeline: lifeline }
    }

    /// Known to it by this, from the first account on.
    async fn external_account(&self) -> String {
        let made = self.admin.admin("POST", &format!("{}/acme/new-eab", self.pki.mount), Value::Null).await;
        let text = |name: &str| made["data"][name].as_str().unwrap_or_else(|| panic!("{made}")).to_string();
        fs::write(self.home.path("hmac"), secrets::told(Kind::Hmac, &text("key"))).unwrap();
        format!("eab = {{ key_id = {:?}, hmac_file = \"hmac\" }}\n", text("id"))
    }

    /// With `ca_file` alone.
    fn configure(&self, issuer: &str) {
        self.home.configure(&format!("{issuer}{}", by_update(&self.bind, &self.home, "")), &["www.example.test"]);
        let text = fs::read_to_string(self.home.path("certd.toml")).unwrap();
        fs::write(self.home.path("certd.toml"), text.replace("roots = [\"roots.pem\"]\n", "")).unwrap();
    }

    async fn revoked(&self) -> Vec<String> {
        let list = format!("{}/certs/revoked", self.pki.mount);
        let (_, answer) = self.admin.call(ROOT_TOKEN, "LIST", &list, Value::Null).await;
        let keys = answer["data"]["keys"].as_array().cloned().unwrap_or_default();
        keys.iter().map(|serial| serial.as_str().unwrap().replace(':', "")).collect()
    }
}

#[tokio::test]
async fn openbao_signs_by_acme_for_an_account_that_it_was_told_of() {
    let bao = OpenBao::start().await;
    bao.configure("");
    let told = bao.home.certd(&["config", "check"]).await;
    assert!(told.out.contains("the CA makes no account without eab.key_id and eab.hmac_file"), "{told:?}");
    bao.configure(&bao.external_account().await);
    let first = bao.home.renewed().await;
    assert_eq!(first.issuer_cn.as_deref(), Some("certd test root"));
    let checked = bao.home.certd(&["check"]).await;
    assert_eq!(checked.code, 0, "it verifies to what ca_file holds: {checked:?}");
    assert_eq!(bao.bind.texts("_acme-challenge.www.example.test"), [""; 0]);
}

#[tokio::test]
async fn what_openbao_signed_by_acme_is_revoked_there_and_replaced() {
    let bao = OpenBao::start().await;
    bao.configure(&bao.external_account().await);
    let first = bao.home.renewed().await;
    let revoked = bao.home.certd(&["revoke", "web", "--reason", "superseded"]).await;
    assert!(revoked.code == 0 && revoked.out.contains("was revoked by public"), "{revoked:?}");
    assert!(revoked.out.contains("it keeps no reason, so that superseded is in certd's journal alone"), "{revoked:?}");
    assert_eq!(bao.revoked().await, std::slice::from_ref(&first.serial));
    assert_eq!(bao.home.certd(&["renew"]).await.code, 0);
    assert_ne!(bao.home.leaf().serial, first.serial);
}
