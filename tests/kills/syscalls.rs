//! The system calls of one renewal: at each of some, certd is killed, or is told that the disk failed or is full.

use std::collections::BTreeMap;
use std::path::Path;

use futures_util::{StreamExt, stream};

use crate::case::{Before, Case, Issuer, Scene, Store};
use crate::support::vault::{Vault, server};
use crate::{AT_ONCE, is_full};

const CALLS: [&str; 8] = ["rename", "renameat2", "fsync", "fdatasync", "write", "pwrite64", "linkat", "unlink"];
/// An error of `write` meets the runtime's own pipes, too, and nothing goes on without those.
const KILLED_ONLY: &str = "write";
const FAULTS: [&str; 3] = ["signal=SIGKILL", "error=EIO", "error=ENOSPC"];

/// Of the many writes, so many are chosen where not all are run.
const CHOSEN: usize = 6;

fn case(store: Store) -> Case {
    Case::whole(store, Issuer::LocalCa, Before::Due)
}

/// How often each call is made in a renewal that nobody disturbs.
async fn counted(case: &Case, vault: &Vault) -> BTreeMap<&'static str, usize> {
    let scene = Scene::new(case, vault).await;
    let log = scene.path("calls");
    let calls = CALLS.join(",");
    let ended = scene
        .command(&["strace", "-f", "-qq", "-o", log.to_str().unwrap(), "-e", &format!("trace={calls}")])
        .output()
        .await
        .unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let text = std::fs::read_to_string(Path::new(&log)).unwrap();
    let made = |call: &str| text.lines().filter(|line| line.contains(&format!(" {call}("))).count();
    CALLS.into_iter().map(|call| (call, made(call))).collect()
}

/// Spread over all of them.
fn chosen(count: usize) -> Vec<usize> {
    if is_full() || count <= CHOSEN {
        return (1..=count).collect();
    }
    (0..CHOSEN).map(|nth| 1 + nth * (count - 1) / (CHOSEN - 1)).collect()
}

async fn injected(case: &Case, vault: &Vault, call: &str, fault: &str, nth: usize) -> Result<(), String> {
    let scene = Scene::new(case, vault).await;
    let inject = format!("inject={call}:{fault}:when={nth}");
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject];
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), scene.command(&strace).output()).await;
    let ended = ended.map_err(|_| "it hangs".to_string())?.unwrap();
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    if said.contains("panicked") || said.contains("a bug in certd") {
        return Err(format!("it panics: {said}"));
    }
    if fault.starts_with("error") && !ended.status.success() && said.trim().is_empty() {
        return Err("it fails and says nothing".to_string());
    }
    scene.converges(1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn at_any_system_call_a_kill_or_a_disk_that_fails_loses_nothing() {
    let vault = server().await;
    let (mut all, cases) = (Vec::new(), [case(Store::Bundle), case(Store::Directory), case(Store::KvTwo)]);
    for case in &cases {
        for (call, count) in counted(case, &vault).await {
            println!("{:?}: {call} {count} times", case.store);
            let faults = FAULTS.iter().filter(|fault| call != KILLED_ONLY || fault.starts_with("signal"));
            let faults = faults.flat_map(|fault| chosen(count).into_iter().map(move |nth| (*fault, nth)));
            all.extend(faults.map(|(fault, nth)| (case, call, fault, nth)));
        }
    }
    let run = async |(case, call, fault, nth): (&Case, &str, &str, usize)| {
        let ended = injected(case, &vault, call, fault, nth).await;
        ended.err().map(|why| format!("{:?} {call} {fault} {nth}: {why}", case.store))
    };
    let count = all.len();
    let failed: Vec<String> =
        stream::iter(all).map(run).buffer_unordered(AT_ONCE).filter_map(async |failed| failed).collect().await;
    println!("{count} injections");
    assert_eq!(failed, [""; 0]);
    assert!(count > 60, "{count}");
}
