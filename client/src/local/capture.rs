//! Runs the user's own compiler as typed, and hears what it says while the user
//! hears it too. It must not notice: where stderr is a terminal, so is what it
//! gets.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command as Process, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::local::compiler::Command;
use crate::local::memory_file::scratch;
use crate::local::process::{self, Ended};
use crate::local::signals::{self, Forwarding};
use crate::local::terminal;

/// Milliseconds between two looks whether the compiler has ended, while it says
/// nothing on a terminal.
const LOOK_MS: u16 = 10;

/// How a compiler ended, and what it said.
#[derive(Debug)]
pub struct Said {
    /// How it ended.
    pub ended: Ended,
    /// Whether it wrote to stdout.
    pub stdout: bool,
    /// All that it wrote to stderr.
    pub stderr: Vec<u8>,
}

/// Runs `command` with `environment` added, and passes on what it says.
///
/// # Errors
/// It can't be started, or there is nothing to hear it with; then nothing ran.
pub fn run(command: &Command, environment: &[(&str, OsString)]) -> io::Result<Said> {
    let mut process = process::end_with_us(process::process(command));
    process.envs(environment.iter().map(|(name, value)| (name, value)));
    let mut stdout = scratch()?;
    process.stdout(stdout.try_clone()?);
    let ear = Ear::new()?;
    process.stderr(ear.mouth()?);
    let forwarding = Forwarding::start();
    let child = process.spawn()?;
    // Holds our copies of what the child writes to.
    drop(process);
    forwarding.to(child.id());
    let (ended, stderr) = ear.hear(child)?;
    drop(forwarding);
    let wrote = stdout.metadata()?.len() > 0;
    if wrote {
        stdout.rewind()?;
        // Nobody may be reading; the compiler would not have known either.
        let _ = io::copy(&mut stdout, &mut io::stdout());
    }
    Ok(Said {
        ended: match signals::seen() {
            Some(signal) => Ended::Signal(signal as i32),
            None => ended,
        },
        stdout: wrote,
        stderr,
    })
}

/// What `process` says to a terminal like ours. Nobody else hears it.
///
/// # Errors
/// It can't be started, or there is no terminal.
pub fn overhear(mut process: Process) -> io::Result<Vec<u8>> {
    let (ours, theirs) = terminal::like(&io::stderr())?;
    let child = process.stdout(Stdio::null()).stderr(theirs).spawn()?;
    // Holds our copy of what the child writes to.
    drop(process);
    hear_terminal(&mut File::from(ours), child, &mut io::sink()).map(|(_, said)| said)
}

/// What takes the place of the compiler's stderr.
enum Ear {
    File(File),
    Terminal { ours: OwnedFd, theirs: OwnedFd },
}

impl Ear {
    fn new() -> io::Result<Self> {
        let stderr = io::stderr();
        if !stderr.is_terminal() {
            return Ok(Ear::File(scratch()?));
        }
        let (ours, theirs) = terminal::like(&stderr)?;
        Ok(Ear::Terminal { ours, theirs })
    }

    fn mouth(&self) -> io::Result<Stdio> {
        Ok(match self {
            Ear::File(file) => file.try_clone()?.into(),
            Ear::Terminal { theirs, .. } => theirs.try_clone()?.into(),
        })
    }

    fn hear(self, mut child: Child) -> io::Result<(Ended, Vec<u8>)> {
        match self {
            Ear::File(mut file) => {
                let ended = Ended::of(child.wait()?);
                let mut said = Vec::new();
                file.rewind()?;
                file.read_to_end(&mut said)?;
                let _ = io::stderr().write_all(&said);
                Ok((ended, said))
            }
            Ear::Terminal { ours, theirs } => {
                drop(theirs);
                hear_terminal(&mut File::from(ours), child, &mut io::stderr())
            }
        }
    }
}

/// Passes words on to `listener` as they come; somebody watches.
fn hear_terminal(
    terminal: &mut File,
    mut child: Child,
    listener: &mut impl Write,
) -> io::Result<(Ended, Vec<u8>)> {
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
                0 => child.try_wait()?.map(Ended::of),
                _ => Some(Ended::of(child.wait()?)),
            };
        }
    }
}
