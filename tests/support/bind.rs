//! BIND's `named` on loopback: a primary whose zones are changed by updates, and secondaries that ask it only when a
//! test tells them to. Nothing is left of one when it is dropped.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::secrets::{self, Kind};
use super::server::{Lifeline, free_port, unique};

const WITHIN: Duration = Duration::from_secs(15);
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

const GET_BIND: &str = "this test needs BIND: apt-get install bind9 bind9-dnsutils, or run tests/run";

/// The zones, and the names of the keys that may change their texts.
pub const ZONES: [&str; 2] = ["example.test", "challenges.test"];
pub const ALGORITHMS: [&str; 3] = ["hmac-sha256", "hmac-sha384", "hmac-sha512"];

/// A key of the server's that may change nothing.
pub const BYSTANDER: &str = "bystander";

const EXAMPLE: &str = r#"
$TTL 60
@                       SOA   ns1 hostmaster 1 3600 600 86400 60
                        NS    ns1
                        NS    ns2
                        NS    nowhere.challenges.test.
ns1                     A     127.0.0.1
ns1                     AAAA  ::1
ns2                     A     127.0.0.2
www                     A     127.0.0.1
_acme-challenge         TXT   "of-others"
_acme-challenge.web     CNAME web.challenges.test.
_acme-challenge.loop    CNAME loop1
loop1                   CNAME loop2
loop2                   CNAME loop1
_acme-challenge.hostile CNAME \$\(id\).challenges.test.
_acme-challenge.near    CNAME hop2
_acme-challenge.far     CNAME hop1
hop1                    CNAME hop2
hop2                    CNAME hop3
hop3                    CNAME hop4
hop4                    CNAME hop5
hop5                    CNAME hop6
hop6                    CNAME hop7
hop7                    CNAME hop8
hop8                    CNAME hop9
long                    TXT   "one " "two"
"#;

const CHALLENGES: &str = r#"
$TTL 60
@                       SOA   ns hostmaster 1 3600 600 86400 60
                        NS    ns
ns                      A     127.0.0.1
"#;

/// The shell is the parent of the server, so that the number it kills cannot have become another's.
const SCRIPT: &str = r#"dir=$1; shift
"$@" >"$dir/log" 2>&1 </dev/null & cat; kill -9 $!; wait $!; rm -rf "$dir""#;

pub struct Bind {
    pub address: SocketAddr,
    /// Configuration, zones, keys and log.
    folder: PathBuf,
    _process: Lifeline,
}

impl Bind {
    pub fn primary() -> Self {
        Self::with_zones("no")
    }

    /// Follows CNAMEs out of one of its zones into the other, which a server that is no resolver does not.
    pub fn resolving() -> Self {
        Self::with_zones("yes")
    }

    fn with_zones(recursion: &str) -> Self {
        let folder = folder();
        let mut config = String::new();
        for name in ALGORITHMS.into_iter().chain([BYSTANDER]) {
            let algorithm = if name == BYSTANDER { ALGORITHMS[0] } else { name };
            config += &generate_key(&folder.join(name), name, algorithm);
        }
        fs::write(folder.join("example.test"), EXAMPLE.to_string() + &many()).unwrap();
        fs::write(folder.join("challenges.test"), CHALLENGES).unwrap();
        let grants: String = ALGORITHMS.iter().map(|name| format!("grant {name} zonesub TXT; ")).collect();
        for zone in ZONES {
            config += &format!("zone {zone} {{ type primary; file \"{zone}\"; update-policy {{ {grants} }}; }};\n");
        }
        Self::start(folder, &config, recursion)
    }

    /// Has the zones as they are now, and asks for them again only after it was notified.
    pub fn secondary(of: &Self) -> Self {
        let zone = |zone: &str| {
            let primary = format!("primaries {{ 127.0.0.1 port {}; }}", of.address.port());
            format!("zone {zone} {{ type secondary; file \"{zone}\"; {primary}; allow-notify {{ 127.0.0.1; }}; }};\n")
        };
        Self::start(folder(), &ZONES.map(zone).concat(), "no")
    }

    fn start(folder: PathBuf, zones: &str, recursion: &str) -> Self {
        let port = free_port();
        let config = format!(
            "options {{\n\
                 directory \"{}\"; pid-file none; lock-file none; session-keyfile none;\n\
                 listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
                 recursion {recursion}; notify no; allow-transfer {{ any; }}; dnssec-validation no;\n\
             }};\n\
             controls {{ }};\n{zones}",
            folder.display(),
        );
        let file = folder.join("named.conf");
        fs::write(&file, config).unwrap();
        let named = program("named");
        let arguments = ["-g", "-n", "1", "-c"].map(OsStr::new);
        let command = [folder.as_os_str(), named.as_os_str()].into_iter().chain(arguments).chain([file.as_os_str()]);
        let process = Lifeline::new(SCRIPT, command);
        let bind = Self { address: (Ipv4Addr::LOCALHOST, port).into(), folder, _process: process };
        let deadline = Instant::now() + WITHIN;
        while !ZONES.iter().all(|zone| bind.dig(zone, "SOA").is_some_and(|lines| !lines.is_empty())) {
            assert!(Instant::now() < deadline, "no answer after {WITHIN:?}; its last words:\n{}", bind.last_words());
            std::thread::sleep(ASK_AGAIN_AFTER);
        }
        bind
    }

    /// As `tsig-keygen` has printed it.
    pub fn key_file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The texts there, in order.
    pub fn texts(&self, owner: &str) -> Vec<String> {
        let mut lines = self.dig(owner, "TXT").expect("it answers");
        lines.iter_mut().for_each(|line| *line = line.trim_matches('"').to_string());
        lines.sort();
        lines
    }

    /// As `dig` reads it; `None` where there is no answer.
    pub fn dig(&self, owner: &str, kind: &str) -> Option<Vec<String>> {
        let port = self.address.port().to_string();
        let arguments = ["@127.0.0.1", "-p", &port, "+short", "+norecurse", "+time=2", "+tries=1", owner, kind];
        let output = Command::new("dig").args(arguments).output().expect(GET_BIND);
        let text = String::from_utf8(output.stdout).unwrap();
        let is_answer = output.status.success() && !text.starts_with(";;");
        is_answer.then(|| text.lines().map(str::to_string).collect())
    }

    /// By somebody else, with the lines of `nsupdate`.
    pub fn update(&self, zone: &str, lines: &str) {
        let script = self.nsupdate_script(zone, lines);
        let mut child = Command::new("nsupdate")
            .arg("-k")
            .arg(self.key_file(ALGORITHMS[0]))
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect(GET_BIND);
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "nsupdate: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn nsupdate_script(&self, zone: &str, lines: &str) -> String {
        format!("server 127.0.0.1 {}\nzone {zone}\n{lines}\nsend\n", self.address.port())
    }

    /// Says to a secondary that a zone has changed (RFC 1996).
    pub fn notify(&self, zone: &str) {
        // A number, the operation with the word of an authority, and one question: the zone's SOA.
        let mut message = vec![0xce, 0x47, 0x24, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in zone.split('.') {
            message.push(label.len().try_into().unwrap());
            message.extend(label.as_bytes());
        }
        message.extend([0, 0, 6, 0, 1]);
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(WITHIN)).unwrap();
        socket.send_to(&message, self.address).unwrap();
        socket.recv(&mut [0; 512]).expect("it says that it has heard it");
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// More than fits into a datagram.
fn many() -> String {
    (10..30).map(|n| format!("many TXT \"a text of some length, the number {n}\"\n")).collect()
}

fn folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(unique("bind"));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Makes a key, tells of its secret, and returns what it wrote to the file.
pub fn generate_key(file: &Path, name: &str, algorithm: &str) -> String {
    let output = Command::new(program("tsig-keygen")).args(["-a", algorithm, name]).output().expect(GET_BIND);
    let key = String::from_utf8(output.stdout).unwrap();
    let secret = key.split('"').nth(3).expect("it prints a key");
    secrets::told(Kind::Hmac, secret);
    fs::write(file, &key).unwrap();
    key
}

/// Debian keeps servers where only root looks for programs.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file()).expect(GET_BIND)
}
