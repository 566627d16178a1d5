//! Slow clients: each sends a byte of a request now and then, and comes again when it is sent away.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Begins so many, all from one address. They end when the result is dropped.
pub async fn slow(target: SocketAddr, from: &str, count: usize) -> JoinSet<()> {
    let from = SocketAddr::new(from.parse().unwrap(), 0);
    let mut crowd = JoinSet::new();
    for _ in 0..count {
        crowd.spawn(async move {
            loop {
                if let Ok(mut stream) = connected(target, from).await {
                    while stream.write_all(b"G").await.is_ok() {
                        sleep(Duration::from_millis(200)).await;
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

async fn connected(target: SocketAddr, from: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(from)?;
    socket.connect(target).await
}
