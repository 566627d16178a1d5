//! Turns and renewals at their edges: what must not be asked for twice, and what must not be written.

#[path = "../authority/mod.rs"]
mod authority;

mod renewals;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use authority::Authority;
use certd::config;
use certd::cycle::execute::Execution;
use certd::cycle::{Cycle, Turn};
use certd::domain::inventory::Inventory;
use certd::domain::name::CertName;
use certd::domain::plan::{Action, Basis, Decision, Demand, Held, Reason};
use certd::domain::policy::retry_at;
use certd::domain::time::Timestamp;
use certd::journal::Journal;
use certd::journal::event::Event;
use certd::pki;
use tempfile::TempDir;
use tokio::sync::watch;

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

#[tokio::test]
async fn a_pause_and_a_narrower_request_stop_what_was_decided_before_them() {
    let wheel = Wheel::new(ONE_CA);
    let managed = wheel.cycle.setup.declared.clone();
    let decision = Decision {
        certificate: managed[0].name.clone(),
        location: managed[0].location.clone(),
        action: Action::Renew { reason: Reason::Missing },
        based_on: Basis::default(),
    };
    let tried = async |only: Option<&str>| {
        let only = only.map(|name| BTreeSet::from([CertName::from(name)]));
        let execution = Execution {
            setup: &wheel.cycle.setup,
            journal: &wheel.journal,
            inventory: &Inventory::default(),
            now: clock,
            stop: watch::channel(false).1,
            only: only.as_ref(),
        };
        execution.run(&managed, std::slice::from_ref(&decision), &[0], &BTreeMap::new()).await.len()
    };
    assert_eq!((tried(None).await, tried(Some("web")).await, tried(Some("another")).await), (1, 1, 0));
    let until = clock().plus(Duration::from_secs(3_600));
    wheel.journal.append(clock(), Some(&managed[0].name), Event::Paused { until }).unwrap();
    assert_eq!(tried(None).await, 0);
}

#[tokio::test]
async fn each_failure_in_a_row_waits_as_long_as_its_number_says() {
    let mut wheel = Wheel::new(&for_names("\"evil.example\"]\nissuer"));
    for failures in 1..=3 {
        let before = clock();
        wheel.asked(&["web"]).await;
        let record = wheel.journal.view().records[&"web".into()].clone();
        let waits = |from| retry_at(failures, from, "web", None);
        assert_eq!(record.consecutive_failures, failures);
        assert!((waits(before)..=waits(clock())).contains(&record.retry_at.unwrap()), "{failures}: {record:?}");
    }
}
