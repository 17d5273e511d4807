//! Bytes and the operating system's strings.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// On Unix an argument is bytes.
pub fn from_bytes(bytes: Vec<u8>) -> OsString {
    OsString::from_vec(bytes)
}

/// On Unix an argument is bytes.
pub fn bytes(text: &OsStr) -> &[u8] {
    text.as_bytes()
}

/// Device and inode of what `path` leads to.
pub fn place(path: &Path) -> Option<(u64, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// `$PWD` as gcc and clang believe it: an absolute path that leads to the working
/// directory. They ignore any other, such as the one that `make -C` leaves behind.
pub fn pwd() -> Option<OsString> {
    let pwd = std::env::var_os("PWD").filter(|pwd| bytes(pwd).starts_with(b"/"))?;
    let there = place(Path::new(&pwd))?;
    (place(Path::new(".")) == Some(there)).then_some(pwd)
}

/// Starts a child that can write no file of more than `bytes`; no other thread
/// of ours may be writing one meanwhile.
pub fn with_file_size_limit<T>(bytes: u64, start: impl FnOnce() -> T) -> T {
    use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_FSIZE) else {
        return start();
    };
    // 32 bits on some targets.
    let wanted = rlim_t::try_from(bytes).unwrap_or(soft);
    let lowered = setrlimit(Resource::RLIMIT_FSIZE, soft.min(wanted), hard).is_ok();
    let started = start();
    if lowered {
        // A soft limit may always go back up to the hard one.
        let _ = setrlimit(Resource::RLIMIT_FSIZE, soft, hard);
    }
    started
}

/// Whether files may not grow as they like: writing more would end us.
pub fn file_size_limit() -> bool {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
    getrlimit(Resource::RLIMIT_FSIZE).is_ok_and(|(soft, _)| soft != RLIM_INFINITY)
}

/// The file in a run folder for [`claim`]s of what one process learns for all.
pub const TURNS: &str = "turns";

/// Takes `paths` for this process, until the file is dropped: bytes of the file
/// `locks` are locked that stand for them. `None`: another process has one.
#[cfg(target_os = "linux")]
pub fn claim(locks: &Path, paths: &[PathBuf]) -> Option<File> {
    use nix::fcntl::{FcntlArg, fcntl};
    use std::io;

    use nix::libc;
    use xxhash_rust::xxh3::xxh3_64;

    use crate::private;
    let mut options = private::options();
    options.write(true).create(true).truncate(false);
    let file = match options.open(locks) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            private::make(locks.parent()?).ok()?;
            options.open(locks).ok()?
        }
        other => other.ok()?,
    };
    for path in paths {
        // 32 bits on some targets, and never negative.
        let hash = xxh3_64(bytes(path.as_os_str())) >> 2;
        let place = hash as libc::off_t & (libc::off_t::MAX >> 1);
        let lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: place,
            l_len: 1,
            l_pid: 0,
        };
        fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).ok()?;
    }
    Some(file)
}

/// There are no such locks here; the outputs' times have to do.
#[cfg(not(target_os = "linux"))]
pub fn claim(_locks: &Path, _paths: &[PathBuf]) -> Option<File> {
    File::open("/dev/null").ok()
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
