//! The door of the configuration: a key, a token or a password in place of a name or a value is refused before anything
//! else reads the file, and is not repeated.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ReadFile;
use super::error::ConfigError;
use crate::domain::hidden::{Lookalike, lookalike, not_shown, whole_lookalike};
use crate::domain::text::one_line;

const PASSWORD: &str = "remove what stands before the @: certd takes passwords from files only";
const IN_FILE: &str = "write the path of the file that holds it; a path of one long word begins with ./";
const ANYWHERE: &str = "secrets are never written here: put it into a file of its own, and replace it if others may read \
                        this file";

/// An identifier that the CA makes up, which no message shows.
const RANDOM: &str = "key_id";

/// Returns a mistake for each text of the file that looks like a secret, whatever setting it is of.
pub(super) fn judge(file: &ReadFile, table: &DeTable<'_>) -> Vec<ConfigError> {
    let mut door = Door { file, mistakes: Vec::new() };
    door.table("", table);
    door.mistakes
}

struct Door<'a> {
    file: &'a ReadFile,
    mistakes: Vec<ConfigError>,
}

impl Door<'_> {
    fn table(&mut self, above: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let setting = match lookalike(name) {
                Some(like) => {
                    let place = if above.is_empty() { "the file" } else { above };
                    self.say(key.span(), format!("a name in {place} {}", not_shown(like, name)), ANYWHERE);
                    "…".to_string()
                }
                None => one_line(name),
            };
            let path = if above.is_empty() { setting } else { format!("{above}.{setting}") };
            self.value(&path, name, value);
        }
    }

    fn value(&mut self, path: &str, name: &str, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::String(text) => {
                let known = if name == RANDOM { lookalike_of_identifier } else { whole_lookalike };
                if let Some(like) = known(text) {
                    self.say(value.span(), format!("{path} {}", not_shown(like, text)), hint(like, name));
                }
            }
            DeValue::Array(values) => values.iter().for_each(|value| self.value(path, name, value)),
            DeValue::Table(table) => self.table(path, table),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
        }
    }

    fn say(&mut self, span: Range<usize>, what: String, hint: &str) {
        self.mistakes.push(ConfigError::at(&self.file.path, &self.file.text, span, what, Some(hint.to_string())));
    }
}

fn lookalike_of_identifier(text: &str) -> Option<Lookalike> {
    lookalike(text).filter(|like| *like != Lookalike::Key)
}

fn hint(like: Lookalike, name: &str) -> &'static str {
    match like {
        Lookalike::Password => PASSWORD,
        Lookalike::Pem | Lookalike::Token | Lookalike::Key if name.ends_with("file") => IN_FILE,
        Lookalike::Pem | Lookalike::Token | Lookalike::Key => ANYWHERE,
    }
}
