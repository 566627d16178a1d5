//! `certd history`, `diff` and `rollback` against a real server: the versions of a secret are what they are,
//! going back is a new version, and no output ever shows a key.

mod support;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use base64::Engine;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SerialNumber};
use serde_json::{Value, json};
use support::certd::{Certd, certd, output};
use support::vault::{Vault, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a field that certd does not know holds; nobody may see it printed.
const SECRET: &str = "hunter2";

/// A mount, and a folder with certd's environment.
struct Scene {
    vault: Vault,
    mount: String,
    home: tempfile::TempDir,
}

/// How one run ended.
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Its certificate in PEM, and what signs.
static CA: LazyLock<(String, Issuer<'static, KeyPair>)> = LazyLock::new(|| {
    let (mut ca, key) = (params(&[], -900, 900), KeyPair::generate().unwrap());
    ca.distinguished_name.push(DnType::CommonName, "History CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (ca.self_signed(&key).unwrap().pem(), Issuer::new(ca, key))
});

/// A leaf and its key, in PEM.
struct Pair {
    leaf: String,
    key: String,
    serial: String,
}

fn pair(names: &[&str], from: i64, to: i64) -> Pair {
    let mut params = params(names, from, to);
    static COUNT: AtomicU64 = AtomicU64::new(0x41_0000);
    let serial = COUNT.fetch_add(1, Ordering::Relaxed);
    params.serial_number = Some(SerialNumber::from(serial));
    let serial = format!("{serial:x}");
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &CA.1).unwrap();
    Pair { leaf: leaf.pem(), key: key.serialize_pem(), serial }
}

/// Days from now.
fn params(names: &[&str], from: i64, to: i64) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let day = |days: i64| time::OffsetDateTime::now_utc() + time::Duration::days(days);
    (params.not_before, params.not_after) = (day(from), day(to));
    params
}

fn web() -> Pair {
    pair(&["web.example.org"], -10, 80)
}

fn fields(pair: &Pair) -> Value {
    json!({ "certificate": pair.leaf, "private_key": pair.key, "ca_chain": [], "password": SECRET })
}

impl Scene {
    async fn new() -> Self {
        let vault = server().await;
        let mount = vault.kv("history").await;
        let home = tempfile::tempdir().unwrap();
        Self { vault, mount, home }
    }

    /// As it is written on the command line.
    fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.mount)
    }

    async fn put(&self, data: Value) -> u64 {
        self.vault.put(&self.mount, "tls/web", data).await
    }

    async fn now(&self) -> (Value, u64) {
        self.vault.get(&self.mount, "tls/web").await
    }

    async fn end(&self, how: &str, version: u64) {
        let (method, path) = ("POST", format!("{}/{how}/tls/web", self.mount));
        self.vault.admin(method, &path, json!({ "versions": [version] })).await;
    }

    fn certd(&self, arguments: &[&str]) -> Run {
        self.certd_as(&self.vault.root_token, &self.vault.address, arguments)
    }

    fn certd_as(&self, token: &str, address: &str, arguments: &[&str]) -> Run {
        let mut command = self.command(arguments);
        let output = output(command.env("VAULT_ADDR", address).env("VAULT_TOKEN", token), b"");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let run = Run { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) };
        for shown in [&run.stdout, &run.stderr] {
            assert!(!shown.contains("PRIVATE") && !shown.contains("MIG") && !shown.contains(SECRET), "{shown}");
        }
        run
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = certd();
        command.args(arguments).current_dir(self.home.path()).env_clear().env("HOME", self.home.path());
        command
    }

    fn configured(&self, address: &str, more: &str) {
        self.configured_to(true, address, more);
    }

    /// A configuration that knows this Vault as `main`, with `more` in it.
    fn configured_to(&self, act: bool, address: &str, more: &str) {
        std::fs::write(self.home.path().join("token"), &self.vault.root_token).unwrap();
        std::fs::write(self.home.path().join("roots.pem"), &CA.0).unwrap();
        let config = format!(
            "state_dir = \"state\"\nact = {act}\nlisten = {{ address = \"127.0.0.1:0\" }}\n[vault.main]\naddress = \"{address}\"\ntoken_file = \"token\"\n\
             [issuer.own.local_ca]\ndirectory = \"ca\"\ncreate = true\n{more}"
        );
        std::fs::write(self.home.path().join("certd.toml"), config).unwrap();
    }

    fn declared(&self) -> String {
        format!(
            "[[certificate]]\nname = \"web\"\nnames = [\"web.example.org\"]\nissuer = \"own\"\n\
             store.vault_kv = {{ vault = \"main\", path = \"{}\" }}\n",
            self.at("tls/web")
        )
    }
}

/// The lines after the first, each with single spaces.
fn lines(text: &str) -> Vec<String> {
    text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn certificates(run: &Run) -> Value {
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{}", run.stdout);
    serde_json::from_str(&run.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_is_shown_as_what_it_is_newest_first() {
    let scene = Scene::new().await;
    let (third, fifth) = (pair(&["a.example.org", "b.example.org"], -10, 80), web());
    scene.put(fields(&web())).await;
    scene.put(fields(&web())).await;
    scene.put(fields(&third)).await;
    scene.put(json!({ "password": SECRET })).await;
    scene.put(fields(&fifth)).await;
    scene.end("destroy", 1).await;
    scene.end("delete", 2).await;
    let noted = json!({ "custom_metadata": { "managed_by": "certd@ops1", "serial": fifth.serial } });
    scene.vault.admin("POST", &format!("{}/metadata/tls/web", scene.mount), noted).await;
    let run = scene.certd(&["history", &scene.at("tls/web"), "--format", "json"]);
    let told = certificates(&run);
    assert_eq!(told["location"], format!("vault:{}", scene.at("tls/web")));
    let rows = told["versions"].as_array().unwrap();
    let short: Vec<Value> =
        rows.iter().map(|row| json!([row["version"], row["state"], row["serial"], row["by"], row["names"]])).collect();
    assert_eq!(
        short,
        [
            json!([5, "current", fifth.serial, "certd@ops1", ["web.example.org"]]),
            json!([4, "earlier", null, null, null]),
            json!([3, "earlier", third.serial, null, ["a.example.org", "b.example.org"]]),
            json!([2, "deleted", null, null, null]),
            json!([1, "destroyed", null, null, null]),
        ]
    );
    assert_eq!(
        (&rows[0]["issuer"], &rows[1]["note"]),
        (&json!("CN=History CA"), &json!("there is no certificate in it"))
    );
    let table = scene.certd(&["history", &format!("vault:{}", scene.at("tls/web"))]);
    let lines = lines(&table.stdout);
    assert_eq!((table.code, lines.len()), (0, 7), "{}", table.stdout);
    assert_eq!(lines[1], "VERSION STATE WRITTEN BY SERIAL NAMES ISSUER LIFETIME NOTE");
    let text = |key: &str| rows[0][key].as_str().unwrap();
    assert_eq!(
        lines[2],
        format!(
            "5 current {} certd@ops1 {} web.example.org CN=History CA from {} to {}",
            text("written_at"),
            text("serial"),
            text("not_before"),
            text("not_after")
        )
    );
    assert!(lines[5].starts_with("2 deleted ") && lines[6].starts_with("1 destroyed "), "{}", table.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_read_the_metadata_is_told_which_right_is_missing() {
    let scene = Scene::new().await;
    scene.put(fields(&web())).await;
    let token = scene.vault.token(&format!("path \"{}/data/*\" {{ capabilities = [\"read\"] }}", scene.mount)).await;
    let run = scene.certd_as(&token, &scene.vault.address, &["history", &scene.at("tls/web")]);
    assert_eq!((run.code, run.stdout.as_str()), (3, ""));
    let hint = format!("hint: give certd `read` on {}/metadata/tls/web,", scene.mount);
    assert!(run.stderr.contains(&hint), "{}", run.stderr);
    scene.put(fields(&web())).await;
    let run = scene.certd_as(&token, &scene.vault.address, &["diff", &format!("{}@2", scene.at("tls/web"))]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let run = scene.certd_as(&token, &scene.vault.address, &["rollback", &scene.at("tls/web"), "--to", "1"]);
    let hint = format!("hint: give certd `create` and `update` on {}/data/tls/web,", scene.mount);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains(&hint), "{}", run.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_not_there_is_no_empty_history() {
    let scene = Scene::new().await;
    let run = scene.certd(&["history", &scene.at("tls/none")]);
    let told = format!("certd: no version of a secret is kept there: vault:{}\n", scene.at("tls/none"));
    assert_eq!((run.code, run.stdout.as_str(), run.stderr), (3, "", told));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_names_what_changed_and_shows_no_value() {
    let scene = Scene::new().await;
    let (old, new) =
        (pair(&["a.example.org", "b.example.org"], -10, 80), pair(&["b.example.org", "c.example.org"], -5, 85));
    let mut first = fields(&old);
    first["owner"] = json!("hunter2-team");
    scene.put(first).await;
    let mut second = fields(&new);
    second["password"] = json!("hunter2-too");
    second["note"] = json!({ "x": SECRET });
    scene.put(second).await;
    // The same certificate and key again.
    scene.put(fields(&new)).await;
    let run = scene.certd(&["diff", &format!("{}@1..2", scene.at("tls/web"))]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let told = lines(&run.stdout);
    assert_eq!(told[1], format!("serial {} → {}", old.serial, new.serial));
    assert_eq!(told[2], "names added: c.example.org; removed: a.example.org; kept: b.example.org");
    assert_eq!(told[3], "issuer the same: CN=History CA");
    assert_eq!(told[4], "usages the same: any extended key usage, any key usage");
    assert_eq!(told[5..8], ["key changed", "key type the same: ecdsa-p256", "chain the same: none"]);
    assert!(told[8].starts_with("lifetime from ") && told[8].contains(" → from "), "{}", told[8]);
    assert_eq!(told[9..], ["fields added: note; removed: owner; changed: password"]);
    let run = scene.certd(&["diff", &format!("{}@3", scene.at("tls/web"))]);
    let told = lines(&run.stdout);
    assert_eq!((&*told[5], &*told[9]), ("key the same", "fields removed: note; changed: password"));
    scene.end("delete", 1).await;
    let run = scene.certd(&["diff", &format!("{}@1..3", scene.at("tls/web"))]);
    assert!(run.code == 3 && run.stderr.contains(" was deleted on "), "{}", run.stderr);
    let run = scene.certd(&["diff", &format!("{}@3..9", scene.at("tls/web"))]);
    assert!(run.code == 3 && run.stderr.contains("there is no version 9 of "), "{}", run.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_is_a_new_version_that_holds_what_the_old_one_held() {
    let scene = Scene::new().await;
    let mut old = fields(&web());
    old["large"] = json!(0.30000000000000004);
    scene.put(old.clone()).await;
    scene.put(fields(&pair(&["web.example.org"], -1, 89))).await;
    let at = scene.at("tls/web");
    let dry = scene.certd(&["rollback", &at, "--to", "1", "--dry-run"]);
    assert_eq!((dry.code, scene.now().await.1), (0, 2));
    assert!(dry.stdout.contains("what version 1 held becomes version 3, in place of version 2"), "{}", dry.stdout);
    let run = scene.certd(&["rollback", &at, "--to", "1"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert!(run.stdout.contains("key       changed\n"), "{}", run.stdout);
    assert!(run.stdout.contains("written as version 3 and read back\nno configuration was given: "), "{}", run.stdout);
    assert_eq!(scene.now().await, (old.clone(), 3));
    let again = scene.certd(&["rollback", &at, "--to", "1"]);
    assert!(again.code == 0 && again.stdout.contains("nothing is to be written"), "{}", again.stdout);
    assert_eq!(scene.now().await, (old.clone(), 3));
    // One that was deleted is still the version that a write must name.
    scene.end("delete", 3).await;
    let run = scene.certd(&["rollback", &at, "--to", "1"]);
    assert_eq!((run.code, scene.now().await), (0, (old, 4)), "{}", run.stderr);
    // Without a configuration no journal is begun.
    assert_eq!(std::fs::read_dir(scene.home.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_write_would_let_through_is_not_written_back() {
    let scene = Scene::new().await;
    let mut mixed = fields(&web());
    mixed["private_key"] = fields(&web())["private_key"].clone();
    let mut bare = fields(&web());
    bare["private_key"] = json!("");
    let sound = fields(&web());
    for data in [
        fields(&pair(&["web.example.org"], -90, -1)),
        mixed,
        bare,
        json!({ "password": SECRET }),
        fields(&pair(&["web.example.org"], 5, 90)),
        sound.clone(),
        fields(&web()),
        fields(&web()),
        sound.clone(),
    ] {
        scene.put(data).await;
    }
    scene.end("delete", 7).await;
    scene.end("destroy", 8).await;
    for (version, why) in [
        ("1", "its certificate ended on "),
        ("2", "its key does not belong to its certificate"),
        ("3", "there is no private key beside the certificate: "),
        ("4", "there is no certificate in it"),
        ("5", "its certificate begins on "),
        ("7", " was deleted on "),
        ("8", " was destroyed: what it held is lost"),
        ("10", "there is no version 10 of "),
    ] {
        let run = scene.certd(&["rollback", &scene.at("tls/web"), "--to", version]);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{version}: {}", run.stderr);
        assert!(run.stderr.contains(why) && run.stderr.contains(&scene.mount), "{version}: {}", run.stderr);
    }
    assert_eq!(scene.now().await, (sound, 9));
    scene.put(json!({ "password": SECRET })).await;
    let run = scene.certd(&["rollback", &scene.at("tls/web"), "--to", "6"]);
    assert_eq!((run.code, scene.now().await.1), (1, 10), "{}", run.stderr);
    assert!(run.stderr.contains("it holds other fields and no certificate now"), "{}", run.stderr);
    // What is there now may be damaged: that is a reason to go back.
    scene.put(json!({ "certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----" })).await;
    let run = scene.certd(&["rollback", &scene.at("tls/web"), "--to", "6"]);
    assert_eq!((run.code, scene.now().await.1), (0, 12), "{}", run.stderr);
    assert!(run.stdout.contains("what is there now is not understood: "), "{}", run.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_was_gone_back_to_is_held_until_a_person_releases_it() {
    let scene = Scene::new().await;
    scene.put(fields(&web())).await;
    let adopt = "[[adopt]]\nfound.vault_kv = { vault = \"main\", paths = [\"MOUNT/tls/**\"] }\nissuer = \"own\"\n\
                 names = [\"*.example.org\"]\nroots = [\"roots.pem\"]\n";
    let adopt = adopt.replace("MOUNT", &scene.mount);
    let adopted = format!("vault:main:{}", scene.at("tls/web"));
    for (more, name, version) in [(scene.declared(), "web", 3), (adopt, adopted.as_str(), 5)] {
        scene.configured(&scene.vault.address, &more);
        scene.put(fields(&web())).await;
        let run = scene.certd(&["rollback", &scene.at("tls/web"), "--to", "1", "--config", "certd.toml"]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{name}");
        let told = scene.certd(&["audit", "export", "--certificate", name, "--config", "certd.toml"]).stdout;
        let events: Vec<&str> =
            told.lines().map(|line| line.split("\"event\":\"").nth(1).unwrap().split('"').next().unwrap()).collect();
        assert_eq!(events[events.len() - 4..], ["rollback", "pause", "done", "done"], "{told}");
        assert!(told.contains(&format!("\"message\":\"written as version {version} and read back\"")), "{told}");
        let last = format!("{name} is held: certd renews it only after `certd resume {name}`\n");
        assert!(run.stdout.ends_with(&last), "{}", run.stdout);
        let renewed = scene.certd(&["renew", name, "--force", "--config", "certd.toml"]);
        assert!(renewed.stdout.contains("paused until 9999-12-31T23:59:59Z"), "{}{}", renewed.stdout, renewed.stderr);
        assert_eq!((renewed.code, scene.now().await.1), (1, version));
        let resumed = scene.certd(&["resume", name, "--config", "certd.toml"]);
        assert_eq!((resumed.code, resumed.stdout), (0, format!("resumed: {name}\n")));
    }
    // A place of nobody's.
    scene.vault.put(&scene.mount, "other", fields(&web())).await;
    scene.vault.put(&scene.mount, "other", fields(&web())).await;
    let run = scene.certd(&["rollback", &scene.at("other"), "--to", "1", "--config", "certd.toml"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.ends_with("no certificate of certd.toml is kept there, so none is held\n"), "{}", run.stdout);
}

/// In a PKCS#12 file under `hunter2`, as `openssl` makes it.
/// Ed25519 in PKCS#8, SEC1, PKCS#8 and PKCS#1.
const CANARIES: &str = include_str!("properties/canaries.pem");

type Damage = fn(&str) -> String;

/// Ways in which people and scripts damage PEM.
const DAMAGE: [(&str, Damage); 13] = [
    ("double", |key| key.replace('\n', "\n\n")),
    ("one line", |key| key.replace('\n', " ")),
    ("glued", |key| key.replace('\n', "")),
    ("escaped", |key| key.replace('\n', "\\n")),
    ("returns", |key| key.replace('\n', "\r")),
    ("a dash", |key| key.replacen("-----BEGIN", "----BEGIN", 1)),
    ("behind", |key| key.replace("\n-----END", "-----END")),
    ("no end", |key| key.split("-----END").next().unwrap().to_string()),
    ("body", |key| body(key) + "\n"),
    ("label", |key| format!("-----BEGIN {0}-----\nAAAA\n-----END {0}-----\n", body(key))),
    ("half", |key| key[..key.len() / 2].to_string()),
    ("certificate", |key| key.replace("EC PRIVATE KEY", "CERTIFICATE").replace("PRIVATE KEY", "CERTIFICATE")),
    ("indented", |key| key.replace('\n', "\n    ")),
];

fn body(key: &str) -> String {
    key.lines().filter(|line| !line.contains("-----")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_repeats_a_damaged_key_of_any_version() {
    let scene = Scene::new().await;
    let (secret, pair) = (scene.at("tls/web"), web());
    let blocks = CANARIES.split_inclusive("KEY-----\n").collect::<Vec<_>>();
    let keys = [0, 1].map(|nth| blocks[2 * nth..2 * nth + 2].concat());
    let (mut outputs, mut versions) = (0, 1);
    scene.vault.admin("POST", &format!("{}/config", scene.mount), json!({ "max_versions": 200 })).await;
    scene.put(fields(&pair)).await;
    for key in &keys {
        let secret_part = body(key);
        for (how, damage) in DAMAGE {
            let damaged = damage(key);
            for fields in [
                json!({ "certificate": pair.leaf, "private_key": damaged }),
                json!({ "certificate": damaged, "private_key": pair.leaf }),
                json!({ "pem": format!("{damaged}{}", pair.leaf) }),
                json!({ "keystore": damaged, "password": damaged }),
            ] {
                scene.put(fields).await;
                versions += 1;
                let number = versions.to_string();
                let diff = format!("{secret}@1..{number}");
                for arguments in [
                    &["diff", &diff][..],
                    &["rollback", &secret, "--to", "1", "--dry-run"],
                    &["rollback", &secret, "--to", &number, "--dry-run"],
                ] {
                    let run = scene.certd(arguments);
                    is_not_repeated(&run, &secret_part, how);
                    outputs += 1;
                }
            }
        }
    }
    for format in ["table", "json"] {
        let run = scene.certd(&["history", &secret, "--format", format]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        keys.iter().for_each(|key| is_not_repeated(&run, &body(key), format));
        outputs += 1;
    }
    println!("{versions} versions, {outputs} outputs");
    assert_eq!((versions, outputs), (1 + 2 * 13 * 4, 2 * 13 * 4 * 3 + 2));
}

fn is_not_repeated(run: &Run, secret: &str, about: &str) {
    let said = format!("{}{}", run.stdout, run.stderr);
    let found = secret.as_bytes().windows(12).any(|piece| said.contains(std::str::from_utf8(piece).unwrap()));
    assert!(!found, "{about}: {said}");
}

fn p12(pair: &Pair) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pair.pem");
    std::fs::write(&file, pair.key.clone() + &pair.leaf).unwrap();
    let file = file.to_str().unwrap();
    let bytes = support::tools::openssl_bytes(&["pkcs12", "-export", "-in", file, "-passout", "pass:hunter2"], b"");
    json!(base64::engine::general_purpose::STANDARD.encode(bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keystore_is_told_of_and_gone_back_to_as_any_other_layout() {
    let scene = Scene::new().await;
    let (old, new) = (pair(&["web.example.org"], -10, 80), pair(&["web.example.org"], -1, 89));
    let first = json!({ "p12": p12(&old), "password": SECRET });
    scene.put(first.clone()).await;
    scene.put(json!({ "p12": p12(&new), "password": SECRET })).await;
    let at = scene.at("tls/web");
    let told = certificates(&scene.certd(&["history", &at, "--format", "json"]));
    let serials: Vec<_> = told["versions"].as_array().unwrap().iter().map(|row| row["serial"].clone()).collect();
    assert_eq!(serials, [new.serial.clone(), old.serial.clone()]);
    let run = scene.certd(&["diff", &format!("{at}@2")]);
    let told = lines(&run.stdout);
    assert_eq!((&*told[5], &*told[9]), ("key changed", "fields no other changed"), "{}{}", run.stdout, run.stderr);
    let run = scene.certd(&["rollback", &at, "--to", "1"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert_eq!(scene.now().await, (first, 3));
    scene.put(json!({ "p12": p12(&new), "password": "hunter2-too" })).await;
    let run = scene.certd(&["rollback", &at, "--to", "4"]);
    let why = "the field `p12`, a keystore (PKCS#12): its password does not open it, or it is damaged";
    assert!(run.code == 1 && run.stderr.contains(why), "{}", run.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_of_several_is_named_and_goes_back_alone() {
    let scene = Scene::new().await;
    let [old, new, api] = [-10, -1, -2].map(|from| pair(&["web.example.org"], from, 80));
    let of = |web: &Pair, note: u64| json!({ "web": { "tls": fields(web) }, "api": fields(&api), "note": note });
    scene.put(of(&old, 1)).await;
    scene.put(of(&new, 2)).await;
    let at = scene.at("tls/web");
    let which = "certificates in several objects (`api`, `web/tls`): name one behind the path, as in `#api`";
    for arguments in [&["rollback", &at, "--to", "1"][..], &["diff", &format!("{at}@2")]] {
        let run = scene.certd(arguments);
        assert!(run.code != 0 && run.stderr.contains(which), "{}", run.stderr);
    }
    let told = certificates(&scene.certd(&["history", &at, "--format", "json"]));
    assert!(told["versions"][0]["note"].as_str().unwrap().starts_with(which), "{told}");

    let part = format!("{at}#web/tls");
    let told = certificates(&scene.certd(&["history", &part, "--format", "json"]));
    assert_eq!(told["location"], format!("vault:{part}"));
    let serials: Vec<_> = told["versions"].as_array().unwrap().iter().map(|row| row["serial"].clone()).collect();
    assert_eq!(serials, [new.serial.clone(), old.serial.clone()]);
    let run = scene.certd(&["diff", &format!("{part}@1..2")]);
    assert_eq!(lines(&run.stdout)[1], format!("serial {} → {}", old.serial, new.serial), "{}", run.stderr);
    let run = scene.certd(&["rollback", &part, "--to", "1"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert_eq!(scene.now().await, (of(&old, 2), 3), "the note is as it was last");
    let run = scene.certd(&["rollback", &format!("{at}#none"), "--to", "1"]);
    assert!(run.code == 1 && run.stderr.contains("there is no certificate in it"), "{}", run.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wrote_in_between_is_not_written_over() {
    let scene = Scene::new().await;
    scene.put(fields(&web())).await;
    scene.put(fields(&web())).await;
    let theirs = fields(&web());
    let address = format!("http://{}", between(&scene, Meddling::WritesFirst(theirs.clone())).await);
    scene.configured(&address, &scene.declared());
    let run = scene.certd(&["rollback", &scene.at("tls/web"), "--to", "1", "--config", "certd.toml"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stderr.contains("somebody wrote to it in between: "), "{}", run.stderr);
    assert!(!run.stdout.contains("held:"), "{}", run.stdout);
    assert_eq!(scene.now().await, (theirs, 3));
    // What was not written is not held.
    scene.configured(&scene.vault.address, &scene.declared());
    let plan = scene.certd(&["plan", "--config", "certd.toml"]);
    assert!(plan.code == 0 && !plan.stdout.contains("paused"), "{}{}", plan.stdout, plan.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_was_lost_is_known_by_reading_it_back() {
    let scene = Scene::new().await;
    let old = fields(&web());
    scene.put(old.clone()).await;
    scene.put(fields(&web())).await;
    let address = format!("http://{}", between(&scene, Meddling::LosesTheAnswer).await);
    let run = scene.certd_as(&scene.vault.root_token, &address, &["rollback", &scene.at("tls/web"), "--to", "1"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert!(run.stdout.contains("written as version 3 and read back"), "{}", run.stdout);
    assert_eq!(scene.now().await, (old, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_is_finished_though_nobody_reads_what_it_says() {
    let scene = Scene::new().await;
    let old = fields(&web());
    scene.put(old.clone()).await;
    scene.put(fields(&web())).await;
    let at = scene.at("tls/web");
    let mut command = scene.command(&["rollback", &at, "--to", "1"]);
    command.env("VAULT_ADDR", &scene.vault.address).env("VAULT_TOKEN", &scene.vault.root_token);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!((child.wait().unwrap().code(), scene.now().await), (Some(0), (old, 3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_runs_is_told_to_hold_what_was_gone_back_to() {
    let scene = Scene::new().await;
    // Else its first turn would renew what no root of its own has signed, and race with the test.
    scene.configured_to(false, &scene.vault.address, &scene.declared());
    scene.put(fields(&web())).await;
    scene.put(fields(&web())).await;
    let mut daemon = Certd::start(&mut scene.command(&["run", "--config", "certd.toml"]));
    let socket = scene.home.path().join("state/control.sock");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !socket.exists() {
        assert!(std::time::Instant::now() < deadline, "the daemon has no socket");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let run = scene.certd(&["rollback", &scene.at("tls/web"), "--to", "1", "--config", "certd.toml"]);
    let plan = scene.certd(&["plan", "--config", "certd.toml"]);
    daemon.kill();
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert!(plan.stdout.contains("web is paused until 9999-12-31T23:59:59Z\n"), "{}{}", plan.stdout, plan.stderr);
}

/// What happens to a write on its way.
#[derive(Clone)]
enum Meddling {
    /// Somebody else is faster.
    WritesFirst(Value),
    /// It is carried out, and the connection ends before that is said.
    LosesTheAnswer,
}

/// A way to the server on which each write meets with that.
async fn between(scene: &Scene, meddling: Meddling) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (server, mount) = (scene.vault.address.trim_start_matches("http://").to_string(), scene.mount.clone());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(pass(client, server, mount.clone(), meddling.clone()));
        }
    });
    address
}

async fn pass(client: TcpStream, server: TcpStream, mount: String, meddling: Meddling) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let is_mute = Arc::new(AtomicBool::new(false));
    let mute = is_mute.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
            if is_mute.load(Ordering::SeqCst) || to_client.write_all(&buffer[..length]).await.is_err() {
                break;
            }
        }
    });
    let (mut buffer, write) = (vec![0; 65_536], format!("POST /v1/{mount}/data/").into_bytes());
    while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
        match &meddling {
            Meddling::WritesFirst(theirs) if buffer.starts_with(&write) => {
                support::vault::server().await.put(&mount, "tls/web", theirs.clone()).await;
            }
            Meddling::LosesTheAnswer if buffer.starts_with(&write) => mute.store(true, Ordering::SeqCst),
            Meddling::WritesFirst(_) | Meddling::LosesTheAnswer => {}
        }
        if to_server.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
}
