//! What systemd hears, on a socket of the test.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use super::process::{Home, LOCAL, PATIENCE, Running};
use super::stand_in::BlackHole;

const WATCHDOG: Duration = Duration::from_secs(2);

struct Systemd(UnixDatagram);

impl Systemd {
    /// The daemon that it supervises.
    fn start(home: &Home) -> (Self, Running) {
        let path = home.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let microseconds = WATCHDOG.as_micros().to_string();
        let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", microseconds.as_str())];
        (Self(socket), home.start_with(&environment))
    }

    fn hears(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).expect("certd says something");
        String::from_utf8(bytes[..length].to_vec()).unwrap().trim_end().to_string()
    }

    /// The next that is no mere sign of life.
    fn is_told(&self) -> String {
        std::iter::repeat_with(|| self.hears()).find(|heard| heard != "WATCHDOG=1").unwrap()
    }

    /// Four signs of life, each in time, and no more often than it takes: on a busy machine one that is late comes soon
    /// before the next.
    fn is_fed(&self) {
        self.hears_life();
        let first = Instant::now();
        let mut last = first;
        for _ in 0..3 {
            self.hears_life();
            let gap = last.elapsed();
            assert!(gap < WATCHDOG, "{gap:?}");
            last = Instant::now();
        }
        assert!(first.elapsed() > WATCHDOG, "{:?}", first.elapsed());
    }

    fn hears_life(&self) {
        assert_eq!(self.hears(), "WATCHDOG=1");
    }
}

/// In microseconds, as systemd counts them.
fn monotonic() -> u64 {
    let text = sd_notify::NotifyState::monotonic_usec_now().unwrap().to_string();
    text.split_once('=').unwrap().1.parse().unwrap()
}

#[test]
fn systemd_is_told_of_ready_reloading_and_stopping_and_hears_signs_of_life_between() {
    let home = Home::with(LOCAL);
    let (systemd, mut certd) = Systemd::start(&home);
    assert_eq!(systemd.is_told(), "READY=1");
    systemd.is_fed();

    for tables in [LOCAL, "[nonsense]"] {
        home.configure(tables);
        let before = monotonic();
        certd.signal(libc::SIGHUP);
        let told = systemd.is_told();
        let at: u64 = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&told).parse().unwrap();
        assert!((before..=monotonic()).contains(&at), "{at}");
        assert_eq!(systemd.is_told(), "READY=1", "also where the old one stays");
    }

    certd.signal(libc::SIGTERM);
    assert_eq!(systemd.is_told(), "STOPPING=1");
    assert_eq!(certd.ended().0.code(), Some(0));
}

#[test]
fn an_outage_of_vault_feeds_the_watchdog() {
    let hole = BlackHole::new();
    let home = Home::with(&format!(
        "[vault.main]\naddress = \"http://127.0.0.1:{}\"\ntoken_file = \"token\"\ndeadline = \"1s\"\n\
         [source.apps.vault_kv]\nvault = \"main\"\npaths = [\"secret/**\"]\n",
        hole.port
    ));
    std::fs::write(home.path("token"), "s.example").unwrap();
    let (systemd, certd) = Systemd::start(&home);
    assert_eq!(systemd.is_told(), "READY=1");
    hole.has_somebody();
    systemd.is_fed();
    certd.turn_completed();
    assert_eq!(certd.metric("certd_source_up{source=\"apps\"}").as_deref(), Some("0"));
    certd.stop();
}
