//! The coordinator's log, and what it says of those who come and are turned away.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hg_proto::log::{Level, Log};

use crate::bounds::AUDIT_LINES_PER_S_MAX;

static LOG: Log = Log::new("hg-coord", Level::Warn);

/// The level that HG_LOG names; `None`: it names none.
pub fn level_named(value: Option<&str>) -> Option<Level> {
    match value {
        None | Some("") => Some(Level::Warn),
        Some(name) => Level::from_name(name),
    }
}

/// Writes lines up to `level` from now on.
pub fn set_level(level: Level) {
    LOG.set_level(level);
}

/// The second that audit lines are counted in.
struct Audited {
    since: Instant,
    lines: u64,
}

static AUDITED: Mutex<Option<Audited>> = Mutex::new(None);

/// Who was let in for the first time, turned away or revoked: at every level, but
/// so many a second only, since those who are turned away can come often.
pub fn audit(args: fmt::Arguments<'_>) {
    let mut audited = AUDITED.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let audited = audited.get_or_insert(Audited {
        since: now,
        lines: 0,
    });
    let mut left_out = 0;
    if now.duration_since(audited.since) >= Duration::from_secs(1) {
        left_out = audited.lines.saturating_sub(AUDIT_LINES_PER_S_MAX);
        *audited = Audited {
            since: now,
            lines: 0,
        };
    }
    audited.lines += 1;
    if left_out > 0 {
        LOG.write("audit", format_args!("{left_out} more lines left out"));
    }
    if audited.lines <= AUDIT_LINES_PER_S_MAX {
        LOG.write("audit", args);
    }
}

/// Something does not work.
pub fn error(args: fmt::Arguments<'_>) {
    LOG.line(Level::Error, args);
}

/// Something will not, or is unsafe.
pub fn warn(args: fmt::Arguments<'_>) {
    LOG.line(Level::Warn, args);
}

/// Who comes and goes.
pub fn info(args: fmt::Arguments<'_>) {
    LOG.line(Level::Info, args);
}

/// Each task and each dropped connection.
pub fn debug(args: fmt::Arguments<'_>) {
    LOG.line(Level::Debug, args);
}
