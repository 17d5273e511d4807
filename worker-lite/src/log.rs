//! The worker's log.

use std::fmt;

pub use hg_proto::log::Level;
use hg_proto::log::Log;

static LOG: Log = Log::new("hg-worker-lite", Level::Info);

/// Writes lines up to `level` from now on.
pub fn set_level(level: Level) {
    LOG.set_level(level);
}

/// Writes a line, if lines of `level` are wanted.
pub fn line(level: Level, words: fmt::Arguments<'_>) {
    LOG.line(level, words);
}
