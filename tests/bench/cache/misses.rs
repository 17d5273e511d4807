//! What a miss costs: a whole project with a cold cache, against the plain compiler.

use crate::cpu::Meter;

use super::contender::Contender;
use super::stopwatch::{Taken, spread, take};
use super::units::Project;

/// Prints ratios against the plain run of the same round.
pub fn print(project: &Project, contenders: &mut [Contender], rounds: usize) {
    println!(
        "\nmiss: {}, {} files, an empty cache",
        project.name,
        project.units.len()
    );
    let mut everybody: Vec<&mut Contender> =
        contenders.iter_mut().filter(|c| !c.is_floor()).collect();
    // What is found out of a compiler once is not the price of a miss.
    for contender in &everybody {
        take(contender.command(&project.units[0]));
    }
    let mut taken: Vec<Vec<Taken>> = vec![Vec::new(); everybody.len()];
    for round in 0..rounds {
        // Nobody has the best place in each round.
        for turn in 0..everybody.len() {
            let at = (round + turn) % everybody.len();
            everybody[at].forget();
            let servers: Vec<u32> = everybody[at].server().into_iter().collect();
            let meter = Meter::start(&servers);
            let runs = project
                .units
                .iter()
                .map(|unit| take(everybody[at].command(unit)));
            let wall_ms = runs.fold(0.0, |sum, one| sum + one.wall_ms);
            taken[at].push(Taken {
                wall_ms,
                cpu_ms: meter.used().as_secs_f64() * 1e3,
            });
        }
    }
    let Some(plain) = everybody.iter().position(|c| !c.is_cache()) else {
        return;
    };
    for (at, contender) in everybody.iter().enumerate().filter(|(at, _)| *at != plain) {
        let ratios = |value: fn(&Taken) -> f64| -> Vec<f64> {
            let pairs = taken[at].iter().zip(&taken[plain]);
            pairs
                .map(|(one, plain)| value(one) / value(plain))
                .collect()
        };
        println!(
            "  {:<40} CPU ratio {}   wall ratio {}",
            contender.name,
            spread(&ratios(|taken| taken.cpu_ms)),
            spread(&ratios(|taken| taken.wall_ms))
        );
    }
}
