//! Every layout in which people keep a certificate in Vault: put there as they do, read and renewed by certd, and read
//! back by `bao` and `openssl`.

mod house;
mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
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
use house::{House, names, now};
use serde_json::value::RawValue;
use serde_json::{Value, json};

const NAME: &str = "web.example.org";

/// Fields that certd does not know, in JSON that a careless reader would change.
const UNKNOWN: &str = r#""big":10000000000000000000001,"long":0.30000000000000004,"ratio":1.50,"note":"<b>ü& \"q\"\n","nothing":null,"object":{"b":[1,2.5,{"x":null}],"a":true},"owner":"team-web""#;

/// A certificate and its key, as text that tools other than certd wrote.
struct Material {
    leaf: String,
    inner: String,
    root: String,
    pkcs8: String,
    /// PKCS#1 or SEC1.
    traditional: String,
    serial: String,
    expiration: i64,
}

impl Material {
    fn chain(&self) -> String {
        format!("{}{}", self.leaf, self.inner)
    }
}

struct Layout {
    name: &'static str,
    key: KeySpec,
    /// The same for the old certificate and for the new one.
    fields: fn(&Material) -> Value,
    /// Where `openssl` finds the leaf and the key.
    at: (&'static str, &'static str),
}

const fn layout(name: &'static str, fields: fn(&Material) -> Value, at: (&'static str, &'static str)) -> Layout {
    Layout { name, key: KeySpec::EcdsaP256, fields, at }
}

fn windows(text: &str) -> String {
    text.replace('\n', "\r\n")
}

fn base64(text: &str) -> String {
    BASE64.encode(text)
}

/// DER in base64 is what PEM has between its marks.
fn der(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

/// As `base64` without `-w0` prints it.
fn in_lines(text: &str) -> String {
    let lines: Vec<_> = text.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    lines.join("\n") + "\n"
}

/// An issuer below a root, as most houses have it.
struct Ground {
    house: House,
    issuer: VaultPki,
    root: String,
}

impl Ground {
    async fn new() -> Self {
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

    async fn old(&self, kind: &KeySpec) -> Material {
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

    fn new_material(&self, certified: &CertifiedKey, kind: &KeySpec) -> Material {
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

    async fn certified(&self, kind: KeySpec) -> CertifiedKey {
        let key = key::generate(kind).unwrap();
        let names = names(&[NAME]);
        let csr = csr::make(&key, &names, None).unwrap();
        let lifetime = Some(Duration::from_secs(24 * 60 * 60));
        let order = Order { csr, names: names.clone(), common_name: None, lifetime, now: now() };
        let ders = self.issuer.sign(&order).await.unwrap();
        let kept = Bundle::parse(pem::certificates(&ders).as_bytes()).unwrap().chains().unwrap().remove(0);
        let spec = Spec { names, common_name: None, key: kind, lifetime, renewal: RenewalPolicy::default() };
        let request = Request { certificate: "web".into(), spec, key, reason: Reason::Forced, replaces: None };
        request.accept(now(), Signed { chain: kept.chain, ders, trust: Trust::NotJudged }).unwrap()
    }

    /// The JSON of a secret goes to Vault as it is.
    async fn put(&self, path: &str, data: &str) {
        let url = format!("{}/v1/{}/data/{path}", self.house.admin.address, self.house.kv);
        let request = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap().post(url);
        let body = format!(r#"{{"data":{data}}}"#);
        let answer = request.header("X-Vault-Token", &self.house.admin.root_token).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }

    /// The JSON of a secret as it comes from Vault.
    async fn raw(&self, path: &str) -> BTreeMap<String, String> {
        let url = format!("{}/v1/{}/data/{path}", self.house.admin.address, self.house.kv);
        let request = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap().get(url);
        let answer = request.header("X-Vault-Token", &self.house.admin.root_token).send().await.unwrap();
        let mut flat = BTreeMap::new();
        flatten("", std::str::from_utf8(&answer.bytes().await.unwrap()).unwrap(), &mut flat);
        flat.retain(|name, _| name.starts_with("/data/data/"));
        flat
    }

    /// As somebody else reads it: with the command of the server.
    async fn read(&self, path: &str) -> Value {
        let admin = &self.house.admin;
        let bao = support::server::command();
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

    async fn renew(&self, layout: &Layout) {
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
        self.raw_texts_stay(layout, &old, &new, &before, &self.raw(&path).await);
        openssl_agrees(layout, &after, &new);
        let again = store.write(&certified, &Basis::default()).await.unwrap();
        assert_eq!(again, Written { version: Some(2), unchanged: true }, "{name}");
    }

    /// Whatever is the same for both certificates has the same bytes.
    fn raw_texts_stay(
        &self,
        layout: &Layout,
        old: &Material,
        new: &Material,
        before: &BTreeMap<String, String>,
        after: &BTreeMap<String, String>,
    ) {
        let (old, new) = ((layout.fields)(old), (layout.fields)(new));
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{}", layout.name);
        let mut same = 0;
        for (name, text) in before {
            let pointer = &name["/data/data".len()..];
            if old.pointer(pointer) == new.pointer(pointer) {
                assert_eq!(after[name], *text, "{}: {pointer}", layout.name);
                same += 1;
            }
        }
        assert!(same >= 8, "{}: the unknown fields are there", layout.name);
    }

    async fn is_held(&self, path: &str, data: Value, why: &str) {
        self.put(path, &data.to_string()).await;
        let store = self.house.store(path);
        let based_on = match store.read().await {
            Sighting::Found(found) => Basis { version: found.version, fingerprint: Some(found.leaf().fingerprint) },
            Sighting::Absent | Sighting::Unknown(_) => Basis::default(),
        };
        let held = store.write(&self.certified(KeySpec::EcdsaP256).await, &based_on).await.unwrap_err();
        let expected = format!("not written: vault:main:{}/{path}: {why}", self.house.kv);
        assert!(matches!(held, StoreError::Held(_)), "{path}: {held}");
        assert_eq!(held.to_string(), expected);
        assert_eq!(self.house.admin.get(&self.house.kv, path).await, (data, 1), "{path}");
    }
}

fn found(name: &str, sighting: Sighting) -> Found {
    match sighting {
        Sighting::Found(found) => *found,
        other => panic!("{name}: {other:?}"),
    }
}

fn lines(pem: &str) -> String {
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
    let bytes = run(&["base64", "-d", "-A"], packed.as_bytes());
    match std::str::from_utf8(&bytes) {
        Ok(pem) => pem.to_string(),
        Err(_) if label == "CERTIFICATE" => String::from_utf8(run(&["x509", "-inform", "DER"], &bytes)).unwrap(),
        Err(_) => String::from_utf8(run(&["pkey", "-inform", "DER"], &bytes)).unwrap(),
    }
}

fn openssl(arguments: &[&str], input: &str) -> String {
    String::from_utf8(run(arguments, input.as_bytes())).unwrap()
}

fn run(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs the openssl command: apt-get install openssl");
    // A command that reads no input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Every value that is no object, as its JSON text, by its JSON pointer.
fn flatten(at: &str, text: &str, flat: &mut BTreeMap<String, String>) {
    match serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(text) {
        Ok(object) => object.iter().for_each(|(name, value)| flatten(&format!("{at}/{name}"), value.get(), flat)),
        Err(_) => drop(flat.insert(at.to_string(), text.to_string())),
    }
}

#[tokio::test]
async fn the_names_of_every_tool() {
    let ground = Ground::new().await;
    for layout in [
        layout(
            "as pki issue answers",
            |m| {
                json!({
                    "certificate": m.leaf.trim_end(), "private_key": m.traditional.trim_end(),
                    "ca_chain": [m.inner.trim_end(), m.root.trim_end()], "issuing_ca": m.inner.trim_end(),
                    "serial_number": m.serial, "expiration": m.expiration, "private_key_type": "ec",
                })
            },
            ("/certificate", "/private_key"),
        ),
        layout(
            "kubernetes",
            |m| json!({ "tls.crt": m.chain(), "tls.key": m.pkcs8, "ca.crt": m.root }),
            ("/tls.crt", "/tls.key"),
        ),
        layout("cert key chain", |m| json!({ "cert": m.leaf, "key": m.pkcs8, "chain": m.inner }), ("/cert", "/key")),
        layout("crt", |m| json!({ "crt": m.chain(), "key": m.pkcs8 }), ("/crt", "/key")),
        layout("fullchain", |m| json!({ "fullchain": m.chain(), "key": m.pkcs8 }), ("/fullchain", "/key")),
        layout(
            "certbot",
            |m| json!({ "cert": m.leaf, "chain": m.inner, "fullchain": m.chain(), "privkey": m.pkcs8 }),
            ("/fullchain", "/privkey"),
        ),
        layout(
            "mixed names",
            |m| json!({ "certificate": m.leaf, "key": m.pkcs8, "chain": m.inner, "ca": m.root }),
            ("/certificate", "/key"),
        ),
        layout("pem with key first", |m| json!({ "pem": m.pkcs8.clone() + &m.chain() }), ("/pem", "/pem")),
        layout("pem with key last", |m| json!({ "pem": m.chain() + &m.pkcs8 }), ("/pem", "/pem")),
        layout("pem with key between", |m| json!({ "pem": m.leaf.clone() + &m.pkcs8 + &m.inner }), ("/pem", "/pem")),
        layout("pem and key", |m| json!({ "pem": m.chain(), "key": m.pkcs8 }), ("/pem", "/key")),
        layout("key in the certificate", |m| json!({ "cert": m.pkcs8.clone() + &m.chain() }), ("/cert", "/cert")),
    ] {
        ground.renew(&layout).await;
    }
}

#[tokio::test]
async fn the_encoding_of_a_field() {
    let ground = Ground::new().await;
    for layout in [
        layout(
            "windows line ends",
            |m| json!({ "certificate": windows(&m.leaf), "private_key": windows(&m.pkcs8), "ca_chain": windows(&m.inner) }),
            ("/certificate", "/private_key"),
        ),
        layout(
            "pem in base64",
            |m| json!({ "tls.crt": base64(&m.chain()), "tls.key": base64(&m.pkcs8), "ca.crt": base64(&m.root) }),
            ("/tls.crt", "/tls.key"),
        ),
        layout(
            "windows pem in base64 in lines",
            |m| json!({ "cert": in_lines(&base64(&windows(&m.chain()))), "key": in_lines(&base64(&m.traditional)) }),
            ("/cert", "/key"),
        ),
        layout(
            "key and chain in base64",
            |m| json!({ "pem": base64(&(m.traditional.clone() + &m.chain())) }),
            ("/pem", "/pem"),
        ),
        layout(
            "der in base64",
            |m| json!({ "certificate": der(&m.leaf), "private_key": der(&m.pkcs8), "ca_chain": [der(&m.inner)] }),
            ("/certificate", "/private_key"),
        ),
        layout(
            "der in base64 in lines with a root",
            |m| {
                json!({
                    "certificate": in_lines(&der(&m.leaf)), "private_key": der(&m.traditional),
                    "ca_chain": [der(&m.inner), der(&m.root)], "issuing_ca": der(&m.inner),
                })
            },
            ("/certificate", "/private_key"),
        ),
        layout(
            "der beside pem",
            |m| json!({ "cert": der(&m.leaf), "key": m.pkcs8, "fullchain": m.chain() }),
            ("/cert", "/key"),
        ),
    ] {
        ground.renew(&layout).await;
    }
}

#[tokio::test]
async fn the_order_and_the_form_of_the_chain() {
    let ground = Ground::new().await;
    for layout in [
        layout("leaf last", |m| json!({ "cert": m.inner.clone() + &m.leaf, "key": m.pkcs8 }), ("/cert", "/key")),
        layout(
            "root first",
            |m| json!({ "fullchain": (m.root.clone() + &m.inner + &m.leaf), "cert": m.leaf, "key": m.pkcs8 }),
            ("/cert", "/key"),
        ),
        layout(
            "root last",
            |m| json!({ "tls.crt": m.chain() + &m.root, "tls.key": m.pkcs8 }),
            ("/tls.crt", "/tls.key"),
        ),
        layout(
            "chain from the root",
            |m| json!({ "certificate": m.leaf, "private_key": m.pkcs8, "ca_chain": [m.root, m.inner] }),
            ("/certificate", "/private_key"),
        ),
        layout(
            "chain with the leaf",
            |m| json!({ "certificate": m.leaf, "private_key": m.pkcs8, "ca_chain": [m.leaf, m.inner, m.root] }),
            ("/certificate", "/private_key"),
        ),
        layout(
            "chain as one text in a list",
            |m| json!({ "certificate": m.leaf, "private_key": m.pkcs8, "ca_chain": [m.inner.clone() + &m.root] }),
            ("/certificate", "/private_key"),
        ),
        layout(
            "chain as one text",
            |m| json!({ "cert": m.leaf, "key": m.pkcs8, "chain": m.chain().trim_end() }),
            ("/cert", "/key"),
        ),
        layout(
            "all in the list of the certificate",
            |m| json!({ "certificate": [m.leaf, m.inner], "private_key": m.pkcs8 }),
            ("/certificate/0", "/private_key"),
        ),
    ] {
        ground.renew(&layout).await;
    }
}

#[tokio::test]
async fn the_form_of_the_key() {
    let ground = Ground::new().await;
    let with = |name, key, fields| Layout { key, ..layout(name, fields, ("/cert", "/key")) };
    for layout in [
        with(
            "pkcs1",
            KeySpec::Rsa2048,
            |m| json!({ "cert": m.chain(), "key": m.traditional, "private_key_type": "rsa" }),
        ),
        with("pkcs1 in der", KeySpec::Rsa2048, |m| json!({ "cert": m.chain(), "key": der(&m.traditional) })),
        with("rsa in pkcs8", KeySpec::Rsa2048, |m| json!({ "cert": m.chain(), "key": m.pkcs8 })),
        with("sec1", KeySpec::EcdsaP256, |m| json!({ "cert": m.chain(), "key": m.traditional })),
        with("sec1 in der", KeySpec::EcdsaP256, |m| json!({ "cert": m.chain(), "key": der(&m.traditional) })),
        with("ed25519", KeySpec::Ed25519, |m| json!({ "cert": m.chain(), "key": m.pkcs8 })),
    ] {
        ground.renew(&layout).await;
    }
}

#[tokio::test]
async fn fields_in_an_object_of_their_own() {
    let ground = Ground::new().await;
    for layout in [
        layout(
            "in an object",
            |m| json!({ "tls": { "certificate": m.chain(), "private_key": m.pkcs8, "note": "<&>", "port": 8443 } }),
            ("/tls/certificate", "/tls/private_key"),
        ),
        layout(
            "in an object that is named as a field",
            |m| json!({ "certificate": { "crt": m.chain(), "key": m.pkcs8 } }),
            ("/certificate/crt", "/certificate/key"),
        ),
        layout(
            "a whole kubernetes secret",
            |m| {
                json!({
                    "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": { "name": "web" },
                    "data": { "tls.crt": base64(&m.chain()), "tls.key": base64(&m.pkcs8), "z": base64("1") },
                })
            },
            ("/data/tls.crt", "/data/tls.key"),
        ),
        layout(
            "a whole answer of pki issue",
            |m| {
                json!({ "request_id": "x", "lease_duration": 0, "deep": { "data": {
                    "certificate": m.leaf, "private_key": m.traditional, "ca_chain": [m.inner], "issuing_ca": m.inner,
                    "serial_number": m.serial, "expiration": m.expiration.to_string(), "a": [1, { "b": 1.5 }],
                }}})
            },
            ("/deep/data/certificate", "/deep/data/private_key"),
        ),
    ] {
        ground.renew(&layout).await;
    }
}

#[tokio::test]
async fn a_note_that_is_not_of_the_old_certificate_is_somebodys_own() {
    let ground = Ground::new().await;
    let layout = layout(
        "notes",
        |m| json!({ "cert": m.chain(), "key": m.pkcs8, "serial_number": "4711", "expiration": 1, "not_after": "soon" }),
        ("/cert", "/key"),
    );
    ground.renew(&layout).await;
}

#[tokio::test]
async fn what_would_be_lost_or_is_not_understood_is_held() {
    let ground = Ground::new().await;
    let (m, other) = (ground.old(&KeySpec::EcdsaP256).await, ground.old(&KeySpec::EcdsaP256).await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("both.pem").to_str().unwrap().to_string();
    std::fs::write(&file, m.pkcs8.clone() + &m.chain()).unwrap();
    let p12 = BASE64.encode(run(&["pkcs12", "-export", "-in", &file, "-passout", "pass:secret"], b""));
    let jks = BASE64.encode([0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 1]);
    let encrypted = openssl(&["pkcs8", "-topk8", "-passout", "pass:secret"], &m.pkcs8);
    let pair = |m: &Material| json!({ "certificate": m.chain(), "private_key": m.pkcs8 });
    for (path, data, why) in [
        (
            "p12",
            json!({ "store": p12, "password": "secret" }),
            "the field `store` is a keystore (PKCS#12 or JKS), which certd does not read: keep the certificate as PEM",
        ),
        (
            "jks",
            json!({ "keystore": jks }),
            "the field `keystore` is a keystore (PKCS#12 or JKS), which certd does not read: keep the certificate as PEM",
        ),
        (
            "p12-beside",
            json!({ "cert": m.chain(), "key": m.pkcs8, "p12": p12 }),
            "the field `p12` is a keystore (PKCS#12 or JKS), which certd does not write: remove it, or renew it by hand",
        ),
        (
            "two-objects",
            json!({ "web": pair(&m), "web-old": pair(&m) }),
            "it holds 2 certificates that do not belong together",
        ),
        (
            "two-leaves",
            json!({ "pem": m.pkcs8.clone() + &m.leaf + &other.leaf }),
            "2 certificates that are no CA's: give each a place of its own",
        ),
        (
            "two-keys",
            json!({ "cert": m.pkcs8.clone() + &m.chain(), "key": other.pkcs8 }),
            "it holds several private keys: remove all but that of its certificate",
        ),
        (
            "two-names",
            json!({ "certificate": m.chain(), "private_key": m.pkcs8, "key": other.pkcs8 }),
            "certificates under several names (`certificate`, `key`): remove all but one",
        ),
        (
            "parameters",
            json!({ "pem": m.pkcs8.clone() + &m.chain() + "-----BEGIN DH PARAMETERS-----\nMAYCAQ8CAQI=\n-----END DH PARAMETERS-----\n" }),
            "the field `pem` also holds a block that certd would lose, so give it a field of its own: DH PARAMETERS",
        ),
        (
            "no-room",
            json!({ "cert": der(&m.leaf), "key": der(&m.pkcs8) }),
            "the field `cert`: DER in base64 has room for one certificate and no chain: add an empty field `ca_chain` for it",
        ),
        (
            "encrypted",
            json!({ "cert": m.chain(), "key": encrypted }),
            "a key in a form not read: ENCRYPTED PRIVATE KEY",
        ),
        (
            "encrypted-der",
            json!({ "tls": { "cert": m.chain(), "key": der(&encrypted) } }),
            "in `tls`: base64 of neither one certificate nor a key: a private key of a kind that certd does not read (it reads RSA, ECDSA P-256/384/521, Ed25519)",
        ),
        (
            "escaped",
            json!({ "cert": m.chain().replace('\n', "\\n"), "key": m.pkcs8 }),
            "the field `cert`: the PEM is damaged: invalid data: Invalid symbol 92, offset 0.",
        ),
        ("a-list", json!({ "cert": m.chain(), "key": [m.pkcs8] }), "the field `key` is a list: make it one text"),
        (
            "an-array",
            json!({ "tls": [pair(&m)] }),
            "it holds other fields and no certificate: empty it, or keep the certificate at another path",
        ),
    ] {
        ground.is_held(path, data, why).await;
    }
}

#[tokio::test]
async fn a_sweep_tells_of_keystores_and_of_every_object_and_passes_over_the_rest() {
    let ground = Ground::new().await;
    let m = ground.old(&KeySpec::EcdsaP256).await;
    let pair = json!({ "cert": m.leaf, "key": m.pkcs8 });
    let jks = BASE64.encode([0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 1]);
    for (path, data) in [
        ("keystore", json!({ "alias": "web", "jks": jks })),
        ("two", json!({ "web": pair, "api": { "tls": pair }, "note": {} })),
        ("deep", json!({ "tls": { "crt": base64(&m.leaf) } })),
        ("settings", json!({ "tls": { "port": 8443 }, "token": base64("a token that is long enough") })),
    ] {
        ground.put(path, &data.to_string()).await;
    }
    let seen = ground.house.seen(&["*"], &[]).await;
    let expected = [
        "vault:deep web.example.org v1",
        "vault:keystore not_understood",
        "vault:two#1 web.example.org v1",
        "vault:two#2 web.example.org v1",
    ];
    assert_eq!(seen, expected);
}
