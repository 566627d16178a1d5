//! What certd leaves beside a secret besides its fields: custom metadata, and the deletion of a version of its own.

use std::collections::BTreeMap;

use rustify_derive::Endpoint;

use super::transport::Operation;
use super::{Vault, VaultError};

/// The custom metadata of a secret (`PATCH /:mount/metadata/:path`), where each name is at most 128 bytes long and
/// each text 512.
pub type Notes = BTreeMap<String, String>;

/// Under which name something is noted of one object of a secret, or of the whole.
pub fn note_name(name: &str, object: Option<&str>) -> String {
    object.map_or_else(|| name.to_string(), |object| format!("{name}#{object}"))
}

impl Vault {
    /// Writes these beside whatever somebody else noted there, and reads them back. On KV version 2 alone.
    pub async fn note(&self, path: &str, object: Option<&str>, notes: &Notes) -> Result<(), VaultError> {
        let notes: Notes = notes.iter().map(|(name, text)| (note_name(name, object), text.clone())).collect();
        let (mount, below) = self.versioned(path).await?;
        self.kv(Operation::Note, PatchMetadata { mount, path: below, custom_metadata: notes.clone() }).await?;
        self.read_back_notes(path, &notes).await
    }

    /// Does as [`Vault::note`] does of a whole secret, and makes one without a version where there is none
    /// (`POST /:mount/metadata/:path`).
    pub async fn note_at_any(&self, path: &str, notes: &Notes) -> Result<(), VaultError> {
        let (mount, below) = self.versioned(path).await?;
        let custom_metadata = notes.clone();
        match self.history(path).await? {
            Some(_) => {
                let endpoint = PatchMetadata { mount, path: below, custom_metadata };
                self.kv(Operation::Note, endpoint).await?;
            }
            None => {
                let endpoint = MakeMetadata { mount, path: below, custom_metadata };
                self.kv(Operation::Note, endpoint).await?;
            }
        }
        self.read_back_notes(path, notes).await
    }

    async fn read_back_notes(&self, path: &str, notes: &Notes) -> Result<(), VaultError> {
        let noted = self.history(path).await?.map(|history| history.custom_metadata).unwrap_or_default();
        match notes.iter().all(|(name, text)| noted.get(name) == Some(text)) {
            true => Ok(()),
            false => Err(VaultError::NotNoted),
        }
    }

    /// Deletes one version so that it can be brought back (`POST /:mount/delete/:path`). On KV version 2 alone.
    pub async fn delete_version(&self, path: &str, version: u64) -> Result<(), VaultError> {
        let (mount, path) = self.versioned(path).await?;
        self.kv(Operation::Delete, DeleteVersions { mount, path, versions: vec![version] }).await.map(|_| ())
    }

    /// Destroys versions for good (`PUT /:mount/destroy/:path`); those that are gone already are no error. The next
    /// version still counts on. On KV version 2 alone.
    pub async fn destroy_versions(&self, path: &str, versions: Vec<u64>) -> Result<(), VaultError> {
        let (mount, path) = self.versioned(path).await?;
        self.kv(Operation::Delete, DestroyVersions { mount, path, versions }).await.map(|_| ())
    }
}

#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/destroy/{self.path}", method = "PUT")]
struct DestroyVersions {
    #[endpoint(skip)]
    mount: String,
    #[endpoint(skip)]
    path: String,
    versions: Vec<u64>,
}

#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/metadata/{self.path}", method = "PATCH")]
struct PatchMetadata {
    #[endpoint(skip)]
    mount: String,
    #[endpoint(skip)]
    path: String,
    custom_metadata: Notes,
}

#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/metadata/{self.path}", method = "POST")]
struct MakeMetadata {
    #[endpoint(skip)]
    mount: String,
    #[endpoint(skip)]
    path: String,
    custom_metadata: Notes,
}

#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/delete/{self.path}", method = "POST")]
struct DeleteVersions {
    #[endpoint(skip)]
    mount: String,
    #[endpoint(skip)]
    path: String,
    versions: Vec<u64>,
}
