//! Who crowds the pages of a coordinator or a worker, on the machine that they are
//! for.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use hg_tests::command::{run, scrubbed};
use hg_tests::daemon::Daemon;
use hg_tests::grid::{Grid, http_get};
use hg_tests::programs::programs;
use hg_tests::running::until;
use hg_tests::tls_peer::socket;

/// Requests that are begun and never ended.
const HALVES: usize = 300;
/// Threads that a program may have begun for them.
const THREADS_MORE_MAX: usize = 4;
/// Requests of one connection whose answers nobody reads: far more than the kernel
/// keeps for it.
const PIPELINED: usize = 20_000;

/// Both programs with pages, and where those are.
fn pages(grid: &Grid) -> [(&Daemon, String); 2] {
    let worker = &grid.workers[0];
    [
        (&grid.coordinator, grid.http()),
        (worker, worker.address("http")),
    ]
}

fn threads(daemon: &Daemon) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid()));
    tasks.map_or(0, Iterator::count)
}

/// TCP ports at which a process listens. Source: proc(5), /proc/net/tcp.
fn ports(daemon: &Daemon) -> BTreeSet<u16> {
    let proc = format!("/proc/{}", daemon.pid());
    let fds = fs::read_dir(format!("{proc}/fd")).expect("its descriptors");
    let links = fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    let own: BTreeSet<String> = links
        .filter_map(|link| {
            let name = link.to_str()?.strip_prefix("socket:[")?;
            Some(name.strip_suffix(']')?.to_owned())
        })
        .collect();
    let mut ports = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("{proc}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            // 0A: LISTEN.
            if words[3] == "0A" && own.contains(words[9]) {
                let (_, port) = words[1].rsplit_once(':').expect("a port");
                ports.insert(u16::from_str_radix(port, 16).expect("hexadecimal"));
            }
        }
    }
    ports
}

fn port(address: &str) -> u16 {
    let address: SocketAddr = address.parse().expect("an address");
    address.port()
}

#[test]
fn only_what_is_announced_is_open() {
    let grid = Grid::start(programs(), 1, 1);
    let announced = [port(&grid.address()), port(&grid.http())];
    assert_eq!(ports(&grid.coordinator), BTreeSet::from(announced));
    let worker = &grid.workers[0];
    let announced = [port(&worker.address("http"))];
    assert_eq!(ports(worker), BTreeSet::from(announced));
}

#[test]
fn requests_that_never_end_cost_no_threads_and_keep_nobody_out() {
    let grid = Grid::start(programs(), 1, 1);
    for (daemon, address) in pages(&grid) {
        let rest = threads(daemon);
        let mut peers: Vec<TcpStream> = Vec::new();
        for at in 0..HALVES {
            let mut peer = socket(&address).expect("a connection");
            let begun = [
                "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
                "G",
                "",
            ];
            let _ = peer.write_all(begun[at % begun.len()].as_bytes());
            peers.push(peer);
            if at % 50 == 0 {
                assert_eq!(http_get(&address, "/health").as_deref(), Ok("ok\n"));
            }
        }
        assert_eq!(http_get(&address, "/health").as_deref(), Ok("ok\n"));
        let now = threads(daemon);
        assert!(now <= rest + THREADS_MORE_MAX, "{rest} threads, now {now}");
        // The first had to go for the others.
        until(daemon, "the end of the first", || {
            matches!(peers[0].read(&mut [0; 64]), Ok(0) | Err(_)).then_some(())
        });
    }
}

#[test]
fn answers_that_nobody_reads_block_nobody() {
    let grid = Grid::start(programs(), 1, 1);
    for (_, address) in pages(&grid) {
        let mut peers = Vec::new();
        for _ in 0..8 {
            let mut peer = socket(&address).expect("a connection");
            let one = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
            peer.set_nonblocking(true).expect("no waiting");
            let all = one.repeat(PIPELINED);
            let mut left = all.as_bytes();
            while let Ok(len @ 1..) = peer.write(left) {
                left = &left[len..];
            }
            peers.push(peer);
            assert_eq!(http_get(&address, "/health").as_deref(), Ok("ok\n"));
        }
    }
}

#[test]
fn pages_of_a_worker_are_for_this_machine() {
    let grid = Grid::start(programs(), 1, 1);
    let address = grid.workers[0].address("http");
    let ask = |head: &str| {
        let mut peer = socket(&address).expect("a connection");
        peer.write_all(head.as_bytes()).expect("a request");
        let mut answer = String::new();
        let _ = peer.read_to_string(&mut answer);
        answer
    };
    let get = |host: &str| ask(&format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    for host in [address.as_str(), "localhost", "[::1]:9090"] {
        let answer = get(host);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
        let small = answer.to_ascii_lowercase();
        assert!(small.contains("x-content-type-options: nosniff"), "{small}");
        assert!(answer.contains("hybridgrid_worker_slots "), "{answer}");
    }
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "a\r\nHost: 127.0.0.1",
    ] {
        let answer = get(host);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{host}: {answer}");
        assert!(!answer.contains("hybridgrid_"), "{host}: {answer}");
    }
    let head = ask("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    let post = ask("POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
    let odd = ask("GET\r\n\r\n");
    assert!(odd.starts_with("HTTP/1.1 400 "), "{odd}");
    for open in ["0.0.0.0:0", "[::]:0"] {
        let mut command = scrubbed(&programs().worker, grid.folder(), grid.folder());
        command
            .args(["serve", "--coordinator", &grid.address(), "--http", open])
            .arg("--state")
            .arg(grid.folder().join("open"));
        let outcome = run(&mut command);
        assert!(!outcome.ok(), "{}", outcome.words());
        assert!(outcome.words().contains("loopback"), "{}", outcome.words());
    }
}
