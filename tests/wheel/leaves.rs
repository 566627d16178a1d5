//! A root of old, and leaves of any age that it signed.

use rcgen::{BasicConstraints, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::support::certificates::{params, root_params};

pub struct OldCa {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What is certified, and from which day to which, counted from today.
pub struct Leaf {
    pub names: Vec<String>,
    pub days: (i64, i64),
    pub is_ca: bool,
}

impl Leaf {
    fn of(name: &str, days: (i64, i64)) -> Self {
        Self { names: vec![name.to_string()], days, is_ca: false }
    }

    pub fn expired(name: &str) -> Self {
        Self::of(name, (-90, -1))
    }

    pub fn due(name: &str) -> Self {
        Self::of(name, (-80, 10))
    }

    pub fn fresh(name: &str) -> Self {
        Self::of(name, (-1, 89))
    }

    pub fn abandoned(name: &str) -> Self {
        Self::of(name, (-121, -31))
    }
}

impl OldCa {
    pub fn new() -> Self {
        let params = root_params("certd old test root");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// The fields of a secret: certificate and key.
    pub fn secret(&self, leaf: Leaf) -> Value {
        self.signed(leaf, &KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap())
    }

    /// The same for the key of another secret.
    pub fn again(&self, leaf: Leaf, other: &Value) -> Value {
        self.signed(leaf, &KeyPair::from_pem(other["private_key"].as_str().unwrap()).unwrap())
    }

    fn signed(&self, leaf: Leaf, key: &KeyPair) -> Value {
        let names: Vec<&str> = leaf.names.iter().map(String::as_str).collect();
        let mut params = params(&names, leaf.days.0, leaf.days.1);
        if leaf.is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        json!({ "certificate": certificate.pem(), "private_key": key.serialize_pem() })
    }
}
