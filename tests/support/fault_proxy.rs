//! A proxy on loopback that spoils some answers, for whatever HTTP/1.1 server stands behind it.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::loopback::Identity;
use super::secrets::{self, Kind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The answer comes, later than anybody waits for it.
    Latency,
    /// The request gets nowhere, and the connection is closed.
    Refuse,
    /// The request is carried out, and the connection closed in place of an answer.
    Lose,
    /// The request is carried out, and the connection reset (RST) in place of an answer.
    Reset,
    /// The request gets nowhere, and nobody says so.
    BlackHole,
    /// The request is carried out; half of the answer comes, and then the end of it.
    HalfClose,
    /// The request is carried out, and its answer comes byte by byte.
    Drip,
    /// The request is carried out, and its body ends early, yet says that it is whole.
    Truncate,
    /// The request is carried out, and what comes is the answer to another request of before.
    Swap,
}

impl Fault {
    pub const ALL: [Self; 9] = [
        Self::Latency,
        Self::Refuse,
        Self::Lose,
        Self::Reset,
        Self::BlackHole,
        Self::HalfClose,
        Self::Drip,
        Self::Truncate,
        Self::Swap,
    ];
}

/// Longer than the deadline of any test that uses it.
const LATER: Duration = Duration::from_secs(4);

/// Where there was none before: as any JSON server may give it.
const OTHER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 26\r\n\r\n{\"data\":{\"another\":\"one\"}}";

pub struct FaultProxy {
    /// `http://HOST:PORT`, or `https`.
    pub address: String,
    seen: Arc<Mutex<Seen>>,
}

/// Which requests are meant: those that begin so, as in `POST /v1/pki`, and of them the nth, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    pub beginning: String,
    pub nth: usize,
}

#[derive(Default)]
struct Seen {
    rules: Vec<(Spot, Fault)>,
    /// Of the rules above, how often each was met.
    met: Vec<usize>,
    /// The first line of each request, without the version of HTTP.
    requests: Vec<String>,
    /// Each answer that was given, and to what.
    answers: Vec<(String, Vec<u8>)>,
    tokens: BTreeSet<String>,
}

impl FaultProxy {
    pub fn new(upstream: &str, rules: Vec<(Spot, Fault)>) -> Self {
        Self::before(upstream, rules, None)
    }

    /// One that speaks TLS, as this, before a server that does not.
    pub fn secured(upstream: &str, rules: Vec<(Spot, Fault)>, identity: &Identity) -> Self {
        Self::before(upstream, rules, Some(identity.acceptor().config().clone()))
    }

    fn before(upstream: &str, rules: Vec<(Spot, Fault)>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", listener.local_addr().unwrap());
        let met = vec![0; rules.len()];
        let seen = Arc::new(Mutex::new(Seen { rules, met, ..Seen::default() }));
        let upstream = upstream.trim_start_matches("http://").to_string();
        let shared = seen.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (upstream, seen, tls) = (upstream.clone(), shared.clone(), tls.clone());
                // A connection that ends in the middle is the end of its thread and of nothing else.
                thread::spawn(move || drop(serve(Client::new(client, tls), &upstream, &seen)));
            }
        });
        Self { address, seen }
    }

    /// One that spoils nothing.
    pub fn listening(upstream: &str) -> Self {
        Self::new(upstream, Vec::new())
    }

    /// Every token of Vault that went by.
    pub fn tokens(&self) -> BTreeSet<String> {
        self.seen.lock().unwrap().tokens.clone()
    }

    /// Method and path of every request that came, in their order.
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().requests.clone()
    }

    /// Whether everything was spoilt that was to be, once.
    pub fn was_met(&self) -> bool {
        self.seen.lock().unwrap().met.iter().all(|times| *times == 1)
    }
}

impl Seen {
    fn hear(&mut self, line: &str, token: Option<&str>) -> Option<Fault> {
        self.tokens.extend(token.map(|token| secrets::told(Kind::LoginToken, token.to_string())));
        self.requests.push(line.to_string());
        let mut found = None;
        for (nth, (spot, fault)) in self.rules.iter().enumerate() {
            let count = self.requests.iter().filter(|request| request.starts_with(&spot.beginning)).count();
            if line.starts_with(&spot.beginning) && count == spot.nth {
                self.met[nth] += 1;
                found = Some(*fault);
            }
        }
        found
    }

    /// The newest answer to something else.
    fn another(&self, line: &str) -> Vec<u8> {
        let other = self.answers.iter().rev().find(|(request, _)| request != line);
        other.map_or(OTHER.to_vec(), |(_, answer)| answer.clone())
    }
}

/// Whoever is connected, in the clear or not.
enum Client {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Client {
    fn new(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> Self {
        match tls {
            None => Self::Plain(stream),
            Some(config) => Self::Tls(Box::new(StreamOwned::new(ServerConnection::new(config).unwrap(), stream))),
        }
    }

    fn wire(self) -> TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.sock,
        }
    }

    fn shut_down(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(stream) => stream.shutdown(Shutdown::Write),
            Self::Tls(stream) => stream.sock.shutdown(Shutdown::Write),
        }
    }
}

impl Read for Client {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes).and_then(|written| stream.flush().map(|()| written)),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

fn serve(mut client: Client, upstream: &str, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream)?;
    loop {
        let request = message(&mut client, is_whole)?;
        let head = String::from_utf8_lossy(&request[..head_of(&request)]).into_owned();
        let token = head.lines().find_map(|line| line.strip_prefix("x-vault-token: "));
        let line = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1");
        let fault = seen.lock().unwrap().hear(line, token);
        match fault {
            Some(Fault::Refuse) => return Ok(()),
            Some(Fault::BlackHole) => {
                thread::sleep(LATER);
                return Ok(());
            }
            _ => {}
        }
        server.write_all(&request)?;
        // It may have the length of what it leaves out (RFC 9110, section 9.3.2).
        let is_answered = if line.starts_with("HEAD ") { |bytes: &[u8]| head_of(bytes) > 0 } else { is_whole };
        let answer = message(&mut server, is_answered)?;
        let other = seen.lock().unwrap().another(line);
        seen.lock().unwrap().answers.push((line.to_string(), answer.clone()));
        match fault {
            None | Some(Fault::Refuse | Fault::BlackHole) => client.write_all(&answer)?,
            Some(Fault::Reset) => return reset(client),
            Some(Fault::Swap) => return client.write_all(&other),
            Some(fault) => return spoil(&mut client, &answer, fault),
        }
    }
}

/// What is closed without lingering is not ended but reset.
fn reset(client: Client) -> std::io::Result<()> {
    tokio::net::TcpSocket::from_std_stream(client.wire()).set_zero_linger()
}

fn spoil(client: &mut Client, answer: &[u8], fault: Fault) -> std::io::Result<()> {
    match fault {
        Fault::Latency => {
            thread::sleep(LATER);
            client.write_all(answer)
        }
        Fault::HalfClose => {
            client.write_all(&answer[..answer.len() / 2])?;
            client.shut_down()?;
            thread::sleep(LATER);
            Ok(())
        }
        Fault::Drip => answer.iter().try_for_each(|byte| {
            thread::sleep(Duration::from_millis(50));
            client.write_all(&[*byte])
        }),
        Fault::Truncate => {
            let head = head_of(answer);
            let body = &answer[head..];
            let kept = &body[..body.len() / 2];
            let text = String::from_utf8_lossy(&answer[..head]).into_owned();
            let text: Vec<&str> = text.lines().filter(|line| !is_length(line) && !line.is_empty()).collect();
            client.write_all(format!("{}\r\nContent-Length: {}\r\n\r\n", text.join("\r\n"), kept.len()).as_bytes())?;
            client.write_all(kept)
        }
        Fault::Lose | Fault::Reset | Fault::Refuse | Fault::BlackHole | Fault::Swap => Ok(()),
    }
}

/// One request or answer, head and body.
fn message(from: &mut impl Read, is_whole: fn(&[u8]) -> bool) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 65_536];
    loop {
        if is_whole(&bytes) {
            return Ok(bytes);
        }
        match from.read(&mut chunk)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => bytes.extend_from_slice(&chunk[..n]),
        }
    }
}

fn head_of(bytes: &[u8]) -> usize {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4)
}

fn is_length(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    line.starts_with("content-length:") || line.starts_with("transfer-encoding:")
}

fn is_whole(bytes: &[u8]) -> bool {
    let head = head_of(bytes);
    if head == 0 {
        return false;
    }
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    match length {
        Some(length) => bytes.len() >= head + length,
        None if text.contains("transfer-encoding: chunked") => bytes.ends_with(b"0\r\n\r\n"),
        None => true,
    }
}
