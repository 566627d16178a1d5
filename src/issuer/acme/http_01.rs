//! HTTP-01 (RFC 8555, section 8.3): a text that the CA reads at port 80 of the name, from certd itself or from a web
//! server whose files certd may add to.

mod webroot;

use std::convert::Infallible;
use std::future::ready;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tracing::debug;

pub use super::listening::{ChallengeError, Place};
use super::listening::{Listening, Pending};
use crate::domain::text::printable;

/// What the CA reads goes below this path.
const PREFIX: &str = "/.well-known/acme-challenge/";

/// A CA says what it wants in one packet.
const HEAD_DEADLINE: Duration = Duration::from_secs(2);

/// In bytes. CAs send a few hundred, and hyper takes no smaller bound.
const LARGEST_HEAD: usize = 8192;

/// In bytes. CAs give some dozens, and with what a draft adds it still is the name of a file.
const LONGEST_TOKEN: usize = 200;

pub enum Http01 {
    /// certd answers itself.
    Listener(Listening<String>),
    /// The root of what a web server serves for the name.
    Webroot(PathBuf),
}

impl Http01 {
    pub fn listener(place: Place) -> Self {
        let pending = Arc::new(Pending::default());
        let asked = pending.clone();
        let answering = Arc::new(move |stream| -> futures_util::future::BoxFuture<'static, ()> {
            Box::pin(answer(stream, asked.clone()))
        });
        Self::Listener(Listening::new(place, pending, answering))
    }

    /// When it returns, the answer can be read. Each success wants one [`Http01::withdraw`], a failure none.
    pub async fn present(&self, token: &str, key_authorization: &str) -> Result<(), ChallengeError> {
        if !is_token(token) {
            return Err(ChallengeError::Token(printable(token)));
        }
        match self {
            Self::Listener(listening) => listening.present(token, key_authorization.to_string()).await,
            Self::Webroot(root) => webroot::write(root, token, key_authorization).await,
        }
    }

    /// What stays behind is harmless, and is told.
    pub async fn withdraw(&self, token: &str) {
        match self {
            Self::Listener(listening) => listening.withdraw(token).await,
            Self::Webroot(root) if is_token(token) => webroot::remove(root, token).await,
            Self::Webroot(_) => {}
        }
    }
}

/// The alphabet of base64url (RFC 8555, section 8.3), in which no path can be written.
fn is_token(text: &str) -> bool {
    (1..=LONGEST_TOKEN).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// One request for each connection, and its body is not taken in. The connection has its deadline from the listener.
async fn answer(stream: TcpStream, pending: Arc<Pending<String>>) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(&request, &pending);
        debug!(path = printable(request.uri().path()), status = response.status().as_u16(), "asked for a challenge");
        ready(Ok::<_, Infallible>(response))
    });
    let mut connection = http1::Builder::new();
    connection.keep_alive(false).max_buf_size(LARGEST_HEAD);
    connection.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE);
    if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
        debug!(error = &error as &dyn std::error::Error, "a connection to the challenges failed");
    }
}

fn respond<B>(request: &Request<B>, pending: &Pending<String>) -> Response<Body> {
    let (method, uri) = (request.method(), request.uri());
    let is_plain = (method == Method::GET || method == Method::HEAD) && uri.query().is_none();
    let token = uri.path().strip_prefix(PREFIX).filter(|_| is_plain);
    match token.and_then(|token| pending.find(token)) {
        Some(key_authorization) => {
            let mut response = Response::new(Body::from(key_authorization));
            let kind = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        None => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_base64url_text_and_nothing_that_could_be_a_path() {
        for token in ["a", "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA", "_-", &"x".repeat(LONGEST_TOKEN)] {
            assert!(is_token(token), "{token}");
        }
        let too_long = "x".repeat(LONGEST_TOKEN + 1);
        for token in ["", ".", "..", "../../x", "/x", "x/y", "x.y", "x=", "x+y", "x%2f", "x\0", "x\n", "é", &too_long]
        {
            assert!(!is_token(token), "{token:?}");
        }
    }
}
