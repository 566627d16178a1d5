//! Every layout is found, read and written back in kind.

use base64::Engine;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use serde_json::{Value, json};

use super::*;
use crate::domain::cert::Trust;
use crate::domain::key::KeySpec;
use crate::domain::name::San;
use crate::domain::plan::Reason;
use crate::domain::policy::RenewalPolicy;
use crate::domain::renewal::{Request, Signed, Spec};
use crate::domain::time::Timestamp;
use crate::pki::key;
use crate::pki::key_form::KeyForm;
use crate::pki::{pem, read};

type Ca = CertifiedIssuer<'static, KeyPair>;

/// 2026-01-01, when every certificate here is fresh.
const NOW: Timestamp = Timestamp(1_767_225_600);

fn params(name: &str, ca: bool) -> CertificateParams {
    let mut params = CertificateParams::new(vec![format!("{name}.example.org")]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(2025, 12, 31);
    params.not_after = date_time_ymd(2027, 1, 1);
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

fn root() -> Ca {
    CertifiedIssuer::self_signed(params("root", true), KeyPair::generate().unwrap()).unwrap()
}

fn below(root: &Ca) -> Ca {
    CertifiedIssuer::signed_by(params("inner", true), KeyPair::generate().unwrap(), root).unwrap()
}

/// `signers` from the one that signs the leaf upwards.
fn certified(signers: &[&Ca]) -> CertifiedKey {
    let pair = KeyPair::generate().unwrap();
    let key = key::from_der(&pair.serialize_der()).unwrap();
    let leaf = params("web", false).signed_by(&pair, signers[0]).unwrap();
    let signers = signers.iter().filter(|ca| read::certificate(ca.der()).is_ok_and(|ca| !ca.is_self_issued()));
    let ders: Vec<Vec<u8>> = std::iter::once(leaf.der().to_vec()).chain(signers.map(|ca| ca.der().to_vec())).collect();
    let chain = Bundle::parse(pem::certificates(&ders).as_bytes()).unwrap().chains().unwrap().remove(0).chain;
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

fn fields(data: &Value) -> Fields {
    serde_json::from_value(data.clone()).unwrap()
}

fn all(certified: &CertifiedKey) -> String {
    pem::certificates(certified.ders())
}

fn leaf(certified: &CertifiedKey) -> String {
    pem::certificates(&certified.ders()[..1])
}

fn above(certified: &CertifiedKey) -> String {
    pem::certificates(&certified.ders()[1..])
}

fn private(certified: &CertifiedKey) -> String {
    key::to_pem(certified.key()).to_string()
}

/// The secret `was`, renewed, reads as `expected`, and then as the new certificate.
#[track_caller]
fn check(was: Value, new: &CertifiedKey, expected: Value) {
    let mut now = fields(&was);
    let layout = Layout::find(&now).unwrap();
    layout.insist_writable(&now).unwrap();
    layout.apply(&mut now, new).unwrap();
    assert_eq!(serde_json::to_value(&now).unwrap(), expected);
    let kept = layout.read(&now).unwrap();
    assert_eq!(kept.chain.leaf.fingerprint, new.chain().leaf.fingerprint);
    assert_eq!(kept.key_digest(), Some(new.key().public));
}

#[test]
fn every_layout_is_renewed_in_the_form_that_it_has() {
    let root = root();
    let inner = below(&root);
    let (old, new) = (certified(&[&inner, &root]), certified(&[&inner, &root]));
    // Leaf and chain apart; the chain as a list or as one text.
    check(
        json!({ "certificate": leaf(&old), "private_key": private(&old), "ca_chain": [above(&old)], "note": 1 }),
        &new,
        json!({ "certificate": leaf(&new), "private_key": private(&new), "ca_chain": [above(&new)], "note": 1 }),
    );
    check(
        json!({ "certificate": leaf(&old), "private_key": private(&old), "ca_chain": above(&old).trim_end() }),
        &new,
        json!({ "certificate": leaf(&new), "private_key": private(&new), "ca_chain": above(&new).trim_end() }),
    );
    // The whole chain in the certificate's field.
    check(
        json!({ "tls.crt": all(&old), "tls.key": private(&old), "ca.crt": root.pem() }),
        &new,
        json!({ "tls.crt": all(&new), "tls.key": private(&new), "ca.crt": root.pem() }),
    );
    check(
        json!({ "cert": leaf(&old), "key": private(&old), "chain": above(&old), "fullchain": all(&old) }),
        &new,
        json!({ "cert": leaf(&new), "key": private(&new), "chain": above(&new), "fullchain": all(&new) }),
    );
    check(
        json!({ "fullchain": all(&old), "key": private(&old) }),
        &new,
        json!({ "fullchain": all(&new), "key": private(&new) }),
    );
    check(
        json!({ "cert": leaf(&old), "key": *KeyForm::Sec1.to_pem(old.key()) }),
        &new,
        json!({ "cert": all(&new), "key": *KeyForm::Sec1.to_pem(new.key()) }),
    );
    check(json!({ "pem": private(&old) + &all(&old) }), &new, json!({ "pem": private(&new) + &all(&new) }));
    check(json!({ "pem": all(&old) + &private(&old) }), &new, json!({ "pem": all(&new) + &private(&new) }));
}

#[test]
fn a_chain_that_has_no_other_place_goes_with_the_leaf() {
    let root = root();
    let inner = below(&root);
    let (old, new) = (certified(&[&root]), certified(&[&inner, &root]));
    check(
        json!({ "certificate": leaf(&old), "private_key": private(&old) }),
        &new,
        json!({ "certificate": all(&new), "private_key": private(&new) }),
    );
}

#[test]
fn a_root_that_is_kept_beside_stays_while_it_is_the_root() {
    let (root, other) = (root(), root());
    let inner = below(&root);
    let (old, new) = (certified(&[&root]), certified(&[&inner, &root]));
    check(
        json!({ "certificate": leaf(&old), "private_key": private(&old), "ca_chain": root.pem(), "issuing_ca": root.pem() }),
        &new,
        json!({
            "certificate": leaf(&new), "private_key": private(&new),
            "ca_chain": inner.pem() + &root.pem(), "issuing_ca": inner.pem(),
        }),
    );
    // As a pki mount that is a root itself answers.
    let again = certified(&[&root]);
    check(
        json!({ "certificate": leaf(&old), "private_key": private(&old), "ca_chain": [root.pem()], "issuing_ca": root.pem() }),
        &again,
        json!({
            "certificate": leaf(&again), "private_key": private(&again),
            "ca_chain": [root.pem()], "issuing_ca": root.pem(),
        }),
    );
    let moved = certified(&[&other]);
    for (field, was) in [
        ("issuing_ca", json!({ "certificate": leaf(&old), "private_key": private(&old), "issuing_ca": root.pem() })),
        ("ca.crt", json!({ "tls.crt": leaf(&old), "tls.key": private(&old), "ca.crt": root.pem() })),
    ] {
        let mut now = fields(&was);
        let refused = Layout::find(&now).unwrap().apply(&mut now, &moved).unwrap_err().to_string();
        assert!(refused.ends_with(&format!("into the field `{field}`")), "{refused}");
    }
}

#[test]
fn a_new_secret_has_leaf_key_and_chain_apart() {
    let root = root();
    let inner = below(&root);
    let new = certified(&[&inner, &root]);
    let expected = json!({ "certificate": leaf(&new), "private_key": private(&new), "ca_chain": [above(&new)] });
    assert_eq!(serde_json::to_value(Layout::fresh(&new)).unwrap(), expected);
}

#[test]
fn a_secret_that_cannot_be_understood_says_which_field() {
    let old = certified(&[&root()]);
    for (was, why) in [
        (json!({ "certificate": 1 }), "the field `certificate` is neither text nor a list of texts"),
        (json!({ "certificate": "" }), "there is no certificate in it"),
        (json!({ "certificate": null }), "there is no certificate in it"),
        (
            json!({ "tls.crt": leaf(&old), "tls.key": ["-----BEGIN", 1] }),
            "the field `tls.key` is neither text nor a list of texts",
        ),
        (
            json!({ "pem": leaf(&old) + &leaf(&certified(&[&root()])) }),
            "it holds 2 certificates that do not belong together",
        ),
    ] {
        let fields = fields(&was);
        assert_eq!(Layout::find(&fields).unwrap().read(&fields).unwrap_err().to_string(), why);
    }
    assert!(Layout::find(&fields(&json!({ "private_key": "x", "ca_chain": [] }))).is_none());
}

#[test]
fn a_keystore_is_told_from_a_certificate_and_from_other_base64() {
    let old = certified(&[&root()]);
    let der = |der: &[u8]| json!({ "x": base64::engine::general_purpose::STANDARD.encode(der) });
    let found = |was: Value| Layout::find(&fields(&was)).is_some();
    for head in [
        &[0x30, 0x82, 0x0a, 0x01, 0x02, 0x01, 0x03, 0x30, 0x82][..],
        &[0x30, 0x80, 0x02, 0x01, 0x03, 0x30, 0x80, 0x06, 0x09],
        &[0x30, 0x83, 0x01, 0x0a, 0x01, 0x02, 0x01, 0x03, 0x30],
        &[0xfe, 0xed, 0xfe, 0xed, 0x00, 0x00, 0x00, 0x02, 0x00],
        &[0xce, 0xce, 0xce, 0xce, 0x00, 0x00, 0x00, 0x02, 0x00],
    ] {
        assert!(found(der(head)), "{head:x?}");
    }
    let key = &old.key().pkcs8;
    for other in [&old.ders()[0][..], key, &KeyForm::Sec1.to_der(old.key()), b"a password that is long", b""] {
        assert!(!found(der(other)), "{other:x?}");
    }
    assert!(!found(json!({ "x": "äöüäöüäöüäöü", "y": 1, "z": "short" })));
}

#[test]
fn an_object_is_followed_only_so_deep() {
    let old = certified(&[&root()]);
    let mut was = json!({ "certificate": leaf(&old), "private_key": private(&old) });
    for depth in 1..=DEEPEST {
        was = json!({ "x": was });
        assert_eq!(Layout::find(&fields(&was)).unwrap().read(&fields(&was)).unwrap().ders, old.ders(), "{depth}");
    }
    assert!(Layout::find(&fields(&json!({ "x": was }))).is_none());
}

#[test]
fn what_is_wrong_in_an_object_is_told_with_the_object() {
    let was = fields(&json!({ "tls": { "web": { "certificate": 1 } } }));
    let refused = Layout::find(&was).unwrap().read(&was).unwrap_err().to_string();
    assert_eq!(refused, "in `tls/web`: the field `certificate` is neither text nor a list of texts");
    let old = certified(&[&root()]);
    let pair = json!({ "certificate": leaf(&old), "private_key": private(&old) });
    let both = fields(&json!({ "a": { "b": pair }, "c": pair }));
    let refused = Layout::find(&both).unwrap().insist_writable(&both).unwrap_err().to_string();
    let why = "certificates in several objects (`a/b`, `c`): name one behind the path, as in `#a/b`";
    assert_eq!(refused, why);
}

#[test]
fn each_object_is_a_part_of_its_own_with_a_name_of_its_own() {
    let (one, two) = (certified(&[&root()]), certified(&[&root()]));
    let pair = |c: &CertifiedKey| json!({ "certificate": leaf(c), "private_key": private(c) });
    let was = json!({ "a/b": pair(&one), "a": { "b": pair(&two), "%2F": pair(&one) }, "n": 1 });
    let secret = fields(&was);
    let layout = Layout::find(&secret).unwrap();
    let names: Vec<_> = layout.parts().into_iter().map(|(name, _)| name.unwrap()).collect();
    assert_eq!(names, ["a/%252F", "a/b", "a%2Fb"]);
    let part = layout.part(Some("a/b")).unwrap().unwrap();
    assert_eq!(part.read(&secret).unwrap().ders, two.ders());
    assert!(layout.part(Some("c")).unwrap().is_none());
    let (new, mut now) = (certified(&[&root()]), secret.clone());
    part.apply(&mut now, &new).unwrap();
    let expected = json!({ "a/b": pair(&one), "a": { "b": pair(&new), "%2F": pair(&one) }, "n": 1 });
    assert_eq!(serde_json::to_value(&now).unwrap(), expected);
    assert_eq!(serde_json::to_value(part.moved(&secret, &now).unwrap()).unwrap(), was);
}

#[test]
fn a_text_of_lines_is_read_as_json_reads_it_and_every_other_is_left_to_it() {
    let joined = |json: &str| lines(json).map(|lines| lines.collect::<Vec<_>>().join("\n"));
    for text in ["", "a", "-----BEGIN X-----\nAAAA\n-----END X-----\n", "\n\n", "n\nn"] {
        assert_eq!(joined(&serde_json::to_string(text).unwrap()).as_deref(), Some(text), "{text:?}");
    }
    for text in ["a\r\nb", "a\\nb", "a\"b", "a\tb", "\u{1}"] {
        assert_eq!(joined(&serde_json::to_string(text).unwrap()), None, "{text:?}");
    }
    for json in ["7", "null", "[\"a\"]", "{}", "true", "\""] {
        assert_eq!(joined(json), None, "{json}");
    }
}
