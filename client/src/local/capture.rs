//! Runs the user's own compiler as typed, and captures what it writes while the user
//! sees it too. It must not notice: where stderr is a terminal, so is what it
//! gets.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command as Process, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::local::compiler::Command;
use crate::local::memory_file::scratch;
use crate::local::process::{self, ExitStatus};
use crate::local::signals::{self, Forwarding};
use crate::local::terminal;

/// Milliseconds between two looks whether the compiler has ended, while it says
/// nothing on a terminal.
const LOOK_MS: u16 = 10;

/// How a compiler ended, and what it wrote.
#[derive(Debug)]
pub struct Said {
    /// How it ended.
    pub ended: ExitStatus,
    /// Whether it wrote to stdout.
    pub stdout: bool,
    /// All that it wrote to stderr.
    pub stderr: Vec<u8>,
}

/// Runs `command` with `environment` added, and passes on what it says.
///
/// # Errors
/// It can't be started, or there is nothing to capture it with; then nothing ran.
pub fn run(command: &Command, environment: &[(&str, OsString)]) -> io::Result<Said> {
    let mut process = process::die_with_parent(process::prepare(command));
    process.envs(environment.iter().map(|(name, value)| (name, value)));
    let mut stdout = scratch()?;
    process.stdout(stdout.try_clone()?);
    let capture = Capture::new()?;
    process.stderr(capture.writing_end()?);
    let forwarding = Forwarding::start();
    let child = process.spawn()?;
    // Holds our copies of what the child writes to.
    drop(process);
    forwarding.forward_to(child.id());
    let (ended, stderr) = capture.wait_and_read(child)?;
    drop(forwarding);
    let wrote = stdout.metadata()?.len() > 0;
    if wrote {
        stdout.rewind()?;
        // Nobody may be reading; the compiler would not have known either.
        let _ = io::copy(&mut stdout, &mut io::stdout());
    }
    Ok(Said {
        ended: match signals::received() {
            Some(signal) => ExitStatus::Signal(signal as i32),
            None => ended,
        },
        stdout: wrote,
        stderr,
    })
}

/// What `process` writes to a terminal like ours. Nobody else sees it.
///
/// # Errors
/// It can't be started, or there is no terminal.
pub fn on_hidden_terminal(mut process: Process) -> io::Result<Vec<u8>> {
    let (ours, theirs) = terminal::like(&io::stderr())?;
    let child = process.stdout(Stdio::null()).stderr(theirs).spawn()?;
    // Holds our copy of what the child writes to.
    drop(process);
    read_terminal(&mut File::from(ours), child, &mut io::sink()).map(|(_, said)| said)
}

/// What takes the place of the compiler's stderr.
enum Capture {
    File(File),
    Terminal { ours: OwnedFd, theirs: OwnedFd },
}

impl Capture {
    fn new() -> io::Result<Self> {
        let stderr = io::stderr();
        if !stderr.is_terminal() {
            return Ok(Capture::File(scratch()?));
        }
        let (ours, theirs) = terminal::like(&stderr)?;
        Ok(Capture::Terminal { ours, theirs })
    }

    fn writing_end(&self) -> io::Result<Stdio> {
        Ok(match self {
            Capture::File(file) => file.try_clone()?.into(),
            Capture::Terminal { theirs, .. } => theirs.try_clone()?.into(),
        })
    }

    fn wait_and_read(self, mut child: Child) -> io::Result<(ExitStatus, Vec<u8>)> {
        match self {
            Capture::File(mut file) => {
                let ended = ExitStatus::of(child.wait()?);
                let mut said = Vec::new();
                file.rewind()?;
                file.read_to_end(&mut said)?;
                let _ = io::stderr().write_all(&said);
                Ok((ended, said))
            }
            Capture::Terminal { ours, theirs } => {
                drop(theirs);
                read_terminal(&mut File::from(ours), child, &mut io::stderr())
            }
        }
    }
}

/// Passes what comes from `terminal` on to `listener` at once, since somebody watches,
/// until `child` has ended.
fn read_terminal(
    terminal: &mut File,
    mut child: Child,
    listener: &mut impl Write,
) -> io::Result<(ExitStatus, Vec<u8>)> {
    let mut said = Vec::new();
    let mut ended = None;
    loop {
        let mut waiting = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
        let wait = match ended {
            Some(_) => PollTimeout::ZERO,
            None => PollTimeout::from(LOOK_MS),
        };
        let ready = poll(&mut waiting, wait).unwrap_or(0);
        let mut buffer = [0; 4096];
        // An error is how a terminal says that nobody can write to it any more.
        let read = match ready {
            0 => 0,
            _ => terminal.read(&mut buffer).unwrap_or(0),
        };
        if read > 0 {
            said.extend_from_slice(&buffer[..read]);
            let _ = listener.write_all(&buffer[..read]);
        } else if let Some(ended) = ended {
            return Ok((ended, said));
        } else {
            ended = match ready {
                0 => child.try_wait()?.map(ExitStatus::of),
                _ => Some(ExitStatus::of(child.wait()?)),
            };
        }
    }
}
