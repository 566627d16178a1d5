//! The audit log of a certd that runs and of commands without one: who, why, in which order, and what of it shows.

use std::os::unix::net::UnixDatagram;
use std::process::Output;

use serde_json::Value;

use super::process::{Home, LOCAL, eventually};
use super::support::vault::server;

fn records(home: &Home) -> Vec<Value> {
    let exported = home.says(&["audit", "export"]);
    exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Of acts: what, of which certificate, why, and how it ended.
fn acts(records: &[Value]) -> Vec<(String, String, String, String)> {
    let text = |record: &Value, name: &str| record[name].as_str().unwrap_or_default().to_string();
    let by_people = records.iter().filter(|record| record["by"].is_object());
    by_people
        .map(|act| {
            let outcome = records.iter().find(|record| record["act"] == act["seq"]);
            let outcome = outcome.map(|outcome| text(outcome, "event")).unwrap_or_default();
            (text(act, "event"), text(act, "certificate"), text(&act["by"], "reason"), outcome)
        })
        .collect()
}

fn act(event: &str, certificate: &str, reason: &str, outcome: &str) -> (String, String, String, String) {
    (event.into(), certificate.into(), reason.into(), outcome.into())
}

fn said(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap()
}

#[test]
fn every_act_is_recorded_with_who_asked_and_why_whether_or_not_certd_runs() {
    let home = Home::with(&format!("{LOCAL}lifetime = \"2d\"\n"));
    let certd = home.start();
    certd.logs(&["renewed, stored and read back"]);
    let every_act = || {
        home.says(&["renew", "web", "--force", "--reason", "ticket 7 & \"more\""]);
        home.says(&["pause", "web", "--until", "1h", "--reason", "a freeze"]);
        home.certd(&["renew", "web", "--force"]);
        home.says(&["resume", "web"]);
        home.certd(&["revoke", "00ff", "--why", "lost laptop"]);
    };
    every_act();
    home.says(&["reload", "--reason", "new roots"]);
    certd.signal(libc::SIGHUP);
    eventually("the second reload", || match certd.count(&["reloaded"]) {
        2.. => Ok(()),
        _ => Err(certd.log().join("\n")),
    });
    certd.stop();
    every_act();

    let all = records(&home);
    let done = [
        act("renew", "web", "ticket 7 & \"more\"", "done"),
        act("pause", "web", "a freeze", "done"),
        act("renew", "web", "", "refused"),
        act("resume", "web", "", "done"),
        act("revoke", "00ff", "lost laptop", "refused"),
    ];
    let wanted =
        [&[act("start", "", "", "")], &done[..], &[act("reload", "", "new roots", "done")], &done[..]].concat();
    assert_eq!(acts(&all), wanted);
    let forced = all.iter().find(|record| record["event"] == "renew").unwrap();
    let (by, uid) = (&forced["by"], rustix::process::getuid().as_raw());
    assert_eq!(by["uid"], uid);
    assert!(by["host"].as_str().is_some_and(|host| !host.is_empty()), "{by}");
    assert!(by["command"].as_str().unwrap().starts_with("certd renew web --force --reason ticket 7"), "{by}");
    assert_eq!(forced["detail"]["demand"], "force");
    let signalled = all.iter().find(|record| record["detail"]["signal"] == "SIGHUP").unwrap();
    assert_eq!((&signalled["event"], &signalled["detail"]["outcome"]), (&"reload".into(), &"done".into()));
    assert!(all.iter().any(|record| record["event"] == "stop"));

    // What certd did by itself: the first renewal, step by step, with what was issued.
    let steps: Vec<&str> = all.iter().map(|record| record["event"].as_str().unwrap()).collect();
    let first = ["renewal_begun", "issuer_asked", "issued", "accepted", "written", "closed"];
    let begun = steps.iter().position(|step| *step == first[0]).unwrap();
    assert_eq!(steps[begun..begun + first.len()], first);
    let issued = &all[begun + 2]["detail"];
    assert_eq!((&issued["issuer"], &issued["names"]), (&"local".into(), &"127.0.0.1, localhost".into()));
    assert_eq!(issued["fingerprint"], all[begun + 5]["detail"]["fingerprint"]);
    assert!(issued["serial"].as_str().is_some_and(|serial| serial.len() >= 16), "{issued}");

    let whole = home.says(&["audit", "verify"]);
    assert!(whole.starts_with(&format!("whole: {} records in 1 files\n", all.len())), "{whole}");
    let of_web = home.says(&["audit", "export", "--format", "csv", "--certificate", "web"]);
    assert!(of_web.lines().skip(1).all(|row| row.contains(",web,")), "{of_web}");
    let log = home.read("state/audit.log");
    assert!(!log.contains("PRIVATE KEY") && !log.contains("BEGIN"), "{log}");
}

#[test]
fn while_nothing_can_be_recorded_people_are_refused_and_renewals_go_on() {
    let home = Home::with(LOCAL);
    // Root meets no denied permission, so that a folder stands here in the place of the file.
    std::fs::create_dir_all(home.path("state/audit.log")).unwrap();
    let certd = home.start();
    certd.logs(&["could not open the audit log", "acts of people are refused"]);
    certd.logs(&["renewed, stored and read back"]);
    let is_well = |wanted: &str| {
        eventually("what the metrics say of the audit log", || match certd.metric("certd_audit_ok").as_deref() {
            Some(value) if value == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    is_well("0");
    for arguments in [&["pause", "--until", "1h"][..], &["renew", "web"], &["revoke", "web"]] {
        let refused = home.certd(arguments);
        assert_eq!(refused.status.code(), Some(3), "{refused:?}");
        let text = said(&refused);
        assert!(text.contains("nothing is done without a record of it: could not open the audit log: "), "{text}");
    }
    assert!(!home.says(&["plan"]).contains("paused"));
    std::fs::remove_dir(home.path("state/audit.log")).unwrap();
    home.says(&["pause", "--until", "1h"]);
    is_well("1");
    certd.stop();
    let verified = home.says(&["audit", "verify"]);
    assert!(verified.contains(" records could not be written, and certd recorded how many\n"), "{verified}");
}

#[test]
fn a_log_that_was_changed_is_told_with_its_line_and_what_was_done_to_it() {
    let home = Home::with(LOCAL);
    home.says(&["renew"]);
    let path = home.path("state/audit.log");
    let log = home.read("state/audit.log");
    let head = home.says(&["audit", "verify"]).lines().nth(1).unwrap().strip_prefix("head: ").unwrap().to_string();
    assert!(home.says(&["audit", "verify", "--head", &head]).contains(", and holds the given head\n"));
    let lines: Vec<&str> = log.lines().collect();
    let verified = |text: String, arguments: &[&str]| {
        std::fs::write(&path, text).unwrap();
        let output = home.certd(&[&["audit", "verify"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        said(&output).strip_prefix(&format!("broken: {}:", path.display())).unwrap().to_string()
    };
    let renamed = log.replacen("\"local\"", "\"other\"", 1);
    assert!(verified(renamed, &[]).contains(" was changed: the one behind it names another hash\n"));
    let without = [&lines[..2], &lines[3..]].concat().join("\n") + "\n";
    assert_eq!(verified(without, &[]), "3: records 3 to 3 are missing: they were removed\n");
    let cut_off = lines[..lines.len() - 1].join("\n") + "\n";
    let last = lines.len() - 1;
    let wanted = format!(
        "{last}: the log ends with record {last}, and the exported head is {}: the end was removed\n",
        lines.len()
    );
    assert_eq!(verified(cut_off, &["--head", &head]), wanted);
}

#[test]
fn commands_that_come_at_once_never_interleave_their_lines() {
    let home = Home::with(LOCAL);
    home.says(&["renew"]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    // While another one has the journal, a command is refused.
                    home.certd(&["pause", "web", "--until", "1h"]);
                    home.certd(&["resume", "web"]);
                }
            });
        }
    });
    home.says(&["pause", "web", "--until", "1h"]);
    assert!(home.says(&["audit", "verify"]).starts_with("whole: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_is_noted_in_vault_by_the_printed_policy_and_sent_to_syslog() {
    let vault = server().await;
    let mount = vault.kv("audited").await;
    let home = Home::new();
    let syslog = UnixDatagram::bind(home.path("log")).unwrap();
    syslog.set_read_timeout(Some(super::process::PATIENCE)).unwrap();
    home.configure(&format!(
        "[vault.main]\naddress = \"{}\"\ntoken_file = \"token\"\n[audit]\nhead.vault_kv = {{ vault = \"main\", path = \
         \"{mount}/certd/audit\" }}\nhead.syslog = \"log\"\n{LOCAL}",
        vault.address
    ));
    std::fs::write(home.path("token"), &vault.root_token).unwrap();
    let policy = home.says(&["vault", "policy"]);
    std::fs::write(home.path("token"), vault.token(&policy).await).unwrap();

    // Without a daemon first.
    let renewed = home.says(&["renew"]);
    assert!(!renewed.contains("audit log"), "{renewed}\n{policy}");
    let head_now = || home.says(&["audit", "verify"]).lines().nth(1).unwrap()["head: ".len()..].to_string();
    let noted = async || {
        let metadata = vault.admin("GET", &format!("{mount}/metadata/certd/audit"), Value::Null).await;
        let notes = metadata["data"]["custom_metadata"].as_object().cloned().unwrap_or_default();
        assert!(notes.keys().all(|name| name.starts_with("certd-audit-")), "{notes:?}");
        notes.values().next().and_then(|head| head.as_str().map(str::to_string)).unwrap_or_default()
    };
    assert_eq!(noted().await, head_now());
    let mut datagram = [0; 1024];
    let length = syslog.recv(&mut datagram).unwrap();
    let text = String::from_utf8(datagram[..length].to_vec()).unwrap();
    assert!(text.starts_with("<86>certd[") && text.ends_with(&format!(": head {}", head_now())), "{text}");

    let certd = home.start();
    certd.turn_completed();
    home.says(&["pause", "--until", "1h"]);
    certd.stop();
    assert_eq!(noted().await, head_now(), "it is noted when certd stops");
    assert!(home.says(&["audit", "verify", "--head", &noted().await]).contains(", and holds the given head\n"));
}

#[test]
fn a_reason_is_one_line_without_control_characters_and_never_a_secret() {
    let home = Home::with(LOCAL);
    let token = "hvs.CAESIJ8Gf2kLq0Zx1Yw3Vb7Nm5Tr9Pd4";
    for reason in [token.to_string(), format!("so that {token} goes"), "-----BEGIN PRIVATE KEY-----".to_string()] {
        let refused = home.certd(&["pause", "--until", "1h", "--reason", &reason]);
        assert_eq!(refused.status.code(), Some(3), "{refused:?}");
        assert!(!said(&refused).contains(&reason), "{refused:?}");
    }
    assert!(!home.path("state/audit.log").exists(), "nothing was done, and nothing is recorded");
    home.says(&["pause", "--until", "1h", "--reason", "ticket 7\n{\"seq\":9}\u{1b}[2J\u{202e}"]);
    let log = home.read("state/audit.log");
    assert_eq!(log.lines().count(), 2, "{log}");
    let paused = &records(&home)[0];
    assert_eq!(paused["by"]["reason"], "ticket 7\\u{a}{\"seq\":9}\\u{1b}[2J\\u{202e}");
    assert!(log.chars().all(|c| c == '\n' || !c.is_control()), "{log:?}");
}
