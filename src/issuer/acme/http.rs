//! The one HTTP client for an ACME server: bounded in time and size, and silent for as long as the server asks for it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use url::{Origin, Url};

use super::problem::Problem;
use crate::domain::retry_after::RetryAfter;
use crate::domain::text::printable;

/// For one request, connection and answer together. Busy CAs take some seconds to finalize.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A renewal is tried again after a minute at the earliest.
const UNANSWERED: Duration = Duration::from_secs(30);

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// A chain of four RSA-4096 certificates is about 8 KiB, an order for 100 names about 20.
const LARGEST_ANSWER: usize = 256 * 1024;

const IDLE: Duration = Duration::from_secs(30);

const SIGNED: &str = "application/jose+json";

/// A wait that is worth holding a renewal up for; a longer one is for a later attempt.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// While nothing is asked, certd is alive.
const BEAT_EVERY: Duration = Duration::from_secs(5);

/// Is told of each wait that the server asks for, before anything else is done: of this address alone, or of all.
pub type Hearer = Box<dyn Fn(Option<&str>, Duration) + Send + Sync>;

/// Cheap to clone: all clones keep silent together.
#[derive(Clone)]
pub struct Http(Arc<Shared>);

struct Shared {
    client: reqwest::Client,
    /// Of the directory, and those that the configuration allows beside it.
    origins: Vec<Origin>,
    quiet_until: Mutex<Option<Instant>>,
    /// By address: what a server works on is looked at again no sooner than it says.
    not_before: Mutex<HashMap<String, Instant>>,
    hearer: OnceLock<Hearer>,
    /// Of the last resource that was made.
    location: Mutex<Option<String>>,
    /// By address: when it was read last and did not answer in time.
    unanswered: Mutex<HashMap<String, Instant>>,
}

/// One that is a success, or that a signature's nonce was refused.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// Nothing was sent.
    #[error("it asks to be left alone for another {} s", wait.as_secs())]
    LeftAlone { wait: Duration },
    /// Nothing was sent: of this alone.
    #[error("the CA is at work on it, and wants it looked at again in {} s", wait.as_secs())]
    NotYet { wait: Duration },
    #[error("the CA names {0}: an address of ACME is such as https://acme.example.org/new-order")]
    Address(&'static str),
    /// Nothing was sent.
    #[error(
        "the CA names an address at {0}, which is not where its directory is: write it in `also` if it is the CA's"
    )]
    OtherOrigin(String),
    #[error("the CA's server did not answer within {} s", DEADLINE.as_secs())]
    Timeout,
    #[error("the CA's server cannot be reached")]
    Unreachable {
        /// It may have heard the request.
        heard: bool,
        #[source]
        source: reqwest::Error,
    },
    #[error("the CA's server answers with more than {} KiB", LARGEST_ANSWER / 1024)]
    TooLarge,
    /// Of a proxy, or of a server that is broken.
    #[error("what answers for the CA's server is no ACME (status {status})")]
    NotAcme { status: u16, retry_after: Option<RetryAfter> },
    #[error("{problem}")]
    Said { status: u16, problem: Box<Problem>, retry_after: Option<RetryAfter> },
    #[error("the CA's own limit for these names is reached: retry in {} s (Retry-After)", wait.as_secs())]
    NamesLimited { wait: Duration },
    /// The names could not be made ready to be proved.
    #[error("{0}")]
    Unprepared(String),
    #[error("what the CA's server answers was not understood: {0}")]
    NotUnderstood(String),
    #[error("the CA's server refused every nonce that it gave")]
    Nonces,
}

impl AcmeError {
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::LeftAlone { wait } | Self::NotYet { wait } | Self::NamesLimited { wait } => Some(*wait),
            Self::NotAcme { retry_after, .. } | Self::Said { retry_after, .. } => retry_after.map(|asked| asked.wait),
            Self::Address(_) | Self::OtherOrigin(_) | Self::Timeout | Self::Unreachable { .. } => None,
            Self::Unprepared(_) | Self::TooLarge | Self::NotUnderstood(_) | Self::Nonces => None,
        }
    }

    /// Whether the server may have done what it was asked for.
    pub fn may_be_done(&self) -> bool {
        match self {
            Self::LeftAlone { .. } | Self::NotYet { .. } | Self::Address(_) | Self::OtherOrigin(_) => false,
            Self::Unprepared(_) | Self::Nonces | Self::NamesLimited { .. } => false,
            Self::Unreachable { heard, .. } => *heard,
            Self::Said { status, .. } => *status >= 500,
            Self::Timeout | Self::TooLarge | Self::NotAcme { .. } | Self::NotUnderstood(_) => true,
        }
    }

    /// Whether it would be said again, however often it is asked.
    pub fn is_lasting(&self) -> bool {
        let lasts = |status: u16| matches!(status, 400 | 401 | 403 | 404 | 405 | 410);
        match self {
            Self::Address(_) | Self::OtherOrigin(_) => true,
            Self::Said { status, .. } | Self::NotAcme { status, .. } => lasts(*status),
            Self::LeftAlone { .. } | Self::NotYet { .. } | Self::Timeout | Self::Unreachable { .. } => false,
            Self::TooLarge | Self::Unprepared(_) | Self::NotUnderstood(_) | Self::Nonces => false,
            Self::NamesLimited { .. } => false,
        }
    }

    pub fn is(&self, name: &str) -> bool {
        matches!(self, Self::Said { problem, .. } if problem.name() == name)
    }
}

/// What went wrong below instant-acme comes back as it went in.
impl From<instant_acme::Error> for AcmeError {
    fn from(error: instant_acme::Error) -> Self {
        match error {
            instant_acme::Error::Other(other) => match other.downcast::<Self>() {
                Ok(own) => *own,
                Err(other) => Self::NotUnderstood(printable(&other.to_string())),
            },
            // The last of several nonces, or what an order says of itself.
            instant_acme::Error::Api(problem) => {
                let (status, problem) = (problem.status.unwrap_or_default(), Problem::from(&problem));
                match problem.name() {
                    "badNonce" => Self::Nonces,
                    _ => Self::Said { status, problem: Box::new(problem), retry_after: None },
                }
            }
            other => Self::NotUnderstood(printable(&other.to_string())),
        }
    }
}

impl Http {
    /// Asks only servers at the origin (RFC 6454) of one of `addresses`. `roots` in DER; `None` takes the system's.
    ///
    /// # Errors
    /// If the roots cannot be used.
    pub fn new(addresses: &[Url], roots: Option<&[Vec<u8>]>) -> Result<Self, crate::http::Unusable> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(crate::http::tls(roots)?.with_no_client_auth())
            // One would lead what was signed for one address to another.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(DEADLINE)
            .pool_idle_timeout(IDLE)
            .user_agent(concat!("certd/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self(Arc::new(Shared {
            client,
            origins: addresses.iter().map(Url::origin).collect(),
            quiet_until: Mutex::default(),
            not_before: Mutex::default(),
            hearer: OnceLock::new(),
            location: Mutex::default(),
            unanswered: Mutex::default(),
        })))
    }

    /// Reads a resource without signing. One that did not answer in time is not asked again for 30 s, since one turn
    /// reads a directory several times.
    pub async fn read(&self, url: &str) -> Result<Answer, AcmeError> {
        locked(&self.0.unanswered).retain(|_, since| since.elapsed() < UNANSWERED);
        if locked(&self.0.unanswered).contains_key(url) {
            return Err(AcmeError::Timeout);
        }
        let read = self.send(reqwest::Method::GET, url, Bytes::new()).await;
        if matches!(read, Err(AcmeError::Timeout)) {
            locked(&self.0.unanswered).insert(url.to_string(), Instant::now());
        }
        read
    }

    pub async fn head(&self, url: &str) -> Result<Answer, AcmeError> {
        self.send(reqwest::Method::HEAD, url, Bytes::new()).await
    }

    pub async fn post(&self, url: &str, signed: Vec<u8>) -> Result<Answer, AcmeError> {
        self.send(reqwest::Method::POST, url, signed.into()).await
    }

    /// Where what was made last is.
    pub fn location(&self) -> Option<String> {
        locked(&self.0.location).clone()
    }

    /// How long it is still to be left alone.
    pub fn quiet(&self) -> Option<Duration> {
        let until = (*locked(&self.0.quiet_until))?;
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// Also asked for in an earlier life of the process.
    pub fn be_quiet(&self, wait: Duration) {
        let mut until = locked(&self.0.quiet_until);
        *until = (*until).max(Instant::now().checked_add(wait));
    }

    /// The same of this address alone.
    pub fn not_before(&self, url: &str, wait: Duration) {
        let Some(until) = Instant::now().checked_add(wait) else { return };
        let mut not_before = locked(&self.0.not_before);
        let known = not_before.entry(url.to_string()).or_insert(until);
        *known = (*known).max(until);
    }

    /// The CA's own limit is reached for what is ordered under this word: no other order waits for that.
    pub fn limit(&self, order: &str, wait: Duration) {
        self.not_before(order, wait);
        self.tell(Some(order), wait);
    }

    /// How long such an order is still to wait.
    pub fn limited(&self, order: &str) -> Option<Duration> {
        let until = locked(&self.0.not_before).get(order).copied()?;
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// The first one is it.
    pub fn be_heard(&self, hearer: Hearer) {
        let _ = self.0.hearer.set(hearer);
    }

    fn tell(&self, about: Option<&str>, wait: Duration) {
        if let Some(hearer) = self.0.hearer.get().filter(|_| !wait.is_zero()) {
            hearer(about, wait);
        }
    }

    async fn send(&self, method: reqwest::Method, url: &str, body: Bytes) -> Result<Answer, AcmeError> {
        if let Some(wait) = self.quiet() {
            return Err(AcmeError::LeftAlone { wait });
        }
        self.wait_for(url).await?;
        let address = url;
        let url = secured(url).map_err(AcmeError::Address)?;
        if !self.0.origins.contains(&url.origin()) {
            return Err(AcmeError::OtherOrigin(printable(&url.origin().ascii_serialization())));
        }
        let mut request = reqwest::Request::new(method, url);
        let is_signed = !body.is_empty();
        if is_signed {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(SIGNED));
            *request.body_mut() = Some(body.into());
        }
        let answered = self.exchange(request).await;
        crate::pulse::beat();
        let answer = self.judge(answered?)?;
        self.note_wait(address, is_signed, &answer);
        Ok(answer)
    }

    async fn wait_for(&self, url: &str) -> Result<(), AcmeError> {
        let until = locked(&self.0.not_before).get(url).copied();
        let wait = until.and_then(|until| until.checked_duration_since(Instant::now())).unwrap_or_default();
        if wait > LONGEST_WAIT {
            return Err(AcmeError::NotYet { wait });
        }
        sleep(wait).await;
        Ok(())
    }

    /// What came with a success is about this address alone, and about the one that it names: that of the order, in the
    /// answer to its finalization (RFC 8555, section 7.4).
    fn note_wait(&self, url: &str, is_signed: bool, answer: &Answer) {
        locked(&self.0.not_before).retain(|_, until| Instant::now() < *until);
        let Some(asked) = crate::http::retry_after(&answer.headers) else { return };
        let named = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        for url in [Some(url), named].into_iter().flatten() {
            self.not_before(url, asked.wait);
            // When to read once more what is public, whoever reads it keeps.
            if is_signed {
                self.tell(Some(url), asked.wait);
            }
        }
    }

    async fn exchange(&self, request: reqwest::Request) -> Result<Answer, AcmeError> {
        let mut response = self.0.client.execute(request).await.map_err(lost)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return Err(AcmeError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let status = response.status().as_u16();
        Ok(Answer { status, headers: std::mem::take(response.headers_mut()), body: body.into() })
    }

    fn judge(&self, answer: Answer) -> Result<Answer, AcmeError> {
        if (200..300).contains(&answer.status) {
            if let Some(location) = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok()) {
                *locked(&self.0.location) = Some(location.to_string());
            }
            return Ok(answer);
        }
        let retry_after = crate::http::retry_after(&answer.headers);
        let status = answer.status;
        let problem = Problem::parse(&answer.body).filter(|_| status >= 400);
        let is_of_all = problem.as_ref().is_none_or(|problem| !problem.is_of_names());
        if let Some(asked) = retry_after.as_ref().filter(|_| is_of_all) {
            self.be_quiet(asked.wait);
            self.tell(None, asked.wait);
            if asked.is_capped {
                tracing::warn!("the CA's server: {asked}; it is left alone for a day at most");
            }
        }
        match problem {
            None => Err(AcmeError::NotAcme { status, retry_after }),
            Some(problem) if problem.name() == "badNonce" && retry_after.is_none() => Ok(answer),
            Some(problem) => Err(AcmeError::Said { status, problem: Box::new(problem), retry_after }),
        }
    }
}

fn secured(address: &str) -> Result<Url, &'static str> {
    let url = Url::parse(address).map_err(|_| "what is no address")?;
    match url.scheme() {
        "https" if url.username().is_empty() && url.password().is_none() => Ok(url),
        // A browser would show what stands before the @, and go to what stands behind it.
        "https" => Err("an address with a user or a password before its host"),
        _ => Err("an address without TLS"),
    }
}

pub async fn sleep(wait: Duration) {
    let until = Instant::now() + wait;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        tokio::time::sleep(left.min(BEAT_EVERY)).await;
        crate::pulse::beat();
    }
}

fn lost(source: reqwest::Error) -> AcmeError {
    match source.is_timeout() {
        true => AcmeError::Timeout,
        false => AcmeError::Unreachable { heard: !source.is_connect(), source: source.without_url() },
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HttpClient for Http {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let http = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.expect("what is in memory can be read").to_bytes();
            let answer = http.send(parts.method, &parts.uri.to_string(), body).await;
            let Answer { status, headers, body } =
                answer.map_err(|error| instant_acme::Error::Other(Box::new(error)))?;
            let mut response = http::Response::new(());
            *response.status_mut() = http::StatusCode::from_u16(status).expect("it came as a status");
            *response.headers_mut() = headers;
            Ok(BytesResponse { parts: response.into_parts().0, body: Box::new(body) })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_acme_is_https_with_nobody_before_its_host_and_else_the_true_reason_is_told() {
        for (address, why) in [
            ("http://127.0.0.1/order", Some("an address without TLS")),
            ("https://127.0.0.1:443.example.org/", Some("what is no address")),
            ("https://127.0.0.1:443@example.org/", Some("an address with a user or a password before its host")),
            ("https://acme@example.org/", Some("an address with a user or a password before its host")),
            ("/order", Some("what is no address")),
            ("https://127.0.0.1:443/order", None),
        ] {
            assert_eq!(secured(address).err(), why, "{address}");
        }
    }
}
