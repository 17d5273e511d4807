//! Real projects through `hgbuild make -j8`, two workers, nothing compiled
//! locally that can travel: every object, stderr and the exit code are as the
//! local compiler has them.

use std::path::Path;
use std::process::Command;

use hg_tests::command::{Outcome, run, scrubbed};
use hg_tests::event;
use hg_tests::folder::{Snapshot, compare, snapshot};
use hg_tests::grid::Grid;
use hg_tests::programs::programs;
use hg_tests::skip;
use hg_tests::workload::{LEVELDB, LUA, Workload, ZLIB, ZSTD};

/// Of a hundred compiles.
const REMOTE_PERCENT_MIN: usize = 95;

#[test]
fn lua_by_gcc() {
    equal_and_remote(LUA, "gcc");
}

#[test]
fn lua_by_clang() {
    equal_and_remote(LUA, "clang");
}

#[test]
fn zlib_by_gcc() {
    equal_and_remote(ZLIB, "gcc");
}

#[test]
fn zlib_by_clang() {
    equal_and_remote(ZLIB, "clang");
}

#[test]
fn zstd_by_gcc() {
    equal_and_remote(ZSTD, "gcc");
}

#[test]
fn zstd_by_clang() {
    equal_and_remote(ZSTD, "clang");
}

#[test]
fn leveldb_by_gcc() {
    equal_and_remote(LEVELDB, "g++");
}

#[test]
fn leveldb_by_clang() {
    equal_and_remote(LEVELDB, "clang++");
}

fn equal_and_remote(workload: Workload, compiler: &str) {
    let name = format!("{} by {compiler}", workload.name);
    if Command::new(compiler).arg("--version").output().is_err() {
        return skip(&name, "no such compiler here");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home = folder.path();
    // Names of one length, so that paths of one length are compiled.
    let [plain, grid] = ["plain", "there"].map(|name| home.join(name).join(workload.name));
    for copy in [&plain, &grid] {
        if let Err(why) = workload.unpack(copy) {
            return skip(&name, &why);
        }
    }
    let choice = format!("{}={compiler}", workload.compiler_variable);
    let arguments = ["-j8", "--output-sync=target", "--silent", &choice];
    let mut make = scrubbed("make", &plain, home);
    let local = built(make.args(arguments), &plain);
    assert!(local.0.ok(), "{name}, plainly: {}", local.0.words());

    let hosts = Grid::start(programs(), 2, 2);
    let log = home.join("events.jsonl");
    let mut make = scrubbed(&programs().client, &grid, home);
    make.arg("make")
        .args(arguments)
        .env("HG_COORDINATOR", hosts.address())
        .env("HG_LOCAL_SLOTS", "0")
        .env("HG_EVENT_LOG", &log);
    let mut wrapped = built(&mut make, &grid);
    wrapped.0 = wrapped.0.without_summary();
    assert_mostly_remote(&name, &log, workload.objects);
    let different = compare(
        (&local.0.sorted(), &local.1),
        (&wrapped.0.sorted(), &wrapped.1),
    );
    assert!(different.is_empty(), "{name}:\n{}", different.join("\n"));
}

fn built(make: &mut Command, folder: &Path) -> (Outcome, Snapshot) {
    let outcome = run(make);
    let files = snapshot(folder).expect("the build's folder");
    (outcome, files)
}

fn assert_mostly_remote(name: &str, log: &Path, objects: usize) {
    let events = event::read(log);
    let compiles: Vec<_> = events
        .iter()
        .filter(|event| !event.source.is_empty())
        .collect();
    assert_eq!(
        compiles.len(),
        objects,
        "{name}: one event for each compile"
    );
    let local: Vec<_> = compiles
        .iter()
        .filter(|event| event.place != "remote")
        .collect();
    let remote = compiles.len() - local.len();
    assert!(
        remote * 100 >= objects * REMOTE_PERCENT_MIN,
        "{name}: {remote} of {objects} remote; not: {local:#?}"
    );
}
