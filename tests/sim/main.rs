//! `cargo run --release -p hg-tests --bin sim [-- SCENARIO...] [--seed N] [--tasks N]
//! [--workers N]`: the coordinator's own state machine in a simulated grid, against
//! other policies on the same tasks. The others have no hedges, send nothing ahead
//! and use every free slot; the queue in front of them is the same. Ends with the
//! targets, and with 1 if one was missed.

mod host;
mod policy;
mod pool;
mod report;
mod scenarios;
mod twin;
mod workload;
mod world;

use std::process::ExitCode;

use scenarios::{ALL, Options};

fn main() -> ExitCode {
    let mut options = Options::default();
    let mut wanted = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let place = match word.as_str() {
            "--seed" => &mut options.seed,
            "--tasks" => &mut options.tasks,
            "--workers" => &mut options.workers,
            name => match ALL.iter().find(|scenario| scenario.name == name) {
                Some(scenario) => {
                    wanted.push(scenario);
                    continue;
                }
                None => return usage(),
            },
        };
        let Some(number) = words.next().and_then(|word| word.parse().ok()) else {
            return usage();
        };
        *place = Some(number);
    }
    if wanted.is_empty() {
        wanted.extend(&ALL);
    }
    let mut targets = Vec::new();
    for scenario in wanted {
        (scenario.run)(&options, &mut targets);
    }
    println!("\ntargets");
    for target in &targets {
        println!(
            "  {:<7} {}",
            if target.met { "met" } else { "MISSED" },
            target.what
        );
    }
    ExitCode::from(u8::from(targets.iter().any(|target| !target.met)))
}

fn usage() -> ExitCode {
    eprintln!("sim [SCENARIO...] [--seed N] [--tasks N] [--workers N]");
    for scenario in &ALL {
        eprintln!("  {:<8} {}", scenario.name, scenario.about);
    }
    ExitCode::from(2)
}
