//! Pure: attempts that give second opinions, whose results nobody waits for; see
//! [`crate::scheduling::coordinator`], which begins and ends them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hg_proto::wire::digest::Digest;

use crate::scheduling::id::{ById, DispatchId, TaskId, Who, WorkerId};

/// The attempts whose results nobody waits for; a task has one at most.
#[derive(Debug, Default)]
pub struct SecondOpinions {
    of_tasks: BTreeMap<TaskId, Second>,
    tasks: ById<DispatchId, TaskId>,
    /// When each is given up.
    due: BTreeSet<(u64, TaskId)>,
}

/// One of them.
#[derive(Debug)]
pub struct Second {
    /// The worker that has it.
    pub worker: WorkerId,
    /// Who that is.
    pub who: Who,
    /// Its number on the wire.
    pub dispatch: DispatchId,
    /// The holder of the token that the task came with.
    pub holder: Arc<str>,
    /// The task's source.
    pub source: u64,
    /// When it began.
    pub since_ms: u64,
    /// When it is given up.
    pub until_ms: u64,
    /// It needs its client no more.
    pub has_inputs: bool,
    /// Digest of what it made; `None`: it still compiles.
    pub made: Option<Digest>,
    /// The result that it is compared with, if that was there before it.
    pub first: Option<First>,
}

/// The result that it is compared with.
#[derive(Debug)]
pub struct First {
    /// Whose it is.
    pub who: Who,
    /// Digest of all that was made.
    pub made: Digest,
    /// The client does not have it yet.
    pub is_held: bool,
}

impl SecondOpinions {
    /// The task of an attempt whose result nobody waits for.
    pub fn task(&self, dispatch: DispatchId) -> Option<TaskId> {
        self.tasks.get(&dispatch).copied()
    }

    /// The worker of `dispatch` has all its inputs.
    pub fn has_inputs(&mut self, task: TaskId) {
        if let Some(second) = self.of_tasks.get_mut(&task) {
            second.has_inputs = true;
        }
    }

    /// The task gets one.
    pub fn insert(&mut self, task: TaskId, second: Second) {
        self.tasks.insert(second.dispatch, task);
        self.due.insert((second.until_ms, task));
        self.of_tasks.insert(task, second);
    }

    /// The task has none any more.
    pub fn remove(&mut self, task: TaskId) -> Option<Second> {
        let second = self.of_tasks.remove(&task)?;
        self.tasks.remove(&second.dispatch);
        self.due.remove(&(second.until_ms, task));
        Some(second)
    }

    /// That of the task, if it has one.
    pub fn get(&self, task: TaskId) -> Option<&Second> {
        self.of_tasks.get(&task)
    }

    /// The task whose is given up next, and when.
    pub fn next_due(&self) -> Option<(u64, TaskId)> {
        self.due.first().copied()
    }
}
