//! How an `[[adopt]]` rule's names depend on the folders that it covers: `{n}` is the n-th segment below the first.

use super::rules::Fault;
use super::{Adopt, Found};
use crate::domain::name::NamePattern;

/// The segments of a path as `paths` has it, without the first.
fn below(path: &str) -> Vec<&str> {
    path.trim_matches('/').split('/').skip(1).collect()
}

fn is_wild(segment: &str) -> bool {
    segment.contains(['*', '?'])
}

/// Every secret of this path has at least so many segments below the first.
fn shortest(path: &str) -> usize {
    let segments = below(path);
    let last = segments.len().saturating_sub(1);
    segments.iter().enumerate().filter(|(i, segment)| *i == last || **segment != "**").count()
}

/// Refuses a `{n}` that some secret of the rule's paths has no segment for.
pub(super) fn bound(pattern: &str, rule: &Adopt) -> Result<(), Fault> {
    let Some(pattern) = NamePattern::new(pattern) else { return Ok(()) };
    let Found::VaultKv(found) = &rule.found;
    for number in pattern.segments() {
        for path in found.paths.get_ref() {
            let most = shortest(path.get_ref());
            if number > most {
                return Err(Fault {
                    what: format!("{{{number}}} is no segment of every secret below {:?}", path.get_ref()),
                    hint: format!("{{1}} is the first segment below the mount; use {{1}} to {{{most}}} here"),
                });
            }
        }
    }
    Ok(())
}

/// Whether whoever writes to one folder of the rule may claim the names of another.
pub fn mixes_folders(rule: &Adopt) -> bool {
    let Found::VaultKv(found) = &rule.found;
    let patterns = || rule.names.get_ref().iter().filter_map(|pattern| NamePattern::new(pattern.get_ref()));
    let several = found.paths.get_ref().iter().map(|path| path.get_ref().as_str()).filter(|path| covers_several(path));
    several.into_iter().any(|path| patterns().any(|pattern| !is_bound(&pattern, path)))
}

/// A wildcard stands for a folder: with more behind it, or as `**`.
fn covers_several(path: &str) -> bool {
    let segments = below(path);
    let last = segments.len().saturating_sub(1);
    segments.iter().enumerate().any(|(i, segment)| is_wild(segment) && (i < last || *segment == "**"))
}

/// Whether a segment of the pattern is one that differs from folder to folder.
fn is_bound(pattern: &NamePattern, path: &str) -> bool {
    let segments = below(path);
    pattern.segments().into_iter().any(|number| {
        let after_any_depth = segments.iter().take(number).any(|segment| *segment == "**");
        after_any_depth || segments.get(number - 1).is_some_and(|segment| is_wild(segment))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_that_stands_for_a_folder_covers_several() {
        for (path, several) in [
            ("secret/tls/*/web", true),
            ("secret/tls/**", true),
            ("secret/**/web", true),
            ("secret/team-?/tls/web", true),
            ("secret/tls/*", false),
            ("secret/tls/web", false),
        ] {
            assert_eq!(covers_several(path), several, "{path}");
        }
    }

    #[test]
    fn a_pattern_is_bound_by_a_segment_that_differs_from_folder_to_folder() {
        for (pattern, path, bound) in [
            ("*.{2}.example.org", "secret/tls/*/web", true),
            ("*.{2}.example.org", "secret/tls/**", true),
            ("*.{3}.example.org", "secret/tls/**", true),
            ("*.{1}.example.org", "secret/tls/**", false),
            ("*.{3}.example.org", "secret/tls/*/web", false),
            ("*.example.org", "secret/tls/*/web", false),
        ] {
            assert_eq!(is_bound(&NamePattern::new(pattern).unwrap(), path), bound, "{pattern} {path}");
        }
    }

    #[test]
    fn a_path_has_as_many_segments_as_its_shortest_secret() {
        for (path, segments) in [("secret/tls/web", 2), ("secret/tls/**", 2), ("secret/**/web", 1), ("secret/*/a/*", 3)]
        {
            assert_eq!(shortest(path), segments, "{path}");
        }
    }
}
