//! The four formats, as they leave the binary.

use std::process::Command;
use std::time::{Duration, Instant};

use rcgen::string::Ia5String;
use rcgen::{DnType, SanType};

use crate::certd::{BINARY, Place, lines, run};
use crate::made::{black_hole, closed_port, identity, signed};
use crate::support::certificates::params;

/// One of each: ok with a chain, ending, expired, missing, unknown.
const EACH: [&str; 5] = ["ok.pem", "ending.pem", "expired.pem", "gone.pem", "garbage.pem"];

fn place() -> Place {
    let place = Place::new();
    place.write("ok.pem", identity("ok.example", -10, 80).pem());
    place.write("ending.pem", identity("ending.example", -80, 10).pem());
    place.write("expired.pem", identity("expired.example", -90, -1).pem());
    place.write("garbage.pem", "garbage");
    place
}

fn check(place: &Place, format: &str) -> String {
    let run = place.check(&[&EACH[..], &["--format", format]].concat());
    assert_eq!((run.code, run.stderr.as_str()), (2, ""));
    run.stdout
}

#[test]
fn json_keeps_its_contract_whatever_was_seen() {
    let (_, told) = place().report(&EACH);
    let wanted = [
        "ending.pem warning expiring",
        "expired.pem critical expired",
        "garbage.pem unknown not_understood",
        "gone.pem critical missing",
        "ok.pem ok",
    ];
    assert_eq!(lines(&told), wanted);
    assert_eq!(told["certificates"][4]["chain"][0]["subject"], "CN=Check Root");
    assert_eq!(told["summary"], serde_json::json!({"ok": 1, "warning": 1, "critical": 2, "unknown": 1}));
}

#[test]
fn nagios_reads_its_state_and_its_figures_on_the_first_line() {
    let told = check(&place(), "nagios");
    let first = told.lines().next().unwrap();
    assert!(first.starts_with("CRITICAL: 2 of 5 certificates: gone.pem there is no certificate here; "), "{first}");
    let (_, figures) = first.split_once(" | ").unwrap();
    assert_eq!(figures, "ok=1;;;0 warning=1;;;0 critical=2;;;0 unknown=1;;;0");
    assert_eq!(told.matches('|').count(), 1);
    let ok = place().check(&["ok.pem", "--format", "nagios"]);
    assert_eq!((ok.code, ok.stdout.lines().count()), (0, 1));
    assert!(ok.stdout.starts_with("OK: 1 certificate, the first ends on "), "{}", ok.stdout);
}

#[test]
fn prometheus_is_a_page_that_promtool_finds_nothing_wrong_with() {
    let page = check(&place(), "prometheus");
    let states = page.lines().filter(|line| line.starts_with("certd_certificate_state{") && line.ends_with(" 1"));
    assert_eq!(states.count(), 5, "{page}");
    let promtool = std::env::var("CERTD_TEST_PROMTOOL").unwrap_or_else(|_| "promtool".to_string());
    let judged = run(Command::new(promtool).args(["check", "metrics"]), page.as_bytes());
    assert_eq!((judged.code, judged.stdout + &judged.stderr), (0, String::new()), "{page}");
}

#[test]
fn the_table_begins_with_the_worst_and_has_no_colour_when_it_is_piped() {
    let told = check(&place(), "table");
    let words: Vec<&str> = told.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(words[0], "STATE");
    assert_eq!(words[1..6], ["critical", "critical", "unknown", "warning", "ok"], "{told}");
    assert!(told.ends_with("\n1 ok, 1 warning, 2 critical, 1 unknown\n"), "{told}");
    assert!(!told.contains('\u{1b}'));
}

/// What `script` of util-linux sees on a terminal of its own, and the exit code.
fn on_a_terminal(place: &Place, arguments: &str) -> (i32, String) {
    let run = run(place.command("script").args(["-qec", &format!("{BINARY} check {arguments}"), "/dev/null"]), b"");
    (run.code, run.stdout)
}

#[test]
fn a_terminal_gets_colour_unless_it_wants_none() {
    let (code, shown) = on_a_terminal(&place(), &EACH.join(" "));
    assert_eq!(code, 2);
    for state in ["\u{1b}[1;31mcritical\u{1b}[0m", "\u{1b}[33mwarning\u{1b}[0m", "\u{1b}[32mok\u{1b}[0m"] {
        assert!(shown.contains(state), "{shown:?}");
    }
    assert!(!shown.contains("looked at"), "a quick look needs no progress: {shown:?}");
    let (code, shown) = on_a_terminal(&place().set("NO_COLOR", "1"), &EACH.join(" "));
    assert!(code == 2 && shown.contains("critical") && !shown.contains('\u{1b}'), "{shown:?}");
    let (_, shown) = on_a_terminal(&place(), &format!("{} --format json", EACH.join(" ")));
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn a_table_fits_its_terminal() {
    let place = place();
    let line = format!("stty cols 80 rows 24; exec {BINARY} check {}", EACH.join(" "));
    let run = run(place.command("script").args(["-qec", &line, "/dev/null"]).env("NO_COLOR", "1"), b"");
    assert_eq!(run.code, 2);
    assert!(run.stdout.lines().all(|line| line.trim_end().chars().count() <= 80), "{}", run.stdout);
    assert!(run.stdout.lines().count() > EACH.len() + 3, "long lines are wrapped: {}", run.stdout);
    assert!(EACH.iter().all(|target| run.stdout.contains(target)), "no place is broken: {}", run.stdout);
}

#[test]
fn a_long_look_shows_on_a_terminal_that_it_lives() {
    let hole = black_hole();
    let place = place().set("TERM", "xterm");
    let (code, shown) = on_a_terminal(&place, &format!("{hole} ok.pem --timeout 2s --roots none"));
    assert_eq!(code, 3);
    assert!(shown.contains("looked at"), "{shown:?}");
    let piped = place.check(&[&hole.to_string(), "--timeout", "2s", "--roots", "none"]);
    assert_eq!(piped.stderr, "");
}

#[test]
fn whoever_stops_reading_disturbs_nothing() {
    let place = place();
    let many: String = (0..5_000).map(|i| format!("gone-{i}.pem\n")).collect();
    place.write("many", many);
    for format in ["table", "json", "nagios", "prometheus"] {
        let line = format!("{BINARY} check --targets-file many --format {format} | head -1; exit ${{PIPESTATUS[0]}}");
        let run = run(place.command("bash").args(["-c", &line]), b"");
        assert_eq!((run.code, run.stderr.as_str()), (2, ""), "{format}");
        assert!(!run.stdout.is_empty());
    }
}

#[test]
fn a_report_that_cannot_be_written_is_unknown() {
    let place = place();
    let run = run(place.command("sh").args(["-c", &format!("{BINARY} check ok.pem >/dev/full")]), b"");
    assert_eq!(run.refusal(), "could not print the report: No space left on device (os error 28)");
    let mute = place.command("sh").args(["-c", &format!("{BINARY} check >/dev/full 2>/dev/full")]).status().unwrap();
    assert_eq!(mute.code(), Some(3));
}

#[test]
fn ten_thousand_targets_are_no_matter() {
    let place = place();
    let many: String = (0..10_000).map(|i| format!("gone-{i}.pem\ngone-{i}/*.pem\n")).collect();
    place.write("many", many);
    let started = Instant::now();
    let (code, told) = place.report(&["--targets-file", "many"]);
    assert_eq!((code, &told["summary"]["critical"]), (2, &serde_json::json!(20_000)));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn text_of_a_certificate_or_a_name_never_steers_the_terminal() {
    let evil = "evil\u{1b}[2J\r\nOK: all is well | ok=9\u{9b}31m\u{202e}\u{7}";
    let place = Place::new();
    let mut hostile = params(&["a.example"], -10, 80);
    hostile.distinguished_name.push(DnType::CommonName, evil);
    let name = "\u{1b}]0;owned\u{7}|.example";
    hostile.subject_alt_names.push(SanType::DnsName(Ia5String::try_from(name).unwrap()));
    let key = rcgen::KeyPair::generate().unwrap();
    place.write("own.pem", hostile.self_signed(&key).unwrap().pem());
    let mut ending = hostile.clone();
    ending.not_after = params(&[], -10, 1).not_after;
    let file = "x\n\u{1b}[31m|y.pem";
    place.write(file, signed(ending).pem());
    place
        .write("chain.pem", signed(hostile).leaf_pem + &std::fs::read_to_string(place.path().join("own.pem")).unwrap());
    let closed = format!("127.0.0.1:{}", closed_port());
    for format in ["table", "json", "nagios", "prometheus"] {
        for target in ["own.pem", file, "*.pem", "chain.pem", "no\u{1b}[31m\n|ne", "no\u{1b}[31m\n*|ne"] {
            let run = place.check(&[target, &closed, "--roots", "own.pem", "--format", format]);
            let stray = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!run.stdout.contains(stray) && run.stderr.is_empty(), "{format} {target:?}: {run:?}");
            assert!(!run.stdout.lines().any(|line| line.starts_with("OK")), "{format} {target:?}: {run:?}");
            if format == "nagios" {
                assert_eq!(run.stdout.matches('|').count(), 1, "{run:?}");
            }
        }
    }
    for bad in ["smtp://\u{1b}[31m\n", "a:1 \u{1b}[31m"] {
        let run = place.check(&[bad]);
        assert!(run.code == 3 && !run.refusal().contains('\u{1b}'), "{run:?}");
    }
    let list = place.write("li\u{1b}[31mst", "smtp://\u{1b}[31m\n");
    let run = place.check(&["--targets-file", list.to_str().unwrap()]);
    assert!(!run.refusal().contains('\u{1b}'), "{run:?}");
}
