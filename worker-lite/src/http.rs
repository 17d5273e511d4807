//! `/health` and `/metrics`, for this machine. Unaware of tasks and of the link.
//!
//! One thread answers all requests: they are so few that a thread for each connection would
//! be most of the worker's memory. A bounded number of connections is open, each for a
//! bounded time and for one request; one more takes the place of the oldest.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hg_proto::wire::http_head::{self, Head};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, LocalExecutor, Task, Timer, future};

use crate::metrics::Metrics;

/// Bytes of the stack of the answering thread.
const STACK_BYTES: usize = 256 << 10;
/// Connections that are open at once.
const CONNECTIONS_MAX: usize = 16;
/// Time that one connection may take.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of the head of a request.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Time until the next attempt to accept where no file descriptors are left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A listener whose connections are not answered yet.
pub struct Http {
    listener: Async<TcpListener>,
    /// Address that it listens at.
    pub address: SocketAddr,
}

/// Listens at `address`, which must be a loopback one: requests are not authenticated.
///
/// # Errors
/// The address is malformed, taken, or reachable from elsewhere.
pub fn bind(address: &str) -> io::Result<Http> {
    let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    if addresses.iter().any(|address| !address.ip().is_loopback()) {
        return Err(io::Error::other(
            "other machines can reach it, and these pages ask nobody who they are; give a \
             loopback address, and let a proxy show them elsewhere",
        ));
    }
    let listener = TcpListener::bind(&addresses[..])?;
    let address = listener.local_addr()?;
    Ok(Http {
        listener: Async::new(listener)?,
        address,
    })
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
                let executor = LocalExecutor::new();
                future::block_on(executor.run(self.accept(&executor, &metrics)));
            })
            .map(drop)
    }

    async fn accept<'a>(&self, executor: &LocalExecutor<'a>, metrics: &'a Metrics) {
        let mut open: VecDeque<Task<()>> = VecDeque::with_capacity(CONNECTIONS_MAX);
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                Timer::after(ACCEPT_RETRY).await;
                continue;
            };
            open.retain(|connection| !connection.is_finished());
            if open.len() >= CONNECTIONS_MAX {
                // Dropping it cancels it.
                open.pop_front();
            }
            open.push_back(executor.spawn(async move {
                let exchange = async {
                    // A peer that hangs up early is no error.
                    let _ = exchange(stream, metrics).await;
                };
                let late = async {
                    Timer::after(CONNECTION_TIME_MAX).await;
                };
                future::or(exchange, late).await;
            }));
            // However many more wait, those that are open are answered.
            future::yield_now().await;
        }
    }
}

/// One request, one answer.
async fn exchange(mut stream: Async<TcpStream>, metrics: &Metrics) -> io::Result<()> {
    let mut head = vec![0; HEAD_BYTES_MAX];
    let mut len = 0;
    let end = loop {
        match stream.read(&mut head[len..]).await? {
            // The peer hung up, or sends too long a head.
            0 => return Ok(()),
            more => len += more,
        }
        if let Some(end) = head[..len].windows(4).position(|end| end == b"\r\n\r\n") {
            break end;
        }
    };
    stream.write_all(&reply(&head[..end], metrics)).await?;
    stream.close().await
}

/// The answer to the request whose head is `head`.
fn reply(head: &[u8], metrics: &Metrics) -> Vec<u8> {
    let Some((method, path)) = http_head::request_line(head) else {
        return answer("400 Bad Request", "no request of HTTP/1\n", true);
    };
    // A web page of another host may have led a browser here by a DNS name of its own.
    if !Head::of(http_head::fields(head)).is_local() {
        let why = "this address is for this machine: ask for localhost or 127.0.0.1\n";
        return answer("403 Forbidden", why, true);
    }
    let has_body = method != "HEAD";
    match (method, path) {
        ("GET" | "HEAD", "/health") if metrics.is_healthy() => answer("200 OK", "ok\n", has_body),
        ("GET" | "HEAD", "/health") => answer("503 Service Unavailable", "draining\n", has_body),
        ("GET" | "HEAD", "/metrics") => match metrics.text() {
            Ok(body) => answer("200 OK", body, has_body),
            Err(error) => answer("500 Internal Server Error", format!("{error}\n"), has_body),
        },
        ("GET" | "HEAD", _) => {
            let why = "only /health and /metrics are here\n";
            answer("404 Not Found", why, has_body)
        }
        _ => answer("405 Method Not Allowed", "GET or HEAD only\n", true),
    }
}

fn answer(status: &str, body: impl AsRef<[u8]>, has_body: bool) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\
         Allow: GET, HEAD\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let body = if has_body { body } else { &[] };
    [head.as_bytes(), body].concat()
}
