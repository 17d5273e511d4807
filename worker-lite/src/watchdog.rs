//! A process beside the worker that outlives it: when the worker has ended without clearing
//! up (kill -9, out of memory), it kills the compiles that are left, and removes their
//! folders. A compiler's driver dies with the worker by itself, but the programs that it
//! runs do not.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::path::Path;

use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, setsid};

use crate::files::scratch;
use crate::files::state;

/// Handle of the watching process, which ends with the worker, or when this is dropped.
#[derive(Debug)]
pub struct Watchdog {
    pid: Pid,
    /// Closes when the worker ends, whatever ends it.
    alive: Option<PipeWriter>,
}

impl Watchdog {
    /// Starts the process, for compiles whose folders are in `tasks`. The worker may have no
    /// other thread yet.
    ///
    /// The child keeps the descriptors that are open, the lock on the state
    /// folder among them: no other worker starts there before it is done.
    ///
    /// # Errors
    /// No descriptors or processes are left.
    pub fn start(tasks: &Path) -> io::Result<Self> {
        let (watched, alive) = io::pipe()?;
        // SAFETY: this process has one thread, so the child may do all it could.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(Watchdog {
                pid: child,
                alive: Some(alive),
            }),
            ForkResult::Child => {
                drop(alive);
                watch(watched, tasks);
                // SAFETY: ends the child without the worker's own clearing up.
                unsafe { libc::_exit(0) }
            }
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.alive = None;
        // So that nothing of the worker is left when it has ended.
        let _ = waitpid(self.pid, None);
    }
}

fn watch(mut watched: PipeReader, tasks: &Path) {
    // A terminal's Ctrl-C is for the worker, which drains first.
    let _ = setsid();
    for ignored in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        // SAFETY: no handler is installed.
        let _ = unsafe { signal(ignored, SigHandler::SigIgn) };
    }
    // The state folder may be removed before the worker ends.
    let elsewhere = std::fs::read_link(tasks).ok();
    let mut byte = [0];
    while watched.read(&mut byte).is_ok_and(|read| read > 0) {}
    state::kill_leftovers(tasks);
    // Folders that are left in memory would cost more than on a disk.
    let _ = scratch::clear(tasks, elsewhere.as_deref());
}
