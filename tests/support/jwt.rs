//! A key pair as an identity provider has it: its public half in PEM, and tokens for an audience.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::secrets::{self, Kind};

pub struct Provider(EcdsaKeyPair);

impl Provider {
    pub fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub fn public(&self) -> String {
        let der: PublicKeyX509Der = self.0.public_key().as_der().unwrap();
        pem::encode(&pem::Pem::new("PUBLIC KEY", der.as_ref()))
    }

    pub fn token(&self, audience: &str) -> String {
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({ "sub": "certd", "aud": audience, "iat": now, "nbf": now, "exp": now + 600 });
        let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(json!({ "alg": "ES256", "typ": "JWT" })), part(claims));
        let signature = self.0.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
        // Whoever has the signature has the token, since the rest can be guessed.
        secrets::told(Kind::Jwt, &signature);
        format!("{text}.{signature}")
    }
}
