//! A journal's record: what is written is read again as the same, and any text is a record or damage.

use std::sync::LazyLock;

use certd::domain::cert::{Fingerprint, KeyDigest};
use certd::domain::plan::Reason;
use certd::domain::time::Timestamp;
use certd::journal::Journal;
use certd::journal::event::{Ask, Entry, Event, InFlight, Issued, Stage, State};
use certd::journal::staged::StagedAt;
use redb::{Database, TableDefinition};

/// From the year 1 to the year 9999: as far as a record tells instants apart.
const FIRST: i64 = -62_135_596_800;
const LAST: i64 = 253_402_300_799;

pub fn check(data: &[u8]) -> bool {
    for event in events(data) {
        let certificate = (!data.is_empty()).then(|| text(data).as_str().into());
        let entry = Entry { at: instant(data), certificate, event };
        let written = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&written).unwrap(), entry, "{written}");
    }
    let Ok(entry) = serde_json::from_slice::<Entry>(data) else { return false };
    let written = serde_json::to_string(&entry).unwrap();
    let again: Entry = serde_json::from_str(&written).unwrap();
    assert_eq!(again, entry, "{written}");
    let mut state = State::default();
    state.fold(entry);
    state.fold(again);
    assert!(state.view().records.len() <= 1);
    true
}

/// One of each kind, made of these bytes.
fn events(data: &[u8]) -> Vec<Event> {
    let (text, at, number) = (text(data), instant(data), instant(data).0.unsigned_abs());
    let digest = certd::pki::sha256(data);
    let issued = Issued { issuer: text.as_str().into(), ders: data.chunks(7).map(<[u8]>::to_vec).collect() };
    let open = |stage| InFlight {
        reason: Reason::Due,
        asked: text.clone(),
        replaces: Some(Fingerprint(digest)),
        key: Some(KeyDigest(digest)),
        names: text.clone(),
        stage,
    };
    let written = Stage::Written { issued: issued.clone(), version: Some(number) };
    let asked = Stage::Asked(vec![Ask { issuer: text.as_str().into(), until: at, progress: None, is_guessed: false }]);
    let vault = text.as_str().into();
    let staged = StagedAt { vault, secret: text.clone(), path: text.clone(), first: number, last: number };
    vec![
        Event::Begun {
            reason: Reason::Missing,
            asked: text.clone(),
            replaces: Some(Fingerprint(digest)),
            key: None,
            names: text.clone(),
        },
        Event::TakenUp(open(written)),
        Event::TakenUp(open(asked)),
        Event::TakenUp(open(Stage::Issued(issued.clone()))),
        Event::Staged(staged.clone()),
        Event::KeyKept(staged.clone()),
        Event::KeyDestroyed(staged),
        Event::Asked { issuer: text.as_str().into(), until: Some(at) },
        Event::NotIssued { issuer: text.as_str().into() },
        Event::IssuerFailed { issuer: text.as_str().into(), retry_after: Some(number) },
        Event::Issued(issued),
        Event::Accepted { serial: text.clone() },
        Event::Rejected { serial: text.clone(), why: text.clone() },
        Event::Written { version: Some(number) },
        Event::Closed { fingerprint: Fingerprint(digest), not_after: at },
        Event::Superseded { why: text.clone() },
        Event::Failed { message: text.clone(), retry_at: at, held: data.len().is_multiple_of(2) },
        Event::Paused { until: at },
        Event::Resumed,
        Event::SetAside { file: text.clone(), why: text.clone() },
        Event::Acknowledged,
    ]
}

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

fn instant(data: &[u8]) -> Timestamp {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(data).for_each(|(byte, given)| *byte = *given);
    Timestamp(FIRST + i64::from_be_bytes(bytes).rem_euclid(LAST - FIRST + 1))
}

/// A journal whose one record is this text opens with it, or is set aside and says so. Whether it opened with it.
#[allow(dead_code, reason = "a disk is too slow for a fuzzer")]
pub fn check_on_disk(record: &str) -> bool {
    const EVENTS: TableDefinition<u64, &str> = TableDefinition::new("events");
    static EMPTY: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let directory = tempfile::tempdir().unwrap();
        drop(Journal::open(directory.path()).unwrap());
        std::fs::read(directory.path().join("journal.redb")).unwrap()
    });
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.redb");
    std::fs::write(&file, &*EMPTY).unwrap();
    let database = Database::open(&file).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(EVENTS).unwrap().insert(0, record).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let journal = Journal::open(directory.path()).unwrap();
    let last = journal.last(9, None).unwrap();
    match serde_json::from_str::<Entry>(record) {
        Ok(entry) => {
            assert_eq!(last, [entry]);
            true
        }
        Err(_) => {
            assert!(matches!(&last[..], [Entry { event: Event::SetAside { .. }, .. }]), "{record:?}: {last:?}");
            assert!(journal.view().set_aside.is_some());
            false
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let entry = |event| Entry { at: Timestamp(1_769_904_000), certificate: Some("web".into()), event };
    let events = events(b"a seed of several chunks").into_iter();
    events.map(|event| serde_json::to_vec(&entry(event)).unwrap()).collect()
}
