//! `/metrics`, `/healthz` and `/readyz`, on loopback or behind TLS and a token.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use futures_util::stream;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use tokio::task::JoinHandle;
use tracing::{debug, error, warn};
use zeroize::Zeroizing;

use super::connection::Limited;
use super::page::Page;
pub use super::served::{Reload, ReloadError, ServedCertificate, TlsFiles};
use crate::domain::time::Timestamp;

/// Nobody needs longer to say what they want, on loopback or across a data centre.
const REQUEST_DEADLINE: Duration = Duration::from_secs(2);

/// A TLS handshake is two round trips.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// A scrape that is under way may finish; the daemon has ten seconds to stop in all.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(3);

/// A token is some dozens of bytes.
const LARGEST_TOKEN: u64 = 4096;

#[derive(Clone, Debug)]
pub struct ListenSettings {
    pub address: SocketAddr,
    pub tls: Option<TlsFiles>,
    pub bearer_token_file: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("not listening without TLS and a bearer token off loopback: {0}; set both, or listen on 127.0.0.1")]
    Exposed(SocketAddr),
    #[error("could not listen on {address}: set another `address` in [listen], or stop who listens there")]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("could not read the bearer token of the listener: {path}")]
    Token {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not set up TLS for the listener")]
    Tls(#[source] rustls::Error),
}

/// Answers until it is shut down.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    served: Option<Arc<ServedCertificate>>,
    handle: Handle<SocketAddr>,
    serving: JoinHandle<()>,
}

impl Listener {
    /// Takes the address and answers from then on. Must be called within a tokio runtime. Certificate and
    /// key need not be there yet: certd may be about to make them.
    pub fn bind(settings: ListenSettings, page: Arc<Page>) -> Result<Self, ListenError> {
        let ListenSettings { address, tls, bearer_token_file } = settings;
        if !address.ip().is_loopback() && (tls.is_none() || bearer_token_file.is_none()) {
            return Err(ListenError::Exposed(address));
        }
        if let Some(path) = &bearer_token_file {
            read_token(path).map_err(|source| ListenError::Token { path: path.clone(), source })?;
        }
        let failed = |source| ListenError::Bind { address, source };
        let socket = TcpListener::bind(address).map_err(failed)?;
        let bound = socket.local_addr().map_err(failed)?;
        let handle = Handle::new();
        let server = bounded(axum_server::from_tcp(socket).map_err(failed)?, handle.clone());
        let router = router(page, bearer_token_file);
        let (served, serving) = match tls {
            None => (None, spawn(server.serve(router.into_make_service()))),
            Some(files) => {
                let served = Arc::new(ServedCertificate::new(files));
                if let Err(why) = served.reload() {
                    debug!(error = &why as &dyn std::error::Error, "the listener begins without a certificate");
                }
                let tls = tls_config(served.clone()).map_err(ListenError::Tls)?;
                let encrypted = server
                    .map(|limited| RustlsAcceptor::new(tls).handshake_timeout(HANDSHAKE_DEADLINE).acceptor(limited));
                (Some(served), spawn(encrypted.serve(router.into_make_service())))
            }
        };
        Ok(Self { address: bound, served, handle, serving })
    }

    /// The real one, also where port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn scheme(&self) -> &'static str {
        if self.served.is_some() { "https" } else { "http" }
    }

    /// Serves the certificate that the files hold now. Without TLS nothing changes.
    pub fn reload(&self) -> Result<Reload, ReloadError> {
        self.served.as_ref().map_or(Ok(Reload::Unchanged), |served| served.reload())
    }

    /// False once it has stopped by itself, which is a fault.
    pub fn is_serving(&self) -> bool {
        !self.serving.is_finished()
    }

    /// Takes no more connections, and gives those that are open a short while to finish.
    pub async fn shut_down(self) {
        self.handle.graceful_shutdown(Some(SHUTDOWN_DEADLINE));
        if let Err(why) = self.serving.await {
            error!(error = &why as &dyn std::error::Error, "the listener ended in a panic");
        }
    }
}

fn spawn(serving: impl Future<Output = io::Result<()>> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(why) = serving.await {
            error!(error = &why as &dyn std::error::Error, "the listener stopped");
        }
    })
}

fn bounded(server: Server<SocketAddr>, handle: Handle<SocketAddr>) -> Server<SocketAddr, Limited> {
    let mut server = server
        .handle(handle)
        .http1_only()
        .first_request_timeout(REQUEST_DEADLINE)
        .accept_error_handler(|peer, why| {
            let peer = peer.map(ToString::to_string);
            debug!(peer, error = why as &dyn std::error::Error, "a connection to the listener failed");
        })
        .acceptor(Limited::new());
    // Also ends a kept-alive connection on which nothing more is asked.
    server.http_builder().http1().header_read_timeout(Some(REQUEST_DEADLINE));
    server
}

fn tls_config(served: Arc<ServedCertificate>) -> Result<RustlsConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(served);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}

/// No handler reads a body, so none is ever taken in. Whether certd lives and is ready is told without a token,
/// since load balancers have none; it names no certificate.
fn router(page: Arc<Page>, bearer_token_file: Option<PathBuf>) -> Router {
    let mut guarded = Router::new().route("/", get(index)).route("/metrics", get(metrics));
    if let Some(path) = bearer_token_file {
        guarded = guarded.layer(middleware::from_fn_with_state(Arc::<Path>::from(path), authorised));
    }
    guarded.route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(page)
}

async fn index() -> &'static str {
    "certd keeps certificates fresh.\n\n/metrics  for Prometheus\n/healthz  whether it lives\n\
     /readyz   whether its last turn is recent and its tokens live on\n"
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(page): State<Arc<Page>>) -> Response {
    match page.is_ready(now()) {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

/// The clock is read here, at the edge: only whoever asks whether certd is late can know the time.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(0).plus(since)
}

async fn metrics(State(page): State<Arc<Page>>) -> Response {
    match page.metrics() {
        Ok(parts) => {
            let body = Body::from_stream(stream::iter(parts.map(Ok::<_, io::Error>)));
            ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], body).into_response()
        }
        Err(why) => {
            error!(error = &why as &dyn std::error::Error, "could not encode the daemon's own metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Reads the file anew for each request, so that a token that rotates needs no reload.
async fn authorised(State(token_file): State<Arc<Path>>, request: Request, next: Next) -> Response {
    let path = token_file.clone();
    let token = match tokio::task::spawn_blocking(move || read_token(&path)).await {
        Ok(Ok(token)) => token,
        Ok(Err(why)) => {
            let file = token_file.display();
            let error = &why as &dyn std::error::Error;
            warn!(%file, error, "requests are refused: could not read the bearer token");
            return refused();
        }
        Err(why) => {
            error!(error = &why as &dyn std::error::Error, "requests are refused: reading the bearer token panicked");
            return refused();
        }
    };
    match bears(request.headers(), &token) {
        true => next.run(request).await,
        false => refused(),
    }
}

fn refused() -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer realm=\"certd\"")], "a bearer token is needed\n")
        .into_response()
}

/// Compares digests, so that neither the content nor the length of the token shows in the time taken.
fn bears(headers: &HeaderMap, token: &str) -> bool {
    let Some((scheme, given)) = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
    else {
        return false;
    };
    let [given, wanted] = [given.trim(), token].map(|text| digest(&SHA256, text.as_bytes()));
    scheme.eq_ignore_ascii_case("bearer") && verify_slices_are_equal(given.as_ref(), wanted.as_ref()).is_ok()
}

fn read_token(path: &Path) -> io::Result<Zeroizing<String>> {
    let text = crate::files::regular::read_text(path, LARGEST_TOKEN)?;
    let wrong = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    match text.trim() {
        "" => wrong("it is empty"),
        token => Ok(Zeroizing::new(token.to_string())),
    }
}
