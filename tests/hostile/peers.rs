//! What servers answer: a Vault's errors, listings and reason phrases, and what a TLS endpoint presents or says.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::forged::{self, EVIL};
use crate::scene::{Hostile, Scene};
use crate::support::scripted::{answer, that_answers, that_serves};

/// How a server is hostile.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Its errors are.
    Errors,
    /// They are, and without end.
    LongErrors,
    /// It answers all with a page of its own, under a reason phrase of its own.
    Page,
    /// Whatever it is asked to list or read is.
    Content,
    /// Its redirects are.
    Redirect,
}

const WAYS: [Way; 5] = [Way::Errors, Way::LongErrors, Way::Page, Way::Content, Way::Redirect];

fn says(way: Way, request: &str) -> String {
    let error =
        |text: String| answer("400 Bad Request", "application/json", &json!({ "errors": [text, EVIL] }).to_string());
    match way {
        Way::Errors => error(EVIL.to_string()),
        Way::LongErrors => error(forged::a_megabyte()),
        Way::Page => answer("502 \u{9b}31m\u{202e}FORGED", "text/\u{9b}html", EVIL),
        Way::Redirect => answer("307 x\r\nLocation: http://\u{1b}[2J@FORGED/\u{202e}", "text/plain", EVIL),
        Way::Content => content(request),
    }
}

fn content(request: &str) -> String {
    let given =
        |data: Value| answer("200 OK", "application/json", &json!({ "data": data, "warnings": [EVIL] }).to_string());
    let path = request.split(' ').nth(1).unwrap_or_default();
    match path {
        _ if path.contains("/mounts/") && path.contains("pki") => given(json!({ "path": "pki/", "type": EVIL, "options": {} })),
        _ if path.contains("/mounts/") => given(json!({ "path": "secret/", "type": "kv", "options": { "version": "2" } })),
        _ if path.contains("/metadata/") && path.contains("list=true") || request.starts_with("list") => {
            given(json!({ "keys": ["../../FORGED", "a\u{1b}[2J\nFORGED", "\u{202e}b", "a/../b", "..", "", "d\0/", "plain", "\u{9b}31m"] }))
        }
        _ if path.contains("/auth/") => answer(
            "200 OK",
            "application/json",
            &json!({ "auth": { "client_token": "s.canary-of-a-hostile-server", "lease_duration": 3600, "renewable": false, "metadata": { EVIL: EVIL } } }).to_string(),
        ),
        _ if path.contains("/data/") => {
            let made = Hostile { names: Vec::new(), ..Hostile::everywhere() }.made();
            let data = json!({ "certificate": made.leaf, "private_key": made.key, EVIL: EVIL });
            let created = "2026-01-01T00:00:00Z";
            given(json!({ "data": data, "metadata": { "version": 1, "created_time": created, "deletion_time": "", "destroyed": false } }))
        }
        _ => given(json!({ "certificate": EVIL, "serial_number": EVIL, "ca_chain": [EVIL], "keys": [EVIL], "policies": [EVIL] })),
    }
}

fn configure(scene: &Scene, address: &str, endpoints: &[String], format: &str) {
    scene.write("token", "s.canary-token-for-a-hostile-server");
    scene.write("jwt", "canary.jwt.for-a-hostile-server");
    scene.configure(&format!(
        "log = {{ format = \"{format}\", level = \"trace\" }}\n\
         [vault.main]\naddress = \"{address}\"\ntoken_file = \"token\"\ndeadline = \"2s\"\n\
         [vault.login]\naddress = \"{address}\"\nauth.jwt = {{ jwt_file = \"jwt\", role = \"r\" }}\ndeadline = \"2s\"\n\
         [source.main.vault_kv]\nvault = \"main\"\npaths = [\"secret/**\"]\n\
         [source.login.vault_kv]\nvault = \"login\"\npaths = [\"secret/**\"]\n\
         [source.pki.vault_pki]\nvault = \"main\"\nmounts = [\"pki\"]\n\
         [source.edge.tls]\ntargets = {endpoints:?}\nroots = \"none\"\ntimeout = \"2s\"\n\
         [[adopt]]\nname = \"apps\"\nfound.vault_kv = {{ vault = \"main\", paths = [\"secret/**\"] }}\n\
         names = [\"*.example.org\"]\nroots = \"system\"\nissuer = \"main\"\n\
         [issuer.main.vault_pki]\nvault = \"main\"\nmount = \"pki\"\nrole = \"r\"\n\
         [[certificate]]\nname = \"web\"\nnames = [\"web.example.org\"]\nissuer = \"main\"\nstore.file = {{ bundle = \"web.pem\" }}\n"
    ));
}

/// One that presents a hostile certificate, and some that say something else than TLS wants.
async fn endpoints() -> Vec<String> {
    let made = Hostile::everywhere().made();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(made.der)], PrivatePkcs8KeyDer::from(made.key_der).into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let presents = that_serves(move |client| {
        let acceptor = acceptor.clone();
        async move { drop(acceptor.accept(client).await) }
    });
    let says = async |bytes: Vec<u8>| {
        that_serves(move |mut client| {
            let bytes = bytes.clone();
            async move {
                let _ = client.read(&mut [0; 4096]).await;
                let _ = client.write_all(&bytes).await;
            }
        })
        .await
    };
    // Alerts (RFC 8446, section 6): one that is fatal, and one of a description that nobody knows.
    let alert = |description: u8| vec![21, 3, 3, 0, 2, 2, description];
    let all = [presents.await, says(alert(40)).await, says(alert(0x9b)).await, says(EVIL.as_bytes().to_vec()).await];
    all.iter().map(|address| address.trim_start_matches("http://").to_string()).collect()
}

async fn scene(way: Way) -> Scene {
    let (address, _) = that_answers(move |request| says(way, request)).await;
    let scene = Scene::new();
    configure(&scene, &address, &endpoints().await, "human");
    scene
}

const PLACES: [&str; 5] = ["state", "ca", "web.pem", "certd.toml", "certd.draft"];

async fn is_harmless(way: Way) {
    let scene = scene(way).await;
    let before = scene.files(&PLACES);
    for format in ["table", "nagios", "json", "prometheus"] {
        let ran = scene.certd(&["check", "--format", format]).await;
        assert!(ran.code >= 2 && !ran.out.is_empty(), "{way:?} {format}: {}", ran.err);
        if format == "prometheus" {
            forged::page(&ran.out);
        }
    }
    for arguments in [
        &["plan"][..],
        &["plan", "--format", "json"],
        &["explain", "web"],
        &["config", "check"],
        &["vault", "policy"],
        &["vault", "doctor"],
        &["vault", "doctor", "--format", "json"],
        &["history", "vault:main:secret/tls/web"],
        &["diff", "vault:main:secret/tls/web@1..2"],
        &["rollback", "vault:main:secret/tls/web", "--to", "1", "--dry-run"],
        &["renew", "web"],
        &["journal"],
        &["journal", "--format", "json"],
    ] {
        let ran = scene.certd(arguments).await;
        assert!(!(ran.out + &ran.err).is_empty(), "{way:?} {arguments:?}");
    }
    let told = scene.certd(&["journal"]).await.out;
    assert!(told.contains("failed, next attempt from "), "{way:?}: the renewal failed, and its error is kept: {told}");
    for format in ["human", "json"] {
        let config = std::fs::read_to_string(scene.path("certd.toml")).unwrap();
        scene.write("certd.toml", config.replace("\"human\"", &format!("{format:?}")));
        let daemon = scene.start().await;
        daemon.says("turn completed").await;
        forged::page(&daemon.page().await);
        let log = daemon.stop();
        assert!(log.len() > 3, "{log:?}");
        match format {
            "human" => forged::log_for_people(&log),
            _ => forged::log_for_programs(&log),
        }
    }
    assert_eq!(scene.files(&PLACES), before, "{way:?}: nothing but what the configuration names");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_servers_answer_reaches_people_and_programs_as_harmless_text() {
    for way in WAYS {
        is_harmless(way).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_repeats_what_it_was_shown_is_not_quoted() {
    for token in ["hvs.caesij1zqeu5yb0x3plkq2v8", "canarytokenofnoform"] {
        is_not_quoted(token).await;
    }
}

async fn is_not_quoted(token: &str) {
    let (address, _heard) = that_answers(|request| {
        let error = json!({ "errors": [format!("no such request: {request}")] }).to_string();
        answer("403 Forbidden", "application/json", &error)
    })
    .await;
    let scene = Scene::new();
    scene.write("token", token);
    scene.configure(&format!(
        "[vault.main]\naddress = \"{address}\"\ntoken_file = \"token\"\ndeadline = \"2s\"\n\
         [source.main.vault_kv]\nvault = \"main\"\npaths = [\"secret/web\"]\n"
    ));
    for arguments in [&["check"][..], &["check", "--format", "json"], &["vault", "doctor"]] {
        let ran = scene.certd(arguments).await;
        let all = ran.out + &ran.err;
        assert!(!all.contains(&token[4..16]), "{arguments:?}: {all}");
        assert!(all.contains("no such request"), "{arguments:?}: {all}");
    }
}
