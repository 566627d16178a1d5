//! One combined PEM: what a proxy reads in one go.

use std::path::Path;

use super::contents::{Contents, Role, Texts};
use super::rights::Content;
use super::{disk, not_understood};
use crate::domain::inventory::Obstacle;
use crate::pki::bundle::Bundle;
use crate::store::StoreError;

pub(super) fn look(path: &Path) -> Result<Option<Contents>, Obstacle> {
    let Some(bytes) = disk::read(path)? else { return Ok(None) };
    let bundle = Bundle::parse(&bytes).map_err(|why| not_understood(path, why))?;
    Contents::of(&bundle, path, vec![(Role::Bundle, Some(bytes))]).map(Some)
}

pub(super) fn replace(path: &Path, new: &Texts) -> Result<(), StoreError> {
    disk::Draft::new(path, new.of(Role::Bundle), Content::PrivateKey)?.place()
}
