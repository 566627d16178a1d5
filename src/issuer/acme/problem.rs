//! What an ACME server says is wrong (RFC 8555, section 6.7), and what a person can do about it. Every word of it is
//! somebody else's.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use crate::domain::text::{message, printable};

const NAMESPACE: &str = "urn:ietf:params:acme:error:";

/// More would fill the line of a log and tell nothing new.
const MOST_SUBPROBLEMS: usize = 10;

/// A problem document (RFC 7807).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Problem {
    #[serde(default, rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub detail: String,
    #[serde(default)]
    pub subproblems: Vec<Subproblem>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Subproblem {
    #[serde(default, rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub detail: String,
    /// Its `value` names what it is about.
    #[serde(default)]
    pub identifier: Value,
}

impl Problem {
    /// `None` where it is no problem document, such as the page of a proxy.
    pub fn parse(body: &[u8]) -> Option<Self> {
        // Serde takes a list for the members in their order.
        let is_object = body.trim_ascii_start().first() == Some(&b'{');
        let problem: Self = is_object.then(|| serde_json::from_slice(body).ok())??;
        (!problem.kind.is_empty() || !problem.detail.is_empty()).then_some(problem)
    }

    /// Such as `badNonce`; empty where it is none of RFC 8555's.
    pub fn name(&self) -> &str {
        self.kind.strip_prefix(NAMESPACE).unwrap_or_default()
    }

    /// Whether nothing will be signed before a person has done something about the account.
    pub fn is_of_the_account(&self) -> bool {
        matches!(self.name(), "accountDoesNotExist" | "externalAccountRequired" | "userActionRequired" | "badPublicKey")
    }

    /// Whether a limit is one of certain names, so that others may be ordered: each subproblem is about a name (RFC 8555,
    /// section 6.7.1), or it is said as Boulder does (letsencrypt.org/docs/rate-limits). What says neither is of all.
    pub fn is_of_names(&self) -> bool {
        let named = |sub: &Subproblem| sub.identifier.get("value").is_some_and(Value::is_string);
        let of_all = ["from this account", "from this IP", "for your account"];
        let of_names = ["already issued for", "failed authorizations"];
        let says = |words: &[&str]| words.iter().any(|words| self.detail.contains(words));
        let is_structured = !self.subproblems.is_empty() && self.subproblems.iter().all(named);
        self.name() == "rateLimited" && !says(&of_all) && (is_structured || says(&of_names))
    }

    fn hint(&self) -> Option<&'static str> {
        Some(match self.name() {
            "accountDoesNotExist" => "the CA does not know the account's key: restore the one that it knows",
            "alreadyReplaced" => "another order has replaced the certificate already",
            "badCSR" => "the CA refuses this kind of key or these names: see `key` and `names` of the certificate",
            "caa" => "a CAA record of the name forbids this CA: add it there",
            "compound" => "see each of its parts",
            "connection" => "the CA could not connect: open the port of the challenge to it",
            "dns" => "the CA could not resolve the name: see its records and its name servers",
            "externalAccountRequired" => "set eab.key_id and eab.hmac_file to what the CA gave for your account there",
            "incorrectResponse" => "another server answers for the name, or an older record is still there",
            "invalidContact" | "unsupportedContact" => "write contact as mailto: with an address that exists",
            "invalidProfile" => "set profile to one that the CA's directory lists",
            "rateLimited" => "the CA's own limit is reached: it is asked again when that allows it",
            "rejectedIdentifier" | "unsupportedIdentifier" => "this CA does not certify such a name",
            "tls" => "the CA could not make a TLS connection for the challenge: see what listens on port 443",
            "unauthorized" => {
                "the account may not do this: see the challenge's answer, and which account owns the name"
            }
            "userActionRequired" => "agree to the CA's new terms of service, and set terms_agreed = true",
            _ => return None,
        })
    }
}

impl From<&instant_acme::Problem> for Problem {
    fn from(problem: &instant_acme::Problem) -> Self {
        let subproblem = |it: &instant_acme::Subproblem| Subproblem {
            kind: it.r#type.clone().unwrap_or_default(),
            detail: it.detail.clone().unwrap_or_default(),
            identifier: serde_json::to_value(&it.identifier).unwrap_or_default(),
        };
        Self {
            kind: problem.r#type.clone().unwrap_or_default(),
            detail: problem.detail.clone().unwrap_or_default(),
            subproblems: problem.subproblems.iter().map(subproblem).collect(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&said(&self.kind, &self.detail))?;
        for subproblem in self.subproblems.iter().take(MOST_SUBPROBLEMS) {
            write!(f, "; {subproblem}")?;
        }
        if let Some(more) = self.subproblems.len().checked_sub(MOST_SUBPROBLEMS).filter(|more| *more > 0) {
            write!(f, "; and {more} more")?;
        }
        match self.hint() {
            Some(hint) => write!(f, " — {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Subproblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.identifier["value"].as_str() {
            write!(f, "{}: ", printable(name))?;
        }
        f.write_str(&said(&self.kind, &self.detail))
    }
}

/// With the name of its kind behind it, for whoever looks that up.
fn said(kind: &str, detail: &str) -> String {
    let kind = kind.strip_prefix(NAMESPACE).unwrap_or(kind);
    match (detail.is_empty(), kind.is_empty()) {
        (true, true) => "no reason was given".to_string(),
        (true, false) => printable(kind),
        // What certd could not do itself has no kind, and says at its end what to do.
        (false, true) => message(detail),
        (false, false) => format!("{} ({})", printable(detail), printable(kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_certain_names_is_told_from_one_of_the_account_or_the_server() {
        let of_names = |kind: &str, detail: &str| {
            let kind = format!("{NAMESPACE}{kind}");
            Problem { kind, detail: detail.into(), subproblems: Vec::new() }.is_of_names()
        };
        for (detail, expected) in [
            ("too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s", true),
            ("too many certificates (50) already issued for \"example.org\" in the last 168h0m0s", true),
            ("too many failed authorizations (5) for \"www.example.org\" in the last 1h0m0s", true),
            ("too many new orders (300) from this account in the last 3h0m0s", false),
            ("too many failed authorizations from this account", false),
            ("too many new registrations (10) from this IP address in the last 3h0m0s", false),
            ("come back later", false),
            ("", false),
        ] {
            assert_eq!(of_names("rateLimited", detail), expected, "{detail}");
            assert!(!of_names("serverInternal", detail), "{detail}");
        }
        let structured = |identifier: &str| {
            let text = format!(
                r#"{{"type":"{NAMESPACE}rateLimited","detail":"no","subproblems":[{{"type":"x","identifier":{identifier}}}]}}"#
            );
            Problem::parse(text.as_bytes()).unwrap().is_of_names()
        };
        assert!(structured(r#"{"type":"dns","value":"a.example"}"#));
        assert!(!structured("null") && !structured("{}"));
    }

    fn parsed(text: &str) -> Option<String> {
        Problem::parse(text.as_bytes()).map(|problem| problem.to_string())
    }

    #[test]
    fn a_problem_is_told_with_its_subproblems_and_what_to_do() {
        let text = r#"{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"no","status":400,"subproblems":[
            {"type":"urn:ietf:params:acme:error:caa","detail":"forbidden","identifier":{"type":"dns","value":"a.example"}},
            {"type":"urn:ietf:params:acme:error:dns"}]}"#;
        let told = "no (rejectedIdentifier); a.example: forbidden (caa); dns — this CA does not certify such a name";
        assert_eq!(parsed(text).unwrap(), told);
    }

    #[test]
    fn what_certd_says_itself_is_told_to_its_end_and_what_a_ca_says_is_cut() {
        let detail = format!("{}put this there", "some words and ".repeat(20));
        let own = Problem { detail: detail.clone(), ..Problem::default() };
        assert_eq!(own.to_string(), detail);
        let foreign = Problem { kind: "dns".to_string(), ..own };
        assert!(!foreign.to_string().contains("put this there"), "{foreign}");
    }

    #[test]
    fn a_page_of_a_proxy_is_no_problem_document() {
        for text in ["<html>", "", "{}", "[]", "[\"st\"]", "\"no\"", r#"{"type":1}"#, r#"{"type":"","detail":""}"#] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn what_would_steer_a_terminal_is_escaped() {
        let text = r#"{"type":"x\u001b[31m","detail":"a\nb\u202e","subproblems":[{"identifier":{"value":"c\rd"}}]}"#;
        let told = parsed(text).unwrap();
        assert!(!told.contains(['\u{1b}', '\n', '\r', '\u{202e}']), "{told:?}");
    }

    #[test]
    fn of_a_hundred_subproblems_ten_are_told() {
        let parts = vec![r#"{"detail":"x"}"#; 100].join(",");
        let told = parsed(&format!(r#"{{"detail":"all","subproblems":[{parts}]}}"#)).unwrap();
        assert_eq!(told.matches("; x").count(), 10);
        assert!(told.ends_with("; and 90 more"), "{told}");
    }
}
