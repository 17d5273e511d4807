//! The tasks that are in the coordinator's hands: how often each was tried, and
//! what its present attempt is doing. Unaware of queues and workers' states.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use hg_proto::digest::Digest;
use hg_proto::v1;

use crate::bounds::{INPUT_STALL_MS_MAX, INPUTS_MS_MAX, OFFER_MS_MAX, RESULT_GRACE_MS};
use crate::id::{DispatchId, TaskId, WorkerId};

/// What a task asks of the grid.
#[derive(Debug, Clone)]
pub struct Demand {
    /// Whose turn in the queue it uses.
    pub client: Arc<str>,
    /// What a worker must have.
    pub toolchain: Digest,
    /// Bytes that it keeps in memory.
    pub bytes: usize,
    /// Milliseconds that it may wait for a slot, all waits together.
    pub queue_ms_max: u64,
    /// Milliseconds that the compile may take.
    pub compile_ms_max: u64,
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The worker has not answered yet.
    Offered,
    /// The client sends inputs; since when, in milliseconds.
    Feeding(u64),
    /// It is the worker's to finish.
    Compiling,
}

/// A task on a worker.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Where.
    pub worker: WorkerId,
    /// Its number on the wire.
    pub dispatch: DispatchId,
    /// Since when.
    pub started_ms: u64,
    /// How far.
    pub phase: Phase,
    deadline_ms: u64,
}

/// Where a task stands.
#[derive(Debug, Clone)]
pub enum Stage {
    /// In the queue; since when, in milliseconds.
    Waiting(u64),
    /// On a worker.
    Running(Attempt),
}

/// A task and its history.
#[derive(Debug, Clone)]
pub struct Job {
    /// What it asks.
    pub demand: Demand,
    /// Attempts begun.
    pub attempts: u32,
    /// Attempts that the grid failed.
    pub failures: u32,
    /// Times that a worker had no room.
    pub refusals: u32,
    /// Workers that failed it.
    pub excluded: Vec<WorkerId>,
    /// The last such failure.
    pub last_failure: Option<v1::Failure>,
    /// Milliseconds in the queue, waits that are over.
    pub waited_ms: u64,
    /// Where it stands.
    pub stage: Stage,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Jobs {
    jobs: BTreeMap<TaskId, Job>,
    dispatches: HashMap<DispatchId, TaskId>,
    deadlines: BTreeSet<(u64, DispatchId)>,
}

impl Jobs {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tasks that have not ended.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Their numbers, the oldest first.
    pub fn ids(&self) -> Vec<TaskId> {
        self.jobs.keys().copied().collect()
    }

    /// The task, if it has not ended.
    pub fn get(&self, task: TaskId) -> Option<&Job> {
        self.jobs.get(&task)
    }

    /// The same, to be changed. Stages change through the methods below.
    pub fn get_mut(&mut self, task: TaskId) -> Option<&mut Job> {
        self.jobs.get_mut(&task)
    }

    /// Which task an attempt belongs to.
    pub fn task_of(&self, dispatch: DispatchId) -> Option<TaskId> {
        self.dispatches.get(&dispatch).copied()
    }

    /// Adds a task that waits. `false`: it is there already.
    pub fn insert(&mut self, task: TaskId, demand: Demand, now_ms: u64) -> bool {
        if self.jobs.contains_key(&task) {
            return false;
        }
        let job = Job {
            demand,
            attempts: 0,
            failures: 0,
            refusals: 0,
            excluded: Vec::new(),
            last_failure: None,
            waited_ms: 0,
            stage: Stage::Waiting(now_ms),
        };
        self.jobs.insert(task, job);
        true
    }

    /// A waiting task begins on a worker. Gives the attempt's number (1, 2, ...)
    /// and the milliseconds that the task has waited in all.
    pub fn start(
        &mut self,
        task: TaskId,
        worker: WorkerId,
        dispatch: DispatchId,
        now_ms: u64,
    ) -> Option<(u32, u64)> {
        let job = self.jobs.get_mut(&task)?;
        if let Stage::Waiting(since_ms) = job.stage {
            job.waited_ms += now_ms.saturating_sub(since_ms);
        }
        job.attempts += 1;
        let deadline_ms = now_ms + OFFER_MS_MAX;
        job.stage = Stage::Running(Attempt {
            worker,
            dispatch,
            started_ms: now_ms,
            phase: Phase::Offered,
            deadline_ms,
        });
        self.dispatches.insert(dispatch, task);
        self.deadlines.insert((deadline_ms, dispatch));
        Some((job.attempts, job.waited_ms))
    }

    /// The attempt went on to `phase`, or got on within it.
    pub fn advance(&mut self, dispatch: DispatchId, phase: Phase, now_ms: u64) {
        let Some(job) = self
            .dispatches
            .get(&dispatch)
            .and_then(|t| self.jobs.get_mut(t))
        else {
            return;
        };
        let Stage::Running(attempt) = &mut job.stage else {
            return;
        };
        self.deadlines.remove(&(attempt.deadline_ms, dispatch));
        attempt.phase = phase;
        attempt.deadline_ms = match phase {
            Phase::Offered => now_ms + OFFER_MS_MAX,
            Phase::Feeding(since_ms) => (now_ms + INPUT_STALL_MS_MAX).min(since_ms + INPUTS_MS_MAX),
            Phase::Compiling => now_ms + job.demand.compile_ms_max + RESULT_GRACE_MS,
        };
        self.deadlines.insert((attempt.deadline_ms, dispatch));
    }

    /// The attempt is over and its task waits again.
    pub fn stop(&mut self, dispatch: DispatchId, now_ms: u64) -> Option<(TaskId, Attempt)> {
        let task = self.dispatches.remove(&dispatch)?;
        let job = self.jobs.get_mut(&task)?;
        match std::mem::replace(&mut job.stage, Stage::Waiting(now_ms)) {
            Stage::Running(attempt) => {
                self.deadlines.remove(&(attempt.deadline_ms, dispatch));
                Some((task, attempt))
            }
            Stage::Waiting(since_ms) => {
                job.stage = Stage::Waiting(since_ms);
                None
            }
        }
    }

    /// The task is over.
    pub fn remove(&mut self, task: TaskId) -> Option<Job> {
        let job = self.jobs.remove(&task)?;
        if let Stage::Running(attempt) = &job.stage {
            self.dispatches.remove(&attempt.dispatch);
            self.deadlines
                .remove(&(attempt.deadline_ms, attempt.dispatch));
        }
        Some(job)
    }

    /// An attempt whose time was over at `now_ms`, and what it was doing.
    pub fn overdue(&self, now_ms: u64) -> Option<(DispatchId, TaskId, Attempt)> {
        let &(deadline_ms, dispatch) = self.deadlines.first()?;
        if deadline_ms > now_ms {
            return None;
        }
        let task = self.task_of(dispatch)?;
        match &self.jobs.get(&task)?.stage {
            Stage::Running(attempt) => Some((dispatch, task, attempt.clone())),
            Stage::Waiting(_) => None,
        }
    }
}
