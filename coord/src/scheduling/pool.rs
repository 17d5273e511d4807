//! Pure: the workers that have one toolchain, by how fast they are, so that a choice
//! costs the same with ten workers and with ten thousand. Unaware of why one is free.

use std::collections::{BTreeMap, BTreeSet};

use crate::scheduling::id::{ById, WorkerId};

/// One ready worker in so many may be thought much faster than it is.
const OVERRATED_SHARE: u32 = 128;
/// Steps of speed that make a factor of two.
const EIGHTHS: i16 = 8;

/// A worker with a free slot, and all that a choice must know of it: of ten
/// thousand workers those that are drawn are in no cache, so it is in one place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offer {
    /// The worker that has the slot.
    pub worker: WorkerId,
    /// The worker's speed.
    pub speed: f64,
    /// The speed at which one more compile would run on the worker now.
    pub speed_now: f64,
    /// Bytes per millisecond of the worker's link.
    pub reach: f64,
    /// Microseconds to the worker and back.
    pub round_trip_us: u32,
    /// Bytes of memory that one more task may need.
    pub room_bytes: u64,
}

/// Offers in no meaningful order, from which any can be drawn or taken out.
#[derive(Debug, Default)]
pub(crate) struct Bag {
    pub(crate) offers: Vec<Offer>,
    positions: ById<WorkerId, usize>,
}

impl Bag {
    fn add(&mut self, offer: Offer) {
        self.positions.insert(offer.worker, self.offers.len());
        self.offers.push(offer);
    }

    fn change(&mut self, offer: Offer) {
        if let Some(position) = self.positions.get(&offer.worker) {
            self.offers[*position] = offer;
        }
    }

    fn remove(&mut self, worker: WorkerId) {
        if let Some(position) = self.positions.remove(&worker) {
            self.offers.swap_remove(position);
            if let Some(moved) = self.offers.get(position) {
                self.positions.insert(moved.worker, position);
            }
        }
    }
}

/// Where a worker stands in a pool.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Standing {
    /// Class of the worker's speed: speeds of one class differ by less than two.
    pub(crate) class: i8,
    /// The worker's speed, in eighths of a class.
    pub(crate) eighth: i16,
    /// What it offers; `None`: it has no free slot.
    pub(crate) offer: Option<Offer>,
    /// Speed times slots; 0 while no task may go to it.
    pub(crate) capacity: f64,
}

/// The workers that have one toolchain.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// Workers with a free slot, by the class of their speed.
    pub(crate) free: BTreeMap<i8, Bag>,
    /// How many workers there are, draining ones and full ones included.
    pub(crate) workers: usize,
    /// Workers that may get tasks now or later: neither draining nor put out; free or not.
    pub(crate) serving: BTreeSet<WorkerId>,
    /// How many workers of each speed, in eighths of a class, tasks may go to.
    ready: BTreeMap<i16, u32>,
    /// Speed of a fast worker that tasks may go to; see [`Pool::fast_eighth`].
    pub(crate) fastest: Option<f64>,
    /// Bytes of memory of each worker.
    pub(crate) memories: BTreeSet<(u64, WorkerId)>,
    /// Speed times slots, summed over all workers.
    pub(crate) capacity: f64,
}

impl Pool {
    /// Moves a worker from its standing before to the one it has now; `None`: it is not in
    /// the pool.
    pub(crate) fn set(
        &mut self,
        worker: WorkerId,
        before: Option<Standing>,
        now: Option<Standing>,
    ) {
        // Speeds change with each result, most of the rest seldom.
        let capacity =
            |standing: Option<Standing>| standing.map_or(0.0, |standing| standing.capacity);
        self.capacity += capacity(now) - capacity(before);
        let offer = |standing: Option<Standing>| standing.and_then(|s| Some((s.class, s.offer?)));
        match (offer(before), offer(now)) {
            (Some((from, _)), Some((to, offer))) if from == to => {
                self.free.entry(to).or_default().change(offer);
            }
            (before, now) => {
                if let Some((class, _)) = before
                    && let Some(bag) = self.free.get_mut(&class)
                {
                    bag.remove(worker);
                    if bag.offers.is_empty() {
                        self.free.remove(&class);
                    }
                }
                if let Some((class, offer)) = now {
                    self.free.entry(class).or_default().add(offer);
                }
            }
        }
        let ready =
            |standing: Option<Standing>| standing.filter(|s| s.capacity > 0.0).map(|s| s.eighth);
        if ready(before) != ready(now) {
            if let Some(eighth) = ready(before)
                && let Some(count) = self.ready.get_mut(&eighth)
            {
                *count -= 1;
                if *count == 0 {
                    self.ready.remove(&eighth);
                }
            }
            if let Some(eighth) = ready(now) {
                *self.ready.entry(eighth).or_default() += 1;
            }
            self.fastest = self
                .fast_eighth()
                .map(|eighth| (f64::from(eighth) / 8.0).exp2());
        }
        if self.ready.is_empty() {
            // Sums of floating point drift.
            self.capacity = 0.0;
        }
    }

    /// What a fast worker's speed is, in eighths of a class: the fastest's, but of
    /// many that one is only the most overrated. Half of its speed at least: what is
    /// faster by more than that is so indeed.
    fn fast_eighth(&self) -> Option<i16> {
        let (fastest, _) = self.ready.last_key_value()?;
        let overrated = self.ready.values().sum::<u32>() / OVERRATED_SHARE;
        let mut above = 0;
        let mut downwards = self.ready.iter().rev();
        let fast = downwards.find(|(_, count)| {
            above += **count;
            above > overrated
        });
        fast.map(|(eighth, _)| (*eighth).max(fastest - EIGHTHS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(speeds: impl IntoIterator<Item = f64>) -> Pool {
        let mut pool = Pool::default();
        for (id, speed) in speeds.into_iter().enumerate() {
            let standing = Standing {
                class: speed.log2().floor() as i8,
                eighth: (speed.log2() * 8.0).floor() as i16,
                offer: None,
                capacity: speed,
            };
            pool.set(WorkerId(id as u64), None, Some(standing));
        }
        pool
    }

    #[test]
    fn one_overrated_worker_of_many_is_not_the_measure() {
        let most = |count| std::iter::repeat_n(1.0, count);
        assert_eq!(ready(most(100).chain([1.5])).fastest, ready([1.5]).fastest);
        assert_eq!(ready(most(300).chain([1.5])).fastest, Some(1.0));
        let several = most(300).chain([1.5, 1.5, 1.5]);
        assert_eq!(ready(several).fastest, ready([1.5]).fastest);
        // No measurement is as wrong as that.
        assert_eq!(ready(most(300).chain([16.0])).fastest, Some(8.0));
        assert_eq!(ready([]).fastest, None);
    }
}
