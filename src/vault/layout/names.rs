//! The names that tools give to the fields of a certificate.

use super::field::Field;
use super::{bundle_in, form};
use crate::pki::bundle::Bundle;
use crate::pki::document::{Block, Holds, Pair};
use crate::pki::{FieldName, NotUnderstood};
use crate::vault::Fields;

/// Names of fields that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// The leaf, or the leaf and its chain.
    pub certificate: Option<&'static str>,
    /// Always the leaf and its chain.
    pub fullchain: Option<&'static str>,
    /// May be the field of the certificate, where one text holds both.
    pub key: &'static str,
    pub chain: Option<&'static str>,
    /// The certificate that signed the leaf.
    pub issuing_ca: Option<&'static str>,
    /// What clients trust, which is a root where there is one.
    pub anchor: Option<&'static str>,
}

const NONE: Names =
    Names { certificate: None, fullchain: Some("fullchain"), key: "", chain: None, issuing_ca: None, anchor: None };

/// As Vault's `pki/issue` answers; also that of a new secret.
pub const VAULT: Names = Names {
    certificate: Some("certificate"),
    key: "private_key",
    chain: Some("ca_chain"),
    issuing_ca: Some("issuing_ca"),
    ..NONE
};

const KNOWN: [Names; 6] = [
    VAULT,
    // As Kubernetes and cert-manager name them.
    Names { certificate: Some("tls.crt"), key: "tls.key", anchor: Some("ca.crt"), ..NONE },
    Names { certificate: Some("cert"), key: "key", chain: Some("chain"), ..NONE },
    Names { certificate: Some("crt"), key: "key", chain: Some("chain"), ..NONE },
    Names { certificate: Some("pem"), key: "pem", ..NONE },
    // Without any of the above.
    Names { key: "key", chain: Some("chain"), ..NONE },
];

/// People mix the names of two tools; where a field of one is missing, these are looked for.
const KEYS: [&str; 4] = ["private_key", "key", "tls.key", "privkey"];
pub const CHAINS: [&str; 2] = ["ca_chain", "chain"];
const ANCHORS: [&str; 2] = ["ca.crt", "ca"];

/// The names that make a secret one of a certificate.
pub fn certificate_fields() -> impl Iterator<Item = &'static str> {
    let own = KNOWN.into_iter().filter_map(|names| names.certificate);
    own.chain(NONE.fullchain)
}

impl Names {
    /// The first set of which the certificate is there, as anything but an object of its own or a keystore.
    pub fn find(fields: &Fields) -> Option<Self> {
        let is_there = |name: &str| {
            let value = fields.get(name).map(|value| value.get());
            value.is_some_and(|value| !value.starts_with('{') && form::keystore(value).is_none())
        };
        Self::first(is_there).map(|names| names.with_those_of_others(fields))
    }

    /// The first set of which the certificate is there by name.
    pub fn named(fields: &Fields) -> Option<Self> {
        Self::first(|name| fields.contains_key(name))
    }

    fn first(is_there: impl Fn(&str) -> bool) -> Option<Self> {
        KNOWN.into_iter().find(|names| names.certificate.or(names.fullchain).is_some_and(&is_there))
    }

    fn with_those_of_others(mut self, fields: &Fields) -> Self {
        let holds = |name: &str, what: fn(&Bundle) -> bool| bundle_in(fields, name).is_ok_and(|bundle| what(&bundle));
        let has_key: fn(&Bundle) -> bool = |bundle| !bundle.keys.is_empty() || !bundle.unread_keys.is_empty();
        let has_certificate: fn(&Bundle) -> bool = |bundle| !bundle.certificates.is_empty();
        let is_key = |name: &str| match self.certificate == Some(name) {
            true => holds(name, has_key),
            false => fields.contains_key(name),
        };
        if !is_key(self.key) {
            let elsewhere = KEYS.into_iter().chain(self.certificate).chain(self.fullchain);
            self.key = elsewhere.into_iter().find(|name| holds(name, has_key)).unwrap_or(self.key);
        }
        let other = |own: Option<&'static str>, others: &[&'static str]| match own {
            Some(name) if fields.contains_key(name) => own,
            _ => others.iter().copied().find(|name| holds(name, has_certificate)).or(own),
        };
        self.chain = other(self.chain, &CHAINS);
        self.issuing_ca = other(self.issuing_ca, &["issuing_ca"]);
        self.anchor = other(self.anchor, &ANCHORS);
        self
    }

    /// Each name once.
    pub fn all(&self) -> Vec<&'static str> {
        let key = (![self.certificate, self.fullchain].contains(&Some(self.key))).then_some(self.key);
        [self.certificate, self.fullchain, key, self.chain, self.issuing_ca, self.anchor]
            .into_iter()
            .flatten()
            .collect()
    }

    pub fn bundle(&self, fields: &Fields) -> Result<Bundle, NotUnderstood> {
        let mut bundle = Bundle::default();
        for name in self.all() {
            bundle.add(bundle_in(fields, name)?);
        }
        Ok(bundle)
    }

    /// Why these fields must not be written, with what to do about it.
    pub fn insist_on_one(&self, fields: &Fields, old: &Pair) -> Result<(), NotUnderstood> {
        self.insist_on_one_set(fields, old)?;
        let bundle = self.bundle(fields)?;
        bundle.insist_on_one()?;
        match &bundle.keys[..] {
            [] => Err(NotUnderstood::NoKeyBeside(FieldName::of(self.key))),
            [key, others @ ..] if others.iter().any(|other| other.public != key.public) => {
                Err(NotUnderstood::new("it holds several private keys: remove all but that of its certificate"))
            }
            [..] => Ok(()),
        }
    }

    fn insist_on_one_set(&self, fields: &Fields, old: &Pair) -> Result<(), NotUnderstood> {
        let all = self.all();
        let others = certificate_fields().chain(KEYS).chain(CHAINS).filter(|name| !all.contains(name));
        let mut beside: Vec<_> = others.filter(|name| holds_others(fields, name, old)).collect();
        if beside.is_empty() {
            return Ok(());
        }
        let mut names: Vec<_> =
            all.into_iter().filter(|name| certificate_fields().any(|known| known == *name)).collect();
        names.retain(|name| fields.contains_key(*name));
        names.append(&mut beside);
        let mut told = Vec::new();
        names.into_iter().for_each(|name| {
            if !told.contains(&name) {
                told.push(name)
            }
        });
        Err(NotUnderstood::SeveralNames(told.into_iter().map(FieldName::of).collect()))
    }
}

/// Whether a field holds certificates or keys that are not those of the old certificate. Copies of it are renewed.
fn holds_others(fields: &Fields, name: &str, old: &Pair) -> bool {
    let Ok(Some(field)) = Field::of(fields, name) else {
        return bundle_in(fields, name).is_ok_and(|b| !b.keys.is_empty() || !b.certificates.is_empty());
    };
    field.blocks().any(|block: &Block| match &block.holds {
        Holds::Certificate { certificate, .. } => {
            !old.is_leaf(block) && old.height(block).is_none() && !certificate.is_self_issued()
        }
        Holds::Key { .. } => !old.is_key(block),
        Holds::UnreadKey => true,
        Holds::Other => false,
    })
}
