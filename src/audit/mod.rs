//! Who did what, and what came of it: an append-only log whose lines are chained by their hashes. It is never folded.
//!
//! The process that has the journal writes it, so that no two processes interleave lines. An act of a person is recorded
//! before it is carried out, and refused where that is not possible. What certd does by itself goes on without a record:
//! an expired certificate is worse than a gap that is counted and told.

pub mod chain;
pub mod export;
mod file;
pub mod head;
pub mod noted;
pub mod peer;
pub mod record;
pub mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use crate::domain::actor::Actor;
use crate::domain::name::CertName;
use crate::domain::text::with_causes;
use crate::domain::time::Timestamp;

use chain::Head;
pub use file::files;
use file::{LogFile, Torn};
use record::{Draft, Kind, Record};

/// In bytes: about 150,000 records.
pub const ROTATE_AT: u64 = 64 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("could not {doing} the audit log: {}", path.display())]
    Failed {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the end of the audit log holds no record: {}: find out who changed it, and move it out of its folder", .0.display())]
    NotUnderstood(PathBuf),
}

impl AuditError {
    fn failed(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Failed { doing, path: path.clone(), source }
    }
}

/// An act that was recorded and has no outcome yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    sequence: u64,
    certificate: Option<CertName>,
}

/// What came of an act, in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done(String),
    Refused(String),
    Failed(String),
}

/// The log of one state directory.
pub struct Audit {
    directory: PathBuf,
    largest: AtomicU64,
    writer: Mutex<Writer>,
}

#[derive(Default)]
struct Writer {
    /// Opened by the first record, and again after a failure.
    log: Option<LogFile>,
    /// The head that this process wrote last.
    known: Option<Head>,
    /// Records that could not be written since the last one that was.
    missed: u64,
    trouble: Option<String>,
    /// What this process wrote and that is gone, until it ends.
    lost: Option<String>,
}

impl Audit {
    /// Touches no file: looking begins no log.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, largest: AtomicU64::new(ROTATE_AT), writer: Mutex::default() }
    }

    /// Sets the size in bytes at which a file is set aside and another one begun.
    pub fn rotate_at(&self, bytes: u64) {
        self.largest.store(bytes, Ordering::Relaxed);
    }

    /// Records what certd does by itself. A failure is counted, and told by [`Audit::trouble`].
    pub fn note(&self, at: Timestamp, draft: Draft) {
        // Told where it is met.
        let _ = self.write(at, draft, None, None);
    }

    /// Records an act that is about to be carried out. Durable when it returns.
    ///
    /// # Errors
    /// Where it cannot be recorded; then the act must not be carried out.
    pub fn begin(&self, at: Timestamp, by: &Actor, act: Draft) -> Result<Begun, AuditError> {
        let certificate = act.certificate.clone();
        let sequence = self.write(at, act, Some(by), None)?;
        Ok(Begun { sequence, certificate })
    }

    /// Records what came of an act.
    pub fn end(&self, at: Timestamp, begun: &Begun, outcome: &Outcome) {
        let (kind, message) = match outcome {
            Outcome::Done(message) => (Kind::Done, message),
            Outcome::Refused(message) => (Kind::Refused, message),
            Outcome::Failed(message) => (Kind::Failed, message),
        };
        let draft = Draft::of(kind, begun.certificate.as_ref());
        let draft = if message.is_empty() { draft } else { draft.with("message", message) };
        // Told where it is met.
        let _ = self.write(at, draft, None, Some(begun.sequence));
    }

    /// Carries out an act between its two records.
    pub fn perform<E: From<AuditError> + std::error::Error>(
        &self,
        now: Timestamp,
        by: &Actor,
        act: Draft,
        carry_out: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let begun = self.begin(now, by, act)?;
        let ended = carry_out();
        let outcome = match &ended {
            Ok(()) => Outcome::Done(String::new()),
            Err(error) => Outcome::Failed(with_causes(error)),
        };
        self.end(now, &begun, &outcome);
        ended
    }

    /// Why the last record could not be written; `None` while all is well.
    pub fn trouble(&self) -> Option<String> {
        self.locked().trouble.clone()
    }

    /// Which records of this process are gone; `None` while all are there.
    pub fn lost(&self) -> Option<String> {
        self.locked().lost.clone()
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Looks after the log between two records, for a daemon each second or so: once it can be written again it tells
    /// what is missing, and what others did to it is told at once.
    pub fn look_after(&self, now: Timestamp) {
        let mut writer = self.locked();
        let is_as_left = writer.log.as_ref().is_none_or(LogFile::is_as_left);
        if is_as_left && writer.trouble.is_none() {
            return;
        }
        let ready = writer.ready(&self.directory, self.largest.load(Ordering::Relaxed), now);
        let ready = ready.map(|log| (writer.known, writer.log) = (Some(log.head.clone()), Some(log)));
        writer.heed(ready.as_ref().err());
    }

    /// The head that this process wrote last.
    pub fn head(&self) -> Option<Head> {
        self.locked().known.clone()
    }

    fn write(&self, at: Timestamp, draft: Draft, by: Option<&Actor>, act: Option<u64>) -> Result<u64, AuditError> {
        let largest = self.largest.load(Ordering::Relaxed);
        let mut writer = self.locked();
        let written = writer.write(&self.directory, largest, at, draft, by, act);
        writer.heed(written.as_ref().err());
        written
    }

    fn locked(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().expect("writing a record does not panic")
    }
}

impl Writer {
    fn write(
        &mut self,
        directory: &Path,
        largest: u64,
        at: Timestamp,
        draft: Draft,
        by: Option<&Actor>,
        act: Option<u64>,
    ) -> Result<u64, AuditError> {
        let appended = self.ready(directory, largest, at).and_then(|mut log| {
            let record = Record { by: by.cloned(), act, ..Record::behind(&log.head, at, draft) };
            log.append(&record)?;
            Ok(log)
        });
        match appended {
            Ok(log) => {
                let sequence = log.head.sequence;
                (self.known, self.log) = (Some(log.head.clone()), Some(log));
                Ok(sequence)
            }
            Err(error) => {
                self.missed += 1;
                Err(error)
            }
        }
    }

    /// Notes whether it went well, and logs what changed.
    fn heed(&mut self, error: Option<&AuditError>) {
        let trouble = error.map(|error| with_causes(error));
        match &trouble {
            Some(text) if trouble != self.trouble => {
                tracing::error!("{text}: acts of people are refused, and renewals go on without a record");
            }
            None if self.trouble.is_some() => tracing::info!("the audit log is written again"),
            Some(_) | None => {}
        }
        self.trouble = trouble;
    }

    /// The file that the next record belongs to, once all is told that is missing or broken before it.
    fn ready(&mut self, directory: &Path, largest: u64, at: Timestamp) -> Result<LogFile, AuditError> {
        // What fails halfway is looked at anew before the next record.
        let opened = match self.log.take().filter(LogFile::is_as_left) {
            Some(log) => Ok(log),
            None => self.open(directory),
        };
        let mut log = opened?.rotated_at(largest)?;
        self.tell(&mut log, at)?;
        Ok(log)
    }

    /// Records that this process wrote and that are gone leave a gap that shows: their numbers are not given again.
    fn open(&mut self, directory: &Path) -> Result<LogFile, AuditError> {
        let mut log = LogFile::open(directory)?;
        let Some(known) = &self.known else { return Ok(log) };
        if known.sequence > log.head.sequence || known.sequence == log.head.sequence && *known != log.head {
            let found = log.head.sequence;
            let text = format!(
                "the audit log in {} was removed, changed or cut off while certd ran: of its {} records {found} are \
                 there: find out who did it, by `certd audit verify` and the head that was noted elsewhere",
                directory.display(),
                known.sequence
            );
            tracing::error!("{text}");
            (log.cut_off_after, log.head, self.lost) = (Some(found), known.clone(), Some(text));
        }
        Ok(log)
    }

    /// Puts on record what is missing or broken before the next record.
    fn tell(&mut self, log: &mut LogFile, at: Timestamp) -> Result<(), AuditError> {
        if let Some(Torn { bytes, hash }) = log.torn.clone() {
            let draft = Draft::new(Kind::TornLine).with("bytes", bytes).with("sha256", hash);
            log.append(&Record::behind(&log.head, at, draft))?;
            log.torn = None;
        }
        if let Some(found) = log.cut_off_after {
            let draft = Draft::new(Kind::CutOff).with("found", found).with("written", log.head.sequence);
            log.append(&Record::behind(&log.head, at, draft))?;
            log.cut_off_after = None;
        }
        if self.missed > 0 {
            let draft = Draft::new(Kind::Missed).with("records", self.missed);
            log.append(&Record::behind(&log.head, at, draft))?;
            self.missed = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
