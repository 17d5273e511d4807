//! The tasks that have not ended: how often each was attempted, and how far its attempts
//! are. Unaware of queues and workers' states.
//!
//! A task has one attempt at a time, or two while a straggler is hedged.

use std::sync::Arc;

use hg_proto::v1;
use hg_proto::v1::Toolchain;
use hg_proto::wire::digest::Digest;

use crate::bounds::{
    INPUT_STALL_MS_MAX, INPUTS_MS_MAX, OFFER_MS_MAX, PROGRESS_MS_MAX, RESULT_GRACE_MS,
};
use crate::scheduling::id::{ById, DispatchId, TaskId, WorkerId};
use crate::scheduling::predictor::{Prediction, Profile};
use crate::scheduling::slab::Slab;
use crate::scheduling::timers::Timers;

/// Each attempt is looked at again after so many milliseconds, if not before.
const LOOK_MS_MAX: u64 = 10_000;

/// What a task asks of the grid.
#[derive(Debug, Clone)]
pub struct Demand {
    /// The holder of the token that the task came with, whose share of the queue it uses.
    pub holder: Arc<str>,
    /// The client of that holder, whose part of the share it uses.
    pub client: Arc<str>,
    /// The toolchain that a worker must have.
    pub toolchain: Digest,
    /// The same as its client describes it, for people.
    pub wanted: Arc<Toolchain>,
    /// Or the shipment that a worker must have been given: the same toolchain, as the client
    /// would ship it.
    pub shipment: Option<Digest>,
    /// Or one of these, which the client takes for the same.
    pub equals: Vec<Digest>,
    /// What it asks for, if its result may be shared: equal for tasks that are the same.
    pub same: Option<Digest>,
    /// Two compiles of it need not give the same, on one machine either.
    pub varies: bool,
    /// It is no compile: a worker is given a toolchain.
    pub delivers: bool,
    /// Bytes of the coordinator's memory that the task takes while it waits.
    pub bytes: usize,
    /// Milliseconds that the task may wait for a slot, all waits together.
    pub queue_ms_max: u64,
    /// Milliseconds that the compile may take.
    pub compile_ms_max: u64,
    /// Milliseconds from the task's submission to its end, all attempts together.
    pub task_ms_max: u64,
    /// What a prediction is made from.
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
    /// The worker has all inputs, and begins the compile and ends it.
    Compiling,
    /// The result is on its way.
    Returning,
}

/// One attempt of a task, on one worker.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The task that is attempted.
    pub task: TaskId,
    /// The worker that has it.
    pub worker: WorkerId,
    /// The task's toolchain, here because stragglers are looked for among all attempts.
    pub toolchain: Digest,
    /// The attempt's number in its task: 1, 2, ...
    pub number: u32,
    /// When the attempt was dispatched.
    pub started_ms: u64,
    /// When its compiler began; `None`: it has not.
    pub begun_ms: Option<u64>,
    /// Microseconds of processor time that the compiler is known to have used.
    pub cpu_us: u64,
    /// When the compiler last was seen to have used processor time.
    progressed_ms: u64,
    /// The compiler has ended, and its result is on the way.
    has_ended: bool,
    /// Milliseconds from the attempt's start after which its client shall find it late
    /// once it is seen to get on; until then much sooner. `None`: its worker is not being
    /// tried out.
    pub trial_late_ms: Option<u64>,
    /// Milliseconds that the compiler is thought to run there.
    pub expected_ms: u64,
    /// How far the attempt is.
    pub phase: Phase,
    /// It was begun beside another one.
    pub hedge: bool,
    /// Another one of the task was begun while this one went on.
    pub beside: bool,
    /// When its task is over, come what may.
    pub task_deadline_ms: u64,
    compile_ms_max: u64,
    /// The key of its task's job.
    job: u64,
    /// When its phase must be over.
    deadline_ms: u64,
    /// Milliseconds from the compiler's begin after which to look whether it is a
    /// straggler.
    look_after_ms: u64,
    /// When to look next whether it is a straggler.
    look_ms: u64,
    /// When it is looked at in any case.
    timer_ms: u64,
}

impl Attempt {
    /// Whether its time was over at `now_ms`.
    pub fn is_overdue(&self, now_ms: u64) -> bool {
        self.deadline_ms <= now_ms
    }

    /// Whether its compiler had no processor for far too long.
    pub fn is_stalled(&self, now_ms: u64) -> bool {
        self.stalls_ms() <= now_ms
    }

    /// When the attempt counts as stalled, unless its compiler is seen to get on.
    fn stalls_ms(&self) -> u64 {
        match (self.phase, self.begun_ms) {
            (Phase::Compiling, Some(_)) if !self.has_ended => self.progressed_ms + PROGRESS_MS_MAX,
            _ => u64::MAX,
        }
    }
}

/// A task that has not ended, and its history.
#[derive(Debug, Clone)]
pub struct Job {
    /// What the task asks of the grid.
    pub demand: Demand,
    /// What the compile is thought to need.
    pub prediction: Prediction,
    /// Attempts begun.
    pub attempts: u32,
    /// Attempts that the grid failed.
    pub failures: u32,
    /// Times that a worker had no room.
    pub refusals: u32,
    /// Workers that failed the task.
    pub excluded: Vec<WorkerId>,
    /// The last failure of one of these.
    pub last_failure: Option<v1::Failure>,
    /// Milliseconds in the queue, waits that are over.
    pub waited_ms: u64,
    /// Since when the task waits, in milliseconds; `None`: it has an attempt.
    pub waiting_ms: Option<u64>,
    /// It waits for no other task's result.
    pub compiles_alone: bool,
    /// The task's attempts that are not over.
    pub running: Running,
    /// When the task is over, come what may.
    pub deadline_ms: u64,
}

/// The attempts of a task: one, or two while a straggler is hedged. In the task
/// itself: one pointer less on the way to what no cache has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Running {
    first: Option<(DispatchId, WorkerId)>,
    second: Option<(DispatchId, WorkerId)>,
}

impl Running {
    /// Each attempt with its worker, the older one first.
    pub fn iter(&self) -> impl Iterator<Item = (DispatchId, WorkerId)> {
        self.first.into_iter().chain(self.second)
    }

    /// How many attempts there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no attempt.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// `false`: there are two already.
    fn add(&mut self, dispatch: DispatchId, worker: WorkerId) -> bool {
        let place = match (self.first, self.second) {
            (None, _) => &mut self.first,
            (_, None) => &mut self.second,
            _ => return false,
        };
        *place = Some((dispatch, worker));
        true
    }

    fn remove(&mut self, dispatch: DispatchId) {
        let is_it = |(other, _): &mut (DispatchId, WorkerId)| *other == dispatch;
        if self.first.take_if(is_it).is_some() {
            self.first = self.second.take();
        } else {
            self.second.take_if(is_it);
        }
    }
}

/// Where an attempt is to run, and when to look at it.
#[derive(Debug, Clone, Copy)]
pub struct AttemptPlan {
    /// The worker that is booked for it.
    pub worker: WorkerId,
    /// The attempt's number on the wire.
    pub dispatch: DispatchId,
    /// Milliseconds that the compiler is thought to run there.
    pub expected_ms: u64,
    /// Milliseconds of these after which to look whether it is a straggler.
    pub look_after_ms: u64,
    /// It runs beside an attempt that goes on.
    pub hedge: bool,
    /// See [`Attempt::trial_late_ms`].
    pub trial_late_ms: Option<u64>,
}

/// Worker, deadline and prediction of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptStart {
    /// The task that is attempted.
    pub task: TaskId,
    /// The worker that gets it.
    pub worker: WorkerId,
    /// The attempt's number on the wire.
    pub dispatch: DispatchId,
    /// The attempt's number in its task: 1, 2, ...
    pub number: u32,
    /// It runs beside an attempt that goes on.
    pub hedge: bool,
    /// Milliseconds that the task has waited in the queue.
    pub queue_ms: u64,
    /// Milliseconds after which its client shall find it late.
    pub late_ms: u64,
    /// The client's own machine would be much faster.
    pub slower: bool,
    /// Bytes of memory that the compile is thought to need.
    pub peak_bytes: u64,
    /// Milliseconds until the task's own deadline.
    pub left_ms: u64,
}

/// All tasks that have not ended, and their attempts.
#[derive(Debug, Default)]
pub struct Jobs {
    jobs: Slab<Job>,
    /// The key of each task's job.
    keys: ById<TaskId, u64>,
    /// By their numbers on the wire, which are keys.
    attempts: Slab<Attempt>,
    /// When to look at attempts; some of these are over, or were looked at in the meantime.
    timers: Timers<DispatchId>,
}

impl Jobs {
    /// No tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of the attempt that is begun next.
    pub fn next_dispatch(&self) -> DispatchId {
        DispatchId(self.attempts.next_key())
    }

    /// A number like those of attempts, which no attempt ever has.
    pub fn spare_dispatch(&mut self) -> DispatchId {
        DispatchId(self.attempts.burn_key())
    }

    /// How many tasks have not ended.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether all tasks have ended.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The tasks' numbers, the oldest first.
    pub fn ids(&self) -> Vec<TaskId> {
        let mut ids = Vec::from_iter(self.keys.keys().copied());
        ids.sort_unstable();
        ids
    }

    /// The task, if it has not ended.
    pub fn get(&self, task: TaskId) -> Option<&Job> {
        self.jobs.get(*self.keys.get(&task)?)
    }

    /// The task, to be changed, if it has not ended. Attempts change through the methods
    /// below.
    pub fn get_mut(&mut self, task: TaskId) -> Option<&mut Job> {
        self.jobs.get_mut(*self.keys.get(&task)?)
    }

    /// An attempt that is not over.
    pub fn running(&self, dispatch: DispatchId) -> Option<&Attempt> {
        self.attempts.get(dispatch.0)
    }

    /// An attempt and its task.
    pub fn attempt(&self, dispatch: DispatchId) -> Option<(&Job, &Attempt)> {
        let attempt = self.attempts.get(dispatch.0)?;
        Some((self.jobs.get(attempt.job)?, attempt))
    }

    /// Adds a task that waits. `false`: it is there already, or there are more than the
    /// slab has keys for, which is many times what the shell lets in.
    pub fn insert(
        &mut self,
        task: TaskId,
        demand: Demand,
        prediction: Prediction,
        now_ms: u64,
    ) -> bool {
        if self.keys.contains_key(&task) {
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
            compiles_alone: false,
            running: Running::default(),
            deadline_ms,
        };
        let key = self.jobs.next_key();
        let inserted = self.jobs.insert(key, job);
        if inserted {
            self.keys.insert(task, key);
        }
        inserted
    }

    /// The task gets an attempt, numbered [`Self::next_dispatch`]. Gives which of the
    /// task's it is, 1, 2, ..., and the milliseconds that the task has waited in all.
    /// `None`: there is no such task, or there are too many attempts.
    pub fn start(&mut self, task: TaskId, plan: AttemptPlan, now_ms: u64) -> Option<(u32, u64)> {
        let job_key = *self.keys.get(&task)?;
        let job = self.jobs.get_mut(job_key)?;
        if let Some(since_ms) = job.waiting_ms.take() {
            job.waited_ms += now_ms.saturating_sub(since_ms);
        }
        job.attempts += 1;
        for (dispatch, _) in job.running.iter() {
            if let Some(attempt) = self.attempts.get_mut(dispatch.0) {
                attempt.beside = true;
            }
        }
        let attempt = Attempt {
            task,
            job: job_key,
            worker: plan.worker,
            toolchain: job.demand.toolchain,
            number: job.attempts,
            started_ms: now_ms,
            begun_ms: None,
            cpu_us: 0,
            progressed_ms: now_ms,
            has_ended: false,
            trial_late_ms: plan.trial_late_ms,
            expected_ms: plan.expected_ms,
            phase: Phase::Offered,
            hedge: plan.hedge,
            beside: !job.running.is_empty(),
            task_deadline_ms: job.deadline_ms,
            compile_ms_max: job.demand.compile_ms_max,
            deadline_ms: now_ms + OFFER_MS_MAX,
            look_after_ms: plan.look_after_ms,
            look_ms: u64::MAX,
            timer_ms: u64::MAX,
        };
        let answer = (job.attempts, job.waited_ms);
        if !job.running.add(plan.dispatch, plan.worker) {
            return None;
        }
        if !self.attempts.insert(plan.dispatch.0, attempt) {
            job.running.remove(plan.dispatch);
            return None;
        }
        self.rest(plan.dispatch, now_ms);
        Some(answer)
    }

    /// The worker's attempt went on to `phase`, or got on within it. `None`: it
    /// has no such attempt.
    pub fn advance(
        &mut self,
        worker: WorkerId,
        dispatch: DispatchId,
        phase: Phase,
        now_ms: u64,
    ) -> Option<&Attempt> {
        let attempt = self.attempts.get_mut(dispatch.0);
        let attempt = attempt.filter(|attempt| attempt.worker == worker)?;
        attempt.phase = phase;
        // After the timer, which need not be told; but for inputs that trickle to
        // the last, which may be found out some seconds late.
        attempt.deadline_ms = match phase {
            Phase::Offered => now_ms + OFFER_MS_MAX,
            Phase::Feeding(since_ms) => (now_ms + INPUT_STALL_MS_MAX).min(since_ms + INPUTS_MS_MAX),
            Phase::Compiling | Phase::Returning => {
                now_ms + attempt.compile_ms_max + RESULT_GRACE_MS
            }
        };
        Some(attempt)
    }

    /// The compiler of an attempt runs.
    pub fn begin(&mut self, dispatch: DispatchId, now_ms: u64) {
        if let Some(attempt) = self.attempts.get_mut(dispatch.0)
            && attempt.begun_ms.is_none()
        {
            attempt.begun_ms = Some(now_ms);
            attempt.progressed_ms = now_ms;
            let look_ms = now_ms + attempt.look_after_ms;
            self.look_again(dispatch, look_ms);
        }
    }

    /// The compiler of an attempt still runs, or has `ended`, and has used `cpu_us` so far;
    /// `None`: that can't be told.
    pub fn progress(
        &mut self,
        dispatch: DispatchId,
        cpu_us: Option<u64>,
        ended: bool,
        now_ms: u64,
    ) {
        let Some(attempt) = self.attempts.get_mut(dispatch.0) else {
            return;
        };
        attempt.has_ended |= ended;
        if cpu_us.is_none_or(|cpu_us| cpu_us > attempt.cpu_us) {
            attempt.cpu_us = cpu_us.unwrap_or(attempt.cpu_us);
            attempt.progressed_ms = now_ms;
        }
    }

    /// The worker of an attempt need not be tried out any more.
    pub fn end_trial(&mut self, dispatch: DispatchId) {
        if let Some(attempt) = self.attempts.get_mut(dispatch.0) {
            attempt.trial_late_ms = None;
        }
    }

    /// Looks at an attempt at `look_ms`, and not before.
    pub fn look_again(&mut self, dispatch: DispatchId, look_ms: u64) {
        if let Some(attempt) = self.attempts.get_mut(dispatch.0) {
            attempt.look_ms = look_ms;
            if look_ms < attempt.timer_ms {
                attempt.timer_ms = look_ms;
                self.timers.set(look_ms, dispatch);
            }
        }
    }

    /// Attempts that it is time to look at, each once, until [`Self::rest`].
    pub fn due(&mut self, now_ms: u64) -> Vec<DispatchId> {
        let mut due = Vec::new();
        for (at_ms, dispatch) in self.timers.due(now_ms) {
            if let Some(attempt) = self.attempts.get_mut(dispatch.0)
                && attempt.timer_ms == at_ms
            {
                attempt.timer_ms = u64::MAX;
                due.push(dispatch);
            }
        }
        due
    }

    /// The attempt was looked at, and is again when there will be reason to.
    pub fn rest(&mut self, dispatch: DispatchId, now_ms: u64) {
        let Some(attempt) = self.attempts.get_mut(dispatch.0) else {
            return;
        };
        let ends_ms = attempt.deadline_ms.min(attempt.task_deadline_ms);
        let ends_ms = ends_ms.min(attempt.stalls_ms());
        let next_ms = ends_ms.min(attempt.look_ms).min(now_ms + LOOK_MS_MAX);
        if next_ms < attempt.timer_ms {
            attempt.timer_ms = next_ms;
            self.timers.set(next_ms, dispatch);
        }
    }

    /// Whether an attempt is to be looked at for being late; each once.
    pub fn straggles(&mut self, dispatch: DispatchId, now_ms: u64) -> bool {
        let Some(attempt) = self.attempts.get_mut(dispatch.0) else {
            return false;
        };
        let straggles = attempt.look_ms <= now_ms;
        if straggles {
            attempt.look_ms = u64::MAX;
        }
        straggles
    }

    /// Ends an attempt. Its task waits again if that was its last one.
    pub fn stop(&mut self, dispatch: DispatchId, now_ms: u64) -> Option<Attempt> {
        let attempt = self.attempts.remove(dispatch.0)?;
        if let Some(job) = self.jobs.get_mut(attempt.job) {
            job.running.remove(dispatch);
            if job.running.is_empty() {
                job.waiting_ms = Some(now_ms);
            }
        }
        Some(attempt)
    }

    /// Ends a task, and its attempts.
    pub fn remove(&mut self, task: TaskId) -> Option<Job> {
        let job = self.jobs.remove(self.keys.remove(&task)?)?;
        for (dispatch, _) in job.running.iter() {
            self.attempts.remove(dispatch.0);
        }
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_has_two_attempts_at_most_and_either_may_end_first() {
        for ends in [1, 2] {
            let mut running = Running::default();
            assert!(running.add(DispatchId(1), WorkerId(1)));
            assert!(running.add(DispatchId(2), WorkerId(2)));
            assert!(!running.add(DispatchId(3), WorkerId(3)), "a third one");
            running.remove(DispatchId(7));
            running.remove(DispatchId(ends));
            let other = 3 - ends;
            let left = (DispatchId(other), WorkerId(other));
            assert!(running.iter().eq([left]) && !running.is_empty());
            assert!(running.add(DispatchId(3), WorkerId(3)));
            assert!(running.iter().eq([left, (DispatchId(3), WorkerId(3))]));
            running.remove(DispatchId(other));
            running.remove(DispatchId(3));
            assert!(running.is_empty());
        }
    }
}
