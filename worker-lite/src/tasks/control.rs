//! Control of one running task, shared between its own thread and the link's: credit for
//! output, cancellation, and the process group to kill. Unaware of sockets and of files.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hg_proto::v1::Failure;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Control of one task: the link grants credit and cancels, the task's thread obeys.
#[derive(Debug)]
pub struct Control {
    state: Mutex<ControlState>,
    changed: Condvar,
    /// Readable once the task is cancelled.
    wake_read: UnixStream,
    wake_write: UnixStream,
}

#[derive(Debug)]
struct ControlState {
    credit_bytes: u64,
    /// Why, once the task is cancelled.
    cancelled: Option<Failure>,
    /// The compiler's process group, as long as its leader is not reaped: until
    /// then the number can't be given to somebody else.
    process_group: Option<Pid>,
}

/// Why no output may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCredit {
    /// The task was cancelled.
    Cancelled,
    /// The coordinator gave none for too long.
    TimedOut,
}

impl Control {
    /// For a task that may send `credit_bytes` of output before it is granted more.
    ///
    /// # Errors
    /// No file descriptors are left.
    pub fn new(credit_bytes: u64) -> io::Result<Self> {
        let (wake_read, wake_write) = UnixStream::pair()?;
        wake_write.set_nonblocking(true)?;
        Ok(Control {
            state: Mutex::new(ControlState {
                credit_bytes,
                cancelled: None,
                process_group: None,
            }),
            changed: Condvar::new(),
            wake_read,
            wake_write,
        })
    }

    // No code panics while it holds the lock, and the state is whole at any time.
    fn lock(&self) -> MutexGuard<'_, ControlState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grants credit for `bytes` more of output.
    pub fn credit(&self, bytes: u32) {
        let mut state = self.lock();
        state.credit_bytes = state.credit_bytes.saturating_add(bytes.into());
        self.changed.notify_all();
    }

    /// Cancels the task, which fails with `why`: kills its processes now, and those that it is
    /// about to start. The first reason stays.
    pub fn cancel(&self, why: Failure) {
        let mut state = self.lock();
        if state.cancelled.is_some() {
            return;
        }
        state.cancelled = Some(why);
        if let Some(group) = state.process_group {
            // Already gone is fine.
            let _ = killpg(group, Signal::SIGKILL);
        }
        self.changed.notify_all();
        let _ = (&self.wake_write).write(&[1]);
    }

    /// The failure that the task was cancelled with; `None`: it was not cancelled.
    pub fn cancelled(&self) -> Option<Failure> {
        self.lock().cancelled.clone()
    }

    /// Descriptor that is readable once the task is cancelled.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake_read.as_fd()
    }

    /// Empties [`Control::wake_fd`].
    pub fn clear_wake(&self) {
        let _ = (&self.wake_read).read(&mut [0; 8]);
    }

    /// Notes the compiler's process group, led by a child that is not reaped.
    pub fn set_process_group(&self, group: Pid) {
        let mut state = self.lock();
        state.process_group = Some(group);
        if state.cancelled.is_some() {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }

    /// The compiler's process group, as long as its leader is not reaped.
    pub fn process_group(&self) -> Option<Pid> {
        self.lock().process_group
    }

    /// Kills the process group, if there is one.
    pub fn kill(&self) {
        if let Some(group) = self.lock().process_group {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }

    /// Kills what is left of the process group and lets `reap` reap its leader. In between
    /// nobody can kill a group of that number, which may be another one by then.
    pub fn reap<T>(&self, reap: impl FnOnce() -> T) -> T {
        let mut state = self.lock();
        if let Some(group) = state.process_group.take() {
            let _ = killpg(group, Signal::SIGKILL);
        }
        reap()
    }

    /// Waits until some of `wanted_bytes` may be sent, and takes credit for them: at least one
    /// byte, unless none is wanted.
    ///
    /// # Errors
    /// The task was cancelled, or `patience` is over.
    pub fn take_credit(&self, wanted_bytes: usize, patience: Duration) -> Result<usize, NoCredit> {
        let until = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            if state.cancelled.is_some() {
                return Err(NoCredit::Cancelled);
            }
            if wanted_bytes == 0 || state.credit_bytes > 0 {
                let taken = (wanted_bytes as u64).min(state.credit_bytes);
                state.credit_bytes -= taken;
                return Ok(taken as usize);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NoCredit::TimedOut);
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_spent_once() {
        let control = Control::new(10).unwrap();
        let none = Duration::ZERO;
        assert_eq!(control.take_credit(8, none), Ok(8));
        assert_eq!(control.take_credit(8, none), Ok(2));
        assert_eq!(control.take_credit(8, none), Err(NoCredit::TimedOut));
        assert_eq!(control.take_credit(0, none), Ok(0));
        control.credit(1);
        assert_eq!(control.take_credit(8, none), Ok(1));
    }

    #[test]
    fn cancel_wakes_who_waits_for_credit() {
        let control = Control::new(0).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| control.take_credit(1, Duration::from_secs(600)));
            control.cancel(Failure::default());
            assert_eq!(waiter.join().unwrap(), Err(NoCredit::Cancelled));
        });
    }
}
