//! One field as documents, and back in the form that it has.

use serde_json::value::RawValue;

use super::form::Wrap;
use super::{Text, json, text};
use crate::pki::document::{Block, Document, Holds, Pair, Piece, Strand, Unfit, blocks};
use crate::pki::{FieldName, NotUnderstood};
use crate::vault::Fields;

/// The texts of one field.
pub struct Field {
    pub name: String,
    pub is_list: bool,
    wraps: Vec<Wrap>,
    documents: Vec<Document>,
}

impl Field {
    /// `None` for a field that is not there or null.
    pub fn of(fields: &Fields, name: &str) -> Result<Option<Self>, NotUnderstood> {
        Ok(match text(fields, name)? {
            None => None,
            Some(Text::One(text)) => Some(Self::new(name, false, &[text])?),
            Some(Text::List(texts)) => Some(Self::new(name, true, &texts)?),
        })
    }

    pub fn new(name: &str, is_list: bool, texts: &[String]) -> Result<Self, NotUnderstood> {
        let (mut wraps, mut documents) = (Vec::new(), Vec::new());
        for text in texts {
            let (wrap, bytes) = Wrap::of(text);
            wraps.push(wrap);
            documents.push(Document::read(&bytes).map_err(|why| in_field(name, why))?);
        }
        Ok(Self { name: name.to_string(), is_list, wraps, documents })
    }

    pub fn strand(&self) -> Strand<'_> {
        Strand { documents: &self.documents, is_list: self.is_list }
    }

    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.documents.iter().flat_map(Document::blocks)
    }

    pub fn shown(&self) -> FieldName {
        FieldName::of(&self.name)
    }

    pub fn has_key(&self) -> bool {
        self.documents.iter().any(|document| document.keys() > 0)
    }

    pub fn has_certificate(&self) -> bool {
        self.blocks().any(|block| matches!(block.holds, Holds::Certificate { .. }))
    }

    pub fn insist_on_no_copy(&self, old: &Pair) -> Result<(), NotUnderstood> {
        let documents = self.documents.iter();
        documents
            .map(|document| old.insist_on_no_copy(document))
            .try_for_each(|checked| checked.map_err(|why| in_field(&self.name, why)))
    }

    /// The value with these texts; `None` where they are what is there.
    pub fn value(&self, pieces: &[Piece]) -> Option<Box<RawValue>> {
        let is_same = pieces.len() == self.documents.len()
            && pieces.iter().zip(&self.documents).all(|(piece, old)| piece.bytes.as_slice() == old.bytes());
        if is_same {
            return None;
        }
        let texts: Vec<String> = pieces.iter().map(|piece| self.wraps[piece.like].write(&piece.bytes)).collect();
        Some(self.written(texts))
    }

    /// The value with certificates where nothing was, as `model` writes its own.
    pub fn filled(&self, ders: &[&[u8]], model: Option<&Self>) -> Result<Box<RawValue>, NotUnderstood> {
        let like = model.and_then(|model| Some((model.wraps.first()?, model.documents.first()?)));
        let text = |ders: &[&[u8]]| {
            let bytes = blocks(ders, like.map(|(_, document)| document)).map_err(|why| in_field(&self.name, why))?;
            Ok(like.map_or(&Wrap::Plain, |(wrap, _)| wrap).write(&bytes))
        };
        let texts = match self.is_list {
            true => ders.iter().map(|der| text(&[*der])).collect::<Result<Vec<_>, NotUnderstood>>()?,
            false => vec![text(ders)?],
        };
        Ok(self.written(texts))
    }

    fn written(&self, texts: Vec<String>) -> Box<RawValue> {
        match (self.is_list, texts.first()) {
            (true, _) => json(&texts),
            (false, Some(text)) => json(text),
            (false, None) => json(""),
        }
    }
}

pub fn in_field(name: &str, why: Unfit) -> NotUnderstood {
    NotUnderstood::from(why).in_field(name)
}
