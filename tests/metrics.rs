//! The page as Prometheus reads it, and the listener as a scraper meets it.

#[path = "support/crowd.rs"]
mod crowd;
mod sample;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certd::domain::inventory::{Location, Sighting};
use certd::domain::plan::{Action, Reason, Record};
use certd::domain::snapshot::{Entry, Phase, Snapshot};
use certd::domain::time::Timestamp;
use certd::metrics::listener::{ListenError, ListenSettings, Listener, Reload, TlsFiles};
use certd::metrics::own::{Ending, OwnMetrics};
use certd::metrics::page::{Page, Readiness};
use certd::metrics::render::render;
use reqwest::{Certificate, Client, StatusCode};
use sample::{DAY, NOW, about, certificate, endpoint, entry, every_family, found, managed, of_a_ca, secret, snapshot};

fn page_of(snapshot: &Snapshot) -> String {
    render(snapshot, &about())
}

/// A series' name and labels, and its value; fails on what is neither a comment nor a series.
fn series(page: &str) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a series: {line}"));
        let value = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
        assert_eq!(all.insert(name.to_string(), value), None, "twice: {name}");
    }
    all
}

/// What promtool has to say about a page; it says nothing about a good one.
fn promtool(page: &str) -> String {
    let promtool = std::env::var_os("CERTD_TEST_PROMTOOL").unwrap_or_else(|| "promtool".into());
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed: install Debian's package `prometheus`, or set CERTD_TEST_PROMTOOL to its path");
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() { said } else { format!("{}: {said}", output.status) }
}

fn own() -> OwnMetrics {
    let own = OwnMetrics::new(NOW);
    own.renewal_attempted(Some(&"internal".into()), Ending::Renewed, Reason::Due);
    own.phase_took(Phase::Observe, Duration::from_millis(300));
    own
}

#[test]
fn promtool_is_silent_about_a_page_with_every_family() {
    assert_eq!(promtool(&(page_of(&every_family()) + &own().encode().unwrap())), "");
}

#[test]
fn promtool_would_not_be_silent_about_a_bad_page() {
    assert_ne!(promtool("certd_things{a=\"b\"} 1\ncertd_things{a=\"c\" 1\n"), "");
}

#[test]
fn every_family_says_its_kind_once_and_keeps_its_series_together() {
    let page = page_of(&every_family()) + &own().encode().unwrap();
    let mut kinds = BTreeMap::new();
    let mut current = "";
    for line in page.lines() {
        if let Some(header) = line.strip_prefix("# TYPE ") {
            let (name, kind) = header.split_once(' ').unwrap();
            assert_eq!(kinds.insert(name, kind), None, "twice: {name}");
            current = name;
        } else if !line.starts_with('#') {
            assert!(line.starts_with(current), "{line}\nis not of {current}");
        }
    }
    for (name, kind) in [
        ("certd_certificate_not_after_timestamp_seconds", "gauge"),
        ("certd_certificate_not_before_timestamp_seconds", "gauge"),
        ("certd_certificate_chain_not_after_timestamp_seconds", "gauge"),
        ("certd_certificate_info", "gauge"),
        ("certd_certificate_state", "gauge"),
        ("certd_certificate_problem", "gauge"),
        ("certd_certificate_last_observed_timestamp_seconds", "gauge"),
        ("certd_certificate_renewal_due_timestamp_seconds", "gauge"),
        ("certd_renewal_attempts_total", "counter"),
        ("certd_renewal_consecutive_failures", "gauge"),
        ("certd_renewal_last_success_timestamp_seconds", "gauge"),
        ("certd_acting", "gauge"),
        ("certd_source_up", "gauge"),
        ("certd_source_last_success_timestamp_seconds", "gauge"),
        ("certd_source_items", "gauge"),
        ("certd_source_errors_total", "counter"),
        ("certd_endpoint_probe_duration_seconds", "gauge"),
        ("certd_issuer_up", "gauge"),
        ("certd_issuer_not_after_timestamp_seconds", "gauge"),
        ("certd_issuer_backoff_until_timestamp_seconds", "gauge"),
        ("certd_vault_token_expiry_timestamp_seconds", "gauge"),
        ("certd_vault_requests_total", "counter"),
        ("certd_vault_cas_conflicts_total", "counter"),
        ("certd_cycle_last_completed_timestamp_seconds", "gauge"),
        ("certd_cycle_last_success", "gauge"),
        ("certd_cycle_duration_seconds", "histogram"),
        ("certd_config_hash_info", "gauge"),
        ("certd_build_info", "gauge"),
        ("process_cpu_seconds_total", "counter"),
        ("process_resident_memory_bytes", "gauge"),
        ("process_open_fds", "gauge"),
        ("process_start_time_seconds", "gauge"),
    ] {
        assert_eq!(kinds.get(name), Some(&kind), "{name}");
    }
}

fn healthy_managed() -> Entry {
    let kept = Record { last_success: Some(Timestamp(NOW.0 - 5 * DAY)), ..Record::default() };
    let keep = Action::Keep { renew_at: Timestamp(NOW.0 + 25 * DAY) };
    let chain = found(certificate("pay.example.org", 60), vec![certificate("CA", 40)]);
    let mut healthy = managed(entry(secret("secret/tls/pay"), chain), "payments-api", keep, kept);
    healthy.problems.clear();
    healthy
}

#[test]
fn a_list_and_a_revoked_certificate_have_at_most_eight_series_each() {
    let page = page_of(&snapshot(of_a_ca()));
    let next = page.lines().find(|line| line.starts_with("certd_crl_next_update_timestamp_seconds{")).unwrap();
    assert!(
        next.contains(r#"source="edge",location="vault:main:pki/issuer/internal/crl",environment="prod""#),
        "{next}"
    );
    assert!(next.ends_with(&format!(" {}", NOW.0 + 2 * DAY)), "{next}");
    let cert = next.split('"').nth(1).unwrap();
    let of_list: Vec<_> = page.lines().filter(|line| line.contains(cert)).collect();
    assert_eq!(of_list.len(), 3, "its state, when it was looked at, and this: {of_list:#?}");
    let all = page.lines().filter(|line| line.starts_with("certd_c") && line.contains("cert=")).count();
    assert!(all - of_list.len() <= 8, "{page}");
}

#[test]
fn a_healthy_certificate_has_these_eight_series() {
    let page = series(&page_of(&snapshot(vec![healthy_managed()])));
    let place = r#"{cert="payments-api",source="edge",location="vault:main:secret/tls/pay",environment="prod"}"#;
    let fingerprint = certificate("pay.example.org", 60).fingerprint;
    let wanted = [
        (format!("certd_certificate_not_after_timestamp_seconds{place}"), NOW.0 + 60 * DAY),
        (format!("certd_certificate_not_before_timestamp_seconds{place}"), NOW.0 - 30 * DAY),
        (format!("certd_certificate_chain_not_after_timestamp_seconds{place}"), NOW.0 + 40 * DAY),
        (
            format!(
                "certd_certificate_info{{cert=\"payments-api\",subject_cn=\"pay.example.org\",\
                 issuer_cn=\"Example CA\",serial=\"4f1e5c\",fingerprint_sha256=\"{fingerprint}\",\
                 key_type=\"ecdsa-p256\",signature=\"ecdsa-sha256\",owner=\"team-payments\",managed=\"declared\"}}"
            ),
            1,
        ),
        (r#"certd_certificate_state{cert="payments-api",state="ok"}"#.into(), 1),
        (r#"certd_certificate_last_observed_timestamp_seconds{cert="payments-api"}"#.into(), NOW.0),
        (
            r#"certd_certificate_renewal_due_timestamp_seconds{cert="payments-api",reason="due"}"#.into(),
            NOW.0 + 25 * DAY,
        ),
        (r#"certd_renewal_last_success_timestamp_seconds{cert="payments-api"}"#.into(), NOW.0 - 5 * DAY),
    ];
    let of_it: BTreeMap<String, f64> = page.into_iter().filter(|(name, _)| name.contains("payments-api")).collect();
    assert_eq!(of_it, wanted.into_iter().map(|(name, value)| (name, value as f64)).collect());
}

#[test]
fn what_was_not_found_has_a_state_and_no_dates() {
    let page = series(&page_of(&every_family()));
    let certs_with = |family: &str| page.keys().filter(|name| name.starts_with(family)).count();
    assert_eq!(certs_with("certd_certificate_state{"), 9);
    assert_eq!(certs_with("certd_certificate_last_observed_timestamp_seconds{"), 9);
    assert_eq!(certs_with("certd_certificate_not_after_timestamp_seconds{"), 6);
    assert_eq!(page.keys().filter(|name| name.contains("state=\"unknown\"")).count(), 1);
    assert_eq!(page.keys().filter(|name| name.contains("problem=\"missing\"")).count(), 1);
    assert_eq!(page[r#"certd_renewal_consecutive_failures{cert="late"}"#], 3.0);
}

#[test]
fn a_renewal_starts_no_new_series_and_two_places_never_share_one() {
    let name_of = |entry: Entry| {
        let page = page_of(&snapshot(vec![entry]));
        let start = page.find("certd_certificate_state{cert=\"").unwrap() + 30;
        page[start..].split('"').next().unwrap().to_string()
    };
    let at = |location: Location, days| name_of(entry(location, found(certificate("a.example", days), vec![])));
    let first = at(endpoint("a.example"), 10);
    assert_eq!(first.len(), 16);
    assert_eq!(at(endpoint("a.example"), 80), first);
    assert_eq!(name_of(entry(endpoint("a.example"), Sighting::Absent)), first);
    assert_ne!(at(endpoint("b.example"), 10), first);
    let long = |end: &str| at(secret(&format!("{}{end}", "x".repeat(300))), 10);
    assert_ne!(long("a"), long("b"));
    assert_eq!(name_of(healthy_managed()), "payments-api");
    let adopted = |end: &str| {
        let mut entry = healthy_managed();
        entry.observation.location = secret(&format!("{}{end}", "x".repeat(300)));
        entry.managed.as_mut().unwrap().decision.certificate.0 = entry.observation.location.to_string();
        name_of(entry)
    };
    assert_ne!(adopted("a"), adopted("b"));
}

#[test]
fn one_hostile_certificate_costs_the_others_nothing() {
    use std::os::unix::ffi::OsStringExt;
    let evil = "\"} 1\ncertd_build_info{version=\"\\\n# TYPE \u{0}\u{202e}\u{fffd}";
    let mut leaf = certificate("evil.example", 60);
    leaf.subject_cn = Some(format!("{evil}{}", "A".repeat(10_000)));
    leaf.issuer_cn = Some("ü\\".repeat(10_000));
    leaf.serial = evil.into();
    leaf.signature.0 = evil.into();
    let bytes = b"/tls/\xff\xfe\"\n\\.pem".to_vec();
    let place = Location::File { path: std::ffi::OsString::from_vec(bytes).into(), part: Some(evil.into()) };
    let mut hostile = managed(entry(place, found(leaf, vec![])), evil, healthy_action(), Record::default());
    hostile.observation.environment = Some(evil.repeat(100));
    hostile.observation.source.0 = evil.into();
    let good = |i: usize| entry(endpoint(&format!("{i}.example")), found(certificate("x.example", 60), vec![]));
    let page = page_of(&snapshot(vec![good(1), hostile, good(2)]));
    assert_eq!(promtool(&page), "");
    let found = series(&page);
    for family in ["not_after_timestamp_seconds", "not_before_timestamp_seconds", "info", "state"] {
        let of_it = found.keys().filter(|name| name.starts_with(&format!("certd_certificate_{family}{{"))).count();
        assert_eq!(of_it, 3, "{family}");
    }
    assert_eq!(found.keys().filter(|name| name.starts_with("certd_build_info{")).count(), 1);
    let longest = page.lines().map(str::len).max().unwrap();
    assert!(longest < 9 * 2 * 256, "a line of {longest} bytes");
}

fn healthy_action() -> Action {
    Action::Keep { renew_at: Timestamp(NOW.0 + 25 * DAY) }
}

// The listener.

const LOOPBACK: &str = "127.0.0.1:0";

fn plain() -> ListenSettings {
    ListenSettings { address: LOOPBACK.parse().unwrap(), tls: None, bearer_token_file: None }
}

fn page() -> Arc<Page> {
    let page = Page::new(Arc::new(own()), Duration::from_secs(60));
    page.publish(page_of(&every_family()));
    Arc::new(page)
}

fn client(roots: impl IntoIterator<Item = Certificate>) -> Client {
    Client::builder().no_proxy().tls_certs_only(roots).timeout(Duration::from_secs(10)).build().unwrap()
}

async fn asked(client: &Client, listener: &Listener, path: &str) -> (StatusCode, String) {
    let url = format!("{}://{}{path}", listener.scheme(), listener.address());
    let response = client.get(url).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64)
}

#[tokio::test]
async fn a_scraper_gets_the_snapshot_and_the_daemons_own_metrics() {
    let listener = Listener::bind(plain(), page()).unwrap();
    let (status, body) = asked(&client([]), &listener, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.starts_with(&page_of(&every_family())), "{body}");
    assert!(body.contains("certd_renewal_attempts_total{issuer=\"internal\",reason=\"due\",result=\"renewed\"} 1\n"));
    assert_eq!(promtool(&body), "");
    assert_eq!(asked(&client([]), &listener, "/healthz").await, (StatusCode::OK, "ok\n".into()));
    assert_eq!(asked(&client([]), &listener, "/secrets").await.0, StatusCode::NOT_FOUND);
    let index = asked(&client([]), &listener, "/").await.1;
    assert!(["/metrics", "/healthz", "/readyz"].iter().all(|path| index.contains(path)), "{index}");
    assert!(listener.is_serving());
    let address = listener.address();
    listener.shut_down().await;
    assert!(std::net::TcpStream::connect(address).is_err(), "still there after it was shut down");
}

#[tokio::test]
async fn is_ready_after_a_turn_and_no_longer_when_turns_stay_away() {
    let page = page();
    let listener = Listener::bind(plain(), page.clone()).unwrap();
    let client = client([]);
    let (status, why) = asked(&client, &listener, "/readyz").await;
    assert_eq!((status.as_u16(), why.as_str()), (503, "no turn has been completed yet\n"));
    let interval = Duration::from_secs(60);
    page.completed(Readiness { last_completed: Some(now()), interval });
    assert_eq!(asked(&client, &listener, "/readyz").await, (StatusCode::OK, "ready\n".into()));
    let long_ago = now().minus(Duration::from_secs(190));
    page.completed(Readiness { last_completed: Some(long_ago), interval });
    let (status, why) = asked(&client, &listener, "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(why, format!("the last turn was completed on {long_ago}, but one is due every 60 s\n"));
    assert_eq!(asked(&client, &listener, "/healthz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn only_who_bears_the_token_of_now_sees_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "first-token\n").unwrap();
    let settings = ListenSettings { bearer_token_file: Some(token_file.clone()), ..plain() };
    let listener = Listener::bind(settings, page()).unwrap();
    let client = client([]);
    let with = async |scheme: &str, token: &str| {
        let url = format!("http://{}/metrics", listener.address());
        let request = client.get(url).header("authorization", format!("{scheme} {token}"));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(asked(&client, &listener, "/metrics").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(asked(&client, &listener, "/").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(asked(&client, &listener, "/healthz").await.0, StatusCode::OK);
    assert_eq!(with("Bearer", "first-token").await, 200);
    assert_eq!(with("bearer", "first-token").await, 200);
    assert_eq!(with("Basic", "first-token").await, 401);
    assert_eq!(with("Bearer", "first-toke").await, 401);
    assert_eq!(with("Bearer", "").await, 401);
    std::fs::write(&token_file, "second-token").unwrap();
    assert_eq!(with("Bearer", "first-token").await, 401);
    assert_eq!(with("Bearer", "second-token").await, 200);
    std::fs::write(&token_file, "\n").unwrap();
    assert_eq!(with("Bearer", "").await, 401);
    std::fs::remove_file(&token_file).unwrap();
    assert_eq!(with("Bearer", "second-token").await, 401);
}

#[tokio::test]
async fn off_loopback_it_needs_both_tls_and_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "token").unwrap();
    let tls = TlsFiles { certificate: folder.path().join("cert.pem"), private_key: folder.path().join("key.pem") };
    let refused = |tls: Option<&TlsFiles>, token: Option<&Path>| {
        let settings = ListenSettings {
            address: "0.0.0.0:0".parse().unwrap(),
            tls: tls.cloned(),
            bearer_token_file: token.map(Path::to_path_buf),
        };
        matches!(Listener::bind(settings, page()), Err(ListenError::Exposed(_)))
    };
    assert!(refused(None, None));
    assert!(refused(Some(&tls), None));
    assert!(refused(None, Some(&token)));
    assert!(!refused(Some(&tls), Some(&token)));
}

#[tokio::test]
async fn an_empty_token_or_a_taken_address_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("token");
    std::fs::write(&empty, " \n").unwrap();
    let without = ListenSettings { bearer_token_file: Some(empty.clone()), ..plain() };
    let error = Listener::bind(without, page()).unwrap_err();
    assert_eq!(error.to_string(), format!("could not read the bearer token of the listener: {}", empty.display()));
    let first = Listener::bind(plain(), page()).unwrap();
    let second = ListenSettings { address: first.address(), ..plain() };
    let error = Listener::bind(second, page()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "could not listen on {}: set another `address` in [listen], or stop who listens there",
            first.address()
        )
    );
}

/// Writes a fresh certificate and key for 127.0.0.1, and returns it as a client's root.
fn issue(files: &TlsFiles) -> Certificate {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_string()]).unwrap();
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.private_key, made.signing_key.serialize_pem()).unwrap();
    Certificate::from_der(made.cert.der()).unwrap()
}

#[tokio::test]
async fn serves_its_certificate_once_there_is_one_and_the_renewed_one_after_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let files = TlsFiles { certificate: folder.path().join("cert.pem"), private_key: folder.path().join("key.pem") };
    let listener = Listener::bind(ListenSettings { tls: Some(files.clone()), ..plain() }, page()).unwrap();
    let url = format!("https://{}/healthz", listener.address());
    let trusts =
        async |root: &Certificate| client([root.clone()]).get(&url).send().await.map(|r| r.status().as_u16()).ok();
    assert!(listener.reload().is_err());

    let first = issue(&files);
    assert_eq!(trusts(&first).await, None);
    assert_eq!(listener.reload().unwrap(), Reload::Swapped);
    assert_eq!(trusts(&first).await, Some(200));
    assert_eq!(listener.reload().unwrap(), Reload::Unchanged);
    let body =
        client([first.clone()]).get(url.replace("healthz", "metrics")).send().await.unwrap().text().await.unwrap();
    assert!(body.starts_with(&page_of(&every_family())));

    let second = issue(&files);
    assert_eq!(trusts(&second).await, None);
    assert_eq!(listener.reload().unwrap(), Reload::Swapped);
    assert_eq!(trusts(&second).await, Some(200));
    assert_eq!(trusts(&first).await, None);

    let other_key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    std::fs::write(&files.private_key, other_key).unwrap();
    let error = listener.reload().unwrap_err().to_string();
    let wanted =
        format!("could not serve the listener's own certificate with its key: {}", files.certificate.display());
    assert_eq!(error, wanted);
    assert_eq!(trusts(&second).await, Some(200), "a pair that does not match must not replace one that does");
}

/// As many connections as this host has seats, each having said `text`, and read nothing since.
async fn take_every_seat(listener: &Listener, text: &[u8]) -> Vec<tokio::net::TcpStream> {
    use tokio::io::AsyncWriteExt;
    crowd::may_open_many_files();
    let mut taken = Vec::new();
    for _ in 0..512 {
        let mut connection = tokio::net::TcpStream::connect(listener.address()).await.unwrap();
        connection.write_all(text).await.unwrap();
        taken.push(connection);
    }
    taken
}

/// Where every seat is young or is being written to, who comes is turned away, and comes again.
async fn is_served_within(listener: &Listener, within: Duration) {
    let url = format!("http://{}/healthz", listener.address());
    let ask = async || client([]).get(&url).send().await.is_ok_and(|response| response.status() == StatusCode::OK);
    let served = async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(within, served).await.expect("the seats were never given back");
}

#[tokio::test]
async fn who_takes_every_seat_of_this_host_and_asks_nothing_leaves_for_who_does() {
    let listener = Listener::bind(plain(), page()).unwrap();
    let taken = take_every_seat(&listener, b"GET /metrics HTTP/1.1\r\n").await;
    is_served_within(&listener, Duration::from_secs(2)).await;
    drop(taken);
}

#[tokio::test]
async fn who_takes_every_seat_of_this_host_and_reads_nothing_loses_them() {
    let page = page();
    // More than the kernel keeps for a client that does not read.
    page.publish("# much\n".repeat(1 << 20));
    let listener = Listener::bind(plain(), page).unwrap();
    let taken = take_every_seat(&listener, b"GET /metrics HTTP/1.1\r\nHost: certd\r\n\r\n").await;
    is_served_within(&listener, Duration::from_secs(20)).await;
    drop(taken);
}

/// It takes a little each time, so that no write stalls for long.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_a_page_drop_by_drop_is_cut_off() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let page = page();
    page.publish("# much\n".repeat(4 << 20));
    let listener = Listener::bind(plain(), page).unwrap();
    let mut slow = tokio::net::TcpStream::connect(listener.address()).await.unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost: certd\r\n\r\n").await.unwrap();
    let began = std::time::Instant::now();
    let mut drop_by_drop = vec![0; 16 * 1024];
    let read_until_cut_off = async {
        while slow.read(&mut drop_by_drop).await.is_ok_and(|count| count > 0) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read_until_cut_off).await.expect("it was never cut off");
    println!("a client that takes 160 KB/s of 28 MB was cut off after {:?}", began.elapsed());
}

/// 80 and 500 of another address, and of the very address that scrapes: an agent on this host that hangs.
#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_do_not_delay_a_scrape() {
    let page = page();
    for (from, count) in [("127.0.0.2", 80), ("127.0.0.2", 500), ("127.0.0.1", 80), ("127.0.0.1", 500)] {
        let listener = Listener::bind(plain(), page.clone()).unwrap();
        let crowd = crowd::slow(listener.address(), from, count, b"G").await;
        let slowest = slowest_scrape(&client([]), &listener).await;
        println!("{count} slow clients from {from}: the slowest of 50 scrapes took {slowest:?}");
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
        drop(crowd);
        listener.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_never_end_do_not_delay_a_scrape_by_tls() {
    let folder = tempfile::tempdir().unwrap();
    let files = TlsFiles { certificate: folder.path().join("cert.pem"), private_key: folder.path().join("key.pem") };
    let root = issue(&files);
    for (from, count) in [("127.0.0.2", 80), ("127.0.0.2", 500), ("127.0.0.1", 80)] {
        let listener = Listener::bind(ListenSettings { tls: Some(files.clone()), ..plain() }, page()).unwrap();
        // The head of a TLS record of 512 bytes, then one byte at a time.
        let crowd = crowd::slow(listener.address(), from, count, b"\x16\x03\x01\x02\x00\x01\x00").await;
        let slowest = slowest_scrape(&client([root.clone()]), &listener).await;
        println!("{count} handshakes from {from} that never end: the slowest of 50 scrapes took {slowest:?}");
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
        drop(crowd);
        listener.shut_down().await;
    }
}

async fn slowest_scrape(client: &Client, listener: &Listener) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let began = std::time::Instant::now();
        let url = format!("{}://{}/metrics", listener.scheme(), listener.address());
        // A connection of its own each time, as after a scraper's restart.
        let response = client.get(url).header("connection", "close").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.text().await.unwrap().contains("certd_build_info"));
        slowest = slowest.max(began.elapsed());
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    slowest
}
