//! A verifier that accepts whatever chain is served and keeps it, but not a server without its key: chains are judged
//! later, and elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::domain::inventory::{Handshake, Obstacle};

/// What one handshake showed.
#[derive(Debug)]
pub(super) struct Capture {
    provider: Arc<CryptoProvider>,
    served: Mutex<Vec<Vec<u8>>>,
    /// Whether the server signed the handshake with the key of its certificate; `None` where it did not come so far.
    proof: Mutex<Option<Result<(), String>>>,
    asks_for_certificate: AtomicBool,
}

impl Capture {
    /// A configuration for one handshake and the place where its certificates turn up.
    pub(super) fn config() -> (Arc<Self>, ClientConfig) {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let capture = Arc::new(Self {
            provider: provider.clone(),
            served: Mutex::default(),
            proof: Mutex::default(),
            asks_for_certificate: AtomicBool::new(false),
        });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider's suites serve both versions of TLS")
            .dangerous()
            .with_custom_certificate_verifier(capture.clone())
            .with_client_cert_resolver(capture.clone());
        // A resumed session shows no certificate.
        config.resumption = Resumption::disabled();
        (capture, config)
    }

    /// DER in the order served; empty when the handshake did not come that far.
    pub(super) fn served(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.served.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns what the handshake showed beside the certificates. `ended` is how it failed, if it did, and whether the
    /// server was the one that ended it.
    pub(super) fn handshake(&self, ended: Option<(&Obstacle, bool)>) -> Handshake {
        let proof = std::mem::take(&mut *self.proof.lock().unwrap_or_else(PoisonError::into_inner));
        let asks_for_certificate = self.asks_for_certificate.load(Ordering::Relaxed);
        let how = ended.map_or("it showed no signature", |(obstacle, _)| obstacle.message.as_str());
        let key_not_proven = match proof {
            Some(Ok(())) => None,
            Some(Err(why)) => Some(why),
            None => Some(format!("the server did not prove that it holds the key of its certificate: {how}")),
        };
        // A server that demands a certificate of its clients lets certd no further.
        let broken_off = ended.filter(|(_, by_server)| !(asks_for_certificate && *by_server));
        Handshake {
            broken_off: broken_off.map(|(obstacle, _)| obstacle.message.clone()).filter(|_| key_not_proven.is_none()),
            key_not_proven,
            asks_for_certificate,
        }
    }

    fn note(&self, verified: Result<HandshakeSignatureValid, Error>) -> Result<HandshakeSignatureValid, Error> {
        let proof = verified.as_ref().map(|_| ()).map_err(|error| match error {
            Error::InvalidCertificate(CertificateError::BadSignature) => {
                "the server does not hold the key of its certificate: it signed the handshake with another key"
                    .to_string()
            }
            other => format!("whether the server holds the key of its certificate could not be verified: {other}"),
        });
        *self.proof.lock().unwrap_or_else(PoisonError::into_inner) = Some(proof);
        verified
    }
}

impl ResolvesClientCert for Capture {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asks_for_certificate.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

impl ServerCertVerifier for Capture {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ders = std::iter::once(end_entity).chain(intermediates).map(|der| der.to_vec()).collect();
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = ders;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.note(verify_tls12_signature(message, leaf, signed, algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.note(verify_tls13_signature(message, leaf, signed, algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
