//! Which results are to be compiled a second time by the client itself, and what a
//! difference does: a worker that returned another object than the client's own compiler
//! gets no more tasks of that holder of a token, and after a second holder found the same
//! none at all, until an operator lets it back. Pure.
//!
//! One holder alone can't put a worker out for others: it could say so of any.
//!
//! While workers idle a second one compiles many tasks too; what a difference between the two
//! leads to is in [`crate::scheduling::disputes`].

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use hg_proto::wire::digest::Digest;

use crate::bounds::{AUDITED_PAIRS_MAX, AUDITS_OPEN_MAX, OUT_MAX};
use crate::scheduling::disputes::Disputes;
use crate::scheduling::id::{TaskId, Who};

/// Results of a pair of worker and toolchain of which more are audited than of those after
/// them: what is wrong with a worker is mostly wrong from the start.
const EARLY: u64 = 64;
/// One of so many of those is audited.
const EARLY_EVERY: u64 = 32;
/// Holders whose word puts a worker out for all.
const WITNESSES: usize = 2;

/// Stands among the holders where an operator keeps all tasks from a worker; no token has
/// such a holder.
const OPERATOR: &str = "(operator)";

/// A result that a client was asked to check.
#[derive(Debug)]
struct Open {
    task: TaskId,
    /// Holder of the client's token.
    holder: Arc<str>,
    worker: Who,
    /// The task's source, and who made another object of it, if that is why.
    disputed: Option<(u64, Who)>,
}

/// See the top of the file.
#[derive(Debug)]
pub struct Audits {
    /// One of so many results is audited; 0: none is.
    every: u64,
    /// Which results a second worker compiles too, and what that showed.
    pub disputes: Disputes,
    /// Results of each pair of worker and toolchain so far.
    results: HashMap<(Who, Digest), u64>,
    open: VecDeque<Open>,
    /// Workers that returned another object, and the holders that found it.
    differing: BTreeMap<Who, BTreeSet<Arc<str>>>,
}

/// What a client's answer led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody had asked for it.
    Unasked,
    /// The objects are the same.
    Same {
        /// Which worker.
        worker: Who,
    },
    /// They differ: the worker gets no more tasks of this holder, or of anybody.
    Differs {
        /// Which worker.
        worker: Who,
        /// It is out for all.
        for_all: bool,
    },
}

impl Audits {
    /// One of `every` results of each pair is audited; 0: none is. `idle_share` of them gets a
    /// second opinion while workers idle. `differing`: what was found before.
    pub fn new(every: u64, idle_share: f64, differing: BTreeMap<Who, BTreeSet<Arc<str>>>) -> Self {
        let idle_share = if every == 0 { 0.0 } else { idle_share };
        Audits {
            every,
            disputes: Disputes::new(idle_share),
            results: HashMap::new(),
            open: VecDeque::new(),
            differing,
        }
    }

    /// A result of `worker` with `toolchain` for a client of `holder`, who holds a token. Gives
    /// whether the client shall check it: by chance, so that no worker knows which.
    pub fn result(
        &mut self,
        task: TaskId,
        holder: &Arc<str>,
        worker: Who,
        toolchain: Digest,
        random: &mut fastrand::Rng,
    ) -> bool {
        if self.every == 0 {
            return false;
        }
        self.disputes.result(holder);
        if self.results.len() >= AUDITED_PAIRS_MAX {
            // They begin anew, with their early ones.
            self.results.clear();
        }
        let results = self.results.entry((worker.clone(), toolchain)).or_default();
        *results += 1;
        let every = match *results {
            0..=EARLY => self.every.min(EARLY_EVERY),
            _ => self.every,
        };
        if random.u64(0..every) != 0 {
            return false;
        }
        self.open(Open {
            task,
            holder: holder.clone(),
            worker,
            disputed: None,
        });
        true
    }

    fn open(&mut self, open: Open) {
        if self.open.len() >= AUDITS_OPEN_MAX {
            self.open.pop_front();
        }
        self.open.push_back(open);
    }

    /// Of `source` `other` made another object than `worker`, whose result the client of
    /// `holder` is about to get. Gives whether the client shall check it.
    pub fn dispute(
        &mut self,
        task: TaskId,
        holder: &Arc<str>,
        source: u64,
        worker: Who,
        other: Who,
    ) -> bool {
        let asks = self.disputes.ask(holder, source);
        if asks {
            self.open(Open {
                task,
                holder: holder.clone(),
                worker,
                disputed: Some((source, other)),
            });
        }
        asks
    }

    /// A client of `holder` says whether the result of `task` is what its own compiler makes.
    pub fn answer(&mut self, task: TaskId, holder: &str, same: bool) -> Verdict {
        let is_it = |open: &Open| open.task == task && &*open.holder == holder;
        let at = self.open.iter().position(is_it);
        let Some(open) = at.and_then(|at| self.open.remove(at)) else {
            return Verdict::Unasked;
        };
        if let Some((source, other)) = &open.disputed {
            self.disputes.answered(&open.holder, *source);
            // Whoever was right is no suspect; whoever was not gets no more tasks, or may have
            // been wrong this once.
            let right = if same { &open.worker } else { other };
            self.disputes.clear(right);
        }
        if same {
            return Verdict::Same {
                worker: open.worker,
            };
        }
        if self.differing.len() >= OUT_MAX && !self.differing.contains_key(&open.worker) {
            // Those that one holder alone accuses make room first.
            let least = self.differing.iter().min_by_key(|(_, found)| found.len());
            if let Some(least) = least.map(|(who, _)| who.clone()) {
                self.differing.remove(&least);
            }
        }
        let found = self.differing.entry(open.worker.clone()).or_default();
        found.insert(open.holder);
        Verdict::Differs {
            for_all: is_for_all(found),
            worker: open.worker,
        }
    }

    /// Whether `worker` gets no tasks of `holder`.
    pub fn is_out(&self, worker: &Who, holder: &str) -> bool {
        let found = self.differing.get(worker);
        found.is_some_and(|found| is_for_all(found) || found.contains(holder))
    }

    /// The holders of which `worker` gets no tasks, and whether it is out for all.
    pub fn out(&self, worker: &Who) -> Option<(&BTreeSet<Arc<str>>, bool)> {
        let found = self.differing.get(worker)?;
        Some((found, is_for_all(found)))
    }

    /// An operator keeps all tasks from `worker`, until [`Audits::readmit`].
    pub fn pause(&mut self, worker: Who) {
        let found = self.differing.entry(worker).or_default();
        found.insert(OPERATOR.into());
    }

    /// Whether an operator keeps tasks from `worker`.
    pub fn is_paused(&self, worker: &Who) -> bool {
        let found = self.differing.get(worker);
        found.is_some_and(|found| found.contains(OPERATOR))
    }

    /// All that was found, to be kept.
    pub fn differing(&self) -> &BTreeMap<Who, BTreeSet<Arc<str>>> {
        &self.differing
    }

    /// An operator lets the workers called `name` back. Gives them.
    pub fn readmit(&mut self, name: &str) -> Vec<Who> {
        let named = |who: &&Who| who.name == name;
        let back: Vec<Who> = self.differing.keys().filter(named).cloned().collect();
        for who in &back {
            self.differing.remove(who);
            // What it does from now on is looked at as that of a new one.
            self.results.retain(|(of, _), _| of != who);
            self.disputes.clear(who);
        }
        back
    }
}

/// Whether a worker that these found is out for all.
fn is_for_all(found: &BTreeSet<Arc<str>>) -> bool {
    found.len() >= WITNESSES || found.contains(OPERATOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str) -> Who {
        Who {
            holder: "pis".into(),
            name: name.into(),
        }
    }

    /// How many of `results` results of `worker` are audited.
    fn audited(
        audits: &mut Audits,
        worker: &str,
        results: u64,
        random: &mut fastrand::Rng,
    ) -> usize {
        let alice: Arc<str> = "alice".into();
        let gcc = Digest::of(b"gcc");
        let mut result = |task| audits.result(TaskId(task), &alice, who(worker), gcc, random);
        (0..results).filter(|task| result(*task)).count()
    }

    #[test]
    fn a_new_pair_is_audited_more_and_then_one_result_in_so_many() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut audits = Audits::new(500, 0.0, BTreeMap::new());
        let mut early = 0;
        for worker in 0..100 {
            early += audited(&mut audits, &worker.to_string(), 64, &mut random);
        }
        assert!((150..250).contains(&early), "{early} of 6400");
        let later = audited(&mut audits, "0", 50_000, &mut random);
        assert!((70..130).contains(&later), "{later} of 50000");
        let none = audited(
            &mut Audits::new(0, 0.0, BTreeMap::new()),
            "0",
            2000,
            &mut random,
        );
        let all = audited(
            &mut Audits::new(1, 0.0, BTreeMap::new()),
            "0",
            20,
            &mut random,
        );
        assert_eq!((none, all), (0, 20));
    }

    #[test]
    fn an_operator_keeps_a_worker_from_all_and_lets_it_back() {
        let mut audits = Audits::new(500, 0.0, BTreeMap::new());
        audits.pause(who("pi3"));
        assert!(audits.is_out(&who("pi3"), "alice") && audits.is_paused(&who("pi3")));
        assert!(!audits.is_out(&who("pi4"), "alice") && !audits.is_paused(&who("pi4")));
        // Over a restart.
        let mut audits = Audits::new(500, 0.0, audits.differing().clone());
        assert!(audits.is_paused(&who("pi3")));
        assert_eq!(
            audits.out(&who("pi3")).map(|(_, for_all)| for_all),
            Some(true)
        );
        assert_eq!(audits.readmit("pi3"), [who("pi3")]);
        assert!(!audits.is_out(&who("pi3"), "alice") && !audits.is_paused(&who("pi3")));
    }

    #[test]
    fn one_holder_puts_a_worker_out_for_itself_and_two_for_all() {
        let mut audits = Audits::new(1, 0.0, BTreeMap::new());
        let mut random = fastrand::Rng::with_seed(1);
        let (alice, bob): (Arc<str>, Arc<str>) = ("alice".into(), "bob".into());
        let gcc = Digest::of(b"gcc");
        for (task, client) in [(1, &alice), (2, &alice), (3, &bob), (4, &bob)] {
            assert!(audits.result(TaskId(task), client, who("pi3"), gcc, &mut random));
        }
        // Of another's task, or a second time, nobody has a say.
        assert_eq!(audits.answer(TaskId(1), "bob", false), Verdict::Unasked);
        assert_eq!(audits.answer(TaskId(9), "alice", false), Verdict::Unasked);
        let same = audits.answer(TaskId(1), "alice", true);
        assert!(matches!(same, Verdict::Same { .. }));
        assert_eq!(audits.answer(TaskId(1), "alice", false), Verdict::Unasked);
        let differs = |for_all| Verdict::Differs {
            worker: who("pi3"),
            for_all,
        };
        assert_eq!(audits.answer(TaskId(2), "alice", false), differs(false));
        assert!(audits.is_out(&who("pi3"), "alice") && !audits.is_out(&who("pi3"), "bob"));
        assert_eq!(audits.answer(TaskId(3), "bob", false), differs(true));
        assert!(audits.is_out(&who("pi3"), "carol") && !audits.is_out(&who("pi4"), "carol"));
        // It is remembered, and ends when an operator says so.
        let kept = audits.differing().clone();
        let mut audits = Audits::new(1, 0.0, kept);
        assert!(audits.is_out(&who("pi3"), "carol"));
        assert_eq!(audits.readmit("pi3"), [who("pi3")]);
        assert!(!audits.is_out(&who("pi3"), "alice") && audits.readmit("pi3").is_empty());
    }
}
