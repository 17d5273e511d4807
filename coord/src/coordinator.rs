//! The state machine that joins registry, queue, jobs and scheduler: what
//! happened goes in, what is to be done comes out. Unaware of sockets, clocks
//! and messages; [`crate::dispatch`] performs the actions, and a simulator can.
//!
//! Every task that is submitted ends in exactly one [`Action::FinishTask`] or
//! [`Action::FailTask`].

use std::collections::BTreeSet;

use hg_proto::limits::HEARTBEAT_EXPIRY_MS;
use hg_proto::v1::Failure;
use hg_proto::v1::failure::Code;

use crate::bounds::{REFUSAL_PAUSE_MS, REFUSALS_MAX, RETRIES_MAX};
use crate::id::{DispatchId, TaskId, WorkerId};
use crate::jobs::{Demand, Jobs, Phase, Stage};
use crate::queue::{Queue, Ticket};
use crate::registry::{Registry, Vitals, WorkerSpec};
use crate::scheduler::Scheduler;

/// Why a link is closed of which nothing is heard.
pub const NO_HEARTBEAT: &str = "no heartbeat";

/// What happened. Numbers of workers and tasks are the caller's and never used twice.
#[derive(Debug)]
pub enum Event {
    /// A worker said hello.
    WorkerJoined {
        worker: WorkerId,
        spec: Box<WorkerSpec>,
    },
    /// Its link carried something; `vitals` if that was a heartbeat.
    WorkerHeard {
        worker: WorkerId,
        vitals: Option<Vitals>,
    },
    /// Its link is no more.
    WorkerGone { worker: WorkerId, reason: String },
    /// Somebody, the worker itself or an operator, wants it to take no more tasks.
    DrainRequested { worker: WorkerId, by_itself: bool },
    /// A client wants a compile.
    TaskSubmitted { task: TaskId, demand: Demand },
    /// The client is gone, or broke the protocol.
    TaskCancelled { task: TaskId, failure: Failure },
    /// The worker takes the task; `inputs`: and lacks some.
    NeedReceived {
        worker: WorkerId,
        dispatch: DispatchId,
        inputs: bool,
    },
    /// Inputs went to the worker; `complete`: all of them.
    InputsProgressed {
        dispatch: DispatchId,
        complete: bool,
    },
    /// The compiler ran, well or not.
    TaskDone {
        worker: WorkerId,
        dispatch: DispatchId,
    },
    /// It did not.
    TaskFailed {
        worker: WorkerId,
        dispatch: DispatchId,
        failure: Failure,
    },
    /// Time went by.
    Tick,
    /// The process ends.
    Shutdown,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send the task to the worker and tell the client; `attempt` is 1, 2, ...
    Dispatch {
        worker: WorkerId,
        dispatch: DispatchId,
        task: TaskId,
        attempt: u32,
        queue_ms: u64,
    },
    /// Tell the worker to stop.
    CancelDispatch {
        worker: WorkerId,
        dispatch: DispatchId,
    },
    /// Give the client its result.
    FinishTask {
        task: TaskId,
        worker: WorkerId,
        attempt: u32,
        queue_ms: u64,
        running_ms: u64,
    },
    /// Tell the client that there will be none.
    FailTask { task: TaskId, failure: Failure },
    /// Tell the worker to drain.
    SendDrain { worker: WorkerId },
    /// Close the worker's link, if that is still open.
    CloseLink {
        worker: WorkerId,
        label: String,
        reason: String,
    },
}

/// See the top of the file.
pub struct Coordinator {
    registry: Registry,
    queue: Queue,
    jobs: Jobs,
    scheduler: Scheduler,
    /// Tasks in the queue that some workers must not get.
    choosy: BTreeSet<TaskId>,
    dispatches: u64,
    closing: bool,
}

impl Coordinator {
    /// No workers, no tasks.
    pub fn new(seed: u64) -> Self {
        Coordinator {
            registry: Registry::new(),
            queue: Queue::new(),
            jobs: Jobs::new(),
            scheduler: Scheduler::new(seed),
            choosy: BTreeSet::new(),
            dispatches: 0,
            closing: false,
        }
    }

    /// The workers, for listings.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Tasks that wait for a slot.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Tasks that have not ended.
    pub fn unfinished(&self) -> usize {
        self.jobs.len()
    }

    /// Takes in what happened at `now_ms` and gives what is to be done.
    pub fn handle(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        let mut step = Step {
            core: self,
            now_ms,
            actions: Vec::new(),
        };
        match event {
            Event::WorkerJoined { worker, spec } => step.worker_joined(worker, *spec),
            Event::WorkerHeard { worker, vitals } => {
                step.core.registry.heard(worker, vitals, now_ms);
            }
            Event::WorkerGone { worker, reason } => step.worker_gone(worker, &reason),
            Event::DrainRequested { worker, by_itself } => step.drain(worker, by_itself),
            Event::TaskSubmitted { task, demand } => step.task_submitted(task, demand),
            Event::TaskCancelled { task, failure } => step.fail(task, failure),
            Event::NeedReceived {
                worker,
                dispatch,
                inputs,
            } => {
                step.need_received(worker, dispatch, inputs);
            }
            Event::InputsProgressed { dispatch, complete } => {
                step.inputs_progressed(dispatch, complete);
            }
            Event::TaskDone { worker, dispatch } => step.task_done(worker, dispatch),
            Event::TaskFailed {
                worker,
                dispatch,
                failure,
            } => {
                step.task_failed(worker, dispatch, failure);
            }
            Event::Tick => step.tick(),
            Event::Shutdown => step.shutdown(),
        }
        step.actions
    }
}

/// One event on its way through the state.
struct Step<'a> {
    core: &'a mut Coordinator,
    now_ms: u64,
    actions: Vec<Action>,
}

impl Step<'_> {
    fn worker_joined(&mut self, worker: WorkerId, spec: WorkerSpec) {
        // The same program dials again: its old link is dead, whatever it looks like.
        if let Some(old) = self.core.registry.find_instance(&spec.instance) {
            self.worker_gone(old, "the worker came back on a new link");
        }
        self.core.registry.join(worker, spec, self.now_ms);
        self.feed(worker);
    }

    fn worker_gone(&mut self, worker: WorkerId, reason: &str) {
        let Some(gone) = self.core.registry.leave(worker) else {
            return;
        };
        let (label, reason) = (gone.label, reason.to_owned());
        let detail = format!("the link to worker {label} broke: {reason}");
        self.actions.push(Action::CloseLink {
            worker,
            label,
            reason,
        });
        for dispatch in gone.running {
            if let Some((task, _)) = self.core.jobs.stop(dispatch, self.now_ms) {
                self.retry(task, worker, failure(Code::Link, detail.clone()));
            }
        }
        self.give_up(&gone.spec.digests);
    }

    fn drain(&mut self, worker: WorkerId, by_itself: bool) {
        if self.core.registry.drain(worker) != Some(true) {
            return;
        }
        if !by_itself {
            self.actions.push(Action::SendDrain { worker });
        }
        let digests = match self.core.registry.get(worker) {
            Some(worker) => worker.spec.digests.clone(),
            None => return,
        };
        self.give_up(&digests);
    }

    /// Fails the queued tasks that no worker will ever take, now that one with
    /// these toolchains takes none any more.
    fn give_up(&mut self, digests: &[hg_proto::digest::Digest]) {
        for digest in digests {
            if self.core.registry.serves(digest, &[]) {
                continue;
            }
            while let Some(task) = self.core.queue.take_any(digest) {
                let last = self
                    .core
                    .jobs
                    .get(task)
                    .and_then(|job| job.last_failure.clone());
                let none = || failure(Code::NoToolchain, "the last worker with it left");
                self.fail(task, last.unwrap_or_else(none));
            }
        }
        for task in self.core.choosy.clone() {
            let Some(job) = self.core.jobs.get(task) else {
                continue;
            };
            if !self
                .core
                .registry
                .serves(&job.demand.toolchain, &job.excluded)
            {
                let last = job.last_failure.clone();
                self.fail(
                    task,
                    last.unwrap_or_else(|| failure(Code::Worker, "no other worker")),
                );
            }
        }
    }

    fn task_submitted(&mut self, task: TaskId, demand: Demand) {
        let known = self.core.registry.serves(&demand.toolchain, &[]);
        if !self.core.jobs.insert(task, demand, self.now_ms) {
            return;
        }
        if self.core.closing {
            self.fail(
                task,
                failure(Code::Shutdown, "the coordinator is going away"),
            );
        } else if known {
            self.place(task);
        } else {
            self.fail(
                task,
                failure(Code::NoToolchain, "no worker has this toolchain"),
            );
        }
    }

    /// Gives a waiting task a slot, or a place in the queue.
    fn place(&mut self, task: TaskId) {
        let core = &mut *self.core;
        let Some(job) = core.jobs.get(task) else {
            return;
        };
        let dispatch = DispatchId(core.dispatches + 1);
        let toolchain = job.demand.toolchain;
        let booked = core
            .scheduler
            .book(&mut core.registry, &toolchain, &job.excluded, dispatch);
        if let Some(worker) = booked {
            return self.start(task, worker, dispatch);
        }
        let ticket = Ticket {
            task,
            client: job.demand.client.clone(),
            toolchain,
            bytes: job.demand.bytes,
            deadline_ms: self.now_ms + job.demand.queue_ms_max.saturating_sub(job.waited_ms),
        };
        if !job.excluded.is_empty() {
            core.choosy.insert(task);
        }
        if job.attempts > 0 {
            core.queue.push_front(ticket);
        } else if let Err(full) = core.queue.push(ticket) {
            self.fail(task, failure(Code::Queue, full.detail()));
        }
    }

    /// The slot is booked already.
    fn start(&mut self, task: TaskId, worker: WorkerId, dispatch: DispatchId) {
        self.core.dispatches = dispatch.0;
        self.core.choosy.remove(&task);
        let started = self.core.jobs.start(task, worker, dispatch, self.now_ms);
        let Some((attempt, queue_ms)) = started else {
            return self.core.registry.release(worker, dispatch, None);
        };
        self.actions.push(Action::Dispatch {
            worker,
            dispatch,
            task,
            attempt,
            queue_ms,
        });
    }

    /// Gives the worker's free slots to those whose turn it is.
    fn feed(&mut self, id: WorkerId) {
        loop {
            let core = &mut *self.core;
            let Some(worker) = core.registry.get(id).filter(|worker| worker.is_free()) else {
                return;
            };
            let jobs = &core.jobs;
            let fits = |task| {
                jobs.get(task)
                    .is_some_and(|job| !job.excluded.contains(&id))
            };
            let Some(task) = core.queue.take(&worker.spec.digests, fits) else {
                return;
            };
            let dispatch = DispatchId(core.dispatches + 1);
            if core.registry.book(id, dispatch) {
                self.start(task, id, dispatch);
            }
        }
    }

    fn need_received(&mut self, worker: WorkerId, dispatch: DispatchId, inputs: bool) {
        if self.running_on(worker, dispatch) {
            let phase = if inputs {
                Phase::Feeding(self.now_ms)
            } else {
                Phase::Compiling
            };
            self.core.jobs.advance(dispatch, phase, self.now_ms);
        }
    }

    fn inputs_progressed(&mut self, dispatch: DispatchId, complete: bool) {
        let job = self
            .core
            .jobs
            .task_of(dispatch)
            .and_then(|task| self.core.jobs.get(task));
        let Some(Stage::Running(attempt)) = job.map(|job| &job.stage) else {
            return;
        };
        if let Phase::Feeding(since_ms) = attempt.phase {
            let phase = if complete {
                Phase::Compiling
            } else {
                Phase::Feeding(since_ms)
            };
            self.core.jobs.advance(dispatch, phase, self.now_ms);
        }
    }

    fn running_on(&self, worker: WorkerId, dispatch: DispatchId) -> bool {
        self.core
            .registry
            .get(worker)
            .is_some_and(|worker| worker.running.contains(&dispatch))
    }

    fn task_done(&mut self, worker: WorkerId, dispatch: DispatchId) {
        if !self.running_on(worker, dispatch) {
            return;
        }
        self.core.registry.release(worker, dispatch, Some(true));
        if let Some((task, attempt)) = self.core.jobs.stop(dispatch, self.now_ms)
            && let Some(job) = self.core.jobs.remove(task)
        {
            self.actions.push(Action::FinishTask {
                task,
                worker,
                attempt: job.attempts,
                queue_ms: job.waited_ms,
                running_ms: self.now_ms.saturating_sub(attempt.started_ms),
            });
        }
        self.feed(worker);
    }

    fn task_failed(&mut self, worker: WorkerId, dispatch: DispatchId, failure: Failure) {
        if !self.running_on(worker, dispatch) {
            return;
        }
        let code = failure.code();
        let blame = !matches!(code, Code::Busy | Code::Refused | Code::Limit);
        self.core
            .registry
            .release(worker, dispatch, blame.then_some(false));
        if code == Code::Busy {
            self.core
                .registry
                .pause(worker, self.now_ms + REFUSAL_PAUSE_MS);
        }
        if let Some((task, _)) = self.core.jobs.stop(dispatch, self.now_ms) {
            match code {
                Code::Busy => self.refused(task, failure),
                // It would end the same way everywhere.
                Code::Refused | Code::Limit => self.fail(task, failure),
                _ => self.retry(task, worker, failure),
            }
        }
        self.feed(worker);
    }

    /// A worker had no room: no failure, but not for ever.
    fn refused(&mut self, task: TaskId, failure: Failure) {
        let Some(job) = self.core.jobs.get_mut(task) else {
            return;
        };
        job.refusals += 1;
        let serves = self
            .core
            .registry
            .serves(&job.demand.toolchain, &job.excluded);
        if job.refusals > REFUSALS_MAX || !serves {
            return self.fail(task, failure);
        }
        self.place(task);
    }

    /// A worker failed the task: another may try.
    fn retry(&mut self, task: TaskId, worker: WorkerId, failure: Failure) {
        let Some(job) = self.core.jobs.get_mut(task) else {
            return;
        };
        job.failures += 1;
        if !job.excluded.contains(&worker) {
            job.excluded.push(worker);
        }
        job.last_failure = Some(failure.clone());
        let serves = self
            .core
            .registry
            .serves(&job.demand.toolchain, &job.excluded);
        if job.failures > RETRIES_MAX || !serves {
            return self.fail(task, failure);
        }
        self.place(task);
    }

    /// Ends a task wherever it stands.
    fn fail(&mut self, task: TaskId, failure: Failure) {
        let Some(job) = self.core.jobs.remove(task) else {
            return;
        };
        self.core.queue.remove(task);
        self.core.choosy.remove(&task);
        let mut freed = None;
        if let Stage::Running(attempt) = job.stage {
            let (worker, dispatch) = (attempt.worker, attempt.dispatch);
            self.core.registry.release(worker, dispatch, None);
            self.actions
                .push(Action::CancelDispatch { worker, dispatch });
            freed = Some(worker);
        }
        self.actions.push(Action::FailTask { task, failure });
        if let Some(worker) = freed {
            self.feed(worker);
        }
    }

    fn tick(&mut self) {
        let silence_ms = u64::from(HEARTBEAT_EXPIRY_MS);
        for worker in self.core.registry.silent(silence_ms, self.now_ms) {
            self.worker_gone(worker, NO_HEARTBEAT);
        }
        for worker in self.core.registry.resume(self.now_ms) {
            self.feed(worker);
        }
        while let Some(task) = self.core.queue.take_overdue(self.now_ms) {
            self.fail(task, failure(Code::Queue, "no slot became free in time"));
        }
        while let Some((dispatch, task, attempt)) = self.core.jobs.overdue(self.now_ms) {
            let worker = attempt.worker;
            match attempt.phase {
                Phase::Offered => {
                    self.actions
                        .push(Action::CancelDispatch { worker, dispatch });
                    let why = failure(Code::Worker, "the worker did not answer");
                    self.task_failed(worker, dispatch, why);
                }
                Phase::Feeding(_) => {
                    self.fail(
                        task,
                        failure(Code::Input, "the client's inputs did not come"),
                    );
                }
                Phase::Compiling => {
                    self.fail(
                        task,
                        failure(Code::Worker, "the worker did not come to an end"),
                    );
                }
            }
        }
    }

    fn shutdown(&mut self) {
        self.core.closing = true;
        // Those in the queue first, so that no freed slot takes one.
        while let Some(task) = self.core.queue.take_first() {
            self.fail(
                task,
                failure(Code::Shutdown, "the coordinator is going away"),
            );
        }
        for task in self.core.jobs.ids() {
            self.fail(
                task,
                failure(Code::Shutdown, "the coordinator is going away"),
            );
        }
    }
}

/// A failure, for the client.
pub fn failure(code: Code, detail: impl Into<String>) -> Failure {
    Failure {
        code: code.into(),
        detail: detail.into(),
    }
}
