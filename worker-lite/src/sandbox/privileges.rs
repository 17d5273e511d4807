//! Privileges of a process and how it gives them up; resource limits. Fit for a fresh
//! child: system calls and nothing else.

use std::io;

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::sandbox::totals::Totals;

/// Open files of one process.
const OPEN_FILES_MAX: u64 = 1024;

/// Limits on each process of a compile, and on the compile as a whole.
#[derive(Debug, Clone, Copy)]
pub struct ResourceLimits {
    /// Bytes of address space of each process.
    pub memory_bytes_max: u64,
    /// Bytes of each file.
    pub file_bytes_max: u64,
    /// Seconds of processor time of each process.
    pub cpu_s_max: u64,
    /// Nice value: how far below other programs it runs, 0 to 19.
    pub nice: i32,
    /// What all its processes may use together.
    pub totals: Totals,
}

impl ResourceLimits {
    /// Lowers the limits of the calling process to these; `processes_max`: also that on the
    /// processes of its user, where the kernel counts those of one compile alone.
    ///
    /// # Errors
    /// The kernel says no.
    pub fn apply(&self, processes_max: Option<u64>) -> io::Result<()> {
        limit(Resource::RLIMIT_CORE, 0)?;
        limit(Resource::RLIMIT_FSIZE, self.file_bytes_max)?;
        limit(Resource::RLIMIT_AS, self.memory_bytes_max)?;
        limit(Resource::RLIMIT_CPU, self.cpu_s_max)?;
        limit(Resource::RLIMIT_NOFILE, OPEN_FILES_MAX)?;
        #[cfg(target_os = "linux")]
        if let Some(max) = processes_max {
            limit(Resource::RLIMIT_NPROC, max)?;
        }
        #[cfg(not(target_os = "linux"))]
        let _ = processes_max;
        // Courtesy only: a system that does not let us goes on without.
        // SAFETY: plain system calls.
        unsafe {
            libc::nice(self.nice);
        }
        lower_io_priority();
        prefer_as_oom_victim();
        Ok(())
    }
}

/// Lowers a limit to `max`, or leaves it where it is lower already.
fn limit(resource: Resource, max: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    // Not useless where the type has 32 bits.
    #[allow(clippy::useless_conversion)]
    let max = libc::rlim_t::try_from(max).unwrap_or(libc::RLIM_INFINITY);
    let max = max.min(hard);
    Ok(setrlimit(resource, max, max)?)
}

/// Lets other programs read and write first: best effort, class 2, at its lowest priority,
/// 7 (ioprio_set(2)).
#[cfg(target_os = "linux")]
fn lower_io_priority() {
    const WHO_PROCESS: libc::c_int = 1;
    const BEST_EFFORT_LOWEST: libc::c_int = (2 << 13) | 7;
    // SAFETY: a plain system call with three numbers; 0 is the caller.
    unsafe {
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, BEST_EFFORT_LOWEST);
    }
}

#[cfg(not(target_os = "linux"))]
fn lower_io_priority() {}

/// Lets the kernel kill a compile before anything else on the machine when memory runs out.
#[cfg(target_os = "linux")]
fn prefer_as_oom_victim() {
    // SAFETY: plain system calls on a constant path and a constant text.
    unsafe {
        let file = libc::open(
            c"/proc/self/oom_score_adj".as_ptr(),
            libc::O_WRONLY | libc::O_CLOEXEC,
        );
        if file >= 0 {
            libc::write(file, c"1000".as_ptr().cast(), 4);
            libc::close(file);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn prefer_as_oom_victim() {}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    /// capabilities(7) that a worker of root's needs to give compiles a user of
    /// their own and to get their files back: CHOWN, DAC_OVERRIDE, KILL, SETGID,
    /// SETUID.
    const TO_CHANGE_OWNERS: u64 = 1 | 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7;
    /// capget(2): the version with 64 capabilities.
    const VERSION_3: u32 = 0x2008_0522;

    #[cfg(not(target_arch = "arm"))]
    const SET_IDENTITY: [libc::c_long; 3] = [
        libc::SYS_setgroups,
        libc::SYS_setresgid,
        libc::SYS_setresuid,
    ];
    #[cfg(target_arch = "arm")]
    const SET_IDENTITY: [libc::c_long; 3] = [
        libc::SYS_setgroups32,
        libc::SYS_setresgid32,
        libc::SYS_setresuid32,
    ];

    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }

    /// Capabilities of this process, effective, permitted or inheritable, as bits; `None`:
    /// they can't be told.
    pub fn capabilities() -> Option<u64> {
        let mut header = Header {
            version: VERSION_3,
            pid: 0,
        };
        let mut sets = [0u32; 6];
        // SAFETY: both places are as large as version 3 of the call wants them.
        let got = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
        let [a, b, c, d, e, f] = sets.map(u64::from);
        (got == 0).then_some((a | b | c) | (d | e | f) << 32)
    }

    /// Whether this process is root and may give files and processes to another user.
    pub fn can_change_owners() -> bool {
        // SAFETY: a plain system call.
        let is_root = unsafe { libc::geteuid() } == 0;
        is_root && capabilities().is_some_and(|held| held & TO_CHANGE_OWNERS == TO_CHANGE_OWNERS)
    }

    /// Becomes `user` and its group alone. By the system calls themselves: the C
    /// library's own would reach for threads that a fresh child has not got.
    ///
    /// # Errors
    /// The kernel says no.
    pub fn become_user(user: u32) -> io::Result<()> {
        let [setgroups, setresgid, setresuid] = SET_IDENTITY;
        // SAFETY: system calls with numbers; no group is read from the null.
        let became = unsafe {
            libc::syscall(setgroups, 0usize, std::ptr::null::<u32>()) == 0
                && libc::syscall(setresgid, user, user, user) == 0
                && libc::syscall(setresuid, user, user, user) == 0
        };
        os_result(became)
    }

    /// Gives up every capability, and those that programs could bring: no program gets new
    /// privileges from then on (no_new_privs).
    ///
    /// # Errors
    /// The kernel says no.
    pub fn drop_capabilities() -> io::Result<()> {
        let mut capability: libc::c_ulong = 0;
        // SAFETY: plain system calls with numbers.
        unsafe {
            while libc::prctl(libc::PR_CAPBSET_READ, capability) >= 0 {
                // A process that may not drop them can't use them either, since it gets no
                // new privileges.
                libc::prctl(libc::PR_CAPBSET_DROP, capability);
                capability += 1;
            }
        }
        let header = Header {
            version: VERSION_3,
            pid: 0,
        };
        let none = [0u32; 6];
        // SAFETY: both places are as large as version 3 of the call wants them.
        let dropped = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) == 0
        };
        os_result(dropped)
    }

    /// Lets the kernel kill the caller when the thread that started it ends.
    ///
    /// # Errors
    /// The kernel says no.
    pub fn die_with_parent() -> io::Result<()> {
        // SAFETY: a plain system call.
        os_result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } == 0)
    }

    /// The outcome of system calls, which errno explains if one failed.
    fn os_result(succeeded: bool) -> io::Result<()> {
        match succeeded {
            true => Ok(()),
            false => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(target_os = "linux")]
pub use linux::{become_user, can_change_owners, capabilities, die_with_parent, drop_capabilities};
