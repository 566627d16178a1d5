//! Which fields of a secret hold key, certificate and chain, and in what form.

use std::sync::Arc;

use serde_json::value::{RawValue, to_raw_value};

use super::Fields;
use crate::domain::cert::Certificate;
use crate::domain::renewal::CertifiedKey;
use crate::pki::bundle::{Bundle, Kept};
use crate::pki::key_form::KeyForm;
use crate::pki::{NotUnderstood, pem, read};

/// Names of fields. Whichever of them a secret has belong together and change together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The leaf, or the leaf and its chain.
    certificate: Option<&'static str>,
    /// Always the leaf and its chain.
    fullchain: Option<&'static str>,
    /// May be the field of the certificate, where one text holds both.
    key: &'static str,
    chain: Option<&'static str>,
    /// The certificate that signed the leaf.
    issuing_ca: Option<&'static str>,
    /// What clients trust, which is a root where there is one.
    anchor: Option<&'static str>,
}

const NONE: Layout =
    Layout { certificate: None, fullchain: None, key: "", chain: None, issuing_ca: None, anchor: None };

/// As Vault's `pki/issue` answers; also that of a new secret.
const VAULT: Layout = Layout {
    certificate: Some("certificate"),
    key: "private_key",
    chain: Some("ca_chain"),
    issuing_ca: Some("issuing_ca"),
    ..NONE
};

const KNOWN: [Layout; 4] = [
    VAULT,
    // As Kubernetes and cert-manager name them.
    Layout { certificate: Some("tls.crt"), key: "tls.key", anchor: Some("ca.crt"), ..NONE },
    Layout { certificate: Some("cert"), fullchain: Some("fullchain"), key: "key", chain: Some("chain"), ..NONE },
    Layout { certificate: Some("pem"), key: "pem", ..NONE },
];

impl Layout {
    /// The first that fits. A secret of which none fits keeps something else than a certificate.
    pub fn find(fields: &Fields) -> Option<Self> {
        KNOWN.into_iter().find(|layout| layout.fits(fields))
    }

    /// The names that make a secret one of a certificate.
    pub fn certificate_fields() -> impl Iterator<Item = &'static str> {
        KNOWN.into_iter().flat_map(|layout| [layout.certificate, layout.fullchain]).flatten()
    }

    fn fits(&self, fields: &Fields) -> bool {
        [self.certificate, self.fullchain].into_iter().flatten().any(|name| fields.contains_key(name))
    }

    /// The one certificate of a secret, with its chain and key.
    pub fn read(&self, fields: &Fields) -> Result<Kept, NotUnderstood> {
        let mut kept = self.read_all(fields)?;
        match kept.len() {
            1 => Ok(kept.remove(0)),
            n => Err(NotUnderstood(format!("it holds {n} certificates that do not belong together"))),
        }
    }

    /// All that a secret holds, at least one.
    pub fn read_all(&self, fields: &Fields) -> Result<Vec<Kept>, NotUnderstood> {
        self.bundle(fields)?.chains()
    }

    /// Why a secret of this layout must not be written, with what to do about it.
    pub fn insist_writable(&self, fields: &Fields) -> Result<(), NotUnderstood> {
        if KNOWN.iter().filter(|layout| layout.fits(fields)).count() > 1 {
            let names: Vec<_> = Self::certificate_fields().filter(|name| fields.contains_key(*name)).collect();
            let names = names.join("`, `");
            return Err(NotUnderstood(format!("certificates under several names (`{names}`): remove all but one")));
        }
        let bundle = self.bundle(fields)?;
        bundle.insist_on_keys()?;
        bundle.insist_on_one()?;
        if bundle.keys.is_empty() {
            let why = format!("there is no private key beside the certificate: put it into the field `{}`", self.key);
            return Err(NotUnderstood(why));
        }
        Ok(())
    }

    fn bundle(&self, fields: &Fields) -> Result<Bundle, NotUnderstood> {
        let mut bundle = Bundle::default();
        let names = [self.certificate, self.fullchain, Some(self.key), self.chain, self.issuing_ca, self.anchor];
        let combined = self.certificate == Some(self.key);
        for (index, name) in names.into_iter().enumerate() {
            let Some(name) = name.filter(|_| !(combined && index == 2)) else { continue };
            bundle.add(certificates_in(fields, name)?);
        }
        Ok(bundle)
    }

    /// A new secret.
    pub fn fresh(certified: &CertifiedKey) -> Result<Fields, NotUnderstood> {
        let mut fields = Fields::new();
        fields.insert("certificate".to_string(), json(""));
        fields.insert("private_key".to_string(), json(""));
        fields.insert("ca_chain".to_string(), json(&Vec::<String>::new()));
        VAULT.apply(&mut fields, certified)?;
        Ok(fields)
    }

    /// Replaces the fields that the secret has of this layout, each in the form that it has, and no other.
    pub fn apply(&self, fields: &mut Fields, certified: &CertifiedKey) -> Result<(), NotUnderstood> {
        let new = New { certified, was: fields.clone() };
        let values = [
            self.certificate.map(|name| new.certificate(self, name)),
            self.fullchain.map(|name| new.listed(name, certified.ders())),
            (self.certificate != Some(self.key)).then(|| new.key(self.key)),
            self.chain.map(|name| new.chain(name)),
            self.issuing_ca.map(|name| new.issuing_ca(name, self.chain)),
            self.anchor.map(|name| new.anchor(name)),
        ];
        for value in values.into_iter().flatten() {
            if let Some((name, value)) = value? {
                fields.insert(name.to_string(), value);
            }
        }
        Ok(())
    }
}

/// The text of a field, in the form that it has there.
enum Text {
    One(String),
    List(Vec<String>),
}

type Replacement = Result<Option<(&'static str, Box<RawValue>)>, NotUnderstood>;

/// What is to be put into the fields as they were.
struct New<'a> {
    certified: &'a CertifiedKey,
    was: Fields,
}

impl New<'_> {
    fn certificate(&self, layout: &Layout, name: &'static str) -> Replacement {
        if !self.was.contains_key(name) {
            return Ok(None);
        }
        let has = |name: Option<&str>| name.is_some_and(|name| self.was.contains_key(name));
        // Without a field of its own, the chain has no other place than here.
        let elsewhere = has(layout.chain) || has(layout.fullchain);
        let whole = certificates_in(&self.was, name)?.certificates.len() > 1 || !elsewhere;
        let ders = if whole { self.certified.ders() } else { &self.certified.ders()[..1] };
        if layout.key == name { self.combined(name, ders) } else { self.listed(name, ders) }
    }

    /// Key and certificates in one text, in the order that it had.
    fn combined(&self, name: &'static str, ders: &[Vec<u8>]) -> Replacement {
        let certificates = pem::certificates(ders);
        let new = match text(&self.was, name)? {
            None => return Ok(None),
            Some(Text::List(_)) => {
                return Err(NotUnderstood(format!("the field `{name}` is a list: make it one text")));
            }
            Some(Text::One(old)) => {
                let key = KeyForm::of(&old).to_pem(self.certified.key());
                match (old.find("PRIVATE KEY-----"), old.find("BEGIN CERTIFICATE")) {
                    (Some(key_at), Some(at)) if key_at < at => like(&old, key.to_string() + &certificates),
                    _ => like(&old, certificates + &key),
                }
            }
        };
        Ok(Some((name, json(&new))))
    }

    fn listed<D: AsRef<[u8]>>(&self, name: &'static str, ders: &[D]) -> Replacement {
        Ok(text(&self.was, name)?.map(|was| {
            let value = match was {
                Text::One(old) => json(&like(&old, pem::certificates(ders))),
                Text::List(old) => {
                    let old = old.first().map_or("", String::as_str);
                    json(&ders.iter().map(|der| like(old, pem::certificates(&[der]))).collect::<Vec<_>>())
                }
            };
            (name, value)
        }))
    }

    fn key(&self, name: &'static str) -> Replacement {
        match text(&self.was, name)? {
            None => Ok(None),
            Some(Text::One(old)) => {
                let key = KeyForm::of(&old).to_pem(self.certified.key());
                Ok(Some((name, json(&like(&old, key.to_string())))))
            }
            Some(Text::List(_)) => Err(NotUnderstood(format!("the field `{name}` is a list: make it one text"))),
        }
    }

    /// The intermediates, and the root if it was there and still is the root.
    fn chain(&self, name: &'static str) -> Replacement {
        let mut ders = self.certified.ders()[1..].to_vec();
        let chain = self.certified.chain();
        let top = chain.intermediates.last().unwrap_or(&chain.leaf);
        let old = certificates_in(&self.was, name)?.certificates;
        let root = old.into_iter().find(|der| {
            read::certificate(der).is_ok_and(|old| old.is_self_issued() && top.names_as_issuer(&old) && **top != old)
        });
        ders.extend(root.filter(|_| !top.is_self_issued()));
        self.listed(name, &ders)
    }

    fn issuing_ca(&self, name: &'static str, chain: Option<&str>) -> Replacement {
        if !self.was.contains_key(name) {
            return Ok(None);
        }
        if let Some(der) = self.certified.ders().get(1) {
            return self.listed(name, &[der]);
        }
        let mut old = certificates_in(&self.was, name)?.certificates;
        if let Some(chain) = chain {
            old.extend(certificates_in(&self.was, chain)?.certificates);
        }
        let leaf = &self.certified.chain().leaf;
        match old.iter().find(|der| read::certificate(der).is_ok_and(|old| leaf.names_as_issuer(&old))) {
            Some(der) => self.listed(name, &[der]),
            None => Err(other_ca(name)),
        }
    }

    /// Stays as it is while it still vouches for the chain.
    fn anchor(&self, name: &'static str) -> Replacement {
        if !self.was.contains_key(name) {
            return Ok(None);
        }
        let chain = self.certified.chain();
        let members: Vec<&Arc<Certificate>> = std::iter::once(&chain.leaf).chain(&chain.intermediates).collect();
        let vouches =
            |old: &Certificate| members.iter().any(|c| c.names_as_issuer(old) || c.fingerprint == old.fingerprint);
        let old = certificates_in(&self.was, name)?.certificates;
        if old.iter().any(|der| read::certificate(der).is_ok_and(|old| vouches(&old))) {
            return Ok(None);
        }
        match self.certified.ders()[1..].last() {
            Some(top) => self.listed(name, &[top]),
            None => Err(other_ca(name)),
        }
    }
}

fn other_ca(name: &str) -> NotUnderstood {
    NotUnderstood(format!("another CA signed the new certificate: put that CA's certificate into the field `{name}`"))
}

/// A text keeps its last line end, or the lack of one.
fn like(old: &str, new: String) -> String {
    if old.is_empty() || old.ends_with('\n') { new } else { new.trim_end().to_string() }
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    to_raw_value(value).expect("texts and lists of texts are JSON")
}

fn certificates_in(fields: &Fields, name: &str) -> Result<Bundle, NotUnderstood> {
    let mut bundle = Bundle::default();
    let texts = match text(fields, name)? {
        None => Vec::new(),
        Some(Text::One(text)) => vec![text],
        Some(Text::List(texts)) => texts,
    };
    for text in texts {
        let in_field = |NotUnderstood(why)| NotUnderstood(format!("the field `{name}`: {why}"));
        bundle.add(Bundle::parse(text.as_bytes()).map_err(in_field)?);
    }
    Ok(bundle)
}

/// `None` for a field that is not there or null.
fn text(fields: &Fields, name: &str) -> Result<Option<Text>, NotUnderstood> {
    let Some(value) = fields.get(name).map(|value| value.get()).filter(|value| *value != "null") else {
        return Ok(None);
    };
    let one = || serde_json::from_str(value).map(Text::One);
    let list = || serde_json::from_str(value).map(Text::List);
    one()
        .or_else(|_| list())
        .map(Some)
        .map_err(|_| NotUnderstood(format!("the field `{name}` is neither text nor a list of texts")))
}

#[cfg(test)]
mod tests;
