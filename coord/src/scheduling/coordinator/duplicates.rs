//! Pure: identical tasks. While one of them is compiled the others wait for its result,
//! beside the queue; where there is none to share, they are compiled like all.

use std::collections::BTreeMap;

use hg_proto::v1::failure::Code;
use hg_proto::wire::digest::Digest;

use super::{NO_SLOT, Step, TASK_OVER, failure};
use crate::bounds::DUPLICATES_WAITING_MAX;
use crate::scheduling::id::{ByDigest, Keyed, TaskId, WorkerId};

/// Who compiles, and who waits for that.
pub(super) struct Duplicates {
    /// The task whose result others wait for, by what it asks for, until
    /// [`super::Event::ResultSettled`].
    compiled: ByDigest<TaskId>,
    /// Tasks that wait for the result of another one, and until when, in milliseconds.
    waiting: BTreeMap<TaskId, u64>,
}

impl Duplicates {
    pub(super) fn new(seed: u64) -> Self {
        Duplicates {
            compiled: ByDigest::with_hasher(Keyed(seed)),
            waiting: BTreeMap::new(),
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The task ended, and nothing came of it that could be shared.
    pub(super) fn ended(&mut self, task: TaskId, same: Option<Digest>) {
        self.waiting.remove(&task);
        if let Some(same) = same {
            self.settled(task, &same);
        }
    }

    fn settled(&mut self, task: TaskId, same: &Digest) {
        if self.compiled.get(same) == Some(&task) {
            self.compiled.remove(same);
        }
    }
}

impl Step<'_> {
    /// Whether the task has to wait for the result of one that is the same; then it does.
    pub(super) fn waits_for_same(&mut self, task: TaskId) -> bool {
        let now_ms = self.now_ms;
        let duplicates = &mut self.core.duplicates;
        let Some(job) = self.core.jobs.get(task) else {
            return false;
        };
        let compiled = job
            .demand
            .same
            .and_then(|same| duplicates.compiled.get(&same));
        let is_other = compiled.is_some_and(|compiled| *compiled != task);
        if !is_other || job.compiles_alone || duplicates.waiting() >= DUPLICATES_WAITING_MAX {
            return false;
        }
        let left_ms = job.demand.queue_ms_max.saturating_sub(job.waited_ms);
        let until_ms = (now_ms + left_ms).min(job.deadline_ms);
        duplicates.waiting.insert(task, until_ms);
        true
    }

    /// A worker whose results may be shared begins with the task.
    pub(super) fn compiles(&mut self, task: TaskId, worker: WorkerId) {
        let worker = self.core.registry.get(worker);
        let job = self.core.jobs.get(task);
        if let Some(same) = job.and_then(|job| job.demand.same)
            && worker.is_some_and(|worker| worker.spec.has_full_sandbox())
        {
            self.core.duplicates.compiled.entry(same).or_insert(task);
        }
    }

    /// The result of `task` can be had by whoever asks for the `same`, or can't.
    pub(super) fn result_settled(&mut self, task: TaskId, same: &Digest) {
        self.core.duplicates.settled(task, same);
    }

    /// What the task has waited for did not come: it is compiled by itself.
    pub(super) fn waited_in_vain(&mut self, task: TaskId) {
        let Some(job) = self.core.jobs.get_mut(task) else {
            return;
        };
        job.compiles_alone = true;
        if self.core.duplicates.waiting.remove(&task).is_some() {
            self.place(task);
        }
    }

    /// Fails the tasks that have waited as long as they may.
    pub(super) fn end_waits_for_same(&mut self) {
        let now_ms = self.now_ms;
        let waiting = self.core.duplicates.waiting.iter();
        let over = waiting.filter(|(_, until_ms)| **until_ms <= now_ms);
        for task in Vec::from_iter(over.map(|(task, _)| *task)) {
            let job = self.core.jobs.get(task);
            let why = match job.is_some_and(|job| job.deadline_ms <= now_ms) {
                true => failure(Code::Limit, TASK_OVER),
                false => failure(Code::Queue, NO_SLOT),
            };
            self.fail(task, why);
        }
    }
}
