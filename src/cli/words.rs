//! Decisions and errors as a person reads them.

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
        Deferral::Backoff { failures } => format!("{failures} attempts failed"),
        Deferral::Contested => "others keep replacing what certd stores there: find out who".to_string(),
        Deferral::Cap => "this turn renews as many as it may".to_string(),
    }
}

fn held(held: &Held) -> String {
    match held {
        Held::Obstacle(obstacle) => format!("it could not be seen: {}", obstacle.message),
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
