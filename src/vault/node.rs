//! One address of Vault: how it is reached, over which TLS, within which bounds; and the order in which several are asked.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use reqwest::dns::{Name, Resolve, Resolving};
use reqwest::header::HeaderMap;
use rustls_pki_types::PrivatePkcs8KeyDer;
use url::{Origin, Url};
use zeroize::Zeroizing;

use super::error::VaultError;
use super::tls_files::{Material, Stamp, TlsFiles};
use super::transport::locked;
use super::{ClientCertificate, Settings};
use crate::domain::text::{printable, with_causes};

/// A connection within a site takes milliseconds; a host that is down should not use up the deadline.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Shorter than the 60 s after which load balancers tend to drop a silent connection.
const IDLE: Duration = Duration::from_secs(30);

/// Vault takes requests of up to 32 MiB and its storage 1 MiB a secret; a listing of 100,000 names is about 8 MiB.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// Room that is made at once for an answer which says that it is so long: most secrets fit.
const LIKELY_ANSWER: usize = 64 * 1024;

/// How long an address is stayed with before the one that is preferred gets another chance. One request in this
/// time waits for it, at most as long as a connection may take.
const STAY: Duration = Duration::from_secs(60);

/// How often the files of TLS are looked at while requests are sent. A login looks each time.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The addresses of one Vault. There is at least one.
pub(super) struct Nodes {
    /// In order of preference.
    nodes: Vec<Node>,
    first: Mutex<First>,
    watched: Option<Watched>,
}

/// The files that the connections are made from.
struct Watched {
    files: TlsFiles,
    seen: Mutex<(Instant, Stamp)>,
}

/// The one that is asked first.
#[derive(Clone, Copy)]
struct First {
    at: usize,
    /// When to ask the preferred one again; `None` for not until this one fails.
    until: Option<Instant>,
}

pub(super) struct Node {
    http: ArcSwap<reqwest::Client>,
    making: Making,
    /// As shown to people.
    pub address: String,
    /// What a redirect must lead to, to be followed here.
    origin: Origin,
    /// As it is asked: the host is the server's name where one is set.
    url: Url,
}

/// What its client is made from, but for TLS.
struct Making {
    deadline: Duration,
    /// Where every name is found, if the server has a name of its own.
    host: Option<String>,
}

/// A request as it goes to any of the addresses.
#[derive(Clone)]
pub(super) struct Sent<'a> {
    pub method: &'a http::Method,
    /// Path, with `/v1`, and query.
    pub target: &'a str,
    pub headers: HeaderMap,
    pub body: &'a [u8],
}

/// The whole answer: nothing is left on the connection.
pub(super) struct Answered {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Zeroizing<Vec<u8>>,
}

/// No whole answer came.
pub(super) struct Lost {
    pub error: VaultError,
    /// Whether Vault may have heard the request.
    pub heard: bool,
}

impl Nodes {
    pub fn new(settings: &Settings, certificate: Option<&ClientCertificate>) -> Result<Self, VaultError> {
        let tls =
            tls(settings.roots.as_deref(), certificate, settings.addresses.iter().all(|at| at.scheme() == "http"))?;
        let nodes: Result<Vec<Node>, VaultError> =
            settings.addresses.iter().map(|address| Node::new(address, settings, tls.clone())).collect();
        let nodes = nodes?;
        if nodes.is_empty() {
            return Err(VaultError::Address { address: "(none)".to_string(), why: "there is no address" });
        }
        Ok(Self { nodes, first: Mutex::new(First { at: 0, until: None }), watched: None })
    }

    /// Has connections made anew from these files whenever they change.
    pub fn watch(&mut self, files: TlsFiles) {
        let stamp = files.stamp();
        self.watched = Some(Watched { files, seen: Mutex::new((Instant::now(), stamp)) });
    }

    /// Makes the connections anew if the files have changed; what cannot be used is told, and the old ones stay.
    pub fn refresh(&self, at_once: bool) {
        let Some(watched) = &self.watched else { return };
        let mut seen = locked(&watched.seen);
        if !at_once && seen.0.elapsed() < LOOK_EVERY {
            return;
        }
        let stamp = watched.files.stamp();
        let changed = stamp != seen.1;
        *seen = (Instant::now(), stamp);
        if changed {
            match self.make_anew(&watched.files) {
                Ok(()) => tracing::info!(vault = %self.nodes[0].address, "read the files for TLS again: they changed"),
                Err(why) => tracing::error!(
                    vault = %self.nodes[0].address,
                    "the files for TLS changed and cannot be used, so the old ones stay in use: {why}"
                ),
            }
        }
    }

    fn make_anew(&self, files: &TlsFiles) -> Result<(), String> {
        let Material { roots, certificate } = files.read().map_err(|error| with_causes(&error))?;
        let no_tls = self.nodes.iter().all(|node| node.url.scheme() == "http");
        let tls = tls(roots.as_deref(), certificate.as_ref(), no_tls).map_err(|error| with_causes(&error))?;
        let made: Result<Vec<_>, _> = self.nodes.iter().map(|node| node.making.client(tls.clone())).collect();
        for (node, client) in self.nodes.iter().zip(made.map_err(|error| with_causes(&error))?) {
            node.http.store(Arc::new(client));
        }
        Ok(())
    }

    /// Each once: the one that answered last, then the others by preference.
    pub fn in_turn(&self) -> impl Iterator<Item = &Node> {
        let first = self.first();
        let others = (0..self.nodes.len()).filter(move |at| *at != first);
        std::iter::once(first).chain(others).map(|at| &self.nodes[at])
    }

    fn first(&self) -> usize {
        let mut first = locked(&self.first);
        let now = Instant::now();
        match first.until {
            Some(until) if until <= now => {
                first.until = Some(now + STAY);
                0
            }
            Some(_) | None => first.at,
        }
    }

    /// The one that is asked first.
    pub fn address(&self) -> &str {
        &self.nodes[locked(&self.first).at].address
    }

    /// To be asked first from now on, and for a while.
    pub fn stay_with(&self, node: &Node) {
        let at = self.place_of(node);
        let mut first = locked(&self.first);
        if first.at != at {
            *first = First { at, until: (at > 0).then(|| Instant::now() + STAY) };
        }
    }

    /// To be asked first until it fails.
    pub fn keep_to(&self, node: &Node) {
        *locked(&self.first) = First { at: self.place_of(node), until: None };
    }

    fn place_of(&self, node: &Node) -> usize {
        self.nodes.iter().position(|other| std::ptr::eq(other, node)).unwrap_or(0)
    }

    /// Where a redirect leads, if that is one of the configured addresses.
    pub fn of(&self, target: &Url) -> Option<&Node> {
        self.nodes.iter().find(|node| node.origin == target.origin())
    }
}

impl Node {
    fn new(address: &Url, settings: &Settings, tls: rustls::ClientConfig) -> Result<Self, VaultError> {
        let shown = checked(address)?;
        let mut url = address.clone();
        let mut host = None;
        if let Some(name) = &settings.server_name {
            host = Some(address.host_str().unwrap_or_default().trim_matches(['[', ']']).to_string());
            let why = "it cannot be asked by the server_name";
            url.set_host(Some(name)).map_err(|_| VaultError::Address { address: shown.clone(), why })?;
        }
        let making = Making { deadline: settings.deadline, host };
        let http = ArcSwap::from_pointee(making.client(tls)?);
        Ok(Self { http, making, address: shown, origin: address.origin(), url })
    }

    /// What it says of itself without a token (`GET /sys/health`): 200 active, 429 standby, 472 and 473 of a
    /// replica, 501 not initialised, 503 sealed. `None` where it does not say.
    pub async fn health(&self) -> Option<u16> {
        let (method, headers) = (&http::Method::GET, HeaderMap::new());
        let answer = self.send(Sent { method, target: "/v1/sys/health", headers, body: &[] }).await;
        answer.ok().map(|answer| answer.status)
    }

    /// `sent.target` is below the path of the address.
    pub async fn send(&self, sent: Sent<'_>) -> Result<Answered, Lost> {
        let (path, query) =
            sent.target.split_once('?').map_or((sent.target, None), |(path, query)| (path, Some(query)));
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", self.url.path().trim_end_matches('/')));
        url.set_query(query);
        self.send_to(url, sent).await
    }

    /// To the path and the query that a redirect named.
    pub async fn follow(&self, to: &Url, sent: Sent<'_>) -> Result<Answered, Lost> {
        let mut url = self.url.clone();
        url.set_path(to.path());
        url.set_query(to.query());
        self.send_to(url, sent).await
    }

    async fn send_to(&self, url: Url, sent: Sent<'_>) -> Result<Answered, Lost> {
        let mut request = reqwest::Request::new(sent.method.clone(), url);
        *request.headers_mut() = sent.headers;
        *request.body_mut() = Some(sent.body.to_vec().into());
        let http = self.http.load_full();
        let mut response = http.execute(request).await.map_err(|source| self.lost(source))?;
        let said = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let mut body = Zeroizing::new(Vec::with_capacity(said.min(LIKELY_ANSWER)));
        while let Some(chunk) = response.chunk().await.map_err(|source| self.lost(source))? {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return Err(Lost { error: VaultError::TooLarge { limit: LARGEST_ANSWER }, heard: true });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answered { status: response.status().as_u16(), headers: std::mem::take(response.headers_mut()), body })
    }

    fn lost(&self, source: reqwest::Error) -> Lost {
        let (address, heard) = (self.address.clone(), !source.is_connect());
        match source.is_timeout() {
            true => Lost { error: VaultError::Timeout { address }, heard },
            false => Lost { error: VaultError::Unreachable { address, source: source.without_url() }, heard },
        }
    }
}

impl Making {
    fn client(&self, tls: rustls::ClientConfig) -> Result<reqwest::Client, VaultError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            // One would take the token along to another host.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT_DEADLINE.min(self.deadline))
            .timeout(self.deadline)
            .pool_idle_timeout(IDLE)
            .user_agent(concat!("certd/", env!("CARGO_PKG_VERSION")));
        let http = match &self.host {
            None => http,
            Some(host) => http.dns_resolver(Arc::new(AlwaysTo(host.clone()))),
        };
        http.build().map_err(|error| VaultError::Roots { source: error.into() })
    }
}

/// Finds every name at this host: the URL has the name that the server's certificate must have.
struct AlwaysTo(String);

impl Resolve for AlwaysTo {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            // The port is that of the URL.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as reqwest::dns::Addrs)
        })
    }
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

/// Without TLS on any address there is nobody to trust.
fn tls(
    roots: Option<&[Vec<u8>]>,
    certificate: Option<&ClientCertificate>,
    no_tls: bool,
) -> Result<rustls::ClientConfig, VaultError> {
    let unusable = |source: Box<dyn std::error::Error + Send + Sync>| VaultError::Roots { source };
    let roots = roots.or(no_tls.then_some(&[]));
    let tls = crate::http::tls(roots).map_err(unusable)?;
    match certificate {
        None => Ok(tls.with_no_client_auth()),
        Some(ClientCertificate { chain, key }) => {
            let chain = chain.iter().map(|der| der.clone().into()).collect();
            let key = PrivatePkcs8KeyDer::from(key.pkcs8.to_vec());
            let made = tls.with_client_auth_cert(chain, key.into());
            made.map_err(|source| VaultError::ClientCertificate { source })
        }
    }
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

    fn nodes(addresses: &[&str]) -> Nodes {
        let settings = Settings {
            name: "main".into(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            server_name: None,
            roots: Some(Vec::new()),
            namespace: None,
            token: crate::vault::TokenFrom::Given(Zeroizing::default()),
            deadline: Duration::from_secs(1),
        };
        Nodes::new(&settings, None).unwrap()
    }

    fn order(nodes: &Nodes) -> Vec<&str> {
        nodes.in_turn().map(|node| node.address.as_str()).collect()
    }

    #[test]
    fn what_answered_last_is_asked_first_until_the_preferred_one_gets_another_chance() {
        let nodes = nodes(&["https://a", "https://b", "https://c"]);
        assert_eq!(order(&nodes), ["https://a", "https://b", "https://c"]);
        nodes.stay_with(&nodes.nodes[2]);
        assert_eq!((order(&nodes), nodes.address()), (vec!["https://c", "https://a", "https://b"], "https://c"));
        locked(&nodes.first).until = Some(Instant::now());
        assert_eq!(order(&nodes), ["https://a", "https://b", "https://c"], "one request asks it");
        assert_eq!(order(&nodes), ["https://c", "https://a", "https://b"], "until it has answered");
        nodes.stay_with(&nodes.nodes[0]);
        assert_eq!(order(&nodes), ["https://a", "https://b", "https://c"]);
        nodes.keep_to(&nodes.nodes[1]);
        assert!(locked(&nodes.first).until.is_none());
        assert_eq!(order(&nodes), ["https://b", "https://a", "https://c"]);
    }

    #[test]
    fn a_redirect_leads_to_a_configured_address_only_where_scheme_host_and_port_are_the_same() {
        let nodes = nodes(&["https://a", "https://b:8200"]);
        let of = |to: &str| nodes.of(&to.parse().unwrap()).map(|node| node.address.as_str());
        assert_eq!(of("https://a:443/v1/x"), Some("https://a"));
        assert_eq!(of("https://u:p@b:8200/v1/x"), Some("https://b:8200"));
        for elsewhere in ["https://b/v1/x", "http://a/v1/x", "https://a.example.org/v1/x", "data:,x"] {
            assert_eq!(of(elsewhere), None, "{elsewhere}");
        }
    }
}
