//! The first command of the README, sped up: lifetimes of seconds and another port.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use certd::pki;
use certd::pki::bundle::Bundle;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::process::{Home, Running, eventually, get};
use super::support::certd::{certd, output};
use super::support::server::free_port;

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/quickstart.toml");

#[test]
fn a_certificate_is_found_missing_issued_stored_served_found_due_and_renewed() {
    let home = Home::new();
    let port = free_port();
    let config = home.path("config/quickstart.toml");
    std::fs::create_dir(config.parent().unwrap()).unwrap();
    let text = std::fs::read_to_string(QUICKSTART).unwrap();
    let text = text.replace("9843", &port.to_string()).replace("\"3m\"", "\"20s\"").replace("\"5s\"", "\"1s\"");
    std::fs::write(&config, text).unwrap();

    let certd = Running::new(&config, &[]);
    certd.logs(&["metrics: https://127.0.0.1", "/metrics"]);
    certd.logs(&["kept in", "quickstart/certificates/localhost", "cert=localhost"]);
    let check = certd.logs(&["in another terminal: certd check 127.0.0.1:", "--roots", "quickstart/ca/ca.pem"]);
    certd.logs(&["renewing", "cert=localhost", "reason=\"missing\""]);
    certd.logs(&["renewed, stored and read back", "cert=localhost", "reason=\"missing\"", "issuer=local"]);
    certd.logs(&["the listener serves a new certificate"]);
    let first = seen(&home, port, "the first certificate is served", |page, served| {
        has(page, "certd_certificate_state{cert=\"localhost\",state=\"ok\"} 1") && page.contains(served)
    });
    assert_eq!(first, stored(&home));
    assert_eq!(succeeds(&check), Some(0), "{check}");

    let second = seen(&home, port, "another one is served", |page, served| served != first && page.contains(served));
    assert_eq!(second, stored(&home));
    certd.logs(&["renewed, stored and read back", "reason=\"due\""]);
    eventually("the word that each was seen served", || {
        let served =
            certd.count(&["the renewed certificate is served", "cert=localhost", &format!("localhost:{port}")]);
        let renewed = certd.count(&["renewed, stored and read back"]);
        if served >= 2 && served <= renewed { Ok(()) } else { Err(certd.log().join("\n")) }
    });
    certd.stop();

    assert_eq!(entries(&home.path("")), ["config", "quickstart"]);
    assert_eq!(entries(&home.path("config")), ["quickstart.toml"]);
    assert_eq!(entries(&home.path("quickstart")), ["ca", "certificates", "state"]);
}

/// The line that certd offers, run as it stands.
fn succeeds(line: &str) -> Option<i32> {
    let arguments = line.split("certd check ").nth(1).unwrap().split(' ');
    output(certd().arg("check").args(arguments), b"").status.code()
}

/// What a client that trusts the CA alone is shown, once the page of metrics says so too.
fn seen(home: &Home, port: u16, what: &str, is_so: impl Fn(&str, &str) -> bool) -> String {
    eventually(what, || {
        let ca = std::fs::read(home.path("quickstart/ca/ca.pem")).map_err(|e| e.to_string())?;
        let mut roots = RootCertStore::empty();
        roots.add(Bundle::parse(&ca).unwrap().certificates[0].clone().into()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string())?;
        client.complete_io(&mut socket).map_err(|e| e.to_string())?;
        let served = hex(client.peer_certificates().unwrap()[0].as_ref());
        let (_, page) = get(StreamOwned::new(client, socket), "/metrics");
        if is_so(&page, &served) { Ok(served) } else { Err(format!("{served} is served\n{page}")) }
    })
}

fn stored(home: &Home) -> String {
    let pem = std::fs::read(home.path("quickstart/certificates/localhost/fullchain.pem")).unwrap();
    hex(&Bundle::parse(&pem).unwrap().certificates[0])
}

fn hex(der: &[u8]) -> String {
    pki::sha256(der).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn has(page: &str, line: &str) -> bool {
    page.lines().any(|written| written == line)
}

fn entries(folder: &Path) -> Vec<String> {
    let names: BTreeSet<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.into_iter().collect()
}
