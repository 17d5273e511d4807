//! The grid port: accepts connections, shakes hands (TLS, ALPN) or, without TLS,
//! waits for their first bytes, and hands them to [`crate::serve::worker_link`] or
//! [`crate::serve::grpc`]. What says nothing, or nothing that we understand, is dropped
//! and counted.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hg_proto::secure::tls::{ALPN_GRPC, ALPN_WORKER};
use hg_proto::wire::limits::HELLO_MS_MAX;
use nix::errno::Errno;
use socket2::SockRef;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::bounds::{FDS_RESERVED, SILENT_MAX};
use crate::dispatch::hub::Hub;
use crate::door::crowd::{Crowd, Member};
use crate::door::http2_frames::{FrameWatch, PREFACE, Reason};
use crate::log;
use crate::serve::worker_link;
use crate::serve::worker_link::Dialler;
use crate::trust::auth::Holder;
use crate::trust::doorkeeper::{Doorkeeper, certified};

/// Milliseconds to wait when there are no file descriptors left.
const EXHAUSTED_MS: u64 = 20;
/// Connections that are accepted between two looks at other work.
const BATCH_MAX: usize = 256;
/// Milliseconds until the next ones are, when some were turned away.
const BATCH_MS: u64 = 1;
/// Milliseconds in which a connection that must go has gone.
const LEAVING_MS_MAX: u64 = 50;

/// The first byte of a TLS handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// The other end of an HTTP/2 connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The address that it dials from.
    pub address: SocketAddr,
    /// Its holder, as its certificate says.
    pub certified: Option<Holder>,
    /// It made a request with a good token.
    pub is_known: Arc<AtomicBool>,
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
struct Origin {
    peer: SocketAddr,
    /// The connection had to wait, since its address came too fast.
    waited: bool,
}

/// An accepted connection before its handshake.
struct Incoming {
    stream: TcpStream,
    origin: Origin,
    room: OwnedSemaphorePermit,
    member: Member,
    deadline: Instant,
}

enum Wire {
    /// Plaintext, of which this part was read already.
    Plain(&'static [u8], TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// An HTTP/2 connection.
pub struct GridStream {
    wire: Wire,
    peer: Peer,
    hub: Arc<Hub>,
    watch: FrameWatch,
    is_counted: bool,
    permit: ConnectionPermit,
}

/// A connection's share of what is bounded, given back when dropped.
struct ConnectionPermit {
    _room: OwnedSemaphorePermit,
    /// Its place among those that have not shown a good token yet.
    member: Option<Member>,
}

impl ConnectionPermit {
    fn new(room: OwnedSemaphorePermit, member: Member) -> Self {
        ConnectionPermit {
            _room: room,
            member: Some(member),
        }
    }
}

/// Accepts the connections of the grid port.
pub struct Door {
    hub: Arc<Hub>,
    silent: Arc<Crowd>,
    /// Permits of connections of any kind.
    room: Arc<Semaphore>,
    grpc: mpsc::Sender<io::Result<GridStream>>,
    keeper: Arc<Doorkeeper>,
    /// `None`: plaintext.
    tls: Option<TlsAcceptor>,
}

impl Door {
    /// `fds` is how many file descriptors the process may have.
    pub fn new(
        hub: Arc<Hub>,
        fds: u64,
        grpc: mpsc::Sender<io::Result<GridStream>>,
        keeper: Arc<Doorkeeper>,
        tls: Option<TlsAcceptor>,
    ) -> Arc<Self> {
        let connections = usize::try_from(fds.saturating_sub(FDS_RESERVED)).unwrap_or(usize::MAX);
        let connections = connections.clamp(16, Semaphore::MAX_PERMITS);
        Arc::new(Door {
            hub,
            silent: Crowd::new((connections / 4).min(SILENT_MAX)),
            room: Arc::new(Semaphore::new(connections)),
            grpc,
            keeper,
            tls,
        })
    }

    /// Accepts for ever.
    ///
    /// # Errors
    /// The runtime can't wait for the listener.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        // The runtime's own accept would hear of each connection first.
        let listener = listener.into_std()?;
        // SAFETY: a listener has one descriptor, and keeps it until it is dropped.
        let listener = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) }?;
        loop {
            let mut ready = listener.readable().await?;
            let mut turned_away = false;
            for _ in 0..BATCH_MAX {
                match ready.try_io(|listener| listener.get_ref().accept()) {
                    Ok(Ok((stream, peer))) => turned_away |= !self.admit(stream, peer).await,
                    Ok(Err(error)) => {
                        self.hub.metrics.drop_connection("accept_failed");
                        log::debug(format_args!("accept: {error}"));
                        if is_exhausted(&error) {
                            // Make room, and let those who close give theirs back.
                            self.silent.evict();
                            tokio::time::sleep(Duration::from_millis(EXHAUSTED_MS)).await;
                        }
                    }
                    Err(_) => break,
                }
            }
            // To wake up for each of them costs as much as to turn it away.
            match turned_away {
                true => tokio::time::sleep(Duration::from_millis(BATCH_MS)).await,
                false => tokio::task::yield_now().await,
            }
        }
    }

    /// Turns those away who are not to be looked at, before the runtime hears of them;
    /// false: this one is.
    async fn admit(self: &Arc<Self>, stream: std::net::TcpStream, peer: SocketAddr) -> bool {
        // Who comes by IPv4 to a listener for both is known by that.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let wait_ms = match self.hub.greet_after(peer.ip()) {
            Ok(wait_ms) => wait_ms,
            Err(reason) => {
                // Gone at once, instead of waiting for the other end to close too.
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                let waited = false;
                self.drop_it(Origin { peer, waited }, reason);
                return false;
            }
        };
        let origin = Origin {
            peer,
            waited: wait_ms > 0,
        };
        match registered(stream) {
            Ok(stream) => self.enter(stream, origin, wait_ms).await,
            Err(error) => {
                self.hub.metrics.drop_connection("accept_failed");
                log::debug(format_args!("{peer}: {error}"));
            }
        }
        true
    }

    async fn enter(self: &Arc<Self>, stream: TcpStream, origin: Origin, wait_ms: u64) {
        let Some(room) = self.room().await else {
            return self.drop_it(origin, "too_many_connections");
        };
        // Without it only latency suffers.
        let _ = stream.set_nodelay(true);
        let door = self.clone();
        tokio::spawn(async move {
            let mut member = door.silent.enter();
            if wait_ms > 0 {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
                    () = member.evicted() => return door.drop_it(origin, "crowded"),
                }
            }
            let incoming = Incoming {
                stream,
                origin,
                room,
                member,
                deadline: Instant::now() + Duration::from_millis(u64::from(HELLO_MS_MAX)),
            };
            match &door.tls {
                Some(tls) => door.greet(tls, incoming).await,
                None => door.sort(incoming).await,
            }
        });
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

    /// Shakes hands and hands the connection on by what it wants to speak.
    async fn greet(&self, tls: &TlsAcceptor, incoming: Incoming) {
        let Incoming {
            stream,
            origin,
            room,
            mut member,
            deadline,
        } = incoming;
        let peer = origin.peer;
        let mut first = [0];
        let handshake = async {
            match stream.peek(&mut first).await {
                Ok(1) if first[0] == TLS_HANDSHAKE => {}
                Ok(1) => return Err("plaintext"),
                _ => return Err("closed_before_hello"),
            }
            let stream = tls.accept(stream).await;
            stream.map_err(|error| {
                log::debug(format_args!("{peer}: {error}"));
                "tls_failed"
            })
        };
        let shaken = tokio::select! {
            shaken = handshake => shaken,
            () = tokio::time::sleep_until(deadline) => Err("silent"),
            () = member.evicted() => Err("crowded"),
        };
        let stream = match shaken {
            Ok(stream) => stream,
            Err(reason) => return self.drop_it(origin, reason),
        };
        let (_, session) = stream.get_ref();
        let certified = certified(session.peer_certificates());
        match session.alpn_protocol() {
            Some(ALPN_GRPC) => {
                let permit = ConnectionPermit::new(room, member);
                self.hand_over(Wire::Tls(Box::new(stream)), peer, certified, permit)
                    .await;
            }
            Some(ALPN_WORKER) => {
                let dialler = Dialler {
                    peer,
                    certified,
                    keeper: self.keeper.clone(),
                };
                worker_link::serve(stream, &[], dialler, self.hub.clone(), member, deadline).await;
            }
            _ => self.drop_it(origin, "unknown_protocol"),
        }
    }

    /// Reads the first bytes and hands the connection on.
    async fn sort(&self, incoming: Incoming) {
        let Incoming {
            mut stream,
            origin,
            room,
            mut member,
            deadline,
        } = incoming;
        let peer = origin.peer;
        let mut first = [0; PREFACE.len()];
        let mut len = 0;
        while len < PREFACE.len() {
            let read = tokio::select! {
                read = stream.read(&mut first[len..]) => read,
                () = tokio::time::sleep_until(deadline) => return self.drop_it(origin, "silent"),
                () = member.evicted() => return self.drop_it(origin, "crowded"),
            };
            match read {
                Ok(read) if read > 0 => len += read,
                _ => return self.drop_it(origin, "closed_before_hello"),
            }
            // No frame of a worker is so long that its first byte is not zero.
            if first[0] == 0 {
                let dialler = Dialler {
                    peer,
                    certified: None,
                    keeper: self.keeper.clone(),
                };
                let hub = self.hub.clone();
                return worker_link::serve(stream, &first[..len], dialler, hub, member, deadline)
                    .await;
            }
            if !PREFACE.starts_with(&first[..len]) {
                return self.drop_it(origin, "unknown_protocol");
            }
        }
        let permit = ConnectionPermit::new(room, member);
        self.hand_over(Wire::Plain(PREFACE, stream), peer, None, permit)
            .await;
    }

    async fn hand_over(
        &self,
        wire: Wire,
        address: SocketAddr,
        certified: Option<Holder>,
        permit: ConnectionPermit,
    ) {
        let stream = GridStream {
            wire,
            peer: Peer {
                address,
                certified,
                is_known: Arc::default(),
            },
            watch: FrameWatch::new(self.hub.now_ms()),
            hub: self.hub.clone(),
            is_counted: false,
            permit,
        };
        // The server is gone only when the process ends.
        let _ = self.grpc.send(Ok(stream)).await;
    }

    fn drop_it(&self, origin: Origin, reason: &str) {
        let peer = origin.peer;
        // The others are no fault of its own, or known already.
        let offends = match reason {
            "plaintext" | "unknown_protocol" | "silent" => true,
            // Whoever had to wait may have gone for that.
            "tls_failed" | "closed_before_hello" => !origin.waited,
            _ => false,
        };
        if offends {
            self.hub.offended(peer.ip());
        }
        self.hub.metrics.drop_connection(reason);
        log::debug(format_args!("dropped {peer}: {reason}"));
    }
}

/// There are no file descriptors, or no memory.
fn is_exhausted(error: &io::Error) -> bool {
    let exhausted = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    exhausted
        .iter()
        .any(|errno| error.raw_os_error() == Some(*errno as i32))
}

fn registered(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

impl GridStream {
    /// Counts, once, that this connection ends by our doing.
    fn count(&mut self, reason: Reason) {
        if !std::mem::replace(&mut self.is_counted, true) {
            self.hub.metrics.drop_connection(reason);
            let peer = self.peer.address;
            self.hub.offended(peer.ip());
            log::debug(format_args!("dropped {peer}: {reason}"));
        }
    }

    /// Whether it has no token to show, and others want its place.
    fn must_go(&mut self, context: &mut Context<'_>) -> bool {
        if self.peer.is_known.load(Ordering::Relaxed) {
            self.permit.member = None;
        }
        let member = self.permit.member.as_mut();
        member.is_some_and(|member| member.poll_evicted(context).is_ready())
    }

    fn read_some(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Wire::Plain([], stream) => Pin::new(stream).poll_read(context, buffer),
            Wire::Plain(first, _) => {
                let (now, later) = first.split_at(first.len().min(buffer.remaining()));
                buffer.put_slice(now);
                *first = later;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Looks at what was taken of `parts` to be written.
    fn look(&mut self, written: &Poll<io::Result<usize>>, parts: &[io::IoSlice<'_>]) {
        let Poll::Ready(Ok(mut left)) = *written else {
            return;
        };
        for part in parts {
            let len = left.min(part.len());
            left -= len;
            if let Some(reason) = self.watch.written(&part[..len]) {
                self.count(reason);
            }
        }
    }
}

impl Connected for GridStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for GridStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let stream = &mut *self;
        if stream.must_go(context) {
            stream.hub.metrics.drop_connection("crowded");
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let read = stream.read_some(context, buffer);
        let bytes = &buffer.filled()[before..];
        if let Some(reason) = stream.watch.read(bytes, stream.hub.now_ms()) {
            stream.count(reason);
            return Poll::Ready(Err(io::Error::other(reason)));
        }
        read
    }
}

impl AsyncWrite for GridStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.wire {
            Wire::Plain(_, stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        self.look(&written, &[io::IoSlice::new(bytes)]);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.wire {
            Wire::Plain(_, stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Wire::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        };
        self.look(&written, bytes);
        written
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(_, stream) => stream.is_write_vectored(),
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(_, stream) => Pin::new(stream).poll_flush(context),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(_, stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
