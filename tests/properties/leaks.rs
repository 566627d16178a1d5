//! Whatever is damaged in a bundle, a field or a keystore: nothing that certd says of it holds 12 bytes of a key in it, in
//! DER, PEM, base64 of either, or hexadecimal.

use std::collections::HashSet;
use std::fmt::{Debug, Display};
use std::sync::{LazyLock, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use certd::pki::bundle::{self, Bundle};
use certd::pki::keystore::effort::Effort;
use certd::pki::keystore::{Keystore, Password, Passwords};
use certd::pki::{crl, key, pem, read};
use certd::vault::Fields;
use certd::vault::layout::Layout;
use certd::vault::layout::keystores::Found;
use serde_json::{Value, json};

use crate::authority::Authority;

/// Ed25519, SEC1 on P-256, PKCS#8 on P-384 and PKCS#1: keys of nobody.
pub const CANARIES: &str = include_str!("canaries.pem");

/// In bytes of the key.
const PIECE: usize = 12;

pub static PIECES: LazyLock<Pieces> = LazyLock::new(Pieces::new);

/// Reasons are a closed set, so that most were searched before.
static SEARCHED: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

static CHAIN: LazyLock<String> =
    LazyLock::new(|| pem::certificates(Authority::new().certified("web.example.org").ders()));

/// Every piece of a canary, by the form that it may be said in.
pub struct Pieces {
    raw: HashSet<Vec<u8>>,
    base64: HashSet<Vec<u8>>,
    hex: HashSet<Vec<u8>>,
}

impl Pieces {
    fn new() -> Self {
        let (mut raw, mut base64, mut hex) = (HashSet::new(), HashSet::new(), HashSet::new());
        let windows = |bytes: &[u8], length| bytes.windows(length).map(<[u8]>::to_vec).collect::<Vec<_>>();
        for text in canaries() {
            let der = ::pem::parse(&text).unwrap().into_contents();
            raw.extend(windows(&der, PIECE));
            hex.extend(der.windows(PIECE).map(hexadecimal));
            // Each of the three ways in which groups of three bytes may begin.
            let starts = (0..3).flat_map(|start| [&der[start..], &text.as_bytes()[start..]]);
            base64.extend(starts.flat_map(|bytes| windows(BASE64.encode(bytes).as_bytes(), PIECE / 3 * 4)));
        }
        // What begins and ends a mark is no part of a key.
        let marks = BASE64.encode("-----BEGIN RSA PRIVATE KEY-----");
        base64.retain(|piece| !marks.as_bytes().windows(piece.len()).any(|mark| mark == piece));
        Self { raw, base64, hex }
    }

    pub fn are_in(&self, said: &str) -> bool {
        let holds = |pieces: &HashSet<Vec<u8>>, length, said: &[u8]| said.windows(length).any(|at| pieces.contains(at));
        holds(&self.raw, PIECE, said.as_bytes())
            || holds(&self.base64, PIECE / 3 * 4, said.as_bytes())
            || holds(&self.hex, PIECE * 2, said.to_ascii_lowercase().as_bytes())
    }
}

pub fn hexadecimal(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

pub fn canaries() -> Vec<String> {
    let end = |text: &str| text.find("-----END ").and_then(|at| Some(at + text[at..].find('\n')? + 1));
    let mut rest = CANARIES;
    let mut all = Vec::new();
    while let Some(at) = end(rest) {
        all.push(rest[..at].to_string());
        rest = &rest[at..];
    }
    all
}

/// What certd says of bytes. Whatever is no text of PEM can be DER or a keystore.
#[derive(Default)]
struct Said(Vec<String>);

impl Said {
    fn all(&mut self, thing: &(impl Debug + Display)) {
        self.0.extend([thing.to_string(), format!("{thing:?}")]);
    }

    fn refused<T>(&mut self, result: Result<T, impl Debug + Display>) -> Option<T> {
        result.map_err(|error| self.all(&error)).ok()
    }

    fn bundle(&mut self, data: &[u8]) {
        self.refused(pem::parse_many(data));
        self.refused(read::certificate(data));
        self.refused(key::from_der(data));
        self.refused(bundle::chain_as_given(&[data]));
        self.refused(crl::from_pem(&String::from_utf8_lossy(data), b""));
        let Some(bundle) = self.refused(Bundle::parse(data)) else { return };
        self.0.push(format!("{bundle:?}"));
        bundle.unread_keys.iter().for_each(|why| self.all(why));
        self.refused(bundle.insist_on_keys());
        self.refused(bundle.insist_on_one());
        self.refused(bundle.chains());
    }

    fn keystore(&mut self, data: &[u8]) {
        let passwords = Passwords { store: Password("a".to_string().into()), key: None };
        if let Some(opened) = self.refused(Keystore::open(data, &passwords, &mut Effort::default())) {
            self.0.push(format!("{opened:?}"));
            self.refused(opened.kept());
            self.refused(opened.insist_writable());
        }
    }

    fn secret(&mut self, fields: &Value) {
        let fields: Fields = serde_json::from_value(fields.clone()).unwrap();
        let Some(mut layout) = Layout::find(&fields) else { return };
        layout.open(&fields, &Found::new());
        self.0.push(format!("{layout:?}"));
        self.refused(layout.read(&fields));
        self.refused(layout.read_all(&fields));
        self.refused(layout.insist_writable(&fields));
        self.refused(layout.part(None));
    }

    fn fields(&mut self, text: &str) {
        let chain = &*CHAIN;
        for fields in [
            json!({ "cert": chain, "key": text }),
            json!({ "cert": text, "key": "" }),
            json!({ "pem": chain.clone() + text }),
            json!({ "certificate": chain, "private_key": [text], "ca_chain": [text] }),
            json!({ "web": { "tls.crt": text, "tls.key": text }, "api": { "cert": chain, "key": text } }),
            json!({ "cert": chain, "key": { "value": text } }),
            json!({ "keystore.p12": text, "password": "a" }),
        ] {
            self.secret(&fields);
        }
    }
}

/// True where certd refuses something about it.
pub fn check(data: &[u8]) -> bool {
    let mut said = Said::default();
    said.bundle(data);
    said.keystore(data);
    let text = String::from_utf8_lossy(data);
    said.fields(&text);
    let is_telling = !said.0.is_empty();
    let mut searched = SEARCHED.lock().unwrap();
    said.0.retain(|said| !searched.contains(said));
    let leak = said.0.iter().position(|said| PIECES.are_in(said));
    assert_eq!(leak, None, "the text of this number holds a piece of a key");
    searched.extend(said.0);
    is_telling
}

/// One key alone, and the texts that others made of it and of its certificate.
fn forms() -> Vec<String> {
    let mut forms = Vec::new();
    for key in canaries() {
        let whole = key.clone() + CHAIN.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
        let der = BASE64.encode(::pem::parse(&key).unwrap().contents());
        forms.extend([
            key.replace('\n', " "),
            key.replace('\n', ""),
            key.replace('\n', "\r"),
            key.replace('\n', "\\n"),
        ]);
        forms.extend([
            key.replace('\n', "\n\n"),
            key.replace("\n-----END", "-----END"),
            key.replace("KEY-----\n", "KEY-----"),
        ]);
        forms.extend([whole.replace('\n', " "), whole.replace('\n', ""), whole.replace('\n', "\r\n")]);
        forms.extend([
            BASE64.encode(&key),
            BASE64.encode(&whole),
            der.clone(),
            der + "=",
            key.replace("PRIVATE", "SECRET"),
        ]);
        forms.extend([key, whole]);
    }
    forms
}

pub fn seeds() -> Vec<Vec<u8>> {
    forms().into_iter().map(String::into_bytes).collect()
}
