//! How the cache lies on disk: entries, shards, what goes first, and what was counted.

pub mod tally;
pub mod entries;
pub mod evict;
pub mod day_log;
pub mod draft;
pub mod shard;
pub mod index;
