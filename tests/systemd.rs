//! The packaged unit: systemd understands every line of it, and finds little to reach from inside.

use std::{path::Path, process::Command};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/certd.service");

/// What `systemd-analyze security` may say at most; a plain root unit is 9.6.
const MOST_EXPOSURE: f64 = 1.5;

#[test]
fn the_sandbox_leaves_an_exposure_of_at_most_one_and_a_half() {
    let (success, text) = systemd_analyze(&["security", "--offline=true", "--threshold=15", UNIT]);

    let (_, verdict) = text.split_once("Overall exposure level for certd.service: ").expect(&text);
    let exposure: f64 = verdict.split_whitespace().next().unwrap().parse().unwrap();
    assert!(exposure <= MOST_EXPOSURE, "{text}");
    assert!(success, "{text}");
}

#[test]
fn systemd_complains_of_nothing_but_the_program_not_being_installed() {
    let (_, text) = systemd_analyze(&["verify", "--man=no", UNIT]);

    let installed = Path::new("/usr/bin/certd").exists();
    let complaints: Vec<&str> = text.lines().filter(|line| line.contains("certd")).collect();
    let expected = "certd.service: Command /usr/bin/certd is not executable: No such file or directory";
    assert_eq!(complaints, if installed { vec![] } else { vec![expected] });
}

/// A missing credential without a path is skipped; one with a path stops the unit, so the packaged unit has none.
#[test]
fn the_unit_starts_on_a_host_without_any_credential() {
    let unit = std::fs::read_to_string(UNIT).unwrap();

    let credentials: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("LoadCredential=")).collect();

    assert_eq!(credentials, ["vault-token", "role-id", "secret-id"]);
}

fn systemd_analyze(arguments: &[&str]) -> (bool, String) {
    let output =
        Command::new("systemd-analyze").args(arguments).env("SYSTEMD_COLORS", "0").output().unwrap_or_else(|e| {
            panic!("could not run systemd-analyze: {e}\ninstall it: apt-get install systemd, or run tests/run as root")
        });
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}
