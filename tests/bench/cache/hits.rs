//! What a warm hit costs.

use super::contender::Contender;
use super::stopwatch::{Taken, median, take};
use super::units::{Project, Unit};

/// Runs of one small compile in a round.
pub const SMALL_RUNS: usize = 50;
/// Runs until a cache must answer.
const WARM_RUNS: usize = 4;
/// Runs of each cache for one of the plain compiler, which takes much longer.
const HITS_PER_ROUND: usize = 5;

/// Prints a row for each contender. Each unit is measured in turn by everybody.
pub fn print(project: &Project, contenders: &[Contender], rounds: usize) {
    println!(
        "\nhit: {}, {} files, one at a time",
        project.name,
        project.units.len()
    );
    for contender in contenders.iter().filter(|c| c.is_cache()) {
        warm(contender, &project.units);
    }
    // Wall, then CPU: for each contender a median per file.
    let mut medians = vec![(Vec::new(), Vec::new()); contenders.len()];
    for unit in &project.units {
        let mut taken: Vec<Vec<Taken>> = vec![Vec::new(); contenders.len()];
        for round in 0..rounds {
            let again = if rounds > SMALL_RUNS {
                1
            } else {
                HITS_PER_ROUND
            };
            for run in 0..again {
                for (contender, taken) in contenders.iter().zip(&mut taken) {
                    let is_slow = !contender.is_cache() && !contender.is_floor();
                    // A tenth will do where there are hundreds.
                    let enough = run > 0 || (rounds > SMALL_RUNS && round % 10 > 0);
                    if !(is_slow && enough) {
                        taken.push(take(contender.command(unit)));
                    }
                }
            }
        }
        for (taken, medians) in taken.iter().zip(&mut medians) {
            let of =
                |value: fn(&Taken) -> f64| median(&taken.iter().map(value).collect::<Vec<_>>());
            medians.0.push(of(|taken| taken.wall_ms));
            medians.1.push(of(|taken| taken.cpu_ms));
        }
    }
    table(contenders, &medians);
}

/// A row for each: wall and CPU over the floor, and hgbuild's share of it.
fn table(contenders: &[Contender], medians: &[(Vec<f64>, Vec<f64>)]) {
    let at = |wanted: fn(&Contender) -> bool| contenders.iter().position(wanted);
    let (Some(floor), Some(ours)) = (at(Contender::is_floor), at(Contender::is_ours)) else {
        return;
    };
    let over = |index: usize| {
        let less = |one: &[f64], floor: &[f64]| {
            let differences: Vec<f64> = one.iter().zip(floor).map(|(a, b)| a - b).collect();
            median(&differences)
        };
        (
            less(&medians[index].0, &medians[floor].0),
            less(&medians[index].1, &medians[floor].1),
        )
    };
    let (wall, cpu) = (median(&medians[floor].0), median(&medians[floor].1));
    println!(
        "  {:<40} wall {wall:8.3} ms   CPU {cpu:8.3} ms",
        "/bin/true itself"
    );
    let mine = over(ours);
    for (index, contender) in contenders
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != floor)
    {
        let (wall, cpu) = over(index);
        let ratio = match index == ours {
            true => String::new(),
            false => format!(
                "   hgbuild/this: wall {:.3}, CPU {:.3}",
                mine.0 / wall,
                mine.1 / cpu
            ),
        };
        println!(
            "  {:<40} wall {wall:8.3} ms   CPU {cpu:8.3} ms{ratio}",
            contender.name
        );
    }
}

/// Runs each unit until it is a hit, and says which never is.
pub fn warm(contender: &Contender, units: &[Unit]) {
    let cold: Vec<&str> = units
        .iter()
        .filter(|unit| !(0..WARM_RUNS).any(|_| contender.hits(unit)))
        .filter_map(|unit| unit.words.iter().rfind(|word| word.ends_with(".o")))
        .map(String::as_str)
        .collect();
    if !cold.is_empty() {
        println!(
            "  NO HIT: {}: {} files: {}",
            contender.name,
            cold.len(),
            cold.join(" ")
        );
    }
}
