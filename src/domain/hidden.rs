//! Texts that look like a key, a token or a password: refused where they come in, so that nothing later can print them.

use super::text::printable;

/// A kind of secret that a text has the form of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookalike {
    Pem,
    Token,
    Key,
    /// An address with a user or a password before its host.
    Password,
}

impl Lookalike {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pem => "a text in PEM",
            Self::Token => "a token",
            Self::Key => "a key or a password",
            Self::Password => "an address with a user or a password",
        }
    }
}

/// Returns the kind of secret that a text, or a part of it, has the form of. Text that is read and written by people has
/// none: names, hosts, paths, UUIDs, serial numbers and digests of up to 40 digits.
pub fn lookalike(text: &str) -> Option<Lookalike> {
    if text.contains("-----BEGIN") || text.contains("-----END") || text.contains("PRIVATE KEY") {
        return Some(Lookalike::Pem);
    }
    if has_token(text) {
        return Some(Lookalike::Token);
    }
    if has_user(text) {
        return Some(Lookalike::Password);
    }
    has_key(text).then_some(Lookalike::Key)
}

/// As [`lookalike`], also for a text that is hexadecimal as a whole, of 16 bytes or more.
pub fn whole_lookalike(text: &str) -> Option<Lookalike> {
    let is_hex = text.len() >= LEAST_HEX && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    lookalike(text).or_else(|| (is_hex && is_random(text)).then_some(Lookalike::Key))
}

/// As [`lookalike`], also for what is less like a path than like a secret: one long word, or a UUID such as a secret-id.
pub fn path_lookalike(text: &str) -> Option<Lookalike> {
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=_-".contains(&byte));
    let is_secret = is_word && (text.len() >= LONGEST_WORD || text.len() >= LEAST_WORD && is_random(text));
    lookalike(text).or_else(|| is_secret.then_some(Lookalike::Key))
}

/// Says in place of a text what it looks like, and how long it is.
pub fn not_shown(like: Lookalike, text: &str) -> String {
    format!("looks like {} ({} characters, not shown)", like.as_str(), text.chars().count())
}

/// For messages: quoted, or what it looks like.
pub fn shown(text: &str) -> String {
    match lookalike(text) {
        Some(like) => format!("one that {}", not_shown(like, text)),
        None => format!("{text:?}"),
    }
}

/// Words of somebody whom certd showed a secret, such as a server or a command: fit to be shown, without whatever in them
/// looks like one.
pub fn words(said: &str) -> String {
    // Of a server's list of errors: one line is enough.
    let said =
        &said.split(['\n', '\r', '\t']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    let is_end = |c: char| c.is_whitespace() || "\"'`,;()[]{}<>".contains(c);
    if lookalike(said) == Some(Lookalike::Pem) {
        return NOT_SHOWN.to_string();
    }
    let mut out = String::with_capacity(said.len());
    for part in said.split_inclusive(is_end) {
        let word = part.trim_end_matches(is_end);
        out.push_str(if whole_lookalike(word).is_some() { NOT_SHOWN } else { word });
        out.push_str(&part[word.len()..]);
    }
    printable(&out)
}

/// The same without these texts, which were shown, whatever they look like. One of a few bytes stays: it is in any text.
pub fn words_without<S: AsRef<str>>(said: &str, secrets: &[S]) -> String {
    let long = secrets.iter().map(AsRef::as_ref).filter(|secret| secret.len() >= LEAST_SECRET);
    let said = long.fold(said.to_string(), |said, secret| {
        let without = said.replace(secret, NOT_SHOWN);
        let escaped = secret.escape_default().to_string();
        without.replace(&escaped, NOT_SHOWN)
    });
    words(&said)
}

/// In bytes.
const LEAST_SECRET: usize = 6;

const NOT_SHOWN: &str = "(not shown: it looks like a secret)";

/// Of a whole text in hexadecimal, in digits.
const LEAST_HEX: usize = 32;

/// Of a word in place of a path, in bytes: a token in the old form has so many behind its first two.
const LEAST_WORD: usize = 20;

/// Of a word in place of a path, in bytes: 32 bytes of a key take 43 in base64.
const LONGEST_WORD: usize = 40;

/// What Vault's and OpenBao's tokens begin with, and how many bytes of the rest make it one.
const TOKENS: [(&str, usize); 3] = [("hvs.", 12), ("hvb.", 12), ("hvr.", 12)];

/// The same of the old form, whose rest mixes letters and digits.
const OLD_TOKENS: [&str; 3] = ["s.", "b.", "r."];

const OLD_TOKEN: usize = 20;

fn has_token(text: &str) -> bool {
    let rest = |at: usize| {
        let rest = &text[at..];
        &rest[..rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c))).unwrap_or(rest.len())]
    };
    let is_new = |(start, least): &(&str, usize)| {
        text.match_indices(start).any(|(at, _)| rest(at + start.len()).len() >= *least)
    };
    let is_old = |start: &&str| {
        text.match_indices(start).any(|(at, _)| {
            let begins = !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || "_-.".contains(c));
            let word = rest(at + start.len());
            begins && word.len() >= OLD_TOKEN && is_random(word)
        })
    };
    TOKENS.iter().any(is_new) || OLD_TOKENS.iter().any(is_old) || is_jwt(text)
}

/// Its head is a JSON object in base64url (RFC 7519).
fn is_jwt(text: &str) -> bool {
    text.match_indices("eyJ").any(|(at, _)| text[at..].split(['.', ' ']).next().is_some_and(|head| head.len() >= 17))
}

/// Addresses that have an `@` and no password.
const NAMED: [&str; 4] = ["mailto", "sip", "sips", "xmpp"];

/// `SCHEME://USER@HOST` and `USER:PASSWORD@HOST` (RFC 3986, section 3.2.1).
fn has_user(text: &str) -> bool {
    text.split(|c: char| c.is_whitespace() || "\"'<>".contains(c)).any(|word| match word.split_once("//") {
        Some((_, rest)) => rest.split(['/', '?', '#', '\\']).next().is_some_and(|authority| authority.contains('@')),
        None => word.split_once('@').is_some_and(|(before, _)| match before.split_once(':') {
            Some((user, _)) => !NAMED.contains(&user.to_ascii_lowercase().as_str()) && !before.contains('/'),
            None => false,
        }),
    })
}

/// A window over a run of base64. Of 20,000 random keys of 32 bytes 99.5 % have one of the two windows below, of 59,000
/// paths of a host 0.03 %: long names in camel case beside numbers.
struct Window {
    bytes: usize,
    /// How often the kind of letter changes.
    changes: usize,
    /// That, and two for each digit.
    score: usize,
    /// Small letters, and capitals.
    each_case: usize,
    signs: usize,
}

const WINDOWS: [Window; 2] = [
    Window { bytes: 24, changes: 12, score: 16, each_case: 3, signs: 2 },
    Window { bytes: 40, changes: 14, score: 21, each_case: 4, signs: 6 },
];

/// Of letters of one case and digits, in bytes: serial numbers (RFC 5280, section 4.1.2.2) and SHA-1 have 40.
const LONGEST_DIGEST: usize = 40;

/// Pairs of hexadecimal digits with colons between them; a serial number has 20.
const MOST_PAIRS: usize = 31;

fn has_key(text: &str) -> bool {
    let of_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=_-".contains(c);
    let is_mixed = |run: &str| WINDOWS.iter().any(|window| window.is_in(run.as_bytes()));
    let digits = |run: &str| run.bytes().filter(u8::is_ascii_digit).count();
    let is_long = |run: &str| run.len() > LONGEST_DIGEST && is_random(run) && digits(run) * 8 >= run.len();
    text.split(|c| !of_base64(c)).any(is_mixed)
        || text.split(|c: char| !c.is_ascii_alphanumeric()).any(is_long)
        || text.split(|c: char| !(c.is_ascii_hexdigit() || c == ':')).any(|run| pairs(run) > MOST_PAIRS)
}

fn pairs(run: &str) -> usize {
    let parts: Vec<&str> = run.split(':').collect();
    if parts.iter().all(|part| part.len() == 2) { parts.len() } else { 0 }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Letter {
    Lower,
    Upper,
    Digit,
    Sign,
}

impl From<u8> for Letter {
    fn from(byte: u8) -> Self {
        match byte {
            b'a'..=b'z' => Self::Lower,
            b'A'..=b'Z' => Self::Upper,
            b'0'..=b'9' => Self::Digit,
            _ => Self::Sign,
        }
    }
}

impl Window {
    fn is_in(&self, run: &[u8]) -> bool {
        run.windows(self.bytes).any(|window| {
            let count = |kind: Letter| window.iter().filter(|byte| Letter::from(**byte) == kind).count();
            let (digits, changes) = (count(Letter::Digit), changes(window));
            let cases = [Letter::Lower, Letter::Upper].map(count);
            changes >= self.changes
                && changes + 2 * digits >= self.score
                && digits > 0
                && cases.into_iter().all(|letters| letters >= self.each_case)
                && count(Letter::Sign) <= self.signs
        })
    }
}

/// How often two neighbours are of different kinds. Signs divide words and are none.
fn changes(text: &[u8]) -> usize {
    let kinds = |pair: &[u8]| (Letter::from(pair[0]), Letter::from(pair[1]));
    let differs = |(one, other): (Letter, Letter)| one != other && one != Letter::Sign && other != Letter::Sign;
    text.windows(2).filter(|pair| differs(kinds(pair))).count()
}

/// Whether there are digits and the kind of letter changes at every fourth byte or more often: in hexadecimal at every
/// second, in words never.
fn is_random(word: &str) -> bool {
    word.contains(|c: char| c.is_ascii_digit()) && changes(word.as_bytes()) * 4 >= word.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_its_form() {
        for (text, like) in [
            ("hvs.CAESIJ1zQeU5Yb0x3pLkq2v8", Lookalike::Token),
            ("-chvs.CAESIJ1zQeU5Yb0x3pLkq2v8", Lookalike::Token),
            ("token=hvb.AAAAAQJ1zQeU5Yb0x3pL", Lookalike::Token),
            ("s.5Hk2bYt0QmW9eZr7LxA1cVn3", Lookalike::Token),
            ("eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln", Lookalike::Token),
            ("-----BEGIN PRIVATE KEY----- MC4CAQAw -----END PRIVATE KEY-----", Lookalike::Pem),
            ("----BEGIN EC PRIVATE KEY----", Lookalike::Pem),
            ("https://certd:hunter2@vault.example.org", Lookalike::Password),
            ("https://token@vault.example.org/v1", Lookalike::Password),
            ("root:hunter2@vault", Lookalike::Password),
            ("//root:hunter2@vault", Lookalike::Password),
            ("MC4CAQAwBQYDK2VwBCIEIJ1zQeU5Yb0x3pLkq2v8dTn4mRwXs9HfGa7CjVuEoKiy", Lookalike::Key),
            ("q83vEjRWeJq83vEjRWeJq83vEjRWeJq83vEjRWeJq80=", Lookalike::Key),
            ("/etc/certd/Z2V0LXRoZS1rZXkgMTIzNDU2Nzg5MGFiY2RlZg", Lookalike::Key),
            ("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", Lookalike::Key),
        ] {
            assert_eq!(lookalike(text), Some(like), "{text}");
            assert!(!shown(text).contains(&text[4..]), "{text}");
        }
        let colons = "9f:86:d0:81:88:4c:7d:65:9a:2f:ea:a0:c5:5a:d0:15:a3:bf:4f:1b:2b:0b:82:2c:d1:5d:6c:15:b0:f0:0a:08";
        assert_eq!(lookalike(colons), Some(Lookalike::Key));
        assert_eq!(
            shown("https://certd:hunter2@vault"),
            "one that looks like an address with a user or a password (27 characters, not shown)"
        );
    }

    #[test]
    fn what_people_read_and_write_is_none() {
        for text in [
            "",
            "/run/credentials/certd.service/vault-token",
            "/var/lib/kubelet/pods/0b7e9c52-6f4b-4d0a-9a55-3c1e8a2f7d60/volumes/tls.crt",
            "/nix/store/0c0rq4r2h8v1yb3iw6mzl5dkqf9xgk7a-cacert-3.98/etc/ssl/certs/ca-bundle.crt",
            "ABCDEF0123456789ABCDEF0123456789.gr7.eu-central-1.eks.amazonaws.com:443",
            "_3f2a9c1e7b5d4860a1b2c3d4e5f60718.acm-validations.aws",
            "xn--bcher-kva.example.org",
            "ip-10-0-3-17.eu-west-1.compute.internal",
            "10.0.0.7:443 sni=www.example.org",
            "https://vault-1.internal.example:8200",
            "https://[2001:db8::1]:8443",
            "secret/tls/Prod/PaymentsApi/v2",
            "ExampleRootCA2026G2Prod01",
            "InternalCertificateAuthorityOfTheExampleCompany",
            "mailto:ops@example.org",
            "ops@example.org",
            "secret/tls/web@7..9",
            "s.internal-certificate-service",
            "b.example.org",
            "4a:5b:6c:7d:8e:9f:00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd",
            "4a5b6c7d8e9f00112233445566778899aabbccdd",
            "2027-01-31T12:00:00Z",
        ] {
            assert_eq!(lookalike(text), None, "{text}");
            assert_eq!(shown(text), format!("{text:?}"));
        }
    }

    #[test]
    fn a_word_that_is_no_path_and_a_whole_text_in_hexadecimal_are_taken_for_secrets() {
        for text in [
            "5Hk2bYt0QmW9eZr7LxA1cVn3",
            "0b7e9c52-6f4b-4d0a-9a55-3c1e8a2f7d60",
            "9f86d081884c7d659a2feaa0c55ad015",
            "abcdefghijklmnopqrstuvwxyzabcdefghijklmnop",
        ] {
            assert_eq!(path_lookalike(text), Some(Lookalike::Key), "{text}");
        }
        for text in [
            "vault-token",
            "./token",
            "token.txt",
            "./9f86d081884c7d659a2feaa0c55ad015",
            "certificates/internal/production/frontend/web/current",
        ] {
            assert_eq!(path_lookalike(text), None, "{text}");
        }
        assert_eq!(whole_lookalike("9f86d081884c7d659a2feaa0c55ad015"), Some(Lookalike::Key));
        assert_eq!(whole_lookalike("00000000000000000000000000000000"), None);
        assert_eq!(whole_lookalike("9f86d081884c7d65"), None);
    }

    #[test]
    fn what_somebody_says_is_shown_without_what_looks_like_a_secret() {
        let token = "hvs.CAESIJ1zQeU5Yb0x3pLkq2v8";
        for (said, shown) in [
            ("1 error occurred:\n\t* permission denied", "1 error occurred: * permission denied"),
            (
                &*format!("no such token: \"{token}\", ask"),
                r#"no such token: "(not shown: it looks like a secret)", ask"#,
            ),
            (&format!("token={token}"), NOT_SHOWN),
            ("no key 9f86d081884c7d659a2feaa0c55ad015 here", &*format!("no key {NOT_SHOWN} here")),
            ("got -----BEGIN PRIVATE KEY----- MC4CAQAw", NOT_SHOWN),
            ("", ""),
        ] {
            assert_eq!(words(said), shown, "{said}");
        }
        let pair = ["CANARY-of-no-form", "two\nlines", "web"];
        let said = "no CANARY-of-no-form for web: two\\nlines or two\nlines";
        assert_eq!(words_without(said, &pair), format!("no {NOT_SHOWN} for web: {NOT_SHOWN} or {NOT_SHOWN}"));
        let long = format!("{} {token}", "w".repeat(300));
        assert_eq!(words(&long), "w".repeat(256));
    }

    #[test]
    fn random_keys_of_32_bytes_are_known_in_base64_and_hexadecimal() {
        use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[3]
        };
        let mut missed = [0, 0, 0];
        for _ in 0..1_000 {
            let key: [u8; 32] = std::array::from_fn(|_| next());
            let hex = key.iter().map(|byte| format!("{byte:02x}")).collect();
            let texts: [String; 3] = [BASE64_STANDARD.encode(key), BASE64_URL_SAFE_NO_PAD.encode(key), hex];
            for (missed, text) in missed.iter_mut().zip(texts) {
                *missed += usize::from(lookalike(&text) != Some(Lookalike::Key));
            }
        }
        assert!(missed.iter().all(|missed| *missed <= 10), "{missed:?}");
    }
}
