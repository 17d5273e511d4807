//! One line for each invocation: where the object came from, and why.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hg_proto::log::Level;
use hg_proto::options::args::Reason;
use hg_proto::wire::trace_id;
use serde::{Deserialize, Serialize};

use crate::compile::timeline::{Phase, Timeline};
use crate::config::Config;
use crate::local::trace_context;
use crate::say;

/// Version of the line.
pub const VERSION: u32 = 1;

/// Bytes of one line that is read.
const LINE_BYTES_MAX: u64 = 1 << 20;

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
    /// The process that was called as the compiler.
    #[serde(default)]
    pub pid: u32,
    /// The trace of the build, by which the coordinator's and the worker's log lines about
    /// it are found: 32 hexadecimal digits.
    #[serde(default)]
    pub trace: Cow<'a, str>,
    /// When it began, in microseconds since 1970.
    #[serde(default)]
    pub start_us: u64,
    /// What the time went to: phases in their order, and the microseconds of each.
    #[serde(default)]
    pub phases: Vec<(Phase, u64)>,
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
    /// The coordinator had the result already.
    pub grid_had_it: bool,
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

/// The reason's code where the coordinator had the result.
pub const GRID_HAD_IT: &str = "remote-cache";

/// Whether anybody wants to know: if not, nothing needs to outlive the compiler.
pub fn wanted(config: &Config) -> bool {
    config.event_log.is_some() || config.summary_log.is_some() || config.level >= Level::Info
}

/// Writes the line to all who want it. A log that can't be written must not
/// fail a build: it is said on stderr if that was asked for.
pub fn record(
    config: &Config,
    record: &Record,
    timeline: &Timeline,
    origin: Origin,
    reason: &Reason,
    exit: i32,
) {
    if !wanted(config) {
        return;
    }
    let phases = timeline.until(Instant::now());
    let wall_us: u64 = phases.iter().map(|(_, us)| us).sum();
    let now_us = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_us = now_us.map_or(0, |since| since.as_micros() as u64);
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
        pid: std::process::id(),
        trace: trace_id::hex(&trace_context::current().trace_id).into(),
        start_us: now_us.saturating_sub(wall_us),
        phases,
        wall_ms: wall_us / 1_000,
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

/// Calls `each` for each line of `log`, which others may be writing; what is no event is
/// passed over.
pub fn read(log: &Path, mut each: impl FnMut(Event<'static>)) {
    let Ok(file) = File::open(log) else {
        return;
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = Read::take(&mut reader, LINE_BYTES_MAX);
        match bounded.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Ok(event) = serde_json::from_slice(&line) {
            each(event);
        }
    }
}

/// Tells the build above us, if it shows what runs, that this compile goes to a worker or
/// to this machine's compiler.
pub fn begin(config: &Config, place: Origin) {
    let Some(log) = &config.summary_log else {
        return;
    };
    // It is there where somebody looks.
    if let Ok(mut file) = OpenOptions::new().append(true).open(running_file(log)) {
        let line = format!("{} {}\n", std::process::id(), place.name());
        // What is shown is not so important.
        let _ = file.write_all(line.as_bytes());
    }
}

/// The file beside a build's log that has a line `PID PLACE` for each compile that began and
/// was not answered by the cache.
pub fn running_file(summary_log: &Path) -> PathBuf {
    summary_log.with_extension("running")
}

fn show(event: &Event<'_>) {
    let what = if event.source.is_empty() {
        &event.compiler
    } else {
        &event.source
    };
    let origin = event.origin.name();
    let line = match &event.worker {
        Some(worker) if event.reason == GRID_HAD_IT => format!(
            "hgbuild: {what}: {origin}, kept since {worker} compiled it, {} ms",
            event.wall_ms
        ),
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
