//! A verifier that accepts whatever is served and keeps it: judging comes later, and elsewhere.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// What one handshake showed.
#[derive(Debug)]
pub(super) struct Capture {
    provider: Arc<CryptoProvider>,
    served: Mutex<Vec<Vec<u8>>>,
}

impl Capture {
    /// A configuration for one handshake and the place where its certificates turn up.
    pub(super) fn config() -> (Arc<Self>, ClientConfig) {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let capture = Arc::new(Self { provider: provider.clone(), served: Mutex::default() });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider's suites serve both versions of TLS")
            .dangerous()
            .with_custom_certificate_verifier(capture.clone())
            .with_no_client_auth();
        // A resumed session shows no certificate.
        config.resumption = Resumption::disabled();
        (capture, config)
    }

    /// DER in the order served; empty when the handshake did not come that far.
    pub(super) fn served(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.served.lock().unwrap_or_else(PoisonError::into_inner))
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
