//! Keystores in secrets are opened by passwords, which may be kept in other secrets.

use tokio::sync::Semaphore;

use super::layout::Layout;
use super::layout::keystores::{Elsewhere, Found};
use super::{Fields, KvRead, Vault, VaultError};
use crate::domain::inventory::Location;
use crate::pki::keystore::Password;
use crate::pki::{FieldName, NotUnderstood};

static OPENING: Semaphore = Semaphore::const_new(1);

impl Vault {
    /// The layout of `fields`, which were read at `path`, with its keystores open or with the reasons why they are not.
    /// `None` for a secret that keeps something else than a certificate.
    pub async fn layout(&self, path: &str, fields: &Fields) -> Result<Option<Layout>, VaultError> {
        let Some(mut layout) = Layout::find(fields) else { return Ok(None) };
        if !layout.has_keystores() {
            return Ok(Some(layout));
        }
        let mut found = Found::new();
        for place in layout.elsewhere() {
            let password = self.password(path, &place).await?;
            found.insert(place, password);
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
        Ok(Some(opening.await.unwrap_or(closed)))
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
