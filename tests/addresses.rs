//! Several addresses of one Vault: which is asked when, what is repeated and what is not, where a redirect is
//! followed to, and what each fault on the way is called.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use certd::domain::inventory::ObstacleKind;
use certd::pki::bundle::Bundle;
use certd::vault::{KvRead, Settings, TokenFrom, Vault, VaultError};
use serde_json::{Value, json};
use support::certificates::params;
use support::cluster::Node;
use support::scripted::{answer, as_kv, heard_from, that_answers, that_serves};
use support::server::{Lifeline, command, free_port};
use support::vault::{own_server, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::UnboundedReceiver;
use zeroize::Zeroizing;

/// Long enough for what answers at once, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(2);

fn settings(addresses: &[&str], token: &str) -> Settings {
    Settings {
        name: "main".into(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        server_name: None,
        roots: None,
        namespace: None,
        token: TokenFrom::Given(Zeroizing::new(token.to_string())),
        deadline: DEADLINE,
    }
}

fn vault(addresses: &[&str], token: &str) -> Vault {
    Vault::new(settings(addresses, token)).unwrap()
}

fn closed() -> String {
    format!("http://127.0.0.1:{}", free_port())
}

/// Beginnings of requests, as far as they were heard by now.
fn lines(heard: &mut UnboundedReceiver<String>) -> Vec<String> {
    let mut lines = Vec::new();
    while let Ok(request) = heard.try_recv() {
        let line = request.split(" http/").next().unwrap_or_default();
        lines.push(line.trim_end_matches('?').to_string());
    }
    lines
}

fn version(read: KvRead) -> Option<u64> {
    match read {
        KvRead::Present { version, .. } | KvRead::Absent { version, .. } => version,
    }
}

fn obstacle(error: &VaultError) -> (ObstacleKind, String) {
    let obstacle = error.obstacle("read it");
    (obstacle.obstacle, obstacle.message)
}

#[tokio::test]
async fn a_request_that_found_no_connection_goes_to_the_next_address_and_so_do_those_after_it() {
    let real = server().await;
    let kv = real.kv("next").await;
    let vault = vault(&[&closed(), &closed(), &real.address], &real.root_token);
    assert_eq!(vault.kv_write(&format!("{kv}/web"), Default::default(), 0).await.unwrap(), 1);
    assert_eq!(version(vault.kv_read(&format!("{kv}/web")).await.unwrap()), Some(1));
    // The first request learnt which one answers.
    assert_eq!(vault.status().requests, [("mount", 0, 2), ("mount", 200, 1), ("read", 200, 1), ("write", 200, 1)]);
    assert!(format!("{vault:?}").contains(&real.address), "{vault:?}");
}

/// Hangs up instead of an answer, once it has heard the request; mounts are answered.
fn that_hangs_up(request: &str) -> String {
    if request.contains("/mounts/") { as_kv(request) } else { String::new() }
}

#[tokio::test]
async fn a_read_whose_answer_was_lost_is_made_again_elsewhere_and_a_write_never_is() {
    let (lossy, mut at_lossy) = that_answers(that_hangs_up).await;
    let (sound, mut at_sound) = that_answers(as_kv).await;
    let vault = vault(&[&lossy, &sound], "t");
    let error = vault.kv_write("secret/web", Default::default(), 0).await.unwrap_err();
    assert!(matches!(&error, VaultError::Unreachable { address, .. } if *address == lossy), "{error:?}");
    assert!(!error.is_decided(), "it may have been carried out");
    assert_eq!(lines(&mut at_lossy), ["get /v1/sys/internal/ui/mounts/secret/web", "post /v1/secret/data/web"]);
    assert_eq!(lines(&mut at_sound), [""; 0]);
    assert_eq!(version(vault.kv_read("secret/web").await.unwrap()), Some(2));
    assert_eq!(lines(&mut at_lossy), ["get /v1/secret/data/web"]);
    assert_eq!(lines(&mut at_sound), ["get /v1/secret/data/web"]);
}

#[tokio::test]
async fn a_sealed_vault_is_passed_over_and_where_all_are_sealed_that_is_the_obstacle() {
    let ((sealed, _one), (other, _two), real) = (own_server().await, own_server().await, server().await);
    for vault in [&sealed, &other] {
        vault.admin("POST", "sys/seal", Value::Null).await;
    }
    let kv = real.kv("unsealed").await;
    let path = format!("{kv}/web");
    let mixed = vault(&[&sealed.address, &real.address], &real.root_token);
    assert_eq!(mixed.kv_write(&path, Default::default(), 0).await.unwrap(), 1);
    let sealed_alone = vault(&[&sealed.address, &other.address, &closed()], "t");
    let (kind, message) = obstacle(&sealed_alone.kv_read(&path).await.unwrap_err());
    assert_eq!(kind, ObstacleKind::Sealed);
    assert_eq!(message, format!("could not read it: Vault at {} is sealed: unseal it", other.address));
}

#[tokio::test]
async fn a_vault_that_was_never_initialised_is_told_from_a_sealed_one() {
    let node = Node::start().await;
    let (kind, message) = obstacle(&vault(&[&node.address], "t").kv_read("secret/web").await.unwrap_err());
    assert_eq!(kind, ObstacleKind::NotInitialised);
    assert!(message.contains(&format!("Vault at {} is not initialised", node.address)), "{message}");
}

#[tokio::test]
async fn each_fault_has_a_word_of_its_own_and_names_the_address() {
    let errors = |text: &str| json!({ "errors": [text] }).to_string();
    let silent = r#"{"errors":[]}"#.to_string();
    let html = "<html>sorry</html>".to_string();
    for (status, kind, body, expected) in [
        ("472 x", "application/json", silent.clone(), ObstacleKind::Standby),
        ("473 x", "application/json", silent.clone(), ObstacleKind::Standby),
        ("429 x", "application/json", errors("Vault is in standby mode"), ObstacleKind::Standby),
        (
            "500 x",
            "application/json",
            errors("local node not active but active cluster node not found"),
            ObstacleKind::Standby,
        ),
        ("412 x", "application/json", errors("required index state not present"), ObstacleKind::Stale),
        ("429 x", "application/json", silent.clone(), ObstacleKind::Stale),
        ("429 x", "application/json", errors("request path: rate limit quota exceeded"), ObstacleKind::Server),
        ("501 x", "application/json", errors("Vault is not initialized"), ObstacleKind::NotInitialised),
        ("503 x", "application/json", errors("Vault is sealed"), ObstacleKind::Sealed),
        ("500 x", "application/json", errors("internal error"), ObstacleKind::Server),
        ("503 x", "application/json", errors("overloaded"), ObstacleKind::Server),
        ("502 x", "text/html", html.clone(), ObstacleKind::NotVault),
        ("404 x", "text/html", html.clone(), ObstacleKind::NotVault),
        ("200 x", "text/html", html.clone(), ObstacleKind::NotVault),
        ("302 x\r\nLocation: https://login.example.org/?a=b", "text/html", html, ObstacleKind::Redirected),
    ] {
        let (address, _heard) = that_answers(move |_| answer(status, kind, &body)).await;
        let settings = Settings { deadline: Duration::from_secs(1), ..settings(&[&address], "t") };
        let (kind, message) = obstacle(&Vault::new(settings).unwrap().kv_read("secret/x").await.unwrap_err());
        assert_eq!(kind, expected, "{status}: {message}");
        assert!(message.contains(&address) && !message.contains("a=b"), "{status}: {message}");
    }
}

#[tokio::test]
async fn how_long_a_busy_server_asks_to_be_left_alone_is_heard_and_told() {
    let busy = json!({ "errors": ["rate limit quota exceeded"] }).to_string();
    for (head, body, expected) in [
        ("429 x\r\nRetry-After: 90", busy.as_str(), Some((90, false))),
        ("503 x\r\nRetry-After: 90", &busy, Some((90, false))),
        ("503 x\r\nRetry-After: 100000", &busy, Some((86_400, true))),
        // By the server's own clock, whatever this host's says.
        (
            "503 x\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:59:37 GMT",
            &busy,
            Some((600, false)),
        ),
        ("503 x\r\nRetry-After: Sun, 06 Nov 1994 08:59:37 GMT", &busy, Some((0, false))),
        // A proxy whose Vault is being replaced.
        ("503 x\r\nRetry-After: 30", "<html>back soon</html>", Some((30, false))),
        ("429 x", &busy, None),
        ("429 x\r\nRetry-After: soon", &busy, None),
        ("500 x\r\nRetry-After: 90", &busy, None),
    ] {
        let answered = answer(head, "application/json", body);
        let (address, _heard) = that_answers(move |_| answered.clone()).await;
        let error = vault(&[&address], "t").kv_read("secret/x").await.unwrap_err();
        let asked = error.retry_after().map(|asked| (asked.wait.as_secs(), asked.is_capped));
        assert_eq!(asked, expected, "{head}: {error}");
        let told = error.to_string();
        assert_eq!(told.contains("; it asks to be left alone for "), expected.is_some(), "{told}");
        // What a quota refused was never begun; of what a server in trouble did, nobody knows.
        assert_eq!(error.may_be_done(), !head.starts_with("429"), "{head}: {error}");
    }
}

fn redirect(status: &str, to: &str) -> String {
    format!("HTTP/1.1 {status}\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// With the path of the request, as a standby does it.
fn leading_to(other: &str) -> impl Fn(&str) -> String + Clone + Send + 'static {
    let other = other.to_string();
    move |request| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        redirect("307 Temporary Redirect", &format!("{other}{path}"))
    }
}

#[tokio::test]
async fn a_redirect_to_a_configured_address_is_followed_with_method_body_token_and_headers() {
    let (active, mut heard) = that_answers(as_kv).await;
    let (standby, _) = that_answers(leading_to(&active)).await;
    let settings = Settings { namespace: Some("team".to_string()), ..settings(&[&standby, &active], "t0ken") };
    let vault = Vault::new(settings).unwrap();
    let data = [("a".to_string(), serde_json::value::RawValue::from_string("\"b\"".to_string()).unwrap())];
    assert_eq!(vault.kv_write("secret/web", data.into(), 1).await.unwrap(), 2);
    let mount = heard.recv().await.unwrap();
    assert!(mount.starts_with("get /v1/sys/internal/ui/mounts/secret/web "), "{mount}");
    let write = heard.recv().await.unwrap();
    assert!(
        write.starts_with("post /v1/secret/data/web ")
            && write.ends_with("\r\n\r\n{\"data\":{\"a\":\"b\"},\"options\":{\"cas\":1}}"),
        "{write}"
    );
    for request in [mount, write] {
        for header in ["x-vault-token: t0ken", "x-vault-request: true", "x-vault-namespace: team"] {
            assert!(request.contains(header), "{request}");
        }
    }
}

#[tokio::test]
async fn a_redirect_to_anywhere_else_is_an_obstacle_and_nothing_reaches_it() {
    let (other, mut heard) = that_answers(as_kv).await;
    let port = other.rsplit(':').next().unwrap();
    for target in [other.clone(), format!("http://localhost:{port}"), format!("http://user:word@127.0.0.1:{port}")] {
        let (address, mut asked) = that_answers(leading_to(&target)).await;
        let settings = Settings { deadline: Duration::from_millis(500), ..settings(&[&address], "t0ken") };
        let vault = Vault::new(settings).unwrap();
        let reads = vault.kv_read("secret/x").await.unwrap_err();
        let expected = match target.contains("localhost") {
            true => format!("http://localhost:{port}"),
            false => other.clone(),
        };
        assert!(matches!(&reads, VaultError::Redirected { to, .. } if *to == expected), "{reads:?}");
        assert!(!reads.to_string().contains("word"), "{reads}");
        assert!(asked.recv().await.unwrap().contains("x-vault-token: t0ken"));
    }
    assert_eq!(lines(&mut heard), [""; 0]);
}

#[tokio::test]
async fn there_is_one_hop_and_no_second() {
    let (third, mut at_third) = that_answers(as_kv).await;
    let (second, mut at_second) = that_answers(leading_to(&third)).await;
    let (first, _) = that_answers(leading_to(&second)).await;
    let deadline = Duration::from_millis(200);
    let settings = Settings { deadline, ..settings(&[&first, &second], "t") };
    let error = Vault::new(settings).unwrap().kv_read("secret/x").await.unwrap_err();
    assert!(
        matches!(&error, VaultError::Redirected { address, to } if (address, to) == (&second, &third)),
        "{error:?}"
    );
    assert!(lines(&mut at_second).len() >= 2 && lines(&mut at_third).is_empty());
}

#[tokio::test]
async fn a_redirect_that_would_make_a_read_of_a_write_is_not_followed() {
    for status in ["301 x", "302 x", "303 x"] {
        let (other, mut heard) = that_answers(as_kv).await;
        let to = other.clone();
        let (address, _) = that_answers(move |request| match request.starts_with("post") {
            true => redirect(status, &format!("{to}/v1/secret/data/web")),
            false if request.contains("/mounts/") => as_kv(request),
            false => redirect(status, &format!("{to}/v1/secret/data/moved")),
        })
        .await;
        let deadline = Duration::from_secs(1);
        let vault = Vault::new(Settings { deadline, ..settings(&[&address, &other], "t") }).unwrap();
        assert_eq!(version(vault.kv_read("secret/web").await.unwrap()), Some(2));
        assert_eq!(lines(&mut heard), ["get /v1/secret/data/moved"]);
        // What followed it answers first from now on, and so it is asked itself.
        assert_eq!(vault.kv_write("secret/web", Default::default(), 1).await.unwrap(), 2);
        assert_eq!(lines(&mut heard), ["post /v1/secret/data/web"]);
        let alone = Vault::new(Settings { deadline, ..settings(&[&address], "t") }).unwrap();
        let error = alone.kv_write("secret/web", Default::default(), 1).await.unwrap_err();
        assert!(matches!(error, VaultError::Redirected { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_answer_that_drips_ends_at_the_deadline_and_one_without_end_at_the_limit() {
    for head in ["200 OK", "500 x", "404 x", "307 x\r\nLocation: http://127.0.0.1:1/"] {
        let drips = that_serves(move |mut client| async move {
            heard_from(&mut client).await;
            let _ = client.write_all(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes()).await;
            while client.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let deadline = Duration::from_millis(300);
        let vault = Vault::new(Settings { deadline, ..settings(&[&drips.await], "t") }).unwrap();
        let begun = Instant::now();
        let (kind, message) = obstacle(&vault.kv_read("secret/x").await.unwrap_err());
        assert_eq!(kind, ObstacleKind::Timeout, "{head}: {message}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{head}: {:?}", begun.elapsed());

        let endless = that_serves(move |mut client| async move {
            heard_from(&mut client).await;
            let _ = client.write_all(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes()).await;
            while client.write_all(&[b' '; 65_536]).await.is_ok() {}
        });
        let settings = Settings { deadline: Duration::from_secs(20), ..settings(&[&endless.await], "t") };
        let (kind, message) = obstacle(&Vault::new(settings).unwrap().kv_read("secret/x").await.unwrap_err());
        assert_eq!(kind, ObstacleKind::TooLarge, "{head}: {message}");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_no_answer() {
    for part in ["", "HTTP/1.1 200 OK\r\nConte", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"data\":"] {
        let cut = that_serves(move |mut client| async move {
            heard_from(&mut client).await;
            let _ = client.write_all(part.as_bytes()).await;
            // Half closed: it says no more and still listens.
            let _ = client.shutdown().await;
            let _ = client.read_to_end(&mut Vec::new()).await;
        });
        let error = vault(&[&cut.await], "t").kv_read("secret/x").await.unwrap_err();
        assert_eq!(obstacle(&error).0, ObstacleKind::Unreachable, "{part:?}: {error:?}");
    }
}

#[tokio::test]
async fn answers_that_say_no_are_read_to_their_end_so_that_one_connection_serves_them_all() {
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    let filler = " ".repeat(100_000);
    let body = format!("{{\"errors\":[\"no\"]}}{filler}");
    let address = that_serves(move |mut client| {
        CONNECTIONS.fetch_add(1, Ordering::SeqCst);
        let body = body.clone();
        async move {
            for status in ["400 x", "500 x", "307 x\r\nLocation: http://127.0.0.1:1/"].into_iter().cycle() {
                if heard_from(&mut client).await.is_empty() {
                    return;
                }
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = client.write_all(format!("{head}{body}").as_bytes()).await;
            }
        }
    });
    let settings = Settings { deadline: Duration::from_secs(5), ..settings(&[&address.await], "t") };
    let vault = Vault::new(settings).unwrap();
    for _ in 0..20 {
        // Where it is redirected, it asks again, as during an election.
        vault.kv_read("secret/x").await.unwrap_err();
    }
    let asked: u64 = vault.status().requests.iter().map(|(_, _, count)| count).sum();
    assert!(asked >= 20, "{asked}");
    assert_eq!(CONNECTIONS.load(Ordering::SeqCst), 1);
}

const ROOT: &str = "root-of-addresses";

/// A development server with one more listener, whose certificate is for this name alone.
async fn secured(name: &str) -> (support::vault::Vault, String, Vec<Vec<u8>>, Lifeline, tempfile::TempDir) {
    let files = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params(&[name], -1, 1).self_signed(&key).unwrap();
    let path = |name: &str| files.path().join(name);
    std::fs::write(path("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    let (plain, tls) = (free_port(), free_port());
    let listener = format!(
        "listener \"tcp\" {{ address = \"127.0.0.1:{tls}\" tls_cert_file = \"{}\" tls_key_file = \"{}\" }}\n",
        path("cert.pem").display(),
        path("key.pem").display(),
    );
    std::fs::write(path("config.hcl"), listener).unwrap();
    let (config, listen) = (path("config.hcl"), format!("-dev-listen-address=127.0.0.1:{plain}"));
    let config = format!("-config={}", config.display());
    let (bao, script) = (command(), r#""$@" >/dev/null 2>&1 </dev/null & cat; kill -9 $!; wait $!"#);
    let arguments = ["server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root-of-addresses", &listen, &config];
    let arguments = std::iter::once(bao.as_os_str()).chain(arguments.into_iter().map(std::ffi::OsStr::new));
    let lifeline = Lifeline::new(script, arguments);
    let admin = support::vault::Vault::at(&format!("http://127.0.0.1:{plain}"), ROOT);
    let deadline = Instant::now() + Duration::from_secs(30);
    while admin.try_call(ROOT, "GET", "auth/token/lookup-self", Value::Null).await.is_err() {
        assert!(Instant::now() < deadline, "no server with TLS");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let roots = Bundle::parse(certificate.pem().as_bytes()).unwrap().certificates;
    (admin, format!("https://127.0.0.1:{tls}"), roots, lifeline, files)
}

#[tokio::test]
async fn the_name_in_the_certificate_may_be_another_than_the_address() {
    let (admin, address, roots, _lifeline, _files) = secured("vault.internal.example").await;
    let kv = admin.kv("named").await;
    let with = |server_name: Option<&str>| {
        let server_name = server_name.map(str::to_string);
        let settings = Settings { server_name, roots: Some(roots.clone()), ..settings(&[&address], ROOT) };
        Vault::new(settings).unwrap()
    };
    let path = format!("{kv}/web");
    assert_eq!(with(Some("vault.internal.example")).kv_write(&path, Default::default(), 0).await.unwrap(), 1);
    for wrong in [None, Some("another.internal.example")] {
        let (kind, message) = obstacle(&with(wrong).kv_read(&path).await.unwrap_err());
        assert_eq!(kind, ObstacleKind::Tls, "{wrong:?}: {message}");
        // People know it by its address.
        assert!(message.contains(&format!("could not reach Vault at {address}: ")), "{message}");
    }
}

#[tokio::test]
async fn the_name_is_sent_in_the_handshake_and_each_address_is_connected_to() {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let asked = asked.clone();
        let address = that_serves(move |client| {
            let (asked, port) = (asked.clone(), client.local_addr().unwrap().port());
            async move {
                let hello = tokio_rustls::LazyConfigAcceptor::new(Default::default(), client).await;
                let name = hello.ok().and_then(|hello| hello.client_hello().server_name().map(str::to_string));
                asked.lock().unwrap().push((port, name));
            }
        });
        addresses.push(address.await.replace("http://", "https://"));
    }
    let ports: Vec<u16> =
        addresses.iter().map(|address| address.rsplit(':').next().unwrap().parse().unwrap()).collect();
    let named = Some("vault.internal.example".to_string());
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let settings = Settings { server_name: named.clone(), roots: Some(Vec::new()), ..settings(&addresses, "t") };
    Vault::new(settings).unwrap().kv_read("secret/x").await.unwrap_err();
    assert_eq!(*asked.lock().unwrap(), [(ports[0], named.clone()), (ports[1], named)]);
}

#[tokio::test]
async fn a_server_that_counts_no_states_is_caught_up_with_by_one_request() {
    let (address, mut heard) = that_answers(|request| match request.starts_with("post /v1/cubbyhole/certd ") {
        true => "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_string(),
        false => as_kv(request),
    })
    .await;
    let vault = vault(&[&address], "t");
    let since = Instant::now();
    let all = futures_util::future::join_all((0..16).map(|_| vault.catch_up(since))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    vault.kv_read("secret/x").await.unwrap();
    assert_eq!(vault.status().requests, [("mount", 200, 1), ("read", 200, 1), ("catch_up", 204, 1)]);
    while let Ok(request) = heard.try_recv() {
        assert!(!request.contains("x-vault-in"), "a server takes either header for a wish to read here: {request}");
    }
}

#[tokio::test]
async fn those_who_wait_for_the_same_state_share_its_failure() {
    let vault = vault(&[&closed()], "t");
    let since = Instant::now();
    let all = futures_util::future::join_all((0..16).map(|_| vault.catch_up(since))).await;
    assert!(all.iter().all(|caught_up| obstacle(caught_up.as_ref().unwrap_err()).0 == ObstacleKind::Unreachable));
    assert_eq!(vault.status().requests, [("catch_up", 0, 1)]);
    assert!(vault.catch_up(Instant::now()).await.is_err());
    assert_eq!(vault.status().requests, [("catch_up", 0, 2)], "what was true then need not be true now");
}
