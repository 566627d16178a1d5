//! JSON Web Signatures as ACME has them (RFC 7515, RFC 8555 section 6.2): ES256 by an account's key, HS256 by the key of
//! an external account.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use serde_json::{Value, json};

use super::NotUnderstood;
use crate::domain::key::PrivateKey;

/// An ECDSA key over P-256.
pub struct SigningKey(EcdsaKeyPair);

impl SigningKey {
    pub fn of(key: &PrivateKey) -> Result<Self, NotUnderstood> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.pkcs8);
        pair.map(Self).map_err(|_| NotUnderstood::new("an account key that is not of ECDSA over P-256"))
    }

    /// RFC 7518, section 6.2.1: `kty`, `crv`, `x` and `y`.
    pub fn jwk(&self) -> Value {
        // The point is uncompressed: a byte that says so, then both coordinates.
        let point = self.0.public_key().as_ref();
        let (x, y) = point[1..].split_at(point.len() / 2);
        json!({ "crv": "P-256", "kty": "EC", "x": BASE64_URL.encode(x), "y": BASE64_URL.encode(y) })
    }

    /// `protected` lacks its `alg`. Without a payload it is a POST-as-GET (RFC 8555, section 6.3).
    pub fn sign(&self, mut protected: Value, payload: Option<&Value>) -> Result<Value, NotUnderstood> {
        protected["alg"] = json!("ES256");
        flattened(&protected, payload, |text| {
            let signature = self.0.sign(&SystemRandom::new(), text);
            let signature = signature.map_err(|_| NotUnderstood::new("an account key that does not sign"))?;
            Ok(BASE64_URL.encode(signature))
        })
    }
}

/// By the key of an external account (RFC 8555, section 7.3.4).
pub fn sign_externally(secret: &[u8], mut protected: Value, payload: &Value) -> Result<Value, NotUnderstood> {
    protected["alg"] = json!("HS256");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    flattened(&protected, Some(payload), |text| Ok(BASE64_URL.encode(hmac::sign(&key, text))))
}

fn flattened(
    protected: &Value,
    payload: Option<&Value>,
    sign: impl FnOnce(&[u8]) -> Result<String, NotUnderstood>,
) -> Result<Value, NotUnderstood> {
    let protected = BASE64_URL.encode(protected.to_string());
    let payload = payload.map(|payload| BASE64_URL.encode(payload.to_string())).unwrap_or_default();
    let signature = sign(format!("{protected}.{payload}").as_bytes())?;
    Ok(json!({ "protected": protected, "payload": payload, "signature": signature }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::KeySpec;
    use crate::pki::key;

    #[test]
    fn an_external_signature_is_that_of_the_example_in_rfc_7515() {
        // Appendix A.1, with its header and payload as they are written there.
        let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_URL.decode(secret).unwrap());
        let text = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let tag = BASE64_URL.encode(hmac::sign(&key, text.as_bytes()));
        assert_eq!(tag, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        let secret = BASE64_URL.decode(secret).unwrap();
        let signed = sign_externally(&secret, json!({ "kid": "a" }), &json!({})).unwrap();
        assert_eq!(signed["payload"], "e30");
    }

    #[test]
    fn a_key_of_another_kind_signs_no_request() {
        let rsa = key::generate(KeySpec::Ed25519).unwrap();
        assert_eq!(SigningKey::of(&rsa).err().unwrap().to_string(), "an account key that is not of ECDSA over P-256");
    }

    #[test]
    fn what_is_signed_verifies_under_the_key_it_names_and_has_no_payload_where_it_only_asks() {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
        let key = SigningKey::of(&key::generate(KeySpec::EcdsaP256).unwrap()).unwrap();
        let signed = key.sign(json!({ "nonce": "n", "url": "https://a" }), None).unwrap();
        let part = |name: &str| signed[name].as_str().unwrap().to_string();
        assert_eq!(part("payload"), "");
        let header: Value = serde_json::from_slice(&BASE64_URL.decode(part("protected")).unwrap()).unwrap();
        assert_eq!(header, json!({ "alg": "ES256", "nonce": "n", "url": "https://a" }));
        let coordinate = |name: &str| BASE64_URL.decode(key.jwk()[name].as_str().unwrap()).unwrap();
        let point = [vec![4], coordinate("x"), coordinate("y")].concat();
        let text = format!("{}.", part("protected"));
        let signature = BASE64_URL.decode(part("signature")).unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(text.as_bytes(), &signature).unwrap();
    }
}
