//! A proxy on loopback that spoils one answer, for whatever HTTP/1.1 server stands behind it.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The answer comes, later than anybody waits for it.
    Latency,
    /// The request gets nowhere, and the connection is closed.
    Refuse,
    /// The request is carried out, and the connection closed in place of an answer.
    Lose,
    /// The request gets nowhere, and nobody says so.
    BlackHole,
    /// The request is carried out; half of the answer comes, and then the end of it.
    HalfClose,
    /// The request is carried out, and its answer comes byte by byte.
    Drip,
    /// The request is carried out, and its body ends early, yet says that it is whole.
    Truncate,
    /// The request is carried out, and what comes is an answer to something else.
    Swap,
}

impl Fault {
    pub const ALL: [Self; 8] = [
        Self::Latency,
        Self::Refuse,
        Self::Lose,
        Self::BlackHole,
        Self::HalfClose,
        Self::Drip,
        Self::Truncate,
        Self::Swap,
    ];
}

/// Longer than the deadline of any test that uses it.
const LATER: Duration = Duration::from_secs(4);

/// Of another request, as any JSON server may give it.
const OTHER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 26\r\n\r\n{\"data\":{\"another\":\"one\"}}";

pub struct FaultProxy {
    /// `http://HOST:PORT`.
    pub address: String,
    met: Arc<AtomicBool>,
    tokens: Arc<Mutex<BTreeSet<String>>>,
}

/// What is done once to the first request that begins so, as in `POST /v1/pki`.
struct Rule {
    beginning: String,
    fault: Fault,
    met: Arc<AtomicBool>,
}

impl FaultProxy {
    pub fn new(upstream: &str, beginning: &str, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let met = Arc::new(AtomicBool::new(false));
        let rule = Arc::new(Mutex::new(Rule { beginning: beginning.to_string(), fault, met: met.clone() }));
        let upstream = upstream.trim_start_matches("http://").to_string();
        let tokens = Arc::new(Mutex::new(BTreeSet::new()));
        let heard = tokens.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (rule, upstream, heard) = (rule.clone(), upstream.clone(), heard.clone());
                // A connection that ends in the middle is the end of its thread and of nothing else.
                thread::spawn(move || drop(serve(client, &upstream, &rule, &heard)));
            }
        });
        Self { address, met, tokens }
    }

    /// One that spoils nothing.
    pub fn listening(upstream: &str) -> Self {
        Self::new(upstream, "no request begins so", Fault::Lose)
    }

    /// Every token of Vault that went by.
    pub fn tokens(&self) -> BTreeSet<String> {
        self.tokens.lock().unwrap().clone()
    }

    /// Whether the request came.
    pub fn was_met(&self) -> bool {
        self.met.load(Ordering::SeqCst)
    }
}

impl Rule {
    fn takes(&self, request: &[u8]) -> Option<Fault> {
        let is_meant = request.starts_with(self.beginning.as_bytes());
        (is_meant && !self.met.swap(true, Ordering::SeqCst)).then_some(self.fault)
    }
}

fn serve(
    mut client: TcpStream,
    upstream: &str,
    rule: &Mutex<Rule>,
    heard: &Mutex<BTreeSet<String>>,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream)?;
    loop {
        let request = message(&mut client)?;
        let head = String::from_utf8_lossy(&request[..head_of(&request)]).into_owned();
        let token = head.lines().find_map(|line| line.strip_prefix("x-vault-token: "));
        heard.lock().unwrap().extend(token.map(str::to_string));
        let fault = rule.lock().unwrap().takes(&request);
        match fault {
            Some(Fault::Refuse) => return Ok(()),
            Some(Fault::BlackHole) => {
                thread::sleep(LATER);
                return Ok(());
            }
            _ => {}
        }
        server.write_all(&request)?;
        let answer = message(&mut server)?;
        match fault {
            None | Some(Fault::Refuse | Fault::BlackHole) => client.write_all(&answer)?,
            Some(fault) => return spoil(&mut client, &answer, fault),
        }
    }
}

fn spoil(client: &mut TcpStream, answer: &[u8], fault: Fault) -> std::io::Result<()> {
    match fault {
        Fault::Latency => {
            thread::sleep(LATER);
            client.write_all(answer)
        }
        Fault::HalfClose => {
            client.write_all(&answer[..answer.len() / 2])?;
            client.shutdown(Shutdown::Write)?;
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
        Fault::Swap => client.write_all(OTHER),
        Fault::Lose | Fault::Refuse | Fault::BlackHole => Ok(()),
    }
}

/// One request or answer, head and body.
fn message(from: &mut TcpStream) -> std::io::Result<Vec<u8>> {
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
