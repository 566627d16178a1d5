//! The secrets of this test process, by kind, and the search for them. Whoever makes one in a test tells it here; every
//! certd that a test starts is searched for all of them when it ends (`support::certd`).

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{LazyLock, Mutex};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    RootToken,
    /// Of a `token_file`.
    GivenToken,
    /// That certd got by logging in.
    LoginToken,
    WrappingToken,
    SecretId,
    /// Of a user of Vault.
    Password,
    Jwt,
    /// Of the page of metrics.
    BearerToken,
    /// In a secret: the one that is replaced, and the one that certd made.
    StoredKey,
    /// In a file, that of the local CA among them.
    KeyOnDisk,
    /// Of a renewal in flight.
    KeyInFlight,
    TlsClientKey,
    KeystorePassword,
    /// What certd does not know and has to pass on.
    UnknownField,
    /// Of an account at a CA.
    AccountKey,
    /// TSIG and EAB: what certd signs requests with.
    Hmac,
    /// Of a test that shows that the search finds something.
    Planted,
}

/// So that no journal is looked through for keys.
const LARGEST_KEY_FILE: u64 = 256 << 10;

/// A word shorter than this may stand anywhere by chance.
const SHORTEST: usize = 8;

#[derive(Default)]
struct Known {
    /// By their first bytes.
    all: HashMap<[u8; SHORTEST], Vec<(Kind, Vec<u8>)>>,
    /// Whether any begins with these two, so that most places are passed over at once.
    begins: Vec<bool>,
}

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// Tells of one, and gives it back.
pub fn told<T: AsRef<[u8]>>(kind: Kind, secret: T) -> T {
    KNOWN.lock().unwrap_or_else(|e| e.into_inner()).add(kind, secret.as_ref());
    secret
}

/// Every private key in a PEM text: its lines, which are those of its DER in base64 too, its DER and that in hexadecimal.
pub fn told_keys(kind: Kind, text: &str) {
    for key in pem::parse_many(text).unwrap_or_default().iter().filter(|block| block.tag().ends_with("PRIVATE KEY")) {
        let bytes = private_part(key.contents());
        let lines: Vec<String> = pem::encode(key).lines().map(str::to_string).collect();
        let lines = &lines[1..lines.len() - 1];
        // The first lines of an RSA key hold its modulus, which is in every certificate.
        let first = if lines.len() > 10 { lines.len() * 2 / 5 } else { 0 };
        for line in lines.iter().skip(first).take(2).filter(|line| line.len() > 40) {
            told(kind, line);
        }
        let hex = bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        told(kind, hex);
        told(kind, bytes);
    }
}

/// What nobody but its owner may know, of a key in PKCS#8: an Ed25519 seed, an EC scalar or an RSA exponent.
fn private_part(der: &[u8]) -> &[u8] {
    match der.len() {
        0..64 => &der[20.min(der.len())..44.min(der.len())],
        64..400 => &der[40..60],
        long => &der[long * 2 / 5..long * 2 / 5 + 24],
    }
}

/// Of the fields of a secret: private keys, and whatever is called a password or a note.
pub fn told_fields(fields: &serde_json::Value) {
    match fields {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                let kind = match name.as_str() {
                    "note" => Some(Kind::UnknownField),
                    name => name.ends_with("password").then_some(Kind::KeystorePassword),
                };
                match (kind, value.as_str().filter(|text| text.len() >= SHORTEST)) {
                    (Some(kind), Some(text)) => {
                        told(kind, text);
                    }
                    _ => told_fields(value),
                }
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(told_fields),
        serde_json::Value::String(text) => told_keys(Kind::StoredKey, text),
        _ => {}
    }
}

/// The private keys in all files below a folder.
pub fn told_files(kind: Kind, folder: &Path) {
    for (_, bytes) in files_below(folder, LARGEST_KEY_FILE) {
        let text = String::from_utf8_lossy(&bytes);
        if text.contains("PRIVATE KEY-----") {
            told_keys(kind, &text);
        }
    }
}

/// Fails the test where any is found, with its kind and place and never with what it is.
pub fn are_not_in<'a>(places: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
    let found = found(places);
    assert!(found.is_empty(), "secrets where anybody could read them: {found:?}");
}

/// `KIND in PLACE` for each that is there.
pub fn found<'a>(places: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> BTreeSet<String> {
    let known = KNOWN.lock().unwrap_or_else(|e| e.into_inner());
    let mut found = BTreeSet::new();
    for (place, bytes) in places {
        found.extend(known.kinds_in(bytes).into_iter().map(|kind| format!("{kind:?} in {place}")));
    }
    found
}

/// The kinds that this process has any of.
pub fn kinds() -> BTreeSet<Kind> {
    let known = KNOWN.lock().unwrap_or_else(|e| e.into_inner());
    known.all.values().flatten().map(|(kind, _)| *kind).collect()
}

impl Known {
    fn add(&mut self, kind: Kind, secret: &[u8]) {
        let Some(first) = secret.first_chunk::<SHORTEST>() else { panic!("too short to be looked for: a {kind:?}") };
        self.begins.resize(1 << 16, false);
        self.begins[usize::from(secret[0]) << 8 | usize::from(secret[1])] = true;
        let alike = self.all.entry(*first).or_default();
        if !alike.iter().any(|(_, known)| known == secret) {
            alike.push((kind, secret.to_vec()));
        }
    }

    fn kinds_in(&self, bytes: &[u8]) -> BTreeSet<Kind> {
        let mut kinds = BTreeSet::new();
        if self.begins.is_empty() || bytes.len() < SHORTEST {
            return kinds;
        }
        // By hand, since these are the only bytes that the suite looks at one by one.
        let mut at = 0;
        while at + SHORTEST <= bytes.len() {
            if self.begins[usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1])] {
                let rest = &bytes[at..];
                let alike = rest.first_chunk::<SHORTEST>().and_then(|first| self.all.get(first));
                let here = alike.into_iter().flatten().filter(|(_, secret)| rest.starts_with(secret));
                kinds.extend(here.map(|(kind, _)| *kind));
            }
            at += 1;
        }
        kinds
    }
}

/// All regular files of at most so many bytes, links not followed. What goes away meanwhile is passed over.
pub fn files_below(folder: &Path, largest: u64) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let (mut folders, mut files) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && entry.metadata().is_ok_and(|it| it.len() <= largest) {
                files.extend(std::fs::read(entry.path()).ok().map(|bytes| (entry.path(), bytes)));
            }
        }
    }
    files
}
