//! Which instance of certd this is, and how long the claims of others have stood still.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const FILE: &str = "instance";

pub struct Claims {
    /// Of this state directory: random, made once. A restart is the same instance.
    pub instance: String,
    /// By place: the version that was seen last, and when it was seen first.
    seen: Mutex<BTreeMap<String, (u64, Instant)>>,
}

impl Claims {
    pub(super) fn open(state_dir: &Path) -> std::io::Result<Self> {
        let path = state_dir.join(FILE);
        let instance = match std::fs::read_to_string(&path) {
            Ok(text) if is_name(text.trim()) => text.trim().to_string(),
            Ok(_) => make(&path)?,
            Err(error) if error.kind() == ErrorKind::NotFound => make(&path)?,
            Err(error) => return Err(error),
        };
        Ok(Self { instance, seen: Mutex::default() })
    }

    /// Whether another's claim has not changed for so long. Measured by this host's own monotonic clock: what the
    /// other wrote of its time says nothing here.
    pub fn stood_still(&self, place: &str, version: u64, term: Duration) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (last, since) = seen.entry(place.to_string()).or_insert((version, now));
        if *last != version {
            (*last, *since) = (version, now);
        }
        now.duration_since(*since) >= term
    }

    /// What stands there next is seen for the first time.
    pub fn forget(&self, place: &str) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(place);
    }
}

pub(crate) fn is_name(text: &str) -> bool {
    text.len() == 16 && text.chars().all(|digit| digit.is_ascii_hexdigit())
}

fn make(path: &Path) -> std::io::Result<String> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| std::io::Error::other("no randomness"))?;
    let name = bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a text takes what is written to it");
        hex
    });
    let draft = path.with_extension("draft");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(name.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_keeps_its_name_and_another_has_another() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = Claims::open(one.path()).unwrap().instance;
        assert!(is_name(&name), "{name}");
        assert_eq!(Claims::open(one.path()).unwrap().instance, name);
        assert_ne!(Claims::open(other.path()).unwrap().instance, name);
        std::fs::write(one.path().join(FILE), "half").unwrap();
        assert!(is_name(&Claims::open(one.path()).unwrap().instance));
    }

    #[test]
    fn a_claim_stands_still_only_from_when_its_version_was_seen_first() {
        let dir = tempfile::tempdir().unwrap();
        let claims = Claims::open(dir.path()).unwrap();
        let term = Duration::from_millis(20);
        assert!(!claims.stood_still("a", 1, term));
        std::thread::sleep(term);
        assert!(claims.stood_still("a", 1, term));
        assert!(!claims.stood_still("b", 1, term), "another place");
        assert!(!claims.stood_still("a", 2, term), "it moved");
        assert!(claims.stood_still("a", 2, Duration::ZERO));
    }
}
