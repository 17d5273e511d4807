//! One line for each invocation: where the object came from, and why.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use hg_proto::log::Level;
use hg_proto::options::args::Reason;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::say;

/// Version of the line.
pub const VERSION: u32 = 1;

/// Where an object came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A worker compiled it.
    Remote,
    /// This machine's compiler made it.
    Local,
    /// The local cache had it.
    Cache,
}

impl Origin {
    /// The word for it in the line.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Remote => "remote",
            Origin::Local => "local",
            Origin::Cache => "cache",
        }
    }
}

/// One invocation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event<'a> {
    /// [`VERSION`].
    pub v: u32,
    /// When it ended, RFC 3339 in UTC.
    pub time: String,
    /// The working directory of the command.
    pub cwd: String,
    /// The source file as typed; empty when there is not exactly one.
    pub source: String,
    /// The output file; empty when not known.
    pub output: String,
    /// The compiler as typed.
    pub compiler: String,
    /// Where the object came from: `where` in the line, which is a word of Rust.
    #[serde(rename = "where")]
    pub origin: Origin,
    /// A stable code, and words after a colon where there are more to say.
    pub reason: Cow<'a, str>,
    /// Why the cache keeps nothing of it, in the same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<Cow<'a, str>>,
    /// The worker that had the task last, when it went out.
    pub worker: Option<String>,
    /// The form in which it was compiled on a worker: `tree` or `preprocessed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<Cow<'a, str>>,
    /// Exit code as shells count it: 128 and more for a signal.
    pub exit: i32,
    /// Milliseconds from start to end.
    pub wall_ms: u64,
    /// Milliseconds in the coordinator's queue.
    pub queue_ms: u64,
    /// Milliseconds from submission to the last byte, queue included.
    pub remote_ms: u64,
    /// Payload bytes sent.
    pub bytes_up: u64,
    /// Payload bytes received.
    pub bytes_down: u64,
}

/// What is known so far of this invocation.
#[derive(Debug, Default, Clone)]
pub struct Record {
    /// The source file as typed.
    pub source: Vec<u8>,
    /// The output file as typed, or as the compiler chooses it.
    pub output: Vec<u8>,
    /// The compiler as typed.
    pub compiler: Vec<u8>,
    /// The worker that had the task last.
    pub worker: Option<String>,
    /// The form that it went out in, when a worker's result was taken.
    pub form: Option<&'static str>,
    /// Why the cache keeps nothing of it.
    pub not_kept: Option<Reason>,
    /// Milliseconds in the coordinator's queue.
    pub queue_ms: u64,
    /// Milliseconds from submission to the last byte.
    pub remote_ms: u64,
    /// Payload bytes sent.
    pub bytes_up: u64,
    /// Payload bytes received.
    pub bytes_down: u64,
}

/// Whether anybody wants to know: if not, nothing needs to outlive the compiler.
pub fn wanted(config: &Config) -> bool {
    config.event_log.is_some() || config.summary_log.is_some() || config.level >= Level::Info
}

/// Writes the line to all who want it. A log that can't be written must not
/// fail a build: it is said on stderr if that was asked for.
pub fn record(
    config: &Config,
    record: &Record,
    origin: Origin,
    reason: &Reason,
    exit: i32,
    wall_ms: u64,
) {
    if !wanted(config) {
        return;
    }
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let cwd = std::env::current_dir().unwrap_or_default();
    let event = Event {
        v: VERSION,
        time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        cwd: cwd.to_string_lossy().into_owned(),
        source: lossy(&record.source),
        output: lossy(&record.output),
        compiler: lossy(&record.compiler),
        origin,
        reason: Cow::Owned(reason.to_string()),
        not_kept: record.not_kept.as_ref().map(|why| why.to_string().into()),
        worker: record.worker.clone(),
        form: record.form.map(Cow::Borrowed),
        exit,
        wall_ms,
        queue_ms: record.queue_ms,
        remote_ms: record.remote_ms,
        bytes_up: record.bytes_up,
        bytes_down: record.bytes_down,
    };
    if let Ok(mut line) = serde_json::to_vec(&event) {
        line.push(b'\n');
        for log in [&config.event_log, &config.summary_log]
            .into_iter()
            .flatten()
        {
            if let Err(error) = append(log, &line)
                && config.level >= Level::Warn
            {
                say::warn(format_args!("{}: {error}", log.display()));
            }
        }
    }
    if config.level >= Level::Info {
        show(&event);
    }
}

fn show(event: &Event<'_>) {
    let what = if event.source.is_empty() {
        &event.compiler
    } else {
        &event.source
    };
    let origin = event.origin.name();
    let line = match &event.worker {
        Some(worker) if event.origin == Origin::Remote => format!(
            "hgbuild: {what}: {origin} on {worker}, {} ms ({} ms queued)",
            event.wall_ms, event.queue_ms
        ),
        _ => format!(
            "hgbuild: {what}: {origin} ({}), {} ms",
            event.reason, event.wall_ms
        ),
    };
    say::aside(printable(&line) + "\n");
}

/// Control characters are shown, not sent to the terminal: what a worker or a
/// coordinator says of itself stays within one line.
pub fn printable(line: &str) -> String {
    line.replace(char::is_control, "\u{fffd}")
}

/// One line, one write: lines of parallel processes never mix.
fn append(log: &Path, line: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(log)?;
    file.write_all(line)
}
