//! Pure: second opinions. While a worker idles it compiles some tasks that another one has,
//! and the two objects are compared: what a difference leads to is in
//! [`crate::scheduling::disputes`].
//!
//! Nobody waits for it, and it takes no slot that a task could have: workers with one count as
//! free, and give it up when a task comes. Its inputs are the client's, sent once more beside
//! the first worker's; once it has them it may go on after the client has its result. Only a
//! suspect's results wait for it, and not for long.

use hg_proto::wire::digest::Digest;

use super::stragglers::late_ms;
use super::{Action, Step};
use crate::scheduling::id::{TaskId, Who, WorkerId};
use crate::scheduling::jobs::AttemptStart;
use crate::scheduling::seconds::{First, Second};

/// What the attempt is called on the client's stream, where others are 1, 2, ...
pub const NUMBER: u32 = u32::MAX;
/// Workers of each class of speed that are looked at.
const LOOKS_MAX: usize = 8;
/// The part of the compile's time for which its inputs may be expected to travel: the client
/// sends them once more, beside what builds wait for.
const TRAVEL_SHARE_MAX: f64 = 0.25;
/// Milliseconds for which they may in any case.
const TRAVEL_MS: f64 = 25.0;
/// A suspect's result waits so many milliseconds for a second opinion, or as long again as it
/// took: what its worker says of its speed, or the compile's cost by its word, does not count.
const HELD_MS: u64 = 3_000;

/// What becomes of a result that is there.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fate {
    /// Its client shall check it.
    pub(super) audit: bool,
    /// It waits for the second opinion.
    pub(super) is_held: bool,
}

impl Step<'_> {
    /// A task's first attempt has begun: another worker may compile it too.
    pub(super) fn seek_second(&mut self, task: TaskId) {
        let Some(first) = self.wants_second(task) else {
            return;
        };
        let Some((worker, compile_ms)) = self.idle_worker(task, &first) else {
            return;
        };
        let (Some(other), Some(job)) = (self.core.registry.get(worker), self.core.jobs.get(task))
        else {
            return;
        };
        let late_ms = late_ms(compile_ms as u64, job.prediction.known);
        let peak_bytes = job.prediction.peak_bytes;
        let who = other.spec.who();
        let (holder, source) = (job.demand.holder.clone(), job.demand.profile.source);
        let left_ms = job.deadline_ms.saturating_sub(self.now_ms);
        let dispatch = self.core.jobs.spare_dispatch();
        self.core.registry.lend(worker, dispatch);
        let second = Second {
            worker,
            who,
            dispatch,
            holder,
            source,
            until_ms: self.now_ms + late_ms,
            since_ms: self.now_ms,
            has_inputs: false,
            made: None,
            first: None,
        };
        self.core.seconds.insert(task, second);
        self.actions.push(Action::DispatchSecond(AttemptStart {
            task,
            worker,
            dispatch,
            number: NUMBER,
            hedge: true,
            queue_ms: 0,
            late_ms,
            slower: false,
            peak_bytes,
            left_ms,
        }));
    }

    /// Who began the task. `None`: nobody else shall compile it.
    fn wants_second(&mut self, task: TaskId) -> Option<Who> {
        let core = &mut *self.core;
        let job = core.jobs.get(task)?;
        // Of toolchains that pass for the same the worst difference is one of a few known
        // bytes, which the client puts right.
        let can_compare =
            !job.demand.delivers && !job.demand.varies && job.demand.equals.is_empty();
        if job.attempts != 1 || !can_compare || !core.queue.is_empty() {
            return None;
        }
        let (_, worker) = job.running.iter().next()?;
        let first = core.registry.get(worker)?.spec.who();
        let (holder, source) = (&job.demand.holder, job.demand.profile.source);
        let random = core.scheduler.random();
        let disputes = &core.audits.disputes;
        let wants = disputes.wants_second(&first, holder, source, random);
        wants.then_some(first)
    }

    /// Of some workers that idle and are not `first` the one with most slots to spare, and
    /// how many milliseconds it takes.
    fn idle_worker(&mut self, task: TaskId, first: &Who) -> Option<(WorkerId, f64)> {
        let job = self.core.jobs.get(task)?;
        let excluded = self.excluded(job);
        let core = &mut *self.core;
        let random = core.scheduler.random();
        let job = core.jobs.get(task)?;
        let (profile, prediction) = (job.demand.profile, job.prediction);
        let mut best: Option<(i64, WorkerId, f64)> = None;
        for (_, offers) in core.registry.free(&job.demand.toolchain) {
            let from = random.usize(..offers.len());
            let round = offers[from..].iter().chain(&offers[..from]);
            for offer in round.take(LOOKS_MAX) {
                let Some(other) = core.registry.get(offer.worker) else {
                    continue;
                };
                let compile_ms = prediction.cost_ms / offer.speed_now;
                let travel_ms = profile.travel_bytes as f64 / offer.reach;
                let beside = other.seconds.len() as u64 + 2;
                let may = other.idles()
                    && other.spec.who() != *first
                    && !excluded.contains(&offer.worker)
                    && offer.room_bytes >= prediction.peak_bytes.saturating_mul(beside)
                    && travel_ms <= TRAVEL_MS.max(TRAVEL_SHARE_MAX * compile_ms);
                let spare = other.spare_slots();
                if may && best.is_none_or(|(most, ..)| spare > most) {
                    best = Some((spare, offer.worker, compile_ms));
                }
            }
        }
        best.map(|(_, worker, compile_ms)| (worker, compile_ms))
    }

    /// The task has its result, by `who`, all of which is `made`. Gives what becomes of it
    /// beyond `fate`.
    pub(super) fn compare_second(
        &mut self,
        task: TaskId,
        who: Who,
        made: Option<Digest>,
        mut fate: Fate,
    ) -> Fate {
        let Some(mut second) = self.core.seconds.remove(task) else {
            return fate;
        };
        // After a retry it may be the same worker.
        let Some(made) = made.filter(|_| who != second.who) else {
            self.cancel_second(&second);
            return fate;
        };
        if let Some(other) = second.made {
            fate.audit |= self.compare(task, &second, who, made == other, !fate.audit);
            return fate;
        }
        if !second.has_inputs {
            self.cancel_second(&second);
            return fate;
        }
        fate.is_held = !fate.audit && self.core.audits.disputes.is_suspect(&who);
        if fate.is_held {
            let took_ms = self.now_ms.saturating_sub(second.since_ms);
            second.until_ms = self.now_ms + took_ms.max(HELD_MS);
        }
        second.first = Some(First {
            who,
            made,
            is_held: fate.is_held,
        });
        self.core.seconds.insert(task, second);
        fate
    }

    /// Gives whether the client shall check `first`'s result; `may_ask`: it does not have it
    /// yet, and is not going to anyway.
    fn compare(
        &mut self,
        task: TaskId,
        second: &Second,
        first: Who,
        same: bool,
        may_ask: bool,
    ) -> bool {
        let audits = &mut self.core.audits;
        let mut are_suspects = false;
        let mut asks = false;
        if same {
            audits.disputes.agree(&first);
        } else {
            are_suspects = audits.disputes.differ(&first, &second.who);
            let (holder, source) = (&second.holder, second.source);
            asks =
                may_ask && audits.dispute(task, holder, source, first.clone(), second.who.clone());
        }
        self.actions.push(Action::NoteSecond {
            same,
            suspects: are_suspects.then(|| (first, second.who.clone())),
        });
        asks
    }

    /// The compiler's answer, or none, of an attempt that gives a second opinion.
    pub(super) fn second_done(&mut self, task: TaskId, worker: WorkerId, made: Option<Digest>) {
        let is_its = |second: &Second| second.worker == worker && second.made.is_none();
        if !self.core.seconds.get(task).is_some_and(is_its) {
            return;
        }
        let Some(mut second) = self.core.seconds.remove(task) else {
            return;
        };
        self.core.registry.give_back(worker, second.dispatch);
        match (second.first.take(), made) {
            (None, None) => {}
            (None, Some(_)) => {
                second.made = made;
                self.core.seconds.insert(task, second);
            }
            (Some(first), None) => self.release(task, &first, false),
            (Some(first), Some(made)) => {
                let (who, same) = (first.who.clone(), first.made == made);
                let audit = self.compare(task, &second, who, same, first.is_held);
                self.release(task, &first, audit);
            }
        }
    }

    /// The client gets `first`'s result, if that was held.
    fn release(&mut self, task: TaskId, first: &First, audit: bool) {
        if first.is_held {
            self.actions.push(Action::ReleaseTask { task, audit });
        }
    }

    fn cancel_second(&mut self, second: &Second) {
        if second.made.is_some() {
            return;
        }
        let (worker, dispatch) = (second.worker, second.dispatch);
        self.core.registry.give_back(worker, dispatch);
        self.actions
            .push(Action::CancelDispatch { worker, dispatch });
    }

    /// No second opinion of the task is wanted any more.
    pub(super) fn end_second(&mut self, task: TaskId) {
        if let Some(second) = self.core.seconds.remove(task) {
            self.cancel_second(&second);
            if let Some(first) = &second.first {
                if first.is_held && self.now_ms >= second.until_ms {
                    self.core.audits.disputes.waited_in_vain(&first.who);
                }
                self.release(task, first, false);
            }
        }
    }

    /// No second opinion of the task is wanted any more, unless it can do without its client.
    pub(super) fn client_is_gone(&mut self, task: TaskId) {
        let second = self.core.seconds.get(task);
        let outlives = |second: &Second| second.first.as_ref().is_some_and(|first| !first.is_held);
        if !second.is_some_and(outlives) {
            self.end_second(task);
        }
    }

    /// Ends what was not done in time.
    pub(super) fn end_due_seconds(&mut self) {
        while let Some((until_ms, task)) = self.core.seconds.next_due() {
            if until_ms > self.now_ms {
                break;
            }
            self.end_second(task);
        }
    }

    /// Ends all, as with the process.
    pub(super) fn end_seconds(&mut self) {
        while let Some((_, task)) = self.core.seconds.next_due() {
            self.end_second(task);
        }
    }

    /// The worker gives up what only is compared.
    pub(super) fn end_seconds_on(&mut self, worker: WorkerId) {
        let seconds = self.core.registry.get(worker).map(|w| w.seconds.clone());
        for dispatch in seconds.unwrap_or_default() {
            if let Some(task) = self.core.seconds.task(dispatch) {
                self.end_second(task);
            }
        }
    }

    /// A task has taken a slot of the worker, which gives up what only is compared if it has
    /// no other one for that; and all of it while its machine can't bear all slots.
    pub(super) fn make_room(&mut self, worker: WorkerId) {
        let Some(busy) = self.core.registry.get(worker) else {
            return;
        };
        if busy.seconds.is_empty() {
            return;
        }
        if busy.slots() < busy.spec.slots {
            return self.end_seconds_on(worker);
        }
        while let Some(busy) = self.core.registry.get(worker)
            && busy.spare_slots() < 0
            && let Some(dispatch) = busy.seconds.last().copied()
        {
            match self.core.seconds.task(dispatch) {
                Some(task) => self.end_second(task),
                None => self.core.registry.give_back(worker, dispatch),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use hg_proto::wire::limits::HEARTBEAT_MS;

    use super::*;
    use crate::bounds::TICK_MS;
    use crate::scheduling::audits::Verdict;
    use crate::scheduling::coordinator::{Coordinator, Event, Settings};
    use crate::scheduling::id::DispatchId;
    use crate::scheduling::jobs::Demand;
    use crate::scheduling::predictor::{Profile, Spent};
    use crate::scheduling::worker::WorkerSpec;

    /// One of so many objects of the bad worker has a wrong bit.
    const BAD_EVERY: u64 = 100;
    /// The worker that makes them.
    const BAD: WorkerId = WorkerId(0);

    /// Grids that are played: some, or as many as HG_AUDIT_GRIDS says.
    fn grids() -> u64 {
        let said = std::env::var("HG_AUDIT_GRIDS").ok();
        said.and_then(|said| said.parse().ok()).unwrap_or(12)
    }

    /// How the bad worker goes about it.
    #[derive(Clone, Copy, PartialEq)]
    enum Bad {
        /// It compiles as others do, and turns a bit now and then.
        Flips,
        /// The same after so many results without fault.
        FlipsAfter(u64),
        /// It answers bad ones at once, so that no other is ever there before.
        AtOnce,
        /// Its objects are good. All sources of which the number divides by so many make
        /// another object each time.
        Never(u64),
        /// The second opinions that it gives are bad, and come when the result is there.
        Accuses,
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum End {
        /// After so many results.
        PutOut(u64),
        /// It had as many as it might have had.
        Escaped,
        /// It was thought to be slower than others that idled, and got nothing.
        Unused,
    }

    /// A grid whose workers compile at the same speed, give or take.
    struct World {
        core: Coordinator,
        random: fastrand::Rng,
        bad: Bad,
        now_ms: u64,
        due: BTreeMap<(u64, u64), Event>,
        /// The key in `due` of each attempt's end.
        ends: HashMap<DispatchId, (u64, u64)>,
        seconds: u64,
        submitted: u64,
        results: HashMap<WorkerId, u64>,
        /// What counts of a task, and whether it is right.
        is_right: HashMap<DispatchId, bool>,
        dispatches: HashMap<(TaskId, u32), DispatchId>,
        /// Checks that clients were asked for, and those of them that a dispute led to.
        audits: u64,
        held: HashMap<TaskId, (u64, bool)>,
        held_ms: u64,
        held_most_ms: u64,
    }

    impl World {
        fn new(seed: u64, workers: u64, slots: u32, bad: Bad) -> World {
            let settings = Settings {
                seed,
                // Those by chance alone would not find it.
                audit_every: 1 << 40,
                idle_audit_share: 0.6,
                ..Settings::default()
            };
            let mut world = World {
                core: Coordinator::new(settings),
                random: fastrand::Rng::with_seed(seed + 1_000_000),
                bad,
                now_ms: 0,
                due: BTreeMap::new(),
                ends: HashMap::new(),
                seconds: 0,
                submitted: 0,
                results: HashMap::new(),
                is_right: HashMap::new(),
                dispatches: HashMap::new(),
                audits: 0,
                held: HashMap::new(),
                held_ms: 0,
                held_most_ms: 0,
            };
            for worker in (0..workers).map(WorkerId) {
                let spec = Box::new(WorkerSpec {
                    instance: u128::from(worker.0).to_be_bytes(),
                    name: format!("w{}", worker.0),
                    slots,
                    cores: slots,
                    digests: vec![Digest::of(b"gcc")],
                    ..WorkerSpec::default()
                });
                world.tell(Event::WorkerJoined { worker, spec });
                world.after(u64::from(HEARTBEAT_MS), heard(worker));
            }
            world.after(TICK_MS, Event::Tick);
            world
        }

        fn after(&mut self, ms: u64, event: Event) -> (u64, u64) {
            let key = (self.now_ms + ms, self.random.u64(..));
            self.due.insert(key, event);
            key
        }

        fn submit(&mut self) -> Vec<Action> {
            self.submitted += 1;
            let demand = Demand {
                holder: "alice".into(),
                client: "alice".into(),
                toolchain: Digest::of(b"gcc"),
                wanted: Default::default(),
                shipment: None,
                equals: Vec::new(),
                same: None,
                varies: false,
                delivers: false,
                bytes: 100,
                queue_ms_max: 50_000,
                compile_ms_max: 60_000,
                task_ms_max: 10_000_000,
                client_speed: 0.0,
                profile: Profile {
                    source: self.submitted % 300,
                    cxx: false,
                    input_bytes: 100_000,
                    travel_bytes: 20_000,
                },
            };
            let task = TaskId(self.submitted);
            self.tell(Event::TaskSubmitted { task, demand })
        }

        /// Tells the coordinator, and does what it wants done.
        fn tell(&mut self, event: Event) -> Vec<Action> {
            let actions = self.core.handle(event, self.now_ms);
            for action in &actions {
                match action {
                    Action::Dispatch(start) | Action::DispatchSecond(start) => self.begin(start),
                    Action::CancelDispatch { dispatch, .. } => {
                        if let Some(key) = self.ends.remove(dispatch) {
                            self.due.remove(&key);
                        }
                    }
                    Action::FinishTask {
                        task,
                        audit,
                        held,
                        worker,
                        attempt,
                        ..
                    } => {
                        *self.results.entry(*worker).or_default() += 1;
                        let dispatch = self.dispatches[&(*task, *attempt)];
                        let same = self.is_right[&dispatch];
                        match held {
                            true => _ = self.held.insert(*task, (self.now_ms, same)),
                            false => self.client_has(*task, *audit, same),
                        }
                    }
                    Action::ReleaseTask { task, audit } => {
                        let (since_ms, same) = self.held.remove(task).expect("a held one");
                        let held_ms = self.now_ms - since_ms;
                        self.held_ms += held_ms;
                        self.held_most_ms = self.held_most_ms.max(held_ms);
                        self.client_has(*task, *audit, same);
                    }
                    _ => {}
                }
            }
            actions
        }

        fn client_has(&mut self, task: TaskId, audit: bool, same: bool) {
            // Its stream ends, and it says nothing of what its compiler makes anew each time.
            let cancelled = Event::TaskCancelled {
                task,
                failure: Default::default(),
            };
            self.after(1, cancelled);
            self.audits += u64::from(audit);
            if audit && !self.is_noisy(task) {
                let holder = "alice".into();
                self.after(500, Event::AuditAnswered { task, holder, same });
            }
        }

        fn is_noisy(&self, task: TaskId) -> bool {
            matches!(self.bad, Bad::Never(every) if (task.0 % 300).is_multiple_of(every))
        }

        fn begin(&mut self, start: &AttemptStart) {
            let (worker, dispatch) = (start.worker, start.dispatch);
            let is_second = start.number == NUMBER;
            let chance = worker == BAD && self.random.u64(0..BAD_EVERY) == 0;
            let had = self.results.get(&BAD).copied().unwrap_or(0);
            let bad = match self.bad {
                Bad::Flips | Bad::AtOnce => chance,
                Bad::FlipsAfter(results) => chance && had >= results,
                Bad::Never(_) => false,
                Bad::Accuses => worker == BAD && is_second,
            };
            let mut object = vec![start.task.0 as u8, u8::from(bad)];
            if self.is_noisy(start.task) {
                object.extend(self.random.u64(..).to_le_bytes());
            }
            let made = Some(Digest::of(&object));
            let source_ms = 300 + 37 * (start.task.0 % 300 % 41);
            let mut wall_ms = source_ms as f64 * (0.9 + 0.2 * self.random.f64());
            if bad && self.bad == Bad::AtOnce {
                wall_ms = 1.0;
            }
            if bad && self.bad == Bad::Accuses {
                wall_ms *= 1.3;
            }
            self.is_right.insert(dispatch, !bad);
            self.dispatches.insert((start.task, start.number), dispatch);
            self.seconds += u64::from(is_second);
            let needs = Event::NeedReceived {
                worker,
                dispatch,
                inputs: false,
            };
            self.after(2, needs);
            let runs = Event::CompileRuns {
                worker,
                dispatch,
                cpu_us: None,
                ended: false,
            };
            self.after(5, runs);
            let spent = Spent {
                wall_ms,
                cpu_ms: 0.0,
                peak_bytes: 50 << 20,
                output_bytes: 1_000,
                beside_ms: 5.0,
            };
            let end = Event::TaskDone {
                worker,
                dispatch,
                spent,
                made,
            };
            let key = self.after(wall_ms as u64 + 5, end);
            self.ends.insert(dispatch, key);
        }

        /// Keeps `jobs` tasks going until a worker is put out, which may be the bad one alone, or
        /// that has had so many results since it was bad, or has got nothing for long.
        fn run(&mut self, jobs: usize, results_max: u64) -> End {
            let from = match self.bad {
                Bad::FlipsAfter(results) => results,
                _ => 0,
            };
            loop {
                while self.core.unfinished() < jobs {
                    self.submit();
                }
                let next = self.due.pop_first();
                let ((at_ms, _), event) = next.expect("a heartbeat");
                self.now_ms = at_ms;
                match &event {
                    Event::Tick => {
                        self.after(TICK_MS, Event::Tick);
                    }
                    Event::WorkerHeard { worker, .. } => {
                        let again = heard(*worker);
                        self.after(u64::from(HEARTBEAT_MS), again);
                    }
                    _ => {}
                }
                let had = self.results.get(&BAD).copied().unwrap_or(0);
                for action in self.tell(event) {
                    if let Action::NoteAudit {
                        verdict: Verdict::Differs { worker, .. },
                    } = action
                    {
                        assert_eq!(worker.name, "w0", "a good one was put out");
                        return End::PutOut(had - from.min(had));
                    }
                }
                if had >= from + results_max {
                    return End::Escaped;
                }
                if self.submitted >= 4 * (from + results_max) {
                    return End::Unused;
                }
            }
        }
    }

    fn heard(worker: WorkerId) -> Event {
        Event::WorkerHeard {
            worker,
            vitals: Some(Default::default()),
        }
    }

    /// Of `grids` with a bad worker one in a hundred at most, and one, let it have a thousand
    /// results.
    fn assert_few(grids: u64, workers: u64, jobs: usize, bad: Bad) {
        let run = |seed| World::new(seed, workers, 4, bad).run(jobs, 1_000);
        let ends: Vec<End> = (0..grids).map(run).collect();
        let mut results: Vec<u64> = ends
            .iter()
            .filter_map(|end| match end {
                End::PutOut(results) => Some(*results),
                _ => None,
            })
            .collect();
        results.sort_unstable();
        let count = |end| ends.iter().filter(|other| **other == end).count();
        let (escaped, unused) = (count(End::Escaped), count(End::Unused));
        eprintln!(
            "{workers} workers of 4 slots, {jobs} tasks at once: {} of {grids} put it out, half of \
             them within {:?} results; in {escaped} it had 1000, in {unused} it got nothing more",
            results.len(),
            results.get(results.len() / 2)
        );
        assert!(results.len() * 4 > ends.len() * 2, "{ends:?}");
        assert!(escaped <= 1 + ends.len() / 100, "{ends:?}");
    }

    #[test]
    fn a_worker_that_spoils_one_object_in_a_hundred_is_put_out_within_a_thousand() {
        assert_few(grids(), 2, 4, Bad::Flips);
        assert_few(grids(), 4, 8, Bad::Flips);
    }

    #[test]
    fn so_is_one_whose_bad_objects_come_before_any_other() {
        assert_few(grids(), 2, 4, Bad::AtOnce);
    }

    #[test]
    fn so_is_one_that_was_good_for_long() {
        assert_few(grids() / 4, 2, 4, Bad::FlipsAfter(1_000));
    }

    #[test]
    fn a_grid_that_has_work_for_all_has_no_second_opinions() {
        let mut busy = World::new(1, 2, 4, Bad::Flips);
        busy.run(40, 100);
        assert!(busy.results.values().sum::<u64>() >= 100);
        assert!(busy.seconds <= 8, "{}", busy.seconds);
    }

    #[test]
    fn compilers_that_make_another_object_each_time_put_nobody_out_and_cost_little() {
        for every in [1, 10] {
            let mut world = World::new(1, 2, 4, Bad::Never(every));
            assert_ne!(world.run(4, 800), End::Unused);
            let results: u64 = world.results.values().sum();
            eprintln!(
                "{results} results: {} checks, {} ms held",
                world.audits, world.held_ms
            );
            assert!(world.audits <= 26 + results / 500, "{}", world.audits);
            // A hundredth of what they took.
            let took_ms = results * 1_000;
            assert!(world.held_ms * 100 < took_ms, "{} ms", world.held_ms);
        }
    }

    #[test]
    fn who_accuses_others_puts_nobody_out_and_delays_little() {
        let mut world = World::new(1, 3, 4, Bad::Accuses);
        assert_eq!(world.run(4, 300), End::Escaped);
        let results: u64 = world.results.values().sum();
        eprintln!(
            "{results} results: {} checks, {} ms held, {} ms at most",
            world.audits, world.held_ms, world.held_most_ms
        );
        assert!(world.held_most_ms < 5_000, "{}", world.held_most_ms);
    }

    #[test]
    fn a_second_opinion_takes_no_slot_that_a_task_could_have() {
        for seed in 0..20 {
            let mut world = World::new(seed, 3, 2, Bad::Flips);
            for task in 1..=6 {
                let actions = world.submit();
                let is_start = |action: &Action| matches!(action, Action::Dispatch(_));
                assert!(actions.iter().any(is_start), "{seed}: task {task} waits");
            }
            let before = world.seconds;
            world.submit();
            assert_eq!(world.seconds, before, "while a task waits");
            assert_eq!(world.core.queued(), 1);
            let mut workers = world.core.registry().iter();
            assert!(workers.all(|(_, worker)| worker.seconds.is_empty()));
        }
    }

    #[test]
    fn it_ends_with_its_task_and_with_its_worker() {
        let mut seen = 0;
        for seed in 0..20 {
            let mut world = World::new(seed, 2, 4, Bad::Flips);
            world.submit();
            if world.seconds == 0 {
                continue;
            }
            seen += 1;
            let end = match seed % 2 {
                0 => Event::TaskCancelled {
                    task: TaskId(1),
                    failure: Default::default(),
                },
                _ => Event::WorkerHeard {
                    worker: WorkerId(0),
                    vitals: None,
                },
            };
            world.tell(end);
            // A machine that is short of something has no room for what nobody waits for.
            for worker in [WorkerId(0), WorkerId(1)] {
                let vitals = crate::scheduling::registry::Vitals {
                    slots: Some(3),
                    ..Default::default()
                };
                world.tell(Event::WorkerHeard {
                    worker,
                    vitals: Some(vitals),
                });
            }
            let registry = world.core.registry();
            assert!(registry.iter().all(|(_, worker)| worker.seconds.is_empty()));
            assert!(world.core.seconds.next_due().is_none());
        }
        assert!(seen > 5, "{seen}");
    }
}
