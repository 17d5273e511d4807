//! One place for all that is shown of the grid's work: tasks, builds, holders, reasons,
//! events and the last hour. The hub tells what happens, with the time; REST API, live
//! messages and metrics read. Everything in it is bounded.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;

use crate::monitor::builds::{BuildReport, Builds, Slow};
use crate::monitor::fallbacks::{Fallbacks, Lost};
use crate::monitor::holders::Holders;
use crate::monitor::ring::Ring;
use crate::monitor::series::{Level, Series};
use crate::monitor::tasks::{EndedTask, OpenAttempt, OpenTask, Stage, TaskName};

/// Tasks that have ended and are remembered.
const ENDED_MAX: usize = 4_096;
/// Events that are remembered.
const EVENTS_MAX: usize = 1_024;
/// Tasks of one worker that have ended and are remembered.
const LANE_MAX: usize = 8;
/// Loads of one worker that are remembered: one each minute of an hour.
const LOADS_MAX: usize = 60;
/// Points of the last hour between two of these.
const LOAD_EVERY: u64 = 6;
/// Seconds over which the rate of compiles is taken.
const RATE_S: u64 = 10;
/// Different toolchains for which wanted slots are counted one by one.
const TOOLCHAINS_MAX: usize = 64;
const DAY_MS: u64 = 86_400_000;

/// Something that happened to the grid and is worth a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GridEvent {
    /// Where it stands among all: 1, 2, ...
    pub sequence: u64,
    /// When it happened.
    pub unix_ms: u64,
    /// What it was: `worker-joined`, `worker-left`, `circuit-open`, ...
    pub kind: &'static str,
    /// The worker that it is about; empty: none.
    pub worker: Arc<str>,
    /// More, in words.
    pub detail: Arc<str>,
}

/// How a task ended.
#[derive(Debug)]
pub struct Ending<'a> {
    /// `ok`, `compile_error`, or the name of a failure.
    pub outcome: &'a str,
    /// What more there is to say.
    pub detail: &'a str,
    /// The attempt whose result it is; `None`: it has none.
    pub attempt: Option<u32>,
}

/// What is known of a worker's work.
#[derive(Debug, Default)]
struct Lane {
    last: VecDeque<Arc<EndedTask>>,
    last_error: Arc<str>,
    circuit: &'static str,
    /// One-minute load averages in percent of its cores, the newest last.
    loads: VecDeque<u8>,
    audits_same: u64,
    audits_different: u64,
}

/// A worker's part of the listings.
#[derive(Debug, Clone, Default)]
pub struct LaneView {
    /// Why its last failed attempt failed; empty: none did.
    pub last_error: Arc<str>,
    /// Its results that were the same as their clients' own compilers made.
    pub audits_same: u64,
    /// Its results that were not.
    pub audits_different: u64,
}

/// Sums since midnight UTC.
#[derive(Debug, Default, Clone, Copy)]
struct Today {
    day: u64,
    saved_ms: u64,
    compile_ms: u64,
}

/// Sums and rates, for the status.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sums {
    /// Compiles a second that ended with an answer, in thousandths, over the last seconds.
    pub rate_milli: u64,
    /// Milliseconds of compilers that clients' caches saved since midnight UTC.
    pub saved_today_ms: u64,
    /// Milliseconds that workers compiled since midnight UTC.
    pub compiled_today_ms: u64,
}

/// See the top of the file.
#[derive(Debug)]
pub struct Aggregator {
    /// The time of the Unix epoch at the caller's zero.
    epoch_ms: u64,
    /// Tasks that have not ended, and the builds that they are of.
    open: HashMap<u64, (OpenTask, u64)>,
    /// Attempts that go on, and their tasks.
    attempts: HashMap<u64, u64>,
    ended: Ring<Arc<EndedTask>>,
    events: Ring<GridEvent>,
    lanes: HashMap<Arc<str>, Lane>,
    /// Tasks that have not ended, by toolchain; as many slots are wanted.
    wanted: BTreeMap<Arc<str>, u64>,
    builds: Builds,
    holders: Holders,
    fallbacks: Fallbacks,
    series: Series,
    points: u64,
    today: Today,
    /// Of each of the last seconds: which one, and the compiles that ended in it.
    seconds: [(u64, u64); RATE_S as usize + 1],
}

impl Aggregator {
    /// Nothing has happened; the caller's clock is at zero at `epoch_ms` of the Unix epoch.
    /// `weights` are those of holders.
    pub fn new(epoch_ms: u64, weights: HashMap<String, u32>) -> Self {
        Aggregator {
            epoch_ms,
            open: HashMap::new(),
            attempts: HashMap::new(),
            ended: Ring::new(ENDED_MAX),
            events: Ring::new(EVENTS_MAX),
            lanes: HashMap::new(),
            wanted: BTreeMap::new(),
            builds: Builds::default(),
            holders: Holders::new(weights),
            fallbacks: Fallbacks::default(),
            series: Series::default(),
            points: 0,
            today: Today::default(),
            seconds: [(0, 0); RATE_S as usize + 1],
        }
    }

    /// Milliseconds of the Unix epoch at `now_ms` of the caller's clock.
    pub fn unix_ms(&self, now_ms: u64) -> u64 {
        self.epoch_ms + now_ms
    }

    fn today(&mut self, now_ms: u64) -> &mut Today {
        let day = self.unix_ms(now_ms) / DAY_MS;
        if self.today.day != day {
            self.today = Today {
                day,
                ..Today::default()
            };
        }
        &mut self.today
    }

    /// A task was submitted.
    pub fn submitted(&mut self, task_id: u64, name: TaskName, now_ms: u64) {
        let unix_ms = self.unix_ms(now_ms);
        let build = self.builds.submitted(&name.holder, &name.client, unix_ms);
        self.holders.submitted(&name.holder, unix_ms);
        let is_counted = self.wanted.contains_key(&name.toolchain);
        let toolchain = match is_counted || self.wanted.len() < TOOLCHAINS_MAX {
            true => name.toolchain,
            false => "other".into(),
        };
        *self.wanted.entry(toolchain.clone()).or_default() += 1;
        let task = OpenTask {
            task_id,
            source: name.source,
            client: name.client,
            holder: name.holder,
            toolchain,
            worker: Arc::default(),
            stage: Stage::Queued,
            attempt: 0,
            hedged: false,
            submitted_unix_ms: unix_ms,
            started_unix_ms: 0,
            compiling_unix_ms: 0,
            attempts: Vec::new(),
        };
        self.open.insert(task_id, (task, build));
    }

    /// An attempt of a task began.
    pub fn started(&mut self, task_id: u64, attempt: OpenAttempt, now_ms: u64) {
        let unix_ms = self.unix_ms(now_ms);
        let attempt = OpenAttempt {
            worker: self.worker_name(&attempt.worker),
            ..attempt
        };
        let Some((task, _)) = self.open.get_mut(&task_id) else {
            return;
        };
        self.attempts.insert(attempt.dispatch, task_id);
        task.attempts.push(attempt.clone());
        task.hedged |= attempt.is_hedge;
        if task.stage == Stage::Queued {
            self.holders.queued(&task.holder, false, unix_ms);
        } else if attempt.is_hedge {
            // The first one is shown until it ends.
            return;
        }
        task.worker = attempt.worker;
        task.attempt = attempt.number;
        task.stage = Stage::Transfer;
        task.started_unix_ms = unix_ms;
        task.compiling_unix_ms = 0;
    }

    /// The compiler of an attempt has begun.
    pub fn compiling(&mut self, dispatch: u64, now_ms: u64) {
        let unix_ms = self.unix_ms(now_ms);
        let task = self.attempts.get(&dispatch);
        if let Some((task, _)) = task.and_then(|task| self.open.get_mut(task))
            && task.stage == Stage::Transfer
            && task
                .attempts
                .iter()
                .any(|it| it.dispatch == dispatch && it.number == task.attempt)
        {
            task.stage = Stage::Compile;
            task.compiling_unix_ms = unix_ms;
        }
    }

    /// An attempt is over without an answer of its compiler: why, if that is its worker's to
    /// answer for. Its task may be tried again.
    pub fn attempt_over(&mut self, dispatch: u64, why: Option<&str>, now_ms: u64) {
        let unix_ms = self.unix_ms(now_ms);
        let Some(task) = self.attempts.remove(&dispatch) else {
            return;
        };
        let Some((task, _)) = self.open.get_mut(&task) else {
            return;
        };
        let Some(at) = task.attempts.iter().position(|it| it.dispatch == dispatch) else {
            return;
        };
        let over = task.attempts.remove(at);
        if let Some(why) = why
            && let Some(lane) = self.lanes.get_mut(&over.worker)
        {
            lane.last_error = why.into();
        }
        match task.attempts.last() {
            None => {
                task.stage = Stage::Queued;
                self.holders.queued(&task.holder, true, unix_ms);
            }
            Some(left) if task.attempt == over.number => {
                task.worker = left.worker.clone();
                task.attempt = left.number;
            }
            Some(_) => {}
        }
    }

    /// A task ended. Gives whether an attempt won that was begun beside another.
    pub fn task_ended(&mut self, task_id: u64, ending: &Ending<'_>, now_ms: u64) -> bool {
        let Some((task, build)) = self.open.remove(&task_id) else {
            return false;
        };
        let ended_unix_ms = self.unix_ms(now_ms);
        for attempt in &task.attempts {
            self.attempts.remove(&attempt.dispatch);
        }
        let mut attempts = task.attempts.iter();
        let winner = attempts.find(|it| Some(it.number) == ending.attempt);
        let worker = winner.map_or(&task.worker, |it| &it.worker).clone();
        let has_won = winner.is_some_and(|it| it.is_hedge);
        let started = match task.started_unix_ms {
            0 => ended_unix_ms,
            started => started,
        };
        let compiling = match (task.compiling_unix_ms, ending.attempt) {
            // One so short that nobody said that it began.
            (0, Some(_)) => started,
            (0, None) => ended_unix_ms,
            (compiling, _) => compiling,
        };
        let has_answer = ending.attempt.is_some();
        let ended = EndedTask {
            sequence: 0,
            task_id,
            worker,
            outcome: ending.outcome.into(),
            detail: ending.detail.into(),
            attempts: winner.map_or(task.attempt, |it| it.number.max(task.attempt)),
            hedged: task.hedged,
            ended_unix_ms,
            queue_ms: started.saturating_sub(task.submitted_unix_ms),
            transfer_ms: compiling.saturating_sub(started),
            compile_ms: ended_unix_ms.saturating_sub(compiling),
            wall_ms: ended_unix_ms.saturating_sub(task.submitted_unix_ms),
            source: task.source,
            client: task.client,
            holder: task.holder,
        };
        if task.stage == Stage::Queued {
            self.holders.queued(&ended.holder, false, ended_unix_ms);
        }
        if let Some(wanted) = self.wanted.get_mut(&task.toolchain) {
            *wanted = wanted.saturating_sub(1);
            if *wanted == 0 {
                self.wanted.remove(&task.toolchain);
            }
        }
        let worked_ms = ended.transfer_ms + ended.compile_ms;
        let slow = Slow {
            source: ended.source.clone(),
            worker: ended.worker.clone(),
            wall_ms: ended.wall_ms,
        };
        self.builds
            .ended(build, has_answer, slow, worked_ms, ended_unix_ms);
        self.holders
            .ended(&ended.holder, ended.queue_ms, worked_ms, ended_unix_ms);
        self.series.ended(has_answer, ended.wall_ms);
        if has_answer {
            self.today(now_ms).compile_ms += ended.compile_ms;
            self.count_second(now_ms / 1_000);
        }
        self.remember(ended);
        has_won
    }

    fn remember(&mut self, mut ended: EndedTask) {
        let mut kept = None;
        self.ended.push(|sequence| {
            ended.sequence = sequence;
            let ended = Arc::new(ended);
            kept = Some(ended.clone());
            ended
        });
        if let Some(ended) = kept
            && let Some(lane) = self.lanes.get_mut(&ended.worker)
        {
            if lane.last.len() >= LANE_MAX {
                lane.last.pop_front();
            }
            lane.last.push_back(ended);
        }
    }

    fn count_second(&mut self, second: u64) {
        let slot = &mut self.seconds[(second % (RATE_S + 1)) as usize];
        if slot.0 != second {
            *slot = (second, 0);
        }
        slot.1 += 1;
    }

    /// Compiles a second over the last whole seconds, in thousandths.
    fn rate_milli(&self, now_ms: u64) -> u64 {
        let second = now_ms / 1_000;
        let whole = second.saturating_sub(RATE_S)..second;
        let span_s = (whole.end - whole.start).max(1);
        let counted = self.seconds.iter().filter(|(at, _)| whole.contains(at));
        counted.map(|(_, count)| count * 1_000).sum::<u64>() / span_s
    }

    /// The name that is shared by all that is known of the worker.
    fn worker_name(&self, worker: &str) -> Arc<str> {
        let known = self.lanes.get_key_value(worker);
        known.map_or_else(|| worker.into(), |(name, _)| name.clone())
    }

    /// A worker is there.
    pub fn worker_joined(&mut self, worker: &str, detail: &str, now_ms: u64) {
        self.lanes.insert(
            worker.into(),
            Lane {
                circuit: "closed",
                ..Lane::default()
            },
        );
        self.note("worker-joined", worker, detail, now_ms);
    }

    /// A worker is gone. Gives how many attempts went with it.
    pub fn worker_left(&mut self, worker: &str, reason: &str, now_ms: u64) -> u64 {
        self.note("worker-left", worker, reason, now_ms);
        let open = self.open.values().flat_map(|(task, _)| &task.attempts);
        let lost = open.filter(|it| &*it.worker == worker);
        let lost: Vec<u64> = lost.map(|it| it.dispatch).collect();
        for dispatch in &lost {
            self.attempt_over(*dispatch, None, now_ms);
        }
        self.lanes.remove(worker);
        lost.len() as u64
    }

    /// A worker's breaker is `circuit` now: `closed`, `open`, `half-open`.
    pub fn circuit(&mut self, worker: &str, circuit: &'static str, now_ms: u64) {
        let Some(lane) = self.lanes.get_mut(worker) else {
            return;
        };
        if lane.circuit == circuit {
            return;
        }
        lane.circuit = circuit;
        let why = lane.last_error.clone();
        match circuit {
            "open" => self.note("circuit-open", worker, &why, now_ms),
            "half-open" => self.note("circuit-half-open", worker, "", now_ms),
            _ => self.note("circuit-closed", worker, "", now_ms),
        }
    }

    /// A client compiled by itself what the worker had compiled for it.
    pub fn audited(&mut self, worker: &str, is_same: bool, now_ms: u64) {
        if let Some(lane) = self.lanes.get_mut(worker) {
            match is_same {
                true => lane.audits_same += 1,
                false => lane.audits_different += 1,
            }
        }
        if !is_same {
            let why = "it returned another object than its client's own compiler makes";
            self.note("audit-differs", worker, why, now_ms);
        }
    }

    /// Something happened that is worth a line.
    pub fn note(&mut self, kind: &'static str, worker: &str, detail: &str, now_ms: u64) {
        let unix_ms = self.unix_ms(now_ms);
        let worker = self.worker_name(worker);
        self.events.push(|sequence| GridEvent {
            sequence,
            unix_ms,
            kind,
            worker,
            detail: detail.into(),
        });
    }

    /// A client reports of its cache.
    pub fn cached(&mut self, hits: u64, misses: u64, saved_ms: u64, now_ms: u64) {
        self.series.cached(hits, misses);
        let today = self.today(now_ms);
        today.saved_ms = today.saved_ms.saturating_add(saved_ms);
    }

    /// A build has ended. Gives its reasons as they were counted.
    pub fn build_reported(
        &mut self,
        holder: &str,
        client: &str,
        report: BuildReport,
        reasons: Vec<(String, Lost)>,
        now_ms: u64,
    ) -> Vec<(String, Lost)> {
        let unix_ms = self.unix_ms(now_ms);
        let (holder, client) = (holder.into(), client.into());
        let counted = reasons.into_iter().map(|(reason, lost)| {
            let code = self.fallbacks.add(&reason, lost);
            (code.to_owned(), lost)
        });
        let counted: Vec<(String, Lost)> = counted.collect();
        self.builds
            .reported(&holder, &client, report, &counted, unix_ms);
        counted
    }

    /// Whether [`Aggregator::close_point`] is due.
    pub fn is_point_due(&self, now_ms: u64) -> bool {
        self.series.is_due(now_ms)
    }

    /// Ends a point of the last hour; `loads` are those of the workers, in percent of their
    /// cores.
    pub fn close_point<'a>(
        &mut self,
        level: Level,
        loads: impl Iterator<Item = (&'a str, u64)>,
        now_ms: u64,
    ) {
        let unix_ms = self.unix_ms(now_ms);
        self.series.close(level, now_ms, unix_ms);
        self.points += 1;
        if !self.points.is_multiple_of(LOAD_EVERY) {
            return;
        }
        for (worker, percent) in loads {
            if let Some(lane) = self.lanes.get_mut(worker) {
                if lane.loads.len() >= LOADS_MAX {
                    lane.loads.pop_front();
                }
                lane.loads
                    .push_back(u8::try_from(percent).unwrap_or(u8::MAX));
            }
        }
    }

    /// Each worker's load average of each minute of the last hour, in percent of its cores,
    /// the newest last.
    pub fn loads(&self) -> BTreeMap<&str, &VecDeque<u8>> {
        let lanes = self.lanes.iter();
        lanes.map(|(name, lane)| (&**name, &lane.loads)).collect()
    }

    /// Tasks that have not ended, by number.
    pub fn open_tasks(&self) -> Vec<OpenTask> {
        let mut open: Vec<OpenTask> = self.open.values().map(|(task, _)| task.clone()).collect();
        open.sort_unstable_by_key(|task| task.task_id);
        open
    }

    /// Tasks that workers have, in no order.
    pub fn running_tasks(&self) -> impl Iterator<Item = &OpenTask> {
        let open = self.open.values().map(|(task, _)| task);
        open.filter(|task| task.stage != Stage::Queued)
    }

    /// Tasks that have ended.
    pub fn ended(&self) -> &Ring<Arc<EndedTask>> {
        &self.ended
    }

    /// The last tasks of each worker, the oldest of each first.
    pub fn last_of_workers(&self) -> impl Iterator<Item = &Arc<EndedTask>> {
        self.lanes.values().flat_map(|lane| lane.last.iter())
    }

    /// What happened to the grid.
    pub fn events(&self) -> &Ring<GridEvent> {
        &self.events
    }

    /// What is known of a worker's work.
    pub fn lane(&self, worker: &str) -> LaneView {
        let lane = self.lanes.get(worker);
        lane.map_or_else(LaneView::default, |lane| LaneView {
            last_error: lane.last_error.clone(),
            audits_same: lane.audits_same,
            audits_different: lane.audits_different,
        })
    }

    /// Slots that are wanted, by toolchain: tasks that have not ended.
    pub fn wanted(&self) -> &BTreeMap<Arc<str>, u64> {
        &self.wanted
    }

    /// Builds.
    pub fn builds(&self) -> &Builds {
        &self.builds
    }

    /// Holders of tokens.
    pub fn holders(&self) -> &Holders {
        &self.holders
    }

    /// Why compiles stayed on their developers' machines.
    pub fn fallbacks(&self) -> &Fallbacks {
        &self.fallbacks
    }

    /// The last hour.
    pub fn series(&self) -> &Series {
        &self.series
    }

    /// Sums and rates.
    pub fn sums(&self, now_ms: u64) -> Sums {
        let is_today = self.today.day == self.unix_ms(now_ms) / DAY_MS;
        let today = match is_today {
            true => self.today,
            false => Today::default(),
        };
        Sums {
            rate_milli: self.rate_milli(now_ms),
            saved_today_ms: today.saved_ms,
            compiled_today_ms: today.compile_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(source: &str) -> TaskName {
        TaskName {
            source: source.into(),
            client: "1@laptop/7".into(),
            holder: "me".into(),
            toolchain: "gcc 12.2.0 x86_64-linux-gnu c".into(),
        }
    }

    fn aggregator() -> Aggregator {
        let mut all = Aggregator::new(1_000_000, HashMap::new());
        all.worker_joined("pi", "4 slots", 0);
        all.worker_joined("pc", "8 slots", 0);
        all
    }

    fn attempt(number: u32, worker: &str) -> OpenAttempt {
        OpenAttempt {
            dispatch: 10 + u64::from(number),
            number,
            worker: worker.into(),
            is_hedge: false,
        }
    }

    fn hedge(number: u32, worker: &str) -> OpenAttempt {
        OpenAttempt {
            is_hedge: true,
            ..attempt(number, worker)
        }
    }

    const OK: Ending<'static> = Ending {
        outcome: "ok",
        detail: "",
        attempt: Some(1),
    };

    #[test]
    fn the_three_parts_of_a_task_are_its_whole_time() {
        let mut all = aggregator();
        all.submitted(1, name("a.c"), 100);
        assert_eq!(all.wanted().values().copied().collect::<Vec<u64>>(), [1]);
        assert_eq!(all.holders().list()[0].queued, 1);
        all.started(1, attempt(1, "pi"), 130);
        all.compiling(11, 150);
        // Each second it is said again.
        all.compiling(11, 900);
        assert_eq!(all.running_tasks().next().unwrap().stage, Stage::Compile);
        all.task_ended(1, &OK, 1_000);
        let ended = all.ended().after(0).next().unwrap();
        assert_eq!(
            (ended.queue_ms, ended.transfer_ms, ended.compile_ms),
            (30, 20, 850)
        );
        assert_eq!((ended.wall_ms, ended.ended_unix_ms), (900, 1_001_000));
        assert_eq!((&*ended.worker, &*ended.outcome), ("pi", "ok"));
        assert!(all.wanted().is_empty() && all.open_tasks().is_empty());
        let holder = &all.holders().list()[0];
        assert_eq!((holder.open, holder.queued, holder.tasks_total), (0, 0, 1));
        assert_eq!(all.last_of_workers().count(), 1);
        let sums = all.sums(2_000);
        assert_eq!(sums.compiled_today_ms, 850);
        assert_eq!(all.sums(5_000).rate_milli, 200);
        assert_eq!(all.sums(60_000).rate_milli, 0);
        assert_eq!(all.sums(DAY_MS).compiled_today_ms, 0);
    }

    #[test]
    fn a_retry_waits_again_and_of_a_race_the_winner_is_named() {
        let mut all = aggregator();
        all.submitted(1, name("a.c"), 0);
        all.started(1, attempt(1, "pi"), 10);
        all.attempt_over(11, Some("disk: full"), 20);
        assert_eq!(&*all.lane("pi").last_error, "disk: full");
        let open = &all.open_tasks()[0];
        assert_eq!(
            (open.stage, all.holders().list()[0].queued),
            (Stage::Queued, 1)
        );
        all.started(1, attempt(2, "pi"), 30);
        all.compiling(12, 40);
        all.started(1, hedge(3, "pc"), 50);
        assert_eq!(&*all.open_tasks()[0].worker, "pi");
        let won = Ending {
            attempt: Some(3),
            ..OK
        };
        assert!(all.task_ended(1, &won, 60));
        let ended = all.ended().after(0).next().unwrap();
        assert_eq!((&*ended.worker, ended.hedged), ("pc", true));
        assert_eq!(all.holders().list()[0].queued, 0);
        assert!(all.attempts.is_empty());
    }

    #[test]
    fn what_a_worker_had_waits_when_it_is_gone() {
        let mut all = aggregator();
        for task in 1..=2 {
            all.submitted(task, name("a.c"), 0);
        }
        all.started(1, attempt(1, "pi"), 10);
        all.started(1, hedge(2, "pc"), 20);
        all.started(2, attempt(3, "pi"), 30);
        assert_eq!(all.worker_left("pi", "killed", 40), 2);
        let open = all.open_tasks();
        assert_eq!((&*open[0].worker, open[0].stage), ("pc", Stage::Transfer));
        assert_eq!(open[1].stage, Stage::Queued);
    }

    #[test]
    fn events_come_in_their_order() {
        let mut all = aggregator();
        all.circuit("pi", "closed", 1);
        all.circuit("pi", "open", 2);
        all.circuit("pi", "open", 3);
        all.audited("pc", false, 4);
        all.worker_left("pi", "no heartbeat", 5);
        all.circuit("pi", "closed", 6);
        let kinds: Vec<&str> = all.events().after(2).map(|event| event.kind).collect();
        assert_eq!(kinds, ["circuit-open", "audit-differs", "worker-left"]);
        assert_eq!(all.events().newest(), 5);
        assert_eq!(all.lane("pc").audits_different, 1);
    }

    #[test]
    fn loads_are_kept_by_the_minute() {
        let mut all = aggregator();
        for point in 1..=LOAD_EVERY * (LOADS_MAX as u64 + 2) {
            let loads = [("pi", point), ("pc", 999), ("gone", 1)];
            all.close_point(Level::default(), loads.into_iter(), point * 10_000);
        }
        let loads = all.loads();
        assert_eq!((loads.len(), loads["pi"].len()), (2, LOADS_MAX));
        assert_eq!(loads["pi"][0], 3 * LOAD_EVERY as u8);
        assert_eq!(loads["pc"][0], u8::MAX);
    }

    #[test]
    fn toolchains_have_a_bound() {
        let mut all = aggregator();
        for number in 0..2 * TOOLCHAINS_MAX as u64 {
            let toolchain = format!("gcc {number}").into();
            let name = TaskName {
                toolchain,
                ..name("a.c")
            };
            all.submitted(number, name, 0);
        }
        assert_eq!(all.wanted().len(), TOOLCHAINS_MAX + 1);
        for number in 0..2 * TOOLCHAINS_MAX as u64 {
            all.task_ended(number, &OK, 1);
        }
        assert!(all.wanted().is_empty());
    }
}
