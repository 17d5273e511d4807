//! The queue of tasks that have their inputs and wait for a slot: first come, first served
//! among those that fit into memory. Unaware of what a task does with its slot.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hg_proto::v1::{Failure, failure::Code};
use nix::unistd::Pid;
use prometheus::IntGauge;

use crate::inputs::validate::failure;
use crate::machine::admission::{
    self, Capacity, MEMORY_EXPECTED_DEFAULT_BYTES, MEMORY_GROWTH, Start,
};
use crate::machine::usage;
use crate::tasks::control::Control;

/// How long a waiting task goes without a look at slots and memory.
const LOOK: Duration = Duration::from_millis(100);

/// The slots of a worker and the tasks that wait for one; shared by all its tasks.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
    /// How long a task for which there is no room waits for some.
    patience: Duration,
    /// Compiles that have a slot, as a metric.
    gauge: IntGauge,
}

#[derive(Debug)]
struct GateState {
    capacity: Capacity,
    running: Vec<Running>,
    /// In the order of their arrival.
    waiting: VecDeque<Waiting>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Running {
    ticket: u64,
    control: Arc<Control>,
    since: Instant,
    expected_bytes: u64,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    /// Since when it lacks more than a slot.
    no_room_since: Option<Instant>,
}

/// A slot of a task; free again when dropped.
#[derive(Debug)]
pub struct Slot<'a> {
    gate: &'a Gate,
    ticket: u64,
}

impl Gate {
    /// A gate that lets `slots` compiles run at once. A task for which there is a slot but no
    /// room waits as long as `patience`. `gauge` shows the compiles that have a slot.
    pub fn new(slots: u32, patience: Duration, gauge: IntGauge) -> Self {
        Gate {
            state: Mutex::new(GateState {
                capacity: Capacity { slots, why: "" },
                running: Vec::new(),
                waiting: VecDeque::new(),
                next_ticket: 0,
            }),
            changed: Condvar::new(),
            patience,
            gauge,
        }
    }

    // No code panics while it holds the lock, and the state is whole at any time.
    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, state: &GateState) {
        self.gauge.set(state.running.len() as i64);
    }

    /// Lets `capacity` compiles run at once from now on; those that run stay.
    pub fn set_capacity(&self, capacity: Capacity) {
        self.lock().capacity = capacity;
        self.changed.notify_all();
    }

    /// Wakes the tasks that wait, so that they see whether they were cancelled.
    pub fn wake(&self) {
        self.changed.notify_all();
    }

    /// How many compiles have a slot.
    pub fn running(&self) -> u32 {
        self.lock().running.len() as u32
    }

    /// Process groups of the compilers that run.
    pub fn compilers(&self) -> Vec<Pid> {
        let state = self.lock();
        let groups = state
            .running
            .iter()
            .map(|running| running.control.process_group());
        groups.flatten().collect()
    }

    /// Waits for a slot for a compile that is predicted to need `expected_bytes` of memory (0:
    /// unknown); `available_bytes` measures how much is available (`None`: unknown).
    ///
    /// # Errors
    /// Why the task was cancelled meanwhile, or `BUSY`.
    pub fn enter(
        &self,
        control: &Arc<Control>,
        expected_bytes: u64,
        available_bytes: impl Fn() -> Option<u64>,
    ) -> Result<Slot<'_>, Failure> {
        let mut state = self.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(Waiting {
            ticket,
            no_room_since: None,
        });
        let entered = loop {
            if let Some(why) = control.cancelled() {
                break Err(why);
            }
            let now = Instant::now();
            match state.decide(ticket, expected_bytes, now, &available_bytes) {
                Start::Now => {
                    state.running.push(Running {
                        ticket,
                        control: control.clone(),
                        since: now,
                        expected_bytes,
                    });
                    self.show(&state);
                    break Ok(Slot { gate: self, ticket });
                }
                Start::WhenSlotFree => {}
                Start::NoRoom(busy) => {
                    let is_news = state.note_no_room(ticket, now);
                    if state.gives_up(ticket, now, self.patience) {
                        break Err(failure(Code::Busy, busy.to_string()));
                    }
                    // Tasks behind it may fit; told again, they would wake it in turn.
                    if is_news {
                        self.changed.notify_all();
                    }
                }
            }
            state = self
                .changed
                .wait_timeout(state, LOOK)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        };
        state.waiting.retain(|other| other.ticket != ticket);
        drop(state);
        self.changed.notify_all();
        entered
    }
}

impl GateState {
    fn decide(
        &self,
        ticket: u64,
        expected_bytes: u64,
        now: Instant,
        available_bytes: impl Fn() -> Option<u64>,
    ) -> Start {
        let mut before = self
            .waiting
            .iter()
            .take_while(|other| other.ticket != ticket);
        if before.any(|other| other.no_room_since.is_none()) {
            return Start::WhenSlotFree;
        }
        // Asked for only where there is a slot: it takes a look at all that run.
        let available_bytes = || {
            let reserved_bytes = self.running.iter().map(|r| r.reserved_bytes(now));
            let reserved_bytes = reserved_bytes.fold(0, u64::saturating_add);
            Some(available_bytes()?.saturating_sub(reserved_bytes))
        };
        let running = self.running.len();
        admission::start(self.capacity, running, expected_bytes, available_bytes)
    }

    /// Notes that a task lacks more than a slot. Gives whether that was not known before.
    fn note_no_room(&mut self, ticket: u64, now: Instant) -> bool {
        let own = self.waiting.iter_mut().find(|own| own.ticket == ticket);
        own.is_some_and(|own| {
            let since = own.no_room_since.unwrap_or(now);
            own.no_room_since.replace(since).is_none()
        })
    }

    /// Whether a task without room goes to another worker: no memory will come back, or not in
    /// time.
    fn gives_up(&self, ticket: u64, now: Instant, patience: Duration) -> bool {
        let own = self.waiting.iter().find(|own| own.ticket == ticket);
        let since = own.and_then(|own| own.no_room_since).unwrap_or(now);
        self.running.is_empty() || now.saturating_duration_since(since) >= patience
    }
}

impl Running {
    /// Bytes of memory that the compile will still take.
    fn reserved_bytes(&self, now: Instant) -> u64 {
        if now.saturating_duration_since(self.since) >= MEMORY_GROWTH {
            return 0;
        }
        let expected_bytes = match self.expected_bytes {
            0 => MEMORY_EXPECTED_DEFAULT_BYTES,
            bytes => bytes,
        };
        let has_bytes = match self.control.process_group() {
            Some(group) => usage::of_tree(group).resident_bytes,
            None => 0,
        };
        expected_bytes.saturating_sub(has_bytes)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let ticket = self.ticket;
        let mut state = self.gate.lock();
        state.running.retain(|r| r.ticket != ticket);
        self.gate.show(&state);
        drop(state);
        self.gate.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    fn gate(slots: u32, patience: Duration) -> Gate {
        let gauge = IntGauge::new("running", "Compiles that have a slot.").unwrap();
        Gate::new(slots, patience, gauge)
    }

    /// Waits until `count` tasks wait at the gate.
    fn until_waiting(gate: &Gate, count: usize) {
        while gate.lock().waiting.len() != count {
            thread::yield_now();
        }
    }

    #[test]
    fn first_come_first_served() {
        let gate = gate(1, Duration::MAX);
        let control = Arc::new(Control::new(0).unwrap());
        let (entered, order) = mpsc::channel();
        let (gate, control) = (&gate, &control);
        thread::scope(|scope| {
            let pass = gate.enter(control, 0, || None).unwrap();
            for number in 0..3 {
                let entered = entered.clone();
                scope.spawn(move || {
                    let _pass = gate.enter(control, 0, || None).unwrap();
                    assert_eq!(gate.running(), 1);
                    assert_eq!(gate.gauge.get(), 1);
                    entered.send(number).unwrap();
                });
                until_waiting(gate, number + 1);
            }
            assert!(order.try_recv().is_err());
            drop(pass);
        });
        assert_eq!(order.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(gate.running(), 0);
        assert_eq!(gate.gauge.get(), 0);
    }

    #[test]
    fn who_is_cancelled_waits_no_more_and_blocks_nobody() {
        let gate = gate(1, Duration::MAX);
        let [stays, goes] = [(); 2].map(|()| Arc::new(Control::new(0).unwrap()));
        let why = Failure {
            detail: "cancelled".into(),
            ..Failure::default()
        };
        thread::scope(|scope| {
            let pass = gate.enter(&stays, 0, || None).unwrap();
            let first = scope.spawn(|| gate.enter(&goes, 0, || None).map(drop));
            until_waiting(&gate, 1);
            let second = scope.spawn(|| gate.enter(&stays, 0, || None).map(drop));
            until_waiting(&gate, 2);
            goes.cancel(why.clone());
            gate.wake();
            assert_eq!(first.join().unwrap(), Err(why));
            drop(pass);
            assert_eq!(second.join().unwrap(), Ok(()));
        });
    }

    #[test]
    fn what_does_not_fit_waits_and_lets_others_pass() {
        const AVAILABLE: fn() -> Option<u64> = || Some(512 << 20);
        let gate = gate(3, Duration::MAX);
        let control = Arc::new(Control::new(0).unwrap());
        let (gate, control) = (&gate, &control);
        // The first one has no process yet: all its memory is still to come.
        let first = gate.enter(control, 400 << 20, AVAILABLE).unwrap();
        thread::scope(|scope| {
            let large = scope.spawn(|| {
                let pass = gate.enter(control, 400 << 20, AVAILABLE).unwrap();
                assert_eq!(gate.running(), 1);
                drop(pass);
            });
            until_waiting(gate, 1);
            let small = gate.enter(control, 16 << 20, AVAILABLE).unwrap();
            assert_eq!(gate.running(), 2);
            drop(small);
            until_waiting(gate, 1);
            drop(first);
            large.join().unwrap();
        });
    }

    #[test]
    fn those_who_are_short_do_not_keep_each_other_awake() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let gate = gate(4, 5 * LOOK);
        let control = Arc::new(Control::new(0).unwrap());
        let first = gate.enter(&control, 400 << 20, || None).unwrap();
        let looks = AtomicU32::new(0);
        let available = || {
            looks.fetch_add(1, Ordering::Relaxed);
            Some(512 << 20)
        };
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert!(gate.enter(&control, 400 << 20, available).is_err()));
            }
        });
        drop(first);
        let looks = looks.into_inner();
        // Each one's own, and those that others' news bring.
        assert!((3..=60).contains(&looks), "{looks}");
    }

    #[test]
    fn patience_has_an_end() {
        let gate = gate(2, Duration::ZERO);
        let control = Arc::new(Control::new(0).unwrap());
        let pass = gate.enter(&control, 0, || None).unwrap();
        let refused = gate.enter(&control, 400 << 20, || Some(100 << 20));
        assert_eq!(refused.map(drop).unwrap_err().code(), Code::Busy);
        drop(pass);
        assert!(gate.lock().waiting.is_empty());
    }

    #[test]
    fn what_does_not_fit_alone_goes_elsewhere() {
        let gate = gate(3, Duration::MAX);
        let control = Arc::new(Control::new(0).unwrap());
        let refused = gate.enter(&control, 400 << 20, || Some(100 << 20));
        let refused = refused.map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::Busy, "{}", refused.detail);
        gate.set_capacity(Capacity {
            slots: 0,
            why: "heat",
        });
        let refused = gate.enter(&control, 0, || None).map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::Busy);
        assert!(refused.detail.contains("heat"), "{}", refused.detail);
        gate.set_capacity(Capacity { slots: 1, why: "" });
        assert!(gate.enter(&control, 0, || None).is_ok());
    }
}
