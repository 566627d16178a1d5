//! certd's token for Vault: where it comes from, and that it never shows.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

use super::error::VaultError;
use super::login::Login;
use super::session::Session;
use super::transport::Transport;
use crate::files::regular;

/// Where the token is taken from.
#[derive(Clone)]
pub enum TokenFrom {
    /// Read again whenever the file changes, since whoever keeps it fresh replaces it.
    File(PathBuf),
    /// From the environment of `certd check`, and nothing else.
    Given(Zeroizing<String>),
    /// certd fetches one of its own.
    Login(Login),
}

impl fmt::Debug for TokenFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Given(_) => f.write_str("Given(…)"),
            Self::Login(login) => f.debug_tuple("Login").field(login).finish(),
        }
    }
}

/// Batch tokens of Vault take a few hundred bytes; JWTs in their place a few thousand.
const LONGEST_TOKEN: u64 = 16 * 1024;

/// Tells one state of a file from the next: inode, length, and when it was modified.
pub(super) type Stamp = (u64, u64, i64, i64);

pub(super) enum Token {
    File(TokenFile),
    Given(Zeroizing<String>),
    Session(Box<Session>),
}

impl Token {
    pub fn new(from: TokenFrom) -> Self {
        match from {
            TokenFrom::File(path) => Self::File(TokenFile { path, last: Mutex::default() }),
            TokenFrom::Given(token) => Self::Given(token),
            TokenFrom::Login(login) => Self::Session(Box::new(Session::new(login))),
        }
    }

    /// As a header that no log prints.
    pub async fn header(&self, transport: &Transport) -> Result<HeaderValue, VaultError> {
        match self {
            Self::Given(token) => header(token, "VAULT_TOKEN"),
            Self::File(file) => file.read().await,
            Self::Session(session) => session.header(transport).await,
        }
    }

    pub fn session(&self) -> Option<&Session> {
        match self {
            Self::Session(session) => Some(session),
            Self::File(_) | Self::Given(_) => None,
        }
    }
}

pub(super) struct TokenFile {
    path: PathBuf,
    last: Mutex<Option<(Stamp, HeaderValue)>>,
}

impl TokenFile {
    async fn read(&self) -> Result<HeaderValue, VaultError> {
        let path = &self.path;
        let place = path.display().to_string();
        let failed = |source| VaultError::TokenFile { place: place.clone(), source };
        let stamp = stamp(&tokio::fs::metadata(path).await.map_err(failed)?);
        if let Some((_, header)) = self.last().as_ref().filter(|(last, _)| *last == stamp) {
            return Ok(header.clone());
        }
        let text = regular::read_text_beside(path, LONGEST_TOKEN).await.map_err(failed)?;
        let header = header(&text, &place)?;
        *self.last() = Some((stamp, header.clone()));
        Ok(header)
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<(Stamp, HeaderValue)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn stamp(metadata: &std::fs::Metadata) -> Stamp {
    (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

pub(super) fn header(token: &str, place: &str) -> Result<HeaderValue, VaultError> {
    let unusable = |why| VaultError::Token { place: place.to_string(), why };
    let token = token.trim();
    if token.is_empty() {
        return Err(unusable("it is empty"));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unusable("it holds more than one word of visible ASCII"));
    }
    let mut header = HeaderValue::from_str(token).map_err(|_| unusable("it does not fit into a header"))?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(token: &Token) -> Result<String, String> {
        let header = match token {
            Token::File(file) => file.read().await,
            Token::Given(token) => header(token, "VAULT_TOKEN"),
            Token::Session(_) => panic!("nobody logs in here"),
        };
        header.map(|h| h.to_str().unwrap().to_string()).map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn a_token_file_may_end_in_a_newline_and_is_read_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let token = Token::new(TokenFrom::File(path.clone()));
        assert!(read(&token).await.unwrap_err().starts_with("could not read the token for Vault: "));
        std::fs::write(&path, "first\n").unwrap();
        assert_eq!(read(&token).await.unwrap(), "first");
        std::fs::write(&path, "another\n").unwrap();
        assert_eq!(read(&token).await.unwrap(), "another");
        std::fs::write(&path, "").unwrap();
        assert!(read(&token).await.unwrap_err().contains("it is empty"));
    }

    #[tokio::test]
    async fn an_unusable_token_is_named_by_its_place_and_never_shown() {
        for text in ["two words", "über", "a\u{1b}b"] {
            let token = Token::new(TokenFrom::Given(Zeroizing::new(text.to_string())));
            let message = read(&token).await.unwrap_err();
            assert!(message.ends_with(": VAULT_TOKEN") && !message.contains(text), "{message}");
        }
        assert_eq!(format!("{:?}", TokenFrom::Given(Zeroizing::new("s3cret".into()))), "Given(…)");
    }
}
