//! Files with damaged keys: what is wrong is told by line and kind, and no piece of a key is printed.

use crate::certd::{BINARY, Place, run};
use crate::made::identity;
use crate::support::secrets::{self, Kind};

/// Ed25519 in PKCS#8, SEC1, PKCS#8 and PKCS#1.
const CANARIES: &str = include_str!("../properties/canaries.pem");

const BLANK: &str = "a blank line stands within the block: remove it";

/// Told to the search that each run ends with.
fn canary(nth: usize) -> String {
    secrets::told_keys(Kind::KeyOnDisk, CANARIES);
    let blocks = CANARIES.split_inclusive("KEY-----\n").collect::<Vec<_>>();
    blocks[2 * nth..2 * nth + 2].concat()
}

/// The text of each file, and why it is not understood.
fn damaged() -> Vec<(&'static str, String, String)> {
    let (ed25519, sec1) = (canary(0), canary(1));
    let second = sec1.match_indices('\n').nth(1).unwrap().0;
    let damage = |line: usize, what: &str| format!("the PEM is damaged in line {line}: {what}");
    let none = "it holds a private key without a certificate".to_string();
    vec![
        ("double.pem", ed25519.replace('\n', "\n\n"), damage(2, BLANK)),
        ("blank.pem", [&sec1[..second], "\n", &sec1[second..]].concat(), damage(3, BLANK)),
        (
            "dash.pem",
            ed25519.replacen("KEY-----", "KEY----", 1),
            damage(1, "the BEGIN mark has not five dashes on each side"),
        ),
        ("first-dash.pem", ed25519.replacen("-----BEGIN", "----BEGIN", 1), damage(3, "an END mark has no BEGIN mark")),
        (
            "label.pem",
            sec1.replace("END EC", "END"),
            damage(5, "the label of the END mark is not that of its BEGIN mark"),
        ),
        ("behind.pem", ed25519.replace("\n-----END", "-----END"), none.clone()),
        ("line.pem", ed25519.replace('\n', " "), none.clone()),
        ("glued.pem", ed25519.replace('\n', ""), none.clone()),
        ("returns.pem", ed25519.replace('\n', "\r"), none),
    ]
}

#[test]
fn damage_is_told_by_line_and_kind_in_every_format() {
    let place = Place::new();
    for (name, text, why) in damaged() {
        place.write(name, text);
        let wanted = format!("could not understand {name}: {why}");
        let (code, told) = place.report(&[name]);
        assert_eq!((code, told["certificates"][0]["obstacle"]["message"].as_str()), (3, Some(wanted.as_str())));
        for format in ["table", "nagios"] {
            let run = place.check(&[name, "--format", format]);
            assert_eq!((run.code, run.stderr.as_str()), (3, ""), "{name} {format}");
        }
        assert!(place.check(&[name]).stdout.contains(&why), "{name}");
    }
}

#[test]
fn what_plans_over_a_damaged_key_or_is_configured_with_one_does_not_print_it() {
    let place = Place::new();
    place.write("chain.pem", identity("a.example", -10, 80).leaf_pem);
    place.write("token", "no-token-of-anybody");
    for (name, text, why) in damaged().into_iter().take(5) {
        place.write(name, text);
        let local = "[issuer.ca.local_ca]\ndirectory = \"ca\"\ncreate = true\n";
        let store = format!("store.file = {{ bundle = \"{name}\" }}\n");
        let web = format!("[[certificate]]\nname = \"web\"\nnames = [\"a.example\"]\nissuer = \"ca\"\n{store}");
        place.write("certd.toml", format!("state_dir = \"state\"\n{local}{web}"));
        for command in [&["plan"][..], &["explain", "web"], &["renew"]] {
            let run = run(place.command(BINARY).args(command).args(["--config", "certd.toml"]), b"");
            assert!((run.stdout.clone() + &run.stderr).contains(&why), "{command:?} {name}: {run:?}");
        }
        let client = format!("client_certificate_file = \"chain.pem\"\nclient_key_file = \"{name}\"\n");
        let vault = format!("[vault.main]\naddress = \"https://127.0.0.1:1\"\ntoken_file = \"token\"\n{client}");
        place.write("vault.toml", format!("state_dir = \"state\"\n{vault}"));
        let run = run(place.command(BINARY).args(["config", "check", "--config", "vault.toml"]), b"");
        assert!((run.stdout.clone() + &run.stderr).contains(&why), "{name}: {run:?}");
    }
}

#[test]
fn a_key_in_the_place_of_a_list_or_of_a_configuration_is_not_printed() {
    let place = Place::new();
    let key = canary(0);
    let body = key.lines().nth(1).unwrap();
    place.write("key.pem", &key);
    place.write("body.txt", format!("a.pem\n{body}\n"));
    for (name, looks) in [
        ("key.pem", "line 1 looks like a text in PEM (27 characters, not shown)"),
        ("body.txt", "line 2 looks like a key or a password (64 characters, not shown)"),
    ] {
        let refusal = place.check(&["--targets-file", name]).refusal().to_string();
        let why = format!("{looks}: name a list of targets, one a line");
        assert_eq!(refusal, format!("could not read the targets: {name}: {why}"));
    }
    for config in [
        key.clone(),
        format!("{body} = 1\n"),
        format!("state_dir = [{body:?}]\n"),
        format!("state_dir = {body:?}\n"),
        format!("turn = {body:?}\n"),
        format!("[vault.main]\naddress = \"https://127.0.0.1:1\"\ntoken_file = {key:?}\n"),
        format!("[turn]\ninterval = {body:?}\n"),
        format!("[[certificate]]\nname = \"web\"\n{body:?} = 1\n"),
    ] {
        place.write("certd.toml", config);
        let run = run(place.command(BINARY).args(["config", "check", "--config", "certd.toml"]), b"");
        assert_eq!(run.code, 3, "{run:?}");
        assert!((run.stdout.clone() + &run.stderr).contains("certd.toml:"), "{run:?}");
    }
}
