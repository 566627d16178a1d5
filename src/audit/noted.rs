//! A head that was noted elsewhere beside the log as it is now: whether the log still holds it.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::chain::{Head, LineHash};
use super::file::{files, rotated_after};
use super::verify::{ReadError, each_line, open_own};

/// How the log stands to a head that was noted earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The log holds it, and may go on behind it.
    Held,
    /// The log ends before it.
    CutOff { last: u64 },
    /// Another record has its number.
    Other,
    /// Its record stood in a file that is not here any more.
    NotHere,
}

/// What is needed of a record here. It is a fraction of the work that all of it takes.
#[derive(Deserialize)]
struct Link {
    #[serde(rename = "seq")]
    sequence: u64,
    previous: LineHash,
}

/// Looks for the record of a head. Files that end before it are not read.
pub fn standing(directory: &Path, head: &Head) -> Result<Standing, ReadError> {
    let listed = files(directory).map_err(|source| ReadError::of(directory, source))?;
    let later: Vec<PathBuf> = listed.into_iter().filter(|path| rotated_after(path, head.sequence)).collect();
    compared(open_own(&later)?, head)
}

fn compared(files: Vec<(PathBuf, File)>, head: &Head) -> Result<Standing, ReadError> {
    let judged = |is_held| if is_held { Standing::Held } else { Standing::Other };
    if head.sequence == 0 {
        return Ok(Standing::Held);
    }
    let mut last = 0;
    let walked = each_line(files, |_, _, line| {
        // What is no record is for `certd audit verify` to tell.
        let Ok(link) = serde_json::from_slice::<Link>(line) else { return Ok(()) };
        last = link.sequence;
        match link.sequence {
            sequence if sequence == head.sequence => Err(judged(LineHash::of(line) == head.hash)),
            sequence if sequence == head.sequence + 1 => Err(judged(link.previous == head.hash)),
            sequence if sequence > head.sequence => Err(Standing::NotHere),
            _ => Ok(()),
        }
    })?;
    Ok(walked.err().unwrap_or(Standing::CutOff { last }))
}
