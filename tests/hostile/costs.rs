//! What others wrote costs what certd allows: chains, bundles and keystores that are made to be expensive lie beside good
//! ones, and the good ones are seen right.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::scene::{Scene, pem};
use crate::support::certificates::params;
use crate::support::vault::server;

/// In a file or a secret: as many as 182 KB hold.
const CROWD: usize = 270;

/// One CA, as its own root and as a crowd of certificates with one name and a key each, any of which may have
/// signed any other by its name.
pub struct Family {
    pub root: String,
    /// In DER.
    pub crowd: Vec<Vec<u8>>,
    issuer: Issuer<'static, KeyPair>,
}

impl Family {
    pub fn new(name: &str, crowd: usize) -> Self {
        Self::named(name, crowd, |_| name.to_string())
    }

    /// The crowd has a name each, none of which leads anywhere.
    pub fn apart(crowd: usize) -> Self {
        Self::named("apart", crowd, |serial| format!("apart {serial}"))
    }

    fn named(name: &str, crowd: usize, of_crowd: impl Fn(u64) -> String) -> Self {
        let key = KeyPair::generate().unwrap();
        let ca = |serial: u64| {
            let mut ca: CertificateParams = params(&[], -900, 900);
            let name = if serial == 0 { name.to_string() } else { of_crowd(serial) };
            ca.distinguished_name.push(DnType::CommonName, name);
            ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            ca.serial_number = Some((serial + 1_000).into());
            ca
        };
        let root = ca(0).self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(ca(0), key);
        let one = |serial| ca(serial).signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().to_vec();
        let crowd = (1..=crowd as u64).map(one).collect();
        Self { root, crowd, issuer }
    }

    pub fn leaf(&self, name: &str) -> String {
        pem(&self.pair(name).0)
    }

    /// In DER, certificate and key.
    pub fn pair(&self, name: &str) -> (Vec<u8>, Vec<u8>) {
        let (leaf, key) = (params(&[name], -10, 80), KeyPair::generate().unwrap());
        (leaf.signed_by(&key, &self.issuer).unwrap().der().to_vec(), key.serialize_der())
    }
}

fn states(told: &Value, holds: &str) -> Vec<(String, String)> {
    let of = |one: &Value| {
        let why = one["obstacle"]["obstacle"].as_str().unwrap_or("seen").to_string();
        (one["state"].as_str().unwrap().to_string(), why)
    };
    let all = told["certificates"].as_array().unwrap();
    all.iter().filter(|one| one["location"].as_str().unwrap().contains(holds)).map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn costly_chains_in_files_and_secrets_are_unknown_and_all_beside_them_are_right() {
    let (scene, vault) = (Scene::new(), server().await);
    let (ours, theirs) = (Family::new("our root", 0), Family::new("their root", CROWD));
    let kv = vault.kv("costs").await;
    let crowd: String = theirs.crowd.iter().map(|der| pem(der)).collect();
    scene.write("roots.pem", &ours.root);
    for nth in 0..8 {
        let (good, bad) = (ours.leaf("good.example.org"), theirs.leaf("bad.example.org") + &crowd);
        scene.write(format!("disk/good-{nth}.pem"), &good);
        scene.write(format!("disk/bad-{nth}.pem"), &bad);
        vault.put(&kv, &format!("good-{nth}"), json!({ "certificate": good })).await;
        vault.put(&kv, &format!("bad-{nth}"), json!({ "certificate": bad })).await;
    }
    scene.write("disk/many.pem", ours.leaf("many.example.org").repeat(1_001));
    scene.write("token", &vault.root_token);
    scene.configure(&format!(
        "[vault.main]\naddress = \"{}\"\ntoken_file = \"token\"\n[source.disk.file]\npaths = [\"disk/*.pem\"]\n\
         roots = [\"roots.pem\"]\n[source.apps.vault_kv]\nvault = \"main\"\npaths = [\"{kv}/**\"]\nroots = [\"roots.pem\"]\n",
        vault.address
    ));
    let ran = scene.certd(&["check", "--format", "json"]).await;
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    let each = |state: &str, why: &str, number: usize| vec![(state.to_string(), why.to_string()); number];
    assert_eq!(states(&told, "good-"), each("ok", "seen", 16));
    assert_eq!(states(&told, "bad-"), each("unknown", "too_costly", 16));
    assert_eq!(states(&told, "many"), each("unknown", "not_understood", 1));
}
