//! A Vault furnished for one test: a mount of secrets, one that signs, and certd's own parts on top.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use std::sync::Arc;
use std::time::Duration;

use crate::support::vault::{Pki, server};
use certd::domain::cert::Trust;
use certd::domain::inventory::{Deletion, Sighting};
use certd::domain::key::KeySpec;
use certd::domain::name::{San, SourceName};
use certd::domain::plan::Reason;
use certd::domain::policy::RenewalPolicy;
use certd::domain::renewal::{CertifiedKey, Request, Signed, Spec};
use certd::domain::time::Timestamp;
use certd::issuer::Order;
use certd::issuer::vault_pki::VaultPki;
use certd::pki::bundle::Bundle;
use certd::pki::roots::Roots;
use certd::pki::{csr, key, pem};
use certd::source::Observed;
use certd::source::path_glob::PathGlob;
use certd::source::vault_kv::VaultKvSource;
use certd::store::vault_kv::VaultKvStore;
use certd::vault::{Settings, TokenFrom, Vault};
use serde_json::{Value, json};
use zeroize::Zeroizing;
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_second())
}

pub fn client(address: &str, token: &str) -> Arc<Vault> {
    let settings = Settings {
        name: "main".into(),
        addresses: vec![address.parse().unwrap()],
        server_name: None,
        roots: None,
        namespace: None,
        token: TokenFrom::Given(Zeroizing::new(token.to_string())),
        deadline: Duration::from_secs(10),
    };
    Arc::new(Vault::new(settings).unwrap())
}

pub fn names(names: &[&str]) -> Vec<San> {
    names.iter().map(|name| San::from_text(name)).collect()
}

/// A certified key as a renewal makes it.
pub async fn certified(issuer: &VaultPki, wanted: &[&str]) -> CertifiedKey {
    let key = key::generate(KeySpec::EcdsaP256).unwrap();
    let names = names(wanted);
    let order = Order {
        csr: csr::make(&key, &names, None).unwrap(),
        names: names.clone(),
        common_name: None,
        lifetime: Some(Duration::from_secs(24 * 60 * 60)),
        replaces: None,
        now: now(),
    };
    let ders = issuer.sign(&order).await.unwrap();
    let kept = Bundle::parse(pem::certificates(&ders).as_bytes()).unwrap().chains().unwrap().remove(0);
    let spec = Spec {
        names,
        common_name: None,
        key: KeySpec::EcdsaP256,
        lifetime: order.lifetime,
        renewal: RenewalPolicy::default(),
    };
    let request = Request {
        certificate: "web".into(),
        spec,
        key,
        reason: Reason::Forced,
        replaces: None,
        lifetime_is_given: false,
        is_served: false,
    };
    request.accept(now(), Signed { chain: kept.chain, ders, trust: Trust::NotJudged }).unwrap()
}

pub fn fields(certified: &CertifiedKey) -> Value {
    json!({
        "certificate": pem::certificates(&certified.ders()[..1]),
        "private_key": key::to_pem(certified.key()).to_string(),
        "ca_chain": certified.ders()[1..].iter().map(|der| pem::certificates(&[der])).collect::<Vec<_>>(),
    })
}

/// A mount of secrets and one that signs, of this test alone, with certd as root.
pub struct House {
    pub admin: crate::support::vault::Vault,
    pub vault: Arc<Vault>,
    pub kv: String,
    pub ca: Pki,
    pub issuer: VaultPki,
}

impl House {
    pub async fn new() -> Self {
        let admin = server().await;
        let (kv, ca) = (admin.kv("secret").await, admin.pki().await);
        let vault = client(&admin.address, &admin.root_token);
        let issuer = VaultPki::new(vault.clone(), &ca.mount, &ca.role);
        Self { admin, vault, kv, ca, issuer }
    }

    pub fn roots(&self) -> Arc<Roots> {
        Arc::new(Roots::from_ders(Bundle::parse(self.ca.ca_pem.as_bytes()).unwrap().certificates))
    }

    pub fn store(&self, path: &str) -> VaultKvStore {
        self.store_of(path, None)
    }

    pub fn store_of(&self, path: &str, object: Option<&str>) -> VaultKvStore {
        let (path, object) = (format!("{}/{path}", self.kv), object.map(str::to_string));
        VaultKvStore { vault: self.vault.clone(), path, object, roots: self.roots() }
    }

    pub async fn observe(&self, vault: &Arc<Vault>, paths: &[&str], exclude: &[&str]) -> Observed {
        let globs =
            |texts: &[&str]| texts.iter().map(|t| PathGlob::new(&format!("{}/{t}", self.kv)).unwrap()).collect();
        let source = VaultKvSource {
            name: SourceName::from("apps"),
            environment: Some("prod".to_string()),
            vault: vault.clone(),
            paths: globs(paths),
            exclude: globs(exclude),
            concurrency: 4,
            roots: self.roots(),
        };
        tokio::spawn(async move { source.observe(now()).await }).await.unwrap()
    }

    /// What was seen, a line each, in the order of places.
    pub async fn seen(&self, paths: &[&str], exclude: &[&str]) -> Vec<String> {
        let observed = self.observe(&self.vault, paths, exclude).await;
        assert_eq!(observed.failures, []);
        let mut lines: Vec<String> = observed
            .observations
            .iter()
            .map(|o| format!("{} {}", o.location, in_a_word(&o.sighting)).replace(&format!("main:{}/", self.kv), ""))
            .collect();
        lines.sort();
        lines
    }
}

pub fn in_a_word(sighting: &Sighting) -> String {
    match sighting {
        Sighting::Absent => "absent".to_string(),
        Sighting::Deleted(Deletion::Deleted { version, .. }) => format!("deleted v{version}"),
        Sighting::Deleted(Deletion::Destroyed { version }) => format!("destroyed v{version}"),
        Sighting::Crl(_) => "a revocation list".to_string(),
        Sighting::Found(found) => match found.version {
            Some(version) => format!("{} v{version}", found.leaf().names[0]),
            None => found.leaf().names[0].to_string(),
        },
        Sighting::Unknown(obstacle) => obstacle.obstacle.as_str().to_string(),
    }
}
