//! The journal as people see it, and what happens when its file is damaged.

use super::process::{Home, LOCAL, eventually};

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
