//! The real program on free ports, with workers over plain sockets and a gRPC
//! client. Nothing sleeps: everything waits for an event, with a deadline.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hg_proto::v1::failure::Code;
use hg_proto::v1::{
    self, FromWorker, SubmitRequest, ToWorker, from_worker, submit_request, submit_response,
    to_worker,
};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::frame::{self, Decoder};
use hg_proto::wire::limits::{CHUNK_BYTES_MAX, FRAME_BYTES_MAX, OUTPUT_WINDOW_BYTES};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;

use hg_coord::serve::grpc::Client as BuildServiceClient;

const DEADLINE: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A running coordinator.
struct Coord {
    child: Child,
    grid: String,
    http: String,
    state: tempfile::TempDir,
}

impl Coord {
    fn start() -> Self {
        Self::start_as(Command::new(env!("CARGO_BIN_EXE_hg-coord")))
    }

    /// With a limit on open files.
    fn start_with_fds(fds: u32) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {fds} && exec \"$0\" \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_hg-coord")]);
        Self::start_as(command)
    }

    fn start_as(mut command: Command) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut child = command
            .args([
                "serve",
                "--cache-size",
                "off",
                "--insecure",
                "--listen",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
                "--state",
            ])
            .arg(state.path().join("coord"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            let _ = sender.send(line);
        });
        let line = line
            .recv_timeout(DEADLINE)
            .expect("a line with the addresses");
        let file = std::fs::read_to_string(state.path().join("coord/endpoints.json")).unwrap();
        assert_eq!(line, file);
        let endpoints: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = |name: &str| endpoints[name].as_str().unwrap().to_owned();
        Coord {
            child,
            grid: address("grid"),
            http: address("http"),
            state,
        }
    }

    async fn client(&self) -> BuildServiceClient<Channel> {
        BuildServiceClient::new(self.channel().await)
    }

    async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.grid)).unwrap();
        endpoint.connect_timeout(DEADLINE).connect().await.unwrap()
    }

    fn request(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (
            head.split(' ').nth(1).unwrap().parse().unwrap(),
            body.to_owned(),
        )
    }

    /// The value of a metric, as it is written in the text; 0 if it is not.
    fn metric(&self, name: &str) -> f64 {
        let (status, text) = self.request("GET", "/metrics");
        assert_eq!(status, 200);
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    fn dropped(&self, reason: &str) -> f64 {
        self.metric(&format!(
            "hybridgrid_connections_dropped_total{{reason=\"{reason}\"}}"
        ))
    }

    fn wait_metric(&self, name: &str, least: f64) {
        let deadline = Instant::now() + DEADLINE;
        while self.metric(name) < least {
            assert!(Instant::now() < deadline, "{name} stays below {least}");
        }
    }

    fn wait_dropped(&self, reason: &str, least: f64) {
        let name = format!("hybridgrid_connections_dropped_total{{reason=\"{reason}\"}}");
        self.wait_metric(&name, least);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// How the process ended, if it does in time.
    fn wait(&mut self, limit: Duration) -> Option<i32> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        None
    }
}

impl Drop for Coord {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn toolchain() -> v1::Toolchain {
    v1::Toolchain {
        family: v1::Family::Gcc.into(),
        version: "12.2.0".into(),
        target: "x86_64-linux-gnu".into(),
        language: v1::Language::C.into(),
        digest: Digest::of(b"gcc").as_bytes().to_vec(),
        ..v1::Toolchain::default()
    }
}

fn hello(name: &str, slots: u32) -> from_worker::Kind {
    from_worker::Kind::Hello(v1::Hello {
        own_metrics: false,
        protocol_version: hg_proto::PROTOCOL_VERSION,
        program_version: "0".into(),
        name: name.into(),
        instance: Digest::of(name.as_bytes()).as_bytes()[..16].to_vec(),
        slots,
        cores: 4,
        memory_bytes: 1 << 30,
        architecture: "x86_64".into(),
        os: "linux".into(),
        speed_milli: 0,
        toolchains: vec![toolchain()],
        token: String::new(),
        sandbox: "full".into(),
        machine: None,
        shipping: Vec::new(),
    })
}

/// A worker's end of a link.
struct Worker {
    stream: TcpStream,
    decoder: Decoder,
    beats: u64,
}

impl Worker {
    fn dial(coord: &Coord) -> Self {
        let stream = TcpStream::connect(&coord.grid).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        Worker {
            stream,
            decoder: Decoder::new(),
            beats: 0,
        }
    }

    /// As a worker does: dials again when it was taken for a silent one, which on
    /// a busy machine may happen to anybody.
    fn join(coord: &Coord, name: &str, slots: u32) -> Self {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let mut worker = Self::dial(coord);
            worker.send(hello(name, slots));
            match worker.next() {
                Some(to_worker::Kind::Welcome(welcome)) => {
                    assert_eq!(welcome.window_bytes, OUTPUT_WINDOW_BYTES);
                    return worker;
                }
                None if Instant::now() < deadline => {}
                other => panic!("no welcome: {other:?}"),
            }
        }
    }

    fn send(&mut self, kind: from_worker::Kind) {
        let frame = frame::encode(&FromWorker { kind: Some(kind) }).unwrap();
        self.stream.write_all(&frame).unwrap();
    }

    fn beat(&mut self) {
        self.beats += 1;
        let beat = v1::Heartbeat {
            sequence: self.beats,
            load_milli: 10,
            ..Default::default()
        };
        self.send(from_worker::Kind::Heartbeat(beat));
    }

    /// The next message that is no answer to a heartbeat; `None`: the link is closed.
    fn next(&mut self) -> Option<to_worker::Kind> {
        let deadline = Instant::now() + DEADLINE;
        let mut buffer = vec![0; 64 << 10];
        loop {
            while let Some(message) = self.decoder.next_message::<ToWorker>().unwrap() {
                match message.kind {
                    Some(to_worker::Kind::HeartbeatSeen(_)) => {}
                    kind => return kind,
                }
            }
            assert!(Instant::now() < deadline, "nothing comes");
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(len) => self.decoder.push(&buffer[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => self.beat(),
                Err(_) => return None,
            }
        }
    }

    fn dispatch(&mut self) -> v1::Dispatch {
        match self.next() {
            Some(to_worker::Kind::Dispatch(dispatch)) => dispatch,
            other => panic!("no dispatch: {other:?}"),
        }
    }

    /// Asks for all inputs and gives their contents.
    fn inputs(&mut self, dispatch: &v1::Dispatch) -> Vec<Vec<u8>> {
        let inputs = &dispatch.task.as_ref().unwrap().inputs;
        let digests = inputs.iter().map(|input| input.digest.clone()).collect();
        let dispatch_id = dispatch.dispatch_id;
        self.send(from_worker::Kind::Need(v1::Need {
            dispatch_id,
            digests,
        }));
        let mut blobs = vec![Vec::new(); inputs.len()];
        let mut open = inputs.len();
        while open > 0 {
            match self.next() {
                Some(to_worker::Kind::Chunk(chunk)) => {
                    assert_eq!(chunk.dispatch_id, dispatch_id);
                    assert!(chunk.data.len() <= CHUNK_BYTES_MAX);
                    blobs[chunk.blob as usize].extend(chunk.data);
                    open -= usize::from(chunk.last);
                }
                other => panic!("no chunk: {other:?}"),
            }
        }
        blobs
    }

    /// Sends an output as the window lets it, and the result.
    fn finish(&mut self, dispatch_id: u64, output: &[u8]) {
        let mut window = OUTPUT_WINDOW_BYTES as usize;
        let count = output.chunks(CHUNK_BYTES_MAX).count();
        for (index, data) in output.chunks(CHUNK_BYTES_MAX).enumerate() {
            while window < data.len() {
                match self.next() {
                    Some(to_worker::Kind::Credit(credit)) => window += credit.bytes as usize,
                    other => panic!("no credit: {other:?}"),
                }
            }
            window -= data.len();
            let (data, last) = (data.to_vec(), index + 1 == count);
            self.send(from_worker::Kind::Chunk(v1::Chunk {
                dispatch_id,
                blob: 0,
                data,
                last,
            }));
        }
        self.done(dispatch_id, output);
    }

    fn done(&mut self, dispatch_id: u64, output: &[u8]) {
        let made = v1::Output {
            path: b"foo.o".to_vec(),
            digest: Digest::of(output).as_bytes().to_vec(),
            size: output.len() as u64,
            encoding: v1::Encoding::Identity.into(),
            encoded_size: output.len() as u64,
        };
        let outputs = if output.is_empty() {
            Vec::new()
        } else {
            vec![made]
        };
        let result = Some(v1::TaskResult {
            outputs,
            ..Default::default()
        });
        self.send(from_worker::Kind::Done(v1::Done {
            dispatch_id,
            result,
        }));
    }
}

fn task(content: &[u8]) -> v1::Task {
    v1::Task {
        toolchain: Some(toolchain()),
        arguments: vec![b"-c".to_vec(), b"foo.c".to_vec()],
        inputs: vec![v1::Input {
            path: b"foo.c".to_vec(),
            digest: Digest::of(content).as_bytes().to_vec(),
            size: content.len() as u64,
            encoding: v1::Encoding::Identity.into(),
            encoded_size: content.len() as u64,
        }],
        outputs: vec![b"foo.o".to_vec()],
        source: "foo.c".into(),
        client: "test".into(),
        ..Default::default()
    }
}

/// A client's end of a SubmitTask stream.
struct Submit {
    requests: tokio::sync::mpsc::UnboundedSender<SubmitRequest>,
    answers: tonic::Streaming<v1::SubmitResponse>,
    content: Vec<u8>,
}

impl Submit {
    async fn open(
        client: &mut BuildServiceClient<Channel>,
        task: v1::Task,
        content: &[u8],
    ) -> Self {
        let (requests, stream) = tokio::sync::mpsc::unbounded_channel();
        let request = SubmitRequest {
            kind: Some(submit_request::Kind::Task(task)),
        };
        requests.send(request).unwrap();
        let answers = client
            .submit_task(UnboundedReceiverStream::new(stream))
            .await;
        Submit {
            requests,
            answers: answers.unwrap().into_inner(),
            content: content.to_vec(),
        }
    }

    /// The next message that is not StillThere.
    async fn next(&mut self) -> submit_response::Kind {
        loop {
            let answer = tokio::time::timeout(DEADLINE, self.answers.next()).await;
            let kind = answer
                .expect("an answer in time")
                .expect("an answer")
                .unwrap()
                .kind;
            match kind.expect("a known kind") {
                submit_response::Kind::StillThere(_) => {}
                kind => return kind,
            }
        }
    }

    fn send_inputs(&self, attempt: u32) {
        let count = self.content.chunks(CHUNK_BYTES_MAX).count();
        for (index, data) in self.content.chunks(CHUNK_BYTES_MAX).enumerate() {
            let (data, last) = (data.to_vec(), index + 1 == count);
            let chunk = v1::InputChunk {
                attempt,
                input: 0,
                data,
                last,
            };
            let kind = Some(submit_request::Kind::Chunk(chunk));
            self.requests.send(SubmitRequest { kind }).unwrap();
        }
    }

    /// Answers what is asked until the end; the output of the last attempt.
    async fn end(&mut self) -> (Result<v1::Finished, v1::Failure>, Vec<u8>, Vec<String>) {
        let (mut output, mut workers) = (Vec::new(), Vec::new());
        loop {
            match self.next().await {
                submit_response::Kind::Started(started) => {
                    output.clear();
                    workers.push(started.worker);
                    assert_eq!(started.attempt as usize, workers.len());
                }
                submit_response::Kind::Need(need) => self.send_inputs(need.attempt),
                submit_response::Kind::Chunk(chunk) => output.extend(chunk.data),
                submit_response::Kind::Finished(end) => return (Ok(end), output, workers),
                submit_response::Kind::Failure(end) => return (Err(end), output, workers),
                _ => {}
            }
        }
    }
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn megabytes_pass_through_both_ways() {
    let coord = Coord::start();
    let mut worker = Worker::join(&coord, "one", 2);
    let (source, object) = (noise(5 << 20, 1), noise((5 << 20) + 17, 2));
    let made = object.clone();
    let side = in_background(move || {
        let dispatch = worker.dispatch();
        let blobs = worker.inputs(&dispatch);
        worker.finish(dispatch.dispatch_id, &made);
        (worker, blobs)
    });
    let mut client = coord.client().await;
    let mut submit = Submit::open(&mut client, task(&source), &source).await;
    let (end, output, workers) = submit.end().await;
    let finished = end.unwrap();
    let (_worker, blobs) = side.await.unwrap();
    assert!(blobs[0] == source && output == object);
    assert_eq!(
        (finished.worker.as_str(), finished.attempt, workers.len()),
        ("one", 1, 1)
    );
    for direction in ["to_worker", "to_client"] {
        let bytes = coord.metric(&format!(
            "hybridgrid_bytes_total{{direction=\"{direction}\"}}"
        ));
        assert!(bytes >= (5 << 20) as f64, "{direction}: {bytes}");
    }
    assert_eq!(coord.metric("hybridgrid_tasks_total{outcome=\"ok\"}"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dying_worker_costs_an_attempt_and_not_the_task() {
    let coord = Coord::start();
    let (name, twin) = ("one", "two");
    let mut first = Worker::join(&coord, name, 1);
    let source = noise(200_000, 3);
    let mut client = coord.client().await;
    let mut submit = Submit::open(&mut client, task(&source), &source).await;
    let dispatch = first.dispatch();
    let mut second = Worker::join(&coord, twin, 1);
    // In the middle of its output.
    let half = v1::Chunk {
        dispatch_id: dispatch.dispatch_id,
        blob: 0,
        data: b"void".to_vec(),
        last: false,
    };
    first.send(from_worker::Kind::Chunk(half));
    first.stream.shutdown(Shutdown::Both).unwrap();
    let side = in_background(move || {
        let dispatch = second.dispatch();
        let blobs = second.inputs(&dispatch);
        second.finish(dispatch.dispatch_id, b"object");
        (second, blobs)
    });
    let (end, output, workers) = submit.end().await;
    assert_eq!(end.unwrap().attempt, 2);
    assert_eq!(
        (output.as_slice(), workers),
        (&b"object"[..], vec![name.into(), twin.into()])
    );
    assert!(side.await.unwrap().1[0] == source);
    assert_eq!(coord.metric("hybridgrid_retries_total"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_takes_its_task_along() {
    let coord = Coord::start();
    let mut worker = Worker::join(&coord, "one", 1);
    let mut client = coord.client().await;
    let running = Submit::open(&mut client, task(b"a"), b"a").await;
    let dispatch = worker.dispatch();
    let queued = Submit::open(&mut client, task(b"b"), b"b").await;
    coord.wait_metric("hybridgrid_queue_length", 1.0);
    drop(queued);
    coord.wait_metric("hybridgrid_tasks_total{outcome=\"cancelled\"}", 1.0);
    assert_eq!(coord.metric("hybridgrid_queue_length"), 0.0);
    drop(running);
    let side = in_background(move || (worker.next(), worker));
    let (cancel, mut worker) = side.await.unwrap();
    let dispatch_id = dispatch.dispatch_id;
    let told = to_worker::Kind::Cancel(v1::Cancel { dispatch_id });
    assert_eq!(cancel, Some(told));
    // What was on its way when it was told is no fault.
    let (data, last) = (b"late".to_vec(), true);
    worker.send(from_worker::Kind::Chunk(v1::Chunk {
        dispatch_id,
        blob: 0,
        data,
        last,
    }));
    worker.done(dispatch_id, b"late");
    let mut next = Submit::open(&mut client, task(b"c"), b"c").await;
    let dispatch = worker.dispatch();
    worker.finish(dispatch.dispatch_id, b"object");
    assert!(next.end().await.0.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_holds_nobody_up() {
    let coord = Coord::start();
    let mut worker = Worker::join(&coord, "one", 2);
    let mut client = coord.client().await;
    let (_stalled, first) = {
        let submit = Submit::open(&mut client, task(b"a"), b"a").await;
        (submit, worker.dispatch())
    };
    // More than is ever taken in for one who does not read would be a fault;
    // the window itself is not.
    let mut sent = 0;
    while sent < OUTPUT_WINDOW_BYTES as usize {
        let data = vec![7; CHUNK_BYTES_MAX];
        sent += data.len();
        let dispatch_id = first.dispatch_id;
        worker.send(from_worker::Kind::Chunk(v1::Chunk {
            dispatch_id,
            blob: 0,
            data,
            last: false,
        }));
    }
    let mut other = coord.client().await;
    let side = in_background(move || {
        loop {
            match worker.next() {
                Some(to_worker::Kind::Dispatch(dispatch)) => {
                    worker.finish(dispatch.dispatch_id, b"object");
                    return worker;
                }
                Some(to_worker::Kind::Credit(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    });
    let mut submit = Submit::open(&mut other, task(b"b"), b"b").await;
    let (end, output, _) = submit.end().await;
    assert_eq!(
        (end.unwrap().worker.as_str(), output.as_slice()),
        ("one", &b"object"[..])
    );
    side.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_the_protocol_is_dropped_and_counted() {
    let coord = Coord::start();
    let too_long = (FRAME_BYTES_MAX as u32 + 1).to_be_bytes();
    let encoded = |kind| frame::encode(&FromWorker { kind: Some(kind) }).unwrap();
    let twice = [encoded(hello("twice", 1)), encoded(hello("twice", 1))].concat();
    let done = v1::Done {
        dispatch_id: 77,
        result: Some(Default::default()),
    };
    let unasked = [
        encoded(hello("unasked", 1)),
        encoded(from_worker::Kind::Done(done)),
    ]
    .concat();
    let cases: &[(&str, &[u8])] = &[
        ("unknown_protocol", b"GET / HTTP/1.1\r\n\r\n"),
        ("unknown_protocol", b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n"),
        ("unknown_protocol", &[0xff; 100]),
        ("frame_too_long", &too_long),
        ("frame_empty", &[0; 64]),
        ("frame_garbage", &[0, 0, 0, 3, 0x0a, 0xff, 0xff]),
        ("unknown_message", &[0, 0, 0, 3, 0xfa, 0x01, 0x00]),
        (
            "no_hello",
            &encoded(from_worker::Kind::Draining(v1::Draining {})),
        ),
        ("bad_hello", &encoded(hello("none", 0))),
        ("second_hello", &twice),
        ("unknown_dispatch", &unasked),
    ];
    for (reason, bytes) in cases {
        let before = coord.dropped(reason);
        let mut stream = TcpStream::connect(&coord.grid).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // It may hang up before it has read everything.
        let _ = stream.write_all(bytes);
        coord.wait_dropped(reason, before + 1.0);
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        assert!(
            !matches!(&end, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock),
            "{reason}"
        );
    }
    let mut cut = TcpStream::connect(&coord.grid).unwrap();
    cut.write_all(&encoded(hello("cut", 1))).unwrap();
    cut.write_all(&[0, 0, 0, 9, 1]).unwrap();
    cut.shutdown(Shutdown::Write).unwrap();
    coord.wait_dropped("frame_truncated", 1.0);
    assert_eq!(coord.metric("hybridgrid_workers"), 0.0);
    assert_eq!(coord.request("GET", "/health"), (200, "ok\n".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_cheat_with_outputs_are_dropped() {
    let coord = Coord::start();
    let mut client = coord.client().await;
    type Cheat = fn(&mut Worker, u64);
    let cheats: [(&str, Cheat); 4] = [
        ("bad_chunk", |worker, dispatch_id| {
            // Beyond the window, and all that the client's HTTP/2 takes in unasked (2 MiB).
            for _ in 0..=OUTPUT_WINDOW_BYTES as usize / CHUNK_BYTES_MAX * 16 {
                let data = vec![1; CHUNK_BYTES_MAX];
                let chunk = v1::Chunk {
                    dispatch_id,
                    blob: 0,
                    data,
                    last: false,
                };
                let kind = Some(from_worker::Kind::Chunk(chunk));
                let frame = frame::encode(&FromWorker { kind }).unwrap();
                if worker.stream.write_all(&frame).is_err() {
                    break;
                }
            }
        }),
        ("bad_chunk", |worker, dispatch_id| {
            let chunk = v1::Chunk {
                dispatch_id,
                blob: 9,
                data: vec![1],
                last: true,
            };
            worker.send(from_worker::Kind::Chunk(chunk));
        }),
        ("bad_result", |worker, dispatch_id| {
            worker.done(dispatch_id, b"never sent")
        }),
        ("bad_need", |worker, dispatch_id| {
            let digests = vec![vec![9; 32]];
            worker.send(from_worker::Kind::Need(v1::Need {
                dispatch_id,
                digests,
            }));
        }),
    ];
    for (index, (reason, cheat)) in cheats.into_iter().enumerate() {
        let before = coord.dropped(reason);
        // One that was known would get nothing after the third time.
        let mut worker = Worker::join(&coord, &format!("cheat{index}"), 1);
        // Reads nothing, so that there is no credit.
        let mut submit = Submit::open(&mut client, task(b"a"), b"a").await;
        let dispatch = worker.dispatch();
        cheat(&mut worker, dispatch.dispatch_id);
        coord.wait_dropped(reason, before + 1.0);
        assert_eq!(
            submit.end().await.0.unwrap_err().code(),
            Code::Link,
            "{reason}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_breaks_each_task_is_left_alone_until_a_probe_went_well() {
    let coord = Coord::start();
    let mut client = coord.client().await;
    let circuit = |coord: &Coord| {
        let body = coord.request("GET", "/api/v1/workers").1;
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        json[0]["circuit"].as_str().unwrap().to_owned()
    };
    for _ in 0..3 {
        let mut worker = Worker::join(&coord, "weak", 1);
        assert_eq!(circuit(&coord), "closed");
        let mut submit = Submit::open(&mut client, task(b"a"), b"a").await;
        worker.dispatch();
        drop(worker);
        assert_eq!(submit.end().await.0.unwrap_err().code(), Code::Link);
    }
    let mut worker = Worker::join(&coord, "weak", 1);
    assert_eq!(circuit(&coord), "open");
    assert_eq!(
        coord.metric("hybridgrid_circuit_state{worker=\"weak\"}"),
        2.0
    );
    let mut submit = Submit::open(&mut client, task(b"a"), b"a").await;
    assert_eq!(submit.end().await.0.unwrap_err().code(), Code::Queue);
    let deadline = Instant::now() + DEADLINE;
    let mut beats_at = Instant::now();
    while circuit(&coord) == "open" {
        assert!(Instant::now() < deadline, "open for ever");
        if Instant::now() >= beats_at {
            worker.beat();
            beats_at += Duration::from_millis(500);
        }
    }
    assert_eq!(circuit(&coord), "half-open");
    let mut submit = Submit::open(&mut client, task(b"a"), b"a").await;
    let dispatch = worker.dispatch();
    worker.finish(dispatch.dispatch_id, b"object");
    assert!(submit.end().await.0.is_ok());
    assert_eq!(circuit(&coord), "closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_hangs_in_a_compile_is_overtaken_by_another() {
    let coord = Coord::start();
    let mut client = coord.client().await;
    let mut first = Worker::join(&coord, "first", 1);
    // So that the file is known, and known to be quick.
    for _ in 0..2 {
        let mut submit = Submit::open(&mut client, task(b"a"), b"a").await;
        let dispatch = first.dispatch();
        first.finish(dispatch.dispatch_id, b"object");
        assert!(submit.end().await.0.is_ok());
    }
    let mut submit = Submit::open(&mut client, task(b"a"), b"a").await;
    let hanging = first.dispatch();
    let dispatch_id = hanging.dispatch_id;
    let digests = Vec::new();
    first.send(from_worker::Kind::Need(v1::Need {
        dispatch_id,
        digests,
    }));
    first.send(from_worker::Kind::Begun(v1::Begun {
        dispatch_id,
        ..v1::Begun::default()
    }));
    let mut second = Worker::join(&coord, "second", 1);
    let side = in_background(move || {
        let dispatch = second.dispatch();
        second.inputs(&dispatch);
        second.finish(dispatch.dispatch_id, b"from the second");
        second
    });
    let (end, output, workers) = submit.end().await;
    let finished = end.unwrap();
    assert_eq!((finished.worker.as_str(), finished.attempt), ("second", 2));
    assert_eq!(output, b"from the second");
    assert_eq!(workers, ["first", "second"]);
    side.await.unwrap();
    let cancel = to_worker::Kind::Cancel(v1::Cancel { dispatch_id });
    assert_eq!(first.next(), Some(cancel));
    assert_eq!(coord.metric("hybridgrid_hedges_total"), 1.0);
    assert_eq!(coord.metric("hybridgrid_retries_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_waits_for_the_last_task_and_says_so() {
    let coord = Coord::start();
    let mut client = coord.client().await;
    let mut worker = Worker::join(&coord, "one", 2);
    let mut submit = Submit::open(&mut client, task(b"a"), b"a").await;
    let dispatch = worker.dispatch();
    let drain = |worker: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hg-coord"));
        command.args(["drain", worker, "--state"]);
        command.arg(coord.state.path().join("coord"));
        command
    };
    let mut draining = drain("one").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(draining.stdout.take().unwrap()).lines();
    assert_eq!(worker.next(), Some(to_worker::Kind::Drain(v1::Drain {})));
    worker.send(from_worker::Kind::Draining(v1::Draining {}));
    let mut late = Submit::open(&mut client, task(b"a"), b"a").await;
    assert_eq!(late.end().await.0.unwrap_err().code(), Code::NoToolchain);
    // It has looked before the task ends.
    let first = lines.next().unwrap().unwrap();
    assert_eq!(first, "one: draining, 1 running");
    worker.finish(dispatch.dispatch_id, b"object");
    assert!(submit.end().await.0.is_ok());
    drop(worker);
    let said: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(draining.wait().unwrap().success(), "{said:?}");
    assert_eq!(
        said.last().map(String::as_str),
        Some("one: gone"),
        "{said:?}"
    );
    let nobody = drain("nobody").output().unwrap();
    let said = String::from_utf8(nobody.stderr).unwrap();
    assert!(
        !nobody.status.success() && said.contains("no such worker"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_learned_is_known_after_a_restart() {
    let mut coord = Coord::start();
    let mut client = coord.client().await;
    let mut worker = Worker::join(&coord, "one", 1);
    let mut submit = Submit::open(&mut client, task(b"a"), b"a").await;
    let dispatch = worker.dispatch();
    worker.finish(dispatch.dispatch_id, b"object");
    assert!(submit.end().await.0.is_ok());
    kill(Pid::from_raw(coord.child.id() as i32), Signal::SIGTERM).unwrap();
    assert!(coord.child.wait().unwrap().success());
    let path = coord.state.path().join("coord/predictor.json");
    let bytes = std::fs::read(&path).unwrap();
    let predictor = hg_coord::scheduling::predictor::Predictor::load(&bytes).unwrap();
    assert_eq!(predictor.files(), 1);
    let key = hg_coord::scheduling::predictor::worker_key("", "one");
    assert!(predictor.pace(key).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_by_the_hundred_hurt_nobody() {
    let coord = Coord::start_with_fds(700);
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(TcpStream::connect(&coord.grid).unwrap());
    }
    for stream in &mut silent[..20] {
        // Half of a preface is silence too. Some are gone by now.
        let _ = stream.write_all(b"PRI * HT");
    }
    let mut worker = Worker::join(&coord, "one", 1);
    let side = in_background(move || {
        let dispatch = worker.dispatch();
        worker.finish(dispatch.dispatch_id, b"object");
        worker
    });
    let mut client = coord.client().await;
    let (end, ..) = Submit::open(&mut client, task(b"a"), b"a")
        .await
        .end()
        .await;
    assert_eq!(end.unwrap().worker, "one");
    side.await.unwrap();
    coord.wait_dropped("crowded", 500.0);
    // The rest has a deadline.
    coord.wait_dropped("silent", 1.0);
    let mut http = Vec::new();
    for _ in 0..200 {
        http.push(TcpStream::connect(&coord.http).unwrap());
    }
    assert_eq!(coord.request("GET", "/health").0, 200);
    coord.wait_dropped("http_crowded", 100.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_worker_expires_and_its_task_goes_on() {
    let coord = Coord::start();
    let mut stopped = Worker::join(&coord, "stopped", 1);
    let mut client = coord.client().await;
    let source = noise(4 << 20, 5);
    let mut submit = Submit::open(&mut client, task(&source), &source).await;
    let dispatch = stopped.dispatch();
    let digests = dispatch
        .task
        .unwrap()
        .inputs
        .iter()
        .map(|i| i.digest.clone())
        .collect();
    let dispatch_id = dispatch.dispatch_id;
    // It asks for much, and then neither reads nor says anything.
    stopped.send(from_worker::Kind::Need(v1::Need {
        dispatch_id,
        digests,
    }));
    let mut well = Worker::join(&coord, "well", 1);
    let side = in_background(move || {
        let dispatch = well.dispatch();
        let blobs = well.inputs(&dispatch);
        well.finish(dispatch.dispatch_id, b"object");
        (well, blobs)
    });
    let (end, _, workers) = submit.end().await;
    assert_eq!((end.unwrap().attempt, workers.len()), (2, 2));
    assert!(side.await.unwrap().1[0] == source);
    coord.wait_dropped("expired", 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_tasks_and_bad_inputs_are_the_clients_fault() {
    let coord = Coord::start();
    let mut client = coord.client().await;
    let mut outside = task(b"a");
    outside.inputs[0].path = b"../a".to_vec();
    let (end, ..) = Submit::open(&mut client, outside, b"a").await.end().await;
    assert_eq!(end.unwrap_err().code(), Code::Refused);
    let (end, ..) = Submit::open(&mut client, task(b"a"), b"a")
        .await
        .end()
        .await;
    assert_eq!(end.unwrap_err().code(), Code::NoToolchain);
    let mut worker = Worker::join(&coord, "one", 1);
    // Announces one byte and sends two.
    let mut submit = Submit::open(&mut client, task(b"a"), b"ab").await;
    let dispatch = worker.dispatch();
    let digests = dispatch
        .task
        .unwrap()
        .inputs
        .iter()
        .map(|i| i.digest.clone())
        .collect();
    let dispatch_id = dispatch.dispatch_id;
    worker.send(from_worker::Kind::Need(v1::Need {
        dispatch_id,
        digests,
    }));
    assert_eq!(submit.end().await.0.unwrap_err().code(), Code::Input);
    let cancel = in_background(move || worker.next()).await.unwrap();
    assert_eq!(
        cancel,
        Some(to_worker::Kind::Cancel(v1::Cancel { dispatch_id }))
    );
    // A message over the bound ends its stream and nothing else.
    let mut large = task(b"a");
    large.arguments = vec![vec![b'x'; 2 << 20]];
    let (requests, stream) = tokio::sync::mpsc::unbounded_channel();
    let kind = Some(submit_request::Kind::Task(large));
    requests.send(SubmitRequest { kind }).unwrap();
    let answers = client
        .submit_task(UnboundedReceiverStream::new(stream))
        .await;
    let ended = match answers {
        Err(_) => true,
        Ok(answers) => !matches!(answers.into_inner().next().await, Some(Ok(_))),
    };
    assert!(ended);
    client.get_status(v1::GetStatusRequest {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_lists_events_and_draining() {
    let coord = Coord::start();
    let mut client = coord.client().await;
    let mut events = client
        .watch_events(v1::WatchEventsRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut worker = Worker::join(&coord, "o\x1b[31mne\n", 3);
    worker.beat();
    let event = tokio::time::timeout(DEADLINE, events.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let joined = v1::WorkerJoined {
        worker: "o[31mne".into(),
        slots: 3,
    };
    assert_eq!(event.kind, Some(v1::event::Kind::WorkerJoined(joined)));
    let status = client
        .get_status(v1::GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((status.workers, status.slots, status.slots_busy), (1, 3, 0));
    let list = client
        .list_workers(v1::ListWorkersRequest::default())
        .await
        .unwrap()
        .into_inner()
        .workers;
    assert_eq!(
        (list[0].name.as_str(), list[0].toolchains.len()),
        ("o[31mne", 1)
    );
    let (status, body) = coord.request("GET", "/api/v1/workers");
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, json[0]["slots"].as_u64()), (200, Some(3)));
    let digest = Digest::of(b"gcc").to_hex();
    assert_eq!(
        json[0]["toolchains"][0]["digest"].as_str(),
        Some(digest.as_str())
    );
    assert_eq!(coord.request("GET", "/nothing").0, 404);
    assert_eq!(coord.request("POST", "/metrics").0, 405);
    let hits = v1::ReportCacheHitRequest {
        client: "c".into(),
        hits: 7,
        saved_ms: 1,
        misses: 0,
    };
    client.report_cache_hit(hits).await.unwrap();
    assert_eq!(coord.metric("hybridgrid_cache_hits_total"), 7.0);
    let drain = v1::DrainWorkerRequest {
        worker: "o[31mne".into(),
        stay: false,
    };
    client.drain_worker(drain).await.unwrap();
    assert_eq!(worker.next(), Some(to_worker::Kind::Drain(v1::Drain {})));
    let nobody = v1::DrainWorkerRequest {
        worker: "nobody".into(),
        stay: false,
    };
    assert_eq!(
        client.drain_worker(nobody).await.unwrap_err().code(),
        tonic::Code::NotFound
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_reflection_answer() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServiceResponse};
    let coord = Coord::start();
    let channel = coord.channel().await;
    for service in ["", "hybridgrid.v1.BuildService"] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let answer = HealthClient::new(channel.clone())
            .check(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(answer.status, 1, "{service}");
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let answers = reflection
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap();
    let answer = answers.into_inner().next().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let named = |name: &str| ServiceResponse { name: name.into() };
    assert!(
        list.service.contains(&named("hybridgrid.v1.BuildService")),
        "{list:?}"
    );
    assert!(
        list.service.contains(&named("grpc.health.v1.Health")),
        "{list:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_everything_in_time() {
    let mut coord = Coord::start();
    let mut worker = Worker::join(&coord, "one", 1);
    let mut client = coord.client().await;
    let mut running = Submit::open(&mut client, task(b"a"), b"a").await;
    let dispatch_id = worker.dispatch().dispatch_id;
    let mut queued = Submit::open(&mut client, task(b"b"), b"b").await;
    coord.wait_metric("hybridgrid_queue_length", 1.0);
    let _silent = TcpStream::connect(&coord.grid).unwrap();
    coord.signal(Signal::SIGTERM);
    for submit in [&mut running, &mut queued] {
        assert_eq!(submit.end().await.0.unwrap_err().code(), Code::Shutdown);
    }
    let cancel = v1::Cancel { dispatch_id };
    assert_eq!(worker.next(), Some(to_worker::Kind::Cancel(cancel)));
    assert!(matches!(worker.next(), Some(to_worker::Kind::Goodbye(_))));
    assert_eq!(worker.next(), None);
    assert_eq!(coord.wait(Duration::from_secs(2)), Some(0));
}

#[test]
fn the_outside_world_must_be_asked_for() {
    let run = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_hg-coord"))
            .args(args)
            .output()
            .unwrap()
    };
    let refused = run(&["serve", "--insecure", "--listen", "0.0.0.0:0"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--insecure-any-address"));
    let version = run(&["--version"]);
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("hg-coord 0."));
    let help = run(&["serve", "--help"]);
    assert!(String::from_utf8_lossy(&help.stdout).contains("--listen"));
}

/// What a command does that is to end by itself; one that does not is killed.
fn hg_coord(home: &std::path::Path, words: &[&str]) -> std::process::Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_hg-coord"))
        .args(words)
        .env_remove("HG_TOKEN")
        .env("HOME", home)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        std::thread::sleep(LOOK_AGAIN);
    }
    // No effect on one that has ended.
    let _ = child.kill();
    child.wait_with_output().unwrap()
}

#[test]
fn wrong_usage_ends_with_exit_code_2_and_words() {
    let home = tempfile::tempdir().unwrap();
    let damaged = home.path().join("damaged.pem");
    std::fs::write(&damaged, "no certificate").unwrap();
    let damaged = damaged.to_str().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let quiet = ["serve", "--http", "off", "--listen"];
    let served = |words: &[&'static str]| [&quiet[..], &["127.0.0.1:0"], words].concat();
    for (words, said) in [
        (vec![], "say what to do"),
        (vec!["frobnicate"], "frobnicate"),
        (vec!["--frob"], "--frob"),
        (vec!["serve", "--frob"], "--frob"),
        (vec!["serve", "--listen", "9000"], "--listen"),
        (served(&["more"]), "more"),
        (served(&["--client-weight", "x"]), "--client-weight"),
        (served(&["--require-client-cert"]), "--require-client-cert"),
        (served(&["--tls-cert", "/nowhere.pem"]), "go together"),
        (served(&["--tls-ca", "/nowhere.pem"]), "/nowhere.pem"),
        (
            [&quiet[..], &["127.0.0.1:0", "--tls-ca", damaged]].concat(),
            "damaged.pem",
        ),
        ([&quiet[..], &[&taken]].concat(), "in use"),
        (served(&["--state", "/dev/null/state"]), "/dev/null/state"),
        (vec!["token"], "--role"),
        (vec!["token", "--role", "root"], "root"),
        (vec!["token", "--role", "client", "--name", "a b"], "a b"),
        (
            vec!["token", "--role", "client", "--expires", "soon"],
            "soon",
        ),
        (vec!["tokens", "alice"], "alice"),
        (vec!["tokens", "--state", "/nowhere"], "/nowhere"),
        (vec!["revoke"], "NAME"),
        (vec!["revoke", "a b"], "a b"),
        (vec!["rotate", "--overlap", "x"], "x"),
        (vec!["drain"], "WORKER"),
        (vec!["drain", "pi", "--state", "/nowhere"], "--coordinator"),
        (vec!["drain", "pi", "--coordinator", "host"], "HOST:PORT"),
        (
            vec![
                "drain",
                "pi",
                "--coordinator",
                "127.0.0.1:9",
                "--state",
                "/nowhere",
            ],
            "no token",
        ),
    ] {
        let output = hg_coord(home.path(), &words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {stderr}");
        assert!(stderr.contains(said), "{words:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{words:?}");
    }
    // What was typed is fine, and could not be done.
    let gone = ["drain", "pi", "--insecure", "--coordinator", "127.0.0.1:9"];
    assert_eq!(hg_coord(home.path(), &gone).status.code(), Some(1));
    for words in [
        &["--help"][..],
        &["token", "--help"],
        &["help"],
        &["--version"],
    ] {
        assert_eq!(
            hg_coord(home.path(), words).status.code(),
            Some(0),
            "{words:?}"
        );
    }
}

#[test]
fn a_state_folder_is_for_one_coordinator() {
    for secure in [true, false] {
        let first = Coord::start();
        let state = first.state.path().join("coord");
        let state = state.to_str().unwrap();
        let mut words = vec![
            "serve",
            "--http",
            "off",
            "--listen",
            "127.0.0.1:0",
            "--state",
            state,
        ];
        words.extend((!secure).then_some("--insecure"));
        let output = hg_coord(first.state.path(), &words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        let process = format!("process {}", first.child.id());
        assert!(
            stderr.contains(state) && stderr.contains(&process),
            "{stderr}"
        );
        // What the first one said is still there, and a killed one holds nobody up.
        let endpoints = std::fs::read_to_string(format!("{state}/endpoints.json")).unwrap();
        assert!(endpoints.contains(&first.grid), "{endpoints}");
    }
}

#[test]
fn a_coordinator_that_was_killed_leaves_its_state_to_the_next() {
    let mut first = Coord::start();
    first.signal(Signal::SIGKILL);
    first.wait(DEADLINE);
    let state = first.state.path().join("coord");
    let mut next = Command::new(env!("CARGO_BIN_EXE_hg-coord"))
        .args([
            "serve",
            "--insecure",
            "--listen",
            "127.0.0.1:0",
            "--http",
            "off",
            "--state",
        ])
        .arg(&state)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(next.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    next.kill().unwrap();
    next.wait().unwrap();
    assert!(line.contains("grid"), "{line}");
}
