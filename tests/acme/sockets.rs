//! HTTP-01 and TLS-ALPN-01 without a port of certd's own: files of a web server, and sockets of systemd.

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{StatusCode, Uri};
use tokio::net::{TcpListener, TcpStream};

use crate::home::{Home, World};
use crate::support::certd::{BINARY, Certd};
use crate::support::pebble::Settings;

const WITHIN: Duration = Duration::from_secs(60);

const GET_SYSTEMD: &str = "this test needs systemd-socket-activate: apt-get install systemd";

#[tokio::test]
async fn a_name_is_proved_by_a_file_that_a_web_server_serves_and_that_is_gone_afterwards() {
    let world = World::new(Settings::default()).await;
    let root = world.home.path("htdocs");
    fs::create_dir(&root).unwrap();
    let served = Arc::<Mutex<Vec<String>>>::default();
    let (serves, from) = (served.clone(), root.clone());
    let serve = async move |uri: Uri| {
        let file = from.join(uri.path().trim_start_matches('/'));
        let text = tokio::fs::read_to_string(file).await.map_err(|_| StatusCode::NOT_FOUND)?;
        serves.lock().unwrap().push(uri.path().to_string());
        Ok::<_, StatusCode>(text)
    };
    let listener = TcpListener::bind(&world.home.http).await.unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(serve)).await.unwrap() });

    world.home.configure("challenge.http_01 = { webroot = \"htdocs\" }\n", &["www.example.test"]);
    assert_eq!(world.home.renewed().await.names[0].to_string(), "www.example.test");
    let served = served.lock().unwrap().clone();
    assert!(!served.is_empty() && served.iter().all(|path| path.starts_with("/.well-known/acme-challenge/")));
    assert_eq!(fs::read_dir(root.join(".well-known/acme-challenge")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_webroot_that_is_not_there_is_told_with_what_to_do() {
    let world = World::new(Settings::default()).await;
    world.home.configure("challenge.http_01 = { webroot = \"htdocs\" }\n", &["www.example.test"]);
    let failed = world.home.certd(&["renew", "web"]).await;
    assert_eq!(failed.code, 2, "{failed:?}");
    assert!(failed.out.contains("set a webroot that is there and that certd may write in"), "{failed:?}");
}

#[tokio::test]
async fn http_01_is_answered_at_a_socket_of_systemd_order_after_order() {
    let world = World::new(Settings::default()).await;
    world.home.configure("challenge.http_01 = { socket = \"certd-http\" }\n", &["www.example.test"]);
    renewed_twice_at(&world.home, &world.home.http, "certd-http").await;
}

#[tokio::test]
async fn tls_alpn_01_is_answered_at_a_socket_of_systemd_order_after_order() {
    let world = World::new(Settings::default()).await;
    world.home.configure("challenge.tls_alpn_01 = { socket = \"certd-tls\" }\n", &["www.example.test"]);
    renewed_twice_at(&world.home, &world.home.tls, "certd-tls").await;
}

#[tokio::test]
async fn a_socket_that_was_not_handed_over_is_told_with_the_setting_that_it_needs() {
    let world = World::new(Settings::default()).await;
    world.home.configure("challenge.http_01 = { socket = \"certd-http\" }\n", &["www.example.test"]);
    let failed = world.home.certd(&["renew", "web"]).await;
    assert_eq!(failed.code, 2, "{failed:?}");
    assert!(failed.out.contains("set FileDescriptorName=certd-http in a .socket unit of certd"), "{failed:?}");
}

/// By a daemon that systemd starts at the first connection: once as it finds nothing, and once as a person asks for it of
/// the one that has read its configuration anew.
async fn renewed_twice_at(home: &Home, address: &str, name: &str) {
    let mut command = Command::new("systemd-socket-activate");
    command.args(["-l", address, &format!("--fdname={name}"), "-E", "TMPDIR", BINARY, "run", "--config"]);
    command.arg(home.path("certd.toml"));
    assert!(Command::new("systemd-socket-activate").arg("--version").output().is_ok(), "{GET_SYSTEMD}");
    let mut certd = Certd::start(&mut command);
    until("systemd listens", async || TcpStream::connect(address).await.is_ok()).await;
    until("it is renewed", async || home.path("web/fullchain.pem").exists()).await;
    let first = home.leaf();
    assert_eq!(first.names[0].to_string(), "www.example.test");
    certd.signal("HUP");
    until("it is reloaded", async || certd.log().iter().any(|(_, line)| line.contains("reloaded"))).await;
    let again = home.certd(&["renew", "--force", "web"]).await;
    assert_eq!(again.code, 0, "{again:?}");
    assert_ne!(home.leaf().fingerprint, first.fingerprint);
    certd.signal("TERM");
    assert!(certd.wait().success(), "{:?}", certd.log());
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within {WITHIN:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
