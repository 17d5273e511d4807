//! Who has a good token takes all that one holder may, and no more: room in the queue,
//! what is held of messages that never end, streams of events.

use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use hg_coord::bounds::{HOLDER_PARTIAL_BYTES_MAX, HOLDER_WATCHERS_MAX, QUEUE_BYTES_MAX};
use hg_coord::commands::dial::Bearing;
use hg_proto::v1::{
    self, SubmitRequest, WatchEventsRequest, from_worker, submit_request, submit_response,
    to_worker,
};
use hg_proto::wire::limits::{ARGUMENTS_MAX, CHUNK_BYTES_MAX, GRPC_MESSAGE_BYTES_MAX};
use hg_tests::grid::Grid;
use hg_tests::h2::{
    ACK, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, call_headers, frame, headers, message,
};
use hg_tests::hostile::{build_now, build_under, hello, peak, resident, task, toolchain};
use hg_tests::programs::programs;
use hg_tests::tls_peer::TlsPeer;
use prost::Message;
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tonic::Code;

use super::{client, client_at, fingerprint, runtime};

/// Between two heartbeats.
const BEAT: Duration = Duration::from_millis(50);
/// Threads that flood the queue, each with a connection of its own.
const THREADS: usize = 8;
/// Tasks of each: together far more than the queue has room for.
const TASKS: usize = 80;
/// Bytes of each of a large task's arguments.
const ARGUMENT_BYTES: usize = 60;
/// Bytes beyond what is counted: buffers of connections, and what the allocator has not
/// given back.
const SLACK_BYTES: u64 = 64 << 20;
/// Streams of a connection with a message that does not end.
const STREAMS: usize = 225;
/// Bytes of a message of which that is all that ever comes.
const PART_BYTES: usize = 200 << 10;

/// A worker of one slot that the test plays, which takes each task and ends none of its
/// own accord.
struct Played {
    peer: TlsPeer,
    running: Vec<v1::Dispatch>,
    beats: u64,
}

impl Played {
    /// Says that it is there and that its compilers run, and takes what it is given.
    fn beat(&mut self) {
        self.beats += 1;
        self.peer.say(from_worker::Kind::Heartbeat(v1::Heartbeat {
            sequence: self.beats,
            ..v1::Heartbeat::default()
        }));
        for dispatch in &self.running {
            self.peer.say(from_worker::Kind::Begun(v1::Begun {
                dispatch_id: dispatch.dispatch_id,
                cpu_us: Some(self.beats * 1_000_000),
                ended: false,
            }));
        }
        // Each heartbeat is answered.
        while let Some(kind) = self.peer.hear() {
            match kind {
                to_worker::Kind::Dispatch(dispatch) => {
                    self.peer.say(from_worker::Kind::Need(v1::Need {
                        dispatch_id: dispatch.dispatch_id,
                        digests: Vec::new(),
                    }));
                    self.running.push(dispatch);
                }
                to_worker::Kind::Cancel(cancel) => {
                    let is_other = |it: &v1::Dispatch| it.dispatch_id != cancel.dispatch_id;
                    self.running.retain(is_other);
                }
                to_worker::Kind::HeartbeatSeen(_) => break,
                _ => {}
            }
        }
    }

    /// Ends what came first, as a compiler that finds an error; the source that it was.
    fn end_one(&mut self) -> String {
        while self.running.is_empty() {
            self.beat();
        }
        let dispatch = self.running.remove(0);
        self.peer.say(from_worker::Kind::Done(v1::Done {
            dispatch_id: dispatch.dispatch_id,
            result: Some(v1::TaskResult {
                exit_code: 1,
                usage: Some(v1::Usage::default()),
                ..v1::TaskResult::default()
            }),
        }));
        dispatch.task.unwrap_or_default().source
    }

    /// Is there until `over`, and answers each of `orders` with the source of the task that
    /// it ends for it.
    fn serve(mut self, over: &AtomicBool, orders: &Receiver<()>, ended: &Sender<String>) {
        while !over.load(Ordering::SeqCst) {
            self.beat();
            if orders.recv_timeout(BEAT).is_ok() {
                let _ = ended.send(self.end_one());
            }
        }
    }
}

/// Plays a worker beside `scene`, which can have tasks ended.
fn beside_a_worker(grid: &Grid, scene: impl FnOnce(&dyn Fn() -> String)) {
    let token = grid.token(&["--role", "worker", "--name", "played"]);
    let mut peer = TlsPeer::worker(&grid.address(), fingerprint(grid));
    peer.say(from_worker::Kind::Hello(v1::Hello {
        token,
        toolchains: vec![toolchain(v1::Language::C)],
        ..hello(9)
    }));
    grid.wait_for_workers(grid.workers.len() + 1);
    let played = Played {
        peer,
        running: Vec::new(),
        beats: 0,
    };
    let over = AtomicBool::new(false);
    let ((order, orders), (end, ended)) = (channel(), channel());
    thread::scope(|scope| {
        let over = &over;
        scope.spawn(move || played.serve(over, &orders, &end));
        let end_one = || {
            order.send(()).expect("a worker");
            ended.recv().expect("a task that ended")
        };
        // Told however the scene ends.
        let scene = std::panic::AssertUnwindSafe(|| scene(&end_one));
        let played = std::panic::catch_unwind(scene);
        over.store(true, Ordering::SeqCst);
        if let Err(panic) = played {
            std::panic::resume_unwind(panic);
        }
    });
}

/// A task that takes as many and as much of arguments as one may, nearly.
fn large() -> v1::Task {
    let mut large = patient("flood.c");
    let argument = |number: usize| format!("-D{number:0>width$}", width = ARGUMENT_BYTES - 2);
    let more = (large.arguments.len()..ARGUMENTS_MAX).map(argument);
    large.arguments.extend(more.map(String::into_bytes));
    large
}

/// A task that waits as long as one may.
fn patient(source: &str) -> v1::Task {
    v1::Task {
        source: source.into(),
        queue_ms_max: u32::MAX,
        ..task(v1::Language::C)
    }
}

/// Submits it; comes back when it was taken in.
async fn submit(client: &mut Bearing, task: v1::Task) -> tonic::Streaming<v1::SubmitResponse> {
    let first = SubmitRequest {
        kind: Some(submit_request::Kind::Task(task)),
    };
    // The stream stays open, as that of a client that waits.
    let requests = tokio_stream::iter([first]).chain(tokio_stream::pending());
    let answers = client.submit_task(requests).await.expect("a stream");
    let mut answers = answers.into_inner();
    let first = answers.message().await.expect("an answer");
    let kind = first.and_then(|first| first.kind);
    let is_accepted = matches!(kind, Some(submit_response::Kind::Accepted(_)));
    assert!(is_accepted, "{kind:?}");
    answers
}

#[test]
fn a_flood_of_large_tasks_fills_what_is_one_holders_and_nothing_else() {
    let grid = Grid::start(programs(), 1, 2);
    let pin = fingerprint(&grid);
    let [flood, user] =
        ["flood", "user"].map(|name| grid.token(&["--role", "client", "--name", name]));
    let rest = resident(&grid.coordinator);
    let address = grid.address();
    let (done, all) = channel();
    let (over, open) = watch::channel(());
    beside_a_worker(&grid, |end_one| {
        thread::scope(|scope| {
            for _ in 0..THREADS {
                let (address, flood) = (&address, &flood);
                let (done, mut open) = (done.clone(), open.clone());
                scope.spawn(move || {
                    runtime().block_on(async {
                        let mut client = client_at(address, pin, flood).await;
                        let mut held = Vec::new();
                        for _ in 0..TASKS {
                            held.push(submit(&mut client, large()).await);
                        }
                        done.send(()).expect("a test");
                        // Until its other end is dropped.
                        let _ = open.changed().await;
                    });
                });
            }
            let flooded = std::panic::AssertUnwindSafe(|| {
                all.iter().take(THREADS).for_each(drop);
                let now = resident(&grid.coordinator);
                eprintln!("{} MiB at rest, {} MiB full", rest >> 20, now >> 20);
                assert!(
                    now < rest + QUEUE_BYTES_MAX as u64 + SLACK_BYTES,
                    "from {rest} to {now} bytes"
                );
                runtime().block_on(async {
                    let mut user = client(&grid, pin, &user).await;
                    let status = user.get_status(v1::GetStatusRequest {}).await;
                    let queued = status.expect("a status").into_inner().queued as usize;
                    assert!((100..THREADS * TASKS - 1).contains(&queued), "{queued}");
                    // Somebody else's task takes room from who has most of it, and is next.
                    let _open = submit(&mut user, patient("user.c")).await;
                    let ended: Vec<String> = (0..4).map(|_| end_one()).collect();
                    assert!(ended.iter().any(|source| source == "user.c"), "{ended:?}");
                });
                build_now(&grid, "beside a flood of tasks");
            });
            let flooded = std::panic::catch_unwind(flooded);
            drop(over);
            if let Err(panic) = flooded {
                std::panic::resume_unwind(panic);
            }
        });
    });
}

/// A connection of HTTP/2 that keeps to the other end's window, and to nothing else.
struct Halves {
    peer: TlsPeer,
    bearer: String,
    window: usize,
    /// The other end's settings were acknowledged.
    is_settled: bool,
    streams: u32,
    /// All that came in frames of data.
    heard: Vec<u8>,
    /// Streams that the other end has ended.
    ended: Vec<u32>,
}

impl Halves {
    fn open(grid: &Grid, token: &str) -> Halves {
        let mut peer = TlsPeer::grpc(&grid.address(), fingerprint(grid));
        peer.write(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
        let mut halves = Halves {
            peer,
            bearer: format!("Bearer {token}"),
            // RFC 9113, section 6.9.2.
            window: 65_535,
            is_settled: false,
            streams: 0,
            heard: Vec::new(),
            ended: Vec::new(),
        };
        // A stream's window is larger from then on.
        while !halves.is_settled {
            assert!(halves.hear(), "the connection ended");
        }
        halves
    }

    /// Calls a method; gives the stream.
    fn call(&mut self, block: &[u8]) -> u32 {
        let stream = 2 * self.streams + 1;
        self.streams += 1;
        self.peer.write(&frame(HEADERS, END_HEADERS, stream, block));
        stream
    }

    fn submit(&mut self) -> u32 {
        self.call(&call_headers(
            "SubmitTask",
            &[("authorization", &self.bearer)],
        ))
    }

    /// Says `bytes` on a stream, unless the other end has ended that. `false`: it has
    /// ended the connection.
    fn say(&mut self, stream: u32, bytes: &[u8]) -> bool {
        for part in bytes.chunks(16_000) {
            while self.window < part.len() {
                if !self.hear() {
                    return false;
                }
            }
            if self.ended.contains(&stream) {
                return true;
            }
            self.window -= part.len();
            self.peer.write(&frame(DATA, 0, stream, part));
        }
        true
    }

    /// Takes the next frame. `false`: there is none any more.
    fn hear(&mut self) -> bool {
        let mut head = [0; 9];
        match self.peer.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no frame in time"),
            Err(_) => return false,
        }
        let [_, a, b, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; usize::from(a) << 8 | usize::from(b)];
        if self.peer.stream.read_exact(&mut payload).is_err() {
            return false;
        }
        let stream = u32::from_be_bytes(stream);
        match kind {
            WINDOW_UPDATE if stream == 0 => {
                let more = payload[..4].try_into().expect("four bytes");
                self.window += u32::from_be_bytes(more) as usize;
            }
            SETTINGS if flags & ACK == 0 => {
                self.peer.write(&frame(SETTINGS, ACK, 0, &[]));
                self.is_settled = true;
            }
            PING if flags & ACK == 0 => self.peer.write(&frame(PING, ACK, 0, &payload)),
            DATA => self.heard.extend(&payload),
            _ => {}
        }
        let ends = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        if ends || kind == RST_STREAM {
            self.ended.push(stream);
        }
        true
    }

    /// Comes back when it was told `words`.
    fn hear_words(&mut self, words: &str) {
        let is_there = |heard: &[u8]| heard.windows(words.len()).any(|at| at == words.as_bytes());
        while !is_there(&self.heard) {
            assert!(self.hear(), "the connection ended");
        }
    }
}

/// The message of a small task.
fn small() -> Vec<u8> {
    let kind = Some(submit_request::Kind::Task(patient("half.c")));
    message(&SubmitRequest { kind }.encode_to_vec())
}

/// `bytes` of a message of `len`.
fn part(len: usize, bytes: usize) -> Vec<u8> {
    let mut part = message(&vec![7; bytes]);
    part[1..5].copy_from_slice(&(len as u32).to_be_bytes());
    part
}

#[test]
fn a_message_that_does_not_end_ends_its_stream() {
    let grid = Grid::start(programs(), 0, 1);
    let token = grid.token(&["--role", "client"]);
    beside_a_worker(&grid, |_| {
        let mut halves = Halves::open(&grid, &token);
        let stream = halves.submit();
        halves.say(stream, &small());
        halves.say(stream, &part(GRPC_MESSAGE_BYTES_MAX, 0));
        halves.hear_words("a message of 1048576 bytes, at most");
        let stream = halves.submit();
        halves.say(stream, &small());
        halves.say(stream, &part(CHUNK_BYTES_MAX, CHUNK_BYTES_MAX / 2));
        halves.hear_words("a message has begun and does not end");
        // A question of one who is not asked for a token.
        let block = headers("/grpc.health.v1.Health/Check", &[]);
        for bytes in [1, 0] {
            let len = if bytes == 0 { 1 << 20 } else { 100 };
            let stream = halves.call(&block);
            halves.say(stream, &part(len, bytes));
            while !halves.ended.contains(&stream) {
                assert!(halves.hear(), "the connection ended");
            }
        }
    });
}

#[test]
fn what_is_held_of_messages_that_do_not_end_is_bounded() {
    let grid = Grid::start(programs(), 2, 2);
    let token = grid.token(&["--role", "client", "--name", "halves"]);
    let rest = resident(&grid.coordinator);
    let bound = rest + HOLDER_PARTIAL_BYTES_MAX as u64 + SLACK_BYTES;
    let told = |what: &str| {
        let peak = peak(&grid.coordinator);
        eprintln!("{what}: {} MiB at rest, {} at most", rest >> 20, peak >> 20);
        assert!(peak < bound, "{what}: from {rest} to {peak} bytes");
    };
    build_under(&grid, "half messages", || {
        // Questions that would be far longer than any is.
        let large = part(GRPC_MESSAGE_BYTES_MAX, PART_BYTES);
        let asked = |_| {
            let mut halves = Halves::open(&grid, &token);
            let block = call_headers("GetStatus", &[("authorization", &halves.bearer)]);
            // Whoever goes on with too many of them is dropped.
            let _ = (0..STREAMS).all(|_| {
                let stream = halves.call(&block);
                halves.say(stream, &large)
            });
            halves
        };
        let held: Vec<Halves> = (0..4).map(asked).collect();
        told("questions");
        drop(held);
        // Inputs that nobody asked for, after tasks that wait.
        beside_a_worker(&grid, |_| {
            let bytes = [small(), part(CHUNK_BYTES_MAX, CHUNK_BYTES_MAX - 1)].concat();
            let open = |_| {
                let mut halves = Halves::open(&grid, &token);
                let _ = (0..4 * STREAMS).all(|_| {
                    let stream = halves.submit();
                    halves.say(stream, &bytes)
                });
                halves
            };
            let _held: Vec<Halves> = (0..4).map(open).collect();
            told("inputs");
        });
    });
}

#[test]
fn one_holder_has_so_many_streams_of_events() {
    let grid = Grid::start(programs(), 0, 1);
    let pin = fingerprint(&grid);
    let [watcher, other] =
        ["watcher", "other"].map(|name| grid.token(&["--role", "client", "--name", name]));
    runtime().block_on(async {
        let watch = async |client: &mut Bearing| {
            let events = client.watch_events(WatchEventsRequest {}).await;
            events.map(tonic::Response::into_inner)
        };
        let (mut one, mut two) = (
            client(&grid, pin, &watcher).await,
            client(&grid, pin, &watcher).await,
        );
        let mut held = Vec::new();
        for number in 0..HOLDER_WATCHERS_MAX {
            let from = if number % 2 == 0 { &mut one } else { &mut two };
            held.push(watch(from).await.expect("events"));
        }
        let refused = watch(&mut two).await.map(drop);
        let code = refused.expect_err("one more than may be").code();
        assert_eq!(code, Code::ResourceExhausted);
        let mut other = client(&grid, pin, &other).await;
        watch(&mut other).await.expect("another's events");
        // One that goes makes room.
        held.pop();
        let mut again = None;
        while again.is_none() {
            assert!(grid.coordinator.lives_for(Duration::from_millis(20)));
            again = watch(&mut one).await.ok();
        }
    });
}
