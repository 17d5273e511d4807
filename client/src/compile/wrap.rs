//! `hgbuild COMPILER ARGS...`: one compile, from what was typed to the files
//! that lie there afterwards. Each step says why it stops, and then the user's
//! own compiler runs.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::io::{Read, Seek};
use std::time::Instant;

use hg_proto::compiler::toolchain::Family;
use hg_proto::options::args::{self, Reason};
use hg_proto::v1::{
    GetStatusRequest, GetStatusResponse, SubmitRequest, Task, failure::Code, submit_request,
};
use smol::future;

use crate::cache::answer::Output;
use crate::cache::keeper::{self, CacheAnswer, Keeper};
use crate::cache::store::Compiled;
use crate::cli;
use crate::compile::events::{self, Place, Record};
use crate::compile::report;
use crate::config::Config;
use crate::grid::access::Access;
use crate::grid::arriving::Arriving;
use crate::grid::attempt::{self, ACCEPT_MS_MAX, CONNECT_MS_MAX, Lost, Memo, Says};
use crate::grid::grpc::{Connection, GrpcError, Tasks};
use crate::grid::memo::{Known, Memos};
use crate::grid::object;
use crate::grid::own_speed;
use crate::grid::payload::Payload;
use crate::grid::submit::{self, Cost, Outcome, Sink};
use crate::includes::closure::{self, Closure};
use crate::includes::dependency_list::Listed;
use crate::includes::headers;
use crate::inputs::preprocessed::{self, Gathered, Macros, Preprocessing};
use crate::inputs::text_checks;
use crate::inputs::tree;
use crate::invocation::plan::{CONFIGURE_PROBE, Heard, Plan};
use crate::local::compiler::{self, Found};
use crate::local::output::{self, Pending, Style};
use crate::local::process::{self, Ended};
use crate::local::signals;
use crate::local::slots::{Slot, Slots};
use crate::os;
use crate::say;
use crate::shield::{joined, shielded};

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

/// What became of a compile without the user's own compiler.
enum Away {
    /// A good result, in its place; who keeps it.
    Finished(Plan, Compiled, Option<Box<Keeper>>),
    /// Nothing; who keeps what the own one makes.
    Stays(Stay, Option<(Box<Keeper>, Plan)>),
}

/// One invocation.
struct Wrap<'a> {
    config: &'a Config,
    began: Instant,
    record: Record,
    // Counting the cores takes longer than a cached answer.
    slots: OnceCell<Option<Slots>>,
    memos: Memos,
    /// What is known of sources, and what this one is called there.
    sources: Memos,
    subject: OnceCell<Vec<u8>>,
    /// Of a tree form that failed where a local compile may not.
    doubted: Option<Doubted>,
}

/// A compile that failed on a worker.
struct Doubted {
    /// The memo of its toolchain.
    toolchain: Vec<u8>,
    /// The memo of the source.
    source: Vec<u8>,
}

/// Runs `name` with `args` as a compile; ends this process as the compiler would.
pub fn compile(name: OsString, args: Vec<OsString>, config: &Config) -> ! {
    let began = Instant::now();
    let Some(mut found) = compiler::find(&name, &args, config) else {
        let name = name.to_string_lossy();
        let meant = match cli::command_like(&name) {
            Some(command) => format!("; did you mean 'hgbuild {command}'?"),
            None => String::new(),
        };
        say::warn(format_args!("{name}: no such program{meant}"));
        std::process::exit(127);
    };
    if let Some(why) = config.refused.as_ref().filter(|_| !config.disabled) {
        say::warn(format_args!("{why}: compiling plainly"));
    }
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
        sources: Memos::new(run.map(|run| run.join("sources")).as_deref()),
        subject: OnceCell::new(),
        doubted: None,
    };
    let (stay, keep) = match shielded(|| wrap.away(&found)) {
        Ok(Away::Finished(plan, result, keeper)) => wrap.finish(&found, &plan, result, keeper),
        Ok(Away::Stays(stay, keep)) => (stay, keep),
        Err(reason) => (Stay::GridFailed(reason), None),
    };
    if let Some(signal) = signals::seen() {
        Ended::Signal(signal as i32).now();
    }
    found.mark();
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

    /// Waits for a slot of this machine.
    fn wait(&self) -> Option<Slot> {
        self.slots().and_then(Slots::wait)
    }

    fn subject(&self, found: &Found, plan: &Plan) -> &[u8] {
        self.subject.get_or_init(|| subject(found, plan))
    }

    /// Everything up to the user's own compiler.
    fn away(&mut self, found: &Found) -> Away {
        let plan = match self.plan(found) {
            Ok(plan) => plan,
            Err(stay) => return Away::Stays(stay, None),
        };
        let keeper = self.cached(found, &plan);
        if signals::seen().is_some() {
            // Came while the preprocessor ran for the cache.
            return Away::Stays(reason("interrupted", "").into(), None);
        }
        match self.elsewhere(found, &plan, keeper.is_some()) {
            Ok(result) => Away::Finished(plan, result, keeper),
            Err(stay) => {
                if let Stay::Here(reason) = &stay
                    && attempt::lasts(reason)
                {
                    let words = events::printable(&reason.to_string());
                    self.sources.note(self.subject(found, &plan), &words);
                }
                Away::Stays(stay, keeper.map(|keeper| (keeper, plan)))
            }
        }
    }

    /// What is to be done.
    fn plan(&mut self, found: &Found) -> Result<Plan, Stay> {
        if self.config.disabled {
            return Err(reason("disabled", "HG_DISABLE").into());
        }
        let name = found.name.ok_or_else(|| reason("not-a-compiler", ""));
        let plan = name.and_then(|name| Plan::read(found, name));
        let plan = plan.inspect_err(|reason| {
            keeper::count_bypass(self.config, reason);
            if found.name.is_some() && reason.code != CONFIGURE_PROBE {
                let words: Vec<Vec<u8>> =
                    found.args.iter().map(|a| os::bytes(a).to_vec()).collect();
                let source = args::likely_source(&words);
                self.record.source = source.map(<[u8]>::to_vec).unwrap_or_default();
            }
        })?;
        self.record.source = plan.compile.source.clone();
        self.record.output = plan.compile.output_path();
        Ok(plan)
    }

    /// Ends this process if the cache has the answer; else says who keeps it.
    fn cached(&mut self, found: &Found, plan: &Plan) -> Option<Box<Keeper>> {
        let asked = keeper::look_up(self.config, found, plan, || self.wait());
        match asked {
            CacheAnswer::Bypassed(why) => {
                self.record.not_kept = why;
                None
            }
            CacheAnswer::Miss(keeper) => Some(keeper),
            CacheAnswer::Hit(how) => {
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
        if plan.compile.tree.is_err() {
            plan.compile.travel.clone()?;
        }
        plan.check_files()?;
        let subject = self.subject(found, plan);
        let known = self.sources.recall(subject, attempt::source_memo);
        if let Known::Bad(words) = known
            && let Some(reason) = attempt::remembered(&words)
        {
            return Err(reason.into());
        }
        let slow = [address.as_bytes(), b"slow"].concat();
        let was_slow = self.memos.recall(&slow, attempt::slow_memo);
        let idle = match was_slow {
            Known::Bad(_) => Slots::instead,
            Known::Nothing | Known::Retry => Slots::idle,
        };
        if let Some(slot) = self.slots().and_then(idle) {
            return Err(Stay::Idle(reason("local-slot", "idle"), slot));
        }
        let grid_subject = config.grid_subject(address);
        let known = self.memos.recall(&grid_subject, attempt::down_memo);
        if let Known::Bad(words) = known {
            return Err(Stay::GridFailed(reason("grid-down", words)));
        }
        os::keep_memory();
        let mut grid = Grid {
            subject: grid_subject,
            tasks: Tasks::new(),
            connection: None,
            retry: known == Known::Retry,
            slow,
            was_slow: was_slow != Known::Nothing,
        };
        if grid.retry {
            self.knock(&mut grid)?;
        }
        match self.in_place(&mut grid, found, plan, kept) {
            Ok(result) => Ok(result),
            Err(NotInPlace::Stay(stay)) => Err(stay),
            Err(NotInPlace::Unfit(why)) => {
                // Why neither form would do: the last word on the first one.
                let travel = plan.compile.travel.clone();
                travel.map_err(|reason| why.clone().unwrap_or(reason))?;
                let sent = self.by_text(&mut grid, found, plan, kept);
                sent.map_err(|stay| in_neither_form(stay, why))
            }
        }
    }

    /// The tree form: source and headers, each at its own path.
    fn in_place(
        &mut self,
        grid: &mut Grid,
        found: &Found,
        plan: &Plan,
        kept: bool,
    ) -> Result<Compiled, NotInPlace> {
        let unfit = |reason: Reason| NotInPlace::Unfit(Some(reason));
        if tree::may_be(&plan.compile, plan.dialect).is_err() {
            return Err(NotInPlace::Unfit(None));
        }
        let probe = plan.probe(found, self.config).map_err(Stay::Here)?;
        let toolchain = probe.tree_toolchain(plan.compile.language);
        let toolchain = toolchain.ok_or(NotInPlace::Unfit(None))?;
        let memo = [&grid.subject[..], &toolchain.digest].concat();
        let known = self.memos.recall(&memo, attempt::tree_memo);
        let source = [self.subject(found, plan), b"tree"].concat();
        let failed = self.sources.recall(&source, attempt::source_memo);
        if matches!(known, Known::Bad(_)) || matches!(failed, Known::Bad(_)) {
            return Err(NotInPlace::Unfit(None));
        }
        let wait = || self.wait();
        let folders = &plan.folders(found, self.config, wait).map_err(unfit)?;
        let access = self.access()?;
        let headers = headers::file(self.config);
        let (compile, dialect, responses) = (&plan.compile, plan.dialect, &plan.responses);
        let headers = headers.as_deref();
        let gather = |settled| tree::gather(compile, dialect, responses, folders, headers, settled);
        let tree = std::thread::scope(|scope| {
            let walk = std::thread::Builder::new().spawn_scoped(scope, move || gather(None));
            let walk = walk.map_err(|error| Stay::GridFailed(reason("no-thread", error)))?;
            grid.dial(access);
            Ok::<_, Stay>(walk.join())
        })?;
        self.check_dialled(grid)?;
        let mut tree = joined(tree);
        if tree.as_ref().is_err_and(closure::is_doubt) {
            // What the preprocessor can't settle is as bad in a text.
            let settled = plan.settle(found, wait).map_err(Stay::Here)?;
            tree = gather(Some(settled));
        }
        let tree = tree.map_err(|why| match why.code {
            // Made by this compiler, for itself.
            "pch" => NotInPlace::Stay(Stay::Here(why)),
            _ => unfit(why),
        })?;
        let heard = plan.heard(found, &self.memos);
        let task = plan
            .tree_task(toolchain, &tree, &heard, self.config)
            .map_err(unfit)?;
        let load = Load {
            task,
            contents: tree.contents,
            dependencies: None,
            says: heard.says,
        };
        let sent = self.send(grid, load, plan, kept);
        if let Err(Attempt::Lost(lost @ Lost::Failed(failure))) = &sent {
            match failure.code() {
                Code::NoToolchain => {
                    let (reason, _) = attempt::after_loss(lost);
                    let times_max = attempt::WORKERS_AWAITED_MAX;
                    self.memos
                        .note_briefly(&memo, &reason.to_string(), times_max);
                    return Err(NotInPlace::Unfit(None));
                }
                // This compile's own paths; others may be taken.
                Code::Refused => return Err(NotInPlace::Unfit(None)),
                _ => {}
            }
        }
        // Words that would read otherwise here are no failure.
        if let Err(Attempt::Unlike(reason)) = &sent
            && reason.code == attempt::REMOTE_FAILED
        {
            self.doubted = Some(Doubted {
                toolchain: memo.clone(),
                source,
            });
        }
        if sent.is_ok() {
            self.memos.forget(&suspicion(&memo));
        }
        if known == Known::Retry && sent.is_ok() {
            self.memos.forget(&memo);
        }
        let sent = self.settle(grid, &memo, sent)?;
        self.record.form = Some("tree");
        Ok(sent.compiled(Listed::default(), Some(tree.closure), self.began))
    }

    /// The preprocessed form: one text.
    fn by_text(
        &mut self,
        grid: &mut Grid,
        found: &Found,
        plan: &Plan,
        kept: bool,
    ) -> Result<Compiled, Stay> {
        let probe = plan.probe(found, self.config)?;
        let toolchain = probe
            .toolchain(plan.compile.language)
            .ok_or_else(|| reason("unknown-compiler", "not for this language"))?;
        let missing = [&grid.subject[..], &toolchain.digest].concat();
        match self.memos.recall(&missing, attempt::toolchain_memo) {
            Known::Bad(words) => return Err(Stay::GridFailed(reason("no-worker", words))),
            known => grid.retry |= known == Known::Retry,
        }
        let gathered = self.gather(grid, found, plan)?;
        if signals::seen().is_some() {
            // Came while the preprocessor ran, and would be lost from here on.
            return Err(reason("interrupted", "").into());
        }
        let (says, options) = match plan.dialect.family {
            // It quotes source lines from files, which the worker has not got.
            Family::Gcc => (Says::Nothing, Vec::new()),
            Family::Clang => match plan.heard(found, &self.memos) {
                // Not in the colours of this terminal.
                Heard {
                    says: Says::Nothing,
                    ..
                } => (Says::Nothing, Vec::new()),
                heard => (Says::OfText, heard.manner.options),
            },
        };
        let load = Load {
            task: plan.task(probe, toolchain, &gathered, &options, self.config)?,
            contents: vec![Payload::Held(gathered.encoded)],
            dependencies: gathered.dependencies,
            says,
        };
        let sent = self.send(grid, load, plan, kept);
        let sent = self.settle(grid, &missing, sent)?;
        self.record.form = Some("preprocessed");
        Ok(sent.compiled(gathered.listed, None, self.began))
    }

    fn access(&self) -> Result<Access, Stay> {
        let access = Access::find(self.config);
        access.map_err(|why| Stay::GridFailed(reason("no-token", why)))
    }

    /// Asks a grid that was away whether it is back, with workers: until then the others
    /// keep away. The files may wait.
    fn knock(&self, grid: &mut Grid) -> Result<(), Stay> {
        grid.dial(self.access()?);
        self.check_dialled(grid)?;
        let Some(Ok(connection)) = &mut grid.connection else {
            return Ok(());
        };
        let question = connection.call("GetStatus", &GetStatusRequest {}, ACCEPT_MS_MAX);
        let status: GetStatusResponse = match grid.tasks.run(question) {
            Ok(status) => status,
            Err(error) => {
                let (words, memo) = attempt::after_loss(&submit::lost(error));
                self.note_grid(grid, memo, &words);
                return Err(Stay::GridFailed(words));
            }
        };
        if status.workers == 0 {
            let words = reason("no-worker", "none is there yet");
            self.note_grid(grid, Memo::Restart(u32::MAX), &words);
            return Err(Stay::GridFailed(words));
        }
        self.memos.answered(&grid.subject);
        Ok(())
    }

    fn check_dialled(&self, grid: &mut Grid) -> Result<(), Stay> {
        match grid.connection.take() {
            Some(Err(error)) => {
                let detail = error.to_string();
                let (_, memo) = attempt::after_loss(&submit::lost(error));
                let words = reason("grid-unreachable", detail);
                self.note_grid(grid, memo, &words);
                Err(Stay::GridFailed(words))
            }
            connection => {
                grid.connection = connection;
                Ok(())
            }
        }
    }

    /// Notes what keeps others away from the grid.
    fn note_grid(&self, grid: &Grid, memo: Memo, reason: &Reason) {
        let words = reason.to_string();
        match memo {
            Memo::Restart(times_max) => {
                self.memos.note_briefly(&grid.subject, &words, times_max);
            }
            _ => self.memos.note(&grid.subject, &words),
        }
    }

    /// What an attempt says of the grid is remembered; `missing` is its toolchain.
    fn settle(
        &self,
        grid: &Grid,
        missing: &[u8],
        sent: Result<Sent, Attempt>,
    ) -> Result<Sent, Stay> {
        if grid.retry && !matches!(sent, Err(Attempt::Lost(_))) {
            self.memos.forget(&grid.subject);
            self.memos.forget(missing);
        }
        match &sent {
            // Where no core is idle there would be no more time for it.
            Ok(sent) if sent.starved && self.slots().and_then(Slots::spare).is_some() => {
                let words = "a worker had little time for a compile";
                self.memos.note(&grid.slow, words);
            }
            Ok(_) if grid.was_slow => self.memos.forget(&grid.slow),
            _ => {}
        }
        let remember = |lost: &Lost| {
            let (reason, memo) = attempt::after_loss(lost);
            match memo {
                Memo::Coordinator | Memo::Restart(_) => self.note_grid(grid, memo, &reason),
                Memo::Toolchain => {
                    let times_max = attempt::WORKERS_AWAITED_MAX;
                    self.memos.note_briefly(missing, &reason.detail, times_max);
                }
                Memo::Slow => self.memos.note(&grid.slow, &reason.to_string()),
                Memo::None => {}
            }
            reason
        };
        sent.map_err(|lost| match lost {
            // Not the grid's doing.
            Attempt::Lost(lost @ Lost::Changed(_)) => Stay::Here(remember(&lost)),
            Attempt::Lost(lost) => Stay::GridFailed(remember(&lost)),
            Attempt::TakenBack(slot, lost) => Stay::Idle(remember(&lost), slot),
            Attempt::Unlike(reason) | Attempt::Stay(reason) => Stay::Here(reason),
        })
    }

    /// Preprocesses and dials at the same time.
    fn gather(&self, grid: &mut Grid, found: &Found, plan: &Plan) -> Result<Gathered, Stay> {
        let access = self.access()?;
        let slot = self.wait();
        let mut preprocessing =
            Preprocessing::start(found, &plan.compile, plan.dialect, Macros::Kept)?;
        grid.dial(access);
        let text = preprocessing.text()?;
        self.check_dialled(grid)?;
        let dependencies = preprocessing.dependencies()?;
        drop(preprocessing);
        drop(slot);
        text_checks::check_files(&text, &plan.compile, plan.dialect)?;
        Ok(preprocessed::pack(&text, dependencies, plan.dialect)?)
    }

    /// Has the task compiled and puts what came back in its place.
    fn send(
        &mut self,
        grid: &mut Grid,
        load: Load,
        plan: &Plan,
        kept: bool,
    ) -> Result<Sent, Attempt> {
        let began = Instant::now();
        let connection = grid.connection.take().and_then(Result::ok);
        let mut connection = connection.ok_or(Attempt::Lost(Lost::Broken(String::new())))?;
        // For the other form, should this one not be taken.
        grid.connection = Some(Ok(connection.clone()));
        let cannot_write = |error: std::io::Error| Attempt::Stay(reason("output", error));
        let mut object = Pending::new(&plan.object, plan.object_style()).map_err(cannot_write)?;
        let rule = plan.dependencies.as_ref().map(|path| {
            let known = load.dependencies.as_deref().unwrap_or_default();
            Pending::with(path, Style::Rewrite, known)
        });
        let mut rule = rule.transpose().map_err(cannot_write)?;
        let wanted = load.task.outputs.clone();
        let on_terminal = load.task.terminal.is_some();
        let mut arriving = Arriving::new(object.file(), kept);
        let mut listing = rule.as_mut().map(|rule| Arriving::new(rule.file(), false));
        let mut cost = Cost::default();
        let request = SubmitRequest {
            kind: Some(submit_request::Kind::Task(load.task)),
        };
        let mut again = true;
        let outcome = loop {
            let mut sinks: Vec<&mut dyn Sink> = vec![&mut arriving];
            sinks.extend(listing.as_mut().map(|listing| listing as &mut dyn Sink));
            sinks.truncate(wanted.len());
            let overtaking = self.slots().filter(|slots| slots.travelling() > 0);
            let beside = connection.clone();
            let compile = submit::submit(
                &mut connection,
                &request,
                &load.contents,
                sinks,
                overtaking,
                &mut cost,
            );
            // While the worker works there is time to spare.
            let both = future::or(compile, async {
                report::report(self.config, beside).await;
                future::pending().await
            });
            let run = self.config.run_folder();
            let outcome = own_speed::measured_beside(run.as_deref(), || grid.tasks.run(both));
            // One that said nothing for long, while the files were read, may have been cut
            // for others' sake; a coordinator that went away is not there to be dialled.
            match outcome {
                Err(Lost::Cut(_)) if again && cost.is_nothing() => again = false,
                outcome => break outcome,
            }
            let Ok(access) = self.access() else {
                break Err(Lost::Broken("its token is gone".into()));
            };
            grid.connection = None;
            grid.dial(access);
            match grid.connection.take() {
                Some(Ok(anew)) => {
                    connection = anew.clone();
                    grid.connection = Some(Ok(anew));
                }
                Some(Err(error)) => break Err(submit::lost(error)),
                None => break Err(Lost::Broken(String::new())),
            }
        };
        self.record.bytes_up = cost.bytes_up;
        self.record.bytes_down = cost.bytes_down;
        self.record.worker = cost.worker;
        self.record.remote_ms = millis(began);
        let returned = match outcome.map_err(Attempt::Lost)? {
            Outcome::Returned(returned) => returned,
            Outcome::TakenBack(slot, why) => return Err(Attempt::TakenBack(slot, why)),
        };
        self.record.queue_ms = returned.queue_ms;
        attempt::accept(&returned.result, load.says, on_terminal, &wanted)
            .map_err(Attempt::Unlike)?;
        let looks = |kind: object::Kind, (head, size): (&[u8], u64)| {
            let corrupt = |why: &str| Attempt::Lost(Lost::Corrupt(why.to_owned()));
            kind.check(head, size).map_err(corrupt)
        };
        looks(plan.object_kind(), arriving.begins())?;
        if let Some(listing) = listing.filter(|_| wanted.len() > 1) {
            looks(object::Kind::Text, listing.begins())?;
        }
        let mut sent = Sent {
            starved: returned
                .result
                .usage
                .as_ref()
                .is_some_and(attempt::was_starved),
            stderr: returned.result.stderr,
            ..Sent::default()
        };
        let content = |pending: &mut Pending| -> std::io::Result<Vec<u8>> {
            let mut content = Vec::new();
            pending.file().rewind()?;
            pending.file().read_to_end(&mut content)?;
            Ok(content)
        };
        if kept {
            let frame = arriving.frame();
            let size = returned
                .result
                .outputs
                .first()
                .map_or(0, |first| first.size);
            let object = match frame.and_then(|frame| Output::keep_frame(frame, size)) {
                Some(object) => Ok(object),
                None => content(&mut object).map(Output::keep),
            };
            sent.object = object.map_err(cannot_write)?;
            let rule = rule.as_mut().map(content).transpose();
            sent.dependencies = rule.map_err(cannot_write)?.map(Output::keep);
        }
        output::put_all(rule.into_iter().chain([object]).collect()).map_err(cannot_write)?;
        Ok(sent)
    }

    /// A good result is there: says so, keeps it and ends.
    fn finish(
        &mut self,
        found: &Found,
        plan: &Plan,
        result: Compiled,
        keeper: Option<Box<Keeper>>,
    ) -> ! {
        use std::io::Write;
        // Nobody may be reading; the compiler would not care either.
        let _ = std::io::stderr().write_all(&result.stderr);
        if let Some(keeper) = keeper {
            let wait = || self.wait();
            let kept = shielded(|| keeper.keep(found, plan, result, wait));
            self.record.not_kept = kept.unwrap_or_else(Some);
        }
        self.tell(Place::Remote, &reason("remote", ""), 0);
        std::process::exit(0)
    }

    /// The user's own compiler.
    fn here(&mut self, found: &Found, stay: Stay, keep: Option<(Box<Keeper>, Plan)>) -> ! {
        let (reason, slot) = match stay {
            Stay::GridFailed(reason) if !self.config.fallback => {
                let why = events::printable(&reason.to_string());
                say::warn(format_args!(
                    "the grid failed and --no-fallback is set: {why}"
                ));
                self.tell(Place::Local, &reason, NO_FALLBACK_EXIT);
                std::process::exit(NO_FALLBACK_EXIT);
            }
            Stay::Idle(reason, slot) => (reason, Some(slot)),
            Stay::Here(reason) | Stay::GridFailed(reason) => {
                let slot = match takes_a_slot(found, self.config) {
                    true => self.wait(),
                    false => None,
                };
                (reason, slot)
            }
        };
        // With these files alone a worker failed: there is one that nobody knows of.
        let keep = keep.filter(|_| reason.code != attempt::REMOTE_FAILED);
        if let Some((keeper, plan)) = keep {
            // Where this fails nothing ran, and the plain way is left.
            if let Ok(Ok((said, not_kept))) = shielded(|| keeper.compile(found, &plan)) {
                drop(slot);
                self.record.not_kept = not_kept;
                self.end(&reason, said.ended)
            }
        }
        if !events::wanted(self.config) && self.doubted.is_none() {
            if let Some(slot) = &slot {
                slot.keep_over_exec();
            }
            cannot_run(found, &process::become_it(&found.command));
        }
        match process::run(&found.command) {
            Ok(ended) => {
                drop(slot);
                self.end(&reason, ended)
            }
            Err(error) => cannot_run(found, &error),
        }
    }

    /// The user's own compiler has ended.
    fn end(&self, reason: &Reason, ended: Ended) -> ! {
        if let (Some(Doubted { toolchain, source }), 0) = (&self.doubted, ended.code()) {
            let words = "failed there, and not here";
            self.sources.note(source, words);
            // One may read what is not sent; after some in a row, compiling everything
            // twice helps nobody.
            let suspicion = suspicion(toolchain);
            let before = match self.memos.recall(&suspicion, attempt::tree_memo) {
                Known::Bad(count) => count.parse().unwrap_or(0),
                Known::Nothing | Known::Retry => 0,
            };
            self.memos.forget(&suspicion);
            match before + 1 >= attempt::TREES_LOST_MAX {
                true => self.memos.note(toolchain, words),
                false => self.memos.note(&suspicion, &(before + 1).to_string()),
            }
        }
        self.tell(Place::Local, reason, ended.code());
        ended.now()
    }

    fn tell(&self, place: Place, reason: &Reason, exit: i32) {
        let wall_ms = millis(self.began);
        events::record(self.config, &self.record, place, reason, exit, wall_ms);
    }
}

/// What kept the text here matters less than why the tree form, which takes nearly
/// everything, was not for it.
fn in_neither_form(stay: Stay, tree: Option<Reason>) -> Stay {
    match (stay, tree) {
        (Stay::Here(text), Some(tree)) if attempt::is_of_text(&text) => {
            let detail = format!("{} (as a text: {text})", tree.detail);
            Stay::Here(reason(tree.code, detail.trim_start()))
        }
        (stay, _) => stay,
    }
}

/// What a source's memo is about: the command, where it runs, and the file as it is.
fn subject(found: &Found, plan: &Plan) -> Vec<u8> {
    use std::os::unix::fs::MetadataExt;
    let folder = std::env::current_dir().unwrap_or_default();
    let mut subject = os::bytes(folder.as_os_str()).to_vec();
    let driver = os::bytes(found.driver.as_os_str());
    let words = plan.compile.arguments.iter().flat_map(|a| &a.words);
    for word in words.map(Vec::as_slice).chain([driver]) {
        subject.push(0);
        subject.extend_from_slice(word);
    }
    if let Ok(meta) = std::fs::metadata(os::from_bytes(plan.compile.source.clone())) {
        let times = [meta.mtime(), meta.mtime_nsec(), meta.size().cast_signed()];
        subject.extend(times.iter().flat_map(|number| number.to_be_bytes()));
    }
    subject
}

/// The memo that says how many trees of a toolchain failed on workers in a row.
fn suspicion(toolchain: &[u8]) -> Vec<u8> {
    [toolchain, b"suspicion"].concat()
}

/// A grid on the way to a result.
struct Grid {
    /// Of memos: where it is, and as whom it is asked.
    subject: Vec<u8>,
    tasks: Tasks,
    connection: Option<Result<Connection, GrpcError>>,
    /// It was bad a while ago.
    retry: bool,
    /// The memo that says it is no faster than this machine.
    slow: Vec<u8>,
    was_slow: bool,
}

impl Grid {
    fn dial(&mut self, access: Access) {
        if self.connection.is_none() {
            let open = Connection::open(&self.tasks, access, CONNECT_MS_MAX);
            self.connection = Some(self.tasks.run(open));
        }
    }
}

/// What a worker is to be given.
struct Load {
    task: Task,
    contents: Vec<Payload>,
    /// The dependency file, where it is known before.
    dependencies: Option<Vec<u8>>,
    says: Says,
}

/// What came back, put in place; contents where they are to be kept.
#[derive(Default)]
struct Sent {
    /// The worker had little time for it.
    starved: bool,
    object: Output,
    dependencies: Option<Output>,
    stderr: Vec<u8>,
}

impl Sent {
    fn compiled(self, listed: Listed, closure: Option<Closure>, began: Instant) -> Compiled {
        Compiled {
            object: self.object,
            dependencies: self.dependencies,
            stderr: self.stderr,
            listed,
            closure,
            compile_ms: millis(began),
        }
    }
}

/// Why a compile does not go out in the tree form.
enum NotInPlace {
    /// It may in the other one; why not in this, where there is something to say.
    Unfit(Option<Reason>),
    Stay(Stay),
}

impl From<Stay> for NotInPlace {
    fn from(stay: Stay) -> Self {
        NotInPlace::Stay(stay)
    }
}

/// Why there is no result of an attempt.
enum Attempt {
    Lost(Lost),
    /// It runs in this slot instead.
    TakenBack(Slot, Lost),
    /// A worker compiled it, and that may not stand for a local compile.
    Unlike(Reason),
    Stay(Reason),
}

fn millis(since: Instant) -> u64 {
    since.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
}

fn cannot_run(found: &Found, error: &std::io::Error) -> ! {
    say::warn(format_args!("{}: {error}", found.command.program.display()));
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
    works && !compiler::is_script(&found.command.program)
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
