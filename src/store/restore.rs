//! Going back: what an older version of a secret held becomes a new version, by check-and-set and after
//! checks of its own.

use std::sync::Arc;
use std::time::Instant;

use super::StoreError;
use crate::domain::inventory::{Location, Part};
use crate::domain::time::Timestamp;
use crate::pki::bundle::Kept;
use crate::vault::layout::Layout;
use crate::vault::versions::{Certified, gone};
use crate::vault::{Fields, Vault, VaultError};

/// A version that may be written again, and what it replaces.
pub struct Restore {
    vault: Arc<Vault>,
    location: Location,
    path: String,
    pub from: u64,
    /// What is to be written: where one object goes back, the others stay as they are.
    pub fields: Fields,
    pub kept: Kept,
    pub current: Current,
}

/// What is there now.
pub struct Current {
    pub number: u64,
    /// Empty where it was deleted or destroyed.
    pub fields: Fields,
    pub holds: Holds,
}

pub enum Holds {
    Nothing,
    Certificate(Box<Kept>),
    /// Of a certificate's fields, which cannot be read. A person who goes back may mean just that.
    NotUnderstood(String),
}

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Everything is as it was.
    #[error(transparent)]
    NotWritten(StoreError),
    /// It may have been written, and reading it back did not show so.
    #[error("it is not known whether it was written; look by `certd history`")]
    Unproven(#[source] StoreError),
}

impl Restore {
    /// Reads both versions and changes nothing. `StoreError::Held` says why the old one is not written again.
    /// `object` within the secret, where it holds several certificates.
    pub async fn plan(
        vault: Arc<Vault>,
        path: String,
        object: Option<&str>,
        from: u64,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let part = object.map(Part::from);
        let location = Location::Secret { vault: vault.name.clone(), path: path.clone(), part };
        let failed = |source: VaultError| failed(format!("read {location}"), source);
        vault.catch_up(Instant::now()).await.map_err(failed)?;
        let old = vault.version(&path, Some(from)).await.map_err(failed)?;
        let there = old.as_ref().map(|old| old.version);
        let Some(fields) = old.and_then(|old| old.fields) else {
            return Err(StoreError::Held(gone(&location, from, there)));
        };
        let held = |why: String| StoreError::Held(format!("version {from} of {location}: {why}"));
        let certified = vault.certificate(&path, object, &fields).await.map_err(failed)?;
        let (layout, kept) = certified
            .map_err(|why| why.to_string())
            .and_then(|certified| fit(now, &fields, certified))
            .map_err(held)?;
        let Some(newest) = vault.version(&path, None).await.map_err(failed)? else {
            return Err(StoreError::Held(format!("{location} is gone")));
        };
        let fields_now = newest.fields.unwrap_or_default();
        let layout_now = vault.layout(&path, &fields_now).await.map_err(failed)?;
        let holds = holds(&fields_now, layout_now, object);
        let holds = holds.map_err(|why| StoreError::Held(format!("{location}: {why}")))?;
        let fields = match object {
            Some(_) => layout.moved(&fields, &fields_now).map_err(|why| held(why.to_string()))?,
            None => fields,
        };
        let current = Current { number: newest.number, fields: fields_now, holds };
        Ok(Self { vault, location, path, from, fields, kept, current })
    }

    /// The current version holds the same, field by field.
    pub fn changes_nothing(&self) -> bool {
        is_same(&self.fields, &self.current.fields)
    }

    /// Writes if the current version still is the one that was planned on, and reads back; the new version.
    pub async fn carry_out(&self) -> Result<u64, RestoreError> {
        match self.vault.kv_write(&self.path, self.fields.clone(), self.current.number).await {
            Ok(version) => self.prove(version).await,
            Err(error) => self.recognise(error).await,
        }
    }

    /// A write whose answer was lost may have been carried out.
    async fn recognise(&self, error: VaultError) -> Result<u64, RestoreError> {
        let is_conflict = matches!(error, VaultError::CasMismatch { .. });
        let is_decided = error.is_decided();
        if (is_conflict || !is_decided)
            && let Ok(version) = self.prove(self.current.number + 1).await
        {
            return Ok(version);
        }
        let why = match is_conflict {
            true => {
                StoreError::Conflict(format!("{}: {error}; look by `certd history`, then try again", self.location()))
            }
            false => failed(format!("write {}", self.location()), error),
        };
        Err(if is_decided { RestoreError::NotWritten(why) } else { RestoreError::Unproven(why) })
    }

    async fn prove(&self, version: u64) -> Result<u64, RestoreError> {
        let unproven = |source| RestoreError::Unproven(failed(format!("read back {}", self.location()), source));
        let read = self.vault.version(&self.path, Some(version)).await.map_err(unproven)?;
        match read.and_then(|read| read.fields).is_some_and(|fields| is_same(&fields, &self.fields)) {
            true => Ok(version),
            false => {
                let why = format!("version {version} of {} is not what was written", self.location());
                Err(RestoreError::Unproven(StoreError::Conflict(why)))
            }
        }
    }

    fn location(&self) -> &Location {
        &self.location
    }
}

/// What is asked of anything that certd stores, as far as a stored version can show it.
fn fit(now: Timestamp, fields: &Fields, (layout, kept): Certified) -> Result<Certified, String> {
    layout.insist_writable(fields).map_err(|why| why.to_string())?;
    let kept = kept.proven();
    let leaf = &kept.chain.leaf;
    let why = if kept.key_digest() != Some(leaf.public_key) {
        "its key does not belong to its certificate".to_string()
    } else if leaf.not_after <= now {
        format!("its certificate ended on {}", leaf.not_after)
    } else if now < leaf.not_before {
        format!("its certificate begins on {} only", leaf.not_before)
    } else {
        return Ok((layout, kept));
    };
    Err(why)
}

/// The version that is replaced stays in the history, so a damaged certificate is no reason to refuse; a
/// secret of another kind is.
fn holds(fields: &Fields, layout: Option<Layout>, object: Option<&str>) -> Result<Holds, String> {
    let other = "it holds other fields and no certificate now, and certd does not write over them";
    let layout = match layout {
        _ if fields.is_empty() => return Ok(Holds::Nothing),
        None => return Err(other.to_string()),
        Some(layout) => layout.part(object),
    };
    Ok(match layout {
        // Others may have come since, which the old content does not have.
        Err(why) => return Err(why.to_string()),
        Ok(None) => Holds::Nothing,
        Ok(Some(layout)) => match layout.read(fields) {
            Ok(kept) => Holds::Certificate(Box::new(kept)),
            Err(why) => Holds::NotUnderstood(why.to_string()),
        },
    })
}

/// As Vault wrote them out, to the byte.
fn is_same(one: &Fields, other: &Fields) -> bool {
    one.iter().map(|(name, value)| (name, value.get())).eq(other.iter().map(|(name, value)| (name, value.get())))
}

fn failed(doing: String, source: VaultError) -> StoreError {
    StoreError::Failed { doing, source: Box::new(source) }
}
