//! Pure: what becomes of identical tasks. While one of them is compiled the others wait
//! beside the queue; where there is no result to share, they are compiled like all.

use hg_proto::v1::failure::Code;
use hg_proto::wire::digest::Digest;

use super::{NO_SLOT, Step, TASK_OVER, failure};
use crate::scheduling::id::{TaskId, WorkerId};

impl Step<'_> {
    /// Whether the task has to wait for the result of one that is the same; then it does.
    pub(super) fn waits_for_same(&mut self, task: TaskId) -> bool {
        let Some(job) = self.core.jobs.get(task) else {
            return false;
        };
        let Some(same) = job.demand.same.filter(|_| !job.compiles_alone) else {
            return false;
        };
        let left_ms = job.demand.queue_ms_max.saturating_sub(job.waited_ms);
        let until_ms = (self.now_ms + left_ms).min(job.deadline_ms);
        self.core.duplicates.wait(task, &same, until_ms)
    }

    /// A worker begins with the task.
    pub(super) fn compiles(&mut self, task: TaskId, worker: WorkerId) {
        let worker = self.core.registry.get(worker);
        let job = self.core.jobs.get(task);
        if let Some(same) = job.and_then(|job| job.demand.same)
            && worker.is_some_and(|worker| worker.spec.has_full_sandbox())
        {
            self.core.duplicates.compile(task, same);
        }
    }

    /// What the task has waited for did not come: it is compiled by itself.
    pub(super) fn waited_in_vain(&mut self, task: TaskId) {
        let Some(job) = self.core.jobs.get_mut(task) else {
            return;
        };
        job.compiles_alone = true;
        if self.core.duplicates.stop_waiting(task) {
            self.place(task);
        }
    }

    /// Fails the tasks that have waited as long as they may.
    pub(super) fn end_waits_for_same(&mut self) {
        for task in self.core.duplicates.overdue(self.now_ms) {
            let job = self.core.jobs.get(task);
            let why = match job.is_some_and(|job| job.deadline_ms <= self.now_ms) {
                true => failure(Code::Limit, TASK_OVER),
                false => failure(Code::Queue, NO_SLOT),
            };
            self.fail(task, why);
        }
    }

    /// The task ended, and nothing came of it that could be shared.
    pub(super) fn end_of_same(&mut self, task: TaskId, same: Option<Digest>) {
        self.core.duplicates.stop_waiting(task);
        if let Some(same) = same {
            self.core.duplicates.settle(task, &same);
        }
    }
}
