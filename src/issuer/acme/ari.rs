//! Asking a CA when a certificate is best renewed (RFC 9773). It needs no account.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use instant_acme::CertificateIdentifier;
use serde::Deserialize;

use super::Acme;
use super::http::AcmeError;
use super::session::{not_understood, object};
use crate::domain::advice::Window;
use crate::domain::cert::Certificate;
use crate::domain::text::printable;
use crate::domain::time::Timestamp;

/// What the CA says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `None` where it is no window.
    pub window: Option<Window>,
    pub explanation: Option<String>,
    pub retry_after: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RenewalInfo {
    suggested_window: SuggestedWindow,
    #[serde(rename = "explanationURL")]
    explanation_url: Option<String>,
}

#[derive(Deserialize)]
struct SuggestedWindow {
    start: Timestamp,
    end: Timestamp,
}

/// `None` where the CA gives no such information, or does not know the certificate.
pub async fn ask(acme: &Acme, leaf: &Certificate) -> Result<Option<Said>, AcmeError> {
    let Some(identifier) = identifier(leaf) else { return Ok(None) };
    let directory = acme.known_directory().await?;
    let Some(base) = &directory.renewal_info else { return Ok(None) };
    let answer = match acme.http.read(&format!("{}/{identifier}", base.trim_end_matches('/'))).await {
        Err(AcmeError::Said { status: 404, .. } | AcmeError::NotAcme { status: 404, .. }) => return Ok(None),
        answered => answered?,
    };
    let asked = crate::http::retry_after(&answer.headers);
    parse(&answer.body, asked.map(|asked| asked.wait)).map(Some)
}

pub fn parse(body: &[u8], retry_after: Option<Duration>) -> Result<Said, AcmeError> {
    let read: RenewalInfo = object(body).map_err(|error| not_understood("renewal information", &error))?;
    let SuggestedWindow { start, end } = read.suggested_window;
    let explanation = read.explanation_url.map(|url| printable(&url));
    Ok(Said { window: Window::new(start, end), explanation, retry_after })
}

/// Its issuer's key and its serial number, as they are encoded (section 4.1).
pub fn identifier(leaf: &Certificate) -> Option<CertificateIdentifier<'static>> {
    let authority = leaf.authority_key_id.as_ref()?;
    let serial = serial(&leaf.serial)?;
    Some(CertificateIdentifier {
        authority_key_identifier: BASE64_URL.encode(authority).into(),
        serial: BASE64_URL.encode(serial).into(),
    })
}

/// The bytes of the DER integer: one that begins with a set bit has a zero before it.
fn serial(hex: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let mut bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect::<Option<_>>()?;
    if bytes.first()? & 0x80 != 0 {
        bytes.insert(0, 0);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::leaf;

    #[test]
    fn a_certificate_is_named_as_in_the_example_of_rfc_9773() {
        let mut certificate = leaf(&["example.com"]);
        let authority = "69885B6B87462455B49E1BCFE7DF8474DA40EB6C";
        let bytes = (0..authority.len()).step_by(2).map(|at| u8::from_str_radix(&authority[at..at + 2], 16).unwrap());
        certificate.authority_key_id = Some(bytes.collect());
        certificate.serial = "8765432100".to_string();
        let named = identifier(&certificate).unwrap();
        assert_eq!(named.serial, "AIdlQyEA");
        certificate.serial = "7765".to_string();
        assert_eq!(identifier(&certificate).unwrap().serial, "d2U");
        certificate.authority_key_id = None;
        assert_eq!(identifier(&certificate), None);
    }

    #[test]
    fn a_window_that_ends_before_it_begins_is_none() {
        let told = |start: &str, end: &str| {
            let text = format!(
                r#"{{"suggestedWindow":{{"start":"{start}","end":"{end}"}},"explanationURL":"https://ca/why"}}"#
            );
            parse(text.as_bytes(), None).map(|said| (said.window.is_some(), said.explanation))
        };
        let why = Some("https://ca/why".to_string());
        assert_eq!(told("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z").unwrap(), (true, why.clone()));
        assert_eq!(told("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z").unwrap(), (false, why));
        assert!(told("soon", "later").is_err());
    }
}
