//! One look at one endpoint: resolve, connect, shake hands, keep the certificates.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::{AlertDescription, Error as TlsError, InvalidMessage, PeerIncompatible};
use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::capture::Capture;
use crate::domain::inventory::{Obstacle, ObstacleKind};

/// A name with more addresses than this is tried no further: the rest would get no time anyway.
const MOST_ADDRESSES: usize = 8;

/// The certificates in DER, in the order served, at least one.
pub(super) async fn probe(
    host: &str,
    port: u16,
    sni: Option<&str>,
    timeout: Duration,
) -> Result<Vec<Vec<u8>>, Obstacle> {
    let deadline = Deadline { instant: Instant::now() + timeout, timeout };
    let addresses = resolve(host, port, &deadline).await?;
    let tcp = connect(&addresses, &deadline).await?;
    let (capture, config) = Capture::config();
    let shaken = shake_hands(tcp, config, sni.unwrap_or(host), &deadline).await;
    let served = capture.served();
    match shaken {
        // A server that demands a client certificate ends the handshake after it has shown its own.
        _ if !served.is_empty() => Ok(served),
        Err(obstacle) => Err(obstacle),
        Ok(()) => Err(Obstacle::new(ObstacleKind::Tls, format!("the server at port {port} of {host} served nothing"))),
    }
}

struct Deadline {
    instant: Instant,
    timeout: Duration,
}

impl Deadline {
    fn passed(&self, doing: &str) -> Obstacle {
        let waited = self.timeout.as_secs_f32();
        let message = format!("could not {doing} within {waited} s: see whether a firewall drops it, or wait longer");
        Obstacle::new(ObstacleKind::Timeout, message)
    }

    /// An equal part of the time left, so that one dead address leaves time for the next.
    fn share(&self, among: usize) -> Instant {
        let now = Instant::now();
        let left = self.instant.saturating_duration_since(now);
        now + left / u32::try_from(among).unwrap_or(u32::MAX).max(1)
    }
}

async fn resolve(host: &str, port: u16, deadline: &Deadline) -> Result<Vec<SocketAddr>, Obstacle> {
    let found = match timeout_at(deadline.instant, lookup_host((host, port))).await {
        Ok(Ok(found)) => found.take(MOST_ADDRESSES).collect::<Vec<_>>(),
        Ok(Err(error)) => {
            return Err(Obstacle::new(ObstacleKind::Dns, format!("could not resolve {host}: {error}")));
        }
        Err(_) => return Err(deadline.passed(&format!("resolve {host}"))),
    };
    match found.is_empty() {
        true => Err(Obstacle::new(ObstacleKind::Dns, format!("could not resolve {host}: it has no address"))),
        false => Ok(found),
    }
}

async fn connect(addresses: &[SocketAddr], deadline: &Deadline) -> Result<TcpStream, Obstacle> {
    let mut last = None;
    for (i, address) in addresses.iter().enumerate() {
        let obstacle = match timeout_at(deadline.share(addresses.len() - i), TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => {
                Obstacle::new(ObstacleKind::Unreachable, format!("could not connect to {address}: {error}"))
            }
            Err(_) => deadline.passed(&format!("connect to {address}")),
        };
        last = Some(obstacle);
    }
    Err(last.expect("resolve gives at least one address"))
}

async fn shake_hands(
    tcp: TcpStream,
    config: rustls::ClientConfig,
    name: &str,
    deadline: &Deadline,
) -> Result<(), Obstacle> {
    let peer = tcp.peer_addr().map_or_else(|_| name.to_string(), |address| address.to_string());
    let name = server_name(name, tcp.peer_addr().map(|address| address.ip()))?;
    match timeout_at(deadline.instant, TlsConnector::from(Arc::new(config)).connect(name, tcp)).await {
        Ok(Ok(mut tls)) => {
            // A polite goodbye keeps the server's log quiet; nothing depends on it.
            let _ = timeout_at(deadline.instant, tls.shutdown()).await;
            Ok(())
        }
        Ok(Err(error)) => Err(handshake_obstacle(&peer, &error)),
        Err(_) => Err(deadline.passed(&format!("finish the TLS handshake with {peer}"))),
    }
}

/// No server name is sent for an address (RFC 6066, section 3), nor for one with a zone.
fn server_name(name: &str, peer: io::Result<IpAddr>) -> Result<ServerName<'static>, Obstacle> {
    if let Ok(name) = ServerName::try_from(name.trim_end_matches('.').to_string()) {
        return Ok(name);
    }
    match peer {
        Ok(ip) => Ok(ServerName::from(ip)),
        Err(error) => Err(Obstacle::new(ObstacleKind::Unreachable, format!("the connection is gone: {error}"))),
    }
}

fn handshake_obstacle(peer: &str, error: &io::Error) -> Obstacle {
    let doing = "could not shake hands with";
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(tls) => Obstacle::new(ObstacleKind::Tls, format!("{doing} {peer}: {tls}{}", hint(tls))),
        None if error.kind() == io::ErrorKind::UnexpectedEof => Obstacle::new(
            ObstacleKind::Tls,
            format!("{doing} {peer}: the server closed the connection ({OLD_SERVER}, or wants another name: try sni=)"),
        ),
        None => Obstacle::new(ObstacleKind::Unreachable, format!("{doing} {peer}: {error}")),
    }
}

const OLD_SERVER: &str = "it may only speak TLS 1.1 or older";

/// What to make of it.
fn hint(error: &TlsError) -> String {
    match error {
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            " (it does not speak TLS on this port, or only after a command such as STARTTLS)".to_string()
        }
        TlsError::AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure)
        | TlsError::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => format!(" ({OLD_SERVER}, or only ciphers without forward secrecy)"),
        TlsError::AlertReceived(AlertDescription::UnrecognisedName) => {
            " (it does not know this name: say which with sni=)".to_string()
        }
        _ => String::new(),
    }
}
