//! A circuit breaker for one worker: closed, open, half-open. What counts is
//! the grid's own trouble, never a compile that failed. Unaware of clocks: every
//! time is milliseconds on the caller's.
//!
//! ```text
//! Closed --failures--> Open --time--> HalfOpen --probe well--> Closed
//!                       ^                 |
//!                       '-- probe failed -'
//! ```

use crate::bounds::{BREAKER_OPEN_MS_MAX, BREAKER_OPEN_MS_MIN};
use crate::scheduling::id::DispatchId;

/// The score at which it opens. A failure adds one, and everything counted
/// before fades: three in a row, or more than half of many.
const SCORE_MAX: f64 = 2.0;
/// What is left of the score after one more attempt.
const FADE: f64 = 0.75;
/// Good attempts in a row after which earlier trips are forgotten.
const GOOD_RUN: u32 = 16;

/// What a breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// Every attempt.
    Closed,
    /// No attempt until `until_ms`.
    Open {
        /// Milliseconds on the caller's clock.
        until_ms: u64,
    },
    /// One attempt, the probe, which decides whether it closes.
    HalfOpen {
        /// The probe, once it has begun.
        probe: Option<DispatchId>,
    },
}

/// See the top of the file.
#[derive(Debug, Clone)]
pub struct Breaker {
    state: Circuit,
    score: f64,
    /// Times that it opened without a good run in between.
    trips: u32,
    good: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new()
    }
}

impl Breaker {
    /// A breaker that is closed.
    pub fn new() -> Self {
        Breaker {
            state: Circuit::Closed,
            score: 0.0,
            trips: 0,
            good: 0,
        }
    }

    /// What the breaker lets through.
    pub fn state(&self) -> Circuit {
        self.state
    }

    /// The state's name in listings.
    pub fn name(&self) -> &'static str {
        match self.state {
            Circuit::Closed => "closed",
            Circuit::Open { .. } => "open",
            Circuit::HalfOpen { .. } => "half-open",
        }
    }

    /// Whether the breaker lets one more attempt through.
    pub fn allows(&self) -> bool {
        matches!(
            self.state,
            Circuit::Closed | Circuit::HalfOpen { probe: None }
        )
    }

    /// Whether the breaker lets every attempt through.
    pub fn is_closed(&self) -> bool {
        self.state == Circuit::Closed
    }

    /// Whether nothing speaks against the worker.
    pub fn is_pristine(&self) -> bool {
        self.state == Circuit::Closed && self.score < 0.01 && self.trips == 0
    }

    /// An attempt begins.
    pub fn begin(&mut self, dispatch: DispatchId) {
        if self.state == (Circuit::HalfOpen { probe: None }) {
            self.state = Circuit::HalfOpen {
                probe: Some(dispatch),
            };
        }
    }

    /// An attempt ended without saying anything of the worker.
    pub fn void(&mut self, dispatch: DispatchId) {
        if self.is_probe(dispatch) {
            self.state = Circuit::HalfOpen { probe: None };
        }
    }

    /// The worker brought an attempt to an end.
    pub fn success(&mut self, dispatch: DispatchId) {
        self.score *= FADE;
        self.good = self.good.saturating_add(1);
        if self.good >= GOOD_RUN {
            self.trips = 0;
        }
        if self.is_probe(dispatch) {
            self.score = 0.0;
            self.state = Circuit::Closed;
        }
    }

    /// The worker, or the way to it, failed an attempt; `None`: none in particular;
    /// `severe`: once is enough. Gives the time until which the breaker is open, if that
    /// opened it.
    pub fn failure(
        &mut self,
        dispatch: Option<DispatchId>,
        severe: bool,
        random: &mut fastrand::Rng,
        now_ms: u64,
    ) -> Option<u64> {
        self.score = self.score * FADE + 1.0;
        self.good = 0;
        let probe = dispatch.is_some_and(|dispatch| self.is_probe(dispatch));
        let trips = match self.state {
            Circuit::Closed => severe || self.score >= SCORE_MAX,
            Circuit::HalfOpen { .. } => probe || dispatch.is_none(),
            Circuit::Open { .. } => false,
        };
        trips.then(|| self.open(random, now_ms))
    }

    fn open(&mut self, random: &mut fastrand::Rng, now_ms: u64) -> u64 {
        let ms = BREAKER_OPEN_MS_MIN
            .saturating_mul(1 << self.trips.min(16))
            .min(BREAKER_OPEN_MS_MAX);
        self.trips = self.trips.saturating_add(1);
        // Workers that failed together are not to come back together.
        let until_ms = now_ms + ms * 3 / 4 + random.u64(0..=ms / 2);
        self.state = Circuit::Open { until_ms };
        until_ms
    }

    /// The worker is gone, with whatever attempt there was.
    pub fn leave(&mut self) {
        if let Circuit::HalfOpen { .. } = self.state {
            self.state = Circuit::HalfOpen { probe: None };
        }
    }

    /// Turns the breaker half-open if its time has come. Gives whether it did.
    pub fn tick(&mut self, now_ms: u64) -> bool {
        match self.state {
            Circuit::Open { until_ms } if until_ms <= now_ms => {
                self.state = Circuit::HalfOpen { probe: None };
                true
            }
            _ => false,
        }
    }

    /// Whether this attempt is the probe.
    pub fn is_probe(&self, dispatch: DispatchId) -> bool {
        self.state
            == Circuit::HalfOpen {
                probe: Some(dispatch),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &mut Breaker, now_ms: u64) -> Option<u64> {
        {
            let mut random = fastrand::Rng::with_seed(1);
            breaker.failure(Some(DispatchId(9)), false, &mut random, now_ms)
        }
    }

    #[test]
    fn three_failures_in_a_row_open_it_and_rare_ones_do_not() {
        let mut breaker = Breaker::new();
        assert_eq!(fail(&mut breaker, 0), None);
        assert_eq!(fail(&mut breaker, 0), None);
        let until = fail(&mut breaker, 0).unwrap();
        assert!((750..=1_250).contains(&until), "{until}");
        assert!(!breaker.allows());
        let mut breaker = Breaker::new();
        for round in 0..1_000 {
            for dispatch in 0..3 {
                breaker.success(DispatchId(dispatch));
            }
            assert_eq!(fail(&mut breaker, round), None);
        }
    }

    #[test]
    fn one_hang_is_enough() {
        let mut breaker = Breaker::new();
        let mut random = fastrand::Rng::with_seed(1);
        let until = breaker.failure(Some(DispatchId(1)), true, &mut random, 0);
        assert!(until.is_some() && !breaker.allows());
    }

    #[test]
    fn one_probe_decides() {
        let mut breaker = Breaker::new();
        let until = (0..3).find_map(|_| fail(&mut breaker, 0)).unwrap();
        assert!(!breaker.tick(until - 1));
        assert!(breaker.tick(until));
        assert!(breaker.allows());
        breaker.begin(DispatchId(1));
        assert!(!breaker.allows(), "one at a time");
        breaker.success(DispatchId(7));
        assert!(!breaker.allows(), "not the probe");
        breaker.void(DispatchId(1));
        assert!(breaker.allows(), "another may probe");
        breaker.begin(DispatchId(2));
        breaker.success(DispatchId(2));
        assert_eq!(breaker.state(), Circuit::Closed);
    }

    #[test]
    fn each_failed_probe_waits_longer_up_to_a_bound() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut breaker = Breaker::new();
        let mut now = (0..3).find_map(|_| fail(&mut breaker, 0)).unwrap();
        let mut waits = Vec::new();
        for dispatch in 0..10 {
            assert!(breaker.tick(now));
            breaker.begin(DispatchId(dispatch));
            let until = breaker
                .failure(Some(DispatchId(dispatch)), false, &mut random, now)
                .unwrap();
            waits.push(until - now);
            now = until;
        }
        assert!(waits[0] >= 1_500 && waits[0] <= 2_500, "{waits:?}");
        assert!(waits.iter().all(|ms| *ms <= BREAKER_OPEN_MS_MAX * 5 / 4));
        assert!(waits[9] >= BREAKER_OPEN_MS_MAX * 3 / 4);
        assert!(breaker.tick(now));
        breaker.begin(DispatchId(50));
        breaker.success(DispatchId(50));
        assert!(!breaker.is_pristine());
        for dispatch in 0..u64::from(GOOD_RUN) {
            breaker.success(DispatchId(dispatch));
        }
        assert!(breaker.is_pristine());
    }

    #[test]
    fn a_late_failure_does_not_disturb_the_probe() {
        let mut breaker = Breaker::new();
        let until = (0..3).find_map(|_| fail(&mut breaker, 0)).unwrap();
        assert_eq!(fail(&mut breaker, 1), None, "open already");
        breaker.tick(until);
        breaker.begin(DispatchId(1));
        assert_eq!(fail(&mut breaker, until), None);
        breaker.success(DispatchId(1));
        assert_eq!(breaker.state(), Circuit::Closed);
    }
}
