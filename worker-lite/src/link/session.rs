//! The worker's side of the link as a state machine. Pure: events and the time
//! come in, actions go out; [`crate::link::shell`] performs them. Unaware of sockets,
//! threads, files and processes.
//!
//! ```text
//! Starting --Toolchains--> Dialling --Dialled--> Greeting --Welcome--> Linked
//!                             ^                     |                    |
//!                             '----- Waiting <------+--- link lost ------'
//! any, once draining and without jobs: Over
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hg_proto::PROTOCOL_VERSION;
use hg_proto::v1::{
    Chunk, Dispatch, Draining, Failed, Failure, FromWorker, Heartbeat, Hello, Offers, ToWorker,
    Toolchain, Welcome, failure::Code, from_worker, to_worker,
};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::limits::{
    CHUNK_BYTES_MAX, HEARTBEAT_EXPIRY_MS, HEARTBEAT_MS, HELLO_MS_MAX, NAME_BYTES_MAX,
    TOOLCHAINS_MAX,
};
use hg_proto::wire::trace_id;

use crate::inputs::validate::{self, Order, failure};
use crate::log::Level;
use crate::machine::admission::{self, Capacity, Vitals};
use crate::tasks::delivery::Delivery;
use crate::tasks::toolchains::{Catalogue, Compiler};

/// Milliseconds before the first redial at most; doubled with each failure. The jitter
/// below that keeps a fleet from coming all at once.
const BACKOFF_MS_MIN: u64 = 100;
/// Milliseconds before a redial at most.
const BACKOFF_MS_MAX: u64 = 4_000;
/// The same in [`RESTART`]: most links end because the coordinator starts again, which
/// takes it a second or two, and builds wait for their workers.
const RESTART_BACKOFF_MS_MAX: u64 = 1_000;
/// How long a coordinator that had said welcome is expected back.
const RESTART: Duration = Duration::from_secs(30);
/// A link that lived this long proves the coordinator well: the next dial comes at once.
/// Where it ends sooner each time, dials are as rare as where nobody answers.
const LINK_GOOD: Duration = Duration::from_secs(1);
/// Time between two heartbeats of a worker that has nothing to do and bears all its slots:
/// three of them in the time after which silence is death.
const IDLE_HEARTBEAT: Duration = Duration::from_millis(2_600);
/// Silence in the middle of a task's inputs after which the task is given up.
const INPUT_WAIT: Duration = Duration::from_secs(30);
/// How long running compiles hold up a new Hello after a toolchain was lost.
const REHELLO_WAIT_MAX: Duration = Duration::from_secs(10);
/// Between two looks for compilers while there are none.
const RESCAN: Duration = Duration::from_secs(60);

/// A task of one link: the coordinator's numbers start anew with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId {
    /// Which link, counted from 1.
    pub link: u64,
    /// The coordinator's number of the attempt on that link.
    pub dispatch_id: u64,
}

/// An input of the state machine.
#[derive(Debug)]
pub enum Event {
    /// The compilers of this machine, as found at the start or by a rescan.
    Toolchains(Catalogue),
    /// A connection was made; for the Hello, the text of a token, or nothing.
    Dialled(String),
    /// No connection could be made: why.
    DialFailed(String),
    /// The connection ended, or what came over it was garbage: why.
    LinkLost(String),
    /// A message from the coordinator.
    Message(Box<ToWorker>),
    /// A job has ended: its processes and its folder are gone, and its place is free.
    JobEnded {
        /// The job.
        id: JobId,
        /// Toolchain whose compiler is missing or has changed.
        compiler_gone: Option<Digest>,
    },
    /// A job that takes a toolchain has ended.
    Delivered {
        /// Which.
        id: JobId,
        /// The toolchain that came.
        added: Option<Box<Compiler>>,
        /// The last that the coordinator hears of it.
        last: Box<FromWorker>,
    },
    /// Clients' toolchains went to make room.
    ShipmentsGone(Vec<Digest>),
    /// A job of the tree form has found out how many inputs it has to receive.
    InputsMissing {
        /// The job.
        id: JobId,
        /// Contents that the job is about to ask the coordinator for.
        inputs: usize,
    },
    /// A signal: the first drains, the second cancels.
    Signal,
    /// The time that [`Session::next_wake`] named has come.
    Tick,
}

/// An output of the state machine, to be performed by its driver.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Connect to the coordinator; answered by `Dialled` or `DialFailed`.
    Dial,
    /// Send this ahead of any output.
    Send(FromWorker),
    /// Start a job whose output may fill `window_bytes`.
    Begin {
        /// The job.
        id: JobId,
        /// The checked task.
        order: Box<Order>,
        /// Compiler that runs.
        compiler: Box<Compiler>,
        /// Bytes of output that may be sent before the first credit.
        window_bytes: u32,
        /// Bytes of memory that it is predicted to need; 0: unknown.
        expected_bytes: u64,
    },
    /// Start to take a toolchain.
    Take {
        /// The name of the job.
        id: JobId,
        /// What is brought.
        delivery: Box<Delivery>,
    },
    /// Give a chunk of an input to a job.
    Deliver(JobId, Chunk),
    /// Let a job send that many more bytes of output.
    Credit(JobId, u32),
    /// Let that many compiles run at once from now on.
    SetCapacity(Capacity),
    /// End a job, which fails with this; answered by `JobEnded`.
    Cancel(JobId, Failure),
    /// Keep this token in place of the one that was shown.
    KeepToken(String),
    /// Send the worker's metrics.
    SendMetrics,
    /// Close the link at once.
    Drop,
    /// Close the link once all frames have been sent.
    HangUp,
    /// Look for compilers; answered by `Toolchains`.
    Rescan,
    /// End the program once all frames have been sent.
    Finish,
    /// Write a line into the log.
    Log(Level, String),
}

enum State {
    /// The compilers are not known yet.
    Starting,
    Dialling,
    Greeting {
        until: Instant,
    },
    Linked(Linked),
    Waiting {
        until: Instant,
    },
    Over,
}

struct Linked {
    since: Instant,
    window_bytes: u32,
    heartbeat: Duration,
    next_beat: Instant,
    last_heard: Instant,
    sequence: u64,
    /// Number of the heartbeat whose answer is awaited, and when it was sent.
    awaited: Option<(u64, Instant)>,
    round_trip_us: u32,
    /// By when to link anew with another Hello, since the last one is no longer true.
    rehello_by: Option<Instant>,
}

struct Job {
    /// Inputs that are not complete yet.
    inputs_left: usize,
    /// When the last chunk of an input was received.
    last_chunk: Instant,
    cancelled: bool,
}

/// The state machine.
pub struct Session {
    /// Without toolchains.
    hello: Hello,
    catalogue: Catalogue,
    /// What the last Hello offered, in order.
    offered: Vec<Digest>,
    state: State,
    link: u64,
    failures: u32,
    /// Until when the coordinator is expected back, which had said welcome.
    expected_until: Option<Instant>,
    rng: fastrand::Rng,
    /// Also those of lost links, until they have ended: they take room.
    jobs: BTreeMap<JobId, Job>,
    draining: bool,
    next_scan: Option<Instant>,
    /// Capacity of the machine, as of the last heartbeat.
    capacity: Capacity,
}

fn from_worker(kind: from_worker::Kind) -> FromWorker {
    FromWorker { kind: Some(kind) }
}

impl Session {
    /// A worker that says `hello` (its toolchains come later, by
    /// [`Event::Toolchains`]); `seed` is for the jitter between two dials.
    pub fn new(hello: Hello, seed: u64) -> Self {
        Session {
            capacity: Capacity {
                slots: hello.slots,
                why: "",
            },
            hello,
            catalogue: Catalogue::new(),
            offered: Vec::new(),
            state: State::Starting,
            link: 0,
            failures: 0,
            expected_until: None,
            rng: fastrand::Rng::with_seed(seed),
            jobs: BTreeMap::new(),
            draining: false,
            next_scan: None,
        }
    }

    /// Whether the coordinator has said welcome.
    pub fn is_linked(&self) -> bool {
        matches!(self.state, State::Linked(_))
    }

    /// Whether no more tasks are taken.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Jobs that were taken and have not ended.
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// How many toolchains are offered, each counted once, whatever forms of tasks it accepts.
    pub fn toolchains(&self) -> usize {
        let offered = self.catalogue.values();
        let is_one = |compiler: &&Compiler| {
            let toolchain = &compiler.toolchain;
            !toolchain.tree || !toolchain.shipment.is_empty()
        };
        offered.filter(is_one).count()
    }

    /// When [`Event::Tick`] is due at the latest.
    pub fn next_wake(&self) -> Option<Instant> {
        let state = match &self.state {
            State::Starting | State::Dialling | State::Over => None,
            // It waits for its jobs alone.
            State::Waiting { .. } if self.draining => None,
            State::Greeting { until } | State::Waiting { until } => Some(*until),
            State::Linked(linked) => [
                Some(linked.next_beat),
                Some(linked.expiry()),
                linked.rehello_by,
            ]
            .into_iter()
            .flatten()
            .min(),
        };
        let inputs = self.jobs.values().filter(|job| job.is_starving());
        let inputs = inputs.map(|job| job.last_chunk + INPUT_WAIT).min();
        [state, inputs, self.next_scan].into_iter().flatten().min()
    }

    /// Takes an event; the actions are to be performed in their order.
    pub fn handle(&mut self, now: Instant, vitals: &Vitals, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            _ if matches!(self.state, State::Over) => {}
            Event::Toolchains(catalogue) => self.toolchains_found(now, catalogue, &mut actions),
            Event::Dialled(token) => self.dialled(now, token, &mut actions),
            Event::DialFailed(why) => self.lost(now, &why, &mut actions),
            Event::LinkLost(why) => self.lost(now, &why, &mut actions),
            Event::Message(message) => self.message(now, vitals, *message, &mut actions),
            Event::JobEnded { id, compiler_gone } => {
                self.jobs.remove(&id);
                if let Some(digest) = compiler_gone {
                    self.toolchain_lost(digest, &mut actions);
                }
            }
            Event::ShipmentsGone(gone) => {
                self.catalogue.retain(|digest, _| !gone.contains(digest));
                self.offer_anew(&mut actions);
            }
            Event::Delivered { id, added, last } => {
                self.jobs.remove(&id);
                // What is offered first, so that the client's next task finds it.
                if let Some(compiler) = added
                    && let Ok(digest) = Digest::try_from(&compiler.toolchain.digest[..])
                {
                    self.catalogue.insert(digest, *compiler);
                    self.offer_anew(&mut actions);
                }
                if self.is_linked() && id.link == self.link {
                    actions.push(Action::Send(*last));
                }
            }
            Event::InputsMissing { id, inputs } => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.inputs_left = inputs;
                    job.last_chunk = now;
                }
            }
            Event::Signal if self.draining => {
                let why = failure(Code::Worker, "the worker was told to end at once");
                self.cancel_all(&why, &mut actions);
            }
            Event::Signal => self.drain("a signal", &mut actions),
            Event::Tick => {}
        }
        if !self.jobs.is_empty()
            && let State::Linked(linked) = &mut self.state
        {
            linked.hurry(now);
        }
        self.tick(now, vitals, &mut actions);
        if self.draining && self.jobs.is_empty() && !matches!(self.state, State::Over) {
            self.state = State::Over;
            actions.push(Action::Finish);
        }
        actions
    }

    fn toolchains_found(&mut self, now: Instant, found: Catalogue, actions: &mut Vec<Action>) {
        self.next_scan = None;
        if found.is_empty() {
            let text = "no compiler here: only clients with one of their own are served".to_owned();
            actions.push(Action::Log(Level::Warn, text));
            self.next_scan = Some(now + RESCAN);
        }
        // A look for compilers takes a while: what clients bring meanwhile stays.
        let brought = std::mem::replace(&mut self.catalogue, found).into_iter();
        let brought = brought.filter(|(_, compiler)| !compiler.toolchain.shipment.is_empty());
        let room = TOOLCHAINS_MAX.saturating_sub(self.catalogue.len());
        self.catalogue.extend(brought.take(room));
        let changed = !self.catalogue.keys().eq(&self.offered);
        match &mut self.state {
            State::Starting => {
                self.state = State::Dialling;
                actions.push(Action::Dial);
            }
            State::Linked(linked) if changed => linked.rehello_by = Some(now + REHELLO_WAIT_MAX),
            _ => {}
        }
    }

    /// Takes a toolchain back; a rescan finds what is to be offered instead.
    fn toolchain_lost(&mut self, digest: Digest, actions: &mut Vec<Action>) {
        let Some(compiler) = self.catalogue.remove(&digest) else {
            return;
        };
        let text = format!(
            "{}: missing or changed, no longer offered",
            compiler.driver.display()
        );
        actions.push(Action::Log(Level::Error, text));
        actions.push(Action::Rescan);
    }

    /// The coordinator hears at once what is offered now.
    fn offer_anew(&mut self, actions: &mut Vec<Action>) {
        if self.is_linked() && !self.catalogue.keys().eq(&self.offered) {
            self.offered = self.catalogue.keys().copied().collect();
            let toolchains = self.toolchains_offered();
            let offers = from_worker::Kind::Offers(Offers { toolchains });
            actions.push(Action::Send(from_worker(offers)));
        }
    }

    fn toolchains_offered(&self) -> Vec<Toolchain> {
        let compilers = self.catalogue.values();
        compilers
            .map(|compiler| compiler.toolchain.clone())
            .collect()
    }

    fn dialled(&mut self, now: Instant, token: String, actions: &mut Vec<Action>) {
        self.link += 1;
        self.state = State::Greeting {
            until: now + Duration::from_millis(HELLO_MS_MAX.into()),
        };
        self.offered = self.catalogue.keys().copied().collect();
        let mut hello = self.hello.clone();
        hello.token = token;
        hello.toolchains = self.toolchains_offered();
        actions.push(Action::Send(from_worker(from_worker::Kind::Hello(hello))));
    }

    /// The link is no more: its jobs end, and the next dial waits.
    fn lost(&mut self, now: Instant, why: &str, actions: &mut Vec<Action>) {
        if matches!(self.state, State::Starting | State::Waiting { .. }) {
            return;
        }
        if let State::Linked(linked) = &self.state {
            self.expected_until = Some(now + RESTART);
            if now.saturating_duration_since(linked.since) >= LINK_GOOD {
                self.failures = 0;
            }
        }
        let backoff_ms_max = match self.expected_until.is_some_and(|until| now < until) {
            true => RESTART_BACKOFF_MS_MAX,
            false => BACKOFF_MS_MAX,
        };
        let backoff = BACKOFF_MS_MIN
            .saturating_mul(1 << self.failures.min(20))
            .min(backoff_ms_max);
        let wait = Duration::from_millis(self.rng.u64(backoff / 2..=backoff));
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting { until: now + wait };
        let text = format!("{why}; next attempt in {} ms", wait.as_millis());
        actions.push(Action::Log(Level::Warn, text));
        self.cancel_all(&failure(Code::Link, "the link is gone"), actions);
    }

    /// Closes a link that is still up.
    fn drop_link(&mut self, now: Instant, why: &str, actions: &mut Vec<Action>) {
        actions.push(Action::Drop);
        self.lost(now, why, actions);
    }

    fn cancel_all(&mut self, why: &Failure, actions: &mut Vec<Action>) {
        for (id, job) in &mut self.jobs {
            if !std::mem::replace(&mut job.cancelled, true) {
                actions.push(Action::Cancel(*id, why.clone()));
            }
        }
    }

    fn drain(&mut self, asked_by: &str, actions: &mut Vec<Action>) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        let running = self.jobs.len();
        let text = format!("draining, asked by {asked_by}; {running} running");
        actions.push(Action::Log(Level::Info, text));
        if self.is_linked() {
            let draining = from_worker::Kind::Draining(Draining {});
            actions.push(Action::Send(from_worker(draining)));
        }
    }

    fn message(
        &mut self,
        now: Instant,
        vitals: &Vitals,
        message: ToWorker,
        actions: &mut Vec<Action>,
    ) {
        let Some(kind) = message.kind else {
            return self.drop_link(now, "the coordinator said something unknown", actions);
        };
        match (&mut self.state, kind) {
            (State::Greeting { .. } | State::Linked(_), to_worker::Kind::Goodbye(goodbye)) => {
                let why = format!("the coordinator says goodbye: {}", shown(&goodbye.reason));
                self.drop_link(now, &why, actions);
            }
            (State::Greeting { .. }, to_worker::Kind::Welcome(welcome)) => {
                self.welcome(now, &welcome, actions);
            }
            (State::Linked(linked), kind) => {
                linked.last_heard = now;
                self.linked(now, vitals, kind, actions);
            }
            (State::Greeting { .. }, _) => {
                self.drop_link(now, "the coordinator did not say welcome first", actions);
            }
            // A link that is given up already.
            _ => {}
        }
    }

    fn welcome(&mut self, now: Instant, welcome: &Welcome, actions: &mut Vec<Action>) {
        if welcome.protocol_version.abs_diff(PROTOCOL_VERSION) > 1 {
            let version = welcome.protocol_version;
            let why = format!("the coordinator speaks version {version} of the protocol");
            return self.drop_link(now, &why, actions);
        }
        let heartbeat_ms = match welcome.heartbeat_ms {
            0 => HEARTBEAT_MS,
            // At least two of them in the time after which silence is death.
            ms => ms.clamp(100, HEARTBEAT_EXPIRY_MS / 2),
        };
        self.state = State::Linked(Linked {
            since: now,
            window_bytes: welcome.window_bytes,
            heartbeat: Duration::from_millis(heartbeat_ms.into()),
            next_beat: now,
            last_heard: now,
            sequence: 0,
            awaited: None,
            round_trip_us: 0,
            rehello_by: None,
        });
        let text = format!("linked as {}", shown(&welcome.worker_id));
        actions.push(Action::Log(Level::Info, text));
        if !welcome.token.is_empty() {
            actions.push(Action::KeepToken(welcome.token.clone()));
        }
        if self.draining {
            let draining = from_worker::Kind::Draining(Draining {});
            actions.push(Action::Send(from_worker(draining)));
        }
        // What came or went since the Hello.
        self.offer_anew(actions);
    }

    fn linked(
        &mut self,
        now: Instant,
        vitals: &Vitals,
        kind: to_worker::Kind,
        actions: &mut Vec<Action>,
    ) {
        let link = self.link;
        let id = |dispatch_id| JobId { link, dispatch_id };
        match kind {
            to_worker::Kind::HeartbeatSeen(seen) => {
                if let State::Linked(linked) = &mut self.state {
                    linked.heartbeat_seen(now, seen.sequence);
                }
                if !seen.token.is_empty() {
                    actions.push(Action::KeepToken(seen.token));
                }
                if seen.wants_metrics {
                    actions.push(Action::SendMetrics);
                }
            }
            to_worker::Kind::Dispatch(dispatch) => self.dispatch(now, vitals, dispatch, actions),
            to_worker::Kind::Chunk(chunk) => self.chunk(now, chunk, actions),
            // A message that names no job has crossed the job's end on the way.
            to_worker::Kind::Cancel(cancel) => {
                let id = id(cancel.dispatch_id);
                if let Some(job) = self.jobs.get_mut(&id)
                    && !std::mem::replace(&mut job.cancelled, true)
                {
                    let why = failure(Code::Cancelled, "cancelled");
                    actions.push(Action::Cancel(id, why));
                }
            }
            to_worker::Kind::Credit(credit) => {
                let id = id(credit.dispatch_id);
                if self.jobs.contains_key(&id) {
                    actions.push(Action::Credit(id, credit.bytes));
                }
            }
            to_worker::Kind::Drain(_) => self.drain("the coordinator", actions),
            to_worker::Kind::Welcome(_) => {
                self.drop_link(now, "the coordinator said welcome twice", actions);
            }
            // Answered before.
            to_worker::Kind::Goodbye(_) => {}
        }
    }

    fn dispatch(
        &mut self,
        now: Instant,
        vitals: &Vitals,
        dispatch: Dispatch,
        actions: &mut Vec<Action>,
    ) {
        let id = JobId {
            link: self.link,
            dispatch_id: dispatch.dispatch_id,
        };
        if self.jobs.contains_key(&id) {
            return self.drop_link(now, "the coordinator used a dispatch id twice", actions);
        }
        let expected_bytes = dispatch.memory_bytes_expected;
        let mark = dispatch.task.as_ref();
        let mark = mark.map_or(String::new(), |task| trace_id::mark(&task.trace_id));
        let begun = match &dispatch.task {
            Some(task) if task.shipment.is_some() => self
                .admit_delivery(vitals, dispatch)
                .map(|delivery| (Action::Take { id, delivery }, 0)),
            _ => self.admit(vitals, dispatch).map(|(order, compiler)| {
                let inputs_left = match order.tree {
                    true => 0,
                    false => order.inputs.len(),
                };
                let window_bytes = match &self.state {
                    State::Linked(linked) => linked.window_bytes,
                    _ => 0,
                };
                let begin = Action::Begin {
                    id,
                    order: Box::new(order),
                    compiler: Box::new(compiler),
                    window_bytes,
                    expected_bytes,
                };
                (begin, inputs_left)
            }),
        };
        match begun {
            Ok((action, inputs_left)) => {
                let job = Job {
                    inputs_left,
                    last_chunk: now,
                    cancelled: false,
                };
                self.jobs.insert(id, job);
                actions.push(action);
            }
            Err(failure) => {
                let level = match failure.code() {
                    Code::Busy => Level::Debug,
                    _ => Level::Warn,
                };
                let why = &failure.detail;
                let text = format!("task {} not taken: {why}{mark}", id.dispatch_id);
                actions.push(Action::Log(level, text));
                let failed = from_worker::Kind::Failed(Failed {
                    dispatch_id: id.dispatch_id,
                    failure: Some(failure),
                });
                actions.push(Action::Send(from_worker(failed)));
            }
        }
    }

    fn admit(&self, vitals: &Vitals, dispatch: Dispatch) -> Result<(Order, Compiler), Failure> {
        let expected_bytes = dispatch.memory_bytes_expected;
        let task = dispatch
            .task
            .ok_or_else(|| failure(Code::Refused, "a dispatch without a task"))?;
        let order = validate::validate(task, |digest| {
            self.catalogue.get(digest).map(Compiler::accepts)
        })?;
        let (taken, slots) = (self.jobs.len(), self.hello.slots);
        let draining = self.draining;
        admission::admit(
            vitals,
            taken,
            slots,
            self.capacity,
            draining,
            expected_bytes,
        )
        .map_err(|busy| failure(Code::Busy, busy.to_string()))?;
        let compiler = self.catalogue.get(&order.toolchain).cloned();
        let mut compiler =
            compiler.ok_or_else(|| failure(Code::NoToolchain, "no such toolchain"))?;
        if order.is_equal && order.tree {
            compiler.tools = compiler.tools.programs_alone();
        }
        Ok((order, compiler))
    }

    /// A toolchain may be taken, and is well formed.
    fn admit_delivery(
        &self,
        vitals: &Vitals,
        dispatch: Dispatch,
    ) -> Result<Box<Delivery>, Failure> {
        let task = dispatch.task.unwrap_or_default();
        let asked = task.toolchain.as_ref().map_or(&[][..], |t| &t.digest);
        if self.hello.shipping.is_empty() || asked != self.hello.shipping {
            return Err(failure(Code::NoToolchain, "no toolchains of clients"));
        }
        let delivery = Delivery::of(task)?;
        let is_known = self.catalogue.contains_key(&delivery.digest());
        if self.catalogue.len() >= TOOLCHAINS_MAX && !is_known {
            return Err(failure(Code::Refused, "no more toolchains can be offered"));
        }
        let (taken, slots) = (self.jobs.len(), self.hello.slots);
        admission::admit(vitals, taken, slots, self.capacity, self.draining, 0)
            .map_err(|busy| failure(Code::Busy, busy.to_string()))?;
        Ok(Box::new(delivery))
    }

    fn chunk(&mut self, now: Instant, chunk: Chunk, actions: &mut Vec<Action>) {
        if chunk.data.len() > CHUNK_BYTES_MAX {
            let why = format!("the coordinator sent a chunk of {} bytes", chunk.data.len());
            return self.drop_link(now, &why, actions);
        }
        let id = JobId {
            link: self.link,
            dispatch_id: chunk.dispatch_id,
        };
        if let Some(job) = self.jobs.get_mut(&id)
            && !job.cancelled
        {
            job.last_chunk = now;
            job.inputs_left = job.inputs_left.saturating_sub(usize::from(chunk.last));
            actions.push(Action::Deliver(id, chunk));
        }
    }

    /// Does what is due at `now`.
    fn tick(&mut self, now: Instant, vitals: &Vitals, actions: &mut Vec<Action>) {
        if self.next_scan.is_some_and(|at| now >= at) {
            self.next_scan = None;
            actions.push(Action::Rescan);
        }
        for (id, job) in &mut self.jobs {
            if job.is_starving() && now >= job.last_chunk + INPUT_WAIT {
                job.cancelled = true;
                let why = failure(Code::Input, "the inputs do not come");
                actions.push(Action::Cancel(*id, why));
            }
        }
        match &self.state {
            State::Greeting { until } if now >= *until => {
                self.drop_link(now, "the coordinator says nothing", actions);
            }
            State::Waiting { until } if now >= *until && !self.draining => {
                self.state = State::Dialling;
                actions.push(Action::Dial);
            }
            State::Linked(_) => self.tick_linked(now, vitals, actions),
            _ => {}
        }
    }

    fn tick_linked(&mut self, now: Instant, vitals: &Vitals, actions: &mut Vec<Action>) {
        let running = self.jobs.len();
        let State::Linked(linked) = &mut self.state else {
            return;
        };
        if now >= linked.expiry() {
            return self.drop_link(now, "the coordinator fell silent", actions);
        }
        if linked
            .rehello_by
            .is_some_and(|by| running == 0 || now >= by)
        {
            actions.push(Action::HangUp);
            self.lost(now, "toolchains have changed, saying hello anew", actions);
            return;
        }
        if now >= linked.next_beat {
            let before = self.capacity;
            self.capacity = admission::next_capacity(before, self.hello.slots, vitals);
            if self.capacity != before {
                actions.push(Action::SetCapacity(self.capacity));
            }
            // Each one wakes an idle machine some times over.
            let is_idle =
                running == 0 && self.capacity == before && before.is_all(self.hello.slots);
            linked.next_beat = now + linked.pause(is_idle);
            linked.sequence += 1;
            // While an answer is outstanding, that is the one to measure.
            linked.awaited.get_or_insert((linked.sequence, now));
            let heartbeat = Heartbeat {
                sequence: linked.sequence,
                load_milli: vitals.load_milli,
                running: vitals.compiling,
                memory_available_bytes: vitals.memory_available_bytes.unwrap_or(0),
                temperature_milli_c: vitals.temperature_milli_c,
                round_trip_us: linked.round_trip_us,
                slots: Some(self.capacity.slots),
                slots_why: self.capacity.why.into(),
            };
            let heartbeat = from_worker::Kind::Heartbeat(heartbeat);
            actions.push(Action::Send(from_worker(heartbeat)));
        }
    }
}

impl Job {
    /// Whether it waits for chunks of its inputs.
    fn is_starving(&self) -> bool {
        self.inputs_left > 0 && !self.cancelled
    }
}

impl Linked {
    fn expiry(&self) -> Instant {
        self.last_heard + Duration::from_millis(HEARTBEAT_EXPIRY_MS.into())
    }

    /// Time between two heartbeats.
    fn pause(&self, is_idle: bool) -> Duration {
        match is_idle {
            true => self.heartbeat.max(IDLE_HEARTBEAT),
            false => self.heartbeat,
        }
    }

    /// The worker is idle no more.
    fn hurry(&mut self, now: Instant) {
        self.next_beat = self.next_beat.min(now + self.heartbeat);
    }

    fn heartbeat_seen(&mut self, now: Instant, sequence: u64) {
        if let Some((awaited, at)) = self.awaited
            && awaited == sequence
        {
            let us = now.saturating_duration_since(at).as_micros();
            // 0 would mean: not measured.
            self.round_trip_us = u32::try_from(us).unwrap_or(u32::MAX).max(1);
            self.awaited = None;
        }
    }
}

/// A peer's text for the log, no longer than a name.
fn shown(text: &str) -> String {
    text.chars().take(NAME_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::layout::Tools;
    use crate::machine::admission::DISK_FLOOR_BYTES;
    use hg_proto::compiler::toolchain::{Family, Language};
    use hg_proto::v1;

    const WELL: Vitals = Vitals {
        load_milli: 1500,
        memory_available_bytes: Some(1 << 30),
        disk_free_bytes: Some(DISK_FLOOR_BYTES),
        temperature_milli_c: 40_000,
        compiling: 0,
        memory_pressure_centi: 0,
        throttled: false,
        others_milli: 0,
    };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn digest() -> Digest {
        Digest::of(b"gcc")
    }

    fn catalogue() -> Catalogue {
        let compiler = Compiler {
            driver: "/usr/bin/gcc".into(),
            family: Family::Gcc,
            language: Language::C,
            path_first: None,
            tools: Tools::Own(Vec::new()),
            toolchain: v1::Toolchain {
                digest: digest().as_bytes().to_vec(),
                ..v1::Toolchain::default()
            },
        };
        Catalogue::from([(digest(), compiler)])
    }

    /// A session with a clock that only the test moves.
    struct Bench {
        session: Session,
        now: Instant,
        vitals: Vitals,
    }

    impl Bench {
        fn new() -> Self {
            let hello = Hello {
                slots: 2,
                ..Hello::default()
            };
            Bench {
                session: Session::new(hello, 1),
                now: Instant::now(),
                vitals: WELL,
            }
        }

        /// Greeted by a coordinator that lets 1000 bytes of output come.
        fn linked() -> Self {
            Self::linked_with(catalogue())
        }

        fn linked_with(catalogue: Catalogue) -> Self {
            let mut bench = Bench::new();
            assert_eq!(bench.take(Event::Toolchains(catalogue)), [Action::Dial]);
            bench.greet();
            bench
        }

        fn greet(&mut self) {
            let actions = self.take(Event::Dialled(String::new()));
            assert_eq!(hello(&actions).len(), 1, "{actions:?}");
            let actions = self.hear(to_worker::Kind::Welcome(Welcome {
                protocol_version: PROTOCOL_VERSION,
                heartbeat_ms: 1000,
                window_bytes: 1000,
                ..Welcome::default()
            }));
            assert_eq!(beats(&actions), [1]);
            assert!(self.session.is_linked());
        }

        fn take(&mut self, event: Event) -> Vec<Action> {
            self.session.handle(self.now, &self.vitals, event)
        }

        fn hear(&mut self, kind: to_worker::Kind) -> Vec<Action> {
            self.take(Event::Message(Box::new(ToWorker { kind: Some(kind) })))
        }

        /// Goes to the next wake-up, which must be at most `most` away.
        fn wake(&mut self, most: Duration) -> Vec<Action> {
            let at = self.session.next_wake().unwrap();
            assert!(at <= self.now + most, "{:?}", at - self.now);
            self.now = self.now.max(at);
            self.take(Event::Tick)
        }

        fn dispatch(&mut self, dispatch_id: u64) -> Vec<Action> {
            let arguments = "-fpreprocessed -fdirectives-only -x c -c in.c -o in.o";
            let task = v1::Task {
                toolchain: Some(v1::Toolchain {
                    digest: digest().as_bytes().to_vec(),
                    ..v1::Toolchain::default()
                }),
                arguments: arguments.split(' ').map(|word| word.into()).collect(),
                inputs: vec![v1::Input {
                    path: b"in.c".to_vec(),
                    digest: vec![1; 32],
                    ..v1::Input::default()
                }],
                outputs: vec![b"in.o".to_vec()],
                ..v1::Task::default()
            };
            self.hear(to_worker::Kind::Dispatch(Dispatch {
                dispatch_id,
                task: Some(task),
                memory_bytes_expected: 0,
            }))
        }

        fn end(&mut self, id: JobId) -> Vec<Action> {
            self.take(Event::JobEnded {
                id,
                compiler_gone: None,
            })
        }
    }

    /// A toolchain for this machine, and the task that brings it to `shipping`.
    fn shipment(shipping: &[u8]) -> v1::Task {
        let shipment = v1::Shipment {
            family: v1::Family::Gcc.into(),
            language: v1::Language::C.into(),
            architecture: std::env::consts::ARCH.into(),
            os: std::env::consts::OS.into(),
            driver: b"/usr/bin/gcc".into(),
            files: vec![v1::ShippedFile {
                path: b"/usr/bin/gcc".into(),
                size: 3,
                kind: Some(v1::shipped_file::Kind::Digest(digest().as_bytes().to_vec())),
            }],
            ..v1::Shipment::default()
        };
        v1::Task {
            toolchain: Some(v1::Toolchain {
                digest: shipping.to_vec(),
                ..v1::Toolchain::default()
            }),
            inputs: vec![v1::Input {
                path: b"/content/0".into(),
                digest: digest().as_bytes().to_vec(),
                size: 3,
                encoded_size: 3,
                ..v1::Input::default()
            }],
            tree: true,
            shipment: Some(shipment),
            ..v1::Task::default()
        }
    }

    #[test]
    fn a_toolchain_is_offered_before_its_client_hears_that_it_came() {
        let mut bench = Bench::linked();
        bench.session.hello.shipping = vec![5; 32];
        let hear = |bench: &mut Bench, dispatch_id, task| {
            bench.hear(to_worker::Kind::Dispatch(Dispatch {
                dispatch_id,
                task: Some(task),
                memory_bytes_expected: 0,
            }))
        };
        let actions = hear(&mut bench, 1, shipment(&[5; 32]));
        let [Action::Take { id, delivery }] = &actions[..] else {
            panic!("{actions:?}");
        };
        let list = delivery.list.clone();
        let kept = hg_proto::compiler::shipment::digest(&list);
        let compiler = Compiler::shipped(kept, &list, std::path::Path::new("/kept"));
        let done = from_worker(from_worker::Kind::Done(v1::Done {
            dispatch_id: 1,
            result: None,
        }));
        let delivered = |id: JobId, added: Option<Compiler>| Event::Delivered {
            id,
            added: added.map(Box::new),
            last: Box::new(done.clone()),
        };
        let actions = bench.take(delivered(*id, compiler.clone()));
        let [Action::Send(offers), Action::Send(last)] = &actions[..] else {
            panic!("{actions:?}");
        };
        let Some(from_worker::Kind::Offers(offers)) = &offers.kind else {
            panic!("{offers:?}");
        };
        assert_eq!(offers.toolchains.len(), 2);
        let shipped = &offers.toolchains.iter().find(|t| t.tree).unwrap();
        assert_eq!(shipped.shipment, kept.as_bytes());
        assert_eq!(*last, done);
        assert_eq!(bench.session.jobs(), 0);
        // One goes, on another link: its client is told nothing.
        let stale = JobId { link: 0, ..*id };
        assert_eq!(bench.take(delivered(stale, compiler.clone())), []);
        // A look for compilers that began before takes nothing of it away, and what went
        // is no longer offered.
        assert_eq!(bench.take(Event::Toolchains(catalogue())), []);
        let offers = bench.take(Event::ShipmentsGone(vec![kept]));
        assert!(matches!(&offers[..], [Action::Send(_)]), "{offers:?}");
        assert_eq!(bench.session.toolchains(), 1);
        // What is not for this worker, for this machine or not well formed.
        type Spoil = fn(&mut v1::Task);
        let spoils: [(Code, Spoil); 4] = [
            (Code::NoToolchain, |task| {
                *task = shipment(&[6; 32]);
            }),
            (Code::Refused, |task| {
                task.shipment.as_mut().unwrap().architecture = "m68k".into();
            }),
            (Code::Refused, |task| task.inputs[0].size = 4),
            (Code::Refused, |task| {
                task.shipment.as_mut().unwrap().files[0].path = b"/../gcc".into();
            }),
        ];
        for (at, (code, spoil)) in (2..).zip(spoils) {
            let mut task = shipment(&[5; 32]);
            spoil(&mut task);
            let actions = hear(&mut bench, at, task);
            let said = actions.iter().find_map(|action| match action {
                Action::Send(FromWorker {
                    kind: Some(from_worker::Kind::Failed(failed)),
                }) => failed.failure.as_ref().map(Failure::code),
                _ => None,
            });
            assert_eq!(said, Some(code), "{actions:?}");
        }
    }

    fn hello(actions: &[Action]) -> Vec<&Hello> {
        sent(actions, |kind| match kind {
            from_worker::Kind::Hello(hello) => Some(hello),
            _ => None,
        })
    }

    fn beats(actions: &[Action]) -> Vec<u64> {
        sent(actions, |kind| match kind {
            from_worker::Kind::Heartbeat(heartbeat) => Some(heartbeat.sequence),
            _ => None,
        })
    }

    fn failures(actions: &[Action]) -> Vec<Code> {
        sent(actions, |kind| match kind {
            from_worker::Kind::Failed(failed) => Some(failed.failure.as_ref()?.code()),
            _ => None,
        })
    }

    fn sent<'a, T>(
        actions: &'a [Action],
        want: impl Fn(&'a from_worker::Kind) -> Option<T>,
    ) -> Vec<T> {
        let kinds = actions.iter().filter_map(|action| match action {
            Action::Send(message) => message.kind.as_ref(),
            _ => None,
        });
        kinds.filter_map(want).collect()
    }

    fn cancelled(actions: &[Action]) -> Vec<(JobId, Code)> {
        let cancels = actions.iter().filter_map(|action| match action {
            Action::Cancel(id, why) => Some((*id, why.code())),
            _ => None,
        });
        cancels.collect()
    }

    fn begun(actions: &[Action]) -> Vec<JobId> {
        let begins = actions.iter().filter_map(|action| match action {
            Action::Begin { id, .. } => Some(*id),
            _ => None,
        });
        begins.collect()
    }

    fn id(link: u64, dispatch_id: u64) -> JobId {
        JobId { link, dispatch_id }
    }

    #[test]
    fn hello_offers_what_was_found() {
        let mut bench = Bench::new();
        bench.take(Event::Toolchains(catalogue()));
        let actions = bench.take(Event::Dialled(String::new()));
        assert_eq!(hello(&actions)[0].toolchains.len(), 1);
    }

    #[test]
    fn without_compilers_it_serves_and_looks_again() {
        let mut bench = Bench::new();
        let actions = bench.take(Event::Toolchains(Catalogue::new()));
        assert!(actions.contains(&Action::Dial));
        bench.greet();
        let mut actions = Vec::new();
        while !actions.contains(&Action::Rescan) {
            let seen = v1::HeartbeatSeen::default();
            bench.hear(to_worker::Kind::HeartbeatSeen(seen));
            actions = bench.wake(IDLE_HEARTBEAT);
        }
        let actions = bench.take(Event::Toolchains(catalogue()));
        assert!(actions.contains(&Action::HangUp));
    }

    #[test]
    fn metrics_are_sent_to_who_asks_for_them() {
        let mut bench = Bench::linked();
        for wants_metrics in [false, true, false] {
            let seen = v1::HeartbeatSeen {
                wants_metrics,
                ..v1::HeartbeatSeen::default()
            };
            let actions = bench.hear(to_worker::Kind::HeartbeatSeen(seen));
            assert_eq!(actions.contains(&Action::SendMetrics), wants_metrics);
        }
    }

    #[test]
    fn heartbeats_measure_the_round_trip() {
        let mut bench = Bench::linked();
        bench.now += ms(3);
        bench.hear(to_worker::Kind::HeartbeatSeen(v1::HeartbeatSeen {
            sequence: 1,
            ..v1::HeartbeatSeen::default()
        }));
        let actions = bench.wake(IDLE_HEARTBEAT);
        let [beat] = sent(&actions, |kind| match kind {
            from_worker::Kind::Heartbeat(heartbeat) => Some(heartbeat),
            _ => None,
        })[..] else {
            panic!("{actions:?}")
        };
        assert_eq!((beat.sequence, beat.round_trip_us), (2, 3000));
        assert_eq!((beat.load_milli, beat.temperature_milli_c), (1500, 40_000));
    }

    #[test]
    fn a_heartbeat_says_what_the_machine_bears() {
        let mut bench = Bench::linked();
        let beat = |bench: &mut Bench| {
            let seen = v1::HeartbeatSeen::default();
            bench.hear(to_worker::Kind::HeartbeatSeen(seen));
            let actions = bench.wake(IDLE_HEARTBEAT);
            let said = sent(&actions, |kind| match kind {
                from_worker::Kind::Heartbeat(beat) => Some((beat.slots, beat.slots_why.clone())),
                _ => None,
            });
            let borne = actions.iter().find_map(|action| match action {
                Action::SetCapacity(capacity) => Some(capacity.slots),
                _ => None,
            });
            (said, borne)
        };
        let said = |slots, why: &str| vec![(Some(slots), why.to_owned())];
        assert_eq!(beat(&mut bench), (said(2, ""), None));
        bench.vitals.temperature_milli_c = 90_000;
        assert_eq!(beat(&mut bench), (said(0, "heat"), Some(0)));
        assert_eq!(failures(&bench.dispatch(1)), [Code::Busy]);
        bench.vitals = WELL;
        assert_eq!(beat(&mut bench), (said(1, "heat"), Some(1)));
        assert_eq!(begun(&bench.dispatch(2)), [id(1, 2)]);
        assert_eq!(beat(&mut bench), (said(2, ""), Some(2)));
    }

    #[test]
    fn an_idle_worker_wakes_up_less_often() {
        let mut bench = Bench::linked();
        let pause = |bench: &mut Bench| {
            let began = bench.now;
            bench.wake(ms(3000));
            let seen = v1::HeartbeatSeen::default();
            bench.hear(to_worker::Kind::HeartbeatSeen(seen));
            bench.now - began
        };
        assert_eq!([pause(&mut bench), pause(&mut bench)], [IDLE_HEARTBEAT; 2]);
        // One that works, or bears less than it could, says more often how it is.
        bench.dispatch(1);
        assert_eq!([pause(&mut bench), pause(&mut bench)], [ms(1000); 2]);
        bench.end(id(1, 1));
        pause(&mut bench);
        assert_eq!(pause(&mut bench), IDLE_HEARTBEAT);
        bench.vitals.temperature_milli_c = 90_000;
        pause(&mut bench);
        assert_eq!([pause(&mut bench), pause(&mut bench)], [ms(1000); 2]);
    }

    #[test]
    fn silence_ends_the_link() {
        let mut bench = Bench::linked();
        let begin = bench.now;
        while bench.session.is_linked() {
            bench.wake(IDLE_HEARTBEAT);
            assert!(bench.now - begin < ms(60_000));
        }
        assert_eq!(bench.now - begin, ms(HEARTBEAT_EXPIRY_MS.into()));
        assert!(bench.wake(ms(100)).contains(&Action::Dial));
    }

    #[test]
    fn no_welcome_ends_the_link() {
        let mut bench = Bench::new();
        bench.take(Event::Toolchains(catalogue()));
        bench.take(Event::Dialled(String::new()));
        let actions = bench.wake(ms(HELLO_MS_MAX.into()));
        assert_eq!(actions[0], Action::Drop);
    }

    #[test]
    fn backoff_grows_and_has_an_end() {
        let mut bench = Bench::new();
        bench.take(Event::Toolchains(catalogue()));
        let mut waits = Vec::new();
        for _ in 0..20 {
            bench.take(Event::DialFailed("nobody".into()));
            let before = bench.now;
            assert_eq!(bench.wake(ms(BACKOFF_MS_MAX)), [Action::Dial]);
            waits.push(bench.now - before);
        }
        assert!(waits[0] <= ms(100) && waits[0] >= ms(50), "{waits:?}");
        assert!(waits[3] <= ms(800) && waits[3] >= ms(400), "{waits:?}");
        assert!(
            waits[10..].iter().all(|wait| *wait >= ms(2000)),
            "{waits:?}"
        );
        assert_ne!(waits[10], waits[11], "no jitter");
    }

    #[test]
    fn a_coordinator_that_was_there_is_dialled_at_once_and_often() {
        let mut bench = Bench::linked();
        // One that lives shortly again and again is not dialled faster for it.
        for (age, waits) in [
            (LINK_GOOD, 50..=100),
            (ms(1), 100..=200),
            (ms(1), 200..=400),
        ] {
            bench.now += age;
            bench.take(Event::LinkLost("gone".into()));
            let before = bench.now;
            assert_eq!(bench.wake(ms(*waits.end())), [Action::Dial], "{waits:?}");
            assert!(bench.now - before >= ms(*waits.start()), "{waits:?}");
            bench.greet();
        }
        bench.now += LINK_GOOD;
        bench.take(Event::LinkLost("gone".into()));
        let (lost, mut longest) = (bench.now, ms(0));
        while bench.now < lost + RESTART {
            let before = bench.now;
            assert_eq!(bench.wake(ms(RESTART_BACKOFF_MS_MAX)), [Action::Dial]);
            longest = longest.max(bench.now - before);
            bench.take(Event::DialFailed("nobody".into()));
        }
        assert!(longest >= ms(RESTART_BACKOFF_MS_MAX / 2), "{longest:?}");
        // It is no restart.
        bench.wake(ms(BACKOFF_MS_MAX));
        bench.take(Event::DialFailed("nobody".into()));
        let before = bench.now;
        bench.wake(ms(BACKOFF_MS_MAX));
        assert!(bench.now - before > ms(RESTART_BACKOFF_MS_MAX));
    }

    #[test]
    fn one_more_than_the_slots_is_a_bound_until_jobs_have_ended() {
        let mut bench = Bench::linked();
        for number in 1..=3 {
            assert_eq!(begun(&bench.dispatch(number)), [id(1, number)]);
        }
        assert_eq!(failures(&bench.dispatch(4)), [Code::Busy]);
        // Cancelled is not ended.
        let cancel = to_worker::Kind::Cancel(v1::Cancel { dispatch_id: 1 });
        assert_eq!(
            cancelled(&bench.hear(cancel)),
            [(id(1, 1), Code::Cancelled)]
        );
        assert_eq!(failures(&bench.dispatch(4)), [Code::Busy]);
        bench.end(id(1, 1));
        assert_eq!(begun(&bench.dispatch(4)), [id(1, 4)]);
    }

    #[test]
    fn a_lost_link_ends_its_jobs_but_they_take_room() {
        let mut bench = Bench::linked();
        for number in 1..=3 {
            bench.dispatch(number);
        }
        let actions = bench.take(Event::LinkLost("gone".into()));
        let all = [1, 2, 3].map(|number| (id(1, number), Code::Link));
        assert_eq!(cancelled(&actions), all);
        bench.wake(ms(100));
        bench.greet();
        assert_eq!(failures(&bench.dispatch(1)), [Code::Busy]);
        bench.end(id(1, 1));
        assert_eq!(begun(&bench.dispatch(1)), [id(2, 1)]);
    }

    #[test]
    fn what_breaks_the_protocol_ends_the_link() {
        let chunk = |len| {
            to_worker::Kind::Chunk(Chunk {
                data: vec![0; len],
                ..Chunk::default()
            })
        };
        let breaches = [
            to_worker::Kind::Welcome(Welcome::default()),
            to_worker::Kind::Dispatch(Dispatch {
                dispatch_id: 1,
                task: None,
                memory_bytes_expected: 0,
            }),
            chunk(CHUNK_BYTES_MAX + 1),
            to_worker::Kind::Goodbye(v1::Goodbye::default()),
        ];
        for breach in breaches {
            let mut bench = Bench::linked();
            bench.dispatch(1);
            assert!(!bench.hear(chunk(CHUNK_BYTES_MAX)).contains(&Action::Drop));
            let text = format!("{breach:?}");
            let actions = bench.hear(breach);
            assert!(actions.contains(&Action::Drop), "{text}");
            assert_eq!(cancelled(&actions).len(), 1, "{text}");
        }
        let mut bench = Bench::linked();
        let unknown = Event::Message(Box::default());
        assert!(bench.take(unknown).contains(&Action::Drop));
    }

    #[test]
    fn a_version_too_far_is_not_spoken_with() {
        for (version, is_linked) in [(PROTOCOL_VERSION + 1, true), (PROTOCOL_VERSION + 2, false)] {
            let mut bench = Bench::new();
            bench.take(Event::Toolchains(catalogue()));
            bench.take(Event::Dialled(String::new()));
            bench.hear(to_worker::Kind::Welcome(Welcome {
                protocol_version: version,
                ..Welcome::default()
            }));
            assert_eq!(bench.session.is_linked(), is_linked);
        }
    }

    #[test]
    fn inputs_that_do_not_come_end_the_job() {
        let mut bench = Bench::linked();
        bench.dispatch(1);
        let begin = bench.now;
        let mut ended = Vec::new();
        while ended.is_empty() {
            let seen = v1::HeartbeatSeen::default();
            bench.hear(to_worker::Kind::HeartbeatSeen(seen));
            ended = cancelled(&bench.wake(ms(1000)));
        }
        assert_eq!(ended, [(id(1, 1), Code::Input)]);
        assert_eq!(bench.now - begin, INPUT_WAIT);
    }

    #[test]
    fn a_job_with_all_its_inputs_may_take_its_time() {
        let mut bench = Bench::linked();
        bench.dispatch(1);
        let last = Chunk {
            dispatch_id: 1,
            last: true,
            ..Chunk::default()
        };
        let actions = bench.hear(to_worker::Kind::Chunk(last.clone()));
        assert_eq!(actions, [Action::Deliver(id(1, 1), last)]);
        for _ in 0..100 {
            let seen = v1::HeartbeatSeen::default();
            bench.hear(to_worker::Kind::HeartbeatSeen(seen));
            assert_eq!(cancelled(&bench.wake(ms(1000))), []);
        }
    }

    #[test]
    fn a_job_of_the_tree_form_waits_for_what_it_lacks() {
        let mut catalogue = catalogue();
        for compiler in catalogue.values_mut() {
            compiler.toolchain.tree = true;
        }
        let task = v1::Task {
            toolchain: Some(v1::Toolchain {
                digest: digest().as_bytes().to_vec(),
                ..v1::Toolchain::default()
            }),
            arguments: ["-c", "a.c"].map(Into::into).to_vec(),
            working_directory: b"/w".to_vec(),
            inputs: vec![v1::Input {
                path: b"/w/a.c".to_vec(),
                digest: vec![1; 32],
                ..v1::Input::default()
            }],
            outputs: vec![b"/w/a.o".to_vec()],
            tree: true,
            ..v1::Task::default()
        };
        let mut bench = Bench::linked_with(catalogue);
        assert_eq!(bench.session.toolchains(), 0);
        let actions = bench.hear(to_worker::Kind::Dispatch(Dispatch {
            dispatch_id: 1,
            task: Some(task),
            memory_bytes_expected: 0,
        }));
        assert!(matches!(actions[..], [Action::Begin { .. }]), "{actions:?}");
        let idle = |bench: &mut Bench, until: Instant| {
            let mut ended = Vec::new();
            while ended.is_empty() && bench.now < until {
                let seen = v1::HeartbeatSeen::default();
                bench.hear(to_worker::Kind::HeartbeatSeen(seen));
                ended = cancelled(&bench.wake(ms(1000)));
            }
            ended
        };
        // Nothing is said to lack yet, or all of it was here.
        let long = bench.now + INPUT_WAIT * 2;
        assert_eq!(idle(&mut bench, long), []);
        let missing = |inputs| Event::InputsMissing {
            id: id(1, 1),
            inputs,
        };
        assert_eq!(bench.take(missing(1)), []);
        let began = bench.now;
        let ended = idle(&mut bench, began + INPUT_WAIT * 2);
        assert_eq!(ended, [(id(1, 1), Code::Input)]);
        assert_eq!(bench.now - began, INPUT_WAIT);
    }

    #[test]
    fn draining_finishes_what_runs() {
        let mut bench = Bench::linked();
        bench.dispatch(1);
        let actions = bench.hear(to_worker::Kind::Drain(v1::Drain {}));
        let said = sent(&actions, |kind| {
            matches!(kind, from_worker::Kind::Draining(_)).then_some(())
        });
        assert_eq!(said.len(), 1);
        assert_eq!(failures(&bench.dispatch(2)), [Code::Busy]);
        let actions = bench.end(id(1, 1));
        assert_eq!(actions, [Action::Finish]);
        assert_eq!(bench.session.next_wake(), None);
        assert_eq!(bench.take(Event::Signal), []);
    }

    #[test]
    fn the_second_signal_cancels() {
        let mut bench = Bench::linked();
        bench.dispatch(1);
        assert_eq!(cancelled(&bench.take(Event::Signal)), []);
        let ended = cancelled(&bench.take(Event::Signal));
        assert_eq!(ended, [(id(1, 1), Code::Worker)]);
        assert_eq!(bench.end(id(1, 1)), [Action::Finish]);
    }

    #[test]
    fn a_signal_without_a_link_ends_it() {
        let mut bench = Bench::new();
        let actions = bench.take(Event::Signal);
        assert_eq!(actions.last(), Some(&Action::Finish));
    }

    #[test]
    fn draining_without_a_link_it_waits_for_its_jobs_and_dials_no_more() {
        let mut bench = Bench::linked();
        bench.dispatch(1);
        bench.hear(to_worker::Kind::Drain(v1::Drain {}));
        bench.take(Event::LinkLost("closed".into()));
        assert_eq!(bench.session.next_wake(), None);
        let actions = bench.end(id(1, 1));
        assert_eq!(actions.last(), Some(&Action::Finish));
    }

    #[test]
    fn a_lost_toolchain_is_no_longer_taken_nor_offered() {
        let mut bench = Bench::linked();
        bench.dispatch(1);
        bench.dispatch(2);
        let actions = bench.take(Event::JobEnded {
            id: id(1, 1),
            compiler_gone: Some(digest()),
        });
        assert!(actions.contains(&Action::Rescan));
        assert_eq!(failures(&bench.dispatch(3)), [Code::NoToolchain]);
        // The other compile may end first, for a while.
        let actions = bench.take(Event::Toolchains(Catalogue::new()));
        assert!(!actions.contains(&Action::HangUp));
        assert!(bench.end(id(1, 2)).contains(&Action::HangUp));
        bench.wake(ms(100));
        assert_eq!(
            hello(&bench.take(Event::Dialled(String::new())))[0]
                .toolchains
                .len(),
            0
        );
    }

    #[test]
    fn credit_reaches_its_job_only() {
        let mut bench = Bench::linked();
        bench.dispatch(1);
        let credit = |dispatch_id| {
            to_worker::Kind::Credit(v1::Credit {
                dispatch_id,
                bytes: 5,
            })
        };
        assert_eq!(bench.hear(credit(1)), [Action::Credit(id(1, 1), 5)]);
        assert_eq!(bench.hear(credit(2)), []);
    }
}
