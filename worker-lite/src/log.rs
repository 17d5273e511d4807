//! Lines on stderr, as many as HG_LOG asks for. Unaware of what they say.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// The worker can't do its work.
    Error,
    /// Something is wrong and the worker goes on.
    Warn,
    /// What a person who looks wants to know.
    Info,
    /// Every step.
    Debug,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

impl Level {
    /// `error`, `warn`, `info` or `debug`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "error" => Some(Level::Error),
            "warn" => Some(Level::Warn),
            "info" => Some(Level::Info),
            "debug" => Some(Level::Debug),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

/// Shows lines up to `level` from now on.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// One line, in one write; control characters from a peer are escaped.
pub fn line(level: Level, what: fmt::Arguments<'_>) {
    if level as u8 > LEVEL.load(Ordering::Relaxed) {
        return;
    }
    let mut text = format!("hg-worker-lite: {}: ", level.name());
    for c in what.to_string().chars() {
        if c.is_control() {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text.push('\n');
    // Nobody is left to be told when stderr is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
