//! What a client may take: a seat among few, and only while it asks or reads what it asked for.

use std::future::{Future, Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready as ready_or_pending};
use std::time::{Duration, Instant};

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::seats::{Bounds, Seat, Seats};

/// Scrapers and probes are few; this many more than that is somebody's mistake. A load balancer's probes come from one
/// address, and the agents of this host itself from loopback.
const BOUNDS: Bounds = Bounds { most: 64, share: 16, kept_for_loopback: 8 };

/// A client that takes nothing for so long while a page is written to it is gone.
const WRITE_STALL: Duration = Duration::from_secs(5);

/// Closes at once what finds no seat.
#[derive(Clone)]
pub struct Limited {
    seats: Seats,
}

impl Limited {
    pub fn new() -> Self {
        Self { seats: Seats::new(BOUNDS) }
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
        let seat = stream.peer_addr().map(|peer| self.seats.take(peer.ip(), Instant::now()));
        ready(match seat {
            Ok(Some(seat)) => Ok((Guarded { stream, stall: None, seat }, service)),
            Ok(None) => Err(io::Error::other("no seat is free for this address")),
            Err(error) => Err(error),
        })
    }
}

/// A connection that holds its seat, and ends when its client stops reading or has to leave for others.
pub struct Guarded {
    stream: TcpStream,
    /// Set while the client takes nothing.
    stall: Option<Pin<Box<Sleep>>>,
    seat: Seat,
}

impl Guarded {
    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            self.seat.is_served(false);
            return written;
        }
        self.seat.is_served(true);
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(WRITE_STALL)));
        ready_or_pending!(stall.as_mut().poll(cx));
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
