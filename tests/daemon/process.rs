//! A folder with a configuration, and certd running on it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::time::{Duration, Instant};

use super::support::certd::{Certd, certd, output};
use super::support::secrets;

/// On a busy two-core machine; nothing here waits for so long where things go well.
pub const PATIENCE: Duration = Duration::from_secs(30);

const ASK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Signs what it is asked for and keeps it in files, turn after turn.
pub const LOCAL: &str = r#"
[issuer.local.local_ca]
directory = "ca"
create = true

[[certificate]]
name = "web"
names = ["localhost", "127.0.0.1"]
issuer = "local"
store.file = { directory = "certificates/web" }
"#;

/// Everything that certd may write lies below it.
pub struct Home(tempfile::TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With a configuration that says where state is and listens on any port.
    pub fn with(tables: &str) -> Self {
        let home = Self::new();
        home.configure(tables);
        home
    }

    pub fn configure(&self, tables: &str) {
        std::fs::write(self.config(), format!("{HEAD}{tables}")).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.path("certd.toml")
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    pub fn read(&self, below: &str) -> String {
        std::fs::read_to_string(self.path(below)).unwrap()
    }

    pub fn start(&self) -> Running {
        self.start_with(&[])
    }

    pub fn start_with(&self, environment: &[(&str, &str)]) -> Running {
        Running::new(&self.config(), environment)
    }

    /// `certd ARGUMENTS --config …`, to its end.
    pub fn certd(&self, arguments: &[&str]) -> Output {
        output(certd().args(arguments).arg("--config").arg(self.config()), b"")
    }

    /// The same, which must succeed: what it printed.
    pub fn says(&self, arguments: &[&str]) -> String {
        let output = self.certd(arguments);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert!(output.status.success(), "certd {arguments:?}: {text}");
        text
    }
}

/// A turn a second, so that a test need not wait for the next one.
const HEAD: &str = "state_dir = \"state\"\nturn = { interval = \"1s\" }\nlisten = { address = \"127.0.0.1:0\" }\n";

/// Ends with the test, whatever comes of it.
pub struct Running(Certd);

impl Running {
    pub fn new(config: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = certd();
        command.args(["run", "--config"]).arg(config).env_remove("NOTIFY_SOCKET").envs(environment.iter().copied());
        Self(Certd::start(&mut command))
    }

    pub fn log(&self) -> Vec<String> {
        self.0.log().into_iter().map(|(_, line)| line).collect()
    }

    /// How many lines hold all of these words.
    pub fn count(&self, words: &[&str]) -> usize {
        self.log().iter().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }

    /// The first line that holds all of these words, once it is there.
    pub fn logs(&self, words: &[&str]) -> String {
        let found = || self.log().into_iter().find(|line| words.iter().all(|word| line.contains(word)));
        eventually(&format!("a line with {words:?}"), || found().ok_or_else(|| self.log().join("\n")))
    }

    pub fn address(&self) -> SocketAddr {
        let line = self.logs(&["metrics: http"]);
        let (_, after) = line.split_once("://").unwrap();
        after.split_once("/metrics").unwrap().0.parse().unwrap()
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        get(TcpStream::connect(self.address()).unwrap(), path)
    }

    /// The value of a series, `NAME{LABELS}` as it is written, or `None`.
    pub fn metric(&self, series: &str) -> Option<String> {
        let (status, page) = self.get("/metrics");
        assert_eq!(status, 200, "{page}");
        page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')).map(str::to_string)
    }

    pub fn config_hash(&self) -> String {
        eventually("the hash of the configuration", || {
            let (_, page) = self.get("/metrics");
            let labels = page.lines().find_map(|line| line.strip_prefix("certd_config_hash_info{hash=\""));
            labels.and_then(|rest| rest.split_once('"')).map(|(hash, _)| hash.to_string()).ok_or(page.clone())
        })
    }

    pub fn turn_completed(&self) {
        self.logs(&["turn completed"]);
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, signal: libc::c_int) {
        self.0.signal(&signal.to_string());
    }

    /// How it ended, and how long that took from now.
    pub fn ended(&mut self) -> (ExitStatus, Duration) {
        let started = Instant::now();
        let status = eventually("the end of the process", || self.0.try_wait().ok_or_else(|| self.log().join("\n")));
        (status, started.elapsed())
    }

    pub fn stop(mut self) {
        self.signal(libc::SIGTERM);
        let (status, _) = self.ended();
        assert_eq!(status.code(), Some(0), "{}", self.log().join("\n"));
    }
}

/// Asks until there is an answer; the last refusal is the message of the failure.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(why) if Instant::now() > deadline => panic!("waited {PATIENCE:?} for {what}:\n{why}"),
            Err(_) => std::thread::sleep(ASK_AGAIN_AFTER),
        }
    }
}

pub fn get(mut connection: impl Read + Write, path: &str) -> (u16, String) {
    write!(connection, "GET {path} HTTP/1.1\r\nHost: certd\r\nConnection: close\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes).unwrap();
    secrets::are_not_in([("a page of the listener", &*bytes)]);
    let answer = String::from_utf8(bytes).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_string())
}
