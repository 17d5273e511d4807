//! Pure: the workers that have one toolchain, by how fast they are, so that a choice
//! costs the same with ten workers and with ten thousand. Unaware of why one is free.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{ById, WorkerId};

/// A worker with a free slot, and all that a choice must know of it: of ten
/// thousand workers those that are drawn are in no cache, so it is in one place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offer {
    /// Who.
    pub worker: WorkerId,
    /// How fast it is.
    pub speed: f64,
    /// How fast one more task would run there.
    pub speed_now: f64,
    /// Bytes per millisecond of its link.
    pub reach: f64,
    /// Microseconds there and back.
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
pub(crate) struct Stand {
    /// Of its speed: those of one class differ by less than two.
    pub(crate) class: i8,
    /// The same, in eighths.
    pub(crate) eighth: i16,
    /// If it has a free slot.
    pub(crate) offer: Option<Offer>,
    /// Speed times slots; 0 while nothing may go to it.
    pub(crate) capacity: f64,
}

/// The workers that have one toolchain.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// With a free slot, by the class of their speed.
    pub(crate) free: BTreeMap<i8, Bag>,
    /// Workers, draining ones and full ones included.
    pub(crate) workers: usize,
    /// Not draining, free or not.
    pub(crate) serving: BTreeSet<WorkerId>,
    /// How many of each speed, in eighths of a class, tasks may go to.
    ready: BTreeMap<i16, u32>,
    /// Least speed of the first eighth of these.
    pub(crate) fastest: Option<f64>,
    /// Memory of all.
    pub(crate) memories: BTreeSet<(u64, WorkerId)>,
    /// Speed times slots of all.
    pub(crate) capacity: f64,
}

impl Pool {
    /// A worker stood there, and stands here now; `None`: nowhere.
    pub(crate) fn set(&mut self, worker: WorkerId, before: Option<Stand>, now: Option<Stand>) {
        // Speeds change with each result, most of the rest seldom.
        let capacity = |stand: Option<Stand>| stand.map_or(0.0, |stand| stand.capacity);
        self.capacity += capacity(now) - capacity(before);
        let offer = |stand: Option<Stand>| stand.and_then(|s| Some((s.class, s.offer?)));
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
        let ready = |stand: Option<Stand>| stand.filter(|s| s.capacity > 0.0).map(|s| s.eighth);
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
            let first = self.ready.last_key_value();
            self.fastest = first.map(|(eighth, _)| (f64::from(*eighth) / 8.0).exp2());
        }
        if self.ready.is_empty() {
            // Sums of floating point drift.
            self.capacity = 0.0;
        }
    }
}
