//! Keystores in secrets are opened by passwords, which may be kept in other secrets.

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::layout::Layout;
use super::layout::keystores::{Elsewhere, Found};
use super::{Fields, KvRead, Vault, VaultError};
use crate::domain::inventory::Location;
use crate::pki::keystore::Password;
use crate::pki::{FieldName, NotUnderstood, sha256};

static OPENING: Semaphore = Semaphore::const_new(1);

/// A secret with keystores, and the passwords to open them with.
pub struct Closed {
    layout: Layout,
    found: Found,
}

impl Closed {
    /// What opening depends on. `None` without a keystore, or where a password is missing: to open it costs nothing.
    pub fn digest(&self, fields: &Fields) -> Option<[u8; 32]> {
        if !self.layout.has_keystores() {
            return None;
        }
        let mut text = Vec::new();
        let mut part = |bytes: &[u8]| {
            text.extend(bytes.len().to_be_bytes());
            text.extend(bytes);
        };
        for (name, value) in fields {
            part(name.as_bytes());
            part(value.get().as_bytes());
        }
        for password in self.found.values() {
            part(password.as_ref().ok()?.0.as_bytes());
        }
        let text = Zeroizing::new(text);
        Some(sha256(&text))
    }

    /// Opens the keystores of the secret that it was found in.
    pub async fn open(self, fields: &Fields) -> Layout {
        let Self { mut layout, found } = self;
        if !layout.has_keystores() {
            return layout;
        }
        let closed = layout.clone();
        let own = fields.clone();
        // Passwords are made to take long. One at a time, so that the other cores are left to everything else.
        let turn = OPENING.acquire().await;
        let opening = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            layout.open(&own, &found);
            layout
        });
        // An end of the program stops it, and so would a fault in a library that reads what others wrote.
        opening.await.unwrap_or(closed)
    }
}

impl Vault {
    /// The layout of `fields`, which were read at `path`, with its keystores open or with the reasons why they are not.
    /// `None` for a secret that keeps something else than a certificate.
    pub async fn layout(&self, path: &str, fields: &Fields) -> Result<Option<Layout>, VaultError> {
        match self.closed(path, fields).await? {
            Some(closed) => Ok(Some(closed.open(fields).await)),
            None => Ok(None),
        }
    }

    /// The same with its keystores closed.
    pub async fn closed(&self, path: &str, fields: &Fields) -> Result<Option<Closed>, VaultError> {
        let Some(layout) = Layout::find(fields) else { return Ok(None) };
        let mut found = Found::new();
        for place in layout.elsewhere() {
            let password = self.password(path, &place).await?;
            found.insert(place, password);
        }
        Ok(Some(Closed { layout, found }))
    }

    /// Only of the same mount: certd may read more than whoever wrote this secret. By a path that leads elsewhere they
    /// would have it use, and seal a keystore for them with, what they may not read.
    async fn password(&self, path: &str, place: &Elsewhere) -> Result<Result<Password, NotUnderstood>, VaultError> {
        let mount = self.mount_of(path).await?.path;
        let named_by = FieldName::of(&place.named_by);
        if !place.path.trim_start_matches('/').starts_with(&format!("{mount}/")) {
            return Ok(Err(NotUnderstood::PasswordElsewhere { below: FieldName::of(&format!("{mount}/")), named_by }));
        }
        let there = Location::Secret { vault: self.name.clone(), path: place.path.clone(), part: None };
        let read = self
            .kv_read(&place.path)
            .await
            .map_err(|source| VaultError::Password { place: there.to_string(), source: Box::new(source) })?;
        let data = match read {
            KvRead::Present { data, .. } => data,
            KvRead::Absent { .. } => return Ok(Err(NotUnderstood::PasswordGone(named_by))),
        };
        let text = data.get(&place.field).and_then(|value| serde_json::from_str::<String>(value.get()).ok());
        Ok(text.map(|text| Password(text.into())).ok_or(NotUnderstood::PasswordUnnamed(named_by)))
    }
}
