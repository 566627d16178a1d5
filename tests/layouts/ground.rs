//! A Vault in which a certificate is put in some layout, renewed, and read by other people's tools.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use certd::domain::cert::Trust;
use certd::domain::inventory::{Found, Sighting};
use certd::domain::key::KeySpec;
use certd::domain::plan::{Basis, Reason};
use certd::domain::policy::RenewalPolicy;
use certd::domain::renewal::{CertifiedKey, Request, Signed, Spec};
use certd::issuer::Order;
use certd::issuer::vault_pki::VaultPki;
use certd::pki::bundle::Bundle;
use certd::pki::{csr, key, pem};
use certd::store::{StoreError, Written};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::house::{House, names, now};
use crate::support::server;
use crate::support::tools::{openssl, openssl_bytes, python};

pub const NAME: &str = "web.example.org";

/// Fields that certd does not know, in JSON that a careless reader would change.
pub const UNKNOWN: &str = r#""big":10000000000000000000001,"long":0.30000000000000004,"ratio":1.50,"note":"<b>ü& \"q\"\n","nothing":null,"object":{"b":[1,2.5,{"x":null}],"a":true},"owner":"team-web""#;

/// A certificate and its key, as text that tools other than certd wrote.
pub struct Material {
    pub leaf: String,
    pub inner: String,
    pub root: String,
    pub pkcs8: String,
    /// PKCS#1 or SEC1.
    pub traditional: String,
    pub serial: String,
    pub expiration: i64,
}

impl Material {
    pub fn chain(&self) -> String {
        format!("{}{}", self.leaf, self.inner)
    }
}

pub struct Layout {
    pub name: &'static str,
    pub key: KeySpec,
    /// The same for the old certificate and for the new one.
    pub fields: fn(&Material) -> Value,
    /// Where `openssl` finds the leaf and the key.
    pub at: (&'static str, &'static str),
}

pub const fn layout(name: &'static str, fields: fn(&Material) -> Value, at: (&'static str, &'static str)) -> Layout {
    Layout { name, key: KeySpec::EcdsaP256, fields, at }
}

pub fn windows(text: &str) -> String {
    text.replace('\n', "\r\n")
}

pub fn base64(text: &str) -> String {
    BASE64.encode(text)
}

/// DER in base64 is what PEM has between its marks.
pub fn der(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

/// As `base64` without `-w0` prints it.
pub fn in_lines(text: &str) -> String {
    let lines: Vec<_> = text.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    lines.join("\n") + "\n"
}

/// An issuer below a root, as most houses have it.
pub struct Ground {
    pub house: House,
    issuer: VaultPki,
    pub root: String,
}

impl Ground {
    pub async fn new() -> Self {
        let house = House::new().await;
        let (admin, root) = (&house.admin, &house.ca);
        let inner = admin.pki().await;
        let asked = json!({ "common_name": "inner CA", "key_type": "ec", "key_bits": 256 });
        let csr = admin.admin("POST", &format!("{}/intermediate/generate/internal", inner.mount), asked).await;
        let asked = json!({ "csr": csr["data"]["csr"], "common_name": "inner CA", "ttl": "720h" });
        let signed = admin.admin("POST", &format!("{}/root/sign-intermediate", root.mount), asked).await;
        let both = format!("{}\n{}", signed["data"]["certificate"].as_str().unwrap(), root.ca_pem);
        let set = json!({ "certificate": both });
        let set = admin.admin("POST", &format!("{}/intermediate/set-signed", inner.mount), set).await;
        let mut issuers = set["data"]["mapping"].as_object().unwrap().iter();
        let (with_key, _) = issuers.find(|(_, key)| key.as_str().is_some_and(|key| !key.is_empty())).unwrap();
        let default = json!({ "default": with_key });
        admin.admin("POST", &format!("{}/config/issuers", inner.mount), default).await;
        let root = lines(&root.ca_pem);
        let issuer = VaultPki::new(house.vault.clone(), inner.mount, inner.role);
        Self { house, issuer, root }
    }

    /// What `bao write pki/issue/…` answers.
    async fn issued(&self, kind: &KeySpec) -> Value {
        let kind = match kind {
            KeySpec::Rsa2048 => "rsa",
            KeySpec::Ed25519 => "ed25519",
            _ => "ec",
        };
        let asked = json!({ "alt_names": NAME, "ttl": "2h", "key_type": kind });
        let mut role =
            self.house.admin.admin("GET", &format!("{}/roles/servers", self.issuer.mount), Value::Null).await;
        role["data"]["key_type"] = json!(kind);
        let path = format!("{}/roles/{kind}", self.issuer.mount);
        self.house.admin.admin("POST", &path, role["data"].clone()).await;
        let path = format!("{}/issue/{kind}", self.issuer.mount);
        self.house.admin.admin("POST", &path, asked).await["data"].clone()
    }

    pub async fn old(&self, kind: &KeySpec) -> Material {
        let issued = self.issued(kind).await;
        let text = |name: &str| lines(issued[name].as_str().unwrap());
        Material {
            leaf: text("certificate"),
            inner: text("issuing_ca"),
            serial: issued["serial_number"].as_str().unwrap().to_string(),
            expiration: issued["expiration"].as_i64().unwrap(),
            ..self.material(&text("private_key"), kind)
        }
    }

    fn material(&self, key: &str, kind: &KeySpec) -> Material {
        // Ed25519 never had another form.
        let older: &[&str] = if *kind == KeySpec::Ed25519 { &["pkey"] } else { &["pkey", "-traditional"] };
        Material {
            leaf: String::new(),
            inner: String::new(),
            root: self.root.clone(),
            pkcs8: openssl(&["pkey"], key),
            traditional: openssl(older, key),
            serial: String::new(),
            expiration: 0,
        }
    }

    pub fn new_material(&self, certified: &CertifiedKey, kind: &KeySpec) -> Material {
        let leaf = &certified.chain().leaf;
        let pairs: Vec<&str> = (0..leaf.serial.len()).step_by(2).map(|at| &leaf.serial[at..at + 2]).collect();
        Material {
            leaf: pem::certificates(&certified.ders()[..1]),
            inner: pem::certificates(&certified.ders()[1..]),
            serial: pairs.join(":"),
            expiration: leaf.not_after.0,
            ..self.material(&key::to_pem(certified.key()), kind)
        }
    }

    pub async fn certified(&self, kind: KeySpec) -> CertifiedKey {
        let key = key::generate(kind).unwrap();
        let names = names(&[NAME]);
        let csr = csr::make(&key, &names, None).unwrap();
        let lifetime = Some(Duration::from_secs(24 * 60 * 60));
        let order = Order { csr, names: names.clone(), common_name: None, lifetime, replaces: None, now: now() };
        let ders = self.issuer.sign(&order).await.unwrap();
        let kept = Bundle::parse(pem::certificates(&ders).as_bytes()).unwrap().chains().unwrap().remove(0);
        let spec = Spec { names, common_name: None, key: kind, lifetime, renewal: RenewalPolicy::default() };
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

    /// The JSON of a secret goes to Vault as it is.
    pub async fn put(&self, path: &str, data: &str) {
        let url = format!("{}/v1/{}/data/{path}", self.house.admin.address, self.house.kv);
        let request = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap().post(url);
        let body = format!(r#"{{"data":{data}}}"#);
        let answer = request.header("X-Vault-Token", &self.house.admin.root_token).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }

    /// The JSON of a secret as it comes from Vault.
    pub async fn raw(&self, path: &str) -> BTreeMap<String, String> {
        let url = format!("{}/v1/{}/data/{path}", self.house.admin.address, self.house.kv);
        let request = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap().get(url);
        let answer = request.header("X-Vault-Token", &self.house.admin.root_token).send().await.unwrap();
        let mut flat = BTreeMap::new();
        flatten("", std::str::from_utf8(&answer.bytes().await.unwrap()).unwrap(), &mut flat);
        flat.retain(|name, _| name.starts_with("/data/data/"));
        flat
    }

    /// As somebody else reads it: with the command of the server.
    pub async fn read(&self, path: &str) -> Value {
        let admin = &self.house.admin;
        let bao = server::command();
        let mut command = Command::new(bao);
        command.args(["kv", "get", "-format=json", &format!("-mount={}", self.house.kv), path]);
        for prefix in ["BAO", "VAULT"] {
            command.env(format!("{prefix}_ADDR"), &admin.address).env(format!("{prefix}_TOKEN"), &admin.root_token);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["data"]["data"].clone()
    }

    pub async fn renew(&self, layouts: &[Layout]) {
        let (mut rows, mut jobs) = (Vec::new(), Vec::new());
        for layout in layouts {
            let (row, job) = self.renew_one(layout).await;
            rows.push(row);
            jobs.push(job);
        }
        self.read_by_python(&jobs);
        rows.iter().for_each(Row::print);
    }

    async fn renew_one(&self, layout: &Layout) -> (Row, Job) {
        let (name, path) = (layout.name, layout.name.replace(' ', "-"));
        let (old, certified) = (self.old(&layout.key).await, self.certified(layout.key).await);
        let was = (layout.fields)(&old).to_string();
        self.put(&path, &format!("{{{UNKNOWN},{}", &was[1..])).await;
        let before = self.raw(&path).await;
        let store = self.house.store(&path);
        let found = found(name, store.read().await);
        assert_eq!(lines(&old.leaf), openssl_leaf(&found, &old), "{name}");
        assert!(!found.key_differs() && found.stored_key.is_some(), "{name}");
        let based_on = Basis { version: found.version, fingerprint: Some(found.leaf().fingerprint) };
        store.rehearse().await.unwrap();
        let written = store.write(&certified, &based_on).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(written, Written { version: Some(2), unchanged: false }, "{name}");

        let new = self.new_material(&certified, &layout.key);
        let mut expected: Value = serde_json::from_str(&format!("{{{UNKNOWN}}}")).unwrap();
        expected.as_object_mut().unwrap().extend((layout.fields)(&new).as_object().unwrap().clone());
        let after = self.read(&path).await;
        assert_eq!(after, expected, "{name}");
        let (old, fields) = ((layout.fields)(&old), (layout.fields)(&new));
        let kept = same_bytes(name, &before, &self.raw(&path).await, |at| old.pointer(at) == fields.pointer(at));
        openssl_agrees(layout, &after, &new);
        let again = store.write(&certified, &Basis::default()).await.unwrap();
        assert_eq!(again, Written { version: Some(2), unchanged: true }, "{name}");
        let job = Job { path, serial: new.serial.replace(':', ""), at: At::Fields(layout.at.0, layout.at.1) };
        (Row { layout: name.to_string(), kept, readers: "bao, openssl, Python" }, job)
    }

    /// All at once, since an interpreter takes its time to start.
    pub fn read_by_python(&self, jobs: &[Job]) {
        let asked: Vec<Value> = jobs.iter().map(Job::asked).collect();
        let admin = &self.house.admin;
        let input = json!({ "url": admin.address, "token": admin.root_token, "mount": self.house.kv, "jobs": asked });
        let answers: Vec<Value> = serde_json::from_str(&python(READER, &input.to_string())).unwrap();
        assert_eq!(answers.len(), jobs.len());
        for (job, answer) in jobs.iter().zip(answers) {
            assert_eq!(answer, job.expected(), "{}", job.path);
        }
    }

    pub async fn is_held(&self, path: &str, data: Value, why: &str) {
        self.put(path, &data.to_string()).await;
        let store = self.house.store(path);
        let based_on = match store.read().await {
            Sighting::Found(found) => Basis { version: found.version, fingerprint: Some(found.leaf().fingerprint) },
            Sighting::Absent | Sighting::Deleted(_) | Sighting::Crl(_) | Sighting::Unknown(_) => Basis::default(),
        };
        let held = store.write(&self.certified(KeySpec::EcdsaP256).await, &based_on).await.unwrap_err();
        let expected = format!("not written: vault:main:{}/{path}: {why}", self.house.kv);
        assert!(matches!(held, StoreError::Held(_)), "{path}: {held}");
        assert_eq!(held.to_string(), expected);
        assert_eq!(self.house.admin.get(&self.house.kv, path).await, (data, 1), "{path}");
    }
}

pub fn found(name: &str, sighting: Sighting) -> Found {
    match sighting {
        Sighting::Found(found) => *found,
        other => panic!("{name}: {other:?}"),
    }
}

pub fn lines(pem: &str) -> String {
    pem.trim_end().to_string() + "\n"
}

/// The certificate that was found, by the serial that `openssl` reads in the one that was put.
fn openssl_leaf(found: &Found, old: &Material) -> String {
    let serial = openssl(&["x509", "-noout", "-serial"], &old.leaf).to_lowercase();
    assert_eq!(serial.trim_end(), format!("serial={}", found.leaf().serial));
    old.leaf.clone()
}

/// Leaf, key and chain belong together, and the leaf is the new one.
fn openssl_agrees(layout: &Layout, after: &Value, new: &Material) {
    let text = |pointer: &str| after.pointer(pointer).and_then(Value::as_str).unwrap().to_string();
    let (leaf, key) = (opened(&text(layout.at.0), "CERTIFICATE"), opened(&text(layout.at.1), "PRIVATE KEY"));
    // Of several certificates `openssl x509` reads the first, so a chain that ends with the leaf is turned.
    let leaf = match leaf.replace('\r', "").contains(&format!("{}{}", new.inner, new.leaf)) {
        true => leaf[leaf.rfind("-----BEGIN CERTIFICATE").unwrap()..].to_string(),
        false => leaf,
    };
    let public = openssl(&["x509", "-noout", "-pubkey"], &leaf);
    assert_eq!(public, openssl(&["pkey", "-pubout"], &key), "{}", layout.name);
    let serial = openssl(&["x509", "-noout", "-serial"], &leaf).to_lowercase();
    assert_eq!(serial.trim_end(), format!("serial={}", new.serial.replace(':', "")), "{}", layout.name);
    openssl(&["pkey", "-check", "-noout"], &key);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).to_str().unwrap().to_string()
    };
    let (root, inner, leaf) = (file("root", &new.root), file("inner", &new.inner), file("leaf", &leaf));
    openssl(&["verify", "-CAfile", &root, "-untrusted", &inner, &leaf], "");
}

/// PEM from whatever the text is, by `openssl` itself.
fn opened(text: &str, label: &str) -> String {
    if text.contains("-----BEGIN") {
        return text.to_string();
    }
    let packed: String = text.split_whitespace().collect();
    let bytes = openssl_bytes(&["base64", "-d", "-A"], packed.as_bytes());
    match std::str::from_utf8(&bytes) {
        Ok(pem) => pem.to_string(),
        Err(_) if label == "CERTIFICATE" => {
            String::from_utf8(openssl_bytes(&["x509", "-inform", "DER"], &bytes)).unwrap()
        }
        Err(_) => String::from_utf8(openssl_bytes(&["pkey", "-inform", "DER"], &bytes)).unwrap(),
    }
}

/// Every value that is no object, as its JSON text, by its JSON pointer.
fn flatten(at: &str, text: &str, flat: &mut BTreeMap<String, String>) {
    match serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(text) {
        Ok(object) => object.iter().for_each(|(name, value)| flatten(&format!("{at}/{name}"), value.get(), flat)),
        Err(_) => drop(flat.insert(at.to_string(), text.to_string())),
    }
}

/// Whatever is to stay has the same bytes; how many texts, and how many bytes they are.
pub fn same_bytes(
    name: &str,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
    stays: impl Fn(&str) -> bool,
) -> (usize, usize) {
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{name}");
    let (mut texts, mut bytes) = (0, 0);
    for (at, text) in before {
        let pointer = &at["/data/data".len()..];
        if stays(pointer) {
            assert_eq!(after[at], *text, "{name}: {pointer}");
            (texts, bytes) = (texts + 1, bytes + text.len());
        }
    }
    assert!(texts >= 8, "{name}: the unknown fields are there");
    (texts, bytes)
}

/// A line of the table.
pub struct Row {
    pub layout: String,
    /// Texts and bytes.
    pub kept: (usize, usize),
    pub readers: &'static str,
}

impl Row {
    pub fn print(&self) {
        let (texts, bytes) = self.kept;
        println!("| {} | {texts} texts, {bytes} bytes | {} |", self.layout, self.readers);
    }
}

/// What Python is to read, and what it must find.
pub struct Job {
    pub path: String,
    /// Hexadecimal.
    pub serial: String,
    pub at: At,
}

pub enum At {
    /// JSON pointers to the leaf and to the key.
    Fields(&'static str, &'static str),
    /// A JSON pointer to a PKCS#12 file, the password, and what the alias of the entry is.
    Pkcs12 { at: &'static str, password: &'static str, alias: &'static str, above: usize },
}

impl Job {
    fn asked(&self) -> Value {
        match self.at {
            At::Fields(leaf, key) => json!({ "path": self.path, "leaf": leaf, "key": key }),
            At::Pkcs12 { at, password, .. } => json!({ "path": self.path, "p12": at, "password": password }),
        }
    }

    fn expected(&self) -> Value {
        match self.at {
            At::Fields(..) => json!({ "serial": self.serial }),
            At::Pkcs12 { alias, above, .. } => json!({ "serial": self.serial, "alias": alias, "above": above }),
        }
    }
}

/// Reads as somebody does who knows nothing of certd: hvac for the secret, cryptography for what is in it.
const READER: &str = r#"
import base64, json, sys, hvac
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding, PublicFormat, load_der_private_key, load_pem_private_key, pkcs12)

asked = json.load(sys.stdin)
client = hvac.Client(url=asked["url"], token=asked["token"])

def at(data, pointer):
    for name in pointer.split("/")[1:]:
        data = data[int(name)] if isinstance(data, list) else data[name]
    return data.encode()

def digits(serial):
    text = "%x" % serial
    return text if len(text) % 2 == 0 else "0" + text

def opened(text):
    return text if b"-----BEGIN" in text else base64.b64decode(text)

def public(key):
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

def fields(data, job):
    key, leaf = opened(at(data, job["key"])), opened(at(data, job["leaf"]))
    key = (load_pem_private_key if b"-----BEGIN" in key else load_der_private_key)(key, None)
    if b"-----BEGIN" in leaf:
        certificates = x509.load_pem_x509_certificates(leaf)
    else:
        certificates = [x509.load_der_x509_certificate(leaf)]
    own = [c for c in certificates if public(c.public_key()) == public(key.public_key())]
    return {"serial": digits(own[0].serial_number)}

def keystore(data, job):
    store = pkcs12.load_pkcs12(base64.b64decode(at(data, job["p12"])), job["password"].encode())
    leaf = store.cert.certificate
    assert public(leaf.public_key()) == public(store.key.public_key())
    alias = (store.cert.friendly_name or b"").decode()
    return {"serial": digits(leaf.serial_number), "alias": alias, "above": len(store.additional_certs)}

answers = []
for job in asked["jobs"]:
    read = client.secrets.kv.v2.read_secret_version(
        path=job["path"], mount_point=asked["mount"], raise_on_deleted_version=True)
    data = read["data"]["data"]
    answers.append(keystore(data, job) if "p12" in job else fields(data, job))
print(json.dumps(answers))
"#;
