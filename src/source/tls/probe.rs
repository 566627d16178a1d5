//! One look at one endpoint: resolve, connect, shake hands, keep the certificates.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rustls::{AlertDescription, Error as TlsError, InvalidMessage, PeerIncompatible};
use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::capture::Capture;
use crate::domain::inventory::{Handshake, Obstacle, ObstacleKind};

/// So many addresses of a name are looked at, so that no name opens sockets without end. The others are told.
const MOST_ADDRESSES: usize = 64;

/// What one address of an endpoint presents.
pub(super) struct Presented {
    pub address: SocketAddr,
    pub served: Result<Served, Obstacle>,
    pub took: Duration,
    /// This host has no way to addresses of that family, which says nothing about the endpoint.
    is_out_of_reach: bool,
}

/// What a server showed of itself.
#[derive(Clone, Debug)]
pub(super) struct Served {
    /// In DER, in the order served, at least one.
    pub ders: Vec<Vec<u8>>,
    pub handshake: Handshake,
}

impl Served {
    /// Whether two addresses serve the same, in the same way.
    pub fn is_like(&self, other: &Self) -> bool {
        let how = |served: &Self| (served.handshake.key_not_proven.is_some(), served.handshake.broken_off.is_some());
        self.ders == other.ders && how(self) == how(other)
    }
}

/// At least one. `known` are addresses in place of those that the resolver gives.
pub(super) async fn probe(
    host: &str,
    port: u16,
    sni: Option<&str>,
    known: Option<&[IpAddr]>,
    timeout: Duration,
) -> Result<Vec<Presented>, Obstacle> {
    let deadline = Deadline { instant: Instant::now() + timeout, timeout };
    let addresses = match known {
        Some(known) => known.iter().map(|ip| SocketAddr::new(*ip, port)).collect(),
        None => resolve(host, port, &deadline).await?,
    };
    let name = sni.unwrap_or(host);
    if is_this_host(host) && known.is_none() {
        return first(&addresses, name, &deadline).await.map(|presented| vec![presented]);
    }
    let (looked_at, others) = addresses.split_at(addresses.len().min(MOST_ADDRESSES));
    let mut presented = join_all(looked_at.iter().map(|address| present(*address, name, &deadline))).await;
    if presented.iter().any(|one| !one.is_out_of_reach) {
        presented.retain(|one| !one.is_out_of_reach);
    }
    presented.extend(others.iter().map(|address| Presented::not_looked_at(*address, addresses.len())));
    Ok(presented)
}

impl Presented {
    fn not_looked_at(address: SocketAddr, all: usize) -> Self {
        let message = format!("not looked at: the name has {all} addresses, and certd looks at {MOST_ADDRESSES}");
        let served = Err(Obstacle::new(ObstacleKind::TooCostly, message));
        Self { address, served, took: Duration::ZERO, is_out_of_reach: false }
    }
}

/// Servers tend to listen on one of its two addresses only (RFC 6761, section 6.3).
fn is_this_host(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host == "localhost" || host.ends_with(".localhost")
}

/// The first address that answers, or the last that did not.
async fn first(addresses: &[SocketAddr], name: &str, deadline: &Deadline) -> Result<Presented, Obstacle> {
    let mut last = None;
    for address in addresses {
        let presented = present(*address, name, deadline).await;
        if presented.served.is_ok() {
            return Ok(presented);
        }
        last = Some(presented);
    }
    Ok(last.expect("resolve gives at least one address"))
}

async fn present(address: SocketAddr, name: &str, deadline: &Deadline) -> Presented {
    let started = Instant::now();
    let (served, is_out_of_reach) = match connect(address, deadline).await {
        Ok(tcp) => (shown(tcp, address, name, deadline).await, false),
        Err((obstacle, is_out_of_reach)) => (Err(obstacle), is_out_of_reach),
    };
    Presented { address, served, took: started.elapsed(), is_out_of_reach }
}

async fn shown(tcp: TcpStream, address: SocketAddr, name: &str, deadline: &Deadline) -> Result<Served, Obstacle> {
    let (capture, config) = Capture::config();
    let shaken = shake_hands(tcp, config, name, deadline).await;
    let ders = capture.served();
    match shaken {
        Ok(()) if ders.is_empty() => {
            Err(Obstacle::new(ObstacleKind::Tls, format!("the server at {address} served nothing")))
        }
        Err(failed) if ders.is_empty() => Err(failed.obstacle),
        shaken => {
            let failed = shaken.err();
            let ended = failed.as_ref().map(|failed| (&failed.obstacle, failed.by_server));
            Ok(Served { ders, handshake: capture.handshake(ended) })
        }
    }
}

/// How a handshake failed.
struct Failed {
    obstacle: Obstacle,
    /// By an alert or by closing the connection, as a server does that demands a certificate of its clients.
    by_server: bool,
}

impl From<Obstacle> for Failed {
    fn from(obstacle: Obstacle) -> Self {
        Self { obstacle, by_server: false }
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
}

async fn resolve(host: &str, port: u16, deadline: &Deadline) -> Result<Vec<SocketAddr>, Obstacle> {
    let found = match timeout_at(deadline.instant, lookup_host((host, port))).await {
        Ok(Ok(found)) => sorted(found),
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

/// Resolvers turn the order round at each answer.
fn sorted(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses: Vec<_> = found.collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// Else the obstacle, and whether it is of this host's own making.
async fn connect(address: SocketAddr, deadline: &Deadline) -> Result<TcpStream, (Obstacle, bool)> {
    match timeout_at(deadline.instant, TcpStream::connect(address)).await {
        Ok(Ok(tcp)) => Ok(tcp),
        Ok(Err(error)) => {
            let is_out_of_reach =
                matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable);
            let message = format!("could not connect to {address}: {error}");
            Err((Obstacle::new(ObstacleKind::Unreachable, message), is_out_of_reach))
        }
        Err(_) => Err((deadline.passed(&format!("connect to {address}")), false)),
    }
}

async fn shake_hands(
    tcp: TcpStream,
    config: rustls::ClientConfig,
    name: &str,
    deadline: &Deadline,
) -> Result<(), Failed> {
    let peer = tcp.peer_addr().map_or_else(|_| name.to_string(), |address| address.to_string());
    let name = server_name(name, tcp.peer_addr().map(|address| address.ip()))?;
    match timeout_at(deadline.instant, TlsConnector::from(Arc::new(config)).connect(name, tcp)).await {
        Ok(Ok(mut tls)) => {
            // A polite goodbye keeps the server's log quiet; nothing depends on it.
            let _ = timeout_at(deadline.instant, tls.shutdown()).await;
            Ok(())
        }
        Ok(Err(error)) => Err(Failed { obstacle: handshake_obstacle(&peer, &error), by_server: is_by_server(&error) }),
        Err(_) => Err(deadline.passed(&format!("finish the TLS handshake with {peer}")).into()),
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

fn is_by_server(error: &io::Error) -> bool {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(tls) => matches!(tls, TlsError::AlertReceived(_)),
        None => matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        ),
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
