//! `bench grid [--only NAME] [--rounds N] [--jobs N] [--trouble NAME] [--attack NAME]`:
//! what the grid bears (`links`), how near a build comes to what its workers could do at
//! best (`speedup`), what a grid that is no good costs a build (`never-slower`), what TLS
//! and tokens cost a compile (`trust`), what others' attacks cost a build (`attack`),
//! what being looked at costs the coordinator, by live pages (`pages`) and by Prometheus
//! (`scrape`), and what the connection that a build holds saves over a slow link (`held`).

mod attack;
mod attackers;
mod fake;
mod held;
mod links;
mod load;
mod never_slower;
mod pages;
mod process;
mod scrape;
mod speedup;
mod trust;

use std::process::ExitCode;

use hg_tests::programs;

/// Rounds of what is measured pair by pair.
const ROUNDS_DEFAULT: usize = 5;

/// What was typed.
struct Options {
    only: Option<String>,
    rounds: usize,
    /// Of make; none: as many as there are cores.
    jobs: Option<usize>,
    /// None: all of them.
    trouble: Option<String>,
    /// None: all of them.
    attack: Option<String>,
}

/// What there is to ask for.
const NAMES: [&str; 8] = [
    "links",
    "speedup",
    "never-slower",
    "trust",
    "attack",
    "pages",
    "scrape",
    "held",
];

/// Measures what `words` ask for.
pub fn run(words: Vec<String>) -> ExitCode {
    let options = match read(words.into_iter()) {
        Ok(options) => options,
        Err(why) => {
            eprintln!(
                "{why}\nusage: bench grid [--only {}] [--rounds N] [--jobs N] [--trouble NAME] [--attack NAME]",
                NAMES.join("|")
            );
            return ExitCode::from(2);
        }
    };
    let programs = match programs::build(true) {
        Ok(programs) => programs,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let wanted = |name| options.only.as_deref().is_none_or(|only| only == name);
    if wanted("links") {
        links::run(&programs);
    }
    if wanted("speedup") {
        speedup::run(&programs);
    }
    if wanted("never-slower") {
        let trouble = options.trouble.as_deref();
        never_slower::run_pairs(&programs, options.rounds, options.jobs, trouble);
    }
    if wanted("trust") {
        trust::run(&programs, options.rounds);
    }
    if wanted("attack") {
        attack::run_attacks(&programs, options.rounds, options.attack.as_deref());
    }
    if wanted("pages") {
        pages::run(&programs, options.rounds);
    }
    if wanted("scrape") {
        scrape::run(&programs, options.rounds);
    }
    if wanted("held") {
        held::run(&programs, options.rounds, options.jobs);
    }
    ExitCode::SUCCESS
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        only: None,
        rounds: ROUNDS_DEFAULT,
        jobs: None,
        trouble: None,
        attack: None,
    };
    while let Some(flag) = words.next() {
        let value = words.next().ok_or_else(|| format!("{flag}: no value"))?;
        let number = || {
            value
                .parse::<usize>()
                .map_err(|error| format!("{flag}: {error}"))
        };
        match flag.as_str() {
            "--only" if NAMES.contains(&value.as_str()) => options.only = Some(value),
            "--trouble"
                if never_slower::TROUBLES
                    .iter()
                    .any(|(name, _)| *name == value) =>
            {
                options.trouble = Some(value);
            }
            "--attack" if attackers::ATTACKS.iter().any(|one| one.name == value) => {
                options.attack = Some(value);
            }
            "--rounds" => options.rounds = number()?.max(1),
            "--jobs" => options.jobs = Some(number()?.max(1)),
            _ => return Err(format!("{flag} {value}: unknown")),
        }
    }
    Ok(options)
}

/// Median, and the range in brackets.
fn spread(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    let (Some(first), Some(last)) = (values.first(), values.last()) else {
        return "none".to_owned();
    };
    let median = values[values.len() / 2];
    format!("{median:.3} [{first:.3} .. {last:.3}]")
}

/// Whether a bound was kept.
pub fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}
