//! PKCS#12 files and Java keystores as `openssl` and `keytool` make them: opened, written back with another key and chain, and
//! read by those tools again. Damaged ones are refused, whatever is in them.

mod support;

use std::path::Path;
use std::sync::LazyLock;

use certd::domain::cert::Trust;
use certd::domain::key::KeySpec;
use certd::domain::name::San;
use certd::domain::plan::Reason;
use certd::domain::policy::RenewalPolicy;
use certd::domain::renewal::{CertifiedKey, Request, Signed, Spec};
use certd::domain::time::Timestamp;
use certd::pki::bundle::Bundle;
use certd::pki::keystore::effort::Effort;
use certd::pki::keystore::{Keystore, Kind, Password, Passwords};
use certd::pki::{key, pem};
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use support::tools::{keytool, openssl_bytes, openssl_says};

type Ca = CertifiedIssuer<'static, KeyPair>;

const PASSWORD: &str = "päß wörd";
/// For `keytool`, which takes other letters as the locale of the host has them.
const CHANGEIT: &str = "changeit";

const NOW: Timestamp = Timestamp(1_767_225_600);

fn params(name: &str, ca: bool) -> CertificateParams {
    let mut params = CertificateParams::new(vec![format!("{name}.example.org")]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (date_time_ymd(2025, 12, 31), date_time_ymd(2040, 1, 1));
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

/// A root, a CA below it, and another root.
static CAS: LazyLock<[Ca; 3]> = LazyLock::new(|| {
    let root = |name| CertifiedIssuer::self_signed(params(name, true), KeyPair::generate().unwrap()).unwrap();
    let top = root("root");
    let inner = CertifiedIssuer::signed_by(params("inner", true), KeyPair::generate().unwrap(), &top).unwrap();
    [top, inner, root("stranger")]
});

/// Signed by the inner CA.
fn certified() -> CertifiedKey {
    let pair = KeyPair::generate().unwrap();
    let leaf = params("web", false).signed_by(&pair, &CAS[1]).unwrap();
    let ders = vec![leaf.der().to_vec(), CAS[1].der().to_vec()];
    let chain = Bundle::parse(pem::certificates(&ders).as_bytes()).unwrap().chains().unwrap().remove(0).chain;
    let spec = Spec {
        names: vec![San::from_text("web.example.org")],
        common_name: None,
        key: KeySpec::EcdsaP256,
        lifetime: None,
        renewal: RenewalPolicy::default(),
    };
    let key = key::from_der(&pair.serialize_der()).unwrap();
    let request = Request {
        certificate: "web".into(),
        spec,
        key,
        reason: Reason::Forced,
        replaces: None,
        lifetime_is_given: false,
        is_served: false,
    };
    request.accept(NOW, Signed { chain, ders, trust: Trust::NotJudged }).unwrap()
}

/// A folder for the files that tools want.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        std::fs::write(self.0.path().join(name), bytes).unwrap();
        self.path(name)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_string()
    }

    /// By `openssl pkcs12 -export`: the leaf, the inner CA and the root, under the alias `web`.
    fn p12(&self, certified: &CertifiedKey, options: &[&str]) -> Vec<u8> {
        self.p12_with(PASSWORD, certified, options)
    }

    fn p12_with(&self, password: &str, certified: &CertifiedKey, options: &[&str]) -> Vec<u8> {
        let all = key::to_pem(certified.key()).to_string() + &pem::certificates(certified.ders()) + &CAS[0].pem();
        let file = self.file("all.pem", all);
        let password = format!("pass:{password}");
        let usual = ["pkcs12", "-export", "-in", &file, "-name", "web", "-passout", &password];
        openssl_bytes(&[&usual[..], options].concat(), b"")
    }

    /// By `keytool`, with a stranger that is trusted beside it.
    fn java(&self, certified: &CertifiedKey, kind: &str, key_password: &str) -> Vec<u8> {
        let from = self.file("from.p12", self.p12_with(CHANGEIT, certified, &[]));
        let to = self.path(&format!("to.{kind}"));
        let _ = std::fs::remove_file(&to);
        keytool(&[
            "-importkeystore",
            "-noprompt",
            "-srckeystore",
            &from,
            "-srcstorepass",
            CHANGEIT,
            "-srcalias",
            "web",
            "-destkeystore",
            &to,
            "-deststoretype",
            kind,
            "-deststorepass",
            CHANGEIT,
            "-destkeypass",
            key_password,
        ]);
        let stranger = self.file("stranger.pem", CAS[2].pem());
        keytool(&[
            "-importcert",
            "-noprompt",
            "-keystore",
            &to,
            "-storepass",
            CHANGEIT,
            "-alias",
            "stranger",
            "-file",
            &stranger,
        ]);
        std::fs::read(&to).unwrap()
    }
}

fn password(text: &str) -> Password {
    Password(text.to_string().into())
}

fn open(bytes: &[u8], store: &str) -> Result<Keystore, String> {
    Keystore::open(bytes, &Passwords { store: password(store), key: None }, &mut Effort::default())
        .map_err(|why| why.to_string())
}

#[track_caller]
fn holds(keystore: &Keystore, certified: &CertifiedKey) {
    let kept = keystore.kept().unwrap();
    assert_eq!(kept.ders[..2], certified.ders()[..]);
    assert_eq!(kept.ders[2], CAS[0].der().to_vec());
    assert_eq!(kept.ders.len(), 3);
    assert_eq!(kept.key_digest(), Some(certified.key().public));
}

/// What `openssl` says of the algorithms, and of the bags with their attributes.
fn anatomy(bytes: &[u8], provider: &[&str]) -> (String, String) {
    let password = format!("pass:{PASSWORD}");
    let algorithms = ["pkcs12", "-info", "-noout", "-passin", &password];
    let bags = ["pkcs12", "-nodes", "-passin", &password];
    let bags = openssl_bytes(&[&bags[..], provider].concat(), bytes);
    let bags = String::from_utf8(bags).unwrap();
    let bags: Vec<&str> = bags.lines().filter(|line| !line.starts_with("localKeyID") && !is_base64(line)).collect();
    (openssl_says(&[&algorithms[..], provider].concat(), bytes), bags.join("\n"))
}

fn is_base64(line: &str) -> bool {
    !line.is_empty() && !line.contains(['-', ':', ' ', '<']) && line.len() > 1
}

#[test]
fn pkcs12_is_written_back_with_the_algorithms_the_attributes_and_the_order_that_it_had() {
    let desk = Desk::new();
    let legacy: &[&str] = &["-legacy"];
    for (options, provider) in [
        (&[][..], &[][..]),
        (&["-iter", "10000", "-macalg", "sha512"], &[]),
        (&["-keypbe", "AES-128-CBC", "-certpbe", "AES-192-CBC"], &[]),
        (&["-certpbe", "NONE"], &[]),
        (&["-keypbe", "NONE", "-certpbe", "NONE"], &[]),
        (&["-caname", "first", "-caname", "second", "-CSP", "Microsoft Software Key Storage Provider", "-LMK"], &[]),
        (&["-legacy"], legacy),
        (&["-descert", "-legacy", "-noiter"], legacy),
        (&["-legacy", "-certpbe", "PBE-SHA1-RC2-128", "-keypbe", "PBE-SHA1-RC2-40", "-macalg", "sha1"], legacy),
    ] {
        let (old, new) = (certified(), certified());
        let was = desk.p12(&old, options);
        assert_eq!(Kind::of(&was), Some(Kind::Pkcs12));
        let keystore = open(&was, PASSWORD).unwrap_or_else(|why| panic!("{options:?}: {why}"));
        holds(&keystore, &old);
        keystore.insist_writable().unwrap();
        let now = keystore.renewed(&new).unwrap();
        holds(&open(&now, PASSWORD).unwrap(), &new);
        assert_eq!(anatomy(&now, provider), anatomy(&was, provider), "{options:?}");
        assert_ne!(open(&now, "another").err(), None);
    }
}

#[test]
fn keytool_reads_what_certd_wrote_of_either_kind_with_the_trusted_certificate_beside_it() {
    let desk = Desk::new();
    for kind in ["JKS", "PKCS12"] {
        let (old, new) = (certified(), certified());
        let was = desk.java(&old, kind, CHANGEIT);
        let keystore = open(&was, CHANGEIT).unwrap();
        holds(&keystore, &old);
        let now = keystore.renewed(&new).unwrap();
        holds(&open(&now, CHANGEIT).unwrap(), &new);
        let file = desk.file("now", &now);
        let list = keytool(&["-list", "-v", "-keystore", &file, "-storetype", kind, "-storepass", CHANGEIT]);
        for said in [
            &format!("Keystore type: {kind}")[..],
            "Your keystore contains 2 entries",
            "Alias name: web",
            "Entry type: PrivateKeyEntry",
            "Certificate chain length: 3",
            "Alias name: stranger",
            "Entry type: trustedCertEntry",
        ] {
            assert!(list.contains(said), "{kind}: {said}\n{list}");
        }
        // It signs with the key, so the key is there and opens.
        keytool(&["-certreq", "-keystore", &file, "-storetype", kind, "-storepass", CHANGEIT, "-alias", "web"]);
    }
}

#[test]
fn a_key_may_have_a_password_of_its_own_in_a_jks() {
    let desk = Desk::new();
    let (old, new) = (certified(), certified());
    let was = desk.java(&old, "JKS", "another-one");
    assert_eq!(open(&was, CHANGEIT).unwrap_err(), "the password of its key is another one");
    let both = Passwords { store: password(CHANGEIT), key: Some(password("another-one")) };
    let now = Keystore::open(&was, &both, &mut Effort::default()).unwrap().renewed(&new).unwrap();
    holds(&Keystore::open(&now, &both, &mut Effort::default()).unwrap(), &new);
    let file = desk.file("now.jks", now);
    let with = ["-keystore", &file, "-storepass", CHANGEIT, "-keypass", "another-one", "-alias", "web"];
    keytool(&[&["-certreq"], &with[..]].concat());
}

#[test]
fn a_truststore_holds_no_key_and_only_says_whom_to_trust() {
    let desk = Desk::new();
    let stranger = desk.file("stranger.pem", CAS[2].pem());
    for kind in ["JKS", "PKCS12"] {
        let path = desk.path(kind);
        keytool(&[
            "-importcert",
            "-noprompt",
            "-keystore",
            &path,
            "-storetype",
            kind,
            "-storepass",
            CHANGEIT,
            "-alias",
            "s",
            "-file",
            &stranger,
        ]);
        let store = open(&std::fs::read(&path).unwrap(), CHANGEIT).unwrap();
        assert!(!store.has_key());
        assert_eq!(store.bundle().certificates, [CAS[2].der().to_vec()], "{kind}");
        assert!(store.renewed(&certified()).is_err());
    }
}

#[test]
fn what_cannot_be_written_back_is_refused_with_the_reason() {
    let desk = Desk::new();
    let two = |kind: &str| {
        let path = desk.path(&format!("two.{kind}"));
        for alias in ["one", "two"] {
            keytool(&[
                "-genkeypair",
                "-keyalg",
                "EC",
                "-keystore",
                &path,
                "-storetype",
                kind,
                "-storepass",
                CHANGEIT,
                "-keypass",
                CHANGEIT,
                "-alias",
                alias,
                "-dname",
                "CN=x",
            ]);
        }
        std::fs::read(Path::new(&path)).unwrap()
    };
    for kind in ["JKS", "PKCS12"] {
        let why = open(&two(kind), CHANGEIT).unwrap_err();
        assert_eq!(why, "it holds 2 private keys (`one`, `two`): give each a keystore of its own");
    }
    let certified = certified();
    for bytes in [desk.p12(&certified, &[]), desk.java(&certified, "JKS", CHANGEIT)] {
        assert_eq!(open(&bytes, "wrong").unwrap_err(), "its password does not open it, or it is damaged");
    }
    let why = open(&desk.p12(&certified, &["-nomac"]), PASSWORD).unwrap_err();
    assert!(why.starts_with("it has no MAC"), "{why}");
    let p12 = desk.p12(&certified, &[]);
    let sha256 = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
    let last = (0..p12.len() - sha256.len()).rev().find(|at| p12[*at..].starts_with(&sha256)).unwrap();
    let mut strange = p12.clone();
    strange[last + 8] = 0x63;
    let why = open(&strange, PASSWORD).unwrap_err();
    assert!(why.starts_with("its MAC is of an unknown kind, which certd does not read: make it anew"), "{why}");
    // Of no fixed length, as BER may be (X.690, section 8.1.3.6).
    let ber = [&[0x30, 0x80], &p12[4..], &[0, 0]].concat();
    assert_eq!(Kind::of(&ber), Some(Kind::Pkcs12));
    assert_eq!(open(&ber, PASSWORD).unwrap_err(), "it is damaged, or in a form that certd does not read");
    let jceks = desk.java(&certified, "JCEKS", CHANGEIT);
    assert!(open(&jceks, CHANGEIT).unwrap_err().contains("keytool -importkeystore"));
    assert_eq!(open(&vec![0x30; (1 << 20) + 1], "").unwrap_err(), "a keystore of over 1048576 bytes");
}

/// The numbers that make a password slow are written by whoever wrote the file, under no key.
#[test]
fn iteration_counts_are_bounded_before_any_work_is_done() {
    let bytes = Desk::new().p12(&certified(), &["-iter", "50000"]);
    // 50,000 as an INTEGER, with which the file ends.
    let before = bytes.strip_suffix(&[2, 3, 0, 0xc3, 0x50]).unwrap();
    let with = |count: [u8; 5]| open(&[before, &count].concat(), PASSWORD).unwrap_err();
    let refused = "its iteration counts are 0, or over 2000000 together, which certd refuses as an attack";
    assert_eq!(with([2, 3, 0x7f, 0xff, 0xff]), refused);
    assert_eq!(with([2, 3, 0x1e, 0x84, 0x81]), refused, "2,000,001");
    assert_eq!(with([2, 3, 0, 0xc3, 0x51]), "its password does not open it, or it is damaged", "work was done");
    assert!(with([2, 3, 0xff, 0xff, 0xff]).starts_with("it is damaged"), "less than nothing");
    // Each of its three parts is below the bound.
    let bytes = Desk::new().p12(&certified(), &["-iter", "700000"]);
    assert_eq!(open(&bytes, PASSWORD).unwrap_err(), refused);
}

/// One of each kind, with the password that opens it.
static SAMPLES: LazyLock<Vec<(Vec<u8>, &'static str)>> = LazyLock::new(|| {
    let (desk, certified) = (Desk::new(), certified());
    vec![
        (desk.p12(&certified, &[]), PASSWORD),
        (desk.p12(&certified, &["-keypbe", "NONE", "-certpbe", "NONE"]), PASSWORD),
        (desk.p12(&certified, &["-legacy"]), PASSWORD),
        (desk.java(&certified, "PKCS12", CHANGEIT), CHANGEIT),
        (desk.java(&certified, "JKS", CHANGEIT), CHANGEIT),
    ]
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A damaged file that opens all the same holds what it held; none panics or is waited for.
    #[test]
    fn a_damaged_keystore_is_refused_and_never_a_panic(
        which in 0_usize..5,
        cut in any::<prop::sample::Index>(),
        shorten in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let (bytes, password) = &SAMPLES[which];
        let mut bytes = bytes.clone();
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if shorten {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(keystore) = open(&bytes, password) {
            let _ = keystore.kept();
            let _ = keystore.insist_writable();
        }
    }

    /// The same with a MAC or a digest that fits, as only a writer with the password can make it.
    #[test]
    fn a_jks_that_says_what_is_not_there_is_refused(at in any::<prop::sample::Index>(), bytes in any::<[u8; 4]>()) {
        let (sample, password) = &SAMPLES[4];
        let mut sample = sample[..sample.len() - 20].to_vec();
        let at = at.index(sample.len() - 4);
        sample[at..at + 4].copy_from_slice(&bytes);
        let sample = signed_as_java_does(sample, password);
        if let Ok(keystore) = open(&sample, password) {
            let _ = keystore.kept();
        }
    }
}

/// With the SHA-1 over password, whitener and content behind it.
fn signed_as_java_does(mut content: Vec<u8>, password: &str) -> Vec<u8> {
    let mut signed: Vec<u8> = password.encode_utf16().flat_map(u16::to_be_bytes).collect();
    signed.extend_from_slice(b"Mighty Aphrodite");
    signed.extend_from_slice(&content);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &signed);
    content.extend_from_slice(digest.as_ref());
    content
}

#[test]
fn a_jks_with_a_digest_that_fits_opens_so_the_damage_above_is_seen() {
    let (sample, password) = &SAMPLES[4];
    assert_eq!(&signed_as_java_does(sample[..sample.len() - 20].to_vec(), password), sample);
    assert!(open(sample, password).is_ok());
}
