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

/// Keeps memory that was used once instead of giving it back and asking anew:
/// a compile takes some megabytes a few times over, and then we end.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn keep_memory() {
    use nix::libc;
    // As much as glibc takes for M_MMAP_THRESHOLD.
    const KEEP_BYTES: libc::c_int = 32 << 20;
    const GROW_BYTES: libc::c_int = 1 << 20;
    // SAFETY: sets parameters of the allocator; no other thread is there yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEEP_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEEP_BYTES);
        libc::mallopt(libc::M_TOP_PAD, GROW_BYTES);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Other allocators are left to themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_memory() {}
