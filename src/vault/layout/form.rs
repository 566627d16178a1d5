//! How one text holds certificates and keys: as PEM, or as PEM or DER in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use crate::pki::bundle::Bundle;
use crate::pki::keystore::Kind;
use crate::pki::{NotUnderstood, key};

const BEGIN: &str = "-----BEGIN ";

/// DER opens with a SEQUENCE.
const SEQUENCE: u8 = 0x30;

/// What is around a document, so that a new one is written alike.
#[derive(Clone, Debug)]
pub enum Wrap {
    Plain,
    Base64(Base64Text),
}

impl Wrap {
    /// With what is within the base64, if there is any.
    pub fn of(text: &str) -> (Self, Zeroizing<Vec<u8>>) {
        let base64 = (!text.contains(BEGIN)).then(|| Base64Text::of(text)).flatten();
        let holds_any = |bytes: &[u8]| {
            bytes.first() == Some(&SEQUENCE) || std::str::from_utf8(bytes).is_ok_and(|inner| inner.contains(BEGIN))
        };
        match base64 {
            Some((form, bytes)) if holds_any(&bytes) => (Self::Base64(form), bytes),
            Some(_) | None => (Self::Plain, Zeroizing::new(text.as_bytes().to_vec())),
        }
    }

    pub fn write(&self, bytes: &[u8]) -> String {
        match self {
            Self::Plain => String::from_utf8_lossy(bytes).into_owned(),
            Self::Base64(form) => form.write(bytes),
        }
    }
}

pub fn read(text: &str) -> Result<Bundle, NotUnderstood> {
    if text.contains(BEGIN) {
        return Bundle::parse(text.as_bytes());
    }
    let (wrap, bytes) = Wrap::of(text);
    let mut bundle = Bundle::parse(&bytes)?;
    let is_der = matches!(wrap, Wrap::Base64(_)) && bytes.first() == Some(&SEQUENCE);
    if is_der && bundle.certificates.is_empty() {
        match key::from_der(&bytes) {
            Ok(key) => bundle.keys.push(key),
            Err(why) => bundle.unread_keys.push(NotUnderstood::Base64(Box::new(why))),
        }
    }
    Ok(bundle)
}

/// Which keystore a JSON text is the base64 of, if it is.
pub fn keystore(json: &str) -> Option<Kind> {
    keystore_in(json.strip_prefix('"')?)
}

/// The same of a text.
pub fn keystore_in(text: &str) -> Option<Kind> {
    Kind::of(&BASE64.decode(text.get(..12)?).ok()?)
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Lines {
    windows: bool,
    /// The line end after the last line, or the lack of one.
    tail: String,
}

impl Lines {
    fn of(text: &str) -> Self {
        Self { windows: text.contains("\r\n"), tail: text[text.trim_end().len()..].to_string() }
    }

    fn like(&self, text: &str) -> String {
        let body = if self.windows { text.replace('\n', "\r\n") } else { text.to_string() };
        // Nothing has no last line.
        if body.is_empty() { body } else { body + &self.tail }
    }
}

/// How one text holds bytes in base64.
#[derive(Clone, Debug)]
pub struct Base64Text {
    width: Option<usize>,
    lines: Lines,
}

impl Base64Text {
    pub fn of(text: &str) -> Option<(Self, Zeroizing<Vec<u8>>)> {
        Some((Self { width: width(text), lines: Lines::of(text) }, unwrapped(text)?))
    }

    pub fn write(&self, bytes: &[u8]) -> String {
        self.lines.like(&wrapped(bytes, self.width))
    }
}

/// Of the lines, where there are several.
fn width(text: &str) -> Option<usize> {
    text.trim_end().lines().nth(1).and_then(|_| text.lines().next()).map(str::len)
}

fn unwrapped(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let packed = Zeroizing::new(text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<_>>());
    BASE64.decode(&*packed).ok().map(Zeroizing::new)
}

fn wrapped(bytes: &[u8], width: Option<usize>) -> String {
    let text = BASE64.encode(bytes);
    let Some(width) = width.filter(|width| *width > 0) else { return text };
    let lines = text.as_bytes().chunks(width).map(|line| String::from_utf8_lossy(line).into_owned());
    lines.collect::<Vec<_>>().join("\n")
}
