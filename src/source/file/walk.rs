//! Paths that match a glob. Unlike the usual walkers it tells "nothing there" from "could not look".

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern, PatternError};

use crate::domain::inventory::{Obstacle, ObstacleKind};
use crate::source::target::is_glob;
use crate::store::file::disk;

/// A glob that matches more is a mistake, such as `/**`.
const MOST_MATCHES: usize = 100_000;

/// Hidden files and directories are matched only by a pattern that begins with a dot, so that drafts
/// and older generations are not.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Sorted, each one once.
    pub(super) paths: Vec<PathBuf>,
    /// Directories that could not be listed.
    pub(super) failures: Vec<Obstacle>,
}

pub(super) fn walk(pattern: &str) -> Walk {
    let mut walk = Walk::default();
    let root = if pattern.starts_with('/') { Path::new("/") } else { Path::new("") };
    match steps(pattern) {
        Ok(steps) => walk.follow(root, &steps),
        Err(error) => {
            let message = format!("not a glob, {error}: {pattern}");
            walk.fail(Obstacle::new(ObstacleKind::NotUnderstood, message));
        }
    }
    walk.paths.sort();
    walk.paths.dedup();
    walk
}

/// One component of a pattern.
enum Step {
    Literal(String),
    Wild(Pattern),
    /// `**`: this directory and all below it.
    Below,
}

fn steps(pattern: &str) -> Result<Vec<Step>, PatternError> {
    let components = pattern.split('/').filter(|component| !component.is_empty());
    let mut steps = components
        .map(|component| match component {
            "**" => Ok(Step::Below),
            wild if is_glob(wild) => Pattern::new(wild).map(Step::Wild),
            literal => Ok(Step::Literal(literal.to_string())),
        })
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(Step::Below) = steps.last() {
        steps.push(Step::Wild(Pattern::new("*")?));
    }
    Ok(steps)
}

impl Walk {
    fn follow(&mut self, base: &Path, steps: &[Step]) {
        let Some((step, rest)) = steps.split_first() else { return self.take(base) };
        match step {
            Step::Literal(name) => self.follow(&base.join(name), rest),
            Step::Wild(pattern) => {
                for path in self.list(base, |name| pattern.matches_with(name, OPTIONS)) {
                    self.follow(&path, rest);
                }
            }
            Step::Below => {
                self.follow(base, rest);
                // A link to a directory above would never end.
                let is_own = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
                for path in self.list(base, |name| !name.starts_with('.')).into_iter().filter(is_own) {
                    self.follow(&path, steps);
                }
            }
        }
    }

    fn take(&mut self, path: &Path) {
        match fs::symlink_metadata(path) {
            Ok(_) if self.paths.len() >= MOST_MATCHES => self.stop(),
            Ok(_) => self.paths.push(path.to_path_buf()),
            Err(error) => self.note(path.parent().unwrap_or(path), &error),
        }
    }

    fn stop(&mut self) {
        let message = format!("the glob matches more than {MOST_MATCHES} files: make it narrower");
        self.fail(Obstacle::new(ObstacleKind::TooLarge, message));
    }

    /// A directory that several steps come by is told once.
    fn fail(&mut self, obstacle: Obstacle) {
        if !self.failures.contains(&obstacle) {
            self.failures.push(obstacle);
        }
    }

    fn list(&mut self, directory: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let opened = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let listed = fs::read_dir(opened).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        match listed {
            Ok(entries) => entries
                .into_iter()
                .map(|entry| entry.file_name())
                .filter(|name| wanted(&name.to_string_lossy()))
                .map(|name| directory.join(name))
                .collect(),
            Err(error) => {
                self.note(directory, &error);
                Vec::new()
            }
        }
    }

    /// What went away between two looks, or never was there, simply does not match.
    fn note(&mut self, path: &Path, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {}
            _ => self.fail(disk::obstacle("look into", path, error)),
        }
    }
}
