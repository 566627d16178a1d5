//! Accounts: RFC 8555 sections 7.3.1 to 7.3.6.

use serde_json::{Value, json};

use super::answer::{Answer, Outcome, malformed, problem, refused, unauthorized};
use super::jws::{By, Jws, PublicKey};
use super::place::Place;
use super::state::{Request, State, Status};

#[derive(Clone, Debug)]
pub struct Account {
    pub url: String,
    pub contact: Vec<String>,
    pub status: Status,
    pub key: PublicKey,
    /// Whose external account it is bound to.
    pub external: Option<String>,
}

impl State {
    pub fn new_account(&mut self, request: &Request) -> Outcome {
        let (key, payload) = self.signed_by_key(request)?;
        if let Some(id) = self.accounts.iter().position(|account| account.key == key) {
            return match self.accounts[id].status {
                Status::Valid => Ok(self.account_answer(200, id)),
                _ => Err(unauthorized(401, "the account is deactivated")),
            };
        }
        if payload["onlyReturnExisting"] == true {
            return Err(refused(400, "accountDoesNotExist", "there is no account of this key"));
        }
        if let Some(terms) = self.script.terms.as_ref().filter(|_| payload["termsOfServiceAgreed"] != true) {
            let refusal = refused(403, "userActionRequired", "the terms of service are to be agreed to");
            return Err(refusal.and("Link", &format!("<{terms}>;rel=\"terms-of-service\"")));
        }
        let contact = contact(&payload)?.unwrap_or_default();
        let external = self.external_account(&payload, &key)?;
        let url = self.url(&Place::Account(self.accounts.len()));
        self.accounts.push(Account { url, contact, status: Status::Valid, key, external });
        Ok(self.account_answer(201, self.accounts.len() - 1))
    }

    pub fn account(&mut self, request: &Request, id: usize) -> Outcome {
        let signed = self.signed(request)?;
        if signed.account != id {
            return Err(unauthorized(403, "this is another's account"));
        }
        if let Some(contact) = contact(&signed.payload)? {
            self.accounts[id].contact = contact;
        }
        match signed.payload["status"].as_str() {
            None => {}
            Some("deactivated") => self.accounts[id].status = Status::Deactivated,
            Some(_) => return Err(malformed("an account can be deactivated, and nothing else")),
        }
        Ok(self.account_answer(200, id).without("Location"))
    }

    /// Section 7.3.5: the inner JWS is by the new key, and says whose it is to be and in place of which.
    pub fn key_change(&mut self, request: &Request) -> Outcome {
        let signed = self.signed(request)?;
        let inner = Jws::parse(&signed.payload)?;
        let By::Key(new) = &inner.by else { return Err(malformed("the inner JWS has no jwk")) };
        inner.is_signed_by(new)?;
        if inner.url != self.url(&request.place) || inner.nonce.is_some() {
            return Err(malformed("the inner JWS is for the same URL, and without a nonce"));
        }
        let change = inner.json()?;
        let account = &self.accounts[signed.account];
        if change["account"] != account.url.as_str() || PublicKey::from_jwk(&change["oldKey"])? != account.key {
            return Err(malformed("the inner JWS is about another account, or another old key"));
        }
        if let Some(holder) = self.accounts.iter().find(|account| account.key == *new) {
            let refusal = Answer::problem(&problem(409, "malformed", "the new key is an account's already"));
            return Err(refusal.with("Location", &holder.url));
        }
        self.accounts[signed.account].key = new.clone();
        Ok(self.account_answer(200, signed.account))
    }

    fn account_answer(&self, status: u16, id: usize) -> Answer {
        let account = &self.accounts[id];
        let body = json!({ "status": account.status.word(), "contact": account.contact });
        Answer::json(status, &body).with("Location", &account.url)
    }

    /// Section 7.3.4.
    fn external_account(&self, payload: &Value, key: &PublicKey) -> Result<Option<String>, Answer> {
        let binding = &payload["externalAccountBinding"];
        if binding.is_null() {
            return match self.script.external_accounts.is_empty() {
                true => Ok(None),
                false => Err(refused(403, "externalAccountRequired", "this CA wants an external account")),
            };
        }
        let refusal = |detail| Err(unauthorized(403, detail));
        let binding = Jws::parse(binding)?;
        let By::Account(kid) = &binding.by else { return refusal("the binding names no external account") };
        let Some(mac_key) = self.script.external_accounts.get(kid) else {
            return refusal("there is no such external account");
        };
        if !binding.has_mac_of(mac_key) {
            return refusal("the MAC is not the external account's");
        }
        if binding.url != self.url(&Place::NewAccount) || binding.nonce.is_some() {
            return refusal("the binding is for the same URL, and without a nonce");
        }
        match PublicKey::from_jwk(&binding.json()?)? == *key {
            true => Ok(Some(kid.clone())),
            false => refusal("the binding is for another key"),
        }
    }
}

/// `None` where it says nothing of them.
fn contact(payload: &Value) -> Result<Option<Vec<String>>, Answer> {
    let Some(contact) = payload.get("contact") else { return Ok(None) };
    let contact: Vec<String> =
        serde_json::from_value(contact.clone()).map_err(|_| malformed("contact is an array of texts"))?;
    match contact.iter().all(|contact| contact.starts_with("mailto:") && contact.contains('@')) {
        true => Ok(Some(contact)),
        false => Err(refused(400, "unsupportedContact", "contacts are mailto: alone")),
    }
}
