//! Which worker gets a task: the power of two choices (Mitzenmacher, 2001).
//! Two at random among those that could start it now, the better one wins.
//! Choosing and booking are one step. Unaware of queues and clocks.

use hg_proto::digest::Digest;

use crate::id::{DispatchId, WorkerId};
use crate::registry::{Registry, Worker};

/// Bytes of free memory per task below which a worker is a poor choice.
const MEMORY_COMFORT_BYTES: u64 = 512 << 20;

/// Chooses. Its randomness comes from a seed.
pub struct Scheduler {
    random: fastrand::Rng,
}

impl Scheduler {
    /// The same seed and the same calls give the same choices.
    pub fn new(seed: u64) -> Self {
        Scheduler {
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Gives the task a slot on a worker that has `toolchain` and is not among
    /// `excluded` (each once). `None`: no such slot is free.
    pub fn book(
        &mut self,
        registry: &mut Registry,
        toolchain: &Digest,
        excluded: &[WorkerId],
        dispatch: DispatchId,
    ) -> Option<WorkerId> {
        let worker = self.choose(registry, toolchain, excluded)?;
        registry.book(worker, dispatch).then_some(worker)
    }

    fn choose(
        &mut self,
        registry: &Registry,
        toolchain: &Digest,
        excluded: &[WorkerId],
    ) -> Option<WorkerId> {
        let free = registry.free(toolchain);
        let mut holes: Vec<usize> = excluded
            .iter()
            .filter_map(|id| registry.position(toolchain, *id))
            .collect();
        holes.sort_unstable();
        holes.dedup();
        let eligible = free.len() - holes.len();
        // The nth eligible one, stepping over the holes.
        let nth = |n: usize| {
            let at = holes
                .iter()
                .fold(n, |at, hole| at + usize::from(at >= *hole));
            free.get(at).copied()
        };
        match eligible {
            0 => None,
            1 => nth(0),
            _ => {
                let first = self.random.usize(..eligible);
                let mut second = self.random.usize(..eligible - 1);
                second += usize::from(second >= first);
                let (first, second) = (nth(first)?, nth(second)?);
                let (a, b) = (registry.get(first)?, registry.get(second)?);
                Some(if score(b) < score(a) { second } else { first })
            }
        }
    }
}

/// How long a task would take there, in units of an idle machine's time. Lower
/// is better.
fn score(worker: &Worker) -> f64 {
    let slots = f64::from(worker.spec.slots);
    let cores = f64::from(worker.spec.cores.max(1));
    let running = worker.running.len() as f64 + 1.0;
    // Tasks beyond the cores share them.
    let crowding = running / slots.min(cores);
    let Some(vitals) = worker.vitals else {
        return 1.0 + crowding;
    };
    // Our own tasks are in the load too; only what is beyond them is others'.
    let others = (f64::from(vitals.load_milli) / 1_000.0 - running).max(0.0) / cores;
    let memory = vitals.memory_available_bytes as f64 / (MEMORY_COMFORT_BYTES as f64 * running);
    let tightness = (1.0 - memory).max(0.0);
    let distance = f64::from(vitals.round_trip_us) / 1e6;
    1.0 + crowding + 0.5 * others.min(4.0) + 2.0 * tightness + distance
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Vitals, WorkerSpec};

    fn grid(workers: u64) -> (Registry, Digest) {
        let toolchain = Digest::of(b"gcc");
        let mut registry = Registry::new();
        for id in 0..workers {
            let spec = WorkerSpec {
                name: format!("w{id}"),
                instance: (u128::from(id)).to_be_bytes(),
                slots: 8,
                cores: 8,
                digests: vec![toolchain],
                ..WorkerSpec::default()
            };
            registry.join(WorkerId(id), spec, 0);
        }
        (registry, toolchain)
    }

    #[test]
    fn excluded_workers_are_never_chosen_and_all_others_are() {
        let (registry, toolchain) = grid(5);
        let mut scheduler = Scheduler::new(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let excluded = [WorkerId(3), WorkerId(1)];
            seen.insert(
                scheduler
                    .choose(&registry, &toolchain, &excluded)
                    .unwrap()
                    .0,
            );
        }
        assert_eq!(Vec::from_iter(seen), [0, 2, 4]);
        let all: Vec<WorkerId> = (0..5).map(WorkerId).collect();
        assert_eq!(scheduler.choose(&registry, &toolchain, &all), None);
    }

    #[test]
    fn two_choices_keep_the_load_even() {
        let (mut registry, toolchain) = grid(100);
        let mut scheduler = Scheduler::new(7);
        for dispatch in 0..400 {
            scheduler
                .book(&mut registry, &toolchain, &[], DispatchId(dispatch))
                .unwrap();
        }
        let most = registry.iter().map(|(_, w)| w.running.len()).max().unwrap();
        // One random choice gives about 10 at a mean of 4; two give 5 or 6.
        assert!(most <= 6, "{most}");
    }

    #[test]
    fn a_burdened_worker_loses() {
        let (mut registry, toolchain) = grid(2);
        let idle = Vitals {
            memory_available_bytes: 8 << 30,
            ..Vitals::default()
        };
        for burdened in [
            Vitals {
                load_milli: 16_000,
                ..idle
            },
            Vitals {
                memory_available_bytes: 64 << 20,
                ..idle
            },
            Vitals {
                round_trip_us: 200_000,
                ..idle
            },
        ] {
            registry.heard(WorkerId(0), Some(burdened), 1);
            registry.heard(WorkerId(1), Some(idle), 1);
            let mut scheduler = Scheduler::new(3);
            for _ in 0..20 {
                let chosen = scheduler.choose(&registry, &toolchain, &[]);
                assert_eq!(chosen, Some(WorkerId(1)), "{burdened:?}");
            }
        }
    }

    #[test]
    fn the_same_seed_chooses_the_same() {
        let run = || {
            let (mut registry, toolchain) = grid(20);
            let mut scheduler = Scheduler::new(42);
            (0..100)
                .map(|d| scheduler.book(&mut registry, &toolchain, &[], DispatchId(d)))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }
}
