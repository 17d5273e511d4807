//! While a compiler of ours runs, a signal to us is a signal to it; afterwards
//! we end by the same signal, so that make and shells see what they would have
//! seen without us.

use std::sync::atomic::{AtomicI32, Ordering};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, raise, sigaction};
use nix::unistd::Pid;

static CHILD: AtomicI32 = AtomicI32::new(0);
static SEEN: AtomicI32 = AtomicI32::new(0);

const FORWARDED: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
];

/// A child that gets our signals until this is dropped.
pub struct Forwarding {
    old: Vec<(Signal, SigAction)>,
}

extern "C" fn forward(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    SEEN.store(signal, Ordering::SeqCst);
    let child = CHILD.load(Ordering::SeqCst);
    // SAFETY: the kernel gives a valid siginfo to an SA_SIGINFO handler.
    let from_terminal = unsafe { (*info).si_code } > 0;
    // A terminal signals the whole group: the child has it already, and make
    // would take a second one for impatience.
    if child > 0 && !from_terminal {
        // SAFETY: kill is async-signal-safe.
        unsafe { libc::kill(child, signal) };
    }
}

impl Forwarding {
    /// To be called before the child is started, so that none is missed.
    pub fn start() -> Self {
        let action = SigAction::new(
            SigHandler::SigAction(forward),
            SaFlags::SA_RESTART | SaFlags::SA_SIGINFO,
            SigSet::empty(),
        );
        let mut old = Vec::new();
        for signal in FORWARDED {
            // SAFETY: the handler calls async-signal-safe functions only.
            if let Ok(before) = unsafe { sigaction(signal, &action) } {
                if matches!(before.handler(), SigHandler::SigIgn) {
                    // Ignored by whoever started us (nohup): it stays so.
                    let _ = unsafe { sigaction(signal, &before) };
                } else {
                    old.push((signal, before));
                }
            }
        }
        Forwarding { old }
    }

    /// The child is `pid`. A signal that came before it was known is passed on.
    pub fn forward_to(&self, pid: u32) {
        CHILD.store(pid as i32, Ordering::SeqCst);
        if let Some(signal) = received() {
            let _ = kill(Pid::from_raw(pid as i32), signal);
        }
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        CHILD.store(0, Ordering::SeqCst);
        for (signal, before) in &self.old {
            // SAFETY: restores what was there.
            let _ = unsafe { sigaction(*signal, before) };
        }
    }
}

/// The signal that came while a child ran.
pub fn received() -> Option<Signal> {
    Signal::try_from(SEEN.load(Ordering::SeqCst)).ok()
}

/// Ends this process by `signal`; returns only if the signal is not deadly.
pub fn die_by(signal: Signal) {
    // A core of ours would be taken for the compiler's.
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is installed.
    let _ = unsafe { sigaction(signal, &default) };
    let mut only = SigSet::empty();
    only.add(signal);
    let _ = only.thread_unblock();
    let _ = raise(signal);
}

/// Runs `step` with those signals held back that would end us in between.
pub fn with_signals_held<T>(step: impl FnOnce() -> T) -> T {
    let mut held = SigSet::empty();
    for signal in FORWARDED {
        held.add(signal);
    }
    let _ = held.thread_block();
    let done = step();
    let _ = held.thread_unblock();
    done
}
