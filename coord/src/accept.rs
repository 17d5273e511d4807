//! The grid port: accepts connections, waits for their first bytes, and hands
//! them to [`crate::link`] or [`crate::grpc`]. What says nothing, or nothing
//! that we understand, is dropped and counted.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hg_proto::limits::HELLO_MS_MAX;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::bounds::{FDS_RESERVED, SILENT_MAX};
use crate::crowd::Crowd;
use crate::dispatch::Hub;
use crate::{link, log};

/// The first bytes of an HTTP/2 connection (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Milliseconds to wait when there are no file descriptors left.
const EXHAUSTED_MS: u64 = 20;
/// Milliseconds in which a connection that must go has gone.
const LEAVING_MS_MAX: u64 = 50;

/// An HTTP/2 connection whose preface was read already.
pub struct GridStream {
    first: &'static [u8],
    stream: TcpStream,
    _room: OwnedSemaphorePermit,
}

/// Accepts until dropped.
pub struct Door {
    hub: Arc<Hub>,
    silent: Arc<Crowd>,
    /// Connections of any kind.
    room: Arc<Semaphore>,
    grpc: mpsc::Sender<io::Result<GridStream>>,
}

impl Door {
    /// `fds` is how many file descriptors the process may have.
    pub fn new(hub: Arc<Hub>, fds: u64, grpc: mpsc::Sender<io::Result<GridStream>>) -> Arc<Self> {
        let connections = usize::try_from(fds.saturating_sub(FDS_RESERVED)).unwrap_or(usize::MAX);
        let connections = connections.clamp(16, Semaphore::MAX_PERMITS);
        Arc::new(Door {
            hub,
            silent: Crowd::new((connections / 4).min(SILENT_MAX)),
            room: Arc::new(Semaphore::new(connections)),
            grpc,
        })
    }

    /// Accepts for ever.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.admit(stream, peer).await,
                Err(error) => {
                    self.hub.metrics.drop_connection("accept_failed");
                    log::debug(format_args!("accept: {error}"));
                    // Most likely no file descriptor: make room, and let those
                    // who close give theirs back.
                    self.silent.evict();
                    tokio::time::sleep(Duration::from_millis(EXHAUSTED_MS)).await;
                }
            }
        }
    }

    async fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let Some(room) = self.room().await else {
            return self.drop_it(peer, "too_many_connections");
        };
        // Without it only latency suffers.
        let _ = stream.set_nodelay(true);
        let door = self.clone();
        tokio::spawn(async move { door.sort(stream, peer, room).await });
    }

    /// Room for one more, if need be that of one which says nothing.
    async fn room(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(room) = self.room.clone().try_acquire_owned() {
            return Some(room);
        }
        self.silent.evict();
        let leaving = Duration::from_millis(LEAVING_MS_MAX);
        let room = tokio::time::timeout(leaving, self.room.clone().acquire_owned());
        room.await.ok()?.ok()
    }

    /// Reads the first bytes and hands the connection on.
    async fn sort(&self, mut stream: TcpStream, peer: SocketAddr, room: OwnedSemaphorePermit) {
        let mut member = self.silent.enter();
        let deadline = Instant::now() + Duration::from_millis(u64::from(HELLO_MS_MAX));
        let mut first = [0; PREFACE.len()];
        let mut len = 0;
        while len < PREFACE.len() {
            let read = tokio::select! {
                read = stream.read(&mut first[len..]) => read,
                () = tokio::time::sleep_until(deadline) => return self.drop_it(peer, "silent"),
                () = member.evicted() => return self.drop_it(peer, "crowded"),
            };
            match read {
                Ok(read) if read > 0 => len += read,
                _ => return self.drop_it(peer, "closed_before_hello"),
            }
            // No frame of a worker is so long that its first byte is not zero.
            if first[0] == 0 {
                let hub = self.hub.clone();
                return link::serve(stream, &first[..len], peer, hub, member, deadline).await;
            }
            if !PREFACE.starts_with(&first[..len]) {
                return self.drop_it(peer, "unknown_protocol");
            }
        }
        drop(member);
        let stream = GridStream {
            first: PREFACE,
            stream,
            _room: room,
        };
        // The server is gone only when the process ends.
        let _ = self.grpc.send(Ok(stream)).await;
    }

    fn drop_it(&self, peer: SocketAddr, reason: &str) {
        self.hub.metrics.drop_connection(reason);
        log::debug(format_args!("dropped {peer}: {reason}"));
    }
}

impl Connected for GridStream {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for GridStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let (now, later) = self
            .first
            .split_at(self.first.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.first = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GridStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
