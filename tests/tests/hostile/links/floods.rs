//! Floods by somebody who has a good token.

use std::io::Write;
use std::thread;

use hg_coord::bounds::SILENT_MAX;
use hg_proto::secure::token::Fingerprint;
use hg_proto::v1::{self, from_worker};
use hg_tests::grid::Grid;
use hg_tests::h2::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, call_headers,
    frame,
};
use hg_tests::hostile::{
    assert_bounded, build_now, build_under, dropped, encoded, hello, raise_fds, refused, resident,
    wait_dropped,
};
use hg_tests::programs::programs;
use hg_tests::running::until;
use hg_tests::skip;
use hg_tests::tls_peer::{TlsPeer, hung_up, socket};

use super::fingerprint;

/// Connections of an address that comes too fast: so many that it can't be missed.
const TRIES_MAX: usize = 12_000;
/// Of these, between two looks at what became of them; by so many threads.
const TRIES: usize = 1_000;
const THREADS: usize = 4;
/// Frames of one flood.
const FLOOD: usize = 60_000;

/// One connection of HTTP/2 whose other end reads nothing of the answers until it
/// has said everything.
struct Flood<'a> {
    grid: &'a Grid,
    pin: Fingerprint,
    bearer: String,
}

impl Flood<'_> {
    fn headers(&self, method: &str) -> Vec<u8> {
        call_headers(method, &[("authorization", &self.bearer)])
    }

    /// Says `bytes`, and is dropped for `reason`.
    fn ends(&self, what: &str, reason: &str, bytes: &[u8]) {
        let before = dropped(self.grid, reason);
        let mut peer = self.open();
        peer.write(bytes);
        wait_dropped(self.grid, reason, before + 1);
        assert!(hung_up(&mut peer.stream), "{what}: the connection lives");
        assert_eq!(
            dropped(self.grid, reason),
            before + 1,
            "{what}: counted once"
        );
        eprintln!("{what}: {reason}");
    }

    fn open(&self) -> TlsPeer {
        let mut peer = TlsPeer::grpc(&self.grid.address(), self.pin);
        peer.write(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
        peer
    }
}

fn repeat(count: usize, each: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    // Streams of clients have odd numbers.
    (0..count).flat_map(|n| each(2 * n as u32 + 1)).collect()
}

#[test]
fn frames_of_http2_by_the_thousand() {
    let grid = Grid::start(programs(), 2, 2);
    let flood = Flood {
        grid: &grid,
        pin: fingerprint(&grid),
        bearer: format!("Bearer {}", grid.token(&["--role", "client"])),
    };
    let rest = resident(&grid.coordinator);
    build_under(&grid, "floods", || {
        let pings = frame(PING, 0, 0, &[7; 8]).repeat(FLOOD);
        flood.ends("pings", "http2_flood", &pings);
        let settings = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]).repeat(FLOOD);
        flood.ends("settings", "http2_flood", &settings);
        let open = flood.headers("SubmitTask");
        let cancel = 8_u32.to_be_bytes();
        let resets = repeat(FLOOD / 3, |stream| {
            let open = frame(HEADERS, END_HEADERS, stream, &open);
            [open, frame(RST_STREAM, 0, stream, &cancel)].concat()
        });
        flood.ends("rapid reset", "http2_flood", &resets);
        // Streams beyond what one connection may have are refused one by one.
        let streams = repeat(FLOOD / 3, |stream| {
            frame(HEADERS, END_HEADERS, stream, &open)
        });
        let mut peer = flood.open();
        peer.write(&streams);
        assert_bounded("many streams", &grid, rest);
        drop(peer);
        // A list of headers without end.
        let pieces = frame(
            CONTINUATION,
            0,
            1,
            &[&[0, 1, b'x', 100][..], &[b'y'; 100]].concat(),
        );
        let headers = [frame(HEADERS, 0, 1, &open), pieces.repeat(FLOOD / 3)].concat();
        flood.ends("a list of headers", "http2_flood", &headers);
        // Nothing, on a stream that is open.
        let nothing = frame(DATA, 0, 1, &[]).repeat(FLOOD);
        let nothing = [frame(HEADERS, END_HEADERS, 1, &open), nothing].concat();
        flood.ends("empty frames", "http2_flood", &nothing);
    });
    assert_bounded("floods", &grid, rest);
}

/// Only there can a test come from another address.
#[cfg(target_os = "linux")]
#[test]
fn an_address_that_floods_again_and_again_is_shut_out() {
    use hg_proto::secure::tls::{ALPN_GRPC, Trust};
    use hg_tests::tls_peer::socket_from;

    let grid = Grid::start(programs(), 1, 2);
    let trust = Trust::Pinned(fingerprint(&grid));
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(FLOOD);
    let flood = || {
        let socket = socket_from([127, 0, 0, 3].into(), &grid.address())?;
        let mut peer = TlsPeer::over(socket, &grid.address(), &trust, &[ALPN_GRPC])?;
        peer.write(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &pings].concat());
        assert!(hung_up(&mut peer.stream));
        Ok::<_, std::io::Error>(())
    };
    let floods = (1..200).find(|_| flood().is_err());
    eprintln!("shut out at connection {floods:?}");
    assert!(floods.is_some_and(|floods| floods > 10), "{floods:?}");
    wait_dropped(&grid, "shut_out", 1);
    // Nobody else is.
    build_now(&grid, "beside one that is shut out");
}

/// See above.
#[cfg(target_os = "linux")]
#[test]
fn an_address_that_comes_too_fast_waits_for_its_turn() {
    use hg_proto::secure::tls::{ALPN_GRPC, Trust};
    use hg_tests::tls_peer::socket_from;

    let grid = Grid::start(programs(), 1, 2);
    let trust = Trust::Pinned(fingerprint(&grid));
    let address = grid.address();
    let open = || socket_from([127, 0, 0, 4].into(), &address);
    let fds = raise_fds();
    if fds.limit < TRIES_MAX + 512 {
        return skip(
            "an address that comes too fast",
            &format!("RLIMIT_NOFILE is {}", fds.limit),
        );
    }
    // They stay open, since whoever leaves before a handshake is a nuisance.
    let mut held = vec![];
    let mut tries = 0;
    let reason = "too_many_handshakes";
    while dropped(&grid, reason) == 0 {
        assert!(tries < TRIES_MAX, "{tries} connections");
        tries += TRIES;
        let some = || (0..TRIES / THREADS).filter_map(|_| open().ok()).collect();
        thread::scope(|scope| {
            let threads: [_; THREADS] = std::array::from_fn(|_| scope.spawn(some));
            for thread in threads {
                held.extend::<Vec<_>>(thread.join().expect("a thread"));
            }
        });
    }
    eprintln!("dropped after {tries} connections");
    assert!(tries > 2_000, "{tries}");
    build_now(&grid, "beside one that comes too fast");
    // Its turn comes again.
    until(&grid.coordinator, "a handshake", || {
        TlsPeer::over(open().ok()?, &grid.address(), &trust, &[ALPN_GRPC]).ok()
    });
}

#[test]
fn whoever_shows_no_token_gives_way() {
    let grid = Grid::insecure(programs(), 1, 2);
    let fds = raise_fds();
    if fds.limit < SILENT_MAX + 512 {
        return skip(
            "thousands that ask for nothing",
            &format!("RLIMIT_NOFILE is {}", fds.limit),
        );
    }
    let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let open = || {
        let mut stream = socket(&grid.address()).expect("a connection");
        stream.write_all(&hello).expect("a greeting");
        stream
    };
    let mut first = open();
    let held: Vec<_> = (0..SILENT_MAX).map(|_| open()).collect();
    assert!(hung_up(&mut first), "{} more are there", held.len());
    wait_dropped(&grid, "crowded", 1);
    build_now(&grid, "beside thousands that ask for nothing");
}

#[test]
fn headers_that_are_too_large_are_refused_unread() {
    let grid = Grid::start(programs(), 1, 2);
    let flood = Flood {
        grid: &grid,
        pin: fingerprint(&grid),
        bearer: "Bearer nonsense".into(),
    };
    let rest = resident(&grid.coordinator);
    build_under(&grid, "large headers", || {
        let large = "v".repeat(14_000);
        let more = [
            ("authorization", flood.bearer.as_str()),
            ("x-a", &large),
            ("x-b", &large),
        ];
        let block = call_headers("GetStatus", &more);
        let (first, second) = block.split_at(16_000);
        let mut peer = flood.open();
        for number in 0..200 {
            let stream = 2 * number + 1;
            peer.write(&frame(HEADERS, 0, stream, first));
            peer.write(&frame(CONTINUATION, END_HEADERS, stream, second));
        }
        // One that is looked at, after them.
        let small = call_headers("GetStatus", &[]);
        peer.write(&frame(HEADERS, END_HEADERS, 401, &small));
        until(&grid.coordinator, "an answer to the last", || {
            (refused(&grid, "no_token") == 1).then_some(())
        });
        assert_eq!(refused(&grid, "bad_token"), 0);
        assert_bounded("large headers", &grid, rest);
    });
    assert_bounded("large headers", &grid, rest);
}

#[test]
fn a_worker_that_says_the_same_for_ever() {
    let grid = Grid::start(programs(), 2, 2);
    let pin = fingerprint(&grid);
    let rest = resident(&grid.coordinator);
    let token = grid.token(&["--role", "worker", "--name", "chatterbox"]);
    let beat = encoded(from_worker::Kind::Heartbeat(v1::Heartbeat {
        slots_why: "\x1b[2J<script>".repeat(50),
        ..v1::Heartbeat::default()
    }));
    build_under(&grid, "heartbeats", || {
        let mut peer = TlsPeer::worker(&grid.address(), pin);
        peer.say(from_worker::Kind::Hello(v1::Hello { token, ..hello(3) }));
        // Its answers are not read: it is dropped for that, or the answers fill
        // what the system holds for it.
        let _ = peer.stream.sock.flush();
        peer.write(&beat.repeat(2_000));
        let drain = encoded(from_worker::Kind::Draining(v1::Draining {}));
        peer.write(&drain.repeat(20_000));
        assert_bounded("heartbeats", &grid, rest);
        let pages = grid.get("/api/v1/workers").expect("workers");
        assert!(
            !pages.contains('\x1b') && !pages.contains("\\u001b"),
            "{pages}"
        );
    });
    grid.wait_for_workers(2);
    assert_bounded("heartbeats", &grid, rest);
}

#[test]
fn a_flood_of_hellos() {
    let grid = Grid::start(programs(), 2, 2);
    let pin = fingerprint(&grid);
    let rest = resident(&grid.coordinator);
    build_under(&grid, "hellos", || {
        // A token of one role, again and again, as workers of any name.
        let token = grid.token(&["--role", "worker", "--name", "many"]);
        let peers: Vec<TlsPeer> = (0..150_u8)
            .map(|number| {
                let mut peer = TlsPeer::worker(&grid.address(), pin);
                let token = token.clone();
                let name = format!("worker-{}", number % 3);
                let hello = v1::Hello {
                    token,
                    name,
                    ..hello(number)
                };
                peer.say(from_worker::Kind::Hello(hello));
                peer
            })
            .collect();
        grid.wait_for_workers(2 + peers.len());
        let token = grid.token(&["--role", "client"]);
        for _ in 0..200 {
            let mut peer = TlsPeer::worker(&grid.address(), pin);
            let check = v1::Check {
                token: token.clone(),
            };
            peer.say(from_worker::Kind::Check(check));
            assert!(hung_up(&mut peer.stream));
        }
    });
    grid.wait_for_workers(2);
    assert_bounded("hellos", &grid, rest);
}
