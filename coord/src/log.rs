//! Lines for the operator, on stderr, at the level that HG_LOG names.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};

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
