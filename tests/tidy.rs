//! Rules of the house that the compiler does not know. Each breach is told as `file:line`.

use std::fs;
use std::path::{Path, PathBuf};

/// What reads a clock, rolls dice, waits or touches the world outside.
const IMPURE: [&str; 15] = [
    "tokio",
    "async fn",
    ".await",
    "std::fs",
    "std::env",
    "std::process",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "Zoned::now",
    "rand",
    "thread",
];

/// Ways to print, which are no business of a rule either.
const PRINTS: [&str; 4] = ["print!", "println!", "eprint!", "eprintln!"];

/// Spelt in halves, so that this file keeps its own rule.
const UNFINISHED: [&str; 4] =
    [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("#[", "ignore"), concat!("db", "g!")];

/// Lines of code, tests and comments aside: about what one sitting can read.
const LONGEST_FILE: usize = 400;

#[test]
fn the_rules_stay_pure() {
    let mut breaches = Vec::new();
    for file in sources("src/domain") {
        for (number, line) in file.code() {
            let words = IMPURE.iter().chain(&PRINTS).filter(|word| says(line, word));
            breaches.extend(words.map(|word| file.at(number, format!("the domain knows no `{word}`"))));
        }
    }
    none(breaches);
}

#[test]
fn every_module_opens_by_saying_what_it_is() {
    let silent = |file: &Source| !file.text.starts_with("//! ");
    none(
        sources("src").iter().filter(|file| silent(file)).map(|file| file.at(1, "should open with `//! …`")).collect(),
    );
}

#[test]
fn no_file_is_longer_than_one_sitting() {
    let breach = |file: &Source| {
        // A file of nothing but tests is measured by its tests, one at a time.
        if file.path.ends_with("tests.rs") {
            return None;
        }
        let lines = file.code();
        let (number, _) = *lines.get(LONGEST_FILE)?;
        Some(file.at(number, format!("{} lines of code where {LONGEST_FILE} are allowed", lines.len())))
    };
    none(sources("src").iter().filter_map(breach).collect());
}

#[test]
fn nothing_is_left_unfinished_or_skipped() {
    let mut breaches = Vec::new();
    for file in ["src", "tests", "benches", "examples"].into_iter().flat_map(sources) {
        for (number, line) in file.lines() {
            let words = UNFINISHED.iter().filter(|word| says(line, word));
            breaches.extend(words.map(|word| file.at(number, format!("finish it instead of `{word}`"))));
        }
    }
    none(breaches);
}

#[test]
fn these_rules_see_what_they_forbid() {
    let file = Source {
        path: "a.rs".into(),
        text: "//! A rule.\n\nuse rand::Rng; // dice\n/// Instant\nlet operand = 1;\n#[cfg(test)]\nmod tests {\n  tokio\n}".into(),
    };
    let code: Vec<_> = file.code();
    assert_eq!(code, [(3, "use rand::Rng; // dice"), (5, "let operand = 1;")]);
    assert!(says(code[0].1, "rand"));
    assert!(!says(code[1].1, "rand"), "a word within a word is another word");
    assert!(says("  .await?", ".await"));
    for word in UNFINISHED {
        assert!(says(&format!("x = {word}]()"), word), "{word}");
    }
    assert!(!says("fn instants()", "Instant"));
    assert!(says("eprintln!(\"\")", "eprintln!") && !says("eprintln!(\"\")", "println!"));
    assert_eq!(file.at(3, "no dice"), "a.rs:3: no dice");
}

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// Numbered from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(i, line)| (i + 1, line))
    }

    /// Without blank lines, comments and the tests that close a file.
    fn code(&self) -> Vec<(usize, &str)> {
        let lines: Vec<_> = self.lines().collect();
        let tests = lines.windows(2).position(|two| two[0].1 == "#[cfg(test)]" && two[1].1.starts_with("mod tests"));
        let code = &lines[..tests.unwrap_or(lines.len())];
        let is_code = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
        code.iter().filter(|(_, line)| is_code(line)).copied().collect()
    }

    fn at(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{line}: {what}", self.path.display())
    }
}

/// Whether `word` stands in `line`, not as a part of a longer word.
fn says(line: &str, word: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let joins = |edge: Option<char>, beyond: Option<char>| edge.is_some_and(in_word) && beyond.is_some_and(in_word);
    line.match_indices(word).any(|(start, found)| {
        let (before, after) = (&line[..start], &line[start + found.len()..]);
        !joins(found.chars().next(), before.chars().next_back())
            && !joins(found.chars().next_back(), after.chars().next())
    })
}

/// Every Rust file below a folder of the repository, in order; none where there is no such folder.
fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty() || !folder.starts_with("src"), "no sources found below {folder}");
    files.sort();
    let short = |path: &Path| path.strip_prefix(root).expect("it was found below the root").to_path_buf();
    files.iter().map(|path| Source { path: short(path), text: fs::read_to_string(path).unwrap() }).collect()
}

fn none(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}
