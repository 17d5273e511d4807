//! The line to the coordinator: dials, shakes hands, reads messages, writes frames.
//! Unaware of what they mean.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures_rustls::TlsConnector;
use hg_proto::secure::tls::{self, Dial};
use hg_proto::v1::{Chunk, ToWorker};
use hg_proto::wire::frame::Decoder;
use smol::Async;
use smol::future;
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::metrics::Metrics;

/// How long one address may take to answer a dial.
const DIAL: Duration = Duration::from_secs(5);
/// How long a link that ends may take to deliver what was said.
const FAREWELL: Duration = Duration::from_secs(5);
/// Bytes read at a time while much comes: a TLS record (RFC 8446, section 5.1).
const READ_BYTES: usize = 16 << 10;
/// Bytes that an idle worker keeps ready for what comes.
const IDLE_READ_BYTES: usize = 1 << 10;
/// Frames without output that may wait to be written. They are small, and the
/// heartbeat's expiry ends a link that does not move.
const CONTROL_FRAMES_MAX: usize = 4096;
/// Frames with output that may wait to be written: few, so that tasks take turns
/// and what is said ahead of them is not late.
const BULK_FRAMES_MAX: usize = 2;
/// Bytes that may wait in the kernel, for the same reason.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: nix::libc::c_int = 128 << 10;

/// What can be read from and written to, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection to a coordinator.
pub type Wire = Box<dyn Stream>;

/// Connects to `coordinator`, HOST:PORT, and shakes hands as `tls` says; without,
/// in plaintext.
///
/// # Errors
/// In words: no such host, or nobody answers at any of its addresses, or it is
/// another one than should be.
pub async fn dial(coordinator: &str, tls: Option<&Dial>) -> Result<Wire, String> {
    let stream = connect(coordinator).await?;
    let Some(tls) = tls else {
        return Ok(Box::new(stream));
    };
    let connector = TlsConnector::from(tls.config.clone());
    let shaken = connector.connect(tls.server_name.clone(), stream);
    match within(DIAL, shaken).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(format!("{coordinator}: {}", tls::handshake_words(&error))),
    }
}

async fn connect(coordinator: &str) -> Result<Async<TcpStream>, String> {
    let addresses = match coordinator.parse::<SocketAddr>() {
        Ok(address) => vec![address],
        Err(_) => smol::net::resolve(coordinator)
            .await
            .map_err(|error| format!("{coordinator}: {error}"))?,
    };
    let mut why = format!("{coordinator}: no address");
    for address in addresses {
        match within(DIAL, Async::<TcpStream>::connect(address)).await {
            Ok(stream) => {
                tune(&stream);
                return Ok(stream);
            }
            Err(error) => why = format!("{coordinator} ({address}): {error}"),
        }
    }
    Err(why)
}

async fn within<T>(patience: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    future::or(what, async {
        smol::Timer::after(patience).await;
        Err(io::ErrorKind::TimedOut.into())
    })
    .await
}

/// Small and early messages; a socket that does not do it is only slower.
fn tune(stream: &Async<TcpStream>) {
    let _ = stream.get_ref().set_nodelay(true);
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        // SAFETY: the option's value is an int that outlives the call.
        unsafe {
            nix::libc::setsockopt(
                stream.get_ref().as_raw_fd(),
                nix::libc::IPPROTO_TCP,
                nix::libc::TCP_NOTSENT_LOWAT,
                std::ptr::from_ref(&UNSENT_BYTES_MAX).cast(),
                size_of_val(&UNSENT_BYTES_MAX) as nix::libc::socklen_t,
            );
        }
    }
}

/// What comes over a link.
pub enum Inbound {
    /// A message.
    Message(Box<ToWorker>),
    /// The end of it, and why.
    Lost(String),
}

/// A part of an input, on its way to a task that has no room for it yet.
type Stalled = (Sender<Arc<Chunk>>, Arc<Chunk>);

/// Frames that are sent ahead of any output.
#[derive(Debug, Clone)]
pub struct Ahead(Sender<Vec<u8>>);

impl Ahead {
    /// Adds one, without waiting; `false`: too many wait already, or the link is gone.
    pub fn send(&self, frame: Vec<u8>) -> bool {
        self.0.len() < CONTROL_FRAMES_MAX && self.0.try_send(frame).is_ok()
    }
}

/// The reading end, and the ways to the writing end.
pub struct Link {
    stream: ReadHalf<Wire>,
    /// More may be there than was read last.
    is_busy: bool,
    decoder: Decoder,
    stalled: Option<Stalled>,
    control: Ahead,
    bulk: Sender<Vec<u8>>,
    metrics: Arc<Metrics>,
}

/// The writing end.
pub struct Writer {
    stream: WriteHalf<Wire>,
    control: Receiver<Vec<u8>>,
    bulk: Receiver<Vec<u8>>,
    metrics: Arc<Metrics>,
}

/// Both ends of a link over `wire`.
pub fn open(wire: Wire, metrics: Arc<Metrics>) -> (Link, Writer) {
    let (reading, writing) = smol::io::split(wire);
    // Bounded where it is sent to: a bounded channel has all its room from the start.
    let (control, control_out) = async_channel::unbounded();
    let (bulk, bulk_out) = async_channel::bounded(BULK_FRAMES_MAX);
    let writer = Writer {
        stream: writing,
        control: control_out,
        bulk: bulk_out,
        metrics: metrics.clone(),
    };
    let link = Link {
        stream: reading,
        is_busy: false,
        decoder: Decoder::new(),
        stalled: None,
        control: Ahead(control),
        bulk,
        metrics,
    };
    (link, writer)
}

impl Link {
    /// Where tasks put their frames.
    pub fn bulk(&self) -> Sender<Vec<u8>> {
        self.bulk.clone()
    }

    /// Where frames go that overtake output.
    pub fn ahead(&self) -> &Ahead {
        &self.control
    }

    /// Gives a chunk to a task. Nothing more is read while it has no room: the
    /// coordinator feels that.
    pub fn deliver(&mut self, to: Sender<Arc<Chunk>>, chunk: Chunk) {
        match to.try_send(Arc::new(chunk)) {
            Err(async_channel::TrySendError::Full(chunk)) => self.stalled = Some((to, chunk)),
            // A task that wants no more has failed, and says so.
            Ok(()) | Err(async_channel::TrySendError::Closed(_)) => {}
        }
    }

    /// A task waits for nothing more: its chunk that has no room is dropped.
    pub fn forget(&mut self, to: &Sender<Arc<Chunk>>) {
        self.stalled
            .take_if(|(stalled, _)| stalled.same_channel(to));
    }

    /// The next message. Cancelling this loses nothing.
    pub async fn next(&mut self) -> Inbound {
        if let Some((to, chunk)) = &self.stalled {
            let _ = to.send(chunk.clone()).await;
            self.stalled = None;
        }
        loop {
            match self.decoder.next_message::<ToWorker>() {
                Ok(Some(message)) => return Inbound::Message(Box::new(message)),
                Ok(None) => {}
                Err(error) => {
                    return Inbound::Lost(format!("the coordinator sent garbage: {error}"));
                }
            }
            let size = match self.is_busy {
                true => READ_BYTES,
                false => IDLE_READ_BYTES,
            };
            let mut buffer = vec![0; size];
            match self.stream.read(&mut buffer).await {
                Ok(0) if self.decoder.pending() > 0 => {
                    return Inbound::Lost("the link ended within a message".into());
                }
                Ok(0) => return Inbound::Lost("the coordinator closed the link".into()),
                Ok(len) => {
                    self.metrics.bytes_in.inc_by(len as u64);
                    self.is_busy = len == size;
                    self.decoder.push(&buffer[..len]);
                }
                Err(error) => return Inbound::Lost(format!("the link broke: {error}")),
            }
        }
    }
}

impl Writer {
    /// Writes until everybody who could say something is gone, or the link breaks;
    /// then the peer sees the end of it.
    ///
    /// # Errors
    /// In words: why the link broke.
    pub async fn run(mut self) -> Result<(), String> {
        let told = |error: io::Error| format!("the link broke: {error}");
        while let Some(frame) = self.next().await {
            self.stream.write_all(&frame).await.map_err(told)?;
            self.stream.flush().await.map_err(told)?;
            self.metrics.bytes_out.inc_by(frame.len() as u64);
        }
        self.stream.close().await.map_err(told)
    }

    async fn next(&self) -> Option<Vec<u8>> {
        let control = async { self.control.recv().await.ok() };
        let bulk = async { self.bulk.recv().await.ok() };
        // The first one that is ready; one that is closed leaves it to the other.
        match future::or(control, bulk).await {
            Some(frame) => Some(frame),
            None => match self.control.recv().await {
                Ok(frame) => Some(frame),
                Err(_) => self.bulk.recv().await.ok(),
            },
        }
    }
}

/// Lets `writer` deliver what was said, then closes: the peer has time to read
/// it all, which a plain close could take away from it.
pub async fn hang_up(link: Link, writer: impl Future<Output = ()>) {
    let Link {
        mut stream,
        control,
        bulk,
        ..
    } = link;
    drop((control, bulk));
    let farewell = async {
        writer.await;
        let mut buffer = vec![0; 4096];
        while matches!(stream.read(&mut buffer).await, Ok(len) if len > 0) {}
    };
    future::or(farewell, async {
        smol::Timer::after(FAREWELL).await;
    })
    .await;
}
