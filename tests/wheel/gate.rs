//! A way to Vault that can be closed at one request, so that a story can stand in the middle of a renewal.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const REACHED_WITHIN: Duration = Duration::from_secs(20);

pub struct Gate {
    /// `http://HOST:PORT`.
    pub address: String,
    reached: Receiver<()>,
    open: Sender<()>,
    shut: Arc<AtomicBool>,
}

struct Closing {
    /// Beginnings of requests that must come in this order; the last one is held.
    steps: Vec<String>,
    reached: Sender<()>,
    opened: Receiver<()>,
}

impl Gate {
    /// Holds the request that begins as the last of `steps` does, once the others were seen.
    pub fn before(upstream: &str, steps: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let ((reached, when_reached), (open, opened)) = (channel(), channel());
        let steps = steps.iter().map(ToString::to_string).collect();
        let closing = Arc::new(Mutex::new(Closing { steps, reached, opened }));
        let upstream = upstream.trim_start_matches("http://").to_string();
        let shut = Arc::new(AtomicBool::new(false));
        let is_shut = shut.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if is_shut.load(Ordering::SeqCst) {
                    continue;
                }
                let server = TcpStream::connect(&upstream).unwrap();
                let (back, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || pump(back, to_client, |_| true));
                let closing = closing.clone();
                thread::spawn(move || pump(client, server, |asked| closing.lock().unwrap().pass(asked)));
            }
        });
        Self { address, reached: when_reached, open, shut }
    }

    /// Returns when the request stands at the gate.
    pub fn wait(&self) {
        self.reached.recv_timeout(REACHED_WITHIN).expect("the request comes");
    }

    /// Lets it through, and everything after it.
    pub fn open(&self) {
        self.open.send(()).unwrap();
    }

    /// What stands at the gate never gets through, and nothing after it.
    pub fn shut(self) {
        self.shut.store(true, Ordering::SeqCst);
    }
}

impl Closing {
    /// Whether it goes on to Vault.
    fn pass(&mut self, asked: &[u8]) -> bool {
        if !self.steps.first().is_some_and(|step| asked.starts_with(step.as_bytes())) {
            return true;
        }
        self.steps.remove(0);
        if !self.steps.is_empty() {
            return true;
        }
        // Nobody may be waiting for it, and nobody may be left who could open.
        let _ = self.reached.send(());
        self.opened.recv().is_ok()
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, goes_on: impl Fn(&[u8]) -> bool) {
    let mut bytes = vec![0; 65_536];
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        if !goes_on(&bytes[..n]) || to.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
    for end in [from, to] {
        // It may be closed already.
        let _ = end.shutdown(Shutdown::Both);
    }
}
