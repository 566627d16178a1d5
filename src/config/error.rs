//! Mistakes in the configuration: where, what is wrong, what to do.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// All mistakes that were found, by file and line. Of a file that is no TOML, or has a value of the wrong form, only
/// the first is known, and what lies beyond it is not judged.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, error) in self.0.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    pub file: PathBuf,
    /// From 1; 0 when it is about the file as a whole.
    pub line: usize,
    /// In characters, from 1; 0 when it is about the file as a whole.
    pub column: usize,
    pub what: String,
    pub hint: Option<String>,
}

impl ConfigError {
    pub(super) fn at(file: &Path, text: &str, span: Range<usize>, what: String, hint: Option<String>) -> Self {
        let (line, column) = line_and_column(text, span.start);
        Self { file: file.to_path_buf(), line, column, what, hint }
    }

    pub(super) fn whole(file: &Path, what: String, hint: Option<String>) -> Self {
        Self { file: file.to_path_buf(), line: 0, column: 0, what, hint }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.what)?;
        match &self.hint {
            Some(hint) => write!(f, " — {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

pub(super) fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(byte)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_columns_in_characters() {
        let text = "a\nüü = x\n";
        assert_eq!(line_and_column(text, 0), (1, 1));
        assert_eq!(line_and_column(text, 2), (2, 1));
        assert_eq!(line_and_column(text, text.find('x').unwrap()), (2, 6));
        assert_eq!(line_and_column(text, text.len()), (3, 1));
        assert_eq!(line_and_column(text, 1_000), (3, 1));
    }

    #[test]
    fn shows_one_line_each_and_no_position_for_a_whole_file() {
        let at = ConfigError::at(Path::new("c.toml"), "x", 0..1, "wrong".into(), Some("mend it".into()));
        let whole = ConfigError::whole(Path::new("d.toml"), "could not read".into(), None);
        assert_eq!(ConfigErrors(vec![at, whole]).to_string(), "c.toml:1:1: wrong — mend it\nd.toml: could not read");
    }
}
