//! Pure: a worker: what it offers, what it is doing, how fast one more task would run
//! there. Unaware of other workers.

use std::sync::Arc;

use hg_proto::v1;
use hg_proto::wire::digest::Digest;

use crate::bounds::{SLOTS_UNPROVEN_MAX, SPEED_CLAIM_MAX};
use crate::scheduling::breaker::Breaker;
use crate::scheduling::id::{DispatchId, Who, WorkerId};
use crate::scheduling::pool::{Offer, Standing};
use crate::scheduling::predictor::{Pace, worker_key};

/// A worker that was learned to be slower than it measured itself, by more than so
/// many times, may have got well since.
const DOUBT_FACTOR: f64 = 2.0;

/// Compiles that a worker has to bring to their end before it is waited for.
const PROOFS_MIN: u64 = 4;

/// The best of sandboxes, as workers name it.
const FULL_SANDBOX: &str = "full";

/// What a worker said of itself, checked and cut to size.
#[derive(Debug, Clone, Default)]
pub struct WorkerSpec {
    /// Holder of the token that the worker showed; empty where nobody is asked for one.
    pub holder: String,
    /// Random bytes, new at each start of the worker's program.
    pub instance: [u8; 16],
    /// The worker's own name, for people, and no proof of anything: what is remembered of
    /// a worker is of its holder and its name.
    pub name: String,
    /// Version of the worker's program.
    pub version: String,
    /// Architecture of the worker's processor.
    pub architecture: String,
    /// The worker's operating system.
    pub os: String,
    /// What confines compiles on the worker, as it measured.
    pub sandbox: String,
    /// What its machine is beneath its programs.
    pub machine: v1::Machine,
    /// The address that the worker dials from.
    pub address: String,
    /// The machine's processor cores.
    pub cores: u32,
    /// Bytes of the machine's memory; 0: unknown.
    pub memory_bytes: u64,
    /// Tasks that the worker takes at once; at least one.
    pub slots: u32,
    /// Speed as the worker measured it, in thousandths of the reference; 0: it did not.
    pub speed_milli: u32,
    /// The worker's toolchains, for listings.
    pub toolchains: Vec<v1::Toolchain>,
    /// Digest under which the worker takes shipments of toolchains; `None`: it takes none.
    pub shipping: Option<Digest>,
    /// Digests of all toolchains for which the worker gets tasks, each once.
    pub digests: Vec<Digest>,
    /// The worker sends its own metrics when it is asked to.
    pub own_metrics: bool,
}

/// What a heartbeat says of a worker's machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vitals {
    /// One-minute load average, in thousandths.
    pub load_milli: u32,
    /// Bytes of memory that are free for use.
    pub memory_available_bytes: u64,
    /// Temperature in thousandths of a degree Celsius; 0: unknown.
    pub temperature_milli_c: i32,
    /// Microseconds from a heartbeat to its answer; 0: none measured.
    pub round_trip_us: u32,
    /// Slots that the machine bears now, at most those of the hello; `None`: all.
    pub slots: Option<u32>,
}

/// A worker that is connected.
#[derive(Debug)]
pub struct Worker {
    /// What the worker said in its hello; shared with listings that are being written.
    pub spec: Arc<WorkerSpec>,
    /// The key under which the worker is remembered; see [`WorkerSpec::key`].
    pub key: u64,
    /// Digests of the worker's toolchains.
    pub digests: Arc<[Digest]>,
    /// Slots, cores and memory of the hello, here because every decision asks for them.
    pub(crate) slots: u32,
    pub(crate) cores: u32,
    pub(crate) memory_bytes: u64,
    /// The worker's standing in the pools of its toolchains.
    pub(crate) standing: Option<Standing>,
    /// The name under which the worker is listed; no other worker has it.
    pub label: String,
    /// When the worker joined.
    pub joined_ms: u64,
    /// When the worker was last heard of.
    pub heard_ms: u64,
    /// When the worker last got a task.
    pub(crate) fed_ms: u64,
    /// Milliseconds without a task after which the worker is tried out, if it is doubted.
    pub(crate) trial_ms: u64,
    /// The time under which the registry has the worker among those that may be silent.
    pub(crate) due_ms: u64,
    /// The last heartbeat, if there was one.
    pub vitals: Option<Vitals>,
    /// The attempts that have a slot, each with the bytes of memory it is thought to
    /// need; never more than the worker has slots.
    pub running: Vec<(DispatchId, u64)>,
    /// The attempts whose results nobody waits for, in slots that tasks leave free and can
    /// have at any time.
    pub seconds: Vec<DispatchId>,
    /// The attempt that was sent ahead: it begins when a slot is free.
    pub ahead: Option<DispatchId>,
    /// The worker gets no more tasks.
    pub draining: bool,
    /// The worker said that it has no room, and gets nothing until then.
    pub paused_until_ms: Option<u64>,
    /// Whether the worker's failures keep tasks from it.
    pub breaker: Breaker,
    /// What was learned of the worker's speed.
    pub pace: Pace,
    /// Bytes of memory reserved for attempts that began after the last heartbeat.
    pub(crate) fresh_bytes: u64,
    /// Bytes of memory reserved for all attempts that have a slot.
    pub(crate) reserved_bytes: u64,
    /// When the worker last brought a task to an end.
    pub succeeded_ms: Option<u64>,
    /// Tasks that the worker brought to an end.
    pub finished: u64,
    /// Attempts that the worker failed.
    pub failed: u64,
}

impl WorkerSpec {
    /// Who the worker is, wherever it connects from.
    pub fn who(&self) -> Who {
        Who {
            holder: self.holder.clone(),
            name: self.name.clone(),
        }
    }

    /// Whether its results may be shared and kept: nothing but the compiler made them.
    pub fn has_full_sandbox(&self) -> bool {
        self.sandbox == FULL_SANDBOX
    }

    /// The key under which a worker of this holder and name is remembered.
    pub fn key(&self) -> u64 {
        worker_key(&self.holder, &self.name)
    }
}

impl Worker {
    /// Slots that the machine bears now.
    pub fn slots(&self) -> u32 {
        let now = self.vitals.and_then(|vitals| vitals.slots);
        now.map_or(self.slots, |slots| slots.min(self.slots))
    }

    /// Slots that the worker adds to the grid's: while it drains, those that are taken.
    pub(crate) fn slots_counted(&self) -> u64 {
        match self.draining {
            true => self.running.len() as u64,
            false => u64::from(self.spec.slots),
        }
    }

    /// The worker's speed by its own measurement, before anything was learned.
    pub(crate) fn measured(&self) -> Pace {
        Pace::guess(match self.spec.speed_milli {
            0 => 1.0,
            milli => (f64::from(milli) / 1e3).min(SPEED_CLAIM_MAX),
        })
    }

    /// Whether it ever brought enough compiles to their end for its speed to be more than
    /// its own word.
    pub(crate) fn is_proven(&self) -> bool {
        self.ended() >= PROOFS_MIN
    }

    /// Whether it was learned to be so slow that this is worth another look.
    pub fn is_doubted(&self) -> bool {
        self.pace.speed * DOUBT_FACTOR < self.measured().speed
    }

    /// Whether it should be tried out with one task, however slow it was last.
    pub(crate) fn is_due_for_trial(&self, now_ms: u64) -> bool {
        let idle_ms = now_ms.saturating_sub(self.fed_ms);
        self.running.is_empty() && idle_ms >= self.trial_ms && self.is_doubted()
    }

    /// Slots for listings: of a worker that drains those that are taken, since it will not
    /// fill the others again.
    pub fn slots_listed(&self) -> u32 {
        match self.draining {
            true => u32::try_from(self.running.len()).unwrap_or(u32::MAX),
            false => self.slots(),
        }
    }

    /// Compiles that it is known to have brought to their end.
    fn ended(&self) -> u64 {
        let learned = u64::from(self.pace.samples) + u64::from(self.pace.guesses);
        learned.max(self.finished)
    }

    /// Tasks at once that it is given: its slots, as far as it has shown that it
    /// compiles. Who only says so would draw what all others could do.
    pub fn slots_trusted(&self) -> u32 {
        let proven = u32::try_from(self.ended()).unwrap_or(u32::MAX);
        self.slots().min(SLOTS_UNPROVEN_MAX.saturating_add(proven))
    }

    /// Whether it gets no tasks until an operator says so.
    pub fn is_out(&self) -> bool {
        self.paused_until_ms == Some(u64::MAX)
    }

    /// Whether tasks may go to it, now or when it has a free slot.
    pub fn is_ready(&self) -> bool {
        !self.draining && !self.is_out() && self.breaker.allows()
    }

    /// Whether it can take one more task right now.
    pub fn is_free(&self) -> bool {
        self.is_ready()
            && self.paused_until_ms.is_none()
            && self.running.len() < self.slots_trusted() as usize
    }

    /// Whether it has a slot that nobody uses, and its machine nothing to complain of.
    pub fn idles(&self) -> bool {
        self.is_free()
            && self.breaker.is_pristine()
            && self.slots() == self.slots
            && self.spare_slots() > 0
    }

    /// Slots that neither a task has nor an attempt that nobody waits for; below 0: so many of
    /// these are too many.
    pub fn spare_slots(&self) -> i64 {
        let taken = self.running.len() + self.seconds.len();
        i64::from(self.slots_trusted()) - i64::try_from(taken).unwrap_or(i64::MAX)
    }

    /// Whether a task may be sent ahead to it.
    pub fn takes_ahead(&self) -> bool {
        self.is_ready()
            && self.paused_until_ms.is_none()
            && self.ahead.is_none()
            && self.running.len() == self.slots() as usize
            && self.breaker.is_pristine()
    }

    /// So many bytes of memory that a compile is said to have had here, as far as there
    /// are as many.
    pub(crate) fn within_memory(&self, bytes: u64) -> u64 {
        match self.memory_bytes {
            // Unknown.
            0 => bytes,
            all => bytes.min(all),
        }
    }

    /// Bytes of memory that one more compile may need.
    pub fn room_bytes(&self) -> u64 {
        let left = |bytes: u64, taken: u64| match bytes {
            // Unknown.
            0 => u64::MAX,
            bytes => bytes.saturating_sub(taken),
        };
        let vitals = self.vitals.as_ref();
        let available = vitals.map_or(0, |vitals| vitals.memory_available_bytes);
        let in_all = left(self.memory_bytes, self.reserved_bytes);
        in_all.min(left(available, self.fresh_bytes))
    }

    /// How fast one more task would run on it, beside those it has.
    pub fn speed_now(&self) -> f64 {
        let cores = f64::from(self.cores.max(1));
        let running = self.running.len() as f64 + 1.0;
        let load = self
            .vitals
            .map_or(0.0, |vitals| f64::from(vitals.load_milli) / 1e3);
        // Our own tasks are in the load too; only what is beyond them is others'. Those that
        // nobody waits for would make way.
        let others = (load - running - self.seconds.len() as f64).max(0.0);
        let share = (cores / (running + others)).min(1.0);
        // Of two that are as fast the emptier one is better: caches, clocks, heat.
        let crowding = running / f64::from(self.slots.max(1));
        self.pace.speed * share.max(0.05) / (1.0 + 0.1 * crowding)
    }

    /// The standing that the worker should have in the pools of its toolchains.
    pub(crate) fn standing(&self, worker: WorkerId) -> Standing {
        let offer = || Offer {
            worker,
            speed: self.pace.speed,
            speed_now: self.speed_now(),
            reach: self.pace.reach,
            round_trip_us: self.vitals.map_or(0, |vitals| vitals.round_trip_us),
            room_bytes: self.room_bytes(),
        };
        let log2 = self.pace.speed.log2();
        Standing {
            class: log2.floor().clamp(-64.0, 63.0) as i8,
            eighth: (log2 * 8.0).floor().clamp(-512.0, 511.0) as i16,
            offer: self.is_free().then(offer),
            capacity: match self.is_ready() {
                true => self.pace.speed * f64::from(self.slots_trusted()),
                false => 0.0,
            },
        }
    }

    /// Gives a slot to one more attempt.
    pub(crate) fn occupy(&mut self, dispatch: DispatchId, peak_bytes: u64) {
        self.running.push((dispatch, peak_bytes));
        self.reserved_bytes += peak_bytes;
        self.fresh_bytes += peak_bytes;
    }
}
