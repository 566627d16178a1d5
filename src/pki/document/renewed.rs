//! Documents with a new certificate, chain and key where the old ones stand, and every other byte as it was.

use std::ops::Range;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::domain::cert::Certificate;
use crate::domain::renewal::CertifiedKey;
use crate::pki::interned;
use crate::pki::key_form::KeyForm;

use super::{Block, Document, Holds, Pair, Style, Unfit};

/// The texts of one file or field, in their order.
#[derive(Clone, Copy)]
pub struct Strand<'a> {
    pub documents: &'a [Document],
    /// Whether a certificate more is a text more.
    pub is_list: bool,
}

/// One text after a renewal.
pub struct Piece {
    /// The document that it was, or that it is made like.
    pub like: usize,
    pub bytes: Zeroizing<Vec<u8>>,
}

/// What is to be put into a strand.
pub struct Change<'a> {
    pub old: &'a Pair,
    pub new: &'a CertifiedKey,
    /// The intermediates in DER, from the issuer of the leaf upwards.
    pub above: Vec<&'a [u8]>,
    /// Whether the intermediates belong here where none of the old ones stands here.
    pub has_room: bool,
}

/// The place of one block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    document: usize,
    block: usize,
}

struct Edit {
    range: Range<usize>,
    with: Zeroizing<Vec<u8>>,
}

impl<'a> Change<'a> {
    pub fn new(old: &'a Pair, new: &'a CertifiedKey) -> Self {
        Self { old, new, above: new.ders()[1..].iter().map(Vec::as_slice).collect(), has_room: false }
    }

    pub fn with_room(self, has_room: bool) -> Self {
        Self { has_room, ..self }
    }
}

impl<'a> Strand<'a> {
    pub fn is_blank(&self) -> bool {
        self.documents.iter().all(Document::is_blank)
    }

    fn slots(&self) -> impl Iterator<Item = (Slot, &'a Block)> {
        let blocks = |(document, of): (usize, &'a Document)| {
            of.blocks.iter().enumerate().map(move |(block, it)| (Slot { document, block }, it))
        };
        self.documents.iter().enumerate().flat_map(blocks)
    }

    fn block(&self, slot: Slot) -> &'a Block {
        &self.documents[slot.document].blocks[slot.block]
    }

    pub fn holds(&self, what: impl Fn(&Block) -> bool) -> bool {
        self.slots().any(|(_, block)| what(block))
    }

    /// Returns the texts of the strand after the renewal. A blank strand stays as it is.
    ///
    /// # Errors
    ///
    /// Where there is no room for the chain.
    pub fn renewed(&self, change: &Change) -> Result<Vec<Piece>, Unfit> {
        let mut work = Work::new(*self);
        for (slot, block) in self.slots() {
            if change.old.is_leaf(block) {
                work.replace(slot, &change.new.ders()[0]);
            } else if let Holds::Key { form, .. } = block.holds
                && change.old.is_key(block)
            {
                work.replace_key(slot, form, change.new);
            }
        }
        let above = self.missing(change)?;
        let groups = self.groups(change.old);
        for group in &groups {
            work.put_chain(group, above.clone(), change.old)?;
        }
        if groups.is_empty() && change.has_room {
            work.insert_chain(above, change.old)?;
        }
        Ok(work.pieces())
    }

    /// Returns the strand with one certificate in the place of another.
    pub fn with(&self, is_old: impl Fn(&Certificate) -> bool, new: &[u8]) -> Vec<Piece> {
        let mut work = Work::new(*self);
        let is_old =
            |block: &Block| matches!(&block.holds, Holds::Certificate { certificate, .. } if is_old(certificate));
        self.slots().filter(|(_, block)| is_old(block)).for_each(|(slot, _)| work.replace(slot, new));
        work.pieces()
    }

    /// The new intermediates, without a root that is there already.
    fn missing<'c>(&self, change: &Change<'c>) -> Result<Vec<&'c [u8]>, Unfit> {
        let mut missing = Vec::new();
        for der in &change.above {
            let new = interned::certificate(der).map_err(|_| Unfit::Damaged)?;
            let is_it = |block: &Block| matches!(&block.holds, Holds::Certificate { certificate, .. } if certificate.fingerprint == new.fingerprint);
            if !(new.is_self_issued() && self.holds(is_it)) {
                missing.push(*der);
            }
        }
        Ok(missing)
    }

    /// The old intermediates, each time that the chain stands here.
    fn groups(&self, old: &Pair) -> Vec<Vec<(Slot, usize)>> {
        let mut groups: Vec<Vec<(Slot, usize)>> = Vec::new();
        for (slot, block) in self.slots() {
            let Some(height) = old.height(block) else { continue };
            match groups.last_mut() {
                Some(group) if group.iter().all(|(_, other)| *other != height) => group.push((slot, height)),
                Some(_) | None => groups.push(vec![(slot, height)]),
            }
        }
        groups
    }

    /// Whether certificates stand below those that signed them.
    fn is_downwards(&self, group: &[(Slot, usize)], old: &Pair) -> bool {
        if let [(_, first), (_, second), ..] = group {
            return first > second;
        }
        let leaf = self.slots().find(|(_, block)| old.is_leaf(block)).map(|(slot, _)| slot);
        let root = self.slots().find(|(_, block)| block.is_self_issued() && !old.is_leaf(block)).map(|(slot, _)| slot);
        match (group.first(), leaf, root) {
            (Some((one, _)), Some(leaf), _) => *one < leaf,
            (Some((one, _)), None, Some(root)) => root < *one,
            (None, Some(leaf), Some(root)) => root < leaf,
            (_, None, None) | (None, None, Some(_)) | (None, Some(_), None) => false,
        }
    }
}

/// The edits of a strand, to be made at once.
struct Work<'a> {
    strand: Strand<'a>,
    edits: Vec<Vec<Edit>>,
    /// New texts before and behind each, and whether it goes.
    before: Vec<Vec<Zeroizing<Vec<u8>>>>,
    behind: Vec<Vec<Zeroizing<Vec<u8>>>>,
    is_gone: Vec<bool>,
}

impl<'a> Work<'a> {
    fn new(strand: Strand<'a>) -> Self {
        let n = strand.documents.len();
        let none = || std::iter::repeat_with(Vec::new).take(n).collect();
        Self {
            strand,
            edits: std::iter::repeat_with(Vec::new).take(n).collect(),
            before: none(),
            behind: none(),
            is_gone: vec![false; n],
        }
    }

    /// Nothing is touched where the same certificate stands there.
    fn replace(&mut self, slot: Slot, der: &[u8]) {
        let block = self.strand.block(slot);
        if matches!(&block.holds, Holds::Certificate { der: old, .. } if old == der) {
            return;
        }
        let with = self.made(slot, der);
        self.edits[slot.document].push(Edit { range: block.span.clone(), with });
    }

    fn replace_key(&mut self, slot: Slot, form: KeyForm, new: &CertifiedKey) {
        let block = self.strand.block(slot);
        let der = form.to_der(new.key());
        let with = match self.strand.documents[slot.document].is_der {
            true => der,
            false => block.style.block(KeyForm::of(&der).label(), &der),
        };
        self.edits[slot.document].push(Edit { range: block.span.clone(), with });
    }

    fn put_chain(&mut self, group: &[(Slot, usize)], mut above: Vec<&[u8]>, old: &Pair) -> Result<(), Unfit> {
        if self.strand.is_downwards(group, old) {
            above.reverse();
        }
        for ((slot, _), der) in group.iter().zip(&above) {
            self.replace(*slot, der);
        }
        for (slot, _) in &group[above.len().min(group.len())..] {
            self.remove(*slot);
        }
        match (group.last(), above.get(group.len()..)) {
            (Some((last, _)), Some(more)) => more.iter().try_for_each(|der| self.insert_behind(*last, der)),
            (_, _) => Ok(()),
        }
    }

    /// Beside the leaf, else below the first certificate that is there.
    fn insert_chain(&mut self, mut above: Vec<&[u8]>, old: &Pair) -> Result<(), Unfit> {
        let is_downwards = self.strand.is_downwards(&[], old);
        if is_downwards {
            above.reverse();
        }
        let leaf = self.strand.slots().find(|(_, block)| old.is_leaf(block)).map(|(slot, _)| slot);
        let is_certificate = |block: &Block| matches!(block.holds, Holds::Certificate { .. });
        let first = self.strand.slots().find(|(_, block)| is_certificate(block)).map(|(slot, _)| slot);
        match (leaf, first) {
            (Some(leaf), _) if !is_downwards => above.iter().try_for_each(|der| self.insert_behind(leaf, der)),
            (Some(at), _) | (None, Some(at)) => above.iter().try_for_each(|der| self.insert_before(at, der)),
            (None, None) => Ok(()),
        }
    }

    fn insert_behind(&mut self, slot: Slot, der: &[u8]) -> Result<(), Unfit> {
        let made = self.made(slot, der);
        if self.is_pure(slot) {
            self.behind[slot.document].push(made);
            return Ok(());
        }
        let block = self.textual(slot)?;
        let with = [block.style.ends.as_bytes(), block.style.indent.as_bytes(), &made].concat();
        let range = block.span.end..block.span.end;
        self.edits[slot.document].push(Edit { range, with: Zeroizing::new(with) });
        Ok(())
    }

    fn insert_before(&mut self, slot: Slot, der: &[u8]) -> Result<(), Unfit> {
        let made = self.made(slot, der);
        if self.is_pure(slot) {
            self.before[slot.document].push(made);
            return Ok(());
        }
        let block = self.textual(slot)?;
        let with = [&made, block.style.ends.as_bytes(), block.style.indent.as_bytes()].concat();
        let range = block.span.start..block.span.start;
        self.edits[slot.document].push(Edit { range, with: Zeroizing::new(with) });
        Ok(())
    }

    /// With its line, or with the text of a list that holds nothing else.
    fn remove(&mut self, slot: Slot) {
        if self.is_pure(slot) {
            self.is_gone[slot.document] = true;
            return;
        }
        let Block { span, style, .. } = self.strand.block(slot);
        let rest = &self.strand.documents[slot.document].bytes[span.end..];
        let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r')).count();
        let line_end = usize::from(rest.get(blanks) == Some(&b'\n'));
        let range = span.start - style.indent.len()..span.end + blanks + line_end;
        self.edits[slot.document].push(Edit { range, with: Zeroizing::default() });
    }

    fn made(&self, slot: Slot, der: &[u8]) -> Zeroizing<Vec<u8>> {
        let block = self.strand.block(slot);
        match (self.strand.documents[slot.document].is_der, &block.holds) {
            (true, _) => Zeroizing::new(der.to_vec()),
            (false, Holds::Certificate { .. }) => block.certificate(der),
            (false, Holds::Key { .. } | Holds::UnreadKey | Holds::Other) => block.style.block("CERTIFICATE", der),
        }
    }

    fn textual(&self, slot: Slot) -> Result<&'a Block, Unfit> {
        match self.strand.documents[slot.document].is_der {
            true => Err(Unfit::NoRoom),
            false => Ok(self.strand.block(slot)),
        }
    }

    /// Whether a text of a list is this block alone.
    fn is_pure(&self, slot: Slot) -> bool {
        let document = &self.strand.documents[slot.document];
        let span = &self.strand.block(slot).span;
        let around = [&document.bytes[..span.start], &document.bytes[span.end..]];
        self.strand.is_list && around.iter().all(|text| text.trim_ascii().is_empty())
    }

    fn pieces(mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (like, document) in self.strand.documents.iter().enumerate() {
            // A text that is made like another ends as that does.
            let tail = match document.is_der {
                true => &[][..],
                false => &document.bytes[document.bytes.trim_ascii_end().len()..],
            };
            let own = |made: Zeroizing<Vec<u8>>| Piece { like, bytes: Zeroizing::new([&made, tail].concat()) };
            pieces.extend(std::mem::take(&mut self.before[like]).into_iter().map(own));
            if !self.is_gone[like] {
                pieces.push(Piece { like, bytes: edited(&document.bytes, std::mem::take(&mut self.edits[like])) });
            }
            pieces.extend(std::mem::take(&mut self.behind[like]).into_iter().map(own));
        }
        pieces
    }
}

fn edited(bytes: &[u8], mut edits: Vec<Edit>) -> Zeroizing<Vec<u8>> {
    // Stable: what is inserted at one place stays in its order, and behind what is replaced there.
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let added: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let mut text = Zeroizing::new(Vec::with_capacity(bytes.len() + added));
    let mut from = 0;
    for edit in edits {
        text.extend_from_slice(&bytes[from..edit.range.start]);
        text.extend_from_slice(&edit.with);
        from = edit.range.end;
    }
    text.extend_from_slice(&bytes[from..]);
    text
}

/// Writes certificates one below the other, as `model` writes its first block and ends.
///
/// # Errors
///
/// Where `model` is DER, and there is not exactly one.
pub fn blocks(ders: &[&[u8]], model: Option<&Document>) -> Result<Zeroizing<Vec<u8>>, Unfit> {
    if model.is_some_and(|model| model.is_der) {
        return match ders {
            [one] => Ok(Zeroizing::new(one.to_vec())),
            [..] => Err(Unfit::NoRoom),
        };
    }
    let style = model.and_then(|model| model.blocks.first()).map_or_else(Style::default, |block| block.style.clone());
    let style = Style { indent: String::new(), is_older: false, ..style };
    let made: Vec<_> = ders.iter().map(|der| style.block("CERTIFICATE", der)).collect();
    let mut text =
        Zeroizing::new(made.iter().map(|block| block.as_slice()).collect::<Vec<_>>().join(style.ends.as_bytes()));
    if !ders.is_empty() {
        let tail = model.map_or(&b"\n"[..], |model| &model.bytes[model.bytes.trim_ascii_end().len()..]);
        text.extend_from_slice(tail);
    }
    Ok(text)
}

/// Whether any of these signed the other, by name.
pub fn vouches(signer: &Certificate, members: &[Arc<Certificate>]) -> bool {
    members.iter().any(|member| member.names_as_issuer(signer) || member.fingerprint == signer.fingerprint)
}
