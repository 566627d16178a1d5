//! Paths as Vault's policies write them, and which of several rules Vault goes by.

use std::cmp::Reverse;
use std::fmt;

/// `+` stands for one whole segment, which may be empty, and `*` at the very end for anything. Everything else
/// stands for itself (Vault's documentation of policies, "Policy syntax").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    text: String,
    /// No wildcard is in it.
    is_exact: bool,
}

/// In place of a wildcard, where Vault is asked about a path that a pattern stands for. It is the name of no secret.
const ANY_NAME: &str = "certd-doctor";

impl Pattern {
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let is_exact = !text.ends_with('*') && text.split('/').all(|segment| segment != "+");
        Self { text, is_exact }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn is_exact(&self) -> bool {
        self.is_exact
    }

    /// Whether all that it stands for are folders, to be listed.
    pub fn is_folder(&self) -> bool {
        self.text.ends_with('/')
    }

    /// A path that it stands for.
    pub fn example(&self) -> String {
        let example = |segment: &str| match segment.strip_suffix('*') {
            _ if segment == "+" => ANY_NAME.to_string(),
            Some(start) => format!("{start}{ANY_NAME}"),
            None => segment.to_string(),
        };
        self.segments().map(example).collect::<Vec<_>>().join("/")
    }

    pub fn matches(&self, path: &str) -> bool {
        match self.is_exact {
            true => self.text == path,
            false => self.covers(&Self::new(path)),
        }
    }

    /// Whether it stands for every path that the other stands for.
    pub fn covers(&self, other: &Self) -> bool {
        covers(&self.segments().collect::<Vec<_>>(), &other.segments().collect::<Vec<_>>())
    }

    /// Whether there is a path that both stand for.
    pub fn meets(&self, other: &Self) -> bool {
        meets(&self.segments().collect::<Vec<_>>(), &other.segments().collect::<Vec<_>>())
    }

    /// Whether there is a folder that the other stands for, and this one for its path without the slash at the
    /// end: to list it Vault may go by this one. (Vault looks for it first; OpenBao 2.7 so if it is exact, and
    /// else last.)
    pub fn meets_as_folder(&self, other: &Self) -> bool {
        !self.text.ends_with('*') && Self::new(format!("{}/", self.text)).meets(other)
    }

    /// Of all rules for a path, Vault goes by one alone: the one whose pattern is the greatest in this order
    /// (Vault's documentation of policies, "Priority matching").
    pub fn rank(&self) -> impl Ord + use<'_> {
        let is_prefix = self.text.ends_with('*');
        let length = self.text.len() - usize::from(is_prefix);
        let wildcards = self.segments().filter(|segment| *segment == "+").count();
        let first_wildcard = if self.is_exact() { usize::MAX } else { self.first_wildcard().unwrap_or(length) };
        (first_wildcard, !is_prefix, Reverse(wildcards), length, self.text.as_str())
    }

    /// In bytes from the start.
    fn first_wildcard(&self) -> Option<usize> {
        let mut start = 0;
        for segment in self.segments() {
            if segment == "+" {
                return Some(start);
            }
            start += segment.len() + 1;
        }
        None
    }

    fn segments(&self) -> std::str::Split<'_, char> {
        self.text.split('/')
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The last segment of a pattern without its `*`, where it has one.
fn prefix<'a>(segments: &[&'a str]) -> Option<&'a str> {
    match segments {
        [last] => last.strip_suffix('*'),
        _ => None,
    }
}

fn covers(wide: &[&str], narrow: &[&str]) -> bool {
    if let Some(start) = prefix(wide) {
        return match narrow {
            [] => false,
            ["+", ..] => start.is_empty(),
            [segment, ..] => segment.starts_with(start),
        };
    }
    match (wide, narrow) {
        ([], []) => true,
        ([], _) | (_, []) => false,
        // A `*` stands for several segments, which a `+` does not.
        (_, _) if prefix(narrow).is_some() => false,
        ([a, wide @ ..], [b, narrow @ ..]) => (*a == "+" || a == b) && covers(wide, narrow),
    }
}

fn meets(one: &[&str], other: &[&str]) -> bool {
    match (prefix(one), prefix(other)) {
        (Some(a), Some(b)) => a.starts_with(b) || b.starts_with(a),
        (Some(start), None) => begins_with(other, start),
        (None, Some(start)) => begins_with(one, start),
        (None, None) => match (one, other) {
            ([], []) => true,
            ([], _) | (_, []) => false,
            ([a, one @ ..], [b, other @ ..]) => (*a == "+" || *b == "+" || a == b) && meets(one, other),
        },
    }
}

fn begins_with(segments: &[&str], start: &str) -> bool {
    segments.first().is_some_and(|first| *first == "+" || first.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text)
    }

    #[test]
    fn a_plus_is_one_segment_and_a_star_at_the_end_is_anything() {
        for (text, path, expected) in [
            ("kv/data/tls/*", "kv/data/tls/web", true),
            ("kv/data/tls/*", "kv/data/tls/a/b", true),
            ("kv/data/tls/*", "kv/data/tls/", true),
            ("kv/data/tls/*", "kv/data/tls", false),
            ("kv/data/w*", "kv/data/web/x", true),
            ("kv/data/w*", "kv/data/api", false),
            ("kv/data/+", "kv/data/web", true),
            ("kv/data/+", "kv/data/", true),
            ("kv/data/+", "kv/data/a/b", false),
            ("kv/data/+/web", "kv/data/a/web", true),
            ("kv/data/+/web", "kv/data/web", false),
            ("kv/data/w+", "kv/data/web", false),
            ("kv/data/web", "kv/data/web", true),
        ] {
            assert_eq!(pattern(text).matches(path), expected, "{text} {path}");
        }
    }

    #[test]
    fn the_wider_pattern_covers_and_patterns_that_share_a_path_meet() {
        for (one, other, covers, meets) in [
            ("kv/*", "kv/data/*", true, true),
            ("kv/data/*", "kv/*", false, true),
            ("kv/data/*", "kv/data/+", true, true),
            ("kv/data/+", "kv/data/*", false, true),
            ("kv/data/+", "kv/data/web", true, true),
            ("kv/data/+", "kv/data/w*", false, true),
            ("kv/data/w*", "kv/data/+", false, true),
            ("kv/data/w*", "kv/data/a*", false, false),
            ("kv/data/+/web", "kv/data/a/+", false, true),
            ("kv/data/+/web", "kv/data/a/api", false, false),
            ("kv/data/a", "kv/data/a/*", false, false),
            ("kv/data/a/b", "kv/data/a", false, false),
        ] {
            assert_eq!(pattern(one).covers(&pattern(other)), covers, "{one} covers {other}");
            assert_eq!(pattern(one).meets(&pattern(other)), meets, "{one} meets {other}");
            assert_eq!(pattern(other).meets(&pattern(one)), meets, "{other} meets {one}");
        }
        assert!(pattern("kv/a").meets_as_folder(&pattern("kv/a/*")));
        assert!(pattern("kv/+").meets_as_folder(&pattern("kv/a/*")));
        assert!(!pattern("kv/b").meets_as_folder(&pattern("kv/a/*")));
    }

    #[test]
    fn the_example_is_one_of_its_paths() {
        for (text, example) in [
            ("kv/data/tls/*", "kv/data/tls/certd-doctor"),
            ("kv/data/w*", "kv/data/wcertd-doctor"),
            ("kv/metadata/+/", "kv/metadata/certd-doctor/"),
            ("kv/data/web", "kv/data/web"),
        ] {
            assert_eq!(pattern(text).example(), example);
            assert!(pattern(text).matches(example));
        }
    }
}
