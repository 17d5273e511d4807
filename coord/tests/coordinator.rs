//! The state machine without sockets or clocks: what it promises, one by one,
//! and then under random events.

use std::collections::{BTreeMap, BTreeSet};

use hg_coord::bounds::*;
use hg_coord::coordinator::{Action, Coordinator, Event, failure};
use hg_coord::id::{DispatchId, TaskId, WorkerId};
use hg_coord::jobs::Demand;
use hg_coord::registry::{Vitals, WorkerSpec};
use hg_proto::digest::Digest;
use hg_proto::limits::{HEARTBEAT_EXPIRY_MS, HEARTBEAT_MS};
use hg_proto::v1::failure::Code;

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

fn demand(client: &str, tool: &str) -> Demand {
    Demand {
        client: client.into(),
        toolchain: Digest::of(tool.as_bytes()),
        bytes: 100,
        queue_ms_max: 5_000,
        compile_ms_max: 60_000,
    }
}

struct Grid {
    core: Coordinator,
    now_ms: u64,
}

impl Grid {
    fn new(workers: &[(u64, u32)]) -> Self {
        let mut grid = Grid {
            core: Coordinator::new(1),
            now_ms: 0,
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
        self.handle(Event::TaskDone {
            worker: WorkerId(worker),
            dispatch,
        })
    }

    fn fail(&mut self, worker: u64, dispatch: DispatchId, code: Code) -> Vec<Action> {
        let failure = failure(code, "test");
        self.handle(Event::TaskFailed {
            worker: WorkerId(worker),
            dispatch,
            failure,
        })
    }

    /// Time goes by in steps, and all workers send heartbeats.
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
            actions.extend(self.handle(Event::Tick));
        }
        actions
    }
}

fn dispatched(actions: &[Action]) -> Vec<(u64, u64, u32, DispatchId)> {
    let dispatches = actions.iter().filter_map(|action| match action {
        Action::Dispatch {
            worker,
            dispatch,
            task,
            attempt,
            ..
        } => Some((worker.0, task.0, *attempt, *dispatch)),
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
    let Action::Dispatch {
        task: TaskId(11),
        queue_ms: 250,
        ..
    } = actions[1]
    else {
        panic!("{actions:?}");
    };
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
fn one_failure_is_tried_elsewhere_and_two_are_the_end() {
    let mut grid = Grid::new(&[(1, 1), (2, 1), (3, 1)]);
    let (worker, _, attempt, dispatch) = dispatched(&grid.submit(1, "a"))[0];
    assert_eq!(attempt, 1);
    let second = dispatched(&grid.fail(worker, dispatch, Code::Worker));
    assert_eq!(second[0].2, 2);
    assert_ne!(second[0].0, worker);
    let actions = grid.fail(second[0].0, second[0].3, Code::Worker);
    assert_eq!(failed(&actions), [(1, Code::Worker)]);
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
    ended: usize,
    submitted: u64,
}

impl World {
    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Dispatch {
                    worker,
                    dispatch,
                    task,
                    attempt,
                    ..
                } => {
                    let running = self
                        .workers
                        .values()
                        .any(|w| w.2.values().any(|t| *t == task));
                    assert!(!running, "{task:?} runs twice");
                    let (attempts, failed) = self.open.get_mut(&task).expect("an open task");
                    *attempts += 1;
                    assert_eq!(*attempts, attempt);
                    assert!(
                        !failed.contains(&worker),
                        "{task:?} is back where it failed"
                    );
                    let (slots, draining, held) = self.workers.get_mut(&worker).expect("a worker");
                    assert!(
                        !*draining && held.len() < *slots as usize,
                        "{worker:?} has no room"
                    );
                    assert!(held.insert(dispatch, task).is_none());
                }
                Action::CancelDispatch { worker, dispatch } => {
                    self.workers
                        .get_mut(&worker)
                        .expect("a worker")
                        .2
                        .remove(&dispatch);
                }
                Action::FinishTask { task, .. } | Action::FailTask { task, .. } => {
                    assert!(self.open.remove(&task).is_some(), "{task:?} ended twice");
                    self.ended += 1;
                }
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

    fn event(&mut self, random: &mut fastrand::Rng, step: u64) -> Event {
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
                Event::TaskDone { worker, dispatch }
            }
            (32..42, _, Some((worker, dispatch, task))) => {
                let codes = [
                    Code::Busy,
                    Code::Worker,
                    Code::Link,
                    Code::Input,
                    Code::Limit,
                ];
                let code = random.choice(codes).unwrap();
                self.workers.get_mut(&worker).unwrap().2.remove(&dispatch);
                if code != Code::Busy {
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

#[test]
fn whatever_happens_every_task_ends_once_and_no_slot_is_given_twice() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut core = Coordinator::new(seed);
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
            let busy: usize = world.workers.values().map(|w| w.2.len()).sum();
            assert_eq!(
                core.registry().slots().1,
                busy as u64,
                "seed {seed} step {step}"
            );
            assert_eq!(
                core.unfinished(),
                world.open.len(),
                "seed {seed} step {step}"
            );
            assert_eq!(
                core.queued(),
                world.open.len() - busy,
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
        assert!(world.submitted > 400, "seed {seed}: {}", world.submitted);
    }
}
