//! Who signs. Every issuer is the same function: a CSR in, a chain out. No private key reaches one.

pub mod vault_pki;

use std::time::Duration;

use crate::domain::name::San;
use crate::domain::time::Timestamp;

/// What an issuer is asked for.
#[derive(Clone, Debug)]
pub struct Order {
    /// PKCS#10 in DER (RFC 2986), signed by the key that is to be certified.
    pub csr: Vec<u8>,
    pub names: Vec<San>,
    pub common_name: Option<String>,
    /// `None` leaves it to the issuer.
    pub lifetime: Option<Duration>,
    pub now: Timestamp,
}

#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The issuer heard the order and will not sign it.
    #[error("the issuer refused: {message}")]
    Refused { message: String, retry_after: Option<Duration> },
    /// It is not known whether the issuer heard the order.
    #[error("could not {doing}")]
    Unanswered {
        doing: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Only a person can mend this; says how.
    #[error("{0}")]
    Stopped(String),
}
