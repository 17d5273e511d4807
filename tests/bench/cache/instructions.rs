//! How many instructions a warm hit takes in user space: a figure without noise.

use std::ffi::OsString;
use std::process::Stdio;

use hg_tests::skip;

use super::contender::Contender;
use super::units::{Project, Unit};

/// Runs behind a tool, the last of which counts.
const WARM_RUNS: usize = 4;
/// What a hit may take of a ccache's instructions. Of time it takes less than that: ccache
/// asks more of the kernel, which is not counted.
const SHARE_MAX: f64 = 0.8;
/// What each hit has to be.
const DIRECT: &str = "direct-hit";

/// Prints a row for each contender that remembers. Whether hgbuild's hits are as they
/// should be: direct, and at most [`SHARE_MAX`] of each other's; what is not is said on
/// stderr.
pub fn print(project: &Project, contenders: &[Contender]) -> bool {
    println!("\ninstructions of a hit: {}", project.name);
    // What a server does for its client is not counted.
    let caches: Vec<&Contender> = contenders
        .iter()
        .filter(|c| c.is_cache() && c.server().is_none())
        .collect();
    for contender in &caches {
        // Of another one it is the first file that counts.
        let units = match contender.is_ours() {
            true => &project.units[..],
            false => &project.units[..1],
        };
        super::hits::warm(contender, units);
    }
    let mut good = true;
    for contender in caches.iter().filter(|contender| contender.is_ours()) {
        let modes = project.units.iter().map(|unit| contender.mode(unit));
        let modes: Vec<String> = modes.map(Option::unwrap_or_default).collect();
        let direct = modes.iter().filter(|mode| *mode == DIRECT).count();
        println!("  {direct} of {} are direct", modes.len());
        if let Some(other) = modes.iter().find(|mode| *mode != DIRECT) {
            eprintln!("{}: not all hits are direct: {other}", project.name);
            good = false;
        }
    }
    for (tool, count) in [("perf", by_perf as Count), ("callgrind", by_callgrind)] {
        let counts: Vec<Option<u64>> = caches
            .iter()
            .map(|contender| count(contender, &project.units[0]))
            .collect();
        if counts.iter().any(Option::is_none) {
            skip(tool, "it does not count here");
            continue;
        }
        let ours = caches.iter().position(|contender| contender.is_ours());
        let ours = ours.and_then(|at| counts[at]).unwrap_or_default();
        for (contender, count) in caches.iter().zip(counts) {
            let count = count.unwrap_or_default();
            let share = ours as f64 / count.max(1) as f64;
            println!(
                "  {:<40} {count:>12} by {tool}   hgbuild/this {share:.3}",
                contender.name,
            );
            if share > SHARE_MAX && !contender.is_ours() {
                let (project, other) = (&project.name, &contender.name);
                eprintln!("{project}: {share:.3} of {other}'s instructions, not {SHARE_MAX}");
                good = false;
            }
        }
    }
    good
}

type Count = fn(&Contender, &Unit) -> Option<u64>;

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn by_perf(contender: &Contender, unit: &Unit) -> Option<u64> {
    let front = words(&["perf", "stat", "-x,", "-e", "instructions:u", "--"]);
    let said = stderr(contender, &front, unit)?;
    let line = said.lines().find(|line| line.contains("instructions"))?;
    line.split(',').next()?.parse().ok()
}

fn by_callgrind(contender: &Contender, unit: &Unit) -> Option<u64> {
    let front = words(&[
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        "--",
    ]);
    let said = stderr(contender, &front, unit)?;
    let (_, rest) = said.split_once("Collected : ")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// What the tool says of a hit. It may change the environment, so that the first
/// runs behind it are misses.
fn stderr(contender: &Contender, front: &[OsString], unit: &Unit) -> Option<String> {
    let mut said = None;
    for _ in 0..WARM_RUNS {
        let mut command = contender.behind(front, unit);
        let output = command.stderr(Stdio::piped()).output().ok()?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        said = output.status.success().then_some(words);
    }
    said
}
