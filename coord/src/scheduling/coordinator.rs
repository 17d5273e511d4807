//! The state machine that joins registry, queue, jobs and scheduler: what
//! happened goes in, what is to be done comes out. Unaware of sockets, clocks
//! and messages; [`crate::dispatch::hub`] performs the actions, and a simulator can.
//!
//! The folder of the same name has the parts of a step: where a task goes, what
//! becomes of an attempt, and what is done about those that take too long.
//!
//! Every task that is submitted ends in exactly one [`Action::FinishTask`] or
//! [`Action::FailTask`].

mod attempts;
mod duplicates;
mod placement;
mod second_opinions;
mod stragglers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use hg_proto::compiler::toolchain::{Family, Language, revision};
use hg_proto::v1::failure::Code;
use hg_proto::v1::{self, Failure};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::limits::HEARTBEAT_EXPIRY_MS;

use crate::bounds::{HEDGE_SAVED_MS_MAX, RETRIES_SAVED_MAX};
use crate::scheduling::audits::{Audits, Verdict};
use crate::scheduling::duplicates::Duplicates;
use crate::scheduling::holder_breakers::HolderBreakers;
use crate::scheduling::id::{ByDigest, DispatchId, Keyed, TaskId, Who, WorkerId};
use crate::scheduling::jobs::{AttemptStart, Demand, Job, Jobs};
use crate::scheduling::predictor::{Predictor, Spent};
use crate::scheduling::queue::Queue;
use crate::scheduling::registry::{AttemptEnd, Registry, Vitals, WorkerSpec};
use crate::scheduling::scheduler::{Rival, Scheduler};
use crate::scheduling::seconds::SecondOpinions;

/// Why a link is closed of which nothing is heard.
pub const NO_HEARTBEAT: &str = "no heartbeat";
const NO_SLOT: &str = "no slot became free in time";
const TASK_OVER: &str = "the task's own time is over";

/// Workers of one class that are looked at on a tick.
const TICK_LOOKS_MAX: usize = 8;

/// How the coordinator decides.
pub struct Settings {
    /// Seed of all random choices.
    pub seed: u64,
    /// How workers are chosen, if not by expected completion time.
    pub rival: Option<Rival>,
    /// Weights of clients; 1 for those that are not named.
    pub weights: HashMap<String, u32>,
    /// Whether stragglers get a second attempt beside the first.
    pub hedge: bool,
    /// Whether workers without a free slot are sent one task ahead.
    pub ahead: bool,
    /// What was learned in earlier runs.
    pub predictor: Predictor,
    /// One of so many results of each pair of worker and toolchain is compiled a second
    /// time by its client; 0: none is.
    pub audit_every: u64,
    /// The share of results that a second worker compiles too while workers idle.
    pub idle_audit_share: f64,
    /// Which workers returned another object, and who found it, in earlier runs.
    pub differing: BTreeMap<Who, BTreeSet<Arc<str>>>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            seed: 0,
            rival: None,
            weights: HashMap::new(),
            hedge: true,
            ahead: true,
            predictor: Predictor::new(),
            audit_every: 0,
            idle_audit_share: 0.0,
            differing: BTreeMap::new(),
        }
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
    /// A worker's link carried something; `vitals` if that was a heartbeat.
    WorkerHeard {
        worker: WorkerId,
        vitals: Option<Vitals>,
    },
    /// A worker's link is no more.
    WorkerGone { worker: WorkerId, reason: String },
    /// Somebody, the worker itself or an operator, wants a worker to take no more tasks.
    DrainRequested { worker: WorkerId, by_itself: bool },
    /// A worker gets no more tasks until [`Event::Readmitted`], and stays.
    PauseRequested { worker: WorkerId },
    /// A worker has other toolchains than before: for listings, and their digests.
    ToolchainsChanged {
        /// Which.
        worker: WorkerId,
        /// For listings.
        toolchains: Vec<v1::Toolchain>,
        /// Under which it gets tasks.
        digests: Vec<Digest>,
    },
    /// A client submits a task.
    TaskSubmitted { task: TaskId, demand: Demand },
    /// A task's client is gone, or broke the protocol.
    TaskCancelled { task: TaskId, failure: Failure },
    /// A worker takes an attempt; `inputs`: and lacks some of its inputs.
    NeedReceived {
        worker: WorkerId,
        dispatch: DispatchId,
        inputs: bool,
    },
    /// Inputs of an attempt went to its worker; `complete`: all of them.
    InputsProgressed {
        dispatch: DispatchId,
        complete: bool,
    },
    /// The compiler of an attempt runs, and has used so many microseconds of processor
    /// time so far; `None`: that can't be told.
    CompileRuns {
        worker: WorkerId,
        dispatch: DispatchId,
        cpu_us: Option<u64>,
        /// The compiler has ended, and the result is on the way.
        ended: bool,
    },
    /// The first part of an attempt's result came.
    ResultBegan {
        worker: WorkerId,
        dispatch: DispatchId,
    },
    /// An attempt ended with the compiler's answer, good or not.
    TaskDone {
        worker: WorkerId,
        dispatch: DispatchId,
        spent: Spent,
        /// Digest of all that the compiler made; `None`: it failed.
        made: Option<Digest>,
    },
    /// An attempt ended without the compiler's answer.
    TaskFailed {
        worker: WorkerId,
        dispatch: DispatchId,
        failure: Failure,
    },
    /// A client has compiled by itself what a worker had compiled for it.
    AuditAnswered {
        /// The task whose result it was asked to check.
        task: TaskId,
        /// The holder of the client's token.
        holder: Arc<str>,
        /// Both gave the same.
        same: bool,
    },
    /// An operator lets the workers of this name back.
    Readmitted {
        /// A worker's own name.
        name: String,
    },
    /// What came of a task that was compiled is where whoever asks for the `same` looks,
    /// or never will be.
    ResultSettled {
        /// The task that was compiled.
        task: TaskId,
        /// Its [`Demand::same`].
        same: Digest,
    },
    /// Nothing that a task could take came of another one that is the same.
    WaitedInVain {
        /// The task that may have waited.
        task: TaskId,
    },
    /// Time went by.
    Tick,
    /// The process ends.
    Shutdown,
}

/// What is to be done. Actions of one event are to be performed in their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send the task to the worker, and tell the client.
    Dispatch(AttemptStart),
    /// Send the task to this worker too, whose result nobody waits for.
    DispatchSecond(AttemptStart),
    /// Tell the client that the attempt takes too long only after so many milliseconds
    /// from now.
    Late {
        task: TaskId,
        attempt: u32,
        late_ms: u64,
    },
    /// Tell the worker to stop an attempt.
    CancelDispatch {
        worker: WorkerId,
        dispatch: DispatchId,
    },
    /// Give the client the task's result.
    FinishTask {
        task: TaskId,
        worker: WorkerId,
        attempt: u32,
        queue_ms: u64,
        running_ms: u64,
        /// The client shall compile it once more by itself, and compare.
        audit: bool,
        /// The client gets it with [`Action::ReleaseTask`].
        held: bool,
    },
    /// Give the client a result that was held.
    ReleaseTask {
        task: TaskId,
        /// The client shall compile it once more by itself, and compare.
        audit: bool,
    },
    /// Tell the client that the task will have no result.
    FailTask { task: TaskId, failure: Failure },
    /// Count what a client found out, and keep which workers are out.
    NoteAudit {
        /// What it led to.
        verdict: Verdict,
    },
    /// Count a second opinion.
    NoteSecond {
        /// Both workers made the same.
        same: bool,
        /// Who is under suspicion since, if somebody was not before.
        suspects: Option<(Who, Who)>,
    },
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
    /// Which workers get no tasks of which holders.
    holders: HolderBreakers,
    audits: Audits,
    seconds: SecondOpinions,
    /// Tasks in the queue that some workers must not get.
    choosy: BTreeSet<TaskId>,
    duplicates: Duplicates,
    /// Attempts that were sent ahead, each with its worker.
    ahead: BTreeSet<(DispatchId, WorkerId)>,
    /// By when attempts that were sent ahead must have begun; also of some that have.
    ahead_until: BTreeSet<(u64, DispatchId, WorkerId)>,
    /// Per toolchain: cost in milliseconds that was submitted, fading, and as of when.
    lately: ByDigest<(f64, u64)>,
    /// Retries that may be made now.
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
            scheduler: Scheduler::new(settings.seed, settings.rival),
            predictor: settings.predictor,
            holders: HolderBreakers::default(),
            audits: Audits::new(
                settings.audit_every,
                settings.idle_audit_share,
                settings.differing,
            ),
            seconds: SecondOpinions::default(),
            choosy: BTreeSet::new(),
            duplicates: Duplicates::new(settings.seed),
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

    /// Which workers get no tasks of which holders, for listings.
    pub fn holders(&self) -> &HolderBreakers {
        &self.holders
    }

    /// Which workers returned another object than their clients' own compilers.
    pub fn audits(&self) -> &Audits {
        &self.audits
    }

    /// Tasks that wait for a slot, or for the result of one that is the same.
    pub fn queued(&self) -> usize {
        self.queue.len() + self.duplicates.waiting()
    }

    /// Tasks that have not ended.
    pub fn unfinished(&self) -> usize {
        self.jobs.len()
    }

    /// Whether nobody waits for the result of an attempt.
    pub fn is_second(&self, dispatch: DispatchId) -> bool {
        self.seconds.task(dispatch).is_some()
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
                    step.make_room(worker);
                    step.feed(worker);
                }
            }
            Event::WorkerGone { worker, reason } => step.worker_gone(worker, &reason),
            Event::DrainRequested { worker, by_itself } => step.drain(worker, by_itself),
            Event::PauseRequested { worker } => step.pause(worker),
            Event::ToolchainsChanged {
                worker,
                toolchains,
                digests,
            } => step.toolchains_changed(worker, toolchains, digests),
            Event::TaskSubmitted { task, demand } => step.task_submitted(task, demand),
            Event::TaskCancelled { task, failure } => {
                step.client_is_gone(task);
                step.fail(task, failure);
            }
            Event::NeedReceived {
                worker,
                dispatch,
                inputs,
            } => match step.core.seconds.task(dispatch) {
                Some(task) if !inputs => step.core.seconds.has_inputs(task),
                Some(_) => {}
                None => step.need_received(worker, dispatch, inputs),
            },
            Event::InputsProgressed { dispatch, complete } => {
                match step.core.seconds.task(dispatch) {
                    Some(task) if complete => step.core.seconds.has_inputs(task),
                    Some(_) => {}
                    None => step.inputs_progressed(dispatch, complete),
                }
            }
            Event::CompileRuns {
                worker,
                dispatch,
                cpu_us,
                ended,
            } => step.compile_runs(worker, dispatch, cpu_us, ended),
            Event::ResultBegan { worker, dispatch } => step.result_began(worker, dispatch),
            Event::TaskDone {
                worker,
                dispatch,
                spent,
                made,
            } => match step.core.seconds.task(dispatch) {
                Some(task) => step.second_done(task, worker, made),
                None => step.task_done(worker, dispatch, &spent, made),
            },
            Event::TaskFailed {
                worker,
                dispatch,
                failure,
            } => match step.core.seconds.task(dispatch) {
                Some(task) => step.second_done(task, worker, None),
                None => step.task_failed(worker, dispatch, failure),
            },
            Event::AuditAnswered { task, holder, same } => {
                step.audit_answered(task, &holder, same);
            }
            Event::Readmitted { name } => step.readmitted(&name),
            Event::ResultSettled { task, same } => step.core.duplicates.settle(task, &same),
            Event::WaitedInVain { task } => step.waited_in_vain(task),
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
        if let Some(old) = self.core.registry.find_instance(&spec) {
            self.worker_gone(old, "the worker came back on a new link");
        }
        let pace = self.core.predictor.pace(spec.key());
        let who = spec.who();
        self.core.registry.join(worker, spec, pace, self.now_ms);
        self.keep_out(worker, &who);
        self.feed(worker);
    }

    /// A worker that is known for other objects gets no tasks of those who found them.
    fn keep_out(&mut self, worker: WorkerId, who: &Who) {
        let Some((holders, for_all)) = self.core.audits.out(who) else {
            return;
        };
        for holder in holders {
            self.core.holders.bar(holder.clone(), worker);
        }
        if for_all {
            self.core.registry.pause(worker, u64::MAX);
        }
        self.end_seconds_on(worker);
    }

    fn audit_answered(&mut self, task: TaskId, holder: &Arc<str>, same: bool) {
        let verdict = self.core.audits.answer(task, holder, same);
        if let Verdict::Differs { worker, .. } = &verdict {
            for id in self.core.registry.called(worker) {
                self.keep_out(id, worker);
                if let Some(out) = self.core.registry.get(id) {
                    let digests = out.digests.clone();
                    self.give_up(&digests);
                }
            }
            self.give_up_for(holder);
        }
        self.actions.push(Action::NoteAudit { verdict });
    }

    fn readmitted(&mut self, name: &str) {
        for who in self.core.audits.readmit(name) {
            for id in self.core.registry.called(&who) {
                self.core.holders.unbar(id);
                self.core.registry.unpause(id);
                self.feed(id);
            }
        }
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
        for dispatch in &gone.seconds {
            if let Some(task) = self.core.seconds.task(*dispatch) {
                self.second_done(task, worker, None);
            }
        }
        self.core.holders.forget(worker);
        let (label, reason) = (gone.label, reason.to_owned());
        self.core.registry.keep_breaker(&gone.spec, gone.breaker);
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
        self.take_from(worker);
    }

    fn pause(&mut self, worker: WorkerId) {
        let Some(paused) = self.core.registry.get(worker) else {
            return;
        };
        let who = paused.spec.who();
        self.core.audits.pause(who.clone());
        for id in self.core.registry.called(&who) {
            self.keep_out(id, &who);
            self.take_from(id);
        }
    }

    /// What waits for this worker alone, which gets no more tasks, goes elsewhere.
    fn take_from(&mut self, worker: WorkerId) {
        let Some(left) = self.core.registry.get(worker) else {
            return;
        };
        let (digests, ahead) = (left.digests.clone(), left.ahead);
        self.end_seconds_on(worker);
        if let Some(dispatch) = ahead
            && let Some(task) = self.take_back(worker, dispatch)
        {
            self.place(task);
        }
        self.give_up(&digests);
    }

    fn toolchains_changed(
        &mut self,
        worker: WorkerId,
        toolchains: Vec<v1::Toolchain>,
        digests: Vec<Digest>,
    ) {
        if let Some(before) = self.core.registry.offer(worker, toolchains, digests) {
            self.feed(worker);
            self.give_up(&before);
        }
    }

    /// Ends an attempt that is nobody's fault. Gives its task if that waits now.
    fn take_back(&mut self, worker: WorkerId, dispatch: DispatchId) -> Option<TaskId> {
        self.core.ahead.remove(&(dispatch, worker));
        self.core
            .registry
            .release(worker, dispatch, AttemptEnd::Void);
        if let Some((job, _)) = self.core.jobs.attempt(dispatch) {
            let holder = &job.demand.holder;
            self.core.holders.void(holder, worker, dispatch);
        }
        self.actions
            .push(Action::CancelDispatch { worker, dispatch });
        let task = self.core.jobs.stop(dispatch, self.now_ms)?.task;
        let job = self.core.jobs.get(task)?;
        job.running.is_empty().then_some(task)
    }

    /// A worker failed an attempt of `holder`'s, which may have been the task's doing;
    /// `severe`: once is enough.
    fn blame_for(
        &mut self,
        holder: &Arc<str>,
        worker: WorkerId,
        dispatch: DispatchId,
        severe: bool,
    ) {
        let core = &mut *self.core;
        let random = core.scheduler.random();
        let holders = &mut core.holders;
        let shown = holders.failure(holder, worker, dispatch, severe, random, self.now_ms);
        match shown.by_another {
            true => self.blame(worker, Some(dispatch), severe),
            false => core.registry.acquit(worker, dispatch),
        }
        if shown.opened {
            self.give_up_for(holder);
        }
    }

    /// Fails the queued tasks of a holder for which all their workers are shut.
    fn give_up_for(&mut self, holder: &Arc<str>) {
        for task in self.core.jobs.ids() {
            let is_waiting = |job: &Job| job.demand.holder == *holder && job.waiting_ms.is_some();
            if self.core.jobs.get(task).is_some_and(is_waiting) && !self.is_served(task) {
                let why = self.no_worker(task);
                self.fail(task, why);
            }
        }
    }

    /// Workers that must not get the task: those that failed it, and those that are
    /// shut for its holder.
    fn excluded(&self, job: &Job) -> Vec<WorkerId> {
        let shut = self.core.holders.shut_for(&job.demand.holder, self.now_ms);
        let others = shut.filter(|worker| !job.excluded.contains(worker));
        job.excluded.iter().copied().chain(others).collect()
    }

    /// Whether some worker may get the task, now or later.
    fn is_served(&self, task: TaskId) -> bool {
        self.core.jobs.get(task).is_some_and(|job| {
            let excluded = self.excluded(job);
            let toolchain = &job.demand.toolchain;
            self.core.registry.serves(toolchain, &excluded)
        })
    }

    /// The worker's own trouble, or what several holders show, held against it;
    /// `severe`: once is enough.
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
            if self.core.jobs.get(task).is_some() && !self.is_served(task) {
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
            false => failure(Code::NoToolchain, self.no_toolchain(&job.demand.wanted)),
        }
    }

    /// Which toolchain no worker has, and which is most like it.
    fn no_toolchain(&self, wanted: &v1::Toolchain) -> String {
        let named = |toolchain: &v1::Toolchain| {
            let family = Family::from_wire(toolchain.family()).map_or("?", Family::name);
            let language = Language::from_wire(toolchain.language()).map_or("?", Language::name);
            let (version, target) = (&toolchain.version, &toolchain.target);
            format!("{family} {version} for {target} ({language})")
        };
        let driver = |toolchain: &v1::Toolchain| {
            let language = Language::from_wire(toolchain.language()).unwrap_or(Language::C);
            Family::from_wire(toolchain.family()).map_or("", |family| family.driver(language))
        };
        let nearest = match self.core.registry.nearest(wanted) {
            None => "they have no compiler".to_owned(),
            Some((worker, nearest)) if named(nearest) == named(wanted) => {
                let (theirs, ours) = (revision(&nearest.release), revision(&wanted.release));
                match !theirs.is_empty() && !ours.is_empty() && theirs != ours {
                    true => format!("{worker} has another build, {theirs} and not {ours}"),
                    false => format!(
                        "{worker} has one with other contents (an assembler, a library), at \
                         another place, or without the full sandbox"
                    ),
                }
            }
            Some((worker, nearest)) => format!("{worker} has {}", named(nearest)),
        };
        format!(
            "no worker has {}: {nearest}; see 'hgbuild doctor {}'",
            named(wanted),
            driver(wanted)
        )
    }

    fn task_submitted(&mut self, task: TaskId, mut demand: Demand) {
        let prediction = self.core.predictor.predict(&demand.profile);
        let (own, shipment) = (demand.toolchain, demand.shipment);
        let registry = &mut self.core.registry;
        let (equals, holder) = (&demand.equals, &demand.holder);
        demand.toolchain = registry.asked_for(own, shipment, equals, holder, self.now_ms);
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

    /// Ends a task wherever it stands.
    fn fail(&mut self, task: TaskId, failure: Failure) {
        let Some(job) = self.core.jobs.get(task) else {
            return;
        };
        let (running, same) = (job.running, job.demand.same);
        self.end_second(task);
        self.core.queue.remove(task);
        self.end_of_same(task, same);
        self.core.choosy.remove(&task);
        for (dispatch, worker) in running.iter() {
            self.judge(worker, dispatch);
            self.take_back(worker, dispatch);
        }
        self.core.jobs.remove(task);
        self.actions.push(Action::FailTask { task, failure });
        for (_, worker) in running.iter() {
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
        self.end_waits_for_same();
        self.end_due_seconds();
        self.look_at_due();
        for toolchain in self.core.queue.toolchains() {
            self.feed_idle(&toolchain, TICK_LOOKS_MAX, 0.0);
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
        self.end_seconds();
    }
}

/// A failure, for the client.
pub fn failure(code: Code, detail: impl Into<String>) -> Failure {
    Failure {
        code: code.into(),
        detail: detail.into(),
        ..Failure::default()
    }
}
