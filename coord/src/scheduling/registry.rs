//! The workers: what each offers, what it is doing, when it was last heard of.
//! Unaware of sockets and clocks: every time is milliseconds on the caller's
//! clock.
//!
//! For each toolchain it keeps a pool of the workers that could take a task right
//! now.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use hg_proto::v1;
use hg_proto::wire::digest::{Digest, Hasher};

use crate::bounds::{
    BREAKERS_KEPT_MAX, TRIAL_MS_MAX, TRIAL_MS_MIN, UNION_UNUSED_MS, UNIONS_MAX,
    UNIONS_OF_HOLDER_MAX,
};
use crate::scheduling::breaker::{Breaker, Circuit};
use crate::scheduling::id::{ByDigest, ById, DispatchId, Keyed, Who, WorkerId};
use crate::scheduling::pool::Pool;
use crate::scheduling::predictor::Pace;

pub use crate::scheduling::pool::Offer;
pub use crate::scheduling::worker::{Vitals, Worker, WorkerSpec};

/// Workers that are looked at for what is most like a toolchain that none has.
const NEAREST_LOOKS_MAX: usize = 1000;

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Registry {
    workers: ById<WorkerId, Worker>,
    labels: HashMap<String, WorkerId>,
    /// By holder, and by the random bytes of each start of a worker's program.
    instances: HashMap<(String, [u8; 16]), WorkerId>,
    pools: ByDigest<Pool>,
    /// Pools of all workers that have one of several toolchains, by what stands for them.
    unions: HashMap<Digest, Union>,
    /// Workers that were given each shipment.
    shipments: HashMap<Digest, u64>,
    /// Where workers take shipments.
    shipping: HashSet<Digest>,
    /// Workers by when each was last heard of, or earlier: that is put right only when a
    /// worker is looked at.
    heard: BTreeSet<(u64, WorkerId)>,
    paused: BTreeSet<(u64, WorkerId)>,
    opened: BTreeSet<(u64, WorkerId)>,
    /// Breakers of workers that are gone, by their key and the order of their going.
    kept: HashMap<u64, Breaker>,
    kept_order: std::collections::VecDeque<u64>,
    slots: u64,
    busy: u64,
}

/// Toolchains of which any will do for some tasks.
#[derive(Debug)]
struct Union {
    parts: Vec<Digest>,
    /// When a task last asked for it.
    used_ms: u64,
    /// Holder of the token that the first such task came with.
    holder: Arc<str>,
}

impl Registry {
    /// No workers.
    pub fn new(seed: u64) -> Self {
        Registry {
            pools: ByDigest::with_hasher(Keyed(seed)),
            ..Self::default()
        }
    }

    /// The worker, if it is connected.
    pub fn get(&self, worker: WorkerId) -> Option<&Worker> {
        self.workers.get(&worker)
    }

    /// All workers in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        let mut workers = Vec::from_iter(self.workers.iter().map(|(id, worker)| (*id, worker)));
        workers.sort_unstable_by_key(|(id, _)| *id);
        workers.into_iter()
    }

    /// How many workers there are.
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Whether there is no worker.
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// Slots of all workers that are not draining or have a task: `(all, busy)`.
    pub fn slots(&self) -> (u64, u64) {
        (self.slots, self.busy)
    }

    /// Slots that all machines bear now; of workers that are draining, those that are
    /// busy.
    pub fn slots_now(&self) -> u64 {
        let workers = self.workers.iter();
        workers.map(|(_, w)| u64::from(w.slots_listed())).sum()
    }

    /// The worker that is listed as `label`, or else the only one whose own name it is:
    /// of several with one name nobody can tell which is meant.
    pub fn find(&self, label: &str) -> Option<WorkerId> {
        self.labels.get(label).copied().or_else(|| {
            let mut named = self.workers.iter().filter(|(_, w)| w.spec.name == label);
            let (id, _) = named.next()?;
            named.next().is_none().then_some(*id)
        })
    }

    /// The links of the worker that is `who`.
    pub fn called(&self, who: &Who) -> Vec<WorkerId> {
        let is_it =
            |worker: &Worker| worker.spec.holder == who.holder && worker.spec.name == who.name;
        let its = self.iter().filter(|(_, worker)| is_it(worker));
        its.map(|(id, _)| id).collect()
    }

    /// The link that this run of the holder's worker already has.
    pub fn find_instance(&self, spec: &WorkerSpec) -> Option<WorkerId> {
        let instance = (spec.holder.clone(), spec.instance);
        self.instances.get(&instance).copied()
    }

    /// Adds a worker, `pace` being what is known of it already, and gives the
    /// label under which it is listed.
    pub fn join(
        &mut self,
        id: WorkerId,
        mut spec: WorkerSpec,
        pace: Option<Pace>,
        now_ms: u64,
    ) -> String {
        let label = self.free_label(id, &spec.name);
        self.labels.insert(label.clone(), id);
        self.instances
            .insert((spec.holder.clone(), spec.instance), id);
        self.slots += u64::from(spec.slots);
        self.shipping.extend(spec.shipping);
        self.count_shipments(&[], &spec.toolchains);
        spec.digests = self.with_unions(std::mem::take(&mut spec.digests));
        let digests = self.shared(&spec.digests);
        for digest in &spec.digests {
            let pool = self.pools.entry(*digest).or_default();
            pool.workers += 1;
            pool.serving.insert(id);
            pool.memories.insert((spec.memory_bytes, id));
        }
        let key = spec.key();
        let breaker = self.kept.remove(&key).unwrap_or_default();
        if let Circuit::Open { until_ms } = breaker.state() {
            self.opened.insert((until_ms, id));
        }
        let mut worker = Worker {
            pace: Pace::guess(1.0),
            key,
            digests,
            slots: spec.slots,
            cores: spec.cores,
            memory_bytes: spec.memory_bytes,
            standing: None,
            spec: Arc::new(spec),
            label: label.clone(),
            joined_ms: now_ms,
            heard_ms: now_ms,
            fed_ms: now_ms,
            trial_ms: TRIAL_MS_MIN,
            due_ms: now_ms,
            vitals: None,
            running: Vec::new(),
            seconds: Vec::new(),
            ahead: None,
            draining: false,
            paused_until_ms: None,
            breaker,
            fresh_bytes: 0,
            reserved_bytes: 0,
            succeeded_ms: None,
            finished: 0,
            failed: 0,
        };
        worker.pace = pace.unwrap_or_else(|| worker.measured());
        self.heard.insert((now_ms, id));
        self.workers.insert(id, worker);
        self.refresh(id);
        label
    }

    /// These digests, shared with another worker's where that has the same, as most do.
    fn shared(&self, digests: &[Digest]) -> Arc<[Digest]> {
        let pool = digests.first().and_then(|first| self.pools.get(first));
        let other = pool.and_then(|pool| self.workers.get(pool.serving.first()?));
        match other.filter(|other| *other.digests == *digests) {
            Some(other) => other.digests.clone(),
            None => digests.into(),
        }
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

    /// Removes a worker, with the attempts that it had.
    pub fn leave(&mut self, id: WorkerId) -> Option<Worker> {
        let worker = self.workers.remove(&id)?;
        self.labels.remove(&worker.label);
        self.heard.remove(&(worker.due_ms, id));
        let instance = (worker.spec.holder.clone(), worker.spec.instance);
        if self.instances.get(&instance) == Some(&id) {
            self.instances.remove(&instance);
        }
        if let Some(until) = worker.paused_until_ms {
            self.paused.remove(&(until, id));
        }
        self.slots -= worker.slots_counted();
        self.busy -= worker.running.len() as u64;
        if let Circuit::Open { until_ms } = worker.breaker.state() {
            self.opened.remove(&(until_ms, id));
        }
        if let Some(shipping) = &worker.spec.shipping {
            self.shipping.remove(shipping);
        }
        self.count_shipments(&worker.spec.toolchains, &[]);
        for digest in &worker.spec.digests {
            self.take_out(id, &worker, digest);
        }
        Some(worker)
    }

    /// `worker` is no longer among those that have the toolchain of `digest`.
    fn take_out(&mut self, id: WorkerId, worker: &Worker, digest: &Digest) {
        let Some(pool) = self.pools.get_mut(digest) else {
            return;
        };
        pool.set(id, worker.standing, None);
        pool.serving.remove(&id);
        pool.memories.remove(&(worker.memory_bytes, id));
        pool.workers -= 1;
        if pool.workers == 0 {
            self.pools.remove(digest);
            self.unions.remove(digest);
        }
    }

    /// `worker` is among those that have the toolchain of `digest` from now on.
    fn put_in(&mut self, id: WorkerId, worker: &Worker, digest: Digest) {
        let pool = self.pools.entry(digest).or_default();
        pool.workers += 1;
        if !worker.draining && !worker.is_out() {
            pool.serving.insert(id);
        }
        pool.memories.insert((worker.memory_bytes, id));
        pool.set(id, None, worker.standing);
    }

    /// The worker has these toolchains now, and gets tasks for these digests and for
    /// the one under which it takes shipments. Gives the digests of before.
    pub fn offer(
        &mut self,
        id: WorkerId,
        toolchains: Vec<v1::Toolchain>,
        mut digests: Vec<Digest>,
    ) -> Option<Arc<[Digest]>> {
        let worker = self.workers.get_mut(&id)?;
        digests.extend(worker.spec.shipping);
        let spec = Arc::make_mut(&mut worker.spec);
        let before = std::mem::replace(&mut spec.toolchains, toolchains.clone());
        self.count_shipments(&before, &toolchains);
        self.set_digests(id, digests)
    }

    /// The worker is in the pools of these digests, and of the unions that they are part of.
    /// Gives the digests of before.
    fn set_digests(&mut self, id: WorkerId, digests: Vec<Digest>) -> Option<Arc<[Digest]>> {
        let digests = self.with_unions(digests);
        let mut worker = self.workers.remove(&id)?;
        let before = worker.digests.clone();
        for digest in before.iter().filter(|digest| !digests.contains(digest)) {
            self.take_out(id, &worker, digest);
        }
        for digest in digests.iter().filter(|digest| !before.contains(digest)) {
            self.put_in(id, &worker, *digest);
        }
        worker.digests = self.shared(&digests);
        Arc::make_mut(&mut worker.spec).digests = digests;
        self.workers.insert(id, worker);
        Some(before)
    }

    /// A worker that had the toolchains of `before` has those of `now`.
    fn count_shipments(&mut self, before: &[v1::Toolchain], now: &[v1::Toolchain]) {
        let shipment = |toolchain: &v1::Toolchain| Digest::try_from(&toolchain.shipment[..]).ok();
        for digest in now.iter().filter_map(shipment) {
            *self.shipments.entry(digest).or_default() += 1;
        }
        for digest in before.iter().filter_map(shipment) {
            if let Some(count) = self.shipments.get_mut(&digest) {
                *count -= 1;
                if *count == 0 {
                    self.shipments.remove(&digest);
                }
            }
        }
    }

    /// `digests`, sorted and each once, and those of the unions that they are part of.
    fn with_unions(&self, mut digests: Vec<Digest>) -> Vec<Digest> {
        let has_one = |union: &&Digest| {
            let mut parts = self.unions[*union].parts.iter();
            parts.any(|part| digests.contains(part))
        };
        let unions: Vec<Digest> = self.unions.keys().filter(has_one).copied().collect();
        digests.extend(unions);
        digests.sort_unstable();
        digests.dedup();
        digests
    }

    /// Under what to look for workers that have `toolchain`, were given it as `shipment`,
    /// or have one of `equals`, which the task's client takes for the same.
    pub fn asked_for(
        &mut self,
        toolchain: Digest,
        shipment: Option<Digest>,
        equals: &[Digest],
        holder: &Arc<str>,
        now_ms: u64,
    ) -> Digest {
        // Only what a worker was given stands for a shipment, and a client that names
        // such a one, a place for them, or a union as a toolchain is not to make pools of
        // it.
        let is_plain = |digest: &Digest| {
            let is_other = self.shipments.contains_key(digest)
                || self.shipping.contains(digest)
                || self.unions.contains_key(digest);
            self.pools.contains_key(digest) && !is_other
        };
        let has_own = self.pools.contains_key(&toolchain);
        if has_own && !is_plain(&toolchain) {
            return toolchain;
        }
        let shipment = shipment.filter(|digest| self.shipments.contains_key(digest));
        let others = equals.iter().copied().filter(is_plain).chain(shipment);
        let mut parts: Vec<Digest> = others.chain(has_own.then_some(toolchain)).collect();
        parts.sort_unstable();
        parts.dedup();
        match parts[..] {
            [] => toolchain,
            [only] => only,
            [first, ..] => {
                let alone = if has_own { toolchain } else { first };
                self.union(parts, holder, now_ms).unwrap_or(alone)
            }
        }
    }

    /// The pool of all workers that have one of `parts`. `None`: there are too many such, or
    /// too many of `holder`'s.
    fn union(&mut self, parts: Vec<Digest>, holder: &Arc<str>, now_ms: u64) -> Option<Digest> {
        let mut hasher = Hasher::new();
        for part in &parts {
            hasher.field(part.as_bytes());
        }
        let digest = hasher.finish();
        if let Some(known) = self.unions.get_mut(&digest) {
            known.used_ms = now_ms;
            return Some(digest);
        }
        let of_holder = self.unions.values().filter(|union| union.holder == *holder);
        let is_over = of_holder.count() >= UNIONS_OF_HOLDER_MAX;
        // One that a worker made up is no pool of ours.
        if is_over || self.pools.contains_key(&digest) || !self.has_room_for_union(now_ms) {
            return None;
        }
        let having = self.having(&parts);
        let union = Union {
            parts,
            used_ms: now_ms,
            holder: holder.clone(),
        };
        self.unions.insert(digest, union);
        for (id, digests) in having {
            self.set_digests(id, digests);
        }
        Some(digest)
    }

    /// Whether there may be one more union; one that no task can still ask for makes room.
    fn has_room_for_union(&mut self, now_ms: u64) -> bool {
        if self.unions.len() < UNIONS_MAX {
            return true;
        }
        let oldest = self.unions.iter().min_by_key(|(_, union)| union.used_ms);
        let Some((&digest, union)) = oldest else {
            return false;
        };
        if now_ms.saturating_sub(union.used_ms) < UNION_UNUSED_MS {
            return false;
        }
        self.unions.remove(&digest);
        for (id, mut digests) in self.having(&[digest]) {
            digests.retain(|other| *other != digest);
            self.set_digests(id, digests);
        }
        true
    }

    /// Workers that are in one of these pools, and the digests of all pools of each.
    fn having(&self, digests: &[Digest]) -> BTreeMap<WorkerId, Vec<Digest>> {
        let pools = digests.iter().filter_map(|digest| self.pools.get(digest));
        let ids = pools.flat_map(|pool| pool.memories.iter().map(|(_, id)| *id));
        let known = ids.filter_map(|id| Some((id, self.workers.get(&id)?)));
        known
            .map(|(id, worker)| (id, worker.spec.digests.clone()))
            .collect()
    }

    /// Remembers the breaker of a worker that has left, for when it comes back:
    /// one that dies of each task is not to begin anew each time.
    pub fn keep_breaker(&mut self, spec: &WorkerSpec, mut breaker: Breaker) {
        if breaker.is_pristine() || spec.name.is_empty() {
            return;
        }
        breaker.leave();
        let key = spec.key();
        if self.kept.insert(key, breaker).is_none() {
            self.kept_order.push_back(key);
        }
        // Those that came back stay in the order, which is bounded all the same.
        while self.kept_order.len() > BREAKERS_KEPT_MAX {
            if let Some(key) = self.kept_order.pop_front() {
                self.kept.remove(&key);
            }
        }
    }

    /// Notes that the worker was heard of.
    pub fn heard(&mut self, id: WorkerId, vitals: Option<Vitals>, now_ms: u64) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.heard_ms = now_ms;
        if vitals.is_some() {
            worker.vitals = vitals;
            worker.fresh_bytes = 0;
            self.refresh(id);
        }
    }

    /// Notes that the worker gets a task.
    pub fn fed(&mut self, id: WorkerId, now_ms: u64) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.fed_ms = now_ms;
        }
    }

    /// Sets what is known of the worker's speed.
    pub fn set_pace(&mut self, id: WorkerId, pace: Pace) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.pace = pace;
            worker.trial_ms = match worker.is_doubted() {
                true => (2 * worker.trial_ms).min(TRIAL_MS_MAX),
                false => TRIAL_MS_MIN,
            };
            self.refresh(id);
        }
    }

    /// Workers of which nothing was heard for `silence_ms` or longer.
    pub fn silent(&mut self, silence_ms: u64, now_ms: u64) -> Vec<WorkerId> {
        let Some(last_ms) = now_ms.checked_sub(silence_ms) else {
            return Vec::new();
        };
        let due = self.heard.range(..=(last_ms, WorkerId(u64::MAX)));
        let due: Vec<(u64, WorkerId)> = due.copied().collect();
        let mut silent = Vec::new();
        for (due_ms, id) in due {
            let Some(worker) = self.workers.get_mut(&id) else {
                continue;
            };
            if worker.heard_ms <= last_ms {
                silent.push(id);
            } else {
                worker.due_ms = worker.heard_ms;
                self.heard.remove(&(due_ms, id));
                self.heard.insert((worker.due_ms, id));
            }
        }
        silent
    }

    /// Gives one of the worker's slots to an attempt that is thought to need
    /// `peak_bytes` of memory. `false`: it has none to give.
    pub fn book(&mut self, id: WorkerId, dispatch: DispatchId, peak_bytes: u64) -> bool {
        match self.workers.get_mut(&id) {
            Some(worker) if worker.is_free() => {
                worker.breaker.begin(dispatch);
                worker.occupy(dispatch, peak_bytes);
                self.busy += 1;
                self.refresh(id);
                true
            }
            _ => false,
        }
    }

    /// Lends a slot that no task has to an attempt whose result nobody waits for.
    pub fn lend(&mut self, id: WorkerId, dispatch: DispatchId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.seconds.push(dispatch);
            self.refresh(id);
        }
    }

    /// Takes such an attempt from the worker.
    pub fn give_back(&mut self, id: WorkerId, dispatch: DispatchId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.seconds.retain(|second| *second != dispatch);
            self.refresh(id);
        }
    }

    /// Sends an attempt ahead to a worker whose slots are all taken.
    pub fn book_ahead(&mut self, id: WorkerId, dispatch: DispatchId) -> bool {
        match self.workers.get_mut(&id) {
            Some(worker) if worker.takes_ahead() => {
                worker.ahead = Some(dispatch);
                true
            }
            _ => false,
        }
    }

    /// The attempt that was sent ahead gets a slot, if one is free now.
    pub fn promote(
        &mut self,
        id: WorkerId,
        peak_bytes: impl Fn(DispatchId) -> u64,
    ) -> Option<DispatchId> {
        let worker = self.workers.get_mut(&id)?;
        if worker.running.len() >= worker.slots().max(1) as usize {
            return None;
        }
        let dispatch = worker.ahead.take()?;
        worker.occupy(dispatch, peak_bytes(dispatch));
        self.busy += 1;
        self.refresh(id);
        Some(dispatch)
    }

    /// Takes an attempt from the worker, out of its slot or from ahead of one, and counts how
    /// it ended.
    pub fn release(&mut self, id: WorkerId, dispatch: DispatchId, ended: AttemptEnd) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.ahead == Some(dispatch) {
            worker.ahead = None;
        }
        if let Some(at) = worker.running.iter().position(|(id, _)| *id == dispatch) {
            let (_, peak_bytes) = worker.running.remove(at);
            self.slots -= u64::from(worker.draining);
            worker.reserved_bytes -= peak_bytes;
            worker.fresh_bytes = worker.fresh_bytes.saturating_sub(peak_bytes);
            self.busy -= 1;
        }
        match ended {
            AttemptEnd::Well(now_ms) => {
                worker.finished += 1;
                worker.succeeded_ms = Some(now_ms);
                worker.breaker.success(dispatch);
            }
            AttemptEnd::Failed => worker.failed += 1,
            AttemptEnd::Void => worker.breaker.void(dispatch),
        }
        self.refresh(id);
    }

    /// The worker, or the way to it, failed an attempt or all at once (`None`);
    /// `severe`: once is enough. Gives whether its breaker opened.
    pub fn blame(
        &mut self,
        id: WorkerId,
        dispatch: Option<DispatchId>,
        severe: bool,
        random: &mut fastrand::Rng,
        now_ms: u64,
    ) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else {
            return false;
        };
        let until_ms = worker.breaker.failure(dispatch, severe, random, now_ms);
        let Some(until_ms) = until_ms else {
            return false;
        };
        self.opened.insert((until_ms, id));
        self.refresh(id);
        true
    }

    /// An attempt failed, but not by what is known to be this worker's fault: if it was
    /// to decide whether its breaker closes, another one decides.
    pub fn acquit(&mut self, id: WorkerId, dispatch: DispatchId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.breaker.void(dispatch);
            self.refresh(id);
        }
    }

    /// Turns breakers half-open whose time has come, and gives their workers.
    pub fn probe(&mut self, now_ms: u64) -> Vec<WorkerId> {
        let mut turned = Vec::new();
        while let Some(&(until_ms, id)) = self.opened.first() {
            if until_ms > now_ms {
                break;
            }
            self.opened.pop_first();
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.breaker.tick(now_ms);
            }
            self.refresh(id);
            turned.push(id);
        }
        turned
    }

    /// Keeps all further tasks from this worker. `None`: there is no such worker;
    /// `Some(false)`: it was draining already.
    pub fn drain(&mut self, id: WorkerId) -> Option<bool> {
        let worker = self.workers.get_mut(&id)?;
        if worker.draining {
            return Some(false);
        }
        self.slots -= worker.slots_counted();
        worker.draining = true;
        self.slots += worker.slots_counted();
        for digest in &worker.spec.digests {
            if let Some(pool) = self.pools.get_mut(digest) {
                pool.serving.remove(&id);
            }
        }
        self.refresh(id);
        Some(true)
    }

    /// Keeps tasks from this worker until `until_ms`.
    pub fn pause(&mut self, id: WorkerId, until_ms: u64) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.paused_until_ms == Some(u64::MAX) {
            // Whoever is out for good is not let back by a shorter pause.
            return;
        }
        if let Some(before) = worker.paused_until_ms.replace(until_ms) {
            self.paused.remove(&(before, id));
        }
        self.paused.insert((until_ms, id));
        if until_ms == u64::MAX {
            for digest in worker.digests.iter() {
                if let Some(pool) = self.pools.get_mut(digest) {
                    pool.serving.remove(&id);
                }
            }
        }
        self.refresh(id);
    }

    /// Ends the worker's pause, if it has one.
    pub fn unpause(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id)
            && let Some(until_ms) = worker.paused_until_ms.take()
        {
            self.paused.remove(&(until_ms, id));
            for digest in worker.digests.iter().filter(|_| !worker.draining) {
                if let Some(pool) = self.pools.get_mut(digest) {
                    pool.serving.insert(id);
                }
            }
            self.refresh(id);
        }
    }

    /// Ends the pauses that are over, and gives their workers.
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

    /// Workers with this toolchain and a free slot, the class of the fastest
    /// first: its least speed, and who is in it in no meaningful order.
    pub fn free(&self, toolchain: &Digest) -> impl Iterator<Item = (f64, &[Offer])> {
        let pool = self.pools.get(toolchain);
        let classes = pool.into_iter().flat_map(|pool| pool.free.iter().rev());
        classes.map(|(class, bag)| (2f64.powi(i32::from(*class)), &bag.offers[..]))
    }

    /// Whether some worker with this toolchain has a free slot.
    pub fn has_free(&self, toolchain: &Digest) -> bool {
        self.pools
            .get(toolchain)
            .is_some_and(|pool| !pool.free.is_empty())
    }

    /// Speed of the fastest with this toolchain that tasks may go to, or up to a
    /// twelfth less; of more than a hundred, without the few that may be overrated.
    pub fn fastest(&self, toolchain: &Digest) -> Option<f64> {
        self.pools.get(toolchain)?.fastest
    }

    /// Speed times slots of all with this toolchain that tasks may go to.
    pub fn capacity(&self, toolchain: &Digest) -> f64 {
        self.pools.get(toolchain).map_or(0.0, |pool| pool.capacity)
    }

    /// Whether a worker other than `excluded` has this toolchain and takes
    /// tasks, now or when it has a free slot or its breaker closes.
    pub fn serves(&self, toolchain: &Digest, excluded: &[WorkerId]) -> bool {
        self.pools.get(toolchain).is_some_and(|pool| {
            let out = excluded
                .iter()
                .filter(|id| pool.serving.contains(id))
                .count();
            pool.serving.len() > out
        })
    }

    /// Bytes of memory of the largest worker with this toolchain; of one that does not
    /// say, as many as can be.
    pub fn memory_bytes_max(&self, toolchain: &Digest) -> u64 {
        let Some(pool) = self.pools.get(toolchain) else {
            return 0;
        };
        let is_unknown = pool.memories.first().is_some_and(|(bytes, _)| *bytes == 0);
        match pool.memories.last() {
            Some((bytes, _)) if !is_unknown => *bytes,
            _ => u64::MAX,
        }
    }

    /// What of all toolchains is most like `wanted`, and the label of a worker that has
    /// it. Not all of a very large grid are looked at.
    pub fn nearest(&self, wanted: &v1::Toolchain) -> Option<(&str, &v1::Toolchain)> {
        let all = self
            .workers
            .values()
            .take(NEAREST_LOOKS_MAX)
            .flat_map(|worker| {
                let toolchains = worker.spec.toolchains.iter();
                toolchains.map(|toolchain| (&*worker.label, toolchain))
            });
        all.max_by_key(|(label, known)| {
            let is_same = [
                known.family == wanted.family,
                known.target == wanted.target,
                known.version == wanted.version,
                known.language == wanted.language,
            ];
            // Among equals always the same.
            (is_same, std::cmp::Reverse(*label))
        })
    }

    /// Whether a worker with this toolchain has as much memory in all.
    pub fn holds(&self, toolchain: &Digest, peak_bytes: u64) -> bool {
        let Some(pool) = self.pools.get(toolchain) else {
            return false;
        };
        let unknown = pool.memories.first().is_some_and(|(bytes, _)| *bytes == 0);
        unknown
            || pool
                .memories
                .last()
                .is_some_and(|(bytes, _)| *bytes >= peak_bytes)
    }

    fn refresh(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let now = Some(worker.standing(id));
        let before = std::mem::replace(&mut worker.standing, now);
        if before == now {
            return;
        }
        for digest in worker.digests.iter() {
            if let Some(pool) = self.pools.get_mut(digest) {
                pool.set(id, before, now);
            }
        }
    }
}

/// How an attempt ended, as far as its worker goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The compiler ran to its end, at that time in milliseconds.
    Well(u64),
    /// It failed by the worker's or the link's fault.
    Failed,
    /// It ended without saying anything of the worker.
    Void,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::{SLOTS_UNPROVEN_MAX, SPEED_CLAIM_MAX};

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

    fn of(holder: &str, spec: WorkerSpec) -> WorkerSpec {
        WorkerSpec {
            holder: holder.into(),
            ..spec
        }
    }

    fn free(registry: &Registry) -> Vec<WorkerId> {
        let gcc = Digest::of(b"gcc");
        let classes = registry.free(&gcc);
        let offers = classes.flat_map(|(_, offers)| offers.to_vec());
        offers.map(|offer| offer.worker).collect()
    }

    fn vitals(slots: u32) -> Option<Vitals> {
        Some(Vitals {
            slots: Some(slots),
            ..Vitals::default()
        })
    }

    #[test]
    fn capacity_follows_what_workers_bear() {
        let gcc = Digest::of(b"gcc");
        let mut registry = Registry::new(0);
        registry.join(WorkerId(1), spec("one", 4), Some(Pace::guess(0.5)), 0);
        registry.join(WorkerId(2), spec("two", 2), None, 0);
        assert_eq!(registry.capacity(&gcc), 4.0);
        assert_eq!(registry.fastest(&gcc), Some(1.0));
        registry.heard(WorkerId(1), vitals(1), 1);
        assert_eq!(registry.capacity(&gcc), 2.5);
        registry.heard(WorkerId(2), vitals(0), 1);
        assert_eq!(registry.capacity(&gcc), 0.5);
        assert_eq!(registry.fastest(&gcc), Some(0.5));
        assert_eq!(free(&registry), [WorkerId(1)]);
        registry.set_pace(WorkerId(1), Pace::guess(8.0));
        assert_eq!(registry.fastest(&gcc), Some(8.0));
        registry.heard(WorkerId(2), vitals(9), 1);
        assert_eq!(free(&registry), [WorkerId(1), WorkerId(2)]);
        assert_eq!(registry.get(WorkerId(2)).unwrap().slots(), 2);
        registry.leave(WorkerId(1));
        registry.leave(WorkerId(2));
        assert_eq!(registry.capacity(&gcc), 0.0);
    }

    #[test]
    fn those_that_have_a_toolchain_and_those_that_were_given_it_are_found_together() {
        let me: Arc<str> = Arc::from("me");
        let (gcc, shipped) = (Digest::of(b"gcc"), Digest::of(b"gcc, shipped"));
        let mut registry = Registry::new(0);
        let found = |registry: &Registry, digest: &Digest| {
            let classes = registry.free(digest);
            let offers = classes.flat_map(|(_, offers)| offers.to_vec());
            offers
                .map(|offer| offer.worker.0)
                .collect::<BTreeSet<u64>>()
        };
        let shipping = Digest::of(b"a place");
        let bare = |name: &str| WorkerSpec {
            digests: vec![shipping],
            shipping: Some(shipping),
            ..spec(name, 1)
        };
        registry.join(WorkerId(1), bare("bare"), None, 0);
        // Nobody has either.
        assert_eq!(registry.asked_for(gcc, Some(shipped), &[], &me, 0), gcc);
        let given = || {
            let toolchain = v1::Toolchain {
                digest: shipped.as_bytes().to_vec(),
                shipment: shipped.as_bytes().to_vec(),
                ..v1::Toolchain::default()
            };
            vec![toolchain]
        };
        registry.offer(WorkerId(1), given(), vec![shipped]).unwrap();
        // It takes more of them.
        assert_eq!(found(&registry, &shipping), BTreeSet::from([1]));
        assert_eq!(registry.asked_for(gcc, Some(shipped), &[], &me, 0), shipped);
        registry.join(WorkerId(2), spec("own", 1), None, 0);
        let both = registry.asked_for(gcc, Some(shipped), &[], &me, 0);
        assert_eq!(found(&registry, &both), BTreeSet::from([1, 2]));
        assert_eq!(registry.capacity(&both), 2.0);
        // A task that knows of no shipment goes to its own alone, and one that names
        // another toolchain for this shipment finds no more than those with the shipment.
        assert_eq!(registry.asked_for(gcc, None, &[], &me, 0), gcc);
        // Neither of these is a toolchain that a worker has.
        assert_eq!(
            registry.asked_for(shipping, Some(shipped), &[], &me, 0),
            shipping
        );
        assert_eq!(
            registry.asked_for(shipped, Some(shipped), &[], &me, 0),
            shipped
        );
        assert_eq!(registry.asked_for(gcc, Some(shipping), &[], &me, 0), gcc);
        let other = registry.asked_for(Digest::of(b"other"), Some(shipped), &[], &me, 0);
        assert_eq!(found(&registry, &other), BTreeSet::from([1]));
        // Whoever comes later is found, too, and whoever goes is not.
        registry.join(WorkerId(3), spec("late", 1), None, 0);
        registry.join(WorkerId(4), bare("late too"), None, 0);
        registry.offer(WorkerId(4), given(), vec![shipped]).unwrap();
        assert_eq!(registry.asked_for(gcc, Some(shipped), &[], &me, 0), both);
        assert_eq!(found(&registry, &both), BTreeSet::from([1, 2, 3, 4]));
        registry.offer(WorkerId(4), Vec::new(), Vec::new()).unwrap();
        registry.leave(WorkerId(2));
        assert_eq!(found(&registry, &both), BTreeSet::from([1, 3]));
        registry.drain(WorkerId(3));
        assert_eq!(found(&registry, &both), BTreeSet::from([1]));
        assert!(registry.serves(&both, &[]) && !registry.serves(&both, &[WorkerId(1)]));
        registry.leave(WorkerId(1));
        registry.leave(WorkerId(3));
        assert!(registry.unions.is_empty() && !registry.pools.contains_key(&both));
        // Once nobody has it as a shipment it is none.
        assert_eq!(registry.asked_for(gcc, Some(shipped), &[], &me, 0), gcc);
    }

    #[test]
    fn toolchains_that_a_client_takes_for_the_same_are_one_pool() {
        let me: Arc<str> = Arc::from("me");
        let [gcc, cross, other] = ["gcc", "cross", "other"].map(|name| Digest::of(name.as_bytes()));
        let with = |name: &str, digest: Digest| WorkerSpec {
            digests: vec![digest],
            ..spec(name, 1)
        };
        let mut registry = Registry::new(0);
        // Nobody has any.
        assert_eq!(registry.asked_for(gcc, None, &[cross], &me, 0), gcc);
        registry.join(WorkerId(1), with("pi", cross), None, 0);
        assert_eq!(
            registry.asked_for(gcc, None, &[cross, other], &me, 0),
            cross
        );
        registry.join(WorkerId(2), with("same", gcc), None, 0);
        let both = registry.asked_for(gcc, None, &[cross, other], &me, 0);
        assert_eq!(registry.capacity(&both), 2.0);
        registry.join(WorkerId(3), with("late", cross), None, 0);
        assert_eq!(registry.capacity(&both), 3.0);
        // A union is no toolchain that a client could make another union of.
        assert_eq!(registry.asked_for(both, None, &[cross], &me, 0), both);
        assert_eq!(registry.asked_for(gcc, None, &[both], &me, 0), gcc);
        // Who makes unions without end makes none, and takes none away that is in use.
        let named = |n: usize| Digest::of(&n.to_be_bytes());
        for n in 0..UNIONS_MAX + 10 {
            let digest = named(n);
            let holder: Arc<str> = Arc::from(format!("holder {}", n % 20));
            registry.join(WorkerId(100 + n as u64), with("many", digest), None, 0);
            registry.asked_for(gcc, None, &[digest], &holder, 1);
        }
        assert_eq!(registry.unions.len(), UNIONS_MAX);
        assert_eq!(
            registry.asked_for(gcc, None, &[named(UNIONS_MAX + 5)], &me, 2),
            gcc
        );
        assert_eq!(
            registry.asked_for(gcc, None, &[cross], &me, UNION_UNUSED_MS),
            both
        );
        // One that no task can ask for any more makes room.
        let late = registry.asked_for(
            gcc,
            None,
            &[named(UNIONS_MAX + 5)],
            &me,
            UNION_UNUSED_MS + 1,
        );
        assert_eq!(registry.capacity(&late), 2.0);
        assert_eq!(registry.unions.len(), UNIONS_MAX);
        assert_eq!(registry.capacity(&both), 3.0);
        let pools = registry.pools.keys();
        let made_up = pools.filter(|digest| registry.unions.contains_key(*digest));
        assert_eq!(made_up.count(), UNIONS_MAX);
    }

    #[test]
    fn claims_are_believed_up_to_a_bound_until_compiles_back_them() {
        let gcc = Digest::of(b"gcc");
        let mut registry = Registry::new(0);
        let mut boaster = spec("one", 1024);
        boaster.speed_milli = u32::MAX;
        registry.join(WorkerId(1), boaster, None, 0);
        assert_eq!(registry.fastest(&gcc), Some(SPEED_CLAIM_MAX));
        let mut next = 0;
        let mut fill = |registry: &mut Registry| {
            let before = next;
            while registry.book(WorkerId(1), DispatchId(next), 0) {
                next += 1;
            }
            next - before
        };
        assert_eq!(fill(&mut registry), u64::from(SLOTS_UNPROVEN_MAX));
        // What it fails is no reason to give it more.
        registry.release(WorkerId(1), DispatchId(0), AttemptEnd::Failed);
        assert_eq!(fill(&mut registry), 1);
        for dispatch in 1..=4 {
            registry.release(WorkerId(1), DispatchId(dispatch), AttemptEnd::Well(1));
        }
        assert_eq!(fill(&mut registry), 8);
        assert_eq!(registry.slots(), (1024, 12));
        // Nothing is sent ahead to who may have slots that it does not fill.
        assert!(!registry.book_ahead(WorkerId(1), DispatchId(99)));
        // One that is known from before need not begin anew.
        let known = Pace {
            samples: 60,
            ..Pace::guess(1.0)
        };
        registry.join(WorkerId(2), spec("two", 64), Some(known), 0);
        assert_eq!(registry.get(WorkerId(2)).unwrap().slots_trusted(), 64);
    }

    #[test]
    fn memory_that_was_promised_is_not_promised_again() {
        let mut registry = Registry::new(0);
        let mut tight = spec("one", 4);
        tight.memory_bytes = 100;
        registry.join(WorkerId(1), tight, None, 0);
        let room =
            |registry: &Registry, bytes| registry.get(WorkerId(1)).unwrap().room_bytes() >= bytes;
        assert!(room(&registry, 100) && !room(&registry, 101));
        registry.book(WorkerId(1), DispatchId(1), 60);
        assert!(room(&registry, 40) && !room(&registry, 41));
        // Others use memory too.
        let vitals = Some(Vitals {
            memory_available_bytes: 20,
            ..Vitals::default()
        });
        registry.heard(WorkerId(1), vitals, 1);
        assert!(room(&registry, 20) && !room(&registry, 21));
        registry.book(WorkerId(1), DispatchId(2), 15);
        assert!(room(&registry, 5) && !room(&registry, 6));
        registry.release(WorkerId(1), DispatchId(2), AttemptEnd::Void);
        assert!(room(&registry, 20) && !room(&registry, 21));
    }

    #[test]
    fn a_breaker_outlives_its_link() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut registry = Registry::new(0);
        registry.join(WorkerId(1), spec("one", 4), None, 0);
        while !registry.blame(WorkerId(1), None, false, &mut random, 0) {}
        let gone = registry.leave(WorkerId(1)).unwrap();
        registry.keep_breaker(&gone.spec, gone.breaker);
        registry.join(WorkerId(2), spec("one", 4), None, 0);
        registry.join(WorkerId(3), spec("two", 4), None, 0);
        // Nor is it one for another holder's worker of that name.
        registry.join(WorkerId(4), of("another", spec("one", 4)), None, 0);
        assert_eq!(free(&registry), [WorkerId(3), WorkerId(4)]);
        registry.leave(WorkerId(4));
        assert!(registry.probe(0).is_empty());
        assert_eq!(registry.probe(10_000), [WorkerId(2)]);
        assert!(registry.book(WorkerId(2), DispatchId(1), 0));
        assert!(!registry.book(WorkerId(2), DispatchId(2), 0), "one probe");
        registry.release(WorkerId(2), DispatchId(1), AttemptEnd::Well(0));
        assert!(registry.book(WorkerId(2), DispatchId(2), 0));
    }

    #[test]
    fn a_slot_is_given_once() {
        let mut registry = Registry::new(0);
        registry.join(WorkerId(1), spec("one", 2), None, 0);
        registry.join(WorkerId(2), spec("two", 1), None, 0);
        assert_eq!(free(&registry).len(), 2);
        assert!(registry.book(WorkerId(1), DispatchId(1), 10));
        assert!(registry.book(WorkerId(1), DispatchId(2), 10));
        assert!(!registry.book(WorkerId(1), DispatchId(3), 10));
        assert_eq!(free(&registry), [WorkerId(2)]);
        registry.release(WorkerId(1), DispatchId(1), AttemptEnd::Well(0));
        assert_eq!(free(&registry).len(), 2);
        assert_eq!(registry.slots(), (3, 1));
        registry.leave(WorkerId(1));
        assert_eq!(registry.slots(), (1, 0));
    }

    #[test]
    fn draining_serves_nobody_and_pausing_ends() {
        let gcc = Digest::of(b"gcc");
        let mut registry = Registry::new(0);
        registry.join(WorkerId(1), spec("one", 1), None, 0);
        registry.pause(WorkerId(1), 500);
        assert!(registry.serves(&gcc, &[]));
        assert!(free(&registry).is_empty());
        assert!(registry.resume(499).is_empty());
        assert_eq!(registry.resume(500), [WorkerId(1)]);
        assert_eq!(free(&registry), [WorkerId(1)]);
        assert!(!registry.serves(&gcc, &[WorkerId(1)]));
        assert_eq!(registry.drain(WorkerId(1)), Some(true));
        assert_eq!(registry.drain(WorkerId(1)), Some(false));
        assert!(!registry.serves(&gcc, &[]));
        assert!(!registry.book(WorkerId(1), DispatchId(1), 10));
        registry.leave(WorkerId(1));
        assert!(registry.pools.is_empty() && registry.labels.is_empty());
    }

    #[test]
    fn labels_are_unique_whatever_workers_call_themselves() {
        let mut registry = Registry::new(0);
        let mut labels = BTreeSet::new();
        for (id, name) in ["pi", "pi#3", "pi", "", "pi#3", "pi#3"].iter().enumerate() {
            labels.insert(registry.join(WorkerId(id as u64 + 1), spec(name, 1), None, 0));
        }
        assert_eq!(labels.len(), 6);
        assert_eq!(registry.find("pi"), Some(WorkerId(1)));
        registry.join(WorkerId(7), spec("pi", 1), None, 0);
        registry.leave(WorkerId(1));
        assert_eq!(registry.find("pi"), None, "which of two?");
        registry.leave(WorkerId(7));
        assert_eq!(registry.find("pi"), Some(WorkerId(3)));
    }

    #[test]
    fn nobody_takes_the_place_of_another_holders_worker() {
        let mut registry = Registry::new(0);
        registry.join(WorkerId(1), of("a", spec("pi", 1)), None, 0);
        assert_eq!(
            registry.find_instance(&of("a", spec("pi", 1))),
            Some(WorkerId(1))
        );
        assert_eq!(registry.find_instance(&of("b", spec("pi", 1))), None);
        registry.join(WorkerId(2), of("b", spec("pi", 1)), None, 0);
        registry.leave(WorkerId(1));
        registry.leave(WorkerId(2));
        assert!(registry.instances.is_empty());
    }

    #[test]
    fn silence_is_noticed() {
        let mut registry = Registry::new(0);
        registry.join(WorkerId(1), spec("one", 1), None, 0);
        registry.join(WorkerId(2), spec("two", 1), None, 0);
        registry.heard(WorkerId(2), None, 3_000);
        assert_eq!(registry.silent(4_000, 4_000), [WorkerId(1)]);
        registry.leave(WorkerId(1));
        assert_eq!(registry.silent(4_000, 6_999), []);
        assert_eq!(registry.silent(4_000, 7_000), [WorkerId(2)]);
        registry.heard(WorkerId(2), None, 8_000);
        registry.leave(WorkerId(2));
        assert!(registry.heard.is_empty(), "nothing is left of who left");
    }
}
