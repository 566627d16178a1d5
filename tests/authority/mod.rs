//! A root, an intermediate, and leaves for keys that a test holds.
#![allow(dead_code)] // Each test file uses its own part of it.

use std::sync::Arc;

use certd::domain::key::{KeySpec, PrivateKey};
use certd::domain::name::San;
use certd::domain::plan::Reason;
use certd::domain::policy::RenewalPolicy;
use certd::domain::renewal::{CertifiedKey, Request, Signed, Spec};
use certd::domain::time::Timestamp;
use certd::pki;
use certd::pki::bundle::Bundle;
use certd::pki::roots::Roots;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// 2026-02-01T00:00:00Z, a month after everything here begins.
pub const NOW: Timestamp = Timestamp(1_769_904_000);

pub struct Authority {
    pub root: Vec<u8>,
    pub intermediate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let (root_key, intermediate_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = ca("Test Root").self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(ca("Test Root"), root_key);
        let intermediate = ca("Test Intermediate").signed_by(&intermediate_key, &root_issuer).unwrap();
        Self {
            root: root.der().to_vec(),
            intermediate: intermediate.der().to_vec(),
            issuer: Issuer::new(ca("Test Intermediate"), intermediate_key),
        }
    }

    pub fn roots(&self) -> Arc<Roots> {
        Arc::new(Roots::from_ders(vec![self.root.clone()]))
    }

    /// DER, leaf and intermediate.
    pub fn sign(&self, name: &str, key: &PrivateKey) -> Vec<Vec<u8>> {
        let mut params = params(vec![name.to_string()]);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::try_from(key.pkcs8.as_slice()).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        vec![leaf.der().to_vec(), self.intermediate.clone()]
    }

    /// The only way to one leads through `accept`.
    pub fn certified(&self, name: &str) -> CertifiedKey {
        let key = pki::key::generate(KeySpec::EcdsaP256).unwrap();
        let ders = self.sign(name, &key);
        let trust = self.roots().judge(&ders).unwrap().trust;
        let bundle = Bundle { certificates: ders, ..Bundle::default() };
        let kept = bundle.chains().unwrap().remove(0);
        let spec = Spec {
            names: vec![San::from_text(name)],
            common_name: None,
            key: KeySpec::EcdsaP256,
            lifetime: None,
            renewal: RenewalPolicy::default(),
        };
        let request = Request {
            certificate: name.into(),
            spec,
            key,
            reason: Reason::Missing,
            replaces: None,
            lifetime_is_given: false,
            is_served: false,
        };
        request.accept(NOW, Signed { chain: kept.chain, ders: kept.ders, trust }).unwrap()
    }
}

fn ca(name: &str) -> CertificateParams {
    let mut params = params(Vec::new());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn params(names: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}
