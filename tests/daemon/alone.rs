//! One certd on one state directory, which is nobody else's business.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use super::process::{Home, LOCAL};

#[test]
fn a_second_certd_on_the_same_state_is_refused() {
    let home = Home::with(LOCAL);
    let first = home.start();
    first.turn_completed();
    let mut second = home.start();
    let (status, _) = second.ended();
    assert_eq!(status.code(), Some(3));
    let line = second.logs(&["certd: "]);
    let journal = home.path("state/journal.redb");
    assert_eq!(line, format!("certd: the journal is in use by another certd: {}", journal.display()));
    assert!(home.says(&["plan"]).starts_with("web: keep"), "the first is still asked");
    first.stop();
}

#[test]
fn a_port_that_is_taken_is_told_with_the_table_that_changes_it() {
    // Whoever has it already serves as well as we do.
    let _taken = std::net::TcpListener::bind(("127.0.0.1", 9843));
    let home = Home::new();
    std::fs::write(home.config(), "state_dir = \"state\"\n").unwrap();
    let mut certd = home.start();
    let (status, _) = certd.ended();
    assert_eq!(status.code(), Some(3));
    let line = certd.logs(&["certd: "]);
    let said =
        "certd: could not listen on 127.0.0.1:9843: set another `address` in [listen], or stop who listens there";
    assert!(line.starts_with(said), "{line}");
}

#[test]
fn after_a_kill_the_socket_that_was_left_is_replaced_and_the_journal_opens() {
    let home = Home::with(LOCAL);
    let mut first = home.start();
    first.turn_completed();
    first.signal(libc::SIGKILL);
    first.ended();
    assert!(home.path("state/control.sock").exists());

    let again = home.start();
    again.turn_completed();
    assert!(home.says(&["renew", "web", "--force"]).starts_with("web: renewed by local"));
    again.stop();
}

#[test]
fn what_certd_keeps_for_itself_is_for_its_owner_alone() {
    let home = Home::with(LOCAL);
    let certd = home.start();
    certd.turn_completed();
    let mode = |path: &str| std::fs::metadata(home.path(path)).unwrap().permissions().mode() & 0o7777;
    assert!(std::fs::metadata(home.path("state/control.sock")).unwrap().file_type().is_socket());
    for (path, private) in [
        ("state", 0o700),
        ("state/control.sock", 0o600),
        ("state/journal.redb", 0o600),
        ("state/journal.lock", 0o600),
        ("state/pending", 0o700),
        ("certificates/web/privkey.pem", 0o600),
    ] {
        assert_eq!(mode(path), private, "{path}: {:o}", mode(path));
    }
    certd.stop();
}
