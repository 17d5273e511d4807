//! What a run comes to, in figures that can be held against a bound and against
//! other policies.

use crate::pool::{capacity, fastest, slots};
use crate::twin::Alone;
use crate::workload::Arrivals;
use crate::world::{Outcome, Setup, Task};

/// Of one run.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Seconds until the last object was there.
    pub makespan_s: f64,
    /// Seconds below which no schedule gets.
    pub bound_s: f64,
    /// Time from submission to object by the time on the fastest machine: the
    /// median, and what one in a hundred exceeds.
    pub p50: f64,
    /// See above.
    pub p99: f64,
    /// Jain's index over clients (Jain, Chiu and Hawe, 1984); 1 is equal.
    pub jain: f64,
    /// Work of hedges by all other work.
    pub hedges: f64,
    /// Retries by first attempts.
    pub retries: f64,
    /// Tasks that clients had to compile themselves.
    pub local: usize,
    /// Tasks taken from one worker for another.
    pub moved: u64,
    /// Share of the capacity that was free while tasks waited.
    pub idle: f64,
    /// Dispatches per second of time inside the coordinator.
    pub rate: f64,
    /// What decisions cost by themselves, if that was measured.
    pub alone: Option<Alone>,
}

impl Figures {
    /// From a run's outcome.
    pub fn new(setup: &Setup<'_>, outcome: &Outcome) -> Self {
        let fastest = fastest(setup.machines);
        let cost_us = |task: &Task| setup.sources[task.source].cost_ms * 1e3 / fastest;
        let took_us = |task: &Task| (task.ended_us.unwrap_or(u64::MAX) - task.arrived_us) as f64;
        let mut slow: Vec<f64> = outcome
            .tasks
            .iter()
            .map(|task| took_us(task) / cost_us(task))
            .collect();
        slow.sort_by(f64::total_cmp);
        let at = |share: f64| slow[((slow.len() - 1) as f64 * share) as usize];
        let last_us = outcome.tasks.iter().filter_map(|task| task.ended_us).max();
        let firsts = outcome.dispatches - outcome.hedges - outcome.retries - outcome.moved;
        Figures {
            makespan_s: last_us.unwrap_or(0) as f64 / 1e6,
            bound_s: bound_us(setup, outcome) / 1e6,
            p50: at(0.5),
            p99: at(0.99),
            jain: jain(setup, outcome),
            hedges: outcome.hedges_ms / (outcome.work_ms - outcome.hedges_ms).max(1.0),
            retries: outcome.retries as f64 / firsts.max(1) as f64,
            local: outcome.tasks.iter().filter(|task| task.local).count(),
            moved: outcome.moved,
            idle: outcome.idle,
            rate: outcome.dispatches as f64 / outcome.inside.as_secs_f64(),
            alone: outcome.alone,
        }
    }

    /// Makespan by its bound.
    pub fn over(&self) -> f64 {
        self.makespan_s / self.bound_s
    }
}

/// Microseconds that no schedule of these tasks gets below: what came after some
/// moment has to be done after it; a task takes its time on the fastest machine;
/// and `make -jN` runs N at once.
fn bound_us(setup: &Setup<'_>, outcome: &Outcome) -> f64 {
    let fastest = fastest(setup.machines);
    let mut at_once = 0;
    let mut bound: f64 = 0.0;
    let cost_us = |source: &usize| setup.sources[*source].cost_ms * 1e3;
    for client in setup.clients {
        let longest_us = client.sources.iter().map(cost_us).fold(0.0, f64::max);
        match &client.arrivals {
            Arrivals::Closed(jobs) => {
                at_once += jobs;
                let all_us: f64 = client.sources.iter().map(cost_us).sum();
                bound = bound
                    .max(longest_us / fastest)
                    .max(all_us / *jobs as f64 / fastest);
            }
            Arrivals::Open(times) => {
                at_once += times.len();
                for (at_us, source) in times.iter().zip(&client.sources) {
                    bound = bound.max(*at_us as f64 + cost_us(source) / fastest);
                }
            }
        }
    }
    let capacity = capacity(setup.machines, at_once.min(slots(setup.machines)));
    let open = |task: &&Task| matches!(setup.clients[task.client].arrivals, Arrivals::Open(_));
    let mut after_us = 0.0;
    for task in outcome.tasks.iter().rev() {
        after_us += cost_us(&task.source) / capacity;
        let from_us = if open(&task) { task.arrived_us } else { 0 };
        bound = bound.max(from_us as f64 + after_us);
    }
    bound
}

/// Over the work each client got done until the first of them had all: they
/// want as much as they can get.
fn jain(setup: &Setup<'_>, outcome: &Outcome) -> f64 {
    let mut ends_us = vec![0; setup.clients.len()];
    for task in &outcome.tasks {
        ends_us[task.client] = ends_us[task.client].max(task.ended_us.unwrap_or(0));
    }
    let until_us = ends_us.iter().copied().min().unwrap_or(0);
    let mut done = vec![0.0; setup.clients.len()];
    for task in &outcome.tasks {
        // What was under way counts by its share.
        let ended_us = task.ended_us.unwrap_or(u64::MAX);
        let took_us = (ended_us - task.arrived_us).max(1);
        let within_us = until_us.saturating_sub(task.arrived_us).min(took_us);
        done[task.client] += setup.sources[task.source].cost_ms * within_us as f64 / took_us as f64;
    }
    let sum: f64 = done.iter().sum();
    let squares: f64 = done.iter().map(|work| work * work).sum();
    sum * sum / (done.len() as f64 * squares)
}

/// The head of a table.
pub fn head(title: &str) {
    println!("\n{title}");
    println!(
        "  {:<14}{:>10}{:>8}{:>8}{:>9}{:>7}{:>8}{:>9}{:>7}{:>7}{:>7}{:>10}",
        "",
        "makespan",
        "/bound",
        "p50",
        "p99",
        "Jain",
        "hedges",
        "retries",
        "local",
        "moved",
        "idle",
        "per s"
    );
}

/// A row of it. Makespan in seconds, p50 and p99 as slowdowns.
pub fn row(label: &str, fair: bool, figures: &Figures) {
    let jain = if fair {
        format!("{:.3}", figures.jain)
    } else {
        "-".into()
    };
    println!(
        "  {label:<14}{:>9.1}s{:>8.3}{:>8.2}{:>9.1}{jain:>7}{:>7.2}%{:>8.2}%{:>7}{:>7}{:>6.1}%{:>10.0}",
        figures.makespan_s,
        figures.over(),
        figures.p50,
        figures.p99,
        figures.hedges * 100.0,
        figures.retries * 100.0,
        figures.local,
        figures.moved,
        figures.idle * 100.0,
        figures.rate
    );
}
