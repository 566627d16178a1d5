//! Further copies of a certificate and its key in the same secret, under names that certd does not know: found by what
//! they hold, and renewed with it.

use serde_json::value::RawValue;

use super::field::{Field, in_field};
use super::{DEEPEST, companions, form, json, names, object};
use crate::domain::renewal::CertifiedKey;
use crate::pki::document::{Change, Pair, Unfit, hexadecimal};
use crate::pki::keystore::Kind;
use crate::pki::{FieldName, NotUnderstood};
use crate::vault::Fields;

/// In characters: less than any certificate or key takes.
const SHORTEST: usize = 60;

/// In hexadecimal digits: enough to tell a keystore.
const HEAD: usize = 24;

/// What is sought, and what takes its place; `None` only to see whether it can.
#[derive(Clone, Copy)]
pub struct Sought<'a> {
    pub old: &'a Pair,
    pub new: Option<&'a CertifiedKey>,
}

type Renewed = Result<Option<Box<RawValue>>, NotUnderstood>;

impl Sought<'_> {
    /// Renews every copy but those in the fields of these names. Returns whether there was any.
    ///
    /// # Errors
    ///
    /// Where there is a copy in a form that certd cannot replace.
    pub fn renew(&self, fields: &mut Fields, own: &[&str]) -> Result<bool, NotUnderstood> {
        self.object(fields, own, 0)
    }

    fn object(&self, fields: &mut Fields, own: &[&str], depth: usize) -> Result<bool, NotUnderstood> {
        let mut renewed = Vec::new();
        for (name, value) in fields.iter().filter(|(name, _)| !own.contains(&name.as_str())) {
            renewed.extend(self.value(name, value, depth)?.map(|value| (name.clone(), value)));
        }
        let is_any = !renewed.is_empty();
        fields.extend(renewed);
        Ok(is_any)
    }

    fn value(&self, name: &str, value: &RawValue, depth: usize) -> Renewed {
        let text = value.get();
        if text.len() < SHORTEST {
            return Ok(None);
        }
        if form::keystore(text).is_some() {
            // Those of the place itself are its own fields.
            return if depth == 0 { Ok(None) } else { Err(NotUnderstood::InnerKeystore(FieldName::of(name))) };
        }
        if depth == DEEPEST {
            return self.insist_on_none(name, text).map(|()| None);
        }
        if let Ok(text) = serde_json::from_str::<String>(text) {
            return self.texts(name, false, &[text]);
        }
        if let Some(mut inner) = object(value) {
            let is_any = self.object(&mut inner, &[], depth + 1)?;
            if let (true, Some(new)) = (is_any, self.new) {
                companions::renew(&mut inner, &self.old.leaf, &new.chain().leaf);
            }
            return Ok(is_any.then(|| json(&inner)));
        }
        if let Ok(texts) = serde_json::from_str::<Vec<String>>(text) {
            return self.texts(name, true, &texts);
        }
        let Ok(items) = serde_json::from_str::<Vec<Box<RawValue>>>(text) else { return Ok(None) };
        let mut is_any = false;
        let mut renewed = Vec::with_capacity(items.len());
        for item in items {
            let value = self.value(name, &item, depth + 1)?;
            is_any |= value.is_some();
            renewed.push(value.unwrap_or(item));
        }
        Ok(is_any.then(|| json(&renewed)))
    }

    fn texts(&self, name: &str, is_list: bool, texts: &[String]) -> Renewed {
        if texts.iter().any(|text| is_keystore_in_hex(text)) {
            return Err(NotUnderstood::HexKeystore(FieldName::of(name)));
        }
        if is_list && texts.iter().any(|text| form::keystore_in(text).is_some()) {
            return Err(NotUnderstood::InnerKeystore(FieldName::of(name)));
        }
        // What is no document for its damage may hold a copy still.
        let Ok(field) = Field::new(name, is_list, texts) else {
            return texts.iter().try_for_each(|text| self.insist_on_none(name, text)).map(|()| None);
        };
        let old = self.old;
        let is_chain = names::CHAINS.contains(&name);
        let is_copy = field
            .strand()
            .holds(|block| old.is_leaf(block) || old.is_key(block) || (is_chain && old.height(block).is_some()));
        field.insist_on_no_copy(old)?;
        let Some(new) = self.new.filter(|_| is_copy) else { return Ok(None) };
        let pieces = field.strand().renewed(&Change::new(old, new)).map_err(|why| in_field(name, why))?;
        Ok(field.value(&pieces))
    }

    fn insist_on_none(&self, name: &str, text: &str) -> Result<(), NotUnderstood> {
        match self.old.is_within(text.as_bytes()) {
            true => Err(in_field(name, Unfit::Copy)),
            false => Ok(()),
        }
    }
}

fn is_keystore_in_hex(text: &str) -> bool {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b':').collect();
    digits.len() > SHORTEST
        && digits.iter().all(u8::is_ascii_hexdigit)
        && hexadecimal(&digits[..HEAD]).is_some_and(|head| Kind::of(&head).is_some())
}
