//! One request to Vault: built by rustify, sent by our own client, bounded in time and size, judged by its status.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Request;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use rustify::endpoint::Endpoint;
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;
use zeroize::Zeroizing;

use super::error::VaultError;
use super::request::built;
use super::session::Session;
use super::token::Token;
use super::{ClientCertificate, Settings};
use crate::domain::text::printable;

/// A connection within a site takes milliseconds; a host that is down should not use up the deadline.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Shorter than the 60 s after which load balancers tend to drop a silent connection.
const IDLE: Duration = Duration::from_secs(30);

/// Vault takes requests of up to 32 MiB and its storage 1 MiB a secret; a listing of 100,000 names is about 8 MiB.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// Room that is made at once for an answer which says that it is so long: most secrets fit.
const LIKELY_ANSWER: usize = 64 * 1024;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
const INDEX: HeaderName = HeaderName::from_static("x-vault-index");
const INCONSISTENT: HeaderName = HeaderName::from_static("x-vault-inconsistent");

/// What certd asks of Vault: the label of its metric and the capability that its policy needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Mount,
    Read,
    Write,
    List,
    Sign,
    CaChain,
    Lookup,
    Login,
    Renew,
    Revoke,
    Unwrap,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::Read => "read",
            Self::Write => "write",
            Self::List => "list",
            Self::Sign => "sign",
            Self::CaChain => "ca_chain",
            Self::Lookup => "lookup",
            Self::Login => "login",
            Self::Renew => "renew",
            Self::Revoke => "revoke",
            Self::Unwrap => "unwrap",
        }
    }

    fn hint(self, path: &str) -> String {
        let capability = match self {
            Self::Mount => {
                let path = path.strip_prefix("sys/internal/ui/mounts/").unwrap_or(path);
                return format!(
                    "check that {path} lies in a mount, and that certd's token has rights there and has not ended"
                );
            }
            Self::Read | Self::CaChain | Self::Lookup => "`read`",
            Self::Write => "`create` and `update`",
            Self::List => "`list`",
            Self::Sign | Self::Renew | Self::Revoke | Self::Unwrap => "`update`",
            Self::Login => return "check what certd logs in with, and the role that it names".to_string(),
        };
        format!("give certd {capability} on {}, with a token that has not ended", printable(path))
    }
}

/// An answer that is a success, or a 404 in Vault's own form.
pub(super) struct Reply {
    pub found: bool,
    address: String,
    status: u16,
    body: Zeroizing<Vec<u8>>,
}

impl Reply {
    /// The body is never quoted: it may hold a key.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, VaultError> {
        serde_json::from_slice(&self.body)
            .map_err(|_| VaultError::NotVault { address: self.address.clone(), status: self.status })
    }
}

pub(super) struct Transport {
    http: reqwest::Client,
    /// Ends in `/v1`.
    base: Url,
    /// As shown to people.
    pub address: String,
    namespace: Option<HeaderValue>,
    token: Token,
    /// The index of the last write's answer.
    written: Mutex<Option<HeaderValue>>,
    /// By operation and status, 0 without an answer.
    pub counts: Counts,
}

pub(super) type Counts = Mutex<BTreeMap<(Operation, u16), u64>>;

impl Transport {
    pub fn new(settings: &Settings, certificate: Option<&ClientCertificate>) -> Result<Self, VaultError> {
        let address = checked(&settings.address)?;
        let namespace = settings.namespace.as_deref().map(HeaderValue::from_str).transpose();
        let namespace = namespace.map_err(|_| VaultError::Path(settings.namespace.clone().unwrap_or_default()))?;
        Ok(Self {
            http: client(settings, certificate)?,
            base: Url::parse(&format!("{address}/v1")).map_err(|_| VaultError::Path(address.clone()))?,
            address,
            namespace,
            token: Token::new(settings.token.clone()),
            written: Mutex::default(),
            counts: Mutex::default(),
        })
    }

    /// With certd's token. A denial is Vault's last word only if that token lives.
    pub async fn call<E: Endpoint>(&self, operation: Operation, endpoint: E) -> Result<Reply, VaultError> {
        let token = self.token.header(self).await?;
        let path = endpoint.path();
        let request = self.request(operation, &path, &endpoint, Some(token.clone()))?;
        let Some(session) = self.token.session() else { return self.exchange_request(operation, &path, request).await };
        let again = request.try_clone();
        match self.exchange_request(operation, &path, request).await {
            Err(denied @ VaultError::Denied { .. }) => match again.zip(session.after_denial(self, &token).await) {
                Some((mut request, token)) => {
                    request.headers_mut().insert(TOKEN, token);
                    self.exchange_request(operation, &path, request).await
                }
                None => Err(denied),
            },
            answer => answer,
        }
    }

    /// Without a token: that is what is asked for.
    pub async fn log_in<E: Endpoint>(&self, endpoint: E) -> Result<Reply, VaultError> {
        self.exchange(Operation::Login, endpoint, None).await
    }

    /// One request with one token, or none.
    pub async fn exchange<E: Endpoint>(
        &self,
        operation: Operation,
        endpoint: E,
        token: Option<HeaderValue>,
    ) -> Result<Reply, VaultError> {
        let path = endpoint.path();
        let request = self.request(operation, &path, &endpoint, token)?;
        self.exchange_request(operation, &path, request).await
    }

    fn request<E: Endpoint>(
        &self,
        operation: Operation,
        path: &str,
        endpoint: &E,
        token: Option<HeaderValue>,
    ) -> Result<Request, VaultError> {
        if path.split('/').any(|segment| segment == "..") {
            return Err(VaultError::Path(printable(path)));
        }
        let mut request = built(&self.base, endpoint).map_err(|_| VaultError::Path(printable(path)))?;
        let headers = request.headers_mut();
        headers.insert(REQUEST, HeaderValue::from_static("true"));
        headers.extend(token.map(|token| (TOKEN, token)));
        headers.extend(self.namespace.clone().map(|namespace| (NAMESPACE, namespace)));
        // A standby answers a read from behind the active server: without both of these, stale.
        if let Some(index) = locked(&self.written).as_ref().filter(|_| operation != Operation::Write) {
            headers.insert(INDEX, index.clone());
            headers.insert(INCONSISTENT, HeaderValue::from_static("forward-active-node"));
        }
        Ok(request)
    }

    async fn exchange_request(&self, operation: Operation, path: &str, request: Request) -> Result<Reply, VaultError> {
        let answer = self.send(request).await;
        self.count(operation, answer.as_ref().map_or(0, |answer| answer.status().as_u16()));
        let answer = answer?;
        if let Some(index) = answer.headers().get(INDEX).filter(|_| operation == Operation::Write) {
            *locked(&self.written) = Some(index.clone());
        }
        self.judge(operation, path, answer)
    }

    pub fn session(&self) -> Option<&Session> {
        self.token.session()
    }

    pub fn not_vault(&self) -> VaultError {
        VaultError::NotVault { address: self.address.clone(), status: 200 }
    }

    async fn send(&self, request: Request) -> Result<http::Response<Vec<u8>>, VaultError> {
        let failed = |source: reqwest::Error| match source.is_timeout() {
            true => VaultError::Timeout { address: self.address.clone() },
            false => VaultError::Unreachable { address: self.address.clone(), source: source.without_url() },
        };
        let mut response = self.http.execute(request).await.map_err(failed)?;
        let said = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let mut body = Vec::with_capacity(said.min(LIKELY_ANSWER));
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return Err(VaultError::TooLarge { limit: LARGEST_ANSWER });
            }
            body.extend_from_slice(&chunk);
        }
        let mut answer = http::Response::new(body);
        *answer.status_mut() = response.status();
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }

    fn judge(&self, operation: Operation, path: &str, answer: http::Response<Vec<u8>>) -> Result<Reply, VaultError> {
        let (parts, body) = answer.into_parts();
        let (status, body) = (parts.status.as_u16(), Zeroizing::new(body));
        if (300..400).contains(&status) {
            return Err(VaultError::Redirected { to: target(&parts.headers) });
        }
        let reply = Reply { found: parts.status.is_success(), address: self.address.clone(), status, body };
        if reply.found {
            return Ok(reply);
        }
        let words: Words = reply.parse()?;
        match (status, words) {
            // Nothing at the path, or only deleted versions.
            (404, Words { errors: Some(errors), .. }) if errors.is_empty() => Ok(reply),
            (404, Words { data: Some(_), .. }) => Ok(reply),
            (_, Words { errors: Some(errors), .. }) => Err(self.failure(operation, path, status, &errors)),
            (_, Words { errors: None, .. }) => Err(VaultError::NotVault { address: self.address.clone(), status }),
        }
    }

    fn failure(&self, operation: Operation, path: &str, status: u16, errors: &[String]) -> VaultError {
        let words = printable(&errors.join("; "));
        let address = self.address.clone();
        let says = |text: &str| errors.iter().any(|error| error.contains(text));
        match status {
            400 if says("check-and-set parameter did not match") => VaultError::CasMismatch { words },
            403 => VaultError::Denied { words, hint: operation.hint(path) },
            404 if says("no handler for route") => VaultError::NoMount { path: printable(path), words },
            501 => VaultError::Sealed { address },
            503 if says("sealed") || says("not initialized") => VaultError::Sealed { address },
            472 | 473 => VaultError::Standby { address, words },
            _ if says("standby") || says("node not active") => VaultError::Standby { address, words },
            // A quota on requests: it was not carried out, yet nothing is wrong with it.
            429 => VaultError::Server { status, words },
            400..=499 => VaultError::Refused { status, words },
            _ => VaultError::Server { status, words },
        }
    }

    /// An answer of any kind is an item finished; so is a deadline that passed.
    fn count(&self, operation: Operation, status: u16) {
        crate::pulse::beat();
        *locked(&self.counts).entry((operation, status)).or_default() += 1;
    }

    /// Operation, status and how often, since start.
    pub fn requests(&self) -> Vec<(&'static str, u16, u64)> {
        locked(&self.counts).iter().map(|((operation, status), count)| (operation.as_str(), *status, *count)).collect()
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The form of Vault's errors, and of a 404 for a deleted secret.
#[derive(Deserialize)]
struct Words {
    errors: Option<Vec<String>>,
    data: Option<serde::de::IgnoredAny>,
}

/// Without a trailing slash. Errors never show user information.
fn checked(address: &Url) -> Result<String, VaultError> {
    let host = address.host_str().unwrap_or_default();
    let refused = |why| VaultError::Address { address: printable(&format!("{}://{host}", address.scheme())), why };
    let is_loopback =
        host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match address.scheme() {
        _ if host.is_empty() => Err(refused("it names no host")),
        _ if !address.username().is_empty() || address.password().is_some() => {
            Err(refused("it holds a user name or password; use a token"))
        }
        _ if address.query().is_some() || address.fragment().is_some() => Err(refused("it holds a query or fragment")),
        "https" => Ok(address.as_str().trim_end_matches('/').to_string()),
        "http" if is_loopback => Ok(address.as_str().trim_end_matches('/').to_string()),
        "http" => Err(refused("plain http would show certd's token and keys to the network; use https")),
        _ => Err(refused("it must begin with https://")),
    }
}

fn client(settings: &Settings, certificate: Option<&ClientCertificate>) -> Result<reqwest::Client, VaultError> {
    let unusable = |source: Box<dyn std::error::Error + Send + Sync>| VaultError::Roots { source };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| unusable(e.into()))?
        .with_root_certificates(roots(settings).map_err(unusable)?);
    let tls = match certificate {
        None => tls.with_no_client_auth(),
        Some(ClientCertificate { chain, key }) => {
            let chain = chain.iter().map(|der| der.clone().into()).collect();
            let key = PrivatePkcs8KeyDer::from(key.pkcs8.to_vec());
            let made = tls.with_client_auth_cert(chain, key.into());
            made.map_err(|source| VaultError::ClientCertificate { source })?
        }
    };
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .http1_only()
        .connect_timeout(CONNECT_DEADLINE.min(settings.deadline))
        .timeout(settings.deadline)
        .pool_idle_timeout(IDLE)
        .user_agent(concat!("certd/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| unusable(e.into()))
}

fn roots(settings: &Settings) -> Result<rustls::RootCertStore, Box<dyn std::error::Error + Send + Sync>> {
    let mut store = rustls::RootCertStore::empty();
    match &settings.roots {
        Some(ders) => {
            for der in ders {
                store.add(der.clone().into())?;
            }
        }
        None if settings.address.scheme() == "http" => {}
        None => {
            let system = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(system.certs);
            if let (true, Some(error)) = (store.is_empty(), system.errors.into_iter().next()) {
                return Err(error.into());
            }
        }
    }
    Ok(store)
}

/// Where a redirect leads, without its path and query.
fn target(headers: &HeaderMap) -> String {
    let location = headers.get(LOCATION).and_then(|to| to.to_str().ok()).and_then(|to| Url::parse(to).ok());
    location.map_or("(not said)".to_string(), |to| printable(&to.origin().ascii_serialization()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_or_on_loopback_and_shows_no_password() {
        for (address, outcome) in [
            ("https://vault.example.org:8200/", "https://vault.example.org:8200"),
            ("https://example.org/vault/", "https://example.org/vault"),
            ("http://127.0.0.1:8200", "http://127.0.0.1:8200"),
            ("http://[::1]:8200", "http://[::1]:8200"),
            ("http://localhost", "http://localhost"),
            ("http://vault.example.org", "plain http would show certd's token and keys to the network; use https"),
            ("http://127.0.0.1.example.org", "plain http would show certd's token and keys to the network; use https"),
            ("https://root:hunter2@vault", "it holds a user name or password; use a token"),
            ("https://vault/?a=b", "it holds a query or fragment"),
            ("ftp://vault", "it must begin with https://"),
        ] {
            let told = match checked(&address.parse().unwrap()) {
                Ok(base) => base,
                Err(VaultError::Address { address, why }) => {
                    assert!(!address.contains("hunter2"), "{address}");
                    why.to_string()
                }
                Err(other) => panic!("{other}"),
            };
            assert_eq!(told, outcome, "{address}");
        }
    }
}
