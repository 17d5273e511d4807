//! The system calls that a compiler may make, as a filter for the kernel (seccomp(2)).
//! A call that is not listed fails with ENOSYS, which programs are ready for, since a
//! kernel may be older than they are. Linux on x86_64, aarch64 and arm: there are no lists,
//! and so no filters, for other architectures.

use std::io;

use nix::libc::{self, c_long};

/// Instructions of classic BPF that are used here (linux/bpf_common.h).
const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
/// Offsets of the fields of `struct seccomp_data`. The low half of an argument comes first
/// on every architecture that is listed here.
const AT_NUMBER: u32 = 0;
const AT_ARCHITECTURE: u32 = 4;
const AT_ARGUMENTS: u32 = 16;
const _: () = assert!(cfg!(target_endian = "little"));

/// Number of the architecture (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(target_arch = "arm")]
const ARCHITECTURE: u32 = 0x4000_0028;

/// Number of rseq(2), for which libc has no name on arm with musl.
#[cfg(target_arch = "arm")]
const SYS_RSEQ: c_long = 398;
#[cfg(not(target_arch = "arm"))]
const SYS_RSEQ: c_long = libc::SYS_rseq;

/// Flags of clone(2) that each make a new namespace; the last one is CLONE_NEWTIME
/// (linux/sched.h).
const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32
    | 0x80;

/// Calls of every architecture: files, memory, time, processes of one's own. No sockets,
/// no mounts, no links, no memory of other processes.
const CALLS: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_mkdirat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_utimensat,
    libc::SYS_umask,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    SYS_RSEQ,
    libc::SYS_membarrier,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getrusage,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_execve,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getgroups,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getpgid,
    libc::SYS_capget,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrandom,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    #[cfg(not(target_arch = "arm"))]
    libc::SYS_mmap,
    #[cfg(not(target_arch = "arm"))]
    libc::SYS_newfstatat,
    #[cfg(not(target_arch = "arm"))]
    libc::SYS_fadvise64,
];

/// Older spellings of calls, and calls that only this architecture has.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE_CALLS: &[c_long] = &[
    libc::SYS_renameat,
    libc::SYS_getrlimit,
    libc::SYS_setrlimit,
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_chmod,
    libc::SYS_getdents,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_getpgrp,
    libc::SYS_alarm,
    libc::SYS_time,
    libc::SYS_utimes,
    libc::SYS_arch_prctl,
];
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE_CALLS: &[c_long] = &[
    38,  // renameat
    163, // getrlimit
    164, // setrlimit
];
/// The last two are private to the architecture (asm/unistd.h): cacheflush and set_tls.
#[cfg(target_arch = "arm")]
const ARCHITECTURE_CALLS: &[c_long] = &[
    libc::SYS_renameat,
    libc::SYS_setrlimit,
    libc::SYS_mmap2,
    libc::SYS__llseek,
    libc::SYS_fcntl64,
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_stat64,
    libc::SYS_lstat64,
    libc::SYS_fstat64,
    libc::SYS_fstatat64,
    libc::SYS_statfs64,
    libc::SYS_fstatfs64,
    libc::SYS_truncate64,
    libc::SYS_ftruncate64,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS__newselect,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_getpgrp,
    libc::SYS_getuid32,
    libc::SYS_geteuid32,
    libc::SYS_getgid32,
    libc::SYS_getegid32,
    libc::SYS_getgroups32,
    libc::SYS_getresuid32,
    libc::SYS_getresgid32,
    libc::SYS_ugetrlimit,
    libc::SYS_sigreturn,
    libc::SYS_sendfile64,
    270, // arm_fadvise64_64
    403, // clock_gettime64
    406, // clock_getres_time64
    407, // clock_nanosleep_time64
    412, // utimensat_time64
    413, // pselect6_time64
    414, // ppoll_time64
    421, // rt_sigtimedwait_time64
    422, // futex_time64
    0x0f_0002,
    0x0f_0005,
];

/// Calls that send signals. Harmless where no other process can be reached.
const SIGNAL_CALLS: &[c_long] = &[libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill];

/// Requests of ioctl(2): TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX.
const IOCTL_REQUESTS: &[u32] = &[0x5401, 0x5413, 0x541b, 0x5421, 0x5450, 0x5451];
/// Operations of prctl(2): PR_SET_NAME, PR_GET_NAME, PR_SET_VMA, PR_GET_NO_NEW_PRIVS,
/// PR_CAPBSET_READ, PR_GET_DUMPABLE.
const PRCTL_OPERATIONS: &[u32] = &[15, 16, 0x5356_4d41, 39, 23, 3];

/// A filter, ready to be installed.
#[derive(Debug, Clone)]
pub struct Filter {
    program: Vec<libc::sock_filter>,
}

impl Filter {
    /// `signals`: signals may be sent, since no other process can be reached.
    pub fn new(signals: bool) -> Self {
        let mut filter = Filter {
            program: Vec::new(),
        };
        // Another architecture's numbers mean other calls.
        filter.load(AT_ARCHITECTURE);
        filter.test(JUMP_EQUAL, ARCHITECTURE, 1, 0);
        filter.ret(libc::SECCOMP_RET_KILL_PROCESS);
        filter.load(AT_NUMBER);
        let calls = [
            CALLS,
            ARCHITECTURE_CALLS,
            if signals { SIGNAL_CALLS } else { &[] },
        ];
        for call in calls.concat() {
            filter.test(JUMP_EQUAL, call as u32, 0, 1);
            filter.ret(libc::SECCOMP_RET_ALLOW);
        }
        // Threads and processes, no namespaces. The flags of clone3 can't be seen
        // from here; without it, clone is used.
        filter.only_if(libc::SYS_clone, 0, libc::EPERM, |filter| {
            filter.test(JUMP_ANY_BIT, NEW_NAMESPACES, 1, 0);
            filter.ret(libc::SECCOMP_RET_ALLOW);
        });
        filter.only_if(libc::SYS_ioctl, 1, libc::ENOTTY, |filter| {
            filter.allow_any_of(IOCTL_REQUESTS)
        });
        filter.only_if(libc::SYS_prctl, 0, libc::EINVAL, |filter| {
            filter.allow_any_of(PRCTL_OPERATIONS)
        });
        // The caller's own limits, by process number 0.
        filter.only_if(libc::SYS_prlimit64, 0, libc::EPERM, |filter| {
            filter.allow_any_of(&[0])
        });
        filter.ret(refuse(libc::ENOSYS));
        filter
    }

    fn push(&mut self, code: u16, k: u32, jt: u8, jf: u8) {
        self.program.push(libc::sock_filter { code, jt, jf, k });
    }

    fn load(&mut self, at: u32) {
        self.push(LOAD_WORD, at, 0, 0);
    }

    /// Skips `then` instructions if the test is true, else `otherwise`.
    fn test(&mut self, code: u16, value: u32, then: u8, otherwise: u8) {
        self.push(code, value, then, otherwise);
    }

    /// Ends the filter with `action`.
    fn ret(&mut self, action: u32) {
        self.push(RETURN, action, 0, 0);
    }

    /// Allows the call if the loaded word is one of `values`.
    fn allow_any_of(&mut self, values: &[u32]) {
        for value in values {
            self.test(JUMP_EQUAL, *value, 0, 1);
            self.ret(libc::SECCOMP_RET_ALLOW);
        }
    }

    /// Allows `call` if `rule` does so for the low half of one of its arguments; otherwise it
    /// fails with `errno`.
    fn only_if(&mut self, call: c_long, argument: u32, errno: i32, rule: impl Fn(&mut Self)) {
        let mut inner = Filter {
            program: Vec::new(),
        };
        inner.load(AT_ARGUMENTS + 8 * argument);
        rule(&mut inner);
        inner.ret(refuse(errno));
        // A rule is a handful of instructions.
        self.test(JUMP_EQUAL, call as u32, 0, inner.program.len() as u8);
        self.program.append(&mut inner.program);
    }

    /// Confines the calling thread and all that it will start, for good. Makes two
    /// system calls and nothing else: fit for a fresh child.
    ///
    /// # Errors
    /// The kernel has no seccomp, or does not let us.
    pub fn install(&self) -> io::Result<()> {
        const SET_MODE_FILTER: libc::c_uint = 1;
        // Older kernels slow a filtered process down by as much as a tenth, against
        // leaks between threads of one process. A compiler has nothing to hide
        // from itself.
        const SPEC_ALLOW: libc::c_uint = 1 << 2;
        let program = libc::sock_fprog {
            len: self.program.len() as u16,
            filter: self.program.as_ptr().cast_mut(),
        };
        // SAFETY: the program outlives the call, and the kernel copies it.
        let installed = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && (libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, SPEC_ALLOW, &program) == 0
                    // Before Linux 4.17 there is no such flag.
                    || libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, 0, &program) == 0)
        };
        match installed {
            true => Ok(()),
            false => Err(io::Error::last_os_error()),
        }
    }
}

/// The action that fails a call with `errno`.
fn refuse(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer (bpf(4), as far as it is used here).
    fn answer(filter: &Filter, architecture: u32, call: c_long, arguments: [u32; 2]) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let step = &filter.program[at];
            at += 1;
            match step.code {
                LOAD_WORD => {
                    loaded = match step.k {
                        AT_NUMBER => call as u32,
                        AT_ARCHITECTURE => architecture,
                        16 => arguments[0],
                        24 => arguments[1],
                        other => panic!("offset {other}"),
                    }
                }
                JUMP_EQUAL if loaded == step.k => at += usize::from(step.jt),
                JUMP_ANY_BIT if loaded & step.k != 0 => at += usize::from(step.jt),
                JUMP_EQUAL | JUMP_ANY_BIT => at += usize::from(step.jf),
                RETURN => return step.k,
                other => panic!("code {other}"),
            }
        }
    }

    #[test]
    fn what_a_compiler_needs_and_no_more() {
        let filter = Filter::new(true);
        let of = |call, arguments| answer(&filter, ARCHITECTURE, call, arguments);
        let allow = libc::SECCOMP_RET_ALLOW;
        assert_eq!(of(libc::SYS_read, [0, 0]), allow);
        assert_eq!(of(libc::SYS_execve, [0, 0]), allow);
        assert_eq!(of(libc::SYS_clone, [libc::SIGCHLD as u32, 0]), allow);
        assert_eq!(of(libc::SYS_ioctl, [2, 0x5401]), allow);
        assert_eq!(of(libc::SYS_prlimit64, [0, 3]), allow);
        assert_eq!(of(libc::SYS_prlimit64, [1, 3]), refuse(libc::EPERM));
        // TIOCSTI, which types into a terminal.
        assert_eq!(of(libc::SYS_ioctl, [0, 0x5412]), refuse(libc::ENOTTY));
        for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET] {
            assert_eq!(of(libc::SYS_clone, [flag as u32, 0]), refuse(libc::EPERM));
        }
        for call in [
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_clone3,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_keyctl,
            libc::SYS_io_uring_setup,
            libc::SYS_memfd_create,
            libc::SYS_symlinkat,
            libc::SYS_linkat,
            libc::SYS_mknodat,
            libc::SYS_setuid,
            libc::SYS_openat2,
            100_000,
        ] {
            assert_eq!(of(call, [0, 0]), refuse(libc::ENOSYS), "{call}");
        }
        let foreign = answer(&filter, 3, libc::SYS_read, [0, 0]);
        assert_eq!(foreign, libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn signals_only_where_nobody_is_in_reach() {
        for (signals, expected) in [
            (true, libc::SECCOMP_RET_ALLOW),
            (false, refuse(libc::ENOSYS)),
        ] {
            let filter = Filter::new(signals);
            for call in SIGNAL_CALLS {
                assert_eq!(answer(&filter, ARCHITECTURE, *call, [0, 0]), expected);
            }
        }
    }
}
