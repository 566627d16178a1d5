//! The database: the number of its format, the newest events, and what those before them add up to.

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use super::event::{Entry, State};
use crate::domain::cert::Fingerprint;
use crate::domain::name::{CertName, IssuerName};
use crate::domain::time::Timestamp;
use crate::domain::waits::Waits;

type Failed = Box<dyn std::error::Error + Send + Sync>;

pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const EVENTS: TableDefinition<u64, &str> = TableDefinition::new("events");

/// One row: the number of the first event that is not in it, and all before it, folded.
const FOLDED: TableDefinition<u64, &str> = TableDefinition::new("folded");

/// By certificate: which one its CA was asked about, and when it may be asked again. No event, since nothing follows.
const ASKED: TableDefinition<&str, &str> = TableDefinition::new("asked");

/// By issuer and address: before when that is not to be asked again. No event, since a CA may say so at every look.
const WAITS: TableDefinition<(&str, &str), &str> = TableDefinition::new("waits");

/// Raised when an older certd could not understand what is written.
pub(super) const FORMAT: u64 = 4;

/// Then the older half is folded. A hundred thousand are read within a second, and are half a year of renewals of two
/// thousand certificates of 90 days.
pub(super) const MOST_EVENTS: u64 = 100_000;

/// What every journal has from its beginning.
pub(super) fn prepare(database: &Database) -> Result<(), Failed> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert("format", FORMAT)?;
    transaction.open_table(EVENTS)?;
    transaction.open_table(FOLDED)?;
    transaction.open_table(ASKED)?;
    transaction.commit()?;
    Ok(())
}

pub(super) fn bring_up_to_date(database: &Database) -> Result<(), Failed> {
    if format(database)? < FORMAT { prepare(database) } else { Ok(()) }
}

pub(super) fn format(database: &Database) -> Result<u64, Failed> {
    let transaction = database.begin_read()?;
    let format = transaction.open_table(META)?.get("format")?.map(|found| found.value());
    format.ok_or_else(|| "it has no format number".into())
}

/// Durable when it returns.
pub(super) fn write(database: &Database, entry: &Entry, most: u64) -> Result<(), Failed> {
    let text = serde_json::to_string(entry)?;
    let transaction = database.begin_write()?;
    let next = {
        let mut events = transaction.open_table(EVENTS)?;
        let next = events.last()?.map_or(0, |(last, _)| last.value() + 1);
        events.insert(next, text.as_str())?;
        (events.len()? > most).then_some(next)
    };
    if let Some(next) = next {
        fold_before(&transaction, next - most / 2)?;
    }
    transaction.commit()?;
    Ok(())
}

fn fold_before(transaction: &WriteTransaction, first_kept: u64) -> Result<(), Failed> {
    let (mut events, mut folded) = (transaction.open_table(EVENTS)?, transaction.open_table(FOLDED)?);
    let mut state = match folded.pop_last()? {
        Some((_, text)) => serde_json::from_str(text.value())?,
        None => State::default(),
    };
    for row in events.extract_from_if(..first_kept, |_, _| true)? {
        state.fold(serde_json::from_str(row?.1.value())?);
    }
    state.forget_past();
    folded.insert(first_kept, serde_json::to_string(&state)?.as_str())?;
    Ok(())
}

/// All events, folded.
pub(super) fn read_state(database: &Database) -> Result<State, Failed> {
    let transaction = database.begin_read()?;
    let mut state = match transaction.open_table(FOLDED) {
        Ok(folded) => match folded.last()? {
            Some((_, text)) => serde_json::from_str(text.value())?,
            None => State::default(),
        },
        // The first format had none.
        Err(redb::TableError::TableDoesNotExist(_)) => State::default(),
        Err(error) => return Err(error.into()),
    };
    for row in transaction.open_table(EVENTS)?.iter()? {
        state.fold(serde_json::from_str(row?.1.value())?);
    }
    Ok(state)
}

/// The newest, oldest of them first.
pub(super) fn last(database: &Database, most: usize, certificate: Option<&CertName>) -> Result<Vec<Entry>, Failed> {
    let transaction = database.begin_read()?;
    let mut entries = Vec::new();
    for row in transaction.open_table(EVENTS)?.iter()?.rev() {
        let entry: Entry = serde_json::from_str(row?.1.value())?;
        if certificate.is_none() || entry.certificate.as_ref() == certificate {
            entries.push(entry);
        }
        if entries.len() == most {
            break;
        }
    }
    entries.reverse();
    Ok(entries)
}

pub(super) fn asked(database: &Database, certificate: &CertName) -> Result<Option<(Fingerprint, Timestamp)>, Failed> {
    let transaction = database.begin_read()?;
    let found = transaction.open_table(ASKED)?.get(certificate.0.as_str())?;
    Ok(found.map(|text| serde_json::from_str(text.value())).transpose()?)
}

pub(super) fn note_asked(
    database: &Database,
    certificate: &CertName,
    asked: &(Fingerprint, Timestamp),
) -> Result<(), Failed> {
    let transaction = database.begin_write()?;
    transaction.open_table(ASKED)?.insert(certificate.0.as_str(), serde_json::to_string(asked)?.as_str())?;
    transaction.commit()?;
    Ok(())
}

/// Those that are over are there still.
pub(super) fn waits(database: &Database) -> Result<Waits, Failed> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(WAITS) {
        Ok(table) => table,
        // It is made with the first one.
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Waits::default()),
        Err(error) => return Err(error.into()),
    };
    let mut waits = Waits::default();
    for row in table.iter()? {
        let (key, until) = row?;
        let (issuer, address) = key.value();
        waits.note(&issuer.into(), address, serde_json::from_str(until.value())?);
    }
    Ok(waits)
}

/// Durable when it returns. Forgets what is over.
pub(super) fn note_wait(
    database: &Database,
    at: Timestamp,
    issuer: &IssuerName,
    address: &str,
    until: Timestamp,
) -> Result<(), Failed> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(WAITS)?;
        table.retain(|_, until| serde_json::from_str::<Timestamp>(until).is_ok_and(|until| at < until))?;
        table.insert((issuer.0.as_str(), address), serde_json::to_string(&until)?.as_str())?;
    }
    transaction.commit()?;
    Ok(())
}

/// The newest of this kind.
pub(super) fn newest(database: &Database, is_wanted: impl Fn(&Entry) -> bool) -> Result<Option<Entry>, Failed> {
    let transaction = database.begin_read()?;
    for row in transaction.open_table(EVENTS)?.iter()?.rev() {
        let entry: Entry = serde_json::from_str(row?.1.value())?;
        if is_wanted(&entry) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cap;
    use crate::domain::plan::Reason;
    use crate::journal::event::{Event, Issued};

    fn entry(second: i64, event: Event) -> Entry {
        Entry { at: Timestamp(second), certificate: Some(format!("web-{}", second % 7).as_str().into()), event }
    }

    /// As they come in renewals, some of which fail.
    fn event(nth: i64) -> Event {
        match nth % 5 {
            0 => Event::Begun { reason: Reason::Due, asked: "a".into(), replaces: None, key: None, names: "n".into() },
            1 => Event::Asked { issuer: "ca".into(), until: None },
            2 => Event::Issued(Issued { issuer: "ca".into(), ders: vec![vec![0x30, 0]] }),
            3 => Event::Failed { message: format!("failure {nth}"), retry_at: Timestamp(nth), held: false },
            _ => Event::Paused { until: Timestamp(nth) },
        }
    }

    #[test]
    fn what_is_folded_adds_up_to_the_same_and_the_newest_events_stay() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::create(dir.path().join("j")).unwrap();
        prepare(&database).unwrap();
        let mut all = State::default();
        for second in 0..97 {
            let entry = entry(second, event(second));
            write(&database, &entry, 10).unwrap();
            all.fold(entry);
            let kept = last(&database, 1_000, None).unwrap();
            assert!(kept.len() as i64 >= second.min(5) && kept.len() <= 10, "{}", kept.len());
            assert_eq!(kept.last().unwrap().at, Timestamp(second));
            assert_eq!(read_state(&database).unwrap().view(), all.view(), "{second}");
        }
        drop(database);
        let again = read_state(&Database::open(dir.path().join("j")).unwrap()).unwrap();
        assert_eq!((again.view(), again.in_flight(&"web-5".into())), (all.view(), all.in_flight(&"web-5".into())));
    }

    #[test]
    fn what_no_cap_counts_any_more_is_forgotten_with_its_events() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::create(dir.path().join("j")).unwrap();
        prepare(&database).unwrap();
        let late = i64::try_from(cap::WINDOW.as_secs()).unwrap() + 3;
        for (second, nth) in [(0, 0), (0, 2), (late, 3), (late, 3), (late, 3), (late, 3)] {
            write(&database, &entry(second, event(nth)), 2).unwrap();
        }
        assert_eq!(read_state(&database).unwrap().view().records[&"web-0".into()].unused, []);
    }

    /// Format 3 counted what was issued by its names, and kept no more than the last five times that it stored.
    #[test]
    fn what_format_3_had_folded_is_read_and_what_it_stored_counts_for_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::create(dir.path().join("j")).unwrap();
        prepare(&database).unwrap();
        let folded = r#"{"records":{"web":{"consecutive_failures":0,"retry_at":null,"last_error":null,
            "last_success":"2027-01-15T08:00:00Z","in_flight":null,"paused_until":null,
            "wrote":"0101010101010101010101010101010101010101010101010101010101010101",
            "closed":["2027-01-14T08:00:00Z","2027-01-15T08:00:00Z"]}},"in_flight":{},"paused_until":null,"issuers":{},
            "issued":{"a.example.org":["2027-01-14T08:00:00Z","2027-01-15T08:00:00Z"]},"last_noted":null,"set_aside":null}"#;
        let transaction = database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert("format", 3).unwrap();
        transaction.open_table(FOLDED).unwrap().insert(0, folded).unwrap();
        transaction.commit().unwrap();
        bring_up_to_date(&database).unwrap();
        assert_eq!(format(&database).unwrap(), FORMAT);
        let view = read_state(&database).unwrap().view();
        let record = &view.records[&"web".into()];
        assert_eq!((record.closed.len(), record.unused.len(), record.wrote_until, record.tried), (2, 0, None, None));
        assert_eq!(cap::counts(record, record.closed[1]), (2, 0));
        assert!(view.records.len() == 1, "a set of names is no place: {view:?}");
    }

    #[test]
    fn a_renewal_in_flight_that_format_3_had_folded_goes_on_where_it_was() {
        let mut state = State::default();
        let note = |state: &mut State, second: i64, event: Event| {
            state.fold(Entry { at: Timestamp(second), certificate: Some("web".into()), event });
        };
        note(&mut state, 0, event(0));
        note(&mut state, 1, event(1));
        let known = ["records", "in_flight", "paused_until", "issuers", "last_noted", "set_aside"];
        let mut folded = serde_json::to_value(&state).unwrap();
        folded.as_object_mut().unwrap().retain(|key, _| known.contains(&key.as_str()));
        let dir = tempfile::tempdir().unwrap();
        let database = Database::create(dir.path().join("j")).unwrap();
        prepare(&database).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert("format", 3).unwrap();
        transaction.open_table(FOLDED).unwrap().insert(0, folded.to_string().as_str()).unwrap();
        transaction.commit().unwrap();
        bring_up_to_date(&database).unwrap();
        let read = read_state(&database).unwrap();
        assert!(read.in_flight(&"web".into()).is_some());
        assert_eq!(read.in_flight(&"web".into()), state.in_flight(&"web".into()));
        let record = &read.view().records[&"web".into()];
        assert_eq!((record.in_flight, record.issued), (Some(Reason::Due), false));

        write(&database, &Entry { at: Timestamp(2), certificate: Some("web".into()), event: event(2) }, 10).unwrap();
        assert!(read_state(&database).unwrap().view().records[&"web".into()].issued, "it goes on");
    }

    #[test]
    fn a_journal_of_the_first_format_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::create(dir.path().join("j")).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert("format", 1).unwrap();
        let text = serde_json::to_string(&entry(3, event(3))).unwrap();
        transaction.open_table(EVENTS).unwrap().insert(0, text.as_str()).unwrap();
        transaction.commit().unwrap();
        assert_eq!(read_state(&database).unwrap().view().records[&"web-3".into()].consecutive_failures, 1);
        bring_up_to_date(&database).unwrap();
        assert_eq!(format(&database).unwrap(), FORMAT);
        assert_eq!(read_state(&database).unwrap().view().records[&"web-3".into()].consecutive_failures, 1);
    }
}
