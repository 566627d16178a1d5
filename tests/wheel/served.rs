//! What a story serves on loopback: a TLS server that presents what it is told to, changed at any time.

use std::sync::{Arc, RwLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

#[derive(Debug)]
pub struct Served {
    pub port: u16,
    presented: Arc<Presented>,
}

#[derive(Debug)]
struct Presented(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Presented {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap().clone())
    }
}

impl Served {
    /// Listens at `address`; port 0 takes a free one. Serves for as long as the test runs.
    pub async fn at(address: &str, secret: &Value) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let presented = Arc::new(Presented(RwLock::new(certified(secret))));
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let acceptor = TlsAcceptor::from(Arc::new(builder.with_cert_resolver(presented.clone())));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move { acceptor.accept(tcp).await.map(drop) });
            }
        });
        Self { port, presented }
    }

    /// As a server does that was told to reload.
    pub fn present(&self, secret: &Value) {
        *self.presented.0.write().unwrap() = certified(secret);
    }
}

/// The chain and the key of a secret's fields.
fn certified(secret: &Value) -> Arc<CertifiedKey> {
    let mut pem = secret["certificate"].as_str().unwrap().to_string();
    for more in secret["ca_chain"].as_array().into_iter().flatten() {
        pem = pem + "\n" + more.as_str().unwrap();
    }
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(secret["private_key"].as_str().unwrap().as_bytes()).unwrap();
    Arc::new(CertifiedKey::new(chain, aws_lc_rs::sign::any_supported_type(&key).unwrap()))
}
