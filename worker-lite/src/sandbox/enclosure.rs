//! A root file system of others, for a process that looks into it with its own compilers:
//! namespaces, that root for reading alone, no capability, no socket. Linux. Unaware of
//! where the root is from.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use nix::libc::{self, c_int, c_ulong};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, chdir, fork, getegid, geteuid};

use crate::sandbox::cgroups::PROCESSES_MAX;
use crate::sandbox::privileges::{self, ResourceLimits};
use crate::sandbox::report::with_context;
use crate::sandbox::roots::{counts_by_namespace, locked_flags};
use crate::sandbox::seccomp::Filter;
use crate::sandbox::totals::Totals;

/// Folder of devices, and the only one in it.
const DEVICES: &str = "dev";
const NULL: &str = "null";
/// Seconds of processor time of each program in there.
const CPU_S_MAX: u64 = 60;

/// Calls `look` in a process that sees `root` and nothing else of this machine, and gives
/// how that ends. The caller has one thread, and ends after this.
///
/// # Errors
/// The kernel says no.
pub fn within(root: &Path, look: impl FnOnce() -> ExitCode) -> io::Result<ExitCode> {
    let (user, group) = (geteuid(), getegid());
    privileges::die_with_parent()?;
    let namespaces = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS;
    // SAFETY: a plain system call.
    check("namespaces", unsafe { libc::unshare(namespaces) })?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    // SAFETY: this process has one thread, so the child may do all it could.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => match waitpid(child, None)? {
            WaitStatus::Exited(_, code) => Ok(ExitCode::from(code as u8)),
            ended => Err(io::Error::other(format!("{ended:?}"))),
        },
        // Process 1 of its namespace: with it ends whatever it has started.
        ForkResult::Child => {
            privileges::die_with_parent()?;
            enter(root)?;
            confine()?;
            Ok(look())
        }
    }
}

/// Makes `root` the root, for reading alone, with one device and nothing beside it.
fn enter(root: &Path) -> io::Result<()> {
    let (devices, null) = (root.join(DEVICES), root.join(DEVICES).join(NULL));
    // As an image has it, or a link to anywhere: no way leads out by it.
    match fs::symlink_metadata(&devices) {
        Ok(found) if found.is_dir() => drop(fs::remove_file(&null)),
        _ => {
            let _ = fs::remove_file(&devices);
            fs::create_dir(&devices).map_err(|error| with_context(DEVICES, error))?;
        }
    }
    File::create_new(&null).map_err(|error| with_context(NULL, error))?;
    let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | locked_flags(root)?;
    mount("/", None, libc::MS_REC | libc::MS_PRIVATE)?;
    mount(root, Some(root), libc::MS_BIND)?;
    mount(&null, Some(Path::new("/dev/null")), libc::MS_BIND)?;
    mount(root, None, libc::MS_REMOUNT | libc::MS_BIND | flags)?;
    chdir(root)?;
    let here = c".".as_ptr();
    // SAFETY: plain system calls on a constant. The old root comes to lie over the new one,
    // and is taken away.
    unsafe {
        check(
            "root",
            libc::syscall(libc::SYS_pivot_root, here, here) as c_int,
        )?;
        check("root", libc::umount2(here, libc::MNT_DETACH))?;
    }
    Ok(chdir("/")?)
}

/// Gives up what a compile has not either.
fn confine() -> io::Result<()> {
    let limits = ResourceLimits {
        memory_bytes_max: u64::MAX,
        file_bytes_max: 0,
        cpu_s_max: CPU_S_MAX,
        nice: 0,
        totals: Totals::new(0, 0, u64::MAX, 0),
    };
    limits.apply(counts_by_namespace().then_some(PROCESSES_MAX))?;
    privileges::drop_capabilities()?;
    Filter::new(true).install()
}

fn mount(target: impl AsRef<Path>, source: Option<&Path>, flags: c_ulong) -> io::Result<()> {
    let target = target.as_ref();
    let c = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let (target_c, source_c) = (c(target)?, source.map(c).transpose()?);
    let source = source_c.as_ref().map_or(std::ptr::null(), |s| s.as_ptr());
    let null = std::ptr::null();
    // SAFETY: a plain system call on memory that outlives it.
    let mounted = unsafe { libc::mount(source, target_c.as_ptr(), null, flags, null.cast()) };
    check(&target.display().to_string(), mounted)
}

/// The outcome of the system call that is for `what`, where 0 is success.
fn check(what: &str, result: c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(with_context(what, io::Error::last_os_error())),
    }
}
