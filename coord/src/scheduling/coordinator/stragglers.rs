//! Pure: attempts whose time is over, and those that take so long that another
//! worker tries too.

use hg_proto::v1::failure::Code;
use hg_proto::wire::digest::Digest;

use super::{Action, Step, TASK_OVER, failure};
use crate::bounds::{HEDGE_FACTOR, HEDGE_LOOK_MS, HEDGE_MS_MIN, HEDGE_SAVED_MS_MAX};
use crate::scheduling::id::{DispatchId, TaskId, WorkerId};
use crate::scheduling::jobs::{Attempt, Phase};

/// An attempt is repeated on a worker that has become idle if it is likely to be
/// done there this many times sooner than where it runs.
pub(super) const RESCUE_FACTOR: f64 = 1.5;
/// One part in so many of what an attempt was expected to take is thought to be left of it at
/// least: that it is not over when it should be does not mean that it is about to be.
const UNSURE_SHARE: u64 = 2;
/// Milliseconds without a new task of a toolchain after which none is expected soon: a build
/// goes on as long as something is submitted whenever something ends.
const QUIET_MS: u64 = 250;
/// Milliseconds between two looks at most at an attempt that may be rescued: by then a build
/// may have come to its end but for it.
const RESCUE_LOOK_MS: u64 = 500;
/// An attempt takes too long after so many times its expected length and
/// [`LATE_MS_MIN`] or [`LATE_GUESS_MS_MIN`] milliseconds more.
const LATE_FACTOR: u64 = 3;
/// See [`LATE_FACTOR`]; where the length is known from an earlier compile.
const LATE_MS_MIN: u64 = 1_000;
/// See [`LATE_FACTOR`]; where the length was only guessed.
const LATE_GUESS_MS_MIN: u64 = 5_000;
/// An attempt is given up after so many times its expected length and
/// [`HOPELESS_MS_MIN`] milliseconds more.
const HOPELESS_FACTOR: u64 = 20;
/// See [`HOPELESS_FACTOR`].
const HOPELESS_MS_MIN: u64 = 120_000;

impl Step<'_> {
    /// Attempts whose time is over end, and stragglers may get a second one.
    pub(super) fn look_at_due(&mut self) {
        for dispatch in self.core.jobs.due(self.now_ms) {
            let Some(attempt) = self.core.jobs.running(dispatch) else {
                continue;
            };
            let (task, worker, phase) = (attempt.task, attempt.worker, attempt.phase);
            if attempt.task_deadline_ms <= self.now_ms {
                self.fail(task, failure(Code::Limit, TASK_OVER));
            } else if attempt.is_stalled(self.now_ms) {
                let why = "the compiler there gets no processor";
                self.lost(dispatch, worker, why);
            } else if attempt.is_overdue(self.now_ms) {
                self.overdue(dispatch, task, worker, phase);
            } else if self.core.jobs.straggles(dispatch, self.now_ms) {
                self.hedge(dispatch);
            }
            self.core.jobs.rest(dispatch, self.now_ms);
        }
    }

    pub(super) fn overdue(
        &mut self,
        dispatch: DispatchId,
        task: TaskId,
        worker: WorkerId,
        phase: Phase,
    ) {
        match phase {
            Phase::Offered => self.lost(dispatch, worker, "the worker did not answer"),
            Phase::Feeding(_) => {
                self.fail(
                    task,
                    failure(Code::Input, "the client's inputs did not come"),
                );
            }
            Phase::Compiling | Phase::Returning => {
                self.fail(
                    task,
                    failure(Code::Worker, "the worker did not come to an end"),
                );
            }
        }
    }

    /// Gives up an attempt of which nothing is to be expected: another worker may try.
    fn lost(&mut self, dispatch: DispatchId, worker: WorkerId, why: &str) {
        self.actions
            .push(Action::CancelDispatch { worker, dispatch });
        self.task_failed(worker, dispatch, failure(Code::Worker, why));
    }

    /// An attempt takes longer than it was thought to, or runs on a slow worker
    /// while a fast one has become idle: if that is likely to be done sooner, it
    /// tries too (Zaharia et al., Improving MapReduce Performance in Heterogeneous
    /// Environments, 2008).
    ///
    /// Many are looked at for each that gets one: what costs a look at the task or
    /// at the worker comes last.
    pub(super) fn hedge(&mut self, dispatch: DispatchId) {
        let Some(attempt) = self.core.jobs.running(dispatch) else {
            return;
        };
        let (task, toolchain) = (attempt.task, attempt.toolchain);
        let Some(begun_ms) = attempt.begun_ms else {
            return;
        };
        if attempt.phase != Phase::Compiling {
            return;
        }
        let elapsed_ms = self.now_ms.saturating_sub(begun_ms);
        if elapsed_ms > HOPELESS_FACTOR * attempt.expected_ms + HOPELESS_MS_MIN {
            return self.lose_hope(dispatch, elapsed_ms);
        }
        let late_ms = straggles_ms(attempt.expected_ms);
        let left_ms = attempt.expected_ms.saturating_sub(elapsed_ms);
        let left_ms = left_ms.max(attempt.expected_ms / UNSURE_SHARE);
        let late = elapsed_ms >= late_ms;
        let (gain_ms, look_ms) = match late {
            // What has run so long is likely to run as long again.
            true => (elapsed_ms as f64, HEDGE_LOOK_MS),
            false => (
                left_ms as f64 / RESCUE_FACTOR,
                (left_ms / 4)
                    .clamp(HEDGE_LOOK_MS, RESCUE_LOOK_MS)
                    .min(late_ms - elapsed_ms),
            ),
        };
        if self.core.hedge
            && (late || self.may_rescue(attempt, left_ms))
            && let Some(cost_ms) = self.may_hedge(task, late || self.is_quiet(&toolchain))
            && let Some(choice) = self.choose(task, Some(gain_ms))
            && choice.completion_ms < gain_ms
        {
            self.core.hedges_ms -= cost_ms;
            self.start(task, choice.worker, choice.compile_ms, true);
        }
        // Even then: the second attempt may fail.
        self.core.jobs.look_again(dispatch, self.now_ms + look_ms);
    }

    /// Fails the task of an attempt that has run so long that nobody waits for it.
    pub(super) fn lose_hope(&mut self, dispatch: DispatchId, elapsed_ms: u64) {
        let Some((job, attempt)) = self.core.jobs.attempt(dispatch) else {
            return;
        };
        let (profile, task) = (job.demand.profile, attempt.task);
        if let Some(slow) = self.core.registry.get(attempt.worker) {
            let cost_ms = elapsed_ms as f64 * slow.pace.speed;
            // If it is no hang: next time there is more patience with it.
            self.core.predictor.at_least(&profile, cost_ms);
        }
        self.fail(task, failure(Code::Worker, "it takes far too long"));
    }

    /// Milliseconds at speed 1 that a second attempt would cost; `None`: the task has two,
    /// or not enough was saved.
    pub(super) fn may_hedge(&self, task: TaskId, late: bool) -> Option<f64> {
        let job = self.core.jobs.get(task)?;
        let cost_ms = job.prediction.cost_ms;
        let saved_ms = self.core.hedges_ms;
        // Half is kept for those that are late. A long one may cost more than
        // was saved, which the next ones pay back.
        let pays = saved_ms >= HEDGE_SAVED_MS_MAX / 2.0
            || cost_ms <= if late { saved_ms } else { saved_ms / 2.0 };
        (pays && job.running.len() == 1).then_some(cost_ms)
    }

    /// Whether no task of a toolchain has come for a while.
    fn is_quiet(&self, toolchain: &Digest) -> bool {
        let lately = self.core.lately.get(toolchain);
        lately.is_none_or(|(_, at_ms)| self.now_ms.saturating_sub(*at_ms) >= QUIET_MS)
    }

    /// Whether an attempt is likely to end after all else, nothing waits for the
    /// idle workers, and one of these is of a faster class.
    pub(super) fn may_rescue(&self, slow: &Attempt, left_ms: u64) -> bool {
        let registry = &self.core.registry;
        let toolchain = &slow.toolchain;
        let speed = |worker| registry.get(worker).map_or(0.0, |w| w.pace.speed);
        self.core.queue.cost_ms(toolchain) == 0
            && (self.is_quiet(toolchain) || left_ms as f64 > self.patience(toolchain).horizon_ms)
            && registry
                .free(toolchain)
                .next()
                .is_some_and(|(speed_min, _)| speed_min > speed(slow.worker))
    }
}

/// Milliseconds after which a compile takes too long.
pub(super) fn late_ms(expected_ms: u64, known: bool) -> u64 {
    let more_ms = if known {
        LATE_MS_MIN
    } else {
        LATE_GUESS_MS_MIN
    };
    LATE_FACTOR * expected_ms + more_ms
}

/// Milliseconds after which an attempt is a straggler.
pub(super) fn straggles_ms(expected_ms: u64) -> u64 {
    (expected_ms as f64 * HEDGE_FACTOR) as u64 + HEDGE_MS_MIN
}
