//! gRPC over hyper's HTTP/2 on smol: just the calls that a client makes.
//! Source: "gRPC over HTTP2" (PROTOCOL-HTTP2.md of the gRPC project).

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use bytes::{Buf, Bytes, BytesMut};
use futures_rustls::TlsConnector;
use hg_proto::secure::tls;
use hg_proto::wire::limits::GRPC_MESSAGE_BYTES_MAX;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, Request, Uri};
use prost::Message;
use smol::io::{AsyncRead, AsyncWrite};
use smol::{Async, Executor, Timer, future};
use smol_hyper::rt::FuturesIo;

use crate::config::Config;
use crate::grid::access::Access;
use crate::grid::attempt::{CONNECT_MS_MAX, HANDSHAKE_MS_MAX};

/// Bytes before each message: compressed or not, and its length.
const PREFIX_BYTES: usize = 5;
/// Messages that wait to be sent.
const OUTGOING_MAX: usize = 2;
/// The header with a token to be kept instead of the one that was shown.
const RENEWAL: &str = "hg-renewal";
const SERVICE: &str = "/hybridgrid.v1.BuildService/";

/// What went wrong with a call, and so with the grid.
#[derive(Debug)]
pub enum GrpcError {
    /// No connection.
    Connect(String),
    /// Nobody listens there.
    Gone(String),
    /// The connection broke off.
    Cut(String),
    /// No answer in time.
    Timeout(&'static str),
    /// The peer does not speak gRPC, or the connection broke.
    Broken(String),
    /// The peer does not let us in.
    Refused(String),
    /// The peer answered with an error of its own.
    Status(String),
}

impl fmt::Display for GrpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GrpcError::Connect(why)
            | GrpcError::Gone(why)
            | GrpcError::Cut(why)
            | GrpcError::Broken(why)
            | GrpcError::Refused(why)
            | GrpcError::Status(why) => f.write_str(why),
            GrpcError::Timeout(what) => write!(f, "{what} timed out"),
        }
    }
}

impl std::error::Error for GrpcError {}

fn broken(why: impl fmt::Display) -> GrpcError {
    GrpcError::Broken(why.to_string())
}

/// What hyper says of a connection.
fn cut(error: hyper::Error) -> GrpcError {
    match error.is_user() || error.is_parse() {
        true => broken(error),
        false => GrpcError::Cut(error.to_string()),
    }
}

/// Whether that is how a connection breaks off whose other end is killed.
fn is_cut(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        kind,
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

/// Ends `work` after `ms` milliseconds.
///
/// # Errors
/// It was not done by then.
pub async fn within<T>(
    ms: u64,
    what: &'static str,
    work: impl Future<Output = Result<T, GrpcError>>,
) -> Result<T, GrpcError> {
    future::or(work, async {
        Timer::after(Duration::from_millis(ms)).await;
        Err(GrpcError::Timeout(what))
    })
    .await
}

/// Runs what hyper needs to be run, on the thread that waits for it.
#[derive(Clone)]
pub struct Tasks(Arc<Executor<'static>>);

impl Tasks {
    /// An executor of its own; nothing runs until [`Tasks::run`].
    pub fn new() -> Self {
        Tasks(Arc::new(Executor::new()))
    }

    /// Runs `work` beside what is waited for.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(work).detach();
    }

    /// Runs until `work` is done.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        // Some kilobytes, which each layer would move to a place of its own.
        let work = pin!(work);
        // The reactor has a thread of its own, which would wake up beside one here.
        smol::future::block_on(self.0.run(work))
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, work: F) {
        self.0.spawn(work).detach();
    }
}

/// A connection to a coordinator; clones share it.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Outgoing>,
    access: Arc<Access>,
}

impl Connection {
    /// Dials and shakes hands.
    ///
    /// # Errors
    /// Nobody is there within `ms_max`, or another one than should be, or one that
    /// does not shake hands.
    pub async fn open(tasks: &Tasks, access: Access, ms_max: u64) -> Result<Self, GrpcError> {
        let address = access.address.clone();
        let told = |why: &dyn fmt::Display| GrpcError::Connect(format!("{address}: {why}"));
        let dialled = async {
            dial(&address).await.map_err(|error| match error.kind() {
                io::ErrorKind::ConnectionRefused => GrpcError::Gone(format!("{address}: {error}")),
                // Killed with this connection in its queue.
                kind if is_cut(kind) => GrpcError::Cut(format!("{address}: {error}")),
                _ => told(&error),
            })
        };
        let stream = within(ms_max, "connecting", dialled).await?;
        let work = async {
            let sender = match &access.dial {
                None => speak(tasks, stream).await?,
                Some(dial) => {
                    let connector = TlsConnector::from(dial.config.clone());
                    let stream = connector.connect(dial.server_name.clone(), stream).await;
                    let stream = stream.map_err(|error| match error.kind() {
                        kind if is_cut(kind) => GrpcError::Cut(format!("{address}: {error}")),
                        _ => told(&tls::handshake_words(&error)),
                    })?;
                    speak(tasks, stream).await?
                }
            };
            Ok(Connection {
                sender,
                access: Arc::new(access),
            })
        };
        within(HANDSHAKE_MS_MAX.max(ms_max), "the handshake", work).await
    }

    /// Speaks through `stream`, behind which a connection to the coordinator at `address` is
    /// held by a process that shows its own token there.
    ///
    /// # Errors
    /// It does not shake hands.
    pub async fn through(
        tasks: &Tasks,
        stream: Async<UnixStream>,
        address: &str,
    ) -> Result<Self, GrpcError> {
        let sender = speak(tasks, stream).await?;
        let access = Arc::new(Access::plain(address));
        Ok(Connection { sender, access })
    }

    /// Whether it broke off, or was closed.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends another's request as one of ours, and gives the head of the answer.
    ///
    /// # Errors
    /// The connection broke off.
    pub async fn pass_on(
        &mut self,
        request: Request<Incoming>,
    ) -> Result<hyper::Response<Incoming>, GrpcError> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query();
        head.uri = self.uri(path.map_or("/", |path| path.as_str()))?;
        if let Some(bearer) = &self.access.bearer {
            head.headers.insert(AUTHORIZATION, bearer.clone());
        }
        let request = Request::from_parts(head, Outgoing::Another(body));
        let mut response = self.sender.send_request(request).await.map_err(cut)?;
        if let Some(renewal) = response.headers_mut().remove(RENEWAL) {
            self.access.take_renewal(&renewal);
        }
        Ok(response)
    }

    fn uri(&self, path: &str) -> Result<Uri, GrpcError> {
        let scheme = match self.access.dial {
            Some(_) => "https",
            None => "http",
        };
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(self.access.address.as_str())
            .path_and_query(path);
        uri.build().map_err(broken)
    }

    /// Opens one to the coordinator of the settings.
    ///
    /// # Errors
    /// In words: there is none, or why it can't be had.
    pub fn to_grid(config: &Config, tasks: &Tasks) -> Result<Self, String> {
        if let Some(trouble) = &config.trouble {
            return Err(trouble.clone());
        }
        let access = Access::find(config)?;
        let address = access.address.clone();
        let opened = tasks.run(Connection::open(tasks, access, CONNECT_MS_MAX));
        opened.map_err(|error| match error {
            // It has the address in it.
            GrpcError::Connect(why) | GrpcError::Gone(why) => why,
            other => format!("{address}: {other}"),
        })
    }

    /// Where the coordinator is: HOST:PORT.
    pub fn address(&self) -> &str {
        &self.access.address
    }

    /// One message each way.
    ///
    /// # Errors
    /// No answer within `ms_max`, or not the one that was expected.
    pub async fn call<Q: Message, A: Message + Default>(
        &mut self,
        method: &str,
        question: &Q,
        ms_max: u64,
    ) -> Result<A, GrpcError> {
        let work = async {
            let mut stream = self.start(method);
            stream.send(question).await?;
            drop(stream.outgoing.take());
            let answer = stream.next().await?;
            answer.ok_or_else(|| broken("no answer in the response"))
        };
        within(ms_max, "the answer", work).await
    }

    /// Opens a stream of messages each way.
    pub fn start<A: Message + Default>(&mut self, method: &str) -> Stream<A> {
        let (sender, receiver) = async_channel::bounded(OUTGOING_MAX);
        let access = self.access.clone();
        let uri = self.uri(&format!("{SERVICE}{method}"));
        let response = uri.and_then(|uri| {
            let mut request = Request::post(uri)
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("user-agent", concat!("hgbuild/", env!("CARGO_PKG_VERSION")))
                .body(Outgoing::Own(Box::pin(receiver)))
                .map_err(broken)?;
            if let Some(bearer) = &access.bearer {
                request.headers_mut().insert(AUTHORIZATION, bearer.clone());
            }
            Ok(self.sender.send_request(request))
        });
        let response = Box::pin(async move { response?.await.map_err(cut) });
        Stream {
            outgoing: Some(sender),
            state: State::Waiting(response),
            access,
            bytes: BytesMut::new(),
            answer: std::marker::PhantomData,
        }
    }
}

/// HTTP/2 over `stream`.
async fn speak<S>(tasks: &Tasks, stream: S) -> Result<SendRequest<Outgoing>, GrpcError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shaken = handshake(tasks.clone(), FuturesIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(cut)?;
    hyper::rt::Executor::execute(tasks, async move {
        // Its end is seen by whoever waits for an answer.
        let _ = connection.await;
    });
    Ok(sender)
}

async fn dial(address: &str) -> io::Result<Async<TcpStream>> {
    let addresses: Vec<SocketAddr> = match address.parse() {
        Ok(numeric) => vec![numeric],
        Err(_) => smol::net::resolve(address).await?,
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    for address in addresses {
        match Async::<TcpStream>::connect(address).await {
            Ok(stream) => {
                stream.get_ref().set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A request's body.
pub enum Outgoing {
    /// Message by message.
    Own(Pin<Box<Receiver<Bytes>>>),
    /// That of a request that is passed on.
    Another(Incoming),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        use smol::stream::Stream as _;
        match self.get_mut() {
            Outgoing::Own(receiver) => receiver
                .as_mut()
                .poll_next(context)
                .map(|next| next.map(|bytes| Ok(Frame::data(bytes)))),
            Outgoing::Another(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoing::Own(_) => false,
            Outgoing::Another(body) => body.is_end_stream(),
        }
    }
}

type Response = Pin<Box<dyn Future<Output = Result<hyper::Response<Incoming>, GrpcError>> + Send>>;

enum State {
    Waiting(Response),
    Open(Incoming),
    ExitStatus,
}

/// One call in progress. Dropped, it is reset, which the peer notices.
pub struct Stream<A> {
    outgoing: Option<Sender<Bytes>>,
    state: State,
    access: Arc<Access>,
    bytes: BytesMut,
    answer: std::marker::PhantomData<A>,
}

impl<A: Message + Default> Stream<A> {
    /// A handle that sends messages from elsewhere.
    pub fn sender(&self) -> Option<Messages> {
        self.outgoing.clone().map(Messages)
    }

    /// Sends a message; waits while the peer takes none.
    ///
    /// # Errors
    /// The call is over.
    pub async fn send<Q: Message>(&mut self, message: &Q) -> Result<(), GrpcError> {
        match self.sender() {
            Some(messages) => messages.send(message).await,
            None => Err(broken("the call was closed")),
        }
    }

    /// The next message; `None` after the last one.
    ///
    /// Dropping this before it is done loses nothing.
    ///
    /// # Errors
    /// The peer gave an error, or is no gRPC peer.
    pub async fn next(&mut self) -> Result<Option<A>, GrpcError> {
        loop {
            if let Some(message) = split_message(&mut self.bytes)? {
                return Ok(Some(message));
            }
            match &mut self.state {
                State::ExitStatus => return Ok(None),
                State::Waiting(response) => {
                    let response = response.await?;
                    check_head(&response)?;
                    if let Some(renewal) = response.headers().get(RENEWAL) {
                        self.access.take_renewal(renewal);
                    }
                    self.state = State::Open(response.into_body());
                }
                State::Open(body) => match body.frame().await {
                    Some(frame) => self.take(frame.map_err(cut)?)?,
                    None => {
                        self.state = State::ExitStatus;
                        return Err(broken("the response ended without a status"));
                    }
                },
            }
        }
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<(), GrpcError> {
        match frame.into_data() {
            Ok(data) => {
                self.bytes.extend_from_slice(&data);
                Ok(())
            }
            Err(frame) => {
                self.state = State::ExitStatus;
                match frame.into_trailers() {
                    Ok(trailers) => check_status(&trailers),
                    Err(_) => Ok(()),
                }
            }
        }
    }
}

/// Takes the first message off `bytes`; `None`: it is not whole yet.
///
/// # Errors
/// It is too long, compressed, or none of this kind.
pub fn split_message<A: Message + Default>(bytes: &mut BytesMut) -> Result<Option<A>, GrpcError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if prefix[0] != 0 || len > GRPC_MESSAGE_BYTES_MAX {
        return Err(broken(format_args!(
            "a message of {len} bytes, or compressed"
        )));
    }
    let Some(body) = rest.get(..len) else {
        return Ok(None);
    };
    let message = A::decode(body).map_err(broken)?;
    bytes.advance(PREFIX_BYTES + len);
    Ok(Some(message))
}

/// Sends messages into a call.
#[derive(Clone)]
pub struct Messages(Sender<Bytes>);

impl Messages {
    /// Sends a message; waits while the peer takes none.
    ///
    /// # Errors
    /// The call is over.
    pub async fn send<Q: Message>(&self, message: &Q) -> Result<(), GrpcError> {
        let len = message.encoded_len();
        let wire_len = u32::try_from(len).map_err(broken)?;
        let mut bytes = Vec::with_capacity(PREFIX_BYTES + len);
        bytes.push(0);
        bytes.extend_from_slice(&wire_len.to_be_bytes());
        message.encode_raw(&mut bytes);
        self.0
            .send(bytes.into())
            .await
            .map_err(|_| broken("the call is over"))
    }
}

/// `grpc-message` is percent-encoded, and is shown to people: no control characters.
pub fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).filter(|_| *first == b'%');
        let byte = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.replace(char::is_control, "\u{fffd}")
}

fn check_head(response: &hyper::Response<Incoming>) -> Result<(), GrpcError> {
    let status = response.status();
    if status != 200 {
        return Err(broken(format_args!("HTTP status {status}")));
    }
    let kind = response.headers().get("content-type");
    if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return Err(broken("the peer does not speak gRPC"));
    }
    match response.headers().contains_key("grpc-status") {
        true => check_status(response.headers()),
        false => Ok(()),
    }
}

fn check_status(trailers: &HeaderMap) -> Result<(), GrpcError> {
    let text = |name: &str| {
        let value = trailers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    match text("grpc-status").as_deref() {
        Some("0") => Ok(()),
        Some(code) => {
            let words = text("grpc-message").unwrap_or_default();
            let words = percent_decoded(&words);
            match code {
                // PERMISSION_DENIED, UNAUTHENTICATED
                "7" | "16" => Err(GrpcError::Refused(words)),
                // UNAVAILABLE: it is going away.
                "14" => Err(GrpcError::Cut(format!("gRPC status 14: {words}"))),
                _ => Err(GrpcError::Status(format!("gRPC status {code}: {words}"))),
            }
        }
        None => Err(broken("no grpc-status")),
    }
}
