//! Driver of [`crate::link::session`]: performs its actions with sockets, threads, timers
//! and signals.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use hg_proto::v1::{self, Chunk, FromWorker, failure::Code, from_worker::Kind};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::frame;
use hg_proto::wire::trace_id;
use smol::io::AsyncReadExt;
use smol::{Async, LocalExecutor, Task, future};

use crate::files::shipments::Shipments;
use crate::images::catalogue::Images;
use crate::inputs::layout::Tools;
use crate::inputs::tree::Trees;
use crate::inputs::validate::{Order, failure};
use crate::link::access::Access;
use crate::link::connection::{self, Inbound, Link, Wire};
use crate::link::finder::{Dialled, Finder, Place};
use crate::link::session::{Action, Event, JobId, Session};
use crate::log::{self, Level};
use crate::machine::admission::{Capacity, DISK_FLOOR_BYTES, Vitals};
use crate::machine::usage::LoadMeter;
use crate::machine::vitals;
use crate::metrics::Metrics;
use crate::sandbox::facade::Sandbox;
use crate::tasks::control::Control;
use crate::tasks::delivery::{self, Delivery};
use crate::tasks::gate::Gate;
use crate::tasks::task::{self, TaskContext};
use crate::tasks::toolchains::{self, Catalogue, Compiler, Places};
use crate::tasks::trial;

/// Chunks of inputs that may wait for one task.
const CHUNKS_MAX: usize = 4;
/// Bytes of the stack of a thread that carries out a task or looks at compilers.
const STACK_BYTES: usize = 256 << 10;
/// How old measured vitals may be.
const VITALS_AGE: Duration = Duration::from_millis(250);

/// How long a task waits for memory before it goes to another worker.
const NO_ROOM_WAIT_MAX: Duration = Duration::from_secs(5);
/// Time without work after which memory is given back.
const TRIM_AFTER: Duration = Duration::from_secs(3);
/// Time without work after which idle skeletons are removed: people edit between two builds,
/// and some disks are slow to make folders.
const DROP_SKELETONS_AFTER: Duration = Duration::from_secs(300);

/// Everything that a worker serves with.
pub struct Serving {
    /// Where the coordinator is.
    pub coordinator: Place,
    /// How the coordinator is dialled: in plaintext, by a token or by certificates.
    pub access: Access,
    /// The worker's description of itself, without toolchains, which are found later.
    pub hello: v1::Hello,
    /// Folder of the task folders.
    pub tasks: PathBuf,
    /// Nice value of compilers, 0 to 19.
    pub nice: i32,
    /// The use of the machine by other programs costs no slots.
    pub dedicated: bool,
    /// Where compilers are looked for.
    pub places: Places,
    /// Folder of memos about compilers.
    pub memo: PathBuf,
    /// Sandbox of all compilers.
    pub sandbox: Arc<Sandbox>,
    /// Store and skeletons of the tree form; `None`: no such task is taken.
    pub trees: Option<Arc<Trees>>,
    /// Toolchains that clients bring; `None`: none are taken.
    pub shipments: Option<Arc<Shipments>>,
    /// Images whose compilers are offered.
    pub images: Option<Arc<Images>>,
    /// Counters and gauges.
    pub metrics: Arc<Metrics>,
    /// Gives one byte for each signal.
    pub signals: UnixStream,
}

/// Serves until the worker was drained by a signal or by the coordinator.
///
/// # Errors
/// The system gives no descriptors or threads to start with.
pub fn serve(serving: Serving) -> io::Result<()> {
    let executor = Rc::new(LocalExecutor::new());
    let signals = Async::new(serving.signals.try_clone()?)?;
    let (notices, noticed) = async_channel::unbounded();
    let shell = Shell {
        session: Session::new(serving.hello.clone(), fastrand::u64(..)),
        finder: Rc::new(Finder::new(serving.coordinator.clone())),
        executor: executor.clone(),
        notices,
        link: None,
        timer: None,
        links: 0,
        jobs: HashMap::new(),
        gate: Arc::new(Gate::new(
            serving.hello.slots,
            NO_ROOM_WAIT_MAX,
            serving.metrics.running.clone(),
        )),
        vitals: None,
        meter: LoadMeter::new(serving.nice),
        untrimmed_since: None,
        skeletons_since: None,
        run_id: format!("{:08x}", fastrand::u32(..)),
        serving,
    };
    // `smol::block_on` would wait for sockets here, and async-io's own thread wake up again
    // and again to see whether it should: a sixth of what a task costs.
    future::block_on(executor.run(shell.run(noticed, signals)))
}

/// Messages of other threads and tasks to the event loop.
enum Notice {
    /// A connection, or why there is none.
    Dialled(Result<Dialled, String>),
    WriterEnded {
        link: u64,
        why: String,
    },
    Toolchains(Catalogue),
    JobEnded {
        id: JobId,
        compiler_gone: Option<Digest>,
    },
    Delivered {
        id: JobId,
        added: Option<Box<Compiler>>,
        last: Box<FromWorker>,
    },
    ShipmentsGone(Vec<Digest>),
    InputsMissing {
        id: JobId,
        inputs: usize,
    },
    Signal,
}

/// The link that is up, and the task that writes to it.
struct Live {
    link: Link,
    writer: Task<()>,
}

/// Handles of a running job.
struct Job {
    chunks: Sender<Arc<Chunk>>,
    control: Arc<Control>,
}

struct Shell {
    session: Session,
    finder: Rc<Finder>,
    executor: Rc<LocalExecutor<'static>>,
    notices: Sender<Notice>,
    link: Option<Live>,
    /// For when the session wants to be woken up, and when that is.
    timer: Option<(Instant, smol::Timer)>,
    /// Links so far, which numbers them.
    links: u64,
    jobs: HashMap<JobId, Job>,
    gate: Arc<Gate>,
    vitals: Option<(Instant, Vitals)>,
    meter: LoadMeter,
    /// When the last task ended, or the link came up, or compilers were looked at, until
    /// memory is given back.
    untrimmed_since: Option<Instant>,
    /// When the last task ended, until idle skeletons are removed.
    skeletons_since: Option<Instant>,
    /// Random part of the names of task folders: no other start of the worker has the same.
    run_id: String,
    serving: Serving,
}

/// What wakes the event loop up.
enum Wake {
    Notice(Notice),
    Inbound(Inbound),
    Time,
}

impl Shell {
    async fn run(
        mut self,
        noticed: Receiver<Notice>,
        signals: Async<UnixStream>,
    ) -> io::Result<()> {
        let notices = self.notices.clone();
        self.executor.spawn(listen(signals, notices)).detach();
        self.perform(vec![Action::Rescan])?;
        loop {
            let event = match self.wake(&noticed).await {
                Wake::Notice(notice) => self.noticed(notice),
                Wake::Inbound(Inbound::Message(message)) => Some(Event::Message(message)),
                Wake::Inbound(Inbound::Lost(why)) => {
                    self.link = None;
                    Some(Event::LinkLost(why))
                }
                Wake::Time => {
                    self.timer = None;
                    Some(Event::Tick)
                }
            };
            let Some(event) = event else {
                continue;
            };
            self.trim_if_idle();
            let vitals = self.vitals();
            let actions = self.session.handle(Instant::now(), &vitals, event);
            let finish = actions.contains(&Action::Finish);
            self.perform(actions)?;
            self.update_metrics();
            if finish {
                if let Some(Live { link, writer }) = self.link.take() {
                    connection::hang_up(link, writer).await;
                }
                return Ok(());
            }
        }
    }

    /// Waits for what comes first. Notices are taken before messages: a slot is
    /// free again before the coordinator's next task for it is looked at.
    async fn wake(&mut self, noticed: &Receiver<Notice>) -> Wake {
        let notice = async {
            match noticed.recv().await {
                Ok(notice) => Wake::Notice(notice),
                // Not reached: a sender lives in `self`.
                Err(_) => future::pending().await,
            }
        };
        let link = &mut self.link;
        let inbound = async {
            match link {
                Some(live) => Wake::Inbound(live.link.next().await),
                None => future::pending().await,
            }
        };
        let next_wake = self.session.next_wake();
        // Each new timer wakes the thread that waits for all of them.
        if self.timer.as_ref().map(|(at, _)| *at) != next_wake {
            self.timer = next_wake.map(|at| (at, smol::Timer::at(at)));
        }
        let timer = &mut self.timer;
        let time = async {
            match timer {
                Some((_, timer)) => {
                    timer.await;
                    Wake::Time
                }
                None => future::pending().await,
            }
        };
        future::or(notice, future::or(inbound, time)).await
    }

    fn noticed(&mut self, notice: Notice) -> Option<Event> {
        match notice {
            Notice::Dialled(Ok(dialled)) => {
                if let Some(address) = &dialled.found {
                    self.found(address);
                }
                self.connected(dialled.wire);
                Some(Event::Dialled(dialled.token))
            }
            Notice::Dialled(Err(why)) => {
                self.serving.metrics.reconnects.inc();
                Some(Event::DialFailed(why))
            }
            Notice::WriterEnded { link, why } => {
                if link != self.links || self.link.is_none() {
                    return None;
                }
                self.link = None;
                Some(Event::LinkLost(why))
            }
            Notice::Toolchains(catalogue) => {
                self.untrimmed_since = Some(Instant::now());
                Some(Event::Toolchains(catalogue))
            }
            Notice::JobEnded { id, compiler_gone } => {
                self.jobs.remove(&id);
                self.untrimmed_since = Some(Instant::now());
                self.skeletons_since = self.untrimmed_since;
                Some(Event::JobEnded { id, compiler_gone })
            }
            Notice::ShipmentsGone(gone) => Some(Event::ShipmentsGone(gone)),
            Notice::Delivered { id, added, last } => {
                self.jobs.remove(&id);
                self.untrimmed_since = Some(Instant::now());
                Some(Event::Delivered { id, added, last })
            }
            Notice::InputsMissing { id, inputs } => Some(Event::InputsMissing { id, inputs }),
            Notice::Signal => Some(Event::Signal),
        }
    }

    fn connected(&mut self, wire: Wire) {
        // What it took to come here is not needed again as long as there is a link.
        self.untrimmed_since = Some(Instant::now());
        self.links += 1;
        let number = self.links;
        let (link, writer) = connection::open(wire, self.serving.metrics.clone());
        let notices = self.notices.clone();
        let writer = self.executor.spawn(async move {
            if let Err(why) = writer.run().await {
                let notice = Notice::WriterEnded { link: number, why };
                let _ = notices.send(notice).await;
            }
        });
        self.link = Some(Live { link, writer });
    }

    /// Gives memory back once there has been no work for a while: between two
    /// tasks of a build it would be wanted again at once. A heartbeat at the
    /// latest gets here.
    fn trim_if_idle(&mut self) {
        if !self.jobs.is_empty() {
            return;
        }
        let idle = |at: &mut Instant| at.elapsed() >= TRIM_AFTER;
        if self.untrimmed_since.take_if(idle).is_some() {
            vitals::trim_memory();
        }
        let Some(since) = self.skeletons_since else {
            return;
        };
        let free_bytes = self.vitals().disk_free_bytes;
        let is_full = free_bytes.is_some_and(|bytes| bytes < DISK_FLOOR_BYTES);
        if is_full || since.elapsed() >= DROP_SKELETONS_AFTER {
            self.skeletons_since = None;
            self.drop_idle_skeletons();
        }
    }

    /// Removes idle skeletons in a thread: the disk may be slow.
    fn drop_idle_skeletons(&self) {
        if let Some(trees) = self.serving.trees.clone() {
            let drop_idle = move || {
                trees.drop_idle();
                vitals::trim_memory();
            };
            // Without a thread they stay, which is bounded.
            let _ = thread::Builder::new()
                .name("trees".into())
                .stack_size(STACK_BYTES)
                .spawn(drop_idle);
        }
    }

    fn vitals(&mut self) -> Vitals {
        match self.vitals {
            Some((at, vitals)) if at.elapsed() < VITALS_AGE => vitals,
            _ => {
                let mut vitals = vitals::vitals(&self.serving.tasks);
                let compilers = self.gate.compilers();
                vitals.compiling = self.gate.running();
                vitals.others_milli = self.meter.others_milli(Instant::now(), &compilers);
                if self.serving.dedicated {
                    vitals.others_milli = 0;
                    vitals.memory_pressure_centi = 0;
                }
                self.vitals = Some((Instant::now(), vitals));
                vitals
            }
        }
    }

    fn perform(&mut self, actions: Vec<Action>) -> io::Result<()> {
        for action in actions {
            match action {
                Action::Log(level, text) => log::line(level, format_args!("{text}")),
                Action::Dial => self.dial(),
                Action::Send(message) => self.send(&message),
                Action::Begin {
                    id,
                    order,
                    compiler,
                    window_bytes,
                    expected_bytes,
                } => self.begin(id, *order, *compiler, window_bytes, expected_bytes),
                Action::Take { id, delivery } => self.take(id, *delivery),
                Action::Deliver(id, chunk) => {
                    if let (Some(job), Some(live)) = (self.jobs.get(&id), &mut self.link) {
                        live.link.deliver(job.chunks.clone(), chunk);
                    }
                }
                Action::Credit(id, bytes) => {
                    if let Some(job) = self.jobs.get(&id) {
                        job.control.credit(bytes);
                    }
                }
                Action::SetCapacity(capacity) => self.set_capacity(capacity),
                Action::KeepToken(token) => {
                    if let Err(why) = self.serving.access.renew(&token) {
                        log::line(Level::Warn, format_args!("a new token is not kept: {why}"));
                    }
                }
                Action::Cancel(id, why) => self.cancel(id, why),
                Action::SendMetrics => {
                    let text = self.serving.metrics.text().unwrap_or_default();
                    let own = Kind::OwnMetrics(v1::OwnMetrics { text });
                    self.send(&FromWorker { kind: Some(own) });
                }
                Action::Drop => {
                    self.serving.metrics.reconnects.inc();
                    self.link = None;
                }
                Action::HangUp => {
                    if let Some(Live { link, writer }) = self.link.take() {
                        self.executor
                            .spawn(connection::hang_up(link, writer))
                            .detach();
                    }
                }
                Action::Rescan => self.rescan()?,
                Action::Finish => {}
            }
        }
        Ok(())
    }

    /// Brings the metrics up to date.
    fn update_metrics(&self) {
        let metrics = &self.serving.metrics;
        if self.session.is_linked() && metrics.connected.get() == 0 {
            // The memory that it took to start and to link is not needed soon.
            vitals::trim_memory();
        }
        metrics.toolchains.set(self.session.toolchains() as i64);
        metrics.connected.set(self.session.is_linked().into());
        let draining = self.session.is_draining();
        metrics.draining.store(draining, Ordering::Relaxed);
    }

    fn dial(&self) {
        let (finder, access) = (self.finder.clone(), self.serving.access.clone());
        let notices = self.notices.clone();
        let dial = async move {
            let dialled = finder.dial(&access).await;
            let _ = notices.send(Notice::Dialled(dialled)).await;
        };
        self.executor.spawn(dial).detach();
    }

    /// The coordinator was looked for, and is at `address`.
    fn found(&self, address: &str) {
        log::line(
            Level::Info,
            format_args!("found the coordinator at {address}"),
        );
        if let Err(why) = self.serving.access.moved(address) {
            log::line(Level::Warn, format_args!("that is not kept: {why}"));
        }
    }

    fn send(&mut self, message: &FromWorker) {
        if let Some(Kind::Failed(failed)) = &message.kind {
            let code = failed.failure.as_ref().map_or(0, |failure| failure.code);
            self.serving.metrics.count_failure(code);
        }
        let Some(live) = &self.link else {
            return;
        };
        let sent = match frame::encode(message) {
            Ok(frame) => live.link.urgent().send(frame),
            Err(error) => {
                log::line(Level::Error, format_args!("not sent: {error}"));
                true
            }
        };
        if !sent {
            let why = "the link does not move".into();
            let link = self.links;
            let _ = self.notices.try_send(Notice::WriterEnded { link, why });
        }
    }

    fn begin(
        &mut self,
        id: JobId,
        order: Order,
        compiler: Compiler,
        window_bytes: u32,
        expected_bytes: u64,
    ) {
        let Some(live) = &self.link else {
            return;
        };
        let mark = trace_id::mark(&order.trace_id);
        let what = format_args!("task {} begins{mark}", id.dispatch_id);
        log::line(Level::Debug, what);
        let control = match Control::new(window_bytes.into()) {
            Ok(control) => Arc::new(control),
            Err(error) => return self.not_begun(id, &error),
        };
        let (chunks, chunks_out) = async_channel::bounded(CHUNKS_MAX);
        let all_inputs = order.inputs.len();
        let hello = &self.serving.hello;
        let in_use = match (&compiler.tools, &self.serving.shipments) {
            (Tools::Shipped { digest, .. }, Some(shipments)) if compiler.is_clients() => {
                match shipments.hold(*digest) {
                    Some(in_use) => Some(in_use),
                    None => return self.not_here(id, *digest),
                }
            }
            _ => None,
        };
        let context = TaskContext {
            in_use,
            order,
            compiler,
            dispatch_id: id.dispatch_id,
            tasks: self.serving.tasks.clone(),
            name: format!("{}.{}-{}", self.run_id, id.link, id.dispatch_id),
            memo: self.serving.memo.clone(),
            memory_bytes: vitals::machine_memory_bytes(),
            slots: hello.slots,
            worker_bytes: hello.memory_bytes,
            share_bytes: hello.memory_bytes / u64::from(hello.slots.max(1)),
            expected_bytes,
            chunks: chunks_out,
            frames: live.link.bulk(),
            send_ahead: {
                let urgent = live.link.urgent().clone();
                Box::new(move |frame| {
                    urgent.send(frame);
                })
            },
            nice: self.serving.nice,
            control: control.clone(),
            gate: self.gate.clone(),
            sandbox: self.serving.sandbox.clone(),
            trees: self.serving.trees.clone(),
            on_inputs_missing: {
                let (notices, metrics) = (self.notices.clone(), self.serving.metrics.clone());
                Box::new(move |inputs| {
                    metrics.count_inputs(all_inputs, inputs);
                    drop(notices.send_blocking(Notice::InputsMissing { id, inputs }))
                })
            },
        };
        let (notices, metrics) = (self.notices.clone(), self.serving.metrics.clone());
        let spawned = thread::Builder::new()
            .name("task".into())
            .stack_size(STACK_BYTES)
            .spawn(move || carry_out(id, context, &notices, &metrics));
        match spawned {
            Ok(_) => {
                self.jobs.insert(id, Job { chunks, control });
            }
            Err(error) => self.not_begun(id, &error),
        }
    }

    fn take(&mut self, id: JobId, delivery: Delivery) {
        let (Some(live), Some(shipments)) = (&self.link, &self.serving.shipments) else {
            return self.not_begun(id, &io::ErrorKind::NotConnected.into());
        };
        let control = match Control::new(0) {
            Ok(control) => Arc::new(control),
            Err(error) => return self.not_begun(id, &error),
        };
        let (chunks, chunks_out) = async_channel::bounded(CHUNKS_MAX);
        let setting = delivery::Setting {
            delivery,
            dispatch_id: id.dispatch_id,
            name: format!("{}.{}-{}", self.run_id, id.link, id.dispatch_id),
            tasks: self.serving.tasks.clone(),
            shipments: shipments.clone(),
            sandbox: self.serving.sandbox.clone(),
            chunks: chunks_out,
            send_ahead: {
                let urgent = live.link.urgent().clone();
                Box::new(move |frame| {
                    urgent.send(frame);
                })
            },
            on_gone: {
                let notices = self.notices.clone();
                Box::new(move |gone| drop(notices.send_blocking(Notice::ShipmentsGone(gone))))
            },
            control: control.clone(),
            lacks: {
                let notices = self.notices.clone();
                Box::new(move |inputs| {
                    drop(notices.send_blocking(Notice::InputsMissing { id, inputs }))
                })
            },
        };
        let notices = self.notices.clone();
        let spawned = thread::Builder::new()
            .name("delivery".into())
            .stack_size(STACK_BYTES)
            .spawn(move || take_delivery(id, &setting, &notices));
        match spawned {
            Ok(_) => {
                self.jobs.insert(id, Job { chunks, control });
            }
            Err(error) => self.not_begun(id, &error),
        }
    }

    /// The toolchain of a task went while the task was on its way.
    fn not_here(&mut self, id: JobId, digest: Digest) {
        let ended = Notice::JobEnded {
            id,
            compiler_gone: None,
        };
        for notice in [Notice::ShipmentsGone(vec![digest]), ended] {
            let _ = self.notices.try_send(notice);
        }
        self.send(&FromWorker {
            kind: Some(Kind::Failed(v1::Failed {
                dispatch_id: id.dispatch_id,
                failure: Some(failure(Code::NoToolchain, "dropped to make room")),
            })),
        });
    }

    fn not_begun(&mut self, id: JobId, error: &io::Error) {
        let notice = Notice::JobEnded {
            id,
            compiler_gone: None,
        };
        let _ = self.notices.try_send(notice);
        self.send(&FromWorker {
            kind: Some(Kind::Failed(v1::Failed {
                dispatch_id: id.dispatch_id,
                failure: Some(failure(Code::Worker, format!("starting a task: {error}"))),
            })),
        });
    }

    fn cancel(&mut self, id: JobId, why: v1::Failure) {
        if let Some(job) = self.jobs.get(&id) {
            if let Some(live) = &mut self.link {
                live.link.drop_stalled(&job.chunks);
            }
            job.control.cancel(why);
            job.chunks.close();
            self.gate.wake();
        }
    }

    fn set_capacity(&self, capacity: Capacity) {
        self.gate.set_capacity(capacity);
        self.serving.metrics.slots_now.set(capacity.slots.into());
        let (slots, most) = (capacity.slots, self.serving.hello.slots);
        match capacity.why {
            "" => log::line(Level::Info, format_args!("all {most} slots again")),
            why => log::line(Level::Info, format_args!("{slots} of {most} slots: {why}")),
        }
    }

    /// Looks for compilers in a thread: it takes a while.
    fn rescan(&self) -> io::Result<()> {
        let (memo, notices) = (self.serving.memo.clone(), self.notices.clone());
        let places = self.serving.places.clone();
        let (sandbox, tasks) = (self.serving.sandbox.clone(), self.serving.tasks.clone());
        let trees = self.serving.trees.is_some();
        let shipments = self.serving.shipments.clone();
        let images = self.serving.images.clone();
        thread::Builder::new()
            .name("toolchains".into())
            .spawn(move || {
                let mut found = toolchains::find(&places, &memo);
                trial::retain_working(&mut found, &sandbox, &tasks);
                if trees {
                    toolchains::offer_tree_form(&mut found, &memo);
                }
                if let Some(images) = images {
                    if !found.is_empty() && !images.are_known() {
                        // Nobody waits for an image to be looked into.
                        let _ = notices.send_blocking(Notice::Toolchains(found.clone()));
                    }
                    images.offer(&mut found, &sandbox, &tasks, trees);
                }
                if let Some(shipments) = shipments {
                    shipments.load();
                    toolchains::offer_shipped(&mut found, &shipments);
                }
                vitals::trim_memory();
                let _ = notices.send_blocking(Notice::Toolchains(found));
            })
            .map(drop)
    }
}

async fn listen(mut signals: Async<UnixStream>, notices: Sender<Notice>) {
    let mut byte = [0];
    while let Ok(1..) = signals.read(&mut byte).await {
        if notices.send(Notice::Signal).await.is_err() {
            return;
        }
    }
}

/// A delivery's thread.
fn take_delivery(id: JobId, setting: &delivery::Setting, notices: &Sender<Notice>) {
    let taken = panic::catch_unwind(AssertUnwindSafe(|| delivery::run(setting)));
    let (last, added) = taken.unwrap_or_else(|_| (delivery::panicked(id.dispatch_id), None));
    if let Some(Kind::Failed(failed)) = &last.kind {
        let detail = failed.failure.as_ref().map_or("", |f| &f.detail);
        log::line(
            Level::Info,
            format_args!("toolchain not taken, task {}: {detail}", id.dispatch_id),
        );
    }
    let _ = notices.send_blocking(Notice::Delivered {
        id,
        added: added.map(Box::new),
        last: Box::new(last),
    });
}

/// Body of a task's thread. The slot is free before the coordinator hears of the task's end,
/// so that its next task for this slot is never one too many.
fn carry_out(id: JobId, context: TaskContext, notices: &Sender<Notice>, metrics: &Metrics) {
    // A panic costs this task, and neither its slot nor the worker (but the whole worker where
    // panics abort, as in the small profile).
    let end = panic::catch_unwind(AssertUnwindSafe(|| task::run(&context)))
        .unwrap_or_else(|_| task::TaskEnd::panicked(id.dispatch_id));
    let mark = trace_id::mark(&context.order.trace_id);
    match (end.failed, &end.last.kind) {
        (Some(code), Some(Kind::Failed(failed))) => {
            metrics.count_failure(code);
            let detail = failed.failure.as_ref().map_or("", |f| &f.detail);
            log::line(
                Level::Info,
                format_args!("task {}: {detail}{mark}", id.dispatch_id),
            );
        }
        _ => {
            metrics.count_done();
            let what = format_args!("task {} ended{mark}", id.dispatch_id);
            log::line(Level::Debug, what);
        }
    }
    if let Some(seconds) = end.compile_s {
        metrics.compile_seconds.observe(seconds);
    }
    let last = frame::encode(&end.last);
    let compiler_gone = end.compiler_gone.then_some(context.order.toolchain);
    let _ = notices.send_blocking(Notice::JobEnded { id, compiler_gone });
    match last {
        // Nobody to tell when the link is gone.
        Ok(frame) => drop(context.frames.send_blocking(frame)),
        Err(error) => log::line(Level::Error, format_args!("not sent: {error}")),
    }
}
