//! Rules on which files a process may touch, where it can't have a root of its own:
//! Landlock (landlock(7), Linux 5.13). Unaware of what the files are.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

/// System call numbers, the same on every architecture.
const CREATE_RULESET: libc::c_long = 444;
const ADD_RULE: libc::c_long = 445;
const RESTRICT_SELF: libc::c_long = 446;
/// Flag of `CREATE_RULESET`: asks for the version of Landlock.
const VERSION: u32 = 1;
/// Type of rule: a file, or a folder and all below it.
const PATH_BENEATH: u32 = 1;

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
/// Every right of version 1: also to make devices, sockets, pipes and links, which no
/// rule allows.
const VERSION_1: u64 = (1 << 13) - 1;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEVICE: u64 = 1 << 15;
/// To bind and to connect TCP sockets.
const NETWORK: u64 = 3;
/// Abstract sockets of processes outside, and signals to them.
const SCOPED: u64 = 3;

/// What may be done with a file or folder that a rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Read, list, run.
    ReadAndRun,
    /// Read, list, write, make and remove files and folders; not run.
    ReadAndWrite,
    /// Read and write a device.
    Device,
}

impl Right {
    fn bits(self, is_dir: bool) -> u64 {
        let of_files = match self {
            Right::ReadAndRun => EXECUTE | READ_FILE,
            Right::ReadAndWrite => READ_FILE | WRITE_FILE | TRUNCATE,
            Right::Device => READ_FILE | WRITE_FILE,
        };
        let of_folders = match self {
            Right::ReadAndRun => READ_DIR,
            Right::ReadAndWrite => {
                READ_DIR | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER
            }
            Right::Device => 0,
        };
        of_files | if is_dir { of_folders } else { 0 }
    }
}

/// `struct landlock_ruleset_attr`; a kernel that knows fewer fields takes the rest
/// if it is zero.
#[repr(C)]
struct Attributes {
    files: u64,
    network: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathRule {
    allowed: u64,
    folder: i32,
}

/// A set of rules; what none of them allows is forbidden.
#[derive(Debug)]
pub struct Ruleset {
    ruleset: OwnedFd,
    /// Rights that this kernel's Landlock knows.
    handled: u64,
    /// Processes outside can't be sent signals.
    pub scopes_signals: bool,
}

/// Version of the kernel's Landlock.
///
/// # Errors
/// The kernel has none, or it is switched off.
pub fn version() -> io::Result<i64> {
    // SAFETY: with this flag the call reads no memory of ours.
    let version = unsafe {
        libc::syscall(
            CREATE_RULESET,
            std::ptr::null::<Attributes>(),
            0usize,
            VERSION,
        )
    };
    match version {
        1.. => Ok(version as i64),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Ruleset {
    /// A set without rules: everything is forbidden.
    ///
    /// # Errors
    /// There is no Landlock.
    pub fn new() -> io::Result<Self> {
        let version = version()?;
        let from = |first, bits| if version >= first { bits } else { 0 };
        let handled = VERSION_1 | from(2, REFER) | from(3, TRUNCATE) | from(5, IOCTL_DEVICE);
        let attributes = Attributes {
            files: handled,
            network: from(4, NETWORK),
            scoped: from(6, SCOPED),
        };
        // SAFETY: the kernel reads as many bytes as it is told.
        let fd = unsafe {
            libc::syscall(
                CREATE_RULESET,
                &raw const attributes,
                std::mem::size_of::<Attributes>(),
                0u32,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Ruleset {
            // SAFETY: a descriptor that the kernel just made and nobody else has.
            ruleset: unsafe { OwnedFd::from_raw_fd(fd as i32) },
            handled,
            scopes_signals: version >= 6,
        })
    }

    /// Allows `right` at `path`, and below it if it is a folder.
    ///
    /// # Errors
    /// `path` does not exist.
    pub fn allow(&mut self, path: &Path, right: Right) -> io::Result<()> {
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
            .open(path)?;
        let is_dir = file.metadata()?.is_dir();
        let rule = PathRule {
            allowed: right.bits(is_dir) & self.handled,
            folder: file.as_raw_fd(),
        };
        // SAFETY: the kernel reads the rule, which outlives the call.
        let added = unsafe {
            libc::syscall(
                ADD_RULE,
                self.ruleset.as_raw_fd(),
                PATH_BENEATH,
                &raw const rule,
                0u32,
            )
        };
        match added {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Confines the calling thread and all that it will start, for good. Makes two
    /// system calls and nothing else: fit for a fresh child.
    ///
    /// # Errors
    /// The kernel does not let us.
    pub fn restrict(&self) -> io::Result<()> {
        // SAFETY: plain system calls with numbers.
        let restricted = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::syscall(RESTRICT_SELF, self.ruleset.as_raw_fd(), 0u32) == 0
        };
        match restricted {
            true => Ok(()),
            false => Err(io::Error::last_os_error()),
        }
    }
}
