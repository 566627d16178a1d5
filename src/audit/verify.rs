//! Verifies the chain of the audit log, file by file, and says where it is broken and how.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::chain::{Head, LineHash};
use super::file::{readable, without_newline};
use super::record::{Kind, Record};

/// In bytes. No record that certd writes comes to so much, nor what a crash leaves behind one.
const LONGEST_LINE: u64 = 1024 * 1024;

/// A chain without a gap and without a changed line.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    pub records: u64,
    pub head: Head,
    /// Writes that a crash broke off, which certd told afterwards.
    pub torn: usize,
    /// Bytes behind the last record, which certd has not told yet.
    pub rest: usize,
    /// Records that could not be written, which certd told afterwards.
    pub missed: u64,
}

/// The first place where the chain is broken.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken {
    pub path: PathBuf,
    /// From 1.
    pub line: u64,
    pub why: Why,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    #[error("the line is no record: it was changed")]
    NoRecord,
    #[error("record {0} was changed: the one behind it names another hash")]
    Changed(u64),
    #[error("records {from} to {to} are missing: they were removed")]
    Missing { from: u64, to: u64 },
    #[error("record {found} stands where {wanted} belongs: it was inserted, repeated or moved")]
    OutOfPlace { found: u64, wanted: u64 },
    #[error(
        "the log begins with record {0}, and those before it are not here: name their files, or their head by --after"
    )]
    NoBeginning(u64),
    #[error("record {0} is not the one whose head was exported: the log was written anew")]
    OtherHead(u64),
    #[error("the log ends with record {last}, and the exported head is {head}: the end was removed")]
    CutOff { last: u64, head: u64 },
}

#[derive(Debug, thiserror::Error)]
#[error("could not read the audit log: {}", path.display())]
pub struct ReadError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl ReadError {
    pub fn of(path: &Path, source: io::Error) -> Self {
        Self { path: path.to_path_buf(), source }
    }
}

/// A line and where it stands.
struct Line<'a> {
    path: &'a Path,
    number: u64,
    /// Without its newline.
    bytes: Vec<u8>,
}

/// Opens each file that a person named, which may be a pipe. All are opened before any is read, so that a rotation
/// meanwhile changes nothing.
pub fn open(paths: &[PathBuf]) -> Result<Vec<(PathBuf, File)>, ReadError> {
    opened_by(paths, |path| File::open(path))
}

/// Opens the files of a state directory, where nothing else than a regular file is waited for or followed.
pub fn open_own(paths: &[PathBuf]) -> Result<Vec<(PathBuf, File)>, ReadError> {
    opened_by(paths, readable)
}

fn opened_by(paths: &[PathBuf], open: fn(&Path) -> io::Result<File>) -> Result<Vec<(PathBuf, File)>, ReadError> {
    let open = |path: &PathBuf| {
        let file = open(path).map_err(|source| ReadError { path: path.clone(), source })?;
        Ok((path.clone(), file))
    };
    paths.iter().map(open).collect()
}

/// Calls `heed` with each line, until it returns an error.
pub fn each_line<E>(
    files: Vec<(PathBuf, File)>,
    mut heed: impl FnMut(&Path, u64, &[u8]) -> Result<(), E>,
) -> Result<Result<(), E>, ReadError> {
    for (path, file) in files {
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
            if read.map_err(|source| ReadError { path: path.clone(), source })? == 0 {
                break;
            }
            if let Err(stopped) = heed(&path, number, without_newline(&line)) {
                return Ok(Err(stopped));
            }
        }
    }
    Ok(Ok(()))
}

/// Verifies the files, which are in order. `after` is the head before them; `exported` is one that was noted elsewhere.
pub fn verify(
    files: Vec<(PathBuf, File)>,
    after: Option<Head>,
    exported: Option<&Head>,
) -> Result<Result<Whole, Broken>, ReadError> {
    let mut walk = Walk::new(after, exported);
    let walked = each_line(files, |path, number, bytes| walk.step(Line { path, number, bytes: bytes.to_vec() }))?;
    Ok(walked.and_then(|()| walk.end()))
}

struct Walk<'a> {
    exported: Option<&'a Head>,
    /// Of the last record that fits.
    head: Head,
    last: (PathBuf, u64),
    /// Lines that are no records, until the next record tells of them.
    torn: Vec<Vec<u8>>,
    torn_bytes: u64,
    torn_at: (PathBuf, u64),
    is_after: bool,
    whole: Whole,
}

impl<'a> Walk<'a> {
    fn new(after: Option<Head>, exported: Option<&'a Head>) -> Self {
        let (is_after, head) = (after.is_some(), after.unwrap_or_else(Head::start));
        let whole = Whole { records: 0, head: head.clone(), torn: 0, rest: 0, missed: 0 };
        let nowhere = (PathBuf::new(), 0);
        Self {
            exported,
            head,
            last: nowhere.clone(),
            torn: Vec::new(),
            torn_bytes: 0,
            torn_at: nowhere,
            is_after,
            whole,
        }
    }

    fn step(&mut self, line: Line) -> Result<(), Broken> {
        let here = (line.path.to_path_buf(), line.number);
        let record = match serde_json::from_slice::<Record>(&line.bytes) {
            Ok(record) => record,
            Err(_) => {
                if self.torn.is_empty() {
                    self.torn_at = here;
                }
                self.torn_bytes += line.bytes.len() as u64 + 1;
                if self.torn_bytes > LONGEST_LINE {
                    return Err(broken(&self.torn_at, Why::NoRecord));
                }
                self.torn.push(line.bytes);
                return Ok(());
            }
        };
        self.judge_torn(&record)?;
        self.judge(&record, &here)?;
        self.head = Head { sequence: record.sequence, hash: LineHash::of(&line.bytes) };
        self.last = here;
        if let Some(exported) = self.exported.filter(|exported| exported.sequence == self.head.sequence)
            && exported.hash != self.head.hash
        {
            return Err(broken(&self.last, Why::OtherHead(exported.sequence)));
        }
        self.whole.records += 1;
        if record.event == Kind::Missed {
            self.whole.missed += record.detail.get("records").and_then(|text| text.parse().ok()).unwrap_or(1);
        }
        Ok(())
    }

    /// What is no record must be what the record behind it tells of.
    fn judge_torn(&mut self, record: &Record) -> Result<(), Broken> {
        if self.torn.is_empty() {
            return Ok(());
        }
        self.torn_bytes = 0;
        let hash = LineHash::of(&std::mem::take(&mut self.torn).join(&b'\n')).to_string();
        if record.event != Kind::TornLine || record.detail.get("sha256") != Some(&hash) {
            return Err(broken(&self.torn_at, Why::NoRecord));
        }
        self.whole.torn += 1;
        Ok(())
    }

    fn judge(&self, record: &Record, here: &(PathBuf, u64)) -> Result<(), Broken> {
        if record.follows(&self.head) {
            return Ok(());
        }
        let (found, wanted) = (record.sequence, self.head.sequence + 1);
        let is_first = self.whole.records == 0;
        Err(match found {
            _ if is_first && !self.is_after => broken(here, Why::NoBeginning(found)),
            _ if found > wanted => broken(here, Why::Missing { from: wanted, to: found - 1 }),
            _ if found == wanted && is_first => broken(here, Why::OtherHead(self.head.sequence)),
            _ if found == wanted => broken(&self.last, Why::Changed(self.head.sequence)),
            _ => broken(here, Why::OutOfPlace { found, wanted }),
        })
    }

    fn end(mut self) -> Result<Whole, Broken> {
        if let Some(exported) = self.exported.filter(|exported| exported.sequence > self.head.sequence) {
            let why = Why::CutOff { last: self.head.sequence, head: exported.sequence };
            return Err(broken(&self.last, why));
        }
        self.whole.rest = self.torn.join(&b'\n').len();
        self.whole.head = self.head;
        Ok(self.whole)
    }
}

fn broken((path, line): &(PathBuf, u64), why: Why) -> Broken {
    Broken { path: path.clone(), line: *line, why }
}
