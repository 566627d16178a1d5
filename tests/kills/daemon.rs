//! `certd run`, killed in the middle of a renewal some time after its start.

use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr};

use crate::case::{ENDS_WITHIN, Scene};

struct Daemon {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    said: Vec<String>,
}

/// Whether it died of the step. It starts where it may not act, and is told that it may when it has completed a turn.
pub async fn killed(scene: &Scene<'_>, step: &str) -> Result<bool, String> {
    scene.forget_what_it_came_by();
    scene.configure(false);
    let mut daemon = Daemon::start(scene, Some(step));
    let is_started = daemon.until("turn completed").await.is_ok();
    scene.configure(true);
    if is_started {
        daemon.signal("-HUP");
        if daemon.until("turn completed").await.is_ok() {
            // It has come to the end of its renewal.
            daemon.signal("-TERM");
        }
    }
    let status = daemon.ended().await?;
    scene.keeps_its_keys(daemon.said.join("\n").as_bytes());
    scene.died_of(Some(step), status, &daemon.said.join("\n"))
}

/// Started anew and left alone: what holds after its first turn, and how long that took.
pub async fn converges(scene: &Scene<'_>, most_issued: usize) -> Result<Duration, String> {
    let begun = Instant::now();
    let mut daemon = Daemon::start(scene, None);
    daemon.until("turn completed").await?;
    let took = scene.converged(begun, most_issued).await?;
    daemon.signal("-TERM");
    let status = daemon.ended().await?;
    scene.keeps_its_keys(daemon.said.join("\n").as_bytes());
    match status.success() {
        true => Ok(took),
        false => Err(format!("it ends with {status}: {}", daemon.said.join("\n"))),
    }
}

impl Daemon {
    fn start(scene: &Scene<'_>, step: Option<&str>) -> Self {
        let mut command = scene.command(&[], &["run"]);
        scene.end_at(&mut command, step);
        command.env_remove("NOTIFY_SOCKET");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, log, said: Vec::new() }
    }

    /// An error where its log ends before.
    async fn until(&mut self, words: &str) -> Result<(), String> {
        let found = async {
            while let Ok(Some(line)) = self.log.next_line().await {
                let is_it = line.contains(words);
                self.said.push(line);
                if is_it {
                    return true;
                }
            }
            false
        };
        match tokio::time::timeout(ENDS_WITHIN, found).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("it ended and did not say `{words}`: {}", self.said.join("\n"))),
            Err(_) => Err(format!("it never says `{words}`: {}", self.said.join("\n"))),
        }
    }

    fn signal(&self, signal: &str) {
        // Where it has ended already, there is nobody to tell.
        let Some(id) = self.child.id() else { return };
        assert!(std::process::Command::new("kill").args([signal, &id.to_string()]).status().unwrap().success());
    }

    async fn ended(&mut self) -> Result<ExitStatus, String> {
        let ended = tokio::time::timeout(ENDS_WITHIN, self.child.wait()).await;
        ended.map(Result::unwrap).map_err(|_| format!("it does not end: {}", self.said.join("\n")))
    }
}
