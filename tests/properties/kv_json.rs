//! A secret as JSON: what a renewal does not concern stays byte for byte, and what it concerns is the new certificate.

use std::sync::LazyLock;

use certd::domain::renewal::CertifiedKey;
use certd::pki::{key, pem};
use certd::vault::Fields;
use certd::vault::layout::Layout;
use certd::vault::layout::keystores::Found;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::authority::Authority;

/// A field that no layout knows, with more digits than a float holds, and what no two programs write alike.
const STRANGER: (&str, &str) = ("zz stranger", r#"{"b":1.50e+0,"a":[ 10000000000000000001,"\u0041\/" ]}"#);

/// The certificate that was there and the one that comes, of one CA.
static PAIR: LazyLock<(CertifiedKey, CertifiedKey, Authority)> = LazyLock::new(|| {
    let authority = Authority::new();
    (authority.certified("web.example.org"), authority.certified("web.example.org"), authority)
});

pub fn check(data: &[u8]) -> bool {
    let Ok(mut fields) = serde_json::from_slice::<Fields>(data) else { return false };
    fields.insert(STRANGER.0.to_string(), RawValue::from_string(STRANGER.1.to_string()).unwrap());
    assert_eq!(texts(&serde_json::from_str(&serde_json::to_string(&fields).unwrap()).unwrap()), texts(&fields));
    let Some(mut layout) = Layout::find(&fields) else { return false };
    layout.open(&fields, &Found::new());
    let parts = layout.parts();
    parts.iter().filter(|(object, part)| is_renewed(&fields, object.as_deref(), part)).count() > 0
}

/// Whether it could be written, and was.
fn is_renewed(fields: &Fields, object: Option<&str>, part: &Layout) -> bool {
    let (_, new, _) = &*PAIR;
    if part.insist_writable(fields).is_err() || part.read(fields).is_err() {
        return false;
    }
    let mut now = fields.clone();
    if part.apply(&mut now, new).is_err() {
        return false;
    }
    assert_eq!(now[STRANGER.0].get(), STRANGER.1);
    assert!(now.keys().eq(fields.keys()), "{object:?}: {now:?}");
    // Numbers and words that stand alone may tell of the certificate; nothing turns into another kind of value.
    for (name, value) in &now {
        let (is, was) = (value.get().as_bytes()[0], fields[name].get().as_bytes()[0]);
        let is_kept = value.get() == fields[name].get();
        assert!(is_kept || is == was || (is.is_ascii_digit() && was.is_ascii_digit()), "{name}: {value}");
    }
    let kept = part.read(&now).unwrap_or_else(|why| panic!("{object:?}: {why}: {now:?}"));
    assert_eq!(kept.chain.leaf.fingerprint, new.chain().leaf.fingerprint, "{now:?}");
    assert_eq!(kept.key_digest(), Some(new.key().public), "{now:?}");
    // The same once more changes nothing.
    let mut twice = now.clone();
    part.apply(&mut twice, new).unwrap();
    assert_eq!(texts(&twice), texts(&now));
    true
}

fn texts(fields: &Fields) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.get())).collect()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let (old, _, authority) = &*PAIR;
    let ders = old.ders();
    let (leaf, above, all) = (pem::certificates(&ders[..1]), pem::certificates(&ders[1..]), pem::certificates(ders));
    let private = key::to_pem(old.key()).to_string();
    let root = pem::certificates(&[&authority.root]);
    let seeds: [Value; 7] = [
        json!({ "certificate": leaf, "private_key": private, "ca_chain": [above], "note": 1, "expiration": 1798761600 }),
        json!({ "certificate": leaf, "private_key": private, "ca_chain": above, "serial_number": "01:02" }),
        json!({ "tls.crt": all, "tls.key": private, "ca.crt": root }),
        json!({ "cert": leaf, "key": private, "chain": above, "fullchain": all }),
        json!({ "pem": all.replace('\n', "\r\n") + &private }),
        json!({ "web": { "cert": all, "key": private }, "api": { "cert": all, "key": private, "n": null } }),
        json!({ "fullchain": all, "key": private, "issuing_ca": above }),
    ];
    seeds.map(|seed| seed.to_string().into_bytes()).to_vec()
}
