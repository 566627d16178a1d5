//! One order (RFC 8555, section 7.4), a step at a time: placed, made ready, finalized, fetched. Each step is one that a
//! restart can begin with.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use instant_acme::{AuthorizationStatus, CertificateIdentifier, Identifier, NewOrder, OrderStatus};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::account::Account;
use super::challenges::{Answered, Challenges, Pending};
use super::http::{AcmeError, Answer, sleep};
use super::problem::{Problem, Subproblem};
use super::session::{NONCES, alternates, not_understood, object};
use crate::domain::cert::Fingerprint;
use crate::domain::name::San;
use crate::domain::progress::Progress;
use crate::domain::revocation::RevocationReason;
use crate::domain::text::{printable, with_causes};
use crate::domain::time::Timestamp;
use crate::pki::read;
use crate::pki::{self, bundle::Bundle};

/// instant-acme takes three nonces for each request.
const ROUNDS: usize = NONCES.div_ceil(3);

/// Between two looks at what a server works on, where it does not say how long.
const LOOK_AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];

/// More than that many alternates no CA has; each costs a request.
const MOST_ALTERNATES: usize = 5;

/// instant-acme gives up after three nonces: each of these asks with a new one, until one is taken.
macro_rules! again {
    ($ask:expr) => {{
        let mut answered = Err(AcmeError::Nonces);
        for _ in 0..ROUNDS {
            answered = $ask.await.map_err(AcmeError::from);
            if !matches!(answered, Err(AcmeError::Nonces)) {
                break;
            }
        }
        answered
    }};
}

/// What is wanted of an order beyond its names.
pub struct Wanted<'a> {
    pub names: &'a [San],
    pub profile: Option<&'a str>,
    /// RFC 9773, section 5.
    pub replaces: Option<&'a CertificateIdentifier<'a>>,
}

/// An order as it stands.
#[derive(Debug, Deserialize)]
pub struct State {
    pub status: Status,
    #[serde(default)]
    error: Option<instant_acme::Problem>,
    certificate: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Pending,
    Ready,
    Processing,
    Valid,
    Invalid,
}

/// It has to be looked at again, no sooner than after so long.
#[derive(Debug)]
pub enum Unfinished {
    Later(Duration),
    /// How it stands could not be read.
    Unseen(AcmeError),
    Failed(AcmeError),
}

impl From<AcmeError> for Unfinished {
    fn from(error: AcmeError) -> Self {
        Self::Failed(error)
    }
}

/// The order is there when this returns, and nothing was asked to sign.
pub async fn place(account: &Account, wanted: &Wanted<'_>) -> Result<Progress, AcmeError> {
    let identifiers: Vec<Identifier> = wanted.names.iter().map(identifier).collect::<Result<_, _>>()?;
    let replaces = wanted.replaces.filter(|_| account.directory.renewal_info.is_some());
    match new_order(account, &identifiers, wanted.profile, replaces).await {
        // What it replaced has been replaced, or is unknown there: that is no reason to have none.
        Err(error) if replaces.is_some() && is_refused(&error) => {
            new_order(account, &identifiers, wanted.profile, None).await
        }
        placed => placed,
    }
}

/// Perhaps for what it is to replace: each CA says that in its own words.
fn is_refused(error: &AcmeError) -> bool {
    match error {
        AcmeError::Said { status: 400..=499, retry_after: None, .. } => !error.is("rateLimited"),
        // Pebble calls it an error of its own that it knows no order of before. Every other such error passes, or does not.
        AcmeError::Said { problem, retry_after: None, .. } => {
            problem.detail.contains("order for the given certificate")
        }
        _ => false,
    }
}

async fn new_order(
    account: &Account,
    identifiers: &[Identifier],
    profile: Option<&str>,
    replaces: Option<&CertificateIdentifier<'_>>,
) -> Result<Progress, AcmeError> {
    let limit = limit_of(identifiers);
    if let Some(wait) = account.http.limited(&limit) {
        return Err(AcmeError::NamesLimited { wait });
    }
    let mut wanted = NewOrder::new(identifiers);
    if let Some(profile) = profile {
        wanted = wanted.profile(profile);
    }
    if let Some(replaces) = replaces {
        wanted = wanted.replaces(replaces.clone());
    }
    let order = match again!(account.acme.new_order(&wanted)) {
        // The order is there, and does not say again what it replaces.
        Err(AcmeError::NotUnderstood(why)) if why.contains("replaces field mismatch") => {
            let url = account.http.location().ok_or(AcmeError::NotUnderstood(why))?;
            again!(account.acme.order(url.clone()))?
        }
        Err(error) => {
            if let AcmeError::Said { problem, retry_after: Some(asked), .. } = &error
                && problem.is_of_names()
            {
                account.http.limit(&limit, asked.wait);
            }
            return Err(error);
        }
        Ok(order) => order,
    };
    let (order, state) = order.into_parts();
    Ok(Progress { order, finalize: state.finalize, is_finalizing: false, certificate: None })
}

/// What the wait for a limit of these names is noted under, among the addresses that are to wait.
fn limit_of(identifiers: &[Identifier]) -> String {
    let mut names: Vec<String> = identifiers.iter().map(|identifier| format!("{identifier:?}")).collect();
    names.sort();
    format!("order of {}", Fingerprint(pki::sha256(names.join(" ").as_bytes())))
}

fn identifier(name: &San) -> Result<Identifier, AcmeError> {
    match name {
        San::Dns(name) => Ok(Identifier::Dns(name.clone())),
        San::Ip(ip) => Ok(Identifier::Ip(*ip)),
        San::Email(_) | San::Uri(_) | San::Other(_) => {
            let detail = format!("ACME certifies DNS names and addresses, and not {}", printable(&name.to_string()));
            Err(AcmeError::Unprepared(detail))
        }
    }
}

/// As it stands, and how long the server asks to be left alone about it.
pub async fn state(account: &Account, order: &str) -> Result<(State, Option<Duration>), AcmeError> {
    let Answer { headers, body, .. } = account.session().post(order, None).await?;
    let state = object(&body).map_err(|error| not_understood("an order", &error))?;
    let asked = crate::http::retry_after(&headers);
    if let Some(capped) = asked.filter(|asked| asked.is_capped) {
        tracing::warn!("an order of the CA: {capped}; it is looked at again after a day");
    }
    Ok((state, asked.map(|asked| asked.wait)))
}

/// An order whose names are to be proved.
pub struct Proving<'a> {
    pub account: &'a Account,
    pub challenges: &'a Challenges,
    pub progress: &'a Progress,
    /// What was ordered, and nothing else is proved.
    pub names: &'a [San],
}

impl Proving<'_> {
    /// Answers the challenges of the order until it can be finalized. `patience` begins once the CA was told to look.
    pub async fn make_ready(&self, now: Timestamp, patience: Duration) -> Result<(), Unfinished> {
        let Self { account, challenges, progress, names } = self;
        let mut order = again!(account.acme.order(progress.order.clone()))?;
        if order.state().status == OrderStatus::Ready {
            return Ok(());
        }
        let pending = pending(account, challenges, &mut order, names, now).await?;
        let mut answered = Answered::default();
        let ready = async {
            let presented = challenges.present(account, &pending, &mut answered, now).await;
            presented.map_err(|error| AcmeError::Unprepared(with_causes(&error)))?;
            announce(&mut order, &pending).await?;
            let until = Instant::now() + patience;
            let settled = settled(account, &progress.order, Status::Ready, until).await;
            if let Err(Unfinished::Later(_)) = settled {
                // The CA may be looking still.
                sleep(until.saturating_duration_since(Instant::now())).await;
            }
            settled
        };
        let ready = ready.await;
        challenges.withdraw(&answered).await;
        match ready {
            // The order says that it failed, and its authorizations say why.
            Err(Unfinished::Failed(AcmeError::Said { problem, status, .. })) if status < 400 => {
                Err(Unfinished::Failed(explained(account, *problem, &pending).await))
            }
            ready => ready.map(|_| ()),
        }
    }
}

async fn pending(
    account: &Account,
    challenges: &Challenges,
    order: &mut instant_acme::Order,
    names: &[San],
    now: Timestamp,
) -> Result<Vec<Pending>, AcmeError> {
    // Those that were read once are not asked for again.
    again!(read_all(order))?;
    let mut pending = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            // The order is of no use any more, which it says itself.
            AuthorizationStatus::Invalid | AuthorizationStatus::Revoked => continue,
            AuthorizationStatus::Expired | AuthorizationStatus::Deactivated => continue,
        }
        let url = authorization.url().to_string();
        let name = authorization.identifier().to_string();
        if !names.iter().any(|ordered| ordered.to_string() == name) {
            return Err(AcmeError::NotUnderstood(format!(
                "it wants {} proved, which was not ordered",
                printable(&name)
            )));
        }
        let chosen = challenges.choose(account, &authorization, &url, now).await?;
        let kind = chosen.instant();
        let is_wildcard = authorization.wildcard;
        let identifier = authorization.identifier().identifier.clone();
        let Some(challenge) = authorization.challenge(kind) else { continue };
        pending.push(Pending {
            kind: chosen,
            identifier,
            is_wildcard,
            authorization: url,
            token: challenge.token.clone(),
            key_authorization: challenge.key_authorization().as_str().to_string(),
            dns_value: challenge.key_authorization().dns_value(),
        });
    }
    Ok(pending)
}

async fn read_all(order: &mut instant_acme::Order) -> Result<(), instant_acme::Error> {
    let mut authorizations = order.authorizations();
    while let Some(read) = authorizations.next().await {
        read?;
    }
    Ok(())
}

/// Tells the CA that every answer is in its place.
async fn announce(order: &mut instant_acme::Order, pending: &[Pending]) -> Result<(), AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let Some(it) = pending.iter().find(|it| it.authorization == authorization.url()) else { continue };
        let Some(mut challenge) = authorization.challenge(it.kind.instant()) else { continue };
        again!(challenge.set_ready())?;
    }
    Ok(())
}

/// Why each authorization failed.
async fn explained(account: &Account, problem: Problem, pending: &[Pending]) -> AcmeError {
    #[derive(Deserialize)]
    struct Authorization {
        challenges: Vec<Challenge>,
    }
    #[derive(Deserialize)]
    struct Challenge {
        error: Option<Problem>,
    }
    let mut subproblems = problem.subproblems.clone();
    for it in pending {
        let Ok(answer) = account.session().post(&it.authorization, None).await else { continue };
        let Ok(read) = serde_json::from_slice::<Authorization>(&answer.body) else { continue };
        let errors = read.challenges.into_iter().filter_map(|challenge| challenge.error);
        subproblems.extend(errors.map(|error| Subproblem {
            kind: error.kind,
            detail: error.detail,
            identifier: serde_json::to_value(&it.identifier).unwrap_or_default(),
        }));
    }
    // Some servers give the order the words of one of its authorizations.
    let is_told = problem.detail.is_empty() || subproblems.iter().any(|it| it.detail == problem.detail);
    let detail = if is_told { "the names could not be proved".to_string() } else { problem.detail };
    // The first kind says what to do.
    let kind = subproblems.first().map_or(problem.kind, |first| first.kind.clone());
    let problem = Problem { kind, detail, subproblems };
    AcmeError::Said { status: 403, problem: Box::new(problem), retry_after: None }
}

/// Looks until it is as far as `wanted`, or further, or has failed.
pub async fn settled(account: &Account, order: &str, wanted: Status, until: Instant) -> Result<State, Unfinished> {
    let [mut own, longest] = LOOK_AGAIN_AFTER;
    loop {
        let (state, asked) = state(account, order).await.map_err(Unfinished::Unseen)?;
        match (state.status, wanted) {
            (Status::Invalid, _) => return Err(failed_order(&state).into()),
            (Status::Ready | Status::Processing | Status::Valid, Status::Ready) => return Ok(state),
            (Status::Valid, _) if state.certificate().is_some() => return Ok(state),
            (Status::Valid | Status::Pending | Status::Ready | Status::Processing, _) => {}
        }
        let wait = asked.unwrap_or(own).max(LOOK_AGAIN_AFTER[0]);
        if until < Instant::now() + wait {
            return Err(Unfinished::Later(wait));
        }
        sleep(wait).await;
        own = (own * 3 / 2).min(longest);
    }
}

fn failed_order(state: &State) -> AcmeError {
    let problem = state.error.as_ref().map(Problem::from).unwrap_or_default();
    AcmeError::Said { status: 0, problem: Box::new(problem), retry_after: None }
}

/// Has the CA sign; returns where the certificate is to be read.
pub async fn finalize(
    account: &Account,
    csr: &[u8],
    progress: &Progress,
    until: Instant,
) -> Result<String, Unfinished> {
    let read = again!(account.acme.order(progress.order.clone()));
    let mut order = read.map_err(Unfinished::Unseen)?;
    if order.state().status == OrderStatus::Ready {
        match again!(order.finalize_csr(csr)) {
            // It was heard before.
            Err(error) if error.is("orderNotReady") => {}
            answered => answered?,
        }
    }
    let at_once = over_tls(order.state().certificate.as_ref());
    if let (OrderStatus::Valid, Some(url)) = (order.state().status, at_once) {
        return Ok(url);
    }
    let state = settled(account, &progress.order, Status::Valid, until).await?;
    let missing = || AcmeError::NotUnderstood("it names no certificate".to_string());
    Ok(state.certificate().ok_or_else(missing)?)
}

/// DER, leaf first, without a self-signed root: of the chains that the CA offers, the one that leads to `preferred`.
pub async fn fetch(account: &Account, url: &str, preferred: Option<&str>) -> Result<Vec<Vec<u8>>, AcmeError> {
    let Answer { headers, body, .. } = account.session().post(url, None).await?;
    let first = chain(&body)?;
    let Some(preferred) = preferred.filter(|name| !leads_to(&first, name)) else { return Ok(without_root(first)) };
    for link in alternates(&headers).iter().take(MOST_ALTERNATES) {
        match alternate(account, url, link).await {
            Ok(other) if leads_to(&other, preferred) && other.first() == first.first() => {
                return Ok(without_root(other));
            }
            Ok(_) => {}
            // The certificate is there, with another chain.
            Err(error) => tracing::warn!("could not read another chain of the CA: {}", with_causes(&error)),
        }
    }
    tracing::warn!("the CA offers no chain that leads to {preferred:?}: its own choice is taken");
    Ok(without_root(first))
}

async fn alternate(account: &Account, url: &str, link: &str) -> Result<Vec<Vec<u8>>, AcmeError> {
    // It may be written from where the certificate is (RFC 8288, section 3.1).
    let url = Url::parse(url).and_then(|url| url.join(link));
    let url = url.map_err(|_| AcmeError::Address("a link that is no address"))?;
    chain(&account.session().post(url.as_str(), None).await?.body)
}

fn chain(pem: &[u8]) -> Result<Vec<Vec<u8>>, AcmeError> {
    let bundle = Bundle::parse(pem).map_err(|why| AcmeError::NotUnderstood(format!("a certificate: {why}")))?;
    match bundle.certificates.is_empty() {
        true => Err(AcmeError::NotUnderstood("a certificate: it holds none".to_string())),
        false => Ok(bundle.certificates),
    }
}

/// Whether its last certificate is that root, or was issued by it.
fn leads_to(chain: &[Vec<u8>], name: &str) -> bool {
    let last = chain.last().and_then(|der| read::certificate(der).ok());
    last.is_some_and(|last| last.issuer_cn.as_deref() == Some(name) || last.subject_cn.as_deref() == Some(name))
}

fn without_root(mut chain: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let is_root = |der: &Vec<u8>| read::certificate(der).is_ok_and(|certificate| certificate.is_self_issued());
    if chain.len() > 1 && chain.last().is_some_and(is_root) {
        chain.pop();
    }
    chain
}

/// RFC 8555, section 7.6.
pub async fn revoke(account: &Account, der: &[u8], reason: RevocationReason) -> Result<(), AcmeError> {
    let url = account.directory.revoke_cert.as_deref();
    let url = url.ok_or_else(|| AcmeError::NotUnderstood("it revokes no certificate".to_string()))?;
    let mut payload = json!({ "certificate": BASE64_URL.encode(der) });
    if reason != RevocationReason::Unspecified {
        payload["reason"] = json!(reason.code());
    }
    account.session().post(url, Some(&payload)).await.map(|_| ())
}

impl State {
    /// Where the certificate is to be read, once there is one.
    pub fn certificate(&self) -> Option<String> {
        over_tls(self.certificate.as_ref())
    }
}

/// No other address is ever asked.
fn over_tls(url: Option<&String>) -> Option<String> {
    url.filter(|url| url.starts_with("https://")).cloned()
}
