//! The fields of a place with a new key and chain in them.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::form::{Content, Form};
use super::names::Names;
use super::{Text, bundle_in, companions, json, text, texts};
use crate::domain::cert::{Certificate, Fingerprint};
use crate::domain::renewal::CertifiedKey;
use crate::pki::key_form::KeyForm;
use crate::pki::order::{self, Stood};
use crate::pki::{FieldName, NotUnderstood, read};
use crate::vault::Fields;

type Replacement = Result<Option<(&'static str, Box<RawValue>)>, NotUnderstood>;

/// What is to be put into the fields as they were.
pub struct New<'a> {
    names: Names,
    was: Fields,
    certified: &'a CertifiedKey,
    /// `None` in a new secret.
    old: Option<Arc<Certificate>>,
    /// That of the certificate, for fields that are empty.
    usual: Form,
}

impl<'a> New<'a> {
    pub fn of(names: Names, was: &Fields, certified: &'a CertifiedKey) -> Result<Self, NotUnderstood> {
        let bundle = names.bundle(was)?;
        let old = match bundle.certificates.is_empty() {
            true => None,
            false => bundle.chains()?.first().map(|kept| kept.chain.leaf.clone()),
        };
        let text = texts(was, names.certificate.or(names.fullchain).unwrap_or(names.key))?;
        let usual = Form::of(text.first().map_or("", String::as_str)).0;
        Ok(Self { names, was: was.clone(), certified, old, usual })
    }

    pub fn apply(&self, fields: &mut Fields) -> Result<(), NotUnderstood> {
        let names = &self.names;
        let key = (![names.certificate, names.fullchain].contains(&Some(names.key))).then_some(names.key);
        let values = [
            names.certificate.map(|name| self.certificate(name)),
            names.fullchain.map(|name| self.field(name, self.as_it_stood(name, true)?)),
            key.map(|name| self.key(name)),
            names.chain.map(|name| self.field(name, self.as_it_stood(name, self.had_leaf(name)?)?)),
            names.issuing_ca.map(|name| self.issuing_ca(name)),
            names.anchor.map(|name| self.anchor(name)),
        ];
        for value in values.into_iter().flatten() {
            if let Some((name, value)) = value? {
                fields.insert(name.to_string(), value);
            }
        }
        if let Some(old) = &self.old {
            companions::renew(fields, old, &self.certified.chain().leaf);
        }
        Ok(())
    }

    fn certificate(&self, name: &'static str) -> Replacement {
        let has = |name: Option<&str>| name.is_some_and(|name| self.was.contains_key(name));
        // Without a field of its own, the chain has no other place than here. One CA has another.
        let one_ca = has(self.names.issuing_ca) && self.certified.ders().len() == 2;
        let elsewhere = one_ca || has(self.names.chain) || has(self.names.fullchain);
        let ders = match elsewhere && self.stood(name)?.len() < 2 {
            true => vec![self.certified.ders()[0].clone()],
            false => self.as_it_stood(name, true)?,
        };
        self.field(name, ders)
    }

    fn key(&self, name: &'static str) -> Replacement {
        match self.stood(name)?.is_empty() {
            true => self.field(name, Vec::new()),
            false => self.field(name, self.as_it_stood(name, self.had_leaf(name)?)?),
        }
    }

    fn issuing_ca(&self, name: &'static str) -> Replacement {
        if !self.was.contains_key(name) {
            return Ok(None);
        }
        if let Some(der) = self.certified.ders().get(1) {
            return self.field(name, vec![der.clone()]);
        }
        let mut old = self.stood(name)?;
        if let Some(chain) = self.names.chain {
            old.extend(self.stood(chain)?);
        }
        let leaf = &self.certified.chain().leaf;
        match old.into_iter().find(|(old, _)| leaf.names_as_issuer(old)) {
            Some((_, der)) => self.field(name, vec![der]),
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
        if self.stood(name)?.iter().any(|(old, _)| vouches(old)) {
            return Ok(None);
        }
        match self.certified.ders()[1..].last() {
            Some(top) => self.field(name, vec![top.clone()]),
            None => Err(other_ca(name)),
        }
    }

    fn stood(&self, name: &str) -> Result<Stood, NotUnderstood> {
        let ders = bundle_in(&self.was, name)?.certificates;
        ders.into_iter().map(|der| Ok((read::certificate(&der)?, der))).collect()
    }

    fn had_leaf(&self, name: &str) -> Result<bool, NotUnderstood> {
        Ok(self.stood(name)?.iter().any(|(old, _)| Some(old.fingerprint) == self.leaf_before()))
    }

    fn leaf_before(&self) -> Option<Fingerprint> {
        self.old.as_ref().map(|old| old.fingerprint)
    }

    fn as_it_stood(&self, name: &str, leaf: bool) -> Result<Vec<Vec<u8>>, NotUnderstood> {
        Ok(order::like(&self.stood(name)?, self.certified, leaf, self.leaf_before()))
    }

    /// Certificates, and the key in the place that it has among them or in the field that is its own.
    fn field(&self, name: &'static str, ders: Vec<Vec<u8>>) -> Replacement {
        let value = match text(&self.was, name)? {
            None => return Ok(None),
            Some(Text::One(old)) => json(&self.one(name, &old, &ders)?),
            Some(Text::List(old)) => json(&self.list(name, &old, &ders)?),
        };
        Ok(Some((name, value)))
    }

    fn one(&self, name: &str, old: &str, ders: &[Vec<u8>]) -> Result<String, NotUnderstood> {
        let (form, held) = Form::of(old);
        let form = if old.trim().is_empty() { &self.usual } else { &form };
        let had_key = !Form::read(old)?.keys.is_empty() || name == self.names.key;
        let key = had_key.then(|| (self.certified.key(), KeyForm::of(&held), before_key(&held, ders.len())));
        let content = Content { certificates: ders.iter().map(Vec::as_slice).collect(), key };
        form.write(&content).map_err(|why| why.in_field(name))
    }

    fn list(&self, name: &str, old: &[String], ders: &[Vec<u8>]) -> Result<Vec<String>, NotUnderstood> {
        if name == self.names.key || !bundle_in(&self.was, name)?.keys.is_empty() {
            return Err(NotUnderstood::List(FieldName::of(name)));
        }
        let form = old.first().map_or_else(|| self.usual.clone(), |old| Form::of(old).0);
        let write = |ders: &[Vec<u8>]| {
            form.write(&Content { certificates: ders.iter().map(Vec::as_slice).collect(), key: None })
        };
        // One text with the whole chain, in a list.
        if let [old] = old
            && Form::read(old)?.certificates.len() > 1
        {
            return Ok(vec![write(ders)?]);
        }
        ders.iter().map(|der| write(std::slice::from_ref(der))).collect()
    }
}

/// How many of `now` certificates are to come before the key, which came after some, all or none.
fn before_key(held: &[u8], now: usize) -> usize {
    let text = String::from_utf8_lossy(held);
    let labels: Vec<&str> = text.lines().filter(|line| line.trim().starts_with("-----BEGIN ")).collect();
    let is_key = |label: &&str| label.contains("PRIVATE KEY-----");
    let certificates = |labels: &[&str]| labels.iter().filter(|label| label.contains(" CERTIFICATE-----")).count();
    let at = labels.iter().position(is_key).unwrap_or(0);
    let (before, all) = (certificates(&labels[..at]), certificates(&labels));
    if before > 0 && before == all { now } else { before }
}

fn other_ca(name: &str) -> NotUnderstood {
    NotUnderstood::OtherCa(FieldName::of(name))
}
