//! One renewal that is killed at one step, and what must hold after the next start.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use certd::pki::bundle::{Bundle, Kept};
use serde_json::{Value, json};

use crate::acme::Ca;
use crate::leaves::{Leaf, OldCa};
use crate::support::secrets::{self, Kind};
use crate::support::vault::{Pki, Vault};
use crate::{daemon, steps};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    KvTwo,
    KvOne,
    Bundle,
    Directory,
    Loose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    LocalCa,
    VaultPki,
    Acme,
}

/// What the place holds before the renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    Nothing = 0,
    Due = 1,
}

/// Where a renewal comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub store: Store,
    pub issuer: Issuer,
    pub before: Before,
}

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// `certd renew`.
    Command,
    /// `certd run`, which renews when it is allowed to act, some turns after its start.
    Daemon,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub way: Way,
    pub face: Face,
    /// Where the run ends, and then the one after it, and so on; the one after the last recovers.
    pub steps: Vec<String>,
}

/// How a case went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// So many runs came by their step and died of it. The others came to their end without it.
    pub killed: usize,
    /// From the start of the run that recovered to its end, or to the end of the daemon's turn.
    pub recovered_in: Duration,
}

/// From the start of a run that recovers to its end.
const CONVERGED_WITHIN: Duration = Duration::from_secs(15);

/// The same, of one that first waits until an answer would be there or lost.
const AWAITED_WITHIN: Duration = Duration::from_secs(35);

/// A process that hangs is no success.
pub const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// `SIGABRT`.
const ABORTED: i32 = 6;

const NAME: &str = "web.example.org";

pub struct Scene<'a> {
    pub way: Way,
    pub vault: &'a Vault,
    directory: tempfile::TempDir,
    mount: String,
    pub pki: Pki,
    /// Where the way goes by ACME.
    pub ca: Option<Ca>,
    old: Option<Value>,
    /// From the start of the run that recovers to its end.
    within: Duration,
}

impl Case {
    pub fn of(way: Way, face: Face, step: &str) -> Self {
        let mut steps = vec![step.to_string()];
        while let Some(lead) = steps::lead(&steps[0]) {
            steps.insert(0, lead.to_string());
        }
        Self { way, face, steps }
    }

    /// The run that recovers does little else.
    pub fn awaits_an_answer(&self) -> bool {
        self.steps.iter().any(|step| steps::awaits_an_answer(step, self.way))
    }

    pub async fn run(&self, vault: &Vault) -> Result<Ended, String> {
        let mut scene = Scene::new(self.way, vault).await;
        if self.awaits_an_answer() {
            scene.within = AWAITED_WITHIN;
        }
        let (mut killed, mut most_issued, mut left_over) = (0, 1, 0);
        for (nth, step) in self.steps.iter().enumerate() {
            if step == steps::GIVEN_UP {
                scene.lose_the_key().await;
                most_issued = 2;
            }
            let is_last = nth + 1 == self.steps.len();
            let is_killed = match self.face {
                Face::Command | Face::Daemon if step == steps::ROLLED_OVER => scene.roll_over(step).await?,
                Face::Daemon if is_last => daemon::killed(&scene, step).await?,
                Face::Command | Face::Daemon => scene.renew(Some(step)).await?,
            };
            killed += usize::from(is_killed);
            left_over += usize::from(is_killed && steps::leaves_an_order(step, self.way));
        }
        let was_given_up = most_issued == 2;
        if was_given_up {
            scene.is_given_up().await?;
        }
        let recovered_in = match self.face {
            // A daemon would wait for a minute before it tries again.
            Face::Daemon if !was_given_up => daemon::converges(&scene, most_issued).await?,
            Face::Command | Face::Daemon => scene.converges(most_issued).await?,
        };
        match scene.ca.as_ref().map_or(0, Ca::orders_in_vain) {
            orders if orders == left_over => Ok(Ended { killed, recovered_in }),
            orders => Err(format!("{orders} orders came to nothing, and not {left_over}")),
        }
    }
}

impl<'a> Scene<'a> {
    pub async fn new(way: Way, vault: &'a Vault) -> Self {
        let mount = vault.kv("kills").await;
        if way.store == Store::KvOne {
            vault.admin("DELETE", &format!("sys/mounts/{mount}"), Value::Null).await;
            let one = json!({ "type": "kv", "options": { "version": "1" } });
            vault.admin("POST", &format!("sys/mounts/{mount}"), one).await;
        }
        let pki = vault.pki().await;
        let directory = tempfile::tempdir().unwrap();
        let ca = (way.issuer == Issuer::Acme).then(|| Ca::start(directory.path()));
        let scene = Self { way, vault, directory, mount, pki, ca, old: None, within: CONVERGED_WITHIN };
        let old = scene.place_old().await;
        scene.configure(true);
        Self { old, ..scene }
    }

    /// Where nobody knows before which step it is killed, an answer may be awaited after it.
    pub async fn at_any_moment(way: Way, vault: &'a Vault) -> Self {
        let within = if way.issuer == Issuer::Acme { AWAITED_WITHIN } else { CONVERGED_WITHIN };
        Self { within, ..Self::new(way, vault).await }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A certificate that is due, beside fields that certd does not know.
    async fn place_old(&self) -> Option<Value> {
        if self.way.before == Before::Nothing {
            return None;
        }
        let mut old = OldCa::new().secret(Leaf::due(NAME));
        let (certificate, key) = (old["certificate"].as_str().unwrap(), old["private_key"].as_str().unwrap());
        match self.way.store {
            Store::KvTwo | Store::KvOne => {
                old["team"] = json!("payments");
                old["nested"] = json!({ "kept": [1, 2.50, null] });
                self.put(&old).await;
            }
            Store::Bundle => std::fs::write(self.path("web.pem"), format!("{certificate}{key}")).unwrap(),
            Store::Loose => {
                std::fs::write(self.path("web.crt"), certificate).unwrap();
                std::fs::write(self.path("web.key"), key).unwrap();
            }
            // As certd itself leaves it.
            Store::Directory => {
                let generation = self.path(".web.certd/1");
                std::fs::create_dir_all(&generation).unwrap();
                let files = [
                    ("cert.pem", certificate),
                    ("chain.pem", ""),
                    ("fullchain.pem", certificate),
                    ("privkey.pem", key),
                ];
                for (name, text) in files {
                    std::fs::write(generation.join(name), text).unwrap();
                }
                std::os::unix::fs::symlink(".web.certd/1", self.path("web")).unwrap();
            }
        }
        Some(old)
    }

    async fn put(&self, data: &Value) {
        match self.way.store {
            Store::KvTwo => drop(self.vault.put(&self.mount, "tls/web", data.clone()).await),
            Store::KvOne => drop(self.vault.admin("POST", &format!("{}/tls/web", self.mount), data.clone()).await),
            Store::Bundle | Store::Directory | Store::Loose => unreachable!("files are written as files"),
        }
    }

    pub fn configure(&self, act: bool) {
        std::fs::write(self.path("token"), &self.vault.root_token).unwrap();
        let issuer = match self.way.issuer {
            Issuer::LocalCa => "local_ca]\ndirectory = \"ca\"\ncreate = true\n".to_string(),
            Issuer::VaultPki => {
                format!("vault_pki]\nvault = \"main\"\nmount = \"{}\"\nrole = \"{}\"\n", self.pki.mount, self.pki.role)
            }
            Issuer::Acme => self.ca.as_ref().unwrap().table(),
        };
        let store = match self.way.store {
            Store::KvTwo | Store::KvOne => {
                format!("store.vault_kv = {{ vault = \"main\", path = \"{}/tls/web\" }}", self.mount)
            }
            Store::Bundle => "store.file = { bundle = \"web.pem\" }".to_string(),
            Store::Directory => "store.file = { directory = \"web\" }".to_string(),
            Store::Loose => {
                "store.file = { certificate = \"web.crt\", private_key = \"web.key\", torn_reads = true }".to_string()
            }
        };
        let text = format!(
            "state_dir = \"state\"\nact = {act}\nlisten = {{ address = \"127.0.0.1:0\" }}\n\
             turn = {{ interval = \"1h\" }}\n[vault.main]\naddress = \"{}\"\ntoken_file = \"token\"\ndeadline = \"1s\"\n\
             [issuer.ca.{issuer}[[certificate]]\nname = \"web\"\nnames = [\"{NAME}\"]\nissuer = \"ca\"\n{store}\n",
            self.vault.address
        );
        std::fs::write(self.path("certd.toml"), text).unwrap();
    }

    /// A run that nobody disturbs, and all that must hold after it.
    pub async fn converges(&self, most_issued: usize) -> Result<Duration, String> {
        let begun = Instant::now();
        self.renew(None).await?;
        self.converged(begun, most_issued).await
    }

    pub async fn converged(&self, begun: Instant, most_issued: usize) -> Result<Duration, String> {
        let took = begun.elapsed();
        if took > self.within {
            return Err(format!("it took {took:?} to converge"));
        }
        self.holds(most_issued).await?;
        let verified = self.command(&[], &["audit", "verify"]).output().await.unwrap();
        match verified.status.success() {
            true => Ok(took),
            false => Err(format!("the audit log: {}", String::from_utf8_lossy(&verified.stdout))),
        }
    }

    pub fn command(&self, program: &[&str], arguments: &[&str]) -> tokio::process::Command {
        let certd = env!("CARGO_BIN_EXE_certd");
        let words: Vec<&str> = program.iter().chain([&certd]).chain(arguments).copied().collect();
        let mut command = tokio::process::Command::new(words[0]);
        command.args(&words[1..]).arg("--config").arg(self.path("certd.toml")).kill_on_drop(true);
        command.env_remove("CERTD_FAILPOINT").env_remove("CERTD_FAILPOINT_RECORD");
        command
    }

    /// Has it write down what it comes by, and end there.
    pub fn end_at(&self, command: &mut tokio::process::Command, step: Option<&str>) {
        command.env("CERTD_FAILPOINT_RECORD", self.path("steps"));
        command.envs(step.map(|step| ("CERTD_FAILPOINT", step)));
    }

    /// What the last run came by, in its order.
    pub fn came_by(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("steps")).unwrap_or_default();
        text.lines().map(str::to_string).collect()
    }

    pub fn forget_what_it_came_by(&self) {
        // It is not there before the first run.
        let _ = std::fs::remove_file(self.path("steps"));
    }

    /// Whether it died of the step, if it was asked to.
    pub async fn renew(&self, step: Option<&str>) -> Result<bool, String> {
        self.run(&["renew"], step).await
    }

    async fn roll_over(&self, step: &str) -> Result<bool, String> {
        self.run(&["account", "ca", "--roll-over"], Some(step)).await
    }

    async fn run(&self, arguments: &[&str], step: Option<&str>) -> Result<bool, String> {
        self.forget_what_it_came_by();
        let mut command = self.command(&[], arguments);
        self.end_at(&mut command, step);
        let ended = tokio::time::timeout(ENDS_WITHIN, command.output()).await.map_err(|_| "it hangs".to_string())?;
        let ended = ended.unwrap();
        let said = [ended.stdout, ended.stderr].concat();
        self.keeps_its_keys(&said);
        self.died_of(step, ended.status, &String::from_utf8_lossy(&said))
    }

    /// Fails the test where a key of its folder or of a secret is in what certd said.
    pub fn keeps_its_keys(&self, said: &[u8]) {
        secrets::told_files(Kind::KeyOnDisk, &self.path(""));
        secrets::are_not_in([("what it said", said)]);
    }

    /// A death is one of the step only where the step was the last thing that it came by, and who lives did not come by it.
    pub fn died_of(&self, step: Option<&str>, status: ExitStatus, said: &str) -> Result<bool, String> {
        let came_by = self.came_by();
        match (status.code(), status.signal(), step) {
            (None, Some(ABORTED), Some(step)) if came_by.last().is_some_and(|last| last == step) => Ok(true),
            (Some(0), _, Some(step)) if came_by.iter().any(|other| other == step) => {
                Err(format!("it came by {step} and lives: {said}"))
            }
            (Some(0), _, _) => Ok(false),
            (code, signal, _) => Err(format!("{code:?} {signal:?} after {:?}: {said}", came_by.last())),
        }
    }

    async fn lose_the_key(&self) {
        if self.way.store != Store::KvTwo {
            let pending = self.path("state/pending");
            let keys: Vec<_> = std::fs::read_dir(pending).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert_eq!(keys.len(), 1, "{keys:?}");
            return std::fs::remove_file(&keys[0]).unwrap();
        }
        for path in self.vault.paths_below(&self.mount, "certd/pending").await {
            self.vault.admin("DELETE", &format!("{}/metadata/{path}", self.mount), Value::Null).await;
        }
    }

    /// What cannot be used is said to be refused, and the next attempt begins anew.
    async fn is_given_up(&self) -> Result<(), String> {
        let ended = self.command(&[], &["renew"]).output().await.unwrap();
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        match ended.status.code() == Some(2) && said.contains("was refused: the private key of the renewal") {
            true => Ok(()),
            false => Err(format!("it does not tell of the key that it lost: {ended:?}")),
        }
    }

    async fn holds(&self, most_issued: usize) -> Result<(), String> {
        let (kept, fields) = self.stored().await?;
        let leaf = &kept.chain.leaf;
        if kept.key_digest() != Some(leaf.public_key) {
            return Err("the key does not match".to_string());
        }
        let old = self.old.as_ref().map(|old| parsed(old["certificate"].as_str().unwrap()));
        if let Some(old) = old.transpose()?
            && (leaf.not_after <= old.chain.leaf.not_after || leaf.fingerprint == old.chain.leaf.fingerprint)
        {
            return Err("an older certificate is there".to_string());
        }
        if let (Some(old), Some(fields)) = (&self.old, &fields)
            && (old["team"] != fields["team"] || old["nested"] != fields["nested"])
        {
            return Err(format!("fields were lost: {fields}"));
        }
        match self.issued().await {
            issued if (1..=most_issued).contains(&issued) => {}
            other => return Err(format!("{other} certificates were issued")),
        }
        if let Some(accounts) = self.ca.as_ref().map(Ca::accounts).filter(|accounts| *accounts != 1) {
            return Err(format!("the CA has {accounts} accounts"));
        }
        match (self.pending(), self.staged().await, self.versions().await) {
            (0, 0, None) => Ok(()),
            (0, 0, Some(version)) if version == 1 + u64::from(self.old.is_some()) => Ok(()),
            left => Err(format!("pending files, readable staged keys, versions: {left:?}")),
        }
    }

    /// What is there, as somebody else reads it.
    async fn stored(&self) -> Result<(Kept, Option<Value>), String> {
        let read = |name: &str| std::fs::read_to_string(self.path(name)).map_err(|e| format!("{name}: {e}"));
        let of_fields = |data: Value| {
            let text = |name: &str| data[name].as_str().unwrap_or_default().to_string();
            Ok((parsed(&(text("certificate") + "\n" + &text("private_key")))?, Some(data)))
        };
        match self.way.store {
            Store::KvTwo => of_fields(self.vault.get(&self.mount, "tls/web").await.0),
            Store::KvOne => {
                let path = format!("{}/tls/web", self.mount);
                of_fields(self.vault.admin("GET", &path, Value::Null).await["data"].clone())
            }
            Store::Bundle => Ok((parsed(&read("web.pem")?)?, None)),
            Store::Directory => Ok((parsed(&(read("web/fullchain.pem")? + &read("web/privkey.pem")?))?, None)),
            Store::Loose => Ok((parsed(&(read("web.crt")? + &read("web.key")?))?, None)),
        }
    }

    async fn issued(&self) -> usize {
        match self.way.issuer {
            Issuer::LocalCa => entries(&self.path("ca/issued")),
            Issuer::VaultPki => {
                let listed = self.vault.admin("LIST", &format!("{}/certs", self.pki.mount), Value::Null).await;
                listed["data"]["keys"].as_array().unwrap().len() - 1
            }
            Issuer::Acme => self.ca.as_ref().unwrap().issued(),
        }
    }

    fn pending(&self) -> usize {
        entries(&self.path("state/pending"))
    }

    /// Versions of staging records that can still be read.
    async fn staged(&self) -> usize {
        if self.way.store != Store::KvTwo {
            return 0;
        }
        self.vault.staged(&self.mount).await
    }

    async fn versions(&self) -> Option<u64> {
        match self.way.store {
            Store::KvTwo => Some(self.vault.get(&self.mount, "tls/web").await.1),
            Store::KvOne | Store::Bundle | Store::Directory | Store::Loose => None,
        }
    }
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, |entries| {
        entries
            .filter(|entry| entry.as_ref().is_ok_and(|e| e.path().extension().is_some_and(|it| it != "draft")))
            .count()
    })
}

fn parsed(pem: &str) -> Result<Kept, String> {
    let chains = Bundle::parse(pem.as_bytes()).and_then(|bundle| bundle.chains()).map_err(|why| why.to_string())?;
    chains.into_iter().next().ok_or_else(|| "there is no certificate".to_string())
}
