//! How far an issuer has come with an order that it carries out in several steps.

use serde::{Deserialize, Serialize};

/// Of ACME (RFC 8555, section 7.1.3), where no list of orders tells these addresses again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub order: String,
    pub finalize: String,
    /// From here on a certificate may have been issued.
    #[serde(default)]
    pub is_finalizing: bool,
    /// Where the certificate is to be read.
    #[serde(default)]
    pub certificate: Option<String>,
}
