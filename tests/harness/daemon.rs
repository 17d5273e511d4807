//! A long-running program of ours: started, its first line of stdout read,
//! ended by SIGTERM and, if it will not go, SIGKILL.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// What a daemon may take to say where it listens.
pub const START_TIME_MAX: Duration = Duration::from_secs(30);
/// What a daemon may take to end after SIGTERM before it is killed.
pub const END_TIME_MAX: Duration = Duration::from_secs(20);

/// A program that runs until this is dropped.
pub struct Daemon {
    name: String,
    child: Option<Child>,
    /// Its lines on stdout; closed when it is gone.
    lines: Receiver<String>,
    /// What it said first.
    pub hello: Value,
    /// Where its stderr goes.
    pub log: PathBuf,
}

impl Daemon {
    /// Starts `command` in a process group of its own and waits for its first
    /// line, a JSON object. `log` becomes its stderr.
    ///
    /// # Panics
    /// It does not start, or says nothing sensible in [`START_TIME_MAX`].
    pub fn start(name: &str, command: &mut Command, log: PathBuf) -> Daemon {
        let stderr = match File::create(&log) {
            Ok(file) => file,
            Err(error) => panic!("{}: {error}", log.display()),
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .process_group(0);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("{name}: {command:?}: {error}"),
        };
        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    // After the first lines nobody may be listening.
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let mut daemon = Daemon {
            name: name.to_owned(),
            child: Some(child),
            lines,
            hello: Value::Null,
            log,
        };
        let first = daemon.lines.recv_timeout(START_TIME_MAX);
        match first.map(|line| serde_json::from_str::<Value>(&line)) {
            Ok(Ok(hello)) => daemon.hello = hello,
            other => panic!("{name} said {other:?}\n{}", daemon.stderr()),
        }
        daemon
    }

    /// An address of its first line.
    ///
    /// # Panics
    /// The line has none of that name.
    pub fn address(&self, name: &str) -> String {
        match self.hello.get(name).and_then(Value::as_str) {
            Some(address) => address.to_owned(),
            None => panic!("{}: no {name:?} in {}", self.name, self.hello),
        }
    }

    /// Its process.
    ///
    /// # Panics
    /// It was ended before.
    pub fn pid(&self) -> Pid {
        match &self.child {
            Some(child) => Pid::from_raw(child.id() as i32),
            None => panic!("{} was ended", self.name),
        }
    }

    /// What it has written to stderr.
    pub fn stderr(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Waits for `pause`, but not longer than it lives: `false` when it is gone.
    pub fn lives_for(&self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// It was ended before.
    pub fn signal(&self, signal: Signal) {
        if let Err(error) = kill(self.pid(), signal) {
            panic!("{signal} to {}: {error}", self.name);
        }
    }

    /// Sends `signal` and waits for the end; SIGKILL after [`END_TIME_MAX`].
    /// `None` when it had been ended before.
    pub fn end(&mut self, signal: Signal) -> Option<ExitStatus> {
        let pid = self
            .child
            .as_ref()
            .map(|child| Pid::from_raw(child.id() as i32))?;
        // A process that is gone but not yet waited for takes any signal.
        let _ = kill(pid, signal);
        if self.lives_for(END_TIME_MAX) {
            eprintln!(
                "{} outlived {signal} by {END_TIME_MAX:?}\n{}",
                self.name,
                self.stderr()
            );
            let _ = kill(pid, Signal::SIGKILL);
        }
        self.child.take()?.wait().ok()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Stopped processes hear SIGTERM only when they go on.
        if let Some(child) = &self.child {
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGCONT);
        }
        self.end(Signal::SIGTERM);
    }
}
