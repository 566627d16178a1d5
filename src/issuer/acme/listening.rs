//! Where challenges are answered: a port that is open only while an answer is pending, and bounds on whoever asks there.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::sockets::{Lease, SocketError, sockets};
use crate::seats::{Bounds, Seats};

/// A CA asks within a second or two of the order, from a handful of places.
const DEADLINE: Duration = Duration::from_secs(10);

/// Several orders at a CA that asks from a handful of places come to some dozens from each. What is behind a
/// proxy of this host comes from loopback.
const BOUNDS: Bounds = Bounds { most: 384 + 512, share: 128, kept_for_loopback: 512 };

/// The kernel keeps so many more waiting, and they wait for a deadline at most.
const BACKLOG: i32 = 128;

/// What may have gathered at a socket of systemd while nothing was pending: the longest queue that Linux keeps.
const LONGEST_QUEUE: usize = 4096;

/// Without descriptors to spare, accepting fails until some connection ends.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Each must be free when it is needed.
    Addresses(Vec<SocketAddr>),
    /// What systemd listens at, by its FileDescriptorName.
    Socket(String),
}

#[derive(Debug, thiserror::Error)]
pub enum ChallengeError {
    #[error("could not listen on {address}: {}", what_to_do(source))]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("another order has {0} proved with another answer: wait until it has ended")]
    Busy(String),
    #[error("the token is not base64url text and could be a path, so it is not used: tell whoever runs the CA: {0}")]
    Token(String),
    #[error("could not {doing} {path}: set a webroot that is there and that certd may write in")]
    Webroot {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("a link or a file is in the way of challenges: make it a directory, or set another webroot: {0}")]
    NoDirectory(PathBuf),
    #[error("tls-alpn-01 proves DNS names without a wildcard and addresses: choose another challenge for {0}")]
    Name(String),
    #[error("could not make the certificate that proves {name}: choose another challenge for it")]
    Certificate {
        name: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn what_to_do(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "give certd CAP_NET_BIND_SERVICE, or a socket of systemd",
        io::ErrorKind::AddrInUse => "stop who listens there, or set another address",
        io::ErrorKind::AddrNotAvailable => "set an address that this host has",
        _ => "set another address",
    }
}

/// Serves one connection.
pub type Answering = Arc<dyn Fn(TcpStream) -> BoxFuture<'static, ()> + Send + Sync>;

/// Open from the first answer that is pending to the last. A place has one, which all issuers share: two would be in each
/// other's way.
pub struct Listening<A> {
    place: Place,
    pending: Arc<Pending<A>>,
    answering: Answering,
    seats: Seats,
    open: Mutex<Option<Open>>,
}

impl<A: Clone + PartialEq> Listening<A> {
    pub fn new(place: Place, pending: Arc<Pending<A>>, answering: Answering) -> Self {
        Self { place, pending, answering, seats: Seats::new(BOUNDS.within_limits()), open: Mutex::default() }
    }

    /// Must be called within a tokio runtime. Each success wants one [`Listening::withdraw`], a failure none.
    pub async fn present(&self, name: &str, answer: A) -> Result<(), ChallengeError> {
        let mut open = self.open.lock().await;
        if open.is_none() {
            *open = Some(self.start()?);
        }
        // It is refused only while another is pending, so that nothing was opened for it.
        self.pending.add(name, answer)
    }

    /// Whoever is being answered goes on being answered; the last to leave closes the port.
    pub async fn withdraw(&self, name: &str) {
        let mut open = self.open.lock().await;
        self.pending.remove(name);
        if self.pending.is_empty()
            && let Some(open) = open.take()
        {
            open.close().await;
        }
    }

    /// The real ones, also where port 0 was asked for; none while it is closed.
    pub async fn addresses(&self) -> Vec<SocketAddr> {
        self.open.lock().await.as_ref().map(|open| open.addresses.clone()).unwrap_or_default()
    }

    fn start(&self) -> Result<Open, ChallengeError> {
        let (listeners, lease) = match &self.place {
            Place::Addresses(addresses) => (bind_all(addresses)?, None),
            Place::Socket(name) => {
                let lease = sockets().take(name)?;
                let unfit = |source| SocketError::Unfit { name: name.clone(), source: Arc::new(source) };
                (adopt(&lease).map_err(unfit)?, Some(lease))
            }
        };
        let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let mut acceptors = JoinSet::new();
        for listener in listeners {
            acceptors.spawn(accept(listener, self.answering.clone(), self.seats.clone()));
        }
        Ok(Open { addresses, acceptors, _lease: lease })
    }
}

struct Open {
    addresses: Vec<SocketAddr>,
    /// They own the listeners.
    acceptors: JoinSet<()>,
    _lease: Option<Lease>,
}

impl Open {
    async fn close(mut self) {
        self.acceptors.shutdown().await;
    }
}

async fn accept(listener: TcpListener, answering: Answering, seats: Seats) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Some(seat) = seats.take(peer.ip(), Instant::now()) else {
                    debug!(%peer, "no seat is free for this address at the challenges");
                    continue;
                };
                let answered = timeout(DEADLINE, answering(stream));
                tokio::spawn(async move {
                    tokio::select! {
                        answered = answered => {
                            if answered.is_err() {
                                debug!(%peer, "a connection to the challenges took too long");
                            }
                        }
                        () = seat.sent_away() => debug!(%peer, "an idle connection to the challenges left for others"),
                    }
                });
            }
            Err(error) => {
                debug!(error = &error as &dyn std::error::Error, "could not accept a connection to the challenges");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Either all or none.
fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ChallengeError> {
    let has_twin = |address: &SocketAddr| {
        addresses.iter().any(|other| other.is_ipv4() && address.is_ipv6() && other.port() == address.port())
    };
    let bound = addresses.iter().map(|address| {
        let listener = bind_one(*address, has_twin(address));
        listener.map_err(|source| ChallengeError::Bind { address: *address, source })
    });
    bound.collect()
}

/// An IPv6 socket takes the IPv4 port of the same number too, unless it is told that there is another for that.
fn bind_one(address: SocketAddr, is_ipv6_only: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    // Else connections that have ended would keep the port for minutes.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if is_ipv6_only {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Whoever has waited at them came before there was anything to ask for, and is sent away.
fn adopt(lease: &Lease) -> io::Result<Vec<TcpListener>> {
    let adopted = lease.listeners().iter().map(|listener| {
        let waiting = std::iter::from_fn(|| listener.accept().ok());
        waiting.take(LONGEST_QUEUE).for_each(drop);
        TcpListener::from_std(listener.try_clone()?)
    });
    adopted.collect()
}

/// The answers that somebody may ask for now, each with how many orders wait for it.
pub struct Pending<A>(std::sync::Mutex<HashMap<String, (A, usize)>>);

impl<A> Default for Pending<A> {
    fn default() -> Self {
        Self(std::sync::Mutex::default())
    }
}

impl<A: Clone + PartialEq> Pending<A> {
    pub fn find(&self, name: &str) -> Option<A> {
        self.all().get(name).map(|(answer, _)| answer.clone())
    }

    fn add(&self, name: &str, answer: A) -> Result<(), ChallengeError> {
        let mut all = self.all();
        match all.get_mut(name) {
            Some((present, orders)) if *present == answer => *orders += 1,
            Some(_) => return Err(ChallengeError::Busy(name.to_string())),
            None => drop(all.insert(name.to_string(), (answer, 1))),
        }
        Ok(())
    }

    fn remove(&self, name: &str) {
        let mut all = self.all();
        match all.get_mut(name) {
            Some((_, orders)) if *orders > 1 => *orders -= 1,
            Some(_) | None => drop(all.remove(name)),
        }
    }

    fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, (A, usize)>> {
        self.0.lock().expect("nothing panics with it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_pending_until_the_last_order_that_waits_for_it_has_left() {
        let pending = Pending::default();
        pending.add("a", 1).unwrap();
        pending.add("a", 1).unwrap();
        pending.add("b", 2).unwrap();

        pending.remove("a");
        pending.remove("b");
        assert_eq!((pending.find("a"), pending.find("b"), pending.is_empty()), (Some(1), None, false));

        pending.remove("a");
        pending.remove("a");
        assert_eq!((pending.find("a"), pending.is_empty()), (None, true));
    }

    #[test]
    fn two_answers_for_one_name_cannot_both_be_given() {
        let pending = Pending::default();
        pending.add("a", 1).unwrap();
        assert_eq!(
            pending.add("a", 2).unwrap_err().to_string(),
            "another order has a proved with another answer: wait until it has ended"
        );
        assert_eq!(pending.find("a"), Some(1));
    }

    #[test]
    fn each_obstacle_to_a_port_has_its_hint() {
        let said = |kind: io::ErrorKind| {
            let error = ChallengeError::Bind { address: "0.0.0.0:80".parse().unwrap(), source: kind.into() };
            error.to_string()
        };
        assert_eq!(
            said(io::ErrorKind::PermissionDenied),
            "could not listen on 0.0.0.0:80: give certd CAP_NET_BIND_SERVICE, or a socket of systemd"
        );
        assert_eq!(
            said(io::ErrorKind::AddrInUse),
            "could not listen on 0.0.0.0:80: stop who listens there, or set another address"
        );
        assert_eq!(
            said(io::ErrorKind::AddrNotAvailable),
            "could not listen on 0.0.0.0:80: set an address that this host has"
        );
        assert_eq!(said(io::ErrorKind::Other), "could not listen on 0.0.0.0:80: set another address");
    }
}
