//! All that the server knows, and who may ask for what of it.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use super::accounts::Account;
use super::answer::{Answer, Outcome, malformed, problem, refused, unauthorized};
use super::ca::{Authority, Issued};
use super::certificates::Revoked;
use super::jws::{By, Jws, PublicKey, encoded};
use super::orders::{Authorization, Order};
use super::place::Place;
use super::script::{Fault, Kind, Nth, Script, Window};
use super::seen::Seen;

pub struct State {
    pub base: String,
    pub script: Script,
    pub rules: Vec<Rule>,
    pub log: Vec<Seen>,
    pub authority: Authority,
    pub accounts: Vec<Account>,
    pub orders: Vec<Order>,
    pub authorizations: Vec<Authorization>,
    /// What was signed and is the answer to a valid order.
    pub issued: Vec<Issued>,
    pub revoked: Vec<Revoked>,
    /// By serial number.
    pub windows: BTreeMap<String, Window>,
    nonces: HashSet<String>,
    dice: u64,
}

pub struct Rule {
    /// `None` where any request is meant.
    pub kind: Option<Kind>,
    pub nth: Nth,
    pub fault: Fault,
    /// How many requests of the kind came since.
    pub count: usize,
    /// How many of them it met.
    pub met: usize,
}

/// A request as it came in.
pub struct Request {
    pub method: String,
    pub place: Place,
    pub content_type: String,
    pub body: Vec<u8>,
}

/// What was signed, by whom it may be.
pub struct Signed {
    /// Of the account, by its place among them.
    pub account: usize,
    /// Null for a POST-as-GET.
    pub payload: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Pending,
    Ready,
    Processing,
    Valid,
    Invalid,
    Deactivated,
}

impl Status {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Processing => "processing",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Deactivated => "deactivated",
        }
    }
}

impl State {
    pub fn new(base: String, script: Script) -> Self {
        let dice = script.seed;
        Self {
            base,
            script,
            rules: Vec::new(),
            log: Vec::new(),
            authority: Authority::new(),
            accounts: Vec::new(),
            orders: Vec::new(),
            authorizations: Vec::new(),
            issued: Vec::new(),
            revoked: Vec::new(),
            windows: BTreeMap::new(),
            nonces: HashSet::new(),
            dice,
        }
    }

    /// Everything but challenges, which somebody has to judge meanwhile.
    pub fn answer(&mut self, request: &Request, faults: &[Fault]) -> Outcome {
        let reads = matches!(request.method.as_str(), "GET" | "HEAD");
        match (&request.place, reads) {
            (Place::Directory, true) => Ok(Answer::json(200, &self.directory())),
            (Place::NewNonce, true) => {
                let answer = Answer::empty(if request.method == "HEAD" { 200 } else { 204 });
                Ok(answer.with("Replay-Nonce", &self.nonce()).with("Cache-Control", "no-store"))
            }
            (Place::RenewalInfo(id), true) => self.renewal_info(id),
            (Place::Directory | Place::NewNonce | Place::RenewalInfo(_), false) | (_, true) => {
                Err(refused(405, "malformed", "not by this method"))
            }
            (Place::NewAccount, false) => self.new_account(request),
            (Place::Account(id), false) => self.account(request, *id),
            (Place::KeyChange, false) => self.key_change(request),
            (Place::NewOrder, false) => self.new_order(request),
            (Place::Order(id), false) => self.order(request, *id),
            (Place::Authorization(id), false) => self.authorization(request, *id),
            (Place::Finalize(id), false) => self.finalize(request, *id, faults),
            (Place::Certificate { serial, alternate }, false) => self.certificate(request, serial, *alternate),
            (Place::Revoke, false) => self.revoke(request),
            (Place::Challenge(..) | Place::Elsewhere, false) => Err(refused(404, "malformed", "there is nothing here")),
        }
    }

    /// What goes wrong with a request of this kind, which is counted.
    pub fn faults(&mut self, kind: Kind) -> Vec<Fault> {
        let mut faults = Vec::new();
        for rule in self.rules.iter_mut().filter(|rule| rule.kind.is_none_or(|meant| meant == kind)) {
            rule.count += 1;
            if rule.nth.holds(rule.count) {
                rule.met += 1;
                faults.push(rule.fault.clone());
            }
        }
        faults
    }

    pub fn url(&self, place: &Place) -> String {
        format!("{}{}", self.base, place.path())
    }

    pub fn nonce(&mut self) -> String {
        let nonce = random();
        self.nonces.insert(nonce.clone());
        nonce
    }

    /// Whether dice want a good nonce to be bad.
    fn is_unlucky(&mut self) -> bool {
        // SplitMix64: the same for the same seed.
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.dice;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        ((word >> 11) as f64 / (1_u64 << 53) as f64) < self.script.bad_nonces
    }

    /// By an account that exists and is valid.
    pub fn signed(&mut self, request: &Request) -> Result<Signed, Answer> {
        let jws = self.jws(request)?;
        let By::Account(kid) = &jws.by else { return Err(malformed("this is to be signed by an account: kid")) };
        let account = self.account_of(kid)?;
        jws.is_signed_by(&self.accounts[account].key)?;
        self.spend(&jws)?;
        if self.accounts[account].status != Status::Valid {
            return Err(unauthorized(401, "the account is deactivated"));
        }
        Ok(Signed { account, payload: jws.json()? })
    }

    /// The same, of what must be empty.
    pub fn post_as_get(&mut self, request: &Request) -> Result<usize, Answer> {
        let signed = self.signed(request)?;
        match signed.payload {
            Value::Null => Ok(signed.account),
            _ => Err(malformed("a POST-as-GET has an empty payload")),
        }
    }

    /// By a key that the request brings with it.
    pub fn signed_by_key(&mut self, request: &Request) -> Result<(PublicKey, Value), Answer> {
        let jws = self.jws(request)?;
        let By::Key(key) = &jws.by else { return Err(malformed("this is to be signed by a key: jwk")) };
        jws.is_signed_by(key)?;
        self.spend(&jws)?;
        Ok((key.clone(), jws.json()?))
    }

    /// Whose signature is not looked at yet.
    pub fn jws(&self, request: &Request) -> Result<Jws, Answer> {
        if request.content_type != "application/jose+json" {
            return Err(refused(415, "malformed", "the content type is to be application/jose+json"));
        }
        let body = serde_json::from_slice(&request.body).map_err(|_| malformed("the body is no JSON"))?;
        let jws = Jws::parse(&body)?;
        // RFC 8555 section 6.4.
        if jws.url != self.url(&request.place) {
            return Err(unauthorized(401, &format!("this was signed for another URL: {}", jws.url)));
        }
        Ok(jws)
    }

    /// Each nonce is good for one request, and then only if the dice do not mind.
    pub fn spend(&mut self, jws: &Jws) -> Result<(), Answer> {
        let known = jws.nonce.as_ref().is_some_and(|nonce| self.nonces.remove(nonce));
        match known && !self.is_unlucky() {
            true => Ok(()),
            false => Err(bad_nonce()),
        }
    }

    pub fn account_of(&self, kid: &str) -> Result<usize, Answer> {
        let position = self.accounts.iter().position(|account| account.url == kid);
        position.ok_or_else(|| refused(400, "accountDoesNotExist", "there is no such account"))
    }

    fn directory(&self) -> Value {
        let url = |place: Place| self.url(&place);
        let mut directory = json!({
            "newNonce": url(Place::NewNonce),
            "newAccount": url(Place::NewAccount),
            "newOrder": url(Place::NewOrder),
            "revokeCert": url(Place::Revoke),
            "keyChange": url(Place::KeyChange),
            "meta": { "website": "https://ca.example", "caaIdentities": ["ca.example"] },
        });
        if self.script.renewal_info {
            directory["renewalInfo"] = url(Place::RenewalInfo(String::new())).trim_end_matches('/').into();
        }
        if let Some(terms) = &self.script.terms {
            directory["meta"]["termsOfService"] = terms.as_str().into();
        }
        if !self.script.external_accounts.is_empty() {
            directory["meta"]["externalAccountRequired"] = true.into();
        }
        if !self.script.profiles.is_empty() {
            let profile = |profile: &super::script::Profile| (profile.name.clone(), profile.description.clone().into());
            directory["meta"]["profiles"] = Value::Object(self.script.profiles.iter().map(profile).collect());
        }
        directory
    }
}

pub fn bad_nonce() -> Answer {
    Answer::problem(&problem(400, "badNonce", "this nonce is not, or no longer, good"))
}

/// Not to be guessed: 128 bits in base64url.
pub fn random() -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    encoded(&bytes)
}
