//! The life of one task on the grid: submit, send what is needed, collect the
//! output. Unaware of preprocessing and of what happens after a loss.

use std::cell::Cell;
use std::io::Write;
use std::time::{Duration, Instant};

use hg_proto::digest::{Digest, Hasher};
use hg_proto::limits::{CHUNK_BYTES_MAX, OUTPUT_BYTES_MAX, ZSTD_WINDOW_LOG_MAX};
use hg_proto::v1::{
    Encoding, InputChunk, Output, OutputChunk, SubmitRequest, SubmitResponse, Task, TaskResult,
    submit_request, submit_response::Kind,
};
use smol::future;

use crate::attempt::{ACCEPT_MS_MAX, Lost, QUEUE_GRACE_MS, RUN_MS_MAX, SILENCE_MS_MAX};
use crate::grpc::{Connection, GrpcError, Messages, Stream, within};
use crate::slots::{Slot, Slots};

/// Between two looks for a local slot while the task waits for a worker.
const OVERTAKE_MS: u64 = 50;

/// What the grid gave.
#[derive(Debug)]
pub struct Returned {
    /// The compiler's own words and exit code.
    pub result: TaskResult,
    /// Who compiled it.
    pub worker: String,
    /// Milliseconds in the coordinator's queue.
    pub queue_ms: u64,
}

/// What an attempt cost, however it ended.
#[derive(Debug, Default, Clone)]
pub struct Cost {
    /// Payload sent.
    pub bytes_up: u64,
    /// Payload received.
    pub bytes_down: u64,
    /// The worker that had it last.
    pub worker: Option<String>,
}

/// How a task ended.
pub enum Outcome {
    /// A worker ran it; the output's bytes are in the sink.
    Returned(Returned),
    /// A local slot came free first: [`Lost::Overtaken`] or [`Lost::Outrun`].
    TakenBack(Slot, Lost),
}

/// Where an output's plain bytes go; can begin anew after a retry.
pub trait Sink: Write {
    /// Forgets all that was written.
    ///
    /// # Errors
    /// As the file system says.
    fn restart(&mut self) -> std::io::Result<()>;
}

impl Sink for std::fs::File {
    fn restart(&mut self) -> std::io::Result<()> {
        use std::io::Seek;
        self.set_len(0)?;
        self.rewind()
    }
}

/// Submits `task`, whose one input travels as `encoded`. While it waits for a
/// worker, an idle slot of `slots` takes it back.
///
/// # Errors
/// Why there is no result. `cost` is right all the same.
pub async fn submit(
    connection: &mut Connection,
    task: Task,
    encoded: &[u8],
    sink: &mut dyn Sink,
    slots: Option<&Slots>,
    cost: &mut Cost,
) -> Result<Outcome, Lost> {
    let digest = task.inputs.first().map(|input| input.digest.clone());
    let queue_ms_max = match task.queue_ms_max {
        0 => RUN_MS_MAX,
        ms => u64::from(ms) + QUEUE_GRACE_MS,
    };
    let mut stream: Stream<SubmitResponse> = connection.start("SubmitTask");
    let messages = stream.sender().ok_or(Lost::Broken(String::new()))?;
    let first = SubmitRequest {
        kind: Some(submit_request::Kind::Task(task)),
    };
    messages.send(&first).await.map_err(lost)?;
    let (needs, needed) = async_channel::bounded::<u32>(1);
    let sent = Cell::new(0);
    let upload = async {
        while let Ok(attempt) = needed.recv().await {
            // A call that is over shows on the receiving side.
            if let Ok(bytes) = send_input(&messages, encoded, attempt).await {
                sent.set(sent.get() + bytes);
            }
        }
        future::pending().await
    };
    let mut run = Run {
        received: Received::default(),
        attempt: 0,
        beside: Vec::new(),
        late: None,
        queue_ms_max,
        digest,
        sink,
        needs,
    };
    let download = run.follow(&mut stream, slots, cost);
    // A peer that takes no input must not keep us once the outcome is known.
    let outcome = future::or(download, upload).await;
    cost.bytes_up += sent.get();
    outcome
}

fn lost(error: GrpcError) -> Lost {
    match error {
        GrpcError::Connect(why) => Lost::Unreachable(why),
        GrpcError::Refused(why) => Lost::Refused(why),
        other => Lost::Broken(other.to_string()),
    }
}

async fn send_input(messages: &Messages, encoded: &[u8], attempt: u32) -> Result<u64, GrpcError> {
    let mut chunks = encoded.chunks(CHUNK_BYTES_MAX).peekable();
    while let Some(data) = chunks.next() {
        let chunk = InputChunk {
            attempt,
            input: 0,
            data: data.to_vec(),
            last: chunks.peek().is_none(),
        };
        let request = SubmitRequest {
            kind: Some(submit_request::Kind::Chunk(chunk)),
        };
        messages.send(&request).await?;
    }
    Ok(encoded.len() as u64)
}

/// One task, from the receiving side.
struct Run<'a> {
    received: Received,
    /// The one whose output counts; 0: none began yet.
    attempt: u32,
    /// Others that go on; the first that sends output takes its place.
    beside: Vec<u32>,
    /// From then on the worker takes too long, by the coordinator's reckoning.
    late: Option<Instant>,
    /// Until an attempt begins.
    queue_ms_max: u64,
    digest: Option<Vec<u8>>,
    sink: &'a mut dyn Sink,
    /// Attempts that want the input.
    needs: async_channel::Sender<u32>,
}

impl Run<'_> {
    async fn follow(
        &mut self,
        stream: &mut Stream<SubmitResponse>,
        slots: Option<&Slots>,
        cost: &mut Cost,
    ) -> Result<Outcome, Lost> {
        let mut silence_ms = ACCEPT_MS_MAX;
        let began = Instant::now();
        loop {
            let waiting = self.attempt == 0;
            let ms_max = if waiting {
                self.queue_ms_max
            } else {
                RUN_MS_MAX
            };
            if began.elapsed() > Duration::from_millis(ms_max) {
                break Err(Lost::Broken("no result in time".into()));
            }
            let back = match silence_ms == SILENCE_MS_MAX {
                true => self.take_back(),
                false => TakeBack::No,
            };
            let next = match (slots, back) {
                (None, _) | (_, TakeBack::No) => {
                    within(silence_ms, "the coordinator", stream.next()).await
                }
                (Some(slots), back) => match overtake(stream, slots, back).await {
                    Ok(next) => next,
                    Err(slot) if waiting => break Ok(Outcome::TakenBack(slot, Lost::Overtaken)),
                    Err(slot) => break Ok(Outcome::TakenBack(slot, Lost::Outrun)),
                },
            };
            silence_ms = SILENCE_MS_MAX;
            match next.map_err(lost) {
                Ok(Some(SubmitResponse { kind: Some(kind) })) => {
                    match self.take(kind, cost).await {
                        Ok(Some(returned)) => break Ok(Outcome::Returned(returned)),
                        Ok(None) => {}
                        Err(lost) => break Err(lost),
                    }
                }
                Ok(Some(SubmitResponse { kind: None })) => {
                    break Err(Lost::Broken("a message that we don't know".into()));
                }
                Ok(None) => break Err(Lost::Broken("the stream ended early".into())),
                Err(lost) => break Err(lost),
            }
        }
    }

    async fn take(&mut self, kind: Kind, cost: &mut Cost) -> Result<Option<Returned>, Lost> {
        match kind {
            Kind::Accepted(_) | Kind::StillThere(_) => {}
            Kind::Started(started) => {
                cost.worker = Some(started.worker);
                if started.beside {
                    self.beside.push(started.attempt);
                } else {
                    self.beside.clear();
                    self.turn_to(started.attempt)?;
                }
                self.late = match (started.slower, started.late_ms) {
                    (true, _) => Some(Instant::now()),
                    (false, 0) => None,
                    (false, ms) => Some(Instant::now() + Duration::from_millis(ms.into())),
                };
            }
            Kind::Need(need) => {
                let ours = |digest: &Vec<u8>| Some(digest) == self.digest.as_ref();
                if need.digests.iter().any(ours) {
                    // Full: the input of an older attempt is still on its way,
                    // and this one's will be missed in time.
                    let _ = self.needs.try_send(need.attempt);
                }
            }
            Kind::Chunk(chunk) => {
                cost.bytes_down += chunk.data.len() as u64;
                if self.beside.contains(&chunk.attempt) {
                    self.beside.clear();
                    self.turn_to(chunk.attempt)?;
                }
                if chunk.attempt == self.attempt {
                    self.received.add(&chunk, self.sink)?;
                }
            }
            Kind::Failure(failure) => return Err(Lost::Failed(failure)),
            Kind::Finished(finished) => {
                let result = finished
                    .result
                    .ok_or_else(|| Lost::Broken("no result in it".into()))?;
                if let Some(output) = result.outputs.first() {
                    self.received.check(output)?;
                }
                return Ok(Some(Returned {
                    result,
                    worker: finished.worker,
                    queue_ms: finished.queue_ms.into(),
                }));
            }
        }
        Ok(None)
    }
}

/// From when on, and by what slots, a task may be taken back.
enum TakeBack {
    No,
    /// Those for compiles that could travel.
    Travelling,
    /// Any, from then on: what they are kept for is less urgent.
    Any(Instant),
}

impl Run<'_> {
    fn take_back(&self) -> TakeBack {
        match self.late {
            _ if self.attempt == 0 => TakeBack::Travelling,
            // Its result is on the way.
            _ if self.received.encoded > 0 => TakeBack::No,
            Some(late) => TakeBack::Any(late),
            None => TakeBack::No,
        }
    }

    /// From now on this attempt's output counts.
    fn turn_to(&mut self, attempt: u32) -> Result<(), Lost> {
        self.attempt = attempt;
        self.received = Received::default();
        self.sink.restart().map_err(corrupt)
    }
}

/// The next message, or a slot that came free while there was none.
async fn overtake(
    stream: &mut Stream<SubmitResponse>,
    slots: &Slots,
    back: TakeBack,
) -> Result<Result<Option<SubmitResponse>, GrpcError>, Slot> {
    let began = Instant::now();
    loop {
        match within(OVERTAKE_MS, "", stream.next()).await {
            Err(GrpcError::Timeout(_)) => {
                let slot = match back {
                    TakeBack::No => None,
                    TakeBack::Travelling => slots.idle(),
                    TakeBack::Any(from) if from > Instant::now() => None,
                    TakeBack::Any(_) => slots.spare(),
                };
                if let Some(slot) = slot {
                    return Err(slot);
                }
                if began.elapsed() > Duration::from_millis(SILENCE_MS_MAX) {
                    return Ok(Err(GrpcError::Timeout("the coordinator")));
                }
            }
            next => return Ok(next),
        }
    }
}

fn corrupt(why: impl std::fmt::Display) -> Lost {
    Lost::Corrupt(why.to_string())
}

/// The output as it comes: decoded, hashed and bounded on the way.
#[derive(Default)]
struct Received {
    decoder: Option<zstd::stream::raw::Decoder<'static>>,
    plain: u64,
    encoded: u64,
    hasher: Hasher,
    ended: bool,
}

impl Received {
    fn add(&mut self, chunk: &OutputChunk, sink: &mut dyn Sink) -> Result<(), Lost> {
        use zstd::stream::raw::{InBuffer, Operation, OutBuffer};
        if chunk.output != 0 || self.ended || chunk.data.len() > CHUNK_BYTES_MAX {
            return Err(corrupt("a chunk that was not asked for"));
        }
        self.encoded += chunk.data.len() as u64;
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => {
                let mut decoder = zstd::stream::raw::Decoder::new().map_err(corrupt)?;
                let bound = zstd::zstd_safe::DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX);
                decoder.set_parameter(bound).map_err(corrupt)?;
                none.insert(decoder)
            }
        };
        let mut buffer = [0; 32 << 10];
        let mut input = InBuffer::around(&chunk.data);
        loop {
            let mut output = OutBuffer::around(&mut buffer[..]);
            decoder.run(&mut input, &mut output).map_err(corrupt)?;
            let plain = output.as_slice();
            self.plain += plain.len() as u64;
            if self.plain > OUTPUT_BYTES_MAX {
                return Err(corrupt("larger than may be"));
            }
            self.hasher.update(plain);
            sink.write_all(plain).map_err(corrupt)?;
            let full = plain.len() == buffer.len();
            if !full && input.pos() == chunk.data.len() {
                break;
            }
        }
        self.ended = chunk.last;
        Ok(())
    }

    fn check(&self, output: &Output) -> Result<(), Lost> {
        let same = output.encoding() == Encoding::Zstd
            && self.ended
            && output.size == self.plain
            && output.encoded_size == self.encoded
            && Digest::try_from(&output.digest[..]) == Ok(self.hasher.finish());
        match same {
            true => Ok(()),
            false => Err(corrupt("not what was announced")),
        }
    }
}
