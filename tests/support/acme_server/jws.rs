//! Flattened JSON Web Signatures as RFC 8555 section 6.2 wants them: ES256, and HS256 for external accounts.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use super::answer::{Answer, malformed, problem};

pub struct Jws {
    pub algorithm: String,
    pub nonce: Option<String>,
    pub url: String,
    pub by: By,
    pub payload: Vec<u8>,
    signed: String,
    signature: Vec<u8>,
}

/// Who is said to have signed.
pub enum By {
    Key(PublicKey),
    Account(String),
}

/// Of P-256: an uncompressed point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl Jws {
    pub fn parse(jws: &Value) -> Result<Self, Answer> {
        let part = |name: &str| jws[name].as_str().ok_or_else(|| malformed(&format!("the JWS has no {name}")));
        let (protected, payload, signature) = (part("protected")?, part("payload")?, part("signature")?);
        if jws.get("header").is_some() || jws.get("signatures").is_some() {
            return Err(malformed("a JWS has neither an unprotected header nor several signatures"));
        }
        let header: Value =
            serde_json::from_slice(&decoded(protected)?).map_err(|_| malformed("the protected header is no JSON"))?;
        let by = match (&header["jwk"], &header["kid"]) {
            (jwk, Value::Null) => By::Key(PublicKey::from_jwk(jwk)?),
            (Value::Null, Value::String(kid)) => By::Account(kid.clone()),
            _ => return Err(malformed("jwk and kid are mutually exclusive")),
        };
        let text = |name: &str| header[name].as_str().map(str::to_string);
        Ok(Self {
            algorithm: text("alg").ok_or_else(|| malformed("the JWS has no alg"))?,
            nonce: text("nonce"),
            url: text("url").ok_or_else(|| malformed("the JWS has no url"))?,
            by,
            payload: decoded(payload)?,
            signed: format!("{protected}.{payload}"),
            signature: decoded(signature)?,
        })
    }

    pub fn is_signed_by(&self, key: &PublicKey) -> Result<(), Answer> {
        if self.algorithm != "ES256" {
            let mut refusal = problem(400, "badSignatureAlgorithm", "this server verifies ES256");
            refusal["algorithms"] = vec!["ES256"].into();
            return Err(Answer::problem(&refusal));
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.0)
            .verify(self.signed.as_bytes(), &self.signature)
            .map_err(|_| malformed("the signature is not the key's"))
    }

    pub fn has_mac_of(&self, key: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        self.algorithm == "HS256" && hmac::verify(&key, self.signed.as_bytes(), &self.signature).is_ok()
    }

    /// Null where it is a POST-as-GET.
    pub fn json(&self) -> Result<Value, Answer> {
        match self.payload.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_slice(&self.payload).map_err(|_| malformed("the payload is no JSON")),
        }
    }
}

impl PublicKey {
    pub fn from_jwk(jwk: &Value) -> Result<Self, Answer> {
        let refusal = || {
            let mut refusal = problem(400, "badPublicKey", "this server knows keys of P-256 alone");
            refusal["algorithms"] = vec!["ES256"].into();
            Answer::problem(&refusal)
        };
        if (&jwk["kty"], &jwk["crv"]) != (&"EC".into(), &"P-256".into()) {
            return Err(refusal());
        }
        let coordinate = |name: &str| jwk[name].as_str().and_then(|text| decoded(text).ok());
        match (coordinate("x"), coordinate("y")) {
            (Some(x), Some(y)) if x.len() == 32 && y.len() == 32 => Ok(Self([vec![4], x, y].concat())),
            _ => Err(refusal()),
        }
    }

    /// Where it is the key of a certificate.
    pub fn is(&self, point: &[u8]) -> bool {
        self.0 == point
    }

    /// RFC 7638.
    pub fn thumbprint(&self) -> String {
        let (x, y) = (encoded(&self.0[1..33]), encoded(&self.0[33..]));
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        encoded(digest(&SHA256, text.as_bytes()).as_ref())
    }
}

pub fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub fn decoded(text: &str) -> Result<Vec<u8>, Answer> {
    BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed("this is no base64url without padding"))
}
