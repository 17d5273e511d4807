//! The coordinator's side of one worker link: frames that wait to go out, and
//! the attempts that are on it. Unaware of sockets; [`crate::serve::worker_link`] moves the
//! bytes.
//!
//! Control frames go before chunks and are bounded in bytes; chunks are bounded
//! in number, and those who have more wait in turn, so that tasks share the link.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hg_proto::v1::{self, ToWorker, to_worker};
use hg_proto::wire::{frame, limits};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::bounds::{
    CREDIT_BYTES_MIN, LINK_CANCELLED_MAX, LINK_CHUNKS_MAX, LINK_CONTROL_BYTES_MAX,
};
use crate::dispatch::mailbox::{Mail, Mailbox};
use crate::dispatch::transfer::{Inputs, Outputs};
use crate::scheduling::id::DispatchId;
use crate::scheduling::jobs::AttemptStart;

/// What a peer did wrong; it is dropped for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The label under which the fault is counted.
    pub reason: &'static str,
    /// The fault in words, for people.
    pub detail: String,
}

impl Fault {
    /// A fault, by its label and in words.
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Fault {
            reason,
            detail: detail.into(),
        }
    }
}

/// An attempt on this link.
#[derive(Debug)]
pub struct LinkAttempt {
    /// The task that is attempted.
    pub task: Arc<v1::Task>,
    /// The attempt's number in its task: 1, 2, ...
    pub attempt: u32,
    /// The mailbox of the task's client.
    pub mailbox: Arc<Mailbox>,
    /// Outputs that came so far.
    pub outputs: Outputs,
    /// When it was dispatched.
    pub since: Instant,
    /// Its outputs go to nobody.
    pub second: bool,
    answered: bool,
    credit: u32,
}

struct QueuedChunk {
    dispatch: DispatchId,
    frame: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Default)]
struct LinkState {
    control: VecDeque<Vec<u8>>,
    control_bytes: usize,
    chunks: VecDeque<QueuedChunk>,
    running: HashMap<DispatchId, LinkAttempt>,
    /// Attempts that the coordinator gave up; their late answers are no fault.
    cancelled: HashSet<DispatchId>,
    cancelled_order: VecDeque<DispatchId>,
    closed: Option<Closed>,
}

/// How the coordinator ended a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It ended; frames that wait are still sent.
    Politely,
    /// Nothing was heard of the worker for too long; frames that wait are still sent.
    Expired,
    /// The worker does not read; nothing more is sent.
    AtOnce,
}

/// See the top of the file.
pub struct Channel {
    state: Mutex<LinkState>,
    wake: Notify,
    shut: Notify,
    chunk_permits: Arc<Semaphore>,
}

/// Permission to queue one chunk.
pub struct ChunkPermit(OwnedSemaphorePermit);

impl Channel {
    /// A link on which nothing happened yet.
    pub fn new() -> Self {
        Channel {
            state: Mutex::default(),
            wake: Notify::new(),
            shut: Notify::new(),
            chunk_permits: Arc::new(Semaphore::new(LINK_CHUNKS_MAX)),
        }
    }

    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self, state: MutexGuard<'_, LinkState>) {
        let closed = state.closed.is_some();
        drop(state);
        self.wake.notify_one();
        if closed {
            self.shut.notify_one();
        }
    }

    /// Queues a control frame. A worker that leaves too many unread loses its link.
    pub fn send(&self, kind: to_worker::Kind) {
        let mut state = self.state();
        state.push(kind);
        self.notify(state);
    }

    /// Puts an attempt on the link.
    pub fn dispatch(&self, start: &AttemptStart, task: Arc<v1::Task>, mailbox: Arc<Mailbox>) {
        self.put(start, task, mailbox, false);
    }

    /// Puts an attempt on the link whose outputs go to nobody.
    pub fn dispatch_second(
        &self,
        start: &AttemptStart,
        task: Arc<v1::Task>,
        mailbox: Arc<Mailbox>,
    ) {
        self.put(start, task, mailbox, true);
    }

    fn put(&self, start: &AttemptStart, task: Arc<v1::Task>, mailbox: Arc<Mailbox>, second: bool) {
        let mut state = self.state();
        let mut sent = (*task).clone();
        let left_ms = u32::try_from(start.left_ms).unwrap_or(u32::MAX);
        let left_ms = left_ms.clamp(1, limits::COMPILE_MS_MAX);
        let limits = sent.limits.get_or_insert_default();
        limits.wall_ms_max = match limits.wall_ms_max {
            0 => left_ms.min(limits::COMPILE_MS_DEFAULT),
            ms => ms.min(left_ms),
        };
        state.push(to_worker::Kind::Dispatch(v1::Dispatch {
            dispatch_id: start.dispatch.0,
            task: Some(sent),
            memory_bytes_expected: start.peak_bytes,
        }));
        let outputs = Outputs::new(&task);
        let running = LinkAttempt {
            task,
            attempt: start.number,
            mailbox,
            outputs,
            since: Instant::now(),
            second,
            answered: false,
            credit: 0,
        };
        state.running.insert(start.dispatch, running);
        self.notify(state);
    }

    /// Takes an attempt off the link and tells the worker.
    pub fn cancel(&self, dispatch: DispatchId) {
        let mut state = self.state();
        if state.running.remove(&dispatch).is_none() {
            return;
        }
        state.push(to_worker::Kind::Cancel(v1::Cancel {
            dispatch_id: dispatch.0,
        }));
        state.cancelled.insert(dispatch);
        state.cancelled_order.push_back(dispatch);
        if state.cancelled_order.len() > LINK_CANCELLED_MAX
            && let Some(old) = state.cancelled_order.pop_front()
        {
            state.cancelled.remove(&old);
        }
        self.notify(state);
    }

    /// The client has taken `bytes` of the attempt's output. The worker is told
    /// when it is worth a frame.
    pub fn credit(&self, dispatch: DispatchId, bytes: u32) {
        let mut state = self.state();
        if state.credit(dispatch, bytes) {
            self.notify(state);
        }
    }

    /// Waits for room for one chunk; those who wait are served in turn. `None`:
    /// the link is closed.
    pub async fn chunk_permit(&self) -> Option<ChunkPermit> {
        self.chunk_permits
            .clone()
            .acquire_owned()
            .await
            .ok()
            .map(ChunkPermit)
    }

    /// Queues a chunk of an input.
    pub fn send_chunk(&self, permit: ChunkPermit, chunk: v1::Chunk) {
        let dispatch = DispatchId(chunk.dispatch_id);
        let message = ToWorker {
            kind: Some(to_worker::Kind::Chunk(chunk)),
        };
        let Ok(frame) = frame::encode(&message) else {
            return;
        };
        self.state().chunks.push_back(QueuedChunk {
            dispatch,
            frame,
            _permit: permit.0,
        });
        self.wake.notify_one();
    }

    /// Ends the link, with a word to the worker why.
    pub fn close(&self, how: Closed, reason: &str) {
        let mut state = self.state();
        if state.closed.is_none() {
            state.push(to_worker::Kind::Goodbye(v1::Goodbye {
                reason: reason.to_owned(),
            }));
        }
        state.closed = Some(how);
        state.running.clear();
        state.chunks.clear();
        self.chunk_permits.close();
        self.notify(state);
    }

    /// The next frame to write. `None`: the link is closed and everything that
    /// should go out went. One reader at a time.
    pub async fn next_frame(&self) -> Option<Vec<u8>> {
        loop {
            match self.state().pop() {
                Next::Frame(frame) => return Some(frame),
                Next::End => return None,
                Next::Wait => {}
            }
            self.wake.notified().await;
        }
    }

    /// Returns when the coordinator has ended the link. One waits at a time.
    pub async fn closed(&self) -> Closed {
        loop {
            if let Some(closed) = self.state().closed {
                return closed;
            }
            self.shut.notified().await;
        }
    }

    /// The worker takes the attempt and lacks `digests`. `None`: the attempt
    /// was cancelled meanwhile.
    ///
    /// # Errors
    /// The worker asks twice, or for what the task does not have.
    pub fn need(&self, dispatch: DispatchId, digests: Vec<Vec<u8>>) -> Result<Option<bool>, Fault> {
        let mut state = self.state();
        let Some(running) = state.find(dispatch)? else {
            return Ok(None);
        };
        if std::mem::replace(&mut running.answered, true) {
            return Err(Fault::new("bad_need", "asked twice for inputs"));
        }
        Inputs::new(&running.task, &digests).map_err(|why| Fault::new("bad_need", why))?;
        let inputs = !digests.is_empty();
        running.mailbox.push(Mail::Need {
            attempt: running.attempt,
            digests,
        });
        Ok(Some(inputs))
    }

    /// Whether output of the attempt came already; also if it was cancelled.
    pub fn returns(&self, dispatch: DispatchId) -> bool {
        let state = self.state();
        let running = state.running.get(&dispatch);
        running.is_none_or(|running| running.outputs.begun())
    }

    /// A chunk of an output came.
    ///
    /// # Errors
    /// The worker breaks order, size or window.
    pub fn chunk(&self, chunk: v1::Chunk) -> Result<(), Fault> {
        let mut state = self.state();
        let Some(running) = state.find(DispatchId(chunk.dispatch_id))? else {
            return Ok(());
        };
        let len = chunk.data.len();
        let checked = running.outputs.chunk(chunk.blob, len, chunk.last);
        checked.map_err(|why| Fault::new("bad_chunk", why))?;
        if running.second {
            if state.credit(DispatchId(chunk.dispatch_id), len as u32) {
                self.notify(state);
            }
            return Ok(());
        }
        running.mailbox.push(Mail::Output {
            attempt: running.attempt,
            output: chunk.blob,
            data: chunk.data,
            last: chunk.last,
            credit: len as u32,
        });
        Ok(())
    }

    /// The attempt ended on the worker's side. `None`: it was cancelled meanwhile.
    ///
    /// # Errors
    /// The worker was never given it.
    pub fn end(&self, dispatch: DispatchId) -> Result<Option<LinkAttempt>, Fault> {
        let mut state = self.state();
        if state.find(dispatch)?.is_none() {
            return Ok(None);
        }
        Ok(state.running.remove(&dispatch))
    }
}

impl Default for Channel {
    fn default() -> Self {
        Self::new()
    }
}

enum Next {
    Frame(Vec<u8>),
    Wait,
    End,
}

impl LinkState {
    fn push(&mut self, kind: to_worker::Kind) {
        if self.closed.is_some() {
            return;
        }
        // A task that does not fit a frame is refused before it gets here.
        let Ok(frame) = frame::encode(&ToWorker { kind: Some(kind) }) else {
            return;
        };
        if self.control_bytes + frame.len() > LINK_CONTROL_BYTES_MAX {
            self.closed = Some(Closed::AtOnce);
            return;
        }
        self.control_bytes += frame.len();
        self.control.push_back(frame);
    }

    fn pop(&mut self) -> Next {
        if self.closed == Some(Closed::AtOnce) {
            return Next::End;
        }
        if let Some(frame) = self.control.pop_front() {
            self.control_bytes -= frame.len();
            return Next::Frame(frame);
        }
        if self.closed.is_some() {
            return Next::End;
        }
        while let Some(parcel) = self.chunks.pop_front() {
            if self.running.contains_key(&parcel.dispatch) {
                return Next::Frame(parcel.frame);
            }
        }
        Next::Wait
    }

    /// `bytes` of the attempt's output are out of the way. Gives whether the worker is told.
    fn credit(&mut self, dispatch: DispatchId, bytes: u32) -> bool {
        let Some(running) = self.running.get_mut(&dispatch) else {
            return false;
        };
        running.credit += bytes;
        if running.credit < CREDIT_BYTES_MIN {
            return false;
        }
        let bytes = std::mem::take(&mut running.credit);
        running.outputs.credit(bytes);
        self.push(to_worker::Kind::Credit(v1::Credit {
            dispatch_id: dispatch.0,
            bytes,
        }));
        true
    }

    fn find(&mut self, dispatch: DispatchId) -> Result<Option<&mut LinkAttempt>, Fault> {
        if let Some(running) = self.running.get_mut(&dispatch) {
            return Ok(Some(running));
        }
        if self.cancelled.contains(&dispatch) || self.closed.is_some() {
            return Ok(None);
        }
        Err(Fault::new(
            "unknown_dispatch",
            format!("no dispatch {} on this link", dispatch.0),
        ))
    }
}
