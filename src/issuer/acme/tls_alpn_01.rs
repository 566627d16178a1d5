//! TLS-ALPN-01 (RFC 8737): a certificate that proves a name, shown at port 443 to nobody but a CA that asks for it.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::future::BoxFuture;
use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair, SanType};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

pub use super::listening::{ChallengeError, Place};
use super::listening::{Listening, Pending};
use crate::domain::name::{San, is_dns_name};
use crate::domain::text::printable;

/// RFC 8737, section 6.2.
const PROTOCOL: &[u8] = b"acme-tls/1";

pub struct TlsAlpn01 {
    listening: Listening<Proof>,
}

impl TlsAlpn01 {
    pub fn new(place: Place) -> Self {
        let pending = Arc::new(Pending::default());
        let acceptor = TlsAcceptor::from(Arc::new(config(pending.clone())));
        let answering =
            Arc::new(move |stream| -> BoxFuture<'static, ()> { Box::pin(answer(stream, acceptor.clone())) });
        Self { listening: Listening::new(place, pending, answering) }
    }

    /// When it returns, the CA may ask. Each success wants one [`TlsAlpn01::withdraw`], a failure none.
    pub async fn present(&self, identifier: &San, key_authorization: &str) -> Result<(), ChallengeError> {
        let name = asked_for(identifier).ok_or_else(|| ChallengeError::Name(printable(&identifier.to_string())))?;
        let proof = Proof::new(identifier, key_authorization)
            .map_err(|source| ChallengeError::Certificate { name: name.clone(), source })?;
        self.listening.present(&name, proof).await
    }

    pub async fn withdraw(&self, identifier: &San) {
        if let Some(name) = asked_for(identifier) {
            self.listening.withdraw(&name).await;
        }
    }

    /// Where the CA must come to; nowhere while nothing is pending.
    pub async fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.listening.addresses().await
    }
}

/// The server name by which a CA asks: an address has none, and is asked for by its name in reverse DNS
/// (RFC 8738, section 6).
fn asked_for(identifier: &San) -> Option<String> {
    match identifier {
        San::Dns(name) if is_dns_name(name) && !name.starts_with("*.") => Some(name.to_ascii_lowercase()),
        San::Ip(ip) => Some(reverse(*ip)),
        San::Dns(_) | San::Email(_) | San::Uri(_) | San::Other(_) => None,
    }
}

/// RFC 1035, section 3.5, and RFC 3596, section 2.5.
fn reverse(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let halves = |octet: &u8| format!("{:x}.{:x}.", octet & 0x0f, octet >> 4);
            let labels: String = ip.octets().iter().rev().map(halves).collect();
            labels + "ip6.arpa"
        }
    }
}

/// Two of the same digest are the same proof, whatever their keys.
#[derive(Clone)]
struct Proof {
    digest: [u8; 32],
    certified: Arc<CertifiedKey>,
}

impl PartialEq for Proof {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Proof {
    /// The key lives as long as the proof, and nowhere else.
    fn new(identifier: &San, key_authorization: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let digest = digest(&SHA256, key_authorization.as_bytes());
        let digest: [u8; 32] = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
        let san = match identifier {
            San::Ip(ip) => SanType::IpAddress(*ip),
            name => SanType::DnsName(name.to_string().to_ascii_lowercase().try_into()?),
        };
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "ACME challenge");
        params.subject_alt_names = vec![san];
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialized_der()));
        // rustls itself would refuse the critical extension, which it does not know.
        let certified = CertifiedKey::new(vec![certificate.der().clone()], any_ecdsa_type(&der)?);
        Ok(Self { digest, certified: Arc::new(certified) })
    }
}

fn config(pending: Arc<Pending<Proof>>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider's suites serve both versions of TLS")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Proofs(pending)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // A session that is resumed shows no certificate.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

struct Proofs(Arc<Pending<Proof>>);

impl std::fmt::Debug for Proofs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proofs(…)")
    }
}

impl ResolvesServerCert for Proofs {
    /// Without ALPN a client is not a CA, and rustls would let it go on.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_challenge = hello.alpn()?.any(|protocol| protocol == PROTOCOL);
        let name = hello.server_name()?.trim_end_matches('.').to_ascii_lowercase();
        self.0.find(&name).filter(|_| is_challenge).map(|proof| proof.certified)
    }
}

/// All is said in the handshake (RFC 8737, section 3). The connection has its deadline from the listener.
async fn answer(stream: TcpStream, acceptor: TlsAcceptor) {
    let ended = match acceptor.accept(stream).await {
        Ok(mut tls) => {
            let name = tls.get_ref().1.server_name().map(printable);
            debug!(name, "a challenge was answered");
            tls.shutdown().await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        debug!(error = &error as &dyn std::error::Error, "a connection to the challenges failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_for_by_its_name_in_reverse_dns() {
        let asked = |ip: &str| asked_for(&San::Ip(ip.parse().unwrap())).unwrap();
        assert_eq!(asked("192.0.2.35"), "35.2.0.192.in-addr.arpa");
        assert_eq!(
            asked("4321:0:1:2:3:4:567:89ab"),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa"
        );
    }

    #[test]
    fn names_are_asked_for_in_lower_case_and_only_those_that_can_be() {
        assert_eq!(asked_for(&San::Dns("WWW.Example.org".into())), Some("www.example.org".to_string()));
        for san in [
            San::Dns("*.example.org".into()),
            San::Dns("a b".into()),
            San::Dns(String::new()),
            San::Email("a@example.org".into()),
            San::Uri("https://example.org".into()),
            San::Other("x".into()),
        ] {
            assert_eq!(asked_for(&san), None, "{san}");
        }
    }

    #[test]
    fn proofs_of_one_key_authorization_are_alike_and_others_are_not() {
        let proof = |text: &str| Proof::new(&San::Dns("example.org".into()), text).unwrap();
        assert!(proof("a.b") == proof("a.b"));
        assert!(proof("a.b") != proof("a.c"));
    }
}
