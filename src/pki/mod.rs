//! Bytes in, domain types out: certificates, bundles, keys, keystores, CSRs and trust. The only place that
//! knows x509-parser, aws-lc-rs's keys and rustls-webpki.

pub mod bundle;
pub mod crl;
pub mod csr;
pub mod document;
pub mod generations;
pub mod interned;
pub mod jws;
pub mod key;
pub mod key_form;
pub mod keystore;
mod not_understood;
pub mod order;
mod paths;
pub mod pem;
mod pool;
pub mod read;
pub mod roots;
mod stated;
mod verdicts;

pub use not_understood::{FieldName, NotUnderstood};

/// SHA-256, as fingerprints and key digests use it.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}
