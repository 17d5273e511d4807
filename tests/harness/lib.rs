//! What the end-to-end tests, the demo and the benchmarks stand on: real
//! programs, real processes, real compilers, on loopback ports that are free.

pub mod command;
pub mod daemon;
pub mod event;
pub mod cache;
pub mod cgroup;
pub mod follow;
pub mod fake_grid;
pub mod folder;
pub mod grid;
pub mod h2;
pub mod hostile;
pub mod impostor;
pub mod leftover;
pub mod programs;

pub mod project;
pub mod raw_tree;
pub mod running;
pub mod tls_peer;
pub mod workload;

/// Says loudly that something was not tested, and why: past the test runner,
/// which keeps to itself what a passing test says.
pub fn skip(what: &str, why: &str) {
    use std::io::Write;
    // Whoever closed stderr wants to know nothing.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}: {why}");
}

/// Whether there is a `program` to run.
pub fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
