//! What the end-to-end tests, the demo and the benchmarks stand on: real
//! programs, real processes, real compilers, on loopback ports that are free.

pub mod browser;
pub mod command;
pub mod daemon;
pub mod event;
pub mod cache;
pub mod cgroup;
pub mod flipper;
pub mod floors;
pub mod follow;
pub mod fake_grid;
pub mod folder;
pub mod grid;
pub mod h2;
pub mod hostile;
pub mod engine;
pub mod impostor;
pub mod leftover;
pub mod memos;
pub mod manuals;
pub mod live;
pub mod programs;

pub mod project;
pub mod raw_tree;
pub mod redis;
pub mod running;
pub mod slow_link;
pub mod terminal;
pub mod tls_peer;
pub mod workload;

use std::path::PathBuf;

/// Says loudly that something was not tested, and why: past the test runner,
/// which keeps to itself what a passing test says.
pub fn skip(what: &str, why: &str) {
    use std::io::Write;
    // Whoever closed stderr wants to know nothing.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}: {why}");
}

/// Where the first `program` of PATH is.
pub fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}
