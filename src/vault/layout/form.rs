//! How one text holds certificates and keys: as PEM, or as PEM or DER in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use crate::domain::key::PrivateKey;
use crate::pki::bundle::Bundle;
use crate::pki::key_form::KeyForm;
use crate::pki::keystore::Kind;
use crate::pki::pem::{self, Label};
use crate::pki::{NotUnderstood, key};

const BEGIN: &str = "-----BEGIN ";

/// DER opens with a SEQUENCE.
const SEQUENCE: u8 = 0x30;

/// What a text is besides what it holds, so that a new one is written alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    encoding: Encoding,
    lines: Lines,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Encoding {
    Pem,
    /// Base64 of PEM, whose own lines are these.
    WrappedPem {
        width: Option<usize>,
        inner: Lines,
    },
    /// Base64 of one certificate or key.
    WrappedDer {
        width: Option<usize>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Lines {
    windows: bool,
    /// The line end after the last line, or the lack of one.
    tail: String,
}

/// What is to be written into one text, certificates in order.
pub struct Content<'a> {
    pub certificates: Vec<&'a [u8]>,
    /// The key, its form, and how many of the certificates come before it.
    pub key: Option<(&'a PrivateKey, KeyForm, usize)>,
}

impl Form {
    /// With what is within the base64, if there is any.
    pub fn of(text: &str) -> (Self, Zeroizing<Vec<u8>>) {
        let lines = Lines::of(text);
        if let Some(bytes) = (!text.contains(BEGIN)).then(|| unwrapped(text)).flatten() {
            let width = width(text);
            if let Some(inner) = std::str::from_utf8(&bytes).ok().filter(|inner| inner.contains(BEGIN)) {
                let inner = Lines::of(inner);
                return (Self { encoding: Encoding::WrappedPem { width, inner }, lines }, bytes);
            }
            if bytes.first() == Some(&SEQUENCE) {
                return (Self { encoding: Encoding::WrappedDer { width }, lines }, bytes);
            }
        }
        (Self { encoding: Encoding::Pem, lines }, Zeroizing::new(text.as_bytes().to_vec()))
    }

    pub fn read(text: &str) -> Result<Bundle, NotUnderstood> {
        if text.contains(BEGIN) {
            return Bundle::parse(text.as_bytes());
        }
        let (form, bytes) = Self::of(text);
        let mut bundle = Bundle::parse(&bytes)?;
        if let Encoding::WrappedDer { .. } = form.encoding
            && bundle.certificates.is_empty()
        {
            match key::from_der(&bytes) {
                Ok(key) => bundle.keys.push(key),
                Err(why) => bundle.unread_keys.push(NotUnderstood::Base64(Box::new(why))),
            }
        }
        Ok(bundle)
    }

    pub fn write(&self, content: &Content) -> Result<String, NotUnderstood> {
        match &self.encoding {
            Encoding::Pem => Ok(self.lines.like(&content.pem())),
            Encoding::WrappedPem { width, inner } => {
                let inner = Zeroizing::new(inner.like(&content.pem()));
                Ok(self.lines.like(&wrapped(inner.as_bytes(), *width)))
            }
            Encoding::WrappedDer { width } => Ok(self.lines.like(&wrapped(&content.der()?, *width))),
        }
    }
}

impl Lines {
    fn of(text: &str) -> Self {
        let tail = if text.is_empty() { "\n" } else { &text[text.trim_end().len()..] };
        Self { windows: text.contains("\r\n"), tail: tail.to_string() }
    }

    fn like(&self, text: &str) -> String {
        let text = text.trim_end();
        let body = if self.windows { text.replace('\n', "\r\n") } else { text.to_string() };
        // Nothing has no last line.
        if body.is_empty() { body } else { body + &self.tail }
    }
}

impl Content<'_> {
    fn pem(&self) -> Zeroizing<String> {
        let Some((key, form, before)) = &self.key else { return Zeroizing::new(pem::certificates(&self.certificates)) };
        let (first, rest) = self.certificates.split_at((*before).min(self.certificates.len()));
        Zeroizing::new(pem::certificates(first) + &form.to_pem(key) + &pem::certificates(rest))
    }

    fn der(&self) -> Result<Zeroizing<Vec<u8>>, NotUnderstood> {
        match (&self.certificates[..], &self.key) {
            ([one], None) => Ok(Zeroizing::new(one.to_vec())),
            ([], Some((key, form, _))) => Ok(form.to_der(key)),
            ([], None) => Ok(Zeroizing::default()),
            ([..], _) => Err(NotUnderstood::new(
                "DER in base64 has room for one certificate and no chain: add an empty field `ca_chain` for it",
            )),
        }
    }
}

/// The line and label of a block that is neither certificate nor key, and whose loss would be one.
pub fn other_block(bytes: &[u8]) -> Option<(usize, Label)> {
    // They name the curve once more, which the key itself does.
    let is_curve = |label: Label| label == Label::Known("EC PARAMETERS");
    pem::labels(bytes).into_iter().find(|(_, label)| !(label.is_certificate() || label.is_key() || is_curve(*label)))
}

/// Which keystore a JSON text is the base64 of, if it is.
pub fn keystore(json: &str) -> Option<Kind> {
    let head = json.strip_prefix('"')?.get(..12)?;
    Kind::of(&BASE64.decode(head).ok()?)
}

/// How one text holds bytes that are neither PEM nor DER of one thing.
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
