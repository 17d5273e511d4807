//! The life of one SubmitTask stream: from the client's first message to the
//! last one it gets. Blobs pass through, a chunk at a time.

use std::sync::Arc;
use std::time::Duration;

use hg_proto::v1::failure::Code;
use hg_proto::v1::{self, SubmitRequest, SubmitResponse, submit_request, submit_response};
use hg_proto::wire::limits::{HELLO_MS_MAX, STILL_THERE_MS};
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, timeout};
use tonic::{Status, Streaming};

use crate::bounds::{CLIENT_STALL_MS_MAX, LINK_STALL_MS_MAX};
use crate::dispatch::channel::{Channel, ChunkPermit};
use crate::dispatch::hub::Hub;
use crate::dispatch::mailbox::{Mail, Mailbox};
use crate::dispatch::transfer::{Inputs, Verdict};
use crate::results::draft::Draft;
use crate::results::kept::{Kept, Maker};
use crate::results::sharing::Shared;
use crate::scheduling::coordinator::{Event, failure};
use crate::scheduling::id::{DispatchId, TaskId, WorkerId};
use crate::scheduling::jobs::AttemptStart;
use crate::scheduling::validate;
use crate::serve::kept::{self, Place};

/// Milliseconds between two notes that a client's inputs get on.
const PROGRESS_MS: u64 = 500;

/// Why a task is over that waited for another one.
const SHARED: &str = "answered with the result of one that is the same";

/// Milliseconds for which inputs that nobody waits for may be in the way of others.
const SECOND_WAIT_MS_MAX: u64 = 100;

/// A message to the client, or why the stream ends.
pub type Reply = Result<SubmitResponse, Status>;

/// The stream is over: the client is gone or has its answer.
struct Over;

/// The client's side of an attempt.
struct Attempt {
    number: u32,
    worker: WorkerId,
    dispatch: DispatchId,
    channel: Arc<Channel>,
    /// Its result goes to nobody: for how long its inputs may still be in the way of others'.
    /// `None`: it counts.
    spare: Option<Duration>,
    /// Inputs that the worker lacks; `None`: it has not said which.
    inputs: Option<Inputs>,
}

/// A chunk that waits for a permit of the link.
struct Pending {
    attempt: u32,
    input: u32,
    data: Vec<u8>,
    last: bool,
    complete: bool,
    since: Instant,
    deadline: Instant,
}

struct Stream {
    hub: Arc<Hub>,
    replies: Sender<Reply>,
    replied: Instant,
    id: TaskId,
    task: Arc<v1::Task>,
    mailbox: Arc<Mailbox>,
    /// The task's attempts: one, or two while a straggler is hedged.
    attempts: Vec<Attempt>,
    pending: Option<Pending>,
    progressed: Instant,
    /// The client may still send.
    open: bool,
    /// Among those who ask for the same. `None`: the result is not kept, or on its way.
    place: Option<Place>,
    /// What came of it.
    draft: Draft,
}

/// Cancels the task however the stream ends; nothing happens if it has ended.
struct Guard {
    hub: Arc<Hub>,
    id: TaskId,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.hub
            .cancel(self.id, failure(Code::Cancelled, "the client is gone"));
    }
}

/// Serves a stream of `holder` until it is over. `peer` stands for a client without a
/// name.
pub async fn serve(
    hub: Arc<Hub>,
    mut requests: Streaming<SubmitRequest>,
    replies: Sender<Reply>,
    holder: String,
    peer: String,
) {
    let first = timeout(
        Duration::from_millis(u64::from(HELLO_MS_MAX)),
        requests.message(),
    );
    let task = tokio::select! {
        first = first => match first {
            Ok(Ok(Some(SubmitRequest { kind: Some(submit_request::Kind::Task(task)) }))) => task,
            Ok(Err(_)) => return,
            Ok(Ok(_)) => return refuse(&replies, "the first message is no task").await,
            Err(_) => return refuse(&replies, "no task came").await,
        },
        () = replies.closed() => return,
    };
    let mut demand = match validate::task(&task, &holder, &peer) {
        Ok(demand) => demand,
        Err(why) => {
            hub.metrics.tasks.with_label_values(&["refused"]).inc();
            return refuse(&replies, &why).await;
        }
    };
    demand.same = kept::key(&hub, &task);
    // Before the look at the store: what is shared is there afterwards.
    let place = demand.same.map(|key| Place::new(&hub, key));
    if let Some(key) = demand.same
        && let Some(found) = kept::look_up(&hub, key).await
    {
        return tell_kept(&hub, &replies, &task, &found).await;
    }
    if let Some(made) = place.as_ref().and_then(Place::made) {
        return tell_shared(&hub, &replies, &task, &made).await;
    }
    if task.only_kept {
        let failure = failure(Code::NotKept, "it is to be compiled");
        return end(&replies, failure).await;
    }
    let (id, task, mailbox) = hub.submit(task, demand);
    let _guard = Guard {
        hub: hub.clone(),
        id,
    };
    let now = Instant::now();
    let mut stream = Stream {
        hub,
        replies,
        replied: now,
        id,
        task,
        mailbox,
        attempts: Vec::new(),
        pending: None,
        progressed: now,
        open: true,
        place,
        draft: Draft::default(),
    };
    let accepted = submit_response::Kind::Accepted(v1::Accepted {
        task_id: id.0,
        keeps: stream.place.is_some(),
    });
    if stream.reply(accepted).await.is_ok() {
        while stream.step(&mut requests).await.is_ok() {}
    }
}

/// Answers with what another one's compile gives.
async fn tell_shared(hub: &Hub, replies: &Sender<Reply>, task: &v1::Task, made: &Kept) {
    let shared = hub.metrics.result_requests.with_label_values(&["shared"]);
    shared.inc();
    tell_kept(hub, replies, task, made).await;
}

/// Answers from the store.
async fn tell_kept(hub: &Hub, replies: &Sender<Reply>, task: &v1::Task, found: &Kept) {
    let bytes: usize = found.outputs.iter().map(Vec::len).sum();
    let sent = hub.metrics.bytes.with_label_values(&["to_client"]);
    sent.inc_by(bytes as u64);
    for kind in kept::answer(task, found) {
        let reply = replies.send(Ok(SubmitResponse { kind: Some(kind) }));
        let sent = timeout(Duration::from_millis(CLIENT_STALL_MS_MAX), reply).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

async fn refuse(replies: &Sender<Reply>, why: &str) {
    end(replies, failure(Code::Refused, why)).await;
}

async fn end(replies: &Sender<Reply>, failure: v1::Failure) {
    let kind = submit_response::Kind::Failure(failure);
    // A client that is gone needs no answer.
    let _ = replies.send(Ok(SubmitResponse { kind: Some(kind) })).await;
}

/// What happened first.
enum Next {
    Mail(Mail),
    Shared(Shared),
    Request(Box<Option<SubmitRequest>>),
    Refused(Status),
    Permit(Option<ChunkPermit>),
    Stalled,
    Quiet,
    Gone,
}

impl Next {
    /// No message could be read, since [`RequestBody`] did not let it in or the client is
    /// gone.
    ///
    /// [`RequestBody`]: crate::serve::request_body::RequestBody
    fn failed(why: Status) -> Next {
        match why.code() {
            tonic::Code::OutOfRange
            | tonic::Code::ResourceExhausted
            | tonic::Code::DeadlineExceeded => Next::Refused(why),
            _ => Next::Gone,
        }
    }
}

impl Stream {
    async fn step(&mut self, requests: &mut Streaming<SubmitRequest>) -> Result<(), Over> {
        // Before the limit, so that a client that counts exactly is not left waiting.
        let quiet = self.replied + Duration::from_millis(u64::from(STILL_THERE_MS) * 3 / 4);
        let waiting = self.pending.as_ref().map(|pending| pending.deadline);
        let number = self.pending.as_ref().map(|pending| pending.attempt);
        let channel = number.and_then(|number| self.attempt(number));
        let channel = channel.map(|attempt| attempt.channel.clone());
        let next = tokio::select! {
            biased;
            mail = self.mailbox.next() => Next::Mail(mail),
            () = self.replies.closed() => Next::Gone,
            shared = hear(&mut self.place) => Next::Shared(shared),
            permit = chunk_permit(channel), if waiting.is_some() => Next::Permit(permit),
            request = requests.message(), if self.open && waiting.is_none() => request.map_or_else(Next::failed, |request| Next::Request(Box::new(request))),
            () = tokio::time::sleep_until(quiet) => Next::Quiet,
            () = tokio::time::sleep_until(waiting.unwrap_or(quiet)), if waiting.is_some() => Next::Stalled,
        };
        match next {
            Next::Mail(mail) => self.tell(mail).await,
            Next::Shared(Shared::Made(made)) => {
                self.hub.cancel(self.id, failure(Code::Cancelled, SHARED));
                tell_shared(&self.hub, &self.replies, &self.task, &made).await;
                Err(Over)
            }
            Next::Shared(Shared::InVain) => {
                self.hub.handle(Event::WaitedInVain { task: self.id });
                Ok(())
            }
            Next::Gone => Err(Over),
            Next::Refused(why) => {
                // Nothing more can be read of it.
                self.open = false;
                self.abort(why.message());
                Ok(())
            }
            Next::Permit(permit) => {
                self.forward(permit);
                Ok(())
            }
            Next::Request(request) => {
                match *request {
                    Some(request) => self.take(request),
                    None => {
                        self.open = false;
                        self.check_open();
                    }
                }
                Ok(())
            }
            Next::Stalled => {
                let number = self.pending.take().map(|pending| pending.attempt);
                let at = self.attempts.iter().position(|a| Some(a.number) == number);
                if let Some(at) = at {
                    let attempt = self.attempts.remove(at);
                    self.hub.link_stalled(attempt.worker, attempt.dispatch);
                }
                Ok(())
            }
            Next::Quiet => {
                let running = !self.attempts.is_empty();
                self.reply(submit_response::Kind::StillThere(v1::StillThere {
                    running,
                }))
                .await
            }
        }
    }

    async fn reply(&mut self, kind: submit_response::Kind) -> Result<(), Over> {
        let reply = self.replies.send(Ok(SubmitResponse { kind: Some(kind) }));
        let sent = timeout(Duration::from_millis(CLIENT_STALL_MS_MAX), reply).await;
        self.replied = Instant::now();
        match sent {
            Ok(Ok(())) => Ok(()),
            _ => Err(Over),
        }
    }

    /// Tells the client what the mailbox has.
    async fn tell(&mut self, mail: Mail) -> Result<(), Over> {
        match mail {
            Mail::Started { start, label } => {
                if let Some(place) = &mut self.place {
                    place.begin(self.id);
                }
                if !start.hedge {
                    self.pending = None;
                    self.attempts.clear();
                }
                self.add_attempt(&start, None);
                let ms = |ms: u64| u32::try_from(ms).unwrap_or(u32::MAX);
                let started = v1::Started {
                    attempt: start.number,
                    worker: label,
                    queue_ms: ms(start.queue_ms),
                    beside: start.hedge,
                    late_ms: ms(start.late_ms),
                    slower: start.slower,
                };
                self.reply(submit_response::Kind::Started(started)).await
            }
            Mail::Second(start) => {
                self.add_attempt(&start, Some(Duration::from_millis(SECOND_WAIT_MS_MAX)));
                Ok(())
            }
            Mail::Late { attempt, late_ms } => {
                let late_ms = u32::try_from(late_ms).unwrap_or(u32::MAX);
                let late = v1::Late { attempt, late_ms };
                self.reply(submit_response::Kind::Late(late)).await
            }
            Mail::Need { attempt, digests } => self.need(attempt, digests).await,
            Mail::Output {
                attempt,
                output,
                data,
                last,
                credit,
            } => {
                if self.place.is_some() {
                    self.draft.add(attempt, output, &data);
                }
                let chunk = v1::OutputChunk {
                    attempt,
                    output,
                    data,
                    last,
                };
                self.reply(submit_response::Kind::Chunk(chunk)).await?;
                if let Some(current) = self.attempt(attempt) {
                    current.channel.credit(current.dispatch, credit);
                }
                Ok(())
            }
            Mail::Finished(finished, maker) => {
                if let Some(maker) = maker {
                    self.keep(&finished, *maker);
                }
                self.reply(submit_response::Kind::Finished(*finished))
                    .await?;
                Err(Over)
            }
            Mail::Failed(failure) => {
                self.reply(submit_response::Kind::Failure(failure)).await?;
                Err(Over)
            }
        }
    }

    /// An attempt has begun, of which nothing is known if its worker's link is gone; `spare`
    /// as in [`Attempt`].
    fn add_attempt(&mut self, start: &AttemptStart, spare: Option<Duration>) {
        let channel = self.hub.channel(start.worker);
        self.attempts.extend(channel.map(|channel| Attempt {
            number: start.number,
            worker: start.worker,
            dispatch: start.dispatch,
            channel,
            spare,
            inputs: None,
        }));
    }

    /// Keeps a result for whoever asks for the same.
    fn keep(&mut self, finished: &v1::Finished, maker: Maker) {
        let outputs = self.draft.take(finished.attempt);
        let result = finished.result.clone();
        if let (Some(place), Some(outputs), Some(result)) = (self.place.take(), outputs, result) {
            kept::keep(place, result, outputs, maker);
        }
    }

    fn attempt(&self, number: u32) -> Option<&Attempt> {
        self.attempts.iter().find(|a| a.number == number)
    }

    async fn need(&mut self, attempt: u32, digests: Vec<Vec<u8>>) -> Result<(), Over> {
        let Some(current) = self.attempts.iter_mut().find(|a| a.number == attempt) else {
            return Ok(());
        };
        if current.spare.is_some() && !self.open {
            self.give_up_second();
            return Ok(());
        }
        // The channel has checked that the task has them.
        current.inputs = Inputs::new(&self.task, &digests).ok();
        if digests.is_empty() {
            return Ok(());
        }
        self.progressed = Instant::now();
        self.check_open();
        self.reply(submit_response::Kind::Need(v1::InputsNeeded {
            attempt,
            digests,
        }))
        .await
    }

    /// A client that has closed its side can't send what is missing.
    fn check_open(&self) {
        let attempts = self.attempts.iter().filter(|a| a.spare.is_none());
        let mut inputs = attempts.filter_map(|a| a.inputs.as_ref());
        if !self.open && inputs.any(|inputs| !inputs.is_complete()) {
            self.abort("the stream ended before the inputs");
        }
    }

    /// What only is compared is not worth a wait.
    fn give_up_second(&mut self) {
        if let Some(at) = self.attempts.iter().position(|a| a.spare.is_some()) {
            let attempt = self.attempts.remove(at);
            self.hub.link_stalled(attempt.worker, attempt.dispatch);
        }
    }

    /// The client is at fault. Its answer comes through the mailbox.
    fn abort(&self, why: &str) {
        self.hub.cancel(self.id, failure(Code::Input, why));
    }

    /// Takes a message of the client.
    fn take(&mut self, request: SubmitRequest) {
        let chunk = match request.kind {
            Some(submit_request::Kind::Chunk(chunk)) => chunk,
            Some(submit_request::Kind::Task(_)) => return self.abort("a second task"),
            None => return self.abort("a message of no known kind"),
        };
        let number = chunk.attempt;
        let Some(attempt) = self.attempts.iter_mut().find(|a| a.number == number) else {
            // Of an attempt that is over, or none: it was on its way already.
            return;
        };
        let Some(inputs) = attempt.inputs.as_mut() else {
            return self.abort("an input that nobody asked for");
        };
        match inputs.chunk(chunk.input, chunk.data.len(), chunk.last) {
            Ok(Verdict::Drop) => {}
            Ok(Verdict::Relay { complete }) => {
                let since = Instant::now();
                let wait = Duration::from_millis(LINK_STALL_MS_MAX);
                let deadline = since + attempt.spare.unwrap_or(wait);
                self.pending = Some(Pending {
                    attempt: number,
                    input: chunk.input,
                    data: chunk.data,
                    last: chunk.last,
                    complete,
                    since,
                    deadline,
                });
            }
            Err(why) => self.abort(&why),
        }
    }

    /// Sends the chunk that waits for a permit of the link. `None`: the link is closed, and
    /// the mailbox will say what follows.
    fn forward(&mut self, permit: Option<ChunkPermit>) {
        let Some(pending) = self.pending.take() else {
            return;
        };
        let Some(permit) = permit else {
            self.attempts.retain(|a| a.number != pending.attempt);
            return;
        };
        let number = pending.attempt;
        let Some(attempt) = self.attempts.iter_mut().find(|a| a.number == number) else {
            return;
        };
        if let Some(spare) = &mut attempt.spare {
            *spare = spare.saturating_sub(pending.since.elapsed());
        }
        let dispatch = attempt.dispatch;
        let bytes = self.hub.metrics.bytes.with_label_values(&["to_worker"]);
        bytes.inc_by(pending.data.len() as u64);
        let channel = attempt.channel.clone();
        channel.send_chunk(
            permit,
            v1::Chunk {
                dispatch_id: dispatch.0,
                blob: pending.input,
                data: pending.data,
                last: pending.last,
            },
        );
        let due = self.progressed.elapsed() >= Duration::from_millis(PROGRESS_MS);
        if pending.complete || due {
            self.progressed = Instant::now();
            self.hub.handle(Event::InputsProgressed {
                dispatch,
                complete: pending.complete,
            });
        }
    }
}

/// What those hear who ask for the same.
async fn hear(place: &mut Option<Place>) -> Shared {
    match place {
        Some(place) => place.hear().await,
        None => std::future::pending().await,
    }
}

async fn chunk_permit(channel: Option<Arc<Channel>>) -> Option<ChunkPermit> {
    channel?.chunk_permit().await
}
