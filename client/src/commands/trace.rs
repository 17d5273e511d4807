//! `hgbuild --trace FILE make ...`: a build as a trace, in the JSON of the Trace Event Format,
//! which Perfetto and the tracing pages of browsers open. This machine is one process in it,
//! with a lane for each compile that runs at once; each worker is another.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::compile::events::{Event, Origin};
use crate::compile::timeline::Phase;

/// This machine's number among the processes of a trace.
const HERE: usize = 1;

/// One line of the format.
#[derive(Serialize)]
struct Slice<'a> {
    name: &'a str,
    cat: &'a str,
    ph: &'static str,
    /// Microseconds since the build began.
    ts: u64,
    dur: u64,
    pid: usize,
    tid: usize,
    args: Value,
}

/// What is known of a build besides its compiles.
pub struct Build<'a> {
    /// Its command line.
    pub command: &'a str,
    /// When it began, in microseconds since 1970.
    pub start_us: u64,
    /// Microseconds until its end.
    pub wall_us: u64,
    /// Its exit code.
    pub exit: i32,
}

/// Writes the trace of `build`, which called compilers as `events` say, to `path`.
///
/// # Errors
/// As the file system says.
pub fn write(path: &Path, build: &Build<'_>, mut events: Vec<Event<'_>>) -> io::Result<()> {
    events.sort_by_key(|event| event.start_us);
    let mut trace = Trace {
        out: BufWriter::new(File::create(path)?),
        build_start_us: build.start_us,
        is_first: true,
        lanes: BTreeMap::new(),
        workers: BTreeMap::new(),
    };
    write!(trace.out, "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
    trace.name("process_name", HERE, 0, "this machine")?;
    trace.name("thread_name", HERE, 0, "build")?;
    trace.put(&Slice {
        name: build.command,
        cat: "build",
        ph: "X",
        ts: 0,
        dur: build.wall_us,
        pid: HERE,
        tid: 0,
        args: json!({ "exit": build.exit }),
    })?;
    for event in &events {
        trace.compile(event)?;
    }
    write!(trace.out, "\n]}}\n")?;
    trace.out.flush()
}

struct Trace<W> {
    out: W,
    build_start_us: u64,
    is_first: bool,
    /// By process, when the last slice in each of its lanes ends.
    lanes: BTreeMap<usize, Vec<u64>>,
    /// Their processes.
    workers: BTreeMap<String, usize>,
}

impl<W: Write> Trace<W> {
    fn put(&mut self, line: &impl Serialize) -> io::Result<()> {
        self.out
            .write_all(if self.is_first { b"\n" } else { b",\n" })?;
        self.is_first = false;
        serde_json::to_writer(&mut self.out, line)?;
        Ok(())
    }

    fn name(&mut self, what: &str, pid: usize, tid: usize, name: &str) -> io::Result<()> {
        self.put(&json!({
            "name": what, "ph": "M", "pid": pid, "tid": tid, "args": { "name": name },
        }))
    }

    /// One compile: a slice with its phases in it, and what a worker did of it there.
    fn compile(&mut self, event: &Event<'_>) -> io::Result<()> {
        let what = match event.source.is_empty() {
            true => &event.compiler,
            false => &event.source,
        };
        let ts = event.start_us.saturating_sub(self.build_start_us);
        let dur = event.phases.iter().map(|(_, us)| us).sum();
        let tid = self.lane(HERE, "job", ts, ts + dur)?;
        let slice = |name, ts, dur, pid, tid, args| Slice {
            name,
            cat: event.origin.name(),
            ph: "X",
            ts,
            dur,
            pid,
            tid,
            args,
        };
        let args = json!({
            "where": event.origin.name(),
            "why": event.reason,
            "worker": event.worker,
            "folder": event.cwd,
            "output": event.output,
            "compiler": event.compiler,
            "exit": event.exit,
            "pid": event.pid,
            "bytes_up": event.bytes_up,
            "bytes_down": event.bytes_down,
        });
        self.put(&slice(what, ts, dur, HERE, tid, args))?;
        let mut at = ts;
        for (phase, us) in &event.phases {
            self.put(&slice(phase.name(), at, *us, HERE, tid, json!({})))?;
            if let (Phase::Compile, Origin::Remote, Some(worker)) =
                (phase, event.origin, &event.worker)
            {
                let pid = self.worker(worker)?;
                let tid = self.lane(pid, "slot", at, at + us)?;
                self.put(&slice(what, at, *us, pid, tid, json!({})))?;
            }
            at += us;
        }
        Ok(())
    }

    /// The process that stands for a worker.
    fn worker(&mut self, name: &str) -> io::Result<usize> {
        if let Some(pid) = self.workers.get(name) {
            return Ok(*pid);
        }
        let pid = HERE + 1 + self.workers.len();
        self.workers.insert(name.to_owned(), pid);
        self.name("process_name", pid, 0, &format!("worker {name}"))?;
        Ok(pid)
    }

    /// The first lane of a process that is free from `from` on; it is taken up to `to`.
    fn lane(&mut self, pid: usize, kind: &str, from: u64, to: u64) -> io::Result<usize> {
        let lanes = self.lanes.entry(pid).or_default();
        let free = lanes.iter().position(|end| *end <= from);
        let lane = free.unwrap_or(lanes.len());
        match free {
            Some(lane) => lanes[lane] = to,
            None => lanes.push(to),
        }
        // Lane 0 is the build's own.
        let tid = lane + 1;
        if free.is_none() {
            self.name("thread_name", pid, tid, &format!("{kind} {tid}"))?;
        }
        Ok(tid)
    }
}
