//! What became of a task, for those who collect traces.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// One task, at its end.
#[derive(Debug, Clone)]
pub struct TaskSpan {
    /// 16 bytes; empty: its client said none.
    pub trace_id: Vec<u8>,
    /// 8 bytes; empty: nothing is above it.
    pub parent_span_id: Vec<u8>,
    /// The source as its user typed it.
    pub source: String,
    /// Who asked.
    pub client: String,
    /// The token that it came with.
    pub holder: Arc<str>,
    /// The worker that had it last; empty: none.
    pub worker: String,
    /// How it ended, as in the metrics.
    pub outcome: &'static str,
    /// In words, where there are more to say.
    pub detail: String,
    /// From its submission to its end.
    pub wall: Duration,
    /// When it ended.
    pub ended: SystemTime,
    /// What its worker did; `None`: there is no result.
    pub ran: Option<Ran>,
}

/// What a worker did of a task.
#[derive(Debug, Clone, Copy)]
pub struct Ran {
    /// Milliseconds until the attempt that was taken began.
    pub queue_ms: u64,
    /// Milliseconds of that attempt, transfers included.
    pub running_ms: u64,
    /// Microseconds of the compiler in it.
    pub compile_us: u64,
}
