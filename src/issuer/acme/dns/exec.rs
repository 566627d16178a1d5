//! A command of the operator's that changes the zone: `COMMAND… present|withdraw OWNER VALUE`.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::domain::hidden;
use crate::domain::text::printable;

/// What is kept of stderr, in bytes; the rest is read and forgotten, so that the command never waits for a reader.
const LARGEST_OUTPUT: usize = 64 * 1024;

/// How long the last words of a command may take after its end, where something that it started holds its stderr.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Where certd's own environment has none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const LANG: &str = "C.UTF-8";

#[derive(Clone, Debug)]
pub struct Exec {
    /// An absolute path, and what it is to be told first. No shell is involved.
    pub command: Vec<String>,
    /// Then it is killed, with all that it started and that has not left its process group.
    pub deadline: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("the DNS command has no absolute path: name it as /usr/local/bin/NAME")]
    NotAbsolute,
    #[error("no command is given what is neither a DNS name nor base64url: {}", printable(.0))]
    Hostile(String),
    #[error("could not start {}: see whether it is there and executable", printable(command))]
    Start { command: String, source: std::io::Error },
    #[error("could not wait for {}: see the log of the system", printable(command))]
    Wait { command: String, source: std::io::Error },
    #[error(
        "{} {verb} did not end within {} s and was killed: see where it waits",
        printable(command),
        deadline.as_secs()
    )]
    Late { command: String, verb: Verb, deadline: Duration },
    #[error("{} {verb} ended with {status}: {}", printable(command), first_line(said))]
    Failed { command: String, verb: Verb, status: ExitStatus, said: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Present,
    Withdraw,
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Present => "present",
            Self::Withdraw => "withdraw",
        })
    }
}

impl ExecError {
    /// Whether the command may have done it all the same.
    pub(super) fn leaves_open(&self) -> bool {
        match self {
            Self::Wait { .. } | Self::Late { .. } | Self::Failed { .. } => true,
            Self::NotAbsolute | Self::Hostile(_) | Self::Start { .. } => false,
        }
    }
}

impl Exec {
    pub(super) async fn run(&self, verb: Verb, owner: &str, value: &str) -> Result<(), ExecError> {
        let Some((program, arguments)) = self.command.split_first().filter(|(program, _)| program.starts_with('/'))
        else {
            return Err(ExecError::NotAbsolute);
        };
        if let Some(hostile) = [owner, value].into_iter().find(|text| !is_plain_word(text)) {
            return Err(ExecError::Hostile(hostile.to_string()));
        }
        let inherited = |name: &str, other: &str| std::env::var_os(name).unwrap_or_else(|| other.into());
        let child = Command::new(program)
            .args(arguments)
            .args([&verb.to_string(), owner, value])
            .env_clear()
            .env("PATH", inherited("PATH", PATH))
            .env("LANG", inherited("LANG", LANG))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        let command = program.clone();
        let child = child.map_err(|source| ExecError::Start { command: command.clone(), source })?;
        let (status, said) = match timeout(self.deadline, Running(child).end()).await {
            Err(_) => return Err(ExecError::Late { command, verb, deadline: self.deadline }),
            Ok(Err(source)) => return Err(ExecError::Wait { command, source }),
            Ok(Ok(ended)) => ended,
        };
        match status.success() {
            true => Ok(()),
            false => Err(ExecError::Failed { command, verb, status, said }),
        }
    }
}

/// Of what names and base64url are made of, which mean nothing to a shell either.
fn is_plain_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Ends with whoever waits for it: what is still running is killed.
struct Running(Child);

impl Running {
    /// How it ended, and what it said on stderr.
    async fn end(mut self) -> std::io::Result<(ExitStatus, String)> {
        let mut stderr = self.0.stderr.take().expect("it is piped");
        let mut said = Vec::new();
        let status = tokio::select! {
            status = self.0.wait() => status?,
            () = read_all(&mut stderr, &mut said) => self.0.wait().await?,
        };
        // What it said just before its end is there by now; something that it left running may hold the pipe for ever.
        let _ = timeout(LAST_WORDS, read_all(&mut stderr, &mut said)).await;
        Ok((status, String::from_utf8_lossy(&said).into_owned()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has no number any more once it was waited for, and the number of its group is its own.
        let group = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            // It may have ended by itself, which is as well.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// To its end, which a pipe that fails has reached too. What was read stays read when it is given up.
async fn read_all(from: &mut (impl AsyncRead + Unpin), said: &mut Vec<u8>) {
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let room = LARGEST_OUTPUT - said.len();
        said.extend_from_slice(&chunk[..length.min(room)]);
    }
}

/// That is not empty.
fn first_line(said: &str) -> String {
    match said.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => hidden::words(line),
        None => "it said nothing on stderr; let it say why".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_says_something_is_told() {
        assert_eq!(first_line("\n  \n no such zone \nat line 3\n"), "no such zone");
        assert_eq!(first_line("a\u{1b}[2J\r\nb"), "a\\u{1b}[2J");
        assert_eq!(first_line("\n"), "it said nothing on stderr; let it say why");
    }

    #[tokio::test]
    async fn only_so_much_of_the_output_is_kept_and_all_of_it_is_read() {
        let long = vec![b'x'; LARGEST_OUTPUT + 10_000];
        let (mut from, mut said) = (&long[..], Vec::new());
        read_all(&mut from, &mut said).await;
        assert_eq!((from.len(), said.len()), (0, LARGEST_OUTPUT));
    }
}
