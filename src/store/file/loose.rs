//! Two files that no rename can switch together: allowed only where the operator says so.

use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::contents::{Contents, Role, Texts};
use super::rights::Content;
use super::{disk, not_understood};
use crate::domain::inventory::Obstacle;
use crate::failpoint;
use crate::pki::bundle::Bundle;
use crate::store::StoreError;

/// A private key alone is nothing certified yet: a write that a crash cut in two leaves just that.
pub(super) fn look(certificate: &Path, private_key: &Path) -> Result<Option<Contents>, Obstacle> {
    let Some(bytes) = disk::read(certificate)? else { return Ok(None) };
    let mut bundle = Bundle::parse(&bytes).map_err(|why| not_understood(certificate, why))?;
    let key = key_file(private_key)?;
    let key = key.map(|(keys, bytes)| {
        bundle.add(keys);
        bytes
    });
    Contents::of(&bundle, certificate, vec![(Role::FullChain, Some(bytes)), (Role::Key, key)]).map(Some)
}

/// What was read of a file of keys, and its bytes.
type KeyFile = (Bundle, Zeroizing<Vec<u8>>);

/// Only its keys, for a file of keys may hold certificates beside them.
fn key_file(path: &Path) -> Result<Option<KeyFile>, Obstacle> {
    let Some(bytes) = disk::read(path)? else { return Ok(None) };
    let bundle = Bundle::parse(&bytes).map_err(|why| not_understood(path, why))?;
    match bundle.keys.is_empty() && bundle.unread_keys.is_empty() {
        true => Err(not_understood(path, "there is no private key in it")),
        false => Ok(Some((Bundle { certificates: Vec::new(), ..bundle }, bytes))),
    }
}

/// The key first, as whoever reads both at the wrong moment then fails instead of serving the old pair's half.
pub(super) fn replace(certificate: &Path, private_key: &Path, new: &Texts) -> Result<(), StoreError> {
    let key = match is_waiting(certificate, private_key, new)? {
        true => None,
        false => Some(disk::Draft::new(private_key, new.of(Role::Key), Content::PrivateKey)?),
    };
    let content = if new.has_key(Role::FullChain) { Content::PrivateKey } else { Content::Certificates };
    let chain = disk::Draft::new(certificate, new.of(Role::FullChain), content)?;
    key.map_or(Ok(()), disk::Draft::place)?;
    failpoint::reached("loose_key_placed");
    chain.place()
}

/// Whether the new key is there already, without its certificate. Another may be waiting for one that somebody else asked
/// for.
fn is_waiting(certificate: &Path, private_key: &Path, new: &Texts) -> Result<bool, StoreError> {
    match certificate.symlink_metadata() {
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(disk::failed("look at", certificate)(error)),
    }
    match key_file(private_key).map_err(|obstacle| StoreError::Held(obstacle.message))? {
        Some((bundle, _)) if bundle.keys.first().is_none_or(|key| key.public != new.public) => {
            Err(StoreError::Held(format!(
                "{} holds a private key without a certificate, which would be lost: move it away",
                private_key.display()
            )))
        }
        Some(_) => Ok(true),
        None => Ok(false),
    }
}
