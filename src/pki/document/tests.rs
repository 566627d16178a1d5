//! A renewal replaces its own blocks and no other byte.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

use super::*;
use crate::domain::cert::Trust;
use crate::domain::key::{KeySpec, PrivateKey};
use crate::domain::name::San;
use crate::domain::plan::Reason;
use crate::domain::policy::RenewalPolicy;
use crate::domain::renewal::{CertifiedKey, Request, Signed, Spec};
use crate::domain::time::Timestamp;
use crate::pki::bundle::Bundle;
use crate::pki::pem;

type Ca = CertifiedIssuer<'static, KeyPair>;

/// 2026-01-01, when every certificate here is fresh.
const NOW: Timestamp = Timestamp(1_767_225_600);

fn params(name: &str, is_ca: bool) -> CertificateParams {
    let mut params = CertificateParams::new(vec![format!("{name}.example.org")]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (date_time_ymd(2025, 12, 31), date_time_ymd(2027, 1, 1));
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

fn root(name: &str) -> Ca {
    CertifiedIssuer::self_signed(params(name, true), KeyPair::generate().unwrap()).unwrap()
}

fn below(name: &str, above: &Ca) -> Ca {
    CertifiedIssuer::signed_by(params(name, true), KeyPair::generate().unwrap(), above).unwrap()
}

/// `signers` from the one that signs the leaf upwards, without the root.
fn certified(by: &Ca, signers: &[&Ca]) -> CertifiedKey {
    let pair = KeyPair::generate().unwrap();
    let key = key::from_der(&pair.serialize_der()).unwrap();
    let leaf = params("web", false).signed_by(&pair, by).unwrap();
    let above = signers.iter().map(|ca| ca.der().to_vec());
    let ders: Vec<Vec<u8>> = std::iter::once(leaf.der().to_vec()).chain(above).collect();
    let bundle = Bundle { certificates: ders.clone(), ..Bundle::default() };
    let chain = bundle.chains().unwrap().remove(0).chain;
    let spec = Spec {
        names: vec![San::from_text("web.example.org")],
        common_name: None,
        key: KeySpec::EcdsaP256,
        lifetime: None,
        renewal: RenewalPolicy::default(),
    };
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

fn certificate(of: &CertifiedKey, nth: usize) -> String {
    pem::certificates(&of.ders()[nth..=nth])
}

fn private(of: &CertifiedKey, form: KeyForm) -> String {
    form.to_pem(of.key()).to_string()
}

fn pair(text: &str) -> Pair {
    Pair::of(&Bundle::parse(text.as_bytes()).unwrap().chains().unwrap()[0])
}

fn renewed(text: &str, new: &CertifiedKey) -> String {
    let (document, old) = (Document::read(text.as_bytes()).unwrap(), pair(text));
    let strand = Strand { documents: std::slice::from_ref(&document), is_list: false };
    let has_room = !strand.holds(|block| old.height(block).is_some());
    let pieces = strand.renewed(&Change::new(&old, new).with_room(has_room)).unwrap();
    assert_eq!(pieces.len(), 1);
    String::from_utf8(pieces[0].bytes.to_vec()).unwrap()
}

const OTHERS: [&str; 5] = [
    "-----BEGIN DH PARAMETERS-----\nMAYCAQ8CAQI=\n-----END DH PARAMETERS-----\n",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\nlQIGBF\n=aBcD\n-----END PGP PRIVATE KEY BLOCK-----\n",
    "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n",
    "# The certificate of web, kept by team web.\n",
    "   \n\n",
];

#[test]
fn what_is_not_of_the_certificate_stays_where_and_as_it_is() {
    let root = root("root");
    let inner = below("inner", &root);
    let (old, new) = (certified(&inner, &[&inner]), certified(&inner, &[&inner]));
    let text = |of: &CertifiedKey| {
        [
            OTHERS[3],
            &certificate(of, 0),
            OTHERS[0],
            &inner.pem(),
            &root.pem(),
            OTHERS[1],
            &private(of, KeyForm::Sec1),
            OTHERS[2],
        ]
        .concat()
    };
    assert_eq!(renewed(&text(&old), &new), text(&new));
    let windows = |of: &CertifiedKey| text(of).replace('\n', "\r\n");
    assert_eq!(renewed(&windows(&old), &new), windows(&new));
    let indented = |of: &CertifiedKey| text(of).lines().map(|line| format!("    {line}\n")).collect::<String>();
    assert_eq!(renewed(&indented(&old), &new), indented(&new));
    let cut =
        |of: &CertifiedKey| (private(of, KeyForm::Pkcs8) + &certificate(of, 0) + &inner.pem()).trim_end().to_string();
    assert_eq!(renewed(&cut(&old), &new), cut(&new));
}

#[test]
fn a_longer_a_shorter_and_another_chain_take_the_span_of_the_old_one() {
    let (root, other) = (root("root"), root("other"));
    let upper = below("upper", &root);
    let (inner, lower) = (below("inner", &root), below("lower", &upper));
    let (short, long, bare) =
        (certified(&inner, &[&inner]), certified(&lower, &[&lower, &upper]), certified(&other, &[]));
    let upwards = |of: &CertifiedKey, chain: &[&Ca]| {
        let chain: String = chain.iter().map(|ca| ca.pem()).collect();
        [&certificate(of, 0), &chain, OTHERS[3], &root.pem(), &private(of, KeyForm::Pkcs8)]
            .map(|text: &str| text.to_string())
            .concat()
    };
    let downwards = |of: &CertifiedKey, chain: &[&Ca]| {
        let chain: String = chain.iter().rev().map(|ca| ca.pem()).collect();
        [&private(of, KeyForm::Pkcs8), OTHERS[3], &root.pem(), &chain, &certificate(of, 0)]
            .map(|text: &str| text.to_string())
            .concat()
    };
    let (one, two): ([&Ca; 1], [&Ca; 2]) = ([&inner], [&lower, &upper]);
    for text in [&upwards as &dyn Fn(&CertifiedKey, &[&Ca]) -> String, &downwards] {
        assert_eq!(renewed(&text(&short, &one), &long), text(&long, &two));
        assert_eq!(renewed(&text(&long, &two), &short), text(&short, &one));
        assert_eq!(renewed(&text(&long, &two), &bare), text(&bare, &[]));
    }
    // Without an old chain, it goes beside the leaf.
    let first = certified(&root, &[]);
    assert_eq!(renewed(&upwards(&first, &[]), &long), upwards(&long, &two));
    assert_eq!(renewed(&downwards(&first, &[]), &long), downwards(&long, &two));
}

#[test]
fn a_chain_that_stands_there_twice_is_renewed_twice() {
    let root = root("root");
    let (inner, later) = (below("inner", &root), below("later", &root));
    let (old, new) = (certified(&inner, &[&inner]), certified(&later, &[&later]));
    let text = |of: &CertifiedKey| (certificate(of, 0) + &certificate(of, 1)).repeat(2) + &private(of, KeyForm::Pkcs8);
    assert_eq!(renewed(&text(&old), &new), text(&new));
}

#[test]
fn the_form_of_each_block_stays() {
    let root = root("root");
    let (old, new) = (certified(&root, &[]), certified(&root, &[]));
    let one_line = |text: String| {
        let lines: Vec<_> = text.lines().collect();
        [lines[0], "\n", &lines[1..lines.len() - 1].concat(), "\n", lines[lines.len() - 1], "\n"].concat()
    };
    let text = |of: &CertifiedKey| {
        let leaf = certificate(of, 0).replace("CERTIFICATE", "X509 CERTIFICATE");
        one_line(private(of, KeyForm::Sec1)) + &one_line(leaf)
    };
    assert_eq!(renewed(&text(&old), &new), text(&new));
}

#[test]
fn where_its_blocks_are_not_well_defined_nothing_is_read() {
    let root = root("root");
    let old = certified(&root, &[]);
    let (leaf, private) = (certificate(&old, 0), private(&old, KeyForm::Pkcs8));
    let glued = leaf.trim_end().to_string() + &private;
    let blanks = (private.clone() + &leaf).replace('\n', " ");
    let returns = (private.clone() + &leaf).replace('\n', "\r");
    let dashed = format!("-{leaf}");
    for text in [&glued, &blanks, &returns, &dashed] {
        assert_eq!(Document::read(text.as_bytes()).err(), Some(Unfit::Marks), "{text}");
    }
    let open = private.clone() + leaf.trim_end().trim_end_matches("-----END CERTIFICATE-----");
    let nested = private.replace("-----END PRIVATE KEY-----\n", "") + &leaf;
    for text in [&open, &nested] {
        assert_eq!(Document::read(text.as_bytes()).err(), Some(Unfit::NoEnd), "{text}");
    }
    let damaged = leaf.replacen("MII", "M!I", 1);
    assert_eq!(Document::read(damaged.as_bytes()).err(), Some(Unfit::Damaged));
}

#[test]
fn a_copy_that_no_renewal_reaches_is_found_whatever_its_form() {
    let root = root("root");
    let (old, other) = (certified(&root, &[]), certified(&root, &[]));
    let (leaf, private) = (certificate(&old, 0), private(&old, KeyForm::Pkcs8));
    let old_pair = pair(&(private.clone() + &leaf));
    let hex = |der: &[u8]| der.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let twice = STANDARD.encode(STANDARD.encode(&old.ders()[0]));
    for copy in [
        leaf.replace('\n', " "),
        private.replace('\n', ""),
        private.replace('\n', "\\n"),
        format!("{{\"key\":\"{}\"}}", private.replace('\n', "\\n")),
        format!("a word {}", STANDARD.encode(&old.ders()[0])),
        hex(&old.ders()[0]),
        hex(&old.key().pkcs8),
        hex(&KeyForm::Sec1.to_der(old.key())).to_uppercase(),
        twice,
        leaf.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
    ] {
        assert!(old_pair.is_within(copy.as_bytes()), "{copy}");
    }
    let public = format!("{}{}", hex(&old.key().public.0), old.chain().leaf.fingerprint);
    for no_copy in [certificate(&other, 0), super::tests::private(&other, KeyForm::Sec1), root.pem(), public] {
        assert!(!old_pair.is_within(no_copy.as_bytes()), "{no_copy}");
    }
    let beside = format!("{private}{leaf}{}", leaf.replace("CERTIFICATE", "TRUSTED CERTIFICATE"));
    let document = Document::read(beside.as_bytes()).unwrap();
    assert_eq!(old_pair.insist_on_no_copy(&document), Err(Unfit::Copy));
    assert_eq!(old_pair.insist_on_no_copy(&Document::read((private + &leaf).as_bytes()).unwrap()), Ok(()));
}

#[test]
fn every_kind_of_key_has_a_private_half_that_all_its_forms_hold() {
    let root = root("root");
    let leaf = certificate(&certified(&root, &[]), 0);
    for spec in [KeySpec::EcdsaP256, KeySpec::EcdsaP384, KeySpec::Rsa2048, KeySpec::Ed25519] {
        let key: PrivateKey = key::generate(spec).unwrap();
        let old = pair(&(leaf.clone() + &KeyForm::Pkcs8.to_pem(&key)));
        for form in [KeyForm::Pkcs8, KeyForm::Pkcs1, KeyForm::Sec1] {
            assert!(old.is_within(form.to_pem(&key).replace('\n', "").as_bytes()), "{spec:?} {form:?}");
        }
    }
}

/// Blocks, text and line ends in any order around one pair.
#[test]
fn after_a_renewal_every_other_byte_is_as_it_was() {
    let (top, stranger) = (root("root"), root("stranger"));
    let inner = below("inner", &top);
    let (old, new) = (certified(&inner, &[&inner]), certified(&inner, &[&inner]));
    let mut pool: Vec<String> = OTHERS.iter().map(ToString::to_string).collect();
    pool.extend([top.pem(), stranger.pem(), inner.pem(), "ü – text without an end".to_string() + "\n"]);
    let form = select(vec![KeyForm::Pkcs8, KeyForm::Sec1]);
    let parts = prop::collection::vec(select(pool), 0..8);
    let input = (parts, form, any::<[u8; 2]>(), any::<bool>(), any::<bool>());
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    let claim = |(parts, form, at, is_windows, is_cut): (Vec<String>, KeyForm, [u8; 2], bool, bool)| {
        let text = |of: &CertifiedKey| {
            let mut parts = parts.clone();
            parts.insert(usize::from(at[0]) % (parts.len() + 1), certificate(of, 0));
            parts.insert(usize::from(at[1]) % (parts.len() + 1), private(of, form));
            if !parts.contains(&inner.pem()) {
                parts.push(inner.pem());
            }
            let text = parts.concat();
            let text = if is_cut { text.trim_end().to_string() } else { text };
            if is_windows { text.replace('\n', "\r\n") } else { text }
        };
        let after = renewed(&text(&old), &new);
        prop_assert_eq!(&after, &text(&new));
        let read = Bundle::parse(after.as_bytes()).unwrap().chains().unwrap().remove(0);
        prop_assert_eq!(read.chain.leaf.fingerprint, new.chain().leaf.fingerprint);
        prop_assert_eq!(read.key_digest(), Some(new.key().public));
        Ok(())
    };
    TestRunner::new(config).run(&input, claim).unwrap();
}
