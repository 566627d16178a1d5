//! Which paths of a Vault are meant: `secret/tls/**`, `secret/*/web-?`, `secret/tls/web`.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};

/// `*` and `?` stand for characters within a segment, `**` as a whole segment for any number of
/// segments, and for at least one at the end. Everything else stands for itself.
#[derive(Clone, Debug)]
pub struct PathGlob {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug)]
enum Segment {
    Literal(String),
    Glob(GlobMatcher),
    AnyDepth,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a path in Vault such as `secret/tls/**`: {text}: {why}")]
pub struct NotAPathGlob {
    pub text: String,
    pub why: &'static str,
}

impl PathGlob {
    pub fn new(text: &str) -> Result<Self, NotAPathGlob> {
        let refused = |why| NotAPathGlob { text: text.to_string(), why };
        let parts: Vec<&str> = text.trim_matches('/').split('/').collect();
        if parts.iter().any(|part| matches!(*part, "" | "." | "..") || part.contains(char::is_control)) {
            return Err(refused("it has an empty segment, `.`, `..` or a control character"));
        }
        if parts[0].contains(['*', '?']) {
            return Err(refused("it must begin with the name of a mount"));
        }
        if parts.iter().any(|part| *part != "**" && part.contains("**")) {
            return Err(refused("`**` must be a whole segment"));
        }
        if text.contains(['*', '?']) && text.contains(['[', ']', '{', '}']) {
            return Err(refused("only `*`, `?` and `**` are wildcards"));
        }
        let segment = |part: &&str| Segment::new(part).ok_or_else(|| refused("it is too large"));
        Ok(Self { text: parts.join("/"), segments: parts.iter().map(segment).collect::<Result<_, _>>()? })
    }

    /// The path itself, where no wildcard is in it.
    pub fn literal(&self) -> Option<&str> {
        self.segments.iter().all(|segment| matches!(segment, Segment::Literal(_))).then_some(self.text.as_str())
    }

    /// The deepest folder that holds everything that could match.
    pub fn folder(&self) -> String {
        let literal = self.segments[..self.segments.len() - 1].iter().map_while(|segment| match segment {
            Segment::Literal(name) => Some(name.as_str()),
            Segment::Glob(_) | Segment::AnyDepth => None,
        });
        literal.collect::<Vec<_>>().join("/")
    }

    pub fn matches(&self, path: &str) -> bool {
        matches(&self.segments, &path.split('/').collect::<Vec<_>>())
    }

    /// Whether something below this folder could match.
    pub fn reaches_into(&self, folder: &str) -> bool {
        reaches_into(&self.segments, &folder.split('/').collect::<Vec<_>>())
    }

    /// Whether everything below this folder matches.
    pub fn covers(&self, folder: &str) -> bool {
        matches!(self.segments.last(), Some(Segment::AnyDepth)) && self.matches(&format!("{folder}/x"))
    }
}

impl Segment {
    fn new(text: &str) -> Option<Self> {
        if text == "**" {
            return Some(Self::AnyDepth);
        }
        if !text.contains(['*', '?']) {
            return Some(Self::Literal(text.to_string()));
        }
        let escaped: String = text
            .chars()
            .map(|c| match c {
                '*' | '?' => c.to_string(),
                other => globset::escape(&other.to_string()),
            })
            .collect();
        let glob = GlobBuilder::new(&escaped).literal_separator(true).backslash_escape(false).build();
        Some(Self::Glob(glob.ok()?.compile_matcher()))
    }

    fn is(&self, name: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == name,
            Self::Glob(glob) => glob.is_match(name),
            Self::AnyDepth => true,
        }
    }
}

fn matches(segments: &[Segment], path: &[&str]) -> bool {
    match (segments, path) {
        ([], []) => true,
        ([], _) | (_, []) => false,
        ([Segment::AnyDepth], _) => true,
        ([Segment::AnyDepth, rest @ ..], _) => (0..path.len()).any(|skipped| matches(rest, &path[skipped..])),
        ([segment, rest @ ..], [name, below @ ..]) => segment.is(name) && matches(rest, below),
    }
}

fn reaches_into(segments: &[Segment], folder: &[&str]) -> bool {
    match (segments, folder) {
        ([Segment::AnyDepth, ..], _) => true,
        ([], _) => false,
        (_, []) => true,
        ([segment, rest @ ..], [name, below @ ..]) => segment.is(name) && reaches_into(rest, below),
    }
}

impl fmt::Display for PathGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> PathGlob {
        PathGlob::new(text).unwrap()
    }

    #[test]
    fn a_glob_matches_what_it_says() {
        for (text, path, expected) in [
            ("secret/tls/**", "secret/tls/web", true),
            ("secret/tls/**", "secret/tls/a/b/c", true),
            ("secret/tls/**", "secret/tls", false),
            ("secret/tls/**", "secret/tlsx/a", false),
            ("secret/tls/*", "secret/tls/web", true),
            ("secret/tls/*", "secret/tls/a/b", false),
            ("secret/tls/w?b", "secret/tls/web", true),
            ("secret/tls/w?b", "secret/tls/wb", false),
            ("secret/**/web", "secret/web", true),
            ("secret/**/web", "secret/a/b/web", true),
            ("secret/**/web", "secret/a/b/api", false),
            ("secret/*/tls/**", "secret/a/tls/b", true),
            ("secret/*/tls/**", "secret/a/b/tls/c", false),
            ("secret/tls/web", "secret/tls/web", true),
            ("/secret/tls/web/", "secret/tls/web", true),
            ("secret/[a]", "secret/[a]", true),
            ("secret/[a]", "secret/a", false),
            ("secret/a\\*", "secret/a\\b", true),
        ] {
            assert_eq!(glob(text).matches(path), expected, "{text} {path}");
        }
    }

    #[test]
    fn only_folders_that_could_hold_a_match_are_listed() {
        for (text, folder, expected) in [
            ("secret/tls/**", "secret/tls/a", true),
            ("secret/tls/**", "secret/other", false),
            ("secret/*/tls/*", "secret/a", true),
            ("secret/*/tls/*", "secret/a/tls", true),
            ("secret/*/tls/*", "secret/a/other", false),
            ("secret/*/tls/*", "secret/a/tls/b", false),
            ("secret/tls/*", "secret/tls/a", false),
            ("secret/**/web", "secret/a/b", true),
        ] {
            assert_eq!(glob(text).reaches_into(folder), expected, "{text} {folder}");
        }
        assert!(glob("secret/tls/old/**").covers("secret/tls/old"));
        assert!(!glob("secret/tls/old/*").covers("secret/tls/old"));
        assert!(!glob("secret/tls/old/**").covers("secret/tls"));
    }

    #[test]
    fn listing_begins_at_the_deepest_folder_without_a_wildcard() {
        for (text, folder, literal) in [
            ("secret/tls/**", "secret/tls", None),
            ("secret/tls/w*", "secret/tls", None),
            ("secret/*/x", "secret", None),
            ("secret/tls/web", "secret/tls", Some("secret/tls/web")),
        ] {
            assert_eq!(glob(text).folder(), folder);
            assert_eq!(glob(text).literal(), literal);
        }
    }

    #[test]
    fn refuses_what_could_reach_another_place() {
        for (text, why) in [
            ("", "it has an empty segment, `.`, `..` or a control character"),
            ("secret/../sys", "it has an empty segment, `.`, `..` or a control character"),
            ("secret//a", "it has an empty segment, `.`, `..` or a control character"),
            ("*/tls", "it must begin with the name of a mount"),
            ("**", "it must begin with the name of a mount"),
            ("secret/{a,b}/*", "only `*`, `?` and `**` are wildcards"),
            ("secret/a**", "`**` must be a whole segment"),
        ] {
            assert_eq!(PathGlob::new(text).unwrap_err().why, why, "{text:?}");
        }
    }
}
