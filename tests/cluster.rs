//! A cluster of three: its leader dies, it is sealed, and its standbys are behind. Nothing is lost, nothing is
//! concluded from what is stale, and certd is soon back at work.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use certd::domain::inventory::{ObstacleKind, Sighting};
use certd::domain::policy::{RenewalPolicy, Threshold};
use certd::domain::time::Timestamp;
use certd::pki::roots::Roots;
use certd::source::path_glob::PathGlob;
use certd::source::vault_kv::VaultKvSource;
use certd::store::vault_kv::VaultKvStore;
use certd::vault::{KvRead, Settings, TokenFrom, Vault};
use serde_json::{Value, json};
use support::certd::{Certd, certd, output_meanwhile};
use support::cluster::Cluster;
use support::secrets;
use zeroize::Zeroizing;

const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Of each kind of trial with standbys.
const TRIALS: usize = 200;

/// Certificates that are due again and again, and others that never are here.
const SHORT: usize = 30;
const LONG: usize = 10;

/// A second and more from one renewal to the next.
const LIFETIME: Duration = Duration::from_secs(60);
const RENEWED_WHEN_LEFT: Duration = Duration::from_secs(54);

const KILLS: usize = 3;

fn client(addresses: &[&str], token: &str) -> Arc<Vault> {
    let settings = Settings {
        name: "main".into(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        server_name: None,
        roots: None,
        namespace: None,
        token: TokenFrom::Given(Zeroizing::new(token.to_string())),
        deadline: Duration::from_secs(5),
    };
    Arc::new(Vault::new(settings).unwrap())
}

fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_second())
}

/// A mount, seen by the administrator at the leader and by certd at a standby, or at both.
struct Behind {
    kv: String,
    at_leader: support::vault::Vault,
    at_standby: support::vault::Vault,
}

#[tokio::test]
async fn what_a_standby_has_not_heard_of_yet_is_never_taken_for_missing_or_old() {
    let cluster = Cluster::start().await;
    let (at_leader, at_standby) = (cluster.admin_at_leader().await, cluster.admin(cluster.standby().await));
    let kv = at_leader.kv("stale").await;
    let behind = Behind { kv, at_leader, at_standby };
    behind.knows_the_mount().await;
    let (stale, absent) = behind.bare_reads().await;
    println!("a bare client at a standby: {stale} of {TRIALS} reads after a write were stale, {absent} of them 404");
    behind.own_writes_are_seen().await;
    println!("certd pinned to the standby: 0 of {TRIALS} reads after its own writes were stale");
    for trial in 0..TRIALS {
        match trial % 4 {
            0 => behind.a_store_is_seen(trial).await,
            1 => behind.a_version_is_seen(trial).await,
            2 => behind.a_listing_is_seen(trial).await,
            _ => behind.a_batch_token_is_told(trial).await,
        }
    }
    println!("certd that has just started, at a standby: 0 of {TRIALS} reads after another's write were stale");
}

impl Behind {
    /// A standby hears of that a moment later, too.
    async fn knows_the_mount(&self) {
        let (standby, path) = (&self.at_standby, format!("{}/config", self.kv));
        while standby.call(&standby.root_token, "GET", &path, Value::Null).await.0 != 200 {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    /// How many reads without certd are stale, and how many of those say that there is nothing.
    async fn bare_reads(&self) -> (usize, usize) {
        let (standby, path) = (&self.at_standby, format!("{}/data/bare", self.kv));
        let (mut stale, mut absent) = (0, 0);
        for trial in 0..TRIALS {
            let version = self.at_leader.put(&self.kv, "bare", json!({ "trial": trial })).await;
            let (status, answer) = standby.call(&standby.root_token, "GET", &path, Value::Null).await;
            stale += usize::from(answer["data"]["metadata"]["version"] != json!(version));
            absent += usize::from(status == 404);
        }
        (stale, absent)
    }

    async fn own_writes_are_seen(&self) {
        let pinned = self.fresh();
        for trial in 0..TRIALS {
            let path = format!("{}/own-{}", self.kv, trial % 7);
            let before = u64::try_from(trial / 7).unwrap();
            let written = pinned.kv_write(&path, Default::default(), before).await.unwrap();
            match pinned.kv_read(&path).await.unwrap() {
                KvRead::Present { version, .. } => assert_eq!(version, Some(written), "trial {trial}"),
                KvRead::Absent { .. } => panic!("trial {trial}: what was written is not there"),
            }
        }
    }

    async fn a_store_is_seen(&self, trial: usize) {
        let path = self.somebody_writes(trial).await;
        let store =
            VaultKvStore { vault: self.fresh(), path: path.clone(), object: None, roots: Arc::new(Roots::none()) };
        is_seen(store.read().await, &path);
    }

    async fn a_version_is_seen(&self, trial: usize) {
        self.somebody_writes(trial).await;
        let path = self.somebody_writes(trial).await;
        let fresh = self.fresh();
        fresh.catch_up(Instant::now()).await.unwrap();
        assert_eq!(fresh.version(&path, None).await.unwrap().unwrap().number, 2, "{path}");
    }

    async fn a_listing_is_seen(&self, trial: usize) {
        let path = self.somebody_writes(trial).await;
        let source = VaultKvSource {
            name: "apps".into(),
            environment: None,
            vault: self.fresh(),
            paths: vec![PathGlob::new(&format!("{}/theirs-{trial}*", self.kv)).unwrap()],
            exclude: Vec::new(),
            concurrency: 4,
            roots: Arc::new(Roots::none()),
        };
        let observed = tokio::spawn(async move { source.observe(now()).await }).await.unwrap();
        assert_eq!(observed.failures, []);
        let seen = observed.observations.into_iter().find(|seen| seen.location.to_string().ends_with(&path));
        is_seen(seen.unwrap_or_else(|| panic!("{path} was not listed")).sighting, &path);
    }

    /// It has no cubbyhole: certd goes to the active node, or says that it cannot know.
    async fn a_batch_token_is_told(&self, trial: usize) {
        let policy = format!("path \"{}/*\" {{ capabilities = [\"read\"] }}", self.kv);
        self.at_leader.admin("PUT", "sys/policies/acl/reading", json!({ "policy": policy })).await;
        let asked = json!({ "policies": ["reading"], "type": "batch", "ttl": "1h" });
        let batch = self.at_leader.admin("POST", "auth/token/create", asked).await;
        let batch = batch["auth"]["client_token"].as_str().unwrap();
        let path = self.somebody_writes(trial).await;
        let both = client(&[&self.at_standby.address, &self.at_leader.address], batch);
        let store = VaultKvStore { vault: both, path: path.clone(), object: None, roots: Arc::new(Roots::none()) };
        is_seen(store.read().await, &path);
        let alone = client(&[&self.at_standby.address], batch);
        match (VaultKvStore { vault: alone, path, object: None, roots: Arc::new(Roots::none()) }).read().await {
            Sighting::Unknown(obstacle) => {
                assert_eq!(obstacle.obstacle, ObstacleKind::Stale, "{}", obstacle.message);
                assert!(obstacle.message.contains("set the address of the active one"), "{}", obstacle.message);
            }
            other => panic!("it cannot know: {other:?}"),
        }
    }

    /// A client that has written nothing, pinned to the standby.
    fn fresh(&self) -> Arc<Vault> {
        client(&[&self.at_standby.address], &self.at_standby.root_token)
    }

    async fn somebody_writes(&self, trial: usize) -> String {
        let name = format!("theirs-{trial}");
        self.at_leader.put(&self.kv, &name, json!({ "certificate": "not yet" })).await;
        format!("{}/{name}", self.kv)
    }
}

/// Its content is no certificate; what matters is that it was seen.
fn is_seen(sighting: Sighting, path: &str) {
    match sighting {
        Sighting::Unknown(obstacle) => {
            assert_eq!(obstacle.obstacle, ObstacleKind::NotUnderstood, "{path}: {obstacle:?}")
        }
        Sighting::Absent | Sighting::Deleted(_) | Sighting::Found(_) | Sighting::Crl(_) => {
            panic!("{path}: {sighting:?}")
        }
    }
}

#[tokio::test]
async fn a_standby_without_a_leader_is_an_obstacle_and_not_a_place_without_secrets() {
    let mut cluster = Cluster::start().await;
    let (leader, standby) = (cluster.leader().await, cluster.standby().await);
    let kv = cluster.admin(leader).kv("alone").await;
    cluster.admin(leader).put(&kv, "web", json!({ "a": "b" })).await;
    for at in (0..3).filter(|at| *at != standby) {
        cluster.nodes[at].kill().await;
    }
    let vault = client(&[&cluster.nodes[standby].address], &cluster.root_token);
    for path in ["web", "none"] {
        let path = format!("{kv}/{path}");
        let store = VaultKvStore { vault: vault.clone(), path, object: None, roots: Arc::new(Roots::none()) };
        match store.read().await {
            Sighting::Unknown(obstacle) => assert!(
                [ObstacleKind::Standby, ObstacleKind::Redirected].contains(&obstacle.obstacle),
                "{}",
                obstacle.message
            ),
            other => panic!("{other:?}"),
        }
    }
}

/// `certd run` on a cluster; killed when dropped.
struct Running(Certd);

impl Running {
    fn start(home: &tempfile::TempDir) -> Self {
        Self(Certd::start(certd().arg("run").arg("--config").arg(home.path().join("certd.toml"))))
    }

    /// As systemd does; its log is whole then.
    fn stop(&mut self) {
        self.0.signal("TERM");
        assert!(self.0.wait().success());
    }

    fn count(&self, words: &str, since: Instant) -> usize {
        self.0.log().iter().filter(|(at, line)| *at > since && line.contains(words)).count()
    }

    /// How long it took from `since` until a line said so, so many times.
    async fn says(&self, words: &str, times: usize, since: Instant) -> Duration {
        while self.count(words, since) < times {
            let log = || self.0.log().into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
            assert!(since.elapsed() < PATIENCE, "not `{words}` {times} times within {PATIENCE:?}:\n{}", log());
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
        since.elapsed()
    }

    async fn metrics(&self) -> String {
        let log = self.0.log();
        let line = log.iter().find_map(|(_, line)| line.split("metrics: ").nth(1)).unwrap().to_string();
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        let page = http.get(line).send().await.unwrap().text().await.unwrap();
        secrets::are_not_in([("metrics", page.as_bytes())]);
        page
    }

    /// Certificates in this state.
    async fn states(&self, state: &str) -> usize {
        self.metrics().await.matches(&format!("state=\"{state}\"}} 1")).count()
    }
}

struct Home {
    folder: tempfile::TempDir,
    kv: String,
    pki: String,
}

impl Home {
    async fn new(cluster: &Cluster) -> Self {
        let admin = cluster.admin_at_leader().await;
        let (kv, pki) = (admin.kv("secret").await, admin.pki().await);
        admin.admin("POST", &format!("{kv}/config"), json!({ "max_versions": 100 })).await;
        let policy = format!(
            r#"path "{kv}/data/tls/*" {{ capabilities = ["create", "read", "update"] }}
               path "{kv}/data/certd/pending/*" {{ capabilities = ["create", "read", "update"] }}
               path "{kv}/destroy/certd/pending/*" {{ capabilities = ["update"] }}
               path "{pki}/certs" {{ capabilities = ["list"] }}
               path "{pki}/sign/*" {{ capabilities = ["create", "update"] }}"#,
            pki = pki.mount
        );
        let folder = tempfile::tempdir().unwrap();
        let addresses: Vec<&str> = cluster.nodes.iter().map(|node| node.address.as_str()).collect();
        let mut text = format!(
            "state_dir = \"state\"\nturn = {{ interval = \"1s\" }}\nlisten = {{ address = \"127.0.0.1:0\" }}\n\
             [vault.main]\naddress = {addresses:?}\ntoken_file = \"token\"\ndeadline = \"5s\"\n\
             [issuer.internal.vault_pki]\nvault = \"main\"\nmount = \"{}\"\nrole = \"{}\"\n",
            pki.mount, pki.role
        );
        let short =
            format!("lifetime = \"{}s\"\nrenew_when_left = \"{}s\"\n", LIFETIME.as_secs(), RENEWED_WHEN_LEFT.as_secs());
        for (name, lifetime) in names().into_iter().map(|name| (name.clone(), name.starts_with("short"))) {
            text.push_str(&format!(
                "[[certificate]]\nname = \"{name}\"\nnames = [\"{name}.example.org\"]\nissuer = \"internal\"\n{}\
                 store.vault_kv = {{ vault = \"main\", path = \"{kv}/tls/{name}\" }}\n",
                if lifetime { short.as_str() } else { "lifetime = \"24h\"\n" }
            ));
        }
        std::fs::write(folder.path().join("certd.toml"), text).unwrap();
        std::fs::write(folder.path().join("token"), admin.token(&policy).await).unwrap();
        Self { folder, kv, pki: pki.mount }
    }

    async fn certd(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = certd();
        command.args(arguments).arg("--config").arg(self.folder.path().join("certd.toml"));
        let output = tokio::time::timeout(PATIENCE, output_meanwhile(command)).await.unwrap();
        (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).unwrap())
    }
}

fn names() -> Vec<String> {
    let short = (0..SHORT).map(|nth| format!("short-{nth}"));
    short.chain((0..LONG).map(|nth| format!("long-{nth}"))).collect()
}

/// Serials of all that was signed, the CA's own aside, and of all that is or was stored.
struct Books {
    signed: BTreeSet<String>,
    stored: BTreeMap<String, usize>,
    versions: usize,
}

/// Reads every version of every secret: each holds one certificate with its key, and each but the first came when
/// the one before it was due.
async fn audit(cluster: &Cluster, home: &Home) -> Books {
    let admin = cluster.admin_at_leader().await;
    let plain = |serial: &str| serial.replace(':', "").trim_start_matches('0').to_lowercase();
    let own = admin.admin("GET", &format!("{}/cert/ca", home.pki), Value::Null).await;
    let own = certd::pki::bundle::Bundle::parse(own["data"]["certificate"].as_str().unwrap().as_bytes()).unwrap();
    let own = plain(&certd::pki::read::certificate(&own.certificates[0]).unwrap().serial);
    let listed = admin.admin("LIST", &format!("{}/certs", home.pki), Value::Null).await;
    let signed = listed["data"]["keys"].as_array().unwrap().iter().map(|serial| plain(serial.as_str().unwrap()));
    let mut books =
        Books { signed: signed.filter(|serial| *serial != own).collect(), stored: BTreeMap::new(), versions: 0 };
    let vault = client(&[&cluster.nodes[cluster.leader().await].address], &cluster.root_token);
    let policy = RenewalPolicy(Some(Threshold::Left(RENEWED_WHEN_LEFT)));
    for name in names() {
        let path = format!("{}/tls/{name}", home.kv);
        let history = vault.history(&path).await.unwrap().unwrap();
        let mut due_at = Timestamp(0);
        for number in 1..=history.current {
            let read = vault.version(&path, Some(number)).await.unwrap().unwrap();
            let (_, kept) = vault.certificate(&path, None, &read.fields.unwrap()).await.unwrap().unwrap();
            let leaf = &kept.chain.leaf;
            assert_eq!(kept.key_digest(), Some(leaf.public_key), "{path}@{number}: the key is another's");
            assert_eq!(leaf.names[0].to_string(), format!("{name}.example.org"));
            let written = read.version.created;
            assert!(written >= due_at, "{path}@{number} was written on {written} and the one before due on {due_at}");
            due_at = policy.due_at(leaf);
            *books.stored.entry(plain(&leaf.serial)).or_default() += 1;
            books.versions += 1;
        }
        if name.starts_with("long") {
            assert_eq!(history.current, 1, "{name} was never due");
        }
    }
    books
}

#[tokio::test]
async fn the_leader_dies_and_all_are_sealed_and_nothing_is_lost_or_signed_twice() {
    let mut cluster = Cluster::start().await;
    let home = Home::new(&cluster).await;
    let begun = Instant::now();
    let mut certd = Running::start(&home.folder);
    certd.says("stored and read back", SHORT + LONG, begun).await;
    // So that a leader dies among renewals.
    certd.says("stored and read back", SHORT + LONG + 5, begun).await;

    let mut back = Vec::new();
    for _ in 0..KILLS {
        let leader = cluster.leader().await;
        certd.says("stored and read back", 20, Instant::now()).await;
        let killed = Instant::now();
        cluster.nodes[leader].kill().await;
        back.push(certd.says("stored and read back", 1, killed).await);
        cluster.nodes[leader].start_again().await;
        cluster.unseal(leader).await;
        cluster.is_unsealed(leader).await;
        cluster.all_vote().await;
    }
    let failed = certd.count("could not renew", begun);
    println!("leader killed {KILLS} times: renewing again after {back:?}, {failed} attempts failed");
    assert!(failed <= KILLS, "only what was under way when a leader died may fail: {failed}");

    let (paused, resumed) = seal_and_unseal(&mut cluster, &home, &certd).await;
    println!("sealed for {paused:?}, renewing again {resumed:?} after");

    let failed = certd.count("could not renew", begun);
    assert!(failed <= KILLS + 1, "what was not under way when they were sealed has not failed: {failed}");

    // What failed waits for its next try; a person need not.
    let failing: Vec<String> =
        names_after(&certd.metrics().await, "certd_certificate_state{cert=\"", "state=\"failing\"} 1");
    if !failing.is_empty() {
        let arguments: Vec<&str> = ["renew", "--due"].into_iter().chain(failing.iter().map(String::as_str)).collect();
        let (code, said) = home.certd(&arguments).await;
        assert_eq!(code, 0, "{said}");
    }
    certd.stop();
    let failed = certd.count("could not renew", begun);
    let renewed = certd.count("stored and read back", begun);
    let books = audit(&cluster, &home).await;
    let unknown = books.stored.keys().filter(|serial| !books.signed.contains(*serial)).count();
    let unused = books.signed.iter().filter(|serial| !books.stored.contains_key(*serial)).count();
    println!(
        "{} signed, {} versions stored and {} renewals told; {unused} signed and not stored, {failed} attempts failed",
        books.signed.len(),
        books.versions,
        renewed
    );
    assert_eq!(unknown, 0, "the CA knows of everything that is stored");
    assert!(books.stored.values().all(|times| *times == 1), "no certificate is stored twice: {:?}", books.stored);
    // A sign whose answer was lost is asked for again, with the same key.
    assert!(unused <= failed, "{unused} were signed and are nowhere, though only {failed} attempts failed");
    assert!(books.versions >= renewed && books.versions <= renewed + failed, "{} versions", books.versions);
}

/// How long all nodes were sealed, and how long it took from then to the next renewal.
async fn seal_and_unseal(cluster: &mut Cluster, home: &Home, certd: &Running) -> (Duration, Duration) {
    let leader = cluster.leader().await;
    cluster.admin(leader).admin("POST", "sys/seal", Value::Null).await;
    // A standby cannot be sealed; it begins sealed.
    for at in (0..3).filter(|at| *at != leader) {
        cluster.nodes[at].kill().await;
        cluster.nodes[at].start_again().await;
    }
    let sealed = Instant::now();
    for at in 0..3 {
        cluster.is(at, 503).await;
    }
    let (all, deadline) = (SHORT + LONG, Instant::now() + PATIENCE);
    while certd.states("unknown").await < all {
        assert!(Instant::now() < deadline, "{}", certd.metrics().await);
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
    let quiet = Instant::now();
    let (code, said) = home.certd(&["check", "--format", "json"]).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    let obstacles: BTreeSet<&str> =
        said["certificates"].as_array().unwrap().iter().map(|c| c["obstacle"]["obstacle"].as_str().unwrap()).collect();
    assert_eq!((code, obstacles), (3, BTreeSet::from(["sealed"])));
    certd.says("turn completed", 2, quiet).await;
    assert_eq!(certd.count("renewing", quiet), 0, "nothing was decided while nothing was seen");
    assert_eq!(certd.metrics().await.matches("problem=\"missing\"").count(), 0);
    for at in 0..3 {
        cluster.unseal(at).await;
    }
    let unsealed = Instant::now();
    (unsealed - sealed, certd.says("stored and read back", 1, unsealed).await)
}

/// The label that follows `start` on each line that ends so.
fn names_after(page: &str, start: &str, end: &str) -> Vec<String> {
    let lines = page.lines().filter(|line| line.ends_with(end));
    lines.filter_map(|line| Some(line.strip_prefix(start)?.split('"').next()?.to_string())).collect()
}
