//! The inside of the full sandbox: what process 1 of its namespaces does from its
//! first instruction to its last, and process 2 until it is the compiler. Linux. Process 1
//! is a copy of a worker with several threads: it makes system calls and nothing else.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use nix::libc::{self, c_char, c_int, c_ulong, c_void};

use crate::sandbox::escape::{self, Targets};
use crate::sandbox::privileges::{self, ResourceLimits};
use crate::sandbox::report::{ENDED, FAILED, REPORT_BYTES, Report, Step};
use crate::sandbox::roots::{Mount, Root};

/// Descriptor through which init reports to the worker. The three below are the compiler's.
const REPORT: RawFd = 3;
/// Descriptor through which the worker lets init go on.
const GO: RawFd = 4;
/// Descriptors that init starts with: the compiler's three, and its own two.
pub const INIT_FDS: usize = 5;
/// Descriptors that are closed one by one where the kernel can't close a range.
const FDS_MAX: RawFd = 4096;
/// Host name in the new namespaces.
const HOSTNAME: &[u8] = b"worker";
/// Bytes of the stack of process 2 until it becomes the compiler.
const STACK_BYTES: usize = 16 << 10;

/// Everything that init needs, in the form in which the kernel takes it.
pub struct Plan<'a> {
    /// Root that is built.
    pub root: &'a Root,
    /// Folder that the root is mounted at before init moves into it.
    pub mount_point: CString,
    /// Folder with the mount points of all that is mounted in the root.
    pub skeleton: CString,
    /// Mount flags that the skeleton's file system has, and a remount has to repeat.
    pub skeleton_flags: c_ulong,
    /// What is mounted for this task alone.
    pub task_mounts: Vec<Mount>,
    /// Folder for temporary files, relative to the root, and the options of a tmpfs there,
    /// which is bounded as a whole.
    pub tmp: (CString, CString),
    /// For each of the root's mounts: it is left out, since the task has files of its own
    /// in that place.
    pub omitted: Vec<bool>,
    /// Working directory of the compiler.
    pub directory: CString,
    /// Path of the compiler in the root.
    pub program: CString,
    /// argv of the compiler; ends with a null.
    pub arguments: Vec<*const c_char>,
    /// envp of the compiler; ends with a null.
    pub environment: Vec<*const c_char>,
    /// Resource limits of the compiler.
    pub limits: ResourceLimits,
    /// User as which the compiler runs; `None`: the worker's own.
    pub user: Option<u32>,
    /// Attempts to break out that are made in place of the compiler.
    pub escape: Option<&'a Targets>,
}

/// Process 1: builds the root, starts the compiler, waits, reports, ends.
pub fn run(plan: &Plan<'_>, fds: [RawFd; INIT_FDS]) -> ! {
    let report = match confine(plan, fds) {
        Ok(()) => run_compiler(plan),
        Err(report) => report,
    };
    send(report);
    // SAFETY: ends this process without the worker's own clearing up.
    unsafe { libc::_exit(0) }
}

fn send(report: Report) {
    // SAFETY: a plain system call; a pipe takes so little at once.
    unsafe {
        libc::write(REPORT, (&raw const report).cast(), REPORT_BYTES);
    }
}

fn failed(step: Step) -> Report {
    failed_of(step, &io::Error::last_os_error())
}

fn failed_of(step: Step, error: &io::Error) -> Report {
    Report {
        kind: FAILED,
        value: step as i32,
        errno: error.raw_os_error().unwrap_or(0),
        ..Report::default()
    }
}

/// Makes a failure of `step` of the `result` of a system call, where 0 is success.
fn check(step: Step, result: c_int) -> Result<(), Report> {
    match result {
        0 => Ok(()),
        _ => Err(failed(step)),
    }
}

fn confine(plan: &Plan<'_>, fds: [RawFd; INIT_FDS]) -> Result<(), Report> {
    arrange_descriptors(fds).ok_or_else(|| failed(Step::Descriptors))?;
    reset_signals();
    let limits = plan.limits.apply(plan.root.processes_max);
    limits.map_err(|error| failed_of(Step::Limits, &error))?;
    enter_root(plan)?;
    // SAFETY: plain system calls on memory that outlives them.
    unsafe {
        check(Step::Folder, libc::chdir(plan.directory.as_ptr()))?;
        // Where a service manager forbids it (systemd's ProtectHostname), a compile
        // sees what the machine is called, and no more.
        libc::sethostname(HOSTNAME.as_ptr().cast(), HOSTNAME.len());
    }
    if let Some(user) = plan.user {
        privileges::become_user(user).map_err(|error| failed_of(Step::User, &error))?;
    }
    let dropped = privileges::drop_capabilities();
    dropped.map_err(|error| failed_of(Step::Capabilities, &error))?;
    // After the last change of user, which would undo it.
    privileges::die_with_parent().map_err(|error| failed_of(Step::Parent, &error))?;
    if worker_is_gone() {
        // SAFETY: nobody is left to read a report.
        unsafe { libc::_exit(127) }
    }
    // SAFETY: a plain system call. This memory is a copy of the worker's: nobody is
    // to look into it. A program that is started here gets memory of its own.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0 as c_ulong, 0, 0, 0) };
    let filtered = plan.root.filter.install();
    filtered.map_err(|error| failed_of(Step::Filter, &error))
}

/// Moves `fds` to the numbers that init and the compiler know them by, closes all other
/// descriptors (pipes of other compiles would stay open here), and waits until the worker
/// has mapped the user.
fn arrange_descriptors(fds: [RawFd; INIT_FDS]) -> Option<()> {
    // SAFETY: plain system calls on numbers; `byte` is ours.
    unsafe {
        libc::setpgid(0, 0);
        let mut high = [0; INIT_FDS];
        for (place, fd) in high.iter_mut().zip(fds) {
            // Out of the way of those that are about to be taken.
            *place = libc::fcntl(fd, libc::F_DUPFD, 16);
            if *place < 0 {
                return None;
            }
        }
        for (at, fd) in (0..).zip(high) {
            if libc::dup2(fd, at) < 0 {
                return None;
            }
        }
        // The compiler has neither: they close as it starts.
        libc::fcntl(REPORT, libc::F_SETFD, libc::FD_CLOEXEC);
        libc::fcntl(GO, libc::F_SETFD, libc::FD_CLOEXEC);
        let first = INIT_FDS as c_int;
        if libc::syscall(libc::SYS_close_range, first, c_int::MAX, 0) != 0 {
            for fd in first..FDS_MAX {
                libc::close(fd);
            }
        }
        let mut byte = 0u8;
        (libc::read(GO, (&raw mut byte).cast(), 1) == 1).then_some(())
    }
}

/// Resets signal handlers and the signal mask, which are copies of the worker's.
fn reset_signals() {
    // SAFETY: all zeros is the default action and the empty set.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        for signal in 1..=64 {
            // Some can't be changed.
            libc::sigaction(signal, &default, std::ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Builds the root, moves into it and unmounts the old one.
fn enter_root(plan: &Plan<'_>) -> Result<(), Report> {
    let null = std::ptr::null();
    let mount_point = plan.mount_point.as_ptr();
    let here = c".".as_ptr();
    let again = libc::MS_REMOUNT | libc::MS_BIND;
    // SAFETY: plain system calls on memory that outlives them.
    unsafe {
        let private = libc::MS_REC | libc::MS_PRIVATE;
        check(
            Step::Mounts,
            libc::mount(null, c"/".as_ptr(), null, private, null.cast()),
        )?;
        let skeleton = plan.skeleton.as_ptr();
        check(
            Step::Root,
            libc::mount(skeleton, mount_point, null, libc::MS_BIND, null.cast()),
        )?;
        check(Step::Root, libc::chdir(mount_point))?;
        // Outer folders first; the toolchain's files may lie in one of the task's.
        for mount in &plan.task_mounts {
            bind(mount).map_err(|()| failed(Step::Task))?;
        }
        // A kernel that does not let us leaves the folder that is there, which is
        // looked at as the outputs' are.
        let (tmp, options) = (plan.tmp.0.as_ptr(), plan.tmp.1.as_ptr());
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        libc::mount(
            c"tmpfs".as_ptr(),
            tmp,
            c"tmpfs".as_ptr(),
            flags,
            options.cast(),
        );
        let mounts = plan.root.mounts.iter().zip(&plan.omitted);
        for (at, (mount, _)) in mounts.enumerate().filter(|(_, (_, without))| !**without) {
            bind(mount).map_err(|()| Report {
                mount: at as i32,
                ..failed(Step::File)
            })?;
        }
        // In the tree form the root is made of the task's files: what runs is mounted.
        let ours = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let flags = again | plan.skeleton_flags | ours;
        check(
            Step::Root,
            libc::mount(null, here, null, flags, null.cast()),
        )?;
        // The old root comes to lie over the new one, and is taken away.
        let pivoted = libc::syscall(libc::SYS_pivot_root, here, here);
        check(Step::Pivot, pivoted as c_int)?;
        check(Step::Pivot, libc::umount2(here, libc::MNT_DETACH))
    }
}

/// Mounts `mount` below the working directory; if it fails, errno says why.
fn bind(mount: &Mount) -> Result<(), ()> {
    let null = std::ptr::null();
    let (source, target) = (mount.source.as_ptr(), mount.target.as_ptr());
    let flags = libc::MS_REMOUNT | libc::MS_BIND | mount.flags;
    // SAFETY: plain system calls on memory that outlives them.
    let bound = unsafe {
        libc::mount(source, target, null, mount.bind, null.cast()) == 0
            && libc::mount(null, target, null, flags, null.cast()) == 0
    };
    bound.then_some(()).ok_or(())
}

/// Whether the report has no reader any more: the worker ended before init asked to end
/// with it.
fn worker_is_gone() -> bool {
    let mut report = libc::pollfd {
        fd: REPORT,
        events: 0,
        revents: 0,
    };
    // SAFETY: one descriptor is asked about, and no time is waited.
    unsafe { libc::poll(&mut report, 1, 0) > 0 && report.revents & libc::POLLERR != 0 }
}

/// A stack, aligned as the architectures want it.
#[repr(align(16))]
struct Stack([MaybeUninit<u8>; STACK_BYTES]);

/// Starts the compiler and waits for its end.
fn run_compiler(plan: &Plan<'_>) -> Report {
    let mut stack = Stack([MaybeUninit::uninit(); STACK_BYTES]);
    // SAFETY: init stands still until the child, which has a stack of its own, ended or
    // has memory of its own; what it writes before is nothing that init reads later.
    let pid = unsafe {
        libc::clone(
            become_compiler,
            stack.0.as_mut_ptr_range().end.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw const *plan).cast_mut().cast(),
        )
    };
    if pid < 0 {
        return failed(Step::Fork);
    }
    // SAFETY: plain system calls; the places are ours for the calls.
    unsafe {
        // A pipe is at its end when those who compile are.
        for fd in 0..REPORT {
            libc::close(fd);
        }
        loop {
            let mut status = 0;
            let mut usage: libc::rusage = std::mem::zeroed();
            let reaped = libc::wait4(-1, &mut status, 0, &mut usage);
            if reaped == pid {
                return ended(status, &usage);
            }
            if reaped < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return failed(Step::Fork);
            }
        }
    }
}

fn ended(status: c_int, usage: &libc::rusage) -> Report {
    // The fields' widths differ between systems.
    #[allow(clippy::unnecessary_cast)]
    let us = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    Report {
        kind: ENDED,
        value: status,
        user_us: us(usage.ru_utime),
        system_us: us(usage.ru_stime),
        #[allow(clippy::unnecessary_cast)]
        peak_bytes: usage.ru_maxrss as u64 * 1024,
        ..Report::default()
    }
}

/// Process 2: becomes the compiler, or makes the attempts to break out in its place.
extern "C" fn become_compiler(plan: *mut c_void) -> c_int {
    // SAFETY: `run_compiler` gives its plan. Plain system calls; the arrays end with a null
    // each.
    unsafe {
        let plan = &*plan.cast::<Plan<'_>>();
        if let Some(targets) = plan.escape {
            let reached = escape::attempt(targets).to_ne_bytes();
            libc::write(1, reached.as_ptr().cast(), reached.len());
            libc::_exit(0);
        }
        libc::execve(
            plan.program.as_ptr(),
            plan.arguments.as_ptr(),
            plan.environment.as_ptr(),
        );
        send(failed(Step::Exec));
        libc::_exit(127)
    }
}
