//! What can be read over HTTP: `/health`, `/metrics`, `/api/v1/workers`. On
//! loopback by everybody; beyond it over TLS, by who shows a client's or an
//! admin's token.
//!
//! hyper's HTTP/1 answers: a connection is a task and no thread, so that one which is
//! slow costs others nothing, and there is no second port. A bounded number of them
//! is open, each for a bounded time and for one request. Upgrades (WebSocket) would be
//! `with_upgrades` on the connection, after the same refusals.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hg_proto::json;
use hg_proto::secure::token::Role;
use hg_proto::wire::http_head::Head;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::bounds::{HTTP_CONNECTIONS_MAX, HTTP_HEAD_BYTES_MAX, HTTP_MS_MAX};
use crate::dispatch::hub::Hub;
use crate::door::crowd::Crowd;
use crate::log;
use crate::trust::doorkeeper::{self, Doorkeeper};

/// Milliseconds to wait when there are no file descriptors left.
const EXHAUSTED_MS: u64 = 20;

/// Whatever a page may say one day: it loads nothing from elsewhere, and stands in
/// no other page.
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 4] = [
    (
        HeaderName::from_static("content-security-policy"),
        HeaderValue::from_static(
            "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
        ),
    ),
    (
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    ),
    (
        HeaderName::from_static("referrer-policy"),
        HeaderValue::from_static("no-referrer"),
    ),
    (
        HeaderName::from_static("cache-control"),
        HeaderValue::from_static("no-store"),
    ),
];

type Answer = Response<Full<Bytes>>;

/// Who asks those that come from elsewhere.
pub type Guard = (TlsAcceptor, Arc<Doorkeeper>);

/// The pages, and who may see them.
struct Pages {
    hub: Arc<Hub>,
    guard: Option<Guard>,
    /// Others can reach them, and are asked nothing (`--insecure-any-address`).
    is_open_to_all: bool,
    /// One page is made at a time, and not by the threads that relay.
    turn: Arc<Semaphore>,
}

/// Lets connections in, for ever.
pub async fn accept(listener: TcpListener, hub: Arc<Hub>, guard: Option<Guard>) {
    let own = listener.local_addr().ok();
    let pages = Arc::new(Pages {
        is_open_to_all: own.is_some_and(|own| !own.ip().is_loopback()) && guard.is_none(),
        hub,
        guard,
        turn: Arc::new(Semaphore::new(1)),
    });
    let hub = &pages.hub;
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
        let pages = pages.clone();
        tokio::spawn(async move {
            let time = Duration::from_millis(HTTP_MS_MAX);
            let exchange = async {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                pages.greet(stream, peer).await
            };
            let reason = tokio::select! {
                is_done = exchange => match is_done {
                    true => return,
                    false => "http_failed",
                },
                () = tokio::time::sleep(time) => "http_too_long",
                () = member.evicted() => "http_crowded",
            };
            pages.hub.metrics.drop_connection(reason);
        });
    }
}

impl Pages {
    /// Shakes hands where that is due, and answers; false: no whole exchange came of it.
    async fn greet(&self, stream: TcpStream, peer: SocketAddr) -> bool {
        match &self.guard {
            None => self.serve(stream, peer).await,
            Some((tls, _)) => match tls.accept(stream).await {
                Ok(stream) => self.serve(stream, peer).await,
                Err(_) => false,
            },
        }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr) -> bool {
        let service = service_fn(async |request: Request<Incoming>| {
            Ok::<_, Infallible>(match self.refusal(request.headers(), peer) {
                Some(refusal) => refusal,
                None => self.page(request.method(), request.uri().path()).await,
            })
        });
        let connection = http1::Builder::new()
            .keep_alive(false)
            // The whole connection has a deadline.
            .header_read_timeout(None)
            .max_buf_size(HTTP_HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        connection.await.is_ok()
    }

    /// The answer to who may see nothing.
    fn refusal(&self, headers: &HeaderMap, peer: SocketAddr) -> Option<Answer> {
        let head = Head::of(
            headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_bytes())),
        );
        let Some((_, keeper)) = &self.guard else {
            // One that is meant for this machine alone answers no page of elsewhere
            // that was led here by a name.
            let why = "this address is for this machine: ask for localhost or 127.0.0.1\n";
            return (!self.is_open_to_all && !head.is_local())
                .then(|| answer(StatusCode::FORBIDDEN, "text/plain", why));
        };
        let admitted = keeper.admit(head.token(), None);
        let admitted = admitted.and_then(|who| who.may(&[Role::Client, Role::Admin]));
        let why = admitted.err()?;
        doorkeeper::turn_away(&self.hub, peer.ip(), "a page", why);
        let why = "a token is needed: Authorization: Bearer TOKEN, or the cookie hg_token\n";
        let mut refusal = answer(StatusCode::UNAUTHORIZED, "text/plain", why);
        let scheme = HeaderValue::from_static("Bearer realm=\"hybridgrid\"");
        refusal.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        Some(refusal)
    }

    async fn page(&self, method: &Method, path: &str) -> Answer {
        let (kind, make): (_, fn(&Hub) -> Vec<u8>) = match path {
            "/health" => ("text/plain", |_| b"ok\n".to_vec()),
            "/metrics" => ("text/plain; version=0.0.4", |hub| hub.metrics_text()),
            "/api/v1/workers" => ("application/json", workers),
            _ => return answer(StatusCode::NOT_FOUND, "text/plain", "not found\n"),
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            let mut refusal = answer(status, "text/plain", "only GET\n");
            let allowed = HeaderValue::from_static("GET, HEAD");
            refusal.headers_mut().insert(ALLOW, allowed);
            return refusal;
        }
        let hub = self.hub.clone();
        // It is never closed. Who hangs up has his turn until the page is made.
        let turn = self.turn.clone().acquire_owned().await;
        let make = move || {
            let _turn = turn;
            make(&hub)
        };
        match tokio::task::spawn_blocking(make).await {
            Ok(body) => answer(StatusCode::OK, kind, body),
            Err(_) => answer(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "a bug\n"),
        }
    }
}

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.extend(SECURITY_HEADERS);
    answer
}

fn workers(hub: &Hub) -> Vec<u8> {
    let list: Vec<Value> = hub.workers().iter().map(json::worker).collect();
    let mut text = Value::Array(list).to_string().into_bytes();
    text.push(b'\n');
    text
}
