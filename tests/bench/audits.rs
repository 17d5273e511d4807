//! `bench audits [--every N] [--runs N]`: how many results a worker that spoils one object in
//! N (100) has had when it is put out, in so many grids (3) of an honest one and itself.

use std::process::ExitCode;

use hg_tests::flipper::Flipping;
use hg_tests::{in_path, programs};

/// Results that it may have.
const RESULTS_MAX: u64 = 1_000;

/// Measures what `words` ask for.
pub fn run(words: Vec<String>) -> ExitCode {
    let Some((every, runs)) = read(&words) else {
        eprintln!("usage: bench audits [--every N] [--runs N]");
        return ExitCode::from(2);
    };
    let Some(gcc) = in_path("gcc") else {
        eprintln!("no gcc");
        return ExitCode::FAILURE;
    };
    programs::programs();
    let mut all_out = true;
    println!("one object in {every} has a wrong bit:");
    for run in 1..=runs {
        let mut flipping = Flipping::new(every, run);
        let course = flipping.run(&gcc, RESULTS_MAX);
        let end = if course.is_out {
            "put out"
        } else {
            "NOT PUT OUT"
        };
        println!(
            "  {end} after {} results of its, {} compiles in all, {} of them checked by the client",
            course.results, course.compiles, course.checks
        );
        all_out &= course.is_out;
    }
    match all_out {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn read(words: &[String]) -> Option<(u64, u64)> {
    let (mut every, mut runs) = (100, 3);
    for pair in words.chunks(2) {
        let number = pair.get(1)?.parse().ok().filter(|number| *number > 0)?;
        match pair[0].as_str() {
            "--every" => every = number,
            "--runs" => runs = number,
            _ => return None,
        }
    }
    Some((every, runs))
}
