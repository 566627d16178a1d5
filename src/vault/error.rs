//! What can go wrong between certd and Vault, in Vault's own words, with what to do next.

use std::error::Error;
use std::sync::Arc;

use crate::domain::inventory::{Obstacle, ObstacleKind};
use crate::domain::retry_after::RetryAfter;
use crate::domain::text::printable;

#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("not a usable address of Vault: {address}: {why}")]
    Address { address: String, why: &'static str },
    #[error("could not make a TLS client for Vault; check its ca_file and the system's certificates")]
    Roots {
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("could not use the client certificate for Vault; check client_certificate_file and client_key_file")]
    ClientCertificate {
        #[source]
        source: rustls::Error,
    },
    #[error("no usable token for Vault: {why}: {place}")]
    Token { place: String, why: &'static str },
    #[error("could not read the token for Vault: {place}")]
    TokenFile {
        place: String,
        #[source]
        source: std::io::Error,
    },
    #[error("could not read what certd logs in to Vault with: {place}")]
    CredentialFile {
        place: String,
        #[source]
        source: std::io::Error,
    },
    #[error("nothing to log in to Vault with: {why}: {place}")]
    Credential { place: String, why: &'static str },
    #[error(
        "the wrapped secret-id has ended or somebody else unwrapped it: find out who, and put a new one into {place}"
    )]
    Unwrap {
        place: String,
        #[source]
        source: Box<VaultError>,
    },
    #[error("could not log in to Vault at auth/{mount} by {method} (tried at most every {apart} s)")]
    Login {
        method: &'static str,
        mount: String,
        /// Seconds.
        apart: u64,
        /// Shared by all who waited for this login.
        #[source]
        source: Arc<VaultError>,
    },
    #[error(
        "the token from auth/{mount} by {method} ended within {apart} s, and certd logs in no more often: \
         give its role a longer token_ttl"
    )]
    ShortLived {
        method: &'static str,
        mount: String,
        /// Seconds.
        apart: u64,
    },
    #[error("not a path in Vault (an empty segment, `.`, `..` or a control character): {0}")]
    Path(String),
    #[error("could not read the password of its keystore: {place}")]
    Password {
        place: String,
        #[source]
        source: Box<VaultError>,
    },
    #[error("could not reach Vault at {address}")]
    Unreachable {
        address: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("Vault at {address} did not answer in time")]
    Timeout { address: String },
    #[error("Vault at {address} is sealed: unseal it")]
    Sealed { address: String },
    #[error("Vault at {address} is not initialised: initialise and unseal it, or check the address")]
    NotInitialised { address: String },
    #[error("Vault at {address} is a standby that knows no active server: {words}")]
    Standby { address: String, words: String },
    #[error("Vault at {address} has not caught up with what was written before, and did not ask the active server")]
    Behind { address: String },
    #[error(
        "Vault at {address} is no active server, and what it shows may be stale: set the address of the active one, or \
         give certd a service token with `create` and `update` on cubbyhole/certd"
    )]
    MayBeStale {
        address: String,
        #[source]
        source: Box<VaultError>,
    },
    /// Of several requests that waited for the same.
    #[error(transparent)]
    Shared(Arc<VaultError>),
    #[error("Vault denied it: {words}; hint: {hint}")]
    Denied { words: String, hint: String },
    #[error("somebody wrote to it in between: {words}")]
    CasMismatch { words: String },
    #[error("Vault took what certd notes beside the secret, and does not show it")]
    NotNoted,
    #[error("Vault keeps no such key-value store there: {path}: {words}")]
    NoMount { path: String, words: String },
    #[error("there is no PKI mount `{mount}` in this Vault: {words}")]
    NoPki { mount: String, words: String },
    #[error(
        "Vault at {address} redirects to where certd hands no token: if that is the same Vault, add it to the addresses: {to}"
    )]
    Redirected { address: String, to: String },
    #[error("Vault refused with status {status}: {words}")]
    Refused { status: u16, words: String },
    #[error("Vault at {address} answered with status {status}: {words}{}", asked(.retry_after))]
    Server { address: String, status: u16, words: String, retry_after: Option<RetryAfter> },
    #[error(
        "what answers at {address} is not Vault, or not its API (status {status}): check the address{}",
        asked(.retry_after)
    )]
    NotVault { address: String, status: u16, retry_after: Option<RetryAfter> },
    #[error("the answer of Vault is larger than {limit} bytes")]
    TooLarge { limit: usize },
    /// What was signed is to be revoked by a person.
    #[error(
        "the role ties certificates to the life of certd's token: set generate_lease=false on the role `{role}` of \
         `{mount}`, and revoke what it has signed and nobody uses, serial {serial}"
    )]
    Leased { mount: String, role: String, serial: String },
}

impl VaultError {
    /// `doing` names the place, as in `read vault:secret/tls/web`.
    pub fn obstacle(&self, doing: &str) -> Obstacle {
        let cause = innermost(self).map(|cause| format!(": {cause}")).unwrap_or_default();
        Obstacle::new(self.kind(), format!("could not {doing}: {self}{cause}"))
    }

    /// Whether Vault heard the request and decided against it; else it may have been carried out.
    pub fn is_decided(&self) -> bool {
        match self {
            Self::Denied { .. } | Self::CasMismatch { .. } | Self::Refused { .. } => true,
            Self::NoMount { .. } | Self::NoPki { .. } => true,
            Self::Address { .. } | Self::Roots { .. } | Self::Token { .. } | Self::TokenFile { .. } | Self::Path(_) => {
                true
            }
            // Nothing was asked of Vault yet, but to let certd in.
            Self::CredentialFile { .. } | Self::Credential { .. } | Self::Unwrap { .. } => true,
            Self::Login { .. } | Self::ShortLived { .. } | Self::ClientCertificate { .. } => true,
            Self::Password { source, .. } => source.is_decided(),
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Sealed { .. } | Self::NotInitialised { .. } => {
                false
            }
            Self::Standby { .. } | Self::Behind { .. } | Self::MayBeStale { .. } => false,
            Self::Redirected { .. } | Self::Server { .. } | Self::NotVault { .. } | Self::TooLarge { .. } => false,
            Self::Leased { .. } | Self::NotNoted => false,
            Self::Shared(error) => error.is_decided(),
        }
    }

    /// Whether Vault may have carried it out.
    pub fn may_be_done(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => !source.is_connect(),
            Self::Sealed { .. } | Self::NotInitialised { .. } | Self::Standby { .. } | Self::Behind { .. } => false,
            Self::Redirected { .. } | Self::MayBeStale { .. } => false,
            Self::Shared(error) => error.may_be_done(),
            // A quota refuses a request before anything is done with it.
            Self::Server { status, .. } => *status != 429,
            Self::Timeout { .. } | Self::NotVault { .. } | Self::TooLarge { .. } => true,
            Self::Leased { .. } | Self::NotNoted => true,
            Self::Denied { .. } | Self::CasMismatch { .. } | Self::Refused { .. } => false,
            Self::NoMount { .. } | Self::NoPki { .. } | Self::Path(_) | Self::Password { .. } => false,
            Self::Address { .. } | Self::Roots { .. } | Self::ClientCertificate { .. } => false,
            Self::Token { .. } | Self::TokenFile { .. } | Self::CredentialFile { .. } | Self::Credential { .. } => {
                false
            }
            Self::Unwrap { .. } | Self::Login { .. } | Self::ShortLived { .. } => false,
        }
    }

    /// How long it asks to be left alone.
    pub fn retry_after(&self) -> Option<RetryAfter> {
        match self {
            Self::Server { retry_after, .. } | Self::NotVault { retry_after, .. } => *retry_after,
            Self::Unwrap { source, .. } | Self::Password { source, .. } | Self::MayBeStale { source, .. } => {
                source.retry_after()
            }
            Self::Login { source, .. } => source.retry_after(),
            Self::Shared(error) => error.retry_after(),
            Self::Address { .. } | Self::Roots { .. } | Self::ClientCertificate { .. } | Self::Path(_) => None,
            Self::Token { .. } | Self::TokenFile { .. } | Self::CredentialFile { .. } | Self::Credential { .. } => None,
            Self::ShortLived { .. } | Self::Unreachable { .. } | Self::Timeout { .. } | Self::Sealed { .. } => None,
            Self::NotInitialised { .. } | Self::Standby { .. } | Self::Behind { .. } | Self::Redirected { .. } => None,
            Self::Denied { .. } | Self::CasMismatch { .. } | Self::Refused { .. } | Self::TooLarge { .. } => None,
            Self::NoMount { .. } | Self::NoPki { .. } | Self::NotNoted | Self::Leased { .. } => None,
        }
    }

    /// Whether another address of the same Vault may do better.
    pub(super) fn is_of_the_address(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::NotVault { .. } => true,
            Self::Sealed { .. } | Self::NotInitialised { .. } | Self::Standby { .. } | Self::Behind { .. } => true,
            Self::Redirected { .. } => true,
            Self::Denied { .. } | Self::CasMismatch { .. } | Self::Refused { .. } => false,
            Self::NoMount { .. } | Self::NoPki { .. } => false,
            Self::Address { .. } | Self::Roots { .. } | Self::Token { .. } | Self::TokenFile { .. } => false,
            Self::CredentialFile { .. } | Self::Credential { .. } | Self::Unwrap { .. } | Self::Login { .. } => false,
            Self::ShortLived { .. } | Self::ClientCertificate { .. } | Self::Path(_) | Self::MayBeStale { .. } => false,
            Self::Server { .. } | Self::TooLarge { .. } | Self::Leased { .. } | Self::NotNoted => false,
            Self::Password { source, .. } => source.is_of_the_address(),
            Self::Shared(error) => error.is_of_the_address(),
        }
    }

    /// As a standby answers while there is no active node; it carried out nothing.
    pub(super) fn is_of_an_election(&self) -> bool {
        matches!(self, Self::Standby { .. } | Self::Redirected { .. })
    }

    /// Nothing was answered.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. })
    }

    fn kind(&self) -> ObstacleKind {
        match self {
            Self::Unreachable { source, .. } => unreachable_kind(source),
            Self::Timeout { .. } => ObstacleKind::Timeout,
            Self::Sealed { .. } => ObstacleKind::Sealed,
            Self::NotInitialised { .. } => ObstacleKind::NotInitialised,
            Self::Standby { .. } => ObstacleKind::Standby,
            Self::Behind { .. } | Self::MayBeStale { .. } => ObstacleKind::Stale,
            Self::Redirected { .. } => ObstacleKind::Redirected,
            Self::NotVault { .. } => ObstacleKind::NotVault,
            Self::Denied { .. } | Self::Token { .. } | Self::TokenFile { .. } => ObstacleKind::Denied,
            Self::CredentialFile { .. } | Self::Credential { .. } | Self::Unwrap { .. } | Self::ShortLived { .. } => {
                ObstacleKind::Denied
            }
            Self::Login { source, .. } => match **source {
                // So are a wrong password and an unknown role.
                Self::Refused { .. } => ObstacleKind::Denied,
                _ => source.kind(),
            },
            Self::Password { source, .. } => source.kind(),
            Self::Roots { .. } | Self::ClientCertificate { .. } => ObstacleKind::Tls,
            Self::TooLarge { .. } => ObstacleKind::TooLarge,
            Self::Address { .. } | Self::Path(_) => ObstacleKind::NotUnderstood,
            Self::CasMismatch { .. } | Self::NoMount { .. } | Self::Refused { .. } => ObstacleKind::Server,
            Self::Server { .. } | Self::Leased { .. } | Self::NotNoted | Self::NoPki { .. } => ObstacleKind::Server,
            Self::Shared(error) => error.kind(),
        }
    }
}

/// The text of the last error in the chain of sources, which is the one that names the fault.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> Option<String> {
    causes(error).last().map(|cause| printable(&cause.to_string()))
}

fn asked(wait: &Option<RetryAfter>) -> String {
    wait.map(|wait| format!("; {wait}")).unwrap_or_default()
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&error| match error.downcast_ref::<std::io::Error>() {
        // An I/O error that wraps another gives its text as its own, yet not as its source.
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    })
}

fn unreachable_kind(source: &reqwest::Error) -> ObstacleKind {
    if causes(source).any(|cause| cause.is::<rustls::Error>()) {
        ObstacleKind::Tls
    } else if causes(source).any(|cause| cause.to_string().starts_with("dns error")) {
        ObstacleKind::Dns
    } else {
        ObstacleKind::Unreachable
    }
}
