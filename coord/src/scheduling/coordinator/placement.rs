//! Pure: where a task goes: to a worker now, ahead to a busy one, or into the queue;
//! and what a worker with a free slot gets.

use std::sync::Arc;

use hg_proto::v1::failure::Code;
use hg_proto::wire::digest::Digest;

use super::stragglers::{RESCUE_FACTOR, late_ms, straggles_ms};
use super::{Action, Coordinator, NO_SLOT, Step, failure};
use crate::bounds::{HEDGE_MS_MIN, RETRIES_SAVED_MAX, RETRY_SHARE, TRIAL_WALL_MS_MAX};
use crate::scheduling::id::{DispatchId, TaskId, WorkerId};
use crate::scheduling::jobs::{AttemptPlan, AttemptStart};
use crate::scheduling::queue::{Full, Order, Ticket};
use crate::scheduling::registry::{AttemptEnd, Worker};
use crate::scheduling::scheduler::{Choice, Wish};

/// Milliseconds in which cost that was submitted fades to a third: what was submitted
/// lately counts as what is likely to come.
const LATELY_MS: f64 = 20_000.0;
/// A worker this many times slower than the fastest may always take a task.
const PATIENCE_MIN: f64 = 1.5;
/// Tasks sent ahead that are looked at for an idle worker.
const AHEAD_LOOKS_MAX: usize = 16;
/// Milliseconds after which an attempt that tries out a worker is late, unless it is
/// seen to get on: some more than its first report takes. Nobody should have to wait to
/// find out.
pub(super) const TRIAL_LATE_MS: u64 = 250;
/// Milliseconds beyond half as much again after which one that gets on is late.
const TRIAL_LATE_MS_MORE: u64 = 250;
/// A worker on which a compile takes so many times as long as on the client's own
/// machine is slow.
const SLOWER_FACTOR: f64 = 2.0;

/// Milliseconds that a compile may be expected to run on a worker before it had better
/// wait for a faster one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Patience {
    /// Milliseconds that a compile of any cost may run.
    pub(super) horizon_ms: f64,
    /// Milliseconds for each millisecond of a compile's cost, if that is more.
    per_cost: f64,
}

impl Patience {
    fn ms(&self, cost_ms: f64) -> f64 {
        self.horizon_ms.max(self.per_cost * cost_ms)
    }
}

impl Step<'_> {
    /// Cost that was submitted for a toolchain not long ago.
    pub(super) fn lately_ms(&self, toolchain: &Digest) -> f64 {
        let lately = self.core.lately.get(toolchain);
        lately.map_or(0.0, |(cost_ms, at_ms)| {
            cost_ms * (-(self.now_ms.saturating_sub(*at_ms) as f64) / LATELY_MS).exp()
        })
    }

    /// How long a compile of this cost may take on a worker; where it takes
    /// longer it had better wait for a faster one. While a build goes on slow
    /// workers help, with what they finish before its likely end.
    pub(super) fn patience(&self, toolchain: &Digest) -> Patience {
        if !self.core.scheduler.expects() {
            return Patience {
                horizon_ms: f64::INFINITY,
                per_cost: 0.0,
            };
        }
        let Some(fastest) = self.core.registry.fastest(toolchain) else {
            return Patience::default();
        };
        let waiting_ms = self.core.queue.cost_ms(toolchain) as f64 + self.lately_ms(toolchain);
        Patience {
            horizon_ms: waiting_ms / self.core.registry.capacity(toolchain).max(1e-3),
            per_cost: PATIENCE_MIN / fastest,
        }
    }

    /// A worker for a task, other than those it has or that failed it; `beside`:
    /// milliseconds within which a second attempt is worth it.
    pub(super) fn choose(&mut self, task: TaskId, beside: Option<f64>) -> Option<Choice> {
        let job = self.core.jobs.get(task)?;
        let mut excluded = self.excluded(job);
        excluded.extend(job.running.iter().map(|(_, worker)| worker));
        let alone_ms = self
            .patience(&job.demand.toolchain)
            .ms(job.prediction.cost_ms);
        let patience_ms = beside.unwrap_or(alone_ms);
        let core = &mut *self.core;
        let job = core.jobs.get(task)?;
        let wish = Wish {
            toolchain: &job.demand.toolchain,
            excluded: &excluded,
            cost_ms: job.prediction.cost_ms,
            peak_bytes: job.prediction.peak_bytes,
            bytes: job.demand.profile.travel_bytes + job.prediction.output_bytes,
            patience_ms,
        };
        core.scheduler.choose(&core.registry, &wish)
    }

    /// Gives a waiting task a slot, or a place in the queue.
    pub(super) fn place(&mut self, task: TaskId) {
        if self.waits_for_same(task) {
            return;
        }
        if let Some(choice) = self.choose(task, None) {
            return self.start(task, choice.worker, choice.compile_ms, false);
        }
        self.wait(task);
    }

    /// Gives a task a place in the queue, if there is anything to wait for.
    pub(super) fn wait(&mut self, task: TaskId) {
        let Some(job) = self.core.jobs.get(task) else {
            return;
        };
        let toolchain = job.demand.toolchain;
        let (peak_bytes, cost_ms) = (job.prediction.peak_bytes, job.prediction.cost_ms);
        if self.core.registry.fastest(&toolchain).is_none() || !self.is_served(task) {
            let why = self.no_worker(task);
            return self.fail(task, why);
        }
        let core = &mut *self.core;
        if !core.registry.holds(&toolchain, peak_bytes) {
            let why = format!("no worker has the {peak_bytes} bytes of memory that it may need");
            return self.fail(task, failure(Code::Memory, why));
        }
        let Some(job) = core.jobs.get(task) else {
            return;
        };
        let ticket = Ticket {
            task,
            holder: job.demand.holder.clone(),
            client: job.demand.client.clone(),
            toolchain,
            bytes: job.demand.bytes,
            cost_ms: job.prediction.cost_ms as u64,
            peak_bytes: job.prediction.peak_bytes,
            since_ms: self.now_ms,
            deadline_ms: (self.now_ms + job.demand.queue_ms_max.saturating_sub(job.waited_ms))
                .min(job.deadline_ms),
        };
        if !job.excluded.is_empty() {
            core.choosy.insert(task);
        }
        if job.attempts > 0 {
            core.queue.push_front(ticket);
        } else {
            match core.queue.push(ticket) {
                Ok(gone) => {
                    for other in gone {
                        self.fail(other, failure(Code::Queue, Full::GaveWay.detail()));
                    }
                }
                Err(full) => return self.fail(task, failure(Code::Queue, full.detail())),
            }
        }
        // There is more to do now, and slow workers may be worth it.
        self.feed_idle(&toolchain, 1, cost_ms);
    }

    /// Offers the queue's tasks to some idle workers of each class of which some
    /// may take one of this cost.
    pub(super) fn feed_idle(&mut self, toolchain: &Digest, looks_max: usize, cost_ms: f64) {
        if !self.core.registry.has_free(toolchain) {
            return;
        }
        let patience_ms = self.patience(toolchain).ms(cost_ms);
        let core = &mut *self.core;
        let random = core.scheduler.random();
        let mut idle = Vec::new();
        for (speed_min, offers) in core.registry.free(toolchain) {
            if cost_ms > patience_ms * 2.0 * speed_min {
                break;
            }
            let from = random.usize(..offers.len());
            let round = offers[from..].iter().chain(&offers[..from]);
            idle.extend(round.take(looks_max).map(|offer| offer.worker));
        }
        for worker in idle {
            self.feed(worker);
        }
    }

    /// Gives a task the worker that was chosen for it.
    pub(super) fn start(&mut self, task: TaskId, worker: WorkerId, compile_ms: f64, hedge: bool) {
        let dispatch = self.core.jobs.next_dispatch();
        let Some(job) = self.core.jobs.get(task) else {
            return;
        };
        let peak_bytes = job.prediction.peak_bytes;
        if self.core.registry.book(worker, dispatch, peak_bytes) {
            self.make_room(worker);
            self.dispatch(task, worker, dispatch, compile_ms, hedge);
            if !hedge {
                self.seek_second(task);
            }
        } else if !hedge {
            self.wait(task);
        }
    }

    /// Begins an attempt on a worker that is booked for it already.
    pub(super) fn dispatch(
        &mut self,
        task: TaskId,
        worker: WorkerId,
        dispatch: DispatchId,
        compile_ms: f64,
        hedge: bool,
    ) {
        self.core.choosy.remove(&task);
        self.core.registry.fed(worker, self.now_ms);
        self.compiles(task, worker);
        let expected_ms = compile_ms as u64;
        let job = self.core.jobs.get(task);
        let holders = &mut self.core.holders;
        let decides =
            job.is_some_and(|job| holders.begin(&job.demand.holder, worker, dispatch, self.now_ms));
        let is_doubtful = |w: &Worker| !w.breaker.is_closed() || !w.is_proven();
        let trial = decides || self.core.registry.get(worker).is_some_and(is_doubtful);
        let slower = job.is_some_and(|job| {
            expected_ms as f64 * job.demand.client_speed > SLOWER_FACTOR * job.prediction.cost_ms
        });
        let plan = AttemptPlan {
            worker,
            dispatch,
            expected_ms,
            look_after_ms: self.look_after_ms(task, expected_ms),
            hedge,
            trial_late_ms: (trial && !slower).then_some(expected_ms * 3 / 2 + TRIAL_LATE_MS_MORE),
        };
        let started = self.core.jobs.start(task, plan, self.now_ms);
        let job = self.core.jobs.get(task);
        let (Some((number, queue_ms)), Some(job)) = (started, job) else {
            self.core
                .registry
                .release(worker, dispatch, AttemptEnd::Void);
            if let Some(job) = self.core.jobs.get(task) {
                let holder = &job.demand.holder;
                self.core.holders.void(holder, worker, dispatch);
            }
            return self.fail(
                task,
                failure(Code::Worker, "more attempts than can be numbered"),
            );
        };
        if number == 1 {
            self.core.retries = (self.core.retries + RETRY_SHARE).min(RETRIES_SAVED_MAX);
        }
        self.actions.push(Action::Dispatch(AttemptStart {
            task,
            worker,
            dispatch,
            number,
            queue_ms,
            hedge,
            late_ms: match trial {
                true => TRIAL_LATE_MS,
                false => late_ms(expected_ms, job.prediction.known),
            },
            slower,
            peak_bytes: job.prediction.peak_bytes,
            left_ms: job.deadline_ms.saturating_sub(self.now_ms),
        }));
    }

    /// Milliseconds of a compile after which it is looked at: on a slow worker
    /// before it is late.
    pub(super) fn look_after_ms(&self, task: TaskId, expected_ms: u64) -> u64 {
        let there_ms = self.core.jobs.get(task).map_or(0.0, |job| {
            let fastest = self.core.registry.fastest(&job.demand.toolchain);
            job.prediction.cost_ms / fastest.unwrap_or(1.0)
        });
        match RESCUE_FACTOR * there_ms < expected_ms as f64 {
            true => HEDGE_MS_MIN,
            false => straggles_ms(expected_ms),
        }
    }

    /// Gives the worker's free slots to those whose turn it is, and one task
    /// more for when the next slot is free.
    pub(super) fn feed(&mut self, id: WorkerId) {
        self.promote(id);
        let is_free = |core: &Coordinator| core.registry.get(id).is_some_and(|w| w.is_free());
        while is_free(self.core) {
            let Some((task, compile_ms)) = self.next_for(id) else {
                self.steal(id);
                return;
            };
            self.start(task, id, compile_ms, false);
        }
        let takes_ahead = |worker: &Worker| worker.takes_ahead();
        if self.core.send_ahead
            && self.core.registry.get(id).is_some_and(takes_ahead)
            && self.frees_a_slot_soon(id)
            && let Some((task, compile_ms)) = self.next_for(id)
        {
            let dispatch = self.core.jobs.next_dispatch();
            if self.core.registry.book_ahead(id, dispatch) {
                self.core.ahead.insert((dispatch, id));
                // It still waits for a slot, if in another place.
                if let Some(job) = self.core.jobs.get(task) {
                    let left_ms = job.demand.queue_ms_max.saturating_sub(job.waited_ms);
                    let until_ms = self.now_ms + left_ms;
                    self.core.ahead_until.insert((until_ms, dispatch, id));
                }
                self.dispatch(task, id, dispatch, compile_ms, false);
            }
        }
    }

    /// Whether something runs on the worker that does not take too long.
    pub(super) fn frees_a_slot_soon(&self, id: WorkerId) -> bool {
        let Some(worker) = self.core.registry.get(id) else {
            return false;
        };
        worker.running.iter().any(|(dispatch, _)| {
            let attempt = self.core.jobs.running(*dispatch);
            attempt.is_some_and(|attempt| {
                let late = |begun_ms| self.now_ms >= begun_ms + straggles_ms(attempt.expected_ms);
                !attempt.begun_ms.is_some_and(late)
            })
        })
    }

    /// Fails the tasks that were sent ahead and have waited there as long as they may.
    pub(super) fn end_waits_ahead(&mut self) {
        while let Some(&(until_ms, dispatch, worker)) = self.core.ahead_until.first() {
            if until_ms > self.now_ms {
                break;
            }
            self.core.ahead_until.pop_first();
            if self.core.ahead.contains(&(dispatch, worker))
                && let Some(task) = self.take_back(worker, dispatch)
            {
                self.fail(task, failure(Code::Queue, NO_SLOT));
            }
        }
    }

    /// Gives a free slot to the attempt that was sent ahead to the worker.
    pub(super) fn promote(&mut self, id: WorkerId) {
        let core = &mut *self.core;
        let jobs = &core.jobs;
        let peak_bytes = |dispatch| {
            let attempt = jobs.attempt(dispatch);
            attempt.map_or(0, |(job, _)| job.prediction.peak_bytes)
        };
        if let Some(dispatch) = core.registry.promote(id, peak_bytes) {
            core.ahead.remove(&(dispatch, id));
            self.make_room(id);
        }
    }

    /// The queue's next task for a worker that need not wait for another one, and how long
    /// it will take there.
    pub(super) fn next_for(&mut self, id: WorkerId) -> Option<(TaskId, f64)> {
        loop {
            let next = self.take_for(id)?;
            if !self.waits_for_same(next.0) {
                return Some(next);
            }
        }
    }

    fn take_for(&mut self, id: WorkerId) -> Option<(TaskId, f64)> {
        if self.core.queue.is_empty() {
            return None;
        }
        let core = &*self.core;
        let worker = core.registry.get(id)?;
        let digests = worker.digests.clone();
        let patience: Vec<(Digest, Patience)> = digests
            .iter()
            .map(|digest| (*digest, self.patience(digest)))
            .collect();
        let slow = |digest: &Digest| {
            let fastest = core.registry.fastest(digest).unwrap_or(0.0);
            worker.pace.speed * PATIENCE_MIN < fastest
        };
        let now_ms = self.now_ms;
        let expects = core.scheduler.expects();
        let order = match expects && digests.iter().any(slow) {
            true => Order::Cheapest,
            false => Order::Turn,
        };
        // Otherwise what was slow once would get nothing that shows it is not any more.
        let on_trial = expects && worker.is_due_for_trial(now_ms);
        let bears_ms = (TRIAL_WALL_MS_MAX * worker.pace.speed).max(core.hedges_ms / 2.0);
        let core = &mut *self.core;
        let worker = core.registry.get(id)?;
        let room_bytes = worker.room_bytes();
        let jobs = &core.jobs;
        let holders = &core.holders;
        let may = |holder: &Arc<str>| holders.allows(holder, id, now_ms);
        let fits = |task| {
            let Some(job) = jobs.get(task) else {
                return false;
            };
            let known = patience.iter().find(|(d, _)| *d == job.demand.toolchain);
            let Some((_, patience)) = known else {
                return false;
            };
            let cost_ms = job.prediction.cost_ms;
            let waited_ms = job
                .waiting_ms
                .map_or(0, |since| now_ms.saturating_sub(since));
            // What has waited so long may run as long.
            let patience_ms = patience.ms(cost_ms).max(waited_ms as f64);
            !job.excluded.contains(&id)
                && job.prediction.peak_bytes <= room_bytes
                && (on_trial && cost_ms <= bears_ms || cost_ms <= patience_ms * worker.pace.speed)
        };
        let task = core.queue.take(&digests, order, may, fits)?;
        let cost_ms = core.jobs.get(task)?.prediction.cost_ms;
        Some((task, cost_ms / worker.speed_now()))
    }

    /// An idle worker takes over what was sent ahead to a busy one.
    pub(super) fn steal(&mut self, id: WorkerId) {
        let core = &*self.core;
        let Some(idle) = core.registry.get(id) else {
            return;
        };
        let found = core
            .ahead
            .iter()
            .take(AHEAD_LOOKS_MAX)
            .find(|(dispatch, from)| {
                let Some((job, attempt)) = core.jobs.attempt(*dispatch) else {
                    return false;
                };
                let Some(busy) = core.registry.get(*from) else {
                    return false;
                };
                attempt.begun_ms.is_none()
                    && *from != id
                    && !job.excluded.contains(&id)
                    && core.holders.allows(&job.demand.holder, id, self.now_ms)
                    && idle.digests.contains(&job.demand.toolchain)
                    && job.prediction.peak_bytes <= idle.room_bytes()
                    && idle.pace.speed * 1.5 >= busy.pace.speed
            });
        let Some((dispatch, from)) = found.copied() else {
            return;
        };
        if let Some(task) = self.take_back(from, dispatch) {
            let cost_ms = |job: &crate::scheduling::jobs::Job| job.prediction.cost_ms;
            let cost_ms = self.core.jobs.get(task).map_or(0.0, cost_ms);
            let Some(idle) = self.core.registry.get(id) else {
                return self.place(task);
            };
            let compile_ms = cost_ms / idle.speed_now();
            self.start(task, id, compile_ms, false);
        }
    }
}
