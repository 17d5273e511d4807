//! Runs the user's own compiler, exactly as typed.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command as Process;

use nix::libc;
use nix::sys::signal::Signal;

use crate::local::compiler::Command;
use crate::local::signals::{self, Forwarding};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl ExitStatus {
    /// Of a child.
    pub fn of(status: std::process::ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => ExitStatus::Code(code),
            (None, Some(signal)) => ExitStatus::Signal(signal),
            (None, None) => ExitStatus::Code(1),
        }
    }

    /// As shells count it.
    pub fn code(self) -> i32 {
        match self {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal(signal) => 128 + signal,
        }
    }

    /// Ends this process the same way.
    pub fn end_this_process(self) -> ! {
        if let ExitStatus::Signal(signal) = self
            && let Ok(signal) = Signal::try_from(signal)
        {
            signals::die_by(signal);
        }
        std::process::exit(self.code())
    }
}

/// `command` as a process to be started.
pub fn prepare(command: &Command) -> Process {
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
pub fn exec(command: &Command) -> io::Error {
    let error = prepare(command).exec();
    if error.raw_os_error() != Some(libc::E2BIG) {
        return error;
    }
    // At the kernel's limit our own variables may be what is too much.
    without_own_variables(command).exec()
}

/// Runs it and waits, passing signals on.
///
/// # Errors
/// It can't be started.
pub fn run(command: &Command) -> io::Result<ExitStatus> {
    let forwarding = Forwarding::start();
    let mut child = match die_with_parent(prepare(command)).spawn() {
        Err(error) if error.raw_os_error() == Some(libc::E2BIG) => {
            die_with_parent(without_own_variables(command)).spawn()?
        }
        other => other?,
    };
    forwarding.forward_to(child.id());
    let ended = ExitStatus::of(child.wait()?);
    drop(forwarding);
    Ok(match signals::received() {
        Some(signal) => ExitStatus::Signal(signal as i32),
        None => ended,
    })
}

/// A compiler whose hgbuild was killed would finish an output that the build
/// has given up. SIGTERM, so that it takes its temporary files along.
#[cfg(target_os = "linux")]
pub fn die_with_parent(mut process: Process) -> Process {
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

/// Here the system has no such wish.
#[cfg(not(target_os = "linux"))]
pub fn die_with_parent(process: Process) -> Process {
    process
}

fn without_own_variables(command: &Command) -> Process {
    let mut process = prepare(&Command {
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
