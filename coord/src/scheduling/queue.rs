//! The tasks that wait for a slot: bounded, and fair between holders of tokens and
//! between the clients of each. Unaware of workers, of clocks and of what a task is.
//!
//! Fair means start-time fair queueing (Goyal, Vin and Cheng, 1996): the virtual time of
//! each flow, a holder or a client, advances by the cost of what it was given, divided by
//! its weight; the flow that is furthest behind gets the next slot. A new flow begins where
//! the others are, so that a single compile overtakes a build of thousands, and neither
//! starves. First it is a holder's turn, and then that of one of its clients: names that
//! clients give themselves divide their holder's share and make it no larger.
//!
//! Within one client the oldest goes first, long ones as if they had come a
//! little earlier: those that begin last decide when a build ends.
//!
//! Room is shared as turns are: where there is none left, whoever has most gives way to
//! who has less (longest queue drop; Suter, Lakshman, Stiliadis and Choudhury, Buffer
//! Management Schemes for Supporting TCP in Gigabit Routers with Per-Flow Queueing, 1999).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use hg_proto::wire::digest::Digest;

use crate::bounds::{
    QUEUE_BYTES_MAX, QUEUE_CLIENT_LOOKS_MAX, QUEUE_CLIENT_TASKS_MAX, QUEUE_HOLDER_LOOKS_MAX,
    QUEUE_HOLDER_TASKS_MAX, QUEUE_HOLDERS_LOOKED_MAX, QUEUE_HOLDERS_SMALLEST_MAX,
    QUEUE_IDLE_FLOWS_MAX, QUEUE_TASKS_MAX,
};
use crate::scheduling::id::{ByDigest, ById, Keyed, TaskId};

/// Milliseconds by which a task goes ahead for each millisecond of its cost.
const HEAD_START: f64 = 4.0;
/// Milliseconds by which it goes ahead at most, so that those of middling length
/// do not wait until their time is over.
const HEAD_START_MS_MAX: f64 = 10_000.0;

/// What the queue must know of a task.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// The task.
    pub task: TaskId,
    /// The holder of the token that the task came with, whose share it uses.
    pub holder: Arc<str>,
    /// The client of that holder, whose part of the share it uses.
    pub client: Arc<str>,
    /// The toolchain that a worker must have.
    pub toolchain: Digest,
    /// Bytes of the coordinator's memory that the task takes while it waits.
    pub bytes: usize,
    /// Milliseconds at speed 1 that the compile is thought to cost.
    pub cost_ms: u64,
    /// Bytes of memory that the compile is thought to need on a worker.
    pub peak_bytes: u64,
    /// When the task came, in milliseconds on the caller's clock.
    pub since_ms: u64,
    /// When the task has waited long enough, in milliseconds on the caller's clock.
    pub deadline_ms: u64,
}

/// Why a task is not in the queue, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// There are too many tasks.
    Tasks,
    /// There are too many tasks of its client, or of its holder.
    Client,
    /// The tasks take too many bytes.
    Bytes,
    /// It was queued, and had to give way to a task of a holder that has less in the queue.
    GaveWay,
}

impl Full {
    /// For people.
    pub fn detail(self) -> &'static str {
        match self {
            Full::Tasks => "the queue is full",
            Full::Client => "the queue is full of this client's tasks",
            Full::Bytes => "the queue holds too many bytes",
            Full::GaveWay => "the queue is full, and others have less in it",
        }
    }
}

/// Which of a client's tasks are looked at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By their turn.
    Turn,
    /// The cheapest first: for a slow worker.
    Cheapest,
}

/// A task that waits.
struct Entry {
    holder: Arc<str>,
    client: Arc<str>,
    toolchain: Digest,
    bytes: usize,
    cost_ms: u64,
    peak_bytes: u64,
    deadline_ms: u64,
    rank: i64,
}

/// A client's tasks for one toolchain.
#[derive(Default)]
struct ClientLane {
    by_rank: BTreeSet<(i64, TaskId)>,
    by_cost: BTreeSet<(u64, TaskId)>,
    by_peak: BTreeSet<(u64, TaskId)>,
}

impl ClientLane {
    /// The first task that `fits` lets pass, of those whose turn it is, or else the one
    /// that needs least memory: behind any number of large ones it is found by a worker
    /// on which these have no room.
    fn find(&self, order: Order, mut fits: impl FnMut(TaskId) -> bool) -> Option<TaskId> {
        let task = |(_, task): &(u64, TaskId)| *task;
        let found = match order {
            Order::Turn => {
                let by_rank = self.by_rank.iter().map(|(_, task)| *task);
                by_rank
                    .take(QUEUE_CLIENT_LOOKS_MAX)
                    .find(|task| fits(*task))
            }
            // If the cheapest is too dear, so are the others.
            Order::Cheapest => self.by_cost.iter().map(task).take(2).find(|t| fits(*t)),
        };
        let smallest = || self.by_peak.first().map(task).filter(|task| fits(*task));
        found.or_else(smallest)
    }
}

/// A holder's tasks for one toolchain.
#[derive(Default)]
struct HolderLane {
    /// Clients that have a task in this lane, by their virtual time.
    by_time: BTreeSet<(VirtualTime, Arc<str>)>,
    clients: HashMap<Arc<str>, ClientLane>,
    /// Tasks of all clients, by their memory.
    by_peak: BTreeSet<(u64, TaskId)>,
}

impl HolderLane {
    /// The task whose turn it is among those that `fits` lets pass, and its client's
    /// virtual time; where none of so many does, the task that needs least memory, of
    /// whatever client.
    fn find(
        &self,
        order: Order,
        mut fits: impl FnMut(TaskId) -> bool,
    ) -> Option<(VirtualTime, TaskId)> {
        let mut looks = 0;
        for (time, client) in &self.by_time {
            let lane = self.clients.get(client)?;
            let found = lane.find(order, |task| {
                looks += 1;
                fits(task)
            });
            if let Some(task) = found {
                return Some((*time, task));
            }
            if looks >= QUEUE_HOLDER_LOOKS_MAX {
                break;
            }
        }
        self.smallest(fits)
    }

    /// The task that needs least memory, if it fits: found by a worker on which those
    /// whose turn it is have no room, and after any that were found by their turn.
    fn smallest(&self, mut fits: impl FnMut(TaskId) -> bool) -> Option<(VirtualTime, TaskId)> {
        let (_, task) = *self.by_peak.first()?;
        fits(task).then_some((VirtualTime::LAST, task))
    }
}

/// The tasks for one toolchain.
#[derive(Default)]
struct Lane {
    /// Holders that have a task in this lane, by their virtual time.
    by_time: BTreeSet<(VirtualTime, Arc<str>)>,
    holders: HashMap<Arc<str>, HolderLane>,
    cost_ms: u64,
}

/// Virtual time of start-time fair queueing; arrival breaks ties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct VirtualTime {
    /// Microseconds of cost, divided by weight.
    us: u64,
    /// When the flow came or was served last, counted over all flows.
    arrival: u64,
}

impl VirtualTime {
    /// After all others.
    const LAST: VirtualTime = VirtualTime {
        us: u64::MAX,
        arrival: u64::MAX,
    };
}

/// What a flow has of the queue, in tasks or in bytes.
type Measure = fn(&Flow) -> usize;

/// A holder among all, or a client among those of its holder, that has tasks here.
struct Flow {
    time: VirtualTime,
    tasks: usize,
    /// Bytes of its tasks.
    bytes: usize,
    /// Lanes in which it has tasks.
    lanes: BTreeSet<Digest>,
    /// A holder's clients; none of a client.
    clients: Flows,
}

/// Flows that take turns.
#[derive(Default)]
struct Flows {
    active: HashMap<Arc<str>, Flow>,
    /// Virtual times of flows that have no task now and were ahead of the others.
    idle_ahead: HashMap<Arc<str>, u64>,
    /// The virtual time of the flow that was served last, in microseconds.
    served_us: u64,
}

impl Flows {
    fn tasks(&self, name: &str) -> usize {
        self.active.get(name).map_or(0, |flow| flow.tasks)
    }

    /// The flow that has most, and in a draw the one whose name is last: no order of a
    /// hash map's.
    fn most(&self, measure: Measure) -> Option<(&Arc<str>, &Flow)> {
        let flows = self.active.iter();
        flows.max_by_key(|(name, flow)| (measure(flow), *name))
    }

    /// The flow `name` has one more task of so many `bytes`, for `toolchain`.
    fn add_task(
        &mut self,
        name: &Arc<str>,
        toolchain: Digest,
        bytes: usize,
        arrivals: &mut u64,
    ) -> &mut Flow {
        let (idle_ahead, served_us) = (&mut self.idle_ahead, self.served_us);
        let flow = self.active.entry(name.clone()).or_insert_with(|| {
            *arrivals += 1;
            let left_us = idle_ahead.remove(name).unwrap_or(0);
            Flow {
                time: VirtualTime {
                    us: left_us.max(served_us),
                    arrival: *arrivals,
                },
                tasks: 0,
                bytes: 0,
                lanes: BTreeSet::new(),
                clients: Flows::default(),
            }
        });
        flow.tasks += 1;
        flow.bytes += bytes;
        flow.lanes.insert(toolchain);
        flow
    }

    /// The flow `name` has one task of so many `bytes` less.
    fn remove_task(&mut self, name: &Arc<str>, bytes: usize) {
        let Some(flow) = self.active.get_mut(name) else {
            return;
        };
        flow.tasks -= 1;
        flow.bytes -= bytes;
        if flow.tasks == 0 {
            let left_us = flow.time.us;
            self.active.remove(name);
            self.remember(name, left_us);
        }
    }

    /// Keeps the virtual time of a flow that becomes idle: one that goes and comes back is
    /// not to gain by it.
    fn remember(&mut self, name: &Arc<str>, left_us: u64) {
        let served_us = self.served_us;
        if left_us <= served_us {
            return;
        }
        if self.idle_ahead.len() >= QUEUE_IDLE_FLOWS_MAX {
            self.idle_ahead.retain(|_, us| *us > served_us);
        }
        if self.idle_ahead.len() < QUEUE_IDLE_FLOWS_MAX {
            self.idle_ahead.insert(name.clone(), left_us);
        }
    }

    /// Advances the virtual time of a flow that was given work of this cost; gives the
    /// time before.
    fn charge(
        &mut self,
        name: &str,
        cost_us: u64,
        arrival: u64,
    ) -> Option<(VirtualTime, &mut Flow)> {
        let flow = self.active.get_mut(name)?;
        let before = flow.time;
        self.served_us = self.served_us.max(before.us);
        flow.time = VirtualTime {
            us: before.us + cost_us,
            arrival,
        };
        Some((before, flow))
    }
}

/// See the top of the file.
#[derive(Default)]
pub struct Queue {
    entries: ById<TaskId, Entry>,
    lanes: ByDigest<Lane>,
    holders: Flows,
    weights: HashMap<String, u32>,
    deadlines: BTreeSet<(u64, TaskId)>,
    /// Bytes of all tasks.
    bytes: usize,
    /// Flows that came or were served, ever.
    arrivals: u64,
}

impl Queue {
    /// An empty queue. Holders and clients that `weights` does not name weigh 1.
    pub fn new(weights: HashMap<String, u32>, seed: u64) -> Self {
        Queue {
            lanes: ByDigest::with_hasher(Keyed(seed)),
            weights,
            ..Self::default()
        }
    }

    /// How many tasks wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no task waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the tasks that wait for `toolchain` are thought to cost, in
    /// milliseconds at speed 1.
    pub fn cost_ms(&self, toolchain: &Digest) -> u64 {
        self.lanes.get(toolchain).map_or(0, |lane| lane.cost_ms)
    }

    /// Toolchains for which tasks wait.
    pub fn toolchains(&self) -> Vec<Digest> {
        self.lanes.keys().copied().collect()
    }

    /// Adds a task, and gives those that had to give way to it, which were removed.
    ///
    /// # Errors
    /// A bound is reached, and nobody has more than this task's holder would have;
    /// nothing was changed.
    pub fn push(&mut self, ticket: Ticket) -> Result<Vec<TaskId>, Full> {
        if let Some(holder) = self.holders.active.get(&ticket.holder)
            && (holder.tasks >= QUEUE_HOLDER_TASKS_MAX
                || holder.clients.tasks(&ticket.client) >= QUEUE_CLIENT_TASKS_MAX)
        {
            return Err(Full::Client);
        }
        let tasks: Measure = |flow| flow.tasks;
        let bytes: Measure = |flow| flow.bytes;
        let more_tasks = (self.entries.len() + 1).saturating_sub(QUEUE_TASKS_MAX);
        let more_bytes = (self.bytes.saturating_add(ticket.bytes)).saturating_sub(QUEUE_BYTES_MAX);
        if more_tasks > 0 && more_tasks > self.excess(&ticket, tasks, 1) {
            return Err(Full::Tasks);
        }
        if more_bytes > 0 && more_bytes > self.excess(&ticket, bytes, ticket.bytes) {
            return Err(Full::Bytes);
        }
        let mut gone = Vec::new();
        while self.entries.len() >= QUEUE_TASKS_MAX
            && let Some(task) = self.evict(tasks)
        {
            gone.push(task);
        }
        while self.bytes.saturating_add(ticket.bytes) > QUEUE_BYTES_MAX
            && let Some(task) = self.evict(bytes)
        {
            gone.push(task);
        }
        let early_ms = (ticket.cost_ms as f64 * HEAD_START).min(HEAD_START_MS_MAX) as i64;
        let rank = (ticket.since_ms as i64).saturating_sub(early_ms);
        self.insert(ticket, rank);
        Ok(gone)
    }

    /// How much other holders have beyond what the ticket's holder would have with `more`.
    fn excess(&self, ticket: &Ticket, measure: Measure, more: usize) -> usize {
        let own = self.holders.active.get(&ticket.holder).map_or(0, measure) + more;
        let all = self.holders.active.values();
        all.map(|other| measure(other).saturating_sub(own)).sum()
    }

    /// Removes the last task of the client that has most, of the holder that has most.
    fn evict(&mut self, measure: Measure) -> Option<TaskId> {
        let (holder, holder_flow) = self.holders.most(measure)?;
        let (client, client_flow) = holder_flow.clients.most(measure)?;
        let last = |toolchain: &Digest| {
            let lane = self.lanes.get(toolchain)?.holders.get(holder)?;
            lane.clients.get(client)?.by_rank.last().copied()
        };
        let (_, task) = client_flow.lanes.iter().filter_map(last).max()?;
        self.remove(task);
        Some(task)
    }

    /// Adds a task that had a slot before, in front of its client's others. It
    /// was let in once and is not held to the bounds again; there are never
    /// more of these than slots.
    pub fn push_front(&mut self, ticket: Ticket) {
        let rank = i64::MIN.saturating_add(ticket.since_ms as i64);
        self.insert(ticket, rank);
    }

    fn insert(&mut self, ticket: Ticket, rank: i64) {
        let Ticket {
            task,
            holder,
            client,
            toolchain,
            bytes,
            cost_ms,
            peak_bytes,
            deadline_ms,
            ..
        } = ticket;
        if self.entries.contains_key(&task) {
            return;
        }
        let arrivals = &mut self.arrivals;
        let holder_flow = self.holders.add_task(&holder, toolchain, bytes, arrivals);
        let lane = self.lanes.entry(toolchain).or_default();
        lane.by_time.insert((holder_flow.time, holder.clone()));
        lane.cost_ms += cost_ms;
        let holder_lane = lane.holders.entry(holder.clone()).or_default();
        let clients = &mut holder_flow.clients;
        let client_flow = clients.add_task(&client, toolchain, bytes, arrivals);
        holder_lane
            .by_time
            .insert((client_flow.time, client.clone()));
        let client_lane = holder_lane.clients.entry(client.clone()).or_default();
        client_lane.by_rank.insert((rank, task));
        client_lane.by_cost.insert((cost_ms, task));
        client_lane.by_peak.insert((peak_bytes, task));
        holder_lane.by_peak.insert((peak_bytes, task));
        self.bytes += bytes;
        self.deadlines.insert((deadline_ms, task));
        self.entries.insert(
            task,
            Entry {
                holder,
                client,
                toolchain,
                bytes,
                cost_ms,
                peak_bytes,
                deadline_ms,
                rank,
            },
        );
    }

    /// Removes a task, wherever it stands. `false`: it was not queued.
    pub fn remove(&mut self, task: TaskId) -> bool {
        let Some(entry) = self.entries.remove(&task) else {
            return false;
        };
        self.bytes -= entry.bytes;
        self.deadlines.remove(&(entry.deadline_ms, task));
        self.leave_lane(task, &entry);
        if let Some(flow) = self.holders.active.get_mut(&entry.holder) {
            flow.clients.remove_task(&entry.client, entry.bytes);
        }
        self.holders.remove_task(&entry.holder, entry.bytes);
        true
    }

    fn leave_lane(&mut self, task: TaskId, entry: &Entry) {
        let toolchain = &entry.toolchain;
        let Some(lane) = self.lanes.get_mut(toolchain) else {
            return;
        };
        lane.cost_ms -= entry.cost_ms;
        let (Some(holder_flow), Some(holder_lane)) = (
            self.holders.active.get_mut(&entry.holder),
            lane.holders.get_mut(&entry.holder),
        ) else {
            return;
        };
        holder_lane.by_peak.remove(&(entry.peak_bytes, task));
        if let Some(client_lane) = holder_lane.clients.get_mut(&entry.client) {
            client_lane.by_rank.remove(&(entry.rank, task));
            client_lane.by_cost.remove(&(entry.cost_ms, task));
            client_lane.by_peak.remove(&(entry.peak_bytes, task));
            if client_lane.by_rank.is_empty()
                && let Some(client_flow) = holder_flow.clients.active.get_mut(&entry.client)
            {
                holder_lane.clients.remove(&entry.client);
                let place = (client_flow.time, entry.client.clone());
                holder_lane.by_time.remove(&place);
                client_flow.lanes.remove(toolchain);
            }
        }
        if holder_lane.clients.is_empty() {
            lane.holders.remove(&entry.holder);
            lane.by_time
                .remove(&(holder_flow.time, entry.holder.clone()));
            holder_flow.lanes.remove(toolchain);
        }
        if lane.by_time.is_empty() {
            self.lanes.remove(toolchain);
        }
    }

    /// Takes the task whose turn it is among those for `toolchains` of holders that `may`
    /// lets pass, if `fits` does too, and advances the virtual times of its holder and its
    /// client. Looks at a bounded number of each holder's tasks, so that nobody's tasks
    /// hide another's.
    pub fn take(
        &mut self,
        toolchains: &[Digest],
        order: Order,
        may: impl Fn(&Arc<str>) -> bool,
        mut fits: impl FnMut(TaskId) -> bool,
    ) -> Option<TaskId> {
        let mut best: Option<((VirtualTime, VirtualTime), TaskId)> = None;
        for lane in toolchains.iter().filter_map(|tools| self.lanes.get(tools)) {
            let holders = lane.by_time.iter().filter(|(_, holder)| may(holder));
            for (at, (time, holder)) in holders.take(QUEUE_HOLDERS_SMALLEST_MAX).enumerate() {
                if best.is_some_and(|((first, _), _)| first < *time) {
                    break;
                }
                let lane = lane.holders.get(holder);
                let found = lane.and_then(|lane| match at < QUEUE_HOLDERS_LOOKED_MAX {
                    true => lane.find(order, &mut fits),
                    false => lane.smallest(&mut fits),
                });
                if let Some((next, task)) = found {
                    let found = ((*time, next), task);
                    best = Some(best.map_or(found, |best| best.min(found)));
                    break;
                }
            }
        }
        let (_, task) = best?;
        let entry = self.entries.get(&task)?;
        let (holder, client) = (entry.holder.clone(), entry.client.clone());
        self.charge(&holder, &client, entry.cost_ms);
        self.remove(task);
        Some(task)
    }

    /// Advances the virtual times of a client that was given work of this cost, and of its
    /// holder.
    fn charge(&mut self, holder: &Arc<str>, client: &Arc<str>, cost_ms: u64) {
        self.arrivals += 1;
        let arrival = self.arrivals;
        // Even what costs nothing takes a turn.
        let cost_us = |weight| cost_ms.max(1) * 1_000 / weight;
        let share = cost_us(self.weight(holder));
        let part = cost_us(self.weight(client));
        let Some((before, holder_flow)) = self.holders.charge(holder, share, arrival) else {
            return;
        };
        for toolchain in &holder_flow.lanes {
            if let Some(lane) = self.lanes.get_mut(toolchain) {
                lane.by_time.remove(&(before, holder.clone()));
                lane.by_time.insert((holder_flow.time, holder.clone()));
            }
        }
        let clients = &mut holder_flow.clients;
        let Some((before, client_flow)) = clients.charge(client, part, arrival) else {
            return;
        };
        for toolchain in &client_flow.lanes {
            let lane = self.lanes.get_mut(toolchain);
            if let Some(lane) = lane.and_then(|lane| lane.holders.get_mut(holder)) {
                lane.by_time.remove(&(before, client.clone()));
                lane.by_time.insert((client_flow.time, client.clone()));
            }
        }
    }

    fn weight(&self, name: &str) -> u64 {
        // NAME/BUILD: a build weighs what its client does.
        let base = name.split('/').next().unwrap_or(name);
        let weight = self.weights.get(name).or_else(|| self.weights.get(base));
        u64::from(*weight.unwrap_or(&1)).max(1)
    }

    /// Takes one task whose deadline is not after `now_ms`.
    pub fn take_overdue(&mut self, now_ms: u64) -> Option<TaskId> {
        let &(deadline_ms, task) = self.deadlines.first()?;
        (deadline_ms <= now_ms).then(|| {
            self.remove(task);
            task
        })
    }

    /// Takes any one task for `toolchain`.
    pub fn take_any(&mut self, toolchain: &Digest) -> Option<TaskId> {
        self.take(&[*toolchain], Order::Turn, |_| true, |_| true)
    }

    /// Takes any one task.
    pub fn take_first(&mut self) -> Option<TaskId> {
        self.take_overdue(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toolchain(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn ticket(task: u64, client: &str, tools: &str) -> Ticket {
        Ticket {
            task: TaskId(task),
            holder: client.into(),
            client: client.into(),
            toolchain: toolchain(tools),
            bytes: 1,
            cost_ms: 100,
            peak_bytes: 100,
            since_ms: task,
            deadline_ms: 1_000 + task,
        }
    }

    fn queue() -> Queue {
        Queue::new(HashMap::from([("heavy".to_owned(), 3)]), 0)
    }

    fn order(queue: &mut Queue, tools: &[&str]) -> Vec<u64> {
        let tools: Vec<Digest> = tools.iter().map(|t| toolchain(t)).collect();
        std::iter::from_fn(|| queue.take(&tools, Order::Turn, |_| true, |_| true))
            .map(|t| t.0)
            .collect()
    }

    #[test]
    fn clients_take_turns_and_keep_their_own_order() {
        let mut queue = queue();
        for task in 0..4 {
            queue.push(ticket(task, "big", "gcc")).unwrap();
        }
        queue.push(ticket(10, "small", "gcc")).unwrap();
        queue.push(ticket(11, "small", "gcc")).unwrap();
        queue.push(ticket(20, "late", "gcc")).unwrap();
        assert_eq!(order(&mut queue, &["gcc"]), [0, 10, 20, 1, 11, 2, 3]);
        assert!(queue.is_empty() && queue.holders.active.is_empty() && queue.lanes.is_empty());
        assert_eq!((queue.bytes, queue.deadlines.len()), (0, 0));
    }

    #[test]
    fn turns_are_shared_between_toolchains() {
        let mut queue = queue();
        queue.push(ticket(0, "a", "gcc")).unwrap();
        queue.push(ticket(1, "a", "clang")).unwrap();
        queue.push(ticket(2, "b", "clang")).unwrap();
        assert_eq!(order(&mut queue, &["gcc", "clang"]), [0, 2, 1]);
    }

    #[test]
    fn shares_are_of_work_and_by_weight() {
        let mut queue = queue();
        for task in 0..400 {
            let client = ["dear", "cheap", "heavy/17", "other"][task as usize % 4];
            let mut ticket = ticket(task, client, "gcc");
            ticket.cost_ms = if client == "dear" { 400 } else { 100 };
            queue.push(ticket).unwrap();
        }
        let served = order(&mut queue, &["gcc"]);
        let count = |client: u64| served[..90].iter().filter(|t| **t % 4 == client).count();
        let counts = [count(0), count(1), count(2), count(3)];
        assert!((4..=6).contains(&counts[0]), "{counts:?}");
        assert!((15..=19).contains(&counts[1]), "{counts:?}");
        assert!((48..=53).contains(&counts[2]), "{counts:?}");
    }

    #[test]
    fn a_single_compile_overtakes_a_build_and_the_build_goes_on() {
        let mut queue = queue();
        for task in 0..1_000 {
            queue.push(ticket(task, "build", "gcc")).unwrap();
        }
        for _ in 0..500 {
            queue.take_any(&toolchain("gcc")).unwrap();
        }
        queue.push(ticket(5_000, "single", "gcc")).unwrap();
        let next: Vec<u64> = order(&mut queue, &["gcc"])[..2].to_vec();
        assert!(next.contains(&5_000), "{next:?}");
        // Always one more of a hundred others: the build gets its share.
        for task in 0..100 {
            queue.push(ticket(task, "build", "gcc")).unwrap();
        }
        let mut built = 0;
        for round in 0..1_010 {
            let client = format!("single{}", round % 100);
            queue.push(ticket(10_000 + round, &client, "gcc")).unwrap();
            built += u32::from(queue.take_any(&toolchain("gcc")).unwrap().0 < 100);
        }
        assert!(built >= 9, "{built}");
    }

    #[test]
    fn coming_back_does_not_jump_the_line() {
        let mut queue = queue();
        queue.push(ticket(0, "a", "gcc")).unwrap();
        queue.push(ticket(1, "b", "gcc")).unwrap();
        queue.push(ticket(2, "b", "gcc")).unwrap();
        assert_eq!(queue.take_any(&toolchain("gcc")), Some(TaskId(0)));
        queue.push(ticket(3, "a", "gcc")).unwrap();
        assert_eq!(order(&mut queue, &["gcc"]), [1, 3, 2]);
    }

    #[test]
    fn long_ones_begin_early_and_slow_workers_get_the_cheap_ones() {
        let mut queue = queue();
        for (task, cost_ms) in [(0, 10), (1, 500), (2, 20)] {
            let ticket = ticket(task, "a", "gcc");
            queue.push(Ticket { cost_ms, ..ticket }).unwrap();
        }
        let gcc = [toolchain("gcc")];
        assert_eq!(queue.cost_ms(&gcc[0]), 530);
        let cheap = queue.take(&gcc, Order::Cheapest, |_| true, |task| task != TaskId(1));
        assert_eq!(cheap, Some(TaskId(0)));
        assert_eq!(order(&mut queue, &["gcc"]), [1, 2]);
        assert_eq!(queue.cost_ms(&gcc[0]), 0);
    }

    #[test]
    fn age_beats_length() {
        let mut queue = queue();
        queue.push(ticket(0, "a", "gcc")).unwrap();
        for task in 1_000..1_010 {
            let ticket = ticket(task, "a", "gcc");
            queue
                .push(Ticket {
                    cost_ms: 300,
                    ..ticket
                })
                .unwrap();
        }
        // The long ones are ahead of it by 800 ms and came 1,000 ms later.
        assert_eq!(order(&mut queue, &["gcc"])[0], 0);
    }

    #[test]
    fn what_does_not_fit_is_passed_over() {
        let mut queue = queue();
        for task in 0..3 {
            queue.push(ticket(task, "a", "gcc")).unwrap();
        }
        queue.push(ticket(5, "b", "gcc")).unwrap();
        let gcc = [toolchain("gcc")];
        let mut take =
            |fits: fn(u64) -> bool| queue.take(&gcc, Order::Turn, |_| true, |t| fits(t.0));
        assert_eq!(take(|task| task >= 2), Some(TaskId(2)));
        assert_eq!(take(|task| task < 2), Some(TaskId(0)));
        assert_eq!(take(|_| false), None);
        assert_eq!(
            queue.take(&[toolchain("clang")], Order::Turn, |_| true, |_| true),
            None
        );
        assert_eq!(order(&mut queue, &["gcc"]), [5, 1]);
    }

    #[test]
    fn a_small_worker_finds_the_small_one_behind_any_number_of_large_ones() {
        let mut queue = queue();
        for task in 0..1_000 {
            let client = ["a", "b"][task as usize % 2];
            queue.push(of("us", task, client)).unwrap();
        }
        let small = Ticket {
            peak_bytes: 1,
            ..of("us", 5_000, "a")
        };
        queue.push(small).unwrap();
        let gcc = [toolchain("gcc")];
        let mut looks = 0;
        let taken = queue.take(
            &gcc,
            Order::Turn,
            |_| true,
            |task| {
                looks += 1;
                task.0 == 5_000
            },
        );
        assert_eq!(taken, Some(TaskId(5_000)));
        assert!(looks <= 2 * (QUEUE_CLIENT_LOOKS_MAX + 1), "{looks}");
        assert!(queue.take(&gcc, Order::Turn, |_| true, |_| false).is_none());
    }

    #[test]
    fn a_small_worker_finds_the_small_one_behind_any_number_of_other_clients() {
        let gcc = [toolchain("gcc")];
        // Of one holder, and of as many.
        for holders in [1, 100] {
            let mut queue = queue();
            for task in 0..2_000 {
                let holder = format!("h{}", task % holders);
                let client = format!("c{}", task % 100);
                queue.push(of(&holder, task, &client)).unwrap();
            }
            let small = Ticket {
                peak_bytes: 1,
                ..of(&format!("h{}", holders - 1), 5_000, "late")
            };
            queue.push(small).unwrap();
            let mut looks = 0;
            let taken = queue.take(
                &gcc,
                Order::Turn,
                |_| true,
                |task| {
                    looks += 1;
                    task.0 == 5_000
                },
            );
            assert_eq!(taken, Some(TaskId(5_000)), "{holders}");
            let looks_max = QUEUE_HOLDERS_LOOKED_MAX * (QUEUE_HOLDER_LOOKS_MAX + 20) + 100;
            assert!(looks <= looks_max, "{looks}");
            // Whose turn it is goes before who needs least.
            assert!(queue.take_any(&gcc[0]).is_some_and(|task| task.0 < 2_000));
        }
    }

    #[test]
    fn tasks_of_one_that_may_not_hide_nobody_elses() {
        let mut queue = queue();
        for task in 0..2_000 {
            queue
                .push(of("evil", task, &format!("c{}", task % 100)))
                .unwrap();
        }
        queue.push(of("good", 5_000, "a")).unwrap();
        let gcc = [toolchain("gcc")];
        let may = |holder: &Arc<str>| **holder != *"evil";
        assert_eq!(
            queue.take(&gcc, Order::Turn, may, |_| true),
            Some(TaskId(5_000))
        );
        // Nor those that fit nowhere.
        queue.push(of("good", 5_001, "a")).unwrap();
        let taken = queue.take(&gcc, Order::Turn, |_| true, |task| task.0 == 5_001);
        assert_eq!(taken, Some(TaskId(5_001)));
    }

    #[test]
    fn removal_and_deadlines() {
        let mut queue = queue();
        for task in 0..3 {
            queue.push(ticket(task, "a", "gcc")).unwrap();
        }
        assert!(queue.remove(TaskId(1)));
        assert!(!queue.remove(TaskId(1)));
        assert_eq!(queue.take_overdue(999), None);
        assert_eq!(queue.take_overdue(1_000), Some(TaskId(0)));
        assert_eq!(queue.take_overdue(1_001), None);
        assert_eq!(queue.take_overdue(1_002), Some(TaskId(2)));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_second_try_goes_first() {
        let mut queue = queue();
        queue.push(ticket(1, "a", "gcc")).unwrap();
        queue.push_front(ticket(2, "a", "gcc"));
        assert_eq!(order(&mut queue, &["gcc"]), [2, 1]);
    }

    #[test]
    fn bounds_hold() {
        let mut queue = queue();
        for task in 0..QUEUE_CLIENT_TASKS_MAX as u64 {
            queue.push(ticket(task, "a", "gcc")).unwrap();
        }
        assert_eq!(queue.push(ticket(1 << 40, "a", "gcc")), Err(Full::Client));
        let mut heavy = ticket(1 << 40, "b", "gcc");
        heavy.bytes = QUEUE_BYTES_MAX + 1;
        assert_eq!(queue.push(heavy), Err(Full::Bytes));
        for task in QUEUE_CLIENT_TASKS_MAX as u64..QUEUE_TASKS_MAX as u64 {
            queue
                .push(ticket(task, &format!("c{}", task % 100), "gcc"))
                .unwrap();
        }
        assert_eq!(
            queue
                .push(ticket(1 << 40, "b", "gcc"))
                .map(|gone| gone.len()),
            Ok(1)
        );
        assert_eq!(queue.len(), QUEUE_TASKS_MAX);
        for task in 0..2 * QUEUE_IDLE_FLOWS_MAX {
            let name = format!("c{task}").into();
            queue.holders.remember(&name, 1 << 40);
        }
        assert!(queue.holders.idle_ahead.len() <= QUEUE_IDLE_FLOWS_MAX);
    }

    fn of(holder: &str, task: u64, client: &str) -> Ticket {
        Ticket {
            holder: holder.into(),
            ..ticket(task, client, "gcc")
        }
    }

    #[test]
    fn a_thousand_names_of_one_holder_have_its_share_and_no_more() {
        let mut queue = queue();
        for task in 0..1_000 {
            queue.push(of("many", task, &format!("n{task}"))).unwrap();
        }
        for task in 1_000..1_200 {
            queue.push(of("one", task, "n0")).unwrap();
        }
        let served = order(&mut queue, &["gcc"]);
        let of_one = served[..400].iter().filter(|task| **task >= 1_000).count();
        assert_eq!(of_one, 200, "turn by turn");
        assert_eq!(served.len(), 1_200);
        // Nor by names that were never heard before, one for each task.
        queue.push(of("one", 1, "n0")).unwrap();
        queue.push(of("one", 2, "n0")).unwrap();
        for task in 10..20 {
            queue.push(of("many", task, &format!("new{task}"))).unwrap();
        }
        let served = order(&mut queue, &["gcc"]);
        let of_one = served[..4].iter().filter(|task| **task < 10).count();
        assert_eq!(of_one, 2, "{served:?}");
    }

    #[test]
    fn clients_of_one_holder_share_what_it_has() {
        let mut queue = queue();
        for task in 0..100 {
            queue.push(of("us", task, "big")).unwrap();
            queue.push(of("others", 1_000 + task, "x")).unwrap();
        }
        for task in 100..103 {
            queue.push(of("us", task, "small")).unwrap();
        }
        queue.push(of("us", 110, "heavy/1")).unwrap();
        let first = order(&mut queue, &["gcc"])[..16].to_vec();
        let ours: Vec<u64> = first
            .iter()
            .filter(|task| **task < 1_000)
            .copied()
            .collect();
        assert_eq!(ours, [0, 100, 110, 1, 101, 2, 102, 3]);
    }

    #[test]
    fn one_holder_does_not_fill_the_queue() {
        let mut queue = queue();
        for task in 0..QUEUE_HOLDER_TASKS_MAX as u64 {
            queue
                .push(of("many", task, &format!("n{}", task % 9)))
                .unwrap();
        }
        assert_eq!(queue.push(of("many", 1 << 40, "new")), Err(Full::Client));
        assert_eq!(queue.push(of("one", 1 << 40, "new")), Ok(vec![]));
    }

    fn large(holder: &str, task: u64, client: &str, mib: usize) -> Ticket {
        Ticket {
            bytes: mib << 20,
            ..of(holder, task, client)
        }
    }

    #[test]
    fn who_has_most_bytes_gives_way() {
        let mut queue = queue();
        let mut task = 0;
        let mut push = |queue: &mut Queue, holder: &str, client: &str, mib: usize| {
            task += 1;
            queue.push(large(holder, task, client, mib))
        };
        for at in 0..32 {
            let client = if at < 10 { "small" } else { "big" };
            assert_eq!(push(&mut queue, "many", client, 8), Ok(vec![]));
        }
        assert_eq!(push(&mut queue, "many", "new", 8), Err(Full::Bytes));
        assert_eq!((queue.len(), queue.bytes), (32, QUEUE_BYTES_MAX));
        // The last of the larger client's; whatever calls itself by a client's name is not.
        assert_eq!(push(&mut queue, "one", "big", 1), Ok(vec![TaskId(32)]));
        assert_eq!(push(&mut queue, "one", "big", 7), Ok(vec![]));
        // One large task takes the place of several.
        let gone = push(&mut queue, "one", "big", 24);
        assert_eq!(gone.map(|gone| gone.len()), Ok(3));
        for _ in 0..12 {
            let gone = push(&mut queue, "one", "big", 8);
            assert_eq!(gone.map(|gone| gone.len()), Ok(1));
        }
        // Nobody has more than it would have.
        assert_eq!(push(&mut queue, "one", "big", 8), Err(Full::Bytes));
        assert_eq!(push(&mut queue, "many", "small", 8), Err(Full::Bytes));
        // A third takes from both, down to its share.
        let mut taken = 0;
        while let Ok(gone) = push(&mut queue, "third", "c", 4) {
            taken += 1;
            assert!(gone.len() <= 1, "{gone:?}");
        }
        assert!((18..=22).contains(&taken), "{taken} of 64");
        assert!(queue.bytes <= QUEUE_BYTES_MAX);
        while queue.take_first().is_some() {}
        assert_eq!((queue.bytes, queue.len()), (0, 0));
        assert!(queue.holders.active.is_empty());
    }

    #[test]
    fn who_has_most_tasks_gives_way() {
        let mut queue = queue();
        for holder in ["a", "b"] {
            for task in 0..QUEUE_HOLDER_TASKS_MAX as u64 {
                let client = format!("n{}", task % 9);
                let task = task + if holder == "a" { 0 } else { 1 << 20 };
                assert_eq!(queue.push(of(holder, task, &client)), Ok(vec![]));
            }
        }
        for task in 0..100 {
            let gone = queue.push(of("c", (1 << 30) + task, "new")).unwrap();
            let last = |task: u64| !gone.contains(&TaskId(task));
            assert!(gone.len() == 1 && last(0) && last(1 << 20), "{gone:?}");
        }
        assert_eq!(queue.len(), QUEUE_TASKS_MAX);
    }
}
