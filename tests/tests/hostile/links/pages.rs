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
    "content-security-policy: default-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
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
    for path in ["/health", "/metrics", "/api/v1/workers", "/nothing"] {
        let get = |more: &str| ask(&address, &pin, &request("GET", path, "grid.example", more)).0;
        assert_eq!(get(""), 401, "{path}");
        assert_eq!(get(&bearer("hgt1.AAAA")), 401, "{path}");
        assert_eq!(get(&bearer(&token(&["--role", "worker"]))), 401, "{path}");
        assert_eq!(get(&bearer(&late)), 401, "{path}");
        assert_eq!(get(&format!("Cookie: token={user}\r\n")), 401, "{path}");
        // Two of them are none.
        assert_eq!(get(&bearer(&user).repeat(2)), 401, "{path}");
        let there = if path == "/nothing" { 404 } else { 200 };
        for good in [
            bearer(&user),
            format!("Cookie: a=b; hg_token={user}\r\n"),
            bearer(&token(&["--role", "admin"])),
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
    let (status, head) = ask(&address, &pin, &request("GET", "/", "grid.example", ""));
    assert_eq!(status, 401);
    assert!(head.contains("www-authenticate: bearer"), "{head}");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    // Neither in plaintext, nor after a revocation.
    assert_eq!(
        ask_plainly(&address, &request("GET", "/health", "x", &bearer(&user))).0,
        0
    );
    secrets::revoke(&state, &pin.claims.name).expect("a revocation");
    until(&started, "the revocation", || {
        let get = request("GET", "/health", "grid.example", &bearer(&user));
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
