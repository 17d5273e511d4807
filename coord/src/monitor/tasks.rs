//! Tasks as people see them: where one is, and how one ended.

use std::sync::Arc;

use serde::Serialize;

/// Where a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// No worker has it.
    Queued,
    /// A worker has it, and gets its inputs.
    Transfer,
    /// Its compiler runs, or its result is on the way.
    Compile,
}

/// What a task is called, and whose it is.
#[derive(Debug, Clone)]
pub struct TaskName {
    /// The source as its user typed it.
    pub source: Arc<str>,
    /// The client that asks.
    pub client: Arc<str>,
    /// The holder of that client's token.
    pub holder: Arc<str>,
    /// The toolchain that it takes, as its client describes it.
    pub toolchain: Arc<str>,
}

/// A task that has not ended.
#[derive(Debug, Clone, Serialize)]
pub struct OpenTask {
    /// Its number.
    pub task_id: u64,
    /// The source as its user typed it.
    pub source: Arc<str>,
    /// The client that asks.
    pub client: Arc<str>,
    /// The holder of that client's token.
    pub holder: Arc<str>,
    /// The toolchain that it takes.
    pub toolchain: Arc<str>,
    /// The worker of its last attempt; empty: none had it.
    pub worker: Arc<str>,
    /// Where it is.
    pub stage: Stage,
    /// Its last attempt: 1, 2, ...; 0: none.
    pub attempt: u32,
    /// An attempt was begun beside another.
    pub hedged: bool,
    /// When it was submitted.
    pub submitted_unix_ms: u64,
    /// When its last attempt began; 0: there was none.
    pub started_unix_ms: u64,
    /// When its compiler began; 0: it has not.
    pub compiling_unix_ms: u64,
    /// The attempts that go on.
    #[serde(skip)]
    pub attempts: Vec<OpenAttempt>,
}

/// An attempt that goes on.
#[derive(Debug, Clone)]
pub struct OpenAttempt {
    /// Its number among those of all tasks.
    pub dispatch: u64,
    /// Its number in its task: 1, 2, ...
    pub number: u32,
    /// The worker that has it.
    pub worker: Arc<str>,
    /// It was begun beside another.
    pub is_hedge: bool,
}

/// A task that has ended.
#[derive(Debug, Clone, Serialize)]
pub struct EndedTask {
    /// Where it stands among all that ended: 1, 2, ...
    pub sequence: u64,
    /// Its number.
    pub task_id: u64,
    /// The source as its user typed it.
    pub source: Arc<str>,
    /// The client that asked.
    pub client: Arc<str>,
    /// The holder of that client's token.
    pub holder: Arc<str>,
    /// The worker whose result it is, or that had it last; empty: none had it.
    pub worker: Arc<str>,
    /// `ok`, `compile_error`, or the name of a failure.
    pub outcome: Arc<str>,
    /// What more there is to say; empty: nothing.
    pub detail: Arc<str>,
    /// Attempts that were made of it.
    pub attempts: u32,
    /// An attempt was begun beside another.
    pub hedged: bool,
    /// When it ended.
    pub ended_unix_ms: u64,
    /// Milliseconds from its submission to its last attempt.
    pub queue_ms: u64,
    /// Milliseconds from there to its compiler's begin.
    pub transfer_ms: u64,
    /// Milliseconds from there to its end.
    pub compile_ms: u64,
    /// All three.
    pub wall_ms: u64,
}
