//! The fields of a certificate by their names: whether each holds what its name says, and the new ones.

use serde_json::value::RawValue;

use super::field::{Field, in_field};
use super::names::Names;
use crate::domain::cert::Certificate;
use crate::domain::renewal::CertifiedKey;
use crate::pki::NotUnderstood;
use crate::pki::document::{Change, Holds, Pair, vouches};
use crate::vault::Fields;

/// The fields of one place, read.
pub struct Named<'a> {
    names: &'a Names,
    old: &'a Pair,
    fields: Vec<Field>,
}

type Value = (String, Box<RawValue>);

impl<'a> Named<'a> {
    pub fn of(names: &'a Names, fields: &Fields, old: &'a Pair) -> Result<Self, NotUnderstood> {
        let read = names.all().into_iter().map(|name| Field::of(fields, name)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { names, old, fields: read.into_iter().flatten().collect() })
    }

    fn field(&self, name: Option<&str>) -> Option<&Field> {
        self.fields.iter().find(|field| Some(field.name.as_str()) == name)
    }

    /// # Errors
    ///
    /// Where a field holds something else than its name says, or it is not well defined what is to be replaced.
    pub fn insist_defined(&self) -> Result<(), NotUnderstood> {
        let names = self.names;
        for field in self.fields.iter().filter(|field| !field.strand().is_blank()) {
            let name = Some(field.name.as_str());
            if name == Some(names.key) && !field.has_key() {
                return Err(other_thing(field, "no private key"));
            }
            let is_public =
                [names.certificate, names.fullchain, names.chain, names.issuing_ca, names.anchor].contains(&name);
            if is_public && !field.has_certificate() {
                if field.has_key() {
                    return Err(NotUnderstood::Swapped(field.shown()));
                }
                if name != names.anchor {
                    return Err(other_thing(field, "no certificate"));
                }
            }
            if field.has_key() && [names.chain, names.issuing_ca, names.anchor].contains(&name) {
                return Err(NotUnderstood::KeyAmongCas(field.shown()));
            }
            // A list has no room for a key.
            if field.is_list && field.has_key() {
                return Err(NotUnderstood::List(field.shown()));
            }
            field.insist_on_no_copy(self.old)?;
        }
        Ok(())
    }

    /// Returns the fields that change.
    pub fn values(&self, new: &CertifiedKey) -> Result<Vec<Value>, NotUnderstood> {
        let mut values = Vec::new();
        for field in &self.fields {
            let name = Some(field.name.as_str());
            let value = if name == self.names.issuing_ca {
                self.issuing_ca(field, new)?
            } else if name == self.names.anchor {
                self.anchor(field, new)?
            } else {
                self.renewed(field, new)?
            };
            values.extend(value.map(|value| (field.name.clone(), value)));
        }
        Ok(values)
    }

    fn renewed(&self, field: &Field, new: &CertifiedKey) -> Result<Option<Box<RawValue>>, NotUnderstood> {
        let change = Change::new(self.old, new).with_room(self.has_room(field, new));
        if field.strand().is_blank() {
            let fills = change.has_room && !change.above.is_empty();
            let model = self.field(self.names.certificate.or(self.names.fullchain));
            return fills.then(|| field.filled(&change.above, model)).transpose();
        }
        let pieces = field.strand().renewed(&change).map_err(|why| in_field(&field.name, why))?;
        Ok(field.value(&pieces))
    }

    /// Whether the chain goes here where no field holds any of the old one.
    fn has_room(&self, field: &Field, new: &CertifiedKey) -> bool {
        let names = self.names;
        if self.fields.iter().any(|field| field.strand().holds(|block| self.old.height(block).is_some())) {
            return false;
        }
        let name = Some(field.name.as_str());
        let has = |name: Option<&str>| self.field(name).is_some();
        // One CA has a field of its own.
        let is_elsewhere = has(names.chain) || has(names.fullchain) || (has(names.issuing_ca) && new.ders().len() == 2);
        name == names.chain || name == names.fullchain || (name == names.certificate && !is_elsewhere)
    }

    fn issuing_ca(&self, field: &Field, new: &CertifiedKey) -> Result<Option<Box<RawValue>>, NotUnderstood> {
        let is_issuer = |old: &Certificate| self.old.leaf.names_as_issuer(old);
        let certificates = || {
            field.blocks().filter_map(|block| match &block.holds {
                Holds::Certificate { certificate, der } => Some((certificate, der)),
                Holds::Key { .. } | Holds::UnreadKey | Holds::Other => None,
            })
        };
        if !certificates().any(|(old, _)| is_issuer(old)) {
            return Ok(None);
        }
        let leaf = &new.chain().leaf;
        if let Some(der) = new.ders().get(1) {
            return Ok(field.value(&field.strand().with(is_issuer, der)));
        }
        if certificates().any(|(old, _)| leaf.names_as_issuer(old)) {
            return Ok(None);
        }
        let chain = self.field(self.names.chain).into_iter().flat_map(Field::blocks);
        let der = chain.filter_map(|block| match &block.holds {
            Holds::Certificate { certificate, der } if leaf.names_as_issuer(certificate) => Some(der),
            Holds::Certificate { .. } | Holds::Key { .. } | Holds::UnreadKey | Holds::Other => None,
        });
        match der.into_iter().next() {
            Some(der) => Ok(field.value(&field.strand().with(is_issuer, der))),
            None => Err(NotUnderstood::OtherCa(field.shown())),
        }
    }

    /// Stays as it is while it vouches for the new chain, and where it never vouched for the old one.
    fn anchor(&self, field: &Field, new: &CertifiedKey) -> Result<Option<Box<RawValue>>, NotUnderstood> {
        let members = |leaf, above: &[_]| [&[leaf], above].concat();
        let old = members(self.old.leaf.clone(), &self.old.above);
        let now = members(new.chain().leaf.clone(), &new.chain().intermediates);
        let certificates = || {
            field.blocks().filter_map(|block| match &block.holds {
                Holds::Certificate { certificate, .. } => Some(certificate),
                Holds::Key { .. } | Holds::UnreadKey | Holds::Other => None,
            })
        };
        if certificates().any(|ca| vouches(ca, &now)) || !certificates().any(|ca| vouches(ca, &old)) {
            return Ok(None);
        }
        // Nobody but a person knows whom its readers are to trust from now on.
        let top = new.ders()[1..].last().filter(|_| !certificates().any(|ca| ca.is_self_issued()));
        let top = top.ok_or_else(|| NotUnderstood::OtherCa(field.shown()))?;
        Ok(field.value(&field.strand().with(|ca| vouches(ca, &old), top)))
    }
}

fn other_thing(field: &Field, lacks: &'static str) -> NotUnderstood {
    NotUnderstood::OtherThing { field: field.shown(), lacks }
}
