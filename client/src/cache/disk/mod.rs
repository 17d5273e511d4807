//! The cache on disk: entries, shards, eviction and statistics.

pub mod tally;
pub mod entries;
pub mod evict;
pub mod day_log;
pub mod draft;
pub mod shard;
pub mod index;
