//! PKCS#12 (RFC 7292): safes of bags, some of them encrypted, under one MAC. Bags that certd does not know, and every
//! attribute of those that it does, are written back as they were read.

mod asn1;
mod kdf;
mod mac;
mod seal;

use der::asn1::{Any, BmpString, OctetString};
use der::{Decode, Encode, Reader, SliceReader};
use zeroize::Zeroizing;

use super::effort::Effort;
use super::{Password, damaged, insist_on_one_key};
use crate::domain::renewal::CertifiedKey;
use crate::pki::bundle::Bundle;
use crate::pki::{NotUnderstood, key, order, read};
use asn1::{CertBag, ContentInfo, EncryptedData, EncryptedPrivateKeyInfo, MacData, Pfx, SafeBag};
use seal::{Seal, failed};

#[derive(Clone)]
pub struct Pkcs12 {
    safes: Vec<Safe>,
    mac: MacData,
    password: Password,
}

#[derive(Clone)]
struct Safe {
    /// `None` for one in the open, whose keys are encrypted by themselves.
    sealed: Option<(Seal, EncryptedData)>,
    bags: Vec<Bag>,
}

#[derive(Clone)]
struct Bag {
    whole: SafeBag,
    holds: Holds,
}

#[derive(Clone)]
enum Holds {
    Key {
        pkcs8: Zeroizing<Vec<u8>>,
        seal: Option<Seal>,
    },
    /// DER, of the entry of the key.
    Certificate(Vec<u8>),
    /// DER, of an entry of its own.
    Trusted(Vec<u8>),
    /// A CRL, a secret, or what nobody knows yet.
    Other,
}

impl Pkcs12 {
    pub fn open(bytes: &[u8], password: &Password, effort: &mut Effort) -> Result<Self, NotUnderstood> {
        let pfx = Pfx::from_der(bytes).map_err(damaged)?;
        let content = data(&pfx.auth_safe)?;
        let mac = pfx.mac.ok_or_else(|| {
            NotUnderstood::new("it has no MAC, so a wrong password could not be told: make it anew with one")
        })?;
        mac::verify(&mac, content.as_bytes(), password, effort)?;
        let safes: Vec<ContentInfo> = Vec::from_der(content.as_bytes()).map_err(damaged)?;
        let safes = safes.iter().map(|safe| Safe::open(safe, password, effort)).collect::<Result<_, _>>()?;
        let opened = Self { safes, mac, password: password.clone() };
        insist_on_one_key(&opened.aliases())?;
        Ok(opened)
    }

    pub fn has_key(&self) -> bool {
        self.bags().any(|bag| matches!(bag.holds, Holds::Key { .. }))
    }

    pub fn bundle(&self) -> Bundle {
        let mut bundle = Bundle::default();
        let has_key = self.has_key();
        for bag in self.bags() {
            match &bag.holds {
                Holds::Key { pkcs8, .. } => match key::from_der(pkcs8) {
                    Ok(key) => bundle.keys.push(key),
                    Err(why) => bundle.unread_keys.push(why),
                },
                Holds::Certificate(der) => bundle.certificates.push(der.clone()),
                Holds::Trusted(der) if !has_key => bundle.certificates.push(der.clone()),
                Holds::Trusted(_) | Holds::Other => {}
            }
        }
        bundle
    }

    pub fn renewed(&self, certified: &CertifiedKey) -> Result<Vec<u8>, NotUnderstood> {
        let mut safes = self.safes.clone();
        self.replace_certificates(&mut safes, certified)?;
        for bag in safes.iter_mut().flat_map(|safe| &mut safe.bags) {
            if let Holds::Key { seal, .. } = &bag.holds {
                bag.whole.value = self.key(seal.as_ref(), &certified.key().pkcs8)?;
            }
        }
        let safes = safes.iter().map(|safe| safe.close(&self.password)).collect::<Result<Vec<_>, _>>()?;
        let content = safes.to_der().map_err(failed)?;
        let mac = mac::renewed(&self.mac, &content, &self.password)?;
        let auth_safe = in_the_open(content)?;
        Pfx { version: 3, auth_safe, mac: Some(mac) }.to_der().map_err(failed)
    }

    fn bags(&self) -> impl Iterator<Item = &Bag> {
        self.safes.iter().flat_map(|safe| &safe.bags)
    }

    /// Of the private keys.
    fn aliases(&self) -> Vec<String> {
        let keys = self.bags().filter(|bag| matches!(bag.holds, Holds::Key { .. }));
        keys.map(|bag| bag.alias().unwrap_or_default()).collect()
    }

    fn key(&self, seal: Option<&Seal>, pkcs8: &[u8]) -> Result<Any, NotUnderstood> {
        let Some(seal) = seal else { return Any::from_der(pkcs8).map_err(failed) };
        let seal = seal.fresh()?;
        let encrypted = OctetString::new(seal.encrypt(pkcs8, &self.password)?).map_err(failed)?;
        let info = EncryptedPrivateKeyInfo { algorithm: seal.write().map_err(failed)?, encrypted };
        info.to_der().and_then(|der| Any::from_der(&der)).map_err(failed)
    }

    /// The new chain stands where the old one began. A certificate that stays keeps its bag, and the leaf that of
    /// the old leaf, by which readers tell whose certificate it is.
    fn replace_certificates(&self, safes: &mut [Safe], certified: &CertifiedKey) -> Result<(), NotUnderstood> {
        let is_of_entry = |bag: &Bag| matches!(bag.holds, Holds::Certificate(_));
        let first = safes.iter().enumerate().find_map(|(i, safe)| Some((i, safe.bags.iter().position(is_of_entry)?)));
        let (safe, at) = first.ok_or_else(|| NotUnderstood::new("there is no certificate beside its key"))?;
        let mut old = Vec::new();
        for safe in safes.iter_mut() {
            old.extend(safe.bags.extract_if(.., |bag| is_of_entry(bag)));
        }
        let leaf = self.bundle().chains()?.remove(0).ders.swap_remove(0);
        let stood = old.iter().filter_map(Bag::certificate);
        let stood: order::Stood =
            stood.map(|der| Ok((read::certificate(der)?, der.to_vec()))).collect::<Result<_, NotUnderstood>>()?;
        let before = read::certificate(&leaf)?.fingerprint;
        for (i, der) in order::like(&stood, certified, true, Some(before)).into_iter().enumerate() {
            let same = old.iter().find(|bag| bag.certificate() == Some(&der));
            let bag = match same {
                Some(same) => same.clone(),
                None if der == certified.ders()[0] => {
                    let whole = old.iter().find(|bag| bag.certificate() == Some(&leaf)).map(|bag| bag.whole.clone());
                    Bag::of(der, whole.and_then(|whole| whole.attributes))?
                }
                None => Bag::of(der, None)?,
            };
            safes[safe].bags.insert(at + i, bag);
        }
        Ok(())
    }
}

impl Safe {
    fn open(info: &ContentInfo, password: &Password, effort: &mut Effort) -> Result<Self, NotUnderstood> {
        let (sealed, plain) = if info.kind == asn1::ENCRYPTED_DATA {
            let data: EncryptedData = info.content.decode_as().map_err(damaged)?;
            let seal = Seal::read(&data.content.algorithm)?;
            let plain = seal.decrypt(data.content.encrypted.as_bytes(), password, effort)?;
            (Some((seal, data)), plain)
        } else {
            (None, Zeroizing::new(data(info)?.into_bytes().to_vec()))
        };
        let bags: Vec<SafeBag> = Vec::from_der(&plain).map_err(damaged)?;
        let bags = bags.into_iter().map(|bag| Bag::open(bag, password, effort)).collect::<Result<_, _>>()?;
        Ok(Self { sealed, bags })
    }

    fn close(&self, password: &Password) -> Result<ContentInfo, NotUnderstood> {
        let bags: Vec<SafeBag> = self.bags.iter().map(|bag| bag.whole.clone()).collect();
        let plain = Zeroizing::new(bags.to_der().map_err(failed)?);
        let Some((seal, data)) = &self.sealed else { return in_the_open(plain.to_vec()) };
        let (seal, mut data) = (seal.fresh()?, data.clone());
        data.content.algorithm = seal.write().map_err(failed)?;
        data.content.encrypted = OctetString::new(seal.encrypt(&plain, password)?).map_err(failed)?;
        let content = data.to_der().and_then(|der| Any::from_der(&der)).map_err(failed)?;
        Ok(ContentInfo { kind: asn1::ENCRYPTED_DATA, content })
    }
}

impl Bag {
    fn open(whole: SafeBag, password: &Password, effort: &mut Effort) -> Result<Self, NotUnderstood> {
        let holds = match whole.id {
            asn1::KEY_BAG => Holds::Key { pkcs8: Zeroizing::new(whole.value.to_der().map_err(damaged)?), seal: None },
            asn1::SHROUDED_KEY_BAG => {
                let info: EncryptedPrivateKeyInfo = whole.value.decode_as().map_err(damaged)?;
                let seal = Seal::read(&info.algorithm)?;
                let pkcs8 = seal.decrypt(info.encrypted.as_bytes(), password, effort)?;
                Holds::Key { pkcs8, seal: Some(seal) }
            }
            asn1::CERT_BAG => {
                let bag: CertBag = whole.value.decode_as().map_err(damaged)?;
                match bag.id == asn1::X509_CERTIFICATE {
                    true => certificate(&whole, &bag).map_err(damaged)?,
                    false => Holds::Other,
                }
            }
            _ => Holds::Other,
        };
        Ok(Self { whole, holds })
    }

    fn of(der: Vec<u8>, attributes: Option<Any>) -> Result<Self, NotUnderstood> {
        let value = || {
            let value = Any::from_der(&OctetString::new(der.clone())?.to_der()?)?;
            Any::from_der(&CertBag { id: asn1::X509_CERTIFICATE, value }.to_der()?)
        };
        let whole = SafeBag { id: asn1::CERT_BAG, value: value().map_err(failed)?, attributes };
        Ok(Self { whole, holds: Holds::Certificate(der) })
    }

    /// DER, where it is of the entry of the key.
    fn certificate(&self) -> Option<&Vec<u8>> {
        match &self.holds {
            Holds::Certificate(der) => Some(der),
            Holds::Key { .. } | Holds::Trusted(_) | Holds::Other => None,
        }
    }

    fn alias(&self) -> Option<String> {
        let values = self.whole.attribute(asn1::FRIENDLY_NAME).ok()??;
        let name: BmpString = SliceReader::new(values.value()).ok()?.decode().ok()?;
        Some(name.to_string())
    }
}

fn certificate(whole: &SafeBag, bag: &CertBag) -> der::Result<Holds> {
    let der: OctetString = bag.value.decode_as()?;
    let der = der.into_bytes().to_vec();
    Ok(match whole.attribute(asn1::TRUSTED_KEY_USAGE)? {
        Some(_) => Holds::Trusted(der),
        None => Holds::Certificate(der),
    })
}

/// What is not encrypted.
fn data(info: &ContentInfo) -> Result<OctetString, NotUnderstood> {
    match info.kind == asn1::DATA {
        true => info.content.decode_as().map_err(damaged),
        false => Err(seal::unknown("content", info.kind)),
    }
}

fn in_the_open(content: Vec<u8>) -> Result<ContentInfo, NotUnderstood> {
    let octets = OctetString::new(content).and_then(|octets| octets.to_der()).and_then(|der| Any::from_der(&der));
    Ok(ContentInfo { kind: asn1::DATA, content: octets.map_err(failed)? })
}

#[cfg(test)]
mod tests;
