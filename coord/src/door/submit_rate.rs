//! How fast one client may submit, and how many tasks it may have here at once: a
//! token bucket for each. Pure.

use std::collections::HashMap;

use crate::bounds::{CLIENT_SUBMITS_MAX, RATE_CLIENTS_MAX, SUBMIT_BURST_MAX, SUBMITS_PER_S_MAX};
use crate::door::bucket::{Bucket, has_room};

/// Why a task may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooMany {
    /// There are too many a second.
    Fast,
    /// There are too many at once.
    Open,
}

#[derive(Debug, Clone, Copy)]
struct Account {
    /// A token for each task that may come.
    tasks: Bucket,
    open: usize,
}

impl Account {
    /// Whether nothing is lost when the account is forgotten.
    fn is_idle(&self, now_ms: u64) -> bool {
        self.open == 0 && self.tasks.left(now_ms) >= SUBMIT_BURST_MAX
    }
}

/// The accounts of all clients.
#[derive(Debug, Default)]
pub struct SubmitRates {
    // What peers choose is hashed with a secret.
    accounts: HashMap<Box<str>, Account>,
}

impl SubmitRates {
    /// Lets a task of `client` in, or not. Each that is let in must [`SubmitRates::leave`].
    ///
    /// # Errors
    /// Why it may not.
    pub fn enter(&mut self, client: &str, now_ms: u64) -> Result<(), TooMany> {
        let is_idle = |account: &Account| account.is_idle(now_ms);
        if !has_room(&mut self.accounts, client, RATE_CLIENTS_MAX, is_idle) {
            return Err(TooMany::Open);
        }
        if !self.accounts.contains_key(client) {
            let full = Account {
                tasks: Bucket::new(SUBMIT_BURST_MAX, SUBMITS_PER_S_MAX, now_ms),
                open: 0,
            };
            self.accounts.insert(client.into(), full);
        }
        let Some(account) = self.accounts.get_mut(client) else {
            return Err(TooMany::Open);
        };
        if account.open >= CLIENT_SUBMITS_MAX {
            return Err(TooMany::Open);
        }
        if account.tasks.left(now_ms) < 1.0 {
            return Err(TooMany::Fast);
        }
        account.tasks.take(1, now_ms);
        account.open += 1;
        Ok(())
    }

    /// A task of `client` that was let in is over.
    pub fn leave(&mut self, client: &str) {
        if let Some(account) = self.accounts.get_mut(client) {
            account.open = account.open.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_so_many_a_second() {
        let mut rates = SubmitRates::default();
        let burst = SUBMIT_BURST_MAX as usize;
        for _ in 0..burst {
            rates.enter("a", 0).unwrap();
            rates.leave("a");
        }
        assert_eq!(rates.enter("a", 0), Err(TooMany::Fast));
        assert_eq!(rates.enter("b", 0), Ok(()), "nobody else feels it");
        let second = (0..burst).take_while(|_| {
            let entered = rates.enter("a", 1_000).is_ok();
            rates.leave("a");
            entered
        });
        assert_eq!(second.count(), SUBMITS_PER_S_MAX as usize);
        // Time does not run backwards for anybody.
        assert_eq!(rates.enter("a", 0), Err(TooMany::Fast));
    }

    #[test]
    fn so_many_at_once() {
        let mut rates = SubmitRates::default();
        for _ in 0..CLIENT_SUBMITS_MAX {
            rates.enter("a", 0).unwrap();
        }
        assert_eq!(rates.enter("a", 60_000), Err(TooMany::Open));
        rates.leave("a");
        assert_eq!(rates.enter("a", 60_000), Ok(()));
    }

    #[test]
    fn only_idle_clients_are_forgotten() {
        let mut rates = SubmitRates::default();
        for client in 0..RATE_CLIENTS_MAX {
            rates.enter(&client.to_string(), 0).unwrap();
        }
        assert_eq!(rates.enter("one more", 0), Err(TooMany::Open));
        rates.leave("7");
        assert_eq!(
            rates.enter("one more", 0),
            Err(TooMany::Open),
            "used just now"
        );
        assert_eq!(rates.enter("one more", 10_000), Ok(()));
        assert_eq!(rates.enter("8", 10_000), Ok(()), "still known");
        assert_eq!(rates.accounts.len(), RATE_CLIENTS_MAX);
    }
}
