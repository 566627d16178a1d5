//! A folder with a configuration, and certd running on it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// On a busy two-core machine; nothing here waits for so long where things go well.
pub const PATIENCE: Duration = Duration::from_secs(30);

const ASK_AGAIN_AFTER: Duration = Duration::from_millis(20);

const CERTD: &str = env!("CARGO_BIN_EXE_certd");

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
        Command::new(CERTD).args(arguments).arg("--config").arg(self.config()).output().unwrap()
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
pub struct Running {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Running {
    pub fn new(config: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(CERTD)
            .args(["run", "--config"])
            .arg(config)
            .env_remove("NOTIFY_SOCKET")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, heard) = (BufReader::new(child.stderr.take().unwrap()).lines(), log.clone());
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| heard.lock().unwrap().push(line)));
        Self { child, log }
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
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

    pub fn signal(&self, signal: libc::c_int) {
        // It is our child and was not waited for, so the number is still its own. The shell's own kill, which every
        // host has.
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("/bin/sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// How it ended, and how long that took from now.
    pub fn ended(&mut self) -> (ExitStatus, Duration) {
        let started = Instant::now();
        let log = self.log.clone();
        let status = eventually("the end of the process", || {
            self.child.try_wait().unwrap().ok_or_else(|| log.lock().unwrap().join("\n"))
        });
        (status, started.elapsed())
    }

    pub fn stop(mut self) {
        self.signal(libc::SIGTERM);
        let (status, _) = self.ended();
        assert_eq!(status.code(), Some(0), "{}", self.log().join("\n"));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
    let answer = String::from_utf8(bytes).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_string())
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).unwrap().port()
}
