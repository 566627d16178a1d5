//! Which fields of a secret hold key, certificate and chain, and in what form.

mod companions;
mod copies;
mod field;
mod form;
pub mod keystores;
mod names;
mod renewed;

use std::borrow::Cow;
use std::collections::BTreeSet;

use memchr::memchr_iter;
use serde_json::value::{RawValue, to_raw_value};

use super::Fields;
use crate::domain::renewal::CertifiedKey;
use crate::pki::bundle::{Bundle, Kept};
use crate::pki::document::Pair;
use crate::pki::keystore::effort::Effort;
use crate::pki::{FieldName, NotUnderstood, key, pem};
use copies::Sought;
use keystores::{Around, Elsewhere, Found, KeystoreField};
use names::Names;
use renewed::Named;

/// People keep a certificate one or two objects deep; a secret made to be deeper must not be followed.
const DEEPEST: usize = 4;

/// Where a secret keeps certificates. Whichever fields of a place it has belong together and change together.
#[derive(Clone, Debug)]
pub struct Layout {
    /// At least one.
    places: Vec<Place>,
}

/// An object with the fields of one certificate. Of names and keystores it has at least one.
#[derive(Clone, Debug)]
struct Place {
    /// The objects around the fields, outermost first.
    within: Vec<String>,
    names: Option<Names>,
    keystores: Vec<KeystoreField>,
}

impl Layout {
    /// `None` for a secret that keeps something else than a certificate. Its keystores are closed still.
    pub fn find(fields: &Fields) -> Option<Self> {
        let mut places = Vec::new();
        collect(&Around { fields, outer: None }, &mut Vec::new(), &mut places);
        if places.is_empty() {
            let named = Names::named(fields).map(Some);
            places.extend(named.map(|names| Place { within: Vec::new(), names, keystores: Vec::new() }));
        }
        (!places.is_empty()).then_some(Self { places })
    }

    /// The names that make a secret one of a certificate.
    pub fn certificate_fields() -> impl Iterator<Item = &'static str> {
        names::certificate_fields()
    }

    /// Whether the JSON of a field is a keystore in base64.
    pub fn is_keystore(json: &str) -> bool {
        form::keystore(json).is_some()
    }

    pub fn has_keystores(&self) -> bool {
        self.places.iter().any(|place| !place.keystores.is_empty())
    }

    /// Whether its keystores are open or closed for as long as the secret stays as it is.
    pub fn lasts(&self) -> bool {
        let keystores = self.places.iter().flat_map(|place| &place.keystores);
        keystores.filter_map(KeystoreField::obstacle).all(|why| !why.is_of_this_moment())
    }

    /// Whether one of them takes more work than a place may cost, whenever it is opened.
    pub fn has_costly(&self) -> bool {
        let keystores = self.places.iter().flat_map(|place| &place.keystores);
        keystores.filter_map(KeystoreField::obstacle).any(NotUnderstood::is_of_cost)
    }

    /// The passwords to read before [`Layout::open`].
    pub fn elsewhere(&self) -> BTreeSet<Elsewhere> {
        let keystores = self.places.iter().flat_map(|place| &place.keystores);
        keystores.flat_map(KeystoreField::elsewhere).cloned().collect()
    }

    /// Opens the keystores, which takes its time. One without a private key is a certificate's only where there is no other.
    pub fn open(&mut self, fields: &Fields, found: &Found) {
        let mut effort = Effort::default();
        for place in &mut self.places {
            if let Ok(fields) = place.fields(fields).map(Cow::into_owned) {
                place.keystores.iter_mut().for_each(|keystore| keystore.open(&fields, found, &mut effort));
            }
        }
        if self.places.iter().any(|place| !place.only_trusts()) {
            self.places.retain(|place| !place.only_trusts());
        }
        // What is within an object of a certificate is its own affair.
        if let Some(place) = self.places.iter().find(|place| place.within.is_empty() && place.holds_key()) {
            self.places = vec![place.clone()];
        }
    }

    /// Each place by itself, with the object that makes it a part of the secret where there are several.
    pub fn parts(&self) -> Vec<(Option<String>, Self)> {
        let alone = self.places.len() == 1;
        let part = |place: &Place| ((!alone).then(|| place.name()), Self { places: vec![place.clone()] });
        self.places.iter().map(part).collect()
    }

    /// The place of one part; `None` where that object is gone. Without a name, the only place there is.
    pub fn part(&self, object: Option<&str>) -> Result<Option<Self>, NotUnderstood> {
        match object {
            None => self.insist_on_one_place().map(|()| Some(self.clone())),
            Some(object) => {
                let place = self.places.iter().find(|place| place.name() == object);
                Ok(place.map(|place| Self { places: vec![place.clone()] }))
            }
        }
    }

    /// The one certificate of a secret, with its chain and key.
    pub fn read(&self, fields: &Fields) -> Result<Kept, NotUnderstood> {
        self.insist_on_one_place()?;
        let mut kept = self.read_all(fields)?;
        match kept.len() {
            1 => Ok(kept.remove(0)),
            n => Err(NotUnderstood::Unrelated(n)),
        }
    }

    /// All that a secret holds, at least one.
    pub fn read_all(&self, fields: &Fields) -> Result<Vec<Kept>, NotUnderstood> {
        let mut all = Vec::new();
        for place in &self.places {
            let kept = place.fields(fields).and_then(|fields| place.chains(&fields));
            all.extend(kept.map_err(|why| place.tell(why))?);
        }
        Ok(all)
    }

    /// Why a secret of this layout must not be written, with what to do about it. Keys are taken at their word.
    pub fn verdict(&self, fields: &Fields) -> Result<(), NotUnderstood> {
        self.insist_on_one_place()?;
        self.places.iter().try_for_each(|place| {
            place.fields(fields).and_then(|fields| place.verdict(&fields)).map_err(|why| place.tell(why))
        })
    }

    /// The same, and every key must be what it states.
    pub fn insist_writable(&self, fields: &Fields) -> Result<(), NotUnderstood> {
        self.verdict(fields)?;
        self.places.iter().try_for_each(|place| {
            place.fields(fields).and_then(|fields| place.insist_on_keys(&fields)).map_err(|why| place.tell(why))
        })
    }

    /// A new secret.
    pub fn fresh(certified: &CertifiedKey) -> Fields {
        let text = |ders: &[Vec<u8>]| pem::certificates(ders);
        let (leaf, above) = certified.ders().split_at(1);
        let chain: Vec<_> = above.iter().map(|der| text(std::slice::from_ref(der))).collect();
        let mut fields = Fields::new();
        fields.insert("certificate".to_string(), json(&text(leaf)));
        fields.insert("private_key".to_string(), json(key::to_pem(certified.key()).as_str()));
        fields.insert("ca_chain".to_string(), json(&chain));
        fields
    }

    /// Replaces certificate, chain and key where the secret holds them, each in the form that it has, and nothing else.
    pub fn apply(&self, fields: &mut Fields, certified: &CertifiedKey) -> Result<(), NotUnderstood> {
        for place in &self.places {
            place.apply(fields, &place.within, certified).map_err(|why| place.tell(why))?;
        }
        Ok(())
    }

    /// `into` with the object of this part as it is in `fields`.
    pub fn moved(&self, fields: &Fields, into: &Fields) -> Result<Fields, NotUnderstood> {
        let mut moved = into.clone();
        for place in &self.places {
            let Some((name, outer)) = place.within.split_last() else { return Ok(fields.clone()) };
            let object = Place { within: outer.to_vec(), ..place.clone() };
            let value = object.fields(fields)?.get(name).cloned().ok_or_else(|| no_object(name))?;
            put(&mut moved, outer, name, value)?;
        }
        Ok(moved)
    }

    fn insist_on_one_place(&self) -> Result<(), NotUnderstood> {
        if self.places.len() < 2 {
            return Ok(());
        }
        let first = FieldName::of(&format!("#{}", self.places[0].name()));
        let all = self.places.iter().map(|place| FieldName::of(&place.name())).collect();
        Err(NotUnderstood::SeveralObjects { all, first })
    }
}

/// Every object that holds the fields of a certificate, and none within such an object.
fn collect(around: &Around, within: &mut Vec<String>, places: &mut Vec<Place>) {
    let (names, keystores) = (Names::find(around.fields), KeystoreField::find(around));
    let has_names = names.is_some();
    if has_names || !keystores.is_empty() {
        places.push(Place { within: within.clone(), names, keystores });
    }
    if !has_names && within.len() < DEEPEST {
        for (name, value) in around.fields {
            let Some(inner) = object(value) else { continue };
            within.push(name.clone());
            collect(&Around { fields: &inner, outer: Some(around) }, within, places);
            within.pop();
        }
    }
}

impl Place {
    /// Unlike that of any other place of the secret.
    fn name(&self) -> String {
        let escaped = |name: &String| name.replace('%', "%25").replace('/', "%2F");
        match (&self.within[..], self.keystores.first()) {
            ([], Some(keystore)) => keystore.name.clone(),
            (within, _) => within.iter().map(escaped).collect::<Vec<_>>().join("/"),
        }
    }

    fn fields<'a>(&self, secret: &'a Fields) -> Result<Cow<'a, Fields>, NotUnderstood> {
        let mut fields = Cow::Borrowed(secret);
        for name in &self.within {
            fields = Cow::Owned(fields.get(name).and_then(|value| object(value)).ok_or_else(|| no_object(name))?);
        }
        Ok(fields)
    }

    /// The fields by name come first; then the first keystore with a private key; then whom the others trust.
    fn chains(&self, fields: &Fields) -> Result<Vec<Kept>, NotUnderstood> {
        if let Some(names) = &self.names {
            return names.bundle(fields)?.chains();
        }
        let kept: Vec<_> = self.keystores.iter().map(KeystoreField::kept).collect();
        if let Some(kept) = kept.iter().find_map(|kept| kept.as_ref().ok()?.clone()) {
            return Ok(vec![kept]);
        }
        kept.into_iter().collect::<Result<Vec<_>, _>>()?;
        let trusted = self.keystores.iter().map(KeystoreField::trusted).collect::<Result<Vec<_>, _>>()?;
        Ok(trusted.into_iter().flatten().collect())
    }

    fn holds_key(&self) -> bool {
        self.names.is_some() || self.keystores.iter().any(|keystore| matches!(keystore.kept(), Ok(Some(_))))
    }

    fn only_trusts(&self) -> bool {
        self.names.is_none() && self.keystores.iter().all(|keystore| matches!(keystore.kept(), Ok(None)))
    }

    fn verdict(&self, fields: &Fields) -> Result<(), NotUnderstood> {
        let kept = self.chains(fields)?.swap_remove(0);
        if self.only_trusts() {
            return Err(NotUnderstood::new("there is no private key in it, only whom to trust"));
        }
        let old = Pair::of(&kept);
        if let Some(names) = &self.names {
            names.bundle(fields)?.insist_on_read_keys()?;
            Named::of(names, fields, &old)?.insist_defined()?;
            names.insist_on_one(fields, &old)?;
        }
        Sought { old: &old, new: None }.renew(&mut fields.clone(), &self.own())?;
        self.keystores.iter().try_for_each(|keystore| keystore.insist_writable(&kept))
    }

    fn insist_on_keys(&self, fields: &Fields) -> Result<(), NotUnderstood> {
        self.names.as_ref().map_or(Ok(()), |names| names.bundle(fields)?.insist_on_keys())
    }

    /// The fields whose names are known, and the keystores.
    fn own(&self) -> Vec<&str> {
        let names = self.names.iter().flat_map(|names| names.all());
        names.chain(self.keystores.iter().map(|keystore| keystore.name.as_str())).collect()
    }

    fn apply(&self, fields: &mut Fields, within: &[String], certified: &CertifiedKey) -> Result<(), NotUnderstood> {
        if let Some((outer, rest)) = within.split_first() {
            let mut inner = fields.get(outer).and_then(|value| object(value)).ok_or_else(|| no_object(outer))?;
            self.apply(&mut inner, rest, certified)?;
            fields.insert(outer.clone(), json(&inner));
            return Ok(());
        }
        let old = Pair::of(&self.chains(fields)?.swap_remove(0));
        if let Some(names) = &self.names {
            let values = Named::of(names, fields, &old)?.values(certified)?;
            fields.extend(values);
        }
        Sought { old: &old, new: Some(certified) }.renew(fields, &self.own())?;
        companions::renew(fields, &old.leaf, &certified.chain().leaf);
        self.keystores.iter().try_for_each(|keystore| keystore.apply(fields, certified))
    }

    fn tell(&self, why: NotUnderstood) -> NotUnderstood {
        match self.within.is_empty() {
            true => why,
            false => NotUnderstood::InObject(FieldName::of(&self.name()), Box::new(why)),
        }
    }
}

fn put(fields: &mut Fields, within: &[String], name: &str, value: Box<RawValue>) -> Result<(), NotUnderstood> {
    let Some((outer, rest)) = within.split_first() else {
        fields.insert(name.to_string(), value);
        return Ok(());
    };
    let mut inner = fields.get(outer).and_then(|value| object(value)).ok_or_else(|| no_object(outer))?;
    put(&mut inner, rest, name, value)?;
    fields.insert(outer.clone(), json(&inner));
    Ok(())
}

fn no_object(name: &str) -> NotUnderstood {
    NotUnderstood::NoObject(FieldName::of(name))
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
    let Some(value) = value(fields, name) else { return Ok(None) };
    let text = match value.starts_with('[') {
        true => serde_json::from_str(value).map(Text::List),
        false => serde_json::from_str(value).map(Text::One),
    };
    text.map(Some).map_err(|_| no_text(name))
}

/// The same as they stand there, as far as they are texts.
fn json_texts<'a>(fields: &'a Fields, name: &str) -> Result<Vec<&'a str>, NotUnderstood> {
    let Some(value) = value(fields, name) else { return Ok(Vec::new()) };
    if !value.starts_with('[') {
        return Ok(vec![value]);
    }
    let all: Vec<&RawValue> = serde_json::from_str(value).map_err(|_| no_text(name))?;
    Ok(all.into_iter().map(RawValue::get).collect())
}

fn value<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get(name).map(|value| value.get()).filter(|value| *value != "null")
}

fn no_text(name: &str) -> NotUnderstood {
    NotUnderstood::NoText(FieldName::of(name))
}

/// What one field holds, in its order.
fn bundle_in(fields: &Fields, name: &str) -> Result<Bundle, NotUnderstood> {
    let mut bundle = Bundle::default();
    for json in json_texts(fields, name)? {
        bundle.add(match lines(json).and_then(Bundle::of_lines) {
            Some(plain) => plain,
            None => {
                let text: String = serde_json::from_str(json).map_err(|_| no_text(name))?;
                form::read(&text).map_err(|why| why.in_field(name))?
            }
        });
    }
    Ok(bundle)
}

/// Those of a JSON text in which nothing but line ends is escaped, as nearly all PEM comes: read where they stand, since
/// a sweep reads thousands.
fn lines(json: &str) -> Option<impl Iterator<Item = &str>> {
    let text = json.strip_prefix('"')?.strip_suffix('"')?;
    let escapes = || memchr_iter(b'\\', text.as_bytes());
    let mut from = 0;
    let line = move |end| &text[std::mem::replace(&mut from, end + 2)..end];
    let is_plain = escapes().all(|at| text.as_bytes().get(at + 1) == Some(&b'n'));
    is_plain.then(|| escapes().chain([text.len()]).map(line))
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    to_raw_value(value).expect("texts, lists of texts and objects that were JSON are JSON")
}

#[cfg(test)]
mod tests;
