//! The state machine without sockets or clocks: what it promises, one by one,
//! and then under random events.

use std::collections::{BTreeMap, BTreeSet};

use hg_coord::bounds::*;
use hg_coord::scheduling::breaker;
use hg_coord::scheduling::coordinator::{Action, Coordinator, Event, Settings, failure};
use hg_coord::scheduling::id::{DispatchId, TaskId, WorkerId};
use hg_coord::scheduling::jobs::Demand;
use hg_coord::scheduling::predictor::{Profile, Spent};
use hg_coord::scheduling::registry::{Vitals, WorkerSpec};
use hg_proto::v1::failure::Code;
use hg_proto::wire::digest::Digest;
use hg_proto::wire::limits::{HEARTBEAT_EXPIRY_MS, HEARTBEAT_MS};

fn spec(worker: u64, slots: u32, tools: &[&str]) -> Box<WorkerSpec> {
    Box::new(WorkerSpec {
        instance: u128::from(worker).to_be_bytes(),
        name: format!("w{worker}"),
        slots,
        cores: slots,
        digests: tools
            .iter()
            .map(|tool| Digest::of(tool.as_bytes()))
            .collect(),
        ..WorkerSpec::default()
    })
}

fn spec_in_full_sandbox(worker: u64, slots: u32) -> Box<WorkerSpec> {
    Box::new(WorkerSpec {
        sandbox: "full".into(),
        ..*spec(worker, slots, &["gcc"])
    })
}

fn demand(client: &str, tool: &str) -> Demand {
    Demand {
        holder: client.into(),
        client: client.into(),
        toolchain: Digest::of(tool.as_bytes()),
        wanted: Default::default(),
        shipment: None,
        equals: Vec::new(),
        same: None,
        varies: false,
        delivers: false,
        bytes: 100,
        queue_ms_max: 5_000,
        compile_ms_max: 60_000,
        task_ms_max: 10_000_000,
        client_speed: 0.0,
        profile: Profile {
            source: 1,
            cxx: false,
            input_bytes: 100_000,
            travel_bytes: 20_000,
        },
    }
}

/// What a compile took.
fn spent(wall_ms: f64) -> Spent {
    Spent {
        wall_ms,
        cpu_ms: 0.0,
        peak_bytes: 50 << 20,
        output_bytes: 1_000,
        beside_ms: 5.0,
    }
}

struct Grid {
    core: Coordinator,
    now_ms: u64,
    /// Whose compilers run, so that [`Grid::pass`] says so.
    running: Vec<(WorkerId, DispatchId)>,
}

impl Grid {
    fn new(workers: &[(u64, u32)]) -> Self {
        // One at a time, as most of what follows looks at slots.
        Grid::with(workers, false)
    }

    fn with(workers: &[(u64, u32)], ahead: bool) -> Self {
        let settings = Settings {
            seed: 1,
            ahead,
            ..Settings::default()
        };
        let mut grid = Grid {
            core: Coordinator::new(settings),
            now_ms: 0,
            running: Vec::new(),
        };
        for (worker, slots) in workers {
            grid.join(*worker, *slots);
        }
        grid
    }

    fn handle(&mut self, event: Event) -> Vec<Action> {
        self.core.handle(event, self.now_ms)
    }

    fn join(&mut self, worker: u64, slots: u32) -> Vec<Action> {
        let spec = spec(worker, slots, &["gcc"]);
        self.handle(Event::WorkerJoined {
            worker: WorkerId(worker),
            spec,
        })
    }

    fn submit(&mut self, task: u64, client: &str) -> Vec<Action> {
        self.handle(Event::TaskSubmitted {
            task: TaskId(task),
            demand: demand(client, "gcc"),
        })
    }

    fn done(&mut self, worker: u64, dispatch: DispatchId) -> Vec<Action> {
        self.done_after(worker, dispatch, 100.0)
    }

    fn done_after(&mut self, worker: u64, dispatch: DispatchId, wall_ms: f64) -> Vec<Action> {
        self.handle(Event::TaskDone {
            worker: WorkerId(worker),
            dispatch,
            spent: spent(wall_ms),
            made: None,
        })
    }

    fn began(&mut self, worker: u64, dispatch: DispatchId) -> Vec<Action> {
        self.running.push((WorkerId(worker), dispatch));
        self.runs(worker, dispatch, None)
    }

    /// A report that a compile runs, and has used so many milliseconds of a processor.
    fn runs(&mut self, worker: u64, dispatch: DispatchId, cpu_ms: Option<u64>) -> Vec<Action> {
        self.handle(Event::CompileRuns {
            worker: WorkerId(worker),
            dispatch,
            cpu_us: cpu_ms.map(|ms| ms * 1_000),
            ended: false,
        })
    }

    fn gone(&mut self, worker: u64) -> Vec<Action> {
        self.handle(Event::WorkerGone {
            worker: WorkerId(worker),
            reason: "gone".into(),
        })
    }

    fn circuit(&self, worker: u64) -> &'static str {
        let worker = self.core.registry().get(WorkerId(worker));
        worker.unwrap().breaker.name()
    }

    /// Whether a worker may have tasks of this holder's, as far as failures go.
    fn is_open_to(&self, holder: &str, worker: u64) -> bool {
        let holders = self.core.holders();
        holders.allows(&holder.into(), WorkerId(worker), self.now_ms)
    }

    /// Tasks come to their ends, until the file and the workers are known.
    fn learn(&mut self, rounds: u64, wall_ms: f64) {
        for task in 0..rounds {
            let (worker, _, _, dispatch) = dispatched(&self.submit(1_000_000 + task, "a"))[0];
            self.done_after(worker, dispatch, wall_ms);
        }
    }

    fn fail(&mut self, worker: u64, dispatch: DispatchId, code: Code) -> Vec<Action> {
        let failure = failure(code, "test");
        self.handle(Event::TaskFailed {
            worker: WorkerId(worker),
            dispatch,
            failure,
        })
    }

    /// As [`Grid::fail`], by what the worker says is its own fault.
    fn fail_itself(&mut self, worker: u64, dispatch: DispatchId) -> Vec<Action> {
        let mut failure = failure(Code::Worker, "the compiler is gone");
        failure.worker_at_fault = true;
        self.handle(Event::TaskFailed {
            worker: WorkerId(worker),
            dispatch,
            failure,
        })
    }

    /// Time goes by in steps, all workers send heartbeats, and what has begun is said to
    /// run.
    fn pass(&mut self, ms: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        for _ in 0..ms.div_ceil(100) {
            self.now_ms += 100;
            let workers: Vec<WorkerId> = self.core.registry().iter().map(|(id, _)| id).collect();
            for worker in workers {
                actions.extend(self.handle(Event::WorkerHeard {
                    worker,
                    vitals: None,
                }));
            }
            for (worker, dispatch) in self.running.clone() {
                actions.extend(self.runs(worker.0, dispatch, None));
            }
            actions.extend(self.handle(Event::Tick));
        }
        actions
    }
}

fn dispatched(actions: &[Action]) -> Vec<(u64, u64, u32, DispatchId)> {
    let dispatches = actions.iter().filter_map(|action| match action {
        Action::Dispatch(start) => {
            Some((start.worker.0, start.task.0, start.number, start.dispatch))
        }
        _ => None,
    });
    dispatches.collect()
}

fn failed(actions: &[Action]) -> Vec<(u64, Code)> {
    let failures = actions.iter().filter_map(|action| match action {
        Action::FailTask { task, failure } => Some((task.0, failure.code())),
        _ => None,
    });
    failures.collect()
}

#[test]
fn a_free_slot_takes_a_task_at_once_and_the_next_one_waits() {
    let mut grid = Grid::new(&[(1, 1)]);
    let first = dispatched(&grid.submit(10, "a"));
    assert_eq!((first[0].0, first[0].1, first[0].2), (1, 10, 1));
    assert!(grid.submit(11, "a").is_empty());
    grid.now_ms = 250;
    let actions = grid.done(1, first[0].3);
    assert!(matches!(
        actions[0],
        Action::FinishTask {
            task: TaskId(10),
            attempt: 1,
            ..
        }
    ));
    let Action::Dispatch(second) = &actions[1] else {
        panic!("{actions:?}");
    };
    assert_eq!((second.task, second.queue_ms), (TaskId(11), 250));
    assert_eq!(actions.len(), 2);
}

#[test]
fn no_worker_with_the_toolchain_fails_at_once() {
    let mut grid = Grid::new(&[(1, 1)]);
    let event = Event::TaskSubmitted {
        task: TaskId(1),
        demand: demand("a", "clang"),
    };
    assert_eq!(failed(&grid.handle(event)), [(1, Code::NoToolchain)]);
}

#[test]
fn the_last_worker_leaving_fails_those_who_wait() {
    let mut grid = Grid::new(&[(1, 1)]);
    grid.submit(1, "a");
    grid.submit(2, "a");
    let gone = Event::WorkerGone {
        worker: WorkerId(1),
        reason: "gone".into(),
    };
    let actions = grid.handle(gone);
    assert_eq!(failed(&actions), [(1, Code::Link), (2, Code::NoToolchain)]);
    assert_eq!(grid.core.unfinished(), 0);
}

#[test]
fn a_queue_has_a_deadline() {
    let mut grid = Grid::new(&[(1, 1)]);
    grid.submit(1, "a");
    grid.submit(2, "a");
    assert!(failed(&grid.pass(4_900)).is_empty());
    assert_eq!(failed(&grid.pass(200)), [(2, Code::Queue)]);
}

#[test]
fn a_failure_is_tried_elsewhere_and_some_more_are_the_end() {
    let workers: Vec<_> = (1..=RETRIES_MAX as u64 + 2).map(|id| (id, 1)).collect();
    let mut grid = Grid::new(&workers);
    let mut next = dispatched(&grid.submit(1, "a"))[0];
    let mut seen = BTreeSet::new();
    for attempt in 1..=RETRIES_MAX {
        assert_eq!(next.2, attempt);
        assert!(seen.insert(next.0), "each on another worker");
        next = dispatched(&grid.fail(next.0, next.3, Code::Worker))[0];
    }
    let actions = grid.fail(next.0, next.3, Code::Worker);
    assert_eq!(failed(&actions), [(1, Code::Worker)]);
}

#[test]
fn retries_have_a_budget() {
    let workers: Vec<_> = (1..=100).map(|id| (id, 100)).collect();
    let mut grid = Grid::new(&workers);
    let mut retried = 0;
    for task in 0..2_000 {
        let (worker, _, _, dispatch) = dispatched(&grid.submit(task, "a"))[0];
        // Nobody's fault, so that no breaker opens.
        let actions = grid.fail(worker, dispatch, Code::Input);
        if let Some(again) = dispatched(&actions).first() {
            retried += 1;
            grid.done(again.0, again.3);
        }
    }
    // One in ten, and what was saved up at the start.
    assert!(
        (200..=200 + RETRIES_SAVED_MAX as i32).contains(&retried),
        "{retried}"
    );
}

#[test]
fn a_worker_that_fails_and_fails_gets_nothing_until_a_probe_went_well() {
    let mut grid = Grid::new(&[(1, 4)]);
    for task in 0..4 {
        assert_eq!(grid.circuit(1), "closed");
        let holder = ["a", "b"][task as usize % 2];
        let dispatch = dispatched(&grid.submit(task, holder))[0].3;
        grid.fail(1, dispatch, Code::Worker);
    }
    assert_eq!(grid.circuit(1), "open", "two holders show it");
    grid.join(2, 4);
    for task in 200..220 {
        let (worker, _, _, dispatch) = dispatched(&grid.submit(task, "a"))[0];
        assert_eq!(worker, 2);
        grid.done(worker, dispatch);
    }
    grid.pass(BREAKER_OPEN_MS_MIN * 5 / 4 + 100);
    assert_eq!(grid.circuit(1), "half-open");
    // Both have free slots, and only one task may go to the first.
    let mut probes = Vec::new();
    let mut others = Vec::new();
    for task in 300..310 {
        let actions = grid.submit(task, "a");
        for (worker, _, _, dispatch) in dispatched(&actions) {
            if worker == 1 {
                probes.push(dispatch);
            } else {
                others.push(dispatch);
            }
        }
    }
    assert_eq!((probes.len(), others.len()), (1, 4), "the others wait");
    grid.done(1, probes[0]);
    assert_eq!(grid.circuit(1), "closed");
}

#[test]
fn what_one_holder_shows_shuts_a_worker_for_that_holder_alone() {
    let mut grid = Grid::new(&[(1, 4)]);
    let mut task = 0;
    let mut submit = |grid: &mut Grid, holder| {
        task += 1;
        (task, grid.submit(task, holder))
    };
    for _ in 0..3 {
        let dispatch = dispatched(&submit(&mut grid, "evil").1)[0].3;
        grid.fail(1, dispatch, Code::Worker);
    }
    for _ in 0..10 {
        // Told at once, so that it compiles at home.
        let (task, actions) = submit(&mut grid, "evil");
        assert_eq!(failed(&actions), [(task, Code::Queue)]);
        let dispatch = dispatched(&submit(&mut grid, "good").1)[0].3;
        grid.done(1, dispatch);
        assert_eq!(grid.circuit(1), "closed");
    }
    // After a while one more of its tasks decides.
    grid.pass(BREAKER_OPEN_MS_MIN * 5 / 4 + 100);
    let probe = dispatched(&submit(&mut grid, "evil").1)[0].3;
    let (task, actions) = submit(&mut grid, "evil");
    assert_eq!(failed(&actions), [(task, Code::Queue)]);
    grid.fail(1, probe, Code::Worker);
    assert!(!grid.is_open_to("evil", 1) && grid.is_open_to("good", 1));
}

#[test]
fn what_a_worker_says_of_itself_leaves_a_holders_own_breaker_to_the_next_one() {
    let mut grid = Grid::new(&[(1, 4)]);
    for task in 0..3 {
        let dispatch = dispatched(&grid.submit(task, "a"))[0].3;
        grid.fail(1, dispatch, Code::Worker);
    }
    grid.pass(BREAKER_OPEN_MS_MIN * 5 / 4 + 100);
    let dispatch = dispatched(&grid.submit(3, "a"))[0].3;
    assert!(!grid.is_open_to("a", 1), "this one decides");
    grid.fail_itself(1, dispatch);
    assert!(grid.is_open_to("a", 1));
}

#[test]
fn who_failed_a_task_and_is_shut_for_its_holder_is_one_worker() {
    let mut grid = Grid::new(&[(1, 1)]);
    // Each fails on the first worker; the second one is busy until they have.
    let mut tries = Vec::new();
    let first = dispatched(&grid.submit(1, "a"))[0].3;
    grid.join(2, 1);
    let other = dispatched(&grid.submit(9, "b"))[0].3;
    tries.push(grid.fail(1, first, Code::Worker));
    for task in 2..=3 {
        let dispatch = dispatched(&grid.submit(task, "a"))[0].3;
        tries.push(grid.fail(1, dispatch, Code::Worker));
    }
    assert!(!grid.is_open_to("a", 1));
    let lost: Vec<(u64, Code)> = tries.iter().flat_map(|actions| failed(actions)).collect();
    assert_eq!(lost, [], "the second worker serves them");
    let mut next = dispatched(&grid.done(2, other));
    for _ in 1..=3 {
        let (worker, _, _, dispatch) = next[0];
        assert_eq!(worker, 2);
        next = dispatched(&grid.done(2, dispatch));
    }
    assert_eq!(grid.core.unfinished(), 0);
}

#[test]
fn what_a_worker_says_of_itself_counts_for_all() {
    let mut grid = Grid::new(&[(1, 4)]);
    for task in 0..3 {
        let dispatch = dispatched(&grid.submit(task, "a"))[0].3;
        grid.fail_itself(1, dispatch);
    }
    assert_eq!(grid.circuit(1), "open");
}

#[test]
fn compile_errors_and_refusals_do_not_open_a_breaker() {
    let mut grid = Grid::new(&[(1, 1)]);
    for task in 0..50 {
        let dispatch = dispatched(&grid.submit(task, "a"))[0].3;
        let codes = [Code::Refused, Code::Limit, Code::Input, Code::Disk];
        grid.fail(1, dispatch, codes[task as usize % codes.len()]);
        let worker = grid.core.registry().get(WorkerId(1)).unwrap();
        assert_eq!(worker.breaker.state(), breaker::Circuit::Closed);
    }
}

#[test]
fn a_worker_that_dies_of_each_task_is_known_when_it_comes_back() {
    let mut grid = Grid::new(&[(1, 1)]);
    let mut worker = 1;
    let mut deaths = 0;
    // The same name on a new link each time, as after a crash.
    while let Some(&(_, _, _, _)) = dispatched(&grid.submit(100 + deaths, "a")).first() {
        grid.gone(worker);
        deaths += 1;
        assert!(deaths < 10, "it may die for ever");
        worker += 1;
        let mut spec = spec(worker, 1, &["gcc"]);
        spec.name = "w1".into();
        let id = WorkerId(worker);
        grid.handle(Event::WorkerJoined { worker: id, spec });
    }
    assert_eq!(deaths, 3);
    assert_eq!(grid.circuit(worker), "open");
    assert_eq!(failed(&grid.submit(999, "a")), [(999, Code::Queue)]);
}

#[test]
fn a_straggler_is_tried_elsewhere_too_and_the_first_result_counts() {
    let mut grid = Grid::new(&[(1, 1), (2, 1)]);
    grid.learn(20, 1_000.0);
    let (slow, _, _, first) = dispatched(&grid.submit(1, "a"))[0];
    grid.began(slow, first);
    assert!(dispatched(&grid.pass(2_000)).is_empty(), "not yet");
    let actions = grid.pass(1_000);
    let Action::Dispatch(start) = &actions[0] else {
        panic!("{actions:?}");
    };
    let (worker, second) = (start.worker, start.dispatch);
    assert_eq!(
        (start.task, start.number, start.hedge),
        (TaskId(1), 2, true)
    );
    assert_ne!(worker.0, slow);
    assert_eq!(actions.len(), 1, "the first one goes on");
    let dispatch = second;
    let cancelled = Action::CancelDispatch {
        worker: WorkerId(slow),
        dispatch: first,
    };
    let actions = grid.handle(Event::ResultBegan { worker, dispatch });
    assert_eq!(actions, [cancelled]);
    let actions = grid.done(worker.0, second);
    let Action::FinishTask {
        task: TaskId(1),
        worker: by,
        attempt: 2,
        ..
    } = actions[0]
    else {
        panic!("{actions:?}");
    };
    assert_eq!((by, actions.len()), (worker, 1));
    assert_eq!(grid.core.registry().slots(), (2, 0));
}

#[test]
fn a_worker_whose_object_differs_gets_no_more_tasks_until_an_operator_says_so() {
    let mut grid = Grid::new(&[]);
    grid.core = Coordinator::new(Settings {
        audit_every: 1,
        ..Settings::default()
    });
    grid.join(1, 1);
    let mut task = 0;
    // Whether the worker gets a task of the holder, whose answer is then this.
    let mut compile = |grid: &mut Grid, holder: &str, same: bool| {
        task += 1;
        let actions = grid.submit(task, holder);
        let Some(&(worker, _, _, dispatch)) = dispatched(&actions).first() else {
            // At once: nobody waits for a worker that is out.
            assert!(
                matches!(actions[..], [Action::FailTask { .. }]),
                "{actions:?}"
            );
            return false;
        };
        let actions = grid.done(worker, dispatch);
        let asked = |action: &Action| matches!(action, Action::FinishTask { audit: true, .. });
        assert!(actions.iter().any(asked), "{actions:?}");
        grid.handle(Event::AuditAnswered {
            task: TaskId(task),
            holder: holder.into(),
            same,
        });
        true
    };
    assert!(compile(&mut grid, "alice", true));
    assert!(compile(&mut grid, "alice", false));
    assert!(!compile(&mut grid, "alice", true) && compile(&mut grid, "bob", true));
    // It comes back on a new link, and is known.
    grid.gone(1);
    grid.join(1, 1);
    assert!(!compile(&mut grid, "alice", true) && compile(&mut grid, "bob", false));
    assert!(!compile(&mut grid, "carol", true));
    grid.gone(1);
    grid.join(1, 1);
    grid.pass(3_600_000);
    grid.join(1, 1);
    assert!(!compile(&mut grid, "carol", true));
    assert_eq!(grid.core.queued(), 0);
    grid.handle(Event::Readmitted { name: "w1".into() });
    for holder in ["alice", "bob", "carol"] {
        assert!(compile(&mut grid, holder, true), "{holder}");
    }
}

#[test]
fn of_two_attempts_the_first_may_win_and_either_may_fail() {
    for who in 0..3 {
        let mut grid = Grid::new(&[(1, 1), (2, 1)]);
        grid.learn(20, 1_000.0);
        let (slow, _, _, first) = dispatched(&grid.submit(1, "a"))[0];
        grid.began(slow, first);
        let (fast, _, _, second) = dispatched(&grid.pass(3_000))[0];
        let finished = |actions: &[Action]| {
            let finish = |action: &Action| matches!(action, Action::FinishTask { .. });
            actions.iter().any(finish)
        };
        match who {
            0 => assert!(finished(&grid.done(slow, first))),
            1 => {
                assert!(grid.fail(slow, first, Code::Worker).is_empty());
                assert!(finished(&grid.done(fast, second)));
            }
            _ => {
                assert!(grid.gone(fast).len() == 1, "only its link");
                assert!(finished(&grid.done(slow, first)));
            }
        }
        assert_eq!(
            (grid.core.unfinished(), grid.core.registry().slots().1),
            (0, 0)
        );
    }
}

#[test]
fn what_a_slow_worker_has_left_of_a_build_is_done_by_a_fast_one_that_idles() {
    let mut grid = Grid::new(&[]);
    let join = |grid: &mut Grid, worker: u64, speed_milli: u32| {
        let mut spec = spec(worker, 1, &["gcc"]);
        spec.speed_milli = speed_milli;
        let worker = WorkerId(worker);
        grid.handle(Event::WorkerJoined { worker, spec });
    };
    join(&mut grid, 1, 4_000);
    grid.learn(80, 250.0);
    join(&mut grid, 2, 100);
    let fast = dispatched(&grid.submit(1, "a"));
    let slow = dispatched(&grid.submit(2, "a"));
    // With so much behind it the build is likely to go on for long.
    assert_eq!((fast[0].0, slow[0].0), (1, 2));
    grid.began(1, fast[0].3);
    grid.began(2, slow[0].3);
    grid.pass(200);
    grid.running.remove(0);
    assert!(dispatched(&grid.done_after(1, fast[0].3, 250.0)).is_empty());
    // But nothing more comes.
    let rescued = dispatched(&grid.pass(1_000));
    assert_eq!(rescued.len(), 1, "of ten seconds there");
    assert_eq!((rescued[0].0, rescued[0].1), (1, 2));
}

#[test]
fn second_attempts_have_a_budget() {
    let mut grid = Grid::new(&[(1, 50), (2, 50)]);
    grid.learn(20, 1_000.0);
    let mut hedged = 0;
    // As many as two workers are given that have shown this little.
    for task in 0..16 {
        let (worker, _, _, dispatch) = dispatched(&grid.submit(task, "a"))[0];
        grid.began(worker, dispatch);
    }
    let vitals = Vitals::default();
    for worker in [1, 2] {
        let worker = WorkerId(worker);
        let vitals = Some(vitals);
        grid.handle(Event::WorkerHeard { worker, vitals });
    }
    hedged += dispatched(&grid.pass(20_000)).len();
    // 5 % of twenty seconds, and what is saved up at the start.
    assert!((1..=4).contains(&hedged), "{hedged}");
}

#[test]
fn a_worker_that_hangs_is_found_out_by_those_who_give_up() {
    let mut grid = Grid::new(&[(1, 2)]);
    grid.learn(10, 200.0);
    let hang = |grid: &mut Grid, task| {
        let dispatch = dispatched(&grid.submit(task, "a"))[0].3;
        grid.began(1, dispatch);
        grid.pass(5_000);
    };
    let give_up = |grid: &mut Grid, task| {
        grid.handle(Event::TaskCancelled {
            task: TaskId(task),
            failure: failure(Code::Cancelled, "gone"),
        });
    };
    // One that takes long while others come to their end is no hang.
    hang(&mut grid, 1);
    grid.learn(1, 200.0);
    give_up(&mut grid, 1);
    assert!(grid.is_open_to("a", 1));
    hang(&mut grid, 2);
    give_up(&mut grid, 2);
    assert!(!grid.is_open_to("a", 1));
    assert_eq!(grid.circuit(1), "closed", "it may be the task's doing");
}

#[test]
fn a_hang_that_nobody_gives_up_ends_too() {
    let mut grid = Grid::new(&[(1, 1)]);
    grid.learn(10, 200.0);
    let demand = Demand {
        compile_ms_max: 1_000_000,
        ..demand("a", "gcc")
    };
    let task = TaskId(1);
    let dispatch = dispatched(&grid.handle(Event::TaskSubmitted { task, demand }))[0].3;
    grid.began(1, dispatch);
    assert!(failed(&grid.pass(120_000)).is_empty());
    assert_eq!(failed(&grid.pass(30_000)), [(1, Code::Worker)]);
    // One more is tried out.
    assert_eq!(dispatched(&grid.submit(2, "a")).len(), 1);
    assert!(!grid.is_open_to("a", 1));
}

#[test]
fn a_client_hears_when_its_own_machine_would_be_faster() {
    let mut grid = Grid::new(&[(1, 9)]);
    grid.learn(20, 1_000.0);
    for (client_speed, expected) in [(0.0, false), (1.0, false), (10.0, true)] {
        let demand = Demand {
            client_speed,
            ..demand("a", "gcc")
        };
        let event = Event::TaskSubmitted {
            task: TaskId(client_speed as u64),
            demand,
        };
        let actions = grid.handle(event);
        let Action::Dispatch(start) = &actions[0] else {
            panic!("{actions:?}");
        };
        assert_eq!(start.slower, expected, "{client_speed}");
    }
}

#[test]
fn one_task_is_sent_ahead_and_begins_when_there_is_a_slot() {
    let mut grid = Grid::with(&[(1, 1)], true);
    let first = dispatched(&grid.submit(1, "a"))[0].3;
    for task in 2..=4 {
        assert!(grid.submit(task, "a").is_empty());
    }
    let sent = dispatched(&grid.done(1, first));
    let tasks: Vec<u64> = sent.iter().map(|(_, task, ..)| *task).collect();
    assert_eq!(tasks, [2, 3]);
    assert_eq!((grid.core.queued(), grid.core.registry().slots().1), (1, 1));
    let after = dispatched(&grid.done(1, sent[0].3));
    assert_eq!((after.len(), after[0].1), (1, 4));
    assert_eq!((grid.core.queued(), grid.core.registry().slots().1), (0, 1));
    let worker = grid.core.registry().get(WorkerId(1)).unwrap();
    assert_eq!(worker.ahead, Some(after[0].3));
    assert!(worker.running.iter().any(|(id, _)| *id == sent[1].3));
}

/// A worker that has tasks 2 and 3, the last one sent ahead.
fn one_ahead() -> (Grid, Vec<(u64, u64, u32, DispatchId)>) {
    let mut grid = Grid::with(&[(1, 1)], true);
    let first = dispatched(&grid.submit(1, "a"))[0].3;
    grid.submit(2, "a");
    grid.submit(3, "a");
    let sent = dispatched(&grid.done(1, first));
    assert_eq!(sent.len(), 2);
    (grid, sent)
}

#[test]
fn what_was_sent_ahead_waits_no_longer_than_in_the_queue() {
    let (mut grid, sent) = one_ahead();
    grid.began(1, sent[0].3);
    assert!(failed(&grid.pass(4_900)).is_empty());
    assert_eq!(failed(&grid.pass(200)), [(3, Code::Queue)]);
    // Nothing more is sent behind what takes too long.
    grid.submit(4, "a");
    let vitals = Some(Vitals::default());
    let worker = WorkerId(1);
    assert!(
        grid.handle(Event::WorkerHeard { worker, vitals })
            .is_empty()
    );
}

#[test]
fn what_was_sent_ahead_moves_to_a_worker_that_is_idle() {
    let (mut grid, sent) = one_ahead();
    let actions = grid.join(2, 1);
    let cancelled = Action::CancelDispatch {
        worker: WorkerId(1),
        dispatch: sent[1].3,
    };
    assert_eq!(actions[0], cancelled);
    assert_eq!(dispatched(&actions)[0].0, 2);
    assert_eq!(grid.core.registry().slots(), (2, 2));
}

#[test]
fn what_a_compile_had_when_it_ran_out_of_memory_is_the_least_that_it_gets_next() {
    let mut grid = Grid::new(&[]);
    let join = |grid: &mut Grid, worker: u64, gib: u64| {
        let mut spec = spec(worker, 1, &["gcc"]);
        spec.memory_bytes = gib << 30;
        let worker = WorkerId(worker);
        grid.handle(Event::WorkerJoined { worker, spec })
    };
    let run_out = |grid: &mut Grid, worker: u64, dispatch, gib: u64| {
        let mut failure = failure(Code::Memory, "test");
        failure.memory_bytes = gib << 30;
        let worker = WorkerId(worker);
        grid.handle(Event::TaskFailed {
            worker,
            dispatch,
            failure,
        })
    };
    join(&mut grid, 1, 2);
    let first = dispatched(&grid.submit(1, "a"))[0];
    join(&mut grid, 2, 16);
    let second = dispatched(&run_out(&mut grid, 1, first.3, 2))[0];
    assert_eq!(second.0, 2);
    grid.done(2, second.3);
    assert_eq!(dispatched(&grid.submit(2, "b"))[0].0, 2);
    // One that takes whatever it gets is not tried for long.
    let mut demand = demand("a", "gcc");
    demand.profile.source = 3;
    join(&mut grid, 3, 16);
    let task = TaskId(3);
    let mut actions = grid.handle(Event::TaskSubmitted { task, demand });
    let mut tries = 0;
    while let [(worker, _, _, dispatch), ..] = dispatched(&actions)[..] {
        tries += 1;
        actions = run_out(&mut grid, worker, dispatch, 14);
        assert_eq!(grid.circuit(worker), "closed");
    }
    assert_eq!(failed(&actions), [(3, Code::Memory)]);
    assert!((1..=3).contains(&tries), "{tries}");
}

#[test]
fn memory_that_nobody_has_is_said_at_once_and_what_ran_out_goes_where_there_is_more() {
    let mut grid = Grid::new(&[]);
    for (worker, gib) in [(1, 1), (2, 4)] {
        let mut spec = spec(worker, 1, &["gcc"]);
        spec.memory_bytes = gib << 30;
        let worker = WorkerId(worker);
        grid.handle(Event::WorkerJoined { worker, spec });
    }
    let mut tried = Vec::new();
    let mut actions = grid.submit(1, "a");
    while failed(&actions).is_empty() {
        for (worker, _, _, dispatch) in dispatched(&actions) {
            tried.push(worker);
            actions = grid.fail(worker, dispatch, Code::Memory);
        }
        if dispatched(&actions).is_empty() && failed(&actions).is_empty() {
            actions = grid.pass(REFUSAL_PAUSE_MS);
        }
        assert!(tried.len() < 20, "{tried:?}");
    }
    assert_eq!(failed(&actions), [(1, Code::Memory)]);
    assert!(tried.len() > 1, "{tried:?}");
    assert_eq!(grid.circuit(1), "closed");
    // Of some it is clear from the start.
    let mut huge = demand("a", "gcc");
    huge.profile.source = 2;
    huge.profile.input_bytes = 1 << 30;
    let task = TaskId(2);
    let actions = grid.handle(Event::TaskSubmitted { task, demand: huge });
    assert_eq!(failed(&actions), [(2, Code::Memory)]);
}

#[test]
fn a_task_has_a_time_of_its_own() {
    let mut grid = Grid::new(&[(1, 1)]);
    let demand = Demand {
        task_ms_max: 1_000,
        ..demand("a", "gcc")
    };
    let event = Event::TaskSubmitted {
        task: TaskId(1),
        demand,
    };
    let actions = grid.handle(event);
    let left = |action: &Action| matches!(action, Action::Dispatch(it) if it.left_ms == 1_000);
    assert!(left(&actions[0]), "{actions:?}");
    assert_eq!(failed(&grid.pass(1_000)), [(1, Code::Limit)]);
}

#[test]
fn slow_workers_get_what_they_can_finish_and_nothing_else() {
    let mut grid = Grid::new(&[]);
    for (worker, speed_milli) in [(1, 1_000), (2, 50)] {
        let mut spec = spec(worker, 1, &["gcc"]);
        spec.speed_milli = speed_milli;
        let worker = WorkerId(worker);
        grid.handle(Event::WorkerJoined { worker, spec });
    }
    let sized = |task: u64, input_bytes: u64| {
        let mut demand = demand("a", "gcc");
        demand.profile.source = task;
        demand.profile.input_bytes = input_bytes;
        Event::TaskSubmitted {
            task: TaskId(task),
            demand,
        }
    };
    // A second or so each: twenty on the slow one.
    let actions = grid.handle(sized(1, 1_000_000));
    assert_eq!(dispatched(&actions)[0].0, 1);
    assert!(
        grid.handle(sized(2, 1_000_000)).is_empty(),
        "better to wait"
    );
    // With a minute of work to come it helps with the short ones.
    let mut to_slow = Vec::new();
    for task in 3..60 {
        for sent in dispatched(&grid.handle(sized(task, 1_000_000 + task))) {
            to_slow.push(sent);
        }
    }
    assert_eq!((to_slow.len(), to_slow[0].0), (1, 2), "{to_slow:?}");
}

#[test]
fn a_failure_with_nobody_else_is_the_end_at_once() {
    let mut grid = Grid::new(&[(1, 2)]);
    let dispatch = dispatched(&grid.submit(1, "a"))[0].3;
    assert_eq!(
        failed(&grid.fail(1, dispatch, Code::Input)),
        [(1, Code::Input)]
    );
}

#[test]
fn a_retry_waits_for_another_worker_and_never_returns_to_the_first() {
    let mut grid = Grid::new(&[(1, 1), (2, 1)]);
    let first = dispatched(&grid.submit(1, "a"))[0];
    let second = dispatched(&grid.submit(2, "a"))[0];
    grid.submit(3, "a");
    // The first worker is free again, but gets the other task.
    let after = dispatched(&grid.fail(first.0, first.3, Code::Worker));
    assert_eq!((after[0].0, after[0].1), (first.0, 3));
    let after = dispatched(&grid.done(second.0, second.3));
    assert_eq!((after[0].0, after[0].1, after[0].2), (second.0, 1, 2));
}

#[test]
fn a_waiting_retry_ends_when_the_others_leave() {
    let mut grid = Grid::new(&[(1, 1), (2, 1)]);
    let first = dispatched(&grid.submit(1, "a"))[0];
    let second = dispatched(&grid.submit(2, "a"))[0];
    assert!(failed(&grid.fail(first.0, first.3, Code::Worker)).is_empty());
    let gone = Event::WorkerGone {
        worker: WorkerId(second.0),
        reason: "gone".into(),
    };
    let failed = failed(&grid.handle(gone));
    assert!(failed.contains(&(1, Code::Worker)), "{failed:?}");
}

#[test]
fn refused_and_limit_are_not_retried() {
    for code in [Code::Refused, Code::Limit] {
        let mut grid = Grid::new(&[(1, 1), (2, 1)]);
        let (worker, _, _, dispatch) = dispatched(&grid.submit(1, "a"))[0];
        assert_eq!(failed(&grid.fail(worker, dispatch, code)), [(1, code)]);
    }
}

#[test]
fn what_one_disk_has_no_room_for_is_tried_on_another_and_blames_nobody() {
    let mut grid = Grid::new(&[(1, 1), (2, 1)]);
    let (first, _, _, dispatch) = dispatched(&grid.submit(1, "a"))[0];
    let actions = grid.fail(first, dispatch, Code::Disk);
    let (second, _, _, dispatch) = dispatched(&actions)[0];
    assert_ne!(second, first);
    let actions = grid.fail(second, dispatch, Code::Disk);
    assert_eq!(failed(&actions), [(1, Code::Disk)]);
    for worker in [1, 2] {
        assert_eq!(
            grid.core.registry().get(WorkerId(worker)).unwrap().failed,
            0
        );
        assert_eq!(grid.circuit(worker), "closed");
    }
}

#[test]
fn a_busy_worker_is_left_alone_for_a_while_and_not_blamed() {
    let mut grid = Grid::new(&[(1, 1)]);
    let mut dispatch = dispatched(&grid.submit(1, "a"))[0].3;
    for refusal in 1..=REFUSALS_MAX {
        assert!(
            grid.fail(1, dispatch, Code::Busy).is_empty(),
            "refusal {refusal}"
        );
        assert!(dispatched(&grid.pass(REFUSAL_PAUSE_MS - 100)).is_empty());
        dispatch = dispatched(&grid.pass(100))[0].3;
    }
    assert_eq!(grid.core.registry().get(WorkerId(1)).unwrap().failed, 0);
    assert_eq!(
        failed(&grid.fail(1, dispatch, Code::Busy)),
        [(1, Code::Busy)]
    );
}

#[test]
fn silence_ends_a_worker_and_its_tasks_go_on_elsewhere() {
    let mut grid = Grid::new(&[(1, 1), (2, 1)]);
    let (worker, ..) = dispatched(&grid.submit(1, "a"))[0];
    let other = WorkerId(3 - worker);
    for _ in 0..HEARTBEAT_EXPIRY_MS / HEARTBEAT_MS {
        grid.now_ms += u64::from(HEARTBEAT_MS);
        grid.handle(Event::WorkerHeard {
            worker: other,
            vitals: Some(Vitals::default()),
        });
    }
    let actions = grid.handle(Event::Tick);
    assert!(matches!(&actions[0], Action::CloseLink { worker: gone, .. } if gone.0 == worker));
    let again = dispatched(&actions);
    assert_eq!((again[0].0, again[0].1, again[0].2), (other.0, 1, 2));
    assert_eq!(grid.core.registry().len(), 1);
}

#[test]
fn the_same_program_on_a_new_link_replaces_the_old() {
    let mut grid = Grid::new(&[(1, 1)]);
    grid.submit(1, "a");
    let spec = spec(1, 1, &["gcc"]);
    let actions = grid.handle(Event::WorkerJoined {
        worker: WorkerId(9),
        spec,
    });
    assert!(matches!(
        actions[0],
        Action::CloseLink {
            worker: WorkerId(1),
            ..
        }
    ));
    assert_eq!(grid.core.registry().len(), 1);
    assert_eq!(grid.core.registry().find("w1"), Some(WorkerId(9)));
}

#[test]
fn draining_gets_no_more_and_keeps_what_it_has() {
    let mut grid = Grid::new(&[(1, 2), (2, 1)]);
    let drain = |by_itself| Event::DrainRequested {
        worker: WorkerId(1),
        by_itself,
    };
    assert_eq!(
        grid.handle(drain(false)),
        [Action::SendDrain {
            worker: WorkerId(1)
        }]
    );
    assert!(grid.handle(drain(false)).is_empty());
    for task in 1..=3 {
        assert!(
            dispatched(&grid.submit(task, "a"))
                .iter()
                .all(|dispatch| dispatch.0 == 2)
        );
    }
    assert_eq!(grid.core.queued(), 2);
    let mut grid = Grid::new(&[(1, 1)]);
    let dispatch = dispatched(&grid.submit(1, "a"))[0].3;
    grid.submit(2, "a");
    assert_eq!(failed(&grid.handle(drain(true))), [(2, Code::NoToolchain)]);
    assert!(matches!(
        grid.done(1, dispatch)[..],
        [Action::FinishTask { .. }]
    ));
}

#[test]
fn a_cancelled_task_leaves_its_slot_or_its_place() {
    let mut grid = Grid::new(&[(1, 1)]);
    let dispatch = dispatched(&grid.submit(1, "a"))[0].3;
    grid.submit(2, "a");
    grid.submit(3, "a");
    let cancel = |task| {
        let failure = failure(Code::Cancelled, "gone");
        Event::TaskCancelled {
            task: TaskId(task),
            failure,
        }
    };
    assert_eq!(failed(&grid.handle(cancel(2))), [(2, Code::Cancelled)]);
    let actions = grid.handle(cancel(1));
    assert_eq!(
        actions[0],
        Action::CancelDispatch {
            worker: WorkerId(1),
            dispatch
        }
    );
    assert_eq!(dispatched(&actions)[0].1, 3);
    assert!(grid.handle(cancel(1)).is_empty());
    // A late answer to what was cancelled changes nothing.
    assert!(grid.done(1, dispatch).is_empty());
    assert_eq!(grid.core.registry().slots(), (1, 1));
}

#[test]
fn a_worker_that_does_not_answer_loses_the_task() {
    let mut grid = Grid::new(&[(1, 1), (2, 1)]);
    let (worker, ..) = dispatched(&grid.submit(1, "a"))[0];
    let actions = grid.pass(OFFER_MS_MAX);
    assert!(matches!(actions[0], Action::CancelDispatch { .. }));
    assert_eq!(dispatched(&actions)[0].0, 3 - worker);
}

#[test]
fn a_client_that_does_not_send_its_inputs_is_at_fault() {
    let mut grid = Grid::new(&[(1, 1), (2, 1)]);
    let (worker, _, _, dispatch) = dispatched(&grid.submit(1, "a"))[0];
    let worker = WorkerId(worker);
    grid.handle(Event::NeedReceived {
        worker,
        dispatch,
        inputs: true,
    });
    assert!(failed(&grid.pass(INPUT_STALL_MS_MAX - 100)).is_empty());
    grid.handle(Event::InputsProgressed {
        dispatch,
        complete: false,
    });
    assert!(failed(&grid.pass(INPUT_STALL_MS_MAX - 100)).is_empty());
    assert_eq!(failed(&grid.pass(100)), [(1, Code::Input)]);
    assert_eq!(grid.core.registry().slots(), (2, 0));
}

#[test]
fn drops_of_input_do_not_hold_a_slot_for_ever() {
    let mut grid = Grid::new(&[(1, 1)]);
    let dispatch = dispatched(&grid.submit(1, "a"))[0].3;
    grid.handle(Event::NeedReceived {
        worker: WorkerId(1),
        dispatch,
        inputs: true,
    });
    let mut ended = Vec::new();
    while ended.is_empty() && grid.now_ms <= INPUTS_MS_MAX {
        grid.handle(Event::InputsProgressed {
            dispatch,
            complete: false,
        });
        ended = failed(&grid.pass(5_000));
    }
    assert_eq!(ended, [(1, Code::Input)]);
}

#[test]
fn a_compile_without_end_is_ended() {
    let mut grid = Grid::new(&[(1, 1)]);
    let dispatch = dispatched(&grid.submit(1, "a"))[0].3;
    grid.handle(Event::NeedReceived {
        worker: WorkerId(1),
        dispatch,
        inputs: false,
    });
    assert!(failed(&grid.pass(60_000 + RESULT_GRACE_MS - 100)).is_empty());
    assert_eq!(failed(&grid.pass(100)), [(1, Code::Worker)]);
}

#[test]
fn shutdown_ends_everything_once() {
    let mut grid = Grid::new(&[(1, 1)]);
    for task in 1..=3 {
        grid.submit(task, "a");
    }
    let actions = grid.handle(Event::Shutdown);
    assert!(dispatched(&actions).is_empty());
    let mut ended = failed(&actions);
    ended.sort_by_key(|(task, _)| *task);
    assert_eq!(
        ended,
        [
            (1, Code::Shutdown),
            (2, Code::Shutdown),
            (3, Code::Shutdown)
        ]
    );
    assert_eq!(failed(&grid.submit(4, "a")), [(4, Code::Shutdown)]);
}

#[test]
fn slots_go_round_between_clients() {
    let mut grid = Grid::new(&[(1, 1)]);
    let mut dispatch = dispatched(&grid.submit(0, "big"))[0].3;
    for task in 1..=20 {
        grid.submit(task, "big");
    }
    for task in 100..103 {
        grid.submit(task, "small");
    }
    let mut order = Vec::new();
    for _ in 0..6 {
        let (_, task, _, next) = dispatched(&grid.done(1, dispatch))[0];
        order.push(task);
        dispatch = next;
    }
    assert_eq!(order, [1, 100, 2, 101, 3, 102]);
}

/// What the outside knows: it must never disagree with what it is told.
#[derive(Default)]
struct World {
    /// Slots, draining, attempts.
    workers: BTreeMap<WorkerId, (u32, bool, BTreeMap<DispatchId, TaskId>)>,
    /// Tasks that have not ended: attempts, and workers that failed them.
    open: BTreeMap<TaskId, (u32, BTreeSet<WorkerId>)>,
    /// Attempts that nobody waits for.
    seconds: BTreeMap<DispatchId, (WorkerId, TaskId)>,
    /// Results that are held back.
    held: BTreeSet<TaskId>,
    seconds_begun: usize,
    held_once: usize,
    ended: usize,
    submitted: u64,
}

impl World {
    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Dispatch(start) => {
                    let (worker, task) = (start.worker, start.task);
                    let running = self.workers.values().map(|w| {
                        let same = |t: &&TaskId| **t == task;
                        w.2.values().filter(same).count()
                    });
                    assert_eq!(running.sum::<usize>(), usize::from(start.hedge), "{task:?}");
                    let (attempts, failed) = self.open.get_mut(&task).expect("an open task");
                    *attempts += 1;
                    assert_eq!(*attempts, start.number);
                    assert!(
                        !failed.contains(&worker),
                        "{task:?} is back where it failed"
                    );
                    let (slots, draining, held) = self.workers.get_mut(&worker).expect("a worker");
                    // One may be sent ahead.
                    assert!(
                        !*draining && held.len() <= *slots as usize,
                        "{worker:?} has no room"
                    );
                    assert!(held.insert(start.dispatch, task).is_none());
                }
                Action::Late { task, .. } => assert!(self.open.contains_key(&task)),
                Action::DispatchSecond(start) => {
                    self.seconds_begun += 1;
                    let second = (start.worker, start.task);
                    assert!(self.workers.contains_key(&start.worker));
                    assert!(self.seconds.insert(start.dispatch, second).is_none());
                }
                Action::CancelDispatch { dispatch, .. }
                    if self.seconds.remove(&dispatch).is_some() => {}
                Action::CancelDispatch { worker, dispatch } => {
                    self.workers
                        .get_mut(&worker)
                        .expect("a worker")
                        .2
                        .remove(&dispatch);
                }
                Action::ReleaseTask { task, .. } => {
                    assert!(self.held.remove(&task), "{task:?} was not held");
                }
                Action::FinishTask { task, .. } | Action::FailTask { task, .. } => {
                    if let Action::FinishTask { held: true, .. } = action {
                        self.held_once += 1;
                        self.held.insert(task);
                    }
                    assert!(self.open.remove(&task).is_some(), "{task:?} ended twice");
                    self.ended += 1;
                }
                Action::NoteAudit { .. } | Action::NoteSecond { .. } => {}
                Action::SendDrain { worker } => {
                    self.workers.get_mut(&worker).expect("a worker").1 = true;
                }
                Action::CloseLink { worker, .. } => {
                    self.lose(worker);
                }
            }
        }
    }

    fn lose(&mut self, worker: WorkerId) {
        for task in self
            .workers
            .remove(&worker)
            .into_iter()
            .flat_map(|w| w.2.into_values())
        {
            self.blame(task, worker);
        }
        self.seconds.retain(|_, (by, _)| *by != worker);
    }

    fn blame(&mut self, task: TaskId, worker: WorkerId) {
        if let Some((_, failed)) = self.open.get_mut(&task) {
            failed.insert(worker);
        }
    }

    fn any_running(&self, random: &mut fastrand::Rng) -> Option<(WorkerId, DispatchId, TaskId)> {
        let all: Vec<_> = self
            .workers
            .iter()
            .flat_map(|(w, (_, _, held))| held.iter().map(|(d, t)| (*w, *d, *t)))
            .collect();
        random.choice(all)
    }

    /// Of an attempt that nobody waits for, if there is one.
    fn second_event(&mut self, random: &mut fastrand::Rng) -> Option<Event> {
        let all = self.seconds.iter().map(|(d, (w, _))| (*w, *d));
        let (worker, dispatch) = random.choice(all.collect::<Vec<_>>())?;
        Some(match random.u32(..10) {
            0..3 => Event::NeedReceived {
                worker,
                dispatch,
                inputs: random.bool(),
            },
            3..6 => Event::InputsProgressed {
                dispatch,
                complete: random.bool(),
            },
            6..9 => {
                self.seconds.remove(&dispatch);
                Event::TaskDone {
                    worker,
                    dispatch,
                    spent: spent(100.0),
                    made: made(random),
                }
            }
            _ => {
                self.seconds.remove(&dispatch);
                Event::TaskFailed {
                    worker,
                    dispatch,
                    failure: failure(Code::Worker, "random"),
                }
            }
        })
    }

    fn event(&mut self, random: &mut fastrand::Rng, step: u64) -> Event {
        if random.u32(..4) == 0
            && let Some(event) = self.second_event(random)
        {
            return event;
        }
        let worker = random.choice(self.workers.keys().copied().collect::<Vec<_>>());
        match (random.u32(..100), worker, self.any_running(random)) {
            (0..4, ..) => self.join(random, step),
            (4..6, Some(worker), _) => Event::WorkerGone {
                worker,
                reason: "random".into(),
            },
            (6..7, Some(worker), _) => Event::DrainRequested {
                worker,
                by_itself: false,
            },
            (7..12, ..) if !self.open.is_empty() => {
                let task = random.choice(self.open.keys().copied().collect::<Vec<_>>());
                let failure = failure(Code::Cancelled, "random");
                Event::TaskCancelled {
                    task: task.unwrap_or(TaskId(0)),
                    failure,
                }
            }
            (12..32, _, Some((worker, dispatch, _))) => {
                self.workers.get_mut(&worker).unwrap().2.remove(&dispatch);
                Event::TaskDone {
                    worker,
                    dispatch,
                    spent: spent(random.f64() * 1_000.0),
                    made: made(random),
                }
            }
            (70..76, _, Some((worker, dispatch, _))) => Event::CompileRuns {
                worker,
                dispatch,
                cpu_us: None,
                ended: false,
            },
            (76..78, _, Some((worker, dispatch, _))) => Event::ResultBegan { worker, dispatch },
            (32..42, _, Some((worker, dispatch, task))) => {
                let codes = [
                    Code::Busy,
                    Code::Memory,
                    Code::Worker,
                    Code::Link,
                    Code::Input,
                    Code::Limit,
                ];
                let code = random.choice(codes).unwrap();
                self.workers.get_mut(&worker).unwrap().2.remove(&dispatch);
                if !matches!(code, Code::Busy | Code::Memory) {
                    self.blame(task, worker);
                }
                Event::TaskFailed {
                    worker,
                    dispatch,
                    failure: failure(code, "random"),
                }
            }
            (42..52, _, Some((worker, dispatch, _))) => Event::NeedReceived {
                worker,
                dispatch,
                inputs: random.bool(),
            },
            (52..58, _, Some((_, dispatch, _))) => Event::InputsProgressed {
                dispatch,
                complete: random.bool(),
            },
            (58..70, ..) => Event::Tick,
            _ => {
                self.submitted += 1;
                let task = TaskId(self.submitted);
                self.open.insert(task, (0, BTreeSet::new()));
                let tool = random.choice(["gcc", "clang", "none"]).unwrap();
                let client = random.choice(["a", "b", "c"]).unwrap();
                Event::TaskSubmitted {
                    task,
                    demand: demand(client, tool),
                }
            }
        }
    }

    fn join(&mut self, random: &mut fastrand::Rng, step: u64) -> Event {
        let worker = WorkerId(1_000 + step);
        let slots = random.u32(1..4);
        let tools = random
            .choice([&["gcc"][..], &["clang"], &["gcc", "clang"]])
            .unwrap();
        // Sometimes a program that is there already, on a new link.
        let spec = spec(random.u64(..8), slots, tools);
        self.workers.insert(worker, (slots, false, BTreeMap::new()));
        Event::WorkerJoined { worker, spec }
    }
}

/// One of two objects, mostly the same one, or none.
fn made(random: &mut fastrand::Rng) -> Option<Digest> {
    let object = random.choice(["good", "good", "good", "evil", ""])?;
    (!object.is_empty()).then(|| Digest::of(object.as_bytes()))
}

#[test]
fn whatever_happens_every_task_ends_once_and_no_slot_is_given_twice() {
    let (mut seconds, mut held_once) = (0, 0);
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut core = Coordinator::new(Settings {
            seed,
            audit_every: 500,
            idle_audit_share: (seed % 2) as f64,
            ..Settings::default()
        });
        let mut world = World::default();
        let mut now_ms = 0;
        for step in 0..2_000 {
            now_ms += random.u64(..60);
            // Most workers are well, most of the time.
            for worker in world.workers.keys().copied().collect::<Vec<_>>() {
                if random.u32(..100) < 5 {
                    world.perform(core.handle(
                        Event::WorkerHeard {
                            worker,
                            vitals: None,
                        },
                        now_ms,
                    ));
                }
            }
            let event = world.event(&mut random, step);
            if let Event::WorkerGone { worker, .. } = &event {
                world.lose(*worker);
            }
            let actions = core.handle(event, now_ms);
            world.perform(actions);
            let held: usize = world.workers.values().map(|w| w.2.len()).sum();
            let workers = core.registry().iter();
            let ahead = workers.filter(|(_, w)| w.ahead.is_some()).count();
            assert_eq!(
                core.registry().slots().1 + ahead as u64,
                held as u64,
                "seed {seed} step {step}"
            );
            for (id, worker) in core.registry().iter() {
                let of = world.seconds.iter().filter(|(_, (by, _))| *by == id);
                let of: BTreeSet<DispatchId> = of.map(|(dispatch, _)| *dispatch).collect();
                assert_eq!(of, worker.seconds.iter().copied().collect(), "{id:?}");
                assert!(
                    of.is_empty() || of.len() + worker.running.len() <= worker.slots() as usize,
                    "seed {seed} step {step}: {id:?} has no room"
                );
            }
            let running: BTreeSet<TaskId> = world
                .workers
                .values()
                .flat_map(|w| w.2.values().copied())
                .collect();
            assert_eq!(
                core.unfinished(),
                world.open.len(),
                "seed {seed} step {step}"
            );
            assert_eq!(
                core.queued(),
                world.open.len() - running.len(),
                "seed {seed} step {step}"
            );
        }
        // Without workers and with time nothing stays open.
        world.perform(core.handle(Event::Tick, now_ms + 10_000_000));
        world.perform(core.handle(Event::Tick, now_ms + 20_000_000));
        assert_eq!(
            (core.unfinished(), core.queued(), world.open.len()),
            (0, 0, 0),
            "seed {seed}"
        );
        assert_eq!(world.ended as u64, world.submitted);
        assert!(world.seconds.is_empty() && world.held.is_empty());
        seconds += world.seconds_begun;
        held_once += world.held_once;
        assert!(world.submitted > 400, "seed {seed}: {}", world.submitted);
    }
    assert!(seconds > 500 && held_once > 0, "{seconds} {held_once}");
}

#[test]
fn a_draining_worker_offers_no_more_slots_than_are_taken() {
    let mut grid = Grid::new(&[(1, 4)]);
    let dispatch = dispatched(&grid.submit(1, "a"))[0].3;
    grid.join(2, 4);
    grid.handle(Event::DrainRequested {
        worker: WorkerId(1),
        by_itself: false,
    });
    assert_eq!(grid.core.registry().slots(), (5, 1));
    grid.done(1, dispatch);
    assert_eq!(grid.core.registry().slots(), (4, 0));
    grid.gone(1);
    grid.gone(2);
    assert_eq!(grid.core.registry().slots(), (0, 0));
}

/// Builds of some files at a time, one after the other with a pause in between, on two
/// equal machines, the second of which is slow until `well_ms`: how many compiles each
/// brought to its end from `since_ms` to `until_ms`.
fn builds_beside_a_slow_one(well_ms: u64, since_ms: u64, until_ms: u64) -> [u64; 2] {
    const COMPILE_MS: u64 = 2_000;
    const FILES: u64 = 3;
    const PAUSE_MS: u64 = 30_000;
    let mut grid = Grid::new(&[(1, 1), (2, 1)]);
    grid.learn(20, COMPILE_MS as f64);
    let mut running: Vec<(u64, u64, u64, DispatchId)> = Vec::new();
    let (mut submitted, mut next_ms, mut counts) = (0, 0, [0; 2]);
    while grid.now_ms < until_ms {
        let mut actions = grid.pass(100);
        let now_ms = grid.now_ms;
        if grid.core.unfinished() == 0 && now_ms >= next_ms {
            for _ in 0..FILES {
                submitted += 1;
                let demand = Demand {
                    queue_ms_max: 60_000,
                    ..demand("a", "gcc")
                };
                let task = TaskId(submitted);
                actions.extend(grid.handle(Event::TaskSubmitted { task, demand }));
            }
            next_ms = now_ms + PAUSE_MS;
        }
        let due = |(at_ms, ..): &(u64, u64, u64, DispatchId)| *at_ms <= now_ms;
        let (over, rest): (Vec<_>, Vec<_>) = running.into_iter().partition(due);
        running = rest;
        for (_, wall_ms, worker, dispatch) in over {
            let ended = grid.done_after(worker, dispatch, wall_ms as f64);
            let finished = |action: &Action| matches!(action, Action::FinishTask { .. });
            let counts_now = now_ms > since_ms && ended.iter().any(finished);
            counts[worker as usize - 1] += u64::from(counts_now);
            actions.extend(ended);
        }
        for (worker, _, _, dispatch) in dispatched(&actions) {
            grid.began(worker, dispatch);
            let is_slow = worker == 2 && now_ms < well_ms;
            let wall_ms = COMPILE_MS * if is_slow { 10 } else { 1 };
            running.push((now_ms + wall_ms, wall_ms, worker, dispatch));
        }
    }
    counts
}

#[test]
fn a_worker_that_was_slow_gets_work_again_when_it_is_well() {
    let [first, second] = builds_beside_a_slow_one(1_200_000, 600_000, 1_200_000);
    assert_eq!((first, second), (60, 0), "tried out, and rescued each time");
    // Two thirds and one third are all that three files come to.
    let [first, second] = builds_beside_a_slow_one(1_200_000, 1_210_000, 1_510_000);
    assert_eq!((first, second), (20, 10));
}

/// When the client is told that an attempt takes too long: from its start, ...
fn late_ms(actions: &[Action]) -> Option<u64> {
    actions.iter().find_map(|action| match action {
        Action::Dispatch(start) => Some(start.late_ms),
        _ => None,
    })
}

/// ... and from now.
fn later_ms(actions: &[Action]) -> Option<u64> {
    actions.iter().find_map(|action| match action {
        Action::Late { late_ms, .. } => Some(*late_ms),
        _ => None,
    })
}

#[test]
fn a_worker_that_never_ended_a_compile_is_waited_for_once_it_is_seen_to_get_on() {
    for (cpu_ms, waited_for) in [(Some(10), false), (Some(60), true), (None, true)] {
        let mut grid = Grid::new(&[(1, 1)]);
        let actions = grid.submit(1, "a");
        let soon_ms = late_ms(&actions).unwrap();
        assert!(soon_ms < 500, "{soon_ms}");
        let dispatch = dispatched(&actions)[0].3;
        // From when it runs.
        assert_eq!(later_ms(&grid.began(1, dispatch)), Some(soon_ms));
        grid.now_ms += 100;
        let told = later_ms(&grid.runs(1, dispatch, cpu_ms));
        assert_eq!(told.is_some_and(|ms| ms > soon_ms), waited_for, "{told:?}");
        // Told once.
        grid.now_ms += 100;
        let again = later_ms(&grid.runs(1, dispatch, cpu_ms.map(|ms| ms + 90)));
        assert_eq!(again.is_some(), !waited_for);
    }
}

#[test]
fn a_worker_that_has_shown_what_it_can_is_not_tried_out() {
    let mut grid = Grid::new(&[(1, 1)]);
    grid.learn(10, 100.0);
    let actions = grid.submit(1, "a");
    assert!(late_ms(&actions).unwrap() > 1_000);
    let dispatch = dispatched(&actions)[0].3;
    grid.began(1, dispatch);
    grid.now_ms += 100;
    assert_eq!(later_ms(&grid.runs(1, dispatch, Some(90))), None);
}

/// Milliseconds after which an attempt is given up of which this is reported: when, and
/// the milliseconds of processor time.
fn lost_after_ms(reports: &[(u64, Option<u64>)]) -> u64 {
    let mut grid = Grid::new(&[(1, 1)]);
    let dispatch = dispatched(&grid.submit(1, "a"))[0].3;
    grid.began(1, dispatch);
    grid.running.clear();
    let begun_ms = grid.now_ms;
    loop {
        let actions = grid.pass(100);
        let passed_ms = grid.now_ms - begun_ms;
        if failed(&actions) == [(1, Code::Worker)] {
            let cancel = Action::CancelDispatch {
                worker: WorkerId(1),
                dispatch,
            };
            assert!(actions.contains(&cancel), "{actions:?}");
            return passed_ms;
        }
        assert!(passed_ms < 5 * PROGRESS_MS_MAX, "{actions:?}");
        for (_, cpu_ms) in reports.iter().filter(|(at_ms, _)| *at_ms == passed_ms) {
            grid.runs(1, dispatch, *cpu_ms);
        }
    }
}

#[test]
fn a_compile_that_gets_no_processor_is_given_up() {
    let half = PROGRESS_MS_MAX / 2;
    assert_eq!(lost_after_ms(&[]), PROGRESS_MS_MAX);
    assert_eq!(lost_after_ms(&[(half, Some(0))]), PROGRESS_MS_MAX);
    assert_eq!(lost_after_ms(&[(half, Some(10))]), half + PROGRESS_MS_MAX);
    let same = [(half, Some(10)), (2 * half, Some(10))];
    assert_eq!(lost_after_ms(&same), half + PROGRESS_MS_MAX);
    assert_eq!(lost_after_ms(&[(half, None)]), half + PROGRESS_MS_MAX);
}

#[test]
fn a_compile_that_has_ended_needs_no_processor() {
    let mut grid = Grid::new(&[(1, 1)]);
    let dispatch = dispatched(&grid.submit(1, "a"))[0].3;
    grid.began(1, dispatch);
    grid.running.clear();
    grid.handle(Event::CompileRuns {
        worker: WorkerId(1),
        dispatch,
        cpu_us: None,
        ended: true,
    });
    assert!(failed(&grid.pass(2 * PROGRESS_MS_MAX)).is_empty());
}

#[test]
fn a_compile_that_gets_no_processor_is_tried_elsewhere() {
    let mut grid = Grid::new(&[(1, 1)]);
    let dispatch = dispatched(&grid.submit(1, "a"))[0].3;
    grid.began(1, dispatch);
    grid.running.clear();
    grid.pass(PROGRESS_MS_MAX - 200);
    grid.join(2, 1);
    assert_eq!(dispatched(&grid.pass(200))[0].0, 2);
}

impl Grid {
    /// With one worker whose results may be shared.
    fn sharing(slots: u32) -> Self {
        let mut grid = Grid::new(&[]);
        grid.handle(Event::WorkerJoined {
            worker: WorkerId(1),
            spec: spec_in_full_sandbox(1, slots),
        });
        grid
    }

    /// A task that is the same as all others of this `text`.
    fn ask(&mut self, task: u64, text: &str) -> Vec<Action> {
        let demand = Demand {
            same: Some(Digest::of(text.as_bytes())),
            ..demand("a", "gcc")
        };
        let task = TaskId(task);
        self.handle(Event::TaskSubmitted { task, demand })
    }

    fn settled(&mut self, task: u64, text: &str) -> Vec<Action> {
        let (task, same) = (TaskId(task), Digest::of(text.as_bytes()));
        self.handle(Event::ResultSettled { task, same })
    }

    fn waited_in_vain(&mut self, task: u64) -> Vec<Action> {
        let task = TaskId(task);
        self.handle(Event::WaitedInVain { task })
    }
}

#[test]
fn of_tasks_that_are_the_same_one_is_compiled_and_the_others_wait() {
    let mut grid = Grid::sharing(3);
    let first = dispatched(&grid.ask(1, "x"))[0].3;
    assert!(grid.ask(2, "x").is_empty());
    assert_eq!(dispatched(&grid.ask(3, "y")).len(), 1);
    assert_eq!(grid.core.queued(), 1);
    // Until its result can be had, none of the same is compiled.
    assert!(dispatched(&grid.done(1, first)).is_empty());
    assert!(grid.ask(4, "x").is_empty());
    assert!(grid.settled(2, "x").is_empty(), "that one compiles nothing");
    assert!(grid.ask(5, "x").is_empty());
    grid.settled(1, "x");
    assert_eq!(dispatched(&grid.ask(6, "x"))[0].1, 6);
    // Whoever has got it is gone.
    let failure = failure(Code::Cancelled, "it has it");
    for task in [2, 4, 5].map(TaskId) {
        let failure = failure.clone();
        grid.handle(Event::TaskCancelled { task, failure });
    }
    assert_eq!((grid.core.queued(), grid.core.unfinished()), (0, 2));
}

#[test]
fn what_waited_for_another_one_in_vain_is_compiled() {
    let mut grid = Grid::sharing(4);
    let first = dispatched(&grid.ask(1, "x"))[0].3;
    grid.ask(2, "x");
    grid.ask(3, "x");
    let failure = failure(Code::Cancelled, "gone");
    let task = TaskId(1);
    let actions = grid.handle(Event::TaskCancelled { task, failure });
    assert!(actions.contains(&Action::CancelDispatch {
        worker: WorkerId(1),
        dispatch: first
    }));
    assert_eq!(dispatched(&grid.waited_in_vain(2))[0].1, 2);
    // And no longer waits, whoever compiles.
    assert_eq!(dispatched(&grid.waited_in_vain(3))[0].1, 3);
    assert!(grid.waited_in_vain(3).is_empty(), "once is enough");
    assert!(grid.ask(4, "x").is_empty());
}

#[test]
fn a_task_in_the_queue_waits_when_its_turn_comes() {
    let mut grid = Grid::sharing(2);
    let running = [("a", 1), ("b", 2)].map(|(text, task)| dispatched(&grid.ask(task, text))[0].3);
    for (task, text) in [(3, "x"), (4, "x"), (5, "y")] {
        assert!(grid.ask(task, text).is_empty());
    }
    assert_eq!(dispatched(&grid.done(1, running[0]))[0].1, 3);
    assert_eq!(dispatched(&grid.done(1, running[1]))[0].1, 5);
    assert_eq!(grid.core.queued(), 1);
}

#[test]
fn to_wait_for_another_one_has_the_queues_deadline() {
    let mut grid = Grid::sharing(2);
    grid.ask(1, "x");
    grid.ask(2, "x");
    assert!(failed(&grid.pass(4_900)).is_empty());
    assert_eq!(failed(&grid.pass(200)), [(2, Code::Queue)]);
    assert_eq!(grid.core.queued(), 0);
}

#[test]
fn nobody_waits_for_a_worker_whose_results_are_not_shared() {
    let mut grid = Grid::new(&[(1, 2)]);
    assert_eq!(dispatched(&grid.ask(1, "x")).len(), 1);
    assert_eq!(dispatched(&grid.ask(2, "x")).len(), 1);
}
