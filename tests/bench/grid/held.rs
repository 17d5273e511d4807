//! What the connection that a build's process holds saves over a slow link: 100 files by
//! `hgbuild make`, with it and with a connection for each compile, in turn; and how many
//! round trips one compile takes, from builds without jobs side by side.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hg_tests::command::{self, scrubbed};
use hg_tests::grid::Grid;
use hg_tests::programs::Programs;
use hg_tests::slow_link::SlowLink;

use super::{spread, verdict};
use crate::cpu::Meter;

/// What a direction of the link takes.
const DELAY: Duration = Duration::from_millis(40);
/// Files of a build, and those built one after another.
const FILES: usize = 100;
const FILES_IN_ROW: usize = 12;
/// Round trips of a compile through the held connection.
const ROUND_TRIPS_MAX: f64 = 1.3;
/// The other figures, as shares of what they are with a connection for each.
const SHARE_MAX: f64 = 1.0;
/// An address at which no build holds a connection.
const NOBODY: &str = "/dev/null";

/// Prints it.
pub fn run(programs: &Programs, rounds: usize, jobs: Option<usize>) {
    let jobs = jobs.unwrap_or(4);
    println!(
        "\nheld: {FILES} files by make -j{jobs}, {} ms each way, through the build's connection \
         and with one for each compile",
        DELAY.as_millis()
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_project(folder.path());
    let grid = Grid::start(programs, 1, 4);
    let token = grid.token(&["--role", "client"]);
    let slow = SlowLink::lay(&grid.address(), DELAY);
    let build = |way: &str, held: bool, files: usize, jobs: usize| {
        let mut make = scrubbed(&programs.client, folder.path(), folder.path());
        make.arg("--no-fallback")
            .args(["--coordinator", way])
            .arg("make");
        make.arg(format!("-j{jobs}"))
            .arg("-s")
            .arg(format!("upto={files}"));
        let make = grid.lead(&mut make);
        make.env("HG_COORDINATOR", way)
            .env("HG_LOCAL_SLOTS", "0")
            .env("HG_TOKEN", &token);
        if !held {
            make.env("HG_RELAY", NOBODY);
        }
        measure(folder.path(), make)
    };
    // The first ones find out about the compiler, and give the worker its headers.
    build(&grid.address(), true, FILES, jobs);
    let mut walls = Vec::new();
    let mut works = Vec::new();
    let mut trips = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        let with = build(&slow.address, true, FILES, jobs);
        let without = build(&slow.address, false, FILES, jobs);
        walls.push(with.wall_s / without.wall_s);
        works.push(with.cpu_s / without.cpu_s);
        for (trips, held) in trips.iter_mut().zip([true, false]) {
            // What both pay before the first compile is the same for one file.
            let one_by_one = |way: &str| {
                let many = build(way, held, FILES_IN_ROW, 1).wall_s;
                (many - build(way, held, 1, 1).wall_s) / (FILES_IN_ROW - 1) as f64
            };
            let added_s = one_by_one(&slow.address) - one_by_one(&grid.address());
            trips.push(added_s / (2.0 * DELAY.as_secs_f64()));
        }
    }
    let median = |values: &[f64]| values[values.len() / 2];
    let [held, dialled] = &mut trips;
    let words = [
        spread(held),
        spread(dialled),
        spread(&mut walls),
        spread(&mut works),
    ];
    println!(
        "  {}: {} round trips a compile through it ({ROUND_TRIPS_MAX}); with its own {}",
        verdict(median(held) <= ROUND_TRIPS_MAX),
        words[0],
        words[1]
    );
    println!(
        "  {}: wall time {} of that with a connection for each ({SHARE_MAX})",
        verdict(median(&walls) <= SHARE_MAX),
        words[2]
    );
    println!(
        "  {}: client processor time {} of that ({SHARE_MAX})",
        verdict(median(&works) <= SHARE_MAX),
        words[3]
    );
}

fn write_project(folder: &Path) {
    for number in 1..=FILES {
        let text =
            format!("#include <stdio.h>\nint f{number}(void) {{ return puts(\"{number}\"); }}\n");
        fs::write(folder.join(format!("f{number}.c")), text).expect("a source");
    }
    let rules = "all: $(patsubst %,f%.o,$(shell seq $(upto)))\nf%.o: f%.c\n\tgcc -O2 -c $< -o $@\n";
    fs::write(folder.join("Makefile"), rules).expect("a makefile");
}

struct Figure {
    wall_s: f64,
    cpu_s: f64,
}

/// A build from nothing.
fn measure(folder: &Path, make: &mut Command) -> Figure {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|kind| kind == "o") {
            fs::remove_file(entry.path()).expect("an object goes");
        }
    }
    make.env("HG_CACHE_MAX_SIZE", "0");
    let meter = Meter::start(&[]);
    let began = Instant::now();
    let outcome = command::run(make);
    let wall_s = began.elapsed().as_secs_f64();
    assert!(outcome.ok(), "{}", outcome.words());
    Figure {
        wall_s,
        cpu_s: meter.used().as_secs_f64(),
    }
}
