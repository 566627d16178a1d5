//! What `certd check` prints, in each of its formats.

mod sample;

use boon::{Compiler, SchemaIndex, Schemas};
use certd::domain::check::{Problem, ProblemKind};
use certd::domain::inventory::{Location, Obstacle, ObstacleKind, Sighting};
use certd::domain::name::San;
use certd::domain::plan::{Action, Held, Record};
use certd::domain::snapshot::Snapshot;
use certd::domain::time::Timestamp;
use certd::report::table::Look;
use certd::report::{Format, render};
use sample::{DAY, NOW, certificate, endpoint, entry, every_shape, found, managed, of_a_ca, secret, snapshot};
use serde_json::{Value, json};

fn printed(format: Format, snapshot: &Snapshot) -> String {
    render(format, snapshot, Look::default(), &sample::about())
}

fn json(snapshot: &Snapshot) -> Value {
    serde_json::from_str(&printed(Format::Json, snapshot)).unwrap()
}

/// The contract in the repository.
fn contract() -> (Schemas, SchemaIndex) {
    let schema = serde_json::from_str(include_str!("../src/report/check.schema.json")).unwrap();
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.enable_format_assertions();
    compiler.add_resource("check.schema.json", schema).unwrap();
    let index = compiler.compile("check.schema.json", &mut schemas).unwrap();
    (schemas, index)
}

fn holds(report: &Value) -> Result<(), String> {
    let (schemas, index) = contract();
    schemas.validate(report, index).map_err(|refused| refused.to_string())
}

#[test]
fn json_of_every_shape_keeps_the_contract() {
    assert_eq!(holds(&json(&every_shape())), Ok(()));
    assert_eq!(holds(&json(&snapshot(vec![]))), Ok(()));
}

#[test]
fn json_says_exactly_what_the_contract_names() {
    let mut leaf = certificate("www.example.org", 60);
    leaf.names = vec![San::from_text("www.example.org"), San::from_text("::1"), San::from_text("a@example.org")];
    let report = json(&snapshot(vec![
        entry(endpoint("www.example.org"), found(leaf, vec![certificate("Intermediate", 100)])),
        entry(secret("secret/tls/gone"), Sighting::Absent),
        entry(endpoint("a.example"), Sighting::Unknown(Obstacle::new(ObstacleKind::Dns, "no such name"))),
    ]));
    let shown = |name: &str, sans: Value, from: &str, to: &str| {
        json!({
            "fingerprint_sha256": certificate(name, 0).fingerprint.to_string(), "serial": "4f1e5c",
            "subject": format!("CN={name}"), "issuer": "CN=Example CA,O=Example", "sans": sans,
            "not_before": from, "not_after": to, "key": "ecdsa-p256", "signature": "ecdsa-sha256"
        })
    };
    let sans = json!(["www.example.org", "::1", "a@example.org"]);
    let leaf = shown("www.example.org", sans, "2026-10-23T12:00:00Z", "2027-01-21T12:00:00Z");
    let above = shown("Intermediate", json!(["intermediate"]), "2026-12-02T12:00:00Z", "2027-03-02T12:00:00Z");
    let missing = json!({"problem": "missing", "severity": "critical", "message": "there is no certificate here"});
    let obstacle = json!({"obstacle": "dns", "message": "no such name"});
    let wanted = json!({
        "schema": 1, "checked_at": "2026-11-22T12:00:00Z",
        "certificates": [
            {"location": "www.example.org:443", "source": "edge", "state": "ok", "leaf": leaf, "chain": [above],
             "problems": [], "obstacle": null},
            {"location": "vault:main:secret/tls/gone", "source": "edge", "state": "critical", "leaf": null,
             "chain": [], "problems": [missing], "obstacle": null},
            {"location": "a.example:443", "source": "edge", "state": "unknown", "leaf": null, "chain": [],
             "problems": [], "obstacle": obstacle},
        ],
        "summary": {"ok": 1, "warning": 0, "critical": 1, "unknown": 1}
    });
    assert_eq!(report, wanted);
}

#[test]
fn json_of_a_list_and_of_what_is_revoked_adds_to_the_contract_and_changes_nothing_else() {
    let report = json(&snapshot(of_a_ca()));
    assert_eq!(holds(&report), Ok(()));
    let [revoked, list] = [0, 1].map(|i| report["certificates"][i].clone());
    assert_eq!((&revoked["location"], &revoked["state"]), (&json!("vault:main:pki/cert/4f:1e:5c"), &json!("ok")));
    assert_eq!((&revoked["revoked_at"], revoked.get("crl")), (&json!("2026-11-21T12:00:00Z"), None));
    assert_eq!(
        list,
        json!({
            "location": "vault:main:pki/issuer/internal/crl", "source": "edge", "state": "ok", "leaf": null, "chain": [],
            "problems": [], "obstacle": null,
            "crl": {"issuer": "CN=Example CA,O=Example", "number": "2a", "this_update": "2026-11-21T12:00:00Z",
                    "next_update": "2026-11-24T12:00:00Z", "revoked": 1, "signature": "ecdsa-sha256"}
        })
    );
    let refuses = |stray: &dyn Fn(&mut Value)| {
        let mut report = report.clone();
        stray(&mut report);
        assert!(holds(&report).is_err(), "{report}");
    };
    refuses(&|report| report["certificates"][1]["leaf"] = report["certificates"][0]["leaf"].clone());
    refuses(&|report| report["certificates"][1]["revoked_at"] = json!("2026-11-21T12:00:00Z"));
    refuses(&|report| report["certificates"][1]["crl"]["revoked"] = json!(-1));
}

#[test]
fn a_person_sees_when_the_next_list_is_due_and_what_was_revoked() {
    let table = printed(Format::Table, &snapshot(of_a_ca()));
    let line =
        |place: &str| table.lines().find(|line| line.contains(place)).unwrap().split_whitespace().collect::<Vec<_>>();
    let list = line("pki/issuer/internal/crl").join(" ");
    assert!(list.contains("Example CA") && list.contains("2026-11-24"), "{list}");
    let revoked = line("pki/cert/4f:1e:5c").join(" ");
    assert!(revoked.ends_with("was revoked on 2026-11-21T12:00:00Z"), "{revoked}");
}

#[test]
fn the_contract_refuses_whatever_strays_from_it() {
    let refuses = |what: &str, stray: &dyn Fn(&mut Value)| {
        let mut report = json(&every_shape());
        stray(&mut report);
        assert!(holds(&report).is_err(), "{what} was let pass");
    };
    let rename = |object: &mut Value, from: &str, to: &str| {
        let object = object.as_object_mut().unwrap();
        let value = object.remove(from).unwrap();
        object.insert(to.to_string(), value);
    };
    refuses("a renamed field", &|report| rename(&mut report["certificates"][0]["leaf"], "not_after", "expires"));
    refuses("a renamed list", &|report| rename(report, "certificates", "certs"));
    refuses("a new field", &|report| report["certificates"][0]["days_left"] = json!(3));
    refuses("a missing field", &|report| {
        report["certificates"][0].as_object_mut().unwrap().remove("chain");
    });
    refuses("another schema", &|report| report["schema"] = json!(2));
    refuses("a state of no name", &|report| report["certificates"][0]["state"] = json!("fine"));
    refuses("a problem of no name", &|report| report["certificates"][0]["problems"][0]["problem"] = json!("old"));
    refuses("a date without a zone", &|report| report["checked_at"] = json!("2026-11-22 12:00:00"));
    refuses("a day that is none", &|report| report["checked_at"] = json!("2026-02-31T12:00:00Z"));
    refuses("a number as text", &|report| report["summary"]["ok"] = json!("1"));
    refuses("unknown without an obstacle", &|report| report["certificates"][2]["obstacle"] = json!(null));
    refuses("nothing found and not missing", &|report| report["certificates"][4]["problems"] = json!([]));
}

#[test]
fn the_contract_knows_every_obstacle_and_problem() {
    let obstacles =
        ObstacleKind::ALL.map(|kind| entry(endpoint(kind.as_str()), Sighting::Unknown(Obstacle::new(kind, "why"))));
    assert_eq!(holds(&json(&snapshot(obstacles.to_vec()))), Ok(()));
    let mut all = entry(endpoint("www.example.org"), found(certificate("www.example.org", 60), vec![]));
    all.problems = ProblemKind::ALL.map(|kind| Problem::warning(kind, "why")).to_vec();
    assert_eq!(holds(&json(&snapshot(vec![all]))), Ok(()));
}

#[test]
fn each_location_is_unique_even_where_two_places_look_alike() {
    use std::os::unix::ffi::OsStringExt;
    let file = |bytes: &[u8]| Location::File { path: std::ffi::OsString::from_vec(bytes.to_vec()).into(), part: None };
    let entries = [b"/tls/\xff.pem".as_slice(), b"/tls/\xfe.pem", b"/tls/a.pem"]
        .map(|path| entry(file(path), Sighting::Absent))
        .to_vec();
    let report = json(&snapshot(entries));
    let locations: std::collections::BTreeSet<&str> =
        report["certificates"].as_array().unwrap().iter().map(|line| line["location"].as_str().unwrap()).collect();
    assert_eq!(locations.len(), 3, "{locations:?}");
}

#[test]
fn years_at_the_edges_of_x509_keep_the_contract() {
    let mut leaf = certificate("old.example.org", 1);
    leaf.not_before = Timestamp(-631_152_000);
    leaf.not_after = Timestamp(253_402_300_799);
    assert_eq!(holds(&json(&snapshot(vec![entry(endpoint("old.example.org"), found(leaf, vec![]))]))), Ok(()));
}

#[test]
fn the_table_shows_the_worst_first_and_hides_nothing() {
    let wanted = "\
STATE     CERTIFICATE                    ENDS                     ISSUER      WHAT
critical  vault:main:secret/tls/missing                                       there is no certificate here
critical  expired.example.org:443        2026-11-12, 10 days ago  Example CA  expired on 2026-11-12T12:00:00Z
unknown   unknown.example.org:443                                             \
                no answer in 5 s from 192.0.2.1:443: is a firewall between?
warning   late                           2026-11-27, in 5 days    Example CA  ends on 2026-11-27T12:00:00Z
          vault:main:secret/tls/late                                          \
                the last 3 renewals failed: could not sign: permission denied
                                                                              is to be renewed: due
warning   warn.example.org:443           2026-11-30, in 8 days    Example CA  ends on 2026-11-30T12:00:00Z
                                                                              \
                it serves something else than the store holds
ok        ok.example.org:443             2027-01-21, in 60 days   Example CA
ok        payments-api                   2027-01-21, in 60 days   Example CA  will be renewed in 25 days
          vault:main:secret/tls/ok

2 ok, 2 warning, 2 critical, 1 unknown
";
    assert_eq!(printed(Format::Table, &every_shape()), wanted);
}

#[test]
fn the_table_wraps_to_the_terminal_and_still_says_every_word() {
    let narrow = Look { color: false, width: Some(80) };
    let table = render(Format::Table, &every_shape(), narrow, &sample::about());
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    for word in ["firewall", "permission", "payments-api", "2026-11-12", "days"] {
        assert!(table.contains(word), "{word} is not in\n{table}");
    }
}

#[test]
fn the_table_is_coloured_only_when_asked() {
    let colored = render(Format::Table, &every_shape(), Look { color: true, width: None }, &sample::about());
    assert_eq!(colored.matches("\u{1b}[1;31mcritical\u{1b}[0m ").count(), 2, "{colored}");
    let plain: String = ["\u{1b}[1;31m", "\u{1b}[35m", "\u{1b}[33m", "\u{1b}[32m", "\u{1b}[0m"]
        .iter()
        .fold(colored, |text, code| text.replace(code, ""));
    assert_eq!(plain, printed(Format::Table, &every_shape()));
}

#[test]
fn the_table_says_first_that_acting_is_stopped() {
    let paused = Timestamp(NOW.0 + 2 * DAY);
    let stopped = Snapshot { act: false, paused_until: Some(paused), ..every_shape() };
    let table = printed(Format::Table, &stopped);
    let wanted =
        "act = false: nothing will be renewed\nacting is paused until 2026-11-24T12:00:00Z, in 2 days\n\nSTATE ";
    assert!(table.starts_with(wanted), "{table}");
    let over = Snapshot { paused_until: Some(NOW), ..every_shape() };
    assert!(printed(Format::Table, &over).starts_with("STATE "));
}

#[test]
fn a_hostile_certificate_moves_no_cursor_and_breaks_no_line() {
    let hostile = "\u{1b}[2Jx|y\n\u{202e}z\u{9b}31m";
    let mut leaf = certificate("www.example.org", -1);
    leaf.issuer_cn = Some(hostile.into());
    leaf.subject = hostile.into();
    let mut bad = entry(endpoint(hostile), found(leaf, vec![]));
    bad.problems.push(Problem::critical(ProblemKind::Chain, hostile));
    let held = Action::Hold { held: Held::UnsupportedKey(hostile.into()) };
    let bad = managed(bad, hostile, held, Record::default());
    for format in [Format::Table, Format::Json, Format::Nagios, Format::Prometheus] {
        let text = printed(format, &snapshot(vec![bad.clone()]));
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{text:?}");
    }
    let nagios = printed(Format::Nagios, &snapshot(vec![bad]));
    assert_eq!(nagios.matches('|').count(), 1, "{nagios}");
    assert_eq!(nagios.lines().count(), 2, "{nagios}");
}

#[test]
fn nagios_reads_one_line_with_the_worst_and_performance_data() {
    let report = printed(Format::Nagios, &every_shape());
    let first = report.lines().next().unwrap();
    let wanted = "CRITICAL: 2 of 7 certificates: vault:main:secret/tls/missing there is no certificate here; \
                  expired.example.org:443 expired on 2026-11-12T12:00:00Z; unknown.example.org:443 no answer in \
                  5 s from 192.0.2.1:443: is a firewall between?; and 2 more \
                  | ok=2;;;0 warning=2;;;0 critical=2;;;0 unknown=1;;;0";
    assert_eq!(first, wanted);
    assert_eq!(report.lines().count(), 6);
    let well = entry(endpoint("ok.example.org"), found(certificate("ok.example.org", 60), vec![]));
    let wanted = "OK: 1 certificate, the first ends on 2027-01-21T12:00:00Z, in 60 days: ok.example.org:443 \
                  | ok=1;;;0 warning=0;;;0 critical=0;;;0 unknown=0;;;0\n";
    assert_eq!(printed(Format::Nagios, &snapshot(vec![well])), wanted);
}

#[test]
fn nagios_gets_no_more_than_it_reads() {
    let many = (0..1_000).map(|i| entry(secret(&format!("secret/tls/{i}")), Sighting::Absent)).collect();
    let report = printed(Format::Nagios, &snapshot(many));
    assert!(report.len() <= 8_192, "{} bytes", report.len());
    assert!(report.trim_end().ends_with(" more"), "{report}");
    let long = Obstacle::new(ObstacleKind::Server, "why ".repeat(10_000));
    let report = printed(Format::Nagios, &snapshot(vec![entry(endpoint("a.example"), Sighting::Unknown(long))]));
    assert!(report.lines().next().unwrap().ends_with("unknown=1;;;0"), "{report}");
    assert!(report.len() <= 8_192, "{} bytes", report.len());
}

#[test]
fn the_worst_state_is_the_exit_code() {
    let unknown = || Sighting::Unknown(Obstacle::new(ObstacleKind::Timeout, "no answer"));
    let ok = entry(endpoint("a.example"), found(certificate("a.example", 60), vec![]));
    let warning = entry(endpoint("b.example"), found(certificate("b.example", 10), vec![]));
    let critical = entry(endpoint("c.example"), Sighting::Absent);
    let unknown = entry(endpoint("d.example"), unknown());
    let code = |entries: &[_]| snapshot(entries.to_vec()).worst().exit_code();
    assert_eq!(code(&[]), 0);
    assert_eq!(code(std::slice::from_ref(&ok)), 0);
    assert_eq!(code(&[ok.clone(), warning.clone()]), 1);
    assert_eq!(code(&[ok.clone(), warning.clone(), unknown.clone()]), 3);
    assert_eq!(code(&[ok, warning, unknown, critical]), 2);
}

#[test]
fn a_clock_in_doubt_is_the_first_word_of_every_format_and_never_ok() {
    let why = "this host's clock is 3 days behind that of vault main: set the wrong one";
    let fine = entry(endpoint("www.example.org"), found(certificate("www.example.org", 60), vec![]));
    let doubted = Snapshot { clock_doubt: Some(why.to_string()), ..snapshot(vec![fine]) };
    let nagios = printed(Format::Nagios, &doubted);
    assert!(nagios.starts_with(&format!("UNKNOWN: {why}; by it, 1 of 1 certificate ok | ok=1;;;0 ")), "{nagios}");
    assert_eq!(json(&doubted)["clock_doubt"], why);
    assert_eq!(holds(&json(&doubted)), Ok(()));
    assert!(printed(Format::Table, &doubted).starts_with(why));
    assert_eq!(json(&snapshot(vec![])).get("clock_doubt"), None);
}
