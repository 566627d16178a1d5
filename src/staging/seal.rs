//! Seals the key of a renewal in flight, so that only an instance with the same sealing key can open it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

/// The name of the sealing key of one instance, in its state directory.
const FILE: &str = "staging.key";

/// Bytes of a sealing key that certd makes, and of entropy that a shared one must have.
const KEY_LENGTH: usize = 32;

/// Bytes. A larger file is no key.
const LARGEST_FILE: u64 = 4096;

/// A text of 32 random bytes has more; one typed by hand has fewer.
const FEWEST_DIFFERENT_BYTES: usize = 10;

/// Bytes before the ciphertext, from which the key of one record is derived.
const SALT_LENGTH: usize = 32;

/// Part of every derivation and of every record, so that no other use of the key file can open one.
const CONTEXT: &[u8] = b"certd pending key, format 4";

/// Seals and opens the records of one group.
pub struct SealingKey {
    secret: Zeroizing<Vec<u8>>,
    /// All instances of the group have it.
    pub is_shared: bool,
}

/// The place that a sealed record is bound to: at any other it does not open.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    pub group: &'a str,
    /// Mount and path of the record.
    pub path: &'a str,
    /// The version that the record is written as, so that an older record does not open again.
    pub version: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum SealingKeyError {
    #[error("could not {doing} the key that seals pending keys: {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("not usable to seal pending keys: {}: {why}", path.display())]
    Unusable { path: PathBuf, why: &'static str },
    #[error("the operating system gave no randomness to seal a pending key")]
    NoRandomness,
}

impl SealingKey {
    /// Reads the sealing key of this instance, and makes it at first need. A damaged one is replaced: it sealed no more than
    /// renewals in flight, which begin anew.
    pub fn of_instance(state_dir: &Path) -> Result<Self, SealingKeyError> {
        let path = state_dir.join(FILE);
        let secret = match std::fs::read(&path).map(Zeroizing::new) {
            Ok(bytes) if bytes.len() == KEY_LENGTH => bytes,
            Ok(_) => {
                tracing::warn!("{} is damaged and is made anew: renewals in flight begin anew", path.display());
                make(&path)?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => make(&path)?,
            Err(source) => return Err(SealingKeyError::Io { doing: "read", path, source }),
        };
        Ok(Self { secret, is_shared: false })
    }

    /// Reads the sealing key that all instances of a group share.
    ///
    /// # Errors
    ///
    /// Fails on a file that others may read, that is no regular file, or that holds less than 32 bytes of entropy.
    pub fn of_group(path: &Path) -> Result<Self, SealingKeyError> {
        let io = |source| SealingKeyError::Io { doing: "read", path: path.to_path_buf(), source };
        let unusable = |why| SealingKeyError::Unusable { path: path.to_path_buf(), why };
        // A FIFO would otherwise be waited for.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(unusable("it is no regular file"));
        }
        if metadata.mode() & 0o007 != 0 {
            return Err(unusable("every user of this host may read or write it: chmod o= it, and make a new key"));
        }
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(io)?;
        while bytes.last().is_some_and(u8::is_ascii_whitespace) {
            bytes.pop();
        }
        match weakness(&bytes) {
            Some(why) => Err(unusable(why)),
            None => Ok(Self { secret: bytes, is_shared: true }),
        }
    }

    /// Returns base64 of salt, nonce, ciphertext and tag.
    pub fn seal(&self, bound: Bound<'_>, plain: &[u8]) -> Result<String, SealingKeyError> {
        let (mut salt, mut nonce) = ([0; SALT_LENGTH], [0; NONCE_LEN]);
        rand::fill(&mut salt).map_err(|_| SealingKeyError::NoRandomness)?;
        rand::fill(&mut nonce).map_err(|_| SealingKeyError::NoRandomness)?;
        // With room for the tag, so that no copy of the plain text is left behind by a reallocation.
        let mut sealed = Zeroizing::new(Vec::with_capacity(plain.len() + AES_256_GCM.tag_len()));
        sealed.extend_from_slice(plain);
        self.derived(&salt)
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound.bytes()), &mut *sealed)
            .expect("a record is shorter than AES-GCM takes");
        Ok(BASE64.encode([&salt[..], &nonce, &sealed].concat()))
    }

    /// Returns `None` for a record that was sealed with another key, for another place, or not at all.
    pub fn open(&self, bound: Bound<'_>, sealed: &str) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = BASE64.decode(sealed).ok()?;
        let (salt, rest) = bytes.split_at_checked(SALT_LENGTH)?;
        let (nonce, rest) = rest.split_at_checked(NONCE_LEN)?;
        let mut plain = Zeroizing::new(rest.to_vec());
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let length = self.derived(salt).open_in_place(nonce, Aad::from(bound.bytes()), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }

    /// Derives the key of one record (HKDF-SHA256, RFC 5869).
    fn derived(&self, salt: &[u8]) -> LessSafeKey {
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.secret);
        let info = [CONTEXT];
        let okm = extracted.expand(&info, &AES_256_GCM).expect("HKDF-SHA256 gives more than one key of 32 bytes");
        LessSafeKey::new(UnboundKey::from(okm))
    }
}

impl Bound<'_> {
    /// Each part behind its length, so that no two places have the same bytes.
    fn bytes(&self) -> Vec<u8> {
        let version = self.version.to_be_bytes();
        let parts = [CONTEXT, self.group.as_bytes(), self.path.as_bytes(), &version];
        parts
            .iter()
            .flat_map(|part| (part.len() as u64).to_be_bytes().into_iter().chain(part.iter().copied()))
            .collect()
    }
}

/// The reason why these bytes hold less than 32 bytes of entropy.
fn weakness(bytes: &[u8]) -> Option<&'static str> {
    let needed = match () {
        // Four bits a sign.
        () if bytes.iter().all(u8::is_ascii_hexdigit) => KEY_LENGTH * 2,
        // Six bits a sign, the padding aside.
        () if bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b'\n') => 43,
        () => KEY_LENGTH,
    };
    let different = bytes.iter().collect::<std::collections::BTreeSet<_>>().len();
    match bytes.len() {
        0 => Some("it is empty: make one with `openssl rand -base64 32`"),
        length if length as u64 > LARGEST_FILE => {
            Some("it is larger than a key is: make one with `openssl rand -base64 32`")
        }
        length if length < needed || different < FEWEST_DIFFERENT_BYTES => {
            Some("it holds less than 32 random bytes: make one with `openssl rand -base64 32`")
        }
        _ => None,
    }
}

/// Durable when it returns: a record that it sealed can be opened after a crash.
fn make(path: &Path) -> Result<Zeroizing<Vec<u8>>, SealingKeyError> {
    let io = |doing| move |source| SealingKeyError::Io { doing, path: path.to_path_buf(), source };
    let mut secret = Zeroizing::new(vec![0; KEY_LENGTH]);
    rand::fill(&mut secret).map_err(|_| SealingKeyError::NoRandomness)?;
    let draft = path.with_extension("draft");
    // A draft left by a crash keeps its own mode, so it must go first.
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io("clear a draft of")(error)),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(io("make"))?;
    file.write_all(&secret).and_then(|()| file.sync_all()).map_err(io("write"))?;
    std::fs::rename(&draft, path).map_err(io("put in place"))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("make durable"))?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const BOUND: Bound<'static> = Bound { group: "prod", path: "kv/certd/pending/prod/web", version: 3 };

    fn opened(key: &SealingKey, bound: Bound<'_>, sealed: &str) -> Option<Vec<u8>> {
        key.open(bound, sealed).map(|plain| plain.to_vec())
    }

    #[test]
    fn a_record_opens_with_its_key_at_its_place_and_nowhere_else() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let key = SealingKey::of_instance(one.path()).unwrap();
        let sealed = key.seal(BOUND, b"a record").unwrap();
        let again = SealingKey::of_instance(one.path()).unwrap();
        assert_eq!(opened(&again, BOUND, &sealed).unwrap(), b"a record", "after a restart, too");
        assert_eq!(opened(&SealingKey::of_instance(other.path()).unwrap(), BOUND, &sealed), None);
        for elsewhere in [
            Bound { group: "dev", ..BOUND },
            Bound { path: "kv/certd/pending/prod/api", ..BOUND },
            Bound { version: 4, ..BOUND },
            Bound { group: "prodk", path: &BOUND.path[1..], ..BOUND },
        ] {
            assert_eq!(opened(&key, elsewhere, &sealed), None, "{elsewhere:?}");
        }
        assert_ne!(key.seal(BOUND, b"a record").unwrap(), sealed, "each has its own salt and nonce");
    }

    #[test]
    fn a_record_does_not_open_when_any_byte_is_changed_or_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let key = SealingKey::of_instance(dir.path()).unwrap();
        let bytes = BASE64.decode(key.seal(BOUND, b"a record").unwrap()).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(opened(&key, BOUND, &BASE64.encode(&changed)), None, "{at}");
            assert_eq!(opened(&key, BOUND, &BASE64.encode(&bytes[..at])), None, "{at}");
        }
        assert_eq!(opened(&key, BOUND, "no base64!"), None);
    }

    #[test]
    fn the_key_of_an_instance_is_private_and_a_damaged_one_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        SealingKey::of_instance(dir.path()).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        std::fs::write(&file, b"half").unwrap();
        SealingKey::of_instance(dir.path()).unwrap();
        assert_eq!(std::fs::read(&file).unwrap().len(), KEY_LENGTH);
    }

    #[test]
    fn a_shared_key_that_is_weak_or_open_to_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("shared");
        let random = "fY0m3xC8vQ1kZr5tLw7sNb2pHd6gJa9eUi4oRcTyXzE=";
        let hex = "0f1e2d3c4b5a69788796a5b4c3d2e1f00123456789abcdeffedcba9876543210";
        let weak = "it holds less than 32 random bytes: make one with `openssl rand -base64 32`";
        for (text, mode, expected) in [
            (format!("{random}\n"), 0o600, None),
            (random.to_string(), 0o440, None),
            (hex.to_string(), 0o600, None),
            (hex[..32].to_string(), 0o600, Some(weak)),
            ("changeme".to_string(), 0o600, Some(weak)),
            ("x".repeat(64), 0o600, Some(weak)),
            (" \n".to_string(), 0o600, Some("it is empty: make one with `openssl rand -base64 32`")),
            (
                random.to_string(),
                0o604,
                Some("every user of this host may read or write it: chmod o= it, and make a new key"),
            ),
        ] {
            std::fs::write(&file, &text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let why = match SealingKey::of_group(&file) {
                Ok(key) => {
                    assert!(key.is_shared);
                    None
                }
                Err(SealingKeyError::Unusable { why, .. }) => Some(why),
                Err(error) => panic!("{error:?}"),
            };
            assert_eq!(why, expected, "{} signs, {mode:o}", text.len());
        }
        let Err(error) = SealingKey::of_group(Path::new("/dev/zero")) else { panic!("a device is no key") };
        assert_eq!(error.to_string(), "not usable to seal pending keys: /dev/zero: it is no regular file");
    }
}
