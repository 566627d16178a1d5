//! What a PKI mount tells of itself: its issuers, what they issued and revoked, and their revocation lists.

use std::collections::{BTreeMap, BTreeSet};

use rustify::endpoint::Endpoint;
use rustify_derive::Endpoint;
use serde::Deserialize;

use super::endpoint::{ListAnswer, RevokeCertificate};
use super::transport::{Operation, Reply, locked};
use super::{Mount, Vault, VaultError, checked};
use crate::domain::hidden;
use crate::domain::inventory::with_colons;
use crate::domain::text::printable;
use crate::domain::time::Timestamp;

/// One issuer of a mount, of which there may be several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PkiIssuer {
    pub id: String,
    /// Its name, unique within the mount, or its id where nobody named it.
    pub label: String,
    /// One that was only imported, to complete a chain, signs nothing here and has no list.
    pub has_key: bool,
}

/// A certificate as a mount keeps it, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PkiCertificate {
    pub pem: String,
    pub revoked_at: Option<Timestamp>,
}

impl Vault {
    /// In the order of their ids; empty for a mount without a CA. Readable without rights.
    pub async fn pki_issuers(&self, mount: &str) -> Result<Vec<PkiIssuer>, VaultError> {
        let reply = self.pki(mount, Operation::List, ListAt { path: at(mount, "issuers")? }).await?;
        if !reply.found {
            return Ok(Vec::new());
        }
        let issuers = self.data::<IssuersAnswer>(&reply)?.key_info;
        let issuer = |(id, info): (String, IssuerInfo)| PkiIssuer {
            label: if info.issuer_name.is_empty() { id.clone() } else { info.issuer_name },
            has_key: !info.key_id.is_empty(),
            id,
        };
        Ok(issuers.into_iter().map(issuer).collect())
    }

    /// An issuer's certificate and then its chain, in PEM; `None` where it is no longer there. Readable without rights.
    pub async fn pki_issuer(&self, mount: &str, id: &str) -> Result<Option<String>, VaultError> {
        let path = at(mount, &format!("issuer/{id}/json"))?;
        let reply = self.pki(mount, Operation::Read, ReadAt { path }).await?;
        if !reply.found {
            return Ok(None);
        }
        let IssuerAnswer { certificate, ca_chain } = self.data(&reply)?;
        Ok(Some([vec![certificate], ca_chain.unwrap_or_default()].concat().join("\n")))
    }

    /// An issuer's revocation list in PEM; `None` for an issuer that may sign none. Readable without rights.
    pub async fn pki_crl(&self, mount: &str, id: &str) -> Result<Option<String>, VaultError> {
        let path = at(mount, &format!("issuer/{id}/crl"))?;
        match self.pki(mount, Operation::Read, ReadAt { path }).await {
            Ok(reply) if reply.found => Ok(Some(self.data::<CrlAnswer>(&reply)?.crl).filter(|crl| !crl.is_empty())),
            Ok(_) => Ok(None),
            Err(VaultError::Server { words, .. }) if words.contains("unable to find CRL for issuer") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The serial numbers of all that a mount issued and still keeps: in lower-case hexadecimal without separators, as
    /// in `Certificate::serial`. What a role with `no_store` let it sign is not among them.
    pub async fn pki_serials(&self, mount: &str) -> Result<BTreeSet<String>, VaultError> {
        self.serials(mount, "certs").await
    }

    /// Those of them that were revoked.
    pub async fn pki_revoked(&self, mount: &str) -> Result<BTreeSet<String>, VaultError> {
        self.serials(mount, "certs/revoked").await
    }

    async fn serials(&self, mount: &str, list: &str) -> Result<BTreeSet<String>, VaultError> {
        let reply = self.pki(mount, Operation::List, ListAt { path: at(mount, list)? }).await?;
        match reply.found {
            true => Ok(self.data::<ListAnswer>(&reply)?.keys.iter().map(|serial| plain(serial)).collect()),
            false => Ok(BTreeSet::new()),
        }
    }

    /// One issued certificate; `None` where the mount keeps none of this serial number. Readable without rights.
    pub async fn pki_certificate(&self, mount: &str, serial: &str) -> Result<Option<PkiCertificate>, VaultError> {
        let path = at(mount, &format!("cert/{}", with_colons(serial)))?;
        let reply = self.pki(mount, Operation::Read, ReadAt { path }).await?;
        if !reply.found {
            return Ok(None);
        }
        let CertificateAnswer { certificate, revocation_time } = self.data(&reply)?;
        let revoked_at = (revocation_time != 0).then_some(Timestamp(revocation_time));
        Ok(Some(PkiCertificate { pem: certificate, revoked_at }))
    }

    /// A certificate that is revoked already stays as it is. That one is revoked now is read back, by whoever asks for it.
    pub async fn pki_revoke(&self, mount: &str, serial: &str) -> Result<(), VaultError> {
        let endpoint = RevokeCertificate { mount: checked(mount)?.to_string(), serial_number: with_colons(serial) };
        self.pki(mount, Operation::RevokeCertificate, endpoint).await.map(|_| ())
    }

    /// What is mounted there is a PKI, as far as certd may know.
    pub async fn insist_on_pki(&self, mount: &str) -> Result<(), VaultError> {
        match self.mount_of(mount).await {
            Ok(found) if found.kind == "pki" && found.path == mount.trim_matches('/') => Ok(()),
            Ok(found) => Err(other_mount(mount, &found)),
            // Most of what there is to see is shown to everybody.
            Err(VaultError::Denied { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn pki<E: Endpoint>(&self, mount: &str, operation: Operation, endpoint: E) -> Result<Reply, VaultError> {
        self.transport.call(operation, endpoint).await.map_err(|error| match error {
            VaultError::NoMount { words, .. } => {
                locked(&self.mounts).clear();
                VaultError::NoPki { mount: printable(mount), words }
            }
            other => other,
        })
    }
}

fn other_mount(mount: &str, found: &Mount) -> VaultError {
    let words = format!("`{}` is a mount of {}", hidden::words(&found.path), hidden::words(&found.kind));
    VaultError::NoPki { mount: printable(mount), words }
}

fn at(mount: &str, below: &str) -> Result<String, VaultError> {
    Ok(checked(&format!("{}/{below}", checked(mount)?))?.to_string())
}

/// `1F:a0` or `1f-a0` as `1fa0`.
fn plain(serial: &str) -> String {
    serial.chars().filter(char::is_ascii_hexdigit).map(|digit| digit.to_ascii_lowercase()).collect()
}

#[derive(Endpoint)]
#[endpoint(path = "{self.path}")]
struct ReadAt {
    #[endpoint(skip)]
    path: String,
}

#[derive(Endpoint)]
#[endpoint(path = "{self.path}", method = "LIST")]
struct ListAt {
    #[endpoint(skip)]
    path: String,
}

#[derive(Deserialize)]
struct IssuersAnswer {
    key_info: BTreeMap<String, IssuerInfo>,
}

#[derive(Deserialize)]
struct IssuerInfo {
    #[serde(default)]
    issuer_name: String,
    #[serde(default)]
    key_id: String,
}

#[derive(Deserialize)]
struct IssuerAnswer {
    certificate: String,
    ca_chain: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct CrlAnswer {
    crl: String,
}

#[derive(Deserialize)]
struct CertificateAnswer {
    certificate: String,
    /// Seconds since 1970; zero for one that was not revoked.
    #[serde(default)]
    revocation_time: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_told_as_certificates_have_them_and_asked_for_as_vault_has_them() {
        assert_eq!(plain("1F:a0:03"), "1fa003");
        assert_eq!(plain("1f-a0-03"), "1fa003");
        assert_eq!(with_colons("1fa003"), "1f:a0:03");
        assert_eq!(with_colons("1fa"), "1f:a");
        assert_eq!(with_colons(""), "");
    }
}
