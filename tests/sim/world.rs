//! Time, as a heap of what is to happen next. Drives the coordinator's own state
//! machine and does what it says, on machines and for clients that only exist
//! here. The same setup gives the same run, to the last action.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use hg_coord::bounds::{QUEUE_MS_DEFAULT, TASK_MS_DEFAULT, TICK_MS};
use hg_coord::scheduling::coordinator::{Action, Coordinator, Event, Settings, failure};
use hg_coord::scheduling::id::{DispatchId, TaskId, WorkerId};
use hg_coord::scheduling::jobs::{AttemptStart, Demand};
use hg_coord::scheduling::predictor::{Predictor, Profile, Spent};
use hg_coord::scheduling::registry::WorkerSpec;
use hg_proto::v1::failure::Code;
use hg_proto::wire::digest::Digest;
use hg_proto::wire::limits::{COMPILE_MS_DEFAULT, HEARTBEAT_MS};

use crate::host::Host;
use crate::policy::Policy;
use crate::pool::{Fault, Machine};
use crate::twin::{Alone, Twin};
use crate::workload::{Arrivals, Client, Source, normal};

/// Microseconds between two reports that a compile still runs: a few times rarer than
/// real ones, for speed.
const PROGRESS_US: u64 = 5_000_000;
/// Standard deviation of the logarithm of what one compile takes from run to run.
const NOISE: f64 = 0.08;
/// The same of what a worker measures of its own speed.
const MEASURED_NOISE: f64 = 0.2;
/// Microseconds between the end of a compile and the next of the same `make`.
const CLIENT_US: u64 = 2_000;
/// Compiles at once on a client's own machine, whose speed is 1.
const CLIENT_CORES: usize = 8;
/// Microseconds until a failing machine fails.
const FAIL_US: u64 = 20_000;
/// Microseconds between two breaks of a link, on average, and until it is back.
const BREAK_US: f64 = 10e6;
const REJOIN_US: u64 = 1_000_000;
/// When slowed machines slow down.
const SLOW_US: u64 = 10_000_000;
/// Microseconds of virtual time after which something must be stuck.
const END_US: u64 = 48 * 3_600_000_000;
/// Beyond so many machines nobody looks at each of them on each tick.
const LOOKED_AT_MAX: usize = 1_000;

/// All that a run depends on.
pub struct Setup<'a> {
    /// Of the coordinator and of the world.
    pub seed: u64,
    /// How workers are chosen.
    pub policy: Policy,
    /// Whether there are hedges, and tasks sent ahead.
    pub extras: bool,
    /// Who compiles.
    pub machines: &'a [Machine],
    /// What there is to compile.
    pub sources: &'a [Source],
    /// Who wants it.
    pub clients: &'a [Client],
    /// What an earlier run's predictor saved.
    pub learned: Option<&'a [u8]>,
    /// The microseconds of this run in which a decision's cost is measured.
    pub measured_us: Option<Range<u64>>,
}

/// A task and its end.
#[derive(Debug, Clone, Copy)]
pub struct Task {
    /// Whose.
    pub client: usize,
    /// Which source.
    pub source: usize,
    /// When it was submitted, in microseconds.
    pub arrived_us: u64,
    /// When its object was there.
    pub ended_us: Option<u64>,
    /// Times that it ended; other than 1 is a bug.
    pub ends: u32,
    /// The client had to compile it.
    pub local: bool,
    failed: bool,
}

/// What came of it.
#[derive(Default)]
pub struct Outcome {
    /// In the order of their submission.
    pub tasks: Vec<Task>,
    /// Attempts.
    pub dispatches: u64,
    /// Second attempts beside running ones.
    pub hedges: u64,
    /// Attempts after failed ones.
    pub retries: u64,
    /// Attempts that were taken from one worker for another.
    pub moved: u64,
    /// Milliseconds at speed 1 that compilers ran, hedges included.
    pub work_ms: f64,
    /// Of these, for hedges.
    pub hedges_ms: f64,
    /// Share of the capacity that stood idle while tasks waited.
    pub idle: f64,
    /// Stands for all actions and their times.
    pub digest: u64,
    /// Wall time inside the coordinator, the clock's own included, and with caches
    /// that this world has used in between.
    pub inside: Duration,
    /// What decisions cost by themselves, if that was measured.
    pub alone: Option<Alone>,
    /// The predictor, saved.
    pub learned: Vec<u8>,
    /// Slots, tasks and places in the queue that are still held at the end.
    pub leaked: u64,
    idle_ticks: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Tick,
    Heartbeat(usize),
    Submit(usize),
    Offered(DispatchId),
    Fed(DispatchId),
    Began(DispatchId),
    Ended(DispatchId),
    Answered(DispatchId),
    Done(DispatchId),
    Fails(DispatchId, bool),
    Cancelled(DispatchId),
    Breaks(usize),
    Rejoins(usize),
    Local(usize),
}

struct Attempt {
    task: usize,
    host: usize,
    worker: WorkerId,
    hedge: bool,
    sent_us: u64,
    wall_us: u64,
}

struct Buyer {
    name: Arc<str>,
    next: usize,
    /// When each of its own cores is free.
    cores_us: [u64; CLIENT_CORES],
}

/// See the top of the file.
pub struct World<'a> {
    setup: Setup<'a>,
    core: Coordinator,
    twin: Option<Twin>,
    actions: u64,
    random: Rng,
    now_us: u64,
    heap: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    happened: u64,
    hosts: Vec<Host>,
    by_worker: HashMap<WorkerId, usize>,
    workers: u64,
    attempts: HashMap<DispatchId, Attempt>,
    buyers: Vec<Buyer>,
    left: usize,
    toolchain: Digest,
    outcome: Outcome,
}

/// Runs it to the end.
pub fn run(setup: Setup<'_>) -> Outcome {
    let core = || {
        Coordinator::new(Settings {
            seed: setup.seed,
            rival: setup.policy.rival(),
            hedge: setup.extras,
            ahead: setup.extras,
            predictor: match setup.learned.map(Predictor::load) {
                Some(Ok(predictor)) => predictor,
                _ => Predictor::new(),
            },
            ..Settings::default()
        })
    };
    let twin = |measured_us: &Range<u64>| Twin::new(core(), measured_us.clone());
    let buyer = |client| Buyer {
        name: format!("client{client}").into(),
        next: 0,
        cores_us: [0; CLIENT_CORES],
    };
    let mut world = World {
        core: core(),
        twin: setup.measured_us.as_ref().map(twin),
        actions: 0,
        random: Rng::with_seed(setup.seed ^ 0x5eed),
        now_us: 0,
        heap: BinaryHeap::new(),
        happened: 0,
        hosts: setup.machines.iter().map(Host::new).collect(),
        by_worker: HashMap::new(),
        workers: 0,
        attempts: HashMap::new(),
        buyers: (0..setup.clients.len()).map(buyer).collect(),
        left: setup
            .clients
            .iter()
            .map(|client| client.sources.len())
            .sum(),
        toolchain: Digest::of(b"gcc"),
        outcome: Outcome::default(),
        setup,
    };
    world.begin();
    world.go_on();
    world.end()
}

impl World<'_> {
    fn begin(&mut self) {
        self.after(0, Happening::Tick);
        for host in 0..self.hosts.len() {
            self.join(host);
            // Hearts do not beat together.
            let first_us = self.random.u64(..u64::from(HEARTBEAT_MS) * 1_000);
            self.after(first_us, Happening::Heartbeat(host));
            if self.hosts[host].machine.fault == Fault::Breaking {
                self.after(first_us * 10, Happening::Breaks(host));
            }
        }
        for client in 0..self.setup.clients.len() {
            let wanted = &self.setup.clients[client];
            match &wanted.arrivals {
                Arrivals::Closed(jobs) => {
                    for _ in 0..(*jobs).min(wanted.sources.len()) {
                        self.after(0, Happening::Submit(client));
                    }
                }
                Arrivals::Open(_) => self.expect(client),
            }
        }
    }

    /// The next compile of a client whose compiles come by themselves.
    fn expect(&mut self, client: usize) {
        if let Arrivals::Open(times) = &self.setup.clients[client].arrivals
            && let Some(at_us) = times.get(self.buyers[client].next)
        {
            self.after(at_us - self.now_us, Happening::Submit(client));
        }
    }

    fn go_on(&mut self) {
        while self.left > 0 || !self.attempts.is_empty() {
            let Some(Reverse((at_us, _, happening))) = self.heap.pop() else {
                panic!("{} tasks never end", self.left);
            };
            assert!(at_us < END_US, "{} tasks hang", self.left);
            self.now_us = at_us;
            self.happen(happening);
        }
    }

    fn end(mut self) -> Outcome {
        let held = |(_, w): (_, &hg_coord::scheduling::registry::Worker)| {
            w.running.len() + usize::from(w.ahead.is_some())
        };
        let held: usize = self.core.registry().iter().map(held).sum();
        self.outcome.leaked = (held + self.core.queued() + self.core.unfinished()) as u64;
        if let Some(twin) = self.twin {
            let (alone, actions) = twin.end();
            assert_eq!(actions, self.actions, "told the same, it does the same");
            self.outcome.alone = Some(alone);
        }
        self.outcome.learned = self.core.predictor().saved().to_bytes();
        self.outcome.idle /= self.outcome.idle_ticks.max(1) as f64;
        self.outcome
    }

    fn after(&mut self, us: u64, happening: Happening) {
        self.happened += 1;
        self.heap
            .push(Reverse((self.now_us + us, self.happened, happening)));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick => self.tick(),
            Happening::Heartbeat(host) => self.heartbeat(host),
            Happening::Submit(client) => self.submit(client),
            Happening::Offered(dispatch) => self.offered(dispatch),
            Happening::Fed(dispatch) => self.fed(dispatch),
            Happening::Began(dispatch) => {
                if let Some(attempt) = self.attempts.get(&dispatch) {
                    let worker = attempt.worker;
                    self.tell(Event::CompileRuns {
                        worker,
                        dispatch,
                        cpu_us: None,
                        ended: false,
                    });
                    self.after(PROGRESS_US, Happening::Began(dispatch));
                }
            }
            Happening::Ended(dispatch) => self.ended(dispatch),
            Happening::Answered(dispatch) => self.answered(dispatch),
            Happening::Done(dispatch) => self.done(dispatch),
            Happening::Fails(dispatch, memory) => self.fails(dispatch, memory),
            Happening::Cancelled(dispatch) => self.drop_attempt(dispatch),
            Happening::Breaks(host) => self.breaks(host),
            Happening::Rejoins(host) => {
                self.join(host);
                let next_us = -(1.0 - self.random.f64()).ln() * BREAK_US;
                self.after(next_us as u64, Happening::Breaks(host));
            }
            Happening::Local(task) => self.finish(task),
        }
    }

    /// Tells the coordinator, and does what it says.
    fn tell(&mut self, event: Event) {
        let now_ms = self.now_us / 1_000;
        if let Some(twin) = &mut self.twin {
            twin.hear(event.clone(), self.now_us);
        }
        let before = Instant::now();
        let actions = self.core.handle(event, now_ms);
        self.outcome.inside += before.elapsed();
        self.actions += actions.len() as u64;
        for action in actions {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        let (kind, a, b) = match &action {
            Action::Dispatch(start) => (1, start.worker.0, start.task.0),
            Action::CancelDispatch { worker, dispatch } => (2, worker.0, dispatch.0),
            Action::Late { task, .. } => (6, 0, task.0),
            Action::FinishTask { task, worker, .. } => (3, worker.0, task.0),
            Action::FailTask { task, .. } => (4, 0, task.0),
            // No results are audited in here.
            Action::NoteAudit { .. }
            | Action::DispatchSecond(_)
            | Action::ReleaseTask { .. }
            | Action::NoteSecond { .. } => return,
            Action::SendDrain { worker } | Action::CloseLink { worker, .. } => (5, worker.0, 0),
        };
        for word in [self.now_us, kind, a, b] {
            // The multiplier of Knuth's linear congruential generator, MMIX.
            self.outcome.digest =
                (self.outcome.digest.rotate_left(5) ^ word).wrapping_mul(6_364_136_223_846_793_005);
        }
        match action {
            Action::Dispatch(start) => self.dispatch(&start),
            Action::CancelDispatch { dispatch, .. } => {
                if let Some(attempt) = self.attempts.get(&dispatch) {
                    let there_us = self.hosts[attempt.host].machine.round_trip_us / 2;
                    self.after(there_us, Happening::Cancelled(dispatch));
                }
            }
            Action::FinishTask { task, .. } => self.finish(task.0 as usize),
            Action::FailTask { task, .. } => self.compile_locally(task.0 as usize),
            Action::NoteAudit { .. }
            | Action::DispatchSecond(_)
            | Action::ReleaseTask { .. }
            | Action::NoteSecond { .. } => {}
            Action::Late { .. } | Action::SendDrain { .. } | Action::CloseLink { .. } => {}
        }
    }

    fn tick(&mut self) {
        self.tell(Event::Tick);
        self.after(TICK_MS * 1_000, Happening::Tick);
        if self.core.queued() > 0 && self.hosts.len() <= LOOKED_AT_MAX {
            let (mut all, mut idle) = (0.0, 0.0);
            for (worker, state) in self.core.registry().iter() {
                let host = &self.hosts[self.by_worker[&worker]];
                all += host.machine.speed * f64::from(host.machine.slots);
                if state.is_free() {
                    let free = state.slots() as usize - state.running.len();
                    idle += host.machine.speed * free as f64;
                }
            }
            self.outcome.idle += idle / all;
            self.outcome.idle_ticks += 1;
        }
    }

    fn heartbeat(&mut self, host: usize) {
        self.after(u64::from(HEARTBEAT_MS) * 1_000, Happening::Heartbeat(host));
        let Some(worker) = self.hosts[host].worker else {
            return;
        };
        let vitals = Some(self.hosts[host].vitals());
        self.tell(Event::WorkerHeard { worker, vitals });
    }

    fn join(&mut self, host: usize) {
        self.workers += 1;
        let worker = WorkerId(self.workers);
        self.hosts[host].worker = Some(worker);
        self.by_worker.insert(worker, host);
        let machine = &self.hosts[host].machine;
        let noise = (MEASURED_NOISE * normal(&mut self.random)).exp();
        let spec = Box::new(WorkerSpec {
            instance: (host as u128).to_be_bytes(),
            name: format!("host{host}"),
            cores: machine.cores,
            memory_bytes: machine.memory_bytes,
            slots: machine.slots,
            speed_milli: (machine.speed * noise * 1e3) as u32,
            digests: vec![self.toolchain],
            ..WorkerSpec::default()
        });
        self.tell(Event::WorkerJoined { worker, spec });
    }

    fn submit(&mut self, client: usize) {
        let wanted = &self.setup.clients[client];
        let Some(source) = wanted.sources.get(self.buyers[client].next).copied() else {
            return;
        };
        self.buyers[client].next += 1;
        self.expect(client);
        let task = TaskId(self.outcome.tasks.len() as u64);
        self.outcome.tasks.push(Task {
            client,
            source,
            arrived_us: self.now_us,
            ended_us: None,
            ends: 0,
            local: false,
            failed: false,
        });
        let file = &self.setup.sources[source];
        let demand = Demand {
            holder: self.buyers[client].name.clone(),
            client: self.buyers[client].name.clone(),
            toolchain: self.toolchain,
            wanted: Default::default(),
            shipment: None,
            equals: Vec::new(),
            same: None,
            varies: false,
            delivers: false,
            bytes: 500,
            queue_ms_max: QUEUE_MS_DEFAULT,
            compile_ms_max: u64::from(COMPILE_MS_DEFAULT),
            task_ms_max: TASK_MS_DEFAULT,
            client_speed: 0.0,
            profile: Profile {
                source: source as u64,
                cxx: true,
                input_bytes: file.input_bytes,
                travel_bytes: file.travel_bytes,
            },
        };
        self.tell(Event::TaskSubmitted { task, demand });
    }

    fn dispatch(&mut self, start: &AttemptStart) {
        let &AttemptStart {
            worker,
            dispatch,
            number,
            hedge,
            ..
        } = start;
        let task = start.task.0 as usize;
        let host = self.by_worker[&worker];
        self.outcome.dispatches += 1;
        let failed = std::mem::take(&mut self.outcome.tasks[task].failed);
        self.outcome.hedges += u64::from(hedge);
        self.outcome.retries += u64::from(failed && !hedge);
        self.outcome.moved += u64::from(number > 1 && !failed && !hedge);
        let attempt = Attempt {
            task,
            host,
            worker,
            hedge,
            sent_us: self.now_us,
            wall_us: 0,
        };
        self.attempts.insert(dispatch, attempt);
        let host = &mut self.hosts[host];
        host.attempts.insert(dispatch);
        let round_trip_us = host.machine.round_trip_us;
        match host.machine.fault {
            Fault::Failing => {
                self.after(round_trip_us + FAIL_US, Happening::Fails(dispatch, false))
            }
            _ => self.after(round_trip_us, Happening::Offered(dispatch)),
        }
    }

    /// The worker's answer is here: it wants the inputs.
    fn offered(&mut self, dispatch: DispatchId) {
        let Some(attempt) = self.attempts.get(&dispatch) else {
            return;
        };
        let (worker, inputs) = (attempt.worker, true);
        let bytes = self.setup.sources[self.outcome.tasks[attempt.task].source].travel_bytes;
        let there_us = self.hosts[attempt.host].carry(bytes, self.now_us);
        self.after(there_us, Happening::Fed(dispatch));
        self.tell(Event::NeedReceived {
            worker,
            dispatch,
            inputs,
        });
    }

    /// The worker has the inputs.
    fn fed(&mut self, dispatch: DispatchId) {
        let Some(attempt) = self.attempts.get(&dispatch) else {
            return;
        };
        let host = attempt.host;
        self.hosts[host].waiting.push_back(dispatch);
        self.start_compiles(host);
        let complete = true;
        self.tell(Event::InputsProgressed { dispatch, complete });
    }

    fn start_compiles(&mut self, at: usize) {
        while let Some(dispatch) = self.hosts[at].next() {
            let Some(attempt) = self.attempts.get_mut(&dispatch) else {
                continue;
            };
            let source = &self.setup.sources[self.outcome.tasks[attempt.task].source];
            let host = &mut self.hosts[at];
            let back_us = host.machine.round_trip_us / 2;
            if !host.has_room(source.peak_bytes) {
                self.after(back_us, Happening::Fails(dispatch, true));
                continue;
            }
            host.compile(dispatch, source.peak_bytes, self.now_us);
            let slowed = host.machine.fault == Fault::Slowed && self.now_us >= SLOW_US;
            let noise = (NOISE * normal(&mut self.random)).exp();
            let factor = host.crowding() * noise * if slowed { 10.0 } else { 1.0 };
            attempt.wall_us = (source.cost_ms * 1e3 / host.machine.speed * factor) as u64;
            let wall_us = attempt.wall_us;
            let hangs = host.machine.fault == Fault::Hanging;
            self.after(back_us, Happening::Began(dispatch));
            if !hangs {
                self.after(wall_us, Happening::Ended(dispatch));
            }
        }
    }

    fn stop_compile(&mut self, dispatch: DispatchId) {
        let Some(attempt) = self.attempts.get(&dispatch) else {
            return;
        };
        let (at, hedge) = (attempt.host, attempt.hedge);
        let ran_us = self.hosts[at].stop(dispatch, self.now_us);
        let work_ms = ran_us as f64 / 1e3 * self.hosts[at].machine.speed;
        self.outcome.work_ms += work_ms;
        if hedge {
            self.outcome.hedges_ms += work_ms;
        }
        self.start_compiles(at);
    }

    fn ended(&mut self, dispatch: DispatchId) {
        self.stop_compile(dispatch);
        if let Some(attempt) = self.attempts.get(&dispatch) {
            let back_us = self.hosts[attempt.host].machine.round_trip_us / 2;
            self.after(back_us, Happening::Answered(dispatch));
        }
    }

    fn answered(&mut self, dispatch: DispatchId) {
        let Some(attempt) = self.attempts.get(&dispatch) else {
            return;
        };
        let worker = attempt.worker;
        let bytes = self.setup.sources[self.outcome.tasks[attempt.task].source].output_bytes;
        let there_us = self.hosts[attempt.host].carry(bytes, self.now_us);
        self.after(there_us, Happening::Done(dispatch));
        self.tell(Event::ResultBegan { worker, dispatch });
    }

    fn done(&mut self, dispatch: DispatchId) {
        let Some(attempt) = self.attempts.remove(&dispatch) else {
            return;
        };
        self.hosts[attempt.host].attempts.remove(&dispatch);
        let source = &self.setup.sources[self.outcome.tasks[attempt.task].source];
        let all_us = self.now_us - attempt.sent_us;
        let spent = Spent {
            wall_ms: attempt.wall_us as f64 / 1e3,
            // One that is slow here is so by itself.
            cpu_ms: 0.0,
            peak_bytes: source.peak_bytes,
            output_bytes: source.output_bytes,
            beside_ms: all_us.saturating_sub(attempt.wall_us) as f64 / 1e3,
        };
        self.tell(Event::TaskDone {
            worker: attempt.worker,
            dispatch,
            spent,
            made: None,
        });
    }

    fn fails(&mut self, dispatch: DispatchId, memory: bool) {
        let Some(attempt) = self.attempts.get(&dispatch) else {
            return;
        };
        let worker = attempt.worker;
        let code = if memory { Code::Memory } else { Code::Worker };
        self.outcome.tasks[attempt.task].failed |= !memory;
        self.drop_attempt(dispatch);
        self.tell(Event::TaskFailed {
            worker,
            dispatch,
            failure: failure(code, "simulated"),
        });
    }

    /// The worker has heard that it is to stop.
    fn drop_attempt(&mut self, dispatch: DispatchId) {
        self.stop_compile(dispatch);
        if let Some(attempt) = self.attempts.remove(&dispatch) {
            self.hosts[attempt.host].forget(dispatch);
        }
    }

    fn breaks(&mut self, host: usize) {
        let Some(worker) = self.hosts[host].worker.take() else {
            return;
        };
        for dispatch in self.hosts[host].attempts.clone() {
            if let Some(attempt) = self.attempts.get(&dispatch) {
                self.outcome.tasks[attempt.task].failed = true;
            }
        }
        self.hosts[host].waiting.clear();
        for dispatch in self.hosts[host].attempts.clone() {
            self.drop_attempt(dispatch);
        }
        self.after(REJOIN_US, Happening::Rejoins(host));
        self.tell(Event::WorkerGone {
            worker,
            reason: "simulated".into(),
        });
    }

    /// The grid has failed the client.
    fn compile_locally(&mut self, task: usize) {
        self.outcome.tasks[task].local = true;
        let Task { client, source, .. } = self.outcome.tasks[task];
        let cost_us = (self.setup.sources[source].cost_ms * 1e3) as u64;
        let cores_us = &mut self.buyers[client].cores_us;
        let Some(core_us) = cores_us.iter_mut().min() else {
            return;
        };
        *core_us = (*core_us).max(self.now_us) + cost_us;
        let wait_us = *core_us - self.now_us;
        self.after(wait_us, Happening::Local(task));
    }

    fn finish(&mut self, task: usize) {
        let ended = &mut self.outcome.tasks[task];
        ended.ends += 1;
        ended.ended_us = Some(self.now_us);
        self.left -= 1;
        let client = ended.client;
        if let Arrivals::Closed(_) = self.setup.clients[client].arrivals {
            self.after(CLIENT_US, Happening::Submit(client));
        }
    }
}
