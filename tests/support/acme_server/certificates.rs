//! What becomes of what was signed: its download, its revocation (RFC 8555 section 7.6), and its renewal information
//! (RFC 9773).

use jiff::Timestamp;
use serde_json::json;

use super::answer::{Answer, CHAIN, Outcome, malformed, not_found, refused, unauthorized};
use super::ca::Issued;
use super::jws::{By, decoded};
use super::place::Place;
use super::script::Window;
use super::state::{Request, State};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    pub serial: String,
    /// RFC 5280 section 5.3.1.
    pub reason: u64,
}

impl State {
    pub fn certificate(&mut self, request: &Request, serial: &str, alternate: bool) -> Outcome {
        let account = self.post_as_get(request)?;
        let Some(issued) = self.issued.iter().find(|issued| issued.serial == serial) else {
            return Err(not_found("certificate"));
        };
        if issued.account != self.accounts[account].url {
            return Err(unauthorized(403, "this is another's certificate"));
        }
        if alternate && !self.script.alternates {
            return Err(not_found("chain"));
        }
        let ders = if alternate { &issued.alternate_ders } else { &issued.ders };
        let answer = Answer::new(200, CHAIN, pem_of(ders));
        if !self.script.alternates {
            return Ok(answer);
        }
        let other = self.url(&Place::Certificate { serial: serial.to_string(), alternate: !alternate });
        Ok(answer.and("Link", &format!("<{other}>;rel=\"alternate\"")))
    }

    /// By the account that has it, or by its own key.
    pub fn revoke(&mut self, request: &Request) -> Outcome {
        let (payload, by) = match self.jws(request)?.by {
            By::Account(_) => {
                let signed = self.signed(request)?;
                (signed.payload, Err(self.accounts[signed.account].url.clone()))
            }
            By::Key(_) => {
                let (key, payload) = self.signed_by_key(request)?;
                (payload, Ok(key))
            }
        };
        let der = decoded(payload["certificate"].as_str().unwrap_or_default())?;
        let Some(issued) = self.issued.iter().find(|issued| issued.ders[0] == der) else {
            return Err(not_found("certificate"));
        };
        let may = match by {
            Ok(key) => key.is(&public_key_of(issued)),
            Err(account) => account == issued.account,
        };
        if !may {
            return Err(unauthorized(403, "neither the account's nor by the certificate's key"));
        }
        let reason = if payload["reason"].is_null() { Some(0) } else { payload["reason"].as_u64() };
        let Some(reason @ (0..=6 | 8..=10)) = reason else {
            return Err(refused(400, "badRevocationReason", "there is no such reason"));
        };
        if self.revoked.iter().any(|revoked| revoked.serial == issued.serial) {
            return Err(refused(400, "alreadyRevoked", "it is revoked already"));
        }
        self.revoked.push(Revoked { serial: issued.serial.clone(), reason });
        Ok(Answer::empty(200))
    }

    pub fn renewal_info(&self, id: &str) -> Outcome {
        if !self.script.renewal_info {
            return Err(not_found("resource"));
        }
        if id.split('.').count() != 2 || id.split('.').any(|part| decoded(part).is_err()) {
            return Err(malformed("this identifies no certificate"));
        }
        let Some(issued) = self.issued.iter().find(|issued| issued.id == id) else {
            return Err(not_found("certificate"));
        };
        let Window { start, end } = self.window(issued);
        let mut body = json!({ "suggestedWindow": { "start": start.to_string(), "end": end.to_string() } });
        if let Some(explanation) = &self.script.explanation {
            body["explanationURL"] = explanation.as_str().into();
        }
        let answer = Answer::json(200, &body);
        Ok(match &self.script.renewal_retry_after {
            Some(text) => answer.with("Retry-After", text),
            None => answer,
        })
    }

    /// What was revoked is to be renewed at once.
    fn window(&self, issued: &Issued) -> Window {
        if let Some(window) = self.windows.get(&issued.serial) {
            return *window;
        }
        if self.revoked.iter().any(|revoked| revoked.serial == issued.serial) {
            return Window::from_now(-7_200, -3_600);
        }
        let last_third = issued.not_after - (issued.not_after - issued.not_before) / 3;
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let usual = || Window { start: at(last_third), end: at(last_third + (issued.not_after - last_third) / 2) };
        self.script.window.unwrap_or_else(usual)
    }
}

fn pem_of(ders: &[Vec<u8>]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    ders.iter().map(|der| pem::encode_config(&pem::Pem::new("CERTIFICATE", der.as_slice()), config)).collect()
}

fn public_key_of(issued: &Issued) -> Vec<u8> {
    let (_, leaf) = x509_parser::parse_x509_certificate(&issued.ders[0]).unwrap();
    leaf.public_key().subject_public_key.data.to_vec()
}
