//! A way to Vault that can be closed at one request, so that a story can stand in the middle of a renewal.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const REACHED_WITHIN: Duration = Duration::from_secs(20);

pub struct Gate {
    /// `http://HOST:PORT`.
    pub address: String,
    reached: Receiver<()>,
    open: Option<Sender<()>>,
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
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(&upstream).unwrap();
                let (back, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || pump(back, to_client, |_| ()));
                let closing = closing.clone();
                thread::spawn(move || pump(client, server, |asked| closing.lock().unwrap().pass(asked)));
            }
        });
        Self { address, reached: when_reached, open: Some(open) }
    }

    /// Returns when the request stands at the gate.
    pub fn wait(&self) {
        self.reached.recv_timeout(REACHED_WITHIN).expect("the request comes");
    }

    /// Lets it through, and everything after it.
    pub fn open(&mut self) {
        self.open = None;
    }
}

impl Closing {
    fn pass(&mut self, asked: &[u8]) {
        if !self.steps.first().is_some_and(|step| asked.starts_with(step.as_bytes())) {
            return;
        }
        self.steps.remove(0);
        if self.steps.is_empty() {
            // Nobody may be waiting, and whoever could open it may be gone, which opens it.
            let _ = self.reached.send(());
            let _ = self.opened.recv();
        }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, before: impl Fn(&[u8])) {
    let mut bytes = vec![0; 65_536];
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        before(&bytes[..n]);
        if to.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
