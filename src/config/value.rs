//! Values with a form of their own: lengths of time, thresholds, paths, roots, lists.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use toml::Spanned;

use crate::domain::hidden::path_lookalike;
use crate::domain::policy::{Share, Threshold};

/// A length of time as in `"14d"`, `"90m"` or `"1h30m"`; a day is 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// What a length of time looks like, for messages.
const PERIOD: &str = "a length of time such as \"14d\", \"1h30m\" or \"10s\"";

/// What a threshold looks like, for messages.
const THRESHOLD: &str = "a share of the lifetime such as \"20%\", or a length of time such as \"14d\"";

pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("not {PERIOD}: {text:?}");
    // `SignedDuration` would refuse days.
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(length).map_err(|_| wrong())
}

/// `"20%"` (at least 0, under 100, up to four decimals) or a length of time.
pub fn threshold(text: &str) -> Result<Threshold, String> {
    let Some(percent) = text.strip_suffix('%') else {
        return duration(text).map(Threshold::Left).map_err(|_| format!("not {THRESHOLD}: {text:?}"));
    };
    match millionths(percent.trim_end()) {
        Some(millionths) if millionths < 1_000_000 => Ok(Threshold::Share(Share::millionths(millionths))),
        Some(_) => Err(format!("a share of the lifetime must be under 100%: {text:?}")),
        None => Err(format!("not {THRESHOLD}: {text:?}")),
    }
}

fn millionths(percent: &str) -> Option<u32> {
    let (whole, decimals) = percent.split_once('.').unwrap_or((percent, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 4 {
        return None;
    }
    whole.parse::<u32>().ok()?.checked_mul(10_000)?.checked_add(format!("{decimals:0<4}").parse().ok()?)
}

/// A path as written. Only [`FilePath::below`] makes one that can be opened, so none is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePath(PathBuf);

impl FilePath {
    pub fn below(&self, directory: &Path) -> PathBuf {
        below(directory.to_path_buf(), &self.0)
    }

    /// The same for a glob: signs in the directory's own name stand for themselves.
    pub fn glob_below(&self, directory: &Path) -> String {
        let escaped = glob::Pattern::escape(&directory.to_string_lossy());
        below(PathBuf::from(escaped), &self.0).to_string_lossy().into_owned()
    }

    pub fn as_written(&self) -> &Path {
        &self.0
    }
}

impl From<&str> for FilePath {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// Leading `..` go up from a directory that holds no symbolic links; a later one is the kernel's to follow.
fn below(mut directory: PathBuf, path: &Path) -> PathBuf {
    if path.is_absolute() {
        return path.to_path_buf();
    }
    let mut leading = true;
    for component in path.components() {
        match component {
            Component::ParentDir if leading => drop(directory.pop()),
            Component::CurDir => {}
            Component::ParentDir | Component::Normal(_) | Component::RootDir | Component::Prefix(_) => {
                leading = false;
                directory.push(component);
            }
        }
    }
    directory
}

/// What a chain must verify to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    System,
    None,
    Files(Vec<FilePath>),
}

/// Reads text by a function; the error then points at the text.
struct Text<T> {
    expected: &'static str,
    read: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text { expected: PERIOD, read: |text| duration(text).map(Self) })
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text { expected: THRESHOLD, read: threshold })
    }
}

impl<'de> Deserialize<'de> for FilePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| match text {
            "" => Err("a path cannot be empty".to_string()),
            text if path_lookalike(text).is_some() || text.contains(char::is_control) => {
                Err("the path of a file belongs here, not a key or token: put it into a file of its own, and begin \
                     a path of one long word with ./"
                    .to_string())
            }
            text => Ok(Self::from(text)),
        };
        deserializer.deserialize_str(Text { expected: "a path", read })
    }
}

impl<'de> Deserialize<'de> for Roots {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RootsVisitor)
    }
}

struct RootsVisitor;

impl<'de> Visitor<'de> for RootsVisitor {
    type Value = Roots;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"system\", \"none\" or a list of PEM files")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Roots, E> {
        match text {
            "system" => Ok(Roots::System),
            "none" => Ok(Roots::None),
            other => Err(E::custom(format!("roots are \"system\", \"none\" or a list of PEM files, not {other:?}"))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Roots, A::Error> {
        let mut files = Vec::new();
        while let Some(file) = seq.next_element()? {
            files.push(file);
        }
        match files.is_empty() {
            true => Err(A::Error::custom("no root is listed: name a PEM file, or write \"system\" or \"none\"")),
            false => Ok(Roots::Files(files)),
        }
    }
}

/// A list, or one string that stands for a list of one.
pub(super) fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Spanned<String>>, D::Error> {
    let value = Spanned::<OneOrMany>::deserialize(deserializer)?;
    let span = value.span();
    Ok(match value.into_inner() {
        OneOrMany::One(text) => vec![Spanned::new(span, text)],
        OneOrMany::Many(texts) => texts,
    })
}

enum OneOrMany {
    One(String),
    Many(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

struct OneOrManyVisitor;

impl<'de> Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<OneOrMany, E> {
        Ok(OneOrMany::One(text.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMany, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = seq.next_element()? {
            names.push(name);
        }
        Ok(OneOrMany::Many(names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_24_hours_and_m_is_minutes() {
        for (text, seconds) in
            [("14d", 1_209_600), ("90m", 5_400), ("3m", 180), ("1h30m", 5_400), ("1w", 604_800), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn refuses_a_length_of_time_that_is_not_fixed() {
        for text in ["", "10", "1mo", "1y", "-3d", "3 monkeys", "20%"] {
            assert_eq!(
                duration(text),
                Err(format!("not a length of time such as \"14d\", \"1h30m\" or \"10s\": {text:?}"))
            );
        }
    }

    #[test]
    fn a_threshold_is_a_share_or_a_length_of_time() {
        let share = |millionths| Ok(Threshold::Share(Share::millionths(millionths)));
        assert_eq!(threshold("20%"), share(200_000));
        assert_eq!(threshold("0%"), share(0));
        assert_eq!(threshold("16.67 %"), share(166_700));
        assert_eq!(threshold("99.9999%"), share(999_999));
        assert_eq!(threshold("14d"), Ok(Threshold::Left(Duration::from_secs(1_209_600))));
        assert_eq!(threshold("100%"), Err("a share of the lifetime must be under 100%: \"100%\"".into()));
        for text in ["%", "-1%", "1.%", "1.00001%", "+5%", "99999999999%", "x"] {
            assert!(threshold(text).is_err_and(|why| why.starts_with("not a share")), "{text}");
        }
    }

    #[test]
    fn relative_paths_start_at_the_directory_and_absolute_ones_stay() {
        let below = |path: &str| FilePath::from(path).below(Path::new("/etc/certd"));
        assert_eq!(below("a/b.pem"), Path::new("/etc/certd/a/b.pem"));
        assert_eq!(below("./a"), Path::new("/etc/certd/a"));
        assert_eq!(below("../ssl/a"), Path::new("/etc/ssl/a"));
        assert_eq!(below("a/../b"), Path::new("/etc/certd/a/../b"));
        assert_eq!(below("/x"), Path::new("/x"));
        assert_eq!(FilePath::from("*.pem").glob_below(Path::new("/a[1]")), "/a[[]1[]]/*.pem");
    }
}
