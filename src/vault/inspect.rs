//! What Vault says of itself, of certd's token, and of how its mounts and roles are set up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rustify_derive::Endpoint;
use serde::Deserialize;

use super::endpoint::{Answer, ListAnswer, LookupSelf};
use super::transport::Operation;
use super::{Vault, VaultError, checked};
use crate::domain::time::Timestamp;

/// OpenBao 2.7 refuses a request of more than about 500 texts as too complex.
const PATHS_AT_ONCE: usize = 250;

/// The state of the server (`GET /sys/health`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub initialized: bool,
    pub sealed: bool,
    pub standby: bool,
    pub version: String,
    /// By the server's clock.
    pub time: Timestamp,
}

/// certd's own token (`GET /auth/token/lookup-self`). Times are in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TokenFacts {
    pub policies: BTreeSet<String>,
    /// Those of the entity that it belongs to.
    pub identity_policies: Option<BTreeSet<String>>,
    /// `service` or `batch`.
    #[serde(rename = "type")]
    pub kind: String,
    pub renewable: bool,
    /// `None` for one that never ends.
    pub expire_time: Option<String>,
    pub ttl: u64,
    /// As it was when the token was made.
    pub creation_ttl: u64,
    /// No renewal moves its end further than this; 0 for no such bound.
    #[serde(default)]
    pub explicit_max_ttl: u64,
    /// Of a token that may be renewed for ever.
    pub period: Option<u64>,
    /// Whether it outlives the token that it was made with.
    pub orphan: bool,
    /// Requests that are left; 0 for any number.
    #[serde(default)]
    pub num_uses: u64,
}

/// What a token may do at a path (Vault's documentation of policies, "Capabilities").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    Create,
    Read,
    Update,
    Patch,
    Delete,
    List,
    Sudo,
    /// All of them.
    Root,
    /// None of them.
    Deny,
    /// One that certd never needs and does not judge, such as OpenBao's `scan`.
    #[serde(other)]
    Other,
}

impl Capability {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Sudo => "sudo",
            Self::Root => "root",
            Self::Deny => "deny",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a KV version 2 mount is set up (`GET /:mount/config`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct KvConfig {
    pub cas_required: bool,
    /// 0 for Vault's default, which is 10.
    pub max_versions: u64,
    /// Such as `720h0m0s`; `0s` for never.
    pub delete_version_after: String,
}

/// A role of a PKI mount (`GET /:mount/roles/:role`), as far as it matters to certd.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PkiRole {
    /// Taken for true where it is not said.
    #[serde(default = "truth")]
    pub generate_lease: bool,
    #[serde(default)]
    pub no_store: bool,
    #[serde(default)]
    pub require_cn: bool,
    /// Seconds; 0 for that of the mount.
    #[serde(default)]
    pub max_ttl: u64,
}

fn truth() -> bool {
    true
}

impl Vault {
    /// Needs no token, and is answered by a sealed server, too.
    pub async fn health(&self) -> Result<Health, VaultError> {
        let endpoint = ReadHealth { standbyok: true, perfstandbyok: true, sealedcode: 200, uninitcode: 200 };
        let reply = self.transport.exchange(Operation::Health, endpoint, None).await?;
        let answer: HealthAnswer = reply.parse()?;
        Ok(Health {
            initialized: answer.initialized,
            sealed: answer.sealed,
            standby: answer.standby,
            version: answer.version,
            time: Timestamp(answer.server_time_utc),
        })
    }

    pub async fn token_facts(&self) -> Result<TokenFacts, VaultError> {
        self.data(&self.transport.call(Operation::Lookup, LookupSelf {}).await?)
    }

    /// What certd's token may do at each of these paths, which are those of the API without `/v1/`.
    pub async fn capabilities(
        &self,
        paths: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, BTreeSet<Capability>>, VaultError> {
        let paths: Vec<&String> = paths.iter().collect();
        let mut granted = BTreeMap::new();
        for paths in paths.chunks(PATHS_AT_ONCE) {
            let endpoint = ReadCapabilities { paths: paths.iter().map(ToString::to_string).collect() };
            let reply = self.transport.call(Operation::Capabilities, endpoint).await?;
            let mut answer: BTreeMap<String, BTreeSet<Capability>> = self.data(&reply)?;
            for path in paths {
                let capabilities = answer.remove(*path).ok_or_else(|| self.not_vault())?;
                granted.insert(path.to_string(), capabilities);
            }
        }
        Ok(granted)
    }

    /// Every ACL policy with its text (`GET /sys/policies/acl/:name`), except `root`, which has none.
    pub async fn policies(&self) -> Result<BTreeMap<String, String>, VaultError> {
        let reply = self.transport.call(Operation::List, ListPolicies {}).await?;
        let names = self.data::<ListAnswer>(&reply)?.keys;
        let mut policies = BTreeMap::new();
        for name in names.into_iter().filter(|name| name != "root") {
            let endpoint = ReadPolicy { name: checked(&name)?.to_string() };
            let reply = self.transport.call(Operation::Read, endpoint).await?;
            // One that was deleted meanwhile grants nothing.
            if reply.found {
                policies.insert(name, self.data::<PolicyAnswer>(&reply)?.policy);
            }
        }
        Ok(policies)
    }

    pub async fn kv_config(&self, mount: &str) -> Result<KvConfig, VaultError> {
        let mount = checked(mount)?.to_string();
        self.data(&self.transport.call(Operation::Read, ReadKvConfig { mount }).await?)
    }

    /// `None` where the mount has no such role.
    pub async fn pki_role(&self, mount: &str, role: &str) -> Result<Option<PkiRole>, VaultError> {
        let (mount, role) = (checked(mount)?.to_string(), checked(role)?.to_string());
        let reply = self.transport.call(Operation::Role, ReadRole { mount, role }).await?;
        match (reply.found, reply.parse::<Answer<PkiRole>>()?.data) {
            (true, Some(role)) => Ok(Some(role)),
            (true, None) => Err(self.not_vault()),
            (false, _) => Ok(None),
        }
    }

    /// Whether certd fetches a token of its own, keeps it alive and revokes it.
    pub fn logs_in(&self) -> bool {
        self.transport.session().is_some()
    }

    /// The one that is asked first, as shown to people.
    pub fn address(&self) -> &str {
        self.transport.nodes.address()
    }

    pub fn namespace(&self) -> Option<&str> {
        self.transport.namespace()
    }
}

/// With these codes every state is a success, so that its body is read. vaultrs's own fails on OpenBao, which
/// leaves fields out that it insists on.
#[derive(Endpoint)]
#[endpoint(path = "sys/health")]
struct ReadHealth {
    #[endpoint(query)]
    standbyok: bool,
    #[endpoint(query)]
    perfstandbyok: bool,
    #[endpoint(query)]
    sealedcode: u16,
    #[endpoint(query)]
    uninitcode: u16,
}

#[derive(Endpoint)]
#[endpoint(path = "sys/capabilities-self", method = "POST")]
struct ReadCapabilities {
    paths: Vec<String>,
}

#[derive(Endpoint)]
#[endpoint(path = "sys/policies/acl", method = "LIST")]
struct ListPolicies {}

#[derive(Endpoint)]
#[endpoint(path = "sys/policies/acl/{self.name}")]
struct ReadPolicy {
    #[endpoint(skip)]
    name: String,
}

#[derive(Deserialize)]
struct PolicyAnswer {
    #[serde(default)]
    policy: String,
}

#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/config")]
struct ReadKvConfig {
    #[endpoint(skip)]
    mount: String,
}

#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/roles/{self.role}")]
struct ReadRole {
    #[endpoint(skip)]
    mount: String,
    #[endpoint(skip)]
    role: String,
}

#[derive(Deserialize)]
struct HealthAnswer {
    initialized: bool,
    sealed: bool,
    standby: bool,
    version: String,
    /// Seconds since 1970.
    server_time_utc: i64,
}
