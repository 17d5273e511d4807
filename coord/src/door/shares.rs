//! What each holder of a token has of something of which everybody may have so much:
//! streams, watchers, bytes. Pure.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the top of the file.
#[derive(Debug)]
pub struct Shares {
    holder_max: usize,
    // What peers choose is hashed with a secret. Holders that have nothing are not here.
    taken: Mutex<HashMap<Arc<str>, usize>>,
}

/// What one owner has of its holder's share; given back when dropped.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    holder: Arc<str>,
    amount: usize,
}

impl Shares {
    /// Nobody has any of it, and one holder may have `holder_max`.
    pub fn new(holder_max: usize) -> Arc<Self> {
        Arc::new(Shares {
            holder_max,
            taken: Mutex::default(),
        })
    }

    /// Nothing yet, of what `holder` may have.
    pub fn of(self: &Arc<Self>, holder: &str) -> Share {
        Share {
            shares: self.clone(),
            holder: holder.into(),
            amount: 0,
        }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Has `amount` from now on, in place of what it had. `false`: its holder would have
    /// more than it may, and nothing has changed.
    pub fn set(&mut self, amount: usize) -> bool {
        if amount == self.amount {
            return true;
        }
        let mut taken = self.shares.taken();
        let all = taken.get(&self.holder).copied().unwrap_or(0);
        let others = all - self.amount;
        if amount > self.shares.holder_max.saturating_sub(others) {
            return false;
        }
        match others + amount {
            0 => taken.remove(&self.holder),
            all => taken.insert(self.holder.clone(), all),
        };
        self.amount = amount;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // Less is always to be had.
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_has_so_much_in_all_and_no_other_feels_it() {
        let shares = Shares::new(10);
        let (mut first, mut second) = (shares.of("a"), shares.of("a"));
        assert!(first.set(6) && second.set(4));
        assert!(!first.set(7) && !second.set(5), "one more than may be");
        assert!(first.set(6), "what it has it may have");
        let mut other = shares.of("b");
        assert!(!other.set(11) && other.set(10));
        assert!(first.set(1) && second.set(9) && !first.set(2));
        drop(second);
        assert!(first.set(10));
    }

    #[test]
    fn who_has_nothing_is_not_known() {
        let shares = Shares::new(1);
        for holder in 0..100 {
            let mut share = shares.of(&holder.to_string());
            assert!(share.set(1) && !share.set(usize::MAX));
        }
        drop(shares.of("nothing"));
        assert!(shares.taken().is_empty());
    }
}
