//! Places that wait for a person: why, and the command that decides.

use super::cert::Certificate;
use super::check::{Problem, ProblemKind};
use super::homes::name_texts;
use super::inventory::{Location, Observation};
use super::plan::Held;
use super::text::printable;

/// Returns why a place waits and what to do, with the command to run; `None` where something else holds it.
pub fn problem(held: &Held, seen: &Observation) -> Option<Problem> {
    let (kind, why) = (kind(held)?, why(held)?);
    let Some(leaf) = seen.sighting.leaf() else { return Some(Problem::warning(kind, why)) };
    let command = command(&seen.location, leaf);
    let names = printable(&name_texts(&leaf.names).join(", "));
    let what = match held {
        Held::RevocationUnknown(_) => format!(
            "let certd list what that mount revoked (`certd vault policy` prints the rights), or run {command} if it \
             is known to be good"
        ),
        Held::ContestedName(_) => format!("it has {names}; if both may have that, run {command}, else delete it here"),
        Held::OtherNames(_) => format!("it has {names} now; if that is right, run {command}"),
        Held::NotAgreed => format!("it has {names}; if that is right, run {command}, else delete it"),
        Held::Obstacle(_) | Held::ActIsOff | Held::ClockDoubtful(_) | Held::JournalGone(_) => return None,
        Held::Paused { .. } | Held::TwoRules(_) | Held::UnsupportedKey(_) | Held::SeveralCertificates => return None,
        Held::Unwritable(_) | Held::NotObserved => return None,
    };
    Some(Problem::warning(kind, format!("{why}; {what}")))
}

/// Returns why a place waits for a person; `None` where something else holds it.
pub fn why(held: &Held) -> Option<String> {
    Some(match held {
        Held::RevocationUnknown(why) => {
            format!("whether it was revoked is unknown, and certd did not store it, so it is not renewed: {why}")
        }
        Held::ContestedName(homes) => {
            let homes = homes.iter().map(|home| home.0.as_str()).collect::<Vec<_>>().join(", ");
            format!("a name of this certificate belongs to another place, so it is not renewed: {homes}")
        }
        Held::OtherNames(names) => format!(
            "somebody stored a certificate with other names here, so it is not renewed: this place was adopted for {}",
            names.join(", ")
        ),
        Held::NotAgreed => "its rule has adopt = \"ask\", so it is not renewed".to_string(),
        Held::Obstacle(_) | Held::ActIsOff | Held::ClockDoubtful(_) | Held::JournalGone(_) => return None,
        Held::Paused { .. } | Held::TwoRules(_) | Held::UnsupportedKey(_) | Held::SeveralCertificates => return None,
        Held::Unwritable(_) | Held::NotObserved => return None,
    })
}

/// Returns the kind of problem that such a hold is; `None` where something else holds it.
pub fn kind(held: &Held) -> Option<ProblemKind> {
    match held {
        Held::RevocationUnknown(_) => Some(ProblemKind::RevocationUnknown),
        Held::ContestedName(_) => Some(ProblemKind::ContestedName),
        Held::OtherNames(_) => Some(ProblemKind::OtherNames),
        Held::NotAgreed => Some(ProblemKind::NotAgreed),
        Held::Obstacle(_) | Held::ActIsOff | Held::ClockDoubtful(_) | Held::JournalGone(_) => None,
        Held::Paused { .. } | Held::TwoRules(_) | Held::UnsupportedKey(_) | Held::SeveralCertificates => None,
        Held::Unwritable(_) | Held::NotObserved => None,
    }
}

/// Returns the command by which a person agrees to this very certificate, for a POSIX shell.
pub fn command(location: &Location, leaf: &Certificate) -> String {
    let place = location.to_string().replace('\'', r"'\''");
    format!("`certd adopt '{place}' --serial {}`", leaf.serial)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::{found, leaf, secret, seen_found};

    fn said(held: &Held, path: &str) -> String {
        problem(held, &seen_found(secret(path), found(leaf(&["new.example.org", "a.example.org"])))).unwrap().message
    }

    #[test]
    fn what_waits_for_a_person_names_the_new_names_the_home_and_the_command() {
        assert_eq!(
            said(&Held::ContestedName(vec!["vault:main:secret/web".into()]), "secret/copy"),
            "a name of this certificate belongs to another place, so it is not renewed: vault:main:secret/web; it has \
             a.example.org, new.example.org; if both may have that, run `certd adopt 'vault:main:secret/copy' --serial \
             01`, else delete it here"
        );
        assert_eq!(
            said(&Held::OtherNames(vec!["web.example.org".into()]), "secret/web"),
            "somebody stored a certificate with other names here, so it is not renewed: this place was adopted for \
             web.example.org; it has a.example.org, new.example.org now; if that is right, run `certd adopt \
             'vault:main:secret/web' --serial 01`"
        );
    }

    #[test]
    fn a_quote_in_a_path_ends_no_word_of_the_command() {
        let command = command(&secret("secret/it's"), &leaf(&["a.example.org"]));
        assert_eq!(command, r"`certd adopt 'vault:main:secret/it'\''s' --serial 01`");
    }
}
