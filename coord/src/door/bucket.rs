//! A token bucket: so many at once, and so many a second; and room in a table of them,
//! one for each peer. Pure: the time comes with each question.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// A token bucket.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    left: f64,
    looked_ms: u64,
    at_once: f64,
    per_s: f64,
}

impl Bucket {
    /// A full bucket.
    pub fn new(at_once: f64, per_s: f64, now_ms: u64) -> Self {
        Bucket {
            left: at_once,
            looked_ms: now_ms,
            at_once,
            per_s,
        }
    }

    /// Takes `count` tokens; `false`: there were not as many, and it owes them now.
    pub fn take(&mut self, count: u32, now_ms: u64) -> bool {
        self.left = self.left(now_ms) - f64::from(count);
        self.looked_ms = now_ms;
        self.left >= 0.0
    }

    /// Tokens that are left now; fewer than none: so many are owed.
    pub fn left(&self, now_ms: u64) -> f64 {
        let passed_s = now_ms.saturating_sub(self.looked_ms) as f64 / 1e3;
        (self.left + passed_s * self.per_s).min(self.at_once)
    }

    /// Milliseconds until no token is owed; 0: none is.
    pub fn owed_ms(&self, now_ms: u64) -> u64 {
        (-self.left(now_ms) * 1e3 / self.per_s).max(0.0).ceil() as u64
    }

    /// When tokens were taken last, or the bucket was made.
    pub fn looked_ms(&self) -> u64 {
        self.looked_ms
    }
}

/// Whether `key` is in `table` or may come in; at `max` whatever `is_past` goes first.
pub fn has_room<K, Q, V>(
    table: &mut HashMap<K, V>,
    key: &Q,
    max: usize,
    is_past: impl Fn(&V) -> bool,
) -> bool
where
    K: Eq + Hash + Borrow<Q>,
    Q: Eq + Hash + ?Sized,
{
    if table.contains_key(key) {
        return true;
    }
    if table.len() >= max {
        table.retain(|_, value| !is_past(value));
    }
    table.len() < max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_so_many_a_second() {
        let mut bucket = Bucket::new(3.0, 2.0, 0);
        assert!(bucket.take(3, 0));
        assert_eq!(bucket.owed_ms(0), 0);
        assert!(!bucket.take(1, 0));
        assert_eq!((bucket.owed_ms(0), bucket.owed_ms(300)), (500, 200));
        // What came beyond it counts too.
        assert!(!bucket.take(1, 500));
        assert!(bucket.take(1, 1_500));
        assert!(bucket.take(3, 60_000), "full again, and no more than that");
        assert!(!bucket.take(1, 60_000));
    }
}
