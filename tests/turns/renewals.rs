//! One renewal over a file store, from where a restart finds it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use certd::domain::inventory::Sighting;
use certd::domain::key::{KeySpec, PrivateKey};
use certd::domain::name::San;
use certd::domain::plan::{Basis, Managed, Origin, Reason};
use certd::domain::policy::RenewalPolicy;
use certd::domain::renewal::Spec;
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
use zeroize::Zeroizing;

use crate::authority::{Authority, NOW};

/// A renewal whose CA has signed already.
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
