//! Two files that no rename can switch together: allowed only where the operator says so.

use std::io;
use std::path::Path;

use super::rights::Content;
use super::{Contents, Texts, disk, not_understood};
use crate::domain::inventory::Obstacle;
use crate::failpoint;
use crate::pki::bundle::Bundle;
use crate::store::StoreError;

/// A private key alone is nothing certified yet: a write that a crash cut in two leaves just that.
pub(super) fn look(certificate: &Path, private_key: &Path) -> Result<Option<Contents>, Obstacle> {
    let Some(bytes) = disk::read(certificate)? else { return Ok(None) };
    let mut bundle = Bundle::parse(&bytes).map_err(|why| not_understood(certificate, why))?;
    if let Some(keys) = key_file(private_key)? {
        bundle.add(keys);
    }
    Contents::of(&bundle, certificate).map(Some)
}

/// Only its keys, for a file of keys may hold certificates beside them.
fn key_file(path: &Path) -> Result<Option<Bundle>, Obstacle> {
    let Some(bytes) = disk::read(path)? else { return Ok(None) };
    let bundle = Bundle::parse(&bytes).map_err(|why| not_understood(path, why))?;
    match bundle.keys.is_empty() && bundle.unread_keys.is_empty() {
        true => Err(not_understood(path, "there is no private key in it")),
        false => Ok(Some(Bundle { certificates: Vec::new(), ..bundle })),
    }
}

/// The key first, as whoever reads both at the wrong moment then fails instead of serving the old pair's half.
pub(super) fn replace(certificate: &Path, private_key: &Path, new: &Texts) -> Result<(), StoreError> {
    insist_on_own_key(certificate, private_key, new)?;
    let key = disk::Draft::new(private_key, &new.key, Content::PrivateKey)?;
    let chain = disk::Draft::new(certificate, &new.full_chain(), Content::Certificates)?;
    key.place()?;
    failpoint::reached("loose_key_placed");
    chain.place()
}

/// A key without a certificate may be waiting for one that somebody else asked for.
fn insist_on_own_key(certificate: &Path, private_key: &Path, new: &Texts) -> Result<(), StoreError> {
    match certificate.symlink_metadata() {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(disk::failed("look at", certificate)(error)),
    }
    match key_file(private_key).map_err(|obstacle| StoreError::Held(obstacle.message))? {
        Some(bundle) if bundle.keys.first().is_none_or(|key| key.public != new.public) => {
            Err(StoreError::Held(format!(
                "{} holds a private key without a certificate, which would be lost: move it away",
                private_key.display()
            )))
        }
        Some(_) | None => Ok(()),
    }
}
