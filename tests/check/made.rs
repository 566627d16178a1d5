//! Certificates that begin and end around now, and servers on loopback that present them.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::support::certificates::{params, root_params};

/// Outlives every test, and so do the servers in it.
pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

static ROOT: LazyLock<Root> = LazyLock::new(|| Root::named("Check Root"));

pub struct Root {
    pub pem: String,
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Root {
    pub fn named(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = root_params(name);
        let root = params.self_signed(&key).unwrap();
        Self { pem: root.pem(), der: root.der().to_vec(), issuer: Issuer::new(params, key) }
    }
}

/// A leaf, its root behind it, and its key.
pub struct Identity {
    pub leaf_pem: String,
    pub key_pem: String,
    ders: Vec<Vec<u8>>,
    key: Vec<u8>,
}

impl Identity {
    pub fn pem(&self) -> String {
        format!("{}{}{}", self.leaf_pem, ROOT.pem, self.key_pem)
    }
}

pub fn root_pem() -> &'static str {
    &ROOT.pem
}

/// For `name`, begun and ending so many days from now.
pub fn identity(name: &str, from: i64, to: i64) -> Identity {
    signed(params(&[name], from, to))
}

pub fn signed(params: CertificateParams) -> Identity {
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &ROOT.issuer).unwrap();
    Identity {
        leaf_pem: leaf.pem(),
        key_pem: key.serialize_pem(),
        ders: vec![leaf.der().to_vec(), ROOT.der.clone()],
        key: key.serialize_der(),
    }
}

/// Where a server that presents it listens.
pub fn served(identity: &Identity) -> SocketAddr {
    served_on("127.0.0.1", identity, |_| std::future::ready(()))
}

/// What follows each handshake is the test's.
pub fn served_on<F>(host: &str, identity: &Identity, then: fn(TlsStream<TcpStream>) -> F) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let chain = identity.ders.iter().cloned().map(CertificateDer::from).collect();
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = builder.with_single_cert(chain, PrivatePkcs8KeyDer::from(identity.key.clone()).into()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    listening(host, move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                then(stream).await;
            }
        }
    })
}

/// A server that does with each connection what the test says.
pub fn listening<F>(host: &str, each: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = RUNTIME.block_on(TcpListener::bind((host, 0))).unwrap();
    let address = listener.local_addr().unwrap();
    RUNTIME.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(each(stream));
        }
    });
    address
}

/// Accepts and never says a word.
pub fn black_hole() -> SocketAddr {
    listening("127.0.0.1", |stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
}

/// A port of loopback on which nobody listens.
pub fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
