//! Strict mode: what others may change is refused, told where it is switched off, and read within bounds.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use crate::certd::{BINARY, Place, Run, run};

/// Nothing need be called by this number.
const SOMEBODY: u32 = 1234;

const CONFIG: &str = r#"log.level = "info"
state_dir = "state"

[vault.main]
address = "https://127.0.0.1:1"
token_file = "secrets/token"
staging_key_file = "secrets/staging"

[source.disk.file]
paths = ["none.pem"]
roots = ["secrets/roots"]

[issuer.public.acme]
directory = "https://127.0.0.1:2/directory"
eab = { key_id = "kid", hmac_file = "secrets/eab" }
challenge.dns_01.exec = { command = ["COMMAND"] }
"#;

fn place() -> Place {
    let place = Place::new();
    let command = place.path().join("bin/dns").display().to_string();
    for folder in ["conf.d", "secrets", "bin", "state"] {
        std::fs::create_dir(place.path().join(folder)).unwrap();
    }
    let root = rcgen::generate_simple_self_signed(vec!["root".to_string()]).unwrap().cert.pem();
    for (name, text) in [
        ("certd.toml", CONFIG.replace("COMMAND", &command).as_str()),
        ("conf.d/more.toml", "[check]\nsame_key_renewals = 3\n"),
        ("secrets/token", "t"),
        ("secrets/eab", "aGVsbG8"),
        ("secrets/staging", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
        ("secrets/roots", &root),
        ("bin/dns", "#!/bin/sh\n"),
    ] {
        place.write(name, text);
    }
    mode(&place, "bin/dns", 0o755);
    mode(&place, "secrets/staging", 0o600);
    place
}

fn mode(place: &Place, name: &str, mode: u32) {
    std::fs::set_permissions(place.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
}

fn certd(place: &Place, arguments: &[&str]) -> Run {
    run(place.command(BINARY).args(arguments).args(["--config", "certd.toml"]), b"")
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn what_others_may_write_to_is_refused_by_every_command_with_what_to_do() {
    let place = place();
    assert_eq!(certd(&place, &["config", "check"]).code, 0);
    let at = |name: &str| place.path().canonicalize().unwrap().join(name).display().to_string();
    for (name, before, open, advice) in [
        ("certd.toml", 0o600, 0o666, "go-w"),
        ("conf.d", 0o755, 0o777, "go-w"),
        ("conf.d", 0o755, 0o1757, ""),
        ("conf.d/more.toml", 0o644, 0o646, "o-w"),
        ("secrets", 0o755, 0o757, "o-w"),
        ("secrets/token", 0o600, 0o602, "o-w"),
        ("secrets/eab", 0o600, 0o666, "go-w"),
        ("secrets/staging", 0o600, 0o622, "go-w"),
        ("secrets/roots", 0o644, 0o646, "o-w"),
        ("bin/dns", 0o755, 0o777, "go-w"),
        ("bin", 0o755, 0o777, "go-w"),
        ("state", 0o700, 0o777, "go-w"),
    ] {
        mode(&place, name, open);
        let group = std::fs::metadata(place.path().join(name)).unwrap().gid();
        let advice = match advice {
            "" => "use a directory of its own instead".to_string(),
            change => format!("run chmod {change} {}", at(name)),
        };
        let said = format!("others may write to {} (mode {open:o}, group {group}): {advice}", at(name));
        for command in [&["config", "check"][..], &["check"], &["plan"], &["renew"], &["vault", "doctor"], &["run"]] {
            let refused = certd(&place, command);
            assert!(refused.code >= 1, "{command:?} with {name}: {refused:?}");
            assert!(refused.stderr.contains(&said), "{command:?} with {name}: {}", refused.stderr);
        }
        mode(&place, name, before);
    }
    assert_eq!(certd(&place, &["config", "check"]).code, 0);
}

#[test]
fn what_belongs_to_somebody_else_is_refused() {
    if !is_root() {
        return;
    }
    let place = place();
    for name in ["certd.toml", "conf.d", "secrets", "secrets/token", "bin/dns"] {
        let path = place.path().join(name);
        chown(&path, Some(SOMEBODY), None).unwrap();
        let refused = certd(&place, &["config", "check"]);
        let said = format!(
            "{0} belongs to user 1234, who is neither root nor the user that certd runs as: run chown root {0}",
            path.canonicalize().unwrap().display()
        );
        assert!(refused.code != 0 && refused.stderr.contains(&said), "{name}: {}", refused.stderr);
        chown(&path, Some(0), None).unwrap();
    }
    // The state directory tells which user the service runs as; its secrets may be its own.
    chown(place.path().join("state"), Some(SOMEBODY), None).unwrap();
    chown(place.path().join("secrets/token"), Some(SOMEBODY), None).unwrap();
    assert_eq!(certd(&place, &["config", "check"]).code, 0);
    chown(place.path().join("certd.toml"), Some(SOMEBODY), None).unwrap();
    assert_ne!(certd(&place, &["config", "check"]).code, 0);
}

#[test]
fn strict_modes_false_in_the_main_file_lets_it_pass_and_is_told_each_time() {
    let place = place();
    mode(&place, "secrets/token", 0o666);
    let config = std::fs::read_to_string(place.path().join("certd.toml")).unwrap();
    place.write("certd.toml", format!("strict_modes = false\n{config}"));
    for _ in 0..2 {
        let passed = certd(&place, &["config", "check"]);
        let said = "certd: strict_modes = false lets this pass: ";
        assert!(passed.code == 0 && passed.stderr.contains(said), "{passed:?}");
        assert!(passed.stderr.contains("secrets/token (mode 666, group "), "{}", passed.stderr);
    }
    place.write("certd.toml", &config);
    place.write("conf.d/more.toml", "strict_modes = false\n");
    let refused = certd(&place, &["config", "check"]);
    assert!(
        refused.stderr.contains("conf.d/more.toml:1:16: strict_modes in a drop-in — move it to the main file"),
        "{}",
        refused.stderr
    );
    assert!(refused.code != 0 && refused.stderr.contains("secrets/token (mode 666, group "), "{}", refused.stderr);
}

#[test]
fn a_device_or_a_pipe_is_neither_configuration_nor_secret_nor_list_and_nobody_waits_for_it() {
    let place = place();
    let pipe = |name: &str| {
        let path = place.path().join(name);
        let _ = std::fs::remove_file(&path);
        assert!(place.command("mkfifo").arg(&path).status().unwrap().success());
    };
    let why = "it is not a regular file: name a file, no directory, pipe or device";
    pipe("pipe.toml");
    for path in ["/dev/zero", "pipe.toml", "."] {
        let refused = run(place.command(BINARY).args(["config", "check", "--config", path]), b"");
        assert!(refused.code != 0 && refused.stderr.contains(&format!("could not read: {why}")), "{path}: {refused:?}");
        let refused = place.check(&["--targets-file", path]);
        assert!(refused.code == 3 && refused.stderr.contains(why), "{path}: {refused:?}");
    }
    pipe("conf.d/more.toml");
    assert!(certd(&place, &["config", "check"]).stderr.contains(why));
    std::fs::remove_file(place.path().join("conf.d/more.toml")).unwrap();
    pipe("secrets/token");
    let told = certd(&place, &["config", "check"]);
    assert!(told.code == 0 && told.stderr.contains("the token of vault main cannot be read now: "), "{told:?}");
    assert!(told.stderr.contains(why), "{}", told.stderr);
}
