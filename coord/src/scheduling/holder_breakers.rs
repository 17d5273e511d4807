//! Circuit breakers of one worker for one holder of tokens each. What a client can
//! bring about by its own tasks (a hang, files that can't be made) shuts a worker for
//! that client's holder alone; what a second holder shows too counts for all.
//! Unaware of clocks: every time is milliseconds on the caller's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::bounds::{HOLDER_BREAKERS_MAX, WITNESS_MS_MAX};
use crate::scheduling::breaker::{Breaker, Circuit};
use crate::scheduling::id::{DispatchId, WorkerId};

#[derive(Debug, Default)]
struct Row {
    breaker: Breaker,
    failed_ms: u64,
}

/// See the top of the file. Most workers never failed anybody, and have no row.
#[derive(Debug, Default)]
pub struct HolderBreakers {
    rows: BTreeMap<(Arc<str>, WorkerId), Row>,
    /// Workers that get no tasks of a holder until somebody says so.
    barred: BTreeSet<(Arc<str>, WorkerId)>,
}

/// What a worker's failure of a holder's attempt led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// The worker's breaker for this holder opened.
    pub opened: bool,
    /// The worker failed another holder's attempt not long ago.
    pub by_another: bool,
}

impl HolderBreakers {
    /// Whether the worker may have one more of the holder's tasks.
    pub fn allows(&self, holder: &Arc<str>, worker: WorkerId, now_ms: u64) -> bool {
        let row = match self.rows.is_empty() {
            true => None,
            false => self.rows.get(&(holder.clone(), worker)),
        };
        row.is_none_or(|row| row.allows(now_ms)) && !self.is_barred(holder, worker)
    }

    fn is_barred(&self, holder: &Arc<str>, worker: WorkerId) -> bool {
        !self.barred.is_empty() && self.barred.contains(&(holder.clone(), worker))
    }

    /// The worker gets no tasks of the holder's from now on.
    pub fn bar(&mut self, holder: Arc<str>, worker: WorkerId) {
        self.barred.insert((holder, worker));
    }

    /// The worker gets tasks of all again that [`HolderBreakers::bar`] kept from it.
    pub fn unbar(&mut self, worker: WorkerId) {
        self.barred.retain(|(_, of)| *of != worker);
    }

    /// Workers that may have none of the holder's tasks now.
    pub fn shut_for(
        &self,
        holder: &Arc<str>,
        now_ms: u64,
    ) -> impl Iterator<Item = WorkerId> + use<'_> {
        let of_holder = (holder.clone(), WorkerId(0))..=(holder.clone(), WorkerId(u64::MAX));
        let rows = self.rows.range(of_holder.clone());
        let shut = rows.filter(move |(_, row)| !row.allows(now_ms));
        let shut = shut.map(|((_, worker), _)| *worker);
        let barred = self.barred.range(of_holder);
        shut.chain(barred.map(|(_, worker)| *worker))
    }

    /// Holders for which each worker is shut, for listings; those without are left out.
    pub fn shut(&self, now_ms: u64) -> BTreeMap<WorkerId, u32> {
        let mut counts = BTreeMap::new();
        for ((_, worker), row) in &self.rows {
            if !row.allows(now_ms) {
                *counts.entry(*worker).or_default() += 1;
            }
        }
        for (holder, worker) in &self.barred {
            let row = self.rows.get(&(holder.clone(), *worker));
            if row.is_none_or(|row| row.allows(now_ms)) {
                *counts.entry(*worker).or_default() += 1;
            }
        }
        counts
    }

    /// An attempt of the holder's begins. Gives whether it is the probe of the worker's
    /// breaker for this holder.
    pub fn begin(
        &mut self,
        holder: &Arc<str>,
        worker: WorkerId,
        dispatch: DispatchId,
        now_ms: u64,
    ) -> bool {
        let Some(row) = self.row(holder, worker) else {
            return false;
        };
        row.breaker.tick(now_ms);
        row.breaker.begin(dispatch);
        row.breaker.is_probe(dispatch)
    }

    /// The worker brought an attempt of the holder's to an end.
    pub fn success(&mut self, holder: &Arc<str>, worker: WorkerId, dispatch: DispatchId) {
        if let Some(row) = self.row(holder, worker) {
            row.breaker.success(dispatch);
            if row.breaker.is_pristine() {
                self.rows.remove(&(holder.clone(), worker));
            }
        }
    }

    /// An attempt of the holder's ended without saying anything of the worker.
    pub fn void(&mut self, holder: &Arc<str>, worker: WorkerId, dispatch: DispatchId) {
        if let Some(row) = self.row(holder, worker) {
            row.breaker.void(dispatch);
        }
    }

    /// Whether this attempt is the probe of the worker's breaker for this holder.
    pub fn is_probe(&self, holder: &Arc<str>, worker: WorkerId, dispatch: DispatchId) -> bool {
        let row = self.rows.get(&(holder.clone(), worker));
        row.is_some_and(|row| row.breaker.is_probe(dispatch))
    }

    /// The worker failed an attempt of the holder's; `severe`: once is enough.
    pub fn failure(
        &mut self,
        holder: &Arc<str>,
        worker: WorkerId,
        dispatch: DispatchId,
        severe: bool,
        random: &mut fastrand::Rng,
        now_ms: u64,
    ) -> Shown {
        let since_ms = now_ms.saturating_sub(WITNESS_MS_MAX);
        let by_another = self.rows.iter().any(|((other, failed), row)| {
            *failed == worker && other != holder && row.failed_ms >= since_ms
        });
        let row = self.rows.entry((holder.clone(), worker)).or_default();
        row.failed_ms = now_ms;
        let opened = row
            .breaker
            .failure(Some(dispatch), severe, random, now_ms)
            .is_some();
        if self.rows.len() > HOLDER_BREAKERS_MAX {
            let oldest = self.rows.iter().min_by_key(|(_, row)| row.failed_ms);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.rows.remove(&oldest);
            }
        }
        Shown { opened, by_another }
    }

    /// Removes the breakers of a worker that is gone.
    pub fn forget(&mut self, worker: WorkerId) {
        self.rows.retain(|(_, of), _| *of != worker);
        self.unbar(worker);
    }

    fn row(&mut self, holder: &Arc<str>, worker: WorkerId) -> Option<&mut Row> {
        match self.rows.is_empty() {
            true => None,
            false => self.rows.get_mut(&(holder.clone(), worker)),
        }
    }
}

impl Row {
    /// As [`Breaker::allows`], without waiting for somebody to notice that its time
    /// has come.
    fn allows(&self, now_ms: u64) -> bool {
        match self.breaker.state() {
            Circuit::Open { until_ms } => until_ms <= now_ms,
            _ => self.breaker.allows(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::BREAKER_OPEN_MS_MIN;

    const WORKER: WorkerId = WorkerId(7);

    struct Bench {
        breakers: HolderBreakers,
        random: fastrand::Rng,
        dispatch: u64,
    }

    impl Bench {
        fn new() -> Self {
            Bench {
                breakers: HolderBreakers::default(),
                random: fastrand::Rng::with_seed(1),
                dispatch: 0,
            }
        }

        fn fail(&mut self, holder: &str, now_ms: u64) -> Shown {
            self.dispatch += 1;
            let (holder, dispatch) = (holder.into(), DispatchId(self.dispatch));
            self.breakers.begin(&holder, WORKER, dispatch, now_ms);
            self.breakers
                .failure(&holder, WORKER, dispatch, false, &mut self.random, now_ms)
        }

        fn allows(&self, holder: &str, now_ms: u64) -> bool {
            self.breakers.allows(&holder.into(), WORKER, now_ms)
        }
    }

    #[test]
    fn one_holder_shuts_a_worker_for_itself_and_for_nobody_else() {
        let mut bench = Bench::new();
        let shown: Vec<Shown> = (0..3).map(|_| bench.fail("evil", 0)).collect();
        assert!(shown[2].opened && shown.iter().all(|shown| !shown.by_another));
        assert!(!bench.allows("evil", 0) && bench.allows("good", 0));
        let shut = |holder: &str| Vec::from_iter(bench.breakers.shut_for(&holder.into(), 0));
        assert_eq!((shut("evil"), shut("good")), (vec![WORKER], vec![]));
        assert_eq!(bench.breakers.shut(0), BTreeMap::from([(WORKER, 1)]));
    }

    #[test]
    fn a_second_holder_is_a_witness_for_a_while() {
        let mut bench = Bench::new();
        assert!(!bench.fail("a", 0).by_another);
        assert!(!bench.fail("a", 1).by_another);
        assert!(bench.fail("b", 1).by_another);
        assert!(bench.fail("a", 1 + WITNESS_MS_MAX).by_another);
        assert!(!bench.fail("b", 2 + 2 * WITNESS_MS_MAX).by_another);
    }

    #[test]
    fn its_time_over_one_attempt_decides() {
        let mut bench = Bench::new();
        for _ in 0..3 {
            bench.fail("a", 0);
        }
        let later_ms = 2 * BREAKER_OPEN_MS_MIN;
        assert!(bench.allows("a", later_ms));
        let (holder, probe) = ("a".into(), DispatchId(100));
        assert!(bench.breakers.begin(&holder, WORKER, probe, later_ms));
        assert!(!bench.allows("a", later_ms), "one at a time");
        bench.breakers.success(&holder, WORKER, probe);
        assert!(bench.allows("a", later_ms));
        // All is forgotten after a good run.
        for dispatch in 0..100 {
            let dispatch = DispatchId(200 + dispatch);
            bench.breakers.success(&holder, WORKER, dispatch);
        }
        assert!(bench.breakers.rows.is_empty());
    }

    #[test]
    fn rows_are_bounded_and_go_with_their_worker() {
        let mut bench = Bench::new();
        for at in 0..=HOLDER_BREAKERS_MAX as u64 {
            bench.fail(&format!("h{at}"), at);
        }
        assert_eq!(bench.breakers.rows.len(), HOLDER_BREAKERS_MAX);
        assert!(!bench.breakers.rows.contains_key(&("h0".into(), WORKER)));
        bench.breakers.forget(WORKER);
        assert!(bench.breakers.rows.is_empty());
    }
}
