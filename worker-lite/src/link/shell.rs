//! Performs what [`crate::link::session`] decides: sockets, threads, timers, signals.

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
use smol::io::AsyncReadExt;
use smol::{Async, LocalExecutor, Task, future};

use crate::inputs::tree::Trees;
use crate::inputs::validate::{Order, failure};
use crate::link::access::Access;
use crate::link::connection::{self, Inbound, Link, Wire};
use crate::link::session::{Action, Event, JobId, Session};
use crate::log::{self, Level};
use crate::machine::admission::{Bears, DISK_FLOOR_BYTES, Vitals};
use crate::machine::usage::Meter;
use crate::machine::vitals;
use crate::metrics::Metrics;
use crate::sandbox::facade::Sandbox;
use crate::tasks::control::Control;
use crate::tasks::gate::Gate;
use crate::tasks::task::{self, Setting};
use crate::tasks::toolchains::{self, Catalogue, Compiler};
use crate::tasks::trial;

/// Parts of inputs that may wait for one task.
const CHUNKS_MAX: usize = 4;
/// Bytes of the stack of a thread that carries out a task or looks at compilers.
const STACK_BYTES: usize = 256 << 10;
/// How old measured vitals may be.
const VITALS_AGE: Duration = Duration::from_millis(250);

/// How long a task waits for memory before it goes elsewhere.
const SHORT_MAX: Duration = Duration::from_secs(5);
/// How long without work makes a worker idle.
const TRIM_AFTER: Duration = Duration::from_secs(3);
/// How long without work until trees are cleared: people edit between two builds, and
/// some disks are slow to make folders.
const CLEAR_AFTER: Duration = Duration::from_secs(300);

/// What a worker is to serve with.
pub struct Serving {
    /// HOST:PORT.
    pub coordinator: String,
    /// As whom it is dialled.
    pub access: Access,
    /// What it says of itself; toolchains come later.
    pub hello: v1::Hello,
    /// Where task folders lie.
    pub tasks: PathBuf,
    /// How far below other programs compilers run, 0 to 19.
    pub nice: i32,
    /// Others' use of the machine costs no slots.
    pub dedicated: bool,
    /// Where what is known about compilers is kept.
    pub memo: PathBuf,
    /// What holds compilers.
    pub sandbox: Arc<Sandbox>,
    /// For tasks of the tree form; `None`: none are taken.
    pub trees: Option<Arc<Trees>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// One byte for each signal.
    pub signals: UnixStream,
}

/// Serves until a signal or the coordinator drains it and all is done.
///
/// # Errors
/// The system gives no descriptors or threads to start with.
pub fn serve(serving: Serving) -> io::Result<()> {
    let executor = Rc::new(LocalExecutor::new());
    let signals = Async::new(serving.signals.try_clone()?)?;
    let (notices, noticed) = async_channel::unbounded();
    let shell = Shell {
        session: Session::new(serving.hello.clone(), fastrand::u64(..)),
        executor: executor.clone(),
        notices,
        link: None,
        links: 0,
        jobs: HashMap::new(),
        gate: Arc::new(Gate::new(
            serving.hello.slots,
            SHORT_MAX,
            serving.metrics.running.clone(),
        )),
        vitals: None,
        meter: Meter::new(serving.nice),
        busy: None,
        has_trees: None,
        boot: format!("{:08x}", fastrand::u32(..)),
        serving,
    };
    // `smol::block_on` would wait for sockets here, and async-io's own thread wake up again
    // and again to see whether it should: a sixth of what a task costs.
    future::block_on(executor.run(shell.run(noticed, signals)))
}

/// What the other tasks and threads tell the loop.
enum Notice {
    /// A connection, and what to say on it.
    Dialled(Result<(Wire, String), String>),
    WriterEnded {
        link: u64,
        why: String,
    },
    Toolchains(Catalogue),
    JobEnded {
        id: JobId,
        compiler_gone: Option<Digest>,
    },
    Lacks {
        id: JobId,
        inputs: usize,
    },
    Signal,
}

/// The link that is up, and its writer.
struct Live {
    link: Link,
    writer: Task<()>,
}

/// The ways to a running job.
struct Job {
    chunks: Sender<Arc<Chunk>>,
    control: Arc<Control>,
}

struct Shell {
    session: Session,
    executor: Rc<LocalExecutor<'static>>,
    notices: Sender<Notice>,
    link: Option<Live>,
    links: u64,
    jobs: HashMap<JobId, Job>,
    gate: Arc<Gate>,
    vitals: Option<(Instant, Vitals)>,
    meter: Meter,
    /// When the last task ended, until memory was given back after it.
    busy: Option<Instant>,
    /// The same, until trees are cleared.
    has_trees: Option<Instant>,
    /// Tells this start's task folders from any other's.
    boot: String,
    serving: Serving,
}

/// What the loop wakes up for.
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
                Wake::Time => Some(Event::Tick),
            };
            let Some(event) = event else {
                continue;
            };
            self.trim_if_idle();
            let vitals = self.vitals();
            let actions = self.session.handle(Instant::now(), &vitals, event);
            let finish = actions.contains(&Action::Finish);
            self.perform(actions)?;
            self.show();
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
        let time = async {
            match next_wake {
                Some(at) => {
                    smol::Timer::at(at).await;
                    Wake::Time
                }
                None => future::pending().await,
            }
        };
        future::or(notice, future::or(inbound, time)).await
    }

    fn noticed(&mut self, notice: Notice) -> Option<Event> {
        match notice {
            Notice::Dialled(Ok((wire, token))) => {
                self.connected(wire);
                Some(Event::Dialled(token))
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
            Notice::Toolchains(catalogue) => Some(Event::Toolchains(catalogue)),
            Notice::JobEnded { id, compiler_gone } => {
                self.jobs.remove(&id);
                self.busy = Some(Instant::now());
                self.has_trees = self.busy;
                Some(Event::JobEnded { id, compiler_gone })
            }
            Notice::Lacks { id, inputs } => Some(Event::Lacks { id, inputs }),
            Notice::Signal => Some(Event::Signal),
        }
    }

    fn connected(&mut self, wire: Wire) {
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
    /// latest brings us here.
    fn trim_if_idle(&mut self) {
        if !self.jobs.is_empty() {
            return;
        }
        let idle = |at: &mut Instant| at.elapsed() >= TRIM_AFTER;
        if self.busy.take_if(idle).is_some() {
            vitals::trim_memory();
        }
        let Some(since) = self.has_trees else {
            return;
        };
        let free_bytes = self.vitals().disk_free_bytes;
        let is_full = free_bytes.is_some_and(|bytes| bytes < DISK_FLOOR_BYTES);
        if is_full || since.elapsed() >= CLEAR_AFTER {
            self.has_trees = None;
            self.clear_trees();
        }
    }

    /// Clears what the next task could use again, in a thread: the disk may be slow.
    fn clear_trees(&self) {
        if let Some(trees) = self.serving.trees.clone() {
            let rest = move || {
                trees.rest();
                vitals::trim_memory();
            };
            // Without a thread it stays, which is bounded.
            let _ = thread::Builder::new()
                .name("trees".into())
                .stack_size(STACK_BYTES)
                .spawn(rest);
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
                Action::Say(level, text) => log::line(level, format_args!("{text}")),
                Action::Dial => self.dial(),
                Action::Send(message) => self.send(&message),
                Action::Begin {
                    id,
                    order,
                    compiler,
                    window_bytes,
                    expected_bytes,
                } => self.begin(id, *order, *compiler, window_bytes, expected_bytes),
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
                Action::Bear(bears) => self.bear(bears),
                Action::KeepToken(token) => {
                    if let Err(why) = self.serving.access.renew(&token) {
                        log::line(Level::Warn, format_args!("a new token is not kept: {why}"));
                    }
                }
                Action::Cancel(id, why) => self.cancel(id, why),
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

    /// Brings what others see up to date.
    fn show(&self) {
        let metrics = &self.serving.metrics;
        if self.session.is_linked() && metrics.connected.get() == 0 {
            // What it took to start and to link is not needed soon.
            vitals::trim_memory();
        }
        metrics.toolchains.set(self.session.toolchains() as i64);
        metrics.connected.set(self.session.is_linked().into());
        let draining = self.session.is_draining();
        metrics.draining.store(draining, Ordering::Relaxed);
    }

    fn dial(&self) {
        let coordinator = self.serving.coordinator.clone();
        let notices = self.notices.clone();
        let pass = self.serving.access.pass(&coordinator);
        let dial = async move {
            let dialled = async {
                let pass = pass?;
                let wire = connection::dial(&coordinator, pass.dial.as_ref()).await?;
                Ok((wire, pass.token))
            };
            let dialled = dialled.await;
            let _ = notices.send(Notice::Dialled(dialled)).await;
        };
        self.executor.spawn(dial).detach();
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
            Ok(frame) => live.link.ahead().send(frame),
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
        let control = match Control::new(window_bytes.into()) {
            Ok(control) => Arc::new(control),
            Err(error) => return self.not_begun(id, &error),
        };
        let (chunks, chunks_out) = async_channel::bounded(CHUNKS_MAX);
        let hello = &self.serving.hello;
        let setting = Setting {
            order,
            compiler,
            dispatch_id: id.dispatch_id,
            tasks: self.serving.tasks.clone(),
            name: format!("{}.{}-{}", self.boot, id.link, id.dispatch_id),
            memo: self.serving.memo.clone(),
            memory_bytes: vitals::machine_memory_bytes(),
            slots: hello.slots,
            worker_bytes: hello.memory_bytes,
            share_bytes: hello.memory_bytes / u64::from(hello.slots.max(1)),
            expected_bytes,
            chunks: chunks_out,
            frames: live.link.bulk(),
            ahead: {
                let ahead = live.link.ahead().clone();
                Box::new(move |frame| {
                    ahead.send(frame);
                })
            },
            nice: self.serving.nice,
            control: control.clone(),
            gate: self.gate.clone(),
            sandbox: self.serving.sandbox.clone(),
            trees: self.serving.trees.clone(),
            lacks: {
                let notices = self.notices.clone();
                Box::new(move |inputs| drop(notices.send_blocking(Notice::Lacks { id, inputs })))
            },
        };
        let (notices, metrics) = (self.notices.clone(), self.serving.metrics.clone());
        let spawned = thread::Builder::new()
            .name("task".into())
            .stack_size(STACK_BYTES)
            .spawn(move || carry_out(id, setting, &notices, &metrics));
        match spawned {
            Ok(_) => {
                self.jobs.insert(id, Job { chunks, control });
            }
            Err(error) => self.not_begun(id, &error),
        }
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
                live.link.forget(&job.chunks);
            }
            job.control.cancel(why);
            job.chunks.close();
            self.gate.wake();
        }
    }

    fn bear(&self, bears: Bears) {
        self.gate.bear(bears);
        self.serving.metrics.slots_now.set(bears.slots.into());
        let (slots, most) = (bears.slots, self.serving.hello.slots);
        match bears.why {
            "" => log::line(Level::Info, format_args!("all {most} slots again")),
            why => log::line(Level::Info, format_args!("{slots} of {most} slots: {why}")),
        }
    }

    /// Looks for compilers in a thread: it takes a while.
    fn rescan(&self) -> io::Result<()> {
        let (memo, notices) = (self.serving.memo.clone(), self.notices.clone());
        let (sandbox, tasks) = (self.serving.sandbox.clone(), self.serving.tasks.clone());
        let trees = self.serving.trees.is_some();
        thread::Builder::new()
            .name("toolchains".into())
            .spawn(move || {
                let mut found = toolchains::find(&memo);
                trial::keep_working(&mut found, &sandbox, &tasks);
                if trees {
                    toolchains::offer_in_place(&mut found, &memo);
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

/// A task's thread. The slot is free before the coordinator hears of the end, so
/// that its next task for this slot is never one too many.
fn carry_out(id: JobId, setting: Setting, notices: &Sender<Notice>, metrics: &Metrics) {
    // A bug of ours costs this task, and neither its slot nor the worker (but all of it
    // where panics abort, as in the small profile).
    let end = panic::catch_unwind(AssertUnwindSafe(|| task::run(&setting)))
        .unwrap_or_else(|_| task::End::broken(id.dispatch_id));
    match (end.failed, &end.last.kind) {
        (Some(code), Some(Kind::Failed(failed))) => {
            metrics.count_failure(code);
            let detail = failed.failure.as_ref().map_or("", |f| &f.detail);
            log::line(
                Level::Info,
                format_args!("task {}: {detail}", id.dispatch_id),
            );
        }
        _ => metrics.count_done(),
    }
    if let Some(seconds) = end.compile_s {
        metrics.compile_seconds.observe(seconds);
    }
    let last = frame::encode(&end.last);
    let compiler_gone = end.compiler_gone.then_some(setting.order.toolchain);
    let _ = notices.send_blocking(Notice::JobEnded { id, compiler_gone });
    match last {
        // Nobody to tell when the link is gone.
        Ok(frame) => drop(setting.frames.send_blocking(frame)),
        Err(error) => log::line(Level::Error, format_args!("not sent: {error}")),
    }
}
