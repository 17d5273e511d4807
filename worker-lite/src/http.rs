//! `/health` and `/metrics`. Unaware of tasks and links.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use tiny_http::{Header, Method, Request, Response, Server};

use crate::metrics::Metrics;

/// Bytes of the answering thread's stack.
const STACK_BYTES: usize = 256 << 10;

/// A listener that nobody answers at yet.
pub struct Http {
    server: Server,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Listens at `address`.
///
/// # Errors
/// The address is malformed or taken.
pub fn bind(address: &str) -> io::Result<Http> {
    let server = Server::http(address).map_err(io::Error::other)?;
    let address = server
        .server_addr()
        .to_ip()
        .ok_or_else(|| io::Error::other("not an IP address"))?;
    Ok(Http { server, address })
}

impl Http {
    /// Answers until the program ends.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn answer(self, metrics: Arc<Metrics>) -> io::Result<()> {
        thread::Builder::new()
            .name("http".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                for request in self.server.incoming_requests() {
                    // Somebody who hangs up early is no concern of ours.
                    let _ = reply(request, &metrics);
                }
            })
            .map(drop)
    }
}

fn reply(request: Request, metrics: &Metrics) -> io::Result<()> {
    if !matches!(request.method(), Method::Get | Method::Head) {
        return request.respond(text(405, "GET or HEAD only\n"));
    }
    let path = request.url().split('?').next().unwrap_or_default();
    let response = match path {
        "/health" if metrics.is_healthy() => text(200, "ok\n"),
        "/health" => text(503, "draining\n"),
        "/metrics" => match metrics.text() {
            Ok(body) => text(200, body),
            Err(error) => text(500, format!("{error}\n")),
        },
        _ => text(404, "only /health and /metrics are here\n"),
    };
    request.respond(response)
}

fn text(status: u16, body: impl Into<Vec<u8>>) -> Response<io::Cursor<Vec<u8>>> {
    let response = Response::from_data(body).with_status_code(status);
    match Header::from_bytes("Content-Type", "text/plain; version=0.0.4; charset=utf-8") {
        Ok(header) => response.with_header(header),
        Err(()) => response,
    }
}
