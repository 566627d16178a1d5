//! The audit log as the user configures it.

use serde::Deserialize;
use toml::Spanned;

use super::value::FilePath;

/// `[audit]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    pub rotate_at_mib: Spanned<u32>,
    pub head: Head,
}

impl Default for Audit {
    fn default() -> Self {
        Self { rotate_at_mib: Spanned::new(0..0, 64), head: Head::default() }
    }
}

impl Audit {
    /// In bytes.
    pub fn rotate_at(&self) -> u64 {
        u64::from(*self.rotate_at_mib.get_ref()) * 1024 * 1024
    }
}

/// `head.KIND`: where the head of the log is noted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Head {
    pub vault_kv: Option<HeadVaultKv>,
    /// A datagram socket.
    pub syslog: Option<FilePath>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadVaultKv {
    pub vault: Spanned<String>,
    /// Of a secret.
    pub path: Spanned<String>,
}
