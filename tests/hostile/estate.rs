//! What lies in files and in a Vault: certificates, names of files, paths, fields, aliases and notes.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::forged::{self, EVIL};
use crate::scene::{Hostile, Made, Scene, os, with_raw_subject};
use crate::support::tools::openssl_bytes;
use crate::support::vault::{Vault, server};

/// Of a path and a note in Vault, which refuses control characters itself there.
const ODD_PATH: &str = "we\"b} 1\\x|ok=1 {a}";

async fn furnished() -> (Scene, Vault, String) {
    let (scene, vault) = (Scene::new(), server().await);
    let kv = vault.kv("hostile").await;
    files(&scene);
    secrets(&scene, &vault, &kv).await;
    let adopting = format!("path \"{kv}/*\" {{ capabilities = [\"create\", \"read\", \"update\", \"list\"] }}");
    scene.write("token", vault.token(&adopting).await);
    configure(&scene, &vault, &kv, "human");
    (scene, vault, kv)
}

fn configure(scene: &Scene, vault: &Vault, kv: &str, format: &str) {
    scene.configure(&format!(
        "log = {{ format = \"{format}\", level = \"trace\" }}\n[vault.main]\naddress = \"{}\"\ntoken_file = \"token\"\n\
         [source.disk.file]\npaths = [\"disk/**/*\"]\nroots = [\"none.pem\"]\n\
         [[adopt]]\nname = \"apps\"\nfound.vault_kv = {{ vault = \"main\", paths = [\"{kv}/**\"] }}\n\
         names = [\"*.example.org\"]\nroots = [\"ours.pem\"]\nissuer = \"own\"\n\
         [issuer.own.local_ca]\ndirectory = \"ca\"\ncreate = true\n\
         [[certificate]]\nname = \"web\"\nnames = [\"web.example.org\"]\nissuer = \"own\"\nstore.file = {{ bundle = \"web.pem\" }}\n",
        vault.address
    ));
}

fn files(scene: &Scene) {
    let root = Hostile { subject: String::new(), issuer: "Nobody".into(), names: Vec::new(), days: (-1, 900) }.made();
    scene.write("none.pem", root.leaf);
    let evil = Hostile::everywhere().made();
    let long = Hostile { subject: forged::a_megabyte(), ..Hostile::everywhere() }.made();
    scene.write("disk/plain.pem", &evil.leaf);
    scene.write("disk/long.pem", long.leaf);
    scene.write("disk/expired.pem", Hostile { days: (-90, -1), ..Hostile::everywhere() }.made().leaf);
    scene.write("disk/garbage.pem", EVIL);
    scene.write("disk/headed.pem", format!("{EVIL}\nkey: {EVIL}\n{}", evil.leaf));
    for (name, tag, bytes) in [
        ("t61.pem", 0x14, &b"\x9b31m\x1b[2J\xe9\xff\r\nFORGED"[..]),
        ("bmp.pem", 0x1e, b"\0\x1b\0[\x20\x2e\0\n\0F\0O\0R\0G\0E\0D"),
        ("halves.pem", 0x1e, b"\xd8\x00\0a\xdc\x00\0b"),
        ("odd.pem", 0x1e, b"\0a\0"),
        ("utf8.pem", 0x0c, b"\xff\xfe\xc0\x80\xed\xa0\x80\nFORGED"),
        ("printable.pem", 0x13, b"\x1b[2J\nFORGED\0\x7f"),
    ] {
        scene.write(format!("disk/{name}"), with_raw_subject(tag, bytes));
    }
    for name in [
        &b"x\n\x1b[31m\rFORGED|y.pem"[..],
        "r\u{202e}mep.\u{200b}exe".as_bytes(),
        b"\xff\xfe\x9b.pem",
        b"..\\..\\q\"} 1.pem",
        b"$(touch FORGED).pem",
    ] {
        let mut path = b"disk/sub/".to_vec();
        path.extend(name);
        scene.write(os(&path), &evil.leaf);
    }
}

fn fields(made: &Made) -> Value {
    json!({ "certificate": made.leaf, "private_key": made.key, EVIL: "canary-of-an-odd-field", "x": EVIL })
}

async fn secrets(scene: &Scene, vault: &Vault, kv: &str) {
    let evil = || Hostile::everywhere().made();
    vault.put(kv, "tls/evil", fields(&evil())).await;
    let mut second = fields(&evil());
    second["\u{1b}[31mnew\nFORGED"] = json!(EVIL);
    vault.put(kv, "tls/evil", second).await;
    let noted = json!({ "custom_metadata": { "managed_by": ODD_PATH } });
    vault.admin("POST", &format!("{kv}/metadata/tls/evil"), noted).await;
    let ours = Hostile { names: Vec::new(), ..Hostile::everywhere() }.made();
    // Adopted, so that its place becomes a name of certd's own.
    scene.write("ours.pem", &ours.root);
    let odd: String = url::form_urlencoded::byte_serialize(ODD_PATH.as_bytes()).collect();
    vault.put(kv, &format!("tls/{}", odd.replace('+', "%20")), fields(&ours)).await;
    vault.put(kv, "tls/broken", json!({ "certificate": EVIL, "private_key": EVIL })).await;
    vault.put(kv, "tls/objects", json!({ EVIL: fields(&evil()), "\u{202e}b": fields(&evil()) })).await;
    scene.write("pair.pem", ours.leaf.clone() + &ours.key);
    let (pair, name) = (scene.path("pair.pem"), "a\u{1b}[2J\nFORGED\u{202e}");
    let sealed =
        ["pkcs12", "-export", "-in", pair.to_str().unwrap(), "-name", name, "-passout", "pass:canary-alias-password"];
    let store = BASE64_STANDARD.encode(openssl_bytes(&sealed, b""));
    vault.put(kv, "tls/store", json!({ "k\u{1b}[2J.p12": store, "password": "canary-alias-password" })).await;
    vault.put(kv, "tls/shut", json!({ "k\nFORGED.p12": store, "password": "canary-other-password" })).await;
    vault
        .put(kv, "tls/away", json!({ "k.p12": store, "password_path": format!("{kv}/\u{1b}[2J\nFORGED#{EVIL}") }))
        .await;
}

const PLACES: [&str; 5] = ["state", "ca", "web.pem", "certd.toml", "certd.draft"];

#[tokio::test(flavor = "multi_thread")]
async fn no_command_prints_what_a_certificate_a_file_or_a_secret_would_have_it_print() {
    let (scene, _, kv) = furnished().await;
    let before = scene.files(&PLACES);
    for format in ["table", "nagios", "prometheus"] {
        let ran = scene.certd(&["check", "--format", format]).await;
        assert!(!ran.out.is_empty() && ran.code >= 2, "{format}: {}", ran.err);
        if format == "prometheus" {
            forged::page(&ran.out);
        }
        if format == "nagios" {
            assert_eq!(ran.out.matches('|').count(), 1, "{}", ran.out);
        }
    }
    let report = scene.certd(&["check", "--format", "json"]).await;
    let report = forged::json("check", &report.out);
    let certificates = report["certificates"].as_array().unwrap();
    assert!(certificates.len() >= 20, "{}", certificates.len());
    let subjects = certificates.iter().filter_map(|certificate| certificate["leaf"]["subject"].as_str());
    assert!(
        subjects.clone().any(|subject| subject.contains("\u{1b}[2J") && subject.contains('\u{202e}')),
        "as they are"
    );
    assert!(scene.certd(&["plan"]).await.out.contains(" managed, "));
    let plan = forged::json("plan", &scene.certd(&["plan", "--format", "json"]).await.out);
    let decided: Vec<&str> =
        plan["decisions"].as_array().unwrap().iter().filter_map(|d| d["certificate"].as_str()).collect();
    assert!(decided.iter().any(|name| name.contains("we\"b} 1")), "{decided:?}");
    let places = certificates.iter().filter_map(|certificate| certificate["location"].as_str());
    for name in places.chain(decided) {
        let told = scene.certd(&["explain", name]).await;
        assert!(told.code == 0 && told.out.starts_with("location"), "{name}: {}", told.err);
    }
    let at = |path: &str| format!("{kv}/{path}");
    for format in ["table", "json"] {
        for path in ["tls/evil", "tls/broken", "tls/store", "tls/shut", &format!("tls/{ODD_PATH}")] {
            let told = scene.certd(&["history", &at(path), "--format", format]).await;
            assert_eq!(told.code, 0, "{path}: {}", told.err);
        }
    }
    let told = scene.certd(&["diff", &format!("{}@1..2", at("tls/evil"))]).await;
    assert!(
        told.code == 0 && told.out.contains("\nfields    added: \\u{1b}[31mnew\\u{a}FORGED"),
        "{}{}",
        told.out,
        told.err
    );
    let told = scene.certd(&["rollback", &at("tls/evil"), "--to", "1", "--dry-run"]).await;
    assert!(!(told.out + &told.err).is_empty());
    for argument in ["\u{1b}[2J\nFORGED", "--\u{1b}[2J\nFORGED"] {
        let told = scene.certd(&["explain", argument]).await;
        assert_eq!((told.code, told.out.as_str()), (3, ""), "{}", told.err);
    }
    assert_eq!(scene.files(&PLACES), before, "looking leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_logs_one_line_for_an_event_and_serves_a_page_whatever_it_meets() {
    let (scene, vault, kv) = furnished().await;
    let before = scene.files(&PLACES);
    for format in ["human", "json"] {
        configure(&scene, &vault, &kv, format);
        let daemon = scene.start().await;
        daemon.says("turn completed").await;
        let page = daemon.page().await;
        forged::page(&page);
        assert!(page.contains("we\\\"b} 1\\\\x|ok=1 {a}"), "the path is a label as it is, but escaped");
        assert!(scene.certd(&["journal"]).await.out.contains("web"));
        scene.certd(&["journal", "--format", "json"]).await;
        let log = daemon.stop();
        assert!(log.iter().any(|line| line.contains("disk/plain.pem")), "{}", log.join("\n"));
        match format {
            "human" => forged::log_for_people(&log),
            _ => forged::log_for_programs(&log),
        }
    }
    assert_eq!(scene.files(&PLACES), before, "nothing but what the configuration names");
}
