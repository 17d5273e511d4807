//! Lines for an operator, on stderr, as many as `HG_LOG` asks for: time, program, level and
//! words. Where stderr leads to the system's journal, that notes the time.

use std::fmt;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::SystemTime;

/// How much is said. A line has one of the levels but the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Nothing.
    Off,
    /// What does not work.
    Error,
    /// What is wrong or unsafe, while the program goes on.
    Warn,
    /// What was done, and who comes and goes.
    Info,
    /// Every step.
    Debug,
}

impl Level {
    /// `off`, `error`, `warn`, `info` or `debug`.
    pub fn from_name(name: &str) -> Option<Level> {
        match name {
            "off" => Some(Level::Off),
            "error" => Some(Level::Error),
            "warn" => Some(Level::Warn),
            "info" => Some(Level::Info),
            "debug" => Some(Level::Debug),
            _ => None,
        }
    }

    /// As `HG_LOG` has it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Off => "off",
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

/// The log of one program.
pub struct Log {
    program: &'static str,
    level: AtomicU8,
}

impl Log {
    /// Of `program`, with lines up to `level`.
    pub const fn new(program: &'static str, level: Level) -> Log {
        Log {
            program,
            level: AtomicU8::new(level as u8),
        }
    }

    /// Writes lines up to `level` from now on.
    pub fn set_level(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// Writes a line, if lines of `level` are wanted.
    pub fn line(&self, level: Level, words: fmt::Arguments<'_>) {
        if level as u8 <= self.level.load(Ordering::Relaxed) {
            self.write(level.name(), words);
        }
    }

    /// Writes a line of this `kind`, whatever the level: in one write, so that lines do
    /// not mix, and with a peer's control characters escaped.
    pub fn write(&self, kind: &str, words: fmt::Arguments<'_>) {
        let mut line = match is_journal() {
            true => String::new(),
            false => format!("{} ", humantime::format_rfc3339_millis(SystemTime::now())),
        };
        line += &format!("{}: {kind}: ", self.program);
        for c in words.to_string().chars() {
            if c.is_control() {
                line.extend(c.escape_default());
            } else {
                line.push(c);
            }
        }
        line.push('\n');
        // Nobody is left to be told when stderr is gone.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// Whether stderr is the stream that the service manager has named (JOURNAL_STREAM, see
/// systemd.exec(5)); what we start may have another.
fn is_journal() -> bool {
    static IS_JOURNAL: OnceLock<bool> = OnceLock::new();
    *IS_JOURNAL.get_or_init(|| {
        let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        let stderr = nix::sys::stat::fstat(std::io::stderr());
        stderr.is_ok_and(|it| named == format!("{}:{}", it.st_dev, it.st_ino))
    })
}
