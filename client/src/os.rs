//! Bytes and the operating system's strings.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// On Unix an argument is bytes.
pub fn from_bytes(bytes: Vec<u8>) -> OsString {
    OsString::from_vec(bytes)
}

/// On Unix an argument is bytes.
pub fn bytes(text: &OsStr) -> &[u8] {
    text.as_bytes()
}

/// Room for a megabyte, so that writer and reader take fewer turns.
#[cfg(target_os = "linux")]
pub fn widen_pipe(pipe: impl AsFd) {
    // Only a matter of speed.
    let _ = nix::fcntl::fcntl(pipe, nix::fcntl::FcntlArg::F_SETPIPE_SZ(1 << 20));
}

/// The size of a pipe is fixed here.
#[cfg(not(target_os = "linux"))]
pub fn widen_pipe(_pipe: impl AsFd) {}
