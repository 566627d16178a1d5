//! Orders, authorizations and challenges: RFC 8555 sections 7.4 and 7.5, profiles by draft-aaron-acme-profiles, and
//! `replaces` by RFC 9773 section 5.

use rcgen::PublicKey;
use serde_json::{Value, json};

use super::answer::{Answer, Outcome, malformed, not_found, problem, refused, unauthorized};
use super::ca::{self, Issued};
use super::identifier::Identifier;
use super::jws::decoded;
use super::place::Place;
use super::script::{Fault, Validation, Verdict, refusal};
use super::state::{Request, State, Status, random};

/// Nothing expires while a story lasts.
const EXPIRES: &str = "2099-01-01T00:00:00Z";

#[derive(Clone, Debug)]
pub struct Order {
    pub url: String,
    /// The URL of the account.
    pub account: String,
    pub identifiers: Vec<Identifier>,
    pub profile: Option<String>,
    pub replaces: Option<String>,
    pub status: Status,
    pub error: Option<Value>,
    /// Once it was finalized; it counts as issued when the order is valid.
    pub certificate: Option<Issued>,
    pub authorizations: Vec<usize>,
    /// How many looks at it are left until it is valid; `None` where that is never.
    looks_until_valid: Option<usize>,
    looks_until_told: usize,
}

#[derive(Clone, Debug)]
pub struct Authorization {
    pub account: usize,
    /// Without the `*.` of a wildcard.
    pub identifier: Identifier,
    pub wildcard: bool,
    pub status: Status,
    pub challenges: Vec<Challenge>,
    looks_until_valid: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct Challenge {
    pub kind: &'static str,
    pub token: String,
    pub status: Status,
    pub error: Option<Value>,
}

impl State {
    pub fn new_order(&mut self, request: &Request) -> Outcome {
        let signed = self.signed(request)?;
        let asked = &signed.payload;
        let identifiers = self.identifiers(asked)?;
        if asked.get("notBefore").or(asked.get("notAfter")).is_some() {
            return Err(malformed("this CA takes neither notBefore nor notAfter"));
        }
        let profile = self.profile(asked["profile"].as_str())?;
        let replaces = asked["replaces"].as_str().map(str::to_string);
        if let Some(id) = &replaces {
            if let Some((kind, words)) = self.script.refuse_replaces {
                return Err(refusal(kind, words));
            }
            self.may_replace(id, signed.account, &identifiers)?;
        }
        let authorizations = identifiers.iter().map(|name| self.authorization_for(signed.account, name)).collect();
        let id = self.orders.len();
        self.orders.push(Order {
            url: self.url(&Place::Order(id)),
            account: self.accounts[signed.account].url.clone(),
            identifiers,
            profile,
            replaces,
            status: Status::Pending,
            error: None,
            certificate: None,
            authorizations,
            looks_until_valid: None,
            looks_until_told: 0,
        });
        self.settle(id);
        Ok(Answer::json(201, &self.order_json(id)).with("Location", &self.orders[id].url))
    }

    pub fn order(&mut self, request: &Request, id: usize) -> Outcome {
        let account = self.post_as_get(request)?;
        self.is_own_order(account, id)?;
        for authorization in self.orders[id].authorizations.clone() {
            self.look_at(authorization);
        }
        self.settle(id);
        let answer = Answer::json(200, &self.order_json(id));
        let order = &mut self.orders[id];
        order.looks_until_valid = order.looks_until_valid.map(|looks| looks.saturating_sub(1));
        order.looks_until_told = order.looks_until_told.saturating_sub(1);
        Ok(answer)
    }

    pub fn authorization(&mut self, request: &Request, id: usize) -> Outcome {
        let signed = self.signed(request)?;
        self.is_own_authorization(signed.account, id)?;
        match (&signed.payload, signed.payload["status"].as_str()) {
            (Value::Null, _) => {}
            (_, Some("deactivated")) => self.authorizations[id].status = Status::Deactivated,
            _ => return Err(malformed("an authorization can be deactivated, and nothing else")),
        }
        self.look_at(id);
        Ok(Answer::json(200, &self.authorization_json(id)))
    }

    /// The answer, and what somebody has to judge before it is given.
    pub fn challenge(
        &mut self,
        request: &Request,
        id: usize,
        nth: usize,
    ) -> Result<(Answer, Option<Validation>), Answer> {
        let signed = self.signed(request)?;
        self.is_own_authorization(signed.account, id)?;
        let account = self.accounts[signed.account].clone();
        let authorization = &mut self.authorizations[id];
        let Some(challenge) = authorization.challenges.get_mut(nth) else { return Err(not_found("challenge")) };
        let begins = !signed.payload.is_null() && challenge.status == Status::Pending;
        let validation = begins.then(|| {
            challenge.status = Status::Processing;
            Validation {
                kind: challenge.kind,
                identifier: authorization.identifier.to_string(),
                wildcard: authorization.wildcard,
                token: challenge.token.clone(),
                key_authorization: format!("{}.{}", challenge.token, account.key.thumbprint()),
                account: account.url,
            }
        });
        let up = format!("<{}>;rel=\"up\"", self.url(&Place::Authorization(id)));
        Ok((Answer::json(200, &self.challenge_json(id, nth)).and("Link", &up), validation))
    }

    pub fn judged(&mut self, id: usize, nth: usize, verdict: Verdict) {
        let authorization = &mut self.authorizations[id];
        let challenge = &mut authorization.challenges[nth];
        match verdict {
            Verdict::Valid => (challenge.status, authorization.status) = (Status::Valid, Status::Valid),
            Verdict::Invalid(error) => {
                (challenge.status, authorization.status) = (Status::Invalid, Status::Invalid);
                challenge.error = Some(error);
            }
            Verdict::Later(looks) => authorization.looks_until_valid = Some(looks),
        }
    }

    pub fn finalize(&mut self, request: &Request, id: usize, faults: &[Fault]) -> Outcome {
        let signed = self.signed(request)?;
        self.is_own_order(signed.account, id)?;
        self.settle(id);
        if self.orders[id].status != Status::Ready {
            let detail = format!("the order is {}", self.orders[id].status.word());
            return Err(refused(403, "orderNotReady", &detail));
        }
        let csr = decoded(signed.payload["csr"].as_str().unwrap_or_default())?;
        let asked = ca::Request::parse(&csr).map_err(|detail| refused(400, "badCSR", &detail))?;
        let mut expected = self.orders[id].identifiers.clone();
        expected.sort();
        if asked.names != expected {
            return Err(refused(400, "badCSR", "its names are not those of the order"));
        }
        if self.accounts[signed.account].key.is(asked.raw_key()) {
            return Err(refused(400, "badCSR", "its key is the account's"));
        }
        self.carry_out(id, &asked.key, faults);
        Ok(Answer::json(200, &self.order_json(id)).with("Location", &self.orders[id].url))
    }

    fn carry_out(&mut self, id: usize, key: &PublicKey, faults: &[Fault]) {
        let flaw = faults.iter().find_map(|fault| if let Fault::Flawed(flaw) = fault { Some(*flaw) } else { None });
        let order = &mut self.orders[id];
        order.looks_until_valid = Some(0);
        for fault in faults {
            match fault {
                Fault::Processing(looks) => order.looks_until_valid = Some(*looks),
                Fault::Stuck => order.looks_until_valid = None,
                Fault::Late(looks) => order.looks_until_told = *looks,
                Fault::Invalid(error) => {
                    (order.status, order.error) = (Status::Invalid, Some(error.clone()));
                    return;
                }
                Fault::Answer(_) | Fault::Hang | Fault::CutBefore | Fault::BadNonce => {}
                Fault::CutAfter | Fault::CutMidway | Fault::Swollen(_) => {}
                Fault::With(..) | Fault::Without(_) | Fault::Flawed(_) => {}
            }
        }
        let profiles = &self.script.profiles;
        let profile = profiles.iter().find(|profile| Some(&profile.name) == order.profile.as_ref());
        let validity = profile.map_or(self.script.validity, |profile| (-3_600, profile.lifetime - 3_600));
        order.status = Status::Processing;
        order.certificate = Some(self.authority.sign(&order.identifiers, key, validity, flaw, &order.account));
        self.settle(id);
    }

    fn identifiers(&self, asked: &Value) -> Result<Vec<Identifier>, Answer> {
        let identifiers = asked["identifiers"].as_array().filter(|all| !all.is_empty());
        let identifiers = identifiers.ok_or_else(|| malformed("an order has identifiers"))?;
        let identifiers: Vec<Identifier> = identifiers.iter().map(Identifier::of_json).collect::<Result<_, _>>()?;
        let is_twice = |name: &Identifier| identifiers.iter().filter(|other| *other == name).count() > 1;
        if identifiers.iter().any(is_twice) {
            return Err(malformed("an identifier stands there twice"));
        }
        let rejected = identifiers.iter().filter(|name| self.script.rejected.contains(&name.to_string()));
        let subproblems: Vec<Value> = rejected
            .map(|name| {
                let mut refusal = problem(400, "rejectedIdentifier", "this CA does not sign for it");
                refusal["identifier"] = name.json();
                refusal
            })
            .collect();
        if subproblems.is_empty() {
            return Ok(identifiers);
        }
        let mut refusal = problem(400, "rejectedIdentifier", "some identifiers are not signed for");
        refusal["subproblems"] = subproblems.into();
        Err(Answer::problem(&refusal))
    }

    /// The first where none is asked for.
    fn profile(&self, asked: Option<&str>) -> Result<Option<String>, Answer> {
        let profiles = &self.script.profiles;
        match (asked, profiles.first()) {
            (_, None) => Ok(None),
            (None, Some(first)) => Ok(Some(first.name.clone())),
            (Some(name), Some(_)) => match profiles.iter().any(|profile| profile.name == name) {
                true => Ok(Some(name.to_string())),
                false => Err(refused(400, "invalidProfile", "there is no such profile")),
            },
        }
    }

    fn may_replace(&self, id: &str, account: usize, identifiers: &[Identifier]) -> Result<(), Answer> {
        let Some(issued) = self.issued.iter().find(|issued| issued.id == id) else {
            return Err(not_found("certificate to replace"));
        };
        if issued.account != self.accounts[account].url {
            return Err(unauthorized(403, "what is to be replaced is another's certificate"));
        }
        if !issued.names.iter().any(|name| identifiers.contains(name)) {
            return Err(malformed("what is to be replaced has none of these names"));
        }
        let has_replaced = |order: &Order| order.replaces.as_deref() == Some(id) && order.status != Status::Invalid;
        match self.orders.iter().any(has_replaced) {
            true => Err(refused(409, "alreadyReplaced", "another order replaces it")),
            false => Ok(()),
        }
    }

    fn authorization_for(&mut self, account: usize, name: &Identifier) -> usize {
        let (identifier, wildcard) = name.base();
        let is_good = |other: &Authorization| {
            other.status == Status::Valid
                && (other.account, &other.identifier, other.wildcard) == (account, &identifier, wildcard)
        };
        let known = self.authorizations.iter().position(is_good).filter(|_| self.script.reuse_authorizations);
        known.unwrap_or_else(|| {
            let challenge =
                |kind: &&'static str| Challenge { kind, token: random(), status: Status::Pending, error: None };
            let challenges = identifier.challenges(wildcard).iter().map(challenge).collect();
            let status = Status::Pending;
            let authorization =
                Authorization { account, identifier, wildcard, status, challenges, looks_until_valid: None };
            self.authorizations.push(authorization);
            self.authorizations.len() - 1
        })
    }

    fn look_at(&mut self, id: usize) {
        let authorization = &mut self.authorizations[id];
        match authorization.looks_until_valid {
            Some(0) if authorization.status == Status::Pending => {
                authorization.status = Status::Valid;
                let begun = authorization.challenges.iter_mut().filter(|it| it.status == Status::Processing);
                begun.for_each(|challenge| challenge.status = Status::Valid);
            }
            looks => authorization.looks_until_valid = looks.map(|looks| looks.saturating_sub(1)),
        }
    }

    /// Brings an order to the status that its authorizations, or the looks at it, give it.
    fn settle(&mut self, id: usize) {
        let order = &mut self.orders[id];
        let parts: Vec<Status> = order.authorizations.iter().map(|id| self.authorizations[*id].status).collect();
        match order.status {
            Status::Pending if parts.iter().all(|status| *status == Status::Valid) => order.status = Status::Ready,
            Status::Pending if parts.iter().any(|status| *status != Status::Pending && *status != Status::Valid) => {
                order.status = Status::Invalid;
                order.error = Some(problem(403, "unauthorized", "an authorization is not valid"));
            }
            Status::Processing if order.looks_until_valid == Some(0) => {
                order.status = Status::Valid;
                self.issued.extend(order.certificate.clone());
            }
            Status::Pending | Status::Processing | Status::Ready => {}
            Status::Valid | Status::Invalid | Status::Deactivated => {}
        }
    }

    fn is_own_order(&self, account: usize, id: usize) -> Result<(), Answer> {
        match self.orders.get(id) {
            Some(order) if order.account == self.accounts[account].url => Ok(()),
            Some(_) => Err(unauthorized(403, "this is another's order")),
            None => Err(not_found("order")),
        }
    }

    fn is_own_authorization(&self, account: usize, id: usize) -> Result<(), Answer> {
        match self.authorizations.get(id) {
            Some(authorization) if authorization.account == account => Ok(()),
            Some(_) => Err(unauthorized(403, "this is another's authorization")),
            None => Err(not_found("authorization")),
        }
    }

    fn order_json(&self, id: usize) -> Value {
        let order = &self.orders[id];
        let authorization = |id: &usize| self.url(&Place::Authorization(*id));
        let mut body = json!({
            "status": order.status.word(),
            "expires": EXPIRES,
            "identifiers": order.identifiers.iter().map(Identifier::json).collect::<Vec<_>>(),
            "authorizations": order.authorizations.iter().map(authorization).collect::<Vec<_>>(),
            "finalize": self.url(&Place::Finalize(id)),
        });
        if let Some(profile) = &order.profile {
            body["profile"] = profile.as_str().into();
        }
        if let Some(id) = order.replaces.as_ref().filter(|_| self.script.echo_replaces) {
            body["replaces"] = id.as_str().into();
        }
        if let Some(error) = &order.error {
            body["error"] = error.clone();
        }
        if let (Status::Valid, 0, Some(issued)) = (order.status, order.looks_until_told, &order.certificate) {
            body["certificate"] =
                self.url(&Place::Certificate { serial: issued.serial.clone(), alternate: false }).into();
        }
        body
    }

    fn authorization_json(&self, id: usize) -> Value {
        let authorization = &self.authorizations[id];
        let challenges: Vec<Value> =
            (0..authorization.challenges.len()).map(|nth| self.challenge_json(id, nth)).collect();
        let mut body = json!({
            "status": authorization.status.word(),
            "expires": EXPIRES,
            "identifier": authorization.identifier.json(),
            "challenges": challenges,
        });
        if authorization.wildcard {
            body["wildcard"] = true.into();
        }
        body
    }

    fn challenge_json(&self, id: usize, nth: usize) -> Value {
        let authorization = &self.authorizations[id];
        let challenge = &authorization.challenges[nth];
        let url = self.url(&Place::Challenge(id, nth));
        let mut body = json!({ "type": challenge.kind, "url": url, "status": challenge.status.word() });
        match challenge.kind {
            // draft-ietf-acme-dns-persist section 3.1: there is no token.
            "dns-persist-01" => {
                body["accounturi"] = self.accounts[authorization.account].url.as_str().into();
                body["issuer-domain-names"] = vec!["ca.example"].into();
            }
            _ => body["token"] = challenge.token.as_str().into(),
        }
        if let Some(error) = &challenge.error {
            body["error"] = error.clone();
        }
        body
    }
}
