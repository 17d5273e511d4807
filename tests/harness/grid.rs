//! A coordinator and its workers on this machine, each with its own folder.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::command::{run, scrubbed};
use crate::daemon::Daemon;
use crate::leftover;
use crate::memos;
use crate::programs::Programs;

/// What all workers together may take to be listed by the coordinator.
const LISTED_TIME_MAX: Duration = Duration::from_secs(60);
/// Between two looks at the list.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// What one HTTP answer may take.
const HTTP_TIME_MAX: Duration = Duration::from_secs(10);

/// Ends with everything it started when it is dropped.
pub struct Grid {
    /// The workers, in the order of their names: `worker-1`, `worker-2`, ...
    pub workers: Vec<Daemon>,
    /// The coordinator.
    pub coordinator: Daemon,
    slots: u32,
    kind: Kind,
    /// More for `hg-coord serve`.
    words: Vec<String>,
    programs: Programs,
    folder: TempDir,
}

/// What its coordinator is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing of note.
    Plain,
    /// Plaintext links.
    Insecure,
    /// To keep results.
    Keeping,
}

impl Grid {
    /// A coordinator and `workers` workers of `slots` slots each; comes back when
    /// all are listed.
    ///
    /// # Panics
    /// One of them does not come up.
    pub fn start(programs: &Programs, workers: usize, slots: u32) -> Grid {
        Grid::start_as(programs, workers, slots, Kind::Plain, &[])
    }

    /// One with plaintext links, for peers that the test plays itself.
    ///
    /// # Panics
    /// As [`Grid::start`].
    pub fn insecure(programs: &Programs, workers: usize, slots: u32) -> Grid {
        Grid::start_as(programs, workers, slots, Kind::Insecure, &[])
    }

    /// One whose coordinator keeps what workers make, which others do not.
    ///
    /// # Panics
    /// As [`Grid::start`].
    pub fn keeping(programs: &Programs, workers: usize, slots: u32) -> Grid {
        Grid::keeping_with(programs, workers, slots, &[])
    }

    /// [`Grid::keeping`], with `words` more for `hg-coord serve`.
    ///
    /// # Panics
    /// As [`Grid::start`].
    pub fn keeping_with(programs: &Programs, workers: usize, slots: u32, words: &[&str]) -> Grid {
        Grid::start_as(programs, workers, slots, Kind::Keeping, words)
    }

    fn start_as(
        programs: &Programs,
        workers: usize,
        slots: u32,
        kind: Kind,
        words: &[&str],
    ) -> Grid {
        let folder = match tempfile::Builder::new().prefix("hg-grid-").tempdir() {
            Ok(folder) => folder,
            Err(error) => panic!("temporary folder: {error}"),
        };
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let coordinator = start_coordinator(programs, folder.path(), "127.0.0.1:0", kind, &words);
        let mut grid = Grid {
            workers: Vec::new(),
            coordinator,
            slots,
            kind,
            words,
            programs: programs.clone(),
            folder,
        };
        for _ in 0..workers {
            grid.add_worker();
        }
        grid.wait_for_workers(workers);
        memos::take(&grid.folder().join("worker-1"));
        grid
    }

    /// One around a coordinator of the test's own making (see [`coordinator`]), whose
    /// state is in `folder`; without workers.
    pub fn around(programs: &Programs, folder: TempDir, coordinator: Daemon) -> Grid {
        Grid {
            workers: Vec::new(),
            coordinator,
            slots: 1,
            kind: Kind::Plain,
            words: Vec::new(),
            programs: programs.clone(),
            folder,
        }
    }

    /// Where clients and workers connect to: `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.coordinator.address("grid")
    }

    /// Where the coordinator's own pages are: `127.0.0.1:PORT`.
    pub fn http(&self) -> String {
        self.coordinator.address("http")
    }

    /// The folder of the coordinator's state.
    pub fn state(&self) -> PathBuf {
        state(self.folder.path())
    }

    /// Links are in plaintext, and nobody is asked who they are.
    pub fn is_insecure(&self) -> bool {
        self.kind == Kind::Insecure
    }

    /// [`Grid::address`] as who is not on this machine would have it: tokens that
    /// the coordinator left for processes here are not looked for.
    pub fn far_address(&self) -> String {
        // The C library takes it for 127.0.0.1; as an address it is malformed.
        self.address().replace("127.0.0.1", "127.1")
    }

    /// A token of this grid, as `hg-coord token WORDS` prints it.
    ///
    /// # Panics
    /// It prints none.
    pub fn token(&self, words: &[&str]) -> String {
        token(&self.programs, self.folder.path(), words)
    }

    /// Lets `command`, an hgbuild, find the grid.
    pub fn lead<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        if self.is_insecure() {
            command.env("HG_INSECURE", "1");
        }
        command.env("HG_COORDINATOR", self.address())
    }

    /// The folder of all state and logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts one more worker; it may not be listed yet.
    pub fn add_worker(&mut self) {
        let name = format!("worker-{}", self.workers.len() + 1);
        let folder = self.folder.path();
        if let Err(error) = memos::plant(&folder.join(&name)) {
            panic!("{name}: {error}");
        }
        let mut command = worker(&self.programs, folder, &name, &self.address(), self.slots);
        if self.is_insecure() {
            command.arg("--insecure");
        }
        let log = self.folder.path().join(format!("{name}.log"));
        self.workers.push(Daemon::start(&name, &mut command, log));
    }

    /// Starts one more worker with a plaintext link, of a grid that is not the harness's
    /// own.
    pub fn add_insecure_worker(&mut self) {
        self.kind = Kind::Insecure;
        self.add_worker();
    }

    /// Comes back when exactly `count` workers are listed.
    ///
    /// # Panics
    /// That does not happen in time, or the coordinator ends.
    pub fn wait_for_workers(&self, count: usize) {
        let deadline = Instant::now() + LISTED_TIME_MAX;
        let mut listed = String::new();
        while Instant::now() < deadline {
            match self.get("/api/v1/workers") {
                Ok(body) => {
                    let workers = serde_json::from_str::<Vec<Value>>(&body);
                    if workers.is_ok_and(|workers| workers.len() == count) {
                        return;
                    }
                    listed = body;
                }
                Err(error) => listed = error,
            }
            if !self.coordinator.lives_for(LOOK_AGAIN) {
                break;
            }
        }
        let logs: String = self.workers.iter().map(Daemon::stderr).collect();
        panic!(
            "not {count} workers: {listed}\n--- coordinator\n{}--- workers\n{logs}",
            self.coordinator.stderr()
        );
    }

    /// The body of a page of the coordinator.
    ///
    /// # Errors
    /// Words: no answer, or another status than 200.
    pub fn get(&self, path: &str) -> Result<String, String> {
        http_get(&self.http(), path)
    }

    /// Ends the coordinator with `signal` and starts one on the same port.
    ///
    /// # Panics
    /// The new one does not come up.
    pub fn restart_coordinator(&mut self, signal: Signal) {
        let address = self.address();
        self.coordinator.end(signal);
        let folder = self.folder.path();
        let (kind, words) = (self.kind, &self.words);
        self.coordinator = start_coordinator(&self.programs, folder, &address, kind, words);
    }
}

impl Drop for Grid {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            worker.end(Signal::SIGTERM);
        }
        self.coordinator.end(Signal::SIGTERM);
        let left = leftover::processes(self.folder.path());
        if !left.is_empty() && !thread::panicking() {
            panic!("the grid left processes behind: {left:#?}");
        }
    }
}

fn daemon_command(program: &Path, folder: &Path) -> Command {
    let mut command = scrubbed(program, folder, folder);
    if let Some(level) = std::env::var_os("HG_TEST_LOG") {
        command.env("HG_LOG", level);
    }
    command
}

fn state(folder: &Path) -> PathBuf {
    folder.join("coordinator")
}

/// What `hg-coord token WORDS` prints for the coordinator whose state is in
/// `folder`/coordinator.
///
/// # Panics
/// It prints none.
pub fn token(programs: &Programs, folder: &Path, words: &[&str]) -> String {
    let mut command = scrubbed(&programs.coordinator, folder, folder);
    command.arg("token").args(words).arg("--state");
    let outcome = run(command.arg(state(folder)));
    assert!(outcome.ok(), "{}", outcome.words());
    String::from_utf8_lossy(&outcome.stdout).trim().to_owned()
}

fn start_coordinator(
    programs: &Programs,
    folder: &Path,
    listen: &str,
    kind: Kind,
    more: &[String],
) -> Daemon {
    // Audits run a compiler here now and then, which is what tests count.
    let audits = ["--audit", "0"];
    let mut words = vec!["--listen", listen, "--http", "127.0.0.1:0"];
    words.extend(audits);
    match kind {
        Kind::Plain => {}
        Kind::Insecure => words.push("--insecure"),
        Kind::Keeping => words.extend(["--cache-size", "1GiB"]),
    }
    words.extend(more.iter().map(String::as_str));
    coordinator(programs, folder, &words)
}

/// A coordinator without workers, with `words` after `hg-coord serve`; its state is
/// in `folder`/coordinator.
///
/// # Panics
/// It does not come up.
pub fn coordinator(programs: &Programs, folder: &Path, words: &[&str]) -> Daemon {
    coordinator_with(programs, folder, words, |_| {})
}

/// [`coordinator`], with something about its command `change`d.
///
/// # Panics
/// It does not come up.
pub fn coordinator_with(
    programs: &Programs,
    folder: &Path,
    words: &[&str],
    change: impl FnOnce(&mut Command),
) -> Daemon {
    let mut command = daemon_command(&programs.coordinator, folder);
    command
        .arg("serve")
        .args(words)
        .arg("--state")
        .arg(state(folder));
    if !words.contains(&"--cache-size") {
        // What is tested and measured is mostly what compiles do.
        command.args(["--cache-size", "off"]);
    }
    if !words.contains(&"--idle-audit") {
        // The same; and all workers of a test are one machine.
        command.args(["--idle-audit", "0"]);
    }
    change(&mut command);
    Daemon::start("coordinator", &mut command, folder.join("coordinator.log"))
}

/// `hg-worker-lite serve` of `slots` slots as `name`, for the coordinator at
/// `address`; state and log are in `folder`. More words and variables may be added.
pub fn worker(
    programs: &Programs,
    folder: &Path,
    name: &str,
    address: &str,
    slots: u32,
) -> Command {
    let mut command = daemon_command(&programs.worker, folder);
    command
        .args(["serve", "--coordinator", address])
        // Whatever else runs here, a test gets the slots that it asked for.
        .arg("--dedicated")
        .args(["--slots", &slots.to_string(), "--name", name])
        .args(["--http", "127.0.0.1:0", "--state"])
        .arg(folder.join(name));
    command
}

/// The body of `http://address/path`.
///
/// # Errors
/// Words: no answer, or another status than 200.
pub fn http_get(address: &str, path: &str) -> Result<String, String> {
    let answer = (|| {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(HTTP_TIME_MAX))?;
        stream.set_write_timeout(Some(HTTP_TIME_MAX))?;
        // 1.0: no chunks, and the end of the connection is the end of the body.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    })()
    .map_err(|error| format!("http://{address}{path}: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(format!("http://{address}{path}: {head}")),
    }
}
