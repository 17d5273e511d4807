//! `bench arguments [WORD ...]`: how many command lines leave the machine, are hits the
//! second time, and give what the plain compiler gives. Each line of `lines.txt` (with
//! WORDs: of those that have one of them) is run plainly twice, then twice through a grid
//! on this machine with an empty cache and no local slots. What differs between the plain
//! runs is not compared. `-v` prints every line, else only those that stay here, are no hit
//! or differ.

mod lines;
mod tally;
mod trial;

use std::process::ExitCode;

use hg_tests::grid::Grid;
use hg_tests::{in_path, programs};

use lines::Line;
use tally::Tally;
use trial::Trial;

/// Runs the lines that have one of `words`.
pub fn run(mut words: Vec<String>) -> ExitCode {
    let verbose = words.iter().any(|word| word == "-v");
    words.retain(|word| word != "-v");
    let programs = match programs::build(true) {
        Ok(programs) => programs,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let lines: Vec<Line> = lines::all()
        .into_iter()
        .filter(|line| in_path(line.compiler).is_some())
        .filter(|line| words.is_empty() || words.iter().any(|word| line.has(word)))
        .collect();
    let grid = Grid::start(&programs, 1, 2);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut tally = Tally::default();
    for (at, line) in lines.iter().enumerate() {
        let trial = Trial {
            line,
            client: &programs.client,
            grid: &grid,
            folder: folder.path().join(format!("{at:03}")),
            home: folder.path().join("home"),
        };
        match trial.run() {
            Some(finding) => tally.add(line, &finding, verbose),
            None => hg_tests::skip(line.command, "what goes before it fails here"),
        }
    }
    tally.print();
    match tally.is_wrong() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}
