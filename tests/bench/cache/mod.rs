//! `bench cache [ROUNDS] [--entries N] [--only WORD] [--goals]`: what a hit and a miss cost, against every ccache in PATH, sccache and the
//! plain compiler. All are measured in turn in each round of one run. Sections: `hits`,
//! `headers`, `instructions`, `misses`, `entries`; the stock number of entries is
//! 100,000, and the long form is `--entries 1000000`. With `--goals`, hits that are not
//! direct, or take more instructions than they may, are an error.

mod contender;
mod entries;
mod generated;
mod hits;
mod instructions;
mod misses;
mod server;
mod stopwatch;
mod units;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hg_tests::programs;
use hg_tests::workload::{LEVELDB, LUA, ZSTD};

use contender::Contender;
use units::Project;

/// Rounds when nothing is said.
const ROUNDS_DEFAULT: usize = 3;
/// Entries of a large cache when nothing is said.
const ENTRIES_DEFAULT: usize = 100_000;

/// What was asked for.
struct Asked {
    rounds: usize,
    entries: usize,
    only: Option<String>,
    goals: bool,
}

impl Asked {
    /// Words that can't be read are an error: `None`.
    fn read(mut words: impl Iterator<Item = String>) -> Option<Asked> {
        let mut asked = Asked {
            rounds: ROUNDS_DEFAULT,
            entries: ENTRIES_DEFAULT,
            only: None,
            goals: false,
        };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--entries" => asked.entries = words.next()?.parse().ok()?,
                "--only" => asked.only = Some(words.next()?),
                "--goals" => asked.goals = true,
                _ => asked.rounds = word.parse().ok().filter(|rounds| *rounds > 0)?,
            }
        }
        Some(asked)
    }

    fn wants(&self, section: &str) -> bool {
        self.only
            .as_ref()
            .is_none_or(|only| section.contains(only.as_str()))
    }
}

/// Measures what `words` ask for.
pub fn run(words: Vec<String>) -> ExitCode {
    let Some(asked) = Asked::read(words.into_iter()) else {
        eprintln!("usage: bench cache [ROUNDS] [--entries N] [--only SECTION] [--goals]");
        return ExitCode::from(2);
    };
    let programs = match programs::build(true) {
        Ok(programs) => programs,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    println!(
        "{} rounds; milliseconds over /bin/true; medians, over files where there are several",
        asked.rounds
    );
    let small = generated::project(&folder.path().join("generated"));
    let projects: Vec<Project> = [(LUA, "gcc"), (ZSTD, "gcc"), (LEVELDB, "g++")]
        .into_iter()
        .filter(|_| {
            ["hits", "misses", "instructions"]
                .iter()
                .any(|s| asked.wants(s))
        })
        .filter_map(|(workload, compiler)| {
            let place = folder.path().join(workload.name);
            units::real(workload, compiler, &place)
                .inspect_err(|why| hg_tests::skip(workload.name, why))
                .ok()
        })
        .collect();
    let good = measure(&asked, &programs.client, folder.path(), &projects, &small);
    match good || !asked.goals {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Whether hits are as they should be.
fn measure(
    asked: &Asked,
    client: &Path,
    folder: &Path,
    projects: &[Project],
    small: &Project,
) -> bool {
    let mut good = true;
    let contenders = |name: &str| Contender::all(client, &folder.join(name));
    for project in projects.iter().filter(|_| asked.wants("hits")) {
        hits::print(
            project,
            &contenders(&format!("hits-{}", project.name)),
            asked.rounds,
        );
    }
    let warm = contenders("warm");
    if asked.wants("headers") {
        hits::print(small, &warm, asked.rounds * hits::SMALL_RUNS);
    }
    if asked.wants("instructions") {
        good &= instructions::print(small, &warm);
    }
    for project in projects.iter().filter(|_| asked.wants("instructions")) {
        let all = contenders(&format!("instructions-{}", project.name));
        good &= instructions::print(project, &all);
    }
    for project in projects.iter().filter(|_| asked.wants("misses")) {
        misses::print(
            project,
            &mut contenders(&format!("misses-{}", project.name)),
            asked.rounds,
        );
    }
    if asked.wants("entries") {
        let place = |name: &str| -> PathBuf { folder.join(format!("entries-{name}")) };
        let caches = [place("few"), place("many")].map(|place| Contender::ours(client, &place));
        entries::print(
            small,
            &caches,
            asked.entries,
            asked.rounds * hits::SMALL_RUNS,
        );
    }
    good
}
