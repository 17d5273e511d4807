//! `hgbuild make ...`: runs a build command with its compilers led through us,
//! and says at the end where they ran.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hg_proto::log::Level;
use hg_proto::v1::{GetStatusRequest, GetStatusResponse, ReportBuildRequest};
use hg_proto::wire::trace_id;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::cache::keeper;
use crate::commands::checks::{self, CmakeTree};
use crate::commands::history;
use crate::commands::masquerade::Masquerade;
use crate::commands::status_line::StatusLine;
use crate::commands::summary::Counts;
use crate::commands::trace;
use crate::compile::context::millis_since;
use crate::compile::events::{self, printable};
use crate::compile::remote;
use crate::compile::report;
use crate::config::{Config, right_to_warn};
use crate::grid::find;
use crate::grid::grpc::{Connection, Tasks};
use crate::grid::memo::Memos;
use crate::grid::relay::{self, Relay};
use crate::inputs::task;
use crate::local::compiler::Search;
use crate::local::process::ExitStatus;
use crate::local::signals::{self, Forwarding};
use crate::local::slots::Slots;
use crate::local::trace_context;
use crate::os;
use crate::private;
use crate::say;

/// Milliseconds that a build waits to learn how large the grid is.
const STATUS_MS_MAX: u64 = 500;
/// Jobs that we choose at most.
const JOBS_MAX: usize = 512;
/// Seconds of processor time that a build takes which has compiled something.
const COMPILED_S: i64 = 2;

/// Runs `words`; ends this process as the command ends.
pub fn run(mut words: Vec<OsString>, config: &Config) -> ! {
    if let Some(trouble) = &config.trouble {
        say::warn(format_args!("{trouble}: building without the grid"));
    }
    let tree = cmake_folder(&words);
    let tasks = Tasks::new();
    let mut connection = None;
    if let Some(jobs) = Jobs::wanted(&words) {
        let asked = ask_grid(config, &tasks);
        let status = match asked {
            None => None,
            Some(Ok((opened, status))) => {
                connection = Some(opened);
                Some(status)
            }
            Some(Err(why)) => {
                warn_without_grid(&why);
                None
            }
        };
        jobs.put(&mut words, jobs_for(config, status));
    } else if env::var_os("HG_BUILD").is_none() {
        look_at_grid_beside(config);
    }
    let log = SummaryLog::new(config);
    let relay = start_relay(config, tasks, connection);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    let is_led = set_environment(&mut command, config, &log);
    if let Some(relay) = &relay {
        command.env(relay::VARIABLE, relay.path());
    }
    let forwarding = Forwarding::start();
    let shown = log.as_ref().ok().and_then(Option::as_ref);
    // One build in another is a part of it.
    let shown = shown.filter(|_| config.status_line && env::var_os("HG_BUILD").is_none());
    let status_line = shown.and_then(|log| StatusLine::start(&log.path, &words));
    let (began, began_at) = (Instant::now(), SystemTime::now());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let code = if error.kind() == std::io::ErrorKind::NotFound {
                127
            } else {
                126
            };
            say::warn(format_args!("{}: {error}", words[0].to_string_lossy()));
            drop((status_line, log, relay));
            std::process::exit(code);
        }
    };
    forwarding.forward_to(child.id());
    let ended = match child.wait() {
        Ok(status) => ExitStatus::of(status),
        Err(error) => {
            say::warn(error);
            ExitStatus::Code(1)
        }
    };
    drop(forwarding);
    drop(status_line);
    let counts = match &log {
        Ok(Some(log)) => {
            keep_log(&log.path);
            if let Some(path) = &config.trace {
                let command = words.join(OsStr::new(" "));
                let build = trace::Build {
                    command: &command.to_string_lossy(),
                    start_us: micros(began_at.duration_since(UNIX_EPOCH).unwrap_or_default()),
                    wall_us: micros(began.elapsed()),
                    exit: ended.code(),
                };
                write_trace(path, &build, &log.path);
            }
            Counts::read(&log.path)
        }
        _ => Counts::default(),
    };
    // This process ends below without coming back here, and these with it.
    drop((log, relay));
    // One build in another is a part of it, and it is the outer one that tells.
    match counts
        .report()
        .filter(|_| env::var_os("HG_BUILD").is_none())
    {
        None => report::report_hits(config),
        Some(build) => {
            let build = ReportBuildRequest {
                client: task::client_of(Some(std::process::id())),
                wall_ms: millis_since(began),
                exit_code: ended.code(),
                ..build
            };
            report::report_build(config, &build);
        }
    }
    say::aside(counts.text());
    if is_led && env::var_os("HG_BUILD").is_none() {
        match checks::home_trouble(config) {
            Some(trouble) => tell_what_is_missing(&counts, &trouble),
            None if counts.is_empty() => tell_that_none_came(&tree),
            None => {}
        }
    }
    match (signals::received(), ended) {
        // make turns a signal into an exit code; a shell must still see it.
        (Some(signal), _) => ExitStatus::Signal(signal as i32).end_this_process(),
        (None, ended) => ended.end_this_process(),
    }
}

/// Says why there is no summary, or one that nobody should count on.
fn tell_what_is_missing(counts: &Counts, trouble: &str) {
    let what = match counts.is_empty() {
        true => "no summary",
        false => "the summary may lack compiles",
    };
    say::warn(format_args!(
        "{what}: {trouble}: HOME has to be a folder that can be written to and has room"
    ));
}

fn warn_without_grid(why: &str) {
    // Within another build that one has said it.
    if env::var_os("HG_BUILD").is_none() {
        say::warn(format_args!("without the grid: {}", printable(why)));
    }
}

/// Says what is wrong with the grid while the build is under way, which needs nothing of the
/// answer and does not wait for it.
fn look_at_grid_beside(config: &Config) {
    let config = config.clone();
    let look = move || {
        if let Some(Err(why)) = ask_grid(&config, &Tasks::new()) {
            warn_without_grid(&why);
        }
    };
    // The summary says it in any case.
    let _ = thread::Builder::new().name("look".into()).spawn(look);
}

/// Says that no compile came through us, and why, where the build did compile.
fn tell_that_none_came(tree: &Path) {
    if let Some(tree) = CmakeTree::of(tree) {
        say::warn(format_args!("no compile came through: {}", tree.words()));
        say::aside(format_args!("hgbuild:   {}\n", tree.remedy()));
        return;
    }
    let used = getrusage(UsageWho::RUSAGE_CHILDREN);
    if used.is_ok_and(|used| used.user_time().num_seconds() >= COMPILED_S) {
        say::warn(
            "no compile came through: if there were any, the build calls its compiler by its path",
        );
    }
}

/// Where the CMake tree would be that `words`, a build command, build.
fn cmake_folder(words: &[OsString]) -> PathBuf {
    let mut folders = words.windows(2).filter_map(|pair| {
        let names_next = pair[0] == "--build" || pair[0] == "-C";
        names_next.then(|| PathBuf::from(&pair[1]))
    });
    folders.next().unwrap_or_else(|| PathBuf::from("."))
}

/// Sets the environment in which a build's compilers are led through us, if they can be.
fn set_environment(
    command: &mut Command,
    config: &Config,
    log: &io::Result<Option<SummaryLog>>,
) -> bool {
    // As the first word of a shell's command, PATH applies to the build tool
    // itself too: it must not find us in place of a compiler named like it.
    let search = Search::new();
    if config.refused.is_some() {
        // It was said.
        command.env("HG_CACHE_WARNED", "1");
    }
    let masquerade = match config.home.as_deref().map(Masquerade::prepare) {
        Some(Ok(masquerade)) => masquerade,
        Some(Err(error)) => {
            let home = config.home.as_deref().unwrap_or(Path::new(""));
            say::warn(format_args!(
                "{}: {error}: building plainly; HOME has to be a folder that can be written to \
                 and has room",
                home.display()
            ));
            return false;
        }
        None => {
            // If it was refused, that was said.
            if config.trouble.is_none() {
                say::warn("no home folder: building plainly");
            }
            return false;
        }
    };
    let folders = std::iter::once(masquerade.folder.clone()).chain(search.folders());
    if let Ok(path) = env::join_paths(folders) {
        command.env("PATH", path);
    }
    command.envs(masquerade.variables());
    let folder = masquerade.folder;
    let trace = trace_context::current();
    command.env(trace_context::VARIABLE, trace_id::hex(&trace.trace_id));
    if env::var_os("HG_BUILD").is_none() {
        // So that a single compile beside this build has a turn of its own.
        command.env("HG_BUILD", std::process::id().to_string());
    }
    if let Ok(Some(log)) = log {
        command.env("HG_SUMMARY_LOG", &log.path);
    }
    // One that was not named may move while this build runs.
    if let Some(address) = config.coordinator.as_ref().filter(|_| config.is_named) {
        command.env("HG_COORDINATOR", address);
    }
    if let Some(settings) = config.cache.as_ref().filter(|settings| !settings.warned)
        && let Err(trouble) = keeper::open(settings)
    {
        // Once, not for each of a thousand compiles.
        keeper::warn(&trouble, settings);
        command.env("HG_CACHE_WARNED", "1");
    } else if let Err(error) = log {
        let home = config.home.as_deref().unwrap_or(Path::new(""));
        let home = home.display();
        say::warn(format_args!("{home}: {error}: nothing is kept there"));
        command.env("HG_CACHE_WARNED", "1");
    }
    if !config.fallback {
        command.env("HG_FALLBACK", "0");
    }
    if config.level >= Level::Info && env::var_os("HG_LOG").is_none() {
        command.env("HG_LOG", "info");
    }
    for (name, chosen, stands_for) in [("CC", &config.cc, "cc"), ("CXX", &config.cxx, "c++")] {
        let given = env::var_os(name);
        if let Some(value) =
            compiler_variable(&folder, given.as_deref(), chosen.is_some(), stands_for)
        {
            command.env(name, value);
        }
    }
    true
}

/// What CC or CXX must be so that it leads to us; `None`: what it is. A bare name in it is found in the
/// masquerade folder; an unset one too, and setting it could change what the
/// build chooses (GNU make's `$(origin CC)`).
fn compiler_variable(
    folder: &Path,
    given: Option<&OsStr>,
    chosen: bool,
    stands_for: &str,
) -> Option<OsString> {
    if chosen {
        return Some(folder.join(stands_for).into());
    }
    let given = given?;
    let first = os::bytes(given).split(|&byte| byte == b' ').next()?;
    if !first.contains(&b'/') || given.is_empty() {
        return None;
    }
    let own = env::current_exe().ok()?;
    if first == os::bytes(own.as_os_str()) {
        return None;
    }
    let mut value = own.into_os_string();
    value.push(" ");
    value.push(given);
    Some(value)
}

/// Where a build command takes its number of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Jobs {
    /// `-jN` after the first word.
    Flag,
    /// `cmake --build DIR --parallel N`, before a `--`.
    Parallel,
}

impl Jobs {
    /// `None`: the user said how many, or the command takes none.
    fn wanted(words: &[OsString]) -> Option<Jobs> {
        let tool = Path::new(words.first()?).file_name()?.to_str()?;
        let args = &words[1..];
        let has = |test: &dyn Fn(&[u8]) -> bool| args.iter().any(|arg| test(os::bytes(arg)));
        let said_j = |arg: &[u8]| arg.starts_with(b"-j") || arg.starts_with(b"--jobs");
        match tool {
            "make" | "gmake" => {
                let inherited = env::var_os("MAKEFLAGS").unwrap_or_default();
                let inherited = os::bytes(&inherited)
                    .split(|&byte| byte == b' ')
                    .any(|word| said_j(word) || word.starts_with(b"--jobserver"));
                // Several short flags may stand in one word: `-kj4`.
                let bundled = |arg: &[u8]| {
                    arg.starts_with(b"-")
                        && !arg.starts_with(b"--")
                        && arg[1..]
                            .iter()
                            .take_while(|byte| b"BbdeikLnpqRrSstvwj".contains(byte))
                            .any(|&byte| byte == b'j')
                };
                (!inherited && !has(&said_j) && !has(&bundled)).then_some(Jobs::Flag)
            }
            "ninja" | "ninja-build" | "samu" => (!has(&said_j)).then_some(Jobs::Flag),
            "cmake" => {
                let builds = args.first().is_some_and(|arg| arg == "--build");
                let said = |arg: &[u8]| said_j(arg) || arg.starts_with(b"--parallel");
                let level = env::var_os("CMAKE_BUILD_PARALLEL_LEVEL").is_some();
                (builds && !level && !has(&said)).then_some(Jobs::Parallel)
            }
            _ => None,
        }
    }

    fn put(self, words: &mut Vec<OsString>, jobs: usize) {
        match self {
            Jobs::Flag => words.insert(1, format!("-j{jobs}").into()),
            Jobs::Parallel => {
                let end = words.iter().position(|word| word == "--");
                let at = end.unwrap_or(words.len());
                words.insert(at, format!("{jobs}").into());
                words.insert(at, "--parallel".into());
            }
        }
    }
}

/// As many jobs as the grid and this machine compile at once, and a few more
/// so that none waits for its input.
fn jobs_for(config: &Config, status: Option<GetStatusResponse>) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let Some(status) = status else {
        return cores;
    };
    let slots = status.slots as usize;
    let local = Slots::new(Path::new(""), config.local_slots).travelling();
    jobs(slots, local, cores)
}

/// A machine may have more cores than the grid is worth jobs.
fn jobs(slots: usize, local: usize, cores: usize) -> usize {
    let wanted = slots
        .saturating_add(local)
        .saturating_add(slots.div_ceil(8));
    wanted.min(JOBS_MAX).max(cores)
}

/// A connection to the grid and what it says of itself, or why it is of no use now; `None`:
/// there is none.
fn ask_grid(
    config: &Config,
    tasks: &Tasks,
) -> Option<Result<(Connection, GetStatusResponse), String>> {
    if config.coordinator.is_none() && config.sought.is_none() {
        return None;
    }
    let asked = find::to_grid_soon(config, tasks).and_then(|mut connection| {
        let question = GetStatusRequest {};
        let call = connection.call("GetStatus", &question, STATUS_MS_MAX);
        let status: Result<GetStatusResponse, _> = tasks.run(call);
        let status = status.map_err(|error| error.to_string())?;
        if let Some(address) = config
            .coordinator
            .as_ref()
            .filter(|_| status.results_kept > 0)
        {
            let memos = Memos::new(config.run_folder().as_deref());
            let keeps = remote::keeps_key(&config.grid_key(address));
            memos.note(&keeps, "results");
        }
        Ok((connection, status))
    });
    Some(match asked {
        Ok((_, status)) if status.workers == 0 => Err("no worker is there".to_owned()),
        asked => asked,
    })
}

fn write_trace(path: &Path, build: &trace::Build<'_>, log: &Path) {
    let mut compiles = Vec::new();
    events::read(log, |event| compiles.push(event));
    if let Err(error) = trace::write(path, build, compiles) {
        say::warn(format_args!("{}: {error}: no trace", path.display()));
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros().try_into().unwrap_or(u64::MAX)
}

/// For `hgbuild explain FILE`.
fn keep_log(log: &Path) {
    if let Some(run) = log.parent()
        && let Err(error) = history::keep(run, log)
        // The end of the build says so.
        && error.kind() != io::ErrorKind::StorageFull
    {
        say::warn(format_args!("{}: {error}", run.display()));
    }
}

/// Holds `connection` for the compiles of this build, or dials for them; within another
/// build, that one does.
fn start_relay(config: &Config, tasks: Tasks, connection: Option<Connection>) -> Option<Relay> {
    if config.relay.as_ref().is_some_and(|outer| outer.exists()) {
        return None;
    }
    let opened = connection.as_ref().map(|one| one.address().to_owned());
    let address = opened.or_else(|| config.coordinator.clone())?;
    let path = build_file(&config.run_folder()?, std::process::id(), "sock");
    let _ = fs::remove_file(&path);
    Relay::start(path, config, address, tasks, connection).ok()
}

/// A file that belongs to the build of the process `pid`.
fn build_file(run: &Path, pid: u32, kind: &str) -> PathBuf {
    run.join(format!("build-{pid}.{kind}"))
}

/// Where the compiles of this build leave word; removed at the end.
struct SummaryLog {
    path: PathBuf,
}

impl SummaryLog {
    fn new(config: &Config) -> io::Result<Option<Self>> {
        let Some(folder) = config.run_folder() else {
            return Ok(None);
        };
        private::make(&folder)?;
        let path = build_file(&folder, std::process::id(), "jsonl");
        private::write(&path, b"")?;
        private::write(&right_to_warn(&path), b"")?;
        Ok(Some(SummaryLog { path }))
    }
}

impl Drop for SummaryLog {
    fn drop(&mut self) {
        let _ = fs::remove_file(right_to_warn(&self.path));
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_number_of_jobs_is_the_users_if_they_gave_one() {
        for line in [
            "make -j4",
            "make -kj",
            "make --jobs=3",
            "ninja -j 2",
            "cmake --build b -j3",
            "cmake -S . -B b",
            "./x.sh",
        ] {
            assert_eq!(Jobs::wanted(&words(line)), None, "{line}");
        }
        for line in [
            "make",
            "make -k all",
            "make -C jdir -f jam.mk",
            "/usr/bin/ninja",
        ] {
            assert_eq!(Jobs::wanted(&words(line)), Some(Jobs::Flag), "{line}");
        }
        let mut line = words("cmake --build b -- -k");
        Jobs::wanted(&line).unwrap().put(&mut line, 7);
        assert_eq!(line, words("cmake --build b --parallel 7 -- -k"));
    }

    #[test]
    fn jobs_are_bounded_on_any_machine() {
        assert_eq!(jobs(16, 3, 4), 21);
        assert_eq!(jobs(0, 0, 4), 4);
        assert_eq!(jobs(usize::MAX, 3, 4), JOBS_MAX);
        assert_eq!(jobs(16, 600, 800), 800);
    }

    #[test]
    fn cc_comes_to_us_whatever_it_is() {
        let folder = Path::new("/m");
        assert_eq!(compiler_variable(folder, None, false, "cc"), None);
        assert_eq!(
            compiler_variable(folder, Some(OsStr::new("gcc -m32")), false, "cc"),
            None
        );
        assert_eq!(
            compiler_variable(folder, None, true, "cc"),
            Some("/m/cc".into())
        );
        let by_path =
            compiler_variable(folder, Some(OsStr::new("/usr/bin/gcc")), false, "cc").unwrap();
        assert!(by_path.to_str().unwrap().ends_with(" /usr/bin/gcc"));
    }
}
