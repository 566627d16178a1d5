//! One combined PEM: what a proxy reads in one go.

use std::path::Path;

use zeroize::Zeroizing;

use super::rights::Content;
use super::{Contents, Texts, disk, not_understood};
use crate::domain::inventory::Obstacle;
use crate::pki::bundle::Bundle;
use crate::store::StoreError;

pub(super) fn look(path: &Path) -> Result<Option<Contents>, Obstacle> {
    let Some(bytes) = disk::read(path)? else { return Ok(None) };
    let bundle = Bundle::parse(&bytes).map_err(|why| not_understood(path, why))?;
    Contents::of(&bundle, path).map(Some)
}

pub(super) fn replace(path: &Path, new: &Texts) -> Result<(), StoreError> {
    let text = Zeroizing::new([new.key.as_str(), &new.leaf, &new.intermediates].concat());
    disk::Draft::new(path, &text, Content::PrivateKey)?.place()
}
