//! What a CA answers: whatever it is, nothing of it steers a terminal, and what is read of it is what stands there.

use certd::domain::advice::asked_again_after;
use certd::domain::cert::Fingerprint;
use certd::domain::persist::{Standing, Wanted, judge};
use certd::domain::time::Timestamp;
use certd::issuer::acme::order::State;
use certd::issuer::acme::problem::Problem;
use certd::issuer::acme::{ari, session};
use serde_json::Value;

const ACCOUNT: &str = "https://ca.example/account/1";

/// The first byte says what the rest is an answer of.
pub fn check(data: &[u8]) -> bool {
    let Some((kind, body)) = data.split_first() else { return false };
    match kind % 5 {
        0 => problem(body),
        1 => directory(body),
        2 => order(body),
        3 => renewal_info(body),
        _ => persistent(body),
    }
}

fn problem(body: &[u8]) -> bool {
    let Some(problem) = Problem::parse(body) else { return false };
    let told = problem.to_string();
    is_harmless(&told);
    // Ten subproblems of three texts, each of which is cut, and what to do.
    assert!(told.len() < 40_000, "{} bytes", told.len());
    // What it passes over may be no text at all.
    let read: Value = serde_json::from_slice(body).unwrap_or_default();
    assert!(read.is_null() || read["type"].as_str().unwrap_or_default() == problem.kind, "{read}");
    true
}

fn directory(body: &[u8]) -> bool {
    match session::Directory::parse(body) {
        Ok(directory) => {
            let read: Value = serde_json::from_slice(body).unwrap_or_default();
            assert!(read.is_null() || read["newOrder"] == directory.new_order, "{read}");
            true
        }
        Err(error) => {
            is_harmless(&error.to_string());
            false
        }
    }
}

fn order(body: &[u8]) -> bool {
    let Ok(state) = serde_json::from_slice::<State>(body) else { return false };
    // No other address is ever asked for a certificate.
    assert!(state.certificate().is_none_or(|url| url.starts_with("https://")));
    true
}

fn renewal_info(body: &[u8]) -> bool {
    let said = match ari::parse(body, None) {
        Ok(said) => said,
        Err(error) => {
            is_harmless(&error.to_string());
            return false;
        }
    };
    said.explanation.iter().for_each(|url| is_harmless(url));
    let Some(window) = said.window else { return false };
    for byte in [0, 0x7f, 0x80, 0xff] {
        let moment = window.moment(Fingerprint([byte; 32]));
        assert!(window.start() <= moment && moment < window.end(), "{window:?}: {moment}");
    }
    let again = asked_again_after(said.retry_after).as_secs();
    assert!((60..=86_400).contains(&again));
    true
}

fn persistent(body: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(body) else { return false };
    let records: Vec<String> = text.lines().map(str::to_string).collect();
    let wanted = Wanted { issuer_domains: &["ca.example".to_string()], account_uri: ACCOUNT, wildcard: false };
    let standing = judge(&records, &wanted, Timestamp(1_000));
    is_harmless(&standing.to_string());
    match standing {
        // Whoever is let in is named there.
        Standing::Valid { until } => {
            assert!(text.contains(ACCOUNT) && until.is_none_or(|until| Timestamp(1_000) <= until), "{text:?}");
            true
        }
        _ => false,
    }
}

fn is_harmless(text: &str) {
    let odd = text.chars().find(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(c));
    assert_eq!(odd, None, "{text:?}");
}

pub fn seeds() -> Vec<Vec<u8>> {
    let answers = [
        (
            0,
            r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"no\u001b[31m","status":429,"subproblems":[{"type":"urn:ietf:params:acme:error:caa","detail":"x","identifier":{"type":"dns","value":"a\r\nb"}}]}"#,
        ),
        (
            1,
            r#"{"newNonce":"https://a/n","newAccount":"https://a/a","newOrder":"https://a/o","renewalInfo":"https://a/r","meta":{"profiles":{"short":"six days"},"externalAccountRequired":true}}"#,
        ),
        (
            2,
            r#"{"status":"valid","authorizations":[],"finalize":"https://a/f","certificate":"https://a/c","error":{"type":"x","detail":"y"}}"#,
        ),
        (
            3,
            r#"{"suggestedWindow":{"start":"2026-01-01T00:00:00Z","end":"2026-01-02T00:00:00Z"},"explanationURL":"https://a/why"}"#,
        ),
        (
            4,
            "ca.example; accounturi=https://ca.example/account/1; policy=wildcard; persistUntil=2000\nother.example; accounturi=x",
        ),
    ];
    answers.iter().map(|(kind, text)| [&[*kind], text.as_bytes()].concat()).collect()
}
