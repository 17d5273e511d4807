//! Which worker gets a task: the power of two choices (Mitzenmacher, 2001) by
//! expected completion time. Two at random in each class of speed, among those
//! that could start it now; the best one wins, if it is worth it at all.
//! Unaware of queues and clocks.

use hg_proto::wire::digest::Digest;

use crate::scheduling::id::WorkerId;
use crate::scheduling::registry::{Offer, Registry};

/// Draws from one class of speed to find two workers that may have the task.
const DRAWS_MAX: usize = 4;
/// Workers of a class that are looked at one after the other if none of the drawn may.
const LOOKS_MAX: usize = 32;

/// The worker that is looked for, and the compile that it is for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The toolchain that the worker must have.
    pub toolchain: &'a Digest,
    /// Workers that must not be chosen.
    pub excluded: &'a [WorkerId],
    /// Milliseconds of the compile at speed 1.
    pub cost_ms: f64,
    /// Bytes of memory that the compile is thought to need.
    pub peak_bytes: u64,
    /// Bytes that travel to the worker and back.
    pub bytes: u64,
    /// Milliseconds that the compiler may be expected to run if it had the machine
    /// to itself; on slower workers it had better wait. What else a worker has to
    /// do passes, and is no reason to wait: it may be so everywhere.
    pub patience_ms: f64,
}

/// The worker that was chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The worker.
    pub worker: WorkerId,
    /// Milliseconds until the result is expected.
    pub completion_ms: f64,
    /// Milliseconds of these that the compiler runs.
    pub compile_ms: f64,
}

impl Choice {
    /// What it would take at `offer`. `None`: the worker is excluded, or has no room.
    pub fn at(wish: &Wish<'_>, offer: &Offer) -> Option<Choice> {
        if wish.excluded.contains(&offer.worker) || wish.peak_bytes > offer.room_bytes {
            return None;
        }
        let compile_ms = wish.cost_ms / offer.speed_now;
        // To the worker and back, and what it lacks from the client.
        let travel_ms =
            2.0 * f64::from(offer.round_trip_us) / 1e3 + wish.bytes as f64 / offer.reach;
        Some(Choice {
            worker: offer.worker,
            completion_ms: compile_ms + travel_ms,
            compile_ms,
        })
    }
}

/// Another way to choose among the workers with a free slot, to be compared with: given
/// what is random, the workers and what is looked for. What [`Choice::at`] does not give
/// must not be chosen.
pub type Rival = Box<dyn FnMut(&mut fastrand::Rng, &Registry, &Wish<'_>) -> Option<Choice> + Send>;

/// Chooses workers. Its randomness comes from a seed.
pub struct Scheduler {
    random: fastrand::Rng,
    rival: Option<Rival>,
}

impl Scheduler {
    /// The same seed and the same calls give the same choices. With a `rival` all is
    /// chosen by that.
    pub fn new(seed: u64, rival: Option<Rival>) -> Self {
        Scheduler {
            random: fastrand::Rng::with_seed(seed),
            rival,
        }
    }

    /// Whether cost and speed count: no rival knows of them.
    pub fn expects(&self) -> bool {
        self.rival.is_none()
    }

    /// The random numbers of the whole coordinator.
    pub fn random(&mut self) -> &mut fastrand::Rng {
        &mut self.random
    }

    /// A worker with a free slot and room for it. `None`: there is none that is
    /// worth it; waiting is better.
    pub fn choose(&mut self, registry: &Registry, wish: &Wish<'_>) -> Option<Choice> {
        if let Some(rival) = &mut self.rival {
            return rival(&mut self.random, registry, wish);
        }
        let mut best: Option<Choice> = None;
        for (speed_min, offers) in registry.free(wish.toolchain) {
            // Nobody in this class or the slower ones can be better.
            let least_ms = wish.cost_ms / (2.0 * speed_min);
            if best.is_some_and(|best| best.completion_ms <= least_ms)
                || least_ms > wish.patience_ms
            {
                break;
            }
            let mut seen = None;
            let from = self.random.usize(..offers.len());
            let round = offers[from..].iter().chain(&offers[..from]);
            let drawn: [usize; DRAWS_MAX] =
                std::array::from_fn(|_| self.random.usize(..offers.len()));
            let drawn = drawn.iter().map(|at| &offers[*at]);
            // Where most may not have it, the few that may are next to each other
            // as likely as not.
            for offer in drawn.chain(round.take(LOOKS_MAX)) {
                let Some(choice) = Choice::at(wish, offer) else {
                    continue;
                };
                if wish.cost_ms <= wish.patience_ms * offer.speed
                    && best.is_none_or(|best| choice.completion_ms < best.completion_ms)
                {
                    best = Some(choice);
                }
                let before = seen.replace(offer.worker);
                if before.is_some_and(|first| first != offer.worker) || offers.len() == 1 {
                    break;
                }
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduling::id::DispatchId;
    use crate::scheduling::predictor::Pace;
    use crate::scheduling::registry::{Vitals, WorkerSpec};

    fn spec(id: u64) -> WorkerSpec {
        WorkerSpec {
            name: format!("w{id}"),
            instance: (u128::from(id)).to_be_bytes(),
            slots: 8,
            cores: 8,
            memory_bytes: 8 << 30,
            digests: vec![Digest::of(b"gcc")],
            ..WorkerSpec::default()
        }
    }

    fn grid(workers: u64) -> (Registry, Digest) {
        let mut registry = Registry::new(0);
        for id in 0..workers {
            registry.join(WorkerId(id), spec(id), None, 0);
        }
        (registry, Digest::of(b"gcc"))
    }

    fn wish<'a>(toolchain: &'a Digest, excluded: &'a [WorkerId]) -> Wish<'a> {
        Wish {
            toolchain,
            excluded,
            cost_ms: 500.0,
            peak_bytes: 100 << 20,
            bytes: 100_000,
            patience_ms: f64::INFINITY,
        }
    }

    fn expecting(seed: u64) -> Scheduler {
        Scheduler::new(seed, None)
    }

    #[test]
    fn excluded_workers_are_never_chosen_and_all_others_are() {
        let (registry, toolchain) = grid(5);
        let mut scheduler = expecting(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let excluded = [WorkerId(3), WorkerId(1)];
            if let Some(choice) = scheduler.choose(&registry, &wish(&toolchain, &excluded)) {
                seen.insert(choice.worker.0);
            }
        }
        assert_eq!(Vec::from_iter(seen), [0, 2, 4]);
        let all: Vec<WorkerId> = (0..5).map(WorkerId).collect();
        assert_eq!(scheduler.choose(&registry, &wish(&toolchain, &all)), None);
    }

    #[test]
    fn two_choices_keep_the_load_even() {
        let (mut registry, toolchain) = grid(100);
        let mut scheduler = expecting(7);
        for dispatch in 0..400 {
            let choice = scheduler.choose(&registry, &wish(&toolchain, &[])).unwrap();
            assert!(registry.book(choice.worker, DispatchId(dispatch), 0));
        }
        let most = registry.iter().map(|(_, w)| w.running.len()).max().unwrap();
        // One random choice gives about 10 at a mean of 4; two give 5 or 6.
        assert!(most <= 6, "{most}");
    }

    #[test]
    fn a_burdened_worker_loses() {
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
            Vitals {
                slots: Some(0),
                ..idle
            },
        ] {
            let (mut registry, toolchain) = grid(2);
            registry.heard(WorkerId(0), Some(burdened), 1);
            registry.heard(WorkerId(1), Some(idle), 1);
            let mut scheduler = expecting(3);
            let mut chosen = [0; 2];
            for _ in 0..100 {
                let choice = scheduler.choose(&registry, &wish(&toolchain, &[]));
                chosen[choice.unwrap().worker.0 as usize] += 1;
            }
            // Drawn twice in a row now and then.
            assert!(chosen[0] <= 10, "{chosen:?} {burdened:?}");
        }
    }

    #[test]
    fn one_fast_worker_is_found_among_a_thousand_slow_ones() {
        let (mut registry, toolchain) = grid(1_000);
        for id in 0..1_000 {
            let speed = if id == 700 { 1.0 } else { 0.1 };
            registry.set_pace(WorkerId(id), Pace::guess(speed));
        }
        let mut scheduler = expecting(5);
        let mut choose = |registry: &Registry, patience_ms| {
            let wish = wish(&toolchain, &[]);
            scheduler.choose(
                registry,
                &Wish {
                    patience_ms,
                    ..wish
                },
            )
        };
        for _ in 0..100 {
            let choice = choose(&registry, f64::INFINITY).unwrap();
            assert_eq!(choice.worker, WorkerId(700));
        }
        for dispatch in 0..8 {
            assert!(registry.book(WorkerId(700), DispatchId(dispatch), 0));
        }
        assert_eq!(choose(&registry, 2_000.0), None, "better to wait");
        assert!(choose(&registry, 10_000.0).is_some());
    }

    #[test]
    fn patience_is_for_the_worker_and_not_for_its_class() {
        let (mut registry, toolchain) = grid(1);
        registry.set_pace(WorkerId(0), Pace::guess(0.13));
        let mut scheduler = expecting(5);
        for (patience_ms, chosen) in [(3_000.0, false), (5_000.0, true)] {
            let wish = wish(&toolchain, &[]);
            let wish = Wish {
                patience_ms,
                ..wish
            };
            let choice = scheduler.choose(&registry, &wish);
            assert_eq!(choice.is_some(), chosen, "{patience_ms}");
        }
    }

    #[test]
    fn what_does_not_fit_in_memory_goes_elsewhere_or_waits() {
        let (mut registry, toolchain) = grid(2);
        let vitals = |memory_available_bytes| Vitals {
            memory_available_bytes,
            ..Vitals::default()
        };
        registry.heard(WorkerId(0), Some(vitals(300 << 20)), 1);
        registry.heard(WorkerId(1), Some(vitals(500 << 20)), 1);
        let mut scheduler = expecting(5);
        let peak_bytes = 400 << 20;
        let wish = wish(&toolchain, &[]);
        let wish = Wish { peak_bytes, ..wish };
        let chosen = (0..20).find_map(|_| scheduler.choose(&registry, &wish));
        assert_eq!(chosen.unwrap().worker, WorkerId(1));
        registry.book(WorkerId(1), DispatchId(1), peak_bytes);
        assert_eq!(scheduler.choose(&registry, &wish), None);
        assert!(registry.holds(&toolchain, 8 << 30));
        assert!(!registry.holds(&toolchain, 9 << 30));
    }

    #[test]
    fn the_same_seed_chooses_the_same() {
        let run = || {
            let (mut registry, toolchain) = grid(20);
            let mut scheduler = expecting(42);
            let mut chosen = Vec::new();
            for dispatch in 0..100 {
                let choice = scheduler.choose(&registry, &wish(&toolchain, &[]));
                registry.book(choice.unwrap().worker, DispatchId(dispatch), 0);
                chosen.push(choice);
            }
            chosen
        };
        assert_eq!(run(), run());
    }
}
