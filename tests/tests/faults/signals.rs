//! Builds that are interrupted: afterwards no process of ours or of a compiler
//! is left, here or on a worker, no temporary file and no half-written output,
//! and the build command ends as it does without us. And compilers that run
//! here are never more than there are slots, whoever dies. Nor does it matter
//! whether somebody still reads.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hg_tests::command::{Outcome, run_within};
use hg_tests::folder::Entry;
use hg_tests::grid::Grid;
use hg_tests::leftover::{self, compilers, pid_of};
use hg_tests::programs::programs;
use hg_tests::project::{Project, endless};
use hg_tests::running::{PATIENCE, Running, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How a build is started.
type Start = fn(&mut Command) -> Running;
/// How it is interrupted.
type Stop = fn(&Running);

/// Files that are compiled before a build is interrupted.
const QUICK: usize = 6;
/// Files whose compile would take minutes.
const ENDLESS: usize = 24;
/// What the end of all that belongs to a build may take.
const END_MAX: Duration = Duration::from_secs(20);
/// Nobody listens there.
const NO_GRID: &str = "127.0.0.1:1";

/// `f*.c` are quick, `z*.c` take minutes.
fn project() -> Project {
    let project = Project::of(QUICK);
    for number in 0..ENDLESS {
        project.add(&format!("z{number:02}.c"), &endless(number));
    }
    project
}

fn workers(grid: &Grid) -> Vec<Value> {
    let body = grid.get("/api/v1/workers").unwrap_or_default();
    serde_json::from_str(&body).unwrap_or_default()
}

/// Where the workers' tasks are.
fn tasks(grid: &Grid) -> Vec<PathBuf> {
    let names = (1..=grid.workers.len()).map(|n| format!("worker-{n}/tasks"));
    names.map(|name| grid.folder().join(name)).collect()
}

/// Slots in use.
fn busy(grid: &Grid) -> u64 {
    let workers = workers(grid);
    workers.iter().filter_map(|w| w["running"].as_u64()).sum()
}

/// Compiles the quick ones on the grid, starts the whole build and waits until
/// the workers are full.
fn start_the_middle(grid: &Grid, project: &Project, mut make: Command, start: Start) -> Running {
    let quick: Vec<String> = (0..QUICK).map(|n| format!("f{n:02}.o")).collect();
    let words: Vec<&str> = quick.iter().map(String::as_str).collect();
    let outcome = run_within(&mut project.hgbuild_make(&grid.address(), &words), PATIENCE);
    assert!(outcome.ok(), "{}", outcome.words());
    let mut make = start(&mut make);
    // Not only booked: compiling, with all that it takes.
    make.until("full workers", || {
        let remote: usize = tasks(grid).iter().map(|tasks| compilers(tasks).len()).sum();
        (remote == 4).then_some(())
    });
    make
}

/// The quick objects, plainly.
fn build_quick(project: &Project) {
    let quick: Vec<String> = (0..QUICK).map(|n| format!("f{n:02}.o")).collect();
    let words: Vec<&str> = quick.iter().map(String::as_str).collect();
    let outcome = run_within(&mut project.plain_make(&words), PATIENCE);
    assert!(outcome.ok(), "{}", outcome.words());
}

/// The plain build, interrupted in its middle by `stop`.
fn plainly(project: &Project, start: Start, stop: Stop) -> Outcome {
    build_quick(project);
    let mut make = start(&mut project.plain_make(&["-j2"]));
    let plain = project.home().join("plain");
    make.until("a compiler", || {
        (!compilers(&plain).is_empty()).then_some(())
    });
    stop(&make);
    loop {
        if let Some(outcome) = make.over(Duration::from_millis(10)) {
            return outcome;
        }
        // A driver that is told to end leaves its compiler running.
        end_compilers(&plain);
    }
}

fn end_compilers(folder: &Path) {
    for pid in compilers(folder) {
        // It may have ended by itself meanwhile.
        let _ = kill(pid, Signal::SIGKILL);
    }
}

/// hgbuild's processes in a folder, the one of the build command left out.
fn wrappers(project: &Project) -> Vec<Pid> {
    let ours = |pid: &Pid| {
        let exe = fs::read_link(format!("/proc/{pid}/exe"));
        exe.is_ok_and(|exe| exe == programs().client)
    };
    let processes = leftover::processes(&project.there());
    let compiles = processes.iter().filter(|line| line.contains(" -c "));
    compiles
        .filter_map(|line| pid_of(line))
        .filter(ours)
        .collect()
}

/// Drivers of compilers that hgbuild has started.
fn drivers(project: &Project) -> Vec<String> {
    let mut processes = leftover::processes(&project.there());
    let ours: Vec<Pid> = wrappers(project);
    processes.retain(|line| {
        line.contains(" -c z") && !pid_of(line).is_some_and(|pid| ours.contains(&pid))
    });
    processes
}

/// Nothing of the build is left anywhere.
fn assert_nothing_left(what: &str, grid: &Grid, project: &Project) {
    let began = Instant::now();
    until(
        &grid.coordinator,
        "the end of the build's processes",
        || leftover::processes(project.home()).is_empty().then_some(()),
    );
    until(&grid.coordinator, "free workers", || {
        let clean = |tasks: PathBuf| {
            leftover::processes(&tasks).is_empty()
                && fs::read_dir(&tasks).is_ok_and(|mut entries| entries.next().is_none())
        };
        (busy(grid) == 0 && tasks(grid).into_iter().all(clean)).then_some(())
    });
    // Told to end, not run into a limit of theirs.
    let took = began.elapsed();
    assert!(took < END_MAX, "{what}: they ended after {took:?}");
    assert_whole(what, project);
}

/// What lies in hgbuild's copy: the sources, and objects as the plain build has
/// them.
fn assert_whole(what: &str, project: &Project) {
    let [plain, there] = project.files();
    for (path, entry) in &there {
        let object = path.extension().is_some_and(|end| end == "o");
        match plain.get(path) {
            Some(Entry::File { bytes, .. }) => {
                let same = matches!(entry, Entry::File { bytes: other, .. } if other == bytes);
                assert!(same, "{what}: {} differs", path.display());
            }
            _ => panic!("{what}: {} ({object}) is left", path.display()),
        }
    }
    let run = project.home().join(".hybridgrid/run");
    let logs = fs::read_dir(run).into_iter().flatten().flatten();
    let names: Vec<_> = logs.map(|entry| entry.file_name()).collect();
    let left = names
        .iter()
        .any(|name| name.to_string_lossy().starts_with("build-"));
    assert!(!left, "{what}: a build's log is left: {names:?}");
}

fn interrupted(what: &str, local: bool, start: Start, stop: Stop) {
    let grid = Grid::start(programs(), 2, 2);
    let project = project();
    let plain = plainly(&project, start, stop);
    let mut make = project.hgbuild_make(&grid.address(), &["-j64"]);
    if local {
        make.env_remove("HG_LOCAL_SLOTS");
    }
    let make = start_the_middle(&grid, &project, make, start);
    stop(&make);
    let wrapped = make.finish();
    assert_eq!(
        (wrapped.code, wrapped.signal),
        (plain.code, plain.signal),
        "{what}: {}",
        wrapped.words()
    );
    assert_nothing_left(what, &grid, &project);
}

#[test]
fn ctrl_c() {
    interrupted(
        "Ctrl-C",
        false,
        Running::start_on_terminal,
        Running::interrupt,
    );
}

#[test]
fn ctrl_c_while_compilers_run_here_too() {
    interrupted(
        "Ctrl-C",
        true,
        Running::start_on_terminal,
        Running::interrupt,
    );
}

#[test]
fn sigterm_to_hgbuild_alone() {
    interrupted("SIGTERM", false, Running::start, |make| {
        make.signal(Signal::SIGTERM)
    });
}

#[test]
fn sigint_to_the_group() {
    interrupted("kill -INT -PGID", false, Running::start, |make| {
        make.signal_group(Signal::SIGINT);
    });
}

#[test]
fn kill_9_of_single_compiles() {
    let grid = Grid::start(programs(), 2, 2);
    let project = project();
    let make = project.hgbuild_make(&grid.address(), &["-j12", "-k"]);
    let mut make = start_the_middle(&grid, &project, make, Running::start);
    // Make starts those that are left in their place; in the end all are dead.
    let mut killed = BTreeSet::new();
    let outcome = loop {
        for pid in wrappers(&project) {
            // It may have ended by itself meanwhile.
            let _ = kill(pid, Signal::SIGKILL);
            killed.insert(pid);
        }
        if let Some(outcome) = make.over(Duration::from_millis(10)) {
            break outcome;
        }
    };
    assert_eq!(outcome.code, Some(2), "{}", outcome.words());
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert_eq!(said.matches("Killed").count(), ENDLESS, "{said}");
    assert!(killed.len() >= ENDLESS);
    build_quick(&project);
    assert_nothing_left("kill -9", &grid, &project);
}

/// Every compiler of this build that was seen at once, at most.
fn most_at_once(folder: PathBuf, over: &AtomicBool) -> usize {
    let mut most = 0;
    let mut before = Vec::new();
    while !over.load(Ordering::SeqCst) {
        // One look takes a while: only those of two looks were there at once.
        let now = compilers(&folder);
        let both = now.iter().filter(|pid| before.contains(*pid)).count();
        most = most.max(both);
        before = now;
        thread::yield_now();
    }
    most
}

#[test]
fn no_more_compilers_than_slots() {
    let slots = thread::available_parallelism().map_or(1, usize::from);
    let project = Project::of(40);
    let over = AtomicBool::new(false);
    let most = thread::scope(|scope| {
        let watcher = scope.spawn(|| most_at_once(project.there(), &over));
        let wrapped = run_within(&mut project.hgbuild_make(NO_GRID, &["-j16"]), PATIENCE);
        over.store(true, Ordering::SeqCst);
        let plain = run_within(&mut project.plain_make(&["-j2"]), PATIENCE);
        project.assert_same_as("slots", &plain, wrapped);
        watcher.join().expect("a watcher")
    });
    assert!(
        (1..=slots).contains(&most),
        "{most} compilers at once, {slots} slots"
    );
}

/// A build of compiles that take minutes, as many as there are `slots`; all are taken.
fn take_all_slots(project: &Project, slots: usize) -> Running {
    for number in 0..slots {
        project.add(&format!("z{number}.c"), &endless(number));
    }
    let jobs = format!("-j{}", slots + 4);
    let mut hogs = Running::start(&mut project.hgbuild_make(NO_GRID, &[&jobs]));
    // Preprocessors have slots too, but not for long.
    hogs.until("all slots taken", || {
        let processes = leftover::processes(&project.there());
        let endless = |line: &&String| line.contains("/cc1 ") && !line.contains(" -E ");
        (processes.iter().filter(endless).count() == slots).then_some(())
    });
    hogs
}

#[test]
fn a_stopped_build_holds_no_other_one_up() {
    let slots = thread::available_parallelism().map_or(1, usize::from);
    let project = Project::new();
    let hogs = take_all_slots(&project, slots);
    hogs.signal_group(Signal::SIGSTOP);
    for number in 0..3 {
        let source = format!("w{number}.c");
        project.add(&source, "int w;\n");
        let mut other = project.hgbuild(NO_GRID, &["gcc", "-c", &source]);
        let outcome = Running::start(&mut other).finish();
        assert!(outcome.ok(), "{}", outcome.words());
    }
    drop(hogs);
    end_compilers(&project.there());
}

#[test]
fn a_slot_is_free_when_its_holder_is_killed() {
    let slots = thread::available_parallelism().map_or(1, usize::from);
    let project = Project::new();
    let mut hogs = take_all_slots(&project, slots);
    // One more waits behind them.
    let waiting = project.hgbuild(NO_GRID, &["gcc", "-c", "w.c", "-o", "w.o"]);
    project.add("w.c", "int w;\n");
    let mut waiting = Running::start(&mut { waiting });
    let gate = project.home().join(".hybridgrid/run/gate");
    waiting.until("a wait for a slot", || gate.exists().then_some(()));
    assert_eq!(
        waiting.over(Duration::from_millis(300)),
        None,
        "it did not wait"
    );
    let holders: Vec<Pid> = wrappers(&project)
        .into_iter()
        .filter(|pid| *pid != waiting.pid())
        .collect();
    assert_eq!(
        holders.len(),
        slots,
        "{:?}",
        leftover::processes(&project.there())
    );
    let _ = kill(holders[0], Signal::SIGKILL);
    let outcome = waiting.finish();
    assert!(outcome.ok(), "{}", outcome.words());
    assert!(project.there().join("w.o").exists());
    // Its driver goes with it, and writes no object that nobody waits for.
    hogs.until("the end of a driver", || {
        (drivers(&project).len() < slots).then_some(())
    });
    // The drivers' own children stay, as they do without us.
    drop(hogs);
    end_compilers(&project.there());
}

#[test]
fn who_is_stopped_at_the_gate_blocks_nobody() {
    let project = Project::of(2);
    let compile = |name: &str| {
        let mut command = project.hgbuild(NO_GRID, &["gcc", "-c", name]);
        Running::start(&mut command)
    };
    assert!(compile("f00.c").finish().ok());
    let run = project.home().join(".hybridgrid/run");
    let open = |name: &str| {
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        options.open(run.join(name)).expect("a lock")
    };
    let slots = thread::available_parallelism().map_or(1, usize::from);
    let taken: Vec<File> = (0..slots).map(|n| open(&format!("slot.{n}"))).collect();
    for slot in &taken {
        slot.lock().expect("a slot");
    }
    let mut stopped = compile("f00.c");
    stopped.until("the gate held", || open("gate").try_lock().err());
    stopped.signal(Signal::SIGSTOP);
    let other = compile("f01.c");
    drop(taken);
    assert!(other.finish().ok());
    stopped.signal(Signal::SIGCONT);
    assert!(stopped.finish().ok());
}

/// The writing end of a pipe that nobody reads.
fn unread() -> io::PipeWriter {
    io::pipe().expect("a pipe").1
}

#[test]
fn nobody_reads_what_it_says() {
    let project = Project::of(1);
    let help = |stdout: Stdio| {
        let mut help = project.hgbuild(NO_GRID, &["--help"]);
        help.stdout(stdout).output().expect("hgbuild --help")
    };
    let cut_off = help(unread().into());
    assert_eq!((cut_off.status.code(), cut_off.stderr), (Some(0), vec![]));
    let full = help(File::create("/dev/full").expect("a full disk").into());
    assert_eq!(full.status.code(), Some(1));
    let said = String::from_utf8_lossy(&full.stderr);
    assert!(said.starts_with("hgbuild: stdout: "), "{said}");
    // Its summary goes where the build's words go.
    let mut make = project.hgbuild_make(NO_GRID, &[]);
    let built = make.stdout(Stdio::null()).stderr(unread()).status();
    assert_eq!(built.expect("a build").code(), Some(0));
}
