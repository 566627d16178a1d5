//! What a sweep over a KV version 2 mount of 10,000 secrets costs, in time and memory, beside 16 bare readers of the
//! same secrets in the same run: `cargo bench --bench kv_sweep`. It needs a real server: see tests/support/server.rs.
//! Without `--bench` it is a small, quick run.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use certd::domain::inventory::{Inventory, Sighting};
use certd::domain::time::Timestamp;
use certd::pki::roots::Roots;
use certd::source::path_glob::PathGlob;
use certd::source::vault_kv::{CONCURRENCY, VaultKvSource};
use certd::vault::{Settings, TokenFrom, Vault};
use futures_util::{StreamExt, stream};
use rcgen::{CertifiedIssuer, KeyPair};
use serde_json::{Value, json};
use support::certificates::{params, root_params};
use support::vault::own_server;
use zeroize::Zeroizing;

const SECRETS: usize = 10_000;
const FOLDERS: usize = 100;
/// Odd, so that there is a median; many, since machines that others use have slow moments.
const ROUNDS: usize = 15;

fn main() {
    let secrets = if std::env::args().any(|arg| arg == "--bench") { SECRETS } else { SECRETS / 100 };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match std::env::args().skip_while(|arg| arg != "--measure").nth(1) {
        // The memory of whoever wrote the secrets must not pass for that of who reads them.
        Some(place) => runtime.block_on(measure(&place, secrets)),
        None => runtime.block_on(furnish(secrets)),
    }
}

async fn furnish(secrets: usize) {
    let (admin, _server) = own_server().await;
    let mount = admin.kv("secret").await;
    let issuer = issuer();
    let write = async |i: usize| admin.put(&mount, &path(i), content(&issuer, i)).await;
    let written = stream::iter(0..secrets).map(write).buffer_unordered(CONCURRENCY).count().await;
    assert_eq!(written, secrets);
    let scale: &[&str] = if secrets == SECRETS { &["--bench"] } else { &[] };
    let mut reader = Command::new(std::env::current_exe().unwrap())
        .args(["--measure", &format!("{}/v1/{mount}", admin.address)])
        .args(scale)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    reader.stdin.take().unwrap().write_all(admin.root_token.as_bytes()).unwrap();
    let ended = tokio::task::spawn_blocking(move || reader.wait().unwrap()).await.unwrap();
    assert!(ended.success());
}

fn issuer() -> CertifiedIssuer<'static, KeyPair> {
    let root = CertifiedIssuer::self_signed(root_params("a root"), KeyPair::generate().unwrap()).unwrap();
    CertifiedIssuer::signed_by(root_params("an intermediate"), KeyPair::generate().unwrap(), &root).unwrap()
}

/// Leaf, key and intermediate, as `pki/issue` would have answered them.
fn content(issuer: &CertifiedIssuer<'static, KeyPair>, i: usize) -> Value {
    let key = KeyPair::generate().unwrap();
    let name = format!("app-{i}.example.org");
    let leaf = params(&[&name, &format!("www.{name}")], -10, 80).signed_by(&key, issuer).unwrap();
    json!({ "certificate": leaf.pem(), "private_key": key.serialize_pem(), "ca_chain": [issuer.pem()] })
}

fn path(i: usize) -> String {
    format!("tls/team-{}/app-{i}", i % FOLDERS)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Bare,
    /// Of a certd that has seen nothing yet.
    First,
    /// Of a daemon, which remembers the last one.
    Again,
}

/// Secrets a second, and microseconds of processor each: of each reader.
type Round = Vec<(f64, f64)>;

async fn measure(place: &str, secrets: usize) {
    let token = Zeroizing::new(std::io::read_to_string(std::io::stdin()).unwrap());
    let (address, mount) = place.split_once("/v1/").unwrap();
    let sweep = Arc::new(source(address, mount, "**", token.clone()));
    let none = Arc::new(source(address, mount, "**/none", token.clone()));
    let bare = reqwest::Client::builder().no_proxy().tls_certs_only([]).http1_only().build().unwrap();
    let urls: Arc<Vec<String>> =
        Arc::new((0..secrets).map(|i| format!("{address}/v1/{mount}/data/{}", path(i))).collect());

    let before = resident();
    let mut remembered = Some(swept(&sweep).await);
    let (after, of_one) = (resident(), peak());
    let found = remembered.iter().flat_map(Inventory::iter).filter(|it| matches!(it.sighting, Sighting::Found(_)));
    assert_eq!(found.count(), secrets);
    println!("secrets                      {secrets}");
    println!("RSS before, after, peak      {} KiB, {} KiB, {} KiB", before, after, of_one);
    println!("RSS grown to the peak        {:.1} MB", (of_one - before) as f64 * 1024.0 / 1e6);
    println!("allowed                      {:.1} MB", 20.0 + secrets as f64 / 1e3);

    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut round = Vec::new();
        for reader in [Reader::Bare, Reader::First, Reader::Again] {
            if reader == Reader::First {
                drop(remembered.take());
            }
            let (begun, busy) = (Instant::now(), processor_time());
            let seen = match reader {
                Reader::Bare => read_all(&bare, &urls, &token).await,
                Reader::First | Reader::Again => Some(swept(&sweep).await),
            };
            let (took, busy) = (begun.elapsed(), processor_time() - busy);
            round.push((secrets as f64 / took.as_secs_f64(), busy.as_micros() as f64 / secrets as f64));
            // Kept until the next one is whole, as a daemon keeps it.
            if let Some(seen) = seen {
                assert_eq!(seen.len(), secrets);
                remembered = Some(seen);
            }
        }
        rounds.push(round);
    }
    assert_eq!(remembered.map(|inventory| inventory.len()), Some(secrets));
    let readers = [&format!("{CONCURRENCY} bare readers"), "certd's first sweep", "each later one"];
    for (i, reader) in readers.into_iter().enumerate() {
        let of_rounds = |figure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
        let (rate, cost) = (of_rounds(&|round| round[i].0), of_rounds(&|round| round[i].1));
        // Of each round by itself, whose parts had the same machine.
        let ratio = of_rounds(&|round| 100.0 * round[i].0 / round[0].0);
        println!("{reader:<28} {rate:.0} secrets a second, {cost:.0} µs of processor each: {ratio:.1} %");
    }
    println!(
        "RSS peak of all, grown       {:.1} MB, with two sweeps remembered",
        (peak() - before) as f64 * 1024.0 / 1e6
    );
    let begun = Instant::now();
    assert_eq!(swept(&none).await.len(), 0);
    println!("of a sweep, listing          {:.0} ms", millis(begun));
}

fn source(address: &str, mount: &str, glob: &str, token: Zeroizing<String>) -> VaultKvSource {
    let settings = Settings {
        name: "main".into(),
        addresses: vec![address.parse().unwrap()],
        server_name: None,
        roots: None,
        namespace: None,
        token: TokenFrom::Given(token),
        deadline: Duration::from_secs(10),
    };
    VaultKvSource {
        name: "apps".into(),
        environment: None,
        vault: Arc::new(Vault::new(settings).unwrap()),
        paths: vec![PathGlob::new(&format!("{mount}/{glob}")).unwrap()],
        exclude: Vec::new(),
        concurrency: CONCURRENCY,
        roots: Arc::new(Roots::none()),
    }
}

/// List, read, parse, and into the inventory.
async fn swept(source: &Arc<VaultKvSource>) -> Inventory {
    let source = source.clone();
    let sweep = tokio::spawn(async move { source.observe(Timestamp(1_800_000_000)).await });
    let observed = sweep.await.unwrap();
    assert_eq!(observed.failures, []);
    let mut inventory = Inventory::default();
    observed.observations.into_iter().for_each(|seen| inventory.insert(seen));
    inventory
}

/// The least that reading takes: the same requests, and the bodies thrown away.
async fn read_all(http: &reqwest::Client, urls: &Arc<Vec<String>>, token: &str) -> Option<Inventory> {
    let next = Arc::new(AtomicUsize::new(0));
    let readers = (0..CONCURRENCY).map(|_| {
        let (http, urls, next, token) = (http.clone(), urls.clone(), next.clone(), token.to_string());
        tokio::spawn(async move {
            while let Some(url) = urls.get(next.fetch_add(1, Ordering::Relaxed)) {
                let answer = http.get(url).header("X-Vault-Token", &token).send().await.unwrap();
                assert_eq!(answer.status(), 200);
                answer.bytes().await.unwrap();
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
    None
}

fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// In KiB, as proc(5) has them in `status`.
fn resident() -> u64 {
    in_status("VmRSS:")
}

fn peak() -> u64 {
    in_status("VmHWM:")
}

fn in_status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Of all threads, user and system (proc(5), `stat`), in ticks of 10 ms on every machine that this runs on.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}
