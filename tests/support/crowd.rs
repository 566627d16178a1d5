//! Slow clients: each sends a byte of a request now and then, and comes again when it is sent away.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Begins so many, all from one address, each of which says `head` at once and repeats its first byte from then on. They
/// end when the result is dropped.
pub async fn slow(target: SocketAddr, from: &str, count: usize, head: &'static [u8]) -> JoinSet<()> {
    may_open_many_files();
    let from = SocketAddr::new(from.parse().unwrap(), 0);
    let mut crowd = JoinSet::new();
    for _ in 0..count {
        crowd.spawn(async move {
            loop {
                if let Ok(mut stream) = connected(target, from).await {
                    let mut said = stream.write_all(head).await;
                    while said.is_ok() {
                        sleep(Duration::from_millis(200)).await;
                        said = stream.write_all(&head[..1]).await;
                    }
                }
                sleep(Duration::from_millis(50)).await;
            }
        });
    }
    // Each has come at least once.
    sleep(Duration::from_secs(1)).await;
    crowd
}

/// Both ends of each connection are in this process.
pub fn may_open_many_files() {
    let limits = getrlimit(Resource::Nofile);
    let wanted = limits.current.unwrap_or(u64::MAX).max(8192).min(limits.maximum.unwrap_or(u64::MAX));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limits }).unwrap();
}

async fn connected(target: SocketAddr, from: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(from)?;
    socket.connect(target).await
}
