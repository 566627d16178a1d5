//! Decisions and errors as a person reads them.

use crate::config;
use crate::domain::plan::{Action, Deferral, Held};
use crate::domain::text;

/// An error and its causes, each said once and safe for a terminal. A list of mistakes keeps its lines.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.last() != Some(&cause) {
            said.push(cause);
        }
    }
    let lines: Vec<String> = said.join(": ").lines().map(text::one_line).collect();
    lines.join("\n")
}

/// For the end of a message about a name that nothing has; empty where nothing is like it.
pub fn did_you_mean<'a>(name: &str, names: impl Iterator<Item = &'a String> + Clone) -> String {
    // An adopted certificate is named vault:NAME:path, and a person remembers the path.
    let path = |known: &&String| known.strip_suffix(name).is_some_and(|start| start.ends_with([':', '/']));
    match names.clone().find(path).or_else(|| config::closest(name, names)) {
        Some(meant) => format!(" \u{2014} did you mean {meant}?"),
        None => String::new(),
    }
}

pub fn action(action: &Action) -> String {
    match action {
        Action::Keep { renew_at } => format!("keep, due on {renew_at}"),
        Action::Renew { reason } => format!("renew: {}", reason.as_str()),
        Action::Defer { until, reason, renew } => {
            format!("defer until {until}: {}, {}", renew.as_str(), deferral(reason))
        }
        Action::Hold { held: why } => format!("hold: {}", held(why)),
    }
}

fn deferral(reason: &Deferral) -> String {
    match reason {
        Deferral::Backoff { failures: 1 } => "an attempt failed".to_string(),
        Deferral::Backoff { failures } => format!("{failures} attempts failed"),
        Deferral::Contested => "others keep replacing what certd stores there: find out who".to_string(),
        Deferral::IssuerDown { issuer } => format!("issuer {issuer} failed again and again and is left alone"),
        Deferral::NameSetCap { issued, most } => {
            format!("{issued} certificates of these names were issued within 7 days, and {most} is the most")
        }
        Deferral::Cap => "this turn renews as many as it may".to_string(),
    }
}

fn held(held: &Held) -> String {
    match held {
        Held::Obstacle(obstacle) => format!("it could not be seen: {}", obstacle.message),
        Held::ClockDoubtful(why) => why.clone(),
        Held::ActIsOff => "act = false in the configuration".to_string(),
        Held::Paused { until } => format!("paused until {until}"),
        Held::TwoRules(rules) => format!("two rules adopt it: {}", rules.join(", ")),
        Held::UnsupportedKey(key) => format!("certd makes no keys of this kind: {key}"),
        Held::SeveralCertificates => {
            "several certificates are kept in one place: give each a place of its own".to_string()
        }
        Held::Unwritable(why) => why.clone(),
        Held::NotObserved => "it was not looked at yet".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_almost_there_is_offered() {
        let names = ["payments".to_string(), "vault:main:secret/tls/web".to_string()];
        let meant = |name: &str| did_you_mean(name, names.iter());
        assert_eq!(meant("paymenst"), " \u{2014} did you mean payments?");
        assert_eq!(meant("vault:main:secret/tls/wbe"), " \u{2014} did you mean vault:main:secret/tls/web?");
        assert_eq!(meant("secret/tls/web"), " \u{2014} did you mean vault:main:secret/tls/web?");
        assert_eq!(meant("ments"), "");
        assert_eq!(meant("other"), "");
        assert_eq!(meant(""), "");
    }
}
