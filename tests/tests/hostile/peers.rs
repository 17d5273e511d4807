//! Peers that break every rule, at the coordinator's ports and at a worker's
//! end of the line: they are dropped for a counted reason, memory stays
//! bounded, and a build that runs at the same time is compiled by the workers.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use hg_proto::v1::{self, FromWorker, ToWorker, from_worker, to_worker};
use hg_proto::wire::frame::{self, Decoder};
use hg_proto::wire::limits::{CHUNK_BYTES_MAX, FRAME_BYTES_MAX, OUTPUT_WINDOW_BYTES};
use hg_tests::command::{run_within, scrubbed};
use hg_tests::daemon::Daemon;
use hg_tests::grid::Grid;
use hg_tests::h2;
use hg_tests::hostile::{
    assert_bounded, build_under, dropped, encoded, framed, greeting, hello, raise_fds, resident,
    wait_dropped,
};
use hg_tests::impostor::{Chosen, Impostor};
use hg_tests::programs::programs;
use hg_tests::running::{PATIENCE, until};
use hg_tests::skip;
use nix::sys::signal::Signal;

/// Connections that say nothing.
const SILENT: usize = 10_000;
/// File descriptors that the test needs for itself.
const FDS_OWN: usize = 500;

/// A grid of two workers, and what its coordinator takes at rest.
fn grid() -> (Grid, u64) {
    let grid = Grid::insecure(programs(), 2, 2);
    let rest = resident(&grid.coordinator);
    (grid, rest)
}

fn attacks() -> Vec<(&'static str, Vec<u8>)> {
    let after_hello = |instance: u8, kind| [greeting(hello(instance)), encoded(kind)].concat();
    let toolchain = v1::Toolchain {
        digest: vec![3; 32],
        ..v1::Toolchain::default()
    };
    let unknown = |dispatch_id| v1::Chunk {
        dispatch_id,
        blob: 0,
        data: vec![0; 100],
        last: true,
    };
    let done = v1::Done {
        dispatch_id: 77,
        result: Some(v1::TaskResult::default()),
    };
    let failed = v1::Failed {
        dispatch_id: u64::MAX,
        failure: None,
    };
    let many_toolchains = v1::Hello {
        toolchains: vec![v1::Toolchain::default(); 100_000],
        ..hello(1)
    };
    vec![
        (
            "frame_too_long",
            (FRAME_BYTES_MAX as u32 + 1).to_be_bytes().to_vec(),
        ),
        ("unknown_protocol", vec![0xff; 1 << 20]),
        ("unknown_protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("frame_empty", vec![0; 8]),
        (
            "frame_garbage",
            framed(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
        ("unknown_message", framed(&[0xfa, 0x01, 0x00])),
        (
            "no_hello",
            encoded(from_worker::Kind::Draining(v1::Draining {})),
        ),
        (
            "bad_hello",
            greeting(v1::Hello {
                slots: 4_000_000_000,
                ..hello(2)
            }),
        ),
        (
            "bad_hello",
            greeting(v1::Hello {
                slots: 0,
                ..hello(2)
            }),
        ),
        (
            "bad_hello",
            greeting(v1::Hello {
                protocol_version: 99,
                ..hello(2)
            }),
        ),
        (
            "bad_hello",
            greeting(v1::Hello {
                instance: vec![1; 1_000],
                ..hello(2)
            }),
        ),
        (
            "bad_hello",
            greeting(v1::Hello {
                toolchains: vec![toolchain; 65],
                ..hello(2)
            }),
        ),
        ("frame_too_long", greeting(many_toolchains)),
        (
            "frame_too_long",
            greeting(v1::Hello {
                name: "n".repeat(1_000_000),
                ..hello(3)
            }),
        ),
        (
            "second_hello",
            after_hello(4, from_worker::Kind::Hello(hello(4))),
        ),
        (
            "unknown_dispatch",
            after_hello(5, from_worker::Kind::Done(done)),
        ),
        (
            "unknown_dispatch",
            after_hello(6, from_worker::Kind::Failed(failed)),
        ),
        (
            "unknown_dispatch",
            after_hello(7, from_worker::Kind::Chunk(unknown(1))),
        ),
        (
            "frame_garbage",
            [greeting(hello(8)), framed(&[0x22, 0x03, 0x08])].concat(),
        ),
        (
            "frame_too_long",
            [greeting(hello(9)), vec![0xff; 64]].concat(),
        ),
    ]
}

#[test]
fn what_breaks_the_protocol_is_dropped_and_others_notice_nothing() {
    let (grid, rest) = grid();
    build_under(&grid, "bytes", || {
        for (reason, bytes) in attacks() {
            let before = dropped(&grid, reason);
            let mut peer = TcpStream::connect(grid.address()).expect("a connection");
            peer.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            // It may hang up before it has read everything.
            let _ = peer.write_all(&bytes);
            wait_dropped(&grid, reason, before + 1);
            let end = peer.read_to_end(&mut Vec::new());
            let hung_up = !matches!(&end, Err(error) if error.kind() == ErrorKind::WouldBlock);
            assert!(hung_up, "{reason}: the connection lives");
        }
    });
    grid.wait_for_workers(2);
    assert_bounded("bytes", &grid, rest);
}

#[test]
fn a_name_is_no_command_for_a_terminal() {
    let (grid, _) = grid();
    let name = "evil\x1b[2J\x1b]0;owned\x07\r\n\u{9b}31m".to_owned() + &"x".repeat(10_000);
    let mut peer = TcpStream::connect(grid.address()).expect("a connection");
    let spoofed = v1::Hello { name, ..hello(1) };
    peer.write_all(&greeting(spoofed)).expect("a hello");
    grid.wait_for_workers(3);
    let mut pages = grid.get("/api/v1/workers").expect("workers");
    for words in [&["workers"][..], &["workers", "--json"], &["status"]] {
        let mut command = scrubbed(&programs().client, grid.folder(), grid.folder());
        grid.lead(command.args(words));
        let outcome = run_within(&mut command, PATIENCE);
        assert!(outcome.ok(), "{}", outcome.words());
        pages += &String::from_utf8(outcome.stdout).expect("UTF-8");
    }
    assert!(pages.contains("evil"), "{pages}");
    let control = |c: char| c.is_control() && c != '\n';
    assert!(!pages.contains(control), "{pages:?}");
    assert!(!pages.contains("\\u00"), "{pages:?}");
    assert!(pages.len() < 20_000, "{} bytes", pages.len());
}

#[test]
fn a_worker_that_cheats_costs_an_attempt() {
    type Cheat = fn(&mut Impostor, u64);
    let cheats: [(&str, Cheat); 4] = [
        ("bad_chunk", |worker, dispatch_id| {
            let chunk = v1::Chunk {
                dispatch_id,
                blob: 0,
                data: vec![1; CHUNK_BYTES_MAX],
                last: false,
            };
            // The client takes them as they come, so that there is credit; no
            // object of this source is so large, and it ends when dropped.
            let beyond = 40 * OUTPUT_WINDOW_BYTES as usize / CHUNK_BYTES_MAX;
            let frame = encoded(from_worker::Kind::Chunk(chunk)).repeat(beyond);
            let _ = worker.stream.write_all(&frame);
        }),
        ("bad_chunk", |worker, dispatch_id| {
            worker.say(from_worker::Kind::Chunk(v1::Chunk {
                dispatch_id,
                blob: u32::MAX,
                data: vec![1],
                last: true,
            }));
        }),
        ("bad_need", |worker, dispatch_id| {
            let digests = vec![vec![9; 32]; 1_000];
            worker.say(from_worker::Kind::Need(v1::Need {
                dispatch_id,
                digests,
            }));
        }),
        ("bad_result", |worker, dispatch_id| {
            let output = v1::Output {
                path: b"../../etc/passwd".to_vec(),
                digest: vec![1; 32],
                size: u64::MAX,
                encoding: v1::Encoding::Zstd.into(),
                encoded_size: u64::MAX,
            };
            let result = v1::TaskResult {
                outputs: vec![output; 100],
                ..v1::TaskResult::default()
            };
            worker.say(from_worker::Kind::Done(v1::Done {
                dispatch_id,
                result: Some(result),
            }));
        }),
    ];
    for (number, (reason, cheat)) in cheats.into_iter().enumerate() {
        let Chosen {
            mut grid,
            mut impostor,
            project,
            make,
            dispatch,
        } = Chosen::new(number as u8);
        cheat(&mut impostor, dispatch.dispatch_id);
        wait_dropped(&grid, reason, 1);
        let wrapped = make.finish();
        let plain = run_within(&mut project.plain_make(&["-j2"]), PATIENCE);
        project.assert_same_as(reason, &plain, wrapped);
        let events = project.events();
        assert!(
            events.iter().any(|e| e.worker == "worker-1"),
            "{}",
            project.told()
        );
        grid.workers[0].end(Signal::SIGTERM);
    }
}

#[test]
fn ten_thousand_that_say_nothing() {
    let (grid, rest) = grid();
    let fds = raise_fds();
    let count = fds.limit.saturating_sub(FDS_OWN).min(SILENT);
    if count < SILENT {
        skip(
            "ten thousand connections",
            &format!("only {count}: RLIMIT_NOFILE"),
        );
    }
    build_under(&grid, "silence", || {
        let connect = || TcpStream::connect(grid.address()).expect("a connection");
        let mut silent: Vec<TcpStream> = (0..count).map(|_| connect()).collect();
        // Half of a greeting is silence too.
        for (number, stream) in silent.iter_mut().enumerate().filter(|(n, _)| n % 10 == 0) {
            let half: &[u8] = if number % 20 == 0 {
                b"PRI * HT"
            } else {
                &[0, 0, 1]
            };
            let _ = stream.write_all(half);
        }
        assert_bounded("silence", &grid, rest);
        let all = ["crowded", "silent", "no_hello", "closed_before_hello"];
        until(&grid.coordinator, "the end of the silence", || {
            let gone: u64 = all.iter().map(|reason| dropped(&grid, reason)).sum();
            (gone >= count as u64).then_some(())
        });
    });
    assert_bounded("silence", &grid, rest);
}

#[test]
fn halves_of_long_frames_fill_no_memory() {
    let (grid, rest) = grid();
    let _fds = raise_fds();
    let count = 600;
    let mut half = (FRAME_BYTES_MAX as u32).to_be_bytes().to_vec();
    half.resize(900_000, 0x0a);
    build_under(&grid, "halves", || {
        let mut peers = Vec::new();
        for _ in 0..count {
            let mut peer = TcpStream::connect(grid.address()).expect("a connection");
            peer.set_write_timeout(Some(PATIENCE)).expect("a timeout");
            let _ = peer.write_all(&half);
            peers.push(peer);
        }
        assert_bounded("halves", &grid, rest);
        wait_dropped(&grid, "frame_too_long", count);
    });
}

#[test]
fn streams_that_are_opened_and_reset() {
    let (grid, rest) = grid();
    build_under(&grid, "resets", || {
        for _ in 0..5 {
            let mut peer = TcpStream::connect(grid.address()).expect("a connection");
            peer.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            peer.set_write_timeout(Some(PATIENCE)).expect("a timeout");
            let mut bytes = h2::PREFACE.to_vec();
            bytes.extend(h2::frame(4, 0, 0, &[]));
            for number in 0..20_000 {
                let stream = 2 * number + 1;
                bytes.extend(h2::frame(
                    1,
                    4,
                    stream,
                    &h2::call_headers("SubmitTask", &[]),
                ));
                bytes.extend(h2::frame(3, 0, stream, &8u32.to_be_bytes()));
            }
            // It has enough of it before the end.
            let _ = peer.write_all(&bytes);
            let end = peer.read_to_end(&mut Vec::new());
            let hung_up = !matches!(&end, Err(error) if error.kind() == ErrorKind::WouldBlock);
            assert!(hung_up, "the connection lives");
        }
        wait_dropped(&grid, "http2_flood", 5);
        assert_bounded("resets", &grid, rest);
    });
}

#[test]
fn requests_that_never_end() {
    let (grid, rest) = grid();
    build_under(&grid, "slow requests", || {
        let mut peers: Vec<TcpStream> = Vec::new();
        for _ in 0..300 {
            let mut peer = TcpStream::connect(grid.http()).expect("a connection");
            let _ = peer.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ");
            peers.push(peer);
            for peer in peers.iter_mut().rev().take(3) {
                let _ = peer.write_all(b"x");
            }
        }
        // Whoever asks properly gets an answer meanwhile.
        wait_dropped(&grid, "http_crowded", 200);
        assert_eq!(grid.get("/health").as_deref(), Ok("ok\n"));
        assert_bounded("slow requests", &grid, rest);
    });
}

/// A worker, and the test as its coordinator.
#[test]
fn a_coordinator_that_makes_no_sense() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = scrubbed(&programs().worker, folder.path(), folder.path());
    command
        .args([
            "serve",
            "--coordinator",
            &address,
            "--slots",
            "2",
            "--dedicated",
        ])
        .args([
            "--insecure",
            "--name",
            "victim",
            "--http",
            "127.0.0.1:0",
            "--state",
        ])
        .arg(folder.path().join("state"));
    let worker = Daemon::start("victim", &mut command, folder.path().join("log"));
    let said = |kind| frame::encode(&ToWorker { kind: Some(kind) }).expect("a frame");
    let welcome = || {
        said(to_worker::Kind::Welcome(v1::Welcome {
            protocol_version: hg_proto::PROTOCOL_VERSION,
            worker_id: "w".into(),
            heartbeat_ms: 1_000,
            window_bytes: OUTPUT_WINDOW_BYTES,
            token: String::new(),
        }))
    };
    let task = || {
        said(to_worker::Kind::Dispatch(v1::Dispatch {
            dispatch_id: 1,
            task: None,
            memory_bytes_expected: 0,
        }))
    };
    let mut long = (FRAME_BYTES_MAX as u32 + 1).to_be_bytes().to_vec();
    long.resize(2 << 20, 1);
    let attacks: [(&str, Vec<u8>); 6] = [
        ("too long", long),
        ("empty", vec![0; 64]),
        ("garbage", framed(&[0xff; 100])),
        ("no kind", framed(&[0xfa, 0x01, 0x00])),
        ("a task before the welcome", task()),
        ("two welcomes", [welcome(), welcome()].concat()),
    ];
    let rest = resident(&worker);
    for (what, bytes) in attacks {
        let mut peer = accept(&listener, &worker, what);
        let _ = peer.write_all(&bytes);
        let end = peer.read_to_end(&mut Vec::new());
        let hung_up = !matches!(&end, Err(error) if error.kind() == ErrorKind::WouldBlock);
        assert!(hung_up, "{what}: the worker stays\n{}", worker.stderr());
    }
    // It dials again, and is as good as before.
    let mut peer = accept(&listener, &worker, "the last");
    peer.write_all(&welcome()).expect("a welcome");
    let mut decoder = Decoder::new();
    let mut buffer = [0; 4096];
    let beats = std::iter::from_fn(|| {
        loop {
            match decoder.next_message::<FromWorker>().expect("frames") {
                Some(message) => return message.kind,
                None => {
                    let len = peer.read(&mut buffer).expect("a message in time");
                    decoder.push(&buffer[..len]);
                }
            }
        }
    })
    .filter(|kind| matches!(kind, from_worker::Kind::Heartbeat(_)));
    assert_eq!(beats.take(2).count(), 2);
    let now = resident(&worker);
    eprintln!(
        "a worker: {} KiB at rest, {} KiB now",
        rest >> 10,
        now >> 10
    );
    assert!(now < rest + (8 << 20), "from {rest} to {now} bytes");
}

fn accept(listener: &TcpListener, worker: &Daemon, what: &str) -> TcpStream {
    listener.set_nonblocking(true).expect("a listener");
    let stream = until(worker, &format!("a dial: {what}"), || {
        listener.accept().ok()
    })
    .0;
    stream.set_nonblocking(false).expect("a socket");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    stream
}
