//! `hgbuild COMPILER ARGS...`: one compile, from what was typed to the files that lie
//! there afterwards. The cache is asked, then the grid; each step says why it stops, and
//! then the user's own compiler runs.

use std::ffi::OsString;
use std::time::Instant;

use hg_proto::options::args::{self, Reason};

use crate::cache::keeper::{self, CacheAnswer, Keeper};
use crate::cache::store::Compiled;
use crate::cli;
use crate::compile::audit::{AUDIT, Finding};
use crate::compile::context::{Context, SuspectTree, WhyLocal};
use crate::compile::events::{self, Origin};
use crate::compile::remote;
use crate::compile::timeline::Phase;
use crate::config::Config;
use crate::grid::attempt;
use crate::grid::memo::Known;
use crate::invocation::plan::{CONFIGURE_PROBE, Plan};
use crate::local::compiler::{self, Found};
use crate::local::process::{self, ExitStatus};
use crate::local::signals;
use crate::os;
use crate::say;
use crate::shield::shielded;

/// Exit code when the grid failed and a local compile is not allowed.
const NO_FALLBACK_EXIT: i32 = 75;

/// How far a compile got before the local compiler had to run.
enum Outcome {
    /// A worker's result is in its place, with whoever keeps it.
    Remote(Plan, Compiled, Option<Box<Keeper>>),
    /// There is none, with whoever keeps what the local compiler makes.
    Local(WhyLocal, Option<(Box<Keeper>, Plan)>),
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
    let mut context = Context::new(began, &found, config);
    let (why, keep) = match shielded(|| try_cache_then_grid(&mut context, &found)) {
        Ok(Outcome::Remote(plan, result, keeper)) => {
            end_remotely(&mut context, &found, &plan, result, keeper)
        }
        Ok(Outcome::Local(why, keep)) => (why, keep),
        Err(reason) => (WhyLocal::GridFailed(reason), None),
    };
    if let Some(signal) = signals::received() {
        ExitStatus::Signal(signal as i32).end_this_process();
    }
    found.mark();
    run_locally(&mut context, &found, why, keep)
}

/// Everything up to the user's own compiler. Ends this process if the cache has the
/// answer.
fn try_cache_then_grid(context: &mut Context, found: &Found) -> Outcome {
    let plan = match read_command_line(context, found) {
        Ok(plan) => plan,
        Err(why) => return Outcome::Local(why, None),
    };
    let keeper = ask_cache(context, found, &plan);
    if signals::received().is_some() {
        // Came while the preprocessor ran for the cache.
        let reason = Reason::with("interrupted", "");
        return Outcome::Local(reason.into(), None);
    }
    match remote::try_grid(context, found, &plan, keeper.is_some()) {
        Ok(result) => Outcome::Remote(plan, result, keeper),
        Err(why) => {
            if let WhyLocal::Chosen(reason) = &why
                && attempt::lasts(reason)
            {
                let words = events::printable(&reason.to_string());
                let key = context.source_key(found, &plan);
                context.sources.note(key, &words);
            }
            Outcome::Local(why, keeper.map(|keeper| (keeper, plan)))
        }
    }
}

/// What the command is to do.
fn read_command_line(context: &mut Context, found: &Found) -> Result<Plan, WhyLocal> {
    let config = context.config;
    if config.disabled {
        return Err(Reason::with("disabled", "HG_DISABLE").into());
    }
    let name = found.name.ok_or_else(|| Reason::with("not-a-compiler", ""));
    let plan = name.and_then(|name| Plan::read(found, name, config));
    let plan = plan.inspect_err(|reason| {
        keeper::count_bypass(config, reason);
        if found.name.is_some() && reason.code != CONFIGURE_PROBE {
            let words: Vec<Vec<u8>> = found.args.iter().map(|a| os::bytes(a).to_vec()).collect();
            let source = args::likely_source(&words);
            context.record.source = source.map(<[u8]>::to_vec).unwrap_or_default();
        }
    })?;
    context.record.source = plan.compile.source.clone();
    context.record.output = plan.compile.output_path();
    Ok(plan)
}

/// Ends this process if the cache has the answer; else gives who keeps a new one.
fn ask_cache(context: &mut Context, found: &Found, plan: &Plan) -> Option<Box<Keeper>> {
    match keeper::look_up(context.config, found, plan, || context.wait_for_slot()) {
        CacheAnswer::Bypassed(why) => {
            context.record.not_kept = why;
            None
        }
        CacheAnswer::Miss(keeper) => Some(keeper),
        CacheAnswer::Hit(how) => {
            context.log(Origin::Cache, &Reason::with(how, ""), 0);
            std::process::exit(0)
        }
    }
}

/// A worker's result is in its place: says what its compiler said, keeps it and ends.
fn end_remotely(
    context: &mut Context,
    found: &Found,
    plan: &Plan,
    result: Compiled,
    keeper: Option<Box<Keeper>>,
) -> ! {
    use std::io::Write;
    // Nobody may be reading; the compiler would not care either.
    let _ = std::io::stderr().write_all(&result.stderr);
    if let Some(keeper) = keeper {
        let wait = || context.wait_for_slot();
        let kept = shielded(|| keeper.keep(found, plan, result, wait));
        context.record.not_kept = kept.unwrap_or_else(Some);
    }
    let how = match context.record.grid_had_it {
        true => events::GRID_HAD_IT,
        false => "remote",
    };
    context.log(Origin::Remote, &Reason::with(how, ""), 0);
    std::process::exit(0)
}

/// The user's own compiler.
fn run_locally(
    context: &mut Context,
    found: &Found,
    why: WhyLocal,
    keep: Option<(Box<Keeper>, Plan)>,
) -> ! {
    let config = context.config;
    context.timeline.enter(Phase::Wait);
    let (reason, slot) = match why {
        WhyLocal::GridFailed(reason) if !config.fallback => {
            let why = events::printable(&reason.to_string());
            say::warn(format_args!(
                "the grid failed and --no-fallback is set: {why}"
            ));
            context.log(Origin::Local, &reason, NO_FALLBACK_EXIT);
            std::process::exit(NO_FALLBACK_EXIT);
        }
        WhyLocal::InSlot(reason, slot) => (reason, Some(slot)),
        WhyLocal::Chosen(reason) | WhyLocal::GridFailed(reason) => {
            let slot = match takes_a_slot(found, config) {
                true => context.wait_for_slot(),
                false => None,
            };
            (reason, slot)
        }
    };
    context.begin(Phase::Local, Origin::Local);
    // With these files alone a worker failed: there is one that nobody knows of.
    let keep = keep.filter(|_| reason.code != attempt::REMOTE_FAILED);
    if let Some((keeper, plan)) = keep {
        // Where this fails nothing ran, and the plain way is left.
        if let Ok(Ok((said, not_kept))) = shielded(|| keeper.compile(found, &plan)) {
            drop(slot);
            context.record.not_kept = not_kept;
            end_locally(context, found, &reason, said.ended)
        }
    }
    let is_over = context.suspect.is_none() && context.audit.is_none();
    if !events::wanted(config) && is_over {
        if let Some(slot) = &slot {
            slot.keep_over_exec();
        }
        cannot_run(found, &process::exec(&found.command));
    }
    match process::run(&found.command) {
        Ok(ended) => {
            drop(slot);
            end_locally(context, found, &reason, ended)
        }
        Err(error) => cannot_run(found, &error),
    }
}

/// The user's own compiler has ended, and so do we.
fn end_locally(context: &Context, found: &Found, reason: &Reason, ended: ExitStatus) -> ! {
    if let (Some(tree), 0) = (&context.suspect, ended.code()) {
        note_lost_tree(context, tree);
    }
    let finding = match (&context.audit, ended.code()) {
        (Some(audit), 0) => Some(audit.settle(found, context.config)),
        _ => None,
    };
    match finding {
        // A worker compiled it, and what lies there is what it returned.
        Some(Finding::Same) => context.log(Origin::Remote, &Reason::with("remote", ""), 0),
        Some(Finding::Differs) => {
            let worker = context.record.worker.as_deref().unwrap_or_default();
            let detail = format!("{worker} returned another object");
            context.log(Origin::Local, &Reason::with(AUDIT, detail), 0);
        }
        Some(Finding::Unclear) | None => context.log(Origin::Local, reason, ended.code()),
    }
    ended.end_this_process()
}

/// A tree that failed on a worker compiles here.
fn note_lost_tree(context: &Context, tree: &SuspectTree) {
    let words = "failed there, and not here";
    context.sources.note(&tree.source, words);
    // One may read what is not sent; after some in a row, compiling everything
    // twice helps nobody.
    let in_a_row = remote::lost_trees_key(&tree.toolchain);
    let before = match context.memos.recall(&in_a_row, attempt::tree_backoff) {
        Known::Bad(count) => count.parse().unwrap_or(0),
        _ => 0,
    };
    context.memos.forget(&in_a_row);
    match before + 1 >= attempt::TREES_LOST_MAX {
        true => context.memos.note(&tree.toolchain, words),
        false => context.memos.note(&in_a_row, &(before + 1).to_string()),
    }
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
