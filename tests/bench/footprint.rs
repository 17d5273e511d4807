//! `bench footprint [WORKER]`: bytes of a worker's
//! binary, and what it takes of memory while it has nothing to do: linked by TLS, its
//! compilers known. Without WORKER, of one made by `--profile small`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use hg_tests::grid::Grid;
use hg_tests::hostile::resident;
use hg_tests::programs::{self, Programs, cargo};

/// What a worker may be.
const BINARY_BYTES_MAX: u64 = 2 << 20;
const IDLE_BYTES_MAX: u64 = 3 << 20;
/// Workers that are started, one after another: which pages of a program the kernel
/// maps is not the same each time.
const ROUNDS: usize = 5;
/// From when it is linked.
const REST: Duration = Duration::from_secs(5);

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
    let mut idle: Vec<u64> = Vec::new();
    for _ in 0..ROUNDS {
        let grid = Grid::start(&programs, 1, 2);
        thread::sleep(REST);
        idle.push(resident(&grid.workers[0]));
    }
    idle.sort_unstable();
    let middle = idle[ROUNDS / 2];
    println!("{}", worker.display());
    println!(
        "  binary  {} bytes (at most {BINARY_BYTES_MAX})",
        binary.len()
    );
    println!(
        "  idle    {} KiB resident, from {} to {} (at most {})",
        middle >> 10,
        idle[0] >> 10,
        idle[ROUNDS - 1] >> 10,
        IDLE_BYTES_MAX >> 10
    );
    Ok(binary.len() <= BINARY_BYTES_MAX && middle <= IDLE_BYTES_MAX)
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
