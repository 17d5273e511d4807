//! Lines for the operator, on stderr, at the level that HG_LOG names.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::bounds::AUDIT_LINES_PER_S_MAX;

/// How much an operator wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something does not work.
    Error,
    /// Something will not, or is unsafe.
    Warn,
    /// Who comes and goes.
    Info,
    /// Each task and each dropped connection.
    Debug,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Warn as u8);

/// Takes the level from the environment; `None`: what is there is no level.
pub fn level_from_env(value: Option<&str>) -> Option<Level> {
    match value {
        None | Some("") => Some(Level::Warn),
        Some("error") => Some(Level::Error),
        Some("warn") => Some(Level::Warn),
        Some("info") => Some(Level::Info),
        Some("debug") => Some(Level::Debug),
        Some(_) => None,
    }
}

/// From now on.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

fn line(level: Level, name: &str, args: fmt::Arguments<'_>) {
    if level as u8 <= LEVEL.load(Ordering::Relaxed) {
        // Nobody reads stderr: nobody to tell.
        let _ = writeln!(std::io::stderr(), "hg-coord: {name}: {args}");
    }
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
    // Nobody reads stderr: nobody to tell.
    let mut stderr = std::io::stderr();
    if left_out > 0 {
        let _ = writeln!(stderr, "hg-coord: audit: {left_out} more lines left out");
    }
    if audited.lines <= AUDIT_LINES_PER_S_MAX {
        let _ = writeln!(stderr, "hg-coord: audit: {args}");
    }
}

/// Something does not work.
pub fn error(args: fmt::Arguments<'_>) {
    line(Level::Error, "error", args);
}

/// Something will not, or is unsafe.
pub fn warn(args: fmt::Arguments<'_>) {
    line(Level::Warn, "warning", args);
}

/// Who comes and goes.
pub fn info(args: fmt::Arguments<'_>) {
    line(Level::Info, "info", args);
}

/// Each task and each dropped connection.
pub fn debug(args: fmt::Arguments<'_>) {
    line(Level::Debug, "debug", args);
}
