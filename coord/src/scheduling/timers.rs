//! Timers in buckets of time, as in a timer wheel, so that neither their number nor their
//! order costs anything. None is ever cancelled: whoever set one knows whether it still
//! counts, and sets none far ahead.

use std::collections::BTreeMap;

/// Milliseconds of a bucket.
const BUCKET_MS: u64 = 64;

/// See the top of the file.
#[derive(Debug)]
pub struct Timers<K> {
    buckets: BTreeMap<u64, Vec<(u64, K)>>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Timers {
            buckets: BTreeMap::new(),
        }
    }
}

impl<K: Copy> Timers<K> {
    /// Sets a timer.
    pub fn set(&mut self, at_ms: u64, key: K) {
        let bucket = self.buckets.entry(at_ms / BUCKET_MS).or_default();
        bucket.push((at_ms, key));
    }

    /// Takes the timers whose time has come, each with its time, in no order.
    pub fn due(&mut self, now_ms: u64) -> Vec<(u64, K)> {
        let mut due = Vec::new();
        while let Some(mut bucket) = self.buckets.first_entry()
            && *bucket.key() <= now_ms / BUCKET_MS
        {
            due.extend(
                bucket
                    .get_mut()
                    .extract_if(.., |(at_ms, _)| *at_ms <= now_ms),
            );
            if !bucket.get().is_empty() {
                break;
            }
            bucket.remove();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_once_at_its_time() {
        let mut timers = Timers::default();
        let mut random = fastrand::Rng::with_seed(1);
        let mut all = Vec::from_iter((0..2_000u64).map(|key| (random.u64(..5_000), key)));
        for (at_ms, key) in &all {
            timers.set(*at_ms, *key);
        }
        all.sort_unstable();
        let mut came = Vec::new();
        let mut now_ms = 0;
        while came.len() < all.len() {
            let mut due = timers.due(now_ms);
            assert!(timers.due(now_ms).is_empty());
            due.sort_unstable();
            came.extend(due);
            let until = all.partition_point(|(at_ms, _)| *at_ms <= now_ms);
            assert_eq!(came, all[..until]);
            now_ms += random.u64(1..200);
        }
        assert!(timers.buckets.is_empty());
    }
}
