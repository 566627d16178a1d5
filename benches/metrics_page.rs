//! What a page of 100,000 certificates with every family costs, beside the same families in the `prometheus`
//! crate's vectors: `cargo bench --bench metrics_page`. Without `--bench` it is a small, quick run.

#[path = "../tests/sample/mod.rs"]
mod sample;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certd::domain::check::{Problem, ProblemKind};
use certd::domain::plan::{Action, Record};
use certd::domain::snapshot::{Entry, Snapshot};
use certd::domain::time::Timestamp;
use certd::metrics::listener::{ListenSettings, Listener};
use certd::metrics::own::OwnMetrics;
use certd::metrics::page::Page;
use certd::metrics::render::render;
use prometheus::{GaugeVec, Opts, Registry, TextEncoder};
use sample::{DAY, NOW, about, certificate, endpoint, entry, every_family, found, managed};

const CERTIFICATES: usize = 100_000;

/// The crate needs gigabytes for the whole page, so it gets a tenth and is compared by the series.
const BASELINE_SHARE: usize = 10;

const ROUNDS: usize = 5;

fn main() {
    let certificates = if std::env::args().any(|arg| arg == "--bench") { CERTIFICATES } else { CERTIFICATES / 100 };
    let start = rss_mib();
    let snapshot = snapshot(certificates);
    let with_snapshot = rss_mib();

    let (took, text) = median(|| render(&snapshot, &about()));
    let series = count_series(&text);
    let per_series = took.as_secs_f64() / series as f64;
    println!("certificates                {certificates}");
    println!("series                      {series}");
    println!("page                        {} bytes", text.len());
    println!("render                      {:.1} ms", millis(took));
    println!("RSS at start                {start:.1} MiB");
    println!("RSS with the snapshot       {with_snapshot:.1} MiB");
    println!("RSS with snapshot and page  {:.1} MiB", rss_mib());
    scrape(text);
    println!("RSS after the scrapes       {:.1} MiB", rss_mib());
    baseline(&snapshot, per_series);
}

/// More than a healthy certificate has: each also fails a check and its renewals.
fn snapshot(certificates: usize) -> Snapshot {
    Snapshot { entries: (0..certificates).map(certificate_entry).collect(), ..every_family() }
}

fn certificate_entry(i: usize) -> Entry {
    let name = format!("host-{i}.example.org");
    let mut entry = entry(endpoint(&name), found(certificate(&name, 60), vec![]));
    entry.problems.push(Problem::warning(ProblemKind::NotDeployed, "it serves something else than the store holds"));
    let record =
        Record { consecutive_failures: 1, last_success: Some(Timestamp(NOW.0 - 30 * DAY)), ..Record::default() };
    managed(entry, &name, Action::Keep { renew_at: Timestamp(NOW.0 + 25 * DAY) }, record)
}

fn scrape(text: String) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (took, bytes) = runtime.block_on(async {
        let page = Arc::new(Page::new(Arc::new(OwnMetrics::new(NOW)), Duration::from_secs(60)));
        page.publish(text);
        let settings = ListenSettings { address: "127.0.0.1:0".parse().unwrap(), tls: None, bearer_token_file: None };
        let listener = Listener::bind(settings, page).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let url = format!("http://{}/metrics", listener.address());
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let mut response = client.get(&url).send().await.unwrap();
            let mut bytes = 0;
            while let Some(chunk) = response.chunk().await.unwrap() {
                bytes += chunk.len();
            }
            rounds.push((begun.elapsed(), bytes));
        }
        println!("RSS while it is served      {:.1} MiB", rss_mib());
        listener.shut_down().await;
        rounds.sort();
        rounds.swap_remove(ROUNDS / 2)
    });
    println!("scrape over loopback        {:.1} ms for {bytes} bytes", millis(took));
}

/// Every series of the rendered page as a gauge of the crate, then gathered and encoded.
fn baseline(snapshot: &Snapshot, per_series: f64) {
    let share = snapshot.entries.len() / BASELINE_SHARE;
    let part = Snapshot { entries: snapshot.entries[..share].to_vec(), ..every_family() };
    let text = render(&part, &about());
    let before = rss_mib();
    let registry = registry_of(&text);
    let (took, encoded) = median(|| TextEncoder::new().encode_to_string(&registry.gather()).unwrap());
    let series = count_series(&encoded);
    assert_eq!(series, count_series(&text), "both must say the same");
    println!("baseline: prometheus crate, {share} certificates, {series} series");
    println!("baseline gather and encode  {:.1} ms", millis(took));
    println!("baseline RSS added          {:.1} MiB", rss_mib() - before);
    let ratio = took.as_secs_f64() / series as f64 / per_series;
    println!("ratio for each series       {ratio:.1} times the time of the hand-rendered page");
}

fn registry_of(page: &str) -> Registry {
    let registry = Registry::new();
    let mut families: HashMap<String, GaugeVec> = HashMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels, value) = parsed(line);
        let names: Vec<&str> = labels.iter().map(|(name, _)| *name).collect();
        let values: Vec<&str> = labels.iter().map(|(_, value)| *value).collect();
        let family = families.entry(name.to_string()).or_insert_with(|| {
            let family = GaugeVec::new(Opts::new(name, "The same family."), &names).unwrap();
            registry.register(Box::new(family.clone())).unwrap();
            family
        });
        family.with_label_values(&values).set(value);
    }
    registry
}

/// The labels of these snapshots hold neither quotes nor commas.
fn parsed(line: &str) -> (&str, Vec<(&str, &str)>, f64) {
    let Some((name, rest)) = line.split_once('{') else {
        let (name, value) = line.split_once(' ').unwrap();
        return (name, Vec::new(), value.parse().unwrap());
    };
    let (labels, value) = rest.rsplit_once("} ").unwrap();
    let labels = labels.split("\",").map(|pair| pair.split_once("=\"").unwrap());
    (name, labels.map(|(name, value)| (name, value.trim_end_matches('"'))).collect(), value.parse().unwrap())
}

fn median<T>(mut work: impl FnMut() -> T) -> (Duration, T) {
    let mut times = Vec::new();
    let mut last = None;
    for _ in 0..ROUNDS {
        // The one before goes first, so that no two pages are held at once.
        drop(last.take());
        let begun = Instant::now();
        last = Some(work());
        times.push(begun.elapsed());
    }
    times.sort();
    (times[ROUNDS / 2], last.expect("there is at least one round"))
}

fn count_series(page: &str) -> usize {
    page.lines().filter(|line| !line.starts_with('#')).count()
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1_000.0
}

/// Resident pages of this process (proc(5), statm), which are 4 KiB on every machine that this runs on.
fn rss_mib() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096.0 / (1024.0 * 1024.0)
}
