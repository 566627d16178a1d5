//! One request to Vault: built by rustify, sent by our own client, bounded in time and size, judged by its status.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use rustify::endpoint::Endpoint;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;
use zeroize::Zeroizing;

use super::consistency::Consistency;
use super::error::VaultError;
use super::life::Life;
use super::node::{Answered, Lost, Node, Nodes, Sent};
use super::request::{Built, built, texts};
use super::session::Session;
use super::token::Token;
use super::{ClientCertificate, Settings};
use crate::domain::hidden;
use crate::domain::retry_after::RetryAfter;
use crate::domain::text::printable;

/// For a cluster that elects its active node: 2 s on one host, and ten or more where it is told to be patient.
const ELECTION: Duration = Duration::from_secs(15);

const ASK_AGAIN_AFTER: Duration = Duration::from_millis(250);

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
const INDEX: HeaderName = HeaderName::from_static("x-vault-index");
const INCONSISTENT: HeaderName = HeaderName::from_static("x-vault-inconsistent");

/// How `sys/health` answers for a Vault that holds nothing yet; to everything else it says that it is sealed.
const NOT_INITIALISED: u16 = 501;

/// What certd asks of Vault: the label of its metric and the capability that its policy needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Mount,
    Read,
    Write,
    Note,
    Delete,
    List,
    Sign,
    CaChain,
    Lookup,
    Login,
    Renew,
    Revoke,
    RevokeCertificate,
    Unwrap,
    CatchUp,
    Health,
    Capabilities,
    Role,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::Read => "read",
            Self::Write => "write",
            Self::Note => "note",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Sign => "sign",
            Self::CaChain => "ca_chain",
            Self::Lookup => "lookup",
            Self::Login => "login",
            Self::Renew => "renew",
            Self::Revoke => "revoke",
            Self::RevokeCertificate => "revoke_certificate",
            Self::Unwrap => "unwrap",
            Self::CatchUp => "catch_up",
            Self::Health => "health",
            Self::Capabilities => "capabilities",
            Self::Role => "role",
        }
    }

    /// Whether it leaves everything as it is.
    fn is_read(self) -> bool {
        match self {
            Self::Mount | Self::Read | Self::List | Self::CaChain | Self::Lookup => true,
            Self::Health | Self::Capabilities | Self::Role => true,
            Self::Write | Self::Note | Self::Delete | Self::CatchUp => false,
            Self::Sign | Self::Login | Self::Renew | Self::Revoke | Self::Unwrap => false,
            Self::RevokeCertificate => false,
        }
    }

    /// Whether the active node itself carries it out: a standby may sign, or log in for a batch token, by itself.
    fn is_written(self) -> bool {
        matches!(self, Self::Write | Self::Note | Self::Delete)
    }

    fn may_be_repeated(self) -> bool {
        self.is_read() || self == Self::CatchUp
    }

    fn hint(self, path: &str) -> String {
        let capability = match self {
            Self::Mount => {
                let path = path.strip_prefix("sys/internal/ui/mounts/").unwrap_or(path);
                return format!(
                    "check that {path} lies in a mount, and that certd's token has rights there and has not ended"
                );
            }
            Self::Read | Self::CaChain | Self::Lookup | Self::Role | Self::Health => "`read`",
            Self::Write | Self::CatchUp => "`create` and `update`",
            Self::Note => "`patch`",
            Self::List => "`list`",
            Self::Delete | Self::Sign | Self::Renew | Self::Revoke | Self::Unwrap | Self::Capabilities => "`update`",
            Self::RevokeCertificate => {
                return format!("give certd `update` on {}: `certd vault policy --revoke` prints it", printable(path));
            }
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
    retry_after: Option<RetryAfter>,
}

impl Reply {
    /// The body is never quoted: it may hold a key.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, VaultError> {
        serde_json::from_slice(&self.body).map_err(|_| self.not_vault())
    }

    pub fn not_vault(&self) -> VaultError {
        VaultError::NotVault { address: self.address.clone(), status: self.status, retry_after: self.retry_after }
    }
}

/// What is asked, of whichever address.
#[derive(Clone)]
struct Request {
    operation: Operation,
    /// For people.
    path: String,
    method: http::Method,
    /// Path, with `/v1`, and query.
    target: String,
    headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
}

/// What one address made of a request.
struct Failed {
    error: VaultError,
    /// Whether it may have been carried out.
    heard: bool,
}

pub(super) struct Transport {
    pub nodes: Nodes,
    namespace: Option<HeaderValue>,
    token: Token,
    /// How long to wait for a cluster without an active node.
    patience: Duration,
    pub consistency: Consistency,
    pub life: Life,
    /// The newest `Date` and when it was heard. Parsed when somebody asks.
    pub date: Mutex<Option<(HeaderValue, Instant)>>,
    /// By operation and status, 0 without an answer.
    pub counts: Counts,
}

pub(super) type Counts = Mutex<BTreeMap<(Operation, u16), u64>>;

impl Transport {
    pub fn new(settings: &Settings, certificate: Option<&ClientCertificate>) -> Result<Self, VaultError> {
        let namespace = settings.namespace.as_deref().map(HeaderValue::from_str).transpose();
        let namespace = namespace.map_err(|_| VaultError::Path(settings.namespace.clone().unwrap_or_default()))?;
        Ok(Self {
            nodes: Nodes::new(settings, certificate)?,
            namespace,
            token: Token::new(settings.token.clone()),
            patience: ELECTION.min(settings.deadline),
            consistency: Consistency::default(),
            life: Life::default(),
            date: Mutex::default(),
            counts: Mutex::default(),
        })
    }

    /// With certd's token. A denial is Vault's last word only if that token lives.
    pub async fn call<E: Endpoint>(&self, operation: Operation, endpoint: E) -> Result<Reply, VaultError> {
        let token = self.token.header(self).await?;
        let mut request = self.request(operation, endpoint, Some(token.clone()))?;
        match (self.ask(&request).await, self.token.session()) {
            (Err(denied @ VaultError::Denied { .. }), Some(session)) => {
                match session.after_denial(self, &token).await {
                    Some(token) => {
                        request.headers.insert(TOKEN, token);
                        self.ask(&request).await
                    }
                    None => Err(denied),
                }
            }
            (answer, _) => answer,
        }
    }

    /// Without a token: that is what is asked for.
    pub async fn log_in<E: Endpoint>(&self, endpoint: E) -> Result<Reply, VaultError> {
        self.nodes.refresh(true);
        self.exchange(Operation::Login, endpoint, None).await
    }

    /// One request with one token, or none.
    pub async fn exchange<E: Endpoint>(
        &self,
        operation: Operation,
        endpoint: E,
        token: Option<HeaderValue>,
    ) -> Result<Reply, VaultError> {
        self.ask(&self.request(operation, endpoint, token)?).await
    }

    fn request<E: Endpoint>(
        &self,
        operation: Operation,
        endpoint: E,
        token: Option<HeaderValue>,
    ) -> Result<Request, VaultError> {
        let path = endpoint.path();
        if path.split('/').any(|segment| segment == "..") {
            return Err(VaultError::Path(printable(&path)));
        }
        let Built { method, target, body } = built(&endpoint).map_err(|_| VaultError::Path(printable(&path)))?;
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST, HeaderValue::from_static("true"));
        if method == http::Method::PATCH {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/merge-patch+json"));
        }
        headers.extend(token.map(|token| (TOKEN, token)));
        // The server has a state, its namespaces have none.
        let namespace = self.namespace.clone().filter(|_| operation != Operation::Health);
        headers.extend(namespace.map(|namespace| (NAMESPACE, namespace)));
        // A standby answers a read from behind the active server: without both of these, stale.
        if let Some(index) = self.consistency.index().filter(|_| operation.is_read()) {
            headers.insert(INDEX, index);
            headers.insert(INCONSISTENT, HeaderValue::from_static("forward-active-node"));
        }
        Ok(Request { operation, path, method, target, headers, body: Zeroizing::new(body) })
    }

    /// Waits for an active node, where it is known that none has carried it out.
    async fn ask(&self, request: &Request) -> Result<Reply, VaultError> {
        self.nodes.refresh(false);
        let until = Instant::now() + self.patience;
        loop {
            match self.ask_each(request).await {
                Err(error) if error.is_of_an_election() && Instant::now() < until => {
                    tokio::time::sleep(ASK_AGAIN_AFTER).await;
                }
                answer => return answer,
            }
        }
    }

    /// Asks one address after the other until one can answer. What may have been carried out is asked once.
    async fn ask_each(&self, request: &Request) -> Result<Reply, VaultError> {
        let mut last: Option<VaultError> = None;
        for node in self.nodes.in_turn() {
            let Failed { error, heard } = match self.ask_at(node, request).await {
                Ok(reply) => return Ok(reply),
                Err(failed) => failed,
            };
            if !error.is_of_the_address() || (heard && !request.operation.may_be_repeated()) {
                return Err(error);
            }
            // Who answered knows more of what is wrong than who did not.
            if last.is_none() || !error.is_silence() {
                last = Some(error);
            }
        }
        Err(last.expect("there is at least one address"))
    }

    async fn ask_at(&self, node: &Node, request: &Request) -> Result<Reply, Failed> {
        let sent_at = Instant::now();
        let answer = self.counted(request.operation, node.send(request.sent()).await)?;
        let (node, answer) = match self.elsewhere(request, &answer) {
            None => (node, answer),
            // One hop, and no further: what it leads to might lead on for ever.
            Some((other, to)) => match self.counted(request.operation, other.follow(&to, request.sent()).await) {
                Ok(answer) => (other, answer),
                Err(Failed { error, heard: false }) => return Err(led_nowhere(node, &error)),
                Err(lost) => return Err(lost),
            },
        };
        let index = answer.headers.get(INDEX).cloned();
        if let Some(date) = answer.headers.get(DATE) {
            *locked(&self.date) = Some((date.clone(), Instant::now()));
        }
        match judge(request, node, answer) {
            Ok(reply) => {
                self.nodes.stay_with(node);
                self.note(request.operation, sent_at, index);
                Ok(reply)
            }
            Err(VaultError::Sealed { address }) if node.health().await == Some(NOT_INITIALISED) => {
                Err(Failed { error: VaultError::NotInitialised { address }, heard: false })
            }
            Err(error) => {
                if !error.is_of_the_address() {
                    self.nodes.stay_with(node);
                }
                // What answers in place of Vault may stand before it.
                Err(Failed { heard: matches!(error, VaultError::NotVault { .. }), error })
            }
        }
    }

    /// What is read afterwards must show it.
    fn note(&self, operation: Operation, sent_at: Instant, index: Option<HeaderValue>) {
        if operation == Operation::CatchUp || (operation.is_written() && index.is_some()) {
            self.consistency.note(sent_at, index);
        }
    }

    /// The configured address that a redirect leads to. Who asks there would hand over the token.
    fn elsewhere(&self, request: &Request, answer: &Answered) -> Option<(&Node, Url)> {
        let follows = match answer.status {
            307 | 308 => true,
            // With these, whatever is not a read would turn into one (RFC 9110, section 15.4).
            301..=303 => request.operation.is_read(),
            _ => false,
        };
        let to = target(&answer.headers).filter(|_| follows)?;
        Some((self.nodes.of(&to)?, to))
    }

    pub fn session(&self) -> Option<&Session> {
        self.token.session()
    }

    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_ref().and_then(|namespace| namespace.to_str().ok())
    }

    /// Of the address that is asked first.
    pub fn not_vault(&self) -> VaultError {
        VaultError::NotVault { address: self.nodes.address().to_string(), status: 200, retry_after: None }
    }

    /// An answer of any kind is an item finished; so is a deadline that passed.
    fn counted(&self, operation: Operation, answer: Result<Answered, Lost>) -> Result<Answered, Failed> {
        crate::pulse::beat();
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        *locked(&self.counts).entry((operation, status)).or_default() += 1;
        answer.map_err(|Lost { error, heard }| Failed { error, heard })
    }

    /// Operation, status and how often, since start.
    pub fn requests(&self) -> Vec<(&'static str, u16, u64)> {
        locked(&self.counts).iter().map(|((operation, status), count)| (operation.as_str(), *status, *count)).collect()
    }
}

impl Request {
    fn sent(&self) -> Sent<'_> {
        Sent { method: &self.method, target: &self.target, headers: self.headers.clone(), body: &self.body }
    }

    /// What was sent and must not come back in a message: the token, and what a login or a write says.
    fn secrets(&self) -> Vec<Zeroizing<String>> {
        let token = self.headers.get(TOKEN).and_then(|token| token.to_str().ok());
        let mut secrets: Vec<_> = token.map(|token| Zeroizing::new(token.to_string())).into_iter().collect();
        if matches!(self.operation, Operation::Login | Operation::Write | Operation::Unwrap) {
            secrets.extend(texts(&self.body));
        }
        secrets
    }
}

/// A standby leads to the active node that it last knew, until there is another.
fn led_nowhere(node: &Node, error: &VaultError) -> Failed {
    let words = printable(&error.to_string());
    Failed { error: VaultError::Standby { address: node.address.clone(), words }, heard: false }
}

fn judge(request: &Request, node: &Node, answer: Answered) -> Result<Reply, VaultError> {
    let Answered { status, headers, body } = answer;
    let address = node.address.clone();
    if (300..400).contains(&status) {
        // Without path and query.
        let origin = |to: Url| hidden::words_without(&to.origin().ascii_serialization(), &request.secrets());
        let to = target(&headers).map(origin);
        return Err(VaultError::Redirected { address, to: to.unwrap_or_else(|| "(not said)".to_string()) });
    }
    let retry_after = retry_after(status, &headers);
    let reply = Reply { found: (200..300).contains(&status), address, status, body, retry_after };
    if reply.found {
        return Ok(reply);
    }
    let words: Words = reply.parse()?;
    match (status, words) {
        // Nothing at the path, or only deleted versions.
        (404, Words { errors: Some(errors), .. }) if errors.is_empty() => Ok(reply),
        (404, Words { data: Some(_), .. }) => Ok(reply),
        (_, Words { errors: Some(errors), .. }) => Err(failure(request, reply, &errors)),
        (_, Words { errors: None, .. }) => Err(reply.not_vault()),
    }
}

fn failure(request: &Request, reply: Reply, errors: &[String]) -> VaultError {
    let Reply { address, status, retry_after, .. } = reply;
    let words = hidden::words_without(&errors.join("; "), &request.secrets());
    let path = &request.path;
    let says = |text: &str| errors.iter().any(|error| error.contains(text));
    match status {
        400 if says("check-and-set parameter did not match") => VaultError::CasMismatch { words },
        403 => VaultError::Denied { words, hint: request.operation.hint(path) },
        404 if says("no handler for route") => VaultError::NoMount { path: printable(path), words },
        501 => VaultError::NotInitialised { address },
        503 if says("not initialized") => VaultError::NotInitialised { address },
        503 if says("sealed") => VaultError::Sealed { address },
        472 | 473 => VaultError::Standby { address, words },
        _ if says("standby") || says("node not active") => VaultError::Standby { address, words },
        412 => VaultError::Behind { address },
        // OpenBao's word for 412; it gives no reason then.
        429 if words.is_empty() => VaultError::Behind { address },
        // A quota on requests: it was not carried out, yet nothing is wrong with it.
        429 => VaultError::Server { address, status, words, retry_after },
        400..=499 => VaultError::Refused { status, words },
        _ => VaultError::Server { address, status, words, retry_after },
    }
}

fn retry_after(status: u16, headers: &HeaderMap) -> Option<RetryAfter> {
    crate::http::retry_after(headers).filter(|_| matches!(status, 429 | 503))
}

/// Where a redirect leads.
fn target(headers: &HeaderMap) -> Option<Url> {
    headers.get(LOCATION).and_then(|to| to.to_str().ok()).and_then(|to| Url::parse(to).ok())
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
