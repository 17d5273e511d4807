//! Which results get a second opinion, and what follows where two workers made different
//! objects of one task: nobody knows then which of the two is wrong. Pure.
//!
//! A dispute puts nobody out, or a liar could put out whom it likes: only a client's own
//! compile does (see [`crate::scheduling::audits`]). It makes both suspects, all of whose
//! results get a second opinion for a while, before their clients have them. Where the two
//! differ then, the client checks that very result. A worker that spoils one object in a
//! hundred has its first dispute after 1/(0.01 p) results, p being the share that gets a
//! second opinion, and its second one, which puts it out, after 100 more. The chance that both
//! take more than n results, with a = 0.01 p and b = 0.01, is
//!
//! ```text
//! (b exp(-a n) - a exp(-b n)) / (b - a)    p = 0.6, n = 1,000:    0.6 %
//! ```
//!
//! That counts no dispute of which the other object came in time, so that the first one is
//! enough, and none in which the worker itself gave the second opinion. No schedule with
//! fewer than 459 compares in 1,000 results sees one of ten bad ones at 99 %, which is why
//! p does not fall with a worker's good record: it may go bad later.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::bounds::{DISPUTED_SOURCES_MAX, OUT_MAX, RATE_CLIENTS_MAX};
use crate::scheduling::id::Who;

/// Results of a suspect that must be as others made them before it is none any more: a
/// worker that spoils one in a hundred gets through them once in 150 times.
const SUSPECT_RESULTS: u32 = 500;
/// One that waited in vain counts as so many, or a worker that is slow, or wants to be, could
/// make another one's clients wait for ever.
const VAIN_RESULTS: u32 = 10;
/// Checks that disputes may cost the clients of one holder beyond those that were answered.
const CHECKS_SAVED_MAX: f64 = 16.0;
/// Such checks for each result: where a compiler makes another object each time clients find
/// nothing out, and should not look for it for ever.
const CHECKS_SHARE: f64 = 1.0 / 500.0;

/// See the top of the file.
#[derive(Debug)]
pub struct Disputes {
    /// The share of results that gets a second opinion while workers idle.
    share: f64,
    /// Workers that made another object than another one, and how many more results of
    /// theirs must be as others made them.
    suspects: BTreeMap<Who, u32>,
    /// Checks that disputes may cost a holder's clients now, where it is less than
    /// [`CHECKS_SAVED_MAX`].
    checks: HashMap<Arc<str>, f64>,
    /// Holders' sources of which a client was to check a result and has not said what came
    /// out, as it does not where its compiler makes another object each time.
    unclear: HashSet<(Arc<str>, u64)>,
}

impl Disputes {
    /// `share` of the results gets a second opinion while workers idle.
    pub fn new(share: f64) -> Self {
        Disputes {
            share,
            suspects: BTreeMap::new(),
            checks: HashMap::new(),
            unclear: HashSet::new(),
        }
    }

    /// Whether another worker shall compile what `worker` now begins, if one idles: by chance,
    /// so that no worker knows.
    pub fn wants_second(
        &self,
        worker: &Who,
        holder: &Arc<str>,
        source: u64,
        random: &mut fastrand::Rng,
    ) -> bool {
        if self.share <= 0.0
            || self.left(holder) < 1.0
            || self.unclear.contains(&(holder.clone(), source))
        {
            return false;
        }
        self.is_suspect(worker) || random.f64() < self.share
    }

    /// Whether results of `worker` wait for a second opinion.
    pub fn is_suspect(&self, worker: &Who) -> bool {
        self.suspects.contains_key(worker)
    }

    fn left(&self, holder: &Arc<str>) -> f64 {
        self.checks.get(holder).copied().unwrap_or(CHECKS_SAVED_MAX)
    }

    fn save(&mut self, holder: &Arc<str>, checks: f64) {
        let left = self.left(holder) + checks;
        if left >= CHECKS_SAVED_MAX {
            self.checks.remove(holder);
            return;
        }
        if self.checks.len() >= RATE_CLIENTS_MAX && !self.checks.contains_key(holder) {
            self.checks.clear();
        }
        self.checks.insert(holder.clone(), left);
    }

    /// A client of `holder` has a result.
    pub fn result(&mut self, holder: &Arc<str>) {
        if !self.checks.is_empty() {
            self.save(holder, CHECKS_SHARE);
        }
    }

    /// A second worker made what `first` made.
    pub fn agree(&mut self, first: &Who) {
        self.count(first, 1);
    }

    /// A result of `first` has waited for a second opinion that did not come.
    pub fn waited_in_vain(&mut self, first: &Who) {
        self.count(first, VAIN_RESULTS);
    }

    fn count(&mut self, first: &Who, results: u32) {
        if let Some(left) = self.suspects.get_mut(first) {
            *left = left.saturating_sub(results);
            if *left == 0 {
                self.suspects.remove(first);
            }
        }
    }

    /// Two workers made different objects. Gives whether one of them was no suspect.
    pub fn differ(&mut self, one: &Who, other: &Who) -> bool {
        let mut is_new = false;
        for who in [one, other] {
            if self.suspects.len() >= OUT_MAX && !self.suspects.contains_key(who) {
                self.suspects.pop_first();
            }
            is_new |= self.suspects.insert(who.clone(), SUSPECT_RESULTS).is_none();
        }
        is_new
    }

    /// Whether a client of `holder` shall check the result of `source` that is in dispute.
    pub fn ask(&mut self, holder: &Arc<str>, source: u64) -> bool {
        if self.left(holder) < 1.0 {
            return false;
        }
        self.save(holder, -1.0);
        if self.unclear.len() >= DISPUTED_SOURCES_MAX {
            self.unclear.clear();
        }
        self.unclear.insert((holder.clone(), source));
        true
    }

    /// A client of `holder` has checked what it was asked to.
    pub fn answered(&mut self, holder: &Arc<str>, source: u64) {
        self.unclear.remove(&(holder.clone(), source));
        self.save(holder, 1.0);
    }

    /// `worker` is no suspect.
    pub fn clear(&mut self, worker: &Who) {
        self.suspects.remove(worker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str) -> Who {
        Who {
            holder: "pis".into(),
            name: name.into(),
        }
    }

    #[test]
    fn a_compiler_that_makes_another_object_each_time_costs_few_checks() {
        let mut disputes = Disputes::new(1.0);
        let mut random = fastrand::Rng::with_seed(1);
        let (alice, bob): (Arc<str>, Arc<str>) = ("alice".into(), "bob".into());
        let (mut compared, mut asked) = (0, 0);
        for source in 0..10_000 {
            if disputes.wants_second(&who("a"), &alice, source, &mut random) {
                compared += 1;
                disputes.differ(&who("a"), &who("b"));
                asked += usize::from(disputes.ask(&alice, source));
            }
            disputes.result(&alice);
        }
        // Nobody ever answers.
        assert_eq!(compared, asked);
        assert!((30..=37).contains(&asked), "{asked}");
        // Of one such file among others nothing is asked again.
        let mut disputes = Disputes::new(1.0);
        assert!(disputes.ask(&alice, 7));
        let mut wants = |disputes: &Disputes, holder, source| {
            disputes.wants_second(&who("a"), holder, source, &mut random)
        };
        assert!(!wants(&disputes, &alice, 7));
        assert!(wants(&disputes, &alice, 8) && wants(&disputes, &bob, 7));
        // Where clients do answer there is no end to it.
        for source in 0..100 {
            assert!(disputes.ask(&bob, source));
            disputes.answered(&bob, source);
        }
        assert!(wants(&disputes, &bob, 0));
    }

    #[test]
    fn a_suspect_is_one_until_others_made_the_same_often_enough() {
        let mut disputes = Disputes::new(0.6);
        assert!(disputes.differ(&who("a"), &who("b")));
        for _ in 0..SUSPECT_RESULTS - 1 {
            disputes.agree(&who("a"));
        }
        assert!(disputes.is_suspect(&who("a")));
        assert!(!disputes.differ(&who("b"), &who("a")));
        for _ in 0..SUSPECT_RESULTS {
            assert!(disputes.is_suspect(&who("a")));
            disputes.agree(&who("a"));
        }
        assert!(!disputes.is_suspect(&who("a")) && disputes.is_suspect(&who("b")));
        disputes.clear(&who("b"));
        assert!(!disputes.is_suspect(&who("b")));
    }

    #[test]
    fn chances_are_as_stated() {
        let caught = |share: f64| {
            let (a, b, n) = (0.01 * share, 0.01, 1_000.0);
            1.0 - (b * f64::exp(-a * n) - a * f64::exp(-b * n)) / (b - a)
        };
        assert!((caught(0.6) - 0.994).abs() < 0.0005, "{}", caught(0.6));
        let unseen = 0.99_f64.powi(SUSPECT_RESULTS as i32);
        assert!((unseen * 150.0 - 1.0).abs() < 0.02, "{unseen}");
        assert!(0.99_f64.powi(459) <= 0.01 && 0.99_f64.powi(458) > 0.01);
    }
}
