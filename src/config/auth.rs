//! The ways into a Vault, as the user writes them.

use serde::Deserialize;
use toml::Spanned;

use super::value::FilePath;

/// `auth.KIND`: how certd logs in for a token of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    Approle(Approle),
    Userpass(Userpass),
    Jwt(Jwt),
    Kubernetes(Kubernetes),
    Cert(Cert),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approle {
    pub role_id_file: FilePath,
    pub secret_id_file: FilePath,
    #[serde(default)]
    pub secret_id_is_wrapped: bool,
    pub mount: Option<Spanned<String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Userpass {
    pub username: Spanned<String>,
    pub password_file: FilePath,
    pub mount: Option<Spanned<String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// The default role of the mount where there is none.
    pub role: Option<String>,
    pub jwt_file: FilePath,
    pub mount: Option<Spanned<String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    pub role: String,
    pub jwt_file: Option<FilePath>,
    pub mount: Option<Spanned<String>>,
}

/// By the client certificate of the connection.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cert {
    pub role: Option<String>,
    pub mount: Option<Spanned<String>>,
}

impl Auth {
    /// Below `auth/`, where it is not the usual one.
    pub fn mount(&self) -> Option<&Spanned<String>> {
        match self {
            Self::Approle(it) => it.mount.as_ref(),
            Self::Userpass(it) => it.mount.as_ref(),
            Self::Jwt(it) => it.mount.as_ref(),
            Self::Kubernetes(it) => it.mount.as_ref(),
            Self::Cert(it) => it.mount.as_ref(),
        }
    }
}
