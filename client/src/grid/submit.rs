//! The life of one task on the grid: submit, send what is needed, collect the
//! output. Unaware of preprocessing and of what happens after a loss.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hg_proto::v1::{
    Encoding, InputChunk, Output, OutputChunk, SubmitRequest, SubmitResponse, TaskResult,
    submit_request, submit_response::Kind,
};
use hg_proto::wire::blob::{BlobError, Incoming};
use hg_proto::wire::limits::{CHUNK_BYTES_MAX, OUTPUT_BYTES_MAX};
use smol::future;

use crate::grid::attempt::{ACCEPT_MS_MAX, Lost, QUEUE_GRACE_MS, RUN_MS_MAX, SILENCE_MS_MAX};
use crate::grid::grpc::{Connection, GrpcError, Messages, Stream, within};
use crate::grid::payload::Payload;
use crate::local::slots::{Slot, Slots};

/// Requests for inputs that wait while others are answered.
const NEEDS_MAX: usize = 4;
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
    /// The coordinator's number of the task, where it wants the result checked.
    pub audit: Option<u64>,
    /// Nothing was compiled: the coordinator had kept it.
    pub kept: bool,
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
    /// When that worker was given it.
    pub started: Option<Instant>,
    /// When the first output came of it.
    pub output_began: Option<Instant>,
    /// The coordinator keeps results.
    pub grid_keeps: bool,
}

impl Cost {
    /// No worker had it, and nothing came.
    pub fn is_nothing(&self) -> bool {
        self.worker.is_none() && self.bytes_down == 0
    }
}

/// How a task ended.
pub enum Ending {
    /// A worker ran it; the outputs' bytes are in the sinks.
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

    /// What is written next came as this piece of a zstd frame.
    fn comes_as(&mut self, _frame: &[u8]) {}
}

impl Sink for std::fs::File {
    fn restart(&mut self) -> std::io::Result<()> {
        use std::io::Seek;
        self.set_len(0)?;
        self.rewind()
    }
}

/// Submits the task of `request`, whose inputs travel as `contents` and whose outputs go to `sinks`,
/// each in the order of the task. While it waits for a worker, an idle slot of
/// `slots` takes it back.
///
/// # Errors
/// Why there is no result. `cost` is right all the same.
pub async fn submit(
    connection: &mut Connection,
    request: &SubmitRequest,
    contents: &[Payload],
    sinks: &mut [&mut dyn Sink],
    slots: Option<&Slots>,
    cost: &mut Cost,
) -> Result<Ending, Lost> {
    let Some(submit_request::Kind::Task(task)) = &request.kind else {
        return Err(Lost::Broken("no task".into()));
    };
    let mut inputs = HashMap::new();
    for (index, input) in (0..).zip(&task.inputs) {
        // The same content twice travels once.
        inputs.entry(input.digest.clone()).or_insert(index);
    }
    let names = task.outputs.clone();
    let queue_ms_max = match task.queue_ms_max {
        0 => RUN_MS_MAX,
        ms => u64::from(ms) + QUEUE_GRACE_MS,
    };
    let mut stream: Stream<SubmitResponse> = connection.start("SubmitTask");
    let messages = stream.sender().ok_or(Lost::Broken(String::new()))?;
    messages.send(request).await.map_err(Lost::from)?;
    let (needs, needed) = async_channel::bounded::<Needed>(NEEDS_MAX);
    let sent = Cell::new(0);
    let upload = async {
        while let Ok(Needed { attempt, inputs }) = needed.recv().await {
            for input in inputs {
                let content = contents[input as usize].bytes();
                let content = content.map_err(|error| Lost::Changed(error.to_string()))?;
                // A call that is over shows on the receiving side.
                if let Ok(bytes) = send_input(&messages, attempt, input, &content).await {
                    sent.set(sent.get() + bytes);
                }
            }
        }
        future::pending().await
    };
    let mut progress = Progress {
        task_id: 0,
        outputs: Outputs::new(names, sinks),
        attempt: 0,
        beside: Vec::new(),
        late: None,
        queue_ms_max,
        inputs,
        needs,
    };
    let download = progress.follow(&mut stream, slots, cost);
    // A peer that takes no input must not keep us once the outcome is known.
    let outcome = future::or(download, upload).await;
    cost.bytes_up += sent.get();
    outcome
}

impl From<GrpcError> for Lost {
    fn from(error: GrpcError) -> Lost {
        match error {
            GrpcError::Connect(why) => Lost::Unreachable(why),
            GrpcError::Gone(why) => Lost::Gone(why),
            GrpcError::Cut(why) => Lost::Cut(why),
            GrpcError::Refused(why) => Lost::Refused(why),
            other => Lost::Broken(other.to_string()),
        }
    }
}

async fn send_input(
    messages: &Messages,
    attempt: u32,
    input: u32,
    content: &Bytes,
) -> Result<u64, GrpcError> {
    let mut from = 0;
    loop {
        let to = content.len().min(from + CHUNK_BYTES_MAX);
        let last = to == content.len();
        let chunk = InputChunk {
            attempt,
            input,
            data: content[from..to].to_vec(),
            last,
        };
        let request = SubmitRequest {
            kind: Some(submit_request::Kind::Chunk(chunk)),
        };
        messages.send(&request).await?;
        if last {
            return Ok(content.len() as u64);
        }
        from = to;
    }
}

/// Inputs that an attempt wants.
struct Needed {
    attempt: u32,
    inputs: Vec<u32>,
}

/// How far one task has come, as the coordinator tells it.
struct Progress<'a> {
    /// The coordinator's number of the task.
    task_id: u64,
    outputs: Outputs<'a>,
    /// The one whose output counts; 0: none began yet.
    attempt: u32,
    /// Others that go on; the first that sends output takes its place.
    beside: Vec<u32>,
    /// From then on the worker takes too long, by the coordinator's reckoning.
    late: Option<Instant>,
    /// Until an attempt begins.
    queue_ms_max: u64,
    /// Index of each by its digest.
    inputs: HashMap<Vec<u8>, u32>,
    needs: async_channel::Sender<Needed>,
}

impl Progress<'_> {
    async fn follow(
        &mut self,
        stream: &mut Stream<SubmitResponse>,
        slots: Option<&Slots>,
        cost: &mut Cost,
    ) -> Result<Ending, Lost> {
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
                    Err(slot) if waiting => break Ok(Ending::TakenBack(slot, Lost::Overtaken)),
                    Err(slot) => break Ok(Ending::TakenBack(slot, Lost::Outrun)),
                },
            };
            silence_ms = SILENCE_MS_MAX;
            match next.map_err(Lost::from) {
                Ok(Some(SubmitResponse { kind: Some(kind) })) => {
                    match self.take(kind, cost).await {
                        Ok(Some(returned)) => break Ok(Ending::Returned(returned)),
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
            Kind::Accepted(accepted) => {
                self.task_id = accepted.task_id;
                cost.grid_keeps = accepted.keeps;
            }
            Kind::StillThere(_) => {}
            Kind::Started(started) => {
                cost.worker = Some(started.worker);
                if !started.beside || cost.started.is_none() {
                    cost.started = Some(Instant::now());
                    cost.output_began = None;
                }
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
            Kind::Late(late) if late.attempt == self.attempt => {
                self.late = Some(Instant::now() + Duration::from_millis(late.late_ms.into()));
            }
            Kind::Late(_) => {}
            Kind::Need(need) => {
                let ours = need.digests.iter().filter_map(|d| self.inputs.get(d));
                let inputs: Vec<u32> = ours.copied().take(self.inputs.len()).collect();
                if !inputs.is_empty() {
                    // Full: inputs of older attempts are still on their way, and
                    // this one's will be missed in time.
                    let attempt = need.attempt;
                    let _ = self.needs.try_send(Needed { attempt, inputs });
                }
            }
            Kind::Chunk(chunk) => {
                cost.bytes_down += chunk.data.len() as u64;
                cost.output_began.get_or_insert_with(Instant::now);
                if self.beside.contains(&chunk.attempt) {
                    self.beside.clear();
                    self.turn_to(chunk.attempt)?;
                }
                if chunk.attempt == self.attempt {
                    self.outputs.add(&chunk)?;
                }
            }
            Kind::Failure(failure) => return Err(Lost::Failed(failure)),
            Kind::Finished(finished) => {
                let result = finished
                    .result
                    .ok_or_else(|| Lost::Broken("no result in it".into()))?;
                self.outputs.check(&result.outputs)?;
                return Ok(Some(Returned {
                    result,
                    worker: finished.worker,
                    queue_ms: finished.queue_ms.into(),
                    audit: finished.audit.then_some(self.task_id),
                    kept: finished.kept,
                }));
            }
        }
        Ok(None)
    }
}

/// From when on, and by what slots, a task may be taken back.
enum TakeBack {
    /// By none.
    No,
    /// The slots for compiles that could travel.
    Travelling,
    /// Any slot, from then on: what the others are kept for is less urgent.
    Any(Instant),
}

impl Progress<'_> {
    fn take_back(&self) -> TakeBack {
        match self.late {
            _ if self.attempt == 0 => TakeBack::Travelling,
            // Its result is on the way.
            _ if self.outputs.have_begun() => TakeBack::No,
            Some(late) => TakeBack::Any(late),
            None => TakeBack::No,
        }
    }

    /// From now on this attempt's output counts.
    fn turn_to(&mut self, attempt: u32) -> Result<(), Lost> {
        self.attempt = attempt;
        self.outputs.restart().map_err(corrupt)
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
                    TakeBack::Travelling => slots.try_travelling(),
                    TakeBack::Any(from) if from > Instant::now() => None,
                    TakeBack::Any(_) => slots.try_any(),
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

/// The outputs of a task, and where they go.
struct Outputs<'a> {
    names: Vec<Vec<u8>>,
    received: Vec<(Received, &'a mut dyn Sink)>,
    plain: u64,
}

impl<'a> Outputs<'a> {
    fn new(names: Vec<Vec<u8>>, sinks: &'a mut [&mut dyn Sink]) -> Self {
        let received = sinks.iter_mut().map(|sink| {
            let sink: &'a mut dyn Sink = &mut **sink;
            (Received::default(), sink)
        });
        Outputs {
            names,
            received: received.collect(),
            plain: 0,
        }
    }

    fn restart(&mut self) -> io::Result<()> {
        self.plain = 0;
        for (received, sink) in &mut self.received {
            *received = Received::default();
            sink.restart()?;
        }
        Ok(())
    }

    fn have_begun(&self) -> bool {
        self.received
            .iter()
            .any(|(received, _)| received.encoded_size() > 0)
    }

    fn add(&mut self, chunk: &OutputChunk) -> Result<(), Lost> {
        let output = self.received.get_mut(chunk.output as usize);
        let (received, sink) = output.ok_or_else(|| corrupt("an output that was not asked for"))?;
        received.add(chunk, *sink, &mut self.plain)
    }

    fn check(&self, outputs: &[Output]) -> Result<(), Lost> {
        for output in outputs {
            let index = self.names.iter().position(|name| *name == output.path);
            let received = index.and_then(|index| self.received.get(index));
            let (received, _) = received.ok_or_else(|| corrupt("an unknown output"))?;
            received.check(output)?;
        }
        Ok(())
    }
}

/// An output as it comes: decoded, hashed and bounded on the way.
#[derive(Default)]
pub struct Received {
    /// `None`: nothing came yet.
    incoming: Option<Incoming>,
    ended: bool,
}

impl Received {
    /// Writes what `chunk` decodes to; `total`: bytes of all outputs together.
    ///
    /// # Errors
    /// It was not asked for, is not zstd, or more than may be.
    pub fn add(
        &mut self,
        chunk: &OutputChunk,
        sink: &mut dyn Sink,
        total: &mut u64,
    ) -> Result<(), Lost> {
        if self.ended || chunk.data.len() > CHUNK_BYTES_MAX {
            return Err(corrupt("a chunk that was not asked for"));
        }
        sink.comes_as(&chunk.data);
        let incoming = match &mut self.incoming {
            Some(incoming) => incoming,
            none => none.insert(Incoming::new(Encoding::Zstd).map_err(corrupt)?),
        };
        let others = total.saturating_sub(incoming.size());
        let size_max = OUTPUT_BYTES_MAX.saturating_sub(others);
        let taken = incoming.push(&chunk.data, size_max, sink);
        *total = others + incoming.size();
        taken.map_err(|error| match error {
            BlobError::NotAsAnnounced(why) => corrupt(why),
            BlobError::Io(error) => corrupt(error),
        })?;
        self.ended = chunk.last;
        Ok(())
    }

    /// Bytes that came.
    fn encoded_size(&self) -> u64 {
        self.incoming.as_ref().map_or(0, Incoming::encoded_size)
    }

    /// Whether that was what the worker announces.
    ///
    /// # Errors
    /// It was not.
    pub fn check(&self, output: &Output) -> Result<(), Lost> {
        let incoming = self.incoming.as_ref().filter(|_| self.ended);
        let same = incoming.is_some_and(|incoming| {
            output.encoding() == Encoding::Zstd
                && (output.size, output.encoded_size) == (incoming.size(), incoming.encoded_size())
                && incoming
                    .digest()
                    .is_ok_and(|digest| output.digest == digest.as_bytes())
        });
        match same {
            true => Ok(()),
            false => Err(corrupt("not what was announced")),
        }
    }
}
