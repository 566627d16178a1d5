//! Globs of certd as patterns of Vault's policies: what is read and what is listed for one, below its mount.
//! Where Vault's patterns cannot say it as narrowly, they say more.

const ANY_DEPTH: &str = "**";

/// Stands for every secret that the glob means.
pub fn secrets(segments: &[&str]) -> String {
    let mut out = Vec::new();
    for (i, &segment) in segments.iter().enumerate() {
        let rest = &segments[i + 1..];
        let start = segment.split(['*', '?']).next().unwrap_or_default();
        if segment == ANY_DEPTH {
            out.push("*".to_string());
            break;
        }
        if is_wild(segment) && !start.is_empty() && matches!(rest, [] | [ANY_DEPTH, ..]) {
            out.push(format!("{start}*"));
            break;
        }
        out.push(widened(segment).to_string());
    }
    out.join("/")
}

/// Stand for every folder that is listed to find them; none for the path of one secret.
pub fn folders(segments: &[&str]) -> Vec<String> {
    let mut folders = Vec::new();
    let Some(first) = segments.iter().position(|segment| is_wild(segment)) else { return folders };
    for (depth, segment) in segments.iter().enumerate().skip(first) {
        let folder: String = segments[..depth].iter().map(|segment| format!("{}/", widened(segment))).collect();
        if *segment == ANY_DEPTH {
            folders.push(format!("{folder}*"));
            break;
        }
        folders.push(folder);
    }
    folders
}

/// Whether [`secrets`] stands for just those that the glob means.
pub fn is_exact(segments: &[&str]) -> bool {
    let before_the_last = &segments[..segments.len().saturating_sub(1)];
    !before_the_last.contains(&ANY_DEPTH)
        && segments.iter().all(|segment| !is_wild(segment) || matches!(*segment, "*" | ANY_DEPTH))
}

fn widened(segment: &str) -> &str {
    if is_wild(segment) { "+" } else { segment }
}

fn is_wild(segment: &str) -> bool {
    segment.contains(['*', '?'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rights::pattern::Pattern;
    use crate::source::path_glob::PathGlob;

    #[test]
    fn a_glob_becomes_the_narrowest_pattern_that_covers_it() {
        for (glob, pattern, listed, exact) in [
            ("web", "web", &[][..], true),
            ("tls/**", "tls/*", &["tls/*"], true),
            ("**", "*", &["*"], true),
            ("tls/*", "tls/+", &["tls/"], true),
            ("*/tls/**", "+/tls/*", &["", "+/", "+/tls/*"], true),
            ("tls/*/web", "tls/+/web", &["tls/", "tls/+/"], true),
            ("tls/w*", "tls/w*", &["tls/"], false),
            ("tls/w?b", "tls/w*", &["tls/"], false),
            ("tls/*b", "tls/+", &["tls/"], false),
            ("a*/web", "+/web", &["", "+/"], false),
            ("a*/**", "a*", &["", "+/*"], false),
            ("**/web", "*", &["*"], false),
            ("tls/**/web-?", "tls/*", &["tls/*"], false),
        ] {
            let segments: Vec<&str> = glob.split('/').collect();
            assert_eq!(secrets(&segments), pattern, "{glob}");
            assert_eq!(folders(&segments), listed, "{glob}");
            assert_eq!(is_exact(&segments), exact, "{glob}");
        }
    }

    #[test]
    fn no_secret_and_no_folder_of_a_glob_is_left_out() {
        let names = ["a", "b", "web", "w1", "tls"];
        let mut paths: Vec<String> = names.map(String::from).to_vec();
        for _ in 0..2 {
            let deeper = paths.iter().flat_map(|path| names.iter().map(move |name| format!("{path}/{name}")));
            let deeper: Vec<String> = deeper.collect();
            paths.extend(deeper);
        }
        for glob in ["**", "*", "*/*", "w*", "w*/**", "**/web", "a/**/w?", "*/tls/**", "?/*b/web", "a/b/web", "t*/w*"] {
            let (whole, segments) =
                (PathGlob::new(&format!("kv/{glob}")).unwrap(), glob.split('/').collect::<Vec<_>>());
            let (read, listed) = (Pattern::new(secrets(&segments)), folders(&segments));
            for path in &paths {
                let at = format!("kv/{path}");
                assert!(!whole.matches(&at) || read.matches(path), "{glob} reads {path}");
                let is_listed = listed.iter().any(|folder| Pattern::new(folder).matches(&format!("{path}/")));
                let below = at.starts_with(&whole.folder()) && whole.reaches_into(&at) && whole.literal().is_none();
                assert!(!below || is_listed, "{glob} lists {path}/");
            }
        }
    }
}
