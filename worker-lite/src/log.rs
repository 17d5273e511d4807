//! The worker's log on stderr.

use std::fmt;

pub use hg_proto::log::Level;
use hg_proto::log::Log;

static LOG: Log = Log::new("hg-worker-lite", Level::Info);

/// Shows lines up to `level` from now on.
pub fn set_level(level: Level) {
    LOG.set_level(level);
}

/// Writes a line if its level is shown.
pub fn line(level: Level, text: fmt::Arguments<'_>) {
    LOG.line(level, text);
}
