//! How workers are chosen: as the coordinator does, and in the ways that it is compared
//! with.

use fastrand::Rng;
use hg_coord::scheduling::registry::Registry;
use hg_coord::scheduling::scheduler::{Choice, Rival, Wish};

/// How workers are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The coordinator's own: expected completion time.
    Expected,
    /// Any.
    Random,
    /// Each in turn.
    RoundRobin,
    /// The fewest tasks for its slots, of all.
    LeastLoaded,
    /// The fewer tasks for its slots, of two.
    TwoChoices,
}

impl Policy {
    /// As it is listed.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Expected => "ours",
            Policy::Random => "random",
            Policy::RoundRobin => "round robin",
            Policy::LeastLoaded => "least loaded",
            Policy::TwoChoices => "two choices",
        }
    }

    /// For the coordinator; `None`: its own.
    pub fn rival(self) -> Option<Rival> {
        let mut turn = 0;
        (self != Policy::Expected).then(|| -> Rival {
            Box::new(move |random, registry, wish| self.choose(&mut turn, random, registry, wish))
        })
    }

    fn choose(
        self,
        turn: &mut usize,
        random: &mut Rng,
        registry: &Registry,
        wish: &Wish<'_>,
    ) -> Option<Choice> {
        let mut free: Vec<Choice> = registry
            .free(wish.toolchain)
            .flat_map(|(_, offers)| offers)
            .filter_map(|offer| Choice::at(wish, offer))
            .collect();
        if free.is_empty() {
            return None;
        }
        let load = |choice: &Choice| {
            let worker = registry.get(choice.worker);
            worker.map_or(1.0, |w| {
                w.running.len() as f64 / f64::from(w.slots().max(1))
            })
        };
        let less = |a: &Choice, b: &Choice| load(a).total_cmp(&load(b));
        match self {
            Policy::Random | Policy::Expected => Some(free[random.usize(..free.len())]),
            Policy::RoundRobin => {
                free.sort_by_key(|choice| choice.worker);
                *turn += 1;
                Some(free[*turn % free.len()])
            }
            Policy::LeastLoaded => free.iter().copied().min_by(less),
            Policy::TwoChoices => {
                let [a, b] = [(); 2].map(|()| free[random.usize(..free.len())]);
                Some(if less(&b, &a).is_lt() { b } else { a })
            }
        }
    }
}
