//! `bench footprint [WORKER]`: bytes of a worker's binary, and what it takes of memory and
//! how often it wakes up while it has nothing to do: joined, so that it would look for its
//! coordinator by mDNS, linked by TLS, its compilers known, its metrics served and asked for
//! once. Without WORKER, of one made by `--profile small`; what `cross/build` makes is smaller.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use hg_tests::command::{run as run_command, scrubbed};
use hg_tests::daemon::Daemon;
use hg_tests::grid::{Grid, http_get};
use hg_tests::hostile::resident;
use hg_tests::memos;
use hg_tests::programs::{self, Programs, cargo};

use crate::grid::verdict;

/// What a worker may be.
const BINARY_BYTES_MAX: u64 = 2 << 20;
const IDLE_BYTES_MAX: u64 = 3 << 20;
/// Workers that are started, one after another: which pages of a program the kernel
/// maps is not the same each time.
const ROUNDS: usize = 5;
/// From when it is linked.
const REST: Duration = Duration::from_secs(5);
/// In which it is counted how often its threads wake up.
const WATCHED: Duration = Duration::from_secs(10);

/// Measures the worker that `words` name.
pub fn run(words: Vec<String>) -> ExitCode {
    match measure(words.first().map(String::as_str)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("footprint: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is as small as it should be.
fn measure(worker: Option<&str>) -> Result<bool, String> {
    let mut programs = programs::build(true)?;
    let worker = match worker {
        Some(worker) => PathBuf::from(worker),
        None => small(&programs)?,
    };
    let worker = worker
        .canonicalize()
        .map_err(|error| format!("{}: {error}", worker.display()))?;
    let binary = fs::metadata(&worker).map_err(|error| error.to_string())?;
    programs.worker = worker.clone();
    let (mut idle, mut wakes) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let grid = joined(&programs)?;
        let worker = &grid.workers[0];
        thread::sleep(REST);
        let (before, began) = (wake_ups(worker)?, Instant::now());
        thread::sleep(WATCHED);
        let woken = wake_ups(worker)? - before;
        wakes.push(woken as f64 / began.elapsed().as_secs_f64());
        idle.push(resident(worker));
    }
    idle.sort_unstable();
    wakes.sort_by(f64::total_cmp);
    let middle = idle[ROUNDS / 2];
    println!("{}", worker.display());
    println!(
        "  binary  {} bytes (at most {BINARY_BYTES_MAX}: {})",
        binary.len(),
        verdict(binary.len() <= BINARY_BYTES_MAX)
    );
    println!(
        "  idle    {} KiB resident, from {} to {} (at most {}: {})",
        middle >> 10,
        idle[0] >> 10,
        idle[ROUNDS - 1] >> 10,
        IDLE_BYTES_MAX >> 10,
        verdict(middle <= IDLE_BYTES_MAX)
    );
    println!(
        "  wakes   {:.1} times a second, all threads together, from {:.1} to {:.1}",
        wakes[ROUNDS / 2],
        wakes[0],
        wakes[ROUNDS - 1]
    );
    Ok(binary.len() <= BINARY_BYTES_MAX && middle <= IDLE_BYTES_MAX)
}

/// A grid and a worker that has joined it.
fn joined(programs: &Programs) -> Result<Grid, String> {
    let mut grid = Grid::start(programs, 0, 2);
    let folder = grid.folder().to_owned();
    let state = folder.join("worker-1");
    memos::plant(&state).map_err(|error| error.to_string())?;
    let token = grid.token(&["--role", "worker", "--name", "rest"]);
    let mut join = scrubbed(&programs.worker, &folder, &folder);
    join.args(["join", "--coordinator", &grid.address(), "--state"]);
    let outcome = run_command(join.arg(&state).env("HG_TOKEN", token));
    if !outcome.ok() {
        return Err(outcome.words());
    }
    let mut serve = scrubbed(&programs.worker, &folder, &folder);
    serve.args(["serve", "--dedicated", "--slots", "2"]);
    serve.args(["--http", "127.0.0.1:0", "--state"]).arg(&state);
    let worker = Daemon::start("worker-1", &mut serve, folder.join("worker-1.log"));
    http_get(&worker.address("http"), "/metrics")?;
    grid.workers.push(worker);
    grid.wait_for_workers(1);
    Ok(grid)
}

/// How often its threads have waited for something until now: proc(5), /proc/PID/status.
fn wake_ups(daemon: &Daemon) -> Result<u64, String> {
    let folder = format!("/proc/{}/task", daemon.pid());
    let named = |error: std::io::Error| format!("{folder}: {error}");
    let mut sum = 0;
    for thread in fs::read_dir(&folder).map_err(named)? {
        let path = thread.map_err(named)?.path().join("status");
        let status = fs::read_to_string(path).map_err(named)?;
        let line = |line: &str| {
            let count = line.strip_prefix("voluntary_ctxt_switches:")?;
            count.trim().parse::<u64>().ok()
        };
        sum += status.lines().find_map(line).unwrap_or_default();
    }
    Ok(sum)
}

/// Builds one beside `programs`.
fn small(programs: &Programs) -> Result<PathBuf, String> {
    let profile = programs.worker.parent();
    let target = profile
        .and_then(Path::parent)
        .unwrap_or(Path::new("target"));
    let mut command = cargo();
    command.args(["build", "--profile", "small", "-p", "hg-worker-lite"]);
    let status = command
        .arg("--target-dir")
        .arg(target)
        .status()
        .map_err(|error| format!("cargo can't be run: {error}"))?;
    match status.success() {
        true => Ok(target.join("small/hg-worker-lite")),
        false => Err("cargo build --profile small failed".into()),
    }
}
