//! Decisions and errors as a person reads them.

use crate::config::{self, ConfigErrors};
use crate::daemon::DaemonError;
use crate::domain::plan::{Action, Deferral, Held};
use crate::domain::text;
use crate::domain::waiting;

/// An error and its causes, each said once and safe for a terminal. A list of mistakes keeps its lines.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in error.chain().map(cause) {
        if said.last() != Some(&cause) {
            said.push(cause);
        }
    }
    said.join(": ")
}

fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mistakes = match error.downcast_ref::<DaemonError>() {
        Some(DaemonError::Config(mistakes)) => Some(mistakes),
        _ => error.downcast_ref::<ConfigErrors>(),
    };
    match mistakes {
        Some(ConfigErrors(all)) => {
            all.iter().map(|mistake| text::message(&mistake.to_string())).collect::<Vec<_>>().join("\n")
        }
        None => text::message(&error.to_string()),
    }
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

/// In one line, whoever made the words in it.
pub fn action(action: &Action) -> String {
    text::message(&match action {
        Action::Keep { renew_at } => format!("keep, due on {renew_at}"),
        Action::Renew { reason } => format!("renew: {}", reason.as_str()),
        Action::Defer { until, reason, renew } => {
            format!("defer until {until}: {}, {}", renew.as_str(), deferral(reason))
        }
        Action::Hold { held: why } => format!("hold: {}", held(why)),
    })
}

fn deferral(reason: &Deferral) -> String {
    match reason {
        Deferral::Backoff { failures: 1 } => "an attempt failed".to_string(),
        Deferral::Backoff { failures } => format!("{failures} attempts failed"),
        Deferral::Contested => "others keep replacing what certd stores there: find out who".to_string(),
        Deferral::IssuerDown { issuer } => format!("issuer {issuer} failed again and again and is left alone"),
        Deferral::WeeklyLimit { stored, most } => format!(
            "weekly limit for this certificate reached ({stored} of {most}); `certd renew --over-the-cap` passes it"
        ),
        Deferral::NotStored { issued } => format!(
            "{issued} issued within 7 days could not be stored, and certd waits longer each time; `certd renew \
             --over-the-cap` does not wait"
        ),
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
        Held::JournalGone(why) | Held::Unwritable(why) => why.clone(),
        Held::RevocationUnknown(_) | Held::ContestedName(_) | Held::OtherNames(_) | Held::NotAgreed => {
            waiting::why(held).unwrap_or_default()
        }
        Held::NotObserved => "it was not looked at yet".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::inventory::{Obstacle, ObstacleKind};

    const FORGED: &str = "a\nINFO all is well\u{1b}[2J\u{202e}";
    const ESCAPED: &str = "a\\u{a}INFO all is well\\u{1b}[2J\\u{202e}";

    #[test]
    fn a_decision_is_one_line_whatever_was_met() {
        let obstacle = Obstacle { obstacle: ObstacleKind::Server, message: FORGED.into() };
        for held in [
            Held::Obstacle(obstacle),
            Held::ClockDoubtful(FORGED.into()),
            Held::TwoRules(vec![FORGED.into()]),
            Held::UnsupportedKey(FORGED.into()),
            Held::Unwritable(FORGED.into()),
            Held::ContestedName(vec![FORGED.into()]),
            Held::OtherNames(vec![FORGED.into()]),
        ] {
            let told = action(&Action::Hold { held });
            assert!(told.starts_with("hold: ") && told.contains(ESCAPED), "{told}");
        }
    }

    #[test]
    fn an_error_is_one_line_and_a_list_of_mistakes_one_line_each() {
        assert_eq!(one_line(&anyhow::anyhow!("{FORGED}").context("could not")), format!("could not: {ESCAPED}"));
        let mistake = || config::ConfigError { file: "a".into(), line: 0, column: 0, what: FORGED.into(), hint: None };
        let mistakes = || ConfigErrors(vec![mistake(), mistake()]);
        let told = format!("a: {ESCAPED}\na: {ESCAPED}");
        assert_eq!(one_line(&mistakes().into()), told);
        assert_eq!(one_line(&DaemonError::Config(mistakes()).into()), told);
    }

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
