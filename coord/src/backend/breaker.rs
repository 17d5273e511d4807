//! When a backend is left alone: after some failures in a row, or many among its answers.
//! Pure: whoever opens it decides how the next try is made.

use crate::bounds::{BACKEND_PAUSE_MS_MAX, BACKEND_PAUSE_MS_MIN};

/// Failures in a row after which it opens.
const FAILURES_MAX: u32 = 3;
/// Successes that make good for one failure.
const SUCCESSES_PER_FAILURE: u32 = 4;
/// Where it is on trial after it came back: two failures open it again, for twice as long.
const PARTS_WHEN_BACK: u32 = SUCCESSES_PER_FAILURE;

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Breaker {
    /// Failures, in parts of one: a success takes one part off.
    parts: u32,
    is_open: bool,
    /// Milliseconds of the last pause; 0: there was none since it last worked.
    pause_ms: u64,
}

impl Breaker {
    /// The backend is to be left alone.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// An answer came. True: it had been left alone, and is back.
    pub fn succeeded(&mut self) -> bool {
        if std::mem::take(&mut self.is_open) {
            self.parts = PARTS_WHEN_BACK;
            return true;
        }
        self.parts = self.parts.saturating_sub(1);
        if self.parts == 0 {
            self.pause_ms = 0;
        }
        false
    }

    /// None came, or a failure. True: it is left alone from now on.
    pub fn failed(&mut self) -> bool {
        self.parts += SUCCESSES_PER_FAILURE;
        let opens = !self.is_open && self.parts >= FAILURES_MAX * SUCCESSES_PER_FAILURE;
        self.is_open |= opens;
        opens
    }

    /// It is left alone from now on, without more failures. True: it was not before.
    pub fn give_up(&mut self) -> bool {
        !std::mem::replace(&mut self.is_open, true)
    }

    /// Milliseconds until the next try while it is open, twice as many each time.
    pub fn pause_ms(&mut self) -> u64 {
        let next = (self.pause_ms * 2).clamp(BACKEND_PAUSE_MS_MIN, BACKEND_PAUSE_MS_MAX);
        self.pause_ms = next;
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_open_it_and_one_success_closes_it() {
        let mut breaker = Breaker::default();
        let opened: Vec<bool> = (0..4).map(|_| breaker.failed()).collect();
        assert_eq!(opened, [false, false, true, false], "it opens once");
        assert!(breaker.is_open());
        assert!(breaker.succeeded() && !breaker.is_open());
        assert!(!breaker.succeeded(), "it comes back once");
    }

    #[test]
    fn one_failure_in_ten_is_borne_and_one_in_two_is_not() {
        let opens = |every: u32| {
            let mut breaker = Breaker::default();
            (0..1_000).any(|number| match number % every {
                0 => breaker.failed(),
                _ => breaker.succeeded(),
            })
        };
        assert!(!opens(10));
        assert!(opens(2));
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_begin_anew_when_it_works() {
        let mut breaker = Breaker::default();
        let pauses: Vec<u64> = (0..9).map(|_| breaker.pause_ms()).collect();
        assert_eq!(pauses[..3], [1_000, 2_000, 4_000]);
        assert_eq!(pauses[8], BACKEND_PAUSE_MS_MAX);
        for _ in 0..10 {
            breaker.succeeded();
        }
        assert_eq!(breaker.pause_ms(), BACKEND_PAUSE_MS_MIN);
    }

    #[test]
    fn one_that_comes_back_and_fails_again_is_left_alone_for_longer() {
        let mut breaker = Breaker::default();
        (0..3).for_each(|_| {
            breaker.failed();
        });
        assert_eq!(breaker.pause_ms(), 1_000);
        assert!(breaker.succeeded());
        assert!(!breaker.failed() && breaker.failed());
        assert_eq!(breaker.pause_ms(), 2_000);
    }
}
