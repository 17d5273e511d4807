//! Bytes and the operating system's strings.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// On Unix an argument is bytes.
pub fn from_bytes(bytes: Vec<u8>) -> OsString {
    OsString::from_vec(bytes)
}

/// On Unix an argument is bytes.
pub fn bytes(text: &OsStr) -> &[u8] {
    text.as_bytes()
}

/// Starts a child that can write no file of more than `bytes`; no other thread
/// of ours may be writing one meanwhile.
pub fn with_file_size_limit<T>(bytes: u64, start: impl FnOnce() -> T) -> T {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_FSIZE) else {
        return start();
    };
    let lowered = setrlimit(Resource::RLIMIT_FSIZE, soft.min(bytes), hard).is_ok();
    let started = start();
    if lowered {
        // A soft limit may always go back up to the hard one.
        let _ = setrlimit(Resource::RLIMIT_FSIZE, soft, hard);
    }
    started
}

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
