//! The log as a whole: written, broken off, rotated, tampered with, verified and exported.

use std::os::unix::fs::PermissionsExt;

use super::chain::LineHash;
use super::export::{Exported, Filter, Format, export};
use super::noted::Standing;
use super::verify::{Broken, Whole, Why, open, open_own, verify};
use super::*;
use crate::domain::actor::{Login, Said};

const NOW: Timestamp = Timestamp(1_800_000_000);

fn actor() -> Actor {
    let sudo = Some("ada (uid 1000)".into());
    let said = Said { command: "certd renew web".into(), sudo, reason: Some("ticket 7".into()) };
    let login = Some(Login { uid: 1000, name: Some("ada".into()) });
    Actor { uid: 0, name: Some("root".into()), login, host: "ca-1".into(), said }
}

fn written(directory: &Path, count: u64) -> Audit {
    let audit = Audit::new(directory.to_path_buf());
    for nth in 0..count {
        audit.note(NOW, Draft::of(Kind::Issued, Some(&"web".into())).with("serial", format!("{nth:02x}")));
    }
    audit
}

fn verified(directory: &Path, head: Option<&Head>) -> Result<Whole, Broken> {
    verify(open(&files(directory).unwrap()).unwrap(), None, head).unwrap()
}

fn why(directory: &Path, head: Option<&Head>) -> (u64, Why) {
    let broken = verified(directory, head).unwrap_err();
    (broken.line, broken.why)
}

fn lines(directory: &Path) -> Vec<String> {
    std::fs::read_to_string(directory.join("audit.log")).unwrap().lines().map(str::to_string).collect()
}

fn put(directory: &Path, lines: &[String]) {
    std::fs::write(directory.join("audit.log"), lines.join("\n") + "\n").unwrap();
}

fn records(directory: &Path) -> Vec<Record> {
    lines(directory).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_act_is_recorded_with_who_asked_before_it_is_carried_out_and_with_its_outcome_after() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::new(dir.path().to_path_buf());
    let act = Draft::of(Kind::Pause, Some(&"web".into())).with("until", NOW);
    let mut seen = 0;
    let carried_out = audit.perform(NOW, &actor(), act, || -> Result<(), AuditError> {
        seen = records(dir.path()).len();
        Ok(())
    });
    carried_out.unwrap();
    assert_eq!(seen, 1, "it was there already");
    let records = records(dir.path());
    let kinds: Vec<(u64, Kind, Option<u64>)> = records.iter().map(|it| (it.sequence, it.event, it.act)).collect();
    assert_eq!(kinds, [(1, Kind::Pause, None), (2, Kind::Done, Some(1))]);
    assert_eq!(records[0].by, Some(actor()));
    assert_eq!(records[1].certificate, Some("web".into()));
    let mode = std::fs::metadata(dir.path().join("audit.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_chain_goes_on_in_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    drop(written(dir.path(), 2));
    let head = written(dir.path(), 2).head().unwrap();
    let whole = verified(dir.path(), Some(&head)).unwrap();
    assert_eq!((whole.records, whole.head), (4, head));
}

#[test]
fn looking_begins_no_log() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::new(dir.path().to_path_buf());
    assert_eq!((audit.trouble(), audit.head()), (None, None));
    assert!(files(dir.path()).unwrap().is_empty());
}

#[test]
fn whichever_line_is_changed_removed_moved_or_added_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let head = written(dir.path(), 5).head().unwrap();
    let whole = lines(dir.path());
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = whole.clone();
        change(&mut lines);
        put(dir.path(), &lines);
        why(dir.path(), Some(&head))
    };
    assert_eq!(with(&|lines| lines[2] = lines[2].replace("\"02\"", "\"09\"")), (3, Why::Changed(3)));
    assert_eq!(with(&|lines| lines[2] = "{}".into()), (3, Why::NoRecord));
    assert_eq!(with(&|lines| drop(lines.remove(2))), (3, Why::Missing { from: 3, to: 3 }));
    assert_eq!(with(&|lines| drop(lines.drain(1..3))), (2, Why::Missing { from: 2, to: 3 }));
    assert_eq!(with(&|lines| lines.swap(2, 3)), (3, Why::Missing { from: 3, to: 3 }));
    assert_eq!(with(&|lines| lines.insert(3, lines[1].clone())), (4, Why::OutOfPlace { found: 2, wanted: 4 }));
    assert_eq!(with(&|lines| drop(lines.remove(0))), (1, Why::NoBeginning(2)));
    assert_eq!(with(&|lines| lines[4] = lines[4].replace("\"04\"", "\"09\"")), (5, Why::OtherHead(5)));
    assert_eq!(with(&|lines| drop(lines.pop())), (4, Why::CutOff { last: 4, head: 5 }));
    put(dir.path(), &whole[..4]);
    assert_eq!(verified(dir.path(), None).unwrap().records, 4, "without a head a removed end does not show");
}

#[test]
fn wherever_a_byte_of_the_log_is_flipped_it_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let head = written(dir.path(), 3).head().unwrap();
    let path = dir.path().join("audit.log");
    let bytes = std::fs::read(&path).unwrap();
    for offset in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[offset] ^= 1;
        std::fs::write(&path, flipped).unwrap();
        let is_last_newline = offset + 1 == bytes.len();
        assert!(verified(dir.path(), Some(&head)).is_err() || is_last_newline, "{offset}");
    }
}

#[test]
fn a_write_that_a_crash_broke_off_is_told_and_the_chain_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    drop(written(dir.path(), 3));
    let bytes = std::fs::read(&path).unwrap();
    let third = lines(dir.path())[2].clone();
    for cut in [1, 20, third.len() - 1] {
        std::fs::write(&path, &bytes[..bytes.len() - 1 - cut]).unwrap();
        let rest = verified(dir.path(), None).unwrap().rest;
        assert_eq!(rest, third.len() - cut, "what is not told yet is no fault");
        drop(written(dir.path(), 1));
        let whole = verified(dir.path(), None).unwrap();
        assert_eq!((whole.records, whole.torn, whole.rest), (4, 1, 0));
        let told: Record = serde_json::from_str(&lines(dir.path())[3]).unwrap();
        assert_eq!((told.event, told.sequence), (Kind::TornLine, 3));
        assert_eq!(told.detail["bytes"], (third.len() - cut).to_string());
        assert_eq!(told.detail["sha256"], LineHash::of(&third.as_bytes()[..third.len() - cut]).to_string());
    }
    // The newline alone is missing: the record is there.
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    drop(written(dir.path(), 1));
    let whole = verified(dir.path(), None).unwrap();
    assert_eq!((whole.records, whole.torn), (4, 0));
}

#[test]
fn what_stands_between_two_records_is_no_torn_write_unless_the_next_one_tells_of_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(written(dir.path(), 2));
    let mut lines = lines(dir.path());
    lines.insert(1, "{\"seq\":2,".to_string());
    put(dir.path(), &lines);
    assert_eq!(why(dir.path(), None), (2, Why::NoRecord));
}

#[test]
fn a_log_that_is_large_enough_is_set_aside_and_its_chain_is_carried_on() {
    let dir = tempfile::tempdir().unwrap();
    let audit = written(dir.path(), 1);
    audit.rotate_at(600);
    for _ in 0..20 {
        audit.note(NOW, Draft::new(Kind::Issued));
    }
    let files = files(dir.path()).unwrap();
    let names: Vec<&str> = files.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names[0], "audit-000000000005.log");
    assert_eq!(names[names.len() - 1], "audit.log");
    assert!(names.len() > 3, "{names:?}");
    let head = audit.head().unwrap();
    assert_eq!(verified(dir.path(), Some(&head)).unwrap().records, 21);
    // Another process goes on where a crash left no record in the new file.
    drop(audit);
    let newest = std::fs::read(dir.path().join("audit.log")).unwrap();
    std::fs::rename(dir.path().join("audit.log"), dir.path().join("audit-000000000021.log")).unwrap();
    std::fs::write(dir.path().join("audit.log"), b"").unwrap();
    drop(written(dir.path(), 1));
    assert!(!newest.is_empty());
    assert_eq!(verified(dir.path(), None).unwrap().records, 22);
    // A file in the middle is missed, and what was archived is followed by its head alone.
    std::fs::remove_file(&files[1]).unwrap();
    assert!(matches!(why(dir.path(), None), (1, Why::Missing { from: 6, .. })));
}

#[test]
fn files_whose_beginning_is_archived_are_verified_from_its_head_on() {
    let dir = tempfile::tempdir().unwrap();
    let archived = written(dir.path(), 2).head().unwrap();
    drop(written(dir.path(), 2));
    put(dir.path(), &lines(dir.path())[2..]);
    let after = |head: Head| verify(open(&files(dir.path()).unwrap()).unwrap(), Some(head), None).unwrap();
    assert_eq!(after(archived.clone()).unwrap().records, 2);
    let other = Head { hash: LineHash::of(b"other"), ..archived };
    assert_eq!(after(other).unwrap_err().why, Why::OtherHead(2));
}

#[test]
fn an_act_without_a_record_is_refused_and_what_was_missed_is_told_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    // A directory in the place of the file: root meets no denied permission.
    std::fs::create_dir(&path).unwrap();
    let audit = written(dir.path(), 2);
    let mut is_carried_out = false;
    let refused = audit.perform(NOW, &actor(), Draft::new(Kind::Resume), || -> Result<(), AuditError> {
        is_carried_out = true;
        Ok(())
    });
    let said = format!("could not open the audit log: {}", path.display());
    assert_eq!(refused.unwrap_err().to_string(), said);
    assert!(!is_carried_out);
    assert!(audit.trouble().unwrap().starts_with(&said));
    std::fs::remove_dir(&path).unwrap();
    audit.note(NOW, Draft::new(Kind::Issued));
    assert_eq!(audit.trouble(), None);
    let told = records(dir.path());
    assert_eq!((told[0].event, told[0].detail["records"].as_str()), (Kind::Missed, "3"));
    assert_eq!(verified(dir.path(), None).unwrap().missed, 3);
}

#[test]
fn a_log_that_is_removed_while_it_is_written_leaves_a_gap_that_shows() {
    let dir = tempfile::tempdir().unwrap();
    let audit = written(dir.path(), 3);
    std::fs::remove_file(dir.path().join("audit.log")).unwrap();
    audit.note(NOW, Draft::new(Kind::Issued));
    assert_eq!(why(dir.path(), None), (1, Why::NoBeginning(4)));
    let told = records(dir.path());
    assert_eq!(told.iter().map(|it| it.event).collect::<Vec<_>>(), [Kind::CutOff, Kind::Issued]);
    assert_eq!(told[0].detail, [("found".into(), "0".into()), ("written".into(), "3".into())].into());
}

/// The end is cut off, the last record is changed, another file stands there, more stands behind it.
#[test]
fn what_others_do_to_the_log_of_a_process_that_runs_is_told_before_the_next_record() {
    let change = |change: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        let audit = written(dir.path(), 3);
        audit.look_after(NOW);
        assert_eq!(lines(dir.path()).len(), 3, "looking writes nothing");
        change(&dir.path().join("audit.log"));
        audit.look_after(NOW);
        let told = lines(dir.path()).last().and_then(|line| serde_json::from_str::<Record>(line).ok()).unwrap();
        audit.look_after(NOW);
        assert_eq!(audit.head().unwrap().sequence, 4, "it is told once");
        let found = told.detail.get("found").cloned().unwrap_or_default();
        (told.event, found, audit.lost().is_some(), verified(dir.path(), None).is_err())
    };
    let text = |path: &Path| std::fs::read_to_string(path).unwrap();
    let cut_off = |path: &Path| {
        let first = text(path).lines().next().unwrap().len() + 1;
        std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(first as u64).unwrap();
    };
    assert_eq!(change(&cut_off), (Kind::CutOff, "1".into(), true, true));
    let changed = |path: &Path| std::fs::write(path, text(path).replace("\"02\"", "\"x02\"")).unwrap();
    assert_eq!(change(&changed), (Kind::CutOff, "3".into(), true, true));
    let replaced = |path: &Path| {
        let copy = text(path).lines().take(2).map(|line| format!("{line}\n")).collect::<String>();
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, copy).unwrap();
    };
    assert_eq!(change(&replaced), (Kind::CutOff, "2".into(), true, true));
    let more = |path: &Path| std::fs::write(path, text(path) + "more\n").unwrap();
    assert_eq!(change(&more), (Kind::TornLine, String::new(), false, false));
}

#[test]
fn once_the_log_can_be_written_again_it_is_told_without_another_act() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    std::fs::create_dir(&path).unwrap();
    let audit = written(dir.path(), 2);
    audit.look_after(NOW);
    assert!(audit.trouble().is_some());
    std::fs::remove_dir(&path).unwrap();
    audit.look_after(NOW);
    audit.look_after(NOW);
    assert_eq!(audit.trouble(), None);
    let told: Vec<(Kind, String)> =
        records(dir.path()).into_iter().map(|it| (it.event, it.detail["records"].clone())).collect();
    assert_eq!(told, [(Kind::Missed, "2".to_string())]);
    assert_eq!(audit.head().unwrap().sequence, 1);
}

#[test]
fn nobody_else_can_change_the_log_and_a_group_reads_it_where_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    drop(written(dir.path(), 1));
    for (before, after) in [(0o666, 0o640), (0o644, 0o640), (0o640, 0o640), (0o600, 0o600), (0o622, 0o600)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(before)).unwrap();
        drop(written(dir.path(), 1));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, after, "{before:o}");
    }
}

#[test]
fn a_pipe_or_a_link_in_the_place_of_a_file_is_neither_waited_for_nor_followed() {
    for name in ["audit.log", "audit-000000000001.log"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(written(dir.path(), 1).trouble().is_some(), "{name}");
        assert!(open_own(&files(dir.path()).unwrap()).is_err());
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert!(written(dir.path(), 1).trouble().is_some(), "{name}");
        assert!(open_own(&files(dir.path()).unwrap()).is_err());
        assert!(!dir.path().join("nowhere").exists());
    }
}

#[test]
fn a_head_that_was_noted_is_looked_for_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::new(dir.path().to_path_buf());
    audit.rotate_at(600);
    let heads: Vec<Head> = (0..12)
        .map(|_| {
            audit.note(NOW, Draft::new(Kind::Issued));
            audit.head().unwrap()
        })
        .collect();
    let all = files(dir.path()).unwrap();
    assert!(all.len() > 2, "{all:?}");
    let standing = |head: &Head| noted::standing(dir.path(), head).unwrap();
    assert!(heads.iter().all(|head| standing(head) == Standing::Held));
    assert_eq!(standing(&Head::start()), Standing::Held);
    assert_eq!(standing(&Head { hash: LineHash::of(b""), ..heads[5].clone() }), Standing::Other);
    assert_eq!(standing(&Head { sequence: 13, hash: LineHash::of(b"") }), Standing::CutOff { last: 12 });
    // The first file is archived: of its records the last alone is named by one that is here.
    std::fs::remove_file(&all[0]).unwrap();
    let first: u64 = all[0].to_str().unwrap().trim_end_matches(".log").rsplit('-').next().unwrap().parse().unwrap();
    let nth = usize::try_from(first).unwrap();
    assert_eq!([&heads[nth - 1], &heads[nth - 2]].map(standing), [Standing::Held, Standing::NotHere]);
    for path in &all[1..] {
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(standing(&heads[11]), Standing::CutOff { last: 0 });
}

#[test]
fn what_is_no_record_is_not_kept_in_memory_without_end() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("audit.log"), vec![b'\n'; 8 << 20]).unwrap();
    assert_eq!(why(dir.path(), None), (1, Why::NoRecord));
}

#[test]
fn ten_thousand_records_are_verified_in_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bytes, mut head) = (Vec::new(), Head::start());
    for nth in 0..10_000 {
        let draft = Draft::of(Kind::Issued, Some(&"web.example.org".into())).with("serial", format!("{nth:040x}"));
        let line = Record { by: Some(actor()), ..Record::behind(&head, NOW, draft) }.line().unwrap();
        head = Head { sequence: head.sequence + 1, hash: LineHash::of(&line) };
        bytes.extend(line);
        bytes.push(b'\n');
    }
    std::fs::write(dir.path().join("audit.log"), &bytes).unwrap();
    let began = std::time::Instant::now();
    assert_eq!(verified(dir.path(), Some(&head)).unwrap().records, 10_000);
    let took = began.elapsed();
    println!("10,000 records, {} bytes, verified in {took:?}", bytes.len());
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_link_in_the_place_of_the_log_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = dir.path().join("elsewhere");
    std::fs::write(&elsewhere, b"").unwrap();
    std::os::unix::fs::symlink(&elsewhere, dir.path().join("audit.log")).unwrap();
    let audit = written(dir.path(), 1);
    assert!(audit.trouble().is_some());
    assert_eq!(std::fs::read(&elsewhere).unwrap(), b"");
}

#[test]
fn what_holds_no_record_at_all_is_not_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    std::fs::write(&path, vec![b'x'; 2 << 20]).unwrap();
    let audit = written(dir.path(), 1);
    let said = format!(
        "the end of the audit log holds no record: {}: find out who changed it, and move it out of its folder",
        path.display()
    );
    assert_eq!(audit.trouble(), Some(said));
}

fn exported(directory: &Path, filter: &Filter, format: Format) -> (Exported, String) {
    let mut out = Vec::new();
    let exported = export(open(&files(directory).unwrap()).unwrap(), filter, format, &mut out).unwrap();
    (exported, String::from_utf8(out).unwrap())
}

#[test]
fn an_export_has_the_wanted_records_and_the_outcomes_of_the_wanted_acts() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::new(dir.path().to_path_buf());
    let both = audit.begin(NOW, &actor(), Draft::new(Kind::Renew).with("certificates", "api, web")).unwrap();
    audit.note(Timestamp(NOW.0 + 1), Draft::of(Kind::Issued, Some(&"web".into())));
    audit.note(Timestamp(NOW.0 + 1), Draft::of(Kind::Issued, Some(&"api".into())));
    audit.end(Timestamp(NOW.0 + 2), &both, &Outcome::Done("=1+1".into()));
    let sequences = |filter: Filter| {
        let (exported, text) = exported(dir.path(), &filter, Format::Json);
        let all: Vec<u64> = text.lines().map(|line| serde_json::from_str::<Record>(line).unwrap().sequence).collect();
        assert_eq!(exported.records, all.len() as u64);
        all
    };
    assert_eq!(sequences(Filter::default()), [1, 2, 3, 4]);
    assert_eq!(sequences(Filter { certificate: Some("web".into()), ..Filter::default() }), [1, 2, 4]);
    assert_eq!(sequences(Filter { since: Some(Timestamp(NOW.0 + 1)), ..Filter::default() }), [2, 3, 4]);
    assert_eq!(sequences(Filter { until: Some(Timestamp(NOW.0 + 1)), ..Filter::default() }), [1]);
    let (_, csv) = exported(dir.path(), &Filter::default(), Format::Csv);
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!(rows[0], "sequence,at,event,certificate,uid,account,login,sudo,host,command,reason,act,detail,previous");
    let zeros = "0".repeat(64);
    assert_eq!(
        rows[1],
        format!(
            "1,2027-01-15T08:00:00Z,renew,,0,root,ada,\"ada (uid 1000)\",ca-1,\"certd renew web\",\"ticket 7\",,\"certificates=api, web\",{zeros}"
        )
    );
    assert!(rows[4].contains(",done,,,,,,,,,1,message==1+1,"), "{}", rows[4]);
}

#[test]
fn an_export_in_json_has_the_bytes_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    drop(written(dir.path(), 3));
    let log = std::fs::read_to_string(dir.path().join("audit.log")).unwrap();
    assert_eq!(exported(dir.path(), &Filter::default(), Format::Json).1, log);
}
