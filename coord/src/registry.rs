//! The workers: what each offers, what it is doing, when it was last heard of.
//! Unaware of sockets and clocks: every time is milliseconds on the caller's
//! clock.
//!
//! For each toolchain it keeps the workers that could take a task right now, so
//! that a choice costs the same with ten workers and with ten thousand.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hg_proto::digest::Digest;
use hg_proto::v1;

use crate::id::{DispatchId, WorkerId};

/// What a worker said of itself, checked and cut to size.
#[derive(Debug, Clone, Default)]
pub struct WorkerSpec {
    /// New at each start of the worker's program.
    pub instance: [u8; 16],
    /// For people.
    pub name: String,
    /// Of its program.
    pub version: String,
    /// Of its processor.
    pub architecture: String,
    /// Of its operating system.
    pub os: String,
    /// Where it dials from.
    pub address: String,
    /// Processor cores.
    pub cores: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Tasks at once; at least one.
    pub slots: u32,
    /// What it compiles with, for listings.
    pub toolchains: Vec<v1::Toolchain>,
    /// Their digests, each once.
    pub digests: Vec<Digest>,
}

/// What a heartbeat carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vitals {
    /// One-minute load average, in thousandths.
    pub load_milli: u32,
    /// Bytes of memory that are free for use.
    pub memory_available_bytes: u64,
    /// Thousandths of a degree; 0: unknown.
    pub temperature_milli_c: i32,
    /// Microseconds from a heartbeat to its answer; 0: none measured.
    pub round_trip_us: u32,
}

/// A worker that is there.
#[derive(Debug)]
pub struct Worker {
    /// What it said when it came.
    pub spec: WorkerSpec,
    /// The name under which it is listed; no other worker has it.
    pub label: String,
    /// When it came.
    pub joined_ms: u64,
    /// When it was last heard of.
    pub heard_ms: u64,
    /// Its last heartbeat, if there was one.
    pub vitals: Option<Vitals>,
    /// The attempts that it has; never more than its slots.
    pub running: BTreeSet<DispatchId>,
    /// It gets no more tasks.
    pub draining: bool,
    /// It said that it has no room, and gets nothing until then.
    pub paused_until_ms: Option<u64>,
    /// Tasks that it brought to an end.
    pub finished: u64,
    /// Attempts that it failed.
    pub failed: u64,
}

impl Worker {
    /// Whether it can take one more task right now.
    pub fn is_free(&self) -> bool {
        !self.draining
            && self.paused_until_ms.is_none()
            && self.running.len() < self.spec.slots as usize
    }
}

/// The workers that have one toolchain.
#[derive(Debug, Default)]
struct Pool {
    /// With a free slot, in no meaningful order.
    free: Vec<WorkerId>,
    /// Where in `free` each stands.
    positions: HashMap<WorkerId, usize>,
    /// Not draining, free or not.
    serving: BTreeSet<WorkerId>,
}

impl Pool {
    fn set_free(&mut self, worker: WorkerId, free: bool) {
        match (free, self.positions.get(&worker).copied()) {
            (true, None) => {
                self.positions.insert(worker, self.free.len());
                self.free.push(worker);
            }
            (false, Some(position)) => {
                self.positions.remove(&worker);
                self.free.swap_remove(position);
                if let Some(moved) = self.free.get(position) {
                    self.positions.insert(*moved, position);
                }
            }
            _ => {}
        }
    }
}

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Registry {
    workers: BTreeMap<WorkerId, Worker>,
    labels: HashMap<String, WorkerId>,
    instances: HashMap<[u8; 16], WorkerId>,
    pools: HashMap<Digest, Pool>,
    paused: BTreeSet<(u64, WorkerId)>,
    slots: u64,
    busy: u64,
}

impl Registry {
    /// No workers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The worker, if it is there.
    pub fn get(&self, worker: WorkerId) -> Option<&Worker> {
        self.workers.get(&worker)
    }

    /// All workers in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.workers.iter().map(|(id, worker)| (*id, worker))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// Slots of all workers that are not draining or have a task: `(all, busy)`.
    pub fn slots(&self) -> (u64, u64) {
        (self.slots, self.busy)
    }

    /// The worker that is listed as `label`, or else the first whose own name it is.
    pub fn find(&self, label: &str) -> Option<WorkerId> {
        self.labels.get(label).copied().or_else(|| {
            let named = self.workers.iter().find(|(_, w)| w.spec.name == label);
            named.map(|(id, _)| *id)
        })
    }

    /// The link that this run of a worker's program already has.
    pub fn find_instance(&self, instance: &[u8; 16]) -> Option<WorkerId> {
        self.instances.get(instance).copied()
    }

    /// Adds a worker and gives the label under which it is listed.
    pub fn join(&mut self, id: WorkerId, spec: WorkerSpec, now_ms: u64) -> String {
        let label = self.free_label(id, &spec.name);
        self.labels.insert(label.clone(), id);
        self.instances.insert(spec.instance, id);
        self.slots += u64::from(spec.slots);
        for digest in &spec.digests {
            self.pools.entry(*digest).or_default().serving.insert(id);
        }
        let worker = Worker {
            spec,
            label: label.clone(),
            joined_ms: now_ms,
            heard_ms: now_ms,
            vitals: None,
            running: BTreeSet::new(),
            draining: false,
            paused_until_ms: None,
            finished: 0,
            failed: 0,
        };
        self.workers.insert(id, worker);
        self.refresh(id);
        label
    }

    fn free_label(&self, id: WorkerId, name: &str) -> String {
        if !name.is_empty() && !self.labels.contains_key(name) {
            return name.to_owned();
        }
        // A worker may call itself anything, another's number included.
        let mut label = format!("{name}#{}", id.0);
        while self.labels.contains_key(&label) {
            label.push('+');
        }
        label
    }

    /// Takes a worker out, with the attempts that it had.
    pub fn leave(&mut self, id: WorkerId) -> Option<Worker> {
        let worker = self.workers.remove(&id)?;
        self.labels.remove(&worker.label);
        if self.instances.get(&worker.spec.instance) == Some(&id) {
            self.instances.remove(&worker.spec.instance);
        }
        if let Some(until) = worker.paused_until_ms {
            self.paused.remove(&(until, id));
        }
        self.slots -= u64::from(worker.spec.slots);
        self.busy -= worker.running.len() as u64;
        for digest in &worker.spec.digests {
            if let Some(pool) = self.pools.get_mut(digest) {
                pool.set_free(id, false);
                pool.serving.remove(&id);
                if pool.serving.is_empty() && pool.free.is_empty() {
                    self.pools.remove(digest);
                }
            }
        }
        Some(worker)
    }

    /// The worker was heard of.
    pub fn heard(&mut self, id: WorkerId, vitals: Option<Vitals>, now_ms: u64) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.heard_ms = now_ms;
            worker.vitals = vitals.or(worker.vitals);
        }
    }

    /// Workers of which nothing was heard for `silence_ms` or longer.
    pub fn silent(&self, silence_ms: u64, now_ms: u64) -> Vec<WorkerId> {
        self.iter()
            .filter(|(_, worker)| now_ms.saturating_sub(worker.heard_ms) >= silence_ms)
            .map(|(id, _)| id)
            .collect()
    }

    /// Gives one of the worker's slots to an attempt. `false`: it has none to give.
    pub fn book(&mut self, id: WorkerId, dispatch: DispatchId) -> bool {
        match self.workers.get_mut(&id) {
            Some(worker) if worker.is_free() => {
                worker.running.insert(dispatch);
                self.busy += 1;
                self.refresh(id);
                true
            }
            _ => false,
        }
    }

    /// Takes the slot back and counts how the attempt ended; `None`: not at all.
    pub fn release(&mut self, id: WorkerId, dispatch: DispatchId, good: Option<bool>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.running.remove(&dispatch) {
            self.busy -= 1;
        }
        match good {
            Some(true) => worker.finished += 1,
            Some(false) => worker.failed += 1,
            None => {}
        }
        self.refresh(id);
    }

    /// No more tasks for this worker. `None`: there is no such worker;
    /// `Some(false)`: it was so already.
    pub fn drain(&mut self, id: WorkerId) -> Option<bool> {
        let worker = self.workers.get_mut(&id)?;
        if worker.draining {
            return Some(false);
        }
        worker.draining = true;
        for digest in &worker.spec.digests {
            if let Some(pool) = self.pools.get_mut(digest) {
                pool.serving.remove(&id);
            }
        }
        self.refresh(id);
        Some(true)
    }

    /// Nothing for this worker until `until_ms`.
    pub fn pause(&mut self, id: WorkerId, until_ms: u64) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if let Some(before) = worker.paused_until_ms.replace(until_ms) {
            self.paused.remove(&(before, id));
        }
        self.paused.insert((until_ms, id));
        self.refresh(id);
    }

    /// Ends the pauses that are over, and says whose.
    pub fn resume(&mut self, now_ms: u64) -> Vec<WorkerId> {
        let mut resumed = Vec::new();
        while let Some(&(until_ms, id)) = self.paused.first() {
            if until_ms > now_ms {
                break;
            }
            self.paused.pop_first();
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.paused_until_ms = None;
            }
            self.refresh(id);
            resumed.push(id);
        }
        resumed
    }

    /// Workers with this toolchain and a free slot, in no meaningful order.
    pub fn free(&self, toolchain: &Digest) -> &[WorkerId] {
        self.pools.get(toolchain).map_or(&[], |pool| &pool.free)
    }

    /// Where in [`Registry::free`] the worker stands.
    pub fn position(&self, toolchain: &Digest, worker: WorkerId) -> Option<usize> {
        self.pools.get(toolchain)?.positions.get(&worker).copied()
    }

    /// Whether a worker other than `excluded` has this toolchain and takes
    /// tasks, now or when it has a free slot.
    pub fn serves(&self, toolchain: &Digest, excluded: &[WorkerId]) -> bool {
        self.pools.get(toolchain).is_some_and(|pool| {
            let out = excluded
                .iter()
                .filter(|id| pool.serving.contains(id))
                .count();
            pool.serving.len() > out
        })
    }

    fn refresh(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let free = worker.is_free();
        for digest in &worker.spec.digests {
            if let Some(pool) = self.pools.get_mut(digest) {
                pool.set_free(id, free);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, slots: u32) -> WorkerSpec {
        WorkerSpec {
            name: name.into(),
            instance: Digest::of(name.as_bytes()).as_bytes()[..16]
                .try_into()
                .unwrap(),
            slots,
            digests: vec![Digest::of(b"gcc"), Digest::of(b"clang")],
            ..WorkerSpec::default()
        }
    }

    #[test]
    fn a_slot_is_given_once() {
        let gcc = Digest::of(b"gcc");
        let mut registry = Registry::new();
        registry.join(WorkerId(1), spec("one", 2), 0);
        registry.join(WorkerId(2), spec("two", 1), 0);
        assert_eq!(registry.free(&gcc).len(), 2);
        assert!(registry.book(WorkerId(1), DispatchId(1)));
        assert!(registry.book(WorkerId(1), DispatchId(2)));
        assert!(!registry.book(WorkerId(1), DispatchId(3)));
        assert_eq!(registry.free(&gcc), [WorkerId(2)]);
        assert_eq!(registry.position(&gcc, WorkerId(2)), Some(0));
        registry.release(WorkerId(1), DispatchId(1), Some(true));
        assert_eq!(registry.free(&gcc).len(), 2);
        assert_eq!(registry.slots(), (3, 1));
        registry.leave(WorkerId(1));
        assert_eq!(registry.slots(), (1, 0));
    }

    #[test]
    fn draining_serves_nobody_and_pausing_ends() {
        let gcc = Digest::of(b"gcc");
        let mut registry = Registry::new();
        registry.join(WorkerId(1), spec("one", 1), 0);
        registry.pause(WorkerId(1), 500);
        assert!(registry.serves(&gcc, &[]));
        assert!(registry.free(&gcc).is_empty());
        assert!(registry.resume(499).is_empty());
        assert_eq!(registry.resume(500), [WorkerId(1)]);
        assert_eq!(registry.free(&gcc), [WorkerId(1)]);
        assert!(!registry.serves(&gcc, &[WorkerId(1)]));
        assert_eq!(registry.drain(WorkerId(1)), Some(true));
        assert_eq!(registry.drain(WorkerId(1)), Some(false));
        assert!(!registry.serves(&gcc, &[]));
        assert!(!registry.book(WorkerId(1), DispatchId(1)));
        registry.leave(WorkerId(1));
        assert!(registry.pools.is_empty() && registry.labels.is_empty());
    }

    #[test]
    fn labels_are_unique_whatever_workers_call_themselves() {
        let mut registry = Registry::new();
        let mut labels = BTreeSet::new();
        for (id, name) in ["pi", "pi#3", "pi", "", "pi#3", "pi#3"].iter().enumerate() {
            labels.insert(registry.join(WorkerId(id as u64 + 1), spec(name, 1), 0));
        }
        assert_eq!(labels.len(), 6);
        assert_eq!(registry.find("pi"), Some(WorkerId(1)));
    }

    #[test]
    fn silence_is_noticed() {
        let mut registry = Registry::new();
        registry.join(WorkerId(1), spec("one", 1), 0);
        registry.join(WorkerId(2), spec("two", 1), 0);
        registry.heard(WorkerId(2), None, 3_000);
        assert_eq!(registry.silent(4_000, 4_000), [WorkerId(1)]);
    }
}
