//! The audit log of a certd that runs, while its disk is full, its lines are removed, and its head cannot be noted.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::process::{Home, LOCAL, Running, eventually};
use super::support::vault::{Vault, server};

fn shows(certd: &Running, wanted: &str) {
    eventually("what the metrics say of the audit log", || match certd.metric("certd_audit_ok").as_deref() {
        Some(value) if value == wanted => Ok(()),
        other => Err(format!("{other:?}\n{}", certd.log().join("\n"))),
    });
}

fn head(home: &Home) -> String {
    home.says(&["audit", "verify"]).lines().nth(1).unwrap()["head: ".len()..].to_string()
}

/// A file system of 64 KiB that has the audit log alone: a full one that had the journal, too, would stop renewals.
struct SmallDisk {
    folder: PathBuf,
    log: PathBuf,
}

impl SmallDisk {
    fn new(home: &Home) -> Self {
        let (folder, log) = (home.path("disk"), home.path("state/audit.log"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(home.path("state")).unwrap();
        std::fs::write(&log, b"").unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=64k,mode=0700", "certd-test", folder.to_str().unwrap()]);
        let disk = Self { folder, log };
        std::fs::write(disk.folder.join("audit.log"), b"").unwrap();
        run("mount", &["--bind", disk.folder.join("audit.log").to_str().unwrap(), disk.log.to_str().unwrap()]);
        disk
    }

    fn fill(&self) {
        let mut filler = std::fs::File::create(self.folder.join("filler")).unwrap();
        while filler.write_all(&[0; 512]).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.folder.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        for mounted in [&self.log, &self.folder] {
            let _ = Command::new("umount").arg("--lazy").arg(mounted).status();
        }
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "root mounts a small disk here: {output:?}");
}

#[test]
fn on_a_full_disk_people_are_refused_renewals_go_on_and_it_is_told_until_there_is_room() {
    let home = Home::new();
    let disk = SmallDisk::new(&home);
    home.configure(LOCAL);
    let certd = home.start();
    certd.logs(&["renewed, stored and read back"]);
    disk.fill();
    // The last page of the log takes a few more records.
    let refused = eventually("a refusal", || {
        let output = home.certd(&["journal", "--acknowledge"]);
        let text = format!("{output:?}");
        if text.contains("without a record") { Ok(output) } else { Err(text) }
    });
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("nothing is done without a record of it: could not write the audit log: "), "{text}");
    assert!(text.contains("No space left on device"), "{text}");
    shows(&certd, "0");
    let before = certd.count(&["renewed, stored and read back"]);
    std::fs::remove_dir_all(home.path("certificates/web")).unwrap();
    eventually("a renewal without a record", || match certd.count(&["renewed, stored and read back"]) {
        count if count > before => Ok(()),
        _ => Err(certd.log().join("\n")),
    });
    shows(&certd, "0");
    disk.empty();
    shows(&certd, "1");
    assert_eq!(certd.count(&["the audit log is written again"]), 1);
    home.says(&["pause", "web", "--until", "1h"]);
    let verified = home.says(&["audit", "verify"]);
    assert!(verified.contains(" records could not be written, and certd recorded how many\n"), "{verified}");
    certd.stop();
}

#[test]
fn a_log_that_is_cut_off_under_a_certd_that_runs_is_told_at_once() {
    let home = Home::with(LOCAL);
    let certd = home.start();
    certd.logs(&["renewed, stored and read back"]);
    shows(&certd, "1");
    let path = home.path("state/audit.log");
    let log = home.read("state/audit.log");
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(log.lines().next().unwrap().len() as u64 + 1)
        .unwrap();
    let at_once = home.certd(&["audit", "verify"]);
    assert_eq!(at_once.status.code(), Some(2), "the certd that runs knows its head: {at_once:?}");
    shows(&certd, "0");
    certd.logs(&["was removed, changed or cut off while certd ran: of its ", " records 1 are there"]);
    let verified = home.certd(&["audit", "verify"]);
    assert_eq!(verified.status.code(), Some(2), "{verified:?}");
    let text = String::from_utf8(verified.stdout).unwrap();
    assert!(text.contains(":2: records 2 to ") && text.contains(" are missing: they were removed\n"), "{text}");
    certd.stop();
}

/// A token that a policy printed for this configuration allows.
async fn configured(vault: &Vault, home: &Home, mount: &str) {
    home.configure(&format!(
        "[vault.main]\naddress = \"{}\"\ntoken_file = \"token\"\n[audit]\nhead.vault_kv = {{ vault = \"main\", path = \
         \"{mount}/certd/audit\" }}\n{LOCAL}",
        vault.address
    ));
    std::fs::write(home.path("token"), &vault.root_token).unwrap();
    let policy = home.says(&["vault", "policy"]);
    std::fs::write(home.path("token"), vault.token(&policy).await).unwrap();
}

async fn noted(vault: &Vault, mount: &str) -> String {
    let metadata = vault.admin("GET", &format!("{mount}/metadata/certd/audit"), Value::Null).await;
    let notes = metadata["data"]["custom_metadata"].as_object().cloned().unwrap_or_default();
    notes.values().next().and_then(|head| head.as_str().map(str::to_string)).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_in_vault_that_the_log_does_not_hold_is_told_and_stays_until_a_person_removes_it() {
    let vault = server().await;
    let mount = vault.kv("attacked").await;
    let home = Home::new();
    configured(&vault, &home, &mount).await;
    home.says(&["renew"]);
    let before = noted(&vault, &mount).await;
    assert_eq!(before, head(&home));

    // The end is removed while no certd runs: the chain of the rest is whole.
    let path = home.path("state/audit.log");
    let log = home.read("state/audit.log");
    let lines: Vec<&str> = log.lines().collect();
    std::fs::write(&path, lines[..2].join("\n") + "\n").unwrap();
    home.says(&["audit", "verify"]);
    let why = format!("it names record {}, and the log ends with record ", lines.len());
    let by_command = home.says(&["pause", "web", "--until", "1h"]);
    assert!(by_command.contains("the audit log does not hold the head") && by_command.contains(&why), "{by_command}");
    let certd = home.start();
    shows(&certd, "0");
    let told = certd.logs(&["the audit log does not hold the head that was noted in Vault", "certd/audit"]);
    // By now records were added; whether so many that another one has the number of the head depends on the time.
    assert!(told.contains(&why) || told.contains("is another one now"), "{told}");
    certd.stop();
    assert_eq!(noted(&vault, &mount).await, before, "the note is the evidence");

    // A person who looked into it removes the note.
    vault.admin("DELETE", &format!("{mount}/metadata/certd/audit"), Value::Null).await;
    let certd = home.start();
    shows(&certd, "1");
    certd.stop();
    assert_eq!(noted(&vault, &mount).await, head(&home));

    // A note that is behind is no fault: the log goes on.
    std::fs::write(home.path("token"), "no-token").unwrap();
    let behind = noted(&vault, &mount).await;
    let told = home.says(&["resume", "web"]);
    assert!(told.contains("could not note the head of the audit log in Vault: "), "{told}");
    assert_eq!(noted(&vault, &mount).await, behind);
    let certd = home.start();
    certd.logs(&["could not note the head of the audit log in Vault: "]);
    shows(&certd, "0");
    std::fs::remove_dir_all(home.path("certificates/web")).unwrap();
    certd.logs(&["renewed, stored and read back"]);
    home.says(&["pause", "web", "--until", "1h"]);
    certd.stop();
    configured(&vault, &home, &mount).await;
    let certd = home.start();
    shows(&certd, "1");
    certd.stop();
    assert_eq!(noted(&vault, &mount).await, head(&home));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tells_of_a_head_that_may_not_be_noted_and_a_sweep_finds_no_certificate_there() {
    let vault = server().await;
    let mount = vault.kv("doctored").await;
    let home = Home::new();
    configured(&vault, &home, &mount).await;
    home.says(&["renew"]);
    assert_eq!(noted(&vault, &mount).await, head(&home));
    let doctor = |home: &Home| {
        let output = home.certd(&["vault", "doctor"]);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let why = "certd notes the head of its audit log there";
    let well = doctor(&home);
    assert!(!well.contains(why), "{well}");
    let head = format!("path \"{mount}/metadata/certd/audit\"");
    let policy = home.says(&["vault", "policy"]);
    assert!(policy.contains(&head), "{policy}");
    std::fs::write(home.path("token"), vault.token(&policy.replace("/audit\"", "/other\"")).await).unwrap();
    let ill = doctor(&home);
    assert!(ill.contains(why), "{ill}");

    // The secret of the head has no version, and is nothing that a source would find.
    std::fs::write(home.path("token"), &vault.root_token).unwrap();
    let config = std::fs::read_to_string(home.config()).unwrap();
    let source = format!("[source.all.vault_kv]\nvault = \"main\"\npaths = [\"{mount}/**\"]\n");
    std::fs::write(home.config(), format!("{config}{source}")).unwrap();
    let checked = home.says(&["check"]);
    assert!(!checked.contains("certd/audit"), "{checked}");
}
