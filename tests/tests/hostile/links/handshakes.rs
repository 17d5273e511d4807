//! Handshakes that are none, are of another time, or have no end.

use std::io::Write;
use std::net::TcpStream;

use hg_proto::secure::tls::{ALPN_GRPC, ALPN_WORKER, Trust};
use hg_proto::secure::token::Fingerprint;
use hg_proto::v1::from_worker;
use hg_tests::grid::Grid;
use hg_tests::h2;
use hg_tests::hostile::{
    assert_bounded, build_under, dropped, greeting, hello, raise_fds, resident, wait_dropped,
};
use hg_tests::programs::programs;
use hg_tests::running::until;
use hg_tests::skip;
use hg_tests::tls_peer::{TlsPeer, hung_up, socket};

use super::fingerprint;

/// Connections that stop in the middle of a handshake.
const HALF_OPEN: usize = 5_000;
/// File descriptors that the test needs for itself.
const FDS_OWN: usize = 500;

/// A ClientHello (RFC 5246, section 7.4.1.2) of one who knows TLS 1.2 and no more.
fn tls_1_2_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    // No session; ECDHE_ECDSA and ECDHE_RSA with AES_128_GCM_SHA256; no compression.
    body.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    let mut extensions = Vec::new();
    // Groups x25519 and secp256r1, points, signatures.
    extensions.extend([0, 10, 0, 6, 0, 4, 0, 29, 0, 23]);
    extensions.extend([0, 11, 0, 2, 1, 0]);
    extensions.extend([0, 13, 0, 8, 0, 6, 4, 3, 8, 4, 4, 1]);
    // ALPN "h2".
    extensions.extend([0, 16, 0, 5, 0, 3, 2, b'h', b'2']);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut message = vec![1, 0];
    message.extend((body.len() as u16).to_be_bytes());
    message.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend((message.len() as u16).to_be_bytes());
    record.extend(message);
    record
}

/// Sends `bytes`, and gives the answer once the other end has hung up.
fn answer(grid: &Grid, what: &str, bytes: &[u8]) -> Vec<u8> {
    let mut peer = socket(&grid.address()).expect("a connection");
    let _ = peer.write_all(bytes);
    let mut answer = Vec::new();
    let end = std::io::Read::read_to_end(&mut peer, &mut answer);
    let lives = end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!lives, "{what}: the connection lives");
    answer
}

#[test]
fn another_time_or_another_language_is_not_spoken() {
    let grid = Grid::start(programs(), 2, 2);
    let pin = Trust::Pinned(fingerprint(&grid));
    let rest = resident(&grid.coordinator);
    let count = |what: &str, reason: &str, attack: &dyn Fn()| {
        let before = dropped(&grid, reason);
        attack();
        wait_dropped(&grid, reason, before + 1);
        eprintln!("{what}: {reason}");
    };
    build_under(&grid, "handshakes", || {
        count("TLS 1.2", "tls_failed", &|| {
            // A fatal alert: protocol_version (RFC 8446, section 6).
            let said = answer(&grid, "TLS 1.2", &tls_1_2_hello());
            assert_eq!(said, [21, 3, 3, 0, 2, 2, 70]);
        });
        count("noise", "tls_failed", &|| {
            answer(
                &grid,
                "noise",
                &[[22, 3, 1, 0, 9].as_slice(), &[0xff; 999]].concat(),
            );
        });
        count("plaintext HTTP/2", "plaintext", &|| {
            assert_eq!(answer(&grid, "HTTP/2", h2::PREFACE), b"");
        });
        count("a worker in plaintext", "plaintext", &|| {
            assert_eq!(answer(&grid, "a worker", &greeting(hello(1))), b"");
        });
        count("no ALPN", "unknown_protocol", &|| {
            let mut peer = TlsPeer::dial(&grid.address(), &pin, &[]).expect("a handshake");
            peer.write(h2::PREFACE);
            assert!(hung_up(&mut peer.stream));
        });
        count("unknown ALPN", "tls_failed", &|| {
            let peer = TlsPeer::dial(&grid.address(), &pin, &[b"http/1.1", b"hgw/0"]);
            assert!(peer.is_err());
        });
        count("no HTTP/2 after the handshake", "unknown_protocol", &|| {
            let peer = TlsPeer::dial(&grid.address(), &pin, &[ALPN_GRPC]);
            let mut peer = peer.expect("a handshake");
            peer.write(&[0xee; 4_000]);
            assert!(hung_up(&mut peer.stream));
        });
        count("no frames of HTTP/2", "http2_error", &|| {
            let peer = TlsPeer::dial(&grid.address(), &pin, &[ALPN_GRPC]);
            let mut peer = peer.expect("a handshake");
            let data_before_headers = h2::frame(h2::DATA, 0, 1, &[1; 10]);
            let settings = h2::frame(h2::SETTINGS, 0, 0, &[]);
            peer.write(&[h2::PREFACE, &settings, &data_before_headers].concat());
            assert!(hung_up(&mut peer.stream));
        });
        count("no frames of a worker", "frame_too_long", &|| {
            let peer = TlsPeer::dial(&grid.address(), &pin, &[ALPN_WORKER]);
            let mut peer = peer.expect("a handshake");
            peer.write(&[0xee; 4_000]);
            assert!(hung_up(&mut peer.stream));
        });
        // Whether the handshake was over for the coordinator too is a matter of luck.
        let broken = || dropped(&grid, "closed_before_hello") + dropped(&grid, "tls_failed");
        let before = broken();
        let mut peer = TlsPeer::dial(&grid.address(), &pin, &[ALPN_WORKER]).expect("a handshake");
        // Not encrypted by anybody.
        let _ = peer
            .stream
            .sock
            .write_all(&[&[23, 3, 3, 0, 50][..], &[9; 50]].concat());
        assert!(
            hung_up(&mut peer.stream),
            "broken records: the connection lives"
        );
        until(&grid.coordinator, "broken records", || {
            (broken() > before).then_some(())
        });
    });
    grid.wait_for_workers(2);
    assert_bounded("handshakes", &grid, rest);
}

/// The first bytes of a good dialler, until the coordinator's first answer.
fn client_hello(grid: &Grid, fingerprint: Fingerprint) -> Vec<u8> {
    let peer = TlsPeer::worker(&grid.address(), fingerprint);
    let tape = &peer.stream.sock.tape;
    let len = u16::from_be_bytes([tape[3], tape[4]]);
    tape[..5 + usize::from(len)].to_vec()
}

#[test]
fn handshakes_that_stop_in_the_middle() {
    let grid = Grid::start(programs(), 2, 2);
    let fds = raise_fds();
    let count = fds.limit.saturating_sub(FDS_OWN).min(HALF_OPEN);
    if count < HALF_OPEN {
        let why = format!("only {count}: RLIMIT_NOFILE");
        skip("five thousand half-open handshakes", &why);
    }
    let whole = client_hello(&grid, fingerprint(&grid));
    let rest = resident(&grid.coordinator);
    let reasons = [
        "crowded",
        "silent",
        "closed_before_hello",
        "tls_failed",
        "no_hello",
    ];
    let gone = || {
        reasons
            .iter()
            .map(|reason| dropped(&grid, reason))
            .sum::<u64>()
    };
    let before = gone();
    build_under(&grid, "half-open handshakes", || {
        let mut peers: Vec<TcpStream> = Vec::new();
        for number in 0..count {
            let mut peer = socket(&grid.address()).expect("a connection");
            // Half of a hello, a whole one and then nothing, or one byte now and then.
            let _ = match number % 3 {
                0 => peer.write_all(&whole[..whole.len() / 2]),
                1 => peer.write_all(&whole),
                _ => peer.write_all(&whole[..1]),
            };
            peers.push(peer);
            if number % 100 == 0 {
                for slow in peers.iter_mut().skip(2).step_by(3) {
                    let _ = slow.write_all(&whole[1..2]);
                }
            }
        }
        assert_bounded("half-open handshakes", &grid, rest);
        until(&grid.coordinator, "the end of them", || {
            (gone() >= before + count as u64).then_some(())
        });
    });
    assert_bounded("half-open handshakes", &grid, rest);
}

#[test]
fn a_handshake_and_then_nothing() {
    let grid = Grid::start(programs(), 1, 2);
    let pin = fingerprint(&grid);
    let rest = resident(&grid.coordinator);
    build_under(&grid, "silent links", || {
        let mut peers: Vec<TlsPeer> = (0..100)
            .map(|_| TlsPeer::worker(&grid.address(), pin))
            .collect();
        for peer in &mut peers {
            // The head of a long hello.
            peer.write(&[0, 0, 0x7f, 0xff]);
        }
        wait_dropped(&grid, "no_hello", 100);
        let mut late = peers.remove(0);
        late.say(from_worker::Kind::Hello(hello(1)));
        assert!(hung_up(&mut late.stream));
    });
    assert_bounded("silent links", &grid, rest);
}
