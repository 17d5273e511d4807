//! Runs the user's own compiler, exactly as typed.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command as Process, ExitStatus};

use nix::libc;
use nix::sys::signal::Signal;

use crate::local::compiler::Command;
use crate::local::signals::{self, Forwarding};

/// How a process of ours ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

impl Ended {
    /// Of a child.
    pub fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Ended::Exit(code),
            (None, Some(signal)) => Ended::Signal(signal),
            (None, None) => Ended::Exit(1),
        }
    }

    /// As shells count it.
    pub fn code(self) -> i32 {
        match self {
            Ended::Exit(code) => code,
            Ended::Signal(signal) => 128 + signal,
        }
    }

    /// Ends this process the same way.
    pub fn now(self) -> ! {
        if let Ended::Signal(signal) = self
            && let Ok(signal) = Signal::try_from(signal)
        {
            signals::die_by(signal);
        }
        std::process::exit(self.code())
    }
}

/// `command` as a process to be started.
pub fn process(command: &Command) -> Process {
    let mut process = Process::new(&command.program);
    process.arg0(&command.arg0).args(&command.args);
    if let Some(path) = &command.path {
        process.env("PATH", path);
    }
    process.envs(command.marks.iter().map(|(name, value)| (name, value)));
    process
}

/// Takes the compiler's place: it is this process from here on.
/// Returns only when that can't be.
pub fn become_it(command: &Command) -> io::Error {
    let error = process(command).exec();
    if error.raw_os_error() != Some(libc::E2BIG) {
        return error;
    }
    // At the kernel's limit our own variables may be what is too much.
    without_ours(command).exec()
}

/// Runs it and waits, passing signals on.
///
/// # Errors
/// It can't be started.
pub fn run(command: &Command) -> io::Result<Ended> {
    let forwarding = Forwarding::start();
    let mut child = match end_with_us(process(command)).spawn() {
        Err(error) if error.raw_os_error() == Some(libc::E2BIG) => {
            end_with_us(without_ours(command)).spawn()?
        }
        other => other?,
    };
    forwarding.to(child.id());
    let ended = Ended::of(child.wait()?);
    drop(forwarding);
    Ok(match signals::seen() {
        Some(signal) => Ended::Signal(signal as i32),
        None => ended,
    })
}

/// A compiler whose hgbuild was killed would finish an output that the build
/// has given up. SIGTERM, so that it takes its temporary files along.
pub fn end_with_us(mut process: Process) -> Process {
    #[cfg(target_os = "linux")]
    // SAFETY: one system call, which may be made between fork and exec.
    unsafe {
        process.pre_exec(|| {
            // Without it only that protection is lost.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
    process
}

fn without_ours(command: &Command) -> Process {
    let mut process = process(&Command {
        marks: Vec::new(),
        ..command.clone()
    });
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"HG_") {
            process.env_remove(name);
        }
    }
    process
}
