//! Who asks: this process, or the one at the other end of the control socket, as the kernel has it.

use std::path::Path;

use crate::domain::actor::{Actor, Login, Said};
use crate::files::regular;

/// In bytes. Hosts with more local accounts are rare, and their accounts go without a name.
const LARGEST_PASSWD: u64 = 4 * 1024 * 1024;

/// In bytes. A host name has 64, a login uid 10.
const LARGEST_WORD: u64 = 256;

/// In bytes. It has some fifty lines.
const LARGEST_STATUS: u64 = 64 * 1024;

/// What a process without a login session has (`proc(5)`).
const NOT_SET: u32 = u32::MAX;

/// Where the name of the host stands; the first is hidden from some services.
const HOST_NAMES: [&str; 2] = ["/proc/sys/kernel/hostname", "/etc/hostname"];

/// Returns what this process says of itself.
pub fn said(reason: Option<String>) -> Said {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    Said { command: format!("certd {}", arguments.join(" ")), sudo: sudo(|name| std::env::var(name).ok()), reason }
        .bounded()
}

fn sudo(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let (name, uid) = (variable("SUDO_USER"), variable("SUDO_UID"));
    match (name, uid) {
        (Some(name), Some(uid)) => Some(format!("{name} (uid {uid})")),
        (Some(name), None) => Some(name),
        (None, uid) => uid.map(|uid| format!("uid {uid}")),
    }
}

/// Returns the actor of an act that this process carries out.
pub fn this_process(said: Said) -> Actor {
    actor(rustix::process::geteuid().as_raw(), Path::new("/proc/self"), said)
}

/// Returns the actor at the other end of a socket. `pid` is of the process that connected, where the kernel knows it.
pub fn other_process(uid: u32, pid: Option<i32>, said: &Said) -> Actor {
    let process = pid.map_or_else(|| "/proc/none".to_string(), |pid| format!("/proc/{pid}"));
    actor(uid, Path::new(&process), said.bounded())
}

fn actor(uid: u32, process: &Path, said: Said) -> Actor {
    let accounts = regular::read_text(Path::new("/etc/passwd"), LARGEST_PASSWD);
    let accounts = accounts.as_ref().map_or("", |text| text.as_str());
    let login = word(&process.join("loginuid")).filter(|_| is_of(process, uid));
    let login = login.and_then(|text| text.parse().ok()).filter(|uid| *uid != NOT_SET);
    let login = login.map(|uid| Login { uid, name: name_of(accounts, uid) });
    Actor { uid, name: name_of(accounts, uid), login, host: host(), said }
}

/// Whether a process is of this account (`proc_pid_status(5)`: the effective uid is the second). One that ended may have
/// left its number to another.
fn is_of(process: &Path, uid: u32) -> bool {
    let status = regular::read_text(&process.join("status"), LARGEST_STATUS);
    let status = status.as_ref().map_or("", |text| text.as_str());
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uids.and_then(|uids| uids.split_whitespace().nth(1)) == Some(uid.to_string().as_str())
}

/// Returns the name of this host; empty where it cannot be read.
pub fn host() -> String {
    HOST_NAMES.iter().find_map(|path| word(Path::new(path))).unwrap_or_default()
}

fn word(path: &Path) -> Option<String> {
    let text = regular::read_text(path, LARGEST_WORD).ok()?;
    Some(text.trim().to_string()).filter(|word| !word.is_empty())
}

/// In the form of `passwd(5)`: the first account with this number.
fn name_of(accounts: &str, uid: u32) -> Option<String> {
    let name = |line: &str| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then(|| name.to_string())
    };
    accounts.lines().find_map(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_the_name_that_passwd_gives_its_number() {
        let accounts = "root:x:0:0:root:/root:/bin/bash\nbroken\ncertd:x:998:997::/:/sbin/nologin\n";
        assert_eq!(name_of(accounts, 998), Some("certd".to_string()));
        assert_eq!(name_of(accounts, 997), None);
    }

    #[test]
    fn a_login_is_told_of_a_process_of_the_same_account_alone() {
        let process = tempfile::tempdir().unwrap();
        std::fs::write(process.path().join("loginuid"), "1000").unwrap();
        let login = |uid| actor(uid, process.path(), Said::default()).login.map(|login| login.uid);
        assert_eq!(login(998), None, "without a status it is nobody's");
        std::fs::write(process.path().join("status"), "Name:\tcertd\nUid:\t0\t998\t0\t0\n").unwrap();
        assert_eq!([998, 0].map(login), [Some(1000), None]);
        std::fs::write(process.path().join("loginuid"), u32::MAX.to_string()).unwrap();
        assert_eq!(login(998), None);
        // The peer is in another PID namespace, or the kernel does not tell.
        for pid in [Some(0), None] {
            assert_eq!(other_process(998, pid, &Said::default()).login, None);
        }
    }

    #[test]
    fn what_sudo_says_is_told_as_what_it_says() {
        let set = |name: Option<&'static str>, uid: Option<&'static str>| {
            sudo(|variable| if variable == "SUDO_USER" { name } else { uid }.map(str::to_string))
        };
        assert_eq!(set(Some("ada"), Some("1000")), Some("ada (uid 1000)".to_string()));
        assert_eq!(set(Some("ada"), None), Some("ada".to_string()));
        assert_eq!(set(None, Some("1000")), Some("uid 1000".to_string()));
        assert_eq!(set(None, None), None);
    }

    #[test]
    fn this_process_is_its_own_account_on_this_host() {
        let actor = this_process(said(Some("ticket 7".into())));
        assert_eq!(actor.uid, rustix::process::getuid().as_raw());
        assert!(!actor.host.is_empty() && actor.said.command.starts_with("certd"));
        assert_eq!(actor.said.reason.as_deref(), Some("ticket 7"));
        let pid = i32::try_from(std::process::id()).unwrap();
        let other = other_process(actor.uid, Some(pid), &actor.said);
        assert_eq!(other, actor);
    }
}
