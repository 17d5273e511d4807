//! The tasks that are in the coordinator's hands: how often each was tried, and
//! what its attempts are doing. Unaware of queues and workers' states.
//!
//! A task has one attempt at a time, or two while a straggler is hedged.

use std::collections::BTreeSet;
use std::sync::Arc;

use hg_proto::digest::Digest;
use hg_proto::v1;

use crate::bounds::{INPUT_STALL_MS_MAX, INPUTS_MS_MAX, OFFER_MS_MAX, RESULT_GRACE_MS};
use crate::id::{ById, DispatchId, TaskId, WorkerId};
use crate::predictor::{Prediction, Profile};

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
    /// Milliseconds from its submission to its end, all attempts together.
    pub task_ms_max: u64,
    /// What is known of it.
    pub profile: Profile,
    /// Speed of the client's own machine; 0: unknown.
    pub client_speed: f64,
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The worker has not answered yet.
    Offered,
    /// The client sends inputs; since when, in milliseconds.
    Feeding(u64),
    /// It is the worker's to begin and to finish.
    Compiling,
    /// The result is on its way.
    Returning,
}

/// A task on a worker.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Where.
    pub worker: WorkerId,
    /// Its number on the wire.
    pub dispatch: DispatchId,
    /// 1, 2, ...
    pub number: u32,
    /// Since when.
    pub started_ms: u64,
    /// Since when the compiler runs.
    pub begun_ms: Option<u64>,
    /// How long the compiler is thought to run there.
    pub expected_ms: u64,
    /// How far.
    pub phase: Phase,
    /// Begun beside another one.
    pub hedge: bool,
    deadline_ms: u64,
    /// When to look whether it is a straggler.
    look_ms: Option<u64>,
}

/// A task and its history.
#[derive(Debug, Clone)]
pub struct Job {
    /// What it asks.
    pub demand: Demand,
    /// What it is thought to need.
    pub prediction: Prediction,
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
    /// Since when it waits, in milliseconds; `None`: it has an attempt.
    pub waiting_ms: Option<u64>,
    /// On workers.
    pub running: Vec<Attempt>,
    /// When it is over, come what may.
    pub deadline_ms: u64,
}

/// A worker for a task.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// Which.
    pub worker: WorkerId,
    /// Its number on the wire.
    pub dispatch: DispatchId,
    /// Milliseconds that the compiler is thought to run there.
    pub expected_ms: u64,
    /// Beside an attempt that goes on.
    pub hedge: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Jobs {
    jobs: ById<TaskId, Job>,
    dispatches: ById<DispatchId, TaskId>,
    deadlines: BTreeSet<(u64, DispatchId)>,
    ends: BTreeSet<(u64, TaskId)>,
    looks: BTreeSet<(u64, DispatchId)>,
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
        let mut ids = Vec::from_iter(self.jobs.keys().copied());
        ids.sort_unstable();
        ids
    }

    /// The task, if it has not ended.
    pub fn get(&self, task: TaskId) -> Option<&Job> {
        self.jobs.get(&task)
    }

    /// The same, to be changed. Attempts change through the methods below.
    pub fn get_mut(&mut self, task: TaskId) -> Option<&mut Job> {
        self.jobs.get_mut(&task)
    }

    /// Which task an attempt belongs to.
    pub fn task_of(&self, dispatch: DispatchId) -> Option<TaskId> {
        self.dispatches.get(&dispatch).copied()
    }

    /// An attempt and its task.
    pub fn attempt(&self, dispatch: DispatchId) -> Option<(TaskId, &Job, &Attempt)> {
        let task = self.task_of(dispatch)?;
        let job = self.jobs.get(&task)?;
        let attempt = job.running.iter().find(|a| a.dispatch == dispatch)?;
        Some((task, job, attempt))
    }

    fn attempt_mut(&mut self, dispatch: DispatchId) -> Option<(u64, &mut Attempt)> {
        let task = self.dispatches.get(&dispatch)?;
        let job = self.jobs.get_mut(task)?;
        let compile_ms_max = job.demand.compile_ms_max;
        let mut running = job.running.iter_mut();
        let attempt = running.find(|a| a.dispatch == dispatch)?;
        Some((compile_ms_max, attempt))
    }

    /// Adds a task that waits. `false`: it is there already.
    pub fn insert(
        &mut self,
        task: TaskId,
        demand: Demand,
        prediction: Prediction,
        now_ms: u64,
    ) -> bool {
        if self.jobs.contains_key(&task) {
            return false;
        }
        let deadline_ms = now_ms + demand.task_ms_max;
        let job = Job {
            demand,
            prediction,
            attempts: 0,
            failures: 0,
            refusals: 0,
            excluded: Vec::new(),
            last_failure: None,
            waited_ms: 0,
            waiting_ms: Some(now_ms),
            running: Vec::new(),
            deadline_ms,
        };
        self.ends.insert((deadline_ms, task));
        self.jobs.insert(task, job);
        true
    }

    /// A task begins on a worker. Gives the attempt's number (1, 2, ...) and the
    /// milliseconds that the task has waited in all.
    pub fn start(&mut self, task: TaskId, start: Start, now_ms: u64) -> Option<(u32, u64)> {
        let job = self.jobs.get_mut(&task)?;
        if let Some(since_ms) = job.waiting_ms.take() {
            job.waited_ms += now_ms.saturating_sub(since_ms);
        }
        job.attempts += 1;
        let deadline_ms = now_ms + OFFER_MS_MAX;
        job.running.push(Attempt {
            worker: start.worker,
            dispatch: start.dispatch,
            number: job.attempts,
            started_ms: now_ms,
            begun_ms: None,
            expected_ms: start.expected_ms,
            phase: Phase::Offered,
            hedge: start.hedge,
            deadline_ms,
            look_ms: None,
        });
        self.dispatches.insert(start.dispatch, task);
        self.deadlines.insert((deadline_ms, start.dispatch));
        Some((job.attempts, job.waited_ms))
    }

    /// The attempt went on to `phase`, or got on within it.
    pub fn advance(&mut self, dispatch: DispatchId, phase: Phase, now_ms: u64) {
        let Some((compile_ms_max, attempt)) = self.attempt_mut(dispatch) else {
            return;
        };
        let before = (attempt.deadline_ms, dispatch);
        attempt.phase = phase;
        attempt.deadline_ms = match phase {
            Phase::Offered => now_ms + OFFER_MS_MAX,
            Phase::Feeding(since_ms) => (now_ms + INPUT_STALL_MS_MAX).min(since_ms + INPUTS_MS_MAX),
            Phase::Compiling | Phase::Returning => now_ms + compile_ms_max + RESULT_GRACE_MS,
        };
        let after = (attempt.deadline_ms, dispatch);
        self.deadlines.remove(&before);
        self.deadlines.insert(after);
    }

    /// The compiler of an attempt runs; it is looked at again at `look_ms`.
    pub fn begin(&mut self, dispatch: DispatchId, look_ms: u64, now_ms: u64) {
        if let Some((_, attempt)) = self.attempt_mut(dispatch)
            && attempt.begun_ms.is_none()
        {
            attempt.begun_ms = Some(now_ms);
            self.look_again(dispatch, look_ms);
        }
    }

    /// Looks at an attempt at `look_ms`, and not before.
    pub fn look_again(&mut self, dispatch: DispatchId, look_ms: u64) {
        let Some((_, attempt)) = self.attempt_mut(dispatch) else {
            return;
        };
        if let Some(before) = attempt.look_ms.replace(look_ms) {
            self.looks.remove(&(before, dispatch));
        }
        self.looks.insert((look_ms, dispatch));
    }

    /// An attempt that is due to be looked at; each once.
    pub fn due(&mut self, now_ms: u64) -> Option<DispatchId> {
        let &(look_ms, dispatch) = self.looks.first()?;
        if look_ms > now_ms {
            return None;
        }
        self.looks.pop_first();
        if let Some((_, attempt)) = self.attempt_mut(dispatch) {
            attempt.look_ms = None;
        }
        Some(dispatch)
    }

    /// The attempt is over. Its task waits again if that was its last one.
    pub fn stop(&mut self, dispatch: DispatchId, now_ms: u64) -> Option<(TaskId, Attempt)> {
        let task = self.dispatches.remove(&dispatch)?;
        let job = self.jobs.get_mut(&task)?;
        let at = job.running.iter().position(|a| a.dispatch == dispatch)?;
        let attempt = job.running.remove(at);
        if job.running.is_empty() {
            job.waiting_ms = Some(now_ms);
        }
        self.forget(&attempt);
        Some((task, attempt))
    }

    fn forget(&mut self, attempt: &Attempt) {
        self.dispatches.remove(&attempt.dispatch);
        self.deadlines
            .remove(&(attempt.deadline_ms, attempt.dispatch));
        if let Some(look_ms) = attempt.look_ms {
            self.looks.remove(&(look_ms, attempt.dispatch));
        }
    }

    /// The task is over.
    pub fn remove(&mut self, task: TaskId) -> Option<Job> {
        let job = self.jobs.remove(&task)?;
        self.ends.remove(&(job.deadline_ms, task));
        for attempt in &job.running {
            self.forget(attempt);
        }
        Some(job)
    }

    /// An attempt whose time was over at `now_ms`, and what it was doing.
    pub fn overdue(&self, now_ms: u64) -> Option<(DispatchId, TaskId, Attempt)> {
        let &(deadline_ms, dispatch) = self.deadlines.first()?;
        if deadline_ms > now_ms {
            return None;
        }
        let (task, _, attempt) = self.attempt(dispatch)?;
        Some((dispatch, task, attempt.clone()))
    }

    /// A task whose own time was over at `now_ms`.
    pub fn late(&self, now_ms: u64) -> Option<TaskId> {
        let &(deadline_ms, task) = self.ends.first()?;
        (deadline_ms <= now_ms).then_some(task)
    }
}
