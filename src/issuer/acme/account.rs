//! The account of an ACME issuer (RFC 8555, section 7.3): made once, with a key that is durable before the CA hears of
//! it. One that is gone is never replaced in silence.

use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use reqwest::header::LOCATION;
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::http::{AcmeError, Http};
use super::keeper::{Held, Keeper, KeeperError, Kept};
use super::session::{Directory, Session, Signer, unsigned};
use super::{failed, stopped};
use crate::domain::key::{KeySpec, PrivateKey};
use crate::domain::text::{printable, with_causes};
use crate::failpoint;
use crate::issuer::IssuerError;
use crate::pki;
use crate::pki::jws::{self, SigningKey};
use crate::store::file::disk;

/// What an account is to be.
#[derive(Clone, Debug)]
pub struct AccountSettings {
    pub directory: String,
    pub contact: Vec<String>,
    pub terms_agreed: bool,
    pub external: Option<External>,
    /// Tells, once there was an account, that there was one.
    pub marker: PathBuf,
}

/// An account that the CA knows by other means (RFC 8555, section 7.3.4).
#[derive(Clone, Debug)]
pub struct External {
    pub key_id: String,
    /// Base64url, as CAs give it.
    pub hmac_file: PathBuf,
}

/// One that the CA knows.
pub struct Account {
    pub http: Http,
    pub directory: Directory,
    pub url: String,
    pub acme: instant_acme::Account,
    key: SigningKey,
}

impl Account {
    pub async fn open(settings: &AccountSettings, keeper: &Keeper, http: &Http) -> Result<Self, IssuerError> {
        let directory = directory(settings, http).await?;
        let opening = Opening { settings, keeper, http, directory: &directory };
        let (kept, held) = opening.kept().await?;
        let (kept, held) = opening.registered(kept, held).await?;
        let (kept, held) = opening.with_a_good_key(kept, held).await?;
        let kept = opening.with_its_contact(kept, held).await?;
        let url = kept.url.clone().ok_or_else(|| stopped("the account has no address".to_string()))?;
        opening.mark(&url)?;
        let builder = instant_acme::Account::builder_with_http(Box::new(http.clone()));
        let key = PrivatePkcs8KeyDer::from(kept.key.pkcs8.as_slice());
        let acme = builder.from_parts(url.clone(), key, settings.directory.clone()).await;
        let acme = acme.map_err(|error| failed(READING, error.into()))?;
        let key = opening.signing(&kept.key)?;
        Ok(Self { http: http.clone(), directory, url, acme, key })
    }

    pub fn session(&self) -> Session<'_> {
        let signer = Signer::Account { key: &self.key, url: &self.url };
        Session { http: &self.http, directory: &self.directory, signer }
    }
}

/// Gives the account another key (RFC 8555, section 7.3.5). A later opening finishes what is cut short.
pub async fn roll_over(settings: &AccountSettings, keeper: &Keeper, http: &Http) -> Result<String, IssuerError> {
    let directory = directory(settings, http).await?;
    let opening = Opening { settings, keeper, http, directory: &directory };
    let Some((mut kept, held)) = keeper.load().await.map_err(kept_badly)? else {
        return Err(stopped(format!("there is no account at {}", keeper.place())));
    };
    let url = kept.url.clone().ok_or_else(|| stopped("the account was never made".to_string()))?;
    if directory.key_change.is_none() {
        return Err(stopped("this CA changes no account's key".to_string()));
    }
    if kept.next_key.is_none() {
        kept.next_key = Some(generate()?);
    }
    let held = keeper.save(&kept, held).await.map_err(kept_badly)?;
    failpoint::reached("next_account_key_kept");
    match opening.with_one_key(kept, held).await {
        Ok(_) => Ok(url),
        Err(Unchanged { error, holder: Holder::Old }) => {
            Err(stopped(format!("the account goes by the key that it had: {}", with_causes(&error))))
        }
        Err(Unchanged { error, holder: Holder::Unknown }) => {
            let why = with_causes(&error);
            Err(stopped(format!("it is not known by which key the account goes now; the next order looks: {why}")))
        }
    }
}

/// Which key the CA knows the account by, where it was not changed.
enum Holder {
    Old,
    Unknown,
}

struct Unchanged {
    error: IssuerError,
    holder: Holder,
}

const READING: &str = "read the CA's directory";

pub async fn directory(settings: &AccountSettings, http: &Http) -> Result<Directory, IssuerError> {
    Directory::read(http, &settings.directory).await.map_err(|error| failed(READING, error))
}

struct Opening<'a> {
    settings: &'a AccountSettings,
    keeper: &'a Keeper,
    http: &'a Http,
    directory: &'a Directory,
}

impl Opening<'_> {
    fn signing(&self, key: &PrivateKey) -> Result<SigningKey, IssuerError> {
        SigningKey::of(key).map_err(|why| stopped(format!("{why}: {}", self.keeper.place())))
    }

    fn session<'s>(&'s self, signer: Signer<'s>) -> Session<'s> {
        Session { http: self.http, directory: self.directory, signer }
    }

    /// As it is kept, or a new key that is.
    async fn kept(&self) -> Result<(Kept, Held), IssuerError> {
        if let Some((kept, held)) = self.keeper.load().await.map_err(kept_badly)? {
            return match kept.directory == self.settings.directory {
                true => Ok((kept, held)),
                false => Err(stopped(format!(
                    "the account at {} is one of {}, not of {}: keep the account of each CA at a place of its own",
                    self.keeper.place(),
                    printable(&kept.directory),
                    self.settings.directory,
                ))),
            };
        }
        self.insist_on_a_first_time()?;
        let (key, directory) = (generate()?, self.settings.directory.clone());
        let kept = Kept { directory, key, url: None, contact: self.settings.contact.clone(), next_key: None };
        match self.keeper.save(&kept, Held::Nothing).await {
            Ok(held) => {
                failpoint::reached("account_key_kept");
                Ok((kept, held))
            }
            // Another host was faster: it is one account for both.
            Err(KeeperError::Changed(_)) => self.again().await,
            Err(error) => Err(kept_badly(error)),
        }
    }

    async fn again(&self) -> Result<(Kept, Held), IssuerError> {
        let kept = self.keeper.load().await.map_err(kept_badly)?;
        kept.ok_or_else(|| stopped(format!("the account at {} was there a moment ago", self.keeper.place())))
    }

    fn insist_on_a_first_time(&self) -> Result<(), IssuerError> {
        let marker = &self.settings.marker;
        match std::fs::read_to_string(marker) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            read => {
                let url = read.map(|url| printable(url.trim())).unwrap_or_else(|_| "an account".to_string());
                return Err(stopped(format!(
                    "the key of {url} is gone from {}: restore it from a backup. certd makes no second account by itself; \
                     where that is wanted, remove {}",
                    self.keeper.place(),
                    marker.display(),
                )));
            }
        }
        match &self.directory.meta.terms_of_service {
            Some(terms) if !self.settings.terms_agreed => {
                let terms = printable(terms);
                Err(stopped(format!("read the CA's terms of service and set terms_agreed = true: {terms}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Asks for the account of this key, and makes it only where there is none: the binding may be good for once.
    async fn registered(&self, mut kept: Kept, held: Held) -> Result<(Kept, Held), IssuerError> {
        if kept.url.is_some() {
            return Ok((kept, held));
        }
        let key = self.signing(&kept.key)?;
        let url = match self.known(&key).await? {
            Some(url) => url,
            None => {
                let url = self.make(&key).await?;
                tracing::warn!("made a new account at the CA: {url}; its key is kept at {}", self.keeper.place());
                url
            }
        };
        failpoint::reached("account_made");
        kept.url = Some(url);
        match self.keeper.save(&kept, held).await {
            Ok(held) => Ok((kept, held)),
            Err(KeeperError::Changed(_)) => self.again().await,
            Err(error) => Err(kept_badly(error)),
        }
    }

    /// Where the CA keeps the account of this key, if it has one.
    async fn known(&self, key: &SigningKey) -> Result<Option<String>, IssuerError> {
        let doing = "ask the CA for the account of the key";
        match self.new_account(key, &json!({ "onlyReturnExisting": true })).await {
            Ok(url) => Ok(Some(url)),
            // Some servers ask for the binding before they look.
            Err(error) if error.is("accountDoesNotExist") || error.is("externalAccountRequired") => Ok(None),
            Err(error) => Err(failed(doing, error)),
        }
    }

    async fn make(&self, key: &SigningKey) -> Result<String, IssuerError> {
        let doing = "make an account at the CA";
        let mut payload = json!({ "termsOfServiceAgreed": self.settings.terms_agreed });
        if !self.settings.contact.is_empty() {
            payload["contact"] = json!(self.settings.contact);
        }
        if let Some(external) = &self.settings.external {
            payload["externalAccountBinding"] = self.binding(external, key)?;
        } else if self.directory.meta.external_account_required {
            return Err(stopped(
                "this CA wants an account that it knows already: set eab.key_id and eab.hmac_file".into(),
            ));
        }
        self.new_account(key, &payload).await.map_err(|error| failed(doing, error))
    }

    async fn new_account(&self, key: &SigningKey, payload: &Value) -> Result<String, AcmeError> {
        let answer = self.session(Signer::Key(key)).post(&self.directory.new_account, Some(payload)).await?;
        let url = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let url = url.filter(|url| url.starts_with("https://"));
        url.map(str::to_string).ok_or_else(|| AcmeError::NotUnderstood("it names no account".to_string()))
    }

    fn binding(&self, external: &External, key: &SigningKey) -> Result<Value, IssuerError> {
        let secret = secret(&external.hmac_file)?;
        let protected = json!({ "kid": external.key_id, "url": self.directory.new_account });
        jws::sign_externally(&secret, protected, &key.jwk()).map_err(|why| stopped(why.to_string()))
    }

    /// A change of the key that was cut short is done, since the CA may know the new one already. Where it cannot be done
    /// now and the CA goes by the old one, that is good for orders still.
    async fn with_a_good_key(&self, kept: Kept, held: Held) -> Result<(Kept, Held), IssuerError> {
        match self.with_one_key(kept, held).await {
            Ok(done) => Ok(done),
            Err(Unchanged { error, holder: Holder::Old }) => {
                tracing::warn!("the account goes by the key that it had: {}", with_causes(&error));
                self.again().await
            }
            Err(Unchanged { error, holder: Holder::Unknown }) => Err(error),
        }
    }

    async fn with_one_key(&self, mut kept: Kept, held: Held) -> Result<(Kept, Held), Unchanged> {
        let (Some(next), Some(url)) = (kept.next_key.clone(), kept.url.clone()) else { return Ok((kept, held)) };
        let unknown = |error| Unchanged { error, holder: Holder::Unknown };
        let (old, new) = (self.signing(&kept.key).map_err(unknown)?, self.signing(&next).map_err(unknown)?);
        let is_done = self.known(&new).await.map_err(unknown)?.as_ref() == Some(&url);
        let changed = if is_done { Ok(()) } else { self.change_key(&url, &old, &new).await };
        // It may have known the new one, and not said so to whoever asked without a binding.
        if let Err(error) = changed
            && !self.answers_to(&url, &new).await
        {
            return Err(self.unchanged(kept, held, &url, &old, error).await);
        }
        failpoint::reached("account_key_changed");
        (kept.key, kept.next_key) = (next, None);
        let held = self.keeper.save(&kept, held).await.map_err(|error| unknown(kept_badly(error)))?;
        Ok((kept, held))
    }

    /// What was refused is given up, if the CA goes by the old key; what may still be done is tried again later.
    async fn unchanged(&self, mut kept: Kept, held: Held, url: &str, old: &SigningKey, error: AcmeError) -> Unchanged {
        let is_refused = !error.may_be_done() && error.is_lasting();
        let error = failed("change the account's key", error);
        let goes_by_old = matches!(self.known(old).await, Ok(Some(known)) if known == url);
        if !goes_by_old && !self.answers_to(url, old).await {
            return Unchanged { error, holder: Holder::Unknown };
        }
        if !is_refused {
            return Unchanged { error, holder: Holder::Old };
        }
        kept.next_key = None;
        match self.keeper.save(&kept, held).await {
            Ok(_) => Unchanged { error, holder: Holder::Old },
            Err(unsaved) => Unchanged { error: kept_badly(unsaved), holder: Holder::Unknown },
        }
    }

    /// Whether the CA takes this key for that of the account: it shows it (POST-as-GET: RFC 8555, section 6.3).
    async fn answers_to(&self, url: &str, key: &SigningKey) -> bool {
        self.session(Signer::Account { key, url }).post(url, None).await.is_ok()
    }

    async fn change_key(&self, url: &str, old: &SigningKey, new: &SigningKey) -> Result<(), AcmeError> {
        let change = self.directory.key_change.as_deref();
        let change = change.ok_or_else(|| AcmeError::NotUnderstood("it changes no account's key".to_string()))?;
        let inner = json!({ "account": url, "oldKey": old.jwk() });
        let inner = new.sign(json!({ "jwk": new.jwk(), "url": change }), Some(&inner)).map_err(unsigned)?;
        self.session(Signer::Account { key: old, url }).post(change, Some(&inner)).await.map(|_| ())
    }

    /// What people are to be told by is what the configuration says.
    async fn with_its_contact(&self, mut kept: Kept, held: Held) -> Result<Kept, IssuerError> {
        let (Some(url), true) = (kept.url.clone(), kept.contact != self.settings.contact) else { return Ok(kept) };
        let key = self.signing(&kept.key)?;
        let session = self.session(Signer::Account { key: &key, url: &url });
        let changed = session.post(&url, Some(&json!({ "contact": self.settings.contact }))).await;
        changed.map_err(|error| failed("change the contact of the account", error))?;
        kept.contact.clone_from(&self.settings.contact);
        self.keeper.save(&kept, held).await.map_err(kept_badly)?;
        Ok(kept)
    }

    fn mark(&self, url: &str) -> Result<(), IssuerError> {
        let marker = &self.settings.marker;
        if marker.exists() {
            return Ok(());
        }
        let write = || -> std::io::Result<()> {
            if let Some(directory) = marker.parent() {
                std::fs::create_dir_all(directory)?;
            }
            let mut file = std::fs::File::create(marker)?;
            file.write_all(format!("{url}\n").as_bytes())?;
            file.sync_all()
        };
        write()
            .map_err(|error| stopped(format!("could not note that there is an account: {}: {error}", marker.display())))
    }
}

fn generate() -> Result<PrivateKey, IssuerError> {
    pki::key::generate(KeySpec::EcdsaP256).map_err(|error| stopped(error.to_string()))
}

fn secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, IssuerError> {
    let read = disk::read(path).map_err(|obstacle| stopped(format!("eab.hmac_file: {}", obstacle.message)))?;
    let text = read.ok_or_else(|| stopped(format!("eab.hmac_file: there is no file {}", path.display())))?;
    let text: Zeroizing<Vec<u8>> = Zeroizing::new(text.trim_ascii().iter().copied().filter(|b| *b != b'=').collect());
    match BASE64_URL.decode(&text) {
        Ok(secret) if !secret.is_empty() => Ok(Zeroizing::new(secret)),
        Ok(_) | Err(_) => Err(stopped(format!("eab.hmac_file holds no base64url: {}", path.display()))),
    }
}

fn kept_badly(error: KeeperError) -> IssuerError {
    match error {
        KeeperError::NotUnderstood(_) => stopped(error.to_string()),
        KeeperError::File { .. } | KeeperError::OutOfSight(_) | KeeperError::Vault { .. } | KeeperError::Changed(_) => {
            IssuerError::Unanswered {
                doing: "have the account at hand".to_string(),
                may_be_done: false,
                retry_after: None,
                source: Box::new(error),
            }
        }
    }
}
