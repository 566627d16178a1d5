//! The key of dynamic updates, in the words of BIND: what `tsig-keygen` prints (RFC 8945).

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, TSigner};
use zeroize::Zeroizing;

use super::secret_file;

/// In seconds: by how much the clocks of both sides may differ (RFC 8945, section 10).
const FUDGE: u16 = 300;

pub struct TsigKey {
    pub name: Name,
    pub algorithm: TsigAlgorithm,
    secret: Zeroizing<Vec<u8>>,
}

#[derive(Debug, thiserror::Error)]
pub enum TsigKeyError {
    #[error("could not read the TSIG key {}: let certd read it", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is no TSIG key: {why}; make one with tsig-keygen", path.display())]
    NotUnderstood { path: PathBuf, why: &'static str },
}

impl TsigKey {
    pub async fn read(path: &Path) -> Result<Self, TsigKeyError> {
        let bytes = match secret_file::read(path).await {
            Ok(bytes) => bytes,
            Err(source) => return Err(TsigKeyError::Read { path: path.into(), source }),
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| "it is no text");
        text.and_then(Self::parse).map_err(|why| TsigKeyError::NotUnderstood { path: path.into(), why })
    }

    /// One `key "NAME" { algorithm ALGORITHM; secret "BASE64"; };`.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut words = words(text)?.into_iter().peekable();
        let mut next = move || words.next();
        let (Some("key"), Some(name), Some("{")) = (next(), next(), next()) else {
            return Err("it does not begin with `key \"NAME\" {`");
        };
        let (mut algorithm, mut secret) = (None, None);
        loop {
            match (next(), &mut algorithm, &mut secret) {
                (Some("algorithm"), to @ None, _) => *to = next(),
                (Some("secret"), _, to @ None) => *to = next(),
                (Some("}"), ..) => break,
                _ => return Err("it holds something else than one `algorithm` and one `secret`"),
            }
            if next() != Some(";") {
                return Err("a semicolon is missing");
            }
        }
        match (next(), next()) {
            (None | Some(";"), None) => {}
            _ => return Err("something follows the key: give each key a file of its own"),
        }
        let secret = secret.ok_or("its secret is missing")?;
        Ok(Self { name: name_of(name)?, algorithm: algorithm_of(algorithm)?, secret: decoded(secret)? })
    }

    /// To be dropped soon: its copy of the secret is not wiped.
    pub(super) fn signer(&self) -> TSigner {
        TSigner::new(self.secret.to_vec(), self.algorithm.clone(), self.name.clone(), FUDGE)
            .expect("parse lets in algorithms that are supported")
    }
}

impl fmt::Debug for TsigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, algorithm, secret: _ } = self;
        f.debug_struct("TsigKey").field("name", name).field("algorithm", algorithm).field("secret", &"…").finish()
    }
}

fn name_of(text: &str) -> Result<Name, &'static str> {
    let mut name = Name::from_ascii(text).map_err(|_| "its name is no DNS name")?;
    name.set_fqdn(true);
    Ok(name)
}

fn algorithm_of(word: Option<&str>) -> Result<TsigAlgorithm, &'static str> {
    match word.map(str::to_ascii_lowercase).as_deref() {
        Some("hmac-sha256") => Ok(TsigAlgorithm::HmacSha256),
        Some("hmac-sha384") => Ok(TsigAlgorithm::HmacSha384),
        Some("hmac-sha512") => Ok(TsigAlgorithm::HmacSha512),
        Some(_) => Err("its algorithm is none of hmac-sha256, hmac-sha384 and hmac-sha512"),
        None => Err("its algorithm is missing"),
    }
}

fn decoded(base64: &str) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut text = Zeroizing::new(String::with_capacity(base64.len()));
    text.extend(base64.split_ascii_whitespace());
    let secret = STANDARD.decode(text.as_bytes()).map(Zeroizing::new).map_err(|_| "its secret is not base64")?;
    match secret.is_empty() {
        true => Err("its secret is empty"),
        false => Ok(secret),
    }
}

/// Punctuation, words and the content of quotation marks; comments are none.
fn words(text: &str) -> Result<Vec<&str>, &'static str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let after = match first {
            '{' | '}' | ';' => {
                words.push(&rest[..1]);
                &rest[1..]
            }
            '"' => {
                let (word, after) = rest[1..].split_once('"').ok_or("a quotation mark is missing")?;
                words.push(word);
                after
            }
            '#' => rest.split_once('\n').map_or("", |(_, after)| after),
            _ if rest.starts_with("//") => rest.split_once('\n').map_or("", |(_, after)| after),
            _ if rest.starts_with("/*") => rest.split_once("*/").ok_or("a comment does not end")?.1,
            _ => {
                let ends = |c: char| c.is_whitespace() || matches!(c, '{' | '}' | ';' | '"');
                let (word, after) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
                words.push(word);
                after
            }
        };
        rest = after.trim_start();
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str =
        "key \"certd.example.org\" {\n\talgorithm hmac-sha256;\n\tsecret \"c2VjcmV0IHNlY3JldA==\";\n};\n";

    #[test]
    fn what_tsig_keygen_prints_is_a_key() {
        let key = TsigKey::parse(PRINTED).unwrap();
        assert_eq!(key.name.to_ascii(), "certd.example.org.");
        assert_eq!(key.algorithm, TsigAlgorithm::HmacSha256);
        assert_eq!(*key.secret, b"secret secret");
        assert_eq!(key.signer().key(), b"secret secret");
    }

    #[test]
    fn what_people_write_is_the_same_key() {
        for text in [
            "key certd.example.org. {secret \"c2VjcmV0IHNlY3JldA==\"; algorithm \"HMAC-SHA256\";}",
            "// of certd\nkey certd.example.org { # here\n algorithm hmac-sha256; /* and\n here */ \
             secret c2VjcmV0IHNlY3JldA==; };",
            "key certd.example.org { algorithm hmac-sha256; secret \"c2VjcmV0\n  IHNlY3JldA==\"; };",
        ] {
            let key = TsigKey::parse(text).unwrap();
            assert_eq!(key.name.to_ascii(), "certd.example.org.", "{text}");
            assert_eq!((key.algorithm, &**key.secret), (TsigAlgorithm::HmacSha256, &b"secret secret"[..]), "{text}");
        }
        for (word, algorithm) in [("384", TsigAlgorithm::HmacSha384), ("512", TsigAlgorithm::HmacSha512)] {
            assert_eq!(TsigKey::parse(&PRINTED.replace("256", word)).unwrap().algorithm, algorithm);
        }
    }

    #[test]
    fn what_is_no_key_is_told_why() {
        let why = |text: &str| TsigKey::parse(text).unwrap_err();
        let begin = "it does not begin with `key \"NAME\" {`";
        for text in ["", "\n", "c2VjcmV0", "key { }", "options { };", "hmac-sha256:name:c2VjcmV0"] {
            assert_eq!(why(text), begin, "{text}");
        }
        let other = "it holds something else than one `algorithm` and one `secret`";
        for text in
            ["key a {", "key a { algorithm a; algorithm a; };", "key a { secret s; secret s; };", "key a { x y; };"]
        {
            assert_eq!(why(text), other, "{text}");
        }
        assert_eq!(why("key a { secret \"c2VjcmV0\" };"), "a semicolon is missing");
        assert_eq!(why("key a { secret \"c2VjcmV0; };"), "a quotation mark is missing");
        assert_eq!(why("key a { /* secret \"c2VjcmV0\"; };"), "a comment does not end");
        assert_eq!(why("key a { };"), "its secret is missing");
        assert_eq!(why("key a { secret c2VjcmV0; };"), "its algorithm is missing");
        let algorithms = "its algorithm is none of hmac-sha256, hmac-sha384 and hmac-sha512";
        for word in ["hmac-md5", "hmac-sha1", "hmac-sha256-128", "gss-tsig"] {
            assert_eq!(why(&PRINTED.replace("hmac-sha256", word)), algorithms);
        }
        assert_eq!(why(&PRINTED.replace("c2Vj", "!")), "its secret is not base64");
        assert_eq!(why("key a { algorithm hmac-sha256; secret \"\"; };"), "its secret is empty");
        assert_eq!(why("key \"a..b\" { algorithm hmac-sha256; secret \"c2VjcmV0\"; };"), "its name is no DNS name");
        let two = "something follows the key: give each key a file of its own";
        assert_eq!(why(&PRINTED.repeat(2)), two);
        assert_eq!(why(&format!("{PRINTED};")), two);
    }

    #[test]
    fn a_key_never_shows_its_secret() {
        let shown = format!("{:?}", TsigKey::parse(PRINTED).unwrap());
        assert!(shown.contains("certd") && shown.contains("secret: \"…\""), "{shown}");
        assert!(!shown.contains("c2Vj") && !shown.contains("115, 101"), "{shown}");
    }
}
