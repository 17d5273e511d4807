//! Runs a command to its end, under a deadline, with nothing of the caller's
//! environment that could change what it does.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, killpg};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::Pid;

/// What a command may take before it is killed and the test fails.
pub const COMMAND_TIME_MAX: Duration = Duration::from_secs(900);

/// How a command ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Everything it wrote to stdout.
    pub stdout: Vec<u8>,
    /// Everything it wrote to stderr.
    pub stderr: Vec<u8>,
}

impl Outcome {
    /// Exit code 0.
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// hgbuild's own last words, which start with its name, are not the build's.
    pub fn without_summary(self) -> Outcome {
        let lines = self.stderr.split_inclusive(|byte| *byte == b'\n');
        let stderr = lines
            .filter(|line| !line.starts_with(b"hgbuild: "))
            .flatten()
            .copied()
            .collect();
        Outcome { stderr, ..self }
    }

    /// Compiles end in any order, so that only the set of their lines is the same.
    pub fn sorted(&self) -> Outcome {
        let sort = |text: &[u8]| {
            let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
            lines.sort();
            lines.concat()
        };
        Outcome {
            stdout: sort(&self.stdout),
            stderr: sort(&self.stderr),
            ..self.clone()
        }
    }

    /// For messages of tests.
    pub fn words(&self) -> String {
        format!(
            "exit {:?}, signal {:?}\n--- stdout\n{}--- stderr\n{}",
            self.code,
            self.signal,
            String::from_utf8_lossy(&self.stdout),
            String::from_utf8_lossy(&self.stderr)
        )
    }
}

/// `program` in `folder`, with `home` as HOME and else only PATH, TMPDIR, a plain
/// locale, and hgbuild's cache off: a test that wants one asks for it.
pub fn scrubbed(program: impl AsRef<OsStr>, folder: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear();
    for name in ["PATH", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    // GNU make sets PWD for nobody; compilers take it for -g.
    command
        .env("HOME", home)
        .env("LC_ALL", "C.UTF-8")
        .env("PWD", folder)
        .env("HG_CACHE_MAX_SIZE", "0")
        // It would go on beside the tests, in the background.
        .env("HG_SHIP", "0");
    command
}

/// Runs `command` in a process group of its own. stdin is empty.
///
/// # Panics
/// It can't be started, or is not done in [`COMMAND_TIME_MAX`]; then its group is killed.
pub fn run(command: &mut Command) -> Outcome {
    run_within(command, COMMAND_TIME_MAX)
}

/// [`run`] with another deadline.
///
/// # Panics
/// As [`run`] does.
pub fn run_within(command: &mut Command, time_max: Duration) -> Outcome {
    command.stderr(Stdio::piped());
    run_heard(command, time_max, None)
}

/// [`run`] with a terminal of so many `columns` for its stderr, which hands on what is
/// written as it is.
///
/// # Panics
/// As [`run`] does, and where there are no terminals.
pub fn run_on_terminal(command: &mut Command, columns: u16) -> Outcome {
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(&size, None).expect("a terminal");
    fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a descriptor");
    let mut modes = tcgetattr(&pty.slave).expect("its modes");
    cfmakeraw(&mut modes);
    tcsetattr(&pty.slave, SetArg::TCSANOW, &modes).expect("its modes");
    command.stderr(pty.slave);
    run_heard(command, COMMAND_TIME_MAX, Some(Screen(pty.master.into())))
}

/// Where a terminal's words come out.
struct Screen(File);

impl Read for Screen {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer) {
            // How it says that nobody can write any more.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(0),
            read => read,
        }
    }
}

fn run_heard(command: &mut Command, time_max: Duration, screen: Option<Screen>) -> Outcome {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => panic!("{command:?}: {error}"),
    };
    let group = Pid::from_raw(child.id() as i32);
    *foreground() = Some(group);
    let stdout = child.stdout.take().map(collect);
    let stderr = match screen {
        Some(screen) => {
            // Closes our copy of the other end.
            command.stderr(Stdio::null());
            Some(collect(screen))
        }
        None => child.stderr.take().map(collect),
    };
    let deadline = Instant::now() + time_max;
    let outputs = [stdout, stderr].map(|output| output.and_then(|o| receive(&o, deadline)));
    let [Some(stdout), Some(stderr)] = outputs else {
        kill_group(group);
        panic!("{command:?}: not done after {time_max:?}");
    };
    let status = wait(&mut child);
    *foreground() = None;
    Outcome {
        code: status.code(),
        signal: status.signal(),
        stdout,
        stderr,
    }
}

/// Passes `signal` on to the command that [`run`] waits for, if there is one.
pub fn signal_foreground(signal: Signal) {
    if let Some(group) = *foreground() {
        // It may have ended by itself meanwhile.
        let _ = killpg(group, signal);
    }
}

static FOREGROUND: Mutex<Option<Pid>> = Mutex::new(None);

fn foreground() -> std::sync::MutexGuard<'static, Option<Pid>> {
    FOREGROUND.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kill_group(group: Pid) {
    // The panic that follows says what matters.
    let _ = killpg(group, Signal::SIGKILL);
}

fn wait(child: &mut Child) -> ExitStatus {
    match child.wait() {
        Ok(status) => status,
        Err(error) => panic!("wait for {}: {error}", child.id()),
    }
}

/// Reads all of `pipe` in a thread.
fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if pipe.read_to_end(&mut bytes).is_ok() {
            // Nobody listens after the deadline.
            let _ = sender.send(bytes);
        }
    });
    receiver
}

fn receive(output: &Receiver<Vec<u8>>, deadline: Instant) -> Option<Vec<u8>> {
    output
        .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        .ok()
}
