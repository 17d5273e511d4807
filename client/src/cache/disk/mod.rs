//! The cache on disk: entries and statistics.

pub mod tally;
pub mod entries;
pub mod day_log;
