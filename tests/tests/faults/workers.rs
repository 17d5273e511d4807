//! Workers that die, stall, lose their disk or their compiler, or are not there
//! at all: the task ends on another worker or here, with the plain compiler's
//! objects, diagnostics and exit code.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hg_tests::command::{run, scrubbed};
use hg_tests::grid::{Grid, http_get};
use hg_tests::leftover;
use hg_tests::programs::programs;
use hg_tests::project::{Project, endless, slow, small};
use hg_tests::running::{Running, until};
use hg_tests::skip;
use nix::sys::signal::Signal;
use serde_json::Value;

/// Attempts on this worker, or whatever else a field of the list says.
fn field(grid: &Grid, worker: &str, name: &str) -> u64 {
    let body = grid.get("/api/v1/workers").unwrap_or_default();
    let workers: Vec<Value> = serde_json::from_str(&body).unwrap_or_default();
    let listed = workers.iter().find(|listed| listed["name"] == worker);
    listed.and_then(|listed| listed[name].as_u64()).unwrap_or(0)
}

/// A metric of the coordinator without its labels' quotes: `name{label="x"}`.
fn metric(grid: &Grid, name: &str) -> u64 {
    let text = grid.get("/metrics").expect("metrics");
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse::<f64>().expect("a number") as u64)
}

/// What lies in a worker's folder of tasks.
fn tasks(grid: &Grid, worker: &str) -> Vec<PathBuf> {
    let folder = grid.folder().join(worker).join("tasks");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// A project of `count` slow sources and some small ones.
fn slow_project(count: usize) -> Project {
    let project = Project::of(4);
    for number in 0..count {
        project.add(&format!("a{number}.c"), &slow(number));
    }
    project
}

/// Builds `project` and does something to the first worker that compiles.
fn build_while(grid: &mut Grid, project: &Project, what: &str, harm: impl FnOnce(&mut Grid)) {
    let mut make = Running::start(&mut project.hgbuild_make(&grid.address(), &["-j4"]));
    make.until("a compile on worker-1", || {
        compiles(grid.folder(), "worker-1").then_some(())
    });
    harm(grid);
    let wrapped = make.finish();
    let plain = run(&mut project.plain_make(&["-j2"]));
    assert!(plain.ok(), "{}", plain.words());
    project.assert_same_as(what, &plain, wrapped);
}

/// Whether a compiler runs in a task's folder of the worker.
fn compiles(grids: &Path, worker: &str) -> bool {
    let tasks = grids.join(worker).join("tasks");
    !leftover::processes(&tasks).is_empty()
}

#[test]
fn killed_in_a_compile() {
    let mut grid = Grid::start(programs(), 2, 2);
    let project = slow_project(4);
    build_while(&mut grid, &project, "killed", |grid| {
        grid.workers[0].end(Signal::SIGKILL);
    });
    let events = project.events();
    assert!(
        events
            .iter()
            .any(|e| e.place == "remote" && e.worker == "worker-2"),
        "{}",
        project.told()
    );
    assert!(
        metric(&grid, "hybridgrid_retries_total") > 0,
        "no second attempt"
    );
    // Its next start ends the compilers that it left, and forgets their folders.
    let state = grid.folder().join("worker-1");
    let mut again = worker_command(&grid, "worker-1", &state);
    let log = grid.folder().join("again.log");
    grid.workers[0] = hg_tests::daemon::Daemon::start("worker-1", &mut again, log);
    grid.wait_for_workers(2);
    assert!(tasks(&grid, "worker-1").is_empty());
    assert!(!compiles(grid.folder(), "worker-1"));
}

#[test]
fn stopped_in_a_compile() {
    let mut grid = Grid::start(programs(), 2, 2);
    let project = slow_project(4);
    build_while(&mut grid, &project, "stopped", |grid| {
        grid.workers[0].signal(Signal::SIGSTOP);
    });
    // It expired meanwhile.
    until(&grid.coordinator, "an expired worker", || {
        (metric(
            &grid,
            "hybridgrid_connections_dropped_total{reason=\"expired\"}",
        ) > 0)
            .then_some(())
    });
    grid.workers[0].signal(Signal::SIGCONT);
    grid.wait_for_workers(2);
    until(&grid.coordinator, "an empty folder of tasks", || {
        tasks(&grid, "worker-1").is_empty().then_some(())
    });
    let events = project.events();
    assert!(
        events.iter().any(|e| e.place == "remote"),
        "{}",
        project.told()
    );
}

/// A small file system of its own, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Option<SmallDisk> {
        fs::create_dir_all(at).expect("a folder");
        let mut mount = Command::new("mount");
        mount.args([
            "-t",
            "tmpfs",
            "-o",
            &format!("size={size},mode=700"),
            "none",
        ]);
        run(mount.arg(at)).ok().then(|| SmallDisk(at.to_path_buf()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let outcome = run(Command::new("umount").arg("-l").arg(&self.0));
        if !outcome.ok() {
            eprintln!("{}: {}", self.0.display(), outcome.words());
        }
    }
}

/// A grid of one worker whose state is on a disk of its own, unmounted after the grid has
/// ended. `None`: nothing can be mounted.
fn on_small_disk(name: &str, disk: &Path, size: &str) -> Option<(SmallDisk, Grid)> {
    let mounted = SmallDisk::mount(disk, size)?;
    let mut grid = Grid::start(programs(), 0, 2);
    add_worker(&mut grid, name, &disk.join("state"), None);
    grid.wait_for_workers(1);
    Some((mounted, grid))
}

#[test]
fn its_disk_is_full() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = folder.path().join("disk");
    let Some((_disk, mut grid)) = on_small_disk("full", &disk, "256k") else {
        return skip("a full disk", "mounting takes root");
    };
    let filler = vec![1; 300 << 10];
    // Takes what there is.
    let _ = fs::write(disk.join("filler"), filler);
    // While there is no other it is asked for certain.
    let project = Project::of(4);
    let mut make = project.hgbuild_make(&grid.address(), &["-j4"]);
    let mut plain = project.plain_make(&["-j4"]);
    project.assert_same("disk full, alone", &mut plain, &mut make);
    assert!(
        field(&grid, "full", "tasks_failed") + refused(&grid) > 0,
        "it was never asked"
    );
    grid.add_worker();
    grid.wait_for_workers(2);
    let project = Project::of(10);
    let mut make = project.hgbuild_make(&grid.address(), &["-j4"]);
    project.assert_same("disk full", &mut project.plain_make(&["-j4"]), &mut make);
    let on_full = project
        .events()
        .iter()
        .filter(|e| e.worker == "full" && e.place == "remote")
        .count();
    assert_eq!(on_full, 0, "{}", project.told());
    assert!(
        project.events().iter().any(|e| e.place == "remote"),
        "{}",
        project.told()
    );
}

fn refused(grid: &Grid) -> u64 {
    metric(grid, "hybridgrid_retries_total")
}

#[test]
fn no_compile_takes_all_of_a_small_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = folder.path().join("disk");
    let Some((_disk, mut grid)) = on_small_disk("small", &disk, "256m") else {
        return skip("a small disk", "mounting takes root");
    };
    let project = Project::new();
    let build = |grid: &Grid, source: &str| {
        let words = ["-c", source];
        let mut plain = project.plain("gcc", &words);
        let mut wrapped = project.hgbuild(&grid.address(), &["gcc", words[0], words[1]]);
        project.assert_same(source, &mut plain, &mut wrapped);
        project.events().pop().expect("an event")
    };
    project.add("large.c", "char large[100 << 20] = {1};\n");
    project.add("little.c", "int little(void) { return 1; }\n");
    for (source, place) in [("large.c", "local"), ("little.c", "remote")] {
        assert_eq!(build(&grid, source).place, place, "{}", project.told());
    }
    assert_eq!(tasks_ended(&grid, "disk"), 1);
    // Where another worker has the room, it compiles what this one was asked for in vain.
    grid.add_worker();
    grid.wait_for_workers(2);
    for round in 0.. {
        assert!(round < 20, "it never went on: {}", project.told());
        // Each is another text, so that none is in the cache.
        let source = format!("char large[100 << 20] = {{1}}; /* {round} */\n");
        project.add("large.c", &source);
        let before = tasks_ended(&grid, "disk");
        let event = build(&grid, "large.c");
        assert!(!event.reason.starts_with("limit"), "{}", project.told());
        // An idle core here may have been faster than a worker that is not known yet.
        if tasks_ended(&grid, "disk") > before && event.worker == "worker-2" {
            break;
        }
    }
}

/// How many tasks of the first worker ended in `outcome`.
fn tasks_ended(grid: &Grid, outcome: &str) -> u64 {
    let text = http_get(&grid.workers[0].address("http"), "/metrics").expect("metrics");
    let counter = format!("hybridgrid_tasks_total{{outcome=\"{outcome}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&counter));
    value.map_or(0, |value| value.parse().expect("a number"))
}

/// A source for which gcc 12 needs about 2.8 GB, in a few seconds: an argument of 2^27
/// tokens that nothing is made of.
const HUNGRY: &str = "#define TIMES_8(x) x x x x x x x x\n\
    #define LONG TIMES_8(TIMES_8(TIMES_8(TIMES_8(1))))\n\
    #define LONGER TIMES_8(TIMES_8(TIMES_8(TIMES_8(LONG))))\n\
    #define NOTHING(...)\n\
    #define EXPANDED(x) NOTHING(x)\n\
    EXPANDED(LONGER)\n\
    int f(int x) { return x + 1; }\n";
/// What the machine must have for it, twice at once.
const HUNGRY_BYTES: u64 = 8 << 30;
/// More than any worker has otherwise: a slot's share of the memory is no bound then.
const MANY_SLOTS: u32 = 64;

#[test]
fn a_compile_that_needs_more_memory_than_was_thought_gets_it_the_next_time() {
    let name = "a compile of 3 GB";
    let available_bytes = hg_worker_lite::machine::vitals::memory_available_bytes();
    if available_bytes.is_none_or(|bytes| bytes < HUNGRY_BYTES) {
        return skip(name, &format!("{available_bytes:?} bytes of memory"));
    }
    let grid = Grid::start(programs(), 1, MANY_SLOTS);
    let project = Project::new();
    project.add("hungry.c", HUNGRY);
    let words = ["-c", "hungry.c"];
    let plain = run(&mut project.plain("gcc", &words));
    assert!(plain.ok(), "{}", plain.words());
    // Each is another text, so that none is in the cache.
    let build = |comment: &str| {
        project.add("hungry.c", &format!("{HUNGRY}/* {comment} */\n"));
        let mut wrapped = project.hgbuild(&grid.address(), &["gcc", words[0], words[1]]);
        project.assert_same_as(name, &plain, run(&mut wrapped));
        let events = project.events();
        let places: Vec<_> = events.iter().map(|event| &*event.place).collect();
        eprintln!("{places:?} {}", project.told());
        places.last().map(|place| (*place).to_owned())
    };
    build("one");
    assert_eq!(tasks_ended(&grid, "memory"), 1);
    for comment in ["two", "six"] {
        let place = build(comment);
        assert_eq!(place.as_deref(), Some("remote"), "{}", project.told());
    }
    assert_eq!(tasks_ended(&grid, "memory"), 1);
}

/// A worker with a state folder of its own, not started yet.
fn worker_command(grid: &Grid, name: &str, state: &Path) -> Command {
    let mut command = hg_tests::command::scrubbed(&programs().worker, grid.folder(), grid.folder());
    command
        .args([
            "serve",
            "--coordinator",
            &grid.address(),
            "--slots",
            "2",
            "--dedicated",
        ])
        .args(["--name", name, "--http", "127.0.0.1:0", "--state"])
        .arg(state);
    command
}

/// A worker with a state folder and a PATH of its own.
fn add_worker(grid: &mut Grid, name: &str, state: &Path, path: Option<&OsStr>) {
    let mut command = worker_command(grid, name, state);
    // Not in memory: it is this disk that counts.
    command.arg("--scratch").arg(state);
    if let Some(path) = path {
        command.env("PATH", path);
        let folders: Vec<_> = std::env::split_paths(path).collect();
        let folders: Vec<&str> = folders.iter().filter_map(|f| f.to_str()).collect();
        command.args(["--compilers", &folders.join(",")]);
    }
    let log = grid.folder().join(format!("{name}.log"));
    let daemon = hg_tests::daemon::Daemon::start(name, &mut command, log);
    grid.workers.push(daemon);
}

/// A gcc of the worker's own, equal to this machine's: copies of the driver and
/// of cc1, laid out as the driver looks for it.
struct OwnGcc {
    root: PathBuf,
    driver: PathBuf,
    cc1: PathBuf,
}

impl OwnGcc {
    fn copy(root: &Path) -> Option<OwnGcc> {
        let answer = |question: &str| {
            let outcome = run(Command::new("gcc").arg(question));
            let text = String::from_utf8_lossy(&outcome.stdout).trim().to_owned();
            Path::new(&text).canonicalize().ok()
        };
        let real = std::env::split_paths(&std::env::var_os("PATH")?)
            .map(|folder| folder.join("gcc"))
            .find_map(|gcc| gcc.canonicalize().ok())?;
        let cc1 = answer("-print-prog-name=cc1")?;
        let below = cc1.strip_prefix("/usr").ok()?;
        let own = OwnGcc {
            root: root.to_path_buf(),
            driver: root.join("bin/gcc"),
            cc1: root.join(below),
        };
        fs::create_dir_all(own.driver.parent()?).ok()?;
        fs::create_dir_all(own.cc1.parent()?).ok()?;
        fs::copy(real, &own.driver).ok()?;
        fs::copy(cc1, &own.cc1).ok()?;
        let asked = run(Command::new(&own.driver).arg("-print-prog-name=cc1"));
        let found = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
        (found.canonicalize().ok() == own.cc1.canonicalize().ok()).then_some(own)
    }

    /// Only this gcc and what assembles for it.
    fn path(&self) -> std::ffi::OsString {
        let bin = self.root.join("bin");
        let assembler = run(Command::new("sh").args(["-c", "command -v as"]));
        let from = String::from_utf8_lossy(&assembler.stdout).trim().to_owned();
        // A copy under its own name: nothing else of that folder is to be seen.
        if fs::copy(&from, bin.join("as")).is_err() {
            panic!("no assembler at {from:?}");
        }
        bin.into_os_string()
    }
}

/// A grid of a worker with a gcc of its own, which is given back, and one with
/// this machine's.
fn grid_with_own_gcc(folder: &Path) -> Option<(Grid, OwnGcc)> {
    let own = OwnGcc::copy(&folder.join("own"))?;
    let mut grid = Grid::start(programs(), 0, 2);
    add_worker(&mut grid, "own", &folder.join("state"), Some(&own.path()));
    until(&grid.coordinator, "a worker with one toolchain", || {
        let body = grid.get("/api/v1/workers").ok()?;
        let workers: Vec<Value> = serde_json::from_str(&body).ok()?;
        let toolchains = workers.first()?["toolchains"].as_array()?.len();
        (toolchains > 0).then_some(())
    });
    Some((grid, own))
}

/// Puts something else in the place of a program, as an upgrade does.
fn replace(program: &Path, content: &[u8]) {
    let new = program.with_extension("new");
    fs::write(&new, content).expect("another program");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("its mode");
    fs::rename(&new, program).expect("its name");
}

/// A cc1 that compiles something else.
const WRONG: &[u8] = b"#!/bin/sh\n\
    for word do case $last in -o) echo '.globl wrong' >\"$word\";; esac; last=$word; done\n";

#[test]
fn another_compiler_in_the_place_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some((mut grid, own)) = grid_with_own_gcc(folder.path()) else {
        return skip(
            "a replaced compiler",
            "this gcc does not work from another place",
        );
    };
    let project = Project::of(4);
    let make = |grid: &Grid, project: &Project| {
        let mut make = project.hgbuild_make(&grid.address(), &["-j2"]);
        project.assert_same("replaced", &mut project.plain_make(&["-j2"]), &mut make);
    };
    make(&grid, &project);
    let events = project.events();
    assert!(
        events.iter().all(|e| e.worker == "own"),
        "{}",
        project.told()
    );

    replace(&own.cc1, WRONG);
    project.clean();
    make(&grid, &project);
    let told = project.told();
    assert!(
        project.events().iter().all(|e| e.place == "local"),
        "{told}"
    );
    assert!(told.contains("worker-failed"), "{told}");

    grid.add_worker();
    grid.wait_for_workers(2);
    project.clean();
    make(&grid, &project);
    let events = project.events();
    assert!(
        events.iter().all(|e| e.worker == "worker-2"),
        "{}",
        project.told()
    );
}

#[test]
fn its_compiler_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some((mut grid, own)) = grid_with_own_gcc(folder.path()) else {
        return skip(
            "a missing compiler",
            "this gcc does not work from another place",
        );
    };
    grid.add_worker();
    grid.wait_for_workers(2);
    fs::remove_file(&own.driver).expect("a driver to remove");
    let project = Project::of(8);
    let mut make = project.hgbuild_make(&grid.address(), &["-j4"]);
    // As text: only then is a compiler in another place the same.
    make.env("CPATH", "/nowhere");
    project.assert_same("gone", &mut project.plain_make(&["-j4"]), &mut make);
    let events = project.events();
    assert!(
        events
            .iter()
            .all(|e| e.place == "remote" && e.worker == "worker-2"),
        "{}",
        project.told()
    );
    // It was asked, it said why not, and it is not asked any more.
    assert!(metric(&grid, "hybridgrid_retries_total") > 0);
    until(&grid.coordinator, "a worker without toolchains", || {
        let body = grid.get("/api/v1/workers").ok()?;
        let workers: Vec<Value> = serde_json::from_str(&body).ok()?;
        let own = workers.iter().find(|worker| worker["name"] == "own")?;
        own["toolchains"].as_array()?.is_empty().then_some(())
    });
}

#[test]
fn its_compiler_is_replaced_in_the_middle_of_a_compile() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some((grid, own)) = grid_with_own_gcc(folder.path()) else {
        return skip(
            "a compiler replaced in a compile",
            "this gcc works from one place only",
        );
    };
    let project = Project::new();
    project.add("a.c", &slow(1));
    let mut make = Running::start(&mut project.hgbuild_make(&grid.address(), &["-j1"]));
    make.until("cc1 on the worker", || {
        let running = leftover::processes(&folder.path().join("state/tasks"));
        running
            .iter()
            .any(|line| line.contains("cc1"))
            .then_some(())
    });
    // cc1 runs; the assembler comes after it.
    let assembler = own.root.join("bin/as");
    replace(
        &assembler,
        b"#!/bin/sh\nexec /usr/bin/as --defsym wrong=1 \"$@\"\n",
    );
    let wrapped = make.finish();
    let plain = run(&mut project.plain_make(&["-j1"]));
    project.assert_same_as("replaced", &plain, wrapped);
    let told = project.told();
    assert!(told.contains("worker-failed"), "{told}");
}

#[test]
fn paused_by_an_operator_and_let_back() {
    let mut grid = Grid::start(programs(), 1, 1);
    let project = Project::of(1);
    let place = |grid: &Grid| {
        let outcome = run(&mut project.hgbuild(&grid.address(), &["gcc", "-c", "f00.c"]));
        assert!(outcome.ok(), "{}", outcome.words());
        project.events().pop().expect("an event").place
    };
    let ask = |grid: &Grid, words: &[&str]| {
        let mut command = scrubbed(&programs().coordinator, grid.folder(), grid.folder());
        command.args(words).arg("--state").arg(grid.state());
        let outcome = run(&mut command);
        assert!(outcome.ok(), "{}", outcome.words());
        outcome.words()
    };
    let is_paused = |grid: &Grid| {
        let body = grid.get("/api/v1/workers").unwrap_or_default();
        let workers: Vec<Value> = serde_json::from_str(&body).unwrap_or_default();
        Some(workers.first()?["paused"] == true)
    };
    assert_eq!(place(&grid), "remote");
    let said = ask(&grid, &["drain", "--stay", "worker-1"]);
    assert!(said.contains("worker-1") && said.contains("idle"), "{said}");
    assert_eq!(is_paused(&grid), Some(true));
    assert_eq!(place(&grid), "local");
    // Over a restart, too.
    grid.restart_coordinator(Signal::SIGTERM);
    grid.wait_for_workers(1);
    assert_eq!(is_paused(&grid), Some(true));
    let said = ask(&grid, &["readmit", "worker-1"]);
    assert!(said.contains("gets tasks again"), "{said}");
    assert_eq!(is_paused(&grid), Some(false));
    // What was noted of a grid without workers holds for half a second.
    until(&grid.coordinator, "a compile on the worker", || {
        (place(&grid) == "remote").then_some(())
    });
}

#[test]
fn no_worker_at_all() {
    let grid = Grid::start(programs(), 0, 1);
    let project = Project::of(6);
    project.add("broken.c", "int f(void) { return y; }\n");
    let mut make = project.hgbuild_make(&grid.address(), &["-j4", "-k"]);
    project.assert_same(
        "no worker",
        &mut project.plain_make(&["-j4", "-k"]),
        &mut make,
    );
    let events = project.events();
    assert!(
        events
            .iter()
            .all(|e| e.place == "local" && e.reason.starts_with("no-worker")),
        "{}",
        project.told()
    );
    let failed = events
        .iter()
        .find(|e| e.source == "broken.c")
        .expect("an event");
    assert_eq!(failed.exit, 1, "the compiler's own exit code");
}

#[test]
fn no_worker_that_has_the_compiler() {
    let mut grid = Grid::start(programs(), 0, 1);
    let empty = tempfile::tempdir().expect("a folder");
    let state = grid.folder().join("bare");
    add_worker(&mut grid, "bare", &state, Some(empty.path().as_os_str()));
    grid.wait_for_workers(1);
    let project = Project::of(4);
    let mut make = project.hgbuild_make(&grid.address(), &["-j2"]);
    project.assert_same("no toolchain", &mut project.plain_make(&["-j2"]), &mut make);
    let events = project.events();
    assert!(
        events
            .iter()
            .all(|e| e.place == "local" && e.reason.starts_with("no-worker")),
        "{}",
        project.told()
    );
}

#[test]
fn the_wait_for_a_worker_has_an_end() {
    let grid = Grid::start(programs(), 1, 1);
    let hog = Project::new();
    hog.add("hog.c", &endless(0));
    let mut hogs = Running::start(&mut hog.hgbuild_make(&grid.address(), &["-j1"]));
    hogs.until("a worker without a free slot", || {
        compiles(grid.folder(), "worker-1").then_some(())
    });
    let project = Project::of(4);
    project.add("broken.c", &(small(9) + "int f(void) { return y; }\n"));
    let mut make = project.hgbuild_make(&grid.address(), &["-j4", "-k"]);
    make.env("HG_QUEUE_MS_MAX", "200");
    project.assert_same("late", &mut project.plain_make(&["-j4", "-k"]), &mut make);
    let events = project.events();
    assert!(
        events
            .iter()
            .all(|e| e.place == "local" && e.reason.starts_with("queue")),
        "{}",
        project.told()
    );
    assert_eq!(
        field(&grid, "worker-1", "running"),
        1,
        "the slot was taken throughout"
    );
    // Nobody waits for the hog: its compile on the worker ends with it.
    drop(hogs);
    until(&grid.coordinator, "a free worker", || {
        let free = field(&grid, "worker-1", "running") == 0 && tasks(&grid, "worker-1").is_empty();
        free.then_some(())
    });
}
