//! The ways in: what certd shows to Vault, and the token that it is given for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use vaultrs::api::auth::approle::requests::LoginWithApproleRequest;
use vaultrs::api::auth::kubernetes::requests::LoginWithKubernetesRequest;
use vaultrs::api::auth::oidc::requests::JWTLoginRequest;
use vaultrs::api::auth::userpass::requests::LoginRequest as LoginWithPasswordRequest;
use zeroize::Zeroizing;

use super::endpoint::{Answer, LoginWithCertificate, Unwrap};
use super::error::VaultError;
use super::token;
use super::transport::{Operation, Reply, Transport};
use crate::files::regular;

/// Secret-ids are 36 bytes, and tokens of Kubernetes about a thousand.
const LONGEST_CREDENTIAL: u64 = 64 * 1024;

/// However often a login fails or its token dies: Vault locks users out, and an audit log is read by people.
pub const LOGINS_APART: Duration = Duration::from_secs(60);

/// Where a pod finds the token of its service account.
pub const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How certd logs in. Files are read at each login, so that they may be replaced at any time.
#[derive(Clone, Debug)]
pub struct Login {
    pub way: Way,
    /// Below `auth/`.
    pub mount: String,
    /// The least time from one login to the next.
    pub apart: Duration,
}

#[derive(Clone, Debug)]
pub enum Way {
    AppRole {
        role_id_file: PathBuf,
        secret_id_file: PathBuf,
        /// The file holds a token that is exchanged, once, for the secret-id.
        is_wrapped: bool,
    },
    Userpass {
        username: String,
        password_file: PathBuf,
    },
    Jwt {
        /// `None` for the default role of the mount.
        role: Option<String>,
        jwt_file: PathBuf,
    },
    Kubernetes {
        role: String,
        jwt_file: PathBuf,
    },
    /// By the client certificate of the connection.
    Certificate {
        /// `None` for whichever matches.
        role: Option<String>,
    },
}

impl Way {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::AppRole { .. } => "approle",
            Self::Userpass { .. } => "userpass",
            Self::Jwt { .. } => "jwt",
            Self::Kubernetes { .. } => "kubernetes",
            Self::Certificate { .. } => "cert",
        }
    }
}

/// What a login or a renewal gives.
#[derive(Deserialize)]
pub(super) struct Granted {
    #[serde(deserialize_with = "wiped")]
    pub client_token: Zeroizing<String>,
    /// Seconds; 0 for a token that never ends.
    pub lease_duration: u64,
    pub renewable: bool,
}

#[derive(Deserialize)]
struct GrantedAnswer {
    auth: Granted,
}

/// A secret-id that was unwrapped stays good, and what it was wrapped in does not.
#[derive(Default)]
pub(super) struct Unwrapped(Option<(token::Stamp, Zeroizing<String>)>);

impl Login {
    pub(super) async fn ask(&self, transport: &Transport, unwrapped: &mut Unwrapped) -> Result<Granted, VaultError> {
        let mount = self.mount.clone();
        let reply = match &self.way {
            Way::AppRole { role_id_file, secret_id_file, is_wrapped } => {
                let secret_id = match is_wrapped {
                    true => unwrapped.secret_id(transport, secret_id_file).await?,
                    false => credential(secret_id_file).await?,
                };
                let (role_id, secret_id) = (credential(role_id_file).await?.to_string(), secret_id.to_string());
                transport.log_in(LoginWithApproleRequest { mount, role_id, secret_id }).await?
            }
            Way::Userpass { username, password_file } => {
                let (username, password) = (username.clone(), credential(password_file).await?.to_string());
                transport.log_in(LoginWithPasswordRequest { mount, username, password }).await?
            }
            Way::Jwt { role, jwt_file } => {
                let (role, jwt) = (role.clone(), credential(jwt_file).await?.to_string());
                transport.log_in(JWTLoginRequest { mount, jwt, role }).await?
            }
            Way::Kubernetes { role, jwt_file } => {
                let (role, jwt) = (role.clone(), credential(jwt_file).await?.to_string());
                transport.log_in(LoginWithKubernetesRequest { mount, role, jwt }).await?
            }
            Way::Certificate { role } => transport.log_in(LoginWithCertificate { mount, name: role.clone() }).await?,
        };
        granted(&reply)
    }
}

pub(super) fn granted(reply: &Reply) -> Result<Granted, VaultError> {
    Ok(reply.parse::<GrantedAnswer>()?.auth)
}

impl Unwrapped {
    async fn secret_id(&mut self, transport: &Transport, path: &Path) -> Result<Zeroizing<String>, VaultError> {
        let place = path.display().to_string();
        let metadata = tokio::fs::metadata(path).await;
        let stamp =
            token::stamp(&metadata.map_err(|source| VaultError::CredentialFile { place: place.clone(), source })?);
        if let Some((_, secret_id)) = self.0.as_ref().filter(|(of, _)| *of == stamp) {
            return Ok(secret_id.clone());
        }
        let wrapping = token::header(&credential(path).await?, &place)?;
        let reply = transport.exchange(Operation::Unwrap, Unwrap {}, Some(wrapping)).await;
        let reply = reply.map_err(|error| match error {
            VaultError::Refused { .. } | VaultError::Denied { .. } => {
                VaultError::Unwrap { place, source: Box::new(error) }
            }
            other => other,
        })?;
        let secret_id = reply.parse::<Answer<SecretId>>()?.data.ok_or_else(|| reply.not_vault())?.secret_id;
        self.0 = Some((stamp, secret_id.clone()));
        Ok(secret_id)
    }
}

#[derive(Deserialize)]
struct SecretId {
    #[serde(deserialize_with = "wiped")]
    secret_id: Zeroizing<String>,
}

fn wiped<'de, D: serde::Deserializer<'de>>(text: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(text).map(Zeroizing::new)
}

/// Without the space around it, which editors and `echo` leave.
async fn credential(path: &Path) -> Result<Zeroizing<String>, VaultError> {
    let place = path.display().to_string();
    let failed = |source| VaultError::CredentialFile { place: place.clone(), source };
    let text = regular::read_text_beside(path, LONGEST_CREDENTIAL).await.map_err(failed)?;
    let trimmed = text.trim();
    match trimmed.is_empty() {
        true => Err(VaultError::Credential { place, why: "it is empty" }),
        false => Ok(Zeroizing::new(trimmed.to_string())),
    }
}
