//! The commands that reach a running certd, and do the same where none runs.

use super::process::{Home, LOCAL, Running, eventually};
use super::stand_in::Gate;
use super::stop::signed_by;
use super::support::vault::server;

/// Each command in turn; `certd` runs or not.
fn every_command(home: &Home) {
    let plan = home.says(&["plan"]);
    assert!(plan.starts_with("web: keep, due on ") && plan.ends_with("1 managed, 0 to renew\n"), "{plan}");
    let before = home.read("certificates/web/cert.pem");
    let renewed = home.says(&["renew", "web", "--force"]);
    assert!(renewed.starts_with("web: renewed by local, ends on "), "{renewed}");
    assert_ne!(home.read("certificates/web/cert.pem"), before);
    let explained = home.says(&["explain", "web"]);
    assert!(explained.contains("\ndecision    keep, due on ") && explained.contains("\nrenewed     "), "{explained}");

    assert!(home.says(&["pause", "--until", "1h"]).starts_with("paused until "));
    let paused = home.says(&["plan"]);
    assert!(paused.starts_with("acting is paused until "), "{paused}");
    let held = home.read("certificates/web/cert.pem");
    let refused = home.certd(&["renew", "web", "--force"]);
    assert_eq!(refused.status.code(), Some(1));
    let refused = String::from_utf8(refused.stdout).unwrap();
    assert!(refused.starts_with("web: hold: paused until "), "{refused}");
    assert_eq!(home.read("certificates/web/cert.pem"), held);
    assert_eq!(home.says(&["resume"]), "resumed: all acting\n");
    assert_eq!(home.says(&["plan"]).lines().count(), 2);

    assert!(home.says(&["pause", "web", "--until", "1h"]).ends_with(": web\n"));
    let paused = home.says(&["plan"]);
    assert!(paused.starts_with("web: keep, due on ") && paused.contains("\nweb is paused until "), "{paused}");
    assert!(home.says(&["explain", "web"]).contains("\npaused      until "));
    assert_eq!(home.says(&["resume", "wbe"]), "was not paused: wbe — did you mean web?\n");
    assert_eq!(home.says(&["resume", "web"]), "resumed: web\n");
    assert_eq!(home.says(&["resume", "web"]), "was not paused: web\n");
    assert_eq!(home.says(&["resume"]), "was not paused: all acting\n");
    let slipped = home.certd(&["pause", "wbe", "--until", "1h"]);
    assert_eq!(slipped.status.code(), Some(3));
    let told = "certd: nothing is paused: certd manages no certificate of this name: wbe — did you mean web?\n";
    assert_eq!(String::from_utf8(slipped.stderr).unwrap(), told);
    let slipped = home.certd(&["explain", "wbe"]);
    assert_eq!(slipped.status.code(), Some(3));
    assert!(String::from_utf8(slipped.stderr).unwrap().contains("wbe — did you mean web? ("));

    let unknown = home.certd(&["renew", "nobody"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert_eq!(String::from_utf8(unknown.stdout).unwrap(), "nobody: certd manages no such certificate\n");
}

#[test]
fn commands_are_carried_out_by_a_certd_that_runs_and_by_themselves_where_none_does() {
    // Short-lived, so that it may be renewed more than twice within seven days.
    let home = Home::with(&format!("{LOCAL}lifetime = \"2d\"\n"));
    let certd = home.start();
    certd.logs(&["renewed, stored and read back"]);
    certd.turn_completed();
    every_command(&home);
    assert_eq!(certd.count(&["renewing", "reason=\"forced\""]), 1, "{}", certd.log().join("\n"));
    certd.stop();
    every_command(&home);
}

#[test]
fn a_pause_is_shown_by_the_metrics_and_outlives_a_restart() {
    let home = Home::with(LOCAL);
    let certd = home.start();
    certd.turn_completed();
    home.says(&["pause", "--until", "1h"]);
    home.says(&["pause", "web", "--until", "2h"]);
    acts(&certd, "0", true);
    certd.stop();
    let again = home.start();
    acts(&again, "0", true);
    home.says(&["resume"]);
    acts(&again, "1", true);
    home.says(&["resume", "web"]);
    acts(&again, "1", false);
    again.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_stops_the_next_renewal_of_the_turn_that_is_running() {
    let vault = server().await;
    let ca = vault.pki().await;
    let gate = Gate::before(&vault.address);
    let home = Home::with(&signed_by(&gate.address, &ca.mount, &["a", "b"]));
    std::fs::write(home.path("token"), &vault.root_token).unwrap();
    let certd = home.start();
    gate.has_somebody();
    home.says(&["pause", "--until", "1h"]);
    gate.open();
    certd.logs(&["renewed, stored and read back", "cert=a"]);
    held(&certd, "b");
    assert_eq!(certd.count(&["renewing", "cert=b"]), 0);
    assert!(!home.path("certificates/b").exists());

    home.says(&["resume"]);
    certd.logs(&["renewed, stored and read back", "cert=b"]);
    certd.stop();
}

/// Once the metrics say so: whether all may be acted on, and whether `web` is paused.
fn acts(certd: &Running, all: &str, paused: bool) {
    eventually("what the metrics say of pauses", || {
        let own = certd.metric("certd_certificate_paused_until_timestamp_seconds{cert=\"web\"}");
        let is_so = certd.metric("certd_acting").as_deref() == Some(all) && own.is_some() == paused;
        if is_so { Ok(()) } else { Err(certd.get("/metrics").1) }
    });
}

fn held(certd: &Running, name: &str) {
    let series = format!("certd_certificate_state{{cert=\"{name}\",state=\"held\"}}");
    eventually(&series, || certd.metric(&series).ok_or_else(|| certd.get("/metrics").1));
}

/// A pause that cannot be read is no sign that there is none. Root sees through every mode, so a file stands
/// here where a folder is looked for.
#[test]
fn a_journal_out_of_sight_is_not_taken_for_one_that_was_never_begun() {
    let home = Home::with(LOCAL);
    std::fs::write(home.path("state"), "").unwrap();
    let planned = home.certd(&["plan"]);
    assert_eq!(planned.status.code(), Some(3), "{planned:?}");
    assert!(String::from_utf8(planned.stderr).unwrap().contains("the journal"));
}

#[test]
fn config_check_tells_of_a_token_that_is_not_there() {
    let home = Home::with("vault.main = { address = \"http://127.0.0.1:8200\", token_file = \"token\" }\n");
    let config = home.config().display().to_string();
    let ok = format!("{config}: ok; sources: 0, issuers: 0, certificates: 0, adopt rules: 0\n");
    let ok = ok + "whether its Vaults grant what it needs: certd vault doctor\n";
    let told = format!(
        "certd: the token of vault main cannot be read now: {}: No such file or directory (os error 2)\n",
        home.path("token").display()
    );
    assert_eq!(home.says(&["config", "check"]), format!("{ok}{told}"));
    std::fs::write(home.path("token"), "s.some").unwrap();
    assert_eq!(home.says(&["config", "check"]), ok);
}
