//! Where a PEM text is damaged and how: a line and a flaw of a closed set, never a piece of the text.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::label::find;
use super::{BEGIN, DASHES, END};

/// The first flaw of a text that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Counted from 1.
    pub line: usize,
    pub flaw: Flaw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    OpenBegin,
    OpenEnd,
    BesideBegin,
    BesideEnd,
    NoBegin,
    NoEnd,
    OtherEnd,
    Blank,
    NotBase64,
    Cut,
    Unknown,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.flaw {
            Flaw::OpenBegin => "the BEGIN mark has not five dashes on each side",
            Flaw::OpenEnd => "the END mark has not five dashes on each side",
            Flaw::BesideBegin => "text stands behind the BEGIN mark: give the mark a line of its own",
            Flaw::BesideEnd => "text stands beside the END mark: give the mark a line of its own",
            Flaw::NoBegin => "an END mark has no BEGIN mark",
            Flaw::NoEnd => "the block that begins here has no END mark",
            Flaw::OtherEnd => "the label of the END mark is not that of its BEGIN mark",
            Flaw::Blank => "a blank line stands within the block: remove it",
            Flaw::NotBase64 => "a character is not of base64",
            Flaw::Cut => "the base64 of the block that begins here is incomplete",
            Flaw::Unknown => "it has a form that certd does not read",
        };
        write!(f, "line {}: {what}", self.line)
    }
}

/// The block that is open, as far as it was read.
struct Open<'a> {
    line: usize,
    label: &'a [u8],
    body: Zeroizing<Vec<u8>>,
    has_headers: bool,
    /// The last blank line behind the headers.
    blank: Option<usize>,
}

impl Damage {
    /// Of a text that was not read. Line ends are CRLF, LF or CR alone.
    pub(super) fn locate(text: &[u8]) -> Self {
        let mut open: Option<Open> = None;
        for (nth, line) in lines(text).enumerate() {
            let (number, line) = (nth + 1, line.trim_ascii());
            let next = match open.take() {
                None => begun(number, line),
                Some(block) => block.with(number, line),
            };
            match next {
                Ok(next) => open = next,
                Err(damage) => return damage,
            }
        }
        open.map_or(Self { line: 1, flaw: Flaw::Unknown }, |block| Self { line: block.line, flaw: Flaw::NoEnd })
    }
}

fn begun(number: usize, line: &[u8]) -> Result<Option<Open<'_>>, Damage> {
    let damage = |flaw| Err(Damage { line: number, flaw });
    let Some(at) = find(line, BEGIN.as_bytes()) else {
        return if find(line, END.as_bytes()).is_some() { damage(Flaw::NoBegin) } else { Ok(None) };
    };
    match mark(&line[at + BEGIN.len()..]) {
        None => damage(Flaw::OpenBegin),
        Some(_) if line[..at].ends_with(b"-") => damage(Flaw::OpenBegin),
        Some((label, [])) => {
            let body = Zeroizing::default();
            Ok(Some(Open { line: number, label, body, has_headers: false, blank: None }))
        }
        Some(_) => damage(Flaw::BesideBegin),
    }
}

impl<'a> Open<'a> {
    /// With one more line; `None` once it has ended.
    fn with(mut self, number: usize, line: &[u8]) -> Result<Option<Open<'a>>, Damage> {
        let damage = |flaw| Err(Damage { line: number, flaw });
        if find(line, BEGIN.as_bytes()).is_some() {
            return Err(Damage { line: self.line, flaw: Flaw::NoEnd });
        }
        if let Some(at) = find(line, END.as_bytes()) {
            return match mark(&line[at + END.len()..]) {
                None => damage(Flaw::OpenEnd),
                Some((label, _)) if label != self.label => damage(Flaw::OtherEnd),
                Some((_, behind)) if at > 0 || !behind.is_empty() => damage(Flaw::BesideEnd),
                Some(_) => self.ended().map(|()| None),
            };
        }
        if line.is_empty() {
            self.blank = Some(number);
        } else if self.body.is_empty() && line.contains(&b':') {
            self.has_headers = true;
        } else if let Some(blank) = self.blank.filter(|_| !(self.has_headers && self.body.is_empty())) {
            return Err(Damage { line: blank, flaw: Flaw::Blank });
        } else if line.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte)) {
            self.body.extend(line);
        } else {
            return damage(if line.starts_with(b"-") { Flaw::OpenEnd } else { Flaw::NotBase64 });
        }
        Ok(Some(self))
    }

    fn ended(&self) -> Result<(), Damage> {
        let decoded = STANDARD.decode(&*self.body).map(Zeroizing::new);
        decoded.map(drop).map_err(|_| Damage { line: self.line, flaw: Flaw::Cut })
    }
}

/// The label, and what stands behind the dashes that close the mark.
fn mark(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = find(rest, DASHES.as_bytes()).filter(|length| *length > 0)?;
    Some((&rest[..length], rest[length + DASHES.len()..].trim_ascii()))
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        rest = end.map(|end| match &text[end..] {
            [b'\r', b'\n', after @ ..] => after,
            other => &other[1..],
        });
        Some(end.map_or(text, |end| &text[..end]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAEC\nAwQ=\n-----END PRIVATE KEY-----\n";

    #[test]
    fn damage_is_told_by_its_line_and_kind_alone() {
        for (was, is, line, flaw) in [
            ("AAEC\n", "AAEC\n\n", 3, Flaw::Blank),
            ("\n", "\n\n", 2, Flaw::Blank),
            ("KEY-----\nAA", "KEY----\nAA", 1, Flaw::OpenBegin),
            ("-----BEGIN", "----BEGIN", 4, Flaw::NoBegin),
            ("AwQ=\n-----END", "AwQ=-----END", 3, Flaw::BesideEnd),
            ("AwQ=\n-----END", "AwQ=\n----END", 4, Flaw::OpenEnd),
            ("END PRIVATE", "END PUBLIC", 4, Flaw::OtherEnd),
            ("END PRIVATE KEY-----", "END PRIVATE KEY----", 4, Flaw::OpenEnd),
            ("AAEC\n", "A!EC\n", 2, Flaw::NotBase64),
            ("AAEC\n", "AEC\n", 1, Flaw::Cut),
            ("AAEC\nAwQ=\n", "AA==\nAwQ=\n", 1, Flaw::Cut),
            ("KEY-----\nAA", "KEY------\nAA", 1, Flaw::BesideBegin),
            ("-----END PRIVATE KEY-----\n", "", 1, Flaw::NoEnd),
        ] {
            for end in ["\n", "\r\n", "\r"] {
                let text = KEY.replace(was, is).replace('\n', end);
                assert_eq!(Damage::locate(text.as_bytes()), Damage { line, flaw }, "{text:?}");
            }
            // Text before the END mark is read.
            let told = super::super::parse_many(KEY.replace(was, is)).map(|blocks| blocks.len());
            assert_eq!(told, if flaw == Flaw::BesideEnd { Ok(1) } else { Err(Damage { line, flaw }) });
        }
        assert_eq!(
            Damage { line: 3, flaw: Flaw::Blank }.to_string(),
            "line 3: a blank line stands within the block: remove it"
        );
    }

    #[test]
    fn damage_of_a_second_block_has_the_line_of_the_whole_text() {
        let text = format!("a word\n{KEY}{}", KEY.replace("AwQ=\n", "AwQ!\n"));
        assert_eq!(Damage::locate(text.as_bytes()), Damage { line: 8, flaw: Flaw::NotBase64 });
    }
}
