//! A daemon's log: lines on stderr, as many as its level lets through. Unaware of what
//! they say.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// The program can't do its work.
    Error,
    /// Something is wrong or unsafe, and the program goes on.
    Warn,
    /// What an operator who looks wants to know: who comes and goes.
    Info,
    /// Every step.
    Debug,
}

impl Level {
    /// The level called `error`, `warn`, `info` or `debug`.
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

/// The log of one program, to be kept in a `static`.
#[derive(Debug)]
pub struct Log {
    program: &'static str,
    level: AtomicU8,
}

impl Log {
    /// The log of `program`, which shows lines up to `level` until told otherwise.
    pub const fn new(program: &'static str, level: Level) -> Self {
        Log {
            program,
            level: AtomicU8::new(level as u8),
        }
    }

    /// Shows lines up to `level` from now on.
    pub fn set_level(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// Writes a line if its level is shown.
    pub fn line(&self, level: Level, text: fmt::Arguments<'_>) {
        if level as u8 <= self.level.load(Ordering::Relaxed) {
            self.write(level.name(), text);
        }
    }

    /// Writes a line of `kind` whatever the level is.
    pub fn write(&self, kind: &str, text: fmt::Arguments<'_>) {
        let line = format!("{}: {kind}: {}\n", self.program, escaped(&text.to_string()));
        // One write, so that lines of several threads stay whole. Nobody is left to be
        // told when stderr is gone.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// `text` on one line: a peer's control characters must not pass for lines of ours, nor
/// reach an operator's terminal.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_called_as_it_is_typed() {
        for level in [Level::Error, Level::Warn, Level::Info, Level::Debug] {
            assert_eq!(Level::from_name(level.name()), Some(level));
        }
        assert_eq!(Level::from_name("warning"), None);
    }

    #[test]
    fn what_a_peer_says_stays_on_its_line() {
        assert_eq!(
            escaped("naïve\r\nhg: error\x1b[2J"),
            "naïve\\r\\nhg: error\\u{1b}[2J"
        );
    }
}
