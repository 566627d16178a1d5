//! One renewal over a file store, from where a restart finds it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certd::domain::cert::{Fingerprint, KeyDigest};
use certd::domain::inventory::Sighting;
use certd::domain::key::{KeySpec, PrivateKey};
use certd::domain::name::San;
use certd::domain::plan::{Basis, Managed, Origin, Reason};
use certd::domain::policy::RenewalPolicy;
use certd::domain::renewal::Spec;
use certd::issuer::Issuer;
use certd::issuer::vault_pki::VaultPki;
use certd::journal::Journal;
use certd::journal::event::{Event, Issued, Stage};
use certd::pki;
use certd::pki::roots::Roots;
use certd::renew::{Failure, Fault, Outcome, Renewal};
use certd::store::Store;
use certd::store::file::{FileLayout, FileStore};
use certd::vault::{Settings, TokenFrom, Vault};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::authority::{Authority, NOW};

/// What one renewal works with; its issuer answers nobody.
struct Renewing {
    directory: TempDir,
    journal: Journal,
    authority: Authority,
    managed: Managed,
    old: Vec<u8>,
}

const WEB: &str = "web.example.org";

impl Renewing {
    /// Decided on, and nothing more.
    fn planned(origin: Origin) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        let authority = Authority::new();
        let place = directory.path().join("web.pem");
        let old = authority.certified(WEB);
        let text = pki::pem::certificates(old.ders()) + &pki::key::to_pem(old.key());
        std::fs::write(&place, text).unwrap();
        let old = old.ders()[0].clone();
        Self { managed: managed(&place, origin), directory, journal, authority, old }
    }

    /// A CA has signed, and then certd stopped.
    fn signed(origin: Origin) -> Self {
        let signed = Self::planned(origin);
        signed.begin(&pki::key::generate(KeySpec::EcdsaP256).unwrap());
        signed
    }

    /// It was written too, and then this is found in its place.
    fn written(found: impl FnOnce(String, String) -> String) -> Self {
        let written = Self::signed(Origin::Declared);
        written.store_signed(found);
        written.journal.append(NOW, Some(&written.managed.name), Event::Written { version: None }).unwrap();
        written
    }

    /// A text made of the signed chain and its key.
    fn store_signed(&self, text: impl FnOnce(String, String) -> String) {
        let open = self.journal.in_flight(&self.managed.name).unwrap();
        let Stage::Issued(issued) = open.stage else { panic!("not issued") };
        let key = pki::key::to_pem(&self.journal.keys.load(&self.managed.name).unwrap().unwrap()).to_string();
        std::fs::write(self.place(), text(pki::pem::certificates(&issued.ders), key)).unwrap();
    }

    /// Somebody else stores a certificate of theirs.
    fn put(&self, name: &str) -> Fingerprint {
        let theirs = self.authority.certified(name);
        std::fs::write(self.place(), pki::pem::certificates(theirs.ders()) + &pki::key::to_pem(theirs.key())).unwrap();
        theirs.chain().leaf.fingerprint
    }

    fn place(&self) -> PathBuf {
        self.directory.path().join("web.pem")
    }

    fn key(&self) -> Option<KeyDigest> {
        self.journal.keys.load(&self.managed.name).unwrap().map(|key| key.public)
    }

    fn begin(&self, key: &PrivateKey) {
        let name = &self.managed.name;
        self.journal.keys.save(name, key).unwrap();
        let ders = self.authority.sign(WEB, key);
        for event in [
            Event::Begun {
                reason: Reason::Forced,
                asked: "digest".into(),
                replaces: Some(self.old()),
                key: None,
                names: WEB.into(),
            },
            Event::Asked { issuer: "internal".into(), until: None },
            Event::Issued(Issued { issuer: "internal".into(), ders }),
        ] {
            self.journal.append(NOW, Some(name), event).unwrap();
        }
    }

    fn old(&self) -> Fingerprint {
        Fingerprint(pki::sha256(&self.old))
    }

    fn store(&self, roots: Arc<Roots>) -> Store {
        Store::File(FileStore { layout: FileLayout::Bundle(self.place()), roots })
    }

    async fn run(&self, issuer: &str, roots: Arc<Roots>) -> Result<Outcome, String> {
        self.run_on(self.based_on(), issuer, roots).await.map_err(|failure| failure.message)
    }

    fn based_on(&self) -> Basis {
        Basis { version: None, fingerprint: Some(self.old()) }
    }

    async fn resume(&self) -> Result<Outcome, String> {
        self.run("internal", self.authority.roots()).await
    }

    async fn run_on(&self, based_on: Basis, issuer: &str, roots: Arc<Roots>) -> Result<Outcome, Failure> {
        let settings = Settings {
            name: "main".into(),
            addresses: vec!["http://127.0.0.1:1".parse().unwrap()],
            server_name: None,
            roots: None,
            namespace: None,
            token: TokenFrom::Given(Zeroizing::new("root".into())),
            deadline: Duration::from_secs(1),
        };
        let vault = Arc::new(Vault::new(settings).unwrap());
        let pki = VaultPki::new(vault, "pki", "web");
        let issuers = [(issuer.into(), Arc::new(Issuer::VaultPki { pki, roots: Some(self.authority.roots()) }))];
        let renewal = Renewal {
            managed: &self.managed,
            reason: Reason::Forced,
            based_on,
            replaced: None,
            store: &self.store(roots),
            issuers: &issuers,
            journal: &self.journal,
            now: || NOW,
        };
        renewal.run().await
    }

    async fn found(&self) -> Option<Fingerprint> {
        match self.store(self.authority.roots()).read().await {
            Sighting::Found(found) => Some(found.leaf().fingerprint),
            Sighting::Absent | Sighting::Deleted(_) | Sighting::Crl(_) => None,
            Sighting::Unknown(obstacle) => panic!("{}", obstacle.message),
        }
    }
}

fn managed(place: &Path, origin: Origin) -> Managed {
    Managed {
        name: "web".into(),
        location: FileLayout::Bundle(place.to_path_buf()).location(),
        origin,
        rule: None,
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
    let signed = Renewing::signed(Origin::Declared);
    let Ok(Outcome::Renewed { fingerprint, .. }) = signed.resume().await else { panic!("not renewed") };
    assert_eq!(signed.found().await, Some(fingerprint));
    assert_eq!(signed.journal.in_flight(&"web".into()), None);
}

#[tokio::test]
async fn a_signed_certificate_whose_key_is_lost_is_given_up_with_its_serial_on_record() {
    let signed = Renewing::signed(Origin::Declared);
    signed.journal.keys.forget(&"web".into()).unwrap();
    let message = signed.resume().await.unwrap_err();
    assert!(message.contains("the private key of the renewal in flight is gone"), "{message}");
    assert_eq!(signed.journal.in_flight(&"web".into()), None, "the next attempt begins anew");
    assert_eq!(signed.found().await, Some(signed.old()));
}

#[tokio::test]
async fn a_signed_certificate_whose_issuer_is_no_longer_configured_is_given_up() {
    let signed = Renewing::signed(Origin::Declared);
    let message = signed.run("another", signed.authority.roots()).await.unwrap_err();
    assert!(message.contains("no longer configured"), "{message}");
    assert_eq!(signed.journal.in_flight(&"web".into()), None);
    assert_eq!(signed.found().await, Some(signed.old()));
}

#[tokio::test]
async fn a_place_that_was_deleted_while_the_ca_signed_is_not_recreated_where_a_rule_adopted_it() {
    let signed = Renewing::signed(Origin::Adopted);
    std::fs::remove_file(signed.place()).unwrap();
    let message = signed.resume().await.unwrap_err();
    assert!(message.contains("since the decision was made"), "{message}");
    assert_eq!(signed.found().await, None);
    assert!(signed.journal.in_flight(&"web".into()).is_some(), "it is kept in case it is wanted again");
}

#[tokio::test]
async fn what_a_rule_adopted_is_not_replaced_by_what_the_rules_roots_would_call_foreign() {
    let signed = Renewing::signed(Origin::Adopted);
    let message = signed.run("internal", Authority::new().roots()).await.unwrap_err();
    assert!(message.contains("does not verify to the configured roots"), "{message}");
    assert_eq!(signed.found().await, Some(signed.old()));
}

#[tokio::test]
async fn nothing_is_begun_on_what_changed_since_the_decision() {
    let planned = Renewing::planned(Origin::Declared);
    planned.put(WEB);
    let superseded = Outcome::Superseded { why: "it changed since the decision was made".into() };
    assert_eq!(planned.resume().await, Ok(superseded));
    assert_eq!((planned.key(), planned.journal.in_flight(&"web".into())), (None, None));
}

#[tokio::test]
async fn a_key_goes_on_only_for_the_same_request_and_in_the_place_of_the_same_certificate() {
    let mut planned = Renewing::planned(Origin::Declared);
    let failure = planned.run_on(planned.based_on(), "internal", planned.authority.roots()).await.unwrap_err();
    assert_eq!((failure.fault, failure.issuer), (Fault::Issuer, Some("internal".into())), "its issuer answers nobody");
    let first = planned.key().unwrap();
    planned.resume().await.unwrap_err();
    assert_eq!(planned.key(), Some(first), "the same is asked for again");

    planned.managed.spec.lifetime = Some(Duration::from_secs(3_600));
    planned.resume().await.unwrap_err();
    let second = planned.key().unwrap();
    assert_ne!(second, first, "something else is asked for");

    let theirs = Basis { version: None, fingerprint: Some(planned.put(WEB)) };
    planned.run_on(theirs, "internal", planned.authority.roots()).await.unwrap_err();
    assert_ne!(planned.key(), Some(second), "another certificate is replaced");
}

#[tokio::test]
async fn what_somebody_stored_meanwhile_stays_where_it_ends_no_earlier() {
    let signed = Renewing::signed(Origin::Declared);
    let theirs = signed.put(WEB);
    let why = "a certificate that ends on 2027-01-01T00:00:00Z is there already".to_string();
    assert_eq!(signed.resume().await, Ok(Outcome::Superseded { why }));
    assert_eq!(signed.found().await, Some(theirs));
    assert_eq!((signed.key(), signed.journal.in_flight(&"web".into())), (None, None));
}

#[tokio::test]
async fn what_a_rule_adopted_under_other_names_meanwhile_is_planned_anew() {
    let signed = Renewing::signed(Origin::Adopted);
    let theirs = signed.put("other.example.org");
    let why = "somebody stored a certificate with other names meanwhile".to_string();
    assert_eq!(signed.resume().await, Ok(Outcome::Superseded { why }));
    assert_eq!(signed.found().await, Some(theirs));
}

#[tokio::test]
async fn a_key_that_was_damaged_certifies_nothing() {
    let signed = Renewing::signed(Origin::Declared);
    let keys: Vec<_> = std::fs::read_dir(signed.directory.path().join("pending")).unwrap().collect();
    assert_eq!(keys.len(), 1);
    std::fs::write(keys[0].as_ref().unwrap().path(), "-----BEGIN").unwrap();
    let message = signed.resume().await.unwrap_err();
    assert!(message.contains("the private key of the renewal in flight is gone"), "{message}");
    assert_eq!(signed.journal.in_flight(&"web".into()), None);
}

#[tokio::test]
async fn a_renewal_is_closed_by_its_leaf_with_its_key_and_by_nothing_less() {
    let another = pki::key::to_pem(&pki::key::generate(KeySpec::EcdsaP256).unwrap()).to_string();
    assert!(matches!(Renewing::written(|chain, key| chain + &key).resume().await, Ok(Outcome::Renewed { .. })));
    for written in [Renewing::written(|chain, _| chain), Renewing::written(|chain, _| chain + &another)] {
        let message = written.resume().await.unwrap_err();
        assert!(message.contains("somebody else wrote there after certd did"), "{message}");
        assert_eq!(written.journal.view().records[&"web".into()].last_success, None);
    }
}

#[tokio::test]
async fn what_was_written_and_is_gone_when_read_back_is_written_again() {
    let written = Renewing::written(|chain, key| chain + &key);
    std::fs::remove_file(written.place()).unwrap();
    let message = written.resume().await.unwrap_err();
    assert!(message.contains("is not there when read back"), "{message}");
    let Ok(Outcome::Renewed { fingerprint, .. }) = written.resume().await else { panic!("not renewed") };
    assert_eq!(written.found().await, Some(fingerprint));
}

#[tokio::test]
async fn what_was_written_just_before_a_crash_is_known_as_ours() {
    for origin in [Origin::Declared, Origin::Adopted] {
        let signed = Renewing::signed(origin);
        signed.store_signed(|chain, key| chain + &key);
        let ours = signed.found().await.unwrap();
        let Ok(Outcome::Renewed { fingerprint, .. }) = signed.resume().await else { panic!("not renewed") };
        assert_eq!(fingerprint, ours);
    }
}
