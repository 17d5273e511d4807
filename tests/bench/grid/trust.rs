//! What TLS and a token cost the client for each compile: processor time of
//! hgbuild and its preprocessor through a grid with them, against one without, in
//! turn.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hg_tests::command::{self, scrubbed};
use hg_tests::grid::Grid;
use hg_tests::programs::Programs;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::{spread, verdict};

/// Compiles in one measurement.
const COMPILES: usize = 10;
/// Measurements of each grid for every round that is asked for.
const PAIRS_PER_ROUND: usize = 4;
/// Milliseconds of processor time that a compile may cost more.
const COST_MS_MAX: f64 = 3.0;
const SOURCE: &str = "#include <stdio.h>\nint main(void) { return puts(\"hello\") < 0; }\n";

/// Prints it.
pub fn run(programs: &Programs, rounds: usize) {
    println!("\ntrust: hgbuild gcc -O2 -c hello.c, TLS and a token against plaintext");
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("hello.c"), SOURCE).expect("a source");
    let [protected, plain] = [Grid::start(programs, 1, 2), Grid::insecure(programs, 1, 2)];
    for grid in [&protected, &plain] {
        // The first one finds out about the compiler.
        cpu_ms(programs, grid, folder.path());
    }
    let mut more = Vec::new();
    for _ in 0..rounds * PAIRS_PER_ROUND {
        let with = cpu_ms(programs, &protected, folder.path());
        more.push(with - cpu_ms(programs, &plain, folder.path()));
    }
    let words = spread(&mut more);
    let met = verdict(more[more.len() / 2] <= COST_MS_MAX);
    println!("  {met}: {words} ms of processor time more ({COST_MS_MAX})");
}

/// Milliseconds of processor time that one compile takes here.
fn cpu_ms(programs: &Programs, grid: &Grid, folder: &Path) -> f64 {
    let before = children();
    for _ in 0..COMPILES {
        let mut compile = scrubbed(&programs.client, folder, folder);
        compile
            .args(["--no-fallback", "gcc", "-O2", "-c", "hello.c"])
            .env("HG_LOCAL_SLOTS", "0");
        let outcome = command::run(grid.lead(&mut compile));
        assert!(outcome.ok(), "{}", outcome.words());
    }
    let spent = children().saturating_sub(before);
    spent.as_secs_f64() * 1e3 / COMPILES as f64
}

/// What our children that have ended took: the daemons live on.
fn children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("our own usage");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.max(0).unsigned_abs())
}
