//! Every leaf that the CA signed, one file each in `issued/`, until it has ended.

use std::path::{Path, PathBuf};

use super::files;
use crate::domain::cert::KeyDigest;
use crate::domain::time::Timestamp;
use crate::failpoint;
use crate::issuer::IssuerError;
use crate::pki::bundle::Bundle;
use crate::pki::read;

pub struct Register {
    directory: PathBuf,
}

impl Register {
    pub fn new(ca: &Path) -> Self {
        Self { directory: ca.join("issued") }
    }

    /// Durable when it returns. Those that have ended by `now` are dropped.
    pub fn note(&self, der: &[u8], pem: &str, now: Timestamp) -> Result<(), IssuerError> {
        let leaf =
            read::certificate(der).map_err(|e| super::unmade("read a certificate back that the CA signed", e))?;
        files::make_directory(&self.directory)?;
        self.drop_ended(now)?;
        failpoint::reached("ca_before_register");
        // Its end is in the name, so that none need be opened to see whether it has ended.
        let name = format!("{}-{}-{}.pem", key_text(leaf.public_key), leaf.not_after.0, leaf.serial);
        files::keep(&self.directory.join(name), pem.as_bytes(), 0o600)?;
        failpoint::reached("ca_after_register");
        Ok(())
    }

    /// The DER of the newest one for this key.
    pub fn find(&self, key: KeyDigest) -> Result<Option<Vec<u8>>, IssuerError> {
        let begins = key_text(key);
        let mut newest: Option<(Timestamp, Vec<u8>)> = None;
        for path in self.leaves()? {
            if !name(&path).starts_with(&begins) {
                continue;
            }
            if let Some((der, leaf)) = leaf(&path)?
                && leaf.public_key == key
                && newest.as_ref().is_none_or(|(from, _)| *from <= leaf.not_before)
            {
                newest = Some((leaf.not_before, der));
            }
        }
        Ok(newest.map(|(_, der)| der))
    }

    fn drop_ended(&self, now: Timestamp) -> Result<(), IssuerError> {
        let has_ended = |path: &PathBuf| {
            name(path).split('-').nth(1).and_then(|end| end.parse().ok()).is_some_and(|end: i64| end <= now.0)
        };
        self.leaves()?.iter().filter(|path| has_ended(path)).try_for_each(|path| files::remove(path))
    }

    fn leaves(&self) -> Result<Vec<PathBuf>, IssuerError> {
        let mut all = files::list(&self.directory)?;
        all.retain(|path| path.extension().is_some_and(|it| it == "pem"));
        Ok(all)
    }
}

/// `None` for a file that holds no certificate: it is not certd's, and left alone.
fn leaf(path: &Path) -> Result<Option<(Vec<u8>, crate::domain::cert::Certificate)>, IssuerError> {
    let bytes = files::read(path)?;
    let ders = Bundle::parse(&bytes).map(|bundle| bundle.certificates).unwrap_or_default();
    Ok(ders.into_iter().next().and_then(|der| read::certificate(&der).ok().map(|leaf| (der, leaf))))
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn key_text(key: KeyDigest) -> String {
    key.to_string().chars().take(32).collect()
}
