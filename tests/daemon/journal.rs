//! The journal as people see it, and what happens when its file is damaged.

use std::process::{Command, Output, Stdio};

use super::process::{Home, LOCAL, PATIENCE, eventually};

#[test]
fn what_was_done_is_shown_while_certd_runs_and_afterwards() {
    let home = Home::with(LOCAL);
    assert!(home.says(&["journal"]).starts_with("there is no journal yet"));
    let certd = home.start();
    certd.logs(&["renewed, stored and read back"]);
    certd.turn_completed();
    let running = home.says(&["journal"]);
    certd.stop();
    assert_eq!(home.says(&["journal"]), running);
    let told: Vec<&str> = running.lines().map(|line| line.split_once("  web  ").unwrap().1).collect();
    assert_eq!(told[..3], ["began to renew (missing): 127.0.0.1,localhost", "asked local", "local signed"]);
    assert!(told[3].starts_with("accepted ") && told[4] == "wrote it", "{told:?}");
    assert!(told[5].starts_with("read back and closed, ends on "), "{told:?}");
    assert_eq!(home.says(&["journal", "--certificate", "other"]), "");
    let json: serde_json::Value =
        serde_json::from_str(&home.says(&["journal", "--last", "1", "--format", "json"])).unwrap();
    assert_eq!((&json["schema"], json["events"][0]["event"].as_str()), (&1.into(), Some("closed")));
}

#[test]
fn a_damaged_journal_is_set_aside_and_told_and_nothing_that_is_stored_is_issued_again() {
    let home = Home::with(LOCAL);
    let certd = home.start();
    certd.logs(&["renewed, stored and read back"]);
    certd.stop();
    let path = home.path("state/journal.redb");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 3]).unwrap();

    let certd = home.start();
    certd.logs(&["the journal was damaged and is set aside", "certd journal --acknowledge"]);
    eventually("two turns", || if certd.count(&["turn completed"]) > 1 { Ok(()) } else { Err(certd.log().join("\n")) });
    assert_eq!(certd.count(&["renewing"]), 0, "{}", certd.log().join("\n"));
    assert_eq!(certd.metric("certd_journal_set_aside").as_deref(), Some("1"));
    assert!(home.says(&["journal"]).starts_with("a damaged journal was set aside: "));
    // It is kept; its head says now that somebody tried to open it.
    assert_eq!(std::fs::metadata(home.path("state/journal.redb.damaged-1")).unwrap().len(), whole.len() as u64 / 3);
    let told = home.says(&["journal", "--acknowledge"]);
    assert!(!told.starts_with("a damaged") && told.lines().last().unwrap().ends_with("all  acknowledged"), "{told}");
    eventually("the metric", || match certd.metric("certd_journal_set_aside").as_deref() {
        Some("0") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(std::fs::read_dir(home.path("ca/issued")).unwrap().count(), 1);
}

/// `certd pause`, held back by strace where it links one name of a file to another; meanwhile another one runs to its end.
fn two_at_once(home: &Home) -> [Output; 2] {
    let log = home.path("links");
    let held = format!("inject=linkat:delay_enter={HELD_FOR_MICROSECONDS}");
    let mut first = Command::new("strace");
    first.args(["-f", "-qq", "-o"]).arg(&log).args(["-e", "trace=linkat", "-e", &held]);
    first.args([env!("CARGO_BIN_EXE_certd"), "pause", "--until", "2h", "--config"]).arg(home.config());
    let first = first.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the link", || match std::fs::read_to_string(&log).unwrap_or_default() {
        text if text.contains("linkat(") => Ok(()),
        text => Err(text),
    });
    let second = home.certd(&["pause", "--until", "3h"]);
    [first.wait_with_output().unwrap(), second]
}

/// Far longer than the second one takes.
const HELD_FOR_MICROSECONDS: u64 = 5_000_000;

fn one_has_it_and_the_other_is_told([first, second]: &[Output; 2]) {
    const { assert!(HELD_FOR_MICROSECONDS < PATIENCE.as_micros() as u64) };
    assert!(first.status.success(), "{first:?}");
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && told.contains("could not ask the running certd"), "{second:?}");
}

#[test]
fn of_two_first_starts_at_once_one_makes_the_journal_and_the_other_says_that_it_is_in_use() {
    let home = Home::with(LOCAL);
    one_has_it_and_the_other_is_told(&two_at_once(&home));
    let told: serde_json::Value = serde_json::from_str(&home.says(&["journal", "--format", "json"])).unwrap();
    assert_eq!(told["events"].as_array().unwrap().len(), 1, "the pause of the first one: {told}");
}

#[test]
fn of_two_starts_at_once_on_a_damaged_journal_one_sets_it_aside_once() {
    let home = Home::with(LOCAL);
    std::fs::create_dir(home.path("state")).unwrap();
    std::fs::write(home.path("state/journal.redb"), b"this is no journal").unwrap();
    one_has_it_and_the_other_is_told(&two_at_once(&home));
    assert_eq!(std::fs::read(home.path("state/journal.redb.damaged-1")).unwrap(), b"this is no journal");
    assert!(!home.path("state/journal.redb.damaged-2").exists(), "the new one is no damaged one");
    let told = home.says(&["journal"]);
    assert!(told.starts_with("a damaged journal was set aside: ") && told.contains("paused"), "{told}");
}

#[test]
fn a_state_directory_that_is_removed_under_the_daemon_is_told_and_no_ca_is_asked() {
    let home = Home::with(LOCAL);
    let certd = home.start();
    certd.logs(&["renewed, stored and read back"]);
    certd.turn_completed();
    assert_eq!(certd.get("/readyz"), (200, "ready\n".to_string()));
    let state = home.path("state");
    std::fs::rename(&state, home.path("moved")).unwrap();
    std::fs::remove_file(home.path("certificates/web")).unwrap();
    let said = format!(
        "the journal was removed or replaced while certd runs: {}: put the state directory back and restart certd",
        state.join("journal.redb").display()
    );
    certd.logs(&[&said]);
    let why = eventually("not ready", || match certd.get("/readyz") {
        (503, why) => Ok(why),
        (status, _) => Err(status.to_string()),
    });
    assert_eq!(why, format!("{said}\n"));
    let turns = certd.count(&["turn completed"]);
    eventually("two turns more", || match certd.count(&["turn completed"]) {
        count if count > turns + 1 => Ok(()),
        count => Err(count.to_string()),
    });
    assert_eq!(std::fs::read_dir(home.path("ca/issued")).unwrap().count(), 1, "nothing was signed meanwhile");
    assert!(!home.path("certificates/web").exists());

    std::fs::rename(home.path("moved"), &state).unwrap();
    certd.logs(&["no trouble any more"]);
    eventually("ready again", || match certd.get("/readyz") {
        (200, _) => Ok(()),
        (_, why) => Err(why),
    });
    eventually("a new certificate", || match std::fs::read_dir(home.path("ca/issued")).unwrap().count() {
        2 => Ok(()),
        count => Err(count.to_string()),
    });
    certd.stop();
}
