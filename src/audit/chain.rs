//! The chain of the audit log: each line names the SHA-256 of the line before it.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// The SHA-256 of the bytes of one line, without its newline, in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LineHash(String);

impl LineHash {
    pub fn of(line: &[u8]) -> Self {
        Self(digest(&SHA256, line).as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Returns what the first line of all names.
    pub fn none() -> Self {
        Self("0".repeat(64))
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for LineHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_hash = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_hash.then_some(Self(text)).ok_or("a SHA-256 is 64 lower-case hexadecimal digits")
    }
}

impl From<LineHash> for String {
    fn from(hash: LineHash) -> Self {
        hash.0
    }
}

/// The end of the chain: how many records there are, and the hash of the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub sequence: u64,
    pub hash: LineHash,
}

impl Head {
    /// Returns the head of a log without a record.
    pub fn start() -> Self {
        Self { sequence: 0, hash: LineHash::none() }
    }
}

/// `SEQUENCE:HASH`
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, self.hash)
    }
}

impl FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "a head is a sequence number, a colon and 64 hexadecimal digits";
        let (sequence, hash) = text.split_once(':').ok_or(wrong)?;
        let sequence = sequence.parse().map_err(|_| wrong)?;
        Ok(Self { sequence, hash: LineHash::try_from(hash.to_ascii_lowercase()).map_err(|_| wrong)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_back_as_it_is_shown() {
        let head = Head { sequence: 7, hash: LineHash::of(b"abc") };
        let text = "7:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(head.to_string(), text);
        assert_eq!(text.parse::<Head>(), Ok(head));
        for wrong in ["", "7", "7:", ":ba", "x:00", &text[..65], &format!("{text}0"), &text.replace('b', "g")] {
            assert!(wrong.parse::<Head>().is_err(), "{wrong}");
        }
    }
}
