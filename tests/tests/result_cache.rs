//! What one developer has compiled on the grid the next one gets from the coordinator: the
//! same objects and words, and nothing that anybody could have put there but a sandboxed
//! worker.

use std::fs;
use std::path::PathBuf;
use std::thread;

use hg_tests::command::{Outcome, run, scrubbed};
use hg_tests::daemon::Daemon;
use hg_tests::grid::{Grid, worker};
use hg_tests::programs::programs;
use hg_tests::project::{Project, slow, small};
use nix::sys::signal::Signal;

#[path = "result_cache/backend.rs"]
mod backend;

/// With one that warns, so that words are compared too.
fn project() -> Project {
    let project = Project::of(4);
    project.add("warns.c", "int f(void) { int unused = 1; return 0; }\n");
    project
}

/// A build by somebody who has nothing from before: as many answers of the coordinator, and
/// compiles of workers.
fn build(project: &Project, grid: &Grid) -> [usize; 2] {
    project.clean();
    let mut make = project.hgbuild_make(&grid.address(), &["-j4"]);
    project.assert_same(
        "a clean build",
        &mut project.plain_make(&["-j4"]),
        &mut make,
    );
    let events = project.events();
    assert!(
        events.iter().all(|e| e.place == "remote"),
        "{}",
        project.told()
    );
    let kept = events.iter().filter(|e| e.reason == "remote-cache").count();
    [kept, events.len() - kept]
}

/// The files of all results.
fn entries(grid: &Grid) -> Vec<PathBuf> {
    let shards = fs::read_dir(grid.state().join("results")).expect("a store");
    let shards = shards.flatten().filter(|shard| shard.path().is_dir());
    let files = shards.flat_map(|shard| fs::read_dir(shard.path()).expect("a shard"));
    let files = files.flatten().map(|file| file.path());
    let is_entry = |path: &PathBuf| path.extension().is_some_and(|end| end == "k");
    files.filter(is_entry).collect()
}

#[test]
fn the_second_developer_compiles_nothing() {
    let mut grid = Grid::keeping(programs(), 1, 2);
    let project = project();
    assert_eq!(build(&project, &grid), [0, 5]);
    assert_eq!(build(&project, &grid), [5, 0]);
    // What is on disk is what counts, however the one before ended.
    grid.restart_coordinator(Signal::SIGKILL);
    grid.wait_for_workers(1);
    assert_eq!(build(&project, &grid), [5, 0]);
    // A header, or a word of the command line, makes another compile.
    project.add("f00.c", "int changed(void) { return 1; }\n");
    assert_eq!(build(&project, &grid), [4, 1]);
    // Without any worker there are answers all the same.
    grid.workers[0].end(Signal::SIGTERM);
    grid.wait_for_workers(0);
    assert_eq!(build(&project, &grid), [5, 0]);
}

/// With cores that are idle here: how many compiles the coordinator answered, and how many
/// ran here.
fn build_beside_idle_cores(project: &Project, grid: &Grid, words: &[&str]) -> [usize; 2] {
    project.clean();
    let mut make = project.hgbuild_make(&grid.address(), words);
    make.env("HG_LOCAL_SLOTS", "64");
    project.assert_same("idle cores", &mut project.plain_make(words), &mut make);
    let events = project.events();
    let of = |reason: &str| {
        events
            .iter()
            .filter(|e| e.reason.starts_with(reason))
            .count()
    };
    let counts = [of("remote-cache"), of("local-slot")];
    assert_eq!(counts[0] + counts[1], events.len(), "{}", project.told());
    counts
}

#[test]
fn an_idle_core_compiles_only_what_is_not_there() {
    let grid = Grid::keeping(programs(), 1, 2);
    let project = project();
    // Nothing is kept: nobody is asked.
    assert_eq!(build_beside_idle_cores(&project, &grid, &[]), [0, 5]);
    let asked = grid.get("/metrics").expect("metrics");
    assert!(!asked.contains("result_cache_requests_total{"), "{asked}");
    assert_eq!(build(&project, &grid), [0, 5]);
    // Where the machine is so busy that an answer takes too long, the core compiles.
    let mut builds = (0..10).map(|_| build_beside_idle_cores(&project, &grid, &[]));
    assert!(builds.any(|counts| counts == [5, 0]), "no build gets all");
    let others = Project::new();
    for number in 100..130 {
        others.add(&format!("f{number}.c"), &small(number));
    }
    assert_eq!(build_beside_idle_cores(&others, &grid, &["-j1"]), [0, 30]);
    // Once one has asked in vain, those of the next second do not.
    let metrics = grid.get("/metrics").expect("metrics");
    let misses = metric(
        &metrics,
        "hybridgrid_result_cache_requests_total{outcome=\"miss\"}",
    );
    assert!((5..5 + 20).contains(&misses), "{misses}: 5, and few of 30");
}

fn metric(metrics: &str, name: &str) -> u64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name));
    value.expect(name).trim().parse().expect("a number")
}

#[test]
fn what_several_ask_for_at_once_is_compiled_once() {
    const CLIENTS: usize = 3;
    // Where it takes a client long to start, another one's result is in the store by then.
    const ROUNDS: usize = 5;
    let grid = Grid::keeping(programs(), 1, CLIENTS as u32);
    let project = Project::new();
    let homes = [(); CLIENTS].map(|()| tempfile::tempdir().expect("a home"));
    let shared = || {
        let metrics = grid.get("/metrics").expect("metrics");
        let name = "hybridgrid_result_cache_requests_total{outcome=\"shared\"}";
        match metrics.contains(name) {
            true => metric(&metrics, name),
            false => 0,
        }
    };
    let mut round = 0;
    while shared() == 0 {
        assert!(round < ROUNDS, "nobody ever waited for another one");
        project.add("same.c", &slow(round));
        let words = ["cc", "-O2", "-c", "same.c", "-o", "same.o"];
        let expected = run(&mut project.plain(words[0], &words[1..]));
        thread::scope(|scope| {
            for home in &homes {
                let mut compile = project.hgbuild(&grid.address(), &words);
                compile.env("HOME", home.path());
                let expected = &expected;
                scope.spawn(move || assert_eq!(&run(&mut compile), expected));
            }
        });
        let [plain, there] = project.files();
        assert_eq!(there, plain);
        round += 1;
    }
    let metrics = grid.get("/metrics").expect("metrics");
    let compiled = metric(&metrics, "hybridgrid_tasks_total{outcome=\"ok\"}");
    assert_eq!(
        compiled, round as u64,
        "one compile for all clients of a round"
    );
}

#[test]
fn damage_is_a_miss() {
    let grid = Grid::keeping(programs(), 1, 2);
    let project = project();
    assert_eq!(build(&project, &grid), [0, 5]);
    let files = entries(&grid);
    assert_eq!(files.len(), 5);
    for (number, file) in files.iter().enumerate() {
        let mut bytes = fs::read(file).expect("an entry");
        let middle = bytes.len() / 2;
        match number {
            0 => bytes.truncate(middle),
            1 => bytes.clear(),
            _ => bytes[middle] ^= 1,
        }
        fs::write(file, bytes).expect("an entry");
    }
    // One in the place of another is damage as well.
    assert_eq!(build(&project, &grid), [0, 5]);
    let files = entries(&grid);
    fs::copy(&files[0], &files[1]).expect("an entry");
    assert_eq!(build(&project, &grid), [4, 1]);
    // An operator finds it, too, while the coordinator runs.
    fs::copy(&files[2], &files[3]).expect("an entry");
    assert_eq!(
        cache(&grid, &["stats"]).1.matches("results  5\n").count(),
        1
    );
    let (code, said) = cache(&grid, &["verify"]);
    assert!(said.contains(": damaged, removed\n"), "{said}");
    assert!(said.contains("worker worker-1: 4 results"), "{said}");
    assert_eq!(
        (code, said.contains("4 results good, 1 wrong\n")),
        (Some(1), true)
    );
    assert_eq!(cache(&grid, &["verify"]).0, Some(0));
    let removed = |words: &[&str]| cache(&grid, &[&["clear"], words].concat()).1;
    assert_eq!(removed(&["--worker", "other"]), "0 results removed\n");
    assert_eq!(removed(&["--worker", "worker-1"]), "4 results removed\n");
    assert_eq!(build(&project, &grid), [0, 5]);
    assert_eq!(removed(&[]), "5 results removed\n");
    assert_eq!(build(&project, &grid), [0, 5]);
    let elsewhere = grid.folder().join("elsewhere");
    let words = ["cache", "stats", "--state", &elsewhere.to_string_lossy()];
    assert_eq!(coordinator(&grid, &words).code, Some(2));
    assert!(!elsewhere.exists());
}

/// `hg-coord WORDS`.
fn coordinator(grid: &Grid, words: &[&str]) -> Outcome {
    run(scrubbed(&programs().coordinator, grid.folder(), grid.folder()).args(words))
}

/// `hg-coord cache WORDS`, about the results of `grid`: its exit code, and what it says.
fn cache(grid: &Grid, words: &[&str]) -> (Option<i32>, String) {
    let state = grid.state();
    let state = ["--state", &state.to_string_lossy()];
    let outcome = coordinator(grid, &[&["cache"], words, &state].concat());
    let said = String::from_utf8_lossy(&outcome.stdout).into_owned();
    (outcome.code, said)
}

#[test]
fn nothing_is_kept_of_a_worker_without_the_full_sandbox() {
    let mut grid = Grid::keeping(programs(), 0, 2);
    let folder = grid.folder().to_path_buf();
    let mut command = worker(programs(), &folder, "open", &grid.address(), 2);
    command.args(["--sandbox", "off"]);
    let daemon = Daemon::start("open", &mut command, folder.join("open.log"));
    grid.workers.push(daemon);
    grid.wait_for_workers(1);
    let project = Project::of(3);
    assert_eq!(build(&project, &grid), [0, 3]);
    assert_eq!(build(&project, &grid), [0, 3]);
    assert_eq!(entries(&grid).len(), 0);
}
