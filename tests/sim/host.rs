//! What a simulated machine is doing: its link, its slots, its memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hg_coord::scheduling::id::{DispatchId, WorkerId};
use hg_coord::scheduling::registry::Vitals;

use crate::pool::Machine;

/// What is left of a load average after one heartbeat, a second.
const LOAD_FADE: f64 = 59.0 / 60.0;

/// See the top of the file.
pub struct Host {
    /// As it is made.
    pub machine: Machine,
    /// Its link, if it has one now.
    pub worker: Option<WorkerId>,
    /// All that was sent to it and has not ended.
    pub attempts: BTreeSet<DispatchId>,
    /// Those that have their inputs and no slot.
    pub waiting: VecDeque<DispatchId>,
    /// Since when each compile runs, in microseconds, and its memory in bytes.
    compiling: BTreeMap<DispatchId, (u64, u64)>,
    used_bytes: u64,
    link_free_us: u64,
    load: f64,
}

impl Host {
    /// Idle, and without a link.
    pub fn new(machine: &Machine) -> Self {
        Host {
            machine: machine.clone(),
            worker: None,
            attempts: BTreeSet::new(),
            waiting: VecDeque::new(),
            compiling: BTreeMap::new(),
            used_bytes: 0,
            link_free_us: 0,
            load: 0.0,
        }
    }

    /// What a heartbeat says; one is due each second.
    pub fn vitals(&mut self) -> Vitals {
        self.load = self.load * LOAD_FADE + self.compiling.len() as f64 * (1.0 - LOAD_FADE);
        Vitals {
            load_milli: (self.load * 1e3) as u32,
            memory_available_bytes: self.machine.memory_bytes - self.used_bytes,
            temperature_milli_c: 0,
            round_trip_us: self.machine.round_trip_us as u32,
            slots: None,
        }
    }

    /// Microseconds until these bytes are across its link, behind those that are
    /// on their way.
    pub fn carry(&mut self, bytes: u64, now_us: u64) -> u64 {
        let takes_us = (bytes as f64 / self.machine.reach * 1e3) as u64;
        self.link_free_us = self.link_free_us.max(now_us) + takes_us;
        self.link_free_us - now_us + self.machine.round_trip_us / 2
    }

    /// What waits and has a slot now.
    pub fn next(&mut self) -> Option<DispatchId> {
        let free = self.compiling.len() < self.machine.slots as usize;
        free.then(|| self.waiting.pop_front()).flatten()
    }

    /// Whether there is memory for one more.
    pub fn has_room(&self, peak_bytes: u64) -> bool {
        self.used_bytes + peak_bytes <= self.machine.memory_bytes
    }

    /// A compiler begins.
    pub fn compile(&mut self, dispatch: DispatchId, peak_bytes: u64, now_us: u64) {
        self.compiling.insert(dispatch, (now_us, peak_bytes));
        self.used_bytes += peak_bytes;
    }

    /// How many times longer a compile takes, for those that run beside it.
    pub fn crowding(&self) -> f64 {
        (self.compiling.len() as f64 / f64::from(self.machine.cores)).max(1.0)
    }

    /// It ends, or is stopped. Gives for how many microseconds it ran.
    pub fn stop(&mut self, dispatch: DispatchId, now_us: u64) -> u64 {
        let Some((since_us, peak_bytes)) = self.compiling.remove(&dispatch) else {
            return 0;
        };
        self.used_bytes -= peak_bytes;
        now_us - since_us
    }

    /// It was never there.
    pub fn forget(&mut self, dispatch: DispatchId) {
        self.attempts.remove(&dispatch);
        self.waiting.retain(|other| *other != dispatch);
    }
}
