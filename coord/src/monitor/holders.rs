//! Holders of tokens: what each has running and waiting, what it has cost, and which share
//! of the grid is its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;

/// Holders that are listed; who was idle longest makes room.
const HOLDERS_MAX: usize = 256;

/// What is known of a holder.
#[derive(Debug, Clone, Default)]
struct Account {
    open: u64,
    queued: u64,
    tasks: u64,
    queue_ms: u64,
    compile_ms: u64,
    seen_unix_ms: u64,
}

/// A holder, for listings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HolderView {
    /// The name in its token; where nobody is asked for one, an address.
    pub holder: Arc<str>,
    /// Tasks that have not ended.
    pub open: u64,
    /// Of these, those that wait for a slot.
    pub queued: u64,
    /// Tasks that ended.
    pub tasks_total: u64,
    /// Milliseconds that its tasks have waited.
    pub queue_ms_total: u64,
    /// Milliseconds that its tasks had workers.
    pub compile_ms_total: u64,
    /// When it last submitted or got something.
    pub seen_unix_ms: u64,
    /// Its weight (`--client-weight`).
    pub weight: u32,
    /// Its share of the slots among those that have tasks now, in thousandths; 0: it has none.
    pub share_milli: u32,
}

/// See the top of the file.
#[derive(Debug)]
pub struct Holders {
    accounts: BTreeMap<Arc<str>, Account>,
    weights: HashMap<String, u32>,
}

impl Holders {
    /// Nobody yet; those that `weights` does not name weigh 1.
    pub fn new(weights: HashMap<String, u32>) -> Self {
        Holders {
            accounts: BTreeMap::new(),
            weights,
        }
    }

    fn account(&mut self, holder: &Arc<str>, now_unix_ms: u64) -> &mut Account {
        if !self.accounts.contains_key(holder) && self.accounts.len() >= HOLDERS_MAX {
            let idle = self.accounts.iter().filter(|(_, it)| it.open == 0);
            let oldest = idle.min_by_key(|(_, it)| it.seen_unix_ms);
            // Where none is idle, as many are listed as have tasks.
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.accounts.remove(&oldest);
            }
        }
        let account = self.accounts.entry(holder.clone()).or_default();
        account.seen_unix_ms = now_unix_ms;
        account
    }

    /// One of its tasks was submitted.
    pub fn submitted(&mut self, holder: &Arc<str>, now_unix_ms: u64) {
        let account = self.account(holder, now_unix_ms);
        account.open += 1;
        account.queued += 1;
    }

    /// One of its tasks waits no more, or again.
    pub fn queued(&mut self, holder: &Arc<str>, waits: bool, now_unix_ms: u64) {
        let account = self.account(holder, now_unix_ms);
        account.queued = match waits {
            true => account.queued + 1,
            false => account.queued.saturating_sub(1),
        };
    }

    /// One of its tasks ended.
    pub fn ended(&mut self, holder: &Arc<str>, queue_ms: u64, compile_ms: u64, now_unix_ms: u64) {
        let account = self.account(holder, now_unix_ms);
        account.open = account.open.saturating_sub(1);
        account.tasks += 1;
        account.queue_ms += queue_ms;
        account.compile_ms += compile_ms;
    }

    /// All that are remembered, by name.
    pub fn list(&self) -> Vec<HolderView> {
        let weight = |name: &str| self.weights.get(name).copied().unwrap_or(1);
        let active = self.accounts.iter().filter(|(_, it)| it.open > 0);
        let all: u64 = active.map(|(name, _)| u64::from(weight(name))).sum();
        let listed = self.accounts.iter().map(|(name, account)| HolderView {
            holder: name.clone(),
            open: account.open,
            queued: account.queued,
            tasks_total: account.tasks,
            queue_ms_total: account.queue_ms,
            compile_ms_total: account.compile_ms,
            seen_unix_ms: account.seen_unix_ms,
            weight: weight(name),
            share_milli: match account.open {
                0 => 0,
                // Not more than a thousand: it is one of those in the sum.
                _ => (u64::from(weight(name)) * 1_000 / all.max(1)) as u32,
            },
        });
        listed.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_among_those_that_have_tasks() {
        let mut holders = Holders::new(HashMap::from([("ci".to_owned(), 3)]));
        let (ci, me): (Arc<str>, Arc<str>) = ("ci".into(), "me".into());
        holders.submitted(&ci, 1);
        holders.submitted(&me, 2);
        holders.queued(&me, false, 3);
        let shares = |holders: &Holders| {
            let list = holders.list();
            list.iter().map(|it| it.share_milli).collect::<Vec<u32>>()
        };
        assert_eq!(shares(&holders), [750, 250]);
        holders.ended(&ci, 5, 7, 4);
        assert_eq!(shares(&holders), [0, 1000]);
        let ended = &holders.list()[0];
        assert_eq!(
            (
                ended.tasks_total,
                ended.queue_ms_total,
                ended.compile_ms_total
            ),
            (1, 5, 7)
        );
    }

    #[test]
    fn who_was_idle_longest_makes_room() {
        let mut holders = Holders::new(HashMap::new());
        for number in 0..HOLDERS_MAX as u64 + 1 {
            let name: Arc<str> = format!("h{number:04}").into();
            holders.submitted(&name, number);
            if number != 0 {
                holders.ended(&name, 0, 0, number);
            }
        }
        let list = holders.list();
        assert_eq!(list.len(), HOLDERS_MAX);
        assert_eq!((&*list[0].holder, &*list[1].holder), ("h0000", "h0002"));
    }
}
