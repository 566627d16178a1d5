//! The system calls of one renewal: at each of some, certd is killed, or is told that the disk failed or is full.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};

use crate::case::{Before, ENDS_WITHIN, Issuer, Scene, Store, Way};
use crate::support::vault::{Vault, server};
use crate::{AT_ONCE, is_full};

const CALLS: [&str; 12] = [
    "rename",
    "renameat",
    "renameat2",
    "fsync",
    "fdatasync",
    "write",
    "pwrite64",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdirat",
    "symlinkat",
];
/// An error of `write` meets the runtime's own pipes, too, and nothing goes on without those.
const KILLED_ONLY: &str = "write";
const FAULTS: [&str; 3] = ["signal=SIGKILL", "error=EIO", "error=ENOSPC"];

/// Of the many writes, so many are chosen where not all are run.
const CHOSEN: usize = 6;

/// strace counts the calls of each thread for itself. With one worker nearly all are made by three threads, and the same
/// ones by the same thread in each run.
const ONE_WORKER: (&str, &str) = ("TOKIO_WORKER_THREADS", "1");

/// So often an injection is tried that met no call, since another thread made it this time.
const TRIES: usize = 3;

/// How often each call is made in a renewal that nobody disturbs, by the thread that makes it most.
async fn counted(way: Way, vault: &Vault) -> BTreeMap<&'static str, usize> {
    let scene = Scene::new(way, vault).await;
    let log = scene.path("calls");
    let calls = format!("trace={}", CALLS.join(","));
    let strace = ["strace", "-f", "-qq", "-o", log.to_str().unwrap(), "-e", &calls];
    let ended = scene.command(&strace, &["renew"]).env(ONE_WORKER.0, ONE_WORKER.1).output().await.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let text = std::fs::read_to_string(&log).unwrap();
    let most = |call: &str| {
        let mut by_thread: BTreeMap<&str, usize> = BTreeMap::new();
        for line in text.lines().filter(|line| line.contains(&format!(" {call}("))) {
            *by_thread.entry(line.split(' ').next().unwrap()).or_default() += 1;
        }
        by_thread.into_values().max().unwrap_or(0)
    };
    CALLS.into_iter().map(|call| (call, most(call))).collect()
}

/// Spread over all of them.
fn chosen(count: usize) -> Vec<usize> {
    if is_full() || count <= CHOSEN {
        return (1..=count).collect();
    }
    (0..CHOSEN).map(|nth| 1 + nth * (count - 1) / (CHOSEN - 1)).collect()
}

/// Whether a call was met: strace itself says so.
async fn injected(way: Way, vault: &Vault, call: &str, fault: &str, nth: usize) -> Result<bool, String> {
    for _ in 0..TRIES {
        let scene = Scene::at_any_moment(way, vault).await;
        if tried(&scene, call, fault, nth).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn tried(scene: &Scene<'_>, call: &str, fault: &str, nth: usize) -> Result<bool, String> {
    let log = scene.path("calls");
    let inject = format!("inject={call}:{fault}:when={nth}");
    let trace = format!("trace={call}");
    let strace = ["strace", "-f", "-qq", "-o", log.to_str().unwrap(), "-e", &trace, "-e", &inject];
    let mut command = scene.command(&strace, &["renew"]);
    let ended = command.env(ONE_WORKER.0, ONE_WORKER.1).output();
    let ended = tokio::time::timeout(ENDS_WITHIN * 2, ended).await.map_err(|_| "it hangs".to_string())?.unwrap();
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    scene.keeps_its_keys(said.as_bytes());
    if said.contains("panicked") || said.contains("a bug in certd") {
        return Err(format!("it panics: {said}"));
    }
    if fault.starts_with("error") && !ended.status.success() && said.trim().is_empty() {
        return Err("it fails and says nothing".to_string());
    }
    scene.converges(1).await?;
    let text = std::fs::read_to_string(&log).unwrap();
    let was_killed = text.contains("+++ killed by SIGKILL +++");
    Ok(if fault.starts_with("signal") { was_killed } else { text.contains("(INJECTED)") })
}

#[tokio::test(flavor = "multi_thread")]
async fn at_any_system_call_a_kill_or_a_disk_that_fails_loses_nothing() {
    let vault = server().await;
    let mut all = Vec::new();
    let ways = [(Store::Bundle, Issuer::LocalCa), (Store::Directory, Issuer::Acme), (Store::KvTwo, Issuer::LocalCa)];
    for (store, issuer) in ways {
        let way = Way { store, issuer, before: Before::Due };
        for (call, count) in counted(way, &vault).await {
            println!("{store:?}/{issuer:?}: {call} {count} times by one thread");
            let faults = FAULTS.iter().filter(|fault| call != KILLED_ONLY || fault.starts_with("signal"));
            let faults = faults.flat_map(|fault| chosen(count).into_iter().map(move |nth| (*fault, nth)));
            all.extend(faults.map(|(fault, nth)| (way, call, fault, nth)));
        }
    }
    let count = all.len();
    let run = async |(way, call, fault, nth): (Way, &str, &str, usize)| {
        let ended = injected(way, &vault, call, fault, nth).await;
        (format!("{:?}/{:?} {call} {fault} {nth}", way.store, way.issuer), ended)
    };
    let ended: Vec<_> = stream::iter(all).map(run).buffer_unordered(AT_ONCE).collect().await;
    let failed: Vec<String> =
        ended.iter().filter_map(|(what, ended)| Some(format!("{what}: {}", ended.as_ref().err()?))).collect();
    assert_eq!(failed, [""; 0]);
    let unmet: Vec<&String> = ended.iter().filter(|(_, ended)| *ended == Ok(false)).map(|(what, _)| what).collect();
    let met = count - unmet.len();
    println!("system calls: {met} injections that met their call; {} met none: {unmet:?}", unmet.len());
    assert!(met > 60 && met * 20 >= count * 19, "{met} of {count}");
}
