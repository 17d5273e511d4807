//! Ctrl-C is noted and acted on between two looks at a step: what was started is
//! ended first, in the order in which it is dropped.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static SEEN: AtomicBool = AtomicBool::new(false);

/// Notes the signals that end a program, from now on.
///
/// # Errors
/// The system does not let us.
pub fn catch() -> nix::Result<()> {
    let action = SigAction::new(
        SigHandler::Handler(note),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does nothing but an atomic store.
        unsafe { sigaction(signal, &action)? };
    }
    Ok(())
}

/// Whether such a signal came.
pub fn seen() -> bool {
    SEEN.load(Ordering::SeqCst)
}

extern "C" fn note(_signal: i32) {
    SEEN.store(true, Ordering::SeqCst);
}
