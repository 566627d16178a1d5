//! `/readyz` and `/healthz`, with a turn that lasts as long as the test likes.

use super::process::{Home, eventually};
use super::stand_in::BlackHole;

#[test]
fn certd_is_ready_once_a_turn_was_completed_and_not_when_that_was_three_intervals_ago() {
    let hole = BlackHole::new();
    let source = format!("[source.far.tls]\ntargets = [\"127.0.0.1:{}\"]\ntimeout = \"5m\"\n", hole.port);
    let home = Home::with(&source);
    let certd = home.start();
    hole.has_somebody();
    assert_eq!(certd.get("/readyz"), (503, "no turn has been completed yet\n".to_string()));
    assert_eq!(certd.get("/healthz"), (200, "ok\n".to_string()));

    hole.hang_up();
    eventually("a completed turn", || match certd.get("/readyz") {
        (200, _) => Ok(()),
        (_, why) => Err(why),
    });
    // The next turn is in the hole again.
    hole.has_somebody();
    let why = eventually("a turn that is late", || match certd.get("/readyz") {
        (503, why) => Ok(why),
        (status, _) => Err(status.to_string()),
    });
    assert!(why.starts_with("the last turn was completed on ") && why.ends_with("but one is due every 1 s\n"), "{why}");
    assert_eq!(certd.get("/healthz"), (200, "ok\n".to_string()));
    certd.stop();
}
