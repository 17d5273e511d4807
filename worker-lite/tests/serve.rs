//! The real program against a coordinator played by the test: real sockets, real
//! compilers. Every wait is for an event, with a deadline.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hg_proto::compiler::toolchain::Language;
use hg_proto::v1::{self, failure::Code, from_worker, to_worker};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::frame::{self, Decoder};
use hg_worker_lite::files::state;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PATIENCE: Duration = Duration::from_secs(60);
const WINDOW: u32 = 512 << 10;
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Tries `look` until it gives something.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// A coordinator's listener, and a worker that dials it.
struct Grid {
    listener: TcpListener,
    state: tempfile::TempDir,
    worker: Child,
    http: String,
}

impl Grid {
    fn new(slots: u32) -> Self {
        Self::start(slots, tempfile::tempdir().unwrap(), |_| {})
    }

    fn start(slots: u32, state: tempfile::TempDir, adjust: impl FnOnce(&mut Command)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = serve(&listener, state.path());
        command.arg("--slots").arg(slots.to_string());
        adjust(&mut command);
        let mut worker = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(worker.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let (start, rest) = line.split_once(r#""http":""#).unwrap();
        assert_eq!(start, r#"{"name":"a \"pi\"","#);
        let http = rest.split('"').next().unwrap().to_owned();
        let file = fs::read_to_string(state.path().join("endpoints.json")).unwrap();
        assert_eq!(file, line);
        Grid {
            listener,
            state,
            worker,
            http,
        }
    }

    /// The worker's next connection, with its Hello taken and a Welcome given.
    fn welcome(&self, window_bytes: u32) -> (Peer, v1::Hello) {
        let mut peer = self.accept();
        let hello = peer.expect(|kind| match kind {
            from_worker::Kind::Hello(hello) => Some(hello),
            _ => None,
        });
        peer.say(to_worker::Kind::Welcome(v1::Welcome {
            protocol_version: 1,
            worker_id: "w1".into(),
            heartbeat_ms: 100,
            window_bytes,
            token: String::new(),
        }));
        (peer, hello)
    }

    fn accept(&self) -> Peer {
        self.listener.set_nonblocking(true).unwrap();
        let stream = until("a connection", || self.listener.accept().ok()).0;
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Peer {
            stream,
            decoder: Decoder::new(),
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.worker.id() as i32), signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        until("the worker's end", || self.worker.try_wait().unwrap())
    }

    /// Nothing is left of any task: no folder, no process.
    fn is_clean(&self) -> bool {
        let tasks = self.state.path().canonicalize().unwrap().join("tasks");
        fs::read_dir(&tasks).unwrap().next().is_none() && processes_of(&tasks).is_empty()
    }

    fn get(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Grid {
    fn drop(&mut self) {
        let _ = self.worker.kill();
        let _ = self.worker.wait();
    }
}

fn serve(listener: &TcpListener, state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hg-worker-lite"));
    command
        .args([
            "serve",
            "--insecure",
            "--name",
            "a \"pi\"",
            "--http",
            "127.0.0.1:0",
        ])
        .arg("--coordinator")
        .arg(listener.local_addr().unwrap().to_string())
        .arg("--state")
        .arg(state)
        .env("HG_LOG", "warn")
        .env("SECRET", "of the worker's own");
    command
}

/// Processes whose environment says that they belong to a task under `tasks`.
fn processes_of(tasks: &Path) -> Vec<PathBuf> {
    let mark = format!("HG_TASK={}", state::task_mark(tasks));
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            fs::read(path.join("environ"))
                .is_ok_and(|environ| environ.split(|b| *b == 0).any(|v| v == mark.as_bytes()))
        })
        .collect()
}

/// What a worker says of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Begun(u64),
    Failed(u64, Code),
}

/// The coordinator's end of a link.
struct Peer {
    stream: TcpStream,
    decoder: Decoder,
}

impl Peer {
    fn say(&mut self, kind: to_worker::Kind) {
        let message = v1::ToWorker { kind: Some(kind) };
        self.stream
            .write_all(&frame::encode(&message).unwrap())
            .unwrap();
    }

    /// The next message; `None`: the link has ended.
    fn hear(&mut self) -> Option<from_worker::Kind> {
        loop {
            if let Some(message) = self.decoder.next_message::<v1::FromWorker>().unwrap() {
                return Some(message.kind.unwrap());
            }
            let mut buffer = [0; 65_536];
            match self.stream.read(&mut buffer) {
                Ok(len) if len > 0 => self.decoder.push(&buffer[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("the worker says nothing")
                }
                _ => return None,
            }
        }
    }

    /// Answers heartbeats until something else comes that `wanted` takes; that
    /// which it does not take must be a heartbeat, or that a compile began.
    fn expect<T>(&mut self, mut wanted: impl FnMut(from_worker::Kind) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "in vain");
            let kind = self.hear().expect("the link has ended");
            if let from_worker::Kind::Heartbeat(heartbeat) = &kind {
                let sequence = heartbeat.sequence;
                self.say(to_worker::Kind::HeartbeatSeen(v1::HeartbeatSeen {
                    sequence,
                    ..v1::HeartbeatSeen::default()
                }));
            }
            let text = format!("{kind:?}");
            let may_be_missed = matches!(
                kind,
                from_worker::Kind::Heartbeat(_) | from_worker::Kind::Begun(_)
            );
            match wanted(kind) {
                Some(found) => return found,
                None => assert!(may_be_missed, "unexpected: {text}"),
            }
        }
    }

    fn dispatch(&mut self, dispatch_id: u64, task: v1::Task) {
        self.dispatch_of(dispatch_id, task, 0);
    }

    fn dispatch_of(&mut self, dispatch_id: u64, task: v1::Task, memory_bytes_expected: u64) {
        self.say(to_worker::Kind::Dispatch(v1::Dispatch {
            dispatch_id,
            task: Some(task),
            memory_bytes_expected,
        }));
    }

    fn expect_need(&mut self, dispatch_id: u64) {
        let need = self.expect(|kind| match kind {
            from_worker::Kind::Need(need) => Some(need),
            _ => None,
        });
        assert_eq!((need.dispatch_id, need.digests.len()), (dispatch_id, 1));
    }

    fn expect_failed(&mut self, dispatch_id: u64) -> (Code, String) {
        let failed = self.expect(|kind| match kind {
            from_worker::Kind::Failed(failed) => Some(failed),
            _ => None,
        });
        assert_eq!(failed.dispatch_id, dispatch_id);
        let failure = failed.failure.unwrap();
        (failure.code(), failure.detail)
    }

    fn expect_begun(&mut self, dispatch_id: u64) {
        self.expect_all(&[Said::Begun(dispatch_id)]);
    }

    /// Takes all of these, in whatever order they come, heartbeats and reports.
    fn expect_all(&mut self, wanted: &[Said]) {
        let mut left = wanted.to_vec();
        while !left.is_empty() {
            let said = self.expect(|kind| match kind {
                from_worker::Kind::Heartbeat(_) => None,
                kind if is_report(&kind) => None,
                kind => Some(said(&kind)),
            });
            let at = left.iter().position(|one| *one == said);
            left.remove(at.unwrap_or_else(|| panic!("{said:?} is none of {left:?}")));
        }
    }

    /// Sends `blob` in chunks of `piece` bytes, as input 0.
    fn feed(&mut self, dispatch_id: u64, blob: &[u8], piece: usize) {
        let count = blob.chunks(piece).count();
        for (at, data) in blob.chunks(piece).enumerate() {
            self.say(to_worker::Kind::Chunk(v1::Chunk {
                dispatch_id,
                blob: 0,
                data: data.to_vec(),
                last: at + 1 == count,
            }));
        }
    }

    /// Takes output 0 and the result, granting credit for all that comes.
    fn take(&mut self, dispatch_id: u64) -> (Vec<u8>, v1::TaskResult) {
        self.take_with(dispatch_id, &[])
    }

    /// As [`Peer::take`], and `also` what else is said meanwhile, in any order.
    fn take_with(&mut self, dispatch_id: u64, also: &[Said]) -> (Vec<u8>, v1::TaskResult) {
        let mut left = also.to_vec();
        let mut encoded = Vec::new();
        let (mut whole, mut result) = (false, None);
        loop {
            match result.take_if(|_| left.is_empty()) {
                Some(result) => return (encoded, result),
                None => match self.expect(Some) {
                    from_worker::Kind::Chunk(chunk) => {
                        assert!(!whole);
                        assert_eq!((chunk.dispatch_id, chunk.blob), (dispatch_id, 0));
                        assert!(chunk.data.len() <= hg_proto::wire::limits::CHUNK_BYTES_MAX);
                        encoded.extend_from_slice(&chunk.data);
                        whole = chunk.last;
                        let bytes = chunk.data.len() as u32;
                        self.say(to_worker::Kind::Credit(v1::Credit { dispatch_id, bytes }));
                    }
                    from_worker::Kind::Done(done) => {
                        assert_eq!(done.dispatch_id, dispatch_id);
                        result = done.result;
                    }
                    from_worker::Kind::Heartbeat(_) => {}
                    kind if is_report(&kind) => {}
                    kind => {
                        let said = said(&kind);
                        let at = left.iter().position(|one| *one == said);
                        let begun = said == Said::Begun(dispatch_id);
                        assert!(at.is_some() || begun, "{said:?} is none of {left:?}");
                        at.map(|at| left.remove(at));
                    }
                },
            }
        }
    }
}

/// Whether it is a report of how a compile gets on, and not that it began.
fn is_report(kind: &from_worker::Kind) -> bool {
    let ended = matches!(kind, from_worker::Kind::Begun(begun) if begun.ended);
    ended || cpu_us(kind).is_some()
}

fn cpu_us(kind: &from_worker::Kind) -> Option<u64> {
    match kind {
        from_worker::Kind::Begun(begun) => begun.cpu_us,
        _ => None,
    }
}

/// What a message says that begins or fails a task.
fn said(kind: &from_worker::Kind) -> Said {
    match kind {
        from_worker::Kind::Begun(begun) => Said::Begun(begun.dispatch_id),
        from_worker::Kind::Failed(failed) => {
            let code = failed.failure.as_ref().map(v1::Failure::code);
            Said::Failed(failed.dispatch_id, code.unwrap_or(Code::Unspecified))
        }
        other => panic!("unexpected: {other:?}"),
    }
}

/// This machine's gcc for C, which `hello` must offer.
fn gcc(hello: &v1::Hello) -> v1::Toolchain {
    let probe = hg_proto::compiler::probe::probe(Path::new("/usr/bin/gcc"), None).unwrap();
    let toolchain = probe.toolchain(Language::C).unwrap();
    assert!(hello.toolchains.contains(&toolchain));
    toolchain
}

fn arguments(more: &[&str]) -> Vec<Vec<u8>> {
    let own = "-fpreprocessed -fdirectives-only -x c -c in.c -o out/in.o";
    let words = more.iter().copied().chain(own.split(' '));
    words.map(|word| word.as_bytes().to_vec()).collect()
}

fn task(hello: &v1::Hello, plain: &[u8], encoded: &[u8], more: &[&str]) -> v1::Task {
    task_for(gcc(hello), plain, encoded, more)
}

fn task_for(toolchain: v1::Toolchain, plain: &[u8], encoded: &[u8], more: &[&str]) -> v1::Task {
    v1::Task {
        toolchain: Some(toolchain),
        arguments: arguments(more),
        inputs: vec![v1::Input {
            path: b"in.c".to_vec(),
            digest: Digest::of(plain).as_bytes().to_vec(),
            size: plain.len() as u64,
            encoding: v1::Encoding::Zstd.into(),
            encoded_size: encoded.len() as u64,
        }],
        outputs: vec![b"out/in.o".to_vec()],
        // The compiler's quotation marks show whether it arrives.
        environment: vec![v1::EnvironmentVariable {
            name: b"LC_ALL".to_vec(),
            value: b"C.UTF-8".to_vec(),
        }],
        ..v1::Task::default()
    }
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plain, 1).unwrap()
}

/// What the same command does here: the object, and stderr.
fn compiled_here(source: &[u8], more: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    fs::write(folder.path().join("in.c"), source).unwrap();
    let output = Command::new("gcc")
        .args(
            arguments(more)
                .iter()
                .map(|a| std::str::from_utf8(a).unwrap()),
        )
        .current_dir(folder.path())
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    let object = fs::read(folder.path().join("out/in.o")).unwrap_or_default();
    (object, output.stderr)
}

/// A source whose object is large and compresses badly.
fn large_source(bytes: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut source = b"const unsigned char x[] = {".to_vec();
    for _ in 0..bytes {
        write!(source, "{},", rng.u8(..)).unwrap();
    }
    source.extend_from_slice(b"};\n");
    source
}

/// A source that keeps a compiler busy for minutes.
fn endless_source() -> Vec<u8> {
    let mut source = Vec::new();
    for level in 1..=17 {
        let below = level - 1;
        writeln!(source, "#define A{level} A{below} A{below}").unwrap();
    }
    writeln!(source, "#define A0 x = x * 3 + y / x; y ^= x;").unwrap();
    writeln!(source, "int f(int x, int y) {{ A17 return x; }}").unwrap();
    source
}

/// Begins a compile that does not end, and waits until the compiler runs.
fn begin_endless(grid: &Grid, peer: &mut Peer, hello: &v1::Hello, dispatch_id: u64) {
    let source = endless_source();
    let encoded = zstd(&source);
    peer.dispatch(dispatch_id, task(hello, &source, &encoded, &[]));
    peer.expect_need(dispatch_id);
    peer.feed(dispatch_id, &encoded, 1000);
    peer.expect_begun(dispatch_id);
    let tasks = grid.state.path().canonicalize().unwrap().join("tasks");
    // The driver and cc1.
    let processes = until("two processes", || {
        Some(processes_of(&tasks)).filter(|processes| processes.len() >= 2)
    });
    for process in processes {
        let environ = fs::read(process.join("environ")).unwrap_or_default();
        let environ = String::from_utf8_lossy(&environ).into_owned();
        assert!(!environ.contains("SECRET="), "{environ}");
    }
}

#[test]
fn an_object_is_what_gcc_makes_here() {
    let grid = Grid::new(2);
    let (mut peer, hello) = grid.welcome(WINDOW);
    assert_eq!(hello.name, "a \"pi\"");
    assert_eq!(
        (hello.instance.len(), hello.slots, hello.protocol_version),
        (16, 2, 1)
    );
    assert!(hello.cores > 0 && hello.memory_bytes > 0 && hello.speed_milli > 0);
    let source = b"#define ZERO 0\nint f(void) { int unused; return ZERO; }\n";
    let encoded = zstd(source);
    let more = ["-O2", "-Wall"];
    peer.dispatch(7, task(&hello, source, &encoded, &more));
    peer.expect_need(7);
    peer.feed(7, &encoded, 10);
    let (object, result) = peer.take(7);
    let (expected, stderr) = compiled_here(source, &more);
    assert!(!expected.is_empty() && !stderr.is_empty());
    assert_eq!(
        (result.exit_code, result.signal, result.truncated),
        (0, 0, false)
    );
    assert_eq!(
        String::from_utf8_lossy(&result.stderr),
        String::from_utf8_lossy(&stderr)
    );
    assert!(result.unexpected.is_empty(), "{:?}", result.unexpected);
    let [output] = &result.outputs[..] else {
        panic!("{:?}", result.outputs)
    };
    assert_eq!(output.encoded_size, object.len() as u64);
    let object = zstd::bulk::decompress(&object, output.size as usize).unwrap();
    assert!(object == expected);
    assert_eq!(output.digest, Digest::of(&expected).as_bytes());
    let usage = result.usage.unwrap();
    // The compiler's own: what stands between it and the worker needs less.
    assert!(usage.wall_us > 0 && usage.user_us + usage.system_us > 0);
    assert!(usage.peak_memory_bytes > 12 << 20, "{usage:?}");
    until("a clean state", || grid.is_clean().then_some(()));
}

#[test]
fn a_failed_compile_is_a_result() {
    let grid = Grid::new(1);
    let (mut peer, hello) = grid.welcome(WINDOW);
    let source = b"int f(void) { return }\n";
    let encoded = zstd(source);
    peer.dispatch(1, task(&hello, source, &encoded, &[]));
    peer.expect_need(1);
    peer.feed(1, &encoded, 1000);
    let (object, result) = peer.take(1);
    assert!(object.is_empty() && result.outputs.is_empty());
    assert_eq!(result.exit_code, 1);
    let (_, stderr) = compiled_here(source, &[]);
    assert_eq!(
        String::from_utf8_lossy(&result.stderr),
        String::from_utf8_lossy(&stderr)
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_running_compile_reports_its_processor_time() {
    let grid = Grid::new(1);
    let (mut peer, hello) = grid.welcome(WINDOW);
    begin_endless(&grid, &mut peer, &hello, 1);
    // On a busy machine it may have got nothing before the first report.
    let mut reports_us = vec![0];
    while reports_us.len() < 4 || reports_us.last() < Some(&100_000) {
        reports_us.push(peer.expect(|kind| cpu_us(&kind)));
        assert!(
            reports_us.is_sorted() && reports_us.len() < 30,
            "{reports_us:?}"
        );
    }
    peer.say(to_worker::Kind::Cancel(v1::Cancel { dispatch_id: 1 }));
    peer.expect_all(&[Said::Failed(1, Code::Cancelled)]);
}

#[test]
fn one_more_than_the_slots_waits_and_cancel_leaves_nothing() {
    let grid = Grid::new(1);
    let (mut peer, hello) = grid.welcome(WINDOW);
    begin_endless(&grid, &mut peer, &hello, 1);
    let source = b"int x;\n";
    let encoded = zstd(source);
    let small = || task(&hello, source, &encoded, &[]);
    peer.dispatch(2, small());
    peer.expect_need(2);
    peer.feed(2, &encoded, 1000);
    peer.dispatch(3, small());
    assert_eq!(peer.expect_failed(3).0, Code::Busy);
    // It has its inputs and does not begin.
    for _ in 0..5 {
        peer.expect(|kind| matches!(kind, from_worker::Kind::Heartbeat(_)).then_some(()));
    }
    peer.say(to_worker::Kind::Cancel(v1::Cancel { dispatch_id: 1 }));
    let both = [Said::Failed(1, Code::Cancelled), Said::Begun(2)];
    assert_eq!(peer.take_with(2, &both).1.exit_code, 0);
    until("a clean state", || grid.is_clean().then_some(()));
    // Its place was free before the worker said so.
    begin_endless(&grid, &mut peer, &hello, 4);
    peer.dispatch(5, small());
    peer.expect_need(5);
    peer.feed(5, &encoded, 1000);
    // One that waits, once cancelled, never begins.
    peer.say(to_worker::Kind::Cancel(v1::Cancel { dispatch_id: 5 }));
    peer.expect_all(&[Said::Failed(5, Code::Cancelled)]);
    peer.say(to_worker::Kind::Cancel(v1::Cancel { dispatch_id: 4 }));
    peer.expect_all(&[Said::Failed(4, Code::Cancelled)]);
    until("a clean state", || grid.is_clean().then_some(()));
    peer.dispatch(6, small());
    peer.expect_need(6);
    peer.feed(6, &encoded, 1000);
    peer.expect_begun(6);
    assert_eq!(peer.take(6).1.exit_code, 0);
}

#[test]
fn draining_finishes_what_waits() {
    let mut grid = Grid::new(1);
    let (mut peer, hello) = grid.welcome(WINDOW);
    begin_endless(&grid, &mut peer, &hello, 1);
    let source = b"int x;\n";
    let encoded = zstd(source);
    peer.dispatch(2, task(&hello, source, &encoded, &[]));
    peer.expect_need(2);
    peer.say(to_worker::Kind::Drain(v1::Drain {}));
    peer.expect(|kind| matches!(kind, from_worker::Kind::Draining(_)).then_some(()));
    peer.feed(2, &encoded, 1000);
    peer.say(to_worker::Kind::Cancel(v1::Cancel { dispatch_id: 1 }));
    let both = [Said::Failed(1, Code::Cancelled), Said::Begun(2)];
    assert_eq!(peer.take_with(2, &both).1.exit_code, 0);
    drop(peer);
    assert_eq!(grid.end().code(), Some(0));
}

#[test]
fn what_is_not_well_formed_is_refused() {
    let grid = Grid::new(1);
    let (mut peer, hello) = grid.welcome(WINDOW);
    let source = b"int x;\n";
    let encoded = zstd(source);
    let good = || task(&hello, source, &encoded, &[]);
    let mut refused = |dispatch_id, task, code, word: &str| {
        peer.dispatch(dispatch_id, task);
        let (got, detail) = peer.expect_failed(dispatch_id);
        assert_eq!(got, code, "{detail}");
        assert!(detail.contains(word), "{detail}");
    };
    let plugin = task(&hello, source, &encoded, &["-fplugin=x.so"]);
    refused(1, plugin, Code::Refused, "plugin");
    let mut upwards = good();
    upwards.inputs[0].path = b"../in.c".to_vec();
    refused(2, upwards, Code::Refused, "upwards");
    let mut absolute = good();
    absolute.outputs[0] = b"/tmp/in.o".to_vec();
    refused(3, absolute, Code::Refused, "absolute");
    let mut outside = good();
    outside.working_directory = b"a/../..".to_vec();
    refused(4, outside, Code::Refused, "upwards");
    let mut unknown = good();
    unknown.toolchain.as_mut().unwrap().digest = vec![1; 32];
    refused(5, unknown, Code::NoToolchain, "0101");
    refused(6, v1::Task::default(), Code::Refused, "digest");
}

#[test]
fn an_input_with_another_digest_is_not_compiled() {
    let grid = Grid::new(1);
    let (mut peer, hello) = grid.welcome(WINDOW);
    let encoded = zstd(b"int x;\n");
    peer.dispatch(1, task(&hello, b"int y;\n", &encoded, &[]));
    peer.expect_need(1);
    peer.feed(1, &encoded, 1000);
    let (code, detail) = peer.expect_failed(1);
    assert_eq!(code, Code::Input, "{detail}");
    assert!(detail.contains("digest"), "{detail}");
}

#[test]
fn a_coordinator_that_says_garbage_is_dialled_again() {
    let grid = Grid::new(1);
    let (mut peer, hello) = grid.welcome(WINDOW);
    begin_endless(&grid, &mut peer, &hello, 1);
    peer.stream.write_all(&[0xff; 64]).unwrap();
    // The worker hangs up, and its compile is gone.
    while peer.hear().is_some() {}
    until("a clean state", || grid.is_clean().then_some(()));
    let (mut peer, again) = grid.welcome(WINDOW);
    assert_eq!(again.instance, hello.instance);
    // A kind that this version does not know.
    peer.stream.write_all(&[0, 0, 0, 3, 0xfa, 0x01, 0]).unwrap();
    while peer.hear().is_some() {}
    // Somebody who closes before the welcome.
    drop(grid.accept());
    grid.welcome(WINDOW);
}

#[test]
fn a_silent_coordinator_is_dialled_again() {
    let grid = Grid::new(1);
    let (mut peer, _) = grid.welcome(WINDOW);
    // Heartbeats are not answered.
    while peer.hear().is_some() {}
    grid.welcome(WINDOW);
}

#[test]
fn output_waits_for_credit() {
    let window = 10_000;
    let grid = Grid::new(1);
    let (mut peer, hello) = grid.welcome(window);
    let source = large_source(100_000);
    let encoded = zstd(&source);
    peer.dispatch(1, task(&hello, &source, &encoded, &[]));
    peer.expect_need(1);
    peer.feed(1, &encoded, 65_536);
    let (mut object, mut heartbeats_since) = (Vec::new(), 0);
    while heartbeats_since < 5 {
        peer.expect(|kind| match kind {
            from_worker::Kind::Chunk(chunk) => {
                assert!(!chunk.last);
                object.extend_from_slice(&chunk.data);
                Some(())
            }
            from_worker::Kind::Heartbeat(_) => {
                heartbeats_since += u32::from(object.len() == window as usize);
                Some(())
            }
            _ => None,
        });
        assert!(object.len() <= window as usize);
    }
    peer.say(to_worker::Kind::Credit(v1::Credit {
        dispatch_id: 1,
        bytes: window,
    }));
    let (more, result) = peer.take(1);
    object.extend_from_slice(&more);
    let object = zstd::bulk::decompress(&object, result.outputs[0].size as usize).unwrap();
    assert!(object == compiled_here(&source, &[]).0);
}

#[test]
fn sigterm_finishes_what_runs() {
    let mut grid = Grid::new(2);
    let (mut peer, hello) = grid.welcome(WINDOW);
    let source = large_source(200_000);
    let encoded = zstd(&source);
    peer.dispatch(1, task(&hello, &source, &encoded, &[]));
    peer.expect_need(1);
    assert!(grid.get("GET /health").starts_with("HTTP/1.1 200"));
    grid.signal(Signal::SIGTERM);
    peer.expect(|kind| matches!(kind, from_worker::Kind::Draining(_)).then_some(()));
    assert!(grid.get("GET /health").starts_with("HTTP/1.1 503"));
    peer.dispatch(2, task(&hello, &source, &encoded, &[]));
    assert_eq!(peer.expect_failed(2).0, Code::Busy);
    peer.feed(1, &encoded, 65_536);
    let (_, result) = peer.take(1);
    assert_eq!(result.exit_code, 0);
    while peer.hear().is_some() {}
    drop(peer);
    assert_eq!(grid.end().code(), Some(0));
    assert!(grid.is_clean());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut grid = Grid::new(1);
    let (mut peer, hello) = grid.welcome(WINDOW);
    begin_endless(&grid, &mut peer, &hello, 1);
    grid.signal(Signal::SIGINT);
    peer.expect(|kind| matches!(kind, from_worker::Kind::Draining(_)).then_some(()));
    grid.signal(Signal::SIGINT);
    assert_eq!(peer.expect_failed(1).0, Code::Worker);
    drop(peer);
    assert_eq!(grid.end().code(), Some(0));
    assert!(grid.is_clean());
}

#[test]
fn the_coordinator_can_drain_it() {
    let mut grid = Grid::new(1);
    let (mut peer, _) = grid.welcome(WINDOW);
    peer.say(to_worker::Kind::Drain(v1::Drain {}));
    peer.expect(|kind| matches!(kind, from_worker::Kind::Draining(_)).then_some(()));
    drop(peer);
    assert_eq!(grid.end().code(), Some(0));
}

/// The process that outlives the worker: the child that runs the same program.
fn watchdog(worker: Pid) -> Pid {
    let program = |pid: Pid| fs::read_link(format!("/proc/{pid}/exe"));
    let children = fs::read_to_string(format!("/proc/{worker}/task/{worker}/children")).unwrap();
    children
        .split_whitespace()
        .map(|pid| Pid::from_raw(pid.parse().unwrap()))
        .find(|pid| program(*pid).is_ok_and(|its| its == program(worker).unwrap()))
        .unwrap()
}

#[test]
fn a_crash_leaves_no_compiler_running() {
    let mut grid = Grid::new(1);
    let (mut peer, hello) = grid.welcome(WINDOW);
    begin_endless(&grid, &mut peer, &hello, 1);
    let tasks = grid.state.path().canonicalize().unwrap().join("tasks");
    assert!(!processes_of(&tasks).is_empty());
    grid.signal(Signal::SIGKILL);
    assert_eq!(grid.end().signal(), Some(9));
    until("no compiler", || {
        processes_of(&tasks).is_empty().then_some(())
    });
}

#[test]
fn what_a_crash_leaves_is_cleared_at_the_next_start() {
    // With namespaces nothing outlives the worker.
    let mut grid = Grid::start(1, tempfile::tempdir().unwrap(), |command| {
        command.args(["--sandbox", "off"]);
    });
    let (mut peer, hello) = grid.welcome(WINDOW);
    begin_endless(&grid, &mut peer, &hello, 1);
    let worker = Pid::from_raw(grid.worker.id() as i32);
    kill(watchdog(worker), Signal::SIGKILL).unwrap();
    grid.signal(Signal::SIGKILL);
    assert_eq!(grid.end().signal(), Some(9));
    let state = std::mem::replace(&mut grid.state, tempfile::tempdir().unwrap());
    // The compiler proper outlives the driver, which dies with the worker.
    let tasks = state.path().canonicalize().unwrap().join("tasks");
    assert!(!processes_of(&tasks).is_empty());
    let again = Grid::start(1, state, |_| {});
    again.welcome(WINDOW);
    until("a clean state", || again.is_clean().then_some(()));
}

#[test]
fn one_state_is_for_one_worker() {
    let grid = Grid::new(1);
    let output = serve(&grid.listener, grid.state.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("another worker runs with this state"),
        "{stderr}"
    );
    let process = format!("process {}", grid.worker.id());
    assert!(stderr.contains(&process), "{stderr}");
}

#[test]
fn a_compile_has_a_deadline_and_an_output_cap() {
    let grid = Grid::new(1);
    let (mut peer, hello) = grid.welcome(WINDOW);
    let source = endless_source();
    let encoded = zstd(&source);
    let mut late = task(&hello, &source, &encoded, &[]);
    late.limits = Some(v1::Limits {
        wall_ms_max: 200,
        ..v1::Limits::default()
    });
    peer.dispatch(1, late);
    peer.expect_need(1);
    peer.feed(1, &encoded, 1000);
    assert_eq!(peer.expect_failed(1).0, Code::Limit);
    let source = large_source(5000);
    let encoded = zstd(&source);
    let mut large = task(&hello, &source, &encoded, &[]);
    large.limits = Some(v1::Limits {
        output_bytes_max: 5000,
        ..v1::Limits::default()
    });
    peer.dispatch(2, large);
    peer.expect_need(2);
    peer.feed(2, &encoded, 1000);
    assert_eq!(peer.expect_failed(2).0, Code::Limit);
    let source = endless_source();
    let encoded = zstd(&source);
    let mut large = task(&hello, &source, &encoded, &[]);
    large.limits = Some(v1::Limits {
        memory_bytes_max: 192 << 20,
        ..v1::Limits::default()
    });
    peer.dispatch(3, large);
    peer.expect_need(3);
    peer.feed(3, &encoded, 1000);
    assert_eq!(peer.expect_failed(3).0, Code::Limit);
    until("a clean state", || grid.is_clean().then_some(()));
}

/// A gcc in a prefix of its own, whose cc1 is the system's, and that takes the
/// assembler which is put beside it. Gives the folder.
fn gcc_in(prefix: &Path) -> PathBuf {
    let bin_path = prefix.canonicalize().unwrap().join("bin");
    fs::create_dir_all(bin_path.join("../lib")).unwrap();
    std::os::unix::fs::symlink("/usr/lib/gcc", bin_path.join("../lib/gcc")).unwrap();
    fs::copy("/usr/bin/gcc", bin_path.join("gcc")).unwrap();
    bin_path
}

#[test]
fn what_is_killed_wanted_memory() {
    let prefix = tempfile::tempdir().unwrap();
    let bin_path = gcc_in(prefix.path());
    // Kills the driver or itself, as the source asks; elsewhere it is the real one.
    let script = "#!/bin/sh\n\
        [ -z \"$HG_TASK\" ] && exec /usr/bin/as \"$@\"\n\
        for last; do :; done\n\
        grep -q driver \"$last\" && kill -9 $PPID\n\
        kill -9 $$\n";
    fs::write(bin_path.join("as"), script).unwrap();
    fs::set_permissions(bin_path.join("as"), PermissionsExt::from_mode(0o755)).unwrap();
    let grid = Grid::start(1, tempfile::tempdir().unwrap(), |command| {
        let path = format!("{}:/usr/bin:/bin", bin_path.display());
        // A sandbox has no shell for it.
        command.env("PATH", path).args(["--sandbox", "off"]);
    });
    let (mut peer, hello) = grid.welcome(WINDOW);
    // The probe finds the assembler as the worker does: by PATH.
    let toolchain = hello.toolchains.iter().find(|offered| {
        let system = hg_proto::compiler::probe::probe(Path::new("/usr/bin/gcc"), None).unwrap();
        let system = system.toolchain(Language::C).unwrap();
        // There may be gccs for other targets beside it.
        let alike = (offered.language, &offered.target) == (system.language, &system.target);
        alike && offered.digest != system.digest
    });
    let toolchain = toolchain.unwrap().clone();
    for (number, source) in [(1, "int driver;\n"), (2, "int itself;\n")] {
        let source = source.as_bytes();
        let encoded = zstd(source);
        peer.dispatch(number, task_for(toolchain.clone(), source, &encoded, &[]));
        peer.expect_need(number);
        peer.feed(number, &encoded, 1000);
        let (code, detail) = peer.expect_failed(number);
        assert_eq!(code, Code::Memory, "{detail}");
    }
}

#[test]
fn a_compiler_that_needs_a_shell_is_not_offered_in_a_sandbox() {
    let prefix = tempfile::tempdir().unwrap();
    let bin_path = gcc_in(prefix.path());
    let script = "#!/bin/sh\nexec /usr/bin/as \"$@\"\n";
    fs::write(bin_path.join("as"), script).unwrap();
    fs::set_permissions(bin_path.join("as"), PermissionsExt::from_mode(0o755)).unwrap();
    for (sandbox, offered) in [("auto", false), ("off", true)] {
        let grid = Grid::start(1, tempfile::tempdir().unwrap(), |command| {
            command.args(["--sandbox", sandbox, "--compilers"]);
            command.env("PATH", &bin_path).arg(&bin_path);
        });
        let (_, hello) = grid.welcome(WINDOW);
        let expected = offered || hello.sandbox == "folder";
        assert_eq!(!hello.toolchains.is_empty(), expected, "{sandbox}");
    }
}

#[test]
fn a_compiler_that_is_gone_is_offered_no_more() {
    let prefix = tempfile::tempdir().unwrap();
    let bin_path = gcc_in(prefix.path());
    std::os::unix::fs::symlink("/usr/bin/as", bin_path.join("as")).unwrap();
    let grid = Grid::start(1, tempfile::tempdir().unwrap(), |command| {
        command.env("PATH", &bin_path);
        command.arg("--compilers").arg(&bin_path);
    });
    let (mut peer, hello) = grid.welcome(WINDOW);
    let source = b"int x;\n";
    let encoded = zstd(source);
    peer.dispatch(1, task(&hello, source, &encoded, &[]));
    peer.expect_need(1);
    peer.feed(1, &encoded, 1000);
    assert_eq!(peer.take(1).1.exit_code, 0);
    fs::remove_file(bin_path.join("gcc")).unwrap();
    peer.dispatch(2, task(&hello, source, &encoded, &[]));
    peer.expect_need(2);
    peer.feed(2, &encoded, 1000);
    assert_eq!(peer.expect_failed(2).0, Code::Worker);
    while peer.hear().is_some() {}
    let (_, hello) = grid.welcome(WINDOW);
    assert!(hello.toolchains.is_empty());
}

#[test]
fn what_it_did_is_counted() {
    let grid = Grid::new(3);
    let (mut peer, hello) = grid.welcome(WINDOW);
    let source = b"int x;\n";
    let encoded = zstd(source);
    peer.dispatch(1, task(&hello, source, &encoded, &[]));
    peer.expect_need(1);
    peer.feed(1, &encoded, 1000);
    peer.take(1);
    let answer = grid.get("GET /metrics");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for line in [
        r#"hybridgrid_tasks_total{outcome="done"} 1"#,
        "hybridgrid_worker_running 0",
        "hybridgrid_worker_slots 3",
        "hybridgrid_worker_connected 1",
        "hybridgrid_worker_reconnects_total 0",
        "hybridgrid_task_duration_seconds_count 1",
    ] {
        assert!(
            answer.contains(&format!("\n{line}\n")),
            "{line} is not in {answer}"
        );
    }
    assert!(!answer.contains("hybridgrid_worker_received_bytes_total 0\n"));
    assert!(grid.get("HEAD /health").starts_with("HTTP/1.1 200"));
    assert!(grid.get("POST /health").starts_with("HTTP/1.1 405"));
    assert!(grid.get("GET /").starts_with("HTTP/1.1 404"));
}

/// A field of /proc/PID/stat (proc(5)), from the third on.
fn stat(process: &Path, field: usize) -> i32 {
    let text = fs::read_to_string(process.join("stat")).unwrap();
    let (_, fields) = text.rsplit_once(") ").unwrap();
    fields.split(' ').nth(field - 3).unwrap().parse().unwrap()
}

#[test]
fn a_compiler_yields_to_everything_else() {
    let grid = Grid::start(1, tempfile::tempdir().unwrap(), |command| {
        command.args(["--nice", "7"]);
    });
    let (mut peer, hello) = grid.welcome(WINDOW);
    begin_endless(&grid, &mut peer, &hello, 1);
    let tasks = grid.state.path().canonicalize().unwrap().join("tasks");
    let processes = processes_of(&tasks);
    assert!(!processes.is_empty());
    let ours = stat(Path::new("/proc/self"), 19);
    for process in processes {
        let adjusted = fs::read_to_string(process.join("oom_score_adj")).unwrap();
        assert_eq!(adjusted.trim(), "1000");
        assert_eq!(stat(&process, 19), (ours + 7).min(19));
        let pid: i32 = process
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        // SAFETY: a plain system call with two numbers; 1: a process is asked for.
        let class = unsafe { nix::libc::syscall(nix::libc::SYS_ioprio_get, 1, pid) };
        assert_eq!(class, (2 << 13) | 7);
    }
    // The worker itself does not.
    let worker = PathBuf::from(format!("/proc/{}", grid.worker.id()));
    let adjusted = fs::read_to_string(worker.join("oom_score_adj")).unwrap();
    assert_ne!(adjusted.trim(), "1000");
    assert_eq!(stat(&worker, 19), ours);
}

#[test]
fn heartbeats_say_how_many_slots_there_are() {
    let grid = Grid::new(2);
    let (mut peer, _) = grid.welcome(WINDOW);
    let (slots, why) = peer.expect(|kind| match kind {
        from_worker::Kind::Heartbeat(beat) => Some((beat.slots.unwrap(), beat.slots_why)),
        _ => None,
    });
    // Others may have this machine too.
    assert!(slots <= 2, "{slots}");
    assert_eq!(slots == 2, why.is_empty(), "{slots} {why}");
}

#[test]
fn a_compile_that_does_not_fit_into_memory_goes_elsewhere() {
    let grid = Grid::new(4);
    let (mut peer, hello) = grid.welcome(WINDOW);
    let source = b"int x;\n";
    let encoded = zstd(source);
    let small = || task(&hello, source, &encoded, &[]);
    peer.dispatch_of(1, small(), hello.memory_bytes);
    peer.expect_all(&[Said::Failed(1, Code::Busy)]);
    // Where others compile it waits for their memory; alone it does not fit.
    begin_endless(&grid, &mut peer, &hello, 2);
    peer.dispatch_of(3, small(), hello.memory_bytes);
    peer.expect_need(3);
    peer.feed(3, &encoded, 1000);
    peer.say(to_worker::Kind::Cancel(v1::Cancel { dispatch_id: 2 }));
    peer.expect_all(&[
        Said::Failed(2, Code::Cancelled),
        Said::Failed(3, Code::Busy),
    ]);
    until("a clean state", || grid.is_clean().then_some(()));
}

#[test]
fn task_folders_lie_where_they_are_wanted() {
    let scratch = tempfile::tempdir().unwrap();
    let above = scratch.path().canonicalize().unwrap();
    let mut grid = Grid::start(1, tempfile::tempdir().unwrap(), |command| {
        command.arg("--scratch").arg(&above);
    });
    let (mut peer, hello) = grid.welcome(WINDOW);
    begin_endless(&grid, &mut peer, &hello, 1);
    let tasks = grid.state.path().canonicalize().unwrap().join("tasks");
    let place = fs::read_link(&tasks).unwrap();
    assert!(place.starts_with(&above), "{}", place.display());
    let folder = fs::read_dir(&place).unwrap().next().unwrap().unwrap();
    assert!(folder.path().join("root/in.c").is_file());
    let source = b"int x;\n";
    let encoded = zstd(source);
    peer.dispatch(2, task(&hello, source, &encoded, &[]));
    peer.expect_need(2);
    peer.feed(2, &encoded, 1000);
    peer.say(to_worker::Kind::Cancel(v1::Cancel { dispatch_id: 1 }));
    let both = [Said::Failed(1, Code::Cancelled), Said::Begun(2)];
    assert_eq!(peer.take_with(2, &both).1.exit_code, 0);
    begin_endless(&grid, &mut peer, &hello, 3);
    // Nothing of it stays, however the worker ends.
    grid.signal(Signal::SIGKILL);
    assert_eq!(grid.end().signal(), Some(9));
    until("an empty place", || (!place.exists()).then_some(()));
    assert_eq!(fs::read_dir(&above).unwrap().count(), 0);
}

/// What a command does that is to end by itself; one that does not is killed.
fn hg_worker(home: &Path, token: Option<&str>, words: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hg-worker-lite"));
    for name in ["HG_TOKEN", "HG_COORDINATOR", "HG_LOG"] {
        command.env_remove(name);
    }
    let mut child = command
        .args(words)
        .env("HOME", home)
        .envs(token.map(|token| ("HG_TOKEN", token)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        std::thread::sleep(LOOK_AGAIN);
    }
    // No effect on one that has ended.
    let _ = child.kill();
    child.wait_with_output().unwrap()
}

#[test]
fn what_is_wrong_here_ends_with_exit_code_2_and_words() {
    let home = tempfile::tempdir().unwrap();
    let damaged = home.path().join("damaged.pem");
    fs::write(&damaged, "no certificate").unwrap();
    let damaged = damaged.to_str().unwrap();
    let claims = hg_proto::secure::token::Claims {
        role: hg_proto::secure::token::Role::Client,
        key: 1,
        issued_s: 1,
        expires_s: 0,
        name: "me".into(),
    };
    let of_client = hg_proto::secure::token::Token {
        secret: claims.secret(&[1; 32], &[2; 32]),
        claims,
        fingerprint: [2; 32],
    };
    let of_client = of_client.to_text();
    let quiet = ["serve", "--http", "off", "--coordinator"];
    let to = |words: &[&'static str]| [&quiet[..], &["127.0.0.1:9"], words].concat();
    let certified = |certificate, key| {
        let words = [
            "--tls-ca",
            damaged,
            "--tls-cert",
            certificate,
            "--tls-key",
            key,
        ];
        [&quiet[..], &["127.0.0.1:9"], &words].concat()
    };
    let join = ["join", "--coordinator", "127.0.0.1:9"];
    for (token, words, said) in [
        (None, vec![], "say what to do"),
        (None, vec!["frobnicate"], "frobnicate"),
        (None, vec!["serve", "--frob"], "--frob"),
        (None, to(&["more"]), "more"),
        (None, to(&["--slots", "none"]), "none"),
        (None, to(&["--slots", "0"]), "--slots 0"),
        (None, to(&["--nice", "20"]), "--nice 20"),
        (None, to(&["--sandbox", "some"]), "--sandbox some"),
        (None, to(&["--state", "/dev/null/state"]), "/dev/null/state"),
        (None, vec!["serve"], "no coordinator"),
        (None, vec!["serve", "--coordinator", "host"], "HOST:PORT"),
        (None, to(&["--tls-ca", "/nowhere.pem"]), "/nowhere.pem"),
        (
            None,
            [&quiet[..], &["127.0.0.1:9", "--tls-ca", damaged]].concat(),
            "damaged.pem",
        ),
        (None, to(&["--tls-cert", "/nowhere.pem"]), "--tls-ca"),
        (
            None,
            certified("/nowhere.pem", "/nowhere.key"),
            "damaged.pem",
        ),
        (
            None,
            to(&["--insecure", "--tls-ca", "/nowhere.pem"]),
            "--insecure",
        ),
        (Some("garbage"), to(&[]), "HG_TOKEN"),
        (None, vec!["join", "--frob"], "--frob"),
        (Some(&of_client), vec!["join"], "hgbuild join"),
        (None, join.to_vec(), "stdin"),
        (Some("garbage"), join.to_vec(), "HG_TOKEN"),
        (Some(&of_client), join.to_vec(), "hgbuild join"),
        (
            None,
            [&join[..], &["/nowhere/token"]].concat(),
            "/nowhere/token",
        ),
        (
            Some(&of_client),
            [&join[..], &["--tls-ca", damaged]].concat(),
            "hgbuild join",
        ),
    ] {
        let output = hg_worker(home.path(), token, &words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {stderr}");
        assert!(stderr.contains(said), "{words:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{words:?}: it began to serve");
    }
    for words in [
        &["--help"][..],
        &["serve", "--help"],
        &["help"],
        &["--version"],
    ] {
        let code = hg_worker(home.path(), None, words).status.code();
        assert_eq!(code, Some(0), "{words:?}");
    }
}
