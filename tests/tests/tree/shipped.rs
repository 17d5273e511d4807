//! Toolchains that travel: a worker without any compiler is given the client's own, and
//! compiles what the client itself would have.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hg_tests::command::{Outcome, run, scrubbed};
use hg_tests::daemon::Daemon;
use hg_tests::event::{self, Event};
use hg_tests::grid::{Grid, worker};
use hg_tests::programs::programs;
use hg_tests::running::{Running, until};
use hg_tests::{in_path, skip};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

const C: &str = "#include <stdio.h>\n#include <math.h>\nstatic float half(float x) { return x / 2; }\n\
                 int main(void) { printf(\"%f\\n\", half(sqrtf(2.0f))); return 0; }\n";
const CXX: &str = "#include <string>\n#include <vector>\n\
                   int f(std::vector<std::string> &v) { v.push_back(\"x\"); return (int)v.size(); }\n";
/// gcc puts what it quotes between the quotes of the locale.
const WARNS: &str = "int f(void) { int unused; return 0; }\n";

pub(crate) struct Space {
    pub(crate) place: TempDir,
    pub(crate) folder: PathBuf,
}

impl Space {
    pub(crate) fn new() -> Space {
        let place = tempfile::Builder::new().prefix("hg-ship-").tempdir();
        let place = place.expect("a temporary folder");
        let folder = place.path().canonicalize().expect("a path").join("project");
        fs::create_dir(&folder).expect("a folder");
        for (name, text) in [("a.c", C), ("b.cc", CXX), ("w.c", WARNS)] {
            fs::write(folder.join(name), text).expect("a source");
        }
        Space { place, folder }
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.place.path().join("events.jsonl")
    }

    pub(crate) fn hgbuild(&self, grid: &Grid, words: &[&str]) -> Command {
        let mut command = scrubbed(&programs().client, &self.folder, self.place.path());
        grid.lead(&mut command)
            .args(words)
            .env("HG_INSECURE", "1")
            .env("HG_LOCAL_SLOTS", "0")
            .env("HG_EVENT_LOG", self.log())
            .env("HG_SHIP", "0");
        command
    }

    /// Gives the compilers to the workers.
    pub(crate) fn ship(&self, grid: &Grid, compilers: &[&str]) -> Outcome {
        run(&mut self.hgbuild(grid, &[&["ship"], compilers].concat()))
    }

    /// Compiles with and without us. Gives where ours went.
    pub(crate) fn compare(&self, grid: &Grid, compiler: &str, words: &str) -> Event {
        let words: Vec<&str> = words.split(' ').collect();
        let object = self.folder.join("out.o");
        let mut plain = scrubbed(compiler, &self.folder, self.place.path());
        let plain = run(plain.args(&words).args(["-o", "out.o"]));
        let wanted = fs::read(&object).expect("the plain object");
        fs::remove_file(&object).expect("the plain object");
        let all = [&[compiler], &words[..], &["-o", "out.o"]].concat();
        let ours = run(&mut self.hgbuild(grid, &all));
        assert_eq!(ours, plain, "{}", ours.words());
        assert!(fs::read(&object).expect("our object") == wanted, "{all:?}");
        fs::remove_file(&object).expect("our object");
        let events = event::read(&self.log());
        fs::remove_file(self.log()).expect("the events");
        events.into_iter().next_back().expect("an event")
    }
}

/// Where a worker without any compiler has its state, and the worker.
fn bare_worker(grid: &Grid, name: &str, words: &[&str]) -> (PathBuf, Daemon) {
    worker_with("none", grid, name, words)
}

/// Where a worker that looks for compilers in `folder` has its state, and the worker.
pub(crate) fn worker_with(
    folder: &str,
    grid: &Grid,
    name: &str,
    words: &[&str],
) -> (PathBuf, Daemon) {
    let mut command = worker(programs(), grid.folder(), name, &grid.address(), 1);
    // Where it finds their assembler.
    command.env("PATH", folder);
    command.args(["--compilers", folder]).args(words);
    let log = grid.folder().join(format!("{name}.log"));
    let state = grid.folder().join(name);
    (state, Daemon::start(name, &mut command, log))
}

/// A grid whose only worker has no compiler; `None`: it can't hold one here.
fn bare_grid(words: &[&str]) -> Option<(Grid, PathBuf, Daemon)> {
    let grid = Grid::insecure(programs(), 0, 1);
    let mut insecure = vec!["--insecure"];
    insecure.extend(words);
    let (state, daemon) = bare_worker(&grid, "bare", &insecure);
    grid.wait_for_workers(1);
    if listed(&Space::new(), &grid, "bare")["sandbox"] != "full" {
        skip("a shipped toolchain", "no full sandbox here");
        return None;
    }
    Some((grid, state, daemon))
}

/// What the coordinator says of the worker called `name`.
pub(crate) fn listed(space: &Space, grid: &Grid, name: &str) -> Value {
    let told = run(&mut space.hgbuild(grid, &["workers", "--json"]));
    let all: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let mut all = all.as_array().cloned().unwrap_or_default().into_iter();
    all.find(|worker| worker["name"] == name)
        .unwrap_or(Value::Null)
}

/// Toolchains that the worker called `name` compiles with.
fn toolchains(space: &Space, grid: &Grid, name: &str) -> usize {
    let worker = listed(space, grid, name);
    worker["toolchains"].as_array().map_or(0, Vec::len)
}

pub(crate) fn is_remote(event: &Event) -> bool {
    event.place == "remote" && event.form == "tree"
}

#[test]
fn a_worker_without_a_compiler_compiles_with_the_clients() {
    let Some((grid, _state, _daemon)) = bare_grid(&[]) else {
        return;
    };
    let space = Space::new();
    let before = space.compare(&grid, "gcc", "-O2 -g -c a.c");
    assert_eq!(before.place, "local", "{before:?}");
    let compilers: Vec<&str> = ["gcc", "g++", "clang", "clang++"]
        .into_iter()
        .filter(|compiler| in_path(compiler).is_some())
        .collect();
    let given = space.ship(&grid, &compilers);
    assert!(given.ok(), "{}", given.words());
    let told = String::from_utf8_lossy(&given.stdout).into_owned();
    assert_eq!(
        told.matches("was given it").count(),
        compilers.len(),
        "{told}"
    );
    for compiler in &compilers {
        let source = if compiler.ends_with("++") {
            "b.cc"
        } else {
            "a.c"
        };
        for options in ["-O0", "-O2 -g", "-O3 -march=x86-64-v2 -g3"] {
            if options.contains("x86-64") && !cfg!(target_arch = "x86_64") {
                continue;
            }
            let event = space.compare(&grid, compiler, &format!("{options} -c {source}"));
            assert!(is_remote(&event), "{compiler} {options}: {event:?}");
        }
    }
    // Words, in the quotes of this locale.
    let event = space.compare(&grid, "gcc", "-Wall -c w.c");
    assert!(is_remote(&event), "{event:?}");
    // Nobody is given it twice.
    let again = space.ship(&grid, &compilers);
    let told = String::from_utf8_lossy(&again.stdout).into_owned();
    assert_eq!(told.matches("has it").count(), compilers.len(), "{told}");
}

#[test]
fn a_compile_that_finds_no_worker_has_its_compiler_sent() {
    let Some((grid, state, daemon)) = bare_grid(&[]) else {
        return;
    };
    let space = Space::new();
    let compile = || {
        let mut command = space.hgbuild(&grid, &["gcc", "-g", "-c", "a.c"]);
        command.env("HG_SHIP", "1");
        let ran = run(&mut command);
        assert!(ran.ok(), "{}", ran.words());
        let events = event::read(&space.log());
        events.into_iter().next_back().expect("an event")
    };
    assert_eq!(compile().place, "local");
    until(&daemon, "a toolchain", || {
        (toolchains(&space, &grid, "bare") > 0).then_some(())
    });
    // Its note is written before it is sent, and what was found out before is taken back
    // after that.
    until(&daemon, "a remote compile", || {
        is_remote(&compile()).then_some(())
    });
    let kept = fs::read_dir(state.join("shipments/lists")).expect("a folder");
    assert_eq!(kept.count(), 1);
    drop(daemon);
    let lock = space.place.path().join(".hybridgrid/run/ship.lock");
    let lock = fs::File::open(lock).expect("the lock");
    // Whoever sent it has ended, before its home goes.
    lock.lock().expect("the lock");
}

#[test]
fn some_have_a_compiler_and_others_are_given_it() {
    let mut grid = Grid::insecure(programs(), 1, 1);
    let (_state, _daemon) = bare_worker(&grid, "bare", &["--insecure"]);
    grid.wait_for_workers(2);
    let space = Space::new();
    if listed(&space, &grid, "bare")["sandbox"] != "full" {
        return skip("a shipped toolchain", "no full sandbox here");
    }
    let given = space.ship(&grid, &["gcc"]);
    let told = String::from_utf8_lossy(&given.stdout).into_owned();
    assert!(told.contains("worker-1: has it"), "{told}");
    assert!(told.contains("bare: was given it"), "{told}");
    // More at once than either has slots.
    let compiles = (0..8).map(|at| {
        let object = format!("{at}.o");
        let words = ["gcc", "-O1", "-g", "-c", "a.c", "-o", &object];
        Running::start(&mut space.hgbuild(&grid, &words))
    });
    let compiles: Vec<Running> = compiles.collect();
    for compile in compiles {
        let ran = compile.finish();
        assert!(ran.ok(), "{}", ran.words());
    }
    let events = event::read(&space.log());
    fs::remove_file(space.log()).expect("the events");
    assert!(events.iter().all(is_remote), "{events:?}");
    let workers: BTreeSet<String> = events.into_iter().map(|event| event.worker).collect();
    assert_eq!(workers.len(), 2, "{workers:?}");
    let object = |at: usize| fs::read(space.folder.join(format!("{at}.o"))).expect("an object");
    let first = object(0);
    assert!((1..8).all(|at| object(at) == first));
    // And when the one that has it is gone, the other one goes on.
    drop(grid.workers.pop());
    grid.wait_for_workers(1);
    let event = space.compare(&grid, "gcc", "-O1 -g -c a.c");
    assert!(is_remote(&event), "{event:?}");
}

#[test]
fn a_worker_that_runs_no_compilers_of_others_says_so() {
    let Some((grid, _state, _daemon)) = bare_grid(&["--toolchains", "own"]) else {
        return;
    };
    let space = Space::new();
    let given = space.ship(&grid, &["gcc"]);
    assert_eq!(given.code, Some(1), "{}", given.words());
    let told = String::from_utf8_lossy(&given.stdout).into_owned();
    assert!(told.contains("runs none of others"), "{told}");
    assert_eq!(toolchains(&space, &grid, "bare"), 0);
}

#[test]
fn what_was_given_is_there_after_a_restart_and_only_what_is_whole() {
    let Some((grid, state, daemon)) = bare_grid(&[]) else {
        return;
    };
    let space = Space::new();
    let given = space.ship(&grid, &["gcc"]);
    assert!(given.ok(), "{}", given.words());
    drop(daemon);
    grid.wait_for_workers(0);
    let (_, daemon) = bare_worker(&grid, "bare", &["--insecure"]);
    grid.wait_for_workers(1);
    let event = space.compare(&grid, "gcc", "-g -c a.c");
    assert!(is_remote(&event), "{event:?}");
    drop(daemon);
    grid.wait_for_workers(0);
    damage(&largest(&state.join("shipments/contents")));
    let (_, daemon) = bare_worker(&grid, "bare", &["--insecure"]);
    grid.wait_for_workers(1);
    assert_eq!(toolchains(&space, &grid, "bare"), 0);
    let log = fs::read_to_string(&daemon.log).expect("the log");
    assert!(log.contains("a content is missing or damaged"), "{log}");
    // It is given anew, and works.
    let given = space.ship(&grid, &["gcc"]);
    assert!(given.ok(), "{}", given.words());
    let event = space.compare(&grid, "gcc", "-g -c a.c");
    assert!(is_remote(&event), "{event:?}");
}

fn largest(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder).expect("a folder").flatten();
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
    let largest = files.map(|file| file.path()).max_by_key(size);
    largest.expect("a content")
}

/// Turns one bit in the middle.
fn damage(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
    let mut bytes = fs::read(path).expect("a content");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("a content");
}

#[test]
fn a_worker_that_dies_on_the_way_is_given_the_rest_later() {
    let Some((grid, state, mut daemon)) = bare_grid(&[]) else {
        return;
    };
    let space = Space::new();
    let contents = state.join("shipments/contents");
    let whole = || {
        let files = fs::read_dir(&contents).map(|files| files.flatten().collect::<Vec<_>>());
        let files = files.unwrap_or_default().into_iter();
        let is_whole = |path: &PathBuf| path.extension().is_none();
        files.map(|file| file.path()).filter(is_whole).count()
    };
    let mut shipping = Running::start(&mut space.hgbuild(&grid, &["ship", "gcc"]));
    shipping.until("the first content", || (whole() > 0).then_some(()));
    daemon.end(Signal::SIGKILL);
    let told = shipping.finish();
    grid.wait_for_workers(0);
    let before = whole();
    let (_, daemon) = bare_worker(&grid, "bare", &["--insecure"]);
    grid.wait_for_workers(1);
    if told.ok() {
        // It was faster than we: then there is nothing left to be given.
        return assert_eq!(toolchains(&space, &grid, "bare"), 1);
    }
    // What had come whole is not sent again.
    assert!(whole() >= 1 && whole() <= before);
    assert_eq!(toolchains(&space, &grid, "bare"), 0);
    let given = space.ship(&grid, &["gcc"]);
    assert!(given.ok(), "{}", given.words());
    let event = space.compare(&grid, "gcc", "-g -c a.c");
    assert!(is_remote(&event), "{event:?}");
    drop(daemon);
}

/// A link to gcc in a folder where no worker has one.
fn gcc_elsewhere(space: &Space) -> Option<String> {
    let gcc = in_path("gcc")?.canonicalize().ok()?;
    let elsewhere = space.place.path().join("bin");
    fs::create_dir(&elsewhere).expect("a folder");
    let other = elsewhere.join("gcc");
    std::os::unix::fs::symlink(gcc, &other).expect("a link");
    Some(other.to_str().expect("a path").to_owned())
}

#[test]
fn a_worker_that_has_the_compiler_at_another_place_is_given_the_clients() {
    let grid = Grid::insecure(programs(), 1, 1);
    let space = Space::new();
    if listed(&space, &grid, "worker-1")["sandbox"] != "full" {
        return skip("a shipped toolchain", "no full sandbox here");
    }
    let other = gcc_elsewhere(&space).expect("gcc");
    let before = space.compare(&grid, &other, "-O1 -g -c a.c");
    assert_eq!(before.place, "local", "{before:?}");
    let given = space.ship(&grid, &[&other]);
    assert!(given.ok(), "{}", given.words());
    let event = space.compare(&grid, &other, "-O1 -g -c a.c");
    assert!(is_remote(&event), "{event:?}");
}

#[test]
fn clients_with_two_toolchains_each_get_their_own() {
    let Some((grid, _state, _daemon)) = bare_grid(&[]) else {
        return;
    };
    if in_path("clang").is_none() {
        return skip("two toolchains", "no clang in PATH");
    }
    let spaces = [Space::new(), Space::new()];
    // The same compiler at another place is another toolchain.
    let other = gcc_elsewhere(&spaces[1]).expect("gcc");
    let ships = [
        Running::start(&mut spaces[0].hgbuild(&grid, &["ship", "gcc", "clang"])),
        Running::start(&mut spaces[1].hgbuild(&grid, &["ship", &other])),
    ];
    for ship in ships {
        let given = ship.finish();
        assert!(given.ok(), "{}", given.words());
    }
    assert_eq!(toolchains(&spaces[0], &grid, "bare"), 3);
    for (space, compiler) in [(0, "gcc"), (1, &*other), (0, "clang")] {
        let event = spaces[space].compare(&grid, compiler, "-O2 -g -c a.c");
        assert!(is_remote(&event), "{event:?}");
    }
    // Who has not packed it is not served by what another one brought.
    let event = spaces[1].compare(&grid, "clang", "-O2 -g -c a.c");
    assert_eq!(event.place, "local");
}
