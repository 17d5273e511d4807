//! The connection to the coordinator: dials, shakes hands, reads messages, writes frames.
//! Unaware of what messages mean.

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

/// How long one address may take to answer a dial, or to shake hands.
const DIAL_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a link that is closed may take to deliver the last frames.
const HANG_UP_WAIT_MAX: Duration = Duration::from_secs(5);
/// Bytes read at a time while much comes: a TLS record (RFC 8446, section 5.1).
const READ_BYTES: usize = 16 << 10;
/// Bytes of the read buffer of an idle worker.
const IDLE_READ_BYTES: usize = 1 << 10;
/// Urgent frames that may wait to be written. They are small, and the heartbeat's expiry ends
/// a link that does not move.
const URGENT_FRAMES_MAX: usize = 4096;
/// Frames with output that may wait to be written: few, so that tasks take turns and urgent
/// frames are not late.
const BULK_FRAMES_MAX: usize = 2;
/// Unsent bytes in the kernel's buffer, bounded for the same reason.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: nix::libc::c_int = 128 << 10;

/// A byte stream in both directions, encrypted or not.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection to a coordinator.
pub type Wire = Box<dyn Duplex>;

/// Connects to `coordinator`, HOST:PORT, and shakes hands as `tls` says; without,
/// in plaintext.
///
/// # Errors
/// In words: there is no such host, or no address of it answers, or another coordinator than
/// the trusted one does.
pub async fn dial(coordinator: &str, tls: Option<&Dial>) -> Result<Wire, String> {
    let stream = connect(coordinator).await?;
    let Some(tls) = tls else {
        // An `Async` that is closed is not shut down: the coordinator would not know.
        return Ok(Box::new(smol::net::TcpStream::from(stream)));
    };
    let connector = TlsConnector::from(tls.config.clone());
    let shaken = connector.connect(tls.server_name.clone(), stream);
    match within(DIAL_WAIT_MAX, shaken).await {
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
        match within(DIAL_WAIT_MAX, Async::<TcpStream>::connect(address)).await {
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

/// An event of the reading end.
pub enum Inbound {
    /// A message of the coordinator.
    Message(Box<ToWorker>),
    /// The link has ended: why.
    Lost(String),
}

/// A chunk of an input for a task that has no room for it yet.
type Stalled = (Sender<Arc<Chunk>>, Arc<Chunk>);

/// Sender of urgent frames, which overtake those with output.
#[derive(Debug, Clone)]
pub struct UrgentSender(Sender<Vec<u8>>);

impl UrgentSender {
    /// Queues a frame, without waiting; `false`: too many wait already, or the link has ended.
    pub fn send(&self, frame: Vec<u8>) -> bool {
        self.0.len() < URGENT_FRAMES_MAX && self.0.try_send(frame).is_ok()
    }
}

/// The reading end of a link, and the senders to its writing end.
pub struct Link {
    stream: ReadHalf<Wire>,
    /// The last read filled the buffer, so that more is probably ready.
    is_busy: bool,
    decoder: Decoder,
    stalled: Option<Stalled>,
    urgent: UrgentSender,
    bulk: Sender<Vec<u8>>,
    metrics: Arc<Metrics>,
}

/// The writing end of a link.
pub struct Writer {
    stream: WriteHalf<Wire>,
    urgent: Receiver<Vec<u8>>,
    bulk: Receiver<Vec<u8>>,
    metrics: Arc<Metrics>,
}

/// Both ends of a link over `wire`.
pub fn open(wire: Wire, metrics: Arc<Metrics>) -> (Link, Writer) {
    let (reading, writing) = smol::io::split(wire);
    // Bounded by the sender: a bounded channel allocates all its room at once.
    let (urgent, urgent_out) = async_channel::unbounded();
    let (bulk, bulk_out) = async_channel::bounded(BULK_FRAMES_MAX);
    let writer = Writer {
        stream: writing,
        urgent: urgent_out,
        bulk: bulk_out,
        metrics: metrics.clone(),
    };
    let link = Link {
        stream: reading,
        is_busy: false,
        decoder: Decoder::new(),
        stalled: None,
        urgent: UrgentSender(urgent),
        bulk,
        metrics,
    };
    (link, writer)
}

impl Link {
    /// Sender of frames with output, which waits while too many wait.
    pub fn bulk(&self) -> Sender<Vec<u8>> {
        self.bulk.clone()
    }

    /// Sender of frames that overtake output.
    pub fn urgent(&self) -> &UrgentSender {
        &self.urgent
    }

    /// Gives a chunk to a task. While the task has no room nothing more is read, which makes
    /// the coordinator wait.
    pub fn deliver(&mut self, to: Sender<Arc<Chunk>>, chunk: Chunk) {
        match to.try_send(Arc::new(chunk)) {
            Err(async_channel::TrySendError::Full(chunk)) => self.stalled = Some((to, chunk)),
            // A task that wants no more has failed, and says so.
            Ok(()) | Err(async_channel::TrySendError::Closed(_)) => {}
        }
    }

    /// Drops the chunk that a task has no room for: it waits for nothing more.
    pub fn drop_stalled(&mut self, to: &Sender<Arc<Chunk>>) {
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
    /// Writes frames until all senders are dropped, or the link breaks; then closes it.
    ///
    /// # Errors
    /// In words: why the link broke.
    pub async fn run(mut self) -> Result<(), String> {
        let words = |error: io::Error| format!("the link broke: {error}");
        while let Some(frame) = self.next().await {
            self.stream.write_all(&frame).await.map_err(words)?;
            self.stream.flush().await.map_err(words)?;
            self.metrics.bytes_out.inc_by(frame.len() as u64);
        }
        self.stream.close().await.map_err(words)
    }

    async fn next(&self) -> Option<Vec<u8>> {
        let urgent = async { self.urgent.recv().await.ok() };
        let bulk = async { self.bulk.recv().await.ok() };
        // Whichever is ready first; a channel that is closed leaves it to the other.
        match future::or(urgent, bulk).await {
            Some(frame) => Some(frame),
            None => match self.urgent.recv().await {
                Ok(frame) => Some(frame),
                Err(_) => self.bulk.recv().await.ok(),
            },
        }
    }
}

/// Lets `writer` send all frames that wait, then closes the link, and gives the peer time to
/// read them: a close at once could take them away from it.
pub async fn hang_up(link: Link, writer: impl Future<Output = ()>) {
    let Link {
        mut stream,
        urgent,
        bulk,
        ..
    } = link;
    drop((urgent, bulk));
    let last_frames = async {
        writer.await;
        let mut buffer = vec![0; 4096];
        while matches!(stream.read(&mut buffer).await, Ok(len) if len > 0) {}
    };
    future::or(last_frames, async {
        smol::Timer::after(HANG_UP_WAIT_MAX).await;
    })
    .await;
}
