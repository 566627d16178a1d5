//! Who asks for an act: the account, the host, the command and the reason.

use serde::{Deserialize, Serialize};

use super::hidden::{lookalike, not_shown};
use super::text::one_line;

/// In characters. A command names a handful of certificates; a reason is a sentence or a ticket.
const LONGEST_COMMAND: usize = 1_000;
const LONGEST_REASON: usize = 500;
const LONGEST_ACCOUNT: usize = 100;

/// The person or program that asks for an act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The account of the process that asked, as the kernel has it.
    pub uid: u32,
    /// The name of that account; `None` where `/etc/passwd` has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The account that logged in, which `sudo` and `su` do not change (`/proc/PID/loginuid`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    pub host: String,
    #[serde(flatten)]
    pub said: Said,
}

/// The account of a login session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    pub uid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What the command says of itself. The kernel vouches for none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Empty where an older certd asked.
    #[serde(default)]
    pub command: String,
    /// The account that `sudo` names (`SUDO_USER` and `SUDO_UID`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo: Option<String>,
    /// The text of `--reason`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Said {
    /// Returns it in one line each, not longer than a record takes, and without what looks like a key or a token.
    pub fn bounded(&self) -> Self {
        let bounded = |text: &str, most| match lookalike(text) {
            Some(like) => not_shown(like, text),
            None => shortened(&one_line(text), most),
        };
        Self {
            command: bounded(&self.command, LONGEST_COMMAND),
            sudo: self.sudo.as_deref().map(|sudo| bounded(sudo, LONGEST_ACCOUNT)),
            reason: self.reason.as_deref().map(|reason| bounded(reason, LONGEST_REASON)),
        }
    }
}

/// Returns the text, cut off after so many characters.
pub fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_off_between_characters() {
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöü", 2), "äö…");
    }

    #[test]
    fn what_a_command_says_of_itself_is_one_line_and_bounded() {
        let said = Said { command: "certd\nrenew".into(), sudo: None, reason: Some("x".repeat(501)) }.bounded();
        assert_eq!(said.command, "certd\\u{a}renew");
        assert_eq!(said.reason.unwrap().chars().count(), 501);
    }

    /// The command refuses it already; another program may ask by the socket.
    #[test]
    fn what_looks_like_a_secret_is_not_recorded() {
        let token = "hvs.CAESIJ8Gf2kLq0Zx1Yw3Vb7Nm5Tr9Pd4";
        let said = Said { command: format!("certd renew {token}"), sudo: None, reason: Some(format!("with {token}")) };
        let Said { command, reason, .. } = said.bounded();
        assert_eq!(command, format!("looks like a token ({} characters, not shown)", 12 + token.len()));
        assert_eq!(reason.unwrap(), format!("looks like a token ({} characters, not shown)", 5 + token.len()));
    }
}
