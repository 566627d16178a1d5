//! A restart changes nothing: decisions follow from what is stored.

use super::process::{Home, LOCAL};

/// consul-template#1259: a restart used to ask the CA for every certificate again.
#[test]
fn re_issue_on_every_restart() {
    let home = Home::with(LOCAL);
    let first = home.start();
    first.logs(&["renewed, stored and read back", "cert=web"]);
    first.turn_completed();
    first.stop();
    let (issued, ca) = (home.read("certificates/web/fullchain.pem"), home.read("ca/ca.pem"));
    let plan = home.says(&["plan"]);
    assert!(plan.starts_with("web: keep, due on "), "{plan}");

    for _ in 0..3 {
        let again = home.start();
        again.turn_completed();
        assert_eq!(again.count(&["renewing"]), 0, "{:?}", again.log());
        assert_eq!(home.says(&["plan"]), plan);
        again.stop();
        assert_eq!(home.read("certificates/web/fullchain.pem"), issued);
        assert_eq!(home.read("ca/ca.pem"), ca);
    }
}
