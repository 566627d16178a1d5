//! Tokens and keys in memory: no core dump, no debugger of another user, no new privileges, whoever starts certd.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::process::{Home, LOCAL, eventually};
use super::support::certd::BINARY;

fn of_process(id: u32, name: &str) -> String {
    std::fs::read_to_string(format!("/proc/{id}/{name}")).unwrap()
}

fn line(text: &str, begins: &str) -> Vec<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(begins)).unwrap();
    line.split_whitespace().map(str::to_string).collect()
}

#[test]
fn a_daemon_leaves_no_core_and_gains_no_privileges() {
    let home = Home::with(LOCAL);
    let certd = home.start();
    certd.turn_completed();
    assert_eq!(line(&of_process(certd.id(), "status"), "NoNewPrivs:"), ["1"]);
    assert_eq!(line(&of_process(certd.id(), "limits"), "Max core file size"), ["0", "0", "bytes"]);
    certd.stop();
}

/// The entries of a process below /proc are root's where it cannot be dumped (proc(5)).
#[test]
fn a_command_of_an_ordinary_user_cannot_be_dumped() {
    const NOBODY: u32 = 65_534;
    let of = |program: &str, argument: &[&str]| {
        let mut command = Command::new(program);
        if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.args(argument).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    };
    let owner = |child: &Child| std::fs::metadata(format!("/proc/{}/environ", child.id())).unwrap().uid();
    let (mut other, mut certd) = (of("cat", &[]), of(BINARY, &["check", "--targets-file", "-"]));
    eventually("it is root's", || match owner(&certd) {
        0 => Ok(()),
        user => Err(format!("it is of {user}")),
    });
    assert_ne!(owner(&other), 0, "that of another program is its user's");
    for child in [&mut other, &mut certd] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
