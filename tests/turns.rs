//! Turns and renewals at their edges: what must not be asked for twice, and what must not be written.

mod authority;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use authority::{Authority, NOW};
use certd::config;
use certd::cycle::{Cycle, Turn};
use certd::domain::inventory::Sighting;
use certd::domain::key::{KeySpec, PrivateKey};
use certd::domain::name::{CertName, San};
use certd::domain::plan::{Action, Basis, Demand, Held, Managed, Origin, Reason};
use certd::domain::policy::RenewalPolicy;
use certd::domain::renewal::Spec;
use certd::domain::time::Timestamp;
use certd::issuer::Issuer;
use certd::issuer::vault_pki::VaultPki;
use certd::journal::Journal;
use certd::journal::event::{Event, Issued};
use certd::pki;
use certd::pki::roots::Roots;
use certd::renew::{Outcome, Renewal};
use certd::store::Store;
use certd::store::file::{FileLayout, FileStore};
use certd::vault::{Settings, TokenFrom, Vault};
use tempfile::TempDir;
use tokio::sync::watch;
use zeroize::Zeroizing;

fn clock() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_second())
}

/// A daemon's parts over one configuration in a directory of its own.
struct Wheel {
    directory: TempDir,
    journal: Journal,
    cycle: Cycle,
}

impl Wheel {
    /// `text` is what follows the state directory.
    fn new(text: &str) -> Self {
        Self::within(tempfile::tempdir().unwrap(), text)
    }

    fn within(directory: TempDir, text: &str) -> Self {
        let file = directory.path().join("certd.toml");
        std::fs::write(&file, format!("state_dir = \"state\"\n{text}")).unwrap();
        let config = config::load(&file).unwrap();
        let setup = Arc::new(config::build::build(&config).unwrap());
        let journal = Journal::open(&config.state_dir).unwrap();
        Self { directory, journal, cycle: Cycle::new(setup, clock) }
    }

    /// Lets go of the journal.
    fn stopped(self) -> TempDir {
        self.directory
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    async fn turn(&mut self) -> Turn {
        self.asked(&[]).await
    }

    async fn asked(&mut self, names: &[&str]) -> Turn {
        let requested: BTreeMap<CertName, Demand> =
            names.iter().map(|name| (CertName::from(*name), Demand::IfDue)).collect();
        let (_keep, stop) = watch::channel(false);
        self.cycle.turn(&self.journal, &requested, stop).await.unwrap()
    }
}

fn actions(turn: &Turn) -> Vec<Action> {
    turn.snapshot.entries.iter().filter_map(|entry| Some(entry.managed.as_ref()?.decision.action.clone())).collect()
}

fn endings(turn: &Turn) -> Vec<Result<(), String>> {
    let ending = |attempt: &certd::cycle::execute::Attempt| match &attempt.ended {
        Ok(_) => Ok(()),
        Err(failure) => Err(failure.message.clone()),
    };
    turn.attempts.iter().map(ending).collect()
}

const TWO_ISSUERS: &str = r#"
[issuer.first.local_ca]
directory = "first"
create = true
common_name = "First CA"
permitted_names = ["example.com"]

[issuer.second.local_ca]
directory = "second"
create = true
common_name = "Second CA"

[[certificate]]
name = "web"
names = ["web.example.org"]
issuer = ["first", "second"]
store.file.bundle = "web.pem"
"#;

/// Judged by the roots of the first alone, it would be renewed on every turn.
#[tokio::test]
async fn what_the_second_issuer_signed_is_not_renewed_for_lack_of_the_firsts_roots() {
    let mut wheel = Wheel::new(TWO_ISSUERS);
    assert_eq!(endings(&wheel.turn().await), [Ok(())]);
    assert_eq!(endings(&wheel.turn().await), []);
}

const ONE_CA: &str = r#"
[issuer.internal.local_ca]
directory = "ca"
create = true

[[certificate]]
name = "web"
names = ["web.example.org"]
issuer = "internal"
store.file.bundle = "web.pem"
"#;

#[tokio::test]
async fn what_can_never_be_written_is_held_before_a_ca_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("web.pem");
    let old = Authority::new().certified("web.example.org");
    let text = pki::pem::certificates(old.ders()) + &pki::key::to_pem(old.key());
    std::fs::write(&place, &text).unwrap();
    std::fs::hard_link(&place, directory.path().join("another-name.pem")).unwrap();
    let mut wheel = Wheel::within(directory, ONE_CA);
    for _ in 0..2 {
        let turn = wheel.turn().await;
        assert_eq!(wheel.journal.in_flight(&"web".into()), None, "no key was made and no CA asked");
        let [Action::Hold { held: Held::Unwritable(why) }] = &actions(&turn)[..] else {
            panic!("{:?}", actions(&turn))
        };
        assert!(why.contains("has 2 names (hard links)"), "{why}");
    }
    std::fs::remove_file(wheel.path().join("another-name.pem")).unwrap();
    assert_eq!(endings(&wheel.asked(&["web"]).await), [Ok(())]);
    assert_eq!(std::fs::read_dir(wheel.path()).unwrap().count(), 4, "no draft is left: ca, state, certd.toml, web.pem");
}

fn for_names(names: &str) -> String {
    ONE_CA
        .replace("create = true", "create = true\npermitted_names = [\"web.example.org\"]")
        .replace("\"web.example.org\"]\nissuer", names)
}

#[tokio::test]
async fn failures_are_forgotten_when_nothing_is_wanted_any_more() {
    let mut wheel = Wheel::new(&for_names("\"web.example.org\"]\nissuer"));
    assert_eq!(endings(&wheel.turn().await), [Ok(())]);
    let mut wheel = Wheel::within(wheel.stopped(), &for_names("\"web.example.org\", \"evil.example\"]\nissuer"));
    let refused = wheel.turn().await;
    assert!(endings(&refused)[0].as_ref().unwrap_err().contains("permitted_names has no place for evil.example"));
    let failures = |turn: &Turn| -> Vec<u32> {
        let managed = turn.snapshot.entries.iter().filter_map(|entry| entry.managed.as_ref());
        managed.map(|managed| managed.record.consecutive_failures).collect()
    };
    assert_eq!(failures(&refused), [1]);
    let mut wheel = Wheel::within(wheel.stopped(), &for_names("\"web.example.org\"]\nissuer"));
    let changed_back = wheel.turn().await;
    assert_eq!((endings(&changed_back), failures(&changed_back)), (vec![], vec![0]));
}

#[tokio::test]
async fn no_ca_is_made_while_acting_is_paused() {
    let mut wheel = Wheel::new(ONE_CA);
    wheel.journal.append(clock(), None, Event::Paused { until: clock().plus(Duration::from_secs(3_600)) }).unwrap();
    wheel.turn().await;
    assert!(!wheel.path().join("ca").exists());
    wheel.journal.append(clock(), None, Event::Resumed).unwrap();
    assert_eq!(endings(&wheel.turn().await), [Ok(())]);
}

#[tokio::test]
async fn no_ca_is_made_while_an_adopted_folder_cannot_be_listed() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("token"), "root").unwrap();
    let roots = pki::pem::certificates(&[Authority::new().root]);
    std::fs::write(directory.path().join("roots.pem"), roots).unwrap();
    let adopt = r#"
[vault.main]
address = "http://127.0.0.1:1"
token_file = "token"

[[adopt]]
found.vault_kv = { vault = "main", paths = ["secret/tls/**"] }
names = ["*.example.org"]
roots = ["roots.pem"]
issuer = "internal"
"#;
    let mut wheel = Wheel::within(directory, &format!("{ONE_CA}{adopt}"));
    let turn = wheel.turn().await;
    assert!(!wheel.path().join("ca").exists());
    assert!(endings(&turn)[0].as_ref().unwrap_err().contains("no CA is made before every store was read"));
}

/// One renewal over a file store, whose CA signed already.
struct Signed {
    directory: TempDir,
    journal: Journal,
    authority: Authority,
    managed: Managed,
    old: Vec<u8>,
}

const WEB: &str = "web.example.org";

impl Signed {
    fn new(origin: Origin) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        let authority = Authority::new();
        let key = pki::key::generate(KeySpec::EcdsaP256).unwrap();
        let place = directory.path().join("web.pem");
        let old = authority.certified(WEB);
        let text = pki::pem::certificates(old.ders()) + &pki::key::to_pem(old.key());
        std::fs::write(&place, text).unwrap();
        let old = old.ders()[0].clone();
        let signed = Self { managed: managed(&place, origin), directory, journal, authority, old };
        signed.begin(&key);
        signed
    }

    fn begin(&self, key: &PrivateKey) {
        let name = &self.managed.name;
        self.journal.keys.save(name, key).unwrap();
        let ders = self.authority.sign(WEB, key);
        for event in [
            Event::Begun { reason: Reason::Forced, asked: "digest".into(), replaces: Some(self.old()) },
            Event::Asked { issuer: "internal".into() },
            Event::Issued(Issued { issuer: "internal".into(), ders }),
        ] {
            self.journal.append(NOW, Some(name), event).unwrap();
        }
    }

    fn old(&self) -> certd::domain::cert::Fingerprint {
        certd::domain::cert::Fingerprint(pki::sha256(&self.old))
    }

    fn store(&self, roots: Arc<Roots>) -> Store {
        Store::File(FileStore { layout: FileLayout::Bundle(self.directory.path().join("web.pem")), roots })
    }

    async fn run(&self, issuer: &str, roots: Arc<Roots>) -> Result<Outcome, String> {
        let settings = Settings {
            name: "main".into(),
            address: "http://127.0.0.1:1".parse().unwrap(),
            roots: None,
            namespace: None,
            token: TokenFrom::Given(Zeroizing::new("root".into())),
            deadline: Duration::from_secs(1),
        };
        let vault = Arc::new(Vault::new(settings).unwrap());
        let pki = VaultPki { vault, mount: "pki".into(), role: "web".into() };
        let issuers = [(issuer.into(), Arc::new(Issuer::VaultPki { pki, roots: Some(self.authority.roots()) }))];
        let renewal = Renewal {
            managed: &self.managed,
            reason: Reason::Forced,
            based_on: Basis { version: None, fingerprint: Some(self.old()) },
            store: &self.store(roots),
            issuers: &issuers,
            journal: &self.journal,
            now: || NOW,
        };
        renewal.run().await.map_err(|failure| failure.message)
    }

    async fn found(&self) -> Option<certd::domain::cert::Fingerprint> {
        match self.store(self.authority.roots()).read().await {
            Sighting::Found(found) => Some(found.leaf().fingerprint),
            Sighting::Absent => None,
            Sighting::Unknown(obstacle) => panic!("{}", obstacle.message),
        }
    }
}

fn managed(place: &Path, origin: Origin) -> Managed {
    Managed {
        name: "web".into(),
        location: FileLayout::Bundle(place.to_path_buf()).location(),
        origin,
        spec: Spec {
            names: vec![San::from_text(WEB)],
            common_name: None,
            key: KeySpec::EcdsaP256,
            lifetime: None,
            renewal: RenewalPolicy::default(),
        },
        issuers: vec!["internal".into()],
        serves: Vec::new(),
        owner: None,
        environment: None,
        held: None,
    }
}

#[tokio::test]
async fn what_was_signed_before_a_restart_is_stored_without_asking_again() {
    let signed = Signed::new(Origin::Declared);
    let Ok(Outcome::Renewed { fingerprint, .. }) = signed.run("internal", signed.authority.roots()).await else {
        panic!("not renewed")
    };
    assert_eq!(signed.found().await, Some(fingerprint));
    assert_eq!(signed.journal.in_flight(&"web".into()), None);
}

#[tokio::test]
async fn a_signed_certificate_whose_key_is_lost_is_given_up_with_its_serial_on_record() {
    let signed = Signed::new(Origin::Declared);
    signed.journal.keys.forget(&"web".into()).unwrap();
    let message = signed.run("internal", signed.authority.roots()).await.unwrap_err();
    assert!(message.contains("the private key of the renewal in flight is gone"), "{message}");
    assert_eq!(signed.journal.in_flight(&"web".into()), None, "the next attempt begins anew");
    assert_eq!(signed.found().await, Some(signed.old()));
}

#[tokio::test]
async fn a_signed_certificate_whose_issuer_is_no_longer_configured_is_given_up() {
    let signed = Signed::new(Origin::Declared);
    let message = signed.run("another", signed.authority.roots()).await.unwrap_err();
    assert!(message.contains("no longer configured"), "{message}");
    assert_eq!(signed.journal.in_flight(&"web".into()), None);
    assert_eq!(signed.found().await, Some(signed.old()));
}

#[tokio::test]
async fn a_place_that_was_deleted_while_the_ca_signed_is_not_recreated_where_a_rule_adopted_it() {
    let signed = Signed::new(Origin::Adopted);
    std::fs::remove_file(signed.directory.path().join("web.pem")).unwrap();
    let message = signed.run("internal", signed.authority.roots()).await.unwrap_err();
    assert!(message.contains("since the decision was made"), "{message}");
    assert_eq!(signed.found().await, None);
    assert!(signed.journal.in_flight(&"web".into()).is_some(), "it is kept in case it is wanted again");
}

#[tokio::test]
async fn what_a_rule_adopted_is_not_replaced_by_what_the_rules_roots_would_call_foreign() {
    let signed = Signed::new(Origin::Adopted);
    let message = signed.run("internal", Authority::new().roots()).await.unwrap_err();
    assert!(message.contains("does not verify to the configured roots"), "{message}");
    assert_eq!(signed.found().await, Some(signed.old()));
}
