//! Pure: identical tasks: which of them is compiled, and which wait for its result.

use std::collections::BTreeMap;

use hg_proto::wire::digest::Digest;

use crate::bounds::DUPLICATES_WAITING_MAX;
use crate::scheduling::id::{ByDigest, Keyed, TaskId};

/// See the top of the file.
pub struct Duplicates {
    /// The task whose result others wait for, by what it asks for, until it is settled
    /// whether there is one.
    compiled: ByDigest<TaskId>,
    /// Tasks that wait for the result of another one, and until when, in milliseconds.
    waiting: BTreeMap<TaskId, u64>,
}

impl Duplicates {
    /// No tasks.
    pub fn new(seed: u64) -> Self {
        Duplicates {
            compiled: ByDigest::with_hasher(Keyed(seed)),
            waiting: BTreeMap::new(),
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A worker begins with `task`, whose result whoever asks for the `same` may have.
    pub fn compile(&mut self, task: TaskId, same: Digest) {
        self.compiled.entry(same).or_insert(task);
    }

    /// Whether `task` waits from now on: another one that is the `same` is compiled.
    pub fn wait(&mut self, task: TaskId, same: &Digest, until_ms: u64) -> bool {
        let compiled = self.compiled.get(same);
        let waits = compiled.is_some_and(|compiled| *compiled != task)
            && self.waiting() < DUPLICATES_WAITING_MAX;
        if waits {
            self.waiting.insert(task, until_ms);
        }
        waits
    }

    /// The task waits no more. `false`: it did not.
    pub fn stop_waiting(&mut self, task: TaskId) -> bool {
        self.waiting.remove(&task).is_some()
    }

    /// The result of `task`, if it was the one that is compiled, can be had by whoever asks
    /// for the `same`, or never will be.
    pub fn settle(&mut self, task: TaskId, same: &Digest) {
        if self.compiled.get(same) == Some(&task) {
            self.compiled.remove(same);
        }
    }

    /// Tasks that have waited as long as they may.
    pub fn overdue(&self, now_ms: u64) -> Vec<TaskId> {
        let over = self
            .waiting
            .iter()
            .filter(|(_, until_ms)| **until_ms <= now_ms);
        over.map(|(task, _)| *task).collect()
    }
}
