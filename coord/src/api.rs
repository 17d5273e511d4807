//! What can be read over HTTP: `/health`, `/metrics`, `/api/v1/workers`. On
//! loopback by everybody; beyond it over TLS, by who shows a client's or an
//! admin's token.
//!
//! tiny_http gives each connection a thread and waits for slow ones, so it
//! stands behind a door: that takes a bounded number of connections for a
//! bounded time, hands on whole requests only, one a connection, and takes the
//! answer whole before it passes it on.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hg_proto::token::Role;
use hg_proto::v1;
use serde_json::{Value, json};
use tiny_http::{Header, Method, Request, Response, Server};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::bounds::{
    HTTP_ANSWER_BYTES_MAX, HTTP_CONNECTIONS_MAX, HTTP_HEAD_BYTES_MAX, HTTP_INNER_MAX, HTTP_MS_MAX,
};
use crate::crowd::Crowd;
use crate::dispatch::Hub;
use crate::doorkeeper::{self, Doorkeeper};
use crate::http_head::Head;
use crate::log;

/// Milliseconds to wait when there are no file descriptors left.
const EXHAUSTED_MS: u64 = 20;

/// The server behind the door.
pub struct Inner {
    address: Mutex<SocketAddr>,
    /// tiny_http has so many threads from the start; more requests at once
    /// could wait behind each other.
    turns: Semaphore,
}

impl Inner {
    /// Starts the server's threads.
    ///
    /// # Errors
    /// There is no port or thread to be had.
    pub fn start(hub: Arc<Hub>) -> io::Result<Arc<Self>> {
        let (mut server, address) = listen()?;
        let inner = Arc::new(Inner {
            address: Mutex::new(address),
            turns: Semaphore::new(HTTP_INNER_MAX),
        });
        let shared = inner.clone();
        std::thread::Builder::new()
            .name("http".into())
            .spawn(move || {
                loop {
                    for request in server.incoming_requests() {
                        answer(&hub, request);
                    }
                    // It stops for good when accept fails once.
                    server = shared.listen_again();
                }
            })?;
        Ok(inner)
    }

    fn listen_again(&self) -> Server {
        loop {
            if let Ok((server, address)) = listen() {
                *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
                return server;
            }
            std::thread::sleep(Duration::from_millis(EXHAUSTED_MS));
        }
    }

    fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The whole answer to a request, head included.
    async fn exchange(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let _turn = self.turns.acquire().await.map_err(io::Error::other)?;
        let mut server = TcpStream::connect(self.address()).await?;
        server.write_all(request).await?;
        let mut answer = Vec::new();
        server
            .take(HTTP_ANSWER_BYTES_MAX)
            .read_to_end(&mut answer)
            .await?;
        Ok(answer)
    }
}

fn listen() -> io::Result<(Server, SocketAddr)> {
    let server = Server::http("127.0.0.1:0").map_err(io::Error::other)?;
    let address = server.server_addr().to_ip();
    Ok((
        server,
        address.ok_or_else(|| io::Error::other("no address"))?,
    ))
}

/// Who asks those that come from elsewhere.
pub type Guard = (TlsAcceptor, Arc<Doorkeeper>);

/// Lets connections in, for ever.
pub async fn accept(listener: TcpListener, inner: Arc<Inner>, hub: Arc<Hub>, guard: Option<Guard>) {
    let own = listener.local_addr().ok();
    let is_open_to_all = own.is_some_and(|own| !own.ip().is_loopback()) && guard.is_none();
    let crowd = Crowd::new(HTTP_CONNECTIONS_MAX);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log::debug(format_args!("http accept: {error}"));
                hub.metrics.drop_connection("accept_failed");
                crowd.evict();
                tokio::time::sleep(Duration::from_millis(EXHAUSTED_MS)).await;
                continue;
            }
        };
        let wait_ms = match hub.greet_after(peer.ip()) {
            Ok(wait_ms) => wait_ms,
            Err(reason) => {
                // Gone at once, instead of waiting for the other end to close too.
                let _ = stream.set_zero_linger();
                hub.metrics.drop_connection(reason);
                continue;
            }
        };
        let mut member = crowd.enter();
        let (hub, inner, guard) = (hub.clone(), inner.clone(), guard.clone());
        tokio::spawn(async move {
            let time = Duration::from_millis(HTTP_MS_MAX);
            let exchange = async {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                match guard {
                    // One that is meant for this machine alone answers no page of
                    // elsewhere that was led here by a name.
                    None => {
                        let may = |head: &Head<'_>| is_open_to_all || head.is_local();
                        serve(stream, &inner, |head| (!may(head)).then_some(NOT_LOCAL)).await
                    }
                    Some((tls, keeper)) => {
                        let stream = tls.accept(stream).await?;
                        let refusal = |head: &Head<'_>| {
                            let admitted = keeper.admit(head.token(), None);
                            let admitted =
                                admitted.and_then(|who| who.may(&[Role::Client, Role::Admin]));
                            let why = admitted.err()?;
                            doorkeeper::turn_away(&hub, peer.ip(), "a page", why);
                            Some(NO_TOKEN)
                        };
                        serve(stream, &inner, refusal).await
                    }
                }
            };
            let reason = tokio::select! {
                result = exchange => match result {
                    Ok(()) => return,
                    Err(_) => "http_failed",
                },
                () = tokio::time::sleep(time) => "http_too_long",
                () = member.evicted() => "http_crowded",
            };
            hub.metrics.drop_connection(reason);
        });
    }
}

const NO_TOKEN: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain\r\n\
    X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\
    WWW-Authenticate: Bearer realm=\"hybridgrid\"\r\nConnection: close\r\n\r\n\
    a token is needed: Authorization: Bearer TOKEN, or the cookie hg_token\n";
const NOT_LOCAL: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\n\
    X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\
    Connection: close\r\n\r\n\
    this address is for this machine: ask for localhost or 127.0.0.1\n";

/// One request, one answer, unless `refusal` has another one.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    inner: &Inner,
    refusal: impl Fn(&Head<'_>) -> Option<&'static [u8]>,
) -> io::Result<()> {
    let mut head = Vec::new();
    let mut seen: usize = 0;
    while !head[seen.saturating_sub(3)..]
        .windows(4)
        .any(|end| end == b"\r\n\r\n")
    {
        seen = head.len();
        if seen >= HTTP_HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if stream.read_buf(&mut head).await? == 0 {
            // Said nothing, or not all: that is no request.
            return Ok(());
        }
    }
    let head = Head::of(&head);
    if let Some(answer) = refusal(&head) {
        stream.write_all(answer).await?;
        return stream.shutdown().await;
    }
    // Nothing but the first line matters to the answers below.
    let line = head.request_line;
    let rest = b"\r\nHost: hg-coord\r\nConnection: close\r\n\r\n";
    let answer = inner.exchange(&[line, rest].concat()).await?;
    stream.write_all(&answer).await?;
    stream.shutdown().await
}

/// Whatever a page may say one day: it loads nothing from elsewhere, and stands in
/// no other page.
const SECURITY_HEADERS: [(&str, &str); 4] = [
    (
        "Content-Security-Policy",
        "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
];

fn answer(hub: &Hub, request: Request) {
    let path = request.url().split('?').next().unwrap_or_default();
    let (status, kind, body): (u16, &str, Vec<u8>) = match (path, request.method()) {
        ("/health" | "/metrics" | "/api/v1/workers", method)
            if !matches!(method, Method::Get | Method::Head) =>
        {
            (405, "text/plain", b"only GET\n".to_vec())
        }
        ("/health", _) => (200, "text/plain", b"ok\n".to_vec()),
        ("/metrics", _) => (200, "text/plain; version=0.0.4", hub.metrics_text()),
        ("/api/v1/workers", _) => (200, "application/json", workers(hub)),
        _ => (404, "text/plain", b"not found\n".to_vec()),
    };
    let mut response = Response::from_data(body).with_status_code(status);
    if let Ok(header) = Header::from_bytes("Content-Type", kind) {
        response.add_header(header);
    }
    if status == 405
        && let Ok(header) = Header::from_bytes("Allow", "GET, HEAD")
    {
        response.add_header(header);
    }
    for (name, value) in SECURITY_HEADERS {
        if let Ok(header) = Header::from_bytes(name, value) {
            response.add_header(header);
        }
    }
    // The reader may be gone.
    let _ = request.respond(response);
}

fn workers(hub: &Hub) -> Vec<u8> {
    let list: Vec<Value> = hub.workers().iter().map(worker).collect();
    let mut text = Value::Array(list).to_string().into_bytes();
    text.push(b'\n');
    text
}

/// The fields of the Worker message, by their names in build.proto.
fn worker(worker: &v1::Worker) -> Value {
    let toolchains: Vec<Value> = worker.toolchains.iter().map(toolchain).collect();
    json!({
        "id": worker.id,
        "name": worker.name,
        "address": worker.address,
        "version": worker.version,
        "architecture": worker.architecture,
        "os": worker.os,
        "cores": worker.cores,
        "memory_bytes": worker.memory_bytes,
        "memory_available_bytes": worker.memory_available_bytes,
        "slots": worker.slots,
        "running": worker.running,
        "load_milli": worker.load_milli,
        "temperature_milli_c": worker.temperature_milli_c,
        "round_trip_us": worker.round_trip_us,
        "draining": worker.draining,
        "tasks_finished": worker.tasks_finished,
        "tasks_failed": worker.tasks_failed,
        "toolchains": toolchains,
        "connected_ms": worker.connected_ms,
        "circuit": worker.circuit,
        "shut_for_holders": worker.shut_for_holders,
        "speed_milli": worker.speed_milli,
        "slots_now": worker.slots_now,
        "slots_why": worker.slots_why,
        "sandbox": worker.sandbox,
    })
}

fn toolchain(toolchain: &v1::Toolchain) -> Value {
    use std::fmt::Write;
    let mut digest = String::with_capacity(64);
    for byte in &toolchain.digest {
        // Writing to a String does not fail.
        let _ = write!(digest, "{byte:02x}");
    }
    let family = match toolchain.family() {
        v1::Family::Gcc => "gcc",
        v1::Family::Clang => "clang",
        v1::Family::Unspecified => "",
    };
    let language = match toolchain.language() {
        v1::Language::C => "c",
        v1::Language::Cxx => "cxx",
        v1::Language::Unspecified => "",
    };
    json!({
        "family": family,
        "version": toolchain.version,
        "target": toolchain.target,
        "language": language,
        "digest": digest,
        "tree": toolchain.tree,
    })
}
