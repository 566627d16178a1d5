//! `vault:` targets: a real Vault by the environment or a configuration, and every way it can fail.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::certd::{Place, Run, lines, obstacle};
use crate::made::{RUNTIME, black_hole, closed_port, identity, listening, root_pem, served_on};
use crate::support::vault::{Vault, own_server, server};

/// A mount with a sound certificate, one that ends soon, a secret that is none, and a broken one.
fn furnished() -> (Vault, String) {
    RUNTIME.block_on(async {
        let vault = server().await;
        let mount = vault.kv("secret").await;
        for (path, data) in [
            ("tls/web", fields(80)),
            ("tls/deep/mail", fields(10)),
            ("tls/password", json!({"password": "hunter2"})),
            ("tls/broken", json!({"certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"})),
        ] {
            vault.put(&mount, path, data).await;
        }
        (vault, mount)
    })
}

fn fields(left: i64) -> Value {
    let identity = identity("a.example", left - 90, left);
    json!({"certificate": identity.leaf_pem, "private_key": identity.key_pem, "owner": "team"})
}

fn place(vault: &Vault) -> Place {
    Place::new().set("VAULT_ADDR", &vault.address).set("VAULT_TOKEN", &vault.root_token)
}

/// The one obstacle of a run over one secret and a file, whose certificate is seen all the same.
fn hindered(place: &Place, secret: &str) -> String {
    place.write("ok.pem", identity("a.example", -10, 80).pem());
    let (code, told) = place.report(&[secret, "ok.pem", "--timeout", "2s"]);
    let seen = lines(&told);
    assert_eq!((code, seen.len()), (3, 2), "{told}");
    assert_eq!(seen[1], "ok.pem ok");
    let obstacle = &told["certificates"][0]["obstacle"];
    let message = obstacle["message"].as_str().unwrap();
    assert!(!message.contains('\n'), "{message}");
    for format in ["table", "nagios", "prometheus"] {
        let run = place.check(&[secret, "--timeout", "2s", "--format", format]);
        assert_eq!((run.code, run.stderr.as_str()), (3, ""), "{format}");
    }
    format!("{}: {message}", obstacle["obstacle"].as_str().unwrap())
}

#[test]
fn secrets_are_found_by_path_and_by_glob() {
    let (vault, mount) = furnished();
    let at = |path: &str| format!("vault:{mount}/{path}");
    let (code, told) = place(&vault).report(&[&at("tls/web")]);
    assert_eq!((code, lines(&told)), (0, vec![format!("{} ok", at("tls/web"))]));
    let (code, told) = place(&vault).report(&[&at("tls/**")]);
    let wanted = [
        format!("{} unknown not_understood", at("tls/broken")),
        format!("{} warning expiring", at("tls/deep/mail")),
        format!("{} ok", at("tls/web")),
    ];
    assert_eq!((code, lines(&told)), (3, wanted.to_vec()));
    assert!(!told.to_string().contains("hunter2"));
    let (code, told) = place(&vault).report(&[&at("tls/gone"), &at("none/**"), &at("tls/password"), &at("tls/web")]);
    let wanted = [
        format!("{} critical missing", at("none/**")),
        format!("{} critical missing", at("tls/gone")),
        format!("{} unknown not_understood", at("tls/password")),
        format!("{} ok", at("tls/web")),
    ];
    assert_eq!((code, lines(&told)), (2, wanted.to_vec()));
}

#[test]
fn the_token_comes_from_the_file_of_a_login_where_the_environment_has_none() {
    let (vault, mount) = furnished();
    let target = format!("vault:{mount}/tls/web");
    let place = Place::new().set("VAULT_ADDR", &vault.address).set("VAULT_TOKEN", "");
    let told = hindered(&place, &target);
    let file = place.path().join(".vault-token").display().to_string();
    assert_eq!(
        told,
        format!(
            "denied: could not read {target}: no usable token for Vault: set VAULT_TOKEN, or log in by `vault login` or \
             `bao login`; there is nothing in: {file}"
        )
    );
    place.write(".vault-token", format!("{}\n", vault.root_token));
    assert_eq!(place.check(&[&target]).code, 0);
    place.write(".vault-token", "\n");
    assert!(hindered(&place, &target).ends_with(&format!("no usable token for Vault: it is empty: {file}")));
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert!(hindered(&place, &target).starts_with("denied: could not read vault:"));
}

#[test]
fn a_namespace_is_another_house() {
    let (vault, _) = furnished();
    let served = RUNTIME.block_on(async {
        let (status, _) = vault.call(&vault.root_token, "POST", "sys/namespaces/team", json!({})).await;
        if status == 404 {
            return false;
        }
        let kv = json!({"type": "kv", "options": {"version": "2"}});
        vault.admin("POST", "team/sys/mounts/own", kv).await;
        while vault.call(&vault.root_token, "GET", "team/own/config", Value::Null).await.0 != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        vault.put("team/own", "web", fields(80)).await;
        true
    });
    if !served {
        println!("this server has no namespaces, which only some editions have");
        return;
    }
    let inside = place(&vault).set("VAULT_NAMESPACE", "team");
    let (code, told) = inside.report(&["vault:own/web", "vault:own/**"]);
    assert_eq!((code, lines(&told)), (0, vec!["vault:own/web ok".to_string()]));
    let (code, told) = place(&vault).report(&["vault:own/web"]);
    assert_eq!((code, told["certificates"][0]["state"].as_str()), (3, Some("unknown")), "{told}");
    let nowhere = place(&vault).set("VAULT_NAMESPACE", "nobody");
    assert_eq!(nowhere.check(&["vault:own/**"]).code, 3);
}

/// Whatever is said to it goes on to the real server, whose address a test cannot capture.
async fn forward(mut stream: TlsStream<TcpStream>) {
    let address = server().await.address.trim_start_matches("http://").to_string();
    let mut inner = TcpStream::connect(address).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut inner).await;
}

#[test]
fn its_certificate_must_verify_to_the_named_authority() {
    let (vault, mount) = furnished();
    let port = served_on("127.0.0.1", &identity("localhost", -10, 80), forward).port();
    let target = format!("vault:{mount}/tls/web");
    let by = |host: &str| {
        let place = Place::new().set("VAULT_ADDR", format!("https://{host}:{port}"));
        let root = place.write("root.pem", root_pem()).display().to_string();
        place.write("garbage.pem", "garbage");
        (place.set("VAULT_TOKEN", &vault.root_token), root)
    };
    let (place, root) = by("localhost");
    let place = place.set("VAULT_CACERT", &root);
    let (code, told) = place.report(&[&target]);
    assert_eq!((code, lines(&told)), (0, vec![format!("{target} ok")]));

    let (place, root) = by("127.0.0.1");
    assert!(hindered(&place.set("VAULT_CACERT", &root), &target).starts_with("tls: "));
    let another = crate::made::Root::named("Another").pem;
    let (place, _) = by("localhost");
    let other = place.write("other.pem", another).display().to_string();
    let told = hindered(&place.set("VAULT_CACERT", &other), &target);
    assert!(told.starts_with(&format!("tls: could not read {target}: could not reach Vault at ")), "{told}");

    for (file, told) in [
        ("none.pem", "could not read VAULT_CACERT: none.pem: No such file or directory (os error 2)"),
        ("garbage.pem", "VAULT_CACERT: garbage.pem"),
    ] {
        let (place, _) = by("localhost");
        let message = hindered(&place.set("VAULT_CACERT", file), &target);
        assert!(message.starts_with(&format!("not_understood: could not read {target}: ")), "{message}");
        assert!(message.contains(told), "{message}");
    }
}

#[test]
fn a_sealed_vault_says_to_unseal_it() {
    // A container is removed from within a runtime.
    let _guard = RUNTIME.enter();
    let (vault, _server) = RUNTIME.block_on(own_server());
    RUNTIME.block_on(vault.admin("PUT", "sys/seal", Value::Null));
    let address = &vault.address;
    for (secret, doing) in [("secret/tls/web", "read vault:secret/tls/web"), ("secret/tls/**", "list vault:secret/tls")]
    {
        assert_eq!(
            hindered_glob(&place(&vault), &format!("vault:{secret}")),
            format!("could not {doing}: Vault at {address} is sealed: unseal it")
        );
    }
}

fn hindered_glob(place: &Place, target: &str) -> String {
    let (code, told) = place.report(&[target, "--timeout", "2s"]);
    assert_eq!(code, 3, "{told}");
    obstacle(&told)
}

#[test]
fn a_listing_that_is_denied_is_unknown_and_never_nothing() {
    let (vault, mount) = furnished();
    let policy = format!("path \"{mount}/data/tls/*\" {{ capabilities = [\"read\"] }}");
    let token = RUNTIME.block_on(vault.token(&policy));
    let place = Place::new().set("VAULT_ADDR", &vault.address).set("VAULT_TOKEN", token);
    let target = format!("vault:{mount}/tls/**");
    let (code, told) = place.report(&[&target]);
    assert_eq!((code, lines(&told)), (3, vec![format!("listing of {target} unknown denied")]));
    let told = obstacle(&told);
    assert!(told.starts_with(&format!("could not list vault:{mount}/tls: Vault denied it: ")), "{told}");
    assert!(told.contains("hint: ") && told.contains("`list`"), "{told}");
    assert_eq!(place.check(&[&format!("vault:{mount}/tls/web")]).code, 0);
}

#[test]
fn every_other_trouble_with_vault_is_told_on_one_line_of_its_own() {
    let (vault, mount) = furnished();
    let target = format!("vault:{mount}/tls/web");
    let closed = format!("http://127.0.0.1:{}", closed_port());
    let silent = format!("http://{}", black_hole());
    let [proxy, gateway] = [html("200 OK"), html("502 Bad Gateway")];
    let mut told = Vec::new();
    for (address, wanted) in [
        (vault.address.as_str(), "denied: could not read TARGET: Vault denied it: "),
        (
            &closed,
            "unreachable: could not read TARGET: could not reach Vault at ADDRESS: Connection refused (os error 111)",
        ),
        (&silent, "timeout: could not read TARGET: Vault at ADDRESS did not answer in time"),
        (
            &proxy,
            "not_vault: could not read TARGET: what answers at ADDRESS is not Vault, or not its API (status 200): check the address",
        ),
        (&gateway, "not_vault: could not read TARGET: "),
        (
            "http://192.0.2.1:8200",
            "not_understood: could not read TARGET: not a usable address of Vault: http://192.0.2.1: plain http would show \
             certd's token and keys to the network; use https",
        ),
        (
            "127.0.0.1:8200",
            "not_understood: could not read TARGET: VAULT_ADDR is not an address such as https://vault.example.org:8200: \
             \"127.0.0.1:8200\": relative URL without a base",
        ),
        (
            "",
            "not_understood: could not read TARGET: set VAULT_ADDR to the address of Vault, or give a configuration by --config",
        ),
    ] {
        let place = Place::new().set("VAULT_ADDR", address).set("VAULT_TOKEN", "s.wrong-token");
        let message = hindered(&place, &target);
        let wanted = wanted.replace("TARGET", &target).replace("ADDRESS", address);
        assert!(message.starts_with(&wanted), "{address}\n  is:     {message}\n  wanted: {wanted}");
        told.push(message);
    }
    let count = told.len();
    told.sort();
    told.dedup();
    assert_eq!(told.len(), count, "{told:#?}");
}

/// What a proxy in between says in the place of Vault.
fn html(status: &'static str) -> String {
    let address = listening("127.0.0.1", move |mut stream| async move {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let page = "<html><body>Please log in</body></html>";
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: text/html\r\nconnection: close\r\n");
        let _ = stream.write_all(format!("{head}content-length: {}\r\n\r\n{page}", page.len()).as_bytes()).await;
    });
    format!("http://{address}")
}

#[test]
fn a_secret_that_was_deleted_is_missing_with_when_and_how_to_bring_it_back() {
    let (vault, mount) = furnished();
    RUNTIME.block_on(async {
        vault.admin("DELETE", &format!("{mount}/data/tls/web"), Value::Null).await;
        vault.admin("POST", &format!("{mount}/destroy/tls/deep/mail"), json!({ "versions": [1] })).await;
    });
    let [web, mail] = ["tls/web", "tls/deep/mail"].map(|path| format!("{mount}/{path}"));
    let (code, told) = place(&vault).report(&[&format!("vault:{web}"), &format!("vault:{mail}")]);
    let wanted = [format!("vault:{mail} critical missing"), format!("vault:{web} critical missing")];
    assert_eq!((code, lines(&told)), (2, wanted.to_vec()));
    let message = |i: usize| told["certificates"][i]["problems"][0]["message"].as_str().unwrap();
    let lost = format!("version 1 was destroyed and is lost: `certd history {mail}` shows which others are left");
    assert_eq!(message(0), lost);
    assert!(message(1).starts_with("version 1 was deleted on 2"), "{}", message(1));
    let remedy = format!(": `kv undelete -versions=1 {web}` brings it back");
    assert!(message(1).ends_with(&remedy), "{}", message(1));
    // The remedy is one.
    let undeleted = std::process::Command::new(crate::support::server::command())
        .args(["kv", "undelete", "-versions=1", &web])
        .envs([("VAULT_ADDR", &vault.address), ("BAO_ADDR", &vault.address)])
        .envs([("VAULT_TOKEN", &vault.root_token), ("BAO_TOKEN", &vault.root_token)])
        .output()
        .unwrap();
    assert!(undeleted.status.success(), "{undeleted:?}");
    assert_eq!(place(&vault).report(&[&format!("vault:{web}")]).0, 0);
    // Nobody named these, so nothing is said of them.
    let (_, swept) = place(&vault).report(&[&format!("vault:{mount}/tls/deep/*"), &format!("vault:{web}")]);
    assert_eq!(lines(&swept)[0], format!("vault:{mount}/tls/deep/* critical missing"));
}

#[test]
fn a_path_that_vault_cannot_have_is_refused() {
    let place = Place::new();
    for (target, told) in [
        (
            "vault:secret/../sys/seal",
            "not a path in Vault such as `secret/tls/**`: secret/../sys/seal: it has an empty segment, `.`, `..` or a \
             control character",
        ),
        ("vault:**", "not a path in Vault such as `secret/tls/**`: **: it must begin with the name of a mount"),
    ] {
        assert_eq!(place.check(&[target]).refusal(), told);
    }
}

#[test]
fn the_vaults_of_a_configuration_are_chosen_by_name() {
    let (vault, mount) = furnished();
    let declared = |name: &str| format!("[vault.{name}]\naddress = \"{}\"\ntoken_file = \"token\"\n", vault.address);
    // The environment has no say where there is a configuration.
    let place = Place::new().set("VAULT_ADDR", "http://192.0.2.1").set("VAULT_TOKEN", "s.wrong-token");
    place.write("token", &vault.root_token);
    place.write("one.toml", declared("main"));
    place.write("two.toml", declared("main") + &declared("other"));
    let report = |config: &str, target: &str| place.report(&["--config", config, target]);
    let wanted = (0, vec![format!("vault:main:{mount}/tls/web ok")]);
    for (config, target) in [("one.toml", ""), ("one.toml", "main:"), ("two.toml", "main:")] {
        let (code, told) = report(config, &format!("vault:{target}{mount}/tls/web"));
        assert_eq!((code, lines(&told)), wanted, "{config} {target}");
    }
    let (code, told) = report("one.toml", &format!("vault:{mount}/none/**"));
    assert_eq!((code, lines(&told)), (2, vec![format!("vault:main:{mount}/none/** critical missing")]));
    let (_, told) = report("two.toml", &format!("vault:other:{mount}/tls/web"));
    assert_eq!(lines(&told), [format!("vault:other:{mount}/tls/web ok")]);
    assert_eq!(
        place.check(&["--config", "two.toml", "vault:secret/tls/web"]).refusal(),
        "the configuration has several vaults: write vault:main:secret/tls/web"
    );
}

#[test]
fn no_failure_shows_the_token() {
    let (vault, mount) = furnished();
    let secret = "s.T0psecretT0psecret";
    let closed = format!("http://127.0.0.1:{}", closed_port());
    let proxy = html("502 Bad Gateway");
    let shows = |run: &Run| run.stdout.contains("psecret") || run.stderr.contains("psecret");
    for token in [secret.to_string(), format!("{secret} {secret}"), format!("{secret}\u{1b}"), format!("ü{secret}")] {
        for address in [vault.address.as_str(), &closed, &proxy, "http://192.0.2.1", "nonsense", ""] {
            let place = Place::new().set("VAULT_ADDR", address).set("VAULT_TOKEN", &token).set("RUST_LOG", "trace");
            let place = place.set("RUST_BACKTRACE", "1");
            for format in ["table", "json", "nagios", "prometheus"] {
                let targets = [format!("vault:{mount}/tls/web"), format!("vault:{mount}/tls/**")];
                let run = place.check(&[&targets[0], &targets[1], "--format", format, "--timeout", "1s"]);
                assert_eq!(run.code, 3, "{run:?}");
                assert!(!shows(&run), "{address} {format}: {run:?}");
            }
        }
    }
    let run = Place::new()
        .set("VAULT_ADDR", format!("https://root:{secret}@vault.example"))
        .set("VAULT_TOKEN", secret)
        .check(&["vault:secret/tls/web"]);
    assert!(run.code == 3 && !shows(&run), "{run:?}");
}
