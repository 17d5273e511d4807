//! The way of one compile through the grid: from what is known of that grid to a result
//! in its place. The tree form is tried first and the preprocessed form where that is
//! not for it; what an attempt shows is noted for the compiles that come after it.

use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hg_proto::compiler::toolchain::Family;
use hg_proto::options::args::{Reason, SourceKind};
use hg_proto::v1::{
    Failure, GetStatusRequest, GetStatusResponse, Input, SubmitRequest, Task, TaskResult,
    Toolchain, failure::Code, submit_request,
};
use hg_proto::wire::digest::Digest;
use smol::{Timer, future};

use crate::cache::answer::{Output, SideFile};
use crate::cache::store::Compiled;
use crate::compile::audit::{AUDIT, Audit};
use crate::compile::context::{Context, SuspectTree, WhyLocal, millis_since};
use crate::compile::events::Origin;
use crate::compile::report;
use crate::compile::timeline::{Phase, Timeline};
use crate::config::Config;
use crate::grid::access::Access;
use crate::grid::arriving::Arriving;
use crate::grid::attempt::{
    self, ACCEPT_MS_MAX, AllowedDiagnostics, Backoff, CONNECT_MS_MAX, Lost,
};
use crate::grid::equivalence::Trials;
use crate::grid::find;
use crate::grid::grpc::{Connection, GrpcError, Tasks};
use crate::grid::ident;
use crate::grid::memo::Known;
use crate::grid::object;
use crate::grid::own_speed;
use crate::grid::payload::Payload;
use crate::grid::relay;
use crate::grid::shipment;
use crate::grid::submit::{self, Cost, Ending, Returned, Sink};
use crate::grid::trial_cases;
use crate::includes::closure::{self, Closure};
use crate::includes::dependency_list::Listed;
use crate::includes::headers;
use crate::inputs::preprocessed::{self, Gathered, Macros, Preprocessing};
use crate::inputs::text_checks;
use crate::inputs::tree::{self, Tree};
use crate::invocation::plan::{Diagnostics, Plan};
use crate::local::compiler::Found;
use crate::local::output::{self, Pending, Style};
use crate::local::signals;
use crate::local::slots::{Slot, Slots};
use crate::os;
use crate::shield::joined;

/// Compiles on a worker and puts the outputs in their places; `kept`: their contents are
/// wanted by the cache too.
///
/// # Errors
/// Why the compiler runs here.
pub fn try_grid(
    context: &mut Context,
    found: &Found,
    plan: &Plan,
    kept: bool,
) -> Result<Compiled, WhyLocal> {
    let config = context.config;
    if let Some(trouble) = &config.trouble {
        return Err(Reason::with("config", trouble).into());
    }
    if config.coordinator.is_none() && config.sought.is_none() {
        return Err(Reason::with("no-coordinator", "").into());
    }
    if plan.compile.tree.is_err() {
        plan.compile.travel.clone()?;
    }
    plan.check_files()?;
    let source = context.source_key(found, plan);
    let known = context.sources.recall(source, attempt::source_memo_lasts);
    if let Known::Bad(words) = known
        && let Some(reason) = attempt::remembered(&words)
    {
        return Err(reason.into());
    }
    let address = config.coordinator.clone();
    let address = address.or_else(|| find::for_compile(config, &context.memos, None));
    let address = address.ok_or_else(|| Reason::with("no-coordinator", "none is found"))?;
    let slow_key = [address.as_bytes(), b"slow"].concat();
    let was_slow = context.memos.recall(&slow_key, attempt::slow_grid_backoff);
    let idle = match was_slow {
        Known::Bad(_) => Slots::try_any_for_travelling,
        _ => Slots::try_travelling,
    };
    let in_slot = |context: &Context| {
        let slot = context.slots().and_then(idle);
        slot.map(|slot| WhyLocal::InSlot(Reason::with("local-slot", "idle"), slot))
    };
    let key = config.grid_key(&address);
    let asks = asks_for_kept(context, &key);
    if !asks && let Some(why) = in_slot(context) {
        return Err(why);
    }
    let known = context.memos.recall(&key, attempt::grid_backoff);
    if let Known::Bad(words) = known {
        if asks && let Some(why) = in_slot(context) {
            return Err(why);
        }
        return Err(WhyLocal::GridFailed(Reason::with("grid-down", words)));
    }
    os::keep_memory();
    context.begin(Phase::Gather, Origin::Remote);
    let mut remote = Remote {
        kept,
        has_looked: false,
        key,
        slow_key,
        was_slow: was_slow != Known::Nothing,
        was_bad: known != Known::Nothing,
        ..Remote::new(context, found, plan, address)
    };
    if known == Known::Retry {
        remote.check_that_workers_are_back()?;
    }
    if asks {
        // No slot is held meanwhile: to read the files may take one.
        if let Some(result) = remote.try_kept() {
            return Ok(result);
        }
        if let Some(why) = in_slot(remote.context) {
            return Err(why);
        }
    }
    match remote.try_tree() {
        Ok(result) => Ok(result),
        Err(NoTree::Local(why)) => Err(why),
        Err(NoTree::TryText(why)) => {
            // Why neither form would do: the last word on the first one.
            let travel = plan.compile.travel.clone();
            travel.map_err(|reason| why.clone().unwrap_or(reason))?;
            let sent = remote.try_text();
            sent.map_err(|text| in_neither_form(text, why))
        }
    }
}

/// The keys of the memos that say that a grid keeps results, and that it was asked for some in
/// vain.
pub fn keeps_key(grid: &[u8]) -> Vec<u8> {
    [grid, b"keeps"].concat()
}

fn vain_key(grid: &[u8]) -> Vec<u8> {
    [grid, b"vain"].concat()
}

/// Whether a grid that may have the result is asked for it before a core that is idle here
/// compiles: over the connection that a build holds, which costs but one way there and back.
fn asks_for_kept(context: &Context, grid: &[u8]) -> bool {
    let memos = &context.memos;
    let vain = || memos.recall(&vain_key(grid), attempt::vain_backoff);
    context.config.relay.is_some()
        && memos.has_note(&keeps_key(grid))
        && !matches!(vain(), Known::Bad(_))
}

/// Compiles with a toolchain of another machine in place of this one's: `other` is its
/// digest for the tree form, or else for the text form. What it made is put in its place, or
/// is in `context.audit` if the coordinator wants it checked.
///
/// # Errors
/// Why there is no such result.
pub fn try_other(
    context: &mut Context,
    found: &Found,
    plan: &Plan,
    other: &[u8],
    is_tree: bool,
) -> Result<(), WhyLocal> {
    match is_tree {
        true => tree::may_be(&plan.compile, plan.dialect)?,
        false => plan.compile.travel.clone()?,
    }
    plan.check_files()?;
    let probe = plan.probe(found, context.config)?;
    let own = probe.toolchain(plan.compile.language);
    let own = own.ok_or_else(|| Reason::with("unknown-compiler", "not for this language"))?;
    let address = context.config.coordinator.clone();
    let address = address.ok_or_else(|| Reason::with("no-coordinator", ""))?;
    let toolchain = Toolchain {
        digest: other.to_vec(),
        equals: vec![other.to_vec()],
        tree: is_tree,
        ..own
    };
    let mut remote = Remote::new(context, found, plan, address);
    let load = match is_tree {
        true => remote
            .gather_tree()
            .and_then(|tree| remote.load_of_tree(toolchain, tree))
            .map(|(load, _)| load)
            .map_err(NoTree::into_why)?,
        false => {
            let gathered = remote.gather_text()?;
            remote.load_of_text(toolchain, gathered)?
        }
    };
    match remote.submit(load) {
        Ok(_) => Ok(()),
        Err(NoResult::Lost(lost) | NoResult::TakenBack(_, lost)) => {
            Err(WhyLocal::GridFailed(attempt::after_loss(&lost).0))
        }
        Err(NoResult::Unlike(reason) | NoResult::Local(reason)) => Err(reason.into()),
    }
}

/// What kept the text here matters less than why the tree form, which takes nearly
/// everything, was not for it.
fn in_neither_form(text: WhyLocal, tree: Option<Reason>) -> WhyLocal {
    match (text, tree) {
        // Without a worker for the tree form, what is wrong with the text will last.
        (WhyLocal::Chosen(text), Some(tree)) if tree.code == "no-worker" => WhyLocal::Chosen(text),
        (WhyLocal::Chosen(text), Some(tree)) if attempt::is_of_text(&text) => {
            let detail = format!("{} (as a text: {text})", tree.detail);
            WhyLocal::Chosen(Reason::with(tree.code, detail.trim_start()))
        }
        (why, _) => why,
    }
}

/// The key of the memo that says how many trees of a toolchain failed on workers in a row.
pub fn lost_trees_key(toolchain: &[u8]) -> Vec<u8> {
    [toolchain, b"suspicion"].concat()
}

/// One compile on its way through one grid.
struct Remote<'c, 'a> {
    context: &'c mut Context<'a>,
    found: &'c Found,
    plan: &'c Plan,
    /// The cache wants the contents of outputs.
    kept: bool,
    /// Where the coordinator is.
    address: String,
    /// It was looked for elsewhere.
    has_looked: bool,
    /// Of memos about the grid: where it is, and as whom it is asked.
    key: Vec<u8>,
    /// Of the memo that says it is no faster than this machine.
    slow_key: Vec<u8>,
    was_slow: bool,
    /// It, or the toolchain there, was bad a while ago.
    was_bad: bool,
    tasks: Tasks,
    connection: Option<Result<Connection, GrpcError>>,
    /// Where the build above us holds one, as long as it is of use.
    relay: Option<PathBuf>,
    /// What is known of toolchains that the task names beside this machine's own.
    trials: Trials,
}

/// How a coordinator is reached.
enum Way {
    /// Through the socket of the build above us.
    Relay(PathBuf),
    /// By a connection of our own.
    Dial(Box<Access>),
}

/// What a worker is to be given.
struct Load {
    task: Task,
    contents: Vec<Payload>,
    /// The dependency file, where it is known before.
    dependencies: Option<Vec<u8>>,
    allowed: AllowedDiagnostics,
}

/// What came back, put in place; contents where they are to be kept.
#[derive(Default)]
struct Received {
    /// The worker had little time for it.
    starved: bool,
    object: Output,
    dependencies: Option<Output>,
    sides: Vec<SideFile>,
    stderr: Vec<u8>,
}

impl Received {
    fn compiled(self, listed: Listed, closure: Option<Closure>, began: Instant) -> Compiled {
        Compiled {
            object: self.object,
            dependencies: self.dependencies,
            sides: self.sides,
            stderr: self.stderr,
            listed,
            closure,
            compile_ms: millis_since(began),
        }
    }
}

/// Why a compile does not go out in the tree form.
enum NoTree {
    /// It may in the preprocessed form; why not in this, where there is something to say.
    TryText(Option<Reason>),
    Local(WhyLocal),
}

impl NoTree {
    fn unfit(reason: Reason) -> NoTree {
        NoTree::TryText(Some(reason))
    }

    fn into_why(self) -> WhyLocal {
        match self {
            NoTree::TryText(reason) => {
                WhyLocal::Chosen(reason.unwrap_or_else(|| Reason::with("tree", "")))
            }
            NoTree::Local(why) => why,
        }
    }
}

impl From<WhyLocal> for NoTree {
    fn from(why: WhyLocal) -> Self {
        NoTree::Local(why)
    }
}

/// Why an attempt gave no result.
enum NoResult {
    Lost(Lost),
    /// The compile runs in this slot instead.
    TakenBack(Slot, Lost),
    /// A worker compiled it, and that may not stand for a local compile.
    Unlike(Reason),
    /// Something is wrong on this machine.
    Local(Reason),
}

impl NoResult {
    fn cannot_write(error: io::Error) -> NoResult {
        NoResult::Local(Reason::with("output", error))
    }
}

impl<'c, 'a> Remote<'c, 'a> {
    /// One that nothing is known of before, and of which nothing is kept. The coordinator is
    /// at `address` or nowhere.
    fn new(
        context: &'c mut Context<'a>,
        found: &'c Found,
        plan: &'c Plan,
        address: String,
    ) -> Self {
        Remote {
            relay: context.config.relay.clone(),
            context,
            found,
            plan,
            kept: false,
            address,
            has_looked: true,
            key: Vec::new(),
            slow_key: Vec::new(),
            was_slow: false,
            was_bad: false,
            tasks: Tasks::new(),
            connection: None,
            trials: Trials::default(),
        }
    }

    /// The tree form: source and headers, each at its own path.
    fn try_tree(&mut self) -> Result<Compiled, NoTree> {
        let (plan, found) = (self.plan, self.found);
        if tree::may_be(&plan.compile, plan.dialect).is_err() {
            return Err(NoTree::TryText(None));
        }
        let probe = plan.probe(found, self.context.config);
        let probe = probe.map_err(WhyLocal::Chosen)?;
        let toolchain = probe.tree_toolchain(plan.compile.language);
        let mut toolchain = toolchain.ok_or(NoTree::TryText(None))?;
        let toolchain_key = [&self.key[..], &toolchain.digest].concat();
        let known = self
            .context
            .memos
            .recall(&toolchain_key, attempt::tree_backoff);
        let source_key = [self.context.source_key(found, plan), b"tree"].concat();
        let failed = self
            .context
            .sources
            .recall(&source_key, attempt::source_memo_lasts);
        if let Known::Bad(words) = known {
            let reason = attempt::no_worker(&words);
            return Err(NoTree::TryText(reason));
        }
        if matches!(failed, Known::Bad(_)) {
            return Err(NoTree::TryText(None));
        }
        let run = self.context.config.run_folder();
        if let Some(run) = &run
            && let Some(shipped) = shipment::known(run, &toolchain)
        {
            toolchain.shipment = shipped.as_bytes().to_vec();
        }
        self.name_equals(&mut toolchain);
        let tree = self.gather_tree()?;
        let (load, closure) = self.load_of_tree(toolchain.clone(), tree)?;
        let received = self.submit(load);
        if let Some(run) = run.filter(|_| self.context.config.ship) {
            let is_lacking = |failure: &Failure| failure.code() == Code::NoToolchain;
            let lacks = matches!(&received, Err(NoResult::Lost(Lost::Failed(f))) if is_lacking(f));
            shipment::look_after(&run, &toolchain, &found.driver, lacks);
        }
        if let Err(NoResult::Lost(lost @ Lost::Failed(failure))) = &received {
            match failure.code() {
                Code::NoToolchain => {
                    let (reason, _) = attempt::after_loss(lost);
                    let times_max = attempt::WORKERS_AWAITED_MAX;
                    let memos = &self.context.memos;
                    memos.note_briefly(&toolchain_key, &reason.to_string(), times_max);
                    return Err(NoTree::TryText(Some(reason)));
                }
                // This compile's own paths; others may be taken.
                Code::Refused => return Err(NoTree::TryText(None)),
                _ => {}
            }
        }
        // Words that would read otherwise here are no failure.
        if let Err(NoResult::Unlike(reason)) = &received
            && reason.code == attempt::REMOTE_FAILED
        {
            self.context.suspect = Some(SuspectTree {
                toolchain: toolchain_key.clone(),
                source: source_key,
            });
        }
        if received.is_ok() {
            self.context.memos.forget(&lost_trees_key(&toolchain_key));
        }
        if known == Known::Retry && received.is_ok() {
            self.context.memos.forget(&toolchain_key);
        }
        let received = self.note_outcome(&toolchain_key, received)?;
        self.context.record.form = Some("tree");
        Ok(received.compiled(Listed::default(), Some(closure), self.context.began))
    }

    /// What a worker made of the same compile before, from the coordinator. `None`: it has
    /// nothing, or it takes too long.
    fn try_kept(&mut self) -> Option<Compiled> {
        let (plan, found) = (self.plan, self.found);
        tree::may_be(&plan.compile, plan.dialect).ok()?;
        let probe = plan.probe(found, self.context.config).ok()?;
        let mut toolchain = probe.tree_toolchain(plan.compile.language)?;
        self.name_equals(&mut toolchain);
        let tree = self.gather_tree().ok()?;
        let (mut load, closure) = self.load_of_tree(toolchain, tree).ok()?;
        load.task.only_kept = true;
        let received = self.submit(load);
        let vain = vain_key(&self.key);
        match received {
            Ok(received) => {
                self.context.memos.forget(&vain);
                self.context.record.form = Some("tree");
                let began = self.context.began;
                Some(received.compiled(Listed::default(), Some(closure), began))
            }
            Err(_) => {
                self.context.memos.note(&vain, "it had none");
                None
            }
        }
    }

    /// Reads source and headers, and dials at the same time.
    fn gather_tree(&mut self) -> Result<Tree, NoTree> {
        let (plan, found) = (self.plan, self.found);
        let wait = || self.context.wait_for_slot();
        let folders = plan.folders(found, self.context.config, wait);
        let folders = &folders.map_err(NoTree::unfit)?;
        let way = self.way()?;
        let headers = headers::file(self.context.config);
        let (compile, dialect, responses) = (&plan.compile, plan.dialect, &plan.responses);
        let headers = headers.as_deref();
        let gather = |settled| tree::gather(compile, dialect, responses, folders, headers, settled);
        let walked = std::thread::scope(|scope| {
            let walk = std::thread::Builder::new().spawn_scoped(scope, move || gather(None));
            let walk =
                walk.map_err(|error| WhyLocal::GridFailed(Reason::with("no-thread", error)))?;
            self.dial(way)?;
            Ok::<_, WhyLocal>(walk.join())
        })?;
        self.check_dialled()?;
        let mut tree = joined(walked);
        let is_doubt = |why: &Reason| closure::is_doubt(why, compile, dialect);
        if tree.as_ref().is_err_and(is_doubt) {
            // What the preprocessor can't settle is as bad in a text.
            let settled = plan.settle(found, || self.context.wait_for_slot());
            tree = gather(Some(settled.map_err(WhyLocal::Chosen)?));
        }
        tree.map_err(|why| match why.code {
            // Made by this compiler, for itself.
            "pch" => NoTree::Local(WhyLocal::Chosen(why)),
            _ => NoTree::unfit(why),
        })
    }

    /// What a worker gets of `tree`, and all that the compile could read.
    fn load_of_tree(&self, toolchain: Toolchain, tree: Tree) -> Result<(Load, Closure), NoTree> {
        let (plan, context) = (self.plan, &self.context);
        let diagnostics = plan.diagnostics(self.found, &context.memos);
        let names_equals = !toolchain.equals.is_empty();
        let adds_words = names_equals || !diagnostics.presentation.options.is_empty();
        if adds_words && plan.compile.records_words() {
            return Err(NoTree::unfit(Reason::with("records-command-line", "")));
        }
        let task = plan.tree_task(toolchain, &tree, &diagnostics, context.config);
        let mut task = task.map_err(NoTree::unfit)?;
        if names_equals {
            let probe = plan.probe(self.found, context.config);
            plan.name_target(probe.map_err(WhyLocal::Chosen)?, &mut task.arguments);
        }
        let load = Load {
            task,
            contents: tree.contents,
            dependencies: None,
            allowed: diagnostics.allowed,
        };
        Ok((load, tree.closure))
    }

    /// The preprocessed form: one text.
    fn try_text(&mut self) -> Result<Compiled, WhyLocal> {
        let (plan, found) = (self.plan, self.found);
        let probe = plan.probe(found, self.context.config)?;
        let mut toolchain = probe
            .toolchain(plan.compile.language)
            .ok_or_else(|| Reason::with("unknown-compiler", "not for this language"))?;
        let toolchain_key = [&self.key[..], &toolchain.digest].concat();
        let memos = &self.context.memos;
        match memos.recall(&toolchain_key, attempt::toolchain_backoff) {
            Known::Bad(words) => {
                return Err(WhyLocal::GridFailed(Reason::with("no-worker", words)));
            }
            known => self.was_bad |= known != Known::Nothing,
        }
        self.name_equals(&mut toolchain);
        let mut gathered = self.gather_text()?;
        if signals::received().is_some() {
            // Came while the preprocessor ran, and would be lost from here on.
            return Err(Reason::with("interrupted", "").into());
        }
        let listed = std::mem::take(&mut gathered.listed);
        let load = self.load_of_text(toolchain, gathered)?;
        let received = self.submit(load);
        let received = self.note_outcome(&toolchain_key, received)?;
        self.context.record.form = Some("preprocessed");
        Ok(received.compiled(listed, None, self.context.began))
    }

    /// What a worker gets of `gathered`.
    fn load_of_text(&self, toolchain: Toolchain, gathered: Gathered) -> Result<Load, WhyLocal> {
        let (plan, found) = (self.plan, self.found);
        let probe = plan.probe(found, self.context.config)?;
        let (allowed, options) = match plan.dialect.family {
            // It quotes source lines from files, which the worker has not got.
            Family::Gcc => (AllowedDiagnostics::Nothing, Vec::new()),
            Family::Clang => match plan.diagnostics(found, &self.context.memos) {
                // Not in the colours of this terminal.
                Diagnostics {
                    allowed: AllowedDiagnostics::Nothing,
                    ..
                } => (AllowedDiagnostics::Nothing, Vec::new()),
                diagnostics => (AllowedDiagnostics::OfText, diagnostics.presentation.options),
            },
        };
        Ok(Load {
            task: plan.task(probe, toolchain, &gathered, &options, self.context.config)?,
            contents: vec![Payload::Held(gathered.encoded)],
            dependencies: gathered.dependencies,
            allowed,
        })
    }

    /// Names the toolchains of other machines that have shown to make the same objects, where
    /// this compile is like what was tried.
    fn name_equals(&mut self, toolchain: &mut Toolchain) {
        let run = self.context.config.run_folder();
        let known = run.map(|run| Trials::of(&run, &toolchain.digest));
        let known = known.unwrap_or_default();
        let equals = known.equals();
        // Most have none.
        if !equals.is_empty() && is_tried(self.plan) {
            self.trials = known;
            toolchain.equals = equals;
        }
    }

    /// Preprocesses and dials at the same time.
    fn gather_text(&mut self) -> Result<Gathered, WhyLocal> {
        let plan = self.plan;
        let way = self.way()?;
        let slot = self.context.wait_for_slot();
        let mut preprocessing =
            Preprocessing::start(self.found, &plan.compile, plan.dialect, Macros::Kept)?;
        self.dial(way)?;
        let text = preprocessing.text()?;
        self.check_dialled()?;
        let dependencies = preprocessing.dependencies()?;
        drop(preprocessing);
        drop(slot);
        text_checks::check_files(&text, &plan.compile, plan.dialect)?;
        Ok(preprocessed::pack(&text, dependencies, plan.dialect)?)
    }

    /// How the coordinator is reached, as far as that can be said beforehand.
    fn way(&self) -> Result<Way, WhyLocal> {
        match &self.relay {
            Some(path) => Ok(Way::Relay(path.clone())),
            None => self.access().map(|access| Way::Dial(Box::new(access))),
        }
    }

    fn access(&self) -> Result<Access, WhyLocal> {
        let access = Access::at(self.context.config, &self.address);
        access.map_err(|why| WhyLocal::GridFailed(Reason::with("no-token", why)))
    }

    /// Connects, if that was not done.
    fn dial(&mut self, way: Way) -> Result<(), WhyLocal> {
        if self.connection.is_some() {
            return Ok(());
        }
        let access = match way {
            Way::Dial(access) => *access,
            Way::Relay(path) => match self.enter(&path) {
                Some(connection) => {
                    self.connection = Some(Ok(connection));
                    return Ok(());
                }
                None => {
                    self.relay = None;
                    self.access()?
                }
            },
        };
        let open = Connection::open(&self.tasks, access, CONNECT_MS_MAX);
        self.connection = Some(self.tasks.run(open));
        Ok(())
    }

    /// The connection that the build above us holds.
    fn enter(&self, relay: &Path) -> Option<Connection> {
        let key = self.context.config.grid_key(&self.address);
        self.tasks.run(async {
            let stream = relay::enter(relay, &key).await?;
            let through = Connection::through(&self.tasks, stream, &self.address);
            through.await.ok()
        })
    }

    fn check_dialled(&mut self) -> Result<(), WhyLocal> {
        match self.connection.take() {
            Some(Err(error)) => {
                if find::may_have_moved(&error) && self.has_moved() {
                    self.dial(Way::Dial(Box::new(self.access()?)))?;
                    return self.check_dialled();
                }
                let detail = error.to_string();
                let (_, backoff) = attempt::after_loss(&Lost::from(error));
                let reason = Reason::with("grid-unreachable", detail);
                self.note_grid(backoff, &reason);
                Err(WhyLocal::GridFailed(reason))
            }
            connection => {
                self.connection = connection;
                Ok(())
            }
        }
    }

    /// Whether the coordinator, which is not where it was, was found elsewhere: then it is
    /// dialled there from now on.
    fn has_moved(&mut self) -> bool {
        if std::mem::replace(&mut self.has_looked, true) {
            return false;
        }
        let (config, memos) = (self.context.config, &self.context.memos);
        let Some(address) = find::for_compile(config, memos, Some(&self.address)) else {
            return false;
        };
        self.key = config.grid_key(&address);
        self.address = address;
        true
    }

    /// Asks a grid that was away whether it is back, with workers: until then the others
    /// keep away. The files may wait.
    fn check_that_workers_are_back(&mut self) -> Result<(), WhyLocal> {
        self.dial(self.way()?)?;
        self.check_dialled()?;
        let Some(Ok(connection)) = &mut self.connection else {
            return Ok(());
        };
        let question = connection.call("GetStatus", &GetStatusRequest {}, ACCEPT_MS_MAX);
        let status: GetStatusResponse = match self.tasks.run(question) {
            Ok(status) => status,
            Err(error) => {
                let (reason, backoff) = attempt::after_loss(&Lost::from(error));
                self.note_grid(backoff, &reason);
                return Err(WhyLocal::GridFailed(reason));
            }
        };
        if status.workers == 0 {
            let reason = Reason::with("no-worker", "none is there yet");
            self.note_grid(Backoff::Absence, &reason);
            return Err(WhyLocal::GridFailed(reason));
        }
        self.context.memos.answered(&self.key);
        Ok(())
    }

    /// Notes what keeps others away from the grid.
    fn note_grid(&self, backoff: Backoff, reason: &Reason) {
        let (memos, words) = (&self.context.memos, reason.to_string());
        match backoff {
            Backoff::Cut => memos.note_briefly(&self.key, &words, attempt::CUTS_MAX),
            Backoff::Absence => memos.note_absence(&self.key, &words),
            _ => memos.note(&self.key, &words),
        }
    }

    /// Notes what an attempt with a toolchain says of the grid.
    fn note_outcome(
        &self,
        toolchain_key: &[u8],
        received: Result<Received, NoResult>,
    ) -> Result<Received, WhyLocal> {
        let memos = &self.context.memos;
        if self.was_bad && !matches!(received, Err(NoResult::Lost(_))) {
            memos.forget(&self.key);
            memos.forget(toolchain_key);
        }
        match &received {
            // Where no core is idle there would be no more time for it.
            Ok(received)
                if received.starved && self.context.slots().and_then(Slots::try_any).is_some() =>
            {
                memos.note(&self.slow_key, "a worker had little time for a compile");
            }
            Ok(_) if self.was_slow => memos.forget(&self.slow_key),
            _ => {}
        }
        received.map_err(|none| match none {
            // Not the grid's doing.
            NoResult::Lost(lost @ Lost::Changed(_)) => {
                WhyLocal::Chosen(self.note_loss(toolchain_key, &lost))
            }
            NoResult::Lost(lost) => WhyLocal::GridFailed(self.note_loss(toolchain_key, &lost)),
            NoResult::TakenBack(slot, lost) => {
                WhyLocal::InSlot(self.note_loss(toolchain_key, &lost), slot)
            }
            NoResult::Unlike(reason) | NoResult::Local(reason) => WhyLocal::Chosen(reason),
        })
    }

    fn note_loss(&self, toolchain_key: &[u8], lost: &Lost) -> Reason {
        let memos = &self.context.memos;
        let (reason, backoff) = attempt::after_loss(lost);
        match backoff {
            Backoff::Coordinator | Backoff::Cut | Backoff::Absence => {
                self.note_grid(backoff, &reason)
            }
            Backoff::Toolchain => {
                let times_max = attempt::WORKERS_AWAITED_MAX;
                memos.note_briefly(toolchain_key, &reason.detail, times_max);
            }
            Backoff::Slow => memos.note(&self.slow_key, &reason.to_string()),
            Backoff::None => {}
        }
        reason
    }

    /// Has the task compiled and puts what came back in its place.
    fn submit(&mut self, load: Load) -> Result<Received, NoResult> {
        let plan = self.plan;
        let began = Instant::now();
        self.context.timeline.enter_at(Phase::Queue, began);
        let connection = self.connection.take().and_then(Result::ok);
        let connection = connection.ok_or(NoResult::Lost(Lost::Broken(String::new())))?;
        // For the other form, should this one not be taken.
        self.connection = Some(Ok(connection.clone()));
        let object = Pending::new(&plan.object, plan.object_style());
        let mut object = object.map_err(NoResult::cannot_write)?;
        let rule = plan.dependencies.as_ref().map(|path| {
            let known = load.dependencies.as_deref().unwrap_or_default();
            Pending::with(path, Style::Rewrite, known)
        });
        let mut rule = rule.transpose().map_err(NoResult::cannot_write)?;
        let wanted = load.task.outputs.clone();
        let on_terminal = load.task.terminal.is_some();
        let sent = inputs_sent(&load.task, plan);
        let form = if load.task.tree {
            "tree"
        } else {
            "preprocessed"
        };
        let allowed = load.allowed;
        let mut arriving = Arriving::new(object.file(), self.kept);
        let mut listing = rule.as_mut().map(|rule| Arriving::new(rule.file(), false));
        let sides = plan.sides.iter().filter(|_| load.task.tree);
        let sides = sides.map(|path| Pending::new(path, Style::Rewrite));
        let sides: Result<Vec<Pending>, _> = sides.collect();
        let mut sides = sides.map_err(NoResult::cannot_write)?;
        let mut side_sinks: Vec<Arriving> = sides
            .iter_mut()
            .map(|side| Arriving::new(side.file(), false))
            .collect();
        let mut cost = Cost::default();
        let mut sinks: Vec<&mut dyn Sink> = vec![&mut arriving];
        sinks.extend(listing.as_mut().map(|listing| listing as &mut dyn Sink));
        sinks.extend(side_sinks.iter_mut().map(|side| side as &mut dyn Sink));
        sinks.truncate(wanted.len());
        let ending = self.follow(connection, load, &mut sinks, &mut cost);
        let ended = Instant::now();
        enter_phases(&mut self.context.timeline, &cost, &ending, ended);
        let record = &mut self.context.record;
        record.bytes_up = cost.bytes_up;
        record.bytes_down = cost.bytes_down;
        record.worker = cost.worker;
        if cost.grid_keeps {
            let keeps = keeps_key(&self.key);
            self.context.memos.note(&keeps, "results");
        }
        let record = &mut self.context.record;
        record.remote_ms = ended.duration_since(began).as_millis() as u64;
        let Returned {
            result,
            queue_ms,
            audit,
            worker,
            kept: is_kept,
        } = match ending.map_err(NoResult::Lost)? {
            Ending::Returned(returned) => returned,
            Ending::TakenBack(slot, why) => return Err(NoResult::TakenBack(slot, why)),
        };
        record.queue_ms = queue_ms;
        // Not always who was given it last: a second attempt may have lost.
        record.worker = Some(worker.clone());
        record.grid_had_it = is_kept;
        drop(side_sinks);
        let is_made = |path: &[u8]| result.outputs.iter().any(|output| output.path == path);
        let main = wanted.len() - sides.len();
        // Of the others not each is made each time.
        let made = wanted.iter().enumerate();
        let made = made.filter(|(at, path)| *at < main || is_made(path));
        let made: Vec<Vec<u8>> = made.map(|(_, path)| path.clone()).collect();
        attempt::accept(&result, allowed, on_terminal, &made).map_err(NoResult::Unlike)?;
        let may_be: Vec<PathBuf> = sides.iter().map(|side| side.target().to_owned()).collect();
        sides.retain(|side| is_made(os::bytes(side.target().as_os_str())));
        check_looks(plan.object_kind(), arriving.begins())?;
        if let Some(listing) = listing.filter(|_| main > 1) {
            check_looks(object::Kind::Text, listing.begins())?;
        }
        let frame = arriving.frame();
        let is_renamed = self.put_own_ident(&mut object)?;
        let frame = frame.filter(|_| !is_renamed);
        if let Some(task_id) = audit {
            let remote = content(&mut object).map_err(NoResult::cannot_write)?;
            let beside = remote_sides(may_be, &mut sides).map_err(NoResult::cannot_write)?;
            self.context.record.form = Some(form);
            self.context.audit = Some(Audit {
                task_id,
                worker,
                remote,
                object: plan.object.clone(),
                style: plan.object_style(),
                sides: beside,
                inputs: sent,
                began: self.context.began_at,
                equal: (!result.equal.is_empty())
                    .then(|| toolchain_digests(plan, self.found, self.context.config)),
            });
            return Err(NoResult::Local(Reason::with(AUDIT, "")));
        }
        let mut received = Received {
            // What the worker was like then is long ago.
            starved: !is_kept && result.usage.as_ref().is_some_and(attempt::was_starved),
            ..Received::default()
        };
        if self.kept {
            let contents = kept(frame, &result, &mut object, rule.as_mut());
            let contents = contents.map_err(NoResult::cannot_write)?;
            (received.object, received.dependencies) = contents;
            let kept = sides.iter_mut().map(kept_side).collect::<io::Result<_>>();
            received.sides = kept.map_err(NoResult::cannot_write)?;
        }
        received.stderr = result.stderr;
        let outputs = sides.into_iter().chain(rule).chain([object]).collect();
        output::put_all(outputs).map_err(NoResult::cannot_write)?;
        Ok(received)
    }

    /// Where another machine's compiler has made the object and left its own name in it, puts
    /// this machine's in its place. Gives whether it has.
    fn put_own_ident(&self, object: &mut Pending) -> Result<bool, NoResult> {
        if self.trials == Trials::default() || self.plan.dialect.family != Family::Gcc {
            return Ok(false);
        }
        let made = content(object).map_err(NoResult::cannot_write)?;
        let ident = ident::last(&made).unwrap_or_default();
        let own = self.trials.own_ident(ident);
        if own.is_none() && !self.trials.names_another(&made) {
            return Ok(false);
        }
        let renamed = own.and_then(|own| ident::replace_last(&made, own));
        let renamed = renamed.filter(|renamed| !self.trials.names_another(renamed));
        let renamed = renamed.ok_or_else(|| {
            let words = "an object of another build of this compiler is laid out in an unknown way";
            NoResult::Local(Reason::with("equivalent", words))
        })?;
        object.rewrite(&renamed).map_err(NoResult::cannot_write)?;
        Ok(true)
    }

    /// Submits the task and follows it to its end, on a second connection where the first
    /// one was cut before anything came of it, or was the build's, whatever came of it.
    fn follow(
        &mut self,
        mut connection: Connection,
        load: Load,
        sinks: &mut [&mut dyn Sink],
        cost: &mut Cost,
    ) -> Result<Ending, Lost> {
        let only_kept = load.task.only_kept;
        let request = SubmitRequest {
            kind: Some(submit_request::Kind::Task(load.task)),
        };
        let config = self.context.config;
        let run = config.run_folder();
        let mut again = true;
        loop {
            let slots = self.context.slots();
            let overtaking = slots.filter(|slots| slots.travelling() > 0);
            let beside = connection.clone();
            let compile = submit::submit(
                &mut connection,
                &request,
                &load.contents,
                sinks,
                overtaking,
                cost,
            );
            // While the worker works there is time to spare.
            let both = future::or(compile, async {
                report::report_hits_over(config, beside).await;
                future::pending().await
            });
            let in_time = future::or(both, async {
                match only_kept {
                    true => Timer::after(Duration::from_millis(attempt::KEPT_MS_MAX)).await,
                    false => future::pending().await,
                };
                Err(Lost::Broken("no result of before in time".into()))
            });
            let ending = own_speed::measured_beside(run.as_deref(), || self.tasks.run(in_time));
            // One that said nothing for long, while the files were read, may have been cut
            // for others' sake; a coordinator that went away is not there to be dialled.
            match ending {
                Err(lost) if self.relay.is_some() && lost.is_of_connection() => self.relay = None,
                Err(Lost::Cut(_)) if again && cost.is_nothing() => again = false,
                ending => return ending,
            }
            let Ok(access) = self.access() else {
                return Err(Lost::Broken("its token is gone".into()));
            };
            self.connection = None;
            let anew = Connection::open(&self.tasks, access, CONNECT_MS_MAX);
            connection = self.tasks.run(anew).map_err(Lost::from)?;
            self.connection = Some(Ok(connection.clone()));
        }
    }
}

/// What the time of an attempt that ended at `ended` went to.
fn enter_phases(
    timeline: &mut Timeline,
    cost: &Cost,
    ending: &Result<Ending, Lost>,
    ended: Instant,
) {
    if let Some(started) = cost.started {
        timeline.enter_at(Phase::Send, started);
    }
    if let Ok(Ending::Returned(Returned { result, .. })) = ending {
        let compile_us = result.usage.as_ref().map_or(0, |usage| usage.wall_us);
        // Output comes when the compiler has ended.
        let compiled = cost.output_began.unwrap_or(ended);
        let began = compiled.checked_sub(Duration::from_micros(compile_us));
        timeline.enter_at(Phase::Compile, began.unwrap_or(compiled));
        timeline.enter_at(Phase::Receive, compiled);
    }
    timeline.enter_at(Phase::Finish, ended);
}

/// Whether trials cover a compile.
fn is_tried(plan: &Plan) -> bool {
    let options = plan.compile.arguments.iter();
    let mut options = options.filter_map(|argument| argument.words.first());
    // gcc's text would say who made it, and has not been compared.
    let is_text = plan.compile.assembly && plan.dialect.family == Family::Gcc;
    // No trial assembles what a compiler did not write.
    let is_like_them = plan.compile.kind == SourceKind::Code;
    !is_text
        && is_like_them
        && options.all(|word| !word.starts_with(b"-") || trial_cases::covers(word))
}

/// What this machine's own toolchain is called in either form.
fn toolchain_digests(plan: &Plan, found: &Found, config: &Config) -> Vec<Vec<u8>> {
    let Ok(probe) = plan.probe(found, config) else {
        return Vec::new();
    };
    let language = plan.compile.language;
    let forms = [probe.toolchain(language), probe.tree_toolchain(language)];
    let known = forms.into_iter().flatten();
    known.map(|toolchain| toolchain.digest).collect()
}

/// Whether an output begins and ends as what it should be.
fn check_looks(kind: object::Kind, (head, size): (&[u8], u64)) -> Result<(), NoResult> {
    let corrupt = |why: &str| NoResult::Lost(Lost::Corrupt(why.to_owned()));
    kind.check(head, size).map_err(corrupt)
}

/// Which files a worker is given, and what they hold. Of a text, the source that it was
/// made of, whose own digest nobody knows: it counts by its time alone.
fn inputs_sent(task: &Task, plan: &Plan) -> Vec<(PathBuf, Digest)> {
    let input = |input: &Input| {
        let path = PathBuf::from(os::from_bytes(input.path.clone()));
        Some((path, Digest::try_from(&input.digest[..]).ok()?))
    };
    match task.tree {
        true => task.inputs.iter().filter_map(input).collect(),
        false => {
            let source = os::from_bytes(plan.compile.source.clone());
            vec![(PathBuf::from(source), Digest::of(b""))]
        }
    }
}

/// All of an output that is not in its place yet.
fn content(pending: &mut Pending) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    pending.file().rewind()?;
    pending.file().read_to_end(&mut content)?;
    Ok(content)
}

/// Of each file that a compile may write beside its object what a worker, which made `sides`,
/// has in it.
fn remote_sides(
    may_be: Vec<PathBuf>,
    sides: &mut [Pending],
) -> io::Result<Vec<(PathBuf, Option<Vec<u8>>)>> {
    let of = |path: PathBuf| {
        let side = sides.iter_mut().find(|side| side.target() == path);
        let content = side.map(content).transpose()?;
        Ok((path, content))
    };
    may_be.into_iter().map(of).collect()
}

/// A file beside the object as the cache keeps it.
fn kept_side(side: &mut Pending) -> io::Result<SideFile> {
    Ok(SideFile {
        output: Output::keep(content(side)?),
        path: os::bytes(side.target().as_os_str()).to_vec().into(),
    })
}

/// Object and dependency file as the cache keeps them; `frame` is how the object came.
fn kept(
    frame: Option<Vec<u8>>,
    result: &TaskResult,
    object: &mut Pending,
    rule: Option<&mut Pending>,
) -> io::Result<(Output, Option<Output>)> {
    let size = result.outputs.first().map_or(0, |first| first.size);
    let object = match frame.and_then(|frame| Output::keep_frame(frame, size)) {
        Some(object) => object,
        None => Output::keep(content(object)?),
    };
    let rule = rule.map(content).transpose()?;
    Ok((object, rule.map(Output::keep)))
}
