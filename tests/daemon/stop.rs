//! SIGTERM and SIGINT: whatever certd is doing, it is gone within ten seconds and nothing is lost.

use std::time::Duration;

use super::process::{Home, LOCAL, Running};
use super::stand_in::{BlackHole, Gate};
use super::support::vault::server;

const SIGNALS: [libc::c_int; 2] = [libc::SIGTERM, libc::SIGINT];

/// With a moment for a process that only has to end, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(6);

const LONGEST: Duration = Duration::from_secs(10);

fn ends(mut certd: Running, signal: libc::c_int, within: Duration) -> Vec<String> {
    certd.signal(signal);
    let (status, took) = certd.ended();
    assert_eq!(status.code(), Some(0), "{}", certd.log().join("\n"));
    assert!(took < within, "signal {signal}: {took:?}\n{}", certd.log().join("\n"));
    certd.log()
}

#[test]
fn an_idle_certd_ends_at_once() {
    for signal in SIGNALS {
        let home = Home::with(LOCAL);
        let certd = home.start();
        certd.turn_completed();
        ends(certd, signal, AT_ONCE);
    }
}

#[test]
fn a_turn_that_hangs_on_an_endpoint_does_not_keep_it() {
    for signal in SIGNALS {
        let hole = BlackHole::new();
        let source = format!("[source.far.tls]\ntargets = [\"127.0.0.1:{}\"]\ntimeout = \"5m\"\n", hole.port);
        let home = Home::with(&format!("{LOCAL}{source}"));
        let certd = home.start();
        hole.has_somebody();
        ends(certd, signal, AT_ONCE);
    }
}

#[test]
fn a_turn_that_hangs_on_a_silent_vault_does_not_keep_it() {
    for signal in SIGNALS {
        let hole = BlackHole::new();
        let home = Home::with(&format!(
            "[vault.main]\naddress = \"http://127.0.0.1:{}\"\ntoken_file = \"token\"\ndeadline = \"10s\"\n\
             [source.apps.vault_kv]\nvault = \"main\"\npaths = [\"secret/**\"]\n",
            hole.port
        ));
        std::fs::write(home.path("token"), "s.example").unwrap();
        let certd = home.start();
        hole.has_somebody();
        ends(certd, signal, AT_ONCE);
    }
}

#[test]
fn a_token_that_is_a_pipe_is_told_and_keeps_neither_a_turn_nor_a_stop() {
    for signal in SIGNALS {
        let home = Home::with(
            "[vault.main]\naddress = \"http://127.0.0.1:1\"\ntoken_file = \"token\"\n\
             [source.apps.vault_kv]\nvault = \"main\"\npaths = [\"secret/**\"]\n",
        );
        // Opening a pipe that nobody writes to would wait for ever.
        let token = home.path("token");
        assert!(std::process::Command::new("mkfifo").arg(&token).status().unwrap().success());
        let certd = home.start();
        certd.logs(&["it is not a regular file: name a file, no directory, pipe or device"]);
        certd.turn_completed();
        ends(certd, signal, AT_ONCE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_under_way_at_sigterm_is_resumed_and_closed_on_the_next_start() {
    a_renewal_is_resumed_after(libc::SIGTERM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_under_way_at_sigint_is_resumed_and_closed_on_the_next_start() {
    a_renewal_is_resumed_after(libc::SIGINT).await;
}

async fn a_renewal_is_resumed_after(signal: libc::c_int) {
    let vault = server().await;
    let ca = vault.pki().await;
    let gate = Gate::before(&vault.address);
    let home = Home::with(&signed_by(&gate.address, &ca.mount, &["web"]));
    std::fs::write(home.path("token"), &vault.root_token).unwrap();

    let certd = home.start();
    gate.has_somebody();
    let log = ends(certd, signal, LONGEST);
    assert!(log.iter().any(|line| line.contains("stopping with the renewal open")), "{log:?}");
    let [pending] = pending(&home).try_into().unwrap();

    gate.open();
    let again = home.start();
    again.logs(&["renewed, stored and read back", "cert=web"]);
    again.stop();
    assert_eq!(home.read("certificates/web/privkey.pem"), pending, "the key that was durable before is the one used");
    assert_eq!(self::pending(&home), [""; 0]);
}

/// The private keys of renewals in flight.
fn pending(home: &Home) -> Vec<String> {
    let files = std::fs::read_dir(home.path("state/pending")).unwrap();
    files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}

/// Certificates from a Vault's CA, kept in files.
pub fn signed_by(vault: &str, mount: &str, names: &[&str]) -> String {
    let certificates = names.iter().map(|name| {
        format!(
            "[[certificate]]\nname = \"{name}\"\nnames = [\"{name}.example.org\"]\nissuer = \"internal\"\n\
             store.file = {{ directory = \"certificates/{name}\" }}\n"
        )
    });
    format!(
        "[vault.main]\naddress = \"{vault}\"\ntoken_file = \"token\"\ndeadline = \"10s\"\n\
         [issuer.internal.vault_pki]\nvault = \"main\"\nmount = \"{mount}\"\nrole = \"servers\"\n{}",
        certificates.collect::<String>()
    )
}
