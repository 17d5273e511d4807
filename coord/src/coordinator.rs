//! The state machine that joins registry, queue, jobs and scheduler: what
//! happened goes in, what is to be done comes out. Unaware of sockets, clocks
//! and messages; [`crate::dispatch`] performs the actions, and a simulator can.
//!
//! Every task that is submitted ends in exactly one [`Action::FinishTask`] or
//! [`Action::FailTask`].

use std::collections::{BTreeSet, HashMap};

use hg_proto::digest::Digest;
use hg_proto::limits::HEARTBEAT_EXPIRY_MS;
use hg_proto::v1::Failure;
use hg_proto::v1::failure::Code;

use crate::bounds::{
    HEDGE_FACTOR, HEDGE_LOOK_MS, HEDGE_MS_MIN, HEDGE_SAVED_MS_MAX, HEDGE_SHARE, REFUSAL_PAUSE_MS,
    REFUSALS_MAX, RETRIES_MAX, RETRIES_SAVED_MAX, RETRY_SHARE,
};
use crate::id::{ByDigest, DispatchId, Keyed, TaskId, WorkerId};
use crate::jobs::{Attempt, Demand, Jobs, Phase, Start};
use crate::predictor::{Predictor, Spent, worker_key};
use crate::queue::{Order, Queue, Ticket};
use crate::registry::{Ended, Registry, Vitals, WorkerSpec};
use crate::scheduler::{Choice, Policy, Scheduler, Wish};

/// Why a link is closed of which nothing is heard.
pub const NO_HEARTBEAT: &str = "no heartbeat";
const NO_SLOT: &str = "no slot became free in time";
const TASK_OVER: &str = "the task's own time is over";

/// What was submitted lately counts as what is likely to come: this many
/// milliseconds of it.
const LATELY_MS: f64 = 20_000.0;
/// A worker this many times slower than the fastest may always take a task.
const PATIENCE_MIN: f64 = 1.5;
/// An attempt is repeated on a worker that has become idle if it is likely to be
/// done there this many times sooner than where it runs.
const RESCUE_FACTOR: f64 = 1.5;
/// Tasks sent ahead that are looked at for an idle worker.
const AHEAD_LOOKS_MAX: usize = 16;
/// Workers of one class that are looked at on a tick.
const TICK_LOOKS_MAX: usize = 8;
/// An attempt takes too long after so many times its expected length ...
const LATE_FACTOR: u64 = 3;
/// ... and so many milliseconds more, ...
const LATE_MS_MIN: u64 = 1_000;
/// ... or so many if the length was only guessed.
const LATE_GUESS_MS_MIN: u64 = 5_000;
/// The same for the one attempt that tries out a worker that failed.
const PROBE_LATE_MS_MIN: u64 = 250;
/// A worker on which a compile takes so many times as long as on the client's own
/// machine is slow.
const SLOWER_FACTOR: f64 = 2.0;
/// An attempt is given up after so many times its expected length ...
const HOPELESS_FACTOR: u64 = 20;
/// ... and so many milliseconds more.
const HOPELESS_MS_MIN: u64 = 120_000;

/// How the coordinator decides.
pub struct Settings {
    /// For all that is random.
    pub seed: u64,
    /// How workers are chosen.
    pub policy: Policy,
    /// Weights of clients; 1 for those that are not named.
    pub weights: HashMap<String, u32>,
    /// Whether stragglers get a second attempt beside the first.
    pub hedge: bool,
    /// Whether full workers are sent one task ahead.
    pub ahead: bool,
    /// What earlier runs have learned.
    pub predictor: Predictor,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            seed: 0,
            policy: Policy::Expected,
            weights: HashMap::new(),
            hedge: true,
            ahead: true,
            predictor: Predictor::new(),
        }
    }
}

/// How long the compiler may be expected to run.
#[derive(Debug, Clone, Copy, Default)]
struct Patience {
    /// Milliseconds for a compile of any cost.
    horizon_ms: f64,
    /// Milliseconds for each of its cost, if that is more.
    per_cost: f64,
}

impl Patience {
    fn ms(&self, cost_ms: f64) -> f64 {
        self.horizon_ms.max(self.per_cost * cost_ms)
    }
}

/// What happened. Numbers of workers and tasks are the caller's and never used twice.
#[derive(Debug, Clone)]
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
    /// The compiler of an attempt runs.
    CompileBegan {
        worker: WorkerId,
        dispatch: DispatchId,
    },
    /// The first part of a result is there.
    ResultBegan {
        worker: WorkerId,
        dispatch: DispatchId,
    },
    /// The compiler ran, well or not.
    TaskDone {
        worker: WorkerId,
        dispatch: DispatchId,
        spent: Spent,
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
    /// Send the task to the worker and tell the client; `attempt` is 1, 2, ...,
    /// `hedge`: the one before goes on.
    Dispatch {
        worker: WorkerId,
        dispatch: DispatchId,
        task: TaskId,
        attempt: u32,
        queue_ms: u64,
        hedge: bool,
        /// Milliseconds after which it takes too long.
        late_ms: u64,
        /// The client's own machine would be much faster.
        slower: bool,
        /// Bytes of memory that it is thought to need.
        peak_bytes: u64,
        /// Milliseconds until the task's own deadline.
        left_ms: u64,
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
    predictor: Predictor,
    /// Tasks in the queue that some workers must not get.
    choosy: BTreeSet<TaskId>,
    /// Attempts sent ahead, and where.
    ahead: BTreeSet<(DispatchId, WorkerId)>,
    /// By when they must have begun; also of some that have.
    ahead_until: BTreeSet<(u64, DispatchId, WorkerId)>,
    /// Per toolchain: cost that was submitted, fading, and as of when.
    lately: ByDigest<(f64, u64)>,
    /// Retries that may be made.
    retries: f64,
    /// Milliseconds of work, at speed 1, that hedges may cost.
    hedges_ms: f64,
    hedge: bool,
    send_ahead: bool,
    closing: bool,
}

impl Coordinator {
    /// No workers, no tasks.
    pub fn new(settings: Settings) -> Self {
        Coordinator {
            registry: Registry::new(settings.seed),
            queue: Queue::new(settings.weights, settings.seed),
            jobs: Jobs::new(),
            scheduler: Scheduler::new(settings.seed, settings.policy),
            predictor: settings.predictor,
            choosy: BTreeSet::new(),
            ahead: BTreeSet::new(),
            ahead_until: BTreeSet::new(),
            lately: ByDigest::with_hasher(Keyed(settings.seed)),
            retries: RETRIES_SAVED_MAX / 4.0,
            hedges_ms: HEDGE_SAVED_MS_MAX / 30.0,
            hedge: settings.hedge,
            send_ahead: settings.ahead,
            closing: false,
        }
    }

    /// What was learned.
    pub fn predictor(&self) -> &Predictor {
        &self.predictor
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
                if vitals.is_some() {
                    step.feed(worker);
                }
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
            Event::CompileBegan { worker, dispatch } => step.compile_began(worker, dispatch),
            Event::ResultBegan { worker, dispatch } => step.result_began(worker, dispatch),
            Event::TaskDone {
                worker,
                dispatch,
                spent,
            } => step.task_done(worker, dispatch, &spent),
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
        let pace = self.core.predictor.pace(worker_key(&spec.name));
        self.core.registry.join(worker, spec, pace, self.now_ms);
        self.feed(worker);
    }

    fn worker_gone(&mut self, worker: WorkerId, reason: &str) {
        let Some(leaving) = self.core.registry.get(worker) else {
            return;
        };
        if !leaving.draining && !leaving.running.is_empty() {
            // Once, however many it had.
            self.blame(worker, None, false);
        }
        let Some(gone) = self.core.registry.leave(worker) else {
            return;
        };
        let (label, reason) = (gone.label, reason.to_owned());
        self.core
            .registry
            .keep_breaker(&gone.spec.name, gone.breaker);
        let detail = format!("the link to worker {label} broke: {reason}");
        self.actions.push(Action::CloseLink {
            worker,
            label,
            reason,
        });
        let running = gone.running.into_iter().map(|(dispatch, _)| dispatch);
        for dispatch in running.chain(gone.ahead) {
            self.core.ahead.remove(&(dispatch, worker));
            if let Some(attempt) = self.core.jobs.stop(dispatch, self.now_ms) {
                self.retry(attempt.task, worker, failure(Code::Link, detail.clone()));
            }
        }
        self.give_up(&gone.digests);
    }

    fn drain(&mut self, worker: WorkerId, by_itself: bool) {
        if self.core.registry.drain(worker) != Some(true) {
            return;
        }
        if !by_itself {
            self.actions.push(Action::SendDrain { worker });
        }
        let Some(draining) = self.core.registry.get(worker) else {
            return;
        };
        let digests = draining.digests.clone();
        if let Some(dispatch) = draining.ahead
            && let Some(task) = self.take_back(worker, dispatch)
        {
            self.place(task);
        }
        self.give_up(&digests);
    }

    /// Ends an attempt that is nobody's fault. Gives its task if that waits now.
    fn take_back(&mut self, worker: WorkerId, dispatch: DispatchId) -> Option<TaskId> {
        self.core.ahead.remove(&(dispatch, worker));
        self.core.registry.release(worker, dispatch, Ended::Void);
        self.actions
            .push(Action::CancelDispatch { worker, dispatch });
        let task = self.core.jobs.stop(dispatch, self.now_ms)?.task;
        let job = self.core.jobs.get(task)?;
        job.running.is_empty().then_some(task)
    }

    /// The grid's trouble, held against a worker; `severe`: once is enough.
    fn blame(&mut self, worker: WorkerId, dispatch: Option<DispatchId>, severe: bool) {
        let core = &mut *self.core;
        let random = core.scheduler.random();
        if core
            .registry
            .blame(worker, dispatch, severe, random, self.now_ms)
            && let Some(blamed) = core.registry.get(worker)
        {
            let digests = blamed.digests.clone();
            self.give_up(&digests);
        }
    }

    /// Fails the queued tasks that no worker will take, now that one with these
    /// toolchains takes none.
    fn give_up(&mut self, digests: &[Digest]) {
        for digest in digests {
            if self.core.registry.fastest(digest).is_some() {
                continue;
            }
            if !self.core.registry.serves(digest, &[]) {
                self.core.lately.remove(digest);
            }
            while let Some(task) = self.core.queue.take_any(digest) {
                let why = self.no_worker(task);
                self.fail(task, why);
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
                let why = self.no_worker(task);
                self.fail(task, why);
            }
        }
    }

    /// Why a task finds no worker.
    fn no_worker(&self, task: TaskId) -> Failure {
        let Some(job) = self.core.jobs.get(task) else {
            return failure(Code::Worker, "no such task");
        };
        if let Some(last) = &job.last_failure {
            return last.clone();
        }
        match self.core.registry.serves(&job.demand.toolchain, &[]) {
            true => failure(Code::Queue, "no worker with this toolchain is ready"),
            false => failure(Code::NoToolchain, "no worker has this toolchain"),
        }
    }

    fn task_submitted(&mut self, task: TaskId, demand: Demand) {
        let prediction = self.core.predictor.predict(&demand.profile);
        let toolchain = demand.toolchain;
        if !self.core.jobs.insert(task, demand, prediction, self.now_ms) {
            return;
        }
        if self.core.closing {
            return self.fail(
                task,
                failure(Code::Shutdown, "the coordinator is going away"),
            );
        }
        if self.core.registry.fastest(&toolchain).is_some() {
            let lately = self.lately_ms(&toolchain) + prediction.cost_ms;
            self.core.lately.insert(toolchain, (lately, self.now_ms));
        }
        self.place(task);
    }

    /// Cost that was submitted for a toolchain not long ago.
    fn lately_ms(&self, toolchain: &Digest) -> f64 {
        let lately = self.core.lately.get(toolchain);
        lately.map_or(0.0, |(cost_ms, at_ms)| {
            cost_ms * (-(self.now_ms.saturating_sub(*at_ms) as f64) / LATELY_MS).exp()
        })
    }

    /// How long a compile of this cost may take on a worker; where it takes
    /// longer it had better wait for a faster one. While a build goes on slow
    /// workers help, with what they finish before its likely end.
    fn patience(&self, toolchain: &Digest) -> Patience {
        if !self.core.scheduler.expects() {
            return Patience {
                horizon_ms: f64::INFINITY,
                per_cost: 0.0,
            };
        }
        let Some(fastest) = self.core.registry.fastest(toolchain) else {
            return Patience::default();
        };
        let waiting_ms = self.core.queue.cost_ms(toolchain) as f64 + self.lately_ms(toolchain);
        Patience {
            horizon_ms: waiting_ms / self.core.registry.capacity(toolchain).max(1e-3),
            per_cost: PATIENCE_MIN / fastest,
        }
    }

    /// A worker for a task, other than those it has or that failed it; `beside`:
    /// milliseconds within which a second attempt is worth it.
    fn choose(&mut self, task: TaskId, beside: Option<f64>) -> Option<Choice> {
        let job = self.core.jobs.get(task)?;
        let mut excluded = job.excluded.clone();
        excluded.extend(job.running.iter().map(|(_, worker)| *worker));
        let alone_ms = self
            .patience(&job.demand.toolchain)
            .ms(job.prediction.cost_ms);
        let patience_ms = beside.unwrap_or(alone_ms);
        let core = &mut *self.core;
        let job = core.jobs.get(task)?;
        let wish = Wish {
            toolchain: &job.demand.toolchain,
            excluded: &excluded,
            cost_ms: job.prediction.cost_ms,
            peak_bytes: job.prediction.peak_bytes,
            bytes: job.demand.profile.travel_bytes + job.prediction.output_bytes,
            patience_ms,
        };
        core.scheduler.choose(&core.registry, &wish)
    }

    /// Gives a waiting task a slot, or a place in the queue.
    fn place(&mut self, task: TaskId) {
        if let Some(choice) = self.choose(task, None) {
            return self.start(task, choice.worker, choice.compile_ms, false);
        }
        self.wait(task);
    }

    /// Gives a task a place in the queue, if there is anything to wait for.
    fn wait(&mut self, task: TaskId) {
        let core = &mut *self.core;
        let Some(job) = core.jobs.get(task) else {
            return;
        };
        let toolchain = job.demand.toolchain;
        let (peak_bytes, cost_ms) = (job.prediction.peak_bytes, job.prediction.cost_ms);
        if core.registry.fastest(&toolchain).is_none()
            || !core.registry.serves(&toolchain, &job.excluded)
        {
            let why = self.no_worker(task);
            return self.fail(task, why);
        }
        if !core.registry.holds(&toolchain, peak_bytes) {
            let why = format!("no worker has the {peak_bytes} bytes of memory that it may need");
            return self.fail(task, failure(Code::Memory, why));
        }
        let ticket = Ticket {
            task,
            client: job.demand.client.clone(),
            toolchain,
            bytes: job.demand.bytes,
            cost_ms: job.prediction.cost_ms as u64,
            since_ms: self.now_ms,
            deadline_ms: (self.now_ms + job.demand.queue_ms_max.saturating_sub(job.waited_ms))
                .min(job.deadline_ms),
        };
        if !job.excluded.is_empty() {
            core.choosy.insert(task);
        }
        if job.attempts > 0 {
            core.queue.push_front(ticket);
        } else if let Err(full) = core.queue.push(ticket) {
            return self.fail(task, failure(Code::Queue, full.detail()));
        }
        // There is more to do now, and slow workers may be worth it.
        self.feed_idle(&toolchain, 1, cost_ms);
    }

    /// Offers the queue's tasks to some idle workers of each class of which some
    /// may take one of this cost.
    fn feed_idle(&mut self, toolchain: &Digest, looks_max: usize, cost_ms: f64) {
        if !self.core.registry.has_free(toolchain) {
            return;
        }
        let patience_ms = self.patience(toolchain).ms(cost_ms);
        let core = &mut *self.core;
        let random = core.scheduler.random();
        let mut idle = Vec::new();
        for (speed_min, offers) in core.registry.free(toolchain) {
            if cost_ms > patience_ms * 2.0 * speed_min {
                break;
            }
            let from = random.usize(..offers.len());
            let round = offers[from..].iter().chain(&offers[..from]);
            idle.extend(round.take(looks_max).map(|offer| offer.worker));
        }
        for worker in idle {
            self.feed(worker);
        }
    }

    /// Gives a task the worker that was chosen for it.
    fn start(&mut self, task: TaskId, worker: WorkerId, compile_ms: f64, hedge: bool) {
        let dispatch = self.core.jobs.next_dispatch();
        let Some(job) = self.core.jobs.get(task) else {
            return;
        };
        let peak_bytes = job.prediction.peak_bytes;
        if self.core.registry.book(worker, dispatch, peak_bytes) {
            self.dispatch(task, worker, dispatch, compile_ms, hedge);
        } else if !hedge {
            self.wait(task);
        }
    }

    /// The worker is booked already.
    fn dispatch(
        &mut self,
        task: TaskId,
        worker: WorkerId,
        dispatch: DispatchId,
        compile_ms: f64,
        hedge: bool,
    ) {
        self.core.choosy.remove(&task);
        let expected_ms = compile_ms as u64;
        let start = Start {
            worker,
            dispatch,
            expected_ms,
            look_after_ms: self.look_after_ms(task, expected_ms),
            hedge,
        };
        let started = self.core.jobs.start(task, start, self.now_ms);
        let job = self.core.jobs.get(task);
        let probe = self
            .core
            .registry
            .get(worker)
            .is_some_and(|w| !w.breaker.is_closed());
        let (Some((attempt, queue_ms)), Some(job)) = (started, job) else {
            self.core.registry.release(worker, dispatch, Ended::Void);
            return self.fail(
                task,
                failure(Code::Worker, "more attempts than can be numbered"),
            );
        };
        if attempt == 1 {
            self.core.retries = (self.core.retries + RETRY_SHARE).min(RETRIES_SAVED_MAX);
        }
        self.actions.push(Action::Dispatch {
            worker,
            dispatch,
            task,
            attempt,
            queue_ms,
            hedge,
            late_ms: match probe {
                // Nobody should have to wait to find out.
                true => expected_ms * 3 / 2 + PROBE_LATE_MS_MIN,
                false => late_ms(expected_ms, job.prediction.known),
            },
            slower: expected_ms as f64 * job.demand.client_speed
                > SLOWER_FACTOR * job.prediction.cost_ms,
            peak_bytes: job.prediction.peak_bytes,
            left_ms: job.deadline_ms.saturating_sub(self.now_ms),
        });
    }

    /// Milliseconds of a compile after which it is looked at: on a slow worker
    /// before it is late.
    fn look_after_ms(&self, task: TaskId, expected_ms: u64) -> u64 {
        let there_ms = self.core.jobs.get(task).map_or(0.0, |job| {
            let fastest = self.core.registry.fastest(&job.demand.toolchain);
            job.prediction.cost_ms / fastest.unwrap_or(1.0)
        });
        match RESCUE_FACTOR * there_ms < expected_ms as f64 {
            true => HEDGE_MS_MIN,
            false => straggles_ms(expected_ms),
        }
    }

    /// Gives the worker's free slots to those whose turn it is, and one task
    /// more for when the next slot is free.
    fn feed(&mut self, id: WorkerId) {
        self.promote(id);
        let is_free = |core: &Coordinator| core.registry.get(id).is_some_and(|w| w.is_free());
        while is_free(self.core) {
            let Some((task, compile_ms)) = self.next_for(id) else {
                self.steal(id);
                return;
            };
            self.start(task, id, compile_ms, false);
        }
        let takes_ahead = |worker: &crate::registry::Worker| worker.takes_ahead();
        if self.core.send_ahead
            && self.core.registry.get(id).is_some_and(takes_ahead)
            && self.frees_a_slot_soon(id)
            && let Some((task, compile_ms)) = self.next_for(id)
        {
            let dispatch = self.core.jobs.next_dispatch();
            if self.core.registry.book_ahead(id, dispatch) {
                self.core.ahead.insert((dispatch, id));
                // It still waits for a slot, if in another place.
                if let Some(job) = self.core.jobs.get(task) {
                    let left_ms = job.demand.queue_ms_max.saturating_sub(job.waited_ms);
                    let until_ms = self.now_ms + left_ms;
                    self.core.ahead_until.insert((until_ms, dispatch, id));
                }
                self.dispatch(task, id, dispatch, compile_ms, false);
            }
        }
    }

    /// Whether not all that runs there takes too long.
    fn frees_a_slot_soon(&self, id: WorkerId) -> bool {
        let Some(worker) = self.core.registry.get(id) else {
            return false;
        };
        worker.running.iter().any(|(dispatch, _)| {
            let attempt = self.core.jobs.running(*dispatch);
            attempt.is_some_and(|attempt| {
                let late = |begun_ms| self.now_ms >= begun_ms + straggles_ms(attempt.expected_ms);
                !attempt.begun_ms.is_some_and(late)
            })
        })
    }

    /// Ends the wait of what was sent ahead in vain.
    fn end_waits_ahead(&mut self) {
        while let Some(&(until_ms, dispatch, worker)) = self.core.ahead_until.first() {
            if until_ms > self.now_ms {
                break;
            }
            self.core.ahead_until.pop_first();
            if self.core.ahead.contains(&(dispatch, worker))
                && let Some(task) = self.take_back(worker, dispatch)
            {
                self.fail(task, failure(Code::Queue, NO_SLOT));
            }
        }
    }

    /// What was sent ahead begins where a slot is free.
    fn promote(&mut self, id: WorkerId) {
        let core = &mut *self.core;
        let jobs = &core.jobs;
        let peak_bytes = |dispatch| {
            let attempt = jobs.attempt(dispatch);
            attempt.map_or(0, |(job, _)| job.prediction.peak_bytes)
        };
        if let Some(dispatch) = core.registry.promote(id, peak_bytes) {
            core.ahead.remove(&(dispatch, id));
        }
    }

    /// The queue's next task for a worker, and how long it will take there.
    fn next_for(&mut self, id: WorkerId) -> Option<(TaskId, f64)> {
        if self.core.queue.is_empty() {
            return None;
        }
        let core = &*self.core;
        let worker = core.registry.get(id)?;
        let digests = worker.digests.clone();
        let patience: Vec<(Digest, Patience)> = digests
            .iter()
            .map(|digest| (*digest, self.patience(digest)))
            .collect();
        let slow = |digest: &Digest| {
            let fastest = core.registry.fastest(digest).unwrap_or(0.0);
            worker.pace.speed * PATIENCE_MIN < fastest
        };
        let now_ms = self.now_ms;
        let order = match core.scheduler.expects() && digests.iter().any(slow) {
            true => Order::Cheapest,
            false => Order::Turn,
        };
        let core = &mut *self.core;
        let worker = core.registry.get(id)?;
        let room_bytes = worker.room_bytes();
        let jobs = &core.jobs;
        let fits = |task, _| {
            let Some(job) = jobs.get(task) else {
                return false;
            };
            let known = patience.iter().find(|(d, _)| *d == job.demand.toolchain);
            let Some((_, patience)) = known else {
                return false;
            };
            let cost_ms = job.prediction.cost_ms;
            let waited_ms = job
                .waiting_ms
                .map_or(0, |since| now_ms.saturating_sub(since));
            // What has waited so long may run as long.
            let patience_ms = patience.ms(cost_ms).max(waited_ms as f64);
            !job.excluded.contains(&id)
                && job.prediction.peak_bytes <= room_bytes
                && cost_ms <= patience_ms * worker.pace.speed
        };
        let task = core.queue.take(&digests, order, fits)?;
        let cost_ms = core.jobs.get(task)?.prediction.cost_ms;
        Some((task, cost_ms / worker.speed_now()))
    }

    /// An idle worker takes over what was sent ahead to a busy one.
    fn steal(&mut self, id: WorkerId) {
        let core = &*self.core;
        let Some(idle) = core.registry.get(id) else {
            return;
        };
        let found = core
            .ahead
            .iter()
            .take(AHEAD_LOOKS_MAX)
            .find(|(dispatch, from)| {
                let Some((job, attempt)) = core.jobs.attempt(*dispatch) else {
                    return false;
                };
                let Some(busy) = core.registry.get(*from) else {
                    return false;
                };
                attempt.begun_ms.is_none()
                    && *from != id
                    && !job.excluded.contains(&id)
                    && idle.digests.contains(&job.demand.toolchain)
                    && job.prediction.peak_bytes <= idle.room_bytes()
                    && idle.pace.speed * 1.5 >= busy.pace.speed
            });
        let Some((dispatch, from)) = found.copied() else {
            return;
        };
        if let Some(task) = self.take_back(from, dispatch) {
            let cost_ms = |job: &crate::jobs::Job| job.prediction.cost_ms;
            let cost_ms = self.core.jobs.get(task).map_or(0.0, cost_ms);
            let Some(idle) = self.core.registry.get(id) else {
                return self.place(task);
            };
            let compile_ms = cost_ms / idle.speed_now();
            self.start(task, id, compile_ms, false);
        }
    }

    fn need_received(&mut self, worker: WorkerId, dispatch: DispatchId, inputs: bool) {
        let phase = if inputs {
            Phase::Feeding(self.now_ms)
        } else {
            Phase::Compiling
        };
        self.advance(worker, dispatch, phase);
    }

    fn inputs_progressed(&mut self, dispatch: DispatchId, complete: bool) {
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
    fn advance(&mut self, worker: WorkerId, dispatch: DispatchId, phase: Phase) -> Option<bool> {
        let jobs = &mut self.core.jobs;
        let attempt = jobs.advance(worker, dispatch, phase, self.now_ms)?;
        Some(attempt.beside)
    }

    fn compile_began(&mut self, worker: WorkerId, dispatch: DispatchId) {
        if self.advance(worker, dispatch, Phase::Compiling).is_some() {
            self.core.jobs.begin(dispatch, self.now_ms);
        }
    }

    /// The first result to come is taken; the others need not come.
    fn result_began(&mut self, worker: WorkerId, dispatch: DispatchId) {
        if self.advance(worker, dispatch, Phase::Returning) == Some(true) {
            self.end_others(dispatch);
        }
    }

    /// Ends what runs beside an attempt that won.
    fn end_others(&mut self, winner: DispatchId) {
        let Some((job, _)) = self.core.jobs.attempt(winner) else {
            return;
        };
        let others = job.running.iter().filter(|(id, _)| *id != winner);
        let others: Vec<_> = others.copied().collect();
        for (dispatch, worker) in others {
            self.judge(worker, dispatch);
            self.take_back(worker, dispatch);
            self.feed(worker);
        }
    }

    /// An attempt is given up: if it hung, that is its worker's fault, and how
    /// slow the worker is at least can be told.
    fn judge(&mut self, worker: WorkerId, dispatch: DispatchId) {
        let Some((job, attempt)) = self.core.jobs.attempt(dispatch) else {
            return;
        };
        let Some(begun_ms) = attempt.begun_ms else {
            return;
        };
        let elapsed_ms = self.now_ms.saturating_sub(begun_ms);
        let (expected_ms, prediction) = (attempt.expected_ms, job.prediction);
        let hung = elapsed_ms >= late_ms(expected_ms, prediction.known)
            || self
                .core
                .registry
                .get(worker)
                .is_some_and(|w| w.breaker.is_probe(dispatch));
        let came_since =
            |w: &crate::registry::Worker| w.succeeded_ms.is_some_and(|ms| ms > begun_ms);
        let silent = !self.core.registry.get(worker).is_some_and(came_since);
        if elapsed_ms > expected_ms
            && prediction.known
            && let Some(slow) = self.core.registry.get(worker)
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
            self.blame(worker, Some(dispatch), silent);
        }
    }

    fn task_done(&mut self, worker: WorkerId, dispatch: DispatchId, spent: &Spent) {
        let Some(beside) = self.advance(worker, dispatch, Phase::Returning) else {
            return;
        };
        if beside {
            self.end_others(dispatch);
        }
        self.core.ahead.remove(&(dispatch, worker));
        self.core
            .registry
            .release(worker, dispatch, Ended::Well(self.now_ms));
        if let Some(attempt) = self.core.jobs.stop(dispatch, self.now_ms)
            && let Some(job) = self.core.jobs.remove(attempt.task)
        {
            let running_ms = self.now_ms.saturating_sub(attempt.started_ms);
            let core = &mut *self.core;
            if let Some(by) = core.registry.get(worker) {
                let key = by.key;
                let before = by.pace;
                let profile = &job.demand.profile;
                let pace = core.predictor.learn(profile, key, before, spent);
                core.registry.set_pace(worker, pace);
                let work_ms = spent.wall_ms * before.speed;
                core.hedges_ms = (core.hedges_ms + HEDGE_SHARE * work_ms).min(HEDGE_SAVED_MS_MAX);
            }
            self.actions.push(Action::FinishTask {
                task: attempt.task,
                worker,
                attempt: attempt.number,
                queue_ms: job.waited_ms,
                running_ms,
            });
        }
        self.feed(worker);
    }

    fn task_failed(&mut self, worker: WorkerId, dispatch: DispatchId, failure: Failure) {
        let running = self.core.jobs.running(dispatch);
        if running.is_none_or(|attempt| attempt.worker != worker) {
            return;
        }
        let code = failure.code();
        let blame = matches!(code, Code::Worker | Code::Link | Code::NoToolchain);
        let ended = if blame { Ended::Failed } else { Ended::Void };
        self.core.ahead.remove(&(dispatch, worker));
        self.core.registry.release(worker, dispatch, ended);
        let stopped = self.core.jobs.stop(dispatch, self.now_ms);
        if blame {
            self.blame(worker, Some(dispatch), false);
        }
        if matches!(code, Code::Busy | Code::Memory) {
            self.core
                .registry
                .pause(worker, self.now_ms + REFUSAL_PAUSE_MS);
        }
        if let Some(task) = stopped.map(|attempt| attempt.task) {
            match code {
                Code::Busy => self.refused(task, failure),
                Code::Memory => {
                    if let Some(job) = self.core.jobs.get_mut(task) {
                        let profile = job.demand.profile;
                        self.core.predictor.too_large(&profile);
                        job.prediction = self.core.predictor.predict(&profile);
                    }
                    self.refused(task, failure);
                }
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
    fn retry(&mut self, task: TaskId, worker: WorkerId, failure: Failure) {
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
        let serves = self
            .core
            .registry
            .serves(&job.demand.toolchain, &job.excluded);
        if over || !serves {
            return self.fail(task, failure);
        }
        self.core.retries -= 1.0;
        self.place(task);
    }

    /// Ends a task wherever it stands.
    fn fail(&mut self, task: TaskId, failure: Failure) {
        let Some(job) = self.core.jobs.get(task) else {
            return;
        };
        let running = job.running.clone();
        self.core.queue.remove(task);
        self.core.choosy.remove(&task);
        for (dispatch, worker) in &running {
            self.judge(*worker, *dispatch);
            self.take_back(*worker, *dispatch);
        }
        self.core.jobs.remove(task);
        self.actions.push(Action::FailTask { task, failure });
        for (_, worker) in running {
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
        for worker in self.core.registry.probe(self.now_ms) {
            self.feed(worker);
        }
        while let Some(task) = self.core.queue.take_overdue(self.now_ms) {
            let job = self.core.jobs.get(task);
            let why = match job.is_some_and(|job| job.deadline_ms <= self.now_ms) {
                true => failure(Code::Limit, TASK_OVER),
                false => failure(Code::Queue, NO_SLOT),
            };
            self.fail(task, why);
        }
        self.end_waits_ahead();
        self.look_at_due();
        for toolchain in self.core.queue.toolchains() {
            self.feed_idle(&toolchain, TICK_LOOKS_MAX, 0.0);
        }
    }

    /// Attempts whose time is over end, and stragglers may get a second one.
    fn look_at_due(&mut self) {
        for dispatch in self.core.jobs.due(self.now_ms) {
            let Some(attempt) = self.core.jobs.running(dispatch) else {
                continue;
            };
            let (task, worker, phase) = (attempt.task, attempt.worker, attempt.phase);
            if attempt.task_deadline_ms <= self.now_ms {
                self.fail(task, failure(Code::Limit, TASK_OVER));
            } else if attempt.is_overdue(self.now_ms) {
                self.overdue(dispatch, task, worker, phase);
            } else if self.core.jobs.straggles(dispatch, self.now_ms) {
                self.hedge(dispatch);
            }
            self.core.jobs.rest(dispatch, self.now_ms);
        }
    }

    fn overdue(&mut self, dispatch: DispatchId, task: TaskId, worker: WorkerId, phase: Phase) {
        match phase {
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
            Phase::Compiling | Phase::Returning => {
                self.fail(
                    task,
                    failure(Code::Worker, "the worker did not come to an end"),
                );
            }
        }
    }

    /// An attempt takes longer than it was thought to, or runs on a slow worker
    /// while a fast one has become idle: if that is likely to be done sooner, it
    /// tries too (Zaharia et al., Improving MapReduce Performance in Heterogeneous
    /// Environments, 2008).
    ///
    /// Many are looked at for each that gets one: what costs a look at the task or
    /// at the worker comes last.
    fn hedge(&mut self, dispatch: DispatchId) {
        let Some(attempt) = self.core.jobs.running(dispatch) else {
            return;
        };
        let task = attempt.task;
        let Some(begun_ms) = attempt.begun_ms else {
            return;
        };
        if attempt.phase != Phase::Compiling {
            return;
        }
        let elapsed_ms = self.now_ms.saturating_sub(begun_ms);
        if elapsed_ms > HOPELESS_FACTOR * attempt.expected_ms + HOPELESS_MS_MIN {
            return self.lose_hope(dispatch, elapsed_ms);
        }
        let late_ms = straggles_ms(attempt.expected_ms);
        let left_ms = attempt.expected_ms.saturating_sub(elapsed_ms);
        let late = elapsed_ms >= late_ms;
        let (gain_ms, look_ms) = match late {
            // What has run so long is likely to run as long again.
            true => (elapsed_ms as f64, HEDGE_LOOK_MS),
            false => (
                left_ms as f64 / RESCUE_FACTOR,
                (left_ms / 4).max(HEDGE_LOOK_MS).min(late_ms - elapsed_ms),
            ),
        };
        if self.core.hedge
            && (late || self.may_rescue(attempt, left_ms))
            && let Some(cost_ms) = self.may_hedge(task, late)
            && let Some(choice) = self.choose(task, Some(gain_ms))
            && choice.completion_ms < gain_ms
        {
            self.core.hedges_ms -= cost_ms;
            self.start(task, choice.worker, choice.compile_ms, true);
        }
        // Even then: the second attempt may fail.
        self.core.jobs.look_again(dispatch, self.now_ms + look_ms);
    }

    /// It has run so long that nobody waits for it any more.
    fn lose_hope(&mut self, dispatch: DispatchId, elapsed_ms: u64) {
        let Some((job, attempt)) = self.core.jobs.attempt(dispatch) else {
            return;
        };
        let (profile, task) = (job.demand.profile, attempt.task);
        if let Some(slow) = self.core.registry.get(attempt.worker) {
            let cost_ms = elapsed_ms as f64 * slow.pace.speed;
            // If it is no hang: next time there is more patience with it.
            self.core.predictor.at_least(&profile, cost_ms);
        }
        self.fail(task, failure(Code::Worker, "it takes far too long"));
    }

    /// What a second attempt would cost, if the task has one only and enough was
    /// saved for it.
    fn may_hedge(&self, task: TaskId, late: bool) -> Option<f64> {
        let job = self.core.jobs.get(task)?;
        let cost_ms = job.prediction.cost_ms;
        let saved_ms = self.core.hedges_ms;
        // Half is kept for those that are late. A long one may cost more than
        // was saved, which the next ones pay back.
        let pays = saved_ms >= HEDGE_SAVED_MS_MAX / 2.0
            || cost_ms <= if late { saved_ms } else { saved_ms / 2.0 };
        (pays && job.running.len() == 1).then_some(cost_ms)
    }

    /// Whether an attempt is likely to end after all else, nothing waits for the
    /// idle workers, and one of these is of a faster class.
    fn may_rescue(&self, slow: &Attempt, left_ms: u64) -> bool {
        let registry = &self.core.registry;
        let toolchain = &slow.toolchain;
        let speed = |worker| registry.get(worker).map_or(0.0, |w| w.pace.speed);
        self.core.queue.cost_ms(toolchain) == 0
            && left_ms as f64 > self.patience(toolchain).horizon_ms
            && registry
                .free(toolchain)
                .next()
                .is_some_and(|(speed_min, _)| speed_min > speed(slow.worker))
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

/// Milliseconds after which a compile takes too long.
fn late_ms(expected_ms: u64, known: bool) -> u64 {
    let more_ms = if known {
        LATE_MS_MIN
    } else {
        LATE_GUESS_MS_MIN
    };
    LATE_FACTOR * expected_ms + more_ms
}

/// Milliseconds after which an attempt is a straggler.
fn straggles_ms(expected_ms: u64) -> u64 {
    (expected_ms as f64 * HEDGE_FACTOR) as u64 + HEDGE_MS_MIN
}

/// A failure, for the client.
pub fn failure(code: Code, detail: impl Into<String>) -> Failure {
    Failure {
        code: code.into(),
        detail: detail.into(),
    }
}
