//! A CA in a directory: made once, loaded ever after, and strict about what it signs.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use certd::domain::cert::{Certificate, KeyUsage, Trust};
use certd::domain::key::KeySpec;
use certd::domain::name::San;
use certd::domain::time::Timestamp;
use certd::issuer::local_ca::{LocalCa, LocalCaSettings};
use certd::issuer::{IssuerError, Order};
use certd::pki::{csr, key, pem, read, roots::Roots};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};

/// 2027-01-15T08:00:00Z
const NOW: Timestamp = Timestamp(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn settings(directory: &Path) -> LocalCaSettings {
    LocalCaSettings {
        directory: directory.to_path_buf(),
        create: true,
        common_name: "certd test CA".into(),
        lifetime: YEAR,
        leaf_lifetime: DAY,
        permitted_names: Vec::new(),
    }
}

fn open(directory: &Path) -> LocalCa {
    LocalCa::open(settings(directory), NOW, &[]).unwrap()
}

fn stopped(settings: LocalCaSettings, known: &[&Certificate]) -> String {
    match LocalCa::open(settings, NOW, known) {
        Err(IssuerError::Stopped(message)) => message,
        other => panic!("should have stopped: {other:?}"),
    }
}

fn order(names: &[&str]) -> Order {
    let names: Vec<San> = names.iter().map(|name| San::from_text(name)).collect();
    let key = key::generate(KeySpec::EcdsaP256).unwrap();
    let csr = csr::make(&key, &names, None).unwrap();
    Order { csr, names, common_name: None, lifetime: None, replaces: None, now: NOW }
}

async fn signed(ca: &LocalCa, order: &Order) -> Certificate {
    let ders = ca.sign(order).await.unwrap();
    assert_eq!(ders.len(), 1, "a root stands for itself");
    assert_eq!(Roots::from_ders(ca.anchors()).judge(&ders).unwrap().trust, Trust::Verified);
    read::certificate(&ders[0]).unwrap()
}

fn refusal(result: Result<Vec<Vec<u8>>, IssuerError>) -> String {
    match result {
        Err(IssuerError::Refused { message, .. }) => message,
        other => panic!("should have been refused: {other:?}"),
    }
}

#[test]
fn a_ca_is_made_only_when_that_is_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("ca");
    let message = stopped(LocalCaSettings { create: false, ..settings(&directory) }, &[]);
    assert!(message.contains("create = true"), "{message}");
    assert!(!directory.exists());

    let ca = open(&directory);
    let certificate = read::certificate(&ca.anchors()[0]).unwrap();
    assert_eq!(certificate.subject, "CN=certd test CA");
    assert_eq!(certificate.issuer, certificate.subject);
    assert!(certificate.is_ca);
    assert_eq!(certificate.not_before, NOW.minus(Duration::from_secs(60)));
    assert_eq!((certificate.not_after, ca.not_after()), (NOW.plus(YEAR), NOW.plus(YEAR)));
    assert_eq!(certificate.key_usage, Some(KeyUsage(1 << 5 | 1 << 6)), "keyCertSign and cRLSign");
    assert!(certificate.subject_key_id.is_some());
    let ca_der = &ca.anchors()[0];
    let (_, parsed) = x509_parser::parse_x509_certificate(ca_der).unwrap();
    let constraints = parsed.basic_constraints().unwrap().unwrap().value;
    assert_eq!((constraints.ca, constraints.path_len_constraint), (true, Some(0)));
    assert_eq!(mode(&directory.join("ca.key")), 0o600);
    assert_eq!(mode(&directory), 0o700);
    let mut files: Vec<_> = directory.read_dir().unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["ca.key", "ca.pem"], "no draft is left");
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_restart_loads_the_same_ca() {
    let home = tempfile::tempdir().unwrap();
    let first = open(home.path());
    let later = NOW.plus(DAY);
    for create in [true, false] {
        let again = LocalCa::open(LocalCaSettings { create, ..settings(home.path()) }, later, &[]).unwrap();
        assert_eq!(again.anchors(), first.anchors());
        assert_eq!(again.not_after(), first.not_after());
    }
}

#[test]
fn a_crash_between_key_and_certificate_is_gone_on_from_with_the_same_key() {
    let home = tempfile::tempdir().unwrap();
    open(home.path());
    let key = std::fs::read(home.path().join("ca.key")).unwrap();
    std::fs::remove_file(home.path().join("ca.pem")).unwrap();
    std::fs::write(home.path().join("ca.pem.draft"), "half a certi").unwrap();
    open(home.path());
    assert_eq!(std::fs::read(home.path().join("ca.key")).unwrap(), key);
    assert!(!home.path().join("ca.pem.draft").exists());
}

#[test]
fn a_lost_key_stops() {
    let home = tempfile::tempdir().unwrap();
    open(home.path());
    std::fs::remove_file(home.path().join("ca.key")).unwrap();
    let message = stopped(settings(home.path()), &[]);
    assert!(message.starts_with("a half of the CA is lost") && message.contains("ca.key"), "{message}");
    assert!(!home.path().join("ca.key").exists(), "no new key was made");
}

#[tokio::test]
async fn a_lost_ca_that_stored_certificates_name_is_not_made_anew() {
    let home = tempfile::tempdir().unwrap();
    let leaf = signed(&open(home.path()), &order(&["a.example.org"])).await;
    std::fs::remove_file(home.path().join("ca.pem")).unwrap();
    let message = stopped(settings(home.path()), &[&leaf]);
    assert!(message.starts_with("the CA of certd test CA is lost") && message.contains(&leaf.serial), "{message}");
    std::fs::remove_file(home.path().join("ca.key")).unwrap();
    stopped(settings(home.path()), &[&leaf]);
    assert!(!home.path().join("ca.key").exists());

    let other = LocalCaSettings { common_name: "certd CA 2".into(), ..settings(home.path()) };
    assert!(LocalCa::open(other, NOW, &[&leaf]).is_ok(), "another name starts anew");
}

#[test]
fn a_key_of_another_ca_stops() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    open(one.path());
    open(two.path());
    std::fs::copy(two.path().join("ca.key"), one.path().join("ca.key")).unwrap();
    let message = stopped(settings(one.path()), &[]);
    assert!(message.starts_with("ca.key belongs to another certificate"), "{message}");
}

#[test]
fn a_key_that_others_may_read_stops() {
    for open_to in [0o640, 0o604, 0o620] {
        let home = tempfile::tempdir().unwrap();
        open(home.path());
        let key = home.path().join("ca.key");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(open_to)).unwrap();
        let message = stopped(settings(home.path()), &[]);
        assert!(message.contains(&format!("chmod 600 {}", key.display())), "{message}");
    }
}

#[test]
fn files_that_are_no_ca_stop_and_are_named() {
    let home = tempfile::tempdir().unwrap();
    open(home.path());
    let certificate = home.path().join("ca.pem");
    let key = KeyPair::from_pem(&std::fs::read_to_string(home.path().join("ca.key")).unwrap()).unwrap();
    let leaf = CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(&key).unwrap();
    let no_ca = [("", "not a certificate in PEM"), (&leaf.pem(), "not the certificate of a CA")];
    for (content, what) in no_ca {
        std::fs::write(&certificate, content).unwrap();
        let message = stopped(settings(home.path()), &[]);
        assert!(message.starts_with(what) && message.contains("ca.pem"), "{message}");
    }
    std::fs::write(home.path().join("ca.key"), "no key").unwrap();
    let message = stopped(settings(home.path()), &[]);
    assert!(message.contains("ca.key") && !message.contains("no key"), "{message}");
    std::fs::write(home.path().join("ca.key"), vec![b'x'; 70_000]).unwrap();
    assert!(stopped(settings(home.path()), &[]).contains("it has more than 65536 bytes"));
}

#[tokio::test]
async fn a_leaf_is_what_the_order_says_to_the_second() {
    let home = tempfile::tempdir().unwrap();
    let ca = open(home.path());
    let order = Order {
        common_name: Some("a.example.org".into()),
        lifetime: Some(6 * HOUR),
        ..order(&["a.example.org", "*.b.example.org", "10.0.0.1", "::1", "a@example.org", "spiffe://example.org/a"])
    };
    let leaf = signed(&ca, &order).await;
    let root = read::certificate(&ca.anchors()[0]).unwrap();
    assert_eq!(leaf.names, order.names);
    assert_eq!(leaf.subject, "CN=a.example.org");
    assert_eq!(leaf.issuer, "CN=certd test CA");
    assert_eq!((leaf.not_before, leaf.not_after), (NOW.minus(Duration::from_secs(60)), NOW.plus(6 * HOUR)));
    assert_eq!(leaf.key_usage, Some(KeyUsage(KeyUsage::DIGITAL_SIGNATURE)));
    assert_eq!(leaf.extended_key_usage, Some(vec!["serverAuth".to_string(), "clientAuth".to_string()]));
    assert_eq!(leaf.authority_key_id, root.subject_key_id);
    assert!(leaf.subject_key_id.is_some() && leaf.subject_key_id != root.subject_key_id);
}

#[tokio::test]
async fn without_a_common_name_the_subject_is_empty_and_the_lifetime_is_the_cas_choice() {
    let home = tempfile::tempdir().unwrap();
    let leaf = signed(&open(home.path()), &order(&["a.example.org"])).await;
    assert_eq!((leaf.subject.as_str(), leaf.subject_cn), ("", None));
    assert_eq!(leaf.not_after, NOW.plus(DAY));
}

#[tokio::test]
async fn a_csr_that_asks_to_be_a_ca_gets_a_leaf_with_the_ordered_names() {
    let home = tempfile::tempdir().unwrap();
    let mut greedy = CertificateParams::new(vec!["evil.example.com".into()]).unwrap();
    greedy.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    let key = KeyPair::generate().unwrap();
    let csr = greedy.serialize_request(&key).unwrap().der().to_vec();
    let leaf = signed(&open(home.path()), &Order { csr, ..order(&["a.example.org"]) }).await;
    assert!(!leaf.is_ca);
    assert_eq!(leaf.names, [San::from_text("a.example.org")]);
    assert_eq!(leaf.subject, "");
    assert_eq!(leaf.key_usage, Some(KeyUsage(KeyUsage::DIGITAL_SIGNATURE)));
    assert_eq!(leaf.extended_key_usage, Some(vec!["serverAuth".to_string(), "clientAuth".to_string()]));
}

#[tokio::test]
async fn a_csr_must_prove_that_its_key_is_held() {
    let home = tempfile::tempdir().unwrap();
    let ca = open(home.path());
    let good = order(&["a.example.org"]);
    let mut forged = good.csr.clone();
    *forged.last_mut().unwrap() ^= 1;
    let message = refusal(ca.sign(&Order { csr: forged, ..good.clone() }).await);
    assert_eq!(message, "the CSR is not signed by the key that it names");
    let longer = [good.csr.as_slice(), b"x"].concat();
    assert_eq!(refusal(ca.sign(&Order { csr: longer, ..good.clone() }).await), "there are bytes after the CSR");
    assert_eq!(refusal(ca.sign(&Order { csr: b"csr".to_vec(), ..good }).await), "the CSR is not PKCS#10");
}

#[tokio::test]
async fn names_that_cannot_be_certified_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let ca = open(home.path());
    let good = order(&["a.example.org"]);
    for name in ["", "a b", "a..b", "*", "a.*.org", "münchen.example", &"a".repeat(64), "a.example\0.org"] {
        let names = vec![San::Dns(name.to_string())];
        let message = refusal(ca.sign(&Order { names, ..good.clone() }).await);
        assert!(message.starts_with("not a name for a certificate"), "{message}");
    }
    let none = Order { names: Vec::new(), ..good.clone() };
    assert_eq!(refusal(ca.sign(&none).await), "no name was asked for");
    for common_name in ["b.example.org".to_string(), "a".repeat(65)] {
        let named = Order { common_name: Some(common_name), ..good.clone() };
        assert!(refusal(ca.sign(&named).await).starts_with("the common name must be one of the names"));
    }
}

#[tokio::test]
async fn a_name_outside_permitted_names_is_refused_before_signing() {
    let home = tempfile::tempdir().unwrap();
    let permitted_names = vec!["example.org".to_string(), "10.0.0.0/8".to_string()];
    let ca = LocalCa::open(LocalCaSettings { permitted_names, ..settings(home.path()) }, NOW, &[]).unwrap();
    signed(&ca, &order(&["example.org", "*.a.example.org", "10.9.8.7"])).await;
    for name in ["example.com", "evilexample.org", "11.0.0.1", "::1", "a@example.org"] {
        let message = refusal(ca.sign(&order(&["a.example.org", name])).await);
        assert_eq!(message, format!("permitted_names has no place for {name}"));
    }
}

#[tokio::test]
async fn serials_of_a_thousand_certificates_are_distinct_and_128_bits_of_chance() {
    let home = tempfile::tempdir().unwrap();
    let ca = open(home.path());
    let order = order(&["a.example.org"]);
    let mut serials = HashSet::new();
    let (mut ever_set, mut ever_clear) = (0_u128, 0_u128);
    for _ in 0..1_000 {
        let serial = signed(&ca, &order).await.serial;
        let number = u128::from_str_radix(&serial, 16).expect("a serial fits 128 bits");
        assert_ne!(number, 0);
        ever_set |= number;
        ever_clear |= !number;
        serials.insert(number);
    }
    assert_eq!(serials.len(), 1_000);
    assert_eq!((ever_set, ever_clear), (u128::MAX, u128::MAX), "each bit was drawn");
}

#[tokio::test]
async fn no_leaf_outlives_the_ca_and_one_that_would_get_under_half_is_not_made() {
    let home = tempfile::tempdir().unwrap();
    let ca = open(home.path());
    let good = order(&["a.example.org"]);
    let end = ca.not_after();
    let at = |now: Timestamp, lifetime: Duration| Order { now, lifetime: Some(lifetime), ..good.clone() };
    for (left, not_after) in [(DAY + HOUR, end.minus(HOUR)), (DAY, end), (18 * HOUR, end), (12 * HOUR, end)] {
        assert_eq!(signed(&ca, &at(end.minus(left), DAY)).await.not_after, not_after, "{left:?} left");
    }
    let before = NOW.minus(Duration::from_secs(60));
    assert_eq!(signed(&ca, &at(before, DAY)).await.not_before, before, "never before the CA");
    let just_under = 12 * HOUR - Duration::from_secs(1);
    for now in [end.minus(just_under), end, end.plus(HOUR), before.minus(Duration::from_secs(1))] {
        let result = ca.sign(&at(now, DAY)).await;
        assert!(matches!(result, Err(IssuerError::Stopped(_))), "at {now}: {result:?}");
    }
    assert_eq!(refusal(ca.sign(&at(NOW, Duration::ZERO)).await), "a lifetime of nothing was asked for");
}

#[tokio::test]
async fn all_six_kinds_of_key_are_certified_as_they_are() {
    let home = tempfile::tempdir().unwrap();
    let ca = open(home.path());
    let names = vec![San::from_text("a.example.org")];
    for spec in
        [KeySpec::EcdsaP256, KeySpec::EcdsaP384, KeySpec::Rsa2048, KeySpec::Rsa3072, KeySpec::Rsa4096, KeySpec::Ed25519]
    {
        let key = key::generate(spec).unwrap();
        let csr = csr::make(&key, &names, None).unwrap();
        let order = Order { csr, names: names.clone(), common_name: None, lifetime: None, replaces: None, now: NOW };
        let leaf = signed(&ca, &order).await;
        assert_eq!((leaf.public_key, &leaf.key), (key.public, &spec.key_type()));
        let rsa = matches!(spec, KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096);
        assert_eq!(leaf.key_usage, Some(KeyUsage(if rsa { 0b101 } else { 0b001 })), "{spec:?}");
    }
}

#[tokio::test]
async fn an_intermediate_that_an_operator_put_there_is_sent_along() {
    let home = tempfile::tempdir().unwrap();
    let root = open(&home.path().join("root"));
    let key = rcgen::Issuer::from_ca_cert_der(
        &root.anchors()[0].as_slice().into(),
        KeyPair::from_pem(&std::fs::read_to_string(home.path().join("root/ca.key")).unwrap()).unwrap(),
    );
    let ours = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_before = time::OffsetDateTime::from_unix_timestamp(NOW.0).unwrap();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "Example");
    let intermediate = params.signed_by(&ours, &key.unwrap()).unwrap();
    let directory = home.path().join("ours");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("ca.pem"), intermediate.pem()).unwrap();
    std::fs::write(directory.join("ca.key"), ours.serialize_pem()).unwrap();
    std::fs::set_permissions(directory.join("ca.key"), std::fs::Permissions::from_mode(0o600)).unwrap();

    let ders = open(&directory).sign(&order(&["a.example.org"])).await.unwrap();
    assert_eq!(ders[1..], [intermediate.der().to_vec()]);
}

#[tokio::test]
async fn openssl_accepts_what_it_signs_within_the_constraints_and_no_more() {
    let home = tempfile::tempdir().unwrap();
    let now = Timestamp(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs().try_into().unwrap());
    let permitted_names = vec!["example.org".to_string(), "10.1.2.3/8".to_string()];
    let bound = LocalCaSettings { permitted_names, ..settings(&home.path().join("bound")) };
    let ca = LocalCa::open(bound, now, &[]).unwrap();
    let leaf = |names: &[&str]| Order { now, ..order(names) };
    assert_eq!(openssl(&home, &ca, &leaf(&["example.org", "*.example.org", "10.9.9.9"])).await, "");

    // The same key without certd's own refusal in the way: the constraints alone must hold.
    let unbound = LocalCa::open(settings(&home.path().join("bound")), now, &[]).unwrap();
    for name in ["example.com", "192.0.2.1", "::1"] {
        let errors = openssl(&home, &unbound, &leaf(&[name])).await;
        assert!(errors.contains("subtree violation"), "{name}: {errors}");
    }
    let free = LocalCa::open(settings(&home.path().join("free")), now, &[]).unwrap();
    assert_eq!(openssl(&home, &free, &leaf(&["example.com", "::1", "a@b.example"])).await, "");
}

/// What `openssl verify` has against a leaf; empty when it accepts it.
async fn openssl(home: &tempfile::TempDir, ca: &LocalCa, order: &Order) -> String {
    let (root, leaf) = (home.path().join("root.pem"), home.path().join("leaf.pem"));
    std::fs::write(&root, pem::certificates(&ca.anchors())).unwrap();
    std::fs::write(&leaf, pem::certificates(&ca.sign(order).await.unwrap())).unwrap();
    let output = Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"])
        .args([&root, &leaf])
        .output()
        .expect("this test needs the openssl command: apt-get install openssl");
    if output.status.success() { String::new() } else { String::from_utf8_lossy(&output.stderr).into_owned() }
}
