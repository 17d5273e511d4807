//! The connection to a coordinator that a build's own process holds for all of its compiles:
//! they reach it through a Unix socket, where they speak HTTP/2 as they would to the
//! coordinator, and each request goes on as one more stream of that connection. A compile
//! pays for no handshake then, neither in time nor in processor time. Where the connection
//! is away the socket says so, and the compile dials by itself.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hg_proto::wire::digest::Digest;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use nix::unistd::geteuid;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, Timer};
use smol_hyper::rt::FuturesIo;

use crate::config::Config;
use crate::grid::access::Access;
use crate::grid::attempt::CONNECT_MS_MAX;
use crate::grid::grpc::{Connection, GrpcError, Tasks, within};
use crate::grid::memo::Memos;

/// The variable in which compiles of a build find the socket.
pub const VARIABLE: &str = "HG_RELAY";

/// What the relay says to the digest of the grid that a compile means: the connection is there.
const READY: u8 = b'+';
/// Or it is not.
const AWAY: u8 = b'-';
/// Milliseconds that a compile waits to hear that. A relay that has no time for it, or was
/// stopped, is none.
const ENTER_MS_MAX: u64 = 100;
/// Milliseconds in which the coordinator begins to answer a request, or the connection is
/// taken for broken: before the compile gives up, which then dials.
const ANSWER_MS_MAX: u64 = 1_500;
/// Between two attempts to connect anew.
const REDIAL: Duration = Duration::from_millis(500);
/// Before the next guest where there are no descriptors for it.
const CROWDED: Duration = Duration::from_millis(100);
/// Bytes on their way to one compile that it has not read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// The socket of this build; gone when this is dropped.
pub struct Relay {
    path: PathBuf,
}

impl Relay {
    /// Listens at `path`, on a thread of its own, for compiles that use the coordinator at
    /// `address` by the settings in `config`; `opened` is the connection, where there is one
    /// already.
    ///
    /// # Errors
    /// There can be no such socket: its path is too long, for one.
    pub fn start(
        path: PathBuf,
        config: &Config,
        address: String,
        tasks: Tasks,
        opened: Option<Connection>,
    ) -> io::Result<Relay> {
        let key = config.grid_key(&address);
        let listener = UnixListener::bind(&path)?;
        let relay = Relay { path };
        let held = Arc::new(Held {
            grid: Digest::of(&key),
            key,
            memos: Memos::new(config.run_folder().as_deref()),
            config: config.clone(),
            address,
            tasks: tasks.clone(),
            upstream: Mutex::new(Upstream {
                connection: opened,
                dialled: None,
            }),
        });
        let listener = Async::new(listener)?;
        std::thread::Builder::new()
            .name("relay".into())
            .spawn(move || tasks.run(held.serve(listener)))?;
        Ok(relay)
    }

    /// Where compiles find it.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What is held for the compiles of a build.
struct Held {
    /// What compiles call the grid, which it is.
    grid: Digest,
    /// Of memos about it.
    key: Vec<u8>,
    memos: Memos,
    config: Config,
    address: String,
    tasks: Tasks,
    upstream: Mutex<Upstream>,
}

struct Upstream {
    connection: Option<Connection>,
    /// When it was last dialled.
    dialled: Option<Instant>,
}

impl Held {
    async fn serve(self: Arc<Self>, listener: Async<UnixListener>) {
        // There before the first compile wants it.
        let _ = self.connected();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.tasks.spawn(self.clone().attend(stream)),
                Err(_) => {
                    Timer::after(CROWDED).await;
                }
            }
        }
    }

    /// One compile, to its end.
    async fn attend(self: Arc<Self>, mut stream: Async<UnixStream>) {
        let mut said = [0; Digest::LEN];
        if stream.read_exact(&mut said).await.is_err() {
            return;
        }
        let upstream = match said == *self.grid.as_bytes() {
            true => self.connected(),
            false => None,
        };
        let answer = if upstream.is_some() { READY } else { AWAY };
        if stream.write_all(&[answer]).await.is_err() {
            return;
        }
        let Some(upstream) = upstream else {
            return;
        };
        let held = self.clone();
        let service = service_fn(move |request| held.clone().pass_on(upstream.clone(), request));
        // That the compile has ended, or was ended, is how it ends.
        let _ = http2::Builder::new(self.tasks.clone())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .serve_connection(FuturesIo::new(stream), service)
            .await;
    }

    async fn pass_on(
        self: Arc<Self>,
        mut upstream: Connection,
        request: Request<Incoming>,
    ) -> Result<Response<Incoming>, GrpcError> {
        let answer = within(ANSWER_MS_MAX, "the coordinator", upstream.pass_on(request)).await;
        if answer.is_err() {
            self.lose();
        }
        answer
    }

    /// The connection, if it is there. If not, it is dialled beside, unless the grid is known
    /// to be down: the compile that finds it well again says so.
    fn connected(self: &Arc<Self>) -> Option<Connection> {
        let mut upstream = self.upstream.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = upstream.connection.as_ref().filter(|one| !one.is_closed()) {
            return Some(connection.clone());
        }
        let is_early = upstream.dialled.is_some_and(|at| at.elapsed() < REDIAL);
        if !is_early && !self.memos.has_note(&self.key) {
            upstream.dialled = Some(Instant::now());
            self.tasks.spawn(self.clone().dial());
        }
        None
    }

    async fn dial(self: Arc<Self>) {
        let Ok(access) = Access::at(&self.config, &self.address) else {
            return;
        };
        let opened = Connection::open(&self.tasks, access, CONNECT_MS_MAX).await;
        let mut upstream = self.upstream.lock().unwrap_or_else(PoisonError::into_inner);
        upstream.dialled = Some(Instant::now());
        upstream.connection = opened.ok();
    }

    fn lose(&self) {
        let mut upstream = self.upstream.lock().unwrap_or_else(PoisonError::into_inner);
        upstream.connection = None;
    }
}

/// The build's connection, for a compile that uses the grid of `key` and was told of a
/// relay at `path`; `None`: there is none, or it is another grid's, or away, or slow.
pub async fn enter(path: &Path, key: &[u8]) -> Option<Async<UnixStream>> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    if meta.uid() != geteuid().as_raw() {
        return None;
    }
    let work = async {
        let mut stream = Async::<UnixStream>::connect(path).await.ok()?;
        stream.write_all(Digest::of(key).as_bytes()).await.ok()?;
        let mut answer = [0];
        stream.read_exact(&mut answer).await.ok()?;
        (answer == [READY]).then_some(stream)
    };
    let late = async {
        Timer::after(Duration::from_millis(ENTER_MS_MAX)).await;
        None
    };
    smol::future::or(work, late).await
}
