//! `cargo run --release -p hg-tests --bin bench -- SUBCOMMAND ...`: what the programs
//! cost, and what they bear. Each subcommand builds them in its own profile first.

mod arguments;
mod audits;
mod cache;
mod container;
mod cpu;
mod footprint;
mod grid;
mod overhead;
mod projects;
mod sandbox;

use std::process::ExitCode;

/// One benchmark.
struct Subcommand {
    name: &'static str,
    summary: &'static str,
    run: fn(Vec<String>) -> ExitCode,
}

const SUBCOMMANDS: [Subcommand; 9] = [
    Subcommand {
        name: "arguments",
        summary: "command lines: which leave the machine, are kept, and give the same",
        run: arguments::run,
    },
    Subcommand {
        name: "audits",
        summary: "how soon a worker that spoils one object in N is put out",
        run: audits::run,
    },
    Subcommand {
        name: "cache",
        summary: "hits and misses, against the plain compiler and ccache",
        run: cache::run,
    },
    Subcommand {
        name: "container",
        summary: "compilers out of container images, against the plain one and docker exec",
        run: container::run,
    },
    Subcommand {
        name: "footprint",
        summary: "bytes of a worker's binary, its memory and wake-ups at rest",
        run: footprint::run,
    },
    Subcommand {
        name: "grid",
        summary: "what a coordinator bears, and what attacks on it cost a build",
        run: grid::run,
    },
    Subcommand {
        name: "overhead",
        summary: "the wrapper and whole builds, against the plain compiler, distcc and Icecream",
        run: overhead::run,
    },
    Subcommand {
        name: "projects",
        summary: "real projects: how much leaves the machine, and what it costs",
        run: projects::run,
    },
    Subcommand {
        name: "sandbox",
        summary: "what the worker's sandbox adds to a compile",
        run: sandbox::run,
    },
];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_default();
    let named = SUBCOMMANDS.iter().find(|one| one.name == name);
    if let Some(subcommand) = named {
        return (subcommand.run)(words.collect());
    }
    eprintln!("usage: bench SUBCOMMAND ...");
    for one in &SUBCOMMANDS {
        eprintln!("  {:<10} {}", one.name, one.summary);
    }
    ExitCode::from(2)
}
