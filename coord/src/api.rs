//! What can be read over HTTP: `/health`, `/metrics`, `/api/v1/workers`.
//!
//! tiny_http gives each connection a thread, so it stands behind a door that
//! lets in a bounded number, for a bounded time, and listens on loopback only.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hg_proto::v1;
use serde_json::{Value, json};
use tiny_http::{Header, Method, Request, Response, Server};
use tokio::net::{TcpListener, TcpStream};

use crate::bounds::{HTTP_CONNECTIONS_MAX, HTTP_MS_MAX};
use crate::crowd::Crowd;
use crate::dispatch::Hub;
use crate::log;

/// Starts the server's threads and gives the address behind the door.
///
/// # Errors
/// There is no port or thread to be had.
pub fn start(hub: Arc<Hub>) -> io::Result<SocketAddr> {
    let server = Server::http("127.0.0.1:0").map_err(io::Error::other)?;
    let address = server.server_addr().to_ip().ok_or_else(|| io::Error::other("no address"))?;
    std::thread::Builder::new().name("http".into()).spawn(move || {
        for request in server.incoming_requests() {
            answer(&hub, request);
        }
    })?;
    Ok(address)
}

/// Lets connections in to the server at `inner`, for ever.
pub async fn accept(listener: TcpListener, inner: SocketAddr, hub: Arc<Hub>) {
    let crowd = Crowd::new(HTTP_CONNECTIONS_MAX);
    loop {
        let mut stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::debug(format_args!("http accept: {error}"));
                hub.metrics.drop_connection("accept_failed");
                crowd.evict();
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let mut member = crowd.enter();
        let hub = hub.clone();
        tokio::spawn(async move {
            let time = Duration::from_millis(HTTP_MS_MAX);
            let reason = tokio::select! {
                () = relay(&mut stream, inner) => return,
                () = tokio::time::sleep(time) => "http_too_long",
                () = member.evicted() => "http_crowded",
            };
            hub.metrics.drop_connection(reason);
        });
    }
}

async fn relay(stream: &mut TcpStream, inner: SocketAddr) {
    // Nothing is said before a byte came, so that silence costs no thread.
    if stream.readable().await.is_err() {
        return;
    }
    if let Ok(mut server) = TcpStream::connect(inner).await {
        // Either side may hang up; both are closed then.
        let _ = tokio::io::copy_bidirectional(stream, &mut server).await;
    }
}

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
        v1::Language::Cxx => "c++",
        v1::Language::Unspecified => "",
    };
    json!({
        "family": family,
        "version": toolchain.version,
        "target": toolchain.target,
        "language": language,
        "digest": digest,
    })
}
