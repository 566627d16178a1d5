//! Who a TLS server on loopback is.

use std::sync::Arc;

use rcgen::{Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::TlsAcceptor;

use super::certificates;

/// For `127.0.0.1` and `localhost`.
pub struct Identity {
    /// What a client has to trust.
    pub root_pem: String,
    pub certificate_pem: String,
    pub key: KeyPair,
}

impl Identity {
    pub fn new() -> Self {
        let params = certificates::root_params("loopback servers");
        let root_key = KeyPair::generate().unwrap();
        let root_pem = params.self_signed(&root_key).unwrap().pem();
        let root = Issuer::new(params, root_key);
        let key = KeyPair::generate().unwrap();
        // For as long as a story may move the clock of a client.
        let params = certificates::params(&["127.0.0.1", "localhost"], -1_000, 3_650);
        let certificate_pem = params.signed_by(&key, &root).unwrap().pem();
        Self { root_pem, certificate_pem, key }
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        let certificate = pem::parse(&self.certificate_pem).unwrap().into_contents().into();
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        Arc::new(builder.with_single_cert(vec![certificate], key.into()).unwrap()).into()
    }
}
