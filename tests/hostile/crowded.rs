//! A daemon among secrets and endpoints that are each made to cost as much as they can: what is good beside them is seen
//! right, and the daemon answers, stops and stays small meanwhile.
//!
//! `CERTD_TEST_MATRIX=full`: 1,000 such secrets and 50 such endpoints beside 200 good places; otherwise a tenth of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::costs::Family;
use crate::scene::{Daemon, Scene, pem};
use crate::support::scripted::that_serves;
use crate::support::tools::openssl_bytes;
use crate::support::vault::{Vault, server};

/// In certificates: as many as 182 KB hold.
const CROWD: usize = 270;

/// In certificates: as many as a handshake of 64 KB holds, which is what rustls takes.
const HANDSHAKE: usize = 120;

/// Above the advised number, below what one keystore may cost.
const ITERATIONS: &str = "1900000";

struct Sizes {
    secrets: usize,
    endpoints: usize,
    good: usize,
    /// Of 99 of 100 answers, where other tests use the processor as well.
    answers_within: Duration,
}

fn sizes() -> Sizes {
    match std::env::var("CERTD_TEST_MATRIX").as_deref() {
        Ok("full") => Sizes { secrets: 1_000, endpoints: 50, good: 100, answers_within: Duration::from_millis(100) },
        _ => Sizes { secrets: 100, endpoints: 10, good: 10, answers_within: Duration::from_millis(500) },
    }
}

/// Another certificate to whoever compares, with a signature that nobody made.
fn made_another(der: &[u8], nth: usize) -> Vec<u8> {
    let mut der = der.to_vec();
    let end = der.len() - 8;
    der[end..].copy_from_slice(&u64::try_from(nth).unwrap().to_be_bytes());
    der
}

/// What costs much to judge or to keep, another one for each number.
struct Costly {
    theirs: Family,
    strangers: Family,
    keystore: Vec<u8>,
}

impl Costly {
    fn new(scene: &Scene) -> Self {
        let (leaf, key) = Family::new("keystore", 0).pair("store.example.org");
        let pair = pem(&leaf) + &pem::encode(&pem::Pem::new("PRIVATE KEY", key));
        scene.write("pair.pem", pair);
        let pair = scene.path("pair.pem").display().to_string();
        let make = ["pkcs12", "-export", "-in", &pair, "-passout", "pass:changeit", "-iter", ITERATIONS];
        let keystore = openssl_bytes(&make, b"");
        Self { theirs: Family::new("theirs", CROWD), strangers: Family::apart(CROWD), keystore }
    }

    fn secret(&self, nth: usize) -> Value {
        let beside = |family: &Family| {
            let all = family.crowd.iter().enumerate();
            let crowd: String = all.map(|(i, der)| pem(&made_another(der, nth * CROWD + i))).collect();
            json!({ "certificate": family.leaf(&format!("bad-{nth}.example.org")) + &crowd })
        };
        match nth % 4 {
            0 | 1 => beside(&self.theirs),
            2 => beside(&self.strangers),
            _ => json!({ "keystore.p12": self.text(nth), "keystore_password": "changeit" }),
        }
    }

    /// Its check sum is wrong, which shows at the end of the work.
    fn text(&self, nth: usize) -> String {
        let mut damaged = self.keystore.clone();
        let salt = damaged.len() - 20;
        damaged[salt..salt + 8].copy_from_slice(&u64::try_from(nth).unwrap().to_be_bytes());
        base64::engine::general_purpose::STANDARD.encode(damaged)
    }
}

async fn presents(ders: Vec<Vec<u8>>, key: Vec<u8>) -> String {
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(ders.into_iter().map(CertificateDer::from).collect(), PrivatePkcs8KeyDer::from(key).into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = that_serves(move |client| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut tls) = acceptor.accept(client).await {
                let _ = tls.read(&mut [0; 64]).await;
            }
        }
    });
    port(&address.await)
}

fn port(address: &str) -> String {
    address.rsplit(':').next().unwrap().to_string()
}

/// The ports of servers that each cost in a way of their own.
async fn costly_servers(costly: &Costly) -> Vec<String> {
    let (leaf, key) = costly.theirs.pair("slow.example.org");
    let crowd = costly.theirs.crowd.iter().take(HANDSHAKE).cloned();
    let chain = presents(std::iter::once(leaf).chain(crowd).collect(), key).await;
    let drips = that_serves(|mut client| async move {
        while client.write_all(&[22]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    let says_nothing = that_serves(|mut client| async move {
        while client.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {}
        tokio::time::sleep(Duration::from_secs(600)).await;
    });
    let floods = that_serves(|mut client| async move { while client.write_all(&[22; 65_536]).await.is_ok() {} });
    let (drips, says_nothing, floods) = (drips.await, says_nothing.await, floods.await);
    vec![chain, port(&drips), port(&says_nothing), port(&floods)]
}

async fn fill(vault: &Vault, kv: &str, sizes: &Sizes, ours: &Family, costly: &Costly) {
    for nth in 0..sizes.good {
        vault.put(kv, &format!("good/{nth}"), json!({ "certificate": ours.leaf("good.example.org") })).await;
    }
    for nth in 0..sizes.secrets {
        vault.put(kv, &format!("bad/{nth}"), costly.secret(nth)).await;
    }
}

async fn configure(scene: &Scene, vault: &Vault, kv: &str, sizes: &Sizes, ours: &Family, costly: &Costly) {
    scene.write("roots.pem", &ours.root);
    scene.write("token", &vault.root_token);
    let (leaf, key) = ours.pair("*.good.example.org");
    let good = presents(vec![leaf], key).await;
    let servers = costly_servers(costly).await;
    let good: Vec<_> = (0..sizes.good).map(|nth| format!("n{nth}.good.example.org:{good}")).collect();
    let bad = (0..sizes.endpoints).map(|nth| format!("n{nth}.bad.example.org:{}", servers[nth % servers.len()]));
    let targets: Vec<_> = good.iter().cloned().chain(bad).collect();
    let names = targets.iter().map(|target| target.split(':').next().unwrap());
    let addresses: String = names.map(|name| format!("\"{name}\" = [\"127.0.0.1\"]\n")).collect();
    scene.configure(&format!(
        "[vault.main]\naddress = \"{}\"\ntoken_file = \"token\"\n\
         [source.apps.vault_kv]\nvault = \"main\"\npaths = [\"{kv}/**\"]\nroots = [\"roots.pem\"]\n\
         [source.edge.tls]\ntargets = {targets:?}\nroots = [\"roots.pem\"]\ntimeout = \"5s\"\n[addresses]\n{addresses}",
        vault.address
    ));
}

/// How long the daemon takes to answer meanwhile, a look each 20 ms until so many turns are completed.
async fn health_until(daemon: &Daemon, turns: usize) -> Vec<Duration> {
    let page = daemon.says("metrics: ").await;
    let page: String = page.split("metrics: ").nth(1).unwrap().chars().take_while(|c| *c != '"').collect();
    let healthz = page.replace("/metrics", "/healthz");
    let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
    let mut took = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(900);
    while daemon.log().iter().filter(|line| line.contains("turn completed")).count() < turns {
        assert!(Instant::now() < deadline, "no turn ends");
        let asked = Instant::now();
        assert_eq!(http.get(&healthz).send().await.unwrap().status(), 200);
        took.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    took
}

/// Of the whole life of the process, in MiB.
fn largest(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// What the process has used so far.
fn processor(daemon: &Daemon) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.id())).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = [11, 12].map(|nth: usize| fields[nth].parse::<u64>().unwrap()).iter().sum();
    Duration::from_millis(ticks * 10)
}

/// How many places whose location holds this are in each state.
fn states(page: &str, holds: &str) -> Vec<(String, usize)> {
    let label = |line: &str, name: &str| {
        line.split(&format!("{name}=\"")).nth(1).map(|rest| rest.split('"').next().unwrap().to_string())
    };
    let lines = |metric: &'static str| page.lines().filter(move |line| line.starts_with(metric));
    let located: Vec<_> = lines("certd_certificate_not_after_timestamp_seconds{")
        .filter(|line| label(line, "location").unwrap().contains(holds))
        .map(|line| label(line, "cert").unwrap())
        .collect();
    let mut all = std::collections::BTreeMap::new();
    for line in lines("certd_certificate_state{") {
        if located.contains(&label(line, "cert").unwrap()) {
            *all.entry(label(line, "state").unwrap()).or_insert(0) += 1;
        }
    }
    all.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn among_what_is_made_to_be_costly_the_good_is_right_and_the_daemon_answers_stops_and_stays_small() {
    let (sizes, scene, vault) = (sizes(), Scene::new(), server().await);
    let (ours, costly) = (Family::new("our root", 0), Costly::new(&scene));
    let kv = vault.kv("crowded").await;
    fill(&vault, &kv, &sizes, &ours, &costly).await;
    configure(&scene, &vault, &kv, &sizes, &ours, &costly).await;

    let daemon = scene.start().await;
    let (mut took, first) = (health_until(&daemon, 1).await, processor(&daemon));
    took.extend(health_until(&daemon, 2).await);
    took.sort();
    let (page, second) = (daemon.page().await, processor(&daemon) - first);
    // The next turn is under way.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let memory = largest(&daemon);
    let stopping = Instant::now();
    daemon.stop();
    let stopped = stopping.elapsed();
    let (p99, worst, looks) = (took[took.len() * 99 / 100], took[took.len() - 1], took.len());
    println!(
        "{} costly secrets and {} costly endpoints beside {} good places: {first:?} of the processor for the first turn, \
         {second:?} for the second; /healthz p99 {p99:?}, worst {worst:?} of {looks}; stopped in {stopped:?}; {memory} MiB",
        sizes.secrets,
        sizes.endpoints,
        2 * sizes.good
    );
    let all = |state: &str| vec![(state.to_string(), sizes.good)];
    assert_eq!(states(&page, "/good/"), all("unmanaged"));
    assert_eq!(states(&page, ".good.example.org"), all("unmanaged"));
    assert!(stopped < Duration::from_secs(10), "{stopped:?}");
    assert!(memory < 128, "{memory} MiB");
    assert!(p99 < sizes.answers_within, "{p99:?}");
}
