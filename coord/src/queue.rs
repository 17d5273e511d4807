//! The tasks that wait for a slot: bounded, fair between clients, first in
//! first out within one client. Unaware of workers, of clocks and of what a
//! task is.
//!
//! Fair means: clients take turns. A client that comes, or was served, goes to
//! the end of the line; who is first in line and has a task for the slot at
//! hand gets it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use hg_proto::digest::Digest;

use crate::bounds::{QUEUE_BYTES_MAX, QUEUE_CLIENT_TASKS_MAX, QUEUE_TASKS_MAX};
use crate::id::TaskId;

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
    /// When it has waited long enough, in milliseconds on the caller's clock.
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

struct Place {
    client: Arc<str>,
    toolchain: Digest,
    bytes: usize,
    deadline_ms: u64,
    order: i64,
}

/// The tasks for one toolchain.
#[derive(Default)]
struct Lane {
    /// Clients that have a task here, by turn.
    line: BTreeMap<u64, Arc<str>>,
    tasks: HashMap<Arc<str>, BTreeMap<i64, TaskId>>,
}

struct Client {
    turn: u64,
    tasks: usize,
    /// Lanes in which it has tasks.
    lanes: BTreeSet<Digest>,
}

/// See the top of the file.
#[derive(Default)]
pub struct Queue {
    places: HashMap<TaskId, Place>,
    lanes: HashMap<Digest, Lane>,
    clients: HashMap<Arc<str>, Client>,
    deadlines: BTreeSet<(u64, TaskId)>,
    bytes: usize,
    turns: u64,
    orders: i64,
}

impl Queue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tasks that wait.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Adds a task behind its client's others.
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
        self.orders += 1;
        self.insert(ticket, self.orders);
        Ok(())
    }

    /// Adds a task that had a slot before, in front of its client's others. It
    /// was let in once and is not held to the bounds again; there are never
    /// more of these than slots.
    pub fn push_front(&mut self, ticket: Ticket) {
        self.orders += 1;
        self.insert(ticket, -self.orders);
    }

    fn insert(&mut self, ticket: Ticket, order: i64) {
        let Ticket {
            task,
            client,
            toolchain,
            bytes,
            deadline_ms,
        } = ticket;
        if self.places.contains_key(&task) {
            return;
        }
        let turns = &mut self.turns;
        let owner = self.clients.entry(client.clone()).or_insert_with(|| {
            *turns += 1;
            Client {
                turn: *turns,
                tasks: 0,
                lanes: BTreeSet::new(),
            }
        });
        owner.tasks += 1;
        owner.lanes.insert(toolchain);
        let lane = self.lanes.entry(toolchain).or_default();
        lane.line.insert(owner.turn, client.clone());
        lane.tasks
            .entry(client.clone())
            .or_default()
            .insert(order, task);
        self.bytes += bytes;
        self.deadlines.insert((deadline_ms, task));
        self.places.insert(
            task,
            Place {
                client,
                toolchain,
                bytes,
                deadline_ms,
                order,
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
            if let Some(tasks) = lane.tasks.get_mut(&place.client) {
                tasks.remove(&place.order);
                if tasks.is_empty() {
                    lane.tasks.remove(&place.client);
                    lane.line.remove(&owner.turn);
                    owner.lanes.remove(&place.toolchain);
                }
            }
            if lane.line.is_empty() {
                self.lanes.remove(&place.toolchain);
            }
        }
        if owner.tasks == 0 {
            self.clients.remove(&place.client);
        }
        true
    }

    /// Takes the task whose turn it is among those for `toolchains` that `fits`
    /// lets pass, and sends its client to the end of the line.
    pub fn take(
        &mut self,
        toolchains: &[Digest],
        mut fits: impl FnMut(TaskId) -> bool,
    ) -> Option<TaskId> {
        let mut best: Option<(u64, TaskId)> = None;
        for toolchain in toolchains {
            let Some(lane) = self.lanes.get(toolchain) else {
                continue;
            };
            for (&turn, client) in &lane.line {
                if best.is_some_and(|(first, _)| first <= turn) {
                    break;
                }
                let tasks = lane
                    .tasks
                    .get(client)
                    .into_iter()
                    .flat_map(BTreeMap::values);
                if let Some(task) = tasks.copied().find(|task| fits(*task)) {
                    best = Some((turn, task));
                    break;
                }
            }
        }
        let (_, task) = best?;
        let client = self.places.get(&task)?.client.clone();
        self.remove(task);
        self.end_turn(&client);
        Some(task)
    }

    fn end_turn(&mut self, client: &Arc<str>) {
        let Some(owner) = self.clients.get_mut(client) else {
            return;
        };
        self.turns += 1;
        for toolchain in &owner.lanes {
            if let Some(lane) = self.lanes.get_mut(toolchain) {
                lane.line.remove(&owner.turn);
                lane.line.insert(self.turns, client.clone());
            }
        }
        owner.turn = self.turns;
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
        self.take(&[*toolchain], |_| true)
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
            deadline_ms: 1_000 + task,
        }
    }

    fn order(queue: &mut Queue, tools: &[&str]) -> Vec<u64> {
        let tools: Vec<Digest> = tools.iter().map(|t| toolchain(t)).collect();
        std::iter::from_fn(|| queue.take(&tools, |_| true))
            .map(|t| t.0)
            .collect()
    }

    #[test]
    fn clients_take_turns_and_keep_their_own_order() {
        let mut queue = Queue::new();
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
        let mut queue = Queue::new();
        queue.push(ticket(0, "a", "gcc")).unwrap();
        queue.push(ticket(1, "a", "clang")).unwrap();
        queue.push(ticket(2, "b", "clang")).unwrap();
        assert_eq!(order(&mut queue, &["gcc", "clang"]), [0, 2, 1]);
    }

    #[test]
    fn coming_back_does_not_jump_the_line() {
        let mut queue = Queue::new();
        queue.push(ticket(0, "a", "gcc")).unwrap();
        queue.push(ticket(1, "b", "gcc")).unwrap();
        queue.push(ticket(2, "b", "gcc")).unwrap();
        assert_eq!(queue.take_any(&toolchain("gcc")), Some(TaskId(0)));
        queue.push(ticket(3, "a", "gcc")).unwrap();
        assert_eq!(order(&mut queue, &["gcc"]), [1, 3, 2]);
    }

    #[test]
    fn what_does_not_fit_is_passed_over() {
        let mut queue = Queue::new();
        for task in 0..3 {
            queue.push(ticket(task, "a", "gcc")).unwrap();
        }
        queue.push(ticket(5, "b", "gcc")).unwrap();
        let gcc = [toolchain("gcc")];
        assert_eq!(queue.take(&gcc, |task| task.0 >= 2), Some(TaskId(2)));
        assert_eq!(queue.take(&gcc, |task| task.0 < 2), Some(TaskId(0)));
        assert_eq!(queue.take(&[toolchain("clang")], |_| true), None);
        assert_eq!(order(&mut queue, &["gcc"]), [5, 1]);
    }

    #[test]
    fn removal_and_deadlines() {
        let mut queue = Queue::new();
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
        let mut queue = Queue::new();
        queue.push(ticket(1, "a", "gcc")).unwrap();
        queue.push_front(ticket(0, "a", "gcc"));
        assert_eq!(order(&mut queue, &["gcc"]), [0, 1]);
    }

    #[test]
    fn bounds_hold() {
        let mut queue = Queue::new();
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
    }
}
