//! The tasks that wait for a slot: bounded, and fair between clients. Unaware of
//! workers, of clocks and of what a task is.
//!
//! Fair means: each client has a clock that runs by the cost of what it was
//! given, divided by its weight; who is furthest behind gets the next slot
//! (start-time fair queueing). A client that comes begins where the others are,
//! so that a single compile overtakes a build of thousands, and neither starves.
//!
//! Within one client the oldest goes first, long ones as if they had come a
//! little earlier: those that begin last decide when a build ends.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use hg_proto::digest::Digest;

use crate::bounds::{
    QUEUE_BYTES_MAX, QUEUE_CLIENT_TASKS_MAX, QUEUE_CLOCKS_MAX, QUEUE_LOOKS_MAX, QUEUE_TASKS_MAX,
};
use crate::id::{ByDigest, ById, Keyed, TaskId};

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
    /// Whose turn it uses up.
    pub client: Arc<str>,
    /// What a worker must have.
    pub toolchain: Digest,
    /// Bytes that it keeps in memory while it waits.
    pub bytes: usize,
    /// What it is thought to cost, in milliseconds at speed 1.
    pub cost_ms: u64,
    /// When it came, in milliseconds on the caller's clock.
    pub since_ms: u64,
    /// When it has waited long enough, on the same clock.
    pub deadline_ms: u64,
}

/// Why a task was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Too many tasks.
    Tasks,
    /// Too many tasks of this client.
    Client,
    /// Too many bytes.
    Bytes,
}

impl Full {
    /// For people.
    pub fn detail(self) -> &'static str {
        match self {
            Full::Tasks => "the queue is full",
            Full::Client => "the queue is full of this client's tasks",
            Full::Bytes => "the queue holds too many bytes",
        }
    }
}

/// Which of a client's tasks are looked at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Those whose turn it is.
    Turn,
    /// The cheapest: for a slow worker.
    Cheapest,
}

struct Place {
    client: Arc<str>,
    toolchain: Digest,
    bytes: usize,
    cost_ms: u64,
    deadline_ms: u64,
    rank: i64,
}

/// A client's tasks for one toolchain.
#[derive(Default)]
struct Row {
    by_rank: BTreeSet<(i64, TaskId)>,
    by_cost: BTreeSet<(u64, TaskId)>,
}

/// The tasks for one toolchain.
#[derive(Default)]
struct Lane {
    /// Clients that have a task here, by their clock.
    line: BTreeSet<(Clock, Arc<str>)>,
    rows: HashMap<Arc<str>, Row>,
    cost_ms: u64,
}

/// Microseconds of cost by weight, and who came first among equals.
type Clock = (u64, u64);

struct Client {
    clock: Clock,
    tasks: usize,
    /// Lanes in which it has tasks.
    lanes: BTreeSet<Digest>,
}

/// See the top of the file.
#[derive(Default)]
pub struct Queue {
    places: ById<TaskId, Place>,
    lanes: ByDigest<Lane>,
    clients: HashMap<Arc<str>, Client>,
    weights: HashMap<String, u32>,
    /// Clocks of clients that have no task now and were ahead of the others.
    ahead: HashMap<Arc<str>, u64>,
    deadlines: BTreeSet<(u64, TaskId)>,
    bytes: usize,
    /// The clock of whoever was served last.
    clock: u64,
    turns: u64,
}

impl Queue {
    /// An empty queue. Clients that `weights` does not name weigh 1.
    pub fn new(weights: HashMap<String, u32>, seed: u64) -> Self {
        Queue {
            lanes: ByDigest::with_hasher(Keyed(seed)),
            weights,
            ..Self::default()
        }
    }

    /// Tasks that wait.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
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

    /// Adds a task.
    ///
    /// # Errors
    /// A bound is reached; nothing was changed.
    pub fn push(&mut self, ticket: Ticket) -> Result<(), Full> {
        if self.places.len() >= QUEUE_TASKS_MAX {
            return Err(Full::Tasks);
        }
        if self.bytes.saturating_add(ticket.bytes) > QUEUE_BYTES_MAX {
            return Err(Full::Bytes);
        }
        let waiting = self.clients.get(&ticket.client).map_or(0, |c| c.tasks);
        if waiting >= QUEUE_CLIENT_TASKS_MAX {
            return Err(Full::Client);
        }
        let early_ms = (ticket.cost_ms as f64 * HEAD_START).min(HEAD_START_MS_MAX) as i64;
        let rank = (ticket.since_ms as i64).saturating_sub(early_ms);
        self.insert(ticket, rank);
        Ok(())
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
            client,
            toolchain,
            bytes,
            cost_ms,
            deadline_ms,
            ..
        } = ticket;
        if self.places.contains_key(&task) {
            return;
        }
        if !self.clients.contains_key(&client) {
            self.turns += 1;
            let before = self.ahead.remove(&client).unwrap_or(0);
            let joined = Client {
                clock: (before.max(self.clock), self.turns),
                tasks: 0,
                lanes: BTreeSet::new(),
            };
            self.clients.insert(client.clone(), joined);
        }
        let Some(owner) = self.clients.get_mut(&client) else {
            return;
        };
        owner.tasks += 1;
        owner.lanes.insert(toolchain);
        let lane = self.lanes.entry(toolchain).or_default();
        lane.line.insert((owner.clock, client.clone()));
        lane.cost_ms += cost_ms;
        let row = lane.rows.entry(client.clone()).or_default();
        row.by_rank.insert((rank, task));
        row.by_cost.insert((cost_ms, task));
        self.bytes += bytes;
        self.deadlines.insert((deadline_ms, task));
        self.places.insert(
            task,
            Place {
                client,
                toolchain,
                bytes,
                cost_ms,
                deadline_ms,
                rank,
            },
        );
    }

    /// Takes a task out, wherever it stands. `false`: it was not there.
    pub fn remove(&mut self, task: TaskId) -> bool {
        let Some(place) = self.places.remove(&task) else {
            return false;
        };
        self.bytes -= place.bytes;
        self.deadlines.remove(&(place.deadline_ms, task));
        let Some(owner) = self.clients.get_mut(&place.client) else {
            return true;
        };
        owner.tasks -= 1;
        if let Some(lane) = self.lanes.get_mut(&place.toolchain) {
            lane.cost_ms -= place.cost_ms;
            if let Some(row) = lane.rows.get_mut(&place.client) {
                row.by_rank.remove(&(place.rank, task));
                row.by_cost.remove(&(place.cost_ms, task));
                if row.by_rank.is_empty() {
                    lane.rows.remove(&place.client);
                    lane.line.remove(&(owner.clock, place.client.clone()));
                    owner.lanes.remove(&place.toolchain);
                }
            }
            if lane.line.is_empty() {
                self.lanes.remove(&place.toolchain);
            }
        }
        if owner.tasks == 0 {
            let (clock, _) = owner.clock;
            self.clients.remove(&place.client);
            self.leave_ahead(place.client, clock);
        }
        true
    }

    /// A client that goes and comes back is not to gain by it.
    fn leave_ahead(&mut self, client: Arc<str>, clock: u64) {
        if clock <= self.clock {
            return;
        }
        if self.ahead.len() >= QUEUE_CLOCKS_MAX {
            let now = self.clock;
            self.ahead.retain(|_, clock| *clock > now);
        }
        if self.ahead.len() < QUEUE_CLOCKS_MAX {
            self.ahead.insert(client, clock);
        }
    }

    /// Takes the task whose turn it is among those for `toolchains` that `fits`
    /// lets pass, and moves its client's clock. Looks at a bounded number.
    pub fn take(
        &mut self,
        toolchains: &[Digest],
        order: Order,
        mut fits: impl FnMut(TaskId, u64) -> bool,
    ) -> Option<TaskId> {
        let mut looks = QUEUE_LOOKS_MAX;
        let mut best: Option<(Clock, TaskId)> = None;
        for toolchain in toolchains {
            let Some(lane) = self.lanes.get(toolchain) else {
                continue;
            };
            for (clock, client) in &lane.line {
                if best.is_some_and(|(first, _)| first <= *clock) {
                    break;
                }
                let Some(row) = lane.rows.get(client) else {
                    continue;
                };
                let by_rank = row.by_rank.iter().map(|(_, task)| *task);
                let by_cost = row.by_cost.iter().map(|(_, task)| *task);
                let places = &self.places;
                let mut looked = |task: TaskId| {
                    looks = looks.saturating_sub(1);
                    let cost_ms = places.get(&task).map_or(0, |place| place.cost_ms);
                    looks == 0 || fits(task, cost_ms)
                };
                let found = match order {
                    Order::Turn => by_rank.take(QUEUE_LOOKS_MAX).find(|task| looked(*task)),
                    // If the cheapest is too dear, so are the others.
                    Order::Cheapest => by_cost.take(2).find(|task| looked(*task)),
                };
                if looks == 0 {
                    return None;
                }
                if let Some(task) = found {
                    best = Some((*clock, task));
                    break;
                }
            }
        }
        let (_, task) = best?;
        let place = self.places.get(&task)?;
        let (client, cost_ms) = (place.client.clone(), place.cost_ms);
        self.charge(&client, cost_ms);
        self.remove(task);
        Some(task)
    }

    /// Moves the clock of a client that was given work of this cost.
    fn charge(&mut self, client: &Arc<str>, cost_ms: u64) {
        // NAME/BUILD: a build weighs what its client does.
        let name = client.split('/').next().unwrap_or(client);
        let weight = self
            .weights
            .get(&**client)
            .or_else(|| self.weights.get(name));
        let weight = u64::from(*weight.unwrap_or(&1)).max(1);
        let Some(owner) = self.clients.get_mut(client) else {
            return;
        };
        self.turns += 1;
        self.clock = self.clock.max(owner.clock.0);
        // Even what costs nothing takes a turn.
        let clock = (owner.clock.0 + cost_ms.max(1) * 1_000 / weight, self.turns);
        for toolchain in &owner.lanes {
            if let Some(lane) = self.lanes.get_mut(toolchain) {
                lane.line.remove(&(owner.clock, client.clone()));
                lane.line.insert((clock, client.clone()));
            }
        }
        owner.clock = clock;
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
        self.take(&[*toolchain], Order::Turn, |_, _| true)
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
            client: client.into(),
            toolchain: toolchain(tools),
            bytes: 1,
            cost_ms: 100,
            since_ms: task,
            deadline_ms: 1_000 + task,
        }
    }

    fn queue() -> Queue {
        Queue::new(HashMap::from([("heavy".to_owned(), 3)]), 0)
    }

    fn order(queue: &mut Queue, tools: &[&str]) -> Vec<u64> {
        let tools: Vec<Digest> = tools.iter().map(|t| toolchain(t)).collect();
        std::iter::from_fn(|| queue.take(&tools, Order::Turn, |_, _| true))
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
        assert!(queue.is_empty() && queue.clients.is_empty() && queue.lanes.is_empty());
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
        let cheap = queue.take(&gcc, Order::Cheapest, |_, cost_ms| cost_ms < 100);
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
        let mut take = |fits: fn(u64) -> bool| queue.take(&gcc, Order::Turn, |t, _| fits(t.0));
        assert_eq!(take(|task| task >= 2), Some(TaskId(2)));
        assert_eq!(take(|task| task < 2), Some(TaskId(0)));
        assert_eq!(take(|_| false), None);
        assert_eq!(
            queue.take(&[toolchain("clang")], Order::Turn, |_, _| true),
            None
        );
        assert_eq!(order(&mut queue, &["gcc"]), [5, 1]);
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
        heavy.bytes = QUEUE_BYTES_MAX;
        assert_eq!(queue.push(heavy), Err(Full::Bytes));
        for task in QUEUE_CLIENT_TASKS_MAX as u64..QUEUE_TASKS_MAX as u64 {
            queue
                .push(ticket(task, &format!("c{}", task % 100), "gcc"))
                .unwrap();
        }
        assert_eq!(queue.push(ticket(1 << 40, "b", "gcc")), Err(Full::Tasks));
        assert_eq!(queue.len(), QUEUE_TASKS_MAX);
        for task in 0..2 * QUEUE_CLOCKS_MAX {
            queue.leave_ahead(format!("c{task}").into(), 1 << 40);
        }
        assert!(queue.ahead.len() <= QUEUE_CLOCKS_MAX);
    }
}
