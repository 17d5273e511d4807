//! A coordinator that is absent, deaf, mad or dies: builds go on, with the
//! objects, diagnostics and exit codes of the plain compiler, and the grid is
//! asked a few times, not by each compile.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hg_proto::v1::{self, submit_response::Kind};
use hg_tests::command::{run, run_within};
use hg_tests::fake_grid::{CALL, accepted, answer, end, say, started};
use hg_tests::grid::Grid;
use hg_tests::h2::{DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS, frame, header, message};
use hg_tests::programs::programs;
use hg_tests::project::{Project, slow};
use hg_tests::running::{PATIENCE, Running};
use nix::libc;
use nix::sys::signal::Signal;

/// Compiles at once.
const JOBS: usize = 4;
/// Seconds for which nobody asks a grid that has failed once.
const LEFT_ALONE_S: u64 = 10;
/// The same, of one that fails again and again.
const LEFT_ALONE_S_MAX: u64 = 40;
/// Milliseconds for which nobody asks one that may only be starting again.
const AWAITED_MS: u128 = 500;
/// So often a connection that breaks off is taken for that.
const CUTS_MAX: usize = 3;
/// What it may take until a grid that is back gets compiles again.
const BACK_TIME_MAX: Duration = Duration::from_secs(2);
/// Beside that, so many times what a compile takes on this machine now: the one that is
/// under way, those that find out, and as much for what the daemons do.
const BACK_COMPILES_MAX: u32 = 4;
/// Restarts in a row, with a build in the middle of them.
const RESTARTS: usize = 6;
/// Milliseconds between two signs of life of a coordinator without results.
const ALIVE_MS: u64 = 200;

/// A coordinator played by the test.
struct Fake {
    address: String,
    connections: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Fake {
    /// `serve` gets each connection, in a thread of its own.
    fn start(serve: impl Fn(&mut TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let (connections, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let fake = Fake {
            address,
            connections: connections.clone(),
            over: over.clone(),
        };
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                connections.fetch_add(1, Ordering::SeqCst);
                let serve = serve.clone();
                thread::spawn(move || {
                    // The client may leave at any moment.
                    let _ = serve(&mut stream);
                    hold(&mut stream);
                });
            }
        });
        fake
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(&self.address);
    }
}

/// Keeps a connection open until the client leaves.
fn hold(stream: &mut TcpStream) {
    let mut rest = [0; 4096];
    while matches!(stream.read(&mut rest), Ok(len) if len > 0) {}
}

/// Builds `project` against `address` and compares; gives what took how long.
fn build(what: &str, project: &Project, address: &str) -> Duration {
    let jobs = format!("-j{JOBS}");
    let began = Instant::now();
    let wrapped = run_within(&mut project.hgbuild_make(address, &[&jobs]), PATIENCE);
    let took = began.elapsed();
    let plain = run(&mut project.plain_make(&[&jobs]));
    assert!(plain.ok(), "{what}, plainly: {}", plain.words());
    project.assert_same_as(what, &plain, wrapped);
    took
}

/// All compiles stayed here, for one of these reasons.
fn assert_all_local(what: &str, project: &Project, count: usize, reasons: &[&str]) {
    let events = project.events();
    assert_eq!(events.len(), count, "{what}: an event each");
    for event in &events {
        let code = event.reason.split(':').next().unwrap_or_default();
        assert!(
            event.place == "local" && reasons.contains(&code),
            "{what}: {event:?}"
        );
    }
}

/// How often a grid that fails is asked by a build that took so long: by those
/// that were about to when it failed first, twice each since a connection that is cut
/// before anything came is dialled once more, and then by one at a time.
fn asked_max(took: Duration) -> usize {
    2 * JOBS + 1 + CUTS_MAX + (took.as_secs() / LEFT_ALONE_S) as usize
}

/// A port that is taken and refuses connections.
struct Refusing {
    address: String,
    _socket: TcpListener,
}

fn bound(backlog: Option<i32>) -> Refusing {
    // SAFETY: plain system calls on a descriptor that is handed over once.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_addr.s_addr = u32::from(Ipv4Addr::LOCALHOST).to_be();
        let len = size_of_val(&address) as libc::socklen_t;
        let done = libc::bind(fd, std::ptr::from_ref(&address).cast(), len);
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
        TcpListener::from_raw_fd(fd)
    };
    if let Some(backlog) = backlog {
        // SAFETY: a descriptor that is ours.
        let done = unsafe { libc::listen(socket.as_raw_fd(), backlog) };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    }
    Refusing {
        address: socket.local_addr().expect("its address").to_string(),
        _socket: socket,
    }
}

const DOWN: [&str; 3] = ["grid-unreachable", "grid-broken", "grid-down"];

#[test]
fn nobody_listens() {
    let project = Project::of(20);
    project.in_plaintext();
    let port = bound(None);
    let took = build("refused", &project, &port.address);
    assert_all_local("refused", &project, 20, &["grid-unreachable", "grid-down"]);
    let tried = tried(&project, "grid-unreachable");
    let most = asked_max(took) + (took.as_millis() / AWAITED_MS) as usize;
    assert!((1..=most).contains(&tried), "{tried} tries");
}

fn tried(project: &Project, reason: &str) -> usize {
    let events = project.events();
    events
        .iter()
        .filter(|e| e.reason.starts_with(reason))
        .count()
}

#[test]
fn nobody_answers() {
    let project = Project::of(20);
    project.in_plaintext();
    let port = bound(Some(0));
    // Fills the queue of those who wait to be accepted; more get no answer.
    let address = port.address.parse::<SocketAddrV4>().expect("an address");
    let mut waiting = Vec::new();
    loop {
        match TcpStream::connect_timeout(&address.into(), Duration::from_millis(300)) {
            Ok(stream) => waiting.push(stream),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => break,
            Err(error) => panic!("{error}"),
        }
        assert!(waiting.len() < 1_000, "the queue has no end");
    }
    let took = build("a black hole", &project, &port.address);
    assert_all_local("a black hole", &project, 20, &DOWN);
    let tried = tried(&project, "grid-unreachable") + tried(&project, "grid-broken");
    assert!((1..=asked_max(took)).contains(&tried), "{tried} tries");
}

/// One way of being no coordinator.
struct Madness {
    name: &'static str,
    reasons: &'static [&'static str],
    fake: Fake,
}

fn mad(
    name: &'static str,
    reasons: &'static [&'static str],
    serve: impl Fn(&mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> Madness {
    Madness {
        name,
        reasons,
        fake: Fake::start(serve),
    }
}

/// Builds against each; whoever fails is asked by few.
fn survive(madnesses: Vec<Madness>) {
    let count = 8;
    for madness in madnesses {
        let project = Project::of(count);
        project.in_plaintext();
        let took = build(madness.name, &project, &madness.fake.address);
        assert_all_local(madness.name, &project, count, madness.reasons);
        let asked = madness.fake.connections.load(Ordering::SeqCst);
        assert!(
            (1..=asked_max(took)).contains(&asked),
            "{}: asked {asked} times in {took:?}",
            madness.name
        );
    }
}

#[test]
fn it_accepts_and_says_nothing() {
    survive(vec![mad("silent", &DOWN, |_| Ok(()))]);
}

#[test]
fn it_speaks_another_language() {
    survive(vec![
        mad("HTTP/1.1", &DOWN, |stream| {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        }),
        mad("noise", &DOWN, |stream| stream.write_all(&noise(100_000))),
        mad("settings, then noise", &DOWN, |stream| {
            stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
            stream.write_all(&noise(100_000))
        }),
        mad("hangs up", &DOWN, |stream| {
            stream.shutdown(std::net::Shutdown::Both)
        }),
        mad("a web page", &DOWN, |stream| {
            answer_with(stream, "text/html")?;
            stream.write_all(&frame(DATA, END_STREAM, CALL, b"<html>"))
        }),
    ]);
}

fn answer_with(stream: &mut TcpStream, kind: &str) -> io::Result<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface)?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    let mut head = vec![0x88];
    head.extend(header("content-type", kind));
    stream.write_all(&frame(HEADERS, END_HEADERS, CALL, &head))
}

/// Bytes without sense, the same each time (xorshift).
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn its_answers_make_no_sense() {
    survive(vec![
        mad("an error", &DOWN, |stream| {
            answer(stream)?;
            end(stream, "13")
        }),
        mad("no result at all", &DOWN, |stream| {
            answer(stream)?;
            end(stream, "0")
        }),
        mad("a message cut short", &DOWN, |stream| {
            answer(stream)?;
            stream.write_all(&frame(DATA, 0, CALL, &[0, 0, 0, 0, 9, 1, 2]))?;
            end(stream, "0")
        }),
        mad("a message of 4 GiB", &DOWN, |stream| {
            answer(stream)?;
            stream.write_all(&frame(DATA, 0, CALL, &[0, 0xff, 0xff, 0xff, 0xff, 1]))
        }),
        mad("a message that is none", &DOWN, |stream| {
            answer(stream)?;
            stream.write_all(&frame(DATA, 0, CALL, &message(&[0xff; 10])))
        }),
        mad("a message of no kind", &DOWN, |stream| {
            answer(stream)?;
            stream.write_all(&frame(DATA, 0, CALL, &message(&[])))
        }),
        mad("a compressed message", &DOWN, |stream| {
            answer(stream)?;
            stream.write_all(&frame(DATA, 0, CALL, &[1, 0, 0, 0, 1, 1]))
        }),
        mad("no result in the end", &DOWN, |stream| {
            answer(stream)?;
            say(stream, accepted())?;
            say(stream, started(1, "nobody"))?;
            say(stream, Kind::Finished(v1::Finished::default()))
        }),
    ]);
}

#[test]
fn its_results_are_wrong() {
    // It does not stop making sense, so that others may have better luck: each
    // compile asks, and takes nothing that is not whole.
    let project = Project::of(6);
    project.in_plaintext();
    let fake = Fake::start(|stream| {
        answer(stream)?;
        say(stream, accepted())?;
        say(stream, started(1, "nobody"))?;
        let content = b"\x7fELF";
        let encoded = content.to_vec();
        say(
            stream,
            Kind::Chunk(v1::OutputChunk {
                attempt: 1,
                output: 0,
                data: encoded,
                last: true,
            }),
        )?;
        let output = v1::Output {
            path: b"f00.o".to_vec(),
            digest: vec![7; 32],
            size: 4,
            encoding: v1::Encoding::Zstd.into(),
            encoded_size: 4,
        };
        let result = v1::TaskResult {
            outputs: vec![output],
            ..v1::TaskResult::default()
        };
        say(
            stream,
            Kind::Finished(v1::Finished {
                attempt: 1,
                result: Some(result),
                worker: "liar".into(),
                ..v1::Finished::default()
            }),
        )
    });
    build("lies", &project, &fake.address);
    assert_all_local("lies", &project, 6, &["result-corrupt"]);
}

#[test]
fn it_says_for_ever_that_it_is_still_there() {
    let project = Project::of(6);
    project.in_plaintext();
    let fake = Fake::start(|stream| {
        answer(stream)?;
        say(stream, accepted())?;
        stream.set_read_timeout(Some(Duration::from_millis(ALIVE_MS)))?;
        loop {
            say(stream, Kind::StillThere(v1::StillThere { running: false }))?;
            match stream.read(&mut [0; 4096]) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    });
    let mut make = project.hgbuild_make(&fake.address, &["-j4"]);
    make.env("HG_QUEUE_MS_MAX", "200");
    let began = Instant::now();
    project.assert_same("still there", &mut project.plain_make(&["-j4"]), &mut make);
    assert_all_local("still there", &project, 6, &["grid-broken", "grid-down"]);
    let asked = fake.connections.load(Ordering::SeqCst);
    assert!(asked <= asked_max(began.elapsed()), "asked {asked} times");
}

#[test]
fn it_wants_the_source_and_does_not_take_it() {
    let project = Project::new();
    project.in_plaintext();
    // More than fits into a window of HTTP/2, compressed.
    let digits: String = noise(200_000)
        .iter()
        .map(|byte| format!("{byte},"))
        .collect();
    project.add(
        "large.c",
        &format!("const unsigned char x[] = {{{digits}}};\n"),
    );
    let fake = Fake::start(|stream| {
        let task = answer(stream)?;
        let digest = task.inputs.first().map(|input| input.digest.clone());
        say(stream, accepted())?;
        say(stream, started(1, "nobody"))?;
        let need = v1::InputsNeeded {
            attempt: 1,
            digests: digest.into_iter().collect(),
        };
        say(stream, Kind::Need(need))
    });
    let took = build("takes nothing", &project, &fake.address);
    assert_all_local("takes nothing", &project, 1, &["grid-broken"]);
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn it_dies_in_the_middle_and_comes_back() {
    let mut grid = Grid::start(programs(), 2, 2);
    let project = Project::of(12);
    for number in 0..4 {
        project.add(&format!("a{number}.c"), &slow(number));
    }
    let mut make = Running::start(&mut project.hgbuild_make(&grid.address(), &["-j4"]));
    make.until("two compiles on workers", || {
        (busy(&grid) >= 2).then_some(())
    });
    grid.restart_coordinator(Signal::SIGKILL);
    let wrapped = make.finish();
    let plain = run(&mut project.plain_make(&["-j2"]));
    project.assert_same_as("dies", &plain, wrapped);
    let told = project.told();
    let cut = ["grid-broken", "grid-unreachable"];
    assert!(cut.iter().any(|code| told.contains(code)), "{told}");
    // It is up again, and so are the workers: what comes next is compiled there.
    grid.wait_for_workers(2);
    let project = Project::of(6);
    build("back", &project, &grid.address());
    let events = project.events();
    assert!(
        events.iter().all(|e| e.place == "remote"),
        "{}",
        project.told()
    );
}

/// Compiles one file until that is done on a worker.
fn assert_back_soon(what: &str, project: &Project, compile: impl Fn() -> Command) {
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    loop {
        let before = Instant::now();
        let outcome = run(&mut compile());
        slowest = slowest.max(before.elapsed());
        assert!(outcome.ok(), "{what}: {}", outcome.words());
        // A build beside it tells of its own compiles.
        let mut events = project.events().into_iter().rev();
        let last = events.find(|event| event.source == "f00.c");
        let last = last.expect("an event");
        if last.place == "remote" {
            return;
        }
        let (took, most) = (began.elapsed(), BACK_TIME_MAX + slowest * BACK_COMPILES_MAX);
        assert!(took < most, "{what}: {took:?} of {most:?}: {}", last.reason);
    }
}

#[test]
fn each_restart_costs_two_seconds_and_not_ten() {
    let mut grid = Grid::start(programs(), 2, 2);
    let project = Project::of(1);
    for number in 0..4 {
        project.add(&format!("a{number}.c"), &slow(number));
    }
    let address = grid.address();
    // One that was joined: what a coordinator leaves for its own machine goes with it.
    let token = grid.token(&["--role", "client", "--name", "x"]);
    let compile = || {
        let mut command = project.hgbuild(&address, &["gcc", "-c", "f00.c"]);
        command.env("HG_TOKEN", &token);
        command
    };
    let signals = [Signal::SIGTERM, Signal::SIGKILL];
    for signal in signals.into_iter().cycle().take(RESTARTS) {
        let mut make = project.hgbuild_make(&address, &["-j4"]);
        let mut make = Running::start(make.env("HG_TOKEN", &token));
        make.until("two compiles on workers", || {
            (busy(&grid) >= 2).then_some(())
        });
        grid.restart_coordinator(signal);
        assert_back_soon(signal.as_str(), &project, compile);
        assert!(make.finish().ok());
        project.clean_objects();
    }
    // Who finds nobody there.
    grid.coordinator.end(Signal::SIGTERM);
    let outcome = run(&mut compile());
    assert!(outcome.ok(), "{}", outcome.words());
    let told = project.told();
    assert!(told.contains("grid-unreachable"), "{told}");
    grid.restart_coordinator(Signal::SIGTERM);
    assert_back_soon("refused", &project, compile);
}

#[test]
fn who_asks_wrongly_sends_nobody_else_home() {
    let grid = Grid::start(programs(), 1, 2);
    let project = Project::of(1);
    let place = |name: &str, value: &str| {
        let mut command = project.hgbuild(&grid.address(), &["gcc", "-c", "f00.c"]);
        if !name.is_empty() {
            command.env(name, value);
        }
        let outcome = run(&mut command);
        assert!(outcome.ok(), "{name}: {}", outcome.words());
        project.events().pop().expect("an event").place
    };
    // Of another grid.
    let other = Grid::start(programs(), 0, 1);
    let token = other.token(&["--role", "client", "--name", "x"]);
    for (name, value) in [("HG_INSECURE", "1"), ("HG_TOKEN", &token)] {
        assert_eq!(place(name, value), "local", "{name}");
        assert_eq!(place("", ""), "remote", "after {name}");
    }
}

#[test]
fn a_grid_that_was_down_is_asked_again() {
    let project = Project::of(4);
    project.in_plaintext();
    let fake = Fake::start(|stream| stream.shutdown(std::net::Shutdown::Both));
    let make = |project: &Project| {
        let mut make = project.hgbuild_make(&fake.address, &["-j1"]);
        // As a part of another build, which is the one that looks at the grid.
        run(make.env("HG_BUILD", "1"))
    };
    make(&project);
    let asked = || fake.connections.load(Ordering::SeqCst);
    let make_later = || {
        project.clean_objects();
        age_notes(&project);
        make(&project);
    };
    // Until it isn't taken for one that is starting again, and left alone for long.
    for _ in 0..CUTS_MAX {
        make_later();
    }
    let before = asked();
    make_later();
    // One goes and looks; the others keep away meanwhile and afterwards.
    assert_eq!(asked(), before + 1, "{}", project.told());
}

/// Makes what is noted about the grid as old as it may be.
fn age_notes(project: &Project) {
    let notes = fs::read_dir(project.home().join(".hybridgrid/run")).expect("notes");
    let old = SystemTime::now() - Duration::from_secs(LEFT_ALONE_S_MAX + 1);
    let mut aged = 0;
    for note in notes.flatten() {
        if note.file_name().to_string_lossy().starts_with("memo-") {
            let file = fs::File::options().write(true).open(note.path());
            file.and_then(|file| file.set_modified(old))
                .expect("an older note");
            aged += 1;
        }
    }
    assert!(aged > 0, "no note that the grid is down");
}

/// Slots in use.
fn busy(grid: &Grid) -> u64 {
    let body = grid.get("/api/v1/workers").unwrap_or_default();
    let workers: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap_or_default();
    let running = workers
        .iter()
        .filter_map(|worker| worker["running"].as_u64());
    running.sum()
}
