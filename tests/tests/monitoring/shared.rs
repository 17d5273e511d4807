//! A small build on a grid, and raw workers and clients with odd names.

use std::fs;
use std::path::Path;

use hg_tests::cache::switch_on;
use hg_tests::command::{Outcome, run, scrubbed};
use hg_tests::grid::Grid;
use hg_tests::programs::programs;
use serde_json::Value;

/// Files of the build that a worker compiles.
pub const FILES: usize = 6;

/// Writes the sources of a build: some travel, and one stays for its `__TIME__`.
pub fn write_sources(folder: &Path) {
    let mut makefile = String::from("all: clock.o");
    for number in 0..FILES {
        let source = format!("int f{number}(int a) {{ return a * {number} + 1; }}\n");
        fs::write(folder.join(format!("f{number}.c")), source).expect("a source");
        makefile.push_str(&format!(" f{number}.o"));
    }
    fs::write(folder.join("clock.c"), "const char *now = __TIME__;\n").expect("a source");
    fs::write(folder.join("Makefile"), format!("{makefile}\n")).expect("a makefile");
}

/// `hgbuild make -j4` in `folder`, with a cache of its own.
pub fn build(grid: &Grid, folder: &Path) -> Outcome {
    let mut command = scrubbed(&programs().client, folder, folder);
    switch_on(&mut command, &folder.join("cache"));
    command
        .args(["make", "-j4", "CC=gcc"])
        // What may travel does, however idle or busy this machine is.
        .env("HG_LOCAL_SLOTS", "0");
    let outcome = run(grid.lead(&mut command));
    assert!(outcome.ok(), "{}", outcome.words());
    outcome
}

/// What a path of the API answers.
pub fn api(grid: &Grid, path: &str) -> Value {
    let body = grid.get(&format!("/api/v1/{path}")).expect("an answer");
    serde_json::from_str(&body).expect("JSON")
}

/// The value of a series of the coordinator's metrics.
pub fn metric(text: &str, series: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    let value = line.and_then(|rest| rest.trim().parse::<f64>().ok());
    value.unwrap_or_else(|| panic!("no {series} in {text}")) as u64
}
