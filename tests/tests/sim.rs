//! A small grid in the simulator: what must hold whatever the schedule is.

#[path = "../sim/host.rs"]
mod host;
#[path = "../sim/policy.rs"]
#[allow(dead_code, reason = "the program compares more of them")]
mod policy;
#[path = "../sim/pool.rs"]
#[allow(dead_code, reason = "the program has more scenarios")]
mod pool;
#[path = "../sim/report.rs"]
#[allow(dead_code, reason = "the program prints tables")]
mod report;
#[path = "../sim/twin.rs"]
mod twin;
#[path = "../sim/workload.rs"]
#[allow(dead_code, reason = "the program has more scenarios")]
mod workload;
#[path = "../sim/world.rs"]
mod world;

use fastrand::Rng;

use policy::Policy;
use pool::{Fault, Machine};
use report::Figures;
use workload::{Client, Source};
use world::{Outcome, Setup, run};

const SEED: u64 = 7;

fn setup<'a>(
    policy: Policy,
    machines: &'a [Machine],
    sources: &'a [Source],
    clients: &'a [Client],
    learned: Option<&'a [u8]>,
) -> Setup<'a> {
    Setup {
        seed: SEED,
        policy,
        extras: policy == Policy::Expected,
        machines,
        sources,
        clients,
        learned,
        measured_us: None,
    }
}

fn check(outcome: &Outcome, tasks: usize) {
    assert_eq!(outcome.tasks.len(), tasks);
    assert!(
        outcome.tasks.iter().all(|task| task.ends == 1),
        "each task ends once"
    );
    assert_eq!(outcome.leaked, 0, "slots, tasks or places are still held");
}

#[test]
fn builds_on_unequal_machines_end_sooner_than_by_chance() {
    let mut random = Rng::with_seed(SEED);
    let machines = pool::pis();
    let sources = workload::sources(500, 1_500.0, &mut random);
    let clients = workload::builds(4, 32, 250, &sources, &mut random);
    let first = run(setup(Policy::Expected, &machines, &sources, &clients, None));
    check(&first, 1_000);
    let learned = Some(&first.learned[..]);
    let figures = |policy| {
        let outcome = run(setup(policy, &machines, &sources, &clients, learned));
        check(&outcome, 1_000);
        let again = run(setup(policy, &machines, &sources, &clients, learned));
        assert_eq!(
            outcome.digest, again.digest,
            "the same seed gives the same run"
        );
        Figures::new(
            &setup(policy, &machines, &sources, &clients, learned),
            &outcome,
        )
    };
    let (ours, chance) = (figures(Policy::Expected), figures(Policy::Random));
    assert!(ours.makespan_s <= chance.makespan_s, "{ours:?} {chance:?}");
    assert!(ours.hedges <= 0.05 && ours.retries <= 0.1, "{ours:?}");
    assert!(ours.jain >= 0.9, "{ours:?}");
}

#[test]
fn faults_cost_little() {
    for fault in [
        Fault::Failing,
        Fault::Breaking,
        Fault::Hanging,
        Fault::Slowed,
    ] {
        let mut random = Rng::with_seed(SEED);
        let mut machines = pool::mixed(30, &mut random);
        pool::spoil(&mut machines, 0.1, fault, &mut random);
        let sources = workload::sources(500, 1_500.0, &mut random);
        let work = 0.5 * pool::capacity(&machines, usize::MAX);
        let clients = workload::poisson(10, 1_000, work, &sources, &mut random);
        let first = run(setup(Policy::Expected, &machines, &sources, &clients, None));
        check(&first, 1_000);
        let ours = setup(
            Policy::Expected,
            &machines,
            &sources,
            &clients,
            Some(&first.learned),
        );
        let outcome = run(ours);
        check(&outcome, 1_000);
        let ours = setup(Policy::Expected, &machines, &sources, &clients, None);
        let figures = Figures::new(&ours, &outcome);
        assert!(figures.local <= 10, "{fault:?} {figures:?}");
        assert!(
            figures.hedges <= 0.05 && figures.retries <= 0.1,
            "{fault:?} {figures:?}"
        );
        assert!(figures.over() <= 2.0, "{fault:?} {figures:?}");
    }
}

#[test]
fn a_machine_that_is_ten_times_slower_costs_no_build_much() {
    for seed in 1..=50 {
        let sources = workload::sources(40, 1_500.0, &mut Rng::with_seed(seed));
        let both = pool::beside(4);
        let client = Client {
            arrivals: workload::Arrivals::Closed(2 + pool::slots(&both)),
            sources: (0..sources.len()).collect(),
        };
        let took_us = |machines: &[Machine]| {
            let clients = std::slice::from_ref(&client);
            let outcome = run(Setup {
                seed,
                ..setup(Policy::Expected, machines, &sources, clients, None)
            });
            check(&outcome, sources.len());
            let ends = outcome.tasks.iter().filter_map(|task| task.ended_us);
            ends.max().expect("an end") as f64
        };
        let times = took_us(&both) / took_us(&pool::beside(0));
        assert!(times <= 1.15, "seed {seed}: {times:.3} of the time without");
    }
}
