//! `cargo run --release -p hg-tests --bin footprint [WORKER]`: bytes of a worker's
//! binary, and what it takes of memory while it has nothing to do: linked by TLS, its
//! compilers known. Without WORKER, of one made by `--profile small`.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use hg_tests::grid::Grid;
use hg_tests::hostile::resident;
use hg_tests::programs::{self, cargo, checkout};

/// What a worker may be.
const BINARY_BYTES_MAX: u64 = 2 << 20;
const IDLE_BYTES_MAX: u64 = 3 << 20;
/// Workers that are started, one after another: which pages of a program the kernel
/// maps is not the same each time.
const ROUNDS: usize = 5;
/// From when it is linked.
const REST: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match measure() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("footprint: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is as small as it should be.
fn measure() -> Result<bool, String> {
    let worker = match env::args_os().nth(1) {
        Some(worker) => PathBuf::from(worker),
        None => small()?,
    };
    let worker = worker
        .canonicalize()
        .map_err(|error| format!("{}: {error}", worker.display()))?;
    let binary = fs::metadata(&worker).map_err(|error| error.to_string())?;
    let mut programs = programs::build(true)?;
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

fn small() -> Result<PathBuf, String> {
    let mut command = cargo();
    command.args(["build", "--profile", "small", "-p", "hg-worker-lite"]);
    let status = command
        .status()
        .map_err(|error| format!("cargo can't be run: {error}"))?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or(checkout().join("target"), PathBuf::from);
    match status.success() {
        true => Ok(target.join("small/hg-worker-lite")),
        false => Err("cargo build --profile small failed".into()),
    }
}
