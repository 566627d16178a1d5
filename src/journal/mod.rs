//! What was intended and attempted; survives kill -9. Append-only events in one crash-safe file;
//! everything else is a fold over them. One process writes it, and keys never enter it.

mod audited;
mod base64_ders;
pub mod claims;
mod damage;
pub mod event;
mod kind;
pub mod pending;
pub mod places;
pub mod staged;
mod table;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use redb::{Database, DatabaseError};

use crate::audit::{Audit, AuditError};
use crate::domain::cert::Fingerprint;
use crate::domain::name::{CertName, IssuerName};
use crate::domain::plan::JournalView;
use crate::domain::time::Timestamp;
use crate::domain::waits::Waits;
use crate::failpoint;

use claims::Claims;
use damage::Opened;
use event::{Entry, Event, InFlight, State};
use pending::{PendingKeys, remove_if_there, sync_directory};
use staged::StagedKeys;
use table::{FORMAT, MOST_EVENTS};

const FILE: &str = "journal.redb";

/// Held by the process that has the journal, from before it looks at it. The file of the journal itself cannot be the
/// lock: it is put in place by a link or a rename, and another process would hold what was there before.
const LOCK: &str = "journal.lock";

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the journal is in use by another certd: {}", .0.display())]
    InUse(PathBuf),
    #[error("the journal was written by a newer certd (format {found}, this one knows {FORMAT}): {}", path.display())]
    Newer { path: PathBuf, found: u64 },
    #[error("the journal was removed or replaced while certd runs: {}: put the state directory back and restart certd", .0.display())]
    Gone(PathBuf),
    #[error("nothing is done without a record of it")]
    Unaudited(#[from] AuditError),
    #[error("could not {doing} the journal: {}", path.display())]
    Failed {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

pub struct Journal {
    database: Database,
    /// Given back after the database is closed.
    lock: File,
    path: PathBuf,
    /// The file that was opened, which another one may replace under its name.
    opened: Identity,
    state: Mutex<State>,
    waits: Mutex<Waits>,
    pub keys: PendingKeys,
    pub claims: Claims,
    /// Written by whoever holds the lock of the journal.
    pub audit: Audit,
}

impl Journal {
    /// One that cannot be seen may be there, and opening it tells why it cannot.
    pub fn exists(state_dir: &Path) -> bool {
        !matches!(state_dir.join(FILE).try_exists(), Ok(false))
    }

    /// Opens or creates it in the state directory, for this process alone.
    pub fn open(state_dir: &Path) -> Result<Self, JournalError> {
        let path = state_dir.join(FILE);
        let failed = |doing| failure(&path, doing);
        create_private_dir(state_dir).map_err(|e| failed("make the directory of")(e.into()))?;
        let lock = lock(state_dir, &path)?;
        if !Self::exists(state_dir) {
            create(&path)?;
        }
        let (database, state) = match damage::open(&path)? {
            Opened::Whole(database, state) => (database, *state),
            Opened::Damaged(why) => {
                replace(&path, why)?;
                match damage::open(&path)? {
                    Opened::Whole(database, state) => (database, *state),
                    Opened::Damaged(why) => return Err(failed("begin anew")(why.into())),
                }
            }
        };
        table::bring_up_to_date(&database).map_err(failed("bring to its newest format"))?;
        let waits = table::waits(&database).map_err(failed("read"))?;
        let keys =
            PendingKeys::new(state_dir.join("pending")).map_err(|e| failed("make the key directory of")(e.into()))?;
        let claims =
            Claims::open(state_dir).map_err(|e| failed("read or make the name of this instance beside")(e.into()))?;
        let opened = identity(&path).map_err(|e| failed("look at")(e.into()))?;
        let (state, waits, audit) = (Mutex::new(state), Mutex::new(waits), Audit::new(state_dir.to_path_buf()));
        Ok(Self { database, lock, path, opened, state, waits, keys, claims, audit })
    }

    /// Durable when it returns, in the audit log before it is in the journal: a crash between leaves a record twice, and
    /// none is missing.
    pub fn append(&self, at: Timestamp, certificate: Option<&CertName>, event: Event) -> Result<(), JournalError> {
        let entry = Entry { at, certificate: certificate.cloned(), event };
        self.insist_on_its_file()?;
        if let Some(draft) = audited::draft(&entry) {
            self.audit.note(at, draft);
        }
        failpoint::reached("before_commit");
        table::write(&self.database, &entry, MOST_EVENTS).map_err(failure(&self.path, "write"))?;
        failpoint::reached("after_commit");
        self.locked().fold(entry);
        Ok(())
    }

    /// The newest events, oldest of them first; of one certificate alone, where it is named.
    pub fn last(&self, most: usize, certificate: Option<&CertName>) -> Result<Vec<Entry>, JournalError> {
        table::last(&self.database, most, certificate).map_err(failure(&self.path, "read"))
    }

    /// The newest event of this kind, of those that are not folded yet.
    pub fn newest(&self, is_wanted: impl Fn(&Entry) -> bool) -> Result<Option<Entry>, JournalError> {
        table::newest(&self.database, is_wanted).map_err(failure(&self.path, "read"))
    }

    /// About which certificate its CA was last asked for advice, and when it may be asked again.
    pub fn asked_for_advice(&self, certificate: &CertName) -> Result<Option<(Fingerprint, Timestamp)>, JournalError> {
        table::asked(&self.database, certificate).map_err(failure(&self.path, "read"))
    }

    pub fn note_asked_for_advice(
        &self,
        certificate: &CertName,
        about: Fingerprint,
        again_at: Timestamp,
    ) -> Result<(), JournalError> {
        table::note_asked(&self.database, certificate, &(about, again_at)).map_err(failure(&self.path, "write"))
    }

    /// An issuer works on what is at this address. Durable when it returns.
    pub fn note_wait(
        &self,
        at: Timestamp,
        issuer: &IssuerName,
        address: &str,
        until: Timestamp,
    ) -> Result<(), JournalError> {
        self.insist_on_its_file()?;
        table::note_wait(&self.database, at, issuer, address, until).map_err(failure(&self.path, "write"))?;
        let mut waits = self.waits.lock().expect("noting a wait does not panic");
        waits.forget_past(at);
        waits.note(issuer, address, until);
        Ok(())
    }

    /// Checks that the file of the journal and its lock are where they were opened.
    ///
    /// # Errors
    /// `Gone` where what is written would be lost: the state directory was removed, replaced or hidden by a mount.
    pub fn insist_on_its_file(&self) -> Result<(), JournalError> {
        let lock = self.path.with_file_name(LOCK);
        let is_there = |path: &Path, opened| identity(path).is_ok_and(|found| found == opened);
        let locked = self.lock.metadata().map(|found| (found.dev(), found.ino()));
        match is_there(&self.path, self.opened) && locked.is_ok_and(|locked| is_there(&lock, locked)) {
            true => Ok(()),
            false => Err(JournalError::Gone(self.path.clone())),
        }
    }

    /// What planning needs to know.
    pub fn view(&self) -> JournalView {
        let waits = self.waits.lock().expect("noting a wait does not panic").clone();
        let gone = self.insist_on_its_file().err().map(|error| error.to_string());
        JournalView { waits, gone, unaudited: self.audit.trouble(), ..self.locked().view() }
    }

    /// The renewal of this certificate that was begun and not closed.
    pub fn in_flight(&self, certificate: &CertName) -> Option<InFlight> {
        self.locked().in_flight(certificate).cloned()
    }

    /// Certificates of which a renewal was begun and not closed.
    pub fn all_in_flight(&self) -> Vec<CertName> {
        self.locked().in_flight.keys().cloned().collect()
    }

    /// Pending keys in Vaults, as far as they were noted.
    pub fn staged(&self) -> StagedKeys {
        self.locked().staged.clone()
    }

    /// The state directory.
    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("folding an event does not panic")
    }
}

/// Whoever ends, by kill -9, too, gives it back. The file stays.
fn lock(state_dir: &Path, journal: &Path) -> Result<File, JournalError> {
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |source: std::io::Error| failure(journal, "lock")(source.into());
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).open(state_dir.join(LOCK)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse(journal.to_path_buf())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Device and inode.
type Identity = (u64, u64);

fn identity(path: &Path) -> std::io::Result<Identity> {
    std::fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

fn failure(path: &Path, doing: &'static str) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> JournalError {
    let path = path.to_path_buf();
    move |source| JournalError::Failed { doing, path: path.clone(), source }
}

/// In place of a damaged one, which is kept beside it. The new one says so from its beginning: a crash at any moment leaves
/// either the damaged file, which is then found again, or one that tells.
fn replace(path: &Path, why: String) -> Result<(), JournalError> {
    let failed = |source: std::io::Error| failure(path, "set aside")(source.into());
    let (aside, at) = damage::keep_aside(path).map_err(failed)?;
    tracing::error!(
        aside = %aside.display(),
        "the journal was damaged and is set aside: pauses and attempts are forgotten ({why}); look into it, pause again \
         what was paused, then run `certd journal --acknowledge`"
    );
    let event = Event::SetAside { file: aside.display().to_string(), why };
    let draft = draft(path, Some(&Entry { at, certificate: None, event }))?;
    std::fs::rename(&draft, path).map_err(failed)?;
    sync_directory(path.parent().unwrap_or(Path::new("."))).map_err(failed)
}

/// A whole journal beside its name.
fn draft(path: &Path, first: Option<&Entry>) -> Result<PathBuf, JournalError> {
    let draft = path.with_extension("new");
    let failed = |source: std::io::Error| failure(path, "make")(source.into());
    remove_if_there(&draft).map_err(failed)?;
    make_private(&draft).map_err(failed)?;
    let database = open_file(&draft)?;
    table::prepare(&database)
        .and_then(|()| first.map_or(Ok(()), |entry| table::write(&database, entry, MOST_EVENTS)))
        .map_err(failure(path, "make"))?;
    failpoint::reached("journal_made");
    Ok(draft)
}

/// A crash leaves either no journal or an empty one. A link, unlike a rename, replaces none that a certd of before there was
/// a lock has made meanwhile.
fn create(path: &Path) -> Result<(), JournalError> {
    let draft = draft(path, None)?;
    let failed = |source: std::io::Error| failure(path, "make")(source.into());
    match std::fs::hard_link(&draft, path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    remove_if_there(&draft).and_then(|()| sync_directory(path.parent().unwrap_or(Path::new(".")))).map_err(failed)
}

fn open_file(path: &Path) -> Result<Database, JournalError> {
    Database::create(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => JournalError::InUse(path.to_path_buf()),
        other => failure(path, "open")(other.into()),
    })
}

fn insist_on_format(database: &Database, path: &Path) -> Result<(), JournalError> {
    let format = table::format(database).map_err(failure(path, "read"))?;
    match format > FORMAT {
        true => Err(JournalError::Newer { path: path.to_path_buf(), found: format }),
        false => Ok(()),
    }
}

/// The database would take the mode of the umask.
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(drop)
}

/// Made for the owner alone; one that is there keeps its mode.
fn create_private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use crate::domain::plan::Reason;

    use super::*;

    fn begun() -> Event {
        Event::Begun { reason: Reason::Due, asked: "digest".into(), replaces: None, key: None, names: String::new() }
    }

    #[test]
    fn a_renewal_in_flight_is_still_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let name = CertName::from("web");
        let journal = Journal::open(dir.path()).unwrap();
        journal.append(Timestamp(5), Some(&name), begun()).unwrap();
        drop(journal);
        let again = Journal::open(dir.path()).unwrap();
        assert_eq!(again.in_flight(&name).unwrap().reason, Reason::Due);
        assert_eq!(again.view().records[&name].in_flight, Some(Reason::Due));
    }

    #[test]
    fn what_an_issuer_works_on_is_known_after_a_restart_until_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let issuer = IssuerName::from("ca");
        let waits = |now| {
            let view = Journal::open(dir.path()).unwrap().view();
            view.waits.of(&issuer, now).map(|(address, wait)| (address.to_string(), wait.as_secs())).collect::<Vec<_>>()
        };
        assert_eq!(waits(Timestamp(5)), []);
        let journal = Journal::open(dir.path()).unwrap();
        journal.note_wait(Timestamp(5), &issuer, "a", Timestamp(9)).unwrap();
        journal.note_wait(Timestamp(6), &issuer, "b", Timestamp(20)).unwrap();
        drop(journal);
        assert_eq!(waits(Timestamp(6)), [("a".to_string(), 3), ("b".to_string(), 14)]);
        let journal = Journal::open(dir.path()).unwrap();
        journal.note_wait(Timestamp(9), &issuer, "b", Timestamp(12)).unwrap();
        assert_eq!(
            table::waits(&journal.database).unwrap(),
            journal.view().waits,
            "and what is over is forgotten in both"
        );
        drop(journal);
        assert_eq!(waits(Timestamp(6)), [("b".to_string(), 6)]);
    }

    #[test]
    fn only_one_process_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Journal::open(dir.path()).unwrap();
        let Err(JournalError::InUse(path)) = Journal::open(dir.path()) else { panic!("opened twice") };
        assert_eq!(path, dir.path().join("journal.redb"));
    }

    #[test]
    fn nothing_is_written_after_the_state_directory_was_removed_or_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let name = CertName::from("web");
        let said = format!(
            "the journal was removed or replaced while certd runs: {}: put the state directory back and restart certd",
            state.join(FILE).display()
        );
        let journal = Journal::open(&state).unwrap();
        assert_eq!(journal.view().gone, None);
        std::fs::rename(&state, dir.path().join("moved")).unwrap();
        assert_eq!(journal.append(Timestamp(5), Some(&name), begun()).unwrap_err().to_string(), said);
        assert_eq!(journal.view().gone, Some(said.clone()));
        // Another certd begins anew where it was.
        drop(Journal::open(&state).unwrap());
        assert_eq!(journal.append(Timestamp(5), Some(&name), begun()).unwrap_err().to_string(), said);
        std::fs::remove_dir_all(&state).unwrap();
        std::fs::rename(dir.path().join("moved"), &state).unwrap();
        journal.append(Timestamp(5), Some(&name), begun()).unwrap();
        assert_eq!(journal.view().gone, None, "what was put back is the same journal");
    }

    #[test]
    fn refuses_a_newer_format() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::create(dir.path().join("journal.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(table::META).unwrap().insert("format", FORMAT + 1).unwrap();
        transaction.commit().unwrap();
        drop(database);
        let Err(JournalError::Newer { found, .. }) = Journal::open(dir.path()) else { panic!("opened") };
        assert_eq!(found, FORMAT + 1);
    }

    fn events(dir: &Path, many: i64) -> State {
        let journal = Journal::open(dir).unwrap();
        for second in 0..many {
            let name = CertName(format!("web-{}", second % 7));
            // No two are alike, so that the loss of any one changes what they add up to.
            let message = format!("failure {second}");
            let failed = Event::Failed { message, retry_at: Timestamp(second), held: false };
            journal.append(Timestamp(second), Some(&name), begun()).unwrap();
            journal.append(Timestamp(second), Some(&name), failed).unwrap();
        }
        drop(journal);
        let opened = damage::open(&dir.join(FILE)).unwrap();
        let Opened::Whole(_, state) = opened else { panic!("damaged") };
        *state
    }

    #[test]
    fn a_damaged_file_is_set_aside_under_a_name_of_its_own_and_told_until_somebody_knows() {
        let dir = tempfile::tempdir().unwrap();
        for nth in 1..3 {
            std::fs::write(dir.path().join(FILE), b"this is no journal").unwrap();
            let journal = Journal::open(dir.path()).unwrap();
            let aside = dir.path().join(format!("journal.redb.damaged-{nth}"));
            assert_eq!(std::fs::read(&aside).unwrap(), b"this is no journal");
            let told = journal.view().set_aside.unwrap();
            assert!(told.contains(aside.to_str().unwrap()), "{told}");
            drop(journal);
            let journal = Journal::open(dir.path()).unwrap();
            assert_eq!(journal.view().set_aside, Some(told), "after a restart, too");
            journal.append(Timestamp(9), None, Event::Acknowledged).unwrap();
            assert_eq!(journal.view().set_aside, None);
        }
    }

    #[test]
    fn one_without_its_format_number_is_no_new_one() {
        let dir = tempfile::tempdir().unwrap();
        drop(Database::create(dir.path().join(FILE)).unwrap());
        assert!(Journal::open(dir.path()).unwrap().view().set_aside.is_some());
    }

    /// Whatever ends it, the damaged file or one that tells is there.
    #[test]
    fn a_loss_is_told_although_the_start_that_met_it_did_not_get_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        std::fs::write(&path, b"this is no journal").unwrap();
        damage::keep_aside(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"this is no journal", "it ended before there was another");
        // Nor does it get beyond the journal itself.
        std::fs::write(dir.path().join("pending"), b"no directory").unwrap();
        assert!(Journal::open(dir.path()).is_err());
        std::fs::remove_file(dir.path().join("pending")).unwrap();
        assert!(Journal::open(dir.path()).unwrap().view().set_aside.is_some());
    }

    #[test]
    fn wherever_a_byte_is_flipped_the_journal_is_the_same_or_set_aside() {
        let whole = tempfile::tempdir().unwrap();
        let written = format!("{:?}", events(whole.path(), 60).view());
        let bytes = std::fs::read(whole.path().join(FILE)).unwrap();
        let (mut same, mut aside) = (0, 0);
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        // The head with its two slots for commits byte by byte, then all over the file.
        for offset in (0..320).chain((320..used).step_by(used / 150)) {
            let dir = tempfile::tempdir().unwrap();
            let mut flipped = bytes.clone();
            flipped[offset] ^= 0x20;
            std::fs::write(dir.path().join(FILE), flipped).unwrap();
            match damage::open(&dir.path().join(FILE)) {
                Ok(Opened::Whole(_, state)) => {
                    assert_eq!(format!("{:?}", state.view()), written, "silently another at {offset}");
                    same += 1;
                }
                Ok(Opened::Damaged(_)) => aside += 1,
                // Half of a number may be another one.
                Err(JournalError::Newer { .. }) => {}
                Err(error) => panic!("{offset}: {error:?}"),
            }
        }
        assert!(aside > 50 && same > 0, "{aside} {same}");
    }

    /// What a disk leaves of a page that it acknowledged and never wrote.
    #[test]
    fn wherever_a_page_is_all_zeros_the_journal_is_the_same_or_set_aside() {
        const PAGE: usize = 4096;
        let whole = tempfile::tempdir().unwrap();
        let written = format!("{:?}", events(whole.path(), 60).view());
        let bytes = std::fs::read(whole.path().join(FILE)).unwrap();
        let (mut same, mut aside) = (0, 0);
        // Off the grid, too: a file system's blocks need not be those of the database.
        for start in (0..bytes.len()).step_by(PAGE / 2) {
            let dir = tempfile::tempdir().unwrap();
            let mut zeroed = bytes.clone();
            let end = bytes.len().min(start + PAGE);
            zeroed[start..end].fill(0);
            std::fs::write(dir.path().join(FILE), &zeroed).unwrap();
            match damage::open(&dir.path().join(FILE)) {
                Ok(Opened::Whole(_, state)) => {
                    assert_eq!(format!("{:?}", state.view()), written, "silently another at {start}");
                    same += 1;
                }
                Ok(Opened::Damaged(_)) => aside += 1,
                Err(error) => panic!("{start}: {error:?}"),
            }
        }
        assert!(aside > 10 && same > 0, "{aside} {same}");
    }

    #[test]
    fn wherever_it_is_cut_off_it_is_set_aside() {
        let whole = tempfile::tempdir().unwrap();
        events(whole.path(), 60);
        let bytes = std::fs::read(whole.path().join(FILE)).unwrap();
        for length in (0..bytes.len()).step_by(bytes.len() / 60) {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(FILE), &bytes[..length]).unwrap();
            assert!(matches!(damage::open(&dir.path().join(FILE)), Ok(Opened::Damaged(_))), "{length}");
        }
    }

    #[test]
    fn a_file_that_may_not_be_read_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(FILE)).unwrap();
        let error = Journal::open(dir.path()).err().unwrap();
        assert_eq!(error.to_string(), format!("could not open the journal: {}/journal.redb", dir.path().display()));
        assert!(dir.path().join(FILE).is_dir());
    }
}
