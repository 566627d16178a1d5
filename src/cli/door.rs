//! The door of the command line: a key, a token or a password in place of an argument, a variable of the environment or a
//! target is refused before anything else reads it, and is not repeated.

use std::ffi::OsString;

use crate::audit::chain::Head;
use crate::domain::hidden::{Lookalike, lookalike, not_shown, path_lookalike, whole_lookalike};

/// Their argument may be a serial number, which is hexadecimal as a whole.
const TAKE_SERIAL: [&str; 2] = ["revoke", "adopt"];

/// Its argument may be a head of the audit log, which has a SHA-256.
const TAKES_HEAD: &str = "audit";

/// What certd and the libraries that it uses read, but for VAULT_TOKEN.
const VARIABLES: [&str; 11] = [
    "VAULT_ADDR",
    "VAULT_CACERT",
    "VAULT_NAMESPACE",
    "STATE_DIRECTORY",
    "HOME",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NOTIFY_SOCKET",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
];

/// Returns a message about the first argument that looks like a secret. `arguments` begin with the command.
pub fn refused_argument(arguments: impl IntoIterator<Item = OsString>) -> Option<String> {
    let texts: Vec<String> = arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let judge = match texts.first().is_some_and(|first| TAKE_SERIAL.contains(&first.as_str())) {
        true => lookalike,
        false => whole_lookalike,
    };
    let takes_head = texts.first().is_some_and(|first| first == TAKES_HEAD);
    texts.iter().enumerate().find_map(|(nth, text)| {
        if takes_head && is_head(text) {
            return None;
        }
        let (like, value) = parts(text).into_iter().find_map(|part| judge(part).map(|like| (like, part)))?;
        let option = match text.split_once('=') {
            Some((option, _)) => Some(option),
            None => nth.checked_sub(1).map(|before| texts[before].as_str()),
        };
        let behind = option.filter(|option| is_option(option)).map_or(String::new(), |it| format!(" ({it})"));
        Some(format!(
            "argument {}{behind} {}: every user of this host can read arguments, so secrets are taken from files only",
            nth + 1,
            not_shown(like, value)
        ))
    })
}

/// The argument, the value of `--option=VALUE` and that of `-oVALUE`.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = vec![text];
    parts.extend(text.split_once('=').map(|(_, value)| value));
    let is_short = text.starts_with('-') && !text.starts_with("--");
    parts.extend(text.get(2..).filter(|_| is_short));
    parts
}

fn is_head(text: &str) -> bool {
    let value = ["--head=", "--after="].iter().find_map(|option| text.strip_prefix(option)).unwrap_or(text);
    value.parse::<Head>().is_ok()
}

fn is_option(text: &str) -> bool {
    text.starts_with('-') && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// Returns a message about a variable of the environment that looks like a secret.
pub fn refused_variable(variable: impl Fn(&str) -> Option<OsString>) -> Option<String> {
    VARIABLES.into_iter().find_map(|name| {
        let text = variable(name)?.to_string_lossy().into_owned();
        let like = lookalike(&text)?;
        let why = match like {
            Lookalike::Password => "remove what stands before the @; a token belongs into VAULT_TOKEN",
            Lookalike::Pem | Lookalike::Token | Lookalike::Key => "a token belongs into VAULT_TOKEN, a key into a file",
        };
        Some(format!("the variable {name} {}: {why}", not_shown(like, &text)))
    })
}

/// Returns a message about the first line of a list of targets that looks like a secret; remarks are never shown.
pub fn refused_line(list: &str) -> Option<String> {
    let lines = list.lines().map(str::trim).enumerate().filter(|(_, line)| !line.starts_with('#'));
    let mut refused = lines.filter_map(|(nth, line)| path_lookalike(line).map(|like| (nth, like, line)));
    refused.next().map(|(nth, like, line)| {
        format!("line {} {}: name a list of targets, one a line", nth + 1, not_shown(like, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "hvs.CAESIJ1zQeU5Yb0x3pLkq2v8";

    fn refused(arguments: &[&str]) -> Option<String> {
        refused_argument(arguments.iter().map(|text| OsString::from(*text)))
    }

    #[test]
    fn an_argument_that_looks_like_a_secret_is_named_by_its_number_and_option() {
        let why = "looks like a token (28 characters, not shown): every user of this host can read arguments, so secrets \
                   are taken from files only";
        for (arguments, place) in [
            (vec!["check", TOKEN], "argument 2"),
            (vec!["check", "--warn", TOKEN], "argument 3 (--warn)"),
            (vec!["check", "a:1", TOKEN], "argument 3"),
            (vec![TOKEN], "argument 1"),
        ] {
            assert_eq!(refused(&arguments), Some(format!("{place} {why}")), "{arguments:?}");
        }
        for attached in [format!("--warn={TOKEN}"), format!("-c{TOKEN}"), "-cs.5Hk2bYt0QmW9eZr7LxA1cVn3".to_string()] {
            let told = refused(&["check", &attached]).unwrap();
            assert!(told.starts_with("argument 2") && !told.contains("CAESI") && !told.contains("5Hk2"), "{told}");
        }
    }

    #[test]
    fn a_serial_number_is_an_argument_of_revoke_and_adopt() {
        let serial = "9f86d081884c7d659a2feaa0c55ad015";
        assert_eq!(refused(&["revoke", serial]), None);
        assert_eq!(refused(&["adopt", "vault:main:secret/tls/web", "--serial", serial]), None);
        assert!(refused(&["adopt", "vault:main:secret/tls/web", "--serial", TOKEN]).is_some());
        assert!(refused(&["explain", serial]).is_some());
        assert_eq!(
            refused(&["check", "10.0.0.7:443 sni=www.example.org", "vault:secret/tls/web", "--warn", "14d"]),
            None
        );
    }

    #[test]
    fn a_head_is_an_argument_of_audit() {
        let head = "7:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for arguments in [vec!["audit", "verify", "--head", head], vec!["audit", "verify", &format!("--after={head}")]]
        {
            assert_eq!(refused(&arguments), None);
        }
        assert!(refused(&["explain", head]).is_some());
        assert!(refused(&["audit", "verify", "--head", &head[2..]]).is_some(), "a hash alone may be a key");
    }

    #[test]
    fn a_variable_that_looks_like_a_secret_is_refused_by_name() {
        let set = |name: &'static str, value: &'static str| move |asked: &str| (asked == name).then(|| value.into());
        assert_eq!(
            refused_variable(set("VAULT_ADDR", "https://root:hunter2@vault.example.org")),
            Some(
                "the variable VAULT_ADDR looks like an address with a user or a password (38 characters, not shown): \
                 remove what stands before the @; a token belongs into VAULT_TOKEN"
                    .to_string()
            )
        );
        assert!(refused_variable(set("VAULT_NAMESPACE", TOKEN)).is_some());
        assert_eq!(refused_variable(set("VAULT_TOKEN", TOKEN)), None);
        assert_eq!(refused_variable(set("VAULT_ADDR", "https://vault.example.org:8200")), None);
    }

    #[test]
    fn a_line_that_looks_like_a_secret_is_no_target() {
        let told = refused_line(&format!("a.pem\r\n# {TOKEN}\n {TOKEN}\n"));
        assert_eq!(
            told.as_deref(),
            Some("line 3 looks like a token (28 characters, not shown): name a list of targets, one a line")
        );
        assert_eq!(refused_line("a.pem\n10.0.0.7:443 sni=www.example.org\nmy own.pem\n"), None);
    }
}
