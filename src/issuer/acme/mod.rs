//! ACME (RFC 8555): an account at the CA, challenges that prove the names, orders that are carried out in steps.

pub mod account;
pub mod ari;
pub mod challenges;
pub mod dns;
pub mod http;
pub mod http_01;
pub mod keeper;
pub mod listening;
pub mod order;
pub mod persist;
pub mod problem;
pub mod session;
pub mod sockets;
pub mod tls_alpn_01;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, RwLock};

use super::{IssuerError, Order, Recovered, Signing};
use crate::domain::cert::KeyDigest;
use crate::domain::progress::Progress;
use crate::domain::revocation::RevocationReason;
use crate::domain::text::{printable, with_causes};
use crate::pki::read;
use crate::pki::roots::Roots;

use account::{Account, AccountSettings};
use challenges::Challenges;
use http::{AcmeError, Http};
use keeper::Keeper;
use order::{Status, Unfinished, Wanted};
use session::Directory;

/// What Let's Encrypt takes; each CA has its own bound, and says so.
pub const MOST_NAMES: usize = 100;

/// What of it is configured.
pub struct AcmeSettings {
    pub account: AccountSettings,
    pub keeper: Keeper,
    pub http: Http,
    pub challenges: Challenges,
    pub profile: Option<String>,
    /// The common name of the root that a chain should lead to.
    pub preferred_chain: Option<String>,
    pub orders_per_hour: u32,
    /// For one step of an order: the CA's look at the answers, its signing.
    pub patience: Duration,
    /// What a signed chain must verify to.
    pub roots: Arc<Roots>,
}

pub struct Acme {
    settings: AcmeSettings,
    opened: Mutex<Option<Arc<Account>>>,
    /// Whoever signs with the account's key shares it; whoever changes that has it alone.
    key: RwLock<()>,
}

impl std::ops::Deref for Acme {
    type Target = AcmeSettings;

    fn deref(&self) -> &AcmeSettings {
        &self.settings
    }
}

impl Acme {
    pub fn new(settings: AcmeSettings) -> Self {
        Self { settings, opened: Mutex::default(), key: RwLock::default() }
    }

    /// Made at the first use, and kept for the life of the process.
    pub async fn account(&self) -> Result<Arc<Account>, IssuerError> {
        let mut opened = self.opened.lock().await;
        if let Some(account) = &*opened {
            return Ok(account.clone());
        }
        let account = Arc::new(Account::open(&self.account, &self.keeper, &self.http).await?);
        *opened = Some(account.clone());
        Ok(account)
    }

    /// Gives the account another key; nobody signs with it meanwhile.
    pub async fn roll_over(&self) -> Result<String, IssuerError> {
        let _alone = self.key.write().await;
        let mut opened = self.opened.lock().await;
        *opened = None;
        account::roll_over(&self.account, &self.keeper, &self.http).await
    }

    /// The next step of an order.
    pub async fn sign(&self, order: &Order, progress: Option<&Progress>) -> Result<Signing, IssuerError> {
        let _shared = self.key.read().await;
        let signed = self.step(order, progress).await;
        if signed.is_err() {
            self.read_account_again().await;
        }
        signed
    }

    async fn step(&self, order: &Order, progress: Option<&Progress>) -> Result<Signing, IssuerError> {
        let account = self.account().await?;
        match progress {
            None => self.place(&account, order).await.map(Signing::Goes),
            Some(Progress { certificate: Some(url), .. }) => {
                let preferred = self.preferred_chain.as_deref();
                let fetched = order::fetch(&account, url, preferred).await;
                fetched.map(Signing::Chain).map_err(|error| still_open(failed("fetch the certificate", error)))
            }
            Some(progress) if progress.is_finalizing => self.finalize(&account, order, progress).await,
            Some(progress) => self.make_ready(&account, order, progress).await,
        }
    }

    async fn place(&self, account: &Account, order: &Order) -> Result<Progress, IssuerError> {
        if order.names.len() > MOST_NAMES {
            let message = format!("{} names in one certificate: {MOST_NAMES} are the most", order.names.len());
            return Err(IssuerError::Unprepared(message));
        }
        if let Some(profile) = &self.profile {
            insist_on_profile(&account.directory, profile)?;
        }
        let replaces = order.replaces.as_ref().and_then(ari::identifier);
        let wanted = Wanted { names: &order.names, profile: self.profile.as_deref(), replaces: replaces.as_ref() };
        order::place(account, &wanted).await.map_err(|error| failed("place an order", error))
    }

    async fn make_ready(&self, account: &Account, order: &Order, progress: &Progress) -> Result<Signing, IssuerError> {
        let doing = "have the names proved";
        let proving = order::Proving { account, challenges: &self.challenges, progress, names: &order.names };
        match proving.make_ready(order.now, self.patience).await {
            Ok(()) => Ok(Signing::Goes(Progress { is_finalizing: true, ..progress.clone() })),
            Err(unfinished) => Err(self.unfinished(doing, unfinished)),
        }
    }

    async fn finalize(&self, account: &Account, order: &Order, progress: &Progress) -> Result<Signing, IssuerError> {
        let doing = "have the certificate signed";
        let until = Instant::now() + self.patience;
        match order::finalize(account, &order.csr, progress, until).await {
            Ok(url) => Ok(Signing::Goes(Progress { certificate: Some(url), ..progress.clone() })),
            Err(unfinished) => Err(self.unfinished(doing, unfinished)),
        }
    }

    fn unfinished(&self, doing: &str, unfinished: Unfinished) -> IssuerError {
        match unfinished {
            Unfinished::Later(wait) => IssuerError::Pending {
                message: format!("the CA has not finished within {} s: {doing}", self.patience.as_secs()),
                retry_after: wait,
            },
            Unfinished::Unseen(error) => still_open(failed(doing, error)),
            Unfinished::Failed(error) => failed(doing, error),
        }
    }

    /// Of the account where that is open already, so that nobody is asked for it again. Who looks waits for nobody.
    async fn known_directory(&self) -> Result<Directory, AcmeError> {
        let opened = self.opened.try_lock().ok().and_then(|opened| opened.clone());
        match opened {
            Some(account) => Ok(account.directory.clone()),
            None => Directory::read(&self.http, &self.account.directory).await,
        }
    }

    /// What became of an order.
    pub async fn recover(&self, key: KeyDigest, progress: Option<&Progress>) -> Recovered {
        let _shared = self.key.read().await;
        let recovered = self.seen_again(key, progress).await;
        if let Recovered::Unknown(_) = recovered {
            self.read_account_again().await;
        }
        recovered
    }

    async fn seen_again(&self, key: KeyDigest, progress: Option<&Progress>) -> Recovered {
        // What was never placed was never signed.
        let Some(progress) = progress else { return Recovered::NotIssued };
        let account = match self.account().await {
            Ok(account) => account,
            Err(error) => return Recovered::Unknown(with_causes(&error)),
        };
        if let Some(url) = &progress.certificate {
            return self.fetched(&account, key, url).await;
        }
        match order::state(&account, &progress.order).await {
            // It was never asked to sign, and will not say more of it.
            Err(error) if error.is_lasting() && !progress.is_finalizing => Recovered::NotIssued,
            // It may have signed, and tells nobody any more.
            Err(AcmeError::Said { status: 404, .. }) => Recovered::NoRecord,
            Err(error) => Recovered::Unknown(with_causes(&error)),
            Ok((state, _)) => match (state.status, state.certificate()) {
                (Status::Valid, Some(url)) => self.fetched(&account, key, &url).await,
                (Status::Valid, None) => Recovered::Unknown("it names no certificate".to_string()),
                (Status::Processing, _) => Recovered::Unknown("the CA is still working on it".to_string()),
                (Status::Pending | Status::Ready, _) => Recovered::GoesOn,
                (Status::Invalid, _) => Recovered::NotIssued,
            },
        }
    }

    async fn fetched(&self, account: &Account, key: KeyDigest, url: &str) -> Recovered {
        match order::fetch(account, url, self.preferred_chain.as_deref()).await {
            Err(AcmeError::Said { status: 404, .. }) => Recovered::NoRecord,
            Err(error) => Recovered::Unknown(with_causes(&error)),
            Ok(chain) => match chain.first().map(|leaf| read::certificate(leaf)) {
                Some(Ok(leaf)) if leaf.public_key == key => Recovered::Issued(chain),
                // It was asked for with another request, which is none of this renewal.
                Some(Ok(_)) => Recovered::NotIssued,
                Some(Err(why)) => Recovered::Unknown(why.to_string()),
                None => Recovered::Unknown("it holds no certificate".to_string()),
            },
        }
    }

    /// Another process may have given it another key.
    async fn read_account_again(&self) {
        *self.opened.lock().await = None;
    }

    /// Whether it can be asked.
    pub async fn look(&self) -> Result<(), IssuerError> {
        self.directory().await.map(|_| ())
    }

    pub async fn directory(&self) -> Result<Directory, IssuerError> {
        account::directory(&self.account, &self.http).await
    }

    /// An ACME server tells nobody whether a certificate is revoked, but to whoever asks for it a second time. Returns the
    /// reason that it took: some take none.
    pub async fn revoke(&self, der: &[u8], reason: RevocationReason) -> Result<RevocationReason, IssuerError> {
        let _shared = self.key.read().await;
        self.read_account_again().await;
        let account = self.account().await?;
        let doing = "have the certificate revoked";
        let mut reason = reason;
        let mut revoked = order::revoke(&account, der, reason).await;
        if matches!(&revoked, Err(error) if error.is("badRevocationReason")) {
            reason = RevocationReason::Unspecified;
            revoked = order::revoke(&account, der, reason).await;
        }
        match revoked {
            Err(error) if !error.is("alreadyRevoked") && !error.may_be_done() => return Err(failed(doing, error)),
            Ok(()) | Err(_) => {}
        }
        match order::revoke(&account, der, reason).await {
            Err(error) if error.is("alreadyRevoked") => Ok(reason),
            Err(error) => Err(failed(doing, error)),
            Ok(()) => Err(stopped("the CA said that it revoked it, and then did so once more: look there".to_string())),
        }
    }
}

/// A server without profiles takes any in silence, and signs by none.
pub fn insist_on_profile(directory: &Directory, profile: &str) -> Result<(), IssuerError> {
    let known = &directory.meta.profiles;
    if known.contains_key(profile) {
        return Ok(());
    }
    let names: Vec<String> = known.keys().map(|name| printable(name)).collect();
    let has = if names.is_empty() { "none".to_string() } else { names.join(", ") };
    Err(IssuerError::Stopped(format!("the CA has no profile {profile:?}: its directory lists {has}")))
}

fn stopped(message: String) -> IssuerError {
    IssuerError::Stopped(message)
}

/// Once the CA is finalizing, whatever goes wrong leaves the order where it was.
fn still_open(error: IssuerError) -> IssuerError {
    match error {
        IssuerError::Unanswered { doing, retry_after, source, .. } => {
            IssuerError::Unanswered { doing, may_be_done: true, retry_after, source }
        }
        IssuerError::Refused { message, retry_after } | IssuerError::Limited { message, retry_after } => {
            IssuerError::Unanswered {
                doing: "learn how the order stands".to_string(),
                may_be_done: true,
                retry_after,
                source: message.into(),
            }
        }
        // A person has to mend it, and the order is there still when that is done.
        IssuerError::Stopped(message) => IssuerError::Unanswered {
            doing: "go on with the order".to_string(),
            may_be_done: true,
            retry_after: None,
            source: message.into(),
        },
        other @ (IssuerError::Pending { .. } | IssuerError::Unprepared(_) | IssuerError::SignedInVain(_)) => other,
    }
}

fn failed(doing: &str, error: AcmeError) -> IssuerError {
    let retry_after = error.retry_after();
    match error {
        AcmeError::Said { ref problem, .. } if problem.is_of_the_account() => {
            IssuerError::Stopped(format!("could not {doing}: {error}"))
        }
        AcmeError::Said { ref problem, .. } if problem.is_of_names() => {
            IssuerError::Limited { message: error.to_string(), retry_after }
        }
        AcmeError::NamesLimited { .. } => IssuerError::Limited { message: error.to_string(), retry_after },
        AcmeError::Said { status, .. } if status < 500 => {
            IssuerError::Refused { message: error.to_string(), retry_after }
        }
        AcmeError::Unprepared(why) => IssuerError::Unprepared(why),
        AcmeError::NotYet { wait } => IssuerError::Pending { message: error.to_string(), retry_after: wait },
        AcmeError::Address(_) | AcmeError::OtherOrigin(_) => {
            IssuerError::Stopped(format!("could not {doing}: {error}"))
        }
        error => IssuerError::Unanswered {
            doing: doing.to_string(),
            may_be_done: error.may_be_done(),
            retry_after,
            source: Box::new(error),
        },
    }
}
