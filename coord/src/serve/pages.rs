//! The pages on `--http`: `/health`, `/metrics`, the REST API, the dashboard and its live
//! socket. On loopback everybody may look; beyond it over TLS, who shows a viewer's, a
//! client's or an admin's token. `/health` and the dashboard's own files, which say nothing
//! of the grid, are for all. What changes the grid takes an admin's token, in a header.
//!
//! hyper's HTTP/1 answers: a connection is a task and no thread, so that one which is
//! slow costs others nothing, and there is no second port. A bounded number of them
//! is open, each for a bounded time and for one request; live sockets have a bound of
//! their own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hg_proto::secure::token::Role;
use hg_proto::wire::http_head::Head;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE, WWW_AUTHENTICATE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::bounds::{HTTP_CONNECTIONS_MAX, HTTP_HEAD_BYTES_MAX, HTTP_MS_MAX, OWN_METRICS_MS_MAX};
use crate::dispatch::hub::Hub;
use crate::door::crowd::Crowd;
use crate::log;
use crate::serve::api::{self, Query};
use crate::serve::dashboard;
use crate::serve::live::Live;
use crate::trust::auth::{Refusal, VIEWERS};
use crate::trust::doorkeeper::{self, Admitted, Doorkeeper};

/// Milliseconds to wait when there are no file descriptors left.
const EXHAUSTED_MS: u64 = 20;

/// What the pages show is text from many machines: nothing runs or loads but the files
/// that come with it, and it stands in no other page.
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 4] = [
    (
        HeaderName::from_static("content-security-policy"),
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
             connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
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

/// The live socket's own protocol (RFC 6455, section 1.9).
const LIVE_PROTOCOL: &str = "hybridgrid.live.v1";
/// Before a token among the protocols that a browser offers: it can't set other headers.
const LIVE_TOKEN: &str = "hybridgrid.token.";

type Answer = Response<Full<Bytes>>;

/// Who is asked, and how.
pub struct Guard {
    /// For those that come from elsewhere; `None`: the pages are for this machine.
    pub tls: Option<TlsAcceptor>,
    /// Knows who may look and change; `None`: nobody is asked (`--insecure`).
    pub keeper: Option<Arc<Doorkeeper>>,
}

/// The pages, and who may see them.
struct Pages {
    hub: Arc<Hub>,
    guard: Guard,
    /// Others can reach them, and are asked nothing (`--insecure-any-address`).
    is_open_to_all: bool,
    /// One page is made at a time, and not by the threads that relay.
    turn: Arc<Semaphore>,
    live: Arc<Live>,
}

/// Lets connections in, for ever.
pub async fn accept(listener: TcpListener, hub: Arc<Hub>, guard: Guard) {
    let own = listener.local_addr().ok();
    let live = Live::new(hub.clone());
    tokio::spawn(live.clone().make());
    let pages = Arc::new(Pages {
        is_open_to_all: own.is_some_and(|own| !own.ip().is_loopback()) && guard.tls.is_none(),
        live,
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
    async fn greet(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) -> bool {
        match &self.guard.tls {
            None => self.serve(stream, peer).await,
            Some(tls) => match tls.accept(stream).await {
                Ok(stream) => self.serve(stream, peer).await,
                Err(_) => false,
            },
        }
    }

    async fn serve(
        self: &Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
    ) -> bool {
        let service = service_fn(async |request: Request<Incoming>| {
            Ok::<_, Infallible>(self.reply(request, peer).await)
        });
        // One request: each answer but an upgrade says that it is the last.
        let connection = http1::Builder::new()
            // The whole connection has a deadline.
            .header_read_timeout(None)
            .max_buf_size(HTTP_HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        connection.await.is_ok()
    }

    async fn reply(self: &Arc<Self>, mut request: Request<Incoming>, peer: SocketAddr) -> Answer {
        let upgrade = hyper::upgrade::on(&mut request);
        let (head, _) = request.into_parts();
        let path = head.uri.path();
        let is_read = matches!(head.method, Method::GET | Method::HEAD);
        let headers = &head.headers;
        if let Some(refusal) = self.wrong_host(headers) {
            return refusal;
        }
        if let (Some(file), true) = (dashboard::file(path), is_read) {
            return answer(StatusCode::OK, file.kind, file.content);
        }
        if path == "/api/v1/session" && is_read {
            return self.session(headers, peer);
        }
        if let (&Method::POST, Some((worker, change))) = (&head.method, change_of(path)) {
            return self.change(headers, peer, &worker, change);
        }
        if path == "/health" && is_read {
            // A probe has no token, and learns only that a coordinator is there.
            return answer(StatusCode::OK, "text/plain", "ok\n");
        }
        let admitted = match self.admit(headers, peer, path == "/api/v1/live") {
            Ok(admitted) => admitted,
            Err(_) => return unauthorized(),
        };
        if !is_read {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            let mut refusal = answer(status, "text/plain", "only GET\n");
            let allowed = HeaderValue::from_static("GET, HEAD");
            refusal.headers_mut().insert(ALLOW, allowed);
            return refusal;
        }
        if path == "/api/v1/live" && headers.contains_key(UPGRADE) {
            return self.go_live(headers, upgrade, admitted);
        }
        if path == "/api/v1/discovery" {
            return self.discovery(headers);
        }
        if let Some(worker) = worker_of(path, "metrics") {
            return self.worker_metrics(&worker).await;
        }
        self.page(path, head.uri.query().unwrap_or_default()).await
    }

    /// Targets for Prometheus, each at the address under which it asks us: workers have no
    /// port, and are scraped through the coordinator.
    fn discovery(&self, headers: &HeaderMap) -> Answer {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.unwrap_or_default();
        let target = |path: String, role: &str, instance: &str| {
            json!({
                "targets": [host],
                "labels": {
                    "__metrics_path__": path,
                    "instance": instance,
                    "hybridgrid_role": role,
                },
            })
        };
        let mut targets = vec![target("/metrics".into(), "coordinator", "coordinator")];
        targets.extend(self.hub.measured_workers().iter().map(|worker| {
            let path = format!("/api/v1/workers/{}/metrics", percent_encoded(worker));
            target(path, "worker", worker)
        }));
        answer(StatusCode::OK, JSON, Value::Array(targets).to_string())
    }

    async fn worker_metrics(&self, worker: &str) -> Answer {
        let Some(asked) = self.hub.ask_metrics(worker) else {
            let why = "no such worker, or one that sends no metrics\n";
            return answer(StatusCode::NOT_FOUND, "text/plain", why);
        };
        let time = Duration::from_millis(OWN_METRICS_MS_MAX);
        match tokio::time::timeout(time, asked).await {
            Ok(Ok(text)) => answer(StatusCode::OK, METRICS, text),
            // Also if it left meanwhile.
            _ => answer(
                StatusCode::GATEWAY_TIMEOUT,
                "text/plain",
                "the worker did not answer\n",
            ),
        }
    }

    /// The answer to a browser that was led here by a name of elsewhere: pages that are
    /// meant for this machine alone are for who asks for it.
    fn wrong_host(&self, headers: &HeaderMap) -> Option<Answer> {
        let is_local = self.guard.tls.is_none() && !self.is_open_to_all;
        let why = "this address is for this machine: ask for localhost or 127.0.0.1\n";
        (is_local && !head_of(headers).is_local())
            .then(|| answer(StatusCode::FORBIDDEN, "text/plain", why))
    }

    /// Who may look; nobody is asked on this machine.
    fn admit(
        &self,
        headers: &HeaderMap,
        peer: SocketAddr,
        is_live: bool,
    ) -> Result<Option<Admitted>, Refusal> {
        let (Some(_), Some(keeper)) = (&self.guard.tls, &self.guard.keeper) else {
            return Ok(None);
        };
        let token = match head_of(headers).token() {
            "" if is_live => offered_token(headers),
            token => token,
        };
        self.viewer(keeper, token, peer)
    }

    /// Whose the token is that is shown.
    fn session(&self, headers: &HeaderMap, peer: SocketAddr) -> Answer {
        let admitted = match (&self.guard.keeper, head_of(headers).token()) {
            (Some(keeper), token) if !token.is_empty() => self.viewer(keeper, token, peer),
            _ => self.admit(headers, peer, false),
        };
        match admitted {
            Ok(who) => answer(StatusCode::OK, JSON, format!("{}\n", who_is(who.as_ref()))),
            Err(_) => unauthorized(),
        }
    }

    /// The holder of `token`, who may look.
    fn viewer(
        &self,
        keeper: &Doorkeeper,
        token: &str,
        peer: SocketAddr,
    ) -> Result<Option<Admitted>, Refusal> {
        let admitted = keeper.admit(token, None);
        let admitted = admitted.and_then(|who| who.may(&VIEWERS).map(|()| who));
        admitted
            .map(Some)
            .inspect_err(|why| doorkeeper::turn_away(&self.hub, peer.ip(), "a page", *why))
    }

    /// Does what an admin asks. Neither a cookie nor being on this machine is enough: a
    /// page of elsewhere could have a browser send such a request, but no such header.
    fn change(
        &self,
        headers: &HeaderMap,
        peer: SocketAddr,
        worker: &str,
        change: Change,
    ) -> Answer {
        let Some(keeper) = &self.guard.keeper else {
            let why = "nobody is asked who they are here: use hg-coord\n";
            return answer(StatusCode::FORBIDDEN, "text/plain", why);
        };
        let admitted = keeper.admit(head_of(headers).bearer(), None);
        let admitted = admitted.and_then(|who| who.may(&[Role::Admin]).map(|()| who));
        let who = match admitted {
            Ok(who) => who,
            Err(why) => {
                doorkeeper::turn_away(&self.hub, peer.ip(), "a change", why);
                return unauthorized();
            }
        };
        log::audit(format_args!(
            "{} of {worker} asked by {}",
            change.name(),
            who.name()
        ));
        let done = match change {
            Change::Drain | Change::Pause => self
                .hub
                .drain(worker, change == Change::Pause)
                .map(|(worker, running)| json!({ "worker": worker, "running": running })),
            Change::Readmit => match self.hub.readmit(worker) {
                0 => None,
                count => Some(json!({ "readmitted": count })),
            },
        };
        match done {
            Some(done) => answer(StatusCode::OK, JSON, format!("{done}\n")),
            None => answer(StatusCode::NOT_FOUND, "text/plain", "no such worker\n"),
        }
    }

    /// The answer to a browser that wants to hear what changes.
    fn go_live(
        self: &Arc<Self>,
        headers: &HeaderMap,
        upgrade: OnUpgrade,
        admitted: Option<Admitted>,
    ) -> Answer {
        // A page of elsewhere can open sockets here, and read them; its origin tells.
        if !is_same_origin(headers) {
            let why = "another page's origin\n";
            return answer(StatusCode::FORBIDDEN, "text/plain", why);
        }
        let is_socket = headers
            .get(UPGRADE)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
        let is_current = headers
            .get(SEC_WEBSOCKET_VERSION)
            .is_some_and(|value| value == "13");
        let key = headers
            .get(SEC_WEBSOCKET_KEY)
            .filter(|_| is_socket && is_current);
        let Some(key) = key.map(HeaderValue::as_bytes) else {
            let mut refusal = answer(
                StatusCode::UPGRADE_REQUIRED,
                "text/plain",
                "a WebSocket only\n",
            );
            let version = HeaderValue::from_static("13");
            refusal.headers_mut().insert(SEC_WEBSOCKET_VERSION, version);
            return refusal;
        };
        let Some(place) = self.live.place() else {
            let why = "too many live pages\n";
            return answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", why);
        };
        let accept = derive_accept_key(key);
        let pages = self.clone();
        tokio::spawn(async move {
            let _place = place;
            if let Ok(stream) = upgrade.await {
                pages.stay_live(TokioIo::new(stream), admitted).await;
            }
        });
        let mut switch = answer(StatusCode::SWITCHING_PROTOCOLS, "text/plain", "");
        let headers_of = switch.headers_mut();
        headers_of.remove(CONTENT_TYPE);
        headers_of.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers_of.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&accept) {
            headers_of.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if offered(headers).any(|name| name == LIVE_PROTOCOL) {
            let protocol = HeaderValue::from_static(LIVE_PROTOCOL);
            headers_of.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        switch
    }

    async fn stay_live(&self, stream: impl AsyncRead + AsyncWrite + Unpin, who: Option<Admitted>) {
        let mut hello = who_is(who.as_ref());
        hello["kind"] = json!("hello");
        hello["version"] = json!(env!("CARGO_PKG_VERSION"));
        let void = async {
            match (&who, &self.guard.keeper) {
                (Some(who), Some(keeper)) => drop(keeper.until_void(who).await),
                _ => std::future::pending().await,
            }
        };
        let mut closing = self.hub.closing.subscribe();
        tokio::select! {
            has_read = self.live.clone().serve(stream, hello) => if !has_read {
                self.hub.metrics.drop_connection("live_not_reading");
            },
            () = void => self.hub.metrics.drop_connection("live_revoked"),
            _ = closing.wait_for(|closing| *closing) => {}
        }
    }

    async fn page(&self, path: &str, query: &str) -> Answer {
        let query = match Query::parse(query) {
            Ok(query) => query,
            Err(why) => return answer(StatusCode::BAD_REQUEST, "text/plain", format!("{why}\n")),
        };
        let (hub, live, path) = (self.hub.clone(), self.live.clone(), path.to_owned());
        // It is never closed. Who hangs up has his turn until the page is made.
        let turn = self.turn.clone().acquire_owned().await;
        let make = move || {
            let _turn = turn;
            match (path.as_str(), path.strip_prefix("/api/v1/")) {
                ("/metrics", _) => Some((METRICS, hub.metrics_text().into())),
                (_, Some("live")) => Some((JSON, live.whole().as_str().to_owned().into())),
                (_, Some(path)) => api::answer(&hub, path, &query).map(|text| (JSON, text.into())),
                _ => None,
            }
        };
        match tokio::task::spawn_blocking(make).await {
            Ok(Some((kind, body))) => answer::<Bytes>(StatusCode::OK, kind, body),
            Ok(None) => answer(StatusCode::NOT_FOUND, "text/plain", "not found\n"),
            Err(_) => answer(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "a bug\n"),
        }
    }
}

/// The kind of all that the REST API answers.
const JSON: &str = "application/json";

/// The kind of metrics in Prometheus's text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What can be changed of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// No more tasks for it; then it leaves.
    Drain,
    /// No more tasks for it; it stays.
    Pause,
    /// It was paused, or audits have put it out: it gets tasks again.
    Readmit,
}

impl Change {
    fn name(self) -> &'static str {
        match self {
            Change::Drain => "drain",
            Change::Pause => "pause",
            Change::Readmit => "readmit",
        }
    }
}

/// The worker and the change of `/api/v1/workers/WORKER/CHANGE`.
fn change_of(path: &str) -> Option<(String, Change)> {
    let changes = [Change::Drain, Change::Pause, Change::Readmit];
    let mut named = changes
        .into_iter()
        .map(|change| (worker_of(path, change.name()), change));
    named.find_map(|(worker, change)| Some((worker?, change)))
}

/// The worker of `/api/v1/workers/WORKER/what`.
fn worker_of(path: &str, what: &str) -> Option<String> {
    let (worker, asked) = path.strip_prefix("/api/v1/workers/")?.split_once('/')?;
    percent_decoded(worker).filter(|_| asked == what)
}

/// `text` as one part of a path (RFC 3986, section 2.1).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// `text` without percent-encoding (RFC 3986, section 2.1); `None`: it is not well formed.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = str::from_utf8(rest.get(..2)?).ok()?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

fn head_of(headers: &HeaderMap) -> Head<'_> {
    let fields = headers.iter();
    Head::of(fields.map(|(name, value)| (name.as_str(), value.as_bytes())))
}

/// The protocols that a browser offers.
fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let fields = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter();
    let texts = fields.filter_map(|field| field.to_str().ok());
    texts.flat_map(|text| text.split(',').map(str::trim))
}

/// The token among them; empty: there is none.
fn offered_token(headers: &HeaderMap) -> &str {
    let mut tokens = offered(headers).filter_map(|name| name.strip_prefix(LIVE_TOKEN));
    tokens.next().unwrap_or_default()
}

/// Whether a browser's page is our own, or no browser asks.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let authority = origin.to_str().ok().and_then(|text| text.split_once("://"));
    let authority = authority.map(|(_, authority)| authority);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match (authority, host) {
        (Some(authority), Some(host)) => authority.eq_ignore_ascii_case(host),
        _ => false,
    }
}

/// Who looks; nobody who was asked: both are null.
fn who_is(who: Option<&Admitted>) -> Value {
    let role = who.and_then(|who| who.holder.as_ref());
    json!({
        "role": role.map(|holder| holder.role.name()),
        "name": who.map(Admitted::name),
    })
}

fn unauthorized() -> Answer {
    let why = "a token is needed: Authorization: Bearer TOKEN, or to look the cookie hg_token\n";
    let mut refusal = answer(StatusCode::UNAUTHORIZED, "text/plain", why);
    let scheme = HeaderValue::from_static("Bearer realm=\"hybridgrid\"");
    refusal.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    refusal
}

fn answer<B: Into<Bytes>>(status: StatusCode, kind: &'static str, body: B) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.extend(SECURITY_HEADERS);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_named_in_the_path() {
        let drain = change_of("/api/v1/workers/pi%2F3%20%3Cb%3E/drain");
        assert_eq!(drain, Some(("pi/3 <b>".to_owned(), Change::Drain)));
        assert_eq!(percent_encoded("pi/3 <b>"), "pi%2F3%20%3Cb%3E");
        for wrong in [
            "/api/v1/workers/pi",
            "/api/v1/workers/pi/explode",
            "/api/v1/workers/pi/drain/",
            "/api/v1/workers/%/drain",
            "/api/v1/workers/%+1/drain",
            "/api/v1/workers/%ff/drain",
        ] {
            assert_eq!(change_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn pages_of_elsewhere_hear_nothing() {
        let is_same = |origin: Option<&'static str>, host: &'static str| {
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            headers.insert(HOST, HeaderValue::from_static(host));
            is_same_origin(&headers)
        };
        assert!(is_same(None, "127.0.0.1:8080"));
        assert!(is_same(Some("http://127.0.0.1:8080"), "127.0.0.1:8080"));
        assert!(is_same(Some("https://Grid.lan:8080"), "grid.lan:8080"));
        for origin in ["http://evil.example", "null", "http://127.0.0.1:8081", ""] {
            assert!(!is_same(Some(origin), "127.0.0.1:8080"), "{origin}");
        }
    }
}
