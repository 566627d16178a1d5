//! Which fields of a secret hold key, certificate and chain, and in what form.

mod companions;
mod form;
mod names;
mod renewed;

use std::borrow::Cow;

use serde_json::value::{RawValue, to_raw_value};

use super::Fields;
use crate::domain::renewal::CertifiedKey;
use crate::pki::NotUnderstood;
use crate::pki::bundle::{Bundle, Kept};
use form::Form;
use names::Names;
use renewed::New;

/// People keep a certificate one or two objects deep; a secret made to be deeper must not be followed.
const DEEPEST: usize = 4;

/// Where a secret keeps certificates. Whichever fields of a place it has belong together and change together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// At least one, unless there is a keystore.
    places: Vec<Place>,
    /// A field with a PKCS#12 file or a Java keystore, which is a certificate that certd cannot read.
    keystore: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// The objects around the fields, outermost first.
    within: Vec<String>,
    names: Names,
}

impl Layout {
    /// `None` for a secret that keeps something else than a certificate.
    pub fn find(fields: &Fields) -> Option<Self> {
        let mut places = Vec::new();
        collect(fields, &mut Vec::new(), &mut places);
        if places.is_empty() {
            places.extend(Names::named(fields).map(|names| Place { within: Vec::new(), names }));
        }
        let keystore = fields.iter().find(|(_, value)| form::is_keystore(value.get())).map(|(name, _)| name.clone());
        (!places.is_empty() || keystore.is_some()).then_some(Self { places, keystore })
    }

    /// The names that make a secret one of a certificate.
    pub fn certificate_fields() -> impl Iterator<Item = &'static str> {
        names::certificate_fields()
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
        if let (true, Some(name)) = (self.places.is_empty(), &self.keystore) {
            let why = "is a keystore (PKCS#12 or JKS), which certd does not read: keep the certificate as PEM";
            return Err(NotUnderstood(format!("the field `{name}` {why}")));
        }
        let mut all = Vec::new();
        for place in &self.places {
            let kept = place.fields(fields).and_then(|fields| place.names.bundle(&fields)?.chains());
            all.extend(kept.map_err(|why| place.tell(why))?);
        }
        Ok(all)
    }

    /// Why a secret of this layout must not be written, with what to do about it.
    pub fn insist_writable(&self, fields: &Fields) -> Result<(), NotUnderstood> {
        if let Some(name) = &self.keystore {
            let why = "is a keystore (PKCS#12 or JKS), which certd does not write: remove it, or renew it by hand";
            return Err(NotUnderstood(format!("the field `{name}` {why}")));
        }
        let [place] = &self.places[..] else {
            let objects: Vec<_> = self.places.iter().map(|place| place.within.join(".")).collect();
            let objects = objects.join("`, `");
            return Err(NotUnderstood(format!(
                "certificates in several objects (`{objects}`): give each a secret of its own"
            )));
        };
        place.fields(fields).and_then(|fields| place.names.insist_writable(&fields)).map_err(|why| place.tell(why))
    }

    /// A new secret.
    pub fn fresh(certified: &CertifiedKey) -> Result<Fields, NotUnderstood> {
        let mut fields = Fields::new();
        fields.insert("certificate".to_string(), json(""));
        fields.insert("private_key".to_string(), json(""));
        fields.insert("ca_chain".to_string(), json(&Vec::<String>::new()));
        New::of(names::VAULT, &fields, certified)?.apply(&mut fields)?;
        Ok(fields)
    }

    /// Replaces the fields that the secret has of this layout, each in the form that it has, and no other.
    pub fn apply(&self, fields: &mut Fields, certified: &CertifiedKey) -> Result<(), NotUnderstood> {
        for place in &self.places {
            place.apply(fields, &place.within, certified).map_err(|why| place.tell(why))?;
        }
        Ok(())
    }
}

/// Every object that holds the fields of a certificate, and none within such an object.
fn collect(fields: &Fields, within: &mut Vec<String>, places: &mut Vec<Place>) {
    if let Some(names) = Names::find(fields) {
        places.push(Place { within: within.clone(), names });
    } else if within.len() < DEEPEST {
        for (name, value) in fields {
            let Some(inner) = object(value) else { continue };
            within.push(name.clone());
            collect(&inner, within, places);
            within.pop();
        }
    }
}

impl Place {
    fn fields<'a>(&self, secret: &'a Fields) -> Result<Cow<'a, Fields>, NotUnderstood> {
        let mut fields = Cow::Borrowed(secret);
        for name in &self.within {
            fields = Cow::Owned(fields.get(name).and_then(|value| object(value)).ok_or_else(|| no_object(name))?);
        }
        Ok(fields)
    }

    fn apply(&self, fields: &mut Fields, within: &[String], certified: &CertifiedKey) -> Result<(), NotUnderstood> {
        let Some((outer, rest)) = within.split_first() else {
            return New::of(self.names, fields, certified)?.apply(fields);
        };
        let mut inner = fields.get(outer).and_then(|value| object(value)).ok_or_else(|| no_object(outer))?;
        self.apply(&mut inner, rest, certified)?;
        fields.insert(outer.clone(), json(&inner));
        Ok(())
    }

    fn tell(&self, NotUnderstood(why): NotUnderstood) -> NotUnderstood {
        match self.within.is_empty() {
            true => NotUnderstood(why),
            false => NotUnderstood(format!("in `{}`: {why}", self.within.join("."))),
        }
    }
}

fn no_object(name: &str) -> NotUnderstood {
    NotUnderstood(format!("`{name}` is no object any more"))
}

/// Vault sorts the names of an object itself, so nothing is lost by sorting them here.
fn object(value: &RawValue) -> Option<Fields> {
    value.get().starts_with('{').then(|| serde_json::from_str(value.get()).ok()).flatten()
}

/// The text of a field, in the form that it has there.
enum Text {
    One(String),
    List(Vec<String>),
}

/// `None` for a field that is not there or null.
fn text(fields: &Fields, name: &str) -> Result<Option<Text>, NotUnderstood> {
    let Some(value) = fields.get(name).map(|value| value.get()).filter(|value| *value != "null") else {
        return Ok(None);
    };
    let text = match (lines(value), value.starts_with('[')) {
        (Some(text), _) => Ok(Text::One(text)),
        (None, true) => serde_json::from_str(value).map(Text::List),
        (None, false) => serde_json::from_str(value).map(Text::One),
    };
    text.map(Some).map_err(|_| NotUnderstood(format!("the field `{name}` is neither text nor a list of texts")))
}

/// A JSON text in which nothing but line ends is escaped, which is what PEM comes as.
fn lines(json: &str) -> Option<String> {
    let quoted = json.strip_prefix('"')?.strip_suffix('"')?;
    let mut parts = quoted.split('\\');
    let mut text = String::with_capacity(quoted.len());
    text.push_str(parts.next()?);
    for part in parts {
        text.push('\n');
        text.push_str(part.strip_prefix('n')?);
    }
    Some(text)
}

fn texts(fields: &Fields, name: &str) -> Result<Vec<String>, NotUnderstood> {
    Ok(match text(fields, name)? {
        None => Vec::new(),
        Some(Text::One(text)) => vec![text],
        Some(Text::List(texts)) => texts,
    })
}

/// What one field holds, in its order.
fn bundle_in(fields: &Fields, name: &str) -> Result<Bundle, NotUnderstood> {
    let mut bundle = Bundle::default();
    for text in texts(fields, name)? {
        let in_field = |NotUnderstood(why)| NotUnderstood(format!("the field `{name}`: {why}"));
        bundle.add(Form::read(&text).map_err(in_field)?);
    }
    Ok(bundle)
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    to_raw_value(value).expect("texts, lists of texts and objects that were JSON are JSON")
}

#[cfg(test)]
mod tests;
