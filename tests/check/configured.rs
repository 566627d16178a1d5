//! With a configuration: its targets, its thresholds, and whether certd may act.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::certd::{BINARY, Place, lines, run};
use crate::made::identity;

fn place(config: &str) -> Place {
    let place = Place::new();
    place.write("certd.toml", format!("state_dir = \"state\"\n{config}"));
    place.write("a.pem", identity("a.example", -75, 15).pem());
    place.write("b.pem", identity("b.example", -10, 80).pem());
    place
}

const SOURCE: &str = "[source.disk.file]\npaths = [\"*.pem\"]\n";

const MANAGED: &str = r#"
[issuer.local.local_ca]
directory = "ca"
create = true

[[certificate]]
name = "web"
names = ["a.example"]
issuer = "local"
store.file = { bundle = "a.pem" }
"#;

#[test]
fn without_targets_those_of_the_configuration_are_looked_at() {
    let place = place(SOURCE);
    let (code, told) = place.report(&["--config", "certd.toml"]);
    let path = |name: &str| place.path().join(name).display().to_string();
    let wanted = [format!("{} warning expiring", path("a.pem")), format!("{} ok", path("b.pem"))];
    assert_eq!((code, lines(&told)), (1, wanted.to_vec()));
    assert_eq!(told["certificates"][0]["source"], "disk");
    let (code, told) = place.report(&["--config", "certd.toml", "b.pem"]);
    assert_eq!((code, lines(&told)), (0, vec!["b.pem ok".to_string()]));
    assert!(!place.path().join("state").exists(), "a look leaves nothing behind");
}

#[test]
fn thresholds_are_those_of_the_configuration_unless_told_otherwise() {
    let place = place("[check]\nwarning = \"14d\"\ncritical = \"3d\"\n");
    let code = |more: &[&str]| place.check(&[&["--config", "certd.toml", "a.pem"], more].concat()).code;
    assert_eq!(code(&[]), 0);
    assert_eq!(code(&["--warn", "16d"]), 1);
    assert_eq!(code(&["--critical", "50%"]), 2);
    assert_eq!(place.check(&["--config", "certd.toml", "a.pem", "--critical", "16d"]).code, 3);
}

#[test]
fn a_configuration_that_names_nothing_is_no_reason_for_ok() {
    let place = place("");
    assert_eq!(
        place.check(&["--config", "certd.toml"]).refusal(),
        "nothing to check: there is no source, no certificate and no adopt rule in certd.toml"
    );
}

#[test]
fn a_configuration_with_a_mistake_is_told_with_its_line() {
    let place = place("[source.disk.file]\npath = [\"*.pem\"]\n");
    let run = place.check(&["--config", "certd.toml"]);
    assert_eq!((run.code, run.stdout.as_str()), (3, ""));
    assert!(run.stderr.contains("certd.toml:3:1") && run.stderr.contains("`path`"), "{}", run.stderr);
}

#[test]
fn the_table_says_first_that_certd_may_not_act() {
    let place = place(&format!("act = false\n{MANAGED}"));
    let shown = place.check(&["--config", "certd.toml"]);
    assert!(shown.stdout.starts_with("act = false: nothing will be renewed\n"), "{}", shown.stdout);
    assert!(shown.stdout.contains("is left alone: act = false"), "{}", shown.stdout);
}

#[test]
fn the_table_says_first_until_when_acting_is_paused() {
    let place = place(MANAGED);
    let pause = |arguments: &[&str]| {
        let paused = run(place.command(BINARY).args(arguments).args(["--config", "certd.toml"]), b"");
        assert_eq!((paused.code, paused.stderr.as_str()), (0, ""));
    };
    assert!(place.check(&["--config", "certd.toml"]).stdout.contains("is to be renewed: "));
    pause(&["pause", "--until", "2999-01-31T12:00:00Z"]);
    let shown = place.check(&["--config", "certd.toml"]).stdout;
    assert!(shown.starts_with("acting is paused until 2999-01-31T12:00:00Z, in 9"), "{shown}");
    pause(&["resume"]);
    pause(&["pause", "web", "--until", "2999-01-31T12:00:00Z"]);
    let shown = place.check(&["--config", "certd.toml"]).stdout;
    assert!(shown.starts_with("STATE"), "{shown}");
    assert!(shown.contains("is left alone: paused until 2999-01-31T12:00:00Z"), "{shown}");
}

#[test]
fn a_store_that_others_may_change_is_held_and_told_long_before_it_is_due() {
    let place = Place::new();
    let managed = MANAGED.replace("bundle = \"a.pem\"", "bundle = \"open/a.pem\"");
    place.write("certd.toml", format!("state_dir = \"state\"\n{managed}"));
    std::fs::create_dir(place.path().join("open")).unwrap();
    place.write("open/a.pem", identity("a.example", -1, 89).pem());
    let mode = |mode: u32| {
        std::fs::set_permissions(place.path().join("open"), std::fs::Permissions::from_mode(mode)).unwrap();
        place.report(&["--config", "certd.toml"])
    };
    let path = place.path().join("open");
    let (code, told) = mode(0o755);
    assert_eq!((code, lines(&told)), (0, vec![format!("{}/a.pem ok", path.display())]));
    let (code, told) = mode(0o777);
    assert_eq!((code, lines(&told)), (2, vec![format!("{}/a.pem critical place_exposed", path.display())]));
    let why = format!(
        "no private key is written there: others may write to {0} (mode 777, group {1}): run chmod go-w {0}",
        path.display(),
        std::fs::metadata(&path).unwrap().gid()
    );
    assert_eq!(told["certificates"][0]["problems"][0]["message"], why);
    let plan = run(place.command(BINARY).args(["plan", "--config", "certd.toml", "--format", "json"]), b"");
    assert!(
        plan.stdout.contains("\"because\": \"unwritable\"") || plan.stdout.contains("\"because\":\"unwritable\""),
        "{}",
        plan.stdout
    );
}

/// Its message named the directory below, which is as it should be.
#[test]
fn a_directory_of_somebody_else_above_ones_own_is_named_itself() {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    let place = Place::new();
    let managed = MANAGED.replace("bundle = \"a.pem\"", "bundle = \"theirs/ours/a.pem\"");
    place.write("certd.toml", format!("state_dir = \"state\"\n{managed}"));
    std::fs::create_dir_all(place.path().join("theirs/ours")).unwrap();
    place.write("theirs/ours/a.pem", identity("a.example", -1, 89).pem());
    let theirs = place.path().join("theirs");
    std::os::unix::fs::chown(&theirs, Some(1234), None).unwrap();
    let (code, told) = place.report(&["--config", "certd.toml"]);
    let why = format!(
        "no private key is written there: {0} belongs to user 1234, who is neither root nor the user that certd runs as: \
         run chown root {0}",
        theirs.display()
    );
    assert_eq!((code, told["certificates"][0]["problems"][0]["message"].as_str()), (2, Some(why.as_str())));
}

/// Whoever owns the directory of one store must not stop the others by a link.
#[test]
fn a_link_of_somebody_else_to_another_store_holds_the_place_of_the_link_alone() {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    let place = Place::new();
    let entry = |name: &str, bundle: &str| {
        format!(
            "[[certificate]]\nname = \"{name}\"\nnames = [\"{name}.example\"]\nissuer = \"home\"\n\
             store.file = {{ bundle = \"{bundle}\" }}\n"
        )
    };
    let home = "state_dir = \"state\"\n[issuer.home.local_ca]\ndirectory = \"ca\"\ncreate = true\n";
    let config = home.to_string() + &entry("a", "ours/a.pem") + &entry("b", "theirs/b.pem");
    place.write("certd.toml", config);
    for folder in ["ours", "theirs"] {
        std::fs::create_dir(place.path().join(folder)).unwrap();
    }
    place.write("ours/a.pem", identity("a.example", -1, 89).pem());
    place.write("theirs/b.pem", identity("b.example", -1, 89).pem());
    let (theirs, link) = (place.path().join("theirs"), place.path().join("theirs/b.pem"));
    std::os::unix::fs::chown(&theirs, Some(1234), None).unwrap();
    let check = || run(place.command(BINARY).args(["config", "check", "--config", "certd.toml"]), b"");
    assert_eq!(check().code, 0, "{:?}", check());
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(place.path().join("ours/a.pem"), &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(1234), None).unwrap();
    assert_eq!(check().code, 0, "{:?}", check());
    let (_, told) = place.report(&["--config", "certd.toml"]);
    let all = told["certificates"].as_array().unwrap();
    let problems = |name: &str| {
        let one = all.iter().find(|one| one["location"].as_str().unwrap().ends_with(name)).unwrap();
        one["problems"].as_array().unwrap().iter().map(|it| it["problem"].as_str().unwrap()).collect::<Vec<_>>()
    };
    assert!(problems("theirs/b.pem").contains(&"place_exposed"), "{told}");
    assert!(!problems("ours/a.pem").contains(&"place_exposed"), "{told}");
    // A link of root's own is a mistake of the configuration, as before.
    std::os::unix::fs::chown(&theirs, Some(0), None).unwrap();
    std::os::unix::fs::lchown(&link, Some(0), None).unwrap();
    let refused = check();
    assert!(refused.code != 0 && refused.stderr.contains("kept where \"a\" is kept"), "{refused:?}");
}
