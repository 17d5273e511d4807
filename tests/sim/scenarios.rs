//! What is simulated, and what is to come of it.

use std::ops::Range;
use std::time::Instant;

use fastrand::Rng;

use crate::policy::Policy;
use crate::pool::{self, Fault, Machine};
use crate::report::{Figures, head, row};
use crate::twin::Alone;
use crate::workload::{self, Client, Source};
use crate::world::{Outcome, Setup, run};

/// Mean cost of a compile, in milliseconds at speed 1.
const MEAN_MS: f64 = 1_500.0;
/// Decisions below which a clock says little.
const DECISIONS_MIN: usize = 200_000;
/// The best of so many rounds counts: others use this machine too.
const ROUNDS: usize = 3;
/// Builds that are played of each kind with a slow machine.
const SLOW_SEEDS: u64 = 50;
/// Ours, and what it is compared with.
const POLICIES: [Policy; 5] = [
    Policy::Expected,
    Policy::Random,
    Policy::RoundRobin,
    Policy::LeastLoaded,
    Policy::TwoChoices,
];

/// What was typed.
#[derive(Default)]
pub struct Options {
    /// Of everything random.
    pub seed: Option<u64>,
    /// How many there are to compile, in place of each scenario's own number.
    pub tasks: Option<u64>,
    /// How many machines, where the pool can have any number.
    pub workers: Option<u64>,
}

impl Options {
    fn seed(&self) -> u64 {
        self.seed.unwrap_or(1)
    }

    fn tasks(&self, default: usize) -> usize {
        self.tasks.map_or(default, |tasks| tasks.max(100) as usize)
    }

    fn workers(&self, default: usize) -> usize {
        self.workers
            .map_or(default, |workers| workers.max(3) as usize)
    }

    fn random(&self) -> Rng {
        Rng::with_seed(self.seed())
    }
}

/// Something that must hold.
pub struct Target {
    /// In words, with the figures.
    pub what: String,
    /// Whether it does.
    pub met: bool,
}

/// One of them.
pub struct Scenario {
    /// As it is typed.
    pub name: &'static str,
    /// For people.
    pub about: &'static str,
    /// Runs it.
    pub run: fn(&Options, &mut Vec<Target>),
}

/// All of them.
pub const ALL: [Scenario; 9] = [
    Scenario {
        name: "equal",
        about: "20 equal machines, 50 clients, compiles at random times, 80% load",
        run: |options, targets| {
            load(
                options,
                targets,
                "equal",
                pool::equal(options.workers(20), 8),
            )
        },
    },
    Scenario {
        name: "mixed",
        about: "60 machines of three speeds, 50 clients, 80% load",
        run: |options, targets| {
            let machines = pool::mixed(options.workers(60), &mut options.random());
            load(options, targets, "mixed", machines);
        },
    },
    Scenario {
        name: "pi",
        about: "two servers and 40 Raspberry Pis, 50 clients, 80% load",
        run: |options, targets| load(options, targets, "Pi-heavy", pool::pis()),
    },
    Scenario {
        name: "builds",
        about: "make -jN by 1, 10 and 500 clients, on each pool",
        run: builds,
    },
    Scenario {
        name: "fair",
        about: "20 clients that want as much as they can get",
        run: fair,
    },
    Scenario {
        name: "bursts",
        about: "500 clients that want 40 compiles at a time",
        run: bursts,
    },
    Scenario {
        name: "slow",
        about: "builds by one machine, and by it and one that is ten times slower",
        run: slow,
    },
    Scenario {
        name: "faults",
        about: "1% and 10% of the machines fail, break, hang or slow down",
        run: faults,
    },
    Scenario {
        name: "scale",
        about: "a million tasks on 10,000 workers, and what a decision costs",
        run: scale,
    },
];

/// What an earlier build of all these files has taught.
pub fn learn(seed: u64, machines: &[Machine], sources: &[Source]) -> Outcome {
    let jobs = 2 * pool::slots(machines);
    let everything = Client {
        arrivals: workload::Arrivals::Closed(jobs),
        sources: (0..sources.len()).collect(),
    };
    run(Setup {
        seed,
        policy: Policy::Expected,
        extras: true,
        machines,
        sources,
        clients: &[everything],
        learned: None,
        measured_us: None,
    })
}

struct Grid<'a> {
    seed: u64,
    machines: &'a [Machine],
    sources: &'a [Source],
    learned: &'a [u8],
    measured_us: Option<Range<u64>>,
}

impl Grid<'_> {
    fn run(&self, policy: Policy, clients: &[Client]) -> Figures {
        let setup = || Setup {
            seed: self.seed,
            policy,
            extras: policy == Policy::Expected,
            machines: self.machines,
            sources: self.sources,
            clients,
            learned: Some(self.learned),
            measured_us: self.measured_us.clone(),
        };
        let outcome = run(setup());
        assert!(
            outcome.tasks.iter().all(|task| task.ends == 1),
            "each task ends once"
        );
        assert_eq!(outcome.leaked, 0, "nothing is held at the end");
        Figures::new(&setup(), &outcome)
    }

    /// A table of all policies.
    fn compare(&self, title: &str, fair: bool, clients: &[Client]) -> Vec<Figures> {
        head(title);
        let one = |policy| {
            let figures = self.run(policy, clients);
            row(policy.name(), fair, &figures);
            figures
        };
        POLICIES.map(one).into()
    }
}

fn target(targets: &mut Vec<Target>, met: bool, what: String) {
    targets.push(Target { what, met });
}

/// Ours is ahead of each of the others, by its makespan or by its slow ones.
fn ahead(targets: &mut Vec<Target>, what: &str, all: &[Figures]) {
    let ours = all[0];
    for (policy, other) in POLICIES.iter().zip(all).skip(1) {
        target(
            targets,
            ours.makespan_s < other.makespan_s || ours.p99 < other.p99,
            format!(
                "{what}: ahead of {} (makespan {:.1} s, theirs {:.1} s; p99 {:.1}, theirs {:.1})",
                policy.name(),
                ours.makespan_s,
                other.makespan_s,
                ours.p99,
                other.p99
            ),
        );
    }
}

fn frugal(targets: &mut Vec<Target>, what: &str, ours: &Figures) {
    target(
        targets,
        ours.hedges <= 0.05 && ours.retries <= 0.1,
        format!(
            "{what}: hedges {:.2}% of the work (5%), retries {:.2}% of the tasks (10%)",
            ours.hedges * 100.0,
            ours.retries * 100.0
        ),
    );
}

fn load(options: &Options, targets: &mut Vec<Target>, what: &str, machines: Vec<Machine>) {
    let mut random = options.random();
    let tasks = options.tasks(20_000);
    let sources = workload::sources(tasks / 4, MEAN_MS, &mut random);
    let learned = learn(options.seed(), &machines, &sources).learned;
    let work = 0.8 * pool::capacity(&machines, usize::MAX);
    let clients = workload::poisson(50, tasks, work, &sources, &mut random);
    let grid = Grid {
        seed: options.seed(),
        machines: &machines,
        sources: &sources,
        learned: &learned,
        measured_us: None,
    };
    let title = format!(
        "{what}: {} machines, {tasks} tasks, 80% load",
        machines.len()
    );
    let all = grid.compare(&title, false, &clients);
    target(
        targets,
        all[0].over() <= 1.1,
        format!("{what}: makespan {:.3} of the bound (1.1)", all[0].over()),
    );
    // Where all workers are alike it does not matter much which is chosen.
    if what != "equal" {
        ahead(targets, what, &all);
    }
    frugal(targets, what, &all[0]);
}

fn builds(options: &Options, targets: &mut Vec<Target>) {
    let pools = [
        ("equal", pool::equal(20, 8)),
        ("mixed", pool::mixed(60, &mut options.random())),
        ("Pi-heavy", pool::pis()),
    ];
    for (what, machines) in pools {
        let mut random = options.random();
        let sources = workload::sources(2_000, MEAN_MS, &mut random);
        let first = learn(options.seed(), &machines, &sources);
        let grid = Grid {
            seed: options.seed(),
            machines: &machines,
            sources: &sources,
            learned: &first.learned,
            measured_us: None,
        };
        let slots = pool::slots(&machines);
        for (clients, jobs, tasks) in [(1, slots, 2_000), (1, 32, 500), (10, 32, 400), (500, 8, 20)]
        {
            let clients = workload::builds(clients, jobs, tasks, &sources, &mut random);
            let title = format!(
                "{what}: {} times make -j{jobs}, {tasks} files each",
                clients.len()
            );
            let all = grid.compare(&title, false, &clients);
            if what != "equal" {
                ahead(targets, &title, &all);
            }
            frugal(targets, &title, &all[0]);
        }
    }
}

fn fair(options: &Options, targets: &mut Vec<Target>) {
    let mut random = options.random();
    let machines = pool::mixed(20, &mut random);
    let sources = workload::sources(2_000, MEAN_MS, &mut random);
    let learned = learn(options.seed(), &machines, &sources).learned;
    let clients = workload::builds(20, 64, 400, &sources, &mut random);
    let grid = Grid {
        seed: options.seed(),
        machines: &machines,
        sources: &sources,
        learned: &learned,
        measured_us: None,
    };
    let all = grid.compare("20 machines, 20 times make -j64", true, &clients);
    target(
        targets,
        all[0].jain >= 0.95,
        format!("fairness {:.3} by Jain's index (0.95)", all[0].jain),
    );
}

fn bursts(options: &Options, targets: &mut Vec<Target>) {
    let mut random = options.random();
    let machines = pool::mixed(options.workers(60), &mut random);
    let sources = workload::sources(2_000, MEAN_MS, &mut random);
    let learned = learn(options.seed(), &machines, &sources).learned;
    let work = 0.6 * pool::capacity(&machines, usize::MAX);
    let tasks = options.tasks(20_000);
    let clients = workload::bursts(500, tasks, 40, work, &sources, &mut random);
    let grid = Grid {
        seed: options.seed(),
        machines: &machines,
        sources: &sources,
        learned: &learned,
        measured_us: None,
    };
    let all = grid.compare(
        "mixed: 500 clients, bursts of 40, 60% load",
        false,
        &clients,
    );
    ahead(targets, "bursts", &all);
    frugal(targets, "bursts", &all[0]);
}

/// What a slow machine beside a fast one costs builds.
fn slow(options: &Options, targets: &mut Vec<Target>) {
    println!("\nbuilds with a machine that is ten times slower, against those without it");
    println!("  files  slots  first  time: mean    most");
    for files in [40, 150, 500] {
        for slots in [1, 4] {
            for first in [false, true] {
                let seeds = options.seed()..options.seed() + SLOW_SEEDS;
                let ratios: Vec<f64> = seeds
                    .map(|seed| beside(seed, files, slots, first))
                    .collect();
                let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
                let most = ratios.iter().copied().fold(0.0, f64::max);
                let word = if first { "yes" } else { "no" };
                println!("  {files:>5} {slots:>6} {word:>6} {mean:>11.3} {most:>7.3}");
                target(
                    targets,
                    mean <= 1.05 && most <= 1.15,
                    format!(
                        "slow: {files} files, {slots} slots, first build: {word}: {mean:.3} of the \
                         time without (1.05), {most:.3} at most (1.15)"
                    ),
                );
            }
        }
    }
}

/// How many times as long a build takes with the slow machine; `first`: nothing was learned
/// before of it, nor of the files.
fn beside(seed: u64, files: usize, slots: u32, first: bool) -> f64 {
    let mut random = Rng::with_seed(seed);
    let sources = workload::sources(files, MEAN_MS, &mut random);
    let both = pool::beside(slots);
    let learned = (!first).then(|| learn(seed, &both, &sources).learned);
    let client = Client {
        // As hgbuild make does it: what the grid has, and some.
        arrivals: workload::Arrivals::Closed(2 + pool::slots(&both)),
        sources: (0..files).collect(),
    };
    let took_s = |machines: &[Machine]| {
        let setup = Setup {
            seed,
            policy: Policy::Expected,
            extras: true,
            machines,
            sources: &sources,
            clients: std::slice::from_ref(&client),
            learned: learned.as_deref(),
            measured_us: None,
        };
        let outcome = run(setup);
        let ends = outcome.tasks.iter().filter_map(|task| task.ended_us);
        ends.max().unwrap_or(0) as f64
    };
    took_s(&both) / took_s(&pool::beside(0))
}

fn faults(options: &Options, targets: &mut Vec<Target>) {
    let mut random = options.random();
    let well = pool::mixed(options.workers(100), &mut random);
    let sources = workload::sources(2_000, MEAN_MS, &mut random);
    let learned = learn(options.seed(), &well, &sources).learned;
    let work = 0.6 * pool::capacity(&well, usize::MAX);
    let clients = workload::poisson(50, options.tasks(20_000), work, &sources, &mut random);
    for fault in [
        Fault::Failing,
        Fault::Breaking,
        Fault::Hanging,
        Fault::Slowed,
    ] {
        for share in [0.01, 0.1] {
            let mut machines = well.clone();
            pool::spoil(&mut machines, share, fault, &mut options.random());
            let grid = Grid {
                seed: options.seed(),
                machines: &machines,
                sources: &sources,
                learned: &learned,
                measured_us: None,
            };
            let what = format!(
                "{fault:?}, {:.0}% of {} machines",
                share * 100.0,
                machines.len()
            );
            let all = grid.compare(&format!("{what}, mixed, 60% load"), false, &clients);
            ahead(targets, &what, &all);
            frugal(targets, &what, &all[0]);
        }
    }
}

fn scale(options: &Options, targets: &mut Vec<Target>) {
    let sizes = match options.workers {
        Some(workers) => vec![workers.max(3) as usize],
        None => vec![100, 1_000, 10_000],
    };
    head("scale: mixed, 80% load, 100 tasks for each worker");
    let mut costs_us = Vec::new();
    for workers in sizes {
        // As many tasks for each worker, so that each run is as long and each grid
        // in the same state; few workers make too few decisions for a clock, and
        // have several such runs.
        let tasks = options.tasks(workers * 100);
        let grids = (DECISIONS_MIN / tasks).max(1) as u64;
        let since = Instant::now();
        let once = || {
            let runs = (0..grids).map(|nth| one_scale(options.seed() + nth, workers, tasks));
            let runs: Vec<Figures> = runs.collect();
            let sum = |of: fn(&Alone) -> f64| -> f64 {
                runs.iter()
                    .filter_map(|run| run.alone.as_ref())
                    .map(of)
                    .sum()
            };
            let cost_us = sum(|alone| alone.spent_us) / sum(|alone| alone.decisions as f64);
            (cost_us, runs[0])
        };
        let rounds = (0..ROUNDS).map(|_| once());
        let (cost_us, figures) = rounds
            .min_by(|(a, _), (b, _)| a.total_cmp(b))
            .expect("a round");
        row(&format!("{workers}"), false, &figures);
        costs_us.push(cost_us);
        target(
            targets,
            figures.rate >= 50_000.0,
            format!(
                "{workers} workers: {:.0} decisions a second (50,000) with the simulated world in between; {cost_us:.2} us each by themselves",
                figures.rate
            ),
        );
        let took_s = since.elapsed().as_secs_f64() / (ROUNDS as u64 * grids) as f64;
        if workers >= 10_000 {
            target(
                targets,
                took_s <= 600.0,
                format!("{workers} workers and {tasks} tasks in {took_s:.0} s (600)"),
            );
        }
    }
    if let (Some(few), Some(many)) = (costs_us.first(), costs_us.last()) {
        target(
            targets,
            many / few <= 2.0,
            format!(
                "a decision costs {few:.2} us with the fewest, {many:.2} us with the most workers: {:.2} times (2)",
                many / few
            ),
        );
    }
}

fn one_scale(seed: u64, workers: usize, tasks: usize) -> Figures {
    let mut random = Rng::with_seed(seed);
    let machines = pool::mixed(workers, &mut random);
    let sources = workload::sources(20_000, MEAN_MS, &mut random);
    let learned = learn(seed, &pool::mixed(100, &mut random), &sources).learned;
    let work = 0.8 * pool::capacity(&machines, usize::MAX);
    let clients = workload::poisson(500, tasks, work, &sources, &mut random);
    let grid = Grid {
        seed,
        machines: &machines,
        sources: &sources,
        learned: &learned,
        measured_us: Some(steady_us(&clients)),
    };
    grid.run(Policy::Expected, &clients)
}

/// The second half, by when the machines are busy and known: who joins, and the one
/// long compile at the end, are of no decision.
fn steady_us(clients: &[Client]) -> Range<u64> {
    let last_us = |client: &Client| match &client.arrivals {
        workload::Arrivals::Open(times) => times.last().copied().unwrap_or(0),
        workload::Arrivals::Closed(_) => 0,
    };
    let until_us = clients.iter().map(last_us).max().unwrap_or(0);
    until_us / 2..until_us
}
