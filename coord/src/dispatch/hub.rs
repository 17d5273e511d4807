//! The shell around [`crate::scheduling::coordinator`]: owns it under one lock, tells it
//! what happened and when, and performs what it wants done. Performing never
//! waits: it only queues.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hg_proto::PROTOCOL_VERSION;
use hg_proto::compiler::toolchain::{Family, Language};
use hg_proto::v1::failure::Code;
use hg_proto::v1::{self, event, to_worker};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::limits;
use hg_proto::wire::limits::{HEARTBEAT_MS, OUTPUT_WINDOW_BYTES};
use hg_proto::wire::outcome::outcome;
use hg_proto::wire::trace_id;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::backend::client::Backend;
use crate::bounds::{EVENTS_BEHIND_MAX, METRICS_ASKED_MAX, OWN_METRICS_BYTES_MAX, TICK_MS};
use crate::dispatch::channel::{Channel, Closed, Fault};
use crate::dispatch::mailbox::{Mail, Mailbox};
use crate::door::arrivals::Arrivals;
use crate::door::nuisances::Nuisances;
use crate::log;
use crate::metrics::Metrics;
use crate::monitor::aggregator::{Aggregator, Ending};
use crate::monitor::builds::BuildReport;
use crate::monitor::fallbacks::Lost;
use crate::monitor::series::Level;
use crate::monitor::task_span::{Ran, TaskSpan};
use crate::monitor::tasks::{OpenAttempt, TaskName};
use crate::results::kept::{self, Maker};
use crate::results::sharing::Sharing;
use crate::results::store::Store;
use crate::scheduling::audits::Verdict;
use crate::scheduling::coordinator::{Action, Coordinator, Event, NO_HEARTBEAT, Settings, failure};
use crate::scheduling::id::{ById, DispatchId, TaskId, Who, WorkerId};
use crate::scheduling::jobs::{AttemptStart, Demand};
use crate::scheduling::predictor::Spent;
use crate::scheduling::registry::{Vitals, WorkerSpec};
use crate::scheduling::validate::label;

/// Bytes of a worker's words on its slots.
const SLOTS_WHY_BYTES_MAX: usize = 64;
/// Bytes of a toolchain's name, for people.
const TOOLCHAIN_NAME_BYTES_MAX: usize = 128;
/// Milliseconds between two looks at the workers' breakers.
const CIRCUITS_MS: u64 = 500;
/// Bytes of a source's name in an event.
const EVENT_SOURCE_BYTES_MAX: usize = 256;

struct OpenTask {
    task: Arc<v1::Task>,
    mailbox: Arc<Mailbox>,
    /// The worker of the task's last attempt, as it is listed.
    worker: String,
    /// The token that it came with.
    holder: Arc<str>,
    submitted: Instant,
}

impl OpenTask {
    /// By which its lines of logs are found.
    fn mark(&self) -> String {
        trace_id::mark(&self.task.trace_id)
    }
}

/// A result that its client does not have yet.
struct Held {
    entry: OpenTask,
    finished: v1::Finished,
    maker: Option<Maker>,
    running_ms: u64,
}

struct HubState {
    core: Coordinator,
    channels: ById<WorkerId, Arc<Channel>>,
    tasks: ById<TaskId, OpenTask>,
    held: ById<TaskId, Held>,
    /// Why workers have fewer slots than they said at first.
    slots_why: ById<WorkerId, String>,
    /// Who waits for workers' own metrics.
    metrics_wanted: ById<WorkerId, Vec<oneshot::Sender<Vec<u8>>>>,
    workers_seen: u64,
    tasks_seen: u64,
}

/// See the top of the file.
pub struct Hub {
    state: Mutex<HubState>,
    /// The coordinator's metrics.
    pub metrics: Metrics,
    /// Events, for watchers.
    pub events: broadcast::Sender<v1::Event>,
    /// Changes when it is to be kept which workers are out.
    pub audits_changed: watch::Sender<()>,
    /// Turns true when the process ends.
    pub closing: watch::Sender<bool>,
    /// What workers made of tasks, if that is kept.
    pub results: OnceLock<Arc<Store>>,
    /// Where else that is kept, if anywhere.
    pub backend: OnceLock<Arc<Backend>>,
    /// Who asks for the same results at the same time.
    pub sharing: Arc<Sharing>,
    /// Where what becomes of tasks goes, if it is exported.
    pub spans: OnceLock<mpsc::Sender<TaskSpan>>,
    /// Held by whatever must come to its end before the process does.
    alive: Mutex<Option<mpsc::Sender<()>>>,
    nuisances: Mutex<Nuisances>,
    arrivals: Mutex<Arrivals>,
    /// What is shown of the grid's work. Locked for itself, or after the state.
    seen: Mutex<Aggregator>,
    started: Instant,
}

impl Hub {
    /// A hub without workers and tasks, and what ends when all that must come
    /// to an end before the process has.
    pub fn new(settings: Settings) -> (Arc<Self>, mpsc::Receiver<()>) {
        let (alive, ended) = mpsc::channel(1);
        let seen = Aggregator::new(unix_ms(), settings.weights.clone());
        let hub = Hub {
            state: Mutex::new(HubState {
                core: Coordinator::new(settings),
                channels: ById::default(),
                tasks: ById::default(),
                held: ById::default(),
                slots_why: ById::default(),
                metrics_wanted: ById::default(),
                workers_seen: 0,
                tasks_seen: 0,
            }),
            metrics: Metrics::new(),
            events: broadcast::channel(EVENTS_BEHIND_MAX).0,
            audits_changed: watch::channel(()).0,
            closing: watch::channel(false).0,
            results: OnceLock::new(),
            backend: OnceLock::new(),
            sharing: Arc::default(),
            spans: OnceLock::new(),
            alive: Mutex::new(Some(alive)),
            nuisances: Mutex::default(),
            arrivals: Mutex::default(),
            seen: Mutex::new(seen),
            started: Instant::now(),
        };
        (Arc::new(hub), ended)
    }

    fn state(&self) -> MutexGuard<'_, HubState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is shown of the grid's work.
    pub fn seen(&self) -> MutexGuard<'_, Aggregator> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the start.
    pub fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// A connection of `address` broke a protocol.
    pub fn offended(&self, address: IpAddr) {
        let mut nuisances = self
            .nuisances
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(ms) = nuisances.note(address, self.now_ms()) {
            log::audit(format_args!(
                "{address} is shut out for {ms} ms: its connections break protocols"
            ));
        }
    }

    /// Milliseconds after which a new connection of `address` is greeted.
    ///
    /// # Errors
    /// Why it is to be dropped unseen.
    pub fn greet_after(&self, address: IpAddr) -> Result<u64, &'static str> {
        let now_ms = self.now_ms();
        let nuisances = self.nuisances.lock();
        let nuisances = nuisances.unwrap_or_else(PoisonError::into_inner);
        if nuisances.is_shut_out(address, now_ms) {
            return Err("shut_out");
        }
        drop(nuisances);
        let arrivals = self.arrivals.lock();
        let mut arrivals = arrivals.unwrap_or_else(PoisonError::into_inner);
        let wait_ms = arrivals.greet_after(address, now_ms);
        wait_ms.ok_or("too_many_handshakes")
    }

    /// To be held by a task that the end of the process waits for. `None`: it
    /// is ending already.
    pub fn stay(&self) -> Option<mpsc::Sender<()>> {
        self.alive
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Looks at the deadlines until the process ends.
    pub async fn tick(self: Arc<Self>) {
        let mut interval = tokio::time::interval(Duration::from_millis(TICK_MS));
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut circuits_ms = 0;
        loop {
            interval.tick().await;
            self.handle(Event::Tick);
            let now_ms = self.now_ms();
            if now_ms >= circuits_ms {
                circuits_ms = now_ms + CIRCUITS_MS;
                self.look_at_circuits(now_ms);
            }
            if self.seen().is_point_due(now_ms) {
                self.close_point(now_ms);
            }
        }
    }

    /// Notes whose breaker is another than before.
    fn look_at_circuits(&self, now_ms: u64) {
        let state = self.state();
        let mut seen = self.seen();
        for (_, worker) in state.core.registry().iter() {
            seen.circuit(&worker.label, worker.breaker.name(), now_ms);
        }
    }

    /// Ends a point of the last hour.
    fn close_point(&self, now_ms: u64) {
        let bytes = |direction| self.metrics.bytes.with_label_values(&[direction]).get();
        let bytes_total = bytes("to_worker") + bytes("to_client");
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let state = self.state();
        let registry = state.core.registry();
        let level = Level {
            queued: narrow(state.core.queued() as u64),
            slots: narrow(registry.slots_now()),
            slots_busy: narrow(registry.slots().1),
            workers: narrow(registry.len() as u64),
            bytes_total,
        };
        let loads = registry.iter().map(|(_, worker)| {
            let vitals = worker.vitals.unwrap_or_default();
            let cores = u64::from(worker.spec.cores.max(1));
            let percent = u64::from(vitals.load_milli) / 10 / cores;
            (worker.label.as_str(), percent)
        });
        self.seen().close_point(level, loads, now_ms);
    }

    /// Fails what is open, says goodbye to the workers, and lets go.
    pub fn shut_down(&self) {
        self.handle(Event::Shutdown);
        for channel in self.state().channels.values() {
            channel.close(Closed::Politely, "the coordinator is going away");
        }
        self.closing.send_replace(true);
        self.alive
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Tells the coordinator what happened and performs what follows.
    pub fn handle(&self, event: Event) {
        let mut state = self.state();
        match &event {
            Event::CompileRuns { dispatch, .. } => {
                self.seen().compiling(dispatch.0, self.now_ms());
            }
            // Nobody waits for it.
            Event::TaskFailed { dispatch, .. } if state.core.is_second(*dispatch) => {}
            Event::TaskFailed {
                dispatch, failure, ..
            } => {
                self.metrics.attempts_failed(failure.code(), 1);
                let why = words(failure);
                self.seen()
                    .attempt_over(dispatch.0, Some(&why), self.now_ms());
            }
            _ => {}
        }
        self.step(&mut state, event, None);
    }

    fn step(&self, state: &mut HubState, event: Event, mut result: Option<v1::TaskResult>) {
        let actions = state.core.handle(event, self.now_ms());
        for action in actions {
            self.perform(state, action, &mut result);
        }
    }

    fn perform(&self, state: &mut HubState, action: Action, result: &mut Option<v1::TaskResult>) {
        match action {
            Action::Dispatch(start) => self.start(state, start),
            Action::DispatchSecond(start) => self.start_second(state, &start),
            Action::Late {
                task,
                attempt,
                late_ms,
            } => {
                if let Some(entry) = state.tasks.get(&task) {
                    entry.mailbox.push(Mail::Late { attempt, late_ms });
                }
            }
            Action::CancelDispatch { worker, dispatch } => {
                self.seen().attempt_over(dispatch.0, None, self.now_ms());
                if let Some(channel) = state.channels.get(&worker) {
                    channel.cancel(dispatch);
                }
            }
            Action::FinishTask {
                task,
                worker,
                attempt,
                queue_ms,
                running_ms,
                audit,
                held,
            } => {
                let by = state.core.registry().get(worker);
                let by = by.map(|worker| worker.label.clone());
                if let (Some(mut entry), Some(result)) = (state.tasks.remove(&task), result.take())
                {
                    let maker = match audit {
                        // Whether it is right is not known yet.
                        true => None,
                        false => self.maker(state, worker, &entry.task, &result),
                    };
                    // Of two attempts it may be the first that won.
                    entry.worker = by.unwrap_or(entry.worker);
                    let finished = v1::Finished {
                        attempt,
                        result: Some(result),
                        worker: entry.worker.clone(),
                        queue_ms: u32::try_from(queue_ms).unwrap_or(u32::MAX),
                        audit,
                        kept: false,
                    };
                    let result = Held {
                        entry,
                        finished,
                        maker,
                        running_ms,
                    };
                    if held {
                        state.held.insert(task, result);
                    } else {
                        self.finish(task, result);
                    }
                }
            }
            Action::ReleaseTask { task, audit } => {
                if let Some(mut result) = state.held.remove(&task) {
                    if audit {
                        result.finished.audit = true;
                        result.maker = None;
                    }
                    self.finish(task, result);
                }
            }
            Action::FailTask { task, failure } => {
                if let Some(entry) = state.tasks.remove(&task) {
                    self.fail(task, entry, failure);
                }
            }
            Action::NoteSecond { same, suspects } => self.note_second(state, same, suspects),
            Action::NoteAudit { verdict } => self.note_audit(state, &verdict),
            Action::SendDrain { worker } => {
                if let Some(channel) = state.channels.get(&worker) {
                    channel.send(to_worker::Kind::Drain(v1::Drain {}));
                }
            }
            Action::CloseLink {
                worker,
                label,
                reason,
            } => {
                state.slots_why.remove(&worker);
                state.metrics_wanted.remove(&worker);
                if let Some(channel) = state.channels.remove(&worker) {
                    let expired = reason == NO_HEARTBEAT;
                    let how = if expired {
                        Closed::Expired
                    } else {
                        Closed::Politely
                    };
                    channel.close(how, &reason);
                }
                log::info(format_args!("worker {label} left: {reason}"));
                let lost = self.seen().worker_left(&label, &reason, self.now_ms());
                self.metrics.attempts_failed(Code::Link, lost);
                let left = v1::WorkerLeft {
                    worker: label,
                    reason,
                };
                self.announce(event::Kind::WorkerLeft(left));
            }
        }
    }

    fn start(&self, state: &mut HubState, start: AttemptStart) {
        let task = start.task;
        let Some(entry) = state.tasks.get_mut(&task) else {
            return;
        };
        if start.hedge {
            self.metrics.hedges.inc();
        } else if start.number > 1 {
            self.metrics.retries.inc();
        }
        self.metrics
            .task_queue_seconds
            .observe(start.queue_ms as f64 / 1e3);
        let listed = state
            .core
            .registry()
            .get(start.worker)
            .map(|worker| worker.label.clone());
        entry.worker = listed.unwrap_or_default();
        entry.mailbox.push(Mail::Started {
            label: entry.worker.clone(),
            start: start.clone(),
        });
        if let Some(channel) = state.channels.get(&start.worker) {
            channel.dispatch(&start, entry.task.clone(), entry.mailbox.clone());
        }
        let attempt = OpenAttempt {
            dispatch: start.dispatch.0,
            number: start.number,
            worker: entry.worker.as_str().into(),
            is_hedge: start.hedge,
        };
        let inputs = entry.task.inputs.iter().map(|input| input.encoded_size);
        self.metrics.input_bytes.inc_by(inputs.sum());
        let now_ms = self.now_ms();
        self.seen().started(task.0, attempt, now_ms);
        log::debug(format_args!(
            "task {} of {} attempt {} on {}{}",
            task.0,
            entry.holder,
            start.number,
            entry.worker,
            entry.mark()
        ));
        self.announce(event::Kind::TaskStarted(v1::TaskStarted {
            task_id: task.0,
            source: label(&entry.task.source, EVENT_SOURCE_BYTES_MAX),
            worker: entry.worker.clone(),
            client: label(&entry.task.client, EVENT_SOURCE_BYTES_MAX),
        }));
    }

    /// Has one more worker compile the task, whose result nobody waits for.
    fn start_second(&self, state: &HubState, start: &AttemptStart) {
        let channel = state.channels.get(&start.worker);
        if let (Some(channel), Some(entry)) = (channel, state.tasks.get(&start.task)) {
            let mailbox = entry.mailbox.clone();
            mailbox.push(Mail::Second(start.clone()));
            channel.dispatch_second(start, entry.task.clone(), mailbox);
        }
    }

    /// Whose `result` of `task` is, if it may be kept for others: what a client brought, or
    /// could have, is for itself alone.
    fn maker(
        &self,
        state: &HubState,
        worker: WorkerId,
        task: &v1::Task,
        result: &v1::TaskResult,
    ) -> Option<Maker> {
        self.results.get()?;
        let worker = state.core.registry().get(worker)?;
        let spec = &worker.spec;
        let asked = task.toolchain.as_ref()?;
        let digest = Digest::try_from(&asked.digest[..]).ok()?;
        let is_given =
            |own: &v1::Toolchain| !own.shipment.is_empty() && own.shipment == asked.shipment;
        let is_own = spec.digests.contains(&digest) && !spec.toolchains.iter().any(is_given);
        let maker = Maker {
            holder: spec.holder.clone(),
            name: spec.name.clone(),
            label: worker.label.clone(),
            sandbox: spec.sandbox.clone(),
            toolchain: asked.digest.clone(),
        };
        let who = Who {
            holder: spec.holder.clone(),
            name: spec.name.clone(),
        };
        let audits = state.core.audits();
        let is_trusted = spec.has_full_sandbox()
            && !audits.differing().contains_key(&who)
            && !audits.disputes.is_suspect(&who);
        (is_own && is_trusted && kept::is_good(result)).then_some(maker)
    }

    fn finish(&self, task: TaskId, result: Held) {
        let Held {
            entry,
            finished,
            maker,
            running_ms,
        } = result;
        let result = finished.result.clone().unwrap_or_default();
        let good = result.exit_code == 0 && result.signal == 0;
        let outcome = if good { "ok" } else { "compile_error" };
        self.metrics.tasks.with_label_values(&[outcome]).inc();
        self.metrics.task_seconds.observe(running_ms as f64 / 1e3);
        let detail = match (good, result.signal) {
            (true, _) => String::new(),
            (false, 0) => format!("exit code {}", result.exit_code),
            (false, signal) => format!("signal {signal}"),
        };
        let ending = Ending {
            outcome,
            detail: &detail,
            attempt: Some(finished.attempt),
        };
        if self.seen().task_ended(task.0, &ending, self.now_ms()) {
            self.metrics.hedges_won.inc();
        }
        log::debug(format_args!(
            "task {} of {} ended on {}, {outcome}, after {} ms{}",
            task.0,
            entry.holder,
            entry.worker,
            entry.submitted.elapsed().as_millis(),
            entry.mark()
        ));
        let ran = Ran {
            running_ms,
            queue_ms: finished.queue_ms.into(),
            compile_us: result.usage.map_or(0, |usage| usage.wall_us),
        };
        self.trace(&entry, outcome, &detail, Some(ran));
        self.end(task, &entry, good, detail);
        let maker = maker.map(Box::new);
        let mail = Mail::Finished(Box::new(finished), maker);
        entry.mailbox.push(mail);
    }

    fn fail(&self, task: TaskId, entry: OpenTask, failure: v1::Failure) {
        let outcome = outcome(failure.code());
        self.metrics.tasks.with_label_values(&[outcome]).inc();
        let ending = Ending {
            outcome,
            detail: &failure.detail,
            attempt: None,
        };
        self.seen().task_ended(task.0, &ending, self.now_ms());
        log::debug(format_args!(
            "task {} of {} failed, {outcome}: {}{}",
            task.0,
            entry.holder,
            failure.detail,
            entry.mark()
        ));
        self.trace(&entry, outcome, &failure.detail, None);
        self.end(task, &entry, false, words(&failure));
        entry.mailbox.push(Mail::Failed(failure));
    }

    fn end(&self, task: TaskId, entry: &OpenTask, ok: bool, detail: String) {
        let wall_ms = entry.submitted.elapsed().as_millis();
        self.announce(event::Kind::TaskEnded(v1::TaskEnded {
            task_id: task.0,
            source: label(&entry.task.source, EVENT_SOURCE_BYTES_MAX),
            worker: entry.worker.clone(),
            ok,
            wall_ms: u32::try_from(wall_ms).unwrap_or(u32::MAX),
            detail,
        }));
    }

    /// Has what became of a task exported, if anybody wants such.
    fn trace(&self, entry: &OpenTask, outcome: &'static str, detail: &str, ran: Option<Ran>) {
        let Some(spans) = self.spans.get() else {
            return;
        };
        let span = TaskSpan {
            trace_id: entry.task.trace_id.clone(),
            parent_span_id: entry.task.parent_span_id.clone(),
            source: label(&entry.task.source, EVENT_SOURCE_BYTES_MAX),
            client: label(&entry.task.client, EVENT_SOURCE_BYTES_MAX),
            holder: entry.holder.clone(),
            worker: entry.worker.clone(),
            outcome,
            detail: detail.to_owned(),
            wall: entry.submitted.elapsed(),
            ended: SystemTime::now(),
            ran,
        };
        // Nobody waits for who collects them.
        if spans.try_send(span).is_err() {
            self.metrics.spans_dropped.inc();
        }
    }

    fn announce(&self, kind: event::Kind) {
        let event = v1::Event {
            time_ms: unix_ms(),
            kind: Some(kind),
        };
        // No watcher: nobody to tell.
        let _ = self.events.send(event);
    }

    /// A worker said hello. Its channel has the welcome in it already.
    pub fn worker_joined(
        &self,
        spec: WorkerSpec,
        renewal: Option<String>,
    ) -> (WorkerId, Arc<Channel>) {
        let mut state = self.state();
        state.workers_seen += 1;
        let worker = WorkerId(state.workers_seen);
        let channel = Arc::new(Channel::new());
        let slots = spec.slots;
        // The label is known once the coordinator has taken the worker in; the
        // tasks that it gives it at once must follow the welcome.
        let actions = {
            let event = Event::WorkerJoined {
                worker,
                spec: Box::new(spec),
            };
            state.core.handle(event, self.now_ms())
        };
        let listed = state
            .core
            .registry()
            .get(worker)
            .map(|worker| worker.label.clone());
        let listed = listed.unwrap_or_default();
        channel.send(to_worker::Kind::Welcome(v1::Welcome {
            protocol_version: PROTOCOL_VERSION,
            worker_id: listed.clone(),
            heartbeat_ms: HEARTBEAT_MS,
            window_bytes: OUTPUT_WINDOW_BYTES,
            token: renewal.unwrap_or_default(),
        }));
        state.channels.insert(worker, channel.clone());
        log::info(format_args!("worker {listed} joined with {slots} slots"));
        self.metrics.workers_joined.inc();
        let detail = format!("{slots} slots");
        self.seen().worker_joined(&listed, &detail, self.now_ms());
        self.announce(event::Kind::WorkerJoined(v1::WorkerJoined {
            worker: listed,
            slots,
        }));
        for action in actions {
            self.perform(&mut state, action, &mut None);
        }
        (worker, channel)
    }

    /// A worker's link is no more.
    pub fn worker_gone(&self, worker: WorkerId, reason: &str) {
        self.handle(Event::WorkerGone {
            worker,
            reason: reason.to_owned(),
        });
    }

    /// A worker was heard of.
    pub fn worker_heard(&self, worker: WorkerId, vitals: Option<Vitals>) {
        self.handle(Event::WorkerHeard { worker, vitals });
    }

    /// Why the worker bears fewer slots than it said at first, in its own words.
    pub fn slots_why(&self, worker: WorkerId, why: &str) {
        let mut state = self.state();
        if why.is_empty() {
            state.slots_why.remove(&worker);
        } else if state.channels.contains_key(&worker) {
            state
                .slots_why
                .insert(worker, label(why, SLOTS_WHY_BYTES_MAX));
        }
    }

    /// Gives what the worker of this id or name says of itself in Prometheus's format, at
    /// its next heartbeat. `None`: there is none, it can't, or too many ask.
    pub fn ask_metrics(&self, name: &str) -> Option<oneshot::Receiver<Vec<u8>>> {
        let mut state = self.state();
        let worker = state.core.registry().find(name)?;
        if !state.core.registry().get(worker)?.spec.own_metrics {
            return None;
        }
        let waiting = state.metrics_wanted.entry(worker).or_default();
        waiting.retain(|one| !one.is_closed());
        if waiting.len() >= METRICS_ASKED_MAX {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        waiting.push(sender);
        Some(receiver)
    }

    /// Whether anybody waits for the worker's own metrics.
    pub fn wants_metrics(&self, worker: WorkerId) -> bool {
        self.state().metrics_wanted.contains_key(&worker)
    }

    /// The worker's own metrics.
    ///
    /// # Errors
    /// They are longer than they may be, or no text.
    pub fn own_metrics(&self, worker: WorkerId, text: Vec<u8>) -> Result<(), Fault> {
        if text.len() > OWN_METRICS_BYTES_MAX || str::from_utf8(&text).is_err() {
            return Err(Fault::new(
                "bad_metrics",
                "metrics that are too long or no text",
            ));
        }
        let waiting = self.state().metrics_wanted.remove(&worker);
        for one in waiting.into_iter().flatten() {
            // Who asked may have gone.
            let _ = one.send(text.clone());
        }
        Ok(())
    }

    /// Workers that send their own metrics, as they are listed.
    pub fn measured_workers(&self) -> Vec<String> {
        let state = self.state();
        let workers = state.core.registry().iter();
        let measured = workers.filter(|(_, worker)| worker.spec.own_metrics);
        measured.map(|(_, worker)| worker.label.clone()).collect()
    }

    /// How many compiles the predictor has learned from.
    pub fn learned(&self) -> u64 {
        self.state().core.predictor().learned()
    }

    /// What the predictor has learned, to be kept.
    pub fn learned_bytes(&self) -> Vec<u8> {
        // Written out without the lock: that takes a while.
        let saved = self.state().core.predictor().saved();
        saved.to_bytes()
    }

    /// A worker says that it takes no more tasks.
    pub fn worker_drains(&self, worker: WorkerId) {
        self.handle(Event::DrainRequested {
            worker,
            by_itself: true,
        });
    }

    /// The worker has these toolchains now.
    ///
    /// # Errors
    /// They are not well formed.
    pub fn worker_offers(&self, worker: WorkerId, offers: v1::Offers) -> Result<(), Fault> {
        let offers = crate::scheduling::validate::offers(offers.toolchains);
        let (toolchains, digests) = offers.map_err(|why| Fault::new("bad_offers", why))?;
        self.handle(Event::ToolchainsChanged {
            worker,
            toolchains,
            digests,
        });
        Ok(())
    }

    /// The worker brought an attempt to an end.
    ///
    /// # Errors
    /// It was never given it, or its result is not well formed.
    pub fn attempt_done(
        &self,
        worker: WorkerId,
        channel: &Channel,
        done: v1::Done,
    ) -> Result<(), Fault> {
        let dispatch = DispatchId(done.dispatch_id);
        let result = done
            .result
            .ok_or_else(|| Fault::new("bad_result", "done without a result"))?;
        let Some(running) = channel.end(dispatch)? else {
            return Ok(());
        };
        crate::scheduling::validate::result(&running.task, &result, |index| {
            running.outputs.received(index)
        })
        .map_err(|why| Fault::new("bad_result", why))?;
        let made = kept::made(&result);
        let usage = result.usage.unwrap_or_default();
        let wall_ms = usage.wall_us as f64 / 1e3;
        let outputs = result.outputs.iter().map(|output| output.encoded_size);
        let spent = Spent {
            wall_ms,
            cpu_ms: usage.user_us.saturating_add(usage.system_us) as f64 / 1e3,
            peak_bytes: usage.peak_memory_bytes,
            output_bytes: outputs.sum(),
            beside_ms: (running.since.elapsed().as_secs_f64() * 1e3 - wall_ms).max(0.0),
        };
        let event = Event::TaskDone {
            worker,
            dispatch,
            spent,
            made,
        };
        let mut state = self.state();
        self.step(&mut state, event, Some(result).filter(|_| !running.second));
        Ok(())
    }

    /// The worker gave an attempt up.
    ///
    /// # Errors
    /// It was never given it.
    pub fn attempt_failed(
        &self,
        worker: WorkerId,
        channel: &Channel,
        failed: v1::Failed,
    ) -> Result<(), Fault> {
        let dispatch = DispatchId(failed.dispatch_id);
        if channel.end(dispatch)?.is_none() {
            return Ok(());
        }
        let mut failure = failed.failure.unwrap_or_default();
        failure.detail = label(&failure.detail, limits::NAME_BYTES_MAX);
        self.handle(Event::TaskFailed {
            worker,
            dispatch,
            failure,
        });
        Ok(())
    }

    /// A worker's link does not carry an attempt's inputs any more.
    pub fn link_stalled(&self, worker: WorkerId, dispatch: DispatchId) {
        if let Some(channel) = self.channel(worker) {
            channel.cancel(dispatch);
        }
        let failure = failure(Code::Link, "the worker does not read");
        self.handle(Event::TaskFailed {
            worker,
            dispatch,
            failure,
        });
    }

    /// A client submits a task that was validated.
    pub fn submit(&self, task: v1::Task, demand: Demand) -> (TaskId, Arc<v1::Task>, Arc<Mailbox>) {
        let mut state = self.state();
        state.tasks_seen += 1;
        let id = TaskId(state.tasks_seen);
        let (task, mailbox) = (Arc::new(task), Arc::new(Mailbox::new()));
        let entry = OpenTask {
            task: task.clone(),
            mailbox: mailbox.clone(),
            worker: String::new(),
            holder: demand.holder.clone(),
            submitted: Instant::now(),
        };
        state.tasks.insert(id, entry);
        let name = TaskName {
            source: label(&task.source, EVENT_SOURCE_BYTES_MAX).into(),
            client: label(&demand.client, EVENT_SOURCE_BYTES_MAX).into(),
            holder: demand.holder.clone(),
            toolchain: toolchain_name(&demand.wanted).into(),
        };
        self.seen().submitted(id.0, name, self.now_ms());
        self.step(&mut state, Event::TaskSubmitted { task: id, demand }, None);
        (id, task, mailbox)
    }

    /// The client is gone, or broke the protocol. No effect on a task that ended.
    pub fn cancel(&self, task: TaskId, failure: v1::Failure) {
        self.handle(Event::TaskCancelled { task, failure });
    }

    /// The worker's link, if there still is one.
    pub fn channel(&self, worker: WorkerId) -> Option<Arc<Channel>> {
        self.state().channels.get(&worker).cloned()
    }

    /// No more tasks for the worker with this id or name; it leaves when it has ended those it
    /// has, or stays until it is let back. Gives its id and the number of those it still has.
    pub fn drain(&self, name: &str, stay: bool) -> Option<(String, u32)> {
        let (worker, listed) = {
            let state = self.state();
            let registry = state.core.registry();
            let worker = registry.find(name)?;
            // Once it is asked, one that has nothing to do may be gone at once.
            let found = registry.get(worker)?;
            let running = found.running.len() as u32;
            (worker, (found.label.clone(), running))
        };
        let what = match stay {
            true => {
                self.handle(Event::PauseRequested { worker });
                self.audits_changed.send_replace(());
                "worker-paused"
            }
            false => {
                self.handle(Event::DrainRequested {
                    worker,
                    by_itself: false,
                });
                "worker-drains"
            }
        };
        self.seen()
            .note(what, name, "an operator asked", self.now_ms());
        Some(listed)
    }

    /// Counts compiles that a client's cache answered, and those that it did not.
    ///
    /// # Errors
    /// In words: no client could have had so many since its last report.
    pub fn cache_hits(&self, report: &v1::ReportCacheHitRequest) -> Result<(), String> {
        let saved_ms = crate::scheduling::validate::cache_report(report)?;
        let (hits, misses) = (report.hits, report.misses);
        self.metrics.cache_reported(hits, misses, saved_ms);
        self.seen().cached(hits, misses, saved_ms, self.now_ms());
        Ok(())
    }

    /// A build of `holder`'s has ended.
    ///
    /// # Errors
    /// In words: no build could have done that.
    pub fn build_ended(&self, holder: &str, report: &v1::ReportBuildRequest) -> Result<(), String> {
        crate::scheduling::validate::build_report(report)?;
        let lost = |one: &v1::LocalReason| Lost {
            compiles: one.compiles,
            ms: one.lost_ms,
        };
        let reasons = report.reasons.iter();
        let reasons = reasons.map(|one| (one.reason.clone(), lost(one))).collect();
        let build = BuildReport {
            wall_ms: report.wall_ms,
            exit_code: report.exit_code,
            remote: report.remote,
            local: report.local,
            cached: report.cached,
        };
        let client = label(&report.client, EVENT_SOURCE_BYTES_MAX);
        let now_ms = self.now_ms();
        let counted = self
            .seen()
            .build_reported(holder, &client, build, reasons, now_ms);
        for (reason, lost) in counted {
            self.metrics.fell_back(&reason, lost.compiles, lost.ms);
        }
        Ok(())
    }

    /// `holder`'s client compiled by itself what a worker had compiled for it.
    pub fn audited(&self, holder: &str, report: v1::ReportAuditRequest) {
        self.handle(Event::AuditAnswered {
            task: TaskId(report.task_id),
            holder: holder.into(),
            same: report.same,
        });
    }

    /// An operator lets the workers called `name` back. Gives how many were out.
    pub fn readmit(&self, name: &str) -> usize {
        let out = |state: &HubState| {
            let out = state.core.audits().differing().keys();
            out.filter(|who| who.name == name).count()
        };
        let count = out(&self.state());
        self.handle(Event::Readmitted {
            name: name.to_owned(),
        });
        self.audits_changed.send_replace(());
        count
    }

    /// Which workers returned another object, and who found it.
    pub fn differing(&self) -> BTreeMap<Who, BTreeSet<Arc<str>>> {
        self.state().core.audits().differing().clone()
    }

    fn note_second(&self, state: &HubState, same: bool, suspects: Option<(Who, Who)>) {
        let result = if same { "same" } else { "different" };
        let counted = self.metrics.idle_audits.with_label_values(&[result]);
        counted.inc();
        let Some((one, other)) = suspects else {
            return;
        };
        log::warn(format_args!(
            "workers {} and {} made different objects of one task: one of them at least was \
             wrong. Clients check what they differ in from now on",
            one.name, other.name
        ));
        let registry = state.core.registry();
        for (who, beside) in [(&one, &other), (&other, &one)] {
            let called = registry.called(who).into_iter();
            for worker in called.filter_map(|id| registry.get(id)) {
                let detail = format!("{} made another object of one task", beside.name);
                let now_ms = self.now_ms();
                self.seen()
                    .note("worker-differs", &worker.label, &detail, now_ms);
            }
        }
    }

    fn note_audit(&self, state: &HubState, verdict: &Verdict) {
        let (who, is_same) = match verdict {
            Verdict::Unasked => return,
            Verdict::Same { worker } => (worker, true),
            Verdict::Differs { worker, .. } => (worker, false),
        };
        let registry = state.core.registry();
        let called = registry.called(who).into_iter();
        for worker in called.filter_map(|id| registry.get(id)) {
            let now_ms = self.now_ms();
            self.seen().audited(&worker.label, is_same, now_ms);
        }
        if let Verdict::Differs { worker, for_all } = verdict {
            let whose = if *for_all { "all" } else { "this holder" };
            log::warn(format_args!(
                "worker {} returned another object than its client's own compiler makes, \
                 and gets no more tasks of {whose}; 'hg-coord readmit {}' lets it back",
                worker.name, worker.name
            ));
            self.metrics.audit_mismatches.inc();
            self.make_void(worker);
            self.audits_changed.send_replace(());
        }
        let result = if is_same { "same" } else { "different" };
        self.metrics.audits.with_label_values(&[result]).inc();
    }

    /// Nobody gets anything any more that this worker made until now.
    fn make_void(&self, who: &Who) {
        let Some(results) = self.results.get() else {
            return;
        };
        // Written here, since nothing is to be answered before it is known.
        if let Err(error) = results.make_void(&who.holder, &who.name, unix_ms()) {
            log::warn(format_args!("results of worker {}: {error}", who.name));
        }
    }

    /// The grid in numbers.
    pub fn status(&self) -> v1::GetStatusResponse {
        let state = self.state();
        let (slots, busy) = state.core.registry().slots();
        let slots_now = state.core.registry().slots_now();
        let ended = self.metrics.ended();
        let now_ms = self.now_ms();
        let (sums, now_unix_ms) = {
            let seen = self.seen();
            (seen.sums(now_ms), seen.unix_ms(now_ms))
        };
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        v1::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            workers: state.core.registry().len() as u32,
            slots: narrow(slots),
            slots_now: Some(narrow(slots_now)),
            slots_busy: narrow(busy),
            queued: state.core.queued() as u32,
            tasks_finished: ended.finished,
            tasks_failed: ended.failed,
            tasks_cancelled: ended.cancelled,
            cache_hits_reported: self.metrics.cache_hits.get(),
            cache_misses_reported: self.metrics.cache_misses.get(),
            cache_saved_ms: (self.metrics.cache_saved_seconds.get() * 1e3).round() as u64,
            compiles_per_second_milli: sums.rate_milli,
            saved_today_ms: sums.saved_today_ms,
            compiled_today_ms: sums.compiled_today_ms,
            hedges: self.metrics.hedges.get(),
            hedges_won: self.metrics.hedges_won.get(),
            input_bytes: self.metrics.input_bytes.get(),
            input_bytes_sent: self.metrics.bytes.with_label_values(&["to_worker"]).get(),
            uptime_ms: now_ms,
            now_unix_ms,
            results_kept: self.results.get().map_or(0, |results| results.count()),
            insecure: false,
        }
    }

    /// The metrics as Prometheus reads them, the gauges as of now.
    pub fn metrics_text(&self) -> Vec<u8> {
        let wanted = self.seen().wanted().clone();
        let brief = self.workers_in_brief().into_iter();
        let workers: Vec<v1::Worker> = brief.map(|(_, worker)| worker).collect();
        self.metrics.set(&self.status(), &workers, &wanted);
        self.metrics.text()
    }

    /// All workers in the order in which they came.
    pub fn workers(&self) -> Vec<v1::Worker> {
        let brief = self.workers_in_brief().into_iter();
        let whole = brief.map(|(spec, worker)| v1::Worker {
            toolchains: spec.toolchains.clone(),
            ..worker
        });
        whole.collect()
    }

    /// The same without their toolchains, which are in what they said of themselves.
    pub fn workers_in_brief(&self) -> Vec<(Arc<WorkerSpec>, v1::Worker)> {
        // What they said of themselves is copied without the lock: with thousands of
        // workers that takes a while.
        let listed = self.listed().into_iter().map(|(spec, worker)| {
            let brief = v1::Worker {
                name: spec.name.clone(),
                address: spec.address.clone(),
                version: spec.version.clone(),
                architecture: spec.architecture.clone(),
                os: spec.os.clone(),
                cores: spec.cores,
                memory_bytes: spec.memory_bytes,
                slots: spec.slots,
                shipping: spec
                    .shipping
                    .map_or_else(Vec::new, |digest| digest.as_bytes().to_vec()),
                sandbox: spec.sandbox.clone(),
                machine: Some(spec.machine.clone()),
                ..worker
            };
            (spec, brief)
        });
        listed.collect()
    }

    /// All workers as they are now, without what they said of themselves, and that.
    fn listed(&self) -> Vec<(Arc<WorkerSpec>, v1::Worker)> {
        let now_ms = self.now_ms();
        let state = self.state();
        let shut_for = state.core.holders().shut(now_ms);
        let seen = self.seen();
        let list = state.core.registry().iter().map(|(id, worker)| {
            let vitals = worker.vitals.unwrap_or_default();
            let lane = seen.lane(&worker.label);
            let now = v1::Worker {
                last_error: lane.last_error.to_string(),
                joined_unix_ms: seen.unix_ms(worker.joined_ms),
                audits_same: lane.audits_same,
                audits_different: lane.audits_different,
                id: worker.label.clone(),
                memory_available_bytes: vitals.memory_available_bytes,
                running: worker.running.len() as u32,
                load_milli: vitals.load_milli,
                temperature_milli_c: vitals.temperature_milli_c,
                round_trip_us: vitals.round_trip_us,
                draining: worker.draining,
                tasks_finished: worker.finished,
                tasks_failed: worker.failed,
                connected_ms: now_ms.saturating_sub(worker.joined_ms),
                circuit: worker.breaker.name().into(),
                speed_milli: (worker.pace.speed * 1e3) as u32,
                slots_now: worker.slots_listed(),
                slots_why: state.slots_why.get(&id).cloned().unwrap_or_default(),
                out: worker.is_out(),
                paused: state.core.audits().is_paused(&worker.spec.who()),
                shut_for_holders: shut_for.get(&id).copied().unwrap_or_default(),
                ..v1::Worker::default()
            };
            (worker.spec.clone(), now)
        });
        list.collect()
    }
}

/// A failure as people read it.
fn words(failure: &v1::Failure) -> String {
    format!("{}: {}", outcome(failure.code()), failure.detail)
}

/// Now, in milliseconds since the Unix epoch.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as u64
}

/// A toolchain as people read it: `gcc 12.2.0 x86_64-linux-gnu c`.
pub fn toolchain_name(toolchain: &v1::Toolchain) -> String {
    let family = Family::from_wire(toolchain.family()).map_or("?", Family::name);
    let language = Language::from_wire(toolchain.language()).map_or("?", Language::name);
    let (version, target) = (&toolchain.version, &toolchain.target);
    let name = format!("{family} {version} {target} {language}");
    label(&name, TOOLCHAIN_NAME_BYTES_MAX)
}
