//! The pages, beyond this machine and on it.

use std::io::{Read, Write};

use hg_coord::trust::secrets::{self, now_s};
use hg_proto::secure::tls::Trust;
use hg_proto::secure::token::{Role, Token};
use hg_tests::daemon::Daemon;
use hg_tests::grid::{Grid, coordinator, token};
use hg_tests::programs::programs;
use hg_tests::running::until;
use hg_tests::tls_peer::{TlsPeer, socket};

/// What every page says to a browser.
const SECURITY: [&str; 4] = [
    "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
    "x-content-type-options: nosniff",
    "referrer-policy: no-referrer",
    "cache-control: no-store",
];

/// The status of an answer, and its head in small letters.
fn status(answer: &str) -> (u16, String) {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.unwrap_or(0), head.to_ascii_lowercase())
}

fn request(method: &str, path: &str, host: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n")
}

/// Over TLS.
fn ask(address: &str, pin: &Token, request: &str) -> (u16, String) {
    let trust = Trust::Pinned(pin.fingerprint);
    let mut peer = TlsPeer::dial(address, &trust, &[b"http/1.1"]).expect("a handshake");
    peer.write(request.as_bytes());
    let mut answer = Vec::new();
    let _ = peer.stream.read_to_end(&mut answer);
    status(&String::from_utf8_lossy(&answer))
}

/// Over TLS, of a connection that may stay open: the status.
fn ask_first(address: &str, pin: &Token, request: &str) -> u16 {
    let trust = Trust::Pinned(pin.fingerprint);
    let mut peer = TlsPeer::dial(address, &trust, &[b"http/1.1"]).expect("a handshake");
    peer.write(request.as_bytes());
    let mut answer = [0; 12];
    let _ = peer.stream.read_exact(&mut answer);
    status(&String::from_utf8_lossy(&answer)).0
}

/// In plaintext.
fn ask_plainly(address: &str, request: &str) -> (u16, String) {
    let mut peer = socket(address).expect("a connection");
    let _ = peer.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = peer.read_to_end(&mut answer);
    status(&String::from_utf8_lossy(&answer))
}

#[test]
fn beyond_this_machine_pages_are_for_clients() {
    let folder = tempfile::tempdir().expect("a folder");
    let words = ["--listen", "127.0.0.1:0", "--http", "0.0.0.0:0"];
    let started: Daemon = coordinator(programs(), folder.path(), &words);
    let address = started.address("http").replace("0.0.0.0", "127.0.0.1");
    let token = |words: &[&str]| token(programs(), folder.path(), words);
    let user = token(&["--role", "client"]);
    let pin = Token::parse(&user).expect("a token");
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let state = folder.path().join("coordinator");
    let ours = secrets::reread(&state).expect("secrets");
    let late = ours.keyring.mint(Role::Client, "late", 1, now_s() - 1);
    let late = late.expect("a key").to_text();
    for path in [
        "/metrics",
        "/api/v1/workers",
        "/api/v1/live",
        "/api/v1/session",
        "/api/v1/workers/x/metrics",
        "/nothing",
    ] {
        let get = |more: &str| ask(&address, &pin, &request("GET", path, "grid.example", more)).0;
        assert_eq!(get(""), 401, "{path}");
        assert_eq!(get(&bearer("hgt1.AAAA")), 401, "{path}");
        assert_eq!(get(&bearer(&token(&["--role", "worker"]))), 401, "{path}");
        assert_eq!(get(&bearer(&late)), 401, "{path}");
        assert_eq!(get(&format!("Cookie: token={user}\r\n")), 401, "{path}");
        // Two of them are none.
        assert_eq!(get(&bearer(&user).repeat(2)), 401, "{path}");
        let is_missing = path == "/nothing" || path.ends_with("/x/metrics");
        let there = if is_missing { 404 } else { 200 };
        for good in [
            bearer(&user),
            format!("Cookie: a=b; hg_token={user}\r\n"),
            bearer(&token(&["--role", "admin"])),
            bearer(&token(&["--role", "viewer"])),
        ] {
            let (status, head) = ask(&address, &pin, &request("GET", path, "grid.example", &good));
            assert_eq!(status, there, "{path}: {good}");
            for header in SECURITY {
                assert!(head.contains(header), "{path}: no {header} in {head}");
            }
        }
    }
    let post = request("POST", "/api/v1/workers", "grid.example", &bearer(&user));
    assert_eq!(ask(&address, &pin, &post).0, 405);
    // A probe and a browser have none at first, and learn nothing of the grid.
    for path in ["/health", "/", "/dashboard/main.js"] {
        let (status, head) = ask(&address, &pin, &request("GET", path, "grid.example", ""));
        assert_eq!(status, 200, "{path}");
        for header in SECURITY {
            assert!(head.contains(header), "{path}: no {header} in {head}");
        }
    }
    let get = request("GET", "/api/v1/status", "grid.example", "");
    let (status, head) = ask(&address, &pin, &get);
    assert_eq!(status, 401);
    assert!(head.contains("www-authenticate: bearer"), "{head}");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    // A browser's socket can show it as a protocol alone.
    for (offered, status) in [
        (format!("hybridgrid.live.v1, hybridgrid.token.{user}"), 101),
        ("hybridgrid.live.v1".to_owned(), 401),
        (
            format!("hybridgrid.token.{}", token(&["--role", "worker"])),
            401,
        ),
    ] {
        let upgrade = format!(
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {offered}\r\n"
        );
        let get = request("GET", "/api/v1/live", "grid.example", &upgrade);
        let get = get.replace("Connection: close", "Connection: Upgrade");
        assert_eq!(ask_first(&address, &pin, &get), status, "{offered}");
    }
    // Neither in plaintext, nor after a revocation.
    assert_eq!(
        ask_plainly(&address, &request("GET", "/metrics", "x", &bearer(&user))).0,
        0
    );
    secrets::revoke(&state, &pin.claims.name).expect("a revocation");
    until(&started, "the revocation", || {
        let get = request("GET", "/metrics", "grid.example", &bearer(&user));
        (ask(&address, &pin, &get).0 == 401).then_some(())
    });
}

#[test]
fn on_this_machine_pages_are_for_who_asks_for_it() {
    let grid = Grid::start(programs(), 0, 1);
    let get = |host: &str| ask_plainly(&grid.http(), &request("GET", "/api/v1/workers", host, ""));
    for host in [grid.http(), "localhost:80".into(), "[::1]".into()] {
        let (status, head) = get(&host);
        assert_eq!(status, 200, "{host}");
        for header in SECURITY {
            assert!(head.contains(header), "no {header} in {head}");
        }
    }
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8080",
        "a\r\nHost: 127.0.0.1",
    ] {
        assert_eq!(get(host).0, 403, "{host}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let (status, head) =
            ask_plainly(&grid.http(), &request(method, "/metrics", "localhost", ""));
        assert_eq!(status, 405, "{method}");
        assert!(head.contains("allow: get, head"), "{head}");
    }
}

#[test]
fn changes_take_an_admins_token_in_a_header() {
    let grid = Grid::start(programs(), 1, 1);
    let (user, admin) = (
        grid.token(&["--role", "client"]),
        grid.token(&["--role", "admin"]),
    );
    let ask = |path: &str, more: &str| {
        let head = request("POST", path, &grid.http(), more);
        ask_plainly(&grid.http(), &head).0
    };
    let drain = "/api/v1/workers/worker-1/drain";
    for more in [
        String::new(),
        format!("Authorization: Bearer {user}\r\n"),
        format!("Cookie: hg_token={admin}\r\n"),
        // What a form of another page could send.
        "Origin: http://evil.example\r\nContent-Type: text/plain\r\n".to_owned(),
    ] {
        assert_eq!(ask(drain, &more), 401, "{more}");
    }
    let bearer = format!("Authorization: Bearer {admin}\r\n");
    let nobody = "/api/v1/workers/nobody/drain";
    assert_eq!(ask(nobody, &bearer), 404);
    assert_eq!(ask("/api/v1/workers/worker-1/readmit", &bearer), 404);
    assert_eq!(ask("/api/v1/workers/worker-1/explode", &bearer), 405);
    assert_eq!(ask(drain, &bearer), 200);
    grid.wait_for_workers(0);

    let insecure = Grid::insecure(programs(), 0, 1);
    let head = request("POST", drain, &insecure.http(), &bearer);
    assert_eq!(ask_plainly(&insecure.http(), &head).0, 403);
}
