//! `hgbuild COMPILER ARGS...`: one compile, from what was typed to the files
//! that lie there afterwards. Each step says why it stops, and then the user's
//! own compiler runs.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::io::{Read, Seek};
use std::path::Path;
use std::time::Instant;

use hg_proto::args::Reason;
use hg_proto::v1::Task;
use smol::future;

use crate::access::Access;
use crate::answer::Output;
use crate::attempt::{self, CONNECT_MS_MAX, Lost, Memo};
use crate::cached::{self, Asked, Keeper};
use crate::compiler::{self, Found};
use crate::config::Config;
use crate::events::{self, Place, Record};
use crate::grpc::{Connection, GrpcError, Tasks};
use crate::inputs::{self, Gathered, Preprocessing, Wanted};
use crate::local::{self, Ended};
use crate::memo::{Known, Memos};
use crate::os;
use crate::output::{self, Pending, Style};
use crate::plan::Plan;
use crate::report;
use crate::signals;
use crate::slots::{Slot, Slots};
use crate::store::Compiled;
use crate::submit::{self, Cost, Outcome};

/// Exit code when the grid failed and a local compile is not allowed.
const NO_FALLBACK_EXIT: i32 = 75;

/// Why the compiler runs here.
enum Stay {
    /// It had to, or had better: not the grid's fault.
    Here(Reason),
    /// The same, with the slot for it in hand.
    Idle(Reason, Slot),
    /// The grid failed.
    GridFailed(Reason),
}

impl From<Reason> for Stay {
    fn from(reason: Reason) -> Self {
        Stay::Here(reason)
    }
}

fn reason(code: &'static str, detail: impl std::fmt::Display) -> Reason {
    Reason {
        code,
        detail: detail.to_string(),
    }
}

/// One invocation.
struct Wrap<'a> {
    config: &'a Config,
    began: Instant,
    record: Record,
    // Counting the cores takes longer than a cached answer.
    slots: OnceCell<Option<Slots>>,
    memos: Memos,
}

/// Runs `name` with `args` as a compile; ends this process as the compiler would.
pub fn compile(name: OsString, args: Vec<OsString>, config: &Config) -> ! {
    let began = Instant::now();
    let Some(found) = compiler::find(&name, &args, config) else {
        eprintln!("hgbuild: {}: no such program", name.to_string_lossy());
        std::process::exit(127);
    };
    let run = config.run_folder();
    let mut wrap = Wrap {
        config,
        began,
        record: Record {
            compiler: os::bytes(&found.command.arg0).to_vec(),
            ..Record::default()
        },
        slots: OnceCell::new(),
        memos: Memos::new(run.as_deref()),
    };
    let (stay, keep) = match wrap.plan(&found) {
        Err(stay) => (stay, None),
        Ok(plan) => {
            let keeper = wrap.cached(&found, &plan);
            match wrap.elsewhere(&found, &plan, keeper.is_some()) {
                Ok(result) => wrap.finish(&found, &plan, result, keeper),
                Err(stay) => (stay, keeper.map(|keeper| (keeper, plan))),
            }
        }
    };
    if let Some(signal) = signals::seen() {
        Ended::Signal(signal as i32).now();
    }
    wrap.here(&found, stay, keep)
}

impl Wrap<'_> {
    fn slots(&self) -> Option<&Slots> {
        let slots = self.slots.get_or_init(|| {
            let folder = self.config.run_folder()?;
            Some(Slots::new(&folder, self.config.local_slots))
        });
        slots.as_ref()
    }

    /// What is to be done.
    fn plan(&mut self, found: &Found) -> Result<Plan, Stay> {
        if self.config.disabled {
            return Err(reason("disabled", "HG_DISABLE").into());
        }
        let name = found.name.ok_or_else(|| reason("not-a-compiler", ""));
        let plan = name.and_then(|name| Plan::read(found, name));
        let plan = plan.inspect_err(|reason| cached::bypassed(self.config, reason))?;
        self.record.source = plan.compile.source.clone();
        self.record.output = plan.compile.output_path();
        Ok(plan)
    }

    /// Ends this process if the cache has the answer; else says who keeps it.
    fn cached(&self, found: &Found, plan: &Plan) -> Option<Box<Keeper>> {
        let wait = || self.slots().and_then(Slots::wait);
        match cached::ask(self.config, found, plan, wait) {
            Asked::No => None,
            Asked::Unknown(keeper) => Some(keeper),
            Asked::Answered(how) => {
                self.tell(Place::Cache, &reason(how, ""), 0);
                std::process::exit(0)
            }
        }
    }

    /// Everything up to a result from the grid, its outputs in place.
    fn elsewhere(&mut self, found: &Found, plan: &Plan, kept: bool) -> Result<Compiled, Stay> {
        let config = self.config;
        if let Some(trouble) = &config.trouble {
            return Err(reason("config", trouble).into());
        }
        let address = config
            .coordinator
            .as_deref()
            .ok_or_else(|| reason("no-coordinator", ""))?;
        plan.compile.travel.clone()?;
        plan.check_files()?;
        let slow = [address.as_bytes(), b"slow"].concat();
        let was_slow = self.memos.recall(&slow, attempt::slow_memo);
        let idle = match was_slow {
            Known::Bad(_) => Slots::instead,
            Known::Nothing | Known::Retry => Slots::idle,
        };
        if let Some(slot) = self.slots().and_then(idle) {
            return Err(Stay::Idle(reason("local-slot", "idle"), slot));
        }
        let mut retry = false;
        match self.memos.recall(address.as_bytes(), attempt::down_memo) {
            Known::Bad(words) => return Err(Stay::GridFailed(reason("grid-down", words))),
            known => retry |= known == Known::Retry,
        }
        os::keep_memory();
        let probe = plan.probe(found, config)?;
        let toolchain = probe
            .toolchain(plan.compile.language)
            .ok_or_else(|| reason("unknown-compiler", "not for this language"))?;
        let missing = [address.as_bytes(), &toolchain.digest].concat();
        match self.memos.recall(&missing, attempt::toolchain_memo) {
            Known::Bad(words) => return Err(Stay::GridFailed(reason("no-worker", words))),
            known => retry |= known == Known::Retry,
        }
        let tasks = Tasks::new();
        let (connection, gathered) = self.gather(&tasks, address, found, plan)?;
        if signals::seen().is_some() {
            // Came while the preprocessor ran, and would be lost from here on.
            return Err(reason("interrupted", "").into());
        }
        let task = plan.task(probe, toolchain, &gathered, config)?;
        let sent = self.send(&tasks, connection, task, &gathered, plan, kept);
        if retry && !matches!(sent, Err(Attempt::Lost(_))) {
            self.memos.forget(address.as_bytes());
            self.memos.forget(&missing);
        }
        if was_slow != Known::Nothing && sent.is_ok() {
            self.memos.forget(&slow);
        }
        let remember = |lost: &Lost| {
            let (reason, memo) = attempt::after_loss(lost);
            match memo {
                Memo::Coordinator => self.memos.note(address.as_bytes(), &reason.to_string()),
                Memo::Toolchain => self.memos.note(&missing, &reason.detail),
                Memo::Slow => self.memos.note(&slow, &reason.to_string()),
                Memo::None => {}
            }
            reason
        };
        let (object, stderr) = sent.map_err(|lost| match lost {
            Attempt::Lost(lost) => Stay::GridFailed(remember(&lost)),
            Attempt::TakenBack(slot, lost) => Stay::Idle(remember(&lost), slot),
            Attempt::Stay(stay) => stay,
        })?;
        Ok(Compiled {
            object,
            dependencies: gathered.dependencies.map(Output::keep),
            stderr,
            listed: gathered.listed,
            compile_ms: millis(self.began),
        })
    }

    /// Preprocesses and dials at the same time.
    fn gather(
        &self,
        tasks: &Tasks,
        address: &str,
        found: &Found,
        plan: &Plan,
    ) -> Result<(Connection, Gathered), Stay> {
        let access = Access::find(self.config);
        let access = access.map_err(|why| Stay::GridFailed(reason("no-token", why)))?;
        let slot = self.slots().and_then(Slots::wait);
        let mut preprocessing =
            Preprocessing::start(found, &plan.compile, plan.dialect, Wanted::Travelling)?;
        let connection = tasks.run(Connection::open(tasks, access, CONNECT_MS_MAX));
        let text = preprocessing.text()?;
        let connection = connection.map_err(|error| {
            let words = reason("grid-unreachable", &error);
            self.memos.note(address.as_bytes(), &words.to_string());
            Stay::GridFailed(words)
        })?;
        let dependencies = preprocessing.dependencies()?;
        drop(preprocessing);
        drop(slot);
        inputs::check_files(&text, &plan.compile, plan.dialect)?;
        let gathered = inputs::pack(&text, dependencies, plan.dialect)?;
        Ok((connection, gathered))
    }

    /// Has the task compiled and puts what came back in its place. Returns the
    /// object, if it is to be kept, and what was said.
    fn send(
        &mut self,
        tasks: &Tasks,
        mut connection: Connection,
        task: Task,
        gathered: &Gathered,
        plan: &Plan,
        kept: bool,
    ) -> Result<(Output, Vec<u8>), Attempt> {
        let began = Instant::now();
        let style = plan.object_style();
        let cannot_write = |error: std::io::Error| Attempt::Stay(reason("output", error).into());
        let mut object = Pending::new(&plan.object, style).map_err(cannot_write)?;
        let wanted = task.outputs.first().cloned().unwrap_or_default();
        let mut cost = Cost::default();
        let overtaking = self.slots().filter(|slots| slots.travelling() > 0);
        let beside = connection.clone();
        let compile = submit::submit(
            &mut connection,
            task,
            &gathered.encoded,
            object.file(),
            overtaking,
            &mut cost,
        );
        // While the worker works there is time to spare.
        let outcome = tasks.run(future::or(compile, async {
            report::report(self.config, beside).await;
            future::pending().await
        }));
        self.record.bytes_up = cost.bytes_up;
        self.record.bytes_down = cost.bytes_down;
        self.record.worker = cost.worker;
        self.record.remote_ms = millis(began);
        let returned = match outcome.map_err(Attempt::Lost)? {
            Outcome::Returned(returned) => returned,
            Outcome::TakenBack(slot, why) => return Err(Attempt::TakenBack(slot, why)),
        };
        self.record.queue_ms = returned.queue_ms;
        attempt::accept(&returned.result, plan.dialect.family, &wanted)
            .map_err(|reason| Attempt::Stay(reason.into()))?;
        let mut files = Vec::new();
        if let (Some(path), Some(content)) = (&plan.dependencies, &gathered.dependencies) {
            let file = Pending::with(path, Style::Rewrite, content);
            files.push(file.map_err(cannot_write)?);
        }
        let mut content = Vec::new();
        if kept {
            let file = object.file();
            file.rewind().map_err(cannot_write)?;
            file.read_to_end(&mut content).map_err(cannot_write)?;
        }
        files.push(object);
        output::put_all(files).map_err(cannot_write)?;
        Ok((Output::keep(content), returned.result.stderr))
    }

    /// A good result is there: says so, keeps it and ends.
    fn finish(
        &self,
        found: &Found,
        plan: &Plan,
        result: Compiled,
        keeper: Option<Box<Keeper>>,
    ) -> ! {
        use std::io::Write;
        // Nobody may be reading; the compiler would not care either.
        let _ = std::io::stderr().write_all(&result.stderr);
        if let Some(keeper) = keeper {
            keeper.keep(found, plan, result);
        }
        self.tell(Place::Remote, &reason("remote", ""), 0);
        std::process::exit(0)
    }

    /// The user's own compiler.
    fn here(&self, found: &Found, stay: Stay, keep: Option<(Box<Keeper>, Plan)>) -> ! {
        let (reason, slot) = match stay {
            Stay::GridFailed(reason) if !self.config.fallback => {
                let why = events::printable(&reason.to_string());
                eprintln!("hgbuild: the grid failed and --no-fallback is set: {why}");
                self.tell(Place::Local, &reason, NO_FALLBACK_EXIT);
                std::process::exit(NO_FALLBACK_EXIT);
            }
            Stay::Idle(reason, slot) => (reason, Some(slot)),
            Stay::Here(reason) | Stay::GridFailed(reason) => {
                let slot = match takes_a_slot(found, self.config) {
                    true => self.slots().and_then(Slots::wait),
                    false => None,
                };
                (reason, slot)
            }
        };
        if let Some((keeper, plan)) = keep {
            // Where this fails nothing ran, and the plain way is left.
            if let Ok(said) = keeper.compile(found, &plan) {
                drop(slot);
                self.tell(Place::Local, &reason, said.ended.code());
                said.ended.now()
            }
        }
        if !events::wanted(self.config) {
            if let Some(slot) = &slot {
                slot.keep_over_exec();
            }
            cannot_run(found, &local::become_it(&found.command));
        }
        match local::run(&found.command) {
            Ok(ended) => {
                drop(slot);
                self.tell(Place::Local, &reason, ended.code());
                ended.now()
            }
            Err(error) => cannot_run(found, &error),
        }
    }

    fn tell(&self, place: Place, reason: &Reason, exit: i32) {
        let wall_ms = millis(self.began);
        events::record(self.config, &self.record, place, reason, exit, wall_ms);
    }
}

/// Why there is no result of an attempt.
enum Attempt {
    Lost(Lost),
    /// It runs in this slot instead.
    TakenBack(Slot, Lost),
    Stay(Stay),
}

fn millis(since: Instant) -> u64 {
    since.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
}

fn cannot_run(found: &Found, error: &std::io::Error) -> ! {
    eprintln!("hgbuild: {}: {error}", found.command.program.display());
    std::process::exit(126)
}

/// Compilers and preprocessors take a slot; what only links or answers a
/// question does not, nor what reads a pipe that another one fills.
fn takes_a_slot(found: &Found, config: &Config) -> bool {
    if config.disabled || found.name.is_none() {
        return false;
    }
    let mut works = false;
    for arg in &found.args {
        match os::bytes(arg) {
            b"-" => return false,
            b"-c" | b"-S" | b"-E" | b"-M" | b"-MM" | b"-fsyntax-only" => works = true,
            _ => {}
        }
    }
    // A script may call us again, and would wait for the slot that it holds.
    works && is_binary(&found.command.program)
}

fn is_binary(program: &Path) -> bool {
    let mut magic = [0; 2];
    let read = std::fs::File::open(program).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && &magic != b"#!"
}

/// What `hgbuild status` and a build need to know of the grid.
pub fn connect(config: &Config, tasks: &Tasks) -> Result<Connection, String> {
    if let Some(trouble) = &config.trouble {
        return Err(trouble.clone());
    }
    let access = Access::find(config)?;
    let address = access.address.clone();
    tasks
        .run(Connection::open(tasks, access, CONNECT_MS_MAX))
        .map_err(|error: GrpcError| match error {
            // It has the address in it.
            GrpcError::Connect(why) => why,
            other => format!("{address}: {other}"),
        })
}
