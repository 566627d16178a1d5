//! Peers that misbehave: one that accepts and says nothing, and one that withholds what a Vault answers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use super::process::eventually;

/// Accepts, and keeps silent until it is told to hang up.
pub struct BlackHole {
    pub port: u16,
    held: Arc<Mutex<Vec<TcpStream>>>,
}

impl BlackHole {
    pub fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let held = Arc::new(Mutex::new(Vec::new()));
        let holding = held.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|peer| holding.lock().unwrap().push(peer)));
        Self { port, held }
    }

    pub fn has_somebody(&self) {
        eventually("somebody in the black hole", || {
            let held = self.held.lock().unwrap();
            if held.is_empty() { Err("nobody came".to_string()) } else { Ok(()) }
        });
    }

    pub fn hang_up(&self) {
        self.held.lock().unwrap().clear();
    }
}

/// Passes all on to a Vault, but a request to sign waits until it is let through.
pub struct Gate {
    /// `http://HOST:PORT`.
    pub address: String,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    open: bool,
    waiting: usize,
}

impl Gate {
    pub fn before(vault: &str) -> Self {
        let upstream = vault.strip_prefix("http://").unwrap().to_string();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(&upstream).unwrap();
                let (answers, back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let shared = shared.clone();
                std::thread::spawn(move || pass(client, server, |bytes| shared.wait_to_sign(bytes)));
                std::thread::spawn(move || pass(answers, back, |_| {}));
            }
        });
        Self { address, state }
    }

    pub fn has_somebody(&self) {
        eventually("a request to sign", || {
            if self.state.0.lock().unwrap().waiting == 0 { Err("none came".to_string()) } else { Ok(()) }
        });
    }

    pub fn open(&self) {
        self.state.0.lock().unwrap().open = true;
        self.state.1.notify_all();
    }
}

trait Waits {
    fn wait_to_sign(&self, request: &[u8]);
}

impl Waits for (Mutex<State>, Condvar) {
    fn wait_to_sign(&self, request: &[u8]) {
        if String::from_utf8_lossy(request).contains("/sign/") {
            let mut state = self.0.lock().unwrap();
            state.waiting += 1;
            let mut state = self.1.wait_while(state, |state| !state.open).unwrap();
            state.waiting -= 1;
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, before: impl Fn(&[u8])) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        before(&bytes[..length]);
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    // Whoever has hung up already knows.
    let _ = to.shutdown(Shutdown::Both);
}
