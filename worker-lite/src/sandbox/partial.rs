//! The sandboxes without namespaces: a process group with resource limits, a scrubbed
//! environment, and on Linux no privileges, a seccomp filter, and Landlock where the kernel
//! has it. On Linux the compiler dies with the thread that starts it.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::libc;
use nix::unistd::Pid;

use crate::sandbox::launch::{Launch, Started};
#[cfg(target_os = "linux")]
use crate::sandbox::privileges;
use crate::sandbox::stderr::Stderr;

/// Starts `launch` with its resource limits; with `landlock` only the toolchain's files and
/// the task's own can be reached, on Linux.
///
/// # Errors
/// The compiler can't be run, or the kernel refuses a part of this.
pub fn start(launch: &Launch<'_>, landlock: bool) -> io::Result<Started> {
    let stderr = Stderr::new(launch.terminal)?;
    let mut command = Command::new(launch.driver);
    command
        .args(launch.arguments)
        .current_dir(launch.folder.root().join(launch.directory))
        .env_clear()
        .envs(launch.environment_at(&path_of_task(launch)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr.writer)
        .process_group(0);
    let confinement = prepare(launch, landlock)?;
    let limits = launch.limits;
    // SAFETY: between fork and exec, only system calls are made.
    unsafe {
        command.pre_exec(move || {
            limits.apply(None)?;
            confinement.apply()
        });
    }
    let mut child = command.spawn()?;
    // Holds the compiler's end of its stderr.
    drop(command);
    let pid = Pid::from_raw(child.id() as libc::pid_t);
    if let Some(Err(error)) = launch.cgroup.map(|group| group.add(pid)) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(error);
    }
    Ok(Started {
        pid,
        cgroup: None,
        stdout: child.stdout.take().map(Into::into),
        stderr: Some(stderr.reader),
        on_terminal: stderr.on_terminal,
        #[cfg(target_os = "linux")]
        init: None,
    })
}

/// Path by which the compile reaches the task's folder. A compile of another user finds no
/// way down from the root through folders that are the worker's alone, but it starts below
/// the task's folder.
fn path_of_task(launch: &Launch<'_>) -> PathBuf {
    if launch.user.is_none() {
        return launch.folder.path().to_path_buf();
    }
    let down = Path::new("root").join(launch.directory);
    down.components().map(|_| "..").collect()
}

#[cfg(target_os = "linux")]
fn prepare(launch: &Launch<'_>, landlock: bool) -> io::Result<linux::Confinement> {
    linux::Confinement::new(launch, landlock)
}

#[cfg(not(target_os = "linux"))]
fn prepare(_launch: &Launch<'_>, _landlock: bool) -> io::Result<NoConfinement> {
    Ok(NoConfinement)
}

#[cfg(not(target_os = "linux"))]
struct NoConfinement;

#[cfg(not(target_os = "linux"))]
impl NoConfinement {
    fn apply(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use crate::inputs::layout::{Entry, Layout};
    use crate::sandbox::escape::{self, Targets};
    use crate::sandbox::landlock::{Right, Ruleset};
    use crate::sandbox::seccomp::Filter;

    /// What the child gives up before it becomes the compiler.
    pub struct Confinement {
        parent: u32,
        user: Option<u32>,
        rules: Option<Ruleset>,
        filter: Option<Filter>,
        /// Outlives the child's use of it: the caller waits for the child's end.
        escape: Option<*const Targets>,
    }

    // SAFETY: the pointer is read in the forked child alone, whose memory is a copy.
    unsafe impl Send for Confinement {}
    // SAFETY: as above.
    unsafe impl Sync for Confinement {}

    impl Confinement {
        pub fn new(launch: &Launch<'_>, landlock: bool) -> io::Result<Self> {
            let rules = match landlock {
                true => Some(rules(launch)?),
                false => None,
            };
            let scopes_signals = rules.as_ref().is_some_and(|rules| rules.scopes_signals);
            Ok(Confinement {
                parent: std::process::id(),
                user: launch.user,
                rules,
                filter: landlock.then(|| Filter::new(scopes_signals)),
                escape: launch.escape.map(std::ptr::from_ref),
            })
        }

        pub fn apply(&self) -> io::Result<()> {
            if let Some(user) = self.user {
                privileges::become_user(user)?;
            }
            privileges::drop_capabilities()?;
            // After the last change of user, which would undo it.
            privileges::die_with_parent()?;
            // SAFETY: a plain system call.
            if unsafe { libc::getppid() } as u32 != self.parent {
                // It died before the call above.
                // SAFETY: nobody is left to be told.
                unsafe { libc::_exit(127) };
            }
            if let Some(rules) = &self.rules {
                rules.restrict()?;
            }
            if let Some(filter) = &self.filter {
                filter.install()?;
            }
            if let Some(targets) = self.escape {
                // SAFETY: the targets are in this process's copy of memory.
                let reached = escape::attempt(unsafe { &*targets }).to_ne_bytes();
                // SAFETY: ends the child, which never becomes the compiler.
                unsafe {
                    libc::write(1, reached.as_ptr().cast(), reached.len());
                    libc::_exit(0);
                }
            }
            Ok(())
        }
    }

    fn rules(launch: &Launch<'_>) -> io::Result<Ruleset> {
        let mut rules = Ruleset::new()?;
        for (_, entry) in Layout::of(launch.tools)?.bind_sources() {
            match entry {
                Entry::File(source) | Entry::Subtree(source) => {
                    rules.allow(source, Right::ReadAndRun)?
                }
                Entry::Device(source) => rules.allow(source, Right::Device)?,
                // The last two are of the tree form, which is not for this sandbox.
                Entry::Folder | Entry::Link(_) | Entry::Marker | Entry::OptionalSubtree(_) => {}
            }
        }
        rules.allow(launch.folder.path(), Right::ReadAndWrite)?;
        Ok(rules)
    }
}
