//! Why compiles stayed on developers' machines, and what that cost them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use hg_proto::reasons;
use serde::Serialize;

/// Reasons that are counted one by one; all others are `other`.
const REASONS_MAX: usize = 128;
/// Bytes of a reason's code.
const REASON_BYTES_MAX: usize = 48;
/// The code of all reasons beyond [`REASONS_MAX`].
const OTHER: &str = "other";

/// What one reason cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Compiles that ran on their developers' machines.
    pub compiles: u64,
    /// Milliseconds that they took there.
    pub ms: u64,
}

/// A reason, for listings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fallback {
    /// Its code.
    pub reason: Arc<str>,
    /// Compiles that ran on their developers' machines.
    pub compiles: u64,
    /// Milliseconds that they took there.
    pub lost_ms: u64,
    /// What can be done about it; empty: nothing that is known.
    pub advice: &'static str,
}

/// See the top of the file.
#[derive(Debug, Clone, Default)]
pub struct Fallbacks {
    reasons: BTreeMap<Arc<str>, Lost>,
}

impl Fallbacks {
    /// Adds what a client reports, and gives the code under which it was counted.
    pub fn add<'a>(&mut self, reason: &'a str, lost: Lost) -> &'a str {
        let is_known = self.reasons.contains_key(reason);
        let counted = match is_known || (is_code(reason) && self.reasons.len() < REASONS_MAX) {
            true => reason,
            false => OTHER,
        };
        let sum = self.reasons.entry(counted.into()).or_default();
        sum.compiles = sum.compiles.saturating_add(lost.compiles);
        sum.ms = sum.ms.saturating_add(lost.ms);
        counted
    }

    /// All reasons, the dearest first.
    pub fn list(&self) -> Vec<Fallback> {
        let mut list: Vec<Fallback> = self.reasons.iter().map(listed).collect();
        list.sort_by_key(|one| Reverse(one.lost_ms));
        list
    }
}

fn listed((reason, lost): (&Arc<str>, &Lost)) -> Fallback {
    Fallback {
        reason: reason.clone(),
        compiles: lost.compiles,
        lost_ms: lost.ms,
        advice: reasons::find(reason).map_or("", |its| its.advice),
    }
}

/// Whether it can be a reason's code, and a label of a metric.
fn is_code(reason: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=REASON_BYTES_MAX).contains(&reason.len()) && reason.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dearest_comes_first_and_odd_ones_are_other() {
        let mut all = Fallbacks::default();
        let lost = |compiles, ms| Lost { compiles, ms };
        assert_eq!(all.add("queue", lost(2, 10)), "queue");
        assert_eq!(all.add("debug-info", lost(1, 500)), "debug-info");
        assert_eq!(all.add("queue", lost(1, 1)), "queue");
        for odd in ["", "A", "a b", "<b>", &"x".repeat(49)] {
            assert_eq!(all.add(odd, lost(1, 1)), OTHER);
        }
        let list: Vec<(String, u64, u64)> = all
            .list()
            .into_iter()
            .map(|one| (one.reason.to_string(), one.compiles, one.lost_ms))
            .collect();
        let named = |reason: &str, compiles, ms| (reason.to_owned(), compiles, ms);
        assert_eq!(
            list,
            [
                named("debug-info", 1, 500),
                named("queue", 3, 11),
                named(OTHER, 5, 5)
            ]
        );
    }

    #[test]
    fn reasons_have_a_bound() {
        let mut all = Fallbacks::default();
        for number in 0..2 * REASONS_MAX {
            all.add(&format!("r{number}"), Lost { compiles: 1, ms: 1 });
        }
        assert_eq!(all.list().len(), REASONS_MAX + 1);
        assert_eq!(all.add("r0", Lost::default()), "r0");
    }
}
