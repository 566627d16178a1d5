//! The packaged unit: systemd understands every line of it, and finds little to reach from inside.

use std::{fs, path::Path, process::Command};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/certd.service");

const SOCKET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/certd-acme.socket");

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/certd.service.d/example.conf");

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
    assert_eq!(complaints(Path::new(UNIT)), only_the_program());
}

#[test]
fn the_socket_of_challenges_is_understood_and_is_handed_to_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let (unit, socket) = (folder.path().join("certd.service"), folder.path().join("certd-acme.socket"));
    fs::copy(UNIT, &unit).unwrap();
    fs::copy(SOCKET, &socket).unwrap();
    assert_eq!(complaints(&socket), [""; 0]);

    let text = fs::read_to_string(&socket).unwrap();
    fs::write(&socket, text.replace("FileDescriptorName", "FileDescriptorNme")).unwrap();
    assert_eq!(complaints(&socket).len(), 1, "a mistake in it would have been seen");
    fs::write(&socket, text).unwrap();
    fs::remove_file(&unit).unwrap();
    assert_eq!(complaints(&socket), ["certd-acme.socket: service certd.service not loaded, socket cannot be started."]);
}

#[test]
fn every_line_that_the_example_drop_in_offers_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("certd.service");
    let drop_in = folder.path().join("certd.service.d/example.conf");
    // `#Setting=` is an offer, `# Words` are a comment.
    let offered = fs::read_to_string(EXAMPLE).unwrap().replace("\n#", "\n").replace("\n ", "\n# ");
    fs::copy(UNIT, &unit).unwrap();
    fs::create_dir(drop_in.parent().unwrap()).unwrap();

    fs::write(&drop_in, &offered).unwrap();
    assert_eq!(complaints(&unit), only_the_program(), "{offered}");

    fs::write(&drop_in, offered.replace("ReadWritePaths", "RedWritePaths")).unwrap();
    assert_eq!(complaints(&unit).len(), only_the_program().len() + 1, "a mistake in a drop-in would have been seen");
}

/// A missing credential without a path is skipped; one with a path stops the unit, so the packaged unit has none.
#[test]
fn the_unit_starts_on_a_host_without_any_credential() {
    let unit = fs::read_to_string(UNIT).unwrap();

    let credentials: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("LoadCredential=")).collect();

    assert_eq!(credentials, ["vault-token", "role-id", "secret-id", "metrics-token"]);
}

fn complaints(unit: &Path) -> Vec<String> {
    let (_, text) = systemd_analyze(&["verify", "--man=no", unit.to_str().unwrap()]);
    text.lines().filter(|line| line.contains("certd")).map(str::to_owned).collect()
}

fn only_the_program() -> Vec<String> {
    let missing = "certd.service: Command /usr/bin/certd is not executable: No such file or directory".to_owned();
    if Path::new("/usr/bin/certd").exists() { vec![] } else { vec![missing] }
}

fn systemd_analyze(arguments: &[&str]) -> (bool, String) {
    let output =
        Command::new("systemd-analyze").args(arguments).env("SYSTEMD_COLORS", "0").output().unwrap_or_else(|e| {
            panic!("could not run systemd-analyze: {e}\ninstall it: apt-get install systemd, or run tests/run as root")
        });
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}
