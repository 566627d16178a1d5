//! A text with certificates and keys in it, read with the bytes that each block takes: the one reader and writer of
//! bundles in files and in fields. A renewal replaces the blocks of one certificate and leaves every other byte.

mod pair;
mod renewed;

use std::ops::Range;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::domain::cert::{Certificate, KeyDigest};

use super::key_form::KeyForm;
use super::{interned, key};

pub use pair::{Pair, hexadecimal};
pub use renewed::{Change, Piece, Strand, blocks, vouches};

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// DER opens with a SEQUENCE.
const SEQUENCE: u8 = 0x30;

/// In characters: as nearly everybody breaks PEM (RFC 7468, section 2).
const WIDTH: usize = 64;

/// PEM blocks with the text between them, or one certificate or key in DER.
#[derive(Clone)]
pub struct Document {
    bytes: Zeroizing<Vec<u8>>,
    blocks: Vec<Block>,
    is_der: bool,
}

#[derive(Clone)]
pub struct Block {
    /// From its first mark to the end of its last, without the line end.
    span: Range<usize>,
    style: Style,
    pub holds: Holds,
}

#[derive(Clone)]
pub enum Holds {
    Certificate {
        certificate: Arc<Certificate>,
        der: Vec<u8>,
    },
    Key {
        public: KeyDigest,
        form: KeyForm,
    },
    /// Encrypted, or of a kind that certd does not read.
    UnreadKey,
    Other,
}

/// How the lines of a block are made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Style {
    indent: String,
    ends: &'static str,
    /// In characters.
    width: usize,
    /// `X509 CERTIFICATE` instead of `CERTIFICATE`.
    is_older: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self { indent: String::new(), ends: "\n", width: WIDTH, is_older: false }
    }
}

/// Why it is not well defined which bytes are whose. Quotes nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("a PEM block does not begin and end on lines of its own: put each mark on a line of its own")]
    Marks,
    #[error("a PEM block has no end: complete it or remove it")]
    NoEnd,
    #[error("a PEM block of a certificate or key is damaged: replace it by a sound one")]
    Damaged,
    #[error("DER in base64 has room for one certificate and no chain: add an empty field `ca_chain` for it")]
    NoRoom,
    #[error(
        "it holds this certificate or its key a second time, in a form that certd cannot replace: remove that copy"
    )]
    Copy,
}

impl Document {
    /// Reads PEM blocks of any kind among any other text, or one certificate or key in DER.
    ///
    /// # Errors
    ///
    /// Where a block does not stand on lines of its own, or a certificate cannot be read.
    pub fn read(bytes: &[u8]) -> Result<Self, Unfit> {
        if let Some(holds) = der(bytes) {
            let block = Block { span: 0..bytes.len(), style: Style::default(), holds };
            return Ok(Self { bytes: Zeroizing::new(bytes.to_vec()), blocks: vec![block], is_der: true });
        }
        Ok(Self { bytes: Zeroizing::new(bytes.to_vec()), blocks: pem_blocks(bytes)?, is_der: false })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub fn is_blank(&self) -> bool {
        self.bytes.trim_ascii().is_empty()
    }

    pub fn certificates(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.blocks.iter().filter_map(|block| match &block.holds {
            Holds::Certificate { certificate, .. } => Some(certificate),
            Holds::Key { .. } | Holds::UnreadKey | Holds::Other => None,
        })
    }

    /// Counts the private keys, also those that certd cannot read.
    pub fn keys(&self) -> usize {
        self.blocks.iter().filter(|block| matches!(block.holds, Holds::Key { .. } | Holds::UnreadKey)).count()
    }

    /// Returns all that a renewal does not read: the text between the blocks, and the blocks of other kinds.
    fn rest(&self) -> Zeroizing<Vec<u8>> {
        let mut rest = Zeroizing::new(Vec::with_capacity(self.bytes.len()));
        let mut from = 0;
        for block in self.blocks.iter().filter(|block| !matches!(block.holds, Holds::Other)) {
            rest.extend_from_slice(&self.bytes[from..block.span.start]);
            // What stands before and behind must not run together.
            rest.push(b'-');
            from = block.span.end;
        }
        rest.extend_from_slice(&self.bytes[from..]);
        rest
    }
}

fn der(bytes: &[u8]) -> Option<Holds> {
    if bytes.first() != Some(&SEQUENCE) {
        return None;
    }
    if let Ok(certificate) = interned::certificate(bytes) {
        return Some(Holds::Certificate { certificate, der: bytes.to_vec() });
    }
    let key = key::from_der(bytes).ok()?;
    Some(Holds::Key { public: key.public, form: KeyForm::of(bytes) })
}

/// A line without its `\n`, and where it begins.
struct Line<'a> {
    at: usize,
    text: &'a [u8],
}

impl<'a> Line<'a> {
    fn all(bytes: &'a [u8]) -> impl Iterator<Item = Self> {
        let mut at = 0;
        bytes.split(|byte| *byte == b'\n').map(move |text| {
            let line = Self { at, text };
            at += text.len() + 1;
            line
        })
    }

    fn trimmed(&self) -> &'a [u8] {
        self.text.trim_ascii()
    }

    fn indent(&self) -> usize {
        self.text.len() - self.text.trim_ascii_start().len()
    }

    /// Returns the label of a mark that has the line for itself.
    fn label(&self, mark: &[u8]) -> Option<&'a [u8]> {
        let label = self.trimmed().strip_prefix(mark)?.strip_suffix(DASHES)?;
        (!has(label, DASHES)).then_some(label)
    }

    fn has_mark(&self) -> bool {
        has(self.text, b"-----BEGIN") || has(self.text, b"-----END")
    }
}

fn has(text: &[u8], mark: &[u8]) -> bool {
    memchr::memmem::find(text, mark).is_some()
}

fn pem_blocks(bytes: &[u8]) -> Result<Vec<Block>, Unfit> {
    let mut blocks = Vec::new();
    let mut lines = Line::all(bytes);
    while let Some(line) = lines.next() {
        match line.label(BEGIN) {
            Some(label) => blocks.push(block(label, &line, &mut lines)?),
            None if line.has_mark() => return Err(Unfit::Marks),
            None => {}
        }
    }
    Ok(blocks)
}

fn block<'a>(label: &[u8], first: &Line, lines: &mut impl Iterator<Item = Line<'a>>) -> Result<Block, Unfit> {
    let mut body = Vec::new();
    let mut last = None;
    for line in lines {
        if line.has_mark() {
            last = Some(line);
            break;
        }
        body.push(line);
    }
    let last = last.ok_or(Unfit::NoEnd)?;
    if last.label(END) != Some(label) {
        return Err(if last.label(BEGIN).is_some() { Unfit::NoEnd } else { Unfit::Marks });
    }
    let indent = &first.text[..first.indent()];
    let style = Style {
        indent: String::from_utf8_lossy(indent).into_owned(),
        ends: if first.text.ends_with(b"\r") { "\r\n" } else { "\n" },
        width: width(&body),
        is_older: label == b"X509 CERTIFICATE",
    };
    let span = first.at + first.indent()..last.at + last.indent() + last.trimmed().len();
    Ok(Block { span, style, holds: holds(label, &body)? })
}

/// The first line of several is as long as the others; one alone says it only where it is longer than most.
fn width(body: &[Line]) -> usize {
    match body {
        [first, _, ..] => first.trimmed().len().max(1),
        [one] if one.trimmed().len() > WIDTH => usize::MAX,
        [_] | [] => WIDTH,
    }
}

fn holds(label: &[u8], body: &[Line]) -> Result<Holds, Unfit> {
    let form = match label {
        b"CERTIFICATE" | b"X509 CERTIFICATE" => {
            let der = decoded(body).ok_or(Unfit::Damaged)?.to_vec();
            let certificate = interned::certificate(&der).map_err(|_| Unfit::Damaged)?;
            return Ok(Holds::Certificate { certificate, der });
        }
        b"PRIVATE KEY" => KeyForm::Pkcs8,
        b"RSA PRIVATE KEY" => KeyForm::Pkcs1,
        b"EC PRIVATE KEY" => KeyForm::Sec1,
        label if label.ends_with(b"PRIVATE KEY") => return Ok(Holds::UnreadKey),
        _ => return Ok(Holds::Other),
    };
    // Headers stand above the body of an encrypted key (RFC 1421, section 4.6).
    let key = decoded(body).and_then(|der| key::from_der(&der).ok());
    Ok(key.map_or(Holds::UnreadKey, |key| Holds::Key { public: key.public, form }))
}

fn decoded(body: &[Line]) -> Option<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::with_capacity(body.iter().map(|line| line.text.len()).sum()));
    for line in body {
        text.extend(line.text.iter().filter(|byte| !byte.is_ascii_whitespace()));
    }
    STANDARD.decode(&*text).ok().map(Zeroizing::new)
}

impl Block {
    fn is_self_issued(&self) -> bool {
        matches!(&self.holds, Holds::Certificate { certificate, .. } if certificate.is_self_issued())
    }

    fn certificate(&self, der: &[u8]) -> Zeroizing<Vec<u8>> {
        self.style.block(if self.style.is_older { "X509 CERTIFICATE" } else { "CERTIFICATE" }, der)
    }
}

impl Style {
    /// A block from mark to mark, its first line without the indentation that stands before it.
    fn block(&self, label: &str, der: &[u8]) -> Zeroizing<Vec<u8>> {
        let body = Zeroizing::new(STANDARD.encode(der));
        let mut text = Zeroizing::new(Vec::with_capacity(2 * body.len()));
        text.extend_from_slice(format!("-----BEGIN {label}-----").as_bytes());
        for line in body.as_bytes().chunks(self.width).chain([format!("-----END {label}-----").as_bytes()]) {
            text.extend_from_slice(self.ends.as_bytes());
            text.extend_from_slice(self.indent.as_bytes());
            text.extend_from_slice(line);
        }
        text
    }
}

#[cfg(test)]
mod tests;
