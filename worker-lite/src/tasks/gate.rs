//! Where tasks that have their inputs wait until a compile may start: first come,
//! first served among those that fit into memory. Unaware of what a task does with
//! its slot.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hg_proto::v1::{Failure, failure::Code};
use nix::unistd::Pid;
use prometheus::IntGauge;

use crate::inputs::validate::failure;
use crate::machine::admission::{
    self, Bears, Entry, MEMORY_EXPECTED_DEFAULT_BYTES, MEMORY_GROWTH, Room,
};
use crate::machine::usage;
use crate::tasks::control::Control;

/// How long a waiting task goes without a look at what it waits for.
const LOOK: Duration = Duration::from_millis(100);

/// Shared by all tasks of a worker.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    patience: Duration,
    /// Compiles that have a slot, for others to see.
    gauge: IntGauge,
}

#[derive(Debug)]
struct State {
    bears: Bears,
    running: Vec<Running>,
    /// In the order in which they came.
    waiting: VecDeque<Waiting>,
    ticket: u64,
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
    /// Since when a slot alone does not help it.
    short: Option<Instant>,
}

/// A slot; free again when dropped.
#[derive(Debug)]
pub struct Pass<'a> {
    gate: &'a Gate,
    ticket: u64,
}

impl Gate {
    /// Lets `slots` compiles run at once. A task that needs more than a slot waits
    /// for that as long as `patience`. `gauge` shows the compiles that have a slot.
    pub fn new(slots: u32, patience: Duration, gauge: IntGauge) -> Self {
        Gate {
            state: Mutex::new(State {
                bears: Bears { slots, why: "" },
                running: Vec::new(),
                waiting: VecDeque::new(),
                ticket: 0,
            }),
            changed: Condvar::new(),
            patience,
            gauge,
        }
    }

    // No code panics while it holds the lock, and the state is whole at any time.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, state: &State) {
        self.gauge.set(state.running.len() as i64);
    }

    /// Lets that many compiles run at once from now on; those that run stay.
    pub fn bear(&self, bears: Bears) {
        self.lock().bears = bears;
        self.changed.notify_all();
    }

    /// Lets those who wait look whether they were cancelled.
    pub fn wake(&self) {
        self.changed.notify_all();
    }

    /// Compiles that have a slot.
    pub fn running(&self) -> u32 {
        self.lock().running.len() as u32
    }

    /// The process groups of the compilers that run.
    pub fn compilers(&self) -> Vec<Pid> {
        let state = self.lock();
        let groups = state.running.iter().map(|running| running.control.group());
        groups.flatten().collect()
    }

    /// Waits for a slot for a compile that is thought to need `expected_bytes` of
    /// memory (0: nobody knows); `available_bytes` says how much there is.
    ///
    /// # Errors
    /// Why the task was cancelled meanwhile, or `BUSY`.
    pub fn enter(
        &self,
        control: &Arc<Control>,
        expected_bytes: u64,
        available_bytes: impl Fn() -> Option<u64>,
    ) -> Result<Pass<'_>, Failure> {
        let mut state = self.lock();
        let ticket = state.ticket;
        state.ticket += 1;
        let short = None;
        state.waiting.push_back(Waiting { ticket, short });
        let entered = loop {
            if let Some(why) = control.cancelled() {
                break Err(why);
            }
            let now = Instant::now();
            match state.decide(ticket, expected_bytes, now, &available_bytes) {
                Entry::Now => {
                    state.running.push(Running {
                        ticket,
                        control: control.clone(),
                        since: now,
                        expected_bytes,
                    });
                    self.show(&state);
                    break Ok(Pass { gate: self, ticket });
                }
                Entry::WhenFree => {}
                Entry::Short(busy) => {
                    let is_news = state.is_short(ticket, now);
                    if state.gives_up(ticket, now, self.patience) {
                        break Err(failure(Code::Busy, busy.to_string()));
                    }
                    // Those behind it may fit; told again, they would wake it in turn.
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

impl State {
    fn decide(
        &self,
        ticket: u64,
        expected_bytes: u64,
        now: Instant,
        available_bytes: impl Fn() -> Option<u64>,
    ) -> Entry {
        let mut before = self
            .waiting
            .iter()
            .take_while(|other| other.ticket != ticket);
        if before.any(|other| other.short.is_none()) {
            return Entry::WhenFree;
        }
        let room = Room {
            bears: self.bears,
            running: self.running.len(),
        };
        // Only where there is a slot: it takes looks at all that run.
        let available_bytes = || {
            let promised_bytes = self.running.iter().map(|r| r.promised_bytes(now));
            let promised_bytes = promised_bytes.fold(0, u64::saturating_add);
            Some(available_bytes()?.saturating_sub(promised_bytes))
        };
        admission::enter(room, expected_bytes, available_bytes)
    }

    /// Notes that a slot alone does not help it; whether it was not known before.
    fn is_short(&mut self, ticket: u64, now: Instant) -> bool {
        let own = self.waiting.iter_mut().find(|own| own.ticket == ticket);
        own.is_some_and(|own| own.short.replace(own.short.unwrap_or(now)).is_none())
    }

    /// Whether one that is short goes elsewhere: no memory will come back, or not
    /// in time.
    fn gives_up(&self, ticket: u64, now: Instant, patience: Duration) -> bool {
        let own = self.waiting.iter().find(|own| own.ticket == ticket);
        let since = own.and_then(|own| own.short).unwrap_or(now);
        self.running.is_empty() || now.saturating_duration_since(since) >= patience
    }
}

impl Running {
    /// Bytes of memory that it will still take.
    fn promised_bytes(&self, now: Instant) -> u64 {
        if now.saturating_duration_since(self.since) >= MEMORY_GROWTH {
            return 0;
        }
        let expected_bytes = match self.expected_bytes {
            0 => MEMORY_EXPECTED_DEFAULT_BYTES,
            bytes => bytes,
        };
        let has_bytes = match self.control.group() {
            Some(group) => usage::of_tree(group).resident_bytes,
            None => 0,
        };
        expected_bytes.saturating_sub(has_bytes)
    }
}

impl Drop for Pass<'_> {
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
        gate.bear(Bears {
            slots: 0,
            why: "heat",
        });
        let refused = gate.enter(&control, 0, || None).map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::Busy);
        assert!(refused.detail.contains("heat"), "{}", refused.detail);
        gate.bear(Bears { slots: 1, why: "" });
        assert!(gate.enter(&control, 0, || None).is_ok());
    }
}
