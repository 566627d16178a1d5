//! Certificates in fields whose names certd does not know: found by what the fields hold, to be seen and judged. Such a
//! secret is never written.

use memchr::memmem;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{DEEPEST, form, object};
use crate::pki::NotUnderstood;
use crate::pki::bundle::{Bundle, Kept};
use crate::vault::Fields;

/// What the JSON of a field contains that may hold a certificate: PEM, PEM in base64, and DER in base64.
const HINTS: [&[u8]; 3] = [b"CERTIFICATE-----", b"LS0tLS1CRUdJTi", b"\"MII"];

/// In bytes: less than any certificate takes.
const SHORTEST: usize = 200;

/// Returns the certificates of a secret with their chains and keys, wherever they are in it, or why what holds one cannot be
/// read; `None` where nothing looks like a certificate.
pub fn find(fields: &Fields) -> Option<Result<Vec<Kept>, NotUnderstood>> {
    let mut found = Content::default();
    fields.iter().for_each(|(name, value)| found.value(name, value, 0));
    match (found.bundle.certificates.is_empty(), found.damaged) {
        (true, None) => None,
        (true, Some(why)) => Some(Err(why)),
        // A damaged one beside others must not vanish.
        (false, Some(why)) => Some(Err(why)),
        (false, None) => Some(found.bundle.chains()),
    }
}

#[derive(Default)]
struct Content {
    bundle: Bundle,
    damaged: Option<NotUnderstood>,
}

impl Content {
    fn value(&mut self, name: &str, value: &RawValue, depth: usize) {
        let json = value.get();
        let is_likely =
            json.len() >= SHORTEST && HINTS.iter().any(|hint| memmem::find(json.as_bytes(), hint).is_some());
        // A key stands beside its certificate under a name of its own.
        if !is_likely && !json.contains("PRIVATE KEY-----") || depth > DEEPEST {
            return;
        }
        if let Some(inner) = object(value) {
            inner.iter().for_each(|(inner, value)| self.value(inner, value, depth + 1));
        } else if let Ok(items) = serde_json::from_str::<Vec<Box<RawValue>>>(json) {
            items.iter().for_each(|item| self.value(name, item, depth + 1));
        } else if let Ok(text) = serde_json::from_str::<String>(json) {
            self.text(name, Zeroizing::new(text), depth);
        }
    }

    fn text(&mut self, name: &str, text: Zeroizing<String>, depth: usize) {
        // A text of JSON, as a template or a deployment keeps it.
        if let Ok(inner) = serde_json::from_str::<Box<RawValue>>(&text)
            && text.trim_start().starts_with(['{', '['])
        {
            return self.value(name, &inner, depth + 1);
        }
        let read = form::read(&text).or_else(|why| match text.contains("\\n") {
            // As a shell or an env file keeps several lines in one.
            true => form::read(&Zeroizing::new(text.replace("\\n", "\n"))),
            false => Err(why),
        });
        match read {
            Ok(bundle) => self.bundle.add(bundle),
            Err(why) if text.contains("CERTIFICATE-----") => {
                self.damaged.get_or_insert_with(|| why.in_field(name));
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::key::KeySpec;
    use crate::pki;

    /// A certificate and its key in PEM.
    fn pair() -> (String, String) {
        let key = pki::key::generate(KeySpec::EcdsaP256).unwrap();
        let own = rcgen::KeyPair::try_from(key.pkcs8.as_slice()).unwrap();
        let leaf = rcgen::CertificateParams::new(vec!["a.example".to_string()]).unwrap().self_signed(&own).unwrap();
        (pki::pem::certificates(&[leaf.der()]), pki::key::to_pem(&key).to_string())
    }

    fn fields(secret: Value) -> Fields {
        serde_json::from_value(secret).unwrap()
    }

    #[test]
    fn a_certificate_is_found_under_any_name_and_in_any_depth_with_its_key() {
        let (leaf, key) = pair();
        let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &leaf);
        for secret in [
            json!({ "SSL_CERTIFICATE": leaf, "SSL_PRIVATE_KEY": key }),
            json!({ "server.crt": leaf, "server.key": key, "user": "web", "port": 443 }),
            json!({ "haproxy.pem": format!("{key}{leaf}") }),
            json!({ "x509": base64, "private": key }),
            json!({ "certificates": [{ "cert": leaf, "key": key }] }),
            json!({ "config.json": json!({ "tls": { "public": leaf, "private": key } }).to_string() }),
            json!({ "TLS": leaf.replace('\n', "\\n"), "KEY": key.replace('\n', "\\n") }),
            json!({ "env": format!("A=1\nCRT='{leaf}'\nKEY='{key}'\n") }),
        ] {
            let kept = find(&fields(secret.clone())).unwrap_or_else(|| panic!("{secret}")).unwrap();
            assert_eq!(kept.len(), 1, "{secret}");
            assert_eq!(kept[0].key_digest(), Some(kept[0].chain.leaf.public_key), "{secret}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_and_what_holds_none_is_left_out() {
        let (leaf, key) = pair();
        let cut = &leaf[..leaf.len() / 2];
        for secret in [json!({ "x": cut }), json!({ "x": cut, "good": leaf }), json!({ "x": [{ "y": cut }] })] {
            assert!(matches!(find(&fields(secret.clone())), Some(Err(_))), "{secret}");
        }
        let other =
            json!({ "password": "hunter2", "key": key, "long": "x".repeat(1_000), "n": 7, "l": ["a", { "b": 1 }] });
        assert!(find(&fields(other)).is_none());
    }
}
