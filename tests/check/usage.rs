//! What it is told to do: options, lists, thresholds, exit codes.

use std::fs::File;

use crate::certd::{BINARY, Place, lines, report, run};
use crate::made::{identity, root_pem};

#[test]
fn exits_by_the_worst_of_critical_unknown_warning_ok() {
    let place = Place::new();
    place.write("ok.pem", identity("a.example", -10, 80).pem());
    place.write("warning.pem", identity("a.example", -80, 10).pem());
    place.write("critical.pem", identity("a.example", -88, 2).pem());
    place.write("unknown.pem", "garbage");
    for (targets, code) in [
        (&["ok.pem"][..], 0),
        (&["warning.pem"], 1),
        (&["critical.pem"], 2),
        (&["unknown.pem"], 3),
        (&["ok.pem", "warning.pem"], 1),
        (&["ok.pem", "warning.pem", "unknown.pem"], 3),
        (&["ok.pem", "warning.pem", "unknown.pem", "critical.pem"], 2),
    ] {
        for format in ["table", "json", "nagios", "prometheus"] {
            let run = place.check(&[targets, &["--format", format]].concat());
            assert_eq!((run.code, run.stderr.as_str()), (code, ""), "{targets:?} {format}: {}", run.stdout);
        }
    }
}

#[test]
fn what_it_cannot_make_sense_of_exits_3() {
    let place = Place::new();
    for (arguments, told) in [
        (&["--frobnicate", "a:1"][..], "unexpected argument '--frobnicate'"),
        (&["--warn", "soon", "a:1"], "invalid value 'soon' for '--warn <LEFT>'"),
        (&["--warn", "120%", "a:1"], "a share of the lifetime must be under 100%"),
        (&["--critical=-1d", "a:1"], "invalid value '-1d' for '--critical <LEFT>'"),
        (&["--format", "xml", "a:1"], "[possible values: table, json, nagios, prometheus]"),
        (&["--timeout", "ten", "a:1"], "invalid value 'ten' for '--timeout <DURATION>'"),
        (&["--concurrency", "0", "a:1"], "0 is not in 1..=512"),
    ] {
        let run = place.check(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{arguments:?}");
        assert!(run.stderr.contains(told), "{arguments:?}: {}", run.stderr);
    }
}

#[test]
fn what_it_cannot_begin_with_is_one_line_that_says_what_to_write() {
    let place = Place::new();
    place.write("empty", "");
    place.write("remarks", "# nothing yet\r\n\r\n   \n");
    place.write("bytes", [0xff, 0xfe, 0xfd]);
    place.write("mistake", "a.example:1\n# so far, so good\nmx.example:1 tls\n");
    File::create(place.path().join("huge")).unwrap().set_len(17 * 1024 * 1024).unwrap();
    for (arguments, told) in [
        (
            &["smtp://mx.example:25"][..],
            "not a target, smtp:// is not yet supported: write host:port: \"smtp://mx.example:25\"",
        ),
        (&["::1:443"], "not a target, an IPv6 address needs brackets: write [::1]:443: \"::1:443\""),
        (&["vault:"], "not a target, the path is missing: write vault:secret/tls/web: \"vault:\""),
        (&["--targets-file", "none"], "could not read the targets: none: No such file or directory (os error 2)"),
        (&["--targets-file", "empty"], "there is no target in the list: empty"),
        (&["--targets-file", "remarks"], "there is no target in the list: remarks"),
        (&["--targets-file", "-"], "there is no target in the list: -"),
        (&["--targets-file", "bytes"], "could not read the targets: bytes: stream did not contain valid UTF-8"),
        (
            &["--targets-file", "huge"],
            "could not read the targets: huge: it has more than 16777216 bytes, which a list of targets has not",
        ),
        (
            &["--targets-file", "mistake"],
            "line 3 of mistake: not a target, after the address only sni=NAME is known: \"mx.example:1 tls\"",
        ),
        (
            &["--roots", "none.pem", "a.pem"],
            "could not read the roots: none.pem: No such file or directory (os error 2)",
        ),
        (&["--config", "none.toml"], "none.toml: could not read: No such file or directory (os error 2)"),
    ] {
        assert_eq!(place.check(arguments).refusal(), told, "{arguments:?}");
    }
}

#[test]
fn with_nothing_named_it_says_what_to_name() {
    // Where certd is installed, that would be a check of the installation.
    if std::path::Path::new("/etc/certd/certd.toml").exists() {
        return;
    }
    let told = Place::new().check(&[]);
    assert_eq!(
        told.refusal(),
        "nothing to check: name targets such as example.org:443, or a configuration by --config \
         (there is none at /etc/certd/certd.toml)"
    );
}

#[test]
fn help_and_version_are_no_mistake() {
    let place = Place::new();
    let help = place.check(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    assert!(
        help.stdout.contains("--targets-file <FILE>") && help.stdout.contains("--critical <LEFT>"),
        "{}",
        help.stdout
    );
    let version = run(place.command(BINARY).arg("--version"), b"");
    assert_eq!((version.code, version.stdout), (0, format!("certd {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn warns_at_a_sixth_and_calls_at_a_twentieth_unless_told_otherwise() {
    let place = Place::new();
    for (name, left) in [("a.pem", 16), ("b.pem", 14), ("c.pem", 5), ("d.pem", 4)] {
        place.write(name, identity("a.example", left - 90, left).pem());
    }
    let code = |name: &str, more: &[&str]| place.check(&[&[name][..], more].concat()).code;
    assert_eq!(["a.pem", "b.pem", "c.pem", "d.pem"].map(|name| code(name, &[])), [0, 1, 1, 2]);
    for (more, codes) in [
        (&["--warn", "18%"][..], [1, 1, 1, 2]),
        (&["--warn", "15%"], [0, 0, 1, 2]),
        (&["--warn", "17d"], [1, 1, 1, 2]),
        (&["--critical", "6%"], [0, 1, 2, 2]),
        (&["--critical", "3d"], [0, 1, 1, 1]),
        (&["--warn", "30d", "--critical", "15d"], [1, 2, 2, 2]),
        (&["--warn", "1%", "--critical", "15d"], [0, 2, 2, 2]),
        (&["--warn", "10%", "--critical", "10%"], [0, 0, 2, 2]),
        (&["--warn", "1d", "--critical", "0%"], [0, 0, 0, 0]),
    ] {
        assert_eq!(["a.pem", "b.pem", "c.pem", "d.pem"].map(|name| code(name, more)), codes, "{more:?}");
    }
}

#[test]
fn a_warning_that_comes_after_the_alarm_is_refused() {
    let place = Place::new();
    place.write("a.pem", identity("a.example", -10, 80).pem());
    for both in [["5%", "20%"], ["1d", "2d"]] {
        let run = place.check(&["a.pem", "--warn", both[0], "--critical", both[1]]);
        assert_eq!(run.refusal(), "--warn is below --critical: the warning comes first, so give it the larger value");
    }
    for one in [["--warn", "4%"], ["--critical", "30%"]] {
        let run = place.check(&["a.pem", one[0], one[1]]);
        assert_eq!(
            run.refusal(),
            "the warning threshold is below the critical one: give both --warn and --critical, the larger to --warn \
             (without them: those of the configuration, or a sixth and a twentieth of the lifetime)"
        );
    }
}

#[test]
fn reads_lists_with_remarks_blank_lines_and_the_line_ends_of_windows() {
    let place = Place::new();
    place.write("ours.pem", identity("a.example", -10, 80).pem());
    place.write("my own.pem", identity("b.example", -10, 80).pem());
    let list = "\u{feff}# of the shop\r\n\r\n  ours.pem  \r\nmy own.pem\r\n\t# the end\r\n";
    place.write("list", list);
    let seen = ["./ours.pem ok", "my own.pem ok", "ours.pem ok"];
    let (code, told) = place.report(&["--targets-file", "list", "./ours.pem", "ours.pem"]);
    assert_eq!((code, lines(&told)), (0, seen.map(String::from).to_vec()));
    let run = place.check_with_stdin(&["--targets-file", "-", "--format", "json", "./ours.pem"], list.as_bytes());
    assert_eq!((run.code, lines(&report(&run.stdout))), (0, seen.map(String::from).to_vec()));
}

#[test]
fn what_is_named_twice_is_looked_at_once() {
    let place = Place::new();
    place.write("a.pem", identity("a.example", -10, 80).pem());
    let targets = ["a.pem", "a.pem", "*.pem", "*.pem", "b", "b", "*.none", "*.none", "[::1]:1", "[0::1]:1"];
    let (_, told) = place.report(&targets);
    assert_eq!(
        lines(&told),
        ["[::1]:1 unknown unreachable", "*.none critical missing", "a.pem ok", "b critical missing"]
    );
    let page = place.check(&[&targets[..], &["--format", "prometheus"]].concat()).stdout;
    let mut series: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
    let all = series.len();
    series.sort();
    series.dedup();
    assert_eq!(series.len(), all, "{page}");
}

#[test]
fn roots_of_a_file_judge_what_is_kept() {
    let place = Place::new();
    place.write("a.pem", identity("a.example", -10, 80).pem());
    place.write("root.pem", root_pem());
    place.write("other.pem", crate::made::Root::named("Another").pem);
    let seen = |roots: &str| lines(&place.report(&["a.pem", "--roots", roots]).1);
    assert_eq!(seen("root.pem"), ["a.pem ok"]);
    assert_eq!(seen("none"), ["a.pem ok"]);
    assert_eq!(seen("other.pem"), ["a.pem critical chain"]);
}

#[test]
fn a_nagios_is_told_on_its_first_line_why_there_is_no_report() {
    let place = Place::new();
    place.write("bad.toml", "[nonsense]\nact = 3\n");
    for arguments in [&["--targets-file", "no|ne"][..], &["--config", "bad.toml"]] {
        let run = place.check(&[arguments, &["--format", "nagios"]].concat());
        assert_eq!((run.code, run.stdout.lines().count()), (3, 1), "{}", run.stdout);
        assert!(run.stdout.starts_with("UNKNOWN: ") && !run.stdout.contains('|'), "{}", run.stdout);
        assert!(run.stderr.starts_with("certd: "), "{}", run.stderr);
    }
}
