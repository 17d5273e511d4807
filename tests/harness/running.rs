//! A command that runs while a test does something to it, and waits that end
//! with what they wait for.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::command::Outcome;
use crate::daemon::Daemon;

/// What anything that a test waits for may take.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// What a terminal turns into SIGINT.
const CTRL_C: u8 = 3;
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Tries `look` until it gives something, as long as `daemon` lives.
///
/// # Panics
/// It does not within [`PATIENCE`], or the daemon ends.
pub fn until<T>(daemon: &Daemon, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        assert!(daemon.lives_for(LOOK_AGAIN), "it ended; no {what}");
    }
}

/// Whoever started the tests may have had it ignored.
fn hear_sigint() -> std::io::Result<()> {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
    Ok(())
}

/// A command in a process group of its own; killed when this is dropped.
pub struct Running {
    child: Child,
    /// Where its terminal's keys are.
    keyboard: Option<OwnedFd>,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    /// What has come of each.
    said: [Option<Vec<u8>>; 2],
}

impl Running {
    /// Starts it. stdin is empty.
    ///
    /// # Panics
    /// It can't be started.
    pub fn start(command: &mut Command) -> Running {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        // SAFETY: a system call that may be made between fork and exec.
        unsafe { command.pre_exec(hear_sigint) };
        Running::spawn(command, None)
    }

    /// Starts it in the foreground of a terminal of its own, which is its stdin.
    ///
    /// # Panics
    /// It can't be started, or there is no terminal to be had.
    pub fn start_on_terminal(command: &mut Command) -> Running {
        let pty = nix::pty::openpty(None, None).expect("a terminal");
        fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a descriptor");
        command
            .stdin(pty.slave)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: system calls that may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                hear_sigint()?;
                nix::unistd::setsid()?;
                match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        Running::spawn(command, Some(pty.master))
    }

    fn spawn(command: &mut Command, keyboard: Option<OwnedFd>) -> Running {
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("{command:?}: {error}"),
        };
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        Running {
            child,
            keyboard,
            stdout,
            stderr,
            said: [None, None],
        }
    }

    /// Its first process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// To the first process alone.
    pub fn signal(&self, signal: Signal) {
        // It may have ended by itself meanwhile.
        let _ = kill(self.pid(), signal);
    }

    /// Ctrl-C on its terminal.
    ///
    /// # Panics
    /// It has none.
    pub fn interrupt(&self) {
        let keyboard = self.keyboard.as_ref().expect("a terminal");
        nix::unistd::write(keyboard, &[CTRL_C]).expect("a key");
    }

    /// To the whole group, as `kill -PGID` does.
    pub fn signal_group(&self, signal: Signal) {
        let _ = killpg(self.pid(), signal);
    }

    /// Tries `look` until it gives something, as long as somebody holds the
    /// command's output open.
    ///
    /// # Panics
    /// It does not within [`PATIENCE`], or the command is over.
    pub fn until<T>(&mut self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < deadline, "in vain: {what}");
            if let Some(outcome) = self.over(LOOK_AGAIN) {
                panic!("it ended; no {what}: {}", outcome.words());
            }
        }
    }

    /// How it ended, if all that wrote to its output has, within `patience`.
    pub fn over(&mut self, patience: Duration) -> Option<Outcome> {
        let deadline = Instant::now() + patience;
        for (said, pipe) in self.said.iter_mut().zip([&self.stdout, &self.stderr]) {
            if said.is_none() {
                let left = deadline.saturating_duration_since(Instant::now());
                match pipe.recv_timeout(left) {
                    Ok(bytes) => *said = Some(bytes),
                    Err(RecvTimeoutError::Timeout) => return None,
                    Err(RecvTimeoutError::Disconnected) => *said = Some(Vec::new()),
                }
            }
        }
        let [stdout, stderr] = self.said.clone().map(Option::unwrap_or_default);
        let status = match self.child.wait() {
            Ok(status) => status,
            Err(error) => panic!("wait for {}: {error}", self.child.id()),
        };
        Some(Outcome {
            code: status.code(),
            signal: status.signal(),
            stdout,
            stderr,
        })
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It does not end within [`PATIENCE`].
    pub fn finish(mut self) -> Outcome {
        match self.over(PATIENCE) {
            Some(outcome) => outcome,
            None => panic!("{} does not end", self.child.id()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Reaped already, its number may be another's.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal_group(Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// Reads all of `pipe` in a thread.
fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    if let Some(mut pipe) = pipe {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            if pipe.read_to_end(&mut bytes).is_ok() {
                // Nobody listens after the deadline.
                let _ = sender.send(bytes);
            }
        });
    }
    receiver
}
