//! SIGTERM and SIGINT as bytes in a socket pair. Unaware of what they lead to.

use std::io;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static WRITING_END: AtomicI32 = AtomicI32::new(-1);

extern "C" fn forward(_: libc::c_int) {
    let byte = 1u8;
    // SAFETY: write is allowed in a handler, and the descriptor is never closed.
    unsafe {
        libc::write(
            WRITING_END.load(Ordering::Relaxed),
            std::ptr::from_ref(&byte).cast(),
            1,
        );
    }
}

/// Turns each SIGTERM or SIGINT from now on into a byte to be read from the result.
///
/// # Errors
/// No descriptors are left.
pub fn listen() -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    write.set_nonblocking(true)?;
    debug_assert!(write.as_raw_fd() >= 0);
    WRITING_END.store(write.into_raw_fd(), Ordering::Relaxed);
    let action = SigAction::new(
        SigHandler::Handler(forward),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // SAFETY: the handler does nothing but write.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(read)
}
