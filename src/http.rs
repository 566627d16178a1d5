//! What every HTTP client of certd has in common: whom it trusts, and how long an answer asks it to wait.

use std::sync::Arc;

use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

use crate::domain::retry_after::RetryAfter;
use crate::domain::time::Timestamp;

pub type Unusable = Box<dyn std::error::Error + Send + Sync>;

/// A date in it is of the clock that wrote the answer's own date.
pub fn retry_after(headers: &HeaderMap) -> Option<RetryAfter> {
    let said = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let value = said(RETRY_AFTER)?;
    RetryAfter::parse(value, said(DATE).and_then(Timestamp::from_http_date).unwrap_or_else(here))
}

/// By the clock of this host.
fn here() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(0).plus(since.unwrap_or_default())
}

/// Of these roots alone, in DER; `None` takes the system's.
pub fn tls(roots: Option<&[Vec<u8>]>) -> Result<TlsBuilder, Unusable> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(match roots {
        Some(ders) => given(ders)?,
        None => system()?,
    }))
}

type TlsBuilder = rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert>;

fn given(ders: &[Vec<u8>]) -> Result<rustls::RootCertStore, Unusable> {
    let mut store = rustls::RootCertStore::empty();
    for der in ders {
        store.add(der.clone().into())?;
    }
    Ok(store)
}

fn system() -> Result<rustls::RootCertStore, Unusable> {
    let mut store = rustls::RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    store.add_parsable_certificates(system.certs);
    match (store.is_empty(), system.errors.into_iter().next()) {
        (true, Some(error)) => Err(error.into()),
        (true, None) | (false, _) => Ok(store),
    }
}
