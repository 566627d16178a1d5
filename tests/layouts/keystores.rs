//! PKCS#12 files and Java keystores in fields of a secret, with their passwords beside them or elsewhere.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use certd::domain::inventory::{ObstacleKind, Sighting};
use certd::domain::key::KeySpec;
use certd::domain::plan::Basis;
use certd::store::vault_kv::VaultKvStore;
use certd::store::{StoreError, Written};
use serde_json::{Value, json};

use crate::ground::{At, Ground, Job, Material, Row, UNKNOWN, found, in_lines, same_bytes};
use crate::house::client;
use crate::support::tools::{keytool, openssl, openssl_bytes};

/// Of every keystore here, for `keytool` takes other letters as the locale of the host has them.
const PASSWORD: &str = "changeit";

/// A folder for the files that tools want.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_string()
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        std::fs::write(self.0.path().join(name), bytes).unwrap();
        self.path(name)
    }

    /// Leaf, inner CA and root, in base64.
    fn p12(&self, m: &Material, options: &[&str]) -> String {
        let file = self.file("all.pem", m.pkcs8.clone() + &m.chain() + &m.root);
        let usual = ["pkcs12", "-export", "-in", &file, "-name", "web", "-passout", "pass:changeit"];
        BASE64.encode(openssl_bytes(&[&usual[..], options].concat(), b""))
    }

    /// As `keytool` makes it, with a certificate that is trusted beside the key.
    fn java(&self, m: &Material, kind: &str, key_password: &str) -> String {
        let from = self.file("from.p12", BASE64.decode(self.p12(m, &[])).unwrap());
        let to = self.path(&format!("to.{kind}"));
        let _ = std::fs::remove_file(&to);
        let with = ["-srckeystore", &from, "-srcstorepass", PASSWORD, "-srcalias", "web", "-destkeypass", key_password];
        let to_it = ["-destkeystore", &to, "-deststoretype", kind, "-deststorepass", PASSWORD];
        keytool(&[&["-importkeystore", "-noprompt"], &with[..], &to_it].concat());
        self.trust(&to, kind, m);
        BASE64.encode(std::fs::read(&to).unwrap())
    }

    fn truststore(&self, m: &Material, kind: &str) -> String {
        let path = self.path(&format!("trust.{kind}"));
        let _ = std::fs::remove_file(&path);
        self.trust(&path, kind, m);
        BASE64.encode(std::fs::read(&path).unwrap())
    }

    fn trust(&self, keystore: &str, kind: &str, m: &Material) {
        let root = self.file("root.pem", &m.root);
        let into = ["-keystore", keystore, "-storetype", kind, "-storepass", PASSWORD];
        keytool(&[&["-importcert", "-noprompt", "-alias", "company-root", "-file", &root], &into[..]].concat());
    }

    /// What `keytool` lists: the aliases with what they are, the length of the chain, and the serial of the leaf.
    fn listed(&self, text: &str, kind: &str) -> (Vec<String>, Option<usize>, Option<String>) {
        let packed: String = text.split_whitespace().collect();
        let file = self.file("read-by-java", BASE64.decode(packed).unwrap());
        let list = keytool(&["-list", "-v", "-keystore", &file, "-storetype", kind, "-storepass", PASSWORD]);
        let all = |label: &'static str| list.lines().filter_map(move |line| line.trim().strip_prefix(label));
        let mut entries: Vec<String> =
            all("Alias name: ").zip(all("Entry type: ")).map(|(alias, entry)| format!("{alias} {entry}")).collect();
        entries.sort();
        let chain = all("Certificate chain length: ").next().map(|length| length.parse().unwrap());
        let leaf = list.split("Certificate[1]:").nth(1).and_then(|rest| rest.split("Serial number: ").nth(1));
        let serial = leaf.and_then(|rest| rest.split_whitespace().next()).map(str::to_string);
        (entries, chain, serial)
    }
}

/// How a keystore is kept.
struct Kept {
    name: &'static str,
    /// The fields with the keystore, and where it is among them.
    fields: fn(&Desk, &Material) -> Value,
    at: &'static str,
    kind: &'static str,
    entries: &'static [&'static str],
    /// Of the key, where it is another than that of the store.
    key_password: Option<&'static str>,
    legacy: bool,
    /// What Python calls it: the name on the certificate, which not every tool sets.
    alias: &'static str,
}

const WEB: &[&str] = &["web PrivateKeyEntry"];
const WEB_AND_ROOT: &[&str] = &["company-root trustedCertEntry", "web PrivateKeyEntry"];

const USUAL: Kept = Kept {
    name: "",
    fields: |_, _| Value::Null,
    at: "",
    kind: "PKCS12",
    entries: WEB,
    key_password: None,
    legacy: false,
    alias: "web",
};

impl Ground {
    async fn renew_keystores(&self, all: &[Kept]) {
        let desk = Desk::new();
        let (mut rows, mut jobs) = (Vec::new(), Vec::new());
        for kept in all {
            let (row, job) = self.renew_keystore(&desk, kept).await;
            rows.push(row);
            jobs.extend(job);
        }
        self.read_by_python(&jobs);
        rows.iter().for_each(Row::print);
    }

    async fn renew_keystore(&self, desk: &Desk, kept: &Kept) -> (Row, Option<Job>) {
        let (name, path) = (kept.name, kept.name.replace(' ', "-"));
        let kind = KeySpec::EcdsaP256;
        let (old, certified) = (self.old(&kind).await, self.certified(kind).await);
        let was = (kept.fields)(desk, &old).to_string().replace("MOUNT", &self.house.kv);
        self.put(&path, &format!("{{{UNKNOWN},{}", &was[1..])).await;
        let before = self.raw(&path).await;
        let store = self.house.store(&path);
        let seen = found(name, store.read().await);
        assert_eq!(seen.leaf().serial, old.serial.replace(':', ""), "{name}");
        assert!(!seen.key_differs() && seen.stored_key.is_some(), "{name}");
        store.rehearse().await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let based_on = Basis { version: seen.version, fingerprint: Some(seen.leaf().fingerprint) };
        let written = store.write(&certified, &based_on).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(written, Written { version: Some(2), unchanged: false }, "{name}");
        let again = store.write(&certified, &Basis::default()).await.unwrap();
        assert_eq!(again, Written { version: Some(2), unchanged: true }, "{name}");

        let new = self.new_material(&certified, &kind);
        let serial = new.serial.replace(':', "");
        let after = self.read(&path).await;
        let was: Value = serde_json::from_str(&was).unwrap();
        let keystore = |value: &Value| value.pointer(kept.at).unwrap().as_str().unwrap().to_string();
        let (text_before, text) = (keystore(&was), keystore(&after));
        let widths = |text: &str| text.lines().map(str::len).max().unwrap() <= 76 && text.ends_with('\n');
        assert_eq!(widths(&text), widths(&text_before), "{name}: the lines");
        self.reads_as(desk, kept, &text, &serial);
        let stays =
            |at: &str| at != kept.at && !(kept.name.contains("beside") && ["/tls.crt", "/tls.key"].contains(&at));
        let bytes = same_bytes(name, &before, &self.raw(&path).await, stays);
        let python = kept.kind == "PKCS12";
        let readers = if python { "bao, openssl, keytool, Python" } else { "bao, keytool" };
        let at = At::Pkcs12 { at: kept.at, password: PASSWORD, alias: kept.alias, above: 2 + kept.entries.len() - 1 };
        let job = python.then_some(Job { path, serial, at });
        (Row { layout: name.to_string(), kept: bytes, readers }, job)
    }

    fn reads_as(&self, desk: &Desk, kept: &Kept, text: &str, serial: &str) {
        let (entries, chain, listed) = desk.listed(text, kept.kind);
        assert_eq!(entries, kept.entries, "{}", kept.name);
        assert_eq!(chain, Some(3), "{}: leaf, inner CA and root", kept.name);
        assert_eq!(format!("{:0>width$}", listed.unwrap(), width = serial.len()), serial, "{}", kept.name);
        let file = desk.path("read-by-java");
        let opened = ["-keystore", &file, "-storetype", kept.kind, "-storepass", PASSWORD, "-alias", "web"];
        let key_password = kept.key_password.map(|password| vec!["-keypass", password]).unwrap_or_default();
        // A request is signed, so the key is there and opens.
        keytool(&[&["-certreq"], &opened[..], &key_password].concat());
        if kept.kind == "PKCS12" {
            let legacy: &[&str] = if kept.legacy { &["-legacy"] } else { &[] };
            let usual = ["pkcs12", "-in", &file, "-passin", "pass:changeit", "-nodes"];
            let leaf = openssl(&[&usual[..], &["-clcerts", "-nokeys"], legacy].concat(), "");
            let key = openssl(&[&usual[..], &["-nocerts"], legacy].concat(), "");
            assert!(key.contains("friendlyName: web"), "{}: {key}", kept.name);
            let public = openssl(&["x509", "-noout", "-pubkey"], &leaf);
            assert_eq!(public, openssl(&["pkey", "-pubout"], &key), "{}", kept.name);
        }
    }

    /// The secret stays as it is, and neither message shows a password.
    async fn is_closed(&self, store: &VaultKvStore, path: &str, data: Value, kind: ObstacleKind, why: &str) {
        self.put(path, &data.to_string()).await;
        let Sighting::Unknown(obstacle) = store.read().await else { panic!("{path} was understood") };
        let error = store.write(&self.certified(KeySpec::EcdsaP256).await, &Basis::default()).await.unwrap_err();
        assert_eq!(obstacle.obstacle, kind, "{path}: {}", obstacle.message);
        assert!(obstacle.message.contains(why), "{path}: {}\nlacks\n{why}", obstacle.message);
        let shown = certd::domain::text::with_causes(&error);
        assert!(shown.contains(why), "{path}: {shown}");
        for said in [&obstacle.message, &shown] {
            assert!(!said.contains(PASSWORD) && !said.contains("guess"), "{path}: {said}");
        }
        assert_eq!(matches!(error, StoreError::Held(_)), kind == ObstacleKind::NotUnderstood, "{path}: {error}");
        assert_eq!(self.house.admin.get(&self.house.kv, path).await, (data, 1), "{path}");
    }
}

#[tokio::test]
async fn pkcs12_of_every_profile_with_its_password_wherever_people_put_it() {
    let ground = Ground::new().await;
    ground.put("passwords/web", r#"{"password":"changeit","p12":"changeit"}"#).await;
    ground
        .renew_keystores(&[
            Kept {
                name: "pkcs12",
                fields: |desk, m| json!({ "keystore.p12": desk.p12(m, &[]), "password": "changeit" }),
                at: "/keystore.p12",
                ..USUAL
            },
            Kept {
                name: "pkcs12 of before 2023",
                fields: |desk, m| json!({ "p12": desk.p12(m, &["-legacy"]), "p12_passphrase": "changeit", "pass": "guess" }),
                at: "/p12",
                legacy: true,
                ..USUAL
            },
            Kept {
                name: "pkcs12 with 3DES alone",
                fields: |desk, m| json!({ "pfx": desk.p12(m, &["-legacy", "-descert"]), "keystorePassword": "changeit" }),
                at: "/pfx",
                legacy: true,
                ..USUAL
            },
            Kept {
                name: "pkcs12 in lines",
                fields: |desk, m| json!({ "web": in_lines(&desk.p12(m, &[])), "PKCS12_PASSWORD": "changeit" }),
                at: "/web",
                ..USUAL
            },
            Kept {
                name: "pkcs12 with a password path",
                fields: |desk, m| json!({ "p12": desk.p12(m, &[]), "password_path": "MOUNT/passwords/web" }),
                at: "/p12",
                ..USUAL
            },
            Kept {
                name: "pkcs12 with a password path and a field",
                fields: |desk, m| json!({ "p12": desk.p12(m, &[]), "keystore_password_path": "MOUNT/passwords/web#p12" }),
                at: "/p12",
                ..USUAL
            },
            Kept {
                name: "pkcs12 in an object",
                fields: |desk, m| json!({ "tls": { "p12": desk.p12(m, &[]), "port": 8443 }, "p12_password": "changeit" }),
                at: "/tls/p12",
                ..USUAL
            },
            Kept {
                name: "pkcs12 by java with a trusted certificate",
                fields: |desk, m| json!({ "store": desk.java(m, "PKCS12", "changeit"), "storepass": "changeit" }),
                at: "/store",
                entries: WEB_AND_ROOT,
                ..USUAL
            },
            Kept {
                name: "pkcs12 beside pem and a truststore",
                fields: |desk, m| {
                    json!({
                        "tls.crt": m.chain(), "tls.key": m.pkcs8, "ca.crt": m.root, "keystore.p12": desk.p12(m, &[]),
                        "truststore.p12": desk.truststore(m, "PKCS12"), "keystore_password": "changeit",
                    })
                },
                at: "/keystore.p12",
                ..USUAL
            },
        ])
        .await;
}

#[tokio::test]
async fn jks_is_written_back_as_jks_that_keytool_reads() {
    let ground = Ground::new().await;
    const JKS: Kept = Kept { kind: "JKS", entries: WEB_AND_ROOT, ..USUAL };
    ground
        .renew_keystores(&[
            Kept {
                name: "jks with a trusted certificate",
                fields: |desk, m| json!({ "keystore.jks": desk.java(m, "JKS", "changeit"), "password": "changeit" }),
                at: "/keystore.jks",
                ..JKS
            },
            Kept {
                name: "jks with a password of the key",
                fields: |desk, m| {
                    json!({ "jks": desk.java(m, "JKS", "another"), "jks_password": "changeit", "key_password": "another" })
                },
                at: "/jks",
                key_password: Some("another"),
                ..JKS
            },
            Kept {
                name: "jks in lines in an object beside a truststore",
                fields: |desk, m| {
                    json!({ "java": {
                        "truststore": desk.truststore(m, "JKS"), "keystore": in_lines(&desk.java(m, "JKS", "changeit")),
                        "passphrase": "changeit",
                    }})
                },
                at: "/java/keystore",
                ..JKS
            },
        ])
        .await;
}

#[tokio::test]
async fn a_keystore_that_cannot_be_opened_or_written_is_held_and_no_password_is_shown() {
    let ground = Ground::new().await;
    let (desk, m, kv) = (Desk::new(), ground.old(&KeySpec::EcdsaP256).await, ground.house.kv.clone());
    let p12 = desk.p12(&m, &[]);
    let two = {
        let path = desk.path("two.p12");
        for alias in ["one", "two"] {
            let usual = ["-genkeypair", "-keyalg", "EC", "-dname", "CN=x", "-storetype", "PKCS12"];
            keytool(&[&usual[..], &["-keystore", &path, "-storepass", PASSWORD, "-alias", alias]].concat());
        }
        BASE64.encode(std::fs::read(path).unwrap())
    };
    let elsewhere = ground.house.admin.kv("elsewhere").await;
    ground.house.admin.put(&elsewhere, "web", json!({ "password": PASSWORD })).await;
    ground.put("passwords/other", r#"{"pin":"changeit"}"#).await;
    let no = |why: String| (ObstacleKind::NotUnderstood, why);
    for (path, data, (kind, why)) in [
        (
            "no-password",
            json!({ "p12": p12 }),
            no("the field `p12`, a keystore (PKCS#12): there is no password for it: add a field `p12_password`, or `p12_password_path`".into()),
        ),
        (
            "wrong-password",
            json!({ "p12": p12, "password": "guess" }),
            no("the field `p12`, a keystore (PKCS#12): its password does not open it, or it is damaged".into()),
        ),
        (
            "other-mount",
            json!({ "p12": p12, "password_path": format!("{elsewhere}/web") }),
            no(format!("its password must be in a secret below `{kv}/`, which is not where the field `password_path` says")),
        ),
        (
            "gone",
            json!({ "p12": p12, "p12_password_path": format!("{kv}/passwords/none") }),
            no("its password is not where the field `p12_password_path` says".into()),
        ),
        (
            "no-field",
            json!({ "p12": p12, "password_path": format!("{kv}/passwords/other") }),
            no("its password is not in the field that `password_path` names".into()),
        ),
        (
            "two-keys",
            json!({ "p12": two, "password": PASSWORD }),
            no("it holds 2 private keys (`one`, `two`): give each a keystore of its own".into()),
        ),
        (
            "jceks",
            json!({ "jceks": desk.java(&m, "JCEKS", PASSWORD), "password": PASSWORD }),
            no("convert it by `keytool -importkeystore -deststoretype PKCS12`".into()),
        ),
        (
            "damaged",
            json!({ "jks": BASE64.encode([0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 1]), "password": PASSWORD }),
            no("the field `jks`, a keystore (JKS): it is damaged".into()),
        ),
        (
            "truststore-twice",
            json!({ "a": { "p12": p12, "password": "guess" } }),
            no("in `a`: the field `p12`, a keystore (PKCS#12): its password does not open it".into()),
        ),
    ] {
        ground.is_closed(&ground.house.store(path), path, data, kind, &why).await;
    }
    // What certd may not read.
    let policy = format!(r#"path "{kv}/data/denied" {{ capabilities = ["create", "read", "update"] }}"#);
    let vault = client(&ground.house.admin.address, &ground.house.admin.token(&policy).await);
    let store = VaultKvStore { vault, ..ground.house.store("denied") };
    let data = json!({ "p12": p12, "password_path": format!("{kv}/passwords/other") });
    let why = format!("could not read the password of its keystore: vault:main:{kv}/passwords/other");
    ground.is_closed(&store, "denied", data, ObstacleKind::Denied, &why).await;
}

#[tokio::test]
async fn one_that_disagrees_with_what_is_beside_it_or_only_trusts_is_not_written() {
    let ground = Ground::new().await;
    let (desk, m, other) = (Desk::new(), ground.old(&KeySpec::EcdsaP256).await, ground.old(&KeySpec::EcdsaP256).await);
    let beside = json!({ "cert": m.chain(), "key": m.pkcs8, "p12": desk.p12(&other, &[]), "password": PASSWORD });
    let why = "the field `p12`, a keystore (PKCS#12): another certificate than beside it: remove the one of them that is not in use";
    ground.is_held("beside", beside, why).await;
    let closed = json!({ "cert": m.chain(), "key": m.pkcs8, "p12": desk.p12(&m, &[]) });
    let why = "the field `p12`, a keystore (PKCS#12): there is no password for it: add a field `p12_password`, or \
               `p12_password_path` with the path of a secret of the same mount";
    ground.is_held("closed", closed, why).await;
    let trusting = json!({ "truststore.jks": desk.truststore(&m, "JKS"), "password": PASSWORD });
    ground.is_held("trusting", trusting, "there is no private key in it, only whom to trust").await;
}
