//! What the coordinator calls workers, tasks and attempts. Numbers are never
//! used twice in the life of a process.

use std::collections::HashMap;

/// A worker's link. One that reconnects gets another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u64);

/// A task, from its submission to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// One attempt of one task on one worker; on the wire as `dispatch_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DispatchId(pub u64);

/// By one of these numbers. They are ours, so that nobody can make them collide,
/// and each run hashes them alike.
pub type ById<K, V> = HashMap<K, V, foldhash::fast::FixedState>;
