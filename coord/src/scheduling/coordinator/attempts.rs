//! Pure: how an attempt goes on and ends, and what that says of its worker.

use hg_proto::v1::Failure;
use hg_proto::v1::failure::Code;
use hg_proto::wire::digest::Digest;

use super::placement::TRIAL_LATE_MS;
use super::second_opinions::Fate;
use super::stragglers::late_ms;
use super::{Action, Step};
use crate::bounds::{HEDGE_SAVED_MS_MAX, HEDGE_SHARE, REFUSAL_PAUSE_MS, REFUSALS_MAX, RETRIES_MAX};
use crate::scheduling::id::{DispatchId, TaskId, WorkerId};
use crate::scheduling::jobs::{Attempt, Phase};
use crate::scheduling::predictor::Spent;
use crate::scheduling::registry::AttemptEnd;

/// A compile is thought to need one in so many bytes of the largest worker's memory at
/// most: no machine has all of it free.
const MEMORY_SHARE: u64 = 2;
/// A compile that has one in so many parts of a processor to itself gets on as it should.
const TRIAL_CPU_SHARE: u64 = 2;

/// Whether the compiler of an attempt has had the processor that it should have by now.
fn gets_on(attempt: &Attempt, elapsed_ms: u64) -> bool {
    attempt.cpu_us.saturating_mul(TRIAL_CPU_SHARE) >= elapsed_ms * 1_000
}

impl Step<'_> {
    pub(super) fn need_received(&mut self, worker: WorkerId, dispatch: DispatchId, inputs: bool) {
        let phase = if inputs {
            Phase::Feeding(self.now_ms)
        } else {
            Phase::Compiling
        };
        self.advance(worker, dispatch, phase);
    }

    pub(super) fn inputs_progressed(&mut self, dispatch: DispatchId, complete: bool) {
        let Some(attempt) = self.core.jobs.running(dispatch) else {
            return;
        };
        let phase = match attempt.phase {
            Phase::Feeding(_) if complete => Phase::Compiling,
            Phase::Feeding(since_ms) => Phase::Feeding(since_ms),
            _ => return,
        };
        let worker = attempt.worker;
        self.advance(worker, dispatch, phase);
    }

    /// The worker's attempt goes on to `phase`. `None`: it has no such attempt;
    /// otherwise whether another one of the task was begun beside it.
    pub(super) fn advance(
        &mut self,
        worker: WorkerId,
        dispatch: DispatchId,
        phase: Phase,
    ) -> Option<bool> {
        let jobs = &mut self.core.jobs;
        let attempt = jobs.advance(worker, dispatch, phase, self.now_ms)?;
        Some(attempt.beside)
    }

    /// The compiler of an attempt runs, since just now or still.
    pub(super) fn compile_runs(
        &mut self,
        worker: WorkerId,
        dispatch: DispatchId,
        cpu_us: Option<u64>,
        ended: bool,
    ) {
        let attempt = self.core.jobs.running(dispatch);
        let Some(attempt) = attempt.filter(|attempt| attempt.worker == worker) else {
            return;
        };
        let (task, number) = (attempt.task, attempt.number);
        if attempt.begun_ms.is_some() {
            self.core
                .jobs
                .progress(dispatch, cpu_us, ended, self.now_ms);
            self.end_trial(dispatch, cpu_us.is_none());
            return;
        }
        let is_trial = attempt.trial_late_ms.is_some();
        if self.advance(worker, dispatch, Phase::Compiling).is_some() {
            self.core.jobs.begin(dispatch, self.now_ms);
            // It may have overtaken the first word.
            let jobs = &mut self.core.jobs;
            jobs.progress(dispatch, cpu_us, ended, self.now_ms);
        }
        // What it took to get there says nothing of the worker.
        if is_trial {
            self.actions.push(Action::Late {
                task,
                attempt: number,
                late_ms: TRIAL_LATE_MS,
            });
        }
    }

    /// The client of an attempt that tries out its worker shall wait for it after all, if
    /// it gets on as it should, or where nobody can tell.
    fn end_trial(&mut self, dispatch: DispatchId, untold: bool) {
        let Some(attempt) = self.core.jobs.running(dispatch) else {
            return;
        };
        let (Some(late_ms), Some(begun_ms)) = (attempt.trial_late_ms, attempt.begun_ms) else {
            return;
        };
        let elapsed_ms = self.now_ms.saturating_sub(begun_ms);
        if !untold && !gets_on(attempt, elapsed_ms) {
            return;
        }
        let passed_ms = self.now_ms.saturating_sub(attempt.started_ms);
        let (task, number) = (attempt.task, attempt.number);
        self.core.jobs.end_trial(dispatch);
        self.actions.push(Action::Late {
            task,
            attempt: number,
            late_ms: late_ms.saturating_sub(passed_ms),
        });
    }

    /// The first result to come is taken; the others need not come.
    pub(super) fn result_began(&mut self, worker: WorkerId, dispatch: DispatchId) {
        if self.advance(worker, dispatch, Phase::Returning) == Some(true) {
            self.end_others(dispatch);
        }
    }

    /// Ends what runs beside an attempt that won.
    pub(super) fn end_others(&mut self, winner: DispatchId) {
        let Some((job, _)) = self.core.jobs.attempt(winner) else {
            return;
        };
        let all = job.running;
        for (dispatch, worker) in all.iter().filter(|(id, _)| *id != winner) {
            self.judge(worker, dispatch);
            self.take_back(worker, dispatch);
            self.feed(worker);
        }
    }

    /// An attempt is given up: if it hung, that is its worker's fault, and how
    /// slow the worker is at least can be told.
    pub(super) fn judge(&mut self, worker: WorkerId, dispatch: DispatchId) {
        let Some((job, attempt)) = self.core.jobs.attempt(dispatch) else {
            return;
        };
        let Some(begun_ms) = attempt.begun_ms else {
            return;
        };
        let elapsed_ms = self.now_ms.saturating_sub(begun_ms);
        let (expected_ms, prediction) = (attempt.expected_ms, job.prediction);
        let holder = job.demand.holder.clone();
        let by = self.core.registry.get(worker);
        let is_probe = self.core.holders.is_probe(&holder, worker, dispatch)
            || by.is_some_and(|w| w.breaker.is_probe(dispatch));
        let stands = elapsed_ms >= TRIAL_LATE_MS && !gets_on(attempt, elapsed_ms);
        let hung = elapsed_ms >= late_ms(expected_ms, prediction.known) || (is_probe && stands);
        let came_since = |w: &crate::scheduling::registry::Worker| {
            w.succeeded_ms.is_some_and(|ms| ms > begun_ms)
        };
        let silent = !by.is_some_and(came_since);
        // Where others' tasks come to their end meanwhile, it is this one that is slow.
        if elapsed_ms > expected_ms
            && prediction.known
            && silent
            && let Some(slow) = by
        {
            let key = slow.key;
            let (before, cost_ms) = (slow.pace, prediction.cost_ms);
            let pace = self
                .core
                .predictor
                .at_most(key, before, cost_ms / elapsed_ms as f64);
            self.core.registry.set_pace(worker, pace);
        }
        if hung {
            self.blame_for(&holder, worker, dispatch, silent);
        }
    }

    pub(super) fn task_done(
        &mut self,
        worker: WorkerId,
        dispatch: DispatchId,
        spent: &Spent,
        made: Option<Digest>,
    ) {
        let Some(beside) = self.advance(worker, dispatch, Phase::Returning) else {
            return;
        };
        if beside {
            self.end_others(dispatch);
        }
        self.core.ahead.remove(&(dispatch, worker));
        self.core
            .registry
            .release(worker, dispatch, AttemptEnd::Well(self.now_ms));
        if let Some(attempt) = self.core.jobs.stop(dispatch, self.now_ms) {
            self.finish(dispatch, &attempt, spent, made);
        }
        self.feed(worker);
    }

    /// A task has its result, by an attempt that is over.
    fn finish(
        &mut self,
        dispatch: DispatchId,
        attempt: &Attempt,
        spent: &Spent,
        made: Option<Digest>,
    ) {
        let worker = attempt.worker;
        if let Some(job) = self.core.jobs.remove(attempt.task) {
            let running_ms = self.now_ms.saturating_sub(attempt.started_ms);
            let core = &mut *self.core;
            core.holders.success(&job.demand.holder, worker, dispatch);
            // What it takes to be given a toolchain says nothing of how fast it compiles.
            let by = core.registry.get(worker).filter(|_| !job.demand.delivers);
            let who = by.map(|by| by.spec.who());
            if let Some(by) = by {
                let key = by.key;
                let (before, doubted) = (by.pace, by.is_doubted());
                let profile = &job.demand.profile;
                let spent = Spent {
                    peak_bytes: by.within_memory(spent.peak_bytes),
                    ..*spent
                };
                let pace = core.predictor.learn(profile, key, before, doubted, &spent);
                core.registry.set_pace(worker, pace);
                let work_ms = spent.wall_ms * before.speed;
                core.hedges_ms = (core.hedges_ms + HEDGE_SHARE * work_ms).min(HEDGE_SAVED_MS_MAX);
            }
            let holder = &job.demand.holder;
            let toolchain = job.demand.toolchain;
            let mut fate = Fate::default();
            if let Some(who) = who {
                let core = &mut *self.core;
                let random = core.scheduler.random();
                let task = attempt.task;
                fate.audit = core
                    .audits
                    .result(task, holder, who.clone(), toolchain, random);
                fate = self.compare_second(task, who, made, fate);
            } else {
                self.end_second(attempt.task);
            }
            self.actions.push(Action::FinishTask {
                audit: fate.audit,
                held: fate.is_held,
                task: attempt.task,
                worker,
                attempt: attempt.number,
                queue_ms: job.waited_ms,
                running_ms,
            });
        }
    }

    pub(super) fn task_failed(&mut self, worker: WorkerId, dispatch: DispatchId, failure: Failure) {
        let Some((job, attempt)) = self.core.jobs.attempt(dispatch) else {
            return;
        };
        if attempt.worker != worker {
            return;
        }
        let holder = job.demand.holder.clone();
        let code = failure.code();
        let blame = matches!(code, Code::Worker | Code::Link | Code::NoToolchain);
        let ended = if blame {
            AttemptEnd::Failed
        } else {
            AttemptEnd::Void
        };
        self.core.ahead.remove(&(dispatch, worker));
        self.core.registry.release(worker, dispatch, ended);
        let stopped = self.core.jobs.stop(dispatch, self.now_ms);
        match (blame, failure.worker_at_fault) {
            (true, true) => {
                self.core.holders.void(&holder, worker, dispatch);
                self.blame(worker, Some(dispatch), false);
            }
            (true, false) => self.blame_for(&holder, worker, dispatch, false),
            (false, _) => self.core.holders.void(&holder, worker, dispatch),
        }
        // What a compile ran out of says nothing of the room for others.
        if code == Code::Busy {
            self.core
                .registry
                .pause(worker, self.now_ms + REFUSAL_PAUSE_MS);
        }
        if let Some(task) = stopped.map(|attempt| attempt.task) {
            match code {
                Code::Busy => self.refused(task, failure),
                Code::Memory => self.too_large(task, worker, failure),
                // It would end the same way everywhere.
                Code::Refused | Code::Limit => self.fail(task, failure),
                _ => self.retry(task, worker, failure),
            }
        }
        self.feed(worker);
    }

    /// A worker had too little memory for it: one with more may try, unless it was
    /// thought to need as much as any may give already.
    fn too_large(&mut self, task: TaskId, worker: WorkerId, failure: Failure) {
        let core = &mut *self.core;
        let by = core.registry.get(worker);
        let had_bytes = by.map_or(0, |by| by.within_memory(failure.memory_bytes));
        let Some(job) = core.jobs.get_mut(task) else {
            return;
        };
        let profile = job.demand.profile;
        let most_bytes = core.registry.memory_bytes_max(&job.demand.toolchain) / MEMORY_SHARE;
        let before_bytes = job.prediction.peak_bytes;
        core.predictor.too_large(&profile, had_bytes, most_bytes);
        job.prediction = core.predictor.predict(&profile);
        match job.prediction.peak_bytes > before_bytes || !job.running.is_empty() {
            true => self.refused(task, failure),
            false => self.fail(task, failure),
        }
    }

    /// A worker had no room: no failure, but not for ever.
    pub(super) fn refused(&mut self, task: TaskId, failure: Failure) {
        let Some(job) = self.core.jobs.get_mut(task) else {
            return;
        };
        job.refusals += 1;
        let over = job.refusals > REFUSALS_MAX;
        if !job.running.is_empty() {
            return;
        }
        if over {
            return self.fail(task, failure);
        }
        self.place(task);
    }

    /// A worker failed the task: another may try.
    pub(super) fn retry(&mut self, task: TaskId, worker: WorkerId, failure: Failure) {
        let Some(job) = self.core.jobs.get_mut(task) else {
            return;
        };
        job.failures += 1;
        if !job.excluded.contains(&worker) {
            job.excluded.push(worker);
        }
        job.last_failure = Some(failure.clone());
        if !job.running.is_empty() {
            return;
        }
        let over = job.failures > RETRIES_MAX || self.core.retries < 1.0;
        if over || !self.is_served(task) {
            return self.fail(task, failure);
        }
        self.core.retries -= 1.0;
        self.place(task);
    }
}
