//! What a PEM block is by its label: a closed set, so that no label that others wrote is ever repeated.

use std::fmt;

use super::{BEGIN, DASHES};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// One of the labels below.
    Known(&'static str),
    /// A private key by its last two words.
    OtherKey,
    Other,
}

/// Labels that tools write (RFC 7468, RFC 4716, OpenSSL's PEM_read(3), OpenPGP, OpenVPN).
const KNOWN: [&str; 29] = [
    "CERTIFICATE",
    "X509 CERTIFICATE",
    "TRUSTED CERTIFICATE",
    "ATTRIBUTE CERTIFICATE",
    "CERTIFICATE REQUEST",
    "NEW CERTIFICATE REQUEST",
    "X509 CRL",
    "PKCS7",
    "PKCS #7 SIGNED DATA",
    "CMS",
    "PRIVATE KEY",
    "ENCRYPTED PRIVATE KEY",
    "RSA PRIVATE KEY",
    "EC PRIVATE KEY",
    "DSA PRIVATE KEY",
    "ANY PRIVATE KEY",
    "OPENSSH PRIVATE KEY",
    "SSH2 ENCRYPTED PRIVATE KEY",
    "PGP PRIVATE KEY BLOCK",
    "PGP PUBLIC KEY BLOCK",
    "PGP MESSAGE",
    "PUBLIC KEY",
    "RSA PUBLIC KEY",
    "DSA PARAMETERS",
    "DH PARAMETERS",
    "X9.42 DH PARAMETERS",
    "EC PARAMETERS",
    "SSL SESSION PARAMETERS",
    "OpenVPN Static key V1",
];

impl Label {
    pub fn of(label: &[u8]) -> Self {
        match KNOWN.into_iter().find(|known| known.as_bytes() == label) {
            Some(known) => Self::Known(known),
            None if label.ends_with(b"PRIVATE KEY") => Self::OtherKey,
            None => Self::Other,
        }
    }

    pub fn is_certificate(self) -> bool {
        matches!(self, Self::Known("CERTIFICATE" | "X509 CERTIFICATE"))
    }

    pub fn is_key(self) -> bool {
        match self {
            Self::Known(label) => label.ends_with("PRIVATE KEY"),
            Self::OtherKey => true,
            Self::Other => false,
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Known(label) => label,
            Self::OtherKey => "an unknown kind of private key",
            Self::Other => "an unknown kind of block",
        })
    }
}

/// Each BEGIN mark that has its end, with its line, counted from 1.
pub fn labels(text: &[u8]) -> Vec<(usize, Label)> {
    let mut all = Vec::new();
    let (mut from, mut line) = (0, 1);
    while let Some(at) = find(&text[from..], BEGIN.as_bytes()) {
        let label = from + at + BEGIN.len();
        line += lines_in(&text[from..label]);
        let Some(length) = find(&text[label..], DASHES.as_bytes()) else { break };
        all.push((line, Label::of(&text[label..label + length])));
        line += lines_in(&text[label..label + length]);
        from = label + length;
    }
    all
}

/// A line ends by CRLF, LF or CR alone (RFC 7468, section 3).
fn lines_in(text: &[u8]) -> usize {
    let ends = text.iter().enumerate().filter(|(at, byte)| match byte {
        b'\n' => true,
        b'\r' => text.get(at + 1) != Some(&b'\n'),
        _ => false,
    });
    ends.count()
}

pub(super) fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|at| at == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_one_of_a_closed_set_and_has_its_line() {
        let text = b"a word\r\n-----BEGIN DH PARAMETERS-----\r\nAAAA\r-----BEGIN MC4CAQAw-----\n-----BEGIN FOO PRIVATE KEY-----x\n-----BEGIN cut";
        let told: Vec<_> = labels(text).into_iter().map(|(line, label)| format!("{line} {label}")).collect();
        assert_eq!(told, ["2 DH PARAMETERS", "4 an unknown kind of block", "5 an unknown kind of private key"]);
    }

    #[test]
    fn text_on_the_line_of_a_mark_is_no_part_of_its_label() {
        let text = b"-----BEGIN PRIVATE KEY----- MC4CAQAw -----END PRIVATE KEY----- -----BEGIN CERTIFICATE----- MIIB";
        assert_eq!(labels(text), [(1, Label::Known("PRIVATE KEY")), (1, Label::Known("CERTIFICATE"))]);
    }
}
