//! What a client may take: a seat among few, and only while it asks or reads what it asked for.

use std::future::{Future, Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready as ready_or_pending};
use std::time::{Duration, Instant};

use axum_server::accept::Accept;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::seats::{Bounds, Seat, Seats};

/// Scrapers and probes are few; this many more than that is somebody's mistake. A load balancer's probes come from one
/// address, and the agents of this host itself from loopback, where one that hangs must not shut out the others.
const BOUNDS: Bounds = Bounds { most: 568, share: 16, kept_for_loopback: 512 };

/// A client that takes nothing for so long while a page is written to it is gone.
const WRITE_STALL: Duration = Duration::from_secs(5);

/// So long in all a connection may wait for its client to take what is written. A page takes a second or two on a bad
/// line, and the next scrape comes by another connection.
const WRITE_WAIT: Duration = Duration::from_secs(10);

/// In bytes. The kernel keeps no more for a client that reads nothing, and there may be hundreds of them.
const SEND_BUFFER: usize = 64 * 1024;

/// Closes at once what finds no seat.
#[derive(Clone)]
pub struct Limited {
    seats: Seats,
}

impl Limited {
    pub fn new() -> Self {
        Self { seats: Seats::new(BOUNDS.within_limits()) }
    }
}

impl Default for Limited {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Accept<TcpStream, S> for Limited {
    type Stream = Guarded;
    type Service = S;
    type Future = Ready<io::Result<(Guarded, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        // Where it fails the kernel keeps a little more for this client.
        let _ = sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER);
        let seat = stream.peer_addr().map(|peer| self.seats.take(peer.ip(), Instant::now()));
        ready(match seat {
            Ok(Some(seat)) => Ok((Guarded { stream, stall: None, waited: Duration::ZERO, seat }, service)),
            Ok(None) => Err(io::Error::other("no seat is free for this address")),
            Err(error) => Err(error),
        })
    }
}

/// A connection that holds its seat, and ends when its client stops reading or has to leave for others.
pub struct Guarded {
    stream: TcpStream,
    /// Set while the client takes nothing.
    stall: Option<Stall>,
    /// For stalls that ended.
    waited: Duration,
    seat: Seat,
}

struct Stall {
    since: Instant,
    end: Pin<Box<Sleep>>,
}

impl Guarded {
    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waited += self.stall.take().map_or(Duration::ZERO, |stall| stall.since.elapsed());
            self.seat.is_served(false);
            return written;
        }
        self.seat.is_served(true);
        let longest = WRITE_STALL.min(WRITE_WAIT.saturating_sub(self.waited));
        let begin = || Stall { since: Instant::now(), end: Box::pin(sleep(longest)) };
        ready_or_pending!(self.stall.get_or_insert_with(begin).end.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.seat.poll_sent_away(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
