//! One renewal that is killed at one step, and what must hold after the next start.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use certd::pki::bundle::{Bundle, Kept};
use serde_json::{Value, json};

use crate::leaves::{Leaf, OldCa};
use crate::support::vault::{Pki, Vault};

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
}

/// What the place holds before the renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    Nothing = 0,
    Due = 1,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub step: String,
    /// Where the second run is killed; the third one then recovers.
    pub then: Option<String>,
    pub store: Store,
    pub issuer: Issuer,
    pub before: Before,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// So many runs were.
    Killed(usize),
    NotOnThisWay,
}

/// From the start of a run that recovers to its end.
const CONVERGED_WITHIN: Duration = Duration::from_secs(5);

/// A process that hangs is no success.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// `SIGABRT`.
const ABORTED: i32 = 6;

const NAME: &str = "web.example.org";

pub struct Scene<'a> {
    pub case: &'a Case,
    pub vault: &'a Vault,
    directory: tempfile::TempDir,
    mount: String,
    pub pki: Pki,
    old: Option<Value>,
}

impl Case {
    /// Not killed at any step.
    pub fn whole(store: Store, issuer: Issuer, before: Before) -> Self {
        Self { step: String::new(), then: None, store, issuer, before }
    }

    pub async fn run(&self, vault: &Vault) -> Result<Ended, String> {
        let scene = Scene::new(self, vault).await;
        let killed = scene.renew(Some(&self.step)).await?;
        let mut times = usize::from(killed);
        if let Some(then) = &self.then {
            times += usize::from(scene.renew(Some(then)).await?);
        }
        scene.converges(1).await?;
        Ok(if times == 0 { Ended::NotOnThisWay } else { Ended::Killed(times) })
    }
}

impl<'a> Scene<'a> {
    pub async fn new(case: &'a Case, vault: &'a Vault) -> Self {
        let mount = vault.kv("kills").await;
        if case.store == Store::KvOne {
            vault.admin("DELETE", &format!("sys/mounts/{mount}"), Value::Null).await;
            let one = json!({ "type": "kv", "options": { "version": "1" } });
            vault.admin("POST", &format!("sys/mounts/{mount}"), one).await;
        }
        let pki = vault.pki().await;
        let scene = Self { case, vault, directory: tempfile::tempdir().unwrap(), mount, pki, old: None };
        let old = scene.place_old().await;
        scene.configure();
        Self { old, ..scene }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A certificate that is due, beside fields that certd does not know.
    async fn place_old(&self) -> Option<Value> {
        if self.case.before == Before::Nothing {
            return None;
        }
        let mut old = OldCa::new().secret(Leaf::due(NAME));
        let (certificate, key) = (old["certificate"].as_str().unwrap(), old["private_key"].as_str().unwrap());
        match self.case.store {
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
            // certd makes what it switches; there is nothing of others to be replaced.
            Store::Directory => return None,
        }
        Some(old)
    }

    async fn put(&self, data: &Value) {
        match self.case.store {
            Store::KvTwo => drop(self.vault.put(&self.mount, "tls/web", data.clone()).await),
            Store::KvOne => drop(self.vault.admin("POST", &format!("{}/tls/web", self.mount), data.clone()).await),
            Store::Bundle | Store::Directory | Store::Loose => unreachable!("files are written as files"),
        }
    }

    fn configure(&self) {
        std::fs::write(self.path("token"), &self.vault.root_token).unwrap();
        let issuer = match self.case.issuer {
            Issuer::LocalCa => "local_ca]\ndirectory = \"ca\"\ncreate = true\n".to_string(),
            Issuer::VaultPki => {
                format!("vault_pki]\nvault = \"main\"\nmount = \"{}\"\nrole = \"{}\"\n", self.pki.mount, self.pki.role)
            }
        };
        let store = match self.case.store {
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
            "state_dir = \"state\"\n[vault.main]\naddress = \"{}\"\ntoken_file = \"token\"\ndeadline = \"1s\"\n\
             [issuer.ca.{issuer}[[certificate]]\nname = \"web\"\nnames = [\"{NAME}\"]\nissuer = \"ca\"\n{store}\n",
            self.vault.address
        );
        std::fs::write(self.path("certd.toml"), text).unwrap();
    }

    /// A run that nobody disturbs, and all that must hold after it.
    pub async fn converges(&self, most_issued: usize) -> Result<(), String> {
        let begun = Instant::now();
        if self.renew(None).await? {
            return Err("it was killed without a step".to_string());
        }
        let took = begun.elapsed();
        if took > CONVERGED_WITHIN {
            return Err(format!("it took {took:?} to converge"));
        }
        self.holds(most_issued).await
    }

    pub fn command(&self, program: &[&str]) -> tokio::process::Command {
        let certd = env!("CARGO_BIN_EXE_certd");
        let words: Vec<&str> = program.iter().copied().chain([certd, "renew", "--config"]).collect();
        let mut command = tokio::process::Command::new(words[0]);
        command.args(&words[1..]).arg(self.path("certd.toml")).kill_on_drop(true).env_remove("CERTD_FAILPOINT");
        command
    }

    /// Whether it was killed at the step.
    async fn renew(&self, step: Option<&str>) -> Result<bool, String> {
        let mut command = self.command(&[]);
        command.envs(step.map(|step| ("CERTD_FAILPOINT", step)));
        let ended = tokio::time::timeout(ENDS_WITHIN, command.output()).await.map_err(|_| "it hangs".to_string())?;
        let ended = ended.unwrap();
        let said = || [ended.stdout.clone(), ended.stderr.clone()].concat();
        match (ended.status.code(), ended.status.signal()) {
            (Some(0), _) => Ok(false),
            (None, Some(ABORTED)) if step.is_some() => Ok(true),
            (code, signal) => Err(format!("{code:?} {signal:?}: {}", String::from_utf8_lossy(&said()))),
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
        match self.case.store {
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
        match self.case.issuer {
            Issuer::LocalCa => entries(&self.path("ca/issued")),
            Issuer::VaultPki => {
                let listed = self.vault.admin("LIST", &format!("{}/certs", self.pki.mount), Value::Null).await;
                listed["data"]["keys"].as_array().unwrap().len() - 1
            }
        }
    }

    fn pending(&self) -> usize {
        entries(&self.path("state/pending"))
    }

    /// Versions of staging records that can still be read.
    async fn staged(&self) -> usize {
        if self.case.store != Store::KvTwo {
            return 0;
        }
        let (vault, mut readable) = (self.vault, 0);
        let list = format!("{}/metadata/certd/pending", self.mount);
        let (_, listed) = vault.call(&vault.root_token, "LIST", &list, Value::Null).await;
        for name in listed["data"]["keys"].as_array().into_iter().flatten() {
            for version in 1..=12 {
                let path = format!("{}/data/certd/pending/{}?version={version}", self.mount, name.as_str().unwrap());
                readable += usize::from(vault.call(&vault.root_token, "GET", &path, Value::Null).await.0 == 200);
            }
        }
        readable
    }

    async fn versions(&self) -> Option<u64> {
        match self.case.store {
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
