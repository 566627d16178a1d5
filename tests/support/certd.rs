//! How every story starts certd: at the level `trace`, with all that it says kept to the end, and searched then, together
//! with what else anybody could come to read of it, for the secrets of `support::secrets`.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::secrets::{self, Kind};

pub const BINARY: &str = env!("CARGO_BIN_EXE_certd");

/// No command takes so long on the busiest machine.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// Far more than any journal of a story.
const LARGEST: u64 = 1 << 30;

const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// Each with its end, and when it came.
type Lines = Vec<(Instant, Vec<u8>)>;

/// A process that is certd, or that runs it; killed when dropped.
pub struct Certd {
    child: Child,
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Lines>>,
    readers: Vec<JoinHandle<()>>,
    /// Below this level it would say nothing, had the story been asked.
    quiet_below: &'static [&'static str],
    readable: Readable,
    ended: Option<ExitStatus>,
}

/// What else anybody could come to read of a process.
struct Readable {
    cmdline: Vec<u8>,
    environ: Vec<u8>,
    temporary: tempfile::TempDir,
    config: Option<Configured>,
}

struct Configured {
    folder: PathBuf,
    state: Option<PathBuf>,
}

pub fn certd() -> Command {
    Command::new(BINARY)
}

/// Runs it to its end; what it says at levels that the story has not asked for is searched and left out.
pub fn output(command: &mut Command, stdin: &[u8]) -> Output {
    let mut certd = Certd::start_with(command, Stdio::piped());
    // Whoever fails before it reads its input closes it.
    let _ = certd.child.stdin.take().expect("it was piped").write_all(stdin);
    let status = certd.wait();
    let stdout = std::mem::take(&mut *certd.out.lock().unwrap());
    let stderr = certd.lines().into_iter().flat_map(|(_, line)| line).collect();
    Output { status, stdout, stderr }
}

/// The same, for a story whose own servers have to go on meanwhile.
pub async fn output_meanwhile(mut command: Command) -> Output {
    let ended = tokio::task::spawn_blocking(move || output(&mut command, b"")).await;
    ended.unwrap_or_else(|broken| std::panic::resume_unwind(broken.into_panic()))
}

impl Certd {
    pub fn start(command: &mut Command) -> Self {
        Self::start_with(command, Stdio::null())
    }

    fn start_with(command: &mut Command, stdin: Stdio) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let config = config(command);
        let quiet_below = config.as_deref().map_or(&[][..], |config| traced(command, config));
        command.env("TMPDIR", temporary.path()).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
        let readable = Readable::of(&child, command, temporary, config.as_deref());
        let (out, err) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Mutex<Lines>>::default());
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (heard_out, heard_err) = (out.clone(), err.clone());
        let readers = vec![
            std::thread::spawn(move || chunks(stdout, |bytes| heard_out.lock().unwrap().extend(bytes))),
            std::thread::spawn(move || lines(stderr, |line| heard_err.lock().unwrap().push((Instant::now(), line)))),
        ];
        Self { child, out, err, readers, quiet_below, readable, ended: None }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the story would hear of it on stderr, with when it came.
    pub fn log(&self) -> Vec<(Instant, String)> {
        let text = |line: Vec<u8>| String::from_utf8_lossy(&line).trim_end_matches('\n').to_string();
        self.lines().into_iter().map(|(at, line)| (at, text(line))).collect()
    }

    fn lines(&self) -> Lines {
        let all = self.err.lock().unwrap();
        all.iter().filter(|(_, line)| !self.quiet_below.contains(&level(line))).cloned().collect()
    }

    /// By the name or number that kill(1) has for it. The shell's own kill, which every host has.
    pub fn signal(&self, signal: &str) {
        // It is our child and was not waited for, so the number is still its own.
        let kill = format!("kill -{signal} {}", self.id());
        assert!(Command::new("/bin/sh").args(["-c", &kill]).status().unwrap().success());
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.wait();
    }

    /// Whether it has ended, and then searched.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
            if self.ended.is_some() {
                self.is_searched();
            }
        }
        self.ended
    }

    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + ENDS_WITHIN;
        loop {
            if let Some(status) = self.try_wait() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end within {ENDS_WITHIN:?}");
            std::thread::sleep(LOOK_AGAIN_AFTER);
        }
    }

    fn is_searched(&mut self) {
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        let said: Vec<u8> = self.err.lock().unwrap().iter().flat_map(|(_, line)| line.clone()).collect();
        self.readable.is_searched(&self.out.lock().unwrap(), &said);
    }
}

impl Drop for Certd {
    fn drop(&mut self) {
        if self.ended.is_some() {
            return;
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.ended = Some(ExitStatus::from_raw(libc::SIGKILL));
        if !std::thread::panicking() {
            self.is_searched();
        }
    }
}

impl Readable {
    /// Read while it runs; of its environment what the story itself has put there is no leak.
    fn of(child: &Child, command: &Command, temporary: tempfile::TempDir, config: Option<&Path>) -> Self {
        let read = |name: &str| of_process(child.id(), name);
        let given: Vec<&OsStr> = command.get_envs().map(|(name, _)| name).collect();
        let own = |variable: &&[u8]| {
            let name = variable.split(|byte| *byte == b'=').next().unwrap_or_default();
            !given.iter().any(|given| given.as_encoded_bytes() == name)
        };
        let environ = read("environ").split(|byte| *byte == 0).filter(own).collect::<Vec<_>>().join(&b'\n');
        Self { cmdline: read("cmdline"), environ, temporary, config: config.map(Configured::of) }
    }

    fn is_searched(&self, out: &[u8], err: &[u8]) {
        if let Some(Configured { folder, state }) = &self.config {
            secrets::told_files(Kind::KeyOnDisk, folder);
            state.iter().for_each(|state| secrets::told_files(Kind::KeyInFlight, &state.join("pending")));
        }
        let state = self.config.as_ref().and_then(|config| config.state.as_ref());
        let mut files = secrets::files_below(self.temporary.path(), LARGEST);
        files.extend(state.into_iter().flat_map(|state| secrets::files_below(state, LARGEST)));
        files.retain(|(path, _)| !is_kept_key(path));
        let files = files.iter().map(|(path, bytes)| (path.to_str().unwrap_or("a file"), bytes.as_slice()));
        let streams = [("stdout", out), ("stderr", err), ("its arguments", &self.cmdline)];
        secrets::are_not_in(streams.into_iter().chain([("its environment", &*self.environ)]).chain(files));
    }
}

/// A process whose program was just put in place shows nothing yet, and one that has ended nothing any more.
fn of_process(id: u32, name: &str) -> Vec<u8> {
    let path = |name: &str| format!("/proc/{id}/{name}");
    let read = |name: &str| fs::read(path(name)).unwrap_or_default();
    // To all but root, it shows its environment no more once it has denied to be dumped.
    let is_denied = || fs::read(path(name)).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    let has_ended = || {
        String::from_utf8_lossy(&read("stat"))
            .rsplit(") ")
            .next()
            .is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
    };
    loop {
        let bytes = read(name);
        if !bytes.is_empty() || is_denied() || has_ended() {
            return bytes;
        }
        std::thread::sleep(LOOK_AGAIN_AFTER);
    }
}

impl Configured {
    fn of(config: &Path) -> Self {
        let folder = config.parent().expect("it is a file").to_path_buf();
        Self { folder, state: certd::config::load(config).ok().map(|config| config.state_dir) }
    }
}

/// The key of a renewal in flight has its place in the state directory, for its owner alone.
fn is_kept_key(path: &Path) -> bool {
    let is_pending = path.parent().is_some_and(|folder| folder.ends_with("pending"));
    is_pending && fs::metadata(path).is_ok_and(|it| it.permissions().mode() & 0o7777 == 0o600)
}

/// The file behind `--config`, where it is there.
fn config(command: &Command) -> Option<PathBuf> {
    let after = command.get_args().skip_while(|argument| *argument != "--config").nth(1)?;
    let path = command.get_current_dir().unwrap_or(Path::new("")).join(after);
    path.is_file().then_some(path)
}

/// Has it log all there is, where the story says nothing of its log; the levels that it would else not show.
fn traced(command: &Command, config: &Path) -> &'static [&'static str] {
    let quiet: &[&str] = match command.get_args().next().and_then(OsStr::to_str) {
        Some("run") => &["TRACE", "DEBUG"],
        Some("renew") => &["TRACE", "DEBUG", "INFO"],
        _ => return &[],
    };
    const TRACE: &str = "log.level = \"trace\"\n";
    let Ok(text) = fs::read_to_string(config) else { return &[] };
    if text.starts_with(TRACE) {
        return quiet;
    }
    if text.lines().any(|line| line.starts_with("log") || line.starts_with("[log]")) {
        return &[];
    }
    // By a rename, since another certd may be about to read it.
    let draft = config.with_extension("draft");
    fs::write(&draft, format!("{TRACE}{text}")).unwrap();
    fs::rename(draft, config).unwrap();
    quiet
}

/// The second word of a line for people; empty where it is none.
fn level(line: &[u8]) -> &str {
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let is_time = words.next().is_some_and(|word| word.ends_with(b"Z") && word[0].is_ascii_digit());
    words.next().filter(|_| is_time).and_then(|word| std::str::from_utf8(word).ok()).unwrap_or_default()
}

fn chunks(mut from: impl Read, mut each: impl FnMut(&[u8])) {
    let mut chunk = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        each(&chunk[..length]);
    }
}

fn lines(from: impl Read, mut each: impl FnMut(Vec<u8>)) {
    let mut from = BufReader::new(from);
    loop {
        let mut line = Vec::new();
        match from.read_until(b'\n', &mut line) {
            Ok(1..) => each(line),
            _ => return,
        }
    }
}
