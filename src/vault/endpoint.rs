//! Endpoints of Vault's API that vaultrs lacks or describes too narrowly, and what they answer.

use std::collections::BTreeMap;

use rustify_derive::Endpoint;
use serde::{Deserialize, Serialize};

use super::Fields;

/// Which mount a path lies in: `/sys/internal/ui/mounts/:path`. Allowed to every token with some right there.
#[derive(Endpoint)]
#[endpoint(path = "sys/internal/ui/mounts/{self.path}")]
pub(super) struct MountOf {
    #[endpoint(skip)]
    pub path: String,
}

/// `POST /:mount/data/:path`. vaultrs takes a parsed value there, which would rewrite numbers that certd must keep.
#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/data/{self.path}", method = "POST")]
pub(super) struct WriteSecret {
    #[endpoint(skip)]
    pub mount: String,
    #[endpoint(skip)]
    pub path: String,
    pub data: Fields,
    pub options: Cas,
}

#[derive(Serialize)]
pub(super) struct Cas {
    pub cas: u64,
}

/// `GET /:mount/cert/ca_chain`: readable without a token.
#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/cert/ca_chain")]
pub(super) struct CaChain {
    #[endpoint(skip)]
    pub mount: String,
}

/// `POST /:mount/revoke`. There is no reason in it.
#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/revoke", method = "POST")]
pub(super) struct RevokeCertificate {
    #[endpoint(skip)]
    pub mount: String,
    pub serial_number: String,
}

/// `GET /auth/token/lookup-self`.
#[derive(Endpoint)]
#[endpoint(path = "auth/token/lookup-self")]
pub(super) struct LookupSelf {}

/// `POST /auth/token/renew-self`. vaultrs spells this path and the next with a tab in front.
#[derive(Endpoint)]
#[endpoint(path = "auth/token/renew-self", method = "POST")]
pub(super) struct RenewSelf {}

#[derive(Endpoint)]
#[endpoint(path = "auth/token/revoke-self", method = "POST")]
pub(super) struct RevokeSelf {}

/// `POST /cubbyhole/certd`: a place that each token has for itself, and that ends with it.
#[derive(Endpoint)]
#[endpoint(path = "cubbyhole/certd", method = "POST")]
pub(super) struct TouchCubbyhole {
    pub by: &'static str,
}

/// `POST /sys/wrapping/unwrap`, with what is wrapped as the token.
#[derive(Endpoint)]
#[endpoint(path = "sys/wrapping/unwrap", method = "POST")]
pub(super) struct Unwrap {}

/// `POST /auth/:mount/login` of TLS certificates. vaultrs names the role `cert_name` there, which Vault ignores.
#[derive(Endpoint)]
#[endpoint(path = "auth/{self.mount}/login", method = "POST")]
pub(super) struct LoginWithCertificate {
    #[endpoint(skip)]
    pub mount: String,
    pub name: Option<String>,
}

/// What every answer is wrapped in.
#[derive(Deserialize)]
pub(super) struct Answer<T> {
    pub data: Option<T>,
    #[serde(default)]
    pub lease_id: String,
}

#[derive(Deserialize)]
pub(super) struct MountAnswer {
    pub path: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub options: Option<BTreeMap<String, String>>,
    pub config: Option<MountConfigAnswer>,
}

#[derive(Default, Deserialize)]
pub(super) struct MountConfigAnswer {
    #[serde(default)]
    pub max_lease_ttl: u64,
}

#[derive(Deserialize)]
pub(super) struct SecretAnswer {
    pub data: Option<Fields>,
    pub metadata: VersionAnswer,
}

#[derive(Deserialize)]
pub(super) struct VersionAnswer {
    pub version: u64,
    /// RFC 3339; empty for one that was never deleted.
    #[serde(default)]
    pub deletion_time: String,
    #[serde(default)]
    pub destroyed: bool,
}

#[derive(Deserialize)]
pub(super) struct ListAnswer {
    pub keys: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct SignAnswer {
    pub certificate: String,
    pub serial_number: String,
    pub issuing_ca: Option<String>,
    pub ca_chain: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub(super) struct CaChainAnswer {
    pub certificate: String,
}

#[derive(Deserialize)]
pub(super) struct LookupAnswer {
    /// `None` for a token that never ends.
    pub expire_time: Option<String>,
    /// Seconds that are left.
    pub ttl: u64,
    /// Seconds, as it was first given.
    #[serde(default)]
    pub creation_ttl: u64,
}
