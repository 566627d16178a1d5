//! A clock that jumps under a running certd (libfaketime), forward, back, and from 1970.

use std::path::PathBuf;

use super::process::{Home, LOCAL, Running, eventually};
use super::stop::signed_by;
use super::support::vault::server;

/// certd with a clock of its own; everything else has the right one.
struct Clock {
    home: Home,
    certd: Running,
}

impl Clock {
    fn start(home: Home, time: &str) -> Self {
        std::fs::write(home.path("time"), time).unwrap();
        let (file, library) = (home.path("time"), faketime());
        let environment = [
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        let certd = home.start_with(&environment);
        Self { home, certd }
    }

    /// Two whole turns later.
    fn jump(&self, time: &str) {
        std::fs::write(self.home.path("time.new"), time).unwrap();
        std::fs::rename(self.home.path("time.new"), self.home.path("time")).unwrap();
        self.turns(3);
    }

    fn turns(&self, more: usize) {
        let before = self.completed();
        eventually("more turns", || match self.completed() >= before + more {
            true => Ok(()),
            false => Err(self.certd.log().join("\n")),
        });
    }

    fn completed(&self) -> usize {
        self.certd.count(&["turn completed"])
    }

    fn renewals(&self) -> usize {
        self.certd.count(&["renewed, stored and read back"])
    }

    fn is_doubtful(&self) -> bool {
        self.certd.metric("certd_clock_doubtful").unwrap() == "1"
    }
}

fn faketime() -> PathBuf {
    let found = glob::glob("/usr/lib/*/faketime/libfaketimeMT.so.1").unwrap().flatten().next();
    found.expect("libfaketime is there: install faketime, as tests/run does")
}

#[test]
fn a_jump_forward_renews_what_is_due_by_it_once_and_a_jump_back_renews_nothing() {
    let clock = Clock::start(Home::with(&format!("{LOCAL}lifetime = \"6d\"\n")), "+0");
    clock.certd.logs(&["renewed, stored and read back"]);
    clock.jump("+1h");
    assert_eq!(clock.renewals(), 1, "an hour");
    clock.jump("+1d");
    assert_eq!(clock.renewals(), 1, "a day");
    clock.jump("+4d");
    assert_eq!(clock.renewals(), 2, "past the middle of six days");
    clock.jump("+400d");
    assert_eq!((clock.renewals(), clock.is_doubtful()), (3, false), "a long sleep is no doubt");

    clock.jump("+0");
    assert_eq!((clock.renewals(), clock.is_doubtful()), (3, true));
    let (status, why) = clock.certd.get("/readyz");
    assert!(status == 503 && why.contains("this host's clock shows a time before"), "{status} {why}");
    clock.certd.logs(&["this host's clock shows a time before", "certd resume"]);
    let checked = String::from_utf8(clock.home.certd(&["check"]).stdout).unwrap();
    assert!(checked.contains("nothing is renewed, and all that is said of time is in doubt"), "{checked}");
    // By the right clock, which is what the command has.
    clock.home.says(&["resume"]);
    clock.turns(2);
    assert_eq!((clock.renewals(), clock.is_doubtful()), (4, false), "what is valid in 400 days alone, and no storm");
    clock.certd.logs(&["renewing", "not_yet_valid"]);
    assert_eq!(clock.certd.count(&["could not renew"]), 0);
}

#[test]
fn nothing_is_made_in_1970_and_all_that_is_wanted_as_soon_as_the_clock_is_set() {
    let clock = Clock::start(Home::with(LOCAL), "@1970-01-01 00:10:00");
    clock.certd.logs(&["this host's clock is wrong: it shows a time before this certd was written"]);
    clock.turns(2);
    assert_eq!((clock.certd.count(&["renewing"]), clock.is_doubtful()), (0, true));
    assert!(!clock.home.path("ca/ca.pem").exists(), "no CA either");
    clock.jump("+0");
    assert_eq!((clock.renewals(), clock.is_doubtful()), (1, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_knows_the_time_holds_a_clock_that_jumps() {
    let vault = server().await;
    let ca = vault.pki().await;
    let home = Home::with(&signed_by(&vault.address, &ca.mount, &["web"]));
    std::fs::write(home.path("token"), &vault.root_token).unwrap();
    let clock = Clock::start(home, "+0");
    clock.certd.logs(&["renewed, stored and read back"]);
    for time in ["+400d", "-400d", "+1d", "-1d", "+1h", "-1h"] {
        clock.jump(time);
        assert_eq!((clock.certd.count(&["renewing"]), clock.is_doubtful()), (1, true), "{time}");
    }
    clock.certd.logs(&["400 days ahead of that of vault main"]);
    clock.certd.logs(&["60 min ahead of that of vault main"]);
    let told = clock.certd.count(&["this host's clock is", "WARN"]);
    assert_eq!(told, 6, "{}: one doubt is told once, however many turns meet it", clock.certd.log().join("\n"));
    clock.jump("+0");
    assert_eq!((clock.certd.count(&["renewing"]), clock.is_doubtful()), (1, false));
}
