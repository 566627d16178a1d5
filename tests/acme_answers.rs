//! What a CA, and anybody else, is answered where challenges are: over HTTP, over TLS, and in the files of a web server.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use certd::domain::name::San;
use certd::domain::text::with_causes;
use certd::issuer::acme::http_01::{Http01, Place};
use certd::issuer::acme::tls_alpn_01::TlsAlpn01;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs::default_provider};
use rustls::{ClientConfig, DigitallySignedStruct, ProtocolVersion, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

#[path = "support/crowd.rs"]
mod crowd;

const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";

const KEY_AUTHORIZATION: &str =
    "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";

// Over HTTP.

#[tokio::test]
async fn the_listener_answers_the_pending_token_and_nothing_else() {
    let http = at_a_free_port();
    http.present(TOKEN, KEY_AUTHORIZATION).await.unwrap();
    let address = address_of(&http).await;
    let path = format!("/.well-known/acme-challenge/{TOKEN}");

    let answer = ask(address, "GET", &path).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/octet-stream\r\n"), "{answer}");
    assert!(answer.ends_with(&format!("\r\n\r\n{KEY_AUTHORIZATION}")), "{answer}");

    let head = ask(address, "HEAD", &path).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains(&format!("content-length: {}\r\n", KEY_AUTHORIZATION.len())), "{head}");

    for (method, path) in [
        ("POST", path.as_str()),
        ("PUT", &path),
        ("OPTIONS", &path),
        ("GET", "/"),
        ("GET", "/.well-known/acme-challenge/"),
        ("GET", "/.well-known/acme-challenge/another"),
        ("GET", &format!("{path}/")),
        ("GET", &format!("{path}?x")),
        ("GET", &format!("/{path}")),
        ("GET", &format!("/x/../{path}")),
        ("GET", &path.to_uppercase()),
        ("GET", TOKEN),
    ] {
        let answer = ask(address, method, path).await;
        let is_nothing = answer.starts_with("HTTP/1.1 404 Not Found\r\n") && answer.ends_with("\r\n\r\n");
        assert!(is_nothing, "{method} {path}: {answer}");
    }
    http.withdraw(TOKEN).await;
}

#[tokio::test]
async fn two_orders_share_the_listener_and_the_last_one_closes_it() {
    let http = at_a_free_port();
    http.present("one", "one.key").await.unwrap();
    let address = address_of(&http).await;
    http.present("two", "two.key").await.unwrap();
    assert_eq!(address_of(&http).await, address);
    assert_eq!(body(address, "one").await, "one.key");
    assert_eq!(body(address, "two").await, "two.key");

    http.withdraw("one").await;
    assert_eq!(body(address, "one").await, "");
    assert_eq!(body(address, "two").await, "two.key");

    http.withdraw("two").await;
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(TcpListener::bind(address).is_ok());
}

#[tokio::test]
async fn an_answer_that_two_orders_wait_for_stays_until_both_have_left() {
    let http = at_a_free_port();
    http.present("one", "one.key").await.unwrap();
    http.present("one", "one.key").await.unwrap();
    let address = address_of(&http).await;

    http.withdraw("one").await;
    assert_eq!(body(address, "one").await, "one.key");

    http.withdraw("one").await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_listener_opens_again_at_the_same_address_for_the_next_order() {
    let address = free_address();
    let http = Http01::listener(Place::Addresses(vec![address]));
    for token in ["one", "two"] {
        http.present(token, "key").await.unwrap();
        assert_eq!(body(address, token).await, "key");
        http.withdraw(token).await;
    }
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_says_what_to_do_and_leaves_nothing_open() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (free, address) = (free_address(), taken.local_addr().unwrap());
    let http = Http01::listener(Place::Addresses(vec![free, address]));

    let error = http.present("one", "one.key").await.unwrap_err();

    let expected = format!(
        "could not listen on {address}: stop who listens there, or set another address: Address already in use \
         (os error 98)"
    );
    assert_eq!(with_causes(&error), expected);
    assert!(TcpStream::connect(free).await.is_err());

    drop(taken);
    http.present("one", "one.key").await.unwrap();
    assert_eq!(body(address, "one").await, "one.key");
    assert_eq!(body(free, "one").await, "one.key");
}

#[tokio::test]
async fn all_addresses_of_both_families_can_be_listened_at_one_port() {
    let port = free_address().port();
    let both = [format!("0.0.0.0:{port}"), format!("[::]:{port}")].map(|address| address.parse().unwrap());
    let http = Http01::listener(Place::Addresses(both.to_vec()));

    http.present("one", "one.key").await.unwrap();

    assert_eq!(body(format!("127.0.0.1:{port}").parse().unwrap(), "one").await, "one.key");
    assert_eq!(body(format!("[::1]:{port}").parse().unwrap(), "one").await, "one.key");
}

#[tokio::test]
async fn the_last_family_alone_takes_the_other_too() {
    let port = free_address().port();
    let http = Http01::listener(Place::Addresses(vec![format!("[::]:{port}").parse().unwrap()]));

    http.present("one", "one.key").await.unwrap();

    assert_eq!(body(format!("127.0.0.1:{port}").parse().unwrap(), "one").await, "one.key");
}

#[tokio::test]
async fn a_head_without_end_and_another_protocol_are_refused() {
    let http = at_a_free_port();
    http.present("one", "one.key").await.unwrap();
    let address = address_of(&http).await;

    let long = format!("GET /.well-known/acme-challenge/one HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(8192));
    let answer = say(address, &long).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");

    let answer = say(address, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(!answer.contains("200"), "{answer}");
    assert_eq!(body(address, "one").await, "one.key");
}

/// Else whoever keeps connections open would keep the CA out for good.
#[tokio::test]
async fn silent_clients_are_sent_away_after_two_seconds_and_keep_nobody_waiting() {
    let http = at_a_free_port();
    http.present("one", "one.key").await.unwrap();
    let address = address_of(&http).await;
    let began = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(body(address, "one").await, "one.key");
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    for mut client in silent {
        assert_eq!(client.read(&mut [0; 64]).await.unwrap_or(0), 0);
    }
    let waited = began.elapsed();
    assert!((Duration::from_millis(1_900)..Duration::from_secs(6)).contains(&waited), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_do_not_delay_a_ca() {
    for (from, count) in [("127.0.0.2", 200), ("127.0.0.2", 500), ("127.0.0.1", 80), ("127.0.0.1", 500)] {
        let http = at_a_free_port();
        http.present("one", "one.key").await.unwrap();
        let address = address_of(&http).await;
        let crowd = crowd::slow(address, from, count, b"G").await;
        let mut slowest = Duration::ZERO;
        for _ in 0..50 {
            let began = Instant::now();
            assert_eq!(body(address, "one").await, "one.key");
            slowest = slowest.max(began.elapsed());
            sleep(Duration::from_millis(40)).await;
        }
        println!("{count} slow clients from {from}: the slowest of 50 answers took {slowest:?}");
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
        drop(crowd);
    }
}

#[tokio::test]
async fn a_token_that_is_a_path_is_refused_by_the_listener_too() {
    let http = at_a_free_port();
    let error = http.present("../../x", "key").await.unwrap_err();
    assert_eq!(error.to_string(), REFUSED);
    let Http01::Listener(listening) = &http else { unreachable!("it was made one") };
    assert_eq!(listening.addresses().await, []);
}

const REFUSED: &str =
    "the token is not base64url text and could be a path, so it is not used: tell whoever runs the CA: ../../x";

// In the files of a web server.

#[tokio::test]
async fn a_webroot_holds_the_answer_until_it_is_withdrawn_and_keeps_its_directories() {
    let root = tempfile::tempdir().unwrap();
    let http = Http01::Webroot(root.path().to_path_buf());
    let folder = root.path().join(".well-known/acme-challenge");

    http.present(TOKEN, KEY_AUTHORIZATION).await.unwrap();
    http.present("another", "another.key").await.unwrap();

    assert_eq!(fs::read_to_string(folder.join(TOKEN)).unwrap(), KEY_AUTHORIZATION);
    assert_eq!(mode(&folder.join(TOKEN)), 0o644);
    assert_eq!([mode(&folder), mode(folder.parent().unwrap())], [0o755, 0o755]);
    assert_eq!(names(&folder), ["another", TOKEN]);

    http.withdraw(TOKEN).await;
    assert_eq!(names(&folder), ["another"]);
    http.withdraw(TOKEN).await;
    http.withdraw("another").await;
    assert_eq!(names(&folder), [] as [&str; 0]);
}

#[tokio::test]
async fn an_answer_and_a_draft_that_a_crash_left_are_replaced() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(".well-known/acme-challenge");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    for left in ["one", ".one.certd-draft"] {
        fs::write(folder.join(left), "old").unwrap();
        fs::set_permissions(folder.join(left), fs::Permissions::from_mode(0o600)).unwrap();
    }

    Http01::Webroot(root.path().to_path_buf()).present("one", "one.key").await.unwrap();

    assert_eq!(fs::read_to_string(folder.join("one")).unwrap(), "one.key");
    assert_eq!((mode(&folder.join("one")), mode(&folder)), (0o644, 0o700));
    assert_eq!(names(&folder), ["one"]);
}

#[tokio::test]
async fn a_token_that_is_a_path_is_refused_and_touches_nothing() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("root");
    fs::create_dir_all(root.join(".well-known/acme-challenge")).unwrap();
    fs::write(root.join("x"), "precious").unwrap();
    let http = Http01::Webroot(root.clone());

    assert_eq!(http.present("../../x", "evil").await.unwrap_err().to_string(), REFUSED);
    http.withdraw("../../x").await;

    assert_eq!(fs::read_to_string(root.join("x")).unwrap(), "precious");
    assert_eq!(names(&root.join(".well-known/acme-challenge")), [] as [&str; 0]);
}

#[tokio::test]
async fn no_link_leads_out_of_the_webroot() {
    let home = tempfile::tempdir().unwrap();
    let [root, outside] = ["root", "outside"].map(|name| home.path().join(name));
    fs::create_dir(&root).unwrap();
    fs::create_dir_all(outside.join("acme-challenge")).unwrap();
    fs::write(outside.join("acme-challenge/one"), "precious").unwrap();
    let http = Http01::Webroot(root.clone());
    let refused = |path: &Path| {
        let path = path.display();
        format!("a link or a file is in the way of challenges: make it a directory, or set another webroot: {path}")
    };

    let way = root.join(".well-known");
    symlink(&outside, &way).unwrap();
    assert_eq!(http.present("one", "evil").await.unwrap_err().to_string(), refused(&way));
    http.withdraw("one").await;

    fs::remove_file(&way).unwrap();
    fs::create_dir(&way).unwrap();
    symlink(outside.join("acme-challenge"), way.join("acme-challenge")).unwrap();
    assert_eq!(http.present("one", "evil").await.unwrap_err().to_string(), refused(&way.join("acme-challenge")));
    http.withdraw("one").await;
    assert_eq!(fs::read_to_string(outside.join("acme-challenge/one")).unwrap(), "precious");

    fs::remove_file(way.join("acme-challenge")).unwrap();
    fs::create_dir(way.join("acme-challenge")).unwrap();
    let answer = way.join("acme-challenge/one");
    symlink(outside.join("acme-challenge/one"), &answer).unwrap();
    symlink(outside.join("acme-challenge/one"), way.join("acme-challenge/.one.certd-draft")).unwrap();
    http.present("one", "one.key").await.unwrap();
    assert_eq!(fs::read_to_string(&answer).unwrap(), "one.key");
    assert!(answer.symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read_to_string(outside.join("acme-challenge/one")).unwrap(), "precious");
}

#[tokio::test]
async fn a_webroot_that_is_not_there_is_told_and_not_made() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("root");
    let error = Http01::Webroot(root.clone()).present("one", "one.key").await.unwrap_err();
    let expected = format!(
        "could not open {}: set a webroot that is there and that certd may write in: No such file or directory \
         (os error 2)",
        root.display()
    );
    assert_eq!(with_causes(&error), expected);
    assert!(!root.exists());
}

// Over TLS.

#[tokio::test]
async fn a_name_is_proved_to_whoever_asks_for_it_as_a_ca_does() {
    let tls = at_a_free_tls_port();
    let san = San::Dns("WWW.example.org".into());
    tls.present(&san, KEY_AUTHORIZATION).await.unwrap();
    let address = tls.addresses().await[0];

    for (version, expected) in
        [(&rustls::version::TLS12, ProtocolVersion::TLSv1_2), (&rustls::version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        let shown = shake_hands_by(version, address, "www.example.org", &["acme-tls/1"]).await.unwrap();
        assert_eq!((shown.version, shown.protocol.as_deref()), (expected, Some("acme-tls/1")));
        assert_proves(&shown.certificate, &GeneralName::DNSName("www.example.org"), KEY_AUTHORIZATION);
    }
    tls.withdraw(&san).await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn an_address_is_proved_to_whoever_asks_for_its_name_in_reverse_dns() {
    let tls = at_a_free_tls_port();
    for ip in ["127.0.0.1", "2001:db8::1"] {
        tls.present(&San::Ip(ip.parse().unwrap()), KEY_AUTHORIZATION).await.unwrap();
    }
    let address = tls.addresses().await[0];
    for (name, octets) in [
        ("1.0.0.127.in-addr.arpa", vec![127, 0, 0, 1]),
        (
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            vec![0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        ),
    ] {
        let shown = shake_hands(address, name, &["acme-tls/1"]).await.unwrap();
        assert_proves(&shown.certificate, &GeneralName::IPAddress(&octets), KEY_AUTHORIZATION);
    }
}

#[tokio::test]
async fn whoever_asks_for_anything_else_is_shown_no_certificate() {
    let tls = at_a_free_tls_port();
    tls.present(&San::Dns("www.example.org".into()), KEY_AUTHORIZATION).await.unwrap();
    let address = tls.addresses().await[0];
    for (name, protocols) in [
        ("www.example.org", vec![]),
        ("www.example.org", vec!["h2", "http/1.1"]),
        ("www.example.org", vec!["acme-tls/2"]),
        ("example.org", vec!["acme-tls/1"]),
        ("www.example.org.evil.example", vec!["acme-tls/1"]),
        ("127.0.0.1", vec!["acme-tls/1"]),
    ] {
        let refused = shake_hands(address, name, &protocols).await.map(|shown| shown.certificate).unwrap_err();
        assert!(refused.contains("received fatal alert"), "{name} {protocols:?}: {refused}");
    }
    assert!(shake_hands(address, "www.example.org", &["h2", "acme-tls/1"]).await.is_ok());
}

#[tokio::test]
async fn two_names_share_the_tls_port_and_each_has_its_own_answer() {
    let tls = at_a_free_tls_port();
    let [one, two] = ["one.example.org", "two.example.org"].map(|name| San::Dns(name.into()));
    tls.present(&one, "one.key").await.unwrap();
    tls.present(&two, "two.key").await.unwrap();
    let address = tls.addresses().await[0];
    for (name, key_authorization) in [("one.example.org", "one.key"), ("two.example.org", "two.key")] {
        let shown = shake_hands(address, name, &["acme-tls/1"]).await.unwrap();
        assert_proves(&shown.certificate, &GeneralName::DNSName(name), key_authorization);
    }

    assert_eq!(
        tls.present(&one, "other.key").await.unwrap_err().to_string(),
        "another order has one.example.org proved with another answer: wait until it has ended"
    );
    tls.withdraw(&one).await;
    assert!(shake_hands(address, "one.example.org", &["acme-tls/1"]).await.is_err());
    assert!(shake_hands(address, "two.example.org", &["acme-tls/1"]).await.is_ok());
    tls.withdraw(&two).await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_wildcard_is_no_name_for_tls() {
    let tls = at_a_free_tls_port();
    assert_eq!(
        tls.present(&San::Dns("*.example.org".into()), "key").await.unwrap_err().to_string(),
        "tls-alpn-01 proves DNS names without a wildcard and addresses: choose another challenge for *.example.org"
    );
    assert_eq!(tls.addresses().await, []);
}

// At a socket of systemd.

/// A socket can only be handed to a process that begins, so this program is begun once more, for the test below.
#[tokio::test]
async fn a_socket_of_systemd_is_answered_at_by_one_order_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let child = Command::new("systemd-socket-activate")
        .args(["--listen", &address.to_string(), "--fdname=http", "-E"])
        .arg(format!("{FOLDER}={}", folder.path().display()))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "what_systemd_began_answers_at_the_socket_that_it_was_handed"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _child = Ended(child.unwrap());

    // What waited at the socket before anything was pending has been sent away, so it is asked again.
    until_answered(address, "one").await;
    assert_eq!(body(address, "two").await, "");

    fs::write(folder.path().join("next"), "").unwrap();
    until_answered(address, "two").await;
    assert_eq!(body(address, "one").await, "");
}

#[tokio::test]
async fn what_systemd_began_answers_at_the_socket_that_it_was_handed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let http = Http01::listener(Place::Socket("http".into()));
    http.present("one", "one.key").await.unwrap();
    let second = Http01::listener(Place::Socket("http".into())).present("two", "two.key").await;
    assert_eq!(
        second.unwrap_err().to_string(),
        "other challenges are answered at the socket named http: give http-01 and tls-alpn-01 each one of its own"
    );
    while !Path::new(&folder).join("next").exists() {
        sleep(Duration::from_millis(20)).await;
    }
    http.withdraw("one").await;
    let next = Http01::listener(Place::Socket("http".into()));
    next.present("two", "two.key").await.unwrap();
    sleep(Duration::from_secs(60)).await;
}

const FOLDER: &str = "CERTD_TEST_FOLDER";

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until_answered(address: SocketAddr, token: &str) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(30) {
        let asked = timeout(Duration::from_secs(1), try_to_say(address, &get(token))).await;
        if asked.is_ok_and(|answer| answer.is_ok_and(|text| text.ends_with(&format!("{token}.key")))) {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("{token} was not answered");
}

// Who asks.

fn at_a_free_port() -> Http01 {
    Http01::listener(Place::Addresses(vec!["127.0.0.1:0".parse().unwrap()]))
}

fn at_a_free_tls_port() -> TlsAlpn01 {
    TlsAlpn01::new(Place::Addresses(vec!["127.0.0.1:0".parse().unwrap()]))
}

async fn address_of(http: &Http01) -> SocketAddr {
    let Http01::Listener(listening) = http else { panic!("a webroot has no address") };
    listening.addresses().await[0]
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn body(address: SocketAddr, token: &str) -> String {
    let answer = say(address, &get(token)).await;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_string()).unwrap_or(answer)
}

fn get(token: &str) -> String {
    format!("GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nhost: x\r\n\r\n")
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> String {
    say(address, &format!("{method} {path} HTTP/1.1\r\nhost: example.org\r\n\r\n")).await
}

async fn say(address: SocketAddr, text: &str) -> String {
    try_to_say(address, text).await.unwrap()
}

async fn try_to_say(address: SocketAddr, text: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(text.as_bytes()).await?;
    let mut answer = Vec::new();
    // A server that refuses to read on may end the connection before all was said.
    let _ = stream.read_to_end(&mut answer).await;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// As a CA looks at it (RFC 8737, section 3): self-signed, one name, and the digest in a critical extension.
fn assert_proves(certificate: &[u8], name: &GeneralName, key_authorization: &str) {
    let (rest, certificate) = X509Certificate::from_der(certificate).unwrap();
    assert_eq!((rest.len(), certificate.issuer()), (0, certificate.subject()));
    let sans = certificate.subject_alternative_name().unwrap().unwrap();
    assert_eq!(sans.value.general_names, std::slice::from_ref(name));
    let mut identifiers = certificate.extensions().iter().filter(|it| it.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
    let identifier = identifiers.next().unwrap();
    assert!(
        identifier.critical && matches!(identifier.parsed_extension(), ParsedExtension::UnsupportedExtension { .. })
    );
    let expected = [&[0x04, 0x20], digest(&SHA256, key_authorization.as_bytes()).as_ref()].concat();
    assert_eq!((identifier.value, identifiers.count()), (expected.as_slice(), 0));
}

#[derive(Debug)]
struct Shown {
    certificate: Vec<u8>,
    protocol: Option<String>,
    version: ProtocolVersion,
}

async fn shake_hands(address: SocketAddr, name: &str, protocols: &[&str]) -> Result<Shown, String> {
    shake_hands_by(&rustls::version::TLS13, address, name, protocols).await
}

async fn shake_hands_by(
    version: &'static rustls::SupportedProtocolVersion,
    address: SocketAddr,
    name: &str,
    protocols: &[&str],
) -> Result<Shown, String> {
    let provider = Arc::new(default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_string()).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let connecting = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream);
    let mut tls = connecting.await.map_err(|error| error.to_string())?;
    let (_, session) = tls.get_ref();
    let shown = Shown {
        certificate: session.peer_certificates().unwrap()[0].to_vec(),
        protocol: session.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
        version: session.protocol_version().unwrap(),
    };
    // The server has nothing to say, and says so.
    assert_eq!(tls.read(&mut [0; 1]).await.map_err(|error| error.to_string())?, 0);
    Ok(shown)
}

/// Takes any: webpki reads no certificate with a critical extension that it does not know, not even for its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
