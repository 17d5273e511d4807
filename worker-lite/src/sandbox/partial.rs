//! Where a compile can't have namespaces: a process group with limits, a scrubbed
//! environment, and on Linux no privileges, a filter of system calls, and Landlock
//! where the kernel has it. Dies with the thread that starts it, on Linux.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::libc;
use nix::unistd::Pid;

use crate::sandbox::ear::Ear;
use crate::sandbox::launch::{Launch, Started};
use crate::sandbox::privileges;

/// Starts `launch` below the limits of its user; `strict`: and, on Linux, with only
/// the toolchain's files in reach and the task's own.
///
/// # Errors
/// The compiler can't be run, or the kernel refuses a part of this.
pub fn start(launch: &Launch<'_>, strict: bool) -> io::Result<Started> {
    let ear = Ear::new(launch.terminal)?;
    let mut command = Command::new(launch.driver);
    command
        .args(launch.arguments)
        .current_dir(launch.folder.root().join(launch.directory))
        .env_clear()
        .envs(launch.environment_at(&home(launch)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(ear.theirs)
        .process_group(0);
    let prepared = prepare(launch, strict)?;
    let confines = launch.confines;
    // SAFETY: between fork and exec, only system calls are made.
    unsafe {
        command.pre_exec(move || {
            confines.apply(None)?;
            prepared.apply()
        });
    }
    let mut child = command.spawn()?;
    // Holds the compiler's end of its stderr.
    drop(command);
    let pid = Pid::from_raw(child.id() as libc::pid_t);
    if let Some(Err(error)) = launch.group.map(|group| group.add(pid)) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(error);
    }
    Ok(Started {
        pid,
        group: None,
        stdout: child.stdout.take().map(Into::into),
        stderr: Some(ear.ours),
        on_terminal: ear.on_terminal,
        #[cfg(target_os = "linux")]
        init: None,
    })
}

/// The task's folder as the compile gets there. One that runs as another user finds
/// no way down from the root through what is ours alone, but it starts below the
/// folder.
fn home(launch: &Launch<'_>) -> PathBuf {
    if launch.user.is_none() {
        return launch.folder.path().to_path_buf();
    }
    let down = Path::new("root").join(launch.directory);
    down.components().map(|_| "..").collect()
}

#[cfg(target_os = "linux")]
fn prepare(launch: &Launch<'_>, strict: bool) -> io::Result<linux::Prepared> {
    linux::Prepared::new(launch, strict)
}

#[cfg(not(target_os = "linux"))]
fn prepare(_launch: &Launch<'_>, _strict: bool) -> io::Result<Nothing> {
    Ok(Nothing)
}

#[cfg(not(target_os = "linux"))]
struct Nothing;

#[cfg(not(target_os = "linux"))]
impl Nothing {
    fn apply(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use crate::inputs::layout::{Entry, Layout};
    use crate::sandbox::escape::{self, Targets};
    use crate::sandbox::landlock::{Right, Rules};
    use crate::sandbox::seccomp::Filter;

    /// What the child applies to itself before it becomes the compiler.
    pub struct Prepared {
        parent: u32,
        user: Option<u32>,
        rules: Option<Rules>,
        filter: Option<Filter>,
        /// Outlives the child's use of it: the caller waits for the child's end.
        escape: Option<*const Targets>,
    }

    // SAFETY: the pointer is read in the forked child alone, whose memory is a copy.
    unsafe impl Send for Prepared {}
    // SAFETY: as above.
    unsafe impl Sync for Prepared {}

    impl Prepared {
        pub fn new(launch: &Launch<'_>, strict: bool) -> io::Result<Self> {
            let rules = match strict {
                true => Some(rules(launch)?),
                false => None,
            };
            let signals_stay = rules.as_ref().is_some_and(|rules| rules.signals_stay);
            Ok(Prepared {
                parent: std::process::id(),
                user: launch.user,
                rules,
                filter: strict.then(|| Filter::new(signals_stay)),
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
                // SAFETY: nobody is left to hear of it.
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
                // SAFETY: ends the child in the compiler's stead.
                unsafe {
                    libc::write(1, reached.as_ptr().cast(), reached.len());
                    libc::_exit(0);
                }
            }
            Ok(())
        }
    }

    fn rules(launch: &Launch<'_>) -> io::Result<Rules> {
        let mut rules = Rules::new()?;
        for (_, entry) in Layout::of(launch.tools)?.sources() {
            match entry {
                Entry::File(source) | Entry::Tree(source) => rules.allow(source, Right::Use)?,
                Entry::Device(source) => rules.allow(source, Right::Device)?,
                // The last two are of the tree form, which is not for this sandbox.
                Entry::Folder | Entry::Link(_) | Entry::Mark | Entry::Spare(_) => {}
            }
        }
        rules.allow(launch.folder.path(), Right::Change)?;
        Ok(rules)
    }
}
