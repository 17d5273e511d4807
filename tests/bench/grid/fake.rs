//! Workers without compilers, many in one thread: what a task gets is decided
//! by the benchmark.

use std::time::{Duration, Instant};

use hg_coord::commands::dial;
use hg_proto::secure::tls::{ALPN_WORKER, Dial, Trust};
use hg_proto::secure::token::Token;
use hg_proto::v1::{self, FromWorker, ToWorker, from_worker, to_worker};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::frame::{self, Decoder};
use hg_proto::wire::limits::HEARTBEAT_MS;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// Bytes of every object.
const OBJECT_BYTES: usize = 1024;
/// Compiles take some of these.
const COMPILE_STEP: Duration = Duration::from_millis(100);
/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;

/// What a worker does with its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Takes them and says that the compiler runs.
    Hold,
    /// Has the result of each at once.
    Answer,
    /// Has the result of each after some tenths of a second.
    Compile,
}

/// Serves one link for as long as the coordinator keeps it and `mode` has an
/// owner; in plaintext without a token.
///
/// # Errors
/// The link broke.
pub async fn serve(
    address: &str,
    token: Option<&Token>,
    number: usize,
    slots: u32,
    toolchains: Vec<v1::Toolchain>,
    mode: watch::Receiver<Mode>,
) -> std::io::Result<()> {
    let name = format!("fake-{number}");
    let hello = v1::Hello {
        shipping: Vec::new(),
        own_metrics: false,
        protocol_version: hg_proto::PROTOCOL_VERSION,
        program_version: "0".into(),
        instance: Digest::of(name.as_bytes()).as_bytes()[..16].to_vec(),
        name,
        slots,
        cores: slots,
        memory_bytes: 8 << 30,
        architecture: "x86_64".into(),
        os: "linux".into(),
        speed_milli: 0,
        token: token.map(Token::to_text).unwrap_or_default(),
        toolchains,
        sandbox: String::new(),
        machine: None,
    };
    match token {
        None => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            work(stream, hello, mode).await
        }
        Some(token) => {
            let trust = Trust::Pinned(token.fingerprint);
            let dial = Dial::new(&trust, address, ALPN_WORKER).map_err(std::io::Error::other)?;
            work(dial::connect(address, &dial).await?, hello, mode).await
        }
    }
}

async fn work<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    hello: v1::Hello,
    mut mode: watch::Receiver<Mode>,
) -> std::io::Result<()> {
    stream
        .write_all(&encoded(from_worker::Kind::Hello(hello)))
        .await?;
    let mut beat = tokio::time::interval(Duration::from_millis(HEARTBEAT_MS.into()));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut step = tokio::time::interval(COMPILE_STEP);
    step.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut worker = Worker::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => match read? {
                0 => return Ok(()),
                len => worker.decoder.push(&buffer[..len]),
            },
            _ = beat.tick() => worker.beat(),
            _ = step.tick(), if !worker.held.is_empty() => {}
            changed = mode.changed() => if changed.is_err() {
                return Ok(());
            },
        }
        let now = *mode.borrow();
        worker.work(now)?;
        if !worker.outgoing.is_empty() {
            stream.write_all(&worker.outgoing).await?;
            stream.flush().await?;
            worker.outgoing.clear();
        }
    }
}

#[derive(Default)]
struct Worker {
    decoder: Decoder,
    beats: u64,
    /// Tasks, what they want back, and when they came.
    held: Vec<(u64, Vec<u8>, Instant)>,
    outgoing: Vec<u8>,
}

impl Worker {
    fn work(&mut self, mode: Mode) -> std::io::Result<()> {
        while let Some(message) = self
            .decoder
            .next_message::<ToWorker>()
            .map_err(std::io::Error::other)?
        {
            match message.kind {
                Some(to_worker::Kind::Dispatch(dispatch)) => self.take(dispatch),
                Some(to_worker::Kind::Cancel(cancel)) => {
                    self.held.retain(|(held, ..)| *held != cancel.dispatch_id);
                }
                _ => {}
            }
        }
        for (dispatch_id, path, since) in std::mem::take(&mut self.held) {
            let is_over = match mode {
                Mode::Hold => false,
                Mode::Answer => true,
                // Some longer, some shorter.
                Mode::Compile => since.elapsed() >= COMPILE_STEP * (2 + dispatch_id as u32 % 7),
            };
            match is_over {
                true => self.answer(dispatch_id, path),
                false => self.held.push((dispatch_id, path, since)),
            }
        }
        Ok(())
    }

    fn take(&mut self, dispatch: v1::Dispatch) {
        let dispatch_id = dispatch.dispatch_id;
        let wanted = dispatch
            .task
            .and_then(|task| task.outputs.into_iter().next());
        let digests = Vec::new();
        self.say(from_worker::Kind::Need(v1::Need {
            dispatch_id,
            digests,
        }));
        self.say(from_worker::Kind::Begun(v1::Begun {
            dispatch_id,
            ..v1::Begun::default()
        }));
        self.held
            .push((dispatch_id, wanted.unwrap_or_default(), Instant::now()));
    }

    fn answer(&mut self, dispatch_id: u64, path: Vec<u8>) {
        let data = vec![7; OBJECT_BYTES];
        let output = v1::Output {
            path,
            digest: Digest::of(&data).as_bytes().to_vec(),
            size: OBJECT_BYTES as u64,
            encoding: v1::Encoding::Identity.into(),
            encoded_size: OBJECT_BYTES as u64,
        };
        self.say(from_worker::Kind::Chunk(v1::Chunk {
            dispatch_id,
            blob: 0,
            data,
            last: true,
        }));
        let result = v1::TaskResult {
            outputs: vec![output],
            ..v1::TaskResult::default()
        };
        self.say(from_worker::Kind::Done(v1::Done {
            dispatch_id,
            result: Some(result),
        }));
    }

    fn beat(&mut self) {
        self.beats += 1;
        self.say(from_worker::Kind::Heartbeat(v1::Heartbeat {
            sequence: self.beats,
            running: self.held.len() as u32,
            memory_available_bytes: 6 << 30,
            ..v1::Heartbeat::default()
        }));
    }

    fn say(&mut self, kind: from_worker::Kind) {
        self.outgoing.extend(encoded(kind));
    }
}

fn encoded(kind: from_worker::Kind) -> Vec<u8> {
    frame::encode(&FromWorker { kind: Some(kind) }).expect("a small message")
}
