//! TLS endpoints: real servers on loopback.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::certd::{Place, lines, obstacle};
use crate::made::{black_hole, closed_port, identity, root_pem, served, served_on};

fn place() -> Place {
    let place = Place::new();
    place.write("root.pem", root_pem());
    place
}

#[test]
fn an_endpoint_is_shown_with_its_chain_as_it_is_served() {
    let server = served(&identity("127.0.0.1", -10, 80)).to_string();
    let (code, told) = place().report(&[&server, "--roots", "root.pem"]);
    assert_eq!((code, lines(&told)), (0, vec![format!("{server} ok")]));
    let certificate = &told["certificates"][0];
    assert_eq!(certificate["leaf"]["sans"], json!(["127.0.0.1"]));
    assert_eq!(certificate["leaf"]["key"], "ecdsa-p256");
    assert_eq!(certificate["chain"].as_array().unwrap().len(), 1);
    assert_eq!(certificate["chain"][0]["subject"], "CN=Check Root");
    assert_eq!(certificate["source"], "tls");
}

#[test]
fn the_name_that_is_asked_for_is_the_one_that_counts() {
    let server = served(&identity("www.example.org", -10, 80));
    let (by_name, https) = (format!("{server} sni=WWW.example.org"), format!("https://localhost:{}", server.port()));
    let (code, told) = place().report(&[&by_name, &server.to_string(), &https, "--roots", "root.pem"]);
    let wanted = [
        format!("{server} critical hostname"),
        format!("{server} sni=www.example.org ok"),
        format!("localhost:{} critical hostname", server.port()),
    ];
    assert_eq!((code, lines(&told)), (2, wanted.to_vec()));
}

#[test]
fn an_address_of_version_6_stands_in_brackets() {
    let port = served_on("::1", &identity("::1", -10, 80), |_| std::future::ready(())).port();
    let (code, told) = place().report(&[&format!("[0:0::1]:{port}"), "--roots", "root.pem"]);
    assert_eq!((code, lines(&told)), (0, vec![format!("[::1]:{port} ok")]));
}

#[test]
fn an_endpoint_is_judged_by_the_roots_of_the_system_unless_others_are_named() {
    let server = served(&identity("127.0.0.1", -10, 80)).to_string();
    let own = place();
    assert_eq!(lines(&own.report(&[&server, "--roots", "none"]).1), [format!("{server} ok")]);
    let trusting = place().set("SSL_CERT_FILE", own.path().join("root.pem").display().to_string());
    assert_eq!(lines(&trusting.report(&[&server]).1), [format!("{server} ok")]);
    let another = own.write("other.pem", crate::made::Root::named("Another").pem).display().to_string();
    let distrusting = place().set("SSL_CERT_FILE", another);
    assert_eq!(lines(&distrusting.report(&[&server]).1), [format!("{server} critical chain")]);
    let bare = place().set("SSL_CERT_FILE", "/no/such/file").set("SSL_CERT_DIR", "/no/such/folder");
    assert_eq!(
        bare.check(&[&server]).refusal(),
        "this host has no root certificates: install the package ca-certificates, or name a file of roots"
    );
}

#[test]
fn an_endpoint_that_does_not_answer_is_unknown_and_says_why() {
    let place = place();
    let closed = format!("127.0.0.1:{}", closed_port());
    let plain = crate::made::listening("127.0.0.1", |mut stream| async move {
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 mx.example ESMTP\r\n").await;
    })
    .to_string();
    let (code, told) = place.report(&[&closed, "--roots", "none"]);
    assert_eq!((code, lines(&told)), (3, vec![format!("{closed} unknown unreachable")]));
    assert_eq!(obstacle(&told), format!("could not connect to {closed}: Connection refused (os error 111)"));
    let (code, told) = place.report(&[&plain, "--roots", "none"]);
    assert_eq!((code, lines(&told)), (3, vec![format!("{plain} unknown tls")]));
    let (code, told) = place.report(&["nowhere.invalid:443", "--roots", "none"]);
    assert_eq!((code, lines(&told)), (3, vec!["nowhere.invalid:443 unknown dns".to_string()]));
}

#[test]
fn three_hundred_endpoints_and_a_black_hole_take_about_one_timeout() {
    let place = place();
    let one = identity("127.0.0.1", -10, 80);
    let mut list: Vec<String> = (0..300).map(|_| served(&one).to_string()).collect();
    let hole = black_hole().to_string();
    list.insert(7, hole.clone());
    place.write("list", list.join("\n"));
    let started = Instant::now();
    let (code, told) = place.report(&["--targets-file", "list", "--timeout", "1s", "--roots", "root.pem"]);
    let took = started.elapsed();
    assert_eq!((code, &told["summary"]), (3, &json!({"ok": 300, "warning": 0, "critical": 0, "unknown": 1})));
    assert!(lines(&told).contains(&format!("{hole} unknown timeout")));
    // Far more than it takes, for a machine that is busy with other tests.
    assert!(took < Duration::from_secs(10) && took >= Duration::from_secs(1), "{took:?}");
}
