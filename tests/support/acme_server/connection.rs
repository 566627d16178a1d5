//! Connections that can be cut: by TLS, or in the clear.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_rustls::TlsAcceptor;

pub struct Connections(UnboundedReceiver<Connection>);

pub struct Connection {
    stream: Pin<Box<dyn Duplex>>,
    cut: Cut,
}

pub trait Duplex: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// Held by whoever answers on the connection.
#[derive(Clone, Debug, Default)]
pub struct Cut(Arc<AtomicBool>);

impl Cut {
    /// Nothing is read or written from now on; whoever tries to closes it.
    pub fn cut(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn check(&self) -> Result<()> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(Error::from(ErrorKind::ConnectionReset)),
            false => Ok(()),
        }
    }
}

impl Connections {
    /// Handshakes beside one another, so that a client that does not finish its own keeps nobody from his.
    pub fn listen(listener: TcpListener, tls: Option<TlsAcceptor>) -> Self {
        let (arrived, connections) = unbounded_channel();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (arrived, tls) = (arrived.clone(), tls.clone());
                tokio::spawn(async move {
                    if let Some(stream) = handshake(client, tls).await {
                        let _ = arrived.send(Connection { stream, cut: Cut::default() });
                    }
                });
            }
        });
        Self(connections)
    }
}

async fn handshake(client: TcpStream, tls: Option<TlsAcceptor>) -> Option<Pin<Box<dyn Duplex>>> {
    let _ = client.set_nodelay(true);
    match tls {
        Some(tls) => Some(Box::pin(tls.accept(client).await.ok()?)),
        None => Some(Box::pin(client)),
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = Cut;

    async fn accept(&mut self) -> (Connection, Cut) {
        match self.0.recv().await {
            Some(connection) => {
                let cut = connection.cut.clone();
                (connection, cut)
            }
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> Result<Cut> {
        Ok(Cut::default())
    }
}

impl Connected<IncomingStream<'_, Connections>> for Cut {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        stream.remote_addr().clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        self.cut.check()?;
        self.stream.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.cut.check()?;
        self.stream.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.cut.check()?;
        self.stream.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.cut.check()?;
        self.stream.as_mut().poll_shutdown(context)
    }
}
